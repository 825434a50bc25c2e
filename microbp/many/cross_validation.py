"""cross_validate: how good networks are on rows that they were not trained on."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

from ..core import backend
from ..core.checks import whole_number
from ..core.specs import Loss
from ..core.text import brief, counted
from ..data.arrays import Array, as_array
from ..network.network import seed_or_new
from ..network.predicting import Prediction
from ..settings.decisions import rule_of
from ..settings.metrics import Metrics
from ..training.measure import count_rows, measure, predictions
from ..training.trainer import Trainer
from . import workers
from .ensemble import Ensemble
from .making import copier, make
from .train_many import checked_arguments, train_each

Fold: TypeAlias = tuple[Array, Array]  # the indices of the rows to train on, and to test on


@dataclass(frozen=True, repr=False, eq=False)
class CrossValidation:
    """The result of `bp.cross_validate`.

    scores: by name, the "loss" and each metric on the test rows of each fold, an array of shape (folds,). predictions: for each row the
    prediction of the network that was not trained on it, shape (rows, outputs), a list of these for several outputs; NaN for rows that no
    fold tests, the mean for rows that several folds test. trainers: the trained trainer of each fold. folds: the indices of the rows that
    each was trained and tested on. errors: those of the folds whose training failed, by number; their scores and predictions are NaN.

    >>> X = np.linspace(-1, 1, 60).reshape(-1, 1)
    >>> found = bp.cross_validate(bp.Trainer(bp.mlp([1, 8, 1], seed=0), "mse"), X, np.sin(X), cv=3, epochs=20, metrics="mae")
    >>> sorted(found.mean), found.scores["mae"].shape, found.predictions.shape
    (['loss', 'mae'], (3,), (60, 1))
    >>> found.ensemble.predict(X).shape
    (60, 1)
    """

    scores: dict[str, Array]
    predictions: Prediction
    trainers: tuple[Trainer, ...]
    folds: tuple[Fold, ...]
    errors: dict[int, Exception] = field(default_factory=dict)

    @property
    def mean(self) -> dict[str, float]:
        """The mean of each score over the folds."""
        return {name: float(values.mean()) for name, values in self.scores.items()}

    @property
    def std(self) -> dict[str, float]:
        """The standard deviation of each score over the folds (ddof=1; NaN for one fold)."""
        return {name: float(values.std(ddof=1)) if len(values) > 1 else float("nan") for name, values in self.scores.items()}

    @property
    def ensemble(self) -> Ensemble:
        """The networks of all folds that were trained as a bp.Ensemble."""
        return Ensemble([trainer.net for i, trainer in enumerate(self.trainers) if i not in self.errors])

    def __repr__(self) -> str:
        width, mean, std = max(map(len, self.scores)), self.mean, self.std
        lines = [f"{name:{width}}  {mean[name]:.4g} +- {std[name]:.2g}" for name in self.scores]
        return "\n".join([f"CrossValidation: {counted(len(self.folds), 'fold')}", *lines])


def cross_validate(
    make_trainer: Trainer | Callable[[int], Trainer],
    X: Any,  # noqa: N803
    y: Any,
    *,
    epochs: int,
    cv: int | Iterable[tuple[Any, Any]] = 5,
    metrics: Metrics = (),
    sample_weight: Any = None,
    seed: int = 0,
    executor: Executor | None = None,
    **fit: Any,
) -> CrossValidation:
    """Cross-validation: for each fold, trains a network on the rows of the other folds, and measures it on the rows of this fold.

    make_trainer: a function that gets the number of a fold, from 0, and returns a new bp.Trainer with a network of its own; or a Trainer
    without any updates, of which each fold trains a copy. X, y, sample_weight: as in `fit`; rows in memory, which are not copied for each
    trainer.
    cv: the number of folds, at least 2 and at most the number of rows. The rows are shuffled by `seed`. Labels are stratified: of two
    folds, one has as many rows of a class as the other, or one more. Or the folds themselves, an iterable of (training rows, test rows),
    as indices: what the `split` of scikit-learn's splitters gives.
    metrics: as in `fit`, measured on the test rows, beside the loss. epochs, fit: as in `fit`, the same for all; validation=0.1 holds out a
    part of the training rows of each fold, for patience=. Other validation rows, (X, y) or an array of row indices, must not be among those
    that a fold tests. executor: as in `train_many`; the folds are trained several at a time.

    Each network has the bits of a `fit` alone on the training rows of its fold. ValueError or TypeError: an argument is invalid. If the
    training of a fold fails, its scores and predictions are NaN, its error is in `errors`, and a RuntimeWarning names it; if all fail, the
    first error is raised.

    >>> X = np.random.default_rng(0).normal(size=(90, 2))
    >>> y = (X[:, 0] > X[:, 1]).astype(int)
    >>> def new(fold):
    ...     return bp.Trainer(bp.mlp([2, 8, 2], seed=fold), loss="cross_entropy", optimizer=bp.Adam(lr=0.01))
    >>> found = bp.cross_validate(new, X, y, cv=3, epochs=30, metrics="accuracy")
    >>> found.mean["accuracy"] > 0.9, [len(test) for _, test in found.folds]
    (True, [30, 30, 30])
    """
    for name in ("rows", "checkpoint"):
        if fit.get(name) is not None:
            raise ValueError(f"cross_validate: {name} is not one of its arguments; cv= gives each trainer its rows")
    if fit.get("carry_state"):
        raise ValueError("cross_validate: carry_state needs all rows in their order, but each fold leaves out some")
    given = whole_number(cv, "cross_validate: cv", least=2) if isinstance(cv, int | np.integer) else _listed(cv)
    maker = copier("cross_validate", make_trainer) if isinstance(make_trainer, Trainer) else make_trainer
    trainers = make("cross_validate", maker, range(given if isinstance(given, int) else len(given)))
    lengths = fit.get("lengths")
    count = count_rows(trainers[0], X, y, sample_weight, lengths)
    folds = _split(given, count, _labels(trainers[0], y), seed) if isinstance(given, int) else _checked(given, count)
    _check_apart(fit.get("validation"), X, folds)
    arguments = {"epochs": epochs, "progress": False, "sample_weight": sample_weight} | checked_arguments(fit, "cross_validate")
    if fit.get("validation") is not None:
        arguments["metrics"] = metrics
    errors = train_each(trainers, [(X, y)] * len(folds), [arguments | {"rows": train} for train, _ in folds], executor)
    workers.check_some(errors, "cross_validate", "fold {}", range(len(folds)), errors, level=2)
    trained = {i: (trainer, test) for i, (trainer, (_, test)) in enumerate(zip(trainers, folds, strict=True)) if i not in errors}
    measured = {i: measure(one, X, y, sample_weight, lengths, index=test, metrics=metrics) for i, (one, test) in trained.items()}
    names = next(iter(measured.values()))
    scores = {name: np.array([measured[i][name] if i in measured else np.nan for i in range(len(folds))]) for name in names}
    return CrossValidation(scores, _out_of_fold(list(trained.values()), X, lengths, count), tuple(trainers), tuple(folds), errors)


# ---- folds ----


def _listed(cv: Any) -> list[Any]:
    if isinstance(cv, str | bytes | dict) or not hasattr(cv, "__iter__"):
        hint = "; pass its splits: cv.split(X, y)" if hasattr(cv, "split") and not isinstance(cv, str | bytes) else ""
        raise TypeError(f"cross_validate: cv must be a number of folds, or pairs (training rows, test rows), not {brief(cv)}{hint}")
    found = list(cv)
    if not found:
        raise ValueError("cross_validate: cv contains no fold; it must contain pairs (training rows, test rows)")
    return found


def _checked(folds: list[Any], count: int) -> list[Fold]:
    """Folds of the caller, as indices."""
    found: list[Fold] = []
    for i, fold in enumerate(folds):
        if not isinstance(fold, tuple | list) or len(fold) != 2:
            raise TypeError(f"cross_validate: cv[{i}] must be a pair (training rows, test rows), not {brief(fold)}")
        train, test = (_index(f"cross_validate: {part} rows of cv[{i}]", rows, count) for part, rows in zip(("training", "test"), fold))
        if np.isin(test, train).any():
            row = int(test[np.isin(test, train)][0])
            raise ValueError(f"cross_validate: cv[{i}] tests row {row}, on which it trains too")
        found.append((train, test))
    return found


def _index(what: str, rows: Any, count: int) -> Array:
    index = as_array(rows, what)
    if index.dtype == bool:
        raise ValueError(f"{what} are a mask, but must be row indices; pass np.flatnonzero(mask)")
    if index.ndim != 1 or index.dtype.kind not in "iu" or len(index) == 0 or index.min() < 0 or index.max() >= count:
        raise ValueError(f"{what} must be a 1-D array of row indices from 0 to {count - 1}, not {brief(rows)}")
    return np.ascontiguousarray(index, np.int64)


def _check_apart(validation: Any, X: Any, folds: list[Fold]) -> None:  # noqa: N803
    """ValueError if rows to validate with are rows that a fold tests: they may have chosen its epoch."""
    hint = "pass a fraction such as validation=0.1, which holds out training rows of each fold"
    for i, (_, test) in enumerate(folds):
        if isinstance(validation, np.ndarray) and np.isin(test, validation).any():
            row = int(test[np.isin(test, validation)][0])
            raise ValueError(f"cross_validate: validation contains row {row}, which fold {i} tests; {hint}")
    given = validation[0] if isinstance(validation, tuple | list) and validation else None
    if given is not None and (given is X or (isinstance(given, np.ndarray) and isinstance(X, np.ndarray) and np.shares_memory(given, X))):
        raise ValueError(f"cross_validate: validation contains rows of X, which the folds test; {hint}")


def _split(number: int, count: int, labels: Array | None, seed: int) -> list[Fold]:
    """Folds of sizes that differ by at most 1; with labels, the same is true of each label."""
    if number > count:
        raise ValueError(f"cross_validate: cv={number} needs at least {number} rows, but X has {count}")
    order = np.asarray(backend.load().permutation(seed_or_new(seed), backend.SPLIT, 0, count))
    if labels is not None:
        order = order[np.argsort(labels[order], kind="stable")]
    fold = np.empty(count, np.int64)
    fold[order] = np.arange(count) % number
    return [(np.flatnonzero(fold != i), np.flatnonzero(fold == i)) for i in range(number)]


def _labels(trainer: Trainer, y: Any) -> Array | None:
    """The labels of the rows, if the only loss decides between classes and each row has one label."""
    loss, *others = trainer.losses
    if others or not isinstance(loss, Loss) or rule_of(loss, is_raw=True) is None:
        return None
    labels = as_array(y, "y")
    return labels.reshape(-1) if labels.size == len(labels) else None


# ---- predictions ----


def _out_of_fold(
    trained: list[tuple[Trainer, Array]],
    X: Any,  # noqa: N803
    lengths: Any,
    count: int,
) -> Prediction:
    """The mean of the predictions for each row by the trainers that test it; NaN where none does."""
    net = trained[0][0].net
    outputs = net.outputs
    sums, times = [np.zeros((count, *output.grid, output.width)) for output in outputs], np.zeros(count)
    for trainer, test in trained:
        np.add.at(times, test, 1)
        for total, predicted in zip(sums, predictions(trainer, X, lengths, test), strict=True):
            np.add.at(total, test, predicted)
    with np.errstate(invalid="ignore"):
        found = [np.asarray(total / times.reshape(-1, *[1] * (total.ndim - 1)), net.dtype) for total in sums]
    return found[0] if len(found) == 1 else found
