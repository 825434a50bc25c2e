"""Nodes and layers, as users write them, and their graph text, from which both backends build the same network.

x = Input(64)
h = Dense(128, activation="relu")(x)
text, arrays = write([x], [Dense(10)(h)])
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from .arrays import as_array
from .checks import real, whole_number
from .specs import Formula, Init, Spec, number

_NAME = re.compile(r"[A-Za-z0-9_-]{1,63}")
_numbers = itertools.count()
_positive, _at_least_0, _below_1, _up_to_1 = map(real, ("(0,inf)", "[0,inf)", "[0,1)", "[0,1]"))


def layer_settings(what: str, **given: float | None) -> dict[str, float]:
    """Those of a layer's lr, l1, l2 and max_norm that are not None, checked."""
    return {key: _at_least_0(f"{what}: {key}", value) for key, value in given.items() if value is not None}


def _text(settings: dict[str, float]) -> str:
    """A layer's settings in graph text."""
    return "".join(f" {key}={number(value)}" for key, value in settings.items())


def _check_name(name: str | None, what: str) -> str | None:
    if name is not None and not _NAME.fullmatch(name):
        raise ValueError(f"{what}: name {name!r} must be 1 to 63 letters, digits, _ or -")
    return name


class Node:
    """A value in the graph, `width` numbers per row. Nodes are numbered as they are created; `+` and `*` are add and multiply."""

    __array_ufunc__ = None  # ndarray + node is then an error, and not an array of nodes

    def __init__(self, operation: str, operands: tuple[Node, ...], width: int, layer: Layer | None = None) -> None:
        self.operation = operation
        self.operands = operands
        self.width = width
        self.layer = layer
        self.number = next(_numbers)

    def __add__(self, other: Node) -> Node:
        return add(self, other) if isinstance(other, Node) else NotImplemented

    def __mul__(self, other: Node) -> Node:
        return multiply(self, other) if isinstance(other, Node) else NotImplemented

    def __repr__(self) -> str:
        operands = f" of {', '.join(str(node.number) for node in self.operands)}" if self.operands else ""
        return f"<node {self.number}: {self.operation}{operands}, width {self.width}>"


class Input(Node):
    """An input of `features` numbers per row."""

    def __init__(self, features: int) -> None:
        super().__init__("input", (), whole_number(features, "Input: features"))


class Activation(Spec):
    """An activation with parameters, as an argument of Dense, or as a layer: `Activation("leaky_relu", slope=0.2)(node)`."""

    kind = "activation"

    def __call__(self, node: Node) -> Node:
        return Node("activation", (_node(node, "Activation"),), node.width, self)

    def _unknown(self, name: str, rows: dict[str, Formula]) -> ValueError:
        if name == "softmax":
            return ValueError(
                'softmax is not an activation of a layer but the output activation of the loss "cross_entropy": end the network in '
                'bp.Dense(classes), train with bp.Trainer(net, loss="cross_entropy"), and read probabilities from '
                "net.predict(X, link=True)"
            )
        return super()._unknown(name, rows)


class Dense:
    """A layer of `units` outputs, activation(x W' + b). Called twice, it is used twice with the same weights.

    init: "auto" (what suits the activation), a name, an Init, or an array of shape (units, inputs). lr: factor of the optimizer's
    learning rate, for weight and bias. l1, l2: the penalty l1 |w|_1 + l2 / 2 |w|_2^2 of the weights (not of the bias), part of the
    gradients but not of the losses that are told. max_norm: after each update every unit's incoming weights are scaled back to at most
    this Euclidean norm (Srivastava et al. 2014, section 5.1); None or 0: none.
    """

    operation = "dense"

    def __init__(
        self,
        units: int,
        activation: str | Activation = "identity",
        init: str | Init | Any = "auto",
        bias: bool = True,
        name: str | None = None,
        *,
        lr: float = 1.0,
        l1: float = 0.0,
        l2: float = 0.0,
        max_norm: float | None = None,
    ) -> None:
        self.units = whole_number(units, "Dense: units")
        self.activation = Activation.parse(activation)
        self.array: np.ndarray[Any, Any] | None = None
        self.init = self._parse_init(init)
        self.bias = bool(bias)
        self.name = _check_name(name, "Dense")
        self.settings = layer_settings("Dense", lr=lr, l1=l1, l2=l2, max_norm=max_norm)

    def _parse_init(self, init: Any) -> str:
        if isinstance(init, str) and init == "auto":
            return "auto"
        if isinstance(init, str | Init):
            return Init.parse(init).text
        self.array = np.array(as_array(init, "Dense: init"), dtype=np.float64)
        if self.array.ndim != 2 or len(self.array) != self.units:
            raise ValueError(f"Dense: init has shape {self.array.shape}; it must be ({self.units}, inputs)")
        return "array"

    def __call__(self, node: Node) -> Node:
        return Node(self.operation, (_node(node, "Dense"),), self.units, self)

    @property
    def text(self) -> str:
        """Its settings in graph text."""
        return f"units={self.units} activation={self.activation.text} init={self.init} bias={int(self.bias)}{_text(self.settings)}"

    def __repr__(self) -> str:
        settings = "".join(f", {key}={value}" for key, value in self.settings.items())
        return (
            f"Dense({self.units}, activation={self.activation.text!r}, init={self.init!r}, bias={self.bias}, name={self.name!r}{settings})"
        )


