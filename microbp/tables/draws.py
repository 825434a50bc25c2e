"""Which rows are for training, validation and test: functions of the rows' classes, groups or times, with the sizes of the parts.

Each function returns the part of each row: TRAIN, VALIDATION or TEST. Test and validation rows are chosen by the same code.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..data.arrays import Array

PARTS = ("train", "validation", "test")
TRAIN, VALIDATION, TEST = range(3)


class Sizes(NamedTuple):
    """The numbers of test and validation rows."""

    test: int
    validation: int


def stratified(order: Array, labels: Array, sizes: Sizes) -> Array:
    """Draws rows from each class, in proportion. order: a random permutation of the rows. labels: whole numbers; all 0: plain draws.

    A class with two rows or more keeps one for training. The rows that are left over after rounding down go first to the classes with three
    rows or more that would have no test row, then to those with the largest remainder.
    """
    labels = labels[order]
    first = np.full(labels.max(initial=0) + 1, len(order))  # the place in `order` of the first row of each class: random, breaks ties
    np.minimum.at(first, labels, np.arange(len(order)))
    left = np.bincount(labels, minlength=len(first))
    rank = _ranks(labels, left)
    part, start = np.full(len(order), TRAIN), np.zeros_like(left)
    for name, size, later in ((TEST, sizes.test, sizes.validation > 0), (VALIDATION, sizes.validation, 0)):
        most = int(np.maximum(left - 1, 0).sum()) - later  # each class keeps a row
        shares = _shares(left, min(size, max(most, 1)), first)
        part[(rank >= start[labels]) & (rank < (start + shares)[labels])] = name
        left, start = left - shares, start + shares
    return part[np.argsort(order)]


def _ranks(labels: Array, counts: Array) -> Array:
    """For each row, the number of rows of its class before it."""
    ranks = np.empty(len(labels), np.int64)
    ranks[np.argsort(labels, kind="stable")] = np.arange(len(labels)) - np.repeat(np.cumsum(counts) - counts, counts)
    return ranks


def _shares(counts: Array, size: int, ties: Array) -> Array:
    """How many of `size` rows come from each class (largest remainders)."""
    exact = size * counts / max(counts.sum(), 1)
    shares = np.minimum(exact.astype(np.int64), np.maximum(counts - 1, 0))
    while (more := size - shares.sum()) > 0:
        room = shares + 1 < counts
        rank = np.lexsort((ties, shares - exact, (shares > 0) | (counts < 3), ~room))
        shares[rank[: min(more, max(room.sum(), 1))]] += 1
    return np.asarray(shares)


def grouped(groups: Array, order: Array, sizes: Sizes) -> Array | None:
    """Puts all rows of a group into one part. groups: whole numbers from 0, of each row. order: a random permutation of the groups.

    Takes the groups in this order, each one that brings the part closer to its size; if there is none, the smallest group. None if there
    are too few groups.
    """
    counts = np.bincount(groups)
    part = np.full(len(counts), TRAIN)
    for name, size, reserved in ((TEST, sizes.test, 2), (VALIDATION, sizes.validation, 1)):
        free = [group for group in order.tolist() if part[group] == TRAIN]
        if size and len(free) <= reserved:
            return None
        missing, most = size, len(free) - reserved
        for group in free:
            if counts[group] < 2 * missing and most > 0:
                part[group], missing, most = name, missing - counts[group], most - 1
        if missing == size > 0:
            part[min(free, key=counts.__getitem__)] = name
    return part[groups]


def ordered(times: Array, sizes: Sizes) -> Array | None:
    """The latest rows are the test, the ones before them the validation. Rows with the same time are in one part: a part begins at the
    change of time that is nearest to its size. None if there are too few times.
    """
    _, place, counts = np.unique(times, return_inverse=True, return_counts=True)
    before = np.append(0, np.cumsum(counts))  # the rows before each time
    least = 3 if sizes.test else 2
    if len(counts) < least:
        return None
    test = _nearest(before, least - 1, len(counts), len(times) - sizes.test) if sizes.test else len(counts)
    validation = _nearest(before, 1, test, int(before[test]) - sizes.validation)
    return np.where(place < validation, TRAIN, np.where(place < test, VALIDATION, TEST))


def _nearest(before: Array, first: int, end: int, size: int) -> int:
    """The time from `first` to `end` - 1 with about `size` rows before it."""
    return first + int(np.abs(before[first:end] - size).argmin())
