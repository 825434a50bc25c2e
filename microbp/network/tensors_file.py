"""Reads arrays from safetensors files of any library: https://huggingface.co/docs/safetensors."""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..core.checks import file_path
from ..core.text import brief, nearest, printable
from ..core.whole_file import opened
from ..data.arrays import Array

HEADER_MAX = 100_000_000  # bytes, the limit of the safetensors library
_SHOWN = 100  # tensors in an error
_PART = 2**26  # bytes read at a time
_DTYPES = {"F16": "<f2", "F32": "<f4", "F64": "<f8", "BF16": "<u2"}


def read(path: str | os.PathLike[str], shapes: Mapping[str, tuple[int, ...]], dtype: np.dtype[Any]) -> dict[str, Array]:
    """The arrays with these names and shapes, converted to `dtype`. ValueError names the first that is missing or has another shape."""
    where = os.fsdecode(file_path(path))
    with opened(path) as file:
        try:
            entries, data_at, size = header(file)
            entries.pop("__metadata__", None)
            places = {name: _place(name, shape, entries, size) for name, shape in shapes.items()}
            return {name: _array(file, data_at + begin, kind, shapes[name], dtype) for name, (kind, begin) in places.items()}
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from None


def header(file: int) -> tuple[dict[str, Any], int, int]:
    """The entries by name with "__metadata__", the offset of the data, and its size in bytes. What is read next is the data."""
    size = os.fstat(file).st_size
    start = read_bytes(file, min(size, 9))
    length = int.from_bytes(start[:8], "little")
    if not 2 <= length <= min(size - 8, HEADER_MAX):
        raise ValueError("not a safetensors file, or cut short: its header is missing or incomplete")
    entries = None
    with contextlib.suppress(ValueError, RecursionError):
        entries = json.loads((start[8:] + read_bytes(file, length - 1)).decode()) if start[8:] == b"{" else None
    if not isinstance(entries, dict):
        raise ValueError("not a safetensors file: its header is not a JSON object")
    return entries, 8 + length, size - 8 - length


def read_bytes(file: int, size: int) -> bytearray:
    """The next bytes of the file."""
    found = bytearray()
    while len(found) < size:
        part = os.read(file, min(size - len(found), _PART))
        if not part:
            raise ValueError("became shorter while it was being read")
        found += part
    return found


def _place(name: str, shape: tuple[int, ...], header: dict[str, Any], size: int) -> tuple[str, int]:
    """The array's type in the file, and its offset in the data."""
    if name not in header:
        near = nearest(name, header)
        hint = f"; did you mean {near[0]!r}?" if near else ";"
        listed = ", ".join(map(printable, list(header)[:_SHOWN])) + (f" and {len(header) - _SHOWN} more" if len(header) > _SHOWN else "")
        raise ValueError(f"the file has no tensor {name!r}{hint} its tensors: {listed or 'none'}")
    entry = header[name] if isinstance(header[name], dict) else {}
    kind, found, offsets = entry.get("dtype"), entry.get("shape"), entry.get("data_offsets")
    if found != list(shape):
        raise ValueError(f"{name} has shape {brief(found)} in the file, but {list(shape)} in the network")
    if kind not in list(_DTYPES):  # a list, because kind may be unhashable
        shown = kind if isinstance(kind, str) and kind.isidentifier() else brief(kind)
        raise ValueError(f"{name} has type {shown}; it must be one of {', '.join(_DTYPES)}")
    bytes_of = math.prod(shape) * np.dtype(_DTYPES[kind]).itemsize
    if not (isinstance(offsets, list) and len(offsets) == 2 and all(type(offset) is int for offset in offsets)):
        raise ValueError(f"{name}: data_offsets must be two integers, not {brief(offsets)}")
    if not 0 <= offsets[0] <= size - bytes_of or offsets[1] - offsets[0] != bytes_of:
        raise ValueError(f"{name}: data_offsets must span {bytes_of} of the {size} bytes of data in the file, not {brief(offsets)}")
    return kind, offsets[0]


def _array(file: int, at: int, kind: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    os.lseek(file, at, os.SEEK_SET)
    numbers = np.frombuffer(read_bytes(file, math.prod(shape) * np.dtype(_DTYPES[kind]).itemsize), _DTYPES[kind])
    if kind == "BF16":  # the upper half of a float32
        numbers = (numbers.astype("<u4") << 16).view("<f4")
    return numbers.astype(dtype).reshape(shape)
