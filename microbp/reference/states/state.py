"""The states of recurrent nodes between calls."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Any

_FORMATS = {"float32": "f", "float64": "d"}


class State:
    """A row of `columns` numbers for each sequence and each recurrent node, all 0 at first."""

    def __init__(self, dtype: str, rows: int, columns: Sequence[int]) -> None:
        if rows < 1:
            raise ValueError(f"rows is {rows}, but must be at least 1")
        self.dtype, self.rows, self.columns = dtype, rows, list(columns)
        self.numbers = [array(_FORMATS[dtype], [0.0]) * (rows * width) for width in columns]

    @classmethod
    def of(cls, graph: Any, dtype: str, rows: int) -> State:
        """For a net with this graph."""
        nodes = carried(graph)
        for number, node in nodes:
            if node.reverse:
                order = "in reverse, from the last position to the first"
                raise ValueError(f"node {number} runs {order}, so it cannot go on where an earlier call ended")
        if not nodes:
            raise ValueError("the net has no recurrent node that starts from zeros, so there is no state to go on from")
        return cls(dtype, rows, [node.layer.state for _, node in nodes])

    def values(self) -> list[tuple[int, array]]:
        """(columns, all rows one after the other) of each node."""
        return list(zip(self.columns, self.numbers))

    def reset(self, rows: Sequence[int] | None = None) -> None:
        """Sets the rows with these numbers to 0; None: all."""
        for i, row in enumerate(rows or ()):
            if not 0 <= row < self.rows:
                raise ValueError(f"rows[{i}] is {row}, but must be a row number from 0 to {self.rows - 1}")
        for width, numbers in self.values():
            for row in range(self.rows) if rows is None else rows:
                numbers[row * width : (row + 1) * width] = array(numbers.typecode, [0.0]) * width


class Carry:
    """A call that goes on from a state. rows: the rows of the state, one for each row of the call."""

    def __init__(self, state: State, graph: Any, dtype: str, given: int, rows: Sequence[int]) -> None:
        """given: how many rows the caller passed. ValueError if the state does not fit."""
        nodes = carried(graph)
        if state.dtype != dtype:
            raise ValueError(f"state is of {state.dtype}, but the net is of {dtype}: make a state of this net")
        for i, (number, node) in enumerate(nodes):
            width = state.columns[i] if i < len(state.columns) else 0
            if width != node.layer.state:
                numbers = "number" if width == 1 else "numbers"
                has = f"state has {width} {numbers} for node {number}, but the node has {node.layer.state}"
                raise ValueError(f"{has}: make a state of this net")
        if len(nodes) < len(state.columns):
            counts = f"{len(state.columns)} recurrent nodes, but this net has {len(nodes)}"
            raise ValueError(f"state is of a net with {counts}: make a state of this net")
        if given > state.rows:
            raise ValueError(f"state has {state.rows} row{'' if state.rows == 1 else 's'}, but the call has {given}")
        self._state, self._rows = state, rows
        self._places = {number: i for i, (number, _) in enumerate(nodes)}
        self._after: dict[int, list[float]] = {}

    def before(self, node: int) -> list[float] | None:
        """The states of a node before the call, row after row; None: it starts from zeros, or from another node."""
        if node not in self._places:
            return None
        width, numbers = self._state.values()[self._places[node]]
        return [value for row in self._rows for value in numbers[row * width : (row + 1) * width]]

    def leave(self, node: int, states: list[float]) -> None:
        """The states of a node after the call."""
        if node in self._places:
            self._after[node] = states

    def keep(self) -> None:
        """At the end of a call that succeeded: they become those of the state."""
        for node, states in self._after.items():
            width, numbers = self._state.values()[self._places[node]]
            for i, row in enumerate(self._rows):
                numbers[row * width : (row + 1) * width] = array(numbers.typecode, states[i * width : (i + 1) * width])


def carried(graph: Any) -> list[tuple[int, Any]]:
    """The recurrent nodes that start from zeros, and that an output depends on, with their numbers."""
    used = {output.node for output in graph.outputs}
    for number in range(len(graph.nodes) - 1, -1, -1):
        used.update(graph.nodes[number].operands if number in used else ())
    return [(i, node) for i, node in enumerate(graph.nodes) if i in used and node.kind == "recurrent" and len(node.operands) == 1]
