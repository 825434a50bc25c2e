"""Checkpoints: when to save a run during training. The caller provides the function that saves."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from ...core.whole_file import check_replaceable
from ...settings.checkpoint import Checkpoint
from .run import Best, Run, Stopped

if TYPE_CHECKING:
    from ...settings.schedules import Schedule

Save = Callable[[str | os.PathLike[str]], None]


@dataclass(frozen=True)
class _State:
    """A run at the end of an epoch. Its history is the first part of the run's later history."""

    engine: dict[str, Any]
    epoch: int
    schedule: Schedule | None
    best: Best | None
    stopped: Stopped | None
    length: int
    names: int  # of the history's entries


class Checkpoints:
    """Saves as `rule` specifies; without a rule, never."""

    def __init__(self, run: Run, rule: Checkpoint | None, save: Save) -> None:
        self._run = run
        self._rule = rule
        self._save_to = save
        self._saved, self._time = self._marks(), time.monotonic()  # at the last save
        self._whole: _State | None = None  # at the end of the last epoch
        if rule is not None:
            _check(os.path.realpath(rule.path))
            check_replaceable(rule.path)

    def after_epoch(self) -> None:
        """Saves if a save is due."""
        if self._rule is not None:
            self._whole = self._now()
            if self._is_due(self._rule.every):
                self._save()

    def interrupted(self) -> None:
        """Saves the state at the end of the last complete epoch, so that training can continue as if never interrupted."""
        if self._whole is None or self._whole.epoch == self._saved[0]:
            return
        now, history = self._now(), self._run.history
        self._restore(self._whole)
        self._run.history = {name: values[: self._whole.length] for name, values in list(history.items())[: self._whole.names]}
        try:
            self._save()
        finally:
            self._restore(now)
            self._run.history = history

    def finish(self) -> None:
        """Saves if anything has changed since the last save, or if there is no file."""
        if self._marks() != self._saved or (self._rule is not None and not os.path.exists(self._rule.path)):
            self._save()

    def _is_due(self, every: int | timedelta) -> bool:
        if isinstance(every, timedelta):
            return time.monotonic() - self._time >= every.total_seconds()
        return self._run.epoch - self._saved[0] >= every

    def _save(self) -> None:
        if self._rule is not None:
            self._save_to(self._rule.path)
            self._saved, self._time = self._marks(), time.monotonic()

    def _marks(self) -> tuple[int, int, Stopped | None]:
        return self._run.epoch, self._run.engine.steps, self._run.stopped

    def _now(self) -> _State:
        run = self._run
        return _State(run.engine.snapshot(), run.epoch, run.schedule, run.best, run.stopped, run.length, len(run.history))

    def _restore(self, state: _State) -> None:
        run = self._run
        run.engine.restore(state.engine)
        run.epoch, run.schedule, run.best, run.stopped = state.epoch, state.schedule, state.best, state.stopped


def _check(path: str) -> None:
    """Raises OSError if no file can be written to this path."""
    folder = os.path.dirname(path)
    if not os.path.isdir(folder):
        raise OSError(f"checkpoint: the directory {folder} does not exist; create it first")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OSError(f"checkpoint: cannot write to the directory {folder}")
    if os.path.isdir(path):
        raise IsADirectoryError(f"checkpoint: {path} is a directory; pass the path of a file, such as {path}/run.safetensors")
    if os.path.exists(path) and not os.path.isfile(path):
        raise OSError(f"checkpoint: {path} is not a regular file")
