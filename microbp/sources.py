"""Where rows come from: the digits, tables of text, Parquet, NumPy's files and libsvm's. Tables are read by polars or pandas."""

from __future__ import annotations

import argparse
import contextlib
import gzip
import importlib
import io
import itertools
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .arrays import Array
from .table import Table, name_of, to_number

MISSING = ["", "?", "-", "NA", "N/A", "n/a", "NaN", "nan", "null", "NULL", "None"]  # cells that say that nothing is known
_LIBSVM = re.compile(r"\S+(\s+\d+:\S+)*\s*(#.*)?")
_USUAL_TARGETS = ("target", "label", "class", "y")
_PANDAS = {"keep_default_na": False, "low_memory": False, "index_col": False}
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
            raise ValueError(f"{table.where}: it has no rows")
    return source


def _existing(name: str) -> Path:
    path = Path(name)
    if not path.exists():
        raise argparse.ArgumentTypeError(f"{name!r} is no file, and the only data that comes along is digits")
    if path.is_dir():
        raise argparse.ArgumentTypeError(f"{name!r} is a directory: name a file in it")
    return path


def default_target(table: Table) -> str:
    """The column that is named as targets usually are, else the last one."""
    return next((name for name in table.columns if name.lower() in _USUAL_TARGETS), list(table.columns)[-1])


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
    return gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb")


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
        raise ValueError(text if str(path) in text else f"{path}: it cannot be read: {text}") from error


def _digits() -> Table:
    try:
        from sklearn.datasets import load_digits  # type: ignore[import-untyped,unused-ignore]
    except ImportError:
        raise ImportError("the digits come with scikit-learn, which is not installed: python -m pip install scikit-learn") from None
    x, labels = load_digits(return_X_y=True)
    columns = _places(x) | {"digit": np.array([str(label) for label in labels], dtype=object)}
    return Table("digits", columns, len(x), is_positional=True)


# ---- tables, by whichever reader is installed ----


def _engine() -> Any:
    for name in ("polars", "pandas"):
        try:
            return importlib.import_module(name)
        except ImportError:
            pass
    raise ImportError("tables are read by polars or pandas, and neither is installed: python -m pip install polars")


def _separator(line: str) -> str:
    """The one that the header has most of."""
    return max(",;\t", key=line.count)


def _csv(path: Path) -> Source:
    with _open(path) as file:
        content = file.read()
    return Source(_csv_table(str(path), content, _header(path, content), 0))


def _header(path: Path, content: bytes) -> str:
    """The first line, which must name the columns."""
    try:
        header = content.removeprefix(b"\xef\xbb\xbf").partition(b"\n")[0].decode("utf-8").strip("\r")
    except UnicodeDecodeError:
        raise ValueError(f"{path}: its text is not UTF-8: save it as UTF-8") from None
    if not header.strip():
        raise ValueError(f"{path}: its first line is empty; it must name the columns")
    names = [name.strip().strip('"') for name in header.split(_separator(header))]
    if all(to_number(name) is not None for name in names):
        raise ValueError(f"{path}: its first line holds numbers only; it must name the columns")
    twice = [name for i, name in enumerate(names) if name in names[:i]]
    if twice:
        raise ValueError(f"{path}: two columns are named {twice[0]!r}: rename one")
    return header


def _csv_table(where: str, content: bytes, header: str, first: int) -> Table:
    engine, separator = _engine(), _separator(header)
    if engine.__name__ == "polars":
        frame = engine.read_csv(content, separator=separator, null_values=MISSING, infer_schema_length=None)
    else:
        frame = engine.read_csv(io.BytesIO(content), sep=separator, na_values=MISSING, **_PANDAS)
    return _frame_table(where, frame, first)


def _parquet(path: Path) -> Source:
    return Source(_frame_table(str(path), _engine().read_parquet(path), 0))


def _frame_table(where: str, frame: Any, first: int) -> Table:
    columns = {}
    for name in frame.columns:
        series = frame[name]
        column = _pandas_column(series) if hasattr(frame, "iloc") else _polars_column(series)
        if column is None:
            raise ValueError(
                f"{where}: column {name!r} holds {series.dtype} values, which a network cannot take: write what matters as numbers"
            )
        columns[str(name).strip()] = _stripped(column) if column.dtype == object else column
    return Table(where, columns, len(frame), first)


def _polars_column(series: Any) -> Array | None:
    kind = series.dtype
    if kind.is_numeric():
        return np.asarray(series.cast(importlib.import_module("polars").Float64) if series.null_count() or kind.is_decimal() else series)
    name = str(kind.base_type())
    if name == "Boolean" and not series.null_count():
        return np.asarray(series)
    if name == "Boolean":
        return np.array([None if value is None else name_of(value) for value in series.to_list()], dtype=object)
    return np.array(series.to_list(), dtype=object) if name in ("String", "Categorical", "Enum", "Null") else None


