"""bp.Conformal: the stated coverage, for every method and kind of model, and scores as their papers define them."""

import copy
import itertools
import math
import pickle
from fractions import Fraction

import numpy as np
import pytest

import microbp as bp

METHODS = ["absolute", "scaled", "quantile", "lac", "aps"]
DRAWS = 1000


def spread(x):
    """The standard deviation of the noise at x."""
    return 0.2 + np.abs(x[:, 0])


def draw_numbers(rng, count):
    x = rng.uniform(-1, 1, (count, 2))
    return x, x[:, 1] + spread(x) * rng.standard_t(5, count)


def chances(x):
    """Probabilities of six classes, which a model believes."""
    raw = np.column_stack([2 * x[:, 0], x[:, 1], np.zeros(len(x)), x[:, 0] * x[:, 1], -x[:, 0], -x[:, 1]])
    return np.exp(raw) / np.exp(raw).sum(axis=1, keepdims=True)


def draw_classes(rng, count):
    x = rng.normal(size=(count, 2))
    true = chances(0.7 * x + 0.1)  # not what the model believes
    return x, (rng.uniform(size=count)[:, None] > true.cumsum(axis=1)).sum(axis=1).clip(max=5)


MODELS = {
    "absolute": lambda x: 0.9 * x[:, 1],
    "scaled": lambda x: (0.9 * x[:, 1], spread(x)),
    "quantile": lambda x: np.column_stack([x[:, 1] - spread(x), x[:, 1], x[:, 1] + 0.5 * spread(x)]),
    "lac": chances,
    "aps": chances,
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("coverage", "rows"), [(0.9, 99), (0.9, 200), (0.6, 60)])
def test_the_coverage_over_many_draws_is_the_stated_one(method, coverage, rows):
    """Of n calibration rows it is k / (n + 1), k = ceil((n + 1) coverage), in expectation, if no scores are equal, as those of the least
    likely class with "aps" are: then it is a little more."""
    rng = np.random.default_rng(0)
    draw = draw_classes if method in ("lac", "aps") else draw_numbers
    conformal = bp.Conformal(MODELS[method], coverage, method=method)
    found = []
    for _ in range(DRAWS):
        conformal.fit(*draw(rng, rows))
        found.append(conformal.evaluate(*draw(rng, 200))["coverage"])
    exact = math.ceil(round((rows + 1) * coverage, 9)) / (rows + 1)
    error = math.sqrt(exact * (1 - exact) * (1 / (rows + 2) + 1 / 200) / DRAWS)
    assert -4 * error < np.mean(found) - exact < (0.01 if method == "aps" else 4 * error) and 4 * error < 0.01


def test_intervals_follow_the_noise_where_the_model_tells_it():
    rng = np.random.default_rng(0)
    x, y = draw_numbers(rng, 5000)
    low, high = bp.Conformal(MODELS["scaled"]).fit(x, y).predict_interval(np.array([[0.0, 0.0], [1.0, 0.0]]))
    assert (high - low)[1] == pytest.approx(6 * (high - low)[0])
    low, high = bp.Conformal(MODELS["absolute"]).fit(x, y).predict_interval(x)
    assert np.ptp(high - low) < 1e-12


# ---- the scores of the papers, in plain loops ----


def test_the_quantile_is_the_k_th_smallest_score():
    rng = np.random.default_rng(0)
    for rows in (9, 10, 19, 20, 99, 100):
        residuals = rng.permutation(rows) + 1.0
        conformal = bp.Conformal(lambda x: np.zeros(len(x)), 0.9).fit(np.zeros((rows, 1)), residuals * rng.choice([-1, 1], rows))
        assert conformal.quantile == [next(k for k in range(1, rows + 1) if 10 * k >= 9 * (rows + 1))]


