"""Fits that continue: parameters that have changed since, weights that were assigned, and errors, which change nothing."""

from __future__ import annotations

import copy
import pickle
import re

import numpy as np
import pytest
import sklearn.neural_network as theirs

import microbp as bp
from microbp import sklearn as ours
from microbp.sklearn import MLPClassifier, MLPRegressor

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")  # tests train for few epochs

CLASSES = [MLPClassifier, MLPRegressor]
PLAIN = {"solver": "sgd", "momentum": 0, "learning_rate_init": 0.05}  # an optimizer without a state


def data(cls: type, numbers: np.random.Generator, rows: int = 90) -> tuple[np.ndarray, np.ndarray]:
    """Rows of 3 features with targets: three classes, or numbers."""
    X = numbers.normal(size=(rows, 3))
    return X, np.arange(rows) % 3 if cls is MLPClassifier else X[:, 0] * X[:, 1]


def attributes(estimator) -> str:
    """All attributes, except the trainer."""
    return repr([(name, value) for name, value in vars(estimator).items() if name != "_trainer"])


def state(estimator) -> bytes:
    """What the next fit depends on."""
    trainer = estimator._trainer
    numbers = [*trainer.state.values(), trainer.grads, np.array([trainer.lr, trainer.steps, trainer.epoch, trainer.weight_decay])]
    layers = repr([(layer.l1, layer.l2) for layer in trainer.net.layers])
    return b"".join(array.tobytes() for array in (trainer.net.params, *numbers)) + layers.encode()


# ---- parameters that change ----


APPLIED = [
    (PLAIN, {"alpha": 30.0}),
    (PLAIN, {"l1": 3.0}),
    (PLAIN, {"learning_rate_init": 0.2}),
    (PLAIN, {"solver": "adam"}),
    (PLAIN, {"solver": "lbfgs"}),
    (PLAIN, {"momentum": 0.5}),
    (PLAIN, {"learning_rate": "invscaling"}),
    (PLAIN | {"learning_rate": "invscaling"}, {"learning_rate": "constant"}),
    (PLAIN | {"learning_rate": "invscaling"}, {"power_t": 0.1}),
    ({"solver": "sgd"}, {"nesterovs_momentum": False}),
    ({"solver": "lbfgs"}, {"solver": "adam"}),
    ({}, {"beta_1": 0.1}),
    ({}, {"beta_2": 0.1}),
    ({}, {"epsilon": 0.1}),
    ({"solver": "adamw"}, {"learning_rate_init": 0.2}),
    ({"solver": "adamw(lr=0.01)"}, {"solver": bp.AdamW(lr=0.01, weight_decay=0.5)}),
]


@pytest.mark.parametrize(("settings", "changed"), APPLIED, ids=str)
@pytest.mark.parametrize("cls", CLASSES)
def test_a_changed_parameter_applies_to_the_next_fit(cls, settings, changed, numbers):
    X, y = data(cls, numbers)
    model = cls((5,) if cls is MLPClassifier else "squared_error", max_iter=3, warm_start=True, random_state=0, **settings).fit(X, y)
    same, back, new = (copy.deepcopy(model) for _ in range(3))
    before = {name: getattr(model, name) for name in changed}
    assert state(back.set_params(**changed).set_params(**before).fit(X, y)) == state(same.fit(X, y))
    new.set_params(**changed).fit(X, y)
    assert not np.array_equal(new.net.params, same.net.params)
    twin = pickle.loads(pickle.dumps(new))
    assert state(twin.fit(X, y)) == state(new.fit(X, y))
    if settings.get("solver") != "lbfgs" != changed.get("solver"):
        steps, same = copy.deepcopy(model).set_params(**changed), copy.deepcopy(model)
        for _ in range(2):  # the first epoch of "invscaling" has the rate learning_rate_init
            steps.partial_fit(X, y), same.partial_fit(X, y)
        assert not np.array_equal(steps.net.params, same.net.params)


@pytest.mark.parametrize("changed", [changed for settings, changed in APPLIED if settings is PLAIN and "l1" not in changed], ids=str)
@pytest.mark.parametrize("cls", CLASSES)
def test_it_applies_as_in_scikit_learn(cls, changed, numbers):
    X, y = data(cls, numbers)
    settings = PLAIN | {"hidden_layer_sizes": (6,), "activation": "tanh", "max_iter": 3, "warm_start": True, "shuffle": False, "tol": 0}
    mine, other = (getattr(module, cls.__name__)(**settings).fit(X, y) for module in (ours, theirs))
    mine.coefs_, mine.intercepts_ = other.coefs_, other.intercepts_
    for model in (mine, other):
        model.set_params(**changed).fit(X, y)
    assert mine.loss_ == pytest.approx(other.loss_, rel=1e-6 if "lbfgs" in changed.values() else 1e-10)


def skip(features, outputs):
    """A network of a user."""
    x = bp.Input(features)
    return bp.Network(x, bp.Dense(outputs)(bp.concat([x, bp.Dense(4, activation="tanh", l2=0.5)(x)])), dtype="float64")


REFUSED = [
    *[
        (cls, *one)
        for cls in CLASSES
        for one in {"hidden_layer_sizes": (7,), "activation": "tanh", "network": skip, "dropout": 0.5}.items()
    ],
    (MLPClassifier, "loss", "hinge"),
    (MLPRegressor, "loss", "absolute_error"),
    (MLPRegressor, "out_activation", "tanh"),
]


