"""Predictions of classes: the confusion matrix; for two classes the ROC curve and the calibration."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..core.text import counted
from ..drawing.axes import BLUE, DARK, GREY, ORANGE, axes_of, style
from ..drawing.texts import as_written, distinct
from ..settings.class_metrics import auc
from ..tables.intervals import effective, wilson

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from ..data.arrays import Array

_LEGIBLE = 5.0  # the smallest legible font size in points


def confusion_matrix(counts: Any, classes: Sequence[Any], ax: Axes | None = None) -> Axes:
    """Plots how often each true class (rows) was predicted as each class (columns).

    counts: shape (classes, classes); `counts[i, j]` rows of class i were predicted as class j, as in scikit-learn's confusion_matrix.
    classes: a name for each class, or any object that str() converts. ax: the axes to draw on; if None, those of a new figure. Returns
    the axes.

    Colours show the fraction of the true class, so that rare classes are visible too. If there are too many classes for legible counts,
    orange marks show the mistakes; their area grows with the fraction. If there are too many for legible names, about ten names are shown.
    ValueError: classes is empty, or counts is not square with a row per class.

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
            axes.text(j, i, text, ha="center", va="center", fontsize=size, color="white" if shares[i, j] > 0.65 else DARK)
        axes.set_xlabel("predicted", fontsize=12)
    else:
        _mark_mistakes(axes, shares)
        axes.set_xlabel(f"predicted class (of {len(names)})\n(orange: mistakes)", fontsize=12)
    _names(axes, names, cell)
    return axes


def _mark_mistakes(axes: Axes, shares: Array) -> None:
    true, predicted = np.nonzero(shares * ~np.eye(len(shares), dtype=bool))
    area = (6 + 40 * shares[true, predicted]) * min(1, (200 / max(len(true), 1)) ** 0.5)  # smaller if there are many marks
    axes.scatter(predicted, true, s=area, c=ORANGE, alpha=0.8, linewidths=0, rasterized=True)


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
    axes.plot(false / false[-1], found / found[-1], color=BLUE, linewidth=1.5, label=f"area under the curve: {area:.4f}")
    axes.plot([0, 1], [0, 1], color=GREY, linestyle="dotted", linewidth=1.2, label="chance: 0.5")
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
    axes.plot(x, shares, "o-", color=BLUE, linewidth=1.5, label="rows, in bins of equal size")
    axes.errorbar(x, shares, yerr=np.maximum([below, above], 0), fmt="none", ecolor=BLUE, elinewidth=1, capsize=2)
    axes.plot([0, 1], [0, 1], color=ORANGE, linewidth=1.5, label="share = probability")
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
