"""Finds what is wrong with rows that a backend refuses, with the caller's row numbers. Called only after an error."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..core.specs import Loss
from .arrays import Array
from .rows import Rows, Shape
from .sparse import SparseRows

# The messages of both backends for targets: a label that is not a class, or a value that the loss does not accept.
_REFUSED = re.compile(r"target (\d+), row \d+(?:, position \d+)?(?:: label|, column \d+ is \S+, but (\w+) needs values in (\S+(?: 1})?))")


def not_finite(
    rows: Rows, order: Array | None, dtype: np.dtype[np.generic], loss_weights: Sequence[float], losses: Sequence[Any]
) -> str | None:
    """Where the inputs, else the targets, are not finite in the network's dtype. Skips rows of weight 0, and the targets of outputs whose
    loss weight is 0. order: the rows to search; None: all rows."""
    of_each = zip([1.0] * len(rows.xs) + list(loss_weights), [None] * len(rows.xs) + list(losses), strict=True)
    for (what, array), (counts, loss) in zip(rows.named(), of_each, strict=True):
        if not counts or array is None:
            continue
        if isinstance(array, SparseRows):
            array = _spoiled(array, dtype)
        with np.errstate(over="ignore"):
            found = _first(rows, order, array, ~np.isfinite(array.astype(dtype)) & _counted(rows, array))
        if found is not None:
            value, place = found
            name = "NaN" if value != value else f"{value:g}"  # only NaN is not equal to itself
            limit = f", too large for {dtype}" if np.isfinite(value) else ""
            where = f"row {place[0]}" + (f", column {place[1]}" if array.ndim == 2 and array.shape[1] > 1 else "")
            is_gap = name == "NaN" and isinstance(loss, Loss)
            advice = f"; if NaN means that there is no target, use {_with_gaps(loss)}" if is_gap else ""
            return f"{what} contains {name}{limit}, first at {where}{advice}"
    return None


def _spoiled(rows: SparseRows, dtype: np.dtype[np.generic]) -> Array:
    """An array that is as finite as the rows: only the columns of values that are not."""
    with np.errstate(over="ignore"):
        wrong = ~np.isfinite(rows.data.astype(dtype))
    last = int(rows.indices[wrong].max(initial=0))
    found = np.zeros((len(rows), last + 1 if wrong.any() else 1))
    found[rows.row_of_each()[wrong], rows.indices[wrong]] = rows.data[wrong]
    return found


def _with_gaps(loss: Loss) -> str:
    """The loss, with its parameters, that takes NaN as no target, as Python code."""
    return f'bp.Loss("{loss.name}", {"".join(f"{key}={value!r}, " for key, value in loss.parameters.items())}missing=True)'


def bad_tensor(tensors: Mapping[str, Array]) -> str | None:
    """Which tensor of a network is not finite, and what to do; None: all are finite."""
    for name, tensor in tensors.items():
        if not np.isfinite(tensor).all():
            return f"net.tensors[{name!r}] contains NaN or infinity already: set other values, load a file, or call net.init()"
    return None


def refused_target(message: str, rows: Rows, order: Array | None, shape: Shape, losses: Sequence[Any]) -> str | None:
    """The first target that a backend refuses with this message, and what to do; None: the message is about something else. losses: those
    of the outputs."""
    match = _REFUSED.search(message)
    if match is None:
        return None
    output, loss, valid = int(match[1]), match[2], match[3]
    what, y = rows.named()[len(rows.xs) + output]
    width = shape.targets[output] // shape.positions(output)
    wrong = (y < 0) | (y >= width) if loss is None else _outside(y, valid)
    found = _first(rows, order, y, wrong & _counted(rows, y))
    if found is None:
        return None
    value, place = found
    at = f"{what}[{', '.join(map(str, place[:1] if y.size == len(y) else place))}] is {value if isinstance(value, int) else f'{value:.6g}'}"
    if loss is not None:
        two_classes = _two_classes(what, y[rows.active()], loss)
        return f"{at}, but {loss} needs {'-1 or 1' if loss == 'hinge' else f'values in {valid}'}{two_classes}"
    classes = len(np.unique(y[rows.active()]))
    gap = f"if -1 means that the row has no label, use {_with_gaps(losses[output])}" if value == -1 else ""
    if classes <= width:
        advice = [gap, f"for other labels, use classes, {what} = np.unique({what}, return_inverse=True)"]
    elif value < 0:
        advice = ["for a row without a label, use a sample_weight of 0", gap]
    else:
        advice = [f"{what} has {classes} classes, so it needs {classes} outputs"]
    return f"{at}, but with {width} outputs labels must be {_labels(width)}; {'; '.join(filter(None, advice))}"


def _two_classes(what: str, y: Array, loss: str) -> str:
    """Advice for a loss with two classes, if the targets are two other values."""
    values = np.unique(y)
    if loss == "hinge" and np.isin(values, (0, 1)).all():
        return f": use 2*{what} - 1"
    return f": use ({what} == {values[1].item():g})" if loss == "bce" and len(values) == 2 else ""


def _labels(width: int) -> str:
    return "0 or 1" if width == 2 else f"0 to {width - 1}"


def _outside(y: Array, valid: str) -> Array:
    """Whether values are infinite, outside an interval with closed finite ends, such as [0,inf), or not one of {-1, 1}. False for NaN."""
    low, high = map(float, valid[1:-1].split(","))
    wrong = (y < low) | (y > high) | np.isinf(y)
    return np.asarray(wrong | (abs(y) < 1) if valid[0] == "{" else wrong)


def _counted(rows: Rows, array: Array) -> Array | bool:
    """Which elements of an array of targets have a weight above 0; inputs have none of their own."""
    weight = next((rows.weight_of(i) for i, y in enumerate(rows.ys) if y is array), None)
    if weight is None or array.ndim < weight.ndim:
        return True
    there = np.asarray(weight > 0)
    if there.ndim == array.ndim == 2:
        return there.repeat(array.shape[1] // there.shape[1], axis=1)  # of several positions one for all their columns
    return there if there.ndim == array.ndim else there.reshape(-1, *[1] * (array.ndim - 1))


def _first(rows: Rows, order: Array | None, array: Array, wrong: Array) -> tuple[float, tuple[int, ...]] | None:
    """The first element where `wrong` is true, and its place, with the caller's row number."""
    chosen = rows.active() if order is None else np.intersect1d(order, rows.active())
    places = np.argwhere(wrong[chosen])
    if len(places) == 0:
        return None
    row, *rest = map(int, places[0])
    row = int(chosen[row])
    return array[row, *rest].item(), (row if rows.numbers is None else int(rows.numbers[row]), *rest)
