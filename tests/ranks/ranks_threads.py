# ruff: noqa: N802  # the names are those of mpi4py
"""Ranks without MPI: the threads of one process are the ranks, and `ThreadComm` is their communicator, with the names of mpi4py.

No call waits for ever: one that a rank will not join, because it has ended or calls something else, raises at once in all that wait.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np

POISON = 0xA5  # what a receive buffer holds until the exchange has ended


class RanksError(AssertionError):
    """What the ranks raised: `errors` has an exception, or None, for each."""

    def __init__(self, errors: list[BaseException | None]) -> None:
        self.errors = errors
        super().__init__("; ".join(f"rank {rank}: {type(e).__name__}: {e}" for rank, e in enumerate(errors) if e))


class Board:
    """Where the ranks meet. The calls of each are numbered; the calls of the same number are one exchange."""

    def __init__(self, ranks: int, seed: int | None, timeout: float) -> None:
        self.ranks, self.seed, self.timeout = ranks, seed, timeout
        self.changed, self.ended = threading.Condition(), set[int]()
        self.calls: dict[int, dict[int, tuple[tuple[Any, ...], bytes]]] = {}
        self.left: dict[int, int] = {}

    def post(self, number: int, rank: int, what: tuple[Any, ...], data: bytes) -> None:
        with self.changed:
            self.calls.setdefault(number, {})[rank] = what, data
            self.changed.notify_all()

    def is_over(self, number: int) -> bool:
        """Whether all have come to an exchange, or some never will."""
        missing = set(range(self.ranks)) - set(self.calls[number])
        return not missing or bool(missing & self.ended)

    def take(self, number: int, rank: int) -> list[bytes]:
        """What each rank has posted."""
        with self.changed:
            over = self.changed.wait_for(lambda: self.is_over(number), self.timeout)
            posts = self.calls[number]
            what = posts[rank][0]
            missing = sorted(set(range(self.ranks)) - set(posts))
            if missing:
                raise AssertionError(f"rank {missing[0]} {'has ended' if over else 'is late'}, but rank {rank} waits for it in {what}")
            for other, (its, _) in sorted(posts.items()):
                if its != what:
                    raise AssertionError(f"rank {rank} calls {what}, but rank {other} calls {its}")
            self.left[number] = self.left.get(number, 0) + 1
            if self.left[number] == self.ranks:
                del self.left[number], self.calls[number]
            return [posts[other][1] for other in range(self.ranks)]

    def end(self, rank: int) -> None:
        with self.changed:
            self.ended.add(rank)
            self.changed.notify_all()


def flat(buffer: Any) -> memoryview:
    """The bytes of a buffer, or of the buffer of [buffer, type]."""
    view = memoryview(buffer[0] if isinstance(buffer, list | tuple) else buffer)
    return view.cast("B") if view.nbytes else memoryview(bytearray())  # with a 0 in its shape, a view cannot be cast


def is_in_place(buffer: Any) -> bool:
    """MPI.IN_PLACE is a number."""
    return isinstance(buffer, int)


class FewComm:
    """A communicator with as few methods as microbp needs. seed: ranks come late, at random, and sums are made in a random order.
    `counts` says how often each method was called."""

    def __init__(self, board: Board, rank: int) -> None:
        self.board, self.rank, self.number = board, rank, 0
        self.counts: dict[str, int] = {}
        self.random = None if board.seed is None else random.Random(board.seed * 1000 + rank)

    def Get_rank(self) -> int:
        return self.rank

    def Get_size(self) -> int:
        return self.board.ranks

    def Allreduce(self, send: Any, receive: Any) -> None:
        array = np.asarray(receive[0] if isinstance(receive, list | tuple) else receive)
        parts = self.meet("Allreduce", flat(receive if is_in_place(send) else send), array.dtype.str)
        if self.board.seed is not None:
            random.Random(self.board.seed + self.number).shuffle(parts)
        total = np.frombuffer(parts[0], array.dtype).copy()
        for part in parts[1:]:
            total += np.frombuffer(part, array.dtype)
        flat(receive)[:] = total.tobytes()

    def Bcast(self, buffer: Any, root: int = 0) -> None:
        flat(buffer)[:] = self.meet("Bcast", flat(buffer), root)[root]

    def meet(self, name: str, mine: memoryview, *more: Any) -> list[bytes]:
        """What each rank gives to this exchange."""
        return self.board.take(self.post(name, mine, *more), self.rank)

    def post(self, name: str, mine: memoryview, *more: Any) -> int:
        self.number += 1
        self.counts[name] = self.counts.get(name, 0) + 1
        self.delay()
        self.board.post(self.number, self.rank, (name, len(mine), *more), bytes(mine))
        return self.number

    def delay(self) -> None:
        if self.random:
            time.sleep(self.random.choice([0, 0, 0.0005, 0.002]))


class ThreadComm(FewComm):
    """Also with the methods that make microbp faster."""

    def Allgather(self, send: Any, receive: Any) -> None:
        part = len(flat(receive)) // self.board.ranks
        mine = flat(receive)[self.rank * part : (self.rank + 1) * part] if is_in_place(send) else flat(send)
        flat(receive)[:] = b"".join(self.meet("Allgather", mine))

    def Alltoall(self, send: Any, receive: Any) -> None:
        self.Ialltoall(send, receive).Wait()

    def Ialltoall(self, send: Any, receive: Any) -> Request:
        return Request(self, flat(send), flat(receive))


class Request:
    """Of an exchange that has begun. Neither buffer may be used before `Wait` has returned, or `Test` has returned True."""

    def __init__(self, comm: ThreadComm, send: memoryview, receive: memoryview) -> None:
        self.comm, self.send, self.receive, self.sent, self.is_done = comm, send, receive, bytes(send), False
        self.number = comm.post("Ialltoall", send)
        receive[:] = bytes([POISON]) * len(receive)

    def Wait(self) -> None:
        if self.is_done:
            return
        parts, size, rank = self.comm.board.take(self.number, self.comm.rank), len(self.send) // self.comm.Get_size(), self.comm.rank
        self.comm.delay()
        assert bytes(self.send) == self.sent, "the buffer was changed while it was being sent"
        assert set(self.receive) <= {POISON}, "the buffer was changed while it was being received"
        self.receive[:] = b"".join(part[rank * size : (rank + 1) * size] for part in parts)
        self.is_done = True

    def Test(self) -> bool:
        with self.comm.board.changed:
            is_over = self.is_done or self.comm.board.is_over(self.number)
        if is_over:
            self.Wait()
        return is_over

    wait, test = Wait, Test


def run_ranks(
    n: int,
    function: Callable[[Any], Any],
    few: bool = False,
    seed: int | None = None,
    timeout: float = 60,
    kind: type[FewComm] | None = None,
) -> list[Any]:
    """What function(comm) returns on each of n ranks; RanksError, if some raise. few: the communicator has only the methods that
    microbp needs. kind: a class of communicators of your own."""
    board = Board(n, seed, timeout)
    results: list[Any] = [None] * n
    errors: list[BaseException | None] = [None] * n

    def run(rank: int) -> None:
        try:
            results[rank] = function((kind or (FewComm if few else ThreadComm))(board, rank))
        except BaseException as error:
            errors[rank] = error
        finally:
            board.end(rank)

    threads = [threading.Thread(target=run, args=(rank,), daemon=True) for rank in range(n)]
    deadline = time.monotonic() + 3 * timeout
    for thread in threads:
        thread.start()
    for rank, thread in enumerate(threads):
        thread.join(max(0.0, deadline - time.monotonic()))
        if thread.is_alive():
            errors[rank] = TimeoutError("the rank did not end")
    if any(errors):
        raise RanksError(errors)
    return results


def hooks(comm: ThreadComm, every: int = 1, swap: bool = True, begin: bool = True) -> tuple[Any, ...]:
    """The arguments of `set_reduce` of a backend's trainer. swap, begin: whether it gets these."""
    requests: list[Request] = []

    def finish() -> None:
        while requests:
            requests.pop(0).Wait()

    return (
        comm.Get_rank(),
        comm.Get_size(),
        comm.Allgather,
        comm.Alltoall if swap else None,
        (lambda mine, theirs: requests.append(comm.Ialltoall(mine, theirs))) if begin else None,
        finish if begin else None,
        every,
    )
