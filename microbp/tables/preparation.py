"""The preparation: how the columns of a table become a matrix, and what the network's outputs mean.

`find_target` and `prepare` find it by a look at the rows; from then on it stays, and is kept in the notes of the network.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from ..core.specs import unknown
from ..data.arrays import Array
from ..network.network import Network
from .errors import Argument, TableError
from .summary import CLASSES, Summary, refuse_mistakes, summarize
from .table import LARGEST, Table, name_of, to_number

LEVELS = 100  # of a category, the most frequent ones; the others share a column
RARE = 3  # rows: levels with fewer share that column too, for a weight needs examples
NOTE = "microbp.table"  # under which a network's notes keep its preparation
_LABEL = re.compile(r"[-+]?0\d+|true|false", re.IGNORECASE)  # numbers that are names when they are classes: 007


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
        scaled = _scaled(table, self)
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
        column = table.texts(self.name) if self.classes else _scaled(table, self)
        empty = np.array([text is None for text in column.tolist()]) if self.classes else np.isnan(column)
        if empty.any():
            raise ValueError(f"{table.place(int(empty.argmax()), self.name)}: the target is missing: fill it in, or delete the row")
        if not self.classes:
            return column
        classes = {name: i for i, name in enumerate(self.classes)}
        place = {text: classes.get(text, classes.get(_shortest(text) or "")) for text in set(column.tolist())}
        for row, text in enumerate(column.tolist()):
            if place[text] is None:
                raise ValueError(f"{table.place(row, self.name)}: {unknown('class', text, self.classes)}, as in the rows of the training")
        return np.array([place[text] for text in column.tolist()])


def _scaled(table: Table, column: Number | Target) -> Array:
    """(value - centre) / scale; ValueError where float32 cannot hold it."""
    with np.errstate(over="ignore"):
        scaled = (table.numbers(column.name) - column.centre) / column.scale
    beyond = np.abs(scaled) > LARGEST
    if beyond.any():
        raise ValueError(f"{table.place(int(beyond.argmax()), column.name)}: the number is too far from those of the training: correct it")
    return np.asarray(scaled)


def _shortest(text: str) -> str | None:
    """A number written shortest: 1 for 1.0; None for another text."""
    value = to_number(text)
    return None if value is None else name_of(value)


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
        names = [name for name in table.columns if name not in (self.target.name, table.target)]
        if table.is_positional and self.positions is not None and len(names) != self.positions:
            raise ValueError(f"{table.where}: it has {len(names)} features; the network has learnt from {self.positions}")
        missing = [feature.name for feature in self.features if feature.name not in table.columns]
        if missing and not table.is_sparse:
            listed = ", ".join(missing[:5]) + (f" and {len(missing) - 5} more" if len(missing) > 5 else "")
            raise ValueError(
                f"{table.where}: it lacks the column{'s' * (len(missing) > 1)} {listed}, from which the network has learnt: it has "
                f"{', '.join(names[:10])}{' ...' if len(names) > 10 else ''}"
            )

    @property
    def outputs(self) -> int:
        """The number of the network's outputs: one for each class, or one for a number."""
        return len(self.target.classes) or 1

    def as_dict(self) -> dict[str, Any]:
        """All of it as JSON can say it; every number reads back exactly."""
        return asdict(self)

    @classmethod
    def from_dict(cls, said: Mapping[str, Any]) -> Preparation:
        """What `as_dict` said."""
        features: list[Number | Category] = [
            Category(**row | {"levels": tuple(row["levels"])}) if "levels" in row else Number(**row)
            for row in map(_checked, said["features"])
        ]
        target = Target(**_checked(said["target"]) | {"classes": tuple(said["target"]["classes"])})
        return cls(tuple(features), target, said["positions"], said["left_out"])

    @classmethod
    def of(cls, net: Network, where: object) -> Preparation | None:
        """The preparation in the notes of a network, None if there is none; where: what errors call the network."""
        said = net.notes.get(NOTE)
        if said is None:
            return None
        try:
            preparation = cls.from_dict(said)
            if (preparation.width, preparation.outputs) != (net.inputs[0].width, net.outputs[0].width):
                raise ValueError("it is of another network")
        except (KeyError, TypeError, ValueError, AttributeError):
            raise ValueError(
                f"{where}: its notes on its columns ({NOTE}) cannot be read: use the version of microbp that wrote them, or train it again"
            ) from None
        return preparation


_KINDS: dict[str, Any] = {
    "name": str, "centre": int | float, "scale": int | float, "missing": bool, "levels": list, "other": bool, "classes": list,
}  # fmt: skip


def _checked(row: Mapping[str, Any]) -> dict[str, Any]:
    """What a file says of a feature or the target; TypeError or ValueError if that is not of its kind."""
    for key, value in row.items():
        if not isinstance(value, _KINDS[key]) or (isinstance(value, list) and not all(isinstance(text, str) for text in value)):
            raise TypeError(f"{key} is {value!r}")
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{key} is {value!r}")
    if not row.get("scale", 1) > 0:
        raise ValueError("scale is not above 0")
    return dict(row)


def find_target(tables: Iterable[Table], name: str, classify: bool | None = None) -> Target:
    """What is to be predicted, after a look at all rows, whole or in pieces. classify: whether it is a class; None: as it looks."""
    known, where = None, ""
    for table in tables:
        found = summarize(table, name)
        known, where = found if known is None else known + found, table.where
    if known is None:
        raise ValueError("there are no rows to learn from")
    refuse_mistakes(name, known)
    return _target(where, name, known, classify)


