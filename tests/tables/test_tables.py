"""From a file to a model and its predictions: reading, preparation, commands."""

from __future__ import annotations

import csv
import gzip
import importlib
import io
import json

import numpy as np
import pytest

import microbp as bp
from microbp.cli.main import main
from microbp.tables import recipe
from microbp.tables.encodings.category import RARE, Category
from microbp.tables.encodings.encoding import Encoding
from microbp.tables.encodings.number import Number
from microbp.tables.preparation import Preparation, find_target, prepare
from microbp.tables.readers import frame_files, sources
from microbp.tables.readers.table import Table

RANDOM = np.random.default_rng(7)
COUNT = 120
COLUMNS = {
    "size": np.round(RANDOM.normal(40, 9, COUNT), 3).tolist(),
    "rooms": RANDOM.integers(1, 9, COUNT).tolist(),
    "sunny": RANDOM.integers(0, 2, COUNT).tolist(),
    "street": RANDOM.choice(["Elm, north", 'the "old" one', "Fir", " Oak "], COUNT).tolist(),
    "age": [None if i % 7 == 0 else float(i % 13) for i in range(COUNT)],
    "note": [f"text {i}" for i in range(COUNT)],
    "same": [3] * COUNT,
}
COLUMNS["price"] = [2.5 * a + 3.25 * b + 10 * (s == "Fir") for a, b, s in zip(*(COLUMNS[name] for name in ("size", "rooms", "street")))]
COLUMNS["kind"] = ["high" if price > 120 else "low" for price in COLUMNS["price"]]


@pytest.fixture(params=["polars", "pyarrow"])
def engine(request, monkeypatch):
    """Each library that reads Parquet."""
    module = pytest.importorskip(request.param)
    monkeypatch.setattr(frame_files, "engine", lambda: module)
    return module


def as_csv(columns, separator=",", missing=""):
    file = io.StringIO()
    rows = csv.writer(file, delimiter=separator)
    rows.writerow(columns)
    rows.writerows([missing if value is None else value for value in row] for row in zip(*columns.values()))
    return file.getvalue()


@pytest.fixture
def files(tmp_path, monkeypatch):
    """The table in several file formats, without its last column."""
    monkeypatch.chdir(tmp_path)
    columns = {name: values for name, values in COLUMNS.items() if name != "kind"}
    (tmp_path / "house.csv").write_text(as_csv(columns))
    (tmp_path / "house.tsv").write_text(as_csv(columns, "\t", "NA"))
    (tmp_path / "semi.csv").write_text(as_csv(columns, ";", "?"))
    with gzip.open(tmp_path / "house.csv.gz", "wt") as file:
        file.write(as_csv(columns))
    (tmp_path / "kind.csv").write_text(as_csv({name: values for name, values in COLUMNS.items() if name != "price"}))
    return tmp_path


def output(capsys, *arguments):
    """The standard output of a command."""
    assert main([*arguments]) == 0
    return capsys.readouterr().out


# ---- reading ----


@pytest.mark.parametrize("name", ["house.csv", "house.tsv", "semi.csv", "house.csv.gz"])
def test_tables_are_read_as_written(files, name):
    table = sources.read(name).train
    assert list(table.columns) == [name for name in COLUMNS if name != "kind"]
    for column in ("size", "rooms", "sunny", "price"):
        np.testing.assert_array_equal(table.numbers(column), COLUMNS[column])
    np.testing.assert_array_equal(table.numbers("age"), [np.nan if age is None else age for age in COLUMNS["age"]])
    assert table.texts("street").tolist() == [street.strip() for street in COLUMNS["street"]]
    assert sources.default_target(table) == "price"


def test_parquet_is_read_like_csv(engine, files):
    columns = {name: values for name, values in COLUMNS.items() if name != "kind"}
    pytest.importorskip("polars").DataFrame(columns).write_parquet("house.parquet")
    pytest.importorskip("pyarrow")
    read = [sources.read(name).train for name in ("house.csv", "house.parquet")]
    pieces = list(sources.pieces("house.parquet")())
    for name in columns:
        values = [
            table.numbers(name).tolist() if name not in ("street", "note") else table.texts(name).tolist() for table in (*read, pieces[0])
        ]
        np.testing.assert_array_equal(values[1], values[0])
        np.testing.assert_array_equal(values[2], values[0])


