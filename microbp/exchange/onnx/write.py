"""Writes a network as an ONNX model: a table of activations, and one of the operators of the kinds of nodes."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from typing import Any

import numpy as np

from ...data.arrays import Array
from ...network import notes
from ...network.layers import Activation
from ...network.network import Network
from ...network.records import NodeInfo, OutputInfo
from ...tables.preparation import Preparation
from ..shared.fold import fold as folded
from ..shared.steps import Step, refuse, steps
from . import tables
from .graph import Graph
from .wire import TYPES


def onnx_bytes(net: Network, preparation: Preparation | None, votes: Sequence[float] | None, *, raw: bool, fold: bool, name: str) -> bytes:
    """The bytes of an ONNX file that predicts as the network does, from any number of rows.

    preparation: of a table, whose raw columns become the inputs. votes: the weights of the members of an ensemble, if the network has the
    outputs of all members, one member after the other; the file has their means. raw: leaves out the output activation, and what a table
    makes of outputs. fold: batch norms become part of the weights. name: of the graph.
    ValueError: a node or a column has no form in ONNX; the text names it.
    """
    net, g = folded(net) if fold else net, Graph()
    g.place = "columns"
    inputs = tables.write_inputs(g, preparation) if preparation else _inputs(g, net)
    values = _Writer(g, net).predictions(inputs, raw)
    if votes:
        values = _means(g, values, votes, net.dtype)
    if preparation and not raw:
        g.place = "output"
        tables.write_outputs(g, preparation, values[0], net.outputs[0].activation in ("softmax", "sigmoid"))
    else:
        _write_outputs(g, net, values, {} if votes else {i: output.name for i, output in enumerate(net.outputs)})
    own = {"graph": net.text(), "dtype": net.dtype.name, "seed": str(net.seed), "notes": notes.write(net.notes), "raw": "1" if raw else ""}
    own |= {"format": "1", "inputs": json.dumps(inputs), "votes": json.dumps(votes) if votes else ""}
    return g.model(name, version("microbp"), {f"microbp.{key}": text for key, text in own.items() if text})


def _inputs(g: Graph, net: Network) -> list[str]:
    names = [f"input_{i}" for i in range(len(net.inputs))] if len(net.inputs) > 1 else ["input"]
    kinds = ["int64" if entry.levels else net.dtype.name for entry in net.inputs]
    return [g.input(name, kind, entry.row_shape) for name, kind, entry in zip(names, kinds, net.inputs, strict=True)]


def _write_outputs(g: Graph, net: Network, values: Sequence[str], names: Mapping[int, str]) -> None:
    for i, (output, value) in enumerate(zip(net.outputs, values)):  # of an ensemble, the outputs of its first member
        g.place, name = f"output/{i}", names.get(i, "0")
        if re.fullmatch(r"\d+|(in|out)put(_\d+)?", name):  # none, or like one of ours
            name = "output" if len(values) == 1 else f"output_{i}"
        g.output(g.free(name), net.dtype.name, output.row_shape, value)


def _means(g: Graph, values: Sequence[str], votes: Sequence[float], dtype: np.dtype[Any]) -> list[str]:
    """The weighted means of the members' outputs, summed in float64."""
    count, means = len(values) // len(votes), []
    for i in range(count):
        g.place = f"mean/{i}"
        wide = (g.op("Cast", value, to=TYPES["float64"]) for value in values[i::count])
        total = g.op("Sum", *(g.op("Mul", value, g.constant(vote, np.float64)) for value, vote in zip(wide, votes, strict=True)))
        means.append(g.named(g.place, g.op("Cast", g.op("Div", total, g.constant(sum(votes), np.float64)), to=TYPES[dtype.name])))
    return means


