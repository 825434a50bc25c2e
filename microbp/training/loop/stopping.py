"""Early stopping: whether an entry of the records has not got better for long, and the best state back."""

from __future__ import annotations

import math
from dataclasses import replace

from ...settings.metrics import rises
from ...settings.stopping import EarlyStopping
from .history import Record
from .run import Best, Run


class Stopping:
    """Follows an EarlyStopping; None: never stops.

    The best epoch is remembered in the run, so that a file saved meanwhile has it too and a later fit goes on from there.
    """

    def __init__(self, run: Run, rule: EarlyStopping | None) -> None:
        self._run = run
        self._rule = rule
        before, run.best = run.best, None
        if rule is not None:
            none = Best(rule.monitor, rises(rule.monitor, rule.mode), math.inf, run.epoch)
            is_same = before is not None and (before.monitor, before.rises) == (none.monitor, none.rises)
            run.best = before if is_same else none

    def see(self, record: Record) -> None:
        """Takes note of an epoch."""
        best = self._run.best
        if self._rule is None or best is None:
            return
        value = -record[best.monitor] if best.rises else record[best.monitor]
        if value < best.value - self._rule.min_delta:
            self._run.best = replace(best, value=value, epoch=self._run.epoch, snapshot=self._run.engine.snapshot())

    @property
    def is_over(self) -> bool:
        """Whether patience is at its end."""
        best = self._run.best
        return self._rule is not None and best is not None and self._run.epoch - best.epoch >= self._rule.patience

    def restore(self) -> None:
        """Brings the best state back."""
        best, self._run.best = self._run.best, None
        if best is not None and best.snapshot is not None:
            self._run.engine.restore(best.snapshot)
