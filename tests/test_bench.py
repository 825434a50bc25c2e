"""Every benchmark for asv runs once, a short comparison and a short race run, and each script has a help. asv itself starts a process for
each benchmark, so one test runs a few of them in asv (with tests/long, all)."""

from __future__ import annotations

import csv
import gzip
import importlib
import json
import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import cases
import numpy as np
import pytest

BENCH = Path(__file__).parent.parent / "bench"
SCRIPTS = [path for path in sorted([*BENCH.glob("*.py"), *BENCH.glob("*/*.py")]) if "__main__" in path.read_text(encoding="utf-8")]
MODULES = sorted(path.stem for path in (BENCH / "benchmarks").glob("*.py") if path.stem not in ("__init__", "common"))
CC = shutil.which(os.environ.get("CC", "cc"))


def run(*command: object, home: Path) -> str:
    """Runs a command that must succeed; returns its output. home: the folder in which asv describes the machine."""
    words = [sys.executable, *map(str, command)]
    done = subprocess.run(words, cwd=home, env=os.environ | {"HOME": str(home)}, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_asv_runs_benchmarks(tmp_path):
    """asv measures the installed package and writes only to the temporary folder."""
    pytest.importorskip("asv", reason="asv is not installed")
    settings = json.loads((BENCH / "asv.conf.json").read_text(encoding="utf-8"))
    settings |= {name: str(tmp_path / name) for name in ("env_dir", "results_dir", "html_dir")}
    settings |= {"repo": str(BENCH.parent), "benchmark_dir": str(BENCH / "benchmarks")}
    config = tmp_path / "asv.conf.json"
    config.write_text(json.dumps(settings), encoding="utf-8")

    def call(command: str, *arguments: str) -> str:
        return run("-m", "asv", command, "--config", config, *arguments, home=tmp_path)

    call("machine", "--yes")
    assert "No problems found" in call("check", "--python=same")
    out = call("run", "--python=same", "--quick", "--show-stderr", *([] if cases.LONG else ["--bench", "package|network"]))
    assert "failed" not in out
    for module in MODULES if cases.LONG else ("package", "network"):
        assert f" {module}." in out


@pytest.mark.parametrize("module", MODULES)
def test_every_benchmark_runs(module, monkeypatch):
    """Calls each benchmark as asv does, but in this process and once for each value of its parameters."""

    def once(work, count):
        work()
        return 1.0

    monkeypatch.syspath_prepend(BENCH)
    monkeypatch.setattr("benchmarks.formulas.fastest", once)
    classes = [kind for kind in vars(importlib.import_module(f"benchmarks.{module}")).values() if isinstance(kind, type)]
    calls = [(kind, name) for kind in classes for name in dir(kind) if name.startswith(("time", "track_", "peakmem_"))]
    assert calls
    for kind, name in calls:
        lists = getattr(kind, "params", ())
        for i in range(max(map(len, lists), default=1)):
            benchmark, row = kind(), [values[i % len(values)] for values in lists]
            getattr(benchmark, "setup", lambda *_: None)(*row)
            result = getattr(benchmark, name)(*row)
            getattr(benchmark, "teardown", lambda *_: None)(*row)
            if name.startswith("timeraw"):
                exec(result)


@pytest.mark.skipif(CC is None, reason="no C compiler")
def test_costs_of_odd_widths(tmp_path):
    command = [BENCH / "kernels/widths.py", "--quick", "--dtype", "f32", "f64", "--activation", "relu", "--nets", "8-30-30-1", "10-50-50-3"]
    lines = run(*command, home=tmp_path).splitlines()[-4:]
    assert [line.split()[:3] for line in lines] == [[net, "relu", dtype] for net in ("8-30-30-1", "10-50-50-3") for dtype in ("f32", "f64")]
    for line in lines:
        *_, ns, other, beside, ratio, cost = line.split()
        assert other in ("8-32-32-1", "10-64-64-3") and float(ratio) == pytest.approx(float(ns) / float(beside), abs=0.01)
        assert float(cost) > float(ratio) > 0


@pytest.mark.skipif(CC is None, reason="no C compiler")
def test_a_comparison_with_numpy(tmp_path):
    results, command = tmp_path / "results.json", [BENCH / "compare.py", "--quick", "--nets", "xs", "s", "--peers", "numpy"]
    run(*command, "--json", results, "--picture", tmp_path / "picture.png", home=tmp_path)
    found = json.loads(results.read_text(encoding="utf-8"))
    assert found["failures"] == []
    assert [(row["net"], row["work"]) for row in found["rows"]] == [
        (net, work) for net in ("xs", "s") for work in ("step", "epoch", "predict_1", "predict_1024")
    ]
    for row in found["rows"]:
        assert set(row["contenders"]) == {"microbp", "microbp in C", "numpy"}
        assert row["ratio"][0] <= row["ratio"][1] <= row["ratio"][2]
        assert row["limit"]["share"] > 0
    assert (tmp_path / "picture.png").stat().st_size > 10_000
    table = tmp_path / "table.md"
    again = run(BENCH / "compare.py", "--read", results, "--json", tmp_path / "again.json", "--markdown", table, home=tmp_path)
    assert json.loads((tmp_path / "again.json").read_text(encoding="utf-8")) == found
    assert "4-32-32-2" in again and len(table.read_text(encoding="utf-8").splitlines()) == 3 + 2 + 2


def test_streams_beside_partial_fit(tmp_path):
    pytest.importorskip("pandas")
    pytest.importorskip("sklearn")
    _, head, _, *lines = run(BENCH / "online.py", "cancer", "diabetes", "--rows", 250, home=tmp_path).splitlines()
    assert head.replace("|", "").split() == ["stream", "rows", "microbp", "us", "linear", "us", "SGD", "us", "MLP", "us"]
    for line, least in zip(lines, (0.85, 0.1), strict=True):
        name, rows, *found = line.replace("|", "").split()
        assert (name, rows) == ("cancer" if least > 0.5 else "diabetes", "250")
        assert min(map(float, found[:4:2])) > least, line


def test_sparse_rows_beside_a_loop_and_peers(tmp_path):
    lines = run(
        BENCH / "sparse.py", "--quick", "step", "epoch", "flat", "single", "--picture", tmp_path / "flat.png", home=tmp_path
    ).splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    numbers = {name: list(map(float, others[:2])) for name, *others in cells if others and others[0].replace(".", "").isdecimal() and name}
    names = {"sparse rows", "ids", "microbp", "sgd", "adagrad", "adamw", "20-64-64-2, SGD", "100000-64-64-2, 5 columns, Adam"}
    assert names | ({"loop"} if CC else set()) <= set(numbers)
    assert all(min(found) > 0 for found in numbers.values())
    assert (tmp_path / "flat.png").stat().st_size > 5000


@pytest.mark.skipif(CC is None, reason="no C compiler")
def test_runs_to_a_goal_beside_numpy(tmp_path):
    """Levenberg-Marquardt reaches the goals of MATLAB's first problems, here and in NumPy."""
    lines = run(BENCH / "second_order.py", "--quick", "sin", "parity", "sinc", home=tmp_path).splitlines()
    cells = [line.strip("| ").split(" | ") for line in lines if line.startswith("| ")]
    heads = [number for number, row in enumerate(cells) if "epochs, mean" in row]
    assert [cells[head][0].partition(",")[0] for head in heads] == ["sin", "parity", "sinc"]
    for first, last in zip(heads, [*heads[1:], None]):
        found = {name: list(map(float, (mean, most, ms))) for name, mean, most, _, ms, _ in cells[first + 1 : last]}
        assert {"Levenberg-Marquardt", "SCG", "L-BFGS", "Rprop", "Adam", "Levenberg-Marquardt in NumPy"} <= set(found)
        assert all(0 < mean <= most and ms > 0 for mean, most, ms in found.values())
    for head in heads[:2]:
        assert cells[head + 1][0] == "Levenberg-Marquardt" and cells[head + 1][3] == "0 of 3"


def test_fits_on_executors(tmp_path):
    quick = ["--runs", 1, "--fits", 2, "--epochs", 1, "2 threads", "mpi4py"]
    lines = run(BENCH / "processes/executors.py", *quick, home=tmp_path).splitlines()
    assert [line.split(" | ")[0] for line in lines[-2:]] == ["| one process", "| 2 threads"] and "left out: mpi4py" in lines[0]


def test_convolutions_beside_pytorch(tmp_path):
    pytest.importorskip("torch", reason="PyTorch is not installed")
    *_, line = run(BENCH / "convolution.py", "1989", "--rounds", 2, "--no-peak", home=tmp_path).splitlines()
    name, parameters, rows, *times = line.replace("|", "").replace(",", "").split()
    assert (name, parameters, rows) == ("1989", "9760", "1") and min(float(times[0]), float(times[2])) > 0


def test_recurrent_nets_beside_pytorch(tmp_path):
    pytest.importorskip("torch", reason="PyTorch is not installed")
    *_, line = run(BENCH / "recurrent.py", "gru", "--rounds", 2, home=tmp_path).splitlines()
    cell, parameters, *times = line.replace("|", "").replace(",", "").split()
    assert (cell, parameters) == ("gru", "83009") and min(float(times[0]), float(times[2])) > 0


def test_ranks_and_their_cost(tmp_path):
    """Steps on two ranks; the formula and the replayed steps are of the measured size."""
    pytest.importorskip("mpi4py", reason="mpi4py is not installed")
    if not (shutil.which("mpiexec", path=str(Path(sys.executable).parent)) or shutil.which("mpiexec")):
        pytest.skip("mpiexec is not installed")
    numbers, drawn = tmp_path / "ranks.json", tmp_path / "ranks.png"
    run(BENCH / "ranks/measure.py", numbers, "--quick", "--ranks", 1, 2, home=tmp_path)
    lines = run(BENCH / "ranks/costs.py", numbers, "--picture", drawn, home=tmp_path).splitlines()
    cells = [line.strip("| ").split(" | ") for line in lines if line.startswith("| ")]
    steps = [row for row in cells if row[0][:1].isdigit() and len(row) == 8]
    assert {row[0] for row in steps} == {"20-64-64-2", "784-128-10"} and all(float(value) > 0 for row in steps for value in row[-2:])
    assert drawn.stat().st_size > 10_000


def test_a_race_on_a_file_of_numbers_categories_and_gaps(tmp_path):
    """Every contender learns the table; a line of an earlier race counts, and is not trained again."""
    pytest.importorskip("pandas")
    pytest.importorskip("sklearn")
    random, lines, table = np.random.default_rng(0), tmp_path / "lines.csv", tmp_path / "flat.csv"
    size, colour, seen = random.normal(size=300), random.choice(["red", "green", ""], 300), random.choice(["True", "False"], 300)
    kinds = np.where(size + (colour == "red") > 0, "big", "small")
    cells = [f"{a if a < 2 else ''},{b},{c},{d}" for a, b, c, d in zip(size, colour, seen, kinds)]
    table.write_text("\n".join(["size,colour,seen,kind", *cells]), encoding="utf-8")
    earlier = "flat,linear,0,300,0.999,0.5,0.01,another machine"
    lines.write_text(f"set,contender,split,rows,error,log_loss,seconds,machine\n{earlier}\n", encoding="utf-8")
    text = run(BENCH / "tables.py", f"{table}:kind", f"{tmp_path / 'none.csv'}:x", "--splits", "2", "--lines", lines, home=tmp_path)
    assert "linear: another machine." in text and "microbp / HistGradientBoosting" in text
    with lines.open(encoding="utf-8", newline="") as file:
        first, *found = csv.DictReader(file)
    assert list(first.values()) == earlier.split(",")
    contenders = ("microbp", "HistGradientBoosting", "RandomForest", "linear", "MLP")
    jobs = {(name, split) for name in contenders for split in "01"} - {("linear", "0")}
    assert sorted((line["contender"], line["split"]) for line in found) == sorted(jobs)
    for line in found:
        assert line["set"] == "flat" and line["rows"] == "300"
        assert 0 <= float(line["error"]) < 0.15 and 0 < float(line["log_loss"]) < 0.6 and float(line["seconds"]) > 0, line


@pytest.mark.parametrize("number", range(3))
@pytest.mark.parametrize("target", [["a"] * 50 + ["b"] * 10 + ["c"], [0.5 * i for i in range(61)]], ids=["classes", "numbers"])
def test_random_splits_hold_out_a_fifth(monkeypatch, target, number):
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("sklearn")
    monkeypatch.syspath_prepend(BENCH)
    table = importlib.import_module("tabular.sets").Set(pandas.DataFrame({"x": range(61)}), pandas.Series(target))
    train, test = table.split(number)
    assert sorted([*train, *test]) == list(range(61)) and len(test) == 12
    assert all(np.array_equal(rows, again) for rows, again in zip((train, test), table.split(number)))
    assert not np.array_equal(test, table.split(number + 1)[1])
    if table.classes:
        assert [list(table.target[test]).count(kind) for kind in "abc"] == [10, 2, 0]


def test_a_ratio_compares_the_splits_that_both_have(monkeypatch):
    pytest.importorskip("sklearn")
    monkeypatch.syspath_prepend(BENCH)
    ratio = importlib.import_module("tabular.report").ratio
    found = ratio({0: 1.0, 1: 3.0, 2: 9.0}, {0: 2.0, 1: 2.0, 3: 9.0})
    assert found == pytest.approx((1, 12.7062 * 0.5**0.5 / 2**0.5, 1, 2), rel=1e-5)  # t of one degree of freedom; deviation sqrt(1/2)
    assert ratio({0: 2.0, 1: 2.0}, {0: 4.0, 1: 4.0}) == (0.5, 0, 2, 2)


@pytest.fixture(scope="module")
def noise(tmp_path_factory):
    """A folder of data sets with the files and formats of the real ones: pictures of noise, invented names and text."""
    folder, random = tmp_path_factory.mktemp("data"), np.random.default_rng(0)

    def write(path: str, content: bytes) -> None:
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).write_bytes(gzip.compress(content) if path.endswith("gz") else content)

    for part in ("train", "test"):
        rows = [
            f"{label}.0 {' '.join(map(str, row))}" for label, row in zip(random.integers(0, 10, 1400), random.integers(-1, 2, (1400, 256)))
        ]
        write(f"usps/zip.{part}.gz", "\n".join(rows).encode())
    for part, count in (("train", 256), ("t10k", 60)):
        pixels = np.pad(random.integers(1, 256, (count, 20, 12)), ((0, 0), (4, 4), (8, 8))).astype(np.uint8)
        write(f"mnist/{part}-images-idx3-ubyte.gz", struct.pack(">4i", 2051, count, 28, 28) + pixels.tobytes())
        write(f"mnist/{part}-labels-idx1-ubyte.gz", struct.pack(">2i", 2049, count) + (np.arange(count) % 10).astype(np.uint8).tobytes())
    names = ["".join(random.choice([*"abcxyz"], size)) for size in random.integers(1, 15, 400)]
    write("text/names.txt", "\n".join(names).encode())
    write("text/tinyshakespeare.txt.gz", "".join(random.choice([*"to be or\n"], 20000)).encode())
    return folder