class _Writer:
    """Writes the operators of a network."""

    def __init__(self, g: Graph, net: Network) -> None:
        self.g, self.net = g, net
        self.steps = steps(net)
        self.of = {step.node.node: step for step in self.steps}
        uses = Counter([*(output.node for output in net.outputs), *(at for step in self.steps for at in step.node.operands)])
        by_dense = Counter(at for step in self.steps if step.node.operation == "dense" for at in step.node.operands)
        # windows that only dense layers read: each is a convolution together with the layer
        self.fused = {at for at, step in self.of.items() if step.node.operation == "window" and uses[at] == by_dense[at]}

    def predictions(self, inputs: Sequence[str], raw: bool) -> list[str]:
        """Writes all operators; the names of the outputs' values."""
        net, g = self.net, self.g
        values = {entry.node: name for entry, name in zip(net.inputs, inputs, strict=True)}
        for step in self.steps:
            node = step.node
            if node.node not in values:
                g.place = f"{node.layer or node.operation}/{node.node}"
                values[node.node] = g.named(g.place, NODES[node.operation](self, step, [values[at] for at in node.operands]))
            elif node.hash:
                raise refuse("to ONNX", step, "its ids are hashed, for which ONNX has no operator; use ids from 0 to levels - 1")
        found = []
        for i, output in enumerate(net.outputs):
            g.place = f"output/{i}"
            value = values[output.node]
            if entry := next((entry for entry in net.inputs if entry.node == output.node), None):
                value = g.reshape(value, entry.row_shape, output.row_shape)
            found.append(value if raw else self._predicted(value, output))
        return found

    def _predicted(self, z: str, output: OutputInfo) -> str:
        """What predictions make of raw outputs."""
        if output.mean is not None:
            columns = (self.constant(values) for values in (output.std, output.mean))
            return self.g.op("Add", self.g.op("Mul", z, next(columns)), next(columns))
        operator, settings = OUTPUT_ACTIVATIONS[output.activation or "identity"]
        return self.g.op(operator, z, **settings) if operator else z

    def before(self, step: Step) -> NodeInfo:
        """The operand of a step."""
        return self.of[step.node.operands[0]].node

    def shape(self, step: Step) -> tuple[int, ...]:
        """The shape of a row of the operand; an input has the positions of the graph's input."""
        at = step.node.operands[0]
        return next((entry.row_shape for entry in self.net.inputs if entry.node == at), self.of[at].node.row_shape)

    def tensor(self, step: Step, name: str, form: str = "", values: Array | None = None) -> str:
        """A tensor of a layer; form: with other values, such as its transpose."""
        return self.g.tensor(f"{step.node.layer}.{name}{form}", step.tensors[name] if values is None else values)

    def constant(self, values: object) -> str:
        """Numbers of the network's dtype."""
        return self.g.constant(values, self.net.dtype)

    def activation(self, text: str | None, z: str) -> str:
        """Applies an activation to a value."""
        given = Activation.parse(text or "identity")
        formula = ACTIVATIONS[given.name]
        if isinstance(formula, str):
            return self.g.op(formula, z) if formula else z
        return formula(self, z, **given.parameters)


def _biased(w: _Writer, step: Step, kind: str, x: str, weight: str) -> str:
    """x weight + bias, by a product or an addition."""
    y = w.g.op(kind, x, weight)
    return w.g.op("Add", y, w.tensor(step, "bias")) if "bias" in step.tensors else y


def _dense(w: _Writer, step: Step, xs: Sequence[str]) -> str:
    weight, bias = step.tensors["weight"], [w.tensor(step, "bias")] if "bias" in step.tensors else []
    if step.node.operands[0] in w.fused:
        y = _convolution(w, w.of[step.node.operands[0]], xs[0], weight, step, bias)
    elif step.node.grid:
        y = _biased(w, step, "MatMul", xs[0], w.tensor(step, "weight", "/T", weight.T))
    else:
        y = w.g.op("Gemm", xs[0], w.tensor(step, "weight"), *bias, transB=1)
    return w.activation(step.node.activation, y)


def _window(w: _Writer, step: Step, xs: Sequence[str]) -> str:
    return xs[0] if step.node.node in w.fused else _convolution(w, step, xs[0], np.eye(step.node.width, dtype=w.net.dtype), None, [])


def _convolution(w: _Writer, window: Step, x: str, weight: Array, layer: Step | None, bias: list[str]) -> str:
    """A window, and the weights that are applied to it."""
    assert window.node.window is not None
    axes, info = _axes(w, window), window.node.window
    kernel = weight.reshape(len(weight), *info.size[2 - axes :], -1)
    kernel = kernel.transpose(0, axes + 1, *range(1, axes + 1))
    name = w.tensor(layer, "weight", "/conv", kernel) if layer else w.constant(kernel)
    settings = {"pads": info.pad[2 - axes :] * 2, "dilations": info.dilation[2 - axes :]}
    return _moved(w, window, x, "Conv", (name, *bias), len(weight), settings)


def _pool(w: _Writer, step: Step, xs: Sequence[str]) -> str:
    assert step.node.window is not None
    return _moved(w, step, xs[0], "MaxPool" if step.node.window.kind == "max" else "AveragePool", (), step.node.width, {})


def _axes(w: _Writer, window: Step) -> int:
    """One axis for a sequence and a window of height 1, else two."""
    info = window.node.window
    assert info is not None
    return 2 if len(w.shape(window)) > 2 or info.size[0] > 1 or info.pad[0] else 1


