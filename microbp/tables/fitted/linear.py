"""A linear model that joins the networks of a small table, if they all predict better together.

Networks and a linear model err differently, and on tables with few rows the linear one is often as good. Its share of the vote comes from
the validation rows, on which neither was trained (stacking: Wolpert 1992, "Stacked generalization"; Breiman 1996, "Stacked regressions").
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ...core.specs import Loss
from ...data.arrays import Array
from ...many.ensemble import Ensemble
from ...network.layers import Dense
from ...network.network import Network
from ...network.nodes import Input
from ...training.trainer import Trainer
from .. import intervals, recipe
from ..parts import Data, Part, joined

_SHARES = np.arange(101) / 100  # that are tried
_USUAL, _SPREAD = 0.5, 0.2  # mean and standard deviation of the share before the validation rows are seen
_FEW = 15  # validation rows whose losses, in which the network has chosen its best epoch, tell half of what they seem to tell
_LEAST = 0.1  # a smaller share is not worth a further model
_OF_NUMBERS, _OF_CLASSES = Loss("mse"), Loss("cross_entropy")
_L2 = 1.0  # half the squares of the weights, for features of deviation 1: the default of scikit-learn's linear models
_ITERATIONS, _TOLERANCE = 100, 1e-3
_PRODUCT, _FEWEST = 200_000, 16  # multiplications in a block of rows, and the least number of its rows
_CONSTANT = 1e-6  # the deviation of a feature below which it is constant
_SMALLEST = 1e-30  # of probabilities and of losses


@dataclass(frozen=True)
class Linear:
    """A linear model. share: of the vote."""

    net: Network
    share: float


def together(nets: Sequence[Network], linear: Linear | None) -> Network | Ensemble:
    """The networks as one; those beside the linear model have equal weights."""
    if linear is None:
        return nets[0] if len(nets) == 1 else Ensemble(nets)
    return Ensemble([*nets, linear.net], [*[(1 - linear.share) / len(nets)] * len(nets), linear.share])


def joining(data: Data, nets: Sequence[Network], budget: recipe.BudgetName, seed: int, threads: int | None) -> Linear | None:
    """The linear model of the rows for training and validation; None if they are sparse or have embeddings, the table is too large, the
    loss is not the usual one, or its share would be too small. nets: those that were trained on the training rows of folds 0, 1, ...
    """
    if data.preparation.sparse or data.preparation.embedded:
        return None
    width = data.preparation.width - data.preparation.bins
    if data.loss not in (_OF_NUMBERS, _OF_CLASSES) or not recipe.may_join(data.training, width, data.preparation.outputs, budget):
        return None
    columns = data.preparation.unbinned
    with np.errstate(over="ignore", invalid="ignore"):
        each, weights = [], []
        for number, net in enumerate(nets):
            train, validation = data.fold(number)
            line = _fit(data, train, columns, seed, threads)
            each.append(_losses(net.predict(validation.x), line.predict(validation.x), validation, data.loss))
            weights.append(validation.weights)
        share = _share(np.concatenate(each), np.concatenate(weights), data.loss)
        if share < _LEAST:
            return None
        net = _fit(data, joined(data.pieces("train", "validation")), columns, seed, threads)
    return Linear(net, share) if np.isfinite(net.params).all() else None


# ---- the share ----


def _losses(network: Array, linear: Array, rows: Part, loss: Loss) -> Array:
    """The loss of each row with each share of the linear model, shape (rows, shares). network, linear: what they predict."""
    if loss == _OF_CLASSES:
        own = np.arange(len(rows.y)), rows.y
        a, b = network[own].astype(np.float64), linear[own].astype(np.float64)
        return np.asarray(-np.log(np.maximum(a[:, None] + np.outer(b - a, _SHARES), _SMALLEST)))
    y = rows.y.reshape(network.shape)
    return np.stack([((network + share * (linear.astype(np.float64) - network) - y) ** 2).mean(axis=1) for share in _SHARES], axis=1)


def _share(losses: Array, weight: Array, loss: Loss) -> float:
    """The most probable share of the linear model; 0 if a loss is not finite.

    losses: as from `_losses`, of each validation row. Errors of numbers are taken for normal, with a deviation between the one that the
    best share leaves and, for few rows, the one that a half leaves. The share is taken for normal too, before the rows are seen. So a few
    rows, in which one of both may err little by chance, do not move it far from a half.
    """
    mean = np.average(losses, axis=0, weights=weight)
    if not np.isfinite(mean).all():
        return 0.0
    rows = intervals.effective(weight)
    told = rows / (rows + _FEW)
    surprise = told * rows * mean  # minus the logarithm of the likelihood
    if loss != _OF_CLASSES:
        surprise /= 2 * max(told * mean.min() + (1 - told) * mean[len(mean) // 2], _SMALLEST)
    best = int((surprise + (_SHARES - _USUAL) ** 2 / (2 * _SPREAD**2)).argmin())
    return float(_SHARES[best])


# ---- the fit ----


def _fit(data: Data, part: Part, columns: Array, seed: int, threads: int | None) -> Network:
    """A network of one layer, with the weights that have the lowest loss and squares. columns: as `Preparation.unbinned`."""
    x, weight = _unbinned(part.x, columns), part.weights / part.weights.mean()
    centre = np.average(x, axis=0, weights=weight)
    x -= centre
    deviation = np.sqrt(np.average(x * x, axis=0, weights=weight))
    scale = np.where(deviation > _CONSTANT, deviation, np.inf)
    x /= scale
    outputs = data.preparation.outputs
    factors, bias = (
        _logistic(x, np.eye(outputs)[part.y], weight) if data.loss == _OF_CLASSES else _ridge(x, part.y.reshape(len(x), -1), weight)
    )
    factors /= scale[:, None]
    node = Input(len(columns))
    net = Network(node, Dense(outputs, init="zeros")(node), "float32", seed, n_threads=threads)
    net.tensors["dense_0.weight"][:] = (columns @ factors).T
    net.tensors["dense_0.bias"][:] = bias - centre @ factors
    return Trainer(net, data.loss, "sgd").net


def _unbinned(x: Array, columns: Array) -> Array:
    """x @ columns. Each row of `columns` has at most one number that is not 0, in the column of the row before or a later one."""
    factors, starts = columns.sum(axis=1), (columns != 0).argmax(axis=0)
    blocks = (np.add.reduceat(x[rows] * factors, starts, axis=1) for rows in _blocks(len(x), len(columns)))
    return np.concatenate(list(blocks))


def _ridge(x: Array, y: Array, weight: Array) -> tuple[Array, Array]:
    """Ridge regression. x: features of mean 0 and deviation 1."""
    bias = np.average(y, axis=0, weights=weight)
    weighted = x.T * weight
    return np.linalg.solve(_squares(weighted, x) + _L2 * np.eye(x.shape[1]), weighted @ (y - bias)), bias


def _logistic(x: Array, y: Array, weight: Array) -> tuple[Array, Array]:
    """Multinomial logistic regression. Each step minimizes a quadratic function that lies above the loss (Boehning 1992, "Multinomial
    logistic regression algorithm"), from a point ahead (Nesterov 1983). x: as in `_ridge`; y: 1 for the class of the row, else 0.
    """
    x = np.column_stack([x, np.ones(len(x))])
    l2 = np.full((x.shape[1], 1), _L2)
    l2[-1] = _TOLERANCE  # of the bias: only to keep it finite
    weighted = x.T * weight
    step = np.linalg.inv(_squares(weighted, x) / 2 + np.diag(l2[:, 0]))
    found = before = np.zeros((x.shape[1], y.shape[1]))
    blocks = list(_blocks(len(x), found.size))
    for i in range(_ITERATIONS):
        ahead = found + (found - before) * (i / (i + 3))
        slope = sum(weighted[:, rows] @ (_softmax(x[rows] @ ahead) - y[rows]) for rows in blocks)
        before, found = found, ahead - step @ (slope + l2 * ahead)
        if np.abs(found - before).max() < _TOLERANCE:
            break
    return found[:-1], found[-1]


def _squares(weighted: Array, x: Array) -> Array:
    """weighted @ x."""
    return np.asarray(sum(weighted[:, rows] @ x[rows] for rows in _blocks(len(x), x.shape[1] ** 2)))


def _blocks(rows: int, work: int) -> Iterator[slice]:
    """Rows at a time for a product. work: multiplications for a row. The threads of NumPy's BLAS wait busily for each other, so that they
    make small products slower and take processors from others; for products as small as these it starts none.
    """
    step = _PRODUCT // work
    if step < _FEWEST:  # a large product
        step = rows
    return (slice(start, start + step) for start in range(0, rows, step))


def _softmax(x: Array) -> Array:
    e = np.exp(x - x.max(axis=1, keepdims=True))
    return np.asarray(e / e.sum(axis=1, keepdims=True))
