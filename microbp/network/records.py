"""Read-only records of a network's nodes, layers, inputs and outputs."""

from __future__ import annotations

import re
from collections import Counter
from functools import cached_property
from typing import NamedTuple, cast

from ..core.backend import CoreNet
from ..core.specs import OutputActivationName


class NodeInfo(NamedTuple):
    """A node. `node` is its number, which `print(net)` shows and `predict(at=...)` accepts."""

    node: int
    operation: str  # "input", "ids", "dense", "embedding", "activation", "add", ...
    operands: tuple[int, ...]  # the numbers of its operand nodes
    width: int
    layer: str | None  # the name of its layer
    activation: str | None  # of a dense or an activation node
    amount: float | None  # the rate of a dropout node, the std of a noise node
    columns: tuple[int, int] | None = None  # of a slice: its first column, and the one after its last
    levels: int | None = None  # of ids, which are from 0 to levels - 1
    hash: bool | None = None  # of ids: whether any number is hashed to a level


class LayerInfo(NamedTuple):
    """A layer: its sizes and settings, and the nodes where it is used. kind: dense, embedding, batch_norm, layer_norm, scale or
    standardize. `inputs` of an embedding are its levels; for all others but a dense layer, `inputs` and `units` both equal its width.
    A normalization layer has the settings `lr`, `eps` and (batch_norm only) `momentum`, a scale only `lr`, an embedding `lr` and
    `max_norm`; standardize has no parameters."""

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
    max_norm: float | None  # of each unit's incoming weights, or each row of an embedding; None: no limit
    nodes: tuple[int, ...]
    kind: str = "dense"
    eps: float | None = None
    momentum: float | None = None
    gain: bool = True  # False: a scale without a factor
    bias_lr: float | None = None  # multiplies the optimizer's learning rate for the bias; None: lr does
    bias_init: str = ""  # of a dense layer with a bias
    combine: str | None = None  # of an embedding: "concat" or "sum"

    @property
    def parameters(self) -> int:
        """The number of trained parameters."""
        return self.units * ((self.inputs if self.kind in ("dense", "embedding") else self.gain) + self.bias)


class InputInfo(NamedTuple):
    """An input: its node, and the number of its features, or of its columns of ids. levels, hash: of ids, as in NodeInfo."""

    node: int
    width: int
    levels: int | None = None
    hash: bool | None = None


class OutputInfo(NamedTuple):
    """An output: its node, its width, the activation that predictions apply to it (None: not set yet), and its name.

    name: that of the layer that makes the output, if you gave one: bp.Dense(3, name="policy"). Activations, dropout and noise after the
    layer do not matter. Without such a name, or if two outputs have the same, the output's number: "0", "1".
    mean, std: of the targets, one number per column: predictions are mean + std x raw output. None: predictions are raw outputs.
    """

    node: int
    width: int
    activation: OutputActivationName | None
    name: str
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None


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
        for i, (operation, operands, width, layer, activation, amount, columns, levels, hash) in enumerate(self._core.nodes()):
            is_random = operation in ("dropout", "noise")
            name = names[layer] if layer >= 0 else None
            ids = (levels, hash) if operation == "ids" else (None, None)
            settings = amount if is_random else None, columns if operation == "slice" else None, *ids
            found.append(NodeInfo(i, operation, operands, width, name, activation or None, *settings))
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

    @cached_property
    def parameters(self) -> int:
        """The number of parameters of the layers."""
        return sum(layer.parameters for layer in self.layers)

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
                lr=settings.get("lr", 1.0),
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
                combine=("sum" if sums else "concat") if kind == "embedding" else None,
            )
            for name, kind, inputs, units, activation, init, bias_init, gain, bias, frozen, settings, sums in self._core.layers()
        ]

    @cached_property
    def inputs(self) -> list[InputInfo]:
        """The inputs, in the order of X."""
        return [InputInfo(node.node, node.width, node.levels, node.hash) for node in self.nodes if node.operation in ("input", "ids")]

    @property
    def outputs(self) -> list[OutputInfo]:
        """The outputs, in the order of predictions."""
        return [
            OutputInfo(node, self.nodes[node].width, cast("OutputActivationName | None", activation), name, *map(tuple, scale or ()))
            for (node, activation, scale), name in zip(self._core.outputs(), self._output_names, strict=True)
        ]

    @cached_property
    def _output_names(self) -> list[str]:
        given = [self._given_name(node) for node, _, _ in self._core.outputs()]
        counts = Counter(given)
        return [str(i) if name is None or counts[name] > 1 else name for i, name in enumerate(given)]

    def _given_name(self, node: int) -> str | None:
        """The name that the user gave to the layer that makes the node; None: none. A number is no name: it is another output's."""
        at = self.nodes[node]
        while at.operation in ("activation", "dropout", "noise"):
            at = self.nodes[at.operands[0]]
        is_default = at.layer is None or at.layer.isdecimal() or re.fullmatch(rf"{at.operation}_\d+", at.layer)
        return None if is_default else at.layer
