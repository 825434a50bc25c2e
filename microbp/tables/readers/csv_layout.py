"""The layout of a text file, from its first lines: what to skip, the separator, and whether the first row names the columns."""

from __future__ import annotations

import contextlib
import csv
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from .cells import MISSING, readings_of
from .table import column_names

LINES = 100  # the number of lines that decide the layout
SPACES = " "  # the separator that stands for any number of spaces
_SEPARATORS = ",;\t|"
_QUOTED = re.compile(r'"[^"]*"')
_EXCEL = re.compile(r'"?sep=(.)"?\s*', re.IGNORECASE)  # a line of Excel that names the separator
_WORD = re.compile(r'"[^"]*"|\S+')
_QUOTES = 'a quoted cell must end with a quote, and a quote inside it must be written ""'


@dataclass(frozen=True)
class Layout:
    """How to read a text file. skipped: lines before the header, or before the first row if there is no header."""

    names: list[str]
    separator: str
    skipped: int
    has_header: bool
    assumptions: tuple[str, ...]


def find(where: str, lines: Sequence[str], is_tabbed: bool = False, header: bool | None = None) -> Layout:
    """The layout of a file that starts with `lines`. is_tabbed: the name of the file promises tabs. header: whether the first row names the
    columns; None to decide by the types of the cells.
    """
    first, separator, comments, assumptions = _start(lines)
    if first == len(lines):
        raise ValueError(f"{where}: {'has no rows' if lines else 'the file is empty'}")
    if not separator and (above_table := _title(lines[first:])):
        first, assumptions = first + above_table, (*assumptions, "skipped a line above the table")
    separator = separator or _separator(lines[first:], is_tabbed)
    rows = list(_rows(lines[first:], separator))
    if not rows:
        raise ValueError(f"{where}: the first line cannot be read; {_QUOTES}")
    above = next(_rows([comments[-1].strip().lstrip("#")], separator), []) if comments else []
    if header is None and len(above) == len(rows[0]) > 1 and names_columns([above, *rows]) and not names_columns(rows):
        return _layout(above, rows, separator, first, False, assumptions)  # the names are in a comment
    has_header = names_columns(rows) if header is None else header
    if not has_header:
        names = [f"column_{i}" for i in range(1, len(rows[0]) + 1)]
        if header is None:
            assumptions += (f"no header row: the columns are {names[0]} ... {names[-1]}",)
        return Layout(names, separator, first, False, assumptions)
    return _layout(rows[0], rows[1:], separator, first, True, assumptions)


def _layout(names: list[str], rows: list[list[str]], separator: str, first: int, has_header: bool, assumptions: tuple[str, ...]) -> Layout:
    if rows and {len(row) for row in rows} == {len(names) + 1}:  # a column without a name: an empty last one, or the row names of R
        names = [*names, ""] if not any(row[-1] for row in rows) else ["", *names]
    names, assumed = column_names(names)
    return Layout(names, separator, first, has_header, assumptions + assumed)


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
    assumptions = [f"skipped {len(comments)} comment line{'s' * (len(comments) > 1)}"] if comments else []
    return first, separator, comments, (*assumptions, *([f"separator: {separator}, named by the first line"] if separator else []))


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
    widths, typed = {len(row) for row in rows}, [[_is_typed(row[-1]) or _is_typed(row[0]) for row in rows[1:]]]
    is_spaced = len(widths) == 1 and widths != {1} and all(map(all, typed))
    return SPACES if is_spaced else ","


def _quality(lines: Sequence[str], separator: str) -> tuple[bool, float]:
    """Whether nine of ten lines have equally many cells, and the share of cells that are numbers, dates or missing."""
    rows = list(_rows(lines, separator))
    width, count = Counter(map(len, rows)).most_common(1)[0] if rows else (1, 0)
    cells = [cell for row in rows[1:] if len(row) == width for cell in row]
    return width > 1 and count >= 0.9 * len(rows), sum(map(_is_typed, cells)) / max(len(cells), 1)


def _is_typed(cell: str) -> bool:
    return cell in MISSING or any(True for _ in readings_of(cell))


def _is_value(cell: str) -> bool:
    """Whether a cell of the first row is more likely a number or date than a name such as 100m."""
    return any(reading.kind == "date" or not reading.unit.isalpha() for reading in readings_of(cell))


def names_columns(rows: list[list[str]]) -> bool:
    """Whether the first row names the columns: a text is above numbers; or all are different texts, and not all occur below."""
    first, below = rows[0], [row for row in rows[1:] if len(row) == len(rows[0])]
    columns = [[cell for cell in column if cell not in MISSING] for column in zip(*below)] or [[] for _ in first]
    typed = [bool(column) and sum(map(_is_typed, column)) >= 0.9 * len(column) for column in columns]
    names = [cell for cell, is_typed in zip(first, typed) if is_typed and cell not in MISSING]
    if any(not _is_value(name) for name in names):
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
