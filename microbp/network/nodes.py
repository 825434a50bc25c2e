"""Nodes of a graph, and the arithmetic of nodes. Layers are in layers.py."""

from __future__ import annotations

import inspect
import itertools
import math
import operator
from collections.abc import Callable, Sequence
from functools import partial, reduce
from numbers import Real
from types import EllipsisType
from typing import Any

from ..core.checks import flag, whole_number
from ..core.text import brief, call
from ..core.text import number as number_text

WIDTH_BITS = 31  # the backends store widths below 2^31
_numbers = itertools.count()


class Node:
    """A value in the graph: `width` numbers per row, or for each position of a row, if there are several (bp.Grid, bp.Sequence): `grid`.
    Calling a layer on a node creates a new node, and so does arithmetic:

    - `a + b`, `a - b`, `a * b` of nodes with the same width and positions, element by element, and `sum([a, b, c])`;
    - `a + 1`, `1 - a`, `2 * a`, `a / 2`, `-a` with a real, finite number (`a / 3` is `a * (1 / 3)`); `a ** 2`;
    - `a[:, 3:7]`, `a[:, -3:]`, `a[:, 5]`: some of its columns, always as a node of one or more columns. No copy is made.

    Nodes are numbered in the order of creation. A node may be used by any number of other nodes and in any number of networks.
    TypeError or ValueError: other operands, and division by a node. IndexError: columns that do not exist, and no columns.

    >>> x = bp.Input(4)
    >>> gate, value = x[:, :2], 1 - x[:, 2:] / 2
    >>> bp.Network(x, gate * value, dtype="float64").predict([2.0, 3.0, 1.0, 4.0])
    array([ 1., -3.])
    """

    __array_ufunc__ = None  # makes ndarray + node an error instead of an array of nodes
    __iter__ = None  # without it, Python would iterate by node[0], node[1], ...

    def __init__(
        self, operation: str, operands: tuple[Node, ...], width: int, layer: Layer | None = None, grid: tuple[int, ...] = ()
    ) -> None:
        self.operation = operation
        self.operands = operands
        self.width = width
        self.layer = layer
        self.reverse = False  # whether a recurrent node goes from the last position to the first
        self.grid = grid  # the positions of a row: () for one, (length,), (height, width)
        self.number = next(_numbers)

    @property
    def positions(self) -> int:
        """How many positions a row has."""
        return math.prod(self.grid)

    def __add__(self, other: Node | float) -> Node:
        return add(self, other) if isinstance(other, Node) else _affine(self, other, lambda number: (1.0, number))

    __radd__ = __add__

    def __sub__(self, other: Node | float) -> Node:
        if isinstance(other, Node):
            return _elementwise("subtract", self, other)
        return _affine(self, other, lambda number: (1.0, -number))

    def __rsub__(self, other: float) -> Node:
        return _affine(self, other, lambda number: (-1.0, number))

    def __mul__(self, other: Node | float) -> Node:
        return multiply(self, other) if isinstance(other, Node) else _affine(self, other, lambda number: (number, 0.0))

    __rmul__ = __mul__

    def __truediv__(self, other: float) -> Node:
        if isinstance(other, Node):
            raise TypeError("a node cannot be divided by a node; divide it by a number, or multiply nodes: a * b")
        return _affine(self, other, lambda number: (1 / number, 0.0))

    def __rtruediv__(self, other: float) -> Node:
        raise TypeError("a number cannot be divided by a node; divide the node by a number, or multiply: 0.5 * a")

    def __neg__(self) -> Node:
        return self * -1.0

    def __pow__(self, exponent: int) -> Node:
        if isinstance(exponent, Real) and exponent == 2:
            return _Function("square")(self)
        raise TypeError(f"a node has only the power a ** 2, not {brief(exponent)}; for others, multiply: a * a * a")

    def __getitem__(self, key: tuple[slice | EllipsisType, slice | int]) -> Node:
        rows, columns = key if isinstance(key, tuple) and len(key) == 2 else (None, None)
        if rows is not Ellipsis and rows != slice(None):
            raise TypeError(f"node[{_written(key)}]: write node[:, 3:7] for the columns 3 to 6, or node[:, 3] for one column")
        return _Columns(*_range(columns, self.width))(self)

    def __repr__(self) -> str:
        operands = f" of {', '.join(str(node.number) for node in self.operands)}" if self.operands else ""
        positions = f"{' x '.join(map(str, self.grid))} positions, " if self.grid else ""
        return f"<node {self.number}: {self.operation}{operands}, {positions}width {self.width}>"


