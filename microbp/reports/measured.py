"""The metrics of a trainer's outputs with 95 % intervals, by the same methods as those of tables (../tables/intervals.py)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from ..core.specs import Loss
from ..data.arrays import Array
from ..data.weights import of_output
from ..settings.metrics import NAMED, Outputs
from ..tables import intervals
from ..tables.intervals import Interval

_ORDER = ("accuracy", "subset_accuracy", "balanced_accuracy", "f1", "auc", "rmse", "mae", "r2")
_JACKKNIFED = 10_000  # rows: of more, every n-th, and the intervals are narrowed for the others


@dataclass(frozen=True)
class Measured:
    """One output: its metrics with intervals, and what they are computed from."""

    metrics: dict[str, tuple[float, Interval | None]]
    seen: Outputs

    @property
    def loss(self) -> Any:
        """A Loss, a function, or None."""
        return self.seen.losses[0]

    @property
    def has_classes(self) -> bool:
        """Whether each row has one class."""
        width = self.seen.predictions[0].shape[1]
        return isinstance(self.loss, Loss) and (self.loss.detail == "softmax" or ("accuracy" in self.metrics and width == 1))

    def confusion(self) -> tuple[Array, list[str]]:
        """Rows, or their weights, by true and predicted label, and the names of the labels."""
        true, decided = self.seen.labels[0]
        known = np.unique(np.concatenate([true, decided]))
        if self.seen.predictions[0].shape[1] > 1:
            known = np.arange(self.seen.predictions[0].shape[1])
        weight = of_output(self.seen.weight, 0)
        counts = np.zeros((len(known), len(known)))
        there = np.isin(true, known) & np.isin(decided, known)
        cells = np.searchsorted(known, true[there]), np.searchsorted(known, decided[there])
        np.add.at(counts, cells, 1 if weight is None else weight[there])
        return counts, [f"{label:g}" for label in known]


def of_number(seen: Outputs, i: int, is_of_positions: bool) -> Measured | None:
    """The metrics of an output; None if it has no targets. is_of_positions: positions of a row are not independent: no intervals."""
    if seen.targets[i] is None:
        return None
    one = seen.one(i)
    width = one.predictions[0].shape[1]
    values = {name: NAMED[name](one.losses[0], one) for name in _names(one.losses[0], width)}
    found: dict[str, tuple[float, Interval | None]] = {name: (value, None) for name, value in values.items()}
    if not is_of_positions and found:
        rows = len(one.targets[0])
        sample = one.take(slice(None, None, -(-rows // _JACKKNIFED)))
        found = {name: (value, _interval(name, value, sample, rows)) for name, value in values.items()}
    return Measured(found, one)


def _names(loss: Any, width: int) -> list[str]:
    """The metrics that make sense: of labels, else of numbers."""
    if not isinstance(loss, Loss):
        return []
    fitting = [name for name in _ORDER if NAMED[name].fits(loss)]
    if "accuracy" in fitting:
        has_several = width > 1 and loss.detail != "softmax"
        fitting = [name for name in fitting if NAMED[name].needs != "numbers" and (has_several or name != "subset_accuracy")]
    return fitting


def _interval(name: str, value: float, sample: Outputs, rows: int) -> Interval | None:
    """The interval of a metric. rows: of all, of which the sample is a part."""
    weight = of_output(sample.weight, 0)
    weight = np.ones(len(sample.targets[0])) if weight is None else weight if weight.ndim == 1 else weight.mean(axis=1)
    share = len(weight) / rows
    labels = np.zeros(len(weight), np.int64)
    if NAMED[name].needs != "numbers":
        true = np.asarray(sample.labels[0][0], np.float64).reshape(len(weight), -1)
        labels = np.where(np.isfinite(true[:, 0]), true[:, 0], 0).astype(np.int64)
    if name in ("accuracy", "subset_accuracy"):
        return intervals.wilson(value, intervals.effective(weight) / share)
    group = intervals.groups(labels)
    count = int(group.max()) + 1
    error = math.sqrt(share) * intervals.standard_error(partial(_without, name, sample, group), count)
    if name == "r2":
        around = intervals.of_error(1 - value, error, count)
        return around and (1 - around[1], 1 - around[0])
    if NAMED[name].needs == "numbers":
        return intervals.of_error(value, error, count)
    return intervals.of_share(value, error, float(np.unique(labels, return_counts=True)[1].min()) / share)


def _without(name: str, sample: Outputs, group: Array, number: int) -> float:
    other = sample.take(group != number)
    return NAMED[name](other.losses[0], other)
