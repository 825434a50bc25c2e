"""What a stranger does wrong on the command line: each mistake gets one line that says what it is, where, and what to do."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest

import microbp as bp
from microbp.cli.main import main

ROWS = "size,colour,price\n" + "".join(f"{i},{'red' if i % 3 else 'blue'},{i * i % 17}.5\n" for i in range(60))
CLASSES = "size,colour,kind\n" + "".join(f"{i},{'red' if i % 3 else 'blue'},{'abc'[i % 3]}\n" for i in range(60))


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A folder of its own to be in, with a good table and a model of it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "good.csv").write_text(ROWS)
    (tmp_path / "kinds.csv").write_text(CLASSES)
    return tmp_path


def fails(capsys, code, *arguments):
    """The one line that the command fails with."""
    try:
        returned = main([*arguments])
    except SystemExit as exit_:
        returned = exit_.code
    assert returned == code
    out, err = capsys.readouterr()
    assert out == ""
    assert "Traceback" not in err
    line = err.strip()
    assert line.startswith("microbp") and ": error: " in line
    assert err.count("\n") == 1
    return line


def changed(text, row, column, value):
    """A table with another value in one cell."""
    lines = [line.split(",") for line in text.splitlines()]
    lines[row][column] = value
    return "\n".join(map(",".join, lines)) + "\n"


TABLES = [
    ("a text in a column of numbers", changed(ROWS, 17, 0, "huge"), [], ["row 17", "'size'", "'huge' is not a number", "--drop size"]),
    ("a cell too many", ROWS + "1,red,3,4\n", [], ["table.csv, row 61", "4 cells", "names 3"]),
    ("commas in numbers", "a,y\n" + "".join(f'{i % 7},"{i},5"\n' for i in range(60)), [], ["row 1, column 'y'", "'0,5' has a comma"]),
    (
        "dates",
        changed(ROWS, 0, 1, "when").replace("red", "2024-05-01").replace("blue", "2024-06-01"),
        [],
        ["'when'", "date", "--drop when"],
    ),
    ("no rows", "a,b,c\n", [], ["table.csv", "no rows"]),
    ("an empty file", "", [], ["table.csv", "nothing in it"]),
    ("an empty line first", "\na,b\n1,2\n", [], ["table.csv", "first line is empty"]),
    ("no header", "1,2,3\n4,5,6\n", [], ["first line", "name the columns"]),
    ("a name twice", "a,a,b\n1,2,3\n", [], ["two columns", "'a'"]),
    ("not UTF-8", b"size,pr\xe9cis\n1,2\n", [], ["UTF-8"]),
    ("one class", "a,kind\n" + "".join(f"{i},x\n" for i in range(30)), [], ["'kind'", "one class only, 'x'", "--target"]),
    ("one number", "a,b\n" + "".join(f"{i},1.5\n" for i in range(30)), [], ["'b'", "same in all rows", "--target"]),
    ("names as classes", "a,b\n" + "".join(f"{i},n{i}\n" for i in range(30)), [], ["'b'", "almost as many values as rows", "--target"]),
    ("nothing to learn from", "a,b\n" + "".join(f"1,{i % 2}\n" for i in range(30)), [], ["no column is left", "a: it is the same"]),
    ("a missing target", changed(ROWS, 9, 2, ""), [], ["row 9", "'price'", "the target is missing"]),
    ("an infinite number", changed(ROWS, 4, 0, "inf"), [], ["row 4", "'size'", "infinite"]),
    ("too few rows", "a,b\n1,2.5\n2,3.5\n", [], ["2 rows are too few"]),
    ("a wrong target", ROWS, ["--target", "prise"], ["table.csv", "'prise'", "did you mean 'price'"]),
    ("a wrong column to drop", ROWS, ["--drop", "sise"], ["'sise'", "did you mean 'size'"]),
    ("the target dropped", ROWS, ["--drop", "price"], ["'price'", "--target"]),
    ("a net for other columns", ROWS, ["--net", "5-9-1"], ["--net 3-9-1"]),
    ("a loss for numbers on counts below 0", changed(ROWS, 3, 2, "-4"), ["--loss", "poisson"], ["poisson"]),
]


@pytest.mark.parametrize(("content", "arguments", "says"), [row[1:] for row in TABLES], ids=[row[0] for row in TABLES])
def test_a_wrong_table_is_refused_with_the_place_and_what_to_do(capsys, folder, content, arguments, says):
    (folder / "table.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    code = 2 if any(word in says[0] for word in ("--net", "leaves none")) else 1
    line = fails(capsys, code, "train", "table.csv", *arguments)
    assert all(word in line for word in says), line
    assert not list(folder.glob("*.safetensors"))


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("x.npz", b"PK\3\4 no archive", "cannot be read"),
        ("x.npy", b"\x93NUMPY no array", "cannot be read"),
        ("x.parquet", b"PAR1 no parquet", "cannot be read"),
        ("x.xlsx", b"PK\3\4", "save the sheet as CSV"),
        ("x.svm", b"1 2:3\n-1 3:x\n", "line 2"),
        ("x.svm", b"1 2:3\nlabel 3:4\n", "line 2"),
        ("x.bin", b"\0\1\2", "it is none of CSV"),
    ],
)
@pytest.mark.parametrize("stream", [[], ["--stream"]])
def test_an_unreadable_file_is_named(capsys, folder, name, content, says, stream):
    (folder / name).write_bytes(content)
    line = fails(capsys, 1, "train", name, *stream)
    assert name in line
    assert says in line or ("--stream is for" in line and stream)


def test_arrays_that_do_not_fit_are_refused(capsys, folder):
    for arrays, says in (
        ({"a": [1]}, "holds a"),
        ({"x": [[1.0]], "y": [1, 2]}, "one value for each"),
        ({"x": [["a"]], "y": [1]}, "not numbers"),
    ):
        np.savez(folder / "x.npz", **{name: np.array(values) for name, values in arrays.items()})
        assert says in fails(capsys, 1, "train", "x.npz")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["train", "no.csv"], "argument DATA: there is no file 'no.csv'"),
        (["train", "."], "directory"),
        (["train", "good.csv", "--test-file", "no.csv"], "argument --test-file: there is no file 'no.csv'"),
        (["train", "good.csv", "--out", "good.csv", "--force"], "'good.csv' is read already: choose another name"),
        (["train", "good.csv", "--out", "a.png", "--plot", "./a.png"], "argument --plot: 'a.png' is written by --out already"),
        (["train", "good.csv", "--out", "a", "--checkpoint", "a"], "argument --checkpoint: 'a' is written by --out already"),
        (["predict", "good.csv", "kinds.csv", "--out", "good.csv", "--force"], "is read already"),
        (["predict", "good.csv", "kinds.csv", "--out", "kinds.csv", "--force"], "is read already"),
        (["train", "good.csv", "--validation", "0.999"], "argument --validation: it leaves none of the 60 rows to train on"),
        (["train", "good.csv", "--test", "0.999"], "argument --test: it leaves none of the 60 rows to train on"),
        (["train", "good.csv", "--out", "no/net.safetensors"], "make it first"),
        (["train", "good.csv", "--dropout", "1"], "below 1"),
        (["train", "good.csv", "--threads", "0"], "at least 1"),
        (["train", "good.csv", "--schedule", "cosin"], "did you mean 'cosine'"),
        (["train", "good.csv", "--lr", "fast"], "auto"),
        (["predict", "good.csv"], "DATA"),
        (["lr-find", "good.csv", "--plot", "x.bmp"], ".png"),
        (["learn"], "choose from"),
    ],
)
def test_wrong_usage_ends_with_2(capsys, arguments, says):
    assert says in fails(capsys, 2, *arguments)


@pytest.mark.skipif(sys.platform != "linux", reason="the folders are Linux's")
@pytest.mark.parametrize("where", ["/proc/net.safetensors", "/sys/net.safetensors"])
def test_a_folder_that_cannot_be_written_to_is_told_before_training(capsys, where):
    line = fails(capsys, 1, "train", "good.csv", "--out", where)
    assert "cannot be written to" in line and where in line


@pytest.fixture
def model(folder, capsys):
    """A network of kinds.csv."""
    assert main(["train", "kinds.csv", "--epochs", "1", "--out", "model.safetensors"]) == 0
    capsys.readouterr()
    return "model.safetensors"


def test_predictions_for_other_columns_are_refused(capsys, folder, model):
    (folder / "other.csv").write_text("size,price\n1,2\n")
    line = fails(capsys, 1, "predict", model, "other.csv")
    assert all(word in line for word in ("other.csv", "lacks the column colour", "size, price"))
    (folder / "other.csv").write_text("size,colour\nbig,red\n")
    line = fails(capsys, 1, "predict", model, "other.csv")
    assert all(word in line for word in ("other.csv", "row 1", "'size'", "'big' is not a number"))
    np.savez(folder / "other.npz", x=np.ones((3, 2)))
    assert "lacks the columns size, colour" in fails(capsys, 1, "predict", model, "other.npz")
    np.savez(folder / "nine.npz", x=np.arange(180.0).reshape(20, 9) % 7, y=np.arange(20) % 2)
    assert main(["train", "nine.npz", "--epochs", "1"]) == 0
    capsys.readouterr()
    assert "it has 2 features; the network has learnt from 9" in fails(capsys, 1, "predict", "nine.safetensors", "other.npz")
    assert not (folder / "out.csv").exists()


def test_a_model_that_is_none_or_knows_no_columns_is_refused(capsys, folder, model):
    assert "good.csv" in fails(capsys, 1, "predict", "good.csv", "good.csv")
    assert "none.safetensors" in fails(capsys, 1, "predict", "none.safetensors", "good.csv")
    net = bp.mlp([2, 1])
    net.save(folder / "plain.safetensors")
    assert "net.predict" in fails(capsys, 1, "predict", "plain.safetensors", "good.csv")
    net.notes = {"microbp.table": {"features": 3}}
    net.save(folder / "odd.safetensors")
    assert "notes" in fails(capsys, 1, "predict", "odd.safetensors", "good.csv")


def test_a_class_that_was_not_there_is_named(capsys, folder):
    (folder / "test.csv").write_text(CLASSES.replace(",c\n", ",d\n"))
    line = fails(capsys, 1, "train", "kinds.csv", "--test-file", "test.csv")
    assert all(word in line for word in ("test.csv", "row 3", "'kind'", "'d'"))


def test_nothing_is_overwritten_without_force(capsys, folder, model):
    before = (folder / model).read_bytes()
    assert "--force" in fails(capsys, 2, "train", "kinds.csv", "--out", model)
    assert "--force" in fails(capsys, 2, "predict", model, "kinds.csv", "--out", "good.csv")
    assert (folder / model).read_bytes() == before
    assert main(["train", "kinds.csv", "--epochs", "2", "--out", model, "--force"]) == 0
    assert (folder / model).read_bytes() != before
    for name in ("kinds.safetensors", "kinds-2.safetensors", "kinds-3.safetensors"):
        assert main(["train", "kinds.csv", "--epochs", "1"]) == 0
        assert (folder / name).exists()


def test_an_interrupted_training_is_saved(capsys, folder, monkeypatch):
    epochs = []

    def stop(*arguments):
        epochs.append(1)
        if len(epochs) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr("microbp.training.loop.progress.ProgressLine.show", stop)
    assert main(["train", "kinds.csv", "--json"]) == 130
    out, err = capsys.readouterr()
    assert json.loads(out)["epochs"] == 3
    assert "interrupted after 3 epochs: wrote kinds.safetensors" in err
    assert main(["predict", "kinds.safetensors", "kinds.csv"]) == 0


def test_an_interruption_before_there_is_anything_says_so(capsys, folder, monkeypatch):
    def stop(*arguments, **settings):
        raise KeyboardInterrupt

    monkeypatch.setattr("microbp.training.trainer.Trainer.fit", stop)
    assert "nothing to save" in fails(capsys, 130, "train", "kinds.csv")
    assert not list(folder.glob("*.safetensors"))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("epochs = 0", "--epochs"),
        ("epoch = 3", "did you mean 'epochs'"),
        ("json = 1", "true or false"),
        ("net = true", "a text or a number"),
        ("epochs =", "config.toml"),
    ],
)
def test_a_wrong_configuration_is_refused(capsys, folder, text, says):
    (folder / "config.toml").write_text(text)
    assert says in fails(capsys, 2, "train", "kinds.csv", "--config", "config.toml")
    assert "no.toml" in fails(capsys, 2, "train", "kinds.csv", "--config", "no.toml")
