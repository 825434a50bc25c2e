"""Columns that say something about rows and are not features: weights, times and groups."""

from __future__ import annotations

import numpy as np

from ..data.arrays import Array
from .readers.table import Table


def weights(table: Table, name: str) -> Array:
    """The weights of the rows; an error names the first one that is missing or negative."""
    table.require(name, "weight")
    values = table.numbers(name)
    wrong = ~(values >= 0)
    if wrong.any():
        row = int(wrong.argmax())
        what = (
            "is missing; fill it in, or use 0 to leave the row out"
            if np.isnan(values[row])
            else f"is {values[row]:g}, but must be at least 0"
        )
        raise ValueError(f"{table.place(row, name)}: the weight {what}")
    return values


def groups(table: Table, name: str, rows: Array) -> Array:
    """The group of each of the rows, as whole numbers from 0; missing values are one group."""
    table.require(name, "split")
    return np.unique([text or "" for text in table.texts(name)[rows].tolist()], return_inverse=True)[1]


def times(table: Table, name: str) -> Array:
    """A column of numbers or ISO dates, as numbers that rise with the time; an error names the first missing or invalid one."""
    table.require(name, "split")
    column = table.column(name)
    texts = column.tolist() if column.dtype == object else []
    missing = np.array([text is None for text in texts]) if texts else np.isnan(column)
    if missing.any():
        raise ValueError(f"{table.place(int(missing.argmax()), name)}: the time is missing; fill it in or delete the row")
    try:
        return table.numbers(name)
    except ValueError:
        return np.array([_date(table, row, name, text) for row, text in enumerate(texts)])


def _date(table: Table, row: int, name: str, text: str) -> int:
    """Microseconds since 1970."""
    try:
        return int(np.datetime64(text, "us").astype(np.int64))
    except ValueError:
        raise ValueError(f"{table.place(row, name)}: {text!r} is not a number or an ISO date such as 2024-03-31") from None
