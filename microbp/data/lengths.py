"""lengths=: how many positions of each row of a sequence are there."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from .arrays import Array, as_array

Lengths = list[Array | None]  # for each input (rows, 1), int64; None: all positions are there


class Sequences:
    """Which inputs of a net are sequences, and how many positions of other nodes are there. core: a backend's Net."""

    def __init__(self, core: Any) -> None:
        self._core = core

    @functools.cached_property
    def _nodes(self) -> list[Any]:
        return list(self._core.nodes())

    @functools.cached_property
    def _starts(self) -> dict[int, int]:
        """The nodes at which sequences start, each with the number of its input."""
        inputs = [number for number, node in enumerate(self._nodes) if node[0] in ("input", "ids")]
        starts = {}
        for number, node in enumerate(self._nodes):
            if node[0] == "grid" and node[9][0] == 1 < node[9][1] and (start := self._source(*node[1])) in inputs:
                starts[number] = inputs.index(start)
        return starts

    def _source(self, number: int) -> int:
        """The ids of an embedding that has them side by side; of other nodes, the node."""
        kind, operands, _, layer, *_ = self._nodes[number]
        is_joined = kind == "embedding" and self._nodes[operands[0]][0] == "ids" and not self._core.layers()[layer][11]
        return operands[0] if is_joined else number

    @property
    def positions(self) -> dict[int, int]:
        """The positions of the inputs that are sequences, by their numbers."""
        return {number: self._nodes[start][9][1] for start, number in self._starts.items()}

    def read(self, given: Any, rows: int, longest: int | None = None) -> Lengths:
        """The argument lengths of `rows` rows; TypeError or ValueError if it is none. longest: the positions of sequences that are not
        whole."""
        positions = self.positions
        if not positions:
            raise ValueError("lengths are for sequences, but the network has no bp.Sequence")
        found: Lengths = [None] * sum(node[0] in ("input", "ids") for node in self._nodes)
        is_list = isinstance(given, list | tuple) and any(one is None or isinstance(one, list | tuple | np.ndarray) for one in given)
        if is_list and len(positions) == 1:
            if len(given) != rows or any(one is None for one in given):
                one = f"one array of shape ({rows},), not a list of {len(given)}"
                raise ValueError(f"lengths must be {one}, because the network has one sequence")
            is_list = False
        if is_list and len(given) != len(positions):
            raise ValueError(f"lengths must be an array, or a list of {len(positions)}, one per sequence, but its length is {len(given)}")
        if not is_list and len(set(positions.values())) > 1:
            raise ValueError(f"lengths must be a list of {len(positions)} arrays, one per sequence, because these have different positions")
        for i, (number, most) in enumerate(positions.items()):
            if (one := given[i] if is_list else given) is not None:
                found[number] = _read(one, rows, longest or most, f"lengths[{i}]" if is_list else "lengths")
        return found

    def given(self, lengths: Lengths | None) -> Any:
        """Lengths in the form of an argument."""
        found = None if lengths is None else [lengths[number] for number in self.positions]
        return found[0] if found is not None and len(found) == 1 else found

    def valid(self, lengths: Lengths) -> list[Array | None]:
        """For each node how many positions of each row are there, (rows,); None: all are."""
        found: list[Array | None] = []
        for number, (kind, operands, *_) in enumerate(self._nodes):
            window, grid = self._nodes[number][10], self._nodes[number][9]
            below = [found[i] for i in operands]
            if number in self._starts:
                length = lengths[self._starts[number]]
                found.append(None if length is None else length[:, 0])
            elif kind in ("grid", "repeat", "last"):
                found.append(None)
            elif window is None:
                same = [one for i, one in zip(operands, below, strict=True) if one is not None and self._nodes[i][9] == grid]
                found.append(functools.reduce(np.minimum, same) if same else None)
            else:
                found.append(_windows(window, self._nodes[operands[0]][9][1], below[0]))
        return found

    def of_outputs(self, lengths: Lengths) -> list[Array | None]:
        """The same for each output."""
        valid = self.valid(lengths)
        return [valid[output[0]] for output in self._core.outputs()]


def _read(given: Any, rows: int, most: int, what: str) -> Array:
    array = as_array(given, what)
    if array.size and array.dtype.kind not in "iu":
        advice = "of a mask, pass mask.sum(axis=1)" if array.dtype == bool else f"use {what}.astype(int)"
        raise TypeError(f"{what} must have whole numbers, not {array.dtype}: {advice}")
    if array.size != rows or array.shape not in ((), (rows,), (rows, 1)):
        raise ValueError(f"{what} has shape {array.shape}; it must be ({rows},), one length per row of X")
    array = array.reshape(rows)
    wrong = (array < 0) | (array > most)
    if wrong.any():
        row = int(wrong.argmax())
        raise ValueError(f"{what}[{row}] is {array[row]}, but must be from 0 to {most}, the positions of the sequence")
    return np.ascontiguousarray(array, np.int64).reshape(rows, 1)


def _windows(window: Any, across: int, length: Array | None) -> Array | None:
    """How many windows, or pools, are there over sequences of this length."""
    (_, size), (_, stride), (_, pad), (_, dilation), kind = window
    if length is None or (kind and size == across):  # a pool over all positions takes those that are there
        return None
    room = length + 2 * pad - 1 - dilation * (size - 1)
    return np.where((length == 0) | (room < 0), 0, room // stride + 1)


def beyond(valid: Array, positions: int) -> Array:
    """Which positions are not there, (rows, positions)."""
    return np.asarray(np.arange(positions) >= valid[:, None])


def cleared(x: Array, length: Array, positions: int) -> Array:
    """The rows of an input, with 0 where they are not there. Arrays of another shape are not changed."""
    if x.ndim != 2 or len(x) != len(length) or x.shape[1] % positions:
        return x
    return np.where(np.repeat(beyond(length[:, 0], positions), x.shape[1] // positions, axis=1), x.dtype.type(0), x)


def take(lengths: Lengths | None, index: Array) -> Lengths | None:
    """The lengths of the rows at `index`."""
    return None if lengths is None else [None if one is None else one[index] for one in lengths]


def join(a: Lengths | None, b: Lengths | None) -> Lengths | None:
    """The lengths of rows after other rows. ValueError: only one of them has lengths."""
    if a is None and b is None:
        return None
    if a is None or b is None or any((one is None) != (other is None) for one, other in zip(a, b, strict=True)):
        raise ValueError("fit: a batch spans two chunks, of which only one has lengths; give all chunks lengths, or none")
    return [None if one is None or other is None else np.concatenate([one, other]) for one, other in zip(a, b, strict=True)]
