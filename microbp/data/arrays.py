"""Converts anything that contains numbers to an ndarray that a backend reads. An array that a backend can read is never copied."""

from __future__ import annotations

import math
import numbers
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NoReturn

import numpy as np

from ..core.specs import unknown
from ..core.text import brief
from . import sparse

Array = np.ndarray[Any, np.dtype[Any]]
READABLE = frozenset(map(np.dtype, "?bBhHiIlLqQefd"))  # without conversion
_NEVER_MASKED = {list, float, int, np.ndarray}


def as_array(value: Any, what: str) -> Array:
    """An ndarray of native bools, integers or floats of at most 64 bits; TypeError or ValueError if `value` contains anything else."""
    array = value if type(value) is np.ndarray else _convert(value, what)
    if array.dtype in READABLE:
        return array
    kind, size = array.dtype.kind, array.dtype.itemsize
    if kind in "biuf" and size <= 8:
        return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))
    if kind == "f":
        with np.errstate(over="ignore"):
            return array.astype(np.float64)
    if kind == "O":
        return _numbers(array, what, getattr(value, "columns", ()))
    advice = "; pass the real and imaginary parts as separate columns" if kind == "c" else ""
    found = f"strings{_label_advice(what)}" if kind in "US" else f"{array.dtype} values"
    raise TypeError(f"{what} must contain real numbers, not {found}{advice}")


def as_rows(value: Any, what: str) -> Any:
    """The rows of an input: an ndarray as of `as_array`, or SparseRows."""
    return sparse.read(value, what, as_array) if type(value) is not np.ndarray and sparse.is_sparse(value) else as_array(value, what)


def _label_advice(what: str) -> str:
    return f"; for labels, use classes, {what} = np.unique({what}, return_inverse=True)" if re.match(r"y\b", what) else ""


def _typed(what: str) -> str:
    """The name of an argument as it is typed: of "quantize: X", X."""
    return what.rpartition(": ")[2]


def _convert(value: Any, what: str) -> Array:
    if value is None:
        raise TypeError(f"{what} is None; it must be an array of numbers")
    if hasattr(value, "toarray"):
        advice = f"pass {_typed(what)}.toarray(){_size(value)}"
        raise TypeError(f"{what} is a sparse matrix ({type(value).__name__}), which is not supported: {advice}")
    if _is_masked(value) or (isinstance(value, (list, tuple)) and _has_masked(value)):
        raise ValueError(
            f"{what} has masked elements: fill them, as in {_typed(what)}.filled(0), or remove their rows; a row of sample_weight 0 is "
            f"left out, whatever its values"
        )
    try:
        if hasattr(value, "__dlpack__") and not hasattr(value, "__array__"):
            return np.from_dlpack(value)
        return np.asarray(value)
    except ValueError as error:
        if "inhomogeneous" in str(error) and re.match(r"[Xy]\b", what):
            advice = "for sequences of different length, pass an array with room for the longest, and lengths="
            raise ValueError(f"{what} cannot be read as an array, because its parts differ in shape; {advice}") from error
        raise ValueError(f"{what} cannot be read as an array: {error}") from error
    except (TypeError, RuntimeError, BufferError, AttributeError) as error:
        if getattr(value, "requires_grad", False):
            raise TypeError(f"{what} is a tensor that requires grad: pass {what}.detach()") from error
        raise TypeError(f"{what} ({type(value).__name__}) cannot be read as an array: {error}") from error


def _is_masked(value: Any) -> bool:
    return isinstance(value, np.ma.MaskedArray) and bool(np.ma.getmaskarray(value).any())


def _has_masked(values: Sequence[Any]) -> bool:
    return not _NEVER_MASKED.issuperset(map(type, values)) and any(map(_is_masked, values))


def _size(matrix: Any) -> str:
    """What a sparse matrix takes as an array, as text."""
    try:
        size = math.prod(matrix.shape) * np.dtype(matrix.dtype).itemsize
    except (AttributeError, TypeError):
        return ""
    return f", an array of {max(size / 1e6, 0.1):,.1f} MB"


