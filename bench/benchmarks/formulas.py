"""A benchmark for each activation, loss, output activation, initializer and optimizer of the installed library."""

from __future__ import annotations

import timeit
from collections.abc import Callable

import numpy as np

import microbp as bp
from microbp.core import _core

from .common import Name, names, normal

ROWS, WIDTH = 256, 256  # the elements of one pass: 64 Ki
ACTIVATION_OF = {name: detail for name, _, detail, _ in _core.formulas("loss")}  # the output activation that the loss implies


def elementwise(activation: Name) -> bp.Network:
    """A net that consists of one activation."""
    x = bp.Input(WIDTH)
    return bp.Network(x, bp.Activation(activation)(x), seed=0)


class Activations:
    """Forward, and forward with backward, of one node."""

    params = (names("activation"),)
    param_names = ("activation",)

    def setup(self, activation: Name) -> None:
        self.net = elementwise(activation)
        self.trainer = bp.Trainer(self.net, "half_sse")
        self.x = normal(ROWS, WIDTH)
        self.y = np.zeros_like(self.x)

    def time_forward(self, activation: Name) -> None:
        self.net.predict(self.x, raw=True)

    def time_forward_and_backward(self, activation: Name) -> None:
        self.trainer.backward(self.x, self.y, input_grads=True)


class Losses:
    """The loss of given outputs, and its derivative."""

    params = (names("loss"),)
    param_names = ("loss",)

    def setup(self, loss: Name) -> None:
        self.trainer = bp.Trainer(elementwise("identity"), loss)
        self.x = normal(ROWS, WIDTH)
        self.y = np.ones((ROWS, bp.Loss(loss).target_columns(WIDTH)), self.x.dtype)  # valid for every loss except those with labels
        if ACTIVATION_OF[loss] == "softmax":
            self.y = np.arange(ROWS) % WIDTH

    def time_value(self, loss: Name) -> None:
        self.trainer.evaluate(self.x, self.y)

    def time_value_and_derivative(self, loss: Name) -> None:
        self.trainer.backward(self.x, self.y, input_grads=True)


class OutputActivations:
    """Output activations: from raw outputs to probabilities and rates."""

    params = (names("output_activation"),)
    param_names = ("activation",)

    def setup(self, activation: Name) -> None:
        self.net = elementwise("identity")
        self.net.set_output(0, activation=activation)
        self.x = normal(ROWS, WIDTH)

    def time_predict(self, activation: Name) -> None:
        self.net.predict(self.x)


class Initializers:
    """New initial weights for a layer."""

    params = (names("initializer"),)
    param_names = ("initializer",)

    def setup(self, initializer: Name) -> None:
        x = bp.Input(WIDTH)
        init = normal(WIDTH, WIDTH) if initializer == "array" else initializer
        self.net = bp.Network(x, bp.Dense(WIDTH, init=init)(x), seed=0)

    def time_init(self, initializer: Name) -> None:
        self.net.init(seed=1)


# optimizer -> (divisions, square roots) per parameter; all others have (1, 1). Lamb computes its direction twice: first for the norm.
RPROP = ("rprop_minus", "irprop_minus", "irprop_plus")
OPERATIONS = dict.fromkeys(("sgd", "sgd_momentum", "sgd_nesterov", "momentum", "momentum_nesterov", "asgd", "lion", *RPROP), (0, 0))
OPERATIONS |= {"adamax": (1, 0), "ftrl": (1, 2), "lamb": (2, 2)}


def fastest(work: Callable[[], object], count: int) -> float:
    """Seconds of one call: the best of 7 runs of `count` calls."""
    return min(timeit.repeat(work, number=count, repeat=7)) / count


def trainer_of(optimizer: Name, parameters: int) -> bp.Trainer:
    """A trainer with gradients, ready for an update."""
    width = round(parameters**0.5)
    net = bp.mlp([width, width], seed=0, bias=False)
    assert len(net.params) == parameters
    trainer = bp.Trainer(net, "mse", optimizer)
    trainer.grads[:] = normal(parameters, 1)[:, 0]
    return trainer


class Optimizers:
    """Only the update, with parameters that fit into the first-level cache, into the last level, and into none."""

    params = (names("optimizer"), [1 << 10, 1 << 18, 1 << 22])
    param_names = ("optimizer", "parameters")

    def setup(self, optimizer: Name, parameters: int) -> None:
        self.trainer = trainer_of(optimizer, parameters)

    def track_update(self, optimizer: Name, parameters: int) -> float:
        """Nanoseconds per parameter."""
        return 1e9 * fastest(self.trainer.apply, max(1, 1_000_000 // parameters)) / parameters

    track_update.unit = "ns"  # type: ignore[attr-defined]


class OptimizerLimits:
    """The time of the update / the hardware's limit: the larger of the times for its memory traffic and for its divisions and roots, both
    measured with NumPy. p and g are read, p is written, each slot is read and written; divisions and roots are in the first-level cache."""

    params = (names("optimizer"), [1 << 18, 1 << 22])
    param_names = ("optimizer", "parameters")

    def setup(self, optimizer: Name, parameters: int) -> None:
        self.trainer = trainer_of(optimizer, parameters)

    def track_update_over_limit(self, optimizer: Name, parameters: int) -> float:
        p, g = np.ones(parameters, np.float32), np.ones(parameters, np.float32)
        near = np.linspace(0.5, 2, 2048, dtype=np.float32)
        result, count = np.empty_like(near), max(1, 1_000_000 // parameters)
        divisions, roots = OPERATIONS.get(optimizer, (1, 1))
        memory = fastest(lambda: np.add(p, g, out=p), count) + len(self.trainer.state) * fastest(lambda: np.negative(g, out=g), count)
        arithmetic = divisions * fastest(lambda: np.divide(near, near, out=result), 500)
        arithmetic += roots * fastest(lambda: np.sqrt(near, out=result), 500)
        limit = max(memory / parameters, arithmetic / near.size)
        return fastest(self.trainer.apply, count) / parameters / limit
