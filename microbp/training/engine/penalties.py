"""The layers' penalties, l1 |w|_1 + l2 / 2 |w|_2^2, whose gradient a backward pass adds to that of the loss."""

from __future__ import annotations

import numpy as np

from ...network.network import Network


def of_net(net: Network) -> float:
    """The sum over the layers."""
    total = 0.0
    for layer in net.layers:
        if layer.l1 or layer.l2:
            weight = net.tensors[f"{layer.name}.weight"]
            total += float(layer.l1 * np.abs(weight).sum() + layer.l2 / 2 * (weight**2).sum())
    return total
