"""Ranks: the processes of a communicator, which do the same calls in the same order, and end together if one of them fails.

The only primitives are `gather` and `swap`, on bytes. All additions are made here or by a backend, in rank order, so that results do not
depend on the network or on the MPI library. Every exchange starts with a header: a gather of three float64 numbers per process, of which
the last says that this process has failed. After such a header, all processes exchange the reasons, and leave.
"""

from __future__ import annotations

import contextlib
import hashlib
import signal
import struct
import threading
import zlib
from collections.abc import Iterator, Mapping
from typing import Any, NoReturn, Self

import numpy as np

from ..core.backend import CoreTrainer
from ..core.text import brief
from .failing import mark_as_told
from .transport import Transport

Array = np.ndarray[Any, Any]
HEADER = struct.Struct("3d")  # two numbers of the exchange, and how this process is: one of the following
WELL, FAILED, LEAVES = 0.0, 1.0, 2.0  # LEAVES: it knows of the failure of another
LONGEST_REASON = 2000  # bytes of a text
_SHOWN = 200  # letters of a value in an error; of a longer text, only a hash is exchanged
_inside: list[Ranks] = []  # those whose block of `joined` has begun and not ended


class Ranks(Transport):
    """The processes of a communicator. See `joined` for what all calls that exchange something must be in."""

    __slots__ = ("_busy", "_failed", "_interrupted", "is_inside")

    def __init__(self, comm: Any) -> None:
        super().__init__(comm)
        self._interrupted = False
        self.is_inside = False  # a block of `joined`
        self._busy = 0  # above 0: other ranks wait for this one, so it cannot be interrupted now
        self._failed = -1  # the rank whose header has told that it failed

    # ---- blocks ----

    @contextlib.contextmanager
    def joined(self, closes: bool = True) -> Iterator[Self]:
        """A block in which all ranks do the same exchanges. If one raises an exception in it, whatever and wherever, its next header tells
        the others; they leave the block at their next exchange, with RuntimeError "rank 1 failed: ValueError: ...".

        closes: end with a header, so that no rank leaves the block before all have come to its end. A block inside another does nothing.
        RuntimeError: other ranks of the same communicator are in a block, whose exchanges would meet those of this one.
        """
        if self.is_inside:
            yield self
            return
        if any(other.comm == self.comm for other in _inside):
            raise RuntimeError(
                "another trainer's call with this comm has not ended yet, and the ranks can do one at a time: return from the function "
                "that it has called first, or use a trainer without comm="
            )
        self.is_inside = True
        _inside.append(self)
        before = self._watch_interrupts()
        try:
            yield self
            if closes:
                self.exchange()
        except BaseException as error:
            self._leave(error)
        finally:
            self.is_inside = False
            _inside.remove(self)
            if before is not None:
                signal.signal(signal.SIGINT, before)

    @contextlib.contextmanager
    def call(self, trainer: CoreTrainer | None = None) -> Iterator[None]:
        """Around a call of a backend's trainer that exchanges. Ctrl-C waits until it has returned, so that no rank leaves between two
        exchanges."""
        self._busy += 1
        try:
            yield
        except BaseException:
            if trainer is not None:
                self._failed = trainer.failed_rank
            raise
        finally:
            self._busy -= 1
        if not self._busy:
            self.check_interrupt()

    def check_interrupt(self) -> None:
        """Raises KeyboardInterrupt if Ctrl-C came while other ranks waited for this one."""
        if self._interrupted:
            self._interrupted = False
            raise KeyboardInterrupt

    def _watch_interrupts(self) -> Any:
        """From now on, Ctrl-C calls _interrupt. Returns what it called before; None: nothing has changed, because only the main thread may
        ask, and a handler of the user's stays."""
        self._interrupted = False
        if threading.current_thread() is not threading.main_thread():
            return None
        before = signal.getsignal(signal.SIGINT)
        if before is not signal.default_int_handler and not isinstance(getattr(before, "__self__", None), Ranks):
            return None
        signal.signal(signal.SIGINT, self._interrupt)
        return before

    def _interrupt(self, *_: Any) -> None:
        if not self._busy:
            raise KeyboardInterrupt
        self._interrupted = True

    def end(self) -> None:
        """Waits until all ranks have ended too; those that train meanwhile raise RuntimeError."""
        with contextlib.suppress(SystemExit):
            self._leave(SystemExit("its program has ended before theirs"))

    def _leave(self, error: BaseException) -> NoReturn:
        """Leaves a block in which this rank or another has failed: tells that, exchanges the reasons, and raises this rank's error or that
        of the first that failed."""
        if self.is_broken:
            raise error
        is_mine = self._failed in (-1, self.rank)
        text = f"{type(error).__name__}: {error}".removesuffix(": ") if is_mine else ""
        reason = text.encode(errors="replace")[:LONGEST_REASON]
        self._busy += 1
        try:
            told = [(0.0, 0.0, WELL)]
            while any(state == WELL for _, _, state in told):  # until all know: the others may have gone into an exchange
                told = self._header(len(reason), 0, FAILED if is_mine else LEAVES)
            reasons = self._padded(reason, [int(length) for length, _, _ in told])
        finally:
            self._busy -= 1
        rank = next((rank for rank, (_, _, state) in enumerate(told) if state == FAILED), self.rank)
        self._failed = -1
        if is_mine or rank == self.rank:
            mark_as_told(error, rank)
            raise error
        theirs = RuntimeError(f"rank {rank} failed: {reasons[rank].decode(errors='replace')}").with_traceback(error.__traceback__)
        mark_as_told(theirs, rank)
        raise theirs from None

    def _header(self, a: float, b: float, state: float) -> list[tuple[float, float, float]]:
        """The headers of all ranks."""
        got = bytearray(HEADER.size * self.size)
        self.gather(memoryview(HEADER.pack(a, b, state)), memoryview(got))
        return list(HEADER.iter_unpack(got))

    # ---- exchanges, inside of `joined` ----

    def exchange(self, a: float = 0.0, b: float = 0.0) -> list[tuple[float, float]]:
        """The two numbers of every rank, in rank order: a header alone."""
        self.check_interrupt()
        with self.call():
            told = self._header(a, b, WELL)
        self._failed = next((rank for rank, (_, _, state) in enumerate(told) if state != WELL), -1)
        if self._failed >= 0:
            raise RuntimeError(f"rank {self._failed} failed")  # `joined` adds the reason
        return [(first, second) for first, second, _ in told]

    def any(self, value: bool) -> bool:
        """Whether it is true on a rank."""
        return any(number for number, _ in self.exchange(value))

    def gather_bytes(self, data: bytes) -> list[bytes]:
        """The bytes of every rank, of any lengths."""
        with self.call():
            return self._padded(data, [int(length) for length, _ in self.exchange(len(data))])

    def gather_arrays(self, array: Array) -> list[Array]:
        """The array of every rank. They may differ in length along axis 0. ValueError: they differ in dtype or in the shape of a row."""
        row = array.itemsize * int(np.prod(array.shape[1:]))
        with self.call():
            told = self.exchange(len(array), zlib.crc32(f"{array.dtype.str}{array.shape[1:]}".encode()))
            rank = next((rank for rank, (_, other) in enumerate(told) if other != told[0][1]), None)
            if rank is not None:
                raise ValueError(f"an array of rank {rank} has another dtype, or rows of another shape, than that of rank 0")
            lengths = [int(length) for length, _ in told]
            parts = self._padded(array.tobytes(), [length * row for length in lengths])
        found = [np.empty((length, *array.shape[1:]), array.dtype) for length in lengths]
        for one, part in zip(found, parts, strict=True):
            one.reshape(-1).view(np.uint8)[...] = np.frombuffer(part, np.uint8)
        return found

    def sum(self, array: Any) -> Array:
        """((a0 + a1) + a2) + ... of the arrays of all ranks, of one shape."""
        mine = np.asarray(array)
        total, *others = self.gather_arrays(mine.reshape(1, *mine.shape))
        for other in others:
            total += other
        found: Array = total[0]
        return found

    def broadcast(self, array: Array) -> None:
        """Overwrites a contiguous array by that of rank 0."""
        with self.call():
            self.exchange()
            with self.breaking():
                self.comm.Bcast(array.reshape(-1).view(np.uint8), 0)

    def part(self, count: int) -> slice:
        """Which of `count` rows that all ranks have are those of this one: the first ranks may have one more than the others."""
        each, more = divmod(count, self.size)
        first = self.rank * each + min(self.rank, more)
        return slice(first, first + each + (self.rank < more))

    def check_same(self, call: str, values: Mapping[str, Any]) -> None:
        """ValueError, on all ranks, if one of these values, as text, differs between them. call: for the error."""
        texts = [str(value) for value in values.values()]
        told = "\0".join(text if len(text) <= _SHOWN else hashlib.sha256(text.encode()).hexdigest() for text in texts)
        first, *others = (data.decode().split("\0") for data in self.gather_bytes(told.encode()))
        for rank, other in enumerate(others, 1):
            for name, a, b, mine in zip(values, first, other, texts, strict=True):
                if a != b:
                    is_long = max(len(mine), len(a), len(b)) > _SHOWN or "\n" in a + b
                    found = (
                        f"{name} of rank {rank} is another than that of rank 0"
                        if is_long
                        else f"{name} is {a} on rank 0, and {b} on rank {rank}"
                    )
                    raise ValueError(f"{call}: all ranks must pass the same arguments, but {found}")

    def _padded(self, data: bytes, lengths: list[int]) -> list[bytes]:
        """The bytes of every rank, whose lengths are known."""
        longest = max(lengths)
        if not longest:
            return [b""] * self.size
        got = memoryview(bytearray(longest * self.size))
        super().gather(memoryview(data.ljust(longest, b"\0")), got)
        return [bytes(got[rank * longest : rank * longest + length]) for rank, length in enumerate(lengths)]


@contextlib.contextmanager
def joined(ranks: Ranks | None) -> Iterator[None]:
    """A block of `Ranks.joined`; None: of this process alone."""
    with ranks.joined() if ranks else contextlib.nullcontext():
        yield


def read(comm: Any) -> Ranks | None:
    """The ranks of the argument comm=; None: it is None; those that the package itself passes. TypeError: it is no communicator."""
    if comm is None or isinstance(comm, Ranks):
        return comm
    missing = [name for name in ("Get_rank", "Get_size", "Allreduce", "Bcast") if not callable(getattr(comm, name, None))]
    if missing:
        raise TypeError(f"comm must be a communicator such as mpi4py.MPI.COMM_WORLD, but {brief(comm)} has no method {missing[0]}")
    return Ranks(comm)
