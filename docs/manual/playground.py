"""The playground, a page that trains networks in the browser: it is part of the site where zig can compile it."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

from sphinx.util import logging

_BUILD = Path(__file__).parents[1] / "playground/build.py"
LINE = '- <a href="../playground.html">Playground</a>: train a network in the browser, and see each number in it'


def is_possible() -> bool:
    """Whether the site gets it."""
    return _BUILD.exists() and importlib.util.find_spec("ziglang") is not None


def build(app: Any, failure: Exception | None) -> None:
    """The event `build-finished`."""
    if failure is not None or app.builder.format != "html":
        return
    if is_possible():
        subprocess.run([sys.executable, "-P", str(_BUILD), str(Path(app.outdir, "playground.html"))], check=True)
    elif _BUILD.exists():
        logging.getLogger(__name__).info("the site has no playground: pip install ziglang")
