"""The line search of J. J. More and D. J. Thuente, "Line search algorithms with guaranteed sufficient decrease" (1994), as in MINPACK-2.

f is the function along the line, with f'(0) < 0. A step satisfies the rule if

    f(step) <= f(0) + decrease step f'(0)     it decreases enough
    |f'(step)| <= curvature |f'(0)|           a longer or shorter step would not decrease it much more
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Sample:
    """A step, f there, and f' there."""

    step: float
    value: float
    slope: float


@dataclass(frozen=True)
class Wolfe:
    """The constants of the rule. tolerance: the search also ends if an interval with such a step is as short as this part of its upper
    end."""

    decrease: float
    curvature: float
    tolerance: float


GO_ON, FOUND, ENDED = "go on", "found", "ended"


class LineSearch:
    """The interval of uncertainty, from the best step so far to another one."""

    def __init__(self, rule: Wolfe, value: float, slope: float, step: float, most: float) -> None:
        self.rule, self.most = rule, most
        self.start = self.best = self.other = Sample(0.0, value, slope)
        self.is_bracketed = self.is_settled = False
        self.low, self.high = 0.0, 5 * step
        self.width, self.width_before = most, 2 * most

    def next(self, step: float, value: float, slope: float) -> tuple[str, float]:
        """What to do after the function at `step`: FOUND, ENDED, or GO_ON with the next step."""
        now = Sample(step, value, slope)
        least = self.rule.decrease * self.start.slope
        is_low = value <= self.start.value + step * least
        self.is_settled |= is_low and slope >= 0  # the second stage (section 3)
        if is_low and abs(slope) <= self.rule.curvature * -self.start.slope:
            return FOUND, step
        if self.is_bracketed and self._is_tight(step):
            return ENDED, step
        if (step >= self.most and is_low and slope <= least) or step <= 0:
            return ENDED, step
        if not self.is_settled and value <= self.best.value and not is_low:
            self.best, self.other = _tilted(self.best, least), _tilted(self.other, least)
            found = self._trial(_tilted(now, least))
            self.best, self.other = _tilted(self.best, -least), _tilted(self.other, -least)
        else:
            found = self._trial(now)
        return GO_ON, self._within(found)

    def back(self, step: float) -> float:
        """The step to try if the function is not finite at `step`."""
        self.most = min(self.most, step)
        return self.best.step + (step - self.best.step) / 2

    def _trial(self, now: Sample) -> float:
        """The next step (section 4), from the samples at the ends of the interval and the new one; updates the interval."""
        best, turns = self.best, now.slope * self.best.slope < 0
        if now.value > best.value:
            c, q = _cubic(best, now), _quadratic(best, now)
            step = c if abs(c - best.step) < abs(q - best.step) else c + (q - c) / 2
        elif turns:
            step = max(_cubic(now, best), _secant(best, now), key=lambda one: abs(one - now.step))
        elif abs(now.slope) < abs(best.slope):
            step = self._beyond(now)
        elif self.is_bracketed:
            step = _cubic(now, self.other)
        else:
            step = self.high if now.step > best.step else self.low
        self.is_bracketed |= now.value > best.value or turns
        if now.value > best.value:
            self.other = now
        else:
            self.best, self.other = now, best if turns else self.other
        return step

    def _beyond(self, now: Sample) -> float:
        """Case 3: f goes on falling, but less steeply. If the cubic has no minimizer beyond the new step, it goes as far as it may."""
        best, forward = self.best, now.step > self.best.step
        part, root = _cubic_part(now, best)
        c = now.step + part * (best.step - now.step) if part < 0 and root != 0 else self.high if forward else self.low
        steps = sorted((c, _secant(best, now)), key=lambda one: abs(one - now.step))
        if not self.is_bracketed:
            return min(max(steps[1], self.low), self.high)
        limit = now.step + 0.66 * (self.other.step - now.step)
        return min(limit, steps[0]) if forward else max(limit, steps[0])

    def _within(self, step: float) -> float:
        """Sets the bounds of the next step, and bisects the interval if two steps have not made it much shorter."""
        best, other = self.best.step, self.other.step
        if self.is_bracketed:
            if abs(other - best) >= 0.66 * self.width_before:
                step = best + (other - best) / 2
            self.width_before, self.width = self.width, abs(other - best)
            self.low, self.high = min(best, other), max(best, other)
        else:
            self.low, self.high = step + 1.1 * (step - best), step + 4 * (step - best)
        step = min(max(step, 0.0), self.most)
        return best if self.is_bracketed and self._is_tight(step) else step

    def _is_tight(self, step: float) -> bool:
        return step <= self.low or step >= self.high or self.high - self.low <= self.rule.tolerance * self.high


def _tilted(sample: Sample, slope: float) -> Sample:
    return Sample(sample.step, sample.value - sample.step * slope, sample.slope - slope)


def _cubic_part(a: Sample, b: Sample) -> tuple[float, float]:
    """Where the cubic by the values and slopes at a and b has its minimizer, as a part of the way from a to b; and the root in it."""
    theta = 3 * (a.value - b.value) / (b.step - a.step) + a.slope + b.slope
    scale = max(abs(theta), abs(a.slope), abs(b.slope))
    root = scale * math.sqrt(max(0.0, (theta / scale) ** 2 - (a.slope / scale) * (b.slope / scale)))
    if b.step < a.step:
        root = -root
    return (root - a.slope + theta) / (root - a.slope + root + b.slope), root


def _cubic(a: Sample, b: Sample) -> float:
    return a.step + _cubic_part(a, b)[0] * (b.step - a.step)


def _quadratic(a: Sample, b: Sample) -> float:
    """The minimizer of the parabola by both values and the slope at a."""
    rise = (a.value - b.value) / (b.step - a.step) + a.slope
    return a.step + a.slope / rise / 2 * (b.step - a.step)


def _secant(a: Sample, b: Sample) -> float:
    """The minimizer of the parabola by both slopes."""
    return b.step + b.slope / (b.slope - a.slope) * (a.step - b.step)
