"""fit(watch="layers"): the norms of each layer's activation, gradient, weight and update, from the last update of an epoch."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import numpy as np

from ...data.arrays import Array
from ...data.rows import Rows
from ..engine import sparse
from ..engine.engine import Engine
from ..layers import measure
from .records.history import Record

_SHARE = 0.01  # of the time of the epochs so far, which measuring may take


class LayerWatch:
    """Measures the last update of an epoch, and changes nothing. An epoch is passed over if measuring would take more than 1 % of the time
    of all epochs of this fit so far, unless it is the first or the last one. An epoch that ends before its last update is not measured."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        fields = {name: measure.LayerNorms._fields[: None if has else 1] for name, has in measure.has_parameters(engine.net).items()}
        self._none = {f"{name}.{field}": math.nan for name, some in fields.items() for field in some}
        self._trained = self._spent = self._cost = 0.0  # seconds: of all epochs; of all measurements, of the latest
        self._is_due = False
        self._before: Array | None = None  # the parameters before the last update
        self._seen: tuple[int, Rows] | None = None  # the number of updates before it, and some of its rows

    @property
    def entries(self) -> list[str]:
        """The names of the entries in a record."""
        return list(self._none)

    def start_epoch(self, is_last: bool) -> None:
        """Decides whether the epoch that starts is measured."""
        self._is_due = is_last or not self._trained or self._spent + self._cost <= _SHARE * self._trained

    def hook(self, rows: Rows, order: Array, update: int) -> Callable[[], None] | None:
        """What to call before the last update on the rows of `order`, which has `update` rows or fewer; None: nothing."""
        last = (len(order) - 1) // update * update
        return (lambda: self.before_update(rows, order[last:])) if self._is_due and len(order) else None

    def before_update(self, rows: Rows, chosen: Array) -> None:
        """Must be called before the last update of an epoch, on the chosen rows. Does nothing if the epoch is not measured."""
        if self._is_due:
            start = time.perf_counter()
            params = self._engine.net._params  # `params` would make rows of sparse layers catch up, at another time than without a watch
            self._before = params.copy() if self._before is None else self._before
            np.copyto(self._before, params)
            self._seen = self._engine.steps, rows.take(chosen[:: -(-len(chosen) // measure.SAMPLE) or 1]).present()
            self._cost = time.perf_counter() - start

    def complete(self, record: Record) -> None:
        """Adds the entries to the record of an epoch; NaN if it is not measured."""
        record.update(self._none)
        self._trained += record["seconds"]
        if self._seen is not None and self._before is not None:
            start = time.perf_counter()
            (steps, rows), self._seen = self._seen, None
            if self._engine.steps == steps + 1:
                record.update(self._measured(self._before, rows))
            self._cost += time.perf_counter() - start
            self._spent += self._cost

    def _measured(self, before: Array, rows: Rows) -> dict[str, float]:
        engine = self._engine
        x = rows.xs[0] if len(rows.xs) == 1 else rows.xs
        values = measure.values_of(engine.net, x, engine.shape.sequences.given(rows.lengths))
        norms = measure.of_layers(engine.net, values, engine.grads, before, sparse.grads_of(engine._core, engine.net))
        found = {f"{name}.{field}": value for name, one in norms.items() for field, value in one._asdict().items()}
        return {name: value for name, value in found.items() if name in self._none}
