"""Norms of a layer's activations, gradient, parameters and update, from a net, some rows, and one update. Nothing here changes a net."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from ...data.arrays import Array
from ...data.lengths import beyond
from ...network.network import Network

SAMPLE = 64  # rows are enough for the norm of an activation: its relative error is below 1 / sqrt(rows x units)
_PIECE = 1 << 15  # elements

Values = dict[str, list[Array]]  # by the name of a layer: the values of each node where it is used, (rows, ..., units)
SparseGrads = Mapping[str, tuple[Array, Array]]  # by the name of a layer: the rows of its weight that have a gradient, and this


class LayerNorms(NamedTuple):
    """What one update did to a layer. NaN for the gradient, weight and update of a layer without parameters (bp.Standardize).

    activation: the root mean square of the layer's output over rows, units and positions, in all nodes where it is used. gradient: the
    Euclidean norm of the gradient of the loss and the layer's penalties, of weight and bias together; 0 for a frozen layer. weight: the
    same norm of the parameters after the update; update: of their change by the update. NaN for a sparse layer, where rows that batches do
    not name change later: their updates cannot be told apart.
    """

    activation: float
    gradient: float
    weight: float
    update: float


def values_of(net: Network, X: Any, lengths: Any = None) -> Values:  # noqa: N803
    """The values of all layers for these rows, in the order of `net.layers`: as net.predict(X, at=...) gives them. X, lengths: as in
    `net.predict`; positions beyond a length are left out."""
    nodes = [node for layer in net.layers for node in layer.nodes]
    found = values_at(net, nodes, X, lengths)
    return {layer.name: [found[node] for node in layer.nodes] for layer in net.layers}


def values_at(net: Network, nodes: list[int], X: Any, lengths: Any = None) -> dict[int, Array]:  # noqa: N803
    """The values of the nodes with these numbers, in the way of `values_of`."""
    found = dict(zip(nodes, net.predict(X, at=nodes, lengths=lengths) if nodes else [], strict=True))
    if lengths is not None and found:
        rows = len(next(iter(found.values())))
        valid = net._sequences.valid(net._sequences.read(lengths, rows))
        found = {node: _there(values, valid[node]) for node, values in found.items()}
    return found


def _there(values: Array, valid: Array | None) -> Array:
    """The values without those of positions that are not there. valid: how many are, of each row; None: all."""
    return values if valid is None else values[~beyond(valid, values.shape[1])]


def of_layers(
    net: Network, values: Values, grads: Array, before: Array, sparse: SparseGrads = MappingProxyType({})
) -> dict[str, LayerNorms]:
    """The norms of each layer, in the order of `net.layers`, after an update.

    values: of `values_of`. grads: the gradient of all parameters, as `t.grads`. before: a copy of `net.params` from before the update.
    sparse: the gradients of sparse layers, as `t.sparse_grads`; their weights have none in `grads`.
    """
    after, places, found = net.params, _places(net), {}
    for layer in net.layers:
        own = places.get(layer.name, {})
        is_sparse = layer.name in sparse
        parts = [grads[place] for name, place in own.items() if not (is_sparse and name == "weight")]
        gradient = norm([*parts, sparse[layer.name][1]] if is_sparse else parts)
        weight = norm([after[place] for place in own.values()])
        update = math.nan if is_sparse else norm([after[place] for place in own.values()], [before[place] for place in own.values()])
        found[layer.name] = LayerNorms(rms(values[layer.name]), gradient, weight, update)
    return found


def has_parameters(net: Network) -> dict[str, bool]:
    """Which layers have parameters, and thus more than an activation, in the order of `net.layers`."""
    places = _places(net)
    return {layer.name: layer.name in places for layer in net.layers}


def rms(arrays: Sequence[Array]) -> float:
    """The root mean square of all elements; NaN: there are none."""
    count = sum(array.size for array in arrays)
    return norm(arrays) / math.sqrt(count) if count else math.nan


def norm(arrays: Sequence[Array], before: Sequence[Array] | None = None) -> float:
    """The Euclidean norm of all elements, or of their differences to `before`; NaN: there are no arrays. In float64, where the squares of
    small float32 numbers are not 0."""
    if not arrays:
        return math.nan
    pairs = ((one, None) for one in arrays) if before is None else zip(arrays, before, strict=True)
    return math.sqrt(sum(_square(one.ravel(), other) for one, other in pairs))


def _square(array: Array, before: Array | None) -> float:
    """The sum of the squares of a vector, piece by piece: small copies cost less."""
    total = 0.0
    for start in range(0, len(array), _PIECE):
        piece = slice(start, start + _PIECE)
        wide = array[piece].astype(np.float64) if before is None else np.subtract(array[piece], before[piece], dtype=np.float64)
        total += float(wide @ wide)
    return total


def _places(net: Network) -> dict[str, dict[str, slice]]:
    """Where the tensors of each layer are in the vector of all parameters."""
    found: dict[str, dict[str, slice]] = {}
    for layer, name, offset, inputs, outputs in net._core.tensors():
        found.setdefault(layer, {})[name] = slice(offset, offset + inputs * outputs)
    return found
