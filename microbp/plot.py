"""Pictures of a training run. Needs matplotlib; draws on figures of its own, so no window opens and no backend is chosen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

try:
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator, PercentFormatter
except ImportError:
    raise ImportError("pictures are drawn by matplotlib, which is not installed: python -m pip install matplotlib") from None

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from .range_test import RangeTest

Corner = Literal["best", "upper right", "lower right"]
FORMATS = (".png", ".svg", ".pdf")

_BLUE, _ORANGE, _GREY = "#1f5fa8", "#d9730d", "#555555"  # told apart by colour-blind readers, and in print by their lightness


def save_curves(history: Mapping[str, Sequence[float]], path: Path, title: str, test_accuracy: float) -> None:
    """Draws the history of a fit with validation and accuracy to a file, 1000 pixels wide."""
    figure = Figure(figsize=(10, 4.4), dpi=100, layout="constrained")
    figure.suptitle(f"{title}: test accuracy {100 * test_accuracy:.2f} %", fontsize=14)
    loss, accuracy = figure.subplots(1, 2)
    _draw_loss(loss, history)
    _draw_accuracy(accuracy, history, test_accuracy)
    figure.savefig(path)


def lr_find(result: RangeTest, ax: Axes | None = None) -> Axes:
    """Draws the losses of a range test over the rates, with its suggestions, on `ax` or a figure of its own; returns the axes."""
    axes = Figure(figsize=(7, 4.4), dpi=100, layout="constrained").subplots() if ax is None else ax
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


def _draw_loss(axes: Axes, history: Mapping[str, Sequence[float]]) -> None:
    _draw(axes, history["loss"], _BLUE, "training")
    _draw(axes, history["val_loss"], _ORANGE, "validation")
    if min(*history["loss"], *history["val_loss"]) > 0:
        axes.set_yscale("log")
    _finish(axes, "loss", "upper right")


def _draw_accuracy(axes: Axes, history: Mapping[str, Sequence[float]], test_accuracy: float) -> None:
    _draw(axes, history["accuracy"], _ORANGE, "validation")
    axes.axhline(test_accuracy, color=_GREY, linestyle="--", linewidth=1.5, label="test, after the last epoch")
    axes.set_ylim(top=1.005)
    axes.yaxis.set_major_formatter(PercentFormatter(xmax=1))
    _finish(axes, "accuracy", "lower right")


def _draw(axes: Axes, values: Sequence[float], colour: str, label: str) -> None:
    marker: Any = "o" if len(values) == 1 else None  # a line needs two points
    axes.plot(range(1, len(values) + 1), values, color=colour, linewidth=2, marker=marker, label=label)


def _finish(axes: Axes, what: str, corner: Corner) -> None:
    axes.set_xlabel("epoch", fontsize=12)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _style(axes, what, corner)


def _style(axes: Axes, what: str, corner: Corner = "best") -> None:
    axes.set_ylabel(what, fontsize=12)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc=corner, frameon=False, fontsize=11)
