"""Files of numbers without column names: NumPy's .npz and .npy, sparse ones as SciPy's .npz and as libsvm text; and the digits of
scikit-learn."""

from __future__ import annotations

import codecs
import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import IO, NamedTuple, NoReturn

import numpy as np

from ...core.text import brief
from ...data.arrays import Array, as_rows
from ...data.sparse import SparseRows, concatenate
from .opening import Share, is_plain, lines_before, mappable, opened, span
from .table import Table, Whole, clean

_BLOCK = 1 << 20  # bytes of libsvm text that are read at a time
_MOST = 2**53  # indices below are exact in float64
# Groups are not possessive: Python 3.11.2 then also matches "3:".
_PAIRS = rb"(?:[ \t]++\d++:[^\s:#]++)*[ \t\r]*+\n"
_LINE, _LINES = re.compile(rb"[^\s:#]++" + _PAIRS), re.compile(rb"(?:[^\s:#]++" + _PAIRS + rb")*")


def digits() -> Table:
    """The 1797 images of handwritten digits in scikit-learn, with 64 pixels each."""
    try:
        from sklearn.datasets import load_digits  # type: ignore[import-untyped,unused-ignore]
    except ImportError:
        raise ImportError("the digits data set needs scikit-learn, which is not installed: python -m pip install scikit-learn") from None
    x, labels = load_digits(return_X_y=True)
    columns = _places(x) | {"digit": np.array([str(label) for label in labels], dtype=object)}
    return Table("digits", columns, len(x), is_positional=True, target="digit")


def _places(x: Array) -> dict[str, Array]:
    return {f"x{i}": x[:, i] for i in range(x.shape[1])}


# ---- .npz and .npy ----


def read_npz(path: Path) -> Whole:
    """Rows from X and y, or from x_train and y_train and, if the file contains them, test rows from x_test and y_test; or a sparse matrix
    of SciPy, which has no targets."""
    arrays = _npz(path)
    if "format" in arrays:
        rows = _matrix(path, arrays)
        return Whole(Table(str(path), {}, len(rows), is_positional=True, sparse=rows, target="y"))
    if "x" in arrays:
        return Whole(_arrays(path, arrays, "x", "y"))
    if {"x_train", "y_train"} <= arrays.keys():
        test = _arrays(path, arrays, "x_test", "y_test") if {"x_test", "y_test"} <= arrays.keys() else None
        return Whole(_arrays(path, arrays, "x_train", "y_train"), test)
    raise ValueError(
        f"{path}: contains {', '.join(arrays) or 'no arrays'}; it must contain X and y, or x_train, y_train, x_test and y_test"
    )


def _npz(path: Path) -> dict[str, Array]:
    try:
        with opened(path) as file, np.load(file, allow_pickle=False) as archive:
            return {name.lower(): archive[name] for name in archive.files}
    except MemoryError as error:
        raise MemoryError(f"{path}: its arrays do not fit in memory, or it is damaged: {error}") from None


def _arrays(path: Path, arrays: dict[str, Array], x: str, y: str) -> Table:
    """A table from the arrays `x` (rows) and `y` (targets, may be absent)."""
    features = arrays[x].reshape(len(arrays[x]), -1) if arrays[x].ndim > 1 else arrays[x].reshape(-1, 1)
    if features.dtype.kind not in "biuf":
        raise ValueError(f"{path}: {x} contains {features.dtype} values, not numbers")
    columns = _places(features)
    if y in arrays:
        target = arrays[y].reshape(-1) if arrays[y].ndim == 2 and arrays[y].shape[1] == 1 else arrays[y]
        if target.ndim != 1 or len(target) != len(features):
            raise ValueError(f"{path}: {y} has shape {arrays[y].shape}; it must have one value per row of {x}, shape ({len(features)},)")
        if target.dtype.kind not in "biufUS":
            raise ValueError(f"{path}: {y} contains {target.dtype} values, which are neither numbers nor strings")
        texts = np.char.decode(target, "utf-8") if target.dtype.kind == "S" else target
        columns["y"] = clean(texts.tolist()) if texts.dtype.kind == "U" else texts
    return Table(str(path), columns, len(features), is_positional=True, target="y")


