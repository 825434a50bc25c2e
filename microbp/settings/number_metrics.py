"""Metrics of numbers: errors in the unit of the targets, and the share of their variance that predictions explain."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import numpy as np

from ..core.specs import Loss, LossName
from ..data.arrays import Array, as_array
from .decisions import check_shapes, present

_quiet = partial(np.errstate, over="ignore", invalid="ignore")  # numbers too large for float64 give infinity or NaN, without a warning


class _Pair(NamedTuple):
    """Targets and predictions as 2-D float64 arrays of equal shapes, without rows of weight 0."""

    targets: Array
    predictions: Array
    weight: Array | None

    def mean(self, values: Array) -> float:
        """The mean over the outputs of the weighted means over the rows; if columns have weights of their own, over all elements."""
        if self.weight is not None and self.weight.ndim == 2:
            return float(np.average(np.where(self.weight > 0, values, 0.0), weights=self.weight))
        return float(np.mean(np.average(values, axis=0, weights=self.weight)))


def _pair(y: Any, outputs: Any, sample_weight: Any, loss: LossName | Loss | None) -> _Pair:
    y, outputs = as_array(y, "y"), as_array(outputs, "outputs")
    if loss is not None:
        outputs = _predictions(outputs, Loss.parse(loss))  # an unknown one is an error
    check_shapes(y, outputs)
    y, outputs, weight = present(sample_weight, y, outputs)
    return _Pair(y.reshape(len(y), -1).astype(np.float64), outputs.reshape(len(y), -1).astype(np.float64), weight)


def _predictions(outputs: Array, loss: Loss) -> Array:
    """The columns that predict a target each: with gaussian_nll, the means."""
    if isinstance(loss.parameters.get("q"), tuple):
        raise ValueError(f"{loss.text} predicts several numbers for each target; compare one of them, outputs[:, j], without loss=")
    return outputs[:, : loss.target_columns(outputs.shape[1])] if outputs.ndim == 2 and loss.name == "gaussian_nll" else outputs


def rmse(y: Any, outputs: Any, sample_weight: Any = None, loss: LossName | Loss | None = None) -> float:
    """The root mean squared error over all rows and outputs, in the unit of y; `metrics="rmse"` in fit.

    y and outputs have equal shapes, (rows,) or (rows, outputs), where (rows,) counts as (rows, 1). sample_weight: (rows,), by default all
    1; rows of weight 0 are not read. loss: not needed. A NaN makes it NaN. ValueError: the shapes do not match. scikit-learn:
    root_mean_squared_error, which for several outputs takes the root for each output and then the mean.

    >>> bp.rmse([1.0, 2.0], [1.0, 4.0])
    1.4142135623730951
    """
    pair = _pair(y, outputs, sample_weight, loss)
    with _quiet():
        return float(np.sqrt(pair.mean((pair.predictions - pair.targets) ** 2)))


def mae(y: Any, outputs: Any, sample_weight: Any = None, loss: LossName | Loss | None = None) -> float:
    """The mean absolute error over all rows and outputs, in the unit of y; `metrics="mae"` in fit.

    Arguments and errors: as in bp.rmse. scikit-learn: mean_absolute_error.

    >>> bp.mae([1.0, 2.0], [1.0, 4.0])
    1.0
    """
    pair = _pair(y, outputs, sample_weight, loss)
    with _quiet():
        return pair.mean(np.abs(pair.predictions - pair.targets))


def pinball(y: Any, outputs: Any, sample_weight: Any = None, loss: LossName | Loss | None = None) -> float:
    """The mean pinball loss: q d for d = y - output > 0, else (q - 1) d, over all rows and outputs; `metrics="pinball"` in fit.

    q: that of loss=bp.Loss("quantile", q=0.9); for any other loss, and for None, 0.5, which is half the mean absolute error. Other
    arguments and errors: as in bp.rmse. scikit-learn: mean_pinball_loss with alpha=q.

    >>> bp.pinball([1.0, 2.0], [1.0, 4.0], loss=bp.Loss("quantile", q=0.9))
    0.09999999999999998
    """
    pair = _pair(y, outputs, sample_weight, loss)
    q = 0.5 if loss is None else Loss.parse(loss).parameters.get("q", 0.5)
    with _quiet():
        above = pair.targets - pair.predictions
        return pair.mean(np.maximum(q * above, (q - 1) * above))


def r2(y: Any, outputs: Any, sample_weight: Any = None, loss: LossName | Loss | None = None) -> float:
    """The coefficient of determination, 1 - sum (y - outputs)^2 / sum (y - mean of y)^2; `metrics="r2"` in fit.

    1 is perfect; 0 is as good as predicting the mean of y; less is worse. For several outputs it is the mean over them. An output with
    constant targets counts as 1 if all its predictions are exact, else 0. A single row has no variance: NaN. Arguments and errors: as in
    bp.rmse. scikit-learn: r2_score.

    >>> bp.r2([1.0, 2.0, 3.0], [1.0, 2.0, 2.0])
    0.5
    """
    pair = _pair(y, outputs, sample_weight, loss)
    targets, weight = pair.targets, np.ones(len(pair.targets)) if pair.weight is None else pair.weight
    if len(targets) == 1:
        return float("nan")
    if weight.ndim == 2:
        return _r2_of_columns(pair, weight)
    with _quiet():
        residual = weight @ (targets - pair.predictions) ** 2
        total = weight @ (targets - np.average(targets, axis=0, weights=weight)) ** 2
        return float(np.mean(explained(residual, np.where((targets == targets[0]).all(axis=0), 0.0, total))))


def _r2_of_columns(pair: _Pair, weight: Array) -> float:
    """The mean over the columns that have targets, each with weights of its own."""
    found = []
    for target, prediction, of_column in zip(pair.targets.T, pair.predictions.T, weight.T, strict=True):
        there = of_column > 0
        if there.any():
            y, w = target[there], of_column[there]
            with _quiet():
                residual = w @ (y - prediction[there]) ** 2
                total = w @ (y - np.average(y, weights=w)) ** 2
            found.append(explained(residual, np.asarray(0.0 if (y == y[0]).all() else total)))
    return float(np.mean(found))


def explained(residual: Array, total: Array) -> Array:
    """r2 of each output, from its sums of squares around the predictions and around the mean."""
    exact = np.where(np.isnan(residual), np.nan, residual == 0)
    return np.where(total == 0, exact, 1 - residual / np.where(total == 0, 1.0, total))