@pytest.mark.parametrize(("cls", "name", "value"), REFUSED, ids=lambda one: getattr(one, "__name__", str(one)))
def test_what_a_network_is_made_of_cannot_change(cls, name, value, numbers):
    X, y = data(cls, numbers)
    model = cls(max_iter=2, random_state=0, warm_start=True).fit(X, y)
    before = state(model)
    for fit in (model.fit, model.partial_fit):
        model.set_params(**{name: value})
        with pytest.raises(ValueError, match=rf"{cls.__name__}: {name} is .*, but the network was made with .*warm_start=False"):
            fit(X, y)
        assert state(model) == before
    assert model.set_params(warm_start=False).fit(X, y).n_iter_ == 2


def test_a_network_of_the_user_keeps_its_penalties(numbers):
    X, y = data(MLPRegressor, numbers)
    model = MLPRegressor(network=skip, max_iter=2, warm_start=True, random_state=0).fit(X, y)
    same = copy.deepcopy(model).fit(X, y)
    assert state(model.set_params(alpha=9.0, activation="tanh", hidden_layer_sizes=(3, 3)).fit(X, y)) == state(same)
    assert [layer.l2 for layer in model.net.layers] == [0.5, 0.0]


def test_adaptive_rates_start_again(numbers):
    X, y = data(MLPRegressor, numbers)
    settings = {"solver": "sgd", "learning_rate": "adaptive", "tol": 1e9, "n_iter_no_change": 1, "max_iter": 500}
    mine, other = (module.MLPRegressor(warm_start=True, **settings).fit(X, y) for module in (ours, theirs))
    first = mine.n_iter_
    assert first == other.n_iter_ > 5
    for _ in range(2):
        assert mine.fit(X, y).n_iter_ == other.fit(X, y).n_iter_ > 5
    assert mine.partial_fit(X, y).n_iter_ == 1


def test_a_warm_start_needs_all_classes(numbers):
    X, y = data(MLPClassifier, numbers)
    y = np.array(["red", "green", "blue"])[y]
    model = MLPClassifier(max_iter=2, warm_start=True).fit(X, y)
    before = state(model)
    with pytest.raises(ValueError, match="y has no row of the class 'blue'.* partial_fit"):
        model.fit(X[y != "blue"], y[y != "blue"])
    assert state(model) == before
    model.partial_fit(X[y != "blue"], y[y != "blue"])


# ---- errors ----


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
@pytest.mark.parametrize("cls", CLASSES)
def test_a_fit_that_fails_changes_nothing(cls, solver, numbers):
    X, y = data(cls, numbers)

    def fail(record):
        if len(model.loss_curve_) > 5:
            raise LookupError("of the user")

    model = cls(solver=solver, max_iter=4, warm_start=True, random_state=0, tol=0).fit(X, y)
    twin, before = copy.deepcopy(model), (attributes(model), state(model))
    with pytest.raises(LookupError):
        model.set_params(callback=fail, alpha=3.0, learning_rate_init=0.01).fit(X, y)
    model.set_params(callback=None, alpha=twin.alpha, learning_rate_init=twin.learning_rate_init)
    assert (attributes(model), state(model)) == before
    assert state(model.fit(X, y)) == state(twin.fit(X, y)) and model.loss_curve_ == twin.loss_curve_


@pytest.mark.parametrize("early_stopping", [False, True])
@pytest.mark.parametrize("cls", CLASSES)
def test_a_fit_that_diverges_changes_nothing(cls, early_stopping, numbers):
    X, y = data(cls, numbers)
    model = cls(solver="sgd", max_iter=3, warm_start=True, batch_size=9, early_stopping=early_stopping, random_state=0).fit(X, y)
    before = attributes(model), state(model)
    large = X * np.where(np.arange(len(X)) > 50, 1e200, 1.0)[:, None]  # the first batches succeed
    model.set_params(shuffle=False)
    with pytest.raises(ValueError, match="finite"):
        model.fit(large, y)
    if not early_stopping:
        with pytest.raises(ValueError, match="finite"):
            model.partial_fit(large, y)
    model.set_params(shuffle=True)
    assert (attributes(model), state(model)) == before


# ---- weights that are assigned ----


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ["coefs_", "intercepts_"])
@pytest.mark.parametrize("cls", CLASSES)
def test_assigned_weights_are_used(cls, name, dtype, numbers):
    X, y = data(cls, numbers)
    model = cls(max_iter=2).fit(X.astype(dtype), y)
    wanted = [numbers.normal(size=array.shape).astype(dtype) for array in getattr(model, name)]
    getattr(model, name)[0] = wanted[0]
    getattr(model, name)[-1] = wanted[1].tolist()
    by_item = model.net.params.copy()
    getattr(model, name)[1] *= 2
    assert not np.array_equal(by_item, model.net.params)
    setattr(model, name, wanted)
    assert np.array_equal(by_item, model.net.params)
    assert all(np.array_equal(a, b) for a, b in zip(getattr(model, name), wanted, strict=True))
    for wrong in (wanted[:1], [*wanted, wanted[0]], [wanted[0], wanted[1][:-1]], [wanted[0], 3.0]):
        with pytest.raises(ValueError, match=r"there are 2 arrays|array 1 has the shape"):
            setattr(model, name, wrong)
    with pytest.raises(ValueError, match=re.escape(f"array 0 has the shape {wanted[0].shape}")):
        getattr(model, name)[0] = wanted[1]
    with pytest.raises(IndexError):
        getattr(model, name)[2] = wanted[1]
    assert np.array_equal(by_item, model.net.params)
    kept = copy.deepcopy(getattr(model, name))
    kept[0] = np.zeros_like(kept[0])
    assert np.array_equal(by_item, model.net.params) and not kept[0].any()
    with pytest.raises(AttributeError, match="not fitted"):
        setattr(cls(), name, wanted)
