"""Reads and writes whole files, with the same order of system calls as src/system/disk.c. A write is all or nothing."""

from __future__ import annotations

import fcntl
import os
import stat
from contextlib import suppress
from errno import EBUSY, EEXIST, EINVAL, EISDIR, ENODEV


def write_file(path: str, data: bytes) -> None:
    """Writes the file, all or nothing: at every moment, and after a crash, it has either its old contents or the new ones.

    If the path is a symbolic link, writes the file that the link points to. An existing file keeps its permissions. The steps: create a
    temporary file next to the target, write it, fsync it, rename it over the target, fsync the directory.
    """
    target = os.path.realpath(path) if os.path.exists(path) else path
    mode = _mode(target)
    directory = os.open(os.path.dirname(target) or ".", os.O_RDONLY | os.O_DIRECTORY)
    try:
        temp, file = _create_temp(target, 0o666 if mode is None else mode)
        try:
            if mode is not None:
                with suppress(OSError):  # fails on a file system without permissions
                    os.fchmod(file, mode)
            _write_all(file, data)
            os.rename(temp, target)
        except BaseException:
            os.unlink(temp)
            raise
        finally:
            _close(file)  # after the rename, because closing releases the lock
        _sync_directory(directory)
    finally:
        _close(directory)


def _mode(target: str) -> int | None:
    """The permissions of the file that will be replaced; None if it does not exist."""
    try:
        mode = os.lstat(target).st_mode
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(mode):
        raise _not_a_file(mode, target)
    return mode & 0o777


def _not_a_file(mode: int, path: str) -> OSError:
    if stat.S_ISDIR(mode):
        return IsADirectoryError(EISDIR, os.strerror(EISDIR), path)
    return OSError(ENODEV, "not a regular file", path)


def _create_temp(target: str, mode: int) -> tuple[str, int]:
    """Creates and locks a temporary file next to the target. Each name is tried twice: the first try may find and remove a stale file, and
    the second then creates a new one."""
    directory, name = os.path.split(target)
    for attempt in range(64):
        temp = os.path.join(directory, f"{os.fsdecode(os.fsencode(name)[:247])}.{attempt // 2}.tmp")
        try:
            file = os.open(temp, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        except FileExistsError:
            _remove_stale(temp)
            continue
        if _lock(file) is not False and _is_named(temp, file):
            return temp, file
        _close(file)  # another writer found the file stale before we locked it, and removes it
    raise FileExistsError(EEXIST, "all temporary names for it are in use", target)


def _remove_stale(temp: str) -> None:
    """Removes the file that a killed writer left. A lock ends with its process: if we get the lock, no process is writing the file. Only
    the owner of the lock removes the file."""
    try:
        file = os.open(temp, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return
    try:
        if _lock(file) and _is_named(temp, file):
            os.unlink(temp)
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


def read_file(path: str) -> bytes:
    file = os.open(path, os.O_RDONLY | os.O_NOCTTY | os.O_NONBLOCK)  # opening a pipe must not wait for a writer
    try:
        status = os.fstat(file)
        if not stat.S_ISREG(status.st_mode):
            raise _not_a_file(status.st_mode, path)
        parts, rest = [], status.st_size
        while rest:
            parts.append(os.read(file, rest))
            rest -= len(parts[-1])
            if not parts[-1]:
                raise OSError(EBUSY, "another process is shortening the file", path)
        return b"".join(parts)
    finally:
        _close(file)
