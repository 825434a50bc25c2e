"""A stream: chunks of rows, one of which is in memory at a time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

import numpy as np

from ...core.text import brief
from ...data import lengths as row_lengths
from ...data.arrays import Array
from ...data.rows import Rows
from ...data.sparse import concatenate
from ...data.weights import join
from ..engine.engine import Engine
from ..team.share import Share, check_shared, in_one_form, share_of, share_of_stream
from .arrays import shuffled
from .epoch import Batching, Mean, RateFunction, check_batching, end, train
from .records.history import Record
from .run import Run


class Stream:
    """An iterable of chunks (X, y), (X, y, weight) or (X, y, weight, lengths), or a function that returns one for each epoch.

    A batch may span two chunks: the updates are those of the concatenated rows. Rows are shuffled within their chunk. Rows of weight 0 are
    passed over, and so are chunks without other rows. Each process of a team has a stream of its own, or with shards all have the same.
    """

    def __init__(self, engine: Engine, chunks: Any, is_shuffled: bool, batching: Batching, epochs: int) -> None:
        if isinstance(chunks, np.ndarray) or not (callable(chunks) or isinstance(chunks, Iterable)):
            raise TypeError(f"fit: without y, X must be an iterable of (X, y) chunks, or a function that returns one, not {brief(chunks)}")
        self._engine = engine
        self._chunks: Callable[[], Iterable[Any]] = chunks if callable(chunks) else lambda: chunks
        self._is_iterator = isinstance(chunks, Iterator)
        self._is_shuffled = is_shuffled
        self._batching = batching  # of all processes
        self._mine = batching
        if batching.team.has_parts:
            size = share_of_stream(batching.team, batching.batch_size)
            self._mine = replace(batching, batch_size=size)
        if epochs > 1:
            self._refuse_iterator()

    def check(self, engine: Engine) -> None:
        """Raises the error that an update would raise, if it is known before rows are read."""
        check_batching(engine, self._batching)

    def updates(self) -> int:
        """The number of updates in an epoch. Reads all rows to count them."""
        self._refuse_iterator()
        count, team = sum(len(order) for _, order in self._read()), self._batching.team
        return int(max(one[0] for one in team.gather(np.array([self._mine.updates(count)]))))

    def train(self, run: Run, rates: RateFunction | None) -> Record:
        """Trains for an epoch."""
        start = time.perf_counter()
        mean, team = Mean(run.engine.loss_weights), self._batching.team
        for rows, order, share in self._parts(run.epoch):
            mine = share.of(order)
            try:
                losses, done = train(run, rows, mine, self._batching.of(share), share, rates)
            except (ValueError, FloatingPointError) as error:
                raise type(error)(f"fit: stream, rows counted over all chunks: {error}") from error
            mean.add(losses, team.added(rows.totals(mine[:done])))
            if team.any(self._batching.stop_check.must_stop()):
                break
        if mean.total == 0:
            raise ValueError("fit: the stream has no rows to train on; it needs at least one row with a weight above 0")
        return end(run, mean.losses, start)

    def standardized(self, engine: Engine) -> AbstractContextManager[None]:
        """Refuses layers and outputs without statistics: the rows of a stream are not known before the training."""
        if engine.unset_layers():
            raise ValueError("fit: call net.standardize(X) on typical rows first; a stream gives the bp.Standardize layers no statistics")
        if outputs := engine.unset_outputs():
            call = f'net.set_output({outputs[0][0]}, "identity", mean=..., std=...)'
            raise ValueError(f"fit: a stream gives standardize_targets no mean and std of the targets; call {call} first")
        return nullcontext()

    def _refuse_iterator(self) -> None:
        if self._is_iterator:
            raise ValueError("fit: an iterator can be read only once; pass a list of chunks, or a function that returns an iterator")

    def _guests(self) -> Iterator[Any]:
        """The chunks, from the user's function or iterator."""
        with self._engine.guest():
            chunks = iter(self._chunks())
        end = object()
        while True:
            with self._engine.guest():
                chunk = next(chunks, end)
            if chunk is end:
                return
            yield chunk

    def _read(self) -> Iterator[tuple[Rows, Array]]:
        """The chunks, and the indices of their rows that are there. Passes over chunks without such rows."""
        start = 0  # the number of the chunk's first row
        for i, chunk in enumerate(self._guests()):
            if not isinstance(chunk, tuple | list) or len(chunk) not in (2, 3, 4):
                advice = "; for arrays, write fit(X, y, ...), or a list of chunks: [(X, y)]" if hasattr(chunk, "shape") else ""
                raise TypeError(f"fit: chunk {i} must be (X, y), (X, y, weight) or (X, y, weight, lengths), not {brief(chunk)}{advice}")
            try:
                x, y, weight, lengths = (*chunk, None, None)[:4]
                rows = self._engine.read(x, y, weight, may_be_none=True, lengths=lengths)
            except (TypeError, ValueError) as error:
                raise type(error)(f"fit: chunk {i}: {error}") from error
            order = rows.active()
            if len(order) > 0:
                yield replace(rows, numbers=np.arange(start, start + rows.count)), order
            start += rows.count

    def _parts(self, epoch: int) -> Iterator[tuple[Rows, Array, Share]]:
        """Rows and an order of them for some updates, and the share of this process in these."""
        pieces, team, batching = self._whole_updates(epoch), self._batching.team, self._mine
        if not team.has_parts:
            for rows, order in pieces if team.ranks is None else self._checked(pieces):
                yield rows, order, share_of(team, batching.batch_size, len(order))
            return
        rows, order = self._engine.shape.none(self._engine.net.dtype), np.arange(0)
        while True:  # as many updates as all processes have rows for now, but for those whose stream has ended
            if not len(order):
                rows, order = next(pieces, (rows, order))
            left = [int(one[0]) for one in team.gather(np.array([batching.updates(len(order))]))]
            if not any(left):
                return
            updates = min(one for one in left if one)
            count = updates * batching.rows
            share = Share(team, self._batching.batch_size, batching.batch_size, updates * batching.accumulate)
            yield in_one_form(team, rows), order[:count], share
            order = order[count:]

    def _checked(self, pieces: Iterator[tuple[Rows, Array]]) -> Iterator[tuple[Rows, Array]]:
        """The pieces. ValueError: they are not the same in all processes."""
        none = self._engine.shape.none(self._engine.net.dtype)
        while True:
            rows, order = next(pieces, (none, np.arange(0)))
            check_shared(self._batching.team, rows, "rows of the stream at the same place", order)
            if not len(order):
                return
            yield rows, order

    def _whole_updates(self, epoch: int) -> Iterator[tuple[Rows, Array]]:
        """Yields rows and an order of them that contains complete batches only; at the end, yields the remaining rows."""
        rest: Rows | None = None
        for i, (rows, order) in enumerate(self._read()):
            if self._is_shuffled:
                order = shuffled(self._engine, order, epoch + i)
            if rest is not None:
                missing = self._mine.rows - rest.count
                rest, order = _join(rest, rows.take(order[:missing])), order[missing:]
                if rest.count < self._mine.rows:
                    continue
                yield rest, np.arange(rest.count)
            whole = len(order) // self._mine.rows * self._mine.rows
            rest = rows.take(order[whole:]) if whole < len(order) else None
            if whole:
                yield rows, order[:whole]
        if rest is not None:
            yield rest, np.arange(rest.count)


def _join(a: Rows, b: Rows) -> Rows:
    weight = join(a.weight, b.weight, (a.count, b.count), len(a.ys))
    xs = [concatenate(pair) for pair in zip(a.xs, b.xs, strict=True)]
    numbers = None if a.numbers is None or b.numbers is None else np.concatenate([a.numbers, b.numbers])
    ys = [_join_targets(i, *pair) for i, pair in enumerate(zip(a.ys, b.ys, strict=True))]
    return Rows(xs, ys, weight, a.count + b.count, numbers, a.counts, row_lengths.join(a.lengths, b.lengths))


def _join_targets(i: int, a: Array | None, b: Array | None) -> Array | None:
    if (a is None) != (b is None):
        raise ValueError(f"fit: a batch spans two chunks, of which only one has targets for output {i}; give all chunks targets, or none")
    return None if a is None or b is None else np.concatenate([a, b])
