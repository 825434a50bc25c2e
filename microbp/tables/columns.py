"""Decides how each column is read, by all its cells: those of all rows, test rows included.

A column of strings is numbers if a `Reading` understands all of them, dates likewise, else texts. If a reading understands more than
nine of ten cells of a column with many different numbers, the others are mistakes, and reading the column raises an error that names one.
Where several readings fit, other columns of the file decide: if one contains 1,5, then 1,571 has a decimal comma.
"""

from __future__ import annotations

import itertools
import math
import re
from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from ..data.arrays import Array
from .readers.cells import (
    DOUBTFUL,
    FREQUENT,
    MARKS,
    MISSING,
    Reading,
    is_currency,
    is_negative,
    readings_of,
    readings_of_shape,
    shape_of,
    to_number,
)
from .readers.dates import ORDERS, has_offset, parse
from .readers.errors import Argument, TableError
from .readers.sources import Source
from .readers.table import Table, Unusable, Written

MISTAKES = 0.1  # fewer cells than this share may be mistakes in a column of numbers or dates
SEVERAL = 20  # a column with more different numbers or dates than this may contain mistakes; others are texts
_EXACT = 2**53  # float64 holds whole numbers exactly up to this
_SOME, _LEAST = 10_000, 100  # rows, at most and at least, in which ids are sought
_STAND_INS = frozenset(sign * (10.0**digits - 1) for sign in (-1, 1) for digits in range(1, 7)) - {9.0, 99.0}  # -9, 999, -99999, ...
_REPEATED, _FAR = 3, 5  # such a number occurs this often or more, and is alone below 0, or this many times the range of the others away
_UNITS = 1000  # the largest number of different readings that are counted
_PLAIN, _COMPACT = Reading(), Reading("date", order="compact")
_PADDED = re.compile(r"0\d+")
_WHOLE = re.compile(r"[-+]?\d+")
_GROUPED = re.compile(r"[-+]?(?:\d{1,3}|[1-9]\d{0,2}(?:\.\d{3})+)")
_ID = re.compile(r"(?:.*[^A-Za-z])?(?:id|ID|Id|index|Index|INDEX)|.*[a-z]I[dD]|Unnamed: 0")


@dataclass(frozen=True)
class Columns:
    """How the columns of a source are read; those that are left out, and why; what is assumed, one line each; which have gaps: empty
    cells, and words that the caller named; what looks odd about a column, with its name."""

    readings: Mapping[str, Reading] = field(default_factory=dict)
    left_out: Mapping[str, str] = field(default_factory=dict)
    assumptions: tuple[str, ...] = ()
    gaps: tuple[str, ...] = ()
    cautions: tuple[tuple[str, TableError], ...] = ()


def decide(source: Source, target: str, drop: Sequence[str] = (), missing: Sequence[str] = (), keep: Sequence[str] = ()) -> Columns:
    """Decides how the columns are read. target: the column to predict. drop: columns to ignore. missing: more words for missing values.
    keep: columns that are used although they look like row numbers or ids.
    """
    profiles, decimal = _profiles(source, drop, missing)
    fitting = {name: profile.fitting() for name, profile in profiles.items()}
    decimals = {
        next(iter(marks)) for found in fitting.values() if len(marks := {reading.decimal for reading in found}) == 1 and _differs(found)
    }
    decimals |= {"." for profile in profiles.values() if profile.has_fractions}
    decimal = "," if "," in decimals else "." if decimals else decimal
    orders = {found[0].order for found in fitting.values() if len(found) == 1} & {"dmy", "mdy"}
    readings: dict[str, Reading] = {}
    said: list[str] = []
    gaps: list[str] = []
    for name, profile in profiles.items():
        if name == target:
            profile.padded = ""  # preparation.py decides whether these are classes
        reading, others = _chosen(profile, fitting[name], decimal, orders)
        values = tuple(word for word in reading.values if word not in missing)
        readings[name] = reading = replace(reading, missing=tuple(missing), values=values)
        said += _assumed(name, profile, reading, others)
        words, line = _gaps(name, profile, reading, name == target)
        (said if words - set(missing) else gaps).extend(line)
    if target in profiles and profiles[target].filled == 0:
        raise TableError(f"{source.where}: the target {target!r} is empty; choose another target with ", Argument("target"))
    left_out = _ids(profiles, {target, *keep})
    cautions = [(name, caution) for name, profile in profiles.items() for caution in profile.cautions(name == target)]
    return Columns(readings, left_out, tuple(said), tuple(gaps), tuple(cautions))


