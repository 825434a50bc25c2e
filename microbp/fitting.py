"""fit: schedules, validation, early stopping, callbacks and records around one epoch after another."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import numpy as np

from . import class_weight as class_weights
from . import metrics as metric_functions
from .arrays import Array, as_array
from .checks import whole_number
from .epoch import SPLIT, Pace, active, check, permutation, run, shuffled
from .history import Record
from .progress import ProgressLine
from .rows import Rows
from .specs import unknown
from .stopping import Best, Stopping
from .trainer_file import Checkpoint

if TYPE_CHECKING:
    from .schedules import Schedule
    from .trainer import Trainer

Callback = Callable[[Record], object]
Epoch = Callable[[Callable[[int], float] | None], Record]  # trains one, at the rates of a schedule


@dataclass(frozen=True)
class Settings:
    """The arguments of `fit` that are not data."""

    epochs: int
    pace: Pace
    shuffle: bool
    stopping: Stopping
    schedule: str | Schedule | Callable[[int], float] | None
    callback: Callback | Sequence[Callback] | None
    batch_callback: Callback | Sequence[Callback] | None
    progress: bool | None
    checkpoint: str | os.PathLike[str] | None = None
    every: int | timedelta = 1

    def __post_init__(self) -> None:
        if not (self.schedule is None or isinstance(self.schedule, str) or callable(self.schedule)):
            raise TypeError(f"fit: schedule must be one such as bp.Cosine(lr=0.1), its text, or a function, not {self.schedule!r}")
        for what, given in (("callback", self.callback), ("batch_callback", self.batch_callback)):
            for function in _listed(given):
                if not callable(function):
                    raise TypeError(f"fit: {what} must be a function, or a list of functions, not {function!r}")


def pace(batch_size: Any, accumulate: Any) -> Pace:
    """Checked."""
    return Pace(whole_number(batch_size, "batch_size"), whole_number(accumulate, "accumulate"))


def check_order(order: Any, rows: int) -> Array | None:
    """Row numbers as a backend takes them; None stays None."""
    if order is None:
        return None
    index = as_array(order, "order")
    if index.ndim != 1 or index.dtype.kind not in "iu" or len(index) == 0:
        raise ValueError(f"order must be a 1-D array of row numbers, not {index.dtype} of shape {index.shape}")
    if index.min() < 0 or index.max() >= rows:
        raise ValueError(f"order: row numbers run from 0 to {rows - 1}, not from {index.min()} to {index.max()}")
    return np.ascontiguousarray(index, dtype=np.int64)


# ---- the loop ----


def fit(trainer: Trainer, rows: Rows, validation: Any, metrics: Any, class_weight: Any, settings: Settings) -> None:
    """Trains for the epochs of `settings`; records go to the trainer's history as they are complete."""
    held_out, trained = split(trainer, rows, validation)
    watch = Watch(trainer, rows if held_out is None else held_out, held_out is not None, metrics)
    if settings.stopping.patience is not None:
        watch.check("patience: monitor", settings.stopping.monitor)
    rows, trained = weigh(trainer, rows, trained, class_weight)
    batches = Callbacks(settings.batch_callback)
    pace = batches.watch(settings.pace)
    check(trainer, rows, trained, pace)

    def one_epoch(schedule: Callable[[int], float] | None) -> Record:
        order = shuffled(trainer, trained, trainer.epoch) if settings.shuffle else trained
        return run(trainer, rows, order, pace, schedule)

    go(trainer, one_epoch, pace.updates(len(trained)), watch, batches, settings)


def go(trainer: Trainer, one_epoch: Epoch, updates: int, watch: Watch, batches: Callbacks, settings: Settings) -> None:
    """Epochs of so many updates each, until one of the reasons to stop."""
    course = Course(trainer, settings.schedule, settings.epochs * updates, watch)
    epochs, line = Callbacks(settings.callback), ProgressLine(settings.progress, settings.epochs)
    checkpoint = Checkpoint(trainer, settings.checkpoint, settings.every)
    best = Best(trainer, settings.stopping)
    try:
        for done in range(1, settings.epochs + 1):
            if best.is_long_ago():
                break
            record = one_epoch(course.rates)
            watch.complete(record)
            trainer._records.append(record)
            course.go_on(record)
            best.see(record)
            checkpoint.after_epoch()
            line.show(record, done)
            if epochs(record) or batches.stopped:
                break
    except FloatingPointError:  # which must not take the place of a good checkpoint
        raise
    except BaseException:
        checkpoint.interrupted()
        raise
    finally:
        line.close()
        best.restore()
    checkpoint.finish()


