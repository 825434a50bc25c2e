"""Early stopping: stops when an entry of the records stops improving, and restores the best state."""

from __future__ import annotations

import math
from dataclasses import replace

from ...settings.stopping import EarlyStopping, higher_is_better
from .history import Record
from .run import Best, Run


class Stopping:
    """Stops as `rule` specifies; without a rule, never.

    The run keeps the best epoch, so that files saved during fit contain it and a later fit continues with it.
    """

    def __init__(self, run: Run, rule: EarlyStopping | None) -> None:
        self._run = run
        self._rule = rule
        before, run.best = run.best, None
        if rule is not None:
            none = Best(rule.monitor, higher_is_better(rule.monitor, rule.mode), math.inf, run.epoch)
            is_same = before is not None and (before.monitor, before.rises) == (none.monitor, none.rises)
            run.best = before if is_same else none

    def after_epoch(self, record: Record) -> None:
        """Updates the best epoch."""
        best = self._run.best
        if self._rule is None or best is None:
            return
        value = -record[best.monitor] if best.rises else record[best.monitor]
        if value < best.value - self._rule.min_delta:
            self._run.best = replace(best, value=value, epoch=self._run.epoch, snapshot=self._run.engine.snapshot())

    @property
    def is_over(self) -> bool:
        """Whether there has been no improvement for `patience` epochs."""
        best = self._run.best
        return self._rule is not None and best is not None and self._run.epoch - best.epoch >= self._rule.patience

    def restore(self) -> None:
        """Restores the best state."""
        best, self._run.best = self._run.best, None
        if best is not None and best.snapshot is not None:
            self._run.engine.restore(best.snapshot)
