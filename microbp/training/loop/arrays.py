"""Rows in memory: which are used for training, which are held out for validation, and their order in an epoch."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...core.backend import SHUFFLE, SPLIT
from ...core.text import brief
from ...data import class_weight as class_weights
from ...data.arrays import Array, as_array
from ...data.class_weight import ClassWeight
from ...data.rows import Rows
from ..engine.engine import Engine
from ..team.share import Share, check_shared, in_one_form, share_of
from ..team.team import ALONE, Team
from .epoch import Batching, RateFunction, check, count, end, iterate, train
from .rates import Numbers
from .records.history import Record
from .run import Run


@dataclass(frozen=True)
class Arrays:
    """Rows to train on, all in memory."""

    rows: Rows
    trained: Array  # the indices of the rows to train on: of this process or, with shards, of all
    is_shuffled: bool
    batching: Batching
    share: Share

    def check(self, engine: Engine) -> None:
        """Raises the error that an update would raise."""
        check(engine, self.rows, self.trained, self.batching)
        team, part = self.share.team, self.share.of(self.trained)
        if team.ranks is None or team.every > 1 or not len(engine.net.buffers):
            return
        last = part[(self.share.batches - 1) * max(self.share.batch, 1) :]
        if team.sum([len(last)])[0] == 1 and len(last):  # the smallest batch of all
            with engine.alone():
                engine.check_batch(self.rows.take(last))

    def standardized(self, engine: Engine) -> AbstractContextManager[None]:
        """Sets the statistics of bp.Standardize layers that have none yet, from the rows to train on: Engine.standardized."""
        if self.rows.lengths is not None and engine.unset_layers():
            raise ValueError(
                "fit: bp.Standardize has no statistics yet: with lengths, call net.standardize(X) on rows of full length first"
            )
        trained = self.trained[self.rows.is_there[self.trained]] if self.batching.carries else self.trained
        return engine.standardized(self.rows, trained)

    def updates(self) -> int:
        """The number of updates in an epoch."""
        return math.ceil(self.share.batches / self.batching.accumulate)

    def train(self, run: Run, rates: RateFunction | None) -> Record:
        """Trains for an epoch."""
        start = time.perf_counter()
        if run.engine.is_solver:
            is_same = "_part" in vars(self)
            return end(run, iterate(run, self._part, is_same, self.batching.layers), start)
        order = shuffled(run.engine, self.trained, run.epoch) if self.is_shuffled else self.trained
        losses, _ = train(run, self.rows, self.share.of(order), self.batching.of(self.share), self.share, rates)
        return end(run, losses, start)

    @functools.cached_property
    def _part(self) -> Rows:
        """A copy of the rows to train on, which nobody changes."""
        return self.rows.take(self.trained)

    def endless(self, run: Run, numbers: Numbers) -> Iterator[Record]:
        """Trains epoch after epoch; yields their records, which the run keeps too."""
        with run.engine.joined(), run.engine.training():
            self.check(run.engine)
            with self.standardized(run.engine):
                pass
        while True:
            with (
                run.engine.joined(),
                run.engine.training(),
            ):  # not while the iterator waits: one that is kept would hold the network for ever
                numbers.start_epoch()
                record = self.train(run, None)
                count(run, record, self.batching.team, lambda _: None)
            yield Record(record)


def arrays_of(rows: Rows, trained: Array, is_shuffled: bool, batching: Batching) -> Arrays:
    """The rows with these indices, in a form that all processes can train on together."""
    if batching.team.shards:
        batching.team.check_same("fit: shard=True", {"the sum of the indices of the rows to train on": int(trained.sum())})
    share = share_of(batching.team, batching.batch_size, len(trained))
    return Arrays(in_one_form(batching.team, rows), trained, is_shuffled, batching, share)


def shuffled(engine: Engine, trained: Array, epoch: int) -> Array:
    """The row order of epoch number `epoch`, counted from 0."""
    return np.asarray(trained[engine.permutation(SHUFFLE, epoch, len(trained))])


def check_order(order: Any, rows: Rows, what: str = "order", may_be_none: bool = False) -> Array:
    """The row indices, checked and copied to contiguous int64, without those of rows of weight 0.

    may_be_none: whether there need be no indices.
    """
    index = as_array(order, what)
    if index.ndim != 1 or index.dtype.kind not in "iu" or (len(index) == 0 and not may_be_none):
        hint = "; of a mask, pass np.flatnonzero(mask)" if index.dtype == bool else ""
        raise ValueError(f"{what} must be a 1-D array of row indices, not {index.dtype} of shape {index.shape}{hint}")
    if len(index) == 0:
        return np.empty(0, np.int64)
    index = index.copy()  # checked once, and then trusted
    if index.min() < 0 or index.max() >= rows.count:
        raise ValueError(f"{what}: row indices must be from 0 to {rows.count - 1}, but they are from {index.min()} to {index.max()}")
    if rows.weight is not None:
        index = index[rows.is_there[index]]
    if len(index) == 0:
        raise ValueError(f"{what} contains only rows of weight 0, so no row is there; add a row with a weight above 0")
    return np.ascontiguousarray(index, dtype=np.int64)


def read_rows(engine: Engine, x: Any, y: Any, weight: Any, lengths: Any, team: Team) -> Rows:
    """The rows of a fit. A process may have none if others have rows; with shards, all must have the same."""
    rows = engine.read(x, y, weight, team.has_parts, lengths)
    if team.has_parts and not team.any(len(rows.active()) > 0):
        return engine.read(x, y, weight, lengths=lengths)  # raises the error for no rows
    check_shared(team, rows)
    return rows


def weigh(engine: Engine, rows: Rows, trained: Array, class_weight: ClassWeight | None, team: Team = ALONE) -> tuple[Rows, Array]:
    """The rows with their class weights, and those of the indices `trained` whose rows are there."""
    if class_weight is None:
        return rows, trained
    if len(engine.losses) > 1:
        losses, widths, names = list(engine.losses), engine.shape.outputs, engine.shape.names
        rows = class_weights.weighted_outputs(rows, trained, class_weight, losses, widths, names, team.sum_of_parts)
    else:
        classes = class_weights.classes_of(engine.losses[0], engine.shape.outputs[0])
        rows = class_weights.weighted(rows, trained, class_weight, classes, team.sum_of_parts)
    return rows, trained[rows.is_there[trained]]


# ---- validation rows ----


def split(
    engine: Engine, rows: Rows, validation: Any, chosen: Array, only_present: bool = True, team: Team = ALONE
) -> tuple[Rows | None, Array]:
    """The validation rows, if any, and the indices of the rows to train on. chosen: the indices to split. only_present: without the given
    validation rows that are not there."""
    if isinstance(validation, list) and validation and all(isinstance(row, int | np.integer) for row in validation):
        validation = np.array(validation)
    if validation is None or isinstance(validation, tuple | list):
        given = read_validation(engine, validation, only_present, team.has_parts)
        if given is not None and given.lengths is None and rows.lengths is not None:
            raise ValueError("validation: the rows of X have lengths, so these need lengths too: pass (X, y, None, lengths)")
        return given, chosen
    if isinstance(validation, np.ndarray) and validation.dtype.kind in "iub":
        return _held_rows(engine, rows, validation, chosen, team.has_parts)
    few = team.has_parts and len(chosen) < 2  # other processes have more
    held_out = chosen[:0] if few else hold_out(engine, rows, validation, chosen)
    validation_rows = rows.take(chosen[held_out])
    engine.check_targets(validation_rows)
    return validation_rows, np.delete(chosen, held_out)


def hold_out(engine: Engine, rows: Rows, fraction: Any, chosen: Array) -> Array:
    """The places in `chosen` of the rows that this fraction holds out, in ascending order."""
    count = _held_out(fraction, len(chosen), rows.count)
    return np.sort(engine.permutation(SPLIT, 0, len(chosen))[:count])


def _held_rows(engine: Engine, rows: Rows, validation: Array, chosen: Array, may_be_none: bool) -> tuple[Rows, Array]:
    """The validation rows with the indices `validation`, and those of `chosen` that are not among them."""
    held_out = check_order(validation, rows, "fit: validation", may_be_none)
    trained = chosen[~np.isin(chosen, held_out)]
    if len(held_out) and len(trained) == 0 and not may_be_none:
        raise ValueError("fit: validation contains all rows, so none is left to train on")
    validation_rows = rows.take(held_out)
    engine.check_targets(validation_rows)
    return validation_rows, trained


def read_validation(engine: Engine, validation: Sequence[Any] | None, only_present: bool = True, may_be_none: bool = False) -> Rows | None:
    """Validation rows from (X, y), (X, y, weight) or (X, y, weight, lengths). may_be_none: whether there need be no rows."""
    if validation is None:
        return None
    if not isinstance(validation, tuple | list) or len(validation) not in (2, 3, 4):
        given = f"a {type(validation).__name__} of length {len(validation)}" if isinstance(validation, tuple | list) else repr(validation)
        raise ValueError(f"validation must be (X, y), (X, y, weight), (X, y, weight, lengths) or a fraction, not {given}")
    try:
        x, y, weight, lengths = (*validation, None, None)[:4]
        rows = engine.read(x, y, weight, may_be_none, lengths)
        engine.check_targets(rows)
    except (TypeError, ValueError) as error:
        raise type(error)(f"validation: {error}") from error
    return rows.present() if only_present else rows


def _held_out(fraction: Any, count: int, given: int) -> int:
    """How many of `count` rows to hold out. given: the number of rows of X, those of weight 0 included."""
    if isinstance(fraction, bool) or not isinstance(fraction, float | np.floating) or not 0 < fraction < 1:
        raise ValueError(
            f"validation must be (X, y), (X, y, weight), (X, y, weight, lengths) or a fraction between 0 and 1, not {brief(fraction)}"
        )
    if count < 2:
        of_weight = "" if count == given else " with a weight above 0"
        raise ValueError(f"validation={fraction!r} needs at least 2 rows{of_weight}; X has {count}")
    return min(max(1, round(fraction * count)), count - 1)
