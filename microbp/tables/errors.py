"""Errors that name arguments. Python spells these `drop='note'`, the command line `--drop note`: so the texts of such errors have parts."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple


class Argument(NamedTuple):
    """An argument in the text of an error, with the value that it should have, if there is one to recommend."""

    name: str
    value: str | None = None

    def __str__(self) -> str:
        return self.name if self.value is None else f"{self.name}={self.value!r}"


class TableError(ValueError):
    """A mistake in a table that an argument may put right. Its args are the parts of its text: strings, and Arguments."""

    def text(self, spell: Callable[[Argument], str] = str) -> str:
        """The text, in which `spell` writes the arguments."""
        return "".join(spell(part) if isinstance(part, Argument) else str(part) for part in self.args)

    def __str__(self) -> str:
        return self.text()


class ArgumentError(TableError):
    """An argument that is wrong. The first of its args is the argument's name, with which the text begins."""

    def text(self, spell: Callable[[Argument], str] = str) -> str:
        """The text, in which `spell` writes the arguments."""
        name, *parts = self.args
        return f"{spell(Argument(name))}: {TableError(*parts).text(spell)}"
