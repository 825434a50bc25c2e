"""The features of a row, by name: columns of their hashes, and values, of which numbers are standardised by those so far."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

import numpy as np

from ..core.backend import load
from ..core.checks import floating
from ..core.text import brief
from ..data.arrays import Array
from ..data.sparse import SparseRows
from .moments import NONE, Moments, included, is_valid, refused

_PLAIN = frozenset((str, bool, float, int))


class Features:
    """Makes rows of `levels` columns. moments: of the numbers so far, by name."""

    __slots__ = ("_hash", "levels", "moments")

    def __init__(self, levels: int, backend: str | None, moments: Mapping[str, Moments]) -> None:
        self.levels, self._hash = levels, load(backend).hash_values
        self.moments = dict(moments)

    def row(self, x: Any) -> tuple[SparseRows, dict[str, Moments]]:
        """The features as a row, and the new moments of its numbers, which the row is standardised by. Changes nothing."""
        keys, values, moments = [], [], {}
        before = self.moments
        for name, value in _items(x):
            if type(name) is not str:
                raise TypeError(f"x has the name {brief(name)}, but names must be strings")
            if type(value) not in _PLAIN:
                value = _plain(name, value)
            if type(value) is str or type(value) is bool:
                keys.append(f"{name}={value}")
                values.append(1.0)
            elif is_valid(value):
                moments[name], standard = included(before.get(name, NONE), value)
                keys.append(name)
                values.append(standard)
            elif value == value:  # NaN is missing
                raise refused(f"x[{name!r}]", value)
        return self._row(keys, values), moments

    def _row(self, keys: list[str], values: list[float]) -> SparseRows:
        count = len(keys)
        columns, numbers = np.empty(count, np.int64), np.array(values)
        written = self._hash(keys, self.levels, 0, columns)
        if written < count:
            raise ValueError(f"x has {brief(keys[written])}, which cannot be written as UTF-8")
        if len(set(columns.tolist())) == count:
            order = columns.argsort()
            columns, numbers = columns[order], numbers[order]
        else:
            columns, place = np.unique(columns, return_inverse=True)
            numbers = np.bincount(place, numbers)
        return SparseRows(numbers, columns, _ends(len(columns)), (1, self.levels))


@cache
def _ends(count: int) -> Array:
    """The indptr of one row with this many values."""
    return np.array([0, count])


def _items(x: Any) -> Iterable[tuple[Any, Any]]:
    try:
        found: Iterable[tuple[Any, Any]] = x.items()
    except AttributeError:
        raise TypeError(f"x must be a dict of features by name, not {brief(x)}") from None
    return found


def _plain(name: str, value: Any) -> str | float:
    """A value of another type as a string, a float, or NaN if it is missing."""
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return np.nan
    if isinstance(value, str | np.bool_):
        return str(value)
    try:
        return floating(f"x[{name!r}]", value)
    except TypeError:
        what = "must be a number, a string, True, False or None"
        raise TypeError(f"x[{name!r}] {what}, not {brief(value)}") from None
