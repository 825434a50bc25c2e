"""Plain texts of docstrings and C comments as Markdown: paragraphs, arguments, lists, indented blocks, examples."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator

# Names in plain text that become code; links.py then makes links of those that the manual explains.
_CODE = re.compile(r"`[^`]+`|\bbp(?:\.[A-Za-z_]\w*)+(?:\([^()]*\))?|\b(?:mbp|MBP|MICROBP)_\w+(?:\(\))?|\bdocs/([\w/-]+\.md)")
_SPECIAL = re.compile(r"[\\`*_\[\]<>#|~$&{}!%]")
_ARGUMENT = r"\*{0,2}\w+(?:=(?:\([^)]*\)|[^\s:,]+))?"  # a name, or name=default
_ARGUMENTS = rf"(?:{_ARGUMENT}(?:, | or ))*{_ARGUMENT}: "
_FENCE = {"code": "pycon", "literal": "text"}


def inline(text: str) -> str:
    """A plain text as Markdown: its special characters escaped, names of the library as code."""
    pieces, end = [], 0
    for match in _CODE.finditer(text):
        code = f"[{match[0]}](../{match[1]})" if match[1] else f"`{match[0].strip('`')}`"  # all texts are in pages of docs/reference
        pieces += [_SPECIAL.sub(r"\\\g<0>", text[end : match.start()]), code]
        end = match.end()
    pieces.append(_SPECIAL.sub(r"\\\g<0>", text[end:]))
    return re.sub(r"^(\d+)([.)] )|^([-+=:])", lambda start: f"{start[1]}\\{start[2]}" if start[1] else f"\\{start[3]}", "".join(pieces))


def cell(text: str) -> str:
    """A plain text as code in a cell of a table."""
    return "`" + text.replace("|", "\\|") + "`" if text else ""


def fence(language: str, code: str) -> str:
    return f"```{language}\n{code}\n```\n"


def directive(name: str, signature: str, body: str, options: str = "") -> str:
    """A directive of Sphinx around a text that may contain others."""
    ticks = "`" * max(4, 1 + max((len(run) for run in re.findall(r"^`+", body, re.MULTILINE)), default=0))
    return f"{ticks}{{{name}}} {signature}\n{options}\n{body.strip()}\n{ticks}\n"


def markdown(text: str, arguments: Collection[str] = ()) -> str:
    """A docstring or comment as Markdown. arguments: the names that may start an explanation, `name: ...`."""
    parts = []
    blocks = list(_blocks(text.expandtabs().split("\n")))
    for i, (kind, lines) in enumerate(blocks):
        follows = blocks[i + 1][0] if i + 1 < len(blocks) else ""
        if kind == "prose" and follows == "literal" and len(lines) == 1 and not re.search(r"[.:;,)]$", lines[0].rstrip(")")):
            parts.append(f"`{lines[0]}`\n: " + "\\\n  ".join(map(inline, blocks[i + 1][1])) + "\n")
            blocks[i + 1] = ("done", [])
        elif kind == "prose":
            parts.append(_prose(lines, arguments))
        elif kind == "list":
            parts.append("\n".join(f"- {inline(item)}" for item in lines) + "\n")
        elif kind != "done":
            parts.append(fence(_language(kind, lines), "\n".join(lines)))
    return "\n".join(parts)


def _language(kind: str, lines: list[str]) -> str:
    statements = sum(line.rstrip().endswith(";") for line in lines)
    return "c" if kind == "literal" and 2 * statements > len(lines) else _FENCE[kind]


def _blocks(lines: list[str]) -> Iterator[tuple[str, list[str]]]:
    """(kind, lines) of each block: prose, list (an item a line), code (an example), literal (without its indent)."""
    i = 0
    while i < len(lines):
        line = lines[i]
        if not line.strip():
            i += 1
        elif line.startswith(">>> "):
            end = next((j for j in range(i, len(lines)) if not lines[j].strip()), len(lines))
            yield "code", lines[i:end]
            i = end
        elif line.startswith("    "):
            end = next((j for j in range(i, len(lines)) if lines[j].strip() and not lines[j].startswith("    ")), len(lines))
            block = [text.removeprefix("    ") for text in lines[i:end]]
            while not block[-1].strip():
                block.pop()
            yield "literal", block
            i = end
        else:
            end = next((j for j in range(i + 1, len(lines)) if not lines[j].strip() or lines[j].startswith(("    ", ">>> "))), len(lines))
            first = next((j for j in range(i, end) if lines[j].startswith("- ")), end)
            if first > i:
                yield "prose", lines[i:first]
            if first < end:
                yield "list", re.split(r" ?\n- ", "\n" + re.sub(r"\n +", " ", "\n".join(lines[first:end])))[1:]
            i = end


def _prose(lines: list[str], arguments: Collection[str]) -> str:
    """A paragraph. Explanations of arguments become a list of them; they start a line, or follow a sentence."""
    text, pieces = "\n".join(lines), []
    heads = re.finditer(rf"(^|[.;)] ?|\n)({_ARGUMENTS})", text)
    starts = [match.start(2) for match in heads if _explains(match[2], arguments, is_first=match[1] in ("", "\n"))]
    for begin, end in zip([0, *starts], [*starts, len(text)]):
        words = " ".join(text[begin:end].split())
        if begin in starts and words:
            names, _, rest = words.partition(": ")
            pieces.append(re.sub(rf"{_ARGUMENT}(?=, | or |$)", r"`\g<0>`", names) + f"\n: {inline(rest)}\n")
        elif words:
            pieces.append(inline(words) + "\n")
    return "\n".join(pieces)


def _explains(head: str, arguments: Collection[str], is_first: bool) -> bool:
    """Whether an explanation starts here: of arguments, or, at the start of a line, of errors."""
    names = re.findall(r"(\w+)(?:=\S*)?(?:, | or |$)", head.removesuffix(": "))
    return all(name in arguments or (is_first and name.endswith(("Error", "Warning"))) for name in names)
