"""Layers: their settings, and how the settings are written in graph text."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from ..core.checks import flag, one_of, or_none, real, string, whole_number
from ..core.specs import ActivationName, Formula, Init, InitName, Spec
from ..core.text import brief, number
from ..data.arrays import Array, as_array
from .nodes import WIDTH_BITS, Ids, Layer, Node, check_node

_NAME = re.compile(r"[A-Za-z0-9_-]{1,63}")
_positive, _at_least_0, _below_1, _up_to_1 = map(real, ("(0,inf)", "[0,inf)", "[0,1)", "[0,1]"))


def layer_settings(what: str, **given: float | None) -> dict[str, float]:
    """The given settings (lr, l1, l2, max_norm, bias_lr) that are not None, checked."""
    return {key: _at_least_0(f"{what}: {key}", value) for key, value in given.items() if value is not None}


def _text(**settings: float | None) -> str:
    """Writes settings as graph text; omits those that are None."""
    return " ".join(f"{key}={number(value)}" for key, value in settings.items() if value is not None)


class Activation(Spec, Layer):
    """An activation function with parameters. It can be passed to bp.Dense, or used as a separate layer. A name without parameters uses the
    defaults.

    The list below has every activation, with its parameters and their defaults. Here z is the value before the activation; the function is
    applied element-wise. Derivatives at a kink are PyTorch's: 0 for relu, slope for leaky_relu.

    ValueError: unknown activations or parameters, and values out of range.

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
                'softmax is not a layer activation: end the network with bp.Dense(classes) and train it with loss="cross_entropy"; '
                "net.predict(X) then applies softmax"
            )
        return super()._unknown(name, rows)


class NamedLayer(Layer):
    """A layer with parameters or statistics. If it is called several times, the calls share them.

    name: 1 to 63 letters, digits, _ or -, unique in the network. None: the operation and a number, such as dense_0.
    """

    def __init__(self, name: str | None) -> None:
        if name is not None and not _NAME.fullmatch(string(f"{type(self).__name__}: name", name)):
            raise ValueError(f"{type(self).__name__}: name must be 1 to 63 letters, digits, _ or -, not {brief(name)}")
        self.name = name
        self.arrays: dict[str, Array] = {}  # initial values that are arrays, by the tensor's name, such as "weight"

    def _check_width(self, name: str, width: int) -> None:
        """ValueError if the arrays do not fit the first node, of this width, on which the layer is called."""


class TrainedLayer(NamedLayer):
    """A layer with parameters. lr: multiplies the optimizer's learning rate."""

    def __init__(self, name: str | None, lr: float) -> None:
        super().__init__(name)
        self.lr: float = _at_least_0(f"{type(self).__name__}: lr", lr)


