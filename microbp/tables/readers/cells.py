"""How the text of a cell is read: as a number, a date or text, or as missing.

A `Reading` belongs to a column and is the same for all its cells. ../columns.py chooses it by all cells; the preparation stores it.
Words for a missing value:

- in a column of numbers or dates: empty and all words of MISSING and DOUBTFUL;
- in a column of texts: empty and the words of MISSING. A word of DOUBTFUL, such as None or -, is a value there if it is frequent
  (`FREQUENT` of the rows) and the column has other texts; else it is missing.
"""

from __future__ import annotations

import functools
import math
import re
from dataclasses import dataclass
from typing import Literal

import numpy as np

from . import dates

MISSING = frozenset([  # as in pandas, R and Excel
    "", "?", "NaN", "nan", "NAN", "-nan", "-NaN", "N/A", "n/a", "#N/A", "#NA", "#N/A N/A", "<NA>", "NULL", "null", "Null", "NaT", "1.#IND",
    "-1.#IND", "1.#QNAN", "-1.#QNAN", "#DIV/0!", "#NULL!", "#NUM!", "#REF!", "#VALUE!", "#NAME?",
])  # fmt: skip
DOUBTFUL = frozenset(["NA", "na", "None", "none", "NONE", "-", "--", "."])
FREQUENT = 0.05
MARKS = ((".", ""), (".", ","), (",", ""), (",", "."), (".", " "), (",", " "), (".", "'"), (",", "'"))  # decimal, thousands
_CURRENCY = (
    r"(?:(?:US|AU|CA|NZ|HK|A|C|R)?\$|[€£¥₹₽₩₺]|Rs\.?|Fr\.?|kr\.?|zł|"
    "AUD|BRL|CAD|CHF|CNY|CZK|DKK|EUR|GBP|HKD|HUF|INR|JPY|KRW|MXN|NOK|NZD|PLN|RUB|SEK|SGD|TRY|USD|ZAR)"
)
_IS_CURRENCY = re.compile(_CURRENCY)
_UNIT = r"[^\W\d_]\S{0,11}(?: [^\W\d_]\S{0,11})?|[%‰°²³]\S{0,3}"
_NUMBER = re.compile(
    rf"(?P<sign>[-+]?)\s?(?P<before>{_CURRENCY})?\s?(?P<core>[-+]?[\d.,' ]*\d[.,]?(?:[eE][-+]?\d+)?)\s?(?P<after>{_CURRENCY}|{_UNIT})?"
)
_NEGATIVE = re.compile(
    r"(?P<before>[^\d()+-]*)\((?P<core>[^()+-]*\d[^()+-]*)\)(?P<after>\s?%?)"
)  # of accounting: ($1,200) is -1200 dollars
_LONGEST = 64  # characters of a number or date
_SHAPE = str.maketrans("23456789", "11111111")
_SIGNS = str.maketrans(dict(zip("\u00a0\u202f\u2009\u2019\u2212", "   '-")))  # other spaces, an apostrophe, a minus sign


@dataclass(frozen=True)
class Reading:
    """How the cells of a column are read.

    kind: what they are. decimal, thousands, unit: for numbers; "" if there is none. order: for dates, one of `dates.ORDERS`. values: words
    of DOUBTFUL that are not missing. missing: words of the caller that are missing.
    """

    kind: Literal["number", "date", "text"] = "number"
    decimal: str = "."
    thousands: str = ""
    unit: str = ""
    order: str = ""
    values: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()

    @property
    def is_plain(self) -> bool:
        """Whether `to_number` reads the cells."""
        return self.kind == "number" and (self.decimal, self.thousands, self.unit) == (".", "", "")

    def is_missing(self, text: str) -> bool:
        """Whether a cell has no value."""
        return text in MISSING or text in self.missing or (text in DOUBTFUL and text not in self.values)

    def number(self, text: str) -> float | None:
        """The number in a cell, NaN if it is missing, None if it is not a number."""
        if self.is_missing(text):
            return math.nan
        if self.is_plain:
            value = to_number(text)
            if value is not None or not is_negative(text):
                return value
        parts = split(text)
        if parts is None or parts[1] not in ("", self.unit):  # a table for predictions may lack the unit
            return None
        marks = (self.thousands, "") if self.thousands else ("",)  # later numbers may lack the marks between thousands
        if not any(_pattern(self.decimal, mark).fullmatch(parts[0]) for mark in marks):
            return None
        return float((parts[0].replace(self.thousands, "") if self.thousands else parts[0]).replace(self.decimal, "."))

    def date(self, text: str) -> np.datetime64 | None:
        """The time in a cell, NaT if it is missing, None if it is not a date. ISO dates are understood in a column of any order."""
        if self.is_missing(text):
            return np.datetime64("NaT", "us")
        found = dates.parse(text, self.order) or (None if self.order == "time" else dates.parse(text, "ymd"))
        return None if found is None else np.datetime64(found, "us")

    def value(self, text: str) -> object:
        """The number or time in a cell; None if it is neither."""
        return self.date(text) if self.kind == "date" else self.number(text)

    def describe(self) -> str:
        """What is special about the numbers or dates; "" for plain numbers and texts."""
        if self.kind == "date":
            return dates.ORDERS[self.order]
        mark = {",": "decimal comma", ".": ""}[self.decimal]
        grouping = {"": "", " ": "spaces between thousands", "'": "apostrophes between thousands"}.get(
            self.thousands, f"{'commas' if self.thousands == ',' else 'points'} between thousands"
        )
        unit = "percent" if self.unit == "%" else f"unit {self.unit}" if self.unit else ""
        return ", ".join(filter(None, (mark, grouping, unit)))


