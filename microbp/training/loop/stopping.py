"""Early stopping: stops when an entry of the records stops improving, and restores the best state."""

from __future__ import annotations

import math
from dataclasses import replace

from ...settings.stopping import EarlyStopping, higher_is_better
from .records.history import Record
from .run import Best, Run, Stopped


class Stopping:
    """Stops as `rule` specifies; without a rule, never.

    The run keeps the best epoch, so that files saved during fit contain it and a later fit continues with it. At the end, the run keeps how
    the fit ended. resumes: whether a fit with the same rule continues the fit that ended, if the run is in the state that it left.
    """

    def __init__(self, run: Run, rule: EarlyStopping | None, resumes: bool) -> None:
        self._run = run
        self._rule = rule
        self._lr, self._numbers = run.engine.lr, run.engine.numbers  # before the fit
        self._start = run.epoch, run.engine.steps
        self._before = run.best  # of a fit that was interrupted
        self._ended = _to_resume(run, rule) if resumes else None
        run.best = None
        if rule is not None:
            none = Best(rule.monitor, higher_is_better(rule.monitor, rule.mode), math.inf, run.epoch)
            before, ended = self._before, self._ended
            if before is not None and (before.monitor, before.rises) == (none.monitor, none.rises):
                run.best = before
            elif ended is not None and ended.value < math.inf:
                run.best = replace(none, value=ended.value, snapshot=run.engine.snapshot(), schedule=run.schedule)
            else:
                run.best = none

    @property
    def _has_trained(self) -> bool:
        return (self._run.epoch, self._run.engine.steps) != self._start

    def is_done(self, epochs: int) -> bool:
        """Whether the fit to resume has ended early, or has already tried this many further epochs."""
        ended = self._ended
        return ended is not None and (ended.is_over or self._run.epoch + epochs <= ended.tried)

    def after_epoch(self, record: Record) -> None:
        """Updates the best epoch."""
        best = self._run.best
        if self._rule is None or best is None or self._run.epoch < self._rule.start_from_epoch:
            return
        value = -record[best.monitor] if best.rises else record[best.monitor]
        is_tie = value == best.value and self._rule.ties == "last"
        if is_tie or value < best.value - self._rule.min_delta:
            run = self._run
            run.best = replace(best, value=value, epoch=run.epoch, snapshot=run.engine.snapshot(), schedule=run.schedule)

    @property
    def is_over(self) -> bool:
        """Whether there has been no improvement for `patience` epochs."""
        best = self._run.best
        if self._rule is None or best is None:
            return False
        return self._run.epoch - max(best.epoch, self._rule.start_from_epoch) >= self._rule.patience

    def undo(self) -> None:
        """After an error: if there was no update, restores the state before the fit."""
        if not self._has_trained:
            self._run.best, self._rule = self._before, None
            if not self._run.engine.is_solver:
                self._run.engine.lr = self._lr
            self._run.engine.set_numbers(self._numbers)

    def restore(self) -> None:
        """Restores the best state: of the engine, the schedule, and the number of epochs. The history keeps all records."""
        run, rule, best, is_over = self._run, self._rule, self._run.best, self.is_over
        if rule is None or best is None:
            return
        run.best = None
        if not self._has_trained and best is not self._before:
            return
        tried = run.epoch
        if best.snapshot is not None:
            run.engine.restore(best.snapshot)
            run.epoch, run.schedule = best.epoch, best.schedule
        run.stopped = Stopped(rule, best.value, run.epoch, tried, is_over)


def _to_resume(run: Run, rule: EarlyStopping | None) -> Stopped | None:
    """How the latest fit with this rule ended, if it is over or the run is still in the state that it left."""
    ended = run.stopped
    return ended if ended is not None and ended.rule == rule and (ended.is_over or ended.epoch == run.epoch) else None
