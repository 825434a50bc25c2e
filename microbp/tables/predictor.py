"""One network or several as one: predictions and the loss."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ..core.specs import Loss
from ..data.arrays import Array
from ..many.ensemble import Ensemble
from ..network.network import Network
from ..network.nodes import Input
from ..training.trainer import Trainer
from .parts import inputs

_TINY, _EPSILON = np.finfo(np.float64).tiny, np.finfo(np.float32).eps  # of float32, in which a probability near 1 becomes 1
_RAW: Mapping[str | None, Callable[[Array], Array]] = {  # raw outputs from predictions, by output activation
    "softmax": lambda p: np.log(np.maximum(p, _TINY)),
    "sigmoid": lambda p: np.log(np.maximum(p, _TINY)) - np.log(np.maximum(1 - p, _EPSILON)),
    "exp": lambda rate: np.log(np.maximum(rate, _TINY)),
}


class Predictor:
    """A network, or a bp.Ensemble, whose prediction is the mean of its networks.

    TypeError or ValueError: a network does not fit the loss.
    """

    def __init__(self, net: Network | Ensemble, loss: Loss) -> None:
        self.net = net
        self.loss = loss
        trainers = [Trainer(one, loss, "sgd") for one in ([net] if isinstance(net, Network) else net)]
        self._judge = trainers[0] if isinstance(net, Network) else _judge(net.outputs[0].width, loss)

    def predict(self, x: Array) -> Any:
        """What the outputs mean: probabilities, rates or scaled numbers."""
        return self.net.predict(inputs(self.net, x))

    def evaluate(self, x: Array, y: Array, weight: Array | None = None) -> float:
        """The loss: of several networks, that of their mean prediction."""
        if isinstance(self.net, Network):
            return self._judge.evaluate(inputs(self.net, x), y, weight)
        predicted = np.asarray(self.predict(x), np.float64)
        raw = _RAW.get(self.net.outputs[0].activation, np.asarray)(predicted)
        return self._judge.evaluate(raw, y, weight)


def _judge(outputs: int, loss: Loss) -> Trainer:
    """A trainer of a network that passes on what it gets. So it has the loss of given raw outputs."""
    raw = Input(outputs)
    return Trainer(Network(raw, raw, "float64"), loss, "sgd")
