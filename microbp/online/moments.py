"""The count, mean and spread of numbers that come one at a time."""

from __future__ import annotations

from math import sqrt
from typing import Any, TypeAlias

from ..core.text import brief

# The count, the mean, and the sum of squared differences from it, of the values so far (Welford 1962).
Moments: TypeAlias = tuple[int, float, float]
NONE: Moments = (0, 0.0, 0.0)
_LARGEST = 1e150  # the square of a larger number may overflow


def included(moments: Moments, value: float) -> tuple[Moments, float]:
    """The moments of one value more, and this value standardised by them: at most sqrt(count - 1), and 0 if all are equal."""
    count, mean, squares = moments
    count += 1
    difference = value - mean
    mean += difference / count
    distance = value - mean
    squares += difference * distance
    variance = squares / count
    return (count, mean, squares), distance / sqrt(variance) if variance > 0 else 0.0


def restored(moments: Moments, standard: float) -> float:
    """The value that was standardised."""
    count, mean, squares = moments
    return mean + standard * sqrt(squares / count) if count else 0.0


def moments_of(saved: Any) -> Moments:
    """The moments of a file."""
    count, mean, squares = saved
    if type(count) is not int or count < 0 or not (is_valid(mean) and squares >= 0):
        raise ValueError(f"{brief(saved)} is not a count, a mean and a sum of squares")
    return count, float(mean), float(squares)


def is_valid(value: float) -> bool:
    """Whether a value may be included."""
    return -_LARGEST < value < _LARGEST


def refused(what: str, value: object) -> ValueError:
    """The error for a value that may not."""
    return ValueError(f"{what} is {brief(value)}, but numbers must be between -{_LARGEST:g} and {_LARGEST:g}")
