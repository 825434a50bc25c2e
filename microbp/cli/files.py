"""The files that commands write: refused beforehand where they could not be written, and drawn whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType

from ..core.whole_file import replacing
from ..tables.errors import Argument, ArgumentError
from .parser import spell


def check_writable(force: bool, read: Sequence[str | Path | None], written: Mapping[str, Path | None]) -> None:
    """Refuses files, by argument, that could not be written or are needed otherwise, and those that exist unless `force`."""
    taken = {os.path.realpath(path): "read" for path in read if path}
    for argument, path in written.items():
        if path is None:
            continue
        if not path.parent.is_dir():
            raise ArgumentError(argument, f"the directory of {str(path)!r} does not exist: make it first")
        use = taken.setdefault(os.path.realpath(path), f"written by {spell(Argument(argument))}")
        if use != f"written by {spell(Argument(argument))}":
            raise ArgumentError(argument, f"{str(path)!r} is {use} already: choose another name")
        if path.is_dir() or (path.exists() and not force):
            raise ArgumentError(argument, f"{str(path)!r} exists: {'choose another name' if path.is_dir() else '--force overwrites it'}")
        try:
            tempfile.TemporaryFile(dir=path.parent).close()
        except OSError as error:
            what = f"{spell(Argument(argument))}: the directory of {str(path)!r} cannot be written to"
            raise OSError(f"{what} ({error.strerror}): choose another") from None


def plot_module(path: Path | None) -> ModuleType | None:
    """The module that draws, if there is a picture to draw to `path`."""
    if path is None:
        return None
    from .. import plot

    if path.suffix.lower() not in plot.FORMATS:
        raise ArgumentError("plot", f"{str(path)!r} must end in one of {', '.join(plot.FORMATS)}")
    return plot


def unused_name(data: str) -> Path:
    """A name beside us for the network of some data that no file has."""
    stem = Path(data).name.partition(".")[0] or "net"
    names = (Path(f"{stem}{'' if i == 1 else f'-{i}'}.safetensors") for i in range(1, 10**6))
    return next(path for path in names if not path.exists())


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Writes a file by a function of its path: whole, or not at all."""
    with replacing(path) as beside:
        write(beside)
