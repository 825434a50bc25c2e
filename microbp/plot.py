"""Plots of learning curves, of predictions, and of a range test. They need matplotlib.

Each function draws on the given axes, or on a new figure. It opens no window and does not set a matplotlib backend. It returns the axes,
which can be changed further; `axes.figure.savefig("plot.png")` saves the plot.
"""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .core.specs import unknown
from .core.text import counted

try:
    from matplotlib import font_manager
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator, StrMethodFormatter
except ImportError:
    raise ImportError("plots need matplotlib, which is not installed: python -m pip install matplotlib") from None

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

    from .data.arrays import Array
    from .tables.scores import Scores
    from .training.lr_find import RangeTest

__all__ = ["FORMATS", "confusion_matrix", "learning_curves", "lr_find", "predicted_against_true", "save_report"]

FORMATS = (".png", ".svg", ".pdf")

_BLUE, _ORANGE, _GREY = "#1f5fa8", "#d9730d", "#555555"  # distinct for colour-blind readers and in greyscale
_DARK = "#222222"  # text on blue up to 0.65 of the colour map; on darker blue, white is easier to read
_DPI = 200
_LEGIBLE = 5.0  # the smallest legible font size in points
_LETTERS = 14  # the maximum number of letters of a class name
_ROOM = 14  # the distance between a legend and the lines in points


def save_report(
    path: str | os.PathLike[str], title: str, scores: Scores, classes: Sequence[str], history: Mapping[str, Sequence[float]]
) -> None:
    """Saves the figure of `microbp train --plot` to a file: the learning curves, and the predictions for the test rows.

    path: its extension, one of FORMATS, determines the format. title: the heading; the metric of the test rows is added to it. scores: from
    `tables.scores.measure`. classes: the class names; empty if the target is a number. history: `t.history`.
    The figure is 14 inches wide for classes, else 10, at 200 dots per inch.
    """
    test = scores.parts["test"]
    figure = Figure(figsize=(14 if classes else 10, 4.6), dpi=_DPI, layout="constrained")
    figure.get_layout_engine().set(wspace=0.06)  # type: ignore[union-attr,call-arg]  # the constrained layout has this setting
    panels = figure.subplots(1, 3 if classes else 2)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # letters that no font contains are drawn as boxes
        _title(figure, title, f"test accuracy {100 * test['accuracy']:.2f} %" if classes else f"test RMSE {test['rmse']:.4g}")
        if scores.confusion is not None:
            confusion_matrix(scores.confusion, classes, ax=panels[2])
            figure.draw_without_rendering()  # computes the layout, which `_legend` needs
            learning_curves(history, "accuracy", ax=panels[1])
        else:
            predicted_against_true(scores.true, scores.predicted, ax=panels[1])
        learning_curves(history, ax=panels[0])
        figure.savefig(path)


def _title(figure: Figure, name: str, metric: str) -> None:
    """Sets the figure's title: the name, shortened to fit, and the metric."""
    for letters in range(len(name), 1, -1):
        title = figure.suptitle(f"{_short(name, letters)}: {metric}", fontsize=14, **_as_written(name))
        if title.get_window_extent().width < 0.98 * figure.bbox.width:
            return


# ---- the four plots ----


