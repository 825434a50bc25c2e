"""Texts of plots: names from users, shortened, with a font that has their letters; numbers on axes."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from typing import Any

from matplotlib import font_manager

LETTERS = 14  # the maximum number of letters of a class name


def as_written(*texts: str) -> dict[str, Any]:
    """Text settings for names from users: no mathtext or TeX, and a fallback font for letters that the default font does not contain."""
    usual = font_manager.FontProperties()
    missing = {ord(letter) for letter in "".join(texts)} - font_manager.get_font(font_manager.findfont(usual)).get_charmap().keys()
    families = usual.get_family()
    if missing:
        families = [*families, *_font_with(missing)]
    return {"parse_math": False, "usetex": False, "fontfamily": families}


def _font_with(letters: set[int]) -> list[str]:
    """A list with the name of an installed font that has these letters, preferably sans serif; empty if there is none."""
    for font in sorted(font_manager.fontManager.ttflist, key=lambda font: ("sans" not in font.name.lower(), font.name)):
        with contextlib.suppress(OSError, RuntimeError):  # matplotlib cannot read some fonts
            if not font.name.startswith("Last Resort") and letters <= font_manager.get_font(font.fname).get_charmap().keys():
                return [font.name]
    return []


def distinct(names: Sequence[str]) -> list[str]:
    """Shortens names to labels that are all different: omits their common start or, if that is not enough, adds their indices."""
    if max(map(len, names)) <= LETTERS and len(set(names)) == len(names):
        return list(names)
    start = os.path.commonprefix(names)  # noqa: RUF071  # compares letters, not folders
    for common in (start.rstrip().rfind(" ") + 1, len(start)):  # first keep the last common word
        labels = [short(f"{'…' * (common > 0)}{name[common:]}", LETTERS) for name in names]
        if len(set(labels)) == len(names):
            return labels
    return [short(f"{i} {name}", LETTERS) for i, name in enumerate(names)]


def short(text: str, letters: int) -> str:
    """A text shortened to this many letters; the middle is omitted."""
    tail = (letters - 1) // 2
    return text if len(text) <= letters else f"{text[: letters - 1 - tail].rstrip()}…{text[len(text) - tail :].lstrip()}"


def plain(value: float, _: int) -> str:
    """A number for an axis: 12k, 3.5M."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= size:
            return f"{value / min(size, 1e3 if letter == 'k' else size):.4g}{letter}"
    return f"{value:.6g}"


def number(value: float) -> str:
    """A number for a title."""
    return f"{value:,.0f}" if 1e4 <= abs(value) < 1e12 else f"{value:.4g}"
