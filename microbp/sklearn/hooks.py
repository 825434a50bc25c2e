"""What estimators tell meanwhile: warnings, and the callbacks of scikit-learn 1.9 and newer, `estimator.set_callbacks(ProgressBar())`.
Older versions have none."""

from __future__ import annotations

import contextlib
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any, TypeVar, cast

F = TypeVar("F", bound=Callable[..., Any])

try:
    from sklearn import callback as _callback
except ImportError:  # scikit-learn < 1.9
    _callback = None

HasCallbacks: Any = object if _callback is None else _callback.CallbackSupportMixin


def with_callbacks(fit: F) -> F:
    """A method `fit` that ends its callbacks too, where there are callbacks."""
    return fit if _callback is None else cast(F, _callback.with_callbacks(fit))


def warn(estimator: Any, line: str, category: type[Warning] = UserWarning) -> None:
    """Warns, with the place where the user's code called scikit-learn or microbp."""
    frame, level = sys._getframe(), 1
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] in ("microbp", "sklearn", "joblib"):
        frame, level = frame.f_back, level + 1
    warnings.warn(f"{type(estimator).__name__}: {line}", category, stacklevel=level)


OWN = ("_callback", "_skl_callbacks", "_parent_callback")  # the beginnings of scikit-learn's attributes for callbacks


@contextlib.contextmanager
def context(estimator: Any, epochs: int, data: tuple[Any, Any], sample_weight: Any) -> Iterator[list[Callable[..., bool]]]:
    """Functions for `Trainer.fit` that call scikit-learn's callbacks after each epoch: one, or none where nobody listens."""
    if not hasattr(estimator, "_skl_callbacks") and not hasattr(estimator, "_parent_callback_ctx"):
        yield []
        return
    told = {"estimator": estimator, "X": data[0], "y": data[1]}
    told["metadata"] = {} if sample_weight is None else {"sample_weight": sample_weight}
    whole = estimator._init_callback_context(max_subtasks=epochs)
    whole.call_on_fit_task_begin(**told)
    tasks = [whole.subcontext(task_name="epoch 1").call_on_fit_task_begin(**told)]

    def after_epoch(record: Any) -> bool:
        stops = tasks.pop().call_on_fit_task_end(**told, reconstruction_attributes=lambda: _fitted(estimator))
        if not stops and estimator.n_iter_ < epochs:
            tasks.append(whole.subcontext(task_name=f"epoch {estimator.n_iter_ + 1}").call_on_fit_task_begin(**told))
        return bool(stops)

    yield [after_epoch]
    whole.call_on_fit_task_end(**told, reconstruction_attributes=lambda: _fitted(estimator))


def _fitted(estimator: Any) -> dict[str, Any]:
    """The attributes of an estimator that could predict now; they share its network."""
    given = estimator.get_params(deep=False)
    return {name: value for name, value in vars(estimator).items() if name not in given and not name.startswith(OWN)}
