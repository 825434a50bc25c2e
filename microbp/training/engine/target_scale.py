"""The unit of targets: which losses learn from scaled targets, and the mean and standard deviation of targets that a fit trains on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...core.specs import Loss
from ...data.arrays import Array
from ...data.rows import Rows

NEEDS = "standardize_targets works with mse, half_sse, mae, huber, smooth_l1, log_cosh, quantile and gaussian_nll"


def check(losses: Sequence[Any]) -> None:
    """ValueError if one of the losses, one per output, cannot learn from scaled targets."""
    for i, loss in enumerate(losses):
        if not isinstance(loss, Loss):
            what = "no loss" if loss is None else "a loss of your own, which can scale targets itself"
            raise ValueError(f"Trainer: {NEEDS}; output {i} has {what}")
        if loss.detail != "identity" or loss.name == "hinge":
            hint = 'with several outputs, call net.set_output(i, "identity", mean=..., std=...) for those with other losses'
            raise ValueError(f"Trainer: {NEEDS}, but the targets of {loss.name} (output {i}) have no unit; {hint}")


def of_targets(rows: Rows, i: int, loss: Loss, columns: int) -> tuple[Array, Array]:
    """The mean and the standard deviation for each column of output i, from the targets that are there."""
    y = np.asarray(rows.ys[i], np.float64).reshape(rows.count, -1)
    weight = rows.weight_of(i)
    there = np.broadcast_to(True if weight is None else (weight > 0).reshape(rows.count, -1), y.shape)
    found = [_of_column(column[chosen], i, j) for j, (column, chosen) in enumerate(zip(y.T, there.T, strict=True))]
    mean, std = np.array(found).T
    if loss.name == "gaussian_nll":  # its second half are logarithms of variances
        return np.concatenate([mean, 2 * np.log(std)]), np.concatenate([std, np.ones(len(std))])
    return np.tile(mean, columns // len(mean)), np.tile(std, columns // len(std))


def _of_column(values: Array, i: int, j: int) -> tuple[float, float]:
    """(0, 1) without values. The standard deviation is 1 for values that differ by rounding errors only."""
    if len(values) == 0:
        return 0.0, 1.0
    with np.errstate(all="ignore"):
        mean, variance = float(values.mean()), float(values.var())
    if not np.isfinite([mean, variance]).all():
        raise ValueError(f"standardize_targets: column {j} of the targets of output {i} contains values that are not finite")
    rounding = len(values) * np.finfo(np.float64).eps
    constant = variance <= rounding * variance + (rounding * mean) ** 2
    return mean, 1.0 if constant else float(np.sqrt(variance))
