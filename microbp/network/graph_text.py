"""Writes nodes and layers as graph text, from which both backends build the same network.

x = Input(64)
text = write([x], [Dense(10)(x)]).text
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

from ..core.text import brief
from ..data.arrays import Array
from .layers import NamedLayer
from .nodes import Ids, Input, Node
from .reuse import CopiedLayer, Snapshot
from .view import NetworkView


class Written(NamedTuple):
    """The graph text of some nodes, and what it does not contain, by the tensor's name."""

    text: str
    arrays: dict[str, Array]  # given as init= or bias_init=
    values: dict[str, Array]  # of layers of other networks
    places: dict[Node, int]  # the numbers of the nodes in the text


def write(inputs: Sequence[Node], outputs: Sequence[Node]) -> Written:
    """The graph text of the nodes that the outputs depend on."""
    inputs = [node.operands[0] if _is_input(node) else node for node in inputs]
    reached = _reached(outputs)
    _check_ends(inputs, outputs, reached)
    order = [*inputs, *sorted(reached - set(inputs), key=lambda node: node.number)]
    place = {node: i for i, node in enumerate(order)}
    writer = _Writer({node.layer.name for node in order if isinstance(node.layer, NamedLayer) and node.layer.name})
    lines = [writer.line(node, [place[operand] for operand in node.operands]) for node in order]
    lines += [f"output {place[node]}" for node in outputs]
    return Written("".join(f"{line}\n" for line in lines), writer.arrays, writer.values, place)


def _is_input(node: Any) -> bool:
    """Whether this is an input with several positions, whose operand is the input."""
    return isinstance(node, Node) and node.operation == "grid" and isinstance(node.operands[0], Input)


def _reached(outputs: Sequence[Node]) -> set[Node]:
    for i, node in enumerate(outputs):
        if not isinstance(node, Node):
            raise TypeError(f"Network: outputs[{i}] is {brief(node)}, not a node")
    reached: set[Node] = set()
    waiting = list(outputs)
    while waiting:
        node = waiting.pop()
        if node not in reached:
            reached.add(node)
            waiting += node.operands
    return reached


def _check_ends(inputs: Sequence[Node], outputs: Sequence[Node], reached: set[Node]) -> None:
    if not inputs or not outputs:
        raise ValueError("Network needs at least one input and one output: bp.Network(x, y)")
    for i, node in enumerate(inputs):
        if not isinstance(node, Input | Ids):
            raise TypeError(f"Network: inputs[{i}] is {brief(node)}, not a bp.Input or bp.Ids")
        if node not in reached:
            raise ValueError(f"Network: inputs[{i}] ({node!r}) is not connected to any output: remove it from inputs, or use it")
    for what, nodes in (("inputs", inputs), ("outputs", outputs)):
        if len(set(nodes)) != len(nodes):
            advice = '; for two losses of it, list also bp.Activation("identity")(node)' if what == "outputs" else ""
            raise ValueError(f"Network: the same node is listed twice in {what}; list it once{advice}")
    for node in sorted(reached - set(inputs), key=lambda node: node.number):
        if isinstance(node, Input | Ids):
            raise ValueError(f"Network: the outputs depend on {node!r}, which is not listed in inputs: add it")


def _levels(node: Node) -> int:
    """The levels of ids, the width of other nodes."""
    return node.levels if isinstance(node, Ids) else node.width


class _Writer:
    """Writes one line per node. The settings of a layer are written at its first use; `names` and `widths` remember the layers already
    written, `taken` their names, `counts` how many there are of each operation. given: the names that layers have of their own."""

    def __init__(self, given: set[str]) -> None:
        self.given = given
        self.names: dict[NamedLayer, str] = {}
        self.widths: dict[NamedLayer, int] = {}
        self.arrays: dict[str, Array] = {}
        self.values: dict[str, Array] = {}
        self.snapshots: dict[NetworkView, Snapshot] = {}
        self.taken: set[str] = set()
        self.counts: Counter[str] = Counter()

    def line(self, node: Node, operands: list[int]) -> str:
        start = " ".join([node.operation, *map(str, operands)])
        if isinstance(node.layer, NamedLayer) and node.operation == "recurrent":
            state = "".join(f" state={operand}" for operand in operands[1:])
            settings = self._use(node.layer, node.operands[0].width)
            return f"recurrent {operands[0]} {settings} reverse={int(node.reverse)}{state}"
        if isinstance(node.layer, NamedLayer):
            return f"{start} {self._use(node.layer, _levels(node.operands[0]))}"
        if node.layer:
            return f"{start} {node.layer.text}"
        if isinstance(node, Ids):
            return f"ids {node.width} levels={node.levels} hash={int(node.hash)}"
        return start if operands else f"{start} {node.width}"

    def _use(self, layer: NamedLayer, width: int) -> str:
        if layer not in self.names:
            self._name(layer, width)
            return f"layer={self.names[layer]} {self._settings(layer)}"
        if self.widths[layer] != width:
            sizes = f"first used on a node of width {self.widths[layer]}, then on one of width {width}"
            raise ValueError(f"layer {self.names[layer]!r} is {sizes}; a shared layer needs nodes of equal width")
        return f"layer={self.names[layer]}"

    def _name(self, layer: NamedLayer, width: int) -> None:
        name = layer.name or self._new_name(layer.operation)
        if name in self.taken:
            copied = any(isinstance(one, CopiedLayer) for one in (layer, *self.names) if one is layer or self.names[one] == name)
            change = 'call the network with a prefix, as in net(x, prefix="b_")' if copied else "change name= of one"
            raise ValueError(f"Network: two different layers have the name {name!r}; {change}")
        layer._check_width(name, width)
        self.arrays |= {f"{name}.{tensor}": array for tensor, array in layer.arrays.items()}
        self.names[layer] = name
        self.widths[layer] = width
        self.taken.add(name)
        self.counts[layer.operation] += 1

    def _new_name(self, operation: str) -> str:
        names = (f"{operation}_{i}" for i in itertools.count(self.counts[operation]))
        return next(name for name in names if name not in self.given and name not in self.taken)

    def _settings(self, layer: NamedLayer) -> str:
        """The settings of a layer as graph text. Keeps the values of a layer of another network."""
        if not isinstance(layer, CopiedLayer):
            return layer.text
        if layer.net not in self.snapshots:
            self.snapshots[layer.net] = Snapshot(layer.net)
        text, arrays, values = self.snapshots[layer.net].of_layer(layer)
        self.arrays |= arrays
        self.values |= values
        return text
