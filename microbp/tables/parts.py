"""The prepared rows of the parts of a split: train, validation and test."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ..core import backend
from ..core.specs import Loss
from ..data.arrays import Array
from ..data.sparse import concatenate
from ..many.ensemble import Ensemble
from ..network.network import Network
from ..ranks.ranks import Ranks
from . import draws
from .encodings.target import Target
from .preparation import Preparation
from .readers.errors import TableError
from .readers.table import Table


class Part(NamedTuple):
    """Rows of one part of the split, with targets in the form that the loss needs. weight: (rows,), or None for all 1."""

    x: Any  # an array, or SparseRows
    y: Array
    weight: Array | None = None

    def weighted(self, by_class: Array | None) -> Part:
        """The same rows, with weights multiplied by those of their classes."""
        if by_class is None:
            return self
        weight = by_class[self.labels]
        return self._replace(weight=weight if self.weight is None else weight * self.weight)

    @property
    def labels(self) -> Array:
        """The class of each row."""
        return self.y if self.y.ndim == 1 else self.y.argmax(axis=1)

    @property
    def weights(self) -> Array:
        """The weight of each row."""
        return np.ones(len(self.x)) if self.weight is None else self.weight

    def of_all(self, ranks: Ranks) -> Part:
        """The rows of all ranks, in their order."""
        x, y = (np.concatenate(ranks.gather_arrays(own)) for own in (self.x, self.y))
        return Part(x, y, None if self.weight is None else np.concatenate(ranks.gather_arrays(self.weight)))

    def take(self, rows: Array) -> Part:
        """Some of the rows."""
        return Part(self.x[rows], self.y[rows], None if self.weight is None else self.weight[rows])


@dataclass(frozen=True)
class Data:
    """The parts train, validation and test. For a stream, each call in `parts` reads the file again; validation is kept in memory."""

    where: str  # its name in errors
    preparation: Preparation
    loss: Loss
    parts: dict[str, Callable[[], Iterable[Part]]]
    training: int  # number of training rows
    is_stream: bool
    class_weight: Array | None = None  # for each class, the factor of the weights of its rows in training and validation
    how: str = "random"  # as in Split
    not_tested: tuple[str, ...] = ()  # the classes that have no test row
    seed: int = 0  # of the split
    cautions: tuple[tuple[str, TableError], ...] = ()  # what looks odd about a column, with its name
    ranks: Ranks | None = None  # the processes that train together; each has the rows of all

    def part(self, name: str) -> Part:
        """All rows of a part."""
        return joined(self.parts[name]())

    def pieces(self, *names: str) -> Iterator[Part]:
        """The rows of parts in pieces, with the weights of their classes."""
        return (piece.weighted(self.class_weight) for name in names for piece in self.parts[name]())

    def fold(self, number: int) -> tuple[Part, Part]:
        """Training and validation rows, with the weights of their classes. Fold 0 is the split's. If that is random, another fold has other
        validation rows, drawn in the same way from both parts.
        """
        train, validation = (joined(self.pieces(name)) for name in ("train", "validation"))
        if number == 0 or self.how != "random":
            return train, validation
        both = joined([train, validation])
        order = backend.load().permutation(self.seed, backend.SPLIT, _FOLDS + number, len(both.x))
        labels = both.labels if self.preparation.target.classes else np.zeros(len(both.x), np.int64)
        parts = draws.stratified(np.asarray(order, np.int64), labels, draws.Sizes(0, len(validation.x)))
        return both.take(parts == draws.TRAIN), both.take(parts == draws.VALIDATION)


_FOLDS = 1 << 31  # instances of permutations: those below are for the pieces of a stream


def joined(parts: Iterable[Part]) -> Part:
    """The rows of all parts."""
    pieces = list(parts)
    if len(pieces) == 1:
        return pieces[0]
    x, y, weight = zip(*pieces)
    return Part(concatenate(x), np.concatenate(y), None if weight[0] is None else np.concatenate(weight))


def inputs(net: Network | Ensemble, x: Any) -> Any:
    """The inputs of a network for rows of the matrix: the features, and the ids in its last columns, if there are any. A single one is not
    in a list."""
    first = x.shape[1] - sum(entry.levels is not None for entry in net.inputs)
    if first == x.shape[1]:
        return x
    found = [*([x[:, :first]] if first else []), *(x[:, [column]].astype(np.int32) for column in range(first, x.shape[1]))]
    return found if len(found) > 1 else found[0]


def targets(target: Target, table: Table, loss: Loss) -> Array:
    """Labels for cross_entropy, numbers for a numeric target; else a column per class: 1 for the row's class, 0 (hinge: -1) for others."""
    values = target.values(table)
    if not target.classes:
        return values
    if loss.detail == "softmax":
        return values.astype(np.int64, copy=False)  # of no rows they may be of another type
    return np.where(values[:, None] == np.arange(len(target.classes)), 1.0, -1.0 if loss.name == "hinge" else 0.0)
