"""The folder that Sphinx reads: the pages of the repository, with their pictures, at their own places, and docs/reference, which is made
here. So links between pages are the same on a forge and in the site, and a build writes nothing into the checkout."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
_PAGES = ("README.md", "CHANGELOG.md", "docs/**/*.md", "bench/**/*.md", "examples/**/*.md", "src/**/README.md", "microbp/**/README.md",
          "tests/**/README.md")  # fmt: skip
_PICTURES = ("bench/**/*.png", "bench/**/*.svg", "docs/**/*.png", "docs/**/*.svg")
INDEX = "docs/README.md"
_FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)


def stage(folder: Path) -> None:
    """Fills the folder; pages that have not changed stay as they are, so that Sphinx need not read them again."""
    pages = {folder / name: text for name, text in texts()}
    for path in folder.rglob("*.md"):
        if path not in pages:
            path.unlink()
    for path, text in pages.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_text("utf-8") != text:
            path.write_text(text, "utf-8")
    for path in _files(_PICTURES):
        place = folder / path.relative_to(ROOT)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, place)


def texts() -> Iterator[tuple[str, str]]:
    """(name, text) of each page."""
    from . import command_pages, formula_pages, header_pages, playground, python_pages

    made = {
        f"docs/reference/{file}.md": text
        for pages in (python_pages.pages(), formula_pages.pages(), command_pages.pages(), header_pages.pages(ROOT / "src/include"))
        for file, text in pages
    }
    yield from made.items()
    for path in _files(_PAGES):
        name, text = path.relative_to(ROOT).as_posix(), _links(path)
        if name == INDEX:
            text = with_contents(text, list(made))
            text = text.replace("## Tutorials\n\n", f"## Tutorials\n\n{playground.LINE}\n") if playground.is_possible() else text
        yield name, text


def _files(patterns: tuple[str, ...]) -> Iterator[Path]:
    for pattern in patterns:
        for path in sorted(ROOT.glob(pattern)):
            if not any(part.startswith(".") for part in path.relative_to(ROOT).parts):
                yield path


def _links(path: Path) -> str:
    """A page whose links to folders lead to their README.md; links to other files than pages and pictures become plain text."""

    def mend(match: re.Match[str]) -> str:
        words, link = match.groups()
        target = path.parent / link.partition("#")[0]
        if "://" in link or link.startswith("#") or target.suffix in (".md", ".png", ".svg"):
            return match[0]
        return f"[{words}]({link.rstrip('/')}/README.md)" if (target / "README.md").exists() else words

    text, pieces, end = path.read_text("utf-8"), [], 0
    for block in [*_FENCED.finditer(text), None]:
        pieces.append(re.sub(r"\[([^\]]*)\]\(([^)\s]+)\)", mend, text[end : block.start() if block else None]))
        pieces.append(block[0] if block else "")
        end = block.end() if block else end
    return "".join(pieces)


def with_contents(index: str, made: list[str]) -> str:
    """The index with Sphinx's tables of contents: one for each of its sections, of the pages that it lists."""
    contents = []
    for title, section in re.findall(r"^## ([^\n]*)\n(.*?)(?=^## |\Z)", index, re.MULTILINE | re.DOTALL):
        lines = re.findall(r"^- .*", section, re.MULTILINE)
        pages = [link for line in lines for link in re.findall(r"\]\(([^)#]+\.md)\)", line)]
        if title == "Reference":
            pages += [name.removeprefix("docs/") for name in made]
        contents.append(
            "\n".join(["```{toctree}", ":hidden:", f":caption: {title}", "", *(page.removesuffix(".md") for page in pages), "```"])
        )
    return "\n\n".join([index, *contents]) + "\n"
