"""The base class of all settings: fields checked by their annotations, immutable values, and a repr without defaults."""

from __future__ import annotations

import functools
from dataclasses import MISSING, Field, FrozenInstanceError, dataclass, fields
from inspect import Parameter, Signature
from typing import Annotated, Any, ClassVar, Literal, NoReturn, dataclass_transform, get_args, get_origin, get_type_hints

from ..core.attributes import Quiet
from ..core.checks import Check, flag, floating, one_of, or_none, string

_with_fields = dataclass(init=False, repr=False, eq=False)  # gives a class its fields, but no methods


class _ClassSignature:
    """The constructor's signature, from the fields. It is created on first access, so that importing the classes is fast."""

    def __get__(self, instance: object, owner: Any) -> Signature:
        return _signature(owner)


@dataclass_transform(frozen_default=True)
class Settings(metaclass=Quiet):
    """A frozen dataclass whose fields are checked and converted by their annotations.

    `Annotated[type, check]` names the check, `Literal[...]` the valid values; `bool`, `float` and `str` are checked too, and `... | None`
    also accepts None. Values of other annotations are not checked. Subclasses need no decorator; they may define `__post_init__` to check
    several fields together.

    dataclass() would compile methods for each class, which takes longer than all other imports together; here the classes share them.
    """

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]
    __signature__ = _ClassSignature()

    def __init_subclass__(cls) -> None:
        _with_fields(cls)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kind: Any = type(self)  # Any: mypy does not accept a class that defines __hash__ as an argument of a cached function
        name, signature = kind.__name__, _signature(kind)
        try:
            given = signature.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{name}: {error}; {name} has the settings {', '.join(signature.parameters)}") from None
        given.apply_defaults()
        checks = _checks(kind)
        vars(self).update({key: checks[key](f"{name}: {key}", value) for key, value in given.arguments.items()})
        self.__post_init__()

    def __post_init__(self) -> None:
        """Checks several fields together."""

    def __setattr__(self, key: str, value: object) -> NoReturn:
        raise FrozenInstanceError(f"{type(self).__name__} cannot be changed; make a new one, for example with dataclasses.replace")

    def __delattr__(self, key: str) -> NoReturn:
        raise FrozenInstanceError(f"{type(self).__name__} cannot be changed: {key!r} cannot be deleted")

    def __eq__(self, other: object) -> bool:
        return vars(self) == vars(other) if type(self) is type(other) else NotImplemented

    def __hash__(self) -> int:
        return hash((type(self), *vars(self).values()))

    def __repr__(self) -> str:
        """The class name with the fields that differ from their defaults or have no default."""
        defaults = {field.name: field.default for field in fields(self)}
        chosen = [f"{key}={value!r}" for key, value in vars(self).items() if value != defaults[key]]
        return f"{type(self).__name__}({', '.join(chosen)})"


@functools.cache
def _signature(kind: type[Settings]) -> Signature:
    hints = get_type_hints(kind)
    return Signature([_parameter(field, hints[field.name]) for field in fields(kind)])


def _parameter(field: Field[Any], hint: Any) -> Parameter:
    default = Parameter.empty if field.default is MISSING else field.default
    return Parameter(field.name, Parameter.POSITIONAL_OR_KEYWORD, default=default, annotation=hint)


_PLAIN: dict[Any, Check] = {bool: flag, float: floating, str: string}


@functools.cache
def _checks(kind: type[Settings]) -> dict[str, Check]:
    """The check of each field."""
    hints = get_type_hints(kind, include_extras=True)
    return {field.name: _check(hints[field.name]) for field in fields(kind)}


def _check(hint: Any) -> Check:
    """The check for an annotation."""
    if hint in _PLAIN:
        return _PLAIN[hint]
    if get_origin(hint) is Annotated:
        check: Check = get_args(hint)[1]
        return check
    if get_origin(hint) is Literal:
        return one_of(*get_args(hint))
    if type(None) in get_args(hint):
        return or_none(_check(get_args(hint)[0]))
    return lambda what, value: value
