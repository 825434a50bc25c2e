"""Conversions: from arrays and nested lists to matrices of floats, and from floats to buffers."""

from __future__ import annotations

import math
import sys
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import compress
from numbers import Integral
from typing import Any

from .autodiff import Matrix
from .hashing.xxh64 import level_of
from .positions.lengths import Valid, check_grids, check_lengths, sequence_of
from .sparse.ids import read_ids
from .spec import Interval, Spec, number_text, target_columns

Own = list[list[float]] | None  # of each row, the weights of its columns, or one if these are equal; None: those of the rows
_NO_LABEL = -1  # if targets may be missing
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


def read_integers(value: Any, what: str, cols: int = 1) -> list[int] | None:
    """The elements of an array of shape (n, cols), or (n,) if cols is 1, as a list, if all are integers; otherwise None."""
    lists = nested_lists(value)
    shape = shape_of(lists, what)
    if len(shape) == 2 and shape[1] == cols:
        lists = [number for row in lists for number in row]
    elif len(shape) != 1 or cols > 1:
        return None
    return lists if all(isinstance(number, Integral) and not isinstance(number, bool) for number in lists) else None


def read_labels(
    value: Any, rows: int, cols: int, what: str, chosen: Sequence[int], loss: str, own: Own = None, positions: int = 1
) -> Matrix | None:
    """For each position of each chosen row probabilities: 1 for the class of its label, 0 for the others. None if the values are
    probabilities. own: the weights of these rows; a label of weight 0 is not read."""
    labels = read_integers(value, what, positions)
    if labels is None and shape_of(nested_lists(value), what) in ((rows, positions), *([(rows,)] if positions == 1 else [])):
        needed = f"integer labels, or {cols * positions} probabilities per row"
        raise ValueError(f"{what} has labels that are not integers, but {loss} needs {needed}")
    if labels is None:
        return None
    if len(labels) != rows * positions:
        raise ValueError(f"{what} has shape ({len(labels) // positions}, {positions}), but ({rows}, {positions}) is expected")
    for r, weights in zip(chosen, own or [[1.0]] * len(chosen)):
        for p, label in enumerate(labels[r * positions : (r + 1) * positions]):
            if not 0 <= label < cols and weights[p if len(weights) > 1 else 0]:
                place = f"{what}, row {r}, position {p}" if positions > 1 else f"{what}, row {r}"
                advice = "; if -1 means that the row has no label, set missing=1 in the loss" if label == _NO_LABEL else ""
                raise ValueError(f"{place}: label {label} is not in 0 to {cols - 1}, the classes of the output{advice}")
    chosen_labels = [label for r in chosen for label in labels[r * positions : (r + 1) * positions]]
    return Matrix(len(chosen), positions * cols, [float(j == label) for label in chosen_labels for j in range(cols)])


# ---- batches ----


