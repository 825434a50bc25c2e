"""A network: the graph, its parameters in one flat array, and the forward pass."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from .arrays import FORMATS, check_writable, counted, read_matrix
from .autodiff import Matrix
from .formulas import OUTPUT_ACTIVATIONS
from .graph import SETTINGS, Graph, Layer, Norm
from .nodes import Batch, Run
from .random import Place, draws
from .sharing.lock import Lock, locked
from .spec import Spec, check_parameter, unknown

_WEIGHTS, _BIASES = 1, 6  # purposes of random numbers
_NOTES_MAX = 2**24 - 1  # bytes


@dataclass(frozen=True)
class Tensor:
    """The place of a weight, bias or running statistic in its flat vector. A dense layer's weight is (inputs, units); all other tensors
    have 1 row."""

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
    """The results of a forward pass that the backward pass needs."""

    inputs: list[Matrix]
    tensors: list[Matrix]  # in the order of Net.layout
    values: list[Matrix]  # by node
    outputs: list[Matrix]  # raw, before their activations
    batches: list[Batch]  # the statistics of the batch_norm nodes, in order


@locked(holds="init freeze set_layer set_output notes assign")
class Net:
    """A network from its graph text. `params` is its flat parameter vector: the weights of dense layers in layer order, each (inputs,
    units) row-major, then all biases and scales; `buffers` has the running statistics."""

    def __init__(self, text: str, dtype: str = "float32", seed: int = 0) -> None:
        if dtype not in FORMATS:
            raise unknown("unknown dtype", dtype, list(FORMATS))
        self.graph = Graph.parse(text)
        self._lock = Lock()  # of this net and all its trainers
        self.hold, self.guest = self._lock.hold, self._lock.guest
        self.dtype = dtype
        self.threads = 1  # may be set, but has no effect
        self._notes = ""
        self.format = FORMATS[dtype]
        self.layout = _layout(self.graph)
        self.buffer_layout = _buffer_layout(self.graph)
        self.params, self.buffers = (
            array(self.format, bytes(array(self.format).itemsize * sum(tensor.rows * tensor.cols for tensor in layout)))
            for layout in (self.layout, self.buffer_layout)
        )
        self.init(seed)

    @property
    def gate(self) -> AbstractContextManager[Any]:
        """What reads or writes parameters, buffers or settings holds this for a moment."""
        return self._lock.gate

    def text(self) -> str:
        """The canonical graph text."""
        with self.gate:
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

    def layers(self) -> list[tuple[str, str, int, int, str, str, str, bool, bool, bool, dict[str, float]]]:
        """(name, kind, inputs, units, activation, init, bias_init, gain, bias, frozen, settings) of each layer. Activation, init and
        bias_init are "" if it is not dense, bias_init also if it has no bias. gain: False only for a scale without it."""
        found = []
        for layer in self.graph.layers.values():
            formulas = ("", "", "")
            if isinstance(layer, Layer):
                formulas = (str(layer.activation), str(layer.init), str(layer.bias_init) if layer.bias else "")
            flags = layer.gain, layer.bias, layer.frozen
            found.append((layer.name, layer.kind, layer.inputs, layer.units, *formulas, *flags, dict(layer.settings)))
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

    # ---- changes ----

    def init(self, seed: int) -> None:
        """Draws new initial weights and biases, and resets scales, norms and running statistics. Tensors with init=array stay as they
        are."""
        if not 0 <= seed < 2**64:
            raise ValueError(f"seed is {seed}, but must be from 0 to 2^64 - 1")
        with self.gate:
            self._draw(seed)

    def assign(self, params: Any, buffers: Any) -> None:
        """Copies new values into the parameters and the buffers."""
        with self.gate:
            for vector, values in ((memoryview(self.params), params), (memoryview(self.buffers), buffers)):
                vector[:] = memoryview(values).cast("B").cast(self.format)

    def _draw(self, seed: int) -> None:
        self.seed = seed
        for tensor in self.buffer_layout:
            self.buffers[tensor.place] = array(self.format, [float(tensor.name == "running_var")] * tensor.cols)
        numbers = {name: i for i, name in enumerate(self.graph.layers)}
        for tensor in self.layout:
            layer = self.graph.layers[tensor.layer]
            if isinstance(layer, Layer):
                self._draw_tensor(tensor, layer, numbers[layer.name])
            else:
                self.params[tensor.place] = array(self.format, [float(tensor.name == "weight")] * tensor.cols)

    def _draw_tensor(self, tensor: Tensor, layer: Layer, number: int) -> None:
        """Draws the weight or the bias of a dense layer."""
        init, purpose = (layer.init, _WEIGHTS) if tensor.name == "weight" else (layer.bias_init, _BIASES)
        if init.entry.distribution == "keep":
            return
        normal, scale = init.entry.distribution == "normal", init.entry.scale(layer.inputs, layer.units, **init.values)
        count = tensor.rows * tensor.cols
        drawn = draws(self.seed, purpose, number, count, normal, self.dtype) if scale else [0.0] * count
        self.params[tensor.place] = array(self.format, [scale * (n if normal or not scale else 2 * n - 1) for n in drawn])

    def freeze(self, layer: str | None, frozen: bool) -> None:
        """Freezes or unfreezes a layer, or all layers (None). Training does not change the parameters of a frozen layer."""
        layers = self._layers(layer)
        with self.gate:
            for found in layers:
                found.frozen = bool(frozen)

    def set_layer(self, layer: str | None, name: str, value: float) -> None:
        """Changes a setting of a layer, or of all layers that have it (None)."""
        layers = [found for found in self._layers(layer) if name in found.settings and (name != "bias_lr" or found.bias)]
        if not layers and name == "bias_lr" and (layer is None or self.graph.layers[layer].kind == "dense"):
            raise ValueError(f"{'no dense layer has a bias' if layer is None else f'layer {layer} has no bias'}, so bias_lr cannot be set")
        if not layers and layer is not None:
            raise unknown(f"layer {layer} has no setting", name, SETTINGS[self.graph.layers[layer].kind].split())
        if not layers:
            raise unknown("no layer has a setting", name, SETTINGS["dense"].split())
        for found in layers:
            check_parameter(SETTINGS[found.kind], name, float(value))
        with self.gate:
            for found in layers:
                found.settings[name] = float(value)

    def _layers(self, name: str | None) -> list[Layer | Norm]:
        if name is not None and name not in self.graph.layers:
            raise unknown("no layer is named", name, list(self.graph.layers))
        return list(self.graph.layers.values()) if name is None else [self.graph.layers[name]]

    def set_output(self, i: int, activation: str | None) -> None:
        """Sets the activation that `predict` applies to an output unless raw is True. None: no activation is chosen."""
        if not 0 <= i < len(self.graph.outputs):
            raise _no_index("output", i, len(self.graph.outputs))
        self.graph.outputs[i].activation = None if activation is None else Spec.parse("output_activation", activation).name

    @property
    def notes(self) -> str:
        """A text for the caller's own use, which is saved with the net; "" if there is none."""
        return self._notes

    @notes.setter
    def notes(self, notes: str) -> None:
        size = len(notes.encode())
        if "\0" in notes:
            raise ValueError("the notes contain a zero byte")
        if size > _NOTES_MAX:
            raise ValueError(f"the notes have {size} bytes, but may have at most {_NOTES_MAX}")
        self._notes = notes

    # ---- the forward pass ----

    def read_inputs(self, xs: Sequence[Any], wanted: bool = False) -> list[Matrix]:
        """A matrix for each input, all with the same number of rows. wanted: whether their gradients will be needed."""
        nodes = self.graph.inputs
        if len(xs) != len(nodes):
            raise ValueError(f"x has {counted(len(xs), 'array')}, but the net has {counted(len(nodes), 'input')}")
        inputs: list[Matrix] = []
        for i, (x, node) in enumerate(zip(xs, nodes)):
            matrix = read_matrix(x, node.width, self.format, f"input {i}", inputs[0].rows if inputs else None)
            inputs.append(Matrix(matrix.rows, matrix.cols, matrix.data, wanted=wanted))
        return inputs

    def forward(self, inputs: list[Matrix], training: Place | None = None, dropout: float = 1.0) -> Pass:
        """Runs a forward pass. training: the place of its random numbers in training; None: inference. dropout: a factor of the rates."""
        tensors = [self._parameter_matrix(tensor) for tensor in self.layout]
        known = {(tensor.layer, tensor.name): matrix for tensor, matrix in zip(self.layout, tensors)}
        known |= {(t.layer, t.name): Matrix(t.rows, t.cols, self.buffers[t.place].tolist()) for t in self.buffer_layout}
        run = Run(known, training, dropout, self.dtype)
        values = run.values(self.graph, inputs)
        return Pass(inputs, tensors, values, [values[output.node] for output in self.graph.outputs], run.batches)

    def _parameter_matrix(self, tensor: Tensor) -> Matrix:
        frozen = self.graph.layers[tensor.layer].frozen
        return Matrix(tensor.rows, tensor.cols, self.params[tensor.place].tolist(), wanted=not frozen)

    def predict(self, xs: Sequence[Any], outs: Sequence[Any], raw: bool, node: int) -> None:
        """Writes the outputs, or the values of a node (node >= 0), to the arrays `outs`. raw: without the output activations."""
        if node >= len(self.graph.nodes):
            raise _no_index("node", node, len(self.graph.nodes))
        inputs = self.read_inputs(xs)
        with self.gate:
            result = self.forward(inputs)
            activations = [OUTPUT_ACTIVATIONS[output.activation or "identity"] for output in self.graph.outputs]
        matrices = [result.values[node]] if node >= 0 else result.outputs
        if not raw and node < 0:
            matrices = [activation.y(matrix) for activation, matrix in zip(activations, matrices)]
        if len(outs) != len(matrices):
            raise ValueError(f"out has {counted(len(outs), 'array')}, but the net has {counted(len(matrices), 'output')}")
        views = [check_writable(out, m.rows, m.cols, self.format, f"output {i}") for i, (out, m) in enumerate(zip(outs, matrices))]
        for view, matrix in zip(views, matrices):
            for r, row in enumerate(matrix.row_list()):
                for j, value in enumerate(row):
                    view[r, j] = value


def _no_index(noun: str, i: int, count: int) -> ValueError:
    return ValueError(f"there is no {noun} {i}: the net has {counted(count, noun)}, numbered from 0")


def _layout(graph: Graph) -> list[Tensor]:
    """The tensors, layer by layer. The flat vector has the weights of dense layers first, then all biases and scales."""
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
        if layer.kind != "dense" and layer.gain:
            place(layer.name, "weight", 1, layer.units)
        if layer.bias:
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
