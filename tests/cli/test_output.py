"""Output of the commands: complete or unchanged files, results even after errors and interruptions, numbers and names."""

from __future__ import annotations

import copy
import csv
import io
import json
import os
import re
import shlex
import signal
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import table_runs

import microbp as bp
from microbp.cli.main import main
from microbp.cli.parser import parse
from microbp.core.whole_file import replacing
from microbp.tables import split as dataset
from microbp.tables.encodings.encoding import Encoding
from microbp.tables.encodings.target import Target
from microbp.tables.fitted import runs
from microbp.tables.readers import sources

NUMBERS = "size,price\n" + "".join(f"{i},{1.7e9 + 10 * i}\n" for i in range(60))
KINDS = "size,colour,kind\n" + "".join(f"{i + 5},{'red' if i % 3 else 'blue'},{'abc'[i % 3]}\n" for i in range(60))


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "numbers.csv").write_text(NUMBERS)
    (tmp_path / "kinds.csv").write_text(KINDS)
    return tmp_path


def raises(error):
    def function(*arguments, **settings):
        raise error

    return function


# ---- output files ----


def test_a_file_is_replaced_completely_or_not_at_all(folder):
    path = folder / "x.txt"
    (folder / "link.txt").symlink_to(path)
    path.write_text("old")
    path.chmod(0o640)

    def fail():
        with replacing("link.txt") as temporary:
            temporary.write_text("half")
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match=r"link\.txt"):
        fail()
    assert path.read_text() == "old"
    with replacing("link.txt") as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old" and temporary.suffix == ".txt"
    assert path.read_text() == "new" and path.stat().st_mode & 0o777 == 0o640
    assert (folder / "link.txt").is_symlink()
    assert sorted(os.listdir(folder)) == ["kinds.csv", "link.txt", "numbers.csv", "x.txt"]


def test_predictions_are_written_completely_or_not_at_all(capsys, folder):
    assert main(["train", "kinds.csv", "--epochs", "2", "--out", "net"]) == 0
    (folder / "bad.csv").write_text(KINDS + "1,red,a\n" * 3 + "huge,red,a\n")
    (folder / "out.csv").write_text("old")
    assert main(["predict", "net", "bad.csv", "--out", "out.csv", "--force", "--strict"]) == 1
    assert main(["predict", "net", "bad.csv", "--out", "new.csv", "--strict"]) == 1
    assert (folder / "out.csv").read_text() == "old"
    assert sorted(os.listdir(folder)) == ["bad.csv", "kinds.csv", "net", "numbers.csv", "out.csv"]


@pytest.mark.skipif(os.name != "posix", reason="named pipes need POSIX")
def test_a_named_pipe_is_written_to(capsys, folder):
    assert main(["train", "kinds.csv", "--epochs", "2", "--out", "net"]) == 0
    capsys.readouterr()
    os.mkfifo(folder / "pipe")
    with ThreadPoolExecutor() as pool:
        read = pool.submit((folder / "pipe").read_text)
        assert main(["predict", "net", "kinds.csv", "--out", "pipe", "--force"]) == 0
        assert len(read.result(timeout=60).splitlines()) == 61
    assert stat.S_ISFIFO((folder / "pipe").stat().st_mode)


# ---- errors and interruptions ----


def test_results_are_reported_if_the_network_cannot_be_saved(capsys, monkeypatch):
    monkeypatch.setattr("microbp.many.ensemble.Ensemble.save", raises(OSError(28, "No space left on device", "net")))
    assert main(["train", "kinds.csv", "--epochs", "2", "--out", "net", "--json"]) == 1
    out, err = capsys.readouterr()
    assert json.loads(out)["epochs"] == 2
    assert err.splitlines()[-1] == "microbp: error: net: No space left on device"


def test_a_second_interruption_reports_the_saved_file(capsys, monkeypatch):
    monkeypatch.setattr(runs, "scores", raises(KeyboardInterrupt()))
    assert main(["train", "kinds.csv", "--epochs", "2", "--out", "net"]) == 130
    assert capsys.readouterr().err.splitlines()[-1] == "microbp: error: interrupted after 2 epochs of network 4 of 4; wrote net"
    assert len(bp.Ensemble.load("net")) == 5  # a linear model has joined


