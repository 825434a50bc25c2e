"""Doors: functions of higher floors that methods of lower floors lead to, each imported when the method is called.

This table is the one exception to the floors: any file may import it, and it alone names what stands above.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

_DOORS = {
    "RangeTest.plot": "plot.lr_find",
}


def door(method: str) -> Callable[..., Any]:
    """The function that does the work of a method: door("RangeTest.plot")(result, ax)."""
    module, _, function = _DOORS[method].rpartition(".")
    found: Callable[..., Any] = getattr(import_module(f".{module}", __package__), function)
    return found
