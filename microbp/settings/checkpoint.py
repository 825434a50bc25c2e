"""When fit saves its trainer, and where: frozen settings."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Annotated, Any

from ..core.checks import whole_number
from .base import Settings


def _path(what: str, value: Any) -> str | os.PathLike[str]:
    if not isinstance(value, str | os.PathLike) or not os.fspath(value):
        raise TypeError(f'{what} must be a path such as "run.safetensors", not {value!r}')
    return value


def _interval(what: str, value: Any) -> int | timedelta:
    if not isinstance(value, timedelta):
        return whole_number(value, what)
    if value <= timedelta():
        raise ValueError(f"{what} must be a time above 0, not {value!r}")
    return value


class Checkpoint(Settings):
    """Where `Trainer.fit` saves the trainer while it runs, and how often. It also saves at the end and when it is interrupted.

    path: the file, which each save replaces as a whole.
    every: a number of epochs, at least 1; or a time above 0, a datetime.timedelta, that passes between two saves. Saves come after epochs.

    After a crash, load the trainer and fit it for the epochs that are left, with the same arguments and `schedule=t.schedule`: the result
    is that of one fit, bit for bit.

    >>> bp.Checkpoint("run.safetensors", every=5)
    Checkpoint(path='run.safetensors', every=5)
    >>> from datetime import timedelta
    >>> bp.Checkpoint("run.safetensors", every=timedelta(minutes=10)).every.seconds
    600
    """

    path: Annotated[str | os.PathLike[str], _path]
    every: Annotated[int | timedelta, _interval] = 1
