"""A table: columns by name, as in a file or a data frame.

A column is an array of numbers, with NaN for missing values, or an object array of strings as in the file, with None for empty cells.
Whether strings are numbers, dates or texts depends on all rows (../columns.py), not on one cell or one piece of a file; `readings` contains
the decision. Errors name the file, the row (counted from 1, without the header), if known its line, and the column.
"""

from __future__ import annotations

import functools
import itertools
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

from ...core.specs import unknown
from ...data.arrays import Array
from ...data.sparse import SparseRows
from .cells import Reading, to_number
from .errors import Argument, ArgumentError, TableError

LARGEST = float(np.finfo(np.float32).max)
DEFAULT_NAME = re.compile(r"column_\d+")  # of a column of a file without a header
NO_NAMES = "it seems to have no header row with the column names; add one"
_PLAIN = Reading()


@dataclass(frozen=True)
class Written:
    """A column of strings that are all plain numbers or missing: the numbers, and the strings. one: a function that finds one string
    faster than `texts`.
    """

    numbers: Array
    texts: Callable[[], Array]
    one: Callable[[int], str | None] | None = None

    def text(self, row: int) -> str | None:
        """The string of a row, without surrounding spaces."""
        return self.texts()[row] if self.one is None else (self.one(row) or "").strip()

    def __getitem__(self, rows: Array) -> Written:
        return Written(self.numbers[rows], lambda: self.texts()[rows])


@dataclass(frozen=True)
class Unusable:
    """A column that a network cannot use, and why."""

    why: str

    def __getitem__(self, rows: Array) -> Unusable:
        return self