@pytest.mark.parametrize("chunk", [1, 7, 50, 1000])
@pytest.mark.parametrize("name", ["house.csv", "house.csv.gz", "house.tsv"])
def test_the_pieces_of_a_stream_make_up_the_table(files, monkeypatch, chunk, name):
    monkeypatch.setattr(sources, "CHUNK", chunk)
    whole, pieces = sources.read(name).train, list(sources.pieces(name)())
    assert [piece.first for piece in pieces] == list(range(0, COUNT, chunk))
    for column in whole.columns:
        read_whole = [str(value) for value in whole.texts(column)]
        assert [str(value) for piece in pieces for value in piece.texts(column)] == read_whole


def test_a_quoted_line_break_does_not_end_a_piece(files, monkeypatch):
    monkeypatch.setattr(sources, "CHUNK", 2)
    (files / "x.csv").write_text('a,b\n1,"one\ntwo"\n2,three\n3,"four\n\nfive"\n')
    assert [text for piece in sources.pieces("x.csv")() for text in piece.texts("b")] == ["one\ntwo", "three", "four\n\nfive"]


def test_arrays_in_the_format_of_mnist_are_read(tmp_path):
    x, y = RANDOM.choice([0, 30, 250, 255], (50, 4, 5)).astype(np.uint8), RANDOM.integers(0, 3, 50).astype(np.uint8)
    x[:, 0] = 0  # as at the edge of most images
    np.savez(tmp_path / "m.npz", x_train=x[:40], y_train=y[:40], x_test=x[40:], y_test=y[40:])
    train, test = sources.read(str(tmp_path / "m.npz"))
    preparation = prepare([train], find_target([train], "y"))
    np.testing.assert_array_equal(preparation.matrix(test), x[40:].reshape(10, 20).astype(np.float32) / np.float32(255))
    assert preparation.target.values(test).tolist() == y[40:].tolist()
    np.savez(tmp_path / "train.npz", x_train=x[:40], y_train=y[:40])
    alone = sources.read(str(tmp_path / "train.npz"))
    assert alone.test is None and alone.train.numbers("y").tolist() == y[:40].tolist()
    np.save(tmp_path / "m.npy", np.column_stack([x.reshape(50, 20), y]))
    for table in (sources.read(str(tmp_path / "m.npy")).train, *sources.pieces(str(tmp_path / "m.npy"))()):
        np.testing.assert_array_equal(np.column_stack(list(table.columns.values())), np.load(tmp_path / "m.npy"))


@pytest.mark.parametrize("name", ["a.libsvm", "a", "a.gz"])
def test_libsvm_text_is_read(tmp_path, name):
    text = "+1 3:0.5 10:2 # the first\n-1 1:1\n\n+1 10:-25e-2 1:3\n"  # half of the values, so that the columns are there
    (tmp_path / name).write_bytes(gzip.compress(text.encode()) if name.endswith("gz") else text.encode())
    table = sources.read(str(tmp_path / name)).train
    assert {key: column.tolist() for key, column in table.columns.items()} == {
        "1": [0, 1, 3], "3": [0.5, 0, 0], "10": [2, 0, -0.25], "label": [1, -1, 1],
    }  # fmt: skip
    assert table.texts("label").tolist() == ["1", "-1", "1"]
    assert table.numbers("7").tolist() == [0, 0, 0] and table.sparse.toarray()[:, 10].tolist() == [2, 0, -0.25]


# ---- preparation ----


