"""Epochs: their order, schedules, validation, patience and records; what `Trainer.fit` and `Trainer.epochs` are made of."""

from __future__ import annotations

import math
import operator
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from . import backend as backends
from . import metrics as metric_functions
from .arrays import Array, as_array
from .progress import ProgressLine
from .rows import Rows

if TYPE_CHECKING:
    from .trainer import Trainer

_SHUFFLE, _SPLIT = 2, 5  # what a permutation is drawn for


class Record(dict[str, float]):
    """What is known of an epoch: epoch, loss, lr, steps, seconds, and from `fit` val_loss and metrics; items, also as attributes."""

    def __getattr__(self, name: str) -> float:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"the record has no {name!r}; it has {', '.join(self)}") from None


@dataclass(frozen=True)
class Settings:
    """The arguments of `fit` that are not data."""

    epochs: int
    batch_size: int
    shuffle: bool
    patience: int | None
    schedule: Callable[[int], float] | None
    callback: Callable[[Record], object] | None
    progress: bool | None

    def __post_init__(self) -> None:
        for what, function in (("schedule", self.schedule), ("callback", self.callback)):
            if function is not None and not callable(function):
                raise TypeError(f"fit: {what} must be a function, not {function!r}")


def check_count(value: Any, what: str, least: int = 1) -> int:
    """A whole number that is large enough."""
    try:
        count = operator.index(value)
    except TypeError:
        raise TypeError(f"{what} must be a whole number, not {value!r}") from None
    if count < least:
        raise ValueError(f"{what} must be at least {least}, not {count}")
    return count


def check_order(order: Any, count: int) -> Array | None:
    """Row numbers as a backend takes them; None stays None."""
    if order is None:
        return None
    index = as_array(order, "order")
    if index.ndim != 1 or index.dtype.kind not in "iu" or len(index) == 0:
        raise ValueError(f"order must be a 1-D array of row numbers, not {index.dtype} of shape {index.shape}")
    if index.min() < 0 or index.max() >= count:
        raise ValueError(f"order: row numbers run from 0 to {count - 1}, not from {index.min()} to {index.max()}")
    return np.ascontiguousarray(index, dtype=np.int64)


# ---- one epoch after another ----


def permutation(trainer: Trainer, purpose: int, instance: int, count: int) -> Array:
    """The numbers 0 to count - 1 in an order that the trainer's seed decides."""
    return np.asarray(backends.load(trainer.net.backend).permutation(trainer.seed, purpose, instance, count))


def shuffled(trainer: Trainer, count: int) -> Array:
    """The order of this epoch."""
    return permutation(trainer, _SHUFFLE, trainer.epoch, count)


def active(rows: Rows) -> Array:
    """The numbers of the rows that train: a row of weight 0 counts as one that is not there."""
    return np.arange(rows.count) if rows.weight is None else np.flatnonzero(rows.weight > 0)


def endless(trainer: Trainer, rows: Rows, batch_size: int, order: Array | None) -> Iterator[Record]:
    """The records of ever more epochs, kept in the trainer's history."""
    trained = active(rows)
    while True:
        chosen = trained[shuffled(trainer, len(trained))] if order is None else order
        record = run(trainer, rows, chosen, batch_size, None)
        trainer._records.append(record)
        yield Record(record)


def run(trainer: Trainer, rows: Rows, order: Array, batch_size: int, schedule: Callable[[int], float] | None) -> Record:
    """Trains one epoch on the rows of `order`."""
    start = time.perf_counter()
    rates = _rates(schedule, trainer.steps, math.ceil(len(order) / batch_size))
    try:
        if trainer._own is None:
            loss = trainer._core.epoch(rows.x, rows.y, rows.weight, order, batch_size, rates)
        else:
            loss = trainer._own.epoch(rows, order, batch_size, rates)
    except FloatingPointError as error:
        raise trainer._diverged(error) from error
    trainer.epoch += 1
    return Record(epoch=trainer.epoch, loss=loss, lr=trainer.lr, steps=trainer.steps, seconds=time.perf_counter() - start)


def _rates(schedule: Callable[[int], float] | None, first: int, count: int) -> Array | None:
    if schedule is None:
        return None
    rates = np.array([float(schedule(step)) for step in range(first, first + count)])
    wrong = ~((rates >= 0) & np.isfinite(rates))
    if wrong.any():
        step = int(wrong.argmax())
        raise ValueError(f"schedule: the learning rate of step {first + step} is {rates[step]}; it must be finite and at least 0")
    return rates


# ---- fit ----


