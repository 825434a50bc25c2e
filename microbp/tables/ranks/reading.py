"""Each rank reads its part of a file, and the table of all rows is put together when it is looked at."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ...data.sparse import SparseRows
from ...ranks.ranks import Ranks
from ..readers import array_files, frame_files, json_file, sources
from ..readers.array_files import Labelled
from ..readers.errors import ArgumentError
from ..readers.opening import Share, is_plain, locate
from ..readers.sources import READERS, Source
from ..readers.table import Table, Whole
from . import csv_parts
from .columns import joined

_PARTS: dict[str, Callable[[Path, Share], Table]] = {
    "parquet": frame_files.parquet_part,
    "arrow": frame_files.arrow_part,
    "npy": array_files.npy_part,
}


def find(ranks: Ranks, data: Any, test_file: Any = None, header: bool | None = None) -> Source:
    """As `sources.find`, for the rows of all ranks. Of a file, each rank reads its part: lines, or rows of Parquet, Arrow and .npy files;
    other and compressed files are read whole by each. Data in memory are the rows of this rank.
    """
    train, test = _found("table", ranks, data, header)
    if test_file is not None:
        test = _found("test_file", ranks, test_file, header).train
    return Source(train.where, lambda: [train], (lambda: [test]) if test else None, ranks=ranks)


def _found(argument: str, ranks: Ranks, data: Any, header: bool | None) -> Whole:
    if not isinstance(data, str | os.PathLike):
        whole = joined(ranks, sources.in_memory(argument, data, header))
        if not whole.count:
            raise ArgumentError(argument, "has no rows")
        return Whole(whole)
    name = sources.required(argument, data)
    if name != "digits":
        with sources.reading(name):
            path = locate(name)
            table = _cut(ranks, path, header)
            if table is not None:
                if not table.count:
                    raise ValueError(f"{path}: the file has no rows")
                return Whole(table)
    train, test = sources.read(name, header)
    return Whole(_kept(ranks, train), None if test is None else _kept(ranks, test))


def _kept(ranks: Ranks, table: Table) -> Table:
    """The table of all rows, each of which one rank keeps. Sparse rows stay on all."""
    return table if table.is_sparse else joined(ranks, table.take(np.arange(table.count)[Share(ranks.rank, ranks.size).of(table.count)]))


def _cut(ranks: Ranks, path: Path, header: bool | None) -> Table | None:
    """The table of all rows, of which each rank has read some; None: the file must be read whole."""
    reader, share = sources.with_header(path, header), Share(ranks.rank, ranks.size)
    name = next(name for name, known in READERS.items() if known.endings == reader.endings)
    own = csv_parts.read(path, header, ranks) if name == "csv" else _PARTS[name](path, share) if name in _PARTS else None
    if name == "jsonl" and is_plain(path):
        rows, keys = json_file.part_rows(path, share)
        found = itertools.chain.from_iterable(map(json.loads, ranks.gather_bytes(json.dumps(keys).encode())))
        own = json_file.part_table(path, rows, found)
    if own is not None:
        return joined(ranks, own)
    return _libsvm(ranks, path, share) if name == "libsvm" and is_plain(path) else None


def _libsvm(ranks: Ranks, path: Path, share: Share) -> Table:
    """All rows, on each rank."""
    empty = SparseRows(np.zeros(0, np.float32), np.zeros(0, np.int32), np.zeros(1, np.int32), (0, 0))
    own = next(array_files.libsvm_parts(path, None, share), Labelled(empty, np.zeros(0), 0))
    width = max(int(number) for number, _ in ranks.exchange(own.rows.shape[1]))
    whole = (own.rows.data, own.rows.indices.astype(np.int64), np.diff(own.rows.indptr).astype(np.int64), own.labels)
    data, indices, counts, labels = (np.concatenate(ranks.gather_arrays(array)) for array in whole)
    if not len(labels):
        return Table(str(path), {}, 0)
    rows = array_files.narrow(data, indices, np.append(0, np.cumsum(counts)), (len(labels), width))
    return array_files.libsvm_table(path, Labelled(rows, labels, 0))
