"""Fitted estimators: what they predict and keep follows the training, whatever parameters, weights and classes come after."""

from __future__ import annotations

import copy
import pickle
import re

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

import microbp as bp
from microbp.sklearn import EnsembleClassifier, MLPClassifier, MLPRegressor, TableClassifier, TableRegressor

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")  # tests train for few epochs


@pytest.fixture
def rows(numbers):
    X = numbers.normal(size=(90, 4))
    return X, np.arange(90) % 3, X[:, 0] + numbers.normal(size=90)


def half_square(outputs, targets, weight):
    """A loss of the user."""
    return float(((outputs - targets) ** 2).sum() / 2 / len(outputs)), (outputs - targets) / len(outputs)


# ---- parameters that change after the fit ----


def test_probabilities_are_those_of_the_loss_that_was_trained(rows):
    X, y, _ = rows
    hinge, log = (MLPClassifier((5,), loss=loss, max_iter=2).fit(X, y) for loss in ("hinge", "log_loss"))
    before = log.predict_proba(X)
    assert not hasattr(hinge.set_params(loss="log_loss"), "predict_proba")
    assert np.array_equal(log.set_params(loss="hinge").predict_proba(X), before)
    assert not hasattr(MLPClassifier(loss="hinge"), "predict_proba") and hasattr(MLPClassifier(), "predict_log_proba")
    numbers = MLPRegressor("gaussian_nll", max_iter=2).fit(X, X[:, 0]).set_params(loss="squared_error")
    assert bp.Conformal(numbers).fit(X, X[:, 0]).method == "scaled"


@pytest.mark.parametrize("changed", [{"n_threads": -1}, {"loss": half_square}, {"loss": "cross_entropy"}, {"n_threads": "many"}])
@pytest.mark.parametrize("cls", [MLPClassifier, MLPRegressor])
def test_copies_do_not_depend_on_the_parameters_now(cls, changed, rows):
    X, y, _ = rows
    for settings in ({}, {"n_threads": 2}, {"loss": half_square} if cls is MLPRegressor else {"loss": "hinge"}):
        model = cls(hidden_layer_sizes=(5,), max_iter=2, random_state=0, **settings).fit(X, y)
        before = model.predict(X)
        model.set_params(**changed)
        for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
            assert np.array_equal(twin.predict(X), before) and twin.get_params() == model.get_params()
            assert twin.net.n_threads == model.net.n_threads
            twin.set_params(**{"loss": cls().loss, "n_threads": None} | settings)
            assert np.isfinite(twin.partial_fit(X, y).loss_)


@pytest.mark.parametrize("cls", [TableClassifier, TableRegressor])
def test_copies_of_table_estimators_do_not_depend_on_n_threads_now(cls, rows):
    X, y, _ = rows
    model = cls(budget="fast", epochs=2, random_state=0).fit(X, y)
    before = model.predict(X)
    model.set_params(n_threads=-1)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert np.array_equal(twin.predict(X), before) and twin.n_threads == -1


@pytest.mark.parametrize("cls", [MLPClassifier, MLPRegressor])
@pytest.mark.parametrize("kind", ["invscaling", "adaptive"])
def test_a_change_keeps_the_rate_of_the_time(kind, cls, rows):
    X, y, _ = rows
    seen: list[float] = []
    settings = {"solver": "sgd", "learning_rate": kind, "max_iter": 9, "n_iter_no_change": 2, "tol": 1e9}
    model = cls(callback=lambda record: seen.append(record.lr), random_state=0, **settings).fit(X, y)
    rate = model._trainer.lr
    assert rate < 0.001 / 4
    model.set_params(momentum=0.8).partial_fit(X, y)
    assert seen[-1] == rate and "momentum=0.8" in str(model._trainer.optimizer)
    model.set_params(learning_rate="constant").partial_fit(X, y)
    assert seen[-1] == 0.001


# ---- three classes and more, each against the others ----


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_bce_of_several_classes_gives_probabilities(dtype, rows):
    X, y, _ = rows
    X = X.astype(dtype)
    model = MLPClassifier(loss=bp.Loss("bce", pos_weight=5), max_iter=9, random_state=0).fit(X, y)
    p, each = model.predict_proba(X), model.net.predict(X)
    np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(p, each / each.sum(axis=1, keepdims=True), rtol=1e-6)
    assert np.array_equal(p.argmax(axis=1), model.predict(X))
    far = model.predict_proba(1e9 * X)
    assert np.isfinite(far).all() and np.allclose(far.sum(axis=1), 1)
    out = np.empty_like(p)
    assert model.predict_proba(X, out=out) is out and np.array_equal(out, p)
    roc_auc_score(y, p, multi_class="ovr")
    assert bp.Conformal(model).fit(X, y).classes == (0, 1, 2)
    with pytest.raises(ValueError, match=r"to_sklearn: .* sigmoid output for each class"):
        model.net.to_sklearn()
    labels = MLPClassifier(loss="bce", max_iter=2).fit(X, np.eye(3)[y])
    assert np.array_equal(labels.net.to_sklearn().predict(X), labels.predict(X))


