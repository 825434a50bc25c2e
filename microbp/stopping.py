"""Early stopping: when an entry of the records has not got better for long, and the best state back."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .metrics import rises
from .snapshot import Snapshot

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
    """Remembers the state of the best epoch; without patience it does nothing."""

    def __init__(self, trainer: Trainer, stopping: Stopping) -> None:
        self._trainer = trainer
        self._stopping = stopping
        self._sign = -1 if rises(stopping.monitor, stopping.mode) else 1
        self._value = math.inf  # the lower the better
        self._epoch = trainer.epoch
        self._kept: Snapshot | None = None

    def see(self, record: Mapping[str, float]) -> bool:
        """Takes note of an epoch; True if patience is at its end."""
        if self._stopping.patience is None:
            return False
        value = self._sign * record[self._stopping.monitor]
        if value < self._value - self._stopping.min_delta:
            self._value, self._epoch, self._kept = value, int(record["epoch"]), Snapshot(self._trainer)
        return record["epoch"] - self._epoch >= self._stopping.patience

    def restore(self) -> None:
        """Brings the best state back."""
        if self._kept:
            self._kept.restore()
