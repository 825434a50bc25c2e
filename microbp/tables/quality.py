"""The scores as text for the report and as JSON; what else to know about a training before its result is believed."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ..core.text import counted, printable
from ..data.arrays import Array
from .encodings.target import Target
from .intervals import Interval, effective, wilson
from .parts import Data
from .readers.errors import Argument, TableError
from .scores import OfClass, Scores

_SHOWN = 12  # the confusion matrix and the scores of classes are shown for at most this many classes
_NAMED = 5  # of more classes, the worst
_LINES, _BAR = 9, 40  # lines of the histogram of residuals, and characters of its longest bar
_HEADS = {"balanced_accuracy": "balanced"}  # the other columns have the names of their metrics
_PERCENT = ("accuracy", "balanced_accuracy")
_NO_BETTER = ": the model is no better; perhaps the columns do not contain the answer"
_NO_BETTER_BY = 0.5  # of the wrong rows, or of the squared error; it is said if the test rows show that the model does not save as much
_NONE_LEFT = 1e-3  # a loss below this need not fall further; a number's is in the unit of its variance
_FALL = 0.02  # by this share the validation loss must fall in the last fifth of the epochs


def facts(scores: Scores, target: Target) -> dict[str, Any]:
    """The scores as JSON: metrics by part, then intervals, classes and baseline of the test; None for what is not defined."""
    found: dict[str, Any] = {**scores.parts, "intervals": {name: pair and list(pair) for name, pair in scores.intervals.items()}}
    if scores.classes:
        found["classes"] = {name: _of_class(one) for name, one in zip(target.classes, scores.classes)}
    return found | ({"baseline": scores.baseline} if scores.baseline else {})


def _of_class(one: OfClass) -> dict[str, Any]:
    intervals = {"recall": one.recall_interval, "f1": one.f1_interval}
    return {
        "rows": one.rows,
        "recall": one.recall if one.rows else None,
        "f1": one.f1,
        "intervals": {name: pair and list(pair) for name, pair in intervals.items()},
    }


def lines(scores: Scores, target: Target) -> list[str]:
    """The scores as text: a table of parts and metrics, the baseline, and what went wrong in the test."""
    first = next(iter(scores.parts.values()))
    metrics = [name for name in first if name != "log_loss"]  # it is the loss
    found = ["".join([f"{'':12}", *(f"{_HEADS.get(column, column):>10}" for column in ("rows", *metrics))])]
    for part, rows in scores.rows.items():
        if rows:
            found.append(f"{part:12}{rows:>10,}" + "".join(cell(name, scores.parts[part].get(name)) for name in metrics))
    if not scores.rows["test"]:
        return found
    pairs = {**scores.intervals, "loss": _around(scores.intervals.get("log_loss"), scores.parts["test"].get("loss"))}
    for end, words in ((0, "  95 % from"), (1, "         to")):
        cells = [cell(name, pair[end]) if (pair := pairs.get(name)) else f"{'':10}" for name in metrics]
        found.append(f"{words:22}{''.join(cells)}".rstrip())
    found += baseline(scores)
    if scores.confusion is None:
        return found + _residuals(scores.true - scores.predicted)
    names = [printable(name) for name in target.classes]
    return found + _classes(scores.classes, names) + _confusion(scores.confusion, names)


def cell(name: str, value: float | None) -> str:
    """A metric as text of 10 characters."""
    if value is None:
        return f"{'-':>10}"
    text = f"{value:.4g}"
    return f"{100 * value:>8.2f} %" if name in _PERCENT else f"{text if len(text) < 10 else format(value, '.2g'):>10}"


def _around(interval: Interval | None, loss: float | None) -> Interval | None:
    """The interval of a log loss, which is at least 1e-7, unless the loss is even lower."""
    return interval if interval and loss is not None and interval[0] <= loss <= interval[1] else None


def baseline(scores: Scores) -> list[str]:
    """What always predicting the usual class or number would give, and whether the model is better; in one line, or none."""
    known = scores.baseline
    if not known or None in known.values():
        return []
    rows = "the test rows" if scores.weight is None else "the weight of the test rows"
    found = scores.parts["test"]
    if "accuracy" in known:
        text = f"always predicting {printable(known['value'])!r} would be right in {100 * known['accuracy']:.1f} % of {rows}"
        usual = wilson(known["accuracy"], scores.rows["test"] if scores.weight is None else effective(scores.weight))
        own = scores.intervals.get("accuracy")
        is_sure = usual and own and 1 - own[1] > _NO_BETTER_BY * (1 - usual[0])
        return [text + _NO_BETTER * bool(is_sure and found["accuracy"] <= known["accuracy"])]
    value, rmse, mae = (f"{known[name]:,.0f}" if abs(known[name]) >= 1e4 else f"{known[name]:.4g}" for name in ("value", "rmse", "mae"))
    text = f"always predicting {value}, the mean of the training rows, would have an rmse of {rmse} and an mae of {mae}"
    own = scores.intervals.get("rmse")
    is_sure = own and own[0] ** 2 > _NO_BETTER_BY * known["rmse"] ** 2
    return [text + _NO_BETTER * bool(is_sure and found["rmse"] >= known["rmse"])]


# ---- classes ----


def _classes(classes: Sequence[OfClass], names: Sequence[str]) -> list[str]:
    """Recall and F1 of each class; of many classes, those with the lowest recall."""
    if len(classes) > _SHOWN:
        order = sorted((i for i, one in enumerate(classes) if one.rows), key=lambda i: classes[i].recall)[:_NAMED]
        return [f"lowest recall: {', '.join(f'{names[i]} {100 * classes[i].recall:.1f} % of {classes[i].rows:,}' for i in order)}"]
    width = max(6, *(len(_short(name)) for name in names)) + 2
    head = f"{'class':<{width}}{'rows':>10}{'recall':>10}{'95 % interval':>20}{'f1':>10}{'95 % interval':>20}"
    return [head, *(_class_line(one, _short(name), width) for one, name in zip(classes, names))]


def _class_line(one: OfClass, name: str, width: int) -> str:
    recall = f"{100 * one.recall:.2f} %" if one.rows else "-"
    cells = f"{recall:>10}{_percents(one.recall_interval):>20}{one.f1:>10.4f}"
    pair = one.f1_interval
    return f"{name:<{width}}{one.rows:>10,}{cells}{f'{pair[0]:.4f} to {pair[1]:.4f}' if pair else '-':>20}"


def _percents(pair: Interval | None) -> str:
    return f"{100 * pair[0]:.1f} to {100 * pair[1]:.1f} %" if pair else "-"


def _short(name: str) -> str:
    return name if len(name) <= 12 else f"{name[:11]}~"


def _confusion(counts: Array, classes: Sequence[str]) -> list[str]:
    """The confusion matrix of the test rows (rows: true classes, columns: predicted); for many classes, the most frequent mistakes."""
    texts = [[f"{n:.4g}" if n % 1 else f"{n:.0f}" for n in row] for row in counts.tolist()]  # weights may be fractions
    if len(classes) <= _SHOWN:
        names = [_short(name) for name in classes]
        width = max(len(text) for text in (*names, *(text for row in texts for text in row))) + 2
        head = f"{'true':<{max(width, 6)}}" + "".join(f"{name:>{width}}" for name in names) + "  predicted"
        return [head, *(f"{name:<{max(width, 6)}}" + "".join(f"{n:>{width}}" for n in row) for name, row in zip(names, texts))]
    wrong = counts - np.diag(np.diag(counts))
    places = np.argsort(-wrong, axis=None)[:_NAMED]
    pairs = [divmod(int(place), len(classes)) for place in places]
    mistakes = [f"{classes[i]} as {classes[j]} ({texts[i][j]})" for i, j in pairs if wrong[i, j]]
    return [f"most frequent mistakes: {', '.join(mistakes) or 'none'}"]


# ---- numbers ----


def _residuals(residuals: Array) -> list[str]:
    """Quantiles and a histogram of true minus predicted. Its first and last line count the 5 % at each end, so that outliers do not spoil
    it."""
    if len(residuals) == 0:
        return []
    low, middle, high = np.quantile(residuals, [0.05, 0.5, 0.95])
    head = f"true minus predicted: median {middle:.3g}, 90 % between {low:.3g} and {high:.3g}"
    first, last = np.quantile(residuals, 0.05, method="higher"), np.quantile(residuals, 0.95, method="lower")
    if not first < last:
        return [head]
    edges = np.linspace(first, last, _LINES - 1)
    counts = [(residuals < first).sum(), *np.histogram(residuals, edges)[0], (residuals > last).sum()]
    between = (f"{left:>10.3g} to {right:>9.3g}" for left, right in itertools.pairwise(edges))
    places = [f"{'below':>10} {first:>12.3g}", *between, f"{'above':>10} {last:>12.3g}"]
    bars = ["#" * int(np.ceil(_BAR * count / max(counts))) for count in counts]
    return [head, *(f"{place} {bar} {count}" for place, bar, count in zip(places, bars, counts))]


# ---- remarks ----


def remarks(data: Data, history: Mapping[str, Sequence[float]], longer: Argument) -> Iterator[TableError]:
    """Classes without test rows, and whether the validation loss was still falling; `text` of each spells the options. longer: the argument
    for more epochs.
    """
    names = [printable(name) for name in data.not_tested]
    if names:
        listed = ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")
        yield TableError(f"the test says nothing about {counted(len(names), 'class')} without a test row: {listed}")
    if is_falling(history.get("val_loss", [])):
        yield TableError("the validation loss was still falling at the last epoch: for a better model, try ", longer)


def is_falling(losses: Sequence[float]) -> bool:
    """Whether the lowest validation loss is in the last fifth of the epochs, and at least 2 % below the lowest of those before; not if that
    is tiny.
    """
    last = -(-len(losses) // 5)
    before, after = losses[: len(losses) - last], losses[len(losses) - last :]
    lowest = float(np.min(before)) if before else 0.0
    return abs(lowest) > _NONE_LEFT and float(np.min(after)) < lowest - _FALL * abs(lowest)
