"""Writes nodes and layers as graph text, from which both backends build the same network.

x = Input(64)
text, arrays = write([x], [Dense(10)(x)])
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from ..core.text import brief
from ..data.arrays import Array
from .layers import Dense, TrainedLayer
from .nodes import Input, Node


def write(inputs: Sequence[Node], outputs: Sequence[Node]) -> tuple[str, dict[str, Array]]:
    """The graph text of the nodes that the outputs depend on, and the arrays given as init= or bias_init=, by the tensor's name."""
    reached = _reached(outputs)
    _check_ends(inputs, outputs, reached)
    order = [*inputs, *sorted(reached - set(inputs), key=lambda node: node.number)]
    place = {node: i for i, node in enumerate(order)}
    writer = _Writer()
    lines = [writer.line(node, [place[operand] for operand in node.operands]) for node in order]
    lines += [f"output {place[node]}" for node in outputs]
    return "".join(f"{line}\n" for line in lines), writer.arrays


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
        if not isinstance(node, Input):
            raise TypeError(f"Network: inputs[{i}] is {brief(node)}, not a bp.Input")
        if node not in reached:
            raise ValueError(f"Network: inputs[{i}] ({node!r}) is not connected to any output: remove it from inputs, or use it")
    for what, nodes in (("inputs", inputs), ("outputs", outputs)):
        if len(set(nodes)) != len(nodes):
            raise ValueError(f"Network: the same node is listed twice in {what}; list it once")
    for node in sorted(reached - set(inputs), key=lambda node: node.number):
        if isinstance(node, Input):
            raise ValueError(f"Network: the outputs depend on {node!r}, which is not listed in inputs: add it")


class _Writer:
    """Writes one line per node. The settings of a layer are written at its first use; `names` and `widths` remember the layers already
    written, `taken` their names, `counts` how many there are of each operation."""

    def __init__(self) -> None:
        self.names: dict[TrainedLayer, str] = {}
        self.widths: dict[TrainedLayer, int] = {}
        self.arrays: dict[str, Array] = {}
        self.taken: set[str] = set()
        self.counts: Counter[str] = Counter()

    def line(self, node: Node, operands: list[int]) -> str:
        start = " ".join([node.operation, *map(str, operands)])
        if isinstance(node.layer, TrainedLayer):
            return f"{start} {self._use(node.layer, node.operands[0].width)}"
        if node.layer:
            return f"{start} {node.layer.text}"
        return start if operands else f"{start} {node.width}"

    def _use(self, layer: TrainedLayer, width: int) -> str:
        if layer not in self.names:
            self._name(layer, width)
            return f"layer={self.names[layer]} {layer.text}"
        if self.widths[layer] != width:
            sizes = f"first used on a node of width {self.widths[layer]}, then on one of width {width}"
            raise ValueError(f"layer {self.names[layer]!r} is {sizes}; a shared layer needs nodes of equal width")
        return f"layer={self.names[layer]}"

    def _name(self, layer: TrainedLayer, width: int) -> None:
        name = layer.name or f"{layer.operation}_{self.counts[layer.operation]}"
        if name in self.taken:
            raise ValueError(f"Network: two different layers have the name {name!r}; change name= of one")
        if isinstance(layer, Dense):
            weight = layer.arrays.get("weight")
            if weight is not None and weight.shape[1] != width:
                raise ValueError(f"layer {name!r}: init must have shape ({layer.units}, {width}), not {weight.shape}")
            self.arrays |= {f"{name}.{tensor}": array for tensor, array in layer.arrays.items()}
        self.names[layer] = name
        self.widths[layer] = width
        self.taken.add(name)
        self.counts[layer.operation] += 1
