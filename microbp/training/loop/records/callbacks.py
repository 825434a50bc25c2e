"""Callbacks after epochs and after updates, and the other reasons to end an epoch early."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from threading import Event

import numpy as np

from ....core.text import brief
from .history import Record

Callback = Callable[[Record], object]


class Callbacks:
    """Functions that are called with a record. If one returns True, training stops."""

    def __init__(self, given: Callback | Sequence[Callback] | None, what: str) -> None:
        self.functions: list[Callback] = [] if given is None else list(given) if isinstance(given, list | tuple) else [given]  # type: ignore[list-item]  # the loop below raises an error for other sequences
        for function in self.functions:
            if not callable(function):
                raise TypeError(f"fit: {what} must be a function or a list of functions, not {brief(function)}")

    def __call__(self, record: Record) -> bool:
        """Calls each function with a copy of the record. Returns whether one of them returned True."""
        stops = False
        for function in self.functions:
            result = function(Record(record))
            stops |= result is True or (isinstance(result, np.bool_) and bool(result))
        return stops


_NONE = Callbacks(None, "callback")

# Once this event is set, the fits of this context raise KeyboardInterrupt, as after Ctrl-C, which only the main thread gets.
interrupt: ContextVar[Event | None] = ContextVar("interrupt", default=None)


class StopCheck:
    """Decides after each update whether to end the epoch and fit: for batch callbacks, and for the time limit of fit."""

    def __init__(self, callbacks: Callbacks = _NONE, seconds: float | None = None) -> None:
        self._callbacks = callbacks
        self._deadline = math.inf if seconds is None else time.monotonic() + seconds
        self._stopped = False
        self._interrupt = interrupt.get()

    @property
    def has_callbacks(self) -> bool:
        """Whether there are callbacks to call after each update."""
        return bool(self._callbacks.functions)

    @property
    def time_check(self) -> Callable[[], bool] | None:
        """A function that returns whether the time is up; None if there is no time limit and nothing else that ends a fit."""
        return self.must_stop if self._deadline < math.inf or self._interrupt is not None else None

    def after_update(self, record: Record) -> bool:
        """Calls the callbacks. Returns whether to stop training."""
        self._stopped |= self._callbacks(record)
        return self.must_stop()

    def must_stop(self) -> bool:
        """Whether a callback returned True or the time is up. KeyboardInterrupt if `interrupt` is set."""
        return bool(self.reason())

    def reason(self) -> str:
        """The same as the reason to stop: "callback" or "max_time"; "": go on."""
        if self._interrupt is not None and self._interrupt.is_set():
            raise KeyboardInterrupt
        return "callback" if self._stopped else "max_time" if time.monotonic() >= self._deadline else ""
