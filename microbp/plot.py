"""Pictures of a training run. Needs matplotlib; draws on figures of its own, so no window opens and no backend is chosen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

try:
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator, PercentFormatter
except ImportError:
    raise ImportError("pictures are drawn by matplotlib, which is not installed: python -m pip install matplotlib") from None

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from .range_test import RangeTest
    from .report import Told

FORMATS = (".png", ".svg", ".pdf")

_BLUE, _ORANGE, _GREY = "#1f5fa8", "#d9730d", "#555555"  # told apart by colour-blind readers, and in print by their lightness
_LABELLED = 16  # classes whose names and counts fit into a confusion matrix


def save_report(told: Told, history: Mapping[str, Sequence[float]], path: Path) -> None:
    """Draws how a training went, and what the network makes of the test rows, to a file: 1400 pixels wide for classes, else 1000."""
    test, classes = told.scores["test"], told.preparation.target.classes
    figure = Figure(figsize=(14 if classes else 10, 4.6), dpi=100, layout="constrained")
    figure.get_layout_engine().set(wspace=0.06)  # type: ignore[union-attr,call-arg]  # the one just named
    measure = f"test accuracy {100 * test['accuracy']:.2f} %" if classes else f"test RMSE {test['rmse']:.4g}"
    figure.suptitle(f"{told.title}: {measure}", fontsize=14)
    panels = figure.subplots(1, 3 if classes else 2)
    learning_curves(history, ax=panels[0])
    if told.confusion is not None:
        learning_curves(history, "accuracy", ax=panels[1])
        confusion_matrix(told.confusion, classes, ax=panels[2])
    else:
        predicted_against_true(told.true, told.predicted, ax=panels[1])
    figure.savefig(path)


def learning_curves(history: Mapping[str, Sequence[float]], name: str = "loss", ax: Axes | None = None) -> Axes:
    """Draws an entry of a trainer's history over the epochs, with "loss" that of the validation too; returns the axes.

    Losses that are all positive get a logarithmic axis, accuracies percentages; a dot stands where the validation loss is lowest. ax:
    where to draw; None: on a figure of its own.
    """
    axes, validation = _axes(ax), history.get("val_loss")
    if name == "loss":
        _curve(axes, history["loss"], _BLUE, "training")
        if validation is not None:
            _curve(axes, validation, _ORANGE, "validation")
        if min(*history["loss"], *(validation or history["loss"])) > 0:
            axes.set_yscale("log")
    else:
        _curve(axes, history[name], _BLUE if validation is None else _ORANGE, "training" if validation is None else "validation")
    if name == "accuracy":
        axes.set_ylim(top=1.005)
        axes.yaxis.set_major_formatter(PercentFormatter(xmax=1))
    if validation is not None:
        best = int(np.argmin(validation))
        value = (validation if name == "loss" else history[name])[best]
        axes.plot([best + 1], [value], "o", color=_GREY, markersize=8, label=f"lowest validation loss, epoch {best + 1}")
    axes.set_xlabel("epoch", fontsize=12)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _style(axes, name)
    return axes


def _curve(axes: Axes, values: Sequence[float], colour: str, label: str) -> None:
    marker: Any = "o" if len(values) == 1 else None  # a line needs two points
    axes.plot(range(1, len(values) + 1), values, color=colour, linewidth=2, marker=marker, label=label)


def confusion_matrix(counts: Any, classes: Sequence[str], ax: Axes | None = None) -> Axes:
    """Draws how often rows of each class (down) were predicted as each class (across); returns the axes.

    counts: (classes, classes). Colours are shares of the true class, so that rare classes can be read as well.
    """
    axes, counts = _axes(ax), np.asarray(counts)
    if counts.shape != (len(classes), len(classes)):
        raise ValueError(f"confusion_matrix: counts have shape {counts.shape}; {len(classes)} classes need a square of that size")
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    is_small = len(classes) <= _LABELLED
    if is_small:
        for (i, j), count in np.ndenumerate(counts):
            if count:
                axes.text(j, i, f"{count}", ha="center", va="center", fontsize=10, color="white" if shares[i, j] > 0.5 else _GREY)
        names = [name if len(name) <= 12 else f"{name[:11]}…" for name in classes]
        slant: Any = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"} if sum(map(len, names)) > 40 else {}
        axes.set_xticks(range(len(names)), names, **slant)
        axes.set_yticks(range(len(names)), names)
    axes.set_xlabel("predicted", fontsize=12)
    axes.set_ylabel("true", fontsize=12)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0 if is_small else 3)
    return axes


def predicted_against_true(true: Any, predicted: Any, ax: Axes | None = None) -> Axes:
    """Draws a point for each row, and the line on which predictions are right; returns the axes."""
    axes, true, predicted = _axes(ax), np.asarray(true).reshape(-1), np.asarray(predicted).reshape(-1)
    if true.shape != predicted.shape or len(true) == 0:
        raise ValueError(
            f"predicted_against_true: there are {len(true)} true and {len(predicted)} predicted values; give as many, at least 1"
        )
    ends = [min(true.min(), predicted.min()), max(true.max(), predicted.max())]
    alpha = min(1.0, max(0.1, 20 / len(true) ** 0.5))
    axes.plot(true, predicted, "o", color=_BLUE, markersize=5, markeredgewidth=0, alpha=alpha, label="rows", rasterized=True)
    axes.plot(ends, ends, color=_ORANGE, linewidth=1.5, label="predicted = true")
    axes.set_aspect("equal", adjustable="datalim")
    axes.set_xlabel("true", fontsize=12)
    _style(axes, "predicted")
    return axes


def lr_find(result: RangeTest, ax: Axes | None = None) -> Axes:
    """Draws the losses of a range test over the rates, with its suggestions, on `ax` or a figure of its own; returns the axes."""
    axes = _axes(ax)
    axes.plot(result.lrs, result.losses, color=_GREY, linewidth=1, alpha=0.5, label="loss of the batch")
    axes.plot(result.lrs, result.smoothed, color=_BLUE, linewidth=2, label="smoothed")
    axes.set_xscale("log")
    first, lowest = result.smoothed[0], min(result.losses)
    if lowest < first:
        axes.set_ylim(lowest - 0.1 * (first - lowest), first + (first - lowest))  # divergence may leave the picture
    for marker, name in (("o", "valley"), ("^", "steep"), ("s", "minimum")):
        rate = getattr(result, name)
        axes.plot([rate], [np.interp(rate, result.lrs, result.smoothed)], marker, color=_ORANGE, markersize=8, label=f"{name}: {rate:.2g}")
    axes.set_xlabel("learning rate", fontsize=12)
    _style(axes, "loss")
    return axes


def _axes(ax: Axes | None) -> Axes:
    """The axes given, or those of a new figure, which no window shows."""
    return Figure(figsize=(7, 4.4), dpi=100, layout="constrained").subplots() if ax is None else ax


def _style(axes: Axes, what: str) -> None:
    axes.set_ylabel(what, fontsize=12)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="best", frameon=False, fontsize=11)
