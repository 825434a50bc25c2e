"""From the same first weights, with the same order of rows, scikit-learn's estimators and microbp's do the same computation."""

from __future__ import annotations

import numpy as np
import pytest
import sklearn.neural_network as theirs
from sklearn import datasets
from sklearn.base import clone
from sklearn.model_selection import train_test_split

from microbp import sklearn as ours

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")  # tests train for few epochs

ROWS, EPOCHS = 450, 20  # two batches of 200 rows and one of 50

SOLVERS = {
    "adam": {"solver": "adam", "learning_rate_init": 0.01, "epsilon": 1e-3},
    "sgd": {"solver": "sgd", "learning_rate_init": 0.05, "nesterovs_momentum": False},
    "nesterov": {"solver": "sgd", "learning_rate_init": 0.05},
    "without momentum": {"solver": "sgd", "learning_rate_init": 0.05, "momentum": 0},
    "invscaling": {"solver": "sgd", "learning_rate_init": 0.5, "learning_rate": "invscaling"},
    "adaptive": {"solver": "sgd", "learning_rate_init": 0.2, "learning_rate": "adaptive", "tol": 0.05, "n_iter_no_change": 1},
}


def targets(kind: str, X: np.ndarray, numbers: np.random.Generator) -> np.ndarray:
    if kind == "binary":
        return np.where(X[:, 0] * X[:, 1] > 0, "yes", "no")
    if kind == "multiclass":
        return (X[:, 0] > 0) + 2 * (X[:, 1] > 0.5)
    if kind == "multilabel":
        return (X[:, :3] + numbers.normal(size=(len(X), 3)) > 0).astype(int)
    if kind == "counts":
        return numbers.poisson(np.exp(X[:, :2] / 2))
    return X[:, 0] * X[:, 1] if kind == "number" else np.stack([X[:, 0] * X[:, 1], np.sin(X[:, 2])], axis=1)


CLASSIFIERS = ("binary", "multiclass", "multilabel")
KINDS = (*CLASSIFIERS, "number", "numbers", "counts")


def trained(kind: str, settings: dict, X: np.ndarray, y: np.ndarray, monkeypatch, weight: np.ndarray | None = None):
    """Both estimators, trained from the same first weights, on rows in their order."""
    name = "MLPClassifier" if kind in CLASSIFIERS else "MLPRegressor"
    settings = {"hidden_layer_sizes": (9, 7), "activation": "tanh", "shuffle": False, "max_iter": EPOCHS, "random_state": 0} | settings
    settings |= {"loss": "poisson"} if kind == "counts" else {}
    mine, other = (getattr(module, name)(**settings) for module in (ours, theirs))
    still = clone(mine).set_params(learning_rate_init=1e-300, solver="sgd", max_iter=1).fit(X, y)  # its weights do not move
    first = iter(zip(still.coefs_, still.intercepts_, strict=True))
    monkeypatch.setattr(type(other), "_init_coef", lambda *arguments: tuple(array.copy() for array in next(first)))
    return mine.fit(X, y, weight), other.fit(X, y, weight)


def assert_equal_weights(mine, other) -> None:
    for a, b in zip(mine.coefs_ + mine.intercepts_, other.coefs_ + other.intercepts_, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("alpha", [1e-4, 1.0])
@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("kind", KINDS)
def test_loss_curves_are_equal(kind, solver, alpha, numbers, monkeypatch):
    X = numbers.normal(size=(ROWS, 4))
    mine, other = trained(kind, SOLVERS[solver] | {"alpha": alpha}, X, targets(kind, X, numbers), monkeypatch)
    assert (mine.n_iter_, mine.t_, mine.out_activation_) == (other.n_iter_, other.t_, other.out_activation_)
    np.testing.assert_allclose(mine.loss_curve_, other.loss_curve_, rtol=1e-9)
    assert mine.best_loss_ == pytest.approx(other.best_loss_, rel=1e-9)
    assert_equal_weights(mine, other)


@pytest.mark.parametrize("solver", ["adam", "sgd"])
@pytest.mark.parametrize("kind", KINDS)
def test_weighted_rows_have_equal_steps(kind, solver, numbers, monkeypatch):
    """The losses of an epoch too, if it is one batch; of several, scikit-learn takes the mean over rows, microbp over their weights."""
    X, weight = numbers.normal(size=(150, 4)), numbers.uniform(0.1, 3, size=150)
    mine, other = trained(kind, SOLVERS[solver], X, targets(kind, X, numbers), monkeypatch, weight)
    np.testing.assert_allclose(mine.loss_curve_, other.loss_curve_, rtol=1e-9)
    X, weight = numbers.normal(size=(ROWS, 4)), numbers.uniform(0.1, 3, size=ROWS)
    assert_equal_weights(*trained(kind, SOLVERS[solver], X, targets(kind, X, numbers), monkeypatch, weight))


@pytest.mark.parametrize("alpha", [1e-4, 1.0])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_lbfgs_starts_with_the_same_losses(kind, weighted, alpha, numbers, monkeypatch):
    """For a few iterations: later, differences of rounding grow."""
    if kind == "numbers":
        pytest.skip("scikit-learn gives L-BFGS the gradient of another loss than the one it reports, if there are several numbers")
    X = numbers.normal(size=(1500, 4))
    weight = numbers.uniform(0.1, 3, size=1500) if weighted else None
    settings = {"solver": "lbfgs", "max_iter": 4, "alpha": alpha}
    mine, other = trained(kind, settings, X, targets(kind, X, numbers), monkeypatch, weight)
    assert mine.loss_ == pytest.approx(other.loss_, rel=1e-6)


@pytest.mark.parametrize("kind", ["multiclass", "number"])
def test_training_ends_after_as_many_epochs(kind, numbers, monkeypatch):
    X = numbers.normal(size=(100, 4))
    settings = {"learning_rate_init": 0.02, "tol": 3e-3, "n_iter_no_change": 3, "max_iter": 2000}
    mine, other = trained(kind, settings, X, targets(kind, X, numbers), monkeypatch)
    assert mine.n_iter_ == other.n_iter_ < 2000


@pytest.mark.parametrize("name", ["digits", "iris", "wine", "breast_cancer", "diabetes"])
def test_results_agree_in_distribution(name):
    """With own first weights and orders of rows, over 20 seeds: the mean scores differ by less than four standard errors."""
    X, y = getattr(datasets, f"load_{name}")(return_X_y=True)
    y = y if y.dtype.kind == "i" else (y - y.mean()) / y.std()
    model = "MLPClassifier" if y.dtype.kind == "i" else "MLPRegressor"
    X, X_test, y, y_test = train_test_split((X - X.mean(axis=0)) / (X.std(axis=0) + 1e-9), y, test_size=0.3, random_state=0)
    means, errors = [], []
    for module in (ours, theirs):
        settings = {"hidden_layer_sizes": (50,), "learning_rate_init": 0.003, "max_iter": 40}
        scores = [getattr(module, model)(**settings, random_state=seed).fit(X, y).score(X_test, y_test) for seed in range(20)]
        means.append(np.mean(scores))
        errors.append(np.std(scores) / np.sqrt(len(scores)))
    assert abs(means[0] - means[1]) < 4 * np.hypot(*errors) + 1e-3
