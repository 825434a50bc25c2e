"""Inputs of ids: whole numbers that name the rows of embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from .arrays import Array, as_list
from .sparse import SparseRows


class IdsForm(NamedTuple):
    """The form of an input of ids. A row has `columns` whole numbers, from 0 to levels - 1; hash=True: of any size."""

    columns: int
    levels: int
    hash: bool


Forms = Sequence[IdsForm | None]  # for each input; None: an input of numbers


def form_of(columns: int, levels: int | None, hash: bool | None) -> IdsForm | None:
    """The form of an input; None if it has no levels, because it has no ids."""
    return None if levels is None else IdsForm(columns, levels, bool(hash))


def as_inputs(value: Any, forms: Forms, what: str = "X") -> list[Array]:
    """One array for each input, as of `as_list`. Those of ids are checked, and a vector is one column of them."""
    count = len(forms)
    if count == 1:
        value = value if forms[0] is None else _whole(value)
    elif isinstance(value, list | tuple) and len(value) == count:
        value = [one if form is None else _whole(one) for one, form in zip(value, forms, strict=True)]
    arrays = as_list(value, count, what, "input")
    given = [value] if count == 1 else value
    names = [what] if count == 1 else [f"{what}[{i}]" for i in range(count)]
    each = zip(arrays, given, forms, names, strict=True)
    return [array if form is None else _read(array, getattr(one, "dtype", array.dtype), form, name) for array, one, form, name in each]


def must_be_read(value: Any) -> bool:
    """Whether a backend needs this input of ids from `as_inputs`: a vector, a list, a frame, or objects."""
    return getattr(value, "ndim", 1) == 1 or getattr(getattr(value, "dtype", None), "kind", "O") == "O"


def _whole(value: Any) -> Any:
    """An integer array of a list, a frame or an array of objects that are whole numbers; all else as it is."""
    is_list = isinstance(value, list | tuple)
    if not (is_list or hasattr(value, "to_numpy") or (type(value) is np.ndarray and value.dtype == object)):
        return value
    try:
        array = np.asarray(value)
        array = np.array(value, dtype=object) if is_list and array.dtype.kind == "f" else array  # of int64 and uint64
        if array.dtype == object and all(isinstance(one, int | np.integer) for one in array.flat):
            return array.astype(np.int64 if all(one < 2**63 for one in array.flat) else np.uint64)
    except (ValueError, TypeError, OverflowError):
        pass  # the error of `as_list` names the argument
    return value


def _read(array: Array | SparseRows, dtype: Any, form: IdsForm, what: str) -> Array:
    if isinstance(array, SparseRows):
        raise TypeError(f"{what} is sparse, but must have ids: pass an array of whole numbers, or use a bp.Input of {form.levels} columns")
    if array.size and array.dtype.kind not in "iub":
        raise TypeError(f"{what} has ids, which must be of an integer dtype, not {dtype}: fill NaN first, then use {what}.astype(int)")
    if array.ndim == 1 and form.columns == 1:
        array = array.reshape(-1, 1)
    if not form.hash and array.size and (array.min() < 0 or array.max() >= form.levels):
        place = tuple(map(int, np.argwhere((array < 0) | (array >= form.levels))[0]))
        at = f"row {place[0]}, column {place[1]}" if array.ndim == 2 else f"index {', '.join(map(str, place))}"
        advice = "use bp.Ids(..., hash=True) for any whole numbers"
        raise ValueError(f"{what}, {at}: the id is {array[place]}, but must be from 0 to {form.levels - 1}; {advice}")
    return array
