"""EnsembleClassifier and EnsembleRegressor: the mean of several estimators that differ in their seeds, and how far they disagree."""

from __future__ import annotations

from concurrent.futures import Executor, ThreadPoolExecutor
from threading import Event
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from scipy.sparse import issparse
from sklearn import config_context, get_config
from sklearn.base import BaseEstimator, ClassifierMixin, MetaEstimatorMixin, RegressorMixin, clone, is_classifier, is_regressor
from sklearn.pipeline import Pipeline
from sklearn.utils import check_random_state, get_tags
from sklearn.utils.parallel import Parallel, delayed
from sklearn.utils.validation import check_is_fitted, has_fit_parameter, validate_data

from ..core import threads
from ..core.checks import Check, flag, or_none, whole
from ..data.arrays import Array
from ..many import workers
from ..training.loop.records.callbacks import interrupt
from .classifier import MLPClassifier
from .parameters import naming
from .regressor import MLPRegressor

if TYPE_CHECKING:
    from ..many.ensemble import Ensemble


class _Ensemble(MetaEstimatorMixin, BaseEstimator):  # type: ignore[misc]  # its bases are not typed
    """What both ensembles have in common."""

    _default: type

    def __init__(
        self,
        estimator: Any = None,
        n_estimators: int = 5,
        *,
        random_state: Any = None,
        n_threads: int | None = None,
        n_jobs: int | None = None,
    ) -> None:
        self.estimator = estimator
        self.n_estimators = n_estimators
        self.random_state = random_state
        self.n_threads = n_threads
        self.n_jobs = n_jobs

    def fit(self, X: Any, y: Any, sample_weight: Any = None, *, executor: Executor | None = None) -> Self:
        """Trains all members, each on all rows. X, y, sample_weight and errors: as of the estimator. An error of one ends all.

        executor: a concurrent.futures.Executor in which members are trained, as in `bp.train_many`, instead of n_threads and n_jobs."""
        self._check_kind()
        if sample_weight is not None:
            self._check_weights()
        members = self._new_members()
        given = {} if sample_weight is None else {"sample_weight": sample_weight}
        count, jobs = self._checked("n_threads", or_none(whole(1))), self._checked("n_jobs", or_none(whole(-(2**31))))
        workers.check(executor)
        if executor is not None:
            _fit_in(executor, members, X, y, given)
        elif jobs is not None:
            members = Parallel(n_jobs=jobs)(delayed(_fitted)(member, X, y, given) for member in members)
        else:
            _fit_all(members, X, y, given, threads.choose(count))
        validate_data(self, X, skip_check_array=True)
        self.estimators_ = members
        return self

    def _check_kind(self) -> None:
        """TypeError for an estimator that predicts something else."""
        raise NotImplementedError

    def _check_weights(self) -> None:
        """TypeError if the fit of members takes no weights."""
        name, of = type(self).__name__, self._of
        if has_fit_parameter(of, "sample_weight") or get_config()["enable_metadata_routing"]:
            return
        inside = f"put the ensemble into the pipeline: make_pipeline(..., {name}(...)).fit(X, y, {name.lower()}__sample_weight=weights)"
        hint = f", which does not know for which step it is; {inside}" if isinstance(of, Pipeline) else ""
        raise TypeError(f"{name}: the fit of estimator {type(of).__name__} takes no sample_weight{hint}")

    def _new_members(self) -> list[Any]:
        """Estimators that are not fitted, each with seeds of its own."""
        name, random = type(self).__name__, self._checked("random_state", lambda _, value: check_random_state(value))
        count = self._checked("n_estimators", whole(1))
        members = [clone(self._of) for _ in range(count)]
        for member in members:
            seeded = [key for key in sorted(member.get_params()) if key == "random_state" or key.endswith("__random_state")]
            if not seeded and count > 1:
                raise TypeError(f"{name}: estimator {type(member).__name__} has no random_state, so that all its members would be equal")
            member.set_params(**{key: int(random.randint(2**31 - 1)) for key in seeded})
        return members

    def _checked(self, parameter: str, check: Check) -> Any:
        return naming(type(self).__name__, parameter, lambda: check(parameter, getattr(self, parameter)))

    @property
    def _of(self) -> Any:
        return self._default() if self.estimator is None else self.estimator

    @property
    def ensemble(self) -> Ensemble:
        """The members' networks as a bp.Ensemble, for `save`, `std`, `quantile`; AttributeError if members have none, or have several."""
        from ..many.ensemble import Ensemble  # imported here, because only this needs it

        check_is_fitted(self)
        if not all(hasattr(member, "net") for member in self.estimators_):
            of = self.estimators_[0]
            hint = "; the last step of each may have one: estimators_[0][-1].net" if isinstance(of, Pipeline) else ""
            raise AttributeError(f"ensemble: the members are of type {type(of).__name__}, which has no attribute net{hint}")
        return Ensemble([member.net for member in self.estimators_])

    def _each(self, method: str, X: Any) -> Array:
        """What a method of each member returns, (members, rows, ...)."""
        check_is_fitted(self)
        found = [getattr(member, method)(X) for member in self.estimators_]
        validate_data(self, X, reset=False, skip_check_array=True)  # after the members, which check more
        return np.stack(found)

    def __sklearn_tags__(self) -> Any:
        tags, of = super().__sklearn_tags__(), get_tags(self._of)
        tags.input_tags, tags.target_tags = of.input_tags, of.target_tags
        tags.classifier_tags, tags.regressor_tags = of.classifier_tags, of.regressor_tags
        return tags