class Dropout:
    """In training, sets each element to 0 with probability `rate` and divides the others by 1 - rate; in prediction and evaluation it
    does nothing (Srivastava et al. 2014, "inverted"). A mask is a function of the trainer's seed, step, node, row and column.
    """

    def __init__(self, rate: float = 0.5) -> None:
        self.rate = _below_1("Dropout: rate", rate)

    def __call__(self, node: Node) -> Node:
        return Node("dropout", (_node(node, "Dropout"),), node.width, self)

    @property
    def text(self) -> str:
        """Its settings in graph text."""
        return f"rate={number(self.rate)}"

    def __repr__(self) -> str:
        return f"Dropout({self.rate!r})"


class GaussianNoise:
    """In training, adds normal noise of standard deviation `std` to each element; in prediction and evaluation it does nothing."""

    def __init__(self, std: float = 0.1) -> None:
        self.std = _at_least_0("GaussianNoise: std", std)

    def __call__(self, node: Node) -> Node:
        return Node("noise", (_node(node, "GaussianNoise"),), node.width, self)

    @property
    def text(self) -> str:
        """Its settings in graph text."""
        return f"std={number(self.std)}"

    def __repr__(self) -> str:
        return f"GaussianNoise({self.std!r})"


class BatchNorm:
    """y = gamma (x - mean) / sqrt(variance + eps) + beta by the statistics of each column (Ioffe & Szegedy 2015), defined as PyTorch's
    BatchNorm1d. lr: factor of the optimizer's learning rate for gamma and beta.

    In training they are those of the batch's rows (at least 2, each counted once whatever its sample_weight), and each update moves the
    running ones by `momentum` towards them; in prediction and evaluation, and in training where the layer is frozen, the running ones
    count. Called twice, it is used twice with the same gamma, beta and running statistics.
    """

    operation = "batch_norm"

    def __init__(self, momentum: float = 0.1, eps: float = 1e-5, name: str | None = None, lr: float = 1.0) -> None:
        self.momentum = _up_to_1("BatchNorm: momentum", momentum)
        self.eps = _positive("BatchNorm: eps", eps)
        self.name = _check_name(name, "BatchNorm")
        self.settings = layer_settings("BatchNorm", lr=lr)

    def __call__(self, node: Node) -> Node:
        return Node(self.operation, (_node(node, "BatchNorm"),), node.width, self)

    @property
    def text(self) -> str:
        """Its settings in graph text."""
        return f"momentum={number(self.momentum)} eps={number(self.eps)}{_text(self.settings)}"

    def __repr__(self) -> str:
        return f"BatchNorm(momentum={self.momentum!r}, eps={self.eps!r}, name={self.name!r}, lr={self.settings['lr']!r})"


class LayerNorm:
    """y = gamma (x - mean) / sqrt(variance + eps) + beta by the statistics of each row (Ba, Kiros & Hinton 2016), defined as PyTorch's
    LayerNorm over the features. lr: factor of the optimizer's learning rate. Called twice, it is used twice with the same gamma and beta.
    """

    operation = "layer_norm"

    def __init__(self, eps: float = 1e-5, name: str | None = None, lr: float = 1.0) -> None:
        self.eps = _positive("LayerNorm: eps", eps)
        self.name = _check_name(name, "LayerNorm")
        self.settings = layer_settings("LayerNorm", lr=lr)

    def __call__(self, node: Node) -> Node:
        return Node(self.operation, (_node(node, "LayerNorm"),), node.width, self)

    @property
    def text(self) -> str:
        """Its settings in graph text."""
        return f"eps={number(self.eps)}{_text(self.settings)}"

    def __repr__(self) -> str:
        return f"LayerNorm(eps={self.eps!r}, name={self.name!r}, lr={self.settings['lr']!r})"


Trained = Dense | BatchNorm | LayerNorm  # layers with parameters
Layer = Trained | Activation | Dropout | GaussianNoise


