"""Protocol Buffers, and the messages of ONNX in them, written without a library; weights are copied once, at the end.

https://protobuf.dev/programming-guides/encoding; the numbers of the fields are those of onnx.proto (IR version 9).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ...data.arrays import Array

Parts = list[Any]  # a message in pieces: bytes, and memoryviews of bytes
TYPES = {"float32": 1, "int64": 7, "str": 8, "bool": 9, "float64": 11}  # TensorProto.DataType


def _varint(value: int) -> bytes:
    value &= 2**64 - 1
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes((*out, value))


def integer(field: int, value: int) -> Parts:
    """A whole number."""
    return [_varint(field << 3) + _varint(value)]


def _real(field: int, value: float) -> Parts:
    return [_varint(field << 3 | 5) + struct.pack("<f", value)]


def message(field: int, *parts: Parts) -> Parts:
    """A message inside another one, made of these fields."""
    whole = [piece for part in parts for piece in part]
    return [_varint(field << 3 | 2) + _varint(sum(map(len, whole))), *whole]


def text(field: int, value: str) -> Parts:
    """A string."""
    return message(field, [value.encode()])


def tensor(name: str, values: Array) -> Parts:
    """An initializer (GraphProto.initializer) with the bytes of `values`."""
    flat = np.ascontiguousarray(values).astype(values.dtype.newbyteorder("<"), copy=False).reshape(-1)
    dims = (integer(1, size) for size in values.shape)
    return message(5, *dims, integer(2, TYPES[values.dtype.name]), text(8, name), message(9, [memoryview(flat.view(np.uint8))]))


def node(operator: str, inputs: Iterable[str], outputs: Iterable[str], name: str, domain: str, settings: Mapping[str, Any]) -> bytes:
    """A NodeProto. settings: numbers, strings or sequences of one of these."""
    ends = [text(field, value) for field, values in ((1, inputs), (2, outputs)) for value in values]
    attributes = (message(5, text(1, key), *_attribute(value)) for key, value in settings.items())
    whole = (*ends, text(3, name), text(4, operator), *attributes, text(7, domain) if domain else [])
    return b"".join(piece for part in whole for piece in part)


def _attribute(value: Any) -> list[Parts]:
    """The value of an attribute and AttributeProto.type."""
    one = value if isinstance(value, int | float | str) else value[0]
    write: Any
    write, field = next(way for kind, way in ((str, (text, 4)), (int, (integer, 3)), (float, (_real, 2))) if isinstance(one, kind))
    values, kind = ([value], field - 1) if one is value else (value, field + 4)
    field = field if one is value else field + 5
    return [*(write(field, each) for each in values), integer(20, kind)]


def value(field: int, name: str, kind: str, shape: Sequence[int | str]) -> Parts:
    """A ValueInfoProto of a graph's input or output; a size that is a text is free."""
    sizes = (message(1, text(2, size) if isinstance(size, str) else integer(1, size)) for size in shape)
    return message(field, text(1, name), message(2, message(1, integer(1, TYPES[kind]), message(2, *sizes))))


def pairs(field: int, texts: Mapping[str, str]) -> Parts:
    """StringStringEntryProtos."""
    return [piece for key, value in texts.items() for piece in message(field, text(1, key), text(2, value))]
