"""`microbp predict`: what a saved network makes of raw rows, as CSV or JSON lines."""

from __future__ import annotations

import contextlib
import csv
import itertools
import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from ..core.whole_file import replacing
from ..network.network import Network, load
from ..tables import sources
from ..tables.preparation import Preparation, Target
from .files import check_writable
from .options import PredictOptions


def run(options: PredictOptions) -> None:
    """Writes a prediction for every row."""
    check_writable(options.force, [options.model, options.data], {"out": options.out})
    net = load(options.model, n_threads=options.threads)
    preparation = Preparation.of(net, options.model)
    if preparation is None:
        raise ValueError(
            f"{options.model}: it does not say which columns it takes: use net.predict in Python, or train it by microbp train"
        )
    source = sources.find(options.data, stream=options.stream)
    blocks = (net.predict(preparation.matrix(table)) for table in (source.tests or source.tables)())
    first = next(blocks, None)  # wrong columns are refused before a file is made
    if first is None:
        raise ValueError(f"{options.data}: it has no rows")
    with _opened(options.out) as file:
        write = _write_json if options.json else _write_csv
        write(file, _Answer(preparation.target, net), itertools.chain([first], blocks))


@contextlib.contextmanager
def _opened(path: Path | None) -> Iterator[TextIO]:
    if path is None:
        yield sys.stdout
    else:
        with replacing(path) as beside, beside.open("w", encoding="utf-8", newline="") as file:
            yield file


class _Answer:
    """What outputs say of rows: a class and its probabilities or scores, or a number."""

    def __init__(self, target: Target, net: Network) -> None:
        self.target = target
        is_probable = net.outputs[0].activation in ("softmax", "sigmoid")
        self.prefix, self.key = ("p", "probabilities") if is_probable else ("score", "scores")

    def rows(self, outputs: Any) -> Iterator[tuple[Any, list[float]]]:
        """With as many digits as float32 has."""
        if not self.target.classes:
            for moved in (outputs[:, 0].astype(float) * self.target.scale).tolist():
                digits = 6 - math.floor(math.log10(abs(moved))) if moved and math.isfinite(moved) else None
                number = moved + self.target.centre
                yield number if digits is None else round(number, digits), []
            return
        for row, best in zip(outputs.tolist(), outputs.argmax(axis=1).tolist()):
            yield self.target.classes[best], [float(f"{value:.6g}") for value in row]


def _write_csv(file: TextIO, answer: _Answer, blocks: Iterator[Any]) -> None:
    rows = csv.writer(file, lineterminator="\n")
    rows.writerow([answer.target.name, *(f"{answer.prefix}({level})" for level in answer.target.classes)])
    for outputs in blocks:
        rows.writerows([label, *map(repr, values)] for label, values in answer.rows(outputs))


def _write_json(file: TextIO, answer: _Answer, blocks: Iterator[Any]) -> None:
    for outputs in blocks:
        for label, values in answer.rows(outputs):
            said = {answer.target.name: label}
            if values:
                said.setdefault(answer.key, dict(zip(answer.target.classes, values)))  # a target may have that name
            file.write(json.dumps(said, ensure_ascii=False) + "\n")