@pytest.mark.parametrize("targets", [1, 2])
def test_quantile_scores_are_those_of_romano_patterson_and_candes(targets):
    rng = np.random.default_rng(0)
    y, low, high = rng.normal(size=(60, targets)), rng.normal(size=(60, targets)) - 1, rng.normal(size=(60, targets)) + 1
    middle = (low + high) / 2
    columns = np.hstack([low, middle, high])  # the first quantile of all targets, then the second of all
    conformal = bp.Conformal(lambda rows: columns[rows], 0.8, method="quantile").fit(np.arange(60), y)
    for j in range(targets):
        bounds = [(min(one), max(one)) for one in zip(low[:, j], high[:, j])]  # crossed ones in ascending order
        scores = sorted(max(a - target, target - b) for (a, b), target in zip(bounds, y[:, j]))
        assert conformal.quantile[j] == scores[math.ceil(61 * 0.8) - 1]
    assert conformal.method == "quantile" and conformal.predict_interval(np.arange(5))[0].shape == (5, targets)


@pytest.mark.parametrize("coverage", [1e-11, 1e-3, 0.1, 0.5, 0.9, 0.999])
def test_every_coverage_has_its_place_and_its_least_number_of_rows(coverage):
    exact, counts = Fraction(str(coverage)), [*range(1, 120), *range(990, 1010)]
    for rows in counts:
        conformal, place = bp.Conformal(lambda x: np.zeros(len(x)), coverage), math.ceil((rows + 1) * exact)
        if place <= rows:
            assert conformal.fit(np.zeros((rows, 1)), np.arange(rows) + 1.0).quantile == [place]
            continue
        least = next(n for n in itertools.count(1) if math.ceil((n + 1) * exact) <= n)
        with pytest.raises(ValueError, match=f"needs at least {least} calibration row"):
            conformal.fit(np.zeros((rows, 1)), np.zeros(rows))


def test_intervals_that_shrink_to_nothing_are_a_point():
    def narrow(x):
        return np.where(x > 0.5, [-1.0, 1.0], [-9.0, 9.0])

    conformal = bp.Conformal(narrow, 0.5, method="quantile").fit(np.zeros((9, 1)), np.zeros(9))
    assert conformal.quantile == [-9.0]
    low, high = conformal.predict_interval(np.ones((1, 1)))
    assert (low, high) == ([0.0], [0.0])


@pytest.mark.parametrize("scale", [1.0, 1e-320, 1e300])
@pytest.mark.parametrize(("zeros", "is_finite"), [(20, True), (80, False)])
def test_where_the_spread_is_0_the_interval_is_a_point_or_infinite(zeros, is_finite, scale):
    rows, spread = np.arange(200), np.where(np.arange(200) < zeros, 0.0, scale)
    targets = np.linspace(1, 2, 200) * scale
    conformal = bp.Conformal(lambda rows: (np.zeros(len(rows)), spread[rows]), 0.8).fit(rows, targets)
    low, high = conformal.predict_interval(rows)
    assert not np.isnan([low, high]).any() and (low <= high).all()
    assert np.isfinite(conformal.quantile).all() == np.isfinite(high).all() == is_finite
    assert (high[:zeros] == (0 if is_finite else np.inf)).all() and (high[zeros:] > scale).all()
    assert conformal.evaluate(rows, targets)["coverage"] >= 0.8


def test_class_scores_are_those_of_the_papers():
    rng = np.random.default_rng(0)
    p, y = rng.dirichlet(np.ones(4), 50), rng.integers(0, 4, 50)
    lac = [1 - p[i, y[i]] for i in range(50)]
    aps = [sum(sorted(chance for chance in p[i] if chance >= p[i, y[i]])[::-1]) for i in range(50)]
    for method, scores in (("lac", lac), ("aps", aps)):
        conformal = bp.Conformal(lambda rows: p[rows], 0.8, method=method).fit(np.arange(50), y)
        assert conformal.quantile == pytest.approx(sorted(scores)[math.ceil(51 * 0.8) - 1], abs=1e-15)
        chosen = conformal.predict_set(np.arange(50))
        assert chosen[np.arange(50), y].tolist() == [score < conformal.quantile[0] + 1e-12 for score in scores]
        assert (conformal.classes, chosen.shape, chosen.dtype) == ((0, 1, 2, 3), (50, 4), bool)
        assert conformal.evaluate(np.arange(50), y)["size"] == chosen.sum() / 50


