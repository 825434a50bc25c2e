"""Runs tasks on an executor of concurrent.futures, whose workers may be threads, processes, or other machines.

The rows that all tasks read are pickled once, into memory that the processes of this machine can map. A worker that cannot (it is on
another machine, or not on Linux) says so; the caller then sends it the bytes, which it keeps until the next call.
"""

from __future__ import annotations

import contextlib
import io
import mmap
import os
import pickle
import socket
import stat
import warnings
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future, ThreadPoolExecutor, wait
from queue import SimpleQueue
from threading import Event
from types import FunctionType
from typing import Any, BinaryIO, NamedTuple, Self, cast

import numpy as np

from ..core.text import brief, counted
from ..training.loop.records.callbacks import interrupt

_MOST = 256  # tasks in the executor at a time; each may have an open file
_PARCEL = 1 << 21  # bytes; larger tasks are sent when their turn comes, and are not kept in memory for all turns
_ALIGNMENT = 64  # of arrays, in bytes
_TOKEN = 16  # bytes; in the file they follow the byte that is 1 after Ctrl-C
_LOST = "its worker ended, or was cut off, before the task did (killed, out of memory, cancelled, or unable to load what it was sent)"

_Answer = tuple[Any, bool, Any]  # of a worker: which it is, whether it has the shared value, and the result


def check(executor: Any) -> None:
    if not isinstance(executor, Executor | None):
        raise TypeError(f"executor must be a concurrent.futures.Executor or None, not {brief(executor)}")


def run(
    executor: Executor,
    function: Callable[..., object],
    shared: Any,
    tasks: Sequence[tuple[Any, ...]],
    pack: Callable[[Any], Any],
    take: Callable[[int, Any], object],
) -> dict[int, Exception]:
    """Calls function(shared, *task) for each task in the executor; it changes the first object of the task. Returns the errors by number.

    A ThreadPoolExecutor gets the objects themselves. Others get copies: pack(object) comes back, and take(number, packed) puts it where it
    belongs. function, pack: of a module. Ctrl-C, or an error like it, ends all tasks.
    """
    submit: Callable[..., Future[_Answer]] = executor.submit
    finished: SimpleQueue[Future[_Answer]] = SimpleQueue()
    waiting, running = deque(range(len(tasks))), dict[Future[_Answer], tuple[int, _Parcel | None]]()
    seen, needy, errors = set[Any](), set[Any](), dict[int, Exception]()
    carriers = set[Future[_Answer]]()  # running tasks that bring the bytes of the shared value
    is_far = False  # whether some worker cannot map it; then at most one task for each known worker is sent at a time
    with _Here(shared) if isinstance(executor, ThreadPoolExecutor) else Block(shared) as rows:
        try:
            while waiting or running:
                while waiting and len(running) < (len(seen) if is_far else _MOST):
                    i, carries = waiting.popleft(), len(carriers) < len(needy)
                    parcel = None if is_far else rows.parcel(tasks[i])
                    try:
                        future = submit(*rows.call(carries), function, pack, parcel.place if parcel else tasks[i])
                    except Exception as error:  # it has ended
                        errors[i] = _named(error)
                        _close(parcel)
                        continue
                    running[future] = i, parcel
                    carriers |= {future} if carries else set()
                    future.add_done_callback(finished.put)
                if not running:
                    continue
                future = finished.get()
                i, parcel = running.pop(future)
                carriers.discard(future)
                try:
                    worker, has_rows, result = future.result()
                    seen.add(worker)
                    if has_rows:
                        needy.discard(worker)
                        if isinstance(rows, Block):
                            take(i, parcel.result() if parcel and result is None else result)
                    else:
                        needy.add(worker)
                        waiting.append(i)
                        is_far = True
                except Exception as error:
                    errors[i] = _named(error)
                finally:
                    _close(parcel)
        except BaseException:
            rows.stop()
            left = [future for future in running if not future.cancel()]
            if isinstance(rows, _Here):
                wait(left)
            raise
        finally:
            for _, parcel in running.values():
                _close(parcel)
    return errors


def _close(parcel: _Parcel | None) -> None:
    if parcel is not None:
        parcel.memory.file.close()


