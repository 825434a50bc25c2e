"""Custom losses: functions f(outputs, targets, weight) -> (loss, gradient with respect to outputs) on ndarrays."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...core.backend import CoreTrainer
from ...core.checks import floating
from ...core.specs import Loss
from ...data.arrays import Array
from ...data.rows import Rows
from .gradients import OutputGradients
from .named_losses import NamedLosses

CustomLoss = Callable[[Any, Any, Any], tuple[float, Any]]


@dataclass(frozen=True)
class Joint:
    """One function for all outputs: it gets and returns lists. It is the loss of each output."""

    function: CustomLoss


def name_of(loss: object) -> str:
    """The name of a custom loss: of a function, or of the class of an object."""
    function = loss.function if isinstance(loss, Joint) else loss
    return str(getattr(function, "__name__", type(function).__name__))


class CustomLosses:
    """The losses of a trainer, of which some are Python functions: called between the backend's forward and backward pass.

    losses: one per output. named: computes the losses that have names; None: there are none.
    """

    def __init__(
        self,
        core: CoreTrainer,
        losses: Sequence[Loss | CustomLoss | Joint | None],
        loss_weights: Sequence[float],
        named: NamedLosses | None,
        reader: OutputGradients,
    ) -> None:
        self._core, self._loss_weights, self._named, self._reader = core, loss_weights, named, reader
        self._joint = losses[0].function if isinstance(losses[0], Joint) else None
        self._functions = [(i, loss, name_of(loss)) for i, loss in enumerate(losses) if callable(loss)]
        self.reset()

    def reset(self) -> None:
        """Forgets the losses of the last call."""
        self.output_losses = [math.nan] * len(self._loss_weights)  # before their loss weights; of the last call that succeeded
        self._now = self.output_losses

    def backward(self, rows: Rows, accumulate: bool = False, input_grads: bool = False) -> float:
        """Computes the backend's gradients; returns the loss."""
        return self._kept(self._core.step_with(rows.x, lambda outputs: self._call(outputs, rows), accumulate, input_grads, update=False))

    def iterate(self, rows: Rows, same: bool) -> float:
        """Does an iteration of a solver; returns the loss after it. same: the rows are those of the iteration before, unchanged."""
        return self._kept(self._core.iterate_with(rows.x, lambda outputs: self._call(outputs, rows), same))

    def step(self, rows: Rows) -> float:
        """Does a training step; returns the loss before the update."""
        return self._kept(self._core.step_with(rows.x, lambda outputs: self._call(outputs, rows)))

    def evaluate(self, outputs: list[Array], rows: Rows) -> float:
        """The loss of these outputs. The caller holds the network."""
        with self._core.net.guest():
            return self._kept(self._call(outputs, rows, has_gradients=False)[0])

    def _kept(self, loss: float) -> float:
        self.output_losses = self._now
        return loss

    def _call(self, outputs: Sequence[Any], rows: Rows, has_gradients: bool = True) -> tuple[float, list[Any]]:
        """The loss, and its gradients with respect to the outputs, which are those of the functions alone without has_gradients."""
        if self._joint is not None:
            return self._call_joint(self._joint, [np.asarray(output) for output in outputs], rows)
        total: float = 0.0
        gradients: list[Any] = [None] * len(outputs)
        self._now = [math.nan] * len(outputs)
        if self._named is not None:
            total, gradients = self._named.of(outputs, rows, has_gradients)
            self._now = self._named.output_losses
        for i, function, name in self._functions:
            output = np.asarray(outputs[i])
            weight = None if rows.weight is None else rows.weight_of(i)
            is_read, is_there = self._loss_weights[i] != 0, weight is None or weight.any()
            if not (is_read and is_there):
                gradients[i] = np.zeros_like(output)
                self._now[i] = 0.0 if is_read else math.nan
                continue
            self._now[i], gradient = _pair(name, function(output, rows.ys[i], weight))
            total += self._loss_weights[i] * self._now[i]
            gradients[i] = self._reader.one(name, i, gradient, len(output))
        return total, gradients

    def _call_joint(self, function: CustomLoss, outputs: list[Array], rows: Rows) -> tuple[float, list[Array]]:
        targets = None if all(target is None for target in rows.ys) else list(rows.ys)
        name = name_of(function)
        loss, gradients = _pair(name, function(list(outputs), targets, rows.weight))
        return loss, self._reader.all(name, gradients, len(outputs[0]))


def _pair(name: str, result: Any) -> tuple[float, Any]:
    """The loss, checked, and the gradient, not checked, that a function has returned."""
    if not (isinstance(result, tuple) and len(result) == 2):
        raise TypeError(f"{name} must return (loss, gradient with respect to outputs), not {type(result).__name__}")
    loss = result[0] if type(result[0]) is float else floating(f"{name}: the returned loss", result[0])
    if not math.isfinite(loss):
        raise FloatingPointError(f"{name} returned the loss {loss}")
    return loss, result[1]
