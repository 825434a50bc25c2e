"""The solver "lbfgs": SciPy's L-BFGS-B on the network's loss and gradient over all rows."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import numpy as np
from scipy.optimize import minimize
from sklearn.exceptions import ConvergenceWarning

from ..data.arrays import Array
from ..data.sparse import SparseRows
from ..training.engine import penalties
from ..training.loop.history import Record
from ..training.trainer import Trainer
from .goals import Goal, Rows
from .hooks import warn

_PART = 1024  # rows whose values stay in a processor's second-level cache
_DENSE = 1 << 24  # numbers of sparse rows that are made dense at a time


class Objective:
    """The loss of the rows, with the penalties, and its gradient, as a function of the parameters."""

    def __init__(self, trainer: Trainer, goal: Goal, rows: Rows) -> None:
        X, y, weight = rows
        self.trainer, self.goal = trainer, goal
        self.rows = X if isinstance(X, SparseRows) or X.dtype.kind != "f" else np.asarray(X, trainer.net.dtype), y, weight
        self.constant = goal.constant(y, weight)
        self.is_own = callable(trainer.losses[0])
        self.in_parts = not (self.is_own or (weight is not None and weight.ndim == 2) or (y.dtype.kind == "f" and np.isnan(y).any()))
        self.reported: dict[float, float] = {}  # what scikit-learn reports, for the losses so far

    def __call__(self, params: Array) -> tuple[float, Array]:
        self.trainer.net.params[...] = params
        try:
            loss, data = self._losses()
            found = loss + self.constant
            self.reported[found] = self.goal.reported(loss, data) + self.constant
            return found, self.trainer.grads.astype(np.float64)
        except FloatingPointError:  # of a step that is too long: the line search goes back
            return np.inf, np.zeros_like(params)

    def _losses(self) -> tuple[float, float]:
        """The losses with and without penalties; the gradient of the first is in `trainer.grads`."""
        loss, data = (
            self._of_parts()
            if self.in_parts
            else (self.trainer.backward(_dense(self.rows[0]), *self.rows[1:]), self.trainer.output_losses[0])
        )
        if self.is_own or not self.trainer.penalty_per_row:  # else the loss contains them
            loss += penalties.of_net(self.trainer.net) / (len(self.rows[0]) if self.trainer.penalty_per_row else 1)
        return loss, data

    def _of_parts(self) -> tuple[float, float]:
        """The trainer's losses, in parts, which add up, where the weights are those of rows."""
        X, y, weight = self.rows
        total, loss, data = float(len(X) if weight is None else weight.sum()), 0.0, 0.0
        most = min(_PART, max(_DENSE // X.shape[1], 1)) if isinstance(X, SparseRows) else _PART
        for first in range(0, len(X), most):
            part = slice(first, first + most)
            of_rows = None if weight is None else weight[part]
            loss += self.trainer.backward(_dense(X[part]), y[part], of_rows, accumulate=first > 0, total=total, first_row=first)
            data += self.trainer.output_losses[0]
        return loss, data


def _dense(X: Any) -> Array:
    return X.toarray() if isinstance(X, SparseRows) else X


def fit(estimator: Any, of: SimpleNamespace, trainer: Trainer, goal: Goal, rows: Rows, hook: Callable[..., Any]) -> None:
    """Minimizes the loss of the rows; sets the estimator's attributes. hook: gets a record of each iteration, and stops with True."""
    objective = Objective(trainer, goal, rows)
    seconds = of.max_time.total_seconds() if isinstance(of.max_time, timedelta) else of.max_time
    end = np.inf if seconds is None else time.monotonic() + seconds
    best = trainer.net.params.astype(np.float64)

    def after(intermediate_result: Any) -> None:
        estimator.n_iter_ += 1
        estimator.loss_curve_.append(objective.reported[float(intermediate_result.fun)])
        if of.verbose:
            print(f"Iteration {estimator.n_iter_}, loss = {estimator.loss_curve_[-1]:.8f}")
        stops = hook(Record({"epoch": estimator.n_iter_, "loss": estimator.loss_curve_[-1]}))
        if stops or time.monotonic() >= end:
            raise StopIteration

    options = {"maxfun": of.max_fun, "maxiter": of.max_iter, "gtol": of.tol}
    found = minimize(objective, best, method="L-BFGS-B", jac=True, callback=after, options=options)
    if not np.isfinite(found.fun):
        raise ValueError(f"{type(estimator).__name__}: the loss of the first weights is not finite; scale X and y to about -1 to 1")
    trainer.net.params[...] = found.x
    estimator.loss_ = estimator.best_loss_ = objective.reported[float(found.fun)]
    estimator.n_iter_ = max(estimator.n_iter_, 1)
    if found.status in (1, 2):  # iterations or evaluations used up; a line search that found nothing
        advice = f"raise max_iter={of.max_iter} or max_fun={of.max_fun}" if found.status == 1 else "scale X and y to about -1 to 1"
        warn(estimator, f"lbfgs ended before the gradient was below tol ({found.message}); {advice}", ConvergenceWarning)
