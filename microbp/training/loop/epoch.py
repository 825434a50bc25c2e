"""An epoch: its learning rates and its updates, in one call of the backend or one by one."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from ...core.checks import whole_number
from ...data.arrays import Array
from ...data.rows import Rows
from ...settings.curves import Schedule, rates_of
from ..engine.engine import Engine
from .callbacks import StopCheck
from .history import Record
from .run import Run

RateFunction = Callable[[int], float]  # takes the number of updates so far, returns the learning rate of the next one


@dataclass(frozen=True)
class Batching:
    """An update's rows, `accumulate` micro-batches of `batch_size` rows, and the check after each update whether to end the epoch."""

    batch_size: int
    accumulate: int = 1
    stop_check: StopCheck = field(default_factory=StopCheck)

    def __post_init__(self) -> None:
        for name in ("batch_size", "accumulate"):
            object.__setattr__(self, name, whole_number(getattr(self, name), name))

    @property
    def rows(self) -> int:
        """The number of rows in an update."""
        return self.batch_size * self.accumulate

    def updates(self, count: int) -> int:
        """The number of updates in an epoch of `count` rows."""
        return math.ceil(count / self.rows)


def train(run: Run, rows: Rows, order: Array, batching: Batching, rates: RateFunction | None) -> tuple[float, int]:
    """Trains on the rows of `order`, a whole epoch or a part. Returns the mean loss, and the number of rows trained on."""
    engine = run.engine
    with engine.guest():
        lrs = _rates_of(rates, engine.steps, batching.updates(len(order)))
    if lrs is not None and not engine.accepts_lr_0 and not lrs.all():
        step = engine.steps + int((lrs == 0).argmax())
        raise ValueError(f"schedule: the learning rate of step {step} is 0, by which Ftrl divides; set end_lr above 0")
    try:
        if _is_looped(engine, batching):
            return _loop(run, rows, order, batching, lrs)
        return engine.epoch(rows, order, batching.batch_size, lrs, batching.stop_check.time_check)
    except FloatingPointError as error:
        raise run.diverged(error, rows, order) from error


def end(run: Run, loss: float, start: float) -> Record:
    """The record of an epoch, which counts once the record is complete (Run.add). start: time.perf_counter() at its start."""
    return Record(epoch=run.epoch + 1, loss=loss, lr=run.engine.lr, steps=run.engine.steps, seconds=time.perf_counter() - start)


def weight_of(rows: Rows, chosen: Array) -> float:
    """The sum of the weights of some rows."""
    # A cumulative sum adds in row order, as the backends do.
    return float(len(chosen) if rows.weight is None else np.cumsum(rows.weight[chosen], dtype=np.float64)[-1])


def check_batching(engine: Engine, batching: Batching) -> None:
    """Raises an error for micro-batches with custom losses."""
    if batching.accumulate > 1 and engine.has_custom_losses:
        raise ValueError("accumulate needs named losses: a custom loss does its own averaging, so micro-batches would not add up")


def check(engine: Engine, rows: Rows, trained: Array, batching: Batching) -> None:
    """Raises the error that an update would raise. If the backend trains the whole epoch in one call, it does this check itself."""
    check_batching(engine, batching)
    if not _is_looped(engine, batching):
        return
    if len(trained) % batching.batch_size == 1:  # of batches of one row, the first update refuses itself
        engine.check_batch(rows.take(trained[-1:]))
    engine.check_targets(rows, trained)


def _rates_of(rates: RateFunction | None, first: int, count: int) -> Array | None:
    """The learning rates of `count` updates, starting with number `first`; None if `rates` is None."""
    if rates is None:
        return None
    steps = range(first, first + count)
    lrs = rates.rates(steps) if isinstance(rates, Schedule) else rates_of(rates, steps)
    wrong = ~((lrs >= 0) & np.isfinite(lrs))
    if wrong.any():
        step = int(wrong.argmax())
        raise ValueError(f"schedule: the learning rate of step {first + step} must be finite and at least 0, not {lrs[step]}")
    return lrs


# ---- update by update ----


def _is_looped(engine: Engine, batching: Batching) -> bool:
    return engine.has_custom_losses or batching.accumulate > 1 or batching.stop_check.has_callbacks


def _loop(run: Run, rows: Rows, order: Array, batching: Batching, lrs: Array | None) -> tuple[float, int]:
    """Trains an epoch update by update. Returns the mean loss, in which rows count by their weight, and the number of rows trained on."""
    engine, loss, total, done = run.engine, 0.0, 0.0, 0
    for step_loss, chosen in updates(engine, rows, order, batching, lrs):
        weight = weight_of(rows, chosen)
        loss += step_loss * weight
        total += weight
        done += len(chosen)
        with engine.guest():
            if batching.stop_check.after_update(Record(epoch=run.epoch + 1, loss=step_loss, lr=engine.lr, steps=engine.steps)):
                break
    return loss / total, done


def updates(engine: Engine, rows: Rows, order: Array, batching: Batching, lrs: Array | None) -> Iterator[tuple[float, Array]]:
    """Does one update per `batching.rows` rows of `order`; yields its loss and row indices.

    lrs: the learning rate of each update; None: engine.lr for all.
    """
    size = batching.rows
    for i, start in enumerate(range(0, len(order), size)):
        chosen = order[start : start + size]
        if lrs is not None:
            engine.lr = lrs[i]
        if batching.accumulate > 1:
            yield _accumulated(engine, rows, chosen, batching.batch_size), chosen
        else:
            yield engine.step(rows.take(chosen)), chosen


def _accumulated(engine: Engine, rows: Rows, chosen: Array, batch_size: int) -> float:
    """Does one update with the summed gradients of micro-batches, each divided by the weight of the whole batch. Returns the loss."""
    loss, total = 0.0, weight_of(rows, chosen)
    for first in range(0, len(chosen), batch_size):
        part = rows.take(chosen[first : first + batch_size])
        loss += engine.backward(part, first > 0, total, first)
    engine.apply()
    return loss
