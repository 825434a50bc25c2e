"""Compiles loop.c and calls it in this process."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.common import Batch

SOURCE = Path(__file__).resolve().parent / "loop.c"
FLAGS = ("-O3", "-march=native", "-fno-math-errno", "-ffp-contract=fast", "-shared", "-fPIC")


def has_compiler() -> bool:
    return shutil.which(os.environ.get("CC", "cc")) is not None


class Loop:
    """A weight (columns, units) with two moments, and its step."""

    def __init__(self, columns: int, units: int) -> None:
        with tempfile.TemporaryDirectory() as folder:
            library = f"{folder}/loop.so"
            subprocess.run([os.environ.get("CC", "cc"), *FLAGS, "-o", library, str(SOURCE), "-lm"], check=True)
            self.call = ctypes.CDLL(library).loop_step
        self.arrays = [np.full((columns, units), value, np.float32) for value in (0.01, 1e-3, 1e-4)]
        self.units, self.rows = units, np.zeros((0, units), np.float32)

    def step(self, batch: Batch) -> None:
        rows, ones = batch.ids.shape
        if len(self.rows) != rows:
            self.rows, self.slopes = np.empty((rows, self.units), np.float32), np.full((rows, self.units), 0.001, np.float32)
        self.call(*map(_pointer, (*self.arrays, self.rows, self.slopes, batch.ids)), rows, ones, self.units)


def _pointer(array: np.ndarray[Any, Any]) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)
