"""A network as a table, for `print(net)` and notebooks. One row per node."""

from __future__ import annotations

from ..core.text import readable
from .records import LayerInfo, NodeInfo, Records, WindowInfo

Row = tuple[str, str, str, str, str, str, str]
_HEAD: Row = ("node", "operation", "from", "width", "activation", "parameters", "")
_OPERANDS = 8  # of a node with more, only some are shown: each row is as wide as the widest


def text(records: Records) -> str:
    """The table as text, in aligned columns."""
    table = [_HEAD, *_rows(records)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table)


def html(records: Records, title: str) -> str:
    """The table as HTML."""
    from html import escape  # only notebooks need it

    def line(tag: str, row: Row) -> str:
        return f"<tr>{''.join(f'<{tag}>{escape(cell)}</{tag}>' for cell in row)}</tr>"

    body = "\n".join(line("td", row) for row in _rows(records))
    head = line("th", _HEAD)
    return f"<table>\n<caption>{escape(title)}</caption>\n<thead>{head}</thead>\n<tbody>\n{body}\n</tbody>\n</table>"


def _rows(records: Records) -> list[Row]:
    layers = {layer.name: layer for layer in records.layers}
    roles = {output.node: f"output ({output.activation})" if output.activation else "output" for output in records.outputs}
    return [_row(node, layers.get(node.layer or ""), roles.get(node.node, "")) for node in records.nodes]


def _row(node: NodeInfo, layer: LayerInfo | None, role: str) -> Row:
    operands = _operands(node.operands)
    if layer is None:
        return str(node.node), node.operation, operands, _size(node), _setting(node), "", role
    activation = "" if layer.activation == "identity" else readable(layer.activation)
    parameters = f"{layer.parameters:,}" if layer.nodes[0] == node.node else "shared"
    remarks = ", ".join([*_remarks(layer), *(["reverse"] if node.reverse else []), *([role] if role else [])])
    return str(node.node), layer.name, operands, _size(node), activation, parameters, remarks


def _operands(nodes: tuple[int, ...]) -> str:
    if len(nodes) <= _OPERANDS:
        return ", ".join(map(str, nodes))
    return f"{', '.join(map(str, nodes[: _OPERANDS - 2]))}, ..., {nodes[-1]} ({len(nodes):,} operands)"


def _size(node: NodeInfo) -> str:
    """The columns of a node, or its positions and the columns of each: 8 x 8 x 12."""
    return " x ".join(map(str, node.row_shape))


def _setting(node: NodeInfo) -> str:
    """The activation, rate, std or columns of a node without a layer."""
    if node.levels:
        return f"{node.levels:,} levels{', hashed' if node.hash else ''}"
    if node.window:
        return _window(node.window, len(node.grid))
    if node.columns:
        return f"columns {node.columns[0]}:{node.columns[1]}"
    if node.amount is None:
        return readable(node.activation or "")
    return f"{'rate' if node.operation == 'dropout' else 'std'}={node.amount:g}"


def _window(window: WindowInfo, axes: int) -> str:
    """The settings of a window or a pool that differ from their defaults. axes: 1 for a sequence, which has no height."""
    usual = {"stride": window.size if window.kind else (1, 1), "pad": (0, 0), "dilation": (1, 1)}
    given = {name: pair for name, pair in window._asdict().items() if name in usual and pair != usual[name]}
    shown = [f"{key} {b}" if axes == 1 else f"{key} {a}x{b}" for key, (a, b) in ({"size": window.size} | given).items()]
    return " ".join([*filter(None, [window.kind]), *shown])


def _remarks(layer: LayerInfo) -> list[str]:
    """The settings that differ from their defaults."""
    settings = [
        ("lr", layer.lr, 1.0),
        ("bias lr", layer.bias_lr, None),
        ("l1", layer.l1, 0.0),
        ("l2", layer.l2, 0.0),
        ("max norm", layer.max_norm, None),
    ]
    return (
        ([layer.cell] if layer.cell else [])
        + ["sum"] * (layer.combine == "sum")
        + ["frozen"] * layer.frozen
        + [f"{name} {value:g}" for name, value, usual in settings if value != usual]
    )
