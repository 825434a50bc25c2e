"""An epoch: its learning rates and its updates, in one call of the backend or one by one."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ...core.backend import CoreState
from ...core.checks import flag, whole_number
from ...data.arrays import Array
from ...data.rows import Rows
from ...settings import optimizers
from ...settings.curves import Schedule, rates_of
from ..engine.custom_loss import Joint
from ..engine.engine import Engine
from ..team.share import Share, totals_of
from ..team.team import ALONE, Team
from .records.callbacks import StopCheck
from .records.history import Record
from .run import Run
from .watch_layers import LayerWatch

RateFunction = Callable[[int], float]  # takes the number of updates so far, returns the learning rate of the next one


DEFAULT_BATCH = 32  # rows
_PIECE = 16  # means between two looks at the clock


@dataclass(frozen=True)
class Batching:
    """An update's rows, `accumulate` micro-batches of `batch_size` rows, and the check after each update whether to end the epoch.
    carries: row i of a micro-batch goes on where row i of the one before ended. team: the processes that share these rows. layers: measures
    the last update of each epoch."""

    batch_size: int
    accumulate: int = 1
    stop_check: StopCheck = field(default_factory=StopCheck)
    carries: bool = False
    team: Team = ALONE
    layers: LayerWatch | None = None

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

    def of(self, share: Share) -> Batching:
        """The batching of the rows of this process."""
        return self if self.team.ranks is None else replace(self, batch_size=max(share.batch, 1))


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


def joined_mean(engine: Engine, team: Team, losses: Sequence[float], total: float | list[float]) -> tuple[list[float], Any]:
    """The mean of the losses of all processes, and the sum of what each of them is divided by."""
    mean = Mean(engine.loss_weights)
    is_list, weight = isinstance(total, list), np.atleast_1d(total)
    for one in team.gather(np.concatenate([losses, weight])[None]):
        each = one[0, len(losses) :].tolist()
        if any(each):
            mean.add(one[0, : len(losses)].tolist(), each if is_list else each[0])
    return mean.losses, team.added(total)


def train(run: Run, rows: Rows, order: Array, batching: Batching, share: Share, rates: RateFunction | None) -> tuple[list[float], int]:
    """Trains on the rows of `order`, a whole epoch or a part: those of this process, as its batching. Returns the mean losses, and the
    number of rows trained on."""
    engine = run.engine
    lrs = None
    if rates is not None:
        with engine.guest():
            lrs = _rates_of(rates, engine.steps, math.ceil(share.batches / batching.accumulate))
    if lrs is not None and optimizers.parse(engine.optimizer).name == "ftrl" and not lrs.all():
        step = engine.steps + int((lrs == 0).argmax())
        raise ValueError(f"schedule: the learning rate of step {step} is 0, by which Ftrl divides; set end_lr above 0")
    try:
        if _is_looped(engine, batching):
            found = _loop(run, rows, order, batching, share, lrs)
            engine.net.flush()  # as the backend does at the end of an epoch
            return found
        if batching.team.every > 1 and batching.team.is_timed:
            return _in_pieces(run, rows, order, batching, share, lrs)
        last = None if batching.layers is None else batching.layers.hook(rows, order, batching.rows)
        loss, done = engine.epoch(rows, order, batching.batch_size, lrs, batching.stop_check.time_check, last)
        return losses_of(engine, loss), done
    except FloatingPointError as error:
        raise run.diverged(error, rows, order) from error


def _in_pieces(run: Run, rows: Rows, order: Array, batching: Batching, share: Share, lrs: Array | None) -> tuple[list[float], int]:
    """An epoch of updates that each process makes alone, which may end where all get the means: not between, where they differ."""
    engine, team, size = run.engine, batching.team, batching.batch_size
    mean, at = Mean(engine.loss_weights), 0
    while at < share.batches:
        end = min(share.batches, at + _PIECE * team.every - engine.steps % team.every)
        part = order[at * size : end * size]
        loss, _ = engine.epoch(rows, part, size, None if lrs is None else lrs[at:end])
        mean.add(losses_of(engine, loss), team.added(rows.totals(part)))
        at = end
        if team.any(batching.stop_check.must_stop()):
            break
    return mean.losses, min(at * size, len(order))


def iterate(run: Run, rows: Rows, is_same: bool, layers: LayerWatch | None) -> list[float]:
    """One iteration of a solver on these rows. is_same: they are those of the last one. Returns the losses after it."""
    if layers is not None:
        layers.before_update(rows, np.arange(rows.count))
    try:
        return losses_of(run.engine, run.engine.step(rows, same=is_same))
    except FloatingPointError as error:
        raise run.diverged(error, rows) from error


def end(run: Run, losses: Sequence[float], start: float) -> Record:
    """The record of an epoch, which counts once the record is complete (Run.add). start: time.perf_counter() at its start."""
    record = _record(run, losses)
    record["seconds"] = time.perf_counter() - start
    return record


def count(run: Run, record: Record, team: Team, before: Callable[[Record], None]) -> None:
    """Counts an epoch, whose record is complete, in all processes or in none. RuntimeError: they have parted. before: is called first."""
    if team.ranks is None:
        before(record)
        run.add(record)
        return
    with team.ranks.call():  # Ctrl-C in one process waits until the block has ended
        team.agree(record, run.epoch + 1, run.engine.net.params, run.engine.net.buffers)
        before(record)
        run.add(record)


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
    if batching.team.ranks is None and len(trained) % batching.batch_size == 1:  # the first update refuses batches of one row itself
        engine.check_batch(rows.take(trained[-1:]))
    engine.check_targets(rows, trained)


def _rates_of(rates: RateFunction, first: int, count: int) -> Array:
    """The learning rates of `count` updates, starting with number `first`."""
    steps = range(first, first + count)
    lrs = rates.rates(steps) if isinstance(rates, Schedule) else rates_of(rates, steps)
    wrong = ~((lrs >= 0) & np.isfinite(lrs))
    if wrong.any():
        step = int(wrong.argmax())
        raise ValueError(f"schedule: the learning rate of step {first + step} must be finite and at least 0, not {lrs[step]}")
    return lrs


# ---- update by update ----


def _is_looped(engine: Engine, batching: Batching) -> bool:
    loops = batching.stop_check.has_callbacks or batching.team.loops
    return engine.is_solver or engine.has_custom_losses or batching.accumulate > 1 or loops or batching.carries


def _loop(run: Run, rows: Rows, order: Array, batching: Batching, share: Share, lrs: Array | None) -> tuple[list[float], int]:
    """Trains an epoch update by update. Returns the mean losses, in which rows count by their weight, and the number of rows trained on."""
    engine, mean, done, team = run.engine, Mean(run.engine.loss_weights), 0, batching.team
    totals = None if team.ranks is None else totals_of(share, batching.accumulate, rows, order)
    for i, (losses, chosen) in enumerate(updates(engine, rows, order, batching, lrs, totals)):
        total = rows.totals(chosen) if totals is None else totals[i]
        if team.every > 1:
            losses, total = joined_mean(engine, team, losses, total)
        mean.add(losses, total)
        done += len(chosen)
        with engine.guest():
            stops = batching.stop_check.after_update(_record(run, losses))
        if team.any(stops) if team.loops or team.is_timed else stops:
            break
    if team.every > 1 and engine.steps % team.every:
        engine.epoch(rows, order[:0], 1, None)  # the parameters become their means, as at the end of each epoch
    return mean.losses, done


def updates(
    engine: Engine, rows: Rows, order: Array, batching: Batching, lrs: Array | None, totals: Sequence[Any] | None = None
) -> Iterator[tuple[list[float], Array]]:
    """Does one update per `batching.rows` rows of `order`; yields its losses (losses_of) and row indices.

    lrs: the learning rate of each update; None: engine.lr for all. totals: of several processes, what the loss of each update is
    divided by.
    """
    size = batching.rows
    state = new_state(engine, batching, len(order))
    count = batching.updates(len(order)) if totals is None else len(totals)
    for i in range(count):
        chosen = order[i * size : (i + 1) * size]
        if batching.layers is not None and i == count - 1:
            batching.layers.before_update(rows, chosen)
        if lrs is not None:
            engine.lr = lrs[i]
        if batching.accumulate > 1:
            yield _accumulated(engine, rows, chosen, batching, state, None if totals is None else totals[i]), chosen
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


def _accumulated(engine: Engine, rows: Rows, chosen: Array, batching: Batching, state: CoreState | None, joined: Any | None) -> list[float]:
    """Does one update with the summed gradients of micro-batches, each divided by the weight of the whole batch. Returns the losses.

    joined: that weight, of the rows of all processes: each of them then makes the same number of calls, some perhaps without rows.
    """
    is_apart, size = batching.team.every > 1, batching.batch_size
    if is_apart and not len(chosen):
        return losses_of(engine, engine.step(rows.take(chosen)))  # counts the update, and changes nothing
    sums: list[float] = []
    total = rows.totals(chosen) if joined is None else joined
    for first in range(0, len(chosen) if joined is None or is_apart else batching.rows, size):
        part = rows.take(chosen[first : first + size])
        losses = losses_of(engine, engine.backward(part, first > 0, total, first, state=state))
        sums = [before + loss for before, loss in zip(sums or [0.0] * len(losses), losses, strict=True)]
    engine.apply()
    return sums if is_apart else batching.team.sum(sums).tolist()
