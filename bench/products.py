"""The three products of a dense layer beside NumPy's BLAS, on one pinned CPU: GFLOP/s and the ratio, in float32.

usage: python bench/products.py [--isa avx2] [--cpu 0] [BATCHxINxOUT ...]
Compiles bench/products.c against the installed static library, and alternates the contenders in rounds.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

for _name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"  # read when NumPy is imported

import numpy as np

import microbp as bp
from microbp import _core

SHAPES = ("32x8x64", "32x64x64", "64x64x128", "128x784x512", "128x512x512", "512x256x256", "256x1024x1024", "1x512x512", "37x91x53")
ROUNDS, SECONDS = 7, 0.05


def compile_ours(folder: str) -> str:
    here = Path(__file__).resolve().parent
    program = f"{folder}/products"
    sources = ["-I", str(here.parent / "src"), str(here / "products.c"), f"{bp.get_library_dir()}/libmicrobp.a", "-lm"]
    subprocess.run([os.environ.get("CC", "cc"), "-O2", "-o", program, *sources], check=True)
    return program


def numpy_product(pattern: str, batch: int, inputs: int, outputs: int) -> Callable[[], object]:
    random = np.random.default_rng(0)
    x, w, z = (random.standard_normal(shape, dtype=np.float32) for shape in ((batch, inputs), (inputs, outputs), (batch, outputs)))
    if pattern == "NN":
        return lambda: np.matmul(x, w, out=z)
    return (lambda: np.matmul(z, w.T, out=x)) if pattern == "NT" else (lambda: np.matmul(x.T, z, out=w))


def best_gflops(work: Callable[[], object], flops: float) -> float:
    repeats, best, end = int(2e6 / flops) + 1, 1e9, time.perf_counter() + SECONDS
    while time.perf_counter() < end:
        start = time.perf_counter()
        for _ in range(repeats):
            work()
        best = min(best, (time.perf_counter() - start) / repeats)
    return flops / best / 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shapes", nargs="*", default=SHAPES, metavar="BATCHxINxOUT")
    parser.add_argument("--isa", default=next(name for name, runs in _core.isas().items() if runs))
    parser.add_argument("--cpu", type=int, default=0)
    options = parser.parse_args()
    os.sched_setaffinity(0, {options.cpu})
    with tempfile.TemporaryDirectory() as folder:
        program = compile_ours(folder)
        print(f"{'shape':>15} {'product':>8} {options.isa:>8} {'numpy':>8}  ratio (median of {ROUNDS} rounds)")
        for shape in options.shapes:
            sizes = tuple(map(int, shape.split("x")))
            for pattern in ("NN", "NT", "TN"):
                theirs, ours, flops = numpy_product(pattern, *sizes), [], 2.0 * sizes[0] * sizes[1] * sizes[2]
                pairs = []
                for _ in range(ROUNDS):
                    answer = subprocess.run(
                        [program, options.isa, pattern, *map(str, sizes), str(SECONDS)], capture_output=True, check=True
                    )
                    pairs.append((float(answer.stdout), best_gflops(theirs, flops)))
                ours, numpys = (statistics.median(column) for column in zip(*pairs, strict=True))
                ratio = statistics.median(a / b for a, b in pairs)
                print(f"{shape:>15} {pattern:>8} {ours:8.1f} {numpys:8.1f}  {ratio:.2f}", flush=True)


if __name__ == "__main__":
    main()
