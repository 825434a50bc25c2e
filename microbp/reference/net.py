"""A network: the graph, its parameters in one flat array, and the way from inputs to the values of its nodes."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .arrays import FORMATS, check_writable, read_matrix
from .autodiff import Matrix
from .formulas import OUTPUT_ACTIVATIONS
from .graph import SETTINGS, Graph, Layer, Norm
from .nodes import Batch, Run
from .random import Place, draws
from .spec import Spec, check_parameter

_INITIALIZATION = 1  # the purpose of these random numbers
_NOTES_MAX = 2**24 - 1  # bytes


@dataclass(frozen=True)
class Tensor:
    """A layer's weight (of a dense layer: rows inputs, cols units), bias or running statistic (1 row) in its flat vector."""

    layer: str
    name: str
    offset: int
    rows: int
    cols: int
    is_matrix: bool = False  # the weight of a dense layer, on which weight decay acts

    @property
    def place(self) -> slice:
        return slice(self.offset, self.offset + self.rows * self.cols)


@dataclass(frozen=True)
class Pass:
    """What one forward pass computed: all that a backward pass needs."""

    inputs: list[Matrix]
    tensors: list[Matrix]  # in the order of Net.layout
    values: list[Matrix]  # by node
    outputs: list[Matrix]  # raw, before their activations
    batches: list[Batch]  # what the batch_norm nodes found, in their order


