"""The limits of the machine, measured by peaks.c."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import NamedTuple

SOURCE = Path(__file__).resolve().parent / "peaks.c"
SECONDS = 0.2  # for each of the two measurements


class Peaks(NamedTuple):
    """Floating-point operations per second in registers, and bytes per second of a pass over parameters and their state."""

    flops: float
    bytes: float

    def seconds(self, flops: float, traffic: float) -> float:
        """The least time for this much arithmetic and memory traffic: the larger of the two."""
        return max(flops / self.flops, traffic / self.bytes)


def build(folder: str) -> str:
    """Compiles the program into the folder."""
    program = f"{folder}/peaks"
    flags = ["-O3", "-march=native", "-ffp-contract=fast"]
    subprocess.run([os.environ.get("CC", "cc"), *flags, "-o", program, str(SOURCE)], check=True)
    return program


def measure(program: str, parameters: int, threads: int) -> Peaks:
    """Runs a copy of the program per thread, each with its part of the parameters; returns the sums of their speeds."""
    command = [program, str(SECONDS), str(-(-parameters // threads))]
    copies = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(threads)]
    lines = [copy.communicate()[0].split() for copy in copies]
    return Peaks(*(1e9 * sum(map(float, column)) for column in zip(*lines, strict=True)))
