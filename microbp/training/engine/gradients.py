"""Gradients with respect to the outputs, from the user or a function of the user: checked, and converted to what a backend reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ...core.backend import CoreTrainer
from ...data.arrays import Array, as_array
from ...data.by_output import listed, one_or_all
from ...data.rows import Rows, Shape

_FLOATS = (np.dtype(np.float32), np.dtype(np.float64))
_SMALL = 1e38  # no element of a vector with a smaller square is larger than float32's range, and the square is below it too


def read_input_grads(core: CoreTrainer, rows: Rows, widths: Sequence[int], dtype: np.dtype[Any]) -> list[Array]:
    """The gradients with respect to the inputs of these rows, of these widths: 0 for rows of weight 0."""
    if rows.count == 0:
        return [np.zeros((0, width), dtype) for width in widths]
    found = [np.array(gradient) for gradient in core.input_grads()]
    if len(found[0]) == rows.count:
        return found
    # the backend got only the rows that are there
    spread = [np.zeros((rows.count, width), dtype) for width in widths]
    for array, gradient in zip(spread, found, strict=True):
        array[rows.active()] = gradient
    return spread


class OutputGradients:
    """Reads the gradients of the outputs: checks them, and multiplies each by its factor.

    factors: one per output. shape: has the widths and names of the outputs. verb, noun: how errors call a gradient: "f returned a
    gradient", "f: the returned gradient".
    """

    def __init__(self, factors: Sequence[float], shape: Shape, dtype: np.dtype[Any], verb: str, noun: str) -> None:
        self._factors, self._widths, self._names, self._dtype = factors, shape.outputs, shape.names, dtype
        self._verb, self._noun = verb, noun

    def all(self, name: str, gradients: Any, rows: int) -> list[Array]:
        """One gradient per output, from a list or a dict by output. name: the function that the errors are about."""
        count = len(self._widths)
        if isinstance(gradients, Mapping):
            gradients = one_or_all(listed(gradients, self._names, f"{name}: {self._noun}"))
        if count == 1:
            return [self.one(name, 0, gradients, rows)]
        if type(gradients) not in (list, tuple) or len(gradients) != count:
            is_list = isinstance(gradients, list | tuple)
            found = f"but its length is {len(gradients)}" if is_list else f"not {type(gradients).__name__}"
            text = f"{name}: {self._noun} must be a list of {count} arrays, one per output, {found}"
            raise ValueError(text) if is_list else TypeError(text)
        return [self.one(name, i, gradient, rows) for i, gradient in enumerate(gradients)]

    def one(self, name: str, i: int, gradient: Any, rows: int) -> Array:
        """The gradient of output i. TypeError, ValueError or FloatingPointError: it is not an array of this shape that the dtype holds."""
        shape = (rows, self._widths[i])
        is_usual = type(gradient) is np.ndarray and gradient.dtype in _FLOATS and gradient.shape == shape and self._factors[i] == 1
        # A product is faster than a test of each number, which takes longer than a step of a small net. If it overflows, np.vdot, unlike
        # np.dot, does not warn.
        if is_usual and np.vdot(gradient, gradient) < _SMALL:
            return gradient  # type: ignore[no-any-return]  # the backend converts dtypes
        return self._converted(name, i, self._checked(name, i, gradient, shape))

    def _checked(self, name: str, i: int, gradient: Any, shape: tuple[int, int]) -> Array:
        if isinstance(gradient, np.ndarray) and gradient.dtype == object:
            raise TypeError(f"{self._subject(name, i)} of dtype object; it must be an array of real numbers")
        array = as_array(gradient, f"{name}: {self._noun}" + (f"[{i}]" if len(self._widths) > 1 else ""))
        if array.shape != shape:
            raise ValueError(f"{self._subject(name, i)} of shape {array.shape}; it must have the shape of the outputs, {shape}")
        if not np.isfinite(array).all():
            row, column = np.argwhere(~np.isfinite(array))[0].tolist()
            raise FloatingPointError(
                f"{self._subject(name, i)} that is not finite: {array[row, column]:g}, first at row {row}, column {column}"
            )
        return array

    def _converted(self, name: str, i: int, gradient: Array) -> Array:
        """The gradient times its factor, in the net's dtype; FloatingPointError if it does not hold these numbers."""
        with np.errstate(over="ignore"):
            found = np.ascontiguousarray(self._factors[i] * gradient, dtype=self._dtype)
        if not np.isfinite(found).all():
            weighted = f", times loss_weights[{i}] = {self._factors[i]:g}," if self._factors[i] != 1 else ""
            largest = f"up to {np.abs(gradient).max():g}"
            raise FloatingPointError(f"{self._subject(name, i)} of {largest}{weighted} which {self._dtype} cannot hold")
        return found

    def _subject(self, name: str, i: int) -> str:
        return f"{name} {self._verb} a gradient" + (f" for output {i}" if len(self._widths) > 1 else "")
