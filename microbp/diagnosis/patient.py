"""Patient: copies of a trainer with its rows, on which the checks measure what they want."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from ..core.specs import Loss
from ..data.arrays import Array
from ..data.rows import Rows
from ..data.sparse import SparseRows
from ..settings.optimizers import SGD, Optimizer
from ..training.engine import losses as loss_reader
from ..training.engine.custom_loss import Joint
from ..training.engine.engine import Engine
from ..training.flat.minimize import minimize
from ..training.layers import measure
from ..training.layers.units import LayerUnits, units_of
from ..training.loop.epoch import DEFAULT_BATCH, Batching
from ..training.lr_find import RangeTest, range_test
from ..training.measure import run_of, twin
from ..training.trainer import Trainer

_ROWS, _PROBED = 1000, 256  # at most this many rows, evenly spaced, are trained on, and probed for the values of layers
_SECONDS = 0.05  # a pass over the rows takes at most this, which means fewer rows for large networks
_SETTLED = 60  # steps after which the statistics of batch norms are those of their rows, up to 0.9**60
_NUMBERS = 5_000_000  # of columns, at most this many values
_LOW, _HIGH, _MOST, _FEWEST = 1e-7, 10.0, 100, 40  # the range test's rates, as in lr_find, and their number
_THROUGH = ("grid", "concat", "slice", "dropout", "noise")  # nodes that keep the size of values
_NORMS = ("standardize", "batch_norm", "layer_norm")


class Unchecked(Exception):  # noqa: N818  # no error: a check that does not apply
    """Why a check cannot be done."""


class Sign(NamedTuple):
    """What a check has measured in one place. It is a finding if the number is above the threshold of the check."""

    number: float
    where: str
    text: str
    fix: str


class Columns(NamedTuple):
    """An input that has numbers. name: in Python. values: (rows x positions, columns). are_features: whether each column of X is one; else
    X is sparse, or has positions. is_scaled: whether the network normalizes them itself."""

    name: str
    values: Array
    are_features: bool
    is_scaled: bool


class Patient:
    """trainer: a copy of the caller's. rows: what it trains on. held: validation rows; None: there are none. deadline: of time.monotonic.
    prevents: why the rows cannot be trained on; None: they can."""

    def __init__(self, trainer: Trainer, rows: Rows, held: Rows | None, deadline: float) -> None:
        self.trainer, self.rows, self.held, self.deadline = trainer, rows, held, deadline
        self.engine, self.net = engine_of(trainer), trainer.net
        self.shape, self.losses = self.engine.shape, self.engine.losses
        self.prevents: str | None = None

    def watch_time(self) -> None:
        """Raises Unchecked if the time is over."""
        if time.monotonic() > self.deadline:
            raise Unchecked("the time was over; pass a larger max_time")

    def prepare(self) -> None:
        """Sets the statistics that fit would set."""
        if self.prevents is None:
            _prepare(self.trainer, self.rows)

    def target(self, i: int) -> str:
        """The targets of output i in the caller's program."""
        return f"y[{i}]" if len(self.losses) > 1 else "y"

    def named_losses(self) -> Iterator[tuple[int, Loss]]:
        """The outputs whose losses count and have names."""
        each = enumerate(zip(self.losses, self.shape.counts, strict=True))
        return ((i, loss) for i, (loss, counts) in each if counts and isinstance(loss, Loss))

    # ---- rows ----

    @cached_property
    def sample(self) -> Rows:
        """The rows that copies are trained on."""
        few = spaced(self.rows, 16)
        began = time.monotonic()
        self.engine.evaluate(few)
        seconds = (time.monotonic() - began) / few.count
        return spaced(self.rows, int(min(_ROWS, max(64, _SECONDS / max(seconds, 1e-9)))))

    @cached_property
    def probed(self) -> Rows:
        """The rows whose values of layers are looked at."""
        return spaced(self.sample, _PROBED)

    def columns(self) -> Iterator[Columns]:
        """The inputs that have numbers."""
        rows = self.shape.cleared(self.rows)
        for i, (x, ids, shape) in enumerate(zip(rows.xs, self.shape.ids, self.shape.rows, strict=True)):
            if ids is None:
                is_sparse = isinstance(x, SparseRows)
                chosen: Any = x[_spread(rows.active(), max(2, _NUMBERS // x.shape[1]))]
                values = np.asarray(chosen.toarray() if is_sparse else chosen, np.float64).reshape(-1, shape[-1])
                name = f"X[{i}]" if len(rows.xs) > 1 else "X"
                yield Columns(name, values, len(shape) == 1 and not is_sparse, self._is_scaled(self.net.inputs[i].node))

    def _is_scaled(self, node: int) -> bool:
        readers = [other for other in self.net.nodes if node in other.operands]
        scaled = (one.operation in _NORMS or (one.operation in _THROUGH and self._is_scaled(one.node)) for one in readers)
        return bool(readers) and all(scaled)

    # ---- copies ----

    def fresh(self) -> Trainer:
        """A copy of the trainer: as it is if it has done no step, else with initial weights, except those of frozen layers."""
        found = twin(self.trainer)
        if self.trainer.steps:
            frozen = {layer.name for layer in found.net.layers if layer.frozen}
            kept = {name: values.copy() for name, values in found.net.tensors.items() if name.rpartition(".")[0] in frozen}
            found.net.init(found.net.seed)
            for name, values in kept.items():
                found.net.tensors[name][...] = values
            found.reset()
            _prepare(found, self.rows)
        if not self.engine.is_solver:
            found.lr = self.rate
        return found

    @cached_property
    def rate(self) -> float:
        """The highest rate of the history, else that of now: a schedule may have ended at 0."""
        return max((rate for rate in self.trainer.history.get("lr", ()) if rate > 0), default=self.trainer.lr)

    # ---- what several checks need ----

    @cached_property
    def norms(self) -> dict[str, measure.LayerNorms]:
        """The norms of the layers, without an update."""
        other = twin(self.trainer)
        engine, values = engine_of(other), measure.values_of(other.net, *_dense(self.probed))
        engine.backward(self.probed)
        return measure.of_layers(other.net, values, engine.grads, other.net.params.copy(), other.sparse_grads)

    @cached_property
    def units(self) -> dict[str, LayerUnits]:
        """The dead and saturated units of the layers."""
        return units_of(self.net, *_dense(self.probed))

    @cached_property
    def first_units(self) -> dict[str, LayerUnits]:
        """The same with initial weights."""
        return units_of(self.fresh().net, *_dense(self.probed))

    @cached_property
    def range(self) -> RangeTest:
        """The range test of a copy with initial weights."""
        run = run_of(self.fresh())
        began = time.monotonic()
        run.engine.backward(self.sample.take(np.arange(min(self.sample.count, DEFAULT_BATCH))))
        count = int(min(_MOST, (self.deadline - began) / 3 / (time.monotonic() - began)))
        if count < _FEWEST:
            raise Unchecked("a range test would take too long; pass a larger max_time")
        return range_test(run, self.sample, Batching(DEFAULT_BATCH), _LOW * (_HIGH / _LOW) ** (np.arange(count) / count))

    @cached_property
    def start(self) -> float:
        """The loss with initial weights."""
        return finite(engine_of(self.fresh()).evaluate(self.sample))

    @cached_property
    def zero(self) -> float:
        """The loss of outputs that are 0."""
        return self._of_outputs(np.zeros(sum(self.shape.outputs)))[0]

    @cached_property
    def constant(self) -> float:
        """The loss of the best constant outputs, which do not look at X; with losses of the user that of the initial weights."""
        if self.engine.has_custom_losses:
            return self.start
        return minimize(self._of_outputs, np.zeros(sum(self.shape.outputs)), iterations=50).value

    def _of_outputs(self, x: Array) -> tuple[float, Array]:
        """The loss if all rows have the same outputs, and its gradient by them."""
        parts = np.split(x.astype(self.net.dtype), np.cumsum(self.shape.outputs)[:-1])
        loss, gradients = self.engine.named_alone().of([np.tile(part, (self.sample.count, 1)) for part in parts], self.sample, True)
        return loss, np.concatenate([np.asarray(one, np.float64).sum(axis=0) for one in gradients])


def engine_of(trainer: Trainer) -> Engine:
    """The engine of a copy."""
    return run_of(trainer).engine


def arguments(rows: Rows) -> tuple[Any, Any]:
    """X and lengths, as predict takes them."""
    x, lengths = rows.xs if len(rows.xs) > 1 else rows.xs[0], rows.lengths
    return x, lengths[0] if lengths is not None and len(lengths) == 1 else lengths


def _dense(rows: Rows) -> tuple[Any, Any]:
    """The same, with sparse rows as dense ones: the values of nodes cannot be read from sparse inputs."""
    if any(isinstance(x, SparseRows) and rows.count * x.shape[1] > _NUMBERS for x in rows.xs):
        raise Unchecked("X is sparse and has too many columns")
    return arguments(replace(rows, xs=[x.toarray() if isinstance(x, SparseRows) else x for x in rows.xs]))


def spaced(rows: Rows, most: int) -> Rows:
    """At most this many of the rows that are there, evenly spaced."""
    return rows.take(_spread(rows.active(), most))


def _spread(places: Array, most: int) -> Array:
    chosen: Array = places[np.linspace(0, len(places) - 1, min(most, len(places))).astype(int)]
    return chosen


def finite(loss: float) -> float:
    """The loss; infinity if it is NaN."""
    return loss if math.isfinite(loss) else math.inf


def _prepare(trainer: Trainer, rows: Rows) -> None:
    """Sets the statistics that fit would set: of Standardize layers and targets at its start, of batch norms in its steps."""
    engine, net = engine_of(trainer), trainer.net
    with engine.standardized(rows, rows.active()):
        pass
    if trainer.steps == 0 and any(layer.kind == "batch_norm" for layer in net.layers):
        still, few = engine_of(with_optimizer(trainer, SGD(lr=0.0))), spaced(rows, _PROBED)
        for _ in range(_SETTLED):
            still.backward(few)
            still.apply()


def with_optimizer(trainer: Trainer, optimizer: Optimizer) -> Trainer:
    """A trainer of the same network and losses, without dropout."""
    losses = engine_of(trainer).losses
    with loss_reader.accepted(trainer.net, losses):
        found = Trainer(trainer.net, loss_reader.as_argument(losses), optimizer, _weights(losses, trainer.loss_weights))
    engine_of(found).set_numbers({"dropout": 0.0})
    return found


def _weights(losses: Sequence[object], weights: tuple[float, ...]) -> tuple[float, ...] | None:
    return None if isinstance(losses[0], Joint) else weights
