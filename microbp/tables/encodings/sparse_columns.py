"""Sparse rows as features: columns keep their numbers, and only columns of other sizes are divided."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...core.text import counted
from ...data.sparse import SparseRows
from ..readers.array_files import narrow
from ..readers.table import LARGEST, Table
from . import saved
from .tally import Tally

_MOST = 2**28  # columns: a layer of 16 units has 16 GiB of weights then, and Adam as much again twice
_LIMIT = 127  # of exponents: powers of two of float32
_FAR = 4  # a value above this is far outside the range of training: 4 times a number from 1/2 to 1, or more


@dataclass(frozen=True)
class SparseColumns:
    """The columns of sparse rows, of which column i is feature i. Nothing is subtracted: a value that is not stored stays 0.

    width: up to the last column of the training rows. stored: the mean number of values of a row. first: the first column, that of a
    matrix without numbers; 1 in files that count from 1, where the feature 0 is always 0. exponents: column i is divided by
    2**exponents[i], so that its largest absolute value in training is from 1/2 to 1; empty: nothing is divided, as it is 1 in all columns.
    """

    width: int
    stored: float
    first: int = 0
    exponents: tuple[int, ...] = ()

    @classmethod
    def of(cls, tables: Iterable[Table]) -> SparseColumns:
        """Decides it by the training rows."""
        highs, count, values, where = np.zeros(0, np.float32), 0, 0, ""
        for table in tables:
            rows = _sparse(table)
            if rows.shape[1] > _MOST:
                raise ValueError(_too_wide(table, rows))
            wider = np.zeros(max(rows.shape[1], len(highs)), np.float32)
            wider[: len(highs)] = highs
            np.maximum.at(wider, rows.indices, np.abs(_finite(table, rows).data))
            highs, count, values, where = wider, count + len(rows), values + len(rows.data), table.where
        if not highs.any():
            raise ValueError(f"{where}: the training rows have no values but 0, so there is nothing to predict from")
        first = int(highs[0] == 0)
        exponents = np.frexp(highs)[1]
        is_plain = bool(np.isin(highs, (0, 1)).all())
        return cls(len(highs), max(values / count, 1.0), first, () if is_plain else tuple(np.where(highs > 0, exponents, 0).tolist()))

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> SparseColumns:
        """Creates it from a saved row; KeyError, TypeError or ValueError if that is invalid."""
        found = cls(**saved.checked(row, _SAVED))
        if found.exponents and len(found.exponents) != found.width:
            raise ValueError("the exponents of the notes are not one for each column")
        return found

    @property
    def scaling(self) -> str:
        """What is done to the columns, as text."""
        return "divided by powers of two, so that the largest absolute value is from 1/2 to 1" if self.exponents else "as they are"

    def rows(self, table: Table, tally: Tally | None = None) -> SparseRows:
        """The rows as float32. Columns that training did not have are left out; a tally counts their values."""
        rows = _finite(table, _sparse(table))
        columns = rows.indices.astype(np.int64) + (self.first if table.is_positional else 0)
        known = (columns >= self.first) & (columns < self.width)
        if tally is not None and not known.all():
            tally.unseen["columns"] += int((~known).sum())
        row, columns, values = rows.row_of_each()[known], columns[known], rows.data[known].astype(np.float32)
        indptr = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=len(rows)))])
        if self.exponents:
            with np.errstate(over="ignore"):
                values = np.ldexp(values, -np.array(self.exponents, np.int32)[columns])
            if tally is not None:
                tally.far["columns"] += int((np.abs(values) > _FAR).sum())
            values = np.clip(values, -LARGEST, LARGEST)
        return narrow(values, columns, indptr, (len(rows), self.width))


def _sparse(table: Table) -> SparseRows:
    if table.sparse is None:
        what = f"{table.where}: has named columns, but the model was trained on sparse rows"
        raise ValueError(f"{what}; use libsvm text, or a sparse matrix that scipy.sparse.save_npz has written")
    return table.sparse


def _too_wide(table: Table, rows: SparseRows) -> str:
    if not len(rows.data):
        return f"{table.where}: it has {rows.shape[1]} columns, but may have at most {_MOST}"
    place = int(rows.indices.argmax())
    where = table.place(int(rows.row_of_each()[place]), str(rows.indices[place]))
    return f"{where}: the index must be below {_MOST}: count the columns without gaps, or hash them with bp.hash_features"


def _finite(table: Table, rows: SparseRows) -> SparseRows:
    wrong = ~np.isfinite(rows.data)
    if wrong.any():
        place = int(wrong.argmax())
        where = table.place(int(rows.row_of_each()[place]), str(rows.indices[place]))
        raise ValueError(f"{where}: the number is {rows.data[place]:g}; sparse rows must have finite float32 numbers")
    return rows


def _width(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= _MOST:
        raise ValueError("the number of columns in the notes is invalid")
    return value


def _first(value: Any) -> int:
    if isinstance(value, bool) or value not in (0, 1):
        raise ValueError("the first column in the notes is invalid")
    return int(value)


def _exponents(value: Any) -> tuple[int, ...]:
    if not isinstance(value, list | tuple) or not all(type(one) is int and abs(one) <= 2 * _LIMIT for one in value):
        raise ValueError("the exponents of the notes are invalid")
    return tuple(value)


_SAVED = {"width": _width, "stored": saved.scale, "first": _first, "exponents": _exponents}


def described(columns: SparseColumns) -> str:
    """The columns as text."""
    return f"{counted(columns.width - columns.first, 'sparse column')}, {columns.scaling}"