def prepare(tables: Iterable[Table], target: Target, drop: Sequence[str] = ()) -> Preparation:
    """How columns become features, after a look at the rows to train on, given whole or in pieces."""
    known: dict[str, Summary] = {}
    first: Table | None = None
    for table in tables:
        first = first or table
        names = _feature_names(first, target, drop)
        found = {name: summarize(table, name) for name in names}
        known = {name: known[name] + summary for name, summary in found.items()} if known else found
    if first is None:
        raise ValueError("there are no rows to learn from")
    for name, summary in known.items():
        refuse_mistakes(name, summary)
    left_out: dict[str, str] = {}
    unit = _shared_unit(known) if first.is_positional else None
    if unit:
        features: list[Number | Category] = [Number(name, 0.0, unit, False) for name in names]
    else:
        features = [feature for name, summary in known.items() if (feature := _feature(name, summary, left_out)) is not None]
    if not features:
        raise ValueError(f"{first.where}: {_why_nothing_is_left(first, known, left_out)}")
    return Preparation(tuple(features), target, len(names) + len(drop) if first.is_positional else None, left_out)


def _why_nothing_is_left(table: Table, known: Mapping[str, Summary], left_out: Mapping[str, str]) -> str:
    if len(table.columns) == 1:
        return f"it has one column only, {next(iter(table.columns))!r}, and must have a target and others, separated by , ; | or tabs"
    if any(summary.rows < RARE for summary in known.values()):
        rows = next(iter(known.values())).rows
        return f"{rows} row{'s' * (rows > 1)} to train on, after those for test and validation, are too few to learn from"
    return f"no column is left to learn from{''.join(f'; {name}: {why}' for name, why in left_out.items())}"


def _shared_unit(known: Mapping[str, Summary]) -> float | None:
    """The highest number, if all columns begin at 0 and most of them come near it, as the pixels of pictures do."""
    highs = sorted(summary.high for summary in known.values())
    is_plain = all(summary.low == 0 and not summary.missing and not summary.is_text for summary in known.values())
    return highs[-1] if is_plain and highs and highs[len(highs) // 2] >= 0.9 * highs[-1] else None


def _feature_names(table: Table, target: Target, drop: Sequence[str]) -> list[str]:
    for name in drop:
        table.require(name)
    if target.name in drop:
        raise TableError(f"the target {target.name!r} cannot be dropped: name another by ", Argument("target"))
    return [name for name in table.columns if name not in (target.name, *drop)]


def _target(where: str, name: str, known: Summary, classify: bool | None) -> Target:
    what, another = f"{where}: the target {name!r}", ("name another by ", Argument("target"))
    if known.rows == known.missing:
        raise TableError(f"{what} is empty: ", *another)
    classes = _classes(known)
    if not known.is_text and not (bool(classes) and len(classes) <= CLASSES if classify is None else classify):
        if not known.varies:
            raise TableError(f"{what} is the same in all rows: there is nothing to learn; ", *another)
        return Target(name, (), known.mean, known.std)
    if len(classes) == 1:
        raise TableError(f"{what} holds one class only, {classes[0]!r}: there is nothing to learn; ", *another)
    if not classes or 2 * len(classes) > known.rows:
        why = "has almost as many values as rows" if classes or known.is_text else "holds numbers that are not whole, or too many"
        numbers = () if known.is_text else (Argument("loss", "mse"), " predicts them as numbers; or ")
        raise TableError(f"{what} {why}, so they are not classes: ", *numbers, *another)
    return Target(name, tuple(sorted(classes, key=lambda text: (to_number(text) or 0.0, text))))


def _classes(known: Summary) -> list[str]:
    """What the classes would be: texts, or whole numbers written shortest; none if there are too many, or numbers that are not whole."""
    levels = known.levels or {}
    if known.is_text or any(map(_LABEL.fullmatch, levels)):
        return list(levels)
    numbers = [to_number(text) or 0.0 for text in levels]
    return list({name_of(number) or "": 0 for number in numbers}) if all(map(float.is_integer, numbers)) else []


def _feature(name: str, known: Summary, left_out: dict[str, str]) -> Number | Category | None:
    """The features that a column makes; None, and the reason in `left_out`, if it cannot bring anything."""
    if known.rows == known.missing:
        left_out[name] = "it is empty"
    elif known.is_category:
        return _category(name, known, left_out)
    elif not known.varies and not known.missing:
        left_out[name] = "it is the same in all rows"
    elif not known.varies or (known.numbers and {to_number(text) for text in known.numbers} <= {0.0, 1.0}):
        return Number(name, 0.0, 1.0, known.missing > 0)  # an indicator is one as it is
    else:
        return Number(name, known.mean, known.std, known.missing > 0)
    return None


def _category(name: str, known: Summary, left_out: dict[str, str]) -> Category | None:
    levels = known.levels
    if levels is None or len(levels) > max(CLASSES, 0.5 * known.rows):
        left_out[name] = (
            "almost every row has its own text" if known.numbers is not None else "it has texts among too many different numbers"
        )
        return None
    counts = dict(levels) | ({"": known.missing} if known.missing else {})
    if len(counts) == 1:
        left_out[name] = "it is the same in all rows"
        return None
    frequent = sorted((level for level, count in counts.items() if count >= RARE), key=lambda level: (-counts[level], level))[:LEVELS]
    return Category(name, tuple(sorted(frequent)), len(frequent) < len(counts))
