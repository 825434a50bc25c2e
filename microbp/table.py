"""Tables: columns as a file holds them, what is known of each, and the preparation that makes a matrix of them.

A column is an array of numbers, NaN where one is missing, or of objects: texts, None where one is missing. Everything that a file may hold
and a network cannot take is refused here, by the file's name, the row (counted from 1, without the header) and the column.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from .arrays import Array
from .specs import unknown

CLASSES = 20  # whole numbers of a target are classes if there are at most so many of them
LEVELS = 100  # of a category, the most frequent ones; the others share a column
RARE = 3  # rows: levels with fewer share that column too, for a weight needs examples
COUNTED = 100_000  # different texts, or 1000 whole numbers, of a column: beyond these nothing is counted
_DATE = re.compile(r"\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}([T ].*)?|\d{1,2}:\d{2}(:\d{2}(\.\d*)?)?")


@dataclass(frozen=True)
class Table:
    """Columns by name, all of `count` rows."""

    where: str  # what errors call it: the file's name
    columns: Mapping[str, Array]
    count: int
    first: int = 0  # the number of its first row in the file, from 0
    rows: Array | None = None  # the numbers of its rows beyond `first`; None: one after another
    is_positional: bool = False  # names are only places, so there must be as many as the network has learnt from
    is_sparse: bool = False  # columns that are not there hold zeros

    def column(self, name: str) -> Array:
        """The column of that name; ValueError if there is none."""
        if name not in self.columns and self.is_sparse:
            return np.zeros(self.count)
        if name not in self.columns:
            raise ValueError(f"{self.where}: {unknown('column', name, list(self.columns)[:LEVELS])}")
        return self.columns[name]

    def take(self, rows: Array) -> Table:
        """A copy of some rows, which keep their numbers."""
        return replace(self, columns={name: column[rows] for name, column in self.columns.items()}, count=len(rows), rows=rows)

    def place(self, row: int, name: str) -> str:
        """How errors say where a cell is."""
        return f"{self.where}, row {self.first + int(row if self.rows is None else self.rows[row]) + 1}, column {name!r}"

    def numbers(self, name: str) -> Array:
        """A column as float64, NaN where a number is missing; ValueError names the cell that is no finite number."""
        column = self.column(name)
        if column.dtype == object:
            column = np.array([self._number(row, name, text) for row, text in enumerate(column)], dtype=np.float64)
        values = column.astype(np.float64, copy=False)
        if np.isinf(values).any():
            raise ValueError(f"{self.place(int(np.isinf(values).argmax()), name)}: the number is infinite: correct it, or leave it empty")
        return values

    def _number(self, row: int, name: str, text: str | None) -> float:
        value = math.nan if text is None else to_number(text)
        if value is None:
            raise ValueError(f"{self.place(row, name)}: {text!r} is no number: correct it, leave it empty, or --drop {name}")
        return value

    def texts(self, name: str) -> Array:
        """A column as texts, None where one is missing; numbers as they are written shortest."""
        column = self.column(name)
        if column.dtype == object:
            return column
        values, places = np.unique(column, return_inverse=True)
        return np.array([name_of(value) for value in values.tolist()], dtype=object)[places]


def to_number(text: str) -> float | None:
    """The number that a text is, or None."""
    try:
        return float(text) if "_" not in text else None
    except ValueError:
        return None


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
    """Of a column's cells: how many, the moments of the numbers, and how often each text or whole number occurs."""

    is_text: bool
    rows: int
    missing: int
    mean: float = 0.0
    squares: float = 0.0  # the sum of the squared differences from the mean
    low: float = math.inf
    high: float = -math.inf
    levels: Mapping[str, int] | None = None  # None: not whole, or too many

    @property
    def std(self) -> float:
        """The standard deviation of the numbers."""
        return math.sqrt(self.squares / max(self.rows - self.missing, 1))

    def __add__(self, other: Summary) -> Summary:
        """What is known of the rows of both (Chan, Golub & LeVeque 1979)."""
        count, more = self.rows - self.missing, other.rows - other.missing
        share, gap = more / max(count + more, 1), other.mean - self.mean
        levels = None if self.levels is None or other.levels is None else Counter(self.levels) + Counter(other.levels)
        return Summary(
            is_text=self.is_text,
            rows=self.rows + other.rows,
            missing=self.missing + other.missing,
            mean=self.mean + gap * share,
            squares=self.squares + other.squares + gap * gap * count * share,
            low=min(self.low, other.low),
            high=max(self.high, other.high),
            levels=_limited(levels, self.is_text),
        )


