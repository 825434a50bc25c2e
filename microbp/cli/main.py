"""`microbp`: runs a command, and turns what goes wrong into one line and an exit code."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from collections.abc import Sequence

from ..tables.errors import ArgumentError, TableError
from . import parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns the exit code: 0, 1 for a failure, 130 when interrupted; a wrong argument exits with 2."""
    if sys.stdout is None:
        return _fail("standard output is closed: send it to /dev/null if nobody is to read it", 1)
    try:
        command, options = parser.parse(argv)
        try:
            # A module for each command, which comes only when it runs: --help need not wait for NumPy.
            importlib.import_module(f".{command.replace('-', '_')}", __package__).run(options)
        except ArgumentError as error:
            parser.refuse(command, error)
        sys.stdout.flush()
    except KeyboardInterrupt as error:
        return _fail(str(error) or "interrupted", 130)
    except BrokenPipeError:  # the reader of our output has enough of it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (ImportError, OSError, MemoryError, FloatingPointError, ValueError) as error:
        return _fail(_one_line(error), 1)
    return 0


def _one_line(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror if error.filename is None else f"{error.filename}: {error.strerror}"
    text = error.text(parser.spell) if isinstance(error, TableError) else str(error)
    return " ".join(text.split()) or type(error).__name__


def _fail(text: str, code: int) -> int:
    if sys.stderr is not None:
        with contextlib.suppress(OSError):
            print(f"microbp: error: {text}", file=sys.stderr)
    return code