class Input(Node):
    """An input of `features` numbers per row.

    >>> x = bp.Input(64)
    >>> x.width
    64
    """

    def __init__(self, features: int) -> None:
        super().__init__("input", (), whole_number(features, "Input: features", bits=WIDTH_BITS))


class Ids(Node):
    """An input of whole numbers, such as numbers of users, words or cities, which only bp.Embedding reads.

    columns: how many ids a row has. X: shape (rows, columns) of any integer dtype; for one column, (rows,) too.
    levels: every id is from 0 to levels - 1. Another id is an error that names its row and column, and so are floats.
    hash: if True, the ids are any whole numbers of 64 bits, and fall into `levels` buckets: those of bp.hash_features(ids, levels).

    >>> users = bp.Ids(1, levels=1000)
    >>> net = bp.Network(users, bp.Embedding(1000, 8)(users), seed=0)
    >>> net.predict([3, 999, 3]).shape
    (3, 8)
    """

    def __init__(self, columns: int, levels: int, *, hash: bool = False) -> None:
        super().__init__("ids", (), whole_number(columns, "Ids: columns", bits=WIDTH_BITS))
        self.levels = whole_number(levels, "Ids: levels", bits=WIDTH_BITS)
        self.hash = flag("Ids: hash", hash)


class Layer:
    """An operation on a node. In graph text it is written as its `operation`, followed by its settings (`text`)."""

    operation: str

    @property
    def text(self) -> str:
        """The settings of this layer as graph text."""
        raise NotImplementedError

    def __call__(self, node: Node) -> Node:
        """A new node: the layer applied to `node`."""
        check_node(node, type(self).__name__)
        return Node(self.operation, (node,), self._width_for(node), self, self._grid_for(node))

    def _width_for(self, node: Node) -> int:
        """The width of the layer applied to `node`."""
        return node.width

    def _grid_for(self, node: Node) -> tuple[int, ...]:
        """The positions of the layer applied to `node`."""
        return node.grid

    def __repr__(self) -> str:
        """The constructor's arguments that differ from their defaults."""
        parameters = inspect.signature(type(self)).parameters.values()
        given = [(one, getattr(self, one.name)) for one in parameters if hasattr(self, one.name)]
        shown = [repr(value) if one.default is one.empty else f"{one.name}={value!r}" for one, value in given if value != one.default]
        return f"{type(self).__name__}({', '.join(shown)})"


class _Function(Layer):
    """An activation, of which the graph text is given. (bp.Activation is in layers.py, which imports this file.)"""

    operation = "activation"

    def __init__(self, spec: str) -> None:
        self._spec = spec

    @property
    def text(self) -> str:
        return self._spec


class _Columns(Layer):
    """The columns `first` to `end` - 1 of a node."""

    operation = "slice"

    def __init__(self, first: int, end: int) -> None:
        self.first, self.end = first, end

    @property
    def text(self) -> str:
        return f"from={self.first} to={self.end}"

    def _width_for(self, node: Node) -> int:
        return self.end - self.first


def _affine(node: Node, other: float, terms: Callable[[float], tuple[float, float]]) -> Node:
    """factor * node + addend, with the two that `terms` gives for the number `other`."""
    if not isinstance(other, Real) or isinstance(other, bool):
        raise TypeError(f"a node can be combined with a node or a real number, not {brief(other)}")
    try:
        number = float(other)
        factor, addend = terms(number)
    except ZeroDivisionError:
        raise ZeroDivisionError("a node cannot be divided by 0") from None
    except OverflowError:
        number = factor = addend = math.inf
    if not all(map(math.isfinite, (number, factor, addend))):
        raise ValueError(f"nodes can be combined with finite numbers only, not {brief(other)}")
    if (factor, addend) == (1, 0):
        return node
    return _Function(call("affine", {"factor": number_text(factor), "addend": number_text(addend)}))(node)


def _range(columns: Any, width: int) -> tuple[int, int]:
    """The first column of a slice or a single column, and the one after its last, counted from 0."""
    if not isinstance(columns, slice):
        first = _column(columns, 0, width - 1, width)
        return first, first + 1
    if columns.step not in (None, 1):
        raise IndexError(f"node[:, {_written(columns)}]: the step must be 1; join other columns by bp.concat([a[:, 0], a[:, 2]])")
    first = 0 if columns.start is None else _column(columns.start, 0, width, width)
    end = width if columns.stop is None else _column(columns.stop, 0, width, width)
    if first >= end:
        raise IndexError(f"node[:, {_written(columns)}] has no columns; the node has the columns 0 to {width - 1}")
    return first, end


