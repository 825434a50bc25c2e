"""A column of texts as features: one-hot for frequent values, shared columns for the others; or the ids of an embedding."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...data.arrays import Array
from ..readers.cells import to_number
from ..readers.table import Table, name_of
from . import saved
from .encoding import Encoding
from .summary import CLASSES, Summary
from .tally import Tally

RARE = 3  # a value in fewer rows than this is not a level: too few examples to train a weight
REPEATED = 0.25  # with hashing, a column is used if at least this share of its cells has values that are not rare
_SAVED = {
    "name": saved.text,
    "levels": saved.texts,
    "shared": saved.shared,
    "other": saved.shared,
    "signed": saved.flag,
    "embedded": saved.units,
}


@dataclass(frozen=True)
class Category:
    """A 0/1 feature for each of the values `levels`, and `shared` features for all other values, each value in one of them (Weinberger et
    al. 2009); "" is a missing value. `signed`: the only two levels are -1 and 1 of one feature instead. `embedded`: the one feature is an
    id: the place of the value in `levels`, or len(levels) for all other values. The network has an embedding of `embedded` units for it.

    A number that is no level is looked up by its value, so 1.0 is the level 1.
    """

    name: str
    levels: tuple[str, ...]
    shared: int = 0
    signed: bool = False
    embedded: int = 0

    @classmethod
    def of(cls, name: str, known: Summary, encoding: Encoding, is_kept: bool) -> Category | str:
        """The features of a column by its training rows, or why it is left out. is_kept: the caller wants the column."""
        if not (is_kept and encoding.hashed) and (why := _useless(known, encoding)):
            return why
        counts = dict(known.levels or {}) | ({"": known.missing} if known.missing else {})
        if known.levels is not None and len(counts) == 1:
            return "constant"
        frequent = sorted((level for level, count in counts.items() if count >= RARE), key=lambda level: (-counts[level], level))
        embedded = encoding.embedded if len(frequent) > encoding.levels else 0
        levels = tuple(sorted(frequent if embedded else frequent[: encoding.levels]))
        most = 1 if embedded else max(encoding.hashed, 1)
        shared = most if known.levels is None else min(most, len(counts) - len(levels))
        signed = encoding.clip and len(levels) == len(counts) == 2 and not known.missing
        return cls(name, levels, shared, signed, embedded)

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> Category:
        """Creates it from a saved row; KeyError, TypeError or ValueError if that is invalid. In files of 0.1.0, `other` says whether there
        is a shared feature."""
        values = saved.checked(row, _SAVED)
        if "other" in values:
            values["shared"] = values.pop("other")
        category = cls(**values)
        if category.signed and (len(category.levels) != 2 or category.shared):
            raise ValueError("a category of two values in the notes is invalid")
        if category.embedded and (category.signed or category.shared > 1):
            raise ValueError("a category with an embedding in the notes is invalid")
        return category

    @property
    def width(self) -> int:
        return 1 if self.signed or self.embedded else len(self.levels) + self.shared

    @property
    def ids(self) -> int:
        """The number of different ids, if it has an embedding: float32 has them exactly, because a column has fewer than 2^24."""
        return len(self.levels) + 1

    def fill(self, table: Table, out: Array, tally: Tally | None = None) -> None:
        """Writes the features of all rows. Without shared features, an unknown value makes all features 0, or has the last id."""
        texts = [text or "" for text in table.texts(self.name).tolist()]
        place = self._places(set(texts))
        places = np.array([place[text] for text in texts], dtype=np.int64)
        if self.signed:
            out[:, 0] = np.array([-1, 1, 0])[places]
        elif self.embedded:
            out[:, 0] = places
        else:
            out[...] = places[:, None] == np.arange(self.width)
        if tally is not None and not self.shared:
            unknown = [text for text in texts if place[text] == len(self.levels)]
            tally.gaps[self.name] += unknown.count("")
            tally.unseen[self.name] += len(unknown) - unknown.count("")

    def _places(self, texts: set[str]) -> dict[str, int]:
        """The feature of each text, len(levels) if none; a hash that is the same everywhere chooses among the shared ones."""
        levels = {level: i for i, level in enumerate(self.levels)}
        numbers = {shortest(level): i for i, level in reversed(list(enumerate(self.levels)))}
        found = {}
        for text in texts:
            value = shortest(text) or text
            hashed = zlib.crc32(value.encode("utf-8", "surrogatepass")) % self.shared if self.shared else 0
            found[text] = levels.get(text, numbers.get(value, len(levels) + hashed))
        return found

    def merged(self, known: Summary) -> Iterator[str]:
        """Says it if more than half of the different values share features."""
        count = len(known.levels or ())
        rest = count - len([level for level in self.levels if level])
        if 2 * rest > count:
            what = 'count as "another value"' if self.shared == 1 else f"share {self.shared} features"
            yield f"{self.name}: {rest} of {count} different values are rare and {what}"


def shortest(text: str) -> str | None:
    """A number in its shortest form: 1 for 1.0; None for other text."""
    value = to_number(text)
    return None if value is None else name_of(value)


def _useless(known: Summary, encoding: Encoding) -> str | None:
    """Why a column of texts says nothing that holds for other rows; None if it does.

    Without hashing, a column may have half as many different values as rows; with it, more, if enough of its cells repeat.
    """
    levels, filled, too_many = known.levels, known.rows - known.missing, "text with too many different values"
    if levels is None:
        return too_many
    if encoding.hashed:
        repeated = sum(count for count in levels.values() if count >= RARE)
        is_usable = len(levels) <= CLASSES or repeated >= REPEATED * filled
    else:
        is_usable = len(levels) <= max(CLASSES, 0.5 * known.rows)
    if not is_usable:
        return too_many
    return "text, different in each row" if len(levels) == filled >= RARE else None
