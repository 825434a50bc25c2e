"""Fits with "lbfgs" and other solvers, which use all rows at once: each epoch is an iteration."""

from __future__ import annotations

import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from sklearn.exceptions import ConvergenceWarning

from ..data.sparse import SparseRows
from ..settings import optimizers
from ..training.engine import penalties
from ..training.loop.records.history import Record
from ..training.trainer import Trainer
from .goals import Goal, Rows
from .hooks import warn

_LEAST_GAIN = 1e7 * 2.0**-52  # SciPy's ftol, with which scikit-learn stops: the part of the loss that an iteration must gain


class Iterations:
    """A callback of `Trainer.fit` that keeps an estimator's attributes and stops by the rules of SciPy's L-BFGS-B."""

    def __init__(self, estimator: Any, of: SimpleNamespace, trainer: Trainer, goal: Goal, rows: Rows) -> None:
        self.estimator, self.of, self.trainer, self.goal = estimator, of, trainer, goal
        self.count, self.constant = len(rows[0]), goal.constant(*rows[1:])
        self.lacks_penalties = callable(trainer.losses[0]) or not trainer.penalty_per_row  # the trainer's loss
        self.value = math.nan
        self.has_converged = self.is_out = False

    def __call__(self, record: Record) -> bool:
        """Whether to stop after this iteration."""
        it, before = self.estimator, self.value
        self.value = record["loss"] + self.constant
        if self.lacks_penalties:
            self.value += penalties.of_net(self.trainer.net) / (self.count if self.trainer.penalty_per_row else 1)
        it.n_iter_ += 1
        it.loss_ = it.best_loss_ = self.goal.reported(self.value, self.trainer.output_losses[0])
        it.loss_curve_.append(it.loss_)
        if self.of.verbose:
            print(f"Iteration {it.n_iter_}, loss = {it.loss_:.8f}")
        self.has_converged = before - self.value <= _LEAST_GAIN * max(abs(before), abs(self.value), 1.0)
        self.is_out = (self.trainer.evaluations or 0) > self.of.max_fun
        return self.has_converged or self.is_out


def fit(estimator: Any, of: SimpleNamespace, trainer: Trainer, goal: Goal, rows: Rows, hook: list[Callable[..., Any]]) -> None:
    """Minimizes the loss of the rows, from the trainer's weights; sets the estimator's attributes."""
    X, y, weight = rows
    trainer.reset()
    iterations = Iterations(estimator, of, trainer, goal, rows)
    how = {"epochs": of.max_iter, "gradient_tolerance": of.tol, "max_time": of.max_time, "progress": False}
    try:
        dense = X.toarray() if isinstance(X, SparseRows) else X
        trainer.fit(dense, y, sample_weight=weight, callback=[iterations, *of.callback, *hook], **how)
    except FloatingPointError as error:
        raise ValueError(
            f"{type(estimator).__name__}: the loss of the first weights is not finite; scale X and y to about -1 to 1"
        ) from error
    except KeyboardInterrupt:
        if not estimator.n_iter_:
            raise  # and the estimator is as before
        warn(estimator, "the training was interrupted; the model is that of the last iteration")
    _warn(estimator, of, trainer.stop_reason, iterations)


def _warn(estimator: Any, of: SimpleNamespace, reason: str | None, iterations: Iterations) -> None:
    """Says why the gradient is not below tol."""
    if iterations.has_converged or not (reason in ("epochs", "no step") or iterations.is_out):
        return
    advice = "scale X and y to about -1 to 1" if reason == "no step" else f"raise max_iter={of.max_iter} or max_fun={of.max_fun}"
    warn(estimator, f"{optimizers.parse(of.optimizer).name} ended before the gradient was below tol; {advice}", ConvergenceWarning)