@dataclass
class Batch:
    """The training rows that are there, which are those with a weight above 0: a matrix for each input, a matrix of targets for each
    output (without rows if they are not read), and for each row its weight and its number in the caller's arrays. own: for each output its
    own weights of these rows, if it has any. given: how many rows the caller passed."""

    inputs: list[Matrix]
    targets: list[Matrix]
    weights: list[float]
    own: list[Own]
    numbers: Sequence[int]
    given: int
    positions: Sequence[int]  # of each output
    carry: Any = None  # the states that the rows go on from

    def of_positions(self, i: int) -> tuple[list[list[float]], int]:
        """The weights of the positions of output i, row by row, or of the targets in the rows; and how many positions a row has."""
        weights, positions = self.own[i] or [[weight] for weight in self.weights], self.positions[i]
        if positions == 1:
            return weights, 1
        return [[weight] for row in weights for weight in (row if len(row) > 1 else row * positions)], positions

    @property
    def total(self) -> float:
        """The sum of the weights."""
        return sum(self.weights)

    @property
    def totals(self) -> list[float]:
        """The divisor of each output: the sum over the rows of the mean of its weights."""
        return [self.total if own is None else sum(sum(row) / len(row) for row in own) for own in self.own]

    def checked(self) -> Batch:
        """This batch; ValueError if it has no row, or if the sum of its weights is not positive or not finite."""
        self.check_totals(self.given, len(self.weights), self.total, self.totals)
        return self

    @staticmethod
    def check_totals(given: int, rows: int, total: float, totals: Sequence[float]) -> None:
        """ValueError if no row was given or none is there, or if a sum of weights is not positive or not finite. totals: of the outputs."""
        if given == 0:
            raise ValueError("the batch has 0 rows, but needs at least 1")
        if rows == 0:
            raise ValueError("all row weights are 0, so no row is there: give at least one row a weight above 0")
        if not 0 < total < math.inf:
            raise ValueError(f"the row weights of a batch sum to {total:.8g}, but the sum must be finite and above 0")
        for i, own in enumerate(totals):
            if not own < math.inf:
                raise ValueError(f"the weights of output {i} in a batch sum to {own:.8g}, but the sum must be finite and above 0")

    def keep(self) -> None:
        """At the end of a call that succeeded: the state becomes that after these rows."""
        if self.carry:
            self.carry.keep()

    def split(self, size: int) -> list[Batch]:
        """Batches of `size` rows; the last one may be smaller."""
        if size < 1:
            raise ValueError(f"batch_rows is {size}, but must be at least 1")
        return [self.part(first, size) for first in range(0, len(self.weights), size)]

    def part(self, first: int, size: int) -> Batch:
        """At most `size` of the rows that are there, from number `first` on."""
        weights, numbers = self.weights[first : first + size], self.numbers[first : first + size]
        inputs, targets = ([_slice(matrix, first, size) for matrix in matrices] for matrices in (self.inputs, self.targets))
        own = [one and one[first : first + size] for one in self.own]
        return Batch(inputs, targets, weights, own, numbers, len(weights), self.positions)

    def spread(self, matrix: Matrix) -> Matrix:
        """A matrix with a row for each row that the caller passed: those of `matrix` for the rows that are there, otherwise zeros."""
        rows = dict(zip(self.numbers, matrix.row_list()))
        zeros = [0.0] * matrix.cols
        return Matrix(self.given, matrix.cols, [value for r in range(self.given) for value in rows.get(r, zeros)])


