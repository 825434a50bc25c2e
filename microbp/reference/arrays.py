"""Conversions: from arrays and nested lists to matrices of floats, and from floats to buffers."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
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


def read_labels(value: Any, rows: int, cols: int, what: str, chosen: Sequence[int], loss: str) -> Matrix | None:
    """For each chosen row a row of probabilities: 1 for the class of its label, 0 for the others. None if the values are probabilities."""
    labels = read_integers(value, what)
    if labels is None and shape_of(nested_lists(value), what) in ((rows,), (rows, 1)):
        needed = f"integer labels, or {cols} probabilities per row"
        raise ValueError(f"{what} has labels that are not integers, but {loss} needs {needed}")
    if labels is None:
        return None
    if len(labels) != rows:
        raise ValueError(f"{what} has shape ({len(labels)}, 1), but ({rows}, 1) is expected")
    for r in chosen:
        if not 0 <= labels[r] < cols:
            raise ValueError(f"{what}, row {r}: label {labels[r]} is not in 0 to {cols - 1}, the classes of the output")
    return Matrix(len(chosen), cols, [float(j == labels[r]) for r in chosen for j in range(cols)])


# ---- batches ----


@dataclass(frozen=True)
class Batch:
    """The training rows that are there, which are those with a weight above 0: a matrix for each input, a matrix of targets for each
    output (without rows if they are not read), and for each row its weight and its number in the caller's arrays. given: how many rows the
    caller passed."""

    inputs: list[Matrix]
    targets: list[Matrix]
    weights: list[float]
    numbers: Sequence[int]
    given: int

    @property
    def total(self) -> float:
        """The sum of the weights."""
        return sum(self.weights)

    def checked(self) -> Batch:
        """This batch; ValueError if it has no row, or if the sum of its weights is not positive or not finite."""
        if self.given == 0:
            raise ValueError("the batch has 0 rows, but needs at least 1")
        if not self.weights:
            raise ValueError("all row weights are 0, so no row is there: give at least one row a weight above 0")
        if not 0 < self.total < math.inf:
            raise ValueError(f"the row weights of a batch sum to {self.total:.8g}, but the sum must be finite and above 0")
        return self

    def split(self, size: int) -> Iterator[Batch]:
        """Batches of `size` rows; the last one may be smaller."""
        if size < 1:
            raise ValueError(f"batch_rows is {size}, but must be at least 1")
        for first in range(0, len(self.weights), size):
            weights, numbers = self.weights[first : first + size], self.numbers[first : first + size]
            inputs, targets = ([_slice(matrix, first, size) for matrix in matrices] for matrices in (self.inputs, self.targets))
            yield Batch(inputs, targets, weights, numbers, len(weights))

    def spread(self, matrix: Matrix) -> Matrix:
        """A matrix with a row for each row that the caller passed: those of `matrix` for the rows that are there, otherwise zeros."""
        rows = dict(zip(self.numbers, matrix.row_list()))
        zeros = [0.0] * matrix.cols
        return Matrix(self.given, matrix.cols, [value for r in range(self.given) for value in rows.get(r, zeros)])


def _slice(matrix: Matrix, first: int, count: int) -> Matrix:
    """At most `count` rows from number `first` on."""
    data = matrix.data[first * matrix.cols : (first + count) * matrix.cols]
    return Matrix(len(data) // matrix.cols, matrix.cols, data, wanted=matrix.wanted)


def rows_of(matrix: Matrix, numbers: Sequence[int]) -> Matrix:
    """The rows with these numbers."""
    rows = matrix.row_list()
    return Matrix(len(numbers), matrix.cols, [value for i in numbers for value in rows[i]], wanted=matrix.wanted)


def read_weights(weight: Any, rows: int, index: Sequence[int]) -> tuple[Sequence[int], list[float]]:
    """Those numbers in `index` whose rows have a weight above 0, and these weights. weight=None: all weights are 1. rows: how many weights
    there must be."""
    if weight is None:
        return index, [1.0] * len(index)
    if len(shape_of(nested_lists(weight), "weight")) == 2:
        raise ValueError("weight must have 1 dimension, not 2")
    weights = read_matrix(weight, 1, "d", "weight", rows).data
    for row in index:
        if not 0 <= weights[row] < math.inf:
            raise ValueError(f"the weight of row {row} is {weights[row]:.8g}, but must be finite and at least 0")
    chosen = [row for row in index if weights[row] > 0]
    return chosen, [weights[row] for row in chosen]


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
