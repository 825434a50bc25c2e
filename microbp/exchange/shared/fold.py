"""Networks with fewer nodes and the same predictions."""

from __future__ import annotations

import re
from collections import Counter
from typing import cast

import numpy as np

from ...core.backend import BackendName
from ...data.arrays import Array
from ...network.layers import NamedLayer
from ...network.network import Network
from ...network.nodes import Ids, Input, Layer, Node
from ...network.reuse import Setting
from .steps import Step, steps


def fold(net: Network) -> Network:
    """Makes a network that predicts the same with less work, for use and not for further training.

    - A batch norm that alone uses a dense layer without activation becomes part of its weights: w gamma / sqrt(variance + eps). Any other
      batch norm becomes a bp.Scale.
    - An activation that alone uses a dense layer without one becomes the layer's.
    - Dropout and noise, which predictions do not have, are left out, and nodes that no output needs.

    Folded weights are computed in float64 and rounded, so predictions differ in the last bits; without batch norms they do not. The new
    network has the dtype, seed, backend, output activations and notes of `net`, and its own copy of all parameters.

    >>> x = bp.Input(3)
    >>> net = bp.Network(x, bp.Dense(2)(bp.Activation("relu")(bp.BatchNorm()(bp.Dense(4)(x)))), seed=0)
    >>> [node.operation for node in bp.fold(net).nodes]
    ['input', 'dense', 'dense']
    """
    if not isinstance(net, Network):
        raise TypeError(f"fold: net must be a bp.Network, not {type(net).__name__}")
    return _Folding(net).network()


class _Written(NamedLayer):
    """A layer of the new network: the settings of one of the old."""

    def __init__(self, name: str, operation: str, text: str) -> None:
        super().__init__(name)
        self.operation, self._text = operation, text

    @property
    def text(self) -> str:
        """The settings of this layer as graph text."""
        return self._text

    def set(self, key: str, value: str) -> None:
        """Changes one setting."""
        self._text = re.sub(rf"\b{key}=\S+", f"{key}={value}", self._text)


class _Folding:
    def __init__(self, net: Network) -> None:
        self.net = net
        self.lines = net.text().splitlines()
        self.steps = steps(net)
        ends = [output.node for output in net.outputs]
        self.uses = Counter([*ends, *(operand for step in self.steps for operand in step.node.operands)])
        self.calls = Counter(step.node.layer for step in self.steps)
        self.layers: dict[str, _Written] = {}
        self.values: dict[str, dict[str, Array]] = {}
        self.made: dict[int, Node] = {}
        self.plain: set[int] = set()  # nodes whose value is that of a dense layer of one use, without activation

    def network(self) -> Network:
        """The folded network."""
        for step in self.steps:
            self.made[step.node.node] = self._node(step)
        net = self.net
        ends = [self.made[output.node] for output in net.outputs]
        if len({id(node) for node in ends}) < len(ends):  # two outputs that differ by dropout only
            ends = [Node("activation", (node,), node.width, Setting("activation", "identity"), node.grid) for node in ends]
        folded = Network(
            [self.made[entry.node] for entry in net.inputs],
            ends,
            net.dtype,
            net.seed,
            cast("BackendName", net.backend),
            n_threads=net.n_threads,
        )
        folded._write({f"{layer}.{tensor}": values for layer, found in self.values.items() for tensor, values in found.items()})
        for i, output in enumerate(net.outputs):
            folded.set_output(i, output.activation, output.mean, output.std)
        folded.notes = net.notes
        return folded

    def _node(self, step: Step) -> Node:
        node, operation = step.node, step.node.operation
        if operation == "input":
            return Input(node.width)
        if operation == "ids":
            return Ids(node.width, node.levels or 0, hash=bool(node.hash))
        operands = tuple(self.made[operand] for operand in node.operands)
        joins = node.operands[0] in self.plain and self.uses[node.operands[0]] == 1
        if operation in ("dropout", "noise") or (operation == "batch_norm" and joins):
            if operation == "batch_norm":
                self._multiply_into(self._layer_of(operands[0]), step)
            if joins:
                self.plain.add(node.node)
            return operands[0]
        if operation == "activation" and joins:
            self._layer_of(operands[0]).set("activation", node.activation or "identity")
            if node.activation == "identity":
                self.plain.add(node.node)
            return operands[0]
        if operation == "dense" and node.activation == "identity" and self.calls[node.layer] == 1:
            self.plain.add(node.node)
        made = Node("scale" if operation == "batch_norm" else operation, operands, node.width, self._layer(step), node.grid)
        made.reverse = bool(node.reverse)
        return made

    def _layer_of(self, dense: Node) -> _Written:
        assert isinstance(dense.layer, _Written)
        return dense.layer

    def _layer(self, step: Step) -> Layer | None:
        words = self.lines[step.node.node].split(" ")[1 + len(step.node.operands) :]
        if step.layer is None:
            return Setting(step.node.operation, " ".join(words)) if words else None
        name = step.layer.name
        if name not in self.layers:
            settings = " ".join(word for word in words if not word.startswith(("layer=", "reverse=", "state=")))
            operation = step.node.operation
            self.values[name] = dict(step.tensors)
            if operation == "batch_norm":
                factor, addend = _affine(step)
                operation, settings = "scale", "gain=1 bias=1"
                self.values[name] = {"weight": factor, "bias": addend}
            self.layers[name] = _Written(name, operation, settings)
        return self.layers[name]

    def _multiply_into(self, dense: _Written, norm: Step) -> None:
        """Makes the batch norm part of the weights before it."""
        factor, addend = _affine(norm)
        values = self.values[str(dense.name)]
        bias = values.get("bias", np.zeros(len(factor)))
        self.values[str(dense.name)] = {"weight": values["weight"] * factor[:, None], "bias": bias * factor + addend}
        dense.set("bias", "1")


def _affine(norm: Step) -> tuple[Array, Array]:
    """The factor and the addend that a batch norm gives each column in predictions, in float64."""
    values = {name: tensor.astype(np.float64) for name, tensor in norm.tensors.items()}
    assert norm.layer is not None and norm.layer.eps is not None
    factor = values["weight"] / np.sqrt(values["running_var"] + norm.layer.eps)
    return factor, values["bias"] - values["running_mean"] * factor
