"""Splits the rows of a source into three parts: train, validation (to choose the best epoch) and test."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ..core import backend
from ..core.specs import Loss
from ..core.text import counted
from ..data.arrays import Array
from .preparation import Preparation, Target, find_target, prepare
from .readers.errors import ArgumentError
from .readers.sources import Source, default_target
from .readers.table import Table

_PARTS = ("train", "validation", "test")
_KEPT = 10_000  # at most about this many validation rows of a stream are used, all kept in memory
_NUMBERS = ("mse", "half_sse", "mae", "huber", "quantile", "poisson")  # losses for a numeric target


class Part(NamedTuple):
    """Rows of one part of the split, with targets in the form that the loss needs."""

    x: Array
    y: Array


@dataclass(frozen=True)
class Data:
    """The parts train, validation and test. For a stream, each call in `parts` reads the file again; validation is kept in memory."""

    where: str  # its name in errors
    preparation: Preparation
    loss: Loss
    parts: dict[str, Callable[[], Iterable[Part]]]
    training: int  # number of training rows
    is_stream: bool

    def part(self, name: str) -> Part:
        """All rows of a part."""
        pieces = list(self.parts[name]())
        return pieces[0] if len(pieces) == 1 else Part(*map(np.concatenate, zip(*pieces)))


class Split:
    """Which rows of a source are for training, validation and test: drawn at random from `seed`, in each piece of a stream separately.

    test: the fraction of all rows for the test; not used if the source has separate test rows. validation: the fraction of the other rows.
    """

    def __init__(self, source: Source, *, test: float = 0.2, validation: float = 0.1, seed: int = 0) -> None:
        self.source = source
        self.training = self._validating = 0  # numbers of rows; `look` counts them
        self._test = test
        self._validation = validation
        self._seed = seed

    def look(self) -> Iterator[Table]:
        """Yields all tables except separate test tables, and counts the rows of each part."""
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
                rows = rows[:: -(-self._validating // _KEPT)]  # every n-th row of each piece, so that they fit into memory
            if len(rows):
                yield table.take(rows)

    def _rows(self, piece: int, count: int) -> dict[str, Array]:
        """The row indices of each part in a piece."""
        order = np.asarray(backend.load().permutation(self._seed, backend.SPLIT, piece, count))
        least, has_tests = 1 if piece == 0 else 0, self.source.tests is not None
        tested = 0 if has_tests else max(least, round(self._test * count))
        validated = tested + max(least, round(self._validation * (count - tested)))
        if validated >= count and piece == 0:
            if count < 3 - has_tests:
                what = f"{self.source.where}: has {counted(count, 'row')}, too few to split into train, validation and test"
                raise ValueError(f"{what}; at least {3 - has_tests} are needed")
            argument = "validation" if has_tests or count - tested > 1 else "test"
            raise ArgumentError(argument, f"leaves none of the {count} rows for training; use a smaller fraction")
        rows = {"train": order[validated:], "validation": order[tested:validated], "test": order[:tested]}
        return {part: np.sort(chosen) for part, chosen in rows.items()}


def gather(split: Split, *, target: str | None = None, drop: Sequence[str] = (), loss: Loss | None = None) -> Data:
    """Splits and prepares the rows of a source; ValueError if they are invalid.

    target: the column to predict, by default `default_target`. drop: columns to ignore. loss: by default cross_entropy for classes, mse
    for numbers.
    """
    first = next(iter(split.source.tables()), None)
    if first and len(first.columns) == 1:
        what = f"has only one column, {next(iter(first.columns))!r}"
        raise ValueError(f"{first.where}: {what}; a table needs a target and at least one more column, separated by , ; | or tab")
    if first and target is not None:
        first.require(target, "target")
    name = target or (default_target(first) if first else "")
    found = find_target(split.look(), name, None if loss is None else loss.name not in _NUMBERS)
    loss = loss or Loss("cross_entropy" if found.classes else "mse")
    scales = loss.detail == "identity"  # probabilities and rates are not scaled
    return prepared(split, prepare(split.pieces("train"), found, drop, scales), loss)


def prepared(split: Split, preparation: Preparation, loss: Loss) -> Data:
    """The rows of a split, prepared. Iterate over `look` first, which counts the rows."""

    def of(part: str) -> Callable[[], Iterable[Part]]:
        def parts() -> Iterator[Part]:
            return (Part(preparation.matrix(table), _targets(preparation.target, table, loss)) for table in split.pieces(part))

        if split.source.is_stream and part != "validation":
            return parts
        kept = list(parts())
        return lambda: kept

    return Data(split.source.where, preparation, loss, {part: of(part) for part in _PARTS}, split.training, split.source.is_stream)


def _targets(target: Target, table: Table, loss: Loss) -> Array:
    """Labels for cross_entropy, numbers for a numeric target; else a column per class: 1 for the row's class, 0 (hinge: -1) for others."""
    values = target.values(table)
    if loss.detail == "softmax" or not target.classes:
        return values
    return np.where(values[:, None] == np.arange(len(target.classes)), 1.0, -1.0 if loss.name == "hinge" else 0.0)
