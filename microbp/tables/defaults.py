"""Defaults for options that are not set. They depend on the number of rows, and on whether classes or numbers are predicted.

Chosen by measurements on breast cancer, wine, diabetes, digits, a9a, MNIST and the UCI sets energy, yacht and concrete;
`bench/training/tables.py` repeats the measurements.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True)
class Choices:
    """Widths of hidden layers, rows per step, epochs, learning rate and weight decay."""

    hidden: tuple[int, ...]
    batch: int
    epochs: int
    lr: float
    decay: float


LEAST_EPOCHS, MOST_EPOCHS = 10, (100, 400)  # for classes, for numbers


class Size(NamedTuple):
    """The defaults for fewer than `rows` training rows."""

    rows: float
    for_classes: tuple[int, ...]  # widths of hidden layers
    for_numbers: tuple[int, ...]
    batch: int
    lr: float


SIZES = (
    Size(500, (64,), (64,), 16, 0.01),
    Size(1000, (64,), (64, 64), 16, 0.01),
    Size(20_000, (128,), (64, 64), 32, 0.003),
    Size(math.inf, (256,), (128, 128), 128, 0.003),
)


def choose(rows: int, classifies: bool, batch: int | None = None, epochs: int | None = None) -> Choices:
    """The choices for this number of training rows. batch, epochs: if given, used instead of the defaults."""
    size = next(size for size in SIZES if rows < size.rows)
    batch = batch or size.batch
    # A small net needs a few thousand updates. A numeric target needs more, because it has less noise than classes.
    updates, most = (6000, MOST_EPOCHS[0]) if classifies else (12_000, MOST_EPOCHS[1])
    epochs = epochs or min(max(round(updates / math.ceil(rows / batch)), LEAST_EPOCHS), most)
    # With a standard normal prior for the weights and a negative log-likelihood as loss, the decay is 1 / rows. For a numeric target, mse
    # is a negative log-likelihood only if the noise has half the variance of the target. The noise is usually smaller, so the decay is
    # lower, 0.3 / rows.
    return Choices(size.for_classes if classifies else size.for_numbers, batch, epochs, size.lr, (1.0 if classifies else 0.3) / rows)
