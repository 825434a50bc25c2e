"""An epoch: its learning rates and its updates, in one call of the backend or one by one."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from ...core.backend import CoreState
from ...core.checks import flag, whole_number
from ...data.arrays import Array
from ...data.rows import Rows
from ...settings import optimizers
from ...settings.curves import Schedule, rates_of
from ..engine.custom_loss import Joint
from ..engine.engine import Engine
from .callbacks import StopCheck
from .history import Record
from .run import Run

RateFunction = Callable[[int], float]  # takes the number of updates so far, returns the learning rate of the next one


DEFAULT_BATCH = 32  # rows


@dataclass(frozen=True)
class Batching:
    """An update's rows, `accumulate` micro-batches of `batch_size` rows, and the check after each update whether to end the epoch.
    carries: row i of a micro-batch goes on where row i of the one before ended."""

    batch_size: int
    accumulate: int = 1
    stop_check: StopCheck = field(default_factory=StopCheck)
    carries: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "carries", flag("fit: carry_state", self.carries))
        for name in ("batch_size", "accumulate"):
            object.__setattr__(self, name, whole_number(getattr(self, name), name))

    @property
    def rows(self) -> int:
        """The number of rows in an update."""
        return self.batch_size * self.accumulate

    def updates(self, count: int) -> int:
        """The number of updates in an epoch of `count` rows."""
        return math.ceil(count / self.rows)


class Mean:
    """The mean of the losses of several batches: of the loss, and for several outputs of the loss of each."""

    def __init__(self, loss_weights: Sequence[float]) -> None:
        self.total = 0.0  # the sum of the batches' weights
        self._loss_weights = loss_weights
        self._sums: list[float] = []
        self._totals: list[float] = []  # the same for outputs that have weights of their own
        self._penalties = 0.0  # of such outputs: the sum of the penalties in the losses, times the outputs' weights

    def add(self, losses: Sequence[float], weight: float | list[float]) -> None:
        """Adds a batch. weight: the sum of the weights of its rows, or a list of one for each output."""
        if isinstance(weight, list) and len(losses) == 1:  # of one function for all outputs
            weight = sum(weight)
        each = [weight] * len(losses) if isinstance(weight, float) else [0.0, *weight]
        self.total += weight if isinstance(weight, float) else sum(weight)
        self._sums = [before + loss * one for before, loss, one in zip(self._sums or [0.0] * len(losses), losses, each, strict=True)]
        if isinstance(weight, list):
            self._totals = [before + one for before, one in zip(self._totals or [0.0] * len(weight), weight, strict=True)]
            self._penalties += (losses[0] - self._joined(losses[1:])) * self._counted(weight)

    def _joined(self, losses: Sequence[float]) -> float:
        """The loss of all outputs, without penalties."""
        return sum(weight * loss for weight, loss in zip(self._loss_weights, losses, strict=True) if weight)

    def _counted(self, weights: Sequence[float]) -> float:
        """The sum of the weights of the outputs that count."""
        return sum(one for one, weight in zip(weights, self._loss_weights, strict=True) if weight)

    @property
    def losses(self) -> list[float]:
        """The means."""
        if not self._totals:
            return [loss / self.total for loss in self._sums]
        found = [loss / total if total else 0.0 for loss, total in zip(self._sums[1:], self._totals, strict=True)]
        return [self._joined(found) + self._penalties / (self._counted(self._totals) or 1.0), *found]


def losses_of(engine: Engine, loss: float) -> list[float]:
    """The loss of the engine's last call, and for several outputs the loss of each, unless they have one function for all."""
    return [loss] if len(engine.losses) == 1 or isinstance(engine.losses[0], Joint) else [loss, *engine.output_losses]


def train(run: Run, rows: Rows, order: Array, batching: Batching, rates: RateFunction | None) -> tuple[list[float], int]:
    """Trains on the rows of `order`, a whole epoch or a part. Returns the mean losses, and the number of rows trained on."""
    engine = run.engine
    with engine.guest():
        lrs = _rates_of(rates, engine.steps, batching.updates(len(order)))
    if lrs is not None and optimizers.parse(engine.optimizer).name == "ftrl" and not lrs.all():
        step = engine.steps + int((lrs == 0).argmax())
        raise ValueError(f"schedule: the learning rate of step {step} is 0, by which Ftrl divides; set end_lr above 0")
    try:
        if _is_looped(engine, batching):
            return _loop(run, rows, order, batching, lrs)
        loss, done = engine.epoch(rows, order, batching.batch_size, lrs, batching.stop_check.time_check)
        return losses_of(engine, loss), done
    except FloatingPointError as error:
        raise run.diverged(error, rows, order) from error


