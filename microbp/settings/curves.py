"""The base class of schedules, and those that are a formula of the number of updates so far."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Annotated, Any, Self

from ..core.checks import floating, increasing, real, whole
from ..core.text import call
from .base import Settings

if TYPE_CHECKING:
    from ..data.arrays import Array


def rates_of(schedule: Callable[[int], float], steps: Iterable[int]) -> Array:
    """The learning rates of a function of the number of updates."""
    import numpy as np  # imported only when needed: the command line lists the schedules without it

    return np.array([floating(f"schedule: the learning rate of step {step}", schedule(step)) for step in steps], np.float64)


class Schedule(Settings):
    """The base class of schedules: `schedule(t)` is the learning rate after t updates. Use one with `fit(schedule=...)`, or for another
    number, such as weight_decay, with `fit(schedules=...)`.

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

    def rates(self, steps: Iterable[int]) -> Array:
        """The learning rates after these numbers of updates, the same as one call for each.

        >>> bp.StepDecay(lr=0.1, step_size=10, gamma=0.5).rates(range(0, 30, 10))
        array([0.1  , 0.05 , 0.025])
        """
        return rates_of(self, steps)

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
        return call(name_of(type(self)), {key: _write(value) for key, value in values.items() if value is not None})


Rate = Annotated[float, real("[0,inf)")]
Share = Annotated[float, real("(0,1]")]
Factor = Annotated[float, real("(0,inf)")]
Count = Annotated[int, whole(1)]


class Curve(Schedule):
    """A schedule with a formula, `at`, which computes the rates after many numbers of updates at once."""

    def at(self, steps: Array) -> Array:
        """The learning rates after these numbers of updates."""
        raise NotImplementedError

    def __call__(self, step: int) -> float:
        return float(self._rates([step])[0])

    def rates(self, steps: Iterable[int]) -> Array:
        # a subclass of your own may have another __call__
        return self._rates(steps) if type(self).__call__ is Curve.__call__ else rates_of(self, steps)

    def _rates(self, steps: Iterable[int]) -> Array:
        import numpy as np

        found = np.arange(steps.start, steps.stop, steps.step) if isinstance(steps, range) else np.array(list(steps))
        if found.size and found.min() < 0:
            raise ValueError(f"{type(self).__name__}: the number of updates must be at least 0, not {found.min()}")
        return np.asarray(self.at(found), np.float64)


class Lasting(Curve):
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


# ---- functions of the update number ----


class Constant(Curve):
    """Always the same rate.

    lr: the rate, in [0, inf).

    >>> bp.Constant(lr=0.1)(1000)
    0.1
    """

    lr: Rate

    def at(self, steps: Array) -> Array:
        return steps * 0.0 + self.lr


class StepDecay(Curve):
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

    def at(self, steps: Array) -> Array:
        return self.lr * _each(lambda n: math.pow(self.gamma, n), steps // self.step_size)


class MultiStep(Curve):
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

    def at(self, steps: Array) -> Array:
        return self.lr * _each(lambda n: math.pow(self.gamma, n), sum((steps >= milestone for milestone in self.milestones), steps * 0))


class Exponential(Curve):
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

    def at(self, steps: Array) -> Array:
        return self.lr * _each(math.exp, -self.decay * steps)


class InverseTime(Curve):
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

    def at(self, steps: Array) -> Array:
        return self.lr * _each(lambda share: math.pow(share, -self.power), 1 + self.k * steps)


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

    def at(self, steps: Array) -> Array:
        left = 1 - (steps / self._length).clip(max=1.0)
        return self.end_lr + (self.lr - self.end_lr) * _each(lambda share: math.pow(share, self.power), left)


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

    def at(self, steps: Array) -> Array:
        return _cosine(self.lr, self.end_lr, (steps / self._length).clip(max=1.0))


class CosineRestarts(Curve):
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

    def at(self, steps: Array) -> Array:
        return _cosine(self.lr, self.end_lr, _each(self._share, steps))

    def _share(self, step: int) -> float:
        period = self.period
        if self.growth == 1:
            step %= period
        while step >= period:
            step -= period
            period *= self.growth
        return step / period


class CosLog(Lasting):
    """lr (1 - cos(2 pi log2(1 + (2^cycles - 1) t / steps))) / 2, then 0: waves from 0 to lr and back to 0, each twice as long as the one
    before (RealMLP: Holzmueller, Grinsztajn & Steinwart 2024, arXiv 2407.04491; theirs, coslog4, has 4 cycles).

    lr: the highest rate, in [0, inf).
    steps: the number of updates until the end, at least 1; None, the default: as many updates as the fit has.
    cycles: the number of waves, from 1 to 63; 4 by default.

    PyTorch has no equivalent.

    >>> schedule = bp.CosLog(lr=0.1, steps=150)
    >>> [round(schedule(t), 3) for t in (0, 4, 10, 18, 30, 150)]
    [0.0, 0.1, 0.0, 0.1, 0.0, 0.0]
    """

    cycles: Annotated[int, whole(1, bits=6)] = 4

    def at(self, steps: Array) -> Array:
        growth = 1 + (2**self.cycles - 1) * (steps / self._length).clip(max=1.0)
        return _cosine(0.0, self.lr, 2 * _each(math.log2, growth))


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

    def at(self, steps: Array) -> Array:
        peak, last = max(self.pct_start * self._length - 1, 0.0), self._length - 1
        first = self.lr / self.div_factor
        share = ((steps - peak) / (last - peak)).clip(0.0, 1.0) if last > peak else steps * 0.0
        found, rising = _cosine(self.lr, first / self.final_div_factor, share), steps < peak
        if rising.any():
            found[rising] = _cosine(first, self.lr, steps[rising] / peak)
        return found


def _each(function: Callable[[Any], float], values: Array) -> Array:
    """The function of each value. NumPy's own functions would give other bits on other processors and in other places of an array."""
    import numpy as np

    return np.array(list(map(function, values.tolist())), np.float64)


def _cosine(start: float, end: float, share: Array) -> Array:
    """Half a cosine from start to end, where the share is 1; and back to start, where it is 2."""
    return end + (start - end) * (1 + _each(math.cos, math.pi * share)) / 2


# ---- text ----


def name_of(kind: type[Schedule]) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", kind.__name__).lower()


def _write(value: Any) -> str:
    if isinstance(value, Schedule):
        return value.text
    if isinstance(value, tuple):
        return ";".join(map(str, value))
    return str(value)
