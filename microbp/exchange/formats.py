"""Files of networks in formats of other libraries: which one a file has, and how it is read."""

from __future__ import annotations

import contextlib
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ..core.text import counted, printable
from ..core.whole_file import opened
from ..many.ensemble import Ensemble
from ..network.network import Network
from ..network.tensors_file import header
from . import quantized_file

if TYPE_CHECKING:
    from .quantize import QuantizedNetwork

Format = Literal["safetensors", "onnx", "keras"]
_HDF5 = b"\x89HDF\r\n\x1a\n"
_SHOWN = 100  # tensors to list
_WIDTH = 200  # characters of a name to show


def format_of(path: Path) -> Format | None:
    """The format that the first bytes of a file tell; None: another one, or no regular file."""
    if not path.is_file():
        return None
    with path.open("rb") as file:
        start = file.read(9)
    if start[6:] == b"\0\0{":
        return "safetensors"
    if start.startswith(_HDF5):
        return "keras"
    if start.startswith(b"\x08") and len(start) > 2:  # the version of the format: field 1, a whole number
        return "onnx"
    if start.startswith(b"PK") and zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            return "keras" if "config.json" in archive.namelist() else None
    return None


def read(path: str | Path, threads: int | None = None) -> Network | Ensemble | None:
    """The network of a file of ONNX or Keras. None: the file has another format. ValueError: it cannot be a network of microbp."""
    path = Path(path)
    if format_of(path) == "onnx":
        from .onnx.read import from_onnx

        net: Network | Ensemble = from_onnx(path, n_threads=threads)
        return net
    if format_of(path) == "keras":
        from .keras import from_keras

        return from_keras(path)
    return None


def quantized(path: Path) -> QuantizedNetwork | None:
    """The network in int8 of a file; None: it has none."""
    if format_of(path) != "safetensors":
        return None
    with contextlib.suppress(ValueError):
        if quantized_file.note(path)[1] is not None:
            from .quantize import QuantizedNetwork

            return QuantizedNetwork.load(path)
    return None


def tensors(path: Path) -> Iterator[str]:
    """What is in a safetensors file that microbp did not write, one line each."""
    with opened(path) as file:
        try:
            entries, _, size = header(file)
        except ValueError as error:
            raise ValueError(f"{os.fspath(path)}: {error}") from None
    entries.pop("__metadata__", None)
    yield f"a safetensors file of another program: {counted(len(entries), 'tensor')}, {size:,} bytes; net.load_tensors reads them by name"
    for name, entry in list(entries.items())[:_SHOWN]:
        kind, shape = (entry.get("dtype"), entry.get("shape")) if isinstance(entry, dict) else (None, None)
        yield f"  {_short(name)}: {_short(kind)} {_short(shape)}"
    if len(entries) > _SHOWN:
        yield f"  and {len(entries) - _SHOWN} more"


def _short(value: object) -> str:
    text = str(value)
    return printable(text if len(text) <= _WIDTH else f"{text[:_WIDTH]}...")
