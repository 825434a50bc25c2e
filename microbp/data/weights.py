"""Weights of rows, or of the elements of outputs: read, checked, and combined with targets that are missing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

import numpy as np

from .arrays import Array, as_array

# Of the rows, (rows,); or a list with one for each output, (rows,) or (rows, columns), where None is all 1; or None: all 1.
Weights = Array | list[Array | None] | None


def read_weight(sample_weight: Any, count: int, of: str, may_be_0: bool = False) -> Array:
    """One weight for each of `count` rows; TypeError or ValueError if they are none. of: the rows' name. may_be_0: whether all may be 0."""
    weight = as_array(sample_weight, "sample_weight")
    if weight.shape != (count,):
        needs = f"it must be ({count},), one weight per row of {of}{_ravel(weight, count, 'sample_weight')}"
        raise ValueError(f"sample_weight has shape {weight.shape}; {needs}")
    _check(weight, "sample_weight")
    if not may_be_0 and count and not weight.any():
        refuse_none()
    return weight


def read_elements(sample_weight: Any, shape: tuple[int, ...], of: str) -> Array:
    """One weight for each element of an array `of` this shape, not all 0; TypeError or ValueError if they are none."""
    weight = as_array(sample_weight, "sample_weight")
    if weight.shape != shape:
        raise ValueError(f"sample_weight has shape {weight.shape}; it must be ({shape[0]},) or {shape}, as {of}")
    _check(weight, "sample_weight")
    if not weight.any():
        refuse_none()
    return weight


def refuse_none() -> NoReturn:
    """For rows of which none is there."""
    raise ValueError("sample_weight is 0 for every row, so no row is there; give at least one row a weight above 0")


def read_weights(sample_weight: Any, count: int, columns: Sequence[int], rows_only: Sequence[bool]) -> Weights:
    """The argument sample_weight of `count` rows; TypeError or ValueError if it is none.

    columns: how many targets a row of each output has. rows_only: for each output, whether it takes weights of rows only.
    """
    several = len(columns) > 1
    if several and isinstance(sample_weight, list | tuple) and any(one is None or np.ndim(one) for one in sample_weight):
        if len(sample_weight) != len(columns):
            given = f"but its length is {len(sample_weight)}"
            raise ValueError(f"sample_weight must be an array of shape ({count},), or a list of {len(columns)}, one per output, {given}")
        pairs = enumerate(zip(sample_weight, columns, rows_only, strict=True))
        found = [_of_output(one, count, width, alone, f"sample_weight[{i}]") for i, (one, width, alone) in pairs]
        return None if all(one is None for one in found) else found
    weight = as_array(sample_weight, "sample_weight")
    if several or weight.ndim < 2 or rows_only[0]:
        return read_weight(weight, count, "X", may_be_0=True)
    found = [_of_output(weight, count, columns[0], False, "sample_weight")]
    return found if found[0] is not None and found[0].ndim == 2 else found[0]


def _of_output(given: Any, count: int, width: int, rows_only: bool, what: str) -> Array | None:
    if given is None:
        return None
    weight = as_array(given, what)
    if weight.shape not in ([(count,)] if rows_only else [(count,), (count, width)]):
        each = "" if rows_only else f", or ({count}, {width}), one per target"
        needs = f"it must be ({count},), one weight per row of X{each}{_ravel(weight, count, what)}"
        raise ValueError(f"{what} has shape {weight.shape}; {needs}")
    _check(weight, what)
    return weight.reshape(-1) if weight.shape == (count, 1) else weight


def _ravel(weight: Array, count: int, what: str) -> str:
    return f"; use {what}.ravel()" if weight.size == count else ""


def _check(weight: Array, what: str) -> None:
    least, most = (weight.min(), weight.max()) if weight.size else (0, 0)
    if not (least >= 0 and most < np.inf):  # NaN is neither
        place = tuple(int(i) for i in np.argwhere(~(np.isfinite(weight) & (weight >= 0)))[0])
        raise ValueError(f"{what}[{', '.join(map(str, place))}] is {weight[place]}, but a weight must be finite and at least 0")


