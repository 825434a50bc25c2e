"""Numbers in and out: from anything that gives nested lists to rows of floats, and from floats to buffers."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from numbers import Integral
from typing import Any

from .autodiff import Matrix

FORMATS = {"float32": "f", "float64": "d"}


def nested_lists(value: Any) -> Any:
    """Lists of lists of numbers, from what has tolist() (arrays, memoryviews) or from sequences of such."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes, bytearray)):
        return [nested_lists(part) for part in value]
    return value


def shape_of(value: Any, what: str) -> tuple[int, ...]:
    """The shape of nested lists; ragged ones are refused."""
    if not isinstance(value, list):
        return ()
    shapes = {shape_of(part, what) for part in value}
    if len(shapes) > 1:
        raise ValueError(f"{what} has rows of different shapes: {', '.join(map(str, sorted(shapes)))}")
    return (len(value), *(shapes.pop() if shapes else ()))


def read_matrix(value: Any, cols: int, format: str, what: str, rows: int | None = None) -> Matrix:
    """A (rows, cols) matrix, rounded to the array format. A sequence of n numbers is (n, 1) for one column; no rows: any shape."""
    lists = nested_lists(value)
    shape = shape_of(lists, what)
    if cols == 1 and len(shape) == 1:
        lists, shape = [[number] for number in lists], (*shape, 1)
    if (shape != (0,) and shape[1:] != (cols,)) or rows not in (None, shape[0]):
        expected = f"({'n' if rows is None else rows}, {cols})"
        raise ValueError(f"{what} has shape {shape}, but {expected} is expected")
    return Matrix(len(lists), cols, rounded([number for row in lists for number in row], format, what))


def rounded(values: Sequence[Any], format: str, what: str) -> list[float]:
    """The values as this array format holds them; beyond the largest they are infinite."""
    try:
        return array(format, values).tolist()
    except TypeError as error:
        raise TypeError(f"{what} holds something that is not a number: {error}") from None
    except OverflowError:
        raise ValueError(f"{what} holds an integer that is too large") from None


def read_integers(value: Any, what: str) -> list[int] | None:
    """The numbers of a 1-D or (n, 1) array if all are integers, else None."""
    lists = nested_lists(value)
    shape = shape_of(lists, what)
    if len(shape) == 2 and shape[1] == 1:
        lists = [number for (number,) in lists]
    elif len(shape) != 1:
        return None
    return lists if all(isinstance(number, Integral) and not isinstance(number, bool) for number in lists) else None


def several(value: Any, count: int, what: str) -> Sequence[Any]:
    """One array, or a list of `count` arrays where the net has several."""
    if count == 1:
        return [value]
    if not isinstance(value, (list, tuple)) or len(value) != count:
        raise ValueError(f"{what} must be a list of {count} arrays, one for each")
    return value


def buffer(matrix: Matrix, format: str) -> memoryview:
    """The matrix as a 2-D buffer."""
    return memoryview(array(format, matrix.data)).cast("B").cast(format, (matrix.rows, matrix.cols))


def check_writable(out: Any, rows: int, cols: int, format: str, what: str) -> memoryview:
    """A view of the caller's array, refused unless results of this shape and format can be written to it."""
    view = memoryview(out)
    if view.readonly or view.shape != (rows, cols) or view.format != format:
        expected = f"a writable ({rows}, {cols}) array of format '{format}'"
        raise ValueError(f"{what} must be {expected}, not shape {view.shape}, format '{view.format}'")
    return view
