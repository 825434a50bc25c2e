"""Class weights: a factor for the weight of each row, depending on its class."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from numbers import Real
from typing import Any

import numpy as np

from ..core.specs import Loss
from ..core.text import brief
from .arrays import Array, as_array
from .by_output import listed
from .rows import Rows

ClassWeight = str | Mapping[Any, float] | Any  # "balanced", label -> weight, or an array with one weight per class


Sum = Callable[[Any], Array]  # of numbers of these rows, the sums over the rows of all processes


def weighted(rows: Rows, trained: Array, class_weight: ClassWeight, classes: Array, total: Sum = np.asarray) -> Rows:
    """The rows, with each weight multiplied by the weight of the row's class. trained: indices of the training rows; all other rows get
    weight 0."""
    return replace(rows, weight=_of_output(rows, 0, trained, class_weight, classes, total))


def weighted_outputs(
    rows: Rows, trained: Array, class_weight: Any, losses: list[Any], widths: tuple[int, ...], names: tuple[str, ...], total: Sum
) -> Rows:
    """The same for several outputs. class_weight: a dict by output, or a list of one for each; None for an output without."""
    of_output = class_weight
    if isinstance(class_weight, Mapping):
        if any(isinstance(one, Real) for one in class_weight.values()):
            example = f"such as {{{names[0]!r}: {{0: 1.0, 1: 5.0}}}}"
            raise ValueError(f"class_weight must have weights of labels for an output, {example}, not {brief(class_weight)}")
        of_output = listed(class_weight, names, "class_weight", None)
    if not isinstance(of_output, list | tuple) or len(of_output) != len(losses):
        example = f"a dict by output, such as {{{names[0]!r}: {class_weight if isinstance(class_weight, str) else 'balanced'!r}}}"
        raise ValueError(
            f"class_weight must be {example}, or a list of {len(losses)}, one per output (None: no class weights), "
            f"not {brief(class_weight)}"
        )
    weights: list[Array | None] = []
    for i, (one, loss, width) in enumerate(zip(of_output, losses, widths, strict=True)):
        try:
            classes = None if one is None else classes_of(loss, width)
            weights.append(_of_output(rows, i, trained, one, classes, total))
        except ValueError as error:
            raise ValueError(f"output {names[i]!r}: {error}") from error
    return replace(rows, weight=weights)


def _of_output(rows: Rows, i: int, trained: Array, class_weight: ClassWeight, classes: Array | None, total: Sum) -> Array:
    """The weights of output i, times those of the classes if there are any; 0 for rows that are not trained."""
    given = rows.weight_of(i)
    weight = np.zeros(rows.count)
    if classes is None:
        weight[trained] = 1.0
    else:
        if rows.ys[i].size != rows.count:
            advice = "for a label at each position, pass a sample_weight of this shape instead"
            raise ValueError(f"class_weight needs one label per row, but y has shape {rows.ys[i].shape}; {advice}")
        there = trained if given is None else trained[given[trained] > 0]
        index = _index(rows.ys[i], there, classes)
        weight[there] = _by_class(class_weight, index, classes, None if given is None else given[there], total)[index]
    if given is not None:
        with np.errstate(over="ignore"):
            weight = weight * given if given.ndim == 1 else weight[:, None] * given
    if not np.isfinite(weight).all():
        raise ValueError("class_weight times sample_weight is too large for a float64; use smaller weights")
    if classes is not None and not total([weight.any()])[0]:
        raise ValueError("class_weight gives every training row a weight of 0; give a positive weight to a class that occurs")
    return weight


def classes_of(loss: Any, width: int) -> Array:
    """The possible labels of an output with a loss, sorted; ValueError if the targets are not classes."""
    if isinstance(loss, Loss):
        if loss.detail == "softmax":
            return np.arange(width)
        if loss.name in ("bce", "hinge") and width == 1:
            return np.array([0 if loss.name == "bce" else -1, 1])
    raise ValueError('class_weight needs a classification loss: "cross_entropy", or for an output with one column "bce" or "hinge"')


def _index(y: Array, trained: Array, classes: Array) -> Array:
    """For each row of `trained`, the index of its class."""
    labels = y.reshape(-1)[trained]
    index = np.searchsorted(classes, labels).clip(max=len(classes) - 1)
    wrong = classes[index] != labels
    if wrong.any():
        row = int(wrong.argmax())
        raise ValueError(f"class_weight: row {trained[row]} of y is {labels[row]}, not one of the classes {_list(classes)}")
    return np.asarray(index)


def balanced(counts: Array) -> Array:
    """The weight of each class: rows / (classes that occur x rows of the class), as in scikit-learn. counts: the rows of each class, or the
    sum of their weights.
    """
    return np.asarray(counts.sum() / (np.count_nonzero(counts) * np.where(counts > 0, counts, 1.0)))


def _by_class(class_weight: ClassWeight, index: Array, classes: Array, weight: Array | None, total: Sum) -> Array:
    """One weight per class. "balanced": see `balanced`. weight: of the rows, None for all 1."""
    if isinstance(class_weight, str):
        if class_weight != "balanced":
            raise ValueError(f'class_weight must be "balanced", a dict or an array, not {brief(class_weight)}')
        return balanced(total(np.bincount(index, weight, len(classes)).astype(np.float64)))
    if isinstance(class_weight, Mapping):
        unknown = set(class_weight) - set(classes.tolist())
        if unknown:
            raise ValueError(f"class_weight: {unknown.pop()!r} is not one of the classes {_list(classes)}")
    given = [class_weight.get(label, 1.0) for label in classes.tolist()] if isinstance(class_weight, Mapping) else class_weight
    weights = as_array(given, "class_weight").astype(np.float64)
    if weights.shape != classes.shape or not (np.isfinite(weights) & (weights >= 0)).all():
        raise ValueError(
            f"class_weight must have one finite weight of at least 0 for each of the classes {_list(classes)}, not {brief(class_weight)}"
        )
    return weights


def _list(classes: Array) -> str:
    return ", ".join(map(str, classes)) if len(classes) <= 4 else f"{classes[0]} to {classes[-1]}"
