"""A sample of the training rows, for quantiles: the same rows, however a file is cut into pieces."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from ...data.arrays import Array
from ..readers.table import Table

ROWS = 50_000  # of a table with fewer training rows, the sample contains all: its quantiles are exact
_CELLS = 5_000_000  # a table with more than 100 columns has a smaller sample


@dataclass(frozen=True)
class Sample:
    """Numbers of some rows; a date is its days since 1970. The sum of the samples of pieces is the sample of the whole.

    Each row has a key, a random number that depends on its place in the file alone. The sample are the rows with the lowest keys.
    """

    keys: Array = field(default_factory=lambda: np.empty(0, np.uint64))  # (rows,)
    columns: Mapping[str, Array] = field(default_factory=dict)  # by name, (rows,), NaN for missing values

    @classmethod
    def of(cls, table: Table, names: Sequence[str]) -> Sample:
        """The sample of a table, or of a piece. names: the columns; those with texts are not in the sample."""
        keys = _keys(table.first + (np.arange(table.count) if table.rows is None else table.rows))
        usable = [name for name in names if table.kind(name) != "text"]
        rows = _lowest(keys, len(usable))
        alone = ({name: table.columns[name]} if name in table.columns else {} for name in usable)  # one is in memory at a time
        some = (replace(table, columns=columns).take(rows) for columns in alone)
        return cls(keys[rows], {name: one.numbers(name) for name, one in zip(usable, some)})

    def __add__(self, other: Sample) -> Sample:
        if len(self.keys) == 0:
            return other
        keys, names = np.concatenate([self.keys, other.keys]), [name for name in self.columns if name in other.columns]
        rows = _lowest(keys, len(names))
        return Sample(keys[rows], {name: np.concatenate([self.columns[name], other.columns[name]])[rows] for name in names})

    def values(self, name: str) -> Array:
        """The numbers of a column, sorted, without missing values; none for a column that is not in the sample."""
        values = self.columns.get(name, np.empty(0))
        return np.sort(values[~np.isnan(values)])


def _keys(places: Array) -> Array:
    """Random numbers: the places, mixed by SplitMix64 (Steele, Lea & Flood 2014)."""
    z = (places.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(z ^ (z >> np.uint64(31)))


def _lowest(keys: Array, columns: int) -> Array:
    """The rows with the lowest keys, as many as a sample of a table with this many columns has."""
    most = min(ROWS, _CELLS // max(columns, 1))
    return np.arange(len(keys)) if len(keys) <= most else np.argpartition(keys, most)[:most]