def reading(source: Source, readings: Mapping[str, Reading], target: str) -> Source:
    """A source whose columns are read so, without the rows that have no target."""

    def read(tables: Callable[[], Iterable[Table]]) -> Callable[[], Iterable[Table]]:
        def again() -> Iterator[Table]:
            return (table for table in (targeted(replace(table, readings=readings), target) for table in tables()) if table.count)

        kept = None if source.is_stream else list(again())
        return again if kept is None else lambda: kept

    return replace(source, tables=read(source.tables), tests=read(source.tests) if source.tests else None)


def targeted(table: Table, target: str) -> Table:
    """The rows with a target, which is read by `table.readings`."""
    if target not in table.columns:
        return table
    there = (
        [text is not None for text in table.texts(target).tolist()] if table.kind(target) == "text" else ~np.isnan(table.numbers(target))
    )
    return table if all(there) else table.take(np.flatnonzero(there))


# ---- the cells of a column ----


@dataclass
class _Profile:
    """The cells of a column so far.

    missing: cells with no value; words: those of them that are not empty. fits: how many cells each reading understands; values: some of
    these cells. is_numbers, is_strings: whether there were pieces of plain numbers, and of strings. seen: the numbers of a column that is
    named like an id.
    """

    name: str
    rows: int = 0
    missing: int = 0
    words: Counter[str] = field(default_factory=Counter)
    fits: Counter[Reading] = field(default_factory=Counter)
    values: set[str] = field(default_factory=set)
    is_numbers: bool = False
    is_strings: bool = False
    has_fractions: bool = False
    has_digits: bool = True  # all plain numbers are digits alone, in a text file with decimal commas
    has_points: bool = True  # all plain numbers could have points between thousands, such as 1.234
    has_days: bool = True  # all plain numbers are dates such as 20120131
    has_offsets: bool = False  # times with an offset from UTC
    has_parentheses: bool = False  # negative numbers such as (5)
    is_huge: bool = False  # whole numbers that float64 does not hold
    padded: str = ""  # a cell of digits that starts with 0
    digits: set[int] = field(default_factory=set)  # the numbers of digits of plain numbers; 0: there are others than digits
    low: float = math.inf  # the range of the plain numbers without those that may stand for gaps
    high: float = -math.inf
    stand_ins: Counter[float] = field(default_factory=Counter)  # numbers that may stand for gaps, such as -999
    is_even: bool = False  # the first rows have different whole numbers, spread evenly
    first: float | None = None  # the number of the first row, if the cells count the rows
    seen: set[float] = field(default_factory=set)

    def add_numbers(self, table: Table, column: Array | Written, words: Sequence[str], is_test: bool) -> None:
        """Adds a piece of plain numbers. words: words of the caller that are missing."""
        numbers = np.asarray(column.numbers if isinstance(column, Written) else column).astype(np.float64, copy=False)
        empty = np.isnan(numbers) | np.isin(numbers, [value for value in map(to_number, words) if value is not None])
        present = numbers[~empty] if empty.any() else numbers
        if empty.any():
            self._add_missing(Counter(table.strings(self.name)[empty].tolist()))
        if not is_test:
            self._follow(table, present if len(present) == len(numbers) else present[:0])
        self.rows += len(numbers)
        if len(present) == 0:
            return
        self.is_numbers = True
        self.fits[_PLAIN] += len(present)
        is_whole = bool((present == np.floor(present)).all())
        self.has_fractions |= not is_whole
        self.has_days = self.has_days and is_whole and _are_days(present)
        is_written = isinstance(column, Written)
        self.has_digits = self.has_digits and is_written and is_whole and table.decimal == "," and self._all(table, _WHOLE)
        self.has_points = self.has_points and is_written and _may_have_points(present) and self._all(table, _GROUPED)
        if is_whole and np.abs(present).max() >= _EXACT:
            self.is_huge = self._all(table, _WHOLE)
        self._add_digits(table, column, numbers, is_whole)
        self._add_range(present)
        if table.first == 0 and not is_test:
            some = present[:_SOME]
            self.is_even = is_whole and len(some) == len(numbers[:_SOME]) and _are_even(some)

    def _add_range(self, numbers: Array) -> None:
        """Counts the numbers that may stand for gaps, where one is the smallest or largest number."""
        ends = {float(numbers.min()), float(numbers.max())}
        if not all(map(math.isfinite, ends)):
            return  # an infinite number is an error
        if ends & _STAND_INS:
            are_stand_ins = np.isin(numbers, list(_STAND_INS))
            self.stand_ins.update(numbers[are_stand_ins].tolist())
            numbers = numbers[~are_stand_ins]
        if len(numbers):
            self.low, self.high = min(self.low, float(numbers.min())), max(self.high, float(numbers.max()))

    def _add_digits(self, table: Table, column: Array | Written, numbers: Array, is_whole: bool) -> None:
        """Looks for codes such as 01234. The smallest number tells: it has the most zeros if all cells have equally many digits."""
        low, high = np.nanmin(numbers), np.nanmax(numbers)
        if not isinstance(column, Written) or not is_whole or low < 0 or np.isinf(high):
            self.digits.add(0)
            return
        cell = column.text(int(np.nanargmin(numbers))) or ""
        if _PADDED.fullmatch(cell):
            self.padded = cell
            self.digits.add(len(cell) if self._all(table, re.compile(rf"\d{{{len(cell)}}}")) else 0)
        else:
            self.digits.update((len(str(int(low))), len(str(int(high)))))

    def add_strings(self, strings: Mapping[str | None, int], words: Container[str]) -> None:
        """Adds a piece of strings: how often each occurs. words: words of the caller that are missing."""
        self.is_strings = True
        self.rows += sum(strings.values())
        missing = {text: count for text, count in strings.items() if text is None or text in MISSING or text in DOUBTFUL or text in words}
        self._add_missing(missing)
        shapes: dict[str, list[str]] = {}
        for text in strings:
            if text is not None and text not in missing:
                shapes.setdefault(shape_of(text), []).append(text)
        for shape, texts in shapes.items():
            self._add_shape(shape, {text: strings[text] for text in texts})

    def _add_shape(self, shape: str, strings: Mapping[str, int]) -> None:
        """Adds strings of one shape."""
        numbers, orders = readings_of_shape(shape)
        if numbers:
            self.digits.add(len(shape) if shape.isdecimal() else 0)
            self.padded = next(iter(strings)) if _PADDED.fullmatch(shape) else self.padded
        found = dict.fromkeys(numbers, sum(strings.values()))
        self.has_parentheses |= bool(numbers) and is_negative(shape)
        self.has_offsets |= bool(orders) and has_offset(shape)
        for order in orders:
            found[Reading("date", order=order)] = sum(count for text, count in strings.items() if parse(text, order) is not None)
        for reading, count in found.items():
            if count and (reading in self.fits or len(self.fits) < _UNITS):
                self.fits[reading] += count
        if any(found.values()):
            few = itertools.islice((text for text in strings if readings_of(text)), SEVERAL + 1 - len(self.values))
            self.values.update(few)

    def _add_missing(self, words: Mapping[str | None, int]) -> None:
        self.missing += sum(words.values())
        self.words.update({word: count for word, count in words.items() if word})

    def _follow(self, table: Table, numbers: Array) -> None:
        """Looks for row numbers and ids."""
        start = float(numbers[0]) - table.first if len(numbers) else -1.0
        expected = start if table.first == 0 else self.first
        is_counting = start in (0, 1) and start == expected and np.array_equal(numbers, np.arange(len(numbers)) + table.first + start)
        self.first = start if is_counting else None
        if _ID.fullmatch(self.name):
            self.seen.update(numbers.tolist())

    def _all(self, table: Table, pattern: re.Pattern[str]) -> bool:
        return all(
            text is None or text in MISSING or text in DOUBTFUL or pattern.fullmatch(text)
            for text in set(table.strings(self.name).tolist())
        )

    def shows(self, reading: Reading) -> bool:
        """Whether the cells show what is special about their reading: plain whole numbers have no marks."""
        return reading.kind == "date" or self.is_strings or not self.has_digits

    @property
    def is_code(self) -> bool:
        """Whether the cells are digits with zeros before them, such as 01234, all of the same length."""
        return bool(self.padded) and len(self.digits) == 1 and 0 not in self.digits

    @property
    def filled(self) -> int:
        """The number of cells with a value."""
        return self.rows - self.missing

    def cautions(self, is_target: bool) -> Iterator[TableError]:
        """What looks odd about the column."""
        width = _FAR * (self.high - self.low)
        for value, count in self.stand_ins.items():
            is_far = not self.low - width <= value <= self.high + width or value < 0 <= self.low
            if count >= _REPEATED and width > 0 and is_far:
                what = f"column {self.name!r} has {count:,} cells of {value:.0f}, and all others from {self.low:.4g} to {self.high:.4g}"
                yield TableError(f"{what}: if it stands for a missing value, use ", Argument("missing", f"{value:.0f}"))
        if self.is_even and self.first is None and not is_target and not _ID.fullmatch(self.name):
            what = f"column {self.name!r} has a different whole number in each row, spread evenly from {self.low:.0f} to {self.high:.0f}"
            yield TableError(f"{what}: if it is an id, use ", Argument("drop", self.name))

    def counts(self) -> dict[Reading, int]:
        """How many cells each reading understands, those without a currency included."""
        return {
            reading: count + (self.fits[replace(reading, unit="")] if is_currency(reading.unit) else 0)
            for reading, count in self.fits.items()
        }

    def fitting(self) -> list[Reading]:
        """The readings that understand all cells, the most usual first; plain numbers alone if they do."""
        full = [reading for reading, count in self.counts().items() if count == self.filled > 0]
        if _COMPACT in full or (full == [_PLAIN] and self.has_days and not self.is_strings):
            return [_COMPACT]
        return [_PLAIN] if _PLAIN in full else sorted(full, key=_preference)


