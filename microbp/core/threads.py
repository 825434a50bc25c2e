"""The number of threads that a network may use, and its control by threadpoolctl.

Only large work is split among threads, and results have the same bits for any number of threads. All networks of a process share one pool;
if it is busy, a call runs in the calling thread only. threadpoolctl can limit the pool too: microbp registers with it when a network is
created after both are imported, or when you call `microbp.threads.register()`.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any

from . import backend as backends
from .checks import whole_number

_registered = False


def check(n_threads: Any) -> int | None:
    """The checked maximum number of threads. None: determined by the processors and the environment."""
    return None if n_threads is None else whole_number(n_threads, "n_threads")


def choose(n_threads: int | None, backend: str | None = None) -> int:
    """The limit as a number. n_threads=None: the number of processors that this process may use, limited by MICROBP_NUM_THREADS if it
    is set, else by OMP_NUM_THREADS, else divided by the number of processes that MPI has started on this machine."""
    announce(backends.resolve(backend))
    if n_threads is not None:
        return min(n_threads, 2**31 - 1)
    cpus = backends.load(backend).cpus()
    return min(cpus, _environment() or max(1, cpus // _processes()))


def _processes() -> int:
    """How many processes MPI has started on this machine: MPICH and Open MPI tell it to each."""
    told = os.environ.get("MPI_LOCALNRANKS") or os.environ.get("OMPI_COMM_WORLD_LOCAL_SIZE") or ""
    return max(1, int(told)) if told.isdecimal() else 1


def _environment() -> int | None:
    own = os.environ.get("MICROBP_NUM_THREADS", "").strip()
    if own:
        if not own.isdecimal() or int(own) < 1:
            raise ValueError(f"MICROBP_NUM_THREADS must be a whole number of at least 1, not {own!r}")
        return int(own)
    shared = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()  # a list, one number per nesting level
    return int(shared) or None if shared.isdecimal() else None


def announce(backend: str) -> None:
    """Registers with threadpoolctl if it is already imported."""
    if "threadpoolctl" in sys.modules and backend == "compiled":
        register()


def register() -> None:
    """Registers microbp's threads with threadpoolctl (3.2 or newer): threadpool_info lists them and threadpool_limits limits them.

    Needed only if threadpoolctl is imported after the last network was created. Further calls change nothing. ImportError if
    threadpoolctl is not installed.

    >>> bp.threads.register()  # doctest: +SKIP
    >>> with threadpoolctl.threadpool_limits(1):  # doctest: +SKIP
    ...     net.predict(X)
    """
    global _registered
    threadpoolctl = importlib.import_module("threadpoolctl")
    if not _registered and hasattr(threadpoolctl, "register"):
        _registered = True
        threadpoolctl.register(_controller(threadpoolctl.LibController))


class _NoLimit(int):
    """The number of threads when there is no limit. threadpoolctl passes it to set_num_threads to remove a limit."""


def _controller(base: Any) -> type:
    core: Any = backends.load("compiled")

    class MicrobpController(base):  # type: ignore[misc]
        user_api = internal_api = "microbp"
        filename_prefixes = ("_core",)  # other packages also have a module `_core`, but not the symbol below
        check_symbols = ("mbp_pool_set_limit",)

        def get_num_threads(self) -> int:
            limit = int(core.thread_limit())
            return limit if limit < core.MAX_THREADS else _NoLimit(choose(None, "compiled"))

        def set_num_threads(self, num_threads: int) -> None:
            core.set_thread_limit(core.MAX_THREADS if isinstance(num_threads, _NoLimit) else num_threads)

        def get_version(self) -> str:
            return str(importlib.import_module("microbp").__version__)

    return MicrobpController
