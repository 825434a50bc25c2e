"""`microbp info`: describes a saved network or trainer."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from ..core.specs import Loss
from ..core.text import counted, printable
from ..network.network import Network, load
from ..settings import optimizers
from ..tables.date_feature import Date
from ..tables.fitted.report import rounded
from ..tables.model import epochs_done
from ..tables.preparation import Feature, Number, Preparation, Target
from ..training.trainer import Trainer
from .files import advising
from .options import InfoOptions

_SHOWN = 20  # columns to describe


def run(options: InfoOptions) -> None:
    """Prints the network, the trainer if there is one, and the columns that the network uses."""
    net, trainer = _opened(options.file)
    print(net)
    if trainer:
        losses = ", ".join(loss.text for loss in trainer.losses if isinstance(loss, Loss))
        progress = f"{counted(epochs_done(trainer), 'epoch')}, {counted(trainer.steps, 'update')}"
        print(f"trainer: {progress}, loss {losses}, optimizer {rounded(optimizers.parse(trainer.optimizer))}")
    preparation = Preparation.of(net, options.file)
    if preparation is not None:
        print("\n".join(_described(preparation)))


def _opened(path: Path) -> tuple[Network, Trainer | None]:
    """The network in a file, and the trainer if there is one."""
    with contextlib.suppress(ValueError):
        trainer = Trainer.load(path)
        return trainer.net, trainer
    with advising("give a file written by microbp"):
        return load(path), None


def _described(preparation: Preparation) -> Iterator[str]:
    target = preparation.target
    what = f"one of {', '.join(map(printable, target.classes))}" if target.classes else f"a number{_scaling('y', target)}"
    yield f"predicts {printable(target.name)}, {what}, from the columns"
    for feature in preparation.features[:_SHOWN]:
        yield f"  {printable(feature.name)}: {_feature(feature)}"
    if len(preparation.features) > _SHOWN:
        yield f"  and {len(preparation.features) - _SHOWN} more"


def _feature(feature: Feature) -> str:
    if isinstance(feature, Date):
        return f"a time{', or missing' * feature.missing}, used as {', '.join((*feature.linear, *feature.periodic))}"
    if isinstance(feature, Number):
        return f"a number{', or missing' * feature.missing}{_scaling('x', feature)}"
    values = ", ".join((repr(value) if "," in value else printable(value)) or "missing" for value in feature.levels)
    return f"one of {values}{', or another value' * feature.other}"


def _scaling(variable: str, column: Number | Target) -> str:
    if (column.centre, column.scale) == (0, 1):
        return ""
    shift = variable if not column.centre else f"({variable} {'-' if column.centre > 0 else '+'} {abs(column.centre):.6g})"
    return f", scaled to {shift} / {column.scale:.6g}"
