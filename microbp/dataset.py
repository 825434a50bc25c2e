"""Rows of tables, prepared, and split into those to train on, to choose the best epoch by, and to test."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from . import backend, sources
from .arrays import Array
from .preparation import Preparation, Target, find_target, prepare
from .specs import Loss
from .table import Table

_SPLIT = 5  # the purpose of a permutation that splits rows, as in microbp.h
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

    preparation: Preparation
    loss: Loss
    parts: dict[str, Callable[[], Iterable[Part]]]
    training: int  # rows to train on

    def part(self, name: str) -> Part:
        """All rows of a part."""
        pieces = list(self.parts[name]())
        return pieces[0] if len(pieces) == 1 else Part(*map(np.concatenate, zip(*pieces)))


def gather(arguments: argparse.Namespace) -> Data:
    """The rows, prepared and split; ValueError says what is wrong with them."""
    split = Split(arguments)
    loss: Loss | None = arguments.loss
    first = next(iter(split.tables()), None)
    name = arguments.target or (sources.default_target(first) if first else "")
    target = find_target(split.look(), name, None if loss is None else loss.name not in _NUMBERS)
    loss = loss or Loss("cross_entropy" if target.classes else "mse")
    if loss.detail != "identity":
        target = replace(target, centre=0.0, scale=1.0)  # a rate is predicted as it is
    return prepared_rows(arguments, split, prepare(split.pieces("train"), target, arguments.drop), loss)


def prepared_rows(arguments: argparse.Namespace, split: Split, preparation: Preparation, loss: Loss) -> Data:
    """The rows of a split that has been looked at."""

    def prepared(part: str) -> Callable[[], Iterable[Part]]:
        def parts() -> Iterator[Part]:
            return (Part(preparation.matrix(table), _targets(preparation.target, table, loss)) for table in split.pieces(part))

        if arguments.stream and part != "validation":
            return parts
        kept = list(parts())
        return lambda: kept

    return Data(preparation, loss, {part: prepared(part) for part in _PARTS}, split.training)


class Split:
    """The tables that the arguments name, and which of their rows train, choose the best epoch, and test."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self._arguments = arguments
        self.training = self._validating = 0  # rows to train on, and to choose the best epoch by
        if arguments.stream:
            self.tables: Callable[[], Iterable[Table]] = sources.stream(arguments.data)
            own_test = None
        else:
            train, own_test = sources.read(arguments.data)
            self.tables = lambda: [train]
        self._tests: Callable[[], Iterable[Table]] | None = (lambda: [own_test]) if own_test else None
        if arguments.test_file:
            tests = None if arguments.stream else [sources.read(arguments.test_file).train]
            self._tests = sources.stream(arguments.test_file) if tests is None else lambda: tests

    def pieces(self, part: str) -> Iterator[Table]:
        """The tables of a part."""
        if part == "test" and self._tests:
            yield from self._tests()
            return
        for i, table in enumerate(self.tables()):
            rows = self._rows(i, table.count)[part]
            if part == "validation" and self._arguments.stream:
                rows = rows[:: -(-self._validating // _KEPT)]  # of all pieces some, as many as fit into memory
            if len(rows):
                yield table.take(rows)

    def look(self) -> Iterator[Table]:
        """All rows, which are counted on the way."""
        for i, table in enumerate(self.tables()):
            rows = self._rows(i, table.count)
            self.training += len(rows["train"])
            self._validating += len(rows["validation"])
            yield table

    def _rows(self, piece: int, count: int) -> dict[str, Array]:
        """The numbers of a piece's rows by part."""
        order = np.asarray(backend.load().permutation(self._arguments.seed, _SPLIT, piece, count))
        least = 1 if piece == 0 else 0
        tested = 0 if self._tests else max(least, round(self._arguments.test * count))
        validated = tested + max(least, round(self._arguments.validation * (count - tested)))
        if validated >= count and piece == 0:
            if count < 3 - bool(self._tests):
                raise ValueError(f"{self._arguments.data}: {count} rows are too few: some are to train on, some to validate, some to test")
            option = "--validation" if self._tests or count - tested > 1 else "--test"
            raise argparse.ArgumentTypeError(f"argument {option}: it leaves none of the {count} rows to train on: choose less")
        rows = {"train": order[validated:], "validation": order[tested:validated], "test": order[:tested]}
        return {part: np.sort(chosen) for part, chosen in rows.items()}


def _targets(target: Target, table: Table, loss: Loss) -> Array:
    """Labels for a loss over classes, a number for one over numbers, else a column per class: 1 for the row's own, 0 or -1 for others."""
    values = target.values(table)
    if loss.detail == "softmax" or not target.classes:
        return values
    return np.where(values[:, None] == np.arange(len(target.classes)), 1.0, -1.0 if loss.name == "hinge" else 0.0)
