"""Loss and metrics of a trained network on each part of the rows, with 95 % intervals for the test."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from ..core.specs import Loss
from ..data.arrays import Array
from ..settings import class_metrics, number_metrics
from ..settings.decisions import NO_LABEL, read
from . import intervals
from .intervals import Interval
from .parts import Data, Part
from .predictor import Predictor

_KEPT = 10_000  # of a part with more rows, every n-th row is kept: for the intervals, and in a stream for the AUC
_ONE_CLASS = Loss("cross_entropy")  # with each loss, a row of a table has one class


@dataclass(frozen=True)
class OfClass:
    """The quality of the predictions for one class of the test rows. recall: the fraction of its rows that are right, NaN without rows."""

    rows: int
    recall: float
    f1: float
    recall_interval: Interval | None
    f1_interval: Interval | None


@dataclass(frozen=True)
class Scores:
    """The metrics of each part, all weighted if rows have weights. For the test part also their 95 % intervals (intervals.py), the
    confusion matrix and the score of each class, and some rows.

    Metrics of classes: loss, accuracy, balanced_accuracy, auc (for more than two classes, the mean over them), and log_loss for losses with
    probabilities. Of numbers, in the target's unit: loss (in the scaled unit), rmse, mae, and r2. A metric is None where it is not
    defined: r2 of one row, auc without a class, a number that overflows.
    """

    parts: dict[str, dict[str, Any]]  # by part and metric
    rows: dict[str, int]  # number of rows by part
    confusion: Array | None = None  # (classes, classes); [i, j]: the number of rows of class i predicted as class j, or their weights
    true: Array = field(default_factory=lambda: np.empty(0))  # (rows,): numbers in the target's unit, or classes
    predicted: Array = field(default_factory=lambda: np.empty(0))  # the same for numbers; for classes the outputs, (rows, classes)
    weight: Array | None = None  # (rows,), of the rows of `true` and `predicted`; these are all, or of more than 10,000 every n-th
    intervals: dict[str, Interval | None] = field(default_factory=dict)  # of the test's metrics
    classes: tuple[OfClass, ...] = ()
    baseline: dict[str, Any] = field(default_factory=dict)  # always predicting `value`, the majority class or the mean of the training rows


def measure(predictor: Predictor, data: Data, validated: Predictor | None = None) -> Scores:
    """Evaluates the predictions on all parts that the data has; there is a baseline if it has training rows.

    validated: predicts the validation rows, if the other has been trained on them.
    """
    tallies: dict[str, _Tally] = {}
    for part, pieces in data.parts.items():
        judged = validated if validated and part == "validation" else predictor
        tallies[part] = _Tally(judged, pieces(), data, tallies["train"].usual if "train" in tallies else None)
    test, target = tallies["test"], data.preparation.target
    true, predicted, weight = test.kept()
    return Scores(
        parts={part: tally.scores() for part, tally in tallies.items()},
        rows={part: tally.count for part, tally in tallies.items()},
        confusion=test.confusion if target.classes else None,
        true=true if target.classes else true[:, 0],
        predicted=predicted if target.classes else predicted[:, 0],
        weight=weight,
        intervals=test.intervals(),
        classes=test.of_classes(),
        baseline=test.baseline(),
    )


def _known(value: float) -> float | None:
    """A metric; None for NaN and infinity."""
    return float(value) if math.isfinite(value) else None


def _square(value: float) -> float:
    return value * value  # infinite if it overflows, unlike value ** 2


class _Tally:
    """Sums over the rows of a part, and the metrics computed from them. usual: what the baseline predicts, None without one."""

    def __init__(self, predictor: Predictor, pieces: Iterable[Part], data: Data, usual: float | None) -> None:
        self.target, self.loss = data.preparation.target, data.loss
        self.count = 0
        self.confusion = np.zeros((data.preparation.outputs, data.preparation.outputs))
        self._usual = usual
        self._weight = 0.0
        self._sums: dict[str, float] = {}  # of metrics that are means over the rows, times their weights
        self._total = self._mean = 0.0  # of numbers: the sum of the squared differences from the mean, and the mean
        self._residual = 0.0
        self._kept: list[tuple[Array, Array, Array]] = []  # as in `kept`
        self._step = 1
        for piece in pieces:
            self._add(predictor, piece)

    @property
    def usual(self) -> float:
        """The class with the largest weight, or the mean."""
        return int(self.confusion.sum(axis=1).argmax()) if self.target.classes else self._mean

    def kept(self) -> tuple[Array, Array, Array | None]:
        """Labels and outputs, or true and predicted numbers, and the weights: of at most _KEPT rows, or of all rows of a part in memory."""
        if not self._kept:
            return np.empty((0, 1)), np.empty((0, 1)), None
        y, outputs, weight = (np.concatenate(arrays) for arrays in zip(*self._kept))
        return y, outputs, None if (weight == 1).all() else weight

    # ---- sums ----

    def _add(self, predictor: Predictor, part: Part) -> None:
        there = slice(None) if part.weight is None else part.weight > 0
        x, y = part.x[there], part.y[there]
        weight = np.ones(len(x)) if part.weight is None else part.weight[there].astype(np.float64)
        if len(x) == 0:
            return
        outputs, total = predictor.predict(x), float(weight.sum())
        means = {"loss": predictor.evaluate(x, y, weight)}
        if self.target.classes:
            y = self._add_classes(y, outputs, weight, means)
        else:
            y, outputs = self.target.true(y.reshape(outputs.shape)), self.target.numbers(outputs)
            self._add_numbers(y, outputs, weight, means)
        for name, mean in means.items():
            self._sums[name] = self._sums.get(name, 0.0) + mean * total
        self.count += len(x)
        self._weight += total
        self._keep(y, outputs, weight)

    def _add_classes(self, y: Array, outputs: Array, weight: Array, means: dict[str, float]) -> Array:
        """Returns the labels."""
        case = read(y, outputs, loss=_ONE_CLASS)
        true, decided = case.true[:, 0], case.decided[:, 0]
        is_known = decided != NO_LABEL
        np.add.at(self.confusion, (true[is_known], decided[is_known]), weight[is_known])
        means["accuracy"] = class_metrics.accuracy(true, outputs, weight, _ONE_CLASS)
        if self.loss.detail in ("softmax", "sigmoid"):
            means["log_loss"] = class_metrics.log_loss(y, outputs, weight, self.loss)
        return true

    def _add_numbers(self, y: Array, outputs: Array, weight: Array, means: dict[str, float]) -> None:
        """Also updates the sums of squares as `Summary` does."""
        total = weight.sum()
        means |= {"square": _square(number_metrics.rmse(y, outputs, weight)), "mae": number_metrics.mae(y, outputs, weight)}
        if self._usual is not None:
            usual = np.full(y.shape, self._usual)
            means |= {"usual square": _square(number_metrics.rmse(y, usual, weight)), "usual mae": number_metrics.mae(y, usual, weight)}
        with np.errstate(over="ignore", invalid="ignore"):
            mean = float(np.average(y[:, 0], weights=weight))
            gap, share = mean - self._mean, total / (self._weight + total)
            self._residual += float(weight @ (y[:, 0] - outputs[:, 0]) ** 2)
            self._total += float(weight @ (y[:, 0] - mean) ** 2 + gap * gap * self._weight * share)
            self._mean += float(gap * share)

    def _keep(self, y: Array, outputs: Array, weight: Array) -> None:
        """Keeps every row, in a stream every n-th: n doubles whenever there are too many."""
        skipped = -(self.count - len(y)) % self._step
        rows = slice(skipped, None, self._step)
        self._kept.append((y[rows], outputs[rows], weight[rows]))
        while len(self._kept) > 1 and sum(len(one) for one, _, _ in self._kept) > _KEPT:
            y, outputs, weight = (np.concatenate(arrays)[::2] for arrays in zip(*self._kept))
            self._kept, self._step = [(y, outputs, weight)], 2 * self._step

    # ---- metrics ----

    def scores(self) -> dict[str, Any]:
        """The metrics of all rows; for AUC in a stream of the kept rows. Empty if there are no rows."""
        if self.count == 0:
            return {}
        mean = {name: value / self._weight for name, value in self._sums.items()}
        if self.target.classes:
            found = {name: function(*self.kept()) for name, function in self._of_rows().items() if name != "log_loss"}
            found = {"loss": mean["loss"], "accuracy": mean["accuracy"], **found, "balanced_accuracy": self._balanced(self.confusion)}
            order = ("loss", "accuracy", "balanced_accuracy", "auc", "log_loss")
            found |= {name: mean[name] for name in mean if name == "log_loss"}
            return {name: _known(found[name]) for name in order if name in found}
        r2 = float(number_metrics.explained(np.array(self._residual), np.array(self._total))) if self.count > 1 else math.nan
        found = {"loss": mean["loss"], "rmse": math.sqrt(mean["square"]), "mae": mean["mae"], "r2": r2}
        return {name: _known(value) for name, value in found.items()}

    def _of_rows(self) -> dict[str, Callable[..., float]]:
        """Metrics as functions of (targets or labels, outputs, weights)."""
        if not self.target.classes:
            return {"rmse": number_metrics.rmse, "mae": number_metrics.mae, "r2": number_metrics.r2}
        found: dict[str, Callable[..., float]] = {"auc": lambda y, outputs, weight: class_metrics.auc(y, outputs, weight, _ONE_CLASS)}
        if self.loss.detail == "softmax":
            found["log_loss"] = lambda y, outputs, weight: class_metrics.log_loss(y, outputs, weight, self.loss)
        if self.loss.detail == "sigmoid":
            columns = np.arange(len(self.target.classes))
            found["log_loss"] = lambda y, outputs, weight: class_metrics.log_loss(
                (y[:, None] == columns).astype(np.float64), outputs, weight, self.loss
            )
        return found

    @staticmethod
    def _balanced(confusion: Array) -> float:
        """The balanced accuracy: of a row for each cell of the confusion matrix."""
        true, decided = np.nonzero(confusion)
        return class_metrics.balanced_accuracy(true, np.eye(len(confusion))[decided], confusion[true, decided], _ONE_CLASS)

    def baseline(self) -> dict[str, Any]:
        """What always predicting the usual class or number would give."""
        if self.count == 0 or self._usual is None:
            return {}
        if self.target.classes:
            share = self.confusion[int(self._usual)].sum() / self.confusion.sum()
            return {"value": self.target.classes[int(self._usual)], "accuracy": _known(share)}
        errors = {name: self._sums[f"usual {name}"] / self._weight for name in ("square", "mae")}
        return {"value": _known(self._usual), "rmse": _known(math.sqrt(errors["square"])), "mae": _known(errors["mae"])}

    # ---- intervals ----

    def intervals(self) -> dict[str, Interval | None]:
        """The interval of each metric but the loss. Those by the jackknife use at most _KEPT rows, and are narrowed for the others."""
        if self.count == 0:
            return {}
        y, outputs, weight, group = self._sample()
        count, of_all = int(group.max()) + 1, math.sqrt(len(y) / self.count)
        values, found = self.scores(), {}
        for name, function in self._of_rows().items():
            without = partial(_without, function, y, outputs, weight, group)
            error = of_all * intervals.standard_error(without, count)
            found[name] = self._interval(name, values[name], error, count)
        if not self.target.classes:
            return found
        tables = self._tables(y, outputs, weight, group)
        error = of_all * intervals.standard_error(lambda g: self._balanced(tables.sum(axis=0) - tables[g]), count)
        found["balanced_accuracy"] = self._interval("balanced_accuracy", values["balanced_accuracy"], error, count)
        found["accuracy"] = intervals.wilson(values["accuracy"], intervals.effective(weight) / of_all**2)
        return {name: found[name] for name in values if name in found}

    def _sample(self) -> tuple[Array, Array, Array, Array]:
        """Labels or targets, outputs, weights and jackknife groups of at most _KEPT rows."""
        y, outputs, weight = self.kept()
        weight = np.ones(len(y)) if weight is None else weight
        rows = slice(None, None, -(-len(y) // _KEPT))
        y, outputs, weight = y[rows], outputs[rows], weight[rows]
        return y, outputs, weight, intervals.groups(y if self.target.classes else np.zeros(len(y), np.int64))

    def _interval(self, name: str, value: float | None, error: float, count: int) -> Interval | None:
        if value is None:
            return None
        if name == "r2":
            around = intervals.of_error(1 - value, error, count)
            return around and (1 - around[1], 1 - around[0])
        if name in ("auc", "balanced_accuracy"):
            rows = self.confusion.sum(axis=1)
            return intervals.of_share(value, error, float(rows[rows > 0].min(initial=self.count)))
        return intervals.of_error(value, error, count)

    def _tables(self, y: Array, outputs: Array, weight: Array, group: Array) -> Array:
        """The confusion matrix of each group."""
        tables = np.zeros((int(group.max()) + 1, *self.confusion.shape))
        decided = read(y, outputs, loss=_ONE_CLASS).decided[:, 0]
        is_known = decided != NO_LABEL
        np.add.at(tables, (group[is_known], y[is_known], decided[is_known]), weight[is_known])
        return tables

    def of_classes(self) -> tuple[OfClass, ...]:
        """The quality of each class."""
        if not self.target.classes or self.count == 0:
            return ()
        y, outputs, weight, group = self._sample()
        of_all, tables = math.sqrt(len(y) / self.count), self._tables(y, outputs, weight, group)
        found = []
        for label in range(len(self.confusion)):
            cells = np.array([_cells(table, label) for table in tables])
            own = _cells(self.confusion, label)
            rows = own[:2].sum()
            recall = float(own[0] / rows) if rows else math.nan
            f1 = _f1(own)
            error = of_all * intervals.standard_error(partial(_f1_without, cells), len(cells))
            own_rows = intervals.effective(weight[y == label]) / of_all**2
            found.append(OfClass(round(rows), recall, f1, intervals.wilson(recall, own_rows), intervals.of_share(f1, error, own[:3].sum())))
        return tuple(found)


def _without(function: Callable[..., float], y: Array, outputs: Array, weight: Array, group: Array, number: int) -> float:
    """A metric without the rows of a group."""
    rows = group != number
    return function(y[rows], outputs[rows], weight[rows])


def _f1_without(cells: Array, number: int) -> float:
    """The F1 score without a group. cells: of each group."""
    return _f1(cells.sum(axis=0) - cells[number])


def _cells(confusion: Array, label: int) -> Array:
    """The weights of the rows of a class that are right and wrong, then of the others decided to be of the class, and of the rest."""
    right, real, found = confusion[label, label], confusion[label].sum(), confusion[:, label].sum()
    return np.array([right, real - right, found - right, confusion.sum() - real - found + right])


def _f1(cells: Array) -> float:
    """The F1 score of a class, of a row for each of its cells; 0 if there are none."""
    return class_metrics.f1([1, 1, 0, 0], [1.0, 0.0, 1.0, 0.0], cells, "bce") if cells.any() else 0.0
