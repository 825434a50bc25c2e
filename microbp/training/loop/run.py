"""Run: an engine and its progress."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...data import faults
from ...data.arrays import Array
from ...data.rows import Rows
from ..engine.engine import Engine
from .history import Record

if TYPE_CHECKING:
    from ...settings.schedules import Schedule


@dataclass(frozen=True)
class Best:
    """The best epoch of early stopping so far."""

    monitor: str
    rises: bool
    value: float  # lower is better: the negated entry if `rises`
    epoch: int
    snapshot: dict[str, Any] | None = None  # of the engine; None: before the first improvement


class Run:
    """An engine and its progress: number of epochs, their records, the current state of the schedule, and the best epoch."""

    __slots__ = ("best", "engine", "epoch", "records", "schedule")

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.reset()

    def reset(self) -> None:
        """Removes all progress; the engine does not change."""
        self.epoch = 0
        self.records: list[Record] = []
        self.schedule: Schedule | None = None  # of the latest fit
        self.best: Best | None = None  # during fit only

    @property
    def history(self) -> dict[str, list[float]]:
        """The records as lists of equal length, with NaN for an epoch without the entry."""
        names = dict.fromkeys(name for record in self.records for name in record if name not in ("epoch", "steps"))
        return {name: [record.get(name, float("nan")) for record in self.records] for name in names}

    def diverged(self, error: FloatingPointError, rows: Rows | None = None, order: Array | None = None) -> FloatingPointError:
        """The error with epoch, step, and the cause or advice added. rows, order: the rows trained on and their order, if known."""
        where = f"epoch {self.epoch + 1}, step {self.engine.steps + 1}"
        cause = None if rows is None else faults.not_finite(rows, order, self.engine.net.dtype)
        advice = f"use a lower lr (now {self.engine.lr:g}), and scale inputs and targets to about -1 to 1"
        return FloatingPointError(f"{error} ({where}); {cause or advice}")

    def state(self) -> dict[str, Any]:
        """A copy of everything that epochs change, in types that can be saved."""
        now = self.best  # read once: a fit in another thread may change it
        best = None if now is None else {field.name: getattr(now, field.name) for field in dataclasses.fields(now)}
        records = [dict(record) for record in self.records]
        return {"epoch": self.epoch, "schedule": self.schedule, "records": records, "best": best}

    def set_state(self, state: dict[str, Any]) -> None:
        """Restores a state; ValueError or TypeError if it is invalid."""
        best = None if state["best"] is None else Best(**state["best"])
        if type(state["epoch"]) is not int or state["epoch"] < 0:
            raise ValueError(f"its epoch must be a whole number of at least 0, not {state['epoch']!r}")
        if not all(isinstance(value, int | float) for record in state["records"] for value in record.values()):
            raise ValueError("its history has an entry that is not a number")
        if best is not None:
            self._check_best(best)
        self.epoch, self.schedule, self.best = state["epoch"], state["schedule"], best
        self.records = [Record(record) for record in state["records"]]

    def _check_best(self, best: Best) -> None:
        kinds = {"monitor": str, "rises": bool, "value": float, "epoch": int, "snapshot": dict | None}
        if not all(isinstance(getattr(best, name), kind) for name, kind in kinds.items()):
            raise ValueError("its best epoch has invalid values")
        if best.snapshot is not None and _form(best.snapshot) != _form(self.engine.snapshot()):
            raise ValueError("its best epoch does not match the network")


def _form(value: Any) -> Any:
    """The structure of a snapshot: its names, and the shape or type of each value."""
    if isinstance(value, dict):
        return {key: _form(part) for key, part in value.items()}
    return getattr(value, "shape", type(value))
