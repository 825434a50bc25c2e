"""Sparse files as rows for networks: libsvm text, and SciPy's .npz; at once or in chunks."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from ...core.checks import file_path, flag, or_none, whole
from ...core.text import brief
from ...data.arrays import Array
from ...data.sparse import SparseRows
from ..readers import array_files
from ..readers.array_files import Labelled
from ..readers.opening import Share, locate
from ..readers.sources import READERS, reader_of, reading

_Parts = Callable[[int | None], Iterator[Labelled]]  # reads the file again with each call; of this many rows; None: of all


def read_sparse(
    path: str | os.PathLike[str],
    *,
    columns: int | None = None,
    zero_based: bool | None = None,
    part: tuple[int, int] | None = None,
) -> tuple[SparseRows, Array | None]:
    """Reads a file of sparse rows: libsvm text (svmlight: lines `label index:value ...`), or a matrix that `scipy.sparse.save_npz` has
    written as CSR or CSC. Both may be compressed (.gz, .bz2, .xz, .zip). Never makes a dense array.

    Returns (X, y). X: the rows in compressed sparse rows, with `data` (float32 for text), `indices`, `indptr`, `shape` and `toarray()`; all
    calls of networks and trainers take it, and `scipy.sparse.csr_array((X.data, X.indices, X.indptr), X.shape)` makes a SciPy array. y: the
    labels as float64, shape (rows,), NaN for lines without a label; None if no line has one, as in .npz files. Comments (#) and the numbers
    of queries (qid:3) are left out.

    columns: of X; None: up to the largest index in the file. zero_based: whether index 0 is the first column; None: if there is an index 0
    in the file, otherwise index 1 is the first column; X.zero_based tells which. Not for .npz. A test file often lacks the largest index,
    or the index 0: read it with columns=X.shape[1], zero_based=X.zero_based of the training rows X.

    part: (rank, ranks): reads one of `ranks` parts of about equal length, number `rank` from 0; the parts of all ranks are the file.
    With it, libsvm text needs `columns` and `zero_based`, which one part does not tell; y is an array. A part may have no rows.

    ValueError: a line is wrong, or an index is beyond `columns`; the text names file and line, or row. OSError: the file cannot be read.

    >>> with open("train.svm", "w") as file:
    ...     _ = file.write("+1 3:0.5 10:2\\n-1 1:1\\n")
    >>> X, y = bp.read_sparse("train.svm")
    >>> X.shape, X.indices, y
    ((2, 10), array([2, 9, 0], dtype=int32), array([ 1., -1.]))
    >>> t = bp.Trainer(bp.mlp([10, 4, 1], seed=0), loss="bce")
    >>> history = t.fit(X, y > 0, epochs=3)
    """
    columns, zero_based = _checked(columns, zero_based)
    name, share = _existing(path), _share(part)
    with reading(name):
        if reader_of(locate(name)) is READERS["npz"]:
            if zero_based is not None:
                raise ValueError(f"{name}: zero_based is {zero_based}, but only libsvm text has indices that start at 0 or 1: omit it")
            rows = array_files.read_matrix(locate(name))
            rows = rows if share is None else rows[share.of(len(rows))]
            matrix = _widened(name, Labelled(rows, np.zeros(0), 0), columns or rows.shape[1], 0)[0]
            matrix.zero_based = None
            return matrix, None
        if share and (columns is None or zero_based is None):
            raise ValueError(f"{name}: part= needs columns= and zero_based=, because one part does not tell those of the file")
        found = list(_text_parts(name, share)(None))
    if not found and share and columns:
        return array_files.narrow(np.zeros(0, np.float32), np.zeros(0), np.zeros(1), (0, columns)), np.zeros(0)
    if not found:
        raise ValueError(f"{name}: the file has no rows")
    rows = found[0].rows
    if columns is None and not len(rows.data):
        raise ValueError(_no_values(name))
    first = int(not ((rows.indices == 0).any() if zero_based is None else zero_based))
    x, y = _widened(_place(name, share), found[0], columns or rows.shape[1] - first, first)
    return x, None if share is None and np.isnan(y).all() else y


class SparseChunks:
    """The rows of libsvm text in chunks (X, y), for files larger than memory: `t.fit(chunks, epochs=3)` reads the file again in each epoch,
    and has one chunk in memory. Each loop over it starts again. X and y are as of `bp.read_sparse`.

    rows: of each chunk but the last. columns, zero_based: as of `bp.read_sparse`; if one of them is None, the file is read to find out.
    They are attributes. Other targets than the labels: `t.fit(lambda: ((X, y > 0) for X, y in chunks))`.
    part: as of `bp.read_sparse`; without columns and zero_based, all parts are read to find out.

    ValueError: a line is wrong, or an index is beyond `columns`. OSError: the file cannot be read.

    >>> with open("train.svm", "w") as file:
    ...     _ = file.write("1.5 3:0.5 10:2\\n-1 1:1\\n0 2:1\\n")
    >>> chunks = bp.SparseChunks("train.svm", rows=2)
    >>> chunks.columns, [len(y) for X, y in chunks]
    (10, [2, 1])
    >>> history = bp.Trainer(bp.mlp([10, 4, 1], seed=0), loss="mse").fit(chunks, epochs=3)
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        rows: int = 65536,
        *,
        columns: int | None = None,
        zero_based: bool | None = None,
        part: tuple[int, int] | None = None,
    ) -> None:
        self._name = _existing(path)
        self._rows: int = whole(1)("rows", rows)
        self.columns, zero_based = _checked(columns, zero_based)
        self._share = _share(part)
        self._parts = _text_parts(self._name, self._share)
        if self.columns is None or zero_based is None:
            width, has_zero = 0, False
            with reading(self._name):
                for one in _text_parts(self._name)(self._rows):
                    width, has_zero = max(width, one.rows.shape[1]), has_zero or bool((one.rows.indices == 0).any())
            if width == 0 and self.columns is None:
                raise ValueError(_no_values(self._name))
            zero_based = has_zero if zero_based is None else zero_based
            self.columns = self.columns or width - (not zero_based)
        self.zero_based: bool = zero_based

    def __iter__(self) -> Iterator[tuple[SparseRows, Array]]:
        with reading(self._name):
            for part in self._parts(self._rows):
                yield _widened(_place(self._name, self._share), part, self.columns or 0, int(not self.zero_based))

    def __repr__(self) -> str:
        return f"<SparseChunks of {self._name!r}, {self.columns} columns>"


