"""Lets other libraries write files all or nothing. (The backends write the files of networks and trainers.)"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yields a temporary path next to `path`, with the same suffix, to write to. The temporary file replaces `path` when the block ends,
    and is removed if the block fails. If `path` is not a regular file (for example /dev/stdout), yields `path` itself."""
    target = Path(os.path.realpath(path))
    is_special = target.exists() and not target.is_file()
    temporary = target if is_special else target.with_name(f".{os.getpid()}.{target.name}")
    try:
        yield temporary
        if is_special:
            return
        if target.exists():
            shutil.copymode(target, temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(target)
    except OSError as error:
        error.filename = os.fspath(path)
        raise
    finally:
        if not is_special:
            temporary.unlink(missing_ok=True)
