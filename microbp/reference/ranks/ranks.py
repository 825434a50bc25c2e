"""The ranks: processes that train together, each with its own rows. What they exchange, and in which order it is added."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from operator import add
from typing import Any

Exchange = Callable[[memoryview, memoryview], Any]

_SMALL = 256 << 10  # bytes: sums of vectors that together have no more are made in one exchange. No result depends on it


def _alone(mine: memoryview, everyone: memoryview) -> None:
    everyone[:] = mine


class LeftError(RuntimeError):
    """Another rank has failed, or was cancelled."""


class Ranks:
    """Without arguments: one rank alone, whose sums have one term. gather(mine, all): `all` becomes the bytes of each rank, in rank order.
    swap(mine, theirs): part j of `mine` goes to rank j, and part i of `theirs` comes from rank i. begin: as swap, but the parts may be on
    their way until `finish` returns. Every sum is made here, in rank order: so its bits do not depend on the network."""

    def __init__(
        self,
        rank: int = 0,
        ranks: int = 1,
        gather: Exchange = _alone,
        swap: Exchange | None = None,
        begin: Exchange | None = None,
        finish: Callable[[], Any] | None = None,
        every: int = 1,
        guest: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self.rank, self.ranks, self.every, self._guest = rank, ranks, max(every, 1), guest
        self._gather, self._swap, self._finish = gather, begin or swap, finish if begin else None
        self.failed = -1  # the rank that has failed in this call, if all know it
        self._depth, self._is_known = 0, False  # of `telling`; whether no rank waits for this one to tell of a failure

    # ---- sums ----

    def gathered(self, mine: array) -> list[array]:
        """The arrays of all ranks, which have the same length."""
        if not mine:
            return [mine] * self.ranks
        size = len(mine) * mine.itemsize
        found = bytearray(self.ranks * size)
        self._exchange(self._gather, memoryview(mine).cast("B"), memoryview(found))
        return [array(mine.typecode, found[i : i + size]) for i in range(0, len(found), size)]

    def sum(self, mine: array) -> array:
        """((a0 + a1) + a2) + ..., each sum rounded to the type of the arrays."""
        if self._swap is None or self.ranks * len(mine) * mine.itemsize <= _SMALL:
            return _added(self.gathered(mine))
        each = -(-len(mine) // self.ranks)  # each rank adds one piece
        padded = mine + array(mine.typecode, bytes(mine.itemsize * (each * self.ranks - len(mine))))
        theirs = padded[:]
        self._exchange(self._swap, memoryview(padded).cast("B"), memoryview(theirs).cast("B"))
        if self._finish:
            with self._guest():
                self._finish()
        piece = _added([theirs[i : i + each] for i in range(0, len(theirs), each)])
        return array(mine.typecode, b"".join(part.tobytes() for part in self.gathered(piece)))[: len(mine)]

    def numbers(self, mine: Sequence[float]) -> list[float]:
        """The sums of these numbers."""
        return self.sum(array("d", mine)).tolist()

    def mean(self, mine: array) -> array:
        """The mean of these arrays."""
        return array(mine.typecode, [total / self.ranks for total in self.sum(mine)])

    def union(self, mine: set[int]) -> set[int]:
        """All numbers that a rank has."""
        most = int(max(count for (count,) in self.gathered(array("q", [len(mine)]))))
        padded = array("q", [*sorted(mine), *[-1] * (most - len(mine))])
        return {number for part in self.gathered(padded) for number in part if number >= 0}

    def _exchange(self, by: Exchange, mine: memoryview, theirs: memoryview) -> None:
        with self.agreed(), self._guest():  # after an exchange that fails there is no other
            by(mine.toreadonly(), theirs)

    # ---- failures ----

    def header(self, a: float = 0.0, b: float = 0.0, failed: bool = False) -> list[tuple[float, float]]:
        """The two numbers of each rank. Every call of all ranks begins with it. RuntimeError if one of them has failed."""
        parts = self.gathered(array("d", [a, b, failed]))
        for rank, (_, _, has_failed) in enumerate(parts):
            if has_failed and not failed:
                self.failed = rank
                with self.agreed():
                    raise LeftError(f"process {rank} failed or was cancelled")
        return [(a, b) for a, b, _ in parts]

    @contextmanager
    def telling(self) -> Iterator[None]:
        """Of a call: the other ranks are told if it fails in this one, in place of the next header."""
        if self._depth == 0:
            self.failed, self._is_known = -1, False
        self._depth += 1
        try:
            yield
        except BaseException:
            self.leave()
            raise
        finally:
            self._depth -= 1

    def leave(self) -> None:
        """Tells the others that this rank ends its call, unless they know."""
        if self.ranks > 1 and not self._is_known:
            self.failed, self._is_known = self.rank, True
            with suppress(Exception):  # the first error counts
                self.header(failed=True)

    @contextmanager
    def agreed(self) -> Iterator[None]:
        """What fails here fails in all ranks, so nothing needs to be told."""
        try:
            yield
        except BaseException:
            self._is_known = True
            raise


def _added(parts: Sequence[array]) -> array:
    total = parts[0]
    for part in parts[1:]:
        total = array(total.typecode, map(add, total, part))
    return total