def _checked(columns: int | None, zero_based: bool | None) -> tuple[int | None, bool | None]:
    return or_none(whole(1))("columns", columns), zero_based if zero_based is None else flag("zero_based", zero_based)


def _existing(path: str | os.PathLike[str]) -> str:
    return os.fsdecode(file_path(path))


def _share(part: tuple[int, int] | None) -> Share | None:
    """The argument part."""
    if part is None:
        return None
    if not isinstance(part, tuple) or len(part) != 2:
        raise TypeError(f"part must be (rank, ranks), such as (0, 4), not {brief(part)}")
    rank, ranks = whole(0)("part[0]", part[0]), whole(1)("part[1]", part[1])
    if rank >= ranks:
        raise ValueError(f"part is ({rank}, {ranks}), but the first number must be below the second")
    return Share(rank, ranks)


def _text_parts(name: str, share: Share | None = None) -> _Parts:
    """The parts of a file of libsvm text, or of a share of it; ValueError for another file."""
    with reading(name):
        path: Path = locate(name)
        if reader_of(path) is not READERS["libsvm"]:
            raise ValueError(f"{name}: is no libsvm text; its lines must be `label index:value ...`; for tables, use bp.fit_table")
    return lambda most: array_files.libsvm_parts(path, most, share)


def _place(name: str, share: Share | None) -> str:
    return name if share is None else f"{name}, part {share.rank + 1} of {share.ranks}"


def _no_values(name: str) -> str:
    return f"{name}: the file has no values, so columns is unknown: pass columns"


def _widened(name: str, part: Labelled, columns: int, first: int) -> tuple[SparseRows, Array]:
    """The rows, with this number of columns. first: the index of the first column in the file."""
    rows = part.rows
    wrong = (rows.indices < first) | (rows.indices - first >= columns)
    if wrong.any():
        place = int(wrong.argmax())
        index, row = rows.indices[place], part.first + int(rows.row_of_each()[place])
        limits = f"{first} to {columns + first - 1}, for columns={columns}"
        raise ValueError(f"{name}, row {row}: the index {index} is not in {limits}{' and zero_based=False' if first else ''}")
    found = array_files.narrow(rows.data, rows.indices - first, rows.indptr, (len(rows), columns))
    found.zero_based = not first
    return found, part.labels