def read_npy(path: Path) -> Whole:
    """All rows of a 2-D array."""
    values = _load(path)
    return Whole(_npy_rows(path, values, 0, len(values)))


def npy_pieces(path: Path, most: int) -> Iterator[Table]:
    """The rows of a memory-mapped 2-D array, in tables of at most `most` rows."""
    values = _load(path)
    for first in range(0, len(values), most):
        yield _npy_rows(path, values, first, most)


def npy_part(path: Path, share: Share) -> Table:
    """The rows of a part."""
    values = _load(path)
    return _npy_rows(path, values[share.of(len(values))], 0, len(values))


def _load(path: Path) -> Array:
    source = mappable(path)
    values = np.asarray(np.load(source, mmap_mode="r" if isinstance(source, Path) else None, allow_pickle=False))
    if values.ndim != 2 or values.dtype.kind not in "biuf":
        raise ValueError(
            f"{path}: contains {values.dtype} values of shape {values.shape}; it must be a 2-D array of numbers, one row per example"
        )
    return values


def _npy_rows(path: Path, values: Array, first: int, most: int) -> Table:
    rows = values[first : first + most]
    return Table(str(path), _places(rows), len(rows), first, is_positional=True)


# ---- sparse matrices ----


def read_matrix(path: Path) -> SparseRows:
    """The rows of a matrix that SciPy's save_npz has written."""
    arrays = _npz(path)
    if "format" not in arrays:
        raise ValueError(f"{path}: contains {', '.join(arrays) or 'no arrays'}, not a sparse matrix; write one with scipy.sparse.save_npz")
    return _matrix(path, arrays)


def _matrix(path: Path, arrays: dict[str, Array]) -> SparseRows:
    """The rows of CSR or CSC from the arrays of a file."""
    name = arrays["format"].item()
    name = name.decode("ascii", "replace") if isinstance(name, bytes) else str(name)
    if name not in ("csr", "csc"):
        raise ValueError(f"{path}: is a sparse matrix in the format {brief(name)}; save it as CSR: save_npz(path, X.tocsr())")
    absent = [part for part in ("shape", "data", "indices", "indptr") if part not in arrays]
    if absent or arrays["shape"].shape != (2,) or arrays["shape"].dtype.kind not in "iu" or (arrays["shape"] < 0).any():
        raise ValueError(f"{path}: is not a whole sparse matrix: {', '.join(absent) or 'its shape'} is missing or wrong; save it again")
    height, width = map(int, arrays["shape"])
    shape = (height, width) if name == "csr" else (width, height)
    parts = {part: arrays[part] for part in ("data", "indices", "indptr")}
    try:
        rows: SparseRows = as_rows(SimpleNamespace(**parts, shape=shape), "X")
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: is a damaged sparse matrix: {error}") from None
    return rows if name == "csr" else _turned(rows)


def _turned(columns: SparseRows) -> SparseRows:
    """The rows of a matrix, from its columns."""
    order = np.argsort(columns.indices, kind="stable")
    indptr = np.concatenate([[0], np.cumsum(np.bincount(columns.indices, minlength=columns.shape[1]))])
    return narrow(columns.data[order], columns.row_of_each()[order], indptr, columns.shape[::-1])


def narrow(data: Array, indices: Array, indptr: Array, shape: tuple[int, int]) -> SparseRows:
    """Rows with indices of int32 if they fit."""
    kind = np.int32 if max(shape[1], len(data)) < 2**31 else np.int64
    return SparseRows(data, indices.astype(kind), indptr.astype(kind), shape)


# ---- libsvm text ----


