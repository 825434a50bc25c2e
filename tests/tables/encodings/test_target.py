"""Targets that are numbers: the logarithm, the range of predictions, and scores in the target's unit."""

from __future__ import annotations

import json

import numpy as np
import pytest
import table_runs

import microbp as bp
from microbp.core.specs import Loss
from microbp.tables.encodings.encoding import Encoding
from microbp.tables.encodings.target import Target
from microbp.tables.preparation import Preparation, find_target, prepare
from microbp.tables.readers import sources
from microbp.tables.readers.table import Table
from microbp.tables.split import Split, gather

COUNT = 400
PLAIN = Encoding()
RANDOM = np.random.default_rng(2)
NORMAL = RANDOM.normal(size=COUNT)
LOGNORMAL = np.exp(NORMAL)
SKEWED = {
    "lognormal": (LOGNORMAL, True),
    "squares": (NORMAL**2, False),  # the logarithms are skewed to the left
    "normal": (20 + NORMAL, False),
    "negative": (LOGNORMAL - 1, False),
    "with zeros": (np.where(NORMAL < -1, 0, LOGNORMAL), False),
    "less than one order of magnitude": (1 + LOGNORMAL / LOGNORMAL.max() * 8, False),
    "skewed to the left": (LOGNORMAL.max() * 1.01 - LOGNORMAL, False),
    "whole counts": (np.ceil(8 * np.exp(0.9 * NORMAL)), True),
}


def table_of(values):
    return Table("t", {"a": np.arange(len(values)) / 3, "y": np.asarray(values, dtype=float)}, len(values))


def target_of(values, log=True, scales=True):
    table = table_of(values)
    return prepare([table], find_target([table], "y", False), scales=scales, encoding=Encoding(log=log)).target


@pytest.mark.parametrize("name", SKEWED)
def test_the_logarithm_is_learnt_if_the_training_rows_are_skewed_and_it_is_allowed(name):
    values, is_log = SKEWED[name]
    assert target_of(values).log == is_log
    assert not target_of(values, log=False).log and not target_of(values, scales=False).log


@pytest.mark.parametrize("name", SKEWED)
@pytest.mark.parametrize("log", [False, True])
def test_scaled_targets_have_mean_0_and_deviation_1_and_can_be_undone(name, log):
    target = target_of(SKEWED[name][0], log)
    scaled = target.values(table_of(SKEWED[name][0]))
    assert (scaled.mean(), scaled.std()) == pytest.approx((0, 1), abs=1e-9)
    values = np.concatenate([SKEWED[name][0], [-1e6, -1.0, 0.0, 1e-3, 1e6, 1e30]])  # also values that training did not have
    scaled = target.values(table_of(values))
    np.testing.assert_allclose(target.true(scaled), values, rtol=1e-9, atol=1e-9)
    assert (np.diff(scaled[np.argsort(values, kind="stable")]) >= 0).all()


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("scales", [False, True])
def test_predictions_are_cut_to_the_range_of_the_training_rows(log, scales):
    target = target_of(LOGNORMAL, log, scales)
    outputs = np.array([[-1e30], [-3.0], [0.0], [2.0], [1e30], [np.inf]], np.float32)
    found = target.numbers(outputs)
    assert found.dtype == np.float64 and found.shape == outputs.shape
    assert (found.min(), found.max()) == (LOGNORMAL.min(), LOGNORMAL.max())
    inside = (found > LOGNORMAL.min()) & (found < LOGNORMAL.max())
    np.testing.assert_array_equal(found[inside], target.true(outputs)[inside])
    assert Target("y", (), 3.0, 2.0).numbers(outputs[:4]).tolist() == [[2 * float(x) + 3] for x in outputs[:4, 0]]  # no known range


def gathered(stream=False, encoding=PLAIN, **options):
    rows = [f"{NORMAL[i]},{LOGNORMAL[i]}" for i in range(COUNT)]
    with open("t.csv", "w", encoding="utf-8") as file:
        file.write("\n".join(["a,y", *rows]) + "\n")
    return gather(Split(sources.find("t.csv", stream=stream)), target="y", encoding=lambda rows, columns, classifies: encoding, **options)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("stream", [False, True])
def test_scores_are_those_of_predictions_in_the_unit_of_the_target(log, stream, folder, monkeypatch):
    monkeypatch.setattr(sources, "CHUNK", 90)
    data = gathered(stream, encoding=Encoding(log=log))
    trainer = table_runs.first(data, epochs=5)
    found, target = table_runs.measured(trainer, data), data.preparation.target
    assert target.log == log
    x, y, _ = data.part("test")
    true, predicted = target.true(y), target.numbers(trainer.predict(x)[:, 0])
    expected = {"rmse": bp.rmse(true, predicted), "mae": bp.mae(true, predicted), "r2": bp.r2(true, predicted)}
    assert {name: found.parts["test"][name] for name in expected} == pytest.approx(expected)
    assert found.parts["test"]["loss"] == pytest.approx(trainer.evaluate(x, y))
    np.testing.assert_allclose((found.true, found.predicted), (true, predicted))
    training = target.true(data.part("train").y)
    assert found.baseline["value"] == pytest.approx(training.mean())
    assert found.baseline["rmse"] == pytest.approx(np.sqrt(np.mean((true - training.mean()) ** 2)))
    best = trainer.epoch - 1
    assert trainer.history["rmse"][best] == pytest.approx(found.parts["validation"]["rmse"], rel=1e-6)


def test_a_feature_far_away_cannot_lead_to_a_prediction_beyond_the_training_rows(folder):
    """Without the cut, a network of relu units extrapolates without a limit."""
    a = NORMAL.tolist()
    trained = bp.fit_table({"a": a, "y": (3 * NORMAL).tolist()}, target="y", epochs=5)
    with pytest.warns(UserWarning, match=r"far outside the range of training: a \(2\)"):
        found = trained.predict({"a": [1e6, -1e6]})
    assert found.max() <= 3 * NORMAL.max() and found.min() >= 3 * NORMAL.min()


def test_a_saved_target_gives_the_same_bits():
    for values, log in ((LOGNORMAL, True), (NORMAL, False)):
        table = table_of(values)
        known = prepare([table], find_target([table], "y"), encoding=Encoding(log=log))
        again = Preparation.from_dict(json.loads(json.dumps(known.as_dict())))
        assert again == known and again.target.log == log
        assert again.target.values(table).tobytes() == known.target.values(table).tobytes()


@pytest.mark.parametrize("loss", ["mae", "quantile", "poisson"])
def test_other_losses_have_a_range_as_well(loss, folder):
    target = gathered(loss=Loss(loss), encoding=Encoding(log=True)).preparation.target
    assert target.low is not None and target.high is not None and LOGNORMAL.min() <= target.low < target.high <= LOGNORMAL.max()
    assert (target.log, target.scale == 1) == ((False, True) if loss == "poisson" else (True, False))
