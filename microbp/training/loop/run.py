"""Run: an engine and its progress."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...data import faults
from ...data.arrays import Array
from ...data.rows import Rows
from ...settings.stopping import EarlyStopping
from ..engine.engine import Engine
from .records.history import Record

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
    schedule: Schedule | None = None  # the run's schedule after this epoch


@dataclass(frozen=True)
class Stopped:
    """How the latest fit with early stopping ended. The state of its best epoch has been restored."""

    rule: EarlyStopping
    value: float  # Best.value and Best.epoch
    epoch: int
    tried: int  # the number of the last epoch trained
    is_over: bool  # whether the rule ended it; otherwise its epochs were used up, or it was interrupted


class Run:
    """An engine and its progress: number of epochs, their records, the current state of the schedule, and the best epoch."""

    __slots__ = ("best", "engine", "epoch", "history", "reason", "schedule", "stopped")

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.reset()

    def reset(self) -> None:
        """Removes all progress; the engine does not change."""
        self.epoch = 0
        self.history: dict[str, list[float]] = {}  # the records as lists of equal length, with NaN for an epoch without the entry
        self.schedule: Schedule | None = None  # of the latest fit
        self.best: Best | None = None  # during fit only
        self.stopped: Stopped | None = None  # after a fit with early stopping
        self.reason: str | None = None  # why the latest fit has stopped

    @property
    def length(self) -> int:
        """The number of records."""
        return len(next(iter(self.history.values()), ()))

    def add(self, record: Record) -> None:
        """Counts an epoch and appends its record, which is complete, to the history."""
        before, self.stopped = self.length, None
        self.epoch += 1
        for name in [name for name in record if name not in self.history]:
            if name not in ("epoch", "steps"):
                self.history[name] = [math.nan] * before
        get, nan = record.get, math.nan
        for name, values in self.history.items():
            values.append(get(name, nan))

    def diverged(self, error: FloatingPointError, rows: Rows | None = None, order: Array | None = None) -> FloatingPointError:
        """The error with epoch, step, and the cause or advice added. rows, order: the rows trained on and their order, if known."""
        where = f"epoch {self.epoch + 1}, step {self.engine.steps + 1}"
        engine = self.engine
        there = None if rows is None else engine.shape.cleared(rows)
        cause = None if there is None else faults.not_finite(there, order, engine.net.dtype, engine.loss_weights, engine.losses)
        lower = "start from smaller weights" if engine.is_solver else f"use a lower lr (now {self.engine.lr:g})"
        if cause is None and (bad := faults.bad_tensor(self.engine.net.tensors)):
            cause = f"{bad}, and {lower}" if self.engine.steps else bad
        advice = f"{lower}, and scale inputs and targets to about -1 to 1"
        return FloatingPointError(f"{error} ({where}); {cause or advice}")

    def state(self) -> dict[str, Any]:
        """A copy of everything that epochs change, in types that can be saved."""
        now = {"best": self.best, "stopped": self.stopped}  # read once: a fit in another thread may change them
        history = {name: list(values) for name, values in self.history.items()}
        mine = {"epoch": self.epoch, "reason": self.reason, "schedule": self.schedule, "history": history}
        return mine | {name: _fields(one) for name, one in now.items()}

    def set_state(self, state: dict[str, Any]) -> None:
        """Restores a state; ValueError or TypeError if it is invalid."""
        best = None if state["best"] is None else Best(**state["best"])
        stopped = None if state["stopped"] is None else Stopped(**state["stopped"])
        if type(state["epoch"]) is not int or not 0 <= state["epoch"] < 2**63:
            raise ValueError(f"its epoch must be a whole number from 0 to 2**63 - 1, not {state['epoch']!r}")
        if best is not None:
            self._check_best(best)
        if stopped is not None:
            _check_kinds(stopped, {"rule": EarlyStopping, "value": float, "epoch": int, "tried": int, "is_over": bool})
        self.epoch, self.schedule, self.best, self.stopped = state["epoch"], state["schedule"], best, stopped
        self.history = {name: list(values) for name, values in state["history"].items()}
        self.reason = state.get("reason")  # files do not contain it

    def _check_best(self, best: Best) -> None:
        _check_kinds(best, {"monitor": str, "rises": bool, "value": float, "epoch": int, "snapshot": dict | None})
        if best.snapshot is not None and _form(best.snapshot) != _form(self.engine.snapshot()):
            raise ValueError("its best epoch does not match the network")


def _fields(value: Best | Stopped | None) -> dict[str, Any] | None:
    return None if value is None else {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}


def _check_kinds(value: Best | Stopped, kinds: Mapping[str, Any]) -> None:
    if not all(isinstance(getattr(value, name), kind) for name, kind in kinds.items()):
        raise ValueError("its best epoch has invalid values")


def _form(value: Any) -> Any:
    """The structure of a snapshot: its names, and the shape or type of each value."""
    if isinstance(value, dict):
        return {key: _form(part) for key, part in value.items() if key not in ("sparse", "solver")}  # these may change
    return getattr(value, "shape", type(value))