# ---- models ----

X, Y = draw_numbers(np.random.default_rng(1), 200)
CX, CY = draw_classes(np.random.default_rng(2), 200)


def trainer(loss, widths=(2, 8, 1), seed=0, data=(X, Y)):
    t = bp.Trainer(bp.mlp(list(widths), seed=seed), loss, bp.Adam(lr=0.01))
    t.fit(*data, epochs=10, progress=False)
    return t


NETS = [trainer("mse", seed=seed).net for seed in range(3)]
NORMAL = trainer("gaussian_nll", (2, 8, 2))
EXPECTED = {  # the method, and what the model means: the prediction and the spread, or probabilities
    "network": (NETS[0], "absolute", lambda x: NETS[0].predict(x)),
    "trainer": (trainer("mae"), "absolute", lambda x: trainer("mae").predict(x)),
    "ensemble": (bp.Ensemble(NETS), "scaled", lambda x: (bp.Ensemble(NETS).predict(x), bp.Ensemble(NETS).std(x))),
    "ensemble of one": (bp.Ensemble(NETS[:1]), "absolute", lambda x: NETS[0].predict(x)),
    "mean and variance": (NORMAL, "scaled", lambda x: (NORMAL.predict(x)[:, :1], np.exp(NORMAL.predict(x)[:, 1:].astype(float) / 2))),
}


@pytest.mark.parametrize("name", EXPECTED)
def test_models_of_numbers(name):
    model, method, means = EXPECTED[name]
    conformal, plain = bp.Conformal(model).fit(X, Y), bp.Conformal(means, method=method).fit(X, Y)
    assert (conformal.method, conformal.classes, conformal.rows, conformal.coverage) == (method, None, 200, 0.9)
    for one, other in zip(conformal.predict_interval(X), plain.predict_interval(X)):
        assert one.shape == (200,)
        np.testing.assert_allclose(one, other, rtol=1e-6)
    two_columns = bp.Conformal(model).fit(X, Y[:, None]).predict_interval(X)
    assert two_columns[0].shape == (200, 1) and np.array_equal(two_columns[0][:, 0], conformal.predict_interval(X)[0])
    assert abs(conformal.evaluate(X, Y)["coverage"] - 0.9) < 0.02
    low, high = conformal.predict_interval(X)
    assert conformal.evaluate(X, Y)["width"] == np.mean(high - low)


def test_a_trainer_of_several_quantiles():
    t = trainer(bp.Loss("quantile", q=[0.05, 0.5, 0.95]), (2, 8, 3), data=(X, Y[:, None]))
    conformal = bp.Conformal(t).fit(X, Y)
    assert conformal.method == "quantile" and abs(conformal.evaluate(X, Y)["coverage"] - 0.9) < 0.02


def test_networks_of_classes():
    many, two = trainer("cross_entropy", (2, 8, 6), data=(CX, CY)), trainer("bce", (2, 8, 1), data=(CX, CY == 1))
    for model in (many, many.net, bp.Ensemble([many.net, many.net])):
        conformal = bp.Conformal(model).fit(CX, CY)
        assert (conformal.method, conformal.classes) == ("lac", tuple(range(6)))
        other = bp.Conformal(many.predict, method="lac").fit(CX, CY)
        assert np.array_equal(conformal.predict_set(CX), other.predict_set(CX))
    conformal = bp.Conformal(two, method="aps").fit(CX, CY == 1)
    p = two.predict(CX).astype(float)
    other = bp.Conformal(lambda x: np.hstack([1 - p, p]), method="aps").fit(CX, CY == 1)
    assert conformal.classes == (0, 1) and np.array_equal(conformal.predict_set(CX), other.predict_set(CX))


