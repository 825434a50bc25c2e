"""A network: the graph, its parameters in one flat array, and the forward pass."""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import astuple, dataclass, replace
from typing import Any, Self

from .arrays import FORMATS, check_writable, counted, deviation_of, ids_matrix, read_lengths, read_matrix, rows_of
from .autodiff import Matrix, gradients
from .formulas import OUTPUT_ACTIVATIONS
from .graph import Graph, Output
from .graph import Node as GraphNode
from .layers import SETTINGS, Layer, Norm, Tensor, buffer_layout, layout, record_of
from .nodes import Batch, Run, cut_rows
from .positions.lengths import Valid, parts_of, size_input, valid_positions
from .random import Place, draw_tensor
from .sharing.lock import Lock, locked
from .sparse.rows import check_places, check_readers, dense_rows, is_sparse, refuse, stored_columns
from .spec import Spec, check_parameter, check_scale, unknown
from .states.length import stretched
from .states.state import Carry, State

_NOTES_MAX = 2**24 - 1  # bytes


@dataclass(frozen=True)
class Pass:
    """The results of a forward pass that the backward pass needs."""

    inputs: list[Matrix]
    tensors: list[Matrix]  # in the order of Net.layout
    values: list[Matrix]  # by node
    outputs: list[Matrix]  # raw, before their activations
    batches: list[Batch]  # the statistics of the batch_norm nodes, in order


