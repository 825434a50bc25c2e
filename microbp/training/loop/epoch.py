"""An epoch: its rates and its updates, by one call of the backend or one by one."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from ...core.checks import whole_number
from ...data.arrays import Array
from ...data.rows import Rows
from ..engine.engine import Engine
from .callbacks import Brake
from .history import Record
from .run import Run

Rates = Callable[[int], float]  # from the number of updates so far to the learning rate of the next


@dataclass(frozen=True)
class Pace:
    """How rows become updates: `accumulate` micro-batches of `batch_size` rows each; and what may end an epoch after one of them."""

    batch_size: int
    accumulate: int = 1
    brake: Brake = field(default_factory=Brake)

    def __post_init__(self) -> None:
        for name in ("batch_size", "accumulate"):
            object.__setattr__(self, name, whole_number(getattr(self, name), name))

    @property
    def rows(self) -> int:
        """The rows of an update."""
        return self.batch_size * self.accumulate

    def updates(self, count: int) -> int:
        """The updates of an epoch of `count` rows."""
        return math.ceil(count / self.rows)


def train(run: Run, rows: Rows, order: Array, pace: Pace, rates: Rates | None) -> tuple[float, int]:
    """The updates of an epoch, or of a part of one, on the rows of `order`; the mean loss, and how many of the rows were trained."""
    engine = run.engine
    lrs = _rates_of(rates, engine.steps, pace.updates(len(order)))
    try:
        if _is_looped(engine, pace):
            return _loop(run, rows, order, pace, lrs)
        return engine.epoch(rows, order, pace.batch_size, lrs, pace.brake.clock)
    except FloatingPointError as error:
        raise run.diverged(error) from error


def end(run: Run, loss: float, start: float) -> Record:
    """Counts an epoch that began at `start`, and makes its record."""
    run.epoch += 1
    return Record(epoch=run.epoch, loss=loss, lr=run.engine.lr, steps=run.engine.steps, seconds=time.perf_counter() - start)


def weight_of(rows: Rows, chosen: Array) -> float:
    """The sum of the weights of some rows."""
    # In row order, as the backends add them. A cumulative sum has no other.
    return float(len(chosen) if rows.weight is None else np.cumsum(rows.weight[chosen], dtype=np.float64)[-1])


def check_pace(engine: Engine, pace: Pace) -> None:
    """Refuses micro-batches where they do not add up."""
    if pace.accumulate > 1 and engine.has_own_losses:
        raise ValueError("accumulate is for named losses: a function of your own divides as it likes, so its parts do not add up")


def check(engine: Engine, rows: Rows, trained: Array, pace: Pace) -> None:
    """Refuses what an update would refuse, before the first one. A call of the backend for a whole epoch does so by itself."""
    check_pace(engine, pace)
    if not _is_looped(engine, pace):
        return
    if pace.batch_size == 1 or len(trained) % pace.batch_size == 1:
        engine.check_batch(rows.take(trained[-1:]))
    engine.check_targets(rows, trained)


def _rates_of(rates: Rates | None, first: int, count: int) -> Array | None:
    """The learning rates of `count` updates; None stays None."""
    if rates is None:
        return None
    lrs = np.array([float(rates(step)) for step in range(first, first + count)])
    wrong = ~((lrs >= 0) & np.isfinite(lrs))
    if wrong.any():
        step = int(wrong.argmax())
        raise ValueError(f"schedule: the learning rate of step {first + step} is {lrs[step]}; it must be finite and at least 0")
    return lrs


# ---- update by update ----


def _is_looped(engine: Engine, pace: Pace) -> bool:
    return engine.has_own_losses or pace.accumulate > 1 or pace.brake.sees_updates


def _loop(run: Run, rows: Rows, order: Array, pace: Pace, lrs: Array | None) -> tuple[float, int]:
    """An epoch in Python; each update's loss counts by the weight of its rows."""
    engine, loss, total, done = run.engine, 0.0, 0.0, 0
    for step_loss, chosen in updates(engine, rows, order, pace, lrs):
        weight = weight_of(rows, chosen)
        loss += step_loss * weight
        total += weight
        done += len(chosen)
        if pace.brake.after_update(Record(epoch=run.epoch + 1, loss=step_loss, lr=engine.lr, steps=engine.steps)):
            break
    return loss / total, done


def updates(engine: Engine, rows: Rows, order: Array, pace: Pace, lrs: Array | None) -> Iterator[tuple[float, Array]]:
    """An update for every `pace.rows` rows of `order`, at the rates given; yields its loss and its rows."""
    size = pace.rows
    for i, start in enumerate(range(0, len(order), size)):
        chosen = order[start : start + size]
        if lrs is not None:
            engine.lr = lrs[i]
        if pace.accumulate > 1:
            yield _accumulated(engine, rows, chosen, pace.batch_size), chosen
        else:
            yield engine.step(rows.take(chosen)), chosen


def _accumulated(engine: Engine, rows: Rows, chosen: Array, batch_size: int) -> float:
    """An update from the sum of the gradients of micro-batches, each divided by the weight of them all."""
    loss, total = 0.0, weight_of(rows, chosen)
    for first in range(0, len(chosen), batch_size):
        part = rows.take(chosen[first : first + batch_size])
        loss += engine.backward(part, first > 0, total, first)
    engine.apply()
    return loss
