"""Compares the three products of a dense layer with BLAS libraries, which take turns in one process on one pinned CPU.

usage: python bench/kernels/products.py [--isa avx2] [--dtype f32] [--cpu 0] [--rounds 21] [BATCHxINxOUT ...]
Compiles bench/kernels/products.c with the installed static library. The libraries are NumPy's OpenBLAS and, if installed, MKL (pip install
mkl). Prints GFLOP/s, and the ratio microbp's speed / the fastest library's speed in the same round. NN is the forward product, NT the
gradient with respect to the input, TN the gradient with respect to the weights.
"""

from __future__ import annotations

import argparse
import math
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import machine
import numpy as np

import microbp as bp
from microbp.core import _core

SHAPES = (
    *("32x8x64", "32x64x64", "64x64x128", "128x784x512", "128x512x512", "512x256x256", "256x1024x1024", "128x2048x4096"),
    *("1x512x512", "37x91x53"),
)
ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "MKL_THREADING_LAYER": "SEQUENTIAL"}


def compile_ours(folder: str, dtype: str) -> str:
    here = Path(__file__).resolve().parent
    program = f"{folder}/products"
    flags = ["-O2", "-DMBP_DOUBLE"] if dtype == "f64" else ["-O2"]
    includes = ["-I", str(here.parents[1] / "src/include"), "-I", str(here.parents[1] / "src")]
    sources = [*includes, str(here / "products.c"), f"{bp.get_library_dir()}/libmicrobp.a", "-lm", "-ldl", "-lpthread"]
    subprocess.run([os.environ.get("CC", "cc"), *flags, "-o", program, *sources], check=True)
    return program


def libraries(dtype: str) -> dict[str, str]:
    """The argument of products.c for each installed library."""
    letter = "d" if dtype == "f64" else "s"
    found = {}
    for path in (Path(np.__file__).parent.parent / "numpy.libs").glob("libscipy_openblas64_*"):
        found["OpenBLAS"] = f"{path}:scipy_cblas_{letter}gemm64_:64"
    for path in Path(sys.prefix, "lib").glob("libmkl_rt.so*"):
        found["MKL"] = f"{path}:cblas_{letter}gemm:32"
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shapes", nargs="*", default=SHAPES, metavar="BATCHxINxOUT")
    parser.add_argument("--isa", default=next(name for name, runs in _core.isas().items() if runs))
    parser.add_argument("--dtype", default="f32", choices=("f32", "f64"))
    parser.add_argument("--cpu", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=21)
    options = parser.parse_args()
    peers = libraries(options.dtype)
    if not peers:
        sys.exit("found no library to compare with: NumPy's BLAS is not OpenBLAS, and MKL is not installed (pip install mkl)")
    print(machine.describe(f"NumPy {np.__version__}"))
    print(f"{options.dtype}, one CPU, GFLOP/s, median of {options.rounds} rounds")
    print(f"{'shape':<14} {'':<2} {options.isa:>7}", *(f"{name:>8}" for name in peers), "ratio", sep=" ")
    ratios: dict[str, list[float]] = {"NN": [], "NT": [], "TN": []}
    environment = os.environ | ONE_THREAD | {"LD_LIBRARY_PATH": f"{sys.prefix}/lib"}
    os.sched_setaffinity(0, {options.cpu})
    with tempfile.TemporaryDirectory() as folder:
        program = compile_ours(folder, options.dtype)
        for shape in options.shapes:
            command = [program, options.isa, options.dtype, str(options.rounds), shape, *peers.values()]
            output = subprocess.run(command, capture_output=True, check=True, text=True, env=environment).stdout
            print(output, end="", flush=True)
            for line in output.splitlines():
                ratios[line.split()[1]].append(float(line.split()[-1]))
    for pattern, values in ratios.items():
        print(f"geometric mean {pattern}: {math.exp(sum(map(math.log, values)) / len(values)):.3f}, least {min(values):.3f}")


if __name__ == "__main__":
    main()