class Dense(TrainedLayer):
    """A dense layer of `units` outputs: activation(x W' + b). A layer that is called several times shares W and b
    between the calls.

    units: the number of outputs.
    activation: a name, such as "relu", or a bp.Activation with parameters; help(bp.Activation) lists them.
    init: the initial weights: "auto" (depends on the activation), a name, a bp.Init, or an array of shape (units, inputs); help(bp.Init).
    bias: whether to add b.
    name: of its tensors, "name.weight" and "name.bias", and in `net.layers`. None: dense_0, dense_1, ..., in the order of their first use.
    lr: multiplies the optimizer's learning rate, for weight and bias.
    bias_lr: instead of lr, multiplies the learning rate for the bias. None: the same as lr.
    bias_init: the initial biases: "auto" (depends on the activation; zeros if init is not "auto"), a name, a bp.Init, or an array of shape
    (units,).
    l1, l2: the penalty l1 |w|_1 + l2 / 2 |w|_2^2 of the weights (not of the bias). It is part of the gradients, but not of the reported
    loss.
    max_norm: if the Euclidean norm of a unit's incoming weights exceeds max_norm after an update, they are scaled down to it (Srivastava
    et al. 2014, section 5.1). None or 0: no limit.

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
        bias_lr: float | None = None,
        bias_init: Literal["auto"] | InitName | Init | Array | Sequence[float] = "auto",
    ) -> None:
        super().__init__(name, lr)
        what = type(self).__name__
        self.units = whole_number(units, f"{what}: units", bits=WIDTH_BITS)
        self.activation = Activation.parse(activation).text
        self.init = self._parse_init(init, "init", "weight")
        self.bias = flag(f"{what}: bias", bias)
        self.bias_init = self._parse_init(bias_init, "bias_init", "bias")
        self.l1, self.l2 = _at_least_0(f"{what}: l1", l1), _at_least_0(f"{what}: l2", l2)
        self.max_norm = or_none(_at_least_0)(f"{what}: max_norm", max_norm)
        self.bias_lr = or_none(_at_least_0)(f"{what}: bias_lr", bias_lr)
        if not self.bias:
            self._check_no_bias()

    def _parse_init(self, init: Any, what: str, tensor: str) -> str:
        if isinstance(init, str) and init.strip() == "auto":
            return "auto"
        if isinstance(init, str | Init):
            return Init.parse(init).text
        array = np.array(as_array(init, f"{type(self).__name__}: {what}"), dtype=np.float64)
        if array.shape[:1] != (self.units,) or array.ndim != (2 if tensor == "weight" else 1):
            shape = f"({self.units}, inputs)" if tensor == "weight" else f"({self.units},)"
            raise ValueError(f"{type(self).__name__}: {what} must have shape {shape}, not {array.shape}")
        self.arrays[tensor] = array
        return "array"

    def _check_no_bias(self) -> None:
        """A layer without a bias must not have settings of it."""
        for key, value, none in (("bias_init", self.bias_init, "auto"), ("bias_lr", self.bias_lr, None)):
            if value != none:
                raise ValueError(f"{type(self).__name__}: bias is False, so {key} has no effect: leave {key} out, or set bias=True")

    def _check_width(self, name: str, width: int) -> None:
        """ValueError if init is an array for another width."""
        if "weight" in self.arrays and self.arrays["weight"].shape[1] != width:
            raise ValueError(f"layer {name!r}: init must have shape ({self.units}, {width}), not {self.arrays['weight'].shape}")

    def _width_for(self, node: Node) -> int:
        return self.units

    @property
    def text(self) -> str:
        """The settings of this layer as graph text."""
        settings = _text(lr=self.lr, l1=self.l1, l2=self.l2, max_norm=self.max_norm, bias_lr=self.bias_lr)
        bias = int(self.bias) if self.bias_init == "auto" else f"1 bias_init={self.bias_init}"
        return f"units={self.units} activation={self.activation} init={self.init} bias={bias} {settings}"


class Embedding(TrainedLayer):
    """A table with a row of `units` trained numbers for each of `levels` ids. Called on a bp.Ids node, it gives the rows that the ids name.
    Calls on several nodes share the table.

    levels: those of the bp.Ids node. units: the length of a row.
    combine: "concat": the rows of a row's ids side by side, columns * units numbers. "sum": their sum, in the order of the columns.
    max_norm: after each update, the rows that its batch named are scaled down to this Euclidean norm if theirs is larger. None or 0: no
    limit. (torch.nn.Embedding does so in forward, before a row is used.) Refused for optimizers that move rows without a gradient
    (momentum, Ftrl).
    init: the initial table: "auto" is "normal", a standard deviation of 0.05; a name, a bp.Init, or an array of shape (levels, units). For
    initializers that depend on the number of inputs, it is 1, so "lecun_normal" is PyTorch's standard deviation of 1.
    name: of its tensor, "name.weight" of shape (levels, units), and in `net.layers`. None: embedding_0, embedding_1, ...
    lr: multiplies the optimizer's learning rate.

    A step reads and changes only the rows that its batch names: see `Trainer.sparse_grads`. On another node, of `levels` columns, such as a
    bp.Input that gets sparse rows, it is bp.Dense without bias: the sum of rows, times the values of X.

    >>> places = bp.Ids(2, levels=100)
    >>> layer = bp.Embedding(100, 8, combine="sum")
    >>> layer
    Embedding(100, 8, combine='sum')
    >>> net = bp.Network(places, bp.Dense(1)(layer(places)), seed=0)
    >>> net.tensors["embedding_0.weight"].shape
    (100, 8)
    >>> net.predict([[3, 99], [99, 3]]).shape
    (2, 1)
    """

    operation = "embedding"

    def __init__(
        self,
        levels: int,
        units: int,
        *,
        combine: Literal["concat", "sum"] = "concat",
        max_norm: float | None = None,
        init: Literal["auto"] | InitName | Init | Array | Sequence[Sequence[float]] = "auto",
        name: str | None = None,
        lr: float = 1.0,
    ) -> None:
        super().__init__(name, lr)
        self.levels = whole_number(levels, "Embedding: levels", bits=WIDTH_BITS)
        self.units = whole_number(units, "Embedding: units", bits=WIDTH_BITS)
        self.combine = one_of("concat", "sum")("Embedding: combine", combine)
        self.max_norm = or_none(_at_least_0)("Embedding: max_norm", max_norm)
        self.init = self._parse_init(init)

    def _parse_init(self, init: Any) -> str:
        if isinstance(init, str | Init):
            return "auto" if isinstance(init, str) and init.strip() == "auto" else Init.parse(init).text
        array = np.array(as_array(init, "Embedding: init"), dtype=np.float64)
        if array.shape != (self.levels, self.units):
            raise ValueError(f"Embedding: init must have shape ({self.levels}, {self.units}), not {array.shape}")
        self.arrays["weight"] = array
        return "array"

    def __call__(self, node: Node) -> Node:
        """A new node: the rows of the table that the ids of `node` name."""
        if isinstance(node, Ids):
            levels, noun, columns = node.levels, "levels", node.width if self.combine == "concat" else 1
        else:
            levels, noun, columns = check_node(node, "Embedding").width, "columns", 1
        if levels != self.levels:
            raise ValueError(f"Embedding has {self.levels} levels, but its node has {levels} {noun}: they must be equal")
        return Node(self.operation, (node,), self.units * columns, self, self._grid_for(node))

    @property
    def text(self) -> str:
        """The settings of this layer as graph text."""
        return f"units={self.units} combine={self.combine} init={self.init} {_text(lr=self.lr, max_norm=self.max_norm)}"


class Dropout(Layer):
    """Sets random elements to 0 in training; does nothing in prediction and evaluation (Srivastava et al. 2014).

    rate: the probability that an element becomes 0. The others are divided by 1 - rate ("inverted" dropout, as in PyTorch).
    Whether an element is dropped depends only on the trainer's seed, the step, the node, the row and the column.

    >>> x = bp.Input(3)
    >>> bp.Network(x, bp.Dropout(0.5)(x)).predict([1.0, 2.0, 3.0])
    array([1., 2., 3.], dtype=float32)
    """

    operation = "dropout"

    def __init__(self, rate: float = 0.5) -> None:
        self.rate = _below_1("Dropout: rate", rate)

    @property
    def text(self) -> str:
        """The settings of this layer as graph text."""
        return _text(rate=self.rate)


class GaussianNoise(Layer):
    """Adds normal noise in training; does nothing in prediction and evaluation.

    std: the standard deviation. The noise depends only on the trainer's seed, the step, the node, the row and the column.

    >>> x = bp.Input(3)
    >>> bp.Network(x, bp.GaussianNoise(std=0.2)(x)).predict([1.0, 2.0, 3.0])
    array([1., 2., 3.], dtype=float32)
    """

    operation = "noise"

    def __init__(self, std: float = 0.1) -> None:
        self.std = _at_least_0("GaussianNoise: std", std)

    @property
    def text(self) -> str:
        """The settings of this layer as graph text."""
        return _text(std=self.std)


class BatchNorm(TrainedLayer):
    """Batch normalization, with the statistics of each column (Ioffe & Szegedy 2015, algorithm 1), as PyTorch's BatchNorm1d.

    y = gamma (x - mean) / sqrt(variance + eps) + beta. A layer that is called several times shares gamma, beta and the running statistics
    between the calls. In training, mean and variance are those of the batch, which needs at least 2 rows; sample_weight is ignored. Each
    update computes running = (1 - momentum) x running + momentum x batch, for the mean and the unbiased variance. Prediction and evaluation
    use the running statistics, and so does training while the layer is frozen.
    lr: multiplies the optimizer's learning rate, for gamma (tensor "name.weight", starts at 1) and beta ("name.bias", starts at 0).

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
        """The settings of this layer as graph text."""
        return _text(momentum=self.momentum, eps=self.eps, lr=self.lr)