def fit(trainer: Trainer, rows: Rows, validation: Any, metrics: Any, settings: Settings) -> None:
    """Trains for the epochs of `settings`; records go to the trainer's history as they are complete."""
    held_out, trained = split(trainer, rows, validation)
    watch = Watch(trainer, rows if held_out is None else held_out, held_out is not None, metrics)
    if settings.patience is not None and held_out is None:
        raise ValueError("fit: patience needs validation=(X, y), or a fraction such as validation=0.2")
    best = Best(trainer, settings.patience)
    line = ProgressLine(settings.progress, settings.epochs)
    try:
        for done in range(1, settings.epochs + 1):
            order = trained[shuffled(trainer, len(trained))] if settings.shuffle else trained
            record = run(trainer, rows, order, settings.batch_size, settings.schedule)
            watch.complete(record)
            trainer._records.append(record)
            line.show(record, done)
            tired = best.see(record)
            if _says_stop(settings.callback, record) or tired:
                break
    finally:
        line.close()
        best.restore()


def _says_stop(callback: Callable[[Record], object] | None, record: Record) -> bool:
    answer = callback(Record(record)) if callback else None
    return isinstance(answer, bool | np.bool_) and bool(answer)


def split(trainer: Trainer, rows: Rows, validation: Any) -> tuple[Rows | None, Array]:
    """The validation rows, if any, and the numbers of the rows to train on."""
    if validation is None:
        return None, active(rows)
    if isinstance(validation, tuple | list):
        if len(validation) not in (2, 3):
            raise ValueError(f"validation must be (X, y), (X, y, weight) or a fraction, not {len(validation)} things")
        return _read_validation(trainer, validation), active(rows)
    held_out = _held_out(validation, rows.count)
    order = permutation(trainer, _SPLIT, 0, rows.count)
    trained = np.sort(order[held_out:])
    if rows.weight is not None:
        trained = trained[rows.weight[trained] > 0]
    if len(trained) == 0:
        raise ValueError(f"validation={validation!r} leaves no row with a weight to train on")
    return rows.take(np.sort(order[:held_out])), trained


def _read_validation(trainer: Trainer, validation: Sequence[Any]) -> Rows:
    try:
        return trainer._shape.read(*validation, *[None] * (3 - len(validation)))
    except (TypeError, ValueError) as error:
        raise type(error)(f"validation: {error}") from error


def _held_out(fraction: Any, count: int) -> int:
    if isinstance(fraction, bool) or not isinstance(fraction, float | np.floating) or not 0 < fraction < 1:
        raise ValueError(f"validation must be (X, y), (X, y, weight) or a fraction between 0 and 1, not {fraction!r}")
    if count < 2:
        raise ValueError(f"validation={fraction!r} needs at least 2 rows; X has {count}")
    return min(max(1, round(fraction * count)), count - 1)


class Watch:
    """What a record gets beside the training loss: the validation loss, and metrics of the validation or else the training rows."""

    def __init__(self, trainer: Trainer, rows: Rows, validates: bool, metrics: Any) -> None:
        self._trainer = trainer
        self._rows = rows
        self._validates = validates
        self._metrics = metric_functions.resolve(metrics, len(rows.ys))

    def complete(self, record: Record) -> None:
        """Adds them to the record."""
        if self._validates:
            record["val_loss"] = self._trainer._evaluate(self._rows)
        if self._metrics:
            outputs = self._trainer.predict(self._rows.x)
            record.update({name: float(metric(self._rows.y, outputs)) for name, metric in self._metrics.items()})


class Best:
    """Remembers parameters, buffers and optimizer state at the lowest validation loss; without patience it does nothing."""

    def __init__(self, trainer: Trainer, patience: int | None) -> None:
        self._trainer = trainer
        self._patience = patience
        average = [] if trainer.average is None else [trainer.average]
        self._views = [trainer.net.params, trainer.net.buffers, *trainer.state.values(), *average]
        self._loss = math.inf
        self._epoch = trainer.epoch
        self._kept: list[Array] = []
        self._steps = 0

    def see(self, record: Record) -> bool:
        """Takes note of an epoch; True if patience is at its end."""
        if self._patience is None:
            return False
        if record["val_loss"] < self._loss:
            self._kept = [view.copy() for view in self._views]
            self._loss, self._epoch, self._steps = record["val_loss"], int(record["epoch"]), self._trainer.steps
        return record["epoch"] - self._epoch >= self._patience

    def restore(self) -> None:
        """Brings the best state back."""
        if self._kept:
            for view, kept in zip(self._views, self._kept, strict=True):
                view[...] = kept
            self._trainer.steps = self._steps
