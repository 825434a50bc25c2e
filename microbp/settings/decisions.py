"""How targets and outputs become labels: the decision rule of a loss. And the sample weights of metrics.

A row of weight 0 is left out before anything else is read. A NaN has no label, so it is never right.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from ..core.specs import Loss
from ..data.arrays import Array, as_array
from ..data.weights import read_elements, read_weight

NO_LABEL = -1  # of NaN; labels are 0, 1, ...


class Rule(NamedTuple):
    """A decision rule. For classes, the label of a row is the column with the largest output. Else each column has labels of its own: 1 for
    an output above `cut`, 0 for others; targets have a cut of their own."""

    is_classes: bool
    cut: float = 0.5
    target_cut: float = 0.5
    low: int = 0  # what users write for the label 0: -1 for hinge


def rule_of(loss: Loss, is_raw: bool) -> Rule | None:
    """The rule of a loss, for raw outputs or for predictions; None if the loss does not decide between classes."""
    if loss.detail == "softmax":
        return Rule(True)
    if loss.detail == "sigmoid":
        return Rule(False, 0.0 if is_raw else 0.5)
    return Rule(False, 0.0, 0.0, -1) if loss.name == "hinge" else None


def _guess(y: Array, outputs: Array) -> Rule:
    """The rule that suits the targets, where the loss is not known."""
    if outputs.shape[1] > 1 and (y.size == len(y) or bool((np.abs(y.sum(axis=1) - 1.0) < 1e-3).all())):
        return Rule(True)
    return Rule(False, 0.0, 0.0, -1) if (y < 0).any() else Rule(False)


def activated(raw: Array, activation: str) -> Array:
    """The predictions in float64, for raw outputs and an output activation."""
    raw = raw.astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        if activation == "softmax":
            raw = np.exp(raw - raw.max(axis=1, keepdims=True))
            return np.asarray(raw / raw.sum(axis=1, keepdims=True))
        if activation == "sigmoid":
            small = np.exp(-np.abs(raw))
            return np.where(raw >= 0, 1.0, small) / (1.0 + small)
        return np.exp(raw) if activation == "exp" else raw


# ---- reading ----


@dataclass(frozen=True)
class Case:
    """Targets and outputs of classes, without rows of weight 0. weight: (rows,), all above 0; or of the columns, (rows, columns), 0 for a
    target that does not count; or None."""

    rule: Rule
    y: Array  # labels, (rows,) or (rows, 1), or a column for each output
    outputs: Array  # (rows, columns)
    weight: Array | None
    activation: str  # to apply to the outputs to get probabilities: that of the loss for raw outputs, else "identity"

    @cached_property
    def true(self) -> Array:
        """The targets' labels, (rows, 1) for classes, else (rows, columns)."""
        if not self.rule.is_classes:
            y = self.y.reshape(self.outputs.shape)
            return np.where(np.isnan(y), NO_LABEL, y > self.rule.target_cut)
        classes, y = self.outputs.shape[1], self.y
        if self._has_probabilities:
            return np.where(np.isnan(y).any(axis=1), NO_LABEL, y.argmax(axis=1))[:, None]
        y = y.reshape(-1, 1)
        is_whole = y.dtype.kind in "biu" or bool((y == np.floor(y)).all())
        if not (is_whole and y.min() >= 0 and y.max() < classes):
            raise ValueError(f"y must have one label per row, from 0 to {classes - 1}")
        return y.astype(np.int64)

    @property
    def _has_probabilities(self) -> bool:
        """Whether targets of classes are a column per class, not labels."""
        return self.y.shape == self.outputs.shape and (self.y.shape[1] > 1 or self.y.dtype.kind == "f")

    @cached_property
    def decided(self) -> Array:
        """The outputs' labels, in the shape of `true`."""
        empty = np.isnan(self.outputs)
        if self.rule.is_classes:
            return np.where(empty.any(axis=1), NO_LABEL, self.outputs.argmax(axis=1))[:, None]
        return np.where(empty, NO_LABEL, self.outputs > self.rule.cut)

    @property
    def hits(self) -> Array:
        """Which labels are right."""
        return np.asarray((self.true == self.decided) & (self.decided != NO_LABEL))

    @cached_property
    def targets(self) -> Array:
        """The targets' probabilities in float64, (rows, columns): 1 for a label, 0 for others."""
        is_label = self.rule.is_classes and not self._has_probabilities
        targets = self.true == np.arange(self.outputs.shape[1]) if is_label else self.y.reshape(self.outputs.shape)
        return np.asarray(targets, dtype=np.float64)

    @cached_property
    def chances(self) -> Array:
        """The outputs' probabilities in float64, (rows, columns)."""
        return activated(self.outputs, self.activation)

    def mean(self, values: Array) -> float:
        """The weighted mean of one value per row."""
        weight = self.weight.mean(axis=1) if self.weight is not None and self.weight.ndim == 2 else self.weight
        return float(np.average(values, weights=weight))

    def mean_of_columns(self, values: Array) -> float:
        """The weighted mean of one value per column, (rows, columns)."""
        if self.weight is None or self.weight.ndim == 1:
            return self.mean(values.mean(axis=1))
        return float(np.average(np.where(self.weight > 0, values, 0.0), weights=self.weight))

    def weight_of(self, column: int) -> Array:
        """The weights of a column."""
        if self.weight is None:
            return np.ones(len(self.true))
        return self.weight if self.weight.ndim == 1 else self.weight[:, column]

    def written(self, labels: Array) -> Array:
        """Labels as users write them: hinge has -1 and 1, and 0 for NaN. One column becomes (rows,)."""
        if self.rule.low:
            labels = np.where(labels == NO_LABEL, 0, 2 * labels - 1)
        return labels[:, 0] if labels.shape[1] == 1 else labels


