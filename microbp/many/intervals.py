"""Conformal: intervals and sets of classes that contain the target with a stated probability (split conformal prediction).

A score tells how badly a prediction fits a target. Of n calibration rows, take the k-th smallest score, k = ceil((n + 1) coverage). A new
row exceeds it with a probability of at most 1 - coverage, for any model and any distribution, if the n + 1 rows are exchangeable (Vovk,
Gammerman & Shafer 2005; Lei et al. 2018, "Distribution-free predictive inference for regression").
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Sequence
from typing import Any, Literal, Self, TypeAlias

import numpy as np

from ..core.attributes import Closed
from ..core.checks import one_of, real
from ..core.specs import Loss
from ..core.text import brief, counted
from ..data.arrays import Array, as_array
from ..network.network import Network
from ..training.trainer import Trainer
from .ensemble import Ensemble

Method: TypeAlias = Literal["absolute", "scaled", "quantile", "lac", "aps"]

# What methods for numbers need of the model.
_NEEDS = {
    "absolute": "one number for each target",
    "scaled": "one number for each target, and its spread",
    "quantile": "several quantiles of each target",
}
_OF_CLASSES = ("lac", "aps")
_ROUNDING = 1e-12  # relative, of a product such as 0.9 * 10
_SLACK = 1e-3  # of sums of probabilities, which may be float32, or rounded


class Conformal(Closed):
    """Adds intervals, or sets of classes, to a trained model: new targets lie in them with the probability `coverage`.

    model: a Network, Trainer or Ensemble with one output, a TableModel, an estimator with `predict` or `predict_proba`, or a function of X
    that returns predictions, of shape (rows,) or (rows, columns), or a pair of predictions and their spread. coverage: in (0,1).
    method: None chooses the first that fits.
    "scaled": the error, divided by the spread of the prediction: of an Ensemble, of a Trainer with the loss "gaussian_nll", of an estimator
    whose `predict` has return_std, or of a function that returns it (Lei et al. 2018, section 5.2). Where the spread is 0, the interval is
    one number; if more of the calibration rows than the coverage spares have a spread of 0 and an error, intervals are infinite.
    "quantile": for a model that predicts several quantiles of each target, how far the target is outside of them (conformalized quantile
    regression, Romano, Patterson & Candes 2019); None chooses it for a QuantileRegressor and a Trainer with the loss "quantile", and it
    must be given for other models. "absolute": the absolute error; all intervals have the same width. "lac": for classes, 1 minus the
    probability of the class (Sadinle, Lei & Wasserman 2019): the smallest sets, which may be empty. "aps": the probabilities of the class
    and of those that are likelier (Romano, Sesia & Candes 2020, without the random part): larger sets, whose coverage depends less on the
    row.

    `fit` calibrates the model on rows that it was not trained on. The coverage is that of new rows from the same source, on average over
    calibration rows: of n rows, it is between coverage and coverage + 1 / (n + 1) if no scores are equal. It is not that of each kind of
    rows by itself. Each of several targets has intervals of its own. Objects can be pickled if their model can.

    >>> rng = np.random.default_rng(0)
    >>> X = rng.uniform(-1, 1, (900, 1))
    >>> y = X[:, 0] ** 2 + rng.normal(scale=0.1, size=900)
    >>> t = bp.Trainer(bp.mlp([1, 16, 1], seed=0), loss="mse", optimizer=bp.Adam(lr=0.01))
    >>> history = t.fit(X[:300], y[:300], epochs=60)
    >>> conformal = bp.Conformal(t, coverage=0.9).fit(X[300:600], y[300:600])
    >>> low, high = conformal.predict_interval(X[600:])
    >>> 0.85 < conformal.evaluate(X[600:], y[600:])["coverage"] < 0.95
    True
    """

    __slots__ = ("__weakref__", "_classes", "_coverage", "_given", "_is_flat", "_method", "_model", "_quantile", "_rows")

    def __init__(self, model: Any, coverage: float = 0.9, *, method: Method | None = None) -> None:
        self._model = model
        self._coverage: float = real("(0,1)")("Conformal: coverage", coverage)
        self._given = None if method is None else one_of(*_NEEDS, *_OF_CLASSES)("Conformal: method", method)
        self._classes = _classes_for(model, self._given)
        self._method: str | None = None
        self._rows = 0

    # ---- parts ----

    @property
    def model(self) -> Any:
        """The model."""
        return self._model

    @property
    def coverage(self) -> float:
        """The probability with which intervals and sets contain the target."""
        return self._coverage

    @property
    def method(self) -> str | None:
        """The method; None before `fit`, if it was not given."""
        return self._method or self._given

    @property
    def rows(self) -> int:
        """The number of calibration rows; 0 before `fit`."""
        return self._rows

    @property
    def classes(self) -> tuple[Any, ...] | None:
        """The classes, in the order of the columns of `predict_set`; None for numbers."""
        return self._classes

    @property
    def quantile(self) -> Array:
        """The score that intervals and sets reach up to: for numbers one of each target, shape (targets,), else shape (1,)."""
        self._check_fitted()
        return self._quantile

    def __repr__(self) -> str:
        after = f"method {self.method!r}, {counted(self.rows, 'calibration row')}" if self.rows else "not fitted"
        return f"Conformal({type(self.model).__name__}, coverage={self.coverage:g}): {after}"

    # ---- calibration ----

    def fit(self, X: Any, y: Any) -> Self:  # noqa: N803
        """Calibrates the model on these rows, and returns the object itself. The rows must not be among those of the training.

        X: what the model takes. y: the targets, shape (rows,) or (rows, targets); for classes the class of each row, as in `classes`. With
        n rows, coverage can be at most n / (n + 1): 0.9 needs 9 rows, 0.99 needs 99. ValueError: there are fewer, or X or y do not fit.

        >>> conformal = bp.Conformal(lambda X: X[:, 0], coverage=0.8).fit(np.zeros((4, 1)), [0.1, -0.2, 0.3, -0.4])
        >>> conformal.quantile, conformal.method
        (array([0.4]), 'absolute')
        """
        classes = _classes_for(self._model, self._given)  # again: an estimator may have been fitted since
        predicted = _Predicted(self._model, X, self._given)
        if classes is None and self._given in _OF_CLASSES:
            classes = tuple(range(max(predicted.center.shape[1], 2)))
        if classes is None:
            targets, is_flat = _numbers(y, len(predicted.center))
            method = _method_for(self._model, self._given, predicted, targets.shape[1])
            scores = _misfit(targets, *_band(method, predicted, targets.shape[1]))
        else:
            method, is_flat = self._given or _OF_CLASSES[0], False
            each = _class_scores(method, predicted.probabilities(len(classes)))
            scores = np.take_along_axis(each, _index(y, classes, len(each))[:, None], axis=1)
        self._quantile = _quantile(scores, self._coverage)
        self._classes, self._method, self._is_flat, self._rows = classes, method, is_flat, len(scores)
        return self

    # ---- predicting ----

    def predict_interval(self, X: Any) -> tuple[Array, Array]:  # noqa: N803
        """The lowest and the highest value of the interval of each row: two arrays of shape (rows,), or (rows, targets) if y had columns.

        >>> conformal = bp.Conformal(lambda X: X[:, 0], coverage=0.8).fit(np.zeros((4, 1)), [0.1, -0.2, 0.3, -0.4])
        >>> conformal.predict_interval([[1.0], [2.0]] * np.ones(1))
        (array([0.6, 1.6]), array([1.4, 2.4]))
        """
        self._check_fitted()
        if self._classes is not None:
            raise ValueError("predict_interval is for numbers, but the model predicts classes; call predict_set")
        low, high, scale = _band(str(self._method), _Predicted(self._model, X, self._method), len(self._quantile))
        with np.errstate(over="ignore", invalid="ignore"):
            margin = np.where(np.isinf(self._quantile), np.inf, self._quantile * scale)  # also where the spread is 0
            low, high = low - margin, high + margin
        crossed = low > high  # a negative quantile can exchange them
        low[crossed] = high[crossed] = low[crossed] / 2 + high[crossed] / 2
        return (low[:, 0], high[:, 0]) if self._is_flat else (low, high)

    def predict_set(self, X: Any) -> Array:  # noqa: N803
        """Which classes are in the set of each row: an array of bools of shape (rows, classes).

        >>> chances = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.7, 0.3]])
        >>> conformal = bp.Conformal(lambda X: X, coverage=0.75, method="lac").fit(chances, [0, 1, 0, 0])
        >>> conformal.predict_set(np.array([[0.95, 0.05], [0.5, 0.5]]))
        array([[ True, False],
               [False, False]])
        """
        self._check_fitted()
        if self._classes is None:
            raise ValueError("predict_set is for classes, but the model predicts numbers; call predict_interval")
        chances = _Predicted(self._model, X, self._method).probabilities(len(self._classes))
        return np.asarray(_class_scores(str(self._method), chances) <= self._quantile)

    def evaluate(self, X: Any, y: Any) -> dict[str, float]:  # noqa: N803
        """The "coverage" of these rows, the share of targets in their interval or set, and the mean "width" of intervals or "size" of sets.

        >>> conformal = bp.Conformal(lambda X: X[:, 0], coverage=0.8).fit(np.zeros((4, 1)), [0.1, -0.2, 0.3, -0.4])
        >>> conformal.evaluate(np.zeros((2, 1)), [0.0, 1.0])
        {'coverage': 0.5, 'width': 0.8}
        """
        self._check_fitted()
        if self._classes is not None:
            chosen = _some(self.predict_set(X))
            index = _index(y, self._classes, len(chosen))
            return {"coverage": float(chosen[np.arange(len(chosen)), index].mean()), "size": float(chosen.sum(axis=1).mean())}
        low, high = map(_some, self.predict_interval(X))
        targets, _ = _numbers(y, len(low))
        low, high = low.reshape(len(low), -1), high.reshape(len(high), -1)
        if targets.shape != low.shape:
            raise ValueError(f"y has {counted(targets.shape[1], 'column')}, but the intervals are of {counted(low.shape[1], 'target')}")
        return {"coverage": float(((low <= targets) & (targets <= high)).mean()), "width": float((high - low).mean())}

    def _check_fitted(self) -> None:
        if not self._rows:
            raise ValueError("this Conformal is not calibrated yet: call fit(X, y) with rows that the model was not trained on")


# ---- models ----


class _Predicted:
    """What a model predicts for some rows, in float64. center: (rows, columns). spread: the same, or None. method: that which needs it;
    None: any."""

    def __init__(self, model: Any, X: Any, method: str | None) -> None:  # noqa: N803
        found = _call(model, X, method)
        if isinstance(found, tuple) and len(found) != 2:
            raise ValueError(f"Conformal: the model must return predictions, or a pair of them and their spread, not {len(found)} things")
        center, spread = found if isinstance(found, tuple) else (found, None)
        self.center = _matrix(center)
        if hasattr(X, "shape") and not isinstance(model, Network | Trainer | Ensemble) and len(self.center) != X.shape[0]:
            has = f"X has {counted(X.shape[0], 'row')}, but what the model predicts has the shape {np.shape(center)}"
            raise ValueError(f"Conformal: {has}; the first number must be that of the rows (and a pair with a spread must be a tuple)")
        self.spread = None if spread is None else _matrix(spread)
        if self.spread is None:
            return
        if self.spread.shape != self.center.shape:
            raise ValueError(f"Conformal: the predictions have shape {self.center.shape}, but their spread has {self.spread.shape}")
        if (self.spread < 0).any():
            row = int((self.spread < 0).any(axis=1).argmax())
            raise ValueError(f"Conformal: the spread of row {row} is {self.spread[row].min():g}, but must be at least 0")

    def probabilities(self, classes: int) -> Array:
        """(rows, classes)."""
        found = self.center
        if found.shape[1] == 1 and classes == 2:
            found = np.hstack([1 - found, found])
        if found.shape[1] != classes:
            raise ValueError(f"Conformal: the model predicts {counted(found.shape[1], 'column')} for {counted(classes, 'class')}")
        wrong = ((found < 0) | (found > 1 + _SLACK)).any(axis=1) | (np.abs(found.sum(axis=1) - 1) > _SLACK)
        if wrong.any():
            row = int(wrong.argmax())
            values = ", ".join(f"{value:.4g}" for value in self.center[row, :10])
            raise ValueError(
                f"Conformal: the model must predict the probability of each class, with the sum 1, but it predicts {values} for row {row}; "
                "pass a function that returns probabilities"
            )
        return found


def _call(model: Any, X: Any, method: str | None) -> Any:  # noqa: N803
    """The predictions that a method needs, or a pair of them and their spread."""
    if isinstance(model, Trainer) and _loss_of(model) == "gaussian_nll":
        means, variances = np.split(model.predict(X).astype(np.float64), 2, axis=1)
        return means, np.exp(variances / 2)
    if isinstance(model, Ensemble) and len(model) > 1 and _classes_of(model) is None:
        return model.predict(X), model.std(X)
    if isinstance(model, Network | Trainer | Ensemble):
        return model.predict(X)
    if hasattr(model, "best_estimator_"):  # of a search: it tells more than the search
        return _call(model.best_estimator_, X, method)
    if _is_pipeline(model):  # whose last step tells more than its `predict`
        return _call(model[-1], model[:-1].transform(X) if len(model.steps) > 1 else X, method)
    if _has_probabilities(model):
        return model.predict_proba(X)
    if method in (None, "quantile") and hasattr(model, "predict_quantiles"):
        return model.predict_quantiles(X)
    if method in (None, "scaled") and _tells_spread(model):
        return model.predict(X, return_std=True)
    return model.predict(X) if hasattr(model, "predict") else model(X)


def _loss_of(trainer: Trainer) -> str | None:
    """The name of the loss of the first output; None for a function."""
    loss = trainer.losses[0]
    return loss.name if isinstance(loss, Loss) else None


def _is_pipeline(model: Any) -> bool:
    """Whether it is a pipeline of scikit-learn."""
    return isinstance(getattr(model, "steps", None), list) and hasattr(model, "predict")


def _inner(model: Any) -> Any:
    """The estimator in a search or a pipeline that predicts; else the model itself."""
    if hasattr(model, "best_estimator_"):
        return _inner(model.best_estimator_)
    return _inner(model[-1]) if _is_pipeline(model) else model


def _tells_quantiles(model: Any) -> bool:
    """Whether the columns of a model are known to be quantiles."""
    return _loss_of(model) == "quantile" if isinstance(model, Trainer) else hasattr(_inner(model), "predict_quantiles")


def _has_probabilities(model: Any) -> bool:
    return bool(getattr(model, "has_probabilities", hasattr(model, "predict_proba")))


def _tells_spread(estimator: Any) -> bool:
    """Whether `predict` returns the spread too. Some estimators have this argument for some of their losses: those that learn a scale
    beside each target."""
    try:
        arguments = inspect.signature(estimator.predict).parameters
    except (AttributeError, TypeError, ValueError):  # it has no such method, or one of C without a signature
        return False
    loss = getattr(estimator, "_used", {}).get("loss", getattr(estimator, "loss", None))  # of the fit; the parameter may be another now
    name = str(getattr(loss, "name", loss)).partition("(")[0]
    return "return_std" in arguments and (loss is None or name == "gaussian_nll")


def _classes_for(model: Any, given: str | None) -> tuple[Any, ...] | None:
    """The classes of the model; ValueError if a method is not for what it predicts."""
    classes = _classes_of(model)
    if classes is not None and given in _NEEDS:
        raise ValueError(f'Conformal: method {given!r} is for numbers, but the model predicts classes; use "lac" or "aps"')
    if classes is None and given in _OF_CLASSES and hasattr(model, "predict") and not _has_probabilities(model):
        hint = '; for raw outputs of classes, call net.set_output(0, "softmax")' if isinstance(model, Network | Trainer) else ""
        raise ValueError(f"Conformal: method {given!r} is for classes, but the model predicts numbers{hint}")
    return classes


def _classes_of(model: Any) -> tuple[Any, ...] | None:
    """The classes whose probabilities a model predicts; None for numbers, and for functions, which do not tell."""
    if isinstance(model, type):
        raise TypeError(f"Conformal: model is the class {model.__name__}, but must be an object of it that is trained")
    if isinstance(model, Network | Trainer | Ensemble):
        return _classes_of_net(model.net if isinstance(model, Trainer) else model)
    if hasattr(model, "best_estimator_") or _is_pipeline(model):
        return _classes_of(_inner(model))
    if not (hasattr(model, "predict") or hasattr(model, "predict_proba") or callable(model)):
        raise TypeError(f"Conformal: model must be a network, an estimator or a function, not {brief(model)}")
    kind = model.__sklearn_tags__().estimator_type if hasattr(model, "__sklearn_tags__") else None
    if kind not in (None, "classifier", "regressor"):
        raise TypeError(f"Conformal: model must predict numbers or probabilities of classes, but {type(model).__name__} is a {kind}")
    classes = getattr(model, "classes_", getattr(model, "classes", None))
    if classes is None or not len(classes):
        return None
    if not _has_probabilities(model):
        raise ValueError("Conformal: the model predicts classes without probabilities")
    has_labels = getattr(model, "out_activation_", None) == "logistic" and model.n_outputs_ > 1 and getattr(model, "_several", True)
    if np.ndim(classes[0]) or has_labels:  # microbp's MLPClassifier says whether rows have several classes
        raise ValueError(_yes_or_no(len(classes)))
    return tuple(np.asarray(classes).tolist())


def _classes_of_net(net: Network | Ensemble) -> tuple[int, ...] | None:
    if len(net.outputs) > 1:
        raise ValueError(f"Conformal: the model has {len(net.outputs)} outputs; pass a function that returns the predictions of one")
    width, activation = net.outputs[0].width, net.outputs[0].activation
    if activation == "sigmoid" and width > 1:
        raise ValueError(_yes_or_no(width))
    if activation in ("softmax", "sigmoid"):
        return tuple(range(max(width, 2)))
    return None


def _yes_or_no(columns: int) -> str:
    return f"Conformal: each of the {columns} columns is a yes or no of its own; pass a function that returns one of them"


def _matrix(values: Any) -> Array:
    found = as_array(values, "Conformal: what the model predicts").astype(np.float64)
    if found.ndim not in (1, 2) or not np.isfinite(found).all():
        what = f"an array of shape {found.shape}" if found.ndim not in (1, 2) else "NaN or infinity"
        raise ValueError(f"Conformal: the model must predict finite numbers of shape (rows,) or (rows, columns), not {what}")
    return found[:, None] if found.ndim == 1 else found


def _some(rows: Array) -> Array:
    if not len(rows):
        raise ValueError("evaluate: X has no rows; pass at least one")
    return rows


# ---- targets ----


def _known(y: Any) -> Any:
    if y is None:
        raise ValueError("y is None, but must have the target of each row")
    return y


def _numbers(y: Any, rows: int) -> tuple[Array, bool]:
    """The targets, (rows, targets), and whether they were (rows,)."""
    targets = as_array(_known(y), "y").astype(np.float64)
    if targets.ndim not in (1, 2) or len(targets) != rows:
        raise ValueError(f"y has shape {targets.shape}, but must have one target, or a row of them, for each of {counted(rows, 'row')}")
    if not np.isfinite(targets).all():
        raise ValueError("y contains NaN or infinity; leave these rows out")
    return targets[:, None] if targets.ndim == 1 else targets, targets.ndim == 1


def _index(y: Any, classes: Sequence[Any], rows: int) -> Array:
    """The number of each row's class."""
    numbers = {name: i for i, name in enumerate(classes)}
    labels = np.asarray(_known(y))
    if not labels.ndim or len(labels) != rows or labels.size != rows:
        raise ValueError(f"y has shape {labels.shape}, but must have the class of each of {counted(rows, 'row')}")
    names = labels.reshape(-1).tolist()
    found = [numbers.get(name, -1) for name in names]
    if -1 in found:
        row = found.index(-1)
        raise ValueError(f"y[{row}] is {names[row]!r}, but must be one of the classes {brief(list(classes))}")
    return np.array(found, np.int64)


