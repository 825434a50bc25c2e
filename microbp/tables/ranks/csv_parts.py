"""A part of a text file on each rank: cut where rows end, also where quoted cells have line ends."""

from __future__ import annotations

import codecs
import collections
import io
import re
from dataclasses import replace
from pathlib import Path

import numpy as np

from ...ranks.ranks import Ranks
from ..readers import csv_file
from ..readers.csv_file import Place
from ..readers.csv_layout import Layout
from ..readers.opening import Share, is_plain, span
from ..readers.table import Table

_MARKS = ",;\t|"  # the separators of files that are cut


def read(path: Path, header: bool | None, ranks: Ranks) -> Table | None:
    """The rows of this rank, which errors name by their place in the file; None if the file must be read whole."""
    if not is_plain(path):
        return None
    share = Share(ranks.rank, ranks.size)
    begin, end = span(path, share)
    with path.open("rb") as file:
        start = file.read(3)
        if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            return None
        file.seek(max(begin - 1, 0))  # after a line end there is no byte order mark
        text = csv_file.encoding_of(io.BytesIO(file.read(end - max(begin - 1, 0))))
    is_other = ranks.any(text == "cp1252")
    encoding = "utf-8-sig" if start == codecs.BOM_UTF8 else "cp1252" if is_other else "utf-8"
    with path.open(encoding=encoding, errors="surrogateescape", newline="") as lines:
        layout, first = csv_file.layout_of(path, lines, header)
    if layout.separator not in _MARKS or layout.width == 1:
        return None
    skipped = sum(len(line.encode(encoding.removesuffix("-sig"), "surrogateescape")) for line in first[: layout.skipped])
    begin, end = span(path, share, skipped + 3 * (start == codecs.BOM_UTF8))
    data, end = _cut(path, begin, end, layout.separator, ranks)
    return _parsed(path, data, layout, encoding, end == path.stat().st_size, ranks)


# ---- where parts begin ----


def _cut(path: Path, begin: int, end: int, separator: str, ranks: Ranks) -> tuple[bytes, int]:
    """The bytes of the rows of this rank, and where they end. begin, end: after line ends, which may be in a quoted cell."""
    with path.open("rb") as file:
        file.seek(begin)
        data = file.read(end - begin)
        found = [scan(data, separator, inside) for inside in (False, True)]
        mine = np.array([end, *(number for place, inside in found for number in (begin + place, inside))], np.int64)
        ends, begins, inside = [], [], 0
        for last, *states in (one.tolist() for one in ranks.gather_arrays(mine)):
            ends.append(last)
            place, inside = states[2 * inside :][:2]
            begins.append(place)
        begins.append(ends[-1])
        for rank in reversed(range(ranks.size)):
            if begins[rank] == ends[rank]:  # no row begins in this part
                begins[rank] = begins[rank + 1]
        first, after = begins[ranks.rank : ranks.rank + 2]
        if (first, after) != (begin, end):
            file.seek(first)
            data = file.read(after - first)
        return data, after


def scan(data: bytes, separator: str, inside: bool) -> tuple[int, bool]:
    """Where the first row begins in a text that starts after a line end, and whether its end is in a quoted cell. inside: whether its
    start is. If no row begins there, it is the end of the text.
    """
    if b'"' not in data:
        return (len(data) if inside else 0), inside
    quoted = rb"(?:\A|(?<=[\r\n" + re.escape(separator.encode()) + rb'])) *+"[^"]*+(?:""[^"]*+)*+("?)'
    start = first = 0
    if inside:
        closing = re.match(rb'[^"]*+(?:""[^"]*+)*+"', data)
        if closing is None:
            return len(data), True
        start = closing.end()
        ends = (found.end() for found in re.compile(quoted + rb"|(\n)").finditer(data, start) if found[2])
        first = next(ends, len(data))
    last = collections.deque(re.compile(quoted).finditer(data, start), maxlen=1)
    return first, any(not cell[1] for cell in last)


# ---- rows ----


def _parsed(path: Path, data: bytes, layout: Layout, encoding: str, is_last: bool, ranks: Ranks) -> Table:
    place, found, failure = Place(0, 1, ranks.rank == 0, is_last), None, None
    try:
        found, comments = csv_file.part(path, data, layout, encoding, place)
    except Exception as error:  # told below, by its place in the file
        failure, comments = error, 0
    mine = np.array([0 if found is None else found.count, comments, 0 if found is None else found.before, failure is not None], np.int64)
    counts, all_comments, befores, failed = np.array(ranks.gather_arrays(mine)).reshape(ranks.size, 4).T.tolist()
    place = place._replace(first=sum(counts[: ranks.rank]), before=befores[0] if all(befores[: ranks.rank]) else 0)
    last = max((rank for rank, count in enumerate(counts) if count), default=0)
    if ranks.rank == (failed.index(1) if any(failed) else last) and (failure or not is_last):
        csv_file.part(path, data, layout, encoding, place._replace(is_last=not failure or is_last))  # raises it with its place
        if failure:
            raise failure
    if found is None or any(failed):
        ranks.any(failure is not None)
        raise AssertionError("the rank that failed has raised")
    if not sum(counts):
        raise csv_file.no_rows(str(path))
    assumptions = csv_file.assumed(layout, encoding, sum(all_comments))
    columns = found.columns or dict.fromkeys(layout.names, np.zeros(0))
    return replace(found, columns=columns, first=place.first, before=befores[0] if all(befores) else 0, assumptions=assumptions)
