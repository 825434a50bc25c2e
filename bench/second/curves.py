"""The picture of second_order.py: the error against CPU time, by optimizer."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import microbp as bp

from . import problems
from .problems import Array, Problem

SOME, ALL = 32, 1_000_000  # rows in a batch
# Label -> colour, rows in a batch (None: a solver, which has no batches), and the optimizers, of which the best counts.
OPTIMIZERS: dict[str, tuple[str, int | None, list[Callable[[], bp.Optimizer]]]] = {
    "SGD": ("#9aa0a6", SOME, [lambda lr=lr: bp.SGD(lr=lr) for lr in (0.03, 0.1, 0.3)]),  # type: ignore[misc]
    "Adam": ("#4d77cf", SOME, [lambda lr=lr: bp.Adam(lr=lr) for lr in (0.003, 0.01, 0.03)]),  # type: ignore[misc]
    "Rprop": ("#2a9d8f", ALL, [bp.Rprop]),
    "L-BFGS": ("#ee8a2e", None, [bp.LBFGS]),
    "SCG": ("#8c6bb1", None, [bp.SCG]),
    "Levenberg-Marquardt": ("#c8102e", None, [bp.LevenbergMarquardt]),
}
# Name -> the problem, and the CPU seconds of a run.
PANELS: dict[str, tuple[Callable[[Path], Problem], float]] = {
    "sine, 41 rows": (lambda _: problems.sine(), 0.3),
    "parity, 8 rows": (lambda _: problems.parity(), 0.3),
    "sinc, 1,000 rows": (lambda _: problems.sinc(), 2),
    "cancer, 350 rows": (problems.cancer, 1),
    "diabetes, 384 rows": (problems.diabetes, 2),
    "yacht, 277 rows": (lambda root: problems.uci(root, "yacht", 20, 0), 1),
}
POINTS, LEAST = 60, 1e-10  # of a curve, and the lowest error that is drawn


def curve(problem: Problem, optimizer: bp.Optimizer, batch: int | None, seed: int, grid: Array) -> Array:
    """The lowest mean squared error at each time of the grid."""
    trainer = bp.Trainer(problem.network(seed), "mse", optimizer)
    options: Any = {} if batch is None else {"batch_size": batch}
    times, errors, start = [0.0], [trainer.evaluate(problem.x, problem.y)], time.process_time()
    try:
        for record in trainer.epochs(problem.x, problem.y, **options):
            times.append(time.process_time() - start)
            errors.append(record.loss)
            if times[-1] > grid[-1] or record.get("stopped"):
                break
    except FloatingPointError:
        pass  # this rate is too high
    best = np.minimum.accumulate(errors)
    return best[np.searchsorted(times, grid, side="right") - 1]


def measure(problem: Problem, label: str, limit: float, seeds: int) -> tuple[Array, Array]:
    """Times, and the median error over the seeds; of the rate with the lowest error for the first seed."""
    _, batch, makers = OPTIMIZERS[label]
    grid = np.geomspace(1e-4, limit, POINTS)
    firsts = [curve(problem, make(), batch, 0, grid) for make in makers]
    best = int(np.argmin([first[-1] for first in firsts]))
    others = [curve(problem, makers[best](), batch, seed, grid) for seed in range(1, seeds)]
    return grid, np.median([firsts[best], *others], axis=0)


def picture(options: argparse.Namespace) -> None:
    """Measures and draws the panels."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 6.4), layout="constrained")
    for axes, (name, (read, limit)) in zip(figure.subplots(2, 3).flat, PANELS.items()):
        problem = read(options.data)
        for label, (colour, *_) in OPTIMIZERS.items():
            grid, errors = measure(problem, label, limit / 20 if options.quick else limit, 1 if options.quick else 5)
            axes.plot(1e3 * grid, errors, color=colour, label=label, linewidth=2 if label == "Levenberg-Marquardt" else 1.4)
            print(f"{name}: {label} {errors[-1]:.3g}", flush=True)
        if problem.goal:
            axes.axhline(problem.goal, color="#bbbbbb", linewidth=0.8, linestyle="--", zorder=0)
        axes.set_title(f"{name}, {'-'.join(map(str, problem.widths))}", loc="left", fontsize=10)
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_ylim(bottom=max(axes.get_ylim()[0], LEAST))
        axes.grid(color="#ececec", linewidth=0.7)
        axes.tick_params(labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    figure.supxlabel("milliseconds of CPU time", fontsize=9)
    figure.supylabel("mean squared error of the training rows", fontsize=9)
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels), frameon=False, fontsize=9)
    figure.savefig(options.picture, dpi=120)
