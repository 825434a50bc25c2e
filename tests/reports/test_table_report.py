"""`microbp train --report`: the page of a run on a table, and when it is written."""

from __future__ import annotations

import csv
import html
import json
import os
import random
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from browser import View
from test_report import Rows, cells

import microbp as bp
from microbp.cli.main import main
from microbp.tables.fitted import runs

pytest.importorskip("matplotlib", reason="matplotlib is not installed")

EVIL = [
    "<script>alert(1)</script>",
    "quo\"te's & <b>",
    "年収入の合計と非常に長い名前の列" * 3,
    "Длинное_название_без_пробелов_" * 4,
    "العمر",
    "a" * 120,
]
CLASSES = ["<img src=x onerror=alert(1)>", 'да & "нет"', "クラス三番目の長い名前"]
QUICK = ("--budget", "fast", "--epochs", "4", "--ensemble", "2", "--report", "run.html")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(name: str, head: list[str], rows: list[list[object]]) -> None:
    with open(name, "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([head, *rows])


def evil(classes: list[str] = CLASSES) -> str:
    """A table with names that are code in HTML, long names, other scripts, and many columns."""
    draw, head = random.Random(0), [*EVIL, *(f"c{i}" for i in range(60))]
    rows = [[round(draw.gauss(0, 1), 3) for _ in head] for _ in range(400)]
    write("evil & <b>.csv", [*head, "tar<get>"], [[*row, classes[int(abs(row[0]) * 10) % len(classes)]] for row in rows])
    return "evil & <b>.csv"


def numbers() -> str:
    draw = random.Random(0)
    rows = [[draw.choice("abc"), round(draw.gauss(0, 1), 3), draw.choice(["2020-01-02", "2021-05-06", ""])] for _ in range(300)]
    write("numbers.csv", ["kind", "a", "when", "y"], [[*row, 1000 + 100 * row[1] + (row[0] == "a")] for row in rows])
    return "numbers.csv"


def page_of(*arguments: str) -> str:
    assert main(["train", *arguments]) == 0
    with open("run.html", encoding="utf-8") as file:
        return file.read()


@pytest.mark.parametrize("data", [evil, numbers, lambda: evil([f"class {i}" for i in range(30)]), lambda: "digits"])
def test_a_browser_finds_no_fault(data, folder, chromium):
    page = page_of(data(), *QUICK)
    assert "<script" not in page and "<img" not in page
    for width, dark in ((390, False), (390, True), (1200, False)):
        with View(chromium, page, width=width, dark=dark) as view:
            assert view.faults() == []
            assert view.page.locator("table:not(:has(th[scope]))").count() == 0


@pytest.mark.parametrize("data", [evil, numbers])
def test_numbers_are_those_of_the_printed_report(data, folder, capsys):
    page = page_of(data(), *QUICK, "--json")
    found, known = cells(page), json.loads(capsys.readouterr().out)
    for name, value in known["test"].items():
        if name != "log_loss":
            is_percent = "accuracy" in name
            assert found[name][0] == (f"{100 * value:.2f} %" if is_percent else f"{value:.4g}")
            if ends := known["intervals"].get(name):
                assert found[name][1] == " to ".join(f"{100 * end:.2f}" if is_percent else f"{end:.4g}" for end in ends) + " %" * is_percent
    assert len(found["rows"]) == 4
    assert all(html.escape(warning) in page for warning in known["warnings"])


def test_the_page_has_the_command_and_what_became_of_the_columns(folder):
    page = page_of(numbers(), *QUICK, "--drop", "kind", "--seed", "3")
    text = html.unescape(re.sub(r"<[^>]+>", "\n", page))
    command = next(line for line in text.splitlines() if line.startswith("microbp train"))
    assert shlex.split(command)[:3] == ["microbp", "train", "numbers.csv"]
    assert {"--drop", "kind", "--seed", "3", "--report", "run.html"} <= set(shlex.split(command))
    rows = {row[0]: row[1] for row in Rows(page[: page.index("Importance of columns")]).rows if len(row) == 2}
    assert rows["a"].startswith("a number") and rows["when"].startswith("a time, or missing") and "kind" not in rows
    assert rows["seed"] == "3" and rows["data"] == "numbers.csv"


def test_the_code_on_the_page_runs(folder):
    shell, python = (html.unescape(code) for code in re.findall(r"<code>([^<]*)</code>", page_of(numbers(), *QUICK))[-2:])
    words = shlex.split(shell)
    assert words[0] == "microbp"
    lines = subprocess.run([sys.executable, "-P", "-m", *words], capture_output=True, text=True, timeout=60).stdout.splitlines()
    (folder / "load.py").write_text(python)
    done = subprocess.run([sys.executable, "-P", "load.py"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and len(lines) == 301, done.stderr
    assert lines[1].split(",")[0].split(".")[0] in done.stdout


def test_importance_is_that_of_the_test_rows(folder):
    page = page_of(numbers(), *QUICK, "--split", "last")
    table = bp.load_table("numbers.safetensors")
    with open("numbers.csv", encoding="utf-8") as file:
        head, *rows = file.read().splitlines()
    (folder / "test.csv").write_text("\n".join([head, *rows[-60:]]))
    expected = table.importance("test.csv", repeats=3)
    found = {row[0]: row[1] for row in Rows(page[page.index("Importance of columns") :]).rows if len(row) == 2}
    assert found["a"] == f"{expected.importances_mean[1]:.3g} ± {expected.importances_std[1]:.1g}"


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["--report", "run.txt"], "argument --report: the file name must end in .html or .htm, not 'run.txt'"),
        (["--report", "no/run.html"], "argument --report: the directory of 'no/run.html' does not exist; create it first"),
        (["--report", "old.html"], "argument --report: 'old.html' exists; use --force to overwrite it"),
        (["--report", "a.html", "--out", "a.html"], "argument --report: 'a.html' is also the file of --out"),
    ],
)
def test_a_file_that_cannot_be_written_is_an_error_before_training(arguments, error, folder, capsys, monkeypatch):
    (folder / "old.html").write_text("old")
    monkeypatch.setattr(runs, "begin", None)
    with pytest.raises(SystemExit):
        main(["train", numbers(), *arguments])
    assert error in capsys.readouterr().err and (folder / "old.html").read_text() == "old"


