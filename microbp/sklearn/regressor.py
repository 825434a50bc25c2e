"""MLPRegressor."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, Self

import numpy as np
from sklearn.base import RegressorMixin
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_consistent_length, column_or_1d, validate_data

from ..core.text import brief
from ..data.arrays import Array
from . import goals, parameters
from .base import DTYPES, NetEstimator, dtypes_of, no_text, rows_of
from .classifier import has_epochs
from .hooks import with_callbacks
from .tables.estimator import numbers


class MLPRegressor(RegressorMixin, NetEstimator):  # type: ignore[misc]  # RegressorMixin is not typed
    """A network that predicts numbers: sklearn.neural_network.MLPRegressor with the same parameters and attributes, trained by microbp.

    A float32 X is computed in float32, anything else in float64. The parameters from `l1` on are not in scikit-learn.

    loss="squared_error": half the squared error; "poisson" for counts, predicted as rates; or any loss of numbers of microbp, by its
    name or as bp.Loss: "absolute_error", "huber(delta=2)", "log_cosh", bp.Loss("quantile", q=0.9), "gaussian_nll" (`predict` returns the
    mean, and the standard deviation with return_std=True); or a function f(outputs, targets, weight) -> (loss, gradient), as in bp.Trainer.
    {parameters}

    Attributes as in scikit-learn: coefs_ and intercepts_ (views: what is written into them is used), loss_, best_loss_, loss_curve_,
    validation_scores_, best_validation_score_, n_iter_, t_, n_layers_, n_outputs_, out_activation_, n_features_in_, feature_names_in_. Also
    validation_loss_curve_, and net, the bp.Network, which `net.save(path)` saves.

    The first weights have scikit-learn's distribution, but are others for the same random_state. A row of weight 0 is not there. NaN in X
    is refused. X may be sparse, as of MLPClassifier.

    >>> from microbp.sklearn import MLPRegressor
    >>> X = np.linspace(-1, 1, 100)[:, None]
    >>> model = MLPRegressor(hidden_layer_sizes=(16,), activation="tanh", solver="lbfgs", random_state=0).fit(X, np.sin(3 * X[:, 0]))
    >>> model.score(X, np.sin(3 * X[:, 0])) > 0.99
    True
    """

    def __init__(
        self,
        loss: Any = "squared_error",
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
        l1: float = 0.0,
        dropout: float = 0.0,
        out_activation: Any = None,
        schedule: Any = None,
        network: Any = None,
        callback: Any = None,
        max_time: Any = None,
        n_threads: int | None = None,
    ) -> None:
        self.loss = loss
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
        self.l1 = l1
        self.dropout = dropout
        self.out_activation = out_activation
        self.schedule = schedule
        self.network = network
        self.callback = callback
        self.max_time = max_time
        self.n_threads = n_threads

    # ---- targets ----

    def _read(self, X: Any, y: Any, *, first: bool, classes: Any = None) -> tuple[Array, Array]:
        X, y = read_numbers(self, X, y, first=first)
        if first:
            self._n_targets = y.shape[1]
        elif y.shape[1] != self._n_targets:
            raise ValueError(f"y has {y.shape[1]} columns, but y of the first fit had {self._n_targets}")
        return X, y

    def _goal(self, of: SimpleNamespace) -> goals.Goal:
        last = "identity" if of.out_activation is None else parameters.parse_activation(of.out_activation).name
        name = parameters.activation_name(last)
        return parameters.naming(of.estimator, "loss", lambda: goals.of_numbers(of.loss, self._n_targets, name))

    # ---- fit ----

    @with_callbacks
    def fit(self, X: Any, y: Any, sample_weight: Any = None, *, eval_set: Any = None) -> Self:
        """Trains on the rows of X, (rows, features).

        y: (rows,), or (rows, targets); NaN among several targets: this one is missing, and the row learns from the others.
        sample_weight: (rows,), at least 0; for several targets also (rows, targets).
        eval_set: (X, y) or (X, y, sample_weight): rows to compute validation_loss_curve_ and validation_scores_ with; early_stopping
        watches them, and then holds out none. ValueError or TypeError: something does not fit; the estimator is as before.
        """
        return self._fit(X, y, sample_weight, eval_set=eval_set)  # type: ignore[no-any-return]

    @available_if(has_epochs)
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Trains for one epoch on these rows, continuing with the optimizer's state; n calls equal a `fit` of n epochs. X, y,
        sample_weight: as in `fit`.
        """
        return self._fit(X, y, sample_weight, incremental=True)  # type: ignore[no-any-return]

    # ---- predictions ----

    def predict(self, X: Any, return_std: bool = False, *, out: Array | None = None) -> Any:
        """The targets of each row, (rows,) or (rows, targets).

        return_std: with loss="gaussian_nll", returns (mean, standard deviation). out: an array of the network's dtype and the result's
        shape to write to; not with "gaussian_nll".
        """
        if out is not None and self.__sklearn_is_fitted__() and self.n_outputs_ != self._n_targets:
            raise ValueError("predict: out works with one output for each target, but gaussian_nll has two; call predict without out")
        found = self._outputs(X, out=out[:, None] if out is not None and out.ndim == 1 else out)
        targets = self._n_targets
        mean = found[:, :targets].ravel() if targets == 1 else found[:, :targets]
        if not return_std:
            return mean
        if found.shape[1] == targets:
            loss = brief(self._used["loss"])  # that of the fit
            raise ValueError(f'predict: return_std needs loss="gaussian_nll", but loss is {loss}')
        deviation = np.exp(found[:, targets:] / 2)
        return mean, deviation.ravel() if targets == 1 else deviation


def read_numbers(estimator: Any, X: Any, y: Any, *, first: bool) -> tuple[Array, Array]:
    """X and the targets, (rows, targets) of float64 or float32, checked; NaN is refused, except among several targets."""
    several = getattr(numbers(y), "ndim", np.ndim(y) if isinstance(y, list) else 1) == 2 and np.shape(y)[1] > 1
    for_y = {"ensure_2d": False, "dtype": DTYPES, "ensure_all_finite": "allow-nan" if several else True, "estimator": estimator}
    separately = {"accept_sparse": "csr", "dtype": dtypes_of(estimator), "estimator": estimator}, for_y
    X, y = validate_data(estimator, no_text(X), y, reset=first, validate_separately=separately)
    check_consistent_length(X, y)
    if y.ndim == 2 and y.shape[1] == 1:
        y = column_or_1d(y, warn=True)
    return rows_of(X), y[:, None] if y.ndim == 1 else y
