"""README.md and the pages of docs/ are correct: their programs run, and print what the pages show.

The blocks of a page run in order, in an empty folder: `python` in one namespace, `sh` by `sh -e` with this interpreter's folder first on
PATH. A `text` block directly below another block is its standard output, in which ... matches anything. A block with "Save this as `net.c`"
directly above or below it is saved as that file; C must also compile without warnings. Comments on the line before a block:

<!-- needs: torch -->   runs only if torch can be imported; a C library, for example kann: if $KANN is a folder with kann.h
<!-- fresh: run -->     does not run here: README's two commands, each for a fresh checkout
<!-- not run: why -->   does not run at all

A block that uses .venv/ or clones a repository needs a checkout, and does not run either.
"""

from __future__ import annotations

import contextlib
import doctest
import importlib.util
import io
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

import microbp as bp

ROOT = Path(__file__).parents[2]
PAGES = {path.relative_to(ROOT).as_posix(): path for path in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))}
GUIDE = [name for name in PAGES if not name.endswith("README.md")]
# Module of the extra "test" -> a pattern of the blocks that need it.
_IMPORTED = ("sklearn", "scipy", "pandas", "safetensors", "threadpoolctl", "onnxruntime")
EXTRAS = {name: rf"(import|from) {name}" for name in _IMPORTED} | {"matplotlib": r"bp\.plot|--plot"}
FLAGS = ("-std=c11", "-Wall", "-Wextra", "-Werror")

_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_MARK = re.compile(r"<!-- (needs|fresh|not run): ([^\n]+) -->\n\Z")
_SAVE = r"Save (?:this|it) as `([\w.-]+)`"


@dataclass
class Block:
    """A fenced block: where it is, what it needs, the file it is saved as, and the output that the page shows."""

    line: int
    language: str
    code: str
    needs: str | None
    runs: bool
    file: str | None
    output: str | None = None


def read(page: str) -> list[Block]:
    """The blocks of a page, each with the `text` block of its output."""
    blocks: list[Block] = []
    end = 0
    for match in _BLOCK.finditer(page):
        between, (language, code), line = page[end : match.start()], match.groups(), page.count("\n", 0, match.start()) + 1
        end = match.end()
        if language == "text":
            assert blocks and not between.strip(), f"line {line}: a text block is the output of the block directly above it"
            blocks[-1].output = code
            continue
        mark = _MARK.search(between)
        key, value = mark.groups() if mark else ("", None)
        above = re.search(rf"{_SAVE}:\n\n?\Z", between[: mark.start()] if mark else between)
        below = re.match(rf"\n+{_SAVE}", page[end:])
        file = (above or below or [None, None])[1]
        runs = key not in ("fresh", "not run") and not re.search(r"\.venv/|git clone", code)
        blocks.append(Block(line, language, code, value if key == "needs" else None, runs, file))
    return blocks


def is_available(need: str) -> bool:
    """Whether the Python module, or the folder with the C library's sources, exists."""
    return importlib.util.find_spec(need) is not None or Path(folder_of(need), f"{need}.h").exists()


def folder_of(need: str) -> str:
    return os.environ.get(need.upper(), "")


def run(page: str, folder: Path, needs: str | None = None) -> str:
    """Runs the blocks of a page in a folder; returns what they print. A block with a need runs only if it is `needs`."""
    namespace: dict[str, object] = {"__name__": "__main__"}
    printed = ""
    for block in read(page):
        if not block.runs or block.needs not in (None, needs):
            continue
        if block.file:
            (folder / block.file).write_text(block.code, "utf-8")
            if block.language == "c":
                own = f"-isystem '{folder_of(block.needs)}'" if block.needs else ""
                shell(f"cc {' '.join(FLAGS)} -fsyntax-only -I'{bp.get_include()}' {own} {block.file}", folder, block.line)
            continue
        assert block.language in ("python", "sh"), f"line {block.line}: cannot run {block.language!r}; name the file to save it as"
        out = python(block, namespace) if block.language == "python" else shell(block.code, folder, block.line)
        if block.output is not None:
            compare(block.output, out, block.line)
        printed += out
    return printed


def python(block: Block, namespace: dict[str, object]) -> str:
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(compile("\n" * block.line + block.code, "page", "exec"), namespace)
    return out.getvalue()


