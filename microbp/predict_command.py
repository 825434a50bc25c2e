"""`microbp predict` and `microbp info`: what a saved network makes of raw rows, and what it says of itself."""

from __future__ import annotations

import argparse
import contextlib
import csv
import itertools
import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from . import optimizers, sources
from .network import Network, load
from .preparation import Category, Number, Preparation, Target
from .specs import Loss
from .table import Table
from .train_command import NOTE, check_writable
from .trainer import Trainer
from .whole_file import replacing

_SHOWN = 20  # columns that info describes


def run(arguments: argparse.Namespace) -> None:
    """Writes a prediction for every row."""
    check_writable(arguments.force, [arguments.model, arguments.data], {"--out": arguments.out})
    net = load(arguments.model, n_threads=arguments.threads)
    preparation = _preparation(net, arguments.model)
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
        write(file, _Answer(preparation.target, net), itertools.chain([first], blocks))


def _rows(data: str) -> Table:
    """All rows of a file that is not split."""
    source = sources.read(data)
    return source.train if source.test is None else source.test


def info(arguments: argparse.Namespace) -> None:
    """Prints the network, and the columns that it takes."""
    net, trainer = _opened_model(arguments.file)
    print(net)
    if trainer:
        losses = ", ".join(loss.text for loss in trainer.losses if isinstance(loss, Loss))
        print(f"a trainer after {trainer.epoch} epochs, {trainer.steps} updates: {losses}, {optimizers.parse(trainer.optimizer).text}")
    preparation = _preparation(net, arguments.file)
    if preparation is not None:
        print("\n".join(_described(preparation)))


def _opened_model(path: Path) -> tuple[Network, Trainer | None]:
    """The network of a file, and the trainer if it has one."""
    with contextlib.suppress(ValueError):
        trainer = Trainer.load(path)
        return trainer.net, trainer
    return load(path), None


def _preparation(net: Network, path: Path) -> Preparation | None:
    said = net.notes.get(NOTE)
    if said is None:
        return None
    try:
        preparation = Preparation.from_dict(said)
        if (preparation.width, len(preparation.target.classes) or 1) != (net.inputs[0].width, net.outputs[0].width):
            raise ValueError("it is of another network")
        return preparation
    except (KeyError, TypeError, ValueError, AttributeError):
        raise ValueError(
            f"{path}: its notes on its columns ({NOTE}) cannot be read: use the version of microbp that wrote them, or train it again"
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
    levels = ", ".join((repr(level) if "," in level else level) or "missing" for level in feature.levels)
    return f"one of {levels}{', or another' * feature.other}"


# ---- writing ----


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
                said.setdefault(answer.key, dict(zip(answer.target.classes, values)))  # a target of that name is told all the same
            file.write(json.dumps(said, ensure_ascii=False) + "\n")
