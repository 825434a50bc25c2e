"""Builds of the C library that leave code out: each compiles, has nothing of what it leaves out, and computes the same bits as a build with
everything."""

from __future__ import annotations

import re
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import cases
import pytest

ROOT = Path(__file__).parents[3]
SHAPE = Path(__file__).parent / "shape.c"
CC, CMAKE, NM = shutil.which("gcc"), shutil.which("cmake"), shutil.which("nm")

pytestmark = pytest.mark.skipif(not (CC and CMAKE and NM), reason="needs gcc, cmake and nm")


@dataclass
class Build:
    """Options of CMake; the program's definitions; symbols and texts that the library must not have."""

    options: dict[str, str]
    program: list[str] = field(default_factory=lambda: ["TRAINING"])
    symbols: str = ""
    texts: str = ""
    flags: str = "-O1"


ALL = ["TRAINING", "FILES"]
UNSUPPORTED = 20  # MBP_UNSUPPORTED
NO_GELU = 'graph line 2: this build (MICROBP_FORMULAS) has no activation "gelu"; did you mean "relu"? it has: identity, relu, sigmoid, tanh'
EXTRAS = ["focal", "gaps", "int8", "jacobian", "lists", "positions", "ranks", "scales", "slice"]
EXTRAS += ["solvers", "sparse", "standardize", "subtract"]
ADD = {extra: f"add {extra} to MICROBP_EXTRAS, or compile microbp.c without -DMICROBP_{extra.upper()}=0" for extra in EXTRAS}
BUILDS = {
    "all": Build({}, ALL),
    "small": Build({}, ALL, flags="-Os"),
    "generic": Build({"ISAS": "generic"}, ALL, symbols="mbp_kernels_sse2_f32 mbp_kernels_neon_f32"),
    "predict only": Build({"TRAINING": "OFF"}, ["FILES"], "mbp_trainer_create backward_relu loss_mse loop_adam", "cross_entropy rmsprop"),
    "small predict only": Build({"TRAINING": "OFF", "DTYPES": "f32"}, ["FILES"], "mbp_trainer_create backward_relu", "rmsprop", "-Os"),
    "no files": Build({"FILES": "OFF"}, symbols="mbp_net_save mbp_net_read mbp_disk_write", texts="safetensors"),
    "no threads": Build({"THREADS": "OFF"}, ALL, "mbp_pool_create mbp_pool_try pthread_create"),
    "float64": Build({"DTYPES": "f64"}, ["TRAINING", "DTYPE=F64"], "mbp_kernels_sse2_f32 mbp_kernels_neon_f32"),
    "float32": Build({"DTYPES": "f32"}, ALL, "mbp_kernels_sse2_f64 mbp_kernels_neon_f64"),
    "formulas": Build({"FORMULAS": "relu;tanh;mse;adam"}, ALL, "forward_gelu loss_bce loop_lion", "gelu lion softmax"),
    "no extras": Build(
        {"EXTRAS": ""},
        ALL,
        "backward_slice forward_standardize mbp_focal_bce mbp_lazy_add mbp_int8_create mbp_means_step mbp_norms_absent",
        "element_weights indptr",
    ),
    "small no extras": Build({"EXTRAS": "", "DTYPES": "f32"}, ALL, "backward_slice forward_standardize backward_subtract", flags="-Os"),
}  # fmt: skip


def run(*command: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=240, check=False)


def must(*command: object) -> str:
    done = run(*command)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def configure(folder: Path, options: dict[str, str], flags: str = "") -> subprocess.CompletedProcess[str]:
    """The build type has no flags of its own. The baseline of the processor is the only variant, unless ISAS is given."""
    if "ISAS" not in options:
        options = {**options, "ISAS": "neon" if "aarch64" in must(CC, "-dumpmachine") else "sse2"}
    given = [f"-DMICROBP_{name}={value}" for name, value in options.items()]
    return run(CMAKE, "-S", ROOT, "-B", folder, "-DCMAKE_BUILD_TYPE=Shape", f"-DCMAKE_C_COMPILER={CC}", f"-DCMAKE_C_FLAGS={flags}", *given)


def build(folder: Path, made: Build) -> Path:
    done = configure(folder, made.options, f"{made.flags} -Werror")
    assert done.returncode == 0, done.stdout + done.stderr
    must(CMAKE, "--build", folder, "--target", "microbp_static", "--parallel", "2")
    return next(folder.rglob("libmicrobp.a"))


def program(library: Path, *definitions: str) -> Path:
    path = library.parent / "_".join(["shape", *definitions]).replace("=", "_")
    flags = [*(f"-D{name}" for name in definitions), "-I", ROOT / "src/include"]
    must(CC, "-O1", "-Wall", "-Wextra", "-Werror", *flags, SHAPE, library, "-lm", "-pthread", "-o", path)
    return path


@pytest.fixture(scope="module")
def libraries(tmp_path_factory):
    with ThreadPoolExecutor(2) as pool:
        futures = {name: pool.submit(build, tmp_path_factory.mktemp(name.replace(" ", "_")), made) for name, made in BUILDS.items()}
        yield futures


@pytest.mark.parametrize("name", BUILDS)
def test_a_build_computes_the_same_bits_as_the_full_one(name, libraries, tmp_path):
    made = BUILDS[name]
    file = tmp_path / "net.safetensors"
    dtype = [word for word in made.program if word.startswith("DTYPE")]
    expected = must(program(libraries["all"].result(), *ALL, *dtype), file)
    assert re.fullmatch("[0-9a-f]+\n", expected)
    assert must(program(libraries[name].result(), *made.program), file) == expected


