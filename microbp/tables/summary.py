"""Statistics of a column over all its cells: numbers or text, how often each value occurs, and mean and variance.

The sum of the summaries of pieces is the summary of the whole, so streams and tables in memory are treated alike.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from ..data.arrays import Array
from .readers.errors import Argument, TableError
from .readers.table import Table, Written, name_of, to_number

CLASSES = 20  # a target with at most this many different whole numbers is treated as classes
COUNTED = 100_000  # if a column has more different strings, their counts are dropped
COUNTED_NUMBERS = 10_000  # the same for numbers
_DATE = re.compile(r"\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}([T ].*)?|\d{1,2}:\d{2}(:\d{2}(\.\d*)?)?")
_COMMA = re.compile(r"[-+]?\d+(,\d+)+(\.\d*)?|[-+]?\d*(\.\d+)*,\d+")  # a number with decimal or thousands commas


@dataclass(frozen=True)
class Summary:
    """Statistics of a column: the number of cells, how often each number and string occurs; if all are numbers, mean and variance."""

    is_text: bool  # at least one cell of the column in the file (perhaps not in these rows) is not a number
    rows: int
    missing: int
    mean: float = 0.0
    squares: float = 0.0  # the sum of the squared differences from the mean
    low: float = math.inf
    high: float = -math.inf
    numbers: Mapping[str, int] | None = field(default_factory=dict)  # counts of numbers, as written in the file; None: too many
    texts: Mapping[str, int] | None = field(default_factory=dict)  # counts of strings that are not numbers; None: too many
    first: tuple[str, str] | None = None  # the place and the text of the first string in `texts`

    @property
    def std(self) -> float:
        """The standard deviation of the numbers."""
        return math.sqrt(self.squares / max(self.rows - self.missing, 1))

    @property
    def varies(self) -> bool:
        """Whether the numbers differ, within floating-point precision."""
        return self.low < self.high and self.std > 0

    @property
    def is_category(self) -> bool:
        """Whether to treat the column as categories. Not if these rows have many numbers and no strings: then a string elsewhere is a
        mistake, and the column is numeric.
        """
        return self.is_text and (bool(self.texts) or self.texts is None or (self.numbers is not None and len(self.numbers) <= CLASSES))

    @property
    def levels(self) -> Mapping[str, int] | None:
        """How often each value occurs, numbers included; None if there are too many."""
        return None if self.numbers is None or self.texts is None else {**self.numbers, **self.texts}

    def __add__(self, other: Summary) -> Summary:
        """The summary of the rows of both (Chan, Golub & LeVeque 1979)."""
        count, more = self.rows - self.missing, other.rows - other.missing
        share, gap = more / max(count + more, 1), other.mean - self.mean
        return Summary(
            is_text=self.is_text or other.is_text,
            rows=self.rows + other.rows,
            missing=self.missing + other.missing,
            mean=self.mean + gap * share,
            squares=self.squares + other.squares + gap * gap * count * share,
            low=min(self.low, other.low),
            high=max(self.high, other.high),
            numbers=_sum(self.numbers, other.numbers, COUNTED_NUMBERS),
            texts=_sum(self.texts, other.texts, COUNTED),
            first=self.first or other.first,
        )


def summarize(table: Table, name: str) -> Summary:
    """The summary of a column."""
    column = table.column(name)
    is_text = column.dtype == object
    numbers, texts = _counted(column.tolist()) if is_text else ({}, {})
    if texts:
        row = next(row for row, text in enumerate(column.tolist()) if text in texts)
        missing = table.count - sum(numbers.values()) - sum(texts.values())
        first = table.place(row, name), str(column[row])
        return Summary(True, table.count, missing, numbers=_limited(numbers, COUNTED_NUMBERS), texts=_limited(texts, COUNTED), first=first)
    values = table.numbers(name)
    present = values[~np.isnan(values)]
    if len(present) == 0:
        return Summary(is_text, table.count, table.count)
    mean = float(present.mean())
    squares = float(((present - mean) ** 2).sum())
    is_written = is_text or isinstance(table.columns.get(name), Written)
    known = _written(table, name, present) if is_written else _whole(column, present)
    return Summary(is_text, table.count, table.count - len(present), mean, squares, float(present.min()), float(present.max()), known)


def _counted(cells: list[str | None]) -> tuple[dict[str, int], dict[str, int]]:
    """Counts of the strings that are numbers, and of the other strings."""
    levels = Counter(text for text in cells if text is not None)
    texts = {text: count for text, count in levels.items() if to_number(text) is None}
    return {text: count for text, count in levels.items() if text not in texts}, texts


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


def refuse_mistakes(name: str, known: Summary) -> None:
    """Raises an error for likely mistakes: dates, numbers with commas, a few strings among many numbers."""
    if known.first is None or not known.texts:
        return
    place, text = known.first
    drop = Argument("drop", name)
    if not known.numbers and known.numbers is not None and all(map(_DATE.fullmatch, known.texts)):
        what = f"{place}: {text!r} is a date or a time, which a network cannot use"
        raise TableError(f"{what}; convert it to numbers (year, month, hour), or use ", drop)
    if all(map(_COMMA.fullmatch, known.texts)):
        raise TableError(f"{place}: {text!r} has a comma; write numbers with a decimal point and without commas, or use ", drop)
    is_rare = sum(known.texts.values()) < 0.1 * (known.rows - known.missing)
    if is_rare and (known.numbers is None or len(known.numbers) > CLASSES):
        raise TableError(f"{place}: {text!r} is not a number; correct it, leave the cell empty, or use ", drop)
