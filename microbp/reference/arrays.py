"""Conversions: from arrays and nested lists to matrices of floats, and from floats to buffers."""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence
from numbers import Integral
from typing import Any

from .autodiff import Matrix

FORMATS = {"float32": "f", "float64": "d"}


def nested_lists(value: Any) -> Any:
    """Nested lists of numbers, from an object with tolist() (array, memoryview) or a sequence of such objects."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes, bytearray)):
        return [nested_lists(part) for part in value]
    return value


def shape_of(value: Any, what: str) -> tuple[int, ...]:
    """The shape of nested lists. Rows of different lengths raise ValueError."""
    if not isinstance(value, list):
        return ()
    shapes = {shape_of(part, what) for part in value}
    if len(shapes) > 1:
        raise ValueError(f"{what} has rows of different shapes: {', '.join(map(str, sorted(shapes)))}")
    return (len(value), *(shapes.pop() if shapes else ()))


def read_matrix(value: Any, cols: int, format: str, what: str, rows: int | None = None) -> Matrix:
    """A (rows, cols) matrix, rounded to the array format. rows=None accepts any number of rows. If cols is 1, a sequence of n numbers has
    shape (n, 1). An empty sequence is accepted for any number of columns."""
    lists = nested_lists(value)
    shape = shape_of(lists, what)
    if cols == 1 and len(shape) == 1:
        lists, shape = [[number] for number in lists], (*shape, 1)
    if (shape != (0,) and shape[1:] != (cols,)) or rows not in (None, shape[0]):
        expected = f"({'n' if rows is None else rows}, {cols})"
        raise ValueError(f"{what} has shape {shape}, but {expected} is expected")
    return Matrix(len(lists), cols, rounded([number for row in lists for number in row], format, what))


def rounded(values: Sequence[Any], format: str, what: str) -> list[float]:
    """The values rounded to this array format. Values that are too large become infinite."""
    try:
        return array(format, values).tolist()
    except TypeError as error:
        raise TypeError(f"{what} must contain only numbers: {error}") from None
    except OverflowError:
        raise ValueError(f"{what} contains an integer that is too large") from None


def read_integers(value: Any, what: str) -> list[int] | None:
    """The elements of an array of shape (n,) or (n, 1) as a list, if all are integers; otherwise None."""
    lists = nested_lists(value)
    shape = shape_of(lists, what)
    if len(shape) == 2 and shape[1] == 1:
        lists = [number for (number,) in lists]
    elif len(shape) != 1:
        return None
    return lists if all(isinstance(number, Integral) and not isinstance(number, bool) for number in lists) else None


def one_hot(labels: list[int], rows: int, cols: int, what: str) -> Matrix:
    """A row of probabilities for each label: 1 for its class, 0 for the others."""
    if len(labels) != rows:
        raise ValueError(f"{what} has shape ({len(labels)}, 1), but ({rows}, 1) is expected")
    for r, label in enumerate(labels):
        if not 0 <= label < cols:
            raise ValueError(f"{what}, row {r}: label {label} is not in 0 to {cols - 1}, the classes of the output")
    return Matrix(rows, cols, [float(j == label) for label in labels for j in range(cols)])


def read_weights(weight: Any, rows: int) -> list[float]:
    """The weight of each row. weight=None: all weights are 1."""
    if weight is None:
        return [1.0] * rows
    weights = read_matrix(weight, 1, "d", "weight", rows).data
    for row, value in enumerate(weights):
        if not math.isfinite(value):
            raise ValueError(f"the weight of row {row} is {value}, but must be finite")
    return weights


def read_index(index: Any, rows: int) -> Sequence[int]:
    """The row numbers in `index`. index=None: all rows, in order."""
    if index is None:
        return range(rows)
    numbers = read_integers(index, "index")
    if not numbers:
        raise ValueError("index must contain at least one row number, and only integers")
    for i, number in enumerate(numbers):
        if not 0 <= number < rows:
            raise ValueError(f"index[{i}] is {number}, but must be a row number from 0 to {rows - 1}")
    return numbers


def counted(number: int, noun: str) -> str:
    """A number with its noun, for error texts: 1 row, 2 rows."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def several(value: Any, count: int, what: str) -> Sequence[Any]:
    """The arrays of an argument: one array if count is 1, otherwise a list of `count` arrays."""
    if count == 1:
        return [value]
    if not isinstance(value, (list, tuple)) or len(value) != count:
        raise ValueError(f"{what} must be a list of {count} arrays")
    return value


def buffer(matrix: Matrix, format: str) -> memoryview:
    """The matrix as a 2-D buffer."""
    return memoryview(array(format, matrix.data)).cast("B").cast(format, (matrix.rows, matrix.cols))


def check_writable(out: Any, rows: int, cols: int, format: str, what: str) -> memoryview:
    """A view of the caller's array. ValueError unless it is writable and has this shape and format."""
    view = memoryview(out)
    if view.readonly or view.shape != (rows, cols) or view.format != format:
        expected = f"a writable ({rows}, {cols}) array of format '{format}'"
        raise ValueError(f"{what} must be {expected}, not shape {view.shape}, format '{view.format}'")
    return view
