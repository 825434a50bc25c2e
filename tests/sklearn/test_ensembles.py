"""EnsembleClassifier and EnsembleRegressor: they are the mean of their members, whichever estimators these are."""

import pickle
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="scikit-learn is not installed")
import joblib
import sklearn
from many.executor_tasks import Pickling
from sklearn.base import BaseEstimator, RegressorMixin, clone
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from microbp.sklearn import EnsembleClassifier, EnsembleRegressor, MLPClassifier, MLPRegressor, QuantileRegressor, TableRegressor

RNG = np.random.default_rng(6)
X = RNG.normal(size=(200, 3))
Y = np.sin(2 * X[:, 0]) + X[:, 1]
LABELS = np.array(["a", "b", "c"])[np.digitize(Y, [-0.5, 0.5])]
WEIGHT = RNG.integers(0, 3, 200).astype(float)
QUICK = {"hidden_layer_sizes": (16,), "max_iter": 5}
pytestmark = pytest.mark.filterwarnings("ignore:.*while it still improved")

REGRESSORS = {
    "network": MLPRegressor(**QUICK),
    "quantiles": QuantileRegressor(**QUICK),
    "table": TableRegressor(budget="fast", epochs=3, ensemble=1),
    "pipeline": make_pipeline(StandardScaler(), MLPRegressor(**QUICK)),
    "tree": DecisionTreeRegressor(max_features=1, max_depth=3),
}
CLASSIFIERS = {
    "network": MLPClassifier(**QUICK),
    "pipeline": make_pipeline(StandardScaler(), MLPClassifier(**QUICK)),
    "tree": DecisionTreeClassifier(max_features=1, max_depth=3),
}


@pytest.mark.parametrize("name", REGRESSORS)
def test_a_prediction_is_the_mean_of_members_that_differ(name):
    model = EnsembleRegressor(REGRESSORS[name], 3, random_state=0).fit(X, Y)
    each = np.stack([member.predict(X) for member in model.estimators_])
    mean, std = model.predict(X, return_std=True)
    assert np.array_equal(mean, each.mean(axis=0)) and np.array_equal(std, each.std(axis=0))
    assert np.array_equal(mean, model.predict(X))
    assert std.max() > 0


@pytest.mark.parametrize("name", CLASSIFIERS)
@pytest.mark.parametrize("y", [LABELS, LABELS == "a"], ids=["three", "two"])
def test_probabilities_are_the_mean_of_members(name, y):
    model = EnsembleClassifier(CLASSIFIERS[name], 3, random_state=0).fit(X, y)
    found = model.predict_proba(X)
    assert np.array_equal(found, np.mean([member.predict_proba(X) for member in model.estimators_], axis=0))
    assert np.array_equal(model.predict(X), model.classes_[found.argmax(axis=1)])
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-6)


def test_several_labels_and_several_targets():
    labels = np.stack([Y > 0, X[:, 0] > 0], axis=1).astype(int)
    model = EnsembleClassifier(MLPClassifier(**QUICK), 2, random_state=0).fit(X, labels)
    assert np.array_equal(model.predict(X), (model.predict_proba(X) > 0.5).astype(int))
    mean, std = EnsembleRegressor(MLPRegressor(**QUICK), 2, random_state=0).fit(X, np.stack([Y, -Y], axis=1)).predict(X, return_std=True)
    assert mean.shape == std.shape == (200, 2)


@pytest.mark.parametrize("n_threads", [1, 2, 8])
def test_members_are_those_that_are_trained_alone(n_threads):
    model = EnsembleRegressor(MLPRegressor(**QUICK), 3, random_state=7, n_threads=n_threads).fit(X, Y, sample_weight=WEIGHT)
    for member in model.estimators_:
        alone = MLPRegressor(**QUICK, random_state=member.random_state).fit(X, Y, sample_weight=WEIGHT)
        assert np.array_equal(alone.predict(X), member.predict(X))
    assert len({member.random_state for member in model.estimators_}) == 3