@pytest.mark.parametrize("labels", [["no", "yes", "maybe"], [True, False], [10, 7]], ids=["texts", "bools", "numbers"])
def test_table_models_take_tables_and_names_of_classes(labels):
    names = np.array(labels)[CY % len(labels)]
    model = bp.fit_table({"a": CX[:, 0], "b": CX[:, 1], "y": names}, target="y", epochs=3, ensemble=1)
    conformal = bp.Conformal(model).fit({"a": CX[:, 0], "b": CX[:, 1]}, names)
    assert set(conformal.classes) == set(labels) and conformal.classes == tuple(model.classes)
    assert abs(conformal.evaluate({"a": CX[:, 0], "b": CX[:, 1]}, names)["coverage"] - 0.9) < 0.03
    with pytest.raises(ValueError, match=r"y\[0\] is 'other', but must be one of the classes"):
        conformal.fit({"a": CX[:, 0], "b": CX[:, 1]}, np.full(200, "other"))


def test_table_models_of_numbers():
    table = {"a": X[:, 0], "b": X[:, 1]}
    conformal = bp.Conformal(bp.fit_table(table | {"y": Y}, target="y", epochs=3, ensemble=1)).fit(table, Y)
    assert conformal.method == "absolute" and conformal.predict_interval(table)[0].shape == (200,)


def test_estimators_of_scikit_learn():
    linear = pytest.importorskip("sklearn.linear_model", reason="scikit-learn is not installed")
    number = linear.LinearRegression().fit(X, Y)
    assert bp.Conformal(number).fit(X, Y).predict_interval(X)[0].shape == (200,)
    names = np.array(list("abcdef"))[CY]
    conformal = bp.Conformal(linear.LogisticRegression().fit(CX, names)).fit(CX, names)
    assert conformal.classes == tuple("abcdef") and abs(conformal.evaluate(CX, names)["coverage"] - 0.9) < 0.02
    with pytest.raises(ValueError, match="predicts classes without probabilities"):
        bp.Conformal(linear.RidgeClassifier().fit(CX, names))


@pytest.mark.filterwarnings("ignore:.*while it still improved")
def test_estimators_that_know_where_the_noise_is():
    own = pytest.importorskip("microbp.sklearn", reason="scikit-learn is not installed")
    pipeline = pytest.importorskip("sklearn.pipeline").make_pipeline
    scaler = pytest.importorskip("sklearn.preprocessing").StandardScaler
    linear = pytest.importorskip("sklearn.linear_model")
    quick = {"hidden_layer_sizes": (8,), "max_iter": 5, "random_state": 0}
    expected = {
        "quantile": [own.QuantileRegressor(**quick)],
        "scaled": [
            own.MLPRegressor("gaussian_nll", **quick),
            own.MLPRegressor(bp.Loss("gaussian_nll"), **quick),
            own.EnsembleRegressor(own.MLPRegressor(**quick), 2, random_state=0),
            linear.BayesianRidge(),
        ],
        "absolute": [own.MLPRegressor(**quick), own.QuantileRegressor(0.5, **quick), own.EnsembleRegressor(own.MLPRegressor(**quick), 1)],
    }
    for method, models in expected.items():
        for model in models:
            for one in (model.fit(X, Y), pipeline(scaler(), model).fit(X, Y)):
                conformal, plain = bp.Conformal(one).fit(X, Y), bp.Conformal(one, method="absolute").fit(X, Y)
                assert conformal.method == method and abs(conformal.evaluate(X, Y)["coverage"] - 0.9) < 0.02
                assert np.ptp(np.subtract(*plain.predict_interval(X))) < 1e-9
                assert (np.ptp(np.subtract(*conformal.predict_interval(X))) > 1e-3) == (method != "absolute")
    scaled, normal = bp.Conformal(expected["scaled"][0]).fit(X, Y), expected["scaled"][0].predict
    other = bp.Conformal(lambda x: normal(x, return_std=True)).fit(X, Y)
    np.testing.assert_array_equal(scaled.predict_interval(X), other.predict_interval(X))


