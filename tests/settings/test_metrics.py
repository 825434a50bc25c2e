"""Metrics: the same values as scikit-learn's metrics, and scikit-learn's functions in fit."""

import numpy as np
import pytest

import microbp as bp
from microbp.settings import metrics
from microbp.settings.stopping import higher_is_better

RNG = np.random.default_rng(5)


@pytest.fixture
def sk():
    return pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed")


def scores(rows, classes, dtype, ties=False):
    """Probabilities; some are 0, 1 or equal."""
    raw = RNG.integers(0, 3, (rows, classes)) + 1e-3 if ties else RNG.uniform(size=(rows, classes)) ** 8
    probabilities = (raw / raw.sum(axis=1, keepdims=True)).astype(dtype)
    probabilities[:3] = np.eye(classes)[:3]
    return probabilities


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("classes", [3, 10])
def test_metrics_of_classes_equal_scikit_learn(sk, dtype, ties, classes):
    outputs, labels = scores(200, classes, dtype, ties), RNG.integers(0, classes, 200)
    assert bp.accuracy(labels, outputs) == sk.accuracy_score(labels, outputs.argmax(axis=1))
    every = np.arange(classes)
    for k in (1, 2, classes - 1):
        assert bp.top_k(k)(labels, outputs) == sk.top_k_accuracy_score(labels, outputs, k=k, labels=every)
        assert bp.top_k(k)(np.eye(classes)[labels], outputs) == bp.top_k(k)(labels[:, None], outputs) == bp.top_k(k)(labels, outputs)
    assert bp.top_k(classes)(labels, outputs) == 1
    expected = sk.log_loss(labels, outputs, labels=every)
    rounding = 1e-5 if dtype == "float32" else 1e-13  # scikit-learn computes in the dtype, microbp in float64
    assert bp.log_loss(labels, outputs) == pytest.approx(expected, rel=rounding)
    assert bp.log_loss(np.eye(classes)[labels], outputs) == pytest.approx(expected, rel=rounding)


def test_metrics_of_two_classes_equal_scikit_learn(sk):
    chances, labels = RNG.uniform(size=(300, 1)), RNG.integers(0, 2, 300)
    chances[:4] = [[0], [1], [0.5], [1e-300]]
    assert bp.accuracy(labels, chances) == sk.accuracy_score(labels, chances[:, 0] > 0.5)
    assert bp.log_loss(labels, chances) == pytest.approx(sk.log_loss(labels, chances[:, 0]), rel=1e-13)
    assert bp.log_loss(labels[:, None], chances) == bp.log_loss(labels, chances[:, 0]) == bp.log_loss(labels, chances)


@pytest.mark.parametrize("outputs", [1, 3])
def test_metrics_of_regression_equal_scikit_learn(sk, outputs):
    y = RNG.normal(size=(200, outputs))
    predictions = y + RNG.normal(size=(200, outputs))
    for mine, theirs in ((bp.mae, sk.mean_absolute_error), (bp.r2, sk.r2_score)):
        assert mine(y, predictions) == pytest.approx(theirs(y, predictions), rel=1e-14)
    assert bp.rmse(y, predictions) == pytest.approx(np.sqrt(sk.mean_squared_error(y, predictions)), rel=1e-14)
    constant = np.ones_like(y)
    assert bp.r2(constant, predictions) == sk.r2_score(constant, predictions) == 0
    assert bp.r2(constant, constant) == sk.r2_score(constant, constant) == 1


def test_an_output_of_nan_is_never_among_the_largest():
    outputs = np.array([[np.nan, 1, 0], [3, np.nan, 2]])
    assert bp.top_k(2)([0, 0], outputs) == 0.5
    assert bp.top_k(1)([0, 0], outputs) == 0


@pytest.mark.parametrize(
    ("metric", "y", "outputs"),
    [
        (bp.top_k(2), [0, 3], np.ones((2, 3))),
        (bp.top_k(2), [0, -1], np.ones((2, 3))),
        (bp.top_k(2), [0, 1, 2], np.ones((2, 3))),
        (bp.top_k(2), [0, 1], np.ones((2, 1))),
        (bp.log_loss, [0, 3], np.ones((2, 3))),
        (bp.log_loss, [0, 1, 1], np.ones((2, 1))),
        (bp.log_loss, np.ones((2, 2)), np.ones((2, 3))),
    ],
)
def test_shapes_and_labels_that_do_not_fit_are_refused(metric, y, outputs):
    with pytest.raises(ValueError, match="y "):
        metric(y, outputs)