def _column(value: Any, least: int, most: int, width: int) -> int:
    """The number of a column from `least` to `most`; negative numbers count from the end."""
    try:
        column = operator.index(value)
    except TypeError:
        column = None
    if column is None or isinstance(value, bool):
        raise TypeError(f"the column of a node must be a whole number, not {brief(value)}; join columns by bp.concat([a[:, 0], a[:, 2]])")
    found = column + width if column < 0 else column
    if not least <= found <= most:
        raise IndexError(f"there is no column {column}: the node has the columns 0 to {width - 1}")
    return found


def _written(key: Any) -> str:
    """An index as in a program."""
    if isinstance(key, tuple):
        return ", ".join(map(_written, key))
    if isinstance(key, slice):
        ends = ["" if end is None else brief(end) for end in (key.start, key.stop, key.step)]
        return ":".join(ends[: 2 if key.step is None else 3])
    return "..." if key is Ellipsis else brief(key)


def check_node(value: Any, what: str) -> Node:
    """The value, if it is a node; TypeError otherwise."""
    if not isinstance(value, Node):
        raise TypeError(f"{what} needs a node such as bp.Input(64), not {type(value).__name__}")
    if isinstance(value, Ids):
        raise TypeError(f"{what} cannot read ids; use bp.Embedding({value.levels}, units)(ids)")
    return value


def _elementwise(operation: str, *operands: Node) -> Node:
    first = check_node(operands[0], operation)
    for other in operands[1:]:
        if check_node(other, operation).width != first.width:
            widths = f"{first.width} and {other.width} ({first!r}, {other!r})"
            raise ValueError(f"{operation}: all operands must have the same width, not {widths}")
    return Node(operation, operands, first.width, grid=_common_grid(operation, operands))


def _common_grid(operation: str, nodes: Sequence[Node]) -> tuple[int, ...]:
    """The positions of all of these nodes."""
    for other in nodes[1:]:
        if [n for n in other.grid if n != 1] != [n for n in nodes[0].grid if n != 1]:
            advice = _repeat_advice(nodes[0].grid or other.grid) if 1 in (nodes[0].positions, other.positions) else ""
            raise ValueError(f"{operation}: all operands must have the same positions, not {nodes[0]!r} and {other!r}{advice}")
    return max((node.grid for node in nodes), key=len)


def _repeat_advice(grid: tuple[int, ...]) -> str:
    """How a node of one position gets these."""
    repeated = f"bp.Repeat({math.prod(grid)})(node)"
    if len(grid) > 1:
        repeated = f"bp.Unflatten({', '.join(map(str, grid))})({repeated})"
    return f"; to use a node of one position at each of them, write {repeated}"


def add(a: Node, b: Node, *more: Node) -> Node:
    """The sum of two or more nodes of equal width, element by element; also written `a + b`. They are added in this order.

    >>> x = bp.Input(2)
    >>> bp.Network(x, bp.add(x, x, x)).predict([3.0, 4.0])
    array([ 9., 12.], dtype=float32)
    """
    return _elementwise("add", a, b, *more)


def multiply(a: Node, b: Node, *more: Node) -> Node:
    """The product of two or more nodes of equal width, element by element; also written `a * b`. They are multiplied in this order, and
    each product is a node: bp.multiply(a, b, c) is `a * b * c`.

    >>> x = bp.Input(2)
    >>> bp.Network(x, bp.multiply(x, x, x)).predict([3.0, 4.0])
    array([27., 64.], dtype=float32)
    """
    return reduce(partial(_elementwise, "multiply"), (b, *more), a)


def concat(nodes: Node | Sequence[Node], *more: Node) -> Node:
    """The columns of the nodes side by side, in the given order. bp.concat(a, b) is the same as bp.concat([a, b]).

    >>> x, z = bp.Input(2), bp.Input(1)
    >>> bp.Network([x, z], bp.concat([z, x])).predict([[3.0, 4.0], [5.0]])
    array([5., 3., 4.], dtype=float32)
    """
    first = [nodes] if isinstance(nodes, Node) else nodes
    if not isinstance(first, Sequence) or not first:
        raise TypeError(f"concat needs a list of nodes, such as [a, b], not {brief(nodes)}")
    operands = tuple(check_node(node, "concat") for node in (*first, *more))
    return Node("concat", operands, sum(node.width for node in operands), grid=_common_grid("concat", operands))


def node_list(value: Node | Sequence[Node], what: str) -> list[Node]:
    """The nodes of an argument of Network."""
    if not isinstance(value, Node | list | tuple):
        raise TypeError(f"Network: {what} must be a node or a list of nodes, not {brief(value)}")
    return [value] if isinstance(value, Node) else list(value)
