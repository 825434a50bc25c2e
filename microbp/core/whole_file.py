"""Files that other libraries write, whole or not at all. (Networks and trainers are written by the backends.)"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A path beside `path`, with the same suffix, to write to: it takes the place of `path` when the block ends, and is removed if the
    block fails. What is no regular file, such as /dev/stdout, is written to as it is."""
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_file():
        yield target
        return
    beside = target.with_name(f".{os.getpid()}.{target.name}")
    try:
        yield beside
        if target.exists():
            shutil.copymode(target, beside)
        with beside.open("rb") as file:
            os.fsync(file.fileno())
        beside.replace(target)
    except OSError as error:
        error.filename = os.fspath(path)
        raise
    finally:
        beside.unlink(missing_ok=True)
