"""What it costs to have microbp: import time and bytes."""

from __future__ import annotations

from pathlib import Path

import microbp as bp
from microbp import _core


class Import:
    """A fresh interpreter; NumPy's own import is the part that microbp cannot change."""

    params = (["numpy", "microbp"],)
    param_names = ("module",)

    def timeraw_import(self, module: str) -> str:
        return f"import {module}"


class Size:
    """Installed files."""

    def track_extension(self) -> int:
        """The compiled module."""
        return Path(_core.__file__).stat().st_size

    def track_static_library(self) -> int:
        """What C programs link."""
        return (Path(bp.get_library_dir()) / "libmicrobp.a").stat().st_size

    track_extension.unit = track_static_library.unit = "bytes"  # type: ignore[attr-defined]
