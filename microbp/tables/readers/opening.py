"""The bytes of a file: decompressed, from a .zip archive, or from a pipe. A pipe can be read only once, so its content is kept in memory.

What is inside a file has a path too: the member b.csv of an archive is a.zip/b.csv, and a sheet of a workbook is a.xlsx/Sheet1.
"""

from __future__ import annotations

import errno
import functools
import importlib
import io
import os
import re
import stat
import zipfile
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple, cast


class Compression(NamedTuple):
    """A compression: its name, how its bytes start, and the module of the standard library that reads it."""

    name: str
    start: bytes  # a regular expression
    module: str


COMPRESSIONS = {
    ".gz": Compression("gzip", rb"\x1f\x8b", "gzip"),
    ".bz2": Compression("bzip2", rb"BZh[1-9](1AY&SY|\x17rE8P)", "bz2"),
    ".xz": Compression("xz", rb"\xfd7zXZ\x00", "lzma"),
    ".zst": Compression("Zstandard", rb"\x28\xb5\x2f\xfd", "compression.zstd"),
}
# How formats start that are zip archives
EXCEL = rb"(?s)PK\x03\x04.{26}(\[Content_Types\]\.xml|_rels/|docProps/|xl/)"
NPZ = rb"(?s)PK\x03\x04.{26}[^/\0]{1,80}\.npy"
_OPEN_DOCUMENT = rb"(?s)PK\x03\x04.{26}mimetype"


# ---- places ----


def locate(name: str) -> Path:
    """The path of a file, or of the only file in a .zip archive. name: a path, or `-` for standard input."""
    path = Path("/dev/stdin" if name == "-" else name)
    if not _is_archive(path):
        return path
    with zipfile.ZipFile(_stored(path)) as archive:
        members = [*_members(archive)]
    if not members:
        raise ValueError(f"{path}: the archive contains no files")
    if len(members) > 1:
        listed = ", ".join(members[:5]) + (f" and {len(members) - 5} more" if len(members) > 5 else "")
        raise ValueError(f"{path}: contains {len(members)} files, {listed}; name one of them, such as {path}/{members[0]}")
    return path / members[0]


def divide(path: Path) -> tuple[Path, str]:
    """A file, and the name of what is inside it: a.zip and b.csv for a.zip/b.csv; "" for a whole file."""
    for parent in () if path.exists() else path.parents:
        if parent.exists() and not parent.is_dir():
            return parent, path.relative_to(parent).as_posix()
    return path, ""


def _is_archive(path: Path) -> bool:
    if path.suffix.lower() not in (".zip", "") or divide(path)[1]:
        return False
    start = _start(path)
    return start.startswith(b"PK") and not any(re.match(own, start) for own in (EXCEL, NPZ, _OPEN_DOCUMENT) if path.suffix == "")


def _members(archive: zipfile.ZipFile) -> dict[str, str]:
    """The files in an archive, without those that macOS adds: their paths, and their names there."""
    files = [entry.filename for entry in archive.infolist() if not entry.is_dir()]
    paths = {str(PurePosixPath(name)).lstrip("/"): name for name in files}
    return {path: name for path, name in paths.items() if not re.search(r"^__MACOSX/|(^|/)\.(_|DS_Store$)", path)}


# ---- bytes ----


def opened(path: Path) -> IO[bytes]:
    """Opens a file, a pipe or a member of a .zip archive to read its bytes, decompressed."""
    container, inner = divide(path)
    stored = _member(container, inner) if inner else _stored(container)
    start = _start(container) if isinstance(stored, Path) else _peek(stored)
    found = next((known for known in COMPRESSIONS.values() if re.match(known.start, start)), None)
    if found is None:
        if wrong := COMPRESSIONS.get(path.suffix.lower()):
            what = f"is not compressed by {wrong.name}, or is damaged"
            raise ValueError(f"{path}: {what}; remove {path.suffix} from its name, or compress it again")
        return stored.open("rb") if isinstance(stored, Path) else stored
    try:
        module = importlib.import_module(found.module)
    except ImportError:
        raise ValueError(f"{path}: is compressed by {found.name}, which this Python cannot read; decompress it first") from None
    # A compressed file does not close the file that it reads from, so a member is read whole
    return cast(IO[bytes], module.open(stored if isinstance(stored, Path) else io.BytesIO(stored.read())))


def is_plain(path: Path) -> bool:
    """Whether the bytes of a path are those of a file: it is not compressed, in an archive or a pipe."""
    return path.is_file() and not any(re.match(known.start, _start(path)) for known in COMPRESSIONS.values())


def mappable(path: Path) -> Path | IO[bytes]:
    """What to pass to readers of binary files: the path, which they can memory-map, or the content of a compressed file or a pipe."""
    if is_plain(path):
        return path
    with opened(path) as file:
        return io.BytesIO(file.read())


# ---- parts of a file ----


class Share(NamedTuple):
    """One of several parts of a file or a table, which are about equally large: number `rank`, from 0, of `ranks`."""

    rank: int
    ranks: int

    def of(self, count: int) -> slice:
        """The rows of this part, of `count`."""
        return slice(count * self.rank // self.ranks, count * (self.rank + 1) // self.ranks)


def span(path: Path, share: Share, start: int = 0) -> tuple[int, int]:
    """The first byte of a part of a plain text file, and the one after it; parts begin after line ends. start: where the first begins."""
    with path.open("rb") as file:
        cut = share.of(file.seek(0, os.SEEK_END) - start)
        begin = start if share.rank == 0 else _line_after(file, start + cut.start)
        return begin, start + cut.stop if share.rank + 1 == share.ranks else _line_after(file, start + cut.stop)


def _line_after(file: IO[bytes], place: int) -> int:
    file.seek(place)
    while block := file.read(1 << 16):
        if (end := block.find(b"\n")) >= 0:
            return place + end + 1
        place += len(block)
    return place


def lines_before(path: Path, place: int) -> int:
    """The number of line ends before a byte of a plain file."""
    with path.open("rb") as file:
        return sum(file.read(min(1 << 20, place - first)).count(b"\n") for first in range(0, place, 1 << 20))


def _stored(path: Path) -> Path | IO[bytes]:
    return path if path.is_file() else io.BytesIO(_piped(path))


def _start(path: Path) -> bytes:
    if not path.is_file():
        return _piped(path)[:200]
    with path.open("rb") as file:
        return file.read(200)


def _peek(file: IO[bytes]) -> bytes:
    start = file.read(200)
    file.seek(0)
    return start


def _member(container: Path, inner: str) -> IO[bytes]:
    if not _start(container).startswith(b"PK"):
        raise ValueError(f"{container}: is not an archive, so it does not contain {inner}")
    with zipfile.ZipFile(_stored(container)) as archive:
        members = _members(archive)
        if inner not in members:
            raise ValueError(f"{container}: does not contain {inner}; it contains {', '.join([*members][:5])}")
        return archive.open(members[inner])


@functools.cache
def _piped(path: Path) -> bytes:
    """The content of a pipe, a terminal or /dev/null, which end. Another device, such as /dev/zero, may not, so it is refused."""
    with path.open("rb", buffering=0) as file:
        status = os.fstat(file.fileno())
        if stat.S_ISCHR(status.st_mode) and not file.isatty() and status.st_rdev != os.stat(os.devnull).st_rdev:
            raise OSError(errno.ENODEV, "is a device, not a file or a pipe", str(path))
        return file.readall()
