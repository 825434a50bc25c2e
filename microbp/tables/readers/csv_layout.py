"""The layout of a text file, from its first lines: what to skip, the separator, and whether the first row names the columns."""

from __future__ import annotations

import contextlib
import csv
import itertools
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ...core.text import counted
from .cells import MISSING, readings_of, to_number
from .table import column_names

LINES = 100  # the number of lines that decide the layout
_FEW, _CHARACTERS = 20, 100_000  # of wide tables only so many of these lines: at least 20, or as many as have 100,000 characters
SPACES = " "  # the separator that stands for any number of spaces
_SEPARATORS = ",;\t|"
_QUOTED = re.compile(r'"[^"]*"')
_EXCEL = re.compile(r'"?sep=(.)"?\s*', re.IGNORECASE)  # a line of Excel that names the separator
_WORD = re.compile(r'"[^"]*"|\S+')
_QUOTES = 'a quoted cell must end with a quote, and a quote inside it must be written ""'


@dataclass(frozen=True)
class Layout:
    """How to read a text file. skipped: lines before the header, or before the first row if there is no header. has_end: whether each row
    ends with a separator, so that there is an empty cell after the last column.
    """

    names: list[str]
    separator: str
    skipped: int
    has_header: bool
    assumptions: tuple[str, ...]
    has_end: bool = False

    @property
    def width(self) -> int:
        """The number of cells in a row."""
        return len(self.names) + self.has_end


def find(where: str, lines: Sequence[str], is_tabbed: bool = False, header: bool | None = None) -> Layout:
    """The layout of a file that starts with `lines`. is_tabbed: the name of the file promises tabs. header: whether the first row names the
    columns; None to decide by the types of the cells.
    """
    first, separator, comments, assumptions = _start(lines)
    if first == len(lines):
        raise ValueError(f"{where}: {'has no rows' if lines else 'the file is empty'}")
    lengths = itertools.accumulate(map(len, lines[first:]))
    lines = lines[: first + max(_FEW, sum(length <= _CHARACTERS for length in lengths))]
    if not separator and (above_table := _title(lines[first:])):
        first, assumptions = first + above_table, (*assumptions, "skipped a line above the table")
    separator = separator or _separator(lines[first:], is_tabbed)
    rows = list(_rows(lines[first:], separator))
    if not rows:
        raise ValueError(f"{where}: the first line cannot be read; {_QUOTES}")
    above = next(_rows([comments[-1].strip().lstrip("#")], separator), []) if comments else []
    if header is None and _is_header(above, comments, rows):
        assumptions = ("the names of the columns are in a line that starts with #", *_skipped(comments[:-1]), *assumptions[1:])
        return _layout(above, rows, separator, first, False, assumptions)
    has_header = names_columns(rows) if header is None else header
    if not has_header:
        names = [f"column_{i}" for i in range(1, len(rows[0]) + 1)]
        has_end = _has_end(rows)
        if header is None:
            assumptions += (f"no header row: the columns are {names[0]} ... {names[-1 - has_end]}",)
        return _layout(names[: len(names) - has_end], rows, separator, first, False, assumptions)
    return _layout(rows[0], rows[1:], separator, first, True, assumptions)


def _is_header(above: list[str], comments: list[str], rows: list[list[str]]) -> bool:
    """Whether the comment above the rows names the columns, and the first row does not: it has a number, or # touches the first name and
    the rows contain texts only."""
    if not len(above) == len(rows[0]) > 1 or not names_columns([above, *rows]):
        return False
    is_close = comments[-1][1:2].strip() != "" and all(above) and not any(map(_is_typed, (cell for row in rows for cell in row)))
    return is_close or not names_columns(rows)


def _has_end(rows: list[list[str]]) -> bool:
    """Whether all rows end with a separator."""
    return {len(row) for row in rows} == {len(rows[0])} != {1} and not any(row[-1] for row in rows)


def _layout(names: list[str], rows: list[list[str]], separator: str, first: int, has_header: bool, assumptions: tuple[str, ...]) -> Layout:
    has_end = bool(rows) and _has_end(rows) and len(rows[0]) == len(names) + (names[-1] != "")
    if has_end:
        names = names[: len(rows[0]) - 1]
        assumptions += ("each row ends with a separator: the empty last column is left out",)
    elif rows and {len(row) for row in rows} == {len(names) + 1}:  # the row names of R
        assumptions += ("the rows have one cell more than the header: the first column, column_1, has no name",)
        names = ["", *names]
    names, assumed = column_names(names)
    return Layout(names, separator, first, has_header, assumptions + assumed, has_end)


def _start(lines: Sequence[str]) -> tuple[int, str, list[str], tuple[str, ...]]:
    """The number of lines to skip, the separator if one names it, the comments among them, and what is assumed."""
    separator, comments = "", []
    first = next((i for i, line in enumerate(lines) if line.strip() and line[0] != "#" and not _EXCEL.fullmatch(line)), len(lines))
    for line in lines[:first]:
        if found := _EXCEL.fullmatch(line):
            separator = found[1]
        elif line.strip():
            comments.append(line)
    if first == len(lines) and comments and len(comments) == len([line for line in lines if line.strip()]):
        return 0, separator, [], ()  # all lines start with #, so it is no comment sign
    said = (f"separator: {separator}, named by the first line",) if separator else ()
    return first, separator, comments, (*_skipped(comments), *said)


