"""What the tests of plots share: histories, sweeps, a drawing of each function, and checks of what is drawn."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

pytest.importorskip("matplotlib")

from matplotlib.text import Text

import microbp as bp
from microbp import plot

RNG = np.random.default_rng(0)
HISTORY = {"loss": [1.0, 0.5, 0.2], "val_loss": [1.1, 0.4, 0.6], "accuracy": [0.5, 0.9, 0.8]}


def rosenbrock(x):
    a, b = 1 - x[0], x[1] - x[0] ** 2
    return a**2 + 100 * b**2, np.array([-2 * a - 400 * x[0] * b, 200 * b])


def swept(values, scores=(0.5, 0.1, 0.3), rises=False):
    """The result of a sweep, with these scores."""
    trainers = [bp.Trainer(bp.mlp([1, 1], seed=0), "mse") for _ in values]
    for trainer, score in zip(trainers, scores):
        trainer.history.update({"val_loss": [] if np.isnan(score) else [1.0, score]})
    return bp.Sweep("lr", tuple(values), tuple(trainers), np.array(scores), "val_loss", rises)


def watched(layers=3, epochs=6):
    """A network with several layers after training: its history, and its histograms."""
    rng = np.random.default_rng(0)
    X, net = rng.normal(size=(60, 2)), bp.mlp([2, *[6] * (layers - 1), 1], activation="tanh", seed=0)  # noqa: N806
    found = bp.Histograms(net, X, bins=10)
    history = bp.Trainer(net, "mse").fit(X, X.prod(axis=1), epochs=epochs, callback=found, watch="layers")
    return history, found


WATCHED, COUNTED = watched()
PATH = [[-1.2, 1.0], [-0.5, 0.2], [1.0, 1.0]]
SEEDS = [[0.5, 0.1, 0.3], [0.6, 0.2, np.nan]]
DRAWINGS = {
    "curves": lambda ax: plot.learning_curves(HISTORY, ax=ax),
    "accuracy": lambda ax: plot.learning_curves(HISTORY, "accuracy", ax),
    "no validation": lambda ax: plot.learning_curves({"loss": [-1.0]}, ax=ax),
    "confusion": lambda ax: plot.confusion_matrix([[5, 1], [0, 7]], ["a", "b"], ax),
    "large confusion": lambda ax: plot.confusion_matrix(np.eye(40), [f"class {i}" for i in range(40)], ax),
    "numbers": lambda ax: plot.predicted_against_true([1.0, 2.0], [[1.5], [2.5]], ax),
    "roc": lambda ax: plot.roc_curve([0, 1, 1], [0.2, 0.4, 0.3], ax=ax),
    "calibration": lambda ax: plot.calibration([0, 1, 1], [0.2, 0.4, 0.3], ax=ax),
    "sweep": lambda ax: plot.sweep(swept([1e-3, 1e-2, 1e-1]), ax),
    "curves of a sweep": lambda ax: plot.sweep(swept([1e-3, 1e-2, 1e-1]), ax, curves=True),
    "several sweeps": lambda ax: plot.sweep({"a": swept([1e-3, 1e-2, 1e-1]), "b": [swept([1e-3, 1e-2, 1e-1], s) for s in SEEDS]}, ax),
    "learning rate": lambda ax: plot.learning_curves(HISTORY | {"lr": [0.1, 0.1, 0.01]}, ax=ax, lr=True),
    "compare": lambda ax: plot.compare(
        {"a": HISTORY, "b": [HISTORY, {"loss": [3.0, 2.0], "val_loss": [3.0, 1.0], "lr": [0.1] * 2}]}, ax=ax
    ),
    "sixteen": lambda ax: plot.compare({f"run {i}": {"loss": np.geomspace(1, 0.01 + i, 9)} for i in range(16)}, ax=ax),
    "odd names": lambda ax: plot.compare({r"$\frac{$": HISTORY, "a_b^c $x$": {"loss": [1.0]}}, ax=ax),
    "not measured": lambda ax: plot.compare({"a": {"loss": [float("nan")] * 2}, "b": {"loss": [float("nan")]}}, ax=ax),
    "paths": lambda ax: plot.paths(rosenbrock, {"sgd": PATH, "a long name of an optimizer": PATH[:2]}, ax),
    "layers": lambda ax: plot.layers(WATCHED, ax=ax),
    "gradients": lambda ax: plot.layers(WATCHED, "gradient", ax),
    "many layers": lambda ax: plot.layers({f"dense_{i}.update": [i * 1e-4, np.nan, 1e-3] for i in range(40)}, "update", ax),
    "dead layers": lambda ax: plot.layers({f"dense_{i}.gradient": [0.0, 1e-4 if i == 7 else 0.0] for i in range(20)}, "gradient", ax),
    "histograms": lambda ax: plot.histograms(COUNTED, ax=ax),
    "histograms of weights": lambda ax: plot.histograms(COUNTED, "dense_1", ax, weights=True),
    "importance": lambda ax: plot.importance(["area", "rooms"], [0.8, 0.1], ax),
}


def check_drawn(figure):
    """All texts that a figure draws are inside it, and do not overlap."""
    texts, draw = [], Text.draw
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings(action="ignore"):
        patch.setattr(Text, "draw", lambda text, renderer: (draw(text, renderer), texts.append(text)))
        figure.draw_without_rendering()
        _check_texts(figure, [text for text in texts if text.get_text() and text.get_visible()])


def _check_texts(figure, texts):
    """All texts are inside the figure, and do not overlap."""
    boxes = [text.get_window_extent() for text in texts]
    for text, box in zip(texts, boxes):
        assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= figure.bbox.x1 and box.y1 <= figure.bbox.y1, text
    x0, y0, x1, y1 = np.transpose([box.extents for box in boxes])
    meet = (x0[:, None] <= x1) & (x0 <= x1[:, None]) & (y0[:, None] <= y1) & (y0 <= y1[:, None])
    for i, j in np.argwhere(np.triu(meet, 1)):
        a, b = texts[i], texts[j]
        if a.get_rotation() == b.get_rotation() == 45:  # upright bounding boxes do not apply to slanted texts
            apart = abs(a.get_transform().transform(a.get_position()) - b.get_transform().transform(b.get_position())).max()
            assert apart * np.sin(np.pi / 4) > 0.9 * a.get_fontsize() * figure.dpi / 72, (a, b)
        else:
            raise AssertionError((a, b))


def covered(axes):
    """How many points of the lines the legend covers, also those of a second y axis."""
    box = axes.get_legend().get_window_extent()
    here = [one for one in axes.figure.axes if one.get_position().bounds == axes.get_position().bounds]
    lines = [line.get_transform().transform_path(line.get_path()).interpolated(50).vertices for one in here for line in one.lines]
    return sum(int(np.sum((x > box.x0) & (x < box.x1) & (y > box.y0) & (y < box.y1))) for x, y in (line.T for line in lines))
