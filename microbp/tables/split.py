"""Splits the rows of a source into three parts: train, validation (to choose the best epoch) and test."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import NoReturn

import numpy as np

from ..core import backend
from ..core.specs import Loss
from ..core.text import counted
from ..data.arrays import Array
from ..data.class_weight import balanced
from . import draws, recipe
from .columns import decide, reading
from .draws import PARTS, TEST, TRAIN, VALIDATION, Sizes
from .encodings.encoding import Encoding
from .encodings.sparse_columns import SparseColumns
from .encodings.target import Target
from .parts import Data, Part, targets
from .preparation import Preparation, find_target, prepare
from .ranks.columns import own_rows
from .readers.errors import Argument, ArgumentError, TableError
from .readers.sources import Source, default_target
from .readers.table import Table
from .row_columns import groups, times, weights

Encode = Callable[[int, int, bool], Encoding]  # by the numbers of training rows and columns, and whether classes are predicted
_KEPT = 10_000  # at most about this many validation rows of a stream are used, all kept in memory
NUMBERS = ("mse", "half_sse", "mae", "huber", "quantile", "poisson")  # losses for a numeric target


class Split:
    """Which rows of a source are for training, validation and test.

    test: the fraction of all rows for the test, 0 for none; not used if the source has separate test rows. validation: the fraction of the
    other rows.
    how: "random": drawn from `seed`; for classes, from each class in proportion (draws.py). "time:COLUMN": the rows with the latest times,
    numbers or ISO dates, are the test, those before them the validation; rows with the same time are in one part. "group:COLUMN": as
    "random", but all rows with the same value are in one part; missing values are one group. "last": the last rows of the file are the
    test, those before them the validation.
    In a stream, random rows are drawn from each piece separately; "time" and "group" need all rows in memory.
    weight: a column with the weights of rows, at least 0. A row of weight 0 is in no part.

    First iterate over `look`, then call `draw`.
    """

    def __init__(
        self, source: Source, *, test: float = 0.2, validation: float = 0.1, seed: int = 0, how: str = "random", weight: str | None = None
    ) -> None:
        self.source, self.how, self.weight = source, how, weight
        self.method, _, self.column = how.partition(":")
        if self.method not in ("random", "time", "group", "last") or bool(self.column) != (self.method in ("time", "group")):
            raise ArgumentError("split", f"must be random, last, time:COLUMN or group:COLUMN, not {how!r}")
        if source.is_stream and self.column:
            raise ArgumentError("split", f"{how} needs all rows in memory; omit ", Argument("stream"))
        self._test, self._validation, self.seed = test, validation, seed
        self.rows: dict[str, int] = {}  # number of rows by part, without separate test rows
        self.classes: Array | None = None  # (parts, classes): the number of rows
        self.totals = np.zeros(0)  # the weight of the training rows of each class
        self._counts: list[int] = []  # rows of each piece
        self._known: list[Array] = []  # for a source in memory: the part of each row

    @property
    def training(self) -> int:
        """The number of training rows."""
        return self.rows["train"]

    def look(self) -> Iterator[Table]:
        """Yields all tables except separate test tables, without rows of weight 0."""
        self._counts = []
        for table in self.source.tables():
            there = self._there(table)
            self._counts.append(len(there))
            yield table if len(there) == table.count else table.take(there)
        if sum(self._counts) == 0:
            raise ValueError(f"{self.source.where}: all rows have weight 0" if self.weight else "there are no rows to train on")

    def draw(self, target: Target) -> None:
        """Determines the part of each row, and counts the rows of each part and class."""
        self._target = target
        found = np.zeros((len(PARTS), max(len(target.classes), 1)), np.int64)
        self._known, self.totals = [], np.zeros(found.shape[1])
        for i, table in enumerate(self.source.tables()):
            there = self._there(table)
            labels = self._labels(table, there)
            parts = self._parts(i, table, there, labels)
            np.add.at(found, (parts, labels), 1)
            weight = np.ones(len(there)) if self.weight is None else weights(table, self.weight)[there]
            np.add.at(self.totals, labels, weight * (parts == TRAIN))
            if not self.source.is_stream:
                self._known.append(parts)
        self.classes = found if target.classes else None
        self.rows = dict(zip(PARTS, found.sum(axis=1).tolist()))

    def pieces(self, part: str) -> Iterator[Table]:
        """The tables of a part."""
        is_test = part == "test" and self.source.tests is not None
        for i, table in enumerate(self.source.tests() if is_test and self.source.tests else self.source.tables()):
            rows = self._there(table)
            if not is_test:
                known = self._known[i] if self._known else self._parts(i, table, rows, self._labels(table, rows))
                rows = rows[known == PARTS.index(part)]
            if part == "validation" and self.source.is_stream:
                rows = rows[:: -(-self.rows[part] // _KEPT)]  # every n-th row of each piece, so that they fit into memory
            if len(rows):
                yield table.take(rows)

    def not_tested(self) -> list[str]:
        """The classes that have no test row, because they are too rare or come earlier."""
        if self.classes is None or not self._is_tested:
            return []
        return [name for name, count in zip(self._target.classes, self.classes[TEST].tolist()) if count == 0]

    @property
    def _is_tested(self) -> bool:
        """Whether some of the rows are for the test."""
        return self.source.tests is None and self._test > 0

    def _there(self, table: Table) -> Array:
        """The indices of the rows with a weight above 0."""
        return np.arange(table.count) if self.weight is None else np.flatnonzero(weights(table, self.weight))

    def _labels(self, table: Table, there: Array) -> Array:
        """The class indices of these rows; 0 for numbers."""
        return self._target.values(table.take(there)) if self._target.classes else np.zeros(len(there), np.int64)

    def _parts(self, piece: int, table: Table, there: Array, labels: Array) -> Array:
        """The part of each of the rows `there`."""
        count = len(there)
        if self.method == "last":
            before, total = sum(self._counts[:piece]), sum(self._counts)
            sizes = self._sizes(total)
            ends = total - sizes.test - sizes.validation, total - sizes.test
            place = np.arange(before, before + count)
            return np.where(place < ends[0], TRAIN, np.where(place < ends[1], VALIDATION, TEST))
        sizes = self._sizes(count, piece > 0)
        if self.method == "time":
            found = draws.ordered(times(table, self.column)[there], sizes)
            return found if found is not None else self._refuse(len(np.unique(times(table, self.column)[there])), "time", sizes)
        if self.method == "group":
            return self._grouped(table, there, sizes)
        return draws.stratified(self._permutation(piece, count), labels, sizes)

    def _permutation(self, piece: int, count: int) -> Array:
        return np.asarray(backend.load().permutation(self.seed, backend.SPLIT, piece, count), dtype=np.int64)

    def _grouped(self, table: Table, there: Array, sizes: Sizes) -> Array:
        of_rows = groups(table, self.column, there)
        count = int(of_rows.max()) + 1
        parts = draws.grouped(of_rows, self._permutation(0, count), sizes)
        return parts if parts is not None else self._refuse(count, "group", sizes)

    def _refuse(self, count: int, what: str, sizes: Sizes) -> NoReturn:
        """Raises an error because there are too few groups or times."""
        least = 3 if sizes.test else 2
        raise ArgumentError("split", f"{self.column!r} has {counted(count, what)}; at least {least} are needed, one for each part")

    def _sizes(self, count: int, may_be_empty: bool = False) -> Sizes:
        """The numbers of test and validation rows among `count` rows. may_be_empty: whether parts may be empty."""
        least, parts = 0 if may_be_empty else 1, 2 + self._is_tested
        tested = max(least, round(self._test * count)) if self._is_tested else 0
        validated = max(least, round(self._validation * (count - tested)))
        if tested + validated >= count and not may_be_empty:
            if count < parts:
                what = f"{self.source.where}: has {counted(count, 'row')}, too few to split into train, validation and test"
                raise ValueError(f"{what}; at least {parts} are needed")
            argument = "validation" if not self._is_tested or count - tested > 1 else "test"
            raise ArgumentError(argument, f"leaves none of the {count} rows for training; use a smaller fraction")
        return Sizes(tested, validated)


def gather(
    split: Split,
    *,
    target: str | None = None,
    drop: Sequence[str] = (),
    loss: Loss | None = None,
    class_weight: str | None = None,
    missing: Sequence[str] = (),
    keep: Sequence[str] = (),
    encoding: Encode = recipe.encoding,
) -> Data:
    """Splits and prepares the rows of a source; ValueError if they are invalid.

    target: the column to predict, by default `default_target`. drop: columns to ignore. loss: by default cross_entropy for classes, mse
    for numbers. class_weight: see `prepared`. missing: words for missing values, besides the usual ones. keep: columns to use although they
    look like row numbers or ids, or like texts that differ in most rows if the encoding hashes them. encoding: by default that of a normal
    budget.
    """
    first = next(iter(split.source.tables()), None)
    is_sparse = first is not None and first.has_only_sparse
    if is_sparse:
        _refuse_names(split, drop, keep)
    if first and len(first.columns) == 1 and not is_sparse:
        what = f"has only one column, {next(iter(first.columns))!r}"
        raise ValueError(f"{first.where}: {what}; a table needs a target and at least one more column, separated by , ; | or tab")
    name = "" if first is None else first.named(target, "target") if target is not None else default_target(first)
    unused = _unused(split, name)
    for kept in keep:
        if first is not None:
            first.require(kept, "keep")
    columns = decide(split.source, name, drop, missing, keep)
    split.source = reading(split.source, columns.readings, name)
    found = find_target(split.look(), name, None if loss is None else loss.name not in NUMBERS)
    loss = loss or Loss("cross_entropy" if found.classes else "mse")
    if loss.name == "poisson":
        for tables in (split.look, split.source.tests or tuple):
            for table in tables():
                _refuse_negative(table, name)
    split.draw(found)
    scales = loss.detail == "identity"  # probabilities and rates are not scaled
    chosen = encoding(split.training, len(first.columns) if first else 1, bool(found.classes))
    sparse = SparseColumns.of(split.pieces("train")) if is_sparse else None
    preparation = prepare(split.pieces("train"), found, list(dict.fromkeys([*drop, *unused])), scales, columns, chosen, keep, sparse)
    for kept in keep:
        if kept in preparation.left_out:
            raise ArgumentError("keep", f"{kept!r} cannot be used: {preparation.left_out[kept]}")
    preparation = replace(preparation, left_out={**unused, **preparation.left_out}, weight=split.weight)
    return replace(prepared(split, preparation, loss, class_weight), cautions=columns.cautions)


def _refuse_names(split: Split, drop: Sequence[str], keep: Sequence[str]) -> None:
    """Raises an error for an argument with names of columns, which sparse rows do not have."""
    for name, value in (("drop", drop), ("keep", keep), ("weight", split.weight), ("split", split.column)):
        if value:
            raise ArgumentError(name, "names columns, which sparse rows do not have; omit it")


def _unused(split: Split, target: str) -> dict[str, str]:
    """The columns that the split uses and a network does not, and why."""
    unused = {split.weight: "the weights of the rows"} if split.weight else {}
    if split.method == "group":
        unused[split.column] = "the groups of the split"
    for name in unused:
        if name == target:
            raise ArgumentError("weight" if name == split.weight else "split", f"{name!r} is the target; choose another column")
    return unused


def _refuse_negative(table: Table, target: str) -> None:
    """Raises an error for a target below 0, which the loss poisson does not allow."""
    values = table.numbers(target)
    if (values < 0).any():
        row = int((values < 0).argmax())
        what = f"{table.place(row, target)}: the target is {values[row]:g}, but poisson needs numbers of at least 0"
        raise TableError(f"{what}; correct it, or use another ", Argument("loss"))


def prepared(split: Split, preparation: Preparation, loss: Loss, class_weight: str | None = None) -> Data:
    """The rows of a split, prepared, after `look` and `draw`.

    class_weight: "balanced" multiplies the weights of training and validation rows by training rows / (classes x training rows of the
    class), as scikit-learn does (King & Zeng 2001); where rows have weights, these are counted. The scores are not weighted by class.
    """
    target = preparation.target
    if class_weight is not None and not target.classes:
        raise ArgumentError("class_weight", f"needs classes, but {target.name!r} is a number; omit it")

    def of(part: str) -> Callable[[], Iterable[Part]]:
        def parts() -> Iterator[Part]:
            for table in split.pieces(part):
                own = own_rows(table)
                weight = None if split.weight is None else weights(own, split.weight)
                found = Part(preparation.matrix(own), targets(target, own, loss), weight)
                yield found if own is table or split.source.ranks is None else found.of_all(split.source.ranks)

        if split.source.is_stream and part != "validation":
            return parts
        kept = list(parts())
        return lambda: kept

    return Data(
        split.source.where,
        preparation,
        loss,
        {part: of(part) for part in PARTS},
        split.training,
        split.source.is_stream,
        None if class_weight is None or split.classes is None else balanced(split.totals),
        split.how,
        tuple(split.not_tested()),
        split.seed,
        ranks=split.source.ranks,
    )
