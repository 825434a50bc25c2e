"""The figure of `microbp train --plot`."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure

from ..drawing.axes import DPI
from ..drawing.texts import as_written, number, short
from .classes import calibration, confusion_matrix, roc_curve
from .curves import learning_curves
from .numbers import predicted_against_true

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from ..tables.scores import Scores

FORMATS = (".png", ".svg", ".pdf")


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
