"""Creates and trains a network for the rows of a table."""

from __future__ import annotations

import os
from collections.abc import Sequence

from ..core.specs import ActivationName, OptimizerSpec
from ..core.text import counted
from ..data.arrays import Array
from ..network.layers import Activation
from ..network.mlp import mlp
from ..settings.checkpoint import Checkpoint
from ..settings.class_metrics import accuracy
from ..settings.number_metrics import rmse
from ..settings.schedules import Cosine, Schedule
from ..training.lr_find import RangeTest, lr_find
from ..training.trainer import Trainer
from .defaults import Choices
from .preparation import NOTE
from .readers.errors import Argument, ArgumentError, TableError
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
    """Creates a network for the data, and its trainer. The network's notes contain the preparation.

    net: widths of inputs, hidden layers and outputs; a first or last width None stands for that of the data. If net is None: the default
    widths.
    lr, decay: replace those of the optimizer.
    """
    widths = _widths(data, choices, net)
    try:
        network = mlp(widths, activation, seed=seed, n_threads=n_threads, dropout=dropout)
    except MemoryError as error:
        raise TableError(f"{error}; use smaller widths with ", Argument("net")) from None
    network.notes = {NOTE: data.preparation.as_dict()}
    return Trainer(network, data.loss, _optimizer(choices, optimizer, lr, decay))


def _widths(data: Data, choices: Choices, net: Sequence[int | None] | None) -> list[int]:
    inputs, outputs = data.preparation.width, data.preparation.outputs
    if net is None:
        return [inputs, *choices.hidden, outputs]
    fitting = [inputs, *(width for width in net[1:-1] if width), outputs]
    is_first_wrong, is_last_wrong = net[0] not in (None, inputs), net[-1] not in (None, outputs)
    if is_first_wrong or is_last_wrong:
        wrong = "-".join(str(width or "xy"[i > 0]) for i, width in enumerate(net))
        what = f"{counted(inputs, 'feature')} and {f'{outputs} classes' if data.preparation.target.classes else '1 output'}"
        use, right = "use ", "-".join(map(str, fitting))
        if len(net) == 2 or (is_first_wrong and is_last_wrong):  # probably the hidden layers alone
            hidden = list(map(str, filter(None, net)))
            use, right = f"for hidden layers of {' and '.join(hidden)} units, use ", "-".join(["x", *hidden, "y"])
        raise ArgumentError("net", f"{wrong} does not fit {data.where}, which has {what}; {use}", Argument("net", right))
    return fitting


def _optimizer(choices: Choices, optimizer: OptimizerSpec, lr: float | None, decay: float | None) -> OptimizerSpec:
    is_default = optimizer == OptimizerSpec("adam")
    parameters = {"lr": choices.lr, "weight_decay": choices.decay} if is_default else dict(optimizer.parameters)
    parameters |= {} if lr is None else {"lr": lr}
    parameters |= {} if decay is None else {"weight_decay": decay}
    return OptimizerSpec(optimizer.name, **parameters)


def schedule(given: str | Schedule | None, trainer: Trainer, updates: int) -> Schedule | None:
    """The schedule for the trainer's learning rate. None or "cosine": a cosine that falls to 0 in `updates` updates. "constant": none."""
    if given is None or given == "cosine":
        return Cosine(trainer.lr, updates)
    return None if isinstance(given, str) else given


def find_rate(trainer: Trainer, data: Data, batch: int) -> RangeTest:
    """Does a range test on the training rows, or on the first piece of a stream. The trainer does not change."""
    x, y, weight = next(data.fitted_pieces())
    return lr_find(trainer, x, y, sample_weight=weight, batch_size=batch)


def epochs_done(trainer: Trainer) -> int:
    """The number of epochs trained, including those after the best one, whose state was restored."""
    return len(trainer.history.get("loss", ()))


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
    """Trains until `epochs` epochs are done in total, then restores the epoch with the lowest validation loss.

    patience: stop after this many epochs without a lower validation loss; None: do not stop early. Other arguments: as in Trainer.fit.
    """
    target = data.preparation.target

    def one_class(y: Array, outputs: Array, sample_weight: Array | None = None) -> float:
        return accuracy(y, outputs, sample_weight, loss="cross_entropy")  # with each loss, a row of a table has one class

    def error(y: Array, outputs: Array, sample_weight: Array | None = None) -> float:
        return rmse(y, outputs, sample_weight) * target.scale  # in the unit of the target

    x, y, weight = (data.fitted_pieces, None, None) if data.is_stream else data.fitted("train")
    trainer.fit(
        x,
        y,
        sample_weight=weight,
        epochs=epochs - epochs_done(trainer),
        batch_size=batch,
        validation=tuple(data.fitted("validation")),
        patience=patience or epochs,
        schedule=schedule,
        metrics={"accuracy": one_class} if target.classes else {"rmse": error},
        progress=progress,
        checkpoint=checkpoint,
    )
