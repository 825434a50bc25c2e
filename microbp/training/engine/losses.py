"""Parses the losses of a trainer and checks them against the network's outputs."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence, Set
from typing import Any

import numpy as np

from ...core.checks import floating
from ...core.specs import Loss
from ...core.text import brief, counted
from ...data.by_output import listed
from ...network.network import Network
from ...network.nodes import Layer
from ...network.records import NodeInfo, OutputInfo
from .custom_loss import CustomLoss, Joint


def parse(loss: Any, net: Network) -> tuple[Loss | CustomLoss | Joint | None, ...]:
    """One loss per output, from a loss or a list of them. All are None if the caller brings gradients of his own."""
    count = len(net.outputs)
    if loss is None:
        return (None,) * count
    if count > 1 and _is_function(loss):
        return (Joint(loss),) * count
    if isinstance(loss, Mapping):
        loss = listed(loss, [output.name for output in net.outputs], "Trainer: loss")
    losses = list(loss) if isinstance(loss, list | tuple) else [loss]
    for one in losses:
        if not (isinstance(one, str | Loss) or _is_function(one)):
            raise TypeError(f"Trainer: a loss must be a name, a bp.Loss or a function, not {_instead(one)}")
    if len(losses) != count:
        contents = f"the network has {counted(count, 'output')}, but loss contains {counted(len(losses), 'loss')}"
        raise ValueError(f"Trainer: {contents}; pass one loss per output, or one function for all")
    parsed = tuple(one if callable(one) else Loss.parse(one) for one in losses)
    nodes = net.nodes
    for i, (output, one) in enumerate(zip(net.outputs, parsed, strict=True)):
        if isinstance(one, Loss):
            _refuse_activation_twice(nodes[output.node], one)
            refuse_other_activation("Trainer", i, output, one)
    return parsed


def as_argument(losses: Sequence[Any]) -> Any:
    """What the constructor takes for these losses, one per output."""
    return losses[0].function if isinstance(losses[0], Joint) else list(losses) if any(losses) else None


def _is_function(loss: Any) -> bool:
    return callable(loss) and not isinstance(loss, type | Layer | Network)


def _instead(wrong: Any) -> str:
    """Something that is no loss, and what to write instead."""
    if wrong is None:
        return "None; for gradients of your own, pass loss=None instead of a list"
    if isinstance(wrong, Layer):
        return f"{brief(wrong)}; a layer belongs to the network: bp.Network(x, layer(node))"
    if isinstance(wrong, Network):
        return (
            "a network; to train through another network, put both into one graph, as in bp.Network(x, other(node)), and freeze its layers"
        )
    return brief(wrong)


def parse_weights(
    loss_weights: Sequence[float] | Mapping[Any, float] | None,
    losses: Sequence[Loss | CustomLoss | Joint | None],
    names: Sequence[str],
) -> tuple[float, ...]:
    """A factor for each output, 1 by default. names: of the outputs."""
    count = len(losses)
    if loss_weights is None:
        return (1.0,) * count
    if isinstance(loss_weights, Mapping):
        loss_weights = listed(loss_weights, names, "Trainer: loss_weights", 1.0)
    what = f"a list of {counted(count, 'number')}, one per output, each finite and at least 0"
    try:
        if isinstance(loss_weights, bytes | bytearray | Set | np.ma.MaskedArray):
            raise TypeError
        weights = tuple(floating("Trainer: loss_weights", weight) for weight in loss_weights)
    except TypeError:
        raise TypeError(f"Trainer: loss_weights must be {what}, not {brief(loss_weights)}") from None
    if len(weights) != count or not all(0 <= weight < math.inf for weight in weights):
        raise ValueError(f"Trainer: loss_weights must be {what}, not {brief(loss_weights)}")
    if (losses[0] is None or isinstance(losses[0], Joint)) and set(weights) != {1.0}:
        without = "loss=None has no losses" if losses[0] is None else "one function for all outputs weighs them itself"
        raise ValueError(f"Trainer: loss_weights needs one loss per output, but {without}")
    return weights


@contextlib.contextmanager
def accepted(net: Network, losses: Sequence[Loss | CustomLoss | Joint | None]) -> Iterator[None]:
    """Inside the block, the network accepts these losses: output activations that they do not imply are removed, and restored afterwards.

    Predictions of other threads see this; they do not if each output has the activation that its loss implies, as is usual.
    """
    pairs = zip(net.outputs, losses, strict=False)  # the constructor refuses another number of losses
    others = {i: output for i, (output, loss) in enumerate(pairs) if isinstance(loss, Loss) and output.activation != loss.detail}
    try:
        for i in others:
            net.set_output(i, None)
        yield
    finally:
        for i, output in others.items():
            net.set_output(i, output.activation, output.mean, output.std)


def refuse_other_activation(call: str, i: int, output: OutputInfo, loss: Loss) -> None:
    """ValueError if the loss implies another activation than the one that is chosen for output i."""
    if output.activation not in (None, loss.detail):
        raise ValueError(
            f'{call}: output {i} has the activation {output.activation}, but the loss "{loss.name}" needs {loss.detail}; to change it, '
            f'call net.set_output({i}, "{loss.detail}")'
        )


def _refuse_activation_twice(node: NodeInfo, loss: Loss) -> None:
    if node.activation == loss.detail != "identity":
        raise ValueError(
            f'Trainer: the output (node {node.node}) has the activation {node.activation}, which the loss "{loss.name}" already '
            f"includes; use bp.Dense({node.width}) without activation; net.predict(X) applies the {node.activation}"
        )
