"""The preparation: how the columns of a table become a matrix, and what the network's outputs mean.

`find_target` and `prepare` determine it from the rows. It never changes afterwards, and is saved in the network's notes.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from ..core.specs import unknown
from ..core.text import counted
from ..data.arrays import Array
from ..network.network import Network
from .columns import Columns
from .date_feature import PARTS, PERIODS, Date
from .readers.cells import MARKS, Reading, to_number
from .readers.dates import ORDERS
from .readers.errors import Argument, ArgumentError, TableError
from .readers.table import DEFAULT_NAME, LARGEST, NO_NAMES, Table, name_of
from .summary import CLASSES, Summary, summarize

LEVELS = 100  # maximum number of levels: the most frequent values of a category column, with a feature each; other values share one
RARE = 3  # a value in fewer rows than this is not a level: too few examples to train a weight
NOTE = "microbp.table"  # the key of the preparation in a network's notes
_LABEL = re.compile(r"[-+]?0\d+|true|false", re.IGNORECASE)  # classes that are names although they look like numbers: 007


@dataclass
class Tally:
    """Counts of cells by column: values that training did not have, bad cells, gaps where training had none, numbers far outside the range
    of training. A category with a feature for other values has no new values or gaps: training had cells like them.
    """

    unseen: Counter[str] = field(default_factory=Counter)
    bad: Counter[str] = field(default_factory=Counter)
    gaps: Counter[str] = field(default_factory=Counter)
    far: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class Number:
    """A feature (value - centre) / scale, 0 for a missing value. `missing`: whether a second feature marks missing values with 1.

    low, high: the range of the training rows, if known. A number is far from it if it is further away than the range is wide.
    """

    name: str
    centre: float
    scale: float
    missing: bool
    low: float | None = field(default=None, compare=False)
    high: float | None = field(default=None, compare=False)

    @property
    def width(self) -> int:
        return 1 + self.missing

    def fill(self, table: Table, out: Array, tally: Tally | None = None) -> None:
        """Writes the features of all rows."""
        scaled = _scaled(table, self, None if tally is None else tally.bad)
        empty = np.isnan(scaled)
        out[:, 0] = np.where(empty, 0.0, scaled)
        if self.missing:
            out[:, 1] = empty
        if tally is not None:
            tally.gaps[self.name] += 0 if self.missing else int(empty.sum()) - tally.bad[self.name]
            tally.far[self.name] += self._far(scaled)

    def _far(self, scaled: Array) -> int:
        if self.low is None or self.high is None:
            return 0
        low, high = (self.low - self.centre) / self.scale, (self.high - self.centre) / self.scale
        return int(((scaled < 2 * low - high) | (scaled > 2 * high - low)).sum())


@dataclass(frozen=True)
class Category:
    """A 0/1 feature for each of the values `levels`; "" is a missing value. `other`: whether all other values share one more feature.

    A number that is no level is looked up by its value, so 1.0 is the level 1.
    """

    name: str
    levels: tuple[str, ...]
    other: bool

    @property
    def width(self) -> int:
        return len(self.levels) + self.other

    def fill(self, table: Table, out: Array, tally: Tally | None = None) -> None:
        """Writes the features of all rows. Without `other`, an unknown value makes all features 0."""
        levels = {level: i for i, level in enumerate(self.levels)}
        numbers = {_shortest(level): i for i, level in reversed(list(enumerate(self.levels)))}
        texts = [text or "" for text in table.texts(self.name).tolist()]
        place = {text: levels.get(text, numbers.get(_shortest(text) or text, len(levels))) for text in set(texts)}
        places = np.array([place[text] for text in texts], dtype=np.int64)
        out[...] = places[:, None] == np.arange(self.width)
        if tally is not None and not self.other:
            unknown = [text for text in texts if place[text] == len(levels)]
            tally.gaps[self.name] += unknown.count("")
            tally.unseen[self.name] += len(unknown) - unknown.count("")


_NO_COLUMNS = Columns()
Feature = Number | Category | Date


@dataclass(frozen=True)
class Target:
    """What to predict: one of the classes, or a number; the network is trained on (value - centre) / scale, see `prepare`."""

    name: str
    classes: tuple[str, ...] = ()
    centre: float = 0.0
    scale: float = 1.0

    def values(self, table: Table) -> Array:
        """Class indices, or scaled numbers. If a value is missing or a class is unknown, a ValueError names its row."""
        column = table.texts(self.name) if self.classes else _scaled(table, self)
        empty = np.array([text is None for text in column.tolist()]) if self.classes else np.isnan(column)
        if empty.any():
            raise ValueError(f"{table.place(int(empty.argmax()), self.name)}: the target is missing; fill it in or delete the row")
        if not self.classes:
            return column
        fold = str.lower if {name.lower() for name in self.classes} == {"true", "false"} else str
        classes = {fold(name): i for i, name in enumerate(self.classes)}
        place = {text: classes.get(fold(text), classes.get(_shortest(text) or "")) for text in set(column.tolist())}
        for row, text in enumerate(column.tolist()):
            if place[text] is None:
                raise ValueError(f"{table.place(row, self.name)}: {unknown('class', text, self.classes)}")
        return np.array([place[text] for text in column.tolist()])


def _scaled(table: Table, column: Number | Target, bad: Counter[str] | None = None) -> Array:
    """(value - centre) / scale; ValueError if it overflows float32. bad: as in `Table.numbers`."""
    with np.errstate(over="ignore"):
        scaled = (table.numbers(column.name, bad) - column.centre) / column.scale
    beyond = np.abs(scaled) > LARGEST
    if beyond.any() and bad is not None:
        bad[column.name] += int(beyond.sum())
        return np.where(beyond, np.nan, scaled)
    if beyond.any():
        place = table.place(int(beyond.argmax()), column.name)
        raise ValueError(f"{place}: the number is so far from the training data that it overflows float32 after scaling; correct it")
    return np.asarray(scaled)


def _shortest(text: str) -> str | None:
    """A number in its shortest form: 1 for 1.0; None for other text."""
    value = to_number(text)
    return None if value is None else name_of(value)


@dataclass(frozen=True)
class Preparation:
    """How columns become a matrix, and what outputs mean.

    left_out: columns that are not used, and why. readings: how the cells of columns are read, if they are not plain numbers or texts.
    assumptions: what was assumed about columns, one line each. gaps: which columns have missing values, one line each.
    weight: the column with the weights of rows.
    """

    features: tuple[Feature, ...]
    target: Target
    positions: int | None = None  # the number of feature columns that a table without column names must have
    left_out: Mapping[str, str] = field(default_factory=dict)
    readings: Mapping[str, Reading] = field(default_factory=dict)
    assumptions: tuple[str, ...] = ()
    gaps: tuple[str, ...] = ()
    weight: str | None = None

    @property
    def width(self) -> int:
        """The number of columns of the matrix."""
        return sum(feature.width for feature in self.features)

    def matrix(self, table: Table, tally: Tally | None = None) -> Array:
        """The rows as float32. A bad cell raises an error; with a tally, it counts and becomes a gap."""
        self._check(table)
        table = replace(table, readings=self.readings)
        out = np.empty((table.count, self.width), np.float32)
        start = 0
        for feature in self.features:
            part = out[:, start : start + feature.width]
            counts = Tally() if tally is not None else None
            feature.fill(table, part, counts)
            if tally is not None and counts is not None:
                _add(tally, counts)
            start += feature.width
        return out

    def _check(self, table: Table) -> None:
        names = [name for name in table.columns if name not in (self.target.name, table.target)]
        if table.is_positional and self.positions is not None and len(names) != self.positions:
            raise ValueError(f"{table.where}: has {counted(len(names), 'feature')}, but the network was trained on {self.positions}")
        missing = [feature.name for feature in self.features if feature.name not in table.columns]
        if missing and not table.is_sparse:
            listed = ", ".join(missing[:5]) + (f" and {len(missing) - 5} more" if len(missing) > 5 else "")
            what = f"{table.where}: missing column{'s' * (len(missing) > 1)} {listed}, used in training; the table has the columns "
            what += f"{', '.join(names[:10])}{' ...' if len(names) > 10 else ''}"
            if all(map(DEFAULT_NAME.fullmatch, missing)) and not table.is_unnamed:
                raise TableError(f"{what}; if its first row is no header, use ", Argument("no_header"))
            raise ValueError(f"{what}; {NO_NAMES}" if table.is_unnamed else what)

    @property
    def outputs(self) -> int:
        """The number of outputs of the network: one per class, or one for a number."""
        return len(self.target.classes) or 1

    def as_dict(self) -> dict[str, Any]:
        """The preparation in JSON-serializable types; numbers are exact."""
        return asdict(self)

    @classmethod
    def from_dict(cls, saved: Mapping[str, Any]) -> Preparation:
        """Creates a preparation from what `as_dict` returned."""
        features = [_feature_from(_checked(row)) for row in saved["features"]]
        target = Target(**_checked(saved["target"]) | {"classes": tuple(saved["target"]["classes"])})
        positions, left_out = saved["positions"], saved["left_out"]
        weight = saved.get("weight")
        if not isinstance(positions, int | None) or not isinstance(left_out, Mapping) or not isinstance(weight, str | None):
            raise TypeError("positions, left_out or weight is invalid")
        readings = {name: Reading(**_checked_reading(row)) for name, row in saved.get("readings", {}).items()}
        if any(isinstance(feature, Date) and readings[feature.name].kind != "date" for feature in features):
            raise ValueError("a date has no order")
        assumptions, gaps = (tuple(map(str, saved.get(key, ()))) for key in ("assumptions", "gaps"))
        return cls(
            tuple(features), target, positions, {name: str(why) for name, why in left_out.items()}, readings, assumptions, gaps, weight
        )

    @classmethod
    def of(cls, net: Network, where: object) -> Preparation | None:
        """The preparation in a network's notes, or None if there is none. where: the network's name in errors."""
        try:
            saved = net.notes.get(NOTE)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from None
        if saved is None:
            return None
        try:
            preparation = cls.from_dict(saved)
            widths = [*(entry.width for entry in net.inputs), *(entry.width for entry in net.outputs)]
            if [preparation.width, preparation.outputs] != widths:
                raise ValueError("it does not match the network")
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
            raise ValueError(
                f"{where}: the notes on the columns ({NOTE}) cannot be read; use the microbp version that wrote them, or train again"
            ) from None
        return preparation


def _add(tally: Tally, counts: Tally) -> None:
    for kind in ("unseen", "bad", "gaps", "far"):
        getattr(tally, kind).update(+getattr(counts, kind))


_KINDS: dict[str, Any] = {
    "name": str, "centre": int | float, "scale": int | float, "missing": bool, "levels": list, "other": bool, "classes": list,
    "low": int | float | None, "high": int | float | None, "linear": dict, "periodic": list,
}  # fmt: skip


def _feature_from(row: dict[str, Any]) -> Feature:
    if "levels" in row:
        return Category(**row | {"levels": tuple(row["levels"])})
    if "linear" not in row:
        return Number(**row)
    linear = {part: (float(centre), float(scale)) for part, (centre, scale) in row["linear"].items()}
    are_parts = set(linear) <= set(PARTS) and set(row["periodic"]) <= set(PERIODS)
    if not are_parts or not all(abs(centre) <= 1e7 and 1e-30 < scale <= 1e7 for centre, scale in linear.values()):
        raise ValueError("the parts of a date are invalid")
    return Date(**row | {"linear": linear, "periodic": tuple(row["periodic"])})


def _checked_reading(row: Mapping[str, Any]) -> dict[str, Any]:
    """Checks a reading from a file; TypeError, ValueError or KeyError if a value is invalid."""
    lists = {key: tuple(map(str, row[key])) for key in ("values", "missing")}
    texts = {key: str(row[key]) for key in ("kind", "decimal", "thousands", "unit", "order")}
    if texts["kind"] not in ("number", "date", "text") or (texts["kind"] == "date") != (texts["order"] in ORDERS):
        raise ValueError("a reading is invalid")
    if (texts["decimal"], texts["thousands"]) not in MARKS:
        raise ValueError("the marks of a number are invalid")
    return {**texts, **lists}


def _checked(row: Mapping[str, Any]) -> dict[str, Any]:
    """Checks a feature or target from a file; TypeError or ValueError if a value is invalid."""
    for key, value in row.items():
        if not isinstance(value, _KINDS[key]) or (isinstance(value, list) and not all(isinstance(text, str) for text in value)):
            raise TypeError(f"{key} is invalid")
        is_number = key in ("centre", "scale") or (key in ("low", "high") and value is not None)
        if is_number and (isinstance(value, bool) or not abs(float(value)) <= 2 * LARGEST):  # cells are at most LARGEST
            raise ValueError(f"{key} is invalid")
    if not row.get("scale", 1) > 0:
        raise ValueError("scale is not above 0")
    return dict(row)


def find_target(tables: Iterable[Table], name: str, classify: bool | None = None) -> Target:
    """Determines the target from all rows; `prepare` scales it. tables: one table, or the pieces of a stream.

    classify: True for classes, False for numbers, None to decide from the values.
    """
    known, where = None, ""
    for table in tables:
        found = summarize(table, name)
        known, where = found if known is None else known + found, table.where
    if known is None:
        raise ValueError("there are no rows to train on")
    return _target(where, name, known, classify)


def prepare(
    tables: Iterable[Table], target: Target, drop: Sequence[str] = (), scales: bool = True, columns: Columns = _NO_COLUMNS
) -> Preparation:
    """Determines the preparation from the training rows. tables: one table, or the pieces of a stream. scales: whether to scale a numeric
    target. columns: how the columns of these tables are read.
    """
    known: dict[str, Summary] = {}
    first: Table | None = None
    for table in tables:
        first = first or table
        names = _feature_names(first, target, [*drop, *columns.left_out])
        found = {name: summarize(table, name) for name in ([*names, target.name] if scales and not target.classes else names)}
        known = {name: known[name] + summary for name, summary in found.items()} if known else found
    if first is None:
        raise ValueError("there are no rows to train on")
    if target.name in known:
        centre, scale = _scaling(known.pop(target.name))
        target = replace(target, centre=centre, scale=scale)
    left_out = dict(columns.left_out)
    unit = _shared_unit(known) if first.is_positional else None
    if unit:
        features: list[Feature] = [Number(name, 0.0, unit, False) for name in names]
    else:
        features = [feature for name, summary in known.items() if (feature := _feature(name, summary, left_out)) is not None]
    if not features:
        raise TableError(f"{first.where}: ", *_why_nothing_is_left(known, left_out))
    used = {*(feature.name for feature in features), target.name}
    readings = {name: reading for name, reading in columns.readings.items() if name in used and reading not in (Reading(), Reading("text"))}
    positions = len(names) + len(drop) if first.is_positional else None
    merged = [text for feature in features if isinstance(feature, Category) for text in _merged(feature, known[feature.name])]
    return Preparation(tuple(features), target, positions, left_out, readings, (*columns.assumptions, *merged), columns.gaps)


def _merged(category: Category, known: Summary) -> Iterator[str]:
    """Says it if more than half of the different values of a column share one feature."""
    count = len(known.levels or ())
    rest = count - len([level for level in category.levels if level])
    if 2 * rest > count:
        yield f'{category.name}: {rest} of {count} different values are rare and count as "another value"'


def _why_nothing_is_left(known: Mapping[str, Summary], left_out: Mapping[str, str]) -> list[str | Argument]:
    if not known:
        return ["no column to predict from: ", Argument("drop"), " names all except the target"]
    if any(summary.rows < RARE for summary in known.values()):
        rows = next(iter(known.values())).rows
        what = f"only {counted(rows, 'row')} left for training after the split into train, validation and test"
        return [f"{what}; at least {RARE} are needed"]
    return [f"no usable column{''.join(f'; {name}: {why}' for name, why in left_out.items())}"]


def _shared_unit(known: Mapping[str, Summary]) -> float | None:
    """The maximum of all columns if they look like pixels: each has minimum 0, and half of them reach 90 % of that maximum; else None."""
    highs = sorted(summary.high for summary in known.values())
    is_plain = all(summary.low == 0 and not summary.missing and not summary.is_text for summary in known.values())
    return highs[-1] if is_plain and highs and highs[len(highs) // 2] >= 0.9 * highs[-1] else None


def _feature_names(table: Table, target: Target, drop: Sequence[str]) -> list[str]:
    for name in drop:
        table.require(name, "drop")
    if target.name in drop:
        raise ArgumentError("drop", f"{target.name!r} is the target; choose another with ", Argument("target"))
    return [name for name in table.columns if name not in (target.name, *drop)]


def _target(where: str, name: str, known: Summary, classify: bool | None) -> Target:
    what, another = f"{where}: the target {name!r}", ("choose another target with ", Argument("target"))
    if known.parts:
        raise TableError(f"{what} contains dates or times, which cannot be predicted; ", *another)
    if known.rows == known.missing:
        raise TableError(f"{what} is empty; ", *another)
    classes = _classes(known)
    if not known.is_text and not (bool(classes) and len(classes) <= CLASSES if classify is None else classify):
        if not known.varies:
            raise TableError(f"{what} is constant: there is nothing to predict; ", *another)
        return Target(name)
    if len(classes) == 1:
        raise TableError(f"{what} has only one class, {classes[0]!r}: there is nothing to predict; ", *another)
    if not classes or 2 * len(classes) > known.rows:
        why = "contains fractions or too many different numbers"
        if classes or known.is_text:
            why = "has more different values than half the number of rows" if classes else "has too many different values"
        numbers = () if known.is_text else ("predict numbers with ", Argument("loss", "mse"), ", or ")
        raise TableError(f"{what} {why}, so it cannot be used as classes; ", *numbers, *another)
    return Target(name, tuple(sorted(classes, key=lambda text: (to_number(text) or 0.0, text))))


def _classes(known: Summary) -> list[str]:
    """The possible classes: strings, or whole numbers in their shortest form. Empty for fractions and for too many values."""
    levels = known.levels or {}
    if {text.lower() for text in levels} <= {"true", "false"}:
        return list(dict.fromkeys(map(str.lower, levels)))  # a data frame's booleans are in lower case, those of a text file in any
    if known.is_text or any(map(_LABEL.fullmatch, levels)):
        return list(levels)
    numbers = [to_number(text) or 0.0 for text in levels]
    return list({name_of(number) or "": 0 for number in numbers}) if all(map(float.is_integer, numbers)) else []


def _feature(name: str, known: Summary, left_out: dict[str, str]) -> Feature | None:
    """The features of a column. For a column that is not used: None, and `left_out` gets the reason."""
    if known.rows == known.missing:
        left_out[name] = "empty"
    elif known.is_text:
        return _category(name, known, left_out)
    elif known.parts:
        return _date(name, known, left_out)
    elif not known.varies and not known.missing:
        left_out[name] = "constant"
    elif known.varies and known.levels and {to_number(text) for text in known.levels} <= {0.0, 1.0}:
        return Number(name, 0.0, 1.0, known.missing > 0, known.low, known.high)  # 0 and 1 are not scaled
    else:
        return Number(name, *_scaling(known), known.missing > 0, known.low, known.high)
    return None


def _date(name: str, known: Summary, left_out: dict[str, str]) -> Date | None:
    """The parts of a date that vary."""
    parts = {part: summary for part, summary in known.parts.items() if summary.varies}
    if not parts and not known.missing:
        left_out[name] = "constant"
        return None
    if known.parts["elapsed"].high < 1:  # times of day
        parts.pop("elapsed", None)
    linear = {part: (summary.mean, summary.std) for part, summary in parts.items() if part not in PERIODS}
    return Date(name, linear, tuple(part for part in parts if part in PERIODS), known.missing > 0)


def _scaling(known: Summary) -> tuple[float, float]:
    """Centre and scale of numbers: mean and standard deviation. Of a constant: the constant, and its magnitude, so that another value later
    is about as far away as it looks."""
    return (known.mean, known.std) if known.varies else (known.low, abs(known.low) or 1.0)


def _category(name: str, known: Summary, left_out: dict[str, str]) -> Category | None:
    levels = known.levels
    if levels is None or len(levels) > max(CLASSES, 0.5 * known.rows):
        left_out[name] = "text with too many different values"
        return None
    if len(levels) == known.rows - known.missing >= RARE:
        left_out[name] = "text, different in each row"
        return None
    counts = dict(levels) | ({"": known.missing} if known.missing else {})
    if len(counts) == 1:
        left_out[name] = "constant"
        return None
    frequent = sorted((level for level, count in counts.items() if count >= RARE), key=lambda level: (-counts[level], level))[:LEVELS]
    return Category(name, tuple(sorted(frequent)), len(frequent) < len(counts))
