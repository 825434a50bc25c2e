"""Chunks of rows one after another, of which only one need be in memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from ...data.arrays import Array
from ...data.rows import Rows
from ..engine.engine import Engine
from .arrays import active, shuffled
from .epoch import Pace, Rates, check_pace, end, train, weight_of
from .history import Record
from .run import Run


class Stream:
    """An iterable of (X, y) or (X, y, weight), or a function that gives one for each epoch.

    Updates are those of the joined rows, wherever a chunk ends; rows are shuffled within their chunk.
    """

    def __init__(self, engine: Engine, chunks: Any, is_shuffled: bool, pace: Pace, epochs: int) -> None:
        if not callable(chunks) and not isinstance(chunks, Iterable):
            raise TypeError(
                f"fit: without y, X must be an iterable of (X, y) chunks, or a function that gives one, not {type(chunks).__name__}"
            )
        self._engine = engine
        self._chunks: Callable[[], Iterable[Any]] = chunks if callable(chunks) else lambda: chunks
        self._is_iterator = isinstance(chunks, Iterator)
        self._is_shuffled = is_shuffled
        self._pace = pace
        if epochs > 1:
            self._refuse_iterator()

    def check(self, engine: Engine) -> None:
        """Refuses what an update would refuse, of what is known before the rows are read."""
        check_pace(engine, self._pace)

    def updates(self) -> int:
        """The updates of an epoch, for which all rows are read."""
        self._refuse_iterator()
        return self._pace.updates(sum(len(active(rows)) for rows in self._read()))

    def train(self, run: Run, rates: Rates | None) -> Record:
        """An epoch."""
        start = time.perf_counter()
        loss = total = 0.0
        for rows, order in self._whole_updates(run.epoch):
            part_loss, done = train(run, rows, order, self._pace, rates)
            weight = weight_of(rows, order[:done])
            loss += part_loss * weight
            total += weight
            if self._pace.brake.is_on():
                break
        if total == 0:
            raise ValueError("fit: the stream has no rows to learn from")
        return end(run, loss / total, start)

    def _refuse_iterator(self) -> None:
        if self._is_iterator:
            raise ValueError("fit: an iterator can be gone through only once: give a list of chunks, or a function that makes the iterator")

    def _read(self) -> Iterator[Rows]:
        for i, chunk in enumerate(self._chunks()):
            if not isinstance(chunk, tuple | list) or len(chunk) not in (2, 3):
                raise TypeError(f"fit: chunk {i} must be (X, y) or (X, y, weight), not {type(chunk).__name__}")
            try:
                yield self._engine.shape.read(*chunk, *[None] * (3 - len(chunk)))
            except (TypeError, ValueError) as error:
                raise type(error)(f"fit: chunk {i}: {error}") from error

    def _whole_updates(self, epoch: int) -> Iterator[tuple[Rows, Array]]:
        """Rows and the order to train them in: as many as whole updates need, and at the end what is left."""
        rest: Rows | None = None
        for i, rows in enumerate(self._read()):
            order = active(rows)
            if self._is_shuffled:
                order = shuffled(self._engine, order, epoch + i)
            if rest is not None:
                missing = self._pace.rows - rest.count
                rest, order = _join(rest, rows.take(order[:missing])), order[missing:]
                if rest.count < self._pace.rows:
                    continue
                yield rest, np.arange(rest.count)
            whole = len(order) // self._pace.rows * self._pace.rows
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
