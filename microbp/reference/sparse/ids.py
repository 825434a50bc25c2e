"""Reads ids: whole numbers that name the rows of embeddings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from numbers import Integral
from typing import Any


def read_ids(
    rows: Sequence[Sequence[Any]], levels: int, level_of: Callable[[int], int] | None, i: int, columns: int, count: int | None
) -> list[list[int]]:
    """The ids of each row of input i. level_of: the hash that makes a level of each number; None: they must be from 0 to levels - 1.
    count: the number of rows of the other inputs; None: any."""
    for row in rows:
        if len(row) != columns or count not in (None, len(rows)):
            expected = f"({'n' if count is None else count}, {columns})"
            raise ValueError(f"input {i} has shape ({len(rows)}, {len(row)}), but {expected} is expected")
        if not all(isinstance(number, Integral) for number in row):
            raise ValueError(f"input {i} has ids, which must be of an integer dtype: convert them")
    if level_of is not None:
        return [[level_of(int(number)) for number in row] for row in rows]
    for r, row in enumerate(rows):
        for j, number in enumerate(row):
            if not 0 <= number < levels:
                found = f"the id is {number}, but must be from 0 to {levels - 1}; or set hash=1"
                raise ValueError(f"input {i}, row {r}, column {j}: {found}")
    return [[int(number) for number in row] for row in rows]
