"""Schedules: the learning rate as a function of the number of updates so far. Frozen settings, and text that says the same.

>>> bp.Warmup(bp.Cosine(lr=0.1, steps=1000), steps=100).text
'warmup(schedule=cosine(lr=0.1,steps=1000,end_lr=0.0),steps=100,start=0.0)'

Rates are absolute, lengths are counted in updates (batches, not epochs). A schedule whose `steps` is None lasts as long as the fit that it
is given to, and begins with it; any other counts from the trainer's first update. In formulas, t is the number of updates so far.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import MISSING, fields, replace
from typing import Annotated, Any, Literal, Self

from ..core.checks import real, rising, whole
from ..core.specs import unknown
from ..core.text import call, number, read_call, read_number
from .base import Settings
from .metrics import rises


def _entry(what: str, value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"\w+", value) or not isinstance(_read(value), str):
        raise ValueError(f"{what} must be the name of a record's entry, not {value!r}")
    return value


def _schedule(what: str, value: Any) -> Schedule:
    if not isinstance(value, Schedule | str):
        raise TypeError(f"{what} must be a schedule such as bp.Cosine(lr=0.1), not {value!r}")
    return parse(value)


class Schedule(Settings):
    """What every schedule offers: `schedule(t)` is the learning rate after t updates, `fit(schedule=...)` takes it.

    >>> schedule = bp.StepDecay(lr=0.1, step_size=10)
    >>> [round(schedule(t), 3) for t in (0, 9, 10, 20)]
    [0.1, 0.1, 0.01, 0.001]
    >>> t = bp.Trainer(bp.mlp([2, 8, 1], seed=0), loss="mse", optimizer="adam")
    >>> t.fit(np.ones((20, 2)), np.ones(20), epochs=2, schedule=schedule)["lr"]
    [0.1, 0.1]
    """

    def __call__(self, step: int) -> float:
        """The learning rate after `step` updates."""
        raise NotImplementedError

    def over(self, total: int) -> Self:
        """The schedule itself, lasting `total` updates if its length was left open.

        >>> bp.Cosine(lr=0.1).over(500)
        Cosine(lr=0.1, steps=500)
        """
        return self

    def after(self, record: Mapping[str, float]) -> Self:
        """The schedule to go on with when an epoch has ended with this record.

        >>> bp.ReduceOnPlateau(lr=0.5, factor=0.5, patience=0, best=0.2).after({"val_loss": 0.3}).lr
        0.25
        """
        return self

    @property
    def watched(self) -> str | None:
        """The record's entry that `after` looks at."""
        return None

    @property
    def text(self) -> str:
        """The schedule as text, which `fit(schedule=...)` and the command line take for an equal schedule."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return call(_name(type(self)), {key: _write(value) for key, value in values.items() if value is not None})


Rate = Annotated[float, real("[0,inf)")]
Share = Annotated[float, real("(0,1]")]
Factor = Annotated[float, real("(0,inf)")]
Count = Annotated[int, whole(1)]


class Lasting(Schedule):
    """A schedule that goes on for `steps` updates; None: for as long as the fit."""

    lr: Rate
    steps: Count | None = None

    def over(self, total: int) -> Self:
        return replace(self, steps=max(1, total)) if self.steps is None else self

    @property
    def _length(self) -> int:
        if self.steps is None:
            raise ValueError(f"{type(self).__name__}: give steps=, the number of updates that it lasts; only fit finds it by itself")
        return self.steps


class Later(Schedule):
    """A schedule that begins at update `steps`, and counts from there."""

    schedule: Annotated[Schedule, _schedule]
    steps: Count

    def over(self, total: int) -> Self:
        return replace(self, schedule=self.schedule.over(total - self.steps))

    def after(self, record: Mapping[str, float]) -> Self:
        return replace(self, schedule=self.schedule.after(record))

    @property
    def watched(self) -> str | None:
        return self.schedule.watched


# ---- functions of the update number ----


class Constant(Schedule):
    """Always the same rate.

    lr: the rate, in [0, inf).

    >>> bp.Constant(lr=0.1)(1000)
    0.1
    """

    lr: Rate

    def __call__(self, step: int) -> float:
        return self.lr


class StepDecay(Schedule):
    """lr gamma^floor(t / step_size): every step_size updates, the rate is multiplied by gamma.

    lr: the first rate, in [0, inf).
    step_size: updates from one change to the next, at least 1.
    gamma: the factor, in (0, 1]; 0.1 by default.

    PyTorch: StepLR, by updates.

    >>> schedule = bp.StepDecay(lr=0.1, step_size=10, gamma=0.5)
    >>> [schedule(t) for t in (0, 9, 10, 20)]
    [0.1, 0.1, 0.05, 0.025]
    """

    lr: Rate
    step_size: Count
    gamma: Share = 0.1

    def __call__(self, step: int) -> float:
        return self.lr * self.gamma ** (step // self.step_size)


class MultiStep(Schedule):
    """lr gamma^(number of milestones <= t): at each milestone, the rate is multiplied by gamma.

    lr: the first rate, in [0, inf).
    milestones: the updates at which it changes: whole numbers of at least 1 that rise.
    gamma: the factor, in (0, 1]; 0.1 by default.

    PyTorch: MultiStepLR, by updates.

    >>> schedule = bp.MultiStep(lr=0.1, milestones=(10, 15), gamma=0.5)
    >>> [schedule(t) for t in (0, 9, 10, 15)]
    [0.1, 0.1, 0.05, 0.025]
    """

    lr: Rate
    milestones: Annotated[tuple[int, ...], rising]
    gamma: Share = 0.1

    def __call__(self, step: int) -> float:
        return self.lr * self.gamma ** sum(milestone <= step for milestone in self.milestones)


class Exponential(Schedule):
    """lr e^(-decay t): the rate halves every 0.693 / decay updates.

    lr: the first rate, in [0, inf).
    decay: in [0, inf); 0 keeps the rate.

    PyTorch: ExponentialLR(gamma), by updates, with decay = -log(gamma).

    >>> schedule = bp.Exponential(lr=0.1, decay=0.01)
    >>> [round(schedule(t), 4) for t in (0, 100, 200)]
    [0.1, 0.0368, 0.0135]
    """

    lr: Rate
    decay: Rate

    def __call__(self, step: int) -> float:
        return self.lr * math.exp(-self.decay * step)


class InverseTime(Schedule):
    """lr / (1 + k t)^power.

    lr: the first rate, in [0, inf).
    k: how fast it falls, in [0, inf): with power 1, the rate is half of lr after 1 / k updates.
    power: in (0, inf); 1 by default.

    Keras: InverseTimeDecay, with power 1. scikit-learn: "invscaling" with k = 1 and power 0.5. PyTorch has none.

    >>> schedule = bp.InverseTime(lr=0.1, k=0.01)
    >>> [round(schedule(t), 4) for t in (0, 100, 300)]
    [0.1, 0.05, 0.025]
    """

    lr: Rate
    k: Rate
    power: Factor = 1.0

    def __call__(self, step: int) -> float:
        return self.lr * math.pow(1 + self.k * step, -self.power)


class Polynomial(Lasting):
    """end_lr + (lr - end_lr) (1 - t / steps)^power, then end_lr. Power 1 is a line.

    lr: the first rate, in [0, inf).
    steps: updates until the end, at least 1; None, the default: as many as the fit.
    end_lr: the last rate, in [0, inf); 0 by default.
    power: in (0, inf); 1 by default.

    PyTorch: PolynomialLR, which has no end_lr. Keras: PolynomialDecay.

    >>> schedule = bp.Polynomial(lr=0.1, steps=100, end_lr=0.02)
    >>> [round(schedule(t), 3) for t in (0, 50, 100, 1000)]
    [0.1, 0.06, 0.02, 0.02]
    """

    end_lr: Rate = 0.0
    power: Factor = 1.0

    def __call__(self, step: int) -> float:
        return self.end_lr + (self.lr - self.end_lr) * math.pow(1 - min(step / self._length, 1.0), self.power)


class Cosine(Lasting):
    """end_lr + (lr - end_lr) (1 + cos(pi t / steps)) / 2, then end_lr (Loshchilov & Hutter 2017, equation 5, without restarts).

    lr: the first rate, in [0, inf).
    steps: updates until the end, at least 1; None, the default: as many as the fit.
    end_lr: the last rate, in [0, inf); 0 by default.

    PyTorch: CosineAnnealingLR, by updates, which rises again after its end: its T_max is steps, its eta_min end_lr.

    >>> schedule = bp.Cosine(lr=0.1, steps=100, end_lr=0.02)
    >>> [round(schedule(t), 3) for t in (0, 50, 100, 1000)]
    [0.1, 0.06, 0.02, 0.02]
    """

    end_lr: Rate = 0.0

    def __call__(self, step: int) -> float:
        return _cosine(self.lr, self.end_lr, min(step / self._length, 1.0))


class CosineRestarts(Schedule):
    """Cosines from lr to end_lr, one after another (SGDR: Loshchilov & Hutter 2017, equation 5).

    lr: the rate at the beginning of each, in [0, inf).
    period: updates of the first, at least 1.
    growth: how many times as long as the one before each is, a whole number of at least 1; 1 by default.
    end_lr: the rate at the end of each, in [0, inf); 0 by default.

    PyTorch: CosineAnnealingWarmRestarts, by updates: its T_0 is period, its T_mult growth, its eta_min end_lr.

    >>> schedule = bp.CosineRestarts(lr=0.1, period=10, growth=2)
    >>> [round(schedule(t), 3) for t in (0, 5, 10, 20, 30)]
    [0.1, 0.05, 0.1, 0.05, 0.1]
    """

    lr: Rate
    period: Count
    growth: Count = 1
    end_lr: Rate = 0.0

    def __call__(self, step: int) -> float:
        period = self.period
        if self.growth == 1:
            step %= period
        while step >= period:
            step -= period
            period *= self.growth
        return _cosine(self.lr, self.end_lr, step / period)


class OneCycle(Lasting):
    """Half a cosine up from lr / div_factor to lr, then half a cosine down to lr / (div_factor final_div_factor) (Smith & Topin 2018).

    lr: the highest rate, in [0, inf), which comes at update pct_start x steps - 1.
    steps: updates until the end, at least 1; None, the default: as many as the fit.
    pct_start: the share of the way up, in [0, 1]; 0.3 by default.
    div_factor: the highest rate over the first, in (0, inf); 25 by default.
    final_div_factor: the first rate over the last, in (0, inf); 10000 by default.

    PyTorch: OneCycleLR, with its defaults: its max_lr is lr. The momentum does not change here, as with its cycle_momentum=False.

    >>> schedule = bp.OneCycle(lr=0.1, steps=100)
    >>> [round(schedule(t), 6) for t in (0, 29, 99)]
    [0.004, 0.1, 0.0]
    """

    pct_start: Annotated[float, real("[0,1]")] = 0.3
    div_factor: Factor = 25.0
    final_div_factor: Factor = 1e4

    def __call__(self, step: int) -> float:
        peak, last = max(self.pct_start * self._length - 1, 0.0), self._length - 1
        first = self.lr / self.div_factor
        if step < peak:
            return _cosine(first, self.lr, step / peak)
        return _cosine(self.lr, first / self.final_div_factor, min((step - peak) / (last - peak), 1.0) if last > peak else 0.0)


class Warmup(Later):
    """A line from `start` to the first rate of a schedule, which then counts from there (Goyal et al. 2017, section 2.2).

    schedule: the schedule that follows; one of open length lasts for the rest of the fit.
    steps: updates of the line, at least 1.
    start: the first rate, in [0, inf); 0 by default.

    PyTorch: LinearLR and then the other one in a SequentialLR; its start_factor is a share of the rate.

    >>> schedule = bp.Warmup(bp.Constant(lr=0.1), steps=10)
    >>> [round(schedule(t), 3) for t in (0, 5, 10, 1000)]
    [0.0, 0.05, 0.1, 0.1]
    """

    start: Rate = 0.0

    def __call__(self, step: int) -> float:
        if step >= self.steps:
            return self.schedule(step - self.steps)
        return self.start + (self.schedule(0) - self.start) * (step / self.steps)


class Delay(Later):
    """`schedule`, counted from update `steps`; before that, its first rate. What a later fit makes of a schedule of open length."""

    def __call__(self, step: int) -> float:
        return self.schedule(max(step - self.steps, 0))


def _cosine(start: float, end: float, share: float) -> float:
    """Half a cosine from start to end."""
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2


# ---- a function of the records ----


class ReduceOnPlateau(Schedule):
    """The rate is multiplied by `factor` whenever an entry of the records has not got better for more than `patience` epochs.

    lr: the first rate, in [0, inf).
    factor: in (0, 1); 0.1 by default.
    patience: epochs without a better value that are let pass, at least 0; 10 by default.
    threshold: a better value is better by more than this share of the best one, in [0, inf); 1e-4 by default.
    cooldown: epochs after a reduction that do not count, at least 0; 0 by default.
    min_lr: the lowest rate, in [0, inf); 0 by default.
    monitor: the entry of the records: "val_loss" (the default), "loss", or the name of a metric.
    mode: "min" or "max", what is better; None, the default: as `EarlyStopping` finds it by the name.
    best, bad, rest: what it has seen so far: the best value, epochs since then, epochs of the cooldown left. `Trainer.schedule` has them
    after fit, so that a later fit can go on.

    PyTorch: ReduceLROnPlateau, with its defaults, and threshold_mode "rel".

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
        rises(self.monitor, self.mode)

    def __call__(self, step: int) -> float:
        return self.lr

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
        return value > self.best + margin if rises(self.monitor, self.mode) else value < self.best - margin

    @property
    def watched(self) -> str | None:
        return self.monitor


