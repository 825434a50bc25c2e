"""MLPClassifier and MLPRegressor: what scikit-learn's have too, and that fits continue, fail and are copied without a trace."""

from __future__ import annotations

import copy
import inspect
import pickle
import warnings

import joblib
import numpy as np
import pytest
import sklearn.neural_network as theirs
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.pipeline import make_pipeline

import microbp as bp
from microbp.sklearn import MLPClassifier, MLPRegressor

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")  # tests train for few epochs

CLASSES = [MLPClassifier, MLPRegressor]
SOLVERS = ["adam", "sgd", "adamw", "rmsprop(lr=0.002)", bp.Momentum(lr=0.01)]


def data(cls: type, numbers: np.random.Generator, rows: int = 90) -> tuple[np.ndarray, np.ndarray]:
    """Rows of 3 features with targets: three classes, or numbers."""
    X = numbers.normal(size=(rows, 3))
    return X, numbers.integers(3, size=rows) if cls is MLPClassifier else X[:, 0] * X[:, 1]


def state(estimator) -> bytes:
    """Parameters and the optimizer's state."""
    trainer = estimator._trainer
    return b"".join(array.tobytes() for array in (trainer.net.params, *trainer.state.values()))


# ---- the same as scikit-learn ----


@pytest.mark.parametrize("cls", CLASSES)
def test_parameters_have_the_names_order_and_defaults_of_scikit_learn(cls):
    ours = list(inspect.signature(cls).parameters.values())
    wanted = list(inspect.signature(getattr(theirs, cls.__name__)).parameters.values())
    same = [(one.name, one.default, one.kind) for one in ours if one.name in {other.name for other in wanted}]
    assert same[: len(wanted)] == [(one.name, one.default, one.kind) for one in wanted]
    assert all(one.kind is one.KEYWORD_ONLY for one in ours if one not in wanted and one.name not in {other.name for other in wanted})


@pytest.mark.parametrize("method", ["fit", "partial_fit", "predict"])
@pytest.mark.parametrize("cls", CLASSES)
def test_methods_take_the_arguments_of_scikit_learn(cls, method):
    ours = list(inspect.signature(getattr(cls, method)).parameters)
    wanted = list(inspect.signature(getattr(getattr(theirs, cls.__name__), method)).parameters)
    assert ours[: len(wanted)] == wanted


@pytest.mark.parametrize("early_stopping", [False, True])
@pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
@pytest.mark.parametrize("cls", CLASSES)
def test_attributes_are_those_of_scikit_learn(cls, solver, early_stopping, numbers):
    X, y = data(cls, numbers)
    settings = {"solver": solver, "early_stopping": early_stopping, "max_iter": 3, "random_state": 0}
    ours, other = cls(**settings).fit(X, y), getattr(theirs, cls.__name__)(**settings).fit(X, y)
    for name in [name for name in vars(other) if name.endswith("_") and not name.startswith("_")]:
        a, b = getattr(ours, name), getattr(other, name)
        assert isinstance(a, type(b)) or (isinstance(a, float) and isinstance(b, float)), name
        assert np.shape(a) == np.shape(b) if isinstance(a, np.ndarray) else not isinstance(a, int | str) or a == b, name
    for name in ("coefs_", "intercepts_"):
        assert [array.shape for array in getattr(ours, name)] == [array.shape for array in getattr(other, name)]


@pytest.mark.parametrize("activation", ["relu", "logistic"])
def test_first_weights_have_the_distribution_of_scikit_learn(activation, numbers):
    X, y = data(MLPRegressor, numbers)
    settings = {"hidden_layer_sizes": (300, 200), "activation": activation, "learning_rate_init": 1e-12, "max_iter": 1, "random_state": 0}
    ours, other = MLPRegressor(**settings).fit(X, y), theirs.MLPRegressor(**settings).fit(X, y)
    for a, b in zip(ours.coefs_ + ours.intercepts_[:2], other.coefs_ + other.intercepts_[:2], strict=True):
        assert np.abs(a).max() == pytest.approx(np.abs(b).max(), rel=0.05)
        assert a.std() == pytest.approx(b.std(), rel=0.12)


@pytest.mark.parametrize("cls", CLASSES)
def test_max_iter_warns(cls, numbers):
    X, y = data(cls, numbers)
    with pytest.warns(ConvergenceWarning, match=r"max_iter=2 .*raise max_iter"):
        cls(max_iter=2).fit(X, y)
    with pytest.warns(ConvergenceWarning, match=r"max_iter=2 "):
        cls(max_iter=2, n_iter_no_change=np.inf).fit(X, y)
    warnings.simplefilter("error")  # what follows does not warn
    cls(max_iter=5, tol=1e9, n_iter_no_change=1).fit(X, y)
    cls().partial_fit(X, y, **({"classes": [0, 1, 2]} if cls is MLPClassifier else {}))


