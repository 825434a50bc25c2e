"""examples/c: each program compiles without a warning against the installed library, runs, and learns what it is about."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

import microbp as bp

EXAMPLES = Path(__file__).parents[2] / "examples/c"
FLAGS = ["-O2", "-pedantic", "-Wall", "-Wextra", "-Wshadow", "-Wconversion", "-Werror", "-I", bp.get_include()]
COMPILERS = {".c": (shutil.which("cc"), "-std=c11"), ".cpp": (shutil.which("c++"), "-std=c++17")}
# Per program: a pattern of its output, and the bounds of the numbers in the pattern's groups.
XOR = (r"(\S+) (\S+) (\S+) (\S+)\n", [(0, 0.05), (0.95, 1), (0.95, 1), (0, 0.05)])
LEARNT = {
    "xor.c": XOR,
    "xor.cpp": XOR,
    "digits.c": (r"(\S+) of the test rows are right\n", [(0.9, 1)]),
    "qlearning.c": (r"from the first cell: left (\S+), right (\S+); the way has 7 steps\n", [(-8.7, -7.5), (-7.3, -6.7)]),
    "actor_critic.c": (r"right with probability (\S+); value of the first cell (\S+)\n", [(0.9, 1), (-7.5, -6)]),
    "autoencoder.c": (r"loss (\S+)\n(?:\d:(?: [01]\.\d\d){3}\n){8}", [(0, 0.02)]),
    "mpi.c": (r"2 processes: loss (\S+)\n", [(0, 0.001)]),
    "real_time.c": (r"mean squared error (\S+); (\d+) KB of memory\n", [(0, 0.001), (1, 16)]),
}


def test_every_example_is_tested():
    assert {path.name for path in EXAMPLES.iterdir() if path.suffix in COMPILERS} == set(LEARNT)


@pytest.mark.parametrize("name", LEARNT)
def test_an_example_learns(name, tmp_path):
    compiler, standard = COMPILERS[Path(name).suffix]
    run: list[object] = []
    if name == "mpi.c":
        compiler, run = shutil.which("mpicc"), [shutil.which("mpiexec"), "-n", "2"]
    if compiler is None:
        pytest.skip("no compiler")
    if name == "digits.c":
        digits = pytest.importorskip("sklearn.datasets").load_digits()
        lines = [",".join([*(f"{value:g}" for value in row), str(digit)]) for row, digit in zip(digits.data, digits.target)]
        (tmp_path / "digits.csv").write_text("\n".join(lines), encoding="utf-8")
    library = Path(bp.get_library_dir(), "libmicrobp.a")
    subprocess.run([compiler, standard, *FLAGS, EXAMPLES / name, "-o", tmp_path / "program", library, "-lm", "-pthread"], check=True)
    output = subprocess.run([*run, tmp_path / "program"], cwd=tmp_path, check=True, capture_output=True, text=True, timeout=60).stdout
    pattern, bounds = LEARNT[name]
    match = re.fullmatch(pattern, output)
    assert match, output
    for number, (low, high) in zip(match.groups(), bounds, strict=True):
        assert low <= float(number) <= high, output
