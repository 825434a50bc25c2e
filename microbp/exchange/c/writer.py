"""What the emitters of nodes write to."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from ...data.arrays import Array
from ...network.network import Network
from ...network.records import NodeInfo
from ..shared.steps import Step
from .numbers import comment, constant


class Lines(Protocol):
    """Takes statements."""

    def line(self, text: str) -> None:
        """Adds a statement."""


class Constants(Lines, Protocol):
    """Takes statements and constants."""

    def array(self, values: Array, what: str) -> str:
        """Adds an array of constants. Returns its name."""


class Writer:
    """A function of a network. `place`: where the value of a node is, as C text. `gathered`:
    windows without a place, which dense layers gather themselves, with the arrays of their geometry."""

    def __init__(self, net: Network) -> None:
        self.net = net
        self.lines: list[str] = []
        self.constants: dict[str, str] = {}
        self.bytes = 0  # of the constants
        self._arrays: dict[tuple[str, bytes], str] = {}
        self.place: dict[int, str] = {}
        self.gathered: dict[int, str] = {}
        self._scratch: dict[int, int] = {}

    def node(self, number: int) -> NodeInfo:
        """The record of a node."""
        return self.net._records.nodes[number]

    def line(self, text: str) -> None:
        """Adds a statement."""
        self.lines += [f"    {line}" for line in text.split("\n")]

    def array(self, values: Array, what: str, where: str = "") -> str:
        """The name of an array of constants; equal arrays are one. what: for its comment; where: for an error."""
        key = values.dtype.char, values.tobytes()
        if key not in self._arrays:
            try:
                name = f"w{len(self._arrays)}"
                self.constants[name] = f"/* {comment(what)} */\n{constant(f'@{name}', values)}"
            except ValueError:
                raise ValueError(f"C: {where or what} has numbers that are not finite") from None
            self.bytes += values.nbytes
            self._arrays[key] = f"@{name}"
        return self._arrays[key]

    def parameter(self, step: Step, tensor: str) -> str:
        """A tensor of the layer of a step, as C text; NULL if it has none. Weights have a row for each input."""
        if tensor not in step.tensors:
            return "NULL"
        values = step.tensors[tensor]
        if tensor == "weight" and values.ndim == 2 and step.node.operation != "embedding":
            values = values.T
        return self.array(np.ascontiguousarray(values, np.float32), f"{step.node.layer}.{tensor}", step.place)

    def scratch(self, step: Step, size: int) -> str:
        """Memory that only this step uses, as C text."""
        assert size
        return at("s", self._scratch[step.node.node])


def at(place: str, offset: int | str) -> str:
    """The memory that begins this many floats later."""
    if not offset:
        return place
    base, _, number = place.rpartition(" + ")
    if base and isinstance(offset, int) and number.isdecimal():
        return f"{base} + {int(number) + offset}"
    return f"{place} + {offset}"
