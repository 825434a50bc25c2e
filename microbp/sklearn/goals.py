"""Goals: what a network must have and be trained with for a kind of target: its columns, its loss, and the score that early stopping
watches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..core.specs import Loss, table, unknown
from ..core.text import brief
from ..data.arrays import Array

Rows = tuple[Array, Array, Array | None]  # X, targets, weights

# scikit-learn's names of the losses of numbers, where they differ from microbp's.
_OF_NUMBERS = {"squared_error": "half_sse", "absolute_error": "mae"}


@dataclass(frozen=True)
class Goal:
    """What a network is trained for.

    columns: of the network's output. loss: of the trainer, a bp.Loss or a function. metric: the name of the score in records, of which
    higher is better; None: minus the loss. loss_weight: multiplies the loss: scikit-learn adds up the losses of several columns, where
    microbp takes the mean. activation: of the output, as `out_activation_` names it.

    What scikit-learn reports is not always what it lowers. mean_of: the columns over which it takes the mean of the loss. is_deviance: it
    adds the terms of the targets alone. is_certain: there is one class, which every prediction is.
    """

    columns: int
    loss: Any
    metric: str | None
    loss_weight: float = 1.0
    activation: str = "identity"
    mean_of: int = 1
    is_deviance: bool = False
    is_certain: bool = False

    def reported(self, loss: float, data: float) -> float:
        """The loss that scikit-learn reports, without the constant. loss: the trainer's, with penalties; data: without."""
        return loss - data * (1 - 1 / self.mean_of) if self.mean_of > 1 else loss

    def constant(self, y: Array, weight: Array | None) -> float:
        """What the reported loss has besides the trainer's: of Poisson's deviance the mean of y log(y) - y, added up over the columns."""
        if not self.is_deviance:
            return 0.0
        there = ~np.isnan(y)
        counted = there if weight is None else there * (weight if weight.ndim == 2 else weight[:, None])
        positive = np.where(there & (y > 0), y, 1.0)
        terms = np.where(there & (y > 0), positive * np.log(positive) - positive, 0.0)
        return float(((terms * counted).sum(axis=0) / np.maximum(counted.sum(axis=0), np.finfo(float).tiny)).sum())


def of_classes(loss: Any, classes: int, several: bool) -> Goal:
    """For one of `classes` classes in each row; several: for any number of them (multilabel)."""
    single = several or classes <= 2
    if isinstance(loss, str) and loss == "log_loss":
        columns = classes if several else 1 if single else classes
        if single:
            return Goal(columns, Loss("bce"), "subset_accuracy", float(columns), "logistic")
        return Goal(columns, Loss("cross_entropy"), "accuracy", activation="softmax")
    found = _parse(loss, ["log_loss", *(name for name, row in table("loss").items() if row.detail == "softmax"), "bce", "hinge"])
    if found.detail == "softmax":
        if several:
            raise ValueError(f'loss is "{found.text}", which is for one class per row, but y has several labels per row; use "bce"')
        return Goal(max(classes, 2), found, "accuracy", activation="softmax")
    if found.name not in ("bce", "hinge"):
        raise ValueError(f'loss is {brief(found.text)}, a loss of numbers; for classes it must be "log_loss", "cross_entropy", "bce", ...')
    columns = classes if several or classes > 2 else 1
    activation = "logistic" if found.name == "bce" else "identity"
    return Goal(columns, found, "subset_accuracy" if several or columns == 1 else "accuracy", activation=activation)


def of_numbers(loss: Any, targets: int, activation: str, others: tuple[str, ...] = ()) -> Goal:
    """For rows of `targets` numbers. activation: of the last layer. NaN among several targets means that one is missing. others: names of
    losses that the estimator knows besides.
    """
    if callable(loss):
        return Goal(targets, loss, "r2", activation=activation)
    known = [name for name, row in table("loss").items() if row.detail != "softmax" and name != "hinge"]
    found = _parse(_OF_NUMBERS.get(loss, loss) if isinstance(loss, str) else loss, [*_OF_NUMBERS, *others, *known])
    if found.detail == "softmax" or found.name == "hinge":
        raise ValueError(f"loss is {brief(found.text)}, a loss of classes; use MLPClassifier, or a loss of numbers such as squared_error")
    columns = targets * (2 if found.name == "gaussian_nll" else 1)
    if isinstance(found.parameters.get("q"), tuple):
        raise ValueError(f"loss is {brief(found.text)}, which has several outputs for each target; use QuantileRegressor")
    if targets > 1:
        found = Loss(found.name, **found.parameters, missing=True)  # type: ignore[arg-type]
    deviance = isinstance(loss, str) and loss == "poisson"
    weight = float(targets) if deviance else 1.0
    mean_of = targets if isinstance(loss, str) and loss == "squared_error" else 1
    return Goal(columns, found, "r2", weight, {"exp": "exp", "sigmoid": "logistic"}.get(found.detail, activation), mean_of, deviance)


def _parse(loss: Any, known: list[str]) -> Loss:
    """A loss; the error for an unknown one lists those that the estimator knows."""
    if isinstance(loss, str) and (name := loss.partition("(")[0]) not in table("loss"):
        raise unknown("loss", name, known)
    return Loss.parse(loss)
