"""Warnings about the columns of a table: signs that the result of the test is too good, or does not hold for new rows.

They look at the prepared rows: of a stream, only at the first piece of the training rows.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np

from ..data.arrays import Array
from .encodings.date import Date
from .encodings.number import Number
from .parts import Data, Part
from .readers.errors import Argument, TableError

_ROWS = 10_000  # rules are sought in at most this many rows
_LEAST = 20  # and in no fewer
_LEVELS = 200  # features with at most this many different values are also treated as categories
_SHARE, _R2 = 0.995, 0.999  # a column that predicts this share of the rows, or of the variance, gives the target away
_GAIN = 0.95  # and it is right in this share of the rows that the majority class gets wrong
_TIME = re.compile(r"(.*[\W_])?(date|time|datetime|timestamp|year|yyyy|.*_at)([\W_].*)?|.*[a-z](Date|Time|Year)", re.IGNORECASE)


def cautions(data: Data) -> list[TableError]:
    """The warnings, one line each; `text` of each spells the options."""
    train = next(iter(data.parts["train"]()))
    used = {data.preparation.target.name, *(feature.name for feature in data.preparation.features)}
    odd = (caution for name, caution in data.cautions if name in used)
    return [*odd, *_leaks(data, train), *_times(data), *([] if data.is_stream else _far(data, train))]


# ---- columns that give the target away ----


def _leaks(data: Data, train: Part) -> Iterator[TableError]:
    step = -(-len(train.x) // _ROWS)
    x, y = train.x[::step], train.y[::step]
    if len(x) < _LEAST or len(data.preparation.features) < 2:
        return
    target = data.preparation.target
    for feature, (name, columns) in zip(data.preparation.features, data.preparation.blocks):
        block = x[:, columns]
        if isinstance(feature, Number):
            block = np.delete(block, slice(1, 1 + feature.bins), axis=1)  # the bins tell no more than the number
        score = _by_classes(block, y if y.ndim == 1 else y.argmax(axis=1)) if target.classes else _by_numbers(block, y)
        if score > (_SHARE if target.classes else _R2):
            what = f"{100 * score:.2f} % of the training rows" if target.classes else f"r2 {score:.4f} on the training rows"
            text = f"column {name!r} alone predicts {target.name!r} ({what}): if it is not known before the target, use "
            yield TableError(text, Argument("drop", name))


def _by_classes(block: Array, labels: Array) -> float:
    """The best share of rows that a rule of one column gets right; 0 if the majority class does nearly as well."""
    best = max(_intervals_right(column, labels) for column in block.T)
    levels = _levels(block)
    if levels is not None and levels.max() < len(labels) / 3:
        table = np.zeros((int(levels.max()) + 1, int(labels.max()) + 1), np.int64)
        np.add.at(table, (levels, labels), 1)
        best = max(best, int(table.max(axis=1).sum()))
    majority = int(np.bincount(labels).max())
    return best / len(labels) if best - majority > _GAIN * (len(labels) - majority) else 0.0


def _intervals_right(values: Array, labels: Array) -> int:
    """The most rows that thresholds get right, with an interval for each class, in the order of the classes' medians.

    Exact, by dynamic programming over the sorted rows: most(k, i) = right(k, i) + max over j <= i of most(k - 1, j) - right(k, j), where
    most(k, i) is for the first i rows and k classes, and right(k, i) the number of rows of class k among them.
    """
    order = np.argsort(values, kind="stable")
    values, labels = values[order], labels[order]
    ends = np.append(np.flatnonzero(np.diff(values)) + 1, len(values))  # thresholds are between different values
    most = np.zeros(len(ends) + 1, np.int64)
    for label in sorted(np.unique(labels), key=lambda label: np.median(values[labels == label])):
        right = np.append(0, np.cumsum(labels == label)[ends - 1])
        most = right + np.maximum.accumulate(most - right)
    return int(most[-1])


def _by_numbers(block: Array, y: Array) -> float:
    """The best r2 of a straight line through one column, of one through the ranks, or of the mean of each level."""
    y = y.reshape(-1).astype(np.float64)
    found = [_correlation(_ranks(column), _ranks(y)) for column in block.T] + [_correlation(column, y) for column in block.T]
    levels = _levels(block)
    if levels is not None and levels.max() < len(y) / 3:
        means = np.bincount(levels, y) / np.bincount(levels)
        found.append(_correlation(means[levels], y))
    return max(found)


def _correlation(x: Array, y: Array) -> float:
    """The squared correlation; 0 for constants."""
    x, y = x - x.mean(dtype=np.float64), y - y.mean()
    squares = float((x @ x) * (y @ y))
    return float(x @ y) ** 2 / squares if squares > 0 else 0.0


def _ranks(values: Array) -> Array:
    """The rank of each value; equal values share the mean of their ranks."""
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[places]


def _levels(block: Array) -> Array | None:
    """The different values of a feature, numbered; None if there are many."""
    _, levels = np.unique(block @ np.random.default_rng(0).normal(size=block.shape[1]), return_inverse=True)
    return levels if levels.max() < _LEVELS else None


# ---- times, and values outside the training range ----


def _times(data: Data) -> Iterator[TableError]:
    preparation = data.preparation
    dates = [feature.name for feature in preparation.features if isinstance(feature, Date) and {"elapsed", "year"} & set(feature.linear)]
    named = filter(_TIME.fullmatch, [*(feature.name for feature in preparation.features), *preparation.left_out])
    name = next(iter(dates), None) or next(named, None)
    if data.how == "random" and name is not None:
        what = f"column {name!r} looks like a time, but the test rows were drawn at random: if the model will predict later rows, use "
        yield TableError(what, Argument("split", f"time:{name}"))


def _far(data: Data, train: Part) -> Iterator[TableError]:
    """Test values of number columns that are further from the training range than it is wide."""
    if not any(len(part.x) for part in data.parts["test"]()):
        return
    test = data.part("test").x
    for feature, (name, columns) in zip(data.preparation.features, data.preparation.blocks):
        if not isinstance(feature, Number):
            continue
        column = columns.start
        least, most = feature.undo(np.array([train.x[:, column].min(), train.x[:, column].max()])).tolist()
        if feature.low is not None and feature.high is not None:
            least, most = feature.low, feature.high
        values = feature.undo(test[:, column])
        far = values[(values > 2 * most - least) | (values < 2 * least - most)]
        if least < most and len(far):
            where = "1 test row" if len(far) == 1 else f"{len(far):,} test rows"
            value = f", such as {far[0]:.4g}" if feature.is_known(far[0]) else ""
            yield TableError(f"column {name!r}: far outside the training range, {least:.4g} to {most:.4g}, in {where}{value}")
