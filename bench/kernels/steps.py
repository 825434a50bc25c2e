"""Compiles and runs steps.c: the time of a training step in C."""

from __future__ import annotations

import itertools
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

import microbp as bp

SOURCE = Path(__file__).resolve().parent / "steps.c"


def graph(widths: Sequence[int], activation: str) -> str:
    """A chain of dense layers as the C library reads it; the last one is linear."""
    lines = [f"dense {i} units={units} activation={activation}" for i, units in enumerate(widths[1:-1])]
    last = len(widths) - 1
    return "\n".join([f"input {widths[0]}", *lines, f"dense {last - 1} units={widths[-1]}", f"output {last}", ""])


def flops(widths: Sequence[int]) -> float:
    """Operations of a step per row: 2 per multiply-add, three products per layer, the first layer two."""
    return 2.0 * (3 * sum(i * o for i, o in itertools.pairwise(widths)) - widths[0] * widths[1])


def build(folder: str) -> str:
    """Compiles the program into the folder, with the installed static library."""
    program = f"{folder}/steps"
    library = [f"-I{bp.get_include()}", str(SOURCE), f"-L{bp.get_library_dir()}", "-lmicrobp", "-lm", "-pthread"]
    subprocess.run([os.environ.get("CC", "cc"), "-O2", "-o", program, *library], check=True)
    return program


def nanoseconds(program: str, seconds: float, rows: int, dtype: str, graphs: Sequence[str]) -> list[float]:
    """The least time of a step of each net, which take turns."""
    command = [program, str(seconds), str(rows), dtype, *graphs]
    return [float(line) for line in subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.split()]
