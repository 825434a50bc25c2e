"""An epoch: its order of rows, its rates, and its updates, by one call of the backend or one by one."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from . import backend as backends
from .arrays import Array
from .history import Record
from .rows import Rows

if TYPE_CHECKING:
    from .trainer import Trainer

_SHUFFLE, SPLIT = 2, 5  # what a permutation is drawn for

StopCall = Callable[[Record], bool]


@dataclass(frozen=True)
class Pace:
    """How rows become updates: `accumulate` micro-batches of `batch_size` rows each; a function to call after each of them."""

    batch_size: int
    accumulate: int = 1
    stops: StopCall | None = None  # called with a record of the update; True ends the epoch

    @property
    def rows(self) -> int:
        """The rows of an update."""
        return self.batch_size * self.accumulate

    def updates(self, count: int) -> int:
        """The updates of an epoch of `count` rows."""
        return math.ceil(count / self.rows)


def permutation(trainer: Trainer, purpose: int, instance: int, count: int) -> Array:
    """The numbers 0 to count - 1 in an order that the trainer's seed decides."""
    return np.asarray(backends.load(trainer.net.backend).permutation(trainer.seed, purpose, instance, count))


def shuffled(trainer: Trainer, trained: Array, epoch: int) -> Array:
    """The order of an epoch, counted from 0."""
    return np.asarray(trained[permutation(trainer, _SHUFFLE, epoch, len(trained))])


def active(rows: Rows) -> Array:
    """The numbers of the rows that train: a row of weight 0 counts as one that is not there."""
    return np.arange(rows.count) if rows.weight is None else np.flatnonzero(rows.weight > 0)


def endless(trainer: Trainer, rows: Rows, pace: Pace, order: Array | None) -> Iterator[Record]:
    """The records of ever more epochs, kept in the trainer's history."""
    trained = active(rows)
    check(trainer, rows, trained if order is None else order, pace)
    while True:
        record = run(trainer, rows, shuffled(trainer, trained, trainer.epoch) if order is None else order, pace, None)
        trainer._records.append(record)
        yield Record(record)


def run(trainer: Trainer, rows: Rows, order: Array, pace: Pace, schedule: Callable[[int], float] | None) -> Record:
    """Trains one epoch on the rows of `order`."""
    start = time.perf_counter()
    return end(trainer, train(trainer, rows, order, pace, schedule), start)


def train(trainer: Trainer, rows: Rows, order: Array, pace: Pace, schedule: Callable[[int], float] | None) -> float:
    """The updates of an epoch, or of a part of one; returns the mean loss."""
    rates = rates_of(schedule, trainer.steps, pace.updates(len(order)))
    try:
        if _is_looped(trainer, pace):
            return _loop(trainer, rows, order, pace, rates)
        return _one_call(trainer, rows, order, pace, rates)
    except FloatingPointError as error:
        raise trainer._diverged(error) from error


def _one_call(trainer: Trainer, rows: Rows, order: Array, pace: Pace, rates: Array | None) -> float:
    """An epoch by one call of the backend. The backend leaves the trainer's rate as it is; here the last one used stays in it."""
    first = trainer.steps
    try:
        loss = trainer._core.epoch(rows.x, rows.y, rows.weight, order, pace.batch_size, rates)
    except RuntimeError:  # another call is using the trainer: the steps since `first` are not of this one
        raise
    except BaseException as error:
        _keep_rate(trainer, rates, trainer.steps - first + isinstance(error, FloatingPointError))  # a step that fails used its rate too
        raise
    _keep_rate(trainer, rates, trainer.steps - first)
    return loss


def _keep_rate(trainer: Trainer, rates: Array | None, used: int) -> None:
    if rates is not None and used:
        trainer.lr = rates[used - 1]


def end(trainer: Trainer, loss: float, start: float) -> Record:
    """Counts an epoch that began at `start`, and makes its record."""
    trainer.epoch += 1
    return Record(epoch=trainer.epoch, loss=loss, lr=trainer.lr, steps=trainer.steps, seconds=time.perf_counter() - start)


def rates_of(schedule: Callable[[int], float] | None, first: int, count: int) -> Array | None:
    """The learning rates of `count` updates; None stays None."""
    if schedule is None:
        return None
    rates = np.array([float(schedule(step)) for step in range(first, first + count)])
    wrong = ~((rates >= 0) & np.isfinite(rates))
    if wrong.any():
        step = int(wrong.argmax())
        raise ValueError(f"schedule: the learning rate of step {first + step} is {rates[step]}; it must be finite and at least 0")
    return rates


# ---- update by update ----


def _is_looped(trainer: Trainer, pace: Pace) -> bool:
    return trainer._own is not None or pace.accumulate > 1 or pace.stops is not None


def check(trainer: Trainer, rows: Rows, trained: Array, pace: Pace) -> None:
    """Refuses what an update would refuse, before the first one: a backend's epoch does so by itself, a loop here by an evaluation."""
    check_pace(trainer, pace)
    if _is_looped(trainer, pace) and (pace.batch_size == 1 or len(trained) % pace.batch_size == 1):
        trainer._core.forward(rows.take(trained[-1:]).x)  # a net that cannot train on one row says so
    if _is_looped(trainer, pace) and trainer._own is None:
        trainer._evaluate(rows if np.array_equal(trained, np.arange(rows.count)) else rows.take(trained))


def check_pace(trainer: Trainer, pace: Pace) -> None:
    """Refuses micro-batches where they do not add up."""
    if pace.accumulate > 1 and trainer._own is not None:
        raise ValueError("accumulate is for named losses: a function of your own divides as it likes, so its parts do not add up")


def _loop(trainer: Trainer, rows: Rows, order: Array, pace: Pace, rates: Array | None) -> float:
    """An epoch in Python; returns the mean loss, each update's counted by the weight of its rows."""
    loss = total = 0.0
    for step_loss, weight in updates(trainer, rows, order, pace, rates):
        loss += step_loss * weight
        total += weight
        record = Record(epoch=trainer.epoch + 1, loss=step_loss, lr=trainer.lr, steps=trainer.steps)
        if pace.stops is not None and pace.stops(record):
            break
    return loss / total


def updates(trainer: Trainer, rows: Rows, order: Array, pace: Pace, rates: Array | None) -> Iterator[tuple[float, float]]:
    """An update for every `pace.rows` rows of `order`, at the rates given; yields its loss and the sum of its rows' weights."""
    for i, start in enumerate(range(0, len(order), pace.rows)):
        chosen = order[start : start + pace.rows]
        # In row order, as the backends add them. A cumulative sum has no other.
        weight = float(len(chosen) if rows.weight is None else np.cumsum(rows.weight[chosen], dtype=np.float64)[-1])
        if rates is not None:
            trainer.lr = rates[i]
        yield _update(trainer, rows, chosen, pace, weight), weight


def _update(trainer: Trainer, rows: Rows, chosen: Array, pace: Pace, weight: float) -> float:
    if pace.accumulate > 1:
        return _accumulated(trainer, rows, chosen, pace.batch_size, weight)
    batch = rows.take(chosen)
    return trainer._own.step(batch) if trainer._own else trainer._core.step(batch.x, batch.y, batch.weight)


def _accumulated(trainer: Trainer, rows: Rows, chosen: Array, batch_size: int, weight: float) -> float:
    """An update from the sum of the gradients of micro-batches, each divided by the weight of them all."""
    loss = 0.0
    for first in range(0, len(chosen), batch_size):
        part = rows.take(chosen[first : first + batch_size])
        loss += trainer._core.backward(part.x, part.y, part.weight, first > 0, weight, first)
    trainer._core.apply()
    return loss
