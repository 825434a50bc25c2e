"""The command line, in this process and as a separate program."""

from __future__ import annotations

import json
import resource
import struct
import subprocess
import sys
import time

import numpy as np
import pytest

import microbp as bp
from microbp.cli.main import main
from microbp.tables import recipe

pytest.importorskip("sklearn")


def report(capsys, *arguments):
    """The JSON object that a training run prints; it prints nothing else."""
    assert main(["train", "digits", "--json", *arguments]) == 0
    out, _ = capsys.readouterr()
    assert out.count("\n") == 1
    return json.loads(out)


def refusal(capsys, *arguments):
    """The error when `microbp train digits` refuses its arguments."""
    with pytest.raises(SystemExit) as exit_:
        main(["train", "digits", *arguments])
    out, err = capsys.readouterr()
    assert exit_.value.code == 2
    assert out == ""
    return err


def test_the_defaults_learn_the_digits_in_seconds(capsys):
    start = time.process_time()
    result = report(capsys)
    assert time.process_time() - start < 10
    known = ["task", "net", "networks", "linear_share", "parameters", "epochs", "best_epochs", "seconds", "rows_per_second"]
    assert list(result) == [*known, "train", "validation", "test", "intervals", "classes", "baseline", "warnings"]
    choices = recipe.choose(1294, 64, 10, True, has_bins=False)
    assert (result["task"], result["networks"], result["epochs"]) == ("digits", choices.ensemble, choices.epochs)
    assert result["net"] == "-".join(map(str, (64, *choices.hidden, 10)))
    assert result["test"]["accuracy"] >= 0.97
    for part in ("train", "validation", "test"):
        assert list(result[part]) == ["loss", "accuracy", "balanced_accuracy", "auc", "log_loss"]


def test_fast_runs_of_other_seeds_give_similar_accuracies(capsys):
    accuracies = [report(capsys, "--budget", "fast", "--seed", str(seed))["test"]["accuracy"] for seed in range(1, 4)]
    assert np.mean(accuracies) >= 0.96
    assert min(accuracies) >= 0.95


def test_the_same_seed_repeats_the_run(capsys):
    first, again, other = (report(capsys, "--budget", "fast", "--epochs", "2", "--seed", seed) for seed in "778")
    assert first["test"] == again["test"] != other["test"]


def test_options_reach_the_run(capsys):
    result = report(
        capsys, "--net", "64-20-20-10", "--activation", "leaky_relu(slope=0.2)", "--optimizer", "sgd_momentum(momentum=0.8)",
        "--lr", "0.05", "--epochs", "40", "--batch", "10", "--test", "0.5", "--ensemble", "1",
    )  # fmt: skip
    assert result["net"] == "64-20-20-10"
    assert result["parameters"] == 64 + 64 * 20 + 20 + 20 * 20 + 20 + 20 * 10 + 10  # the first 64: a factor for each input
    assert result["epochs"] == 40
    rows = 40 * 809 + result["best_epochs"][0] * 899  # of 1797 rows, 898 are for the test and 90 for validation
    assert result["rows_per_second"] == pytest.approx(rows / result["seconds"])
    assert result["test"]["accuracy"] > 0.9


@pytest.mark.parametrize("loss", ["mse", "huber(delta=0.5)", "poisson"])
def test_losses_for_numbers_classify_too(capsys, loss):
    result = report(capsys, "--loss", loss, "--epochs", "10", "--budget", "fast")
    for part in ("train", "validation", "test"):
        assert list(result[part]) == ["loss", "accuracy", "balanced_accuracy", "auc"]
    assert result["test"]["accuracy"] > 0.9


@pytest.mark.parametrize("loss", ["bce", "hinge"])
def test_other_losses_classify(capsys, loss):
    result = report(capsys, "--loss", loss, "--epochs", "40", "--budget", "fast")
    assert list(result["test"]) == ["loss", "accuracy", "balanced_accuracy", "auc", *["log_loss"] * (loss == "bce")]
    assert result["test"]["accuracy"] > 0.95


def test_train_writes_a_report_progress_a_network_and_a_picture(capsys, tmp_path):
    pytest.importorskip("matplotlib")
    net, picture = tmp_path / "digits.safetensors", tmp_path / "digits.png"
    assert main(["train", "digits", "--epochs", "3", "--ensemble", "1", "--out", str(net), "--plot", str(picture)]) == 0
    out, err = capsys.readouterr()
    assert all(word in out for word in ("loss", "accuracy", "rows per second", "3 epochs", str(net), str(picture)))
    assert len(out.splitlines()) <= 36
    assert "network 1 of 2  epoch 3/3" in err

    loaded = bp.load(net)
    assert loaded.outputs[0].activation == "softmax"
    assert main(["info", str(net)]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"{loaded}\npredicts digit, one of 0, 1, 2")
    assert shown.endswith("and 44 more\n")

    content = picture.read_bytes()
    assert content.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = struct.unpack(">II", content[16:24])
    assert width >= 900
    assert height >= 400


