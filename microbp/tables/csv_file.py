"""Text files: CSV and its relatives. What stands between cells and lines is decided here; what the text in a cell means, in table.py.

All cells of a column together decide whether it holds numbers; until then they are texts.
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

from ..data.arrays import Array
from .opening import opened
from .table import Table, Whole, Written, clean, column_names, parse_numbers, to_number

_SEPARATORS = ",;\t|"
_QUOTED = re.compile(r'"[^"]*"')
_UNDECODED = re.compile("[\udc80-\udcff]")  # what bytes that are not UTF-8 are read as
_QUOTES = 'a quoted cell must be closed, and a quote in it be written ""'
_BLOCK = 256  # rows that are made into columns together: few enough to stay in the cache


def read(path: Path) -> Whole:
    """All rows of a file; ValueError names the row that is wrong."""
    table = next(pieces(path, sys.maxsize), None)
    if table is None:
        raise ValueError(f"{path}: it has no rows")
    return Whole(table)


def pieces(path: Path, most: int) -> Iterator[Table]:
    """The rows of a file in tables of at most `most`."""
    where = str(path)
    with io.TextIOWrapper(opened(path), "utf-8-sig", "surrogateescape", newline="") as lines:
        names, separator = _header(where, lines)
        rows = _rows(csv.reader(lines, delimiter=separator, skipinitialspace=True, strict=True), len(names))
        first, count = 0, most
        while count == most:
            columns, count = [_Column(where, name, separator) for name in names], 0
            while count < most and (block := _block(where, rows, len(names), first + count, min(_BLOCK, most - count))):
                for column, cells in zip(columns, zip(*block)):
                    column.add(cells, first + count)
                count += len(block)
            if count:
                yield Table(where, {column.name: column.whole() for column in columns}, count, first)
            first += count


def _header(where: str, lines: io.TextIOWrapper) -> tuple[list[str], str]:
    """The names of the columns, and what stands between cells: the separator that the header has most of outside of quotes."""
    header = lines.readline()
    while header.count('"') % 2 and (more := lines.readline()):  # a quoted name goes on in the next line
        header += more
    if not header:
        raise ValueError(f"{where}: there is nothing in it")
    if _UNDECODED.search(header) or "\0" in header:
        raise ValueError(f"{where}: its text is not UTF-8: save it as UTF-8")
    if not header.strip():
        raise ValueError(f"{where}: its first line is empty; it must name the columns")
    separator = max(_SEPARATORS, key=_QUOTED.sub("", header).count)
    try:
        names = next(csv.reader([header], delimiter=separator, skipinitialspace=True, strict=True))
    except csv.Error as error:
        raise ValueError(f"{where}: its first line cannot be read: {error}: {_QUOTES}") from None
    if all(to_number(name) is not None for name in names):
        raise ValueError(f"{where}: its first line holds numbers only; it must name the columns")
    return column_names(where, names), separator


def _rows(lines: Iterable[list[str]], width: int) -> Iterator[list[str]]:
    """The lines in which something stands. In a file of one column an empty one between them is a row too: its value is missing."""
    empty = 0
    for row in lines:
        if not row or (len(row) == 1 < width and not row[0].strip()):
            empty += 1
            continue
        if width == 1:
            yield from [[""]] * empty
        empty = 0
        yield row


def _block(where: str, rows: Iterator[list[str]], width: int, first: int, most: int) -> list[list[str]]:
    """The next rows, as many cells in each as there are columns; `first` is the number of the first of them, from 0."""
    block: list[list[str]] = []
    try:
        block.extend(itertools.islice(rows, most))
    except csv.Error as error:
        raise ValueError(f"{where}, row {first + len(block) + 1}: it cannot be read: {error}: {_QUOTES}") from None
    if {width}.issuperset(map(len, block)):
        return block
    for number, row in enumerate(block, first + 1):
        if len(row) > width:
            raise ValueError(
                f"{where}, row {number}: it has {len(row)} cells, and the first line names {width} columns: correct one of them"
            )
    return [row + [""] * (width - len(row)) for row in block]


class _Column:
    """The cells of a column: their texts, joined by zero bytes, and the numbers as long as all of them are numbers or missing."""

    def __init__(self, where: str, name: str, separator: str) -> None:
        self.name = name
        self._where = where
        self._has_decimal_commas = separator == ";"  # as it is where commas are decimal
        self._texts: list[str] = []
        self._numbers: list[Array] | None = []

    def add(self, cells: Sequence[str], first: int) -> None:
        """Adds the cells of the rows from `first`."""
        text = "\0".join(cells)
        if not text.isascii() and (wrong := _UNDECODED.search(text)):
            self._refuse(first + text.count("\0", 0, wrong.start()), "its text is not UTF-8: save the file as UTF-8")
        if text.count("\0") >= len(cells):
            self._refuse(first + next(row for row, cell in enumerate(cells) if "\0" in cell), "it holds a zero byte, which no text does")
        self._texts.append(text)
        if self._numbers is not None:
            numbers = self._parsed(cells, text)
            if numbers is None:
                self._numbers = None
            else:
                self._numbers.append(numbers)

    def _refuse(self, row: int, why: str) -> None:
        raise ValueError(f"{self._where}, row {row + 1}, column {self.name!r}: {why}")

    def whole(self) -> Array | Written:
        """All of it."""
        texts = functools.partial(_texts, self._texts, self._has_decimal_commas)
        return texts() if self._numbers is None else Written(np.concatenate(self._numbers), texts)

    def _parsed(self, cells: Sequence[str], text: str) -> Array | None:
        """The numbers that cells are, or None."""
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
