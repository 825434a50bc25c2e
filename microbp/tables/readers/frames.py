"""Data in memory becomes a table: data frames of polars and pandas, Arrow tables, structured arrays, dicts of columns.

Numbers become arrays; other values become texts, as a CSV file contains them: dates and times in ISO form, booleans as true and false.
A column of other objects, such as lists, becomes `Unusable`, which raises an error only when it is used.
"""

from __future__ import annotations

import datetime
import importlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

import numpy as np

from ...core.text import counted
from ...data.arrays import Array
from .table import Table, Unusable, Written, column_names, name_of, text_column

_EXACT = 2**53  # float64 holds whole numbers exactly up to this
_WIDE = ("Int128", "UInt128")  # types of polars
_INDEX = "__index_level_"  # how the name of a pandas index without a name starts in Parquet and Arrow files


def table(where: str, data: Any, first: int = 0) -> Table:
    """A table from data in memory; TypeError if it is something else. where: its name in errors. first: the index of its first row."""
    found = named_columns(data)
    if found is None:
        what = "a file name, a data frame of pandas or polars, an Arrow table, a dict of columns, or a structured array"
        raise TypeError(f"{where}: must be {what}, not {type(data).__name__}")
    index = [name for name in getattr(getattr(data, "index", None), "names", ()) if name is not None]
    index += [name for name, _ in found if str(name).startswith(_INDEX)]
    kept = [(name, column) for name, column in found if not str(name).startswith(_INDEX)]
    return from_columns(where, kept, first, tuple(f"the index {str(name)!r} of the frame is not used" for name in index))


def from_columns(where: str, found: Sequence[tuple[Any, Any]], first: int = 0, assumptions: tuple[str, ...] = ()) -> Table:
    """A table from names and columns, which are lists, arrays or series of equal length. Other arguments: as in `Table`."""
    names, assumed = column_names(".".join(map(str, name)) if isinstance(name, tuple) else name for name, _ in found)
    columns = {name: _column(where, name, column) for name, (_, column) in zip(names, found)}
    counts = {name: len(column) for name, (_, column) in zip(names, found)}
    for name, count in counts.items():
        if count != counts[names[0]]:
            what = f"{counted(count, 'value')}, but column {names[0]!r} has {counts[names[0]]}"
            raise ValueError(f"{where}: column {name!r} has {what}")
    return Table(where, columns, counts[names[0]] if names else 0, first, assumptions=assumptions + assumed)


def named_columns(data: Any) -> list[tuple[Any, Any]] | None:
    """Names and columns of data in memory, as they are there; None for data of another kind."""
    if isinstance(data, Mapping):
        return list(data.items())
    if isinstance(data, np.ndarray):
        return [(name, data[name]) for name in data.dtype.names] if data.dtype.names and data.ndim == 1 else None
    if hasattr(data, "iloc") and hasattr(data, "columns"):  # pandas
        return [(name, data.iloc[:, i]) for i, name in enumerate(data.columns)]
    if hasattr(data, "get_columns"):  # polars
        return [(column.name, column) for column in data.get_columns()]
    return list(zip(data.column_names, data.columns)) if hasattr(data, "column_names") else None  # Arrow


def _column(where: str, name: str, column: Any) -> Array | Written | Unusable:
    if isinstance(column, list | tuple | range):
        return values_column(column)
    if getattr(column, "ndim", 1) == 0:
        raise TypeError(f"{where}: column {name!r} must be a list or an array, not a single value")
    kinds = (base.__module__.partition(".")[0] for base in type(column).__mro__)
    convert = next((_CONVERTERS[kind] for kind in kinds if kind in _CONVERTERS), None)
    if convert is None:
        raise TypeError(f"{where}: column {name!r} must be a list or an array, not {type(column).__name__}")
    return convert(column)


def _array_column(array: Array) -> Array | Written | Unusable:
    if array.ndim != 1:
        return Unusable(f"contains arrays of shape {array.shape[1:]}, which a network cannot use; make a column of each number")
    if array.dtype.kind in "biuf" and not isinstance(array, np.ma.MaskedArray):
        return array
    if array.dtype.kind == "M":
        array = array.astype("datetime64[us]")  # Python's datetime has no nanoseconds
    return values_column(array.tolist())


