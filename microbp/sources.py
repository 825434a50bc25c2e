"""Where rows come from: the digits, tables of text, Parquet (by polars or pandas), NumPy's files and libsvm's text."""

from __future__ import annotations

import argparse
import contextlib
import functools
import gzip
import importlib
import io
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from . import csv_file
from .arrays import Array
from .table import Table, Unusable, Written, column_names

_LIBSVM = re.compile(r"[-+]?[\d.]+([eE][-+]?\d+)?(\s+\d+:\S+)*\s*(#.*)?")
_USUAL_TARGETS = ("target", "label", "class", "y")
_NO_ROWS = "it has no rows"
CHUNK = 65536  # rows of a piece of a stream


class Source(NamedTuple):
    """The rows to learn from, and those that the file itself keeps for the test."""

    train: Table
    test: Table | None = None


def read(name: str) -> Source:
    """The rows of `digits` or of a file; ValueError, ImportError or OSError says why there are none."""
    if name == "digits":
        return Source(_digits())
    path = _existing(name)
    with _reading(path):
        source = _READERS[kind_of(path)](path)
    for table in source:
        if table is not None and table.count == 0:
            raise ValueError(f"{table.where}: {_NO_ROWS}")
    return source


def _existing(name: str) -> Path:
    path = Path(name)
    if not path.exists():
        raise argparse.ArgumentTypeError(f"{name!r} is no file, and the only data that comes along is digits")
    if path.is_dir():
        raise argparse.ArgumentTypeError(f"{name!r} is a directory: name a file in it")
    return path


def default_target(table: Table) -> str:
    """What the file calls it, else the column that is named as targets usually are, else the last one."""
    if table.target is not None and table.target not in table.columns:
        raise ValueError(f"{table.where}: it holds X without {table.target}, so there is no target: add it, or name a column by --target")
    return table.target or next((name for name in table.columns if name.lower() in _USUAL_TARGETS), list(table.columns)[-1])


def kind_of(path: Path) -> str:
    """csv, parquet, npz, npy or libsvm: by the name's ending, else by the first bytes."""
    suffixes = [suffix.lower() for suffix in path.suffixes if suffix.lower() != ".gz"]
    if suffixes and suffixes[-1] in _ENDINGS:
        return _ENDINGS[suffixes[-1]]
    if suffixes and suffixes[-1] in (".xls", ".xlsx", ".ods"):
        raise ValueError(f"{path}: spreadsheets are not read: save the sheet as CSV")
    with _open(path) as file:
        start = file.read(4096)
    for magic, kind in ((b"PAR1", "parquet"), (b"PK\3\4", "npz"), (b"\x93NUMPY", "npy")):
        if start.startswith(magic):
            return kind
    if b"\0" in start:
        raise ValueError(f"{path}: it is none of CSV, TSV, Parquet, .npz, .npy or libsvm text")
    return "libsvm" if _LIBSVM.fullmatch(start.decode("utf-8", "replace").partition("\n")[0]) else "csv"


def _open(path: Path) -> Any:
    if not path.is_file():
        return io.BytesIO(_piped(path))
    return gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb")


@functools.cache
def _piped(path: Path) -> bytes:
    """All that comes out of a pipe, which can be read only once."""
    content = path.read_bytes()
    return gzip.decompress(content) if content.startswith(b"\x1f\x8b") else content


def _openable(path: Path) -> Any:
    """What readers of binary files take: the path, which they may map, or the content of a pipe."""
    return path if path.is_file() else _open(path)


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
            text = "it is no array, or one of Python objects: save one of numbers or texts"
        raise ValueError(text if str(path) in text else f"{path}: it cannot be read: {text}") from error


def _digits() -> Table:
    try:
        from sklearn.datasets import load_digits  # type: ignore[import-untyped,unused-ignore]
    except ImportError:
        raise ImportError("the digits come with scikit-learn, which is not installed: python -m pip install scikit-learn") from None
    x, labels = load_digits(return_X_y=True)
    columns = _places(x) | {"digit": np.array([str(label) for label in labels], dtype=object)}
    return Table("digits", columns, len(x), is_positional=True, target="digit")


# ---- tables ----


def _csv(path: Path) -> Source:
    table = next(csv_file.tables(str(path), _open(path)), None)
    if table is None:
        raise ValueError(f"{path}: {_NO_ROWS}")
    return Source(table)