class LayerNorm(TrainedLayer):
    """Layer normalization, with the statistics of each row (Ba, Kiros & Hinton 2016, equation 4), as PyTorch's LayerNorm.

    y = gamma (x - mean) / sqrt(variance + eps) + beta, over all features. A layer that is called several times shares gamma and beta
    between the calls.
    lr: multiplies the optimizer's learning rate, for gamma (tensor "name.weight", starts at 1) and beta ("name.bias", starts at 0).

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
        """The settings of this layer as graph text."""
        return _text(eps=self.eps, lr=self.lr)


class Standardize(NamedLayer):
    """(x - mean) / std for each column: data on any scale become numbers around 0 with a standard deviation of 1.

    mean and std are buffers of the network, "name.mean" and "name.std" in `net.tensors`, 0 and 1 at first. `fit` and `epochs` set them
    before their first epoch if they are still 0 and 1, from the rows that they train on. Loops of your own with `step` or `forward` do not:
    call `net.standardize(X)` first, which sets them at any time. They are saved with the network, so predictions take data as they are, in
    C too. A column without differences gets std 1. A layer that is called several times has the statistics of its first use.
    name: 1 to 63 letters, digits, _ or -, unique in the network. None: standardize_0, standardize_1, ..., in the order of their first use.

    >>> x = bp.Input(2)
    >>> net = bp.Network(x, bp.Standardize(name="scaled")(x), dtype="float64")
    >>> net.standardize([[1, 100], [3, 300]])
    >>> net.predict([[1, 200], [3, 500]])
    array([[-1.,  0.],
           [ 1.,  3.]])
    """

    operation = "standardize"

    def __init__(self, name: str | None = None) -> None:
        super().__init__(name)

    @property
    def text(self) -> str:
        """The settings of this layer as graph text."""
        return ""


class Scale(TrainedLayer):
    """A trainable factor and a trainable addend of each column: y = x gain + bias. A layer that is called several times shares both between
    the calls.

    gain: whether there is a factor (tensor "name.weight", shape (columns,), starts at 1).
    bias: whether there is an addend (tensor "name.bias", shape (columns,), starts at 0). One of the two must be there.
    name: of its tensors, and in `net.layers`. None: scale_0, scale_1, ..., in the order of their first use.
    lr: multiplies the optimizer's learning rate. Holzmueller, Grinsztajn & Steinwart 2024 (RealMLP) scale the inputs with lr=6.

    >>> x = bp.Input(2)
    >>> net = bp.Network(x, bp.Scale(name="scale", lr=6)(x))
    >>> net.tensors["scale.weight"][:] = [10, -1]
    >>> net.predict([1.0, 2.0])
    array([10., -2.], dtype=float32)
    """

    operation = "scale"

    def __init__(self, gain: bool = True, bias: bool = True, name: str | None = None, *, lr: float = 1.0) -> None:
        super().__init__(name, lr)
        self.gain, self.bias = flag("Scale: gain", gain), flag("Scale: bias", bias)
        if not gain and not bias:
            raise ValueError("Scale: gain and bias are both False, but one of them must be True")

    @property
    def text(self) -> str:
        """The settings of this layer as graph text."""
        return f"gain={int(self.gain)} bias={int(self.bias)} {_text(lr=self.lr)}"
