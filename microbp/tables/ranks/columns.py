"""The columns of all ranks: one is gathered when it is looked at, as it would be in a table that one process has read."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace

import numpy as np

from ...data.arrays import Array
from ...ranks.ranks import Ranks
from ..readers.table import LazyColumns, Table, Unusable, Written, parse_numbers

_EXACT = 2**53
_NONE, _EMPTY, _ARRAY, _FLAGS, _HUGE, _WRITTEN, _TEXTS = range(7)  # what a rank has of a column: no rows, missing values, numbers of an
# array, booleans, whole numbers that float64 does not hold, numbers as texts, texts


def joined(ranks: Ranks, own: Table) -> Table:
    """The table of all rows, in rank order, of which this rank has `own`. A column is gathered when it is looked at, by all ranks."""
    names, counts = [*own.columns], [int(count) for count, _ in ranks.exchange(own.count)]
    found = [json.loads(one) if one else names for one in ranks.gather_bytes(json.dumps(names).encode() if own.count else b"")]
    for rank, others in enumerate(found):
        if others != (first := next((found[i] for i, count in enumerate(counts) if count), names)):
            raise ValueError(f"{own.where}: rank {rank} has the columns {', '.join(others)}, and others have {', '.join(first)}")
    names = next((found[i] for i, count in enumerate(counts) if count), names)
    starts = [0, *itertools.accumulate(counts)]

    def column(name: str) -> Array | Written | Unusable:
        return _joined(ranks, own, name, starts)

    columns = LazyColumns(names, column, own, starts[ranks.rank])
    return replace(own, columns=columns, count=starts[-1], first=0, rows=None)


def own_rows(table: Table) -> Table:
    """The rows of this rank, of rows taken of a table of all."""
    columns = table.columns
    if not isinstance(columns, LazyColumns):
        return table
    own = columns.own
    if table.rows is not None:
        mine = table.rows - columns.first
        own = own.take(mine[(mine >= 0) & (mine < own.count)])
    return replace(own, readings=table.readings, can_drop=table.can_drop)


def _joined(ranks: Ranks, own: Table, name: str, starts: list[int]) -> Array | Written | Unusable:
    column = own.columns[name] if own.count else np.zeros(0)
    kind, text = (_NONE, "") if not own.count else (_TEXTS, column.why) if isinstance(column, Unusable) else _kind(own, name)
    told = [(int(code), one) for (code, _), one in zip(ranks.exchange(kind), ranks.gather_bytes(text.encode()))]
    unusable = next((one.decode() for code, one in told if code == _TEXTS and one), None)
    if unusable is not None:
        return Unusable(unusable)
    kinds = {code for code, _ in told} - {_NONE}

    def texts() -> Array:
        return _gathered_texts(ranks, own.strings(name) if own.count else np.empty(0, object))

    def one_text(row: int) -> str | None:
        where = next(rank for rank, end in enumerate(starts[1:]) if row < end)
        mine = own.columns[name] if where == ranks.rank else None
        found = (
            "" if mine is None else mine.text(row - starts[where]) if isinstance(mine, Written) else own.strings(name)[row - starts[where]]
        )
        return ranks.gather_bytes((found or "").encode("utf-8", "surrogatepass"))[where].decode("utf-8", "surrogatepass") or None

    if _TEXTS in kinds or (_FLAGS in kinds and len(kinds) > 1) or (_HUGE in kinds and kinds & {_EMPTY}) or kinds == {_EMPTY}:
        found = texts()
        numbers = None if _TEXTS in kinds else parse_numbers(found)
        return found if numbers is None else Written(numbers, lambda: found)
    kept = [np.dtype(one.decode()) for code, one in told if code in (_ARRAY, _FLAGS, _HUGE)]
    is_written = _WRITTEN in kinds
    dtype = np.dtype(float) if is_written or _EMPTY in kinds else np.result_type(*kept)
    numbers = column.numbers if isinstance(column, Written) else np.asarray(column)
    values = np.concatenate(ranks.gather_arrays(numbers.astype(dtype, copy=False)))
    return Written(values, texts, one_text) if is_written else values


def _kind(own: Table, name: str) -> tuple[int, str]:
    """What this rank has of a column, and the type of an array."""
    column = own.columns[name]
    if isinstance(column, Written):
        is_empty = bool(np.isnan(column.numbers).all()) and not any(column.texts().tolist())
        return (_EMPTY if is_empty else _WRITTEN), ""
    assert isinstance(column, np.ndarray)
    if column.dtype == object:
        return _TEXTS, ""
    if column.dtype == bool:
        return _FLAGS, column.dtype.str
    is_huge = column.dtype.kind in "iu" and max(abs(int(column.min())), abs(int(column.max()))) > _EXACT
    return (_HUGE if is_huge else _ARRAY), column.dtype.str


def _gathered_texts(ranks: Ranks, own: Array) -> Array:
    """The texts of all ranks: each different one of a rank travels once."""
    places: dict[str | None, int] = {}
    codes = np.array([places.setdefault(text, len(places)) for text in own.tolist()], np.int32)
    words = [json.loads(one) for one in ranks.gather_bytes(json.dumps([*places]).encode())]
    parts = [np.array([*those, None], object)[of_rank] for those, of_rank in zip(words, ranks.gather_arrays(codes))]
    return np.concatenate(parts)
