"""Metrics: functions f(y, outputs) -> float. outputs are predictions, after the output activations (probabilities, rates).

>>> t = bp.Trainer(bp.mlp([2, 8, 3], seed=0), loss="cross_entropy", optimizer="adam")
>>> sorted(t.fit(np.eye(6, 2), np.arange(6) % 3, epochs=2, metrics=["accuracy", bp.top_k(2)]))
['accuracy', 'loss', 'lr', 'seconds', 'top_2']

The metrics below agree with scikit-learn's. fit also accepts scikit-learn's functions, if they work with the trainer's targets and
outputs: for one column, mean_absolute_error, r2_score, roc_auc_score, ...; for labels, log_loss, top_k_accuracy_score, ...
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np

from ..core.checks import whole_number
from ..core.specs import unknown
from ..core.text import brief
from ..data.arrays import as_array

Metric = Callable[[Any, Any], float]


def _pair(y: Any, outputs: Any) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Targets and outputs as 2-D float64 arrays of equal shapes. Unequal shapes are an error: broadcasting would give wrong results."""
    targets = as_array(y, "y").astype(np.float64)
    predictions = as_array(outputs, "outputs").astype(np.float64)
    if targets.ndim == 1:
        targets = targets.reshape(-1, 1)
    if predictions.ndim == 1:
        predictions = predictions.reshape(-1, 1)
    if targets.shape != predictions.shape:
        swapped = "; y and outputs may be swapped" if targets.shape[1:] > (1,) == predictions.shape[1:] else ""
        raise ValueError(f"y and outputs must have equal shapes, not {np.shape(y)} and {np.shape(outputs)}{swapped}")
    return targets, predictions


def accuracy(y: Any, outputs: Any) -> float:
    """The fraction of rows classified correctly, from 0 to 1; `metrics="accuracy"` in fit.

    outputs of shape (rows, classes): the class is the index of the largest. y: labels, (rows,), or probabilities, (rows, classes).
    outputs of shape (rows,) or (rows, 1): the class is 1 if the output is above 1/2, else 0. If y has negative values, the classes are 1
    and -1, and the threshold is 0.
    y: (rows,) or (rows, 1). ValueError: the shapes of y and outputs do not match. scikit-learn: accuracy_score.

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
            raise ValueError(f"y and outputs must have the same number of rows, but have shapes {targets.shape} and {outputs.shape}")
        return float(np.mean(outputs.argmax(axis=1) == labels))
    targets, predictions = _pair(y, outputs)
    threshold = 0.0 if targets.min() < 0 else 0.5
    return float(np.mean((predictions > threshold) == (targets > threshold)))


def top_k(k: int) -> Metric:
    """Returns a metric: the fraction of rows whose class is among the k largest outputs. `metrics="top_3"` in fit means `top_k(3)`.

    k: a whole number of at least 1.
    The metric accepts outputs of shape (rows, classes) with 2 or more classes, and y: labels of shape (rows,), or probabilities of shape
    (rows, classes), where the largest is the class. Among equal outputs the last counts as the largest, as in scikit-learn's
    top_k_accuracy_score.

    >>> bp.top_k(2)([0, 1], [[0.3, 0.1, 0.6], [0.5, 0.1, 0.4]])
    0.5
    """
    count = whole_number(k, "top_k: k")

    def metric(y: Any, outputs: Any) -> float:
        outputs = as_array(outputs, "outputs")
        labels = _labels(y, outputs)
        own = np.take_along_axis(outputs, labels[:, None], axis=1)
        behind = (outputs < own) | ((outputs == own) & (np.arange(outputs.shape[1]) <= labels[:, None]))  # False for NaN
        return float(np.mean(outputs.shape[1] - behind.sum(axis=1) < count))

    metric.__name__ = f"top_{count}"
    return metric


def _labels(y: Any, outputs: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The class of each row, for outputs with one column per class."""
    targets = as_array(y, "y")
    if outputs.ndim != 2 or outputs.shape[1] < 2 or len(targets) != len(outputs):
        shapes = f"y has shape {targets.shape} and outputs have shape {outputs.shape}"
        swapped = "; they may be swapped" if targets.ndim == 2 and targets.shape[1] > 1 and len(targets) == len(outputs) else ""
        raise ValueError(f"{shapes}; they must have the same number of rows, and outputs at least 2 columns{swapped}")
    labels = targets.argmax(axis=1) if targets.shape == outputs.shape else targets.reshape(-1).astype(np.int64)
    if labels.shape != (len(outputs),) or labels.min() < 0 or labels.max() >= outputs.shape[1]:
        raise ValueError(f"y must have one label per row, from 0 to {outputs.shape[1] - 1}")
    return labels