def test_drawing_does_not_change_matplotlib_settings(tmp_path):
    matplotlib = pytest.importorskip("matplotlib")
    before = dict(matplotlib.rcParams)
    assert main(["train", "digits", "--epochs", "1", "--budget", "fast", "--plot", str(tmp_path / "one.svg")]) == 0
    assert dict(matplotlib.rcParams) == before
    assert (tmp_path / "one.svg").read_text(encoding="utf-8").startswith("<?xml")


@pytest.mark.parametrize(
    ("arguments", "right"),
    [
        (["--net", "32-128-10"], "--net 64-128-10"),
        (["--net", "64-30-20-5"], "--net 64-30-20-10"),
        (["--net", "64"], "64-128-10"),
        (["--net", "64-x-10"], "64-128-10"),
        (["--net", "64-0-10"], "positive widths"),
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
        (["--test", "0.9999"], "use a smaller fraction"),
        (["--seed", "-1"], "at least 0"),
        (["--plot", "curves.bmp"], ".png"),
        (["--out", "no/such/folder/net.safetensors"], "create it first"),
    ],
)
def test_an_error_says_what_is_valid(capsys, arguments, right):
    assert right in refusal(capsys, *arguments).splitlines()[-1]


def test_an_unknown_data_set_is_refused(capsys):
    with pytest.raises(SystemExit) as exit_:
        main(["train", "digit"])
    assert exit_.value.code == 2
    assert "digits" in capsys.readouterr().err


def test_without_a_command_the_help_is_printed(capsys):
    with pytest.raises(SystemExit) as exit_:
        main([])
    out, err = capsys.readouterr()
    assert (exit_.value.code, err) == (0, "")
    assert out.startswith("usage: microbp COMMAND") and "lr-find" in out


def test_the_version_is_printed(capsys):
    with pytest.raises(SystemExit) as exit_:
        main(["--version"])
    assert (exit_.value.code, capsys.readouterr().out) == (0, f"microbp {bp.__version__}\n")


@pytest.mark.parametrize(("module", "arguments"), [("sklearn.datasets", []), ("matplotlib.figure", ["--plot", "curves.png"])])
def test_a_missing_package_is_reported_with_the_command_that_installs_it(capsys, monkeypatch, module, arguments):
    monkeypatch.delattr(bp, "plot", raising=False)  # imports it, where matplotlib is installed
    for name in [name for name in sys.modules if name.startswith("microbp.plot")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)
    assert main(["train", "digits", *arguments]) == 1
    assert "python -m pip install" in capsys.readouterr().err


def test_failures_are_reported_in_one_line(capsys, tmp_path):
    assert main(["info", str(tmp_path / "none.safetensors")]) == 1
    (tmp_path / "text").write_text("no network")
    assert main(["info", str(tmp_path / "text")]) == 1
    assert main(["train", "digits", "--lr", "1e30"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("microbp: error: ") == 3
    assert "Traceback" not in err
    assert "lower lr" in err


def test_python_m_microbp_runs(tmp_path):
    def program(*arguments):
        return subprocess.run([sys.executable, "-m", "microbp", *arguments], cwd=tmp_path, capture_output=True, text=True, timeout=120)

    trained = program("train", "digits", "--epochs", "2", "--budget", "fast", "--json", "--out", "net.safetensors")
    assert trained.returncode == 0, trained.stderr
    assert json.loads(trained.stdout)["epochs"] == 2
    assert (tmp_path / "net.safetensors").exists()
    assert program("train", "digits", "--epochs", "0").returncode == 2
    helped = program("train", "--help")
    assert helped.returncode == 0
    assert "default: cos_log, waves that end at 0" in " ".join(helped.stdout.split())


def test_help_is_fast():
    """Help does not import NumPy, which would take most of the time. The test measures processor time, because the machine may be busy."""
    for arguments in (["--help"], ["train", "--help"]):
        script = f"import sys, microbp.cli.main as cli\ntry: cli.main({arguments})\nexcept SystemExit: print('numpy' in sys.modules)"
        out = subprocess.run([sys.executable, "-P", "-c", script], capture_output=True, text=True, check=True, timeout=60).stdout
        assert out.splitlines()[-1] == "False", arguments
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-P", "-m", "microbp", "--help"], stdout=subprocess.DEVNULL, check=True, timeout=60)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.2