def summarise(table: Table, name: str, is_text: bool) -> Summary:
    """What is known of a column, read as texts or as numbers."""
    if is_text:
        levels = Counter(table.texts(name).tolist())
        missing = levels.pop(None, 0)
        return Summary(True, table.count, missing, levels=_limited(levels, True))
    values = table.numbers(name)
    present = values[~np.isnan(values)]
    if len(present) == 0:
        return Summary(False, table.count, table.count, levels={})
    mean = float(present.mean())
    squares = float(((present - mean) ** 2).sum())
    counted = _whole_levels(table.column(name), present)
    return Summary(False, table.count, table.count - len(present), mean, squares, float(present.min()), float(present.max()), counted)


def _whole_levels(column: Array, present: Array) -> Mapping[str, int] | None:
    """How often each whole number, or truth, occurs."""
    low, high = present.min(), present.max()
    if (present != np.floor(present)).any():
        return None
    if high - low < COUNTED:
        counts = np.bincount((present - low).astype(np.int64))
        values, counts = np.flatnonzero(counts) + low, counts[counts > 0]
    else:
        values, counts = np.unique(present, return_counts=True)
    names = [name_of(bool(value) if column.dtype == bool else value) or "" for value in values[:1001].tolist()]
    return _limited(dict(zip(names, counts.tolist())), False)


def _limited(levels: Mapping[str, int] | None, is_text: bool) -> Mapping[str, int] | None:
    return None if levels is None or len(levels) > (COUNTED if is_text else 1000) else levels


def holds_text(table: Table, name: str) -> bool:
    """Whether a column is one of texts: readers give such only where not all are numbers, or where the numbers are names.

    A date, or a few texts among many numbers, is an error: most likely it is not what was meant.
    """
    column = table.column(name)
    if column.dtype != object:
        return False
    levels = Counter(text for text in column.tolist() if text is not None)
    if levels and all(_DATE.fullmatch(text) for text in levels):
        raise ValueError(
            f"{table.place(0, name)}: {column[0] or next(iter(levels))!r} is a date or a time, which a network cannot take: "
            f"write what matters of it (year, month, hour) as numbers, or --drop {name}"
        )
    wrong = {text for text in levels if to_number(text) is None}
    numbers = len(levels) - len(wrong)
    if wrong and numbers > CLASSES and sum(levels[text] for text in wrong) < 0.1 * levels.total():
        table.numbers(name)  # raises, and names the first of them
    return True


# ---- from columns to a matrix ----


@dataclass(frozen=True)
class Number:
    """A feature (value - centre) / scale, 0 where the value is missing; with `missing`, a second one that says so by 1."""

    name: str
    centre: float
    scale: float
    missing: bool

    @property
    def width(self) -> int:
        return 1 + self.missing

    def fill(self, table: Table, out: Array) -> None:
        """Writes the features of all rows."""
        scaled = (table.numbers(self.name) - self.centre) / self.scale
        empty = np.isnan(scaled)
        out[:, 0] = np.where(empty, 0.0, scaled)
        if self.missing:
            out[:, 1] = empty


@dataclass(frozen=True)
class Category:
    """A feature for each level, 1 where it is the row's; a missing text is the level "". `other`: one more, for all other texts."""

    name: str
    levels: tuple[str, ...]
    other: bool

    @property
    def width(self) -> int:
        return len(self.levels) + self.other

    def fill(self, table: Table, out: Array) -> None:
        """Writes the features of all rows; a text that is no level and has no column leaves all of them 0."""
        place = {level: i for i, level in enumerate(self.levels)}
        places = np.array([place.get(text or "", len(self.levels)) for text in table.texts(self.name).tolist()], dtype=np.int64)
        out[...] = places[:, None] == np.arange(self.width)


