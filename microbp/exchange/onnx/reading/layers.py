"""Operators with weights, windows, norms and recurrent layers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from ....data.arrays import Array
from ....network.layers import BatchNorm, Embedding, LayerNorm, Standardize
from ....network.nodes import Ids, Node, concat
from ....network.positions.layers import Conv, Pool
from ....network.positions.recurrent import Recurrent
from .elementwise import shortest
from .values import ROWS, Axes, Reading, Value, Weights, columns, normal, ready, seen, without_ones


def _with_columns(x: Value, axis: int, size: int) -> Axes:
    """The axes where this one, which is inside all others, has another size."""
    ones = [one if i != axis else () for i, one in enumerate(x.axes)]
    ones[axis] = ((len(x.order) + 1, size),)
    return without_ones(ones)


def _dense(r: Reading, x: Value, weight: Array, bias: Array | None, key: tuple[Any, ...]) -> Value:
    """A product with a weight (out, in), along the last axis."""
    last = len(x.axes) - 1
    if not x.axes or x.axes[last] == ROWS or x.sizes[last] != weight.shape[1]:
        raise ValueError(f"its weight has {weight.shape[1]} inputs, which do not fit")
    node, weight = columns(x, last, weight)  # type: ignore[assignment]
    factors = x.axes[last]
    key = key if [*factors] == sorted(factors) else (*key, factors)  # the same weight in another order is another layer
    return r.dense(Weights(node, weight, bias, key), _with_columns(x, last, len(weight)))


def _gemm(r: Reading) -> Value:
    if r.get("transA", 0):
        return r.ghost("transA must be 0")
    alpha, beta = r.get("alpha", 1.0), r.get("beta", 1.0)
    turned = bool(r.get("transB", 0))
    weight = r.tensor(1, 2) if turned else r.tensor(1, 2).T
    bias = None if r.given(2) is None else r.tensor(2)
    if bias is not None:
        bias = np.broadcast_to(bias.reshape(-1) if bias.ndim < 2 or len(bias) == 1 else bias, len(weight))
        bias = bias if beta == 1 else bias * bias.dtype.type(beta)
    return _dense(r, r.x(), weight if alpha == 1 else weight * weight.dtype.type(alpha), bias, ("Gemm", *r.key(1, 2), turned, alpha, beta))


def _matmul(r: Reading) -> Value:
    if isinstance(r.given(0), Value) and isinstance(r.given(1), Value):
        return r.ghost("microbp cannot multiply values as matrices")
    return _dense(r, r.x(), r.tensor(1, 2).T, None, ("MatMul", *r.key(1)))


def gather(r: Reading, axis: int) -> Value:
    """A table whose rows are chosen by ids."""
    table, ids = r.tensor(0, 2), r.x(1)
    if axis or not isinstance(ids.node, Ids) or len(ids.axes) > 2:
        raise ValueError("microbp has an embedding only of ids that are an input with the shape (rows,) or (rows, columns)")
    return _embedding(r, ids, table, r.key(0), "concat")


def _embedding(r: Reading, ids: Value, table: Array, key: tuple[Any, ...], combine: Any) -> Value:
    levels, units = table.shape
    node = ready(ids)
    assert isinstance(node, Ids)
    node.levels = node.levels if node.levels > 1 else levels  # an input whose levels are not known yet has 1
    layer = r.layer(("Embedding", *key, combine), lambda: Embedding(levels, units, combine=combine), weight=table)
    axes = without_ones([*ids.axes, ((2, units),)]) if combine == "concat" else without_ones([ROWS, ((1, units),)])
    return r.made(layer(node), axes, ("embedding", (ids, table, key)))


def reduce_sum(r: Reading, axes: Sequence[int]) -> Value:
    """The sum of the rows of a table."""
    x = r.x()
    if x.op != "embedding" or len(x.axes) != 3 or [*axes] != [1] or r.get("keepdims", 1):
        return r.ghost("microbp has only sums of the ids of an embedding")
    ids, table, key = x.form[1]
    return _embedding(r, ids, table, key, "sum")


# ---- windows ----


def _moved(r: Reading, rank: int) -> tuple[Node, list[int], dict[str, Any]]:
    """A node with the positions that the last axes have, and the settings of a window."""
    x = r.x()
    axes = len(x.axes) - 2
    if axes not in (1, 2) or rank not in (0, axes):
        raise ValueError(f"microbp has windows over 1 or 2 axes, not {axes}")
    columns(x, 1)
    sizes = x.sizes[2:]
    order = [factor for axis in x.axes[2:] for factor in axis]
    if order != sorted(order) or x.axes[0] != ROWS:
        raise ValueError("its axes have another order than rows, columns, height, width")
    found = {name: [*r.get(name, [1] * axes)] for name in ("strides", "dilations")}
    kernel = [*r.get("kernel_shape", [0] * axes)]
    pads = [*r.get("pads", [0] * 2 * axes)]
    auto = r.get("auto_pad", b"NOTSET")
    if auto == b"SAME_UPPER":
        steps = zip(sizes, kernel, found["strides"], found["dilations"], strict=True)
        whole = [max(0, (-(-size // s) - 1) * s + d * (k - 1) + 1 - size) for size, k, s, d in steps]
        pads = [one // 2 for one in whole] + [one - one // 2 for one in whole]
    elif auto not in (b"NOTSET", b"VALID"):
        raise ValueError(f"its auto_pad is {auto.decode('utf-8', 'replace')[:20]!r}; only SAME_UPPER and VALID are supported")
    if pads[:axes] != pads[axes:] or len(pads) != 2 * axes:
        raise ValueError(f"its pads are {pads}, but microbp has the same on both sides")
    return seen(x, sizes), sizes, {"size": kernel, "stride": found["strides"], "pad": pads[:axes], "dilation": found["dilations"]}


def _moved_axes(node: Node) -> Axes:
    count = len(node.grid)
    return without_ones([ROWS, ((count + 1, node.width),), *(((i + 1, size),) for i, size in enumerate(node.grid))])


def _conv(r: Reading) -> Value:
    weight = r.tensor(1)
    r.operator.attributes.setdefault("kernel_shape", [*weight.shape[2:]])
    node, _, settings = _moved(r, weight.ndim - 2)
    if r.get("group", 1) != 1:
        return r.ghost("microbp has no groups")
    if weight.shape[1] != node.width or settings["size"] != [*weight.shape[2:]]:
        raise ValueError(f"its weight of shape {weight.shape} does not fit {node.width} columns and the size {settings['size']}")
    window = Conv(1, **settings)(node).operands[0]
    flat = weight.transpose(0, *range(2, weight.ndim), 1).reshape(len(weight), -1)
    bias = None if r.given(2) is None else r.tensor(2, 1)
    axes = _moved_axes(Node("window", (), len(weight), grid=window.grid))
    return r.dense(Weights(window, flat, bias, ("Conv", *r.key(1, 2))), axes)


def _pool(kind: Any) -> Callable[[Reading], Value]:
    def read(r: Reading) -> Value:
        node, sizes, settings = _moved(r, 0)
        size, stride = settings["size"], settings["stride"]
        if any(settings["pad"]) or set(settings["dilation"]) - {1}:
            return r.ghost("microbp has pools without pads and dilations")
        if r.get("ceil_mode", 0) and any((a - b) % c for a, b, c in zip(sizes, size, stride, strict=True)):
            return r.ghost("microbp leaves out positions that do not fill a window: ceil_mode must be 0")
        made = Pool(size, stride, kind)(node)
        return r.made(made, _moved_axes(made))

    return read


def pooled(r: Reading, kind: Any, axes: Sequence[int], keep: bool) -> Value:
    """The mean or the largest of all positions."""
    x = r.x()
    gone = sorted({x.axis(axis) for axis in axes})
    factors = [factor for axis in gone for factor in x.axes[axis]]
    if factors != x.order[: len(factors)] or len(factors) == len(x.order) > 0:
        return r.ghost("microbp has means only of all positions")
    node = seen(x, [math.prod(size for _, size in factors)])
    left = [() if i in gone else axis for i, axis in enumerate(x.axes) if keep or i not in gone]
    return r.made(Pool(node.grid, kind=kind)(node), normal(left))


# ---- norms ----


def _batch_norm(r: Reading) -> Value:
    x = r.x()
    if r.get("training_mode", 0) or len(x.axes) < 2:
        return r.ghost("training_mode must be 0, and its operand must have columns")
    node, _ = columns(x, 1)
    tensors = {name: r.tensor(i + 1, 1) for i, name in enumerate(("weight", "bias", "running_mean", "running_var"))}
    if any(len(one) != node.width for one in tensors.values()):
        raise ValueError(f"its tensors must have {node.width} numbers")
    eps = shortest(r.get("epsilon", 1e-5))
    momentum = round(1 - r.get("momentum", 0.9), 7)
    layer = r.layer(("BatchNorm", *r.key(3, 1, 2, 4), eps), lambda: BatchNorm(momentum, eps), **tensors)
    return r.made(layer(node), x.axes)


def _layer_norm(r: Reading) -> Value:
    x = r.x()
    first = x.axis(r.get("axis", -1))
    joined = x._replace(axes=(*x.axes[:first], tuple(factor for axis in x.axes[first:] for factor in axis)))
    scale = r.tensor(1).reshape(-1)
    node, weight = columns(joined, first, scale)
    bias = np.zeros_like(scale) if r.given(2) is None else columns(joined, first, r.tensor(2).reshape(-1))[1]
    if weight is None or bias is None or not len(weight) == len(bias) == node.width:
        raise ValueError(f"its tensors must have {node.width} numbers")
    eps = shortest(r.get("epsilon", 1e-5))
    layer = r.layer(("LayerNorm", *r.key(1, 2), eps, joined.axes[first]), lambda: LayerNorm(eps), weight=weight, bias=bias)
    return r.made(layer(node), x.axes)


def _scaler(r: Reading) -> Value:
    """ai.onnx.ml: (x - offset) scale."""
    x = r.x()
    node, _ = columns(x, len(x.axes) - 1)
    offset, scale = (np.array(r.get(key, [0.0]), np.float64) for key in ("offset", "scale"))
    if not scale.all() or any(len(one) not in (1, node.width) for one in (offset, scale)):
        raise ValueError(f"its offset and scale must have {node.width} numbers, not 0")
    mean, std = (np.broadcast_to(one, node.width) for one in (offset, 1 / scale))
    return r.made(r.layer(("Scaler", r.operator.number), Standardize, mean=mean, std=std)(node), x.axes)


# ---- recurrent layers ----

CELLS: dict[str, tuple[Any, tuple[int, ...], list[bytes]]] = {  # where our gates are in ONNX's order, and the functions of the gates
    "RNN": ("tanh", (0,), [b"Tanh"]),
    "GRU": ("gru", (1, 0, 2), [b"Sigmoid", b"Tanh"]),
    "LSTM": ("lstm", (0, 2, 3, 1), [b"Sigmoid", b"Tanh", b"Tanh"]),
}


def rows_of(order: Sequence[int], units: int) -> Array:
    """The rows of ONNX's weight, in our order."""
    return np.concatenate([range(gate * units, (gate + 1) * units) for gate in order])