def _are_even(numbers: Array) -> bool:
    """Whether numbers are all different, large, and as even as if drawn at random from a range (Kolmogorov-Smirnov, at 1 %)."""
    if len(numbers) < _LEAST or numbers.min() < 0 or not 1000 <= numbers.max() < math.inf:
        return False
    ordered = np.sort(numbers)
    places = np.linspace(0, 1, len(ordered))
    shares = (ordered - ordered[0]) / (ordered[-1] - ordered[0]) if ordered[0] < ordered[-1] else np.zeros(len(ordered))
    return bool((np.diff(ordered) > 0).all() and np.abs(shares - places).max() < 1.63 / math.sqrt(len(ordered)))


def _are_days(numbers: Array) -> bool:
    low, high = numbers.min(), numbers.max()
    if not 19000101 <= low <= high <= 20991231:
        return False
    month, day = numbers // 100 % 100, numbers % 100
    return bool(((month >= 1) & (month <= 12) & (day >= 1) & (day <= 31)).all())


def _may_have_points(numbers: Array) -> bool:
    """Whether numbers have at most three decimals and are below 1000, as 1.234 read as a plain number."""
    some = numbers[:100]  # most columns fail here
    return all(np.abs(part).max() < 1000 and (np.abs(part * 1000 - np.round(part * 1000)) < 1e-6).all() for part in (some, numbers))


