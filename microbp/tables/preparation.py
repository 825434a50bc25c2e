"""The preparation: how the columns of a table become a matrix, and what the network's outputs mean.

`find_target` and `prepare` determine it from the rows. It never changes afterwards, and is saved in the network's notes.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import accumulate, pairwise
from typing import Any

import numpy as np

from ..core.text import counted
from ..data.arrays import Array
from ..many.ensemble import Ensemble
from ..network.network import Network
from .columns import Columns
from .encodings.category import RARE, Category
from .encodings.date import Date
from .encodings.encoding import Encoding
from .encodings.number import Number
from .encodings.sample import Sample
from .encodings.scaling import block_diagonal
from .encodings.sparse_columns import SparseColumns
from .encodings.summary import CLASSES, Summary, summarize
from .encodings.tally import Tally
from .encodings.target import Target
from .readers.cells import MARKS, Reading, to_number
from .readers.dates import ORDERS
from .readers.errors import Argument, ArgumentError, TableError
from .readers.table import DEFAULT_NAME, NO_NAMES, Table, name_of

PIXELS = 64  # fewer columns with names are never taken for pixels, nor are columns of 0 and 1
NOTE = "microbp.table"  # the key of the preparation in a network's notes
_LABEL = re.compile(r"[-+]?0\d+|true|false", re.IGNORECASE)  # classes that are names although they look like numbers: 007
_NO_COLUMNS = Columns()
_TODAY = Encoding()
Feature = Number | Category | Date


@dataclass(frozen=True)
class Preparation:
    """How columns become a matrix, and what outputs mean.

    left_out: columns that are not used, and why. readings: how the cells of columns are read, if they are not plain numbers or texts.
    assumptions: what was assumed about columns, one line each. gaps: which columns have missing values, one line each.
    weight: the column with the weights of rows. sparse: the columns of sparse rows, which then are the only features.
    """

    features: tuple[Feature, ...]
    target: Target
    positions: int | None = None  # the number of feature columns that a table without column names must have
    left_out: Mapping[str, str] = field(default_factory=dict)
    readings: Mapping[str, Reading] = field(default_factory=dict)
    assumptions: tuple[str, ...] = ()
    gaps: tuple[str, ...] = ()
    weight: str | None = None
    sparse: SparseColumns | None = None

    @property
    def width(self) -> int:
        """The number of columns of the matrix."""
        return self.sparse.width if self.sparse else sum(feature.width for feature in self.features)

    @property
    def stored(self) -> float:
        """The number of values that the first dense layer reads of a usual row: of an id, its embedding."""
        return self.sparse.stored if self.sparse else self.width + sum(one.embedded - 1 for one in self.embedded)

    @property
    def embedded(self) -> list[Category]:
        """The features that are ids of embeddings. They are the last ones."""
        return [one for one in self.features if isinstance(one, Category) and one.embedded]

    @property
    def inputs(self) -> list[tuple[int, int | None]]:
        """(columns, levels) of each input of the network. The first input has all features that are numbers, if there are any, and the
        levels None. Each id has an input of its own."""
        ids = [(1, one.ids) for one in self.embedded]
        return [*([(self.width - len(ids), None)] if self.width > len(ids) else []), *ids]

    @property
    def blocks(self) -> list[tuple[str, slice]]:
        """For each of `features`: the column of the table, and its columns of the matrix."""
        ends = list(accumulate(feature.width for feature in self.features))
        return [(feature.name, slice(end - feature.width, end)) for feature, end in zip(self.features, ends)]

    @property
    def has_bins(self) -> bool:
        """Whether a number or date has bins."""
        return self.bins > 0

    @property
    def bins(self) -> int:
        """The number of features that are bins."""
        return sum(feature.bins for feature in self.features if not isinstance(feature, Category))

    @property
    def unbinned(self) -> Array:
        """A matrix (width, width - bins): the features times it are what a linear model gets, numbers instead of their bins."""
        features = (np.eye(one.width) if isinstance(one, Category) else one.unbinned for one in self.features)
        return block_diagonal(features)

    def matrix(self, table: Table, tally: Tally | None = None) -> Any:
        """The rows as float32, an array or SparseRows. A bad cell raises an error; with a tally, it counts and becomes a gap."""
        if self.sparse:
            return self.sparse.rows(table, tally)
        self._check(table)
        table = replace(table, readings=self.readings)
        out = np.empty((table.count, self.width), np.float32)
        for feature, (_, columns) in zip(self.features, self.blocks):
            counts = Tally() if tally is not None else None
            feature.fill(table, out[:, columns], counts)
            if tally is not None and counts is not None:
                tally.add(counts)
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
        features = [_kind(row).from_dict(row) for row in saved["features"]]
        target = Target.from_dict(saved["target"])
        positions, left_out = saved["positions"], saved["left_out"]
        weight = saved.get("weight")
        sparse = saved.get("sparse")
        if not isinstance(positions, int | None) or not isinstance(left_out, Mapping) or not isinstance(weight, str | None):
            raise TypeError("positions, left_out or weight is invalid")
        readings = {name: Reading(**_checked_reading(row)) for name, row in saved.get("readings", {}).items()}
        if any(isinstance(feature, Date) and readings[feature.name].kind != "date" for feature in features):
            raise ValueError("a date has no order")
        if any(is_id and not follows for is_id, follows in pairwise(map(_is_id, features))):
            raise ValueError("ids are not the last features")
        assumptions, gaps = (tuple(map(str, saved.get(key, ()))) for key in ("assumptions", "gaps"))
        return cls(
            tuple(features),
            target,
            positions,
            {name: str(why) for name, why in left_out.items()},
            readings,
            assumptions,
            gaps,
            weight,
            None if sparse is None else SparseColumns.from_dict(sparse),
        )

    @classmethod
    def of(cls, net: Network | Ensemble, where: object) -> Preparation | None:
        """The preparation in a network's notes, or None if there is none. where: the network's name in errors."""
        try:
            saved = net.notes.get(NOTE)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from None
        if saved is None:
            return None
        try:
            preparation = cls.from_dict(saved)
            inputs, outputs = [(entry.width, entry.levels) for entry in net.inputs], [entry.width for entry in net.outputs]
            if (preparation.inputs, [preparation.outputs]) != (inputs, outputs):
                raise ValueError("it does not match the network")
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
            raise ValueError(
                f"{where}: the notes on the columns ({NOTE}) cannot be read; use the microbp version that wrote them, or train again"
            ) from None
        return preparation


def _is_id(feature: Feature) -> bool:
    return isinstance(feature, Category) and feature.embedded > 0


def _kind(row: Mapping[str, Any]) -> type[Feature]:
    """The class of a saved feature."""
    return Category if "levels" in row else Date if "linear" in row else Number


def _checked_reading(row: Mapping[str, Any]) -> dict[str, Any]:
    """Checks a reading from a file; TypeError, ValueError or KeyError if a value is invalid."""
    lists = {key: tuple(map(str, row[key])) for key in ("values", "missing")}
    texts = {key: str(row[key]) for key in ("kind", "decimal", "thousands", "unit", "order")}
    if texts["kind"] not in ("number", "date", "text") or (texts["kind"] == "date") != (texts["order"] in ORDERS):
        raise ValueError("a reading is invalid")
    if (texts["decimal"], texts["thousands"]) not in MARKS:
        raise ValueError("the marks of a number are invalid")
    return {**texts, **lists}


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
    tables: Iterable[Table],
    target: Target,
    drop: Sequence[str] = (),
    scales: bool = True,
    columns: Columns = _NO_COLUMNS,
    encoding: Encoding = _TODAY,
    keep: Container[str] = (),
    sparse: SparseColumns | None = None,
) -> Preparation:
    """Determines the preparation from the training rows. tables: one table, or the pieces of a stream. scales: whether to scale a numeric
    target. columns: how the columns of these tables are read. keep: texts to use although they have many different values, if they are
    hashed. sparse: the columns of sparse rows, which then are the only features.
    """
    unused = [*drop, *columns.left_out]
    first, known, sample = _seen(tables, target, unused, encoding)
    if not target.classes:
        target = target.fitted(known.pop(target.name), sample.values(target.name), scales, encoding.log)
    if sparse:
        return Preparation((), target, sparse=sparse)
    unit = _shared_unit(known)
    if not first.is_positional and (len(known) < PIXELS or unit == 1):
        unit = None
    found: dict[str, Feature | str] = {
        name: Number(name, 0.0, unit, False) if unit else _feature(name, one, sample.values(name), encoding, name in keep)
        for name, one in known.items()
    }
    features = tuple(sorted((feature for feature in found.values() if not isinstance(feature, str)), key=_is_id))
    left_out = {**columns.left_out, **{name: why for name, why in found.items() if isinstance(why, str)}}
    if not features:
        raise TableError(f"{first.where}: ", *_why_nothing_is_left(known, left_out))
    used = {*(feature.name for feature in features), target.name}
    readings = {name: reading for name, reading in columns.readings.items() if name in used and reading not in (Reading(), Reading("text"))}
    positions = len(known) + len(drop) if first.is_positional else None
    merged = [text for feature in features if isinstance(feature, Category) for text in feature.merged(known[feature.name])]
    return Preparation(features, target, positions, left_out, readings, (*columns.assumptions, *merged), columns.gaps)


def _seen(tables: Iterable[Table], target: Target, unused: Sequence[str], encoding: Encoding) -> tuple[Table, dict[str, Summary], Sample]:
    """The first table; the summaries of the feature columns, and of a target that is a number; a sample of them."""
    first, known, sample = None, dict[str, Summary](), Sample()
    for table in tables:
        first = first or table
        names = [*_feature_names(first, target, unused), *([] if target.classes else [target.name])]
        found = {name: summarize(table, name) for name in names}
        known = {name: known[name] + summary for name, summary in found.items()} if known else found
        if encoding.needs_values:
            sample += Sample.of(table, names)
    if first is None:
        raise ValueError("there are no rows to train on")
    return first, known, sample


def _feature(name: str, known: Summary, values: Array, encoding: Encoding, is_kept: bool) -> Feature | str:
    """The features of a column, or why it is not used. values: a sample of its numbers or days."""
    if known.rows == known.missing:
        return "empty"
    if known.is_text:
        return Category.of(name, known, encoding, is_kept)
    return (Date if known.parts else Number).of(name, known, values, encoding)


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