def _recurrent(r: Reading) -> list[Value]:
    cell, order, functions = CELLS[r.operator.type]
    x, direction, count = r.x(), r.get("direction", b"forward"), len(r.operator.outputs)
    sides = 2 if direction == b"bidirectional" else 1
    given = [one.lower() for one in r.get("activations", functions * sides)]
    if cell == "gru" and not r.get("linear_before_reset", 0):
        return [r.ghost("linear_before_reset must be 1")] * count
    unusual = r.given(4), r.given(7), r.operator.attributes.get("clip"), r.get("input_forget", 0) or None
    if given != [one.lower() for one in functions * sides] or unusual != (None,) * 4:
        return [r.ghost("microbp has only the usual activations, and no clip, input_forget, peepholes and sequence_lens")] * count
    first = r.get("layout", 0) == 1  # whether the rows are first
    if len(x.axes) != 3 or x.axes[not first] != ROWS:
        raise ValueError("its operand must have the axes (positions, rows, columns)")
    node, length = columns(x, 2)[0], x.sizes[first]
    node = seen(x._replace(node=node), [length] if length > 1 else ())
    weight = np.concatenate([r.tensor(1, 3), r.tensor(2, 3)], axis=2)
    units = r.given(2).shape[2]
    if weight.shape != (sides, units * len(order), node.width + units):
        raise ValueError(f"its weights have the shapes {r.given(1).shape} and {r.given(2).shape}, which do not fit")
    made = []
    for i in range(sides):
        bias = None if r.given(3) is None else _bias(r.tensor(3, 2)[i], rows_of(order, units), cell, units)
        reverse = i == 1 or direction == b"reverse"
        make = partial(Recurrent, units, cell, reverse=reverse, bias=bias is not None)
        layer = r.layer((cell, *r.key(1, 2, 3), i, reverse), make, weight=weight[i][rows_of(order, units)], bias=bias)
        made.append(layer(node, _state(r, sides, cell, units)))
    return _results(r, made, length, units, first)[:count]