def _fit_all(members: list[Any], X: Any, y: Any, given: dict[str, Any], count: int) -> None:
    """Fits members, `count` at a time on threads, with the settings of scikit-learn of this thread. Ctrl-C, or an error, ends all."""
    stop, config = Event(), get_config()

    def fit(member: Any) -> None:
        token = interrupt.set(stop)
        try:
            with config_context(**config):
                member.fit(X, y, **given)
        finally:
            interrupt.reset(token)

    with ThreadPoolExecutor(min(count, len(members))) as pool:
        futures = [pool.submit(fit, member) for member in members]
        try:
            for future in futures:
                future.result()
        except BaseException:
            stop.set()
            for future in futures:
                future.cancel()
            raise


def _fitted(member: Any, X: Any, y: Any, given: dict[str, Any]) -> Any:
    return member.fit(X, y, **given)


def _fit_in(executor: Executor, members: list[Any], X: Any, y: Any, given: dict[str, Any]) -> None:
    """Fits members in the workers of an executor, and puts what comes back into the list."""
    tasks = [(member, get_config()) for member in members]
    errors = workers.run(executor, _fit_member, (X, y, given), tasks, _itself, members.__setitem__)
    if errors:
        raise workers.first_error(errors, "estimators_[{}]", range(len(members)))


def _fit_member(shared: tuple[Any, Any, dict[str, Any]], member: Any, config: dict[str, Any]) -> None:
    X, y, given = shared
    with config_context(**config):
        member.fit(X, y, **given)


def _itself(member: Any) -> Any:
    return member