def read(y: Any, outputs: Any, sample_weight: Any = None, loss: Loss | None = None, is_raw: bool = False) -> Case:
    """Targets and outputs, checked, without rows of weight 0. loss: None to guess its rule from the targets.

    ValueError: the shapes do not match, or the loss has no rule.
    """
    y, outputs = as_array(y, "y"), as_array(outputs, "outputs")
    columns = outputs.reshape(-1, 1) if outputs.ndim == 1 else outputs
    rule = None if loss is None else rule_of(loss, is_raw)
    if loss is not None and rule is None:
        raise ValueError(f'the loss {loss.text} does not decide between classes; use "cross_entropy", "bce" or "hinge"')
    has_classes = columns.ndim == 2 and columns.shape[1] > 1 and (rule is None or rule.is_classes)
    if not has_classes or y.ndim not in (1, 2) or y.size != len(y):
        check_shapes(y, outputs)
    elif len(y) != len(outputs):
        raise ValueError(f"y and outputs must have the same number of rows, but have shapes {y.shape} and {outputs.shape}")
    y, columns, weight = present(sample_weight, y, columns)
    return Case(rule or _guess(y, columns), y, columns, weight, loss.detail if is_raw and loss is not None else "identity")


def check_shapes(y: Array, outputs: Array) -> None:
    """Raises ValueError if the shapes differ, where (rows,) counts as (rows, 1). Broadcasting would give wrong results."""
    shapes = [(*array.shape, 1) if array.ndim == 1 else array.shape for array in (y, outputs)]
    if shapes[0] != shapes[1] or len(shapes[0]) != 2:
        swapped = "; y and outputs may be swapped" if shapes[0][1:] > (1,) == shapes[1][1:] else ""
        wrong = f"y and outputs must have equal shapes, not {y.shape} and {outputs.shape}"
        if outputs.ndim > 2:
            wrong = f"y and outputs must be (rows,) or (rows, columns), not {y.shape} and {outputs.shape}"
            swapped = f"; for a row for each position, pass outputs.reshape(-1, {outputs.shape[-1]}), and y likewise"
        raise ValueError(wrong + swapped)


def present(sample_weight: Any, y: Array, outputs: Array) -> tuple[Array, Array, Array | None]:
    """The rows with a weight above 0, and their weights, of which the largest is scaled to [1/2, 1); ValueError if there are none.
    sample_weight: (rows,), or (rows, columns) for outputs of several columns with targets of their own."""
    if len(y) == 0:
        raise ValueError(f"y has no rows: its shape is {y.shape}")
    if sample_weight is None:
        return y, outputs, None
    is_each = np.ndim(sample_weight) == 2 and outputs.ndim == 2 and outputs.shape == y.shape and outputs.shape[1] > 1
    weight = read_elements(sample_weight, y.shape, "y") if is_each else read_weight(sample_weight, len(y), "y")
    weight = weight.astype(np.float64)
    there = weight.any(axis=1) if is_each else weight > 0
    weight = np.ldexp(weight, -np.frexp(weight.max())[1])  # exact, and then sums and products of weights stay in range
    return (y, outputs, weight) if there.all() else (y[there], outputs[there], weight[there])
