"""How the values of an ONNX graph lie in nodes of ours, which always have the rows first, then positions, and columns last.

The numbers of a row are in the order of memory of its node. An axis of the ONNX value consists of factors (rank, size): the rank says how
far outside the factor is in memory, where rank 0 are the rows. So a Transpose, or a Reshape that only joins or divides axes, changes axes
and computes nothing; sizes of 1 have no factor. A picture of 3 channels, 8 x 6: ((0, 0),), ((3, 3),), ((1, 8),), ((2, 6),).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple, TypeVar

import numpy as np

from ....data.arrays import Array
from ....network.layers import Activation, Dense, NamedLayer
from ....network.nodes import Node
from ....network.positions.layers import Flatten, Unflatten
from .wire import FLOATS, Operator

Factor = tuple[Any, int]
Axes = tuple[tuple[Factor, ...], ...]
BATCH = -(2**40)  # the number of rows, where a graph computes with shapes; sums and products of it fit nothing
ROWS: tuple[Factor, ...] = ((0, 0),)
LIMIT = 2**20  # numbers that an operator may make out of fewer constants
_TENSOR = re.compile(r"[./:]+(weight|bias|kernel|gamma|beta|scale|W|R|B|mean|std|running_mean|running_var)([/:].*)?$")
_Layer = TypeVar("_Layer", bound=NamedLayer)


class Value(NamedTuple):
    """A value that depends on the inputs.

    node: None for a value that microbp has no node for; `why` says so, wherever it is needed.
    form: the operator that made it and its operands, for operators that together are one of ours. name: in the file.
    """

    name: str
    axes: Axes
    node: Node | None = None
    form: tuple[str, tuple[Any, ...]] = ("", ())
    why: str = ""
    uses: int = 0  # how often it is read; through views too

    @property
    def op(self) -> str:
        """The operator that made it."""
        return self.form[0]

    @property
    def sizes(self) -> list[int]:
        """Its shape; BATCH stands for the rows."""
        return [math.prod(size or BATCH for _, size in axis) for axis in self.axes]

    @property
    def order(self) -> list[Factor]:
        """The factors of a row, as they lie in memory."""
        return sorted(factor for axis in self.axes for factor in axis if factor[0])

    def axis(self, number: Any) -> int:
        """The number of an axis, which may count from the end."""
        if not isinstance(number, int) or not -len(self.axes) <= number < len(self.axes):
            raise ValueError(f"axis {number} is not one of the {len(self.axes)} axes")
        return number % len(self.axes)


def ready(value: Any) -> Node:
    """The node of a value."""
    if not isinstance(value, Value):
        raise ValueError("a constant is where a value that depends on the inputs must be")
    if value.node is None:
        raise ValueError(value.why)
    return value.node


def normal(axes: Sequence[Sequence[tuple[Any, int]]]) -> Axes:
    """Axes with ranks 0, 1, ..., where factors are one that lie side by side in memory and in an axis. A rank may be any tuple."""
    order = sorted(factor for axis in axes for factor in axis)
    after = {a: b for a, b in pairwise(order) if a[1]}  # rows are never joined with others
    joined = []
    for axis in axes:
        groups: list[list[tuple[Any, int]]] = []
        for factor in axis:
            if groups and after.get(groups[-1][-1]) == factor:
                groups[-1].append(factor)
            else:
                groups.append([factor])
        joined.append(groups)
    ranks = {group[0]: rank for rank, group in enumerate(sorted((group for groups in joined for group in groups), key=lambda g: g[0]))}
    return tuple(tuple((ranks[group[0]], math.prod(size for _, size in group)) for group in groups) for groups in joined)


def seen(value: Value, spatial: Sequence[int]) -> Node:
    """The node of a value with these positions, () for one, and all else as columns."""
    node = ready(value)
    if tuple(spatial) == node.grid:
        return node
    return Unflatten(*spatial)(node) if spatial else Flatten()(node)


def _at(value: Value, positions: int) -> Node:
    """The node with this number of positions."""
    node = ready(value)
    return node if positions == node.positions else seen(value, [positions] if positions > 1 else ())


def columns(value: Value, axis: int, weight: Array | None = None) -> tuple[Node, Array | None]:
    """The node whose columns are those of an axis, for a layer that works on them at each position; and weight, whose last axis belongs to
    that axis, in the order of the node's columns."""
    factors = value.axes[axis]
    others = sorted(factor for i, one in enumerate(value.axes) if i != axis for factor in one if factor[0])
    if (0, 0) in factors or (others and factors and others[-1] > min(factors)):
        raise ValueError(f"it works on axis {axis} of {len(value.axes)}, but other axes are inside it: Transpose its operand first")
    if weight is not None and list(factors) != sorted(factors):
        ranks = np.argsort([rank for rank, _ in factors])
        lead = weight.ndim - 1
        parts = weight.reshape(*weight.shape[:-1], *(size for _, size in factors))
        weight = parts.transpose(*range(lead), *(lead + ranks)).reshape(weight.shape)
    elif list(factors) != sorted(factors):
        raise ValueError(f"the columns of axis {axis} have another order than in memory")
    return _at(value, math.prod(size for _, size in others)), weight


