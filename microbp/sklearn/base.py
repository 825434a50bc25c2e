"""NetEstimator: what estimators share. It reads rows, creates network and trainer, trains, and keeps scikit-learn's attributes.

What fit(X, y) does, with the file of each step:

1. Check the parameters: parameters.py (checked).
2. Check X and y with scikit-learn's functions; turn y into targets: the estimator's `_read`. Turn sample_weight and class_weight into
   weights, and leave out rows of weight 0: weights.py.
3. In the first fit, create a network and a trainer: parameters.py (build), the estimator's `_goal` (goals.py). `partial_fit`, and `fit`
   with warm_start=True, continue with them, and with the parameters that have changed since: `_renew`.
4. Hold out rows for early stopping, or read eval_set: `_validation`.
5. Train: `Trainer.fit` with a callback that follows scikit-learn's rules (stopping.py), or one that uses all rows at once (solvers.py).
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
from scipy.sparse import csr_array
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from ..core.text import brief
from ..data.arrays import Array, as_rows
from ..data.sparse import SparseRows, is_sparse
from ..network.network import Network
from ..settings import optimizers
from ..training import trainer_file
from ..training.trainer import Trainer
from . import hooks, parameters, solvers, stopping
from . import weights as row_weights
from .explained import explain
from .goals import Goal, Rows
from .hooks import HasCallbacks

DTYPES = (np.dtype(np.float64), np.dtype(np.float32))  # a network computes in the dtype of X, where it is one of these
_WHOLE = tuple(np.dtype(code) for code in "?" + np.typecodes["AllInteger"])
_BATCH = 200  # rows per update, at most, with batch_size="auto"


class _Views(list[Array]):
    """Views of a network's numbers. An item that is assigned is written into its view; items cannot be added or removed."""

    def __setitem__(self, place: Any, values: Any) -> None:
        places = range(*place.indices(len(self))) if isinstance(place, slice) else [range(len(self))[place]]
        if not isinstance(place, slice):
            self._check_own(places[0], values)
        elif not hasattr(values, "__iter__"):
            raise TypeError(f"there are {len(places)} arrays, so a list of them must be assigned, not {brief(values)}")
        given = list(values) if isinstance(place, slice) else [values]
        if len(given) != len(places):
            raise ValueError(f"there are {len(places)} arrays, but {len(given)} are assigned")
        found = [self._copied(i, value) for i, value in zip(places, given, strict=True)]  # all, before the first is written
        for i, array in zip(places, found, strict=True):
            self[i][...] = array

    def _refuse(self, *given: Any, **options: Any) -> Any:
        raise TypeError("the arrays of a network cannot be added, removed or moved; assign to them, or take list(...)")

    __delitem__ = __iadd__ = __imul__ = append = clear = extend = insert = pop = remove = reverse = sort = _refuse

    def __reduce__(self) -> Any:
        return _Views, (list(self),)

    def _check_own(self, place: int, value: Any) -> None:
        """ValueError for a view of another array: an exchange of two would write one of them into both."""
        for i, view in enumerate(self):
            if i != place and isinstance(value, np.ndarray) and np.may_share_memory(view, value):
                raise ValueError(f"the array that is assigned to array {place} is a view of array {i}; assign a copy of it: .copy()")

    def _copied(self, place: int, value: Any) -> Array:
        array = np.array(value)
        if array.dtype.kind not in "fiub":
            raise TypeError(f"array {place} must have numbers, but that assigned has the dtype {array.dtype}")
        if array.shape != self[place].shape:
            raise ValueError(f"array {place} has the shape {self[place].shape}, but that assigned has {array.shape}")
        with np.errstate(over="ignore"):
            array = array.astype(self[place].dtype)
        if not np.isfinite(array).all():
            raise ValueError(f"array {place} must be finite, but that assigned has NaN or infinity")
        return array


def no_text(X: Any) -> Any:
    """X, as scikit-learn's functions read it; ValueError if its first row has text, also of digits, which they would convert."""
    if isinstance(X, SparseRows):
        return csr_array((X.data, X.indices, X.indptr), X.shape)
    rows = X.iloc[:1] if hasattr(X, "iloc") else X[:1] if isinstance(X, np.ndarray | list) else ()
    text = [cell for cell in np.asarray(rows, dtype=object).flat if isinstance(cell, str | bytes)]
    if text:
        raise ValueError(f"X has text, {brief(text[0])}, but must have numbers: X.astype(float); for categories, see TableClassifier")
    return X