@locked(holds="init standardize freeze set_layer set_output set_scale notes assign")
class Net:
    """A network from its graph text. `params` is its flat parameter vector: the weights of dense layers in layer order, each (inputs,
    units) row-major, then all biases and scales; `buffers` has the running statistics."""

    def __init__(self, text: str, dtype: str = "float32", seed: int = 0) -> None:
        if dtype not in FORMATS:
            raise unknown("unknown dtype", dtype, list(FORMATS))
        graph = Graph.parse(text)
        for i, output in enumerate(graph.outputs):
            try:
                if output.scale:
                    check_scale(*output.scale, dtype)
            except ValueError as error:
                raise ValueError(f"output {i}: {error}") from None
        self._start(graph, dtype, Lock())
        self.layout = layout(self.graph.layers.values())
        self.buffer_layout = buffer_layout(self.graph.layers.values())
        self.params, self.buffers = (
            array(self.format, bytes(array(self.format).itemsize * sum(tensor.rows * tensor.cols for tensor in layout)))
            for layout in (self.layout, self.buffer_layout)
        )
        self.init(seed)

    def _start(self, graph: Graph, dtype: str, lock: Lock) -> None:
        self.graph = graph
        self._lock = lock  # of this net, its parts, and all their trainers
        self.hold, self.guest = lock.hold, lock.guest
        self.dtype, self.format = dtype, FORMATS[dtype]
        self.threads = 1  # may be set, but has no effect
        self.layer_changes = 0  # how often layers were frozen, unfrozen or changed
        self._notes = ""

    def part(self, inputs: Sequence[int], outputs: Sequence[int]) -> Self:
        """A net of the nodes between these, which shares the parameters, the buffers and the lock. The settings of its layers are its
        own."""
        return self._sharing(lambda: _part(self.graph, inputs, outputs))

    def with_length(self, positions: int) -> Self:
        """The same net for sequences of this many positions, which shares parameters, buffers, the lock and the outputs' settings."""
        made = self._sharing(lambda: Graph.parse(stretched(self.graph, positions)))
        made.graph.outputs = self.graph.outputs
        return made

    def state(self, rows: int) -> State:
        """What recurrent nodes remember between calls, for this many rows."""
        return State.of(self.graph, self.dtype, rows)

    def _sharing(self, graph: Callable[[], Graph]) -> Self:
        part = type(self).__new__(type(self))
        with self.gate:
            part._start(graph(), self.dtype, self._lock)
            part.seed, part.params, part.buffers = self.seed, self.params, self.buffers
        part.layout, part.buffer_layout = (
            [tensor for layer in part.graph.layers for tensor in layout if tensor.layer == layer]
            for layout in (self.layout, self.buffer_layout)
        )
        return part

    @property
    def gate(self) -> AbstractContextManager[Any]:
        """What reads or writes parameters, buffers or settings holds this for a moment."""
        return self._lock.gate

    @property
    def changes(self) -> int:
        """How often an update or standardize has changed the parameters or buffers of this net and those that share them."""
        return self._lock.changes

    @contextmanager
    def changing(self) -> Iterator[None]:
        """The gate, for an update or new statistics."""
        with self.gate:
            self._lock.changes += 1
            yield

    def text(self) -> str:
        """The canonical graph text."""
        with self.gate:
            return self.graph.text()

    def nodes(self) -> list[tuple[Any, ...]]:
        """(operation, operands, width, layer's number or -1, activation or "", rate or std, columns of a slice, levels of ids, whether they
        are hashed, height and width of its positions, (size, stride, pad, dilation, kind or "") of a window or a pool, whether a recurrent
        node is reverse) of each node."""
        numbers = {name: i for i, name in enumerate(self.graph.layers)}
        found = []
        for node in self.graph.nodes:
            layer = numbers[node.layer.name] if node.layer else -1
            activation = node.layer.activation if node.kind in ("dense", "embedding") else node.activation
            amount = node.settings.get("rate", node.settings.get("std", 0.0))
            ids = (node.levels, bool(node.settings["hash"])) if node.kind == "ids" else (0, False)
            shape = node.columns, *ids, node.grid, node.window and astuple(node.window), node.reverse
            found.append((node.kind, tuple(node.operands), node.width, layer, str(activation or ""), amount, *shape))
        return found

    def layers(self) -> list[tuple[Any, ...]]:
        """(name, kind, inputs, units, activation, init, bias_init, gain, bias, frozen, settings, sums, cell, recurrent_init) of each layer.
        Activation, init and bias_init are "" if it has none, bias_init also if it has no bias. gain: False only for a scale without it.
        sums: whether an embedding adds. cell, recurrent_init: "" unless it is recurrent."""
        return [record_of(layer) for layer in self.graph.layers.values()]

    def outputs(self) -> list[tuple[int, str | None, tuple[list[float], list[float]] | None]]:
        """(node, activation or None, None or (means, standard deviations)) of each output."""
        return [(output.node, output.activation, output.scale) for output in self.graph.outputs]

    def tensors(self) -> list[tuple[str, str, int, int, int]]:
        """(layer, "weight" or "bias", offset, inputs, units) in layer order."""
        return [(tensor.layer, tensor.name, tensor.offset, tensor.rows, tensor.cols) for tensor in self.layout]

    def buffer_tensors(self) -> list[tuple[str, str, int, int, int]]:
        """(layer, "running_mean" or "mean", ..., offset, 1, units) in layer order."""
        return [(tensor.layer, tensor.name, tensor.offset, tensor.rows, tensor.cols) for tensor in self.buffer_layout]

    # ---- changes ----

    def flush(self) -> None:
        """All rows are always up to date here."""

    settle = flush

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
            self.buffers[tensor.place] = array(self.format, [float(tensor.name in ("running_var", "std"))] * tensor.cols)
        numbers = {name: i for i, name in enumerate(self.graph.layers)}
        for tensor in self.layout:
            layer = self.graph.layers[tensor.layer]
            if isinstance(layer, Layer):
                draw_tensor(self.params, tensor.name, tensor.offset, layer, self.seed, numbers[layer.name])
            else:
                self.params[tensor.place] = array(self.format, [float(tensor.name == "weight")] * tensor.cols)

    def freeze(self, layer: str | None, frozen: bool) -> None:
        """Freezes or unfreezes a layer, or all layers (None). Training does not change the parameters of a frozen layer."""
        layers = self._layers(layer)
        with self.gate:
            for found in layers:
                found.frozen = bool(frozen)
            self.layer_changes += 1

    def set_layer(self, layer: str | None, name: str, value: float) -> None:
        """Changes a setting of a layer, or of all layers that have it (None)."""
        layers = [found for found in self._layers(layer) if name in found.settings and (name != "bias_lr" or found.bias)]
        if not layers and name == "bias_lr" and (layer is None or self.graph.layers[layer].kind in ("dense", "recurrent")):
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
            self.layer_changes += 1

    def standardize(self, xs: Sequence[Any], again: bool) -> None:
        """Sets mean and standard deviation of the standardize layers that are not frozen: of the values that each gets in its first use.
        again: also of layers that have some already."""
        layers = [layer for layer in self.graph.layers.values() if layer.kind == "standardize" and not layer.frozen]
        inputs, before = self.read_inputs(xs), self.buffers[:]
        if not layers:
            raise ValueError("the net has no standardize layer that is not frozen")
        if inputs[0].rows == 0:
            raise ValueError("x has 0 rows, but statistics need at least 1")
        try:
            for layer in layers:
                if again or self._is_unset(layer):
                    self._set_statistics(layer, inputs)
        except ValueError:
            self.buffers[:] = before
            raise

    def _statistics(self, layer: Norm) -> slice:
        """The place of a layer's means and standard deviations in `buffers`."""
        mean, std = (tensor.place for tensor in self.buffer_layout if tensor.layer == layer.name)
        return slice(mean.start, std.stop)

    def _is_unset(self, layer: Norm) -> bool:
        return list(self.buffers[self._statistics(layer)]) == [0.0] * layer.units + [1.0] * layer.units

    def _set_statistics(self, layer: Norm, inputs: list[Matrix]) -> None:
        number, *_ = (node.operands[0] for node in self.graph.nodes if node.layer is layer)
        columns = list(zip(*self.forward(inputs).values[number].row_list()))
        for row in range(inputs[0].rows):
            for j, column in enumerate(columns):
                if not math.isfinite(column[row]):
                    place = f"row {row}, column {j} of node {number}"
                    raise ValueError(f"{place} is not finite, so layer {layer.name} has no mean")
        means = [math.fsum(column) / len(column) for column in columns]
        deviations = [deviation_of(column, mean) for column, mean in zip(columns, means)]
        with self.changing():
            self.buffers[self._statistics(layer)] = array(self.format, means + deviations)

    def _layers(self, name: str | None) -> list[Layer | Norm]:
        if name is not None and name not in self.graph.layers:
            raise unknown("no layer is named", name, list(self.graph.layers))
        return list(self.graph.layers.values()) if name is None else [self.graph.layers[name]]

    def set_output(self, i: int, activation: str | None) -> None:
        """Sets the activation that `predict` applies to an output unless raw is True. None: no activation is chosen."""
        if not 0 <= i < len(self.graph.outputs):
            raise _no_index("output", i, len(self.graph.outputs))
        name = None if activation is None else Spec.parse("output_activation", activation).name
        with self.gate:
            self.graph.outputs[i].activation, self.graph.outputs[i].scale = name, None

    def scale(self, i: int) -> tuple[list[float], list[float]] | None:
        """The means and the standard deviations of an output's columns; None: it has none."""
        return self.graph.outputs[i].scale

    def set_scale(self, i: int, mean: Sequence[float], std: Sequence[float]) -> None:
        """Sets the means and the standard deviations of an output's columns, and the activation identity."""
        if not 0 <= i < len(self.graph.outputs):
            raise _no_index("output", i, len(self.graph.outputs))
        if not len(mean) == len(std) == (width := self.graph.nodes[self.graph.outputs[i].node].width):
            raise ValueError(f"mean and std of output {i} must have {width} numbers")
        if self.graph.nodes[self.graph.outputs[i].node].positions > 1:
            raise ValueError(f"output {i} has several positions, so it cannot have mean and std")
        scale = check_scale(mean, std, self.dtype)
        with self.gate:
            self.graph.outputs[i].activation, self.graph.outputs[i].scale = "identity", scale

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

    def read_inputs(self, xs: Any, wanted: bool = False) -> list[Matrix]:
        """A matrix for each input, all with the same number of rows. wanted: whether their gradients will be needed."""
        nodes = self.graph.inputs
        xs, lengths = parts_of(xs)
        if len(xs) != len(nodes):
            raise ValueError(f"x has {counted(len(xs), 'array')}, but the net has {counted(len(nodes), 'input')}")
        inputs: list[Matrix] = []
        sized = read_lengths(self.graph, lengths, len(xs[0]) if lengths else 0)
        for i, (x, node) in enumerate(zip(xs, nodes)):
            if node.kind == "ids":
                inputs.append(ids_matrix(x, self.graph, i, inputs[0].rows if inputs else None, sized[i]))
                continue
            given = dense_rows(x, f"input {i}") if is_sparse(x) else x
            matrix = read_matrix(given, node.width, self.format, f"input {i}", inputs[0].rows if inputs else None)
            if is_sparse(x):
                check_readers(self.graph, i)
            inputs.append(Matrix(matrix.rows, matrix.cols, matrix.data, wanted=wanted))
            inputs[-1].stored = stored_columns(x) if is_sparse(x) else None
        for i, (matrix, numbers) in enumerate(zip(inputs, sized)):
            size_input(self.graph, i, matrix, numbers)
        return inputs

    def valid(self, inputs: Sequence[Matrix]) -> list[Valid]:
        """For each node how many positions of each row are there."""
        return valid_positions(self.graph, [matrix.lengths for matrix in inputs])

    def forward(
        self,
        inputs: list[Matrix],
        training: Place | None = None,
        dropout: float = 1.0,
        fixed: bool = False,
        carry: Carry | None = None,
        total: Callable[[list[float]], list[float]] = list,
    ) -> Pass:
        """Runs a forward pass. training: the place of its random numbers in training; None: inference. dropout: a factor of the rates.
        fixed: whether batch_norm uses its running statistics in training too. carry: the states that the call goes on from. total: the sums
        of numbers over all ranks."""
        tensors = [self._parameter_matrix(tensor) for tensor in self.layout]
        known = {(tensor.layer, tensor.name): matrix for tensor, matrix in zip(self.layout, tensors)}
        known |= {(t.layer, t.name): Matrix(t.rows, t.cols, self.buffers[t.place].tolist()) for t in self.buffer_layout}
        run = Run(known, training, dropout, self.dtype, fixed, carry, total, valid=self.valid(inputs))
        values = run.values(self.graph, inputs)
        return Pass(inputs, tensors, values, [values[output.node] for output in self.graph.outputs], run.batches)

    @property
    def has_statistics(self) -> bool:
        """Whether a batch_norm uses those of the batch in training."""
        return any(node.kind == "batch_norm" and not node.layer.frozen for node in self.graph.nodes)

    def check_statistics(self, inputs: Sequence[Matrix], total: Callable[[list[float]], list[float]] = list) -> None:
        """Refuses a training batch with one row, or one position, for a batch_norm. total: the sums of numbers over all ranks."""
        nodes = zip(self.graph.nodes, self.valid(inputs))
        pairs = [(node, valid) for node, valid in nodes if node.kind == "batch_norm" and not node.layer.frozen]
        counts = [float(inputs[0].rows * node.positions if valid is None else sum(valid)) for node, valid in pairs]
        rows, *counts = total([float(inputs[0].rows), *counts]) if pairs else [0.0]
        for (node, _), count in zip(pairs, counts):
            if rows and count < 2:
                what = f"batch_norm (layer {node.layer.name}) needs at least 2 rows in training"
                raise ValueError(f"{what}; choose a batch size that leaves no single row")

    def _parameter_matrix(self, tensor: Tensor) -> Matrix:
        frozen = self.graph.layers[tensor.layer].frozen
        return Matrix(tensor.rows, tensor.cols, self.params[tensor.place].tolist(), wanted=not frozen)

    def predict(
        self,
        xs: Sequence[Any],
        outs: Sequence[Any],
        raw: bool,
        nodes: Sequence[int] | None = None,
        seed: int | None = None,
        state: State | None = None,
    ) -> None:
        """Writes to the arrays `outs`. nodes: a number for each of them, of a node or -1 - i for output i; None: all outputs. raw: without
        the output activations. seed: of dropout and noise; None: without them. state: what recurrent nodes go on from."""
        chosen = [-1 - i for i in range(len(self.graph.outputs))] if nodes is None else [nodes] if isinstance(nodes, int) else nodes
        for node in chosen:
            if node >= len(self.graph.nodes):
                raise _no_index("node", node, len(self.graph.nodes))
            if -1 - node >= len(self.graph.outputs):
                raise _no_index("output", -1 - node, len(self.graph.outputs))
        inputs = self.read_inputs(xs)
        check_places(self.graph, parts_of(xs)[0], chosen)
        with self.gate:
            rows, place = inputs[0].rows, None if seed is None else Place(seed, 0, 0)
            carry = Carry(state, self.graph, self.dtype, rows, range(rows)) if state else None
            result = self.forward(inputs, place, fixed=True, carry=carry)
            outputs = [(OUTPUT_ACTIVATIONS[output.activation or "identity"], replace(output)) for output in self.graph.outputs]
        matrices = [result.values[node] if node >= 0 else result.outputs[-1 - node] for node in chosen]
        if not raw:
            matrices = [
                outputs[-1 - node][1].unscaled(outputs[-1 - node][0].y(matrix)) if node < 0 else matrix
                for node, matrix in zip(chosen, matrices)
            ]
            numbers = [node if node >= 0 else self.graph.outputs[-1 - node].node for node in chosen]
            valid = self.valid(inputs)  # an activation of 0 need not be 0
            matrices = [cut_rows(m, valid[n], self.graph.nodes[n].positions) for m, n in zip(matrices, numbers)]
        matrices = [Matrix(rows, len(m.data) // rows, m.data) if rows else m for m in matrices]
        if len(outs) != len(matrices):
            raise ValueError(f"out has {counted(len(outs), 'array')}, but the net has {counted(len(matrices), 'output')}")
        views = [check_writable(out, m.rows, m.cols, self.format, f"output {i}") for i, (out, m) in enumerate(zip(outs, matrices))]
        for view, matrix in zip(views, matrices):
            for r, row in enumerate(matrix.row_list()):
                for j, value in enumerate(row):
                    view[r, j] = value
        if carry:
            carry.keep()

    def jacobian(self, xs: Sequence[Any], outs: Sequence[Any], by_inputs: bool, output: int) -> None:
        """Writes to the arrays `outs`, one per output (and input), each row's derivatives of the raw outputs: those of the first column,
        then those of the second, ... output: the number of the only one that is wanted; -1: all."""
        self.refuse_sparse(xs, "a Jacobian needs")
        if not -1 <= output < len(self.graph.outputs):
            raise _no_index("output", output, len(self.graph.outputs))
        inputs = self.read_inputs(xs, wanted=by_inputs)
        chosen = range(len(self.graph.outputs)) if output < 0 else [output]
        lengths = [matrix.cols for matrix in inputs] if by_inputs else [len(self.params)]
        views = iter(outs)
        with self.gate:
            results = self.rows_apart(inputs)
        for i in chosen:
            node = self.graph.nodes[self.graph.outputs[i].node]
            cols = node.positions * node.width
            for k, length in enumerate(lengths):
                view = check_writable(next(views), len(results), cols * length, self.format, f"output {i}")
                for r, result in enumerate(results):
                    for column in range(cols):
                        for j, value in enumerate(self.derivatives(result, i, column, k if by_inputs else None)):
                            view[r, column * length + j] = value

    def refuse_sparse(self, inputs: Sequence[Any], why: str) -> None:
        """ValueError for sparse inputs and ids. why: "a Jacobian needs"."""
        refuse(self.graph, inputs, why)

    def rows_apart(self, inputs: Sequence[Matrix]) -> list[Pass]:
        """A forward pass for each row."""
        return [self.forward([rows_of(matrix, [r]) for matrix in inputs]) for r in range(inputs[0].rows)]

    def derivatives(self, result: Pass, output: int, column: int, number: int | None = None) -> Sequence[float]:
        """The derivatives of one raw output of a pass of one row: by input `number`, or by all parameters (None)."""
        raw = result.outputs[output]
        ends = [(raw, [float(j == column) for j in range(len(raw.data))])]
        if number is not None:
            return gradients(ends, [result.inputs[number]])[0]
        flat = [0.0] * len(self.params)
        for tensor, gradient in zip(self.layout, gradients(ends, result.tensors)):
            flat[tensor.place] = gradient
        return flat


def _no_index(noun: str, i: int, count: int) -> ValueError:
    return ValueError(f"there is no {noun} {i}: the net has {counted(count, noun)}, numbered from 0")


def _part(graph: Graph, inputs: Sequence[int], outputs: Sequence[int]) -> Graph:
    """The graph of the nodes between these, where `inputs` are the first nodes."""
    between = _between(graph, inputs, outputs)
    place = {node: i for i, node in enumerate([*inputs, *between])}
    layers: dict[str, Layer | Norm] = {}
    nodes = [node if node.kind == "ids" else GraphNode("input", node.width, []) for node in (graph.nodes[i] for i in inputs)]
    for node in (graph.nodes[node] for node in between):
        layer = node.layer and layers.setdefault(node.layer.name, replace(node.layer, settings=dict(node.layer.settings)))
        nodes.append(replace(node, operands=[place[operand] for operand in node.operands], layer=layer))
    chosen = {output.node: output for output in graph.outputs}
    return Graph(nodes, layers, [replace(chosen.get(node, Output(node, None)), node=place[node]) for node in outputs])


def _between(graph: Graph, inputs: Sequence[int], outputs: Sequence[int]) -> list[int]:
    """The nodes that the outputs depend on, up to the inputs and without them, in order."""
    if not inputs or not outputs:
        raise ValueError("a part has at least one input and one output")
    for what, given in (("outputs", outputs), ("inputs", inputs)):
        for i, node in enumerate(given):
            if not 0 <= node < len(graph.nodes):
                raise ValueError(f"{what}[{i}] is {node}, but the nodes have the numbers 0 to {len(graph.nodes) - 1}")
            if node in given[:i]:
                raise ValueError(f"node {node} is twice among the {what}")
    used = set(outputs)
    for node in reversed(range(len(graph.nodes))):
        if node in used and node not in inputs:
            if graph.nodes[node].is_input:
                hint = "add it, or a node between, to inputs"
                raise ValueError(f"the outputs depend on node {node}, an input of the net: {hint}")
            used.update(graph.nodes[node].operands)
    for i, node in enumerate(inputs):
        if node not in used:
            raise ValueError(f"no output depends on node {node}, which is inputs[{i}]")
        if (positions := graph.nodes[node].positions) > 1:
            raise ValueError(f"a part begins with nodes of 1 position, but node {node} has {positions}: begin before its grid")
    return sorted(used - set(inputs))
