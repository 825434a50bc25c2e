"""Searches for a learning rate or another setting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib import colormaps

from ..drawing.axes import BLUE, GREY, ORANGE, axes_of, epochs, line_look, logarithmic, style
from ..drawing.texts import as_written, distinct, short
from ..many.search import Sweep
from .comparisons import best_of, draw, highest, lists, scores_of, written

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from ..data.arrays import Array
    from ..training.lr_find import RangeTest


def lr_find(result: RangeTest, ax: Axes | None = None) -> Axes:
    """Plots the losses of a range test against the learning rates, with its suggestions; `result.plot()` does the same.

    result: from `bp.lr_find`. ax: the axes to draw on; if None, those of a new figure. Returns the axes. ValueError: the loss diverged too
    early for a suggestion.

    >>> X = np.linspace(-1, 1, 64, dtype="float32").reshape(-1, 1)
    >>> t = bp.Trainer(bp.mlp([1, 8, 1], seed=0), loss="mse")
    >>> axes = bp.plot.lr_find(bp.lr_find(t, X, X**2))
    >>> axes.get_xscale(), axes.get_xlabel()
    ('log', 'learning rate')
    """
    axes = axes_of(ax)
    axes.plot(result.lrs, result.losses, color=GREY, linewidth=1, alpha=0.5, label="loss of the batch")
    axes.plot(result.lrs, result.smoothed, color=BLUE, linewidth=2, label="smoothed")
    axes.set_xscale("log")
    lowest = 10 * result.minimum  # the rate of the lowest smoothed loss, up to rounding
    low, high = result.losses.min(), result.losses[result.lrs < 1.001 * lowest].max()
    if low < high:
        axes.set_ylim(low - 0.05 * (high - low), high + 0.05 * (high - low))  # omits the part where the loss diverges
    marks: list[tuple[Any, float, str]] = [
        ({"marker": "o", "markersize": 13, "markerfacecolor": "none"}, result.valley, f"valley, the suggestion: {result.valley:.2g}"),
        ({"marker": "^", "markersize": 7}, result.steep, f"steep: {result.steep:.2g}"),
        ({"marker": "s", "markersize": 7}, result.minimum, f"minimum / 10: {result.minimum:.2g} (lowest at {lowest:.2g})"),
    ]
    for look, rate, label in marks:
        height = np.interp(rate, result.lrs, result.smoothed)
        axes.plot([rate], [height], color=ORANGE, linestyle="None", markeredgewidth=2, label=label, **look)
    axes.set_xlabel("learning rate", fontsize=12)
    style(axes, "loss", "upper")
    return axes


def sweep(result: Sweep | Mapping[str, Sweep | Sequence[Sweep]], ax: Axes | None = None, *, curves: bool = False) -> Axes:
    """Plots the score of each value of a sweep, or its validation curves; `result.plot()` does the same.

    result: from `bp.sweep`; or several results by name, such as of optimizers, or lists of results, one for each seed: then all are thin
    lines, with a thick one through their medians. ax: the axes to draw on; if None, those of a new figure. curves: the validation loss of
    each value against the epochs, instead of one score for each value; of one result. Returns the axes. Trainings that failed or diverged
    are crosses, or curves that end. ValueError: the results have different settings or monitors, or values that are not numbers.

    >>> X = np.linspace(-1, 1, 60).reshape(-1, 1)
    >>> def swept(optimizer):
    ...     def new(lr):
    ...         return bp.Trainer(bp.mlp([1, 8, 1], seed=0), loss="mse", optimizer=optimizer(lr=lr))
    ...     return bp.sweep(new, [1e-4, 1e-3, 1e-2], X, np.sin(X), epochs=10)
    >>> axes = bp.plot.sweep(swept(bp.Adam))
    >>> axes.get_xscale(), axes.get_xlabel(), axes.get_ylabel()
    ('log', 'lr', 'val_loss')
    >>> axes = bp.plot.sweep({"sgd": swept(bp.SGD), "adam": swept(bp.Adam)})
    >>> [text.get_text() for text in axes.get_legend().get_texts()]
    ['sgd: best 0.01', 'adam: best 0.01']
    >>> len(bp.plot.sweep(swept(bp.Adam), curves=True).lines)
    3
    """
    if curves:
        if isinstance(result, Mapping):
            raise ValueError("sweep: curves=True draws one result; bp.plot.compare draws the best curves of several")
        return _validation_curves(result, axes_of(ax))
    groups = lists("sweep", result) if isinstance(result, Mapping) else {"": [result]}
    first, numbers = _common([one for several in groups.values() for one in several])
    found = {label: (scores_of(label, several), best_of(label, several)) for label, several in groups.items()}
    every = np.concatenate([scores.ravel() for scores, _ in found.values()])
    axes, most, failed = axes_of(ax), np.inf if first.rises else highest(every), False
    for i, (label, (scores, best)) in enumerate(found.items()):
        values = groups[label][0].values
        places = np.array(values if numbers else range(len(values)), np.float64)
        value = written(values[best])
        line, ring = (f"{label}: best {value}", "") if label else ("validation", f"the best: {value}")
        failed |= _scores(axes, i, places, np.where(scores > most, np.nan, scores), best, line, ring)
    if failed:
        axes.plot([], [], "x", color=GREY, markersize=8, label="failed or diverged")
    _axis(axes, first, numbers)
    if not first.rises and np.nanmin(every) > 0:
        logarithmic(axes)
    style(axes, first.monitor, "upper")
    return axes


def _common(results: list[Sweep]) -> tuple[Sweep, bool]:
    """The first of results that fit into one picture, and whether their values are numbers."""
    if not all(isinstance(one, Sweep) for one in results):
        raise TypeError("sweep: pass a result of bp.sweep, or a dict of several by name")
    first = results[0]
    if any((one.name, one.monitor) != (first.name, first.monitor) for one in results):
        raise ValueError(f"sweep: all results must be of the setting {first.name!r} with the monitor {first.monitor!r}, as the first")
    numbers = all(isinstance(value, int | float | np.number) and not isinstance(value, bool) for one in results for value in one.values)
    if not numbers and any(one.values != first.values for one in results):
        raise ValueError("sweep: the results must have the same values, or values that are numbers")
    return first, numbers


def _scores(axes: Axes, i: int, places: Array, scores: Array, best: int, label: str, ring: str) -> bool:
    """The scores of the i-th setting, shape (seeds, values): a curve, a ring at the best, and crosses at the top for what failed.

    Returns whether any did.
    """
    order, middle, line = np.argsort(places, kind="stable"), np.median(scores, axis=0), line_look(i)
    draw(axes, [places[order]] * len(scores), list(scores[:, order]), line, label)
    around: Any = {"markersize": 13, "markerfacecolor": "none", "markeredgecolor": axes.xaxis.label.get_color(), "markeredgewidth": 1.6}
    axes.plot([places[best]], [middle[best]], "o", label=ring, **around)
    failed = places[np.isnan(middle)]
    cross: Any = {"color": line["color"], "markersize": 8, "transform": axes.get_xaxis_transform()}
    axes.plot(failed, np.full(len(failed), 0.98 - 0.04 * i), "x", **cross)
    return len(failed) > 0


def _axis(axes: Axes, first: Sweep, numbers: bool) -> None:
    """The x axis of a setting: logarithmic for positive numbers of several magnitudes, or with the values as texts."""
    low, high = axes.xaxis.get_data_interval()
    if not numbers:
        names = distinct([str(value) for value in first.values])
        axes.set_xticks(range(len(names)), names, rotation=45, ha="right", **as_written(*names))
    elif low > 0 and high >= 20 * low:
        axes.set_xscale("log")
    axes.set_xlabel(first.name, fontsize=12)


def _validation_curves(result: Sweep, axes: Axes) -> Axes:
    """The validation loss of each value against the epochs, from dark to light."""
    colours, most = colormaps["viridis"](np.linspace(0, 0.9, len(result.values))), np.inf if result.rises else highest(result.scores)
    curves = [[loss if loss <= most else np.nan for loss in history.get("val_loss", [])] for history in result.histories]
    for value, curve, colour in zip(result.values, curves, colours, strict=True):
        marker = "o" if len(curve) == 1 else ""
        axes.plot(range(1, len(curve) + 1), curve, color=colour, linewidth=1.5, marker=marker, label=short(f"{result.name} = {value}", 30))
    if not any(loss <= 0 for curve in curves for loss in curve):
        logarithmic(axes)
    epochs(axes)
    style(axes, "val_loss", "upper")
    return axes
