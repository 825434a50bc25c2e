"""microbp/__init__.pxd, which Cython programs cimport, declares what the headers declare, with the same types."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
Names = dict[str, object]


def plain(declaration: str) -> str:
    """A declaration with single blanks, and none beside punctuation."""
    text = re.sub(r"\bnoexcept\b|\bnogil\b|\b(\w+_?) (?=\"\w+\")", "", declaration).replace('"', "").replace("(void)", "()")
    return re.sub(r"\s*([*(),\[\]])\s*", r"\1", " ".join(text.split()))


def fields(lines: list[str]) -> list[str]:
    """The fields of a structure, each with its type: `int64_t in, out` are two."""
    found = []
    for line in filter(None, map(plain, lines)):
        several = re.fullmatch(r"(.*?)(\*?\w+(?:\[\w+\])?(?:,\*?\w+(?:\[\w+\])?)*)", line)
        found += [f"{several[1].strip()} {name}" for name in several[2].split(",")] if several else [line]
    return found


def of_headers() -> dict[str, Names]:
    text = "".join(path.read_text("utf-8") for path in sorted((ROOT / "src/include").glob("*.h")))
    text = re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)
    functions = re.findall(r"^(?:MBP_API|MBP_INLINE) ([^;{]+?(\w+)\([^;{]*\))\s*[;{]", text, re.MULTILINE)
    structures = re.findall(r"typedef struct (\w+) \{(.*?)\}", text, re.DOTALL)
    constants = re.findall(r"\benum \w* ?\{(.*?)\}", text, re.DOTALL)
    return {
        "functions": {name: plain(prototype) for prototype, name in functions},
        "structures": {name: fields(body.split(";")) for name, body in structures}
        | {name: [] for name in re.findall(r"typedef struct (\w+) \1;", text)},
        "constants": {name: None for body in constants for name in re.findall(r"\bMBP_\w+(?=\s*(?:,|=|$))", body)}
        | {name: None for name in re.findall(r"#define (MBP_VERSION\w*)", text)},
        "callbacks": {name: plain(line) for line, name in re.findall(r"typedef (\w+ \(\*(\w+)\)\([^;]*\));", text)},
    }


def of_pxd() -> dict[str, Names]:
    text = (ROOT / "microbp/__init__.pxd").read_text("utf-8").partition("nogil:\n")[2]
    functions = re.findall(r"^    ((?!ctypedef)[^\n]+?(mbp_\w+)\(.*?\))$", text, re.MULTILINE | re.DOTALL)
    structures = re.findall(r"ctypedef struct (\w+):\n((?: {8}.*\n)+)", text)
    constants = re.findall(r"enum.*:\n((?: {8}.*\n)+)", text) + re.findall(r"^    const .*?(MBP_.*)$", text, re.MULTILINE)
    return {
        "functions": {name: plain(prototype) for prototype, name in functions},
        "structures": {name: [] if body.strip() == "pass" else fields(body.splitlines()) for name, body in structures},
        "constants": {name: None for line in constants for name in re.findall(r"MBP_\w+", line)},
        "callbacks": {name: plain(line) for line, name in re.findall(r"ctypedef (\w+ \(\*(\w+)\)\(.*\))", text)},
    }


@pytest.mark.parametrize("kind", ["functions", "structures", "constants", "callbacks"])
def test_cython_has_the_declarations_of_the_headers(kind):
    """Without a function, a structure or a constant of the headers in __init__.pxd, Cython programs cannot use it."""
    headers, pxd = of_headers()[kind], of_pxd()[kind]
    assert len(headers) >= {"functions": 80, "structures": 14, "constants": 30, "callbacks": 1}[kind], "the pattern finds too few"
    assert pxd == headers