TABLES = {  # of scripts about training: the first cells of their rows
    "lecun": [
        "1989",
        "+ softmax, cross-entropy",
        "+ AdamW",
        "+ shifts by a pixel, 60 passes",
        "+ dropout, relu, 80 passes",
        "0.02",
        "median",
    ],
    "mnist_conv": ["0", "median", "small", "kann"],
    "characters": ["MLP, 3 characters", "hierarchical, 8 characters", "GRU", "short", "long"],
}


@pytest.mark.parametrize("script", TABLES)
def test_trainings_print_their_tables(script, noise, tmp_path):
    seeds = ["--seeds", 1]
    reports = ["1989", "ladder", "rate"] if script == "lecun" else []
    lines = run(BENCH / f"training/{script}.py", "--data", noise, "--quick", *seeds, *reports, home=tmp_path).splitlines()
    cells = [line.strip("| ").split(" | ") for line in lines if line.startswith("| ")]
    assert set(TABLES[script]) <= {name for row in cells for name in row[:2]}
    assert script != "lecun" or lines[0].endswith(": 9,760 parameters, one thread")
    missing = subprocess.run(
        [sys.executable, BENCH / f"training/{script}.py", "--data", tmp_path], capture_output=True, text=True, check=False
    )
    assert missing.returncode == 1 and "use --data DIR" in missing.stderr


