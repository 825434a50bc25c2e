"""What a setting must be: checks that settings, layers and calls share."""

from __future__ import annotations

import functools
import itertools
import operator
from collections.abc import Callable
from typing import Any

Check = Callable[[str, Any], Any]  # (what, value) -> the value as it is kept; TypeError or ValueError if it is not valid


def floating(what: str, value: Any) -> float:
    """A number."""
    try:
        if not isinstance(value, str | bytes):
            return float(value)
    except (TypeError, ValueError):
        pass
    raise TypeError(f"{what} must be a number, not {value!r}")


@functools.cache
def real(text: str) -> Check:
    """A number in an interval such as (0,1]."""
    low, high = map(float, text[1:-1].split(","))

    def check(what: str, value: Any) -> float:
        result = floating(what, value)
        is_above = low <= result if text[0] == "[" else low < result
        is_below = result <= high if text[-1] == "]" else result < high
        if not (is_above and is_below):
            raise ValueError(f"{what}={value!r} is outside {text}")
        return result

    return check


def whole_number(value: Any, what: str, least: int = 1, bits: int = 63) -> int:
    """A whole number of at least `least` that has no more bits. A truth value is not one, be it Python's or NumPy's."""
    try:
        result = operator.index(value)
    except TypeError:
        raise TypeError(f"{what} must be a whole number, not {value!r}") from None
    if isinstance(value, bool):
        raise TypeError(f"{what} must be a whole number, not {value!r}")
    if result < least:
        raise ValueError(f"{what} must be at least {least}, not {result}")
    if result >= 2**bits:
        raise ValueError(f"{what} must be below 2**{bits}, not {result}")
    return result


def whole(least: int) -> Check:
    """A whole number of at least `least`."""
    return lambda what, value: whole_number(value, what, least)


def rising(what: str, value: Any) -> tuple[int, ...]:
    """Whole numbers that rise; one alone may stand without its tuple."""
    found = tuple(whole_number(one, what) for one in (value if isinstance(value, list | tuple) else [value]))
    if not found or any(a >= b for a, b in itertools.pairwise(found)):
        raise ValueError(f"{what} must be whole numbers that rise, such as (1000, 2000), not {value!r}")
    return found


def two(example: tuple[float, float]) -> Check:
    """Two numbers, such as those of the example."""

    def check(what: str, value: Any) -> tuple[float, float]:
        try:
            first, second = map(float, value)
        except (TypeError, ValueError):
            raise ValueError(f"{what} must be two numbers, for example {example}, not {value!r}") from None
        return first, second

    return check


def flag(what: str, value: Any) -> bool:
    """True or False, or a number that equals one of them."""
    try:
        is_one = value in (0, 1)
    except ValueError:  # an array has no truth value
        is_one = False
    if not is_one:
        raise TypeError(f"{what} must be True or False, not {value!r}")
    return bool(value)


def string(what: str, value: Any) -> str:
    """A text."""
    if not isinstance(value, str):
        raise TypeError(f"{what} must be a text, not {value!r}")
    return value


def one_of(*valid: str) -> Check:
    """One of some words."""

    def check(what: str, value: Any) -> Any:
        if value not in valid:
            raise ValueError(f"{what} is {value!r}; it must be one of {', '.join(map(repr, valid))}")
        return value

    return check


def or_none(check: Check) -> Check:
    """None, or what the check accepts."""
    return lambda what, value: None if value is None else check(what, value)
