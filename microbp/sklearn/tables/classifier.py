"""TableClassifier."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Real
from typing import Any, Literal, Self

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.utils import column_or_1d, compute_sample_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, check_is_fitted

from ...core.text import brief
from ...data.arrays import Array
from ...network.layers import Activation
from ...settings.optimizers import Optimizer
from ...settings.schedules import Schedule
from .estimator import TableEstimator, known, labels


class TableClassifier(ClassifierMixin, TableEstimator):  # type: ignore[misc]
    """A classifier for tables with numbers, categories, dates and missing values, which it encodes itself: `bp.fit_table` for scikit-learn.

    All rows of `fit` are training rows; a part of them chooses the best epoch. X: a data frame of pandas or polars with any columns, or a
    2-D array, shape (rows, columns), of numbers or of objects. y: the class of each row, shape (rows,), of any type.

    keep, missing, validation, split, budget, ensemble, net, activation, dropout, optimizer, lr, decay, schedule, epochs, batch, patience:
    as in `bp.fit_table`. By default budget="normal" trains for at least 3 seconds of a processor core; "fast" takes 1, "best" 20.
    class_weight: "balanced" makes all classes count alike; a dict has the factor of each class. random_state: a whole number is the seed
    of the split, of the initial weights and of the order of rows. n_threads: the maximum number; None: the number of processors.
    verbose: show the progress on stderr.

    Attributes after `fit`: classes_, n_features_in_, feature_names_in_ (of a data frame with names of text), model_: the bp.TableModel,
    whose classes are places in classes_; left_out_: why columns are not used, by name: a constant, row numbers, an id, other texts in each
    row. Row numbers and ids are used if `keep` names them.

    Repeated or removed rows change the split, so that a row of weight 2 is not exactly the same as two rows.

    >>> from microbp.sklearn import TableClassifier
    >>> X = np.array([[size, colour] for size in range(20) for colour in ["red", "blue", None]], dtype=object)
    >>> y = np.where(X[:, 1] == "red", "stop", "go")
    >>> model = TableClassifier(budget="fast", epochs=20, random_state=0).fit(X, y)
    >>> model.predict([[3, "red"], [3, None]])
    array(['stop', 'go'], dtype='<U4')
    >>> model.predict_proba(X).shape
    (60, 2)
    """

    _only = "has only one class"

    def __init__(
        self,
        *,
        budget: Literal["fast", "normal", "best"] = "normal",
        ensemble: int | None = None,
        net: str | Sequence[int | None] | None = None,
        activation: str | Activation = "gelu",
        dropout: float | None = None,
        class_weight: str | dict[Any, float] | None = None,
        optimizer: str | Optimizer = "adam",
        lr: float | Literal["auto"] | None = None,
        decay: float | None = None,
        schedule: str | Schedule | None = None,
        epochs: int | None = None,
        batch: int | None = None,
        patience: int | None = None,
        validation: float = 0.1,
        split: str = "random",
        keep: Sequence[str] = (),
        missing: Sequence[str] = (),
        random_state: Any = None,
        n_threads: int | None = None,
        verbose: bool = False,
    ) -> None:
        self.budget = budget
        self.ensemble = ensemble
        self.net = net
        self.activation = activation
        self.dropout = dropout
        self.class_weight = class_weight
        self.optimizer = optimizer
        self.lr = lr
        self.decay = decay
        self.schedule = schedule
        self.epochs = epochs
        self.batch = batch
        self.patience = patience
        self.validation = validation
        self.split = split
        self.keep = keep
        self.missing = missing
        self.random_state = random_state
        self.n_threads = n_threads
        self.verbose = verbose

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Trains on all rows. sample_weight: of the rows, at least 0; a row of weight 0 is left out.

        ValueError or TypeError: X, y or a parameter is invalid, or only one class has rows. FloatingPointError: use a lower lr.
        """
        y = column_or_1d(labels(known(y)), warn=True)
        check_classification_targets(y)
        classes, codes = np.unique(y, return_inverse=True)
        given = self.class_weight
        if isinstance(given, dict):
            if not all(isinstance(weight, Real) and 0 <= weight < math.inf for weight in given.values()):
                raise ValueError(f"TableClassifier: class_weight must have finite weights of at least 0, not {brief(given)}")
            unknown = [label for label in given if label not in classes.tolist()]
            if unknown:
                raise ValueError(f"TableClassifier: class_weight: {unknown[0]!r} is not one of the classes {brief(classes.tolist())}")
            sample_weight = _check_sample_weight(sample_weight, y) * compute_sample_weight(given, y)
            given = None
        elif not (given is None or (isinstance(given, str) and given == "balanced")):
            has = f'class_weight must be "balanced", a dict {{class: weight}} or None, not {brief(given)}'
            raise ValueError(f"TableClassifier: {has}")
        self._fit(X, codes, sample_weight, "cross_entropy", given, shown=y)
        self.classes_ = classes
        return self

    def predict(self, X: Any) -> Array:
        """The class of each row, shape (rows,)."""
        outputs = self.predict_proba(X)
        return np.asarray(self.classes_[outputs.argmax(axis=1)])

    def predict_proba(self, X: Any) -> Array:
        """The probability of each class, shape (rows, classes), in the order of classes_. A class whose rows all have weight 0 has 0."""
        check_is_fitted(self)
        with self._telling():
            found = self.model_.predict_proba(self._named(X, reset=False))
        if len(self.model_.classes) == len(self.classes_):
            return found
        every = np.zeros((len(found), len(self.classes_)), found.dtype)
        every[:, list(self.model_.classes)] = found
        return every
