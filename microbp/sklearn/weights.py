"""Weights of rows and targets: read, multiplied by those of classes; rows of weight 0 are left out."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Real
from typing import Any

import numpy as np

from ..core.text import brief
from ..data import weights
from ..data.arrays import Array, as_array
from ..data.class_weight import balanced


def read(sample_weight: Any, X: Array, y: Array) -> Array | None:
    """The weights as float64, (rows,), or (rows, columns) for targets of several columns."""
    if sample_weight is None:
        return None
    given = as_array(sample_weight, "sample_weight")
    if given.ndim == 0:
        given = np.full(len(X), given)
    columns = y.shape[1] if y.ndim == 2 else 1
    found = weights.read_weights(given, len(X), [columns], [columns == 1])
    return np.asarray(found[0] if isinstance(found, list) else found, dtype=np.float64)


def present(X: Array, y: Array, weight: Array | None) -> tuple[Array, Array, Array | None]:
    """The rows with a weight above 0: a row of weight 0 is not there."""
    if weight is None:
        return X, y, None
    there = weight != 0 if weight.ndim == 1 else weight.any(axis=1)
    if not there.any():
        raise ValueError("the weight of every row is zero (sample_weight, class_weight); give at least one row a weight above zero")
    return (X, y, weight) if there.all() else (X[there], y[there], weight[there])


def times_classes(weight: Array | None, class_weight: Any, codes: Array, classes: Array) -> Array:
    """The weights, times the weight of each row's class. codes: the index of the class of each row."""
    factors = _factors(class_weight, np.bincount(codes, weight, len(classes)), classes)[codes]
    return factors if weight is None else weight * factors


def times_labels(weight: Array | None, class_weight: Any, labels: Array) -> Array:
    """The same for several labels per row, (rows, labels) of 0 and 1, each with weights of its own: "balanced", or a list of
    {0: weight, 1: weight} for each."""
    many = class_weight if isinstance(class_weight, list) else [class_weight] * labels.shape[1]
    if len(many) != labels.shape[1]:
        raise ValueError(f"class_weight has {len(many)} entries, but y has {labels.shape[1]} labels; give one for each")
    columns = zip(many, labels.T.astype(int), strict=True)
    of_rows = None if weight is None or weight.ndim == 2 else weight
    factors = np.stack([times_classes(of_rows, one, column, np.array([0, 1])) for one, column in columns], axis=1)
    return factors * weight if weight is not None and weight.ndim == 2 else factors


def _factors(class_weight: Any, counts: Array, classes: Array) -> Array:
    """The weight of each class. counts: the sum of the weights of its rows."""
    if isinstance(class_weight, str) and class_weight == "balanced":
        return balanced(counts)
    if not isinstance(class_weight, Mapping):
        raise ValueError(f'class_weight must be "balanced", a dict {{class: weight}} or None, not {brief(class_weight)}')
    labels = classes.tolist()
    unknown = [label for label in class_weight if label not in labels]
    if unknown:
        raise ValueError(f"class_weight: {unknown[0]!r} is not one of the classes {', '.join(map(str, labels))}")
    given = [class_weight.get(label, 1.0) for label in labels]
    found = np.array([weight if isinstance(weight, Real) else np.nan for weight in given], dtype=np.float64)
    if not (np.isfinite(found) & (found >= 0)).all():
        raise ValueError(f"class_weight must have finite weights of at least 0, not {brief(class_weight)}")
    return found
