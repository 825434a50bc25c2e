"""One refreshing line on stderr while `fit` runs."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping

_REFRESH = 0.1  # seconds: faster than the eye reads, slow enough to cost nothing


class ProgressLine:
    """Shows the latest record. enabled=None: where stderr is a terminal or a notebook."""

    def __init__(self, enabled: bool | None, epochs: int) -> None:
        self._enabled = _watched() if enabled is None else enabled
        self._epochs = epochs
        self._shown = 0.0
        self._width = 0
        self._text = ""

    def show(self, record: Mapping[str, float], done: int) -> None:
        """The record of the `done`-th epoch of this run."""
        if not self._enabled:
            return
        values = (f"{name} {value:.4g}" for name, value in record.items() if name not in ("epoch", "steps", "seconds"))
        self._text = f"epoch {done}/{self._epochs}  {'  '.join(values)}  {record['seconds']:.2f} s"
        if time.monotonic() - self._shown >= _REFRESH:
            self._write()

    def close(self) -> None:
        """Shows the last record, and ends the line."""
        if self._text:
            self._write()
            sys.stderr.write("\n")
            sys.stderr.flush()

    def _write(self) -> None:
        sys.stderr.write("\r" + self._text.ljust(self._width))
        sys.stderr.flush()
        self._shown, self._width = time.monotonic(), len(self._text)


def _watched() -> bool:
    return sys.stderr is not None and (sys.stderr.isatty() or "ipykernel" in sys.modules)
