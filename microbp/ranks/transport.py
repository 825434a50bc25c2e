"""The two primitives of an exchange, by the methods that a communicator has."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

_SMALL = 4096  # bytes that are sooner copied than compared by their address


class Transport:
    """gather and swap over mpi4py's Allgather, Alltoall and Ialltoall, or over Allreduce where a communicator has no more.

    comm: with mpi4py's methods Get_rank, Get_size, Allreduce, Bcast, and perhaps the others.
    """

    __slots__ = ("_in_place", "_requests", "begin", "comm", "finish", "is_broken", "rank", "size")

    def __init__(self, comm: Any) -> None:
        self.comm = comm
        self.rank, self.size = int(comm.Get_rank()), int(comm.Get_size())
        self._in_place = getattr(sys.modules.get(type(comm).__module__), "IN_PLACE", None)
        self._requests: list[Any] = []
        self.is_broken = False  # an exchange has raised: this rank can tell the others nothing any more
        overlaps = hasattr(comm, "Ialltoall")
        self.begin: Callable[[memoryview, memoryview], None] | None = self._begin if overlaps else None  # as swap, but returns at once
        self.finish: Callable[[], None] | None = self._finish if overlaps else None  # waits for all that `begin` has begun

    @contextlib.contextmanager
    def breaking(self) -> Iterator[None]:
        """Around calls of the communicator."""
        try:
            yield
        except BaseException:
            self.is_broken = True
            raise

    def gather(self, mine: memoryview, everyone: memoryview) -> None:
        """Every process gets `mine` of all, in rank order. `mine` may be the part of `everyone` at its place."""
        with self.breaking():
            if not hasattr(self.comm, "Allgather"):
                self._gather_by_sum(mine, everyone)
            elif len(mine) <= _SMALL:
                self.comm.Allgather(bytes(mine), everyone)
            elif _address(mine) != _address(everyone) + self.rank * len(mine):
                self.comm.Allgather(mine, everyone)
            else:
                self.comm.Allgather(bytes(mine) if self._in_place is None else self._in_place, everyone)

    def swap(self, mine: memoryview, theirs: memoryview) -> None:
        """Part j of `mine` goes to process j; `theirs` gets the parts of all for this one."""
        with self.breaking():
            if hasattr(self.comm, "Alltoall"):
                self.comm.Alltoall(mine, theirs)
                return
            everyone = np.empty((self.size, self.size, len(mine) // self.size), np.uint8)
            self._gather_by_sum(mine, memoryview(everyone.reshape(-1)))
            np.frombuffer(theirs, np.uint8).reshape(self.size, -1)[...] = everyone[:, self.rank]

    def _gather_by_sum(self, mine: memoryview, everyone: memoryview) -> None:
        """All other ranks add integers 0 at the place of this one, which changes no bit."""
        part = np.zeros((self.size, -(-len(mine) // 8) * 8), np.uint8)
        part[self.rank, : len(mine)] = np.frombuffer(mine, np.uint8)
        total = np.empty_like(part)
        self.comm.Allreduce(part.reshape(-1).view(np.int64), total.reshape(-1).view(np.int64))
        np.frombuffer(everyone, np.uint8).reshape(self.size, -1)[...] = total[:, : len(mine)]

    def _begin(self, mine: memoryview, theirs: memoryview) -> None:
        with self.breaking():
            self._requests.append(self.comm.Ialltoall(mine, theirs))

    def _finish(self) -> None:
        with self.breaking():
            while self._requests:
                self._requests.pop(0).Wait()


def _address(view: memoryview) -> int:
    found: int = np.frombuffer(view, np.uint8).__array_interface__["data"][0]
    return found
