"""What a graph text says, read back for `net.layers`, `net.inputs`, `net.outputs` and `print(net)`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

_LAYERS = ("dense", "batch_norm", "layer_norm")  # operations with parameters


@dataclass(frozen=True)
class Statement:
    """A node of the network: a line of the graph text."""

    node: int
    operation: str
    operands: tuple[int, ...]
    width: int
    detail: str  # the layer's name, the activation, or the settings


@dataclass(frozen=True)
class Layer:
    """A layer: its sizes and settings, and the nodes where it is used. kind: dense, batch_norm or layer_norm; of a norm, inputs and units
    are its width, and the settings are `eps` and `momentum`."""

    name: str
    inputs: int
    units: int
    activation: str
    init: str
    bias: bool
    frozen: bool
    lr: float  # factor of the optimizer's learning rate
    l1: float  # penalties of the weights
    l2: float
    max_norm: float | None  # of each unit's incoming weights; None: no limit
    nodes: tuple[int, ...]
    kind: str = "dense"
    eps: float | None = None
    momentum: float | None = None

    @property
    def parameters(self) -> int:
        """How many numbers it learns."""
        return self.units * ((self.inputs if self.kind == "dense" else 1) + self.bias)


@dataclass(frozen=True)
class InputInfo:
    """An input: its node and its features per row."""

    node: int
    width: int


@dataclass(frozen=True)
class OutputInfo:
    """An output: its node, its numbers per row, and the activation that predictions apply to them; None: not chosen."""

    node: int
    width: int
    activation: str | None


@dataclass
class Description:
    """A whole network."""

    nodes: list[Statement] = field(default_factory=list)
    layers: dict[str, Layer] = field(default_factory=dict)
    outputs: list[OutputInfo] = field(default_factory=list)

    @property
    def inputs(self) -> list[InputInfo]:
        return [InputInfo(node.node, node.width) for node in self.nodes if node.operation == "input"]


def read(text: str) -> Description:
    """The description that a canonical graph text holds."""
    description = Description()
    for line in text.splitlines():
        operation, *words = line.split()
        if operation == "output":
            node = int(words[0])
            activation = words[1].partition("=")[2] if len(words) > 1 else None
            description.outputs.append(OutputInfo(node, description.nodes[node].width, activation))
        else:
            description.nodes.append(_statement(description, operation, words))
    return description


def _statement(description: Description, operation: str, words: list[str]) -> Statement:
    node = len(description.nodes)
    if operation == "input":
        return Statement(node, operation, (), int(words[0]), "")
    operands = tuple(int(word) for word in words if word.isdecimal())
    widths = [description.nodes[operand].width for operand in operands]
    if operation in _LAYERS:
        layer = _layer(description, node, operation, widths[0], dict(word.split("=", 1) for word in words[1:]))
        return Statement(node, operation, operands, layer.units, layer.name)
    width = sum(widths) if operation == "concat" else widths[0]
    return Statement(node, operation, operands, width, " ".join(words[len(operands) :]))


def _layer(description: Description, node: int, kind: str, width: int, attributes: dict[str, str]) -> Layer:
    name = attributes["layer"]
    known = description.layers.get(name)
    if known is None:
        layer = Layer(
            name=name,
            inputs=width,
            units=int(attributes.get("units", width)),
            activation=attributes.get("activation", "identity"),
            init=attributes.get("init", ""),
            bias=attributes.get("bias", "1") == "1",
            frozen=attributes["frozen"] == "1",
            lr=_number(attributes["lr"]),
            l1=_number(attributes.get("l1", "0")),
            l2=_number(attributes.get("l2", "0")),
            max_norm=_number(attributes.get("max_norm", "0")) or None,
            nodes=(node,),
            kind=kind,
            eps=_number(attributes["eps"]) if "eps" in attributes else None,
            momentum=_number(attributes["momentum"]) if "momentum" in attributes else None,
        )
    else:
        layer = Layer(**{**vars(known), "nodes": (*known.nodes, node)})
    description.layers[name] = layer
    return layer


def _number(text: str) -> float:
    return float.fromhex(text) if "x" in text else float(text)


def table(description: Description) -> str:
    """The network as `print(net)` shows it: a line per node, then the totals."""
    rows: list[tuple[str, ...]] = [("node", "operation", "from", "width", "activation", "parameters", "")]
    rows += [_row(description, statement) for statement in description.nodes]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)


def _row(description: Description, node: Statement) -> tuple[str, ...]:
    layer = description.layers.get(node.detail) if node.operation in _LAYERS else None
    start = str(node.node), layer.name if layer else node.operation, ", ".join(map(str, node.operands)), str(node.width)
    if layer is None:
        return (*start, node.detail, "", _role(description.outputs, node.node))
    first = layer.nodes[0] == node.node
    parameters = f"{layer.parameters:,}" if first else "shared"
    remarks = ["frozen"] if layer.frozen else []
    remarks += [f"{name} {value:g}" for name, value, usual in _settings(layer) if value is not None and value != usual]
    remarks += [role] if (role := _role(description.outputs, node.node)) else []
    return (*start, "" if layer.activation == "identity" else layer.activation, parameters, ", ".join(remarks))


def _settings(layer: Layer) -> list[tuple[str, float | None, float]]:
    """A layer's settings: name, value and default."""
    return [("lr", layer.lr, 1.0), ("l1", layer.l1, 0.0), ("l2", layer.l2, 0.0), ("max norm", layer.max_norm, 0.0)]


def _role(outputs: Sequence[OutputInfo], node: int) -> str:
    return next((f"output ({output.activation})" if output.activation else "output" for output in outputs if output.node == node), "")