def test_verbose_prints_each_epoch(numbers, capsys):
    MLPRegressor(max_iter=2, verbose=True).fit(*data(MLPRegressor, numbers))
    assert [line.split(",")[0] for line in capsys.readouterr().out.splitlines()] == ["Iteration 1", "Iteration 2"]


# ---- continuing ----


@pytest.mark.parametrize("settings", [{}, {"dropout": 0.3}, {"shuffle": False, "l1": 0.1}, {"batch_size": 7}], ids=str)
@pytest.mark.parametrize("solver", SOLVERS, ids=str)
@pytest.mark.parametrize("cls", CLASSES)
def test_n_fits_of_one_epoch_are_one_of_n(cls, solver, settings, numbers):
    X, y = data(cls, numbers)
    settings = settings | {"solver": solver, "random_state": 5}
    whole = cls(max_iter=4, **settings).fit(X, y)
    warm, steps = cls(max_iter=1, warm_start=True, **settings), cls(**settings)
    for _ in range(4):
        warm.fit(X, y)
        steps.partial_fit(X, y, **({"classes": [0, 1, 2]} if cls is MLPClassifier else {}))
    assert state(whole) == state(warm) == state(steps)
    assert whole.loss_curve_ == warm.loss_curve_ == steps.loss_curve_
    assert (whole.t_, whole.n_iter_) == (warm.t_, 4) == (steps.t_, 4 * warm.n_iter_)


def test_a_new_rate_applies_when_a_fit_continues(numbers):
    X, y = data(MLPRegressor, numbers)
    model = MLPRegressor(max_iter=2, warm_start=True, random_state=0).fit(X, y)
    before = state(model)
    model.set_params(learning_rate_init=1e-300).fit(X, y)
    assert model.net.params.tobytes() == before[: model.net.params.nbytes]


def test_fit_starts_again_without_warm_start(numbers):
    X, y = data(MLPClassifier, numbers)
    model = MLPClassifier(max_iter=3, random_state=1)
    first = state(model.fit(X, y))
    assert state(model.fit(X, y)) == first


def test_partial_fit_refuses_other_classes_and_lbfgs(numbers):
    X, y = data(MLPClassifier, numbers)
    model = MLPClassifier().partial_fit(X, y, classes=[0, 1, 2])
    with pytest.raises(ValueError, match="not the same as on the last call"):
        model.partial_fit(X, y, classes=[0, 1])
    with pytest.raises(ValueError, match="y has the class 7 in row 0"):
        model.partial_fit(X[:1], [7])
    assert not hasattr(MLPClassifier(solver="lbfgs"), "partial_fit")


# ---- failing ----


WRONG = [
    ("alpha", -1, r"alpha must be a number in the range \[0.0, inf\), not -1"),
    ("batch_size", 0, "batch_size must be at least 1"),
    ("batch_size", "full", 'batch_size must be "auto"'),
    ("learning_rate", "fast", "learning_rate is 'fast'; it must be one of 'constant'"),
    ("learning_rate_init", 0, r"must be a number in the range \(0.0, inf\)"),
    ("max_iter", 0, "max_iter must be at least 1"),
    ("solver", "adm", "unknown solver 'adm'; did you mean 'adam'"),
    ("solver", 3, "solver must be"),
    ("activation", "rleu", "unknown activation 'rleu'; did you mean 'relu'"),
    ("activation", ["relu", "tanh"], "activation has 2 names"),
    ("hidden_layer_sizes", (10, 0), r"hidden_layer_sizes\[1\] must be at least 1"),
    ("dropout", 1.0, r"dropout must be a number in the range \[0.0, 1.0\)"),
    ("validation_fraction", 1.0, "validation_fraction must be a number in the range"),
    ("n_iter_no_change", 0, "n_iter_no_change must be at least 1"),
    ("network", 3, "network must be a bp.Network"),
    ("callback", 3, "callback must be a function"),
    ("max_time", 0, "max_time must be a number in the range"),
    ("n_threads", 0, "n_threads must be at least 1"),
    ("loss", "msee", "unknown loss 'msee'"),
    ("warm_start", "yes", "warm_start must be True or"),
    ("random_state", "seed", "random_state: 'seed' cannot be used"),
    ("schedule", 3, "schedule must be a schedule such as"),
    ("schedule", "cosin", "unknown schedule 'cosin'; did you mean 'cosine'"),
    ("activation", "logistc", "unknown activation 'logistc'; did you mean 'logistic'"),
]


