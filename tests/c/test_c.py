"""Compiles the C tests of this folder, links the installed library, and runs them; ctest runs the same programs in a CMake build. Also
compiles the header with every standard of C and C++."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cases
import pytest

import microbp as bp
from microbp.core import _core

ROOT = Path(__file__).parents[2]
TESTS = Path(__file__).parent
CC = shutil.which(os.environ.get("CC", "cc"))
CXX = shutil.which(os.environ.get("CXX", "c++"))
ARITHMETIC = ["-O2", "-ftree-vectorize", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math"]  # as the kernels are compiled
DTYPES = {"float32": [], "float64": ["-DMBP_DOUBLE"]}
BY_DTYPE = ("test_kernels", "test_math")
PROGRAMS = {path.stem: path for path in sorted(TESTS.rglob("test_*.c"))}
OTHERS = [name for name in PROGRAMS if name not in BY_DTYPE]
INCLUDES = ["-I", ROOT / "src/include", "-I", ROOT / "src", "-I", TESTS]
HAS = ["-DMICROBP_THREADS=1", "-DMICROBP_FILES=1", "-DMICROBP_F64=1"]  # as CMakeLists.txt builds the library

pytestmark = pytest.mark.skipif(CC is None, reason="no C compiler")


def run(*command: object, timeout: int = 240) -> None:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=timeout, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def compile_and_run(folder: Path, name: str, *options: object) -> None:
    program, library = folder / name, f"{bp.get_library_dir()}/libmicrobp.a"
    run(CC, "-std=gnu11", *HAS, *INCLUDES, *options, PROGRAMS[name], library, "-o", program, "-lm", "-pthread")
    run(program)


@pytest.mark.parametrize("name", OTHERS)
def test_program(name, tmp_path):
    compile_and_run(tmp_path, name, *ARITHMETIC)


@pytest.mark.parametrize("dtype", DTYPES)
def test_mathematics(dtype, tmp_path):
    compile_and_run(tmp_path, "test_math", *ARITHMETIC, *DTYPES[dtype])


def check_kernels(folder: Path, *options: str) -> None:
    """On x86-64, tests/long and ctest also compile the AVX-512 variant for AVX2, to test it on processors without AVX-512. They use -O1,
    because gcc splits these vectors, which takes minutes at -O2."""
    emulated = []
    if cases.LONG and platform.machine() in ("x86_64", "AMD64"):
        emulated = ["-DHAVE_EMULATED", folder / "kernels.o", folder / "noise.o"]
        shim = ["-O1", "-mavx2", "-mfma", "-Wno-psabi", "-include", TESTS / "kernels/avx512_by_avx2.h"]
        for name in ("kernels", "noise"):
            source = ["-DMBP_ISA=avx512_by_avx2", "-c", ROOT / f"src/kernels/{name}.c", "-o", folder / f"{name}.o"]
            run(CC, "-std=gnu11", *HAS, *INCLUDES, *ARITHMETIC, *options, *shim, *source)
    compile_and_run(folder, "test_kernels", *ARITHMETIC, *options, *emulated)


@pytest.fixture(scope="module")
def kernels(tmp_path_factory):
    """The checks of the kernels, which take longest: both dtypes run at the same time."""
    with ThreadPoolExecutor() as pool:
        folders = {dtype: tmp_path_factory.mktemp(dtype) for dtype in DTYPES}
        yield {dtype: pool.submit(check_kernels, folders[dtype], *options) for dtype, options in DTYPES.items()}


@pytest.mark.parametrize("dtype", DTYPES)
def test_kernels_of_every_variant_at_edge_sizes(kernels, dtype):
    kernels[dtype].result()


# Valid in every standard from C89 to C++20: no designated initializers, no declarations after statements.
PROGRAM = """
#include <microbp.h>

static int is(mbp_array a, const void *data, mbp_dtype dtype, int64_t rows, int64_t cols, int64_t item) {
    return a.data == data && a.dtype == dtype && a.rows == rows && a.cols == cols && a.row_stride == cols * item &&
           a.col_stride == item && !a.indptr && !a.indices && a.index_dtype == MBP_I64 && a.flags == 0;
}

int main(void) {
    static const float x[6] = {1, 2, 3, 4, 5, 6};
    static const double y[6] = {1, 2, 3, 4, 5, 6};
    static const int64_t labels[3] = {0, 1, 2};
    static mbp_options options;
    static mbp_batch batch;
    static mbp_backward how;
    mbp_array inputs = mbp_f32(x, 2, 3);
    options.size = sizeof options;
    batch.size = sizeof batch;
    how.size = sizeof how;
    batch.x = &inputs;
    batch.n_x = 1;
    inputs.flags = MBP_SHARED;
    return !(is(mbp_f32(x, 2, 3), x, MBP_F32, 2, 3, 4) && is(mbp_f64(y, 3, 2), y, MBP_F64, 3, 2, 8) &&
             is(mbp_labels(labels, 3), labels, MBP_I64, 3, 1, 8) && is(mbp_row(x, 6), x, MBP_F32, 1, 6, 4) &&
             is(mbp_contiguous(x, MBP_U16, 2, 4, 3), x, MBP_U16, 4, 3, 2) && batch.x[0].flags == MBP_SHARED);
}
"""


@pytest.mark.parametrize("standard", ["c11", "c++20"])
@pytest.mark.parametrize("call", ["mbp_f32(d, 1, 1)", "mbp_f64(f, 1, 1)", "mbp_row(d, 1)", "mbp_labels(i, 1)", "mbp_f32(&m, 1, 1)"])
def test_helpers_refuse_elements_of_another_type(call, standard, tmp_path):
    """In C by a warning, which is on without flags."""
    compiler, source, refusal = (CXX, "program.cpp", "error: ") if "++" in standard else (CC, "program.c", "pointer-types")
    if compiler is None:
        pytest.skip("no C++ compiler")
    text = "#include <microbp.h>\nfloat f[1], m[1][1];\ndouble d[1];\nint i[1];\nint main(void) { (void)%s; return 0; }\n"
    for line, is_right in ((call, False), ("mbp_f32(m[0], 1, 1)", True), ("mbp_f64(d, 1, 1)", True)):
        (tmp_path / source).write_text(text % line, encoding="utf-8")
        command = [compiler, f"-std={standard}", "-fsyntax-only", "-I", ROOT / "src/include", tmp_path / source]
        done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=60, check=False)
        assert (refusal in done.stderr) != is_right, line
        assert not is_right or (done.returncode, done.stderr) == (0, ""), line


@pytest.mark.parametrize("kind", ["activation", "loss", "optimizer", "initializer"])
def test_the_header_lists_the_names_of_all_formulas(kind):
    comment = (ROOT / "src/include/microbp.h").read_text(encoding="utf-8").partition("The names are:")[2].partition("Conventions.")[0]
    assert {row[0] for row in _core.formulas(kind)} <= set(comment.split())


@pytest.mark.parametrize("standard", ["c89", "c99", "c11", "c17", "c++98", "c++11", "c++20"])
def test_the_header_in_every_standard(standard, tmp_path):
    compiler, source = (CXX, "program.cpp") if "++" in standard else (CC, "program.c")
    if compiler is None:
        pytest.skip("no C++ compiler")
    (tmp_path / source).write_text(PROGRAM, encoding="utf-8")
    flags = [f"-std={standard}", "-pedantic", "-Wall", "-Wextra", "-Werror", "-I", ROOT / "src/include"]
    run(compiler, *flags, tmp_path / source, "-o", tmp_path / "program")
    run(tmp_path / "program")