class Labelled(NamedTuple):
    """Rows of libsvm text, whose columns are the indices in the file, and their labels, NaN where a line has none. first: the number of
    rows before them in the file."""

    rows: SparseRows
    labels: Array
    first: int


def read_libsvm(path: Path) -> Whole:
    """All rows, from lines of `label index:value ...`; lines without labels have no target. If at least half of the values are stored, the
    columns are also there by their index: then they take no more memory.
    """
    found = [*libsvm_parts(path, None)]
    return Whole(libsvm_table(path, found[0]) if found else Table(str(path), {}, 0))


def libsvm_table(path: Path, part: Labelled) -> Table:
    """All rows, and their columns, if at least half of the values are stored."""
    table, rows = _table(path, part), part.rows
    indices = np.unique(rows.indices)
    if 2 * len(rows.data) < len(rows) * len(indices):
        return table
    dense = np.zeros((len(indices), len(rows)), np.float32)
    dense[np.searchsorted(indices, rows.indices), rows.row_of_each()] = rows.data
    named: dict[str, Array] = {str(index): column for index, column in zip(indices, dense, strict=True)}
    return replace(table, columns={**named, **table.columns})


def libsvm_pieces(path: Path, most: int) -> Iterator[Table]:
    """The rows in tables of at most `most` rows."""
    for one in libsvm_parts(path, most):
        yield _table(path, one)


def _table(path: Path, part: Labelled) -> Table:
    columns = {} if np.isnan(part.labels).all() else {"label": part.labels}
    return Table(str(path), columns, len(part.labels), part.first, sparse=part.rows, target="label")


def libsvm_parts(path: Path, most: int | None, share: Share | None = None) -> Iterator[Labelled]:
    """The rows in parts of `most` rows, in the order of the file; None: all rows as one part. share: only of this part of the file."""
    if share is not None and not is_plain(path):
        yield from _shared(path, most, share)
        return
    first, kept, count = 0, list[tuple[SparseRows, Array]](), 0
    begin, end = (0, None) if share is None else span(path, share)
    with opened(path) as file:
        number = 1
        for lines in _blocks(file, begin, end):
            try:
                kept.append(_parsed(path, lines, number))
            except ValueError:
                if begin == 0:
                    raise
                _parsed(path, lines, number + lines_before(path, begin))
            number, count = number + len(lines), count + len(kept[-1][1])
            while most is not None and count >= most:
                rows, labels = _joined(kept)
                yield Labelled(rows[:most], labels[:most], first)
                kept, count, first = [(rows[most:], labels[most:])], count - most, first + most
    if count:
        yield Labelled(*_joined(kept), first)


def _shared(path: Path, most: int | None, share: Share) -> Iterator[Labelled]:
    """The rows of a part of a file that must be read whole."""
    for one in libsvm_parts(path, None):
        cut = share.of(len(one.labels))
        for first in range(cut.start, cut.stop, most or max(cut.stop - cut.start, 1)):
            rows = slice(first, min(first + (most or cut.stop), cut.stop))
            yield Labelled(one.rows[rows], one.labels[rows], first - cut.start)


def _blocks(file: IO[bytes], begin: int, end: int | None) -> Iterator[list[bytes]]:
    """The lines from one byte to another, some at a time."""
    if begin:
        file.seek(begin)
    place = begin
    while (end is None or place < end) and (lines := file.readlines(_BLOCK if end is None else min(_BLOCK, end - place))):
        place += sum(map(len, lines))
        while end is not None and place > end:
            place -= len(lines.pop())
        if begin == 0 and lines[0].startswith(codecs.BOM_UTF8):
            lines[0] = lines[0].removeprefix(codecs.BOM_UTF8)
        yield lines