def test_the_matrix_has_standardized_numbers_and_0_1_features(files):
    table = sources.read("house.csv").train
    preparation = prepare([table], find_target([table], "price"))
    assert preparation.left_out == {"note": "text with too many different values", "same": "constant"}
    x = preparation.matrix(table)
    streets = sorted({street.strip() for street in COLUMNS["street"]})
    age = np.array([np.nan if age is None else age for age in COLUMNS["age"]])
    expected = np.column_stack([
        *((np.array(COLUMNS[name]) - np.mean(COLUMNS[name])) / np.std(COLUMNS[name]) for name in ("size", "rooms")),
        COLUMNS["sunny"],
        np.array([[street.strip() == level for level in streets] for street in COLUMNS["street"]]),
        np.nan_to_num((age - np.nanmean(age)) / np.nanstd(age)),
        np.isnan(age),
    ])  # fmt: skip
    np.testing.assert_allclose(x, expected, rtol=1e-5, atol=1e-6)
    y = preparation.target.values(table)
    np.testing.assert_allclose(y * preparation.target.scale + preparation.target.centre, COLUMNS["price"], rtol=1e-12)


@pytest.mark.parametrize("cuts", [[1], [60], [3, 4, 100]])
def test_pieces_are_prepared_like_the_whole(files, cuts):
    table = sources.read("house.csv").train
    pieces = [table.take(rows) for rows in np.split(np.arange(COUNT), cuts)]
    for target in ("price", "street", "rooms"):
        whole = prepare([table], find_target([table], target))
        parts = prepare(pieces, find_target(pieces, target))
        assert parts.target.classes == whole.target.classes
        np.testing.assert_allclose(
            np.concatenate([parts.matrix(piece) for piece in pieces]), whole.matrix(table), rtol=1e-5, atol=1e-6
        )  # fmt: skip


def test_a_preparation_survives_json_bit_for_bit(files):
    table = sources.read("house.csv").train
    for target in ("price", "street"):
        preparation = prepare([table], find_target([table], target), ["age"])
        again = Preparation.from_dict(json.loads(json.dumps(preparation.as_dict())))
        assert again == preparation
        assert again.matrix(table).tobytes() == preparation.matrix(table).tobytes()


def texts(*values):
    return np.array(values, dtype=object)


LEFT_OUT = "text with too many different values"


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        ([None, 1.0, 3.0], Number("c", 2.0, 1.0, True)),  # one missing value is enough for an indicator
        ([None, 0.0, 1.0], Number("c", 0.0, 1.0, True)),
        ([2.0] * 9, "constant"),
        (["red"] * 9, "constant"),
        (["red"] * 9 + [None] * RARE, Category("c", ("", "red"), False)),
        ([None] * 9, "empty"),
        ([f"n{i}" for i in range(15)] * RARE, Category("c", tuple(sorted(f"n{i}" for i in range(15))), False)),
        ([f"n{i:02}" for i in range(30)] * RARE, Category("c", tuple(f"n{i:02}" for i in range(30)), False)),
        ([f"n{i}" for i in range(15)], "text, different in each row"),
        ([f"n{i}" for i in range(15)] + ["n0"], Category("c", (), True)),
        ([f"n{i}" for i in range(30)], LEFT_OUT),
        (
            [f"n{i:03}" for i in range(Encoding().levels + 1)] * RARE,
            Category("c", tuple(f"n{i:03}" for i in range(Encoding().levels)), True),
        ),
    ],
)
def test_the_features_of_a_column(cells, expected):
    """A category has at most 20 different values, or as many as half the number of rows."""
    numeric = any(isinstance(cell, float) for cell in cells)
    column = np.array([np.nan if cell is None else cell for cell in cells]) if numeric else texts(*cells)
    table = Table("t", {"c": column, "other": np.arange(len(cells)) / 3, "y": np.arange(len(cells)) / 2}, len(cells))
    preparation = prepare([table], find_target([table], "y"))
    if isinstance(expected, str):
        assert preparation.left_out == {"c": expected}
        assert [feature.name for feature in preparation.features] == ["other"]
    else:
        assert preparation.features[0] == expected and not preparation.left_out


def test_levels_that_are_rare_missing_or_new():
    colours = texts(*["red"] * 9, *["blue"] * 5, *[None] * RARE, *["pink"] * (RARE - 1))
    table = Table("t", {"colour": colours, "y": np.arange(len(colours)) / 2}, len(colours))
    (colour,) = prepare([table], find_target([table], "y")).features
    assert colour == Category("colour", ("", "blue", "red"), True)
    out = np.empty((5, colour.width), np.float32)
    colour.fill(Table("u", {"colour": texts("red", None, "pink", "green", "blue")}, 5), out)
    assert out.tolist() == [[0, 0, 1, 0], [1, 0, 0, 0], [0, 0, 0, 1], [0, 0, 0, 1], [0, 1, 0, 0]]
    known = Category("colour", ("blue", "red"), False)  # without rare values there is no feature for unknown values
    known.fill(Table("u", {"colour": texts("green", None)}, 2), out[:2, :2])
    assert not out[:2, :2].any()


