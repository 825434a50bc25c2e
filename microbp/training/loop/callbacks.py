"""Functions that are called with records, after epochs and after updates, and what else may end an epoch early."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence

import numpy as np

from .history import Record

Callback = Callable[[Record], object]


class Callbacks:
    """Functions of a record, any of which stops the training by returning True."""

    def __init__(self, given: Callback | Sequence[Callback] | None, what: str) -> None:
        self.functions: list[Callback] = [] if given is None else list(given) if isinstance(given, list | tuple) else [given]  # type: ignore[list-item]  # a sequence of another kind is refused
        for function in self.functions:
            if not callable(function):
                raise TypeError(f"fit: {what} must be a function, or a list of functions, not {function!r}")

    def __call__(self, record: Record) -> bool:
        """Calls each with a copy of the record; True if one of them stops."""
        stops = False
        for function in self.functions:
            answer = function(Record(record))
            stops |= answer is True or (isinstance(answer, np.bool_) and bool(answer))
        return stops


_NONE = Callbacks(None, "callback")


class Brake:
    """What ends an epoch between two of its updates, and fit with it: batch callbacks, and the time that fit may take."""

    def __init__(self, callbacks: Callbacks = _NONE, seconds: float | None = None) -> None:
        self._callbacks = callbacks
        self._deadline = math.inf if seconds is None else time.monotonic() + seconds
        self._is_pulled = False

    @property
    def sees_updates(self) -> bool:
        """Whether there are callbacks, which must be called after each update."""
        return bool(self._callbacks.functions)

    @property
    def clock(self) -> Callable[[], bool] | None:
        """Says whether the time is up; None if any time may pass."""
        return self.is_on if self._deadline < math.inf else None

    def after_update(self, record: Record) -> bool:
        """Calls the callbacks; whether to stop."""
        self._is_pulled |= self._callbacks(record)
        return self._is_pulled or time.monotonic() >= self._deadline

    def is_on(self) -> bool:
        """Whether to stop."""
        return self._is_pulled or time.monotonic() >= self._deadline
