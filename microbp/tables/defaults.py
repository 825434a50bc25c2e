"""What training chooses where nothing is said: by the number of rows, and by whether classes or numbers are to be predicted.

Measured on breast cancer, wine, diabetes, digits, a9a, MNIST and the UCI sets energy, yacht and concrete;
`bench/training/tables.py` repeats it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Choices:
    """Widths of hidden layers, rows per step, passes, learning rate and weight decay."""

    hidden: tuple[int, ...]
    batch: int
    epochs: int
    lr: float
    decay: float


# Rows below which a line holds: hidden widths for classes, for numbers, rows per step, learning rate.
_SIZES = [
    (500, (64,), (64,), 16, 0.01),
    (1000, (64,), (64, 64), 16, 0.01),
    (20_000, (128,), (64, 64), 32, 0.003),
    (math.inf, (256,), (128, 128), 128, 0.003),
]


def choose(rows: int, classifies: bool, batch: int | None = None, epochs: int | None = None) -> Choices:
    """The choices for a number of rows to train on, with a batch and epochs that are given already."""
    _, wide, deep, usual, lr = next(line for line in _SIZES if rows < line[0])
    batch = batch or usual
    # A small net is trained when it has made some thousands of updates; numbers, which have less noise than classes, gain from more.
    updates, most = (6000, 100) if classifies else (12_000, 400)
    epochs = epochs or min(max(round(updates / math.ceil(rows / batch)), 10), most)
    # The penalty of a standard normal prior of the weights beside the mean loss of the rows, which is 1 / rows for a likelihood; a loss of
    # numbers is one only for a noise as large as the target's spread, and so deserves less.
    return Choices(wide if classifies else deep, batch, epochs, lr, (1.0 if classifies else 0.3) / rows)
