"""Ranks: what they exchange, and how failures travel, on threads as ranks."""

from __future__ import annotations

import signal
from types import SimpleNamespace

import numpy as np
import pytest
from ranks_threads import Board, FewComm, RanksError, ThreadComm, run_ranks

from microbp.ranks.failing import is_told
from microbp.ranks.ranks import Ranks, read

KINDS = [(1, False), (2, False), (3, False), (2, True), (3, True)]  # how many ranks; whether the communicator has only four methods
ranks = pytest.mark.parametrize(("n", "few"), KINDS)
SPECIAL = np.array([0.0, -0.0, np.nan, -np.nan, np.inf, 5e-324, 0.1])


@ranks
def test_every_rank_gets_all_in_rank_order(n, few):
    def body(comm):
        with Ranks(comm).joined() as r:
            arrays = r.gather_arrays(np.arange(6 * r.rank, dtype=np.float32).reshape(-1, 3) + r.rank)
            return r.gather_bytes(b"x" * r.rank), arrays, r.sum(SPECIAL + r.rank), r.exchange(r.rank, -0.5), r.any(r.rank == n - 1)

    for texts, arrays, total, numbers, is_any in run_ranks(n, body, few=few, seed=n):
        assert texts == [b"x" * rank for rank in range(n)]
        for rank, array in enumerate(arrays):
            assert array.dtype == np.float32 and np.array_equal(array, np.arange(6 * rank).reshape(-1, 3) + rank)
        expected = SPECIAL + 0
        for rank in range(1, n):
            expected = expected + (SPECIAL + rank)
        assert total.tobytes() == expected.tobytes()
        assert numbers == [(rank, -0.5) for rank in range(n)] and is_any


@ranks
@pytest.mark.parametrize("count", [1, 3, 700])  # doubles: also more than are copied
def test_gather_and_swap_keep_all_bits(n, few, count):
    def body(comm):
        r = Ranks(comm)
        mine = np.resize(SPECIAL, n * count) * (1 - 2 * (r.rank % 2))
        everyone, theirs = np.zeros((n, n * count)), np.zeros(n * count)
        r.gather(memoryview(mine).cast("B"), memoryview(everyone.reshape(-1)).cast("B"))
        in_place = np.zeros_like(everyone)
        in_place[r.rank] = mine
        flat = memoryview(in_place.reshape(-1)).cast("B")
        r.gather(flat[r.rank * mine.nbytes : (r.rank + 1) * mine.nbytes], flat)
        r.swap(memoryview(mine).cast("B"), memoryview(theirs).cast("B"))
        begun = np.zeros_like(theirs)
        if r.begin:
            r.begin(memoryview(mine).cast("B"), memoryview(begun).cast("B"))
            r.finish()
            assert begun.tobytes() == theirs.tobytes()
        assert (r.begin is None) == few
        return mine, everyone, in_place, theirs

    found = run_ranks(n, body, few=few, seed=1)
    all_of = np.stack([mine for mine, *_ in found])
    for rank, (_, everyone, in_place, theirs) in enumerate(found):
        assert everyone.tobytes() == in_place.tobytes() == all_of.tobytes()
        assert theirs.tobytes() == np.ascontiguousarray(all_of.reshape(n, n, count)[:, rank]).tobytes()


@ranks
def test_broadcast_and_parts(n, few):
    def body(comm):
        array = np.full(5, comm.Get_rank() + 0.5)
        with Ranks(comm).joined() as r:
            r.broadcast(array)
        return array.tolist(), [r.part(count) for count in (0, 1, 7, 12)]

    found = run_ranks(n, body, few=few)
    assert all(array == [0.5] * 5 for array, _ in found)
    for count, parts in zip((0, 1, 7, 12), zip(*(parts for _, parts in found), strict=True), strict=True):
        assert [i for part in parts for i in range(count)[part]] == list(range(count))
        lengths = [part.stop - part.start for part in parts]
        assert lengths == sorted(lengths, reverse=True) and lengths[0] - lengths[-1] <= 1


def error_of(function):
    """What it raises."""
    try:
        function()
    except BaseException as error:
        return error
    raise AssertionError("nothing was raised")


def in_block(r, function, *arguments):
    with r.joined():
        function(*arguments)


FAILURES = [ValueError("row 3 is bad"), KeyboardInterrupt(), ValueError("ü" * 5000)]


