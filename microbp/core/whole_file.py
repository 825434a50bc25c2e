"""Opens regular files to read, and lets other libraries write files all or nothing. (The backends read and write the files of networks and
trainers by the same rules.)"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from .checks import file_path

_WAYS = "make it writable (chmod u+w) or remove it first"


@contextlib.contextmanager
def opened(path: str | os.PathLike[str]) -> Iterator[int]:
    """The descriptor of a regular file, to read it. OSError at once for anything else: reading a pipe or a device might never end."""
    name = os.fsdecode(file_path(path))
    try:
        number = os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK)  # opening a pipe must not wait for a writer
    except OSError as error:
        if error.errno == errno.ENXIO:  # a socket
            raise _not_a_file(name) from None
        raise
    try:
        mode = os.fstat(number).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), name)
        if not stat.S_ISREG(mode):
            raise _not_a_file(name)
        yield number
    finally:
        os.close(number)


def _not_a_file(path: str) -> OSError:
    return OSError(errno.ENODEV, "not a regular file", path)


def check_replaceable(path: str | os.PathLike[str]) -> None:
    """PermissionError if an existing file may not be written, or has no write permission at all: root may write that, but its owner took
    the permission away to keep the file. The permissions of its directory would allow to replace it."""
    name = os.fsdecode(path)
    same = (os.getuid(), os.getgid()) == (os.geteuid(), os.getegid())
    if os.path.exists(name) and not (os.stat(name).st_mode & 0o222 and os.access(name, os.W_OK, effective_ids=not same)):
        raise PermissionError(errno.EACCES, f"it is read-only; {_WAYS}", name)


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yields the path of a new empty file next to `path`, with the same suffix, to write to. This file replaces `path` when the block ends,
    and is removed if the block fails. An existing file keeps its permissions, and its owner and group where the system allows it.
    PermissionError if it is read-only. If `path` is not a regular file (for example /dev/stdout), yields `path` itself."""
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_file():
        with _naming(path):
            yield target
        return
    with _naming(path):
        check_replaceable(target)
        temporary = _created(target)
        try:
            yield temporary
            with temporary.open("rb") as file:
                if target.exists():
                    _keep_owner_and_mode(file.fileno(), target.stat())
                os.fsync(file.fileno())
            temporary.replace(target)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


@contextlib.contextmanager
def _naming(path: str | os.PathLike[str]) -> Iterator[None]:
    """Errors name the path of the caller."""
    try:
        yield
    except OSError as error:
        error.filename = os.fsdecode(path)
        raise


def _created(target: Path) -> Path:
    """A new empty file next to `target`, with the same suffix; never a file that exists. Its random name is as good as unique."""
    room = 255 - len(os.fsencode(f".{target.suffix}")) - len(".microbp-0123456789abcdef")
    stem = os.fsdecode(os.fsencode(target.stem)[: max(room, 0)])
    path = target.with_name(f".{stem}.microbp-{os.urandom(8).hex()}{target.suffix}")
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666))
    return path


def _keep_owner_and_mode(file: int, old: os.stat_result) -> None:
    """May fail: only root may give a file away, and a file system may have no owners or permissions."""
    try:
        os.fchown(file, old.st_uid, old.st_gid)
    except OSError:
        with contextlib.suppress(OSError):
            os.fchown(file, -1, old.st_gid)
    with contextlib.suppress(OSError):  # after fchown, because that may take permissions away
        os.fchmod(file, old.st_mode & 0o777)
