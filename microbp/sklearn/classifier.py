"""MLPClassifier."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, Self

import numpy as np
from scipy.sparse import csr_matrix, issparse
from sklearn.base import ClassifierMixin
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import column_or_1d, validate_data

from ..core.specs import Loss, SolverSpec, table
from ..core.text import brief
from ..data.arrays import Array
from ..exchange.scikit_learn import names_of
from ..training.trainer import Trainer
from . import goals, parameters
from . import weights as row_weights
from .base import NetEstimator, dtypes_of, no_text, rows_of
from .hooks import with_callbacks
from .tables.estimator import labels


def has_epochs(estimator: Any) -> bool:
    """Whether `partial_fit` is there; AttributeError says why not."""
    solver = estimator.solver
    is_named = isinstance(solver, str) and solver.partition("(")[0] in table("solver")
    if is_named or isinstance(getattr(solver, "spec", None), SolverSpec):
        needs = f"{parameters.solver_text(solver)} needs all rows at once"
        raise AttributeError(f'partial_fit needs a solver with epochs, such as "adam"; {needs}')
    return True


def _gives_probabilities(estimator: Any) -> bool:
    loss = estimator._used["loss"] if estimator.__sklearn_is_fitted__() else estimator.loss  # of the network, where there is one
    if isinstance(loss, str) and loss == "log_loss":
        return True
    return Loss.parse(loss).detail in ("softmax", "sigmoid")


class MLPClassifier(ClassifierMixin, NetEstimator):  # type: ignore[misc]  # ClassifierMixin is not typed
    """A network that predicts classes: sklearn.neural_network.MLPClassifier with the same parameters and attributes, trained by microbp.

    A float32 X is computed in float32, anything else in float64. The parameters from `loss` on are not in scikit-learn.

    {parameters}
    loss="log_loss": cross-entropy; or another loss of classes of microbp, by its name or as bp.Loss: "cross_entropy(label_smoothing=0.1)",
    bp.Loss("bce", pos_weight=5), "hinge".

    Attributes as in scikit-learn: classes_, coefs_ and intercepts_ (views: what is written into them is used), loss_, best_loss_,
    loss_curve_, validation_scores_, best_validation_score_, n_iter_, t_, n_layers_, n_outputs_, out_activation_, n_features_in_,
    feature_names_in_. Also validation_loss_curve_, and net, the bp.Network, which `net.save(path)` saves.

    The first weights have scikit-learn's distribution, but are others for the same random_state. Zero weights: a row of weight 0 is not
    there. NaN in X is refused. X may be sparse, of any format: an update costs as much as the values that its rows store; the
    penalties alpha and l1 do not act on the first layer, and "adam" changes the moments of a column only in updates whose rows have it.

    >>> from microbp.sklearn import MLPClassifier
    >>> X = np.random.default_rng(0).normal(size=(200, 2))
    >>> y = np.where(X[:, 0] * X[:, 1] > 0, "same", "other")
    >>> clf = MLPClassifier((32,), learning_rate_init=0.01, random_state=0).fit(X, y)
    >>> clf.score(X, y) > 0.9
    True
    """

    def __init__(
        self,
        hidden_layer_sizes: Any = (100,),
        activation: Any = "relu",
        *,
        solver: Any = "adam",
        alpha: float = 0.0001,
        batch_size: Any = "auto",
        learning_rate: str = "constant",
        learning_rate_init: float = 0.001,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: Any = None,
        tol: float = 1e-4,
        verbose: bool = False,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: float = 10,
        max_fun: int = 15000,
        loss: Any = "log_loss",
        l1: float = 0.0,
        dropout: float = 0.0,
        class_weight: Any = None,
        schedule: Any = None,
        network: Any = None,
        callback: Any = None,
        max_time: Any = None,
        n_threads: int | None = None,
    ) -> None:
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.solver = solver
        self.alpha = alpha
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.learning_rate_init = learning_rate_init
        self.power_t = power_t
        self.max_iter = max_iter
        self.shuffle = shuffle
        self.random_state = random_state
        self.tol = tol
        self.verbose = verbose
        self.warm_start = warm_start
        self.momentum = momentum
        self.nesterovs_momentum = nesterovs_momentum
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.n_iter_no_change = n_iter_no_change
        self.max_fun = max_fun
        self.loss = loss
        self.l1 = l1
        self.dropout = dropout
        self.class_weight = class_weight
        self.schedule = schedule
        self.network = network
        self.callback = callback
        self.max_time = max_time
        self.n_threads = n_threads

    # ---- targets ----

    def _read(self, X: Any, y: Any, *, first: bool, classes: Any = None) -> tuple[Array, Array]:
        X, y = validate_data(self, no_text(X), labels(y), accept_sparse="csr", dtype=dtypes_of(self), multi_output=True, reset=first)
        is_sparse = issparse(y)
        y = y.toarray() if is_sparse else y
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        if y.dtype == object and isinstance(y.flat[0], str):
            y = np.array(y.tolist())  # an array of strings, as scikit-learn's labels are
        check_classification_targets(y)
        if first:
            self._sparse = is_sparse
            self._several, self.classes_ = _classes_of(y if classes is None or y.ndim == 2 else np.asarray(classes), y.ndim)
        return rows_of(X), self._coded(y)

    def _coded(self, y: Array) -> Array:
        """The targets: the index of the class of each row, or for several labels per row a column of 0 and 1 for each."""
        if y.ndim != 1 + self._several:
            raise ValueError(f"y has {y.ndim} axes, but y of the first fit had {1 + self._several}")
        if self._several:
            if y.shape[1] != len(self.classes_):
                raise ValueError(f"y has {y.shape[1]} labels, but y of the first fit had {len(self.classes_)}")
            return np.ascontiguousarray(y, dtype=np.float64)
        codes = np.searchsorted(self.classes_, y).clip(max=len(self.classes_) - 1)
        wrong = self.classes_[codes] != y
        if wrong.any():
            row = int(wrong.argmax())
            known = ", ".join(map(str, self.classes_[:10]))
            raise ValueError(f"y has the class {y[row : row + 1].tolist()[0]!r} in row {row}, but the classes of the first fit are {known}")
        return codes.astype(np.int64, copy=False)

    def _check_again(self, y: Array) -> None:
        absent = [] if self._several else self.classes_[np.bincount(y, minlength=len(self.classes_)) == 0].tolist()
        if absent:
            line = f"y has no row of the class {absent[0]!r}, but y of the first fit had"
            raise ValueError(f"{line}; use partial_fit, or warm_start=False to start again")

    def _class_weighted(self, of: SimpleNamespace, y: Array, weight: Array | None, incremental: bool) -> Array | None:
        if of.class_weight is None:
            return weight
        if incremental and isinstance(of.class_weight, str):
            raise ValueError('MLPClassifier: class_weight="balanced" needs all rows at once; give partial_fit a dict {class: weight}')
        if self._several:
            return parameters.naming(of.estimator, "class_weight", lambda: row_weights.times_labels(weight, of.class_weight, y))
        return parameters.naming(of.estimator, "class_weight", lambda: row_weights.times_classes(weight, of.class_weight, y, self.classes_))

    def _targets(self, y: Array, goal: goals.Goal) -> Array:
        if y.ndim == 1 and goal.loss.detail == "softmax":
            return y
        found = y if y.ndim == 2 else y.astype(np.float64)[:, None] if goal.columns == 1 else np.eye(goal.columns)[y]
        return 2 * found - 1 if goal.loss.name == "hinge" else found

    def _goal(self, of: SimpleNamespace) -> goals.Goal:
        found = parameters.naming(of.estimator, "loss", lambda: goals.of_classes(of.loss, len(self.classes_), self._several))
        return replace(found, is_certain=self._is_certain)

    @property
    def _is_certain(self) -> bool:
        """Whether there is one class, which every prediction is, whatever the network's outputs are."""
        return len(self.classes_) == 1 and not self._several

    def _stratify(self, y: Array) -> Array | None:
        return None if self._several else y

    def _new_trainer(self, of: SimpleNamespace, goal: goals.Goal, X: Array, seed: int | None) -> Trainer:
        trainer = super()._new_trainer(of, goal, X, seed)
        trainer.net.notes = trainer.net.notes | {"classes": names_of(self.classes_)}
        if goal.activation == "logistic" and goal.columns > 1 and not self._several:
            trainer.net.notes = trainer.net.notes | {"one_per_row": True}  # not several labels
        return trainer

    # ---- fit ----

    @with_callbacks
    def fit(self, X: Any, y: Any, sample_weight: Any = None, *, eval_set: Any = None) -> Self:
        """Trains on the rows of X, (rows, features).

        y: a class for each row, any numbers or strings; or (rows, labels) of 0 and 1 for several labels per row.
        sample_weight: (rows,), at least 0; for several labels per row also (rows, labels).
        eval_set: (X, y) or (X, y, sample_weight): rows to compute validation_loss_curve_ and validation_scores_ with; early_stopping
        watches them, and then holds out none. ValueError or TypeError: something does not fit; the estimator is as before.
        """
        return self._fit(X, y, sample_weight, eval_set=eval_set)  # type: ignore[no-any-return]

    @available_if(has_epochs)
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None, classes: Any = None) -> Self:
        """Trains for one epoch on these rows, continuing with the optimizer's state; n calls equal a `fit` of n epochs.

        X, y, sample_weight: as in `fit`. classes: all classes that later calls may have; needed in the first call, unless y has several
        labels per row.
        """
        labels(classes, "classes")
        if not self.__sklearn_is_fitted__() and classes is None and not issparse(y) and np.ndim(y) < 2:
            raise ValueError("classes must be passed on the first call to partial_fit")
        if self.__sklearn_is_fitted__() and classes is not None and not np.array_equal(self.classes_, np.unique(classes)):
            raise ValueError(f"classes={brief(classes)} is not the same as on the last call to partial_fit, was: {self.classes_!r}")
        return self._fit(X, y, sample_weight, classes=classes, incremental=True)  # type: ignore[no-any-return]

    # ---- predictions ----

    def predict(self, X: Any) -> Array:
        """The class of each row, (rows,), or 0 and 1 for several labels per row, (rows, labels), sparse where y of the first fit was."""
        raw = self._outputs(X, raw=True)
        if self._several:
            found = (raw > 0).astype(self.classes_.dtype)
            return csr_matrix(found) if self._sparse else found
        found = raw.argmax(axis=1) if raw.shape[1] > 1 else (raw.ravel() > 0).astype(np.intp)
        return np.asarray(self.classes_[np.zeros_like(found) if self._is_certain else found])

    def decision_function(self, X: Any) -> Array:
        """The network's outputs before softmax or the logistic function: (rows,) for two classes, else (rows, classes)."""
        raw = self._outputs(X, raw=True)
        if self._several or len(self.classes_) > 2:
            return raw
        return raw[:, 1] - raw[:, 0] if raw.shape[1] == 2 else raw.ravel()

    @available_if(_gives_probabilities)
    def predict_proba(self, X: Any, *, out: Array | None = None) -> Array:
        """The probability of each class, (rows, classes), in the order of `classes_`; for several labels per row that of each label.
        With loss="bce", each class of three or more has a probability of its own, and these are divided by their sum.

        out: an array of the network's dtype and the result's shape to write to, for more than two classes.
        """
        p = self._outputs(X, out=out)
        if self._is_certain:
            return np.ones((len(p), 1), p.dtype)
        if self._several or p.shape[1] > 1:
            if not self._several and self.out_activation_ == "logistic":
                np.maximum(p, np.finfo(p.dtype).tiny, out=p)
                p /= p.sum(axis=1, keepdims=True)
            return p
        return np.concatenate([1 - p, p], axis=1)

    @available_if(_gives_probabilities)
    def predict_log_proba(self, X: Any) -> Array:
        """The logarithms of `predict_proba`."""
        p = self.predict_proba(X)
        with np.errstate(divide="ignore"):
            return np.asarray(np.log(p, out=p))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags


def _classes_of(y: Array, axes: int) -> tuple[bool, Array]:
    """Whether rows have several labels, and the classes."""
    kind = type_of_target(y, input_name="y")
    if kind == "multilabel-indicator":
        return True, np.arange(y.shape[1])
    if axes == 2:
        raise ValueError(f"y is {kind}; several targets per row must be labels, a column of 0 and 1 for each")
    return False, np.unique(y)
