"""Dates and times in texts: ISO, the national orders with numbers, names of months, times alone."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

ORDERS = {
    "ymd": "dates, year/month/day",
    "dmy": "dates, day/month/year",
    "mdy": "dates, month/day/year",
    "compact": "dates, written as 20120131",
    "named": "dates with names of months",
    "ym": "months, year/month",
    "time": "times of day",
}
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MONTH = rf"(?P<month>{'|'.join(_MONTHS)})[a-z]*\.?"
_TIME = r"(?P<hour>\d{1,2}):(?P<minute>\d{2})(?::(?P<second>\d{2})(?:[.,](?P<part>\d{1,9}))?)?(?:\s?(?P<half>[ap])\.?m\.?)?"
_ZONE = r"(?:\s?(?:z|utc|gmt|(?P<offset>[-+]\d{2}(?::?\d{2})?)))?"
_AFTER = rf"(?:(?:\s*t|\s*,?\s+){_TIME}{_ZONE})?"  # a time may follow a date
_DAY = r"(?P<day>\d{1,2})(?:st|nd|rd|th)?"
_YEAR = r"(?P<year>\d{4}|\d{2})"
_NUMERIC = re.compile(rf"(?P<a>\d{{4}}|\d{{1,2}})(?P<mark>[-/.])(?P<b>\d{{1,2}})(?P=mark)(?P<c>\d{{4}}|\d{{1,2}}){_AFTER}", re.IGNORECASE)
_NAMED = [
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"(?:[a-z]+,?\s+)?{_DAY}[-\s./]+{_MONTH},?[-\s./]+{_YEAR}{_AFTER}",  # 14 Jan 2012
        rf"(?:[a-z]+,?\s+)?{_MONTH}[-\s]+{_DAY},?\s+(?P<year>\d{{4}}){_AFTER}",  # Jan 14, 2012
        rf"(?P<year>\d{{4}})[-\s]{_MONTH}[-\s]{_DAY}{_AFTER}",  # 2012-Jan-14
        rf"{_MONTH}[-\s]+(?P<year>\d{{4}})",  # Jan 2012
    )
]
_COMPACT = re.compile(r"(?P<a>(?:19|20)\d{2})(?P<b>\d{2})(?P<c>\d{2})(?:t(?P<hour>\d{2})(?P<minute>\d{2})(?P<second>\d{2})?z?)?", re.I)
_YEAR_MONTH = re.compile(r"(?P<a>(?:19|20)\d{2})[-/](?P<b>\d{1,2})")
_OFFSET = re.compile(r".*:\d{2}(?:[.,]\d+)?\s?[-+](\d{2}(?::?\d{2})?)")
_TIME_ALONE = re.compile(_TIME, re.IGNORECASE)


def orders_like(shape: str) -> tuple[str, ...]:
    """The orders in which a text may be a date. shape: the text, with any digits."""
    text = shape.replace("0", "1")
    forms = text, text.replace("1111", "1911", 1)
    return tuple(order for order in ORDERS if any(parse(form, order) is not None for form in forms))


def parse(text: str, order: str) -> datetime | None:
    """The date and time in a text, in UTC if the text has an offset such as +02:00; None if it is not a date in this order. A time alone is
    on 1 January 1970.
    """
    try:
        if order == "named":
            found = next(filter(None, (pattern.fullmatch(text) for pattern in _NAMED)), None)
            parts = found.groupdict() if found else {}
            return _joined(parts["year"], str(_MONTHS.index(parts["month"].lower()) + 1), parts.get("day") or "1", parts) if found else None
        pattern = {"compact": _COMPACT, "ym": _YEAR_MONTH, "time": _TIME_ALONE}.get(order, _NUMERIC)
        found = pattern.fullmatch(text)
        if not found:
            return None
        parts = found.groupdict()
        if order == "time":
            return _joined("1970", "1", "1", parts)
        places = dict(zip("ymd" if order == "compact" else order, "abc"))
        year, month, day = (parts[places[part]] if part in places else "1" for part in "ymd")
        return _joined(year, month, day, parts) if len(year) in (2, 4) and len(month) <= 2 and len(day) <= 2 else None
    except (ValueError, OverflowError):  # there is no such day or hour
        return None


def has_offset(text: str) -> bool:
    """Whether a time has an offset from UTC other than 0."""
    found = _OFFSET.fullmatch(text)
    return found is not None and found[1].strip("0:") != ""


def _joined(year: str, month: str, day: str, time: dict[str, str | None]) -> datetime:
    full = int(year) + (0 if len(year) == 4 else 2000 if int(year) < 69 else 1900)  # as POSIX reads two digits
    hour, half = int(time.get("hour") or 0), (time.get("half") or "").lower()
    if half and not 1 <= hour <= 12:
        raise ValueError
    hour = hour % 12 + 12 * (half == "p") if half else hour
    part = int((time.get("part") or "0").ljust(6, "0")[:6])
    local = datetime(full, int(month), int(day), hour, int(time.get("minute") or 0), int(time.get("second") or 0), part)
    return local - _offset(time.get("offset") or "+00")


def _offset(text: str) -> timedelta:
    """The offset from UTC in a text such as +02:00, -0530 or +02."""
    ahead = timedelta(hours=int(text[1:3]), minutes=int(text[3:].lstrip(":") or 0))
    return -ahead if text[0] == "-" else ahead