@pytest.mark.parametrize("loss", ["bce(gamma=2)", "bce(gamma=[0 2])", "cross_entropy(gamma=2)", "huber(delta=[1 0.1])"])
def test_parameters_of_losses_have_the_same_bits_in_small_code(loss, libraries):
    given = ["TRAINING", "ACTIVATION=tanh", f"LOSS={loss}", "OPTIMIZER=adam"]
    full, small = (run(program(libraries[name].result(), *given)) for name in ("all", "small"))
    assert (full.returncode, full.stdout) == (small.returncode, small.stdout) and full.returncode == 0


@pytest.mark.parametrize("name", BUILDS)
def test_a_build_has_nothing_of_what_it_leaves_out(name, libraries):
    library, full = libraries[name].result(), libraries["all"].result()
    found, all_found = (set(re.findall(r"\w+$", must(NM, path), re.MULTILINE)) for path in (library, full))
    left_out = set(BUILDS[name].symbols.split())
    assert not left_out & found
    assert not left_out or left_out & all_found  # the table has no wrong name
    for text in BUILDS[name].texts.split():
        assert text.encode() in full.read_bytes(), text
        assert text.encode() not in library.read_bytes(), text


@pytest.mark.parametrize(
    ("name", "definitions", "text"),
    [
        ("formulas", ["ACTIVATION=gelu"], NO_GELU),
        ("formulas", ["LOSS=mae"], 'this build (MICROBP_FORMULAS) has no loss "mae"; did you mean "mse"? it has: mse'),
        ("formulas", ["OPTIMIZER=lamb"], 'this build (MICROBP_FORMULAS) has no optimizer "lamb"; it has: adam'),
        ("float32", ["DTYPE=F64"], "this build has no float64: build it with MICROBP_DTYPES=f32;f64, or microbp.c with -DMICROBP_DOUBLE"),
        ("no extras", ["LOSS=mse(missing=1)"], "this build has no missing targets: {gaps}"),
        ("no extras", ["LOSS=bce(gamma=2)"], "this build has no losses with gamma: {focal}"),
        ("no extras", ["WEIGHTS=1"], "this build has no element weights: {gaps}"),
        ("no extras", ["JACOBIAN=1"], "this build has no Jacobians: {jacobian}"),
        ("no extras", ["RANKS=1"], "this build has no training on several processes: {ranks}"),
        ("no extras", ["LOSS=quantile(q=[0.1 0.9])"], "this build has no lists of parameters: {lists}"),
        (
            "no extras",
            ["LAST=output 6 mean=(0 0)"],
            "graph line 8: this build has no mean and std of outputs: {scales}",
        ),
        ("no extras", ["LAST=slice 6 from=0 to=1"], "graph line 8: this build has no slice: {slice}"),
        ("no extras", ["SPARSE=1"], "this build has no sparse rows: {sparse}"),
        ("no extras", ["LAST=standardize 6"], "graph line 8: this build has no standardize: {standardize}"),
        ("no extras", ["LAST=subtract 6 6"], "graph line 8: this build has no subtract: {subtract}"),
        ("float64", [], "this build has no float32: build it with MICROBP_DTYPES=f32;f64, or microbp.c with -DMICROBP_F32=1"),
    ],
)
def test_what_is_left_out_is_refused_with_a_clear_text(name, definitions, text, libraries):
    usual = {"ACTIVATION": "tanh", "LOSS": "mse", "OPTIMIZER": "adam"}
    given = usual | dict(word.split("=", 1) for word in definitions)
    done = run(program(libraries[name].result(), "TRAINING", *(f"{key}={value}" for key, value in given.items())))
    assert (done.returncode, done.stdout) == (UNSUPPORTED, text.format(**ADD) + "\n")


def test_a_file_that_needs_what_is_left_out(libraries, tmp_path):
    file = tmp_path / "net.safetensors"
    must(program(libraries["all"].result(), *ALL, "ACTIVATION=gelu", "LOSS=mse", "OPTIMIZER=adam"), file)
    done = run(program(libraries["formulas"].result(), "FILES"), file)
    assert (done.returncode, done.stdout) == (UNSUPPORTED, f"{file}: {NO_GELU}\n")


@pytest.mark.parametrize("option", ["ISAS", "DTYPES", "FORMULAS", "EXTRAS"])
def test_cmake_refuses_an_unknown_name_and_lists_the_valid_ones(option, tmp_path):
    done = configure(tmp_path, {option: "nonsense"})
    known = {"ISAS": "generic", "DTYPES": "f32, f64", "FORMULAS": "identity, relu, leaky_relu", "EXTRAS": ", ".join(EXTRAS)}[option]
    text = " ".join(done.stderr.split())
    assert done.returncode != 0
    assert f'MICROBP_{option}: unknown "nonsense"; valid, with ; between them: ' in text
    assert known in text


def test_every_formula_compiles_alone(tmp_path):
    """So the rows that a formula needs are there: its initializers and its output activation."""
    names = sorted({name for table in cases.TABLES.values() for name in table})
    flags = ["-std=gnu11", "-fsyntax-only", "-Wall", "-Wextra", "-Werror", "-I", ROOT / "src", "-I", ROOT / "src/include", "-DMBP_ISA=one"]
    sources = [ROOT / "src" / name for name in ("kernels/kernels.c", "kernels/catalog.c", "formulas/meanings.c", "formulas/random.c")]

    def compile_alone(name: str) -> str:
        chosen = {f"MICROBP_HAS_{word}=1" for word in (name, "mse", "sgd")}
        return run(CC, *flags, "-DMICROBP_FORMULAS=1", *(f"-D{word}" for word in sorted(chosen)), *sources).stderr

    with ThreadPoolExecutor(2) as pool:
        for name, errors in zip(names, pool.map(compile_alone, names), strict=True):
            assert not errors, f"{name}: {errors}"
