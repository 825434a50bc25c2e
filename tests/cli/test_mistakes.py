"""Mistakes on the command line: each gives one line: what is wrong, where, and what to do."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import sys
import zipfile

import numpy as np
import pytest

import microbp as bp
from microbp.cli.main import main

ROWS = "size,colour,price\n" + "".join(f"{i + 5},{'red' if i % 3 else 'blue'},{i * i % 17}.5\n" for i in range(60))
CLASSES = "size,colour,kind\n" + "".join(f"{i + 5},{'red' if i % 3 else 'blue'},{'abc'[i % 3]}\n" for i in range(60))


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A current directory with two valid tables."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "good.csv").write_text(ROWS)
    (tmp_path / "kinds.csv").write_text(CLASSES)
    with zipfile.ZipFile(tmp_path / "good.zip", "w") as archive:
        archive.writestr("good.csv", ROWS)
    return tmp_path


def fails(capsys, code, *arguments):
    """The error of a failing command, which must be one line."""
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
    (
        "a string in a column of numbers",
        changed(ROWS, 17, 0, "huge"),
        [],
        ["row 17 (line 18)", "'size'", "'huge' is not a number", "--drop size"],
    ),
    ("a cell too many", ROWS + "1,red,3,4\n", [], ["table.csv, row 61 (line 62)", "4 cells", "names 3 columns"]),
    ("a cell too few", ROWS + "1,red\n", [], ["table.csv, row 61 (line 62): has 2 cells, but the first line names 3 columns"]),
    ("a cell too few after an empty line", ROWS + "\n1,red\n", [], ["table.csv, row 61: has 2 cells"]),
    ("a cell too few below two lines of names", '"si\nze",y\n1,2\n3\n', [], ["table.csv, row 2 (line 4): has 1 cell,"]),
    (
        "one line",
        "a,b,c\n",
        [],
        ["table.csv", "has only one line; the first line must name the columns", "if it is a row, use --no-header"],
    ),
    ("an empty file", "", [], ["table.csv", "file is empty"]),
    ("not UTF-8", b"size,pr\x81cis\n1,2\n", [], ["UTF-8"]),
    ("one class", "a,kind\n" + "".join(f"{i},x\n" for i in range(30)), [], ["'kind'", "only one class, 'x'", "--target"]),
    ("one number", "a,b\n" + "".join(f"{i},1.5\n" for i in range(30)), [], ["'b'", "constant", "--target"]),
    (
        "names as classes",
        "a,b\n" + "".join(f"{i},n{i}\n" for i in range(30)),
        [],
        ["'b'", "more different values than half the number of rows", "--target"],
    ),
    ("no usable column", "a,b\n" + "".join(f"1,{i % 2}\n" for i in range(30)), [], ["no usable column", "a: constant"]),
    ("all columns dropped", ROWS, ["--drop", "size,colour"], ["table.csv", "--drop names all except the target"]),
    ("dates to predict", "a,when\n" + "".join(f"{i},{2000 + i}-01-02\n" for i in range(30)), [], ["'when'", "dates or times", "--target"]),
    ("other cells between", ROWS.replace(",", "~"), [], ["only one column, 'size~colour~price'", "separated by"]),
    ("an infinite number", changed(ROWS, 4, 0, "inf"), [], ["row 4", "'size'", "infinite"]),
    ("too few rows", "a,b\n1,2.5\n2,3.5\n", [], ["2 rows, too few", "at least 3 are needed"]),
    ("a wrong target", ROWS, ["--target", "prise"], ["argument --target: table.csv", "'prise'", "did you mean 'price'"]),
    ("a wrong column to drop", ROWS, ["--drop", "sise"], ["argument --drop: table.csv", "'sise'", "did you mean 'size'"]),
    ("the target dropped", ROWS, ["--drop", "price"], ["argument --drop: 'price' is the target; choose another with --target"]),
    ("a net for other columns", ROWS, ["--net", "5-9-1"], ["argument --net", "-9-1"]),
    ("a net for more memory than there is", ROWS, ["--net", "x-9999999-9999999-y"], ["no memory for", "smaller widths with --net"]),
    ("a loss for numbers on counts below 0", changed(ROWS, 3, 2, "-4"), ["--loss", "poisson"], ["poisson"]),
]


@pytest.mark.parametrize(("content", "arguments", "expected"), [row[1:] for row in TABLES], ids=[row[0] for row in TABLES])
def test_a_wrong_table_is_refused_with_the_place_and_what_to_do(capsys, folder, content, arguments, expected):
    (folder / "table.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    code = 2 if expected[0].startswith("argument") else 1
    line = fails(capsys, code, "train", "table.csv", *arguments)
    assert all(word in line for word in expected), line
    assert not list(folder.glob("*.safetensors"))


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("x.npz", b"PK\3\4 no archive", "cannot be read"),
        ("x.npy", b"\x93NUMPY no array", "cannot be read"),
        ("x.parquet", b"PAR1 no parquet", "cannot be read"),
        ("x.xlsx", b"PK\3\4", "cannot be read"),
        ("x.xls", b"\xd0\xcf\x11\xe0", ".xls files are not supported; save the sheet as .xlsx or CSV"),
        ("x.svm", b"1 2:3\n-1 3:x\n", "line 2"),
        ("x.svm", b"1 2:3\nlabel 3:4\n", "line 2"),
        ("x.bin", b"\0\1\2", "unknown format; use CSV"),
        ("x.json", b'[{"a": 1]\n', "x.json, line 1: is not JSON: Expecting ',' delimiter (column 9)"),
        ("x.csv.gz", b"a,b\n1,2\n", "not compressed by gzip, or is damaged; remove .gz from its name"),
        ("x.gz", b"a,b\n1,2\n", "not compressed by gzip, or is damaged; remove .gz from its name"),
        ("x.gz", gzip.compress(ROWS.encode(), mtime=0)[:99], "cannot be read: Compressed file ended"),
    ],
)
@pytest.mark.parametrize("stream", [[], ["--stream"]])
def test_an_unreadable_file_is_named(capsys, folder, name, content, expected, stream):
    (folder / name).write_bytes(content)
    line = fails(capsys, 1, "train", name, *stream)
    assert name in line
    assert expected in line or ("--stream works for" in line and stream)


def test_arrays_that_do_not_fit_are_refused(capsys, folder):
    for arrays, expected in (
        ({"a": [1]}, "contains a;"),
        ({"x": [[1.0]], "y": [1, 2]}, "one value per row"),
        ({"x": [[1.0]], "y": [[1, 2]]}, "y has shape (1, 2); it must have one value per row of x, shape (1,)"),
        ({"x": [["a"]], "y": [1]}, "not numbers"),
        ({"x": [[1.0]], "y": [1j]}, "y contains complex128 values, which are neither numbers nor strings"),
    ):
        np.savez(folder / "x.npz", **{name: np.array(values) for name, values in arrays.items()})
        assert expected in fails(capsys, 1, "train", "x.npz")
    for array in ([1.0, 2.0], [["a", "b"]], [[[1.0]]]):
        np.save(folder / "x.npy", np.array(array))
        assert "it must be a 2-D array of numbers, one row per example" in fails(capsys, 1, "train", "x.npy")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["train", "no.csv"], "argument DATA: there is no file 'no.csv'"),
        (["train", "."], "directory"),
        (["train", "good.csv", "--test-file", "no.csv"], "argument --test-file: there is no file 'no.csv'"),
        (["train", "good.csv", "--out", "good.csv", "--force"], "'good.csv' is also an input file; choose another name"),
        (["train", "good.zip/good.csv", "--out", "good.zip", "--force"], "'good.zip' is also an input file; choose another name"),
        (["train", "good.csv", "--out", "a.png", "--plot", "./a.png"], "argument --plot: 'a.png' is also the file of --out"),
        (["train", "good.csv", "--out", "a", "--checkpoint", "a"], "argument --checkpoint: 'a' is also the file of --out"),
        (["predict", "good.csv", "kinds.csv", "--out", "good.csv", "--force"], "is also an input file"),
        (["predict", "good.csv", "kinds.csv", "--out", "kinds.csv", "--force"], "is also an input file"),
        (["train", "good.csv", "--validation", "0.999"], "argument --validation: leaves none of the 60 rows for training"),
        (["train", "good.csv", "--test", "0.999"], "argument --test: leaves none of the 60 rows for training"),
        (["train", "good.csv", "--out", "no/net.safetensors"], "create it first"),
        (["train", "good.csv", "--dropout", "1"], "below 1, such as 0.2, not '1'"),
        (["train", "good.csv", "--threads", "0"], "argument --threads: the value must be at least 1, not 0"),
        (["train", "good.csv", "--epochs", "ten"], "argument --epochs: the value must be a whole number, not 'ten'"),
        (["train", "good.csv", "--seed", str(2**64)], "argument --seed: the value must be below 2**64"),
        (["train", "good.csv", "--schedule", "cosin"], "did you mean 'cosine'"),
        (["train", "good.csv", "--schedule", "cosine(lr=0.1"], "'cosine(lr=0.1' must end with ')'"),
        (["train", "good.csv", "--schedule", "step_decay"], "needs lr=, step_size=; for example step_decay(lr=0.01,step_size=1000)"),
        (["train", "good.csv", "--schedule", "warmup(steps=9)"], "for example warmup(schedule=cosine(lr=0.01),steps=9)"),
        (["train", "good.csv", "--activation", "leaky_relu(slope=0.2"], "'leaky_relu(slope=0.2' must end with ')'"),
        (["train", "good.csv", "--activation", "leaky_relu(slope=x)"], "leaky_relu: slope must be a number, not 'x'"),
        (["lr-find", "good.csv", "--lr", "0.1"], "unknown option '--lr'"),
        (["train", "good.csv", "--schedule", "delayed"], "warmup, reduce_on_plateau; see microbp train --help"),
        (["train", "good.csv", "--lr", "fast"], "auto"),
        (["predict", "good.csv"], "DATA"),
        (["lr-find", "good.csv", "--plot", "x.bmp"], ".png"),
        (["learn"], "microbp: error: unknown command 'learn'"),
        (
            ["trian"],
            "unknown command 'trian'; did you mean 'train'? valid: train, predict, evaluate, explain-columns, info, export, lr-find,",
        ),
        (["train", "good.csv", "--optimiser", "sgd"], "microbp train: error: unknown option '--optimiser'; did you mean '--optimizer'?"),
        (["predict", "good.csv", "kinds.csv", "more.csv"], "microbp predict: error: unexpected argument 'more.csv'; see microbp predict"),
    ],
)
def test_wrong_usage_exits_with_2(capsys, arguments, expected):
    assert expected in fails(capsys, 2, *arguments)


@pytest.mark.skipif(sys.platform != "linux", reason="the folders are Linux's")
@pytest.mark.parametrize("where", ["/proc/net.safetensors", "/sys/net.safetensors"])
def test_a_directory_that_cannot_be_written_to_is_refused_before_training(capsys, where):
    line = fails(capsys, 1, "train", "good.csv", "--out", where)
    assert "cannot write to the directory" in line and where in line


@pytest.fixture
def model(folder, capsys):
    """A network trained on kinds.csv."""
    assert main(["train", "kinds.csv", "--epochs", "1", "--out", "model.safetensors"]) == 0
    capsys.readouterr()
    return "model.safetensors"


def test_predictions_for_other_columns_are_refused(capsys, folder, model):
    (folder / "other.csv").write_text("size,price\n1,2\n")
    line = fails(capsys, 1, "predict", model, "other.csv")
    assert all(word in line for word in ("other.csv", "missing column colour, used in training", "size, price"))
    (folder / "other.csv").write_text("size,colour\nbig,red\n")
    line = fails(capsys, 1, "predict", model, "other.csv", "--strict")
    assert all(word in line for word in ("other.csv", "row 1", "'size'", "'big' is not a number"))
    np.savez(folder / "other.npz", x=np.ones((3, 2)))
    assert "missing columns size, colour, used in training" in fails(capsys, 1, "predict", model, "other.npz")
    np.savez(folder / "nine.npz", x=np.arange(180.0).reshape(20, 9) % 7, y=np.arange(20) % 2)
    assert main(["train", "nine.npz", "--epochs", "1"]) == 0
    capsys.readouterr()
    assert "has 2 features, but the network was trained on 9" in fails(capsys, 1, "predict", "nine.safetensors", "other.npz")
    assert not (folder / "out.csv").exists()


def test_predict_with_or_without_a_row_of_names_unlike_in_training(capsys, folder):
    rows = ROWS.split("\n", 1)[1]
    (folder / "bare.csv").write_text(rows)
    (folder / "row.csv").write_text("a,red,b\n")
    (folder / "texts.csv").write_text("a,red\nb,blue\nc,red\n")
    assert main(["train", "good.csv", "--epochs", "1", "--out", "named.safetensors"]) == 0
    assert main(["train", "bare.csv", "--epochs", "1", "--out", "bare.safetensors"]) == 0
    capsys.readouterr()
    for command in ("predict", "evaluate"):
        assert "it seems to have no header row with the column names; add one" in fails(capsys, 1, command, "named.safetensors", "bare.csv")
    for name in ("row.csv", "texts.csv"):
        assert "use --no-header" in fails(capsys, 1, "predict", "bare.safetensors", name)
    (folder / "row.csv").write_text("5,red,2.5\n")
    assert main(["predict", "bare.safetensors", "row.csv", "--no-header"]) == 0


def test_a_file_that_is_not_a_model_or_has_no_columns_is_refused(capsys, folder, model):
    line = fails(capsys, 1, "predict", "good.csv", "good.csv")
    assert "good.csv: not a microbp file, or cut short" in line and line.endswith("; give a file written by microbp train")
    assert fails(capsys, 1, "info", "good.csv").endswith("; give a file written by microbp, or one of ONNX or Keras")
    assert "none.safetensors" in fails(capsys, 1, "predict", "none.safetensors", "good.csv")
    net = bp.mlp([2, 1])
    net.save(folder / "plain.safetensors")
    assert "net.predict" in fails(capsys, 1, "predict", "plain.safetensors", "good.csv")
    net.notes = {"microbp.table": {"features": 3}}
    net.save(folder / "odd.safetensors")
    assert "notes" in fails(capsys, 1, "predict", "odd.safetensors", "good.csv")


def test_an_unknown_class_is_named(capsys, folder):
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

    monkeypatch.setattr("microbp.training.loop.records.progress.ProgressLine.show", stop)
    assert main(["train", "kinds.csv", "--json"]) == 130
    out, err = capsys.readouterr()
    assert json.loads(out)["epochs"] == 3
    assert "interrupted after 3 epochs of network 1 of 4; wrote kinds.safetensors" in err
    assert main(["predict", "kinds.safetensors", "kinds.csv"]) == 0


def test_an_interruption_before_the_first_update_saves_nothing(capsys, folder, monkeypatch):
    def stop(*arguments, **settings):
        raise KeyboardInterrupt

    monkeypatch.setattr("microbp.training.trainer.Trainer.fit", stop)
    assert "nothing to save" in fails(capsys, 130, "train", "kinds.csv")
    assert not list(folder.glob("*.safetensors"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("epochs = 0", "argument --epochs: config.toml: the value"),
        ("target = 'Kind'", "argument --target: config.toml: kinds.csv: unknown column 'Kind'"),
        ("net = '7-3'", "argument --net: config.toml: 7-3 does not fit kinds.csv"),
        ("epoch = 3", "did you mean 'epochs'"),
        ("json = 1", "true or false"),
        ("net = true", "a string, a number or a list"),
        ("epochs =", "config.toml"),
    ],
)
def test_a_wrong_config_file_is_refused(capsys, folder, text, expected):
    (folder / "config.toml").write_text(text)
    assert expected in fails(capsys, 2, "train", "kinds.csv", "--config", "config.toml")
    assert "no.toml" in fails(capsys, 2, "train", "kinds.csv", "--config", "no.toml")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
def test_a_full_disk_is_reported_with_the_file(capsys, monkeypatch, model):
    assert "/dev/full: No space left" in fails(capsys, 1, "predict", model, "kinds.csv", "--out", "/dev/full", "--force")
    with contextlib.suppress(OSError), open("/dev/full", "w") as full:  # closing it fails too
        monkeypatch.setattr(sys, "stdout", full)
        assert main(["predict", model, "kinds.csv"]) == 1
        monkeypatch.undo()
    assert "standard output: No space left" in capsys.readouterr().err
