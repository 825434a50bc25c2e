"""Networks in int8 as safetensors files: the arrays of step i are "i.weight", "i.start", ..., and the metadata has the rest as JSON."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..core.whole_file import opened, replacing
from ..data.arrays import Array
from ..network.records import OutputInfo, WindowInfo
from ..network.tensors_file import header, read_bytes
from .shared.integers import IntegerStep, Quantum

NOTE = "microbp.int8"  # the key of the metadata
_ARRAYS = {"weight": "<i1", "start": "<i4", "scale": "<f4", "mean": "<f4"}
_NAMES = {"<i1": "I8", "<i4": "I32", "<f4": "F32"}
_VERSION = 1


def write(path: str | os.PathLike[str], steps: Sequence[IntegerStep], **others: Any) -> None:
    """Writes the file, completely or not at all."""
    tensors: dict[str, Any] = {}
    data = bytearray()
    for i, step in enumerate(steps):
        for name, dtype in _ARRAYS.items():
            array = getattr(step, name)
            if array is not None:
                begin = len(data)
                data += np.ascontiguousarray(array, dtype).tobytes()
                tensors[f"{i}.{name}"] = {"dtype": _NAMES[dtype], "shape": array.shape, "data_offsets": (begin, len(data))}
    plain = [step._replace(weight=None, start=None, scale=None, mean=None) for step in steps]
    text = json.dumps({"version": _VERSION, "steps": plain, **others})
    head = json.dumps({"__metadata__": {NOTE: text}, **tensors}).encode()
    head += b" " * (-len(head) % 8)
    with replacing(path) as temporary:
        temporary.write_bytes(len(head).to_bytes(8, "little") + head + data)


def note(path: str | os.PathLike[str]) -> Any:
    """The entries of a file, its metadata of a network in int8 (None: it has none), and its data."""
    with opened(path) as file:
        try:
            entries, _, size = header(file)
            text = entries.pop("__metadata__", {})
            text = text.get(NOTE) if isinstance(text, dict) else None
            return entries, text, read_bytes(file, size) if text else b""
        except ValueError as error:
            raise ValueError(f"{os.fsdecode(path)}: {error}") from None


def read(path: str | os.PathLike[str]) -> tuple[tuple[IntegerStep, ...], dict[str, Any]]:
    """The steps of a file, and the others that `write` got. ValueError: it is another file, or is damaged."""
    where = os.fsdecode(path)
    entries, text, data = note(path)
    if text is None:
        raise ValueError(f"{where}: has no network in int8, which QuantizedNetwork.save writes; bp.load reads others")
    try:
        others = json.loads(text)
        if others.pop("version") != _VERSION:
            raise ValueError("another version of microbp wrote it")
        return tuple(_step(i, fields, entries, data) for i, fields in enumerate(others.pop("steps"))), others
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        raise damaged(where, error) from None


def damaged(where: str, error: Exception) -> ValueError:
    """The error for a file whose contents cannot be read."""
    return ValueError(f"{where}: the network in int8 is invalid ({type(error).__name__}: {' '.join(str(error).split())[:200]})")


def _step(i: int, fields: list[Any], entries: dict[str, Any], data: bytes) -> IntegerStep:
    step = IntegerStep(*fields)
    high, wide, columns = step.operand
    pairs: list[Any] = [tuple(pair) if isinstance(pair, list) else pair for pair in step.window or ()]
    arrays: dict[str, Any] = {
        name: _array(entries[f"{i}.{name}"], dtype, data) for name, dtype in _ARRAYS.items() if f"{i}.{name}" in entries
    }
    return step._replace(
        grid=tuple(map(int, step.grid)),
        x=step.x and Quantum(*step.x),
        y=step.y and Quantum(*step.y),
        operand=(high, wide, columns),
        window=WindowInfo(*pairs) if step.window else None,
        **arrays,
    )


def _array(entry: dict[str, Any], dtype: str, data: bytes) -> Array:
    begin, end = entry["data_offsets"]
    if entry["dtype"] != _NAMES[dtype] or not 0 <= begin <= end <= len(data):
        raise ValueError("an array has another type, or is outside of the file")
    return np.frombuffer(data[begin:end], dtype).reshape(entry["shape"])


def output_of(fields: list[Any]) -> OutputInfo:
    """The record of the output."""
    output = OutputInfo(*fields)
    mean, std = (None if one is None else tuple(map(float, one)) for one in (output.mean, output.std))
    return output._replace(grid=tuple(map(int, output.grid)), width=int(output.width), mean=mean, std=std)
