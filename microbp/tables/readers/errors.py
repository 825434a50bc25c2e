"""Errors that name arguments: as `drop='note'` in Python, as `--drop note` on the command line."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple


class Argument(NamedTuple):
    """An argument in the text of an error, optionally with a recommended value."""

    name: str
    value: str | int | None = None

    def __str__(self) -> str:
        return self.name if self.value is None else f"{self.name}={self.value!r}"


class TableError(ValueError):
    """An error about a table that the caller can fix with an argument. args: the parts of the message, strings and Arguments."""

    def text(self, spell: Callable[[Argument], str] = str) -> str:
        """The text; `spell` formats the arguments."""
        return "".join(spell(part) if isinstance(part, Argument) else str(part) for part in self.args)

    def __str__(self) -> str:
        return self.text()


class ArgumentError(TableError):
    """A wrong argument. args[0] is the name of the argument; the message starts with it."""

    def text(self, spell: Callable[[Argument], str] = str) -> str:
        """The text; `spell` formats the arguments."""
        name, *parts = self.args
        return f"{spell(Argument(name))}: {TableError(*parts).text(spell)}"
