"""Training with several values of a setting, or from several seeds, to compare them or to keep the best."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from .._doors import door
from ..core.checks import flag, string, whole_number
from ..core.text import brief, counted
from ..data.arrays import Array
from ..settings.stopping import higher_is_better
from ..training.measure import check_monitor, held_out, measure
from ..training.trainer import Trainer
from . import workers
from .making import make
from .train_many import checked_arguments, train_each

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_SHOWN = 20  # values in `print(result)`


@dataclass(frozen=True, repr=False, eq=False)
class Sweep:
    """What `bp.sweep` has trained: a trainer for each value of a setting.

    values: the values of the setting, as they were given. name: of the setting. trainers: the trained trainers. scores: of each trainer,
    the value of `monitor` on the validation rows after training; NaN if its training failed. monitor: the entry that is compared. rises:
    whether higher is better. errors: those of the trainings that failed, by the number of the value. histories: of the trainers.

    >>> X = np.linspace(-1, 1, 60).reshape(-1, 1)
    >>> def new(lr):
    ...     return bp.Trainer(bp.mlp([1, 8, 1], seed=0), loss="mse", optimizer=bp.Adam(lr=lr))
    >>> result = bp.sweep(new, [1e-4, 1e-2], X, np.sin(X), epochs=20)
    >>> result.name, result.best, result.best_trainer is result.trainers[1]
    ('lr', 0.01, True)
    """

    name: str
    values: tuple[Any, ...]
    trainers: tuple[Trainer, ...]
    scores: Array
    monitor: str
    rises: bool
    errors: dict[int, Exception] = field(default_factory=dict)

    @property
    def histories(self) -> list[dict[str, list[float]]]:
        """The history of each trainer."""
        return [trainer.history for trainer in self.trainers]

    @property
    def best(self) -> Any:
        """The value whose trainer has the best score; of several, the first."""
        return self.values[self._best]

    @property
    def best_trainer(self) -> Trainer:
        """The trainer with the best score; of several, the first."""
        return self.trainers[self._best]

    @property
    def _best(self) -> int:
        return int(np.nanargmax(self.scores if self.rises else -self.scores))

    def plot(self, ax: Axes | None = None, *, curves: bool = False) -> Axes:
        """Plots the score of each value, or with curves=True the validation curve of each: its loss against the epochs. Needs matplotlib.

        ax: the axes to draw on; if None, those of a new figure. Returns the axes. `bp.plot.sweep(result)` does the same.

        >>> X = np.linspace(-1, 1, 60).reshape(-1, 1)
        >>> result = bp.sweep(lambda units: bp.Trainer(bp.mlp([1, units, 1]), "mse"), [2, 8], X, X**2, epochs=3)
        >>> result.plot().get_xlabel()
        'units'
        """
        axes: Axes = door("Sweep.plot")(self, ax, curves=flag("plot: curves", curves))
        return axes

    def __repr__(self) -> str:
        head = f"Sweep: {self.name}, {counted(len(self.values), 'value')}, {self.monitor}"
        marks = {self._best: "  the best"} | {int(i): "  failed" for i in np.flatnonzero(np.isnan(self.scores))}
        lines = [f"{brief(self.values[i]):>12}  {score:.4g}{marks.get(i, '')}" for i, score in enumerate(self.scores[:_SHOWN].tolist())]
        return "\n".join([head, *lines] + [f"... and {len(self.values) - _SHOWN} more"] * (len(self.values) > _SHOWN))


def sweep(
    make_trainer: Callable[[Any], Trainer],
    values: Sequence[Any],
    X: Any,  # noqa: N803
    y: Any,
    *,
    epochs: int,
    validation: Any = 0.2,
    monitor: str = "val_loss",
    mode: Literal["min", "max"] | None = None,
    executor: Executor | None = None,
    **fit: Any,
) -> Sweep:
    """Trains a trainer for each value of a setting, several at a time, and measures all of them on the same validation rows.

    make_trainer: a function that gets a value and returns a new bp.Trainer with a network of its own; the name of its parameter is the
    name of the setting. It is called for all values before the first training. values: any values; for a learning rate, orders of
    magnitude such as 10.0 ** np.arange(-5, 1).
    X, y: as in `fit`; rows in memory. validation: the rows to hold out, a fraction (`fit` of the first trainer holds out the same rows) or
    an array of their indices; or other rows, (X, y), (X, y, weight) or (X, y, weight, lengths). monitor: the entry to compare, "val_loss"
    or one of metrics=, both of the validation rows; with patience= it also stops the trainings. mode: "min" or "max"; None: determined by
    its name.
    epochs, fit: as in `fit`, the same for all. executor: as in `train_many`.

    A training that fails has the score NaN, and its error is in `errors`; a RuntimeWarning names it, unless only a number was not finite,
    as with a learning rate that is too high. If all fail, the first error is raised. ValueError or TypeError: an argument is invalid.

    >>> X = np.linspace(-1, 1, 60).reshape(-1, 1)
    >>> def new(lr):
    ...     return bp.Trainer(bp.mlp([1, 8, 1], seed=0), loss="mse", optimizer=bp.SGD(lr=lr))
    >>> bp.sweep(new, [1e-5, 1e-1], X, np.sin(X), epochs=20).best
    0.1
    """
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise TypeError(f"sweep: values must be a list of values of the setting, not {brief(values)}")
    values = tuple(values)
    if not values:
        raise ValueError("sweep: values is empty; pass at least one")
    return _compared("sweep", make_trainer, values, X, y, validation, monitor, mode, executor, {"epochs": epochs} | fit)


def _compared(
    what: str,
    make_trainer: Callable[[Any], Trainer],
    values: tuple[Any, ...],
    X: Any,  # noqa: N803
    y: Any,
    validation: Any,
    monitor: str,
    mode: Literal["min", "max"] | None,
    executor: Executor | None,
    fit: dict[str, Any],
) -> Sweep:
    """Trains and compares the trainers of all values. what: the function that the caller called. The other arguments: as of `sweep`."""
    metrics = fit.get("metrics", ())
    if fit.get("carry_state"):
        raise ValueError(f"{what}: carry_state is not one of its arguments, because the comparison measures each row from zeros")
    rises = higher_is_better(string(f"{what}: monitor", monitor), mode)
    trainers = make(what, make_trainer, values)
    check_monitor(trainers[0], what, monitor, metrics)
    held = _validation_rows(what, trainers[0], X, y, validation, fit)
    arguments = {"progress": False, "validation": held} | checked_arguments(fit, what)
    if arguments.get("patience") is not None:
        arguments |= {"monitor": monitor, "mode": mode}
    errors = train_each(trainers, [(X, y)] * len(trainers), [arguments] * len(trainers), executor)
    name = _name_of(make_trainer)
    named = what, name + "={}", [brief(value) for value in values]
    workers.check_some(errors, *named, {i: error for i, error in errors.items() if not isinstance(error, FloatingPointError)}, level=3)
    rows: dict[str, Any] = {"index": held} if isinstance(held, np.ndarray) else {}
    data = (X, y, fit.get("sample_weight"), fit.get("lengths")) if rows else held
    measured = [{} if i in errors else measure(trainer, *data, **rows, metrics=metrics) for i, trainer in enumerate(trainers)]
    scores = np.array([found.get(monitor.removeprefix("val_"), math.nan) for found in measured])
    if np.isnan(scores).all():
        raise FloatingPointError(f"{what}: {monitor} is NaN for all values; check X and y for NaN and infinity")
    return Sweep(name, values, tuple(trainers), scores, monitor, rises, errors)


def train_best(
    make_trainer: Callable[[int], Trainer],
    X: Any,  # noqa: N803
    y: Any,
    *,
    n_init: int = 8,
    epochs: int,
    validation: Any = 0.2,
    monitor: str = "val_loss",
    mode: Literal["min", "max"] | None = None,
    executor: Executor | None = None,
    **fit: Any,
) -> Trainer:
    """Trains from several initial weights, and returns the trainer that is best on the validation rows.

    make_trainer: a function that gets the numbers 0 to n_init - 1, and returns a new bp.Trainer: use the number as the network's seed.
    validation: the rows that choose. By default a fifth of the rows is held out: the same rows for all trainers, none of which is trained
    on them. Because they choose, the best trainer's loss of them is a little lower than that of new rows: measure it on others. The other
    arguments: as in `sweep`.

    >>> X = np.linspace(-1, 1, 60).reshape(-1, 1)
    >>> t = bp.train_best(lambda seed: bp.Trainer(bp.mlp([1, 8, 1], seed=seed), "mse"), X, np.sin(X), n_init=4, epochs=20)
    >>> t.net.seed in range(4)
    True
    """
    seeds = tuple(range(whole_number(n_init, "train_best: n_init")))
    return _compared("train_best", make_trainer, seeds, X, y, validation, monitor, mode, executor, {"epochs": epochs} | fit).best_trainer


def _validation_rows(what: str, trainer: Trainer, X: Any, y: Any, validation: Any, fit: dict[str, Any]) -> Any:  # noqa: N803
    """The argument `validation` of fit that gives all trainers the same rows."""
    if validation is None:
        raise ValueError(f"{what}: validation is None, but the comparison needs rows: pass a fraction, an array of row indices, or (X, y)")
    if isinstance(validation, tuple | list | np.ndarray):
        return validation
    return held_out(trainer, X, y, fit.get("sample_weight"), fit.get("lengths"), fit.get("rows"), validation)


def _name_of(make_trainer: Callable[..., Any]) -> str:
    """The name of the function's first parameter."""
    try:
        return next(iter(inspect.signature(make_trainer).parameters), "value")
    except (TypeError, ValueError):  # some functions of C have no signature
        return "value"
