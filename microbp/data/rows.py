"""Training rows: inputs, targets and weights, converted and checked against the network before anything runs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NoReturn

import numpy as np

from ..core.text import counted
from . import lengths as row_lengths
from . import positions, weights
from .arrays import READABLE, Array, as_array, as_list, unchecked
from .by_output import listed, one_or_all
from .ids import IdsForm, as_inputs, must_be_read
from .lengths import Lengths, Sequences
from .weights import Weights


@dataclass(slots=True)  # frozen, it would take three times as long to create
class Rows:
    """`count` rows: one array per input, one per output, and weights (weights.py), which are 0 for targets that are missing. Targets are
    None where the caller has none, and no named loss reads them. numbers: the caller's numbers of the rows; None: 0, 1, ... counts: which
    outputs have a loss weight above 0. lengths: of sequences (lengths.py); None: none has any."""

    xs: list[Array]
    ys: list[Any]
    weight: Weights
    count: int
    numbers: Array | None = None
    counts: tuple[bool, ...] = (True,)
    lengths: Lengths | None = None

    @property
    def x(self) -> Any:
        """The inputs in the form that a backend expects."""
        x = self.xs[0] if len(self.xs) == 1 else self.xs
        return x if self.lengths is None else {"x": x, "lengths": self.lengths}

    @property
    def y(self) -> Any:
        """The targets in the form that a backend expects."""
        return self.ys[0] if len(self.ys) == 1 else self.ys

    def take(self, index: Array) -> Rows:
        """A copy of the rows at `index`."""
        numbers = index if self.numbers is None else self.numbers[index]
        xs, ys = [x[index] for x in self.xs], [None if y is None else y[index] for y in self.ys]
        lengths = row_lengths.take(self.lengths, index)
        return Rows(xs, ys, weights.take(self.weight, index), len(index), numbers, self.counts, lengths)

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

    inputs: tuple[int, ...]  # the numbers of a row, as those of outputs and targets
    outputs: tuple[int, ...]
    targets: tuple[int, ...]  # less than of outputs where a loss has several columns for a target
    labels: tuple[bool, ...]  # for each output, whether its targets may be integer labels
    whole: tuple[bool, ...]  # for each output, whether its loss needs all targets of a row, so that only rows have weights
    own: tuple[bool, ...]  # for each output, whether it has a custom loss, which gets targets of any shape
    optional: tuple[bool, ...]  # for each output, whether there need be no targets: a custom loss, the loss weight 0, or all may be missing
    missing: tuple[bool, ...]  # for each output, whether targets may be missing
    counts: tuple[bool, ...]  # for each output, whether its loss weight is above 0
    names: tuple[str, ...]  # of the outputs
    ids: tuple[IdsForm | None, ...]  # for each input, what its ids must be; None: it has numbers
    rows: tuple[tuple[int, ...], ...]  # the shapes of a row of the inputs
    grids: tuple[tuple[int, ...], ...]  # the positions of the outputs
    sequences: Sequences

    def none(self, dtype: Any) -> Rows:
        """No rows."""
        xs = [np.zeros((0, width), dtype if form is None else np.int32) for width, form in zip(self.inputs, self.ids, strict=True)]
        return Rows(xs, [np.zeros((0, width), dtype) for width in self.targets], None, 0, None, self.counts)

    def positions(self, i: int) -> int:
        """How many positions a row of output i has."""
        return math.prod(self.grids[i])

    def read(self, x: Any, y: Any, weight: Any, may_be_none: bool = False, lengths: Any = None) -> Rows:
        """The rows, converted where needed; TypeError or ValueError if they do not match this form.

        may_be_none: whether there may be no rows, or only rows of weight 0.
        """
        if lengths is None and weight is None and not any(self.ids) and (rows := self._as_they_are(x, y)):
            return rows  # the usual case: the checks below take longer than a step of a small net
        if isinstance(y, dict) or isinstance(weight, dict):
            y, weight = self.by_output(y, weight)
        ys = self._targets(y)
        xs, read = (self._inputs(x), None) if lengths is None else self.sized(x, lengths)
        self._check_inputs(xs)
        count = len(xs[0])
        for array in xs + ys:
            if array is not None and (array.ndim == 0 or len(array) != count):
                _refuse_count(xs, ys, self.rows)
        if count == 0 and not may_be_none:
            raise ValueError(f"X has no rows: its shape is {_shape(xs[0], self.rows[0])}")
        ys = [self._absent(i, count) if array is None else self._target(i, array, ys) for i, array in enumerate(ys)]
        return self._weighted(Rows(xs, ys, None, count, None, self.counts, read), weight, may_be_none)

    def _weighted(self, rows: Rows, weight: Any, may_be_none: bool) -> Rows:
        """The rows with their weights, which are 0 for missing targets."""
        if weight is not None:
            rows.weight = self._weights(weight, rows.count)
        if not may_be_none and rows.weight is not None and not rows.is_there.any():
            weights.refuse_none()
        if any(self.missing) or rows.lengths is not None:
            valid = [None] * len(rows.ys) if rows.lengths is None else self.sequences.of_outputs(rows.lengths)
            gaps = [self._gaps(i, y, valid[i]) if self.counts[i] else None for i, y in enumerate(rows.ys)]
            rows.weight = weights.without(rows.weight, gaps, rows.count)
            if not may_be_none and not rows.is_there.any():
                beyond = "" if rows.lengths is None else ", or beyond the lengths"
                raise ValueError(f"y has no targets in rows of a weight above 0: all of them are missing (NaN, or the label -1){beyond}")
        return rows

    def sized(self, x: Any, lengths: Any) -> tuple[list[Array], Lengths]:
        """The inputs, with 0 for ids that are not there, and their lengths."""
        if any(self.own):
            raise ValueError("lengths work with named losses only: a loss of your own gets all positions")
        xs, read = sized_inputs(x, lengths, self.ids, self.sequences)
        return [positions.flat(one, shape) for one, shape in zip(xs, self.rows, strict=True)], read

    def cleared(self, rows: Rows) -> Rows:
        """The rows, with 0 in inputs where positions are not there."""
        if rows.lengths is None:
            return rows
        each = enumerate(zip(rows.xs, rows.lengths, strict=True))
        positions = self.sequences.positions
        return replace(rows, xs=[x if length is None else row_lengths.cleared(x, length, positions[i]) for i, (x, length) in each])

    def read_inputs(self, x: Any) -> list[Array]:
        """The inputs alone; TypeError or ValueError if they do not match this form."""
        xs = self._inputs(x)
        self._check_inputs(xs)
        if any(len(array) != len(xs[0]) for array in xs):
            _refuse_count(xs, [], self.rows)
        return xs

    def _inputs(self, x: Any) -> list[Array]:
        """One array per input, with rows of numbers."""
        return [positions.flat(one, shape) for one, shape in zip(as_inputs(x, self.ids), self.rows, strict=True)]

    def _check_inputs(self, xs: list[Array]) -> None:
        for i, width in enumerate(self.inputs):
            if xs[i].ndim != 2 or xs[i].shape[1] != width:
                _refuse_input(xs[i], width, _name("X", i, xs), self.rows[i])

    def _weights(self, weight: Any, count: int) -> weights.Weights:
        """The weights of rows, of targets, or of positions."""
        each = [self.positions(i) if grid else self.targets[i] for i, grid in enumerate(self.grids)]
        whole = [not grid and alone for grid, alone in zip(self.grids, self.whole, strict=True)]
        given = list(weight) if isinstance(weight, list | tuple) and len(weight) == len(each) > 1 else [weight]
        given = [positions.flat_weight(one, grid) for one, grid in zip(given, self.grids, strict=False)]
        return weights.read_weights(given if len(given) > 1 else given[0], count, each, whole)

    def _gaps(self, i: int, y: Array, valid: Array | None) -> Array | None:
        """Which targets of output i are not there; None: all are. valid: how many positions of each row are."""
        gaps = None
        if self.missing[i] and self.grids[i]:
            gaps = positions.missing_of(y, self.positions(i), self.labels[i])
        elif self.missing[i]:
            gaps = weights.missing_of(y, self.labels[i], self.whole[i])
        if valid is None:
            return gaps
        absent = row_lengths.beyond(valid, self.positions(i))
        absent = absent if self.grids[i] else absent.repeat(self.targets[i], axis=1)[:, : 1 if self.whole[i] else None]
        gaps = absent if gaps is None else absent | gaps.reshape(absent.shape)
        return gaps if gaps.any() else None

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
            if type(array) is not np.ndarray or array.dtype not in READABLE:
                return None
            if array.shape != (count, self.inputs[i]):
                if array.shape != (count, *self.rows[i]):
                    return None
                xs = [*xs[:i], array.reshape(count, self.inputs[i]), *xs[i + 1 :]]
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
        if self.grids[i] and not self.own[i]:
            return positions.flat_target(y, self.grids[i], width // self.positions(i), self.labels[i], _name("y", i, ys))
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


def sized_inputs(x: Any, lengths: Any, ids: Sequence[IdsForm | None], sequences: Sequences) -> tuple[list[Array], Lengths]:
    """One array for each input, with 0 for ids that are not there, and the lengths of their rows."""
    xs = as_inputs(x, [form and form._replace(hash=True) for form in ids])
    lead = next((one.shape for one, form in zip(xs, ids, strict=True) if form is None or one.ndim > 1), xs[0].shape)
    read = sequences.read(lengths, lead[0] if lead else 0)
    for i, length in enumerate(read):
        if ids[i] is not None and length is not None:
            xs[i] = row_lengths.cleared(xs[i], length, sequences.positions[i])
    return as_inputs(xs if len(xs) > 1 else xs[0], ids), read


def _name(what: str, i: int, arrays: list[Any]) -> str:
    return what if len(arrays) == 1 else f"{what}[{i}]"


def _refuse_input(x: Array, width: int, what: str, row: tuple[int, ...]) -> NoReturn:
    needed = f"(rows, {', '.join(map(str, row))}), or (rows, {width})" if len(row) > 1 else f"(rows, {width})"
    advice = ""
    if x.ndim == 1 and width in (1, len(x)):
        advice = f"; use {what}.reshape({'-1, 1' if width == 1 else '1, -1'})"
    raise ValueError(f"{what} has shape {x.shape}; the network needs shape {needed}{advice}")


def _shape(x: Array, row: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of an input whose rows have this shape, also if it is kept as rows of numbers."""
    return (len(x), *row) if x.shape[1:] == (math.prod(row),) else x.shape


def _refuse_count(xs: list[Array], ys: list[Any], rows: Sequence[tuple[int, ...]]) -> NoReturn:
    """For arrays of which one has not as many rows as the first. rows: the shapes of a row of the inputs."""
    shapes = [_shape(x, row) for x, row in zip(xs, rows, strict=True)] + [None if y is None else y.shape for y in ys]
    names = [_name(what, i, arrays) for what, arrays in (("X", xs), ("y", ys)) for i in range(len(arrays))]
    other = next(i for i, shape in enumerate(shapes) if shape is not None and shape[:1] != xs[0].shape[:1])
    both = f"{names[0]} and {names[other]} must have the same number of rows"
    raise ValueError(f"{both}, but have shapes {shapes[0]} and {shapes[other]}")
