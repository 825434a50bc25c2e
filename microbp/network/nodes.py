"""Nodes of a graph, and functions that add, multiply and concatenate them. Layers are in layers.py."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Sequence
from typing import Any, ClassVar

from ..core.checks import whole_number
from ..core.text import brief

WIDTH_BITS = 31  # the backends store widths below 2^31
_numbers = itertools.count()


class Node:
    """A value in the graph: `width` numbers per row. Calling a layer on a node creates a new node, and so do `+` and `*`.

    Nodes are numbered in the order of creation. A node may be used by any number of other nodes and in any number of networks.

    >>> x = bp.Input(4)
    >>> h = bp.Dense(4, activation="relu")(x)
    >>> bp.Network(x, h * h + x).predict(np.zeros((5, 4))).shape
    (5, 4)
    """

    __array_ufunc__ = None  # makes ndarray + node an error instead of an array of nodes

    def __init__(self, operation: str, operands: tuple[Node, ...], width: int, layer: Layer | None = None) -> None:
        self.operation = operation
        self.operands = operands
        self.width = width
        self.layer = layer
        self.number = next(_numbers)

    def __add__(self, other: Node) -> Node:
        return add(self, other) if isinstance(other, Node) else NotImplemented

    def __mul__(self, other: Node) -> Node:
        return multiply(self, other) if isinstance(other, Node) else NotImplemented

    def __repr__(self) -> str:
        operands = f" of {', '.join(str(node.number) for node in self.operands)}" if self.operands else ""
        return f"<node {self.number}: {self.operation}{operands}, width {self.width}>"


class Input(Node):
    """An input of `features` numbers per row.

    >>> x = bp.Input(64)
    >>> x.width
    64
    """

    def __init__(self, features: int) -> None:
        super().__init__("input", (), whole_number(features, "Input: features", bits=WIDTH_BITS))


class Layer:
    """An operation on a node. In graph text it is written as its `operation`, followed by its settings (`text`)."""

    operation: ClassVar[str]

    @property
    def text(self) -> str:
        """The settings of this layer as graph text."""
        raise NotImplementedError

    def __call__(self, node: Node) -> Node:
        """A new node: the layer applied to `node`."""
        return Node(self.operation, (check_node(node, type(self).__name__),), self._width_for(node), self)

    def _width_for(self, node: Node) -> int:
        """The width of the layer applied to `node`."""
        return node.width

    def __repr__(self) -> str:
        """The constructor's arguments that differ from their defaults."""
        parameters = inspect.signature(type(self)).parameters.values()
        given = [(one, getattr(self, one.name)) for one in parameters if hasattr(self, one.name)]
        shown = [repr(value) if one.default is one.empty else f"{one.name}={value!r}" for one, value in given if value != one.default]
        return f"{type(self).__name__}({', '.join(shown)})"


def check_node(value: Any, what: str) -> Node:
    """The value, if it is a node; TypeError otherwise."""
    if not isinstance(value, Node):
        raise TypeError(f"{what} needs a node such as bp.Input(64), not {type(value).__name__}")
    return value


def _elementwise(operation: str, a: Node, b: Node) -> Node:
    if check_node(a, operation).width != check_node(b, operation).width:
        raise ValueError(f"{operation}: both operands must have the same width, not {a.width} and {b.width} ({a!r}, {b!r})")
    return Node(operation, (a, b), a.width)


def add(a: Node, b: Node) -> Node:
    """The sum of two nodes of equal width, element by element; also written `a + b`.

    >>> x = bp.Input(2)
    >>> bp.Network(x, bp.add(x, x)).predict([3.0, 4.0])
    array([6., 8.], dtype=float32)
    """
    return _elementwise("add", a, b)


def multiply(a: Node, b: Node) -> Node:
    """The product of two nodes of equal width, element by element; also written `a * b`.

    >>> x = bp.Input(2)
    >>> bp.Network(x, bp.multiply(x, x)).predict([3.0, 4.0])
    array([ 9., 16.], dtype=float32)
    """
    return _elementwise("multiply", a, b)


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
    return Node("concat", operands, sum(node.width for node in operands))


def node_list(value: Node | Sequence[Node], what: str) -> list[Node]:
    """The nodes of an argument of Network."""
    if not isinstance(value, Node | list | tuple):
        raise TypeError(f"Network: {what} must be a node or a list of nodes, not {brief(value)}")
    return [value] if isinstance(value, Node) else list(value)
