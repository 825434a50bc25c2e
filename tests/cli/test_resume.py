"""`microbp train --checkpoint` and `--resume`: a stopped and resumed run gives the result of an uninterrupted one."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys

import pytest

import microbp as bp
from microbp.cli.main import main

TABLE = "size,colour,price\n" + "".join(f"{i + 5},{'red' if i % 3 else 'blue'},{i * i % 17}.5\n" for i in range(200))

RUNS = [
    ["digits", "--epochs", "9"],
    ["table.csv", "--epochs", "12", "--patience", "6", "--dropout", "0.2", "--seed", "5"],
    ["table.csv", "--target", "colour", "--loss", "bce", "--epochs", "12", "--schedule", "constant", "--optimizer", "sgd_momentum"],
    [
        "table.csv",
        "--target",
        "colour",
        "--epochs",
        "12",
        "--schedule",
        "warmup(schedule=cosine(lr=0.01),steps=40)",
        "--drop",
        "price",
        "--test",
        "0.3",
    ],
    ["table.csv", "--stream", "--epochs", "12", "--batch", "7", "--test-file", "table.csv", "--activation", "tanh", "--lr", "auto"],
]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "table.csv").write_text(TABLE)
    return tmp_path


def stop_after(monkeypatch, epochs):
    """Ctrl-C at the end of an epoch."""
    seen = []

    def show(*arguments):
        seen.append(1)
        if len(seen) == epochs:
            raise KeyboardInterrupt

    monkeypatch.setattr("microbp.training.loop.progress.ProgressLine.show", show)


def scores(capsys, *arguments, code=0):
    """The report without times."""
    assert main([*arguments, "--json"]) == code
    out, err = capsys.readouterr()
    report = json.loads(out)
    return {name: value for name, value in report.items() if name not in ("seconds", "rows_per_second")}, err


@pytest.mark.parametrize("run", RUNS, ids=" ".join)
@pytest.mark.parametrize("epochs", [1, 7])
def test_a_stopped_and_resumed_run_gives_the_same_result(capsys, monkeypatch, folder, run, epochs):
    whole, _ = scores(capsys, "train", *run, "--out", "whole.safetensors")
    with monkeypatch.context() as patch:
        stop_after(patch, epochs)
        cut, err = scores(capsys, "train", *run, "--out", "cut.safetensors", "--checkpoint", "run.safetensors", code=130)
    assert cut["epochs"] == epochs
    program, *resume = shlex.split(err.splitlines()[-1].partition("to continue: ")[2])
    assert [program, *resume] == [
        "microbp",
        "train",
        run[0],
        "--resume",
        "run.safetensors",
        "--out",
        "cut.safetensors",
        "--force",
        "--json",
    ]
    for _ in range(2):  # the second time, no epochs remain
        assert scores(capsys, *resume[:-1])[0] == whole
        assert (folder / "cut.safetensors").read_bytes() == (folder / "whole.safetensors").read_bytes()
    assert len(bp.Trainer.load("run.safetensors").history["loss"]) == whole["epochs"]


@pytest.mark.skipif(os.name != "posix", reason="signals need POSIX")
def test_a_killed_run_continues_from_its_last_checkpoint(capsys, folder):
    script = """
import os, signal, sys
from datetime import timedelta
from microbp.cli import main as cli, train as train_command
from microbp.training.loop import progress
train_command._EVERY = timedelta(microseconds=1)
show = progress.ProgressLine.show
progress.ProgressLine.show = lambda *a: os.kill(os.getpid(), signal.SIGKILL) if a[2] == 6 else show(*a)
cli.main(sys.argv[1:])
"""
    run = ["train", "table.csv", "--epochs", "9"]
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
    scores(capsys, "train", "table.csv", "--epochs", "2", "--checkpoint", "run.safetensors")
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
