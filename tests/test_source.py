"""The rules of the source: floors, sizes, which functions may be called where, and what the compiled objects contain."""

import ast
import platform
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

import microbp as bp

ROOT = Path(__file__).parent.parent
SOURCES = ROOT / "src"
C_FILES = sorted(path for path in SOURCES.rglob("*") if path.suffix in (".c", ".h", ".def"))
PUBLIC_HEADERS = ["microbp.h", "microbp_base.h", "microbp_file.h", "microbp_net.h", "microbp_train.h"]
PYTHON_FILES = sorted((ROOT / "microbp").rglob("*.py"))

# The rooms of src/ with their floors: a file includes only files of its own room and of lower floors.
C_FLOORS = {
    "include": 0,
    "config": 0,
    "formulas": 1,
    "system": 1,
    "kernels/pooling": 1,
    "kernels/products": 1,  # parts of kernels.c
    "kernels": 2,
    "system/threads": 2,
    "net/lock": 2,
    "arrays": 3,
    "net/states": 4,
    "int8": 4,
    "net": 3,
    "passes/plan": 4,
    "passes/positions": 5,
    "passes": 6,
    "passes/derivatives": 7,
    "train/sparse": 6,
    "train/solvers": 3,
    "train": 7,
    "train/steps": 8,
    "train/fitting": 9,
    "file": 8,
}
FOR_EACH_ISA = {"kernels.c", "noise.c"}  # compiled for each instruction set
HAS_VARIANTS = FOR_EACH_ISA | {"dots.c"}  # or with functions for some
MOST_FILES, README_LINES, WIDTH = 14, 40, 120

# The rooms of microbp/ with their floors: a file imports only from its own room and lower floors. DOORS are files next to the rooms, for
# users to import; TOP is above everything. Any file may import _doors.py: it imports functions on higher floors when they are called.
PYTHON_FLOORS = {
    "_doors": 0, "reference/integers": -1, "reference/sharing": -1, "reference/sparse": -1, "reference/positions": -2,
    "reference/hashing": -1,
    "reference/files": -1, "reference/states": -1, "reference/ranks": -1,
    "reference/solvers": -1, "reference": 0, "core": 1, "data": 2, "network/states": 2, "network": 3,
    "network/positions": 4, "settings": 3,
    "training/engine": 4, "training/team": 4, "training/flat": 4, "training/loop": 5, "training": 6,
    "explaining": 7,
    "training/layers": 4, "training/loop/records": 4,
    "ranks": 2, "drawing": 3, "many": 7, "online": 7, "tables/readers": 7, "tables/ranks": 8, "tables/encodings": 8, "tables/sparse": 8,
    "tables": 9, "tables/fitted": 10, "exchange/shared": 9, "exchange/onnx/reading": 9, "exchange/onnx": 10, "exchange/torch": 10,
    "exchange/c": 10, "exchange": 11,
    "diagnosis": 8,
    "reports": 11,
    "plots": 10, "doors": 11, "cli": 12, "cli/commands": 13, "sklearn/tables": 11, "sklearn": 12, "top": 14,
}  # fmt: skip
DOORS, TOP = {"plot.py"}, {"__init__.py", "__init__.pxd", "__main__.py"}

LONGEST = 500  # lines
CYTHON_FILES = [ROOT / "microbp/core/_core.pyx", *sorted((ROOT / "microbp/core").glob("*.pxi"))]

# Functions that must not be called, except in ALLOWED_IN: allocation, output, environment variables, exit.
FORBIDDEN = re.compile(r"\b(malloc|calloc|realloc|aligned_alloc|free|printf|fprintf|puts|exit|_exit|abort|getenv|setlocale)\s*\(")
ALLOWED_IN = {"memory.c", "disk.c"}


def code_of(path: Path) -> str:
    """A C file without comments and strings."""
    return re.sub(r'/\*.*?\*/|"(?:[^"\\\n]|\\.)*"', " ", path.read_text(), flags=re.DOTALL)


