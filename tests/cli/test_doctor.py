"""`microbp doctor`: faults of the table, then of the first network; a command line that mends each."""

import json
import shlex

import numpy as np
import pytest

from microbp.cli.main import main

BASE = ["--target", "y", "--budget", "fast"]


@pytest.fixture
def table(tmp_path, monkeypatch):
    """A table with a column twice, one that is constant, and one that gives the target away."""
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    a, b = random.normal(size=(2, 300)).round(3)
    columns = {"a": a, "b": b, "again": b, "same": np.ones(300), "leak": (a + b > 0) * 3 + 1, "y": np.where(a + b > 0, "yes", "no")}
    rows = [",".join(columns), *(",".join(map(str, row)) for row in zip(*columns.values(), strict=True))]
    (tmp_path / "t.csv").write_text("\n".join(rows) + "\n")
    return columns


def findings(capsys, *arguments):
    assert main(["doctor", "t.csv", *BASE, *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)["findings"]


def test_faults_of_the_table_are_found_and_mended(capsys, table):
    found = findings(capsys)
    assert [(one["name"], one["severity"]) for one in found][:1] == [("table", "warning")] and "'leak'" in found[0]["text"]
    places = {one["name"]: one["where"] for one in found if one["severity"] == "note"}
    assert places["duplicate_columns"] == "column 'again'"
    for one in found:
        words = shlex.split(one["fix"])
        assert words[:3] == ["microbp", "train", "t.csv"] and "--drop" in words
    dropped = ",".join(shlex.split(one["fix"])[shlex.split(one["fix"]).index("--drop") + 1] for one in found)
    assert findings(capsys, "--drop", dropped) == []


def test_a_wrong_rate_is_found_and_mended(capsys, table):
    found = findings(capsys, "--drop", "leak,again,same", "--lr", "1000")
    assert found[0]["name"] == "rate" and found[0]["where"] == "--lr"
    words = shlex.split(found[0]["fix"])
    assert words[-2:] == ["--lr", "auto"] and words.count("--lr") == 1
    assert findings(capsys, "--drop", "leak,again,same", "--lr", "auto") == []


def test_the_text_says_what_was_checked(capsys, table):
    assert main(["doctor", "t.csv", *BASE, "--drop", "leak,again,same"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("nothing found\nchecked: not_finite, labels,") and "memorising" in out and max(map(len, out.splitlines())) <= 100


def test_streams_and_sparse_rows(capsys, table, tmp_path):
    assert {one["name"] for one in findings(capsys, "--stream")} >= {"duplicate_columns"}
    random = np.random.default_rng(1)
    lines = [f"{int(x[0] > 0)} " + " ".join(f"{j + 1}:{value:.3f}" for j, value in enumerate(x)) for x in random.normal(size=(200, 4))]
    (tmp_path / "s.svm").write_text("\n".join(lines) + "\n")
    assert main(["doctor", "s.svm", "--budget", "fast"]) == 0
    assert "checked: " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["missing.csv"], 2, "missing.csv"),
        (["t.csv", "--target", "z"], 2, "--target"),
        (["t.csv", "--lr", "fast"], 2, "--lr"),
        (["t.csv", "--out", "x"], 2, "unknown option '--out'"),
    ],
)
def test_wrong_usage(capsys, table, arguments, code, text):
    try:
        found = main(["doctor", *arguments])
    except SystemExit as end:
        found = end.code
    assert found == code and text in capsys.readouterr().err
