"""The command line, in this process and as a program of its own."""

from __future__ import annotations

import json
import os
import resource
import signal
import struct
import subprocess
import sys

import numpy as np
import pytest

import microbp as bp
from microbp.cli.main import main

pytest.importorskip("sklearn")


def report(capsys, *arguments):
    """The JSON object that a training run prints, and nothing else."""
    assert main(["train", "digits", "--json", *arguments]) == 0
    out, _ = capsys.readouterr()
    assert out.count("\n") == 1
    return json.loads(out)


def refusal(capsys, *arguments):
    """The message with which `microbp train digits` refuses its arguments."""
    with pytest.raises(SystemExit) as exit_:
        main(["train", "digits", *arguments])
    out, err = capsys.readouterr()
    assert exit_.value.code == 2
    assert out == ""
    return err


def test_the_defaults_learn_the_digits_at_once(capsys):
    told = report(capsys)
    assert list(told) == ["task", "net", "parameters", "epochs", "seconds", "rows_per_second", "train", "validation", "test"]
    assert (told["task"], told["net"], told["parameters"], told["epochs"]) == ("digits", "64-128-10", 9610, 100)
    assert told["test"]["accuracy"] >= 0.97
    assert told["seconds"] < 2
    assert told["rows_per_second"] == pytest.approx(100 * 1294 / told["seconds"])
    for part in ("train", "validation", "test"):
        assert list(told[part]) == ["loss", "accuracy"]


def test_most_seeds_do_as_well(capsys):
    accuracies = [report(capsys, "--seed", str(seed))["test"]["accuracy"] for seed in range(1, 9)]
    assert np.mean(accuracies) >= 0.975
    assert min(accuracies) >= 0.96


def test_a_seed_repeats_the_run(capsys):
    first, again, other = (report(capsys, "--epochs", "2", "--seed", seed) for seed in "778")
    assert first["test"] == again["test"] != other["test"]


def test_options_reach_the_run(capsys):
    told = report(
        capsys, "--net", "64-20-20-10", "--activation", "leaky_relu(slope=0.2)", "--optimizer", "sgd_momentum(momentum=0.8)",
        "--lr", "0.05", "--epochs", "20", "--batch", "10", "--test", "0.5",
    )  # fmt: skip
    assert told["net"] == "64-20-20-10"
    assert told["parameters"] == 64 * 20 + 20 + 20 * 20 + 20 + 20 * 10 + 10
    assert told["epochs"] == 20
    assert told["rows_per_second"] == pytest.approx(20 * 809 / told["seconds"])  # of 1797 rows 898 test and 90 validate
    assert told["test"]["accuracy"] > 0.9


@pytest.mark.parametrize("loss", ["mse", "huber(delta=0.5)", "poisson"])
def test_a_loss_of_regression_reports_its_measures(capsys, loss):
    told = report(capsys, "--loss", loss, "--epochs", "30")
    for part in ("train", "validation", "test"):
        assert {"loss", "rmse", "r2"} <= set(told[part])
    assert told["test"]["r2"] > 0.7
    if loss == "mse":
        assert told["test"]["rmse"] ** 2 == pytest.approx(told["test"]["loss"], rel=1e-4)


@pytest.mark.parametrize("loss", ["bce", "hinge"])
def test_other_losses_classify(capsys, loss):
    told = report(capsys, "--loss", loss)
    assert list(told["test"]) == ["loss", "accuracy"]
    assert told["test"]["accuracy"] > 0.95


def test_the_report_progress_file_and_picture(capsys, tmp_path):
    pytest.importorskip("matplotlib")
    net, picture = tmp_path / "digits.safetensors", tmp_path / "digits.png"
    assert main(["train", "digits", "--epochs", "3", "--out", str(net), "--plot", str(picture)]) == 0
    out, err = capsys.readouterr()
    assert all(word in out for word in ("loss", "accuracy", "rows per second", "3 epochs", str(net), str(picture)))
    assert len(out.splitlines()) <= 20
    assert "epoch 3/3" in err

    loaded = bp.load(net)
    assert loaded.outputs[0].activation == "softmax"
    assert main(["info", str(net)]) == 0
    told = capsys.readouterr().out
    assert told.startswith(f"{loaded}\npredicts digit: 0, 1, 2")
    assert told.endswith("and 44 columns more\n")

    content = picture.read_bytes()
    assert content.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = struct.unpack(">II", content[16:24])
    assert width >= 900
    assert height >= 400


def test_drawing_leaves_matplotlib_as_it_was(tmp_path):
    matplotlib = pytest.importorskip("matplotlib")
    before = dict(matplotlib.rcParams)
    assert main(["train", "digits", "--epochs", "1", "--plot", str(tmp_path / "one.svg")]) == 0
    assert dict(matplotlib.rcParams) == before
    assert (tmp_path / "one.svg").read_text(encoding="utf-8").startswith("<?xml")


