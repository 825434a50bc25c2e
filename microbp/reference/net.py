"""A network: the graph, its parameters in one flat array, and the way from inputs to the values of its nodes."""

from __future__ import annotations

import os
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from .arrays import FORMATS, check_writable, read_matrix
from .autodiff import Matrix, concat
from .formulas import LINKS
from .graph import Graph, Node
from .random import draws
from .spec import Spec

_INITIALISATION = 1  # the purpose of these random numbers
_NOTES_MAX = 2**24 - 1  # bytes


@dataclass(frozen=True)
class Tensor:
    """A layer's weight (rows inputs, cols units) or bias (1 row) in the flat vector."""

    layer: str
    name: str
    offset: int
    rows: int
    cols: int

    @property
    def place(self) -> slice:
        return slice(self.offset, self.offset + self.rows * self.cols)


@dataclass(frozen=True)
class Pass:
    """What one forward pass computed: all that a backward pass needs."""

    inputs: list[Matrix]
    tensors: list[Matrix]  # in the order of Net.layout
    values: list[Matrix]  # by node
    outputs: list[Matrix]  # raw, before their links


class Net:
    """A network from its graph text. `params` is its flat parameter vector: all weights in layer order, each (inputs, units)
    row-major, then all biases."""

    def __init__(self, text: str, dtype: str = "float32", seed: int = 0) -> None:
        if dtype not in FORMATS:
            raise ValueError(f'unknown dtype "{dtype}"; there are: {", ".join(FORMATS)}')
        self.graph = Graph.parse(text)
        self.dtype = dtype
        self.threads = 1  # may be set, and changes nothing
        self._notes = ""
        self.format = FORMATS[dtype]
        self.layout = _layout(self.graph)
        self.params = array(self.format, bytes(array(self.format).itemsize * sum(tensor.rows * tensor.cols for tensor in self.layout)))
        self.buffers = array(self.format)
        self.init(seed)

    def text(self) -> str:
        """The canonical graph text."""
        return self.graph.text()

    def tensors(self) -> list[tuple[str, str, int, int, int]]:
        """(layer, "weight" or "bias", offset, inputs, units) in layer order."""
        return [(tensor.layer, tensor.name, tensor.offset, tensor.rows, tensor.cols) for tensor in self.layout]

    # ---- what can be changed ----

    def init(self, seed: int) -> None:
        """Draws the weights anew and sets the biases to 0; layers with init=array keep their weights."""
        if not 0 <= seed < 2**64:
            raise ValueError(f"seed {seed} is not in 0 to 2^64 - 1")
        self.seed = seed
        for tensor in self.layout:
            if tensor.name == "bias":
                self.params[tensor.place] = array(self.format, [0.0] * tensor.cols)
            elif self.graph.layers[tensor.layer].init.entry.distribution != "keep":
                self.params[tensor.place] = array(self.format, self._initial_weight(tensor))

    def _initial_weight(self, tensor: Tensor) -> list[float]:
        init = self.graph.layers[tensor.layer].init
        normal, scale = init.entry.distribution == "normal", init.entry.scale(tensor.rows, tensor.cols, **init.values)
        layer = list(self.graph.layers).index(tensor.layer)
        drawn = draws(self.seed, _INITIALISATION, layer, tensor.rows * tensor.cols, normal, self.dtype)
        return [scale * n for n in drawn] if normal else [scale * (2 * u - 1) for u in drawn]

    def freeze(self, layer: str | None, frozen: bool) -> None:
        """Freezes or releases a layer, or all of them: the parameters of a frozen layer do not move."""
        if layer is not None and layer not in self.graph.layers:
            raise ValueError(f'there is no layer "{layer}"; there are: {", ".join(self.graph.layers)}')
        for name in self.graph.layers if layer is None else [layer]:
            self.graph.layers[name].frozen = bool(frozen)

    def set_link(self, output: int, link: str) -> None:
        """Sets what `predict` with link=True applies to this output."""
        if not 0 <= output < len(self.graph.outputs):
            raise ValueError(f"output {output} does not exist: the net has {len(self.graph.outputs)}")
        self.graph.outputs[output].link = Spec.parse("link", link).name

    @property
    def notes(self) -> str:
        """A text that the net carries and its file keeps; "" for none."""
        return self._notes

    @notes.setter
    def notes(self, notes: str) -> None:
        size = len(notes.encode())
        if "\0" in notes:
            raise ValueError("the notes have a zero byte in them")
        if size > _NOTES_MAX:
            raise ValueError(f"the notes have {size} bytes; a network carries at most {_NOTES_MAX}")
        self._notes = notes

    # ---- from inputs to outputs ----

    def read_inputs(self, xs: Sequence[Any], wanted: bool = False) -> list[Matrix]:
        """One matrix for each input, with equally many rows; wanted: gradients by them will be asked for."""
        nodes = self.graph.inputs
        if len(xs) != len(nodes):
            raise ValueError(f"the net has {len(nodes)} inputs, but {len(xs)} arrays are given")
        inputs: list[Matrix] = []
        for i, (x, node) in enumerate(zip(xs, nodes)):
            matrix = read_matrix(x, node.width, self.format, f"x {i}", inputs[0].rows if inputs else None)
            inputs.append(Matrix(matrix.rows, matrix.cols, matrix.data, wanted=wanted))
        return inputs

    def forward(self, inputs: list[Matrix]) -> Pass:
        """The values of all nodes, in order."""
        tensors = [self._parameter_matrix(tensor) for tensor in self.layout]
        weights = {(tensor.layer, tensor.name): matrix for tensor, matrix in zip(self.layout, tensors)}
        waiting = iter(inputs)
        values: list[Matrix] = []
        for node in self.graph.nodes:
            operands = [values[operand] for operand in node.operands]
            values.append(next(waiting) if node.kind == "input" else _NODES[node.kind](node, operands, weights))
        return Pass(inputs, tensors, values, [values[output.node] for output in self.graph.outputs])

    def _parameter_matrix(self, tensor: Tensor) -> Matrix:
        frozen = self.graph.layers[tensor.layer].frozen
        return Matrix(tensor.rows, tensor.cols, self.params[tensor.place].tolist(), wanted=not frozen)

    def predict(self, xs: Sequence[Any], outs: Sequence[Any], link: bool, node: int) -> None:
        """Writes the outputs, or with node >= 0 that node's values, to the arrays in `outs`; link: through the outputs' links."""
        if node >= len(self.graph.nodes):
            raise ValueError(f"there is no node {node}: the net has {len(self.graph.nodes)}")
        result = self.forward(self.read_inputs(xs))
        matrices = [result.values[node]] if node >= 0 else result.outputs
        if link and node < 0:
            matrices = [LINKS[output.link].y(matrix) for output, matrix in zip(self.graph.outputs, matrices)]
        if len(outs) != len(matrices):
            raise ValueError(f"{len(matrices)} arrays are needed for the results, but {len(outs)} are given")
        views = [check_writable(out, m.rows, m.cols, self.format, f"out {i}") for i, (out, m) in enumerate(zip(outs, matrices))]
        for view, matrix in zip(views, matrices):
            for r, row in enumerate(matrix.row_list()):
                for j, value in enumerate(row):
                    view[r, j] = value

    # ---- files ----

    def write(self) -> bytes:
        """The bytes of the net's file."""
        from .file import write

        return write(self)

    @staticmethod
    def read(data: bytes) -> Net:
        """The net from the bytes of a file."""
        from .file import read

        return read(data)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the file, all or nothing."""
        from .file import save

        save(self, path)

    @staticmethod
    def load(path: str | os.PathLike[str]) -> Net:
        """The net from a file."""
        from .file import load

        return load(path)


def _layout(graph: Graph) -> list[Tensor]:
    """All weights come first in the flat vector, then all biases; the list runs layer by layer."""
    weights, biases, end = {}, {}, 0
    for layer in graph.layers.values():
        weights[layer.name] = Tensor(layer.name, "weight", end, layer.inputs, layer.units)
        end += layer.inputs * layer.units
    for layer in graph.layers.values():
        if layer.bias:
            biases[layer.name] = Tensor(layer.name, "bias", end, 1, layer.units)
            end += layer.units
    return [tensors[name] for name in graph.layers for tensors in (weights, biases) if name in tensors]


# ---- one function per kind of node ----


def _dense(node: Node, operands: list[Matrix], weights: dict[tuple[str, str], Matrix]) -> Matrix:
    layer = node.layer
    z = operands[0] @ weights[layer.name, "weight"]
    if layer.bias:
        z = z + weights[layer.name, "bias"]
    return _activate(layer.activation, z)


def _activate(spec: Spec, z: Matrix) -> Matrix:
    return spec.entry.y(z, **spec.values)


_NODES: dict[str, Callable[[Node, list[Matrix], dict[tuple[str, str], Matrix]], Matrix]] = {
    "dense": _dense,
    "activation": lambda node, operands, weights: _activate(node.activation, operands[0]),
    "add": lambda node, operands, weights: operands[0] + operands[1],
    "multiply": lambda node, operands, weights: operands[0] * operands[1],
    "concat": lambda node, operands, weights: concat(operands),
}
