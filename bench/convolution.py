"""Compares learning steps of convolutional nets with PyTorch's eager mode: one process, one thread, alternately; medians of the rounds.

    python bench/convolution.py [--rounds 21] [--no-peak] [1989 maps kann]

1989: LeCun et al. 1989, 256 - 12 @ 8x8 - 12 @ 4x4 - 30 - 10 with 9,760 parameters (training/lecun.py says more; here there is 0 outside
of maps), mse, SGD, a row at a time. maps: 28x28 pixels, 8 and 16 maps of 5x5, each with relu and a pool of 2x2, 60 and 10 units, Adam, 64
rows. kann: mnist-cnn of KANN (https://github.com/attractivechaos/kann), two times 32 maps of 3x3, pool, 128 and 10 units, dropout of 0.2,
Adam, 64 rows.
The operations are those of the products, forward and backward; of peak: their share of what peaks.c does in registers (needs a C compiler).
A step of both is compared before anything is timed, without dropout.
"""

from __future__ import annotations

import argparse
import itertools
import math
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any, NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MICROBP_NUM_THREADS", "1")

import numpy as np

import microbp as bp
from kernels import machine, peaks

TURN = 0.05  # seconds
Step = Callable[[], Any]


class Work(NamedTuple):
    """A net, its module of PyTorch, what they learn, and the images and targets of a batch."""

    net: bp.Network
    module: Any
    loss: Any
    optimizer: Any
    x: np.ndarray
    y: np.ndarray


