"""Checkpoints: when to save a run during training. The caller provides the function that saves."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from ...settings.checkpoint import Checkpoint
from .run import Run

Save = Callable[[str | os.PathLike[str]], None]


class Checkpoints:
    """Saves as `rule` specifies; without a rule, never."""

    def __init__(self, run: Run, rule: Checkpoint | None, save: Save) -> None:
        self._run = run
        self._rule = rule
        self._save_to = save
        self._epoch, self._steps, self._time = run.epoch, run.engine.steps, time.monotonic()  # at the last save
        self._whole: tuple[dict[str, Any], dict[str, Any]] | None = None  # states at the end of the last epoch
        if rule is not None:
            folder = os.path.dirname(os.path.realpath(rule.path))
            if not os.path.isdir(folder):
                raise OSError(f"checkpoint: the directory {folder} does not exist; create it first")
            if not os.access(folder, os.W_OK | os.X_OK):
                raise OSError(f"checkpoint: cannot write to the directory {folder}")

    def after_epoch(self) -> None:
        """Saves if a save is due."""
        if self._rule is not None:
            self._whole = self._now()
            if self._is_due(self._rule.every):
                self._save()

    def interrupted(self) -> None:
        """Saves the state at the end of the last complete epoch, so that training can continue as if never interrupted."""
        if self._whole is None or self._whole[1]["epoch"] == self._epoch:
            return
        now = self._now()
        self._restore(self._whole)
        try:
            self._save()
        finally:
            self._restore(now)

    def finish(self) -> None:
        """Saves if anything has changed since the last save."""
        if (self._run.epoch, self._run.engine.steps) != (self._epoch, self._steps):
            self._save()

    def _is_due(self, every: int | timedelta) -> bool:
        if isinstance(every, timedelta):
            return time.monotonic() - self._time >= every.total_seconds()
        return self._run.epoch - self._epoch >= every

    def _save(self) -> None:
        if self._rule is not None:
            self._save_to(self._rule.path)
            self._epoch, self._steps, self._time = self._run.epoch, self._run.engine.steps, time.monotonic()

    def _now(self) -> tuple[dict[str, Any], dict[str, Any]]:
        return self._run.engine.snapshot(), self._run.state()

    def _restore(self, states: tuple[dict[str, Any], dict[str, Any]]) -> None:
        self._run.engine.restore(states[0])
        self._run.set_state(states[1])
