"""Plots of learning curves, of predictions, and of a range test. They need matplotlib.

Each function draws on the given axes, or on a new figure. It opens no window and does not set a matplotlib backend. It returns the axes,
which can be changed further; `axes.figure.savefig("plot.png")` saves the plot.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .core.specs import unknown
from .core.text import counted
from .settings.class_metrics import auc
from .tables.intervals import effective, wilson

try:
    from matplotlib import colormaps
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator, StrMethodFormatter

    from .drawing.axes import DPI, axes_of, style
    from .drawing.texts import as_written, distinct, number, plain, short
except ImportError:
    raise ImportError("plots need matplotlib, which is not installed: python -m pip install matplotlib") from None

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from .data.arrays import Array
    from .many.search import Sweep
    from .tables.scores import Scores
    from .training.lr_find import RangeTest

__all__ = [
    "FORMATS", "calibration", "confusion_matrix", "importance", "learning_curves", "lr_find", "predicted_against_true", "roc_curve",
    "save_report", "sweep",
]  # fmt: skip

FORMATS = (".png", ".svg", ".pdf")

_BLUE, _ORANGE, _GREY = "#1f5fa8", "#d9730d", "#555555"  # distinct for colour-blind readers and in greyscale
_DARK = "#222222"  # text on blue up to 0.65 of the colour map; on darker blue, white is easier to read
_MANY = 40  # of fewer numbers, none is an outlier
_LEGIBLE = 5.0  # the smallest legible font size in points


def save_report(
    path: str | os.PathLike[str], title: str, scores: Scores, classes: Sequence[str], history: Mapping[str, Sequence[float]]
) -> None:
    """Saves the figure of `microbp train --plot` to a file: the learning curves, and the predictions for the test rows.

    path: its extension, one of FORMATS, determines the format. title: the heading; the metric of the test rows is added to it. scores: from
    `tables.scores.measure`. classes: the class names; empty if the target is a number. history: `t.history`.
    The figure is 14 inches wide for classes, else 10, at 200 dots per inch. For two classes with probabilities it has a second row, with
    the ROC curve and the calibration.
    """
    test, is_pair = scores.parts["test"], len(classes) == 2 and "log_loss" in scores.parts["test"]
    figure = Figure(figsize=(14 if classes else 10, 9.2 if is_pair else 4.6), dpi=DPI, layout="constrained")
    figure.get_layout_engine().set(wspace=0.06)  # type: ignore[union-attr,call-arg]  # the constrained layout has this setting
    panels = _panels(figure, 3 if classes else 2, 2 if is_pair else 0)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # letters that no font contains are drawn as boxes
        _title(figure, title, _metric("accuracy", test, scores) if classes else _metric("rmse", test, scores))
        if scores.confusion is not None:
            confusion_matrix(scores.confusion, classes, ax=panels[2])
            figure.draw_without_rendering()  # computes the layout, which `_legend` needs
            learning_curves(history, "accuracy", ax=panels[1])
        else:
            predicted_against_true(scores.true, scores.predicted, ax=panels[1])
        if is_pair:
            roc_curve(scores.true, scores.predicted[:, 1], scores.weight, ax=panels[3])
            calibration(scores.true, scores.predicted[:, 1], scores.weight, ax=panels[4])
            for axes in panels[3:]:
                axes.set_title(f"class {short(' '.join(classes[1].split()), 40)}", fontsize=12, **as_written(classes[1]))
        learning_curves(history, ax=panels[0])
        figure.savefig(path)


def _panels(figure: Figure, above: int, below: int) -> list[Axes]:
    """Axes in one row, or in two rows of equal width."""
    grid = figure.add_gridspec(2 if below else 1, above * max(below, 1))
    wide, narrow = max(below, 1), above
    panels = [figure.add_subplot(grid[0, i * wide : (i + 1) * wide]) for i in range(above)]
    return panels + [figure.add_subplot(grid[1, i * narrow : (i + 1) * narrow]) for i in range(below)]


def _metric(name: str, test: Mapping[str, Any], scores: Scores) -> str:
    """The metric of the test rows with its interval, for the title."""
    value, pair = test[name], scores.intervals.get(name)
    if value is None:
        return f"test {name} -"
    if name == "accuracy":
        return f"test accuracy {100 * value:.2f} %" + (f" ({100 * pair[0]:.1f} to {100 * pair[1]:.1f} %)" if pair else "")
    return f"test RMSE {number(value)}" + (f" ({number(pair[0])} to {number(pair[1])})" if pair else "")


def _title(figure: Figure, name: str, metric: str) -> None:
    """Sets the figure's title: the name, shortened to fit, and the metric."""
    for letters in range(len(name), 1, -1):
        title = figure.suptitle(f"{short(name, letters)}: {metric}", fontsize=14, **as_written(name))
        if title.get_window_extent().width < 0.98 * figure.bbox.width:
            return


