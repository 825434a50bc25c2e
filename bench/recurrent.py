"""Compares learning steps of recurrent nets with PyTorch's eager mode: one process, one thread, alternately; medians of the rounds.

    python bench/recurrent.py [--rounds 21] [tanh gru lstm]

Characters: 65 columns at each of 50 positions, 128 units, 65 outputs at each position with cross-entropy, Adam, 50 rows. The gradients of
both are compared before anything is timed.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
from typing import Any, NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MICROBP_NUM_THREADS", "1")

import numpy as np
from convolution import Step, seconds

import microbp as bp
from kernels import machine

CELLS = "tanh", "gru", "lstm"
ROWS, LENGTH, CHARACTERS, UNITS = 50, 50, 65, 128


class Work(NamedTuple):
    """A trainer, its module of PyTorch, and the characters of a batch: one at each position, and the next."""

    trainer: bp.Trainer
    module: Any
    x: np.ndarray
    labels: np.ndarray


def work(torch: Any, cell: Any) -> Work:
    """Both with the same parameters."""
    ids = np.random.default_rng(0).integers(0, CHARACTERS, (ROWS, LENGTH + 1))
    x = bp.Sequence(LENGTH, CHARACTERS)
    net = bp.Network(x, bp.Dense(CHARACTERS)(bp.Recurrent(UNITS, cell=cell)(x)), seed=0, n_threads=1)

    class Module(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.cell = {"tanh": torch.nn.RNN, "gru": torch.nn.GRU, "lstm": torch.nn.LSTM}[cell](CHARACTERS, UNITS, batch_first=True)
            self.last = torch.nn.Linear(UNITS, CHARACTERS)

        def forward(self, characters: Any) -> Any:
            return self.last(self.cell(characters)[0])

    module, ours = Module(), {name: torch.tensor(array.copy()) for name, array in net.tensors.items()}
    weight = ours["recurrent_0.weight"]
    with torch.no_grad():
        module.cell.weight_ih_l0.copy_(weight[:, :CHARACTERS])
        module.cell.weight_hh_l0.copy_(weight[:, CHARACTERS:])
        module.cell.bias_ih_l0.copy_(ours["recurrent_0.bias"][: len(weight)])
        module.cell.bias_hh_l0.zero_()
        module.last.weight.copy_(ours["dense_0.weight"])
        module.last.bias.copy_(ours["dense_0.bias"])
    return Work(bp.Trainer(net, "cross_entropy", bp.Adam()), module, np.eye(CHARACTERS, dtype=np.float32)[ids[:, :-1]], ids[:, 1:])


def steps(torch: Any, of: Work) -> tuple[Step, Step]:
    """A learning step of microbp, and of PyTorch."""
    optimizer = torch.optim.Adam(of.module.parameters(), lr=of.trainer.lr)
    x, labels = torch.tensor(of.x), torch.tensor(of.labels.ravel())

    def theirs() -> None:
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(of.module(x).reshape(-1, CHARACTERS), labels).backward()
        optimizer.step()

    return lambda: of.trainer.step(of.x, of.labels), theirs


def check(torch: Any, cell: str) -> None:
    """Gradients of both are equal."""
    of = work(torch, cell)
    _, theirs = steps(torch, of)
    of.trainer.backward(of.x, of.labels)
    of.trainer.net.params[:] = of.trainer.grads  # so that they have the shapes of the parameters
    theirs()
    found, module = of.trainer.net.tensors, of.module
    recurrent = torch.cat([module.cell.weight_ih_l0.grad, module.cell.weight_hh_l0.grad], 1)
    for name, gradient in (("recurrent_0.weight", recurrent), ("dense_0.weight", module.last.weight.grad)):
        np.testing.assert_allclose(found[name], gradient, rtol=2e-4, atol=1e-6, err_msg=f"{cell}: {name}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cells", nargs="*", default=CELLS, metavar="cell", help=f"of {', '.join(CELLS)} (default: all)")
    parser.add_argument("--rounds", type=int, default=21, help="turns of each (default: 21)")
    given = parser.parse_args()
    try:
        import torch
    except ImportError:
        sys.exit("recurrent.py needs PyTorch: python -m pip install torch")
    torch.set_num_threads(1)
    print(machine.describe(f"torch {torch.__version__}"))
    print("| cell | parameters | torch, a character | microbp, a character | ratio |")
    print("|---" * 5 + "|")
    for cell in given.cells:
        check(torch, cell)
        of = work(torch, cell)
        pair = steps(torch, of)
        times = [[seconds(step) for step in pair] for _ in range(given.rounds)]
        ours, theirs = (1e6 * statistics.median(turn) / (ROWS * LENGTH) for turn in zip(*times, strict=True))
        ratios = sorted(b / a for a, b in times)
        print(
            f"| {cell} | {len(of.trainer.net.params):,} | {theirs:.2f} µs | {ours:.2f} µs "
            f"| {statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f}) |",
            flush=True,
        )


if __name__ == "__main__":
    main()
