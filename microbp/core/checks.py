"""Checks of values that settings, layers and functions share."""

from __future__ import annotations

import contextlib
import errno
import functools
import itertools
import operator
import os
from collections.abc import Callable, Iterator
from typing import Any

from .text import brief

_READERS = {".onnx": "bp.from_onnx", ".h5": "bp.from_keras", ".keras": "bp.from_keras"}

Check = Callable[[str, Any], Any]  # (what, value) -> the value, converted; TypeError or ValueError if it is not valid


def _is_bool(value: Any) -> bool:
    """Whether the value is True or False, of Python or NumPy."""
    return isinstance(value, bool) or (type(value).__module__ == "numpy" and type(value).__name__ in ("bool", "bool_"))


def floating(what: str, value: Any) -> float:
    """The value as a float; TypeError if it is not a number, ValueError if it is too large for a float. Bools are refused."""
    try:
        if not (isinstance(value, str | bytes) or _is_bool(value) or getattr(value, "shape", None)):
            return float(value)
    except (TypeError, ValueError):
        pass
    except OverflowError:
        raise ValueError(f"{what} is too large for a float: {brief(value)}") from None
    raise TypeError(f"{what} must be a number, not {brief(value)}")


@functools.cache
def real(text: str) -> Check:
    """A check for a number in an interval, such as "(0,1]"."""
    low, high = map(float, text[1:-1].split(","))

    def check(what: str, value: Any) -> float:
        result = floating(what, value)
        is_above = low <= result if text[0] == "[" else low < result
        is_below = result <= high if text[-1] == "]" else result < high
        if not (is_above and is_below):
            raise ValueError(f"{what} must be in {text}, not {brief(value)}")
        return result

    return check


def whole_number(value: Any, what: str, least: int = 1, bits: int = 63) -> int:
    """The value as an int of at least `least` and below 2**bits; bools of Python and NumPy are refused."""
    try:
        result = operator.index(value)
    except TypeError:
        raise TypeError(f"{what} must be a whole number, not {brief(value)}") from None
    if isinstance(value, bool):
        raise TypeError(f"{what} must be a whole number, not {brief(value)}")
    if result < least:
        raise ValueError(f"{what} must be at least {least}, not {brief(result)}")
    if result >= 2**bits:
        raise ValueError(f"{what} must be below 2**{bits}, not {brief(result)}")
    return result


def whole(least: int, bits: int = 63) -> Check:
    """A check for a whole number of at least `least` and below 2**bits."""
    return lambda what, value: whole_number(value, what, least, bits)


def increasing(what: str, value: Any) -> tuple[int, ...]:
    """A tuple of increasing whole numbers, from a tuple, a list or a single number."""
    found = tuple(whole_number(one, what) for one in (value if isinstance(value, list | tuple) else [value]))
    if not found or any(a >= b for a, b in itertools.pairwise(found)):
        raise ValueError(f"{what} must be increasing whole numbers, such as (1000, 2000), not {brief(value)}")
    return found


def two(example: tuple[float, float]) -> Check:
    """A check for two numbers. Its errors show the example."""

    def check(what: str, value: Any) -> tuple[float, float]:
        given = [] if isinstance(value, str | bytes) or not hasattr(value, "__iter__") else list(value)
        if len(given) != 2:
            raise ValueError(f"{what} must be two numbers, for example {example}, not {brief(value)}")
        first, second = (floating(f"{what}[{i}]", one) for i, one in enumerate(given))
        return first, second

    return check


def flag(what: str, value: Any) -> bool:
    """The value as a bool, if it is True or False, of Python or NumPy."""
    if value is True or value is False:
        return value
    if not _is_bool(value):
        raise TypeError(f"{what} must be True or False, not {brief(value)}")
    return bool(value)


def string(what: str, value: Any) -> str:
    """The value, if it is a string."""
    if not isinstance(value, str):
        raise TypeError(f"{what} must be a string, not {brief(value)}")
    return value


def file_path(value: Any, what: str = "path") -> str | bytes:
    """The value as a path that open() accepts."""
    try:
        path: str | bytes = os.fspath(value)
    except TypeError:
        raise TypeError(f"{what} must be a str or os.PathLike, not {type(value).__name__}") from None
    return path


@contextlib.contextmanager
def own_file(value: Any) -> Iterator[str | bytes]:
    """The value as the path of a file of microbp. If it is none, and has the name of another format, the error tells what reads that."""
    path = file_path(value)
    try:
        yield path
    except ValueError as error:
        reader = _READERS.get(os.path.splitext(os.fsdecode(path))[1].lower())
        if reader is None:
            raise
        raise ValueError(f"{error}; use {reader} for files of other programs") from None


def new_file(value: Any, what: str = "path") -> str | bytes:
    """The value as a path to write a file to. FileNotFoundError if its directory does not exist."""
    path = file_path(value, what)
    directory = os.path.dirname(path)
    if directory and not os.path.exists(directory):
        what = f"the directory {os.fsdecode(directory)} does not exist; create it first"
        raise FileNotFoundError(errno.ENOENT, f"cannot write {os.fsdecode(path)}: {what}")
    return path


def one_of(*valid: str) -> Check:
    """A check for one of the given words."""

    def check(what: str, value: Any) -> Any:
        wrong = f"{what} is {brief(value)}; it must be one of {', '.join(map(repr, valid))}"
        if not isinstance(value, str):
            raise TypeError(wrong)
        if value not in valid:
            raise ValueError(wrong)
        return value

    return check


def or_none(check: Check) -> Check:
    """A check that accepts None too."""
    return lambda what, value: None if value is None else check(what, value)
