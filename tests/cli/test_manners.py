"""What the command line understands, says and advises: swapped arguments, several columns, notes on odd cells, names of files."""

from __future__ import annotations

import csv
import io
import json
import re

import pytest

import microbp as bp
from microbp.cli.main import main

ROWS = "name,size,colour,price\n" + "".join(f"n{i},{i + 5},{'red' if i % 3 else 'blue'},{i * 2}.5\n" for i in range(60))


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t.csv").write_text(ROWS)
    return tmp_path


@pytest.fixture
def model(folder, capsys):
    assert main(["train", "t.csv", "--target", "price", "--drop", "name", "--epochs", "30", "--out", "m.safetensors"]) == 0
    capsys.readouterr()
    return "m.safetensors"


def run(capsys, *arguments):
    """The exit code, the output and the lines of standard error without those of the progress."""
    try:
        code = main([*arguments])
    except SystemExit as exit_:
        code = exit_.code
    out, err = capsys.readouterr()
    return code, out, [line for line in err.splitlines() if not re.match(r"network \d of \d  epoch ", line)]


# ---- mistakes that are understood ----


@pytest.mark.parametrize("command", ["predict", "evaluate", "explain-columns"])
def test_a_model_and_data_that_are_swapped_are_understood(capsys, model, command):
    code, right, _ = run(capsys, command, model, "t.csv")
    assert (code, bool(right)) == (0, True)
    note = f"microbp: note: MODEL and DATA are swapped: {model} is the model, and t.csv the data"
    assert run(capsys, command, "t.csv", model) == (0, right, [note])


def test_two_models_or_two_tables_are_not_swapped(capsys, model):
    for arguments, expected in [((model, model), model), (("t.csv", "t.csv"), "t.csv: not a microbp file"), (("no.csv", model), "no.csv")]:
        code, out, lines = run(capsys, "predict", *arguments)
        assert (code, out, len(lines)) == (1, "", 1) and expected in lines[0]


@pytest.mark.parametrize(
    ("option", "one", "other"),
    [
        ("--activation", "ReLU", "relu"),
        ("--activation", "Leaky_ReLU(slope=0.2)", "leaky_relu(slope=0.2)"),
        ("--optimizer", "AdamW", "adamw"),
        ("--optimizer", "Rprop", "rprop"),
        ("--loss", "MSE", "mse"),
        ("--schedule", "Constant", "constant"),
        ("--schedule", "Step_Decay(lr=0.1,step_size=5)", "step_decay(lr=0.1,step_size=5)"),
    ],
)
def test_names_in_capitals_are_understood(capsys, folder, option, one, other):
    for name in (one, other):
        code, _, lines = run(capsys, "train", "t.csv", "--target", "price", "--epochs", "2", option, name, "--out", name)
        assert (code, lines) == (0, [])
    assert (folder / one).read_bytes() == (folder / other).read_bytes()


HINTS = [
    (["trian"], "unknown command 'trian'; did you mean 'train'?"),
    (["evalute", "m", "t.csv"], "did you mean 'evaluate'?"),
    (["explain", "m", "t.csv"], "did you mean 'explain-columns'?"),
    (["t.csv"], "lr-find, doctor; to train on a table: microbp train t.csv"),
    (["train", "t.csv", "--targt", "price"], "unknown option '--targt'; did you mean '--target'?"),
    (["train", "t.csv", "--activation", "rleu"], "argument --activation: unknown activation 'rleu'; did you mean 'relu'?"),
    (["train", "t.csv", "--target", "pirce"], "argument --target: t.csv: unknown column 'pirce'; did you mean 'price'?"),
    (["train", "t.csv", "--target", "size,price"], "argument --target: 'size,price' names 2 columns; a model has one target"),
    (["train", "t.csv", "--target", "size, price"], "a model has one target, so train a model for each"),
    (["train", "t.csv", "--target", "size,prise"], "unknown column 'size,prise'"),
    (["train", "t.csv", "--drop", "name", "--net", "64-64"], "1 output; for hidden layers of 64 and 64 units, use --net x-64-64-y"),
    (["train", "t.csv", "--drop", "name", "--net", "3-64"], "for hidden layers of 3 and 64 units, use --net x-3-64-y"),
    (["train", "t.csv", "--drop", "name", "--net", "64-32-16"], "use --net x-64-32-16-y"),
    (["train", "t.csv", "--drop", "name", "--net", "7-32-1"], "features and 1 output; use --net "),
    (["predict", "m.safetensors", "t.csv", "--id", "nam"], "argument --id: t.csv: unknown column 'nam'; did you mean 'name'?"),
    (["predict", "m.safetensors", "t.csv", "--id", "price"], "argument --id: 'price' is the target, and the name of the predictions"),
    (["explain-columns", "m.safetensors", "t.csv", "--repeats", "0"], "argument --repeats: the value must be at least 1, not 0"),
    (["explain-columns", "m.safetensors", "t.csv", "--plot", "a.bmp"], "argument --plot: the file name must end in .png, .svg or .pdf"),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "hint"), HINTS)
def test_a_mistake_gets_a_hint(capsys, model, arguments, hint):
    code, out, lines = run(capsys, *arguments)
    assert (code, out, len(lines)) == (2, "", 1) and hint in lines[0], lines


