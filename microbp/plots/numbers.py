"""Predictions of numbers, and the importance of columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.ticker import FuncFormatter, MaxNLocator

from ..drawing.axes import BLUE, ORANGE, axes_of, style
from ..drawing.texts import as_written, distinct, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from ..data.arrays import Array

_MANY = 40  # of fewer numbers, none is an outlier


def predicted_against_true(true: Any, predicted: Any, ax: Axes | None = None) -> Axes:
    """Plots a point for each row of a regression, and the line of perfect predictions.

    true, predicted: shape (rows,), or (rows, 1) as returned by `t.predict`, both in the same unit. ax: the axes to draw on; if None, those
    of a new figure. Returns the axes, with equal scales. ValueError: true and predicted have different lengths, or are empty.

    >>> axes = bp.plot.predicted_against_true([1.0, 2.0], [[1.5], [2.5]])
    >>> axes.get_xlabel(), axes.get_ylabel()
    ('true', 'predicted')
    """
    axes, true, predicted = axes_of(ax), np.asarray(true).reshape(-1), np.asarray(predicted).reshape(-1)
    if true.shape != predicted.shape or len(true) == 0:
        raise ValueError(
            f"predicted_against_true: true has length {len(true)} and predicted {len(predicted)}; the lengths must be equal and at least 1"
        )
    known = np.isfinite(true) & np.isfinite(predicted)
    low, high = _usual_range(np.concatenate([true[known], predicted[known]]))
    outside = (np.minimum(true, predicted) < low) | (np.maximum(true, predicted) > high)
    alpha = min(1.0, max(0.1, 20 / len(true) ** 0.5))
    look: Any = {"color": BLUE, "markeredgewidth": 0, "rasterized": True}
    axes.plot(true[~outside & known], predicted[~outside & known], "o", markersize=5, alpha=alpha, label="rows", **look)
    axes.plot([low, high], [low, high], color=ORANGE, linewidth=1.5, label="predicted = true")
    axes.set_aspect("equal")
    axes.set_ylim(axes.get_xlim())
    if (outside & known).any():
        _outliers(axes, true[outside & known], predicted[outside & known], low, high)
    axes.set_xlabel("true", fontsize=12)
    style(axes, "predicted", "upper")
    axes.set_xlim(axes.get_ylim())  # the legend may have changed the y limits
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
        axis.set_major_formatter(FuncFormatter(plain))
    return axes


def _usual_range(values: Array) -> tuple[float, float]:
    """The limits of the values, or if a few of many are far outside, those without them: further from the middle 98 % than it is wide."""
    if len(values) < _MANY:
        return (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)
    first, last = np.quantile(values, 0.01, method="higher"), np.quantile(values, 0.99, method="lower")
    inside = values[(values >= first - (last - first)) & (values <= last + (last - first))]
    return float(inside.min()), float(inside.max())


def _outliers(axes: Axes, true: Array, predicted: Array, low: float, high: float) -> None:
    """Marks points outside of the limits with triangles at the edge, and says how many there are."""
    x, y = np.clip(true, low, high), np.clip(predicted, low, high)
    marks = {"^": predicted > high, "v": predicted < low}
    marks |= {">": (true > high) & ~marks["^"] & ~marks["v"], "<": (true < low) & ~marks["^"] & ~marks["v"]}
    label: str | None = f"outside of the limits: {len(true):,}"
    for marker, rows in marks.items():
        if rows.any():
            axes.plot(x[rows], y[rows], marker, color=ORANGE, markersize=7, label=label, zorder=4, rasterized=True)
            label = None


def importance(names: Sequence[str], values: Sequence[float], ax: Axes | None = None) -> Axes:
    """Plots the importance of columns as horizontal bars, the first on top; `microbp explain-columns --plot` does the same.

    names: of the columns. values: their importances, such as `found.importances_mean` of `found = model.importance(table)`. ax: the axes to
    draw on; if None, those of a new figure. Returns the axes. ValueError: the lengths differ or are 0.

    >>> axes = bp.plot.importance(["area", "rooms"], [0.8, 0.1])
    >>> axes.get_xlabel(), len(axes.patches)
    ('increase of the loss', 2)
    """
    if len(names) != len(values) or not names:
        raise ValueError(f"importance: names has length {len(names)} and values {len(values)}; the lengths must be equal and at least 1")
    axes = axes_of(ax)
    places = range(len(names))
    axes.barh(places, values, color=BLUE)
    axes.set_yticks(places, distinct(list(names)), **as_written("".join(names)))
    axes.invert_yaxis()
    axes.set_xlabel("increase of the loss", fontsize=12)
    axes.grid(axis="x", alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    return axes
