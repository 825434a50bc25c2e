"""Schedules: the learning rate as a function of the number of updates so far. Frozen settings, and text that says the same.

t.fit(X, y, epochs=20, schedule=bp.Warmup(bp.Cosine(lr=0.1), steps=100))

Rates are absolute, lengths are counted in updates (batches, not epochs). A schedule whose `steps` is None lasts as long as the fit that it
is given to, and begins with it; any other counts from the trainer's first update.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields, replace
from typing import Annotated, Any, Self, get_args, get_type_hints

from .checks import Check, or_none, real, rising, whole
from .metrics import rises
from .specs import number, read_number, unknown


def _word(what: str, value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"\w+", value) or not isinstance(_read(value), str):
        raise ValueError(f"{what} must be the name of a record's entry, not {value!r}")
    return value


def _schedule(what: str, value: Any) -> Schedule:
    if not isinstance(value, Schedule | str):
        raise TypeError(f"{what} must be a schedule such as bp.Cosine(lr=0.1), not {value!r}")
    return parse(value)


@dataclass(frozen=True)
class Schedule:
    """What every schedule offers; called with the number of updates so far, it is the learning rate of the next one."""

    def __call__(self, step: int) -> float:
        raise NotImplementedError

    def over(self, total: int) -> Self:
        """The schedule itself, lasting `total` updates if its length was left open."""
        return self

    def after(self, record: Mapping[str, float]) -> Self:
        """The schedule to go on with when an epoch has ended with this record."""
        return self

    @property
    def watched(self) -> str | None:
        """The record's entry that `after` looks at."""
        return None

    @property
    def text(self) -> str:
        """The token that stands for it: `parse` makes an equal schedule of it."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return f"{_name(type(self))}({','.join(f'{key}={_write(value)}' for key, value in values.items() if value is not None)})"

    def __post_init__(self) -> None:
        for key, check in _checks(type(self)).items():  # type: ignore[arg-type]  # a class is hashable, whatever its instances
            object.__setattr__(self, key, check(f"{type(self).__name__}: {key}", getattr(self, key)))


Rate = Annotated[float, real("[0,inf)")]
Share = Annotated[float, real("(0,1]")]
Factor = Annotated[float, real("(0,inf)")]
Count = Annotated[int, whole(1)]


@dataclass(frozen=True)
class Lasting(Schedule):
    """A schedule that goes on for `steps` updates; None: for as long as the fit."""

    lr: Rate
    steps: Annotated[int | None, or_none(whole(1))] = None

    def over(self, total: int) -> Self:
        return replace(self, steps=max(1, total)) if self.steps is None else self

    @property
    def _length(self) -> int:
        if self.steps is None:
            raise ValueError(f"{type(self).__name__}: give steps=, the number of updates that it lasts; only fit finds it by itself")
        return self.steps


@dataclass(frozen=True)
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


@dataclass(frozen=True)
class Constant(Schedule):
    """Always `lr`."""

    lr: Rate

    def __call__(self, step: int) -> float:
        return self.lr


@dataclass(frozen=True)
class StepDecay(Schedule):
    """lr gamma^floor(t / step_size), PyTorch's StepLR by updates."""

    lr: Rate
    step_size: Count
    gamma: Share = 0.1

    def __call__(self, step: int) -> float:
        return self.lr * self.gamma ** (step // self.step_size)


@dataclass(frozen=True)
class MultiStep(Schedule):
    """lr gamma^(number of milestones <= t), PyTorch's MultiStepLR by updates; milestones: whole numbers that rise."""

    lr: Rate
    milestones: Annotated[tuple[int, ...], rising]
    gamma: Share = 0.1

    def __call__(self, step: int) -> float:
        return self.lr * self.gamma ** sum(milestone <= step for milestone in self.milestones)


@dataclass(frozen=True)
class Exponential(Schedule):
    """lr e^(-k t). PyTorch's ExponentialLR(gamma) has k = -log(gamma); the rate halves every 0.693 / k updates."""

    lr: Rate
    k: Rate

    def __call__(self, step: int) -> float:
        return self.lr * math.exp(-self.k * step)


@dataclass(frozen=True)
class InverseTime(Schedule):
    """lr / (1 + k t)^power: Keras' InverseTimeDecay with power 1; scikit-learn's "invscaling" with k = 1 and power 0.5."""

    lr: Rate
    k: Rate
    power: Factor = 1.0

    def __call__(self, step: int) -> float:
        return self.lr * math.pow(1 + self.k * step, -self.power)


@dataclass(frozen=True)
class Polynomial(Lasting):
    """final + (lr - final) (1 - t / steps)^power, then `final`: PyTorch's PolynomialLR, Keras' PolynomialDecay; power 1 is a line."""

    final: Rate = 0.0
    power: Factor = 1.0

    def __call__(self, step: int) -> float:
        return self.final + (self.lr - self.final) * math.pow(1 - min(step / self._length, 1.0), self.power)


@dataclass(frozen=True)
class Cosine(Lasting):
    """final + (lr - final) (1 + cos(pi t / steps)) / 2, then `final` (Loshchilov & Hutter 2017, equation 5, without restarts)."""

    final: Rate = 0.0

    def __call__(self, step: int) -> float:
        return _cosine(self.lr, self.final, min(step / self._length, 1.0))


@dataclass(frozen=True)
class CosineRestarts(Schedule):
    """Cosines from lr to final, one after another, the first `period` updates long and each `growth` times as long as the one before.

    SGDR (Loshchilov & Hutter 2017), PyTorch's CosineAnnealingWarmRestarts by updates: its T_0, T_mult and eta_min.
    """

    lr: Rate
    period: Count
    growth: Count = 1
    final: Rate = 0.0

    def __call__(self, step: int) -> float:
        period = self.period
        if self.growth == 1:
            step %= period
        while step >= period:
            step -= period
            period *= self.growth
        return _cosine(self.lr, self.final, step / period)


@dataclass(frozen=True)
class OneCycle(Lasting):
    """Half a cosine up from lr / div_factor to lr, then half a cosine down to lr / (div_factor final_div_factor).

    The peak comes at update pct_start x steps - 1, the end at steps - 1. PyTorch's OneCycleLR, whose max_lr is `lr` and whose defaults
    these are, without its cycle of the momentum (Smith & Topin 2018).
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


@dataclass(frozen=True)
class Warmup(Later):
    """A line from `start` to the first rate of `schedule` in `steps` updates; then `schedule`, which counts from there."""

    start: Rate = 0.0

    def __call__(self, step: int) -> float:
        if step >= self.steps:
            return self.schedule(step - self.steps)
        return self.start + (self.schedule(0) - self.start) * (step / self.steps)


@dataclass(frozen=True)
class Delay(Later):
    """`schedule`, counted from update `steps`; before that, its first rate. What a later fit makes of a schedule of open length."""

    def __call__(self, step: int) -> float:
        return self.schedule(max(step - self.steps, 0))


def _cosine(start: float, end: float, share: float) -> float:
    """Half a cosine from start to end."""
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2


# ---- a function of the records ----


@dataclass(frozen=True)
class ReduceOnPlateau(Schedule):
    """lr is multiplied by `factor`, but not below min_lr, when `monitor` has not got better for more than `patience` epochs.

    PyTorch's ReduceLROnPlateau, with its defaults: better is by more than the share `threshold` of the best value, and for `cooldown`
    epochs after a reduction none is counted. mode: "min" or "max"; None: known for the metrics of microbp. best, bad and rest are what it
    has seen so far (the best value, epochs without a better one, epochs of the cooldown left): `t.schedule` goes on where fit stopped.
    """

    lr: Rate
    factor: Annotated[float, real("(0,1)")] = 0.1
    patience: Annotated[int, whole(0)] = 10
    threshold: Rate = 1e-4
    cooldown: Annotated[int, whole(0)] = 0
    min_lr: Rate = 0.0
    monitor: Annotated[str, _word] = "val_loss"
    mode: Annotated[str | None, or_none(_word)] = None
    best: Annotated[float | None, or_none(real("[-inf,inf]"))] = None
    bad: Annotated[int, whole(0)] = 0
    rest: Annotated[int, whole(0)] = 0

    def __post_init__(self) -> None:
        super().__post_init__()
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


@functools.cache
def _checks(kind: type[Schedule]) -> dict[str, Check]:
    """What each field of a schedule must be."""
    return {key: get_args(hint)[1] for key, hint in get_type_hints(kind, include_extras=True).items()}


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
    match = re.fullmatch(r"\s*(\w+)\s*(?:\((.*)\))?\s*", value)
    if match is None or match[1] not in NAMED:
        raise unknown("schedule", match[1] if match else value, NAMED)
    kind = NAMED[match[1]]
    valid = {field.name: field.default is MISSING for field in fields(kind)}
    given: dict[str, Any] = {}
    for part in _split(match[2] or ""):
        key, _, text = (piece.strip() for piece in part.partition("="))
        if key not in valid:
            raise unknown(f"parameter of schedule {match[1]!r}:", key, valid)
        given[key] = _read(text)
    missing = [key for key, is_needed in valid.items() if is_needed and key not in given]
    if missing:
        raise ValueError(f"schedule {value!r} needs {', '.join(f'{key}=' for key in missing)}")
    return kind(**given)


def _split(inside: str) -> list[str]:
    """The parts between the commas that stand in no parentheses."""
    parts, depth = [""], 0
    for letter in inside:
        depth += (letter == "(") - (letter == ")")
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return [part for part in parts if part.strip()]
