"""Engine: a backend's trainer with its losses, and everything that steps change. It does updates and knows nothing about epochs."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import numpy as np

from ...core import backend as backends
from ...core.checks import flag, floating, whole_number
from ...core.specs import Loss, OptimizerSpec, table
from ...core.text import brief, counted
from ...data import faults
from ...data.arrays import Array, Views
from ...data.rows import Rows, Shape
from ...network.network import Network
from ...settings import optimizers
from ...settings.averages import Average
from .custom_loss import CustomLoss, CustomLosses

LIMITS = ("clip_norm", "clip_layer_norm", "clip_value")
# Parameters of optimizers that are not among `numbers`: lr has its own property; the others belong to all updates, as factors of a
# product over them or as the start of slots.
CONSTANT = ("lr", "decay_bias", "beta1", "beta2", "momentum_decay", "initial_accumulator_value")
_SMALLEST = float(np.finfo(np.float64).tiny)  # the backends treat smaller numbers as 0


class Engine:
    """Trains `net` with `losses`, one per output, which losses.py has checked."""

    __slots__ = (
        "_core", "_custom", "_losses_alone", "average", "averaging", "grads", "initial", "input_grads", "loss_weights", "losses", "net",
        "optimizer", "seed", "shape", "slots",
    )  # fmt: skip

    def __init__(
        self,
        net: Network,
        losses: tuple[Loss | CustomLoss, ...],
        optimizer: str | optimizers.Optimizer | OptimizerSpec,
        loss_weights: tuple[float, ...],
        seed: int,
        averaging: Average | None = None,
        limits: Mapping[str, float | None] = MappingProxyType({}),
    ) -> None:
        values = {name: _limit(name, limit) for name, limit in limits.items()}
        self.net, self.losses, self.optimizer, self.loss_weights = net, losses, optimizer, loss_weights
        self.seed, self.averaging = seed, averaging
        named = [loss if isinstance(loss, Loss) else None for loss in losses]
        texts = [loss.text if loss else None for loss in named]
        functions = [loss for loss in losses if not isinstance(loss, Loss)]
        with self.hold():  # so that no other thread's call makes the constructor fail when it has set the output activations
            self._core = backends.load(net.backend).Trainer(net._core, texts, list(loss_weights), optimizers.parse(optimizer).text, seed)
            if averaging is not None:
                self._core.set_average(*averaging.rule)
            for name, value in values.items():
                self._core.set(name, value)
        parameters = table("optimizer")[optimizers.parse(optimizer).name].parameters
        self.initial = {name: self._core.get(name) for name in ("dropout", *parameters) if name not in CONSTANT}  # of `numbers`
        self._custom = CustomLosses(self._core, functions, loss_weights, net.dtype) if functions else None
        self._losses_alone: backends.CoreTrainer | None = None  # for check_targets
        self.shape = Shape(
            inputs=tuple(entry.width for entry in net.inputs),
            outputs=tuple(entry.width for entry in net.outputs),
            labels=tuple(loss is not None and loss.detail == "softmax" for loss in named),
            own=tuple(loss is None for loss in named),
        )
        self.grads: Array = np.asarray(memoryview(self._core.grads))
        self.slots = Views({name: np.asarray(memoryview(slot)) for name, slot in self._core.slots.items()}, "t.state")
        average = self._core.average
        self.average: Array | None = None if average is None else np.asarray(memoryview(average))
        self.input_grads: list[Array] | None = None  # of the last backward(input_grads=True)

    # ---- one thread at a time ----

    def hold(self) -> AbstractContextManager[None]:
        """Holds the network for this thread. Calls of other threads that change it or its trainers are refused (RuntimeError)."""
        return self.net._core.hold()

    def training(self) -> AbstractContextManager[None]:
        """`hold` for a training: RuntimeError inside a function of the user that a training calls."""
        return self.net._core.hold(True)

    def guest(self) -> AbstractContextManager[None]:
        """Runs a function of the user while this thread trains: it may do everything with the network except training."""
        return self.net._core.guest()

    # ---- steps ----

    @property
    def has_custom_losses(self) -> bool:
        """Whether the losses are Python functions. The backend cannot train an epoch with them in one call."""
        return self._custom is not None

    @property
    def array_step(self) -> Callable[[Any, Any, Any], float]:
        """The backend's step, which takes arrays unchanged. It raises an error for arrays that it cannot read and for custom losses."""
        return self._core.step

    @property
    def array_evaluate(self) -> Callable[[Any, Any, Any], float]:
        """The same for `evaluate`."""
        return self._core.evaluate

    def step(self, rows: Rows) -> float:
        """Forward, backward, update. Returns the loss before the update."""
        if self._custom is None:
            return self._named(rows, self._core.step)
        return self._custom.step(rows.present())

    def backward(
        self, rows: Rows, accumulate: bool = False, total: float | None = None, first_row: int = 0, input_grads: bool = False
    ) -> float:
        """Computes `grads`, changes no parameter, and returns the loss. The arguments are those of Trainer.backward."""
        if not (accumulate is input_grads is False and total is None and type(first_row) is int and first_row == 0):
            accumulate, input_grads = flag("backward: accumulate", accumulate), flag("backward: input_grads", input_grads)
            total, first_row = self._part(rows, total, first_row)
        if self._custom is None and not input_grads and self.input_grads is None:
            return self._named(rows, self._core.backward, accumulate, total or 0.0, first_row)  # holds the network itself
        with self.training():
            if self._custom is None:
                loss = self._named(rows, self._core.backward, accumulate, total or 0.0, first_row, input_grads)
            else:
                loss = self._custom.backward(rows.present(), accumulate, input_grads)
            self.input_grads = self._read_input_grads(rows) if input_grads else None
            return loss

    def _part(self, rows: Rows, total: Any, first_row: Any) -> tuple[float | None, int]:
        """The checked arguments of `backward` that place a part in its batch."""
        first_row = whole_number(first_row, "backward: first_row", least=0)
        if first_row + rows.count >= 2**63:
            raise ValueError(f"backward: first_row + {counted(rows.count, 'row')} must be below 2**63, but first_row is {first_row}")
        if total is None:
            return None, first_row
        total = floating("backward: total", total)
        if not _SMALLEST <= total < math.inf:
            raise ValueError(f"backward: total must be finite and at least {_SMALLEST:.3g}, not {brief(total)}")
        if self._custom is not None:
            raise ValueError("backward: total= works with named losses only, because a custom loss does its own averaging")
        return total, first_row

    def _read_input_grads(self, rows: Rows) -> list[Array]:
        """The gradients with respect to the inputs of these rows: 0 for rows of weight 0."""
        if rows.count == 0:
            return [np.zeros((0, width), self.net.dtype) for width in self.shape.inputs]
        found = [np.array(gradient) for gradient in self._core.input_grads()]
        if self._custom is None or len(found[0]) == rows.count:
            return found
        # the backend got only the rows that are there
        spread = [np.zeros((rows.count, width), self.net.dtype) for width in self.shape.inputs]
        for array, gradient in zip(spread, found, strict=True):
            array[rows.active()] = gradient
        return spread

    def _named(self, rows: Rows, call: Callable[..., float], *arguments: Any, chosen: Array | None = None) -> float:
        """Calls the backend. If it refuses a target, the error names the first such row by its index in the caller's arrays.

        chosen: the indices of the rows to search for that target; None: all.
        """
        try:
            return call(rows.x, rows.y, rows.weight, *arguments)
        except ValueError as error:
            if found := faults.refused_target(str(error), rows, chosen, self.shape.outputs):
                raise ValueError(found) from None
            raise

    def apply(self) -> None:
        """Updates the parameters from the current `grads`."""
        self._core.apply()

    def epoch(
        self, rows: Rows, order: Array, batch_size: int, rates: Array | None, stop: Callable[[], bool] | None = None
    ) -> tuple[float, int]:
        """Does one step per batch of `batch_size` rows, in the order of `order`, in one call of the backend. Not for custom losses.

        Returns the mean loss, and the number of rows trained on.
        rates: the learning rate of each step (`lr` keeps the last); None: `lr` for all steps.
        stop: called every 50 ms; if it returns True, the epoch ends after a step.
        """
        with self.training():
            first = self.steps
            stops = None if stop is None else lambda: self.steps > first and stop()
            try:
                loss = self._named(rows, self._core.epoch, order, batch_size, rates, stops, chosen=order)
            except BaseException as error:
                self._keep_rate(rates, self.steps - first + isinstance(error, FloatingPointError))  # a failed step has used its rate too
                raise
            self._keep_rate(rates, self.steps - first)
            return loss, min((self.steps - first) * batch_size, len(order))

    def _keep_rate(self, rates: Array | None, used: int) -> None:
        if rates is not None and used:
            self.lr = rates[used - 1]

    # ---- evaluation and checks ----

    def evaluate(self, rows: Rows) -> float:
        """The loss without dropout and noise; changes nothing."""
        if self._custom is None:
            return self._named(rows, self._core.evaluate)
        rows = rows.present()
        with self.hold():
            outputs = self.net.predict(rows.x, raw=True)
            return self._custom.evaluate(outputs if isinstance(outputs, list) else [outputs], rows)

    def check_batch(self, rows: Rows) -> None:
        """Raises an error for too few rows to train on: batch_norm needs two."""
        self._core.forward(rows.x)

    def check_targets(self, rows: Rows, chosen: Array | None = None) -> None:
        """Raises an error for targets that a step would refuse, by computing the losses of zero outputs. The net does not run.

        chosen: the indices of the rows to check; None: all.
        """
        if self._custom is not None:
            return
        if self._losses_alone is None:
            self._losses_alone = self._without_net()
        if chosen is not None:
            rows = replace(rows, xs=[]).take(chosen)
        outputs = [np.zeros((rows.count, width), self.net.dtype) for width in self.shape.outputs]
        self._named(replace(rows, xs=outputs), self._losses_alone.evaluate)

    def _without_net(self) -> backends.CoreTrainer:
        """A trainer with the same losses, of a network whose inputs are its outputs."""
        module, widths = backends.load(self.net.backend), self.shape.outputs
        text = "".join([*(f"input {width}\n" for width in widths), *(f"output {i}\n" for i in range(len(widths)))])
        losses: list[str | None] = [loss.text for loss in self.losses if isinstance(loss, Loss)]
        return module.Trainer(module.Net(text, str(self.net.dtype)), losses, list(self.loss_weights), "sgd", 0)

    def loss_and_gradient(self, params: Array, rows: Rows) -> tuple[float, Array]:
        """Returns the training objective (loss in training mode plus the layers' penalties) at these parameters, and `grads`, its gradient.

        The net's parameters do not change, but predictions of other threads meanwhile use `params`. Dropout and noise are the same in each
        call until the next update.
        """
        with self.training():
            before, buffers = self.net.params.copy(), self.net.buffers
            self.net._core.assign(np.ascontiguousarray(params, dtype=self.net.dtype), buffers)
            try:
                return self.backward(rows) + _penalty(self.net), self.grads
            finally:
                self.net._core.assign(before, buffers)

    def permutation(self, purpose: int, instance: int, count: int) -> Array:
        """A permutation of 0 to count - 1, determined by the seed and the arguments. purpose: backend.SHUFFLE or backend.SPLIT."""
        return np.asarray(backends.load(self.net.backend).permutation(self.seed, purpose, instance, count))

    # ---- settings and state ----

    @property
    def lr(self) -> float:
        """The learning rate of the next update."""
        return self._core.get("lr")

    @lr.setter
    def lr(self, value: float) -> None:
        self._core.set("lr", value)

    @property
    def numbers(self) -> dict[str, float]:
        """The numbers besides lr that may change between updates: the factor of the dropout rates, and parameters of the optimizer."""
        return {name: self._core.get(name) for name in self.initial}

    def set_numbers(self, values: Mapping[str, float]) -> None:
        """Sets some of `numbers`. ValueError: one is out of range; none has changed."""
        with self.hold():
            before = self.numbers
            try:
                for name, value in values.items():
                    self._core.set(name, value)
            except ValueError:
                for name, value in before.items():
                    self._core.set(name, value)
                raise

    @property
    def accepts_lr_0(self) -> bool:
        """Whether the learning rate may be 0: Ftrl divides by it."""
        return not optimizers.parse(self.optimizer).text.startswith("ftrl")

    @property
    def steps(self) -> int:
        """The number of updates so far."""
        return self._core.steps

    @steps.setter
    def steps(self, value: int) -> None:
        self._core.steps = value

    @property
    def limits(self) -> dict[str, float | None]:
        """The limits for the gradients that the optimizer gets."""
        return {name: self.limit(name) for name in LIMITS}

    def limit(self, name: str) -> float | None:
        """The value of one of LIMITS; None: no limit."""
        value = self._core.get(name)
        return value if value < math.inf else None

    def set_limit(self, name: str, limit: float | None) -> None:
        """Sets one of LIMITS."""
        self._core.set(name, _limit(name, limit))

    @property
    def average_count(self) -> int:
        """The number of states in the average."""
        return self._core.average_count

    def reset(self) -> None:
        """Resets gradients, optimizer state, average and steps; the network's parameters stay."""
        with self.hold():
            self._core.reset()
            self.input_grads = None

    def state(self) -> dict[str, Any]:
        """A copy of everything that steps change, except the network."""
        with self.hold():
            return {
                "lr": self.lr,
                "numbers": self.numbers,
                "steps": self.steps,
                "losses": {name: self._core.get(name) for name in ("loss", "last_loss")},
                "grads": self.grads.copy(),
                "slots": {name: view.copy() for name, view in self.slots.items()},
                "average": None if self.average is None else self.average.copy(),
                "average_count": self.average_count,
            }

    def set_state(self, state: dict[str, Any]) -> None:
        """Restores a state, bit for bit."""
        with self.hold():
            self.set_numbers(state["numbers"])
            self.lr, self.steps = state["lr"], state["steps"]
            for name, loss in state["losses"].items():
                self._core.set(name, loss)
            self.grads[...] = state["grads"]
            for name, values in state["slots"].items():
                self.slots[name][...] = values
            if self.average is not None:
                self.average[...] = state["average"]
            self._core.set("average_count", state["average_count"])

    def snapshot(self) -> dict[str, Any]:
        """A copy of everything that steps change, including the network's parameters and buffers."""
        with self.hold():
            return self.state() | {"params": self.net.params.copy(), "buffers": self.net.buffers.copy()}

    def restore(self, snapshot: dict[str, Any]) -> None:
        """Restores a snapshot, bit for bit."""
        with self.hold():
            self.set_state(snapshot)
            self.net._core.assign(snapshot["params"], snapshot["buffers"])


def _limit(name: str, limit: float | None) -> float:
    """A limit as the backends store it: infinity means no limit."""
    value = math.inf if limit is None else floating(name, limit)
    if not value > 0:
        raise ValueError(f"{name} must be above 0, or None for no limit, not {brief(limit)}")
    return value


def _penalty(net: Network) -> float:
    """The layers' l1 and l2 penalties. `backward` adds their gradient to that of the loss."""
    total = 0.0
    for layer in net.layers:
        if layer.l1 or layer.l2:
            weight = net.tensors[f"{layer.name}.weight"]
            total += float(layer.l1 * np.abs(weight).sum() + layer.l2 / 2 * (weight**2).sum())
    return total
