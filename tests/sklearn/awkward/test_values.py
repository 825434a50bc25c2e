"""Values that estimators refuse, and what they say: missing labels, dates, text, numbers out of range, parameters."""

from __future__ import annotations

import datetime

import numpy as np
import pytest
from scipy.sparse import csr_matrix, issparse

import microbp as bp
from microbp.sklearn import (
    EnsembleClassifier,
    MLPClassifier,
    MLPEncoder,
    MLPRegressor,
    QuantileRegressor,
    TableClassifier,
    TableRegressor,
)

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")  # tests train for few epochs

X = np.random.default_rng(0).normal(size=(60, 3))
NUMBERS, CODES = X[:, 0] + X[:, 1], np.arange(60) % 3
FAST = {"budget": "fast", "epochs": 2, "random_state": 0}
DAYS = np.datetime64("2020-01-01") + CODES.astype("m8[D]")


def small(cls, **settings):
    return cls(**FAST, **settings) if cls in (TableClassifier, TableRegressor) else cls(hidden_layer_sizes=(3,), max_iter=2, **settings)


CLASSIFIERS = {
    "mlp": lambda: small(MLPClassifier),
    "table": lambda: small(TableClassifier),
    "encoder": lambda: small(MLPEncoder, loss="cross_entropy"),
    "ensemble": lambda: EnsembleClassifier(small(MLPClassifier), 2),
}


def changed(values, place, value, dtype=object):
    found = np.array(values, dtype=dtype)
    found[place] = value
    return found


LETTERS = list("abc") * 20
LABELS = {
    "None": (changed(LETTERS, 3, None), r"y\[3\] is missing \(None\)"),
    "NaN": (changed(LETTERS, 7, np.nan), r"y\[7\] is missing \(nan\)"),
    "NaN of floats": (changed(CODES, 0, np.nan, float), r"y\[0\] is missing \(nan\)"),
    "NaT": (changed(DAYS, 59, "NaT", "datetime64[D]"), r"y\[59\] is missing \(NaT\)"),
    "a list": ([None, *LETTERS[1:]], r"y\[0\] is missing \(None\)"),
    "text and numbers": (changed(LETTERS, 3, 1), "y has labels of types that cannot be sorted, such as .* 1"),
    "numbers and text": (changed(CODES, 3, "a"), "y has labels of types that cannot be sorted, such as .* 'a'"),
}


@pytest.mark.parametrize("labels", LABELS)
@pytest.mark.parametrize("model", CLASSIFIERS)
def test_missing_and_mixed_labels_are_refused(model, labels):
    y, text = LABELS[labels]
    with pytest.raises(ValueError, match=text):
        CLASSIFIERS[model]().fit(X, y)


@pytest.mark.parametrize("model", CLASSIFIERS)
def test_missing_labels_of_pandas_are_refused(model):
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    for y in (
        pandas.Series(LETTERS, dtype="category").where(np.arange(60) != 4),
        pandas.Series(CODES).astype("Int64").where(np.arange(60) != 4),
        pandas.Series(changed(LETTERS, 4, pandas.NA)),
        pandas.Series(changed(LETTERS, 4, pandas.NaT)),
    ):
        with pytest.raises(ValueError, match=r"y\[4\] is missing"):
            CLASSIFIERS[model]().fit(X, y)


def test_missing_labels_of_other_arguments_are_refused():
    with pytest.raises(ValueError, match=r"y\[0, 1\] is missing \(None\)"):
        small(MLPClassifier).fit(X, np.array([[1, None], [0, 1]] * 30, dtype=object))
    with pytest.raises(ValueError, match=r"classes\[1\] is missing \(None\)"):
        small(MLPClassifier).partial_fit(X, LETTERS, classes=["a", None])
    with pytest.raises(ValueError, match=r"MLPClassifier: eval_set: y\[2\] is missing"):
        small(MLPClassifier).fit(X, LETTERS, eval_set=(X, changed(LETTERS, 2, None)))


@pytest.mark.parametrize("model", CLASSIFIERS)
def test_no_rows(model):
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    for empty in (X[:0], pandas.DataFrame(X[:0], columns=list("abc"))):
        with pytest.raises(ValueError, match=r"0 sample|no rows"):
            CLASSIFIERS[model]().fit(empty, np.array([]))


@pytest.mark.parametrize("cls", [MLPClassifier, MLPEncoder])
def test_early_stopping_with_a_class_of_one_row(cls):
    model = small(cls, early_stopping=True).fit(X, np.where(np.arange(60) == 5, 9, CODES))
    assert len(model.validation_scores_) == 2


# ---- dates, text, large and small numbers ----


