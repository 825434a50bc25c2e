"""`microbp export`, and files of other formats as MODEL and FILE."""

from __future__ import annotations

import json
import struct

import numpy as np
import pytest

import microbp as bp
from microbp.cli.main import main
from microbp.exchange import formats

ROWS = "size,colour,kind\n" + "".join(f"{i + 5},{'red' if i % 3 else 'blue'},{'abc'[i % 3]}\n" for i in range(60))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A table, and its model."""
    path = tmp_path_factory.mktemp("export")
    (path / "rows.csv").write_text(ROWS)
    bp.fit_table(path / "rows.csv", epochs=2, net="x-4-y", budget="fast").save(path / "model.safetensors")
    return path


@pytest.fixture(autouse=True)
def here(folder, monkeypatch):
    monkeypatch.chdir(folder)


def run(capsys, *words):
    code = main(list(words))
    out, err = capsys.readouterr()
    return code, out, err


def test_an_exported_model_of_a_table_predicts_the_same(capsys):
    code, out, err = run(capsys, "export", "model.safetensors", "model.onnx", "--force")
    assert (code, err) == (0, "") and out.startswith("wrote model.onnx: ") and out.endswith("takes 2 columns\n")
    assert run(capsys, "predict", "model.onnx", "rows.csv") == run(capsys, "predict", "model.safetensors", "rows.csv")
    assert run(capsys, "export", "model.onnx", "again.onnx")[0] == 0
    assert (formats.Path("again.onnx").read_bytes()) == formats.Path("model.onnx").read_bytes()
    assert (bp.load_table("model.onnx").predict("rows.csv") == bp.load_table("model.safetensors").predict("rows.csv")).all()
    code, out, _ = run(capsys, "info", "model.onnx")
    assert code == 0 and out.startswith("a file of ONNX") and "size: a number" in out


@pytest.mark.parametrize(
    "options", [["out.c"], ["out.h", "--name", "kind"], ["features.c", "--features"], ["raw.onnx", "--raw", "--features"]]
)
def test_each_format_is_written(capsys, options):
    code, out, err = run(capsys, "export", "model.safetensors", *options)
    assert (code, err) == (0, ""), err
    assert out.endswith("takes 2 columns\n") is ("--features" not in options)
    if "--name" in options:
        assert "kind_predict(" in formats.Path(options[0]).read_text()


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["export", "model.safetensors", "x.txt"], 2, "argument OUT: the file name must end in .onnx, .c or .h, not 'x.txt'"),
        (["export", "model.safetensors", "rows.csv.onnx/x.c"], 2, "argument OUT: the directory of 'rows.csv.onnx/x.c' does not exist"),
        (["export", "rows.csv", "x.c"], 1, "give a file written by microbp, or one of ONNX or Keras"),
        (["export", "model.safetensors", "x.c", "--fold"], 1, "fold is for .onnx"),
        (["export", "model.safetensors", "x.onnx", "--train", "sgd"], 1, "train is for .c and .h"),
        (["export", "model.safetensors", "x.c", "--name", "2"], 1, "name must be a letter"),
        (["info", "rows.csv"], 1, "not a microbp file"),
    ],
)
def test_mistakes(capsys, words, code, text):
    try:
        found = main(words)
    except SystemExit as error:
        found = error.code
    assert found == code
    assert text in capsys.readouterr().err
    assert not formats.Path(words[-1]).exists() or words[0] == "info"


def test_an_existing_file_is_kept(capsys, folder):
    path = folder / "kept.onnx"
    path.write_text("mine")
    with pytest.raises(SystemExit):
        main(["export", "model.safetensors", "kept.onnx"])
    assert "exists; use --force" in capsys.readouterr().err
    assert path.read_text() == "mine"


def test_info_lists_the_tensors_of_another_program(capsys, folder):
    data = np.zeros(6, np.float32).tobytes()
    entry = {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}
    head = json.dumps({"0.weight": entry, "x" * 10_000: entry}).encode()
    (folder / "other.safetensors").write_bytes(struct.pack("<Q", len(head)) + head + data)
    code, out, _ = run(capsys, "info", "other.safetensors")
    assert code == 0
    assert out.splitlines()[1] == "  0.weight: F32 [2, 3]"
    assert out.splitlines()[2] == f"  {'x' * 200}...: F32 [2, 3]"


def test_info_knows_files_of_keras(capsys, folder):
    h5py = pytest.importorskip("h5py")
    with h5py.File(folder / "other.h5", "w") as file:
        file["x"] = 1
    assert formats.format_of(folder / "other.h5") == "keras"
    code, _, err = run(capsys, "info", "other.h5")
    assert code == 1 and "other.h5" in err


def test_files_of_networks_in_int8_are_shown_and_exported(capsys, folder):
    bp.quantize(bp.mlp([3, 4, 2], seed=0), np.ones((1, 3))).save(folder / "small.safetensors")
    code, out, _ = run(capsys, "info", "small.safetensors")
    assert code == 0 and out.startswith("QuantizedNetwork(2 layers, ") and "dense_1" in out
    assert run(capsys, "export", "small.safetensors", "small.c")[1].endswith("takes 3 features\n")