def _node(value: Any, what: str) -> Node:
    if not isinstance(value, Node):
        raise TypeError(f"{what} is applied to a node, such as bp.Input(64), not to {type(value).__name__}")
    return value


def _elementwise(operation: str, a: Node, b: Node) -> Node:
    if _node(a, operation).width != _node(b, operation).width:
        raise ValueError(f"{operation}: both operands must have the same width, not {a.width} and {b.width} ({a!r}, {b!r})")
    return Node(operation, (a, b), a.width)


def add(a: Node, b: Node) -> Node:
    """The sum of two nodes of equal width, element by element; also written `a + b`."""
    return _elementwise("add", a, b)


def multiply(a: Node, b: Node) -> Node:
    """The product of two nodes of equal width, element by element; also written `a * b`."""
    return _elementwise("multiply", a, b)


def concat(nodes: Sequence[Node]) -> Node:
    """The columns of the nodes side by side."""
    if isinstance(nodes, Node) or not nodes:
        raise TypeError("concat takes a list of nodes: bp.concat([a, b])")
    operands = tuple(_node(node, "concat") for node in nodes)
    return Node("concat", operands, sum(node.width for node in operands))


def write(inputs: Sequence[Node], outputs: Sequence[Node]) -> tuple[str, dict[str, np.ndarray[Any, Any]]]:
    """The graph text of what the outputs reach, and the initial weights of the layers that bring their own, by layer name."""
    reached = _reached(outputs)
    _check_ends(inputs, outputs, reached)
    order = [*inputs, *sorted(reached - set(inputs), key=lambda node: node.number)]
    place = {node: i for i, node in enumerate(order)}
    writer = _Writer()
    lines = [writer.line(node, [place[operand] for operand in node.operands]) for node in order]
    lines += [f"output {place[node]}" for node in outputs]
    return "".join(f"{line}\n" for line in lines), writer.arrays


def _reached(outputs: Sequence[Node]) -> set[Node]:
    reached: set[Node] = set()
    waiting = [_node(node, "Network") for node in outputs]
    while waiting:
        node = waiting.pop()
        if node not in reached:
            reached.add(node)
            waiting += node.operands
    return reached


def _check_ends(inputs: Sequence[Node], outputs: Sequence[Node], reached: set[Node]) -> None:
    if not inputs or not outputs:
        raise ValueError("Network: needs at least one input and one output: bp.Network(x, y)")
    for i, node in enumerate(inputs):
        if not isinstance(node, Input):
            raise TypeError(f"Network: inputs[{i}] is {node!r}, not a bp.Input")
        if node not in reached:
            raise ValueError(f"Network: inputs[{i}] ({node!r}) is not connected to any output: leave it out, or use it")
    for what, nodes in (("inputs", inputs), ("outputs", outputs)):
        if len(set(nodes)) != len(nodes):
            raise ValueError(f"Network: the same node is listed twice in {what}")
    for node in sorted(reached - set(inputs), key=lambda node: node.number):
        if isinstance(node, Input):
            raise ValueError(f"Network: the outputs depend on {node!r}, which is not listed: bp.Network([..., that input], outputs)")


class _Writer:
    """Writes one line per node; remembers the layers already seen, for a layer is described where it is first used."""

    def __init__(self) -> None:
        self.names: dict[Trained, str] = {}
        self.widths: dict[Trained, int] = {}
        self.arrays: dict[str, np.ndarray[Any, Any]] = {}

    def line(self, node: Node, operands: list[int]) -> str:
        start = " ".join([node.operation, *map(str, operands)])
        if isinstance(node.layer, Trained):
            return f"{start} {self._use(node.layer, node.operands[0].width)}"
        if node.layer:
            return f"{start} {node.layer.text}"
        return start if operands else f"{start} {node.width}"

    def _use(self, layer: Trained, width: int) -> str:
        if layer not in self.names:
            self._name(layer, width)
            return f"layer={self.names[layer]} {layer.text}"
        if self.widths[layer] != width:
            sizes = f"first used on {self.widths[layer]} columns, then on {width}"
            raise ValueError(f"{self.names[layer]}: {sizes}; shared weights need equal widths")
        return f"layer={self.names[layer]}"

    def _name(self, layer: Trained, width: int) -> None:
        name = layer.name or f"{layer.operation}_{sum(type(other) is type(layer) for other in self.names)}"
        if name in self.names.values():
            raise ValueError(f"Network: two different layers have the name {name!r}; give one of them another name=")
        if isinstance(layer, Dense) and layer.array is not None:
            if layer.array.shape[1] != width:
                raise ValueError(f"{name}: init has shape {layer.array.shape}, but the layer is used on {width} columns")
            self.arrays[name] = layer.array
        self.names[layer] = name
        self.widths[layer] = width
