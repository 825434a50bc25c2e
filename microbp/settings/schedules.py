"""Schedules: the learning rate as a function of the number of updates so far. Immutable settings, also as text.

>>> bp.Warmup(bp.Cosine(lr=0.1, steps=1000), steps=100).text
'warmup(schedule=cosine(lr=0.1,steps=1000,end_lr=0.0),steps=100,start=0.0)'

Rates are absolute. Lengths are numbers of updates (batches, not epochs). A schedule with steps=None starts and ends with the fit that gets
it; all others count from the trainer's first update. In formulas, t is the number of updates so far.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import MISSING, fields, replace
from typing import Annotated, Any, Literal, Self

from ..core.checks import increasing, real, whole
from ..core.specs import unknown
from ..core.text import brief, call, number, read_call, read_number
from .base import Settings
from .stopping import higher_is_better


def _entry(what: str, value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"\w+", value) or not isinstance(_read(value), str):
        raise ValueError(f'{what} must be the name of a record\'s entry, such as "val_loss", not {brief(value)}')
    return value


def _schedule(what: str, value: Any) -> Schedule:
    if not isinstance(value, Schedule | str):
        raise TypeError(f"{what} must be a schedule such as bp.Cosine(lr=0.1), not {brief(value)}")
    return parse(value)


class Schedule(Settings):
    """The base class of schedules: `schedule(t)` is the learning rate after t updates. Use one with `fit(schedule=...)`.

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
        """The schedule for a fit of `total` updates: if steps is None, steps becomes `total`.

        >>> bp.Cosine(lr=0.1).over(500)
        Cosine(lr=0.1, steps=500)
        """
        return self

    def after(self, record: Mapping[str, float]) -> Self:
        """The schedule for the next epoch, after an epoch with this record.

        >>> bp.ReduceOnPlateau(lr=0.5, factor=0.5, patience=0, best=0.2).after({"val_loss": 0.3}).lr
        0.25
        """
        return self

    @property
    def watched(self) -> str | None:
        """The entry of the record that `after` reads, or None."""
        return None

    @property
    def text(self) -> str:
        """The schedule as text. `fit(schedule=...)` and the command line accept it."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return call(_name(type(self)), {key: _write(value) for key, value in values.items() if value is not None})


Rate = Annotated[float, real("[0,inf)")]
Share = Annotated[float, real("(0,1]")]
Factor = Annotated[float, real("(0,inf)")]
Count = Annotated[int, whole(1)]


class Lasting(Schedule):
    """A schedule that lasts `steps` updates. None: as many updates as the fit has."""

    lr: Rate
    steps: Count | None = None

    def over(self, total: int) -> Self:
        return replace(self, steps=max(1, total)) if self.steps is None else self

    @property
    def _length(self) -> int:
        if self.steps is None:
            raise ValueError(
                f"{type(self).__name__} has no length: pass steps=1000 (number of updates), or pass the schedule to fit, which sets it"
            )
        return self.steps


class Later(Schedule):
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

    lr: the initial rate, in [0, inf).
    step_size: the number of updates between changes, at least 1.
    gamma: the factor, in (0, 1]; 0.1 by default.

    PyTorch: StepLR, with scheduler.step() after each update.

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

    lr: the initial rate, in [0, inf).
    milestones: the updates at which the rate changes: increasing whole numbers of at least 1.
    gamma: the factor, in (0, 1]; 0.1 by default.

    PyTorch: MultiStepLR, with scheduler.step() after each update.

    >>> schedule = bp.MultiStep(lr=0.1, milestones=(10, 15), gamma=0.5)
    >>> [schedule(t) for t in (0, 9, 10, 15)]
    [0.1, 0.1, 0.05, 0.025]
    """

    lr: Rate
    milestones: Annotated[tuple[int, ...], increasing]
    gamma: Share = 0.1

    def __call__(self, step: int) -> float:
        return self.lr * self.gamma ** sum(milestone <= step for milestone in self.milestones)


