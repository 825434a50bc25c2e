"""`bp.from_onnx`: a network of an ONNX file."""

from __future__ import annotations

import json
import math
import os
import re
from collections import Counter
from typing import Any

import numpy as np

from ...core import backend as backends
from ...core import threads
from ...core.backend import BackendName
from ...core.text import brief
from ...core.whole_file import opened
from ...data.arrays import Array
from ...many.ensemble import Ensemble
from ...network.layers import Activation, NamedLayer
from ...network.network import Network
from ...network.nodes import Ids, Input, Node
from ...network.notes import read as read_notes
from ...network.positions.inputs import Grid, Sequence
from ...network.reuse import between
from ...network.tensors_file import read_bytes
from ...reference.graph import Graph
from .reading import elementwise, layers, values, views, wire
from .reading.values import ROWS, Reading, Value

_LARGEST = 2**31  # bytes, the limit of Protocol Buffers
_READERS = elementwise.READERS | layers.READERS | views.READERS | views.VIEWS | views.LABELS
_OF_GHOSTS = {*elementwise.READERS, *views.VIEWS, *views.LABELS}  # that may get values which microbp has no node for
_OUTPUTS = {"Softmax": "softmax", "Sigmoid": "sigmoid", "Exp": "exp"}
# Operators whose operand has its columns first, before height and width
_CHANNELS_FIRST = {"Conv", "MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "BatchNormalization"}


def from_onnx(
    path: str | os.PathLike[str] | bytes | bytearray | memoryview, *, backend: BackendName | None = None, n_threads: int | None = None
) -> Any:
    """Makes a network of an ONNX file: of bp.export, or of an exporter such as PyTorch's or skl2onnx.

    path: a file, or its bytes. backend, n_threads: as in bp.Network.
    A file of bp.export gives the same network to the bit, with names, settings and notes, or the same bp.Ensemble. If another program has
    changed its operators, it is read as any other file.

    Of others, operators become layers, and a softmax, sigmoid or exp at the end the output activation. Columns are last in microbp: if an
    input with the shape (rows, columns, height, width) goes to a convolution or a pool, X is X.transpose(0, 2, 3, 1) of it; outputs alike.
    Of two classes, predictions of skl2onnx's files are the probability of the second; `net.notes["classes"]` has the classes.
    ValueError: microbp has no such operator, or the file is damaged; the text names the place. OSError: the file cannot be read.

    >>> net = bp.mlp([4, 8, 3], activation="relu", seed=0)
    >>> bp.export(net, "net.onnx")
    >>> bool((bp.from_onnx("net.onnx").params == net.params).all())
    True
    """
    backends.resolve(backend)
    threads.check(n_threads)
    data = bytes(path) if isinstance(path, bytes | bytearray | memoryview) else _contents(path)
    try:
        model = wire.model(data)
        if "microbp.graph" in model.metadata and model.metadata.get("microbp.nodes") == f"{model.crc:08x}":
            return _own(model, backend, n_threads)
        return _Graph(model).network(backend, n_threads)
    except ValueError as error:
        where = f"{os.fsdecode(path)}: " if isinstance(path, str | os.PathLike) else ""
        raise ValueError(f"from_onnx: {where}{error}") from None


def _contents(path: str | os.PathLike[str]) -> bytes:
    with opened(path) as file:
        size = os.fstat(file).st_size
        if size > _LARGEST:
            raise ValueError(f"from_onnx: {os.fsdecode(path)} has {size} bytes, but a file of ONNX has at most {_LARGEST}")
        return bytes(read_bytes(file, size))


# ---- files of bp.export: the metadata have the graph text, and the initializers all tensors ----


def _own(model: wire.Model, backend: BackendName | None, n_threads: int | None) -> Network | Ensemble:
    text, dtype, seed = (model.metadata.get(f"microbp.{key}", "") for key in ("graph", "dtype", "seed"))
    if dtype not in ("float32", "float64") or not re.fullmatch("[0-9]{1,20}", seed):
        raise ValueError(f"damaged: the dtype and seed in the metadata are {brief(dtype)} and {brief(seed)}")
    shapes = [getattr(layer, "shape", (layer.units, 4)) for layer in Graph.parse(text).layers.values()]
    _check_size(sum(a * b for a, b in shapes), model)
    net = _network(text, dtype, int(seed), backend, n_threads)
    used = {node.layer for node in map(net.nodes.__getitem__, between(net._records, [], [output.node for output in net.outputs]))}
    cells = {layer.name: (layer.cell, layer.units) for layer in net.layers if layer.cell}
    tensors = {name: view for name, view in net.tensors.items() if name.rpartition(".")[0] in used}
    net._write({name: _tensor(model.initializers, name, view, cells.get(name.rpartition(".")[0])) for name, view in tensors.items()})
    net.notes = read_notes(model.metadata.get("microbp.notes", ""))
    for i in range(len(net.outputs) if model.metadata.get("microbp.raw") else 0):
        net.set_output(i, None)
    return _ensemble(net, model.metadata["microbp.votes"]) if "microbp.votes" in model.metadata else net


def _network(text: str, dtype: str, seed: int, backend: BackendName | None, n_threads: int | None) -> Network:
    return Network._from(backends.load(backend).Net(text, dtype, seed), backends.resolve(backend), {}, n_threads)


def _tensor(found: dict[str, Array], name: str, view: Array, cell: tuple[str, int] | None) -> Array:
    """A tensor with the layout of net.tensors. cell: of a recurrent layer, with its units."""
    try:
        if name in found:
            array = found[name]
        elif cell:
            array = _recurrent(found, name, *cell)
        else:
            array = found[f"{name}/T"].T if f"{name}/T" in found else np.moveaxis(found[f"{name}/conv"], 1, -1).reshape(view.shape)
        if array.shape == view.shape and array.dtype == view.dtype:
            return array
    except (KeyError, ValueError, IndexError):
        pass
    raise ValueError(f"damaged: the tensor {brief(name)} is missing, or has another shape")


def _recurrent(found: dict[str, Array], name: str, cell: str, units: int) -> Array:
    """A weight or a bias whose gates ONNX has in another order."""
    rows = layers.rows_of(next(order for kind, order, _ in layers.CELLS.values() if kind == cell), units)
    if name.endswith(".weight"):
        return np.asarray(np.concatenate([found[f"{name}/W"], found[f"{name}/R"]], axis=-1)[0, rows])
    first, second = found[f"{name}/B"].reshape(2, len(rows))
    return np.concatenate([first[rows], second[2 * units :] if cell == "gru" else first[:0]])


def _ensemble(net: Network, text: str) -> Ensemble:
    """The members of an ensemble that was written as one network with all their outputs."""
    try:
        votes, ends = json.loads(text), [output.node for output in net.outputs]
        each = len(ends) // len(votes)
        found = Ensemble([_member(net.part(outputs=ends[i * each :][:each]), f"m{i}_") for i in range(len(votes))], votes)
    except (ValueError, TypeError, ZeroDivisionError, RecursionError) as error:
        raise ValueError(f"damaged: the votes in the metadata cannot be read: {error}") from None
    found.notes = net.notes
    return found


def _member(part: Network, prefix: str) -> Network:
    """A network of its own, whose layers have names without the prefix."""
    text = re.sub(rf"(?<= layer=){prefix}", "", part.text())
    net = _network(text, part.dtype.name, part.seed, part.backend, part.n_threads)  # type: ignore[arg-type]
    net._write({name.removeprefix(prefix): view for name, view in part.tensors.items()})
    return net


def _check_size(parameters: int, model: wire.Model) -> None:
    """Before memory is allocated for them."""
    if parameters > (most := 2**20 + 4 * sum(array.size for array in model.initializers.values())):
        raise ValueError(f"the network would have {parameters} parameters, but a file of this size at most {most}")


# ---- all other files ----


class _Graph:
    """Reads the operators of a file one by one."""

    def __init__(self, model: wire.Model) -> None:
        if not model.opset >= 7:
            raise ValueError(f"its operators are of version {model.opset} of ONNX, but at least 7 is needed")
        self.model = model
        self.values: dict[str, Any] = dict(model.initializers)
        self.inputs: list[Node] = []
        ends = [output.name for output in model.outputs]
        self.uses = Counter([*ends, *(name for operator in model.operators for name in operator.inputs)])
        self.work = 2**24 + 4 * sum(array.size for array in model.initializers.values())  # numbers that constants may take
        given = [info for info in model.inputs if info.name not in model.initializers]
        batches = {info.shape[0] for info in given if info.shape and all(info.shape)}
        self.reading = Reading(batches.pop() if len(batches) == 1 else None, model.opset)
        readers = self._first_readers([info.name for info in given])
        for info in given:
            self._keep(info.name, self._input(info, readers[info.name]))

    # ---- inputs ----

    def _input(self, info: wire.Info, readers: set[str]) -> Value:
        if info.type not in (*wire.FLOATS, 6, 7) or not 1 <= len(info.shape) <= 8:
            raise ValueError(f"input {brief(info.name)} must be numbers with 1 to 8 axes")
        free = [i for i, size in enumerate(info.shape) if size is None]
        batch = free[0] if free else 0
        if len(free) > 1 or any(size is not None and size < 1 for size in info.shape):
            raise ValueError(f"input {brief(info.name)} has the shape {list(info.shape)}, but all sizes but the rows must be fixed")
        sizes = [size or 0 for i, size in enumerate(info.shape) if i != batch]
        ranks = [*range(1, len(sizes) + 1)]
        if "Gather" in readers and info.type in (6, 7):
            node: Node = Ids(math.prod(sizes), 1)
        elif len(sizes) > 1 and batch == 0 and readers & _CHANNELS_FIRST:
            node, ranks = _node([*sizes[1:], sizes[0]]), [len(sizes), *ranks[:-1]]
        else:
            node = _node(sizes)
        self.inputs.append(node)
        axes: list[tuple[values.Factor, ...]] = [((rank, size),) for rank, size in zip(ranks, sizes, strict=True)]
        axes.insert(batch, ROWS)
        return Value("", values.without_ones(axes), node, ("input", ()))

    def _first_readers(self, inputs: list[str]) -> dict[str, set[str]]:
        """The operators that read an input, or numbers made of it one by one."""
        found: dict[str, set[str]] = {name: set() for name in inputs}
        origin = {name: name for name in inputs}
        for operator in self.model.operators:
            for name in {*operator.inputs} & origin.keys():
                found[origin[name]].add(operator.type)
                if operator.type in elementwise.READERS or operator.type in ("Identity", "Cast", "Dropout"):
                    origin |= dict.fromkeys(operator.outputs, origin[name])
        return found

    # ---- operators ----

    def _keep(self, name: str, value: Any) -> None:
        if name:
            if name in self.values:
                raise ValueError(f"two values have the name {brief(name)}")
            if isinstance(value, Value):
                value = value._replace(name=name, uses=max(value.uses, self.uses[name]))
            self.values[name] = value

    def _run(self, operator: wire.Operator) -> list[Any]:
        unknown = next((name for name in operator.inputs if name and name not in self.values), None)
        if unknown is not None:
            raise ValueError(f"its operand {brief(unknown)} is not a value before it")
        r = self.reading
        r.operator, r.inputs = operator, [self.values[name] if name else None for name in operator.inputs]
        if operator.type == "Constant":
            return [values.constant(operator)]
        if operator.type == "Shape" and r.inputs:
            return [values.shape_of(operator, r.inputs[0])]
        if any(isinstance(one, Value) for one in r.inputs):
            return self._read(r, operator)
        folded = values.fold(operator, r.inputs)
        self.work -= 0 if folded is None else folded.size
        if self.work < 0:
            raise ValueError("the file computes with too many constants")
        return [r.ghost("microbp cannot compute it with constants") if folded is None else folded]

    def _read(self, r: Reading, operator: wire.Operator) -> list[Any]:
        ghost = next((one for one in r.inputs if isinstance(one, Value) and one.node is None), None)
        reader = _READERS.get(operator.type)
        if reader is None:
            made: Any = [r.ghost("microbp has no such operation")] * len(operator.outputs)
        else:
            try:
                made = reader(r) if ghost is None or operator.type in _OF_GHOSTS else None
            except ValueError:  # if microbp does not have an operand, the operand's own error is raised
                if ghost is None:
                    raise
                made = None
            made = r.ghost("")._replace(why=ghost.why, form=(ghost.op, ())) if made is None and ghost else made
        return made if isinstance(made, list) else [made]

    def network(self, backend: BackendName | None, n_threads: int | None) -> Network:
        """The network."""
        for operator in self.model.operators:
            try:
                made = self._run(operator)
                for name, value in zip(operator.outputs, made, strict=False):
                    self._keep(name, value)
            except (ValueError, TypeError, AttributeError, LookupError, ArithmeticError) as error:
                text = str(error) if isinstance(error, ValueError) else "its operands or attributes are missing, or of the wrong kind"
                raise ValueError(text if text.startswith("node ") else f"{operator.place} cannot be read: {text}") from None
        ends = self._ends()
        try:
            return self._made([value for value, _ in ends], [activation for _, activation in ends], backend, n_threads)
        except (TypeError, ArithmeticError, MemoryError) as error:
            raise ValueError(str(error)) from None

    # ---- outputs ----

    def _ends(self) -> list[tuple[Value, str | None]]:
        """The outputs, before their output activations. Labels that are made of probabilities are left out."""
        found: list[tuple[Value, str | None]] = []
        ends = [(info.name, self.values.get(info.name)) for info in self.model.outputs]
        labels = {name for name, value in ends if isinstance(value, Value) and value.op == "labels"}
        has_numbers = any(name not in labels for name, _ in ends)
        for name, value in ends:
            if not isinstance(value, Value):
                raise ValueError(f"output {brief(name)} does not depend on the inputs")
            if name in labels and has_numbers:
                continue
            value = _of_two(value) if labels else value
            base: Any = value.form[1][0] if value.op in _OUTPUTS and value.form[1] else None
            is_known = isinstance(base, Value) and base.node is not None
            end: Value = base if is_known else value
            values.ready(end)
            found.append((end, _OUTPUTS[value.op] if is_known else None))
        if not found:
            raise ValueError("it has no output of numbers")
        return found

    def _made(self, ends: list[Value], activations: list[str | None], backend: BackendName | None, n_threads: int | None) -> Network:
        outputs: dict[Node, None] = {}
        for value in ends:
            node = _end(value)
            outputs[Activation("identity")(node) if node in outputs else node] = None
        reached, waiting = set(), [*outputs]
        while waiting:
            node = waiting.pop()
            if node not in reached:
                reached.add(node)
                waiting += node.operands
        r = self.reading
        used = {node.layer for node in reached if isinstance(node.layer, NamedLayer)}
        _check_size(sum(array.size for layer in used for array in r.tensors[layer].values()), self.model)
        r.name_layers(reached)
        inputs = [node for node in self.inputs if node in reached]
        double = any(info.type == 11 for info in self.model.inputs)
        net = Network(inputs, [*outputs], "float64" if double else "float32", 0, backend, n_threads)
        net._write(_tensors(net, reached, r))
        for i, activation in enumerate(activations):
            if activation:
                net.set_output(i, activation)  # type: ignore[arg-type]
        if r.classes and all(isinstance(one, str | int) for one in r.classes):
            net.notes = {"classes": r.classes}
        return net


def _of_two(value: Value) -> Value:
    """p, where skl2onnx has joined the probabilities 1 - p and p."""
    parts = value.form[1] if value.op == "Concat" else ()
    if len(parts) == 2 and parts[0].op == "Sub" and parts[1].op == "Sigmoid":
        one, p = parts[0].form[1]
        return parts[1] if elementwise.scalar(one) == 1 and p is parts[1] else value
    return value


def _node(sizes: list[int]) -> Node:
    """An input of rows of this shape."""
    if len(sizes) == 3:
        return Grid(*sizes)
    return Sequence(*sizes) if len(sizes) == 2 else Input(math.prod(sizes))


def _end(value: Value) -> Node:
    """The node of an output. Of several axes, positions and columns are as they lie in memory."""
    node = values.ready(value)
    axes = tuple(axis for axis in value.axes if axis != ROWS)
    if any(list(axis) != sorted(axis) or axis[:1] == ROWS for axis in axes):
        raise ValueError(f"output {brief(value.name)} mixes rows with columns, or has its columns in another order than microbp")
    if len(axes) < 2:
        return values.seen(value, ())
    return node


def _tensors(net: Network, reached: set[Node], r: Reading) -> dict[str, Array]:
    """The tensors of the network, which its layers have in the file."""
    found = {}
    names = {node.layer: net._records.nodes[net._places[node]].layer for node in reached if node in net._places}
    for layer, name in names.items():
        for tensor, array in r.tensors.get(layer, {}).items() if isinstance(layer, NamedLayer) else ():
            found[f"{name}.{tensor}"] = array
    return found
