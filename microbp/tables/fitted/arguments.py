"""The kinds of arguments of `fit_table` and of options of the command line: a function that converts a Python object, or text, to a value.

A kind raises a ValueError or TypeError that names the valid values. It imports what it needs when it is called, so that `microbp --help`
needs no NumPy.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING, Any

from ...core.checks import flag, floating, string, whole_number
from ...core.text import brief
from ..readers.errors import ArgumentError

if TYPE_CHECKING:
    from ...core.specs import Loss, OptimizerSpec
    from ...network.layers import Activation
    from ...settings.schedules import Schedule

Kind = Callable[[Any], Any]


def checked(name: str, kind: Kind, value: Any) -> Any:
    """The value of an argument, converted; ArgumentError or TypeError, which name the argument, if it is invalid."""
    try:
        return kind(value)
    except TypeError as error:
        raise TypeError(f"{name}: {error}") from None
    except ValueError as error:
        raise ArgumentError(name, str(error)) from None


def _whole(value: Any, least: int, bits: int) -> int:
    with contextlib.suppress(ValueError):  # whole_number raises an error for text
        value = int(value) if isinstance(value, str) else value
    return whole_number(value, "the value", least, bits)


def count(value: int | str) -> int:
    """A whole number of at least 1."""
    return _whole(value, least=1, bits=31)


def port(value: int | str) -> int:
    """The number of a port."""
    return _whole(value, least=1, bits=16)


def seed(value: int | str) -> int:
    """A whole number from 0 to 2**64 - 1."""
    return _whole(value, least=0, bits=64)


def switch(value: bool) -> bool:
    """True or False."""
    return flag("the value", value)


def _number(value: Any, is_valid: Callable[[float], bool], valid: str) -> float:
    try:
        number = float(value) if isinstance(value, str) else floating("the value", value)
    except ValueError:
        number = float("nan")
    if not is_valid(number):
        raise ValueError(f"the value must be {valid}, not {brief(value)}")
    return number


def rate(value: float | str) -> float | str:
    """A learning rate, or "auto"."""
    is_auto = isinstance(value, str) and value == "auto"
    return value if is_auto else _number(value, lambda value: 0 < value < float("inf"), "a positive number such as 0.001, or auto")


def decay(value: float | str) -> float:
    """A number of at least 0."""
    return _number(value, lambda value: 0 <= value < float("inf"), "a number of at least 0, such as 0.001")


def dropout(value: float | str) -> float:
    """A number of at least 0 and below 1."""
    return _number(value, lambda value: 0 <= value < 1, "a number of at least 0 and below 1, such as 0.2")


def fraction(value: float | str) -> float:
    """A number between 0 and 1."""
    return _number(value, lambda value: 0 < value < 1, "a fraction between 0 and 1, such as 0.2")


def share(value: float | str) -> float:
    """A number of at least 0 and below 1."""
    return _number(value, lambda value: 0 <= value < 1, "a fraction between 0 and 1, such as 0.2, or 0 for none")


def column(value: str | int) -> str:
    """The name of a column. Data frames may have whole numbers as names."""
    if isinstance(value, str):
        return value
    try:
        return str(whole_number(value, "the value", least=0))
    except TypeError:
        raise TypeError(f"the value must be the name of a column, not {brief(value)}") from None


def names(value: str | Iterable[str | int]) -> tuple[str, ...]:
    """Names of columns: text joined by commas, or a list."""
    if isinstance(value, str):
        return tuple(name for name in value.split(",") if name)
    if not isinstance(value, Iterable) or isinstance(value, bytes):
        raise TypeError(f"the value must be names of columns, such as ['id', 'name'], not {brief(value)}")
    return tuple(map(column, value))


def words(value: str | Iterable[str]) -> tuple[str, ...]:
    """Words: text joined by commas, or a list."""
    if isinstance(value, str):
        return tuple(word.strip() for word in value.split(",") if word.strip())
    if not isinstance(value, Iterable) or isinstance(value, bytes):
        raise TypeError(f"the value must be words, such as ['unknown', '-1'], not {brief(value)}")
    return tuple(string("each word", word).strip() for word in value)


def class_weight(value: str) -> str:
    """The text "balanced"."""
    if value != "balanced":
        raise ValueError(f"the value must be balanced, not {brief(value)}")
    return value


def how(value: str) -> str:
    """How to split: "random", "last", "time:COLUMN" or "group:COLUMN"."""
    if not re.fullmatch(r"random|last|(time|group):.+", string("the value", value), re.DOTALL):
        raise ValueError(f"the value must be random, last, time:COLUMN or group:COLUMN, not {brief(value)}")
    return value


def widths(value: str | Iterable[int | None]) -> tuple[int | None, ...]:
    """Widths of inputs, hidden layers and outputs: text such as "x-64-y", or a list. A first or last width None stands for that of the
    data."""
    if not isinstance(value, str):
        if not isinstance(value, Iterable) or isinstance(value, bytes):
            raise TypeError(f"the value must be widths such as 'x-64-64-y', not {brief(value)}")
        value = list(value)
        ends = {0: "x", len(value) - 1: "y"}
        value = "-".join(ends.get(i, "None") if width is None else str(width) for i, width in enumerate(value))
    parts = value.split("-")
    inner = parts[(parts[0] == "x") : len(parts) - (parts[-1] == "y")]
    if len(parts) < 2 or not all(part.isascii() and part.isdecimal() and int(part) > 0 for part in inner):
        raise ValueError(
            f"the value must be two or more positive widths joined by '-', not {value!r}; for example 64-128-10, "
            "or x-128-y with the input and output widths of the data"
        )
    return tuple(int(part) if part.isdecimal() else None for part in parts)


def activation(value: str | Activation) -> Activation:
    """An activation."""
    from ...core.specs import table
    from ...network.layers import Activation

    return Activation.parse(_folded(value, table("activation")))


def loss(value: str | Loss) -> Loss:
    """A loss by name; not a function."""
    from ...core.specs import Loss, table

    return Loss.parse(_folded(value, table("loss")))


def optimizer(value: Any) -> OptimizerSpec:
    """An optimizer: text, or an object such as bp.Adam()."""
    from ...core.specs import OptimizerSpec, SolverSpec, table
    from ...settings import optimizers

    found = optimizers.parse(_folded(value, [*table("optimizer"), *OptimizerSpec.aliases, *table("solver")]))
    if isinstance(found, SolverSpec):
        raise ValueError(f"{found.name} uses all rows in each step, but tables are trained in batches; use another optimizer, such as adam")
    return found


def schedule(value: str | Schedule) -> Schedule | str:
    """A schedule, "cosine" or "constant"."""
    from ...settings import schedules

    if not isinstance(value, str | schedules.Schedule):
        raise TypeError(f'the value must be text such as "constant", or an object such as bp.StepDecay, not {brief(value)}')
    value = _folded(value, [*schedules.NAMED, "constant", "cosine"])
    return value if isinstance(value, str) and value in ("constant", "cosine") else schedules.parse(value)


def _folded(value: Any, valid: Collection[str]) -> Any:
    """Text whose name is in lower case if only so it is valid: ReLU is relu."""
    if not isinstance(value, str):
        return value
    name = value.partition("(")[0].strip()
    return value.replace(name, name.lower(), 1) if name not in valid and name.lower() in valid else value


def budget(value: str) -> str:
    """The name of a budget of time."""
    if value not in ("fast", "normal", "best"):
        raise ValueError(f"the value must be fast, normal or best, not {brief(value)}")
    return value
