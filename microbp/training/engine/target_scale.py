"""The unit of targets: which losses learn from scaled targets, and the mean and standard deviation of targets that a fit trains on."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from ...core.specs import Loss
from ...data.arrays import Array
from ...data.rows import Rows
from ...network.network import Network
from .losses import refuse_other_activation
from .moments import Gather, added

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


def check_activations(net: Network, outputs: Sequence[tuple[int, Loss]]) -> None:
    """ValueError if one of these outputs has an activation that was chosen after the trainer was made."""
    for i, loss in outputs:
        refuse_other_activation("standardize_targets", i, net.outputs[i], loss)


def set_unit(net: Network, rows: Rows, i: int, loss: Loss, columns: int, gather: Gather) -> None:
    """Sets mean and std of output i from its targets, in all processes. ValueError: its dtype cannot hold them."""
    mean, std = _of_targets(rows, i, loss, columns, gather)
    try:
        net._core.set_scale(i, mean, std)
    except ValueError as error:
        raise ValueError(f"standardize_targets: output {i}: {error}") from None


def _of_targets(rows: Rows, i: int, loss: Loss, columns: int, gather: Gather) -> tuple[Array, Array]:
    """The mean and the standard deviation for each column of output i, from the targets that are there."""
    y = np.asarray(rows.ys[i], np.float64)
    y = y.reshape(rows.count, math.prod(y.shape[1:]))
    weight = rows.weight_of(i)
    there = np.broadcast_to(True if weight is None else (weight > 0).reshape(rows.count, -1), y.shape)
    found = [_of_column(column[chosen], i, j, gather) for j, (column, chosen) in enumerate(zip(y.T, there.T, strict=True))]
    mean, std = np.array(found).T
    if loss.name == "gaussian_nll":  # its second half are logarithms of variances
        return np.concatenate([mean, 2 * np.log(std)]), np.concatenate([std, np.ones(len(std))])
    return np.tile(mean, columns // len(mean)), np.tile(std, columns // len(std))


def _of_column(values: Array, i: int, j: int, gather: Gather) -> tuple[float, float]:
    """(0, 1) without values. The standard deviation is 1 for values that differ by rounding errors only. As src/train/fitting/targets.c."""
    counts, largests = zip(*(one[0] for one in gather(np.array([[len(values), np.abs(values).max(initial=0)]]))), strict=True)
    count, largest = sum(counts), float(np.max(largests))
    if count == 0:
        return 0.0, 1.0
    if not np.isfinite(largest):
        raise ValueError(f"standardize_targets: column {j} of the targets of output {i} contains values that are not finite")
    # Squares of larger numbers would overflow, and those of smaller ones underflow. A power of 2 changes no digit.
    unit = 2.0**600 if largest > 2.0**400 else 2.0**-600 if largest < 2.0**-400 else 1.0
    values = values * (1 / unit)
    mean = float(added(gather, _sum(values))) / count
    variance = float(added(gather, _sum((values - mean) * (values - mean)))) / count
    rounding = count * sys.float_info.epsilon
    constant = variance <= rounding * variance + (rounding * mean) * (rounding * mean)
    return mean * unit, 1.0 if constant else unit * math.sqrt(variance)


def _sum(values: Array) -> float:
    """The sum of a vector: of each 64 numbers in a row, then of pairs of these sums, of pairs of those, ... The rounding errors do not grow
    with the number of rows."""
    leaves = np.zeros((-(-len(values) // 64), 64))
    leaves.reshape(-1)[: len(values)] = values
    sums, total = np.add.accumulate(leaves, axis=1)[:, -1], 0.0
    while len(sums):
        if len(sums) % 2:
            total = float(sums[-1]) + total
        sums = sums[0:-1:2] + sums[1::2]
    return total
