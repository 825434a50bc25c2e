"""Engine: a backend's trainer with its losses, and all that its steps change. It knows rows and updates, and nothing of epochs."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from ...core import backend as backends
from ...core.specs import Loss, OptimizerSpec
from ...data.arrays import Array
from ...data.rows import Rows, Shape
from ...network.network import Network
from ...settings import optimizers
from ...settings.averages import Average
from .own_loss import OwnLoss, OwnLosses

LIMITS = ("clip_norm", "clip_layer_norm", "clip_value")


class Engine:
    """Trains `net` by `losses`, one per output, which losses.py has checked."""

    __slots__ = (
        "_core", "_own", "average", "averaging", "grads", "input_grads", "loss_weights", "losses", "net", "optimizer", "seed", "shape",
        "slots",
    )  # fmt: skip

    def __init__(
        self,
        net: Network,
        losses: tuple[Loss | OwnLoss, ...],
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
        self._core = backends.load(net.backend).Trainer(net._core, texts, list(loss_weights), optimizers.parse(optimizer).text, seed)
        functions = [loss for loss in losses if not isinstance(loss, Loss)]
        self._own = OwnLosses(self._core, functions, loss_weights, net.dtype) if functions else None
        self.shape = Shape(
            inputs=tuple(entry.width for entry in net.inputs),
            outputs=tuple(entry.width for entry in net.outputs),
            labels=tuple(loss is not None and loss.detail == "softmax" for loss in named),
            own=tuple(loss is None for loss in named),
        )
        if averaging is not None:
            self._core.set_average(*averaging.rule)
        for name, value in values.items():
            self._core.set(name, value)
        self.grads: Array = np.asarray(memoryview(self._core.grads))
        self.slots = MappingProxyType({name: np.asarray(memoryview(slot)) for name, slot in self._core.slots.items()})
        average = self._core.average
        self.average: Array | None = None if average is None else np.asarray(memoryview(average))
        self.input_grads: list[Array] | None = None  # of the last backward that was asked for them

    # ---- steps ----

    @property
    def has_own_losses(self) -> bool:
        """Whether the losses are functions of the caller's, which no single call of the backend can train an epoch with."""
        return self._own is not None

    @property
    def array_step(self) -> Callable[[Any, Any, Any], float]:
        """The backend's own step, from arrays as they are. It refuses those that it cannot read, and losses of the caller's own."""
        return self._core.step

    def step(self, rows: Rows) -> float:
        """Forward, backward, update; the loss before the update."""
        return self._own.step(rows) if self._own else self._core.step(rows.x, rows.y, rows.weight)

    def backward(
        self, rows: Rows, accumulate: bool = False, total: float | None = None, first_row: int = 0, input_grads: bool = False
    ) -> float:
        """Fills `grads` and changes no parameter; the loss. The arguments are those of Trainer.backward."""
        if total is not None and not 0 < total < math.inf:
            raise ValueError(f"backward: total must be positive and finite, not {total!r}")
        if self._own is None:
            loss = self._core.backward(rows.x, rows.y, rows.weight, accumulate, total or 0.0, first_row, input_grads)
        elif total is not None:
            raise ValueError("backward: total= has no meaning for a loss function of your own, which divides as it likes")
        else:
            loss = self._own.backward(rows, accumulate, input_grads)
        self.input_grads = [np.array(gradient) for gradient in self._core.input_grads()] if input_grads else None
        return loss

    def apply(self) -> None:
        """The optimizer's update from `grads` as they stand."""
        self._core.apply()

    def epoch(
        self, rows: Rows, order: Array, batch_size: int, rates: Array | None, stop: Callable[[], bool] | None = None
    ) -> tuple[float, int]:
        """A step for each `batch_size` rows of `order`, in one call of the backend. Not for losses of the caller's own.

        Returns the mean loss, and how many rows of `order` were trained.
        rates: the learning rate of each step, of which the last one used stays in `lr`; None: `lr`.
        stop: asked every 50 ms; True ends the epoch after a step.
        """
        first = self.steps
        stops = None if stop is None else lambda: self.steps > first and stop()
        try:
            loss = self._core.epoch(rows.x, rows.y, rows.weight, order, batch_size, rates, stops)
        except RuntimeError:  # another call is using the trainer: the steps since `first` are not of this one
            raise
        except BaseException as error:
            self._keep_rate(rates, self.steps - first + isinstance(error, FloatingPointError))  # a step that fails used its rate too
            raise
        self._keep_rate(rates, self.steps - first)
        return loss, min((self.steps - first) * batch_size, len(order))

    def _keep_rate(self, rates: Array | None, used: int) -> None:
        if rates is not None and used:
            self.lr = rates[used - 1]

    # ---- looking ----

    def evaluate(self, rows: Rows) -> float:
        """The loss in inference; changes nothing."""
        if self._own is None:
            return self._core.evaluate(rows.x, rows.y, rows.weight)
        outputs = self.net.predict(rows.x, raw=True)
        return self._own.evaluate(outputs if isinstance(outputs, list) else [outputs], rows)

    def check_batch(self, rows: Rows) -> None:
        """Refuses a number of rows that training cannot have: batch_norm needs two."""
        self._core.forward(rows.x)

    def check_targets(self, rows: Rows, chosen: Array) -> None:
        """Refuses targets of the chosen rows that a step would refuse. It computes the losses of outputs that are 0, and so not the net."""
        if self._own is not None:
            return
        module, widths, count = backends.load(self.net.backend), self.shape.outputs, len(chosen)
        text = "".join([*(f"input {width}\n" for width in widths), *(f"output {i}\n" for i in range(len(widths)))])
        outputs = [np.zeros((count, width), self.net.dtype) for width in widths]
        targets = Rows(outputs, [y[chosen] for y in rows.ys], None if rows.weight is None else rows.weight[chosen], count)
        losses: list[str | None] = [loss.text for loss in self.losses if isinstance(loss, Loss)]
        twin = module.Trainer(module.Net(text, str(self.net.dtype)), losses, list(self.loss_weights), "sgd", 0)
        twin.evaluate(targets.x, targets.y, targets.weight)

    def loss_and_gradient(self, params: Array, rows: Rows) -> tuple[float, Array]:
        """What training makes smaller, the loss in training and the layers' penalties, at these parameters; and its gradient, in `grads`.

        The net keeps its own parameters. Without an update in between, dropout and noise are the same each time.
        """
        before = self.net.params.copy()
        self.net.params[...] = params
        try:
            return self.backward(rows) + _penalty(self.net), self.grads
        finally:
            self.net.params[...] = before

    def permutation(self, purpose: int, instance: int, count: int) -> Array:
        """The numbers 0 to count - 1 in an order that the seed decides; purpose: backend.SHUFFLE or backend.SPLIT."""
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
    def steps(self) -> int:
        """The updates so far."""
        return self._core.steps

    @steps.setter
    def steps(self, value: int) -> None:
        self._core.steps = value

    @property
    def limits(self) -> dict[str, float | None]:
        """The limits of the gradients that the optimizer sees."""
        return {name: self.limit(name) for name in LIMITS}

    def limit(self, name: str) -> float | None:
        """One of LIMITS; None: no limit."""
        value = self._core.get(name)
        return value if value < math.inf else None

    def set_limit(self, name: str, limit: float | None) -> None:
        """Sets one of LIMITS."""
        self._core.set(name, _limit(name, limit))

    @property
    def average_count(self) -> int:
        """Of how many states the average is."""
        return self._core.average_count

    def reset(self) -> None:
        """Gradients, optimizer state, average and steps as at the start; the network's parameters stay."""
        self._core.reset()
        self.input_grads = None

    def state(self) -> dict[str, Any]:
        """A copy of all that steps change, but for the network."""
        return {
            "lr": self.lr,
            "steps": self.steps,
            "losses": {name: self._core.get(name) for name in ("loss", "last_loss")},
            "grads": self.grads.copy(),
            "slots": {name: view.copy() for name, view in self.slots.items()},
            "average": None if self.average is None else self.average.copy(),
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Brings such a state back, bit by bit."""
        self.lr, self.steps = state["lr"], state["steps"]
        for name, loss in state["losses"].items():
            self._core.set(name, loss)
        self.grads[...] = state["grads"]
        for name, values in state["slots"].items():
            self.slots[name][...] = values
        if self.average is not None:
            self.average[...] = state["average"]

    def snapshot(self) -> dict[str, Any]:
        """A copy of all that steps change, the network's parameters and buffers included."""
        return self.state() | {"params": self.net.params.copy(), "buffers": self.net.buffers.copy()}

    def restore(self, snapshot: dict[str, Any]) -> None:
        """Brings a snapshot back, bit by bit."""
        self.set_state(snapshot)
        self.net.params[...] = snapshot["params"]
        self.net.buffers[...] = snapshot["buffers"]


def _limit(name: str, limit: float | None) -> float:
    """A limit as the backends keep it, infinite where there is none."""
    value = math.inf if limit is None else float(limit)
    if not value > 0:
        raise ValueError(f"{name} must be above 0, or None for no limit, not {limit!r}")
    return value


def _penalty(net: Network) -> float:
    """The layers' l1 and l2 penalties, whose gradient `backward` adds to that of the loss."""
    total = 0.0
    for layer in net.layers:
        weight = net.tensors[f"{layer.name}.weight"]
        total += float(layer.l1 * np.abs(weight).sum() + layer.l2 / 2 * (weight**2).sum())
    return total
