"""Pictures of learning, and their tables of numbers for `../LEARNING.md`.

    python bench/learning/pictures.py [--out DIR] [--seeds N] [--quick] [rates] [paths] [plateau] [histograms]

rates: 15 first-order optimizers, 17 learning rates from 1e-6 to 100, 20 epochs, on scikit-learn's digits: 64-64-10 (relu), batches of 32. A
seed draws the split (1,200 rows to train, 297 to validate, 300 to test), the weights and the order of the rows. The rate of an optimizer is
the one with the lowest median of the validation losses; then the test rows are predicted once. rates.png shows six of them by rate,
compare.png their best rates by epoch.
paths: five optimizers on Rosenbrock's function and on a quadratic of condition 30, each with the rate of 25 from 1e-4 to 1 whose
path has the lowest mean value (paths.png).
plateau: SGD in batches of 8 on a product of columns with noise of variance 0.01, 4-64-64-1 (relu), with a constant rate and with one that
is divided by 10 when the validation loss has not fallen for five epochs (plateau.png: the first seed).
histograms: 64-64-64-64-64-10 with sigmoids on the digits, 40 epochs; weights from N(0, 1) and from init="auto"; Adam with 0.003,
for both the best of nine rates from 3e-4 to 3 (histograms.png: the first seed).

All pictures are saved in DIR (here). Nothing is measured in time. --quick: fewer epochs and optimizers, to see that it runs.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from PIL import Image
from sklearn.datasets import load_digits

import microbp as bp

Array = npt.NDArray[Any]
DRAWN = ("SGD", "Momentum", "Adagrad", "RMSprop", "Adam", "Lion")
OTHERS = ("AdamW", "NAdam", "RAdam", "AdaBelief", "Adamax", "Adadelta", "Lamb", "Ftrl", "ASGD")
RATES = [float(f"{rate:.2g}") for rate in 10.0 ** np.arange(-6, 2.1, 0.5)]


class Plan(NamedTuple):
    """Where the pictures go, and how much is computed for them."""

    out: Path
    seeds: int
    quick: bool


class Part(NamedTuple):
    """Rows of the digits: inputs in [0, 1] and labels."""

    x: Array
    y: Array


def table(*lines: tuple[object, ...]) -> None:
    """Prints a table; the first line is its head."""
    head, *body = (f"| {' | '.join(map(str, line))} |" for line in lines)
    print("", head, "|---" * len(lines[0]) + "|", *body, sep="\n", flush=True)


def digits(seed: int) -> list[Part]:
    """The rows for training, validation and test."""
    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(seed).permutation(len(x))
    return [Part(x[rows] / 16, y[rows]) for rows in np.split(order, [1200, 1497])]


def save(figure: Any, plan: Plan, name: str) -> None:
    """Saves a small file: 64 colours."""
    pixels = BytesIO()
    figure.savefig(pixels, dpi=90)
    Image.open(pixels).convert("RGB").quantize(64, dither=Image.Dither.NONE).save(plan.out / f"{name}.png", optimize=True)


def wide(panels: int) -> tuple[Figure, Any]:
    """A figure with panels side by side."""
    figure = Figure(figsize=(6.4 * panels, 4.4), layout="constrained")
    return figure, figure.subplots(1, panels)


# ---- learning rates ----


def swept(name: str, seed: int, epochs: int) -> bp.Sweep:
    """An optimizer with each learning rate."""
    train, validation, _ = digits(seed)

    def new(lr: float) -> bp.Trainer:
        return bp.Trainer(bp.mlp([64, 64, 10], seed=seed), "cross_entropy", getattr(bp, name)(lr=lr))

    return bp.sweep(new, RATES, *train, epochs=epochs, batch_size=32, validation=tuple(validation))


def rates(plan: Plan) -> None:
    """rates.png and compare.png, and a table of all optimizers."""
    names, epochs = (DRAWN[:2], 2) if plan.quick else (DRAWN + OTHERS, 20)
    found = {name: [swept(name, seed, epochs) for seed in range(plan.seeds)] for name in names}
    lines = [line(name, sweeps) for name, sweeps in found.items()]
    table(("optimizer", "best lr", "validation loss", "within 10 % of it", "test error"), *sorted(lines, key=lambda one: float(one[2])))
    drawn = {name: found[name] for name in names if name in DRAWN}
    save(bp.plot.sweep(drawn).figure, plan, "rates")
    save(bp.plot.compare(drawn).figure, plan, "compare")


def line(name: str, sweeps: list[bp.Sweep]) -> tuple[str, str, str, str, str]:
    """The best rate, its loss, the rates with nearly this loss, and its test error in per cent."""
    losses = np.median([sweep.scores for sweep in sweeps], axis=0)
    best = int(np.nanargmin(losses))
    near = [RATES[i] for i in np.flatnonzero(losses <= 1.1 * losses[best])]
    errors = []
    for seed, sweep in enumerate(sweeps):
        test = digits(seed)[2]
        errors.append(100 * np.mean(sweep.trainers[best].predict(test.x).argmax(axis=1) != test.y))
    return name, f"{RATES[best]:g}", f"{losses[best]:.3f}", ", ".join(f"{rate:g}" for rate in near), f"{np.mean(errors):.1f} %"


# ---- paths ----


def rosenbrock(x: Array) -> tuple[float, Array]:
    a, b = 1 - x[0], x[1] - x[0] ** 2
    return a**2 + 100 * b**2, np.array([-2 * a - 400 * x[0] * b, 200 * b])


def valley(x: Array) -> tuple[float, Array]:
    return (x[0] ** 2 + 30 * x[1] ** 2) / 2, np.array([x[0], 30 * x[1]])


FUNCTIONS: dict[str, tuple[Callable[[Array], tuple[float, Array]], tuple[float, float], int]] = {  # function, start, steps
    "Rosenbrock's function": (rosenbrock, (-1.2, 1.0), 200),
    "(x² + 30 y²) / 2": (valley, (-6.0, 1.5), 30),
}
WALKERS = {"SGD": bp.SGD, "Momentum": bp.Momentum, "RMSprop": bp.RMSprop, "Adam": bp.Adam}


def tuned(function: Callable[[Array], tuple[float, Array]], start: tuple[float, float], kind: Any, steps: int) -> tuple[float, Array]:
    """The best rate and its path."""
    with np.errstate(over="ignore"):  # of rates that are too high
        walked = {rate: bp.plot.path_of(function, start, kind(lr=rate), steps) for rate in 10.0 ** np.linspace(-4, 0, 25)}
        means = {rate: np.mean([function(x)[0] for x in path]) for rate, path in walked.items() if len(path) == steps + 1}
    best = min(means, key=means.__getitem__)
    return best, walked[best]


def paths(plan: Plan) -> None:
    """paths.png, and the values at the ends."""
    figure, panels = wide(len(FUNCTIONS))
    lines = []
    for axes, (title, (function, start, steps)) in zip(panels, FUNCTIONS.items(), strict=True):
        drawn = {}
        for name, kind in WALKERS.items():
            rate, path = tuned(function, start, kind, steps)
            drawn[f"{name}, lr {rate:.2g}"] = path
            lines.append((title, name, f"{rate:.2g}", steps, f"{function(path[-1])[0]:.2g}"))
        drawn["LBFGS"] = bp.plot.path_of(function, start, "lbfgs", steps)
        short = next((i for i, x in enumerate(drawn["LBFGS"]) if function(x)[0] < 1e-12), steps)
        lines.append((title, "LBFGS", "", short, f"{function(drawn['LBFGS'][short])[0]:.2g}"))
        drawn["LBFGS"] = drawn["LBFGS"][: short + 1]
        bp.plot.paths(function, drawn, axes).set_title(title)
    table(("function", "optimizer", "best lr", "steps", "value"), *lines)
    save(figure, plan, "paths")


# ---- a plateau ----


def noisy(seed: int) -> list[Part]:
    """Rows for training and validation; the noise has variance 0.01."""
    random = np.random.default_rng(seed)
    x = random.uniform(-1, 1, (2000, 4))
    y = np.sin(3 * x[:, 0]) * x[:, 1] + x[:, 2] * x[:, 3] + random.normal(0, 0.1, 2000)
    return [Part(x[:1500], y[:1500, None]), Part(x[1500:], y[1500:, None])]


def plateau(plan: Plan) -> None:
    """plateau.png, and the losses with other schedules."""
    schedules = {
        "0.2": bp.Constant(lr=0.2),
        "0.02": bp.Constant(lr=0.02),
        "0.2, divided by 10 on a plateau": bp.ReduceOnPlateau(lr=0.2, patience=5, min_lr=0.0002),
    }
    lines: list[tuple[object, ...]] = []
    for name, schedule in schedules.items():
        found = []
        for seed in range(plan.seeds):
            train, validation = noisy(seed)
            trainer = bp.Trainer(bp.mlp([4, 64, 64, 1], seed=seed), "mse", bp.SGD())
            epochs = 2 if plan.quick else 60
            found.append(trainer.fit(*train, epochs=epochs, batch_size=8, validation=tuple(validation), schedule=schedule))
        last = np.array([history["val_loss"][-10:] for history in found])
        lines.append((name, f"{np.median(last):.4f}", f"{last.min():.4f} to {last.max():.4f}"))
    table(("learning rate", "validation loss, median of the last 10 epochs", "range"), *lines)
    save(bp.plot.learning_curves(found[0], lr=True).figure, plan, "plateau")


# ---- histograms ----


def deep(init: Any, seed: int) -> bp.Network:
    """A deep network of sigmoids."""
    x = bp.Input(64)
    hidden: bp.Node = x
    for _ in range(4):
        hidden = bp.Dense(64, "sigmoid", init=init)(hidden)
    return bp.Network(x, bp.Dense(10)(hidden), seed=seed)


def histograms(plan: Plan) -> None:
    """histograms.png, and what the layers do with either start."""
    figure, panels = wide(2)
    lines: list[tuple[object, ...]] = []
    for axes, (title, init) in zip(
        panels, {"weights from N(0, 1)": bp.Init("normal", std=1.0), 'init="auto"': "auto"}.items(), strict=True
    ):
        losses, ratios, ends, errors = [], [], [], []
        for seed in range(plan.seeds):
            train, validation, test = digits(seed)
            net = deep(init, seed)
            counted = bp.Histograms(net, validation.x[:100])
            counted.count(0)
            trainer = bp.Trainer(net, "cross_entropy", bp.Adam(lr=0.003))
            epochs = 2 if plan.quick else 40
            history = trainer.fit(*train, epochs=epochs, batch_size=32, validation=tuple(validation), callback=counted, watch="layers")
            losses.append(history["val_loss"][-1])
            ratios.append(history["dense_0.gradient"][0] / history["dense_4.gradient"][0])
            bins = counted.activations["dense_0"]
            far = (bins.edges[:-1] < 0.05) | (bins.edges[1:] > 0.95)
            ends.append(bins.counts[0][far].sum() / bins.counts[0].sum())
            errors.append(100 * np.mean(trainer.predict(test.x).argmax(axis=1) != test.y))
            if seed == 0:
                bp.plot.histograms(counted, ax=axes).set_title(title)
        lines.append(
            (title, f"{100 * np.mean(ends):.0f} %", f"{np.median(ratios):.2g}", f"{np.median(losses):.3f}", f"{np.mean(errors):.1f} %")
        )
    table(
        ("start", "outputs of dense_0 near 0 or 1 at the start", "gradient of dense_0 / of dense_4", "validation loss", "test error"),
        *lines,
    )
    save(figure, plan, "histograms")


SECTIONS = {"rates": rates, "paths": paths, "plateau": plateau, "histograms": histograms}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sections", nargs="*", metavar="section", choices=[[], *SECTIONS], help=f"of {', '.join(SECTIONS)}; all by default")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    for name in options.sections or SECTIONS:
        SECTIONS[name](Plan(options.out, options.seeds, options.quick))


if __name__ == "__main__":
    main()
