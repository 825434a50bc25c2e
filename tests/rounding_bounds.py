"""Bounds of rounding errors: a forward and a backward pass in NumPy, which also compute the scale of each number's error.

First-order error analysis. An error scale E means that the computed number has an error of about eps x E. The error of a sum of products is
eps times the sum of |products|, and an operation passes errors on by its derivatives:

    z = x W + b      E_z = |x| |W| + |b| + E_x |W|
    y = f(z)         E_y = |y| + |f'| E_z
    dz = dy f'(z)    E_dz = |f'| E_dy + |dy| (bound of |f'| + bound of |f''| E_z)

This includes cancellation, which makes numbers small but not their errors. It does not include the number n of terms in a sum: n
independent errors add up to about sqrt(n), which the factor DIFFERENTIAL of the tests covers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import reduce
from itertools import pairwise
from operator import add
from typing import Any

import cases
import numpy as np

import microbp as bp
from microbp.network.records import LayerInfo, NodeInfo
from microbp.reference.autodiff import Matrix, gradients
from microbp.reference.formulas import row_losses
from microbp.reference.positions.window import Window
from microbp.reference.random import Place, matrix_draws
from microbp.reference.spec import Spec

Array = np.ndarray


@dataclass
class Rounded:
    """Numbers, and the scales of their errors."""

    value: Array
    error: Array

    def __add__(self, other: Rounded) -> Rounded:
        value = self.value + other.value
        return Rounded(value, self.error + other.error + abs(value))

    def __mul__(self, other: Rounded) -> Rounded:
        value = self.value * other.value
        return Rounded(value, self.error * abs(other.value) + abs(self.value) * other.error + abs(value))

    def __matmul__(self, other: Rounded) -> Rounded:
        a, b = abs(self.value), abs(other.value)
        return Rounded(self.value @ other.value, a @ b + self.error @ b + a @ other.error)

    @property
    def T(self) -> Rounded:  # noqa: N802
        return Rounded(self.value.T, self.error.T)

    def mean(self, axis: int) -> Rounded:
        """The mean over rows (0) or columns (1); the axis is kept, with length 1."""
        size = abs(self.value).mean(axis=axis, keepdims=True)
        return Rounded(self.value.mean(axis=axis, keepdims=True), self.error.mean(axis=axis, keepdims=True) + size)

    def inverse_root(self, eps: float) -> Rounded:
        """1 / sqrt(self + eps)."""
        value = 1 / np.sqrt(self.value + eps)
        return Rounded(value, value**3 / 2 * (self.error + self.value + eps) + value)

    def columns(self, first: int, last: int) -> Rounded:
        return Rounded(self.value[:, first:last], self.error[:, first:last])


def exact(value: Array) -> Rounded:
    return Rounded(np.asarray(value, dtype=np.float64), np.zeros(np.shape(value)))


def minus(a: Rounded) -> Rounded:
    return Rounded(-a.value, a.error)


def _matrix(value: Array, wanted: bool = True) -> Matrix:
    return Matrix(*value.shape, value.ravel().tolist(), wanted=wanted)


def _apply(spec: str, z: Rounded) -> tuple[Rounded, Array]:
    """y, and f'(z), by the reference's formula."""
    parsed, argument = Spec.parse("activation", spec), _matrix(z.value)
    y = parsed.entry.y(argument, **parsed.values)
    (slope,) = gradients([(y, [1.0] * z.value.size)], [argument])
    value, slope = np.reshape(y.data, z.value.shape), np.reshape(slope, z.value.shape)
    return Rounded(value, abs(value) + abs(slope) * z.error), slope


MOVED = ("grid", "window", "pool", "repeat", "last")


@dataclass
class Moved:
    """A node whose numbers are means of its operand's: index (rows, columns, terms) are their places, -1 is a 0. lead: of a maximum, how
    far it is above the next number."""

    index: Array
    lead: Array | None = None

    def forward(self, x: Rounded) -> Rounded:
        value, error = (np.append(part.ravel(), 0.0)[self.index].mean(axis=2) for part in (x.value, x.error))
        return Rounded(value, error + (abs(value) if self.index.shape[2] > 1 else 0))

    def backward(self, dy: Rounded, x: Rounded) -> Rounded:
        parts = []
        for part in (dy.value, dy.error + abs(dy.value)):
            whole = np.zeros(x.value.size + 1)
            np.add.at(whole, self.index, part[:, :, None] / self.index.shape[2])
            parts.append(whole[:-1].reshape(x.value.shape))
        return Rounded(*parts)


@dataclass
class Cell:
    """A recurrent node. weight: the rows of x, then those of h. bias: None: it has none. kept, by position: x, h, c, gates."""

    kind: str
    positions: int
    reverse: bool
    weight: Any
    bias: Any
    kept: list[tuple[int, Any, Any, Any, list[Any]]] = field(default_factory=list)  # position, x, h, c, gates

    def forward(self, x, state=None):
        """The h of all positions, in the order of the rows of x."""
        n = self.weight.value.shape[0] - x.value.shape[1]
        rows, self.inputs, self.units = len(x.value) // self.positions, x.value.shape[1], n
        self.w, self.u = _rows(self.weight, slice(0, self.inputs)), _rows(self.weight, slice(self.inputs, None))
        zeros = exact(np.zeros((rows, n)))
        h, c = (zeros, zeros) if state is None else (state.columns(0, n), state.columns(n, 2 * n))
        y = exact(np.zeros((len(x.value), n)))
        for t in reversed(range(self.positions)) if self.reverse else range(self.positions):
            at = _rows(x, slice(t, None, self.positions))
            of_x, of_h = at @ self.w, h @ self.u
            if self.bias is not None:
                of_x = of_x + _columns(self.bias, 0, of_x.value.shape[1])
            h_before, c_before = h, c
            h, c, gates = self._step(of_x, of_h, h, c)
            self.kept.append((t, at, h_before, c_before, gates))
            y.value[t :: self.positions], y.error[t :: self.positions] = h.value, h.error
        return y

    def _step(self, of_x, of_h, h, c):
        n = self.units
        xs, hs = ([one.columns(i, i + n) for i in range(0, one.value.shape[1], n)] for one in (of_x, of_h))
        if self.kind == "tanh":
            y = _apply("tanh", xs[0] + hs[0])[0]
            return y, c, [y]
        if self.kind == "gru":
            r, z = (_apply("sigmoid", xs[i] + hs[i])[0] for i in range(2))
            hidden = hs[2] if self.bias is None else hs[2] + _columns(self.bias, 3 * n, 4 * n)
            new = _apply("tanh", xs[2] + r * hidden)[0]
            return self._rest(z) * new + z * h, c, [r, z, new, hidden]
        i, f, g, o = (_apply(name, a + b)[0] for name, a, b in zip(("sigmoid", "sigmoid", "tanh", "sigmoid"), xs, hs, strict=True))
        c = f * c + i * g
        out = _apply("tanh", c)[0]
        return o * out, c, [i, f, g, o, out]

    def _rest(self, y):
        """1 - y."""
        return exact(np.ones(1)) + y * exact(-np.ones(1))

    def _to_sigmoid(self, dy, y):
        return dy * (y * self._rest(y))

    def _to_tanh(self, dy, y):
        return dy * self._rest(y * y)

    def backward(self, dy):
        """The gradients of x, of the state, of the weight and of the bias."""
        n, rows = self.units, len(dy.value) // self.positions
        dx = exact(np.zeros((len(dy.value), self.inputs)))
        dh, dc, dw, db = (exact(np.zeros(shape)) for shape in ((rows, n), (rows, n), self.weight.value.shape, 1))
        for t, x, h, c, gates in reversed(self.kept):
            d = _rows(dy, slice(t, None, self.positions)) + dh
            of_x, of_h, dh, dc = self._back(d, dc, h, c, gates)
            dx.value[t :: self.positions], dx.error[t :: self.positions] = (part := of_x @ self.w.T).value, part.error
            dh = dh + of_h @ self.u.T
            dw = dw + _stacked(x.T @ of_x, h.T @ of_h)
            parts = [of_x, of_h.columns(2 * n, 3 * n)] if self.kind == "gru" else [of_x]
            sums = [type(dw)(part.value.sum(axis=0), (abs(part.value) + part.error).sum(axis=0)) for part in parts]
            db = db + type(dw)(np.concatenate([one.value for one in sums]), np.concatenate([one.error for one in sums]))
        return dx, _beside(dh, dc) if self.kind == "lstm" else dh, dw, db

    def _back(self, d, dc, h, c, gates):
        """The gradients of the products of x and of h, and those of the states before, but for the products."""
        zeros = exact(np.zeros(h.value.shape))
        if self.kind == "tanh":
            dz = self._to_tanh(d, gates[0])
            return dz, dz, zeros, dc
        if self.kind == "gru":
            r, z, new, hidden = gates
            dn = self._to_tanh(d * self._rest(z), new)
            dr, dz = self._to_sigmoid(dn * hidden, r), self._to_sigmoid(d * (h + new * exact(-np.ones(1))), z)
            return _beside(dr, dz, dn), _beside(dr, dz, dn * r), d * z, dc
        i, f, g, o, out = gates
        dc = dc + self._to_tanh(d * o, out)
        parts = self._to_sigmoid(dc * g, i), self._to_sigmoid(dc * c, f), self._to_tanh(dc * i, g), self._to_sigmoid(d * out, o)
        return _beside(*parts), _beside(*parts), zeros, dc * f


def _rows(a, rows):
    return type(a)(a.value[rows], a.error[rows])


def _columns(a, first, last):
    return type(a)(a.value[first:last], a.error[first:last])


def _beside(*parts):
    return type(parts[0])(np.hstack([part.value for part in parts]), np.hstack([part.error for part in parts]))


def _stacked(*parts):
    return type(parts[0])(np.vstack([part.value for part in parts]), np.vstack([part.error for part in parts]))


class Passes:
    """The passes of one batch through a network: `values` and `z` by node, then `loss`, `grads` (flat) and `input_grads`. With a trainer,
    they are passes in training, with the random numbers of the trainer's next step."""

    def __init__(self, net: bp.Network, xs: list[Array], trainer: bp.Trainer | None = None) -> None:
        self.net = net
        self.place = Place(trainer.seed, trainer.steps, 0) if trainer else None
        self.masks: dict[int, Array] = {}
        self.moves: dict[int, Moved] = {}
        self.cells: dict[int, Cell] = {}
        self.norms: dict[int, tuple[Rounded, Rounded]] = {}  # xhat and 1 / sigma, by node
        self.running: dict[str, Rounded] = {}  # new running statistics, by name
        self.nodes, self.layers, self.outputs = net.nodes, {layer.name: layer for layer in net.layers}, net.outputs
        self.tensors = {name: exact(view.T if view.ndim == 2 else view) for name, view in net.tensors.items()}
        self.values: list[Rounded] = []
        self.z: dict[int, Rounded] = {}
        self.slope: dict[int, Array] = {}
        waiting = iter(xs)
        for node in self.nodes:
            operands = [self.values[i] for i in node.operands]
            self.values.append(exact(next(waiting)) if node.operation == "input" else self._forward(node, operands))

    def activation(self, node: NodeInfo) -> str:
        """The spec of a node's activation; "" if it has no activation."""
        return node.activation or ""

    def _forward(self, node: NodeInfo, operands: list[Rounded]) -> Rounded:
        if node.operation == "add":
            return reduce(add, operands)
        if node.operation == "subtract":
            return operands[0] + minus(operands[1])
        if node.operation in MOVED:
            self.moves[node.node] = self._move_of(node, operands[0])
            return self.moves[node.node].forward(operands[0])
        if node.operation == "recurrent":
            layer, bias = self.layers[node.layer], self.tensors.get(f"{node.layer}.bias")
            settings = layer.cell, int(np.prod(node.grid, dtype=int)), node.reverse, self.tensors[f"{node.layer}.weight"], bias
            self.cells[node.node] = Cell(*settings)
            return self.cells[node.node].forward(*operands)
        if node.operation == "slice":
            return operands[0].columns(*node.columns)
        if node.operation == "multiply":
            return operands[0] * operands[1]
        if node.operation == "concat":
            return Rounded(np.hstack([o.value for o in operands]), np.hstack([o.error for o in operands]))
        if node.operation in ("dropout", "noise"):
            return self._random(node, operands[0])
        if node.operation in ("batch_norm", "layer_norm"):
            return self._norm(node, operands[0])
        if node.operation == "scale":
            return self._scale(node, operands[0])
        if node.operation == "standardize":
            return (operands[0] + minus(self.tensors[f"{node.layer}.mean"])) * self._inverse_std(node)
        z = operands[0]
        if node.operation == "dense":
            z = z @ self.tensors[f"{node.layer}.weight"]
            if f"{node.layer}.bias" in self.tensors:
                bias = self.tensors[f"{node.layer}.bias"].value
                z = Rounded(z.value + bias, z.error + abs(bias))
        self.z[node.node] = z
        y, self.slope[node.node] = _apply(self.activation(node), z)
        return y

    def _move_of(self, node: NodeInfo, x: Rounded) -> Moved:
        """Where the numbers of a node that changes positions are from."""
        grid = self.nodes[node.operands[0]].grid
        grid, positions = (1, *grid)[-2:] if grid else (1, 1), int(np.prod(grid, dtype=int))
        places = np.arange(x.value.size).reshape(-1, positions, x.value.shape[1])
        if node.operation == "grid":
            return Moved(places.reshape(-1, node.width, 1))
        if node.operation == "last":
            return Moved(places[:, -1, :, None])
        if node.operation == "repeat":
            return Moved(np.repeat(places, node.grid[0], axis=1).reshape(-1, node.width, 1))
        under = np.array([[-1 if at is None else at for at in one] for one in Window(*node.window).under(grid)])
        index = np.where(under[:, :, None] < 0, -1, places[:, under])  # rows, places, positions under the window, columns
        if node.operation == "window":
            return Moved(index.reshape(-1, node.width, 1))
        index = np.moveaxis(index, 2, 3).reshape(-1, node.width, under.shape[1])
        if node.window.kind == "mean":
            return Moved(index)
        ordered = np.sort(x.value.ravel()[index], axis=2)
        lead = ordered[:, :, -1] - ordered[:, :, -2] if under.shape[1] > 1 else None
        return Moved(np.take_along_axis(index, x.value.ravel()[index].argmax(axis=2)[:, :, None], axis=2), lead)

    def _norm(self, node: NodeInfo, x: Rounded) -> Rounded:
        layer, axis = self.layers[node.layer], int(node.operation == "layer_norm")
        if axis == 0 and (self.place is None or layer.frozen):
            mean, variance = (self.tensors[f"{layer.name}.running_{name}"] for name in ("mean", "var"))
            centred = x + minus(mean)
        else:
            mean = x.mean(axis)
            centred = x + minus(mean)
            variance = (centred * centred).mean(axis)
            if axis == 0:
                self._move(layer, len(x.value), {"mean": mean, "var": variance})
        inverse = variance.inverse_root(layer.eps)
        self.norms[node.node] = (centred * inverse, inverse)
        return self.norms[node.node][0] * self.tensors[f"{layer.name}.weight"] + self.tensors[f"{layer.name}.bias"]

    def _scale(self, node: NodeInfo, x: Rounded) -> Rounded:
        layer = self.layers[node.layer]
        y = x * self.tensors[f"{layer.name}.weight"] if layer.gain else x
        return y + self.tensors[f"{layer.name}.bias"] if layer.bias else y

    def _inverse_std(self, node: NodeInfo) -> Rounded:
        return exact(1 / self.tensors[f"{node.layer}.std"].value)

    def _move(self, layer: LayerInfo, rows: int, batch: dict[str, Rounded]) -> None:
        """Computes the running statistics after the next update."""
        for name, factor in (("mean", 1), ("var", rows / (rows - 1))):
            old, new = self.running.get(f"{layer.name}.running_{name}", self.tensors[f"{layer.name}.running_{name}"]), batch[name]
            moved = exact([1 - layer.momentum]) * old + exact([layer.momentum * factor]) * Rounded(new.value[0], new.error[0])
            self.running[f"{layer.name}.running_{name}"] = moved

    def _random(self, node: NodeInfo, x: Rounded) -> Rounded:
        if self.place is None:
            return x
        amount, rows, cols = node.amount, *x.value.shape
        noise = node.operation == "noise"
        drawn = matrix_draws(self.place, 4 if noise else 3, node.node, rows, cols, noise, str(self.net.dtype))
        if noise:
            return x + exact(amount * np.reshape(drawn, (rows, cols))) * exact(np.ones(1))
        self.masks[node.node] = (np.reshape(drawn, (rows, cols)) >= amount) / (1 - amount)
        return x * exact(self.masks[node.node])

    # ---- backward ----

    def backward(self, losses: list[str], ys: list[Array], weight: Array, loss_weights: list[float]) -> None:
        """Fills loss, grads and input_grads."""
        self.loss = Rounded(np.zeros(()), np.zeros(()))
        self._deltas: dict[int, Rounded] = {}
        self._sums: dict[str, Rounded] = {}
        for output, spec, y, factor in zip(self.outputs, losses, ys, loss_weights, strict=True):
            self._reach(output.node, self._lose(self.values[output.node], spec, y, factor * weight / weight.sum()))
        for node in reversed(self.nodes):
            if node.node in self._deltas and node.operands:
                self._backward(node, self._deltas[node.node])
        for layer in self.layers.values():
            if layer.l1 or layer.l2:
                w = self.tensors[f"{layer.name}.weight"].value
                self._add(f"{layer.name}.weight", Rounded(layer.l1 * np.sign(w) + layer.l2 * w, 2 * (layer.l1 + layer.l2 * abs(w))))
        self.grads = self._flat()
        self.input_grads = [self._deltas.get(i.node, exact(np.zeros_like(self.values[i.node].value))) for i in self.net.inputs]

    def _lose(self, o: Rounded, spec: str, t: Array, share: Array) -> Rounded:
        """Adds an output's part to the loss; returns its gradient with respect to the output."""
        parsed, output = Spec.parse("loss", spec), _matrix(o.value)
        rows = row_losses(parsed.entry, output, _matrix(t, wanted=False), **parsed.values)
        (g,) = gradients([(rows, share.tolist())], [output])
        case, value = cases.LOSSES[parsed.name], np.dot(share, rows.data)
        share = share[:, None] / (o.value.shape[1] if parsed.entry.mean else 1)
        terms, slope = case.terms(o.value, t), case.slope_terms(o.value, t)
        self.loss += Rounded(value, (share * (terms + slope * o.error)).sum())
        return Rounded(np.reshape(g, o.value.shape), share * (slope + case.bend(o.value, t) * o.error.max(axis=1, keepdims=True)))

    def _reach(self, node: int, delta: Rounded) -> None:
        self._deltas[node] = self._deltas[node] + delta if node in self._deltas else delta

    def _backward(self, node: NodeInfo, dy: Rounded) -> None:
        operands = [self.values[i] for i in node.operands]
        if node.operation == "add":
            parts = [dy] * len(operands)
        elif node.operation == "subtract":
            parts = [dy, minus(dy)]
        elif node.operation in MOVED:
            parts = [self.moves[node.node].backward(dy, operands[0])]
        elif node.operation == "recurrent":
            *parts, weight, bias = self.cells[node.node].backward(dy)
            self._add(f"{node.layer}.weight", weight)
            self._add(f"{node.layer}.bias", bias)
            parts = parts[: len(operands)]
        elif node.operation == "slice":
            parts = [self._spread(dy, node.columns[0], operands[0].value.shape)]
        elif node.operation == "multiply":
            parts = [dy * operands[1], dy * operands[0]]
        elif node.operation == "concat":
            ends = np.cumsum([0, *(o.value.shape[1] for o in operands)])
            parts = [dy.columns(first, last) for first, last in pairwise(ends)]
        elif node.operation in ("batch_norm", "layer_norm"):
            parts = [self._backward_norm(node, dy)]
        elif node.operation == "scale":
            parts = [self._backward_scale(node, operands[0], dy)]
        elif node.operation == "standardize":
            parts = [dy * self._inverse_std(node)]
        elif node.operation in ("dropout", "noise"):
            parts = [dy * exact(self.masks[node.node]) if node.node in self.masks else dy]
        else:
            parts = [self._backward_activated(node, operands[0], dy)]
        for operand, part in zip(node.operands, parts, strict=True):
            self._reach(operand, part)

    def _spread(self, dy: Rounded, first: int, shape: tuple[int, int]) -> Rounded:
        """A slice's delta in the columns of its operand's delta, which is 0 elsewhere."""
        whole = exact(np.zeros(shape))
        part = whole.columns(first, first + dy.value.shape[1])
        part.value[:], part.error[:] = dy.value, dy.error
        return whole

    def _backward_activated(self, node: NodeInfo, x: Rounded, dy: Rounded) -> Rounded:
        case, slope = cases.ACTIVATIONS[self.activation(node).partition("(")[0]], abs(self.slope[node.node])
        steepest, bend = case.bounds(self.z[node.node].value)
        error = slope * dy.error + abs(dy.value) * (steepest + bend * self.z[node.node].error)
        dz = Rounded(dy.value * self.slope[node.node], error)
        if node.operation == "activation":
            return dz
        self._add(f"{node.layer}.weight", x.T @ dz)
        self._add(f"{node.layer}.bias", Rounded(dz.value.sum(axis=0), (abs(dz.value) + dz.error).sum(axis=0)))
        return dz @ self.tensors[f"{node.layer}.weight"].T

    def _backward_scale(self, node: NodeInfo, x: Rounded, dy: Rounded) -> Rounded:
        self._add_sums(node, dy * x, dy)
        return dy * self.tensors[f"{node.layer}.weight"] if self.layers[node.layer].gain else dy

    def _add_sums(self, node: NodeInfo, weight: Rounded, bias: Rounded) -> None:
        """Adds the sums of these terms over the rows to the gradients of the node's layer."""
        for name, terms in (("weight", weight), ("bias", bias)):
            self._add(f"{node.layer}.{name}", Rounded(terms.value.sum(axis=0), (abs(terms.value) + terms.error).sum(axis=0)))

    def _backward_norm(self, node: NodeInfo, dy: Rounded) -> Rounded:
        layer, axis = self.layers[node.layer], int(node.operation == "layer_norm")
        normal, inverse = self.norms[node.node]
        self._add_sums(node, dy * normal, dy)
        g = dy * self.tensors[f"{layer.name}.weight"]
        if axis == 0 and layer.frozen:
            return g * inverse
        return (g + minus(g.mean(axis)) + minus(normal * (g * normal).mean(axis))) * inverse

    def _add(self, tensor: str, part: Rounded) -> None:
        self._sums[tensor] = self._sums[tensor] + part if tensor in self._sums else part

    def _flat(self) -> Rounded:
        """The gradients in the order of the parameters, 0 for frozen layers."""
        flat = exact(np.zeros(len(self.net.params)))
        for layer, name, at, rows, cols in self.net._core.tensors():
            part = self._sums.get(f"{layer}.{name}")
            if part is not None and not self.layers[layer].frozen:
                flat.value[at : at + rows * cols], flat.error[at : at + rows * cols] = part.value.ravel(), part.error.ravel()
        return flat

    # ---- kinks, near which two correct results may differ ----

    def clearance(self, losses: list[str], ys: list[Array]) -> float:
        """The distance to the nearest kink of an activation or a loss, as a multiple of the error scale there; inf without kinks."""
        return min((_ratio(distance, error) for distance, error in self._kinks(losses, ys)), default=np.inf)

    def nearest_kink(self, losses: list[str], ys: list[Array]) -> float:
        """The distance to the nearest kink, among numbers that have an error."""
        return min((float(distance[error > 0].min(initial=np.inf)) for distance, error in self._kinks(losses, ys)), default=np.inf)

    def _kinks(self, losses: list[str], ys: list[Array]) -> Iterator[tuple[Array, Array]]:
        """Distances to kinks, with the error scales of the numbers at these distances."""
        for node, z in self.z.items():
            for kink in cases.ACTIVATIONS[self.activation(self.nodes[node]).partition("(")[0]].kinks:
                yield abs(z.value - kink), z.error
        for node, move in self.moves.items():
            if move.lead is not None:
                yield move.lead, self.values[node].error + abs(self.values[node].value)
        for output, spec, y in zip(self.outputs, losses, ys, strict=True):
            o = self.values[output.node]
            distance = np.broadcast_to(cases.LOSSES[spec.partition("(")[0]].kink(o.value, y), o.value.shape)
            yield distance, o.error + 1 + abs(o.value)

    def largest(self) -> float:
        """The largest absolute value in the forward pass."""
        return max(float(abs(part.value).max()) for part in [*self.values, *self.z.values()])


def _ratio(distance: Array, error: Array) -> float:
    """The smallest distance / error; numbers without an error are ignored."""
    return float(np.divide(distance, error, out=np.full(np.shape(distance), np.inf), where=error > 0).min())
