"""Layers, as users write them: settings, and the words of graph text that say them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from ..core.checks import or_none, real, whole_number
from ..core.specs import ActivationName, Formula, Init, InitName, Spec
from ..core.text import number
from ..data.arrays import Array, as_array
from .nodes import Layer, Node

_NAME = re.compile(r"[A-Za-z0-9_-]{1,63}")
_positive, _at_least_0, _below_1, _up_to_1 = map(real, ("(0,inf)", "[0,inf)", "[0,1)", "[0,1]"))


def layer_settings(what: str, **given: float | None) -> dict[str, float]:
    """Those of a layer's lr, l1, l2 and max_norm that are not None, checked."""
    return {key: _at_least_0(f"{what}: {key}", value) for key, value in given.items() if value is not None}


def _text(**settings: float | None) -> str:
    """Settings in graph text, without those that are None."""
    return " ".join(f"{key}={number(value)}" for key, value in settings.items() if value is not None)


class Activation(Spec, Layer):
    """An activation function with parameters: an argument of bp.Dense, or a layer of its own. The name alone takes the defaults.

    The list below has every activation with its parameters and their defaults. In it, z is what the layer computes before, for each unit
    by itself. Derivatives at a kink are PyTorch's: 0 for relu, slope for leaky_relu. ValueError names an activation or a parameter that
    is not in the list, and a value outside of its range.

    >>> x = bp.Input(2)
    >>> bp.Network(x, bp.Activation("leaky_relu", slope=0.2)(x), dtype="float64").predict([-10.0, 10.0])
    array([-2., 10.])
    """

    kind = operation = "activation"

    def __init__(self, name: ActivationName, **parameters: float) -> None:
        super().__init__(name, **parameters)

    def _unknown(self, name: str, rows: dict[str, Formula]) -> ValueError:
        if name == "softmax":
            return ValueError(
                'softmax is not an activation of a layer but the output activation of the loss "cross_entropy": end the network in '
                'bp.Dense(classes), train with bp.Trainer(net, loss="cross_entropy"), and read probabilities from '
                "net.predict(X)"
            )
        return super()._unknown(name, rows)


class TrainedLayer(Layer):
    """A layer with parameters. Called twice, it is used twice with the same ones.

    name: 1 to 63 letters, digits, _ or -, unique in the network; None: the operation and a number, such as dense_0.
    """

    def __init__(self, name: str | None, lr: float) -> None:
        what = type(self).__name__
        if name is not None and not _NAME.fullmatch(name):
            raise ValueError(f"{what}: name {name!r} must be 1 to 63 letters, digits, _ or -")
        self.name = name
        self.lr: float = _at_least_0(f"{what}: lr", lr)


class Dense(TrainedLayer):
    """A layer of `units` outputs: activation(x W' + b). Called twice, it is used twice with the same weights.

    units: how many numbers per row it makes.
    activation: a name, such as "relu", or a bp.Activation with parameters; help(bp.Activation) lists them.
    init: how the weights begin: "auto" (what suits the activation), a name, a bp.Init, or an array of shape (units, inputs).
    bias: whether there is a b. It begins at 0.
    name: of its tensors, "name.weight" and "name.bias", and in `net.layers`; None: dense_0, dense_1, ... by first use in the network.
    lr: the optimizer's learning rate is multiplied by this, for weight and bias.
    l1, l2: the penalty l1 |w|_1 + l2 / 2 |w|_2^2 of the weights (not of the bias). It is part of the gradients, but not of the losses
    that are reported.
    max_norm: after each update, the incoming weights of each unit are scaled down to this Euclidean norm if theirs is larger
    (Srivastava et al. 2014, section 5.1); None or 0: no limit.

    >>> x = bp.Input(64)
    >>> layer = bp.Dense(8, activation="relu", l2=1e-4)
    >>> layer
    Dense(8, activation='relu', l2=0.0001)
    >>> layer(x).width
    8
    """

    operation = "dense"

    def __init__(
        self,
        units: int,
        activation: ActivationName | Activation = "identity",
        init: Literal["auto"] | InitName | Init | Array | Sequence[Sequence[float]] = "auto",
        bias: bool = True,
        name: str | None = None,
        *,
        lr: float = 1.0,
        l1: float = 0.0,
        l2: float = 0.0,
        max_norm: float | None = None,
    ) -> None:
        super().__init__(name, lr)
        self.units = whole_number(units, "Dense: units")
        self.activation = Activation.parse(activation).text
        self.array: Array | None = None  # what `init` gives, if that is an array
        self.init = self._parse_init(init)
        self.bias = bool(bias)
        self.l1, self.l2 = _at_least_0("Dense: l1", l1), _at_least_0("Dense: l2", l2)
        self.max_norm = or_none(_at_least_0)("Dense: max_norm", max_norm)

    def _parse_init(self, init: Any) -> str:
        if isinstance(init, str) and init == "auto":
            return "auto"
        if isinstance(init, str | Init):
            return Init.parse(init).text
        self.array = np.array(as_array(init, "Dense: init"), dtype=np.float64)
        if self.array.ndim != 2 or len(self.array) != self.units:
            raise ValueError(f"Dense: init has shape {self.array.shape}; it must be ({self.units}, inputs)")
        return "array"

    def _width_for(self, node: Node) -> int:
        return self.units

    @property
    def text(self) -> str:
        """Its settings in graph text."""
        settings = _text(lr=self.lr, l1=self.l1, l2=self.l2, max_norm=self.max_norm)
        return f"units={self.units} activation={self.activation} init={self.init} bias={int(self.bias)} {settings}"


