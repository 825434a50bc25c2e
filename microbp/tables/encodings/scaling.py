"""Numbers as features: centre and scale, smooth clipping, and the piecewise-linear encoding; all determined by the training rows.

Sources: robust scale and smooth clipping: Holzmueller, Grinsztajn & Steinwart 2024 (arXiv 2407.04491); piecewise-linear encoding:
Gorishniy, Rubachev & Babenko 2022 (arXiv 2203.05556), equation 1.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import numpy as np

from ...data.arrays import Array
from ..readers.table import LARGEST, Table
from .summary import Summary

CLIP = 3.0  # the limit of clipped numbers
_ROWS = 4096  # rows at a time, which fit into the cache
KNOWN = 100.0  # clipped numbers as far from 0 as this are told apart; float32 has too few digits for those beyond


def usual(known: Summary) -> tuple[float, float]:
    """Centre and scale of numbers: mean and standard deviation. Of a constant: the constant, and its magnitude, so that another value later
    is about as far away as it looks."""
    return (known.mean, known.std) if known.varies else (known.low, abs(known.low) or 1.0)


def robust(known: Summary, values: Array) -> tuple[float, float]:
    """Centre and scale of numbers that will be clipped: median and interquartile range, or half the range if that is 0. Two values become
    -1 and 1 before they are clipped. values: a sample of them.
    """
    if not known.varies:
        return usual(known)
    half = (known.high - known.low) / 2
    if has_two_values(known, values):
        return known.low + half, half
    low, median, high = np.quantile(values, (0.25, 0.5, 0.75)).tolist()
    return median, high - low or half


def has_two_values(known: Summary, values: Array) -> bool:
    """Whether all values of the sample are the lowest or the highest one."""
    return bool(((values == known.low) | (values == known.high)).all())


def bin_edges(known: Summary, values: Array, bins: int) -> tuple[float, ...]:
    """The edges of bins: the lowest and the highest value, and quantiles of a sample of the values between them. Equal edges count once;
    () if fewer than two bins are left.
    """
    if bins == 0 or not known.varies or has_two_values(known, values):
        return ()
    inner = np.quantile(values, np.arange(1, bins) / bins, method="lower")
    edges = np.unique([known.low, *inner, known.high]).tolist()
    return tuple(edges) if len(edges) > 2 else ()


def clipped(values: Array, centre: float, scale: float) -> Array:
    """x / sqrt(1 + (x / 3)^2) with x = (value - centre) / scale: nearly x around the centre, and always between -3 and 3."""
    with np.errstate(over="ignore"):
        x = np.clip((values - centre) / (CLIP * scale), -1e150, 1e150)
    return np.asarray(CLIP * x / np.sqrt(1 + x * x))


def unclipped(values: Array) -> Array:
    """Undoes x / sqrt(1 + (x / 3)^2) for x from -KNOWN to KNOWN; x further away becomes the nearer of these."""
    with np.errstate(divide="ignore"):
        t = np.clip(values / CLIP, -1, 1)
        return np.asarray(np.clip(CLIP * t / np.sqrt(1 - t * t), -KNOWN, KNOWN))


def unbinned(edges: tuple[float, ...], scale: float) -> Array:
    """Factors (features, 1) of a number and its bins: features times them are value / scale, up to a constant, and cut to the range of the
    bins; without bins, the clipped number.
    """
    return np.array([0.0, *np.diff(edges) / scale] if edges else [1.0])[:, None]


def block_diagonal(blocks: Iterable[Array]) -> Array:
    """A matrix with these on its diagonal, and 0 elsewhere."""
    known = list(blocks)
    out, row, column = np.zeros((sum(len(block) for block in known), sum(block.shape[1] for block in known))), 0, 0
    for block in known:
        out[row : row + len(block), column : column + block.shape[1]] = block
        row, column = row + len(block), column + block.shape[1]
    return out


def fill_bins(values: Array, edges: tuple[float, ...], out: Array) -> None:
    """Writes the piecewise-linear encoding: column t is 0 below bin t, 1 above it, and rises from 0 to 1 inside; NaN gives NaN."""
    left, width = np.array(edges[:-1]), np.diff(edges)
    with np.errstate(over="ignore"):
        for start in range(0, len(values) if edges else 0, _ROWS):
            rows = slice(start, start + _ROWS)
            share = values[rows, None] - left
            share /= width
            out[rows] = np.clip(share, 0, 1, out=share)


def fill_gaps(gaps: Array, edges: tuple[float, ...], centre: float, out: Array) -> None:
    """Writes the encoding of the centre into the rows that are gaps."""
    of_centre = np.empty((1, out.shape[1]))
    fill_bins(np.array([centre]), edges, of_centre)
    out[gaps] = of_centre


def scaled(table: Table, name: str, values: Array, centre: float, scale: float, bad: Counter[str] | None = None) -> Array:
    """(value - centre) / scale for the numbers of a column; ValueError if it overflows float32. bad: as in `Table.numbers`."""
    with np.errstate(over="ignore"):
        moved = (values - centre) / scale
    beyond = np.abs(moved) > LARGEST
    if beyond.any() and bad is not None:
        bad[name] += int(beyond.sum())
        return np.where(beyond, np.nan, moved)
    if beyond.any():
        place = table.place(int(beyond.argmax()), name)
        raise ValueError(f"{place}: the number is so far from the training data that it overflows float32 after scaling; correct it")
    return np.asarray(moved)
