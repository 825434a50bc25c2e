"""The check of the gradients that losses of the user return."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ..data.arrays import Array
from ..data.rows import Rows
from ..training.engine.custom_loss import CustomLoss, Joint, name_of
from .patient import Patient, Sign, Unchecked, arguments, spaced

_ROWS, _ELEMENTS = 7, 64  # of outputs, whose derivatives are compared; a factor of 1 / 7 is then the number of rows, not a constant
_STEP = float(np.finfo(np.float64).eps) ** (1 / 3)  # balances the truncation and rounding errors of central differences
_SAME = 1e-3  # gradients whose errors are below this part of the largest element are the same

Function = Callable[[Array], tuple[float, Array]]  # of the values of one output: the loss, and its gradient by them


def gradient_check(p: Patient) -> Iterator[Sign]:
    """The largest error of the gradient that a loss returns, relative to its largest element, by central differences of the loss."""
    own = [(i, loss) for i, loss in enumerate(p.losses) if p.shape.counts[i] and (callable(loss) or isinstance(loss, Joint))]
    if not own:
        raise Unchecked("no loss is your own")
    rows = spaced(p.rows, _ROWS)
    x, lengths = arguments(rows)
    raw = p.net.predict(x, raw=True, lengths=lengths)
    random = np.random.default_rng(0)  # moves the outputs away from kinks, such as outputs that equal targets
    outputs = [np.asarray(one, np.float64).reshape(len(one), -1) for one in (raw if isinstance(raw, list) else [raw])]
    outputs = [one + (0.1 + one.std()) * random.normal(size=one.shape) for one in outputs]
    for i, loss in own:
        function = _joint(loss.function, rows, outputs, i) if isinstance(loss, Joint) else _single(loss, rows, i)
        yield _compared(function, outputs[i], name_of(loss))


def _single(loss: CustomLoss, rows: Rows, i: int) -> Function:
    weight = None if rows.weight is None else rows.weight_of(i)

    def function(output: Array) -> tuple[float, Array]:
        value, gradient = loss(output, rows.ys[i], weight)
        return float(value), np.asarray(gradient, np.float64)

    return function


def _joint(loss: CustomLoss, rows: Rows, outputs: list[Array], i: int) -> Function:
    targets: Any = None if all(y is None for y in rows.ys) else list(rows.ys)

    def function(output: Array) -> tuple[float, Array]:
        value, gradients = loss(
            [one.copy() for one in outputs[:i]] + [output] + [one.copy() for one in outputs[i + 1 :]], targets, rows.weight
        )
        return float(value), np.asarray(gradients[i], np.float64)

    return function


def _compared(function: Function, outputs: Array, name: str) -> Sign:
    places = np.unique(np.linspace(0, outputs.size - 1, min(outputs.size, _ELEMENTS)).astype(int))
    given = function(outputs.copy())[1].reshape(-1)[places]
    true = np.array([_difference(function, outputs, place) for place in places])
    largest = max(float(np.abs(true).max()), float(np.abs(given).max()), 1e-12)
    error = float(np.abs(true - given).max()) / largest
    factor = float(true @ given) / max(float(given @ given), 1e-300)
    if factor and np.abs(true - factor * given).max() < _SAME * np.abs(true).max():
        by = _as_code(factor, outputs)
        return Sign(error, name, f"the gradient that it returns must be multiplied by {by}", f"gradient = {by} * gradient  # in {name}")
    k = int(np.abs(true - given).argmax())
    text = f"the gradient that it returns is {given[k]:.4g} where the loss has the slope {true[k]:.4g}"
    return Sign(error, name, text, "print(trainer.check_gradients(X[:8], y[:8]))")


def _as_code(factor: float, outputs: Array) -> str:
    """The factor; one that depends on the number of rows or outputs by its formula, because the loss will get other numbers of rows."""
    counts = {"len(outputs)": len(outputs), "outputs.size": outputs.size}
    formulas = {f"{k} / {name}": k / count for k in (1, 2) for name, count in counts.items()} | counts
    near = (code for code, value in formulas.items() if len(outputs) == _ROWS and math.isclose(value, factor, rel_tol=_SAME))
    return next(near, f"{factor:.6g}")


def _difference(function: Function, outputs: Array, place: int) -> float:
    ends = []
    for sign in (1, -1):
        moved = outputs.copy()
        moved.flat[place] += sign * _STEP * max(1.0, abs(moved.flat[place]))
        ends.append((function(moved.copy())[0], moved.flat[place]))
    return float((ends[0][0] - ends[1][0]) / (ends[0][1] - ends[1][1]))
