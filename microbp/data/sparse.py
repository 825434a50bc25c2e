"""Sparse rows: the four parts of CSR matrices, of SciPy or of any other library, in the form that a backend reads."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]


PARTS = ("data", "indices", "indptr")


def is_sparse(value: Any) -> bool:
    """Whether these are sparse rows: CSR, or a matrix that SciPy converts to CSR."""
    return all(hasattr(value, name) for name in (*PARTS, "shape")) or hasattr(value, "tocsr")


def has_plain_parts(value: Any) -> bool:
    """Whether the parts are ndarrays, in which nothing is masked."""
    try:
        return type(value.indptr) is np.ndarray and type(value.indices) is np.ndarray and type(value.data) is np.ndarray
    except AttributeError:
        return False


def memory_of(rows: Any) -> list[Array]:
    """The arrays that rows are read from: one, or the parts of sparse rows."""
    return [getattr(rows, name) for name in PARTS] if isinstance(rows, SparseRows) else [rows]


class SparseRows:
    """Rows in canonical CSR: row i has the values data[indptr[i]:indptr[i + 1]] in the columns indices[indptr[i]:indptr[i + 1]], which
    ascend without repeats. Its methods are those of ndarrays that rows of training data need. zero_based: whether index 0 of the file of
    text that they are read from is the first column; None: they are from elsewhere."""

    __slots__ = ("data", "indices", "indptr", "shape", "zero_based")
    ndim, format = 2, "csr"

    def __init__(self, data: Array, indices: Array, indptr: Array, shape: tuple[int, int], zero_based: bool | None = None) -> None:
        self.data, self.indices, self.indptr, self.shape, self.zero_based = data, indices, indptr, shape, zero_based

    @property
    def dtype(self) -> np.dtype[Any]:
        """That of the values."""
        return self.data.dtype

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Any) -> SparseRows:
        """The rows of a slice, of an index, or where a mask is true; of a number, one row."""
        chosen = np.atleast_1d(np.arange(len(self))[rows])
        starts, lengths = self.indptr[:-1][chosen], np.diff(self.indptr)[chosen]
        indptr = np.concatenate([[0], np.cumsum(lengths)]).astype(self.indptr.dtype)
        places = np.arange(indptr[-1]) + np.repeat(starts - indptr[:-1], lengths)
        return SparseRows(self.data[places], self.indices[places], indptr, (len(chosen), self.shape[1]), self.zero_based)

    def __repr__(self) -> str:
        return f"<SparseRows {self.shape[0]} x {self.shape[1]}, {len(self.data)} values>"

    def copy(self) -> SparseRows:
        """A copy of the values; their places, which no caller changes, are shared."""
        return SparseRows(self.data.copy(), self.indices, self.indptr, self.shape, self.zero_based)

    def row_of_each(self) -> Array:
        """The row of each value."""
        return np.repeat(np.arange(len(self)), np.diff(self.indptr))

    def toarray(self) -> Array:
        """The dense array."""
        dense = np.zeros(self.shape, self.dtype)
        dense[self.row_of_each(), self.indices] = self.data
        return dense


READ_AS_THEY_ARE = (np.ndarray, SparseRows)  # types of rows that a backend reads without help


def concatenate(parts: Sequence[Any]) -> Any:
    """The rows of all parts, one after the other: sparse ones if all are, else dense ones."""
    if not all(isinstance(part, SparseRows) for part in parts):
        return np.concatenate([part.toarray() if isinstance(part, SparseRows) else part for part in parts])
    counts = np.concatenate([np.diff(part.indptr) for part in parts])
    indptr = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    data, indices = (np.concatenate([getattr(part, name) for part in parts]) for name in ("data", "indices"))
    return SparseRows(data, indices.astype(np.int64), indptr, (len(counts), parts[0].shape[1]))


def read(value: Any, what: str, numbers: Any) -> SparseRows:
    """The rows of a matrix of SciPy in any format, or of an object with data, indices, indptr and shape, which are those of CSR. Values of
    the same place are added. numbers(value, what): reads an array of numbers."""
    if isinstance(value, SparseRows):
        return value
    if hasattr(value, "tocsr"):
        value = value.tocsr()
    elif getattr(value, "format", "csr") != "csr":
        raise TypeError(f"{what} is a sparse matrix in the format {value.format!r}, which has no method tocsr: pass CSR")
    shape = _shape(value.shape, what)
    data, indices, indptr = (_vector(value, name, what, numbers) for name in PARTS)
    is_whole = len(indptr) == shape[0] + 1 and indptr[0] >= 0 and indptr[-1] <= min(len(data), len(indices))
    if not is_whole or (indptr[1:] < indptr[:-1]).any():
        raise ValueError(
            f"{what}.indptr must have {shape[0] + 1} numbers that do not descend, from 0 to the number of values, not {_brief(indptr)}"
        )
    first, last = int(indptr[0]), int(indptr[-1])
    if first > 0 or last < min(len(data), len(indices)):
        data, indices, indptr = data[first:last], indices[first:last], indptr - indptr[0]
    _check_columns(indices, indptr, shape[1], what)
    narrow = indices.dtype == indptr.dtype == np.int32
    indices, indptr = (one if narrow else one.astype(np.int64, copy=False) for one in (indices, indptr))
    return _canonical(SparseRows(data, indices, indptr, shape))


def _shape(shape: Any, what: str) -> tuple[int, int]:
    try:
        lengths = tuple(map(operator.index, shape))
    except TypeError:
        raise TypeError(f"{what}.shape must be two whole numbers, of rows and features, not {shape!r}") from None
    if len(lengths) != 2:
        raise ValueError(f"{what} is a sparse array of shape {lengths}; it must have 2 axes, rows and features")
    if min(lengths) < 0:
        raise ValueError(f"{what}.shape is {lengths}, but no length may be negative")
    return lengths


def _brief(values: Array) -> str:
    return np.array2string(values, threshold=6, edgeitems=2)


def _vector(value: Any, name: str, what: str, numbers: Any) -> Array:
    found: Array = numbers(getattr(value, name), f"{what}.{name}")
    if name != "data" and found.shape == (0,):  # NumPy makes float64 of an empty list
        return np.zeros(0, np.int64)
    if found.ndim != 1 or (name != "data" and found.dtype.kind not in "iu"):
        kind = "numbers" if name == "data" else "integers"
        raise ValueError(f"{what}.{name} must be a vector of {kind}, not {found.dtype} of shape {found.shape}")
    return np.ascontiguousarray(found)


def _check_columns(columns: Array, indptr: Array, width: int, what: str) -> None:
    if len(columns) and (columns.min() < 0 or columns.max() >= width):
        at = int(((columns < 0) | (columns >= width)).argmax())
        row = np.searchsorted(indptr, at, side="right") - 1
        raise ValueError(f"{what}, row {row}: the column {columns[at]} is not in 0 to {width - 1}")


def _canonical(rows: SparseRows) -> SparseRows:
    """The same rows with ascending columns, each once."""
    columns, row = rows.indices, rows.row_of_each()
    if not ((columns[1:] <= columns[:-1]) & (row[1:] == row[:-1])).any():
        return rows
    order = np.lexsort((columns, row))
    columns, row, data = columns[order], row[order], rows.data[order]
    starts = np.flatnonzero(np.concatenate([[True], (columns[1:] != columns[:-1]) | (row[1:] != row[:-1])]))
    indptr = np.searchsorted(row[starts], np.arange(len(rows) + 1)).astype(rows.indptr.dtype)
    return SparseRows(np.add.reduceat(data, starts), columns[starts], indptr, rows.shape)
