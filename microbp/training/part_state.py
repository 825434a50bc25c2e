"""The state of a trainer of a part. Its vectors are those of the whole network; pickles, copies and files have the numbers of the part
alone, in the order of a network of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..data.arrays import Array
from ..network.network import Network

_Move = Callable[[Array, Array, Array], Array]  # of a vector, from or to its places in one that is as long as the third


def own(net: Network, state: dict[str, Any]) -> dict[str, Any]:
    """A state of Trainer.__getstate__ with the numbers of the net's own layers alone. The same state if the net is not a part."""
    return _moved(net, state, lambda vector, places, _: vector[places])


def whole(net: Network, state: dict[str, Any]) -> dict[str, Any]:
    """The opposite: a state that fits the net's vectors."""

    def spread(vector: Array, places: Array, others: Array) -> Array:
        full = others.copy()
        full[places] = vector
        return full

    return _moved(net, state, spread)


def _moved(net: Network, state: dict[str, Any], move: _Move) -> dict[str, Any]:
    dense = {layer.name for layer in net.layers if layer.kind in ("dense", "embedding", "recurrent")}
    rows = sorted(net._core.tensors(), key=lambda row: not (row[1] == "weight" and row[0] in dense))  # as in net.params
    params, buffers = _places(rows), _places(net._core.buffer_tensors())
    if _is_all(params, net.params) and _is_all(buffers, net.buffers):
        return state
    both, zeros = np.concatenate([params, len(net.params) + buffers]), np.zeros(len(net.params) + len(net.buffers), net.dtype)

    def of_net(values: dict[str, Any]) -> dict[str, Any]:
        return {"params": move(values["params"], params, net.params), "buffers": move(values["buffers"], buffers, net.buffers)}

    def of_engine(values: dict[str, Any]) -> dict[str, Any]:
        grads, *slots = (move(vector, params, zeros[: len(net.params)]) for vector in (values["grads"], *values["slots"].values()))
        average = None if values["average"] is None else move(values["average"], both, zeros)
        return values | {"grads": grads, "slots": dict(zip(values["slots"], slots, strict=True)), "average": average}

    best = state["best"]
    if best is not None and (snapshot := best["snapshot"]) is not None:
        best = best | {"snapshot": of_engine(snapshot) | of_net(snapshot)}
    return state | {"engine": of_engine(state["engine"]), "best": best, "values": of_net(state["values"])}


def _places(rows: list[tuple[str, str, int, int, int]]) -> Array:
    """The positions of these tensors in their vector, one after another."""
    return np.concatenate([np.arange(0), *(np.arange(offset, offset + inputs * units) for _, _, offset, inputs, units in rows)])


def _is_all(places: Array, vector: Array) -> bool:
    return len(places) == len(vector) and bool((np.diff(places) == 1).all())
