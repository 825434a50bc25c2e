"""A process that ends, by an uncaught exception or too early, ends the others, which would wait for it for ever."""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
import time
from types import TracebackType

from .failing import is_told
from .ranks import Ranks

_GRACE = 1.0  # seconds: all ranks have raised, so that each has time to print its traceback and to end by itself
_all: list[Ranks] = []  # of this process, one for each communicator


def end_together(ranks: Ranks) -> None:
    """From now on, an uncaught exception is printed and then ends all processes of the communicator, by Abort(1); and a process that ends
    while others still train tells them so."""
    if not callable(getattr(ranks.comm, "Abort", None)) or any(ranks.comm == other.comm for other in _all):
        return
    _all.append(ranks)
    if len(_all) > 1:
        return
    before = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
        print(f"rank {ranks.rank} of {ranks.size} failed:", file=sys.stderr)
        before(kind, error, traceback)
        sys.stderr.flush()
        if is_told(error):
            time.sleep(_GRACE)
        atexit.unregister(_end)  # Abort of MPICH may return
        ranks.comm.Abort(1)

    sys.excepthook = hook
    atexit.register(_end, os.getpid())  # mpi4py's own has been registered before, so it is called later


def _end(process: int) -> None:
    for ranks in _all if os.getpid() == process else ():  # not in a child
        with contextlib.suppress(BaseException):  # of a communicator that is no more
            ranks.end()