def _slice(matrix: Matrix, first: int, count: int) -> Matrix:
    """At most `count` rows from number `first` on."""
    data = matrix.data[first * matrix.cols : (first + count) * matrix.cols]
    found = Matrix(len(data) // matrix.cols, matrix.cols, data, wanted=matrix.wanted)
    found.stored = matrix.stored and matrix.stored[first : first + count]
    found.lengths = matrix.lengths and matrix.lengths[first : first + count]
    return found


def rows_of(matrix: Matrix, numbers: Sequence[int]) -> Matrix:
    """The rows with these numbers."""
    rows = matrix.row_list()
    found = Matrix(len(numbers), matrix.cols, [value for i in numbers for value in rows[i]], wanted=matrix.wanted)
    found.stored = matrix.stored and [matrix.stored[i] for i in numbers]
    found.lengths = matrix.lengths and [matrix.lengths[i] for i in numbers]
    return found


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


def read_elements(weight: Any, widths: Sequence[int], rows: int) -> list[Matrix | None]:
    """Weights of the elements of each output, `rows` times 1 or its width; None for an output without. weight: a list of these."""
    if len(weight) != len(widths):
        raise ValueError(f"weight has {counted(len(weight), 'item')}, but the net has {counted(len(widths), 'output')}")
    found: list[Matrix | None] = []
    for i, (given, width) in enumerate(zip(weight, widths)):
        is_column = given is not None and shape_of(nested_lists(given), "weight")[1:] in ((), (1,))
        found.append(None if given is None else read_matrix(given, 1 if is_column else width, "d", f"element_weights {i}", rows))
    return found


def own_weights(
    i: int, elements: Matrix | None, missing: list[list[bool]] | None, chosen: Sequence[int], weights: Sequence[float], width: int
) -> Own:
    """The weights of output i in the chosen rows: row weight times element weight, 0 where the target is missing. None: the row weights.
    missing: which targets are, of all rows."""
    if elements is None and missing is None:
        return None
    found = []
    for row, weight in zip(chosen, weights):
        of_row = [1.0] * width if elements is None else elements.row_list()[row]
        for j, value in enumerate(of_row):
            if not 0 <= value < math.inf:
                needs = "finite and at least 0"
                raise ValueError(f"element_weights {i}, row {row}, column {j} is {value:.8g}, but must be {needs}")
        of_row = of_row if len(of_row) == width else of_row * width
        found.append([0.0 if missing and missing[row][j] else weight * value for j, value in enumerate(of_row)])
    return found if any(len(set(row)) > 1 for row in found) else [row[:1] for row in found]


def missing_targets(y: Any, cols: int, width: int, what: str, rows: int, positions: int = 1) -> list[list[bool]]:
    """For each row which targets are not there: NaN, or the label -1. width: how many weights a row has."""
    if positions > 1:
        labels = read_integers(y, what, positions)
        one = cols if labels is None else 1
        found = [label == _NO_LABEL for label in labels or []] or list(
            map(math.isnan, read_matrix(y, cols * positions, "d", what, rows).data)
        )
        ends = [range(r * positions * one, (r + 1) * positions * one, one) for r in range(rows)]
        return [[any(found[at : at + one]) for at in row] for row in ends]
    labels = read_integers(y, what) if width == 1 else None
    if labels is not None and cols > 1:
        return [[label == _NO_LABEL] for label in labels]
    if width == 1 < cols and shape_of(nested_lists(y), what) in ((rows,), (rows, 1)):
        return [[False]] * rows  # not labels; the error comes when they are read
    nans = [list(map(math.isnan, row)) for row in read_matrix(y, cols, "d", what, rows).row_list()]
    return nans if width == cols else [[any(row)] for row in nans]


def beyond(missing: list[list[bool]] | None, valid: Valid, positions: int, width: int) -> list[list[bool]] | None:
    """The targets that are missing, or beyond the lengths of rows. width: how many weights a row has."""
    if valid is None:
        return missing
    absent = [[(j if positions > 1 else 0) >= length for j in range(width)] for length in valid]
    return absent if missing is None else [[a or b for a, b in zip(*rows)] for rows in zip(absent, missing)]


def read_own(
    losses: Sequence[Spec | None],
    widths: Sequence[int],
    columns: Sequence[int],
    positions: Sequence[int],
    valid: Sequence[Valid],
    elements: Any,
    ys: Sequence[Any],
    rows: int,
    chosen: Sequence[int],
    weights: Sequence[float],
    keeps: bool,
) -> tuple[Sequence[int], list[float], list[Own]]:
    """Those of the chosen rows that are there in an output that counts, their weights, and for each output its own weights of them.
    losses: None for an output that does not count. widths: the columns of the targets. columns: how many weights a row has.
    valid: how many positions of each row of an output are there. elements: the caller's, or None. weights: of the rows. keeps: rows
    without targets are there too."""
    read = read_elements(elements, columns, rows) if elements else [None] * len(ys)
    found = []
    for i, (loss, count, y) in enumerate(zip(losses, columns, ys)):
        missing = missing_targets(y, widths[i], count, f"target {i}", rows, positions[i]) if loss and loss.values["missing"] else None
        missing = beyond(missing, valid[i], positions[i], count) if loss else None
        found.append(own_weights(i, read[i] if loss else None, missing, chosen, weights, count))
    counts = [own for own, loss in zip(found, losses) if loss] or [None]
    there = [keeps or any(own is None or any(own[k]) for own in counts) for k in range(len(chosen))]
    return list(compress(chosen, there)), list(compress(weights, there)), [own and list(compress(own, there)) for own in found]


def read_targets(
    y: Any, loss: Spec, cols: int, format: str, what: str, rows: int, chosen: Sequence[int], own: Own, positions: int
) -> Matrix:
    """The targets of the chosen rows, of `rows` in total. own: the weights of these rows."""
    if loss.entry.targets == "LABELS":
        labels = read_labels(y, rows, cols, what, chosen, loss.name, own, positions)
        if labels is not None:
            return labels
    targets = rows_of(read_matrix(y, cols * positions, format, what, rows), chosen)
    check_targets(targets, loss, what, chosen, own, positions)
    return targets


def read_batch(
    inputs: list[Matrix],
    y: Any,
    weight: Any,
    index: Any,
    given: Sequence[Spec | None],
    loss_weights: Sequence[float],
    outputs: Sequence[tuple[Any, Any]],
    valid: Sequence[Valid],
    format: str,
    keeps: bool = False,
) -> Batch:
    """The rows of `index` (None: all) that are there. Of the others, no value is read. given: the loss of each output, with its weight.
    outputs: the outputs with their nodes. valid: how many of their positions are there. keeps: rows without targets are there too."""
    rows, ys = inputs[0].rows, several(y, len(outputs), "y")
    asked = read_index(index, rows)
    if keeps and weight is not None and not isinstance(weight, list):
        weight = [weight] * len(outputs)  # all rows are there, but not their targets
    of_elements = isinstance(weight, list) and any(one is None or hasattr(one, "__len__") for one in weight)
    chosen, weights = read_weights(None if of_elements else weight, rows, asked)
    widths = [target_columns(str(loss), node.width) for loss, (_, node) in zip(given, outputs)]
    positions = [node.positions for _, node in outputs]
    columns = [each if each > 1 else width if loss and loss.entry.apart else 1 for loss, width, each in zip(given, widths, positions)]
    losses = [loss if loss_weight else None for loss, loss_weight in zip(given, loss_weights)]
    each = weight if of_elements else None
    chosen, weights, own = read_own(losses, widths, columns, positions, valid, each, ys, rows, chosen, weights, keeps)
    targets = []
    for i, (one, loss, width, (output, _)) in enumerate(zip(ys, given, widths, outputs)):
        read = "d" if output.scale else format  # scaled numbers are rounded once
        found = read_targets(one, loss, width, read, f"target {i}", rows, chosen if losses[i] else [], own[i], positions[i])
        targets.append(output.scaled(found, format))
    return Batch([rows_of(matrix, chosen) for matrix in inputs], targets, weights, own, chosen, len(asked), positions)


def read_index(index: Any, rows: int) -> Sequence[int]:
    """The row numbers in `index`. index=None: all rows, in order."""
    if index is None:
        return range(rows)
    numbers = read_integers(index, "index")
    if numbers is None:
        raise ValueError("index must contain only integers")
    for i, number in enumerate(numbers):
        if not 0 <= number < rows:
            raise ValueError(f"index[{i}] is {number}, but must be a row number from 0 to {rows - 1}")
    return numbers


def read_loss_weight(value: float, i: int) -> float:
    """The factor of the loss of output i."""
    if not 0 <= value < math.inf:
        raise ValueError(f"loss_weights[{i}] is {number_text(value)}, but must be finite and at least 0")
    return float(value)


def read_totals(total: Any, outputs: int) -> list[float] | None:
    """The divisor of each output; None: those of the batch. total: a number for all outputs, or one for each."""
    several = not isinstance(total, (int, float))
    given = list(total) if several else [total] * outputs
    for i, one in enumerate(given):
        if not (one == 0 or sys.float_info.min <= one < math.inf):
            if several:
                what, zero = f"totals[{i}] must be the sum of all weights of output {i}", "if the whole batch has no target for it"
            else:
                what, zero = "total must be the sum of all row weights", "to use the sum of this batch"
            raise ValueError(f"{what}, finite and at least 2.3e-308, or 0 ({zero})")
    return None if not several and total == 0 else given


def check_targets(targets: Matrix, loss: Spec, what: str, numbers: Sequence[int], own: Own, positions: int) -> None:
    """Raises ValueError for targets that the loss does not accept. numbers: the caller's row numbers. own: their weights. Targets of a
    "LABELS" loss are probabilities here. NaN passes: it makes the loss NaN, which raises FloatingPointError."""
    signs = loss.entry.targets == "SIGNS"
    interval = Interval.parse({"SIGNS": "[-1,1]", "LABELS": "[0,1]"}.get(loss.entry.targets, loss.entry.targets))
    if (interval.low, interval.high) == (-math.inf, math.inf):  # infinite targets pass too: they make the loss infinite
        return
    valid = "{-1, 1}" if signs else interval.text
    for k, (r, row) in enumerate(zip(numbers, targets.row_list())):
        for j, value in enumerate(row):
            weight = j * positions // len(row) if positions > 1 else j
            if own and not own[k][weight if len(own[k]) > 1 else 0]:
                continue
            wrong = value not in interval or (signs and abs(value) != 1)
            if wrong and not math.isnan(value):
                raise ValueError(f"{what}, row {r}, column {j} is {value:.8g}, but {loss.name} needs values in {valid}")


def deviation_of(column: Sequence[float], mean: float) -> float:
    """The standard deviation; 1 for a column whose values differ by rounding errors only."""
    rows = len(column)
    variance = math.fsum((x - mean) ** 2 for x in column) / rows
    rounding = rows * sys.float_info.epsilon
    return 1.0 if variance <= rounding * variance + (rounding * mean) ** 2 else math.sqrt(variance)


def counted(number: int, noun: str) -> str:
    """A number with its noun, for error texts: 1 row, 2 rows."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def several(value: Any, count: int, what: str) -> Any:
    """The arrays of an argument: one array if count is 1, otherwise a list of `count` arrays; with lengths, in a dict with them."""
    if isinstance(value, dict):
        return value | {"x": several(value["x"], count, what)}
    if count == 1:
        return [value]
    if not isinstance(value, (list, tuple)) or len(value) != count:
        raise ValueError(f"{what} must be a list of {count} arrays")
    return value


def read_lengths(graph: Any, lengths: Sequence[Any] | None, rows: int) -> list[Valid]:
    """For each input how many positions of each row are there; None: all are. lengths: the caller's, or None."""
    if lengths is None:
        return [None] * len(graph.inputs)
    found: list[Valid] = []
    for i, given in enumerate(lengths):
        numbers = None if given is None else read_integers(given, f"lengths {i}")
        if given is not None and numbers is None:
            raise ValueError(f"lengths {i} must be of an integer dtype: convert them")
        if numbers is not None and len(numbers) != rows:
            raise ValueError(f"lengths {i} has shape ({len(numbers)}, 1), but ({rows}, 1) is expected")
        if numbers is not None:
            check_lengths(graph, i, numbers)
        found.append(numbers)
    check_grids(graph)
    return found


def ids_matrix(x: Any, graph: Any, i: int, count: int | None, lengths: Valid) -> Matrix:
    """A matrix of the levels that the ids of input i name; -1, no level, for those that are not there."""
    node = graph.inputs[i]
    hashed, lists = bool(node.settings["hash"]), nested_lists(x)
    lists = [one if isinstance(one, list) else [one] for one in lists]
    each = node.width // sequence_of(graph, i).positions if lengths else 1
    there = [node.width if lengths is None else lengths[r] * each for r in range(len(lists))]
    lists = [row[:end] + [0] * len(row[end:]) for row, end in zip(lists, there)]
    levels = read_ids(lists, node.levels, (lambda number: level_of(number, node.levels)) if hashed else None, i, node.width, count)
    named = [row[:end] + [-1] * len(row[end:]) for row, end in zip(levels, there)]
    found = Matrix(len(lists), node.width, [float(one) for row in named for one in row])
    found.stored = [sorted(set(row[:end])) for row, end in zip(levels, there)]
    return found


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


def overwrite(vector: array, values: array) -> None:
    """Copies the values into the vector. Skips empty vectors: a slice assignment to one counts as a resize, which a view of it forbids."""
    if values:
        vector[:] = values
