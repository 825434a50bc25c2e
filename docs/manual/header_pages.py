"""The reference of C: a page for each public header, from its declarations and their comments."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from .text import directive, fence, inline, markdown

PAGES = {
    "microbp.h": ("c", "C: conventions and graph text"),
    "microbp_base.h": ("c-base", "C: errors, arrays, options, threads"),
    "microbp_net.h": ("c-networks", "C: networks"),
    "microbp_train.h": ("c-training", "C: training"),
    "microbp_file.h": ("c-files", "C: files"),
}
_PIECE = re.compile(
    r"(?P<comment>/\*.*?\*/)|(?P<blank>\n[ \t]*(?=\n))|(?P<macro>#define MBP_VERSION\w* [^\n]*)|(?P<skip>#(?:[^\n]*\\\n)*[^\n]*)"
    r"|(?P<extern>extern \"C\" \{|^\})|(?P<code>[A-Za-z][^;{]*(?:\{(?:[^{}]|\{[^{}]*\})*\}(?: ?\w*;)?|;))",
    re.DOTALL | re.MULTILINE,
)


@dataclass
class Group:
    """Declarations without a blank line between, each with the comment behind it, and the comment above them."""

    comment: str = ""
    declarations: list[list[str]] = field(default_factory=list)


def pages(folder: Path) -> Iterator[tuple[str, str]]:
    """(file, Markdown) of each page."""
    for header, (file, title) in PAGES.items():
        text = (folder / header).read_text("utf-8")
        parts = [f"# {title}", f"`#include <microbp.h>` has all of this; here is what is in `{header}`."]
        for group in groups(text):
            parts += [_entry(group)]
        yield file, "\n\n".join(filter(None, parts)) + "\n"
    source = (folder / "microbp.hpp").read_text("utf-8")
    yield "cpp", f"# C++: the whole of microbp.hpp\n\n{fence('cpp', source)}"


def groups(text: str) -> Iterator[Group]:
    """What a header declares, in its order."""
    own, end = Group(), 0
    for match in _PIECE.finditer(text):
        kind, piece = match.lastgroup or "", match[0]
        is_behind = kind == "comment" and own.declarations and "\n" not in text[end : match.start()]
        if is_behind:
            own.declarations[-1].append(_plain(piece))
        elif kind in ("comment", "blank"):
            if own.declarations or own.comment:
                yield own
                own = Group()
            if kind == "comment":
                own.comment = _plain(piece)
        elif kind in ("code", "macro"):
            own.declarations.append([piece])
        end = match.end()
    if own.comment or own.declarations:
        yield own


def _plain(comment: str) -> str:
    """A comment without its stars."""
    return re.sub(r"^ \* ?", "", comment.removeprefix("/*").removesuffix("*/").strip(), flags=re.MULTILINE).strip()


def _entry(group: Group) -> str:
    heading = re.fullmatch(r"---- (.*) ----", group.comment, re.DOTALL)
    if heading:
        title, _, more = " ".join(heading[1].split()).partition("; ")
        return f"## {inline(title[0].upper() + title[1:])}" + (f"\n\n{inline(more[0].upper() + more[1:])}." if more else "")
    names = {name for code, *_ in group.declarations for name in re.findall(r"(\w+)(?=[,)])", code)}
    text = markdown(re.sub(r"^Part of microbp\.h: [^.]*\.\s*", "", group.comment), names)
    if not group.declarations:  # paragraphs about something start with its name
        return re.sub(r"^([A-Z]\w+(?: \w+)?)\. (?=[A-Z])", r"## \1\n\n", text, flags=re.MULTILINE)
    entries = []
    for code, *notes in group.declarations:
        kind, signature, body = declaration(code)
        if kind:  # what the comment above several declarations says is about the first of them, or about all
            parts = [text if not entries else "", *(inline(note[0].upper() + note[1:]) for note in notes), body]
            entries.append(directive(kind, signature, "\n\n".join(filter(None, parts))))
    return "\n\n".join(entries)


def declaration(code: str) -> tuple[str, str, str]:
    """(directive, signature, text) of a declaration; the directive is "" if there is nothing to say."""
    one_line = " ".join(re.sub(r"/\*.*?\*/", "", code, flags=re.DOTALL).split())
    if macro := re.match(r"#define (\w+) (.*)", code):
        return "c:macro", macro[1], f"`{macro[2]}`"
    if opaque := re.fullmatch(r"typedef struct (\w+) \1;", one_line):
        return "c:struct", opaque[1], ""
    if struct := re.match(r"typedef struct (\w+) \{", one_line):
        return "c:struct", struct[1], fence("c", code)
    if values := re.match(r"(?:typedef )?enum (\w*) ?\{(.*)\}", one_line):
        return _enumeration(code, values[1])
    if re.match(r"typedef ", one_line):
        return "c:type", one_line.removeprefix("typedef ").removesuffix(";"), ""
    if "(" in one_line:
        return "c:function", re.sub(r"^(?:MBP_API|MBP_INLINE) ", "", one_line.partition("{")[0].removesuffix(";").strip()), ""
    return "", "", ""


def _enumeration(code: str, name: str) -> tuple[str, str, str]:
    values = re.findall(r"(MBP_\w+)( = [^,}/\n]+)?,?[ \t]*(?:/\*(.*?)\*/)?", code, re.DOTALL)
    if not name:
        ((constant, value, _),) = values
        return "c:macro", constant, f"`{value.removeprefix(' = ').strip()}`"
    inside = [
        directive("c:enumerator", each + value.rstrip(), inline(" ".join(_plain(f"/*{note}*/").split()))) for each, value, note in values
    ]
    return "c:enum", name, "\n".join(inside)