def _joined(parts: list[tuple[SparseRows, Array]]) -> tuple[SparseRows, Array]:
    if len(parts) == 1:
        return parts[0]
    width = max(rows.shape[1] for rows, _ in parts)
    rows = concatenate([SparseRows(rows.data, rows.indices, rows.indptr, (len(rows), width)) for rows, _ in parts])
    return narrow(rows.data, rows.indices, rows.indptr, rows.shape), np.concatenate([labels for _, labels in parts])


def _parsed(path: Path, lines: list[bytes], first: int) -> tuple[SparseRows, Array]:
    """The rows and the labels of lines. first: the number of the first line."""
    numbers: Sequence[int] = range(first, first + len(lines))
    lines[-1] = lines[-1].rstrip(b"\n") + b"\n"
    if not _LINES.fullmatch(b"".join(lines)):
        lines, numbers = _tidied(path, lines, first)
    counts = np.array([line.count(b":") for line in lines], np.int64)
    found = _numbers(path, lines, numbers, int((1 + 2 * counts).sum()))
    ends = np.cumsum(1 + 2 * counts)
    is_label = np.zeros(len(found), bool)
    is_label[ends - 1 - 2 * counts] = True
    places, values = found[~is_label].reshape(-1, 2).T
    row = np.repeat(np.arange(len(lines)), counts)
    if (places >= _MOST).any():
        _refuse(path, numbers[row[(places >= _MOST).argmax()]], "an index is too large; it must be below 2**53")
    places = places.astype(np.int64)
    order = np.lexsort((places, row)) if ((places[1:] < places[:-1]) & (row[1:] == row[:-1])).any() else np.arange(len(places))
    places, values = places[order], values[order]
    twice = np.flatnonzero((places[1:] == places[:-1]) & (row[1:] == row[:-1]))
    if len(twice):
        _refuse(path, numbers[row[twice[0]]], f"index {places[twice[0]]} has two values; remove one")
    with np.errstate(over="ignore"):
        values = values.astype(np.float32)
    width = int(places.max(initial=-1)) + 1
    return narrow(values, places, np.concatenate([[0], np.cumsum(counts)]), (len(lines), width)), found[is_label]


def _tidied(path: Path, lines: list[bytes], first: int) -> tuple[list[bytes], list[int]]:
    """The lines that have rows, without comments and the numbers of queries (qid:1), with a label NaN if they have none; their numbers."""
    found, numbers = [], []
    for number, line in enumerate(lines, first):
        words = line.partition(b"#")[0].split()
        if not words:
            continue
        shown = b" ".join(words[:4]).decode("utf-8", "replace")[:60]
        if b":" in words[0]:
            words.insert(0, b"nan")
        if len(words) > 1 and words[1].startswith(b"qid:"):
            del words[1]
        found.append(b" ".join(words) + b"\n")
        numbers.append(number)
        if any(re.match(rb"-\d+:", word) for word in words):
            _refuse(path, number, "an index is negative; it must be at least 0")
        if not _LINE.fullmatch(found[-1]):
            _refuse(path, number, f"{shown!r} is not in the format `label index:value ...`")
    return found, numbers


def _numbers(path: Path, lines: list[bytes], numbers: Sequence[int], count: int) -> Array:
    """All numbers of lines, of which there are `count`."""
    found = _read(b"".join(lines))
    if len(found) == count:
        return found
    for number, line in zip(numbers, lines, strict=True):
        for word in line.replace(b":", b" ").split():
            if len(_read(word)) != 1:
                _refuse(path, number, f"{word.decode('utf-8', 'replace')[:60]!r} is not a number")
    raise AssertionError("numbers that are read one by one are read together")


def _read(text: bytes) -> Array:
    """The numbers of a text; none if one of them is not a number, as NumPy warns or raises an error, by its version."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", DeprecationWarning)
        try:
            return np.fromstring(text.replace(b":", b" "), np.float64, sep=" ")
        except (DeprecationWarning, ValueError):
            return np.zeros(0)


def _refuse(path: Path, line: int, what: str) -> NoReturn:
    raise ValueError(f"{path}, line {line}: {what}")
