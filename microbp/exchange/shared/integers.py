"""The steps of a network in int8. The C library, exported C and microbp/reference/integers compute them with the same bits.

A number x of a value is the whole number q = round(x / scale) + zero, from 0 to 255, and stands for (q - zero) scale (Jacob et al. 2018,
equation 1). Weights are whole numbers from -127 to 127 with a scale for each unit, and no zero (section 3 of the same). All floats are
float32, each operation is rounded by itself, and half-way cases are rounded to the even number.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ...data.arrays import Array
from ...network.records import WindowInfo


class Quantum(NamedTuple):
    """How a value is stored: real = (q - zero) x scale."""

    scale: float  # a float32
    zero: int  # 0 to 255

    @property
    def inverse(self) -> float:
        """The float32 that numbers are multiplied by before they are rounded."""
        return float(np.float32(1 / self.scale))


class IntegerStep(NamedTuple):
    """A step; each reads the value of the one before it. grid, width: the positions and columns of its value, as in NodeInfo.
    x, y: how its operand and its value are stored. y is None for the last step, whose value is float32, and x for the first.

    operation "quantize", the first step: q = cut((x - mean) x scale, y.zero) of each column.
    "dense", also the last one: of each position, accumulator = start + weight q in int32; z = float32(accumulator) x scale;
    value = activation(z); q = cut(value x y.inverse, y.zero).
    "window": the positions of the operand under each place side by side, x.zero outside of it. "pool": of the positions under each place
    the largest q, or round(float32(sum of q - x.zero) / float32(count)) + x.zero. Of both, y is x.
    cut(t, zero): t is cut to -zero to 255 - zero; NaN becomes -zero; then round(t) + zero.
    """

    operation: str
    name: str
    grid: tuple[int, ...]
    width: int
    x: Quantum | None
    y: Quantum | None
    weight: Array | None = None  # int8, (units, inputs)
    start: Array | None = None  # int32, (units,): round(bias / (x.scale x scale of the weights)) - x.zero x sum of the weights
    scale: Array | None = None  # float32, (units,): x.scale x scale of the weights; quantize: (columns,), or (1,) for all
    mean: Array | None = None  # float32, (columns,); quantize only
    activation: str = "identity"
    window: WindowInfo | None = None
    operand: tuple[int, int, int] = (0, 0, 0)  # window, pool: height, width and columns of the operand

    @property
    def positions(self) -> int:
        """How many positions its value has."""
        return int(np.prod(self.grid, dtype=np.int64))

    @property
    def nbytes(self) -> int:
        """The bytes of its arrays."""
        return sum(array.nbytes for array in (self.weight, self.start, self.scale, self.mean) if array is not None)

    def core(self) -> tuple[object, ...]:
        """The fields of mbp_int8_step, for a backend."""
        window = self.window
        scale, inverse = self.scale, self.y.inverse if self.y else 1.0
        if self.operation == "quantize" and scale is not None:
            scale, inverse = (None, float(scale[0])) if len(scale) == 1 else (scale, 1.0)
        arrays = [None if array is None else array.tobytes() for array in (self.weight, self.start, scale, self.mean)]
        shape = (*window.size, *window.stride, *window.pad, *window.dilation) if window else (0,) * 8
        return (
            self.operation, self.positions, self.width, self.operand, shape, window.kind if window and window.kind else None, *arrays,
            self.activation, inverse, self.y.zero if self.y else 0,
        )  # fmt: skip
