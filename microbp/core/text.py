"""Settings as text: numbers, and names with settings in parentheses. Graph text, files and the command line have them."""

from __future__ import annotations

import re
from collections.abc import Mapping


def number(value: float) -> str:
    """A number as the backends read it: decimal if 15 digits scaled by at most 10^22 say it exactly, else hexadecimal."""
    is_short = float(f"{value:.15g}") == value and (value == 0 or 1e-8 <= abs(value) < 1e22)
    return repr(value) if is_short else value.hex()


def read_number(text: str) -> float:
    """What `number` wrote."""
    try:
        return float.fromhex(text) if "x" in text else float(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a number") from None


def call(name: str, settings: Mapping[str, str]) -> str:
    """`name(key=value,...)`, without parentheses if there are no settings."""
    inside = ",".join(f"{key}={value}" for key, value in settings.items())
    return f"{name}({inside})" if inside else name


def read_call(text: str) -> tuple[str, dict[str, str]]:
    """What `call` wrote: the name and its settings. A text that has another form is a name as a whole."""
    match = re.fullmatch(r"\s*(\w+)\s*(?:\((.*)\))?\s*", text)
    return (match[1], dict(_setting(part) for part in _parts(match[2] or ""))) if match else (text, {})


def _setting(part: str) -> tuple[str, str]:
    key, sign, value = (piece.strip() for piece in part.partition("="))
    if not sign:
        raise ValueError(f"a setting is written name=value, not {part!r}")
    return key, value


def _parts(inside: str) -> list[str]:
    """The parts between the commas that stand in no parentheses."""
    parts, depth = [""], 0
    for letter in inside:
        depth += (letter == "(") - (letter == ")")
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return [part for part in parts if part.strip()]