@pytest.mark.parametrize("cls", [MLPRegressor, QuantileRegressor, TableRegressor, MLPEncoder])
@pytest.mark.parametrize("y", [DAYS, DAYS - DAYS[0], [datetime.date(2020, 1, 1)] * 60], ids=["dates", "times", "objects"])
def test_dates_are_no_numbers(cls, y):
    model = small(cls, loss="mse") if cls is MLPEncoder else small(cls)
    with pytest.raises(ValueError, match="y has dates or times, but must have numbers"):
        model.fit(X, y)


@pytest.mark.parametrize("cls", [MLPClassifier, MLPRegressor, MLPEncoder, QuantileRegressor])
def test_digits_are_no_numbers(cls):
    digits = [["1", "2", "3"]] * 60
    for wrong in (digits, np.array(digits), np.array(digits, dtype=object)):
        with pytest.raises(ValueError, match="X has text, '1', but must have numbers"):
            small(cls).fit(wrong, CODES)
    model = small(cls).fit(X, CODES)
    with pytest.raises(ValueError, match="X has text"):
        (model.transform if cls is MLPEncoder else model.predict)(digits)
    if cls is MLPEncoder:
        with pytest.raises(ValueError, match="X has text"):
            small(cls).fit(digits)


@pytest.mark.parametrize("scale", [2.0**600, 2.0**-600, 2.0**100])
def test_the_unit_of_y_does_not_matter(scale):
    """A power of two changes no bit."""
    plain, scaled = (small(QuantileRegressor, random_state=0).fit(X, y) for y in (NUMBERS, scale * NUMBERS))
    assert np.array_equal(plain.predict_quantiles(X) * scale, scaled.predict_quantiles(X))


@pytest.mark.parametrize(("dtype", "scale"), [("float32", 1e60), ("float32", 1e-60), ("float64", 1e-320), ("float64", 1e306)])
def test_units_that_predictions_cannot_have_are_refused(dtype, scale):
    with pytest.raises(ValueError, match=rf"QuantileRegressor: y has the mean .* which are out of the range of {dtype}; scale y"):
        small(QuantileRegressor).fit(X.astype(dtype), scale * NUMBERS)


def test_classes_that_are_dates_stay_in_notes_as_text():
    from sklearn.neural_network import MLPClassifier as Theirs

    shown = ["2020-01-01", "2020-01-02", "2020-01-03"]
    model = small(MLPClassifier).fit(X, DAYS)
    assert model.net.notes == {"classes": shown} and model.classes_.dtype == DAYS.dtype
    assert model.net.to_sklearn().predict(X).tolist() == model.predict(X).astype(str).tolist()
    assert bp.from_sklearn(Theirs((3,), max_iter=2).fit(X, DAYS)).notes == {"classes": shown}


def test_ensembles_give_sparse_labels_where_y_is_sparse():
    labels = np.column_stack([CODES == 0, CODES == 1]).astype(int)
    sparse, dense = (EnsembleClassifier(small(MLPClassifier), 2, random_state=0).fit(X, y) for y in (csr_matrix(labels), labels))
    assert issparse(sparse.predict(X)) and np.array_equal(sparse.predict(X).toarray(), dense.predict(X))


# ---- parameters and arguments ----


PLATEAU = bp.ReduceOnPlateau(lr=0.01)
TWO = np.column_stack([NUMBERS, NUMBERS])
PARAMETERS = {
    "momentum": (MLPClassifier, {"solver": "sgd", "momentum": 1.0}, CODES, r"MLPClassifier: momentum must be .* \[0.0, 1.0\), not 1.0"),
    "too much": (MLPRegressor, {"early_stopping": True, "validation_fraction": 0.999}, NUMBERS, "leaves none to train on"),
    "no validation": (MLPRegressor, {"schedule": PLATEAU}, NUMBERS, "needs validation rows; pass early_stopping=True, or monitor="),
    "two targets": (MLPRegressor, {"schedule": PLATEAU, "early_stopping": True}, TWO, "not measured for 2 targets .* loss='mse', or"),
    "softmax": (MLPClassifier, {"activation": "softmax"}, CODES, 'MLPClassifier: activation: "softmax" is not for single layers'),
    "two outputs": (MLPClassifier, {"network": bp.mlp([3, 2])}, CODES == 0, 'two classes have two outputs with loss="cross_entropy"'),
    "weights": (MLPClassifier, {"class_weight": {0: "x"}}, CODES, "MLPClassifier: class_weight must have finite weights"),
    "weights of a table": (TableClassifier, {"class_weight": {0: "x"}}, CODES, "TableClassifier: class_weight must have finite weights"),
    "weight of no class": (TableClassifier, {"class_weight": {7: 1}}, CODES, r"class_weight: 7 is not one of the classes \[0, 1, 2\]"),
    "kind of weights": (TableClassifier, {"class_weight": "even"}, CODES, "class_weight must be \"balanced\", a dict .* not 'even'"),
    "keep": (TableRegressor, {"keep": ["y"]}, NUMBERS, "keep: unknown column 'y'; valid: x0, x1, x2$"),
}


