"""The recipe of `microbp train`: what is not set follows from the number of rows, the kind of the target, and the budget of time.

The network and its training follow RealMLP (Holzmueller, Grinsztajn & Steinwart 2024, arXiv 2407.04491, "TD-S"), with the piecewise-linear
encoding of numbers (Gorishniy, Rubachev & Babenko 2022), narrower layers, gelu, and the mean of several networks. `bench/tables.py` repeats
the measurements that chose the numbers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from .encodings.encoding import Encoding

BudgetName = Literal["fast", "normal", "best"]


class Budget(NamedTuple):
    """What a budget of time buys: about `seconds` of a processor core for each 20,000 rows, and at least `least`."""

    seconds: float
    least: float
    ensemble: int  # networks whose mean is the prediction
    width: int  # of each of the three hidden layers
    bins: int  # for each number; half of them to tell classes apart
    longer: float  # factor of the number of epochs


BUDGETS: Mapping[str, Budget] = MappingProxyType(
    {
        "fast": Budget(1, 1, 2, 64, 16, 0.5),
        "normal": Budget(10, 3, 4, 128, 32, 1.0),
        "best": Budget(60, 20, 8, 192, 48, 1.5),
    }
)
HIDDEN = 3  # hidden layers
RATES = (0.04, 0.07)  # for classes, for numbers
DROPOUT = 0.2  # where no number has bins, as in images and in columns of categories
MOST_EPOCHS = 256
_LINEAR_ROWS = 10_000  # with more training rows, a linear model gains nothing
_LINEAR_TIME = 0.1  # of the budget, at most
_LINEAR_STEPS, _LINEAR_SQUARES = 80e-9, 3e-10  # seconds of a core for row x class (4 or more) x (column + 20), for row x column²
_SHORTEST = 0.5  # the share of the epochs that is left before there are fewer networks
EMBEDDED = 8  # units of the embedding of a category with many values, as in RealMLP
_FEATURES = 4096  # at most about this many, so that bins of many columns do not fill the memory
_SPEED = 40e9  # floating-point operations per second of a core with AVX2
_TRAINED = 14_400  # training rows of a table with 20,000 rows, without those of test and validation


@dataclass(frozen=True)
class Choices:
    """Widths of hidden layers, rows per step, epochs, learning rate, dropout, and the number of networks."""

    hidden: tuple[int, ...]
    batch: int
    epochs: int
    lr: float
    dropout: float
    ensemble: int


def encoding(rows: int, columns: int, classifies: bool, budget: BudgetName = "normal", embeds: bool = True) -> Encoding:
    """How the columns of a table become features. rows: those for training. embeds: whether categories may have embeddings."""
    from .encodings.encoding import Encoding  # the help of the command line uses the recipe, and must not import NumPy

    bins = min(BUDGETS[budget].bins // (1 + classifies), _FEATURES // columns - 1, rows // 10)
    return Encoding(bins=bins if bins >= 2 else 0, hashed=16, embedded=EMBEDDED * embeds, clip=True, log=True)


def choose(rows: int, inputs: int, outputs: int, classifies: bool, has_bins: bool = True, budget: BudgetName = "normal") -> Choices:
    """The choices for this number of training rows, features and outputs. has_bins: whether a number or date has bins."""
    buys = BUDGETS[budget]
    width, ensemble = buys.width, buys.ensemble
    epochs = _epochs(rows, buys.longer)
    limit = _SPEED * _seconds(buys, rows)
    share = limit / _work(rows, epochs, inputs, width, outputs)  # networks that fit into the budget
    while ensemble > 2 and share < ensemble * _SHORTEST:  # several networks gain more than many epochs
        ensemble -= 2
    epochs = max(round(min(share / ensemble, 1.0) * epochs), 2)
    return Choices((width,) * HIDDEN, batch(rows), epochs, RATES[0 if classifies else 1], 0.0 if has_bins else DROPOUT, ensemble)


def may_join(rows: int, columns: int, outputs: int, budget: BudgetName = "normal") -> bool:
    """Whether a linear model may join the networks of a table with so many training rows, inputs of the linear model, and outputs: not if
    all its fits, one for each pair of networks and the last one, would take much of the budget.
    """
    steps = _LINEAR_STEPS * rows * max(outputs, 4) * (columns + 20) if outputs > 1 else 0.0
    fit = steps + _LINEAR_SQUARES * columns**2 * max(rows, columns)
    buys = BUDGETS[budget]
    return rows <= _LINEAR_ROWS and (buys.ensemble // 2 + 1) * fit <= _LINEAR_TIME * _seconds(buys, rows)


def batch(rows: int) -> int:
    """Rows per step."""
    return 64 if rows < 2_000 else 128 if rows < 6_000 else 256


def _seconds(buys: Budget, rows: int) -> float:
    """The time of a budget for this number of training rows."""
    return max(buys.seconds * rows / _TRAINED, buys.least)


def _epochs(rows: int, longer: float) -> int:
    """Large tables need fewer passes: 16 for 16,500 rows, 160 for 930."""
    return min(max(round(longer * 16 * math.pow(16_500 / rows, 0.8)), 2), MOST_EPOCHS)


def _work(rows: int, epochs: int, inputs: int, width: int, outputs: int) -> float:
    """Floating-point operations for a network: forward, backward and gradient are a product and a sum for each weight each."""
    return 6.0 * rows * epochs * (inputs * width + (HIDDEN - 1) * width**2 + width * outputs)
