"""Predictions of a chain of steps of whole numbers; exchange/shared/integers.py says what they are."""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Sequence
from typing import Any

from ..positions.window import Window

Floats = list[float]
Step = tuple[Any, ...]  # operation, positions, width, operand, window, pool, weight, start, scale, mean, activation, inverse, zero
Of = Callable[[Floats], Floats]


def single(value: float) -> float:
    """The nearest float32."""
    try:
        return array("f", [value])[0]
    except OverflowError:
        return math.copysign(math.inf, value)


def cut(value: float, zero: int) -> int:
    """round(value) + zero, from 0 to 255. NaN counts as the least number."""
    if not value > -zero:
        return 0
    return round(min(value, float(255 - zero))) + zero


def numbers(kind: str, data: bytes | None) -> list[Any]:
    """The numbers of an array."""
    return array(kind, data or b"").tolist()


def run(steps: Sequence[Step], row: Floats, activation: Callable[[str], Of]) -> Floats:
    """The values of the last step for one row of float32 numbers."""
    q: list[int] = []
    values: Floats = []
    for i, step in enumerate(steps):
        operation, inverse, zero = step[0], step[11], step[12]
        if operation == "quantize":
            values = _prepared(row, numbers("f", step[9]), numbers("f", step[8]))
        elif operation == "dense":
            sums = _products(q, step)
            values = [single(value) for value in activation(step[10])(sums)]
        else:
            q = _window(q, step) if operation == "window" else _pool(q, step)
            continue
        if i < len(steps) - 1:
            q = [cut(single(value * inverse), zero) for value in values]
    return values


def _prepared(row: Floats, mean: Floats, scale: Floats) -> Floats:
    values = [single(x - m) for x, m in zip(row, mean)] if mean else row
    return [single(x * s) for x, s in zip(values, scale)] if scale else values


def _products(q: list[int], step: Step) -> Floats:
    """float32(start + weight q) x scale, position after position."""
    positions, width = step[1], step[2]
    weight, start, scale = numbers("b", step[6]), numbers("i", step[7]), numbers("f", step[8])
    inputs = len(q) // positions
    found = []
    for p in range(positions):
        x = q[p * inputs : (p + 1) * inputs]
        for u in range(width):
            total = start[u] + sum(map(int.__mul__, weight[u * inputs : (u + 1) * inputs], x))
            found.append(single(single(total) * scale[u]))
    return found


def _under(step: Step) -> list[list[int | None]]:
    size, stride, pad, dilation = (tuple(step[4][i : i + 2]) for i in (0, 2, 4, 6))
    return Window(size, stride, pad, dilation if all(dilation) else (1, 1)).under(step[3][:2])


def _window(q: list[int], step: Step) -> list[int]:
    columns, zero = step[3][2], step[12]
    empty = [zero] * columns
    return [x for place in _under(step) for i in place for x in (empty if i is None else q[i * columns : (i + 1) * columns])]


def _pool(q: list[int], step: Step) -> list[int]:
    columns, zero = step[3][2], step[12]
    found = []
    for place in _under(step):
        for c in range(columns):
            under = [q[i * columns + c] for i in place if i is not None]
            total = sum(under) - zero * len(under)
            found.append(max(under) if step[5] == "max" else round(single(single(total) / len(under))) + zero)
    return found


class Chain:
    """A network of whole numbers. A backend's class adds the formulas: `activation` and `output_values`."""

    def __init__(
        self,
        steps: Sequence[Step],
        output: str | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        threads: int = 1,
    ) -> None:
        self._steps, self._output, self._mean, self._std = list(steps), output, mean, std

    @property
    def bytes(self) -> int:
        """The bytes of its arrays."""
        return sum(len(data or b"") for step in self._steps for data in step[6:10])

    def activation(self, text: str) -> Of:
        """The activation of this SPEC, of single numbers."""
        raise NotImplementedError

    def output_values(self, name: str, row: Floats) -> Floats:
        """An output activation of a row."""
        raise NotImplementedError

    def predict(self, xs: Any, outs: Any, raw: bool) -> None:
        """Predicts the rows of a matrix, or one row of a vector."""
        rows: Any = memoryview(xs).tolist()
        made = memoryview(outs)
        one = made.ndim == 1
        width = self._steps[-1][2]
        for r, row in enumerate([rows] if one else rows):
            values = run(self._steps, [single(x) for x in row], self.activation)
            if not raw and self._output:
                parts = [values[i : i + width] for i in range(0, len(values), width)]
                values = [single(value) for part in parts for value in self.output_values(self._output, part)]
            if not raw and self._mean is not None and self._std is not None:
                values = [single(value * std + mean) for value, mean, std in zip(values, self._mean, self._std)]
            for j, value in enumerate(values):
                made[j if one else (r, j)] = value
