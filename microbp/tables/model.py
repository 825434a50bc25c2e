"""A network for the rows of a table, with its trainer: how they are built from what is asked for and what is chosen, and trained."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from ..core.specs import ActivationName, OptimizerSpec
from ..data.arrays import Array
from ..network.layers import Activation
from ..network.mlp import mlp
from ..settings import metrics
from ..settings.checkpoint import Checkpoint
from ..settings.schedules import Cosine, Schedule
from ..training.lr_find import RangeTest, lr_find
from ..training.trainer import Trainer
from .defaults import Choices
from .errors import Argument, ArgumentError
from .preparation import NOTE
from .split import Data


def build(
    data: Data,
    choices: Choices,
    *,
    net: Sequence[int | None] | None = None,
    activation: ActivationName | Activation = "relu",
    dropout: float = 0.0,
    optimizer: OptimizerSpec,
    lr: float | None = None,
    decay: float | None = None,
    seed: int = 0,
    n_threads: int | None = None,
) -> Trainer:
    """A new network for the data, which keeps their preparation in its notes, and its trainer.

    net: widths of inputs, hidden layers and outputs, None at either end for the data's own; None: as chosen. lr, decay: instead of the
    optimizer's own, or of those chosen for Adam.
    """
    widths = _widths(data, choices, net)
    network = mlp(widths, activation, seed=seed, n_threads=n_threads, dropout=dropout)
    network.notes = {NOTE: data.preparation.as_dict()}
    return Trainer(network, data.loss, _optimizer(choices, optimizer, lr, decay))


def _widths(data: Data, choices: Choices, net: Sequence[int | None] | None) -> list[int]:
    inputs, outputs = data.preparation.width, data.preparation.outputs
    if net is None:
        return [inputs, *choices.hidden, outputs]
    fitting = [inputs, *(width for width in net[1:-1] if width), outputs]
    if any(width not in (None, end) for width, end in zip((net[0], net[-1]), (inputs, outputs))):
        wrong = "-".join(str(width or "xy"[i > 0]) for i, width in enumerate(net))
        what = f"{inputs} features and {f'{outputs} classes' if data.preparation.target.classes else '1 output'}"
        right = Argument("net", "-".join(map(str, fitting)))
        raise ArgumentError("net", f"{wrong} does not fit {data.where}, which has {what}: write ", right)
    return fitting


def _optimizer(choices: Choices, asked: OptimizerSpec, lr: float | None, decay: float | None) -> OptimizerSpec:
    parameters = {"lr": choices.lr, "weight_decay": choices.decay} if asked == OptimizerSpec("adam") else dict(asked.parameters)
    parameters |= {} if lr is None else {"lr": lr}
    parameters |= {} if decay is None else {"weight_decay": decay}
    return OptimizerSpec(asked.name, **parameters)


def schedule(asked: str | Schedule | None, trainer: Trainer, updates: int) -> Schedule | None:
    """The schedule of the trainer's learning rate: the one asked for, none for "constant"; None or "cosine": down to 0 in `updates`."""
    if asked is None or asked == "cosine":
        return Cosine(trainer.lr, updates)
    return None if isinstance(asked, str) else asked


def find_rate(trainer: Trainer, data: Data, batch: int) -> RangeTest:
    """A range test on the rows to train on; of a stream on its first piece. The trainer stays as it was."""
    return lr_find(trainer, *next(iter(data.parts["train"]())), batch_size=batch)


def fit(
    trainer: Trainer,
    data: Data,
    *,
    epochs: int,
    batch: int,
    patience: int | None = None,
    schedule: Schedule | None = None,
    checkpoint: str | os.PathLike[str] | Checkpoint | None = None,
    progress: bool | None = None,
) -> None:
    """Trains until `epochs` epochs are done in all; the one with the lowest validation loss is kept. The rest is as in Trainer.fit.

    patience: stop after this many epochs without a lower validation loss; None: do not stop.
    """
    target = data.preparation.target

    def rmse(y: Array, outputs: Array) -> float:
        return metrics.rmse(y, outputs) * target.scale  # in the target's unit

    rows: Sequence[Any] = (data.parts["train"],) if data.is_stream else data.part("train")
    trainer.fit(
        *rows,
        epochs=epochs - trainer.epoch,
        batch_size=batch,
        validation=tuple(data.part("validation")),
        patience=patience or epochs,
        schedule=schedule,
        metrics="accuracy" if target.classes else rmse,
        progress=progress,
        checkpoint=checkpoint,
    )
