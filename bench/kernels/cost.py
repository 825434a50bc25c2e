"""The time of a training step of microbp by batch, width and depth: microseconds, and GFLOP/s.

    python bench/kernels/cost.py [--picture FILE] [--cpu 0]

Chains of equal layers with relu, Adam, mean squared error, float32, one thread on one pinned CPU. One size varies, the others are fixed. A
point is the median of several rounds. Only the operations of the products count: 2 per multiply-add, three products per layer, two for the
first layer. So GFLOP/s show how much of the time is spent in products: they fall where other work (the call, Adam, memory) dominates.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import machine
import numpy as np
import peaks

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
    """Nets in which one of batch, width and depth varies."""

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
    """The seconds of a step: the median over the rounds."""
    trainer = bp.Trainer(bp.mlp([size.width] * (size.depth + 1), seed=0, n_threads=1), "mse", bp.Adam(lr=1e-3))
    draw = np.random.default_rng(0)
    x, y = (draw.standard_normal((size.batch, size.width), np.float32) for _ in range(2))
    trainer.step(x, y)  # allocates the workspace
    count, times = 1, []
    for _ in range(ROUNDS + 1):  # the first round determines the number of steps in a round
        start = time.perf_counter()
        for _ in range(count):
            trainer.step(x, y)
        times.append((time.perf_counter() - start) / count)
        count = max(1, round(ROUND_SECONDS / times[-1]))
    return statistics.median(times[1:])


def draw_picture(results: list[list[float]], peak: float, path: Path) -> None:
    """Draws a column per sweep: the time of a step above, GFLOP/s and the machine's peak below."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter

    plain = FuncFormatter(lambda value, _: f"{value:,.0f}" if value >= 1 else f"{value:g}")
    figure = Figure(figsize=(11, 5.6), layout="constrained")
    (times, speeds) = figure.subplots(2, 3, sharex="col", sharey="row")
    for sweep, seconds, time_axes, speed_axes in zip(SWEEPS, results, times, speeds, strict=True):
        rates = [size.flops / second / 1e9 for size, second in zip(sweep.sizes, seconds, strict=True)]
        time_axes.loglog(sweep.values, [1e6 * second for second in seconds], "o-", color="#c8102e")
        speed_axes.loglog(sweep.values, rates, "o-", color="#4d77cf")
        speed_axes.axhline(peak / 1e9, color="#7f7f7f", linestyle="--", linewidth=1)
        speed_axes.set_xscale("log", base=4)
        time_axes.set_title(f"{sweep.name} ({sweep.fixed})", fontsize=11)
        speed_axes.set_xlabel(sweep.name)
        for axes in (time_axes, speed_axes):
            axes.grid(color="#e4e4e4")
            axes.xaxis.set_major_formatter(plain)
            axes.yaxis.set_major_formatter(plain)
    times[0].set_ylabel("microseconds per step")
    speeds[0].set_ylabel("GFLOP/s")
    speeds[0].annotate("peak of this CPU", (BATCHES[0], peak / 1e9), (0, 3), "data", "offset points", fontsize=8, color="#7f7f7f")
    speeds[0].set_ylim(top=peak / 1e9 * 1.8)
    figure.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--picture", type=Path, metavar="FILE", help="draw the results to FILE (needs matplotlib)")
    parser.add_argument("--cpu", type=int, default=0, help="number of the CPU (default: %(default)s)")
    options = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {options.cpu})
    with tempfile.TemporaryDirectory() as folder:
        peak = peaks.measure(peaks.build(folder), parameters=1000, threads=1).flops
    print(f"{machine.describe()}\npeak {peak / 1e9:.0f} GFLOP/s")
    results: list[list[float]] = []
    for sweep in SWEEPS:
        print(f"\n{sweep.fixed}\n{sweep.name:>8}{'microseconds':>14}{'GFLOP/s':>10}")
        results.append([])
        for value, size in zip(sweep.values, sweep.sizes, strict=True):
            seconds = seconds_per_step(size)
            results[-1].append(seconds)
            print(f"{value:>8}{1e6 * seconds:>14.4g}{size.flops / seconds / 1e9:>10.3g}", flush=True)
    if options.picture:
        draw_picture(results, peak, options.picture)


if __name__ == "__main__":
    main()
