"""Curves over the epochs."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.ticker import FuncFormatter

from ..core.checks import flag
from ..core.specs import unknown
from ..drawing.axes import BLUE, GREY, ORANGE, axes_of, epochs, logarithmic, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def learning_curves(history: Mapping[str, Sequence[float]], name: str = "loss", ax: Axes | None = None, *, lr: bool = False) -> Axes:
    """Plots an entry of a trainer's history against the epochs; "loss", or the loss of an output, also plots the validation loss.

    history: lists of equal length by name, such as `t.history` or the result of `t.fit`; NaN where an epoch has no value. name: "loss",
    "val_loss", "loss_policy" of an output, "lr", "seconds", or a metric of fit. ax: the axes to draw on; if None, those of a new figure.
    lr: also draws the learning rate, on a second y axis. Returns the axes.

    The y axis is logarithmic for losses that are all positive, and in per cent for accuracies. A ring and a dotted line mark the epoch with
    the lowest validation loss. TypeError: not a history. ValueError: it is empty, or has no entry `name`, or no "lr".

    >>> axes = bp.plot.learning_curves({"loss": [1.0, 0.5, 0.2], "val_loss": [1.1, 0.4, 0.6]})
    >>> [text.get_text() for text in axes.get_legend().get_texts()]
    ['training', 'validation', 'lowest validation loss: epoch 2']
    """
    if not isinstance(history, Mapping):
        raise TypeError(f"learning_curves: history must be a dict such as t.history, not {type(history).__name__}")
    history = {entry: list(values) for entry, values in history.items()}
    if not history.get("loss"):
        raise ValueError("learning_curves: the history is empty; call fit first")
    if name not in history:
        raise unknown("entry of the history", name, history)
    if flag("learning_curves: lr", lr) and "lr" not in history:
        raise ValueError("learning_curves: the history has no learning rate 'lr'")
    axes, validation = axes_of(ax), history.get("val_loss")
    is_loss = a_loss(name)
    if is_loss and not name.startswith("val_"):
        curves = {"training": history[name]} | ({"validation": own} if (own := history.get(f"val_{name}")) else {})
    else:
        of_rows = {"lr": "", "seconds": ""}.get(name, "validation" if validation or is_loss else "training")
        curves = {of_rows: history[name]}
    for label, values in curves.items():
        colour = ORANGE if label == "validation" else BLUE
        marker = "o" if np.isfinite(values).sum() == 1 else ""  # a line needs two points
        axes.plot(range(1, len(values) + 1), values, color=colour, linewidth=1.5, marker=marker, label=label)
    if validation and np.isfinite(validation).any():
        best = int(np.nanargmin(validation))
        _mark(axes, best + 1, curves.get("validation", history[name])[best])
    edge = scaled(axes, name, [value for values in curves.values() for value in values])
    epochs(axes)
    if lr:
        _rates(axes, history["lr"])
    style(axes, name, edge)
    return axes


def a_loss(name: str) -> bool:
    """Whether an entry of a history is a loss."""
    return re.fullmatch(r"(val_)?loss(_.+)?", name) is not None


def scaled(axes: Axes, name: str, values: Any) -> str:
    """Chooses the scale of the y axis for an entry of a history. Returns the edge where its legend may be."""
    if a_loss(name) and np.fmin.reduce(values, initial=np.inf) > 0:
        logarithmic(axes)
    if name != "accuracy" and not name.startswith("accuracy_"):
        return "upper"
    axes.set_ylim(top=min(axes.get_ylim()[1], 1.005))
    axes.yaxis.set_major_formatter(FuncFormatter(_percent))
    return "lower"


def _mark(axes: Axes, epoch: int, value: float) -> None:
    """Marks a point with a ring, and with a dotted line, which is visible among dense curves too."""
    axes.vlines(epoch, 0, 1, transform=axes.get_xaxis_transform(), colors=GREY, linestyles="dotted", linewidth=1.2, zorder=1)
    ring: Any = {"markerfacecolor": "none", "markeredgecolor": axes.xaxis.label.get_color(), "markeredgewidth": 1.6, "markersize": 10}
    axes.plot([epoch], [value], "o", zorder=4, clip_on=False, label=f"lowest validation loss: epoch {epoch}", **ring)


def _rates(axes: Axes, rates: Sequence[float]) -> None:
    """Draws the learning rate on a second y axis, behind the curves."""
    look: Any = {"color": GREY, "linewidth": 1.2, "drawstyle": "steps-mid", "linestyle": "--", "label": "learning rate"}
    second = axes.twinx()
    second.plot(range(1, len(rates) + 1), rates, **look)
    axes.plot([], [], **look)  # for the legend
    axes.set_zorder(second.get_zorder() + 1)
    axes.patch.set_visible(False)
    if np.fmin.reduce(rates, initial=np.inf) > 0:
        logarithmic(second)
    second.spines["top"].set_visible(False)
    second.set_ylabel("learning rate", fontsize=12)


def _percent(share: float, _: int) -> str:
    return f"{100 * share:g} %" if share <= 1 else ""