def first_error(errors: dict[int, Exception], what: str, names: Sequence[Any]) -> Exception:
    """The error of the first task that failed, with its name, and which others failed. what: such as "trainers[{}]"; names: for {}."""
    first, *others = sorted(errors)
    error, name = errors[first], what.format(names[first])
    listed = ", ".join(str(names[i]) for i in others)
    more = f"; {counted(len(others), 'other')} failed too: {listed}" if others else ""
    if len(error.args) == 1 and isinstance(error.args[0], str):
        error.args = (f"{name}: {error.args[0]}{more}",)
    else:  # such as OSError, whose text is made of several arguments
        error.add_note(f"{name}{more}")
    return error


def check_some(
    errors: dict[int, Exception], function: str, what: str, names: Sequence[Any], told: dict[int, Exception], *, level: int
) -> None:
    """Raises the first error if all tasks failed; else a RuntimeWarning names the errors in `told`. level: how many calls above this one
    the user's line is. The other arguments: as of first_error."""
    if len(errors) == len(names):
        raise first_error(errors, what, names)
    if told:
        first = next(iter(sorted(told)))
        others = f"; failed too: {', '.join(str(names[i]) for i in sorted(told) if i != first)}" if len(told) > 1 else ""
        text = f"{function}: {what.format(names[first])} failed: {type(told[first]).__name__}: {told[first]}{others}; all are in `errors`"
        warnings.warn(text, RuntimeWarning, stacklevel=level + 1)


def _named(error: Exception) -> Exception:
    """The error; in plain words if the worker is lost. Executors give one object to all the tasks that they lose."""
    if isinstance(error, BrokenExecutor | CancelledError) or type(error).__name__ == "KilledWorker":  # the latter is Dask's
        kind = type(error) if isinstance(error, BrokenExecutor) else BrokenExecutor
        lost = kind(_LOST)
        lost.__cause__ = error
        return lost
    return error


# ---- threads ----


class _Here:
    """A value for the threads of this process."""

    def __init__(self, value: Any) -> None:
        self._value, self._event = value, Event()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def call(self, carries: bool) -> tuple[Any, ...]:
        return _in_thread, self._value, self._event

    def parcel(self, task: object) -> None:
        pass

    def stop(self) -> None:
        self._event.set()


def _in_thread(value: Any, event: Event, function: Callable[..., object], pack: object, task: tuple[Any, ...]) -> _Answer:
    with _interruptible(event):
        function(value, *task)
    return None, True, None


@contextlib.contextmanager
def _interruptible(event: Event | None) -> Iterator[None]:
    """The fits in this block end when the event is set."""
    token = interrupt.set(event)
    try:
        yield
    finally:
        interrupt.reset(token)


# ---- processes ----


class _Place(NamedTuple):
    """Where a block is: its file, the token in it, its size in bytes, and the parts: (start, length) of the pickle and of its arrays."""

    path: str
    token: bytes
    size: int
    parts: tuple[tuple[int, int], ...]


class _Memory:
    """A file in memory that processes of this machine can open; it vanishes with this process, however it ends. OSError: not on Linux."""

    def __init__(self) -> None:
        if not hasattr(os, "memfd_create"):
            raise OSError("no memfd_create")
        number = os.memfd_create("microbp")
        self.file, self.path = os.fdopen(number, "w+b"), f"/proc/{os.getpid()}/fd/{number}"
        _open.add(self)


_open: weakref.WeakSet[_Memory] = weakref.WeakSet()


def _close_all() -> None:
    """In a process that was forked: it would keep the memory until it ends."""
    for memory in list(_open):
        memory.file.raw.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_all)


