"""The work of all contenders: nets, data and initial weights; and the arithmetic and memory traffic of each kind of work."""

from __future__ import annotations

import itertools
from functools import cached_property
from typing import Literal, NamedTuple

import numpy as np

LR = 1e-3
QUERIES = 1024  # rows predicted at once

KINDS = {
    "step": "one training step, called from Python",
    "epoch": "a training step inside a whole epoch of shuffled minibatches",
    "predict_1": "one row predicted, called from Python",
    f"predict_{QUERIES}": f"{QUERIES} rows predicted, called from Python",
}


class Net(NamedTuple):
    """A chain of dense layers with relu between them, and the rows of one step."""

    widths: tuple[int, ...]
    batch: int

    @property
    def loss(self) -> Literal["mse", "cross_entropy"]:
        """Mean squared error for one output, else cross-entropy with integer labels."""
        return "mse" if self.widths[-1] == 1 else "cross_entropy"

    @property
    def shapes(self) -> list[tuple[int, int]]:
        """Inputs and outputs of each layer."""
        return list(itertools.pairwise(self.widths))

    @property
    def parameters(self) -> int:
        return sum(i * o + o for i, o in self.shapes)

    @property
    def steps(self) -> int:
        """The number of steps in an epoch: fewer if a step is long."""
        return max(2, min(256, round(4e9 / self.flops("step"))))

    def flops(self, kind: str) -> float:
        """2 x rows x inputs x outputs per product. A layer has one product forward, and in a step two more (the first layer: one more)."""
        products = sum(i * o for i, o in self.shapes)
        if kind in ("step", "epoch"):
            return 2.0 * self.batch * (3 * products - self.widths[0] * self.widths[1])
        return 2.0 * self.rows(kind) * products

    @property
    def bytes(self) -> float:
        """4 bytes for each weight that a prediction reads."""
        return 4.0 * sum(i * o for i, o in self.shapes)

    def rows(self, kind: str) -> int:
        """The number of rows in a call."""
        return {"predict_1": 1, f"predict_{QUERIES}": QUERIES}.get(kind, self.batch)

    def __str__(self) -> str:
        runs = [(width, len(list(same))) for width, same in itertools.groupby(self.widths)]
        return "-".join(f"{width}x{count}" if count > 4 else "-".join([str(width)] * count) for width, count in runs)


NETS = {
    "xxs": Net((4, 8, 2), 1),
    "xs": Net((4, 32, 32, 2), 1),
    "s": Net((8, 64, 64, 1), 32),
    "skorch": Net((4, 500, 1), 128),
    "m": Net((64, 128, 10), 64),
    "deep": Net((64,) * 11 + (10,), 64),
    "tab": Net((100, 256, 256, 256, 1), 512),
    "mnist": Net((784, 512, 512, 10), 128),
    "l": Net((1024,) * 4, 256),
    "xl": Net((2048, 4096, 4096, 1000), 128),
}


class Layer(NamedTuple):
    """Initial weights (inputs, outputs) and biases."""

    weight: np.ndarray
    bias: np.ndarray


class Work:
    """A net with rows to train on and to predict, drawn with the same seed for every contender.

    The targets are noise, so that the gradients keep their size during a round.
    """

    def __init__(self, net: Net, dtype: str = "float32") -> None:
        self.net = net
        self.dtype = dtype
        self._draw = np.random.default_rng(0)
        rows = net.batch * net.steps
        self.layers = [self._layer(i, o) for i, o in net.shapes]
        self.x = self._normal(rows, net.widths[0])
        self.y = self._normal(rows, 1) if net.loss == "mse" else self._draw.integers(0, net.widths[-1], rows)
        self.queries = self._normal(QUERIES, net.widths[0])

    def _normal(self, rows: int, cols: int) -> np.ndarray:
        return self._draw.standard_normal((rows, cols), np.float32).astype(self.dtype, copy=False)

    def _layer(self, inputs: int, outputs: int) -> Layer:
        return Layer(self._normal(inputs, outputs) * np.float32(2 / inputs) ** np.float32(0.5), 0.1 * self._normal(1, outputs)[0])

    @cached_property
    def batches(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """The rows of each step, in order."""
        batch = self.net.batch
        return [(self.x[i : i + batch], self.y[i : i + batch]) for i in range(0, len(self.x), batch)]

    def order(self) -> np.ndarray:
        """All row numbers, shuffled, the same on every call."""
        return np.random.default_rng(1).permutation(len(self.x))