def learning_curves(history: Mapping[str, Sequence[float]], name: str = "loss", ax: Axes | None = None) -> Axes:
    """Plots an entry of a trainer's history against the epochs; "loss" also plots the validation loss.

    history: lists of equal length by name, such as `t.history` or the result of `t.fit`; NaN where an epoch has no value. name: "loss",
    "val_loss", "lr", "seconds", or a metric of fit. ax: the axes to draw on; if None, those of a new figure. Returns the axes.

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
    axes, validation = _axes(ax), history.get("val_loss")
    if name == "loss":
        curves = {"training": history["loss"]} | ({"validation": validation} if validation else {})
    else:
        of_rows = {"lr": "", "seconds": "", "val_loss": "validation"}.get(name, "validation" if validation else "training")
        curves = {of_rows: history[name]}
    for label, values in curves.items():
        colour = _ORANGE if label == "validation" else _BLUE
        marker = "o" if np.isfinite(values).sum() == 1 else ""  # a line needs two points
        axes.plot(range(1, len(values) + 1), values, color=colour, linewidth=1.5, marker=marker, label=label)
    if validation and np.isfinite(validation).any():
        best = int(np.nanargmin(validation))
        _mark(axes, best + 1, curves.get("validation", history[name])[best])
    if name in ("loss", "val_loss") and np.nanmin([value for values in curves.values() for value in values]) > 0:
        _logarithmic(axes)
    if name == "accuracy":
        axes.set_ylim(top=1.005)
        axes.yaxis.set_major_formatter(FuncFormatter(_percent))
    axes.set_xlabel("epoch", fontsize=12)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))
    _style(axes, name, "lower" if name == "accuracy" else "upper")
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
    axes, counts, names = _axes(ax), np.asarray(counts), [" ".join(str(name).split()) for name in classes]
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
    places, labels = range(0, len(names), step), _distinct(names[::step])
    look: Any = {"fontsize": min(10, 0.65 * cell * step), **_as_written(*labels)}
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
    axes, true, predicted = _axes(ax), np.asarray(true).reshape(-1), np.asarray(predicted).reshape(-1)
    if true.shape != predicted.shape or len(true) == 0:
        raise ValueError(
            f"predicted_against_true: true has length {len(true)} and predicted {len(predicted)}; the lengths must be equal and at least 1"
        )
    ends = [min(true.min(), predicted.min()), max(true.max(), predicted.max())]
    alpha = min(1.0, max(0.1, 20 / len(true) ** 0.5))
    axes.plot(true, predicted, "o", color=_BLUE, markersize=5, markeredgewidth=0, alpha=alpha, label="rows", rasterized=True)
    axes.plot(ends, ends, color=_ORANGE, linewidth=1.5, label="predicted = true")
    axes.set_aspect("equal")
    axes.set_ylim(axes.get_xlim())
    axes.set_xlabel("true", fontsize=12)
    _style(axes, "predicted", "upper")
    axes.set_xlim(axes.get_ylim())  # the legend may have changed the y limits
    return axes


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
    axes = _axes(ax)
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
        ({"marker": "s", "markersize": 7}, lowest, f"lowest at {lowest:.2g} (minimum, a tenth: {result.minimum:.2g})"),
    ]
    for look, rate, label in marks:
        height = np.interp(rate, result.lrs, result.smoothed)
        axes.plot([rate], [height], color=_ORANGE, linestyle="None", markeredgewidth=2, label=label, **look)
    axes.set_xlabel("learning rate", fontsize=12)
    _style(axes, "loss", "upper")
    return axes


# ---- axes and legends ----


def _axes(ax: Axes | None) -> Axes:
    """The given axes, or those of a new figure, which opens no window."""
    return Figure(figsize=(7, 4.4), dpi=_DPI, layout="constrained").subplots() if ax is None else ax


def _style(axes: Axes, what: str, edge: str) -> None:
    axes.set_ylabel(what, fontsize=12, **_as_written(what))
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    if axes.get_legend_handles_labels()[1]:
        _legend(axes, edge)


def _legend(axes: Any, edge: str) -> None:
    """Adds a legend in a corner where it covers no line. If there is no such corner, extends the y axis at `edge` to make room. A
    legend higher than half of the axes is placed to the right of the axes.
    """
    look: Any = {"fontsize": 10, "labelspacing": 0.3, "edgecolor": "none", "framealpha": 1}
    axes.apply_aspect()
    size = np.array(axes.legend(**look).get_window_extent().size) + _ROOM * axes.figure.dpi / 72
    width, height = size / axes.bbox.size  # as fractions of the axes
    if height > 0.5:
        axes.legend(loc="upper left", bbox_to_anchor=(1, 1), **look)
        return
    drawn = np.concatenate([_drawn(line, axes) for line in axes.lines])
    x, y = {"right": 1 - drawn[:, 0], "left": drawn[:, 0]}, {"upper": 1 - drawn[:, 1], "lower": drawn[:, 1]}
    corners = [(at, side) for at in sorted(y, key=edge.__ne__) for side in x]
    room = {(at, side): y[at][x[side] < width].min(initial=height) for at, side in corners}
    at, side = next((corner for corner in corners if room[corner] >= height), max(corners[:2], key=lambda corner: room[corner]))
    scale = axes.yaxis.get_transform()
    low, high = scale.transform(np.array(axes.get_ylim()))
    grown = (high - low) * (height - room[at, side]) / (1 - height)
    ends = scale.inverted().transform(np.array([low - grown * (at == "lower"), high + grown * (at == "upper")]))
    axes.set_ylim(*ends)
    axes.legend(loc=f"{at} {side}", **look)


def _drawn(line: Line2D, axes: Axes) -> Array:
    """Points along a line, shape (points, 2), as fractions of the axes."""
    path = (line.get_transform() - axes.transAxes).transform_path(line.get_path())
    return np.asarray((path if line.get_linestyle() == "None" else path.interpolated(16)).vertices)


# ---- names from users ----


def _as_written(*texts: str) -> dict[str, Any]:
    """Text settings for names from users: no mathtext or TeX, and a fallback font for letters that the default font does not contain."""
    usual = font_manager.FontProperties()
    missing = {ord(letter) for letter in "".join(texts)} - font_manager.get_font(font_manager.findfont(usual)).get_charmap().keys()
    families = usual.get_family()
    if missing:
        families = [*families, *_font_with(missing)]
    return {"parse_math": False, "usetex": False, "fontfamily": families}


def _font_with(letters: set[int]) -> list[str]:
    """A list with the name of an installed font that has these letters, preferably sans serif; empty if there is none."""
    for font in sorted(font_manager.fontManager.ttflist, key=lambda font: ("sans" not in font.name.lower(), font.name)):
        with contextlib.suppress(OSError, RuntimeError):  # matplotlib cannot read some fonts
            if not font.name.startswith("Last Resort") and letters <= font_manager.get_font(font.fname).get_charmap().keys():
                return [font.name]
    return []


def _distinct(names: Sequence[str]) -> list[str]:
    """Shortens names to labels that are all different: omits their common start or, if that is not enough, adds their indices."""
    if max(map(len, names)) <= _LETTERS and len(set(names)) == len(names):
        return list(names)
    start = os.path.commonprefix(names)  # noqa: RUF071  # compares letters, not folders
    for common in (start.rstrip().rfind(" ") + 1, len(start)):  # first keep the last common word
        labels = [_short(f"{'…' * (common > 0)}{name[common:]}", _LETTERS) for name in names]
        if len(set(labels)) == len(names):
            return labels
    return [_short(f"{i} {name}", _LETTERS) for i, name in enumerate(names)]


def _short(text: str, letters: int) -> str:
    """A text shortened to this many letters; the middle is omitted."""
    tail = (letters - 1) // 2
    return text if len(text) <= letters else f"{text[: letters - 1 - tail].rstrip()}…{text[len(text) - tail :].lstrip()}"