def _parquet(path: Path) -> Source:
    return Source(_frame_table(str(path), _engine().read_parquet(_openable(path)), 0))


def _engine() -> Any:
    for name in ("polars", "pandas"):
        try:
            return importlib.import_module(name)
        except ImportError:
            pass
    raise ImportError("Parquet is read by polars or pandas, and neither is installed: python -m pip install polars")


def _frame_table(where: str, frame: Any, first: int) -> Table:
    convert = _pandas_column if hasattr(frame, "iloc") else _polars_column
    names = column_names(where, frame.columns)
    return Table(where, {name: _column(convert, frame[key]) for name, key in zip(names, frame.columns)}, len(frame), first)


def _column(convert: Callable[[Any], Array | None], series: Any) -> Array | Written | Unusable:
    """A column, which is refused only if it is used: others need not be such as a network can take."""
    column = convert(series)
    if column is None:
        kind = type(series.dropna().iloc[0]).__name__ if str(series.dtype) == "object" else series.dtype
        return Unusable(f"holds {kind} values, which a network cannot take: write what matters of them as numbers")
    return csv_file.column(column.tolist()) if column.dtype == object else column


def _polars_column(series: Any) -> Array | None:
    kind, name = series.dtype, str(series.dtype.base_type())
    if kind.is_numeric() or name == "Boolean":
        as_float = series.null_count() or kind.is_decimal()
        return np.asarray(series.cast(importlib.import_module("polars").Float64) if as_float else series)
    return np.array(series.to_list(), dtype=object) if name in ("String", "Categorical", "Enum", "Null") else None


def _pandas_column(series: Any) -> Array | None:
    kind, empty = getattr(series.dtype, "kind", "O"), series.isna()
    if kind in "iufb" and not empty.any():
        return np.asarray(series.to_numpy(), dtype=getattr(series.dtype, "numpy_dtype", series.dtype))
    if kind in "iufb":
        return np.asarray(series.to_numpy(dtype=np.float64, na_value=np.nan))
    values = [None if is_empty else value for value, is_empty in zip(series.tolist(), empty)]
    kinds = {type(value) for value in values if value is not None}
    if kinds == {bool}:
        return np.array([np.nan if value is None else float(value) for value in values])
    return np.array(values, dtype=object) if kinds <= {str} else None


# ---- arrays and libsvm's text ----


def _npz(path: Path) -> Source:
    with _open(path) as opened, np.load(opened, allow_pickle=False) as file:
        arrays = {name.lower(): file[name] for name in file.files}
    if "x" in arrays:
        return Source(_arrays(path, arrays, "x", "y"))
    if {"x_train", "y_train"} <= arrays.keys():
        test = _arrays(path, arrays, "x_test", "y_test") if {"x_test", "y_test"} <= arrays.keys() else None
        return Source(_arrays(path, arrays, "x_train", "y_train"), test)
    raise ValueError(f"{path}: it holds {', '.join(arrays) or 'nothing'}; it must hold X and y, or x_train, y_train, x_test and y_test")


def _arrays(path: Path, arrays: dict[str, Array], x: str, y: str) -> Table:
    """A table of an array of rows and, if it is there, one of targets."""
    features = arrays[x].reshape(len(arrays[x]), -1) if arrays[x].ndim > 1 else arrays[x].reshape(-1, 1)
    if features.dtype.kind not in "biuf":
        raise ValueError(f"{path}: {x} holds {features.dtype} values, not numbers")
    columns = _places(features)
    if y in arrays:
        target = arrays[y].reshape(-1) if arrays[y].ndim == 2 and arrays[y].shape[1] == 1 else arrays[y]
        if target.ndim != 1 or len(target) != len(features):
            raise ValueError(f"{path}: {y} has shape {arrays[y].shape}; it must hold one value for each of the {len(features)} rows of {x}")
        if target.dtype.kind not in "biufUS":
            raise ValueError(f"{path}: {y} holds {target.dtype} values, neither numbers nor texts")
        texts = np.char.decode(target, "utf-8") if target.dtype.kind == "S" else target
        columns["y"] = csv_file.clean(texts.tolist()) if texts.dtype.kind == "U" else texts
    return Table(str(path), columns, len(features), is_positional=True, target="y")


