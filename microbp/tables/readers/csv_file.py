"""Text files: CSV and similar formats. This file splits text into lines and cells; table.py interprets the cells.

A column is numeric if all its cells are numbers or missing. The strings are kept in any case.
"""

from __future__ import annotations

import csv
import functools
import io
import itertools
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from ...core.text import counted
from ...data.arrays import Array
from .opening import opened
from .table import Table, Whole, Written, clean, column_names, parse_numbers, row_place, to_number

_SEPARATORS = ",;\t|"
_QUOTED = re.compile(r'"[^"]*"')
_UNDECODED = re.compile("[\udc80-\udcff]")  # the characters that stand for bytes that are not UTF-8
_QUOTES = 'a quoted cell must end with a quote, and a quote inside it must be written ""'
_BLOCK = 256  # rows converted to columns at a time; they fit into the processor's cache


def read(path: Path) -> Whole:
    """All rows of a file. For an invalid row, a ValueError names it."""
    return Whole(next(pieces(path, sys.maxsize)))


def pieces(path: Path, most: int) -> Iterator[Table]:
    """The rows of a file, in tables of at most `most` rows; at least one table."""
    where = str(path)
    with io.TextIOWrapper(opened(path), "utf-8-sig", "surrogateescape", newline="") as lines:
        names, separator, header = _header(where, lines)
        reader = csv.reader(lines, delimiter=separator, skipinitialspace=True, strict=True)
        rows = _rows(reader, len(names))
        first, count, before = 0, most, header
        while count == most:
            columns, count = [_Column(where, name, separator) for name in names], 0
            while block := _block(where, rows, first + count, min(_BLOCK, most - count)):
                before = header if reader.line_num == first + count + len(block) else 0
                _require_width(where, block, len(names), first + count, before)
                for column, cells in zip(columns, zip(*block)):
                    column.add(cells, first + count, before)
                count += len(block)
            if count:
                yield Table(where, {column.name: column.whole() for column in columns}, count, first, before)
            elif first == 0:
                raise ValueError(f"{where}: has only one line; the first line must name the columns, and rows must follow")
            first += count


def _header(where: str, lines: io.TextIOWrapper) -> tuple[list[str], str, int]:
    """Returns the column names, the separator (the most frequent one in the header outside quotes), and the header's number of lines."""
    header, count = lines.readline(), 1
    while header.count('"') % 2 and (more := lines.readline()):  # a quoted name that contains a line break
        header, count = header + more, count + 1
    if not header:
        raise ValueError(f"{where}: the file is empty")
    if _UNDECODED.search(header) or "\0" in header:
        raise ValueError(f"{where}: the text is not UTF-8; save the file as UTF-8")
    if not header.strip():
        raise ValueError(f"{where}: the first line is empty; it must name the columns")
    separator = max(_SEPARATORS, key=_QUOTED.sub("", header).count)
    try:
        names = next(csv.reader([header], delimiter=separator, skipinitialspace=True, strict=True))
    except csv.Error as error:
        raise ValueError(f"{where}: the first line cannot be read: {error}; {_QUOTES}") from None
    if all(to_number(name) is not None for name in names):
        raise ValueError(f"{where}: the first line contains only numbers; it must name the columns")
    return column_names(where, names), separator, count


def _rows(lines: Iterable[list[str]], width: int) -> Iterator[list[str]]:
    """The lines that are not empty. In a file with one column, an empty line between others is a row with a missing value."""
    empty = 0
    for row in lines:
        if not row or (len(row) == 1 < width and not row[0].strip()):
            empty += 1
            continue
        if width == 1:
            yield from [[""]] * empty
        empty = 0
        yield row


def _block(where: str, rows: Iterator[list[str]], first: int, most: int) -> list[list[str]]:
    """The next rows, at most `most`. first: the index of the first of them."""
    block: list[list[str]] = []
    try:
        block.extend(itertools.islice(rows, most))
    except csv.Error as error:
        raise ValueError(f"{where}, row {first + len(block) + 1}: cannot be read: {error}; {_QUOTES}") from None
    return block


def _require_width(where: str, block: list[list[str]], width: int, first: int, before: int) -> None:
    """Refuses rows that do not have a cell for each column."""
    if {width}.issuperset(map(len, block)):
        return
    row = next(row for row, cells in enumerate(block) if len(cells) != width)
    what = f"has {counted(len(block[row]), 'cell')}, but the first line names {counted(width, 'column')}"
    raise ValueError(f"{row_place(where, first + row, before)}: {what}; correct this row or the first line")


class _Column:
    """The cells of a column.

    _texts: strings, each with the cells of a block joined by null characters. _numbers: an array for each block, or None after the first
    cell that is neither a number nor missing.
    """

    def __init__(self, where: str, name: str, separator: str) -> None:
        self.name = name
        self._where = where
        self._has_decimal_commas = separator == ";"  # files with decimal commas use this separator
        self._texts: list[str] = []
        self._numbers: list[Array] | None = []

    def add(self, cells: Sequence[str], first: int, before: int) -> None:
        """Adds the cells of the rows starting at `first`. before: as in Table."""
        text = "\0".join(cells)
        if not text.isascii() and (wrong := _UNDECODED.search(text)):
            self._refuse(first + text.count("\0", 0, wrong.start()), before, "the text is not UTF-8; save the file as UTF-8")
        if text.count("\0") >= len(cells):
            row = first + next(row for row, cell in enumerate(cells) if "\0" in cell)
            self._refuse(row, before, "contains a zero byte; use a text file")
        self._texts.append(text)
        if self._numbers is not None:
            numbers = self._parsed(cells, text)
            if numbers is None:
                self._numbers = None
            else:
                self._numbers.append(numbers)

    def _refuse(self, row: int, before: int, why: str) -> None:
        raise ValueError(f"{row_place(self._where, row, before)}, column {self.name!r}: {why}")

    def whole(self) -> Array | Written:
        """The column of all blocks: numbers if each cell is a number or missing, else strings."""
        texts = functools.partial(_texts, self._texts, self._has_decimal_commas)
        return texts() if self._numbers is None else Written(np.concatenate(self._numbers), texts)

    def _parsed(self, cells: Sequence[str], text: str) -> Array | None:
        """The cells as numbers, or None if one is not a number."""
        try:
            plain = np.fromiter(map(float, cells), np.float64, len(cells))
        except ValueError:
            pass
        else:
            if "_" not in text and not np.isnan(plain).any():
                return plain
        return parse_numbers(clean(cells, self._has_decimal_commas))


def _texts(joined: list[str], has_decimal_commas: bool) -> Array:
    return clean("\0".join(joined).split("\0"), has_decimal_commas)