def test_an_option_with_names_can_be_repeated(capsys, folder, model):
    (folder / "config.toml").write_text("drop = 'size'")
    for words, columns in [
        (["--drop", "name", "--drop", "size"], "from 1 column"),
        (["--drop", "name,size"], "from 1 column"),
        (["--config", "config.toml", "--drop", "name"], "from 2 columns"),
    ]:
        code, out, _ = run(capsys, "train", "t.csv", "--target", "price", "--epochs", "1", "--out", "n", "--force", *words)
        assert code == 0 and columns in out


# ---- what a report and a prediction say ----


def test_a_second_run_says_why_its_file_has_another_name(capsys):
    command = ["train", "t.csv", "--target", "price", "--epochs", "1"]
    assert "\nwrote t.safetensors\n" in run(capsys, *command)[1]
    assert (
        "\nwrote t-2.safetensors, because t.safetensors exists\nto predict: microbp predict t-2.safetensors DATA"
        in run(capsys, *command)[1]
    )
    assert "because" not in run(capsys, *command, "--out", "t-2.safetensors", "--force")[1]


def test_a_target_that_is_not_named_is_said(capsys):
    line = "the target is the last column, 'price', because no column is named target, label, class or y"
    assert line in run(capsys, "train", "t.csv", "--epochs", "1")[1].splitlines()
    assert "because no" not in run(capsys, "train", "t.csv", "--epochs", "1", "--target", "price")[1]
    code, out, lines = run(capsys, "train", "t.csv", "--drop", "name", "--strict")
    assert (code, out, lines) == (1, "", [f"microbp: error: t.csv: assumed, but not allowed by --strict: {line}"])
    assert run(capsys, "train", "t.csv", "--drop", "name", "--epochs", "1", "--target", "price", "--strict")[0] == 0


def test_odd_cells_are_said_in_a_line_for_each_kind(capsys, folder, model):
    (folder / "new.csv").write_text("name,size,colour\na,1,red\nb,huge,green\nc,,pink\nd,9,\n")
    code, out, lines = run(capsys, "predict", model, "new.csv")
    assert (code, len(out.splitlines())) == (0, 5)
    assert lines == [
        "microbp: note: new.csv: values that training did not have: colour (2)",
        "microbp: note: new.csv: cells that cannot be read, taken as missing: size (1)",
        "microbp: note: new.csv: missing values in columns that had none in training, which count as a middle number or date: "
        "size (1), colour (1)",
    ]
    code, out, lines = run(capsys, "predict", model, "new.csv", "--strict")
    assert (code, out) == (1, "") and re.match(
        r"microbp: error: new\.csv, row 2 \(line 3\), column 'size': 'huge' is not a number", lines[0]
    )
    assert run(capsys, "predict", model, "t.csv", "--strict")[::2] == (0, [])


@pytest.mark.parametrize("stream", [[], ["--stream"]])
def test_predict_carries_columns_over(capsys, folder, model, stream):
    (folder / "new.csv").write_text('size,name,colour\n1,Ann,red\n2,,blue\n3,"a,b",red\n')
    _, plain, _ = run(capsys, "predict", model, "new.csv", *stream)
    for words in (["--id", "name,size"], ["--id", "name", "--id", "size"]):
        code, out, _ = run(capsys, "predict", model, "new.csv", *words, *stream)
        rows = list(csv.reader(io.StringIO(out)))
        assert code == 0 and rows[0] == ["name", "size", "price"]
        assert [row[:2] for row in rows[1:]] == [["Ann", "1"], ["", "2"], ["a,b", "3"]]
        assert [row[2] for row in rows] == plain.split()
        lines = run(capsys, "predict", model, "new.csv", *words, "--json", *stream)[1].splitlines()
        assert [list(json.loads(line).values())[:2] for line in lines] == [["Ann", "1"], [None, "2"], ["a,b", "3"]]


def test_explain_columns_ranks_the_columns(capsys, folder, model):
    code, out, _ = run(capsys, "explain-columns", model, "t.csv", "--json", "--seed", "3", "--repeats", "4")
    found, ours = json.loads(out), bp.load_table(model).importance("t.csv", repeats=4, seed=3)
    assert code == 0 and list(found["columns"]) == [ours.columns[i] for i in ours.order] == ["size", "colour"]
    assert [row["mean"] for row in found["columns"].values()] == ours.importances_mean[ours.order].tolist()
    assert [row["std"] for row in found["columns"].values()] == ours.importances_std[ours.order].tolist()
    assert found["loss"] == "mse" and found["baseline"] == ours.baseline
    pytest.importorskip("matplotlib")
    code, out, _ = run(capsys, "explain-columns", model, "t.csv", "--plot", "bars.svg")
    assert code == 0 and [line.split()[0] for line in out.splitlines()] == ["increase", "size", "colour"]
    assert (folder / "bars.svg").read_text(encoding="utf-8").startswith("<?xml")
    assert run(capsys, "explain-columns", model, "t.csv", "--plot", "bars.svg")[0] == 2  # it exists


def test_the_help_tells_how_long_the_training_is(capsys):
    text = main_help(capsys, "train")
    assert text.count("fast, normal or best take about ") == text.count(", by the number of rows and the budget)") == 1


def main_help(capsys, command):
    code, out, _ = run(capsys, command, "--help")
    assert code == 0
    return " ".join(out.split())
