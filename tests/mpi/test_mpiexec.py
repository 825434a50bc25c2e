"""The tests of this folder on two ranks, and one run in which a rank ends; tests/mpi/run has more of both."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

MPI = Path(__file__).parent
MPIEXEC = shutil.which("mpiexec", path=str(Path(sys.executable).parent)) or shutil.which("mpiexec")
OUTER = ("PMI_", "PMIX_", "OMPI_", "HYDRA_", "HYDI_", "MPI_", "MPIR_")  # what an mpiexec that has started these tests may have set

pytestmark = [
    pytest.mark.skipif(MPIEXEC is None, reason="mpiexec is not installed"),
    pytest.mark.skipif(importlib.util.find_spec("mpi4py") is None, reason="mpi4py is not installed"),
]


def passes(*command: object, seconds: float) -> str:
    env = {name: value for name, value in os.environ.items() if not name.startswith(OUTER)} | {"MICROBP_NUM_THREADS": "1"}
    words = [str(word) for word in command]
    done = subprocess.run(words, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=seconds, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_two_ranks():
    test = [sys.executable, "-P", "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", MPI.parents[1] / "pyproject.toml", MPI]
    assert " passed" in passes(MPIEXEC, "-n", 2, *test, seconds=120)


def test_a_rank_that_ends_ends_all():
    assert "1 runs ended" in passes(sys.executable, "-P", MPI / "kills.py", 1, seconds=60)
