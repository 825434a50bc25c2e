"""The numbers of one row's forward and backward pass, with their local derivatives, from the reference's chain rule."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from ..network.network import Network
from ..reference.autodiff import Matrix, gradients, reshaped
from ..reference.graph import Node as GraphNode
from ..reference.layers import Tensor
from ..reference.net import Net
from ..reference.nodes import Run
from ..reference.spec import Spec

ALL = 100  # a net with more numbers in a row, not counting sums before an activation, is not shown whole
_MOST = 4  # how many numbers of each of its nodes are shown
Start = list[tuple[int, list[float]]]  # numbers of nodes, with the derivatives of what is differentiated by their values
Terms = list[tuple[int, float]]  # the numbers of units, with local derivatives
_DETAILS = {"dropout": "identity in predict", "noise": "identity in predict", "batch_norm": "running statistics"}


class Weight(NamedTuple):
    """A weight that a number is computed from. local: the derivative of the number by it."""

    name: str
    local: float
    value: float
    grad: float


@dataclass
class Unit:
    """A number. terms: the units that it is computed from, a unit as often as it is used; uses: those computed from it. start: the
    derivative of what is differentiated by this number itself."""

    name: str
    group: int
    value: float
    grad: float
    start: float = 0.0
    terms: Terms = field(default_factory=list)
    uses: Terms = field(default_factory=list)
    weights: list[Weight] = field(default_factory=list)

    def of(self, tensor: str) -> list[Weight]:
        """Its weights ("weight"), or its bias ("bias")."""
        return [one for one in self.weights if f".{tensor}[" in one.name]


@dataclass
class Group:
    """The numbers of a node; of the sums of a dense layer before its activation, which are `sums` of the next group; or of the loss.
    units: the units of those that are shown, by their places."""

    name: str
    kind: str
    detail: str
    shape: tuple[int, ...]
    operands: list[int]
    values: list[float]
    grads: list[float]
    sums: int | None = None
    units: dict[int, int] = field(default_factory=dict)


def reference_of(net: Network) -> Network:
    """A copy of the network in the reference, whose initial weights are not drawn."""
    text = re.sub(r"(\w*init)=\S+", r"\1=array", net.text())
    copy = Network._from(Net(text, str(net.dtype)), "reference", {}, None)  # type: ignore[arg-type]
    with net._core.hold():
        copy._write(net.tensors)
    return copy


class Row:
    """One row. The forward pass goes node by node, and each value is a matrix of its own, also where a node is the identity."""

    groups: list[Group]
    units: list[Unit]  # in the order of computation
    is_whole: bool  # whether all numbers are units
    grads: list[list[float]]  # of the tensors

    def __init__(self, net: Network, xs: Sequence[Any]) -> None:
        core: Any = net._core
        self.nodes, self.names, ends = _split(net, core.graph.nodes)
        self.graph = replace(core.graph, nodes=self.nodes)
        self.tensors: list[Tensor] = core.layout
        self.weights = [Matrix(t.rows, t.cols, core.params[t.place].tolist(), wanted=True) for t in self.tensors]
        known = {(t.layer, t.name): matrix for t, matrix in zip(self.tensors, self.weights, strict=True)}
        known |= {(t.layer, t.name): Matrix(t.rows, t.cols, core.buffers[t.place].tolist()) for t in core.buffer_layout}
        self.run = Run(known, None, 1.0, core.dtype, valid=[None] * len(self.nodes))
        self.inputs: list[Matrix] = core.read_inputs(xs, wanted=True)
        waiting, self.values = iter(self.inputs), list[Matrix]()
        for number, node in enumerate(self.nodes):
            value = next(waiting) if node.is_input else self.run.value(self.graph, number, *(self.values[i] for i in node.operands))
            self.values.append(value if node.is_input else reshaped(value, value.rows, value.cols))
        self.ends = [ends[output.node] for output in core.graph.outputs]

    def differentiate(self, start: Start, loss: tuple[str, float] | None) -> None:
        """The backward pass. loss: what it is, and its value; None: the outputs are differentiated themselves."""
        found = gradients([(self.values[end], by) for end, by in start], [*self.values, *self.weights])
        self.grads = found[len(self.values) :]
        self.groups = []
        for (name, detail), node, value, grads in zip(self.names, self.nodes, self.values, found, strict=False):
            sums = node.operands[0] if f"{name}.z" in dict(self.names) else None
            self.groups.append(Group(name, node.kind, detail, shape_of_node(node), node.operands, value.data, grads, sums))
        self.is_whole = sum(len(group.grads) for group in self.groups if not group.name.endswith(".z")) <= ALL
        self.units = []
        for number, group in enumerate(self.groups):
            for place in range(len(group.grads)) if self.is_whole else _largest(group):
                group.units[place] = len(self.units)
                name = group.name + index(group.shape, place)
                self.units.append(Unit(name, number, group.values[place], group.grads[place]))
            if group.operands:
                self._add_terms(number)
        ends = [(u, by[place]) for end, by in start for place, u in self.groups[end].units.items()]
        if loss:
            name = "loss:end" if "loss" in dict(self.names) else "loss"
            self.groups.append(Group(name, "loss", loss[0], (), self.ends, [loss[1]], [1.0], units={0: len(self.units)}))
            self.units.append(Unit(name, len(self.groups) - 1, loss[1], 1.0, 1.0, ends))
        else:
            for u, by in ends:
                self.units[u].start += by
        for number, unit in enumerate(self.units):
            for u, local in unit.terms:
                self.units[u].uses.append((number, local))

    def _add_terms(self, number: int) -> None:
        """Computes a node again from its operands as if they were inputs, and takes the derivatives of its units."""
        group, node = self.groups[number], self.nodes[number]
        leaves = [Matrix(m.rows, m.cols, m.data, wanted=m.wanted) for m in (self.values[i] for i in node.operands)]
        value = self.run.value(self.graph, number, *leaves)
        own = [i for i, tensor in enumerate(self.tensors) if self.is_whole and node.layer and tensor.layer == node.layer.name]
        for place, u in group.units.items():
            one = [float(i == place) for i in range(len(value.data))]
            found = gradients([(value, one)], [*leaves, *(self.weights[i] for i in own)])
            row, column = divmod(place, value.cols)
            for operand, leaf, by in zip(node.operands, leaves, found, strict=False):
                same = range(row * leaf.cols, (row + 1) * leaf.cols) if node.kind == "dense" else [place] * (len(by) == len(one))
                shown = self.groups[operand].units
                self.units[u].terms += [(shown[i], d) for i, d in enumerate(by) if (d or (i in same and leaf.wanted)) and i in shown]
            for i, by in zip(own, found[len(leaves) :], strict=True):
                tensor, values, grads = self.tensors[i], self.weights[i].data, self.grads[i]
                is_own = node.kind == "dense" or (tensor.rows == 1 and tensor.cols == value.cols)
                places = [at for at, d in enumerate(by) if d or (is_own and at % tensor.cols == column)]
                self.units[u].weights += [Weight(weight_name(tensor, at), by[at], values[at], grads[at]) for at in places]

    def units_of(self, group: Group) -> list[Unit]:
        """Those that are shown."""
        return [self.units[u] for u in group.units.values()]

    def each_weight(self) -> Iterator[tuple[Tensor, int, float, float]]:
        """(tensor, place, value, gradient)."""
        for tensor, matrix, grads in zip(self.tensors, self.weights, self.grads, strict=True):
            yield from ((tensor, i, value, by) for i, (value, by) in enumerate(zip(matrix.data, grads, strict=True)))

    def uses_of_weights(self) -> dict[str, Terms]:
        """For each weight the units that it goes into."""
        found: dict[str, Terms] = {}
        for u, unit in enumerate(self.units):
            for weight in unit.weights:
                found.setdefault(weight.name, []).append((u, weight.local))
        return found

    def steps(self) -> list[tuple[int, int]]:
        """The steps at which each unit is computed, forward and backward: a sum and its activation together. 0: the inputs."""
        found: list[int] = []
        for group in self.groups:
            for place in group.units:
                if group.sums is not None and place in self.groups[group.sums].units:
                    found.append(found[self.groups[group.sums].units[place]])
                else:
                    found.append(max(found, default=0) + 1 if group.operands else 0)
        last = max(found)
        inputs = iter(range(2 * last + 1, 2 * last + 1 + len(found)))
        return [(step, 2 * last + 1 - step if step else next(inputs)) for step in found]


def _split(net: Network, given: Sequence[GraphNode]) -> tuple[list[GraphNode], list[tuple[str, str]], list[int]]:
    """The nodes, where a dense layer with an activation is two: the sum and the activation; their names and details; and their new
    numbers."""
    nodes: list[GraphNode] = []
    names: dict[str, str] = {}
    at: list[int] = []
    inputs = iter(["x"] if len(net.inputs) == 1 else [f"x{i}" for i in range(len(net.inputs))])
    for info, node in zip(net.nodes, given, strict=True):
        name = next(inputs) if node.is_input else info.layer or f"{info.operation}_{info.node}"
        name = f"{name}:{info.node}" if name in names else name
        node = replace(node, operands=[at[i] for i in node.operands])
        layer: Any = node.layer
        activation: Any = layer.activation if node.kind == "dense" else node.activation
        if node.kind == "dense" and activation.name != "identity":
            nodes.append(replace(node, layer=replace(layer, activation=Spec.parse("activation", "identity"))))
            names[f"{name}.z"] = "sum"
            node = GraphNode("activation", node.width, [len(nodes) - 1], activation=activation, grid=node.grid)
        at.append(len(nodes))
        nodes.append(node)
        names[name] = str(node.activation or _DETAILS.get(node.kind, ""))
    return nodes, list(names.items()), at


def _largest(group: Group) -> list[int]:
    """The places of the numbers that contribute most: value times gradient."""
    size = [abs(value * by) for value, by in zip(group.values, group.grads, strict=True)]
    return sorted(sorted(range(len(size)), key=lambda i: -size[i])[:_MOST])


def shape_of_node(node: GraphNode) -> tuple[int, ...]:
    """That of a row of its values."""
    height, width = node.grid
    return (height, width, node.width) if height > 1 else (width, node.width) if width > 1 else (node.width,)


def index(shape: Sequence[int], place: int) -> str:
    """The place in an array of this shape: [1, 0]."""
    found: list[str] = []
    for size in reversed(shape):
        place, i = divmod(place, size)
        found.insert(0, str(i))
    return f"[{', '.join(found)}]"


def shape_of(tensor: Tensor) -> tuple[int, ...]:
    """That in `net.tensors`, of which a dense layer's weight in memory is the transpose."""
    return (tensor.rows, tensor.cols) if tensor.is_table else (tensor.cols, tensor.rows) if tensor.is_matrix else (tensor.cols,)


def weight_name(tensor: Tensor, place: int) -> str:
    """As `net.tensors` has it: `dense_0.weight[unit, input]`."""
    if tensor.is_matrix and not tensor.is_table:
        place = place % tensor.cols * tensor.rows + place // tensor.cols
    return f"{tensor.layer}.{tensor.name}{index(shape_of(tensor), place)}"