# ---- scores ----


def _method_for(model: Any, given: str | None, predicted: _Predicted, targets: int) -> str:
    """The method for numbers; ValueError if the given one needs other predictions."""
    columns = predicted.center.shape[1]
    if not targets or columns % targets:
        raise ValueError(f"y has {counted(targets, 'column')}, but the model predicts {columns}")
    fitting = {"scaled": predicted.spread is not None and columns == targets, "quantile": columns > targets, "absolute": columns == targets}
    if given is not None:
        if not fitting[given]:
            raise ValueError(f"Conformal: method {given!r} needs a model that predicts {_NEEDS[given]}")
        return given
    if targets == 1 < columns and np.allclose(predicted.center.sum(axis=1), 1.0, atol=_SLACK):
        raise ValueError('Conformal: the model predicts several columns whose sum is 1; for probabilities of classes, pass method="lac"')
    if isinstance(model, Network | Ensemble) and columns == 2 * targets:
        either = 'quantiles or, after the loss "gaussian_nll", a mean and a log-variance'
        raise ValueError(f'Conformal: the two columns of each target may be {either}; pass method="quantile", or the Trainer')
    if columns > targets and not _tells_quantiles(model):
        hint = 'if they are quantiles of each target, pass method="quantile"'
        raise ValueError(f"y has {counted(targets, 'column')}, but the model predicts {columns}; {hint}")
    if predicted.spread is not None and not predicted.spread.any():  # of an ensemble of one
        return "absolute"
    return next(method for method, fits in fitting.items() if fits)