class Net:
    """A network from its graph text. `params` is its flat parameter vector: the weights of dense layers in layer order, each (inputs,
    units) row-major, then all biases and scales; `buffers` has the running statistics."""

    def __init__(self, text: str, dtype: str = "float32", seed: int = 0) -> None:
        if dtype not in FORMATS:
            raise ValueError(f'unknown dtype "{dtype}"; there are: {", ".join(FORMATS)}')
        self.graph = Graph.parse(text)
        self.dtype = dtype
        self.threads = 1  # may be set, and changes nothing
        self._notes = ""
        self.format = FORMATS[dtype]
        self.layout = _layout(self.graph)
        self.buffer_layout = _buffer_layout(self.graph)
        self.params, self.buffers = (
            array(self.format, bytes(array(self.format).itemsize * sum(tensor.rows * tensor.cols for tensor in layout)))
            for layout in (self.layout, self.buffer_layout)
        )
        self.init(seed)

    def text(self) -> str:
        """The canonical graph text."""
        return self.graph.text()

    def nodes(self) -> list[tuple[str, tuple[int, ...], int, int, str, float]]:
        """(operation, operands, width, layer's number or -1, activation or "", rate or std) of each node."""
        numbers = {name: i for i, name in enumerate(self.graph.layers)}
        found = []
        for node in self.graph.nodes:
            layer = numbers[node.layer.name] if node.layer else -1
            activation = node.layer.activation if isinstance(node.layer, Layer) else node.activation
            amount = next(iter(node.settings.values()), 0.0)
            found.append((node.kind, tuple(node.operands), node.width, layer, str(activation or ""), amount))
        return found

    def layers(self) -> list[tuple[str, str, int, int, str, str, bool, bool, dict[str, float]]]:
        """(name, kind, inputs, units, activation, init, bias, frozen, settings) of each layer; a norm's activation and init are ""."""
        found = []
        for layer in self.graph.layers.values():
            activation, init, bias = (str(layer.activation), str(layer.init), layer.bias) if isinstance(layer, Layer) else ("", "", True)
            found.append((layer.name, layer.kind, layer.inputs, layer.units, activation, init, bias, layer.frozen, dict(layer.settings)))
        return found

    def outputs(self) -> list[tuple[int, str | None]]:
        """(node, activation or None) of each output."""
        return [(output.node, output.activation) for output in self.graph.outputs]

    def tensors(self) -> list[tuple[str, str, int, int, int]]:
        """(layer, "weight" or "bias", offset, inputs, units) in layer order."""
        return [(tensor.layer, tensor.name, tensor.offset, tensor.rows, tensor.cols) for tensor in self.layout]

    def buffer_tensors(self) -> list[tuple[str, str, int, int, int]]:
        """(layer, "running_mean" or "running_var", offset, 1, units) in layer order."""
        return [(tensor.layer, tensor.name, tensor.offset, tensor.rows, tensor.cols) for tensor in self.buffer_layout]

    # ---- what can be changed ----

    def init(self, seed: int) -> None:
        """Draws the weights anew and sets all else as it begins; layers with init=array keep their weights."""
        if not 0 <= seed < 2**64:
            raise ValueError(f"seed {seed} is not in 0 to 2^64 - 1")
        self.seed = seed
        for tensor in self.buffer_layout:
            self.buffers[tensor.place] = array(self.format, [float(tensor.name == "running_var")] * tensor.cols)
        for tensor in self.layout:
            if tensor.name == "bias":
                self.params[tensor.place] = array(self.format, [0.0] * tensor.cols)
            elif self.graph.layers[tensor.layer].kind != "dense":
                self.params[tensor.place] = array(self.format, [1.0] * tensor.cols)
            elif self.graph.layers[tensor.layer].init.entry.distribution != "keep":
                self.params[tensor.place] = array(self.format, self._initial_weight(tensor))

    def _initial_weight(self, tensor: Tensor) -> list[float]:
        init = self.graph.layers[tensor.layer].init
        normal, scale = init.entry.distribution == "normal", init.entry.scale(tensor.rows, tensor.cols, **init.values)
        layer = list(self.graph.layers).index(tensor.layer)
        drawn = draws(self.seed, _INITIALIZATION, layer, tensor.rows * tensor.cols, normal, self.dtype)
        return [scale * n for n in drawn] if normal else [scale * (2 * u - 1) for u in drawn]

    def freeze(self, layer: str | None, frozen: bool) -> None:
        """Freezes or releases a layer, or all of them: the parameters of a frozen layer do not move."""
        for found in self._layers(layer):
            found.frozen = bool(frozen)

    def set_layer(self, layer: str | None, name: str, value: float) -> None:
        """Changes a setting of a layer, or of all those that have it."""
        layers = [found for found in self._layers(layer) if name in found.settings]
        if not layers and layer is not None:
            raise ValueError(f'layer {layer} has no setting "{name}"; it has: {SETTINGS[self.graph.layers[layer].kind]}')
        if not layers:
            raise ValueError(f'no layer has a setting "{name}"; dense layers have: {SETTINGS["dense"]}')
        for found in layers:
            check_parameter(SETTINGS[found.kind], name, float(value))
        for found in layers:
            found.settings[name] = float(value)

    def _layers(self, name: str | None) -> list[Layer | Norm]:
        if name is not None and name not in self.graph.layers:
            raise ValueError(f'there is no layer "{name}"; there are: {", ".join(self.graph.layers)}')
        return list(self.graph.layers.values()) if name is None else [self.graph.layers[name]]

    def set_output(self, i: int, activation: str | None) -> None:
        """Sets the activation of an output, which `predict` applies unless raw values are wanted; None: not chosen."""
        if not 0 <= i < len(self.graph.outputs):
            raise ValueError(f"output {i} does not exist: the net has {len(self.graph.outputs)}")
        self.graph.outputs[i].activation = None if activation is None else Spec.parse("output_activation", activation).name

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

    def forward(self, inputs: list[Matrix], training: Place | None = None) -> Pass:
        """The values of all nodes, in order; training: in training, with the random numbers of that place, else in inference."""
        tensors = [self._parameter_matrix(tensor) for tensor in self.layout]
        known = {(tensor.layer, tensor.name): matrix for tensor, matrix in zip(self.layout, tensors)}
        known |= {(t.layer, t.name): Matrix(t.rows, t.cols, self.buffers[t.place].tolist()) for t in self.buffer_layout}
        run = Run(known, training, self.dtype)
        values = run.values(self.graph, inputs)
        return Pass(inputs, tensors, values, [values[output.node] for output in self.graph.outputs], run.batches)

    def _parameter_matrix(self, tensor: Tensor) -> Matrix:
        frozen = self.graph.layers[tensor.layer].frozen
        return Matrix(tensor.rows, tensor.cols, self.params[tensor.place].tolist(), wanted=not frozen)

    def predict(self, xs: Sequence[Any], outs: Sequence[Any], raw: bool, node: int) -> None:
        """Writes the outputs, or with node >= 0 that node's values, to the arrays in `outs`; raw: before the outputs' activations."""
        if node >= len(self.graph.nodes):
            raise ValueError(f"there is no node {node}: the net has {len(self.graph.nodes)}")
        result = self.forward(self.read_inputs(xs))
        matrices = [result.values[node]] if node >= 0 else result.outputs
        if not raw and node < 0:
            activations = [OUTPUT_ACTIVATIONS[output.activation or "identity"] for output in self.graph.outputs]
            matrices = [activation.y(matrix) for activation, matrix in zip(activations, matrices)]
        if len(outs) != len(matrices):
            raise ValueError(f"{len(matrices)} arrays are needed for the results, but {len(outs)} are given")
        views = [check_writable(out, m.rows, m.cols, self.format, f"out {i}") for i, (out, m) in enumerate(zip(outs, matrices))]
        for view, matrix in zip(views, matrices):
            for r, row in enumerate(matrix.row_list()):
                for j, value in enumerate(row):
                    view[r, j] = value


def _layout(graph: Graph) -> list[Tensor]:
    """The weights of dense layers come first in the flat vector, then biases and scales; the list runs layer by layer."""
    found: dict[str, list[Tensor]] = {name: [] for name in graph.layers}
    end = 0

    def place(layer: str, name: str, rows: int, cols: int, is_matrix: bool = False) -> None:
        nonlocal end
        found[layer].append(Tensor(layer, name, end, rows, cols, is_matrix))
        end += rows * cols

    for layer in graph.layers.values():
        if layer.kind == "dense":
            place(layer.name, "weight", layer.inputs, layer.units, is_matrix=True)
    for layer in graph.layers.values():
        if layer.kind != "dense":
            place(layer.name, "weight", 1, layer.units)
        if layer.kind != "dense" or layer.bias:
            place(layer.name, "bias", 1, layer.units)
    return [tensor for tensors in found.values() for tensor in tensors]


def _buffer_layout(graph: Graph) -> list[Tensor]:
    tensors: list[Tensor] = []
    for layer in graph.layers.values():
        if layer.kind == "batch_norm":
            end = tensors[-1].place.stop if tensors else 0
            tensors += [
                Tensor(layer.name, "running_mean", end, 1, layer.units),
                Tensor(layer.name, "running_var", end + layer.units, 1, layer.units),
            ]
    return tensors
