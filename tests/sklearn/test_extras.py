"""What the estimators have beyond scikit-learn's: losses, weights and gaps, networks, schedules, validation rows, callbacks."""

from __future__ import annotations

import pickle
import time
from datetime import timedelta

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning

import microbp as bp
from microbp.sklearn import MLPClassifier, MLPRegressor

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")  # tests train for few epochs


def classes(numbers: np.random.Generator, rows: int = 120):
    X = numbers.normal(size=(rows, 3))
    return X, np.where(X[:, 0] > 0.3, "high", np.where(X[:, 1] > 0, "left", "right"))


def same(a, b) -> bool:
    return a.net.params.tobytes() == b.net.params.tobytes()


# ---- weights ----


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_class_weights_multiply_the_weights_of_rows(solver, numbers):
    X, y = classes(numbers)
    factors = {"high": 3.0, "left": 0.5}
    weight = numbers.uniform(0.5, 2, size=len(y))
    settings = {"solver": solver, "max_iter": 3, "random_state": 0}
    by_class = MLPClassifier(class_weight=factors, **settings).fit(X, y, weight)
    by_row = MLPClassifier(**settings).fit(X, y, weight * [factors.get(label, 1.0) for label in y])
    assert same(by_class, by_row)
    sums = {label: weight[y == label].sum() for label in set(y)}
    balanced = MLPClassifier(class_weight="balanced", **settings).fit(X, y, weight)
    wanted = MLPClassifier(**settings).fit(X, y, weight * [weight.sum() / (3 * sums[label]) for label in y])
    np.testing.assert_allclose(balanced.net.params, wanted.net.params, rtol=1e-9)


def test_class_weights_of_labels_weigh_each_label(numbers):
    X = numbers.normal(size=(60, 3))
    y = (X[:, :2] + numbers.normal(size=(60, 2)) > 0).astype(int)
    by_class = MLPClassifier(class_weight=[{0: 1, 1: 4}, {1: 0.5}], max_iter=3, random_state=0).fit(X, y)
    elements = np.where(y == 1, [4, 0.5], 1.0)
    assert same(by_class, MLPClassifier(max_iter=3, random_state=0).fit(X, y, elements))


@pytest.mark.parametrize("wrong", ["even", {"low": 1}, {"high": -1}, 3, {"high": 0, "left": 0, "right": 0}])
def test_wrong_class_weights_are_refused(wrong, numbers):
    with pytest.raises(ValueError, match=r"class_weight|zero"):
        MLPClassifier(class_weight=wrong).fit(*classes(numbers))
    with pytest.raises(ValueError, match="needs all rows at once"):
        MLPClassifier(class_weight="balanced").partial_fit(*classes(numbers), classes=["high", "left", "right"])


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_missing_targets_have_weight_0(solver, numbers):
    X, y = numbers.normal(size=(80, 3)), numbers.normal(size=(80, 2))
    gaps = numbers.random(size=y.shape) < 0.3
    gaps[:5] = True  # rows without targets
    settings = {"solver": solver, "max_iter": 4, "random_state": 0}
    model = MLPRegressor(**settings).fit(X, np.where(gaps, np.nan, y))
    weighted = MLPRegressor(**settings).fit(X, y, np.where(gaps, 0.0, 1.0))
    np.testing.assert_allclose(model.net.params, weighted.net.params, rtol=1e-12)
    assert model.loss_ == pytest.approx(weighted.loss_, rel=1e-12)
    with pytest.raises(ValueError, match="Input y contains NaN"):
        MLPRegressor().fit(X, np.where(gaps[:, 0], np.nan, y[:, 0]))


@pytest.mark.parametrize("early_stopping", [False, True])
def test_a_row_of_weight_0_is_not_there(early_stopping, numbers):
    X, y = classes(numbers)
    weight = (numbers.random(size=len(y)) < 0.7).astype(float)
    there = weight > 0
    settings = {"early_stopping": early_stopping, "max_iter": 4, "batch_size": 16, "random_state": 0}
    a = MLPClassifier(**settings).fit(X, y, weight)
    b = MLPClassifier(**settings).fit(X[there], y[there], weight[there])
    assert same(a, b) and a.validation_scores_ == b.validation_scores_


