"""Metrics of each part and their intervals, against scikit-learn, the bootstrap and simulated tables."""

from __future__ import annotations

import math

import numpy as np
import pytest
import table_runs

import microbp as bp
from microbp.core.specs import Loss
from microbp.tables import intervals, scores
from microbp.tables.encodings.number import Number
from microbp.tables.encodings.target import Target
from microbp.tables.parts import Data, Part
from microbp.tables.preparation import Preparation
from microbp.tables.readers import sources
from microbp.tables.split import Split, gather

RNG = np.random.default_rng(3)
CLASS_NAMES = ("a", "b", "c", "d")


class Fixed:
    """A trainer whose predictions are the inputs."""

    def __init__(self, loss, classes):
        self.loss = bp.Trainer(bp.mlp([classes, classes], seed=0), loss=loss)

    def predict(self, x):
        return x

    def evaluate(self, x, y, weight):
        with np.errstate(over="ignore"):
            return float(np.average((x.reshape(len(x), -1)[:, 0] - y.reshape(len(y), -1)[:, 0]) ** 2, weights=weight))


def measured(outputs, y, weight=None, classes=0, loss="mse", pieces=1, train=None, scale=1.0):
    """The scores of given outputs, read in pieces."""
    target = Target("y", CLASS_NAMES[:classes], 0.0, scale)
    preparation = Preparation((Number("x", 0.0, 1.0, False),) * outputs.shape[1], target)
    chunks = [
        Part(*(None if whole is None else whole[rows] for whole in (outputs, y, weight)))
        for rows in np.array_split(np.arange(len(y)), pieces)
    ]
    parts = {"train": lambda: chunks if train is None else [train], "test": lambda: chunks}
    return scores.measure(Fixed(loss, outputs.shape[1]), Data("t", preparation, Loss(loss), parts, len(y), pieces > 1))


def classified(rows, classes, noise=1.0, rng=RNG):
    """Probabilities, and labels drawn from other probabilities."""
    raw = rng.normal(size=(rows, classes)) * 1.5
    y = (raw + noise * rng.gumbel(size=raw.shape)).argmax(axis=1)
    chances = np.exp(raw)
    return (chances / chances.sum(axis=1, keepdims=True)).astype(np.float32), y


WEIGHTS = {"plain": lambda rows: None, "weighted": lambda rows: RNG.choice([0.0, 0.5, 1.0, 3.0], rows)}


@pytest.mark.parametrize("weighting", WEIGHTS)
@pytest.mark.parametrize("classes", [2, 3, 4])
@pytest.mark.parametrize("pieces", [1, 7])
def test_metrics_of_classes_are_those_of_scikit_learn(weighting, classes, pieces):
    metrics = pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed")
    outputs, y = classified(500, classes)
    weight = WEIGHTS[weighting](500)
    found = measured(outputs, y, weight, classes, "cross_entropy", pieces)
    decided = outputs.argmax(axis=1)
    chances = outputs.astype(float) / outputs.astype(float).sum(axis=1, keepdims=True)
    expected = {
        "accuracy": metrics.accuracy_score(y, decided, sample_weight=weight),
        "balanced_accuracy": metrics.balanced_accuracy_score(y, decided, sample_weight=weight),
        "auc": metrics.roc_auc_score(y, chances[:, 1] if classes == 2 else chances, multi_class="ovr", sample_weight=weight),
        "log_loss": metrics.log_loss(y, chances, sample_weight=weight),
    }
    test = {name: value for name, value in found.parts["test"].items() if name != "loss"}
    assert test == pytest.approx(expected, rel=1e-5)
    assert [one.recall for one in found.classes] == pytest.approx(metrics.recall_score(y, decided, average=None, sample_weight=weight))
    assert [one.f1 for one in found.classes] == pytest.approx(metrics.f1_score(y, decided, average=None, sample_weight=weight))
    np.testing.assert_allclose(found.confusion, metrics.confusion_matrix(y, decided, sample_weight=weight))
    assert set(found.intervals) == set(expected)
    majority = int(np.bincount(y, weights=weight).argmax())
    assert found.baseline == {"value": CLASS_NAMES[majority], "accuracy": pytest.approx(np.average(y == majority, weights=weight))}


