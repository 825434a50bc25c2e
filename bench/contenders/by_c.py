"""microbp from C: own_work.c, linked with the installed static library."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

import numpy as np

import microbp as bp
from contenders.contender import CHECKED_ROWS, CHECKED_STEPS, Contender, Results
from contenders.work import QUERIES, Work

SOURCE = Path(__file__).resolve().parent / "own_work.c"


def graph(work: Work) -> str:
    """The net as the C library reads it."""
    last = len(work.net.shapes) - 1
    lines = [f"dense {k} units={o} activation={'identity' if k == last else 'relu'}" for k, (_, o) in enumerate(work.net.shapes)]
    return "\n".join([f"input {work.net.widths[0]}", *lines, f"output {last + 1}", ""])


class ByC(Contender):
    """The program does all four kinds of work, including the loops, and measures the time itself."""

    def __init__(self, work: Work, threads: int) -> None:
        if threads > 1:
            raise NotImplementedError("measured with one thread only")
        with tempfile.TemporaryDirectory() as folder:
            program = f"{folder}/own_work"
            library = [f"-I{bp.get_include()}", str(SOURCE), f"-L{bp.get_library_dir()}", "-lmicrobp", "-lm", "-pthread"]
            subprocess.run([os.environ.get("CC", "cc"), "-O2", "-o", program, *library], check=True, capture_output=True)
            sizes = len(work.x), work.net.batch, QUERIES, work.net.widths[0], work.net.widths[-1]
            command = [program, graph(work), work.net.loss, *map(str, sizes)]
            self.program = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            weights, biases = [layer.weight for layer in work.layers], [layer.bias for layer in work.layers]
            for part in (*weights, *biases, work.x, work.y, work.queries, work.order()):
                self._write(part.tobytes())
            self.first = self._call("results")

    def _write(self, data: bytes) -> None:
        assert self.program.stdin is not None
        self.program.stdin.write(data)

    def _call(self, line: str) -> list[float]:
        assert self.program.stdin is not None and self.program.stdout is not None
        self._write(f"{line}\n".encode())
        self.program.stdin.flush()
        return [float(word) for word in self.program.stdout.readline().split()]

    def results(self, work: Work) -> Results:
        numbers = np.array(self.first)
        count = CHECKED_ROWS * work.net.widths[-1]
        before, losses, after = np.split(numbers[:-1], [count, count + CHECKED_STEPS])
        rows = (before.reshape(CHECKED_ROWS, -1).tolist(), after.reshape(CHECKED_ROWS, -1).tolist())
        return Results(rows[0], losses.tolist(), rows[1], self.first[-1])

    def seconds(self, work: Work, kind: str, count: int) -> float:
        return self._call(f"{kind.removeprefix('predict_')} {count}")[0]

    def close(self) -> None:
        self.program.kill()
        self.program.wait()
