"""The learning rates of a fit."""

from __future__ import annotations

from collections.abc import Callable

from ...settings import schedules
from ...settings.schedules import Schedule
from .epoch import Rates
from .history import Record
from .run import Run
from .watch import Watch


def read_schedule(given: str | Schedule | None) -> Schedule | None:
    """A schedule, or its text."""
    if given is None:
        return None
    if not isinstance(given, str | schedules.Schedule):
        raise TypeError(f"schedule must be one such as bp.Cosine(lr=0.1), its text, or None, not {given!r}")
    return schedules.parse(given)


class Course:
    """The way through a schedule, or a function from updates to rates. The run remembers how far a schedule came, but no function."""

    def __init__(self, run: Run, given: str | Schedule | Rates | None, updates: Callable[[], int], watch: Watch) -> None:
        """updates: of the whole fit; counted only if the length of the schedule is open."""
        self._run = run
        self._schedule: Schedule | None = None
        self.rates: Rates | None = None  # None: the engine's own
        if given is None:
            return
        if isinstance(given, str | schedules.Schedule):
            schedule = schedules.parse(given)
            if schedule.watched is not None:
                watch.check("schedule: monitor", schedule.watched)
            total = updates() if schedule.over(1) != schedule else 0
            self._schedule = given = schedules.begin(schedule, run.engine.steps, total)
        self.rates = given

    def go_on(self, record: Record) -> None:
        """Takes note of an epoch."""
        if self._schedule is not None:
            self._schedule = self.rates = self._schedule.after(record)
        if self.rates is not None:
            self._run.schedule = self._schedule