def _polars_column(series: Any) -> Array | Written | Unusable:
    polars = importlib.import_module("polars")
    kind = series.dtype
    if str(kind) in _WIDE:  # NumPy has no such numbers
        return values_column(series.to_list())
    if kind.is_decimal() or (kind.is_numeric() and series.null_count() and (kind.is_float() or _are_exact(series.min(), series.max()))):
        return np.asarray(series.cast(polars.Float64))
    if (kind.is_numeric() or kind == polars.Boolean) and not series.null_count():
        return np.asarray(series)
    return values_column(series.to_list())


def _pandas_column(series: Any) -> Array | Written | Unusable:
    kind, empty = getattr(series.dtype, "kind", "O"), series.isna()
    if kind in "biuf" and not empty.any():
        return np.asarray(series.to_numpy(dtype={"b": bool, "i": np.int64, "u": np.uint64, "f": np.float64}[kind]))
    if kind == "f" or (kind in "iu" and _are_exact(series.min(), series.max())):
        return np.asarray(series.to_numpy(dtype=np.float64, na_value=np.nan))
    return values_column([None if is_empty else value for value, is_empty in zip(series.tolist(), empty.tolist())])


def _arrow_column(column: Any) -> Array | Written | Unusable:
    pyarrow = importlib.import_module("pyarrow")
    types, compute = pyarrow.types, importlib.import_module("pyarrow.compute")
    column = column if isinstance(column, pyarrow.ChunkedArray) else pyarrow.chunked_array([column])
    kind = column.type
    if types.is_dictionary(kind):
        column, kind = column.cast(kind.value_type), kind.value_type
    if types.is_decimal(kind) or types.is_floating(kind):
        return np.asarray(column.cast(pyarrow.float64()).to_numpy())
    if (types.is_integer(kind) or types.is_boolean(kind)) and not column.null_count:
        return np.asarray(column.to_numpy())
    if types.is_integer(kind) and _are_exact(*compute.min_max(column).as_py().values()):
        return np.asarray(column.cast(pyarrow.float64()).to_numpy())
    if types.is_timestamp(kind):
        column = column.cast(pyarrow.timestamp("us", kind.tz), safe=False)  # Python's datetime has no nanoseconds
    return values_column(column.to_pylist())


def _are_exact(low: Any, high: Any) -> bool:
    """Whether float64 holds these whole numbers exactly. None, NaN and NA: there are none."""
    return all(-_EXACT <= value <= _EXACT for value in (low, high) if isinstance(value, int | np.integer))


_CONVERTERS: dict[str, Callable[[Any], Array | Written | Unusable]] = {
    "polars": _polars_column, "pandas": _pandas_column, "pyarrow": _arrow_column, "numpy": _array_column,
}  # fmt: skip


# ---- columns of Python values ----


def values_column(values: Sequence[Any]) -> Array | Written | Unusable:
    """A column of Python values, with None or NaN for missing values."""
    kinds = set(map(type, values)) - {type(None)}
    if any(issubclass(kind, np.generic) for kind in kinds):
        values = [value.item() if isinstance(value, np.generic) else value for value in values]
        kinds = set(map(type, values)) - {type(None)}
    if kinds and kinds <= {int, float, Decimal} and _are_exact(*_ends(values, kinds)):
        is_whole = kinds == {int} and None not in values
        return np.array(values, dtype=np.int64) if is_whole else np.array([np.nan if value is None else value for value in values], float)
    if kinds == {bool} and None not in values:
        return np.array(values)
    wrong = next((kind for kind in kinds if not issubclass(kind, tuple(_TEXTS))), None)
    if wrong:
        return Unusable(f"contains values of type {wrong.__name__}, which a network cannot use; convert them to numbers or texts")
    texts = [None if value is None else _text(value) for value in values]
    if all(issubclass(kind, datetime.datetime) for kind in kinds) and all(text is None or text.endswith("T00:00:00") for text in texts):
        texts = [text and text[:10] for text in texts]
    return text_column(texts)


def _ends(values: Iterable[Any], kinds: set[type]) -> tuple[Any, Any]:
    """The least and the greatest whole number."""
    whole = [value for value in values if isinstance(value, int)] if int in kinds else []
    return (min(whole), max(whole)) if whole else (None, None)


def _text(value: Any) -> str | None:
    return next(convert for kind, convert in _TEXTS.items() if isinstance(value, kind))(value)


_TEXTS: dict[type, Callable[[Any], str | None]] = {
    str: str, bool: lambda value: str(value).lower(), int: str, float: name_of, Decimal: lambda value: name_of(float(value)),
    datetime.date: lambda value: None if value != value else value.isoformat(), datetime.time: datetime.time.isoformat,
}  # fmt: skip