@pytest.mark.parametrize("workers", [ThreadPoolExecutor(2), Pickling(), "threading"], ids=["threads", "pickles", "joblib"])
def test_members_may_be_trained_by_an_executor_or_by_joblib(workers):
    expected = EnsembleRegressor(MLPRegressor(**QUICK), 3, random_state=7).fit(X, Y, sample_weight=WEIGHT)
    model = clone(EnsembleRegressor(MLPRegressor(**QUICK), 3, random_state=7, n_jobs=2 if isinstance(workers, str) else None))
    with joblib.parallel_config(workers if isinstance(workers, str) else "loky"):
        model.fit(X, Y, sample_weight=WEIGHT, **({} if isinstance(workers, str) else {"executor": workers}))
    assert np.array_equal(model.predict(X), expected.predict(X))
    pickle.dumps(model)


def test_the_error_of_a_member_in_an_executor_names_it():
    with pytest.raises(ArithmeticError, match=r"^estimators_\[0\]: odd; 1 other failed too: 1$"):
        EnsembleRegressor(Odd(), 2, random_state=0).fit(X, Y, executor=ThreadPoolExecutor(1))
    with pytest.raises(TypeError, match="executor must be a concurrent.futures.Executor or None, not 2"):
        EnsembleRegressor(Odd(), 2).fit(X, Y, executor=2)


def test_the_networks_as_an_ensemble(tmp_path):
    model = EnsembleRegressor(MLPRegressor(**QUICK), 3, random_state=0).fit(X, Y)
    mean, std = model.predict(X, return_std=True)
    np.testing.assert_allclose(model.ensemble.predict(X)[:, 0], mean, rtol=1e-12)
    np.testing.assert_allclose(model.ensemble.std(X)[:, 0], std, rtol=1e-9, atol=1e-12)
    for name, text in (
        ("tree", "of type DecisionTreeRegressor, which has no"),
        ("pipeline", r"of type Pipeline, .*estimators_\[0\]\[-1\].net"),
    ):
        with pytest.raises(AttributeError, match=f"ensemble: the members are {text}"):
            EnsembleRegressor(REGRESSORS[name], 2).fit(X, Y).ensemble  # noqa: B018


@pytest.mark.parametrize("model", [EnsembleRegressor, EnsembleClassifier])
def test_weights_and_pipelines(model):
    name, y = model.__name__.lower(), Y if model is EnsembleRegressor else LABELS
    of = MLPRegressor(**QUICK) if model is EnsembleRegressor else MLPClassifier(**QUICK)
    with pytest.raises(TypeError, match=rf"Pipeline takes no sample_weight, which .*\.fit\(X, y, {name}__sample_weight=weights\)"):
        model(make_pipeline(StandardScaler(), of), 2).fit(X, y, sample_weight=WEIGHT)
    assert make_pipeline(StandardScaler(), model(of, 2)).fit(X, y, **{f"{name}__sample_weight": WEIGHT}).predict(X).shape == (200,)
    with pytest.raises(TypeError, match="the fit of estimator Odd takes no sample_weight$"):
        EnsembleRegressor(Odd(fails=False), 2).fit(X, Y, sample_weight=WEIGHT)
    with sklearn.config_context(enable_metadata_routing=True):
        routed = make_pipeline(StandardScaler().set_fit_request(sample_weight=False), of.set_fit_request(sample_weight=True))
        found = model(routed, 2, random_state=0).fit(X, y, sample_weight=WEIGHT).predict(X)
        assert not np.array_equal(found, model(routed, 2, random_state=0).fit(X, y).predict(X))


