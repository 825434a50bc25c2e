"""Gradients against central differences of the loss and the layers' penalties, on a float64 copy of the network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from . import backend as backends
from .arrays import Array
from .network import Network
from .rows import Rows

if TYPE_CHECKING:
    from .trainer import Trainer

_ALL = 2000  # parameters up to which each is checked
_SAMPLE = 500
_STEP = np.finfo(np.float64).eps ** (1 / 3)  # balances the truncation and the rounding of a central difference


@dataclass(frozen=True)
class GradientCheck:
    """The worst parameter that was checked.

    error = what the rounding of the losses does not explain of |analytic - numeric|, over max(|analytic|, |numeric|, largest
    |analytic| / 1000); below 1e-6 is right, above 1e-3 is wrong, and between them a kink (relu at 0) may lie within the difference.
    """

    error: float
    tensor: str
    index: tuple[int, ...]
    numeric: float
    analytic: float
    checked: int

    def __str__(self) -> str:
        place = f"{self.tensor}[{', '.join(map(str, self.index))}]"
        return (
            f"gradient error {self.error:.2g} at {place}: analytic {self.analytic:.9g}, numeric {self.numeric:.9g} ({self.checked} checked)"
        )


def check(trainer: Trainer, rows: Rows) -> GradientCheck:
    """Compares backward with differences of its loss, which is that of training: the masks of dropout are the same each time."""
    twin = _twin(trainer)
    loss = twin.backward(rows.x, rows.y, rows.weight)
    places = _places(trainer.net)
    analytic = twin.grads[places].copy()
    numeric = np.array([_difference(twin, rows, place) for place in places])
    floor = max(np.abs(analytic).max() / 1000, np.finfo(np.float64).tiny)
    objective = abs(loss) + _penalty(twin.net)
    rounding = 2 * np.finfo(np.float64).eps * objective / _STEP  # half a unit in the last place of each of two, and as much again
    error = np.maximum(np.abs(analytic - numeric) - rounding, 0) / np.maximum(np.maximum(np.abs(analytic), np.abs(numeric)), floor)
    worst = int(error.argmax())
    tensor, index = _name(twin.net, int(places[worst]))
    return GradientCheck(float(error[worst]), tensor, index, float(numeric[worst]), float(analytic[worst]), len(places))


def _twin(trainer: Trainer) -> Trainer:
    net = trainer.net
    core = backends.load(net.backend).Net(net.text(), "float64", net.seed)
    copy = Network._from(core, net.backend, {}, net.n_threads)
    copy.params[...] = net.params
    copy.buffers[...] = net.buffers
    with copy._without_activations():
        return type(trainer)(copy, list(trainer.losses), "sgd", trainer.loss_weights, trainer.seed)


def _difference(twin: Trainer, rows: Rows, place: int) -> float:
    params = twin.net.params
    value = params[place]
    step = _STEP * max(1.0, abs(value))
    losses = []
    for moved in (value + step, value - step):
        params[place] = moved
        losses.append(twin.backward(rows.x, rows.y, rows.weight) + _penalty(twin.net))
    params[place] = value
    return float((losses[0] - losses[1]) / ((value + step) - (value - step)))


def _penalty(net: Network) -> float:
    """What the gradients have beside the loss."""
    total = 0.0
    for layer in net.layers:
        weight = net.tensors[f"{layer.name}.weight"]
        total += float(layer.l1 * np.abs(weight).sum() + layer.l2 / 2 * (weight**2).sum())
    return total


def _places(net: Network) -> Array:
    """The positions to check: all that train, or the first of every tensor and a random sample."""
    frozen = {layer.name for layer in net.layers if layer.frozen}
    runs = [
        np.arange(offset, offset + inputs * outputs) for layer, _, offset, inputs, outputs in net._core.tensors() if layer not in frozen
    ]
    if not runs:
        raise ValueError("check_gradients: every layer is frozen, so there is no gradient to check")
    trained = np.concatenate(runs)
    if len(trained) <= _ALL:
        return trained
    order = np.asarray(backends.load(net.backend).permutation(net.seed, 5, 0, len(trained)))
    return np.union1d(trained[order[:_SAMPLE]], [run[0] for run in runs])


def _name(net: Network, place: int) -> tuple[str, tuple[int, ...]]:
    for layer, name, offset, inputs, outputs in net._core.tensors():
        if offset <= place < offset + inputs * outputs:
            row, column = divmod(place - offset, outputs)
            return f"{layer}.{name}", (column, row) if net.tensors[f"{layer}.{name}"].ndim == 2 else (column,)
    raise IndexError(place)