@pytest.mark.filterwarnings("ignore:.*while it still improved")
def test_estimators_of_classes_that_do_not_fit():
    own = pytest.importorskip("microbp.sklearn", reason="scikit-learn is not installed")
    quick, labels = {"hidden_layer_sizes": (8,), "max_iter": 2, "random_state": 0}, CY[:, None] > [1, 3]
    several = own.MLPClassifier(**quick).fit(CX, labels)
    with pytest.raises(ValueError, match="each of the 2 columns is a yes or no of its own"):
        bp.Conformal(several)
    with pytest.raises(ValueError, match="each of the 2 columns is a yes or no of its own"):
        bp.Conformal(pytest.importorskip("sklearn.ensemble").RandomForestClassifier(3).fit(CX, labels))
    with pytest.raises(ValueError, match="must predict the probability of each class"):
        bp.Conformal(own.EnsembleClassifier(own.MLPClassifier(**quick), 2).fit(CX, labels)).fit(CX, CY % 2)
    with pytest.raises(ValueError, match="'lac' is for classes, but the model predicts numbers"):
        bp.Conformal(own.MLPRegressor(**quick).fit(X, Y), method="lac")
    late = own.MLPClassifier(**quick)
    conformal = bp.Conformal(late)
    assert conformal.classes is None
    late.fit(CX, CY)
    assert conformal.fit(CX, CY).classes == tuple(range(6)) and conformal.method == "lac"


@pytest.mark.filterwarnings("ignore:.*while it still improved")
def test_searches_are_as_their_best_estimators():
    own = pytest.importorskip("microbp.sklearn", reason="scikit-learn is not installed")
    search = pytest.importorskip("sklearn.model_selection").GridSearchCV
    pipeline = pytest.importorskip("sklearn.pipeline").make_pipeline
    quick = {"hidden_layer_sizes": (8,), "max_iter": 2, "random_state": 0}
    for model, grid, method in (
        (own.QuantileRegressor(**quick), {"alpha": [0.0, 0.1]}, "quantile"),
        (own.EnsembleRegressor(own.MLPRegressor(**quick), 2, random_state=0), {"estimator__alpha": [0.0]}, "scaled"),
        (pipeline(own.QuantileRegressor(**quick)), {"quantileregressor__alpha": [0.0]}, "quantile"),
    ):
        found = search(model, grid, cv=2).fit(X, Y)
        conformal, direct = bp.Conformal(found).fit(X, Y), bp.Conformal(found.best_estimator_).fit(X, Y)
        assert conformal.method == method and np.array_equal(conformal.predict_interval(X), direct.predict_interval(X))
    classes = search(own.MLPClassifier(**quick), {"alpha": [0.0]}, cv=2).fit(CX, CY % 3)
    assert bp.Conformal(classes).fit(CX, CY % 3).classes == (0, 1, 2)


def test_estimators_that_predict_something_else():
    linear = pytest.importorskip("sklearn.linear_model", reason="scikit-learn is not installed")
    cluster = pytest.importorskip("sklearn.cluster").KMeans(2, n_init=1)
    two = linear.LinearRegression().fit(X, np.column_stack([Y, -Y]))
    with pytest.raises(ValueError, match='y has 1 column, but the model predicts 2; if they are quantiles of each target, pass method="qu'):
        bp.Conformal(two).fit(X, Y)
    with pytest.raises(TypeError, match="must predict numbers or probabilities of classes, but KMeans is a clusterer"):
        bp.Conformal(cluster.fit(X))


def test_no_rows():
    for conformal in (bp.Conformal(NETS[0]).fit(X, Y), bp.Conformal(chances, method="lac").fit(CX, CY)):
        predict = conformal.predict_interval if conformal.classes is None else conformal.predict_set
        assert np.size(predict(np.zeros((0, 2)))) == 0
        with pytest.raises(ValueError, match="evaluate: X has no rows; pass at least one"):
            conformal.evaluate(np.zeros((0, 2)), [])