@pytest.mark.parametrize("weighted", [False, True])
def test_lbfgs_reports_the_mean_over_targets(weighted, numbers):
    """As the other solvers, and as scikit-learn: half the squared error, and the penalty."""
    X, y = numbers.normal(size=(2100, 3)), numbers.normal(size=(2100, 3))
    weight = numbers.uniform(0.1, 3, size=2100) if weighted else None
    model = MLPRegressor(hidden_layer_sizes=(4,), solver="lbfgs", alpha=30.0, max_iter=5, random_state=0).fit(X, y, weight)
    half = np.average((model.predict(X) - y) ** 2, weights=weight, axis=0).mean() / 2
    penalty = 15 * sum((array**2).sum() for array in model.coefs_) / (2100 if weight is None else weight.sum())
    assert model.loss_ == model.best_loss_ == model.loss_curve_[-1] == pytest.approx(half + penalty, rel=1e-12)
    assert len(model.loss_curve_) == 5


@pytest.mark.parametrize("loss", ["squared_error", "own"])
def test_lbfgs_lowers_the_penalties_of_a_network(loss, numbers):
    """Their gradient too belongs to the loss, or a line search finds nothing."""
    X, y = numbers.normal(size=(60, 3)), numbers.normal(size=60)

    def net(features, outputs):
        x = bp.Input(features)
        return bp.Network(x, bp.Dense(outputs, l2=0.7)(bp.Dense(4, activation="tanh", l2=0.7)(x)), dtype="float64")

    model = MLPRegressor(half_square if loss == "own" else loss, solver="lbfgs", network=net, max_iter=2000, random_state=0).fit(X, y)
    penalty = 0.35 * sum((array**2).sum() for array in model.coefs_)
    assert model.loss_ == pytest.approx(((model.predict(X) - y) ** 2).mean() / 2 + penalty, rel=1e-12)
    assert np.abs(model._trainer.grads).max() < 1e-4


# ---- losses and outputs ----


def test_losses_of_classes(numbers):
    X, y = classes(numbers)
    for loss in ["log_loss", "cross_entropy(label_smoothing=0.1)", bp.Loss("bce", pos_weight=2), "hinge", "kl"]:
        for labels in (y, y == "high", (X[:, :2] > 0).astype(int)):
            if labels.ndim == 2 and str(loss) in ("kl", "cross_entropy(label_smoothing=0.1)"):
                with pytest.raises(ValueError, match="is for one class per row"):
                    MLPClassifier(loss=loss).fit(X, labels)
                continue
            model = MLPClassifier(loss=loss, learning_rate_init=0.03, max_iter=60, random_state=0).fit(X, labels)
            assert model.score(X, labels) > 0.85, (loss, labels)
            assert hasattr(model, "predict_proba") == (loss != "hinge")
    with pytest.raises(ValueError, match="a loss of numbers"):
        MLPClassifier(loss="mse").fit(X, y)


def test_losses_of_numbers(numbers):
    X = numbers.normal(size=(300, 2))
    y = X[:, 0] + 0.5 * numbers.normal(size=300)
    settings = {"hidden_layer_sizes": (20,), "learning_rate_init": 0.02, "max_iter": 60, "random_state": 0}
    for loss in ["absolute_error", "huber(delta=0.5)", "log_cosh", bp.Loss("smooth_l1"), "mse", bp.Loss("quantile", q=0.5)]:
        assert MLPRegressor(loss, **settings).fit(X, y).score(X, y) > 0.7, loss
    above = np.mean(y < MLPRegressor(bp.Loss("quantile", q=0.9), **settings).fit(X, y).predict(X))
    assert 0.8 < above < 0.97
    mean, deviation = MLPRegressor("gaussian_nll", **settings).fit(X, y).predict(X, return_std=True)
    assert mean.shape == deviation.shape == (300,) and 0.3 < deviation.mean() < 0.7
    with pytest.raises(ValueError, match="return_std needs loss"):
        MLPRegressor(max_iter=1).fit(X, y).predict(X, return_std=True)
    for wrong in ("cross_entropy", "hinge"):
        with pytest.raises(ValueError, match="a loss of classes"):
            MLPRegressor(wrong).fit(X, y)
    with pytest.raises(ValueError, match="several outputs for each target"):
        MLPRegressor(bp.Loss("quantile", q=[0.1, 0.9])).fit(X, y)


