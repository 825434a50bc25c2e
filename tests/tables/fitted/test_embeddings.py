"""Embeddings of categories with many values, from the table to predictions of a saved model."""

from __future__ import annotations

import numpy as np
import pytest

import microbp as bp
from microbp.cli.main import main
from microbp.tables import recipe
from microbp.tables.fitted import runs
from microbp.tables.readers import sources
from microbp.tables.split import Split, gather

RNG = np.random.default_rng(6)
COUNT, LEVELS = 1800, 120
PLACE = RNG.permutation(np.arange(COUNT) % LEVELS)
A = RNG.normal(size=COUNT).round(3)
EFFECT = RNG.normal(size=LEVELS)
COLUMNS = {
    "place": [f"p{i}" for i in PLACE],
    "a": A.tolist(),
    "y": (A + 3 * EFFECT[PLACE] + 0.1 * RNG.normal(size=COUNT)).round(3).tolist(),
}
CLASSES = {**COLUMNS, "y": ["high" if y > 0 else "low" for y in COLUMNS["y"]]}
ALONE = {name: COLUMNS[name] for name in ("place", "y")}
TABLES = {"number": COLUMNS, "classes": CLASSES, "no other column": ALONE}
FAST = {"target": "y", "budget": "fast", "progress": False}
EACH = pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)


@pytest.fixture(scope="module", params=TABLES)
def fitted(request):
    return bp.fit_table(TABLES[request.param], **FAST), TABLES[request.param]


def written(path, table):
    lines = [",".join(table), *(",".join(map(str, row)) for row in zip(*table.values(), strict=True))]
    path.write_text("\n".join(lines) + "\n")


def test_it_learns_what_each_value_tells(fitted):
    model, table = fitted
    scores = model.scores["test"]
    assert scores["accuracy"] > 0.88 if model.classes else scores["r2"] > 0.85
    assert [entry.levels for entry in model.net.inputs] == [*([None] if "a" in table else []), LEVELS + 1]
    assert ", 1 with an embedding)" in model.report


def test_a_row_alone_is_predicted_as_among_others_and_a_file_keeps_the_bits(fitted, tmp_path):
    model, table = fitted
    model.save(tmp_path / "m.safetensors")
    again, rows = bp.load_table(tmp_path / "m.safetensors"), {name: cells[:9] for name, cells in table.items()}
    expected = model.predict(rows)
    np.testing.assert_array_equal(again.predict(rows), expected)
    np.testing.assert_array_equal(again.predict({name: cells[3:4] for name, cells in rows.items()}), expected[3:4])
    outputs = again.net.predict(again.features(rows))
    np.testing.assert_array_equal(outputs.argmax(axis=1) if model.classes else model.preparation.target.numbers(outputs[:, 0]),
                                  [model.classes.index(one) for one in expected] if model.classes else expected)  # fmt: skip


def test_new_and_missing_values_are_predicted_alike_and_counted(fitted):
    model, table = fitted
    rows = {name: [cells[0]] * 2 for name, cells in table.items()} | {"place": ["nowhere", None]}
    with pytest.warns(UserWarning, match=r"place \(1\)"):
        first, second = model.predict(rows)
    assert first == second


def test_the_column_matters_and_new_rows_are_measured(fitted):
    model, table = fitted
    found = model.importance(table, repeats=2)
    assert found.columns[found.order[0]] == "place"
    name = "accuracy" if model.classes else "r2"
    assert model.evaluate(table)[name] > 0.88


@pytest.mark.parametrize("settings", [{"optimizer": "lion"}, {"decay": 0.1}, {"optimizer": "adam(weight_decay=0.1)"}], ids=str)
def test_an_optimizer_that_needs_all_rows_gets_features_instead(settings):
    net = bp.fit_table(COLUMNS, **FAST, epochs=1, **settings).net
    assert [entry.levels for entry in net.inputs] == [None]


def test_fewer_values_get_features():
    few = {name: [cell for cell, place in zip(cells, PLACE) if place < 100] for name, cells in COLUMNS.items()}
    assert [entry.levels for entry in bp.fit_table(few, **FAST, epochs=1).net.inputs] == [None]


@EACH
def test_a_stream_has_the_embeddings_of_the_table(table, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sources, "CHUNK", 700)
    written(tmp_path / "t.csv", table)
    whole, stream = (
        gather(Split(sources.find("t.csv", stream=is_stream)), target="y", encoding=recipe.encoding) for is_stream in (False, True)
    )
    assert stream.preparation.embedded and whole.preparation.inputs == stream.preparation.inputs
    model = bp.fit_table("t.csv", **FAST, stream=True)
    assert model.scores["test"]["accuracy" if model.classes else "r2"] > 0.8


def test_the_first_width_of_a_network_counts_ids_as_features():
    data, _ = runs.gathered(runs.split_of(COLUMNS, runs.Settings(target="y")), runs.Settings(target="y"))
    width = data.preparation.width
    net = bp.fit_table(COLUMNS, target="y", net=f"{width}-8-1", ensemble=1, epochs=1).net
    assert net.inputs[0].width == width - 1 and [layer.inputs for layer in net.layers if layer.kind == "dense"] == [
        width - 1 + recipe.EMBEDDED,
        8,
    ]


def test_commands_train_resume_describe_and_predict(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    written(tmp_path / "t.csv", COLUMNS)
    train = ["train", "t.csv", "--budget", "fast", "--epochs", "3", "--out", "m.safetensors", "--force"]
    assert main(train) == 0
    expected = (tmp_path / "m.safetensors").read_bytes()
    assert main([*train, "--checkpoint", "run"]) == 0
    assert main(["train", "t.csv", "--resume", "run", "--out", "m.safetensors", "--force"]) == 0
    assert (tmp_path / "m.safetensors").read_bytes() == expected
    capsys.readouterr()
    assert main(["info", "m.safetensors"]) == 0
    assert f"place: one of {LEVELS} values or another one, an embedding of 8 numbers" in capsys.readouterr().out
    assert main(["predict", "m.safetensors", "t.csv"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == COUNT + 1
    assert main(["lr-find", "t.csv", "--budget", "fast"]) == 0
