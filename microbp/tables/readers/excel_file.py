"""Excel workbooks (.xlsx), read by openpyxl. A table starts at the first row of a sheet with more than one cell."""

from __future__ import annotations

import importlib
import io
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from . import csv_layout, frames
from .opening import divide, opened
from .table import Whole

ENDINGS = (".xlsx", ".xlsm")


def read(path: Path, header: bool | None = None) -> Whole:
    """All rows of a sheet: of the named one for a.xlsx/NAME, else of the first. header: whether the first row names the columns; None to
    decide by the types of its cells.
    """
    try:
        openpyxl = importlib.import_module("openpyxl")
    except ImportError:
        raise ImportError("Excel files need openpyxl, which is not installed: python -m pip install openpyxl") from None
    container, name = divide(path)
    with opened(container) as file:
        content = file.read()
    if content.startswith(b"\xd0\xcf\x11\xe0"):
        raise ValueError(f"{path}: is an old Excel file, or has a password; save it as .xlsx without a password")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # openpyxl warns of drawings and rules that it does not read
        book = openpyxl.load_workbook(io.BytesIO(content), read_only=True, data_only=True)
        try:
            sheets = {sheet.title: sheet for sheet in book.worksheets}
            if name and name not in sheets:
                raise ValueError(f"{container}: has no sheet {name!r}; the sheets are {', '.join(sheets)}")
            rows = [*_filled(sheets[name] if name else next(iter(sheets.values())))]
        finally:
            book.close()
    first, others = next(iter(sheets)), [*sheets][1:]
    assumption = f"sheet {first!r}, the first of {len(sheets)}; for another: {path}/{others[0]}" if others and not name else None
    return _whole(str(path), rows, header, () if assumption is None else (assumption,))


def _filled(sheet: Any) -> Iterator[tuple[int, tuple[Any, ...]]]:
    """The rows that are not empty, with their numbers."""
    sheet.reset_dimensions()  # some programs write wrong ones
    for number, row in enumerate(sheet.iter_rows(values_only=True), 1):
        cells = tuple(None if isinstance(cell, str) and not cell.strip() else cell for cell in row)
        if any(cell is not None for cell in cells):
            yield number, cells


def _whole(where: str, rows: list[tuple[int, tuple[Any, ...]]], header: bool | None, assumptions: tuple[str, ...]) -> Whole:
    width = max((_count(cells) for _, cells in rows), default=0)
    titles = next((i for i, (_, cells) in enumerate(rows) if _count(cells) > 1 or width == 1), 0)
    if titles:
        assumptions += (f"skipped {titles} row{'s' * (titles > 1)} above the table",)
    longest = max((len(cells) for _, cells in rows), default=0)
    columns = zip(*((*cells, *[None] * (longest - len(cells))) for _, cells in rows[titles:]))
    used = [column for column in columns if any(cell is not None for cell in column)]
    start = [["" if cell is None else str(cell) for cell in row] for row in zip(*(column[: csv_layout.LINES] for column in used))]
    has_header = csv_layout.names_columns(start) if header is None and start else header
    first = titles + bool(has_header)
    if len(rows) <= first:
        raise ValueError(f"{where}: the sheet has no rows{f'; {assumptions[0]}' if assumptions else ''}")
    names = [column[0] for column in used] if has_header else [f"column_{i}" for i in range(1, len(used) + 1)]
    if not has_header:
        assumptions += (f"no header row: the columns are {names[0]} ... {names[-1]}",)
    found = [("" if name is None else name, column[bool(has_header) :]) for name, column in zip(names, used)]
    table = frames.from_columns(where, found, assumptions=assumptions)
    is_dense = rows[-1][0] - rows[first][0] == len(rows) - first - 1
    return Whole(replace(table, before=rows[first][0] - 1 if is_dense else 0))


def _count(cells: tuple[Any, ...]) -> int:
    return sum(cell is not None for cell in cells)
