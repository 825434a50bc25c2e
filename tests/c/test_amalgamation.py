"""The library as two files: compiles them strictly with the compilers that are here, and compares the bits of networks that they train
with those of the installed library (tests/targets/bits.c)."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import microbp as bp

ROOT = Path(__file__).parents[2]
STRICT = ["-std=c11", "-Wall", "-Wextra", "-Wpedantic", "-Werror"]
# gcc contracts sums and products, if it may, in expensive optimizations.
OPTIMIZED = [*STRICT, "-O1", "-fexpensive-optimizations"]
BUILDS = {
    "plain": [],
    "wide": ["-DMICROBP_DOUBLE", "-DMICROBP_THREADS", "-pthread"],
    "float64 alone": ["-DMICROBP_F32=0", "-DMICROBP_F64=1", "-DMICROBP_FILES=0"],
    "predictions alone": ["-DMICROBP_TRAINING=0"],
    "small": ["-DMICROBP_DOUBLE", "-DMICROBP_SMALL=1"],
}
EXTRAS = re.search(r"^set\(extras (.*)\)$", (ROOT / "src/cmake/options.cmake").read_text("utf-8"), re.MULTILINE)[1].split()
WITHOUT = {extra: [f"-DMICROBP_{extra.upper()}=0"] for extra in EXTRAS}
LINKED = (
    BUILDS
    | WITHOUT
    | {
        "no extras": [flag for flags in WITHOUT.values() for flag in flags],
        "no files, no training": ["-DMICROBP_FILES=0", "-DMICROBP_TRAINING=0"],
    }
)
NOT_DIGITS = {
    "-DMICROBP_GAPS=OFF": "an extra .* must be 0 or 1, as in -DMICROBP_GAPS=0",
    "-DMICROBP_SUBTRACT=": "an extra .* must be 0 or 1, as in -DMICROBP_GAPS=0",
    "-DMICROBP_FILES=ON": "MICROBP_THREADS, _FILES, .* must be 0 or 1, as in -DMICROBP_FILES=0",
    "-DMICROBP_TRAINING=2": "MICROBP_THREADS, _FILES, .* must be 0 or 1, as in -DMICROBP_FILES=0",
    "-DMICROBP_EXTRAS=": "MICROBP_EXTRAS is an option of CMake: .* use -DMICROBP_GAPS=0 and the like",
}
COMPILERS = {name: path for name in ("gcc", "clang") if (path := shutil.which(name))}

pytestmark = pytest.mark.skipif(not COMPILERS, reason="no C compiler")


def run(*command: object) -> str:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr)[:5000]
    return done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("amalgamation")
    run(sys.executable, ROOT / "src/amalgamate.py", folder)
    return folder


@pytest.fixture(scope="module")
def programs(folder):
    """bits.c with the two files, built side by side: without flags, for small code, and with everything that widens them."""
    compiler = COMPILERS.get("gcc", next(iter(COMPILERS.values())))
    flags = {"plain": [], "small": ["-DMICROBP_SMALL=1"], "wide": ["-march=native", *BUILDS["wide"]]}
    sources = [ROOT / "tests/targets/bits.c", folder / "microbp.c"]

    def build(name: str) -> str:
        run(compiler, *OPTIMIZED, *flags[name], "-I", folder, *sources, "-lm", "-o", folder / name)
        return run(folder / name)

    with ThreadPoolExecutor(2) as pool:
        yield {name: pool.submit(build, name) for name in flags}


@pytest.fixture(scope="module")
def library(folder):
    """bits.c with the installed library."""
    archive = f"{bp.get_library_dir()}/libmicrobp.a"
    run(
        next(iter(COMPILERS.values())),
        "-I",
        ROOT / "src/include",
        ROOT / "tests/targets/bits.c",
        archive,
        "-lm",
        "-pthread",
        "-o",
        folder / "library",
    )
    return folder / "library"


@pytest.mark.parametrize("name", ["plain", "small", "wide"])
def test_the_bits_are_those_of_the_library(name, programs, library):
    isa, *lines = programs[name].result().splitlines()
    assert len(lines) == (54 if name == "wide" else 27)  # XOR and 26 networks of each dtype
    expected = run(library, isa).splitlines()
    assert expected[0] == isa
    assert lines == [line for line in expected[1:] if name == "wide" or line.startswith("f32")]


@pytest.mark.parametrize("build", BUILDS)
@pytest.mark.parametrize("compiler", COMPILERS)
def test_strictly(compiler, build, folder):
    run(COMPILERS[compiler], *STRICT, "-Wshadow", *BUILDS[build], "-fsyntax-only", folder / "microbp.c")


@pytest.mark.parametrize(("compiler", "build"), [(name, build) for name in COMPILERS for build in (LINKED if name == "gcc" else BUILDS)])
def test_each_build_links(compiler, build, folder, tmp_path):
    """Without optimization, every function that any code names must be there."""
    (tmp_path / "program.c").write_text('#include "microbp.h"\nint main(void) { return mbp_version() == 0; }\n', encoding="utf-8")
    sources = [tmp_path / "program.c", folder / "microbp.c"]
    run(COMPILERS[compiler], "-std=c11", "-O0", *LINKED[build], "-I", folder, *sources, "-lm", "-o", tmp_path / "program")


@pytest.mark.parametrize("flag", NOT_DIGITS)
@pytest.mark.parametrize("compiler", COMPILERS)
def test_options_that_are_not_digits_are_refused(compiler, flag, folder):
    done = subprocess.run(
        [COMPILERS[compiler], flag, "-fsyntax-only", folder / "microbp.c"], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode != 0
    assert re.search(f"error.*{NOT_DIGITS[flag]}", done.stderr)


@pytest.mark.parametrize("standard", ["c89", "c++20"])
def test_the_header(standard, folder, tmp_path):
    compiler, source = ("c++", "program.cpp") if "++" in standard else (next(iter(COMPILERS.values())), "program.c")
    if not shutil.which(compiler):
        pytest.skip("no C++ compiler")
    (tmp_path / source).write_text('#include "microbp.h"\nint main(void) { return mbp_version() == 0; }\n', encoding="utf-8")
    run(compiler, f"-std={standard}", "-pedantic", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", "-I", folder, tmp_path / source)


@pytest.mark.parametrize("flag", ["-ffast-math", "-Ofast", "-ffinite-math-only"])
@pytest.mark.parametrize("compiler", COMPILERS)
def test_flags_that_change_results_are_refused(compiler, flag, folder):
    command = [COMPILERS[compiler], flag, "-fsyntax-only", folder / "microbp.c"]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode != 0
    assert "-ffast-math, -Ofast and -ffinite-math-only change the results: add -fno-fast-math for this file" in done.stderr
    run(*command[:2], "-fno-fast-math", *command[2:])


@pytest.mark.skipif(not (ROOT / "PKG-INFO").exists(), reason="not in an sdist")
def test_an_sdist_contains_the_files(folder):
    names = {path.name for path in folder.glob("microbp.*")}
    assert names == {path.name for path in (ROOT / "amalgamation").iterdir()} == {"microbp.c", "microbp.h", "microbp.hpp"}
    for name in names:
        assert (ROOT / "amalgamation" / name).read_bytes() == (folder / name).read_bytes()


def test_the_table_of_contents(folder):
    lines = (folder / "microbp.c").read_text("utf-8").splitlines()
    contents = [(int(number), name) for line in lines[:200] for number, name in re.findall(r"^ \*  +(\d+) (\S.*)$", line)]
    assert [name for _, name in contents if name.endswith((".c", ".h", ".def"))] != []
    for number, name in contents:
        assert lines[number - 1].startswith(f"/* ==== {name} ="), (number, name)
    files = {path.relative_to(ROOT / "src").as_posix() for path in (ROOT / "src").rglob("*.[ch]") if path.parent.name != "include"}
    assert files <= {name for _, name in contents}