class Dropout(Layer):
    """Sets elements to 0 by chance in training; does nothing in prediction and evaluation (Srivastava et al. 2014).

    rate: the probability that an element becomes 0. The others are divided by 1 - rate ("inverted" dropout, as PyTorch's).
    A mask depends only on the trainer's seed, the step, the node, the row and the column.

    >>> x = bp.Input(3)
    >>> bp.Network(x, bp.Dropout(0.5)(x)).predict([1.0, 2.0, 3.0])
    array([1., 2., 3.], dtype=float32)
    """

    operation = "dropout"

    def __init__(self, rate: float = 0.5) -> None:
        self.rate = _below_1("Dropout: rate", rate)

    @property
    def text(self) -> str:
        """Its settings in graph text."""
        return _text(rate=self.rate)


class GaussianNoise(Layer):
    """Adds normal noise in training; does nothing in prediction and evaluation.

    std: the standard deviation of the noise. It depends only on the trainer's seed, the step, the node, the row and the column.

    >>> x = bp.Input(3)
    >>> bp.Network(x, bp.GaussianNoise(std=0.2)(x)).predict([1.0, 2.0, 3.0])
    array([1., 2., 3.], dtype=float32)
    """

    operation = "noise"

    def __init__(self, std: float = 0.1) -> None:
        self.std = _at_least_0("GaussianNoise: std", std)

    @property
    def text(self) -> str:
        """Its settings in graph text."""
        return _text(std=self.std)


class BatchNorm(TrainedLayer):
    """Batch normalization, by the statistics of each column (Ioffe & Szegedy 2015, algorithm 1), as PyTorch's BatchNorm1d.

    y = gamma (x - mean) / sqrt(variance + eps) + beta. Called twice, it is used twice with the same gamma, beta and running statistics.
    In training the statistics are those of the batch's rows (at least 2, each counted once whatever its sample_weight), and each update
    moves the running ones by `momentum` towards them. In prediction and evaluation, and in training where the layer is frozen, the
    running ones count.
    lr: the optimizer's learning rate is multiplied by this, for gamma (tensor "name.weight", begins at 1) and beta ("name.bias", 0).

    >>> x = bp.Input(3)
    >>> net = bp.Network(x, bp.BatchNorm(name="norm")(x))
    >>> list(net.tensors)
    ['norm.weight', 'norm.bias', 'norm.running_mean', 'norm.running_var']
    """

    operation = "batch_norm"

    def __init__(self, momentum: float = 0.1, eps: float = 1e-5, name: str | None = None, lr: float = 1.0) -> None:
        super().__init__(name, lr)
        self.momentum = _up_to_1("BatchNorm: momentum", momentum)
        self.eps = _positive("BatchNorm: eps", eps)

    @property
    def text(self) -> str:
        """Its settings in graph text."""
        return _text(momentum=self.momentum, eps=self.eps, lr=self.lr)


class LayerNorm(TrainedLayer):
    """Layer normalization, by the statistics of each row (Ba, Kiros & Hinton 2016, equation 4), as PyTorch's LayerNorm.

    y = gamma (x - mean) / sqrt(variance + eps) + beta, over all features. Called twice, it is used twice with the same gamma and beta.
    lr: the optimizer's learning rate is multiplied by this, for gamma (tensor "name.weight", begins at 1) and beta ("name.bias", 0).

    >>> x = bp.Input(2)
    >>> bp.Network(x, bp.LayerNorm()(x)).predict([1.0, 3.0]).round(3)
    array([-1.,  1.], dtype=float32)
    """

    operation = "layer_norm"

    def __init__(self, eps: float = 1e-5, name: str | None = None, lr: float = 1.0) -> None:
        super().__init__(name, lr)
        self.eps = _positive("LayerNorm: eps", eps)

    @property
    def text(self) -> str:
        """Its settings in graph text."""
        return _text(eps=self.eps, lr=self.lr)
