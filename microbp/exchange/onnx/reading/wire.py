"""Decodes what a network needs of an ONNX file: messages of Protocol Buffers, as in onnx.proto3.

Nothing is trusted: a length is compared with the bytes that are left before anything is made of it, and nothing recurses. All errors are
ValueErrors that name the place.
"""

from __future__ import annotations

import math
import zlib
from typing import Any, NamedTuple

import numpy as np

from ....core.text import brief, counted
from ....data.arrays import Array

Fields = dict[int, list[Any]]  # whole numbers and bytes, by the number of the field
BFLOAT16, TEXTS = 16, 8
# data_type: the numbers in raw_data, and the field that has them otherwise
_TYPES = {1: ("<f4", 4), 2: ("u1", 5), 3: ("i1", 5), 5: ("<i2", 5), 6: ("<i4", 5), 7: ("<i8", 7), 9: ("?", 5), 10: ("<f2", 5)}
_TYPES |= {11: ("<f8", 10), BFLOAT16: ("<u2", 5)}
FLOATS = (1, 10, 11, BFLOAT16)


class Info(NamedTuple):
    """An input or an output: its type, and its sizes; None: not fixed."""

    name: str
    type: int
    shape: tuple[int | None, ...]


class Operator(NamedTuple):
    """A node of the file. type: with its domain, if it is not ONNX's own: "ai.onnx.ml.Scaler"."""

    number: int
    name: str
    type: str
    inputs: list[str]
    outputs: list[str]
    attributes: dict[str, Any]

    @property
    def place(self) -> str:
        """Names the node in an error."""
        return f"node {self.number} ({brief(self.name)}, operator {self.type})"


class Model(NamedTuple):
    """What a file contains. crc: CRC-32 of the bytes of all operators."""

    operators: list[Operator]
    initializers: dict[str, Array]
    inputs: list[Info]
    outputs: list[Info]
    metadata: dict[str, str]
    opset: int
    crc: int


def model(data: bytes) -> Model:
    """Decodes a file."""
    whole = _fields(memoryview(data), "model")
    if 7 not in whole or 1 not in whole:
        raise ValueError("not an ONNX file: it has no graph")
    if len(whole[7]) > 1:
        raise ValueError("the model has two graphs")
    metadata = {_text(one, 1): _text(one, 2) for one in _messages(whole, 14, "metadata")}
    versions = {_text(one, 1): _number(one, 2, "opset") for one in _messages(whole, 8, "opset")}
    graph = _fields(whole[7][0], "graph")
    if 15 in graph:
        raise ValueError("the graph has sparse initializers, which are not supported")
    initializers: dict[str, Array] = {}
    for i, fields in enumerate(_messages(graph, 5, "initializer")):
        name, array = _tensor(fields, f"initializer {i}")
        if name in initializers:
            raise ValueError(f"two initializers have the name {brief(name)}")
        initializers[name] = array
    crc = 0
    for one in graph.get(1, []):
        crc = zlib.crc32(_bytes(one, "graph"), crc)
    operators = [_operator(one, i) for i, one in enumerate(graph.get(1, []))]
    inputs, outputs = ([_info(one) for one in _messages(graph, field, "value")] for field in (11, 12))
    return Model(operators, initializers, inputs, outputs, metadata, versions.get("", versions.get("ai.onnx", 0)), crc)


def _operator(data: Any, number: int) -> Operator:
    where = f"node {number}"
    fields = _fields(data, where)
    attributes = dict(_attribute(one, where) for one in _messages(fields, 5, where))
    kind, domain = _text(fields, 4), _text(fields, 7)
    given, made = ([_decoded(one) for one in fields.get(field, [])] for field in (1, 2))
    return Operator(number, _text(fields, 3), f"{domain}.{kind}" if domain not in ("", "ai.onnx") else kind, given, made, attributes)


def _attribute(fields: Fields, where: str) -> tuple[str, Any]:
    name, kind = _text(fields, 1), _number(fields, 20, where)
    if 6 in fields or 11 in fields:
        raise ValueError(f"{where}: the attribute {brief(name)} is a graph; If, Loop and Scan are not supported")
    if kind == 4 and 5 in fields:
        return name, _tensor(_fields(fields[5][-1], where), where)[1]
    if kind == 6:
        return name, [number for one in fields.get(7, []) for number in _array(one, "<f4", where).tolist()]
    if kind == 7:
        return name, _numbers(fields, 8, where)
    if kind == 8:
        return name, [bytes(_bytes(one, where)) for one in fields.get(9, [])]
    if kind == 1:
        return name, _array(fields[2][-1], "<f4", where).tolist()[0] if 2 in fields else 0.0
    return name, bytes(_bytes(fields.get(4, [b""])[-1], where)) if kind == 3 else _number(fields, 3, where) if kind == 2 else None