@pytest.mark.parametrize(
    ("arguments", "right"),
    [
        (["--net", "32-128-10"], "--net 64-128-10"),
        (["--net", "64-30-20-5"], "--net 64-30-20-10"),
        (["--net", "64"], "64-128-10"),
        (["--net", "64-x-10"], "64-128-10"),
        (["--net", "64-0-10"], "at least 1"),
        (["--activation", "rleu"], "did you mean 'relu'"),
        (["--activation", "softmax"], "cross_entropy"),
        (["--loss", "entropy"], "cross_entropy"),
        (["--optimizer", "adm"], "did you mean 'adam'"),
        (["--optimizer", "adam(lr=-1)"], "[0,inf)"),
        (["--lr", "0"], "positive"),
        (["--lr", "nan"], "positive"),
        (["--epochs", "0"], "at least 1"),
        (["--epochs", "1.5"], "whole number"),
        (["--batch", "-3"], "at least 1"),
        (["--test", "1"], "between 0 and 1"),
        (["--test", "0.9999"], "choose less"),
        (["--seed", "-1"], "at least 0"),
        (["--plot", "curves.bmp"], ".png"),
        (["--out", "no/such/folder/net.safetensors"], "make it first"),
    ],
)
def test_a_wrong_value_is_refused_with_what_is_right(capsys, arguments, right):
    assert right in refusal(capsys, *arguments).splitlines()[-1]


def test_an_unknown_task_or_no_command_is_refused(capsys):
    for arguments in (["train", "digit"], []):
        with pytest.raises(SystemExit) as exit_:
            main(arguments)
        assert exit_.value.code == 2
    assert "digits" in capsys.readouterr().err


@pytest.mark.parametrize(("module", "arguments"), [("sklearn.datasets", []), ("matplotlib.figure", ["--plot", "curves.png"])])
def test_a_missing_package_is_told_with_the_line_that_installs_it(capsys, monkeypatch, module, arguments):
    monkeypatch.delitem(sys.modules, "microbp.plot", raising=False)
    monkeypatch.delattr(bp, "plot", raising=False)
    monkeypatch.setitem(sys.modules, module, None)
    assert main(["train", "digits", *arguments]) == 1
    assert "python -m pip install" in capsys.readouterr().err


def test_failures_are_told_in_a_line(capsys, tmp_path):
    assert main(["info", str(tmp_path / "none.safetensors")]) == 1
    (tmp_path / "text").write_text("no network")
    assert main(["info", str(tmp_path / "text")]) == 1
    assert main(["train", "digits", "--lr", "1e30"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("microbp: error: ") == 3
    assert "Traceback" not in err
    assert "lower lr" in err


def test_as_a_program(tmp_path):
    def program(*arguments):
        return subprocess.run([sys.executable, "-m", "microbp", *arguments], cwd=tmp_path, capture_output=True, text=True, timeout=120)

    trained = program("train", "digits", "--epochs", "2", "--json", "--out", "net.safetensors")
    assert trained.returncode == 0, trained.stderr
    assert json.loads(trained.stdout)["epochs"] == 2
    assert (tmp_path / "net.safetensors").exists()
    assert program("train", "digits", "--epochs", "0").returncode == 2
    helped = program("train", "--help")
    assert helped.returncode == 0
    assert "default: 64-128-10" in " ".join(helped.stdout.split())


def test_help_comes_at_once():
    """Without NumPy, which would take most of the time; processor time, for the machine may do other things as well."""
    script = "import sys, microbp.cli.main as cli\ntry: cli.main(['train', '--help'])\nexcept SystemExit: print('numpy' in sys.modules)"
    out = subprocess.run([sys.executable, "-P", "-c", script], capture_output=True, text=True, check=True, timeout=60).stdout
    assert out.splitlines()[-1] == "False"
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-P", "-m", "microbp", "--help"], stdout=subprocess.DEVNULL, check=True, timeout=60)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.2


@pytest.mark.skipif(os.name != "posix", reason="signals are POSIX's")
def test_ctrl_c_saves_what_there_is(tmp_path):
    (tmp_path / "x.csv").write_text("a,b\n" + "".join(f"{i % 97},{i % 7}.5\n" for i in range(2000)))
    command = [sys.executable, "-m", "microbp", "train", "x.csv", "--epochs", "1000000"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stderr.read(5) == b"epoch"
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert b"wrote x.safetensors" in err.splitlines()[-1]
    assert bp.load(tmp_path / "x.safetensors").notes