def test_a_missing_number_is_0_if_none_was_missing_in_training():
    feature, out = Number("a", 4.0, 2.0, False), np.empty((2, 1), np.float32)
    feature.fill(Table("u", {"a": np.array([np.nan, 8.0])}, 2), out)
    assert out.tolist() == [[0], [2]]


@pytest.mark.parametrize(
    ("values", "classes"),
    [
        ([0, 1] * 30, ("0", "1")),
        ([-1.0, 1.0] * 30, ("-1", "1")),
        ([True, False] * 30, ("false", "true")),
        ([10, 2, 1] * 20, ("1", "2", "10")),
        (list(range(60)), ()),
        ([f"n{i}" for i in range(10, 40)] * 2, tuple(f"n{i}" for i in range(10, 40))),  # half as many classes as rows
        ([0.5, 1.0] * 30, ()),
    ],
)
def test_classes_or_numbers(values, classes):
    column = np.array(values, dtype=object if isinstance(values[0], str) else None)
    table = Table("t", {"y": column}, 60)
    assert find_target([table], "y").classes == classes
    if column.dtype != object:
        assert find_target([table], "y", False).classes == ()
    if classes:
        assert [classes[label] for label in find_target([table], "y").values(table)] == table.texts("y").tolist()


def test_numbers_of_an_array_as_strings():
    table = Table("t", {"a": np.array([np.inf, 1.0, np.nan, -0.0, 2.5])}, 5)
    assert table.texts("a").tolist() == ["inf", "1", None, "0", "2.5"]


# ---- commands ----


def test_a_number_is_predicted_in_its_unit(capsys, files):
    report = json.loads(output(capsys, "train", "house.csv", "--budget", "fast", "--ensemble", "1", "--json", "--out", "m.safetensors"))
    known = ["task", "net", "networks", "linear_share", "parameters", "epochs", "best_epochs", "seconds", "rows_per_second"]
    assert list(report) == [*known, "train", "validation", "test", "intervals", "baseline", "warnings"]
    assert report["task"] == "regression"
    assert report["test"]["r2"] > 0.9
    rows = list(csv.reader(output(capsys, "predict", "m.safetensors", "house.csv").splitlines()))
    assert rows[0] == ["price"]
    predicted = np.array(rows[1:], dtype=float)[:, 0]
    assert bp.r2(COLUMNS["price"], predicted) > 0.9
    net = bp.load("m.safetensors")
    preparation = Preparation.from_dict(net.notes["microbp.table"])
    raw = net.predict(preparation.matrix(sources.read("house.csv").train), raw=True)[:, 0]
    np.testing.assert_allclose(predicted, preparation.target.numbers(raw), rtol=1e-6)
    assert report["net"] == f"{preparation.width}-{'-'.join(map(str, recipe.choose(86, 9, 1, False, budget='fast').hidden))}-1"
    lines = output(capsys, "predict", "m.safetensors", "semi.csv", "--json").splitlines()
    assert [json.loads(line)["price"] for line in lines] == predicted.tolist()


def test_a_class_is_predicted_with_its_probabilities(capsys, files):
    report = json.loads(output(capsys, "train", "kind.csv", "--budget", "fast", "--json", "--out", "m.safetensors"))
    assert report["task"] == "classification"
    assert list(report["test"]) == ["loss", "accuracy", "balanced_accuracy", "auc", "log_loss"]
    assert report["test"]["accuracy"] > 0.8
    (files / "raw.csv").write_text(as_csv({name: values for name, values in COLUMNS.items() if name not in ("kind", "note", "same")}))
    output(capsys, "predict", "m.safetensors", "raw.csv", "--out", "p.csv")  # columns that are not used may be absent
    rows = list(csv.reader((files / "p.csv").read_text().splitlines()))
    assert rows[0] == ["kind", "p(high)", "p(low)"]
    probabilities = np.array([row[1:] for row in rows[1:]], dtype=float)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    assert [row[0] for row in rows[1:]] == [("high", "low")[best] for best in probabilities.argmax(axis=1)]
    assert np.mean([row[0] == kind for row, kind in zip(rows[1:], COLUMNS["kind"])]) > 0.8
    first = json.loads(output(capsys, "predict", "m.safetensors", "raw.csv", "--json").splitlines()[0])
    assert first == {"kind": rows[1][0], "probabilities": dict(zip(("high", "low"), probabilities[0]))}


