"""Converts anything that contains numbers to an ndarray that a backend reads. An array that a backend can read is never copied."""

from __future__ import annotations

import numbers
import re
from collections.abc import Mapping
from typing import Any, NoReturn

import numpy as np

from ..core.specs import unknown

Array = np.ndarray[Any, np.dtype[Any]]


def as_array(value: Any, what: str) -> Array:
    """An ndarray of native bools, integers or floats of at most 64 bits; TypeError or ValueError if `value` contains anything else."""
    array = value if type(value) is np.ndarray else _convert(value, what)
    kind, size = array.dtype.kind, array.dtype.itemsize
    if kind in "biuf" and size <= 8:
        return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))
    if kind == "f":
        return array.astype(np.float64)
    if kind == "O":
        return _numbers(array, what)
    advice = "; pass the real and imaginary parts as separate columns" if kind == "c" else ""
    found = f"strings{_label_advice(what)}" if kind in "US" else f"{array.dtype} values"
    raise TypeError(f"{what} must contain real numbers, not {found}{advice}")


def _label_advice(what: str) -> str:
    return f"; for labels, use classes, {what} = np.unique({what}, return_inverse=True)" if re.match(r"y\b", what) else ""


def _convert(value: Any, what: str) -> Array:
    if value is None:
        raise TypeError(f"{what} is None; it must be an array of numbers")
    if hasattr(value, "toarray"):
        raise TypeError(f"{what} is a sparse matrix ({type(value).__name__}); convert it with {what}.toarray()")
    if isinstance(value, np.ma.MaskedArray) and np.ma.getmaskarray(value).any():
        raise ValueError(f"{what} has masked elements: fill them, as in {what}.filled(0), or remove their rows")
    try:
        if hasattr(value, "__dlpack__") and not hasattr(value, "__array__"):
            return np.from_dlpack(value)
        return np.asarray(value)
    except ValueError as error:
        raise ValueError(f"{what} cannot be read as an array: {error}") from error
    except (TypeError, RuntimeError, BufferError, AttributeError) as error:
        raise TypeError(f"{what} ({type(value).__name__}) cannot be read as an array: {error}") from error


def _numbers(array: Array, what: str) -> Array:
    """Converts an array of objects that are real numbers to float64. Raises TypeError for numbers as text: they are usually a mistake."""
    result = np.empty(array.shape)
    for place, element in np.ndenumerate(array):
        complex_number = isinstance(element, numbers.Complex) and not isinstance(element, numbers.Real)
        if complex_number or isinstance(element, str | bytes) or not hasattr(element, "__float__"):
            advice = _label_advice(what) if isinstance(element, str) else ""
            raise TypeError(f"{what} must contain real numbers, not {type(element).__name__} (first at index {_index(place)}){advice}")
        try:
            result[place] = float(element)
        except (TypeError, ValueError) as error:
            raise TypeError(f"{what} must contain real numbers; at index {_index(place)}: {error}") from error
    return result


def _index(place: tuple[int, ...]) -> str:
    """The index as text: "3" or "3, 1"."""
    return ", ".join(map(str, place))


class Views(dict[str, Array]):
    """Writable views of a vector by name. A view can be written to, but not replaced: the vector would not change."""

    def __init__(self, views: Mapping[str, Array], what: str) -> None:
        super().__init__(views)
        self._what = what

    def __missing__(self, name: object) -> NoReturn:
        raise KeyError(str(unknown(f"name in {self._what}:", name, self)))

    def __setitem__(self, name: str, value: Any) -> NoReturn:
        raise TypeError(f"{self._what} is read-only; to change values: {self._what}[{name!r}][...] = values")

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        raise TypeError(f"{self._what} is read-only; its arrays can be written to: {self._what}[name][...] = values")

    __delitem__ = __ior__ = clear = pop = popitem = setdefault = update = _refuse


def assign(view: Array, values: Any, what: str) -> None:
    """Writes `values`, a number or an array of the same shape, to all elements of a view."""
    array = as_array(values, what)
    if array.shape not in ((), view.shape):
        raise ValueError(f"{what} has shape {view.shape}; it cannot be set to an array of shape {array.shape}")
    view[...] = array


def as_list(value: Any, count: int, what: str, of: str) -> list[Array]:
    """One array for each of `count` inputs or outputs. If count is 1, a list is converted to one array."""
    if count == 1:
        return [as_array(value, what)]
    if not isinstance(value, list | tuple):
        raise TypeError(f"{what} must be a list of {count} arrays, one per {of}, not {type(value).__name__}")
    if len(value) != count:
        raise ValueError(f"{what} must be a list of {count} arrays, one per {of}, but its length is {len(value)}")
    return [as_array(element, f"{what}[{i}]") for i, element in enumerate(value)]
