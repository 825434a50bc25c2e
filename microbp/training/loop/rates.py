"""The learning rates of a fit."""

from __future__ import annotations

from collections.abc import Callable

from ...core.text import brief
from ...settings import schedules
from ...settings.schedules import Schedule
from .epoch import RateFunction
from .history import Record
from .run import Run
from .watch import Watch


def read_schedule(schedule: str | Schedule | None) -> Schedule | None:
    """Returns a schedule; if it is text, parses it."""
    if schedule is None:
        return None
    if not isinstance(schedule, str | schedules.Schedule):
        raise TypeError(f'schedule must be a schedule such as bp.Cosine(lr=0.1) or "cosine(lr=0.1)", or None, not {brief(schedule)}')
    return schedules.parse(schedule)


class Rates:
    """The learning rates of a fit, from a schedule or a function. The run stores the state of a schedule, but not a function."""

    def __init__(self, run: Run, given: str | Schedule | RateFunction | None, updates: Callable[[], int], watch: Watch) -> None:
        """updates: returns the number of updates in the whole fit; called only for a schedule without a length."""
        self._run = run
        self._schedule: Schedule | None = None
        self.function: RateFunction | None = None  # None: the engine's lr does not change
        if given is None:
            return
        if isinstance(given, str | schedules.Schedule):
            schedule = schedules.parse(given)
            if schedule.watched is not None:
                watch.entries.check("the schedule", schedule.watched)
            total = updates() if schedule.over(1) != schedule else 0
            self._schedule = given = schedules.begin(schedule, run.engine.steps, total)
        self.function = given

    def after_epoch(self, record: Record) -> None:
        """Updates the schedule with the record of an epoch."""
        if self._schedule is not None:
            self._schedule = self.function = self._schedule.after(record)
        if self.function is not None:
            self._run.schedule = self._schedule
