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

from ..core.whole_file import replacing
from ..network.network import Network, load
from ..tables.preparation import Preparation, Target
from ..tables.readers import sources
from .files import advising, check_writable
from .options import PredictOptions

_CONTROL = re.compile(r"[^\n\t -~\xa0-\U0010ffff]")  # control characters, except the line end and the tab, which are usual in cells


def run(options: PredictOptions) -> None:
    """Writes a prediction for every row."""
    check_writable(options.force, [options.model, options.data], {"out": options.out})
    with advising("give a file written by microbp train"):
        net = load(options.model, n_threads=options.threads)
    preparation = Preparation.of(net, options.model)
    if preparation is None:
        raise ValueError(
            f"{options.model}: contains no column names, because microbp train did not write it; use net.predict in Python, "
            "or train with microbp train"
        )
    source = sources.find(options.data, stream=options.stream)
    blocks = (net.predict(preparation.matrix(table)) for table in (source.tests or source.tables)())
    first = next(blocks, None)  # raises an error for wrong columns before the output file is created
    if first is None:
        raise ValueError(f"{options.data}: the file has no rows")
    with _opened(options.out) as file:
        write = _write_json if options.json else _write_csv
        write(file, _Results(preparation.target, net), itertools.chain([first], blocks))


@contextlib.contextmanager
def _opened(path: Path | None) -> Iterator[TextIO]:
    if path is None:
        yield sys.stdout
    else:
        with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
            yield file


class _Results:
    """Turns outputs into results: a class and the probabilities or scores of all classes, or a number."""

    def __init__(self, target: Target, net: Network) -> None:
        self.target = target
        is_probable = net.outputs[0].activation in ("softmax", "sigmoid")
        self.prefix, self.key = ("p", "probabilities") if is_probable else ("score", "scores")

    def rows(self, outputs: Any) -> Iterator[tuple[Any, list[float]]]:
        """Yields a label or number for each row, with a list of probabilities or scores (empty for a number). Rounds to about the precision
        of float32.
        """
        if not self.target.classes:
            for moved in (outputs[:, 0].astype(float) * self.target.scale).tolist():
                digits = 6 - math.floor(math.log10(abs(moved))) if moved and math.isfinite(moved) else None
                number = moved + self.target.centre
                yield number if digits is None else round(number, digits), []
            return
        for row, best in zip(outputs.tolist(), outputs.argmax(axis=1).tolist()):
            yield self.target.classes[best], [float(f"{value:.6g}") for value in row]


def _write_csv(file: TextIO, results: _Results, blocks: Iterator[Any]) -> None:
    rows = csv.writer(file, lineterminator="\n")
    rows.writerow([_cell(results.target.name), *(f"{results.prefix}({_cell(name)})" for name in results.target.classes)])
    for outputs in blocks:
        rows.writerows([_cell(label), *map(repr, values)] for label, values in results.rows(outputs))


def _cell(value: Any) -> Any:
    """A value for a cell, with control characters escaped as repr does, because a terminal would obey them."""
    return _CONTROL.sub(lambda found: repr(found[0])[1:-1], value) if isinstance(value, str) else value


def _write_json(file: TextIO, results: _Results, blocks: Iterator[Any]) -> None:
    for outputs in blocks:
        for label, values in results.rows(outputs):
            row = {results.target.name: label}
            if values:
                # setdefault: keeps the label if the target column is named like the key, "probabilities" or "scores"
                row.setdefault(results.key, dict(zip(results.target.classes, values)))
            line = json.dumps(row, ensure_ascii=False)
            file.write(_CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", line) + "\n")
