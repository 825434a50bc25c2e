"""The arguments of fit that are not data: checked, and brought into one form where there are two ways to write a thing."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from ...core.checks import flag, or_none, real, whole_number
from ...settings.checkpoint import Checkpoint
from ...settings.metrics import Metric
from ...settings.stopping import EarlyStopping
from .callbacks import Callbacks
from .epoch import Pace

if TYPE_CHECKING:
    from ...settings.schedules import Schedule


@dataclass(frozen=True)
class Options:
    """How to fit."""

    epochs: int
    pace: Pace
    shuffle: bool
    stop: EarlyStopping | None
    schedule: str | Schedule | Callable[[int], float] | None
    metrics: str | Metric | Sequence[str | Metric]
    callbacks: Callbacks
    checkpoint: Checkpoint | None
    progress: bool | None

    def __post_init__(self) -> None:
        object.__setattr__(self, "epochs", whole_number(self.epochs, "epochs", least=0))
        object.__setattr__(self, "shuffle", flag("fit: shuffle", self.shuffle))
        object.__setattr__(self, "progress", or_none(flag)("fit: progress", self.progress))
        is_function = callable(self.schedule) and not isinstance(self.schedule, type)
        if not (self.schedule is None or isinstance(self.schedule, str) or is_function):
            raise TypeError(f"fit: schedule must be one such as bp.Cosine(lr=0.1), its text, or a function, not {self.schedule!r}")


def early_stopping(stop: Any, patience: int | None, monitor: str, mode: Any, min_delta: float) -> EarlyStopping | None:
    """The rule, from stop= or from the four arguments that say the same."""
    is_spelt_out = (patience, monitor, mode, min_delta) != (None, "val_loss", None, 0)
    if stop is None and patience is not None:
        return EarlyStopping(patience, monitor, mode, min_delta)
    if stop is None and is_spelt_out:
        raise ValueError("fit: monitor, mode and min_delta need patience=, the number of epochs to wait for a better value")
    if stop is not None and is_spelt_out:
        raise ValueError("fit: stop= already says when to stop: leave patience, monitor, mode and min_delta out, or write them into it")
    if not isinstance(stop, EarlyStopping | None):
        raise TypeError(f"fit: stop must be a rule such as bp.EarlyStopping(patience=10), or None, not {stop!r}")
    return stop


def checkpoint_rule(checkpoint: str | os.PathLike[str] | Checkpoint | None, every: int | timedelta) -> Checkpoint | None:
    """The rule, from checkpoint= and checkpoint_every=."""
    if checkpoint is None and every != 1:
        raise ValueError(f"fit: checkpoint_every={every!r} needs checkpoint=, the file to save to")
    if isinstance(checkpoint, Checkpoint) and every != 1:
        raise ValueError(f"fit: {checkpoint} already says how often to save: leave checkpoint_every out, or write it there as every=")
    return checkpoint if checkpoint is None or isinstance(checkpoint, Checkpoint) else Checkpoint(checkpoint, every)


def seconds(max_time: float | timedelta | None) -> float | None:
    """The time that fit may take."""
    if max_time is None:
        return None
    found: float = real("(0,inf]")("fit: max_time", max_time.total_seconds() if isinstance(max_time, timedelta) else max_time)
    return found
