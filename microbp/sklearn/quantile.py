"""QuantileRegressor: several quantiles of a number, from one network."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, Self

import numpy as np
from sklearn.base import RegressorMixin

from ..core.checks import floating
from ..core.specs import Loss
from ..data.arrays import Array
from .base import NetEstimator
from .goals import Goal, Rows
from .hooks import with_callbacks
from .regressor import read_numbers

_ROUNDING = 1e-9  # of levels such as (1 - 0.9) / 2


class QuantileRegressor(RegressorMixin, NetEstimator):  # type: ignore[misc]  # RegressorMixin is not typed
    """A network that predicts quantiles of a number: the 0.9-quantile is the number that 90 % of the targets of such a row are below.

    One network with an output for each level is trained by the mean of the quantile losses (Koenker & Bassett 1978). Where quantiles of a
    row cross, they are sorted, which is never worse (Chernozhukov, Fernandez-Val & Galichon 2010). `predict` gives the median,
    `predict_quantiles` all levels, `predict_interval` an interval with a coverage.

    quantiles=(0.05, 0.5, 0.95): the levels, between 0 and 1; or one level.
    {parameters}

    Attributes as of MLPRegressor. y is scaled inside by its mean and standard deviation, so that learning rates do not depend on its unit;
    `loss_curve_`, `net` and `coefs_` are in the scaled unit. Scale X before. The score of early stopping is minus the loss. For settings of
    an optimizer that have no parameter here, pass a bp.Optimizer as `solver`.

    If the network has not learnt the quantiles well, the intervals contain too few or too many targets: measure this on new rows.

    >>> from microbp.sklearn import QuantileRegressor
    >>> random = np.random.default_rng(0)
    >>> X = random.uniform(0, 1, (2000, 1))
    >>> y = X[:, 0] + X[:, 0] * random.normal(size=2000)  # the spread grows with X
    >>> model = QuantileRegressor(learning_rate_init=0.01, random_state=0).fit(X, y)
    >>> model.predict_quantiles([[0.2], [0.9]]).shape
    (2, 3)
    >>> low, high = model.predict_interval([[0.2], [0.9]], coverage=0.9)
    >>> bool(high[1] - low[1] > 2 * (high[0] - low[0]))
    True
    """

    _centre: float  # of y; with _scale, what `_for_trainer` learns in the first fit
    _scale: float | None
    _levels: list[float]  # in rising order

    def __init__(
        self,
        quantiles: Any = (0.05, 0.5, 0.95),
        hidden_layer_sizes: Any = (100,),
        activation: Any = "relu",
        *,
        solver: Any = "adam",
        alpha: float = 0.0001,
        batch_size: Any = "auto",
        learning_rate_init: float = 0.001,
        max_iter: int = 200,
        random_state: Any = None,
        tol: float = 1e-4,
        verbose: bool = False,
        warm_start: bool = False,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: float = 10,
        dropout: float = 0.0,
        schedule: Any = None,
        network: Any = None,
        callback: Any = None,
        max_time: Any = None,
        n_threads: int | None = None,
    ) -> None:
        self.quantiles = quantiles
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.solver = solver
        self.alpha = alpha
        self.batch_size = batch_size
        self.learning_rate_init = learning_rate_init
        self.max_iter = max_iter
        self.random_state = random_state
        self.tol = tol
        self.verbose = verbose
        self.warm_start = warm_start
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.dropout = dropout
        self.schedule = schedule
        self.network = network
        self.callback = callback
        self.max_time = max_time
        self.n_threads = n_threads

    # ---- fit ----

    def _read(self, X: Any, y: Any, *, first: bool, classes: Any = None) -> tuple[Array, Array]:
        X, y = read_numbers(self, X, y, first=first)
        if y.shape[1] > 1:
            raise ValueError(f"y has {y.shape[1]} columns, but must have one; train an estimator for each")
        if first:
            self._scale = None
        return X, y

    def _goal(self, of: SimpleNamespace) -> Goal:
        levels = sorted(of.quantiles)
        if self._scale is not None and levels != self._levels:
            raise ValueError(f"quantiles are {of.quantiles}, but those of the first fit were {tuple(self._levels)}; use warm_start=False")
        self._levels = levels
        self._places = [levels.index(level) for level in of.quantiles]
        return Goal(len(levels), Loss("quantile", q=levels), None)

    def _for_trainer(self, rows: Rows, goal: Goal) -> Rows:
        X, y, weight = rows
        if self._scale is None:
            values = y[:, 0].astype(np.float64)
            unit = 2.0 ** np.frexp(np.abs(values).max())[1].clip(-1000, 1000)  # squares are in range, with the same bits
            values /= unit
            centre = np.average(values, weights=weight)
            self._centre = float(centre * unit)
            self._scale = float(np.sqrt(np.average((values - centre) ** 2, weights=weight)) * unit) or 1.0
            limits = np.finfo(X.dtype)
            if self._scale < float(limits.tiny) or abs(self._centre) + 1e3 * self._scale > float(limits.max):
                has = f"y has the mean {self._centre:g} and the standard deviation {self._scale:g}"
                raise ValueError(f"QuantileRegressor: {has}, which are out of the range of {X.dtype}; scale y")
        return X, (y - self._centre) / self._scale, weight

    @with_callbacks
    def fit(self, X: Any, y: Any, sample_weight: Any = None, *, eval_set: Any = None) -> Self:
        """Trains. X: (rows, features). y: (rows,). sample_weight: (rows,), at least 0. eval_set: (X, y) or (X, y, sample_weight), whose
        loss is in validation_loss_curve_. Errors: as of MLPRegressor."""
        return self._fit(X, y, sample_weight, eval_set=eval_set)  # type: ignore[no-any-return]

    # ---- predictions ----

    def _sorted(self, X: Any) -> Array:
        """The quantiles in the unit of y, in rising order, (rows, quantiles)."""
        found = np.sort(self._outputs(X), axis=1)
        return np.asarray(found * found.dtype.type(self._scale) + found.dtype.type(self._centre))

    def predict(self, X: Any) -> Array:
        """The median of each row, shape (rows,); if 0.5 is not among the levels, the quantile of the level that is nearest to it."""
        found = self._sorted(X)
        return np.asarray(found[:, int(np.abs(np.array(self._levels) - 0.5).argmin())])

    def predict_quantiles(self, X: Any) -> Array:
        """All quantiles of each row, in the order of `quantiles`, shape (rows, quantiles)."""
        found = self._sorted(X)
        return np.asarray(found[:, self._places])

    def predict_interval(self, X: Any, coverage: float = 0.9) -> tuple[Array, Array]:
        """The lower and the upper end of an interval for each row, shape (rows,) each: the quantiles of the levels (1 - coverage) / 2 and
        (1 + coverage) / 2. Between the levels of `quantiles`, quantiles are interpolated linearly.

        ValueError: coverage is not between 0 and 1, or the levels do not reach as far.
        """
        found, coverage = self._sorted(X), floating("coverage", coverage)
        ends = (1 - coverage) / 2, (1 + coverage) / 2
        if not 0 < coverage < 1:
            raise ValueError(f"coverage must be a number between 0 and 1, such as 0.9, not {coverage:g}")
        least, most = self._levels[0], self._levels[-1]
        if ends[0] < least - _ROUNDING or ends[1] > most + _ROUNDING:
            has = f"coverage={coverage:g} needs quantiles from {ends[0]:g} to {ends[1]:g}, but they reach from {least:g} to {most:g}"
            raise ValueError(f"{has}; add quantiles and fit again")
        low, high = (self._between(found, float(np.clip(level, least, most))) for level in ends)
        return low, high

    def _between(self, found: Array, level: float) -> Array:
        """The quantile of a level, from those of `_levels` in the columns of `found`."""
        above = int(np.searchsorted(self._levels, level - _ROUNDING))
        if above == 0 or abs(self._levels[above] - level) <= _ROUNDING:
            return np.asarray(found[:, above])
        share = (level - self._levels[above - 1]) / (self._levels[above] - self._levels[above - 1])
        return np.asarray(found[:, above - 1] + found.dtype.type(share) * (found[:, above] - found[:, above - 1]))
