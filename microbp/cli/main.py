"""`microbp`: runs a command, and turns errors into one line and an exit code."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
import warnings
from collections.abc import Sequence

from ..core.text import printable
from ..tables.readers.errors import ArgumentError, TableError
from . import parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns the exit code: 0 success, 1 failure, 130 interrupted. A wrong argument raises SystemExit(2)."""
    if sys.stdout is None:
        return _fail("standard output is closed; redirect it to /dev/null to discard the output", 1)
    try:
        command, options = parser.parse(argv)
        try:
            # The command's module is imported here, so that --help does not wait for NumPy.
            with warnings.catch_warnings():
                warnings.simplefilter("always", UserWarning)
                warnings.showwarning = _note
                importlib.import_module(f".{command.replace('-', '_')}", __package__).run(options)
        except ArgumentError as error:
            parser.refuse(command, error, options)
        sys.stdout.flush()
    except KeyboardInterrupt as error:
        return _fail(str(error) or "interrupted", 130)
    except BrokenPipeError:  # the program that reads our output, such as head, has finished
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (ImportError, OSError, MemoryError, FloatingPointError, ValueError) as error:
        return _fail(_one_line(error), 1)
    return 0


def _one_line(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        is_output = error.filename is None and error.strerror == os.strerror(error.errno or 0)  # the C library names the file in the text
        where = "standard output" if is_output else error.filename
        return error.strerror if where is None else f"{where}: {error.strerror}"
    text = error.text(parser.spell) if isinstance(error, TableError) else str(error)
    return " ".join(text.split()) or type(error).__name__


def _fail(text: str, code: int) -> int:
    _say(f"error: {text}")
    return code


def _note(message: Warning | str, *_: object, **__: object) -> None:
    """Prints a warning as one line, instead of Python's two."""
    _say(f"note: {message}")


def _say(text: str) -> None:
    if sys.stderr is not None:
        with contextlib.suppress(OSError):
            print(printable(f"microbp: {text}"), file=sys.stderr)