@pytest.mark.parametrize("name", PARAMETERS)
def test_wrong_parameters_are_refused(name):
    cls, settings, y, text = PARAMETERS[name]
    with pytest.raises(ValueError, match=text):
        small(cls, **settings).fit(X, y)


def test_schedules_that_watch_validation_rows():
    for settings, y in (({}, NUMBERS), ({"loss": "mse"}, TWO)):
        small(MLPRegressor, schedule=PLATEAU, **settings).fit(X, y, eval_set=(X, y))
    small(MLPRegressor, schedule=bp.ReduceOnPlateau(lr=0.01, monitor="loss")).fit(X, TWO)


def test_no_out_for_a_mean_and_a_variance():
    with pytest.raises(ValueError, match="gaussian_nll has two; call predict without out"):
        small(MLPRegressor, loss="gaussian_nll").fit(X, NUMBERS).predict(X, out=np.empty(60))


@pytest.mark.parametrize(
    ("wrong", "text"), [((X[:, :2], CODES), "X has 2 features"), ((X, CODES + 1), "y has the class 3"), (X, "must be")]
)
def test_errors_in_eval_set_say_so(wrong, text):
    with pytest.raises(ValueError, match=f"MLPClassifier: eval_set.*{text}"):
        small(MLPClassifier).fit(X, CODES, eval_set=wrong)


TABLES = {
    "a list": ({"a": NUMBERS, "b": [[1]] * 60}, r"'b' contains values of type list.* or use X.drop\(columns='b'\)$"),
    "infinity": ({"a": changed(NUMBERS, 2, np.inf, float), "b": NUMBERS}, "TableClassifier: X, row 2, column 'a': the number is infinite"),
}


@pytest.mark.parametrize("name", TABLES)
def test_errors_about_tables_are_about_x(name):
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    columns, text = TABLES[name]
    with pytest.raises(ValueError, match=text):
        small(TableClassifier).fit(pandas.DataFrame(columns), CODES)
    if name == "a list":  # of infinity, a prediction warns
        model = small(TableClassifier).fit(pandas.DataFrame({"a": NUMBERS, "b": NUMBERS**2}), CODES)
        with pytest.raises(ValueError, match="TableClassifier: column 'b' contains values of type list"):
            model.predict(pandas.DataFrame(columns))


def test_too_few_rows_for_classes():
    with pytest.raises(ValueError, match="so it cannot be used as classes; predict numbers with TableRegressor$"):
        small(TableClassifier).fit(X[:2], [0, 1])
    with pytest.raises(TypeError, match="X: row 0 has a dict"):
        small(TableClassifier).fit(np.array([[{}], [1]] * 30, dtype=object), CODES)


# ---- interrupts ----


def stop(at):
    def callback(record):
        if record.epoch == at:
            raise KeyboardInterrupt

    return callback


def test_an_interrupted_fit_says_which_model_stays():
    for early_stopping, text in ((True, "best epoch"), (False, "last update")):
        with pytest.warns(UserWarning, match=f"the training was interrupted; the model is that of the {text}"):
            MLPClassifier((3,), early_stopping=early_stopping, callback=stop(2), random_state=0).fit(X, CODES)


def test_an_interrupt_before_the_first_epoch_ends_changes_nothing():
    def interrupt(updates):
        raise KeyboardInterrupt

    model = small(MLPClassifier, random_state=0).fit(X, CODES)
    before = model.loss_, list(model.loss_curve_), model.net.params.tobytes()
    with pytest.raises(KeyboardInterrupt):
        model.set_params(schedule=interrupt).fit(X, CODES)
    assert (model.loss_, model.loss_curve_, model.net.params.tobytes()) == before


# ---- sweep and exchange ----


@pytest.mark.parametrize("values", [None, 3, "abc"])
def test_a_sweep_needs_values(values):
    with pytest.raises(TypeError, match=f"sweep: values must be a list of values of the setting, not '?{values}"):
        bp.sweep(lambda lr: bp.Trainer(bp.mlp([3, 1]), "mse"), values, X, NUMBERS, epochs=1)


def test_exchange_names_what_is_wrong():
    from sklearn.model_selection import GridSearchCV
    from sklearn.neural_network import MLPClassifier as Theirs

    net = bp.mlp([3, 3])
    net.set_output(0, "softmax")
    for wrong in (["c", 1, None], [None] * 3):
        with pytest.raises(ValueError, match=r"to_sklearn: classes must be numbers or texts, not \["):
            net.to_sklearn(wrong)
    with pytest.raises(TypeError, match=r"GridSearchCV is a search; pass its model, search.best_estimator_"):
        bp.from_sklearn(GridSearchCV(Theirs(max_iter=2), {"alpha": [1.0]}, cv=2).fit(X, CODES))
