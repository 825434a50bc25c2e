"""The learning rates of a fit, and other numbers that follow schedules."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ...core.checks import floating
from ...core.specs import table, unknown
from ...core.text import brief
from ...settings import optimizers, schedules
from ...settings.schedules import Schedule
from ..engine.engine import Engine
from .epoch import RateFunction
from .records.history import Record
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


# ---- other numbers ----


class Numbers:
    """Numbers besides the learning rate that follow schedules: dropout, weight_decay and other parameters of the optimizer.

    They are set at the start of each epoch. They depend only on the number of updates so far, so that nothing has to be saved: a fit with
    the same schedules continues one that was interrupted.
    """

    def __init__(self, run: Run, given: Mapping[str, str | Schedule | RateFunction] | None, updates: Callable[[], int] | None) -> None:
        """updates: returns the number of updates in the whole fit; called only for a schedule without a length. None: it has no end."""
        if not isinstance(given, Mapping | None):
            raise TypeError(f'schedules must be a dict such as {{"weight_decay": bp.Cosine(0.02)}}, or None, not {brief(given)}')
        self._run = run
        self._functions: dict[str, RateFunction] = {}
        for name, schedule in (given or {}).items():
            _check_name(run.engine, name)
            self._functions[name] = _function(name, schedule, run.engine.steps, updates)

    def start_epoch(self) -> None:
        """Sets the numbers for the epoch that starts."""
        if not self._functions:
            return
        engine, where = self._run.engine, f"schedules: epoch {self._run.epoch + 1}"
        with engine.guest():
            values = {name: floating(f"{where}: {name}", function(engine.steps)) for name, function in self._functions.items()}
        try:
            engine.set_numbers(values)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from error


def _check_name(engine: Engine, name: Any) -> None:
    if name == "lr":
        raise ValueError('schedules: "lr" has its own argument of fit, schedule=bp.Cosine(lr=0.1); in a loop over epochs, set t.lr')
    valid, optimizer = engine.numbers, optimizers.parse(engine.optimizer).name
    if name in valid:
        return
    if name in table("optimizer")[optimizer].parameters:
        raise ValueError(f"schedules: {name} must be the same in all updates of {optimizer}; numbers that may change: {', '.join(valid)}")
    raise unknown(f"number of a trainer with {optimizer} in schedules:", name, valid)


def _function(name: str, given: Any, done: int, updates: Callable[[], int] | None) -> RateFunction:
    """The value after a number of updates. done: the number of updates before the fit."""
    if not isinstance(given, str | schedules.Schedule):
        if not callable(given) or isinstance(given, type):
            raise TypeError(f"schedules: {name} must be a schedule such as bp.Cosine(0.02), its text, or a function, not {brief(given)}")
        function: RateFunction = given
        return function
    schedule = schedules.parse(given)
    if schedule.watched is not None:
        raise ValueError(f"schedules: {name} cannot follow the records of epochs, as {brief(schedule)} does; only schedule= can")
    if schedule.over(1) == schedule:
        return schedule
    if updates is None:
        raise ValueError(f"schedules: {name}: a loop over epochs has no end, so the schedule needs steps=, the number of updates it lasts")
    return schedule.over(done + updates())
