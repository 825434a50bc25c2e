"""`microbp train --checkpoint` and `--resume`: a stopped and resumed run gives the result of an uninterrupted one."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys

import pytest

import microbp as bp
from microbp.cli.commands import train
from microbp.cli.main import main
from microbp.tables.fitted import runs

TABLE = "size,colour,price\n" + "".join(f"{i + 5},{'red' if i % 3 else 'blue'},{i * i % 17}.5\n" for i in range(200))

NET = ["--net", "x-8-y"]
RUNS = [  # options, and the number of networks
    ("digits --epochs 2 --budget fast --dropout 0 --net x-16-y", 2),
    ("table.csv --epochs 6 --patience 2 --dropout 0.2 --seed 5 --ensemble 3 --lr 0.3 --net x-8-y", 3),
    ("table.csv --target colour --loss bce --epochs 4 --schedule constant --optimizer adamw --decay 0 --ensemble 1 --net x-8-y", 2),
    ("table.csv --target colour --epochs 3 --schedule warmup(schedule=cosine(lr=0.01),steps=40) --drop price --test 0.3 --net x-8-y", 4),
    ("table.csv --epochs 4 --schedule reduce_on_plateau(lr=0.1,patience=1) --net x-8-y --optimizer sgd_momentum --ensemble 2", 2),
    ("table.csv --stream --epochs 3 --batch 7 --test-file table.csv --activation tanh --lr auto --net x-8-y", 2),
    ("table.csv --target colour --split time:size --class-weight balanced --epochs 3 --ensemble 2 --net x-8-y", 2),
]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "table.csv").write_text(TABLE)
    return tmp_path


def stop_after(monkeypatch, epochs, error=KeyboardInterrupt):
    """Ctrl-C, or another error, at the end of an epoch."""
    seen = []

    def show(*arguments):
        seen.append(1)
        if len(seen) == epochs:
            raise error

    monkeypatch.setattr("microbp.training.loop.records.progress.ProgressLine.show", show)


def scores(capsys, *arguments, code=0):
    """The report without times."""
    assert main([*arguments, "--json"]) == code
    out, err = capsys.readouterr()
    report = json.loads(out)
    return {name: value for name, value in report.items() if name not in ("seconds", "rows_per_second")}, err


@pytest.mark.parametrize(("run", "networks"), RUNS, ids=[run for run, _ in RUNS])
def test_a_run_that_is_stopped_after_any_epoch_and_resumed_gives_the_same_result(capsys, monkeypatch, folder, run, networks):
    run = run.split()
    shown = []
    with monkeypatch.context() as patch:
        patch.setattr("microbp.training.loop.records.progress.ProgressLine.show", lambda *arguments: shown.append(arguments))
        whole, _ = scores(capsys, "train", *run, "--out", "whole.safetensors")
    is_large = run[0] == "digits"  # for the budget: a linear model would take too much of it
    assert (whole["linear_share"] > 0.1) == ("--ensemble" not in run and "--stream" not in run and not is_large)
    expected = (folder / "whole.safetensors").read_bytes()
    for epochs in range(1, len(shown) + 1):
        with monkeypatch.context() as patch:
            stop_after(patch, epochs)
            cut, err = scores(capsys, "train", *run, "--out", "cut.safetensors", "--checkpoint", "run", "--force", code=130)
        assert cut["epochs"] == min(epochs, whole["epochs"])
        assert re.search(rf"interrupted after \d+ epochs? of network \d of {networks}; wrote cut.safetensors; to continue: ", err)
        program, *resume = shlex.split(err.splitlines()[-1].partition("to continue: ")[2])
        assert [program, *resume] == f"microbp train {run[0]} --resume run --out cut.safetensors --force --json".split()
        for _ in range(1 + (epochs == len(shown))):  # the second time, no epochs remain
            assert scores(capsys, *resume[:-1])[0] == whole
            assert (folder / "cut.safetensors").read_bytes() == expected


@pytest.mark.parametrize("networks", [1, 2, 3])
@pytest.mark.parametrize("place", ["finish", "save_members", "build"])
def test_a_run_that_is_stopped_between_two_networks_gives_the_same_result(capsys, monkeypatch, folder, networks, place):
    """Ctrl-C at the end of a network, while its result is saved, and while the next one is built."""
    run = ["train", "table.csv", "--epochs", "3", "--ensemble", "4", *NET]
    whole, _ = scores(capsys, *run, "--out", "whole.safetensors")
    owner = {"finish": runs.TableRun, "save_members": train, "build": runs}[place]
    function, calls = getattr(owner, place), []

    def stops(*arguments):
        calls.append(1)
        if len(calls) == networks + (place != "finish"):
            raise KeyboardInterrupt
        return function(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(owner, place, stops)
        cut, _ = scores(capsys, *run, "--out", "cut.safetensors", "--checkpoint", "run", code=130)
    assert cut["networks"] == networks - (networks == 2 and place != "save_members")  # a second of a pair counts when it is complete
    assert scores(capsys, "train", "table.csv", "--resume", "run", "--out", "cut.safetensors", "--force")[0] == whole
    assert (folder / "cut.safetensors").read_bytes() == (folder / "whole.safetensors").read_bytes()


@pytest.mark.parametrize("error", [KeyboardInterrupt(), FloatingPointError("the loss is nan"), OSError(28, "No space left on device")])
@pytest.mark.parametrize(("epochs", "networks"), [(2, 1), (4, 1), (6, 1), (8, 3), (11, 3)])
def test_the_networks_that_are_done_are_saved_if_a_later_one_fails(capsys, monkeypatch, folder, error, epochs, networks):
    monkeypatch.setattr("microbp.training.loop.stopping.Stopping.restore", lambda self: None)  # so that all networks have 3 epochs
    stop_after(monkeypatch, epochs, error)
    code = 130 if isinstance(error, KeyboardInterrupt) else 1
    cut, err = scores(capsys, "train", "table.csv", "--epochs", "3", "--ensemble", "4", *NET, "--out", "net", code=code)
    assert cut["networks"] == networks
    assert "wrote net" in err or code == 1
    model = bp.load_table("net")
    assert len(model.net) == networks if networks > 1 else isinstance(model.net, bp.Network)
    assert model.predict("table.csv").shape == (200,)


@pytest.mark.parametrize("damage", ["missing", "damaged", "another run", "too few", "one ahead"])
def test_the_file_of_the_networks_that_are_done_is_checked(capsys, monkeypatch, folder, damage):
    run = ["train", "table.csv", "--epochs", "2", "--ensemble", "4", *NET]
    whole, _ = scores(capsys, *run, "--out", "whole.safetensors")
    with monkeypatch.context() as patch:
        stop_after(patch, 5)
        scores(capsys, *run, "--out", "cut.safetensors", "--checkpoint", "run", code=130)
    path = folder / "run.networks"
    done = bp.Ensemble.load(path)
    assert len(done) == 2
    if damage == "missing":
        path.unlink()
    elif damage == "damaged":
        path.write_bytes(path.read_bytes()[:-9] + bytes(9))
    elif damage == "another run":
        bp.Ensemble([bp.mlp([3, 2], seed=0), bp.mlp([3, 2], seed=0)]).save(path)
    else:
        bp.Ensemble(done[:1] if damage == "too few" else [*done, done[0]]).save(path)
    arguments = ["train", "table.csv", "--resume", "run", "--out", "cut.safetensors", "--force"]
    if damage == "one ahead":  # killed after saving it, before the first checkpoint of the next network
        assert scores(capsys, *arguments)[0] == whole
        assert (folder / "cut.safetensors").read_bytes() == (folder / "whole.safetensors").read_bytes()
        return
    assert main(arguments) == 1
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1) and "run.networks" in err


def test_the_file_of_the_networks_that_are_done_is_no_other_file(capsys, folder):
    (folder / "run.networks").mkdir()
    (folder / "b.networks").write_text(TABLE)
    for arguments, expected in (
        (["table.csv", "--checkpoint", "run"], "argument --checkpoint: 'run.networks' is a directory"),
        (["b.networks", "--checkpoint", "b"], "argument --checkpoint: 'b.networks' is also an input file"),
        (["table.csv", "--checkpoint", "c", "--out", "c.networks"], "argument --checkpoint: 'c.networks' is also the file of --out"),
    ):
        with pytest.raises(SystemExit):
            main(["train", *arguments])
        assert expected in capsys.readouterr().err


@pytest.mark.skipif(os.name != "posix", reason="signals need POSIX")
def test_a_killed_run_continues_from_its_last_checkpoint(capsys, folder):
    script = """
