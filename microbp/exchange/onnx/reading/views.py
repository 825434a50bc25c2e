"""Operators that move, choose or join numbers, and those that come to nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ....network.positions.layers import Last, Repeat
from .layers import gather, joined, pooled, reduce_sum
from .values import BATCH, ROWS, Axes, Reading, Value, columns, inside, normal, ready, reshaped, resized, seen, slices
from .wire import FLOATS

_LABELS = "it makes labels of probabilities, which net.predict gives instead"


def _view(r: Reading, axes: Axes) -> Value:
    """The same numbers with other axes."""
    x = r.inputs[0]
    return Value("", axes, x.node, x.form, x.why, x.uses)


def _identity(r: Reading) -> list[Value]:
    return [_view(r, r.inputs[0].axes), *[r.ghost("a mask")] * (len(r.operator.outputs) - 1)]


def _dropout(r: Reading) -> list[Value]:
    training = r.given(2)
    if isinstance(training, np.ndarray) and training.any():
        return [r.ghost("it is in training mode")]
    return _identity(r)


def _cast(r: Reading) -> Value:
    if r.get("to", 0) not in FLOATS and r.inputs[0].op != "input":
        return r.ghost(_LABELS, "labels")
    return _view(r, r.inputs[0].axes)


def _reshape(r: Reading) -> Value:
    x, shape = r.inputs[0], r.list("shape", 1) or []
    zeros = r.get("allowzero", 0)
    sizes = [x.sizes[i] if size == 0 and not zeros and i < len(x.axes) else size for i, size in enumerate(shape)]
    for i, size in enumerate(sizes):
        if shape[i] == 0 and size < 0 and size != BATCH:  # rows and others, which stay together
            raise ValueError("it reshapes rows that are mixed with other numbers")
    return _view(r, reshaped(x.axes, sizes, r.batch))


def _flatten(r: Reading) -> Value:
    x = r.inputs[0]
    axis = r.get("axis", 1)
    axis = axis + len(x.axes) if axis < 0 else axis
    joined = [tuple(factor for one in part for factor in one) for part in (x.axes[:axis], x.axes[axis:])]
    return _view(r, normal(joined))


def _transpose(r: Reading) -> Value:
    x = r.inputs[0]
    order = r.get("perm", [*range(len(x.axes))][::-1])
    if sorted(order) != [*range(len(x.axes))]:
        raise ValueError(f"its perm is not an order of {len(x.axes)} axes")
    return _view(r, tuple(x.axes[axis] for axis in order))


def _squeeze(r: Reading) -> Value:
    x = r.inputs[0]
    axes = r.list("axes", 1)
    gone = {x.axis(axis) for axis in axes} if axes is not None else {i for i, axis in enumerate(x.axes) if not axis}
    if any(x.axes[axis] for axis in gone):
        raise ValueError("it removes an axis that is not of size 1")
    return _view(r, tuple(axis for i, axis in enumerate(x.axes) if i not in gone))


def _unsqueeze(r: Reading) -> Value:
    x, axes = r.inputs[0], r.list("axes", 1) or []
    rank = len(x.axes) + len(axes)
    places = {axis % rank for axis in axes if -rank <= axis < rank}
    if len(places) != len(axes) or rank > 8:
        raise ValueError("its axes are not valid")
    old = iter(x.axes)
    return _view(r, tuple(() if i in places else next(old) for i in range(rank)))


def _slice(r: Reading) -> Value:
    x: Value = r.inputs[0]
    ranges = slices(r.operator, r.inputs, len(x.axes))
    for axis, one in sorted(ranges.items()):
        size = x.sizes[axis]
        if x.axes[axis] == ROWS and one == slice(0, one.stop, 1) and one.stop >= 2**31 - 1:
            continue
        if size < 0:
            raise ValueError("it slices rows")
        first, end, step = one.indices(size)
        if step != 1 or end <= first:
            raise ValueError(f"it takes the numbers {first} to {end} with the step {step}, which is not supported")
        x = part(r, x, axis, first, end)
    return x


def part(r: Reading, x: Value, axis: int, first: int, end: int) -> Value:
    """Some of the numbers along an axis."""
    if (first, end) == (0, x.sizes[axis]):
        return x
    node, step, axes = inside(x, axis)
    return r.made(node[:, first * step : end * step], resized(axes, axis, end - first))


def _split(r: Reading) -> list[Value]:
    x = r.inputs[0]
    axis, count = x.axis(r.get("axis", 0)), len(r.operator.outputs)
    size = x.sizes[axis]
    lengths = r.list("split", 1) or [min(-(-size // count), size - i * -(-size // count)) for i in range(count)]
    if len(lengths) != count or sum(lengths) != size or min(lengths) < 1:
        raise ValueError(f"its parts have the sizes {lengths}, which do not fit an axis of {size}")
    return [part(r, x, axis, sum(lengths[:i]), sum(lengths[: i + 1])) for i in range(count)]


def _gather(r: Reading) -> Value:
    axis = r.get("axis", 0)
    if isinstance(r.inputs[0], np.ndarray):
        return gather(r, axis)
    x, place = r.x(), r.given(1)
    axis = x.axis(axis)
    if not isinstance(place, np.ndarray) or place.dtype.kind not in "iu" or place.size != 1 or x.axes[axis] == ROWS:
        raise ValueError("microbp chooses only one position, with a constant, along an axis that is not the rows")
    size, index = x.sizes[axis], int(place.reshape(-1)[0])
    if not -size <= index < size:
        raise ValueError(f"it chooses position {index} of {size}")
    index %= size
    node = ready(x)
    is_last = len(node.grid) == 1 and index == size - 1 == node.positions - 1 and x.axes[axis] == ((1, size),)
    axes = tuple(one for i, one in enumerate(x.axes) if i != axis)
    found = Last()(node) if is_last else ready(part(r, x, axis, index, index + 1))
    kept = (*axes[:axis], *((),) * place.ndim, *axes[axis:])
    return r.made(found, normal(kept))


def _concat(r: Reading) -> Value:
    found = [r.x(i) for i in range(len(r.inputs))]
    first, axis = found[0], found[0].axis(r.get("axis", 0))
    for one in found[1:]:
        a, b = ([size for i, size in enumerate(value.sizes) if i != axis] for value in (first, one))
        if len(one.axes) != len(first.axes) or a != b:
            raise ValueError(f"it joins values of different shapes along axis {axis}")
    rank = next((sum(factor < one.axes[axis][0] for factor in one.order) + 0.5 for one in found if one.axes[axis]), None)
    parts = [inside(one, axis, rank) for one in found]
    if len({_beside(axes, axis) for _, _, axes in parts}) > 1:
        raise ValueError("it joins values of different layouts")
    size = sum(one.sizes[axis] for one in found)
    return r.made(joined([node for node, _, _ in parts]), resized(parts[0][2], axis, size))


def _beside(axes: Axes, axis: int) -> tuple[Any, ...]:
    """Axes as they must be equal where values are joined: of the one, how many factors are outside it."""
    factors = [factor for i, one in enumerate(axes) if i != axis for factor in one]
    own, order = axes[axis][0], sorted(factors)
    places = [order.index(factor) for factor in factors]
    return tuple(places), tuple(size for _, size in factors), sum(factor < own for factor in factors)


def _expand(r: Reading) -> Value:
    x, shape = r.x(), r.list("shape", 1) or []
    axes = ((),) * (len(shape) - len(x.axes)) + x.axes
    shape = [1] * (len(axes) - len(shape)) + shape
    wide = [i for i, size in enumerate(shape) if size not in (1, BATCH, -1) and not axes[i]]
    others = [i for i, size in enumerate(shape) if size > 1 and i not in wide]
    if len(wide) > 1 or any(axes[i] != ROWS and x._replace(axes=axes).sizes[i] != shape[i] for i in others):
        raise ValueError(f"it expands to {shape}, which is not supported")
    if not wide:
        return _view(r, axes)
    node = seen(x, ())
    grown = tuple(((0.5, shape[i]),) if i in wide else axis for i, axis in enumerate(axes))
    return r.made(Repeat(shape[wide[0]])(node), normal(grown))


def _reduce(kind: str) -> Callable[[Reading], Value]:
    def read(r: Reading) -> Value:
        axes = r.list("axes", 1) or [*range(len(r.x().axes))]
        if kind == "sum":
            return reduce_sum(r, axes)
        return pooled(r, kind, axes, bool(r.get("keepdims", 1)))

    return read


def _softmax(r: Reading) -> Value:
    """Known at the end only, where it becomes an output activation."""
    x = r.x()
    axis = x.axis(r.get("axis", -1 if r.opset > 12 else 1))
    columns(x, axis)
    if axis != len(x.axes) - 1:
        raise ValueError("microbp has softmax along the last axis only")
    return r.ghost("microbp has softmax only at the end, as an output activation")


def _zip_map(r: Reading) -> Value:
    """The names of the classes."""
    names = [*r.operator.attributes.get("classlabels_int64s", [])] or r.operator.attributes.get("classlabels_strings", [])
    r.classes = [name.decode("utf-8", "replace") if isinstance(name, bytes) else name for name in names]
    return _view(r, r.inputs[0].axes)


def _labels(r: Reading) -> Value:
    for one in r.inputs:
        if isinstance(one, np.ndarray) and one.ndim == 1 and one.dtype.kind in "iO" and r.operator.type.endswith("FeatureExtractor"):
            r.classes = one.tolist()
    return r.ghost(_LABELS, "labels")


# Operators that change only axes, also of values that microbp has no node for
VIEWS: dict[str, Callable[[Reading], Any]] = {
    "Cast": _cast,
    "Dropout": _dropout,
    "Flatten": _flatten,
    "Identity": _identity,
    "Reshape": _reshape,
    "Squeeze": _squeeze,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
    "ai.onnx.ml.ZipMap": _zip_map,
}
LABELS: dict[str, Callable[[Reading], Any]] = {
    "ArgMax": _labels,
    "ai.onnx.ml.ArrayFeatureExtractor": _labels,
    "ai.onnx.ml.Binarizer": _labels,
    "ai.onnx.ml.LabelEncoder": _labels,
}
READERS: dict[str, Callable[[Reading], Any]] = {
    "Concat": _concat,
    "Expand": _expand,
    "Gather": _gather,
    "ReduceMax": _reduce("max"),
    "ReduceMean": _reduce("mean"),
    "ReduceSum": _reduce("sum"),
    "Slice": _slice,
    "Softmax": _softmax,
    "Split": _split,
}
