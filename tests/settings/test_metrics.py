"""Metrics as functions: the same values as scikit-learn's metrics, and the rules of losses."""

import inspect
from functools import partial

import numpy as np
import pytest

import microbp as bp
from microbp.settings import metrics
from microbp.settings.stopping import higher_is_better

RNG = np.random.default_rng(5)


@pytest.fixture
def sk():
    return pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed")


def scores(rows, classes, dtype, ties=False):
    """Probabilities; some are 0, 1 or equal."""
    raw = RNG.integers(0, 3, (rows, classes)) + 1e-3 if ties else RNG.uniform(size=(rows, classes)) ** 8
    probabilities = (raw / raw.sum(axis=1, keepdims=True)).astype(dtype)
    probabilities[:3] = np.eye(classes)[:3]
    return probabilities


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("classes", [3, 10])
def test_metrics_of_classes_equal_scikit_learn(sk, dtype, ties, classes):
    outputs, labels = scores(200, classes, dtype, ties), RNG.integers(0, classes, 200)
    assert bp.accuracy(labels, outputs) == sk.accuracy_score(labels, outputs.argmax(axis=1))
    every = np.arange(classes)
    for k in (1, 2, classes - 1):
        assert bp.top_k(k)(labels, outputs) == sk.top_k_accuracy_score(labels, outputs, k=k, labels=every)
        assert bp.top_k(k)(np.eye(classes)[labels], outputs) == bp.top_k(k)(labels[:, None], outputs) == bp.top_k(k)(labels, outputs)
    assert bp.top_k(classes)(labels, outputs) == 1
    expected = sk.log_loss(labels, outputs, labels=every)
    rounding = 1e-5 if dtype == "float32" else 1e-13  # scikit-learn computes in the dtype, microbp in float64
    assert bp.log_loss(labels, outputs) == pytest.approx(expected, rel=rounding)
    assert bp.log_loss(np.eye(classes)[labels], outputs) == pytest.approx(expected, rel=rounding)


def test_metrics_of_two_classes_equal_scikit_learn(sk):
    chances, labels = RNG.uniform(size=(300, 1)), RNG.integers(0, 2, 300)
    chances[:4] = [[0], [1], [0.5], [1e-300]]
    assert bp.accuracy(labels, chances) == sk.accuracy_score(labels, chances[:, 0] > 0.5)
    assert bp.log_loss(labels, chances) == pytest.approx(sk.log_loss(labels, chances[:, 0]), rel=1e-13)
    assert bp.log_loss(labels[:, None], chances) == bp.log_loss(labels, chances[:, 0]) == bp.log_loss(labels, chances)


@pytest.mark.parametrize("outputs", [1, 3])
def test_metrics_of_regression_equal_scikit_learn(sk, outputs):
    y = RNG.normal(size=(200, outputs))
    predictions = y + RNG.normal(size=(200, outputs))
    for mine, theirs in ((bp.mae, sk.mean_absolute_error), (bp.r2, sk.r2_score)):
        assert mine(y, predictions) == pytest.approx(theirs(y, predictions), rel=1e-14)
    assert bp.rmse(y, predictions) == pytest.approx(np.sqrt(sk.mean_squared_error(y, predictions)), rel=1e-14)
    constant = np.ones_like(y)
    assert bp.r2(constant, predictions) == sk.r2_score(constant, predictions) == 0
    assert bp.r2(constant, constant) == sk.r2_score(constant, constant) == 1


def test_an_output_of_nan_is_never_among_the_largest():
    outputs = np.array([[np.nan, 1, 0], [3, np.nan, 2]])
    assert bp.top_k(2)([0, 0], outputs) == 0.5
    assert bp.top_k(1)([0, 0], outputs) == 0


@pytest.mark.parametrize(
    ("metric", "y", "outputs"),
    [
        (bp.top_k(2), [0, 3], np.ones((2, 3))),
        (bp.top_k(2), [0, -1], np.ones((2, 3))),
        (bp.top_k(2), [0, 1, 2], np.ones((2, 3))),
        (bp.top_k(2), [0, 1], np.ones((2, 1))),
        (bp.log_loss, [0, 3], np.ones((2, 3))),
        (bp.log_loss, [0, 1, 1], np.ones((2, 1))),
        (bp.log_loss, np.ones((2, 2)), np.ones((2, 3))),
    ],
)
def test_shapes_and_labels_that_do_not_fit_are_refused(metric, y, outputs):
    with pytest.raises(ValueError, match="y "):
        metric(y, outputs)


