"""Text files: CSV and similar formats. This file splits text into cells; csv_layout.py finds the layout, cells.py interprets the cells.

A column is numeric if all its cells are plain numbers or missing. The strings are kept in any case.
"""

from __future__ import annotations

import codecs
import csv
import functools
import importlib
import io
import itertools
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from ...core.text import counted
from ...data.arrays import Array
from . import csv_layout
from .errors import Argument, TableError
from .opening import opened
from .table import Table, Whole, Written, clean, parse_numbers, row_place

_UNDECODED = re.compile("[\udc80-\udcff]")  # the characters that stand for bytes that the encoding does not have
_ENCODINGS = {"utf-8": (), "utf-8-sig": (), "utf-16": ("encoding: UTF-16",), "cp1252": ("encoding: cp1252, because the text is not UTF-8",)}
_PART = 1_000_000  # bytes decoded at a time to find the encoding
_QUOTES = 'a quoted cell must end with a quote, and a quote inside it must be written ""'
_TOTALS = frozenset(["total", "totals", "sum", "sums", "subtotal", "summe", "gesamt", "somme", "totale", "suma"]) | {"grand total"}
_LARGE = 4_000_000  # bytes from which on polars is faster, its import included
_BLOCK = 256  # rows converted to columns at a time; they fit into the processor's cache


def read(path: Path, header: bool | None = None) -> Whole:
    """All rows of a file. For an invalid row, a ValueError names it. header: as in `csv_layout.find`."""
    return Whole(_by_polars(path, header) or next(pieces(path, sys.maxsize, header)))


def pieces(path: Path, most: int, header: bool | None = None) -> Iterator[Table]:
    """The rows of a file, in tables of at most `most` rows; at least one table. header: as in `csv_layout.find`."""
    where = str(path)
    with opened(path) as file:
        encoding = encoding_of(file)
    with io.TextIOWrapper(opened(path), encoding, "surrogateescape", newline="") as lines:
        layout, start = layout_of(path, lines, header)
        rows = _Rows(where, layout, itertools.chain(start[layout.skipped :], lines))
        first, count = 0, most
        while count == most:
            found, count = _table(rows, layout, most, first)
            if count:
                yield replace(found, assumptions=assumed(layout, encoding, rows.comments))
            elif first == 0:
                raise no_rows(where)
            first += count


def no_rows(where: str) -> TableError:
    """The error about a file without rows."""
    what = f"{where}: has only one line; the first line must name the columns, and rows must follow; if it is a row, use "
    return TableError(what, Argument("no_header"))


def layout_of(path: Path, lines: Iterator[str], header: bool | None) -> tuple[csv_layout.Layout, list[str]]:
    """The layout of a file, and the first lines, which decide it."""
    start = list(itertools.islice(lines, csv_layout.LINES))
    if any("\0" in line for line in start):
        raise ValueError(f"{path}: contains a zero byte; save the file as UTF-8 text")
    layout = csv_layout.find(str(path), start, _is_tabbed(path), header)
    if _UNDECODED.search("".join(layout.names)):
        raise ValueError(f"{path}: the names of the columns are not UTF-8; save the file as UTF-8")
    return layout, start


def assumed(layout: csv_layout.Layout, encoding: str, comments: int) -> tuple[str, ...]:
    """What is assumed about a file, of which so many rows are comments."""
    skipped = (f"skipped {counted(comments, 'comment line')} among the rows",) if comments else ()
    return layout.assumptions + _ENCODINGS[encoding] + skipped


class Place(NamedTuple):
    """Where a part of a file is: the number of rows before it, the lines before the first row (0 if rows have several lines), whether
    the part begins where the layout says, and whether no rows follow."""

    first: int = 0
    before: int = 0
    is_first: bool = True
    is_last: bool = True


def part(path: Path, data: bytes, layout: csv_layout.Layout, encoding: str, place: Place) -> tuple[Table, int]:
    """The rows of a part of a file, cut where rows end, and the number of comments among them. The table may have no rows."""
    if encoding in ("utf-8", "utf-8-sig") and _is_simple(data) and (found := _divided(str(path), data, layout, place)) is not None:
        return found, 0
    lines = io.TextIOWrapper(io.BytesIO(data), encoding.removesuffix("-sig"), "surrogateescape", newline="")
    rows = _Rows(str(path), layout, lines, place)
    return _table(rows, layout, sys.maxsize, place.first)[0], rows.comments


def _table(rows: _Rows, layout: csv_layout.Layout, most: int, first: int) -> tuple[Table, int]:
    """The next rows as a table, and how many there are. first: the number of the first."""
    columns, count = [_Column(rows.where, name) for name in layout.names], 0
    while block := rows.next(min(_BLOCK, most - count)):
        for column, cells in zip(columns, zip(*block)):
            column.add(cells, first + count, rows.before)
        count += len(block)
    found = {column.name: column.whole() for column in columns} if count else {}
    return Table(rows.where, found, count, first, rows.before, decimal=_usual_decimal(layout)), count


