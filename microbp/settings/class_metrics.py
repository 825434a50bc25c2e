"""Metrics of classes: of the labels that outputs decide on, and of probabilities.

Each function reads its arguments into a `Case` (decisions.py) and calls the function `..._of` a case, which fit calls with raw outputs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..core.checks import whole_number
from ..core.specs import Loss, LossName
from ..data.arrays import Array, as_array
from .decisions import NO_LABEL, Case, read


def _case(what: str, y: Any, outputs: Any, sample_weight: Any, loss: LossName | Loss | None) -> Case:
    case = read(y, outputs, sample_weight, None if loss is None else Loss.parse(loss))
    if case.rule.low and what in ("log_loss", "brier"):
        raise ValueError(f'{what} needs probabilities and targets from 0 to 1, not those of hinge; use the loss "cross_entropy" or "bce"')
    return case


# ---- labels ----


def accuracy(y: Any, outputs: Any, sample_weight: Any = None, loss: LossName | Loss | None = None) -> float:
    """The fraction of labels that are right, from 0 to 1; `metrics="accuracy"` in fit.

    For several columns with labels of their own, it is the mean over the columns; bp.subset_accuracy wants all of them right.

    outputs: predictions as `predict` gives them, (rows, columns), or (rows,) for one column. y: labels, (rows,), or targets in the shape of
    outputs. sample_weight: (rows,), by default all 1; rows of weight 0 are not read.
    loss: its decision rule. "cross_entropy": the class is the column with the largest output. "bce": each column by itself, 1 for a
    probability above 1/2, else 0. "hinge": each column by itself, 1 for an output above 0, else -1. None: a rule that suits y. For
    outputs with 2 or more columns: classes, if y has one label per row, or if each row of y sums to 1. Otherwise each column by itself,
    with the rule of "bce", or that of "hinge" if y has negative values; if it may happen to have none, pass loss="hinge".
    NaN is never right. ValueError: the shapes of y and outputs do not match. scikit-learn: accuracy_score.

    >>> bp.accuracy([0, 1, 1], [[0.9, 0.1], [0.2, 0.8], [0.7, 0.3]])
    0.6666666666666666
    >>> bp.accuracy([0, 1, 1, 0], [0.2, 0.9, 0.6, 0.1])
    1.0
    """
    return accuracy_of(_case("accuracy", y, outputs, sample_weight, loss))


def accuracy_of(case: Case) -> float:
    """See accuracy."""
    return case.mean_of_columns(case.hits)


def subset_accuracy(y: Any, outputs: Any, sample_weight: Any = None, loss: LossName | Loss | None = None) -> float:
    """The fraction of rows whose labels are all right, from 0 to 1; `metrics="subset_accuracy"` in fit.

    For classes and for one column it equals the accuracy. Arguments and errors: as in bp.accuracy. scikit-learn: accuracy_score of a
    matrix of 0 and 1.

    >>> bp.subset_accuracy([[1, 1, 0], [0, 1, 1]], [[0.9, 0.8, 0.1], [0.2, 0.9, 0.3]])
    0.5
    """
    return subset_accuracy_of(_case("subset_accuracy", y, outputs, sample_weight, loss))


def subset_accuracy_of(case: Case) -> float:
    """See subset_accuracy."""
    hits = case.hits if case.weight is None or case.weight.ndim == 1 else case.hits | (case.weight == 0)
    return case.mean(np.asarray(hits.all(axis=1)))


def balanced_accuracy(y: Any, outputs: Any, sample_weight: Any = None, loss: LossName | Loss | None = None) -> float:
    """The mean over the classes in y of the fraction of their rows that are right; `metrics="balanced_accuracy"` in fit.

    Frequent and rare classes count alike. For several columns with labels of their own, the mean over the columns. Arguments and errors: as
    in bp.accuracy. scikit-learn: balanced_accuracy_score.

    >>> bp.balanced_accuracy([0, 0, 0, 1], [0.1, 0.2, 0.3, 0.4])
    0.5
    """
    return balanced_accuracy_of(_case("balanced_accuracy", y, outputs, sample_weight, loss))


def balanced_accuracy_of(case: Case) -> float:
    """See balanced_accuracy."""
    scores = []
    for column in range(case.true.shape[1]):
        right, real, _ = _sums(case, column)
        scores.append((right[real > 0] / real[real > 0]).mean() if real.any() else np.nan)
    return float(np.mean(scores))


def f1(y: Any, outputs: Any, sample_weight: Any = None, loss: LossName | Loss | None = None) -> float:
    """2 x right / (rows of the class + rows decided to be of the class), from 0 to 1; `metrics="f1"` in fit.

    For one column, that of label 1; 0 if label 1 occurs neither in y nor in the outputs' labels. For several columns with labels of their
    own, the mean over the columns. For classes, two as well as more, the mean over the classes that occur in y or in the outputs' labels.
    Arguments and errors: as in bp.accuracy. scikit-learn: f1_score, with average="macro" for classes and for several columns.

    >>> bp.f1([0, 0, 1, 1], [0.2, 0.7, 0.6, 0.9])
    0.8
    """
    return f1_of(_case("f1", y, outputs, sample_weight, loss))


def f1_of(case: Case) -> float:
    """See f1."""
    scores = []
    for column in range(case.true.shape[1]):
        right, real, found = _sums(case, column)
        both = real + found
        if case.rule.is_classes:
            scores.append((2 * right[both > 0] / both[both > 0]).mean() if both.any() else np.nan)
        else:
            scores.append(2 * right[1] / both[1] if both[1] else 0.0)
    return float(np.mean(scores))


def _sums(case: Case, column: int) -> tuple[Array, Array, Array]:
    """For each label, the sums of the weights of three sets of rows: of the label and right; of the label; decided to be of the label."""
    weight = case.weight_of(column)
    count = case.outputs.shape[1] if case.rule.is_classes else 2

    def sums(labels: Array, rows: Array) -> Array:
        return np.bincount(labels[rows], weights=weight[rows], minlength=count)

    true, decided = case.true[:, column], case.decided[:, column]
    return sums(true, case.hits[:, column]), sums(true, true != NO_LABEL), sums(decided, decided != NO_LABEL)


def top_k(k: int) -> Callable[..., float]:
    """Returns a metric: the fraction of rows whose class is among the k largest outputs. `metrics="top_3"` in fit means `top_k(3)`.

    k: a whole number of at least 1.
    The metric accepts outputs of shape (rows, classes) with 2 or more classes, y: labels of shape (rows,), or probabilities of shape
    (rows, classes), where the largest is the class, and sample_weight and loss as in bp.accuracy. Among equal outputs the last counts as
    the largest, as in scikit-learn's top_k_accuracy_score. NaN counts as largest, and is never right.

    >>> bp.top_k(2)([0, 1], [[0.3, 0.1, 0.6], [0.5, 0.1, 0.4]])
    0.5
    """
    count = whole_number(k, "top_k: k")

    def metric(y: Any, outputs: Any, sample_weight: Any = None, loss: LossName | Loss | None = None) -> float:
        y, outputs = as_array(y, "y"), as_array(outputs, "outputs")
        known = Loss.parse(loss or "cross_entropy")
        if known.detail != "softmax":
            raise ValueError(f'top_{count} needs classes; the loss must be "cross_entropy", not {known.text}')
        if outputs.ndim != 2 or outputs.shape[1] < 2 or y.shape[:1] != outputs.shape[:1]:
            shapes = f"y has shape {y.shape} and outputs have shape {outputs.shape}"
            swapped = "; they may be swapped" if y.ndim == 2 and y.shape[1] > 1 and y.shape[:1] == outputs.shape[:1] else ""
            raise ValueError(f"{shapes}; they must have the same number of rows, and outputs at least 2 columns{swapped}")
        return top_k_of(read(y, outputs, sample_weight, known), count)

    metric.__name__ = f"top_{count}"
    return metric


def top_k_of(case: Case, k: int) -> float:
    """See top_k."""
    outputs, labels = case.outputs, case.true
    own = np.take_along_axis(outputs, labels, axis=1)
    behind = (outputs < own) | ((outputs == own) & (np.arange(outputs.shape[1]) <= labels))  # False for NaN
    return case.mean((outputs.shape[1] - behind.sum(axis=1) < k) & ~np.isnan(own[:, 0]) & (labels[:, 0] != NO_LABEL))


# ---- probabilities and their order ----


def auc(y: Any, outputs: Any, sample_weight: Any = None, loss: LossName | Loss | None = None) -> float:
    """The area under the ROC curve, from 0 to 1; `metrics="auc"` in fit.

    It is how often a row of label 1 has a larger output than a row of label 0; equal outputs count half. For several columns with labels
    of their own, the mean over the columns. For classes, the mean over the classes of the area of "this class" against all others, by its
    probability; for two classes, the area of class 1. NaN if a class or a label does not occur in y, or if an output is NaN. Arguments
    and errors: as in bp.accuracy. scikit-learn: roc_auc_score, with multi_class="ovr" for classes.

    >>> bp.auc([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8])
    0.75
    """
    return auc_of(_case("auc", y, outputs, sample_weight, loss))


def auc_of(case: Case) -> float:
    """See auc."""
    if not case.rule.is_classes:
        columns = enumerate(zip(case.true.T, case.outputs.T, strict=True))
        return float(np.mean([_area(true, output, case.weight_of(column)) for column, (true, output) in columns]))
    weight = case.weight_of(0)
    true, chances = case.true[:, 0], case.chances
    labels = [1] if chances.shape[1] == 2 else range(chances.shape[1])
    return float(np.mean([_area(np.where(true == NO_LABEL, true, true == label), chances[:, label], weight) for label in labels]))


def _area(true: Array, output: Array, weight: Array) -> float:
    """The area for one column. true: 0, 1 or NO_LABEL."""
    true, output, weight = true[weight > 0], output[weight > 0], weight[weight > 0]
    if np.isnan(output).any() or (true == NO_LABEL).any():
        return float("nan")
    values, place = np.unique(output, return_inverse=True)
    ones = np.bincount(place, weights=weight * true, minlength=len(values))
    zeros = np.bincount(place, weights=weight * (1 - true), minlength=len(values))
    pairs = ones.sum() * zeros.sum()
    return float(ones @ (np.cumsum(zeros) - zeros / 2) / pairs) if pairs else float("nan")


def log_loss(y: Any, outputs: Any, sample_weight: Any = None, loss: LossName | Loss | None = None) -> float:
    """The mean of -log(probability of what is true), at least 0; `metrics="log_loss"` in fit.

    For classes: of the row's class. For one column: of its label, 0 or 1. For several columns with labels of their own, the mean over the
    columns. outputs are probabilities, clipped to [eps, 1 - eps] with the eps of their dtype; y may contain probabilities too. Other
    arguments and errors: as in bp.accuracy; hinge gives no probabilities. scikit-learn: log_loss, of each column.

    >>> round(bp.log_loss([0, 1], [[0.9, 0.1], [0.5, 0.5]]), 3)
    0.399
    """
    return log_loss_of(_case("log_loss", y, outputs, sample_weight, loss))


def log_loss_of(case: Case) -> float:
    """See log_loss."""
    is_float = case.outputs.dtype.kind == "f" and case.activation == "identity"
    eps = np.finfo(case.outputs.dtype if is_float else np.float64).eps
    chances, targets = np.clip(case.chances, eps, 1 - eps), case.targets
    if case.rule.is_classes:
        return case.mean(-(targets * np.log(chances)).sum(axis=1))
    return case.mean_of_columns(-(targets * np.log(chances) + (1 - targets) * np.log(1 - chances)))


def brier(y: Any, outputs: Any, sample_weight: Any = None, loss: LossName | Loss | None = None) -> float:
    """The mean squared difference of probability and target, at least 0; `metrics="brier"` in fit.

    For several columns with labels of their own, the mean over the columns. For two classes, that of class 1, from 0 to 1; for more, the
    sum over the classes, from 0 to 2. outputs are probabilities. Other arguments and errors: as in bp.accuracy; hinge gives no
    probabilities. scikit-learn: brier_score_loss.

    >>> round(bp.brier([0, 1], [0.1, 0.8]), 3)
    0.025
    """
    return brier_of(_case("brier", y, outputs, sample_weight, loss))


def brier_of(case: Case) -> float:
    """See brier."""
    with np.errstate(over="ignore"):
        squares = (case.chances - case.targets) ** 2
    if not case.rule.is_classes:
        return case.mean_of_columns(squares)
    return case.mean(squares.sum(axis=1) / (2 if squares.shape[1] == 2 else 1))