@pytest.mark.parametrize("metric", [bp.accuracy, bp.log_loss, bp.top_k(1), bp.rmse])
def test_swapped_arguments_get_a_hint(metric):
    with pytest.raises(ValueError, match="may be swapped$"):
        metric(np.full((3, 2), 0.5), [0, 1, 1])
    for y, outputs in (([0, 1], np.ones((3, 1))), ([[0], [1]], [0.5, 0.5, 0.5])):
        with pytest.raises(ValueError, match=r"\)$|columns$"):
            metric(y, outputs)


def test_the_largest_outputs_need_two_columns():
    assert bp.top_k(1)([0, 1], np.eye(2)) == 1 and bp.top_k(1).__name__ == "top_1"
    with pytest.raises(ValueError, match="outputs at least 2 columns$"):
        bp.top_k(1)([[0], [1]], np.ones((2, 1)))


@pytest.mark.parametrize("k", [0, -1, 1.5, True])
def test_k_is_a_count(k):
    with pytest.raises((TypeError, ValueError), match="top_k: k must be"):
        bp.top_k(k)


def test_the_name_of_a_metric_determines_whether_higher_is_better():
    higher = ["accuracy", "r2", "top_3", "roc_auc_score", "balanced_accuracy_score", "f1", "auc", "subset_accuracy", "balanced_accuracy"]
    lower = ["loss", "val_loss", "log_loss", "rmse", "mae", "max_error", "mean_pinball_loss", "brier_score_loss", "brier", "pinball"]
    for name in (*higher, *(f"val_{name}" for name in higher)):
        assert higher_is_better(name, None) and not higher_is_better(name, "min")
    for name in (*lower, *(f"val_{name}" for name in lower)):
        assert higher_is_better(name, "max") and not higher_is_better(name, None)
    assert {*metrics.NAMED} <= {*higher, *lower}
    with pytest.raises(ValueError, match='mode="min" or mode="max"'):
        higher_is_better("beauty", None)
    with pytest.raises(ValueError, match="unknown mode 'mim'; did you mean 'min'"):
        higher_is_better("beauty", "mim")


# ---- every metric equals scikit-learn's function, with and without weights ----


def weights(rows, seed, kind):
    """Weights of rows; some are 0."""
    rng = np.random.default_rng(seed)
    return {"none": None, "ones": np.ones(rows), "random": rng.uniform(0, 3, rows) * (rng.uniform(size=rows) > 0.3) + 1e-9}[kind]


def labels(y, outputs, loss):
    """The labels of targets and outputs, by the textbook rule of a loss."""
    if loss == "cross_entropy":
        return y, outputs.argmax(axis=1)
    return (y > (0.5 if loss == "bce" else 0)).astype(int), (outputs > (0.5 if loss == "bce" else 0)).astype(int)


def macro(function):
    """The mean over the columns of a function of scikit-learn."""
    return lambda y, outputs, **rest: np.mean([function(a, b, **rest) for a, b in zip(y.T, outputs.T, strict=True)])


def draw(seed, loss, columns, rows=40):
    """Targets and predictions with many ties; every class occurs."""
    rng = np.random.default_rng(seed)
    if loss == "cross_entropy":
        raw = rng.integers(1, 5, (rows, columns)).astype(float)
        return rng.permutation(np.arange(rows) % columns), raw / raw.sum(axis=1, keepdims=True)
    if loss == "bce":
        return rng.permuted(np.tile(np.arange(rows)[:, None] % 2, columns), axis=0), rng.integers(0, 9, (rows, columns)) / 8
    return rng.permuted(np.tile(np.arange(rows)[:, None] % 2 * 2 - 1, columns), axis=0), rng.integers(-4, 5, (rows, columns)) / 4


