"""TableClassifier and TableRegressor: data of many kinds, weights, copies, and what fit_table does with the same rows."""

import copy
import pickle

import numpy as np
import pytest

import microbp as bp

pytest.importorskip("sklearn", reason="scikit-learn is not installed")
import joblib
from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline

from microbp.sklearn import TableClassifier, TableRegressor

COUNT = 120
RNG = np.random.default_rng(5)
AREA, DISTRICT = RNG.uniform(20, 100, COUNT).round(2), RNG.choice(["north", "south", "centre"], COUNT)
LIFT = RNG.random(COUNT) < 0.5
RENT = 10 * AREA + 300 * (DISTRICT == "centre") + 60 * LIFT
COLUMNS = {"area": [None if i % 9 == 0 else float(v) for i, v in enumerate(AREA)], "district": DISTRICT.tolist(), "lift": LIFT.tolist()}
FAST = {"budget": "fast", "epochs": 30, "random_state": 0, "n_threads": 1}


def pandas_frame():
    return pytest.importorskip("pandas", reason="pandas is not installed").DataFrame(COLUMNS)


def polars_frame():
    return pytest.importorskip("polars", reason="polars is not installed").DataFrame(COLUMNS)


def arrow_table():
    return pytest.importorskip("pyarrow", reason="pyarrow is not installed").table(COLUMNS)


def objects():
    return np.array(list(zip(*COLUMNS.values(), strict=True)), dtype=object)


KINDS = [pandas_frame, polars_frame, arrow_table, objects]


@pytest.fixture(scope="module")
def rents():
    """The predictions of a model trained on each kind of x."""
    return TableRegressor(**FAST).fit(objects(), RENT).predict(objects())


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_kind_of_data_gives_the_same_predictions(kind, rents):
    model = TableRegressor(**FAST).fit(kind(), RENT)
    assert model.n_features_in_ == 3
    assert np.array_equal(model.predict(kind()), rents)
    assert model.score(kind(), RENT) > 0.9
    if kind is not objects:
        assert model.feature_names_in_.tolist() == list(COLUMNS)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize(
    ("y", "dtype"),
    [(DISTRICT, "<U6"), (DISTRICT.astype(object), "O"), (LIFT, "bool"), (LIFT * 7 - 3, "int64"), (np.where(LIFT, "NA", "10"), "<U2")],
    ids=["text", "object", "bool", "int", "words for gaps"],
)
def test_classes_of_any_type_come_back(kind, y, dtype):
    model = TableClassifier(**FAST).fit(kind(), y)
    assert model.classes_.tolist() == np.unique(y).tolist()
    predicted, probabilities = model.predict(kind()), model.predict_proba(kind())
    assert predicted.dtype == dtype and set(predicted) <= set(y)
    assert probabilities.shape == (COUNT, len(set(y)))
    assert np.array_equal(predicted, model.classes_[probabilities.argmax(axis=1)])
    assert model.score(kind(), y) > 0.9  # the answer is in a column


def test_the_model_is_that_of_fit_table():
    model = TableRegressor(**FAST).fit(pandas_frame(), RENT)
    same = bp.fit_table(COLUMNS | {"y": RENT}, "y", test=0, loss="mse", budget="fast", epochs=30, seed=0, threads=1)
    assert np.array_equal(model.predict(pandas_frame()), same.predict(COLUMNS))
    assert model.model_.report.splitlines()[1] == same.report.splitlines()[1]


@pytest.mark.parametrize("estimator", [TableClassifier, TableRegressor])
def test_rows_of_weight_0_are_not_there(estimator):
    y, weight = (DISTRICT if estimator is TableClassifier else RENT), np.ones(COUNT)
    weight[::5] = 0
    x = objects()
    spoiled = x.copy()
    spoiled[::5, 0] = 1e6
    found = [estimator(**FAST).fit(one, y, sample_weight=weight) for one in (x, spoiled)]
    assert np.array_equal(found[0].predict(x), found[1].predict(x))
    assert found[0].left_out_ == {}


def test_weights_move_the_predictions():
    y = np.where(np.arange(COUNT) % 2, 1.0, 2.0)
    x = np.zeros((COUNT, 1)) + (np.arange(COUNT) % 3 > 0)[:, None]
    heavy = TableRegressor(**FAST).fit(x, y, sample_weight=np.where(y == 1, 50.0, 1.0)).predict(x)
    assert heavy.mean() < 1.2 < TableRegressor(**FAST).fit(x, y).predict(x).mean()


