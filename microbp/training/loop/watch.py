"""Adds validation loss and metrics to records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from ...core.checks import floating
from ...core.specs import unknown
from ...data.arrays import Array
from ...data.rows import Rows
from ...settings.metrics import Metric, Named, Outputs, bind, find
from ..engine.engine import Engine
from .history import Record


@dataclass(frozen=True)
class Entries:
    """The entries of a fit's records that early stopping and schedules can monitor."""

    metrics: tuple[str, ...]
    validates: bool

    def check(self, what: str, monitor: str) -> None:
        """Raises ValueError for an entry that the records will not contain. what: the part of fit that monitors it."""
        names = ["loss", *(["val_loss"] if self.validates else []), *self.metrics]
        measured = monitor.removeprefix("val_")  # val_accuracy is the accuracy on the validation rows
        if monitor in names or (self.validates and measured in self.metrics):
            return
        if measured != monitor and not self.validates and (measured in names or find(measured)):
            raise ValueError(
                f'fit: {what} monitors "{monitor}", which needs validation=(X, y) or a fraction of the rows, such as validation=0.2'
            )
        if find(measured):
            raise ValueError(f"fit: {what} monitors {monitor!r}, which is not a metric of this fit; add metrics={measured!r}")
        raise unknown(f"monitor of {what}", monitor, names)


class Watch:
    """Computes the validation loss and the metrics, on the validation rows if there are any, else on the training rows."""

    def __init__(self, engine: Engine, trained: Rows | None, held_out: Rows | None, metrics: Mapping[str, Metric | Named]) -> None:
        """ValueError if a metric makes no sense for the losses."""
        self._engine = engine
        self._held_out = held_out
        self._metrics = bind(metrics, engine.losses)
        rows = held_out or trained
        self._rows = rows.present() if metrics and rows is not None else None
        self.entries = Entries(tuple(metrics), held_out is not None)

    def complete(self, record: Record) -> None:
        """Adds the validation loss and the metrics to the record."""
        if self._held_out is not None:
            record["val_loss"] = self._engine.evaluate(self._held_out)
        if self._rows is not None:
            is_raw = {output.activation for output in self._engine.net.outputs} <= {None, "identity"}
            outputs = Outputs(self._rows.ys, self._rows.weight, self._engine.losses, partial(self._predict, self._rows), is_raw)
            with self._engine.guest():
                for name, metric in self._metrics.items():
                    record[name] = floating(f"the result of the metric {name}", metric(outputs))

    def _predict(self, rows: Rows, **raw: Any) -> list[Array]:
        outputs = self._engine.net.predict(rows.x, **raw)
        return outputs if isinstance(outputs, list) else [outputs]
