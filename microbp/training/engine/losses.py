"""The losses of a trainer: read, and checked against the network's outputs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ...core.specs import Loss
from ...network.network import Network
from ...network.records import NodeInfo, OutputInfo
from .own_loss import OwnLoss


def parse(loss: Any, net: Network) -> tuple[Loss | OwnLoss, ...]:
    """One loss per output, from a loss or a list of them."""
    count = len(net.outputs)
    losses = list(loss) if isinstance(loss, list | tuple) else [loss]
    if len(losses) != count:
        raise ValueError(f"Trainer: loss must be a list of {count} losses, one per output of the network, not {len(losses)}")
    parsed = tuple(one if callable(one) else Loss.parse(one) for one in losses)
    named = [one for one in parsed if isinstance(one, Loss)]
    if named and len(named) < count:
        raise ValueError("Trainer: either every output has a named loss, or every output has a function of your own")
    nodes = net.nodes
    for i, (output, one) in enumerate(zip(net.outputs, parsed, strict=True)):
        if isinstance(one, Loss):
            _refuse_activation_twice(nodes[output.node], one)
            _refuse_other_activation(i, output, one)
    return parsed


def parse_weights(loss_weights: Sequence[float] | None, count: int) -> tuple[float, ...]:
    """A factor per output; None: ones."""
    weights = (1.0,) * count if loss_weights is None else tuple(float(weight) for weight in loss_weights)
    if len(weights) != count or not all(0 <= weight < math.inf for weight in weights):
        raise ValueError(f"Trainer: loss_weights must be {count} finite numbers of at least 0, one per output, not {loss_weights!r}")
    return weights


def _refuse_other_activation(i: int, output: OutputInfo, loss: Loss) -> None:
    if output.activation not in (None, loss.detail):
        raise ValueError(
            f'Trainer: output {i} has the activation {output.activation}, but the loss "{loss.name}" implies {loss.detail}; to change what '
            f'predictions mean: net.set_output({i}, "{loss.detail}")'
        )


def _refuse_activation_twice(node: NodeInfo, loss: Loss) -> None:
    if node.activation == loss.detail != "identity":
        raise ValueError(
            f'Trainer: the output (node {node.node}) ends in {node.activation}, which the loss "{loss.name}" applies itself: write '
            f"bp.Dense({node.width}) without activation; net.predict(X) gives the {node.activation} of the outputs"
        )