class LazyColumns(Mapping[str, "Array | Written | Unusable"]):
    """Columns that `make` makes when they are looked at; the last one is kept. own: a table of some of the rows that is in memory, from
    row `first` on; all rows of it, whichever were taken of the others.
    """

    def __init__(self, names: Sequence[str], make: Callable[[str], Array | Written | Unusable], own: Table, first: int) -> None:
        self._names, self._make, self.own, self.first = dict.fromkeys(names), make, own, first
        self._last: dict[str, Array | Written | Unusable] = {}

    def __getitem__(self, name: str) -> Array | Written | Unusable:
        if name not in self._last:
            if name not in self._names:
                raise KeyError(name)
            self._last = {}  # before there is another one
            self._last = {name: self._make(name)}
        return self._last[name]

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def take(self, rows: Array) -> LazyColumns:
        """The columns of some rows."""
        return LazyColumns([*self._names], lambda name: self[name][rows], self.own, self.first)


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
    sparse: SparseRows | None = None  # further columns, by the number that is their name; of others, and absent ones, all cells are 0
    target: str | None = None  # the target's name in this file format; the column may be absent
    assumptions: tuple[str, ...] = ()  # what the reader assumed about the file, one line each
    decimal: str = "."  # the decimal mark where a column leaves it open whether a comma is one
    can_drop: bool = True  # errors advise to leave columns out
    readings: Mapping[str, Reading] = field(default_factory=dict)  # how columns are read; others: plain numbers, or texts

    def column(self, name: str) -> Array:
        """The column of that name; ValueError if there is none, or if a network cannot use it."""
        self.require(name)
        column = self.columns.get(name)
        if column is None:
            return self._sparse_column(name)
        if isinstance(column, Unusable):
            raise TableError(f"{self.where}: column {name!r} {column.why}", *self._advice(name, ", or use "))
        return column.numbers if isinstance(column, Written) else column

    @property
    def is_sparse(self) -> bool:
        """Whether absent columns are zeros."""
        return self.sparse is not None

    @property
    def has_only_sparse(self) -> bool:
        """Whether all columns but the target are sparse."""
        return self.is_sparse and self.columns.keys() <= {self.target}

    def _sparse_column(self, name: str) -> Array:
        values = np.zeros(self.count)
        if self.sparse is not None and name.isascii() and name.isdecimal():
            stored = self.sparse.indices == int(name)
            values[self.sparse.row_of_each()[stored]] = self.sparse.data[stored]
        return values

    def _advice(self, name: str, before: str) -> tuple[str | Argument, ...]:
        """The end of an error about a column: how to leave it out, if that is possible."""
        return (before, Argument("drop", name)) if self.can_drop else ()

    @property
    def is_unnamed(self) -> bool:
        """Whether all columns are called column_1, column_2, ..., as those of a file without a header."""
        return all(map(DEFAULT_NAME.fullmatch, self.columns))

    def require(self, name: str, argument: str | None = None) -> None:
        """Raises an error for an unknown column name. argument: the argument that contains the name, if any."""
        if name not in self.columns and not (self.is_sparse and name.isascii() and name.isdecimal()):
            hint = f"; {NO_NAMES}" if self.is_unnamed and not DEFAULT_NAME.fullmatch(name) else ""
            text = f"{self.where}: {unknown('column', name, list(self.columns)[:100])}{hint}"
            raise ArgumentError(argument, text) if argument else ValueError(text)

    def named(self, name: str, argument: str) -> str:
        """The column of that name, or else of that number, counted from 1; ArgumentError if there is none."""
        if name not in self.columns and name.isascii() and name.isdecimal() and 0 < int(name) <= len(self.columns):
            return list(self.columns)[int(name) - 1]
        self.require(name, argument)
        return name

    def take(self, rows: Array) -> Table:
        """A copy of some rows, which errors still name by their place in the file."""
        places = rows if self.rows is None else self.rows[rows]
        sparse = None if self.sparse is None else self.sparse[rows]
        known = self.columns
        columns = known.take(rows) if isinstance(known, LazyColumns) else {name: column[rows] for name, column in known.items()}
        return replace(self, columns=columns, count=len(rows), rows=places, sparse=sparse)

    def place(self, row: int, name: str) -> str:
        """The place of a cell, for errors."""
        number = self.first + int(row if self.rows is None else self.rows[row])
        return f"{row_place(self.where, number, self.before)}, column {name!r}"

    def kind(self, name: str) -> str:
        """What the cells of a column are: number, date or text."""
        if name in self.readings:
            return self.readings[name].kind
        column = self.columns.get(name)
        return "text" if isinstance(column, np.ndarray) and column.dtype == object else "number"

    def numbers(self, name: str, bad: Counter[str] | None = None) -> Array:
        """A column as float64, NaN for missing values; dates are days since 1970.

        A cell that is not a number, or is too large for float32, raises an error; if `bad` is given, it counts there and becomes NaN.
        """
        column, reading = self.column(name), self.readings.get(name, _PLAIN)
        if reading.kind == "date":
            times = self.dates(name, bad)
            return np.where(np.isnat(times), np.nan, times.astype(np.int64) / 86_400e6)
        raw = self.columns.get(name)
        if column.dtype == object or (isinstance(raw, Written) and not reading.is_plain):
            values = self._parsed(name, functools.partial(self._number, reading), math.nan, np.float64, bad)
        else:
            values = column.astype(np.float64, copy=False)
            words = [word for word in map(to_number, reading.missing) if word is not None]
            values = np.where(np.isin(values, words), np.nan, values) if words else values
        beyond = np.abs(values) > LARGEST
        if not beyond.any():
            return values
        if bad is not None:
            bad[name] += int(beyond.sum())
            return np.where(beyond, np.nan, values)
        row = int(beyond.argmax())
        what = "the number is infinite" if np.isinf(values[row]) else f"{values[row]:g} exceeds {LARGEST:.1e}, the largest float32"
        advice = "correct it, or leave the cell empty" if np.isinf(values[row]) else "use a larger unit for the column, or logarithms"
        raise ValueError(f"{self.place(row, name)}: {what}; {advice}")

    def _number(self, reading: Reading, text: str) -> float | None:
        """The number in a cell; in a column of plain numbers, also one with the decimal mark of the file."""
        value = reading.number(text)
        return replace(reading, decimal=self.decimal).number(text) if value is None and reading.is_plain else value

    def dates(self, name: str, bad: Counter[str] | None = None) -> Array:
        """A column as datetime64[us], NaT for missing values. bad: as in `numbers`."""
        return self._parsed(name, self.readings[name].date, np.datetime64("NaT", "us"), "M8[us]", bad)

    def _parsed(self, name: str, parse: Callable[[str], Any], missing: Any, dtype: Any, bad: Counter[str] | None) -> Array:
        """The strings of a column, each different one parsed once."""
        texts = self.strings(name).tolist()
        known = {text: missing if text is None else parse(text) for text in set(texts)}
        if None in known.values():
            wrong = [row for row, text in enumerate(texts) if known[text] is None]
            if bad is None:
                what = "a date" if self.kind(name) == "date" else "a number"
                text = f"{self.place(wrong[0], name)}: {texts[wrong[0]]!r} is not {what}; correct it{', ' if self.can_drop else ' or '}"
                raise TableError(f"{text}leave the cell empty", *self._advice(name, ", or use "))
            bad[name] += len(wrong)
            known = {text: missing if value is None else value for text, value in known.items()}
        return np.array([known[text] for text in texts], dtype=dtype)

    def strings(self, name: str) -> Array:
        """A column as strings as in the file, None for empty cells; numbers of an array are written in their shortest form."""
        column = self.columns.get(name)
        if isinstance(column, Written):
            return column.texts()
        column = self.column(name)
        if column.dtype == object:
            return column
        values, places = np.unique(column, return_inverse=True)
        return np.array([name_of(value) for value in values.tolist()], dtype=object)[places]

    def texts(self, name: str) -> Array:
        """A column as strings, None for missing values. Numbers with marks or units are written in their shortest form."""
        reading = self.readings.get(name, _PLAIN)
        if reading.kind == "number" and not reading.is_plain:
            return np.array([name_of(value) for value in self.numbers(name).tolist()], dtype=object)
        strings = self.strings(name)
        missing = {text for text in set(strings.tolist()) if text is not None and reading.is_missing(text)}
        return np.array([None if text in missing else text for text in strings.tolist()], dtype=object) if missing else strings


