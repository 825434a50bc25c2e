"""The network that a reader of another format builds: layers of given names, with their values."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from ...data.arrays import Array
from ...network.layers import Activation, Dense, NamedLayer
from ...network.network import Network
from ...network.nodes import Node


class Building:
    """The layers so far, by the places where the other format has them."""

    def __init__(self) -> None:
        self.layers: dict[str, NamedLayer] = {}
        self.values: dict[str, Array] = {}
        self.frozen: set[str] = set()

    def put(self, place: str, node: Node, make: Callable[..., NamedLayer], frozen: bool = False, **tensors: Array | None) -> Node:
        """A layer on a node: the one of this place, or a new one of these tensors, without those that are None."""
        if place not in self.layers:
            taken = {layer.name for layer in self.layers.values()}
            base, number = re.sub(r"[^A-Za-z0-9_-]", "_", place)[-56:] or "layer", 0
            name = base
            while name in taken:
                number += 1
                name = f"{base}_{number}"
            self.layers[place] = make(name=name)
            self.values |= {f"{name}.{tensor}": values for tensor, values in tensors.items() if values is not None}
            self.frozen |= {name} if frozen else set()
        return self.layers[place](node)

    def network(self, inputs: Sequence[Node], outputs: Sequence[tuple[Node, str | None]], dtype: Any) -> Network:
        """The network. outputs: nodes, with their output activations."""
        ends: list[Node] = []
        merged = _merged([node for node, _ in outputs])
        for node in merged:
            ends.append(Activation("identity")(node) if node in ends else node)
        net = Network(list(inputs), ends, dtype)
        for name, values in self.values.items():
            if (shape := net.tensors[name].shape) != values.shape:
                raise ValueError(f"{name} has shape {values.shape}, but its layer needs {shape}")
        net._write(self.values)
        for i, (_, activation) in enumerate(outputs):
            if activation:
                net.set_output(i, activation)  # type: ignore[arg-type]
        for name in self.frozen:
            net.freeze(name)
        return net


def _merged(ends: list[Node]) -> list[Node]:
    """The outputs, after activations that alone use a dense layer without one have become the layer's."""
    reached = set(ends)
    waiting = list(ends)
    while waiting:
        new = set(waiting.pop().operands) - reached
        reached |= new
        waiting += new
    order = sorted(reached, key=lambda node: node.number)
    uses = Counter([*ends, *(operand for node in order for operand in node.operands)])
    calls = Counter(node.layer for node in order if isinstance(node.layer, Dense))
    instead: dict[Node, Node] = {}
    for node in order:
        node.operands = tuple(instead.get(operand, operand) for operand in node.operands)
        below = node.operands[0] if node.operands else node
        layer = below.layer
        if (
            isinstance(node.layer, Activation)
            and isinstance(layer, Dense)
            and uses[below] == calls[layer] == 1
            and layer.activation == "identity"
        ):
            layer.activation, instead[node], uses[below] = node.layer.text, below, uses[node]
    return [instead.get(node, node) for node in ends]
