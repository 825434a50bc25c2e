"""A progress line on stderr while `fit` runs."""

from __future__ import annotations

import contextlib
import shutil
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextvars import ContextVar

_REFRESH = 0.1  # seconds between updates of the line; rare enough not to slow down training
_LINES = 5.0  # seconds between lines in a log
_title = ContextVar("title", default="")


@contextlib.contextmanager
def titled(text: str) -> Iterator[None]:
    """Begins the progress lines inside with this text."""
    before = _title.set(text)
    try:
        yield
    finally:
        _title.reset(before)


class ProgressLine:
    """Shows the latest record. A terminal or notebook gets one line that is updated; other outputs get a new line every few seconds.

    enabled: None means only on a terminal or in a notebook. hidden: entries of records that it does not show, besides some others.
    """

    def __init__(self, enabled: bool | None, epochs: int, hidden: Iterable[str] = ()) -> None:
        self._refreshes = _watched()
        self._enabled = self._refreshes if enabled is None else enabled
        self._epochs = epochs
        self._hidden = {"epoch", "steps", "seconds", *hidden}
        self._shown = 0.0
        self._width = 0
        self._text = self._last = ""

    def show(self, record: Mapping[str, float], done: int) -> None:
        """Shows the record of the `done`-th epoch of this fit."""
        if not self._enabled:
            return
        values = (f"{name} {value:.4g}" for name, value in record.items() if name not in self._hidden)
        self._text = f"{_title.get()}epoch {done}/{self._epochs}  {'  '.join(values)}  {record['seconds']:.2f} s"
        if time.monotonic() - self._shown >= (_REFRESH if self._refreshes else _LINES):
            self._write()

    def close(self) -> None:
        """Shows the last record and ends the line."""
        if self._text != self._last:
            self._write()
        if self._text and self._refreshes:
            self._put("\n")

    def _write(self) -> None:
        if self._refreshes:
            text = self._text[: shutil.get_terminal_size().columns - 1]
            self._put("\r" + text.ljust(self._width))
            self._width = len(text)
        else:
            self._put(self._text + "\n")
        self._shown, self._last = time.monotonic(), self._text

    def _put(self, text: str) -> None:
        """Writes to stderr. If that fails (say, the terminal is closed), training continues without progress."""
        try:
            if sys.stderr is not None:
                sys.stderr.write(text)
                sys.stderr.flush()
        except (OSError, ValueError):
            self._enabled = False


def _watched() -> bool:
    return sys.stderr is not None and (sys.stderr.isatty() or "ipykernel" in sys.modules)
