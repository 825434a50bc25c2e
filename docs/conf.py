"""The manual as a site: `sphinx-build -W --keep-going -n docs build/manual`; development.md explains it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from manual import links, playground, staging

import microbp

project = "microbp"
author = copyright = "the authors of microbp"
version = release = microbp.__version__
extensions = ["myst_parser"]
root_doc = "docs/README"
exclude_patterns: list[str] = []
suppress_warnings = ["toc.not_included", "misc.highlighting_failure"]  # READMEs of rooms; blocks of csv
nitpick_ignore_regex = [("c:identifier", r"size_t|u?int\d+_t|int|float|double|char|void")]
smartquotes = False  # formulas and code have straight ones
myst_enable_extensions = ["deflist"]
myst_heading_anchors = 4
c_maximum_signature_line_length = 88
add_module_names = False
toc_object_entries_show_parents = "hide"

_COLOURED = ("color-brand-primary", "color-brand-content", "color-brand-visited", "color-api-name", "color-api-pre-name")
html_theme = "furo"
html_title = f"microbp {version}"
html_static_path = ["manual/static"]
templates_path = ["manual/templates"]
html_css_files = ["manual.css"]
html_search_scorer = str(Path(__file__).with_name("manual") / "static/scorer.js")
html_show_search_summary = False  # it would fetch pages, which a browser refuses for files
html_show_sourcelink = html_copy_source = False
html_theme_options = {
    "light_css_variables": dict.fromkeys(_COLOURED, "#1f5fa8"),
    "dark_css_variables": dict.fromkeys(_COLOURED, "#7fb2ee"),
}
pygments_style, pygments_dark_style = "default", "github-dark"


def front_page(app: Any, failure: Exception | None) -> None:
    """index.html leads to the index of the pages."""
    if failure is None and app.builder.format == "html":
        page = '<!DOCTYPE html>\n<html lang="en"><title>microbp</title><meta http-equiv="refresh" content="0; url=docs/README.html">\n'
        Path(app.outdir, "index.html").write_text(page + '<a href="docs/README.html">The manual of microbp</a></html>\n', "utf-8")


def setup(app: Any) -> None:
    """Called before Sphinx looks for pages: here it gets the folder with all of them."""
    app.srcdir = Path(app.doctreedir).parent / ".pages"
    staging.stage(Path(app.srcdir))
    app.connect("doctree-resolved", links.link)
    app.connect("build-finished", front_page)
    app.connect("build-finished", playground.build)
