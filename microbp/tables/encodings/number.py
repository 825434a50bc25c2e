"""A column of numbers as features."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ...data.arrays import Array
from ..readers.cells import to_number
from ..readers.table import Table
from . import saved, scaling
from .encoding import Encoding
from .summary import Summary
from .tally import Tally

_SAVED = {
    "name": saved.text, "centre": saved.number, "scale": saved.scale, "missing": saved.flag, "low": saved.limit, "high": saved.limit,
    "clip": saved.flag, "edges": saved.edges, "central": saved.flag,
}  # fmt: skip


@dataclass(frozen=True)
class Number:
    """A feature (value - centre) / scale, clipped smoothly if `clip`; with `edges`, one feature more for each bin between them. All are 0
    for a missing value. `missing`: whether a last feature marks missing values with 1. `central`: a missing value, which no training row
    had, has the bins of the centre instead.

    low, high: the range of the training rows, if known. A number is far from it if it is further away than the range is wide.
    """

    name: str
    centre: float
    scale: float
    missing: bool
    low: float | None = field(default=None, compare=False)
    high: float | None = field(default=None, compare=False)
    clip: bool = False
    edges: tuple[float, ...] = ()
    central: bool = False

    @classmethod
    def of(cls, name: str, known: Summary, values: Array, encoding: Encoding) -> Number | str:
        """The features of a column by its training rows, or why it is left out. values: a sample of the numbers."""
        if not known.varies and not known.missing:
            return "constant"
        missing = known.missing > 0
        if encoding.clip:
            centre, scale = scaling.robust(known, values)
        elif known.varies and known.levels and {to_number(text) for text in known.levels} <= {0.0, 1.0}:
            centre, scale = 0.0, 1.0  # 0 and 1 are not scaled
        else:
            centre, scale = scaling.usual(known)
        edges = scaling.bin_edges(known, values, encoding.bins)
        return cls(name, centre, scale, missing, known.low, known.high, encoding.clip, edges, not missing)

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> Number:
        """Creates it from a saved row; KeyError, TypeError or ValueError if that is invalid."""
        return cls(**saved.checked(row, _SAVED))

    @property
    def bins(self) -> int:
        """The number of bins; their features come after the first."""
        return max(len(self.edges) - 1, 0)

    @property
    def width(self) -> int:
        return 1 + self.bins + self.missing

    @property
    def unbinned(self) -> Array:
        """A matrix: features times it are the number, scaled, and the mark of missing values."""
        return scaling.block_diagonal([scaling.unbinned(self.edges, self.scale), np.eye(int(self.missing))])

    def fill(self, table: Table, out: Array, tally: Tally | None = None) -> None:
        """Writes the features of all rows."""
        bad = None if tally is None else tally.bad
        values = table.numbers(self.name, bad)
        if self.clip:
            moved = scaling.clipped(values, self.centre, self.scale)
        else:
            moved = scaling.scaled(table, self.name, values, self.centre, self.scale, bad)
        empty = np.isnan(moved)
        out[:, 0] = moved
        scaling.fill_bins(values, self.edges, out[:, 1 : 1 + self.bins])
        out[empty] = 0
        if self.missing:
            out[:, -1] = empty
        elif self.central:
            scaling.fill_gaps(empty, self.edges, self.centre, out[:, 1:])
        if tally is not None:
            tally.gaps[self.name] += 0 if self.missing else int(empty.sum()) - tally.bad[self.name]
            tally.far[self.name] += self._far(values[~empty])

    def undo(self, first: Array) -> Array:
        """The numbers whose first features these are; see `is_known`."""
        x = first.astype(np.float64)
        return np.asarray(self.centre + self.scale * (scaling.unclipped(x) if self.clip else x))

    def is_known(self, value: float) -> bool:
        """Whether `undo` gives this number; clipped ones are not told apart if they are far from the centre."""
        return not self.clip or abs(value - self.centre) < 0.999 * scaling.KNOWN * self.scale

    def _far(self, values: Array) -> int:
        if self.low is None or self.high is None:
            return 0
        return int(((values < 2 * self.low - self.high) | (values > 2 * self.high - self.low)).sum())
