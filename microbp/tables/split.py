"""The rows of a source, prepared, in three parts: those to train on, those to choose the best epoch by, and those of the test."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from ..core import backend
from ..core.specs import Loss
from ..data.arrays import Array
from .errors import ArgumentError
from .preparation import Preparation, Target, find_target, prepare
from .sources import Source, default_target
from .table import Table

_PARTS = ("train", "validation", "test")
_KEPT = 10_000  # rows of a stream's validation that are kept in memory
_NUMBERS = ("mse", "half_sse", "mae", "huber", "quantile", "poisson")  # losses that a target of numbers may have


class Part(NamedTuple):
    """Rows of one part of the split, with targets as the loss wants them."""

    x: Array
    y: Array


@dataclass(frozen=True)
class Data:
    """What there is to learn: the parts train, validation and test, of which a stream's are read anew by each call."""

    where: str  # what errors call it
    preparation: Preparation
    loss: Loss
    parts: dict[str, Callable[[], Iterable[Part]]]
    training: int  # rows to train on
    is_stream: bool

    def part(self, name: str) -> Part:
        """All rows of a part."""
        pieces = list(self.parts[name]())
        return pieces[0] if len(pieces) == 1 else Part(*map(np.concatenate, zip(*pieces)))


class Split:
    """Which rows of a source train, which choose the best epoch, and which test: drawn by `seed`, in each piece of a stream by itself.

    test: the fraction of the rows that are held out for the test, unless the source has those of its own; validation: the fraction of
    the others that choose the best epoch.
    """

    def __init__(self, source: Source, *, test: float = 0.2, validation: float = 0.1, seed: int = 0) -> None:
        self.source = source
        self.training = self._validating = 0  # rows of these parts, after a look at all
        self._test = test
        self._validation = validation
        self._seed = seed

    def look(self) -> Iterator[Table]:
        """All rows that are not of the test's own tables; they are counted on the way."""
        self.training = self._validating = 0
        for i, table in enumerate(self.source.tables()):
            rows = self._rows(i, table.count)
            self.training += len(rows["train"])
            self._validating += len(rows["validation"])
            yield table

    def pieces(self, part: str) -> Iterator[Table]:
        """The tables of a part."""
        if part == "test" and self.source.tests:
            yield from self.source.tests()
            return
        for i, table in enumerate(self.source.tables()):
            rows = self._rows(i, table.count)[part]
            if part == "validation" and self.source.is_stream:
                rows = rows[:: -(-self._validating // _KEPT)]  # of all pieces some, as many as fit into memory
            if len(rows):
                yield table.take(rows)

    def _rows(self, piece: int, count: int) -> dict[str, Array]:
        """The numbers of a piece's rows by part."""
        order = np.asarray(backend.load().permutation(self._seed, backend.SPLIT, piece, count))
        least, has_tests = 1 if piece == 0 else 0, self.source.tests is not None
        tested = 0 if has_tests else max(least, round(self._test * count))
        validated = tested + max(least, round(self._validation * (count - tested)))
        if validated >= count and piece == 0:
            if count < 3 - has_tests:
                raise ValueError(f"{self.source.where}: {count} rows are too few: some are to train on, some to validate, some to test")
            argument = "validation" if has_tests or count - tested > 1 else "test"
            raise ArgumentError(argument, f"it leaves none of the {count} rows to train on: choose less")
        rows = {"train": order[validated:], "validation": order[tested:validated], "test": order[:tested]}
        return {part: np.sort(chosen) for part, chosen in rows.items()}


def gather(split: Split, *, target: str | None = None, drop: Sequence[str] = (), loss: Loss | None = None) -> Data:
    """The rows, prepared and split; ValueError says what is wrong with them.

    target: the column to predict; None: as `default_target` says. drop: columns to leave out. loss: None: cross_entropy for classes, mse
    for numbers.
    """
    first = next(iter(split.source.tables()), None)
    name = target or (default_target(first) if first else "")
    found = find_target(split.look(), name, None if loss is None else loss.name not in _NUMBERS)
    loss = loss or Loss("cross_entropy" if found.classes else "mse")
    if loss.detail != "identity":
        found = replace(found, centre=0.0, scale=1.0)  # a rate is predicted as it is
    return prepared(split, prepare(split.pieces("train"), found, drop), loss)


def prepared(split: Split, preparation: Preparation, loss: Loss) -> Data:
    """The rows of a split, after a look at all of them, by a preparation that is known."""

    def of(part: str) -> Callable[[], Iterable[Part]]:
        def parts() -> Iterator[Part]:
            return (Part(preparation.matrix(table), _targets(preparation.target, table, loss)) for table in split.pieces(part))

        if split.source.is_stream and part != "validation":
            return parts
        kept = list(parts())
        return lambda: kept

    return Data(split.source.where, preparation, loss, {part: of(part) for part in _PARTS}, split.training, split.source.is_stream)


def _targets(target: Target, table: Table, loss: Loss) -> Array:
    """Labels for a loss over classes, a number for one over numbers, else a column per class: 1 for the row's own, 0 or -1 for others."""
    values = target.values(table)
    if loss.detail == "softmax" or not target.classes:
        return values
    return np.where(values[:, None] == np.arange(len(target.classes)), 1.0, -1.0 if loss.name == "hinge" else 0.0)
