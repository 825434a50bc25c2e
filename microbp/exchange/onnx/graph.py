"""A graph of ONNX operators that grows, and the model around it."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ...data.arrays import Array
from . import wire

OPSET, ML_OPSET, IR = 20, 3, 9  # ONNX 1.15; ai.onnx.ml 3 is of ONNX 1.10
_DOMAINS = {"LabelEncoder": "ai.onnx.ml"}  # of operators that are not in the standard set
_LARGEST = 2**31 - 1  # bytes of a message of Protocol Buffers


class _Operator:
    def __init__(self, kind: str, inputs: Sequence[str], output: str, settings: dict[str, Any]) -> None:
        self.kind, self.inputs, self.output, self.name, self.settings = kind, inputs, output, output, settings
        self.domain = _DOMAINS.get(kind, "")


class Graph:
    """Operators in order, initializers, inputs and outputs. Operators of one part have names that begin with `place`."""

    def __init__(self) -> None:
        self.place = ""
        self._operators: dict[str, _Operator] = {}
        self._names: Counter[str] = Counter()
        self._initializers: dict[str, wire.Parts] = {}
        self._constants: dict[tuple[Any, ...], str] = {}
        self._inputs: set[str] = set()
        self._ends: list[wire.Parts] = []

    def op(self, kind: str, *inputs: str, **settings: Any) -> str:
        """Adds an operator; the name of its (first) output."""
        name = f"{self.place}/{kind}"
        self._names[name] += 1
        if self._names[name] > 1:
            name = f"{name}_{self._names[name] - 1}"
        while inputs and not inputs[-1]:  # optional ones
            inputs = inputs[:-1]
        self._operators[name] = _Operator(kind, inputs, name, settings)
        return name

    def named(self, name: str, value: str) -> str:
        """Gives a value of this place that is not used yet a name; returns the value's name. A value of another place keeps its own."""
        if not value.startswith(f"{self.place}/"):
            return value
        self._operators[value].output = name
        return name

    def tensor(self, name: str, values: Array) -> str:
        """An initializer."""
        if name not in self._initializers:
            self._initializers[name] = wire.tensor(name, values)
        return name

    def constant(self, values: Any, dtype: Any = np.int64) -> str:
        """An initializer without a name of its own."""
        array = np.asarray(values, dtype)
        key = array.dtype.name, array.shape, array.tobytes()
        if key not in self._constants:
            self._constants[key] = self.tensor(f"constant/{len(self._constants)}", array)
        return self._constants[key]

    def reshape(self, x: str, old: Sequence[int], new: Sequence[int]) -> str:
        """Rows of another shape. old, new: without the rows."""
        return x if tuple(old) == tuple(new) else self.op("Reshape", x, self.constant((0, *new)))

    def input(self, name: str, kind: str, shape: Sequence[int]) -> str:
        """An input of any number of rows."""
        self._inputs.add(name)
        self._ends.append(wire.value(11, name, kind, ("rows", *shape)))
        return name

    def free(self, name: str) -> str:
        """The name, with as many _ at its end as it takes that no input has it."""
        while name in self._inputs:
            name += "_"
        return name

    def output(self, name: str, kind: str, shape: Sequence[int], value: str) -> None:
        """Makes a value an output; one of another place may have other uses."""
        self.named(name, value if value.startswith(f"{self.place}/") else self.op("Identity", value))
        self._ends.append(wire.value(12, name, kind, ("rows", *shape)))

    def model(self, name: str, producer: str, metadata: Mapping[str, str]) -> bytes:
        """The bytes of a file."""
        if taken := self._inputs & {*self._initializers, *(op.output for op in self._operators.values())}:
            raise ValueError(f"to ONNX: column {min(taken)} has the name of a tensor in the file; rename it")
        nodes = [wire.node(op.kind, op.inputs, [op.output], op.name, op.domain, op.settings) for op in self._operators.values()]
        if "microbp.graph" in metadata:
            metadata = {**metadata, "microbp.nodes": f"{zlib.crc32(b''.join(nodes)):08x}"}
        parts = [*(wire.message(1, [one]) for one in nodes), wire.text(2, name), *self._initializers.values(), *self._ends]
        domains = {"": OPSET} | {op.domain: ML_OPSET for op in self._operators.values() if op.domain}
        whole = [
            *wire.integer(1, IR),
            *wire.text(2, "microbp"),
            *wire.text(3, producer),
            *wire.message(7, *parts),
            *(piece for domain, version in domains.items() for piece in wire.message(8, wire.text(1, domain), wire.integer(2, version))),
            *wire.pairs(14, metadata),
        ]
        if (size := sum(map(len, whole))) > _LARGEST:
            raise ValueError(f"to ONNX: the file would have {size} bytes, but a file of ONNX has at most {_LARGEST}")
        return b"".join(whole)
