"""The cost of the package: import time and file sizes."""

from __future__ import annotations

from pathlib import Path

import microbp as bp
from microbp.core import _core


class Import:
    """Imports in a new interpreter. Importing NumPy is the part that microbp cannot change."""

    params = (["numpy", "microbp", "microbp.Trainer"],)
    param_names = ("name",)

    def timeraw_import(self, name: str) -> str:
        return f"import {name.partition('.')[0]}; {name}"


class Size:
    """Installed files."""

    def track_extension(self) -> int:
        """The compiled module."""
        return Path(_core.__file__).stat().st_size

    def track_static_library(self) -> int:
        """The library that C programs link."""
        return (Path(bp.get_library_dir()) / "libmicrobp.a").stat().st_size

    track_extension.unit = track_static_library.unit = "bytes"  # type: ignore[attr-defined]
