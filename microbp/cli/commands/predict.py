"""`microbp predict`: predictions of a saved network for rows of a table, as CSV or JSON lines."""

from __future__ import annotations

import contextlib
import csv
import itertools
import json
import math
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from ...core.whole_file import replacing
from ...tables.fitted.table_model import TableModel, predictions
from ...tables.readers.errors import ArgumentError
from ...tables.readers.sources import find
from ...tables.readers.table import Table
from ..files import check_writable, model_and_data
from ..options import PredictOptions

_CONTROL = re.compile(r"[^\n\t -~\xa0-\U0010ffff]")  # control characters, except the line end and the tab, which are usual in cells


def run(options: PredictOptions) -> None:
    """Writes a prediction for every row."""
    check_writable(options.force, [options.model, options.data], {"out": options.out})
    model, data = model_and_data(options)
    if model.target in options.id:
        raise ArgumentError("id", f"{model.target!r} is the target, and the name of the predictions; omit it")
    pieces = predictions(model, find(data, stream=options.stream, header=False if options.no_header else None), strict=options.strict)
    table, outputs = next(pieces)  # raises an error for wrong columns before the output file is created
    for name in options.id:
        table.require(name, "id")
    with _opened(options.out) as file:
        write = _write_json if options.json else _write_csv
        write(file, _Results(model, options.id), itertools.chain([(table, outputs)], pieces))


@contextlib.contextmanager
def _opened(path: Path | None) -> Iterator[TextIO]:
    if path is None:
        yield sys.stdout
    else:
        with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
            yield file


class _Results:
    """Turns outputs into results: a class and the probabilities or scores of all classes, or a number. And the columns of --id."""

    def __init__(self, model: TableModel, ids: tuple[str, ...]) -> None:
        self.target = model.preparation.target
        self.ids = ids
        self.prefix, self.key = ("p", "probabilities") if model.has_probabilities else ("score", "scores")

    def rows(self, pieces: Iterator[tuple[Table, Any]]) -> Iterator[tuple[list[str | None], Any, list[float]]]:
        """Yields for each row: the cells of --id, a label or number, and a list of probabilities or scores (empty for a number)."""
        for table, outputs in pieces:
            ids = [table.texts(name).tolist() for name in self.ids]
            for row, (label, values) in enumerate(self._predicted(outputs)):
                yield [column[row] for column in ids], label, values

    def _predicted(self, outputs: Any) -> Iterator[tuple[Any, list[float]]]:
        """Yields labels and values, rounded to about the precision of float32."""
        if not self.target.classes:
            numbers = self.target.numbers(outputs[:, 0])
            for number, moved in zip(numbers.tolist(), (numbers - (0.0 if self.target.log else self.target.centre)).tolist()):
                digits = 6 - math.floor(math.log10(abs(moved))) if moved and math.isfinite(moved) else None
                yield number if digits is None else round(number, digits), []
            return
        for row, best in zip(outputs.tolist(), outputs.argmax(axis=1).tolist()):
            yield self.target.classes[best], [float(f"{value:.6g}") for value in row]


def _write_csv(file: TextIO, results: _Results, pieces: Iterator[tuple[Table, Any]]) -> None:
    rows = csv.writer(file, lineterminator="\n")
    names = [*results.ids, results.target.name]
    rows.writerow([*map(_cell, names), *(f"{results.prefix}({_cell(name)})" for name in results.target.classes)])
    rows.writerows([*map(_cell, ids), _cell(label), *map(repr, values)] for ids, label, values in results.rows(pieces))


def _cell(value: Any) -> Any:
    """A value for a cell, with control characters escaped as repr does, because a terminal would obey them."""
    return _CONTROL.sub(lambda found: repr(found[0])[1:-1], value) if isinstance(value, str) else value


def _write_json(file: TextIO, results: _Results, pieces: Iterator[tuple[Table, Any]]) -> None:
    for ids, label, values in results.rows(pieces):
        row = {**dict(zip(results.ids, ids)), results.target.name: label}
        if values:
            # setdefault: keeps the label if the target column is named like the key, "probabilities" or "scores"
            row.setdefault(results.key, dict(zip(results.target.classes, values)))
        line = json.dumps(row, ensure_ascii=False)
        file.write(_CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", line) + "\n")