def _places(x: Array) -> dict[str, Array]:
    return {f"x{i}": x[:, i] for i in range(x.shape[1])}


def _npy(path: Path) -> Source:
    return Source(_npy_rows(path, _npy_array(path), 0))


def _npy_array(path: Path) -> Array:
    return np.asarray(np.load(_openable(path), mmap_mode="r" if path.is_file() else None, allow_pickle=False))


def _npy_rows(path: Path, array: Array, first: int) -> Table:
    if array.ndim != 2 or array.dtype.kind not in "biuf":
        raise ValueError(f"{path}: it holds {array.dtype} values of shape {array.shape}; it must hold a row of numbers per example")
    return Table(str(path), _places(array), len(array), first, is_positional=True)


def _libsvm(path: Path) -> Source:
    """Lines of `label index:value ...`; columns are named by their index, and what a line does not name is 0."""
    labels, rows, places, values = [], [], [], []
    with _open(path) as file:
        for number, line in enumerate(file, 1):
            words = line.decode("utf-8", "replace").partition("#")[0].split()
            if not words:
                continue
            try:
                labels.append(float(words[0]))
                pairs = [(int(place), float(value)) for place, _, value in (word.partition(":") for word in words[1:])]
            except ValueError:
                raise ValueError(f"{path}, line {number}: it is not `label index:value ...`: {' '.join(words[:4])[:60]!r}") from None
            if any(place < 0 for place, _ in pairs):
                raise ValueError(f"{path}, line {number}: an index is negative")
            rows += [len(labels) - 1] * len(pairs)
            places += [place for place, _ in pairs]
            values += [value for _, value in pairs]
    indices, column = np.unique(np.array(places, dtype=np.int64), return_inverse=True)
    x = np.zeros((len(indices), len(labels)))
    x[column, rows] = values
    columns = {str(index): x[i] for i, index in enumerate(indices)} | {"label": np.array(labels)}
    return Source(Table(str(path), columns, len(labels), is_sparse=True))


_READERS: dict[str, Callable[[Path], Source]] = {"csv": _csv, "parquet": _parquet, "npz": _npz, "npy": _npy, "libsvm": _libsvm}
_ENDINGS = {
    ".csv": "csv", ".tsv": "csv", ".tab": "csv", ".parquet": "parquet", ".pq": "parquet", ".npz": "npz", ".npy": "npy",
    ".libsvm": "libsvm", ".svm": "libsvm", ".svmlight": "libsvm",
}  # fmt: skip


# ---- piece by piece ----


def stream(name: str) -> Callable[[], Iterator[Table]]:
    """A function that reads a file anew, in pieces of CHUNK rows, of which only one need be in memory."""
    path = Path() if name == "digits" else _existing(name)
    kind = "digits" if name == "digits" else kind_of(path)
    if kind not in _STREAMS:
        raise ValueError(f"--stream is for CSV, TSV, Parquet and .npy, not for {name}: leave it out")

    def pieces() -> Iterator[Table]:
        with _reading(path):
            yield from _STREAMS[kind](path)

    return pieces


def _csv_pieces(path: Path) -> Iterator[Table]:
    yield from csv_file.tables(str(path), _open(path), CHUNK)


def _parquet_pieces(path: Path) -> Iterator[Table]:
    engine, first = _engine(), 0
    for frame in _polars_frames(engine, path) if engine.__name__ == "polars" else _arrow_frames(path):
        yield _frame_table(str(path), frame, first)
        first += len(frame)


def _polars_frames(engine: Any, path: Path) -> Iterator[Any]:
    lazy, first = engine.scan_parquet(_openable(path)), 0
    while len(frame := lazy.slice(first, CHUNK).collect()):
        yield frame
        first += len(frame)


def _arrow_frames(path: Path) -> Iterator[Any]:
    parquet = importlib.import_module("pyarrow.parquet")
    return (batch.to_pandas() for batch in parquet.ParquetFile(_openable(path)).iter_batches(CHUNK))


def _npy_pieces(path: Path) -> Iterator[Table]:
    array = _npy_array(path)
    for first in range(0, len(array), CHUNK):
        yield _npy_rows(path, array[first : first + CHUNK], first)


_STREAMS = {"csv": _csv_pieces, "parquet": _parquet_pieces, "npy": _npy_pieces}
