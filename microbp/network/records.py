"""Read-only records of a network's nodes, layers, inputs and outputs."""

from __future__ import annotations

import re
from collections import Counter
from functools import cached_property
from typing import NamedTuple, cast

from ..core.backend import CoreNet
from ..core.specs import OutputActivationName


class WindowInfo(NamedTuple):
    """A window or a pool: pairs, for the height and the width. kind: "max" or "mean"; of a window, as in bp.Conv, ""."""

    size: tuple[int, int]
    stride: tuple[int, int]
    pad: tuple[int, int]
    dilation: tuple[int, int]
    kind: str


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
    grid: tuple[int, ...] = ()  # the positions of a row: () for one, (length,), (height, width); `width` is the columns of each
    window: WindowInfo | None = None  # of a window or a pool
    reverse: bool | None = None  # of a recurrent node: whether it runs from the last position to the first

    @property
    def row_shape(self) -> tuple[int, ...]:
        """The shape of a row's values."""
        return (*self.grid, self.width)


class LayerInfo(NamedTuple):
    """A layer: its sizes and settings, and the nodes where it is used. kind: dense, embedding, recurrent, batch_norm, layer_norm, scale or
    standardize. `inputs` of an embedding are its levels; for all others but dense and recurrent layers, `inputs` and `units` both equal its
    width.
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
    cell: str | None = None  # of a recurrent layer: "tanh", "gru" or "lstm"
    recurrent_init: str = ""  # of a recurrent layer: the weights of its state; init: those of its inputs

    @property
    def parameters(self) -> int:
        """The number of trained parameters."""
        if self.cell:
            gates = {"tanh": 1, "gru": 3, "lstm": 4}[self.cell]
            return self.units * ((self.inputs + self.units) * gates + self.bias * (gates + (self.cell == "gru")))
        return self.units * ((self.inputs if self.kind in ("dense", "embedding") else self.gain) + self.bias)


class InputInfo(NamedTuple):
    """An input: its node, and the number of its features, or of its columns of ids. row_shape: (width,), or that of a bp.Grid or
    a bp.Sequence. levels, hash: of ids, as in NodeInfo."""

    node: int
    width: int
    row_shape: tuple[int, ...]
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
    grid: tuple[int, ...] = ()  # the positions of a row, each with `width` columns

    @property
    def row_shape(self) -> tuple[int, ...]:
        """The shape of a row's predictions."""
        return (*self.grid, self.width)


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
        for i, (operation, operands, width, layer, activation, amount, columns, levels, hash, places, window, reverse) in enumerate(
            self._core.nodes()
        ):
            is_random = operation in ("dropout", "noise")
            name = names[layer] if layer >= 0 else None
            settings = amount if is_random else None, columns if operation == "slice" else None
            ids: tuple[int | None, bool | None] = (levels, hash) if operation == "ids" else (None, None)
            grid = places if places[0] > 1 else places[1:] if places[1] > 1 else ()
            shape = grid, window and WindowInfo(*window)
            direction = reverse if operation == "recurrent" else None
            found.append(NodeInfo(i, operation, operands, width, name, activation or None, *settings, *ids, *shape, reverse=direction))
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

    @cached_property
    def carried_names(self) -> list[str]:
        """The names of the recurrent nodes that a state has, in their order: of those that start from zeros, and that an output depends on.
        The name of the layer; where a layer is used again, with the number of the node."""
        used = {node for node, _, _ in self._core.outputs()}
        for node in reversed(self.nodes):
            used.update(node.operands if node.node in used else ())
        names: list[str] = []
        for node in self.nodes:
            if node.operation == "recurrent" and len(node.operands) == 1 and node.node in used:
                names.append(f"{node.layer}:{node.node}" if node.layer in names else str(node.layer))
        return names

    def _read_layers(self) -> list[LayerInfo]:
        rows = self._core.layers()
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
                cell=cell or None,
                recurrent_init=recurrent_init,
            )
            for name, kind, inputs, units, activation, init, bias_init, gain, bias, frozen, settings, sums, cell, recurrent_init in rows
        ]

    @cached_property
    def inputs(self) -> list[InputInfo]:
        """The inputs, in the order of X."""
        shapes: dict[int, set[tuple[int, ...]]] = {node.node: set() for node in self.nodes if node.operation in ("input", "ids")}
        for node in self.nodes:
            for operand in node.operands:
                if operand in shapes:  # the positions as which the node sees the input
                    shapes[operand].add(node.row_shape if node.operation == "grid" else self.nodes[operand].row_shape)
        found = [(self.nodes[i], seen.pop() if len(seen) == 1 else (self.nodes[i].width,)) for i, seen in shapes.items()]
        return [InputInfo(node.node, node.width, shape, node.levels, node.hash) for node, shape in found]

    @property
    def outputs(self) -> list[OutputInfo]:
        """The outputs, in the order of predictions."""
        return [
            OutputInfo(
                node,
                self.nodes[node].width,
                cast("OutputActivationName | None", activation),
                name,
                mean=tuple(scale[0]) if scale else None,
                std=tuple(scale[1]) if scale else None,
                grid=self.nodes[node].grid,
            )
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
