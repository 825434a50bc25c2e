"""Parquet and Arrow files, read by polars or pyarrow."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from . import frames
from .opening import Share, mappable, opened
from .table import Table, Whole


def read_parquet(path: Path) -> Whole:
    """All rows of a Parquet file."""
    library, source = engine(), mappable(path)
    if library.__name__ == "polars":
        return Whole(frames.table(str(path), library.read_parquet(source)))
    return Whole(frames.table(str(path), importlib.import_module("pyarrow.parquet").ParquetFile(source).read()))


def parquet_pieces(path: Path, most: int) -> Iterator[Table]:
    """The rows of a Parquet file, in tables of at most `most` rows."""
    library, source = engine(), mappable(path)
    if library.__name__ == "polars":
        return _tables(path, _slices(library.scan_parquet(source), most))
    return _tables(path, importlib.import_module("pyarrow.parquet").ParquetFile(source).iter_batches(most))


def read_arrow(path: Path) -> Whole:
    """All rows of an Arrow file: Feather, or one of the two IPC formats."""
    library, source, is_stream = engine(), mappable(path), _is_stream(path)
    if library.__name__ == "polars":
        return Whole(frames.table(str(path), library.read_ipc_stream(source) if is_stream else library.read_ipc(source)))
    with library.ipc.open_stream(source) if is_stream else library.ipc.open_file(source) as reader:
        return Whole(frames.table(str(path), reader.read_all()))


def arrow_pieces(path: Path, most: int) -> Iterator[Table]:
    """The rows of an Arrow file, in tables of at most `most` rows."""
    library, source, is_stream = engine(), mappable(path), _is_stream(path)
    if library.__name__ == "polars":
        lazy = library.read_ipc_stream(source).lazy() if is_stream else library.scan_ipc(source)
        return _tables(path, _slices(lazy, most))
    return _tables(path, _parts(library, source, is_stream, most))


def parquet_part(path: Path, share: Share) -> Table:
    """The rows of a part of a Parquet file."""
    library, source = engine(), mappable(path)
    if library.__name__ == "polars":
        return _slice(path, library.scan_parquet(source), share)
    file = importlib.import_module("pyarrow.parquet").ParquetFile(source)
    cut, groups, first, skipped = share.of(file.metadata.num_rows), [], 0, 0
    for group in range(file.num_row_groups):  # the groups that have rows of this part
        count = file.metadata.row_group(group).num_rows
        if first < cut.stop and first + count > cut.start:
            groups.append(group)
        elif not groups:
            skipped += count
        first += count
    return frames.table(str(path), file.read_row_groups(groups).slice(max(cut.start - skipped, 0), cut.stop - cut.start))


def arrow_part(path: Path, share: Share) -> Table:
    """The rows of a part of an Arrow file."""
    library, source, is_stream = engine(), mappable(path), _is_stream(path)
    if library.__name__ == "polars":
        return _slice(path, library.read_ipc_stream(source).lazy() if is_stream else library.scan_ipc(source), share)
    with library.ipc.open_stream(source) if is_stream else library.ipc.open_file(source) as reader:
        frame = reader.read_all()
    cut = share.of(len(frame))
    return frames.table(str(path), frame.slice(cut.start, cut.stop - cut.start))


def _slice(path: Path, lazy: Any, share: Share) -> Table:
    cut = share.of(lazy.select(importlib.import_module("polars").len()).collect().item())
    return frames.table(str(path), lazy.slice(cut.start, cut.stop - cut.start).collect())


def engine() -> Any:
    """The library that reads these files: polars, or pyarrow if polars is not installed."""
    for name in ("polars", "pyarrow"):
        try:
            return importlib.import_module(name)
        except ImportError:
            pass
    raise ImportError("Parquet and Arrow files need polars or pyarrow, and neither is installed: python -m pip install polars")


def _is_stream(path: Path) -> bool:
    """Whether an Arrow file is in the IPC format for streams."""
    with opened(path) as file:
        return file.read(4) == b"\xff\xff\xff\xff"


def _tables(path: Path, pieces: Iterator[Any]) -> Iterator[Table]:
    first = 0
    for frame in pieces:
        yield frames.table(str(path), frame, first)
        first += len(frame)


def _slices(lazy: Any, most: int) -> Iterator[Any]:
    """Parts of a lazy frame of polars."""
    first = 0
    while len(frame := lazy.slice(first, most).collect()):
        yield frame
        first += len(frame)


def _parts(pyarrow: Any, source: Any, is_stream: bool, most: int) -> Iterator[Any]:
    with pyarrow.ipc.open_stream(source) if is_stream else pyarrow.ipc.open_file(source) as reader:
        batches = reader if is_stream else map(reader.get_batch, range(reader.num_record_batches))
        for batch in batches:
            for first in range(0, len(batch), most):
                yield batch.slice(first, most)
