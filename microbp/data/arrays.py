"""From anything that holds numbers to an ndarray that a backend reads. What a backend reads already is never copied."""

from __future__ import annotations

import numbers
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]


def as_array(value: Any, what: str) -> Array:
    """An ndarray of native bool, integers or floats up to 64 bits; TypeError or ValueError if `value` does not hold such numbers."""
    array = value if type(value) is np.ndarray else _convert(value, what)
    kind, size = array.dtype.kind, array.dtype.itemsize
    if kind in "biuf" and size <= 8:
        return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))
    if kind == "f":
        return array.astype(np.float64)
    if kind == "O":
        return _numbers(array, what)
    advice = "; separate the real and the imaginary part" if kind == "c" else ""
    raise TypeError(f"{what} holds {array.dtype} values, not real numbers{advice}")


def _convert(value: Any, what: str) -> Array:
    if isinstance(value, np.ma.MaskedArray) and np.ma.getmaskarray(value).any():
        raise ValueError(f"{what} has masked elements: fill them (value.filled(0)) or leave their rows out")
    try:
        if hasattr(value, "__dlpack__") and not hasattr(value, "__array__"):
            return np.from_dlpack(value)
        return np.asarray(value)
    except ValueError as error:
        raise ValueError(f"{what} cannot be read as an array: {error}") from error
    except (TypeError, RuntimeError, BufferError, AttributeError) as error:
        raise TypeError(f"{what} ({type(value).__name__}) cannot be read as an array: {error}") from error


def _numbers(array: Array, what: str) -> Array:
    """Objects that are real numbers, as float64. Text that looks like a number is refused: it is more often a mistake."""
    result = np.empty(array.shape)
    for place, element in np.ndenumerate(array):
        complex_number = isinstance(element, numbers.Complex) and not isinstance(element, numbers.Real)
        if complex_number or isinstance(element, str | bytes) or not hasattr(element, "__float__"):
            raise TypeError(f"{what} holds {type(element).__name__} objects, not numbers (first at {place})")
        try:
            result[place] = float(element)
        except (TypeError, ValueError) as error:
            raise TypeError(f"{what} holds an object that is not a number at {place}: {error}") from error
    return result


def as_list(value: Any, count: int, what: str, of: str) -> list[Array]:
    """One array for each of `count` inputs or outputs; only where there are several is a list read as several."""
    if count == 1:
        return [as_array(value, what)]
    if not isinstance(value, list | tuple):
        raise TypeError(f"{what} must be a list of {count} arrays, one per {of}, not {type(value).__name__}")
    if len(value) != count:
        raise ValueError(f"{what} has {len(value)} arrays; the network has {count} {of}s")
    return [as_array(element, f"{what}[{i}]") for i, element in enumerate(value)]
