"""The graph of a network for sequences of another number of positions."""

from __future__ import annotations

import re
from typing import Any

_MOST = 2**31 - 1

# What a node's value has to do with the length: nothing; a row has the columns of all positions; it has a value at each position, which no
# later position changes; it depends on the last position, but has none.
_FIXED, _COLUMNS, _POSITIONS, _ENDED = range(4)


def stretched(graph: Any, positions: int) -> str:
    """The text of the graph for this many positions. ValueError: a node does not work position by position."""
    if not 1 <= positions <= _MOST:
        raise ValueError(f"positions is {positions}, but must be from 1 to {_MOST}")
    roles, length = _sequences(graph)
    for number in range(len(graph.nodes)):
        _read_role(graph, number, roles, length)
    lines = graph.text().splitlines()
    for number, node in enumerate(graph.nodes):
        if roles[number] == _COLUMNS and node.is_input:
            lines[number] = re.sub(r"\d+", str(node.width // length * positions), lines[number], count=1)
        elif roles[number] == _POSITIONS and node.kind in ("grid", "repeat"):
            lines[number] = re.sub(r"(width|times)=\d+", rf"\g<1>={positions}", lines[number])
    return "".join(f"{line}\n" for line in lines)


def _refuse(graph: Any, number: int, why: str) -> ValueError:
    what = f"node {number} ({graph.nodes[number].kind}) {why}"
    return ValueError(f"{what}, so the net cannot run on some positions at a time: predict whole sequences")


def _sequences(graph: Any) -> tuple[list[int], int]:
    """The roles of the nodes that have the columns of sequences, of the others `_FIXED`; the length of the sequences."""
    roles = [_FIXED] * len(graph.nodes)
    first, length = -1, 0
    for number, node in enumerate(graph.nodes):
        if node.kind != "grid" or node.grid[0] != 1:
            continue
        source, *between = _source(graph, node.operands[0])
        if not graph.nodes[source].is_input:
            continue
        if first >= 0 and node.positions != length:
            have = f"node {first} has {length} positions, but node {number} has {node.positions}"
            raise ValueError(f"{have}: only sequences of the same length can run on some positions at a time")
        if graph.nodes[source].width % node.positions:
            raise _refuse(graph, number, "does not have whole columns of ids at each position")
        first, length = (number if first < 0 else first), node.positions
        for one in (source, *between):
            roles[one] = _COLUMNS
    if not length:
        raise ValueError("the net has no sequence (a grid of height 1 of an input), so it has no length")
    return roles, length


def _source(graph: Any, number: int) -> tuple[int, ...]:
    """The node whose columns become positions; with an embedding of ids between, the ids and the embedding."""
    node = graph.nodes[number]
    if node.kind == "embedding" and node.of_ids and not node.layer.sums:
        return node.operands[0], number
    return (number,)


def _read_role(graph: Any, number: int, roles: list[int], length: int) -> None:
    node = graph.nodes[number]
    under = [roles[operand] for operand in node.operands]
    if roles[number] == _COLUMNS:
        return
    if _COLUMNS in under or _POSITIONS in under:
        _check_moving(graph, number, under)
        roles[number] = _ENDED if node.kind == "last" else _POSITIONS
        return
    roles[number] = max(under, default=_FIXED)
    if node.kind == "repeat" and roles[number] == _FIXED and node.positions == length:
        roles[number] = _POSITIONS


def _check_moving(graph: Any, number: int, under: list[int]) -> None:
    """A node with an operand that has positions, or columns of them."""
    node = graph.nodes[number]
    if node.kind == "grid":
        if under[0] != _COLUMNS or node.grid[0] != 1:
            raise _refuse(graph, number, "sees all positions at once")
    elif node.kind in ("window", "pool"):
        raise _refuse(graph, number, "sees several positions at once")
    elif node.kind == "recurrent":
        if node.reverse:
            raise _refuse(graph, number, "runs in reverse, from the last position")
        if len(node.operands) > 1:
            raise _refuse(graph, number, "starts from the state of another node in each call")
    elif node.kind != "last" and any(role != _POSITIONS for role in under):
        first = next(role for role in under if role != _POSITIONS)
        raise _refuse(graph, number, "sees all positions at once" if first == _COLUMNS else "needs the net's own number of positions")
