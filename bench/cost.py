"""What a training step of microbp costs against batch, width and depth: microseconds, and GFLOP/s.

    python bench/cost.py [--picture FILE] [--cpu 0]

Chains of equal layers with relu, Adam, mean squared error, float32, one thread on one pinned CPU. One size varies, the others stay. A point
is the median of several rounds. The operations counted are those of the products alone: 2 per multiply-add, three products per layer, two
for the first; so GFLOP/s say how much of the time is products, and fall where other work (the call, Adam, memory) weighs more.
"""

from __future__ import annotations

import argparse
import inspect
import os
import statistics
import time
from pathlib import Path
from typing import Any, NamedTuple

import machine
import numpy as np

import microbp as bp

BATCHES = [2**k for k in range(13)]
WIDTHS = [2**k for k in range(3, 13)]
DEPTHS = [2**k for k in range(7)]
ROUNDS, ROUND_SECONDS = 5, 0.05


class Size(NamedTuple):
    """A chain of `depth` layers of `width` inputs and outputs, and the rows of a step."""

    batch: int
    width: int
    depth: int

    @property
    def flops(self) -> float:
        return 2.0 * self.batch * self.width**2 * (3 * self.depth - 1)


class Sweep(NamedTuple):
    """Sizes of which one grows."""

    name: str
    fixed: str
    values: list[int]
    sizes: list[Size]


SWEEPS = [
    Sweep("batch", "width 256, depth 3", BATCHES, [Size(batch, 256, 3) for batch in BATCHES]),
    Sweep("width", "batch 64, depth 3", WIDTHS, [Size(64, width, 3) for width in WIDTHS]),
    Sweep("depth", "batch 64, width 64", DEPTHS, [Size(64, 64, depth) for depth in DEPTHS]),
]


def seconds_per_step(size: Size) -> float:
    """The median over the rounds."""
    one_thread: dict[str, Any] = {"n_threads": 1} if "n_threads" in inspect.signature(bp.mlp).parameters else {}
    trainer = bp.Trainer(bp.mlp([size.width] * (size.depth + 1), seed=0, **one_thread), "mse", bp.Adam(lr=1e-3))
    draw = np.random.default_rng(0)
    x, y = (draw.standard_normal((size.batch, size.width), np.float32) for _ in range(2))
    trainer.step(x, y)  # makes the workspace
    count, times = 1, []
    for _ in range(ROUNDS + 1):  # the first one finds out how many steps a round needs
        start = time.perf_counter()
        for _ in range(count):
            trainer.step(x, y)
        times.append((time.perf_counter() - start) / count)
        count = max(1, round(ROUND_SECONDS / times[-1]))
    return statistics.median(times[1:])


def draw_picture(results: list[list[float]], path: Path) -> None:
    """A panel per sweep: microseconds on the left axis, GFLOP/s on the right."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 3.8), layout="constrained")
    for sweep, seconds, axes in zip(SWEEPS, results, figure.subplots(1, 3), strict=True):
        speed = axes.twinx()
        rates = [size.flops / second / 1e9 for size, second in zip(sweep.sizes, seconds, strict=True)]
        axes.loglog(sweep.values, [1e6 * second for second in seconds], "o-", color="#c8102e", base=10)
        speed.loglog(sweep.values, rates, "s--", color="#4d77cf", base=10)
        axes.set_xscale("log", base=2)
        axes.set_title(f"{sweep.name} ({sweep.fixed})", fontsize=11)
        axes.set_xlabel(sweep.name)
        axes.set_ylabel("microseconds per step", color="#c8102e")
        speed.set_ylabel("GFLOP/s", color="#4d77cf")
        axes.grid(color="#e4e4e4")
    figure.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--picture", type=Path, metavar="FILE", help="draw the figures there (needs matplotlib)")
    parser.add_argument("--cpu", type=int, default=0, help="(default: %(default)s)")
    options = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {options.cpu})
    print(machine.describe())
    results: list[list[float]] = []
    for sweep in SWEEPS:
        print(f"\n{sweep.fixed}\n{sweep.name:>8}{'microseconds':>14}{'GFLOP/s':>10}")
        results.append([])
        for value, size in zip(sweep.values, sweep.sizes, strict=True):
            seconds = seconds_per_step(size)
            results[-1].append(seconds)
            print(f"{value:>8}{1e6 * seconds:>14.4g}{size.flops / seconds / 1e9:>10.3g}", flush=True)
    if options.picture:
        draw_picture(results, options.picture)


if __name__ == "__main__":
    main()