class Block:
    """A value in a file that processes of this machine can map: a pickle, and the arrays in it; not on Linux, as bytes to send."""

    def __init__(self, value: Any) -> None:
        text, arrays = io.BytesIO(), list[pickle.PickleBuffer]()
        _Pickler(text, 5, buffer_callback=arrays.append).dump(value)
        token, parts = os.urandom(_TOKEN), list[tuple[int, int]]()
        path, self._file = "", cast(BinaryIO, io.BytesIO())
        with contextlib.suppress(OSError):
            self._memory = _Memory()
            path, self._file = self._memory.path, cast(BinaryIO, self._memory.file)
        try:
            self._file.write(bytes(1) + token)
            for part in (text.getbuffer(), *(array.raw() for array in arrays)):
                self._file.seek(-(-self._file.tell() // _ALIGNMENT) * _ALIGNMENT)
                parts.append((self._file.tell(), part.nbytes))
                self._file.write(part)
            self._file.truncate()  # the last part may be empty
            self._file.flush()
        except BaseException:
            self._file.close()
            raise
        self.place = _Place(path, token, self._file.tell(), tuple(parts))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def call(self, carries: bool) -> tuple[Any, ...]:
        """The function for the executor and its first arguments. carries: whether they contain the bytes."""
        return _in_process, self.place, self._bytes() if carries else None

    def parcel(self, task: tuple[Any, ...]) -> _Parcel | None:
        """None: the executor must send the task itself."""
        try:
            return _Parcel(task)
        except Exception:  # of whatever the task contains
            return None

    def _bytes(self) -> bytearray:
        self._file.seek(0)
        return bytearray(self._file.read())

    def stop(self) -> None:
        """Ends the fits of the processes that have mapped it."""
        self._file.seek(0)
        self._file.write(b"\1")
        self._file.flush()


class _Parcel:
    """A task in memory; behind it the worker writes the result."""

    def __init__(self, task: tuple[Any, ...]) -> None:
        text = io.BytesIO()
        _Pickler(text, 5).dump(task)
        if text.tell() > _PARCEL:
            raise ValueError("too large")
        self.memory = _Memory()
        self.memory.file.write(text.getbuffer())
        self.memory.file.flush()
        self.place = _Written(self.memory.path, text.tell())

    def result(self) -> Any:
        self.memory.file.seek(self.place.size)
        return pickle.load(self.memory.file)


class _Written(NamedTuple):
    """Where a parcel is, and how long the task is in bytes."""

    path: str
    size: int


class _Pickler(pickle.Pickler):
    """Leaves the numbers of all arrays out, of those with gaps between them too. Refuses what a worker may not be able to import: only some
    executors can send functions and classes of the main program, by pickles of their own."""

    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, FunctionType | type) and value.__module__ == "__main__":
            raise pickle.PicklingError(
                f"{value.__qualname__} is in the main program, which workers may not be able to import; "
                "pass arrays, such as np.asarray(X), or put it into a module"
            )
        if type(value) is np.ndarray and not value.flags.forc and not value.dtype.hasobject:
            return np.ascontiguousarray(value).__reduce_ex__(5)
        return NotImplemented


# ---- in a worker ----

_kept: tuple[bytes, bytearray] | None = None  # the token and the bytes of the last call, if they were sent


def _in_process(
    place: _Place, sent: bytearray | None, function: Callable[..., object], pack: Callable[[Any], Any], task: tuple[Any, ...] | _Written
) -> _Answer:
    """Calls the function. It is not called, and False is returned, if this worker has not got the shared value, or the task."""
    global _kept
    if sent is not None:
        _kept = place.token, sent
    kept, worker = _kept, (socket.gethostname(), os.getpid())
    memory, event = (kept[1], None) if kept is not None and kept[0] == place.token else _mapped(place)
    if memory is None:
        return worker, False, None
    text, *arrays = (memoryview(memory)[start : start + length] for start, length in place.parts)
    try:
        with _interruptible(event):
            if not isinstance(task, _Written):
                function(pickle.loads(text, buffers=arrays), *task)
                return worker, True, pack(task[0])
            with open(task.path, "r+b") as file:
                taken = pickle.loads(file.read(task.size))
                function(pickle.loads(text, buffers=arrays), *taken)
                file.truncate(task.size)
                file.seek(task.size)
                pickle.dump(pack(taken[0]), file, 5)
        return worker, True, None
    except KeyboardInterrupt:
        if event is None or not event.is_set():
            raise
        return worker, True, None  # nobody waits for it
    except Exception as error:
        try:
            pickle.loads(pickle.dumps(error))
        except Exception:  # executors would break when it arrives
            raise RuntimeError(f"{type(error).__name__}: {error}") from None
        raise


def _mapped(place: _Place) -> tuple[Any, Event | None]:
    """The bytes of a block, in memory that all processes share until one writes to it, and the event of Ctrl-C. None: it is not here."""
    try:
        found = os.stat(place.path)
        if not stat.S_ISREG(found.st_mode) or found.st_size != place.size:  # of another process of another machine
            return None, None
        with open(place.path, "rb") as file:
            if file.read(1 + _TOKEN)[1:] != place.token:
                return None, None
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY), _Flag(mmap.mmap(file.fileno(), 1, access=mmap.ACCESS_READ))
    except OSError:
        return None, None


class _Flag(Event):
    """An event that the caller sets in the first byte of the block."""

    def __init__(self, memory: mmap.mmap) -> None:
        super().__init__()
        self._memory = memory

    def is_set(self) -> bool:
        return self._memory[0] != 0
