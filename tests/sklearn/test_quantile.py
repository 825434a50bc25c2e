"""QuantileRegressor: coverage, order, units of y, levels, weights, copies, what is refused."""

import pickle

import numpy as np
import pytest

import microbp as bp

pytest.importorskip("sklearn", reason="scikit-learn is not installed")
from sklearn.base import clone
from sklearn.metrics import mean_pinball_loss
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from microbp.sklearn import QuantileRegressor

RNG = np.random.default_rng(3)
X = RNG.uniform(-1, 1, (3000, 2))
Y = 2 * X[:, 0] + (1.5 + X[:, 1]) * RNG.normal(size=3000)  # the median is 2 x0, the deviation 1.5 + x1
QUICK = {"hidden_layer_sizes": (16,), "learning_rate_init": 0.01, "max_iter": 15, "n_iter_no_change": 15, "tol": 0.0, "random_state": 0}
pytestmark = pytest.mark.filterwarnings("ignore:.*while it still improved")


def quick(**settings):
    return QuantileRegressor(**QUICK | settings)


@pytest.fixture(scope="module")
def trained():
    return QuantileRegressor(learning_rate_init=0.01, random_state=0).fit(X[:2000], Y[:2000])


def test_intervals_have_their_coverage_on_new_rows(trained):
    """90 % of 1000 rows: the deviation of the count is 9.5; the network errs too."""
    low, high = trained.predict_interval(X[2000:])
    assert 0.87 < ((low <= Y[2000:]) & (Y[2000:] <= high)).mean() < 0.93
    assert np.corrcoef(high - low, 1.5 + X[2000:, 1])[0, 1] > 0.97  # wide where the deviation is large
    assert np.abs(trained.predict(X[2000:]) - 2 * X[2000:, 0]).mean() < 0.2


def test_each_quantile_is_near_the_true_one(trained):
    true = 2 * X[2000:, :1] + (1.5 + X[2000:, 1:]) * np.array([-1.6449, 0.0, 1.6449])
    found = trained.predict_quantiles(X[2000:])
    for i, level in enumerate(trained.quantiles):
        assert mean_pinball_loss(Y[2000:], found[:, i], alpha=level) < 1.03 * mean_pinball_loss(Y[2000:], true[:, i], alpha=level)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_quantiles_are_the_sorted_outputs_in_the_unit_of_y(dtype):
    model = quick(max_iter=1, quantiles=(0.8, 0.4, 0.5, 0.6)).fit(X.astype(dtype), 1e-3 * Y)  # after an epoch, quantiles cross
    raw = model.net.predict(X.astype(dtype))
    assert (np.diff(raw, axis=1) < 0).any()
    rising = np.sort(raw, axis=1) * raw.dtype.type((1e-3 * Y).std()) + raw.dtype.type((1e-3 * Y).mean())
    found = model.predict_quantiles(X.astype(dtype))
    assert found.dtype == dtype
    np.testing.assert_allclose(found[:, [1, 2, 3, 0]], rising, rtol=1e-6, atol=1e-9)
    assert np.array_equal(model.predict(X.astype(dtype)), found[:, 2])


def test_the_network_is_trained_by_the_quantile_loss():
    """The loss of the last epoch falls to that of the trained network on these rows."""
    model = QuantileRegressor((0.1, 0.9), **QUICK | {"max_iter": 60, "alpha": 0.0}).fit(X, Y)
    t = bp.Trainer(model.net, bp.Loss("quantile", q=[0.1, 0.9]))
    assert model.loss_ == pytest.approx(t.evaluate(X, (Y - Y.mean()) / Y.std()), rel=0.02)


@pytest.mark.parametrize(("factor", "shift"), [(1000.0, 0.0), (1e-6, 7.0), (1.0, -1e4)])
def test_predictions_follow_the_unit_of_y(factor, shift):
    there, here = quick().fit(X, factor * Y + shift).predict_quantiles(X), quick().fit(X, Y).predict_quantiles(X)
    np.testing.assert_allclose((there - shift) / factor, here, rtol=1e-4, atol=1e-4)


def test_a_constant_y():
    np.testing.assert_allclose(quick(max_iter=100).fit(X, np.full(len(X), 5.0)).predict(X), 5.0, atol=0.1)


@pytest.mark.parametrize(
    ("quantiles", "place"), [((0.05, 0.5, 0.95), 1), ([0.9, 0.4, 0.1], 1), (0.75, 0), ((0.9,), 0), (np.array([0.2, 0.7]), 1)], ids=repr
)
def test_predict_gives_the_level_nearest_to_the_median(quantiles, place):
    model = quick(quantiles=quantiles).fit(X, Y)
    assert np.array_equal(model.predict(X), model.predict_quantiles(X)[:, place])