def _pandas_column(series: Any) -> Array | None:
    kind = getattr(series.dtype, "kind", "O")
    if kind in "iufb" and not series.isna().any():
        return np.asarray(series.to_numpy(), dtype=getattr(series.dtype, "numpy_dtype", series.dtype))
    if kind in "iuf":
        return np.asarray(series.to_numpy(dtype=np.float64, na_value=np.nan))
    values = [None if empty else value for value, empty in zip(series.tolist(), series.isna())]
    column = np.array([name_of(value) if isinstance(value, bool) else value for value in values], dtype=object)
    is_text = all(value is None or isinstance(value, str) for value in column)
    return column if is_text and column.ndim == 1 else None


def _stripped(column: Array) -> Array:
    """Texts without blanks around them, None for those that say that nothing is known; numbers if that is what they all are."""
    known = {text: None if text is None or text.strip() in MISSING else text.strip() for text in set(column.tolist())}
    numbers = {text: None if clean is None else to_number(clean) for text, clean in known.items()}
    if any(clean is not None for clean in known.values()) and all(numbers[text] is not None for text in known if known[text] is not None):
        return np.array([np.nan if numbers[text] is None else numbers[text] for text in column.tolist()])
    return np.array([known[text] for text in column.tolist()], dtype=object)


# ---- arrays and libsvm's text ----


def _npz(path: Path) -> Source:
    with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
        arrays = {name.lower(): file[name] for name in file.files}
    if {"x_train", "y_train"} <= arrays.keys():
        test = _arrays(path, arrays, "x_test", "y_test") if {"x_test", "y_test"} <= arrays.keys() else None
        return Source(_arrays(path, arrays, "x_train", "y_train"), test)
    if "x" in arrays:
        return Source(_arrays(path, arrays, "x", "y"))
    raise ValueError(f"{path}: it holds {', '.join(arrays) or 'nothing'}; it must hold X and y, or x_train, y_train, x_test and y_test")


def _arrays(path: Path, arrays: dict[str, Array], x: str, y: str) -> Table:
    """A table of an array of rows and, if it is there, one of targets."""
    features = arrays[x].reshape(len(arrays[x]), -1) if arrays[x].ndim > 1 else arrays[x].reshape(-1, 1)
    columns = _places(features)
    if y in arrays:
        target = arrays[y].reshape(-1) if arrays[y].ndim == 2 and arrays[y].shape[1] == 1 else arrays[y]
        if target.ndim != 1 or len(target) != len(features):
            raise ValueError(f"{path}: {y} has shape {arrays[y].shape}; it must hold one value for each of the {len(features)} rows of {x}")
        columns["y"] = target.astype(object) if target.dtype.kind == "U" else target
    wrong = [name for name in (x, y) if name in arrays and arrays[name].dtype.kind not in "biufU"]
    if wrong or features.dtype.kind == "U":
        raise ValueError(f"{path}: {(wrong or [x])[0]} holds {arrays[(wrong or [x])[0]].dtype} values, not numbers")
    return Table(str(path), columns, len(features), is_positional=True)


def _places(x: Array) -> dict[str, Array]:
    return {f"x{i}": x[:, i] for i in range(x.shape[1])}


def _npy(path: Path) -> Source:
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    return Source(_npy_rows(path, array, 0))


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
    with _open(path) as file:
        head = file.readline()
        header, first = _header(path, head), 0
        while lines := b"".join(itertools.islice(file, CHUNK)):
            while lines.count(b'"') % 2 and (more := file.readline()):  # a quoted cell goes on in the next line
                lines += more
            table = _csv_table(str(path), head + lines, header, first)
            first += table.count
            yield table


def _parquet_pieces(path: Path) -> Iterator[Table]:
    engine, first = _engine(), 0
    for frame in _polars_frames(engine, path) if engine.__name__ == "polars" else _arrow_frames(path):
        yield _frame_table(str(path), frame, first)
        first += len(frame)


def _polars_frames(engine: Any, path: Path) -> Iterator[Any]:
    lazy, first = engine.scan_parquet(path), 0
    while len(frame := lazy.slice(first, CHUNK).collect()):
        yield frame
        first += len(frame)


def _arrow_frames(path: Path) -> Iterator[Any]:
    parquet = importlib.import_module("pyarrow.parquet")
    return (batch.to_pandas() for batch in parquet.ParquetFile(path).iter_batches(CHUNK))


def _npy_pieces(path: Path) -> Iterator[Table]:
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    for first in range(0, len(array), CHUNK):
        yield _npy_rows(path, array[first : first + CHUNK], first)


_STREAMS = {"csv": _csv_pieces, "parquet": _parquet_pieces, "npy": _npy_pieces}
