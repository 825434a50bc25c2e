"""Uses some nodes of a network again: as a part, which shares its values, or in a new graph, which gets copies of its layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias
from weakref import WeakValueDictionary

from ..core.checks import string
from ..core.text import brief, counted
from ..data.arrays import Array
from .layers import NamedLayer
from .nodes import Ids, Layer, Node, check_node
from .predicting import Places, find_node
from .records import Records
from .view import NetworkView

Copied: TypeAlias = "WeakValueDictionary[tuple[str, str], CopiedLayer]"

# ---- parts ----


def part_ends(records: Records, places: Places, inputs: Any, outputs: Any) -> tuple[list[int], list[int]]:
    """The numbers of the nodes where a part begins and ends. None: those inputs or outputs of the network that belong to the others."""
    begin, end = (
        None if given is None else [find_node(records, places, node, f"part: {name}").node for node, name in _listed(given, what)]
        for given, what in ((inputs, "inputs"), (outputs, "outputs"))
    )
    if end is None:
        end = [output.node for output in records.outputs]
        if begin is not None:
            end = _that_depend(records, begin, end)
    if begin is None:
        needed = between(records, [], end)
        begin = [entry.node for entry in records.inputs if entry.node in needed]
    return begin, end


def _listed(given: Any, what: str) -> list[tuple[Any, str]]:
    """Each item of an argument, with its place for errors."""
    if type(given) not in (list, tuple):  # a record of a node is a tuple too
        return [(given, what)]
    if not given:
        raise ValueError(f"part: {what} is empty; name at least one node, or leave {what} out")
    return [(item, f"{what}[{i}]") for i, item in enumerate(given)]


def _that_depend(records: Records, inputs: Sequence[int], outputs: Sequence[int]) -> list[int]:
    """The outputs that depend on one of the inputs."""
    above: set[int] = set()
    for node in records.nodes:
        if any(operand in above or operand in inputs for operand in node.operands):
            above.add(node.node)
    if not (found := [output for output in outputs if output in above]):
        place = ", ".join(map(str, inputs))
        raise ValueError(
            f"part: no output of the network depends on node {place}: name the outputs; a part up to it is net.part(outputs=...)"
        )
    return found


def between(records: Records, inputs: Sequence[int], outputs: Sequence[int]) -> list[int]:
    """The nodes that the outputs depend on, up to the inputs and without them, in order."""
    used = set(outputs)
    for node in reversed(records.nodes):
        if node.node in used and node.node not in inputs:
            used.update(node.operands)
    return sorted(used - set(inputs))


# ---- layers in a new graph ----


class CopiedLayer(NamedLayer):
    """A layer of a network in a new graph. A new network gets a copy of its settings and values; they are read when it is made."""

    def __init__(self, net: NetworkView, source: str, name: str, operation: str) -> None:
        super().__init__(name)
        self.net, self.source, self.operation = net, source, operation

    def __repr__(self) -> str:
        return f"<layer {self.source!r} of a network>"


class Setting(Layer):
    """What graph text says of a node without parameters."""

    def __init__(self, operation: str, text: str) -> None:
        self.operation, self._text = operation, text

    @property
    def text(self) -> str:
        """The settings of this layer as graph text."""
        return self._text


class Snapshot:
    """One state of a network's layers. settings: by the layer's name, as graph text; values, arrays: by the tensor's name."""

    def __init__(self, net: NetworkView) -> None:
        with net._core.hold():
            lines = net.text().splitlines()
            self.values = {name: view.copy() for name, view in net.tensors.items()}
        self.arrays = net._arrays
        self.settings = {layer.name: _rest(lines[layer.nodes[0]], 2).partition(" reverse=")[0] for layer in net.layers}

    def of_layer(self, layer: CopiedLayer) -> tuple[str, dict[str, Array], dict[str, Array]]:
        """Its settings, its initial weights and biases given as arrays, and its values, by the tensor's name in the new network."""
        arrays, values = (
            {f"{layer.name}.{key.partition('.')[2]}": array for key, array in known.items() if key.partition(".")[0] == layer.source}
            for known in (self.arrays, self.values)
        )
        return self.settings[layer.source], arrays, values


def _rest(line: str, operands: int) -> str:
    """A line of graph text without its operation and operands."""
    return "".join(line.split(" ", operands + 1)[operands + 1 :])


def put(net: NetworkView, known: Copied, nodes: Node | Sequence[Node], prefix: str) -> list[Node]:
    """The outputs of the network's nodes in a new graph. known: its layers in new graphs, by their names there and here."""
    given, prefix = _checked(net, [nodes] if isinstance(nodes, Node) else nodes), string("prefix", prefix)
    lines, kinds = net.text().splitlines(), {layer.name: layer.kind for layer in net.layers}
    made: list[Node] = []
    inputs = iter(given)
    for node in net.nodes:
        if node.operation in ("input", "ids"):
            made.append(next(inputs))
            continue
        layer: Layer | None = None
        if node.layer is not None:
            key = prefix + node.layer, node.layer
            layer = known.get(key) or _copied(net, node.layer, prefix, kinds[node.layer])
            known[key] = layer
        elif text := _rest(lines[node.node], len(node.operands)):
            layer = Setting(node.operation, text)
        made.append(Node(node.operation, tuple(made[operand] for operand in node.operands), node.width, layer, node.grid))
        made[-1].reverse = bool(node.reverse)
    return [made[output.node] for output in net.outputs]


def _copied(net: NetworkView, source: str, prefix: str, operation: str) -> CopiedLayer:
    try:
        return CopiedLayer(net, source, prefix + source, operation)
    except ValueError:
        raise ValueError(
            f"prefix must be letters, digits, _ or -, and the names of layers with it at most 63 characters long, not {brief(prefix)} "
            f"(before {source!r})"
        ) from None


def _checked(net: NetworkView, nodes: Any) -> list[Node]:
    """The nodes, one for each input of the network."""
    if not isinstance(nodes, list | tuple):
        raise TypeError(
            f"a network in a new graph needs a node or a list of nodes, not {brief(nodes)}; for predictions, call net.predict(X)"
        )
    found = [node if isinstance(node, Ids) else check_node(node, "a network in a new graph") for node in nodes]
    if len(found) != len(net.inputs):
        example = "net(a)" if len(net.inputs) == 1 else "net([a, b, ...])"
        raise ValueError(
            f"the network has {counted(len(net.inputs), 'input')}, but is called with {counted(len(found), 'node')}: {example}"
        )
    for i, (node, entry) in enumerate(zip(found, net.inputs, strict=True)):
        if isinstance(node, Ids) != (entry.levels is not None) or (
            isinstance(node, Ids) and (node.levels, node.hash) != (entry.levels, entry.hash)
        ):
            needs = "no ids" if entry.levels is None else f"bp.Ids({entry.width}, {entry.levels}, hash={entry.hash})"
            raise ValueError(f"input {i} of the network needs {needs}, but gets {node!r}")
        shape = (*node.grid, node.width)
        if shape != (entry.row_shape if node.grid else (entry.width,)):
            raise ValueError(f"input {i} of the network has width {entry.width}, but {node!r} has {node.width}")
    return found