def shell(code: str, folder: Path, line: int) -> str:
    environment = os.environ | {"PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])}
    done = subprocess.run(["sh", "-e", "-c", code], cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, f"line {line}: {code}\n{done.stdout}{done.stderr}"
    return done.stdout


def compare(expected: str, printed: str, line: int) -> None:
    same = doctest.OutputChecker().check_output(expected, printed, doctest.ELLIPSIS)
    assert same, f"line {line}: the page shows\n{expected}\nand the block above prints\n{printed}"


# ---- the pages ----


def cases() -> list[object]:
    """(page, None), and (page, need) for each need of its blocks."""
    found = []
    for name, path in PAGES.items():
        needs = {block.needs for block in read(path.read_text("utf-8")) if block.needs and block.runs}
        for need in (None, *sorted(needs)):
            marks = [pytest.mark.peers] if need in ("torch", "keras") else []
            marks += [pytest.mark.filterwarnings("ignore::DeprecationWarning:keras")] if need == "keras" else []  # its own use of NumPy
            found.append(pytest.param(name, need, id=f"{name}-{need}" if need else name, marks=marks))
    return found


@pytest.mark.parametrize(("name", "needs"), cases())
def test_every_block_runs_and_prints_what_the_page_shows(name, needs, tmp_path, monkeypatch):
    page = PAGES[name].read_text("utf-8")
    blocks = [block for block in read(page) if block.runs and block.needs in (None, needs)]
    extras = [extra for extra, use in EXTRAS.items() if any(re.search(use, block.code) for block in blocks)]
    for need in (*extras, *([needs] if needs else [])):
        if not is_available(need):
            pytest.skip(f"{need} is not installed")
    if any(block.language == "c" for block in blocks) and shutil.which("cc") is None:
        pytest.skip("no C compiler named cc")
    monkeypatch.chdir(tmp_path)
    run(page, tmp_path, needs)


@pytest.mark.parametrize("name", PAGES)
def test_every_relative_link_leads_to_a_file_and_a_heading(name):
    assert dead_links(PAGES[name].read_text("utf-8"), PAGES[name]) == []


@pytest.mark.parametrize("name", PAGES)
def test_every_public_name_exists(name):
    assert unknown_names(PAGES[name].read_text("utf-8")) == []


def dead_links(page: str, path: Path) -> list[str]:
    """The links of a page to files or headings that do not exist in the repository."""
    dead = []
    for link in re.findall(r"\]\(([^)\s]+)\)", _BLOCK.sub("", page)):
        target, _, anchor = link.partition("#")
        linked = path.parent / target if target else path
        if "://" in link or (linked.exists() and not anchor):
            continue
        headings = re.findall(r"^#+ (.+)$", linked.read_text("utf-8"), re.MULTILINE) if linked.is_file() else []
        if anchor not in [re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings]:
            dead.append(link)
    return dead


def unknown_names(page: str) -> list[str]:
    """Names in backticks that do not exist in bp, in a trainer t, in a network net or in microbp.h."""
    codes = [re.sub(r'"[^"]*"', "", code) for code in re.findall(r"`([^`\n]+)`", _BLOCK.sub("", page))]
    known = {"bp": {*bp.__all__, "plot", "schedules", "threads"}, "t": set(dir(bp.Trainer)), "net": set(dir(bp.Network))}
    used = [pair for code in codes for pair in re.findall(r"(?<![\w.])(bp|t|net)\.([A-Za-z]\w*)", code)]
    headers = "".join(path.read_text("utf-8") for path in Path(bp.get_include()).glob("*.h"))
    header = set(re.findall(r"\bmbp_\w+|\bMBP_\w+", headers, re.IGNORECASE))
    in_c = [word for code in codes for word in re.findall(r"\bmbp_\w+|\bMBP_\w+", code)]
    return [f"{owner}.{name}" for owner, name in used if name not in known[owner]] + [word for word in in_c if word not in header]


def test_every_option_of_the_command_line_exists():
    help = "".join(shell(f"microbp {command} --help", ROOT, 0) for command in ("train", "predict", "lr-find", "info"))
    assert [
        option for option in re.findall(r"(?<![\w-])--[a-z][a-z-]*", PAGES["docs/tables.md"].read_text("utf-8")) if option not in help
    ] == []


@pytest.mark.parametrize("name", GUIDE)
def test_the_index_names_every_page_and_pages_are_short(name):
    assert f"]({name.removeprefix('docs/')})" in PAGES["docs/README.md"].read_text("utf-8")
    assert 60 <= len(PAGES[name].read_text("utf-8").splitlines()) <= 180


# ---- README ----


def test_the_programs_of_the_readme_train_good_networks(tmp_path, monkeypatch):
    if shutil.which("cc") is None:
        pytest.skip("no C compiler named cc")
    monkeypatch.chdir(tmp_path)
    printed = run(PAGES["README.md"].read_text("utf-8"), tmp_path) + shell("./xor", tmp_path, 0)
    accuracy = re.search(r"accuracy ([01]\.\d+)", printed)
    assert accuracy and float(accuracy[1]) > 0.95
    assert (tmp_path / "xor.safetensors").exists()
    np.testing.assert_allclose([float(word) for word in printed.split("xor")[-1].split()], [0, 1, 1, 0], atol=0.05)


def test_the_report_in_the_readme_has_the_same_lines_as_a_real_one(tmp_path):
    """Its table is not downloaded here. Another table with the same columns gives the same lines with other numbers."""
    (block,) = [block for block in read(PAGES["README.md"].read_text("utf-8")) if "diamonds.csv --target" in block.code]
    rows = [
        f"{i % 7},{'abc'[i % 3]},{'DEF'[i % 3]},{'xy'[i % 2]},{i % 11},{i % 5},{100 * 1.05 ** (i**2 % 97):.0f},{i % 3},{i % 6},{i % 9}"
        for i in range(600)
    ]
    (tmp_path / "diamonds.csv").write_text("\n".join(["carat,cut,color,clarity,depth,table,price,x,y,z", *rows]), "utf-8")
    (command,) = re.findall(r"^microbp train .*$", block.code, re.MULTILINE)
    printed = shell(command, tmp_path, block.line)
    assert block.output is not None
    shown, real = (re.sub(r"[-\d.,+e]*\d", "0", re.sub(" +", " ", text)) for text in (block.output, printed))
    compare(shown, real, block.line)


def test_the_two_commands_of_the_readme_are_marked_and_single_lines():
    for what, needs in (("run", "microbp train digits"), ("test", "pytest")):
        command = re.search(rf"^<!-- fresh: {what} -->\n```sh\n(.*)\n```$", PAGES["README.md"].read_text("utf-8"), re.MULTILINE)
        assert command is not None
        assert needs in command[1]


def test_the_readme_is_short():
    assert len(PAGES["README.md"].read_text("utf-8").splitlines()) <= 150


# ---- these tests ----


@pytest.mark.parametrize(
    ("page", "what"),
    [
        ("```python\nprint(0.25)\n```\n```text\n0.5\n```\n", "line 1: the page shows"),
        ("```sh\necho yes\n```\n\n```text\nno\n```\n", "line 1: the page shows"),
        ("```python\n```\n\n```sh\nfalse\n```\n", "line 4"),
        ("```python\n```\nprose\n```text\n```\n", "line 4: a text block is the output"),
        ("```toml\nx = 1\n```\n", "line 1: cannot run 'toml'"),
        ("Save this as `a.c`:\n\n```c\nint main(void) { return x; }\n```\n", "line 3"),
    ],
)
def test_a_wrong_page_fails_with_its_line(page, what, tmp_path):
    with pytest.raises(AssertionError, match=what):
        run(page, tmp_path)


def test_a_correct_page_passes(tmp_path):
    page = (
        "Save this as `a.txt`:\n\n```csv\n1,2\n```\n\n```sh\ncat a.txt\n```\n```text\n1,...\n```\n<!-- needs: nothing_like_it -->\n"
        "```python\n1 / 0\n```\n<!-- not run: no -->\n```sh\nfalse\n```\n```python\nx = 1\n```\n```python\nprint(x)\n```\n```text\n1\n```\n"
    )
    assert run(page, tmp_path) == "1,2\n1\n"
    with pytest.raises(ZeroDivisionError):
        run(page, tmp_path, "nothing_like_it")
    assert not is_available("nothing_like_it")


def test_a_dead_link_and_a_wrong_name_are_found():
    page = "[a](c.md#errors-memory-threads) [b](nowhere.md) [c](c.md#nothing) [d](https://a.org) `bp.Adma()` `t.fit(X)` `mbp_foo` `net.fti`"
    assert dead_links(page, ROOT / "docs" / "page.md") == ["nowhere.md", "c.md#nothing"]
    assert unknown_names(page) == ["bp.Adma", "net.fti", "mbp_foo"]