# ---- the four plots ----


def learning_curves(history: Mapping[str, Sequence[float]], name: str = "loss", ax: Axes | None = None) -> Axes:
    """Plots an entry of a trainer's history against the epochs; "loss", or the loss of an output, also plots the validation loss.

    history: lists of equal length by name, such as `t.history` or the result of `t.fit`; NaN where an epoch has no value. name: "loss",
    "val_loss", "loss_policy" of an output, "lr", "seconds", or a metric of fit. ax: the axes to draw on; if None, those of a new figure.
    Returns the axes.

    The y axis is logarithmic for losses that are all positive, and in per cent for accuracies. A ring and a dotted line mark the epoch with
    the lowest validation loss. ValueError: the history is empty, or has no entry `name`.

    >>> axes = bp.plot.learning_curves({"loss": [1.0, 0.5, 0.2], "val_loss": [1.1, 0.4, 0.6]})
    >>> [text.get_text() for text in axes.get_legend().get_texts()]
    ['training', 'validation', 'lowest validation loss: epoch 2']
    """
    history = {entry: list(values) for entry, values in history.items()}
    if not history.get("loss"):
        raise ValueError("learning_curves: the history is empty; call fit first")
    if name not in history:
        raise unknown("entry of the history", name, history)
    axes, validation = axes_of(ax), history.get("val_loss")
    is_loss = re.fullmatch(r"(val_)?loss(_.+)?", name) is not None
    if is_loss and not name.startswith("val_"):
        curves = {"training": history[name]} | ({"validation": own} if (own := history.get(f"val_{name}")) else {})
    else:
        of_rows = {"lr": "", "seconds": ""}.get(name, "validation" if validation or is_loss else "training")
        curves = {of_rows: history[name]}
    for label, values in curves.items():
        colour = _ORANGE if label == "validation" else _BLUE
        marker = "o" if np.isfinite(values).sum() == 1 else ""  # a line needs two points
        axes.plot(range(1, len(values) + 1), values, color=colour, linewidth=1.5, marker=marker, label=label)
    if validation and np.isfinite(validation).any():
        best = int(np.nanargmin(validation))
        _mark(axes, best + 1, curves.get("validation", history[name])[best])
    if is_loss and np.nanmin([value for values in curves.values() for value in values]) > 0:
        _logarithmic(axes)
    is_accuracy = name == "accuracy" or name.startswith("accuracy_")
    if is_accuracy:
        axes.set_ylim(top=min(axes.get_ylim()[1], 1.005))
        axes.yaxis.set_major_formatter(FuncFormatter(_percent))
    axes.set_xlabel("epoch", fontsize=12)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))
    style(axes, name, "lower" if is_accuracy else "upper")
    return axes


def _mark(axes: Axes, epoch: int, value: float) -> None:
    """Marks a point with a ring, and with a dotted line, which is visible among dense curves too."""
    axes.vlines(epoch, 0, 1, transform=axes.get_xaxis_transform(), colors=_GREY, linestyles="dotted", linewidth=1.2, zorder=1)
    ring: Any = {"markerfacecolor": "none", "markeredgecolor": "black", "markeredgewidth": 1.6, "markersize": 10}
    axes.plot([epoch], [value], "o", zorder=4, clip_on=False, label=f"lowest validation loss: epoch {epoch}", **ring)


def _logarithmic(axes: Axes) -> None:
    """Makes the y axis logarithmic, with labels such as 0.01 instead of powers of 10."""
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    few = LogLocator(subs=(1, 2, 5) if high < 300 * low else (1,))
    axes.yaxis.set_major_locator(few if high > 10 * low else MaxNLocator(6, steps=[1, 2, 5, 10]))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))


def _percent(share: float, _: int) -> str:
    return f"{100 * share:g} %" if share <= 1 else ""