def expected(sk, name, loss, y, outputs, weight):
    """The value of scikit-learn."""
    true, decided = labels(y, outputs, loss)
    classes, columns = loss == "cross_entropy", outputs.shape[1]
    if name in ("accuracy", "subset_accuracy"):
        if classes or (name == "subset_accuracy" and columns > 1):
            return sk.accuracy_score(true, decided, sample_weight=weight)
        return macro(sk.accuracy_score)(true, decided, sample_weight=weight)
    if name == "balanced_accuracy":
        return (sk.balanced_accuracy_score if classes else macro(sk.balanced_accuracy_score))(true, decided, sample_weight=weight)
    if name == "f1":
        if classes:
            return sk.f1_score(true, decided, average="macro", sample_weight=weight)
        return macro(sk.f1_score)(true, decided, sample_weight=weight)
    if name == "auc":
        if classes:
            return sk.roc_auc_score(true, outputs[:, 1] if columns == 2 else outputs, multi_class="ovr", sample_weight=weight)
        return macro(sk.roc_auc_score)(true, outputs, sample_weight=weight)
    function = partial(sk.log_loss, labels=range(max(columns, 2) if classes else 2)) if name == "log_loss" else sk.brier_score_loss
    return (function if classes else macro(function))(true, outputs, sample_weight=weight)


CLASS_METRICS = ["accuracy", "subset_accuracy", "balanced_accuracy", "f1", "auc", "log_loss", "brier"]


@pytest.mark.parametrize("kind", ["none", "ones", "random"])
@pytest.mark.parametrize("loss", ["cross_entropy", "bce", "hinge"])
@pytest.mark.parametrize("columns", [1, 2, 3])
@pytest.mark.parametrize("name", CLASS_METRICS)
def test_a_metric_of_classes_equals_scikit_learn(sk, name, loss, columns, kind):
    if (loss, columns) == ("cross_entropy", 1) or (loss == "hinge" and name in ("log_loss", "brier")):
        return
    for seed in range(6):
        y, outputs = draw(seed, loss, columns)
        weight = weights(len(y), seed, kind)
        value = getattr(bp, name)(y, outputs, sample_weight=weight, loss=loss)
        assert value == pytest.approx(expected(sk, name, loss, y, outputs, weight), rel=1e-12, abs=1e-12)
        if columns == 1:
            assert getattr(bp, name)(y[:, 0], outputs[:, 0], weight, loss) == value
        if loss == "bce" and not (columns > 1 and (y.sum(axis=1) == 1).all()):
            assert getattr(bp, name)(y, outputs, weight) == value
        if loss == "cross_entropy":
            assert getattr(bp, name)(y, outputs, weight) == getattr(bp, name)(np.eye(columns)[y], outputs, weight) == value
        if loss == "hinge":
            assert getattr(bp, name)(y, outputs, weight) == value


@pytest.mark.parametrize("kind", ["none", "random"])
@pytest.mark.parametrize("outputs", [1, 3])
def test_a_metric_of_numbers_equals_scikit_learn(sk, outputs, kind):
    for seed in range(6):
        rng = np.random.default_rng(seed)
        y = rng.integers(-3, 4, (30, outputs)) / 2
        predictions, weight = y + rng.integers(-2, 3, y.shape), weights(30, seed, kind)
        y[:, 0] = np.where(kind == "none" and seed % 5 == 0, 3.0, y[:, 0])  # constant; weighted, scikit-learn rounds
        close = {"rel": 1e-12, "abs": 1e-12}
        assert bp.mae(y, predictions, weight) == pytest.approx(sk.mean_absolute_error(y, predictions, sample_weight=weight), **close)
        assert bp.r2(y, predictions, weight) == pytest.approx(sk.r2_score(y, predictions, sample_weight=weight), **close)
        squares = sk.mean_squared_error(y, predictions, sample_weight=weight)
        assert bp.rmse(y, predictions, weight) == pytest.approx(np.sqrt(squares), **close)
        for q in (0.1, 0.5, 0.9):
            theirs = sk.mean_pinball_loss(y, predictions, alpha=q, sample_weight=weight)
            assert bp.pinball(y, predictions, weight, bp.Loss("quantile", q=q)) == pytest.approx(theirs, **close)
        assert bp.pinball(y, predictions, weight) == pytest.approx(bp.mae(y, predictions, weight) / 2, **close)


@pytest.mark.parametrize("k", [1, 2, 3])
def test_weighted_top_k_equals_scikit_learn(sk, k):
    for seed in range(6):
        y, outputs = draw(seed, "cross_entropy", 4)
        weight = weights(len(y), seed, "random")
        theirs = sk.top_k_accuracy_score(y, outputs, k=k, sample_weight=weight, labels=range(4))
        assert bp.top_k(k)(y, outputs, weight) == pytest.approx(theirs, rel=1e-12)


