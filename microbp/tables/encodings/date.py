"""Dates and times as features: elapsed time and year as numbers; month, day, weekday and hour as sine and cosine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ...data.arrays import Array
from ..readers.table import Table
from . import saved, scaling
from .encoding import Encoding
from .parts import PERIODS, parts_of
from .summary import Summary
from .tally import Tally

_LINEAR = ("elapsed", "year")
_DAYS, _LEAST = 1e7, 1e-30  # of saved files: days from 1970 to the year 9999 are fewer, and a smaller scale is beyond float32
_SAVED = {
    "name": saved.text, "linear": saved.pairs, "periodic": saved.texts, "missing": saved.flag, "clip": saved.flag,
    "edges": saved.edge_lists, "central": saved.flag,
}  # fmt: skip


@dataclass(frozen=True)
class Date:
    """Features of a time: for each of `linear`, (part - centre) / scale, clipped smoothly if `clip`, and one more for each bin of its
    `edges`; for each of `periodic`, sine and cosine. All are 0 for a missing value. `missing`: whether a last feature marks missing values
    with 1. `central`: as in `Number`.
    """

    name: str
    linear: Mapping[str, tuple[float, float]]  # part: centre and scale
    periodic: tuple[str, ...]
    missing: bool
    clip: bool = False
    edges: Mapping[str, tuple[float, ...]] = field(default_factory=dict)  # of the parts with bins
    central: bool = False

    @classmethod
    def of(cls, name: str, known: Summary, days: Array, encoding: Encoding) -> Date | str:
        """The parts that vary, by the training rows, or why the column is left out. days: a sample of the times, as days since 1970."""
        parts = {part: summary for part, summary in known.parts.items() if summary.varies}
        if not parts and not known.missing:
            return "constant"
        if known.parts["elapsed"].high < 1:  # times of day
            parts.pop("elapsed", None)
        values = parts_of((days * 86_400e6).round().astype("M8[us]"))
        linear, edges = {}, {}
        for part in (part for part in _LINEAR if part in parts):
            summary, some = parts[part], values[part]
            linear[part] = scaling.robust(summary, some) if encoding.clip else scaling.usual(summary)
            if found := scaling.bin_edges(summary, some, encoding.bins):
                edges[part] = found
        return cls(
            name, linear, tuple(part for part in parts if part in PERIODS), known.missing > 0, encoding.clip, edges, not known.missing
        )

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> Date:
        """Creates it from a saved row; KeyError, TypeError or ValueError if that is invalid."""
        date = cls(**saved.checked(row, _SAVED))
        if not set(date.linear) <= set(_LINEAR) or not set(date.periodic) <= set(PERIODS) or not set(date.edges) <= set(date.linear):
            raise ValueError("the parts of a date in the notes are invalid")
        if not all(abs(centre) <= _DAYS and _LEAST < scale <= _DAYS for centre, scale in date.linear.values()):
            raise ValueError("the scaling of a date in the notes is impossible")
        return date

    @property
    def bins(self) -> int:
        """The number of bins of all parts."""
        return sum(len(edges) - 1 for edges in self.edges.values())

    @property
    def width(self) -> int:
        return len(self.linear) + self.bins + 2 * len(self.periodic) + self.missing

    @property
    def unbinned(self) -> Array:
        """A matrix: features times it are the linear parts, scaled, then the other features."""
        parts = [scaling.unbinned(self.edges.get(part, ()), scale) for part, (_, scale) in self.linear.items()]
        return scaling.block_diagonal([*parts, np.eye(2 * len(self.periodic) + self.missing)])

    def fill(self, table: Table, out: Array, tally: Tally | None = None) -> None:
        """Writes the features of all rows."""
        times = table.dates(self.name, None if tally is None else tally.bad)
        empty, start = np.isnat(times), 0
        for columns in self._columns(parts_of(times)):
            out[:, start : start + columns.shape[1]] = columns
            start += columns.shape[1]
        out[empty] = 0
        if self.missing:
            out[:, -1] = empty
        elif self.central:
            self._fill_gaps(empty, out)
        if tally is not None and not self.missing:
            tally.gaps[self.name] += int(empty.sum()) - tally.bad[self.name]

    def _fill_gaps(self, gaps: Array, out: Array) -> None:
        start = 0
        for part, (centre, _) in self.linear.items():
            edges = self.edges.get(part, ())
            scaling.fill_gaps(gaps, edges, centre, out[:, start + 1 : start + len(edges)])
            start += max(len(edges), 1)

    def _columns(self, parts: Mapping[str, Array]) -> Iterator[Array]:
        """The features of each part, (rows, features), without the mark of missing values."""
        for part, (centre, scale) in self.linear.items():
            values, edges = parts[part], self.edges.get(part, ())
            columns = np.empty((len(values), max(len(edges), 1)))
            columns[:, 0] = scaling.clipped(values, centre, scale) if self.clip else (values - centre) / scale
            scaling.fill_bins(values, edges, columns[:, 1:])
            yield columns
        for part in self.periodic:
            angle = 2 * np.pi / PERIODS[part] * parts[part]
            yield np.column_stack([np.sin(angle), np.cos(angle)])