@dataclass(frozen=True)
class Target:
    """What is to be predicted: one of the classes, or a number, of which the network learns (value - centre) / scale."""

    name: str
    classes: tuple[str, ...] = ()
    centre: float = 0.0
    scale: float = 1.0

    def values(self, table: Table) -> Array:
        """The numbers of the classes, or the scaled numbers; ValueError names a row without one, or with a class that is not known."""
        column = table.texts(self.name) if self.classes else table.numbers(self.name)
        empty = np.array([text is None for text in column.tolist()]) if self.classes else np.isnan(column)
        if empty.any():
            raise ValueError(f"{table.place(int(empty.argmax()), self.name)}: the target is missing: fill it in, or delete the row")
        if not self.classes:
            return np.asarray((column - self.centre) / self.scale)
        place = {name: i for i, name in enumerate(self.classes)}
        for row, text in enumerate(column.tolist()):
            if text not in place:
                raise ValueError(f"{table.place(row, self.name)}: {unknown('class', text, self.classes)}, as in the rows of the training")
        return np.array([place[text] for text in column.tolist()])


@dataclass(frozen=True)
class Preparation:
    """How raw columns become a matrix, and what its rows' outputs mean. `left_out`: columns that bring nothing, and why."""

    features: tuple[Number | Category, ...]
    target: Target
    positions: int | None = None  # how many features a table without names must have
    left_out: Mapping[str, str] = field(default_factory=dict)

    @property
    def width(self) -> int:
        """The number of the matrix's columns."""
        return sum(feature.width for feature in self.features)

    def matrix(self, table: Table) -> Array:
        """The rows as float32."""
        self._check(table)
        out = np.empty((table.count, self.width), np.float32)
        start = 0
        for feature in self.features:
            feature.fill(table, out[:, start : start + feature.width])
            start += feature.width
        return out

    def _check(self, table: Table) -> None:
        names = [name for name in table.columns if name != self.target.name]
        if table.is_positional and self.positions is not None and len(names) != self.positions:
            raise ValueError(f"{table.where}: it has {len(names)} features; the network has learnt from {self.positions}")
        missing = [feature.name for feature in self.features if feature.name not in table.columns]
        if missing and not table.is_sparse:
            listed = ", ".join(missing[:5]) + (f" and {len(missing) - 5} more" if len(missing) > 5 else "")
            raise ValueError(
                f"{table.where}: it lacks the column{'s' * (len(missing) > 1)} {listed}, from which the network has learnt: it has "
                f"{', '.join(names[:10])}{' ...' if len(names) > 10 else ''}"
            )

    def as_dict(self) -> dict[str, Any]:
        """All of it as JSON can say it; every number reads back exactly."""
        return asdict(self)

    @classmethod
    def from_dict(cls, said: Mapping[str, Any]) -> Preparation:
        """What `as_dict` said."""
        features: list[Number | Category] = [
            Category(**row | {"levels": tuple(row["levels"])}) if "levels" in row else Number(**row) for row in said["features"]
        ]
        target = Target(**said["target"] | {"classes": tuple(said["target"]["classes"])})
        return cls(tuple(features), target, said["positions"], said["left_out"])


def find_target(tables: Iterable[Table], name: str, classify: bool | None = None) -> Target:
    """What is to be predicted, after a look at all rows, whole or in pieces. classify: whether it is a class; None: as it looks."""
    known, where = None, ""
    for table in tables:
        found = summarise(table, name, holds_text(table, name) if known is None else known.is_text)
        known, where = found if known is None else known + found, table.where
    if known is None:
        raise ValueError("there are no rows to learn from")
    return _target(where, name, known, classify)


