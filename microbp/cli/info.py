"""`microbp info`: what a saved network, or trainer, says of itself."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from ..core.specs import Loss
from ..network.network import Network, load
from ..settings import optimizers
from ..tables.preparation import Category, Number, Preparation
from ..training.trainer import Trainer
from .options import InfoOptions

_SHOWN = 20  # columns that are described


def run(options: InfoOptions) -> None:
    """Prints the network, the trainer if there is one, and the columns that the network takes."""
    net, trainer = _opened(options.file)
    print(net)
    if trainer:
        losses = ", ".join(loss.text for loss in trainer.losses if isinstance(loss, Loss))
        print(f"a trainer after {trainer.epoch} epochs, {trainer.steps} updates: {losses}, {optimizers.parse(trainer.optimizer).text}")
    preparation = Preparation.of(net, options.file)
    if preparation is not None:
        print("\n".join(_described(preparation)))


def _opened(path: Path) -> tuple[Network, Trainer | None]:
    """The network of a file, and the trainer if it has one."""
    with contextlib.suppress(ValueError):
        trainer = Trainer.load(path)
        return trainer.net, trainer
    return load(path), None


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
