"""The forward pass of each kind of node."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from .autodiff import Matrix, column_sum, concat, cut, row_sum, sqrt, where
from .graph import Graph, Layer, Node, Norm
from .random import Place, matrix_draws
from .spec import Spec

_DROPOUT, _NOISE = 3, 4  # purposes of random numbers
Tensors = dict[tuple[str, str], Matrix]  # by layer and name


@dataclass(frozen=True)
class Batch:
    """The statistics of a batch_norm in training: the mean and the biased variance of each column."""

    layer: Norm
    rows: int
    mean: list[float]
    variance: list[float]


@dataclass
class Run:
    """One forward pass: the parameters and running statistics that it reads; the place of its random numbers in training (None: inference);
    the factor of all dropout rates; whether batch_norm always uses its running statistics; and the statistics of its batch_norm nodes."""

    tensors: Tensors
    training: Place | None
    dropout: float
    dtype: str
    fixed: bool = False
    batches: list[Batch] = field(default_factory=list)

    def values(self, graph: Graph, inputs: Sequence[Matrix]) -> list[Matrix]:
        """The values of all nodes, in order."""
        waiting = iter(inputs)
        values: list[Matrix] = []
        for number, node in enumerate(graph.nodes):
            operands = [values[operand] for operand in node.operands]
            values.append(next(waiting) if node.is_input else getattr(self, f"_{node.kind}")(node, number, *operands))
        return values

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
        drawn = matrix_draws(self.training, _DROPOUT, number, x.rows, x.cols, False, self.dtype)
        return where([u < rate for u in drawn], 0.0, x * (1 / (1 - rate)))

    def _noise(self, node: Node, number: int, x: Matrix) -> Matrix:
        if self.training is None:
            return x
        drawn = matrix_draws(self.training, _NOISE, number, x.rows, x.cols, True, self.dtype)
        return x + Matrix(x.rows, x.cols, [node.settings["std"] * n for n in drawn])

    def _layer_norm(self, node: Node, number: int, x: Matrix) -> Matrix:
        """Normalizes with the statistics of each row (Ba, Kiros & Hinton 2016)."""
        centred = x - row_sum(x) * (1 / x.cols)
        return self._normalized(node.layer, centred, row_sum(centred * centred) * (1 / x.cols))

    def _batch_norm(self, node: Node, number: int, x: Matrix) -> Matrix:
        """Normalizes with the statistics of each column (Ioffe & Szegedy 2015); in inference, or if frozen, with the running statistics."""
        layer = node.layer
        if self.training is None or self.fixed or layer.frozen:
            return self._normalized(layer, x - self.tensors[layer.name, "running_mean"], self.tensors[layer.name, "running_var"])
        mean = column_sum(x) * (1 / x.rows)
        centred = x - mean
        variance = column_sum(centred * centred) * (1 / x.rows)
        self.batches.append(Batch(layer, x.rows, mean.data, variance.data))
        return self._normalized(layer, centred, variance)

    def _scale(self, node: Node, number: int, x: Matrix) -> Matrix:
        layer = node.layer
        y = x * self.tensors[layer.name, "weight"] if layer.gain else x
        return y + self.tensors[layer.name, "bias"] if layer.bias else y

    def _standardize(self, node: Node, number: int, x: Matrix) -> Matrix:
        return (x - self.tensors[node.layer.name, "mean"]) / self.tensors[node.layer.name, "std"]

    def _normalized(self, layer: Layer | Norm, centred: Matrix, variance: Matrix) -> Matrix:
        normal = centred / sqrt(variance + layer.settings["eps"])
        return normal * self.tensors[layer.name, "weight"] + self.tensors[layer.name, "bias"]


def _activate(spec: Spec, z: Matrix) -> Matrix:
    return spec.entry.y(z, **spec.values)
