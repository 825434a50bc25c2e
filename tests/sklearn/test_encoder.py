"""MLPEncoder: what it learns with and without y, and how it works with the rest of scikit-learn."""

import pickle

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="scikit-learn is not installed")
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline

from microbp.sklearn import MLPEncoder

RNG = np.random.default_rng(4)
CODE = RNG.normal(size=(800, 2))
X = np.tanh(CODE @ RNG.normal(size=(2, 8)))  # two numbers in eight columns
LABELS = np.where(CODE[:, 0] * CODE[:, 1] > 0, "same", "other")  # no straight line separates them
QUICK = {"hidden_layer_sizes": (32,), "learning_rate_init": 0.01, "max_iter": 60, "random_state": 0}
pytestmark = pytest.mark.filterwarnings("ignore:.*while it still improved")


def quick(components=2, **settings):
    return MLPEncoder(components, **QUICK | settings)


def test_without_y_it_reconstructs_x_from_few_features():
    encoder = quick().fit(X[:600])
    new = X[600:]
    error = ((encoder.inverse_transform(encoder.transform(new)) - new) ** 2).mean()
    assert error < 0.02 * new.var()
    assert [array.shape for array in encoder.coefs_] == [(8, 32), (32, 2), (2, 32), (32, 8)]
    assert encoder.loss_curve_[-1] < 0.1 * encoder.loss_curve_[0]


@pytest.mark.parametrize("y", [LABELS, (LABELS == "same").astype(int), LABELS == "same"], ids=["text", "int", "bool"])
def test_with_classes_a_straight_line_separates_the_features(y):
    model = make_pipeline(quick(), LogisticRegression()).fit(X[:600], y[:600])
    assert LogisticRegression().fit(X[:600], y[:600]).score(X[600:], y[600:]) < 0.7
    assert model.score(X[600:], y[600:]) > 0.93
    assert [array.shape for array in model[0].coefs_] == [(8, 32), (32, 2), (2, 2)]


@pytest.mark.parametrize("targets", [1, 3])
def test_with_numbers_the_features_predict_them_linearly(targets):
    y = np.stack([CODE[:, 0] * CODE[:, 1] + i for i in range(targets)], axis=1)
    y = y[:, 0] if targets == 1 else y
    model = make_pipeline(quick(), LinearRegression()).fit(X[:600], y[:600])
    assert model.score(X[600:], y[600:]) > 0.9 > 0.3 > LinearRegression().fit(X, y).score(X, y)


def test_the_loss_decides_whether_whole_numbers_are_classes():
    y = (10 * CODE[:, 0]).round().astype(int)
    assert quick(max_iter=1).fit(X, y).coefs_[-1].shape == (2, len(np.unique(y)))
    assert quick(max_iter=1, loss="squared_error").fit(X, y).coefs_[-1].shape == (2, 1)


WHOLE = (10 * CODE).round()  # numbers without fractions


@pytest.mark.parametrize(
    ("y", "columns"),
    [
        (WHOLE[:, 0], 1),
        (WHOLE[:, :1].astype("float32"), 1),
        (WHOLE[:, 0].tolist(), 1),
        (WHOLE, 2),
        (WHOLE.astype(int), 2),
        (WHOLE.astype(int).tolist(), 2),
        (WHOLE > 0, 2),
    ],
    ids=["float", "a column", "list", "floats", "ints", "lists", "bools"],
)
@pytest.mark.filterwarnings("ignore:A column-vector y")
def test_floats_and_several_columns_are_numbers(y, columns):
    encoder = quick(max_iter=1).fit(X, y)
    assert encoder.coefs_[-1].shape == (2, columns) and encoder.out_activation_ == "identity"
    assert np.array_equal(encoder.transform(X), quick(max_iter=1, loss="squared_error").fit(X, y).transform(X))


def test_floats_are_classes_where_the_loss_is_of_classes():
    encoder = quick(max_iter=1, loss="cross_entropy").fit(X, WHOLE[:, 0])
    assert encoder.coefs_[-1].shape == (2, len(np.unique(WHOLE[:, 0]))) and encoder.out_activation_ == "softmax"


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("hidden", [(), (16,), (16, 8)])
def test_the_features_are_those_of_a_layer(dtype, hidden):
    encoder = quick(3, hidden_layer_sizes=hidden, max_iter=2).fit(X.astype(dtype), LABELS)
    h = X.astype(dtype).astype(np.float64)
    for weight, bias in list(zip(encoder.coefs_, encoder.intercepts_, strict=True))[: len(hidden)]:
        h = np.maximum(h @ weight + bias, 0)
    h = h @ encoder.coefs_[len(hidden)] + encoder.intercepts_[len(hidden)]
    found = encoder.transform(X.astype(dtype))
    assert found.dtype == dtype
    np.testing.assert_allclose(found, h, rtol=1e-4, atol=1e-5)


def test_frames_in_and_out():
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    frame = pandas.DataFrame(X, columns=[f"c{i}" for i in range(8)])
    encoder = quick(max_iter=2).set_output(transform="pandas").fit(frame)
    assert encoder.transform(frame).columns.tolist() == encoder.get_feature_names_out().tolist() == ["mlpencoder0", "mlpencoder1"]


def test_copies_and_repeats():
    encoder = quick(max_iter=3).fit(X, LABELS)
    assert np.array_equal(pickle.loads(pickle.dumps(encoder)).transform(X), encoder.transform(X))
    assert np.array_equal(clone(encoder).fit_transform(X, LABELS), encoder.transform(X))
    stopped = quick(early_stopping=True).fit(X, LABELS)
    assert len(stopped.validation_scores_) == stopped.n_iter_ and stopped.best_validation_score_ > 0.9


def test_weights_and_rows_of_weight_0():
    weight = np.ones(len(X))
    weight[500:] = 0
    spoiled = X.copy()
    spoiled[500:] = 50.0
    found = [quick(max_iter=3).fit(rows, sample_weight=weight).transform(X) for rows in (X, spoiled)]
    assert np.array_equal(*found)


def test_the_wrong_is_refused():
    supervised = quick(max_iter=1).fit(X, LABELS)
    assert not hasattr(supervised, "inverse_transform")
    for method in ("transform", "inverse_transform", "get_feature_names_out"):
        with pytest.raises(NotFittedError, match="not fitted yet"):
            getattr(quick(), method)(X)
    with pytest.raises(ValueError, match="n_components must be at least 1"):
        quick(0).fit(X)
    with pytest.raises(ValueError, match="a loss of classes"):
        quick(loss="cross_entropy").fit(X)