@pytest.mark.parametrize("error", [OSError(28, "No space left on device", "run"), FloatingPointError("the loss is not finite")])
def test_a_late_error_does_not_lose_the_epochs_before_it(capsys, monkeypatch, error):
    calls = []

    def fail(self):
        calls.append(1)
        if len(calls) == 3:
            raise error

    monkeypatch.setattr("microbp.training.loop.checkpoint.Checkpoints.after_epoch", fail)
    assert main(["train", "kinds.csv", "--epochs", "9", "--out", "net", "--json"]) == 1
    out, err = capsys.readouterr()
    assert json.loads(out)["epochs"] == 3
    assert "microbp: error: " in err.splitlines()[-1] and str(error.args[-1]) in err.splitlines()[-1]
    assert bp.load("net").notes


def test_an_interruption_in_the_first_epoch_saves_the_network(capsys, monkeypatch):
    monkeypatch.setattr("microbp.training.engine.engine.Engine.evaluate", raises(KeyboardInterrupt()))
    monkeypatch.setattr("microbp.training.loop.arrays.end", raises(KeyboardInterrupt()))
    assert main(["train", "kinds.csv", "--out", "net", "--batch", "16"]) == 130
    out, err = capsys.readouterr()
    assert (out, err.splitlines()[-1]) == (
        "",
        "microbp: error: interrupted after 3 updates of the first epoch of network 1 of 4; wrote net",
    )
    assert bp.load("net").notes


LONG = [sys.executable, "-P", "-m", "microbp", "train", "numbers.csv", "--epochs", "1000000"]


