"""The statistics of bp.Standardize layers from the rows of several processes: as Network.standardize computes them from rows of one."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ...data.arrays import Array
from ...network.network import Network

Gather = Callable[[Array], list[Array]]  # of an array of this process, those of all, in their order; alone, it is the only one


def alone(array: Array) -> list[Array]:
    """What one process gathers."""
    return [array]


def added(gather: Gather, values: Any) -> Array:
    """The sums over all processes, in their order."""
    total, *others = gather(np.asarray(values, np.float64)[None])
    for other in others:
        total = total + other
    return np.asarray(total[0])


def standardize(net: Network, xs: Sequence[Any], layers: Sequence[str], gather: Gather) -> None:
    """Sets mean and std of these layers, in their order, because one may depend on those before it. xs: the inputs of this process."""
    for name in layers:
        node = next(node for node in net.nodes if node.layer == name)
        values = np.asarray(net.predict(xs[0] if len(xs) == 1 else list(xs), at=node.operands[0]), np.float64).reshape(-1, node.width)
        if not (finite := np.isfinite(values)).all():
            row, column = np.argwhere(~finite)[0].tolist()
            row //= np.prod(node.grid, dtype=int)
            raise ValueError(f"row {row}, column {column} of node {node.operands[0]} is not finite, so layer {name} has no mean")
        count = float(added(gather, len(values)))
        mean = added(gather, values.sum(axis=0)) / count
        variance = added(gather, np.square(values - mean).sum(axis=0)) / count
        rounding = count * sys.float_info.epsilon
        constant = variance <= rounding * variance + np.square(rounding * mean)
        net.tensors[f"{name}.mean"][...] = mean
        net.tensors[f"{name}.std"][...] = np.where(constant, 1, np.sqrt(variance))
