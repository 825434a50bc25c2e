"""The manual as a site: it builds without a warning, explains every public name, loses no word, and its links, search and pages work."""

from __future__ import annotations

import fcntl
import functools
import html
import importlib.util
import inspect
import re
import subprocess
import sys
import zlib
from dataclasses import fields
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from browser import View

import microbp as bp
from microbp.cli.options import COMMANDS
from microbp.core.specs import table

ROOT = Path(__file__).parents[2]
HEADERS = {path.name: path.read_text("utf-8") for path in sorted(Path(bp.get_include()).glob("*.h"))}
SAMPLE = ("docs/README", "docs/first-net", "docs/reference/training", "docs/reference/formulas", "docs/reference/c-networks",
          "docs/reference/command-line", "bench/RESULTS", "README")  # fmt: skip


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site, with what Sphinx reports in `warnings.txt`: one for all workers of pytest-xdist."""
    for module in ("sphinx", "myst_parser", "furo"):
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"{module} is not installed: pip install '.[docs]'")
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if re.fullmatch(r"popen-gw\d+", base.name) else base) / "manual"
    folder.mkdir(exist_ok=True)
    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "warnings.txt").exists():
            command = [sys.executable, "-P", "-m", "sphinx", "-W", "--keep-going", "-n", "-q", str(ROOT / "docs"), str(folder / "site")]
            done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=240, check=False)
            (folder / "warnings.txt").write_text(done.stdout if done.returncode else "", "utf-8")
    return folder / "site"


class Page(HTMLParser):
    """What a page has: its text, anchors, links, addresses that a browser loads at once, names in lists of arguments (terms), and code that
    is neither a link nor in a heading (plain)."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.words, self.anchors = "", {""}
        self.links: list[str] = []
        self.loads: list[str] = []
        self.terms: set[str] = set()
        self.plain: set[str] = set()
        self._open: list[str] = []
        self._code = ""
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self._open += [tag] if tag not in _EMPTY else []
        self.words += "" if tag in ("span", "code", "a", "em", "strong") else "\n"
        self.anchors.add(given.get("id", ""))
        self.links += [given["href"]] if tag == "a" and "href" in given else []
        self.loads += [given[name] for name in ("src", "href") if name in given and tag in ("script", "link", "img")]

    def handle_endtag(self, tag: str) -> None:
        if tag == "code":
            self.terms |= {self._code} if "dt" in self._open else set()
            self.plain |= {self._code} if not {"a", "dt", "pre", "h1", "h2", "h3", "h4"} & set(self._open) else set()
            self._code = ""
        while tag in self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        self.words += "" if {"script", "style"} & set(self._open) else data
        self._code += data if "code" in self._open else ""


_EMPTY = ("area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr")


def words(text: str) -> str:
    """The words of a text in small letters, each with a blank before and after it."""
    return " ".join(["", *re.findall(r"[^\W_]+", text.lower()), ""])


@pytest.fixture(scope="session")
def pages(site: Path) -> dict[str, Page]:
    """Each page of the site, by its path."""
    return {path.relative_to(site).as_posix(): Page(path.read_text("utf-8")) for path in site.rglob("*.html")}


@pytest.fixture(scope="session")
def names(site: Path) -> dict[str, set[str]]:
    """The names that the site explains, for each kind of the inventory, such as py:class."""
    lines = zlib.decompress((site / "objects.inv").read_bytes().split(b"\n", 4)[4]).decode().splitlines()
    found: dict[str, set[str]] = {}
    for name, kind in (re.match(r"(.+?) (\w+:\w+) ", line).groups() for line in lines):  # type: ignore[union-attr]
        found.setdefault(kind, set()).add(name)
    return found


def test_the_manual_builds_without_warnings(site):
    assert (site.parent / "warnings.txt").read_text("utf-8") == ""


# ---- nothing is missing ----


def public() -> dict[str, Any]:
    """Every public function and class, with the name that the reference has for it."""
    found = {f"bp.{name}": getattr(bp, name) for name in bp.__all__} | {"bp.threads.register": bp.threads.register}
    found |= {f"bp.sklearn.{name}": getattr(bp.sklearn, name) for name in bp.sklearn.__all__}
    if importlib.util.find_spec("matplotlib"):
        found |= {f"bp.plot.{name}": value for name in bp.plot.__all__ if callable(value := getattr(bp.plot, name))}
    return found


def test_the_reference_has_every_public_name(names):
    listed = set().union(*(names[kind] for kind in ("py:class", "py:function")))
    assert set(public()) - listed == set()
    schedules = {name for name, value in vars(bp.schedules).items() if isinstance(value, type) and name in bp.__all__}
    assert {f"bp.{name}" for name in schedules} <= listed and len(schedules) > 10


def test_the_reference_has_every_method_and_property(names):
    listed = names["py:method"] | names["py:property"]
    missing = []
    for name, cls in public().items():
        if not isinstance(cls, type):
            continue
        prefix = name.rpartition(".")[0]
        for member in dir(cls):
            home = next((base for base in cls.__mro__ if member in vars(base)), cls)
            value = inspect.getattr_static(cls, member)
            is_one = isinstance(value, property | functools.cached_property) or inspect.isroutine(value)
            is_one = is_one and "sklearn" not in str(getattr(value, "__module__", None))  # which adds methods such as set_fit_request
            if not member.startswith("_") and home.__module__.startswith("microbp") and is_one:
                missing += [f"{name}.{member}"] * ({f"{name}.{member}", f"{prefix}.{home.__name__}.{member}"}.isdisjoint(listed))
    assert missing == []
    assert len(listed) > 150