def prepare(tables: Iterable[Table], target: Target, drop: Sequence[str] = ()) -> Preparation:
    """How columns become features, after a look at the rows to train on, given whole or in pieces."""
    known: dict[str, Summary] = {}
    first: Table | None = None
    for table in tables:
        if first is None:
            first = table
            names = _feature_names(table, target, drop)
            known = {name: summarise(table, name, holds_text(table, name)) for name in names}
        else:
            known = {name: before + summarise(table, name, before.is_text) for name, before in known.items()}
    if first is None:
        raise ValueError("there are no rows to learn from")
    left_out: dict[str, str] = {}
    unit = _shared_unit(known) if first.is_positional else None
    if unit:
        features: list[Number | Category] = [Number(name, 0.0, unit, False) for name in names]
    else:
        features = [feature for name, summary in known.items() if (feature := _feature(name, summary, left_out)) is not None]
    if not features:
        raise ValueError(f"{first.where}: no column is left to learn from{''.join(f'; {name}: {why}' for name, why in left_out.items())}")
    return Preparation(tuple(features), target, len(names) + len(drop) if first.is_positional else None, left_out)


def _shared_unit(known: Mapping[str, Summary]) -> float | None:
    """The highest number, if all columns begin at 0 and most of them come near it, as the pixels of pictures do."""
    highs = sorted(summary.high for summary in known.values())
    is_plain = all(summary.low == 0 and not summary.missing and not summary.is_text for summary in known.values())
    return highs[-1] if is_plain and highs and highs[len(highs) // 2] >= 0.9 * highs[-1] else None


def _feature_names(table: Table, target: Target, drop: Sequence[str]) -> list[str]:
    for name in drop:
        table.column(name)
    if target.name in drop:
        raise ValueError(f"the target {target.name!r} cannot be dropped: name another by --target")
    return [name for name in table.columns if name not in (target.name, *drop)]


def _target(where: str, name: str, known: Summary, classify: bool | None) -> Target:
    what = f"{where}: the target {name!r}"
    levels = known.levels or {}
    if classify is None:
        classify = known.is_text or 1 <= len(levels) <= CLASSES
    if not (classify or known.is_text):
        if not known.low < known.high:
            raise ValueError(f"{what} is the same in all rows: there is nothing to learn; name another by --target")
        return Target(name, (), known.mean, known.std)
    if len(levels) == 1:
        raise ValueError(f"{what} holds one class only, {min(levels)!r}: there is nothing to learn; name another by --target")
    if not levels or 2 * len(levels) > known.rows:
        raise ValueError(f"{what} has almost as many values as rows, so they are no classes: name another by --target")
    return Target(name, tuple(sorted(levels, key=lambda text: (to_number(text) or 0.0, text))))


def _feature(name: str, known: Summary, left_out: dict[str, str]) -> Number | Category | None:
    """The features that a column makes; None, and the reason in `left_out`, if it cannot bring anything."""
    if known.rows == known.missing:
        left_out[name] = "it is empty"
    elif known.is_text:
        return _category(name, known, left_out)
    elif known.low == known.high and not known.missing:
        left_out[name] = "it is the same in all rows"
    elif known.low == known.high or (known.levels and set(known.levels) <= {"0", "1", "false", "true"}):
        return Number(name, 0.0, 1.0, known.missing > 0)  # an indicator is one as it is
    else:
        return Number(name, known.mean, known.std, known.missing > 0)
    return None


def _category(name: str, known: Summary, left_out: dict[str, str]) -> Category | None:
    if known.levels is None or len(known.levels) > max(CLASSES, 0.5 * known.rows):
        left_out[name] = "almost every row has its own text"
        return None
    counts = dict(known.levels) | ({"": known.missing} if known.missing else {})
    if len(counts) == 1:
        left_out[name] = "it is the same in all rows"
        return None
    frequent = sorted((level for level, count in counts.items() if count >= RARE), key=lambda level: (-counts[level], level))[:LEVELS]
    return Category(name, tuple(sorted(frequent)), len(frequent) < len(counts))
