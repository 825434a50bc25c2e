"""Doors: functions on higher floors that methods and functions on lower floors call. Each is imported when it is called.

This table is the only exception to the rule of floors: any file may import it, and only this file names functions on higher floors.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

_DOORS = {
    "Network.to_sklearn": "exchange.scikit_learn.to_sklearn",
    "Network.to_torch": "exchange.torch.writer.to_torch",
    "load_table": "exchange.formats.read",
    "RangeTest.plot": "plot.lr_find",
    "Sweep.plot": "plot.sweep",
}


def door(method: str) -> Callable[..., Any]:
    """The function that implements a method: door("RangeTest.plot")(result, ax)."""
    module, _, function = _DOORS[method].rpartition(".")
    found: Callable[..., Any] = getattr(import_module(f".{module}", __package__), function)
    return found
