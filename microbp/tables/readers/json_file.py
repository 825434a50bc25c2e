"""JSON: a list of objects or an object of lists, as pandas writes them, and JSON lines, with an object per line.

Objects are rows. A key that an object does not have is a missing value. An object inside an object becomes columns with names such as a.b,
ten levels deep.
"""

from __future__ import annotations

import io
import itertools
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from . import frames
from .opening import Share, lines_before, opened, span
from .table import Table, Whole, row_place

_DEPTH = 10  # objects inside objects inside ...
_FORMS = "it must be a list of objects, an object of lists, or JSON lines"


def read(path: Path) -> Whole:
    """All rows of a JSON document, or of JSON lines."""
    with opened(path) as file:
        content = file.read()
    if not content.strip():
        raise ValueError(f"{path}: the file is empty")
    try:
        data = _PARSER.decode(content.decode(json.detect_encoding(content)))
    except json.JSONDecodeError as error:
        if error.msg == "Extra data":
            return read_lines(path)
        raise ValueError(f"{path}, line {error.lineno}: is not JSON: {error.msg} (column {error.colno})") from None
    except UnicodeDecodeError:
        raise ValueError(f"{path}: the text is not UTF-8; save the file as UTF-8") from None
    return Whole(_document(str(path), data))


def _document(where: str, data: Any) -> Table:
    if isinstance(data, list):
        rows = [_flat(row_place(where, i, 0), row) for i, row in enumerate(data)]
        return _table(where, rows, _names(rows))
    if not isinstance(data, dict):
        raise ValueError(f"{where}: contains no table; {_FORMS}")
    if isinstance(data.get("columns"), list) and isinstance(data.get("data"), list):  # pandas, orient="split"
        return _split(where, data["columns"], data["data"])
    kinds = set(map(type, data.values()))
    if kinds == {dict}:  # pandas: columns of cells by row if the inner keys count the rows or the outer ones do not, else rows
        keys = dict.fromkeys(key for column in data.values() for key in column)
        if not _counts(keys) and (_counts(data) or len(data) > len(keys)):  # orient="index"
            return _document(where, [*data.values()])
        return frames.from_columns(where, [(name, [column.get(key) for key in keys]) for name, column in data.items()])
    if kinds == {list} and not any(isinstance(value, dict) for column in data.values() for value in column):
        return frames.from_columns(where, [*data.items()])
    if not kinds & {list, dict}:
        return _document(where, [data])
    inner = next((name for name, value in data.items() if isinstance(value, list) and value and isinstance(value[0], dict)), None)
    raise ValueError(f"{where}: contains no table; {_FORMS}{f'; save the list in {inner!r} alone' if inner else ''}")


def _counts(keys: Iterable[str]) -> bool:
    """Whether keys are the numbers of rows: 0, 1, 2, ..."""
    return all(key == str(i) for i, key in enumerate(keys))


def _split(where: str, names: list[Any], rows: list[Any]) -> Table:
    for i, row in enumerate(rows):
        if not isinstance(row, list) or len(row) != len(names):
            raise ValueError(f"{row_place(where, i, 0)}: must be a list of {len(names)} values, as many as there are columns")
    cells: Sequence[Any] = [*zip(*rows)] or [()] * len(names)
    return frames.from_columns(where, [*zip(names, cells)])


# ---- lines ----


def read_lines(path: Path) -> Whole:
    """All rows of JSON lines."""
    rows = [*_rows(path)]
    return Whole(_table(str(path), rows, _names(rows)))


def pieces(path: Path, most: int) -> Iterator[Table]:
    """The rows of JSON lines, in tables of at most `most` rows. Reads the file twice: the first time to find all keys."""
    names, rows, first = _names(_rows(path)), _rows(path), 0
    while block := [*itertools.islice(rows, most)]:
        yield _table(str(path), block, names, first)
        first += len(block)


def part_rows(path: Path, share: Share) -> tuple[list[dict[str, Any]], list[list[str]]]:
    """The rows of a part of a plain file of JSON lines, and the keys of those that have one which the rows before do not have."""
    begin, end = span(path, share)
    with path.open("rb") as file:
        file.seek(begin)
        content = file.read(end - begin)
    try:
        rows = [*_parsed(path, io.BytesIO(content), 1)]
    except ValueError:
        rows = [*_parsed(path, io.BytesIO(content), 1 + lines_before(path, begin))]  # raises it with the number of the line
    known, new = set[str](), []
    for row in rows:
        if not row.keys() <= known:
            new.append([*row])
            known.update(row)
    return rows, new


def part_table(path: Path, rows: list[dict[str, Any]], keys: Iterable[list[str]]) -> Table:
    """The table of a part. keys: those of all parts."""
    return _table(str(path), rows, _names(map(dict.fromkeys, keys)))


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    with opened(path) as file:
        yield from _parsed(path, file, 1)


def _parsed(path: Path, lines: Iterable[bytes], first: int) -> Iterator[dict[str, Any]]:
    """The rows in lines. first: the number of the first line."""
    for number, line in enumerate(lines, first):
        where = f"{path}, line {number}"
        if not line.strip():
            continue
        try:
            row = _PARSER.decode(line.decode("utf-8-sig"))
        except json.JSONDecodeError as error:
            raise ValueError(f"{where}: is not JSON: {error.msg} (column {error.colno})") from None
        except UnicodeDecodeError:
            raise ValueError(f"{where}: the text is not UTF-8; save the file as UTF-8") from None
        yield _flat(where, row)


# ---- rows ----


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(name for i, (name, _) in enumerate(pairs) if name in dict(pairs[:i]))
        raise ValueError(f"an object has two values for {twice!r}; remove one")
    return found


_PARSER = json.JSONDecoder(object_pairs_hook=_object)


def _flat(where: str, row: Any) -> dict[str, Any]:
    """A row without objects in it: {"a": {"b": 1}} becomes {"a.b": 1}. Objects deeper than _DEPTH stay, and a network cannot use them."""
    if not isinstance(row, dict):
        raise ValueError(f'{where}: must be an object such as {{"a": 1, "b": 2}}')
    flat: dict[str, Any] = row
    for _ in range(_DEPTH):
        if not any(isinstance(value, dict) for value in flat.values()):
            break
        nested = (value.items() if isinstance(value, dict) else [(None, value)] for value in flat.values())
        flat = _object([(name if key is None else f"{name}.{key}", value) for name, values in zip(flat, nested) for key, value in values])
    return flat


def _names(rows: Iterable[dict[str, Any]]) -> list[str]:
    """The keys of all rows. A key that the rows before do not have follows the key that is before it in its own row."""
    names, known = list[str](), set[str]()
    for row in rows:
        if row.keys() <= known:
            continue
        place = 0
        for name in row:
            if name in known:
                place = names.index(name)
            else:
                names.insert(place, name)
            place += 1
        known.update(row)
    return names


def _table(where: str, rows: list[dict[str, Any]], names: list[str], first: int = 0) -> Table:
    return frames.from_columns(where, [(name, [row.get(name) for row in rows]) for name in names], first)
