"""One training step of a small net from Python: microbp against torch eager, alternating on one CPU in one run.

    python bench/versus_torch.py [--rounds N]

8-64-64-1, tanh, mean squared error, Adam, 32 rows, which are ready as NumPy arrays for microbp and as tensors for torch. A step is
zero_grad, forward, loss, backward, update, and the loss as a float. Each round times both, one right after the other, so that whatever
slows the machine slows both. Reported: the medians over the rounds, and the ratio's median with the interval that holds the middle 95 % of
the rounds.
"""

from __future__ import annotations

import argparse
import itertools
import os
import sys
import time
from collections.abc import Callable

import machine
import numpy as np

import microbp as bp

try:
    import torch
except ImportError:
    sys.exit("torch is not installed: python -m pip install torch")

WIDTHS, ROWS, LR = (8, 64, 64, 1), 32, 1e-3
ROUND_SECONDS = 0.1  # for each of the two: long against the clock and the scheduler


def microbp_step(x: np.ndarray, y: np.ndarray) -> Callable[[], float]:
    """A step of microbp on these rows."""
    trainer = bp.Trainer(bp.mlp(WIDTHS, "tanh", seed=0), "mse", bp.Adam(lr=LR))
    return lambda: trainer.step(x, y)


def torch_step(x: np.ndarray, y: np.ndarray) -> Callable[[], float]:
    """The same step as torch's users write it."""
    layers = [layer for i, o in itertools.pairwise(WIDTHS[:-1]) for layer in (torch.nn.Linear(i, o), torch.nn.Tanh())]
    net = torch.nn.Sequential(*layers, torch.nn.Linear(*WIDTHS[-2:]))
    optimizer, loss_of = torch.optim.Adam(net.parameters(), lr=LR), torch.nn.MSELoss()
    inputs, targets = torch.from_numpy(x), torch.from_numpy(y)

    def step() -> float:
        optimizer.zero_grad()
        loss = loss_of(net(inputs), targets)
        loss.backward()
        optimizer.step()
        return float(loss.item())

    return step


def seconds_per_step(step: Callable[[], float], count: int) -> float:
    begin = time.perf_counter()
    for _ in range(count):
        step()
    return (time.perf_counter() - begin) / count


def pin() -> None:
    """One CPU and one thread for both."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    torch.set_num_threads(1)


def measure(rounds: int) -> tuple[np.ndarray, np.ndarray]:
    """Seconds per step in each round, of microbp and of torch."""
    draw = np.random.default_rng(0)
    x, y = draw.standard_normal((ROWS, WIDTHS[0]), np.float32), draw.standard_normal((ROWS, 1), np.float32)
    steps = [microbp_step(x, y), torch_step(x, y)]
    counts = [max(1, round(ROUND_SECONDS / seconds_per_step(step, 200))) for step in steps]
    times = [[seconds_per_step(step, count) for step, count in zip(steps, counts, strict=True)] for _ in range(rounds)]
    return np.array(times).T[0], np.array(times).T[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=31, help="at least 21 (default: %(default)s)")
    rounds = parser.parse_args().rounds
    if rounds < 21:
        parser.error("--rounds must be at least 21 for the interval to mean something")
    pin()
    ours, theirs = measure(rounds)
    low, middle, high = np.percentile(theirs / ours, [2.5, 50, 97.5])
    print(machine.describe(f"torch {torch.__version__}"))
    print(f"one step of {'-'.join(map(str, WIDTHS))}, {ROWS} rows, Adam, mse; {rounds} rounds on one CPU")
    print(f"microbp      {1e6 * np.median(ours):8.2f} microseconds")
    print(f"torch eager  {1e6 * np.median(theirs):8.2f} microseconds")
    print(f"ratio        {middle:8.1f}   ({low:.1f} to {high:.1f})")


if __name__ == "__main__":
    main()
