"""Where rows come from: the kinds of files that are read, each by a reader of its own, whole or piece by piece.

A new kind of file is a row in READERS, with functions that make a Table of it.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from . import array_files, csv_file, frames
from .errors import Argument, ArgumentError, TableError
from .opening import opened
from .table import Table, Whole

_LIBSVM = re.compile(r"[-+]?[\d.]+([eE][-+]?\d+)?(\s+\d+:\S+)*\s*(#.*)?")
_USUAL_TARGETS = ("target", "label", "class", "y")
_SPREADSHEETS = (".xls", ".xlsx", ".ods")
CHUNK = 65536  # rows of a piece of a stream


@dataclass(frozen=True)
class Source:
    """Tables to learn from, and those of the test if these are kept apart. A call goes through all of them, from the start."""

    where: str  # what errors call it
    tables: Callable[[], Iterable[Table]]
    tests: Callable[[], Iterable[Table]] | None = None
    is_stream: bool = False  # a call reads anew, in pieces of which only one need be in memory


def find(data: str, test_file: str | None = None, stream: bool = False) -> Source:
    """The rows of `digits` or of a file, and those of a file for the test; stream: piece by piece."""
    for argument, name in (("data", data), ("test_file", test_file)):
        if name is not None:
            _require(argument, name)
    if stream:
        return Source(data, pieces(data), pieces(test_file) if test_file else None, is_stream=True)
    train, test = read(data)
    if test_file:
        test = read(test_file).train
    return Source(data, lambda: [train], (lambda: [test]) if test else None)


def _require(argument: str, name: str) -> None:
    path = Path(name)
    if name != "digits" and not path.exists():
        raise ArgumentError(argument, f"there is no file {name!r}; the only data set without a file is digits")
    if name != "digits" and path.is_dir():
        raise ArgumentError(argument, f"{name!r} is a directory: name a file in it")


def default_target(table: Table) -> str:
    """What the file calls the target, else the column that is named as targets usually are, else the last one."""
    if table.target is not None and table.target not in table.columns:
        what = f"{table.where}: it holds X without {table.target}, so there is no target"
        raise TableError(f"{what}: add it, or name a column by ", Argument("target"))
    return table.target or next((name for name in table.columns if name.lower() in _USUAL_TARGETS), list(table.columns)[-1])


# ---- readers ----


@dataclass(frozen=True)
class Reader:
    """How files of a kind are read, and how they are recognized: by their names' endings, else by their first bytes."""

    whole: Callable[[Path], Whole]
    pieces: Callable[[Path, int], Iterator[Table]] | None  # in tables of at most so many rows; None: whole only
    endings: tuple[str, ...]
    start: bytes | None = None


READERS = {
    "csv": Reader(csv_file.read, csv_file.pieces, (".csv", ".tsv", ".tab")),
    "parquet": Reader(frames.read, frames.pieces, (".parquet", ".pq"), b"PAR1"),
    "npz": Reader(array_files.read_npz, None, (".npz",), b"PK\3\4"),
    "npy": Reader(array_files.read_npy, array_files.npy_pieces, (".npy",), b"\x93NUMPY"),
    "libsvm": Reader(array_files.read_libsvm, None, (".libsvm", ".svm", ".svmlight")),
}


def read(name: str) -> Whole:
    """The rows of `digits` or of a file; ValueError, ImportError or OSError says why there are none."""
    if name == "digits":
        return Whole(array_files.digits())
    path = Path(name)
    with _reading(path):
        whole = _reader(path).whole(path)
    for table in whole:
        if table is not None and table.count == 0:
            raise ValueError(f"{table.where}: it has no rows")
    return whole


def pieces(name: str) -> Callable[[], Iterator[Table]]:
    """A function that reads a file anew, in pieces of CHUNK rows."""
    path = Path(name)
    read_pieces = None if name == "digits" else _reader(path).pieces
    if read_pieces is None:
        raise TableError(Argument("stream"), f" is for CSV, TSV, Parquet and .npy, not for {name}: leave it out")

    def read_anew() -> Iterator[Table]:
        with _reading(path):
            yield from read_pieces(path, CHUNK)

    return read_anew


def _reader(path: Path) -> Reader:
    endings = [suffix.lower() for suffix in path.suffixes if suffix.lower() != ".gz"]
    ending = endings[-1] if endings else ""
    for reader in READERS.values():
        if ending in reader.endings:
            return reader
    if ending in _SPREADSHEETS:
        raise ValueError(f"{path}: spreadsheets are not read: save the sheet as CSV")
    with opened(path) as file:
        start = file.read(4096)
    for reader in READERS.values():
        if reader.start and start.startswith(reader.start):
            return reader
    if b"\0" in start:
        raise ValueError(f"{path}: it is none of CSV, TSV, Parquet, .npz, .npy or libsvm text")
    return READERS["libsvm" if _LIBSVM.fullmatch(start.decode("utf-8", "replace").partition("\n")[0]) else "csv"]


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    """What goes wrong in the readers, each of which has errors of its own, becomes a ValueError of one line that names the file."""
    try:
        yield
    except (ImportError, MemoryError):
        raise
    except OSError as error:
        raise OSError(f"{path}: {error.strerror or error}") from error
    except Exception as error:
        text = next(iter(str(error).strip().splitlines()), type(error).__name__)
        if "pickle" in text or "Python objects" in text:  # NumPy would advise what no stranger's file deserves
            text = "it is not an array, or holds Python objects: save one of numbers or texts"
        raise ValueError(text if str(path) in text else f"{path}: it cannot be read: {text}") from error