def test_it_can_be_pickled_and_copied():
    conformal = bp.Conformal(NETS[0]).fit(X, Y)
    for twin in (pickle.loads(pickle.dumps(conformal)), copy.deepcopy(conformal), copy.copy(conformal)):
        assert np.array_equal(twin.predict_interval(X), conformal.predict_interval(X))
    assert pickle.loads(pickle.dumps(bp.Conformal(NETS[0]))).rows == 0
    assert repr(conformal) == "Conformal(Network, coverage=0.9): method 'absolute', 200 calibration rows"
    assert repr(bp.Conformal(NETS[0])) == "Conformal(Network, coverage=0.9): not fitted"


# ---- mistakes ----

x = bp.Input(2)
TWO = bp.Network(x, [bp.Dense(1)(x), bp.Dense(1)(x)])
LABELS = bp.mlp([2, 3])
LABELS.set_output(0, "sigmoid")
MODEL_MISTAKES = {
    "coverage": ((NETS[0], 1.0), {}, ValueError, r"coverage must be in \(0,1\), not 1.0"),
    "method": ((NETS[0],), {"method": "cqr"}, ValueError, "method"),
    "method of numbers": ((trainer("bce", data=(CX, CY == 1)),), {"method": "scaled"}, ValueError, "'scaled' is for numbers"),
    "outputs": ((TWO,), {}, ValueError, "has 2 outputs; pass a function that returns the predictions of one"),
    "labels": ((LABELS,), {}, ValueError, "each of the 3 columns is a yes or no of its own"),
    "no model": ((3,), {}, TypeError, "model must be a network, an estimator or a function, not 3"),
    "a class": ((bp.Trainer,), {}, TypeError, "model is the class Trainer, but must be an object of it that is trained"),
    "classes of raw outputs": ((NETS[0],), {"method": "lac"}, ValueError, "'lac' is for classes, but .* numbers; for raw outputs"),
    "classes of an ensemble": (
        (bp.Ensemble(NETS),),
        {"method": "aps"},
        ValueError,
        "'aps' is for classes, but the model predicts numbers$",
    ),
}


@pytest.mark.parametrize("name", MODEL_MISTAKES)
def test_wrong_models_are_refused(name):
    arguments, options, error, text = MODEL_MISTAKES[name]
    with pytest.raises(error, match=text):
        bp.Conformal(*arguments, **options)


def conformal(model, **options):
    return bp.Conformal(model, **options)


