"""Adds validation loss and metrics to records."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from ...core.checks import floating
from ...core.specs import unknown
from ...data.arrays import Array
from ...data.positions import one_by_one
from ...data.rows import Rows
from ...data.weights import Weights
from ...settings.metrics import Chosen, OfOutput, Outputs, bind, find
from ..engine.engine import Engine
from ..team import share
from ..team.team import Team
from .epoch import Batching, Mean, carried, joined_mean, losses_of
from .records.history import Record


@dataclass(frozen=True)
class Entries:
    """The entries of a fit's records that early stopping and schedules can monitor. losses: those of the outputs, if there are several."""

    metrics: tuple[str, ...]
    validates: bool
    losses: tuple[str, ...] = ()

    @property
    def names(self) -> list[str]:
        """The names of the entries."""
        losses = ["loss", *self.losses]
        return [*losses, *([f"val_{loss}" for loss in losses] if self.validates else []), *self.metrics]

    def check(self, what: str, monitor: str, caller: str = "fit") -> None:
        """Raises ValueError for an entry that the records will not contain. what: the part of the caller that monitors it."""
        names = self.names
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

    def __init__(
        self, engine: Engine, trained: Rows | None, held_out: Rows | None, metrics: Mapping[str, Chosen], batching: Batching | None = None
    ) -> None:
        """ValueError if a metric makes no sense for the losses. batching: if states are carried from batch to batch, here too."""
        self._batching = batching or Batching(1)
        self._engine = engine
        self._team = team = self._batching.team
        if held_out is not None:
            share.check_shared(team, held_out, "validation rows")
            if team.has_parts and not team.any(held_out.active().size > 0):
                raise ValueError("validation: no rank has a row with a weight above 0")
        self._held_out = None if held_out is None else _part(team, held_out)
        self._metrics = bind(metrics, engine.losses)
        rows = trained if held_out is None else held_out
        if rows is not None:
            _check_targets(metrics.values(), rows)
        self._all = rows  # those of weight 0 too: with them, rows go on from batch to batch
        self._rows = self._targets = None  # the rows of this process; the targets and weights of all rows
        if metrics and rows is not None:
            rows = share.in_one_form(team, rows.present())
            self._rows, self._targets = _part(team, rows), share.of_all(team, rows)
        self.entries = entries_of(engine, metrics, held_out is not None)

    def complete(self, record: Record) -> None:
        """Adds the validation loss and the metrics to the record."""
        if self._held_out is not None:
            record["val_loss"], *of_outputs = self._evaluate(self._held_out)
            record.update({f"val_{name}": loss for name, loss in self._engine.entries(of_outputs).items()})
        if self._rows is not None and self._targets is not None:
            outputs = self.outputs(self._rows, self._targets)
            with self._engine.guest():
                for name, metric in self._metrics.items():
                    record[name] = floating(f"the result of the metric {name}", metric(outputs))

    def outputs(self, rows: Rows, targets: Rows) -> Outputs:
        """What metrics get. rows: those of this process. targets: those of all, with their weights."""
        activations = [output.activation for output in self._engine.net.outputs]
        ys, weight = self._one_by_one(targets.ys), self._weights(targets)
        return Outputs(ys, weight, self._engine.losses, partial(self._predict, rows), activations)

    def _evaluate(self, rows: Rows) -> list[float]:
        if self._team.ranks is not None:
            is_none = not rows.active().size
            losses = [0.0] * len(losses_of(self._engine, 0.0)) if is_none else losses_of(self._engine, self._engine.evaluate(rows))
            return joined_mean(self._engine, self._team, losses, rows.totals(np.arange(rows.count)))[0]
        if not self._batching.carries:
            return losses_of(self._engine, self._engine.evaluate(rows))
        mean = Mean(self._engine.loss_weights)
        for part, state in carried(self._engine, self._batching, rows):
            mean.add(losses_of(self._engine, self._engine.evaluate(part, state)), part.totals(np.arange(part.count)))
        return mean.losses

    def _carried(self, rows: Rows, raw: bool = False) -> Any:
        """The predictions of the rows that are there, each of which goes on from one of the batch before."""
        net, found = self._engine.net, []
        for part, state in carried(self._engine, self._batching, rows):
            outputs = net._predict(_x(part), raw, None, None, None, state, self._lengths(part))
            found.append(outputs if isinstance(outputs, list) else [outputs])
        return [np.concatenate(each)[rows.active()] for each in zip(*found, strict=True)]

    def _lengths(self, rows: Rows) -> Any:
        return self._engine.shape.sequences.given(rows.lengths)

    def _predict(self, rows: Rows, **raw: Any) -> list[Array]:
        all_rows = self._all if self._batching.carries else None
        if all_rows is None:
            outputs = self._engine.net.predict(_x(rows), lengths=self._lengths(rows), **raw)
        else:
            outputs = self._carried(all_rows, **raw)
        outputs = outputs if isinstance(outputs, list) else [outputs]
        if self._team.ranks is not None:
            outputs = [np.concatenate(self._team.gather(one)) for one in outputs]
        return self._one_by_one(outputs)

    def _one_by_one(self, arrays: Sequence[Any]) -> list[Any]:
        """A row for each position of each output: metrics count positions as rows."""
        return [None if one is None else one_by_one(one, self._engine.shape.positions(i)) for i, one in enumerate(arrays)]

    def _weights(self, rows: Rows) -> Weights:
        if rows.weight is None or not any(self._engine.shape.grids):
            return rows.weight
        found = self._one_by_one([rows.weight_of(i) for i in range(len(rows.ys))])
        return found[0] if len(found) == 1 else found


def _part(team: Team, rows: Rows) -> Rows:
    """Of rows that all processes have, those that this one measures; otherwise the rows."""
    return rows.take(np.arange(rows.count)[share.part(team, rows.count)]) if team.shards else rows


def _check_targets(metrics: Iterable[Chosen], rows: Rows) -> None:
    """ValueError for metrics of outputs without targets."""
    absent = [i for i, target in enumerate(rows.ys) if target is None]
    for metric in metrics:
        if lacking := [i for i in absent if not isinstance(metric, OfOutput) or metric.output == i]:
            y = "y" if len(absent) == len(rows.ys) else f"y[{lacking[0]}]"
            raise ValueError(f"fit: metrics compare predictions with targets, but {y} is None; pass {y}, or measure in a callback")


def _x(rows: Rows) -> Any:
    """The inputs as `predict` takes them."""
    return rows.xs[0] if len(rows.xs) == 1 else rows.xs
