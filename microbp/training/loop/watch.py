"""What a record gets beside the training loss."""

from __future__ import annotations

from typing import Any

from ...core.specs import unknown
from ...data.rows import Rows
from ...settings import metrics as metric_functions
from ..engine.engine import Engine
from .history import Record


class Watch:
    """The validation loss, and metrics: of the validation rows if there are any, else of the training rows."""

    def __init__(self, engine: Engine, trained: Rows | None, held_out: Rows | None, metrics: Any) -> None:
        self._engine = engine
        self._held_out = held_out
        self._rows = held_out or trained
        self._metrics = metric_functions.resolve(metrics, len(engine.losses))

    def check(self, what: str, name: str) -> None:
        """Refuses a name that no record of this fit will have."""
        validates = self._held_out is not None
        names = ["loss", *(["val_loss"] if validates else []), *self._metrics]
        if name == "val_loss" and not validates:
            raise ValueError(f'fit: {what} "val_loss" needs validation=(X, y), or a fraction such as validation=0.2')
        if name not in names:
            raise unknown(what, name, names)

    def complete(self, record: Record) -> None:
        """Adds them to the record."""
        if self._held_out is not None:
            record["val_loss"] = self._engine.evaluate(self._held_out)
        if self._metrics and self._rows is not None:
            outputs = self._engine.net.predict(self._rows.x)
            record.update({name: float(metric(self._rows.y, outputs)) for name, metric in self._metrics.items()})
