"""What it costs to have microbp: import time and bytes."""

from __future__ import annotations

from pathlib import Path

import microbp as bp
from microbp.core import _core


class Import:
    """A fresh interpreter; NumPy's own import is the part that microbp cannot change."""

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
        """What C programs link."""
        return (Path(bp.get_library_dir()) / "libmicrobp.a").stat().st_size

    track_extension.unit = track_static_library.unit = "bytes"  # type: ignore[attr-defined]