def _moved(w: _Writer, step: Step, x: str, kind: str, more: Sequence[str], width: int, settings: dict[str, tuple[int, ...]]) -> str:
    """An operator that moves a window over the positions. ONNX has the columns of a position first."""
    g, info, axes, shape = w.g, step.node.window, _axes(w, step), w.shape(step)
    assert info is not None
    sides = [side[2 - axes :] for side in (info.size, info.stride, info.pad, info.dilation)]
    places = (1, 1, *shape[:-1])[-axes:]
    x = g.reshape(x, shape, (*places, shape[-1]))
    y = g.op("Transpose", x, perm=(0, axes + 1, *range(1, axes + 1)))
    y = g.op(kind, y, *more, kernel_shape=sides[0], strides=sides[1], **settings)
    found = ((length + 2 * p - 1 - d * (k - 1)) // s + 1 for length, k, s, p, d in zip(places, *sides, strict=True))
    return g.reshape(g.op("Transpose", y, perm=(0, *range(2, axes + 2), 1)), (*found, width), (*step.node.grid, width))


def _embedding(w: _Writer, step: Step, xs: Sequence[str]) -> str:
    g, weight, before = w.g, w.tensor(step, "weight"), w.before(step)
    if before.operation != "ids":
        return g.op("MatMul", xs[0], weight)
    rows = g.op("Gather", weight, xs[0])
    if step.layer and step.layer.combine == "sum":
        return g.op("ReduceSum", rows, g.constant([1]), keepdims=0)
    return g.reshape(rows, (before.width, -1), step.node.row_shape)


def _batch_norm(w: _Writer, step: Step, xs: Sequence[str]) -> str:
    assert step.layer is not None and step.layer.eps is not None and step.layer.momentum is not None
    x, shape = xs[0], step.node.row_shape
    if step.node.grid:
        x = w.g.op("Reshape", x, w.g.constant([-1, step.node.width]))
    tensors = (w.tensor(step, name) for name in ("weight", "bias", "running_mean", "running_var"))
    y = w.g.op("BatchNormalization", x, *tensors, epsilon=step.layer.eps, momentum=1 - step.layer.momentum)
    return w.g.op("Reshape", y, w.g.constant([-1, *shape])) if step.node.grid else y


def _layer_norm(w: _Writer, step: Step, xs: Sequence[str]) -> str:
    assert step.layer is not None and step.layer.eps is not None
    return w.g.op("LayerNormalization", xs[0], w.tensor(step, "weight"), w.tensor(step, "bias"), axis=-1, epsilon=step.layer.eps)


def _scale(w: _Writer, step: Step, xs: Sequence[str]) -> str:
    y = xs[0]
    for operator, name in (("Mul", "weight"), ("Add", "bias")):
        y = w.g.op(operator, y, w.tensor(step, name)) if name in step.tensors else y
    return y


def _standardize(w: _Writer, step: Step, xs: Sequence[str]) -> str:
    return w.g.op("Div", w.g.op("Sub", xs[0], w.tensor(step, "mean")), w.tensor(step, "std"))


def _slice(w: _Writer, step: Step, xs: Sequence[str]) -> str:
    first, end = step.node.columns or (0, 0)
    return _columns(w, xs[0], first, end)


def _columns(w: _Writer, x: str, first: int, end: int) -> str:
    return w.g.op("Slice", x, w.g.constant([first]), w.g.constant([end]), w.g.constant([-1]))


def _repeat(w: _Writer, step: Step, xs: Sequence[str]) -> str:
    if not step.node.grid:
        return xs[0]
    return w.g.op("Expand", w.g.op("Unsqueeze", xs[0], w.g.constant([1])), w.g.constant([1, *step.node.grid, 1]))


def _last(w: _Writer, step: Step, xs: Sequence[str]) -> str:
    x = xs[0]
    for _ in w.before(step).grid:
        x = w.g.op("Gather", x, w.g.constant(-1), axis=1)
    return x


_GATES = {"tanh": ("RNN", (0,)), "gru": ("GRU", (1, 0, 2)), "lstm": ("LSTM", (0, 3, 1, 2))}  # the operator, and its order of our gates


def _recurrent(w: _Writer, step: Step, xs: Sequence[str]) -> str:
    assert step.layer is not None and step.layer.cell is not None
    g, units, shape = w.g, step.layer.units, w.shape(step)
    positions = step.node.grid
    x = g.reshape(xs[0], shape, (math.prod(positions), shape[-1]) if positions else shape)
    x = g.op("Transpose", x, perm=(1, 0, 2)) if positions else g.op("Unsqueeze", x, g.constant([0]))
    operator, order = _GATES[step.layer.cell]
    inputs = [x, *_recurrent_tensors(w, step, order, units)]
    if len(xs) > 1:
        inputs += ["", *(g.op("Unsqueeze", part, g.constant([0])) for part in _states(w, step, xs[1]))]
    settings = {"hidden_size": units, "direction": "reverse" if step.node.reverse else "forward"}
    y = g.op(operator, *inputs, **settings | ({"linear_before_reset": 1} if operator == "GRU" else {}))
    if not positions:
        return g.op("Squeeze", y, g.constant([0, 1]))
    y = g.op("Transpose", g.op("Squeeze", y, g.constant([1])), perm=(1, 0, 2))
    return g.reshape(y, (math.prod(positions), units), step.node.row_shape)


def _states(w: _Writer, step: Step, x: str) -> list[str]:
    """The parts of the state before the first position."""
    assert step.layer is not None
    units = step.layer.units
    return [_columns(w, x, 0, units), _columns(w, x, units, 2 * units)] if step.layer.cell == "lstm" else [x]


def _recurrent_tensors(w: _Writer, step: Step, order: Sequence[int], units: int) -> list[str]:
    """The weights of the inputs and of the state, and the biases: (1, gates x units, ...), in ONNX's order of gates."""
    rows = np.concatenate([np.arange(gate * units, (gate + 1) * units) for gate in order])
    weight, inputs = step.tensors["weight"][rows], step.tensors["weight"].shape[1] - units
    names = [w.tensor(step, "weight", "/W", weight[None, :, :inputs]), w.tensor(step, "weight", "/R", weight[None, :, inputs:])]
    if "bias" not in step.tensors:
        return [*names, ""]
    bias = step.tensors["bias"]
    of_state = np.zeros(len(rows), bias.dtype)
    of_state[2 * len(rows) - len(bias) :] = bias[len(rows) :]  # of the n of a gru
    return [*names, w.tensor(step, "bias", "/B", np.concatenate([bias[rows], of_state])[None])]


def _operator(kind: str, **settings: int) -> Callable[[_Writer, Step, Sequence[str]], str]:
    return lambda w, step, xs: w.g.op(kind, *xs, **settings)


NODES: dict[str, Callable[[_Writer, Step, Sequence[str]], str]] = {
    "dense": _dense,
    "embedding": _embedding,
    "activation": lambda w, step, xs: w.activation(step.node.activation, xs[0]),
    "add": lambda w, step, xs: w.g.op("Add" if len(xs) == 2 else "Sum", *xs),
    "subtract": _operator("Sub"),
    "multiply": _operator("Mul"),
    "concat": _operator("Concat", axis=-1),
    "slice": _slice,
    "dropout": lambda w, step, xs: xs[0],
    "noise": lambda w, step, xs: xs[0],
    "batch_norm": _batch_norm,
    "layer_norm": _layer_norm,
    "scale": _scale,
    "standardize": _standardize,
    "grid": lambda w, step, xs: w.g.reshape(xs[0], w.shape(step), step.node.row_shape),
    "window": _window,
    "pool": _pool,
    "repeat": _repeat,
    "last": _last,
    "recurrent": _recurrent,
}  # "input" and "ids" are inputs of the graph
OUTPUT_ACTIVATIONS = {"identity": ("", {}), "sigmoid": ("Sigmoid", {}), "exp": ("Exp", {}), "softmax": ("Softmax", {"axis": -1})}
# an operator, "" for nothing, or a function of the writer, the value and the parameters
ACTIVATIONS: dict[str, str | Callable[..., str]] = {
    "identity": "",
    "relu": "Relu",
    "leaky_relu": lambda w, z, slope: w.g.op("LeakyRelu", z, alpha=slope),
    "elu": lambda w, z, alpha: w.g.op("Elu", z, alpha=alpha),
    "selu": "Selu",
    "gelu": "Gelu",
    "silu": lambda w, z: w.g.op("Mul", z, w.g.op("Sigmoid", z)),
    "mish": "Mish",
    "softplus": "Softplus",
    "softsign": "Softsign",
    "sigmoid": "Sigmoid",
    "hard_sigmoid": lambda w, z: w.g.op("HardSigmoid", z, alpha=1 / 6, beta=0.5),
    "tanh": "Tanh",
    "scaled_tanh": lambda w, z: w.g.op("Mul", w.g.op("Tanh", w.g.op("Mul", z, w.constant(2 / 3))), w.constant(1.7159)),
    "affine": lambda w, z, factor, addend: w.g.op("Add", w.g.op("Mul", z, w.constant(factor)), w.constant(addend)),
    "abs": "Abs",
    "square": lambda w, z: w.g.op("Mul", z, z),
    "exp": "Exp",
    "sin": "Sin",
    "cos": "Cos",
}