@pytest.mark.parametrize(("name", "value", "message"), WRONG, ids=[f"{name}={value}" for name, value, _ in WRONG])
@pytest.mark.parametrize("cls", CLASSES)
def test_a_wrong_parameter_is_refused_and_changes_nothing(cls, name, value, message, numbers):
    X, y = data(cls, numbers)
    with pytest.raises(ValueError, match=f"^{cls.__name__}: .*{message}") as caught:
        cls(**{name: value}).fit(X, y)
    assert isinstance(caught.value, TypeError)  # both, as in scikit-learn
    model = cls(max_iter=2, random_state=0).fit(X, y)
    before, trained = dict(vars(model)), state(model)
    with pytest.raises(ValueError, match=message):
        model.set_params(**{name: value}).fit(X[:, :2], y)
    assert {**before, name: value} == vars(model)
    assert state(model) == trained


@pytest.mark.parametrize("cls", CLASSES)
def test_wrong_rows_are_refused_and_change_nothing(cls, numbers):
    X, y = data(cls, numbers)
    model = cls(max_iter=2, random_state=0).fit(X, y)
    before, trained = dict(vars(model)), state(model)
    for arguments in [
        (X * np.nan, y),
        (X, y[1:]),
        (X, y, np.zeros(len(y))),
        (X, y, -np.ones(len(y))),
        (X, y, np.ones(3)),
        (np.abs(X[:1]) * np.inf, y[:1]),
    ]:
        with pytest.raises(ValueError, match=r"NaN|infinity|inconsistent|zero|weight"):
            model.fit(*arguments)
    with pytest.raises(ValueError, match=r"a lower (lr|rate)"):
        model.set_params(solver="sgd", learning_rate_init=1e300).fit(X, y)
    model.set_params(solver="adam", learning_rate_init=1e-3)
    assert vars(model) == before
    assert state(model) == trained


@pytest.mark.parametrize("cls", CLASSES)
@pytest.mark.parametrize("name", ["solver", "loss", "activation"])
def test_errors_list_each_name_once(cls, name, numbers):
    with pytest.raises(ValueError, match="valid: ") as caught:
        cls(**{name: "qqq"}).fit(*data(cls, numbers))
    names = str(caught.value).partition("valid: ")[2].split(", ")
    assert len(set(names)) == len(names)
    theirs_too = {"solver": ["adam", "sgd", "lbfgs"], "activation": ["identity", "logistic", "tanh", "relu"]}
    theirs_too["loss"] = ["log_loss"] if cls is MLPClassifier else ["squared_error", "absolute_error", "poisson"]
    assert set(theirs_too[name]) <= set(names)
    for one in names:
        settings = {name: one, "max_iter": 1, "hidden_layer_sizes": (3,)}
        cls(**settings).fit(np.abs(data(cls, numbers)[0]), data(cls, numbers)[1] % 2 if cls is MLPClassifier else np.full(90, 0.5))


@pytest.mark.parametrize("cls", [MLPRegressor, bp.sklearn.QuantileRegressor, bp.sklearn.TableRegressor, bp.sklearn.EnsembleRegressor])
def test_text_is_no_number(cls, numbers):
    X = numbers.normal(size=(40, 3))
    for text in (["1", "2"] * 20, np.array([b"1", b"2"] * 20)):
        with pytest.raises(ValueError, match="y has text"):
            cls().fit(X, text)
    with pytest.raises(ValueError, match="could not convert"):
        cls().fit(X, np.array(["a", "b"] * 20, dtype=object))


def test_predicted_labels_have_the_dtype_of_scikit_learn(numbers):
    X, codes = data(MLPClassifier, numbers)
    labels = np.array(["red", "green", "dark blue"])
    for y in (labels[codes], labels[codes].tolist(), labels.astype(object)[codes], codes.astype(np.int8), codes > 1):
        mine, other = (cls(max_iter=1).fit(X, y) for cls in (MLPClassifier, theirs.MLPClassifier))
        assert mine.classes_.dtype == mine.predict(X).dtype == other.predict(X).dtype == other.classes_.dtype
        mine.partial_fit(X, y)
    with pytest.raises(ValueError, match="y has the class 'dark blue or black' in row 0"):
        MLPClassifier(max_iter=1).fit(X, labels.astype(object)[codes]).partial_fit(X[:1], np.array(["dark blue or black"], dtype=object))
    with pytest.raises(ValueError, match=r"y\[\d+\] is missing \(None\)"):
        MLPClassifier().fit(X, np.array(["red", 1, None], dtype=object)[codes])


def test_sparse_labels_give_sparse_predictions(numbers):
    sparse = pytest.importorskip("scipy.sparse")
    X = numbers.normal(size=(60, 3))
    y = sparse.csr_array((X[:, :2] > 0).astype(int))
    mine, other = (cls(max_iter=1, random_state=0).fit(X, y) for cls in (MLPClassifier, theirs.MLPClassifier))
    assert type(mine.predict(X)) is type(other.predict(X)) and 0 <= mine.score(X, y) <= 1
    dense = MLPClassifier(max_iter=1, random_state=0).fit(X, y.toarray())
    assert state(mine) == state(dense) and (mine.predict(X).toarray() == dense.predict(X)).all()
    assert state(MLPClassifier(random_state=0).partial_fit(X, y)) == state(mine)
    assert (pickle.loads(pickle.dumps(mine)).predict(X).toarray() == dense.predict(X)).all()