@pytest.mark.skipif(os.name != "posix", reason="signals need POSIX")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_terminated_training_is_saved(folder, name):
    number = getattr(signal, name)
    before = signal.signal(number, signal.SIG_DFL)  # the parent may ignore the signal (nohup, &), and a child would inherit that
    with subprocess.Popen(LONG, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        signal.signal(number, before)
        try:
            assert process.stderr.read(9) == b"network 1"
            process.send_signal(number)
            _, err = process.communicate(timeout=60)
        finally:
            process.kill()
    assert (process.returncode, err.splitlines()[-1].split(b"; ")[-1]) == (130, b"wrote numbers.safetensors")
    assert bp.load(folder / "numbers.safetensors").notes


@pytest.mark.skipif(os.name != "posix", reason="redirections need POSIX")
@pytest.mark.parametrize(("closed", "code"), [("1>&-", 1), ("2>&-", 0), ("2>/dev/full", 0)])
def test_closed_stdout_or_stderr(folder, closed, code):
    if "full" in closed and not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full")
    command = f'"{sys.executable}" -P -m microbp train kinds.csv --epochs 2 --ensemble 1 --out net {closed}'
    done = subprocess.run(["sh", "-c", command], cwd=folder, capture_output=True, text=True, timeout=60)
    assert done.returncode == code
    assert "Traceback" not in done.stderr
    if code:
        assert done.stderr == "microbp: error: standard output is closed; redirect it to /dev/null to discard the output\n"
    else:
        assert bp.load(folder / "net").notes


def test_an_interrupted_import_does_not_crash():
    """Ctrl-C at the worst moment: while the extension loads and imports a module of the standard library."""
    script = """
import sys
class Interruption:
    def find_spec(self, name, path=None, target=None):
        if name == "inspect":
            raise KeyboardInterrupt
sys.modules.pop("inspect", None)
sys.meta_path.insert(0, Interruption())
try:
    import microbp
    microbp.Network
except KeyboardInterrupt:
    sys.exit(7)
"""
    assert subprocess.run([sys.executable, "-P", "-c", script], timeout=60).returncode == 7


# ---- output ----


def predicted(capsys, *arguments):
    assert main(["predict", *arguments]) == 0
    return capsys.readouterr().out


def test_a_number_far_from_zero_keeps_its_digits(capsys):
    assert main(["train", "numbers.csv", "--epochs", "300", "--net", "x-32-y", "--out", "net"]) == 0
    capsys.readouterr()
    rows = [float(row["price"]) for row in csv.DictReader(io.StringIO(predicted(capsys, "net", "numbers.csv")))]
    target = bp.load_table("net").net.notes["microbp.table"]["target"]
    np.testing.assert_allclose(rows, 1.7e9 + 10 * np.arange(60), atol=0.2 * target["scale"])
    assert len(set(rows)) == 60


@pytest.mark.parametrize(("loss", "name", "key"), [("cross_entropy", "p", "probabilities"), ("bce", "p", "probabilities"),
                                                  ("hinge", "score", "scores"), ("mse", "score", "scores")])  # fmt: skip
def test_scores_are_not_called_probabilities(capsys, loss, name, key):
    assert main(["train", "kinds.csv", "--target", "kind", "--epochs", "2", "--loss", loss, "--out", "net"]) == 0
    capsys.readouterr()
    assert predicted(capsys, "net", "kinds.csv").splitlines()[0] == f"kind,{name}(a),{name}(b),{name}(c)"
    first = json.loads(predicted(capsys, "net", "kinds.csv", "--json").splitlines()[0])
    assert list(first) == ["kind", key] and list(first[key]) == ["a", "b", "c"]


def test_a_target_named_probabilities_is_printed(capsys, folder):
    (folder / "odd.csv").write_text(KINDS.replace("kind", "probabilities"))
    assert main(["train", "odd.csv", "--epochs", "2", "--out", "net"]) == 0
    capsys.readouterr()
    assert json.loads(predicted(capsys, "net", "odd.csv", "--json").splitlines()[0])["probabilities"] in "abc"


def test_the_rate_of_lr_auto_is_reported(capsys):
    assert main(["lr-find", "kinds.csv", "--json"]) == 0
    rate = json.loads(capsys.readouterr().out)["suggestion"]
    assert main(["train", "kinds.csv", "--lr", "auto", "--epochs", "2", "--out", "net"]) == 0
    assert f"adam(lr={rate:.3g}," in capsys.readouterr().out


def test_suggested_commands_repeat_the_options(capsys, folder):
    (folder / "two words.csv").write_text(KINDS)
    given = ["two words.csv", "--target", "size", "--drop", "kind", "--net", "x-9-y", "--activation", "leaky_relu(slope=0.2)", "--stream"]
    assert main(["lr-find", *given]) == 0
    program, *suggested = shlex.split(capsys.readouterr().out.splitlines()[-1].removeprefix("to use it: "))
    rate = suggested[-1]
    assert program == "microbp" and parse(suggested) == parse(["train", *given, "--lr", rate])
    assert main([*suggested, "--epochs", "2"]) == 0
    report = capsys.readouterr().out
    assert f"adam(lr={rate}," in report
    assert "to predict: microbp predict 'two words.safetensors' DATA" in report


def test_one_row_has_no_r2(capsys):
    assert main(["train", "numbers.csv", "--test", "0.01", "--epochs", "2", "--json", "--out", "a"]) == 0
    assert json.loads(capsys.readouterr().out)["test"]["r2"] is None
    assert main(["train", "numbers.csv", "--test", "0.01", "--epochs", "2", "--out", "b"]) == 0
    assert any(line.split()[0] == "test" and line.split()[-1] == "-" for line in capsys.readouterr().out.splitlines() if line)


def test_info_describes_a_trainer(capsys):
    assert (
        main(
            [
                "train",
                "kinds.csv",
                "--epochs",
                "2",
                "--batch",
                "16",
                "--lr",
                "0.01",
                "--decay",
                "0.02",
                "--checkpoint",
                "run",
                "--out",
                "net",
            ]
        )
        == 0
    )
    capsys.readouterr()
    assert main(["info", "run"]) == 0
    assert (
        "trainer: 2 epochs, 6 updates, loss cross_entropy, optimizer adam(lr=0.01,beta2=0.95,weight_decay=0.02)" in capsys.readouterr().out
    )
    assert main(["info", "net"]) == 0
    assert "trainer" not in capsys.readouterr().out


def test_info_describes_the_scaling(capsys, folder):
    (folder / "cold.csv").write_text("t,price\n" + "".join(f"{i % 5 - 9},{i / 7}\n" for i in range(60)))
    assert main(["train", "cold.csv", "--epochs", "2", "--ensemble", "1", "--out", "net"]) == 0
    capsys.readouterr()
    assert main(["info", "net"]) == 0
    *_, target, column = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"predicts price, a number, scaled to \(y - 4\.4\d*\) / 2\.\d+, from the columns", target)
    assert re.fullmatch(r"  t: a number, scaled to \(x \+ 7\) / \d+, clipped, \d+ bins", column)


