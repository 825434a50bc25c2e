"""A table: columns by name, as a file or a data frame holds them, and what the text of a cell means.

A column is an array of numbers, NaN where one is missing, or of objects: texts, None where one is missing. A single cell or piece of a
file cannot say whether texts are numbers or levels: all rows of the training decide it together (summary.py), and the preparation that
comes of them keeps to it. Errors name the file, the row (counted from 1, without the header) and the column.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from ..core.specs import unknown
from ..data.arrays import Array
from .errors import Argument, TableError

LARGEST = float(np.finfo(np.float32).max)
_MISSING = frozenset(["", "?", "-", "NA", "N/A", "n/a", "NaN", "nan", "null", "NULL", "None"])  # cells whose value is not known
_DECIMAL_COMMA = re.compile(r"[-+]?\d*,\d+([eE][-+]?\d+)?")


@dataclass(frozen=True)
class Written:
    """A column of numbers, with the texts that they are written in."""

    numbers: Array
    texts: Callable[[], Array]

    def __getitem__(self, rows: Array) -> Written:
        return Written(self.numbers[rows], lambda: self.texts()[rows])


@dataclass(frozen=True)
class Unusable:
    """A column that a network cannot take, and why."""

    why: str

    def __getitem__(self, rows: Array) -> Unusable:
        return self


@dataclass(frozen=True)
class Table:
    """Columns by name, each of `count` rows."""

    where: str  # what errors call it: the file's name
    columns: Mapping[str, Array | Written | Unusable]
    count: int
    first: int = 0  # the number of its first row in the file, from 0
    rows: Array | None = None  # the numbers of its rows, counted from `first`; None: one after another
    is_positional: bool = False  # names are only places, so there must be as many as the network has learnt from
    is_sparse: bool = False  # columns that are not there hold zeros
    target: str | None = None  # what the file itself calls the target, though it may lack it

    def column(self, name: str) -> Array:
        """The column of that name; ValueError if there is none, or if it cannot be used."""
        self.require(name)
        column = self.columns.get(name)
        if column is None:
            return np.zeros(self.count)
        if isinstance(column, Unusable):
            raise TableError(f"{self.where}: column {name!r} {column.why}, or train without it: ", Argument("drop", name))
        return column.numbers if isinstance(column, Written) else column

    def require(self, name: str) -> None:
        """Refuses a name that no column has."""
        if name not in self.columns and not self.is_sparse:
            raise ValueError(f"{self.where}: {unknown('column', name, list(self.columns)[:100])}")

    def take(self, rows: Array) -> Table:
        """A copy of some rows, which keep their numbers."""
        return replace(self, columns={name: column[rows] for name, column in self.columns.items()}, count=len(rows), rows=rows)

    def place(self, row: int, name: str) -> str:
        """How errors say where a cell is."""
        return f"{self.where}, row {self.first + int(row if self.rows is None else self.rows[row]) + 1}, column {name!r}"

    def numbers(self, name: str) -> Array:
        """A column as float64, NaN where a number is missing; ValueError names the cell that is not a number, or is beyond float32."""
        column = self.column(name)
        if column.dtype == object:
            column = np.array([self._number(row, name, text) for row, text in enumerate(column)], dtype=np.float64)
        values = column.astype(np.float64, copy=False)
        beyond = np.abs(values) > LARGEST
        if beyond.any():
            row = int(beyond.argmax())
            what = "the number is infinite" if np.isinf(values[row]) else f"{values[row]:g} is beyond {LARGEST:.1e}, the end of float32"
            advice = "correct it, or leave it empty" if np.isinf(values[row]) else "write the column in a larger unit, or its logarithms"
            raise ValueError(f"{self.place(row, name)}: {what}: {advice}")
        return values

    def _number(self, row: int, name: str, text: str | None) -> float:
        value = math.nan if text is None else to_number(text)
        if value is None:
            raise ValueError(f"{self.place(row, name)}: {text!r} is not a number: correct it, or leave it empty")
        return value

    def texts(self, name: str) -> Array:
        """A column as texts, None where one is missing: as they stand in the file, or, of numbers, written shortest."""
        column = self.columns.get(name)
        if isinstance(column, Written):
            return column.texts()
        column = self.column(name)
        if column.dtype == object:
            return column
        values, places = np.unique(column, return_inverse=True)
        return np.array([name_of(value) for value in values.tolist()], dtype=object)[places]


class Whole(NamedTuple):
    """All rows of a file: those to learn from, and those that the file itself keeps for the test."""

    train: Table
    test: Table | None = None


def column_names(where: str, names: Iterable[Any]) -> list[str]:
    """Names without blanks around them, column_1 where there is none; ValueError if two are the same."""
    clean = [str(name).strip() or f"column_{i}" for i, name in enumerate(names, 1)]
    twice = [name for name, count in Counter(clean).items() if count > 1]
    if twice:
        raise ValueError(f"{where}: two columns are named {twice[0]!r}: rename one")
    return clean


# ---- what the text of a cell means ----


def to_number(text: str) -> float | None:
    """The number that a text is, 0 or 1 for a truth, or None."""
    try:
        value = float(text)
    except ValueError:
        return {"false": 0.0, "true": 1.0}.get(text.lower())
    return None if "_" in text or math.isnan(value) else value


def name_of(value: float) -> str | None:
    """A number as the name of a class or level; None for NaN."""
    if isinstance(value, bool):
        return str(value).lower()
    if not math.isfinite(value):
        return None if math.isnan(value) else repr(value)
    return str(int(value)) if value == int(value) else repr(value)


def clean(cells: Sequence[str | None], has_decimal_commas: bool = False) -> Array:
    """Cells without blanks around them, None where the value is not known, and with decimal points."""
    known: dict[str | None, str | None] = {None: None}
    for cell in set(cells) - {None}:
        text = str(cell).strip()
        is_number = has_decimal_commas and _DECIMAL_COMMA.fullmatch(text)
        known[cell] = None if text in _MISSING else text.replace(",", ".") if is_number else text
    return np.array([known[cell] for cell in cells], dtype=object)


def parse_numbers(texts: Array) -> Array | None:
    """The numbers that clean texts are, NaN for None; None if one of them is not a number."""
    numbers = {text: math.nan if text is None else to_number(text) for text in set(texts.tolist())}
    return None if None in numbers.values() else np.array([numbers[text] for text in texts.tolist()], dtype=np.float64)


def text_column(cells: Sequence[str | None]) -> Array | Written:
    """A column of texts: numbers if all of them are, as in a text file."""
    texts = clean(cells)
    numbers = parse_numbers(texts)
    return texts if numbers is None else Written(numbers, lambda: texts)
