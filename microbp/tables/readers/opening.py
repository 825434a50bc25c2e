"""The bytes of a file, decompressed if it is a .gz. The content of a pipe, which can be read only once, is kept in memory."""

from __future__ import annotations

import errno
import functools
import gzip
import io
import os
import stat
from pathlib import Path
from typing import IO, cast


def opened(path: Path) -> IO[bytes]:
    """Opens a file or a pipe to read its bytes."""
    if not path.is_file():
        return io.BytesIO(_piped(path))
    return cast(IO[bytes], gzip.open(path)) if path.suffix.lower() == ".gz" else path.open("rb")


def mappable(path: Path) -> Path | IO[bytes]:
    """What to pass to readers of binary files: the path, which they can memory-map, or the content of a pipe."""
    return path if path.is_file() else opened(path)


@functools.cache
def _piped(path: Path) -> bytes:
    """The content of a pipe, a terminal or /dev/null, which end. Another device, such as /dev/zero, may not, so it is refused."""
    with path.open("rb", buffering=0) as file:
        status = os.fstat(file.fileno())
        if stat.S_ISCHR(status.st_mode) and not file.isatty() and status.st_rdev != os.stat(os.devnull).st_rdev:
            raise OSError(errno.ENODEV, "is a device, not a file or a pipe", str(path))
        content = file.readall()
    return gzip.decompress(content) if content.startswith(b"\x1f\x8b") else content
