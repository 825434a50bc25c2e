"""`microbp --cflags --libs`: what a C compiler needs for the header and the library, as pkg-config prints it. Read from microbp.pc."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable
from pathlib import Path

from ..core.backend import get_library_dir

OPTIONS = {
    "--includes": "where the headers are, for a compiler: -I...",
    "--cflags": "flags to compile C programs that include microbp.h",
    "--libs": "flags to link them with the static library",
    "--cmakedir": "the folder for CMake: -Dmicrobp_DIR=...",
}


def line(options: Iterable[str]) -> str:
    """The words for these options, in the order of OPTIONS. ImportError if the library is not installed."""
    library = Path(get_library_dir())
    return " ".join(_words(library, option) for option in OPTIONS if option in options)


def _words(library: Path, option: str) -> str:
    if option == "--cmakedir":
        return str(library / "cmake/microbp")
    text = (library / "pkgconfig/microbp.pc").read_text("utf-8")
    values = dict(re.findall(r"^(\w+)=(.*)$", text, re.MULTILINE)) | {"prefix": str(library.parent)}
    field = re.search(rf"^{'Libs' if option == '--libs' else 'Cflags'}: (.*)$", text, re.MULTILINE)
    return shlex.join(_expanded(word, values) for word in field[1].split()) if field else ""


def _expanded(word: str, values: dict[str, str]) -> str:
    """The word with the values of its variables, which may contain variables themselves."""
    while (found := re.search(r"\$\{(\w+)\}", word)) is not None:
        word = word.replace(found[0], values[found[1]])
    return word
