"""Checks output files before the work starts, and writes them completely or not at all. Adds advice to errors for invalid files."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from ..core.whole_file import check_replaceable, replacing
from ..tables.readers.errors import Argument, ArgumentError
from ..tables.readers.opening import divide
from .options import ModelOptions, TrainOptions
from .parser import spell

if TYPE_CHECKING:
    from ..reports.live import Live
    from ..tables.fitted.table_model import TableModel


def check_writable(force: bool, read: Sequence[str | Path | None], written: Mapping[str, Path | None]) -> None:
    """Raises an error if an output file cannot be written, is also an input or another output, or exists and `force` is False."""
    taken = {os.path.realpath(divide(Path(path))[0]): "an input file" for path in read if path}
    for argument, path in written.items():
        if path is None:
            continue
        if not path.parent.is_dir():
            raise ArgumentError(argument, f"the directory of {str(path)!r} does not exist; create it first")
        use = f"the file of {spell(Argument(argument))}"
        if taken.setdefault(os.path.realpath(path), use) != use:
            raise ArgumentError(argument, f"{str(path)!r} is also {taken[os.path.realpath(path)]}; choose another name")
        if path.is_dir():
            raise ArgumentError(argument, f"{str(path)!r} is a directory; choose another name")
        if path.exists() and not force:
            ways = "--resume to continue its run, or --force to overwrite it" if argument == "checkpoint" else "--force to overwrite it"
            raise ArgumentError(argument, f"{str(path)!r} exists; use {ways}")
        check_replaceable(path)
        try:
            tempfile.TemporaryFile(dir=path.parent).close()
        except OSError as error:
            what = f"{spell(Argument(argument))}: cannot write to the directory of {str(path)!r}"
            raise OSError(f"{what} ({error.strerror}); choose another directory") from None


def plot_module(path: Path | None) -> ModuleType | None:
    """microbp.plot, or None if `path` is None. ArgumentError if the extension of `path` is not supported."""
    if path is None:
        return None
    from .. import plot

    if path.suffix.lower() not in plot.FORMATS:
        raise ArgumentError("plot", f"the file name must end in {', '.join(plot.FORMATS[:-1])} or {plot.FORMATS[-1]}, not {str(path)!r}")
    return plot


def check_report(path: Path | None) -> None:
    """ArgumentError if `path` is not the name of a page; ImportError if matplotlib, which draws its pictures, is missing."""
    if path is None:
        return
    from ..reports.pictures import require_matplotlib

    if path.suffix.lower() not in (".html", ".htm"):
        raise ArgumentError("report", f"the file name must end in .html or .htm, not {str(path)!r}")
    require_matplotlib()


def live_page(options: TrainOptions) -> Live | None:
    """The page of --live, whose address is printed; None without it. ArgumentError if the port is in use."""
    if not options.live and options.live_port is None:
        return None
    from ..reports.live import Live

    try:
        live = Live(options.data, options.live_port or 0)
    except OSError as error:
        what = f"cannot serve at port {options.live_port} ({error.strerror}); choose another, or --live for a free one"
        raise ArgumentError("live_port", what) from None
    print(f"microbp: the page that follows the training: {live.address}", file=sys.stderr, flush=True)
    return live


def usual_name(data: str) -> Path:
    """The file name in the current directory for the network: data.safetensors."""
    stem = "stdin" if data == "-" else Path(data).name.partition(".")[0] or "net"
    return Path(f"{stem}.safetensors")


def unused_name(data: str) -> Path:
    """An unused file name for the network: data.safetensors, data-2.safetensors, ..."""
    usual = usual_name(data)
    names = (usual.with_stem(f"{usual.stem}{'' if i == 1 else f'-{i}'}") for i in range(1, 10**6))
    return next(path for path in names if not path.exists())


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Calls `write` with a temporary path, and then moves the file to `path`; an error leaves `path` unchanged."""
    with replacing(path) as temporary:
        write(temporary)


def model_and_data(options: ModelOptions) -> tuple[TableModel, str]:
    """The model and the name of the data. If they are swapped, says so and takes them as they were meant."""
    from ..tables.fitted.table_model import load_table

    model, data = options.model, options.data
    if _is_model(Path(data)) and model.is_file() and not _is_model(model):
        warnings.warn(f"MODEL and DATA are swapped: {data} is the model, and {model} the data", UserWarning, stacklevel=1)
        model, data = Path(data), str(model)
    with advising("give a file written by microbp train"):
        return load_table(model, threads=options.threads), data


def _is_model(path: Path) -> bool:
    from ..exchange import formats

    return formats.format_of(path) is not None


@contextlib.contextmanager
def advising(advice: str) -> Iterator[None]:
    """Adds advice to the error for a file that is not microbp's."""
    try:
        yield
    except ValueError as error:
        if "not a microbp file" not in str(error):
            raise
        raise ValueError(f"{error}; {advice}") from None
