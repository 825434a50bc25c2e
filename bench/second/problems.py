"""Nets and rows with a goal, and the initial weights of Nguyen and Widrow."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from training import data

import microbp as bp

Array = npt.NDArray[np.float64]


class Problem(NamedTuple):
    """A chain of tanh layers, its rows, and the mean squared error to reach."""

    x: Array
    y: Array
    widths: tuple[int, ...]
    goal: float
    output: Literal["identity", "tanh"] = "identity"

    def network(self, seed: int) -> bp.Network:
        """A float64 network with initial weights of Nguyen and Widrow."""
        x = bp.Input(self.widths[0])
        node: bp.Node = x
        for units in self.widths[1:-1]:
            node = bp.Dense(units, "tanh")(node)
        net = bp.Network(x, bp.Dense(self.widths[-1], self.output)(node), dtype="float64", seed=seed)
        for layer, (weight, bias) in enumerate(self.layers(seed)):
            net.tensors[f"dense_{layer}.weight"][:], net.tensors[f"dense_{layer}.bias"][:] = weight, bias
        return net

    def layers(self, seed: int) -> list[tuple[Array, Array]]:
        """The initial weight (units, inputs) and bias (units,) of each layer."""
        return nguyen_widrow(self.widths, self.output == "tanh", seed)


def nguyen_widrow(widths: tuple[int, ...], squashed: bool, seed: int) -> list[tuple[Array, Array]]:
    """The weight (units, inputs) and bias (units,) of each layer, for inputs in [-1, 1]: random directions of length 1.4 units^(1/inputs),
    so that the parts of the units' ranges that bend most cover the inputs evenly (Nguyen & Widrow 1990; 2 x 0.7, because tanh bends between
    -2 and 2). A linear last layer: uniform in [-1, 1]."""
    random, layers = np.random.default_rng(seed), []
    for number, (inputs, units) in enumerate(itertools.pairwise(widths), 2):
        weight = random.uniform(-1, 1, (units, inputs))
        if number == len(widths) and not squashed:
            layers.append((weight, random.uniform(-1, 1, units)))
            continue
        length = 1.4 * units ** (1 / inputs)
        weight *= length / np.linalg.norm(weight, axis=1, keepdims=True)
        layers.append((weight, length * np.linspace(-1, 1, units) * np.sign(weight[:, 0]) if units > 1 else np.zeros(1)))
    return layers


def sine() -> Problem:
    """One period of a sine: MATLAB's SIN."""
    x = np.linspace(-1, 1, 41)[:, None]
    return Problem(x, np.sin(np.pi * x), (1, 5, 1), 0.002)


def parity() -> Problem:
    """Whether three bits have an odd number of ones, bits and answers as -1 and 1: MATLAB's PARITY."""
    x = np.array([[bit >> place & 1 for place in range(3)] for bit in range(8)]) * 2.0 - 1
    return Problem(x, -x.prod(axis=1, keepdims=True), (3, 10, 10, 1), 0.001, "tanh")


def sinc() -> Problem:
    """sin(10 pi x) / (10 pi x)."""
    x = np.linspace(-1, 1, 1000)[:, None]
    return Problem(x, np.sinc(10 * x), (1, 20, 1), 1e-8)


def proben1(root: Path, name: str, hidden: tuple[int, ...], goal: float) -> Problem:
    """The training part of Proben1's first split, inputs as -1 to 1, classes as 0 and 1."""
    part = data.proben1(root, f"{name}1")[0]
    return Problem(part.x * 2 - 1, part.y, (part.x.shape[1], *hidden, part.y.shape[1]), goal, "tanh")


def cancer(root: Path) -> Problem:
    """MATLAB's CANCER."""
    return proben1(root, "cancer", (5, 5), 0.012)


def diabetes(root: Path) -> Problem:
    """MATLAB's DIABETES."""
    return proben1(root, "diabetes", (15, 15), 0.05)


def uci(root: Path, name: str, units: int, goal: float) -> Problem:
    """The training rows of a UCI set's first split, standardised."""
    table = data.uci(root, name)
    x, y = table.x[table.splits[0][0]], table.y[table.splits[0][0], None]
    scale = x.std(axis=0)
    return Problem((x - x.mean(axis=0)) / np.where(scale > 0, scale, 1), (y - y.mean()) / y.std(), (x.shape[1], units, 1), goal)
