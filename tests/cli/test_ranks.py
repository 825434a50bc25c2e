"""The command line as one of several processes: what it refuses, and who prints."""

from __future__ import annotations

import pytest

from microbp.cli import main as cli
from microbp.ranks.failing import mark_as_told


@pytest.fixture
def run(capfd, monkeypatch):
    def run(rank, *arguments):
        monkeypatch.setattr(cli, "_RANK", rank)
        monkeypatch.setattr(cli, "_RANKS", 4)
        try:
            code = cli.main([*arguments])
        except SystemExit as exit_:
            code = exit_.code
        return code, *capfd.readouterr()

    return run


@pytest.mark.parametrize("command", ["predict", "evaluate", "info", "explain-columns", "lr-find", "export"])
def test_other_commands_run_in_one_process(run, command):
    arguments = {"export": ("m", "m.onnx"), "info": ("m",), "lr-find": ("d.csv",)}.get(command, ("m", "d.csv"))
    text = f"microbp: error: {command} runs in one process, but mpiexec has started 4; start it without mpiexec\n"
    assert run(0, command, *arguments) == (2, "", text)
    assert run(3, command, *arguments) == (2, "", "")


def test_only_rank_0_prints_help_and_wrong_options(run):
    assert run(0, "--help")[1] and run(1, "--help") == (0, "", "")
    assert "--epochs" in run(0, "train", "x.csv", "--epochs", "no")[2]
    assert run(1, "train", "x.csv", "--epochs", "no") == (2, "", "")


@pytest.mark.parametrize(
    ("error", "failed", "prints", "code"),
    [
        (ValueError("row 3 is odd"), None, 0, 1),  # the same on all ranks
        (ValueError("row 3 is odd"), 2, 2, 1),  # of rank 2
        (RuntimeError("rank 2 failed: ValueError: row 3 is odd"), 2, None, 1),  # of the others
        (RuntimeError("rank 2 failed: KeyboardInterrupt: "), 2, None, 130),
        (RuntimeError("rank 2 failed: ArgumentError: drop: no"), 2, None, 2),
        (KeyboardInterrupt(), 2, 2, 130),
    ],
)
def test_one_rank_tells_of_an_error(run, monkeypatch, error, failed, prints, code):
    if failed is not None:
        mark_as_told(error, failed)

    def fail():
        raise error

    monkeypatch.setattr("microbp.cli.commands.train.started", fail)
    for rank in [failed] if prints == failed is not None else range(4):
        found, out, err = run(rank, "train", "x.csv")
        text = f"microbp: error: {str(error) or 'interrupted'}\n"
        assert (found, out, err) == (code, "", text if rank == prints else ""), rank


def test_an_error_that_not_all_know_of_is_raised(run, monkeypatch):
    monkeypatch.setattr("microbp.cli.commands.train.started", lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run(0, "train", "x.csv")