def half_square(outputs, targets, weight):
    """A loss of the user."""
    difference = outputs - targets
    weight = np.ones(len(outputs)) if weight is None else weight
    return float(weight @ (difference**2).sum(axis=1) / 2 / weight.sum()), difference * weight[:, None] / weight.sum()


def test_a_function_as_loss_and_its_copies(numbers):
    X, y = numbers.normal(size=(60, 3)), numbers.normal(size=60)
    own, named = (MLPRegressor(loss, max_iter=4, random_state=0).fit(X, y) for loss in (half_square, "squared_error"))
    np.testing.assert_allclose(own.predict(X), named.predict(X), rtol=1e-9)
    assert same(pickle.loads(pickle.dumps(own)).partial_fit(X, y), own.partial_fit(X, y))


def test_an_output_activation_limits_predictions(numbers):
    X, y = numbers.normal(size=(60, 3)), numbers.normal(size=60)
    model = MLPRegressor(out_activation="tanh", max_iter=3).fit(X, 5 * y)
    assert model.out_activation_ == "tanh" and np.abs(model.predict(X)).max() <= 1


def test_each_hidden_layer_has_its_activation(numbers):
    model = MLPRegressor(hidden_layer_sizes=(4, 5, 6), activation=["relu", "logistic", bp.Activation("leaky_relu", slope=0.3)], max_iter=1)
    net = model.fit(numbers.normal(size=(9, 2)), numbers.normal(size=9)).net
    assert [layer.activation for layer in net.layers] == ["relu", "sigmoid", "leaky_relu(slope=0.3)", "identity"]


def test_dropout_and_l1_regularize(numbers):
    X, y = numbers.normal(size=(40, 10)), numbers.normal(size=40)
    settings = {"learning_rate_init": 0.02, "max_iter": 200, "random_state": 0}
    free, sparse = (MLPRegressor(l1=l1, **settings).fit(X, y) for l1 in (0.0, 3.0))
    assert np.abs(sparse.coefs_[0]).sum() < np.abs(free.coefs_[0]).sum() / 2
    assert MLPRegressor(dropout=0.5, **settings).fit(X, y).score(X, y) < free.score(X, y)


# ---- networks and optimizers ----


def skip(features, outputs):
    """A network with a skip connection."""
    x = bp.Input(features)
    h = bp.Dense(8, activation="tanh")(x)
    return bp.Network(x, bp.Dense(outputs)(bp.concat([x, h])), dtype="float64")


@pytest.mark.parametrize("cls", [MLPClassifier, MLPRegressor])
def test_a_network_of_any_graph(cls, numbers):
    X, y = classes(numbers)
    y = y if cls is MLPClassifier else X[:, 0] ** 2
    model, again, other = (cls(network=skip, max_iter=3, random_state=seed).fit(X, y) for seed in (0, 0, 1))
    assert same(model, again) and not same(model, other)
    start = skip(3, model.n_outputs_)
    before = start.params.copy()
    tuned = cls(network=start, learning_rate_init=1e-9, max_iter=1).fit(X, y)
    assert (start.params == before).all() and np.allclose(tuned.net.params, before, atol=1e-6)
    for wrong in (skip(2, 1), lambda features, outputs: skip(features, outputs + 1)):
        with pytest.raises(ValueError, match="X and y need one input of 3"):
            cls(network=wrong).fit(X, y)
    with pytest.raises(TypeError, match="network must return a bp.Network"):
        cls(network=lambda features, outputs: None).fit(X, y)


