"""Centre and scale of columns: from the training rows alone, for each kind of column."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import table_runs

from microbp.cli.main import main
from microbp.core.specs import Loss
from microbp.tables.encodings.number import Number
from microbp.tables.encodings.target import Target
from microbp.tables.preparation import find_target, prepare
from microbp.tables.readers import sources
from microbp.tables.readers.table import Table
from microbp.tables.split import Split, gather

COUNT = 300
RNG = np.random.default_rng(5)
A, B = RNG.normal(size=(2, COUNT))
Y = 3 * A - 2 * B + 0.3 * RNG.normal(size=COUNT) + 500


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def write(name="t.csv", **columns):
    lines = [",".join(columns), *(",".join(map(str, row)) for row in zip(*columns.values(), strict=True))]
    with open(name, "w", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")


def rows_of(part, seed=0):
    """The indices of the rows of a part."""
    split = Split(sources.find("t.csv"), seed=seed)
    list(split.look())
    split.draw(Target("y"))
    return np.concatenate([piece.numbers("row") for piece in split.pieces(part)]).astype(int)


def trained(seed=0, epochs=60):
    data = gather(Split(sources.find("t.csv"), seed=seed), target="y", drop=["row"])
    return data, table_runs.measured(table_runs.first(data, epochs=epochs, seed=seed), data).parts


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("shift", [0, 1000])
def test_centre_and_scale_of_the_target_are_those_of_the_training_rows(stream, shift, monkeypatch):
    monkeypatch.setattr(sources, "CHUNK", 70)
    write(row=range(COUNT), a=A, b=B, y=Y)
    split = Split(sources.find("t.csv", stream=stream))
    list(split.look())
    split.draw(Target("y"))
    rows = {
        part: np.concatenate([piece.numbers("row") for piece in split.pieces(part)]).astype(int) for part in ("train", "test", "validation")
    }
    y = Y.copy()
    y[rows["test"]] += shift
    y[rows["validation"]] += 7 * shift
    write(row=range(COUNT), a=A, b=B, y=y)
    target = gather(Split(sources.find("t.csv", stream=stream)), target="y", drop=["row"]).preparation.target
    assert (target.centre, target.scale) == pytest.approx((Y[rows["train"]].mean(), Y[rows["train"]].std()), rel=1e-12)
    plain = gather(Split(sources.find("t.csv", stream=stream)), target="y", loss=Loss("poisson")).preparation.target
    assert (plain.centre, plain.scale) == (0, 1)


def test_targets_of_other_rows_do_not_change_the_training():
    """The targets of the test rows are shifted by 1000: their loss grows, the others stay."""
    write(row=range(COUNT), a=A, b=B, y=Y)
    test = rows_of("test")
    _, before = trained()
    y = Y.copy()
    y[test] += 1000
    write(row=range(COUNT), a=A, b=B, y=y)
    _, after = trained()
    assert (before["train"], before["validation"]) == (after["train"], after["validation"])
    assert after["test"]["rmse"] == pytest.approx(1000, rel=0.01)


def test_training_targets_may_be_constant():
    write(row=range(COUNT), a=A, b=B, y=Y)
    y = np.full(COUNT, 500.5)
    y[rows_of("test")[:3]] = 501.25
    write(row=range(COUNT), a=A, b=B, y=y)
    data, parts = trained(epochs=30)
    assert (data.preparation.target.centre, data.preparation.target.scale) == (500.5, 500.5)
    assert parts["test"]["rmse"] < 50


CONSTANTS = [50000.0, 2023.0, -3e-7, 1e30, 0.1, 7.0]


@pytest.mark.parametrize("value", CONSTANTS)
@pytest.mark.parametrize("kind", ["file", "array"])
def test_a_column_that_is_constant_or_missing_is_0_and_its_indicator(kind, value):
    present = np.arange(30) % 3 > 0
    if kind == "file":
        write(c=[value if one else "" for one in present], y=np.arange(30) / 7)
        table = sources.read("t.csv").train
    else:
        table = Table("t", {"c": np.where(present, value, np.nan), "y": np.arange(30) / 7}, 30)
    preparation = prepare([table], find_target([table], "y"))
    assert preparation.features == (Number("c", value, abs(value), True),)
    np.testing.assert_array_equal(preparation.matrix(table), np.column_stack([np.zeros(30), ~present]))
    other = Table("u", {"c": np.array([1.5 * value, -value])}, 2)
    np.testing.assert_allclose(preparation.matrix(other)[:, 0], [math.copysign(0.5, value), -2 * math.copysign(1, value)], rtol=1e-6)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_a_constant_0_or_1_that_may_be_missing(value):
    table = Table("t", {"c": np.where(np.arange(30) % 3 > 0, value, np.nan), "y": np.arange(30) / 7}, 30)
    preparation = prepare([table], find_target([table], "y"))
    assert preparation.features == (Number("c", value, 1.0, True),)
    np.testing.assert_array_equal(preparation.matrix(table)[:, 0], 0)


@pytest.mark.parametrize("value", [50000, 2023])
def test_such_a_column_does_not_raise_the_test_loss(value):
    filled = [value if one else "" for one in np.random.default_rng(3).uniform(size=COUNT) < 0.5]
    losses = {}
    for extra in ({}, {"c": filled}):
        write(row=range(COUNT), a=A, b=B, **extra, y=Y)
        losses[len(extra)] = np.mean([trained(seed)[1]["test"]["loss"] for seed in range(3)])
    assert losses[1] < 1.3 * losses[0]


def test_the_values_of_a_column_in_other_rows_do_not_change_its_scale():
    write(row=range(COUNT), a=A, b=B, y=Y)
    a, other = A.copy(), rows_of("test")
    features = gather(Split(sources.find("t.csv")), target="y", drop=["row"]).preparation.features
    a[other] = 1e6
    write(row=range(COUNT), a=a, b=B, y=Y)
    assert gather(Split(sources.find("t.csv")), target="y", drop=["row"]).preparation.features == features


def test_the_accuracy_of_epochs_and_of_the_report_is_the_same(capsys):
    """With each loss, a row has one class, and the largest output decides."""
    write(a=A, b=B, y=["uvw"[int(i)] for i in np.digitize(A + B, [-0.5, 0.5])])
    for loss in ("cross_entropy", "bce", "hinge"):
        data = gather(Split(sources.find("t.csv")), target="y", loss=Loss(loss))
        trainer = table_runs.first(data, epochs=4)
        best = trainer.epoch - 1
        assert trainer.history["accuracy"][best] == table_runs.measured(trainer, data).parts["validation"]["accuracy"]
        assert main(["train", "t.csv", "--target", "y", "--loss", loss, "--epochs", "4", "--json", "--out", f"{loss}.net"]) == 0
        assert 0.5 < json.loads(capsys.readouterr().out)["test"]["accuracy"] <= 1
