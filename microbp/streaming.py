"""fit on a stream: chunks of rows one after another, of which only one need be in memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from .arrays import Array
from .epoch import Pace, active, check_pace, end, shuffled, train
from .fitting import Callbacks, Settings, Watch, go, split
from .history import Record
from .rows import Rows

if TYPE_CHECKING:
    from .trainer import Trainer


def fit(trainer: Trainer, chunks: Any, validation: Any, metrics: Any, settings: Settings, **arrays: Any) -> None:
    """As `fitting.fit`, on an iterable of (X, y) or (X, y, weight), or a function that gives one for each epoch.

    Updates are those of the joined rows, wherever a chunk ends; rows are shuffled within their chunk. arrays: arguments of fit that a
    stream cannot have.
    """
    for name, value in arrays.items():
        if value is not None:
            raise ValueError(f"fit: {name} is for arrays; a stream's chunks are (X, y, weight)")
    if isinstance(validation, float):
        raise ValueError(f"fit: a stream cannot be split by validation={validation!r}: give validation=(X, y)")
    if metrics and validation is None:
        raise ValueError("fit: metrics of a stream need validation=(X, y)")
    nothing = Rows([], [], None, 0)
    held_out, _ = split(trainer, nothing, validation)
    watch = Watch(trainer, held_out or nothing, held_out is not None, metrics)
    if settings.stopping.patience is not None:
        watch.check("patience: monitor", settings.stopping.monitor)
    check_pace(trainer, settings.pace)
    stream = _Stream(trainer, chunks, settings)
    batches = Callbacks(settings.batch_callback)
    pace = batches.watch(settings.pace)
    go(trainer, lambda schedule: stream.train(pace, schedule), stream.updates() if _is_open(settings) else 0, watch, batches, settings)


def _is_open(settings: Settings) -> bool:
    """Whether the schedule lasts as long as fit, so that the rows must be counted beforehand."""
    from . import schedules  # only here: it takes half as long to import as all the rest

    schedule = schedules.parse(settings.schedule) if isinstance(settings.schedule, str) else settings.schedule
    return isinstance(schedule, schedules.Schedule) and schedule.over(1) != schedule


class _Stream:
    """Chunks that can be gone through again."""

    def __init__(self, trainer: Trainer, chunks: Any, settings: Settings) -> None:
        if not callable(chunks) and not isinstance(chunks, Iterable):
            raise TypeError(
                f"fit: without y, X must be an iterable of (X, y) chunks, or a function that gives one, not {type(chunks).__name__}"
            )
        if isinstance(chunks, Iterator) and (settings.epochs > 1 or _is_open(settings)):
            raise ValueError("fit: an iterator can be gone through only once: give a list of chunks, or a function that makes the iterator")
        self._trainer = trainer
        self._chunks: Callable[[], Iterable[Any]] = chunks if callable(chunks) else lambda: chunks
        self._is_shuffled = settings.shuffle
        self._pace = settings.pace

    def updates(self) -> int:
        """The updates of an epoch."""
        return self._pace.updates(sum(len(active(rows)) for rows in self._read()))

    def train(self, pace: Pace, schedule: Callable[[int], float] | None) -> Record:
        """An epoch."""
        start = time.perf_counter()
        loss = total = 0.0
        for rows, order in self._whole_updates(pace):
            weight = float(len(order) if rows.weight is None else rows.weight[order].sum(dtype=np.float64))
            loss += train(self._trainer, rows, order, pace, schedule) * weight
            total += weight
            if isinstance(pace.stops, Callbacks) and pace.stops.stopped:
                break
        if total == 0:
            raise ValueError("fit: the stream has no rows to learn from")
        return end(self._trainer, loss / total, start)

    def _read(self) -> Iterator[Rows]:
        for i, chunk in enumerate(self._chunks()):
            if not isinstance(chunk, tuple | list) or len(chunk) not in (2, 3):
                raise TypeError(f"fit: chunk {i} must be (X, y) or (X, y, weight), not {type(chunk).__name__}")
            try:
                yield self._trainer._shape.read(*chunk, *[None] * (3 - len(chunk)))
            except (TypeError, ValueError) as error:
                raise type(error)(f"fit: chunk {i}: {error}") from error

    def _whole_updates(self, pace: Pace) -> Iterator[tuple[Rows, Array]]:
        """Rows and the order to train them in: as many as whole updates need, and at the end what is left."""
        rest: Rows | None = None
        for i, rows in enumerate(self._read()):
            order = active(rows)
            if self._is_shuffled:
                order = shuffled(self._trainer, order, self._trainer.epoch + i)
            if rest is not None:
                missing = pace.rows - rest.count
                rest, order = _join(rest, rows.take(order[:missing])), order[missing:]
                if rest.count < pace.rows:
                    continue
                yield rest, np.arange(rest.count)
            whole = len(order) // pace.rows * pace.rows
            rest = rows.take(order[whole:]) if whole < len(order) else None
            if whole:
                yield rows, order[:whole]
        if rest is not None:
            yield rest, np.arange(rest.count)


def _join(a: Rows, b: Rows) -> Rows:
    weight = None
    if a.weight is not None or b.weight is not None:
        weight = np.concatenate([np.ones(rows.count) if rows.weight is None else rows.weight for rows in (a, b)])
    xs = [np.concatenate(pair) for pair in zip(a.xs, b.xs, strict=True)]
    return Rows(xs, [np.concatenate(pair) for pair in zip(a.ys, b.ys, strict=True)], weight, a.count + b.count)