def _bias(both: Array, rows: Array, cell: str, units: int) -> Array:
    """The sum of the two biases of a direction; a gru keeps the last part of the second."""
    first, second = (one[rows] for one in both.reshape(2, len(rows)))
    if cell != "gru":
        return np.asarray(first + second)
    return np.concatenate([first[: 2 * units] + second[: 2 * units], first[2 * units :], second[2 * units :]])


def _state(r: Reading, sides: int, cell: str, units: int) -> Node | None:
    """The node of the state before the first position; None for zeros."""
    parts = [r.given(5), r.given(6)][: 2 if cell == "lstm" else 1]
    if any(isinstance(part, np.ndarray) and part.shape[-1:] != (units,) for part in parts):
        raise ValueError(f"its states before the first position must have {units} columns")
    if all(part is None or (isinstance(part, np.ndarray) and not part.any()) for part in parts):
        return None
    if sides > 1 or not all(isinstance(part, Value) for part in parts):
        raise ValueError("its states before the first position must be zeros, or values of one direction")
    return joined([columns(part, 2)[0] for part in parts])


def joined(nodes: list[Node]) -> Node:
    return nodes[0] if len(nodes) == 1 else concat(nodes)


def _results(r: Reading, made: list[Node], length: int, units: int, first: bool) -> list[Value]:
    """Y, and Y_h: the state after the last position. Y_c is not known."""
    positions, sides, width = ((1, length),), ((2, len(made)),), ((3, units),)
    y = (ROWS, positions, sides, width) if first else (positions, sides, ROWS, width)
    ends = [0 if one.reverse else (length - 1) * units for one in made]
    last = [seen(Value("", (), one), ())[:, end : end + units] for one, end in zip(made, ends, strict=True)]
    h = (ROWS, sides, width) if first else (sides, ROWS, width)
    found = r.made(joined(made), without_ones(y)), r.made(joined(last), without_ones(h))
    return [*found, r.ghost("microbp does not give the state c of an lstm")]


READERS: dict[str, Callable[[Reading], Any]] = {
    "ai.onnx.ml.Scaler": _scaler,
    "AveragePool": _pool("mean"),
    "BatchNormalization": _batch_norm,
    "Conv": _conv,
    "Gemm": _gemm,
    "GlobalAveragePool": lambda r: pooled(r, "mean", range(2, len(r.x().axes)), True),
    "GlobalMaxPool": lambda r: pooled(r, "max", range(2, len(r.x().axes)), True),
    "GRU": _recurrent,
    "LayerNormalization": _layer_norm,
    "LSTM": _recurrent,
    "MatMul": _matmul,
    "MaxPool": _pool("max"),
    "RNN": _recurrent,
}