def _preference(reading: Reading) -> tuple[int, int]:
    if reading.kind == "date":
        return 1, list(ORDERS).index(reading.order)
    return 0, MARKS.index((reading.decimal, reading.thousands))


def _profiles(source: Source, drop: Sequence[str], missing: Sequence[str]) -> tuple[dict[str, _Profile], str]:
    """The profiles of all columns that can be used, and the usual decimal mark of the file."""
    profiles: dict[str, _Profile] = {}
    decimal = "."
    for table, is_test in _tables(source):
        decimal = table.decimal
        for name, column in _useful(table, drop):
            profile = profiles.setdefault(name, _Profile(name))
            if isinstance(column, np.ndarray) and column.dtype == object:
                profile.add_strings(Counter(column.tolist()), missing)
            else:
                profile.add_numbers(table, column, missing, is_test)
    mixed = {name: _Profile(name) for name, profile in profiles.items() if profile.is_strings and profile.is_numbers}
    for table, _ in _tables(source) if mixed else ():
        for name, _ in _useful(table, drop):
            if name in mixed:
                mixed[name].add_strings(Counter(table.strings(name).tolist()), missing)
    return profiles | mixed, decimal


def _tables(source: Source) -> Iterator[tuple[Table, bool]]:
    """All tables, and whether each is a separate test table."""
    yield from ((table, False) for table in source.tables())
    yield from ((table, True) for table in (source.tests() if source.tests else ()))


def _useful(table: Table, drop: Sequence[str]) -> Iterable[tuple[str, Array | Written]]:
    """The columns to decide about. Files of arrays say what their columns are."""
    if not (table.is_positional or table.is_sparse):
        yield from ((name, column) for name, column in table.columns.items() if name not in drop and not isinstance(column, Unusable))


# ---- decisions ----


def _differs(found: Sequence[Reading]) -> bool:
    """Whether the cells show a decimal or thousands mark."""
    return bool(found) and found[0].kind == "number" and found[0] != _PLAIN and (found[0].decimal, found[0].thousands) != (".", "")


