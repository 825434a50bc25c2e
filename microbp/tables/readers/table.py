"""A table: columns by name, as in a file or a data frame, and how the text of a cell is interpreted.

A column is an array of numbers, with NaN for missing values, or an object array of strings, with None for missing values. Whether strings
are numbers or categories depends on all training rows (summary.py), not on one cell or one piece of a file; the preparation stores the
decision. Errors name the file, the row (counted from 1, without the header), if known its line, and the column.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from ...core.specs import unknown
from ...data.arrays import Array
from .errors import Argument, ArgumentError, TableError

LARGEST = float(np.finfo(np.float32).max)
_MISSING = frozenset(["", "?", "-", "NA", "N/A", "n/a", "NaN", "nan", "null", "NULL", "None"])  # cells with a missing value
_DECIMAL_COMMA = re.compile(r"[-+]?\d*,\d+([eE][-+]?\d+)?")


@dataclass(frozen=True)
class Written:
    """A column of numbers, and the strings that they were read from."""

    numbers: Array
    texts: Callable[[], Array]

    def __getitem__(self, rows: Array) -> Written:
        return Written(self.numbers[rows], lambda: self.texts()[rows])


@dataclass(frozen=True)
class Unusable:
    """A column that a network cannot use, and why."""

    why: str

    def __getitem__(self, rows: Array) -> Unusable:
        return self


@dataclass(frozen=True)
class Table:
    """Columns by name, each of `count` rows."""

    where: str  # the file's name, for errors
    columns: Mapping[str, Array | Written | Unusable]
    count: int
    first: int = 0  # the index of its first row in the file
    before: int = 0  # lines of the file before the first row, if each row is one line; else 0
    rows: Array | None = None  # row indices relative to `first`; None: 0, 1, 2, ...
    is_positional: bool = False  # columns have positions, not names; a table must have as many columns as the training data
    is_sparse: bool = False  # absent columns are zeros
    target: str | None = None  # the target's name in this file format; the column may be absent

    def column(self, name: str) -> Array:
        """The column of that name; ValueError if there is none, or if a network cannot use it."""
        self.require(name)
        column = self.columns.get(name)
        if column is None:
            return np.zeros(self.count)
        if isinstance(column, Unusable):
            raise TableError(f"{self.where}: column {name!r} {column.why}, or use ", Argument("drop", name))
        return column.numbers if isinstance(column, Written) else column

    def require(self, name: str, argument: str | None = None) -> None:
        """Raises an error for an unknown column name. argument: the argument that contains the name, if any."""
        if name not in self.columns and not self.is_sparse:
            text = f"{self.where}: {unknown('column', name, list(self.columns)[:100])}"
            raise ArgumentError(argument, text) if argument else ValueError(text)

    def take(self, rows: Array) -> Table:
        """A copy of some rows, which errors still name by their place in the file."""
        return replace(self, columns={name: column[rows] for name, column in self.columns.items()}, count=len(rows), rows=rows)

    def place(self, row: int, name: str) -> str:
        """The place of a cell, for errors."""
        number = self.first + int(row if self.rows is None else self.rows[row])
        return f"{row_place(self.where, number, self.before)}, column {name!r}"

    def numbers(self, name: str) -> Array:
        """A column as float64, NaN for missing values. ValueError for a cell that is not a number, or is too large for float32."""
        column = self.column(name)
        if column.dtype == object:
            column = np.array([self._number(row, name, text) for row, text in enumerate(column)], dtype=np.float64)
        values = column.astype(np.float64, copy=False)
        beyond = np.abs(values) > LARGEST
        if beyond.any():
            row = int(beyond.argmax())
            what = "the number is infinite" if np.isinf(values[row]) else f"{values[row]:g} exceeds {LARGEST:.1e}, the largest float32"
            advice = "correct it, or leave the cell empty" if np.isinf(values[row]) else "use a larger unit for the column, or logarithms"
            raise ValueError(f"{self.place(row, name)}: {what}; {advice}")
        return values

    def _number(self, row: int, name: str, text: str | None) -> float:
        value = math.nan if text is None else to_number(text)
        if value is None:
            raise ValueError(f"{self.place(row, name)}: {text!r} is not a number; correct it, or leave the cell empty")
        return value

    def texts(self, name: str) -> Array:
        """A column as strings, None for missing values. Text is as in the file; numbers of an array are written in their shortest form."""
        column = self.columns.get(name)
        if isinstance(column, Written):
            return column.texts()
        column = self.column(name)
        if column.dtype == object:
            return column
        values, places = np.unique(column, return_inverse=True)
        return np.array([name_of(value) for value in values.tolist()], dtype=object)[places]


def row_place(where: str, row: int, before: int) -> str:
    """The place of a row, counted from 0, for errors. before: as in Table."""
    return f"{where}, row {row + 1}" + (f" (line {row + 1 + before})" if before else "")


class Whole(NamedTuple):
    """All rows of a file: those to train on, and separate test rows if the file contains them."""

    train: Table
    test: Table | None = None


def column_names(where: str, names: Iterable[Any]) -> list[str]:
    """Column names without surrounding spaces. An empty name of column i becomes column_i. ValueError if two names are equal."""
    clean = [str(name).strip() or f"column_{i}" for i, name in enumerate(names, 1)]
    twice = [name for name, count in Counter(clean).items() if count > 1]
    if twice:
        raise ValueError(f"{where}: two columns are named {twice[0]!r}; rename one")
    return clean


# ---- the text of a cell ----


def to_number(text: str) -> float | None:
    """Parses a string as a number; "true" is 1 and "false" is 0. None for other strings."""
    try:
        value = float(text)
    except ValueError:
        return {"false": 0.0, "true": 1.0}.get(text.lower())
    return None if "_" in text or math.isnan(value) else value


def name_of(value: float) -> str | None:
    """A number as the name of a class or category; None for NaN."""
    if isinstance(value, bool):
        return str(value).lower()
    if not math.isfinite(value):
        return None if math.isnan(value) else repr(value)
    return str(int(value)) if value == int(value) else repr(value)


def clean(cells: Sequence[str | None], has_decimal_commas: bool = False) -> Array:
    """Cells without surrounding spaces; None for missing values. If `has_decimal_commas`, 1,5 becomes 1.5."""
    known: dict[str | None, str | None] = {None: None}
    for cell in set(cells) - {None}:
        text = str(cell).strip()
        is_number = has_decimal_commas and _DECIMAL_COMMA.fullmatch(text)
        known[cell] = None if text in _MISSING else text.replace(",", ".") if is_number else text
    return np.array([known[cell] for cell in cells], dtype=object)


def parse_numbers(texts: Array) -> Array | None:
    """Parses strings from `clean` as numbers, NaN for None. Returns None if one of them is not a number."""
    numbers = {text: math.nan if text is None else to_number(text) for text in set(texts.tolist())}
    return None if None in numbers.values() else np.array([numbers[text] for text in texts.tolist()], dtype=np.float64)


def text_column(cells: Sequence[str | None]) -> Array | Written:
    """Converts strings to a column, which is numeric if all strings are numbers."""
    texts = clean(cells)
    numbers = parse_numbers(texts)
    return texts if numbers is None else Written(numbers, lambda: texts)
