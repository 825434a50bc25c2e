"""`microbp`: runs a command, and turns errors into one line and an exit code."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
import warnings
from collections.abc import Iterator, Sequence

from ..core.text import printable
from ..ranks.failing import failed_rank
from ..tables.ranks.launcher import launched
from ..tables.readers.errors import ArgumentError, TableError
from . import parser

_RANK, _RANKS = launched()


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns the exit code: 0 success, 1 failure, 130 interrupted. A wrong argument raises SystemExit(2)."""
    if sys.stdout is None:
        return _fail("standard output is closed; redirect it to /dev/null to discard the output", 1)
    if not _RANK:
        return _main(argv)
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
        return _main(argv)


def _main(argv: Sequence[str] | None) -> int:
    try:
        command, options = parser.parse(argv)
        if _RANKS > 1 and command != "train":
            return _fail(f"{command} runs in one process, but mpiexec has started {_RANKS}; start it without mpiexec", 2)
        try:
            # The command's module is imported here, so that --help does not wait for NumPy.
            with warnings.catch_warnings():
                warnings.simplefilter("always", UserWarning)
                warnings.showwarning = _note
                importlib.import_module(f".commands.{command.replace('-', '_')}", __package__).run(options)
        except ArgumentError as error:
            with _speaking(error):
                parser.refuse(command, error, options)
        sys.stdout.flush()
    except KeyboardInterrupt as error:
        return _fail(str(error) or "interrupted", 130, error)
    except BrokenPipeError:  # the program that reads our output, such as head, has finished
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (ImportError, OSError, MemoryError, FloatingPointError, ValueError) as error:
        return _fail(_one_line(error), 1, error)
    except RuntimeError as error:
        if failed_rank(error) is None:
            raise
        kind = str(error).split(": ")[1]  # of the error of another rank, which prints it
        return {"KeyboardInterrupt": 130, "ArgumentError": 2}.get(kind, 1)
    return 0


def _one_line(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        is_output = error.filename is None and error.strerror == os.strerror(error.errno or 0)  # the C library names the file in the text
        where = "standard output" if is_output else error.filename
        return error.strerror if where is None else f"{where}: {error.strerror}"
    text = error.text(parser.spell) if isinstance(error, TableError) else str(error)
    return " ".join(text.split()) or type(error).__name__


def _fail(text: str, code: int, error: BaseException | None = None) -> int:
    with _speaking(error):
        _say(f"error: {text}")
    return code


@contextlib.contextmanager
def _speaking(error: BaseException | None) -> Iterator[None]:
    """Prints, if this is the rank that tells of an error: the first that failed, or rank 0."""
    with contextlib.redirect_stderr(sys.__stderr__) if _RANK and failed_rank(error) == _RANK else contextlib.nullcontext():
        yield


def _note(message: Warning | str, *_: object, **__: object) -> None:
    """Prints a warning as one line, instead of Python's two."""
    _say(f"note: {message}")


def _say(text: str) -> None:
    if sys.stderr is not None:
        with contextlib.suppress(OSError):
            print(printable(f"microbp: {text}"), file=sys.stderr)
