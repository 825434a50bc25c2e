"""TableRegressor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Self

import numpy as np
from sklearn.base import RegressorMixin
from sklearn.utils import check_array, column_or_1d
from sklearn.utils.validation import check_is_fitted

from ...core.specs import Loss
from ...core.text import brief
from ...data.arrays import Array
from ...network.layers import Activation
from ...settings.optimizers import Optimizer
from ...settings.schedules import Schedule
from .estimator import TableEstimator, known, numbers

_NAMES = {"squared_error": "mse", "absolute_error": "mae"}  # scikit-learn's: microbp's
_MOST = 2.0**53  # beyond it, columns of whole numbers are read as ids


class TableRegressor(RegressorMixin, TableEstimator):  # type: ignore[misc]
    """A regressor for tables with numbers, categories, dates and missing values, which it encodes itself: `bp.fit_table` for scikit-learn.

    y: the number of each row, shape (rows,). loss: a loss of numbers as in `bp.fit_table`, such as "mse", "mae", "huber" or
    "quantile(q=0.9)"; "squared_error" and "absolute_error" are scikit-learn's names of the first two. With "mse", the logarithm of a
    skewed target is learnt. Predictions are within the range of y. X, the other parameters and the attributes: as in
    TableClassifier.

    >>> from microbp.sklearn import TableRegressor
    >>> X = np.array([[size, colour] for size in range(20) for colour in ["red", "blue", None]], dtype=object)
    >>> y = [2.0 * size + 5 * (colour == "red") for size, colour in X]
    >>> model = TableRegressor(budget="fast", random_state=0).fit(X, y)
    >>> model.predict([[3, "red"], [3, None]]).shape, model.score(X, y) > 0.9
    ((2,), True)
    """

    _only = "is constant"

    def __init__(
        self,
        *,
        budget: Literal["fast", "normal", "best"] = "normal",
        ensemble: int | None = None,
        net: str | Sequence[int | None] | None = None,
        activation: str | Activation = "gelu",
        dropout: float | None = None,
        loss: str | Loss = "mse",
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
        self.loss = loss
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

        ValueError or TypeError: X, y or a parameter is invalid, or y is constant. FloatingPointError: use a lower lr.
        """
        y = check_array(column_or_1d(numbers(known(y)), warn=True), ensure_2d=False, dtype=np.float64, input_name="y")
        if (np.abs(y) > _MOST).any():
            row = int((np.abs(y) > _MOST).argmax())
            raise ValueError(f"TableRegressor: y[{row}] is {y[row]:g}, but must be at most {_MOST:.2g} in size; scale y")
        return self._fit(X, y, sample_weight, _parsed(self.loss))

    def predict(self, X: Any) -> Array:
        """The number of each row, shape (rows,), float64."""
        check_is_fitted(self)
        with self._telling():
            return self.model_.predict(self._named(X, reset=False))


def _parsed(loss: Any) -> Loss:
    """The loss for `fit_table`; ValueError if it is not for one number."""
    from ...tables.fitted.arguments import loss as parse  # imported here, because only `fit` needs it
    from ...tables.split import NUMBERS

    try:
        found = parse(_NAMES.get(loss, loss) if isinstance(loss, str) else loss)
    except (TypeError, ValueError) as error:
        raise type(error)(f"TableRegressor: {error}") from None
    if found.name not in NUMBERS:
        raise ValueError(f"TableRegressor: loss is {brief(found.text)}, but must be a loss of numbers: {', '.join(NUMBERS)}")
    if isinstance(found.parameters.get("q"), tuple):
        raise ValueError(f"TableRegressor: loss is {brief(found.text)}, which has several outputs; use QuantileRegressor")
    return found