def inside(value: Value, axis: int, rank: float | None = None) -> tuple[Node, int, Axes]:
    """For slices and joins along an axis of one factor: a node with the positions outside this factor, how many columns one step of it
    has, and the axes. An axis of size 1 becomes a factor with the size 1 and this rank."""
    axes = value.axes
    if not axes[axis]:
        if rank is None:  # the outermost of a row at one position, else the innermost
            rank = 0.5 if ready(value).positions == 1 and len(value.order) < 2 else len(value.order) + 1
        axes = tuple(((rank, 1),) if i == axis else one for i, one in enumerate(axes))
    if len(axes[axis]) != 1 or axes[axis] == ROWS:
        raise ValueError(f"axis {axis} has rows, or several axes of another layout")
    factor = axes[axis][0]
    order = sorted(one for ones in axes for one in ones if one[0])
    return (
        _at(value, math.prod(size for rank, size in order if rank < factor[0])),
        math.prod(size for rank, size in order if rank > factor[0]),
        axes,
    )


def resized(axes: Axes, axis: int, size: int) -> Axes:
    """The axes where the one factor of an axis has another size."""
    return without_ones(tuple(((one[0][0], size),) if i == axis else one for i, one in enumerate(axes)))


def without_ones(axes: Sequence[Sequence[tuple[Any, int]]]) -> Axes:
    """Normal axes, without factors of size 1."""
    return normal([[factor for factor in axis if factor[1] != 1] for axis in axes])


def same_layout(values: Sequence[Value]) -> Axes:
    """The axes of values that are combined number by number; ValueError if they differ."""
    found = [value.axes for value in values]
    longest = max(found, key=len)
    for one in found:
        if ((),) * (len(longest) - len(one)) + one != longest:
            shapes = " and ".join(str(value.sizes).replace(str(BATCH), "rows") for value in values)
            raise ValueError(f"its operands have different shapes or layouts, {shapes}, but must have the same")
    return longest


def reshaped(axes: Axes, shape: Sequence[int], batch: int | None) -> Axes:
    """The axes after a Reshape to `shape`, where -1 is what remains. batch: the rows of a file that fixes them.

    ValueError if rows are mixed with other numbers."""
    factors: list[tuple[Any, int]] = [((rank,), size) for axis in axes for rank, size in axis]
    if any(-1 < size < 1 or -1 > size != BATCH for size in shape) or shape.count(-1) > 1:
        raise ValueError(f"it reshapes to {list(shape)}, which mixes rows with other numbers")
    fixed = batch if batch is not None and BATCH not in shape else None
    cut = shape.index(-1) if -1 in shape else len(shape)
    front = [_take(factors, size, fixed, 0) for size in shape[:cut]]
    back = [_take(factors, size, fixed, -1) for size in reversed(shape[cut + 1 :])]
    if cut == len(shape) and factors:
        raise ValueError(f"it reshapes to {list(shape)}, which does not fit")
    return normal([*front, *([factors] if cut < len(shape) else []), *reversed(back)])