@pytest.mark.parametrize("metric", [bp.accuracy, bp.log_loss, bp.top_k(1), bp.rmse])
def test_swapped_arguments_get_a_hint(metric):
    with pytest.raises(ValueError, match="may be swapped$"):
        metric(np.full((3, 2), 0.5), [0, 1, 1])
    with pytest.raises(ValueError, match=r"\)$|columns$"):
        metric([0, 1], np.ones((3, 1)))


@pytest.mark.parametrize("k", [0, -1, 1.5, True])
def test_k_is_a_count(k):
    with pytest.raises((TypeError, ValueError), match="top_k: k must be"):
        bp.top_k(k)


def test_the_name_of_a_metric_determines_whether_higher_is_better():
    higher = ["accuracy", "r2", "top_3", "roc_auc_score", "balanced_accuracy_score"]
    lower = ["loss", "val_loss", "log_loss", "rmse", "mae", "max_error", "mean_pinball_loss", "brier_score_loss"]
    assert all(higher_is_better(name, None) and not higher_is_better(name, "min") for name in higher)
    assert all(higher_is_better(name, "max") and not higher_is_better(name, None) for name in lower)
    assert {*metrics.NAMED} <= {*higher, *lower}
    with pytest.raises(ValueError, match='mode="min" or mode="max"'):
        higher_is_better("beauty", None)
    with pytest.raises(ValueError, match="unknown mode 'mim'; did you mean 'min'"):
        higher_is_better("beauty", "mim")


# ---- in fit ----


def fit(backend, loss, outputs, y, chosen):
    x = np.random.default_rng(2).normal(size=(len(y), 3))
    t = bp.Trainer(bp.mlp([3, 4, outputs], seed=0, dtype="float64", backend=backend), loss)
    return t, x, t.fit(x, y, epochs=1, metrics=chosen)


def test_metrics_of_labels_may_be_names_and_functions_of_scikit_learn(backend, sk):
    labels = np.arange(24) % 4
    t, x, history = fit(backend, "cross_entropy", 4, labels, ["accuracy", "top_2", bp.top_k(3), "log_loss", sk.top_k_accuracy_score])
    assert history["top_2"] == history["top_k_accuracy_score"] == [bp.top_k(2)(labels, t.predict(x))]
    assert history["log_loss"][0] == pytest.approx(t.evaluate(x, labels), rel=1e-12)
    assert fit(backend, "cross_entropy", 4, labels, sk.log_loss)[2]["log_loss"] == pytest.approx(history["log_loss"], rel=1e-12)


def test_metrics_of_a_column_may_be_names_and_functions_of_scikit_learn(backend, sk):
    chosen = ["accuracy", "log_loss", "r2", sk.roc_auc_score, sk.r2_score, sk.mean_absolute_error, "mae"]
    t, x, history = fit(backend, "bce", 1, np.arange(24) % 2, chosen)
    assert history["log_loss"][0] == pytest.approx(t.evaluate(x, np.arange(24) % 2), rel=1e-12)
    assert history["r2"] == pytest.approx(history["r2_score"], rel=1e-12)
    assert history["mae"] == pytest.approx(history["mean_absolute_error"], rel=1e-12)
    assert 0 <= history["roc_auc_score"][0] <= 1


def test_predictions_are_computed_once_per_epoch(monkeypatch):
    calls = []
    predict = bp.Network.predict
    monkeypatch.setattr(bp.Network, "predict", lambda self, x: calls.append(1) or predict(self, x))
    fit("compiled", "cross_entropy", 3, np.arange(24) % 3, ["accuracy", "top_2", "log_loss", lambda y, outputs: 0])
    assert len(calls) == 1


@pytest.mark.parametrize(("name", "words"), [("top_0", "k must be"), ("top_x", "did you mean 'top_3'"), ("logloss", "'log_loss'")])
def test_wrong_names_are_refused(backend, name, words):
    with pytest.raises(ValueError, match=words):
        fit(backend, "cross_entropy", 3, np.arange(24) % 3, [name])
