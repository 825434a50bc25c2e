"""Training rows: inputs, targets and weights, converted and checked against the network before anything runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np

from ..core.text import counted
from .arrays import Array, as_array, as_list, unchecked


@dataclass(slots=True)  # frozen, it would take three times as long to create
class Rows:
    """`count` rows: one array per input, one per output, and one weight per row or None. numbers: the caller's numbers of the rows; None:
    0, 1, ..."""

    xs: list[Array]
    ys: list[Array]
    weight: Array | None
    count: int
    numbers: Array | None = None

    @property
    def x(self) -> Any:
        """The inputs in the form that a backend expects."""
        return self.xs[0] if len(self.xs) == 1 else self.xs

    @property
    def y(self) -> Any:
        """The targets in the form that a backend expects."""
        return self.ys[0] if len(self.ys) == 1 else self.ys

    def take(self, index: Array) -> Rows:
        """A copy of the rows at `index`."""
        weight = None if self.weight is None else self.weight[index]
        numbers = index if self.numbers is None else self.numbers[index]
        return Rows([x[index] for x in self.xs], [y[index] for y in self.ys], weight, len(index), numbers)

    def active(self) -> Array:
        """The indices of the rows that are there: those with a weight above 0."""
        return np.arange(self.count) if self.weight is None else np.flatnonzero(self.weight)

    def present(self) -> Rows:
        """The rows that are there: these rows, or a copy without those of weight 0."""
        return self if self.weight is None or self.weight.all() else self.take(self.active())

    def named(self) -> list[tuple[str, Array]]:
        """The inputs, then the targets, with their names in errors."""
        return [(_name(what, i, arrays), array) for what, arrays in (("X", self.xs), ("y", self.ys)) for i, array in enumerate(arrays)]


@dataclass(frozen=True)
class Shape:
    """The required form of a trainer's rows: the widths of inputs and outputs, and the kind of targets."""

    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    labels: tuple[bool, ...]  # for each output, whether its targets may be integer labels
    own: tuple[bool, ...]  # for each output, whether it has a custom loss, which gets targets of any shape

    def read(self, x: Any, y: Any, weight: Any, may_be_none: bool = False) -> Rows:
        """The rows, converted where needed; TypeError or ValueError if they do not match this form.

        may_be_none: whether there may be no rows, or only rows of weight 0.
        """
        if type(x) is type(y) is np.ndarray and weight is None and self._fits(x, y):
            return Rows([x], [y], None, len(x))  # the usual case: the checks below take longer than a step of a small net
        xs = as_list(x, len(self.inputs), "X", "input")
        ys = as_list(y, len(self.outputs), "y", "output")
        for i, width in enumerate(self.inputs):
            if xs[i].ndim != 2 or xs[i].shape[1] != width:
                _refuse_input(xs[i], width, _name("X", i, xs))
        count = len(xs[0])
        for array in xs + ys:
            if array.ndim == 0 or len(array) != count:
                _refuse_count(xs, ys)
        if count == 0 and not may_be_none:
            raise ValueError(f"X has no rows: its shape is {xs[0].shape}")
        ys = [self._target(i, array, ys) for i, array in enumerate(ys)]
        if weight is not None:
            weight = read_weight(weight, count, "X", may_be_none)
        return Rows(xs, ys, weight, count)

    def _fits(self, x: Array, y: Array) -> bool:
        """Whether x and y can be the rows of one input and one output as they are."""
        is_shaped = x.shape[1:] == self.inputs and y.shape[1:] == self.outputs and len(x) == len(y) > 0
        return is_shaped and as_array(x, "X") is x and as_array(y, "y") is y

    def arrays(self, x: Any, y: Any, weight: Any) -> tuple[Any, Any, Array | None]:
        """The arguments in the form that a backend expects, converted but not checked."""
        if not (weight is None or type(weight) is np.ndarray):
            weight = as_array(weight, "sample_weight")
        return unchecked(x, len(self.inputs), "X", "input"), unchecked(y, len(self.outputs), "y", "output"), weight

    def _target(self, i: int, y: Array, ys: list[Array]) -> Array:
        width = self.outputs[i]
        if self.labels[i] and y.dtype.kind in "biu" and (y.ndim == 1 or y.shape[1:] == (1,)):
            return y
        if y.ndim == 1 and (width == 1 or self.own[i]):
            return y.reshape(-1, 1) if width == 1 else y
        if y.shape[1:] == (width,) or self.own[i]:
            return y
        what = _name("y", i, ys)
        labels = f", or integer labels of shape ({len(y)},)" if self.labels[i] else ""
        advice = f"; for labels, use {what}.astype(int)" if self.labels[i] and y.size == len(y) and (y == np.floor(y)).all() else ""
        raise ValueError(
            f"{what} has shape {y.shape} and dtype {y.dtype}; with {counted(width, 'output')} it must have shape ({len(y)}, {width})"
            f"{labels}{advice}"
        )


def _name(what: str, i: int, arrays: list[Array]) -> str:
    return what if len(arrays) == 1 else f"{what}[{i}]"


def _refuse_input(x: Array, width: int, what: str) -> NoReturn:
    advice = ""
    if x.ndim == 1 and width in (1, len(x)):
        advice = f"; use {what}.reshape({'-1, 1' if width == 1 else '1, -1'})"
    raise ValueError(f"{what} has shape {x.shape}; the network needs shape (rows, {width}){advice}")


def _refuse_count(xs: list[Array], ys: list[Array]) -> NoReturn:
    """For arrays of which one has not as many rows as the first."""
    named = [(_name(what, i, arrays), array) for what, arrays in (("X", xs), ("y", ys)) for i, array in enumerate(arrays)]
    first, shape = named[0][0], xs[0].shape
    name, other = next((name, array.shape) for name, array in named if array.ndim == 0 or len(array) != len(xs[0]))
    raise ValueError(f"{first} and {name} must have the same number of rows, but have shapes {shape} and {other}")


def read_weight(sample_weight: Any, count: int, of: str, may_be_0: bool = False) -> Array:
    """One weight for each of `count` rows; TypeError or ValueError if they are none. of: the rows' name. may_be_0: whether all may be 0."""
    weight = as_array(sample_weight, "sample_weight")
    if weight.shape != (count,):
        advice = "; use sample_weight.ravel()" if weight.size == count else ""
        raise ValueError(f"sample_weight has shape {weight.shape}; it must be ({count},), one weight per row of {of}{advice}")
    least, most = (weight.min(), weight.max()) if count else (0, 0)
    if not (least >= 0 and most < np.inf):  # NaN is neither
        row = int((~(np.isfinite(weight) & (weight >= 0))).argmax())
        raise ValueError(f"sample_weight[{row}] is {weight[row]}, but a weight must be finite and at least 0")
    if not may_be_0 and most == 0:
        raise ValueError("sample_weight is 0 for every row, so no row is there; give at least one row a weight above 0")
    return weight