@pytest.mark.parametrize("weighting", WEIGHTS)
@pytest.mark.parametrize("pieces", [1, 7])
def test_metrics_of_numbers_are_those_of_scikit_learn(weighting, pieces):
    metrics = pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed")
    y = RNG.normal(5, 2, 500)
    outputs, weight = (y + RNG.normal(size=500))[:, None], WEIGHTS[weighting](500)
    found = measured(outputs, y, weight, pieces=pieces, train=Part(outputs[:100], y[:100]), scale=3.0)
    expected = {
        "rmse": 3 * metrics.root_mean_squared_error(y, outputs, sample_weight=weight),
        "mae": 3 * metrics.mean_absolute_error(y, outputs, sample_weight=weight),
        "r2": metrics.r2_score(y, outputs, sample_weight=weight),
    }
    assert {name: value for name, value in found.parts["test"].items() if name != "loss"} == pytest.approx(expected)
    mean = np.full(500, y[:100].mean())  # of the training rows
    assert found.baseline == pytest.approx({
        "value": 3 * mean[0],
        "rmse": 3 * metrics.root_mean_squared_error(y, mean, sample_weight=weight),
        "mae": 3 * metrics.mean_absolute_error(y, mean, sample_weight=weight),
    })  # fmt: skip
    assert set(found.intervals) == set(expected)