def iterate(run: Run, rows: Rows, is_same: bool) -> list[float]:
    """One iteration of a solver on these rows. is_same: they are those of the last one. Returns the losses after it."""
    try:
        return losses_of(run.engine, run.engine.step(rows, same=is_same))
    except FloatingPointError as error:
        raise run.diverged(error, rows) from error


def end(run: Run, losses: Sequence[float], start: float) -> Record:
    """The record of an epoch, which counts once the record is complete (Run.add). start: time.perf_counter() at its start."""
    record = _record(run, losses)
    record["seconds"] = time.perf_counter() - start
    return record


def _record(run: Run, losses: Sequence[float]) -> Record:
    """The entries that do not depend on time. losses: as `losses_of` gives them."""
    loss, *of_outputs = losses
    entries = run.engine.entries(of_outputs)
    return Record({"epoch": run.epoch + 1, "loss": loss, **entries, **run.engine.recorded, "steps": run.engine.steps})


def check_batching(engine: Engine, batching: Batching) -> None:
    """Raises an error for micro-batches or carried states with custom losses."""
    if batching.carries and engine.has_custom_losses:
        raise ValueError("fit: carry_state works with named losses only, not with a loss of your own")
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
    return engine.is_solver or engine.has_custom_losses or batching.accumulate > 1 or batching.stop_check.has_callbacks or batching.carries


def _loop(run: Run, rows: Rows, order: Array, batching: Batching, lrs: Array | None) -> tuple[list[float], int]:
    """Trains an epoch update by update. Returns the mean losses, in which rows count by their weight, and the number of rows trained on."""
    engine, mean, done = run.engine, Mean(run.engine.loss_weights), 0
    for losses, chosen in updates(engine, rows, order, batching, lrs):
        mean.add(losses, rows.totals(chosen))
        done += len(chosen)
        with engine.guest():
            if batching.stop_check.after_update(_record(run, losses)):
                break
    return mean.losses, done


def updates(engine: Engine, rows: Rows, order: Array, batching: Batching, lrs: Array | None) -> Iterator[tuple[list[float], Array]]:
    """Does one update per `batching.rows` rows of `order`; yields its losses (losses_of) and row indices.

    lrs: the learning rate of each update; None: engine.lr for all.
    """
    size = batching.rows
    state = new_state(engine, batching, len(order))
    for i, start in enumerate(range(0, len(order), size)):
        chosen = order[start : start + size]
        if lrs is not None:
            engine.lr = lrs[i]
        if batching.accumulate > 1:
            yield _accumulated(engine, rows, chosen, batching.batch_size, state), chosen
        else:
            yield losses_of(engine, engine.step(rows.take(chosen), state)), chosen


def new_state(engine: Engine, batching: Batching, count: int) -> CoreState | None:
    """What recurrent layers remember from batch to batch of `count` rows, 0 at first; None: nothing."""
    return engine.net._core.state(min(batching.batch_size, count)) if batching.carries else None


def carried(engine: Engine, batching: Batching, rows: Rows) -> Iterator[tuple[Rows, CoreState]]:
    """The batches of these rows, with the state that they go on from."""
    state = engine.net._core.state(min(batching.batch_size, rows.count))
    for start in range(0, rows.count, batching.batch_size):
        yield rows.take(np.arange(start, min(start + batching.batch_size, rows.count))), state


def _accumulated(engine: Engine, rows: Rows, chosen: Array, batch_size: int, state: CoreState | None) -> list[float]:
    """Does one update with the summed gradients of micro-batches, each divided by the weight of the whole batch. Returns the losses."""
    sums: list[float] = []
    total = rows.totals(chosen)
    for first in range(0, len(chosen), batch_size):
        part = rows.take(chosen[first : first + batch_size])
        losses = losses_of(engine, engine.backward(part, first > 0, total, first, state=state))
        sums = [before + loss for before, loss in zip(sums or [0.0] * len(losses), losses, strict=True)]
    engine.apply()
    return sums
