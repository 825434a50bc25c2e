"""The file formats and their readers, which read a file at once or in pieces.

To add a format, add a row to READERS, with functions that return a Table.
"""

from __future__ import annotations

import codecs
import contextlib
import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from ...ranks.ranks import Ranks
from . import array_files, csv_file, excel_file, frame_files, frames, json_file
from .errors import Argument, ArgumentError, TableError
from .opening import COMPRESSIONS, EXCEL, NPZ, divide, locate, opened
from .table import Table, Whole

_LIBSVM = re.compile(r"([-+]?[\d.]+([eE][-+]?\d+)?\s+)?\d+:[-+.\w]+(\s+\d+:[-+.\w]+)*\s*(#.*)?")
USUAL_TARGETS = ("target", "label", "class", "y")
_SPREADSHEETS = (".xls", ".xlsb", ".ods", ".numbers")
_OTHERS = re.compile(r"\.(xml|html?|ya?ml|arff|pkl|pickle|h5|hdf5|mat|sqlite|db|dta|sav|sas7bdat|rds|rdata|orc|avro|pdf)")
CHUNK = 65536  # rows in a piece of a stream


@dataclass(frozen=True)
class Source:
    """Tables to train on, and separate test tables if there are any. Each call of `tables` or `tests` starts again from the first table."""

    where: str  # its name in errors
    tables: Callable[[], Iterable[Table]]
    tests: Callable[[], Iterable[Table]] | None = None
    is_stream: bool = False  # each call reads the file again, in pieces; one piece is in memory at a time
    ranks: Ranks | None = None  # the processes that have the rows; the tables have lazy columns, or all ranks have all rows


def find(data: Any, test_file: Any = None, stream: bool = False, header: bool | None = None) -> Source:
    """The rows of `digits`, of a file, or of data in memory (frames.py), and test rows from another. stream: whether to read in pieces.
    header: whether the first row of a text file or a sheet names the columns; None to decide by the types of its cells.
    """
    if stream:
        tests = None if test_file is None else _stream("test_file", test_file, header)
        return Source(str(data), _stream("table", data, header), tests, is_stream=True)
    train, test = _whole("table", data, header)
    if test_file is not None:
        test = _whole("test_file", test_file, header).train
    return Source(train.where, lambda: [train], (lambda: [test]) if test else None)


def _whole(argument: str, data: Any, header: bool | None) -> Whole:
    if isinstance(data, str | os.PathLike):
        return read(required(argument, data), header)
    table = in_memory(argument, data, header)
    if table.count == 0:
        raise ArgumentError(argument, "has no rows")
    return Whole(table)


def in_memory(argument: str, data: Any, header: bool | None) -> Table:
    """A table from data in memory, which may have no rows."""
    if header is not None:
        raise ArgumentError("no_header", "applies to CSV, TSV and Excel files, not to data in memory; omit it")
    return frames.table(argument, data)


def _stream(argument: str, data: Any, header: bool | None) -> Callable[[], Iterator[Table]]:
    if not isinstance(data, str | os.PathLike):
        raise ArgumentError("stream", "reads files in pieces, and the data is in memory; omit it")
    return pieces(required(argument, data), header)


def required(argument: str, data: str | os.PathLike[str]) -> str:
    """The name of a file that exists, or `digits` or `-`."""
    name = os.fspath(data)
    path = Path("/dev/stdin" if name == "-" else name)
    if name == "digits":
        return name
    if not path.exists() and not divide(path)[1]:
        what = "standard input is closed" if name == "-" else f"there is no file {name!r}; the only built-in data set is digits"
        raise ArgumentError(argument, what)
    if path.is_dir():
        raise ArgumentError(argument, f"{name!r} is a directory; name a file")
    return name


def default_target(table: Table) -> str:
    """The target that the file format names, else the first column with a usual name for targets, else the last column."""
    if table.target is not None and table.target not in table.columns:
        what = f"{table.where}: contains X but not {table.target}, so there is no target"
        raise TableError(f"{what}; add it, or choose a column with ", Argument("target"))
    return table.target or next((name for name in table.columns if name.lower() in USUAL_TARGETS), list(table.columns)[-1])


# ---- readers ----


@dataclass(frozen=True)
class Reader:
    """How to read a file format, and how to recognize it: by the extension of the file name, else by the first bytes."""

    whole: Callable[[Path], Whole]
    pieces: Callable[[Path, int], Iterator[Table]] | None  # yields tables of at most this many rows; None: the format is only read at once
    endings: tuple[str, ...]
    start: bytes | None = None  # a regular expression


