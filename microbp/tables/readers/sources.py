"""The file formats and their readers, which read a file at once or in pieces.

To add a format, add a row to READERS, with functions that return a Table.
"""

from __future__ import annotations

import contextlib
import gzip
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
_OTHER_TEXTS = (".json", ".jsonl", ".ndjson", ".xml", ".html", ".yaml", ".arff")  # text files, but not of columns
CHUNK = 65536  # rows in a piece of a stream


@dataclass(frozen=True)
class Source:
    """Tables to train on, and separate test tables if there are any. Each call of `tables` or `tests` starts again from the first table."""

    where: str  # its name in errors
    tables: Callable[[], Iterable[Table]]
    tests: Callable[[], Iterable[Table]] | None = None
    is_stream: bool = False  # each call reads the file again, in pieces; one piece is in memory at a time


def find(data: str, test_file: str | None = None, stream: bool = False) -> Source:
    """The rows of `digits` or of a file, and test rows from another file. stream: whether to read in pieces."""
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
        raise ArgumentError(argument, f"there is no file {name!r}; the only built-in data set is digits")
    if name != "digits" and path.is_dir():
        raise ArgumentError(argument, f"{name!r} is a directory; name a file")


def default_target(table: Table) -> str:
    """The target that the file format names, else the first column with a usual name for targets, else the last column."""
    if table.target is not None and table.target not in table.columns:
        what = f"{table.where}: contains X but not {table.target}, so there is no target"
        raise TableError(f"{what}; add it, or choose a column with ", Argument("target"))
    return table.target or next((name for name in table.columns if name.lower() in _USUAL_TARGETS), list(table.columns)[-1])


# ---- readers ----


@dataclass(frozen=True)
class Reader:
    """How to read a file format, and how to recognize it: by the extension of the file name, else by the first bytes."""

    whole: Callable[[Path], Whole]
    pieces: Callable[[Path, int], Iterator[Table]] | None  # yields tables of at most this many rows; None: the format is only read at once
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
    """The rows of `digits` or of a file. ValueError, ImportError or OSError: it cannot be read."""
    if name == "digits":
        return Whole(array_files.digits())
    path = Path(name)
    with _reading(path):
        whole = _reader(path).whole(path)
    for table in whole:
        if table is not None and table.count == 0:
            raise ValueError(f"{table.where}: the file has no rows")
    return whole


def pieces(name: str) -> Callable[[], Iterator[Table]]:
    """A function that reads a file in pieces of CHUNK rows; each call reads it again."""
    path = Path(name)
    with _reading(path):
        read_pieces = None if name == "digits" else _reader(path).pieces
    if read_pieces is None:
        raise TableError(Argument("stream"), f" works for CSV, TSV, Parquet and .npy, not for {name}; omit ", Argument("stream"))

    def read_again() -> Iterator[Table]:
        with _reading(path):
            yield from read_pieces(path, CHUNK)

    return read_again


def _reader(path: Path) -> Reader:
    endings = [suffix.lower() for suffix in path.suffixes if suffix.lower() != ".gz"]
    ending = endings[-1] if endings else ""
    for reader in READERS.values():
        if ending in reader.endings:
            return reader
    if ending in _SPREADSHEETS:
        raise ValueError(f"{path}: spreadsheets are not supported; save the sheet as CSV")
    with opened(path) as file:
        start = file.read(4096)
    for reader in READERS.values():
        if reader.start and start.startswith(reader.start):
            return reader
    if b"\0" in start or ending in _OTHER_TEXTS:
        raise ValueError(f"{path}: unknown format; use CSV, TSV, Parquet, .npz, .npy or libsvm text")
    return READERS["libsvm" if _LIBSVM.fullmatch(start.decode("utf-8", "replace").partition("\n")[0]) else "csv"]


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turns errors of the readers into a ValueError with one line that names the file, but keeps the type of OSError, ImportError
    and MemoryError.
    """
    try:
        yield
    except (ImportError, MemoryError):
        raise
    except gzip.BadGzipFile:
        raise ValueError(f"{path}: is not compressed by gzip, or is damaged; remove .gz from its name, or compress it again") from None
    except OSError as error:
        raise OSError(f"{path}: {error.strerror or error}") from error
    except Exception as error:
        text = next(iter(str(error).strip().splitlines()), type(error).__name__)
        if "pickle" in text or "Python objects" in text:  # NumPy would advise to allow pickles, which is unsafe
            text = "not an array, or an array of Python objects; save an array of numbers or strings"
        raise ValueError(text if str(path) in text else f"{path}: cannot be read: {text}") from error