def confusion_matrix(counts: Any, classes: Sequence[Any], ax: Axes | None = None) -> Axes:
    """Plots how often each true class (rows) was predicted as each class (columns).

    counts: shape (classes, classes); `counts[i, j]` rows of class i were predicted as class j, as in scikit-learn's confusion_matrix.
    classes: a name for each class, or any object that str() converts. ax: the axes to draw on; if None, those of a new figure. Returns
    the axes.

    Colours show the fraction of the true class, so that rare classes are visible too. If there are too many classes for legible counts,
    orange marks show the mistakes; their area grows with the fraction. If there are too many for legible names, about ten names are shown.
    ValueError: there are no classes, or counts is not square with a row per class.

    >>> axes = bp.plot.confusion_matrix([[5, 1], [0, 7]], ["cat", "dog"])
    >>> [text.get_text() for text in axes.texts]
    ['5', '1', '7']
    """
    axes, counts, names = axes_of(ax), np.asarray(counts), [" ".join(str(name).split()) for name in classes]
    if not names:
        raise ValueError("confusion_matrix: classes is empty")
    square = (len(names), len(names))
    if counts.shape != square:
        advice = "; to draw labels y and predictions p: confusion_matrix(sklearn.metrics.confusion_matrix(y, p.argmax(axis=1)), names)"
        raise ValueError(
            f"confusion_matrix: counts has shape {counts.shape}; with {counted(len(names), 'class')} it must be {square}"
            f"{advice if counts.ndim < 2 or np.ndim(classes) == 2 else ''}"
        )
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.apply_aspect()
    axes.spines[:].set_visible(False)
    axes.set_ylabel("true", fontsize=12, labelpad=8)
    cell = float(72 * axes.bbox.width / axes.figure.dpi / len(names))  # points
    texts = {place: f"{count:.3g}" if counts.dtype.kind == "f" else f"{count}" for place, count in np.ndenumerate(counts) if count}
    size = min(10, 0.6 * cell, 1.4 * cell / max(map(len, texts.values()), default=1))
    if size >= _LEGIBLE:
        for (i, j), text in texts.items():
            axes.text(j, i, text, ha="center", va="center", fontsize=size, color="white" if shares[i, j] > 0.65 else _DARK)
        axes.set_xlabel("predicted", fontsize=12)
    else:
        _mark_mistakes(axes, shares)
        axes.set_xlabel(f"predicted class (of {len(names)})\n(orange: mistakes)", fontsize=12)
    _names(axes, names, cell)
    return axes


def _mark_mistakes(axes: Axes, shares: Array) -> None:
    true, predicted = np.nonzero(shares * ~np.eye(len(shares), dtype=bool))
    area = (6 + 40 * shares[true, predicted]) * min(1, (200 / max(len(true), 1)) ** 0.5)  # smaller if there are many marks
    axes.scatter(predicted, true, s=area, c=_ORANGE, alpha=0.8, linewidths=0, rasterized=True)


def _names(axes: Axes, names: Sequence[str], cell: float) -> None:
    """Draws class names on both axes, slanted on the x axis if they would touch. cell: the width of a cell in points."""
    step = 1 if 0.65 * cell >= _LEGIBLE else -(-len(names) // 10)
    places, labels = range(0, len(names), step), distinct(names[::step])
    look: Any = {"fontsize": min(10, 0.65 * cell * step), **as_written(*labels)}
    axes.set_yticks(places, labels, **look)
    axes.set_xticks(places, labels, **look)
    axes.tick_params(length=0 if step == 1 else 3)
    if max(label.get_window_extent().width for label in axes.get_xticklabels()) > 0.9 * cell * step * axes.figure.dpi / 72:
        axes.set_xticks(places, labels, rotation=45, ha="right", rotation_mode="anchor", **look)


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
    look: Any = {"color": _BLUE, "markeredgewidth": 0, "rasterized": True}
    axes.plot(true[~outside & known], predicted[~outside & known], "o", markersize=5, alpha=alpha, label="rows", **look)
    axes.plot([low, high], [low, high], color=_ORANGE, linewidth=1.5, label="predicted = true")
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
            axes.plot(x[rows], y[rows], marker, color=_ORANGE, markersize=7, label=label, zorder=4, rasterized=True)
            label = None


# ---- two classes ----


def roc_curve(y: Any, probabilities: Any, sample_weight: Any = None, ax: Axes | None = None) -> Axes:
    """Plots the ROC curve: the fraction of rows of class 1 above each threshold, against the same fraction of class 0.

    y: (rows,), 0 or 1. probabilities: (rows,), of class 1. sample_weight: (rows,), by default all 1. ax: the axes to draw on; if None,
    those of a new figure. Returns the axes; the legend has the area under the curve, `bp.auc`. ValueError: a class does not occur.

    >>> axes = bp.plot.roc_curve([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8])
    >>> [text.get_text() for text in axes.get_legend().get_texts()]
    ['area under the curve: 0.7500', 'chance: 0.5']
    """
    axes, (y, chances, weight) = axes_of(ax), _pair("roc_curve", y, probabilities, sample_weight)
    if not (weight @ y > 0 and weight @ (1 - y) > 0):
        raise ValueError("roc_curve: y must contain both 0 and 1, with a weight above 0")
    order = np.argsort(-chances, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(chances[order])), len(y) - 1)  # of equal probabilities, only all together
    found, false = (np.append(0.0, np.cumsum((weight * rows)[order])[ends]) for rows in (y, 1 - y))
    area = auc(y, chances, weight, "bce")
    axes.plot(false / false[-1], found / found[-1], color=_BLUE, linewidth=1.5, label=f"area under the curve: {area:.4f}")
    axes.plot([0, 1], [0, 1], color=_GREY, linestyle="dotted", linewidth=1.2, label="chance: 0.5")
    _unit_square(axes, "false positive rate", "true positive rate")
    return axes


