"""Sparse layers of a trainer: those that sparse rows have fed. The gradients of their weights have only the rows that a batch names."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...core.specs import unknown
from ...core.text import counted
from ...data.arrays import Array
from ...network.network import Network

Grads = dict[str, tuple[Array, Array]]  # by the name of the layer: the numbers of the rows, ascending, and these rows (rows, units)


def grads_of(core: Any, net: Network) -> Grads:
    """The gradients of the sparse layers. core: a backend's trainer of the network."""
    found = {}
    for layer, name, _, _, units in net._core.tensors():
        if name == "weight" and (one := core.sparse_grad(layer)) is not None:
            rows, values = map(np.asarray, one)
            found[layer] = rows, values.reshape(len(rows), units)
    return found


class SparseGrads(dict[str, tuple[Array, Array]]):
    """The gradients by layer, of which other names are refused."""

    def __missing__(self, name: object) -> Any:
        if not self:
            raise KeyError("no layer of this trainer is sparse: sparse rows have fed none; t.grads has the gradients")
        raise KeyError(str(unknown("sparse layer", name, self)))


def refuse(sparse: Grads) -> None:
    """ValueError if there are sparse layers, in place of their dense gradients."""
    for name in sparse:
        raise ValueError(f"grads: layer {name!r} has sparse rows, so its gradient has only the rows of a batch: t.sparse_grads[{name!r}]")


def in_full(flat: Array, sparse: Grads, net: Network) -> Array:
    """The gradients of all parameters: the flat vector, with the rows of sparse layers."""
    if not sparse:
        return flat
    flat = flat.copy()
    for layer, name, offset, inputs, outputs in net._core.tensors():
        if layer in sparse and name == "weight":
            rows, values = sparse[layer]
            flat[offset : offset + inputs * outputs].reshape(inputs, outputs)[rows] = values
    return flat


def state_of(core: Any, net: Network, flat: Array) -> dict[str, Any]:
    """A copy of the gradients of all parameters: "grads"; if layers are sparse, also "sparse": how many rows the gradient of each has, and
    the numbers of these rows, each as two numbers below 2^16, so that float32 holds them."""
    found = grads_of(core, net)
    if not found:
        return {"grads": flat.copy()}
    rows = np.concatenate([numbers for numbers, _ in found.values()])
    halves = np.stack([rows >> 16, rows & 0xFFFF], axis=1).ravel().astype(net.dtype)
    counts = {layer: len(numbers) for layer, (numbers, _) in found.items()}
    return {"grads": in_full(flat, found, net), "sparse": {"counts": counts, "rows": halves}}


def restore(core: Any, net: Network, flat: Array, state: dict[str, Any]) -> None:
    """Restores what `state_of` returned, into a trainer with sparse layers or without. ValueError: there are no such layers or rows."""
    if grads_of(core, net):
        core.set_sparse(None)
    flat[...] = state["grads"]
    kept = state.get("sparse", {"counts": {}, "rows": np.zeros(0)})
    ends = np.cumsum(list(kept["counts"].values()))
    if len(kept["rows"]) != 2 * sum(kept["counts"].values()):
        raise ValueError(f"sparse has {counted(len(kept['rows']), 'number')}, but must have two per row")
    rows = kept["rows"].reshape(-1, 2).astype(np.int64) @ [1 << 16, 1]
    for layer, part in zip(kept["counts"], np.split(rows, ends[:-1]), strict=False):
        core.set_sparse(layer, part.astype(np.int32).tobytes())