def _tensor(fields: Fields, where: str) -> tuple[str, Array]:
    name, dims, kind = _text(fields, 8), _numbers(fields, 1, where), _number(fields, 2, where)
    where = f"{where} ({brief(name)})" if name else where
    if 13 in fields or _number(fields, 14, where):
        raise ValueError(f"{where}: its numbers are in another file; save the model with all data inside (external_data=False)")
    if any(size < 0 for size in dims) or len(dims) > 8:
        raise ValueError(f"{where}: its shape {brief(dims)} is not valid")
    if kind not in _TYPES and kind != TEXTS:
        raise ValueError(f"{where}: numbers of type {kind} are not supported")
    found = np.array([_decoded(one) for one in fields.get(6, [])], object) if kind == TEXTS else _data(fields, kind, where)
    if math.prod(dims) != found.size:
        raise ValueError(f"{where}: its shape {brief(dims)} does not fit its {counted(found.size, 'number')}")
    return name, found.reshape(dims)


def _data(fields: Fields, kind: int, where: str) -> Array:
    """The numbers of a tensor; those of half precision as float32."""
    dtype, field = _TYPES[kind]
    if 9 in fields or field in (4, 10):
        parts = fields[9][-1:] if 9 in fields else fields.get(field, [])
        found = np.concatenate([np.zeros(0, dtype), *(_array(one, dtype, where) for one in parts)])
    else:
        numbers = np.array(_numbers(fields, field, where), np.int64)
        found = numbers.astype("<u2").view("<f2") if kind == 10 else numbers.astype(dtype)
    return (found.astype("<u4") << 16).view("<f4") if kind == BFLOAT16 else found.astype("<f4") if kind == 10 else found


def _info(fields: Fields) -> Info:
    tensor = [inner for one in _messages(fields, 2, "type") for inner in _messages(one, 1, "type")] or [{}]
    sizes = [size for one in _messages(tensor[-1], 2, "shape") for size in _messages(one, 1, "shape")]
    return Info(_text(fields, 1), _number(tensor[-1], 1, "type"), tuple(_number(size, 1, "shape") or None for size in sizes))


# ---- the encoding ----


def _fields(data: Any, where: str) -> Fields:
    """The fields of a message."""
    found: Fields = {}
    data, at = _bytes(data, where), 0
    while at < len(data):
        tag, at = _varint(data, at, where)
        field, kind = tag >> 3, tag & 7
        if kind not in (0, 1, 2, 5) or not field:
            raise ValueError(f"{where}: not an ONNX file, or damaged")
        size, at = (8 if kind == 1 else 4, at) if kind in (1, 5) else _varint(data, at, where)
        if kind and size > len(data) - at:
            raise ValueError(f"{where}: it is cut short: a field needs {counted(size, 'byte')}, but has {len(data) - at}")
        found.setdefault(field, []).append(data[at : at + size] if kind else size)
        at += size if kind else 0
    return found


def _messages(fields: Fields, field: int, where: str) -> list[Fields]:
    return [_fields(one, where) for one in fields.get(field, [])]


def _varint(data: memoryview, at: int, where: str) -> tuple[int, int]:
    value = 0
    for i, byte in enumerate(data[at : at + 10]):
        value |= (byte & 127) << (7 * i)
        if byte < 128:
            return value & (2**64 - 1), at + i + 1
    raise ValueError(f"{where}: it is cut short, or damaged: a number has no end")


def _numbers(fields: Fields, field: int, where: str) -> list[int]:
    """Whole numbers of 64 bits, packed or not."""
    found = []
    for one in fields.get(field, []):
        if isinstance(one, int):
            found.append(one)
            continue
        at = 0
        while at < len(one):
            number, at = _varint(one, at, where)
            found.append(number)
    return [number - 2**64 if number >= 2**63 else number for number in found]


def _number(fields: Fields, field: int, where: str) -> int:
    """The last number of a field; 0 if there is none."""
    return _numbers({0: fields[field][-1:]}, 0, where)[-1] if field in fields and isinstance(fields[field][-1], int) else 0


def _bytes(value: Any, where: str) -> memoryview:
    if isinstance(value, int):
        raise ValueError(f"{where}: damaged: a number where bytes must be")
    return memoryview(value)


def _text(fields: Fields, field: int) -> str:
    return _decoded(fields.get(field, [b""])[-1])


def _decoded(value: Any) -> str:
    try:
        return bytes(_bytes(value, "a name")).decode()
    except UnicodeDecodeError:
        raise ValueError("damaged: a name is not UTF-8") from None


def _array(value: Any, dtype: str, where: str) -> Array:
    data = _bytes(value, where)
    if len(data) % np.dtype(dtype).itemsize:
        raise ValueError(f"{where}: {counted(len(data), 'byte')} are not whole numbers of {np.dtype(dtype).itemsize} bytes")
    return np.frombuffer(data, dtype)
