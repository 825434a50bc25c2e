"""Texts and ids as levels, by a hash: categories without a list of all of them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..core.backend import load
from ..core.checks import whole_number
from ..core.text import brief
from .arrays import Array

_AT_ONCE = 1 << 16  # values that are converted at a time, so that strings of NumPy take little memory as strings of Python
_CAN_HASH = "each must be a string, bytes or a whole number"


def hash_features(values: Any, levels: int, seed: int = 0) -> Array:
    """Levels of categories, such as words, cities or ids, by a hash: an int64 array with the shape of `values`, each from 0 to levels - 1.

    values: strings, bytes or whole numbers, of any shape: a list, a column or table of pandas, an array of NumPy with strings, objects or
    any integer dtype. Equal values get the same level in every call, on every machine, and in C. Different values may get the same level:
    n of them take about levels * (1 - exp(-n / levels)) different levels.

    levels: from 1 to 2**31 - 1, not necessarily a power of 2. seed: from 0 to 2**64 - 1; each seed gives other levels.

    The hash is XXH64 (Collet, xxHash fast digest algorithm, 2018), with the seed. It reads strings as UTF-8, and whole numbers, from -2**63
    to 2**64 - 1, as 8 bytes in two's complement, lowest first. So "abc" is as b"abc", -1 as 2**64 - 1, but 5 is not as "5". The level is
    hash * levels / 2**64, rounded down (Lemire, Fast random integer generation in an interval, 2019). In C:
    mbp_hash_level(mbp_hash(text, strlen(text), seed), levels).

    TypeError for any other value, such as None, NaN, a float or a bool; ValueError for a whole number that is too large.

    >>> bp.hash_features(["Rome", "Oslo", "Rome"], levels=1000)
    array([958, 835, 958])
    >>> bp.hash_features(np.array([[31, 7], [31, 8]]), levels=2**20, seed=1)
    array([[481161, 413614],
           [481161, 563709]])
    """
    levels, seed = whole_number(levels, "levels", bits=31), whole_number(seed, "seed", least=0, bits=64)
    array = _array(values)
    result = np.empty(array.shape, np.int64)
    given, written, hash_values = array.reshape(-1), result.reshape(-1), load().hash_values
    for first in range(0, array.size, _AT_ONCE):
        part = given[first : first + _AT_ONCE]
        # An unsigned number of 64 bits keeps its bits.
        found = np.ascontiguousarray(part, np.int64) if array.dtype.kind in "iu" else part.tolist()
        count = hash_values(found, levels, seed, written[first : first + _AT_ONCE])
        if count < len(part):
            raise _refused(found[count], first + count, array.shape)
    return result


def _array(values: Any) -> Array:
    """The values as an array of integers, strings, bytes or objects. Items of lists stay as they are: NumPy would make strings of numbers
    among strings, and cut zero characters at the end of strings."""
    if isinstance(values, np.ma.MaskedArray) and np.ma.getmaskarray(values).any():
        raise ValueError("values has masked elements: fill them, as in values.filled(0), or leave them out")
    try:
        array = np.array(values, dtype=object) if isinstance(values, list | tuple | str | bytes) else np.asarray(values)
    except ValueError as error:
        raise ValueError(f"values cannot be read as an array: {error}") from error
    if array.dtype.kind not in "iuUSTO":
        advice = "; for whole numbers, fill gaps and use values.astype(int)" if array.dtype.kind == "f" else ""
        raise TypeError(f"values has dtype {array.dtype}, but {_CAN_HASH}{advice}")
    return array


def _refused(value: Any, number: int, shape: tuple[int, ...]) -> Exception:
    """The error for a value that has no hash: the value, its place, and what is valid."""
    place = [int(i) for i in np.unravel_index(number, shape)]
    names = ["row", "column"] if len(place) <= 2 else [f"axis {axis}:" for axis in range(len(place))]
    at = f" at {', '.join(f'{name} {i}' for name, i in zip(names, place, strict=False))}" if place else ""
    if isinstance(value, str):
        return ValueError(f"values has {brief(value)}{at}, which cannot be written as UTF-8")
    if isinstance(value, int) and not isinstance(value, bool):
        return ValueError(f"values has {brief(value)}{at}, but whole numbers must be from -2**63 to 2**64 - 1")
    is_missing = value is None or type(value).__name__ in ("NAType", "NaTType") or (isinstance(value, float) and math.isnan(value))
    return TypeError(f"values has {brief(value)}{at}, but {_CAN_HASH}{'; fill missing values first' if is_missing else ''}")
