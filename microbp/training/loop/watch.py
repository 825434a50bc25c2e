"""Adds validation loss and metrics to records."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from ...core.checks import floating
from ...core.specs import unknown
from ...data.arrays import Array
from ...data.rows import Rows
from ...settings.metrics import Chosen, OfOutput, Outputs, bind, find
from ..engine.engine import Engine
from .epoch import losses_of
from .history import Record


@dataclass(frozen=True)
class Entries:
    """The entries of a fit's records that early stopping and schedules can monitor. losses: those of the outputs, if there are several."""

    metrics: tuple[str, ...]
    validates: bool
    losses: tuple[str, ...] = ()

    def check(self, what: str, monitor: str, caller: str = "fit") -> None:
        """Raises ValueError for an entry that the records will not contain. what: the part of the caller that monitors it."""
        losses = ["loss", *self.losses]
        names = [*losses, *([f"val_{loss}" for loss in losses] if self.validates else []), *self.metrics]
        measured = monitor.removeprefix("val_")  # val_accuracy is the accuracy on the validation rows
        if monitor in names or (self.validates and measured in self.metrics):
            return
        if measured != monitor and not self.validates and (measured in names or find(measured)):
            raise ValueError(
                f'{caller}: {what} monitors "{monitor}", which needs validation=(X, y) or a fraction of the rows, such as validation=0.2'
            )
        if find(measured):
            raise ValueError(f"{caller}: {what} monitors {monitor!r}, which is not a metric of this fit; add metrics={measured!r}")
        raise unknown(f"monitor of {what}", monitor, names)


def entries_of(engine: Engine, metrics: Iterable[str], validates: bool) -> Entries:
    """The entries of a fit of this engine with these metrics."""
    return Entries(tuple(metrics), validates, tuple(engine.entries([0.0] * len(engine.losses))))


class Watch:
    """Computes the validation loss and the metrics, on the validation rows if there are any, else on the training rows."""

    def __init__(self, engine: Engine, trained: Rows | None, held_out: Rows | None, metrics: Mapping[str, Chosen]) -> None:
        """ValueError if a metric makes no sense for the losses."""
        self._engine = engine
        self._held_out = held_out
        self._metrics = bind(metrics, engine.losses)
        rows = held_out or trained
        if rows is not None:
            _check_targets(metrics.values(), rows)
        self._rows = rows.present() if metrics and rows is not None else None
        self.entries = entries_of(engine, metrics, held_out is not None)

    def complete(self, record: Record) -> None:
        """Adds the validation loss and the metrics to the record."""
        if self._held_out is not None:
            record["val_loss"], *of_outputs = losses_of(self._engine, self._engine.evaluate(self._held_out))
            record.update({f"val_{name}": loss for name, loss in self._engine.entries(of_outputs).items()})
        if self._rows is not None:
            activations = [output.activation for output in self._engine.net.outputs]
            outputs = Outputs(self._rows.ys, self._rows.weight, self._engine.losses, partial(self._predict, self._rows), activations)
            with self._engine.guest():
                for name, metric in self._metrics.items():
                    record[name] = floating(f"the result of the metric {name}", metric(outputs))

    def _predict(self, rows: Rows, **raw: Any) -> list[Array]:
        outputs = self._engine.net.predict(rows.x, **raw)
        return outputs if isinstance(outputs, list) else [outputs]


def _check_targets(metrics: Iterable[Chosen], rows: Rows) -> None:
    """ValueError for metrics of outputs without targets."""
    absent = [i for i, target in enumerate(rows.ys) if target is None]
    for metric in metrics:
        if lacking := [i for i in absent if not isinstance(metric, OfOutput) or metric.output == i]:
            y = "y" if len(absent) == len(rows.ys) else f"y[{lacking[0]}]"
            raise ValueError(f"fit: metrics compare predictions with targets, but {y} is None; pass {y}, or measure in a callback")
