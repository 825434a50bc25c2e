"""Checks of what a network's notes say about columns: a file may come from anyone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

from ..readers.table import LARGEST

MOST_BINS = 1000  # of one column
MOST_SHARED = 65536  # columns for rarer values
_MOST_UNITS = 4096  # of an embedding


def checked(row: Mapping[str, Any], kinds: Mapping[str, Callable[[Any], Any]]) -> dict[str, Any]:
    """The values of a saved row, each checked by the function of its key. KeyError for an unknown key; the functions raise TypeError for
    another type and ValueError for a bad value.
    """
    return {key: kinds[key](value) for key, value in row.items()}


def text(value: Any) -> str:
    """A string."""
    if not isinstance(value, str):
        raise TypeError("a text of the notes is invalid")
    return value


def flag(value: Any) -> bool:
    """True or False."""
    if not isinstance(value, bool):
        raise TypeError("a flag of the notes is invalid")
    return value


def number(value: Any) -> float:
    """A finite number; cells are at most LARGEST, so that it is at most twice as large."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError("a number of the notes is invalid")
    if not abs(float(value)) <= 2 * LARGEST:
        raise ValueError("a number of the notes is too large")
    return float(value)


def scale(value: Any) -> float:
    """A number above 0."""
    if not number(value) > 0:
        raise ValueError("a scale of the notes is not above 0")
    return number(value)


def limit(value: Any) -> float | None:
    """A number, or None if it is unknown."""
    return None if value is None else number(value)


def texts(value: Any) -> tuple[str, ...]:
    """A list of strings."""
    if not isinstance(value, list):
        raise TypeError("a list of the notes is invalid")
    return tuple(map(text, value))


def edges(value: Any) -> tuple[float, ...]:
    """Rising numbers: none, or the edges of at least two bins."""
    if not isinstance(value, list):
        raise TypeError("edges of the notes are invalid")
    found = tuple(map(number, value))
    if len(found) in (1, 2) or len(found) > MOST_BINS + 1 or not all(left < right for left, right in pairwise(found)):
        raise ValueError("edges of the notes do not rise, or are too many")
    return found


def shared(value: Any) -> int:
    """A number of columns; files of 0.1.0 have False or True."""
    if not isinstance(value, int):
        raise TypeError("the number of shared columns in the notes is invalid")
    if not 0 <= value <= MOST_SHARED:
        raise ValueError("the number of shared columns in the notes is invalid")
    return int(value)


def units(value: Any) -> int:
    """The units of an embedding; 0: there is none."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError("the units of an embedding in the notes are invalid")
    if not 0 <= value <= _MOST_UNITS:
        raise ValueError("the units of an embedding in the notes are too many, or below 0")
    return value


def pairs(value: Any) -> dict[str, tuple[float, float]]:
    """A number and a scale by name."""
    if not isinstance(value, Mapping):
        raise TypeError("the scaling of the notes is invalid")
    return {text(name): (number(centre), scale(width)) for name, (centre, width) in value.items()}


def edge_lists(value: Any) -> dict[str, tuple[float, ...]]:
    """Edges by name."""
    if not isinstance(value, Mapping):
        raise TypeError("edges of the notes are invalid")
    return {text(name): edges(row) for name, row in value.items()}
