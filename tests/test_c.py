"""The C tests of tests/c against the installed library, so that pytest runs them too; ctest runs the same programs in a CMake build."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import microbp as bp

ROOT = Path(__file__).parent.parent
TESTS = ROOT / "tests" / "c"
CC = shutil.which(os.environ.get("CC", "cc"))
ARITHMETIC = ["-O3", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math"]  # as the kernels are compiled
DTYPES = {"float32": [], "float64": ["-DMBP_DOUBLE"]}
BY_DTYPE = ("test_kernels", "test_math")
OTHERS = sorted(path.stem for path in TESTS.glob("test_*.c") if path.stem not in BY_DTYPE)

pytestmark = pytest.mark.skipif(CC is None, reason="no C compiler")


def run(*command: object, timeout: int = 240) -> None:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=timeout, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def compile_and_run(folder: Path, name: str, *options: object, arguments: tuple[str, ...] = ()) -> None:
    program, library = folder / name, f"{bp.get_library_dir()}/libmicrobp.a"
    run(CC, "-std=gnu11", "-I", ROOT / "src", *options, TESTS / f"{name}.c", library, "-o", program, "-lm", "-pthread")
    run(program, *arguments)


@pytest.mark.parametrize("name", OTHERS)
def test_program(name, tmp_path):
    compile_and_run(tmp_path, name, *ARITHMETIC)


@pytest.mark.parametrize("dtype", DTYPES)
def test_mathematics(dtype, tmp_path):
    compile_and_run(tmp_path, "test_math", *ARITHMETIC, *DTYPES[dtype])


def check_kernels(folder: Path, *options: str) -> None:
    """On x86-64 the AVX-512 form is compiled for AVX2 as well, so that it is tested without such a processor; at -O1, since at -O3 gcc
    takes minutes for vectors that it has to split."""
    emulated = []
    if platform.machine() in ("x86_64", "AMD64"):
        emulated = ["-DHAVE_EMULATED", folder / "emulated.o"]
        shim = ["-O1", "-mavx2", "-mfma", "-Wno-psabi", "-include", TESTS / "avx512_by_avx2.h", "-DMBP_ISA=avx512_by_avx2"]
        run(CC, "-std=gnu11", "-I", ROOT / "src", *ARITHMETIC, *options, *shim, "-c", ROOT / "src/kernels.c", "-o", emulated[1])
    compile_and_run(folder, "test_kernels", *ARITHMETIC, *options, *emulated, arguments=("1",))


@pytest.fixture(scope="module")
def kernels(tmp_path_factory):
    """The checks of both dtypes, side by side: nothing takes longer."""
    with ThreadPoolExecutor() as pool:
        yield {dtype: pool.submit(check_kernels, tmp_path_factory.mktemp(dtype), *options) for dtype, options in DTYPES.items()}


@pytest.mark.parametrize("dtype", DTYPES)
def test_kernels_of_every_variant_at_every_edge_size(kernels, dtype):
    kernels[dtype].result()
