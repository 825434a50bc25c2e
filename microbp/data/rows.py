"""Rows to learn from: inputs, targets and weights, read and checked against the network before anything runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .arrays import Array, as_array, as_list


@dataclass(frozen=True)
class Rows:
    """`count` rows: an array per input, one per output, and a weight per row or None."""

    xs: list[Array]
    ys: list[Array]
    weight: Array | None
    count: int

    @property
    def x(self) -> Any:
        """The inputs as a backend takes them."""
        return self.xs[0] if len(self.xs) == 1 else self.xs

    @property
    def y(self) -> Any:
        """The targets as a backend takes them."""
        return self.ys[0] if len(self.ys) == 1 else self.ys

    def take(self, index: Array) -> Rows:
        """A copy of the rows at `index`."""
        weight = None if self.weight is None else self.weight[index]
        return Rows([x[index] for x in self.xs], [y[index] for y in self.ys], weight, len(index))


@dataclass(frozen=True)
class Shape:
    """What a trainer's rows must look like."""

    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    labels: tuple[bool, ...]  # whether an output's targets may be integer labels
    own: tuple[bool, ...]  # whether an output's loss is the caller's, who alone knows its targets

    def read(self, x: Any, y: Any, weight: Any) -> Rows:
        """The rows, converted where needed; TypeError or ValueError says what does not fit."""
        xs = as_list(x, len(self.inputs), "X", "input")
        ys = as_list(y, len(self.outputs), "y", "output")
        for i, (array, width) in enumerate(zip(xs, self.inputs, strict=True)):
            _check_input(array, width, _name("X", i, xs))
        count = len(xs[0])
        for i, array in enumerate(xs + ys):
            name = _name("X", i, xs) if i < len(xs) else _name("y", i - len(xs), ys)
            if array.ndim == 0 or len(array) != count:
                raise ValueError(f"{_name('X', 0, xs)} has shape {xs[0].shape} and {name} has shape {array.shape}: they need as many rows")
        if count == 0:
            raise ValueError(f"there are no rows to learn from: X has shape {xs[0].shape}")
        ys = [self._target(i, array, _name("y", i, ys)) for i, array in enumerate(ys)]
        return Rows(xs, ys, None if weight is None else _check_weight(as_array(weight, "sample_weight"), count), count)

    def _target(self, i: int, y: Array, what: str) -> Array:
        width = self.outputs[i]
        if self.labels[i] and y.dtype.kind in "biu" and (y.ndim == 1 or y.shape[1:] == (1,)):
            return y
        if y.ndim == 1 and (width == 1 or self.own[i]):
            return y.reshape(-1, 1) if width == 1 else y
        if y.shape[1:] == (width,) or self.own[i]:
            return y
        labels = f", or integer labels of shape ({len(y)},)" if self.labels[i] else ""
        raise ValueError(f"{what} has shape {y.shape} and dtype {y.dtype}; the output needs targets of shape ({len(y)}, {width}){labels}")


def _name(what: str, i: int, arrays: list[Array]) -> str:
    return what if len(arrays) == 1 else f"{what}[{i}]"


def _check_input(x: Array, width: int, what: str) -> None:
    if x.ndim == 2 and x.shape[1] == width:
        return
    advice = ""
    if x.ndim == 1 and width in (1, len(x)):
        advice = f"; write {what}.reshape({'-1, 1' if width == 1 else '1, -1'})"
    raise ValueError(f"{what} has shape {x.shape}; the network needs (rows, {width}){advice}")


def _check_weight(weight: Array, count: int) -> Array:
    if weight.shape != (count,):
        raise ValueError(f"sample_weight has shape {weight.shape}; it must be ({count},), one weight per row of X")
    if not (np.isfinite(weight).all() and (weight >= 0).all() and weight.any()):
        raise ValueError("sample_weight must be finite, at least 0, and not all 0")
    return weight
