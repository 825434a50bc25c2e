"""`net.notes`: a JSON object. It is a copy, so a change in place would be lost; therefore the object and everything in it are read-only."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NoReturn


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


def read(text: str) -> Notes:
    """Parses the notes of a network from their text."""
    try:
        notes = _frozen(json.loads(text or "{}"))
    except (ValueError, RecursionError):
        notes = None
    if not isinstance(notes, Notes):
        raise ValueError("notes: the notes in this network are not a JSON object; a program other than microbp's Python package wrote them")
    return notes


def write(notes: Mapping[str, Any]) -> str:
    """The notes as text; "" if they are empty."""
    if not isinstance(notes, Mapping):
        raise TypeError(f"notes must be a dict, not {type(notes).__name__}")
    try:
        text = json.dumps(dict(notes), allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    except (TypeError, ValueError) as error:
        raise type(error)(f"notes must be JSON-serializable: {error}") from error
    return text if notes else ""
