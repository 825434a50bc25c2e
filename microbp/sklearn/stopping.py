"""What happens after each epoch of a fit: scikit-learn's rules for stopping and for the rate, and its attributes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from ..settings.number_metrics import r2
from ..training.loop.records.history import Record
from ..training.trainer import Trainer
from .goals import Goal, Rows

_LOWEST_RATE = 1e-6  # scikit-learn's: "adaptive" stops instead of dividing a rate that is not above it


class Progress:
    """A callback of `Trainer.fit` that keeps an estimator's attributes, decides when to stop, and remembers the best epoch."""

    def __init__(
        self, estimator: Any, of: SimpleNamespace, trainer: Trainer, goal: Goal, rows: Rows, validation: Rows | None, watches: bool
    ) -> None:
        self.estimator, self.of, self.trainer, self.goal = estimator, of, trainer, goal
        self.rows, self.validation = rows, validation
        self._constant = goal.constant(*rows[1:])
        self._of_validation = 0.0 if validation is None else goal.constant(*validation[1:])
        self.watches = watches  # whether the score of the validation rows decides, not the loss
        self.is_over = False
        self._best: tuple[Any, Any] | None = None

    def __call__(self, record: Record) -> bool:
        """Whether to stop after this epoch."""
        it = self.estimator
        it.n_iter_ += 1
        it.t_ += len(self.rows[0])
        it.loss_ = self.goal.reported(record["loss"], self.trainer.output_losses[0]) + self._constant
        it.loss_curve_.append(it.loss_)
        self._say(f"Iteration {it.n_iter_}, loss = {it.loss_:.8f}")
        if self.validation is not None:
            self._validate(record)
        self._compare(record)
        set_rate(self.trainer, self.of, it.t_)
        if it._stale_epochs > self.of.n_iter_no_change:
            self.is_over = self._gives_up()
        return self.is_over

    def _validate(self, record: Record) -> None:
        """Keeps loss and score of the validation rows."""
        it = self.estimator
        if "val_loss" not in record:
            record |= self._measured()
        it.validation_loss_curve_.append(record["val_loss"] / self.goal.mean_of + self._of_validation)
        it.validation_scores_.append(self._score(record))
        self._say(f"Validation score: {self._score(record):f}")

    def _measured(self) -> dict[str, float]:
        """Loss and R2 of the validation rows, where `fit` does not compute them: its `output_losses` are then those of the epoch."""
        X, y, weight = self.validation or self.rows
        there = ~np.isnan(y)
        counted = there if weight is None else there * (weight if weight.ndim == 2 else weight[:, None])
        return {"val_loss": self.trainer.evaluate(X, y, weight), "r2": r2(y, self.trainer.predict(X), counted)}

    def _score(self, record: Record) -> float:
        if self.goal.is_certain:
            return 1.0
        return float(-record["val_loss"] if self.goal.metric is None else record[self.goal.metric])

    def _say(self, line: str) -> None:
        if self.of.verbose:
            print(line)

    def _compare(self, record: Record) -> None:
        """Counts the epochs without improvement; keeps the parameters of the best score."""
        it, tol = self.estimator, self.of.tol
        if self.watches:
            score = self._score(record)
            is_stale = score < it.best_validation_score_ + tol
            if score > it.best_validation_score_:
                it.best_validation_score_ = score
                self._best = self.trainer.net.params.copy(), self.trainer.net.buffers.copy()
        else:
            is_stale = it.loss_ > it.best_loss_ - tol
            it.best_loss_ = min(it.best_loss_, it.loss_)
        it._stale_epochs = it._stale_epochs + 1 if is_stale else 0

    def _gives_up(self) -> bool:
        """Whether to stop, because there is no improvement; learning_rate="adaptive" lowers the rate instead."""
        what = "Validation score" if self.watches else "Training loss"
        line = f"{what} did not improve more than tol={self.of.tol:f} for {self.of.n_iter_no_change} consecutive epochs."
        if not lowers_rate(self.of) or self.trainer.lr <= _LOWEST_RATE:
            self._say(f"{line} Stopping.")
            return True
        self.trainer.lr /= 5
        self.estimator._stale_epochs = 0
        self._say(f"{line} Setting learning rate to {self.trainer.lr:f}")
        return False

    @property
    def has_best(self) -> bool:
        """Whether `restore_best` will take the parameters of an epoch."""
        return self._best is not None

    def restore_best(self) -> None:
        """The parameters of the epoch with the best score of the validation rows."""
        if self._best is not None:
            self.trainer.net.params[...], self.trainer.net.buffers[...] = self._best


def set_rate(trainer: Trainer, of: SimpleNamespace, seen: int) -> None:
    """Sets the rate of the next epoch, with learning_rate="invscaling". seen: the rows so far."""
    if isinstance(of.solver, str) and of.solver == "sgd" and of.learning_rate == "invscaling" and of.schedule is None:
        trainer.lr = of.learning_rate_init / (seen + 1) ** of.power_t


def lowers_rate(of: SimpleNamespace) -> bool:
    """Whether epochs without improvement lower the rate."""
    return isinstance(of.solver, str) and of.solver == "sgd" and of.learning_rate == "adaptive"


def start(estimator: Any, watches: bool, validates: bool) -> None:
    """The attributes of an estimator without epochs."""
    estimator.t_ = estimator.n_iter_ = estimator._stale_epochs = 0
    estimator.loss_curve_ = []
    estimator.best_loss_ = None if watches else np.inf
    estimator.best_validation_score_ = -np.inf if watches else None
    estimator.validation_scores_ = [] if validates else None
    estimator.validation_loss_curve_ = [] if validates else None
