"""Targets, weights and predictions of outputs with several positions, as matrices that backends read, or as one row for each position."""

from __future__ import annotations

import math
from typing import Any, NoReturn

import numpy as np

from .arrays import Array
from .sparse import SparseRows

Grid = tuple[int, ...]  # the positions of a row: () for one, (length,), (height, width)


def flat(rows: Any, shape: tuple[int, ...]) -> Any:
    """Rows of this shape as rows of numbers; other arrays are not changed."""
    if len(shape) == 1 or isinstance(rows, SparseRows) or not fits(rows.shape[1:], shape):
        return rows
    return rows.reshape(len(rows), math.prod(shape))


def fits(given: tuple[int, ...], shape: tuple[int, ...]) -> bool:
    """Whether the shape of a row is the expected one, up to axes of one position."""
    return given == shape or (given[-1:] == shape[-1:] and [n for n in given[:-1] if n != 1] == [n for n in shape[:-1] if n != 1])


def flat_target(y: Array, grid: Grid, width: int, labels: bool, what: str) -> Array:
    """Targets as (rows, positions) labels, or (rows, positions x width) values. ValueError: they are neither."""
    positions = math.prod(grid)
    if labels and y.dtype.kind in "biu" and math.prod(y.shape[1:]) == positions:
        return y.reshape(len(y), positions)
    if y.shape[1:] == (positions * width,) or fits(y.shape[1:], (*grid, width)) or (width == 1 and fits((*y.shape[1:], 1), (*grid, 1))):
        return y.reshape(len(y), positions * width)
    _refuse(y, grid, width, labels, what)


def flat_weight(weight: Any, grid: Grid) -> Any:
    """Weights of positions as (rows, positions); others are not changed."""
    if grid and isinstance(weight, np.ndarray) and weight.shape[1:] == grid:
        return weight.reshape(len(weight), math.prod(grid))
    return weight


def missing_of(y: Array, positions: int, labels: bool) -> Array | None:
    """Which positions have no target: one that is NaN, or the label -1; (rows, positions). None: all have one."""
    if y.dtype.kind == "f":
        gaps = np.asarray(np.isnan(y).reshape(len(y), positions, -1).any(axis=2))
    elif labels and y.shape[1:] == (positions,):
        gaps = np.asarray(y == -1)
    else:
        return None
    return gaps if gaps.any() else None


def one_by_one(array: Array, positions: int) -> Array:
    """A row for each position: of predictions, targets, or weights, which may be of rows."""
    if positions == 1:
        return array
    if array.ndim == 1:
        return np.repeat(array, positions)
    columns = array.size // (len(array) * positions) if len(array) else 1
    return array.reshape(-1, columns) if columns > 1 else array.reshape(-1)


def _refuse(y: Array, grid: Grid, width: int, labels: bool, what: str) -> NoReturn:
    shape = f"({', '.join(map(str, (len(y), *grid, width)))})"
    names = f", or integer labels of shape ({', '.join(map(str, (len(y), *grid)))})" if labels else ""
    raise ValueError(f"{what} has shape {y.shape} and dtype {y.dtype}; with these positions it must have shape {shape}{names}")