def test_the_pictures_of_learning(tmp_path):
    for package in ("matplotlib", "sklearn"):
        pytest.importorskip(package)
    out = run(BENCH / "learning/pictures.py", "--quick", "--seeds", 1, "--out", tmp_path, home=tmp_path)
    assert {line.split(" | ")[0] for line in out.splitlines()} >= {"| optimizer", "| function", "| learning rate", "| start"}
    found = {path.name: path.stat().st_size for path in tmp_path.glob("*.png")}
    assert {path.name for path in (BENCH / "learning").glob("*.png")} == {*found, "glorot.png"} and max(found.values()) < 100_000


def test_published_statistics_of_deep_nets(noise, tmp_path):
    pytest.importorskip("matplotlib")
    drawn = tmp_path / "glorot.png"
    out = run(BENCH / "learning/published.py", "--quick", "--data", noise, "--picture", drawn, home=tmp_path)
    rows = {tuple(cells[:2]): cells[2:] for line in out.splitlines() if (cells := line.strip("| ").split(" | ")) and len(cells) > 5}
    for rule in ("normalised", "standard"):
        assert 0.3 < float(rows[rule, "average singular value"][-2]) < 0.9
        assert float(rows[rule, "gradient, epoch 2"][0]) > 0
    assert float(rows["N(0, 1)", "saturated values"][0].rstrip("%")) > float(rows["auto", "saturated values"][0].rstrip("%"))
    assert 10_000 < drawn.stat().st_size < 100_000


def test_the_cost_of_a_watch(tmp_path):
    *_, line = run(BENCH / "learning/watch.py", "--quick", "--rounds", 2, home=tmp_path).splitlines()
    net, batch, epoch, ratio, *_ = line.strip("| ").split(" | ")
    assert (net, batch) == ("784-512-512-10", "256") and float(epoch) > 0 and float(ratio) > 0.5


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_the_help_of_every_script_shows_its_command(script, tmp_path):
    for package in ("pandas", "sklearn") if script.name == "tables.py" else ():
        pytest.importorskip(package)
    assert f"python bench/{script.relative_to(BENCH)}" in run(script, "--help", home=tmp_path)
