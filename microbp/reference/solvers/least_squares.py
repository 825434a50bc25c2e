"""The least-squares problem that a batch is, as the matrix Z of the derivatives of the raw outputs by the parameters, and H = F^T F, the
second derivatives of the loss by the raw outputs: J = F Z. Of a sum of squares J is the Jacobian of its residuals; else J^T J is the
generalized Gauss-Newton matrix (Schraudolph 2002)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from .curvature import CURVATURES, Curvature, Row

MATRIX_BYTES = 256 << 20


def check(name: str, losses: list[Any], loss_weights: list[float]) -> None:
    """ValueError for a loss that has no such F."""
    for i, (loss, weight) in enumerate(zip(losses, loss_weights)):
        gamma = loss.values.get("gamma", 0)
        has_gamma = loss.name in CURVATURES and any(gamma if isinstance(gamma, tuple) else [gamma])
        if weight and (has_gamma or loss.name not in CURVATURES):
            needs = f"{name} needs mse, half_sse, bce or cross_entropy, without gamma"
            raise ValueError(f"the loss of output {i} is {loss.name}{' with gamma' * has_gamma}, but {needs}; use another loss, or lbfgs")


def check_size(name: str, residuals: int, count: int) -> None:
    """MemoryError for matrices that are too large."""
    size = 8 * (count * count if residuals >= count else residuals * (count + residuals))
    if size > MATRIX_BYTES:
        needs = f"{name} needs matrices of {size} bytes for {count} parameters"
        raise MemoryError(f"{needs}, but at most {MATRIX_BYTES} are allowed; use lbfgs")


class LeastSquares:
    """A batch as a problem: the losses (specs) of the outputs, their weights, and what each is divided by. net: with `rows_apart` and
    `derivatives`, at whose parameters all is computed."""

    def __init__(self, net: Any, batch: Any, losses: list[Any], loss_weights: list[float]) -> None:
        self.net, self.batch, self.losses, self.loss_weights, self.totals = net, batch, losses, loss_weights, batch.totals

    @property
    def _outputs(self) -> list[int]:
        return [i for i, weight in enumerate(self.loss_weights) if weight]

    def _width(self, i: int) -> int:
        return self.net.graph.nodes[self.net.graph.outputs[i].node].width

    @property
    def residuals(self) -> int:
        """The number of rows of J."""
        return len(self.batch.weights) * sum(self._width(i) * self.batch.positions[i] for i in self._outputs)

    @property
    def targets(self) -> int:
        """How many of them have a target and a weight above 0."""
        return sum(scale > 0 for i in self._outputs for row in self._scales(i) for scale in row)

    def _scales(self, i: int) -> list[Row]:
        """What the loss of each element of output i is multiplied by, position after position."""
        weights, positions = self.batch.of_positions(i)
        width, divisor = self._width(i), self.totals[i] * positions
        share = self.loss_weights[i] / divisor / (width if self.losses[i].entry.mean else 1) if divisor else 0.0
        return [[share * one for one in (row if len(row) > 1 else row * width)] for row in weights]

    def jacobian(self) -> list[Row]:
        """J: one row for each residual, of zeros where the target is missing."""
        return [row for block in self._blocks() for row in block.jacobian]

    def slopes(self) -> list[Row]:
        """The derivatives of the loss by the raw outputs, block by block."""
        return [block.slopes for block in self._blocks()]

    def cross(self, slopes: list[Row]) -> Row:
        """Z^T slopes."""
        total = [0.0] * len(self.net.params)
        for block, of_block in zip(self._blocks(), slopes):
            total = [a + b for a, b in zip(total, _combined(of_block, block.z()))]
        return total

    def diagonal(self, share: float) -> Row:
        """The second derivatives of the penalties; -1 for parameters that are not trained."""
        found = [-1.0] * len(self.net.params)
        for tensor in self.net.layout:
            layer = self.net.graph.layers[tensor.layer]
            if not layer.frozen:
                l2 = layer.settings.get("l2", 0.0) if tensor.is_matrix else 0.0
                found[tensor.place] = [share * l2] * (tensor.rows * tensor.cols)
        return found

    def _blocks(self) -> Iterator[Block]:
        scales = {i: self._scales(i) for i in self._outputs}
        for r, result in enumerate(self.net.rows_apart(self.batch.inputs)):
            for i in self._outputs:
                width, positions = self._width(i), self.batch.positions[i]
                for position in range(positions):
                    place = r * positions + position
                    o, t = (m.data[k * width : (k + 1) * width] for m, k in ((result.outputs[i], position), (self.batch.targets[i], place)))
                    own = [{key: _of_column(value, j, width) for key, value in self.losses[i].values.items()} for j in range(width)]
                    z = partial(self._derivatives, result, i, position * width)
                    yield Block(CURVATURES[self.losses[i].name], z, o, t, own, scales[i][place])

    def _derivatives(self, result: Any, i: int, first: int) -> list[Row]:
        return [list(self.net.derivatives(result, i, first + j)) for j in range(self._width(i))]


@dataclass(frozen=True)
class Block:
    """One position of an output in a row: z: its rows of Z; its raw outputs and targets; for each column the parameters of the loss, and
    what the loss is multiplied by."""

    curvature: Curvature
    z: Callable[[], list[Row]]
    o: Row
    t: Row
    parameters: list[dict[str, Any]]
    scales: Row

    @property
    def jacobian(self) -> list[Row]:
        """Its rows of J = F Z."""
        z = self.z()
        if not any(self.scales):
            return [[0.0] * len(row) for row in z]
        factor = self.curvature.factor(self.o, self.t, self.parameters)
        return [_combined([math.sqrt(scale) * f if scale else 0.0 for f in row], z) for scale, row in zip(self.scales, factor)]

    @property
    def slopes(self) -> Row:
        """The derivatives of the loss by the raw outputs."""
        if not any(self.scales):
            return [0.0] * len(self.o)
        found = self.curvature.slopes(self.o, self.t, self.parameters)
        return [scale * slope if scale else 0.0 for scale, slope in zip(self.scales, found)]


def _combined(factors: Row, rows: list[Row]) -> Row:
    pairs = [(factor, row) for factor, row in zip(factors, rows) if factor]
    return [math.fsum(factor * row[i] for factor, row in pairs) for i in range(len(rows[0]))]


def _of_column(value: Any, j: int, width: int) -> Any:
    return value[j * len(value) // width] if isinstance(value, tuple) else value


def square(rows: list[Row], count: int) -> list[Row]:
    """J^T J."""
    columns = list(zip(*rows)) if rows else [()] * count
    matrix = [[0.0] * count for _ in range(count)]
    for i in range(count):
        for j in range(i + 1):
            matrix[i][j] = matrix[j][i] = math.fsum(a * b for a, b in zip(columns[i], columns[j]))
    return matrix