@pytest.mark.parametrize("class_weight", ["balanced", {"yes": 40.0}])
def test_class_weights_favour_the_rare_class(class_weight):
    y = np.where(np.arange(COUNT) % 12 == 0, "yes", "no")
    x = RNG.normal(size=(COUNT, 2))
    plain, weighted = (TableClassifier(**FAST, class_weight=one).fit(x, y).predict_proba(x)[:, 1].mean() for one in (None, class_weight))
    assert weighted > 1.5 * plain


def test_a_class_without_weight_has_probability_0():
    weight = (DISTRICT != "north").astype(float)
    model = TableClassifier(**FAST).fit(objects(), DISTRICT, sample_weight=weight)
    assert model.classes_.tolist() == ["centre", "north", "south"]
    others = objects()[weight > 0]
    assert (model.predict_proba(others)[:, 1] == 0).all()
    assert np.array_equal(model.predict(others), DISTRICT[weight > 0])


@pytest.mark.parametrize(
    "duplicate", [copy.copy, copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))], ids=["copy", "deepcopy", "pickle"]
)
def test_copies_predict_the_same(duplicate, rents):
    model = TableRegressor(**FAST).fit(objects(), RENT)
    found = duplicate(model)
    assert np.array_equal(found.predict(objects()), rents)
    assert found.model_.report == model.model_.report and found.model_.scores == model.model_.scores


@pytest.mark.parametrize("ensemble", [1, 2])
@pytest.mark.parametrize("estimator", [TableClassifier, TableRegressor])
def test_skops(ensemble, estimator):
    """skops keeps no Cython objects."""
    skops = pytest.importorskip("skops.io", reason="skops is not installed")
    y = DISTRICT if estimator is TableClassifier else RENT
    model = estimator(**FAST | {"epochs": 2}, ensemble=ensemble).fit(objects(), y)
    saved = skops.dumps(model)
    again = skops.loads(saved, trusted=skops.get_untrusted_types(data=saved))
    assert np.array_equal(again.predict(objects()), model.predict(objects()))


def test_joblib_with_a_memory_map(tmp_path, rents):
    joblib.dump(TableRegressor(**FAST).fit(objects(), RENT), tmp_path / "m.joblib")
    assert np.array_equal(joblib.load(tmp_path / "m.joblib", mmap_mode="r").predict(objects()), rents)


@pytest.mark.parametrize("estimator", [TableClassifier, TableRegressor])
def test_parameters_are_those_of_fit_table(estimator):
    ours = set(clone(estimator(epochs=7)).get_params())
    renamed = {"random_state", "n_threads", "verbose"}  # seed, threads, progress
    left_out = {
        "table",
        "target",
        "drop",
        "no_header",
        "test",
        "test_file",
        "weight",
        "stream",
        "strict",
        "seed",
        "threads",
        "progress",
        "comm",
    }
    theirs = set(bp.fit_table.__code__.co_varnames[: bp.fit_table.__code__.co_argcount + bp.fit_table.__code__.co_kwonlyargcount])
    assert ours - renamed | {"loss", "class_weight"} == theirs - left_out
    assert clone(estimator(epochs=7)).get_params()["epochs"] == 7


def test_searches_and_pipelines():
    x = pandas_frame()
    found = GridSearchCV(TableRegressor(**FAST), {"net": ["x-8-y", "x-16-y"]}, cv=2).fit(x, RENT)
    assert found.best_params_["net"] in ("x-8-y", "x-16-y")
    chosen = make_column_transformer(("passthrough", ["area", "district"])).set_output(transform="pandas")
    assert make_pipeline(chosen, TableClassifier(**FAST)).fit(x, DISTRICT).predict(x).shape == (COUNT,)
    assert cross_val_score(TableRegressor(**FAST), x, RENT, cv=3).mean() > 0.8


@pytest.mark.parametrize(("name", "same"), [("squared_error", "mse"), ("absolute_error", "mae")])
def test_losses_have_their_names_in_scikit_learn_too(name, same):
    found, expected = (TableRegressor(**FAST, loss=loss).fit(objects(), RENT) for loss in (name, same))
    assert np.array_equal(found.predict(objects()), expected.predict(objects()))


def test_columns_that_are_not_used_are_named():
    x = pandas_frame().assign(row=range(COUNT), same=1)
    with pytest.warns(UserWarning, match=r"columns that are not used: row \(row numbers\); keep=\['row'\] uses them"):
        model = TableRegressor(**FAST).fit(x, RENT)
    assert model.left_out_ == {"row": "row numbers", "same": "constant"}
    assert TableRegressor(**FAST, keep=["row"]).fit(x, RENT).left_out_ == {"same": "constant"}