def calibration(y: Any, probabilities: Any, sample_weight: Any = None, ax: Axes | None = None) -> Axes:
    """Plots how often rows with a predicted probability are of class 1; points below the diagonal: the probabilities are too high.

    The rows are put into up to ten bins of equal numbers of rows, in the order of their probabilities. Arguments and result: as in
    roc_curve. A point has Wilson's 95 % interval. Source: Niculescu-Mizil & Caruana 2005.

    >>> axes = bp.plot.calibration([0, 1] * 50, [0.4, 0.6] * 50)
    >>> axes.lines[0].get_xydata().round(1).tolist()
    [[0.4, 0.0], [0.6, 1.0]]
    """
    axes, (y, chances, weight) = axes_of(ax), _pair("calibration", y, probabilities, sample_weight)
    bins = np.searchsorted(np.unique(np.quantile(chances, np.linspace(0, 1, 11)[1:-1])), chances, side="left")
    points = []
    for rows in (bins == one for one in np.unique(bins)):
        share = float(np.average(y[rows], weights=weight[rows]))
        low, high = wilson(share, effective(weight[rows])) or (share, share)
        points.append((np.average(chances[rows], weights=weight[rows]), share, share - low, high - share))
    x, shares, below, above = np.transpose(points)
    axes.plot(x, shares, "o-", color=_BLUE, linewidth=1.5, label="rows, in bins of equal size")
    axes.errorbar(x, shares, yerr=np.maximum([below, above], 0), fmt="none", ecolor=_BLUE, elinewidth=1, capsize=2)
    axes.plot([0, 1], [0, 1], color=_ORANGE, linewidth=1.5, label="share = probability")
    _unit_square(axes, "predicted probability", "share of the class")
    return axes


def _pair(what: str, y: Any, probabilities: Any, sample_weight: Any) -> tuple[Array, Array, Array]:
    """Labels, probabilities and weights as float64, without rows of weight 0."""
    y, chances = (np.asarray(values, dtype=np.float64).reshape(-1) for values in (y, probabilities))
    weight = np.ones(len(y)) if sample_weight is None else np.asarray(sample_weight, dtype=np.float64).reshape(-1)
    if not len(y) == len(chances) == len(weight) > 0:
        lengths = f"y has length {len(y)}, probabilities {len(chances)} and sample_weight {len(weight)}"
        raise ValueError(f"{what}: {lengths}; the lengths must be equal and at least 1")
    if not np.isin(y, (0, 1)).all():
        raise ValueError(f"{what}: y must be 0 or 1; for class k of several: y == k, and probabilities[:, k]")
    return y[weight > 0], chances[weight > 0], weight[weight > 0]


def _unit_square(axes: Axes, x: str, y: str) -> None:
    axes.set_aspect("equal")
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.02, 1.02)
    axes.set_xlabel(x, fontsize=12)
    style(axes, y, "lower")
    axes.set_xlim(axes.get_ylim())


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
    axes.plot(result.lrs, result.losses, color=_GREY, linewidth=1, alpha=0.5, label="loss of the batch")
    axes.plot(result.lrs, result.smoothed, color=_BLUE, linewidth=2, label="smoothed")
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
        axes.plot([rate], [height], color=_ORANGE, linestyle="None", markeredgewidth=2, label=label, **look)
    axes.set_xlabel("learning rate", fontsize=12)
    style(axes, "loss", "upper")
    return axes


