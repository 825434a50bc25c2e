"""`bp.fit_table`, `bp.load_table` and `TableModel`: the command line gives the same, for files, data frames and dicts."""

from __future__ import annotations

import csv
import inspect
import io
import json
import pickle
import re
from dataclasses import MISSING, fields

import numpy as np
import pytest

import microbp as bp
from microbp.cli.main import main
from microbp.cli.options import TrainOptions
from microbp.settings import optimizers
from microbp.tables.fitted.runs import KINDS, Settings
from microbp.tables.readers.errors import ArgumentError, TableError

COLUMNS = {
    "id": [f"r{i}" for i in range(200)],
    "size": [i * 7 % 200 for i in range(200)],
    "colour": ["red" if i % 3 else "blue" for i in range(200)],
    "grade": [i * 7 % 200 // 67 for i in range(200)],
    "price": [(i * 7 % 200) * 1.5 + (40 if i % 3 else 0) + 0.5 for i in range(200)],
}
ENSEMBLES = {"price": 1, "colour": 1, "grade": 3}  # by target
TARGETS = list(ENSEMBLES)


def pandas(columns):
    return pytest.importorskip("pandas").DataFrame(columns)


def polars(columns):
    return pytest.importorskip("polars").DataFrame(columns)


def path(columns, name="t.csv"):
    with open(name, "w", newline="") as file:
        csv.writer(file).writerows([columns, *zip(*columns.values())])
    return name


ENTRIES = {"path": path, "dict": dict, "pandas": pandas, "polars": polars}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path(COLUMNS)
    return tmp_path


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A model for each target, trained on the path of a file; they are not changed."""
    name = path(COLUMNS, tmp_path_factory.mktemp("models") / "t.csv")
    return {target: fitted(name, target) for target in TARGETS}


def fitted(table, target):
    return bp.fit_table(table, target=target, drop=["id"], epochs=40, net="x-32-y", ensemble=ENSEMBLES[target])


def bits(model):
    """The parameters of all networks."""
    return [net.params.tobytes() for net in ([model.net] if isinstance(model.net, bp.Network) else model.net)]


# ---- training ----


SETTINGS = [
    {"target": "price"},
    {"target": "colour", "drop": ["id", "price"], "net": [None, 9, 5, None], "activation": bp.Activation("leaky_relu", slope=0.2)},
    {"target": "grade", "loss": bp.Loss("bce"), "dropout": 0.1, "seed": 3, "test": 0.3, "validation": 0.2, "batch": 7, "patience": 2},
    {"target": "price", "optimizer": bp.Momentum(lr=0.01), "decay": 0.001, "schedule": bp.StepDecay(lr=0.01, step_size=50)},
    {"target": "price", "lr": "auto", "schedule": "constant", "stream": True, "threads": 1},
    {"target": "grade", "split": "last", "weight": "size", "class_weight": "balanced"},
    {"target": "grade", "ensemble": 1},
    {"target": "price", "ensemble": 3, "optimizer": "adamw"},
    {"target": "colour", "test_file": "t.csv", "loss": "hinge", "optimizer": "sgd", "activation": "ReLU", "lr": 0.01},
]


def options(settings):
    """The options of the command line with these settings."""
    words = []
    for name, value in settings.items():
        if isinstance(value, list):
            value = ",".join(value) if isinstance(value[0], str) else f"x-{'-'.join(map(str, value[1:-1]))}-y"
        value = optimizers.parse(value) if name == "optimizer" else value
        value = "step_decay(lr=0.01,step_size=50)" if name == "schedule" and value != "constant" else value
        words += [f"--{name.replace('_', '-')}", *([] if value is True else [str(getattr(value, "text", value))])]
    return words


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda settings: ",".join(settings))
def test_the_command_line_gives_the_same_model(capsys, settings):
    model = bp.fit_table("t.csv", epochs=4, budget="fast", **settings)
    assert main(["train", "t.csv", "--epochs", "4", "--budget", "fast", "--out", "m", *options(settings)]) == 0
    times = re.compile(r"in [\d.]+ s, [\d,]+ rows per second")
    printed = re.sub(r"--drop (\w+)", r"drop='\1'", times.sub("", capsys.readouterr().out)).splitlines()
    report = times.sub("", model.report).replace("try epochs=", "try --epochs ")  # as each spells arguments
    assert [line for line in printed if not line.startswith(("wrote", "to predict"))] == report.splitlines()
    model.save("same")
    with open("m", "rb") as one, open("same", "rb") as other:
        assert one.read() == other.read()


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("entry", ENTRIES)
def test_every_kind_of_table_gives_the_same_model(models, target, entry):
    known, make = models[target], ENTRIES[entry]
    model = fitted(make(COLUMNS), target)
    assert bits(model) == bits(known) and len(bits(model)) == ENSEMBLES[target]
    assert (model.target, model.classes, model.columns) == (known.target, known.classes, known.columns)
    assert model.scores == known.scores and list(model.scores) == ["train", "validation", "test"]
    assert model.evaluate(make(COLUMNS)) == known.evaluate(path(COLUMNS))
    ranking, others = model.importance(make(COLUMNS), repeats=2), known.importance(path(COLUMNS), repeats=2)
    np.testing.assert_array_equal(ranking.importances, others.importances)
    some = {name: values[:20] for name, values in COLUMNS.items() if name != target}
    table = path(some, "some.csv") if entry == "path" else make(some)
    np.testing.assert_array_equal(model.predict(table), known.predict(path(some, "some.csv")))
    if model.classes:
        np.testing.assert_array_equal(model.predict_proba(table), known.predict_proba("some.csv"))


@pytest.mark.parametrize("target", TARGETS)
def test_a_saved_model_is_the_same(models, target):
    model = models[target]
    model.save("m.safetensors")
    for other in (bp.load_table("m.safetensors"), pickle.loads(pickle.dumps(model))):
        np.testing.assert_array_equal(other.predict("t.csv"), model.predict("t.csv"))
        assert (other.target, other.classes, other.columns, str(other)) == (target, model.classes, model.columns, str(model))
        assert other.evaluate("t.csv") == model.evaluate("t.csv")
    assert bp.load_table("m.safetensors").scores == {} and bp.load_table("m.safetensors").report == ""


def test_a_file_without_a_note_on_the_loss_is_loaded(models):
    """As version 0.1.0 wrote them."""
    for target, loss in [("colour", "cross_entropy"), ("price", "mse")]:
        models[target].save("m.safetensors")
        net = bp.load("m.safetensors")
        net.notes = {"microbp.table": net.notes["microbp.table"]}
        net.save("old.safetensors")
        old = bp.load_table("old.safetensors")
        assert old.loss == bp.Loss(loss) and old.evaluate("t.csv") == models[target].evaluate("t.csv")


def test_the_arguments_are_the_options_of_train():
    arguments = {name: row for name, row in inspect.signature(bp.fit_table).parameters.items() if name not in ("table", "progress", "comm")}
    known = {field.name: field for field in fields(TrainOptions)}
    assert list(arguments) == [field.name for field in fields(Settings)]
    of_files = {"data", "checkpoint", "resume", "out", "plot", "report", "live", "live_port", "force", "json", "config"}
    assert set(known) - set(arguments) == of_files
    for name, row in arguments.items():
        kind, settings = known[name].metadata["kind"], known[name].metadata["argparse"]
        assert settings.get("default", False) == row.default, name
        assert kind in (KINDS.get(name), str, None), name
        text = KINDS[name](row.default) if isinstance(row.default, str) else row.default
        assert next(field for field in fields(Settings) if field.name == name).default in (text, MISSING), name


# ---- use ----


@pytest.mark.parametrize("target", TARGETS)
def test_predictions_are_those_of_the_command_line(capsys, models, target):
    model = models[target]
    model.save("m.safetensors")
    assert main(["predict", "m.safetensors", "t.csv", "--id", "id", "--id", "size,colour" if target != "colour" else "size"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["id"] for row in rows] == COLUMNS["id"] and [row["size"] for row in rows] == list(map(str, COLUMNS["size"]))
    predicted = model.predict("t.csv")
    assert len(predicted) == 200
    if target == "price":
        np.testing.assert_allclose([float(row["price"]) for row in rows], predicted, rtol=1e-5, atol=1e-4)
        with pytest.raises(ValueError, match="predict_proba: there are no probabilities, because 'price' is a number; use predict"):
            model.predict_proba("t.csv")
        assert np.abs(predicted - COLUMNS["price"]).mean() < 20
    else:
        assert [row[target] for row in rows] == list(map(str, predicted.tolist()))
        proba = model.predict_proba("t.csv")
        assert proba.shape == (200, len(model.classes))
        np.testing.assert_allclose(proba.sum(axis=1), 1, rtol=1e-5)
        np.testing.assert_array_equal(np.array(model.classes)[proba.argmax(axis=1)], predicted)
        assert np.mean(predicted == COLUMNS[target]) > 0.8  # classes have the type of the column


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("stream", [False, True])
def test_evaluate_gives_the_scores_of_training_for_the_same_rows(capsys, target, stream):
    model = bp.fit_table("t.csv", target=target, drop="id", epochs=5, net="x-16-y", test_file="t.csv", stream=stream)
    found = model.evaluate("t.csv", stream=stream)
    assert found == {"rows": 200, "without_target": 0, **model.scores["test"]}
    model.save("m.safetensors")
    assert main(["evaluate", "m.safetensors", "t.csv", "--json", *["--stream"] * stream]) == 0
    assert json.loads(capsys.readouterr().out) == found
    assert main(["evaluate", "m.safetensors", "t.csv"]) == 0
    text = capsys.readouterr().out
    assert re.match(r"rows +200\nloss +[\d.]+\n", text) and "left out" not in text


def test_evaluate_leaves_rows_without_a_target_out_and_says_so(capsys, models):
    some = {name: list(values) for name, values in COLUMNS.items()}
    some["price"][3] = some["price"][150] = ""
    path(some, "some.csv")
    rest = {name: [value for i, value in enumerate(values) if i not in (3, 150)] for name, values in some.items()}
    model = models["price"]
    assert model.evaluate("some.csv") == {**model.evaluate(path(rest, "rest.csv")), "without_target": 2}
    model.save("m.safetensors")
    assert main(["evaluate", "m.safetensors", "some.csv"]) == 0
    assert "left out: 2 rows without a target" in capsys.readouterr().out
    with pytest.raises(ValueError, match=r"none\.csv: no row has a value of the target 'price'"):
        model.evaluate(path({**some, "price": [""] * 200}, "none.csv"))
    with pytest.raises(ValueError, match=r"lacks\.csv: unknown column 'price'"):
        model.evaluate(path({name: values for name, values in some.items() if name != "price"}, "lacks.csv"))


@pytest.mark.parametrize("target", TARGETS)
def test_importance_is_the_increase_of_the_loss_when_a_column_of_the_table_is_shuffled(models, target):
    model = models[target]
    found = model.importance("t.csv", repeats=3, seed=5)
    assert found.columns == model.columns and found.importances.shape == (len(model.columns), 3)
    assert found.baseline == pytest.approx(model.evaluate("t.csv")["loss"])
    np.testing.assert_array_equal(found.importances_mean, found.importances.mean(axis=1))
    np.testing.assert_array_equal(found.importances_std, found.importances.std(axis=1))
    random = np.random.default_rng(5)
    for column, row in zip(found.columns, found.importances):
        for increase in row:
            order = random.permutation(200)
            shuffled = path(COLUMNS | {column: [COLUMNS[column][i] for i in order]}, "shuffled.csv")
            assert model.evaluate(shuffled)["loss"] - found.baseline == pytest.approx(increase, abs=1e-5)


def test_importance_is_that_of_scikit_learn(models):
    inspection = pytest.importorskip("sklearn.inspection")
    model = models["price"]
    columns = list(model.columns)

    class Estimator:
        def fit(self, x, y):
            return self

        def score(self, x, y):
            rows = dict(zip(columns, np.asarray(x, dtype=object).T.tolist()))
            return -model.evaluate(path(rows | {"price": y}, "sklearn.csv"))["loss"]

    x = np.array([COLUMNS[name] for name in columns], dtype=object).T
    theirs = inspection.permutation_importance(Estimator(), x, COLUMNS["price"], n_repeats=30, random_state=0)
    ours = model.importance("t.csv", repeats=30)
    assert set(theirs) <= set(dir(ours))
    error = np.sqrt((theirs.importances_std**2 + ours.importances_std**2) / 30)
    assert (np.abs(theirs.importances_mean - ours.importances_mean) <= 5 * error + 1e-6).all()
    assert ours.order[0] == columns.index("size") == int(theirs.importances_mean.argmax())


# ---- errors and warnings ----


WRONG = [
    ({"target": "prise"}, ValueError, "target: t.csv: unknown column 'prise'; did you mean 'price'?"),
    ({"target": "price,colour"}, ValueError, "target: 'price,colour' names 2 columns; a model has one target, so train a model for each"),
    ({"target": 1.5}, TypeError, "target: the value must be the name of a column, not 1.5"),
    ({"drop": ["sise"]}, ValueError, "drop: t.csv: unknown column 'sise'; did you mean 'size'?"),
    ({"drop": 5}, TypeError, "drop: the value must be names of columns, such as ['id', 'name'], not 5"),
    ({"net": "64-64"}, ValueError, "features and 1 output; for hidden layers of 64 and 64 units, use net='x-64-64-y'"),
    ({"net": [64, 64]}, ValueError, "for hidden layers of 64 and 64 units, use net='x-64-64-y'"),
    ({"net": [9, 32, 64]}, ValueError, "for hidden layers of 9 and 32 and 64 units, use net='x-9-32-64-y'"),
    ({"net": "9-32-1"}, ValueError, "-32-1'"),
    ({"net": 64}, TypeError, "net: the value must be widths such as 'x-64-64-y', not 64"),
    ({"net": b"x-64-y"}, TypeError, "net: the value must be widths such as 'x-64-64-y', not b'x-64-y'"),
    ({"progress": 1}, TypeError, "progress: the value must be True or False, not 1"),
    ({"net": [None, None, None]}, ValueError, "net: the value must be two or more positive widths"),
    ({"epochs": 0}, ValueError, "epochs: the value must be at least 1, not 0"),
    ({"epochs": True}, TypeError, "epochs: the value must be a whole number, not True"),
    ({"dropout": [0.1]}, TypeError, "dropout: the value must be a number, not [0.1]"),
    ({"budget": "quick"}, ValueError, "budget: the value must be fast, normal or best, not 'quick'"),
    ({"ensemble": 0}, ValueError, "ensemble: the value must be at least 1, not 0"),
    ({"test": 2}, ValueError, "test: the value must be a fraction between 0 and 1, such as 0.2, or 0 for none, not 2"),
    ({"lr": "fast"}, ValueError, "lr: the value must be a positive number such as 0.001, or auto, not 'fast'"),
    ({"activation": "LeakyReLu"}, ValueError, "activation: unknown activation 'LeakyReLu'; did you mean 'leaky_relu'?"),
    ({"loss": lambda o, t, w: 0}, TypeError, "loss: loss must be a name or a bp.Loss"),
    ({"optimizer": bp.Adam}, TypeError, "optimizer: optimizer must be a name such as"),
    ({"schedule": 3}, TypeError, "schedule: the value must be text such as \"constant\", or an object such as bp.StepDecay, not 3"),
    ({"stream": 1}, TypeError, "stream: the value must be True or False, not 1"),
    ({"split": "times"}, ValueError, "split: the value must be random, last, time:COLUMN or group:COLUMN, not 'times'"),
    ({"class_weight": "even"}, ValueError, "class_weight: the value must be balanced, not 'even'"),
    ({"test_file": "no.csv"}, ValueError, "test_file: there is no file 'no.csv'"),
]  # fmt: skip


@pytest.mark.parametrize(("settings", "error", "text"), WRONG, ids=[f"{i}-{' '.join(row[0])}" for i, row in enumerate(WRONG)])
def test_an_error_names_the_argument(settings, error, text):
    with pytest.raises(error) as caught:
        bp.fit_table("t.csv", **{"target": "price", "drop": "id"} | settings)
    assert text in str(caught.value) and type(caught.value) in (TypeError, ArgumentError)


def test_the_table_is_named_as_the_argument():
    for table, error, text in [("no.csv", ArgumentError, "table: there is no file 'no.csv'"), (5, TypeError, "table: must be a file name")]:
        with pytest.raises(error, match=text):
            bp.fit_table(table)


def test_repeats_and_seed_are_checked(models):
    with pytest.raises(ArgumentError, match="repeats: the value must be at least 1, not 0"):
        models["price"].importance("t.csv", repeats=0)
    with pytest.raises(TypeError, match="seed: the value must be a whole number"):
        models["price"].importance("t.csv", seed=0.5)


def test_a_file_that_is_not_a_model_is_refused(models):
    bp.mlp([2, 1], seed=0).save("plain.safetensors")
    with pytest.raises(ValueError, match=r"plain\.safetensors: contains no column names"):
        bp.load_table("plain.safetensors")
    net = models["price"].net.copy()
    net.notes = {**net.notes, "microbp.loss": "cross_entropy"}
    net.save("odd.safetensors")
    with pytest.raises(ValueError, match=r"odd\.safetensors: the note on the loss \(microbp\.loss\) cannot be read; train again"):
        bp.load_table("odd.safetensors")


def test_the_threads_of_a_model_are_checked(models):
    models["price"].save("m.safetensors")
    assert bp.load_table("m.safetensors", threads=2).net.n_threads == 2
    with pytest.raises(ArgumentError, match="threads: the value must be at least 1, not 0"):
        bp.load_table("m.safetensors", threads=0)


def test_odd_cells_are_counted_and_refused_with_strict(models):
    """A cell that is not a number is read as missing."""
    model = models["price"]
    odd = {name: list(values[:6]) for name, values in COLUMNS.items()}
    odd["size"][0], odd["size"][1], odd["size"][2] = "huge", "", ""
    odd["colour"][3] = "green"
    path(odd, "odd.csv")
    odd["size"][0] = ""
    with pytest.warns(UserWarning, match="odd.csv: ") as caught:
        found = model.predict("odd.csv")
    lines = [str(warning.message) for warning in caught]
    assert lines == [
        "odd.csv: values that training did not have: colour (1)",
        "odd.csv: cells that cannot be read, taken as missing: size (1)",
        "odd.csv: missing values in columns that had none in training, which count as a middle number or date: size (2)",
    ]
    with pytest.warns(UserWarning, match="gaps.csv"):
        np.testing.assert_array_equal(found, model.predict(path(odd, "gaps.csv")))
    with pytest.raises(ValueError, match=r"odd\.csv, row 1 \(line 2\), column 'size': 'huge' is not a number"):
        model.predict("odd.csv", strict=True)
    with pytest.warns(UserWarning, match="odd.csv: ") as caught:
        assert model.evaluate("odd.csv")["rows"] == 6
    assert len(caught) == 3 and {warning.filename for warning in caught} == {__file__}
    with pytest.raises(ValueError, match="'huge' is not a number; correct it or leave the cell empty$"):
        model.predict("odd.csv", strict=True)
    with pytest.raises(ValueError, match="contains values of type list, which a network cannot use; convert them to numbers or texts$"):
        model.predict({name: [[1]] * 6 for name in odd})


def test_the_last_column_as_target_is_an_assumption():
    model = bp.fit_table("t.csv", epochs=1, budget="fast", drop="id")
    line = "the target is the last column, 'price', because no column is named target, label, class or y"
    assert line in model.report.splitlines()
    with pytest.raises(TableError) as caught:
        bp.fit_table("t.csv", epochs=1, budget="fast", drop="id", strict=True)
    assert str(caught.value) == f"t.csv: assumed, but not allowed by strict: {line}"
    named = path({("Label" if name == "price" else name): values for name, values in COLUMNS.items()}, "named.csv")
    for settings in ({}, {"target": "size"}):
        assert "because no column" not in bp.fit_table(named, epochs=1, budget="fast", drop="id", strict=True, **settings).report


def test_classes_have_the_type_of_the_column():
    size = COLUMNS["size"]
    for values, classes in [
        ([i > 99 for i in size], (False, True)),
        ([i // 100 + 3 for i in size], (3, 4)),
        (["007" if i > 99 else "010" for i in size], ("007", "010")),
        (["1" if i > 99 else "x" for i in size], ("x", "1")),
    ]:
        model = bp.fit_table(path({"size": size, "y": values}, "types.csv"), epochs=2, budget="fast")
        in_memory = bp.fit_table({"size": size, "y": values}, epochs=2, budget="fast")
        assert in_memory.classes == model.classes and in_memory.preparation.target.classes == model.preparation.target.classes
        assert in_memory.evaluate("types.csv")["rows"] == model.evaluate({"size": size, "y": values})["rows"] == len(size)
        assert sorted(model.classes, key=str) == sorted(classes, key=str)
        assert {type(name) for name in model.classes} == {type(name) for name in classes}
        assert set(model.predict("types.csv").tolist()) <= set(classes)


def test_a_model_prints_what_it_predicts(models):
    text = str(models["colour"])
    assert re.match(r"TableModel: predicts colour, one of 2 classes, from 3 columns \(\d+ features\)\nmicrobp.Network: ", text)
    assert text.endswith("columns: size, grade, price")
    assert repr(models["colour"]) == "<TableModel of 'colour' with 3 columns>"
    text = str(models["grade"])
    assert f"\nthe mean of 3 networks, each like the first:\n{models['grade'].net[0]!r}\ncolumns: size, colour, price" in text


@pytest.mark.parametrize("kind", ["kind", "price"])
def test_evaluate_and_importance_use_the_weights_of_rows(kind):
    """As the scores of the training do for its test rows; a row of weight 0 is not there."""
    random = np.random.default_rng(3)
    table = {"x": random.normal(size=200), "z": random.normal(size=200), "w": random.integers(0, 4, 200)}
    table["kind"] = np.where(table["x"] > 0, "a", "b")
    table["price"] = table["x"] * 3 + random.normal(size=200)
    new = {name: column[:90] for name, column in table.items()}
    table[kind] = np.where(table["w"] == 0, table[kind][::-1], table[kind])
    drop = {"kind": "price", "price": "kind"}[kind]
    model = bp.fit_table(table, kind, drop=[drop], weight="w", test_file=new, epochs=5, net="x-16-y")
    found, test = model.evaluate(new), model.scores["test"]
    assert {name: found[name] for name in test} == test and found["rows"] == (new["w"] > 0).sum()
    there = {name: np.repeat(column, new["w"]) for name, column in new.items()}
    tests = there | {"w": np.ones(len(there["w"]))}
    repeated = bp.fit_table(table, kind, drop=[drop], weight="w", test_file=tests, epochs=5, net="x-16-y").scores["test"]
    assert found["loss"] == pytest.approx(repeated["loss"])
    assert model.importance(new).baseline == pytest.approx(found["loss"])


@pytest.mark.parametrize("target", ["price", "colour"])
def test_without_test_rows_all_rows_train(target):
    """The report has no line for the test."""
    rows = {"price": [float(i * i % 91) for i in range(60)], "size": [i % 13 for i in range(60)], "colour": ["red", "blue", "red"] * 20}
    model = bp.fit_table(rows, target, test=0, budget="fast", epochs=2)
    assert model.scores["test"] == {}
    assert [line.split()[:2] for line in model.report.splitlines() if line.startswith(("train ", "validation ", "test "))] == [
        ["train", "54"], ["validation", "6"],
    ]  # fmt: skip