def _take(factors: list[tuple[Any, int]], size: int, batch: int | None, end: int) -> list[tuple[Any, int]]:
    """Takes the factors of an axis of this size from the begin (end 0) or the end (-1) of a list."""
    taken: list[tuple[Any, int]] = []
    if factors and not factors[end][1] and size in (BATCH, batch):
        return [factors.pop(end)]
    while size != 1:
        if not factors or size < 1 or not factors[end][1]:
            raise ValueError("it reshapes to sizes that do not fit, or mixes rows with other numbers")
        rank, one = factors.pop(end)
        if size % one == 0:
            taken.append((rank, one))
            size //= one
        elif one % size == 0:
            parts = ((*rank, 0), one // size if end else size), ((*rank, 1), size if end else one // size)
            taken.append(parts[end])
            factors.insert(0 if end == 0 else len(factors), parts[-1 - end])
            size = 1
        else:
            raise ValueError("it reshapes to sizes that do not fit")
    return taken if end == 0 else taken[::-1]


# ---- constants, and shapes: what exporters leave of computations with sizes ----


def attribute(operator: Operator, name: str, default: Any) -> Any:
    """An attribute of the type of its default."""
    found = operator.attributes.get(name, default)
    if type(found) is not type(default):
        raise ValueError(f"its attribute {name} is missing, or has the wrong type")
    return found


def constant(operator: Operator) -> Array:
    """The value of a Constant node."""
    for name, found in operator.attributes.items():
        if name == "value" and isinstance(found, np.ndarray):
            return np.asarray(found)
        if name in ("value_float", "value_floats"):
            return np.array(found, np.float32)
        if name in ("value_int", "value_ints"):
            return np.array(found, np.int64)
    raise ValueError("it has no value that is supported")


def listed(operator: Operator, inputs: list[Any], name: str, place: int) -> list[int] | None:
    """Whole numbers that are an attribute of old opsets, and an operand of new ones, such as axes."""
    if name in operator.attributes:
        return [*attribute(operator, name, [0])]
    if len(inputs) <= place or inputs[place] is None:
        return None
    if not isinstance(inputs[place], np.ndarray) or inputs[place].dtype.kind not in "iu":
        raise ValueError(f"its {name} are not constants")
    return [int(one) for one in inputs[place].reshape(-1)[:64]]


def shape_of(operator: Operator, value: Value | Array) -> Array:
    """The result of Shape; the rows are BATCH."""
    sizes = value.sizes if isinstance(value, Value) else list(value.shape)
    start, end = attribute(operator, "start", 0), operator.attributes.get("end")
    return np.array(sizes[start : end if isinstance(end, int) else None], np.int64)


def fold(operator: Operator, inputs: list[Any]) -> Array | None:
    """The result for constant operands; None: microbp cannot compute it."""
    found = _FOLDS.get(operator.type)
    if found is None or not inputs or inputs[0] is None:
        return None
    with np.errstate(all="ignore"):
        return np.asarray(found(operator, inputs))


Fold = Callable[[Operator, list[Any]], Any]


def _limited(size: int, *arrays: Array) -> None:
    if size > max([LIMIT, *(array.size for array in arrays)]):
        raise ValueError(f"it makes {size} numbers out of constants, but at most {LIMIT} are supported")


def _elementwise(function: Callable[..., Any]) -> Fold:
    def run(_: Operator, inputs: list[Any]) -> Any:
        _limited(math.prod(np.broadcast_shapes(*(one.shape for one in inputs))), *inputs)
        return np.asarray(function(*inputs), inputs[0].dtype)

    return run


def _concat(operator: Operator, inputs: list[Any]) -> Array:
    _limited(sum(one.size for one in inputs))
    return np.concatenate(inputs, attribute(operator, "axis", 0))


def _slice(operator: Operator, inputs: list[Any]) -> Any:
    ranges = slices(operator, inputs, inputs[0].ndim)
    return inputs[0][tuple(ranges.get(axis, slice(None)) for axis in range(inputs[0].ndim))]


def slices(operator: Operator, inputs: list[Any], rank: int) -> dict[int, slice]:
    """What a Slice takes of each axis. Ends beyond the last are kept."""
    starts, ends = (listed(operator, inputs, name, place) or [] for name, place in (("starts", 1), ("ends", 2)))
    axes = listed(operator, inputs, "axes", 3) or list(range(len(starts)))
    steps = listed(operator, inputs, "steps", 4) or [1] * len(starts)
    if not len(starts) == len(ends) == len(axes) == len(steps) or any(not -rank <= axis < rank for axis in axes) or 0 in steps:
        raise ValueError("its starts, ends, axes and steps do not fit together")
    return {axis % rank: slice(*one) for axis, *one in zip(axes, starts, ends, steps, strict=True)}


def _gather(operator: Operator, inputs: list[Any]) -> Any:
    table, ids = inputs
    if ids.dtype.kind not in "iu":
        raise ValueError("its indices are not whole numbers")
    axis = attribute(operator, "axis", 0)
    _limited(table.size // max(1, table.shape[axis]) * ids.size, table)
    return np.take(table, ids, axis)


def _reshape(_: Operator, inputs: list[Any]) -> Any:
    array, shape = inputs
    return array.reshape([array.shape[i] if size == 0 else int(size) for i, size in enumerate(shape.reshape(-1)[:8])])


def _squeeze(operator: Operator, inputs: list[Any]) -> Any:
    axes = listed(operator, inputs, "axes", 1)
    return np.squeeze(inputs[0], tuple(axes) if axes is not None else None)


def _filled(value: Any, shape: Any) -> Array:
    """A constant of this shape, with one row where the number of rows is unknown: it is the same for all."""
    sizes = [1 if size == BATCH else int(size) for size in shape.reshape(-1)[:8]]
    target = np.broadcast_shapes(value.shape, sizes)
    _limited(math.prod(target), value)
    return np.broadcast_to(value, target)


def _cast(operator: Operator, inputs: list[Any]) -> Any:
    kind = attribute(operator, "to", 0)
    if kind in FLOATS:
        return inputs[0].astype(np.float64 if kind == 11 else np.float32)
    return inputs[0].astype(np.int64) if kind in (6, 7) else inputs[0]


_FOLDS: dict[str, Fold] = {
    "Add": _elementwise(np.add),
    "Cast": _cast,
    "Concat": _concat,
    "ConstantOfShape": lambda operator, inputs: _filled(operator.attributes.get("value", np.zeros(1, np.float32)), inputs[0]),
    "Div": _elementwise(lambda a, b: a // b if a.dtype.kind in "iu" else a / b),
    "Equal": _elementwise(np.equal),
    "Expand": lambda operator, inputs: _filled(*inputs),
    "Exp": _elementwise(np.exp),
    "Gather": _gather,
    "Identity": lambda operator, inputs: inputs[0],
    "MatMul": lambda operator, inputs: _matmul(*inputs),
    "Mul": _elementwise(np.multiply),
    "Neg": _elementwise(np.negative),
    "Reshape": _reshape,
    "Slice": _slice,
    "Sqrt": _elementwise(np.sqrt),
    "Squeeze": _squeeze,
    "Sub": _elementwise(np.subtract),
    "Transpose": lambda operator, inputs: inputs[0].transpose(operator.attributes.get("perm")),
    "Where": lambda operator, inputs: _chosen(*inputs),
    "Unsqueeze": lambda operator, inputs: np.expand_dims(inputs[0], tuple(listed(operator, inputs, "axes", 1) or ())),
}


def _chosen(condition: Array, a: Array, b: Array) -> Any:
    _limited(math.prod(np.broadcast_shapes(condition.shape, a.shape, b.shape)), condition, a, b)
    return np.where(condition, a, b)


def _matmul(a: Array, b: Array) -> Any:
    _limited(math.prod(a.shape[:-1]) * math.prod(b.shape))  # multiplications
    return np.matmul(a, b)


# ---- what readers of operators share ----


class Weights:
    """What makes a dense node: the node before it, weight (out, in), bias, the names of the two in the file."""

    def __init__(self, node: Node, weight: Array, bias: Array | None, key: tuple[Any, ...]) -> None:
        self.node, self.weight, self.bias, self.key = node, weight, bias, key


class Reading:
    """The state of reading one graph. inputs: the operands of the present operator: a Value, a constant, or None for one left out."""

    def __init__(self, batch: int | None, opset: int) -> None:
        self.batch, self.opset = batch, opset  # batch: the rows of a file that fixes them
        self.layers: dict[Any, NamedLayer] = {}  # operators with the same tensors share one layer
        self.tensors: dict[NamedLayer, dict[str, Array]] = {}
        self.names: dict[NamedLayer, str] = {}
        self.classes: list[Any] | None = None
        self.operator = Operator(0, "", "", [], [], {})
        self.inputs: list[Any] = []

    # ---- operands ----

    def given(self, place: int) -> Any:
        """An operand; None if it is left out."""
        return self.inputs[place] if place < len(self.inputs) else None

    def get(self, name: str, default: Any) -> Any:
        """An attribute of the type of its default."""
        return attribute(self.operator, name, default)

    def list(self, name: str, place: int) -> list[int] | None:
        """Whole numbers that are an attribute or an operand."""
        return listed(self.operator, self.inputs, name, place)

    def x(self, place: int = 0) -> Value:
        """An operand that depends on the inputs."""
        ready(self.given(place))
        value: Value = self.given(place)
        return value

    def tensor(self, place: int, rank: int | None = None) -> Array:
        """An operand that is a constant of numbers."""
        array = self.given(place)
        if not isinstance(array, np.ndarray) or array.dtype.kind != "f" or (rank is not None and array.ndim != rank):
            raise ValueError(f"operand {place} must be a constant of {'numbers' if rank is None else f'numbers with {rank} axes'}")
        return array

    def key(self, *places: int) -> tuple[Any, ...]:
        """The names of tensors in the file, which name a layer."""
        names = self.operator.inputs
        return tuple(names[place] if place < len(names) else "" for place in places)

    # ---- results ----

    def made(self, node: Node, axes: Axes, form: Any = None) -> Value:
        """The value of the present operator. form: the operator and its operands, if others than they are."""
        return Value("", axes, node, form or (self.operator.type, tuple(self.inputs)))

    def ghost(self, why: str, form: str = "") -> Value:
        """A value that is an error where it is needed."""
        x = self.given(0)
        axes = x.axes if isinstance(x, Value) else ()
        return Value("", axes, None, (form or self.operator.type, tuple(self.inputs)), f"{self.operator.place} is not supported: {why}")

    def layer(self, key: Any, make: Callable[[], _Layer], **tensors: Array | None) -> _Layer:
        """The layer with this key, which `make` makes. The first string in the key that looks like the name of a tensor names it."""
        if key not in self.layers:
            made = self.layers[key] = make()
            self.tensors[made] = {name: array for name, array in tensors.items() if array is not None}
            named = next((name for name in key if isinstance(name, str) and _TENSOR.search(name)), "")
            self.names[made] = _TENSOR.sub("", named)
        return self.layers[key]  # type: ignore[return-value]

    def name_layers(self, nodes: set[Node]) -> None:
        """Names the layers of these nodes by their tensors, where such names are possible and not taken."""
        taken: set[str] = set()
        for layer in {node.layer: None for node in sorted(nodes, key=lambda node: node.number) if isinstance(node.layer, NamedLayer)}:
            name = re.sub(r"[^A-Za-z0-9_-]+", "_", self.names[layer]).strip("_")[:63]
            if re.match(r"[A-Za-z]", name) and not name.startswith("onnx_") and name not in taken:
                layer.name = name
                taken.add(name)

    # ---- dense layers and activations ----

    def dense(self, weights: Weights, axes: Axes, activation: str = "identity") -> Value:
        """A dense layer."""
        units, bias = len(weights.weight), weights.bias

        def make() -> Dense:
            return Dense(units, Activation.parse(activation), bias=bias is not None)

        layer = self.layer((*weights.key, activation, weights.node.width), make, weight=weights.weight, bias=bias)
        return self.made(layer(weights.node), axes, ("dense", (weights,)) if activation == "identity" else None)

    def activation(self, x: Value, spec: str, uses: int = 1) -> Value:
        """An activation of x. A dense layer gets it, if x has no other use: the present operators use it `uses` times."""
        if x.op == "dense" and x.uses == uses:
            return self.dense(x.form[1][0], x.axes, spec)
        return self.made(Activation.parse(spec)(ready(x)), x.axes)
