"""`microbp info`: describes a saved network or trainer, and files of other libraries."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from ...core.specs import Loss
from ...core.text import counted, printable
from ...exchange import formats
from ...many.ensemble import Ensemble
from ...many.loading import load
from ...network.network import Network
from ...settings import optimizers
from ...tables.encodings.sparse_columns import described
from ...tables.fitted.report import described_feature, networks, rounded, scaling
from ...tables.model import epochs_done
from ...tables.preparation import Preparation
from ...training.trainer import Trainer
from ..files import advising
from ..options import InfoOptions

_SHOWN = 20  # columns to describe


def run(options: InfoOptions) -> None:
    """Prints the network, the trainer if there is one, and the columns that the network uses."""
    if small := formats.quantized(options.file):
        print(f"{small!r}\n{small.report}")
        return
    net = formats.read(options.file)
    trainer = None
    if net is not None:
        print(f"a file of {'ONNX' if formats.format_of(options.file) == 'onnx' else 'Keras'}, as microbp reads it:")
    else:
        found = _opened(options.file)
        if found is None:
            print("\n".join(formats.tensors(options.file)))
            return
        net, trainer = found
    preparation = Preparation.of(net, options.file)
    print(net if preparation is None else networks(net))
    if trainer:
        losses = ", ".join(loss.text for loss in trainer.losses if isinstance(loss, Loss)) or "none"
        progress = f"{counted(epochs_done(trainer), 'epoch')}, {counted(trainer.steps, 'update')}"
        print(f"trainer: {progress}, loss {losses}, optimizer {rounded(optimizers.parse(trainer.optimizer))}")
    if preparation is not None:
        print("\n".join(_described(preparation)))


def _opened(path: Path) -> tuple[Network | Ensemble, Trainer | None] | None:
    """The network or ensemble in a file, and the trainer if there is one. None: a safetensors file of another program."""
    with contextlib.suppress(ValueError):
        trainer = Trainer.load(path)
        return trainer.net, trainer
    try:
        with advising("give a file written by microbp, or one of ONNX or Keras"):
            return load(path), None
    except ValueError as error:
        if "not a microbp file" in str(error) and formats.format_of(path) == "safetensors":
            return None
        raise


def _described(preparation: Preparation) -> Iterator[str]:
    target = preparation.target
    what = f"one of {', '.join(map(printable, target.classes))}" if target.classes else f"a number{scaling('y', target)}"
    if preparation.sparse:
        yield f"predicts {printable(target.name)}, {what}, from {described(preparation.sparse)}"
        return
    yield f"predicts {printable(target.name)}, {what}, from the columns"
    for feature in preparation.features[:_SHOWN]:
        yield f"  {printable(feature.name)}: {described_feature(feature)}"
    if len(preparation.features) > _SHOWN:
        yield f"  and {len(preparation.features) - _SHOWN} more"
