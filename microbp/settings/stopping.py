"""Settings for early stopping, and the function that determines whether higher is better for an entry of a record."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from ..core.checks import real, whole
from ..core.specs import unknown
from .base import Settings

# What begins with the name of a metric, such as accuracy_policy, is the metric of an output.
_LOSS = re.compile(r"(\w+_)?loss|(val_)?loss_.+")
_HIGHER = re.compile(r"(\w+_)?accuracy|(val_)?((subset_|balanced_)?accuracy|r2|f1|auc|top_\d+)(_.+)?|\w+_score")
_LOWER = re.compile(r"(val_)?(rmse|mae|brier|pinball|log_loss)(_.+)?|\w+_error")


def higher_is_better(name: str, mode: str | None) -> bool:
    """Whether higher is better for an entry of a record. mode: "min" or "max"; None: determined by the name.

    Known names are the losses and metrics, also of an output (loss_policy, accuracy_policy), and scikit-learn's suffixes: for _score higher
    is better, for _error and _loss lower is better. ValueError: the name is unknown, or known as both, such as mae_score.
    """
    if mode not in (None, "min", "max"):
        raise unknown("mode", mode, ("min", "max"))
    if mode is not None:
        return mode == "max"
    if _LOSS.fullmatch(name):
        return False
    is_higher, is_lower = (pattern.fullmatch(name) is not None for pattern in (_HIGHER, _LOWER))
    if is_higher == is_lower:
        unclear = "its name does not show whether lower or higher is better"
        raise ValueError(f'monitor={name!r}: {unclear}; pass mode="min" or mode="max"')
    return is_higher


class EarlyStopping(Settings):
    """Stops `Trainer.fit` after `patience` epochs in which `monitor` did not improve on its best value.

    At the end, the state of the best epoch is restored: parameters, optimizer, average, and the trainer's lr, schedule, steps and epoch.

    patience: the number of epochs to wait for an improvement, at least 1.
    monitor: the entry of the records to watch: "val_loss", "loss", or the name of a metric of this fit. With validation rows,
    "val_accuracy" means "accuracy", which remains the name of the entry, and so on. For several outputs also the loss of one:
    "val_loss_policy", "loss_0".
    mode: "min" if lower is better, "max" if higher is better. None, the default: "max" for "r2", "f1", "auc", "top_3", "accuracy" and names
    that end in _accuracy or _score; "min" for "loss", "rmse", "mae", "brier", "pinball" and names that end in _loss or _error; other names
    need a mode. A metric of an output, such as "accuracy_policy", is as the metric.
    min_delta: the smallest improvement that counts, at least 0, in the unit of `monitor`.
    ties: which of several epochs with the best value is the best one, "first" or "last". "last" suits metrics with few values, such as
    accuracy: of equally good networks, it takes the one that was trained longest (Holzmueller, Grinsztajn & Steinwart 2024).

    start_from_epoch: no epoch before this one, by `t.epoch`, is the best one; 0, the default: all epochs count.

    Same rule as Keras' EarlyStopping(restore_best_weights=True).

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
    ties: Literal["first", "last"] = "first"
    start_from_epoch: Annotated[int, whole(0)] = 0

    def __post_init__(self) -> None:
        higher_is_better(self.monitor, self.mode)