def _is_simple(data: bytes) -> bool:
    """Whether a text is large, and has no quotes and no unusual line ends, so that polars divides it as the csv module does."""
    return len(data) >= _LARGE and not (b'"' in data or b"\0" in data or (b"\r" in data and data.count(b"\r") != data.count(b"\r\n")))


def _by_polars(path: Path, header: bool | None) -> Table | None:
    """The rows, if polars can read them as `_divided` says; else None."""
    with opened(path) as file:
        data = file.read()
    if not _is_simple(data) or encoding_of(io.BytesIO(data)) not in ("utf-8", "utf-8-sig"):
        return None
    lines = io.TextIOWrapper(io.BytesIO(data), "utf-8-sig", "surrogateescape", newline="")
    return _divided(str(path), data, layout_of(path, lines, header)[0])


def _divided(where: str, data: bytes, layout: csv_layout.Layout, place: Place | None = None) -> Table | None:
    """The rows, if polars is installed and divides the text as the csv module does, only faster; else None.

    That is so for a text in UTF-8 without quotes, in which each line has a cell for each column. What a cell means is decided here.
    place: of a part, which begins after the lines that the layout skips.
    """
    try:
        polars = importlib.import_module("polars")
    except ImportError:
        return None
    start, skipped, at = 0, layout.skipped * (place is None), place or Place()
    before = at.before if not at.is_first else layout.skipped + layout.has_header
    for _ in range(skipped + layout.has_header if at.is_first else 0):
        start = data.index(b"\n", start) + 1
    width, count = layout.width, data.count(b"\n", start) + (not data.endswith(b"\n"))
    separators = data.count(layout.separator.encode(), start)
    if width == 1 or separators != count * (width - 1) or layout.separator == csv_layout.SPACES or start == 0 == data.find(codecs.BOM_UTF8):
        return None
    schema = dict.fromkeys([*layout.names, "\0"] if layout.has_end else layout.names, polars.String)
    options = {
        "has_header": False,
        "schema": schema,
        "separator": layout.separator,
        "quote_char": None,
    }
    try:
        frame = polars.read_csv(memoryview(data)[start:].tobytes(), **options)
    except polars.exceptions.PolarsError:
        return None
    is_total = at.is_last and 0 < count == len(frame) and _is_total(frame.row(count - 1))
    if not 0 < len(frame) == count or is_total or (layout.has_end and frame["\0"].null_count() < count):
        return None
    columns = {name: _polars_column(polars, frame[name]) for name in layout.names}
    return Table(where, columns, count, at.first, before, assumptions=layout.assumptions, decimal=_usual_decimal(layout))


def _polars_column(polars: Any, series: Any) -> Array | Written:
    """A column of strings: numbers if each cell is a number or missing, else strings."""

    def texts() -> Array:
        return clean(series.to_list())

    numbers = series.cast(polars.Float64, strict=False)
    if numbers.null_count() == series.null_count() and not numbers.is_nan().any():  # only empty cells are missing
        return Written(numbers.fill_null(float("nan")).to_numpy(), texts, series.__getitem__)
    cells = texts()
    parsed = parse_numbers(cells)
    return cells if parsed is None else Written(parsed, texts, series.__getitem__)


def _is_tabbed(path: Path) -> bool:
    return not {suffix.lower() for suffix in path.suffixes}.isdisjoint((".tsv", ".tab"))


def _usual_decimal(layout: csv_layout.Layout) -> str:
    return "," if layout.separator == ";" else "."  # files with decimal commas use this separator


def _is_total(row: Sequence[str | None]) -> bool:
    return (row[0] or "").strip().lower().rstrip(":") in _TOTALS


def encoding_of(file: IO[bytes]) -> str:
    """The encoding of all of a file: that of its byte order mark, else UTF-8 if no byte contradicts it, else cp1252."""
    part = file.read(_PART)
    if part.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    if part.startswith(codecs.BOM_UTF8):
        return "utf-8-sig"
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        while part:
            decoder.decode(part)
            part = file.read(_PART)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return "cp1252"
    return "utf-8"


_WHOLE = Place()