def test_an_interval_between_levels_is_interpolated():
    model = quick(quantiles=(0.95, 0.1, 0.3, 0.5, 0.7)).fit(X, Y)
    found = dict(zip(model.quantiles, model.predict_quantiles(X).T, strict=True))
    low, high = model.predict_interval(X, coverage=0.6)  # 0.2 and 0.8
    np.testing.assert_allclose(low, (found[0.1] + found[0.3]) / 2)
    np.testing.assert_allclose(high, found[0.7] + 0.4 * (found[0.95] - found[0.7]))
    low, high = model.predict_interval(X, coverage=0.4)
    assert np.array_equal(low, found[0.3]) and np.array_equal(high, found[0.7])


def test_weights_move_the_quantiles():
    weight = np.where(np.median(Y) < Y, 9.0, 1.0)
    share = [(quick(quantiles=0.5).fit(np.zeros_like(X), Y, sample_weight=w).predict(np.zeros((1, 2))) > Y).mean() for w in (None, weight)]
    assert share[0] == pytest.approx(0.5, abs=0.05)
    assert share[1] == pytest.approx(1 - 0.5 * (5 / 9), abs=0.05)  # half of the weight is below


def test_early_stopping_watches_the_loss_of_validation_rows():
    model = quick(early_stopping=True, max_iter=30).fit(X, Y)
    assert len(model.validation_scores_) == model.n_iter_
    assert model.best_validation_score_ == max(model.validation_scores_) < 0  # minus the loss
    model = quick().fit(X[:1000], Y[:1000], eval_set=(X[1000:], Y[1000:]))
    t = bp.Trainer(model.net, bp.Loss("quantile", q=[0.05, 0.5, 0.95]))
    scaled = (Y[1000:] - Y[:1000].mean()) / Y[:1000].std()
    assert model.validation_loss_curve_[-1] == pytest.approx(t.evaluate(X[1000:], scaled), rel=1e-9)


def test_warm_start_continues_and_keeps_the_scale():
    twice = quick(warm_start=True, max_iter=5).fit(X, Y)
    first = twice.loss_
    assert twice.fit(X, Y).loss_ < first
    assert twice.fit(X, 10 * Y).predict(X).std() > 2 * Y.std()
    with pytest.raises(ValueError, match=r"quantiles are \(0.5,\), but those of the first fit were \(0.05, 0.5, 0.95\)"):
        twice.set_params(quantiles=0.5).fit(X, Y)
    twice.set_params(quantiles=(0.05, 0.5, 0.95))
    with pytest.raises(ValueError, match="QuantileRegressor: hidden_layer_sizes is .*, but the network was made with"):
        twice.set_params(hidden_layer_sizes=(3,)).fit(X, Y)
    same, other = (quick(warm_start=True, max_iter=5).fit(X, Y) for _ in range(2))
    assert not np.array_equal(same.fit(X, Y).net.params, other.set_params(alpha=100.0).fit(X, Y).net.params)


def test_a_fit_that_fails_keeps_the_scale():
    model, twin = (quick(warm_start=True, max_iter=2).fit(X, Y) for _ in range(2))
    with pytest.raises(ZeroDivisionError):
        model.set_params(callback=lambda record: 1 / 0, warm_start=False).fit(X, 100 * Y)
    with pytest.raises(ZeroDivisionError):
        model.set_params(warm_start=True).fit(X, 100 * Y)
    assert np.array_equal(model.predict_quantiles(X), twin.predict_quantiles(X))
    assert np.array_equal(model.set_params(callback=None).fit(X, Y).net.params, twin.fit(X, Y).net.params)


def test_copies_and_searches():
    model = quick().fit(X, Y)
    assert np.array_equal(pickle.loads(pickle.dumps(model)).predict_quantiles(X), model.predict_quantiles(X))
    assert np.array_equal(clone(model).fit(X, Y).predict(X), model.predict(X))
    found = GridSearchCV(make_pipeline(StandardScaler(), quick()), {"quantileregressor__hidden_layer_sizes": [(4,), (8,)]}, cv=2).fit(X, Y)
    assert found.best_estimator_.predict(X).shape == Y.shape


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (
            lambda: quick(quantiles=()).fit(X, Y),
            r"quantiles must be different numbers between 0 and 1, such as \(0.05, 0.5, 0.95\), not \(\)",
        ),
        (lambda: quick(quantiles=(0.5, 0.5)).fit(X, Y), "quantiles must be different numbers"),
        (lambda: quick(quantiles=(0.5, 1)).fit(X, Y), "quantiles must be different numbers"),
        (lambda: quick(quantiles=[[0.5]]).fit(X, Y), "quantiles must be different numbers"),
        (lambda: quick().fit(X, np.stack([Y, Y], axis=1)), "y has 2 columns, but must have one"),
        (
            lambda: quick().fit(X, Y).predict_interval(X, 0.95),
            "coverage=0.95 needs quantiles from 0.025 to 0.975, but they reach from 0.05",
        ),
        (lambda: quick().fit(X, Y).predict_interval(X, 1.0), "coverage must be a number between 0 and 1, such as 0.9, not 1"),
    ],
)
def test_the_wrong_is_refused(call, text):
    with pytest.raises(ValueError, match=text):
        call()
