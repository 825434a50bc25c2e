"""When fit stops early: frozen settings."""

from __future__ import annotations

from typing import Annotated, Literal

from ..core.checks import real, whole
from .base import Settings
from .metrics import rises


class EarlyStopping(Settings):
    """When `Trainer.fit` stops: after `patience` epochs without a value of `monitor` that is better than all before.

    At the end, the parameters, the optimizer's state and the learning rate of the best epoch come back.

    patience: epochs to wait for a better value, at least 1.
    monitor: the entry of the records to watch: "val_loss", "loss", or the name of a metric that fit is given.
    mode: "min" where less is better, "max" where more is. None: "max" for "accuracy", "r2", "top_3" and names that end in _score, "min"
    for "loss", "val_loss", "log_loss", "rmse", "mae" and names that end in _loss or _error; any other name needs a mode.
    min_delta: how much better a value must be to count, at least 0, in the unit of `monitor`.

    The rule is that of Keras' EarlyStopping(restore_best_weights=True).

    >>> X = np.linspace(-1, 1, 40).reshape(-1, 1)
    >>> t = bp.Trainer(bp.mlp([1, 8, 1], seed=0), loss="mse", optimizer=bp.Adam(lr=0.1))
    >>> history = t.fit(X, X**2, epochs=500, validation=0.25, stop=bp.EarlyStopping(patience=5))
    >>> len(history["loss"]) < 500
    True
    """

    patience: Annotated[int, whole(1)]
    monitor: str = "val_loss"
    mode: Literal["min", "max"] | None = None
    min_delta: Annotated[float, real("[0,inf)")] = 0.0

    def __post_init__(self) -> None:
        rises(self.monitor, self.mode)