class EnsembleClassifier(ClassifierMixin, _Ensemble):  # type: ignore[misc]
    """The mean of the probabilities of several classifiers that are trained on the same rows from different seeds (deep ensembles:
    Lakshminarayanan, Pritzel & Blundell 2017). It errs less than one of them, and its probabilities are less extreme.

    estimator: a classifier with `predict_proba` and `random_state`, also one inside a pipeline; None: MLPClassifier(). n_estimators: the
    number of members. random_state: draws the seeds of the members. n_threads: how many are trained at a time; None: the number of
    processors. n_jobs: None; or a number of joblib's workers that train members instead of threads: processes, or what
    joblib.parallel_config says, such as Dask's or Ray's; -1: all.

    Attributes after `fit`: estimators_, classes_, n_features_in_, feature_names_in_; ensemble, the members' networks as a bp.Ensemble.

    >>> from microbp.sklearn import EnsembleClassifier, MLPClassifier
    >>> X = np.random.default_rng(0).normal(size=(300, 2))
    >>> y = np.where(X[:, 0] * X[:, 1] > 0, "same", "other")
    >>> of = MLPClassifier((32,), learning_rate_init=0.05, tol=1e-3)
    >>> model = EnsembleClassifier(of, 3, random_state=0).fit(X, y)
    >>> model.predict([[1.0, 1.0], [1.0, -1.0]]), len(model.estimators_)
    (array(['same', 'other'], dtype='<U5'), 3)
    """

    _default = MLPClassifier

    def _check_kind(self) -> None:
        name = type(self._of).__name__
        if is_regressor(self._of):
            raise TypeError(f"EnsembleClassifier: estimator {name} is a regressor; use EnsembleRegressor")
        if not hasattr(self._of, "predict_proba"):
            raise TypeError(f"EnsembleClassifier: estimator {name} has no predict_proba, whose mean is predicted")

    def fit(self, X: Any, y: Any, sample_weight: Any = None, *, executor: Executor | None = None) -> Self:
        """Trains all members, each on all rows. The arguments: as of EnsembleRegressor."""
        super().fit(X, y, sample_weight, executor=executor)
        self.classes_ = self.estimators_[0].classes_
        return self

    def predict_proba(self, X: Any) -> Array:
        """The mean probability of each class, shape (rows, classes), in the order of classes_; of several labels per row, of each label."""
        return np.asarray(self._each("predict_proba", X).mean(axis=0))

    def predict(self, X: Any) -> Array:
        """The class of each row with the highest mean probability; of several labels per row, those above 0.5, as 0 and 1."""
        found = self.predict_proba(X)
        one = self.estimators_[0].predict(X)
        if one.ndim == 2:
            chosen = (found > 0.5).astype(self.classes_.dtype)
            return type(one)(chosen) if issparse(one) else np.asarray(chosen)
        return np.asarray(self.classes_[found.argmax(axis=1)])


class EnsembleRegressor(RegressorMixin, _Ensemble):  # type: ignore[misc]
    """The mean of the predictions of several regressors that are trained on the same rows from different seeds, and how far they disagree
    (deep ensembles: Lakshminarayanan, Pritzel & Blundell 2017).

    estimator: a regressor with `random_state`, also one inside a pipeline; None: MLPRegressor(). The other parameters and the attributes:
    as of EnsembleClassifier.

    >>> from microbp.sklearn import EnsembleRegressor, MLPRegressor
    >>> X = np.linspace(-1, 1, 200)[:, None]
    >>> of = MLPRegressor(hidden_layer_sizes=(32,), learning_rate_init=0.05)
    >>> model = EnsembleRegressor(of, 4, random_state=0).fit(X, np.sin(3 * X[:, 0]))
    >>> mean, std = model.predict([[0.0], [4.0]], return_std=True)
    >>> bool(std[1] > 5 * std[0])  # far from the data, the members disagree
    True
    """

    _default = MLPRegressor

    def _check_kind(self) -> None:
        if is_classifier(self._of):
            raise TypeError(f"EnsembleRegressor: estimator {type(self._of).__name__} is a classifier; use EnsembleClassifier")

    def predict(self, X: Any, return_std: bool = False) -> Any:
        """The mean of the members' predictions, shape (rows,) or (rows, targets). return_std: also their standard deviation (ddof=0), of
        the same shape. It shows where the members disagree, and not how much y varies by itself."""
        each = self._each("predict", X)
        return (each.mean(axis=0), each.std(axis=0)) if flag("return_std", return_std) else each.mean(axis=0)