import os, signal, sys
from datetime import timedelta
from microbp.cli import main as cli
from microbp.cli.commands import train as train_command
from microbp.training.loop.records import progress
train_command._EVERY = timedelta(microseconds=1)
show = progress.ProgressLine.show
progress.ProgressLine.show = lambda *a: os.kill(os.getpid(), signal.SIGKILL) if a[2] == 6 else show(*a)
cli.main(sys.argv[1:])
"""
    run = ["train", "table.csv", "--epochs", "9", *NET]
    scores(capsys, *run, "--out", "whole.safetensors")
    command = [sys.executable, "-P", "-c", script, *run, "--out", "cut.safetensors", "--checkpoint", "run.safetensors"]
    assert subprocess.run(command, cwd=folder, timeout=60, stderr=subprocess.DEVNULL).returncode == -signal.SIGKILL
    assert bp.Trainer.load("run.safetensors").epoch == 6
    scores(capsys, "train", "table.csv", "--resume", "run.safetensors", "--out", "cut.safetensors")
    assert (folder / "cut.safetensors").read_bytes() == (folder / "whole.safetensors").read_bytes()


def test_a_run_that_cannot_be_resumed_is_refused_in_one_line(capsys, folder):
    (folder / "shorter.csv").write_text(TABLE[: TABLE.index("155,")])
    (folder / "other.csv").write_text(TABLE.replace("size", "length"))
    (folder / "changed.csv").write_text(TABLE.replace("\n12,red,15.5", "\n12,red,14.5"))
    (folder / "cell.csv").write_text(TABLE.replace("\n12,red,15.5", "\n13,red,15.5"))
    (folder / "more.csv").write_text("\n".join(f"{line},x" for line in TABLE.split()))
    bp.mlp([3, 2], seed=0).save("net.safetensors")
    trainer = bp.Trainer(bp.mlp([3, 2], seed=0), "mse")
    trainer.save("trainer.safetensors")
    trainer.net.notes = {"microbp.run": {}, "microbp.table": {}}
    trainer.save("hostile.safetensors")
    scores(capsys, "train", "table.csv", "--epochs", "2", *NET, "--checkpoint", "run.safetensors")
    before = (folder / "run.safetensors").read_bytes()
    for arguments, code, expected in [
        (["table.csv", "--resume", "run.safetensors", "--lr", "0.1"], 2, "argument --lr: cannot be changed when resuming; omit it"),
        (["table.csv", "--resume", "run.safetensors", "--epochs", "9"], 2, "argument --epochs"),
        (
            ["shorter.csv", "--resume", "run.safetensors"],
            1,
            "has 108 training rows, but the run of run.safetensors had 144; use the same data",
        ),
        (["other.csv", "--resume", "run.safetensors"], 1, "missing column size, used in training"),
        (
            ["changed.csv", "--resume", "run.safetensors"],
            1,
            "changed.csv: its columns or cells are not those of the run of run.safetensors; use the same data",
        ),
        (["cell.csv", "--resume", "run.safetensors"], 1, "cell.csv: its columns or cells are not those"),
        (["more.csv", "--resume", "run.safetensors"], 1, "more.csv: its columns or cells are not those"),
        (["table.csv", "--resume", "net.safetensors"], 1, "is a network, not a checkpoint; --resume needs a file written by --checkpoint"),
        (["table.csv", "--resume", "table.csv"], 1, "not a microbp file, or cut short"),
        (["table.csv", "--resume", "trainer.safetensors"], 1, "not a microbp train checkpoint; use bp.Trainer.load"),
        (["table.csv", "--resume", "hostile.safetensors"], 1, "not a microbp train checkpoint; use bp.Trainer.load"),
        (["table.csv", "--resume", "none.safetensors"], 1, "no such file"),
        (["table.csv", "--checkpoint", "run.safetensors"], 2, "use --resume to continue its run, or --force to overwrite it"),
        (["table.csv", "--checkpoint", "no/run.safetensors"], 2, "create it first"),
    ]:
        try:
            returned = main(["train", *arguments])
        except SystemExit as exit_:
            returned = exit_.code
        out, err = capsys.readouterr()
        assert (returned, out, err.count("\n")) == (code, "", 1), err
        assert expected in err
    assert (folder / "run.safetensors").read_bytes() == before