@pytest.mark.parametrize("solver", ["lamb", "adamw(lr=0.01,weight_decay=0.1)", bp.AdaBelief(lr=0.01), "rprop"], ids=str)
def test_any_optimizer_is_a_solver(solver, numbers):
    X, y = classes(numbers)
    model = MLPClassifier(solver=solver, learning_rate_init=0.01, batch_size=len(X), max_iter=60, random_state=0).fit(X, y)
    assert model.loss_curve_[-1] < model.loss_curve_[0] / 2


def test_a_schedule_sets_the_rate(numbers):
    X, y = classes(numbers)
    seen = []
    MLPClassifier(schedule=bp.StepDecay(lr=0.01, step_size=2, gamma=0.1), max_iter=4, callback=lambda record: seen.append(record.lr)).fit(
        X, y
    )
    assert seen == pytest.approx([0.01, 0.01, 0.001, 0.001])


# ---- validation rows, callbacks, time ----


@pytest.mark.parametrize("outputs", [1, 2])
def test_eval_set_gives_validation_curves(outputs, numbers):
    X, y = numbers.normal(size=(80, 3)), numbers.normal(size=(80, 2))[:, :outputs].squeeze()
    model = MLPRegressor(max_iter=3, random_state=0)
    model.fit(X[:60], y[:60], eval_set=(X[60:], y[60:], np.ones(20)))
    residual = (model.predict(X[60:]) - y[60:]) ** 2
    assert model.validation_loss_curve_[-1] == pytest.approx(residual.mean() / 2, rel=1e-12)
    assert model.validation_scores_[-1] == pytest.approx(model.score(X[60:], y[60:]), rel=1e-12)
    assert len(model.validation_loss_curve_) == len(model.loss_curve_) == 3
    plain = MLPRegressor(max_iter=3, random_state=0).fit(X[:60], y[:60])
    assert same(plain, model) and plain.loss_curve_ == model.loss_curve_


@pytest.mark.parametrize("given", [False, True])
def test_early_stopping_returns_the_best_epoch(given, numbers):
    X, y = classes(numbers, 200)
    model = MLPClassifier(early_stopping=True, learning_rate_init=0.05, n_iter_no_change=5, max_iter=500, random_state=0)
    held_out = X[:60], y[:60]
    model.fit(X[60:], y[60:], **({"eval_set": held_out} if given else {}))
    assert model.n_iter_ < 500 and model.best_loss_ is None
    assert model.best_validation_score_ == max(model.validation_scores_)
    if given:
        assert model.score(*held_out) == model.best_validation_score_


def test_early_stopping_holds_out_rows_with_rare_classes_too(numbers):
    X, y = numbers.normal(size=(60, 3)), np.arange(60) % 3
    y[0] = 7  # the only row of its class
    for fraction, labels in ((0.1, y), (0.04, np.arange(60) % 6)):
        model = MLPClassifier(early_stopping=True, validation_fraction=fraction, max_iter=2).fit(X, labels)
        assert len(model.validation_scores_) == 2 and len(model.classes_) == len(set(labels))


def test_wrong_validation_rows_are_refused(numbers):
    X, y = classes(numbers)
    for wrong in (X, (X,), (X, y[1:]), (X[:, :2], y), (X, ["low"] * len(X))):
        with pytest.raises(ValueError, match=r"eval_set|inconsistent|features|class"):
            MLPClassifier().fit(X, y, eval_set=wrong)
    with pytest.raises(ValueError, match="eval_set works with epochs"):
        MLPClassifier(solver="lbfgs").fit(X, y, eval_set=(X, y))
    for fraction in (0.0, 0.001):
        with pytest.raises(ValueError, match="the validation set is too small"):
            MLPRegressor(early_stopping=True, validation_fraction=fraction).fit(X, X[:, 0])
    with pytest.raises(ValueError, match="partial_fit works without early_stopping"):
        MLPRegressor(early_stopping=True).partial_fit(X, X[:, 0])


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_callbacks_get_records_and_stop(solver, numbers):
    X, y = classes(numbers)
    seen = []
    model = MLPClassifier(solver=solver, callback=[seen.append, lambda record: record["epoch"] == 3]).fit(X, y)
    assert [record["epoch"] for record in seen] == [1, 2, 3] and model.n_iter_ == 3
    assert [record["loss"] for record in seen] == pytest.approx(model.loss_curve_)