def _band(method: str, predicted: _Predicted, targets: int) -> tuple[Array, Array, Array | float]:
    """The lowest and the highest value that score 0, and the unit of the scores. Quantiles come as bp.Loss has them: the first of all
    targets, then the second of all; crossed ones count in ascending order."""
    if method == "quantile":
        each = predicted.center.reshape(len(predicted.center), -1, targets)
        return each.min(axis=1), each.max(axis=1), 1.0
    scale = predicted.spread if method == "scaled" and predicted.spread is not None else 1.0
    return predicted.center, predicted.center, scale


def _misfit(targets: Array, low: Array, high: Array, scale: Array | float) -> Array:
    """How far targets are outside, in units of `scale`; below 0 inside. Where the unit is 0: 0 without an error, else infinity."""
    outside = np.maximum(low - targets, targets - high)
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        return np.where(outside == 0, 0.0, outside / scale)


def _class_scores(method: str, chances: Array) -> Array:
    """The score that each class would have, (rows, classes)."""
    if method == "lac":
        return 1 - chances
    order = np.argsort(-chances, axis=1, kind="stable")
    sums = np.cumsum(np.take_along_axis(chances, order, axis=1), axis=1)
    sums[:, -1] = 1.0  # without rounding: equal scores stay equal
    scores = np.empty_like(sums)
    np.put_along_axis(scores, order, sums, axis=1)
    return scores


def _quantile(scores: Array, coverage: float) -> Array:
    """The k-th smallest score of each column, k = ceil((n + 1) coverage)."""
    count = len(scores)
    place = _place(count, coverage)
    if place > count:
        needed = int(coverage / (1 - coverage))
        needed += _place(needed, coverage) > needed
        raise ValueError(f"fit: a coverage of {coverage:g} needs at least {counted(needed, 'calibration row')}, not {count}")
    return np.asarray(np.sort(scores, axis=0)[place - 1])


def _place(count: int, coverage: float) -> int:
    """k, of which 0.9 * 10 is 9, in spite of rounding."""
    return max(1, math.ceil((count + 1) * coverage * (1 - _ROUNDING)))
