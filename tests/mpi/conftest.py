"""Each process under mpiexec runs the same tests; those of rank 0 are reported. A test fails in all processes if it fails in one."""

from __future__ import annotations

import faulthandler
import os
import traceback
from pathlib import Path
from typing import Any

import pytest

LIMIT = 60  # seconds of a test; then the process ends, and mpiexec ends the others
STDERR = pytest.StashKey[int]()  # that of the process, beside pytest's capture
IS_STARTED = any(name in os.environ for name in ("PMI_RANK", "PMIX_RANK", "OMPI_COMM_WORLD_RANK"))  # MPICH and Open MPI

if IS_STARTED:
    from mpi4py import MPI

    AGREEMENT = MPI.COMM_WORLD.Dup()  # the tests use COMM_WORLD, in which a failed test may have left messages

STARTS = "test_mpiexec.py"  # runs the others under mpiexec
collect_ignore = [STARTS] if IS_STARTED else [path.name for path in Path(__file__).parent.glob("test_*.py") if path.name != STARTS]


@pytest.fixture
def comm() -> Any:
    return MPI.COMM_WORLD


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    if IS_STARTED:
        config.stash[STDERR] = os.dup(2)
        if AGREEMENT.rank:
            config.pluginmanager.unregister(name="terminalreporter")


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Any:
    """The outcomes of all ranks are exchanged after each test."""
    if not IS_STARTED:
        return (yield)
    faulthandler.dump_traceback_later(LIMIT, exit=True, file=pyfuncitem.config.stash[STDERR])
    try:
        result, mine = None, None
        try:
            result = yield
        except BaseException as error:
            mine = error
            if not isinstance(error, pytest.skip.Exception):  # said at once, because others may wait for this rank until the limit
                text = traceback.format_exception(error) if AGREEMENT.rank else traceback.format_exception_only(error)
                os.write(pyfuncitem.config.stash[STDERR], f"rank {AGREEMENT.rank}: {''.join(text)}".encode())
        failures = AGREEMENT.allgather(None if mine is None else f"{type(mine).__name__}: {mine}")
    finally:
        faulthandler.cancel_dump_traceback_later()
    if mine is not None:
        raise mine
    for rank, failure in enumerate(failures):
        if failure is not None:
            pytest.fail(f"rank {rank} failed: {failure}", pytrace=False)
    return result
