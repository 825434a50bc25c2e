"""Metrics: f(y, outputs) -> float, where outputs are predictions after the output activations (probabilities, rates).

>>> t = bp.Trainer(bp.mlp([2, 8, 3], seed=0), loss="cross_entropy", optimizer="adam")
>>> sorted(t.fit(np.eye(6, 2), np.arange(6) % 3, epochs=2, metrics=["accuracy", bp.top_k(2)]))
['accuracy', 'loss', 'lr', 'seconds', 'top_2']

Those below agree with scikit-learn's. Its own functions can be given too, as they are, where they take what the trainer has: for one
column of targets and outputs mean_absolute_error, r2_score, roc_auc_score, ...; for labels log_loss, top_k_accuracy_score, ...
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np

from ..core.checks import whole_number
from ..core.specs import unknown
from ..data.arrays import as_array

Metric = Callable[[Any, Any], float]


def _pair(y: Any, outputs: Any) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Targets and outputs in float64 and in equal shapes, for a broadcast between them would be a mistake."""
    targets = as_array(y, "y").astype(np.float64)
    predictions = as_array(outputs, "outputs").astype(np.float64)
    if targets.ndim == 1:
        targets = targets.reshape(-1, 1)
    if predictions.ndim == 1:
        predictions = predictions.reshape(-1, 1)
    if targets.shape != predictions.shape:
        raise ValueError(f"y has shape {np.shape(y)} and outputs have shape {np.shape(outputs)}: they need equal shapes")
    return targets, predictions


def accuracy(y: Any, outputs: Any) -> float:
    """The share of rows whose class is right, from 0 to 1; `metrics="accuracy"` in fit.

    outputs of shape (rows, classes): the largest names the class; y holds labels, (rows,), or probabilities, (rows, classes).
    outputs of shape (rows,) or (rows, 1): the class is whether they are above 1/2, or above 0 where some of y, (rows,) or (rows, 1), are
    negative (-1 and +1).
    ValueError: the shapes of y and outputs do not fit. scikit-learn: accuracy_score.

    >>> bp.accuracy([0, 1, 1], [[0.9, 0.1], [0.2, 0.8], [0.7, 0.3]])
    0.6666666666666666
    >>> bp.accuracy([0, 1, 1, 0], [0.2, 0.9, 0.6, 0.1])
    1.0
    """
    outputs = as_array(outputs, "outputs")
    if outputs.ndim == 2 and outputs.shape[1] > 1:
        targets = as_array(y, "y")
        labels = targets.argmax(axis=1) if targets.shape == outputs.shape else targets.reshape(-1)
        if len(labels) != len(outputs):
            raise ValueError(f"y has shape {targets.shape} and outputs have shape {outputs.shape}: they need as many rows")
        return float(np.mean(outputs.argmax(axis=1) == labels))
    targets, predictions = _pair(y, outputs)
    threshold = 0.0 if targets.min() < 0 else 0.5
    return float(np.mean((predictions > threshold) == (targets > threshold)))


def top_k(k: int) -> Metric:
    """The metric: the share of rows whose class is among the k largest outputs; `metrics="top_3"` in fit is `top_k(3)`.

    k: a whole number of at least 1.
    The metric takes y, labels of shape (rows,) or probabilities of shape (rows, classes), whose largest is the class, and outputs of shape
    (rows, classes), 2 classes or more. Of equal outputs the later is the larger, as in scikit-learn's top_k_accuracy_score.

    >>> bp.top_k(2)([0, 1], [[0.3, 0.1, 0.6], [0.5, 0.1, 0.4]])
    0.5
    """
    count = whole_number(k, "top_k: k")

    def metric(y: Any, outputs: Any) -> float:
        outputs = as_array(outputs, "outputs")
        labels = _labels(y, outputs)
        own = np.take_along_axis(outputs, labels[:, None], axis=1)
        behind = (outputs < own) | ((outputs == own) & (np.arange(outputs.shape[1]) <= labels[:, None]))  # NaN is behind nothing
        return float(np.mean(outputs.shape[1] - behind.sum(axis=1) < count))

    metric.__name__ = f"top_{count}"
    return metric


