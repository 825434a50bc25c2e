"""Schedules: the learning rate as a function of the number of updates so far. Immutable settings, also as text.

>>> bp.Warmup(bp.Cosine(lr=0.1, steps=1000), steps=100).text
'warmup(schedule=cosine(lr=0.1,steps=1000,end_lr=0.0),steps=100,start=0.0)'

Rates are absolute. Lengths are numbers of updates (batches, not epochs). A schedule with steps=None starts and ends with the fit that gets
it; all others count from the trainer's first update. In formulas, t is the number of updates so far.

In fit(schedules=...) the values are those of another number, such as dropout, instead of rates, and steps=None is from the trainer's first
update to the end of the fit.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import MISSING, fields, replace
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from ..core.checks import real, whole
from ..core.specs import unknown
from ..core.text import brief, call, read_call, read_number
from .curves import Constant as Constant
from .curves import Cosine as Cosine
from .curves import CosineRestarts as CosineRestarts
from .curves import CosLog as CosLog
from .curves import Count, Curve, Rate, name_of
from .curves import Exponential as Exponential
from .curves import InverseTime as InverseTime
from .curves import MultiStep as MultiStep
from .curves import OneCycle as OneCycle
from .curves import Polynomial as Polynomial
from .curves import Schedule as Schedule
from .curves import StepDecay as StepDecay
from .stopping import higher_is_better

if TYPE_CHECKING:
    from ..data.arrays import Array


def _entry(what: str, value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[\w-]+", value) or not isinstance(_read(value), str):
        error = ValueError if isinstance(value, str) else TypeError
        raise error(f'{what} must be the name of a record\'s entry, such as "val_loss", not {brief(value)}')
    return value


def _schedule(what: str, value: Any) -> Schedule:
    if not isinstance(value, Schedule | str):
        raise TypeError(f"{what} must be a schedule such as bp.Cosine(lr=0.1), not {brief(value)}")
    return parse(value)


class Later(Curve):
    """Another schedule, which starts at update `steps` and counts from there."""

    schedule: Annotated[Schedule, _schedule]
    steps: Count

    def over(self, total: int) -> Self:
        return replace(self, schedule=self.schedule.over(total - self.steps))

    def after(self, record: Mapping[str, float]) -> Self:
        return replace(self, schedule=self.schedule.after(record))

    @property
    def watched(self) -> str | None:
        return self.schedule.watched


# ---- schedules of schedules ----


class Warmup(Later):
    """Changes the rate linearly from `start` to the initial rate of another schedule, which then starts (Goyal et al. 2017, section 2.2).

    schedule: the schedule that follows; if its steps is None, it lasts for the rest of the fit.
    steps: the number of updates of the linear part, at least 1.
    start: the initial rate, in [0, inf); 0 by default.

    PyTorch: SequentialLR of LinearLR and the other schedule. LinearLR's start_factor is relative to the rate; start is absolute.

    >>> schedule = bp.Warmup(bp.Constant(lr=0.1), steps=10)
    >>> [round(schedule(t), 3) for t in (0, 5, 10, 1000)]
    [0.0, 0.05, 0.1, 0.1]
    """

    start: Rate = 0.0

    def at(self, steps: Array) -> Array:
        linear = self.start + (self.schedule(0) - self.start) * (steps / self.steps)
        linear[steps >= self.steps] = self.schedule.rates((steps[steps >= self.steps] - self.steps).tolist())
        return linear


class Delay(Later):
    """The initial rate of `schedule` until update `steps`, where the schedule starts. A later fit wraps a schedule with steps=None in a
    Delay, so that it starts at the current update."""

    def at(self, steps: Array) -> Array:
        return self.schedule.rates((steps - self.steps).clip(0).tolist())


# ---- a function of the records ----


class ReduceOnPlateau(Curve):
    """Multiplies the rate by `factor` when an entry of the records has not improved for more than `patience` epochs.

    lr: the initial rate, in [0, inf).
    factor: multiplies the rate, in (0, 1); 0.1 by default.
    patience: the number of epochs without improvement to wait, at least 0; 10 by default.
    threshold: the smallest improvement that counts, as a fraction of the best value, in [0, inf); 1e-4 by default.
    cooldown: the number of epochs after a reduction in which epochs without improvement are not counted, at least 0; 0 by default.
    min_lr: the lowest rate, in [0, inf); 0 by default.
    monitor: the entry of the records: "val_loss" (the default), "loss", that of an output ("val_loss_policy"), or the name of a metric.
    mode: "min" if lower is better, "max" if higher is better; None, the default: determined by the name, as in `EarlyStopping`.
    best, bad, rest: its state: the best value so far, the number of epochs that count towards patience, and the epochs of cooldown left.
    After fit, `Trainer.schedule` has this state, and a later fit can continue from it.

    PyTorch: ReduceLROnPlateau, with its defaults and threshold_mode="rel".

    >>> schedule = bp.ReduceOnPlateau(lr=0.1, patience=0, monitor="loss")
    >>> for loss in (1.0, 0.5, 0.5):
    ...     schedule = schedule.after({"loss": loss})
    >>> round(schedule.lr, 3), schedule.best
    (0.01, 0.5)
    """

    lr: Rate
    factor: Annotated[float, real("(0,1)")] = 0.1
    patience: Annotated[int, whole(0)] = 10
    threshold: Rate = 1e-4
    cooldown: Annotated[int, whole(0)] = 0
    min_lr: Rate = 0.0
    monitor: Annotated[str, _entry] = "val_loss"
    mode: Literal["min", "max"] | None = None
    best: Annotated[float, real("[-inf,inf]")] | None = None
    bad: Annotated[int, whole(0)] = 0
    rest: Annotated[int, whole(0)] = 0

    def __post_init__(self) -> None:
        higher_is_better(self.monitor, self.mode)

    def at(self, steps: Array) -> Array:
        return steps * 0.0 + self.lr

    def after(self, record: Mapping[str, float]) -> Self:
        value = record[self.monitor]
        rest, bad = max(self.rest - 1, 0), 0 if self.rest else self.bad + 1
        if self._is_better(value):
            return replace(self, best=value, bad=0, rest=rest)
        if bad <= self.patience:
            return replace(self, bad=bad, rest=rest)
        return replace(self, lr=min(self.lr, max(self.lr * self.factor, self.min_lr)), bad=0, rest=self.cooldown)

    def _is_better(self, value: float) -> bool:
        if self.best is None:
            return not math.isnan(value)
        margin = 0.0 if math.isinf(self.best) else abs(self.best) * self.threshold
        return value > self.best + margin if higher_is_better(self.monitor, self.mode) else value < self.best - margin

    @property
    def watched(self) -> str | None:
        return self.monitor


def begin(schedule: Schedule, first: int, total: int) -> Schedule:
    """The schedule for a fit of `total` updates that starts at update `first`."""
    completed = schedule.over(total)
    return completed if completed == schedule or first == 0 else Delay(completed, first)


# ---- text ----


KINDS: tuple[type[Schedule], ...] = (
    Constant, StepDecay, MultiStep, Exponential, InverseTime, Polynomial, Cosine,
    CosineRestarts, CosLog, OneCycle, Warmup, Delay, ReduceOnPlateau,
)  # fmt: skip
NAMED = {name_of(kind): kind for kind in KINDS}
_EXAMPLES = {  # values of the parameters without a default
    "lr": "0.01", "step_size": "1000", "milestones": "1000;2000", "decay": "0.001", "k": "0.001", "period": "1000", "steps": "100",
    "schedule": "cosine(lr=0.01)",
}  # fmt: skip


def _read(text: str) -> Any:
    """Reads what `_write` wrote."""
    if "(" in text:
        return parse(text)
    if ";" in text:
        return [_read(part) for part in text.split(";")]
    for kind in (int, read_number):
        try:
            return kind(text)
        except ValueError:
            pass
    return text


def parse(value: str | Schedule) -> Schedule:
    """A schedule from text such as `warmup(schedule=cosine(lr=0.1,steps=1000),steps=10)`. A Schedule is returned as it is."""
    if isinstance(value, Schedule):
        return value
    name, settings = read_call(value)
    if name not in NAMED:
        raise unknown("schedule", name, [known for known in NAMED if NAMED[known] is not Delay])  # Delay is used only in files
    valid = {field.name: field.default is MISSING for field in fields(NAMED[name])}
    for key in settings:
        if key not in valid:
            raise unknown(f"parameter of schedule {name!r}:", key, valid)
    missing = [key for key, is_needed in valid.items() if is_needed and key not in settings]
    if missing:
        example = call(name, {key: _EXAMPLES[key] for key in missing} | settings)
        raise ValueError(f"schedule {value!r} needs {', '.join(f'{key}=' for key in missing)}; for example {example}")
    return NAMED[name](**{key: _read(text) for key, text in settings.items()})
