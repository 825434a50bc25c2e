"""Sequences of different length: how many positions of each row are there. They start at the grid of a sequence. What is not there is 0."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Valid = list[int] | None  # for each row how many positions are there; None: all are


def parts_of(given: Any) -> tuple[Any, Sequence[Any] | None]:
    """The arrays of a call, and the lengths of each input, or None, if it has some: {"x": arrays, "lengths": lengths}."""
    return (given["x"], given["lengths"]) if isinstance(given, dict) else (given, None)


def input_of(graph: Any, node: Any) -> int | None:
    """The number of the input whose columns, or ids side by side, a node shows as several positions; None: it does not."""
    if node.kind != "grid" or node.positions == 1:
        return None
    number = node.operands[0]
    below = graph.nodes[number]
    if below.kind == "embedding" and below.of_ids and not below.layer.sums:
        number = below.operands[0]
    inputs = [i for i, one in enumerate(graph.nodes) if one.is_input]
    return inputs.index(number) if number in inputs else None


def sequence_of(graph: Any, i: int) -> Any:
    """The first node that shows input i as several positions; None: none does."""
    return next((node for node in graph.nodes if input_of(graph, node) == i), None)


def check_lengths(graph: Any, i: int, lengths: Sequence[int]) -> None:
    """ValueError: input i is not a sequence, or a length is not one of its positions."""
    sequence = sequence_of(graph, i)
    if sequence is None:
        raise ValueError(f"lengths {i}: input {i} is not a sequence, so its rows have no length")
    for number, node in enumerate(graph.nodes):
        if input_of(graph, node) == i and node.grid != (1, sequence.positions):
            makes = f"node {number} (grid) makes {node.grid[0]} x {node.grid[1]} positions of input {i}"
            raise ValueError(f"lengths {i}: {makes}, but only a sequence has a length")
    for row, length in enumerate(lengths):
        if not 0 <= length <= sequence.positions:
            raise ValueError(f"lengths {i}, row {row}: the length is {length}, but must be from 0 to {sequence.positions}")


def size_input(graph: Any, i: int, matrix: Any, lengths: Valid) -> None:
    """Sets the lengths of input i, and what is beyond them to 0, also for nodes that read it as a row of columns."""
    matrix.lengths = lengths
    if lengths is not None and graph.inputs[i].kind != "ids":
        each = matrix.cols // sequence_of(graph, i).positions
        there = [j < length * each for length in lengths for j in range(matrix.cols)]
        matrix.data = [value if is_there else 0.0 for value, is_there in zip(matrix.data, there)]


def check_grids(graph: Any) -> None:
    """ValueError: a node makes other positions of several."""
    for number, node in enumerate(graph.nodes):
        if node.kind == "grid" and node.positions > 1 and graph.nodes[node.operands[0]].positions > 1:
            raise ValueError(f"node {number} (grid) makes other positions of several, so rows cannot have lengths")
        if node.kind == "window" and node.grid[0] > 1 and graph.nodes[node.operands[0]].grid[0] == 1:
            raise ValueError(f"node {number} (window) makes a grid of a sequence, so rows cannot have lengths")


def pools_all(window: Any, across: int) -> bool:
    """Whether a pool has all positions under it: it then pools those that are there."""
    return bool(window.kind) and window.size[1] == across


def valid_positions(graph: Any, lengths: Sequence[Valid]) -> list[Valid]:
    """For each node how many positions of each row are there. lengths: of each input."""
    if not any(length is not None for length in lengths):
        return [None] * len(graph.nodes)
    found: list[Valid] = []
    for node in graph.nodes:
        below = [(graph.nodes[operand], found[operand]) for operand in node.operands]
        start = input_of(graph, node)
        if start is not None:
            found.append(lengths[start])
        elif node.kind in ("grid", "repeat", "last"):
            found.append(None)
        elif node.window:
            ((operand, valid),) = below
            all_of_it = valid is None or pools_all(node.window, operand.positions)
            found.append(None if all_of_it else [node.window.places((1, length))[1] if length else 0 for length in valid or ()])
        else:
            same = [valid for operand, valid in below if valid is not None and operand.positions == node.positions]
            found.append([min(row) for row in zip(*same)] if same else None)
    return found


def places_there(valid: Valid, rows: int, positions: int) -> list[int | None]:
    """The numbers of the positions of all rows; None: it is not there."""
    return [r * positions + t if valid is None or t < valid[r] else None for r in range(rows) for t in range(positions)]