def sweep(result: Sweep, ax: Axes | None = None, *, curves: bool = False) -> Axes:
    """Plots the score of each value of a sweep, or its validation curves; `result.plot()` does the same.

    result: from `bp.sweep`. ax: the axes to draw on; if None, those of a new figure. curves: the validation loss of each value against the
    epochs, instead of one score for each value. Returns the axes. Trainings that failed or diverged are grey crosses, or curves
    that end.

    >>> X = np.linspace(-1, 1, 60).reshape(-1, 1)
    >>> def new(lr):
    ...     return bp.Trainer(bp.mlp([1, 8, 1], seed=0), loss="mse", optimizer=bp.Adam(lr=lr))
    >>> result = bp.sweep(new, [1e-4, 1e-3, 1e-2], X, np.sin(X), epochs=10)
    >>> axes = bp.plot.sweep(result)
    >>> axes.get_xscale(), axes.get_xlabel(), axes.get_ylabel()
    ('log', 'lr', 'val_loss')
    >>> len(bp.plot.sweep(result, curves=True).lines)
    3
    """
    axes = axes_of(ax)
    if curves:
        return _validation_curves(result, axes)
    is_number = all(isinstance(value, int | float | np.number) and not isinstance(value, bool) for value in result.values)
    numbers = np.array([float(value) for value in result.values] if is_number else range(len(result.values)))
    order = np.argsort(numbers, kind="stable")
    places, scores = numbers[order], np.where(result.scores > _most(result), np.nan, result.scores)[order]
    axes.plot(places, scores, color=_BLUE, linewidth=1.5, marker="o", label="validation")
    best = int(np.nanargmax(scores if result.rises else -scores))
    axes.plot(
        [places[best]], [scores[best]], color=_ORANGE, linestyle="None", marker="o", markersize=13, markerfacecolor="none",
        markeredgewidth=2, label=f"the best: {short(str(result.best), 30)}",
    )  # fmt: skip
    failed = places[np.isnan(scores)]
    if len(failed):
        axes.plot(
            failed,
            np.full(len(failed), np.nanmedian(scores)),
            color=_GREY,
            linestyle="None",
            marker="x",
            markersize=8,
            label="failed or diverged",
        )
    if is_number and places[0] > 0 and places[-1] >= 20 * places[0]:
        axes.set_xscale("log")
    elif not is_number:
        names = distinct([str(result.values[i]) for i in order])
        axes.set_xticks(places, names, rotation=45, ha="right", **as_written(*names))
    if not result.rises and np.nanmin(scores) > 0:
        _logarithmic(axes)
    axes.set_xlabel(result.name, fontsize=12)
    style(axes, result.monitor, "upper")
    return axes


def _validation_curves(result: Sweep, axes: Axes) -> Axes:
    """The validation loss of each value against the epochs, from dark to light."""
    colours = colormaps["viridis"](np.linspace(0, 0.9, len(result.values)))
    curves = [[loss if loss <= _most(result) else np.nan for loss in history.get("val_loss", [])] for history in result.histories]
    for value, curve, colour in zip(result.values, curves, colours, strict=True):
        marker = "o" if len(curve) == 1 else ""
        axes.plot(range(1, len(curve) + 1), curve, color=colour, linewidth=1.5, marker=marker, label=short(f"{result.name} = {value}", 30))
    if not any(loss <= 0 for curve in curves for loss in curve):
        _logarithmic(axes)
    axes.set_xlabel("epoch", fontsize=12)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))
    style(axes, "val_loss", "upper")
    return axes


def _most(result: Sweep) -> float:
    """The highest loss to draw: much higher ones, of trainings that diverged, would leave no room for the others."""
    median = float(np.nanmedian(result.scores))
    return 30 * median if median > 0 and not result.rises else np.inf


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
    axes.barh(places, values, color=_BLUE)
    axes.set_yticks(places, distinct(list(names)), **as_written("".join(names)))
    axes.invert_yaxis()
    axes.set_xlabel("increase of the loss", fontsize=12)
    axes.grid(axis="x", alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    return axes