class _Rows:
    """The rows of a file after the header. before: lines before the first row, if so far each row was one line; else 0. comments: rows
    that were comments. place: of a part of a file."""

    def __init__(self, where: str, layout: csv_layout.Layout, lines: Iterator[str], place: Place = _WHOLE) -> None:
        is_spaced = layout.separator == csv_layout.SPACES
        self.where, self._layout, self._width, self._is_last = where, layout, layout.width, place.is_last
        self._reader = csv.reader(
            csv_layout.spaced(lines) if is_spaced else lines,
            delimiter="\t" if is_spaced else layout.separator,
            skipinitialspace=True,
            strict=True,
        )
        self._count, self.comments = place.first, 0
        self._last: list[str] = []
        if layout.has_header and place.is_first:
            try:
                next(self._reader)
            except csv.Error as error:
                raise ValueError(f"{where}: the first line cannot be read: {error}; {_QUOTES}") from None
        self._header = self._reader.line_num - place.first
        self.before = layout.skipped + self._header if place.is_first else place.before
        self._rows = self._filled()

    def next(self, most: int) -> list[list[str]]:
        """The next rows, at most `most`."""
        block: list[list[str]] = []
        try:
            block.extend(itertools.islice(self._rows, most))
        except csv.Error as error:
            raise ValueError(f"{self.where}, row {self._count + len(block) + 1}: cannot be read: {error}; {_QUOTES}") from None
        is_plain = self._reader.line_num == self._header + self._count + len(block)
        self.before = self.before if is_plain else 0
        self._require_width(block)
        self._count += len(block)
        if block:
            self._last = block[-1]
        elif self._is_last and self._last and _is_total(self._last):
            place = row_place(self.where, self._count - 1, self.before)
            raise ValueError(f"{place}: the last row starts with {self._last[0].strip()!r}, so it is not an example; delete this row")
        return block

    def _filled(self) -> Iterator[list[str]]:
        """The rows that are not empty. In a file with one column, an empty line between others is a row with a missing value."""
        empty, width = 0, self._width
        for row in self._reader:
            if not row or (len(row) == 1 < width and not row[0].strip()):
                empty += 1
                continue
            if len(row) != width and row[0].startswith("#"):
                self.comments += 1
                continue
            if width == 1:
                yield from [[""]] * empty
            empty = 0
            yield row

    def _require_width(self, block: list[list[str]]) -> None:
        """Refuses rows that do not have a cell for each column."""
        has_end = self._layout.has_end
        if {self._width}.issuperset(map(len, block)) and not (has_end and any(cells[-1].strip() for cells in block)):
            return
        row = next(row for row, cells in enumerate(block) if len(cells) != self._width or (has_end and cells[-1].strip()))
        first = f"the first line {'names' if self._layout.has_header else 'has'} {counted(len(self._layout.names), 'column')}"
        what = f"has {counted(len(block[row]), 'cell')}, but {first}; correct this row or the first line"
        raise ValueError(f"{row_place(self.where, self._count + row, self.before)}: {what}")


class _Column:
    """The cells of a column.

    _texts: strings, each with the cells of a block joined by null characters. _numbers: an array for each block, or None after the first
    cell that is neither a number nor missing.
    """

    def __init__(self, where: str, name: str) -> None:
        self.name = name
        self._where = where
        self._texts: list[str] = []
        self._numbers: list[Array] | None = []

    def add(self, cells: Sequence[str], first: int, before: int) -> None:
        """Adds the cells of the rows starting at `first`. before: as in Table."""
        text = "\0".join(cells)
        if text.count("\0") >= len(cells):
            row = first + next(row for row, cell in enumerate(cells) if "\0" in cell)
            self._refuse(row, before, "contains a zero byte; use a text file")
        if not text.isascii() and (wrong := _UNDECODED.search(text)):
            self._refuse(first + text.count("\0", 0, wrong.start()), before, "the text is not UTF-8; save the file as UTF-8")
        self._texts.append(text)
        if self._numbers is not None:
            numbers = _parsed(cells, text)
            if numbers is None:
                self._numbers = None
            else:
                self._numbers.append(numbers)

    def _refuse(self, row: int, before: int, why: str) -> None:
        raise ValueError(f"{row_place(self._where, row, before)}, column {self.name!r}: {why}")

    def whole(self) -> Array | Written:
        """The column of all blocks: numbers if each cell is a number or missing, else strings."""
        texts = functools.partial(_texts, self._texts)
        return texts() if self._numbers is None else Written(np.concatenate(self._numbers), texts, self._text)

    def _text(self, row: int) -> str:
        """One cell. All blocks but the last have `_BLOCK` cells."""
        return self._texts[row // _BLOCK].split("\0")[row % _BLOCK]


def _parsed(cells: Sequence[str], text: str) -> Array | None:
    """The cells as numbers, or None if one is not a number."""
    try:
        plain = np.fromiter(map(float, cells), np.float64, len(cells))
    except ValueError:
        pass
    else:
        if "_" not in text and not np.isnan(plain).any():
            return plain
    return parse_numbers(clean(cells))


def _texts(joined: list[str]) -> Array:
    return clean("\0".join(joined).split("\0"))
