"""`microbp predict` and `microbp info`: what a saved network makes of raw rows, and what it says of itself."""

from __future__ import annotations

import argparse
import contextlib
import csv
import itertools
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from . import sources
from .network import Network, load
from .preparation import Category, Number, Preparation, Target
from .table import Table
from .train_command import NOTE, check_writable

_SHOWN = 20  # columns that info describes


def run(arguments: argparse.Namespace) -> None:
    """Writes a prediction for every row."""
    check_writable(arguments.force, **{"--out": arguments.out})
    net = load(arguments.model, n_threads=arguments.threads)
    preparation = _preparation(net)
    if preparation is None:
        raise ValueError(
            f"{arguments.model}: it does not say which columns it takes: use net.predict in Python, or train it by microbp train"
        )
    tables = sources.stream(arguments.data)() if arguments.stream else iter([_rows(arguments.data)])
    blocks = (net.predict(preparation.matrix(table), link=True) for table in tables)
    first = next(blocks, None)  # what is wrong with the columns is told before a file is made
    if first is None:
        raise ValueError(f"{arguments.data}: it has no rows")
    with _opened(arguments.out) as file:
        write = _write_json if arguments.json else _write_csv
        write(file, preparation.target, itertools.chain([first], blocks))


def _rows(data: str) -> Table:
    """All rows of a file that is not split."""
    source = sources.read(data)
    return source.train if source.test is None else source.test


def info(arguments: argparse.Namespace) -> None:
    """Prints the network, and the columns that it takes."""
    net = load(arguments.file)
    print(net)
    preparation = _preparation(net)
    if preparation is not None:
        print("\n".join(_described(preparation)))


def _preparation(net: Network) -> Preparation | None:
    said = net.notes.get(NOTE)
    try:
        return None if said is None else Preparation.from_dict(said)
    except (KeyError, TypeError, ValueError, AttributeError):
        raise ValueError(
            f"the file's notes on its columns ({NOTE}) cannot be read: another version of microbp may have written them"
        ) from None


def _described(preparation: Preparation) -> Iterator[str]:
    target = preparation.target
    yield f"predicts {target.name}: {', '.join(target.classes)}" if target.classes else f"predicts {target.name}, a number"
    for feature in preparation.features[:_SHOWN]:
        yield f"  {feature.name}: {_feature(feature)}"
    if len(preparation.features) > _SHOWN:
        yield f"  and {len(preparation.features) - _SHOWN} columns more"


def _feature(feature: Number | Category) -> str:
    if isinstance(feature, Number):
        scaled = "a number" if (feature.centre, feature.scale) == (0, 1) else f"a number, ({feature.centre:.6g} +- {feature.scale:.6g})"
        return f"{scaled}{', or missing' * feature.missing}"
    levels = ", ".join(level or "missing" for level in feature.levels)
    return f"one of {levels}{', or another' * feature.other}"


# ---- writing ----


@contextlib.contextmanager
def _opened(path: Path | None) -> Iterator[TextIO]:
    if path is None:
        yield sys.stdout
    else:
        with path.open("w", encoding="utf-8", newline="") as file:
            yield file


def _write_csv(file: TextIO, target: Target, blocks: Iterator[Any]) -> None:
    rows = csv.writer(file, lineterminator="\n")
    rows.writerow([target.name, *(f"p({name})" for name in target.classes)])
    for outputs in blocks:
        rows.writerows([label, *map(repr, values)] for label, values in _labelled(target, outputs))


def _write_json(file: TextIO, target: Target, blocks: Iterator[Any]) -> None:
    for outputs in blocks:
        for label, values in _labelled(target, outputs):
            said = {target.name: label} | ({"probabilities": dict(zip(target.classes, values))} if target.classes else {})
            file.write(json.dumps(said, ensure_ascii=False) + "\n")


def _labelled(target: Target, outputs: Any) -> Iterator[tuple[Any, list[float]]]:
    """The class and its probabilities, or the number, of each row; as many digits as float32 has."""
    if not target.classes:
        numbers = outputs[:, 0].astype(float) * target.scale + target.centre
        yield from ((float(f"{number:.7g}"), []) for number in numbers)
        return
    for row, best in zip(outputs.tolist(), outputs.argmax(axis=1).tolist()):
        yield target.classes[best], [float(f"{value:.6g}") for value in row]
