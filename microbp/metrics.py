"""Metrics: f(y, outputs) -> float, where outputs are predictions through their link (probabilities, rates)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .arrays import as_array
from .specs import unknown

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
    """The share of rows whose class is right.

    Several outputs: the largest names the class; y holds labels or a row of probabilities. One output: against 1/2, or against 0 where
    the targets are -1 and +1.
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


def rmse(y: Any, outputs: Any) -> float:
    """The root of the mean squared error."""
    targets, predictions = _pair(y, outputs)
    return float(np.sqrt(np.mean((predictions - targets) ** 2)))


def mae(y: Any, outputs: Any) -> float:
    """The mean absolute error."""
    targets, predictions = _pair(y, outputs)
    return float(np.mean(np.abs(predictions - targets)))


def r2(y: Any, outputs: Any) -> float:
    """The coefficient of determination, the mean over the outputs: 1 is perfect, 0 is as good as the mean of y.

    An output whose targets are constant counts 1 if it is exact, else 0, as in scikit-learn.
    """
    targets, predictions = _pair(y, outputs)
    residual = ((targets - predictions) ** 2).sum(axis=0)
    total = ((targets - targets.mean(axis=0)) ** 2).sum(axis=0)
    constant = np.where(residual == 0, 1.0, 0.0)
    return float(np.mean(np.where(total == 0, constant, 1 - residual / np.where(total == 0, 1, total))))


NAMED: dict[str, Metric] = {"accuracy": accuracy, "rmse": rmse, "mae": mae, "r2": r2}


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
    if metric not in NAMED:
        raise unknown("metric", metric, NAMED)
    if outputs > 1:
        raise ValueError(f"metric {metric!r} is for one output; with {outputs}, give a function of (list of targets, list of outputs)")
    return metric, NAMED[metric]