def begin(schedule: Schedule, first: int, total: int) -> Schedule:
    """The schedule of a fit of `total` updates, of which the first is number `first`."""
    completed = schedule.over(total)
    return completed if completed == schedule or first == 0 else Delay(completed, first)


# ---- text ----


def _name(kind: type[Schedule]) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", kind.__name__).lower()


KINDS: tuple[type[Schedule], ...] = (
    Constant, StepDecay, MultiStep, Exponential, InverseTime, Polynomial, Cosine, CosineRestarts, OneCycle, Warmup, Delay, ReduceOnPlateau,
)  # fmt: skip
NAMED = {_name(kind): kind for kind in KINDS}


def _write(value: Any) -> str:
    if isinstance(value, Schedule):
        return value.text
    if isinstance(value, tuple):
        return ";".join(map(str, value))
    return number(value) if isinstance(value, float) else str(value)


def _read(text: str) -> Any:
    """What `_write` wrote."""
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
    """A schedule from itself, or from text such as `warmup(schedule=cosine(lr=0.1,steps=1000),steps=10)`."""
    if isinstance(value, Schedule):
        return value
    name, settings = read_call(value)
    if name not in NAMED:
        raise unknown("schedule", name, NAMED)
    valid = {field.name: field.default is MISSING for field in fields(NAMED[name])}
    for key in settings:
        if key not in valid:
            raise unknown(f"parameter of schedule {name!r}:", key, valid)
    missing = [key for key, is_needed in valid.items() if is_needed and key not in settings]
    if missing:
        raise ValueError(f"schedule {value!r} needs {', '.join(f'{key}=' for key in missing)}")
    return NAMED[name](**{key: _read(text) for key, text in settings.items()})