def _chosen(profile: _Profile, fitting: list[Reading], decimal: str, orders: Container[str]) -> tuple[Reading, list[Reading]]:
    """The reading of a column, and others that would fit as well but give other values."""
    if (profile.is_huge and not profile.has_fractions) or profile.is_code:
        return Reading("text", values=_values(profile)), []
    if not fitting:
        return _mostly(profile) or Reading("text", values=_values(profile)), []
    if fitting == [_PLAIN] and decimal == "," and profile.has_digits:
        return Reading(decimal=",", thousands="."), []  # other cells may have points between thousands
    if fitting == [_PLAIN] and decimal == "," and profile.has_points and profile.has_fractions:
        return Reading(decimal=",", thousands="."), [_PLAIN]
    usual = [reading for reading in fitting if reading.decimal == decimal or reading.kind == "date"]
    if fitting[0].kind == "date" and len(fitting) > 1:
        usual = [reading for reading in fitting if reading.order in orders] or [_usual_order(profile, fitting)]
    chosen = (usual or fitting)[0]
    return chosen, [other for other in fitting if any(other.value(text) != chosen.value(text) for text in profile.values)]


def _usual_order(profile: _Profile, fitting: list[Reading]) -> Reading:
    """The month comes first between slashes, as pandas assumes; the day comes first between points and hyphens."""
    first = "mdy" if "/" in next(iter(profile.values)) else "dmy"
    return next((reading for reading in fitting if reading.order == first), fitting[0])


def _mostly(profile: _Profile) -> Reading | None:
    """The reading that understands all but a few cells, which are mistakes; None if there is none."""
    counts = profile.counts()
    best = max(sorted(counts, key=_preference), key=lambda reading: counts[reading], default=None)
    if best is None or len(profile.values) <= SEVERAL or profile.filled - counts[best] >= MISTAKES * profile.filled:
        return None
    return best


def _values(profile: _Profile) -> tuple[str, ...]:
    """Words that look missing but are values in a column of texts."""
    frequent = (word for word, count in profile.words.items() if word in DOUBTFUL and count >= FREQUENT * profile.rows)
    return tuple(sorted(frequent)) if profile.filled else ()


def _assumed(name: str, profile: _Profile, reading: Reading, others: list[Reading]) -> Iterator[str]:
    """What is assumed about a column."""
    if profile.is_huge and reading.kind == "text":
        yield f"{name}: whole numbers beyond 2^53, used as texts"
    elif profile.is_code and reading.kind == "text":
        yield f"{name}: digits with zeros before them, such as {profile.padded}, used as texts"
    elif reading.describe() and profile.shows(reading):
        also = f"; they could also be {others[0].describe() or 'plain numbers'}" if others else ""
        yield f"{name}: {reading.describe()}{also}"
    if reading.kind == "number" and profile.has_parentheses:
        yield f"{name}: numbers in parentheses are negative"
    if reading.kind == "date" and profile.has_offsets:
        yield f"{name}: times with an offset, such as +02:00, are converted to UTC"
    if reading.values:
        yield f"{name}: {', '.join(reading.values)} {'is a value' if len(reading.values) == 1 else 'are values'}, not missing"


def _gaps(name: str, profile: _Profile, reading: Reading, is_target: bool) -> tuple[set[str], list[str]]:
    """The words that are missing values in a column, and a line on its missing values if there are any."""
    words = set(profile.words) - set(reading.values)
    missing = profile.missing - sum(profile.words[word] for word in reading.values)
    if not missing:
        return words, []
    shown = f" ({', '.join(sorted(words)[:5])}{' ...' if len(words) > 5 else ''})" if words else ""
    what = f"row{'s' * (missing > 1)} without a value left out" if is_target else f"missing value{'s' * (missing > 1)}"
    return words, [f"{name}: {missing} {what}{shown}"]


def _ids(profiles: Mapping[str, _Profile], kept: Container[str]) -> dict[str, str]:
    """The columns of row numbers and ids. If there are no other columns, none are left out."""
    found = {}
    for name, profile in profiles.items():
        if profile.first is not None and profile.rows > 2:
            found[name] = "row numbers"
        elif len(profile.seen) == profile.rows > 2 and not profile.has_fractions and not profile.is_strings:
            found[name] = "an id, different in each row"
    left_out = {name: why for name, why in found.items() if name not in kept}
    return left_out if len(left_out) < len([name for name in profiles if name not in kept]) else {}