def test_names_of_columns_may_be_those_of_the_target_and_the_weights():
    x = pandas_frame().rename(columns={"area": "y", "lift": "weight"})
    model = TableRegressor(**FAST).fit(x, RENT, sample_weight=np.ones(COUNT))
    assert model.model_.target == "y_" and model.model_.columns == ("y", "district", "weight")
    assert model.score(x, RENT) > 0.9


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: TableRegressor(n_threads=0).fit(objects(), RENT), ValueError, "TableRegressor: n_threads must be at least 1, not 0"),
        (lambda: TableClassifier(**FAST).fit(objects(), ["a"] * COUNT), ValueError, "only one class"),
        (lambda: TableRegressor(**FAST).fit(objects(), [1.0] * COUNT), ValueError, "constant"),
        (
            lambda: TableRegressor(budget="slow").fit(objects(), RENT),
            ValueError,
            "budget: the value must be fast, normal or best, not 'slow'",
        ),
        (
            lambda: TableRegressor(**FAST).fit(objects(), RENT, sample_weight=-np.ones(COUNT)),
            ValueError,
            r"sample_weight\[0\] is -1.0, but",
        ),
        (
            lambda: TableClassifier(**FAST).fit(objects(), DISTRICT, sample_weight=(DISTRICT == "north") * 1.0),
            ValueError,
            "^TableClassifier: y has only one class, 'north', in the rows with a weight above 0: there is nothing to predict$",
        ),
        (lambda: TableRegressor(**FAST).fit(objects(), [1.0] * COUNT), ValueError, "^TableRegressor: y is constant, 1.0: there is nothing"),
        (
            lambda: TableClassifier(**FAST, class_weight={"north": -1.0}).fit(objects(), DISTRICT),
            ValueError,
            "TableClassifier: class_weight must have finite weights of at least 0, not {'north': -1.0}",
        ),
        (lambda: TableRegressor(**FAST, loss="bce").fit(objects(), RENT), ValueError, "loss is .bce., but must be a loss of numbers: mse,"),
        (
            lambda: TableRegressor(**FAST, loss=bp.Loss("quantile", q=[0.1, 0.9])).fit(objects(), RENT),
            ValueError,
            "loss is .quantile.*, which has several outputs; use QuantileRegressor",
        ),
        (lambda: TableRegressor(**FAST, loss=None).fit(objects(), RENT), TypeError, "TableRegressor: loss must be a name or a bp.Loss, no"),
        (lambda: TableRegressor(**FAST, loss="nope").fit(objects(), RENT), ValueError, "^TableRegressor: unknown loss 'nope'; valid: mse"),
        (lambda: TableRegressor(**FAST).fit(objects(), 1e17 * RENT), ValueError, r"y\[0\] is .*e\+\d+, but must be at most 9e\+15 in size"),
        (lambda: TableRegressor(**FAST, keep=["z"]).fit(objects(), RENT), ValueError, "^TableRegressor: keep: unknown column 'z'; valid"),
        (
            lambda: TableRegressor(**FAST, loss="poisson").fit(objects(), -RENT),
            ValueError,
            "poisson needs numbers .*, or use another loss$",
        ),
        (
            lambda: TableRegressor(**FAST | {"random_state": -1}).fit(objects(), RENT),
            ValueError,
            "^TableRegressor: random_state: the value",
        ),
        (lambda: TableRegressor(**FAST).fit(objects()[:2], RENT[:2]), ValueError, "^TableRegressor: only 1 row left for training"),
        (lambda: TableRegressor(**FAST).fit(objects()[:5], RENT), ValueError, "inconsistent numbers of samples"),
        (lambda: TableRegressor(**FAST).fit([[{}, 1], [2, 3]], [1, 2]), TypeError, "argument must be a string or a number"),
    ],
)
def test_the_wrong_is_refused(call, error, text):
    with pytest.raises(error, match=text):
        call()


@pytest.mark.parametrize("estimator", [TableClassifier, TableRegressor])
def test_a_fit_that_fails_changes_nothing(estimator):
    y = DISTRICT if estimator is TableClassifier else RENT
    model = estimator(**FAST).fit(objects(), y)
    before, predicted = dict(vars(model)), model.predict(objects())
    with pytest.raises(ValueError, match="only one class|constant"):
        model.fit(objects()[:, :2], np.repeat(y[:1], COUNT))
    assert vars(model) == before and np.array_equal(model.predict(objects()), predicted)