# ---- missing targets ----


def missing_of(y: Array, labels: bool, whole: bool) -> Array | None:
    """Which targets are not there: NaN, or the label -1; (rows,) if the loss needs whole rows. None: all are there. labels: whether
    integers are labels."""
    if y.dtype.kind == "f":
        gaps = np.asarray(np.isnan(y))
        gaps = np.asarray(gaps.any(axis=1)) if whole and y.ndim == 2 else gaps
    elif labels and y.size == len(y):
        gaps = y.reshape(-1) == -1
    else:
        return None
    return gaps if gaps.any() else None


def without(weight: Weights, gaps: Sequence[Array | None], count: int) -> Weights:
    """The weights, with 0 for the targets in `gaps`, one array or None for each output."""
    if all(gap is None for gap in gaps):
        return weight
    found = [_dropped(of_output(weight, i), gap, count) for i, gap in enumerate(gaps)]
    return found[0] if len(found) == 1 and found[0] is not None and found[0].ndim == 1 else found


def _dropped(weight: Array | None, gap: Array | None, count: int) -> Array | None:
    if gap is None:
        return weight
    gap = gap.reshape(-1) if gap.shape == (count, 1) else gap
    if weight is None:
        return np.where(gap, 0.0, 1.0)
    return np.where(gap, 0.0, weight[:, None] if weight.ndim < gap.ndim else weight)


# ---- using them ----


def of_output(weight: Weights, i: int) -> Array | None:
    """The weights of output i, (rows,) or (rows, columns); None: all 1."""
    return weight[i] if isinstance(weight, list) else weight


def take(weight: Weights, index: Array) -> Weights:
    """The weights of the rows at `index`."""
    if isinstance(weight, list):
        return [None if one is None else one[index] for one in weight]
    return None if weight is None else weight[index]


def join(a: Weights, b: Weights, counts: tuple[int, int], outputs: int) -> Weights:
    """The weights of rows after other rows. counts: how many rows these are."""
    if a is None and b is None:
        return None
    if not isinstance(a, list) and not isinstance(b, list):
        return np.concatenate([_filled(one, count, 1) for one, count in zip((a, b), counts, strict=True)])
    found: list[Array | None] = []
    for i in range(outputs):
        pair = [of_output(weight, i) for weight in (a, b)]
        width = max((one.shape[1] for one in pair if one is not None and one.ndim == 2), default=1)
        both = [_filled(one, count, width) for one, count in zip(pair, counts, strict=True)]
        found.append(None if all(one is None for one in pair) else np.concatenate(both))
    return found


def _filled(weight: Array | None, count: int, width: int) -> Array:
    weight = np.ones(count) if weight is None else weight
    return weight if width == 1 or weight.ndim == 2 else np.repeat(weight[:, None], width, axis=1)


def is_there(weight: Weights, count: int, counts: Sequence[bool]) -> Array:
    """Which rows are there: those with a weight above 0 in an output. counts: which outputs count, those whose loss weight is not 0."""
    there = np.zeros(count, dtype=bool)
    for i, does in enumerate(counts if any(counts) else [True] * len(counts)):
        one = of_output(weight, i)
        if does and one is None:
            return np.ones(count, dtype=bool)
        if does and one is not None:
            there |= one.any(axis=1) if one.ndim == 2 else one != 0
    return there


def total_of(weight: Array | None, chosen: Array) -> float:
    """The divisor of an output: the sum over the chosen rows of the mean of their weights."""
    if weight is None:
        return float(len(chosen))
    of_rows = weight[chosen]
    if of_rows.ndim == 2:
        of_rows = of_rows.mean(axis=1, dtype=np.float64)
    return float(np.cumsum(of_rows, dtype=np.float64)[-1]) if len(chosen) else 0.0  # a cumulative sum adds in row order, as the backends
