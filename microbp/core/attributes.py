"""Objects with a fixed set of attributes: setting a misspelled one is an error, which suggests the nearest name."""

from __future__ import annotations

from types import MemberDescriptorType
from typing import TYPE_CHECKING, Any

from .text import nearest

if TYPE_CHECKING:
    Quiet = type
else:

    class Quiet(type):  # the metaclass of settings: hides dunder methods such as __eq__ from `dir` and `help`
        __doc__ = type.__dict__["__doc__"]  # without it, `help` does not call the __get__ of a docstring, such as specs.Listing

        def __dir__(cls):
            return [name for name in super().__dir__() if not name.startswith("__")]


class Closed:
    """Raises AttributeError when a read-only or unknown attribute is set; the error lists the writable attributes, or says what to do
    instead, from the dict `_INSTEAD` of the class: name -> advice.

    A subclass lists its attributes in `__slots__` (with "__weakref__", for weak references). A subclass without `__slots__` may have
    further attributes, as usual in Python. If a misspelled attribute is read, Python itself raises the error and suggests a name. A
    `__getattr__` here would slow down every attribute access, also in `Trainer.step`.
    """

    __slots__ = ()

    if not TYPE_CHECKING:  # a type checker that sees __setattr__ accepts every name

        def __setattr__(self, name: str, value: Any) -> None:
            try:
                super().__setattr__(name, value)
            except AttributeError:
                settable = _settable(type(self))
                if name in settable:  # the error comes from the attribute's setter
                    raise
                # obj=None, because with obj Python would append its own suggestion
                raise AttributeError(_refusal(type(self), name, settable), name=name, obj=None) from None


def _settable(cls: type) -> list[str]:
    """The public writable attributes."""
    found = ((name, getattr(cls, name)) for name in _public(cls))
    return [name for name, at in found if isinstance(at, MemberDescriptorType) or (isinstance(at, property) and at.fset is not None)]


def _public(cls: type) -> list[str]:
    return [name for name in dir(cls) if not name.startswith("_")]


def _refusal(cls: type, name: str, settable: list[str]) -> str:
    names = ", ".join(settable) or "none"
    if advice := getattr(cls, "_INSTEAD", {}).get(name):
        return f"{cls.__name__}.{name} is read-only; {advice}"
    if hasattr(cls, name):
        return f"{cls.__name__}.{name} is read-only; writable attributes: {names}"
    initials = "".join(word[:1] for word in name.split("_"))  # learning_rate means lr
    near = [initials] if initials in settable else nearest(name, settable) or nearest(name, _public(cls))
    if not near:
        return f"{cls.__name__} has no attribute {name!r}; writable attributes: {names}"
    read_only = "" if near[0] in settable else ", which is read-only"
    return f"{cls.__name__} has no attribute {name!r}; did you mean {near[0]!r}{read_only}? Writable attributes: {names}"
