"""95 % intervals of metrics, from the rows of the test.

A fraction of rows has Wilson's score interval (Wilson 1927, "Probable inference"), where weighted rows count as (sum w)^2 / sum w^2 rows
(Kish 1965). For other metrics the standard error comes from the grouped jackknife: the metric is computed without each of GROUPS groups of
rows (Shao & Tu 1995, "The jackknife and bootstrap", chapter 2). Metrics from 0 to 1 then have Wilson's interval for the number of rows
that would give a fraction this standard error; errors, which are at least 0, have an interval that is symmetric for the logarithm.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

import numpy as np

from ..data.arrays import Array

Interval: TypeAlias = tuple[float, float]

GROUPS = 30
_Z = 1.959963984540054  # the 97.5 % quantile of the normal distribution


def wilson(share: float, rows: float) -> Interval | None:
    """The interval for a fraction of `rows` rows; None if there are none."""
    if not (rows > 0 and 0 <= share <= 1):
        return None
    square = _Z * _Z
    middle, scale = share + square / (2 * rows), 1 + square / rows
    half = _Z * math.sqrt(share * (1 - share) / rows + square / (4 * rows * rows))
    return max((middle - half) / scale, 0.0), min((middle + half) / scale, 1.0)


def effective(weight: Array) -> float:
    """The number of rows of equal weight that are as informative as these (Kish 1965)."""
    if not weight.any():
        return 0.0
    relative = weight / weight.max()  # tiny weights have no squares
    return float(relative.sum() ** 2 / (relative @ relative))


def groups(labels: Array) -> Array:
    """Puts rows into GROUPS groups of about equal sizes, at random, but evenly within each class. labels: whole numbers."""
    order = np.random.default_rng(0).permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    group = np.empty(len(labels), np.int64)
    group[order] = np.arange(len(labels)) % min(GROUPS, len(labels))
    return group


def standard_error(without: Callable[[int], float], count: int) -> float:
    """The grouped jackknife. without: the metric without the rows of a group, 0 to count - 1. NaN if there are fewer than 2 groups."""
    if count < 2:
        return math.nan
    values = np.array([without(group) for group in range(count)])
    with np.errstate(over="ignore", invalid="ignore"):
        return float(np.sqrt((count - 1) / count * ((values - values.mean()) ** 2).sum()))


def of_share(value: float, error: float, rarest: float) -> Interval | None:
    """The interval of a metric from 0 to 1 with this standard error. rarest: the rows of the rarest class, which count if the error is 0,
    because no row differs from the others.
    """
    if not (math.isfinite(value) and math.isfinite(error)):
        return None
    return wilson(value, value * (1 - value) / error**2 if error > 0 else rarest)


def of_error(value: float, error: float, count: int) -> Interval | None:
    """The interval of a metric of at least 0 with this standard error, from `count` groups."""
    if not (math.isfinite(value) and math.isfinite(error)):
        return None
    with np.errstate(over="ignore"):
        factor = float(np.exp(_student(count - 1) * error / value)) if value > 0 else 1.0
    return (value / factor, value * factor) if math.isfinite(value * factor) else None


def _student(freedom: int) -> float:
    """The 97.5 % quantile of Student's t distribution (Abramowitz & Stegun 1964, 26.7.5, whose error is below 2 % from 3 on)."""
    z, n = _Z, freedom
    return (
        z + (z**3 + z) / (4 * n) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * n**2) + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * n**3)
    )
