"""Settings that are numbers: what each must be, said once."""

from __future__ import annotations

import itertools
import operator
from collections.abc import Callable
from typing import Any

from .specs import Range

Check = Callable[[str, Any], Any]  # (what, value) -> the value as it is kept; TypeError or ValueError if it is none


def real(text: str) -> Check:
    """A number in an interval such as (0,1]."""
    low, high = map(float, text[1:-1].split(","))
    interval = Range(low, low, high, text)

    def check(what: str, value: Any) -> float:
        try:
            result = float(value)
        except (TypeError, ValueError):
            raise TypeError(f"{what} must be a number, not {value!r}") from None
        if not interval.holds(result):
            raise ValueError(f"{what}={value!r} is outside {text}")
        return result

    return check


def whole_number(value: Any, what: str, least: int = 1) -> int:
    """A whole number that is large enough."""
    try:
        result = operator.index(value)
    except TypeError:
        raise TypeError(f"{what} must be a whole number, not {value!r}") from None
    if result < least:
        raise ValueError(f"{what} must be at least {least}, not {result}")
    return result


def whole(least: int) -> Check:
    """The check of such a number."""
    return lambda what, value: whole_number(value, what, least)


def rising(what: str, value: Any) -> tuple[int, ...]:
    """Whole numbers that rise; one alone may stand without its tuple."""
    found = tuple(whole_number(one, what) for one in (value if isinstance(value, list | tuple) else [value]))
    if not found or any(a >= b for a, b in itertools.pairwise(found)):
        raise ValueError(f"{what} must be whole numbers that rise, such as (1000, 2000), not {value!r}")
    return found


def or_none(check: Check) -> Check:
    return lambda what, value: None if value is None else check(what, value)
