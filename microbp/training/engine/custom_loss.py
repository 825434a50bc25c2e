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

CustomLoss = Callable[[Array, Array, Array | None], tuple[float, Array]]


def name_of(loss: object) -> str:
    """The name of a custom loss: of a function, or of the class of an object."""
    return str(getattr(loss, "__name__", type(loss).__name__))


class CustomLosses:
    """One function per output, called between the backend's forward and backward pass. The caller holds the network."""

    def __init__(self, core: CoreTrainer, functions: Sequence[CustomLoss], loss_weights: Sequence[float], dtype: np.dtype[Any]) -> None:
        self._core = core
        self._functions = functions
        self._loss_weights = loss_weights
        self._dtype = dtype

    def backward(self, rows: Rows, accumulate: bool = False, input_grads: bool = False) -> float:
        """Computes the backend's gradients; returns the loss."""
        outputs = [np.asarray(output) for output in self._core.forward(rows.x)]
        loss, gradients = self._call(outputs, rows)
        before = self._core.get("loss") if accumulate else math.nan
        self._core.backward_from(gradients, accumulate, input_grads)
        self._core.set("loss", loss if math.isnan(before) else before + loss)
        return loss

    def step(self, rows: Rows) -> float:
        """Does a training step; returns the loss before the update."""
        loss = self.backward(rows)
        self._core.apply()
        return loss

    def evaluate(self, outputs: list[Array], rows: Rows) -> float:
        """The loss of these outputs."""
        return self._call(outputs, rows)[0]

    def _call(self, outputs: list[Array], rows: Rows) -> tuple[float, list[Array]]:
        total, gradients = 0.0, []
        for i, (function, output, target) in enumerate(zip(self._functions, outputs, rows.ys, strict=True)):
            if self._loss_weights[i] == 0:  # the output's targets are not read
                gradients.append(np.zeros_like(output))
                continue
            with self._core.net.guest():
                result = function(output, target, rows.weight)
            loss, gradient = self._checked(i, result, output)
            total += self._loss_weights[i] * loss
            gradients.append(self._converted(i, gradient))
        return total, gradients

    def _converted(self, i: int, gradient: Array) -> Array:
        """The gradient times the loss weight, in the net's dtype; FloatingPointError if it does not hold these numbers."""
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
        loss, gradient = floating(f"{name}: the returned loss", result[0]), _array(name, result[1])
        if gradient.shape != output.shape:
            raise ValueError(f"{name} returned a gradient of shape {gradient.shape}; it must have the shape of the outputs, {output.shape}")
        if not math.isfinite(loss):
            raise FloatingPointError(f"{name} returned the loss {loss}")
        if not np.isfinite(gradient).all():
            raise FloatingPointError(f"{name} returned a gradient that is not finite")
        return loss, gradient


def _array(name: str, gradient: Any) -> Array:
    if isinstance(gradient, np.ndarray) and gradient.dtype == object:
        raise TypeError(f"{name} returned a gradient of dtype object; it must be an array of real numbers")
    return as_array(gradient, f"{name}: the returned gradient")