def test_the_validation_rows_of_a_stream_are_from_all_pieces(monkeypatch, folder):
    monkeypatch.setattr(sources, "CHUNK", 100)
    monkeypatch.setattr(dataset, "_KEPT", 20)
    (folder / "long.csv").write_text("a,b\n" + "".join(f"{i},{i}.5\n" for i in range(1000)))
    split = dataset.Split(sources.find("long.csv", stream=True), test=0.2, validation=0.1, seed=0)
    list(split.look())
    split.draw(Target("b"))
    rows = np.concatenate([piece.numbers("a") for piece in split.pieces("validation")])
    np.testing.assert_array_equal(np.bincount(rows.astype(int) // 100), [2] * 10)


WRONG_NOTES = [
    ("target.centre", "x"),
    ("target.scale", 0),
    ("target.classes", "abc"),
    ("target.classes", ["a", "b"]),
    ("target.classes", [1, 2, 3]),
    ("target", []),
    ("features", 1),
    ("features.0.name", 1),
    ("features.0.scale", None),
    ("features.0.missing", 1),
    ("features.0.more", 1),
    ("features.1.levels", ["red"]),
    ("features.1.levels", [None]),
    ("features.1", []),
]


@pytest.mark.parametrize(("place", "value"), WRONG_NOTES)
def test_invalid_notes_are_refused_in_one_line(capsys, place, value):
    assert main(["train", "kinds.csv", "--epochs", "2", "--ensemble", "1", "--net", "x-8-y", "--out", "net"]) == 0
    net = bp.load("net")
    notes = copy.deepcopy(net.notes)
    at = notes["microbp.table"]
    *path, last = place.split(".")
    for key in path:
        at = at[int(key) if isinstance(at, list) else key]
    at[int(last) if isinstance(at, list) else last] = value
    net.notes = notes
    net.save("net")
    capsys.readouterr()
    for command in (["predict", "net", "kinds.csv"], ["info", "net"]):
        assert main(command) == 1
        err = capsys.readouterr().err
        assert err.startswith("microbp: error: net: the notes on the columns (microbp.table) cannot be read") and err.count("\n") == 1


def test_info_describes_how_columns_become_features(capsys):
    with open("t.csv", "w", encoding="utf-8") as file:
        print("size,word,two,y", file=file)
        for i in range(80):
            print(f"{i % 7 + i / 100},{'abcd'[i % 4]}{i % 3},{'no' if i % 2 else 'yes'},{np.exp(i % 9)}", file=file)
    encoding = Encoding(bins=4, levels=0, hashed=6, clip=True, log=True)
    data = dataset.gather(dataset.Split(sources.find("t.csv")), encoding=lambda rows, columns, classifies: encoding)
    table_runs.begun(data).trainer.net.save("net")
    assert main(["info", "net"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"^predicts y, a number, scaled to \(log y - [\d.]+\) / [\d.]+, from the columns$", out, re.MULTILINE)
    assert re.search(r"^  size: a number, scaled to \(x - [\d.]+\) / [\d.]+, clipped, 4 bins$", out, re.MULTILINE)
    assert re.search(r"^  word: another value in 6 features$", out, re.MULTILINE)
    assert re.search(r"^  two: another value in 2 features$", out, re.MULTILINE)