def test_without_matplotlib_an_error_comes_before_training(folder, capsys, monkeypatch):
    for name in [name for name in sys.modules if name.startswith("microbp.plots")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    monkeypatch.setattr(runs, "begin", None)
    assert main(["train", "digits", "--report", "run.html"]) == 1
    assert "python -m pip install matplotlib" in capsys.readouterr().err


def test_an_interrupted_run_has_a_report_and_can_be_continued(folder, capsys, monkeypatch):
    data, fit = numbers(), runs.model.fit

    def interrupted(*arguments: object, **settings: object) -> None:
        fit(*arguments, **settings)
        raise KeyboardInterrupt

    monkeypatch.setattr(runs.model, "fit", interrupted)
    assert main(["train", data, *QUICK, "--checkpoint", "run.safetensors"]) == 130
    error = capsys.readouterr().err
    assert "wrote numbers.safetensors and run.html" in error and "--report run.html" in error
    assert "The training was stopped in network 1 of 2." in (folder / "run.html").read_text("utf-8")
    monkeypatch.undo()
    monkeypatch.chdir(folder)
    command = shlex.split(error[error.index("to continue: microbp ") :])[3:]
    assert main(command) == 0
    assert "was stopped" not in (folder / "run.html").read_text("utf-8")


@pytest.mark.parametrize(
    "more", [["--test", "0"], ["--ensemble", "1"], ["--stream"], ["--drop", "kind,when"], ["--epochs", "1"], ["--loss", "huber(delta=0.5)"]]
)
def test_runs_of_other_kinds(more, folder):
    page = page_of(numbers(), *QUICK, *more)
    assert page.count("<h2>") >= 6
    assert ("Predictions for the test rows" in page) == (more[0] != "--test")
    assert ("Importance of columns" in page) == (more[0] != "--drop")


def test_sparse_rows_have_a_report(folder):
    (folder / "rows.libsvm").write_text("".join(f"{i % 2} {1 + i % 7}:1 {9 + i % 5}:0.5\n" for i in range(200)))
    assert "<h2>Result</h2>" in page_of("rows.libsvm", *QUICK)


@pytest.mark.skipif(shutil.which("mpiexec", path=str(Path(sys.executable).parent)) is None, reason="mpiexec is not installed")
def test_under_mpiexec_the_first_process_writes_the_page(folder):
    pytest.importorskip("mpi4py", reason="mpi4py is not installed")
    mpiexec = shutil.which("mpiexec", path=str(Path(sys.executable).parent))
    words = [mpiexec, "-n", "2", sys.executable, "-P", "-m", "microbp", "train", numbers(), *QUICK]
    done = subprocess.run(words, env=os.environ | {"MICROBP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    page = (folder / "run.html").read_text("utf-8")
    assert "mpiexec -n 2 microbp train numbers.csv" in page and sorted(path.suffix for path in folder.iterdir()) == [
        ".csv",
        ".html",
        ".safetensors",
    ]
