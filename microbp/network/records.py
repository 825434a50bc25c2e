"""Read-only records of a network's nodes, layers, inputs and outputs."""

from __future__ import annotations

from functools import cached_property
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
    """A layer: its sizes and settings, and the nodes where it is used. kind: dense, batch_norm, layer_norm or scale. For a normalization
    layer, `inputs` and `units` both equal its width, and its settings are `lr`, `eps` and (batch_norm only) `momentum`. So do they for a
    scale, whose only setting is `lr`."""

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
    gain: bool = True  # False: a scale without a factor
    bias_lr: float | None = None  # multiplies the optimizer's learning rate for the bias; None: lr does
    bias_init: str = ""  # of a dense layer with a bias

    @property
    def parameters(self) -> int:
        """The number of trained parameters."""
        return self.units * ((self.inputs if self.kind == "dense" else self.gain) + self.bias)


class InputInfo(NamedTuple):
    """An input: its node, and the number of its features."""

    node: int
    width: int


class OutputInfo(NamedTuple):
    """An output: its node, its width, and the activation that predictions apply to it (None: not set yet)."""

    node: int
    width: int
    activation: OutputActivationName | None


class Records:
    """The records of one net. Its graph cannot change, so nodes and inputs are read once. Layers are read again after `changed`. Outputs
    are read on each access, because a trainer may set their activations."""

    def __init__(self, core: CoreNet) -> None:
        self._core = core
        self._changes = 0
        self._layers: tuple[int, list[LayerInfo]] = (-1, [])  # with the number of changes before they were read

    def changed(self) -> None:
        """Must be called after settings of layers were changed."""
        self._changes += 1

    @cached_property
    def nodes(self) -> list[NodeInfo]:
        """All nodes, in the order of their numbers."""
        names = self.layer_names
        found = []
        for i, (operation, operands, width, layer, activation, amount) in enumerate(self._core.nodes()):
            is_random = operation in ("dropout", "noise")
            name = names[layer] if layer >= 0 else None
            found.append(NodeInfo(i, operation, operands, width, name, activation or None, amount if is_random else None))
        return found

    @cached_property
    def layer_names(self) -> list[str]:
        """The names of the layers, in order."""
        return [row[0] for row in self._core.layers()]

    @cached_property
    def uses(self) -> dict[str, list[NodeInfo]]:
        """The nodes where each layer is used, by the layer's name."""
        found: dict[str, list[NodeInfo]] = {name: [] for name in self.layer_names}
        for node in self.nodes:
            if node.layer is not None:
                found[node.layer].append(node)
        return found

    @property
    def layers(self) -> list[LayerInfo]:
        """The layers with parameters, in the order of their first use."""
        changes, found = self._layers
        if changes != self._changes:
            changes = self._changes  # before reading: if another thread changes a layer meanwhile, they are read again
            found = self._read_layers()
            self._layers = changes, found
        return found

    def _read_layers(self) -> list[LayerInfo]:
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
                nodes=tuple(node.node for node in self.uses[name]),
                kind=kind,
                eps=settings.get("eps"),
                momentum=settings.get("momentum"),
                gain=gain,
                bias_lr=own if (own := settings.get("bias_lr", -1.0)) >= 0 else None,
                bias_init=bias_init,
            )
            for name, kind, inputs, units, activation, init, bias_init, gain, bias, frozen, settings in self._core.layers()
        ]

    @cached_property
    def inputs(self) -> list[InputInfo]:
        """The inputs, in the order of X."""
        return [InputInfo(node.node, node.width) for node in self.nodes if node.operation == "input"]

    @property
    def outputs(self) -> list[OutputInfo]:
        """The outputs, in the order of predictions."""
        rows = self._core.outputs()
        return [OutputInfo(node, self.nodes[node].width, cast("OutputActivationName | None", activation)) for node, activation in rows]
