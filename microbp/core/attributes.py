"""Objects with a fixed set of attributes: a misspelled one is refused when it is set."""

from __future__ import annotations

from types import MemberDescriptorType
from typing import TYPE_CHECKING, Any


class Closed:
    """Refuses to set an attribute that the class does not have, or that is read-only; the error names the nearest one that can be set.

    A class that inherits it lists its attributes in `__slots__` (with "__weakref__", for weak references); a subclass without
    `__slots__` may have further attributes, as usual in Python.
    """

    __slots__ = ()

    if not TYPE_CHECKING:  # a type checker that sees __setattr__ accepts every name

        def __setattr__(self, name: str, value: Any) -> None:
            try:
                super().__setattr__(name, value)
            except AttributeError:
                settable = _settable(type(self))
                if name in settable:  # the error is of its setter
                    raise
                raise AttributeError(_refusal(type(self), name, settable), name=name, obj=self) from None


def _settable(cls: type) -> list[str]:
    """The public attributes that can be set."""
    found = ((name, getattr(cls, name)) for name in dir(cls) if not name.startswith("_"))
    return [name for name, at in found if isinstance(at, MemberDescriptorType) or (isinstance(at, property) and at.fset is not None)]


def _refusal(cls: type, name: str, settable: list[str]) -> str:
    if hasattr(cls, name):
        return f"{cls.__name__}.{name} is read-only; what can be set: {', '.join(settable) or 'nothing'}"
    import difflib  # only an error needs it, and importing it takes 2 ms

    initials = "".join(word[:1] for word in name.split("_"))
    near = [initials] if initials in settable else difflib.get_close_matches(name, settable, n=1)
    near = near or difflib.get_close_matches(name, [known for known in dir(cls) if not known.startswith("_")], n=1)
    hint = "what" if not near else f"did you mean {near[0]!r}{'' if near[0] in settable else ', which is read-only'}? What"
    return f"{cls.__name__} has no attribute {name!r}; {hint} can be set: {', '.join(settable) or 'nothing'}"