def _numbers(array: Array, what: str, columns: Iterable[Any]) -> Array:
    """Converts an array of objects that are real numbers to float64. Raises TypeError for numbers as text: they are usually a mistake.

    columns: the names of the columns of a data frame."""
    result = np.empty(array.shape)
    for place, element in np.ndenumerate(array):
        complex_number = isinstance(element, numbers.Complex) and not isinstance(element, numbers.Real)
        where = _where(place, list(columns))
        first = f" (first at {where})" if place else ""
        if element is None or type(element).__name__ == "NAType":
            raise TypeError(f"{what} has a missing value, {element}{first}: fill it, or remove its row or column")
        if complex_number or isinstance(element, str | bytes) or not hasattr(element, "__float__"):
            advice = _advice(what, where) if isinstance(element, str) else ""
            raise TypeError(f"{what} must contain real numbers, not {type(element).__name__}{first}{advice}")
        try:
            result[place] = float(element)
        except OverflowError:
            raise ValueError(f"{what} has a number that is too large for a float64, {brief(element)}{first}") from None
        except (TypeError, ValueError) as error:
            raise TypeError(f"{what} must contain real numbers; at {where}: {error}") from error
    return result


def _where(place: tuple[int, ...], columns: list[Any]) -> str:
    """A place as text: index 3, or index 3, 1; in a data frame row 3, column 'age'."""
    if len(place) == 2 and place[1] < len(columns):
        return f"row {place[0]}, column {columns[place[1]]!r}"
    return f"index {', '.join(map(str, place))}"


def _advice(what: str, where: str) -> str:
    if "column" in where:
        return "; make numbers of the column, for example one column per category with pandas.get_dummies"
    return _label_advice(what)


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

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy or a pickle is a dict of copies."""
        return dict, (dict(self),)

    __delitem__ = __ior__ = clear = pop = popitem = setdefault = update = _refuse


def assign(view: Array, values: Any, what: str) -> None:
    """Writes `values`, a number or an array of the same shape, to all elements of a view."""
    array = as_array(values, what)
    if array.shape not in ((), view.shape):
        raise ValueError(f"{what} has shape {view.shape}; it cannot be set to an array of shape {array.shape}")
    with np.errstate(over="ignore"):
        converted = array.astype(view.dtype)
    if (np.isinf(converted) & np.isfinite(array)).any():
        raise ValueError(f"{what} cannot be set to {np.abs(array).max():g}, which is too large for {view.dtype}")
    view[...] = converted


def as_list(value: Any, count: int, what: str, of: str) -> list[Array]:
    """One array for each of `count` inputs or outputs; of inputs, also SparseRows. If count is 1, a list is converted to one array."""
    read = as_rows if of == "input" else as_array
    if count == 1:
        return [read(value, what)]
    if not isinstance(value, list | tuple):
        raise TypeError(f"{what} must be a list of {count} arrays, one per {of}, not {type(value).__name__}")
    if len(value) != count:
        raise ValueError(f"{what} must be a list of {count} arrays, one per {of}, but its length is {len(value)}")
    return [read(element, f"{what}[{i}]") for i, element in enumerate(value)]


def unchecked(value: Any, count: int, what: str, of: str) -> Any:
    """The array, or the list of `count` arrays, that a backend takes for all inputs or outputs. It refuses ndarrays, and sparse inputs,
    that it cannot read."""
    if count == 1:
        as_it_is = type(value) is np.ndarray or (of == "input" and sparse.has_plain_parts(value))
        return value if as_it_is else as_list(value, 1, what, of)[0]
    if type(value) is list and len(value) == count:
        for one in value:
            if type(one) is not np.ndarray:
                break
        else:
            return value
    return as_list(value, count, what, of)


def columns_of(values: Any, width: int, what: str) -> Array:
    """A number for each of `width` columns, from these or from one number for all; TypeError or ValueError if they are none."""
    array = as_array(values, what)
    if array.shape not in ((), (width,)):
        raise ValueError(f"{what} has shape {array.shape}; it must be a number, or have shape ({width},)")
    return np.ascontiguousarray(np.broadcast_to(array, (width,)), np.float64)