def test_the_reference_has_everything_that_the_headers_declare(names):
    text = "\n".join(HEADERS.values())
    functions = set(re.findall(r"^MBP_(?:API|INLINE) [^;{]*?\b(mbp_\w+)\(", text, re.MULTILINE))
    structures = set(re.findall(r"^typedef struct (mbp_\w+)", text, re.MULTILINE))
    enumerations = set(re.findall(r"^typedef enum (mbp_\w+)", text, re.MULTILINE))
    callbacks = set(re.findall(r"^typedef [^;{]*\(\*(mbp_\w+)\)", text, re.MULTILINE))
    assert functions == names["c:function"] and len(functions) > 100
    assert structures == names["c:struct"] and enumerations == names["c:enum"] and callbacks == names["c:type"]
    bodies = re.findall(r"\benum \w*\s*\{(.*?)\}", re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL), re.DOTALL)
    constants = set(re.findall(r"\bMBP_\w+", "".join(bodies)))
    listed = {name.rpartition(".")[2] for name in names["c:enumerator"]} | names["c:macro"]
    assert constants - listed == set() and len(constants) > 30


def test_the_reference_loses_no_word_of_a_docstring(pages):
    text = "".join(words(page.words) for name, page in pages.items() if name.startswith("docs/reference/"))
    texts = {name: re.sub(r"# doctest: .*", "", inspect.getdoc(value) or "?") for name, value in public().items()}
    assert [name for name, doc in texts.items() if words(doc) not in text] == []


def test_the_reference_loses_no_word_of_a_comment_in_the_headers(pages):
    text = "".join(words(page.words) for name, page in pages.items() if name.startswith("docs/reference/c"))
    comments = re.findall(r"/\* (.*?)\*/", "".join(HEADERS.values()), re.DOTALL)
    texts = [re.sub(r"^Part of microbp.h: .*\.|^ *\* ", "", comment, flags=re.MULTILINE) for comment in comments]
    assert [comment for comment in texts if words(comment) not in text] == [] and len(texts) > 200


def test_arguments_and_settings_are_in_lists(pages):
    reference = [page for name, page in pages.items() if name.startswith("docs/reference/")]
    terms = {term.partition("=")[0] for page in reference for term in page.terms}
    missing = []
    for name, value in public().items():
        if isinstance(value, type) and issubclass(value, dict):
            continue  # Record: it is made by fit
        first = re.findall(r"^(\w+)(?:=\S+)?: ", inspect.getdoc(value) or "", re.MULTILINE)
        missing += [f"{name}: {word}" for word in first if word in inspect.signature(value).parameters and word not in terms]
    assert missing == []


def test_public_names_in_code_are_links(pages, names):
    known = {name for kind in ("py:class", "py:function", "py:method", "c:function", "c:struct") for name in names[kind]}
    written = {name: page for name, page in pages.items() if name != "playground.html"}  # Sphinx does not make that one
    assert {name: sorted(page.plain & known) for name, page in written.items() if page.plain & known} == {}


def test_the_tables_have_every_formula_and_option(pages, names):
    text = words(pages["docs/reference/formulas.html"].words)
    for kind in ("activation", "loss", "optimizer", "initializer", "output_activation", "solver"):
        for name, row in table(kind).items():
            parts = [name, *row.parameters, *row.meaning.split("; ")]
            assert [part for part in parts if words(part) not in text and part not in ("missing", "decay_bias")] == []
    options = [option for command in COMMANDS.values() for option in fields(command.options) if option.metadata["is_option"]]
    assert {f"--{option.name.replace('_', '-')}" for option in options} <= {name.rpartition(".")[2] for name in names["std:cmdoption"]}


# ---- the site works ----


def test_every_link_leads_to_a_page_and_an_anchor(site, pages):
    dead = []
    for name, page in pages.items():
        for link in {html.unescape(link) for link in [*page.links, *page.loads]}:
            path, _, anchor = link.partition("#")
            if re.match(r"https?:|mailto:|data:", link):
                continue
            target = (site / name).parent / unquote(path.partition("?")[0]) if path else site / name
            other = pages.get(target.resolve().relative_to(site.resolve()).as_posix())
            if not target.exists() or (other and unquote(anchor) not in other.anchors):
                dead.append(f"{name}: {link}")
    assert dead == []


def test_no_page_loads_anything_from_the_network(site, pages):
    assert {load for page in pages.values() for load in page.loads if "//" in load} == set()
    assert not [path for path in site.rglob("*.css") if re.search(r"url\([\"']?https?:|@import", path.read_text("utf-8"))]


def test_the_site_has_the_playground_where_zig_can_compile_it(pages):
    has_zig = importlib.util.find_spec("ziglang") is not None
    assert ("playground.html" in pages) == ("../playground.html" in pages["docs/README.html"].links) == has_zig


@pytest.mark.parametrize(
    ("query", "first"),
    [
        ("dropout", "bp.Dropout"),
        ("Trainer.fit", "bp.Trainer.fit"),
        ("mbp_net_create", "mbp_net_create"),
        ("csv", "Files and columns"),
        ("early stopping", "bp.EarlyStopping"),
    ],
)
def test_the_search_finds_what_a_reader_wants_among_the_first(site, chromium, query, first):
    with View(chromium, f"{(site / 'search.html').as_uri()}?q={query}") as view:
        view.page.wait_for_selector("#search-results > p", timeout=20000)  # how many pages were found
        found = [link.inner_text() for link in view.page.query_selector_all("#search-results ul.search li a")]
        assert first in found[:8]
        assert view.faults() == []


@pytest.mark.parametrize("width", [390, 1200])
@pytest.mark.parametrize("name", SAMPLE)
def test_pages_are_whole_at_every_width(site, chromium, name, width):
    for dark in (False, True):
        with View(chromium, site / f"{name}.html", width=width, dark=dark) as view:
            assert view.faults() == []
