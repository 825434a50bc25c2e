"""When and where fit saves its trainer: immutable settings."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Annotated, Any

from ..core.checks import whole_number
from ..core.text import brief
from .base import Settings


def _path(what: str, value: Any) -> str | os.PathLike[str]:
    if not isinstance(value, str | os.PathLike) or not os.fspath(value):
        raise TypeError(f'{what} must be a path such as "run.safetensors", not {brief(value)}')
    return value


def _interval(what: str, value: Any) -> int | timedelta:
    if not isinstance(value, timedelta):
        return whole_number(value, what)
    if value <= timedelta():
        raise ValueError(f"{what} must be a positive time, not {brief(value)}")
    return value


class Checkpoint(Settings):
    """Where and how often `Trainer.fit` saves the trainer. It also saves at the end, and when it is interrupted.

    path: the file; each save replaces it, all or nothing.
    every: the number of epochs between saves, at least 1; or a positive datetime.timedelta: then fit saves after the first epoch that
    ends at least this time after the last save.

    After a crash, load the trainer and fit it for the remaining epochs, `epochs - t.epoch`, with the same arguments and
    `schedule=t.schedule`: the result is the same, bit for bit, as without the crash. A run that has ended trains nothing.

    >>> bp.Checkpoint("run.safetensors", every=5)
    Checkpoint(path='run.safetensors', every=5)
    >>> from datetime import timedelta
    >>> bp.Checkpoint("run.safetensors", every=timedelta(minutes=10)).every.seconds
    600
    """

    path: Annotated[str | os.PathLike[str], _path]
    every: Annotated[int | timedelta, _interval] = 1
