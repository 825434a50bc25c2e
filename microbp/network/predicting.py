"""The arguments of `predict`: inputs with the same number of rows, a node to read, and arrays to write to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np

from ..core.backend import CoreNet
from ..core.checks import whole_number
from ..core.specs import unknown
from ..data.arrays import Array, unchecked
from .records import NodeInfo, Records

# An array, or a list of arrays for a net with several outputs. The type of a net does not contain its number of outputs, so type checkers
# treat the result as an array and accept a list too.
Prediction: TypeAlias = Array | Any


def plain(core: CoreNet, x: Any, raw: bool, inputs: int, widths: Sequence[int], dtype: np.dtype[Any]) -> Prediction:
    """The predictions of several inputs or outputs, of arrays (rows, features) that the compiled backend checks itself."""
    xs = unchecked(x, inputs, "X", "input")
    rows = len(xs if inputs == 1 else xs[0])
    outs = [np.empty((rows, width), dtype) for width in widths]
    core.predict(xs, outs, raw, -1)
    return outs[0] if len(outs) == 1 else outs


def leading_axes(xs: Sequence[Array], widths: Sequence[int]) -> tuple[int, ...]:
    """The axes before the features, the same for all inputs."""
    for i, (x, width) in enumerate(zip(xs, widths, strict=True)):
        if x.ndim == 0 or x.shape[-1] != width:
            name = "X" if len(xs) == 1 else f"X[{i}]"
            raise ValueError(f"{name} has shape {x.shape}; its last axis must have length {width}, the number of features")
        if x.shape[:-1] != xs[0].shape[:-1]:
            raise ValueError(f"X[0] and X[{i}] must have equal shapes except for the last axis, not {xs[0].shape} and {x.shape}")
    return tuple(xs[0].shape[:-1])


def find_node(records: Records, at: str | int) -> NodeInfo:
    """The node with this number, or the node where the layer with this name is used."""
    if not isinstance(at, str):
        number = whole_number(at, "predict: at, unless it is the name of a layer,", least=0)
        if number >= len(records.nodes):
            raise ValueError(f"at must be a node number from 0 to {len(records.nodes) - 1}, not {number}")
        return records.nodes[number]
    found = records.uses.get(at)
    if not found:
        raise unknown("layer", at, records.layer_names)
    if len(found) > 1:
        places = ", ".join(str(node.node) for node in found)
        raise ValueError(f"layer {at!r} is used at nodes {places}; choose one of them, for example at={found[0].node}")
    return found[0]


def check_outs(out: Any, shapes: Sequence[tuple[int, ...]], dtype: np.dtype[Any]) -> list[Array]:
    """Checks the arrays to write to and returns them."""
    expected = f"out must be a list of {len(shapes)} arrays, one per output"
    try:
        outs = [out] if len(shapes) == 1 else list(out)
    except TypeError:
        raise TypeError(f"{expected}, not {type(out).__name__}") from None
    if len(outs) != len(shapes):
        raise ValueError(f"{expected}, but its length is {len(outs)}")
    for i, (array, shape) in enumerate(zip(outs, shapes, strict=True)):
        _check_out(array, shape, dtype, "out" if len(outs) == 1 else f"out[{i}]")
    return outs


def check_apart(outs: Sequence[Array], xs: Sequence[Array], params: Array) -> None:
    """Refuses arrays to write to that share memory with each other, an input or the parameters, as the compiled backend does itself."""
    others = [("the net's parameters", params), *((f"input {i}", x) for i, x in enumerate(xs))]
    for i, out in enumerate(outs):
        for name, other in others:
            if np.shares_memory(out, other):
                raise ValueError(f"output {i} shares memory with {name}: use separate memory")
        others.append((f"output {i}", out))


def _check_out(out: Any, shape: tuple[int, ...], dtype: np.dtype[Any], what: str) -> None:
    if not isinstance(out, np.ndarray):
        raise TypeError(f"{what} must be an ndarray, not {type(out).__name__}")
    if out.dtype != dtype or out.shape != shape:
        raise ValueError(f"{what} must have dtype {dtype} and shape {shape}, not {out.dtype} and {out.shape}")
    if not out.flags.writeable:
        raise ValueError(f"{what} is read-only; pass a writable array")
    rows_contiguous = shape[-1] == 1 or out.strides[-1] == out.itemsize
    if not (out.flags.c_contiguous or (out.ndim == 2 and rows_contiguous)):
        raise ValueError(f"{what} must be C-contiguous; in a 2-D array it is enough that each row is contiguous")
    if out.ndim == 2 and len(out) > 1 and abs(out.strides[0]) < shape[-1] * out.itemsize:
        raise ValueError(
            f"{what} has rows that share memory (its strides are {out.strides}); pass an array such as np.empty({shape}, {str(dtype)!r})"
        )