# ---- C ----


def room_of(path: Path) -> str:
    return path.parent.relative_to(SOURCES).as_posix()


def includes(path: Path) -> list[Path]:
    """The files of src/ that a file includes, by their path from src/; the public headers by their names alone, as users include them."""
    names = re.findall(r'^#include "([^"]+)"', path.read_text(), re.MULTILINE)
    return [SOURCES / ("include" if name in PUBLIC_HEADERS else "") / name for name in names]


def cycle(arrows: dict[str, set[str]]) -> list[str]:
    """The names along a cycle of arrows; [] if there is no cycle."""
    path: list[str] = []
    done: set[str] = set()

    def visit(name: str) -> list[str]:
        if name in path:
            return [*path[path.index(name) :], name]
        if name in done:
            return []
        path.append(name)
        found = next(filter(None, map(visit, sorted(arrows.get(name, ())))), [])
        done.add(path.pop())
        return found

    return next(filter(None, map(visit, sorted(arrows))), [])


def test_cycles_are_found():
    assert cycle({"a": {"b"}, "b": {"c", "d"}, "d": {"b"}}) == ["b", "d", "b"]
    assert cycle({"a": {"b", "c"}, "b": {"c"}}) == []


def test_every_room_has_a_floor_a_readme_and_few_files():
    rooms = Counter(map(room_of, C_FILES))
    assert set(rooms) == set(C_FLOORS)
    for name, files in rooms.items():
        assert files <= MOST_FILES, name
    for name in ("", *rooms):
        assert 0 < len((SOURCES / name / "README.md").read_text("utf-8").splitlines()) <= README_LINES, name


def test_the_public_headers_are_alone_in_their_folder():
    assert [path.name for path in C_FILES if room_of(path) == "include"] == PUBLIC_HEADERS


def test_names_of_c_files_are_unique():
    """A static library contains the objects without their folders."""
    names = [path.name for path in C_FILES]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("path", C_FILES, ids=lambda path: path.name)
def test_includes_use_only_lower_floors(path):
    room = room_of(path)
    for other in includes(path):
        assert other.is_file(), f"{path.name} includes {other}"
        same = room_of(other) == room
        assert same or C_FLOORS[room_of(other)] < C_FLOORS[room], f"{room}/{path.name} includes {other.relative_to(SOURCES)}"


def test_no_circular_includes():
    assert cycle({path.name: {other.name for other in includes(path)} for path in C_FILES}) == []


@pytest.mark.parametrize("path", C_FILES, ids=lambda path: path.name)
def test_only_memory_and_disk_call_the_system(path):
    if path.name not in ALLOWED_IN:
        assert not FORBIDDEN.findall(code_of(path))


@pytest.mark.parametrize("path", C_FILES, ids=lambda path: path.name)
def test_no_line_of_c_is_long(path):
    assert [line for line in path.read_text().splitlines() if len(line) > WIDTH] == []


@pytest.mark.parametrize("path", [*C_FILES, *PYTHON_FILES, *CYTHON_FILES], ids=lambda path: path.name)
def test_no_file_is_long(path):
    assert len(path.read_text().splitlines()) <= LONGEST


# ---- Python ----

PACKAGE = ROOT / "microbp"


def python_room(path: Path) -> str:
    """The room of a file of the package."""
    folder = path.parent.relative_to(PACKAGE).as_posix()
    return folder if folder != "." else "top" if path.name in TOP else "_doors" if path.name == "_doors.py" else "doors"


