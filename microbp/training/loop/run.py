"""Run: an engine, and how far its training has come."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..engine.engine import Engine
from .history import Record

if TYPE_CHECKING:
    from ...settings.schedules import Schedule


@dataclass(frozen=True)
class Best:
    """The best epoch of early stopping so far."""

    monitor: str
    rises: bool
    value: float  # the lower the better: of an entry that rises, its negative
    epoch: int
    snapshot: dict[str, Any] | None = None  # of the engine; None: no epoch was good yet


class Run:
    """An engine, and what epochs add to it: their number, their records, the schedule as far as it came, and the best of them."""

    __slots__ = ("best", "engine", "epoch", "records", "schedule")

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.reset()

    def reset(self) -> None:
        """No epochs; the engine stays as it is."""
        self.epoch = 0
        self.records: list[Record] = []
        self.schedule: Schedule | None = None  # the latest fit's
        self.best: Best | None = None  # while fit runs

    @property
    def history(self) -> dict[str, list[float]]:
        """The records as equally long lists, NaN where an epoch had no such entry."""
        names = dict.fromkeys(name for record in self.records for name in record if name not in ("epoch", "steps"))
        return {name: [record.get(name, float("nan")) for record in self.records] for name in names}

    def diverged(self, error: FloatingPointError) -> FloatingPointError:
        """The error with the place where it happened, and what to try."""
        where = f"epoch {self.epoch + 1}, step {self.engine.steps + 1}"
        return FloatingPointError(
            f"{error} ({where}): try a lower lr (now {self.engine.lr:g}), scale the inputs and targets to about -1 to 1, check them for NaN"
        )

    def state(self) -> dict[str, Any]:
        """A copy of what epochs change, in values that files hold."""
        now = self.best  # which a fit in another thread may change
        best = None if now is None else {field.name: getattr(now, field.name) for field in dataclasses.fields(now)}
        records = [dict(record) for record in self.records]
        return {"epoch": self.epoch, "schedule": self.schedule, "records": records, "best": best}

    def set_state(self, state: dict[str, Any]) -> None:
        """Brings such a state back; ValueError or TypeError if it is none."""
        best = None if state["best"] is None else Best(**state["best"])
        if type(state["epoch"]) is not int or state["epoch"] < 0:
            raise ValueError(f"its epoch is {state['epoch']!r}")
        if not all(isinstance(value, int | float) for record in state["records"] for value in record.values()):
            raise ValueError("its history has an entry that is not a number")
        if best is not None:
            self._check_best(best)
        self.epoch, self.schedule, self.best = state["epoch"], state["schedule"], best
        self.records = [Record(record) for record in state["records"]]

    def _check_best(self, best: Best) -> None:
        kinds = {"monitor": str, "rises": bool, "value": float, "epoch": int, "snapshot": dict | None}
        if not all(isinstance(getattr(best, name), kind) for name, kind in kinds.items()):
            raise ValueError("its best epoch is not what early stopping keeps")
        if best.snapshot is not None and _form(best.snapshot) != _form(self.engine.snapshot()):
            raise ValueError("its best epoch does not fit the network")


def _form(value: Any) -> Any:
    """Names, kinds and sizes."""
    if isinstance(value, dict):
        return {key: _form(part) for key, part in value.items()}
    return getattr(value, "shape", type(value))
