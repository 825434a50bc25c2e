"""The forward pass of each kind of node."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from .autodiff import Matrix, column_sum, concat, cut, gather, over_ranks, reshaped, row_sum, sqrt, tanh, where
from .graph import Graph, Node
from .layers import Layer, Norm
from .positions.lengths import Valid, places_there, pools_all
from .positions.window import Pair
from .random import Place, matrix_draws
from .spec import Spec
from .states.state import Carry

_DROPOUT, _NOISE = 3, 4  # purposes of random numbers
Tensors = dict[tuple[str, str], Matrix]  # by layer and name


@dataclass(frozen=True)
class Batch:
    """The statistics of a batch_norm in training: the mean and the biased variance of each column, in the rows of all ranks."""

    layer: Norm
    rows: float
    mean: list[float]
    variance: list[float]


@dataclass
class Run:
    """One forward pass. A value has a row for each position of each row of the net. It keeps: the parameters and running statistics that it
    reads; the place of its random numbers in training (None: inference); the factor of all dropout rates; whether batch_norm always uses
    its running statistics; and the statistics of its batch_norm nodes."""

    tensors: Tensors
    training: Place | None
    dropout: float
    dtype: str
    fixed: bool = False
    carry: Carry | None = None  # the states that recurrent nodes go on from
    total: Callable[[list[float]], list[float]] = list  # the sums of numbers over all ranks
    batches: list[Batch] = field(default_factory=list)
    grids: list[Pair] = field(default_factory=list)  # of the operands of the present node
    valid: list[Valid] = field(default_factory=list)  # for each node how many positions of each row are there; None: all are

    def values(self, graph: Graph, inputs: Sequence[Matrix]) -> list[Matrix]:
        """The values of all nodes, in order."""
        waiting = iter(inputs)
        values: list[Matrix] = []
        for number, node in enumerate(graph.nodes):
            value = next(waiting) if node.is_input else self.value(graph, number, *(values[operand] for operand in node.operands))
            values.append(cut_rows(value, self.valid[number], node.positions))
        return values

    def value(self, graph: Graph, number: int, *operands: Matrix) -> Matrix:
        """The value of one node, from those of its operands."""
        node = graph.nodes[number]
        self.grids = [graph.nodes[operand].grid for operand in node.operands]
        return getattr(self, f"_{node.kind}")(node, number, *operands)

    def _dense(self, node: Node, number: int, x: Matrix) -> Matrix:
        layer = node.layer
        z = x @ self.tensors[layer.name, "weight"]
        if layer.bias:
            z = z + self.tensors[layer.name, "bias"]
        return _activate(layer.activation, z)

    def _embedding(self, node: Node, number: int, x: Matrix) -> Matrix:
        """The products of the table and, for each column of ids, a matrix with a 1 in the column that the id names."""
        table, layer = self.tensors[node.layer.name, "weight"], node.layer
        if not node.of_ids:
            return x @ table
        parts = []
        for j in range(x.cols):
            named = x.data[j :: x.cols]
            parts.append(Matrix(x.rows, layer.inputs, [float(level == id) for id in named for level in range(layer.inputs)]) @ table)
        return sum(parts[1:], parts[0]) if layer.sums else concat(parts)

    def _activation(self, node: Node, number: int, z: Matrix) -> Matrix:
        return _activate(node.activation, z)

    def _add(self, node: Node, number: int, first: Matrix, *more: Matrix) -> Matrix:
        return sum(more, first)

    def _subtract(self, node: Node, number: int, a: Matrix, b: Matrix) -> Matrix:
        return a - b

    def _multiply(self, node: Node, number: int, a: Matrix, b: Matrix) -> Matrix:
        return a * b

    def _concat(self, node: Node, number: int, *parts: Matrix) -> Matrix:
        return concat(parts)

    def _slice(self, node: Node, number: int, x: Matrix) -> Matrix:
        return cut(x, *node.columns)

    def _dropout(self, node: Node, number: int, x: Matrix) -> Matrix:
        """y = x mask / (1 - rate) (Srivastava et al. 2014); the mask is 1 where the uniform number is at least the rate."""
        if self.training is None:
            return x
        rate = node.settings["rate"] * self.dropout
        drawn = matrix_draws(self._place(node), _DROPOUT, number, x.rows, x.cols, False, self.dtype)
        return where([u < rate for u in drawn], 0.0, x * (1 / (1 - rate)))

    def _noise(self, node: Node, number: int, x: Matrix) -> Matrix:
        if self.training is None:
            return x
        drawn = matrix_draws(self._place(node), _NOISE, number, x.rows, x.cols, True, self.dtype)
        return x + Matrix(x.rows, x.cols, [node.settings["std"] * n for n in drawn])

    def _place(self, node: Node) -> Place:
        """The place of the node's random numbers: each position is a row."""
        assert self.training is not None
        return replace(self.training, first_row=self.training.first_row * node.positions)

    def _layer_norm(self, node: Node, number: int, x: Matrix) -> Matrix:
        """Normalizes with the statistics of each row (Ba, Kiros & Hinton 2016)."""
        centred = x - row_sum(x) * (1 / x.cols)
        return self._normalized(node.layer, centred, row_sum(centred * centred) * (1 / x.cols))

    def _batch_norm(self, node: Node, number: int, x: Matrix) -> Matrix:
        """Normalizes with the statistics of each column (Ioffe & Szegedy 2015); in inference, or if frozen, with the running statistics."""
        layer = node.layer
        if self.training is None or self.fixed or layer.frozen:
            return self._normalized(layer, x - self.tensors[layer.name, "running_mean"], self.tensors[layer.name, "running_var"])
        there = self._there(x, number, node.positions)
        (rows,) = self.total([float(there.rows)])
        mean = over_ranks(column_sum(there), self.total) * (1 / rows)
        centred = there - mean
        variance = over_ranks(column_sum(centred * centred), self.total) * (1 / rows)
        self.batches.append(Batch(layer, rows, mean.data, variance.data))
        return self._normalized(layer, x - mean, variance)

    def _there(self, x: Matrix, number: int, positions: int) -> Matrix:
        """The positions of all rows that are there."""
        places = [at for at in places_there(self.valid[number], x.rows // positions, positions) if at is not None]
        return gather(x, [j for at in places for j in _columns(at, x.cols)], len(places), x.cols)

    def _scale(self, node: Node, number: int, x: Matrix) -> Matrix:
        layer = node.layer
        y = x * self.tensors[layer.name, "weight"] if layer.gain else x
        return y + self.tensors[layer.name, "bias"] if layer.bias else y

    def _standardize(self, node: Node, number: int, x: Matrix) -> Matrix:
        return (x - self.tensors[node.layer.name, "mean"]) / self.tensors[node.layer.name, "std"]

    def _grid(self, node: Node, number: int, x: Matrix) -> Matrix:
        return reshaped(x, len(x.data) // node.width, node.width)

    def _window(self, node: Node, number: int, x: Matrix) -> Matrix:
        index = [j for under in self._under(node, x) for at in under for j in _columns(at, x.cols)]
        return gather(x, index, len(index) // node.width, node.width)

    def _pool(self, node: Node, number: int, x: Matrix) -> Matrix:
        places = self._under(node, x)
        valid = self.valid[node.operands[0]]
        if valid is not None and pools_all(node.window, self.grids[0][1]):
            return self._pool_there(node, x, [under[:length] for under, length in zip(places, valid)])
        if node.window.kind == "max":
            index = [max((at * x.cols + j for at in under), key=lambda i: _order(x.data[i])) for under in places for j in range(x.cols)]
            return gather(x, index, len(places), x.cols)
        each = [[under[i] for under in places] for i in range(node.window.count)]  # also without rows
        parts = [gather(x, [j for at in of for j in _columns(at, x.cols)], len(places), x.cols) for of in each]
        return sum(parts[1:], parts[0]) / float(node.window.count)

    def _pool_there(self, node: Node, x: Matrix, places: list[list[Any]]) -> Matrix:
        """The largest, or the mean, of the rows of x at these places; 0 if there are none."""
        if node.window.kind == "max":
            index = [
                max((at * x.cols + j for at in of), key=lambda i: _order(x.data[i]), default=None) for of in places for j in range(x.cols)
            ]
            return gather(x, index, len(places), x.cols)
        most = max(map(len, places), default=0) or 1
        padded = [of + [None] * (most - len(of)) for of in places]
        parts = [gather(x, [j for of in padded for j in _columns(of[k], x.cols)], len(places), x.cols) for k in range(most)]
        counts = Matrix(len(places), x.cols, [float(len(of) or 1) for of in places for _ in range(x.cols)])
        return sum(parts[1:], parts[0]) / counts

    def _under(self, node: Node, x: Matrix) -> list[list[Any]]:
        """The rows of x that are under each place of a window, for all rows of the net; None: outside."""
        (grid,) = self.grids
        rows = range(0, x.rows, grid[0] * grid[1])
        return [[None if at is None else row + at for at in under] for row in rows for under in node.window.under(grid)]

    def _repeat(self, node: Node, number: int, x: Matrix) -> Matrix:
        rows = [row for row in range(x.rows) for _ in range(node.positions)]
        return gather(x, [j for row in rows for j in _columns(row, x.cols)], len(rows), x.cols)

    def _last(self, node: Node, number: int, x: Matrix) -> Matrix:
        ((height, width),) = self.grids
        valid = self.valid[node.operands[0]] or [height * width] * (x.rows // (height * width))
        rows = [r * height * width + length - 1 if length else None for r, length in enumerate(valid)]
        return gather(x, [j for row in rows for j in _columns(row, x.cols)], len(rows), x.cols)

    def _recurrent(self, node: Node, number: int, x: Matrix, state: Matrix | None = None) -> Matrix:
        """Position by position, from the last to the first if the node is reverse. A row whose position is not there keeps its state."""
        valid = self.valid[number]
        layer, rows, n = node.layer, x.rows // node.positions, node.width
        weight = self.tensors[layer.name, "weight"]
        bias = self.tensors[layer.name, "bias"] if layer.bias else Matrix(1, layer.biases, [0.0] * layer.biases)
        w, u = (
            gather(weight, range(a * weight.cols, b * weight.cols), b - a, weight.cols) for a, b in ((0, x.cols), (x.cols, weight.rows))
        )
        carried = self.carry.before(number) if self.carry else None
        state = state or Matrix(rows, layer.state, carried or [0.0] * (rows * layer.state))
        h, c = cut(state, 0, n), cut(state, n, 2 * n) if layer.cell == "lstm" else None
        found: dict[int, Matrix] = {}
        for t in reversed(range(node.positions)) if node.reverse else range(node.positions):
            at = gather(x, [j for row in range(t, x.rows, node.positions) for j in _columns(row, x.cols)], rows, x.cols)
            next_h, next_c = _cell(layer.cell, at @ w + cut(bias, 0, weight.cols), h @ u, h, c, cut(bias, weight.cols, layer.biases))
            there = [valid is None or t < valid[row] for row in range(rows)]
            h, c = _chosen(there, next_h, h), c and _chosen(there, next_c, c)
            found[t] = h
        if self.carry:
            self.carry.leave(number, (concat([h, c]) if c else h).data)
        return reshaped(concat([found[t] for t in range(node.positions)]), x.rows, n)

    def _normalized(self, layer: Layer | Norm, centred: Matrix, variance: Matrix) -> Matrix:
        normal = centred / sqrt(variance + layer.settings["eps"])
        return normal * self.tensors[layer.name, "weight"] + self.tensors[layer.name, "bias"]


def cut_rows(values: Matrix, valid: Valid, positions: int) -> Matrix:
    """The values of a node, with 0 where positions are not there."""
    if valid is None:
        return values
    places = places_there(valid, len(valid), positions)
    cols = len(values.data) // (len(places) or 1)
    return reshaped(gather(values, [j for at in places for j in _columns(at, cols)], len(places), cols), values.rows, values.cols)


def _chosen(there: Sequence[bool], new: Matrix, old: Matrix) -> Matrix:
    """The rows of `new` that are there, the others of `old`."""
    each = [is_there for is_there in there for _ in range(new.cols)]
    return where(each, 0.0, old) + where([not one for one in each], 0.0, new)


def _cell(cell: str, x: Matrix, u: Matrix, h: Matrix, c: Matrix | None, bias: Matrix) -> tuple[Matrix, Matrix | None]:
    """The next states. x: the products of x with the weights of the gates, and the bias. u: those of h."""
    n = h.cols
    xs, us = ([cut(one, i, i + n) for i in range(0, one.cols, n)] for one in (x, u))
    if cell == "tanh":
        return tanh(x + u), None
    if cell == "gru":
        r, z = _sigmoid(xs[0] + us[0]), _sigmoid(xs[1] + us[1])
        new = tanh(xs[2] + r * (us[2] + bias))
        return (1.0 - z) * new + z * h, None
    assert c is not None
    i, f, g, o = (function(a + b) for function, a, b in zip((_sigmoid, _sigmoid, tanh, _sigmoid), xs, us))
    c = f * c + i * g
    return o * tanh(c), c


def _sigmoid(z: Matrix) -> Matrix:
    return _activate(Spec.parse("activation", "sigmoid"), z)


def _columns(row: int | None, cols: int) -> Sequence[int | None]:
    """The places of a row's elements. row None: each place is None."""
    return [None] * cols if row is None else range(row * cols, (row + 1) * cols)


def _order(value: float) -> tuple[bool, float]:
    """A key with which the largest number comes first, and NaN before it."""
    return (True, 0.0) if math.isnan(value) else (False, value)


def _activate(spec: Spec, z: Matrix) -> Matrix:
    return spec.entry.y(z, **spec.values)
