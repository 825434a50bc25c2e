"""Statistics of a column over the training rows: mean and variance of numbers, how often each value occurs.

The sum of the summaries of pieces is the summary of the whole, so streams and tables in memory are treated alike.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from ...data.arrays import Array
from ..readers.table import Table, name_of
from .parts import parts_of

CLASSES = 20  # a target with at most this many different whole numbers is treated as classes
COUNTED = 100_000  # if a column has more different strings, their counts are dropped
COUNTED_NUMBERS = 10_000  # the same for numbers


@dataclass(frozen=True)
class Summary:
    """Statistics of a column: the number of cells, of numbers mean and variance, and how often each value occurs.

    levels: counts of texts, or of whole numbers as written in the file; None: too many, or fractions. parts: of dates, the summaries of
    their parts.
    """

    is_text: bool
    rows: int
    missing: int
    mean: float = 0.0
    squares: float = 0.0  # the sum of the squared differences from the mean
    low: float = math.inf
    high: float = -math.inf
    levels: Mapping[str, int] | None = field(default_factory=dict)
    parts: Mapping[str, Summary] = field(default_factory=dict)

    @property
    def std(self) -> float:
        """The standard deviation of the numbers."""
        return math.sqrt(self.squares / max(self.rows - self.missing, 1))

    @property
    def varies(self) -> bool:
        """Whether the numbers differ, within floating-point precision."""
        return self.low < self.high and self.std > 0

    def __add__(self, other: Summary) -> Summary:
        """The summary of the rows of both (Chan, Golub & LeVeque 1979)."""
        count, more = self.rows - self.missing, other.rows - other.missing
        share, gap = more / max(count + more, 1), other.mean - self.mean
        is_text = self.is_text or other.is_text
        return Summary(
            is_text=is_text,
            rows=self.rows + other.rows,
            missing=self.missing + other.missing,
            mean=self.mean + gap * share,
            squares=self.squares + other.squares + gap * gap * count * share,
            low=min(self.low, other.low),
            high=max(self.high, other.high),
            levels=_sum(self.levels, other.levels, COUNTED if is_text else COUNTED_NUMBERS),
            parts={part: summary + other.parts[part] for part, summary in self.parts.items()},
        )


def summarize(table: Table, name: str) -> Summary:
    """The summary of a column."""
    kind = table.kind(name)
    if kind == "text":
        counts = Counter(table.texts(name).tolist())
        missing = counts.pop(None, 0)
        return Summary(True, table.count, missing, levels=_limited(counts, COUNTED))
    if kind == "date":
        times = table.dates(name)
        parts = {part: _of_numbers(values) for part, values in parts_of(times).items()}
        return Summary(False, table.count, int(np.isnat(times).sum()), parts=parts)
    values = table.numbers(name)
    known = _of_numbers(values)
    if known.missing == known.rows:
        return known
    column, present = table.columns.get(name), values[~np.isnan(values)]
    is_array = isinstance(column, np.ndarray) and column.dtype != object
    levels = _whole(table.column(name), present) if is_array or column is None else _written(table, name, present)
    return Summary(False, known.rows, known.missing, known.mean, known.squares, known.low, known.high, levels)


def _of_numbers(values: Array) -> Summary:
    """The summary of numbers without their counts."""
    present = values[~np.isnan(values)]
    if len(present) == 0:
        return Summary(False, len(values), len(values))
    mean = float(present.mean())
    squares = float(((present - mean) ** 2).sum())
    return Summary(False, len(values), len(values) - len(present), mean, squares, float(present.min()), float(present.max()), None)


def _written(table: Table, name: str, present: Array) -> Mapping[str, int] | None:
    """How often each number occurs, as written in the file."""
    if len(np.unique(present)) > COUNTED_NUMBERS:
        return None
    return _limited(Counter(text for text in table.texts(name).tolist() if text is not None), COUNTED_NUMBERS)


def _whole(column: Array, present: Array) -> Mapping[str, int] | None:
    """How often each whole number or boolean occurs; None if there are fractions."""
    low, high = present.min(), present.max()
    if (present != np.floor(present)).any():
        return None
    if high - low < COUNTED:
        counts = np.bincount((present - low).astype(np.int64))
        values, counts = np.flatnonzero(counts) + low, counts[counts > 0]
    else:
        values, counts = np.unique(present, return_counts=True)
    if len(values) > COUNTED_NUMBERS:
        return None
    names = [name_of(bool(value) if column.dtype == bool else value) or "" for value in values.tolist()]
    return dict(zip(names, counts.tolist()))


def _limited(levels: Mapping[str, int] | None, most: int) -> Mapping[str, int] | None:
    return None if levels is None or len(levels) > most else levels


def _sum(levels: Mapping[str, int] | None, more: Mapping[str, int] | None, most: int) -> Mapping[str, int] | None:
    return None if levels is None or more is None else _limited(Counter(levels) + Counter(more), most)
