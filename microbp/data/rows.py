"""Training rows: inputs, targets and weights, converted and checked against the network before anything runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np

from ..core.text import counted
from . import weights
from .arrays import READABLE, Array, as_array, as_list, unchecked
from .by_output import listed, one_or_all
from .ids import IdsForm, as_inputs, must_be_read
from .weights import Weights


@dataclass(slots=True)  # frozen, it would take three times as long to create
class Rows:
    """`count` rows: one array per input, one per output, and weights (weights.py), which are 0 for targets that are missing. Targets are
    None where the caller has none, and no named loss reads them. numbers: the caller's numbers of the rows; None: 0, 1, ... counts: which
    outputs have a loss weight above 0."""

    xs: list[Array]
    ys: list[Any]
    weight: Weights
    count: int
    numbers: Array | None = None
    counts: tuple[bool, ...] = (True,)

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
        numbers = index if self.numbers is None else self.numbers[index]
        xs, ys = [x[index] for x in self.xs], [None if y is None else y[index] for y in self.ys]
        return Rows(xs, ys, weights.take(self.weight, index), len(index), numbers, self.counts)

    def active(self) -> Array:
        """The indices of the rows that are there: those with a weight above 0."""
        return np.arange(self.count) if self.weight is None else np.flatnonzero(self.is_there)

    @property
    def is_there(self) -> Array:
        """Which rows are there."""
        return weights.is_there(self.weight, self.count, self.counts)

    def weight_of(self, i: int) -> Array | None:
        """The weights of output i."""
        return weights.of_output(self.weight, i)

    def totals(self, chosen: Array) -> float | list[float]:
        """What the loss of a batch of the chosen rows is divided by; a list for outputs that have their own weights."""
        if isinstance(self.weight, list) and len(self.ys) > 1:
            return [weights.total_of(one, chosen) for one in self.weight]
        return weights.total_of(self.weight_of(0), chosen)

    def present(self) -> Rows:
        """The rows that are there: these rows, or a copy without those of weight 0."""
        if self.weight is None:
            return self
        active = self.active()
        return self if len(active) == self.count else self.take(active)

    def named(self) -> list[tuple[str, Any]]:
        """The inputs, then the targets, which may be None, with their names in errors."""
        return [(_name(what, i, arrays), array) for what, arrays in (("X", self.xs), ("y", self.ys)) for i, array in enumerate(arrays)]


@dataclass(frozen=True)
class Shape:
    """The required form of a trainer's rows: the widths of inputs and outputs, and the kind of targets."""

    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    targets: tuple[int, ...]  # the widths of targets: less than those of outputs where a loss has several columns for a target
    labels: tuple[bool, ...]  # for each output, whether its targets may be integer labels
    whole: tuple[bool, ...]  # for each output, whether its loss needs all targets of a row, so that only rows have weights
    own: tuple[bool, ...]  # for each output, whether it has a custom loss, which gets targets of any shape
    optional: tuple[bool, ...]  # for each output, whether there need be no targets: a custom loss, the loss weight 0, or all may be missing
    missing: tuple[bool, ...]  # for each output, whether targets may be missing
    counts: tuple[bool, ...]  # for each output, whether its loss weight is above 0
    names: tuple[str, ...]  # of the outputs
    ids: tuple[IdsForm | None, ...]  # for each input, what its ids must be; None: it has numbers

    def read(self, x: Any, y: Any, weight: Any, may_be_none: bool = False) -> Rows:
        """The rows, converted where needed; TypeError or ValueError if they do not match this form.

        may_be_none: whether there may be no rows, or only rows of weight 0.
        """
        if weight is None and not any(self.ids) and (rows := self._as_they_are(x, y)):
            return rows  # the usual case: the checks below take longer than a step of a small net
        if isinstance(y, dict) or isinstance(weight, dict):
            y, weight = self.by_output(y, weight)
        xs = as_inputs(x, self.ids)
        ys = self._targets(y)
        self._check_inputs(xs)
        count = len(xs[0])
        for array in xs + ys:
            if array is not None and (array.ndim == 0 or len(array) != count):
                _refuse_count(xs, ys)
        if count == 0 and not may_be_none:
            raise ValueError(f"X has no rows: its shape is {xs[0].shape}")
        ys = [self._absent(i, count) if array is None else self._target(i, array, ys) for i, array in enumerate(ys)]
        return self._weighted(Rows(xs, ys, None, count, counts=self.counts), weight, may_be_none)

    def _weighted(self, rows: Rows, weight: Any, may_be_none: bool) -> Rows:
        """The rows with their weights, which are 0 for missing targets."""
        if weight is not None:
            rows.weight = weights.read_weights(weight, rows.count, self.targets, self.whole)
        if not may_be_none and rows.weight is not None and not rows.is_there.any():
            weights.refuse_none()
        if any(self.missing):
            asked = zip(rows.ys, self.labels, self.whole, self.missing, self.counts, strict=True)
            gaps = [weights.missing_of(y, labels, whole) if missing and counts else None for y, labels, whole, missing, counts in asked]
            rows.weight = weights.without(rows.weight, gaps, rows.count)
            if not may_be_none and not rows.is_there.any():
                raise ValueError("y has no targets in rows of a weight above 0: all of them are missing (NaN, or the label -1)")
        return rows

    def read_inputs(self, x: Any) -> list[Array]:
        """The inputs alone; TypeError or ValueError if they do not match this form."""
        xs = as_inputs(x, self.ids)
        self._check_inputs(xs)
        if any(len(array) != len(xs[0]) for array in xs):
            _refuse_count(xs, [])
        return xs

    def _check_inputs(self, xs: list[Array]) -> None:
        for i, width in enumerate(self.inputs):
            if xs[i].ndim != 2 or xs[i].shape[1] != width:
                _refuse_input(xs[i], width, _name("X", i, xs))

    def are_rows(self, x: Any) -> bool:
        """Whether x without targets is the inputs of rows, not a stream: arrays, of which no loss needs the targets."""
        xs = x if len(self.inputs) > 1 and isinstance(x, list | tuple) and len(x) == len(self.inputs) else [x]
        return all(self.optional) and all(hasattr(one, "shape") for one in xs)

    def _targets(self, y: Any) -> list[Any]:
        """One array per output, or None where there are no targets."""
        count = len(self.outputs)
        given = [None] * count if y is None else y if count > 1 else [y]
        if not (isinstance(given, list | tuple) and len(given) == count and any(one is None for one in given)):
            if count > 1 and not isinstance(given, list | tuple):
                absent = "; None for an output without targets" if any(self.optional) else ""
                raise TypeError(f"y must be a list of {count} arrays, one per output, or a dict by output{absent}, not {type(y).__name__}")
            return as_list(y, count, "y", "output")
        for i, optional in enumerate(self.optional):
            if given[i] is None and not optional:
                needed = "only a loss of your own, of weight 0, or with missing=True works without targets"
                raise TypeError(f"{_name('y', i, list(given))} is None; it must be an array of numbers: {needed}")
        return [None if one is None else as_array(one, _name("y", i, list(given))) for i, one in enumerate(given)]

    def _absent(self, i: int, count: int) -> Array | None:
        """What stands for absent targets: NaN, which a named loss of weight 0 does not read, and others take as missing."""
        return None if self.own[i] else np.broadcast_to(np.nan, (count, self.targets[i]))

    def _as_they_are(self, x: Any, y: Any) -> Rows | None:
        """The rows, if no array needs a conversion, or a closer look at gaps; None otherwise."""
        xs = [x] if len(self.inputs) == 1 else x
        ys = [y] if len(self.outputs) == 1 else [None] * len(self.outputs) if y is None else y
        if not (type(xs) is type(ys) is list and len(xs) == len(self.inputs) and len(ys) == len(self.outputs)):
            return None
        count = len(xs[0]) if type(xs[0]) is np.ndarray and xs[0].ndim else 0
        for i, array in enumerate(xs):
            if type(array) is not np.ndarray or array.shape != (count, self.inputs[i]) or array.dtype not in READABLE:
                return None
        for i, array in enumerate(ys):
            if array is None and self.own[i]:
                continue
            if type(array) is not np.ndarray or array.shape != (count, self.targets[i]) or array.dtype not in READABLE or self.missing[i]:
                return None
        return Rows(list(xs), list(ys), None, count, None, self.counts) if count else None

    def arrays(self, x: Any, y: Any, weight: Any) -> tuple[Any, Any, Array | None]:
        """The arguments in the form that a backend expects, converted but not checked."""
        if isinstance(y, dict) or isinstance(weight, dict):  # tested here: a call more takes 5 % of a step of a small net
            y, weight = self.by_output(y, weight)
        if not (weight is None or type(weight) is np.ndarray):
            weight = as_array(weight, "sample_weight")
        if any(self.ids) and any(map(must_be_read, x if len(self.ids) > 1 else [x])):
            xs = as_inputs(x, self.ids)
            x = xs[0] if len(xs) == 1 else xs
        return unchecked(x, len(self.inputs), "X", "input"), unchecked(y, len(self.outputs), "y", "output"), weight

    def by_output(self, y: Any, weight: Any) -> tuple[Any, Any]:
        """Targets and weights, as lists if they are dicts by output."""
        if isinstance(y, dict):
            try:  # the usual case: a target for each name
                given = [y[name] for name in self.names] if len(y) == len(self.names) else None
            except KeyError:
                given = None
            y = one_or_all(given or listed(self._without_optional(y), self.names, "y"))
        if isinstance(weight, dict):
            weight = one_or_all(listed(weight, self.names, "sample_weight", None))
        return y, weight

    def _without_optional(self, y: dict[Any, Any]) -> dict[Any, Any]:
        """The targets by output, with None for outputs that need none and are not named."""
        free = [name for i, name in enumerate(self.names) if self.optional[i] and name not in y and i not in y]
        return y | dict.fromkeys(free)

    def _target(self, i: int, y: Array, ys: list[Any]) -> Array:
        width = self.targets[i]
        if self.labels[i] and y.dtype.kind in "biu" and (y.ndim == 1 or y.shape[1:] == (1,)):
            return y
        if y.ndim == 1 and (width == 1 or self.own[i]):
            return y.reshape(-1, 1) if width == 1 else y
        if y.shape[1:] == (width,) or self.own[i]:
            return y
        what = _name("y", i, ys)
        labels = f", or integer labels of shape ({len(y)},)" if self.labels[i] else ""
        advice = f"; for labels, use {what}.astype(int)" if self.labels[i] and y.size == len(y) and (y == np.floor(y)).all() else ""
        outputs = (
            counted(width, "output") if width == self.outputs[i] else f"{self.outputs[i]} outputs, {self.outputs[i] // width} per target,"
        )
        raise ValueError(
            f"{what} has shape {y.shape} and dtype {y.dtype}; with {outputs} it must have shape ({len(y)}, {width}){labels}{advice}"
        )


def _name(what: str, i: int, arrays: list[Any]) -> str:
    return what if len(arrays) == 1 else f"{what}[{i}]"


def _refuse_input(x: Array, width: int, what: str) -> NoReturn:
    advice = ""
    if x.ndim == 1 and width in (1, len(x)):
        advice = f"; use {what}.reshape({'-1, 1' if width == 1 else '1, -1'})"
    raise ValueError(f"{what} has shape {x.shape}; the network needs shape (rows, {width}){advice}")


def _refuse_count(xs: list[Array], ys: list[Any]) -> NoReturn:
    """For arrays of which one has not as many rows as the first."""
    named = [(_name(what, i, arrays), array) for what, arrays in (("X", xs), ("y", ys)) for i, array in enumerate(arrays)]
    first, shape = named[0][0], xs[0].shape
    given = [(name, array) for name, array in named if array is not None]
    name, other = next((name, array.shape) for name, array in given if array.ndim == 0 or len(array) != len(xs[0]))
    raise ValueError(f"{first} and {name} must have the same number of rows, but have shapes {shape} and {other}")
