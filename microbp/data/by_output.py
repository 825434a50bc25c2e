"""Arguments with something for each output, as a dict by the names of the outputs: they become lists."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..core.specs import unknown
from ..core.text import brief

_MISSING = object()


def number_of(key: Any, names: Sequence[str]) -> int | None:
    """The number of the output with this name or number; None: there is none. An output without a name has its number as one."""
    if isinstance(key, str):
        return names.index(key) if key in names else int(key) if key in map(str, range(len(names))) else None
    is_number = isinstance(key, int) and not isinstance(key, bool)
    return key if is_number and 0 <= key < len(names) else None


def listed(value: Mapping[Any, Any], names: Sequence[str], what: str, missing: Any = _MISSING) -> list[Any]:
    """The values in the order of the outputs. ValueError: a key is no output, or an output has no value or two.

    names: of the outputs. what: the argument. missing: the value of an output without one; by default this is an error.
    """
    found = [missing] * len(names)
    given: dict[int, Any] = {}
    for key, one in value.items():
        i = number_of(key, names)
        if i is None:
            if not isinstance(key, str):
                raise ValueError(f"{what}: a key must be the name or number of an output ({_list(names)}), not {brief(key)}")
            raise unknown(f"output in {what}:", key, names)
        if i in given:
            raise ValueError(f"{what}: {given[i]!r} and {key!r} are the same output")
        given[i], found[i] = key, one
    for i, one in enumerate(found):
        if one is _MISSING:
            raise ValueError(f"{what} has nothing for output {names[i]!r}; its keys must be {_list(names)}")
    return found


def one_or_all(values: list[Any]) -> Any:
    """The argument that a net with this many outputs expects: for one output its value, else the list."""
    return values[0] if len(values) == 1 else values


def _list(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names))