def test_a_network_of_classes_without_probabilities_does_not_become_a_regressor(rows):
    X, y, _ = rows
    for labels in (y, y == 0, np.eye(3)[y]):
        with pytest.raises(ValueError, match="output 0 has no probabilities"):
            MLPClassifier(loss="hinge", max_iter=1).fit(X, labels).net.to_sklearn()


# ---- one class ----


@pytest.mark.parametrize("loss", ["log_loss", "cross_entropy", "hinge", "bce"])
def test_one_class(loss, rows):
    X, y = rows[0], ["a"] * 90
    model = MLPClassifier((8,), loss=loss, early_stopping=True, max_iter=4, random_state=0).fit(X, y)
    assert (model.predict(X) == "a").all() and model.score(X, y) == 1
    assert model.validation_scores_ == [1.0] * 4 and model.best_validation_score_ == 1
    if loss == "hinge":
        return
    assert np.array_equal(model.predict_proba(X), np.ones((90, 1)))
    assert bp.Conformal(model).fit(X, y).predict_set(X).all()
    if loss != "cross_entropy":
        twin = model.net.to_sklearn()
        assert (twin.predict(X) == "a").all() and bp.from_sklearn(twin).notes == model.net.notes
    ensemble = EnsembleClassifier(MLPClassifier((8,), loss=loss, max_iter=2), 3, random_state=0).fit(X, y)
    assert (ensemble.predict(X) == "a").all() and ensemble.predict_proba(X).shape == (90, 1)


def test_one_class_of_scikit_learn():
    from sklearn.neural_network import MLPClassifier as Theirs

    X = np.random.default_rng(0).normal(size=(30, 2))
    model = Theirs((3,), max_iter=2, random_state=0).fit(X, ["a"] * 30)
    assert (bp.from_sklearn(model).to_sklearn().predict(X) == "a").all()


# ---- weights that are assigned ----


def test_weights_can_be_reversed_and_cannot_be_mixed_up(rows):
    X, y, _ = rows
    model = MLPClassifier((4, 4, 4), max_iter=1, random_state=0).fit(X, y == 0)
    middle = [array.copy() for array in model.coefs_[1:3]]
    model.coefs_ = [model.coefs_[0], *model.coefs_[1:3][::-1], model.coefs_[3]]
    assert np.array_equal(model.coefs_[1], middle[1]) and np.array_equal(model.coefs_[2], middle[0])
    model.coefs_[1:3] = model.coefs_[1:3][::-1]
    assert np.array_equal(model.coefs_[1], middle[0]) and np.array_equal(model.coefs_[2], middle[1])
    with pytest.raises(ValueError, match=r"a view of array 2; assign a copy"):
        model.coefs_[1], model.coefs_[2] = model.coefs_[2], model.coefs_[1]
    model.coefs_[1] = model.coefs_[1].T
    assert np.array_equal(model.coefs_[1], middle[0].T)


WRONG = {
    "complex": (lambda a: a * 1j, "must have numbers"),
    "text": (lambda a: a.astype(str), "must have numbers"),
    "objects": (lambda a: a.astype(object), "must have numbers"),
    "NaN": (lambda a: np.where(a == a.flat[0], np.nan, a), "must be finite"),
    "infinity": (lambda a: a + np.inf, "must be finite"),
    "too large": (lambda a: a * 0 + 1e300, "must be finite"),
}


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("name", ["coefs_", "intercepts_"])
def test_wrong_weights_are_refused(name, wrong, rows):
    X, y, _ = rows
    model = MLPClassifier((4,), max_iter=1).fit(X.astype("float32"), y)
    change, text = WRONG[wrong]
    before, views = model.net.params.copy(), getattr(model, name)
    found = [views[0].astype("float64"), change(views[1].astype("float64"))]
    with pytest.raises((ValueError, TypeError), match=f"MLPClassifier: {name}: array 1 {text}"):
        setattr(model, name, found)
    with pytest.raises((ValueError, TypeError), match=f"array 1 {text}"):
        views[1] = found[1]
    with pytest.raises((ValueError, TypeError), match=re.escape(f"{name}: there are 2 arrays, so a list of them must be assigned, not 5")):
        setattr(model, name, 5)
    for call in (lambda: views.append(found[0]), lambda: views.__delitem__(0), views.pop, views.reverse, lambda: views.extend(found)):
        with pytest.raises(TypeError, match="cannot be added, removed or moved"):
            call()
    assert isinstance(views, list) and len(pickle.loads(pickle.dumps(views))) == len(views) == 2
    assert np.array_equal(model.net.params, before)