def _skipped(comments: Sequence[str]) -> tuple[str, ...]:
    return (f"skipped {counted(len(comments), 'comment line')}",) if comments else ()


def spaced(lines: Iterator[str] | Sequence[str]) -> Iterator[str]:
    """Lines with tabs instead of spaces between their words."""
    return ("\t".join(_WORD.findall(line)) + "\n" for line in lines)


def _rows(lines: Sequence[str], separator: str) -> Iterator[list[str]]:
    """The rows in some lines, without empty ones; as many as can be read."""
    reader = csv.reader(
        spaced(lines) if separator == SPACES else lines, delimiter="\t" if separator == SPACES else separator, skipinitialspace=True
    )
    with contextlib.suppress(csv.Error):
        yield from ([cell.strip() for cell in row] for row in reader if any(map(str.strip, row)) or len(row) > 1)


def _title(lines: Sequence[str]) -> int:
    """The number of lines before the table if the first is a title: nothing divides it as the other lines, of three cells or more."""
    header = _QUOTED.sub("", lines[0])
    start = next((i for i, line in enumerate(lines) if i and line.strip()), len(lines))
    good = [mark for mark in _SEPARATORS if _quality(lines[start:], mark)[0]]
    is_title = bool(good) and '"' not in header and not any(mark in header for mark in good) and _separator(lines, False) != SPACES
    rows = list(_rows(lines[start:], max(good, key=lambda mark: _quality(lines[start:], mark)))) if is_title else []
    return start if len(rows) > 1 and min(map(len, rows)) > 2 else 0


def _separator(lines: Sequence[str], is_tabbed: bool) -> str:
    """The separator that occurs outside quotes in the first line, and divides the most lines into equally many cells of clear types."""
    header = _QUOTED.sub("", lines[0])
    candidates = [mark for mark in _SEPARATORS if mark in header]
    if is_tabbed and "\t" in candidates:
        return "\t"
    if candidates:
        return max(candidates, key=lambda mark: (*_quality(lines, mark), header.count(mark)))
    rows = list(_rows(lines, SPACES))
    widths = {len(row) for row in rows[1:]} or {len(rows[0])}
    is_even = len(widths) == 1 and widths <= {len(rows[0]), len(rows[0]) + 1} - {1}  # the header of R has no name for the row names
    is_spaced = is_even and all(_is_typed(row[-1]) or _is_typed(row[0]) for row in rows[1:])
    return SPACES if is_spaced else ","


def _quality(lines: Sequence[str], separator: str) -> tuple[bool, float]:
    """Whether nine of ten lines have equally many cells, and the share of cells that are numbers, dates or missing."""
    rows = list(_rows(lines, separator))
    width, count = Counter(map(len, rows)).most_common(1)[0] if rows else (1, 0)
    cells = [cell for row in rows[1:] if len(row) == width for cell in row]
    return width > 1 and count >= 0.9 * len(rows), sum(map(_is_typed, cells)) / max(len(cells), 1)


def _is_typed(cell: str) -> bool:
    return cell in MISSING or to_number(cell) is not None or bool(readings_of(cell))


def _is_value(cell: str, below: Sequence[str] = ()) -> bool:
    """Whether a cell of the first row is more likely a number or date than a name such as 100m. below: cells of the same column."""
    units = {reading.unit for other in below[:1] for reading in readings_of(other)}
    return any(reading.kind == "date" or not reading.unit.isalpha() or reading.unit in units for reading in readings_of(cell))


def names_columns(rows: list[list[str]]) -> bool:
    """Whether the first row names the columns: a text is above numbers; or all are different texts, and not all occur below."""
    first, below = rows[0], [row for row in rows[1:] if len(row) == len(rows[0])]
    columns = [[cell for cell in column if cell not in MISSING] for column in zip(*below)] or [[] for _ in first]
    typed = [bool(column) and sum(map(_is_typed, column)) >= 0.9 * len(column) for column in columns]
    names = [(cell, column) for cell, column, is_typed in zip(first, columns, typed) if is_typed and cell not in MISSING]
    if any(not _is_value(name, column) for name, column in names):
        return True
    if names or not below:
        return _is_sequence([cell for cell in first if cell]) or (not all(map(_is_value, first)) and not below)
    is_repeated = len(set(filter(None, first))) < len(list(filter(None, first)))
    return not is_repeated and not all(cell in column for cell, column in zip(first, columns))


def _is_sequence(names: Sequence[str]) -> bool:
    """Whether names are 0, 1, 2, ..., as pandas names columns, or end with at least three years in a row."""
    numbers = [int(name) for name in names if name.isascii() and name.isdecimal()]
    if len(numbers) > 1 and numbers == list(range(len(names))):
        return True
    return len(numbers) > 2 and 1900 <= numbers[0] <= 2100 and numbers == list(range(numbers[0], numbers[0] + len(numbers)))