def row_place(where: str, row: int, before: int) -> str:
    """The place of a row, counted from 0, for errors. before: as in Table."""
    return f"{where}, row {row + 1}" + (f" (line {row + 1 + before})" if before else "")


class Whole(NamedTuple):
    """All rows of a file: those to train on, and separate test rows if the file contains them."""

    train: Table
    test: Table | None = None


def column_names(names: Iterable[Any]) -> tuple[list[str], tuple[str, ...]]:
    """Column names without surrounding spaces, and what was assumed of them. An empty name of column i becomes column_i. The second column
    named a becomes a_2, or the next name that is free.
    """
    clean = [str(name).strip() or f"column_{i}" for i, name in enumerate(names, 1)]
    taken, seen, others = set(clean), set[str](), dict[str, list[str]]()
    for i, name in enumerate(clean):
        if name in seen:
            spare = others.setdefault(name, [])
            clean[i] = next(free for k in itertools.count(len(spare) + 2) if (free := f"{name}_{k}") not in taken)
            taken.add(clean[i])
            spare.append(clean[i])
        seen.add(name)
    return clean, tuple(_twice(name, spare) for name, spare in others.items())


def _twice(name: str, others: list[str]) -> str:
    if len(others) == 1:
        return f"column {name!r} appears twice: the second is {others[0]!r}"
    return f"column {name!r} appears {len(others) + 1} times: the others are {', '.join(map(repr, others[:-1]))} and {others[-1]!r}"


# ---- strings ----


def name_of(value: float) -> str | None:
    """A number as the name of a class or category; None for NaN."""
    if isinstance(value, bool):
        return str(value).lower()
    if not math.isfinite(value):
        return None if math.isnan(value) else repr(value)
    return str(int(value)) if value == int(value) else repr(value)


def clean(cells: Sequence[str | None]) -> Array:
    """Cells without surrounding spaces; None for empty ones."""
    known = {cell: (cell.strip() or None) if cell else None for cell in set(cells)}
    return np.array([known[cell] for cell in cells], dtype=object)


def parse_numbers(texts: Array) -> Array | None:
    """Parses strings from `clean` as plain numbers, NaN for missing values. Returns None if one of them is not a number; (5) is none here,
    as it may be a text.
    """
    numbers = {text: math.nan if _PLAIN.is_missing(text or "") else to_number(text or "") for text in set(texts.tolist())}
    return None if None in numbers.values() else np.array([numbers[text] for text in texts.tolist()], dtype=np.float64)


def text_column(cells: Sequence[str | None]) -> Array | Written:
    """Converts strings to a column, which is numeric if all strings are numbers."""
    texts = clean(cells)
    numbers = parse_numbers(texts)
    return texts if numbers is None else Written(numbers, lambda: texts)
