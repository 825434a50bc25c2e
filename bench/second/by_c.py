"""Whole runs in C: run.c, linked with the installed static library."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np

import microbp as bp

from .problems import Problem

SOURCE = Path(__file__).resolve().parent / "run.c"


class Run(NamedTuple):
    """What a line of run.c says."""

    steps: int
    loss: float
    seconds: float


def has_compiler() -> bool:
    return shutil.which(os.environ.get("CC", "cc")) is not None


def runs(problem: Problem, optimizer: str, most: int, seeds: int, repeats: int) -> list[Run]:
    """A run from the first weights of each seed, in the least time of the repeats."""
    last = len(problem.widths) - 2
    lines = [f"dense {k} units={n} activation={problem.output if k == last else 'tanh'}" for k, n in enumerate(problem.widths[1:])]
    graph = "\n".join([f"input {problem.widths[0]}", *lines, f"output {last + 1}", ""])
    starts = [problem.network(seed).params for seed in range(seeds)]
    given = b"".join(np.ascontiguousarray(part).tobytes() for part in (problem.x, problem.y, *starts))
    sizes = [len(problem.x), problem.widths[0], problem.widths[-1], seeds, repeats]
    with tempfile.TemporaryDirectory() as folder:
        program = f"{folder}/run"
        library = [f"-I{bp.get_include()}", str(SOURCE), f"-L{bp.get_library_dir()}", "-lmicrobp", "-lm", "-pthread"]
        subprocess.run([os.environ.get("CC", "cc"), "-O2", "-o", program, *library], check=True)
        command = [program, graph, optimizer, *map(str, (problem.goal, most, *sizes))]
        lines = subprocess.run(command, input=given, stdout=subprocess.PIPE, check=True).stdout.decode().splitlines()
    return [Run(int(steps), float(loss), float(seconds)) for steps, loss, seconds in map(str.split, lines)]
