"""Custom losses: functions f(outputs, targets, weight) -> (loss, gradient with respect to outputs) on ndarrays."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ...core.backend import CoreTrainer
from ...core.checks import floating
from ...data.arrays import Array, as_array
from ...data.rows import Rows

_FLOATS = (np.dtype(np.float32), np.dtype(np.float64))
_SMALL = 1e38  # no element of a vector with a smaller square is larger than float32's range, and the square is below it too
CustomLoss = Callable[[Array, Array, Array | None], tuple[float, Array]]


def name_of(loss: object) -> str:
    """The name of a custom loss: of a function, or of the class of an object."""
    return str(getattr(loss, "__name__", type(loss).__name__))


class CustomLosses:
    """One function per output, called between the backend's forward and backward pass."""

    def __init__(self, core: CoreTrainer, functions: Sequence[CustomLoss], loss_weights: Sequence[float], dtype: np.dtype[Any]) -> None:
        self._core = core
        self._functions = functions
        self._loss_weights = loss_weights
        self._dtype = dtype

    def backward(self, rows: Rows, accumulate: bool = False, input_grads: bool = False) -> float:
        """Computes the backend's gradients; returns the loss."""
        return self._core.step_with(rows.x, lambda outputs: self._call(outputs, rows), accumulate, input_grads, update=False)

    def step(self, rows: Rows) -> float:
        """Does a training step; returns the loss before the update."""
        return self._core.step_with(rows.x, lambda outputs: self._call(outputs, rows))

    def evaluate(self, outputs: list[Array], rows: Rows) -> float:
        """The loss of these outputs. The caller holds the network."""
        with self._core.net.guest():
            return self._call(outputs, rows)[0]

    def _call(self, outputs: Sequence[Any], rows: Rows) -> tuple[float, list[Array]]:
        total, gradients = 0.0, []
        for i, function in enumerate(self._functions):
            output, target = np.asarray(outputs[i]), rows.ys[i]
            if self._loss_weights[i] == 0:  # the output's targets are not read
                gradients.append(np.zeros_like(output))
                continue
            loss, gradient = self._weighted(i, function(output, target, rows.weight), output)
            total += loss
            gradients.append(gradient)
        return total, gradients

    def _weighted(self, i: int, result: Any, output: Array) -> tuple[float, Array]:
        """The checked result of a function, times the loss weight."""
        if type(result) is tuple and len(result) == 2 and self._loss_weights[i] == 1 and _is_small(result[1], output.shape):
            return self._loss(i, result[0]), result[1]  # the usual case; the backend converts dtypes
        loss, gradient = self._checked(i, result, output)
        return self._loss_weights[i] * loss, self._converted(i, gradient)

    def _loss(self, i: int, loss: Any) -> float:
        """The loss as a float; FloatingPointError if it is not finite."""
        number = loss if type(loss) is float else floating(f"{name_of(self._functions[i])}: the returned loss", loss)
        if not math.isfinite(number):
            raise FloatingPointError(f"{name_of(self._functions[i])} returned the loss {number}")
        return number

    def _converted(self, i: int, gradient: Array) -> Array:
        """The gradient times the loss weight, in the net's dtype; FloatingPointError if it does not hold these numbers."""
        if not np.isfinite(gradient).all():
            raise FloatingPointError(f"{name_of(self._functions[i])} returned a gradient that is not finite")
        with np.errstate(over="ignore"):
            found = np.ascontiguousarray(self._loss_weights[i] * gradient, dtype=self._dtype)
        if not np.isfinite(found).all():
            name, largest = name_of(self._functions[i]), np.abs(gradient).max()
            weighted = f", times loss_weights[{i}] = {self._loss_weights[i]:g}," if self._loss_weights[i] != 1 else ""
            raise FloatingPointError(f"{name} returned a gradient of up to {largest:g}{weighted} which {self._dtype} cannot hold")
        return found

    def _checked(self, i: int, result: Any, output: Array) -> tuple[float, Array]:
        name = name_of(self._functions[i])
        if not (isinstance(result, tuple) and len(result) == 2):
            raise TypeError(f"{name} must return (loss, gradient with respect to outputs), not {type(result).__name__}")
        loss, gradient = self._loss(i, result[0]), _array(name, result[1])
        if gradient.shape != output.shape:
            raise ValueError(f"{name} returned a gradient of shape {gradient.shape}; it must have the shape of the outputs, {output.shape}")
        return loss, gradient


@np.errstate(over="ignore")
def _is_small(gradient: Any, shape: tuple[int, ...]) -> bool:
    """Whether this is an array of floats of this shape that float32 holds. A product is faster than a test of each number, which takes
    longer than a step of a small net; False if it overflows."""
    if type(gradient) is not np.ndarray or gradient.dtype not in _FLOATS or gradient.shape != shape:
        return False
    flat = gradient.ravel()
    return bool(flat.dot(flat) < _SMALL)


def _array(name: str, gradient: Any) -> Array:
    if isinstance(gradient, np.ndarray) and gradient.dtype == object:
        raise TypeError(f"{name} returned a gradient of dtype object; it must be an array of real numbers")
    return as_array(gradient, f"{name}: the returned gradient")
