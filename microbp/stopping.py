"""Early stopping: when an entry of the records has not got better for long, and the best state back."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from . import snapshot
from .metrics import rises

if TYPE_CHECKING:
    from .trainer import Trainer


@dataclass(frozen=True)
class Stopping:
    """When to stop: after `patience` epochs (None: never) in which `monitor` was not better than ever by more than `min_delta`."""

    patience: int | None
    monitor: str
    mode: str | None
    min_delta: float

    def __post_init__(self) -> None:
        if self.patience is None and (self.monitor, self.mode, self.min_delta) != ("val_loss", None, 0):
            raise ValueError("fit: monitor, mode and min_delta need patience=, the number of epochs to wait for a better value")
        if not 0 <= self.min_delta < math.inf:
            raise ValueError(f"fit: min_delta must be finite and at least 0, not {self.min_delta!r}")
        rises(self.monitor, self.mode)


class Best:
    """Remembers the state of the best epoch, in the trainer, so that a file saved meanwhile has it too and a later fit goes on from there.
    Without patience it does nothing."""

    def __init__(self, trainer: Trainer, stopping: Stopping) -> None:
        self._trainer = trainer
        self._stopping = stopping
        rising = rises(stopping.monitor, stopping.mode)
        self._sign = -1 if rising else 1
        before, trainer._best = trainer._best, None
        if stopping.patience is not None:
            none = {"monitor": stopping.monitor, "rises": rising, "value": math.inf, "epoch": trainer.epoch, "state": None}
            is_same = before is not None and all(before[key] == none[key] for key in ("monitor", "rises"))
            trainer._best = before if is_same else none

    def see(self, record: Mapping[str, float]) -> None:
        """Takes note of an epoch."""
        best = self._trainer._best
        if best is None:
            return
        value = self._sign * record[self._stopping.monitor]  # the lower the better
        if value < best["value"] - self._stopping.min_delta:
            best |= {"value": value, "epoch": self._trainer.epoch, "state": snapshot.take(self._trainer)}

    def is_long_ago(self) -> bool:
        """Whether patience is at its end."""
        best, patience = self._trainer._best, self._stopping.patience
        return best is not None and patience is not None and self._trainer.epoch - best["epoch"] >= patience

    def restore(self) -> None:
        """Brings the best state back."""
        best, self._trainer._best = self._trainer._best, None
        if best is not None and best["state"] is not None:
            snapshot.restore(self._trainer, best["state"])


def check(best: Any, trainer: Trainer) -> None:
    """Refuses what `Best` would not have left in the trainer."""
    if best is None:
        return
    kinds = {"monitor": str, "rises": bool, "value": float, "epoch": int, "state": dict | None}
    if best.keys() != kinds.keys() or not all(isinstance(best[key], kind) for key, kind in kinds.items()):
        raise ValueError("its best epoch is not what early stopping keeps")
    if best["state"] is not None and _shape(best["state"]) != _shape(snapshot.take(trainer)):
        raise ValueError("its best epoch does not fit the network")


def _shape(state: Any) -> Any:
    """Names, kinds and sizes."""
    if isinstance(state, Mapping):
        return {key: _shape(value) for key, value in state.items()}
    return getattr(state, "shape", type(state))
