"""The benchmarks run: every one of asv's, once, and a short comparison; and each script says how it is used."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parent.parent / "bench"
SCRIPTS = [path for path in sorted([*BENCH.glob("*.py"), *BENCH.glob("*/*.py")]) if "__main__" in path.read_text(encoding="utf-8")]
CC = shutil.which(os.environ.get("CC", "cc"))


def run(*command: object, home: Path) -> str:
    """What a command that must succeed prints; home: where asv describes the machine."""
    words = [sys.executable, *map(str, command)]
    done = subprocess.run(words, cwd=home, env=os.environ | {"HOME": str(home)}, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def asv(tmp_path_factory):
    """asv on the installed package, with everything that it writes in a folder of its own."""
    pytest.importorskip("asv", reason="asv is not installed")
    folder = tmp_path_factory.mktemp("asv")
    settings = json.loads((BENCH / "asv.conf.json").read_text(encoding="utf-8"))
    settings |= {name: str(folder / name) for name in ("env_dir", "results_dir", "html_dir")}
    settings |= {"repo": str(BENCH.parent), "benchmark_dir": str(BENCH / "benchmarks")}
    config = folder / "asv.conf.json"
    config.write_text(json.dumps(settings), encoding="utf-8")

    def call(command: str, *arguments: str) -> str:
        return run("-m", "asv", command, "--config", config, *arguments, home=folder)

    call("machine", "--yes")
    return call


def test_asv_finds_no_fault(asv):
    assert "No problems found" in asv("check", "--python=same")


def test_every_benchmark_runs(asv):
    out = asv("run", "--python=same", "--quick", "--show-stderr")
    assert "failed" not in out
    for module in sorted(path.stem for path in (BENCH / "benchmarks").glob("*.py") if path.stem not in ("__init__", "common")):
        assert f" {module}." in out


@pytest.mark.skipif(CC is None, reason="no C compiler")
def test_a_comparison_with_numpy(tmp_path):
    results, command = tmp_path / "results.json", [BENCH / "compare.py", "--quick", "--nets", "xs", "s", "m", "--peers", "numpy"]
    run(*command, "--json", results, "--picture", tmp_path / "picture.png", home=tmp_path)
    found = json.loads(results.read_text(encoding="utf-8"))
    assert found["failures"] == []
    assert [(row["net"], row["work"]) for row in found["rows"]] == [
        (net, work) for net in ("xs", "s", "m") for work in ("step", "epoch", "predict_1", "predict_1024")
    ]
    for row in found["rows"]:
        assert set(row["contenders"]) == {"microbp", "microbp in C", "numpy"}
        assert row["ratio"][0] <= row["ratio"][1] <= row["ratio"][2]
    assert (tmp_path / "picture.png").stat().st_size > 10_000


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_every_script_says_how_it_is_used(script, tmp_path):
    assert f"python bench/{script.relative_to(BENCH)}" in run(script, "--help", home=tmp_path)
