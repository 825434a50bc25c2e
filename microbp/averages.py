"""Averages of the weights along the way: frozen settings. The average itself belongs to the trainer."""

from __future__ import annotations

import operator
from dataclasses import dataclass


class Average:
    """What every average's settings offer."""

    @property
    def rule(self) -> tuple[float, int, int]:
        """(decay, start, every) as the backends take them."""
        raise NotImplementedError


@dataclass(frozen=True)
class EMA(Average):
    """An exponential moving average: after each update, average += (1 - decay) (weights - average), from a copy of the first
    (Polyak & Juditsky 1992; Tarvainen & Valpola 2017). It looks back over about 1 / (1 - decay) updates."""

    decay: float = 0.999

    def __post_init__(self) -> None:
        if not 0 <= self.decay < 1:
            raise ValueError(f"EMA: decay must be at least 0 and below 1, not {self.decay!r}")

    @property
    def rule(self) -> tuple[float, int, int]:
        return float(self.decay), 0, 1


@dataclass(frozen=True)
class SWA(Average):
    """Stochastic weight averaging (Izmailov et al. 2018, equation 2): the mean of the weights after the updates number start,
    start + every, ....

    Both count updates as `Trainer.steps` does. n rows in batches of b are ceil(n / b) updates per epoch: with that number `s`, to average
    the ends of epochs from the 10th on is SWA(start=10 * s, every=s).
    """

    start: int = 0
    every: int = 1

    def __post_init__(self) -> None:
        for name, value, least in (("start", self.start, 0), ("every", self.every, 1)):
            try:
                count = operator.index(value)
            except TypeError:
                raise TypeError(f"SWA: {name} must be a whole number, not {value!r}") from None
            if not least <= count < 2**63:
                raise ValueError(f"SWA: {name} must be at least {least}, and below 2**63, not {count}")

    @property
    def rule(self) -> tuple[float, int, int]:
        return 1.0, operator.index(self.start), operator.index(self.every)