def of_1989(torch: Any, dropout: bool) -> Work:
    del dropout  # it has none
    nn = torch.nn
    settings: dict[str, Any] = {"size": 5, "stride": 2, "pad": 2, "bias": False}

    def placed(node: bp.Node) -> bp.Node:
        """Adds a bias for each place, and applies the activation."""
        return bp.Activation("scaled_tanh")(bp.Scale(gain=False)(bp.Flatten()(node)))

    x = bp.Grid(16, 16)
    h = bp.Unflatten(8, 8)(placed(bp.Conv(12, **settings)(x)))
    seen = h[:, :8], h[:, 4:], bp.concat([h[:, :4], h[:, 8:]])
    h = placed(bp.concat([bp.Conv(4, **settings)(node) for node in seen]))
    net = bp.Network(x, bp.Dense(10, "scaled_tanh")(bp.Dense(30, "scaled_tanh")(h)), seed=0)

    class Module(nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Conv2d(1, 12, 5, 2, 2, bias=False)
            self.second = nn.ModuleList([nn.Conv2d(8, 4, 5, 2, 2, bias=False) for _ in range(3)])
            self.last = nn.ModuleList([nn.Linear(192, 30), nn.Linear(30, 10)])
            self.biases = nn.ParameterList([nn.Parameter(torch.zeros(12, size, size)) for size in (8, 4)])

        def forward(self, pixels: Any) -> Any:
            h = squash(self.first(pixels) + self.biases[0])
            seen = h[:, :8], h[:, 4:], torch.cat([h[:, :4], h[:, 8:]], 1)
            h = torch.cat([conv(one) for conv, one in zip(self.second, seen, strict=True)], 1)
            h = squash(h + self.biases[1]).permute(0, 2, 3, 1).flatten(1)
            return squash(self.last[1](squash(self.last[0](h))))

    def squash(z: Any) -> Any:
        return 1.7159 * torch.tanh(z * (2 / 3))

    y = np.where(np.arange(10) == 3, 1, -1).astype(np.float32)[None]
    return Work(net, Module(), "mse", bp.SGD(lr=0.01), images(1, 16), y)


class Places:
    """Flattens the maps of PyTorch position by position, as microbp does."""

    def __call__(self, h: Any) -> Any:
        return h.permute(0, 2, 3, 1).flatten(1)


def digits(torch: Any, layers: list[Any], modules: list[Any]) -> Work:
    """Layers over 28x28 pixels. modules: PyTorch's, and a Places between convolutions and linear layers."""

    class Module(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.parts = torch.nn.ModuleList([one for one in modules if not isinstance(one, Places)])

        def forward(self, h: Any) -> Any:
            for one in modules:
                h = one(h)
            return h

    x = h = bp.Grid(28, 28)
    for layer in layers:
        h = layer(h)
    labels = np.random.default_rng(1).integers(0, 10, 64)
    return Work(bp.Network(x, h, seed=0), Module(), "cross_entropy", bp.Adam(lr=0.001), images(64, 28), labels)


def of_maps(torch: Any, dropout: bool) -> Work:
    del dropout  # it has none
    nn = torch.nn
    layers = [bp.Conv(8, 5, activation="relu"), bp.Pool(2), bp.Conv(16, 5, activation="relu"), bp.Pool(2), bp.Flatten()]
    modules = [nn.Conv2d(1, 8, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 16, 5), nn.ReLU(), nn.MaxPool2d(2), Places()]
    return digits(torch, [*layers, bp.Dense(60, "relu"), bp.Dense(10)], [*modules, nn.Linear(256, 60), nn.ReLU(), nn.Linear(60, 10)])


def of_kann(torch: Any, dropout: bool) -> Work:
    nn, rate = torch.nn, 0.2 * dropout
    layers = [bp.Conv(32, 3, activation="relu"), bp.Conv(32, 3, activation="relu"), bp.Pool(2), bp.Dropout(rate), bp.Flatten()]
    modules = [nn.Conv2d(1, 32, 3), nn.ReLU(), nn.Conv2d(32, 32, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(rate), Places()]
    return digits(
        torch,
        [*layers, bp.Dense(128, "relu"), bp.Dropout(rate), bp.Dense(10)],
        [*modules, nn.Linear(4608, 128), nn.ReLU(), nn.Dropout(rate), nn.Linear(128, 10)],
    )


WORKS = {"1989": of_1989, "maps": of_maps, "kann": of_kann}


def images(rows: int, size: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(rows, size, size, 1)).astype(np.float32)


def parameters(work: Work) -> list[tuple[np.ndarray, Any]]:
    """The arrays of our parameters in the form of PyTorch's, and those."""
    pairs, ours = [], dict(work.net.tensors)
    modules = [[m for m in work.module.modules() if type(m).__name__ == kind] for kind in ("Conv2d", "Linear")]
    for i, module in enumerate(itertools.chain(*modules)):
        weight, bias = ours[f"dense_{i}.weight"], ours.get(f"dense_{i}.bias")
        shape = tuple(module.weight.shape)
        if len(shape) == 4:
            weight = weight.reshape(shape[0], shape[2], shape[3], shape[1]).transpose(0, 3, 1, 2)
        pairs += [(weight, module.weight)] + ([(bias, module.bias)] if bias is not None else [])
    for i, place in enumerate(getattr(work.module, "biases", [])):
        pairs.append((ours[f"scale_{i}.bias"].reshape(*place.shape[1:], place.shape[0]).transpose(2, 0, 1), place))
    return pairs


def steps(torch: Any, work: Work) -> tuple[Step, Step]:
    """A learning step of microbp, and of PyTorch, from the same parameters."""
    F = torch.nn.functional  # noqa: N806
    for ours, their in parameters(work):
        their.data = torch.tensor(np.ascontiguousarray(ours))
    t = bp.Trainer(work.net, work.loss, work.optimizer)
    kind = torch.optim.SGD if isinstance(work.optimizer, bp.SGD) else torch.optim.Adam
    optimizer = kind(work.module.parameters(), lr=work.optimizer.lr)
    x, y = torch.tensor(work.x.transpose(0, 3, 1, 2).copy()), torch.tensor(work.y)
    loss = F.mse_loss if work.loss == "mse" else F.cross_entropy

    def theirs() -> None:
        optimizer.zero_grad()
        loss(work.module(x), y).backward()
        optimizer.step()

    return lambda: t.step(work.x, work.y), theirs


def check(torch: Any, name: str) -> None:
    """Gradients of both are equal."""
    work = WORKS[name](torch, False)
    _, theirs = steps(torch, work)
    t = bp.Trainer(work.net, work.loss, work.optimizer)
    t.backward(work.x, work.y)
    work.net.params[:] = t.grads  # so that they have the shapes of the parameters
    theirs()
    for ours, their in parameters(work):
        np.testing.assert_allclose(ours, their.grad, rtol=2e-4, atol=1e-5, err_msg=name)


def operations(net: bp.Network, rows: int) -> float:
    """Of the products of a step: forward and for two gradients, but for the first layer, which needs none of its input."""
    dense = [node for node in net.nodes if node.operation == "dense"]
    each = [math.prod(node.row_shape) * net.nodes[node.operands[0]].width for node in dense]
    return 2.0 * rows * (3 * sum(each) - each[0])


def seconds(step: Step) -> float:
    """The time of one call, from a turn."""
    start, calls = time.perf_counter(), 0
    while (now := time.perf_counter()) - start < TURN:
        step()
        calls += 1
    return (now - start) / calls


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("nets", nargs="*", default=list(WORKS), metavar="net", help=f"of {', '.join(WORKS)} (default: all)")
    parser.add_argument("--rounds", type=int, default=21, help="turns of each (default: 21)")
    parser.add_argument("--no-peak", action="store_true", help="without the share of the peak")
    given = parser.parse_args()
    try:
        import torch
    except ImportError:
        sys.exit("convolution.py needs PyTorch: python -m pip install torch")
    torch.set_num_threads(1)
    print(machine.describe(f"torch {torch.__version__}"))
    print("| net | parameters | rows | torch | microbp | ratio | operations/s | of peak |")
    print("|---" * 8 + "|")
    for name in given.nets:
        check(torch, name)
        work = WORKS[name](torch, True)
        work.net.n_threads = 1
        pair = steps(torch, work)
        times = [[seconds(step) for step in pair] for _ in range(given.rounds)]
        ours, theirs = (statistics.median(turn) for turn in zip(*times, strict=True))
        ratios = sorted(b / a for a, b in times)
        speed, share = operations(work.net, len(work.x)) / ours, ""
        if not given.no_peak:
            with tempfile.TemporaryDirectory() as folder:
                share = f"{speed / peaks.measure(peaks.build(folder), len(work.net.params), 1).flops:.0%}"
        print(
            f"| {name} | {len(work.net.params):,} | {len(work.x)} | {theirs * 1e6:,.0f} µs | {ours * 1e6:,.1f} µs "
            f"| {statistics.median(ratios):.1f} ({ratios[0]:.1f} to {ratios[-1]:.1f}) | {speed / 1e9:.0f} G | {share} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
