"""Sparse layers: embeddings of ids, and dense layers that sparse rows have fed. The gradient of such a weight has only the rows that
batches named."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any

# Those that move rows without a gradient, besides their decay.
_MOVES = ("sgd_momentum", "sgd_nesterov", "momentum", "momentum_nesterov", "rmsprop_momentum", "rmsprop_centered_momentum", "ftrl")


class SparseLayers:
    """The sparse layers of a trainer. named: by layer, the rows that the gradient names. values: its flat vector in these rows."""

    def __init__(self) -> None:
        self.named: dict[str, set[int]] = {}
        self._values: dict[str, array] = {}

    def check(self, graph: Any, inputs: Sequence[Any], optimizer: Any, decay: float, averages: bool) -> None:
        """ValueError for what changes rows that a batch does not name, in sparse layers and those that sparse inputs feed."""
        for layer in graph.layers.values():
            if layer.name in self.named and not layer.frozen:
                _check(layer, optimizer, decay, averages)
        for node in graph.nodes:
            if _is_fed(graph, inputs, node):
                _check(node.layer, optimizer, decay, averages)

    def start(self, graph: Any, inputs: Sequence[Any], before: array | None, layout: Iterable[Any]) -> None:
        """Makes layers sparse that sparse inputs feed. before: the flat gradient that theirs is added to, which names all rows, or none
        if it is 0."""
        fed = {node.layer.name for node in graph.nodes if _is_fed(graph, inputs, node)} - set(self.named)
        for tensor in layout:
            if tensor.layer in fed and tensor.is_matrix:
                is_named = before is not None and any(before[tensor.place].tobytes())
                self.named[tensor.layer] = set(range(tensor.rows)) if is_named else set()

    def restore(self, layer: str, rows: bytes, graph: Any, layout: Iterable[Any], optimizer: Any) -> None:
        """Makes a layer sparse, whose gradient has these rows (int32)."""
        dense = {tensor.layer: tensor for tensor in layout if tensor.is_matrix and tensor.layer not in self.named}
        if layer not in dense:
            raise ValueError(f"layer {layer} is not a dense layer or embedding of this network, or is sparse already")
        if not optimizer.entry.sparse:
            raise ValueError(_changes_all(graph.layers[layer], optimizer))
        numbers = array("i", rows)
        for i, (before, row) in enumerate(pairwise([-1, *numbers])):
            if not before < row < dense[layer].rows:
                order = f"must ascend, without repeats, from 0 to {dense[layer].rows - 1}"
                raise ValueError(f"rows[{i}] is {row}, but the rows of layer {layer} {order}")
        self.named[layer] = set(numbers)

    def name(self, graph: Any, inputs: Sequence[Any], accumulate: bool) -> None:
        """Names the rows of a batch in its gradient. accumulate: besides those of earlier batches."""
        for layer, before in self.named.items():
            found = set(before) if accumulate else set()
            for node in graph.nodes:
                if node.layer is not None and node.layer.name == layer and inputs:
                    found |= _named(graph, inputs, node)
            self.named[layer] = found

    def take(self, flat: array, layout: Iterable[Any], only: str | None = None) -> array:
        """Keeps the gradients of sparse layers, or of one, which are 0 in the vector that it returns."""
        rest = flat[:]
        for tensor in self._weights(layout):
            if only not in (None, tensor.layer):
                continue
            self._values[tensor.layer] = flat[tensor.place]
            rest[tensor.place] = array(flat.typecode, [0.0]) * (tensor.rows * tensor.cols)
        return rest

    def whole(self, flat: array, layout: Iterable[Any]) -> array:
        """The gradients of all layers. flat: those of the others."""
        flat = flat[:]
        for tensor in self._weights(layout):
            if tensor.layer in self._values:
                flat[tensor.place] = self._values[tensor.layer]
        return flat

    def forget(self, layers: Iterable[str]) -> None:
        """Their gradients become 0."""
        for layer in set(layers) & set(self.named):
            self.named[layer] = set()
            self._values.pop(layer, None)

    def unnamed(self, tensor: Any) -> list[int]:
        """The places of a tensor that belong to rows without a gradient."""
        if tensor.layer not in self.named or not tensor.is_matrix:
            return []
        rows = self.named[tensor.layer]
        return [i for i in range(tensor.rows * tensor.cols) if i // tensor.cols not in rows]

    def gradient(self, layer: str, layout: Iterable[Any]) -> tuple[array, array] | None:
        """The named rows, and their values row by row; None: the layer is not sparse."""
        for tensor in self._weights(layout):
            if tensor.layer == layer:
                rows = sorted(self.named[layer])
                values = self._values.get(layer, array("d"))
                chosen = [values[r * tensor.cols + j] for r in rows for j in range(tensor.cols)]
                return array("i", rows), array(values.typecode, chosen)
        return None

    def _weights(self, layout: Iterable[Any]) -> Iterator[Any]:
        return (tensor for tensor in layout if tensor.layer in self.named and tensor.is_matrix)


def _stored(graph: Any, inputs: Sequence[Any], node: Any) -> Any:
    """For each row the columns with a stored value, if the node's operand is a sparse input; else None."""
    numbers = [number for number, one in enumerate(graph.nodes) if one.is_input]
    return inputs[numbers.index(node.operands[0])].stored if inputs and node.operands[0] in numbers else None


def _is_fed(graph: Any, inputs: Sequence[Any], node: Any) -> bool:
    return node.kind in ("dense", "embedding") and not node.layer.frozen and _stored(graph, inputs, node) is not None


def _named(graph: Any, inputs: Sequence[Any], node: Any) -> set[int]:
    stored = _stored(graph, inputs, node)
    return set(range(node.layer.inputs)) if stored is None else {column for columns in stored for column in columns}


def _who(layer: Any) -> tuple[str, str]:
    """How errors begin, and what else to do."""
    if layer.kind == "embedding":
        return f"layer {layer.name} is an embedding", ""
    return f"layer {layer.name} has sparse rows", ", or pass dense arrays"


def _changes_all(layer: Any, optimizer: Any) -> str:
    who, advice = _who(layer)
    return f"{who}, but {optimizer.name} changes all rows in each step: use another optimizer, such as adam or sgd_momentum{advice}"


def _check(layer: Any, optimizer: Any, decay: float, averages: bool) -> None:
    is_embedding, changes = layer.kind == "embedding", "changes all rows in each step"
    who, advice = _who(layer)
    if not optimizer.entry.sparse:
        raise ValueError(_changes_all(layer, optimizer))
    if decay and not optimizer.entry.sparse_decay:
        instead = ", or use adamw" if is_embedding else ", use adamw"
        instead = instead if optimizer.name == "adam" else ""
        raise ValueError(f"{who}, but {optimizer.name} with weight_decay {changes}: set weight_decay to 0{instead}{advice}")
    if is_embedding and layer.settings["max_norm"] and optimizer.name in _MOVES:
        moves = f"but {optimizer.name} moves rows without a gradient: use another optimizer, such as adam"
        raise ValueError(f"layer {layer.name} has a max_norm, {moves}, or set max_norm to 0")
    for name in ("l1", "l2", "max_norm"):
        if not is_embedding and layer.settings[name]:
            raise ValueError(f"{who}, but its {name} {changes}: set {name} to 0{advice}")
    if averages:
        raise ValueError(f"{who}, of which no average is kept: use a trainer without an average{advice}")
