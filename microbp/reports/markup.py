"""The parts of a page: sections, tables, code, pictures. All texts that come in are escaped here."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from html import escape
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ..core.text import printable
from ..tables.intervals import Interval

_PERCENT = ("accuracy", "balanced_accuracy", "subset_accuracy")


def safe(text: object) -> str:
    """A text as HTML shows it; characters that cannot be seen are escaped too."""
    return escape(printable(str(text)))


def page(title: str, sections: Iterable[str]) -> str:
    """The whole page."""
    style = Path(__file__).with_name("page.css").read_text("utf-8")
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{safe(title)}</title><style>{style}</style></head>\n<body><main><h1>{safe(title)}</h1>\n"
        f"<p>Made by microbp {version('microbp')} on {datetime.now():%Y-%m-%d at %H:%M}.</p>\n{''.join(sections)}</main></body></html>\n"
    )


def section(title: str, *parts: str) -> str:
    """A section, or nothing if all its parts are empty."""
    return f"<section><h2>{safe(title)}</h2>\n{''.join(parts)}</section>\n" if any(parts) else ""


def text(words: str, kind: str = "") -> str:
    """A paragraph, or nothing. kind: "bad" for what is wrong."""
    return f"<p{f' class={kind}' * bool(kind)}>{safe(words)}</p>\n" if words else ""


def items(lines: Iterable[str]) -> str:
    """A list, or nothing."""
    found = "".join(f"<li>{safe(line)}</li>" for line in lines)
    return f"<ul>{found}</ul>\n" if found else ""


def code(name: str, lines: str) -> str:
    """Lines of code, or of a text in columns. name: for those who hear the page."""
    return f'<pre tabindex="0" role="region" aria-label="{safe(name)}"><code>{escape(lines)}</code></pre>\n'


def facts(name: str, entries: Mapping[str, object]) -> str:
    """A table of names and values."""
    rows = "".join(f'<tr><th scope="row">{safe(key)}</th><td>{safe(value)}</td></tr>' for key, value in entries.items())
    return _scrolled(name, f"<table><caption>{safe(name)}</caption><tbody>{rows}</tbody></table>")


def numbers(name: str, head: Sequence[object], rows: Iterable[Sequence[object]], shares: Sequence[Sequence[float]] | None = None) -> str:
    """A table whose first column are names. shares: for each cell but the names, from 0 to 1, how dark it is."""
    body = []
    for i, (first, *cells) in enumerate(rows):
        look = [""] * len(cells) if shares is None else [f' style="--p:{share:.2f}"' for share in shares[i]]
        body.append(f'<tr><th scope="row">{safe(first)}</th>{"".join(f"<td{a}>{safe(cell)}</td>" for a, cell in zip(look, cells))}</tr>')
    heads = "".join(f'<th scope="col">{safe(one)}</th>' for one in head)
    table = f'<table class="n"><caption>{safe(name)}</caption><thead><tr>{heads}</tr></thead><tbody>{"".join(body)}</tbody></table>'
    return _scrolled(name, table)


def bars(name: str, head: Sequence[str], rows: Iterable[tuple[str, str, float]]) -> str:
    """A table of names, texts, and bars with a length from 0 to 1."""
    body = "".join(
        f'<tr><th scope="row">{safe(first)}</th><td>{safe(cell)}<div class="bar" style="--p:{share:.3f}"></div></td></tr>'
        for first, cell, share in rows
    )
    heads = "".join(f'<th scope="col">{safe(one)}</th>' for one in head)
    return _scrolled(name, f"<table><caption>{safe(name)}</caption><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table>")


def _scrolled(name: str, table: str) -> str:
    return f'<div class="wide" tabindex="0" role="region" aria-label="{safe(name)}">{table}</div>\n'


def drawing(name: str, svg: str) -> str:
    """A drawing in its own size, on white."""
    return _scrolled(name, f'<div class="white">{svg}</div>')


# ---- numbers ----


def number(value: float | None, name: str = "") -> str:
    """A number, or a metric of this name; - if it is not defined."""
    if value is None or math.isnan(value):
        return "-"
    if name.startswith(_PERCENT):
        return f"{100 * value:.2f} %"
    return f"{value:,.0f}" if 1e5 <= abs(value) < 1e12 else f"{value:.4g}"


def interval(pair: Interval | None, name: str = "") -> str:
    """Both ends of an interval; - if there is none."""
    return f"{number(pair[0], name).removesuffix(' %')} to {number(pair[1], name)}" if pair else "-"


def metrics(name: str, found: Mapping[str, tuple[Any, Interval | None]]) -> str:
    """A table of metrics with their 95 % intervals."""
    rows = [(key, number(value, key), interval(pair, key)) for key, (value, pair) in found.items()]
    return numbers(name, ("metric", "value", "95 % interval"), rows)