def test_metrics_of_one_class_only(sk):
    chances = np.array([0.2, 0.7, 0.6])
    for y in ([1, 1, 1], [0, 0, 0]):
        decided = chances > 0.5
        assert bp.balanced_accuracy(y, chances) == sk.recall_score(y, decided, pos_label=y[0])
        assert bp.f1(y, chances) == sk.f1_score(y, decided, zero_division=0)
        assert np.isnan(bp.auc(y, chances))  # as scikit-learn answers, with a warning
    assert bp.f1([0, 0, 0], [0.1, 0.2, 0.3]) == sk.f1_score([0, 0, 0], [0, 0, 0], zero_division=0) == 0
    three = np.eye(3)[[0, 0, 1]]
    assert np.isnan(bp.auc([0, 0, 1], three))  # class 2 does not occur, which scikit-learn refuses
    assert bp.f1([0, 0, 1], three) == sk.f1_score([0, 0, 1], [0, 0, 1], average="macro") == 1
    assert np.isnan(bp.r2([3.0], [3.0]))


@pytest.mark.parametrize("value", [0.1, 1 / 3, 1e100, 0.0])
def test_r2_of_constant_targets_is_1_or_0(value):
    """Although their mean is rounded."""
    for rows in (3, 7, 10):
        y = np.full(rows, value)
        assert bp.r2(y, y) == 1
        assert bp.r2(y, y + 1e-3 * np.arange(rows) if value < 1 else y / 2) == 0


@pytest.mark.parametrize("name", [*metrics.NAMED, "top_1"])
def test_rows_of_weight_0_are_not_read(name):
    function = bp.top_k(1) if name == "top_1" else getattr(bp, name)
    rng = np.random.default_rng(3)
    if metrics.find(name).needs == "numbers":
        y, outputs = rng.normal(size=(9, 2)), rng.normal(size=(9, 2))
    else:
        y, outputs = np.arange(9) % 3, rng.dirichlet(np.ones(3), 9)
    weight = np.arange(9.0) % 4
    clean = function(y[weight > 0], outputs[weight > 0], weight[weight > 0])
    poisoned_y, poisoned = y.astype(float), outputs.copy()
    poisoned_y[weight == 0], poisoned[weight == 0] = np.nan, np.nan
    assert function(poisoned_y, poisoned, weight) == clean
    poisoned_y[weight == 0] = -100
    assert function(poisoned_y, poisoned, weight) == clean
    for wrong in (np.zeros(9), -weight, weight[:3], np.where(weight > 0, weight, np.inf), weight[:, None]):
        with pytest.raises(ValueError, match=r"^sample_weight[ \[]"):
            function(y, outputs, wrong)


def test_nan_is_never_right():
    nan = np.full(2, np.nan)
    for loss in (None, "bce", "hinge"):
        for y in ([0, 1], [-1, 1], nan):
            assert bp.accuracy(y, nan, loss=loss) == bp.subset_accuracy(y, nan, loss=loss) == 0
    three = np.array([[np.nan] * 3, [np.nan, 1, 0], [0, 1, np.nan]])
    for label in range(3):
        for function in (bp.accuracy, bp.balanced_accuracy, bp.top_k(1)):
            assert function([label] * 3, three) == 0
    assert bp.top_k(3)([0, 0, 2], three) == 0
    assert bp.accuracy([[0, 1], [1, 1]], [[0.1, np.nan], [0.9, 0.9]]) == 0.75
    assert bp.balanced_accuracy([0, 1], [np.nan, 0.9]) == 0.5
    for name in ("auc", "log_loss", "brier", "rmse", "mae", "r2", "pinball"):
        assert np.isnan(getattr(bp, name)([0, 1, 1], [0.1, np.nan, 0.2])), name
        assert np.isnan(getattr(bp, name)([[0, 1], [1, 1], [1, 0]], [[0.1, np.nan], [0.2, 0.9], [0.9, 0.5]])), name


# ---- the rule of a loss ----

SEVERAL = np.array([[1, 1, 0], [0, 1, 1], [0, 0, 0], [1, 0, 1]])