READERS = {
    "csv": Reader(csv_file.read, csv_file.pieces, (".csv", ".tsv", ".tab")),
    "json": Reader(json_file.read, None, (".json",), rb"(\xef\xbb\xbf)?\s*(\[\s*[\[{\]]|\{\s*[\"}])"),
    "jsonl": Reader(json_file.read_lines, json_file.pieces, (".jsonl", ".ndjson"), rb"(\xef\xbb\xbf)?\s*\{[^\n]*\}\s*\n\s*\{"),
    "excel": Reader(excel_file.read, None, excel_file.ENDINGS, EXCEL + rb"|\xd0\xcf\x11\xe0"),
    "parquet": Reader(frame_files.read_parquet, frame_files.parquet_pieces, (".parquet", ".pq"), b"PAR1"),
    "arrow": Reader(
        frame_files.read_arrow, frame_files.arrow_pieces, (".arrow", ".arrows", ".feather", ".ipc"), rb"ARROW1|\xff\xff\xff\xff"
    ),
    "npz": Reader(array_files.read_npz, None, (".npz",), NPZ),
    "npy": Reader(array_files.read_npy, array_files.npy_pieces, (".npy",), rb"\x93NUMPY"),
    "libsvm": Reader(array_files.read_libsvm, array_files.libsvm_pieces, (".libsvm", ".svm", ".svmlight")),
}


def read(name: str, header: bool | None = None) -> Whole:
    """The rows of `digits`, of a file, or of standard input for `-`. header: as in `find`. ValueError, ImportError or OSError: it cannot be
    read.
    """
    if name == "digits":
        return Whole(array_files.digits())
    with reading(name):
        path = locate(name)
        whole = with_header(path, header).whole(path)
    for table in whole:
        if table is not None and table.count == 0:
            raise ValueError(f"{table.where}: the file has no rows")
    return whole


def pieces(name: str, header: bool | None = None) -> Callable[[], Iterator[Table]]:
    """A function that reads a file in pieces of CHUNK rows; each call reads it again. header: as in `find`."""
    with reading(name):
        path = Path(name) if name == "digits" else locate(name)
        read_pieces = None if name == "digits" else with_header(path, header).pieces
    if read_pieces is None:
        text = f" works for CSV, TSV, JSON lines, Parquet, Arrow, .npy and libsvm text, not for {name}; omit "
        raise TableError(Argument("stream"), text, Argument("stream"))

    def read_again() -> Iterator[Table]:
        with reading(name):
            yield from read_pieces(path, CHUNK)

    return read_again


def with_header(path: Path, header: bool | None) -> Reader:
    """The reader for a file. header: as in `find`."""
    found = reader_of(path)
    if header is None:
        return found
    if found is READERS["csv"]:
        return replace(found, whole=partial(csv_file.read, header=header), pieces=partial(csv_file.pieces, header=header))
    if found is READERS["excel"]:
        return replace(found, whole=partial(excel_file.read, header=header))
    raise ArgumentError("no_header", f"applies to CSV, TSV and Excel files, not to {path}; omit it")


def reader_of(path: Path) -> Reader:
    """The reader for a file by the ending of its name, else by its first bytes."""
    endings = [suffix.lower() for suffix in path.suffixes if suffix.lower() not in COMPRESSIONS]
    ending = endings[-1] if endings else ""
    if divide(path)[0].suffix.lower() in excel_file.ENDINGS:  # a sheet may have any name
        return READERS["excel"]
    for reader in READERS.values():
        if ending in reader.endings:
            return reader
    if ending in _SPREADSHEETS:
        raise ValueError(f"{path}: {ending} files are not supported; save the sheet as .xlsx or CSV")
    if _OTHERS.fullmatch(ending):
        raise ValueError(f"{path}: {ending} files are not supported; save the table as CSV or Parquet, or pass a data frame in Python")
    with opened(path) as file:
        return _recognized(path, file.read(4096))


def _recognized(path: Path, start: bytes) -> Reader:
    """The reader for a file with this start, whose name does not say the format."""
    for name in ("jsonl", *READERS):
        known = READERS[name].start
        if known and re.match(known, start):
            return READERS[name]
    if b"\0" in start and not start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        formats = "CSV, TSV, JSON, JSON lines, Excel (.xlsx), Parquet, Arrow, .npz, .npy or libsvm text"
        raise ValueError(f"{path}: unknown format; use {formats}")
    lines = [line for line in start.decode("utf-8-sig", "replace").splitlines() if line.strip() and not line.startswith("#")]
    return READERS["libsvm" if lines and _LIBSVM.fullmatch(lines[0]) else "csv"]


@contextlib.contextmanager
def reading(name: str) -> Iterator[None]:
    """Turns errors of the readers into a ValueError with one line that names the file, but keeps the type of OSError, ImportError
    and MemoryError.
    """
    try:
        yield
    except (ImportError, MemoryError, TableError):
        raise
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":  # polars raises it for damaged files
            raise
        if isinstance(error, OSError) and error.errno is not None:
            raise OSError(f"{name}: {error.strerror or error}") from error
        text = next(iter(str(error).strip().splitlines()), type(error).__name__)
        if "pickle" in text or "Python objects" in text:  # NumPy would advise to allow pickles, which is unsafe
            text = "not an array, or an array of Python objects; save an array of numbers or strings"
        is_named = str(divide(Path(name))[0]) in text or "/dev/stdin" in text
        raise ValueError(text if is_named else f"{name}: cannot be read: {text}") from error
