"""Estimators on sparse X: as on its dense array, in every format, in every method."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from scipy import sparse
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MaxAbsScaler

import microbp as bp
from microbp.data.arrays import as_rows
from microbp.sklearn import EnsembleClassifier, EnsembleRegressor, MLPClassifier, MLPEncoder, MLPRegressor, QuantileRegressor

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")  # tests train for few epochs

SGD = {"solver": "sgd", "momentum": 0.0, "learning_rate_init": 0.1, "alpha": 0.0}
SETTINGS = {"hidden_layer_sizes": (8,), "max_iter": 3, "random_state": 0}
X = sparse.random(150, 40, 0.1, format="csr", random_state=0)
SCORE = X @ np.random.default_rng(0).normal(size=40)
CLASSES = np.digitize(SCORE, [-0.3, 0.3])
WEIGHT = np.where(np.arange(150) % 7 == 2, 0.0, 1.5)
FORMATS = ["csr_matrix", "csr_array", "csc_array", "coo_matrix", "lil_array", "bsr_matrix", "dok_array"]
SAME_BITS = {  # settings with which sparse and dense X give the same bits
    "sgd": SGD,
    "early stopping": SGD | {"early_stopping": True, "validation_fraction": 0.2, "n_iter_no_change": 2},
    "adaptive": SGD | {"learning_rate": "adaptive", "max_iter": 30, "n_iter_no_change": 2},
    "float32 adagrad": {"solver": "adagrad", "alpha": 0.0, "dtype": "float32"},
    "lbfgs": {"solver": "lbfgs", "alpha": 0.1},
}


def targets(cls):
    return CLASSES if cls is MLPClassifier else SCORE


@pytest.mark.parametrize("name", SAME_BITS)
@pytest.mark.parametrize("cls", [MLPClassifier, MLPRegressor])
def test_a_fit_has_the_bits_of_a_fit_on_dense_rows(cls, name):
    settings = SETTINGS | SAME_BITS[name]
    csr = X.astype(settings.pop("dtype", "float64"))
    y = targets(cls)
    found = []
    for x in (csr, csr.toarray()):
        model = cls(**settings)
        eval_set = {} if name in ("lbfgs", "early stopping") else {"eval_set": (x[:30], y[:30])}
        model.fit(x, y, WEIGHT, **eval_set)
        methods = ["predict", "predict_proba", "decision_function"] if cls is MLPClassifier else ["predict"]
        numbers = [getattr(model, method)(x).tobytes() for method in methods]
        found.append((model.net.params.tobytes(), model.loss_curve_, model.validation_scores_, model.score(x, y, WEIGHT + 1), *numbers))
        assert model.net.dtype == csr.dtype
    assert found[0] == found[1]


@pytest.mark.parametrize("cls", [MLPClassifier, MLPRegressor])
def test_momentum_catches_up(cls):
    settings = SETTINGS | {"solver": "sgd", "learning_rate_init": 0.1, "alpha": 0.0, "max_iter": 10}
    a, b = (cls(**settings).fit(x, targets(cls)) for x in (X, X.toarray()))
    assert np.abs(a.net.params - b.net.params).max() < 1e-12


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_is_read(name):
    other = getattr(sparse, name)(X)
    a, b = (MLPClassifier(**SETTINGS).fit(x, CLASSES) for x in (X, other))
    assert a.net.params.tobytes() == b.net.params.tobytes()
    assert a.predict_proba(X).tobytes() == b.predict_proba(other).tobytes() == b.predict_proba(X.toarray()).tobytes()


def test_calls_of_partial_fit_are_epochs_of_a_fit():
    settings = SETTINGS | {"shuffle": False, "n_iter_no_change": np.inf, "batch_size": 50}
    fitted, stepped = MLPClassifier(**settings).fit(X, CLASSES), MLPClassifier(**settings)
    for i in range(3):
        stepped.partial_fit(X, CLASSES, classes=[0, 1, 2])
        stepped = pickle.loads(pickle.dumps(stepped)) if i == 1 else stepped
    assert np.abs(fitted.net.params - stepped.net.params).max() < 1e-12
    stepped.partial_fit(X.toarray(), CLASSES).set_params(alpha=0.01).partial_fit(X, CLASSES)  # dense rows between sparse ones
    assert np.isfinite(stepped.net.params).all() and stepped.t_ == 5 * 150


def test_adam_predicts_as_with_dense_rows():
    settings = SETTINGS | {"learning_rate_init": 0.01, "max_iter": 60, "alpha": 0.0}
    a, b = (MLPClassifier(**settings).fit(x, CLASSES) for x in (X, X.toarray()))
    assert np.abs(a.predict_proba(X) - b.predict_proba(X)).max() < 0.1  # moments are lazy; another seed differs by more
    c = MLPClassifier(**(settings | {"random_state": 1})).fit(X, CLASSES)
    assert np.abs(a.predict_proba(X) - b.predict_proba(X)).mean() < np.abs(a.predict_proba(X) - c.predict_proba(X)).mean()


@pytest.mark.parametrize("solver", ["lion", "rmsprop(lr=0.01,weight_decay=0.1)", bp.NAdam()])
def test_an_optimizer_that_is_not_lazy_is_refused(solver):
    model = MLPClassifier(**SETTINGS, solver=solver).fit(X.toarray(), CLASSES)
    before = model.predict_proba(X).tobytes()
    with pytest.raises(ValueError, match=r"layer dense_0 has sparse rows, but .* changes all rows in each step: .*or pass dense arrays"):
        model.fit(X, CLASSES)
    assert model.predict_proba(X).tobytes() == before


def test_penalties_act_on_the_layers_after_the_first():
    settings = SETTINGS | {"max_iter": 20, "learning_rate_init": 0.01}
    for given in ({"alpha": 100.0}, {"l1": 30.0}):
        with pytest.warns(UserWarning, match="does not act on the first layer, because X is sparse; for a decay"):
            model = MLPRegressor(**settings, **given).fit(X, SCORE)
        free = MLPRegressor(**settings).fit(X, SCORE)
        assert np.abs(model.coefs_[1]).sum() < np.abs(free.coefs_[1]).sum() / 2
        assert {layer.name: layer.l2 for layer in model.net.layers}["dense_0"] == 0.0
    decayed = MLPRegressor(**settings, solver=bp.AdamW(lr=0.01, weight_decay=3.0)).fit(X, SCORE)
    assert np.abs(decayed.coefs_[0]).sum() < np.abs(free.coefs_[0]).sum()


def test_values_that_are_not_numbers_are_refused():
    wrong = X.copy()
    wrong.data[3] = np.nan
    model = MLPClassifier(**SETTINGS).fit(X, CLASSES)
    for call in (lambda: model.fit(wrong, CLASSES), lambda: model.predict(wrong)):
        with pytest.raises(ValueError, match="NaN"):
            call()
    with pytest.raises(ValueError, match="features"):
        model.predict(X[:, :30])


def test_labels_and_certain_classes():
    y = np.stack([SCORE > 0, SCORE > 0.3], axis=1).astype(int)
    a, b = (MLPClassifier(**SETTINGS | SGD).fit(X, one) for one in (y, sparse.csr_array(y)))
    assert np.array_equal(a.predict(X), b.predict(X).toarray())
    assert set(MLPClassifier(**SETTINGS).fit(X, np.ones(150)).predict(X)) == {1.0}


@pytest.mark.parametrize("y", [None, SCORE, CLASSES], ids=["itself", "numbers", "classes"])
def test_encoders(y):
    a, b = (MLPEncoder(3, solver=bp.SGD(lr=0.1), alpha=0.0, max_iter=3, random_state=0).fit(x, y) for x in (X, X.toarray()))
    assert a.transform(X).tobytes() == b.transform(X.toarray()).tobytes()


def test_quantiles_and_ensembles():
    found = [
        QuantileRegressor((0.1, 0.9), solver=bp.SGD(lr=0.1), max_iter=3, random_state=0, alpha=0.0).fit(x, SCORE) for x in (X, X.toarray())
    ]
    assert found[0].predict_interval(X, 0.8)[0].tobytes() == found[1].predict_interval(X.toarray(), 0.8)[0].tobytes()
    for cls, of, y in ((EnsembleClassifier, MLPClassifier, CLASSES), (EnsembleRegressor, MLPRegressor, SCORE)):
        both = [cls(of(**SETTINGS | SGD), 2, random_state=0).fit(x, y).predict(x) for x in (X, X.toarray())]
        assert both[0].tobytes() == both[1].tobytes()


def test_searches_pipelines_and_words():
    search = GridSearchCV(
        make_pipeline(MaxAbsScaler(), MLPClassifier(**SETTINGS)), {"mlpclassifier__hidden_layer_sizes": [(4,), (8,)]}, cv=2
    )
    assert search.fit(X, CLASSES).predict(X.tocsc()).shape == (150,)
    assert np.isfinite(cross_val_score(MLPRegressor(**SETTINGS), X, SCORE, cv=3, error_score="raise")).all()
    words = ["good film", "bad film", "a good one", "so bad"] * 20
    model = make_pipeline(TfidfVectorizer(), MLPClassifier((8,), learning_rate_init=0.02, max_iter=60, random_state=0))
    assert model.fit(words, [1, 0, 1, 0] * 20).score(words, [1, 0, 1, 0] * 20) == 1.0


@pytest.mark.parametrize("cls", [MLPClassifier, MLPRegressor, MLPEncoder, QuantileRegressor, EnsembleRegressor])
def test_rows_of_files_are_as_a_matrix(cls):
    rows = as_rows(X, "X")
    settings = {"max_iter": 2, "random_state": 0} if cls is not EnsembleRegressor else {}
    found = []
    for x in (X, rows):
        model = cls(**settings) if settings else cls(MLPRegressor(max_iter=2), n_estimators=2, random_state=0)
        model.fit(x, targets(cls))
        found.append((model.transform if cls is MLPEncoder else model.predict)(x))
    assert np.array_equal(*found)


# ---- ids ----


def with_ids(features, outputs):
    ids = bp.Ids(features, levels=50)
    return bp.Network(ids, bp.Dense(outputs)(bp.Embedding(50, 4)(ids)))


IDS = np.random.default_rng(0).integers(0, 50, (150, 3))


@pytest.mark.parametrize("dtype", ["int64", "uint8", "int32", "frame"])
@pytest.mark.parametrize("cls", [MLPClassifier, MLPRegressor])
def test_a_network_with_ids_gets_whole_numbers(cls, dtype):
    x, y = pytest.importorskip("pandas").DataFrame(IDS) if dtype == "frame" else IDS.astype(dtype), targets(cls)
    found = []
    for now in (x, IDS):
        model = cls(network=with_ids, max_iter=3, random_state=0, early_stopping=True, alpha=0).fit(now, y)
        assert len(model.validation_scores_) == 3
        model.set_params(early_stopping=False).partial_fit(now, y)
        found.append((model.net.params.tobytes(), model.predict(now).tobytes(), model.score(now, y)))
        assert np.array_equal(pickle.loads(pickle.dumps(model)).predict(now), model.predict(now))
    assert found[0] == found[1]
    with pytest.raises(ValueError, match=r"X, row 0, column \d: the id is \d+, but must be from 0 to 49"):
        model.predict(IDS + 50)
    with pytest.raises(TypeError, match="X has ids, which must be of an integer dtype, not float64"):
        model.predict(IDS.astype(float))


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_a_network_of_numbers_reads_whole_numbers_as_floats(solver):
    found = [
        MLPRegressor(solver=solver, network=bp.mlp([3, 4, 1], seed=0), max_iter=3, random_state=0).fit(x, SCORE).net.params
        for x in (IDS, IDS.astype(float))
    ]
    assert np.array_equal(*found)