@pytest.mark.parametrize(("n", "few"), [(1, False), (2, True), (3, False)])
@pytest.mark.parametrize("place", ["before", "between", "after", "inner", "uneven"])
@pytest.mark.parametrize("error", FAILURES, ids=["plain", "ctrl-c", "long"])
def test_a_failure_reaches_all_and_they_go_on(n, few, place, error):
    """With its rank and reason, wherever it comes; afterwards the ranks can work together again."""
    guilty = n - 1

    def body(comm):
        r = Ranks(comm)

        def fails(where):
            if r.rank == guilty and place == where:
                raise error

        def work():
            fails("before")
            r.exchange()
            fails("between")
            with r.joined():
                r.gather_bytes(b"abc")
                fails("inner")
            if place == "uneven":  # rows of different sizes are refused on all
                r.gather_arrays(np.zeros((1, 1 + r.rank)) if n > 1 else [])
            fails("after")

        found = error_of(lambda: in_block(r, work))
        with r.joined():
            assert r.any(True)
        return found

    found = run_ranks(n, body, few=few, seed=2)
    assert all(map(is_told, found))
    if place == "uneven":
        assert n == 1 or {str(one) for one in found} == {
            "an array of rank 1 has another dtype, or rows of another shape, than that of rank 0"
        }
        return
    assert found[guilty] is error
    for one in found[:guilty]:
        assert type(one) is RuntimeError and one.__cause__ is None
        assert str(one).startswith(f"rank {guilty} failed: {type(error).__name__}: {error}"[:900].removesuffix(": "))


def test_the_first_of_several_is_named():
    def fails(rank):
        if rank:
            raise ValueError(f"from {rank}")

    def body(comm):
        return str(error_of(lambda: in_block(Ranks(comm), fails, comm.Get_rank())))

    assert run_ranks(3, body) == ["rank 1 failed: ValueError: from 1", "from 1", "from 2"]


@pytest.mark.parametrize("with_header", [True, False])
def test_a_failure_that_a_backend_has_told(with_header):
    """A backend sends the header of a failure by itself. Without, a rank cannot know that an error is not its own."""

    def fails(r):
        trainer = SimpleNamespace(failed_rank=1 if with_header else -1)  # of a backend
        with r.call(trainer):
            if with_header:
                r.gather(memoryview(np.array([0, 0, r.rank == 1], float)).cast("B"), memoryview(bytearray(24 * r.size)))
            raise ValueError("bad") if r.rank == 1 else InterruptedError("process 1 failed or was cancelled")

    def body(comm):
        r = Ranks(comm)
        found = error_of(lambda: in_block(r, fails, r))
        with r.joined():
            pass
        return str(found)

    first = "rank 1 failed: ValueError: bad" if with_header else "process 1 failed or was cancelled"
    assert run_ranks(2, body) == [first, "bad"]


def test_ctrl_c_waits_while_others_wait():
    """In the main thread; a block inside that of another object too."""
    board, done = Board(1, None, 5), []
    outer, r = Ranks(ThreadComm(board, 0)), Ranks(ThreadComm(board, 0))

    def deferred():
        with r.call():
            signal.raise_signal(signal.SIGINT)
            done.append("in the call")
        done.append("after the call")

    def at_once():
        signal.raise_signal(signal.SIGINT)
        done.append("after the signal")

    for work in (deferred, at_once):
        assert type(error_of(lambda work=work: in_block(outer, in_block, r, work))) is KeyboardInterrupt
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert done == ["in the call"]


def test_a_handler_of_the_user_stays():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with Ranks(ThreadComm(Board(1, None, 5), 0)).joined():
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_broken_exchange_is_raised_as_it_is():
    class Broken(FewComm):
        def Allreduce(self, send, receive):  # noqa: N802
            raise OSError("the network is down")

    def body(comm):
        with Ranks(comm).joined() as r:
            r.exchange()

    with pytest.raises(RanksError) as raised:
        run_ranks(2, body, kind=Broken)
    assert [str(error) for error in raised.value.errors] == ["the network is down"] * 2


def test_what_is_no_communicator_is_refused():
    assert read(None) is None
    with pytest.raises(TypeError, match=r"comm must be a communicator such as mpi4py.MPI.COMM_WORLD, but 3 has no method Get_rank"):
        read(3)
