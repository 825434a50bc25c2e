"""Reads and writes whole files, with the same order of system calls as src/system/disk.c. A write is all or nothing."""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Callable
from contextlib import suppress
from errno import EACCES, EBUSY, EEXIST, EINVAL, EISDIR, ENODEV, ENXIO

START = 4096  # the first bytes, which a reader checks before it reads the rest
_READ_ONLY = "it is read-only; make it writable (chmod u+w) or remove it first"


def write_file(path: str, data: bytes, is_begun: Callable[[bytes], bool]) -> None:
    """Writes the file, all or nothing: at every moment, and after a crash, it has either its old contents or the new ones.

    If the path is a symbolic link, writes the file that the link points to. An existing file keeps its permissions, and its owner and group
    where the system allows it; a file that this user may not write, or that has no write permission at all, is refused. The steps: create a
    temporary file next to the target, write it, fsync it, rename it over the target, fsync the directory.

    is_begun: whether a file with these first bytes may be one that a killed writer left; the next write to the same target removes it.
    """
    target = os.path.realpath(path) if os.path.exists(path) else path
    old = _old(target)
    directory = os.open(os.path.dirname(target) or ".", os.O_RDONLY | os.O_DIRECTORY)
    try:
        temp, file = _create_temp(target, 0o666 if old is None else old.st_mode & 0o777, is_begun)
        try:
            if old is not None:
                _keep_owner_and_mode(file, old)
            _write_all(file, data)
            os.rename(temp, target)
        except BaseException:
            if _is_named(temp, file):  # not if Ctrl-C came after the rename
                os.unlink(temp)
            raise
        finally:
            _close(file)  # after the rename, because closing releases the lock
        _sync_directory(directory)
    finally:
        _close(directory)


def _old(target: str) -> os.stat_result | None:
    """The file that will be replaced; None if it does not exist. OSError if it may not be replaced."""
    try:
        old = os.lstat(target)
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(old.st_mode):
        raise _not_a_file(old.st_mode, target)
    # The directory alone decides what a rename may do, so the permissions of the file are checked here. Root may write a file without write
    # permission, but its owner took that permission away to keep the file.
    same = (os.getuid(), os.getgid()) == (os.geteuid(), os.getegid())
    if not old.st_mode & 0o222 or not os.access(target, os.W_OK, effective_ids=not same):
        raise PermissionError(EACCES, _READ_ONLY, target)
    return old


def _keep_owner_and_mode(file: int, old: os.stat_result) -> None:
    """May fail: only root may give a file away, and a file system may have no owners or permissions."""
    try:
        os.fchown(file, old.st_uid, old.st_gid)
    except OSError:
        with suppress(OSError):
            os.fchown(file, -1, old.st_gid)
    with suppress(OSError):  # after fchown, because that may take permissions away
        os.fchmod(file, old.st_mode & 0o777)


def _not_a_file(mode: int, path: str) -> OSError:
    if stat.S_ISDIR(mode):
        return IsADirectoryError(EISDIR, os.strerror(EISDIR), path)
    return OSError(ENODEV, "not a regular file", path)


def _create_temp(target: str, mode: int, is_begun: Callable[[bytes], bool]) -> tuple[str, int]:
    """Creates and locks a temporary file next to the target. Each name is tried twice: the first try may find and remove a stale file, and
    the second then creates a new one."""
    directory, name = os.path.split(target)
    for attempt in range(64):
        temp = os.path.join(directory, f".{os.fsdecode(os.fsencode(name)[:239])}.microbp-{attempt // 2}.tmp")
        try:
            file = os.open(temp, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        except FileExistsError:
            _remove_stale(temp, is_begun)
            continue
        if _lock(file) is not False and _is_named(temp, file):
            return temp, file
        _close(file)  # another writer found the file stale before we locked it, and removes it
    raise FileExistsError(EEXIST, "all temporary names for it are in use", target)


def _remove_stale(temp: str, is_begun: Callable[[bytes], bool]) -> None:
    """Removes the file that a killed writer left, but not another file that happens to have the temporary name. A lock ends with its
    process: if we get the lock, no process is writing the file. Only the owner of the lock removes the file."""
    try:
        file = os.open(temp, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return
    try:
        if _lock(file) and _is_named(temp, file) and stat.S_ISREG(os.fstat(file).st_mode) and is_begun(os.read(file, START)):
            os.unlink(temp)
    except OSError:
        pass  # stays, and the next name is tried
    finally:
        _close(file)


def _lock(file: int) -> bool | None:
    """Tries to lock the file. False: another process has the lock. None: this file system has no locks, so no process removes the file."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _is_named(temp: str, file: int) -> bool:
    try:
        return os.path.samestat(os.lstat(temp), os.fstat(file))
    except OSError:
        return False


def _close(file: int) -> None:
    """Closes a file and ignores errors, because fsync has reported them."""
    with suppress(OSError):
        os.close(file)


def _write_all(file: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(file, rest) :]
    os.fsync(file)


def _sync_directory(directory: int) -> None:
    try:
        os.fsync(directory)
    except OSError as error:
        if error.errno != EINVAL:  # EINVAL: this file system cannot sync a directory
            raise


def read_file(path: str, check: Callable[[bytes, int], None]) -> bytes:
    """The contents of a regular file. check(first bytes, size of the file) is called before the rest is read."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_NOCTTY | os.O_NONBLOCK)  # opening a pipe must not wait for a writer
    except OSError as error:
        if error.errno == ENXIO:
            raise _not_a_file(0, path) from None  # a socket
        raise
    try:
        status = os.fstat(file)
        if not stat.S_ISREG(status.st_mode):
            raise _not_a_file(status.st_mode, path)
        start = _read_all(file, min(status.st_size, START), path)
        check(start, status.st_size)
        return start + _read_all(file, status.st_size - len(start), path)
    finally:
        _close(file)


def _read_all(file: int, rest: int, path: str) -> bytes:
    parts = []
    while rest:
        parts.append(os.read(file, rest))
        rest -= len(parts[-1])
        if not parts[-1]:
            raise OSError(EBUSY, "another process is shortening the file", path)
    return b"".join(parts)
