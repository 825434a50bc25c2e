"""Adds validation loss and metrics to records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ...core.checks import floating
from ...core.specs import unknown
from ...data.rows import Rows
from ...settings.metrics import NAMED, Metric
from ..engine.engine import Engine
from .history import Record


@dataclass(frozen=True)
class Entries:
    """The entries of a fit's records that early stopping and schedules can monitor."""

    metrics: tuple[str, ...]
    validates: bool

    def check(self, what: str, monitor: str) -> None:
        """Raises ValueError for an entry that the records will not contain. what: the part of fit that monitors it."""
        if monitor == "val_loss" and not self.validates:
            raise ValueError(
                f'fit: {what} monitors "val_loss", which needs validation=(X, y) or a fraction of the rows, such as validation=0.2'
            )
        names = ["loss", *(["val_loss"] if self.validates else []), *self.metrics]
        if monitor in NAMED and monitor not in names:
            raise ValueError(f"fit: {what} monitors {monitor!r}, which is not a metric of this fit; add metrics={monitor!r}")
        if monitor not in names:
            raise unknown(f"monitor of {what}", monitor, names)


class Watch:
    """Computes the validation loss and the metrics, on the validation rows if there are any, else on the training rows."""

    def __init__(self, engine: Engine, trained: Rows | None, held_out: Rows | None, metrics: Mapping[str, Metric]) -> None:
        self._engine = engine
        self._held_out = held_out
        self._rows = held_out or trained
        self._metrics = metrics
        self.entries = Entries(tuple(metrics), held_out is not None)

    def complete(self, record: Record) -> None:
        """Adds the validation loss and the metrics to the record."""
        if self._held_out is not None:
            record["val_loss"] = self._engine.evaluate(self._held_out)
        if self._metrics and self._rows is not None:
            outputs = self._engine.net.predict(self._rows.x)
            for name, metric in self._metrics.items():
                record[name] = floating(f"the result of the metric {name}", metric(self._rows.y, outputs))
