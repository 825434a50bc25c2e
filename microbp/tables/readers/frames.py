"""Data frames of polars and pandas, and Parquet files."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ...data.arrays import Array
from .opening import mappable
from .table import Table, Unusable, Whole, Written, column_names, text_column


def read(path: Path) -> Whole:
    """All rows of a Parquet file."""
    return Whole(frame_table(str(path), engine().read_parquet(mappable(path))))


def pieces(path: Path, most: int) -> Iterator[Table]:
    """The rows of a Parquet file, in tables of at most `most` rows."""
    library, first = engine(), 0
    for frame in _polars_frames(library, path, most) if library.__name__ == "polars" else _arrow_frames(path, most):
        yield frame_table(str(path), frame, first)
        first += len(frame)


def engine() -> Any:
    """The library that reads Parquet: polars, or pandas if polars is not installed."""
    for name in ("polars", "pandas"):
        try:
            return importlib.import_module(name)
        except ImportError:
            pass
    raise ImportError("Parquet files need polars or pandas, and neither is installed: python -m pip install polars")


def _polars_frames(polars: Any, path: Path, most: int) -> Iterator[Any]:
    lazy, first = polars.scan_parquet(mappable(path)), 0
    while len(frame := lazy.slice(first, most).collect()):
        yield frame
        first += len(frame)


def _arrow_frames(path: Path, most: int) -> Iterator[Any]:
    parquet = importlib.import_module("pyarrow.parquet")
    return (batch.to_pandas() for batch in parquet.ParquetFile(mappable(path)).iter_batches(most))


# ---- from a frame to a table ----


def frame_table(where: str, frame: Any, first: int = 0) -> Table:
    """A table from a data frame of polars or pandas. where: its name in errors. first: the index of its first row."""
    convert = _pandas_column if hasattr(frame, "iloc") else _polars_column
    names = column_names(where, frame.columns)
    return Table(where, {name: _column(convert, frame[key]) for name, key in zip(names, frame.columns)}, len(frame), first)


def _column(convert: Callable[[Any], Array | None], series: Any) -> Array | Written | Unusable:
    """Converts a column. A column that a network cannot use becomes `Unusable`, which raises an error only when it is used."""
    column = convert(series)
    if column is None:
        kind = type(series.dropna().iloc[0]).__name__ if str(series.dtype) == "object" else series.dtype
        return Unusable(f"contains {kind} values, which a network cannot use; convert them to numbers")
    return text_column(column.tolist()) if column.dtype == object else column


def _polars_column(series: Any) -> Array | None:
    """Numbers or strings; None for values of another type."""
    kind, name = series.dtype, str(series.dtype.base_type())
    if kind.is_numeric() or name == "Boolean":
        as_float = series.null_count() or kind.is_decimal()
        return np.asarray(series.cast(importlib.import_module("polars").Float64) if as_float else series)
    return np.array(series.to_list(), dtype=object) if name in ("String", "Categorical", "Enum", "Null") else None


def _pandas_column(series: Any) -> Array | None:
    """Numbers or strings; None for values of another type."""
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