class Exponential(Schedule):
    """lr e^(-decay t): the rate halves every 0.693 / decay updates.

    lr: the initial rate, in [0, inf).
    decay: how fast the rate falls, in [0, inf); 0 keeps it constant.

    PyTorch: ExponentialLR(gamma) with decay = -log(gamma), and scheduler.step() after each update.

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

    lr: the initial rate, in [0, inf).
    k: how fast the rate falls, in [0, inf): with power 1, the rate is half of lr after 1 / k updates.
    power: the exponent, in (0, inf); 1 by default.

    Keras: InverseTimeDecay, with power 1. PyTorch has no equivalent.
    scikit-learn: "invscaling", which counts samples and changes the rate after each epoch: k is the batch size, power is power_t (0.5).

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
    """end_lr + (lr - end_lr) (1 - t / steps)^power, then end_lr. With power 1 it is a straight line.

    lr: the initial rate, in [0, inf).
    steps: the number of updates until the end, at least 1; None, the default: as many updates as the fit has.
    end_lr: the final rate, in [0, inf); 0 by default.
    power: the exponent, in (0, inf); 1 by default.

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

    lr: the initial rate, in [0, inf).
    steps: the number of updates until the end, at least 1; None, the default: as many updates as the fit has.
    end_lr: the final rate, in [0, inf); 0 by default.

    PyTorch: CosineAnnealingLR with T_max = steps and eta_min = end_lr, and scheduler.step() after each update. Its rate rises again after
    T_max.

    >>> schedule = bp.Cosine(lr=0.1, steps=100, end_lr=0.02)
    >>> [round(schedule(t), 3) for t in (0, 50, 100, 1000)]
    [0.1, 0.06, 0.02, 0.02]
    """

    end_lr: Rate = 0.0

    def __call__(self, step: int) -> float:
        return _cosine(self.lr, self.end_lr, min(step / self._length, 1.0))


class CosineRestarts(Schedule):
    """Cosines from lr to end_lr, one after another (SGDR: Loshchilov & Hutter 2017, equation 5).

    lr: the rate at the start of each cosine, in [0, inf).
    period: the number of updates of the first cosine, at least 1.
    growth: each cosine is this many times as long as the previous one, a whole number of at least 1; 1 by default.
    end_lr: the rate at the end of each cosine, in [0, inf); 0 by default.

    PyTorch: CosineAnnealingWarmRestarts with T_0 = period, T_mult = growth and eta_min = end_lr, and scheduler.step() after each update.

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

    lr: the highest rate, in [0, inf), reached at update pct_start x steps - 1.
    steps: the number of updates until the end, at least 1; None, the default: as many updates as the fit has.
    pct_start: the fraction of updates in which the rate rises, in [0, 1]; 0.3 by default.
    div_factor: the highest rate divided by the initial rate, in (0, inf); 25 by default.
    final_div_factor: the initial rate divided by the final rate, in (0, inf); 10000 by default.

    PyTorch: OneCycleLR, with its defaults, max_lr = lr and cycle_momentum=False: the momentum does not change.

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

    def __call__(self, step: int) -> float:
        if step >= self.steps:
            return self.schedule(step - self.steps)
        return self.start + (self.schedule(0) - self.start) * (step / self.steps)


class Delay(Later):
    """The initial rate of `schedule` until update `steps`, where the schedule starts. A later fit wraps a schedule with steps=None in a
    Delay, so that it starts at the current update."""

    def __call__(self, step: int) -> float:
        return self.schedule(max(step - self.steps, 0))


def _cosine(start: float, end: float, share: float) -> float:
    """Half a cosine from start to end."""
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2


# ---- a function of the records ----


class ReduceOnPlateau(Schedule):
    """Multiplies the rate by `factor` when an entry of the records has not improved for more than `patience` epochs.

    lr: the initial rate, in [0, inf).
    factor: multiplies the rate, in (0, 1); 0.1 by default.
    patience: the number of epochs without improvement to wait, at least 0; 10 by default.
    threshold: the smallest improvement that counts, as a fraction of the best value, in [0, inf); 1e-4 by default.
    cooldown: the number of epochs after a reduction in which epochs without improvement are not counted, at least 0; 0 by default.
    min_lr: the lowest rate, in [0, inf); 0 by default.
    monitor: the entry of the records: "val_loss" (the default), "loss", or the name of a metric.
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
        return value > self.best + margin if higher_is_better(self.monitor, self.mode) else value < self.best - margin

    @property
    def watched(self) -> str | None:
        return self.monitor


def begin(schedule: Schedule, first: int, total: int) -> Schedule:
    """The schedule for a fit of `total` updates that starts at update `first`."""
    completed = schedule.over(total)
    return completed if completed == schedule or first == 0 else Delay(completed, first)


# ---- text ----


def _name(kind: type[Schedule]) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", kind.__name__).lower()


KINDS: tuple[type[Schedule], ...] = (
    Constant, StepDecay, MultiStep, Exponential, InverseTime, Polynomial, Cosine, CosineRestarts, OneCycle, Warmup, Delay, ReduceOnPlateau,
)  # fmt: skip
NAMED = {_name(kind): kind for kind in KINDS}
_EXAMPLES = {  # values of the parameters without a default
    "lr": "0.01", "step_size": "1000", "milestones": "1000;2000", "decay": "0.001", "k": "0.001", "period": "1000", "steps": "100",
    "schedule": "cosine(lr=0.01)",
}  # fmt: skip


def _write(value: Any) -> str:
    if isinstance(value, Schedule):
        return value.text
    if isinstance(value, tuple):
        return ";".join(map(str, value))
    return number(value) if isinstance(value, float) else str(value)


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