@pytest.mark.parametrize(
    "options", [[], ["--loss", "poisson"], ["--loss", "huber", "--net", "x-20-20-y", "--optimizer", "rmsprop", "--ensemble", "1"]]
)
def test_the_report_describes_the_run(capsys, files, options):
    out = output(capsys, "train", "house.csv", "--drop", "note,same", "--epochs", "30", "--budget", "fast", *options)
    for text in ("predicts price, a number, from 5 columns (", "rmse", "r2", "true minus predicted", "30 epochs"):
        assert text in out
    assert "to predict: microbp predict house.safetensors DATA" in out
    assert main(["info", "house.safetensors"]) == 0
    assert "street: one of 'Elm, north', Fir, Oak" in capsys.readouterr().out


def test_a_config_file_sets_options_and_the_command_line_overrides_it(capsys, files):
    (files / "c.toml").write_text('epochs = 3\nnet = "x-7-y"\ndrop = ["note", "age"]\njson = true\nlr = 0.01\nvalidation = 0.2\n')
    report = json.loads(output(capsys, "train", "house.csv", "--config", "c.toml", "--net", "x-5-y"))
    assert report["epochs"] == 3 and report["net"].endswith("-5-1")
    same = output(capsys, "train", "house.csv", "--epochs", "3", "--net", "x-5-y", "--drop", "note,age", "--json", "--lr", "0.01",
        "--validation", "0.2")  # fmt: skip
    assert json.loads(same)["test"] == report["test"]


def test_a_stream_trains_as_well_as_the_whole_table(capsys, files, monkeypatch):
    monkeypatch.setattr(sources, "CHUNK", 50)
    report = json.loads(
        output(capsys, "train", "house.csv", "--stream", "--epochs", "60", "--net", "x-32-y", "--json", "--out", "m.safetensors")
    )
    assert report["test"]["r2"] > 0.8
    whole, pieces = (output(capsys, "predict", "m.safetensors", "house.csv", *stream) for stream in ([], ["--stream"]))
    assert whole == pieces
    assert len(whole.splitlines()) == COUNT + 1


def test_a_test_file_is_used_whole(capsys, files):
    output(capsys, "train", "house.csv", "--epochs", "2", "--budget", "fast", "--test-file", "semi.csv")
    out = output(capsys, "train", "house.csv", "--epochs", "2", "--budget", "fast", "--test-file", "semi.csv", "--stream")
    assert f"test {COUNT:>17}" in out
    assert f"train {108:>16}" in out


def test_lr_auto_finds_and_uses_a_rate(capsys, files):
    rates = json.loads(output(capsys, "lr-find", "house.csv", "--json"))
    assert 1e-6 < rates["suggestion"] < 10
    out = output(capsys, "train", "house.csv", "--lr", "auto", "--epochs", "5")
    assert "5 epochs" in out
    assert not (files / "house-2.safetensors").exists()


def test_without_a_parquet_reader_the_error_says_how_to_install_one(capsys, files, monkeypatch):
    pytest.importorskip("polars").DataFrame({"a": [1, 2], "b": [3, 4]}).write_parquet("house.parquet")
    for name in ("polars", "pyarrow"):
        monkeypatch.setitem(importlib.import_module("sys").modules, name, None)
    assert main(["train", "house.csv", "--epochs", "1"]) == 0  # text files need no Parquet reader
    capsys.readouterr()
    assert main(["train", "house.parquet"]) == 1
    assert "python -m pip install polars" in capsys.readouterr().err