def imported(path: Path) -> set[Path]:
    """The files of the package that a file imports, also inside functions and for type checkers."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = path.parents[node.level - 1].joinpath(*(node.module or "").split("."))
            for alias in node.names:
                inside = [base / f"{alias.name}.py", base / alias.name / "__init__.py", base / f"{alias.name}.pyi"]
                found.add(next((file for file in [*inside, base.with_suffix(".py"), base.with_suffix(".pyi"), base / "__init__.py"]
                                if file.is_file()), base / alias.name))  # fmt: skip
    return found


def test_every_room_of_python_has_a_floor_a_readme_and_few_files():
    files = [*PYTHON_FILES, *CYTHON_FILES, *PACKAGE.rglob("*.pyi"), *PACKAGE.rglob("*.pxd")]
    rooms = Counter(map(python_room, files))
    assert set(rooms) <= set(PYTHON_FLOORS)
    for name, count in rooms.items():
        assert count <= MOST_FILES, name
    for name in {"", *PYTHON_FLOORS} - {"_doors", "doors", "top"}:
        assert 0 < len((PACKAGE / name / "README.md").read_text("utf-8").splitlines()) <= README_LINES, name
    assert {path.name for path in PACKAGE.glob("*.py")} <= DOORS | TOP | {"_doors.py"}


@pytest.mark.parametrize("path", PYTHON_FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_use_only_lower_floors(path):
    room = python_room(path)
    for other in imported(path):
        assert other.is_file() and other.is_relative_to(PACKAGE), f"{path} imports {other}"
        same = python_room(other) == room
        assert same or PYTHON_FLOORS[python_room(other)] < PYTHON_FLOORS[room], f"{path} imports {other}"


@pytest.mark.parametrize("path", PYTHON_FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_of_the_package_are_relative(path):
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
        assert not [name for name in names if name.partition(".")[0] == "microbp"]
        if python_room(path).startswith("reference"):
            assert not [name for name in names if name.partition(".")[0] == "numpy"]


def test_no_circular_imports():
    name = {path: str(path.relative_to(PACKAGE)) for path in [*PYTHON_FILES, *PACKAGE.rglob("*.pyi")]}
    assert cycle({name[path]: {name[other] for other in imported(path)} for path in PYTHON_FILES}) == []


def test_doors_are_imported_on_first_use():
    script = "import sys, microbp; microbp.Trainer; print(*(name for name in sys.modules if name.startswith('microbp.')))"
    loaded = subprocess.run([sys.executable, "-P", "-c", script], capture_output=True, text=True, check=True, timeout=60).stdout.split()
    doors = {path.stem for path in PYTHON_FILES if python_room(path) == "doors"}
    assert not {name.split(".")[1] for name in loaded} & (doors | {"reference", "many", "tables", "exchange", "cli", "sklearn"})


def test_the_binding_imports_nothing_of_the_package():
    """Only the declarations of the C library in __init__.pxd, which are gone once it is compiled."""
    source = "".join(path.read_text() for path in CYTHON_FILES)
    assert not re.findall(r"^\s*(?:from|import|cimport)\s+(?:\.|microbp(?! cimport \*$)|numpy).*", source, re.MULTILINE)


# ---- tests/ and bench/ ----

BESIDE = sorted(
    path
    for folder in ("tests", "bench")
    for path in (ROOT / folder).rglob("*")
    if path.suffix in (".py", ".c", ".h", ".md") and not any(part.startswith(".") for part in path.relative_to(ROOT).parts)
)


def test_tests_and_bench_keep_the_limits_of_the_source():
    folders = Counter(path.parent for path in BESIDE if path.suffix != ".md")
    assert {folder: count for folder, count in folders.items() if count > MOST_FILES} == {}
    lines = {path: len(path.read_text("utf-8").splitlines()) for path in BESIDE}
    assert {path: count for path, count in lines.items() if count > (README_LINES if path.name == "README.md" else LONGEST)} == {}
    pages = {folder for folder in folders if folder.is_relative_to(ROOT / "bench")} | {ROOT / "tests"}
    assert {folder for folder in pages if folder / "README.md" not in lines} == set()


def test_folders_of_tests_are_named_after_rooms():
    """Or inside such a folder, or in tests/mpi, which mpiexec starts, or tests/docs. Tests of the repository itself are in tests/."""
    rooms = {ROOT / "tests" / name for name in (*PYTHON_FLOORS, *(f"c/{room}" for room in C_FLOORS), "mpi", "docs")}
    tests = {path for path in BESIDE if path.name.startswith("test_")}
    assert {path for path in tests if not rooms & set(path.parents)} <= {*(ROOT / "tests").glob("*.py"), *(ROOT / "tests/c").glob("*.py")}


# ---- compiled objects ----


@pytest.fixture(scope="module")
def library() -> Path:
    return next(Path(bp.get_library_dir()).glob("*.a"))


def members(tool: list[str], library: Path) -> list[tuple[str, str]]:
    """(object's name, the tool's output for it) for each object of the library."""
    if shutil.which(tool[0]) is None:
        pytest.skip(f"{tool[0]} is not installed")
    text = subprocess.run([*tool, str(library)], capture_output=True, text=True, check=True, timeout=60).stdout
    parts = re.split(r"^(\S+\.o):.*$", text, flags=re.MULTILINE)
    return list(zip(parts[1::2], parts[2::2], strict=True))


def symbols(text: str) -> tuple[set[str], set[str]]:
    """The symbols that an object defines for others, and the symbols that it needs."""
    defined = set(re.findall(r"^[0-9a-f]+ [A-TV-Z] (\S+)$", text, re.MULTILINE))
    return defined, set(re.findall(r"^ +U (\S+)$", text, re.MULTILINE))


def source_name(member: str) -> str:
    return member.removesuffix(".o") if member.endswith(".c.o") else member.removesuffix(".o") + ".c"


def test_calls_use_only_lower_floors(library):
    """A header may declare functions of several files, so the symbols of the objects show which file calls which."""
    room = {path.name: room_of(path) for path in C_FILES}
    objects = [(source_name(name), *symbols(text)) for name, text in members(["nm"], library)]
    home = {symbol: name for name, defined, _ in objects for symbol in defined}
    calls = {name: {home[symbol] for symbol in needed & set(home)} - {name} for name, _, needed in objects}
    for name, others in calls.items():
        for other in others:
            same = room[other] == room[name]
            assert same or C_FLOORS[room[other]] < C_FLOORS[room[name]], f"{room[name]}/{name} calls {room[other]}/{other}"
    assert cycle(calls) == []


def test_a_kernel_object_exports_its_tables_and_calls_only_code_for_all_processors(library):
    kernels = [symbols(text) for name, text in members(["nm"], library) if source_name(name) in FOR_EACH_ISA]
    assert len(set().union(*(defined for defined, _ in kernels))) >= 2
    for defined, needed in kernels:  # one object for each instruction set and dtype, or one for all (src/cmake/ordered.cmake)
        assert defined and all(re.fullmatch(r"mbp_(kernels|noise|training)_\w+", name) for name in defined), defined
        others = {name for name in needed if not name.startswith("mbp_noise_")}  # a table has the address of its noise
        common = {"memcpy", "memset", "mbp_words", "mbp_draw", "_GLOBAL_OFFSET_TABLE_"}
        assert {name for name in others if not name.startswith("mbp_focal_")} <= common


def test_every_exported_symbol_has_the_prefix(library):
    for name, text in members(["nm"], library):
        assert all(symbol.startswith("mbp_") for symbol in symbols(text)[0]), name


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="x86 only")
def test_no_avx_outside_of_kernels(library):
    """A VEX or EVEX instruction has a mnemonic that starts with v (vmovaps), or uses a ymm, zmm or mask register."""
    avx = re.compile(r"\t(v[a-z0-9]+) |%[yz]mm\d|%k[0-7]\b")
    seen = set()
    for name, text in members(["objdump", "-d", "--no-show-raw-insn"], library):
        found = [line for line in text.splitlines() if (match := avx.search(line)) and match[1] not in ("verr", "verw")]
        seen.add((source_name(name) in FOR_EACH_ISA, bool(found)))
        assert source_name(name) in HAS_VARIANTS or not found, f"{name}: {found[:3]}"
    assert (True, True) in seen, "the pattern does not find the AVX instructions of the kernels"
