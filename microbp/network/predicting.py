"""The arguments of `predict`: inputs of equally many rows, the node that is asked for, and arrays to write to."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np

from ..core.backend import CoreNet
from ..core.specs import unknown
from ..data.arrays import Array
from . import records

# An array, or for a net with several outputs a list of arrays. How many there are is not in the net's type, so that type checkers know
# the usual case and let the other one pass.
Prediction: TypeAlias = Array | Any


def leading_axes(xs: Sequence[Array], widths: Sequence[int]) -> tuple[int, ...]:
    """The axes before the features, the same for all inputs."""
    for i, (x, width) in enumerate(zip(xs, widths, strict=True)):
        if x.ndim == 0 or x.shape[-1] != width:
            name = "X" if len(xs) == 1 else f"X[{i}]"
            raise ValueError(f"{name} has shape {x.shape}; its last axis must be the input's {width} features")
        if x.shape[:-1] != xs[0].shape[:-1]:
            raise ValueError(f"X[0] has shape {xs[0].shape}, but X[{i}] has shape {x.shape}: all inputs need the same rows")
    return tuple(xs[0].shape[:-1])


def find_node(core: CoreNet, at: str | int) -> records.NodeInfo:
    """The node of that number, or the one where the layer of that name is used."""
    nodes = records.nodes(core)
    if not isinstance(at, str):
        number = operator.index(at)
        if not 0 <= number < len(nodes):
            raise ValueError(f"at={number}: the network's nodes are 0 to {len(nodes) - 1}")
        return nodes[number]
    found = [node for node in nodes if node.layer == at]
    if not found:
        raise unknown("layer", at, [layer.name for layer in records.layers(core)])
    if len(found) > 1:
        places = ", ".join(str(node.node) for node in found)
        raise ValueError(f"layer {at!r} is used at nodes {places}: give the node, for example at={found[0].node}")
    return found[0]


def check_outs(out: Any, shapes: Sequence[tuple[int, ...]], dtype: np.dtype[Any], others: Sequence[Array]) -> list[Array]:
    """The arrays to write to, which share no memory with each other or with `others`."""
    outs = [out] if len(shapes) == 1 else list(out)
    if len(outs) != len(shapes):
        raise ValueError(f"out has {len(outs)} arrays; the network has {len(shapes)} outputs")
    for i, (array, shape) in enumerate(zip(outs, shapes, strict=True)):
        _check_out(array, shape, dtype, "out" if len(outs) == 1 else f"out[{i}]")
        if any(np.shares_memory(array, other) for other in [*others, *outs[:i]]):
            raise ValueError("out shares memory with X, another output or the parameters; give an array of its own")
    return outs


def _check_out(out: Any, shape: tuple[int, ...], dtype: np.dtype[Any], what: str) -> None:
    if not isinstance(out, np.ndarray):
        raise TypeError(f"{what} must be an ndarray, not {type(out).__name__}")
    if out.dtype != dtype or out.shape != shape:
        raise ValueError(f"{what} has dtype {out.dtype} and shape {out.shape}; it must have {dtype} and {shape}")
    if not out.flags.writeable:
        raise ValueError(f"{what} is read-only")
    rows_contiguous = shape[-1] == 1 or out.strides[-1] == out.itemsize
    if not (out.flags.c_contiguous or (out.ndim == 2 and rows_contiguous)):
        raise ValueError(f"{what} must be C-contiguous (a 2-D one at least in each row)")
