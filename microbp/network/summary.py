"""A network as a table, for `print(net)` and notebooks. One row per node."""

from __future__ import annotations

from collections.abc import Sequence

from ..core.backend import CoreNet
from . import records
from .records import LayerInfo, NodeInfo, OutputInfo

Row = tuple[str, str, str, str, str, str, str]
_HEAD: Row = ("node", "operation", "from", "width", "activation", "parameters", "")


def text(core: CoreNet) -> str:
    """The table as text, in aligned columns."""
    table = [_HEAD, *_rows(core)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table)


def html(core: CoreNet, title: str) -> str:
    """The table as HTML."""
    from html import escape  # only notebooks need it

    def line(tag: str, row: Row) -> str:
        return f"<tr>{''.join(f'<{tag}>{escape(cell)}</{tag}>' for cell in row)}</tr>"

    body = "\n".join(line("td", row) for row in _rows(core))
    head = line("th", _HEAD)
    return f"<table>\n<caption>{escape(title)}</caption>\n<thead>{head}</thead>\n<tbody>\n{body}\n</tbody>\n</table>"


def _rows(core: CoreNet) -> list[Row]:
    layers = {layer.name: layer for layer in records.layers(core)}
    outputs = records.outputs(core)
    return [_row(node, layers.get(node.layer or ""), outputs) for node in records.nodes(core)]


def _row(node: NodeInfo, layer: LayerInfo | None, outputs: Sequence[OutputInfo]) -> Row:
    operands, role = ", ".join(map(str, node.operands)), _role(node, outputs)
    if layer is None:
        return str(node.node), node.operation, operands, str(node.width), _setting(node), "", role
    activation = "" if layer.activation == "identity" else layer.activation
    parameters = f"{layer.parameters:,}" if layer.nodes[0] == node.node else "shared"
    remarks = ", ".join([*_remarks(layer), *([role] if role else [])])
    return str(node.node), layer.name, operands, str(node.width), activation, parameters, remarks


def _setting(node: NodeInfo) -> str:
    """The activation, rate or std of a node without a layer."""
    if node.amount is None:
        return node.activation or ""
    return f"{'rate' if node.operation == 'dropout' else 'std'}={node.amount:g}"


def _remarks(layer: LayerInfo) -> list[str]:
    """The settings that differ from their defaults."""
    settings = [("lr", layer.lr, 1.0), ("l1", layer.l1, 0.0), ("l2", layer.l2, 0.0), ("max norm", layer.max_norm, None)]
    return ["frozen"] * layer.frozen + [f"{name} {value:g}" for name, value, usual in settings if value != usual]


def _role(node: NodeInfo, outputs: Sequence[OutputInfo]) -> str:
    return next((f"output ({output.activation})" if output.activation else "output" for output in outputs if output.node == node.node), "")