def test_copies_and_searches():
    model = EnsembleRegressor(MLPRegressor(**QUICK), 2, random_state=0).fit(X, Y)
    assert np.array_equal(pickle.loads(pickle.dumps(model)).predict(X), model.predict(X))
    found = GridSearchCV(EnsembleClassifier(MLPClassifier(**QUICK), 2), {"estimator__alpha": [0.1, 0.001], "n_estimators": [1, 2]}, cv=2)
    assert found.fit(X, LABELS).predict(X).shape == (200,)


def test_frames_keep_their_names():
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    frame = pandas.DataFrame(X, columns=["a", "b", "c"]).assign(kind=LABELS)
    model = EnsembleRegressor(REGRESSORS["table"], 2, random_state=0).fit(frame, Y)
    assert model.feature_names_in_.tolist() == ["a", "b", "c", "kind"] and model.n_features_in_ == 4
    assert model.predict(frame).shape == (200,)


class Odd(RegressorMixin, BaseEstimator):
    """Fails for odd seeds, and notes the settings of scikit-learn in its thread."""

    seen = []  # noqa: RUF012

    def __init__(self, random_state=None, fails=True):
        self.random_state, self.fails = random_state, fails

    def fit(self, X, y):
        self.seen.append((threading.current_thread(), sklearn.get_config()["assume_finite"]))
        if self.fails:
            raise ArithmeticError("odd")
        return self


def test_an_error_of_a_member_is_raised_and_changes_nothing():
    model = EnsembleRegressor(Odd(), 4, random_state=0)
    with pytest.raises(ArithmeticError, match="odd"):
        model.fit(X, Y)
    assert not hasattr(model, "estimators_")


def test_members_see_the_settings_of_scikit_learn():
    Odd.seen.clear()
    with sklearn.config_context(assume_finite=True):
        EnsembleRegressor(Odd(fails=False), 3, random_state=0).fit(X, Y)
    assert [setting for _, setting in Odd.seen] == [True] * 3
    assert threading.main_thread() not in {thread for thread, _ in Odd.seen}


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: EnsembleRegressor(n_estimators=0).fit(X, Y), ValueError, "n_estimators must be at least 1"),
        (lambda: EnsembleRegressor(n_threads=0).fit(X, Y), ValueError, "n_threads must be at least 1"),
        (
            lambda: EnsembleRegressor(LinearRegression()).fit(X, Y),
            TypeError,
            "LinearRegression has no random_state, so that all its members",
        ),
        (
            lambda: EnsembleClassifier(LinearRegression()).fit(X, LABELS),
            TypeError,
            "LinearRegression is a regressor; use EnsembleRegressor",
        ),
        (lambda: EnsembleClassifier(LinearSVC()).fit(X, LABELS), TypeError, "LinearSVC has no predict_proba"),
        (lambda: EnsembleClassifier(REGRESSORS["pipeline"]).fit(X, LABELS), TypeError, "Pipeline is a regressor; use EnsembleRegressor"),
        (lambda: EnsembleRegressor(MLPClassifier()).fit(X, Y > 0), TypeError, "MLPClassifier is a classifier; use EnsembleClassifier"),
        (lambda: EnsembleRegressor(CLASSIFIERS["pipeline"]).fit(X, Y > 0), TypeError, "Pipeline is a classifier; use EnsembleClassifier"),
        (
            lambda: EnsembleRegressor(MLPRegressor(**QUICK)).fit(X, Y).predict(X, return_std=1),
            TypeError,
            "return_std must be True or False",
        ),
    ],
)
def test_the_wrong_is_refused(call, error, text):
    with pytest.raises(error, match=text):
        call()


@pytest.mark.parametrize(
    ("name", "value"), [("n_estimators", "many"), ("n_estimators", 0), ("n_threads", 0.5), ("n_jobs", 0.5), ("random_state", "seed")]
)
def test_wrong_parameters_are_refused(name, value):
    with pytest.raises(ValueError, match=f"^EnsembleRegressor: {name}") as caught:
        EnsembleRegressor(**{name: value}).fit(X, Y)
    assert isinstance(caught.value, TypeError)