def log_loss(y: Any, outputs: Any) -> float:
    """The mean of -log(probability of the row's class), at least 0; `metrics="log_loss"` in fit.

    outputs of shape (rows, classes): a probability per class. y: labels, (rows,), or probabilities, (rows, classes).
    outputs of shape (rows,) or (rows, 1): the probability of 1. y: 0 or 1.
    Probabilities are clipped to [eps, 1 - eps], with the eps of their dtype. ValueError: the shapes of y and outputs do not match.
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
    """The root mean squared error over all rows and outputs, in the unit of y; `metrics="rmse"` in fit.

    y and outputs have equal shapes, (rows,) or (rows, outputs), where (rows,) counts as (rows, 1); ValueError otherwise. scikit-learn:
    root_mean_squared_error, which for several outputs takes the root for each output and then the mean.

    >>> bp.rmse([1.0, 2.0], [1.0, 4.0])
    1.4142135623730951
    """
    targets, predictions = _pair(y, outputs)
    return float(np.sqrt(np.mean((predictions - targets) ** 2)))


def mae(y: Any, outputs: Any) -> float:
    """The mean absolute error over all rows and outputs, in the unit of y; `metrics="mae"` in fit.

    y and outputs have equal shapes, (rows,) or (rows, outputs), where (rows,) counts as (rows, 1); ValueError otherwise. scikit-learn:
    mean_absolute_error.

    >>> bp.mae([1.0, 2.0], [1.0, 4.0])
    1.0
    """
    targets, predictions = _pair(y, outputs)
    return float(np.mean(np.abs(predictions - targets)))


def r2(y: Any, outputs: Any) -> float:
    """The coefficient of determination, 1 - sum (y - outputs)^2 / sum (y - mean of y)^2; `metrics="r2"` in fit.

    1 is perfect; 0 is as good as predicting the mean of y; less is worse. For several outputs it is the mean over them. An output with
    constant targets counts as 1 if all its predictions are exact, else 0. y and outputs have equal shapes, (rows,) or (rows, outputs),
    where (rows,) counts as (rows, 1); ValueError otherwise. scikit-learn: r2_score.

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


def resolve(metrics: str | Metric | Sequence[str | Metric], outputs: int) -> dict[str, Metric]:
    """The metrics by name. The name of a function is its __name__."""
    chosen: dict[str, Metric] = {}
    if not isinstance(metrics, str | list | tuple) and not callable(metrics):
        raise TypeError(f"metrics must be a name, a function f(y, outputs), or a list of these, not {brief(metrics)}")
    for metric in [metrics] if isinstance(metrics, str) or callable(metrics) else metrics:
        name, function = _named(metric, outputs)
        if name in chosen or name in ("epoch", "loss", "val_loss", "lr", "steps", "seconds"):
            raise ValueError(f"metrics: the name {name!r} is already in use; give the function another __name__")
        chosen[name] = function
    return chosen


def _named(metric: str | Metric, outputs: int) -> tuple[str, Metric]:
    if callable(metric):
        return getattr(metric, "__name__", type(metric).__name__), metric
    if not isinstance(metric, str):
        raise TypeError(f"metrics: a metric is a name or a function f(y, outputs), not {brief(metric)}")
    top = re.fullmatch(r"top_(\d+)", metric)
    if metric not in NAMED and not top:
        raise unknown("metric", metric, [*NAMED, "top_3"])
    if outputs > 1:
        raise ValueError(
            f"metric {metric!r} works with one output only; for {outputs} outputs, use a function f(list of targets, list of outputs)"
        )
    return metric, top_k(int(top[1])) if top else NAMED[metric]
