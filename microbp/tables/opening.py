"""The bytes of a file, decompressed if it is a .gz. The content of a pipe, which can be read only once, is kept in memory."""

from __future__ import annotations

import functools
import gzip
import io
from pathlib import Path
from typing import IO, cast


def opened(path: Path) -> IO[bytes]:
    """Opens a file to read its bytes."""
    if not path.is_file():
        return io.BytesIO(_piped(path))
    return cast(IO[bytes], gzip.open(path)) if path.suffix.lower() == ".gz" else path.open("rb")


def mappable(path: Path) -> Path | IO[bytes]:
    """What to pass to readers of binary files: the path, which they can memory-map, or the content of a pipe."""
    return path if path.is_file() else opened(path)


@functools.cache
def _piped(path: Path) -> bytes:
    content = path.read_bytes()
    return gzip.decompress(content) if content.startswith(b"\x1f\x8b") else content