def _labels(y: Any, outputs: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The class of each row, for outputs of a column per class."""
    targets = as_array(y, "y")
    if outputs.ndim != 2 or outputs.shape[1] < 2 or len(targets) != len(outputs):
        raise ValueError(
            f"y has shape {targets.shape} and outputs have shape {outputs.shape}: they need as many rows, of 2 classes or more"
        )
    labels = targets.argmax(axis=1) if targets.shape == outputs.shape else targets.reshape(-1).astype(np.int64)
    if labels.shape != (len(outputs),) or labels.min() < 0 or labels.max() >= outputs.shape[1]:
        raise ValueError(f"y must hold one label from 0 to {outputs.shape[1] - 1} per row")
    return labels


def log_loss(y: Any, outputs: Any) -> float:
    """The mean of -log(probability of the row's class), at least 0; `metrics="log_loss"` in fit.

    outputs of shape (rows, classes): a probability per class; y holds labels, (rows,), or probabilities, (rows, classes).
    outputs of shape (rows,) or (rows, 1): the probability of 1; y holds 0 or 1.
    Probabilities are brought no nearer to 0 and 1 than the eps of their dtype. ValueError: the shapes of y and outputs do not fit.
    scikit-learn: log_loss.

    >>> round(bp.log_loss([0, 1], [[0.9, 0.1], [0.5, 0.5]]), 3)
    0.399
    """
    probabilities = as_array(outputs, "outputs")
    eps = np.finfo(probabilities.dtype if probabilities.dtype.kind == "f" else np.float64).eps
    targets = as_array(y, "y")
    if probabilities.ndim == 2 and probabilities.shape[1] > 1 and targets.shape != probabilities.shape:
        targets = _labels(y, probabilities)[:, None] == np.arange(probabilities.shape[1])
    targets, chances = _pair(targets, probabilities)
    chances = np.clip(chances, eps, 1 - eps)
    if chances.shape[1] == 1:
        targets, chances = np.hstack([1 - targets, targets]), np.hstack([1 - chances, chances])
    return float(-np.mean((targets * np.log(chances)).sum(axis=1)))


def rmse(y: Any, outputs: Any) -> float:
    """The root of the mean squared error over all rows and outputs, in the unit of y; `metrics="rmse"` in fit.

    y and outputs have equal shapes, (rows,) or (rows, outputs); ValueError otherwise. For one output as scikit-learn's
    root_mean_squared_error, which takes the mean of the roots of several.

    >>> bp.rmse([1.0, 2.0], [1.0, 4.0])
    1.4142135623730951
    """
    targets, predictions = _pair(y, outputs)
    return float(np.sqrt(np.mean((predictions - targets) ** 2)))


def mae(y: Any, outputs: Any) -> float:
    """The mean absolute error over all rows and outputs, in the unit of y; `metrics="mae"` in fit.

    y and outputs have equal shapes, (rows,) or (rows, outputs); ValueError otherwise. scikit-learn: mean_absolute_error.

    >>> bp.mae([1.0, 2.0], [1.0, 4.0])
    1.0
    """
    targets, predictions = _pair(y, outputs)
    return float(np.mean(np.abs(predictions - targets)))


def r2(y: Any, outputs: Any) -> float:
    """The coefficient of determination, 1 - sum (y - outputs)^2 / sum (y - mean of y)^2; `metrics="r2"` in fit.

    1 is perfect, 0 is as good as the mean of y, less is worse. Of several outputs it is the mean. An output whose targets are constant
    counts 1 if it is exact, else 0. y and outputs have equal shapes, (rows,) or (rows, outputs); ValueError otherwise.
    scikit-learn: r2_score.

    >>> bp.r2([1.0, 2.0, 3.0], [1.0, 2.0, 2.0])
    0.5
    """
    targets, predictions = _pair(y, outputs)
    residual = ((targets - predictions) ** 2).sum(axis=0)
    total = ((targets - targets.mean(axis=0)) ** 2).sum(axis=0)
    constant = np.where(residual == 0, 1.0, 0.0)
    return float(np.mean(np.where(total == 0, constant, 1 - residual / np.where(total == 0, 1, total))))


MetricName = Literal["accuracy", "log_loss", "rmse", "mae", "r2"]
NAMED: dict[str, Metric] = {"accuracy": accuracy, "log_loss": log_loss, "rmse": rmse, "mae": mae, "r2": r2}


_RISING = re.compile(r"accuracy|r2|top_\d+|\w+_score")
_FALLING = re.compile(r"(val_)?loss|rmse|mae|\w+_(loss|error)")


def rises(name: str, mode: str | None) -> bool:
    """Whether more of a record's entry is better: as mode="min" or "max" says, else as its name does.

    Names are those above, and as scikit-learn ends them: _score rises, _error and _loss fall.
    """
    if mode not in (None, "min", "max"):
        raise unknown("mode", mode, ("min", "max"))
    if mode is None and not _RISING.fullmatch(name) and not _FALLING.fullmatch(name):
        raise ValueError(f'{name!r} does not say whether less or more of it is better: give mode="min" or mode="max"')
    return mode == "max" if mode is not None else _FALLING.fullmatch(name) is None


def resolve(metrics: str | Metric | Sequence[str | Metric], outputs: int) -> dict[str, Metric]:
    """The metrics by name; a function goes by its __name__."""
    chosen: dict[str, Metric] = {}
    for metric in [metrics] if isinstance(metrics, str) or callable(metrics) else metrics:
        name, function = _named(metric, outputs)
        if name in chosen or name in ("epoch", "loss", "val_loss", "lr", "steps", "seconds"):
            raise ValueError(f"metrics: the name {name!r} is taken; give the function another name")
        chosen[name] = function
    return chosen


def _named(metric: str | Metric, outputs: int) -> tuple[str, Metric]:
    if callable(metric):
        return getattr(metric, "__name__", type(metric).__name__), metric
    if not isinstance(metric, str):
        raise TypeError(f"metrics: a metric is a name or a function f(y, predictions), not {metric!r}")
    top = re.fullmatch(r"top_(\d+)", metric)
    if metric not in NAMED and not top:
        raise unknown("metric", metric, [*NAMED, "top_3"])
    if outputs > 1:
        raise ValueError(f"metric {metric!r} is for one output; with {outputs}, give a function of (list of targets, list of outputs)")
    return metric, top_k(int(top[1])) if top else NAMED[metric]