def dtypes_of(estimator: Any) -> tuple[np.dtype[Any], ...]:
    """The dtypes of X that an estimator does not convert. A network of the user's may have ids, which are whole numbers."""
    return DTYPES if getattr(estimator, "network", None) is None else DTYPES + _WHOLE


def rows_of(X: Any) -> Any:
    """Checked rows: an array, or SparseRows, whose rows can be chosen as those of an array."""
    return as_rows(X, "X") if is_sparse(X) else X


class NetEstimator(HasCallbacks, BaseEstimator):  # type: ignore[misc]  # its bases are not typed
    """An estimator with one network. A class of its own needs an `__init__` with parameters of parameters.py (CHECKS), and `_read` and
    `_goal`."""

    _trainer: Trainer
    _used: dict[str, Any]  # what the network and the trainer were made of
    n_iter_: int
    n_outputs_: int
    out_activation_: str
    best_loss_: float | None
    best_validation_score_: float | None
    validation_scores_: list[float] | None
    validation_loss_curve_: list[float] | None

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        explain(cls)

    def _read(self, X: Any, y: Any, *, first: bool, classes: Any = None) -> tuple[Array, Array]:
        """X and the targets, both checked. first: whether the number of features and the classes are new; they
        become attributes."""
        raise NotImplementedError

    def _goal(self, of: SimpleNamespace) -> Goal:
        """What the network is trained for. `_read` has set the attributes that depend on y."""
        raise NotImplementedError

    def _targets(self, y: Array, goal: Goal) -> Array:
        """The targets as the trainer gets them, from those of `_read`."""
        return y

    def _for_trainer(self, rows: Rows, goal: Goal) -> Rows:
        X, y, weight = rows
        return X, self._targets(y, goal), weight

    def _stratify(self, y: Array) -> Array | None:
        """The classes of the rows, in the same shares of which early stopping holds out rows, where it can; None: in any."""
        return None

    # ---- fit ----

    def _fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        *,
        eval_set: Any = None,
        classes: Any = None,
        incremental: bool = False,
    ) -> Any:
        """Trains for max_iter epochs or less; incremental: for one, and continues. After an error, attributes are as before."""
        of = parameters.checked(self)
        before, lengths = dict(vars(self)), {name: len(value) for name, value in vars(self).items() if type(value) is list}
        continues = self.__sklearn_is_fitted__() and (incremental or of.warm_start)
        trained = self._trainer.__getstate__() if continues else None
        try:
            self._train(of, X, y, sample_weight, eval_set, classes, incremental, continues)
        except BaseException:
            kept = {name: value for name, value in vars(self).items() if name.startswith(hooks.OWN)}
            self.__dict__.clear()
            self.__dict__.update(before | kept)
            for name, length in lengths.items():
                del before[name][length:]
            if trained is not None:
                self._trainer.__setstate__(trained)
                if of.used != self._used:
                    parameters.set_numbers(self._trainer.net, self._used)
            raise
        self._trainer.history.clear()  # loss_curve_ is the estimator's
        return self

    def _train(
        self,
        of: SimpleNamespace,
        X: Any,
        y: Any,
        sample_weight: Any,
        eval_set: Any,
        classes: Any,
        incremental: bool,
        continues: bool,
    ) -> None:
        given = X, y
        X, y = self._read(X, y, first=not continues, classes=classes)
        if continues and not incremental:
            self._check_again(y)
        rows = self._present(of, X, y, sample_weight, incremental)
        seed = None if continues and not of.early_stopping else int(check_random_state(of.random_state).randint(2**31 - 1))
        watches = of.early_stopping and not of.is_solver
        if incremental and of.early_stopping:
            raise ValueError(f"{type(self).__name__}: partial_fit works without early_stopping; pass early_stopping=False, or use fit")
        was_sparse = continues and self._used.get("sparse", False)
        of.used["sparse"] = (isinstance(X, SparseRows) or was_sparse) and not of.is_solver
        if of.used["sparse"] and not was_sparse:
            self._say_what_has_no_penalty(of)
        goal = self._goal(of)
        rows, validation = self._validation(of, rows, eval_set, watches, seed)
        self._check_schedule(of, goal, validation is not None)
        rows, validation = self._for_trainer(rows, goal), None if validation is None else self._for_trainer(validation, goal)
        batch = self._batch_size(of, len(rows[0]))
        if continues:
            self._renew(of, goal, incremental)
        else:
            self._trainer = self._new_trainer(of, goal, rows[0], seed)
            stopping.start(self, watches, validation is not None)
        self._used = of.used
        self._continue(watches, validation is not None)
        with hooks.context(self, of.max_iter, given, sample_weight) as hook:
            if of.is_solver:
                solvers.fit(self, of, self._trainer, goal, rows, hook)
            else:
                self._fit_epochs(of, goal, rows, validation, batch, watches, hook, incremental)
        if not np.isfinite(self._trainer.net.params).all():
            raise ValueError(f"{type(self).__name__}: a weight is not finite after the training; use a lower rate, and scale X and y")

    def _say_what_has_no_penalty(self, of: SimpleNamespace) -> None:
        """Warns of penalties that the user has set, and that do not act on the layer that reads sparse rows."""
        usual = {name: one.default for name, one in inspect.signature(type(self)).parameters.items()}
        given = {name: getattr(of, name) for name in ("alpha", "l1") if of.network is None and name in usual}
        for name, value in given.items():
            if value not in (0, usual[name]):
                line = f"{name}={value:g} does not act on the first layer, because X is sparse"
                hooks.warn(self, f"{line}; for a decay of its weights, use solver=bp.AdamW(lr=..., weight_decay=...)")

    def _check_schedule(self, of: SimpleNamespace, goal: Goal, validates: bool) -> None:
        """ValueError if the schedule watches a number of the validation rows which is not there."""
        monitor = getattr(of.schedule, "monitor", "")
        if not monitor.startswith("val_") or (validates and goal.mean_of == 1):
            return
        if validates:
            hint = f"which is not measured for {goal.columns} targets by squared_error; use loss='mse'"
        else:
            hint = "which needs validation rows; pass early_stopping=True"
        raise ValueError(f'{of.estimator}: schedule monitors "{monitor}", {hint}, or monitor="loss" in the schedule')

    def _check_again(self, y: Array) -> None:
        """Checks the targets of a fit that continues. ValueError: they do not fit those of the first fit."""

    def _renew(self, of: SimpleNamespace, goal: Goal, incremental: bool) -> None:
        """Gives the network and the trainer the parameters that have changed since the last fit."""
        now, old = of.used, self._trainer
        changed = {name for name in now.keys() | self._used.keys() if now.get(name) != self._used.get(name)}
        parameters.check_fixed(self, changed)
        if changed & {"alpha", "l1", "n_threads", "sparse"}:
            parameters.set_numbers(old.net, now)
        if changed & {"solver", "learning_rate"}:
            self._trainer = self._trainer_of(old.net, of, goal, old.seed)
            self._trainer.epoch = old.epoch
            if optimizers.parse(old.optimizer).name == optimizers.parse(self._trainer.optimizer).name:
                self._trainer.steps = old.steps
                for name, values in old.state.items():
                    self._trainer.state[name][...] = values
            rates = [getattr(one["solver"], "lr", None) for one in (now, self._used)]
            if "learning_rate" not in changed and stopping.lowers_rate(of) and rates[0] == rates[1]:
                self._trainer.lr = old.lr
            if "learning_rate" not in changed:
                stopping.set_rate(self._trainer, of, self.t_)
        if stopping.lowers_rate(of) and not incremental and self._stale_epochs > of.n_iter_no_change:
            self._trainer.lr = of.learning_rate_init  # the last fit ended with the lowest

    def _continue(self, watches: bool, validates: bool) -> None:
        """What a fit resets, of which there may have been others."""
        self.n_iter_ = 0
        if validates and self.validation_scores_ is None:
            self.validation_scores_, self.validation_loss_curve_ = [], []
        if watches and self.best_validation_score_ is None:
            self.best_loss_, self.best_validation_score_ = None, -np.inf
        if not watches and self.best_loss_ is None:
            self.best_loss_, self.best_validation_score_ = np.inf, None

    def _present(self, of: SimpleNamespace, X: Array, y: Array, sample_weight: Any, incremental: bool) -> Rows:
        """The rows with a weight above 0."""
        weight = row_weights.read(sample_weight, X, y)
        weight = self._class_weighted(of, y, weight, incremental)
        return row_weights.present(X, y, weight)

    def _class_weighted(self, of: SimpleNamespace, y: Array, weight: Array | None, incremental: bool) -> Array | None:
        """The weights, times those of the classes."""
        return weight

    def _batch_size(self, of: SimpleNamespace, rows: int) -> int:
        if of.batch_size is not None and of.batch_size > rows:
            hooks.warn(self, f"batch_size is {of.batch_size}, but there are {rows} rows, which become one batch")
        return min(of.batch_size or _BATCH, rows)

    def _new_trainer(self, of: SimpleNamespace, goal: Goal, X: Array, seed: int | None) -> Trainer:
        dtype = X.dtype if X.dtype in DTYPES else DTYPES[0]
        net = parameters.build(of, X.shape[1], goal.columns, dtype.name, seed or 0)
        parameters.set_numbers(net, of.used)
        trainer = self._trainer_of(net, of, goal, seed)
        self.n_outputs_ = goal.columns
        self.out_activation_ = goal.activation
        return trainer

    def _trainer_of(self, net: Network, of: SimpleNamespace, goal: Goal, seed: int | None) -> Trainer:
        return Trainer(net, goal.loss, of.optimizer, [goal.loss_weight], seed, penalty_per_row=of.network is None)

    def _fit_epochs(
        self,
        of: SimpleNamespace,
        goal: Goal,
        rows: Rows,
        validation: Rows | None,
        batch: int,
        watches: bool,
        hook: list[Callable[..., Any]],
        incremental: bool,
    ) -> None:
        X, y, weight = rows
        epochs = 1 if incremental else of.max_iter
        progress = stopping.Progress(self, of, self._trainer, goal, rows, validation, watches)
        settings = {"shuffle": of.shuffle, "schedule": of.schedule, "max_time": of.max_time, "progress": False}
        if validation is not None and goal.mean_of == 1:
            settings |= {"validation": validation, "metrics": goal.metric or ()}
        try:
            calls = [progress, *of.callback, *hook]
            self._trainer.fit(X, y, epochs=epochs, batch_size=batch, sample_weight=weight, callback=calls, **settings)
        except FloatingPointError as error:
            raise ValueError(f"{type(self).__name__}: {error}") from error
        except KeyboardInterrupt:
            if not self.n_iter_:
                raise  # and the estimator is as before
            which = "best epoch" if progress.has_best else "last update"
            hooks.warn(self, f"the training was interrupted; the model is that of the {which}")
        finally:
            progress.restore_best()
        if self.n_iter_ == of.max_iter and not progress.is_over and not incremental:
            line = f"the training ended after max_iter={of.max_iter} epochs, while it still improved; raise max_iter, or learning_rate_init"
            hooks.warn(self, line, ConvergenceWarning)

    # ---- validation rows ----

    def _validation(self, of: SimpleNamespace, rows: Rows, eval_set: Any, watches: bool, seed: int | None) -> tuple[Rows, Rows | None]:
        """The rows to train on, and those to validate with: eval_set, or some of the rows with early stopping."""
        if eval_set is not None:
            if of.is_solver:
                raise ValueError(
                    f"{type(self).__name__}: eval_set works with epochs, but solver is {parameters.solver_text(of.solver)}; use another one"
                )
            return rows, parameters.naming(of.estimator, "eval_set", lambda: self._eval_rows(eval_set))
        if not watches:
            return rows, None
        from sklearn.model_selection import train_test_split  # imported here: it takes longer to import than all else

        index, X, y, weight = np.arange(len(rows[0])), *rows
        count = math.ceil(of.validation_fraction * len(X))
        if count < 2:
            has = f"validation_fraction={of.validation_fraction} of {len(X)} rows is {count}"
            raise ValueError(f"{type(self).__name__}: the validation set is too small: {has}; raise it, or add rows")
        if count >= len(X):
            has = f"validation_fraction={of.validation_fraction} of {len(X)} rows leaves none to train on"
            raise ValueError(f"{type(self).__name__}: {has}; lower it, or add rows")
        classes = self._stratify(y)
        if classes is not None:
            sizes = np.unique(classes, return_counts=True)[1]
            if sizes.min() < 2 or min(count, len(X) - count) < len(sizes):  # train_test_split would refuse
                classes = None
        trained, held_out = train_test_split(index, test_size=of.validation_fraction, random_state=seed, stratify=classes)
        parts = [(X[i], y[i], None if weight is None else weight[i]) for i in (trained, held_out)]
        return parts[0], parts[1]

    def _eval_rows(self, eval_set: Any) -> Rows:
        if not isinstance(eval_set, tuple | list) or len(eval_set) not in (2, 3):
            raise ValueError("eval_set must be (X, y) or (X, y, sample_weight)")
        X, y = self._read(*eval_set[:2], first=False)
        return row_weights.present(X, y, row_weights.read(eval_set[2] if len(eval_set) == 3 else None, X, y))

    # ---- predictions ----

    def _outputs(self, X: Any, *, raw: bool = False, out: Any = None) -> Array:
        """The network's outputs for checked rows; raw: before the output activation."""
        X = self._features(X)
        return self._trainer.net.predict(X, raw, out)

    def _features(self, X: Any) -> Array:
        """X as an array, checked."""
        if "_trainer" in self.__dict__ and self._is_plain(X):
            return X  # type: ignore[no-any-return]
        check_is_fitted(self)
        X = validate_data(self, no_text(X), accept_sparse="csr", dtype=dtypes_of(self), reset=False)
        return rows_of(X)  # type: ignore[no-any-return]

    def _is_plain(self, X: Any) -> bool:
        """Whether X is what validate_data would return: an array of finite floats with the right number of columns. This test takes 1 % of
        its time."""
        return (
            type(X) is np.ndarray
            and X.ndim == 2
            and X.dtype in DTYPES
            and X.shape[1] == self.n_features_in_
            and len(X) > 0
            and "feature_names_in_" not in self.__dict__
            and math.isfinite(np.vdot(X, X))  # not if a value is not finite, or too large: then validate_data decides
        )

    # ---- attributes ----

    @property
    def net(self) -> Network:
        """The trained bp.Network."""
        check_is_fitted(self)
        return self._trainer.net

    @property
    def coefs_(self) -> _Views:
        """The weights of the dense layers, (inputs, outputs) each, as views: what is written into them, or assigned, is used."""
        return _Views(tensor.T for name, tensor in self._fitted().tensors.items() if name.endswith(".weight"))

    @coefs_.setter
    def coefs_(self, values: Any) -> None:
        parameters.naming(type(self).__name__, "coefs_", lambda: self.coefs_.__setitem__(slice(None), values))

    @property
    def intercepts_(self) -> _Views:
        """The biases of the dense layers, as views."""
        return _Views(tensor for name, tensor in self._fitted().tensors.items() if name.endswith(".bias"))

    @intercepts_.setter
    def intercepts_(self, values: Any) -> None:
        parameters.naming(type(self).__name__, "intercepts_", lambda: self.intercepts_.__setitem__(slice(None), values))

    @property
    def n_layers_(self) -> int:
        """The number of layers, with the input and the output."""
        return len(self.coefs_) + 1

    def _fitted(self) -> Network:
        if "_trainer" not in self.__dict__:
            raise AttributeError(f"this {type(self).__name__} is not fitted yet; call fit")
        return self._trainer.net

    def __sklearn_is_fitted__(self) -> bool:
        return "_trainer" in self.__dict__

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    # ---- copies and files ----

    def __getstate__(self) -> dict[str, Any]:
        """The trainer as bytes of a file, which any pickler keeps."""
        state = dict(super().__getstate__())
        trainer = state.pop("_trainer", None)
        if trainer is not None:
            state["_saved"] = trainer_file.to_bytes(trainer.net, trainer.__getstate__())
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        state = dict(state)
        saved = state.pop("_saved", None)
        super().__setstate__(state)
        if saved is not None:
            loss = self._used["loss"]
            self._trainer = trainer_file.from_bytes(Trainer, saved, None, self._used.get("n_threads"), loss if callable(loss) else None)
