"""The lock of a network: one thread at a time changes it or uses its trainers; predictions see the state between two steps."""

from __future__ import annotations

import functools
import inspect
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar
from weakref import WeakSet

T = TypeVar("T")


class Lock:
    """gate: what reads or writes parameters, buffers or settings holds it for a moment; no function of the user runs meanwhile."""

    def __init__(self) -> None:
        self._holder = threading.RLock()
        self._guests = 0  # functions of the user that run inside a training; only the thread that holds the network uses it
        self.gate = threading.RLock()
        self.changes = 0  # how often an update or standardize has changed the networks
        _locks.add(self)

    @contextmanager
    def hold(self, trains: bool = False) -> Iterator[None]:
        """Holds the network for this thread. trains: as a training, which is refused in a function that a training calls."""
        if not self._holder.acquire(blocking=False):
            raise RuntimeError("the network is in use by another thread: wait until its call returns, or use one network per thread")
        try:
            if trains and self._guests:
                raise RuntimeError("training is not possible inside a function that a training call has called: return from it first")
            yield
        finally:
            self._holder.release()

    @contextmanager
    def guest(self) -> Iterator[None]:
        """Runs a function of the user, in a thread that holds the network: it may do everything with the network except training."""
        self._guests += 1
        try:
            yield
        finally:
            self._guests -= 1

    def after_fork(self) -> None:
        """Forgets the threads of the parent, except the one that called fork."""
        self.gate = threading.RLock()
        if self._holder.acquire(blocking=False):
            self._holder.release()
        else:
            self._holder, self._guests = threading.RLock(), 0


_locks: WeakSet[Lock] = WeakSet()


def _after_fork() -> None:
    for lock in list(_locks):
        lock.after_fork()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_after_fork)


def locked(holds: str, trains: str = "") -> Callable[[type[T]], type[T]]:
    """A class decorator: these methods, and setters of properties, hold the network from beginning to end, by `self.hold`."""

    def decorate(cls: type[T]) -> type[T]:
        for name in [*holds.split(), *trains.split()]:
            member: Any = inspect.getattr_static(cls, name)
            is_training = name in trains.split()
            if isinstance(member, property):
                setattr(cls, name, member.setter(_holding(member.fset, is_training)))
            else:
                setattr(cls, name, _holding(member, is_training))
        return cls

    return decorate


def _holding(method: Any, trains: bool) -> Callable[..., Any]:
    @functools.wraps(method)
    def call(self: Any, *arguments: Any, **named: Any) -> Any:
        with self.hold(trains):
            return method(self, *arguments, **named)

    return call