def test_warnings_show_the_line_of_the_user(numbers):
    X, y = data(MLPClassifier, numbers)
    for fit in (
        lambda: MLPClassifier(max_iter=1).fit(X, y),
        lambda: MLPClassifier(max_iter=1, solver="lbfgs").fit(X, y),
        lambda: MLPClassifier(batch_size=500).partial_fit(X, y, classes=[0, 1, 2]),
        lambda: make_pipeline(MLPClassifier(max_iter=1)).fit(X, y),
    ):
        with pytest.warns(UserWarning, match="MLPClassifier: ") as caught:
            fit()
        assert {(one.filename, one.lineno) for one in caught} == {(__file__, fit.__code__.co_firstlineno)}


# ---- predictions ----


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("cls", CLASSES)
def test_plain_arrays_take_a_short_way_to_the_same_predictions(cls, dtype, numbers):
    X, y = data(cls, numbers)
    model = cls(max_iter=3, random_state=0).fit(X.astype(dtype), y)
    rows = X.astype(dtype)
    for method in ["predict", "predict_proba", "decision_function"] if cls is MLPClassifier else ["predict"]:
        call = getattr(model, method)
        assert call(rows).tobytes() == call(rows.tolist() if dtype == "float64" else np.asfortranarray(rows)).tobytes()
        assert call(rows[3:4]).tobytes() == call(rows)[3:4].tobytes()
        for wrong in (np.full((1, 3), np.nan), np.full((1, 3), np.inf), np.zeros((1, 4)), np.zeros((0, 3)), np.zeros(3)):
            with pytest.raises(ValueError, match=r"NaN|infinity|features|minimum of 1|1D array"):
                call(wrong.astype(dtype))
    large = np.full((1, 3), np.finfo(dtype).max / 2, dtype)  # finite, but not its sum
    assert model.predict(large).shape == (1,)


def test_predictions_are_written_to_out(numbers):
    X, y = data(MLPRegressor, numbers)
    model, out = MLPRegressor(max_iter=2).fit(X, y), np.empty(len(X))
    assert np.shares_memory(model.predict(X, out=out), out) and (out == model.predict(X)).all()
    clf, p = MLPClassifier(max_iter=2).fit(X, numbers.integers(3, size=len(X))), np.empty((len(X), 3))
    assert clf.predict_proba(X, out=p) is p and (p == clf.predict_proba(X)).all()


def test_a_frame_of_other_names_warns_and_is_refused(numbers):
    pandas = pytest.importorskip("pandas")
    X, y = data(MLPRegressor, numbers)
    model = MLPRegressor(max_iter=2).fit(pandas.DataFrame(X, columns=list("abc")), y)
    with pytest.warns(UserWarning, match="X does not have valid feature names"):
        model.predict(X)
    with pytest.raises(ValueError, match="feature names should match"):
        model.predict(pandas.DataFrame(X, columns=list("cba")))


def test_coefs_are_views(numbers):
    X, y = data(MLPRegressor, numbers)
    model = MLPRegressor(max_iter=2).fit(X, y)
    for array in model.coefs_ + model.intercepts_:
        array[...] = 0
    assert not model.predict(X).any()


# ---- copies ----


def by_joblib(estimator, folder):
    joblib.dump(estimator, folder / "model.joblib")
    return joblib.load(folder / "model.joblib", mmap_mode="r")


def by_skops(estimator, folder):
    skops = pytest.importorskip("skops.io", reason="skops is not installed")
    data = skops.dumps(estimator)
    return skops.loads(data, trusted=skops.get_untrusted_types(data=data))


COPIES = {
    "pickle": lambda estimator, folder: pickle.loads(pickle.dumps(estimator)),
    "deepcopy": lambda estimator, folder: copy.deepcopy(estimator),
    "joblib": by_joblib,
    "skops": by_skops,
}


@pytest.mark.parametrize("copied", COPIES)
@pytest.mark.parametrize("cls", CLASSES)
def test_a_copy_predicts_and_continues_bit_for_bit(cls, copied, numbers, tmp_path):
    X, y = data(cls, numbers)
    model = cls(max_iter=3, random_state=0, early_stopping=False).fit(X, y)
    twin = COPIES[copied](model, tmp_path)
    assert twin.predict(X).tobytes() == model.predict(X).tobytes()
    assert twin.loss_curve_ == model.loss_curve_
    assert state(twin.partial_fit(X, y)) == state(model.partial_fit(X, y))
    assert not hasattr(clone(model), "classes_") and clone(model).get_params() == model.get_params()