@pytest.mark.parametrize("loss", ["cross_entropy", "bce", "hinge", "mse"])
def test_each_loss_has_the_metrics_that_make_sense(loss, tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("a,b,y\n" + "".join(f"{i % 7},{i % 11},{['no', 'yes', 'maybe'][(i % 7 > 3) + (i % 11 > 7)]}\n" for i in range(200)))
    data = gather(Split(sources.find(str(path))), loss=Loss(loss))
    trainer = table_runs.first(data, epochs=2)
    found = table_runs.measured(trainer, data)
    for part in ("train", "validation", "test"):
        x, y, _ = data.part(part)
        outputs = trainer.predict(x)
        labels = y if loss == "cross_entropy" else y.argmax(axis=1)
        expected = {"loss": trainer.evaluate(x, y), "accuracy": bp.accuracy(labels, outputs, loss="cross_entropy")}
        expected["balanced_accuracy"] = bp.balanced_accuracy(labels, outputs, loss="cross_entropy")
        expected["auc"] = bp.auc(labels, outputs, loss="cross_entropy")
        if loss in ("cross_entropy", "bce"):
            expected["log_loss"] = bp.log_loss(y, outputs, loss=loss)
        assert found.parts[part] == pytest.approx(expected, rel=1e-6)
        assert found.rows[part] == len(x)
    assert all(low <= found.parts["test"][name] <= high for name, (low, high) in found.intervals.items())


# ---- at the edges ----


@pytest.mark.parametrize("rows", [1, 2, 3, 40])
@pytest.mark.parametrize("outputs", [0.0, 1.0, 1e308, float("nan"), float("inf")])
def test_metrics_of_numbers_are_finite_or_none(rows, outputs):
    found = measured(np.full((rows, 1), outputs), np.arange(rows) * 1e10)
    values = [value for part in found.parts.values() for name, value in part.items()] + [*found.baseline.values()]
    assert all(value is None or math.isfinite(value) for value in values)
    assert all(pair is None or all(map(math.isfinite, pair)) for pair in found.intervals.values())
    assert found.parts["test"]["r2"] is None or rows > 1


@pytest.mark.parametrize("y", [[0], [0, 1], [1, 1, 1], [0, 0, 1], [0] * 30 + [1]])
@pytest.mark.parametrize("right", [True, False])
def test_metrics_of_classes_are_finite_or_none(y, right):
    y = np.array(y)
    found = measured(np.eye(2, dtype=np.float32)[y if right else 1 - y], y, None, 2, "cross_entropy")
    assert (found.parts["test"]["auc"] is None) == (len(set(y)) < 2)
    assert found.parts["test"]["accuracy"] == right
    assert found.intervals["accuracy"][right] == pytest.approx(float(right))
    low, high = found.intervals["balanced_accuracy"] or (0, 1)  # None for a single row
    assert high - low > 0.1  # although no row differs from the others
    assert [one.rows for one in found.classes] == np.bincount(y, minlength=2).tolist()


def test_a_stream_keeps_few_rows_from_all_pieces_and_its_means_are_exact(monkeypatch):
    outputs, y = classified(5000, 3)
    whole = measured(outputs, y, None, 3, "cross_entropy")
    monkeypatch.setattr(scores, "_KEPT", 400)
    stream = measured(outputs, y, None, 3, "cross_entropy", pieces=50)
    place = {tuple(row): i for i, row in enumerate(outputs.tolist())}
    rows = [place[tuple(row)] for row in stream.predicted.tolist()]
    assert 200 <= len(rows) <= 400 and set(np.diff(rows)) == {np.diff(rows)[0]} and rows[-1] > 4900
    assert (stream.true == y[rows]).all()
    for name, value in whole.parts["test"].items():
        assert stream.parts["test"][name] == pytest.approx(value, rel=0.05 if name == "auc" else 1e-6)
        if name != "loss":
            widths = [np.diff(found.intervals[name])[0] for found in (stream, whole)]
            assert 0.6 < widths[0] / widths[1] < 1.6
    np.testing.assert_array_equal(stream.confusion, whole.confusion)


# ---- intervals ----


def test_wilson_is_that_of_statsmodels():
    """The values of statsmodels 0.14, proportion_confint(method="wilson"): of 0, 1, 50 and 100 rows of 100, and 3 of 7."""
    for right, rows, low, high in ((0, 100, 0, 0.0369935), (1, 100, 0.0017674, 0.0544862), (50, 100, 0.4038315, 0.5961685),
                                   (100, 100, 0.9630065, 1), (3, 7, 0.1582198, 0.7495416)):  # fmt: skip
        assert intervals.wilson(right / rows, rows) == pytest.approx((low, high), abs=1e-6)


SIMULATED = 100


@pytest.mark.parametrize(("rows", "classes"), [(60, 2), (200, 3)])
def test_intervals_of_classes_contain_the_truth_in_95_percent(rows, classes):
    rng = np.random.default_rng(11)
    large = measured(*classified(100_000, classes, rng=rng), None, classes, "cross_entropy")
    truth = {name: large.parts["test"][name] for name in ("accuracy", "balanced_accuracy", "auc", "log_loss")}
    truth |= {"f1": large.classes[0].f1, "recall": large.classes[0].recall}
    inside, small = dict.fromkeys(truth, 0), Part(*classified(9, classes))
    for _ in range(SIMULATED):
        found = measured(*classified(rows, classes, rng=rng), None, classes, "cross_entropy", train=small)
        pairs = {**found.intervals, "f1": found.classes[0].f1_interval, "recall": found.classes[0].recall_interval}
        for name, value in truth.items():
            inside[name] += pairs[name][0] <= value <= pairs[name][1]
    assert all(0.91 <= hits / SIMULATED <= 0.99 for hits in inside.values()), inside


@pytest.mark.parametrize(("rows", "weighted"), [(60, False), (200, True)])
def test_intervals_of_numbers_contain_the_truth_in_95_percent(rows, weighted):
    rng = np.random.default_rng(12)

    def draw(count):
        y = rng.normal(size=count)
        return (y + 0.5 * rng.normal(size=count))[:, None], y, rng.choice([1.0, 3.0], count) if weighted else None

    truth = {"rmse": 0.5, "mae": 0.5 * (2 / np.pi) ** 0.5, "r2": 0.75}
    inside = dict.fromkeys(truth, 0)
    for _ in range(SIMULATED):
        found = measured(*draw(rows))
        for name, value in truth.items():
            low, high = found.intervals[name]
            inside[name] += low <= value <= high
    assert all(0.91 <= hits / SIMULATED <= 0.99 for hits in inside.values()), inside


def test_the_jackknife_of_the_auc_is_that_of_delong():
    """DeLong, DeLong & Clarke-Pearson 1988: the variance of the AUC from the ranks of each row among those of the other class."""
    found = []
    for seed in range(40):
        outputs, y = classified(300, 2, rng=np.random.default_rng(seed))
        score = outputs[:, 1].astype(float)
        wins = (score[y == 1][:, None] > score[y == 0]) + 0.5 * (score[y == 1][:, None] == score[y == 0])
        error = math.sqrt(wins.mean(axis=1).var(ddof=1) / (y == 1).sum() + wins.mean(axis=0).var(ddof=1) / (y == 0).sum())
        group = intervals.groups(y)
        jackknife = intervals.standard_error(lambda g, y=y, score=score, group=group: bp.auc(y[group != g], score[group != g]), 30)
        found.append(jackknife / error)
    assert np.mean(found) == pytest.approx(1, abs=0.06) and np.std(found) < 0.2


def test_the_t_distribution_has_its_quantiles():
    for freedom, quantile in ((3, 3.182), (5, 2.571), (10, 2.228), (29, 2.045)):
        low, high = intervals.of_error(1.0, 1.0, freedom + 1)
        assert math.log(high) == pytest.approx(quantile, rel=0.01) and low * high == pytest.approx(1)