def test_several_columns_of_0_and_1_are_judged_each_by_itself():
    chances = np.where(SEVERAL == 1, 0.9, 0.1) + np.array([0, 0.01, 0.02])
    one_wrong = chances.copy()
    one_wrong[0, 0] = 0.2
    for loss in (None, "bce"):
        assert bp.accuracy(SEVERAL, chances, loss=loss) == bp.subset_accuracy(SEVERAL, chances, loss=loss) == 1
        right = -(SEVERAL * np.log(chances) + (1 - SEVERAL) * np.log(1 - chances)).mean()
        assert round(right, 4) == 0.1055
        assert bp.log_loss(SEVERAL, chances, loss=loss) == pytest.approx(right, rel=1e-12)
        assert bp.accuracy(SEVERAL, one_wrong, loss=loss) == pytest.approx(11 / 12)
        assert bp.subset_accuracy(SEVERAL, one_wrong, loss=loss) == 0.75


def test_a_loss_ends_the_guess():
    assert bp.accuracy([1, 1, 1], [0.3, 0.2, 0.4], loss="hinge") == 1
    assert bp.accuracy([1, -1, 1], [0.3, -0.2, 0.4]) == 1
    one_hot, chances = np.eye(3), np.array([[0.4, 0.3, 0.3], [0.3, 0.4, 0.3], [0.3, 0.3, 0.4]])
    assert bp.accuracy(one_hot, chances) == bp.accuracy(one_hot, chances, loss=bp.Loss("cross_entropy")) == 1
    assert bp.accuracy(one_hot, chances, loss="bce") == pytest.approx(2 / 3)
    for name in CLASS_METRICS:
        with pytest.raises(ValueError, match='mse does not decide between classes; use "cross_entropy", "bce" or "hinge"'):
            getattr(bp, name)([0, 1], [0.2, 0.8], loss="mse")
        with pytest.raises(ValueError, match="unknown loss 'msee'"):
            getattr(bp, name)([0, 1], [0.2, 0.8], loss="msee")
    for name in ("log_loss", "brier"):
        for loss in (None, "hinge"):
            with pytest.raises(ValueError, match="needs probabilities and targets from 0 to 1"):
                getattr(bp, name)([-1, 1], [0.2, 0.8], loss=loss)
    with pytest.raises(ValueError, match='top_2 needs classes; the loss must be "cross_entropy", not bce'):
        bp.top_k(2)(one_hot, chances, loss="bce")


def test_every_metric_has_the_same_signature():
    for function in (*(named.function for named in metrics.NAMED.values()), bp.top_k(2)):
        assert list(inspect.signature(function).parameters) == ["y", "outputs", "sample_weight", "loss"]


@pytest.mark.parametrize("name", metrics.NAMED)
def test_no_rows_and_other_shapes_are_refused(name):
    function = getattr(bp, name)
    for y, outputs in (([], []), (np.ones((2, 2, 2)), np.ones((2, 2, 2))), (1, 1), ([1, 0], [[0.1], [0.2], [0.3]]), ([[1, 0]], [[1], [0]])):
        with pytest.raises(ValueError, match="^y "):
            function(y, outputs)


@pytest.mark.parametrize("name", [*metrics.NAMED, "top_1"])
def test_only_ratios_of_weights_matter(name):
    function = bp.top_k(1) if name == "top_1" else getattr(bp, name)
    rng = np.random.default_rng(4)
    y, outputs = np.arange(9) % 3, rng.dirichlet(np.ones(3), 9)
    if metrics.find(name).needs == "numbers":
        y = rng.normal(size=(9, 3))
    weight = np.array([1, 2, 3, 4, 5, 6, 7, 0, 1])
    for power in (-1000, -600, 600, 1020):
        assert function(y, outputs, np.ldexp(weight.astype(float), power)) == function(y, outputs, weight)


@pytest.mark.parametrize("name", ["rmse", "mae", "r2", "pinball", "brier"])
def test_numbers_too_large_for_float64_give_no_warning(name):
    function = getattr(bp, name)
    for large in (1e200, 1e308, np.inf):
        for y, outputs in (([large, -large], [-large, large]), ([0, 1], [large, 2.0])):
            assert not 0 <= function(y, outputs, loss="bce" if name == "brier" else None) < 1e199


def test_wrong_weights_are_refused_with_their_row():
    with pytest.raises(ValueError, match=r"^sample_weight\[1\] is -1, but a weight must be finite and at least 0$"):
        bp.accuracy([0, 1], [0.2, 0.8], [1, -1])
    with pytest.raises(ValueError, match=r"\(2,\), one weight per row of y; use sample_weight\.ravel\(\)"):
        bp.accuracy([0, 1], [0.2, 0.8], [[1], [1]])
