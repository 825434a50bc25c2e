"""Reverse-mode automatic differentiation on matrices of Python floats.

An operation returns a new Matrix with its value and its operands. For each operand it has a function `pull`, which converts the derivative
of a scalar with respect to the result to the derivative with respect to the operand. The matrices form a graph. `gradients` goes through
it from the end to the start: it multiplies local derivatives along each path, and adds the products where paths meet.

Results are those of IEEE 754 arithmetic: exp(1000) is inf, 1/0 is inf and log(0) is -inf, where Python would raise an exception.
Sums of products are rounded once (math.fsum).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import count
from operator import add, mul, neg, sub

Pull = Callable[[list[float]], list[float]]

_creation = count()


class Matrix:
    """rows x cols floats, row-major in `data`. operands: (matrix, pull) pairs. wanted: whether its gradient may be needed."""

    def __init__(self, rows: int, cols: int, data: list[float], operands: Sequence[tuple[Matrix, Pull]] = (), wanted: bool = False) -> None:
        assert len(data) == rows * cols
        self.rows, self.cols, self.data = rows, cols, data
        self.operands = [(operand, pull) for operand, pull in operands if operand.wanted]
        self.wanted = wanted or bool(self.operands)
        self.order = next(_creation)
        self.stored: list[list[int]] | None = None  # of a sparse input: for each row the columns with a stored value
        self.lengths: list[int] | None = None  # of an input that is a sequence: how many positions of each row are there; None: all

    def __add__(self, other: Matrix | float) -> Matrix:
        other = self._like(other)
        return self._elementwise(map(add, self.data, other.data), (self, lambda g: g), (other, lambda g: g))

    def __sub__(self, other: Matrix | float) -> Matrix:
        other = self._like(other)
        return self._elementwise(map(sub, self.data, other.data), (self, lambda g: g), (other, lambda g: list(map(neg, g))))

    def __mul__(self, other: Matrix | float) -> Matrix:
        a, b = self, self._like(other)
        return self._elementwise(
            map(mul, a.data, b.data), (a, lambda g: list(map(mul, g, b.data))), (b, lambda g: list(map(mul, g, a.data)))
        )

    def __truediv__(self, other: Matrix | float) -> Matrix:
        a, b = self, self._like(other)
        y = list(map(_divide, a.data, b.data))
        return self._elementwise(
            y,
            (a, lambda g: list(map(_divide, g, b.data))),
            (b, lambda g: [-_divide(gi * yi, bi) for gi, yi, bi in zip(g, y, b.data)]),
        )

    def __neg__(self) -> Matrix:
        return self._elementwise(map(neg, self.data), (self, lambda g: list(map(neg, g))))

    def __radd__(self, other: float) -> Matrix:
        return self._like(other) + self

    def __rsub__(self, other: float) -> Matrix:
        return self._like(other) - self

    def __rmul__(self, other: float) -> Matrix:
        return self._like(other) * self

    def __rtruediv__(self, other: float) -> Matrix:
        return self._like(other) / self

    def __matmul__(self, other: Matrix) -> Matrix:
        """The matrix product A B. The derivatives are products too: G B^T with respect to A, and A^T G with respect to B."""
        a, b = self, other
        assert a.cols == b.rows
        return Matrix(
            a.rows,
            b.cols,
            _products(a.row_list(), b.column_list()),
            (
                (a, lambda g: _products(_cut(g, b.cols), b.row_list())),
                (b, lambda g: _products(a.column_list(), [g[j :: b.cols] for j in range(b.cols)])),
            ),
        )

    def __gt__(self, other: float) -> list[bool]:
        """For each element whether it is greater: a condition for `where`."""
        return [x > other for x in self.data]

    def row_list(self) -> list[list[float]]:
        """The rows, each a list."""
        return [self.data[i * self.cols : (i + 1) * self.cols] for i in range(self.rows)]

    def column_list(self) -> list[list[float]]:
        """The columns, each a list."""
        return [self.data[j :: self.cols] for j in range(self.cols)]

    def _like(self, other: Matrix | float) -> Matrix:
        """`other` in the shape of this matrix: a number, a single row or a single column is repeated."""
        if not isinstance(other, Matrix):
            return Matrix(self.rows, self.cols, [other] * (self.rows * self.cols))
        if (other.rows, other.cols) == (self.rows, self.cols):
            return other
        assert other.rows in (1, self.rows) and other.cols in (1, self.cols)
        down, right = (0 if other.rows == 1 else other.cols), (0 if other.cols == 1 else 1)
        return gather(other, [i * down + j * right for i in range(self.rows) for j in range(self.cols)], self.rows, self.cols)

    def _elementwise(self, values, *operands: tuple[Matrix, Pull]) -> Matrix:
        return Matrix(self.rows, self.cols, list(values), operands)


def gradients(ends: Sequence[tuple[Matrix, list[float]]], matrices: Sequence[Matrix]) -> list[list[float]]:
    """The derivatives of a scalar with respect to each of `matrices`. ends: pairs of a matrix and the derivative of the scalar
    with respect to it; the chain rule starts there. A matrix that no end depends on gets zeros."""
    total: dict[Matrix, list[float]] = {}

    def reach(matrix: Matrix, gradient: list[float]) -> None:
        total[matrix] = list(map(add, total[matrix], gradient)) if matrix in total else gradient

    for end, gradient in ends:
        reach(end, gradient)
    # An operand is older than its result. So in the order from newest to oldest, each gradient is complete before `pull` uses it.
    for matrix in sorted(reachable(end for end, _ in ends), key=lambda matrix: -matrix.order):
        for operand, pull in matrix.operands:
            reach(operand, pull(total[matrix]))
    return [total.get(matrix, [0.0] * len(matrix.data)) for matrix in matrices]


def reachable(ends) -> set[Matrix]:
    """The ends, and all matrices that they depend on and whose gradients are wanted."""
    found: set[Matrix] = set()
    waiting = list(ends)
    while waiting:
        matrix = waiting.pop()
        if matrix not in found:
            found.add(matrix)
            waiting.extend(operand for operand, _ in matrix.operands)
    return found


# ---- elementwise functions: y = value(x), with the derivative(x, y) ----


def _function(value: Callable[[float], float], derivative: Callable[[float, float], float]) -> Callable[[Matrix], Matrix]:
    def apply(x: Matrix) -> Matrix:
        y = list(map(value, x.data))
        return Matrix(x.rows, x.cols, y, [(x, lambda g: [gi * derivative(xi, yi) for gi, xi, yi in zip(g, x.data, y)])])

    return apply


def _divide(a: float, b: float) -> float:
    if b != 0:
        return a / b
    return math.nan if a == 0 or math.isnan(a) else math.copysign(math.inf, a) * math.copysign(1.0, b)


def _exp(x: float) -> float:
    try:
        return math.exp(x)
    except OverflowError:
        return math.inf


def _log(x: float) -> float:
    if x > 0:
        return math.log(x)
    return -math.inf if x == 0 else math.nan


def _finite(f: Callable[[float], float], x: float) -> float:
    return f(x) if math.isfinite(x) else math.nan


sqrt = _function(lambda x: math.sqrt(x) if x >= 0 else math.nan, lambda x, y: _divide(0.5, y))
exp = _function(_exp, lambda x, y: y)
expm1 = _function(lambda x: math.expm1(x) if x < 1 else _exp(x) - 1, lambda x, y: _exp(x))
log = _function(_log, lambda x, y: _divide(1.0, x))
log1p = _function(lambda x: math.log1p(x) if x > -1 else _log(1 + x), lambda x, y: _divide(1.0, 1 + x))
tanh = _function(math.tanh, lambda x, y: (1 - y) * (1 + y))
sin = _function(lambda x: _finite(math.sin, x), lambda x, y: _finite(math.cos, x))
cos = _function(lambda x: _finite(math.cos, x), lambda x, y: -_finite(math.sin, x))
erfc = _function(math.erfc, lambda x, y: -2 / math.sqrt(math.pi) * math.exp(-x * x))


# ---- choosing and moving elements ----


def where(condition: list[bool], a: Matrix | float, b: Matrix) -> Matrix:
    """a where the condition is true, b elsewhere; the gradient goes to the chosen one."""
    a = b._like(a)
    return Matrix(
        a.rows,
        a.cols,
        [ai if c else bi for c, ai, bi in zip(condition, a.data, b.data)],
        [
            (a, lambda g: [gi if c else 0.0 for c, gi in zip(condition, g)]),
            (b, lambda g: [0.0 if c else gi for c, gi in zip(condition, g)]),
        ],
    )


def power(a: Matrix, exponent: float) -> Matrix:
    """a^exponent, for elements above 0."""
    y = [x**exponent for x in a.data]
    return Matrix(a.rows, a.cols, y, [(a, lambda g: [gi * exponent * yi / x for gi, yi, x in zip(g, y, a.data)])])


def maximum(a: Matrix, limit: float) -> Matrix:
    """max(a, limit), with derivative 0 on a tie. Python's max(x, limit) is x unless limit > x, so NaN stays NaN, and -0.0 stays
    -0.0 if limit is 0."""
    y = [max(x, limit) for x in a.data]
    return Matrix(a.rows, a.cols, y, [(a, lambda g: [0.0 if x <= limit else gi for gi, x in zip(g, a.data)])])


def minimum(a: Matrix, limit: float) -> Matrix:
    """min(a, limit), with the conventions of maximum."""
    return -maximum(-a, -limit)


def gather(x: Matrix, index: Sequence[int | None], rows: int, cols: int) -> Matrix:
    """The elements of x.data at the positions in `index`, as a matrix; None: 0. A position may occur several times."""

    def pull(g: list[float]) -> list[float]:
        total = [0.0] * len(x.data)
        for i, gi in zip(index, g):
            if i is not None:
                total[i] += gi
        return total

    return Matrix(rows, cols, [0.0 if i is None else x.data[i] for i in index], [(x, pull)])


def reshaped(x: Matrix, rows: int, cols: int) -> Matrix:
    """The same elements as a matrix of another shape."""
    return Matrix(rows, cols, x.data, [(x, lambda g: g)])


def concat(parts: Sequence[Matrix]) -> Matrix:
    """The columns of all parts, side by side."""
    cols = sum(part.cols for part in parts)
    data = [value for rows in zip(*(part.row_list() for part in parts)) for row in rows for value in row]

    def cut_out(first: int, last: int) -> Pull:
        return lambda g: [value for row in range(0, len(g), cols) for value in g[row + first : row + last]]

    operands, first = [], 0
    for part in parts:
        operands.append((part, cut_out(first, first + part.cols)))
        first += part.cols
    return Matrix(parts[0].rows, cols, data, operands)


def cut(x: Matrix, first: int, end: int) -> Matrix:
    """The columns `first` to `end` - 1."""
    columns = range(first, end)
    return gather(x, [row * x.cols + j for row in range(x.rows) for j in columns], x.rows, len(columns))


def row_sum(x: Matrix) -> Matrix:
    """The sum of each row, as a column."""
    return x @ Matrix(x.cols, 1, [1.0] * x.cols)


def column_sum(x: Matrix) -> Matrix:
    """The sum of each column, as a row."""
    return Matrix(1, x.rows, [1.0] * x.rows) @ x


def over_ranks(x: Matrix, total: Callable[[list[float]], list[float]]) -> Matrix:
    """The sum of this matrix over all ranks. The loss of each rank depends on it, so its derivative is the sum of theirs."""
    return Matrix(x.rows, x.cols, total(x.data), [(x, total)])


# ---- sums of products ----


def dot(a: Sequence[float], b: Sequence[float]) -> float:
    """The sum of a_i b_i, rounded once."""
    try:
        return math.fsum(map(mul, a, b))
    except (OverflowError, ValueError):  # raised by fsum if the sum overflows, and for inf - inf
        return sum(map(mul, a, b))


def _products(rows: Sequence[Sequence[float]], columns: Sequence[Sequence[float]]) -> list[float]:
    return [dot(row, column) for row in rows for column in columns]


def _cut(data: list[float], cols: int) -> list[list[float]]:
    return [data[i : i + cols] for i in range(0, len(data), cols)]
