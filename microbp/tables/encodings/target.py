"""The target: classes or a number, and how the outputs of the network become predictions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ...core.specs import unknown
from ...data.arrays import Array
from ..readers.cells import to_number
from ..readers.table import Table, name_of
from . import saved, scaling
from .category import shortest
from .summary import Summary

RANGE = 10  # the log rule: logarithms help if positive values range over more than one order of magnitude (Weisberg 2014, section 8.1)
SKEWNESS = 1.0  # the values are highly skewed above this (Bulmer 1979)
_SAVED = {
    "name": saved.text, "classes": saved.texts, "centre": saved.number, "scale": saved.scale, "log": saved.flag, "low": saved.limit,
    "high": saved.limit, "factor": saved.scale,
}  # fmt: skip


@dataclass(frozen=True)
class Target:
    """What to predict: one of the classes, or a number. The network is trained on (value - centre) / scale, see `prepare`, or with `log` on
    (log value - centre) / scale; a value below `low` then continues the logarithm by its tangent, so that 0 and less are possible.

    factor: of the predictions of a network that learns logarithms. The mean of logarithms is the logarithm of about the median; the factor
    makes the sum of the predictions right for the rows that the network was trained on (the smearing of Duan 1983, as a ratio of sums).
    low, high: the range of the training rows, to which predictions are cut; None: unknown.
    """

    name: str
    classes: tuple[str, ...] = ()
    centre: float = 0.0
    scale: float = 1.0
    log: bool = False
    low: float | None = None
    high: float | None = None
    factor: float = 1.0

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> Target:
        """Creates it from a saved row; KeyError, TypeError or ValueError if that is invalid."""
        target = cls(**saved.checked(row, _SAVED))
        if target.log and not (target.low and target.low > 0):
            raise ValueError("the logarithm of the target in the notes has no range")
        if target.low is not None and target.high is not None and target.low > target.high:
            raise ValueError("the range of the target in the notes is invalid")
        return target

    def fitted(self, known: Summary, values: Array, scales: bool, may_log: bool) -> Target:
        """The target with the range of the training rows and, if `scales`, with their centre and scale. values: a sample of them."""
        ranged = replace(self, low=known.low, high=known.high)
        if not scales:
            return ranged
        if may_log and is_skewed(known, values):
            logs = np.log(values)
            return replace(ranged, centre=float(logs.mean()), scale=float(logs.std()), log=True)
        centre, scale = scaling.usual(known)
        return replace(ranged, centre=centre, scale=scale)

    def values(self, table: Table) -> Array:
        """Class indices, or scaled numbers. If a value is missing or a class is unknown, a ValueError names its row."""
        column = table.texts(self.name) if self.classes else self._scaled(table)
        empty = np.array([text is None for text in column.tolist()]) if self.classes else np.isnan(column)
        if empty.any():
            raise ValueError(f"{table.place(int(empty.argmax()), self.name)}: the target is missing; fill it in or delete the row")
        if not self.classes:
            return column
        classes = {name: i for i, name in enumerate(self.classes)}
        classes |= {
            spelled: i for name, i in classes.items() if name.lower() in ("true", "false") for spelled in (name.lower(), name.title())
        }
        place = {text: classes.get(text, classes.get(shortest(text) or "")) for text in set(column.tolist())}
        for row, text in enumerate(column.tolist()):
            if place[text] is None:
                raise ValueError(f"{table.place(row, self.name)}: {unknown('class', text, self.classes)}")
        return np.array([place[text] for text in column.tolist()])

    def _scaled(self, table: Table) -> Array:
        values = table.numbers(self.name)
        if self.log and self.low:
            below = values < self.low
            values = np.log(np.where(below, self.low, values)) + np.where(below, (values - self.low) / self.low, 0.0)
        return scaling.scaled(table, self.name, values, self.centre, self.scale)

    def true(self, values: Array) -> Array:
        """Scaled numbers, of any shape, in the unit of the target, as float64: undoes `values`."""
        with np.errstate(over="ignore", invalid="ignore"):
            moved = values.astype(np.float64) * self.scale + self.centre
        if not (self.log and self.low):
            return np.asarray(moved)
        above = moved - np.log(self.low)
        with np.errstate(over="ignore"):
            return np.asarray(np.where(above < 0, self.low * (1 + above), np.exp(moved)))

    def numbers(self, outputs: Array) -> Array:
        """The predictions for outputs of the network, of any shape: in the unit of the target, cut to the range of the training rows."""
        values = self.true(outputs) * self.factor
        return np.asarray(np.clip(values, self.low, self.high)) if self.is_cut else values

    @property
    def labels(self) -> tuple[Any, ...]:
        """The classes as bools or ints if all of them are the names of such, else as strings."""
        if sorted(map(str.lower, self.classes)) == ["false", "true"]:
            return tuple(name.lower() == "true" for name in self.classes)
        numbers = [to_number(name) for name in self.classes]
        if all(number is not None and number.is_integer() and name_of(number) == name for name, number in zip(self.classes, numbers)):
            return tuple(map(int, self.classes))
        return self.classes

    @property
    def is_cut(self) -> bool:
        """Whether predictions are cut to a range."""
        return self.low is not None and self.high is not None


def is_skewed(known: Summary, values: Array) -> bool:
    """Whether the network should learn the logarithm of numbers: all are positive and range over more than one order of magnitude, they are
    highly skewed to the right, and their logarithms are less than half as skewed. values: a sample of them.
    """
    if not known.varies or known.low <= 0 or known.high <= RANGE * known.low:
        return False
    skewness = _skewness(values)
    return skewness > SKEWNESS and abs(_skewness(np.log(values))) < skewness / 2


def _skewness(values: Array) -> float:
    """The mean of the cubed distances from the mean, in standard deviations; 0 for constants."""
    distances = values - values.mean()
    spread = np.abs(distances).max()
    if not spread > 0:
        return 0.0
    distances = distances / spread
    return float((distances**3).mean() / (distances**2).mean() ** 1.5)
