"""Tables: columns as a file holds them, and what is known of each.

A column is an array of numbers, NaN where one is missing, or of objects: texts, None where one is missing. Whether texts are numbers or
levels is not for a cell or a piece to say: all rows of the training decide it together, and from then on the preparation that came of them.
What a file may hold and a network cannot take is refused by the file's name, the row (counted from 1, without the header) and the column.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from .arrays import Array
from .specs import unknown

CLASSES = 20  # whole numbers of a target are classes if there are at most so many of them
COUNTED = 100_000  # different texts of a column: beyond these nothing is counted
COUNTED_NUMBERS = 10_000
LARGEST = float(np.finfo(np.float32).max)
_DATE = re.compile(r"\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}([T ].*)?|\d{1,2}:\d{2}(:\d{2}(\.\d*)?)?")
_COMMA = re.compile(r"[-+]?\d+(,\d+)+(\.\d*)?|[-+]?\d*(\.\d+)*,\d+")  # decimal or of thousands


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
    """Columns by name, all of `count` rows."""

    where: str  # what errors call it: the file's name
    columns: Mapping[str, Array | Written | Unusable]
    count: int
    first: int = 0  # the number of its first row in the file, from 0
    rows: Array | None = None  # the numbers of its rows beyond `first`; None: one after another
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
            raise ValueError(f"{self.where}: column {name!r} {column.why}, or train without it: --drop {name}")
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
        """A column as float64, NaN where a number is missing; ValueError names the cell that is none, or beyond float32."""
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
            raise ValueError(f"{self.place(row, name)}: {text!r} is no number: correct it, or leave it empty")
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


def column_names(where: str, names: Iterable[Any]) -> list[str]:
    """Names without blanks around them, column_1 where there is none; ValueError if two are the same."""
    clean = [str(name).strip() or f"column_{i}" for i, name in enumerate(names, 1)]
    twice = [name for name, count in Counter(clean).items() if count > 1]
    if twice:
        raise ValueError(f"{where}: two columns are named {twice[0]!r}: rename one")
    return clean


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


# ---- what is known of a column ----


@dataclass(frozen=True)
class Summary:
    """Of a column's cells: how many, how often each number and each other text occurs, and if all are numbers, their moments."""

    is_text: bool  # it is a column of texts: some cells of the file, if not of these rows, are no numbers
    rows: int
    missing: int
    mean: float = 0.0
    squares: float = 0.0  # the sum of the squared differences from the mean
    low: float = math.inf
    high: float = -math.inf
    numbers: Mapping[str, int] | None = field(default_factory=dict)  # as they are written; None: too many
    texts: Mapping[str, int] | None = field(default_factory=dict)  # those that are no numbers
    first: tuple[str, str] | None = None  # of these, where it stands and what it is

    @property
    def std(self) -> float:
        """The standard deviation of the numbers."""
        return math.sqrt(self.squares / max(self.rows - self.missing, 1))

    @property
    def varies(self) -> bool:
        """Whether not all numbers are the same, as far as arithmetic can tell."""
        return self.low < self.high and self.std > 0

    @property
    def is_category(self) -> bool:
        """Whether a feature of its cells are levels; where many numbers are without texts in these rows, one elsewhere is a mistake."""
        return self.is_text and (bool(self.texts) or self.texts is None or (self.numbers is not None and len(self.numbers) <= CLASSES))

    @property
    def levels(self) -> Mapping[str, int] | None:
        """How often each text occurs, numbers included; None: too many."""
        return None if self.numbers is None or self.texts is None else {**self.numbers, **self.texts}

    def __add__(self, other: Summary) -> Summary:
        """What is known of the rows of both (Chan, Golub & LeVeque 1979)."""
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


def summarise(table: Table, name: str) -> Summary:
    """What is known of a column."""
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
    """How often each number and each other text occurs."""
    levels = Counter(text for text in cells if text is not None)
    texts = {text: count for text, count in levels.items() if to_number(text) is None}
    return {text: count for text, count in levels.items() if text not in texts}, texts


def _written(table: Table, name: str, present: Array) -> Mapping[str, int] | None:
    """How often each number occurs, as it is written."""
    if len(np.unique(present)) > COUNTED_NUMBERS:
        return None
    return _limited(Counter(text for text in table.texts(name).tolist() if text is not None), COUNTED_NUMBERS)


def _whole(column: Array, present: Array) -> Mapping[str, int] | None:
    """How often each whole number, or truth, occurs; None if not all are whole."""
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
    """Refuses texts that are most likely not what was meant: dates, numbers with commas, a few texts among many numbers."""
    if known.first is None or not known.texts:
        return
    place, text = known.first
    if not known.numbers and known.numbers is not None and all(map(_DATE.fullmatch, known.texts)):
        raise ValueError(
            f"{place}: {text!r} is a date or a time, which a network cannot take: "
            f"write what matters of it (year, month, hour) as numbers, or --drop {name}"
        )
    if all(map(_COMMA.fullmatch, known.texts)):
        raise ValueError(f"{place}: {text!r} has a comma: write the number without, with a decimal point, or --drop {name}")
    is_rare = sum(known.texts.values()) < 0.1 * (known.rows - known.missing)
    if is_rare and (known.numbers is None or len(known.numbers) > CLASSES):
        raise ValueError(f"{place}: {text!r} is no number: correct it, leave it empty, or --drop {name}")
