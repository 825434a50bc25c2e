"""Read-only records of a network's nodes, layers, inputs and outputs. They are created on each access, because settings may change."""

from __future__ import annotations

from typing import NamedTuple, cast

from ..core.backend import CoreNet
from ..core.specs import OutputActivationName


class NodeInfo(NamedTuple):
    """A node. `node` is its number, which `print(net)` shows and `predict(at=...)` accepts."""

    node: int
    operation: str  # "input", "dense", "activation", "add", ...
    operands: tuple[int, ...]  # the numbers of its operand nodes
    width: int
    layer: str | None  # the name of its layer
    activation: str | None  # of a dense or an activation node
    amount: float | None  # the rate of a dropout node, the std of a noise node


class LayerInfo(NamedTuple):
    """A layer: its sizes and settings, and the nodes where it is used. kind: dense, batch_norm or layer_norm. For a normalization
    layer, `inputs` and `units` both equal its width, and its settings are `lr`, `eps` and (batch_norm only) `momentum`."""

    name: str
    inputs: int
    units: int
    activation: str
    init: str
    bias: bool
    frozen: bool
    lr: float  # multiplies the optimizer's learning rate
    l1: float  # penalties of the weights
    l2: float
    max_norm: float | None  # of each unit's incoming weights; None: no limit
    nodes: tuple[int, ...]
    kind: str = "dense"
    eps: float | None = None
    momentum: float | None = None

    @property
    def parameters(self) -> int:
        """The number of trained parameters."""
        return self.units * ((self.inputs if self.kind == "dense" else 1) + self.bias)


class InputInfo(NamedTuple):
    """An input: its node, and the number of its features."""

    node: int
    width: int


class OutputInfo(NamedTuple):
    """An output: its node, its width, and the activation that predictions apply to it (None: not set yet)."""

    node: int
    width: int
    activation: OutputActivationName | None


def nodes(core: CoreNet) -> list[NodeInfo]:
    """All nodes, in the order of their numbers."""
    names = [layer[0] for layer in core.layers()]
    found = []
    for i, (operation, operands, width, layer, activation, amount) in enumerate(core.nodes()):
        is_random = operation in ("dropout", "noise")
        name = names[layer] if layer >= 0 else None
        found.append(NodeInfo(i, operation, operands, width, name, activation or None, amount if is_random else None))
    return found


def layers(core: CoreNet) -> list[LayerInfo]:
    """The layers with parameters, in the order of their first use."""
    rows = core.layers()
    uses: list[list[int]] = [[] for _ in rows]
    for i, (_, _, _, number, _, _) in enumerate(core.nodes()):
        if number >= 0:
            uses[number].append(i)
    return [
        LayerInfo(
            name=name,
            inputs=inputs,
            units=units,
            activation=activation or "identity",
            init=init,
            bias=bias,
            frozen=frozen,
            lr=settings["lr"],
            l1=settings.get("l1", 0.0),
            l2=settings.get("l2", 0.0),
            max_norm=settings.get("max_norm") or None,
            nodes=tuple(used),
            kind=kind,
            eps=settings.get("eps"),
            momentum=settings.get("momentum"),
        )
        for (name, kind, inputs, units, activation, init, bias, frozen, settings), used in zip(rows, uses, strict=True)
    ]


def inputs(core: CoreNet) -> list[InputInfo]:
    """The inputs, in the order of X."""
    return [InputInfo(i, width) for i, (operation, _, width, _, _, _) in enumerate(core.nodes()) if operation == "input"]


def outputs(core: CoreNet) -> list[OutputInfo]:
    """The outputs, in the order of predictions."""
    widths = [node[2] for node in core.nodes()]
    return [OutputInfo(node, widths[node], cast("OutputActivationName | None", activation)) for node, activation in core.outputs()]
