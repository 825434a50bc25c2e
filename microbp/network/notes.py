"""`net.notes`: a JSON object that is read-only, all the way down, because it is a copy: a change of it would be lost."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NoReturn


def _refuse(*_: object, **__: object) -> NoReturn:
    raise TypeError('notes cannot be changed in place; set them as a whole: net.notes |= {"name": value}')


if TYPE_CHECKING:  # what type checkers see has no methods that change it

    class Notes(Mapping[str, Any]):
        def __init__(self, notes: Mapping[str, Any]) -> None: ...
        def __getitem__(self, name: str) -> Any: ...
        def __iter__(self) -> Iterator[str]: ...
        def __len__(self) -> int: ...
        def __or__(self, other: Mapping[str, Any]) -> dict[str, Any]: ...

else:

    class Notes(dict):
        """A dict that refuses changes; so do the dicts and lists in it. copy.deepcopy gives plain ones."""

        __setitem__ = __delitem__ = clear = pop = popitem = setdefault = update = _refuse

        def __ior__(self, other):  # as a tuple's +=: a new one
            return self | dict(other)

        def __reduce__(self):
            return dict, (dict(self),)


class _List(list[Any]):
    """A list that refuses changes."""

    __setitem__ = __delitem__ = __iadd__ = __imul__ = _refuse
    append = clear = extend = insert = pop = remove = reverse = sort = _refuse

    def __reduce__(self) -> tuple[Any, ...]:
        return list, (list(self),)


def _frozen(value: Any) -> Any:
    if isinstance(value, dict):
        return Notes({key: _frozen(inside) for key, inside in value.items()})
    return _List(map(_frozen, value)) if isinstance(value, list) else value


def read(text: str) -> Notes:
    """The notes that a network carries as text."""
    try:
        notes = _frozen(json.loads(text or "{}"))
    except (ValueError, RecursionError):
        notes = None
    if not isinstance(notes, Notes):
        raise ValueError("notes: the network carries a text that is no JSON object; another program than Python wrote it")
    return notes


def write(notes: Mapping[str, Any]) -> str:
    """The text that a network carries; "" for none."""
    if not isinstance(notes, Mapping):
        raise TypeError(f"notes must be a dict, not {type(notes).__name__}")
    try:
        text = json.dumps(dict(notes), allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    except (TypeError, ValueError) as error:
        raise type(error)(f"notes must be what JSON can say: {error}") from error
    return text if notes else ""