class Callbacks:
    """Functions of a record, any of which may stop by returning True."""

    def __init__(self, given: Callback | Sequence[Callback] | None) -> None:
        self.functions = _listed(given)
        self.stopped = False

    def watch(self, pace: Pace) -> Pace:
        """The pace at which they are called after each update, if there are any."""
        return replace(pace, stops=self) if self.functions else pace

    def __call__(self, record: Record) -> bool:
        """Calls each with a copy of the record; True if one of them says stop."""
        for function in self.functions:
            answer = function(Record(record))
            self.stopped |= isinstance(answer, bool | np.bool_) and bool(answer)
        return self.stopped


def _listed(given: Callback | Sequence[Callback] | None) -> list[Callback]:
    if given is None:
        return []
    return list(given) if isinstance(given, list | tuple) else [given]  # type: ignore[list-item]  # a sequence of another kind is refused


class Course:
    """The rates of a fit; None: the trainer's own. Of a schedule, but not of a plain function, the trainer remembers how far it came."""

    def __init__(self, trainer: Trainer, given: str | Schedule | Callable[[int], float] | None, updates: int, watch: Watch) -> None:
        self._trainer = trainer
        self._schedule: Schedule | None = None
        self.rates: Callable[[int], float] | None = None
        if given is not None:
            from . import schedules  # only here: it takes half as long to import as all the rest

            if isinstance(given, str | schedules.Schedule):
                schedule = schedules.parse(given)
                if schedule.watched is not None:
                    watch.check("schedule: monitor", schedule.watched)
                self._schedule = given = schedules.begin(schedule, trainer.steps, updates)
            self.rates = given

    def go_on(self, record: Record) -> None:
        """Takes note of an epoch."""
        if self._schedule is not None:
            self._schedule = self.rates = self._schedule.after(record)
        if self.rates is not None:
            self._trainer.schedule = self._schedule


class Watch:
    """What a record gets beside the training loss: the validation loss, and metrics of the validation or else the training rows."""

    def __init__(self, trainer: Trainer, rows: Rows, validates: bool, metrics: Any) -> None:
        self._trainer = trainer
        self._rows = rows
        self._validates = validates
        self._metrics = metric_functions.resolve(metrics, len(rows.ys))

    def check(self, what: str, name: str) -> None:
        """Refuses a name that no record of this fit will have."""
        names = ["loss", *(["val_loss"] if self._validates else []), *self._metrics]
        if name == "val_loss" and not self._validates:
            raise ValueError(f'fit: {what} "val_loss" needs validation=(X, y), or a fraction such as validation=0.2')
        if name not in names:
            raise unknown(what, name, names)

    def complete(self, record: Record) -> None:
        """Adds them to the record."""
        if self._validates:
            record["val_loss"] = self._trainer._evaluate(self._rows)
        if self._metrics:
            outputs = self._trainer.predict(self._rows.x)
            record.update({name: float(metric(self._rows.y, outputs)) for name, metric in self._metrics.items()})


# ---- rows to train on, and to hold out ----


def weigh(trainer: Trainer, rows: Rows, trained: Array, class_weight: Any) -> tuple[Rows, Array]:
    """The rows with the weights of their classes, and the numbers of those that still train."""
    if class_weight is None:
        return rows, trained
    classes = class_weights.classes_of(trainer.losses, trainer.net._output_widths)
    rows = class_weights.weighted(rows, trained, class_weight, classes)
    return rows, active(rows)


def split(trainer: Trainer, rows: Rows, validation: Any) -> tuple[Rows | None, Array]:
    """The validation rows, if any, and the numbers of the rows to train on."""
    if validation is None:
        return None, active(rows)
    if isinstance(validation, tuple | list):
        if len(validation) not in (2, 3):
            raise ValueError(f"validation must be (X, y), (X, y, weight) or a fraction, not {len(validation)} things")
        return _read_validation(trainer, validation), active(rows)
    held_out = _held_out(validation, rows.count)
    order = permutation(trainer, SPLIT, 0, rows.count)
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