def is_currency(unit: str) -> bool:
    """Whether a unit is a currency; such a unit may be absent in some cells."""
    return bool(_IS_CURRENCY.fullmatch(unit))


def to_number(text: str) -> float | None:
    """Parses a string as a number; "true" is 1 and "false" is 0. None for other strings."""
    try:
        value = float(text)
    except ValueError:
        plain = text.translate(_SIGNS)
        return to_number(plain) if plain != text else {"false": 0.0, "true": 1.0}.get(text.lower())
    return None if "_" in text or math.isnan(value) else value


@functools.cache
def _pattern(decimal: str, thousands: str) -> re.Pattern[str]:
    point = re.escape(decimal)
    if thousands:  # such numbers have no exponent
        return re.compile(rf"[-+]?(?:(?:\d{{1,3}}|[1-9]\d{{0,2}}(?:{re.escape(thousands)}\d{{3}})+)(?:{point}\d*)?|{point}\d+)")
    return re.compile(rf"[-+]?(?:\d+(?:{point}\d*)?|{point}\d+)(?:[eE][-+]?\d+)?")


def split(text: str) -> tuple[str, str] | None:
    """A number in any form, and its unit or currency ("" if none); None for other text. Parentheses mean a minus sign."""
    text = text.translate(_SIGNS)
    enclosed = _NEGATIVE.fullmatch(text)
    found = _NUMBER.fullmatch("".join(enclosed.groups()) if enclosed else text)
    if found is None or (found["before"] and found["after"]) or (found["sign"] and found["core"][0] in "+-"):
        return None
    return ("-" if enclosed else found["sign"]) + found["core"], found["before"] or found["after"] or ""


def is_negative(text: str) -> bool:
    """Whether a text may be a negative number in parentheses."""
    return ")" in text and bool(_NEGATIVE.fullmatch(text))


def readings_of(text: str) -> list[Reading]:
    """Each reading that understands a cell as a number or a date."""
    numbers, orders = readings_of_shape(shape_of(text))
    return [*numbers, *(Reading("date", order=order) for order in orders if dates.parse(text, order) is not None)]


def shape_of(text: str) -> str:
    """A text with 1 for each digit above 0, except those of a unit."""
    found = _NUMBER.fullmatch(text.translate(_SIGNS))
    end = found.start("after") if found and found["after"] else len(text)
    return text[:end].translate(_SHAPE) + text[end:]


@functools.lru_cache(maxsize=10_000)
def readings_of_shape(shape: str) -> tuple[tuple[Reading, ...], tuple[str, ...]]:
    """The readings that understand all texts of a shape as numbers, and the orders in which such texts may be dates."""
    plain = (Reading(),) if to_number(shape) is not None or (is_negative(shape) and Reading().number(shape) is not None) else ()
    if len(shape) > _LONGEST or not any(map(str.isdigit, shape)):
        return plain, ()
    parts = split(shape)
    numbers = [
        Reading("number", decimal, thousands, parts[1])
        for decimal, thousands in MARKS
        if parts is not None and (parts[1] or (decimal, thousands) != (".", "")) and _pattern(decimal, thousands).fullmatch(parts[0])
    ]
    return (*plain, *numbers), dates.orders_like(shape)