FIT_MISTAKES = {
    "few rows": (conformal(NETS[0]), (X[:8], Y[:8]), "a coverage of 0.9 needs at least 9 calibration rows, not 8"),
    "more rows": (conformal(NETS[0], coverage=0.99), (X[:98], Y[:98]), "needs at least 99 calibration rows, not 98"),
    "rows": (conformal(NETS[0]), (X, Y[:9]), r"y has shape \(9,\), but must have one target, or a row of them, for each of 200 rows"),
    "NaN": (conformal(NETS[0]), (X, Y * np.nan), "y contains NaN or infinity"),
    "targets": (conformal(NETS[0]), (X, np.ones((200, 2))), "y has 2 columns, but the model predicts 1"),
    "no spread": (conformal(NETS[0], method="scaled"), (X, Y), "'scaled' needs a model that predicts one number for each target, and its"),
    "no quantiles": (conformal(NETS[0], method="quantile"), (X, Y), "'quantile' needs a model that predicts several quantiles"),
    "NaN predictions": (conformal(lambda x: x[:, 0] * np.nan), (X, Y), "must predict finite numbers of shape .*, not NaN or infinity"),
    "shape": (conformal(lambda x: x[None]), (X, Y), r"not an array of shape \(1, 200, 2\)"),
    "pair": (conformal(lambda x: (x, x[:, 0])), (X, X), r"the predictions have shape \(200, 2\), but their spread has \(200, 1\)"),
    "probabilities": (conformal(chances), (CX, CY), 'several columns whose sum is 1; for probabilities of classes, pass method="lac"'),
    "negative spread": (conformal(lambda x: (x[:, 0], x[:, 1])), (X, Y), r"the spread of row \d+ is -0\.\d+, but must be at least 0"),
    "no data": (conformal(lambda x: np.zeros(len(x))), (X[:0], Y[:0]), "needs at least 9 calibration rows, not 0"),
    "no columns": (conformal(lambda x: np.zeros(len(x))), (X, np.zeros((200, 0))), "y has 0 columns, but the model predicts 1"),
    "a scalar": (conformal(lambda x: np.zeros(len(x))), (X, 3.0), r"y has shape \(\), but must have one target, or a row of them"),
    "a scalar class": (conformal(chances, method="lac"), (CX[:1], 3), r"y has shape \(\), but must have the class of each of 1 row"),
    "one prediction": (conformal(lambda x: 1.0), (X, Y), r"shape \(rows,\) or \(rows, columns\), not an array of shape \(\)"),
    "raw outputs": (conformal(lambda x: np.log(chances(x)), method="lac"), (CX, CY), "must predict the probability of each class, with"),
    "several yes or no": (conformal(lambda x: np.full((len(x), 2), 0.9), method="aps"), (CX, CY), "it predicts 0.9, 0.9 for row 0"),
    "numbers": (conformal(lambda x: 3 + x[:, 0] ** 2, method="lac"), (X, Y), "must predict the probability of each class, with the sum 1"),
    "mean and variance": (conformal(NORMAL.net), (X, Y), 'the two columns of each target may be .* pass method="quantile", or the Trainer'),
    "too many columns": (conformal(trainer("mse", (2, 8, 2), data=(X, X))), (X, Y), "y has 1 column, but the model predicts 2"),
    "columns of a function": (conformal(MODELS["quantile"]), (X, Y), 'y has 1 column, but the model predicts 3; .* method="quantile"'),
    "a list": (conformal(lambda x: list(MODELS["scaled"](x))), (X, Y), r"X has 200 rows, but .* the shape \(2, 200\); .* must be a tuple"),
    "three": (conformal(lambda x: (x[:, 0],) * 3), (X, Y), "or a pair of them and their spread, not 3 things"),
    "too few": (conformal(lambda x: x[:7, 0]), (X, Y), r"X has 200 rows, but what the model predicts has the shape \(7,\)"),
    "no y": (conformal(NETS[0]), (X, None), "y is None, but must have the target of each row"),
    "no labels at all": (conformal(chances, method="lac"), (CX, None), "y is None, but must have the target of each row"),
    "class": (conformal(chances, method="lac"), (CX, CY + 1), r"y\[\d+\] is 6, but must be one of the classes \[0, 1, 2, 3, 4, 5\]"),
    "no labels": (
        conformal(chances, method="aps"),
        (CX, chances(CX)),
        r"y has shape \(200, 6\), but must have the class of each of 200 rows",
    ),
}


@pytest.mark.parametrize("name", FIT_MISTAKES)
def test_a_fit_that_fails_changes_nothing(name):
    one, data, text = FIT_MISTAKES[name]
    with pytest.raises(ValueError, match=text):
        one.fit(*data)
    assert one.rows == 0
    for call in (one.predict_interval, one.predict_set):
        with pytest.raises(ValueError, match=r"not calibrated yet: call fit\(X, y\)"):
            call(X)


def test_the_other_kind_of_prediction_is_refused():
    with pytest.raises(ValueError, match="predict_set is for classes, but the model predicts numbers; call predict_interval"):
        bp.Conformal(NETS[0]).fit(X, Y).predict_set(X)
    with pytest.raises(ValueError, match="predict_interval is for numbers, but the model predicts classes; call predict_set"):
        bp.Conformal(chances, method="lac").fit(CX, CY).predict_interval(CX)
    with pytest.raises(ValueError, match="y has 2 columns, but the intervals are of 1 target"):
        bp.Conformal(NETS[0]).fit(X, Y).evaluate(X, np.ones((200, 2)))
