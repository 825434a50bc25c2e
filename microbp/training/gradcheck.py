"""The gradient check: gradients compared with central differences of loss and penalties, on a float64 copy of the network."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..core import backend as backends
from ..core.text import counted
from ..data.arrays import Array
from ..data.rows import Rows
from ..network.network import Network
from .engine import losses as loss_reader
from .engine.engine import Engine

_ALL = 2000  # up to this many parameters, all are checked
_SAMPLE = 500  # of more parameters, this many drawn at random, and the first of each tensor
_STEP = np.finfo(np.float64).eps ** (1 / 3)  # balances truncation and rounding errors of a central difference


@dataclass(frozen=True)
class GradientCheck:
    """The result of `Trainer.check_gradients`: the parameter with the largest error. `print(check)` prints a sentence.

    error: (|analytic - numeric| - rounding of the losses) / max(|analytic|, |numeric|, largest |analytic| / 1000). Below 1e-6 the
    gradient is right, above 1e-3 it is wrong. In between, the two points of a difference may be on different sides of a kink (relu at 0).
    tensor, index: the parameter is `net.tensors[tensor][index]`. analytic: its derivative from the backward pass. numeric: its derivative
    from differences. checked: the number of parameters checked.

    >>> t = bp.Trainer(bp.mlp([2, 3, 1], activation="tanh", seed=0), loss="mse")
    >>> check = t.check_gradients(np.ones((4, 2)), np.zeros(4))
    >>> check.error < 1e-6, check.checked
    (True, 13)
    """

    error: float
    tensor: str
    index: tuple[int, ...]
    numeric: float
    analytic: float
    checked: int

    def __str__(self) -> str:
        if self.error == 0:
            return f"no gradient error found in {counted(self.checked, 'parameter')}"
        place = f"{self.tensor}[{', '.join(map(str, self.index))}]"
        return (
            f"gradient error {self.error:.2g} at {place}: analytic {self.analytic:.9g}, numeric {self.numeric:.9g} "
            f"({counted(self.checked, 'parameter')} checked)"
        )


def check(engine: Engine, rows: Rows) -> GradientCheck:
    """Compares the gradient of `backward` with central differences of the training loss. The dropout masks are fixed."""
    twin = _twin(engine)
    objective, gradient = twin.loss_and_gradient(twin.net.params, rows)
    places = _places(twin)
    analytic = gradient[places].copy()
    numeric = np.array([_difference(twin, rows, place) for place in places])
    floor = max(np.abs(analytic).max() / 1000, np.finfo(np.float64).tiny)
    rounding = 2 * np.finfo(np.float64).eps * abs(objective) / _STEP  # a bound for the rounding of the two losses, with a factor for safety
    error = np.maximum(np.abs(analytic - numeric) - rounding, 0) / np.maximum(np.maximum(np.abs(analytic), np.abs(numeric)), floor)
    worst = int(error.argmax())
    tensor, index = _name(twin.net, int(places[worst]))
    return GradientCheck(float(error[worst]), tensor, index, float(numeric[worst]), float(analytic[worst]), len(places))


def _twin(engine: Engine) -> Engine:
    net = engine.net
    core = backends.load(net.backend).Net(net.text(), "float64", net.seed)
    copy = Network._from(core, net.backend, {}, net.n_threads)
    for name, values in net.tensors.items():
        copy.tensors[name][...] = values
    with loss_reader.accepted(copy, engine.losses):
        twin = Engine(copy, engine.losses, "sgd", engine.loss_weights, engine.seed, penalty_per_row=engine.penalty_per_row)
    twin.set_numbers({"dropout": engine.numbers["dropout"]})
    return twin


def _difference(twin: Engine, rows: Rows, place: int) -> float:
    params = twin.net.params.copy()
    value = params[place]
    step = _STEP * max(1.0, abs(value))
    losses = []
    for moved in (value + step, value - step):
        params[place] = moved
        losses.append(twin.loss_and_gradient(params, rows)[0])
    return float((losses[0] - losses[1]) / ((value + step) - (value - step)))


def _places(engine: Engine) -> Array:
    """The indices of the parameters to check: all trainable ones, or a random sample and the first of every tensor."""
    net = engine.net
    frozen = {layer.name for layer in net.layers if layer.frozen}
    runs = [
        np.arange(offset, offset + inputs * outputs) for layer, _, offset, inputs, outputs in net._core.tensors() if layer not in frozen
    ]
    if not runs:
        raise ValueError("check_gradients: every layer is frozen, so there is no gradient to check")
    trained = np.concatenate(runs)
    if len(trained) <= _ALL:
        return trained
    order = engine.permutation(backends.SPLIT, 0, len(trained))
    return np.union1d(trained[order[:_SAMPLE]], [run[0] for run in runs])


def _name(net: Network, place: int) -> tuple[str, tuple[int, ...]]:
    for layer, name, offset, inputs, outputs in net._core.tensors():
        if offset <= place < offset + inputs * outputs:
            row, column = divmod(place - offset, outputs)
            return f"{layer}.{name}", (column, row) if net.tensors[f"{layer}.{name}"].ndim == 2 else (column,)
    raise IndexError(place)