@pytest.mark.parametrize("max_time", [0.2, timedelta(seconds=0.2)])
@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_max_time_ends_a_fit(solver, max_time, numbers):
    X = numbers.normal(size=(4000, 20))
    start = time.monotonic()
    model = MLPRegressor(solver=solver, max_time=max_time, max_iter=10**6, max_fun=10**6, tol=0, n_iter_no_change=np.inf)
    model.fit(X, numbers.normal(size=4000))
    assert time.monotonic() - start < 60 and 1 <= model.n_iter_ < 10**6


def test_an_interrupted_fit_keeps_its_model(numbers):
    X, y = classes(numbers)

    def interrupt(record):
        if record.epoch == 2:
            raise KeyboardInterrupt

    with pytest.warns(UserWarning, match="the training was interrupted"):
        model = MLPClassifier(callback=interrupt, random_state=0).fit(X, y)
    assert same(model, MLPClassifier(max_iter=2, random_state=0).fit(X, y))


def test_results_do_not_depend_on_threads(numbers):
    X = numbers.normal(size=(600, 40))
    models = [MLPRegressor(hidden_layer_sizes=(200, 200), n_threads=n, max_iter=2, random_state=0).fit(X, X[:, 0]) for n in (1, 3)]
    assert same(*models)


class Listener:
    """A callback of scikit-learn that notes its calls, and stops after the third epoch."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.scores: list[float] = []

    def setup(self, estimator, context):
        self.calls.append("setup")

    def on_fit_task_begin(self, estimator, context):
        self.calls.append(f"begin {context.task_name}")

    def on_fit_task_end(self, estimator, context, *, X=None, y=None, fitted_estimator=None):
        self.calls.append(f"end {context.task_name}")
        self.scores.append(fitted_estimator.score(X, y))
        return context.task_name == "epoch 3"

    def teardown(self, estimator, context):
        self.calls.append("teardown")


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_callbacks_of_scikit_learn(solver, numbers):
    pytest.importorskip("sklearn.callback", reason="scikit-learn is older than 1.9")
    X, y = classes(numbers)
    listener = Listener()
    model = MLPClassifier(solver=solver, random_state=0).set_callbacks(listener).fit(X, y)
    epochs = [f"{when} epoch {n}" for n in (1, 2, 3) for when in ("begin", "end")]
    assert listener.calls == ["setup", "begin fit", *epochs, "end fit", "teardown"]
    assert model.n_iter_ == 3 and listener.scores[-1] == model.score(X, y)
    failing = MLPClassifier(random_state=0, alpha=-1).set_callbacks(listener)
    with pytest.raises(ValueError, match="alpha"):
        failing.fit(X, y)


def test_lbfgs_goes_back_from_steps_that_are_too_long(numbers):
    X, y = numbers.normal(size=(50, 3)), numbers.poisson(2, size=50)
    with pytest.warns(ConvergenceWarning, match=r"lbfgs ended before .*scale X and y|lbfgs ended before .*raise max_iter"):
        model = MLPRegressor("poisson", solver="lbfgs", max_iter=50, random_state=0).fit(300 * X, y)
    assert np.isfinite(model.predict(300 * X)).all()
    with pytest.raises(ValueError, match="the loss of the first weights is not finite"):
        MLPRegressor("poisson", solver="lbfgs", random_state=0).fit(1e9 * X, y)
