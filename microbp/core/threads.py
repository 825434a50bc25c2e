"""How many threads a network may use, and how threadpoolctl learns of them.

Work is shared by threads only where it is large enough, and results have the same bits for any number of them. All networks of a process
share one pool; a call that finds it busy works alone. threadpoolctl's limits hold for it too: it learns of microbp when a network is made
after both are imported, or by `microbp.threads.register()`.
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
    """An upper limit of threads; None leaves it to the processors and the environment."""
    return None if n_threads is None else whole_number(n_threads, "n_threads")


def choose(n_threads: int | None, backend: str | None = None) -> int:
    """The limit in numbers. None: the processors that this process may use, fewer if MICROBP_NUM_THREADS, else OMP_NUM_THREADS, says so."""
    announce(backends.resolve(backend))
    if n_threads is not None:
        return min(n_threads, 2**31 - 1)
    return min(backends.load(backend).cpus(), _environment() or sys.maxsize)


def _environment() -> int | None:
    own = os.environ.get("MICROBP_NUM_THREADS", "").strip()
    if own:
        if not own.isdecimal() or int(own) < 1:
            raise ValueError(f"MICROBP_NUM_THREADS is {own!r}; it must be a whole number of at least 1")
        return int(own)
    shared = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()  # one number per level of nesting
    return int(shared) or None if shared.isdecimal() else None


def announce(backend: str) -> None:
    """Registers with threadpoolctl if that is imported already."""
    if "threadpoolctl" in sys.modules and backend == "compiled":
        register()


def register() -> None:
    """Tells threadpoolctl (3.2 or newer) about microbp's threads, so that threadpool_info lists them and threadpool_limits limits them.

    Needed only where threadpoolctl is imported after the last network was made; further calls change nothing. ImportError where
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
    """The threads that are used without a limit; threadpoolctl hands it back to end one."""


def _controller(base: Any) -> type:
    core: Any = backends.load("compiled")

    class MicrobpController(base):  # type: ignore[misc]
        user_api = internal_api = "microbp"
        filename_prefixes = ("_core",)  # of other packages' modules too, which lack the symbol
        check_symbols = ("mbp_pool_set_limit",)

        def get_num_threads(self) -> int:
            limit = int(core.thread_limit())
            return limit if limit < core.MAX_THREADS else _NoLimit(choose(None, "compiled"))

        def set_num_threads(self, num_threads: int) -> None:
            core.set_thread_limit(core.MAX_THREADS if isinstance(num_threads, _NoLimit) else num_threads)

        def get_version(self) -> str:
            return str(importlib.import_module("microbp").__version__)

    return MicrobpController
