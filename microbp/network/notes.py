"""`net.notes`: a JSON object. It is a copy, so a change in place would be lost; therefore the object and everything in it are read-only."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NoReturn

from ..core.text import brief


def _refuse(*_: object, **__: object) -> NoReturn:
    raise TypeError('notes cannot be changed in place; replace them: net.notes |= {"name": value}')


if TYPE_CHECKING:  # for type checkers, without the methods that change a dict

    class Notes(Mapping[str, Any]):
        def __init__(self, notes: Mapping[str, Any]) -> None: ...
        def __getitem__(self, name: str) -> Any: ...
        def __iter__(self) -> Iterator[str]: ...
        def __len__(self) -> int: ...
        def __or__(self, other: Mapping[str, Any]) -> dict[str, Any]: ...

else:

    class Notes(dict):
        """A read-only dict; the dicts and lists in it are read-only too. copy.deepcopy returns plain dicts and lists."""

        __setitem__ = __delitem__ = clear = pop = popitem = setdefault = update = _refuse

        def __ior__(self, other):  # a new object, like += on a tuple
            return self | dict(other)

        def __reduce__(self):
            return dict, (dict(self),)


class _List(list[Any]):
    """A read-only list."""

    __setitem__ = __delitem__ = __iadd__ = __imul__ = _refuse
    append = clear = extend = insert = pop = remove = reverse = sort = _refuse

    def __reduce__(self) -> tuple[Any, ...]:
        return list, (list(self),)


def _frozen(value: Any) -> Any:
    if isinstance(value, dict):
        return Notes({key: _frozen(inside) for key, inside in value.items()})
    return _List(map(_frozen, value)) if isinstance(value, list) else value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def read(text: str) -> Notes:
    """Parses the notes of a network from their text."""
    try:
        notes = _frozen(json.loads(text or "{}", parse_constant=_refuse_constant))
        if "\\u" in text:  # half of a surrogate pair cannot be saved or printed
            json.dumps(notes, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        notes = None
    if not isinstance(notes, Notes):
        raise ValueError("notes: the notes in this network are not a JSON object; a program other than microbp's Python package wrote them")
    return notes


def write(notes: Mapping[str, Any]) -> str:
    """The notes as text; "" if they are empty."""
    if not isinstance(notes, Mapping):
        raise TypeError(f"notes must be a dict, not {type(notes).__name__}")
    plain = dict(notes)
    try:
        _check(plain, "notes")
        text = json.dumps(plain, allow_nan=False, ensure_ascii=False, separators=(",", ":")) if plain else ""
        text.encode()
    except RecursionError:
        raise ValueError("notes are nested too deeply, or contain themselves; use fewer levels") from None
    except UnicodeEncodeError:
        raise ValueError("notes contain half of a surrogate pair, which cannot be saved; remove it") from None
    except (TypeError, ValueError) as error:
        raise type(error)(f"notes must be JSON-serializable: {error}") from None
    return text


def _check(value: Any, place: str) -> None:
    """Raises an error for a value that JSON cannot hold, or that would be read back as something else. place: such as notes['a'][0]."""
    if isinstance(value, dict):
        for key, inside in value.items():
            if not isinstance(key, str):
                raise TypeError(f"the names in {place} must be strings, not {brief(key)}")
            _check(inside, f"{place}[{key!r}]")
    elif isinstance(value, list | tuple):
        for i, inside in enumerate(value):
            _check(inside, f"{place}[{i}]")
    elif isinstance(value, int | float):
        if not abs(value) <= sys.float_info.max:
            raise ValueError(f"{place} must be a finite number that a float64 can hold, not {brief(value)}")
    elif value is not None and not isinstance(value, str):
        advice = "; use .tolist()" if hasattr(value, "tolist") else ""
        raise TypeError(f"{place} must be a dict, list, string, number, bool or None, not {brief(value)}{advice}")
