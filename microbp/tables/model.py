"""Creates and trains a network for the rows of a table."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Callable, Sequence

import numpy as np

from ..core.specs import ActivationName, Init, OptimizerSpec
from ..core.text import counted
from ..data.arrays import Array
from ..network.layers import Activation, Dense, Dropout, Embedding, Scale
from ..network.network import Network
from ..network.nodes import Ids, Input, Node, concat
from ..settings.checkpoint import Checkpoint
from ..settings.class_metrics import accuracy
from ..settings.curves import CosLog
from ..settings.number_metrics import rmse
from ..settings.schedules import Cosine, Schedule, begin
from ..settings.stopping import EarlyStopping
from ..training.loop.records.callbacks import Callback
from ..training.lr_find import RangeTest, lr_find
from ..training.trainer import Trainer
from .parts import Data, Part, inputs
from .preparation import Preparation
from .readers.errors import Argument, ArgumentError, TableError
from .recipe import Choices

EMBEDDING_LR = 0.5  # factor of the learning rate: 0.3 was too slow for the few epochs of the budget fast; 1 was as good within the noise
FACTOR_LR, BIAS_LR, BETA2 = 6.0, 0.1, 0.95  # of RealMLP: factors of the learning rate for the inputs' factors and the biases; of Adam
_LEAST_UPDATES = 20  # before the first epoch that may be the best one
_ENOUGH = 500  # validation rows, for their accuracy to tell epochs apart; of fewer, the loss tells more


def network(
    data: Data,
    choices: Choices,
    *,
    net: Sequence[int | None] | None = None,
    activation: ActivationName | Activation = "gelu",
    seed: int = 0,
    n_threads: int | None = None,
) -> Network:
    """A network for the features of the data: a trainable factor for each, an embedding for each column of ids, dense layers, and a linear
    layer that starts at 0. Sparse rows have no factors: the first dense layer reads them.

    The learning rate of a dense layer with n inputs is divided by sqrt(n), and weights start with variance 1 / n: so RealMLP's
    x W / sqrt(n) + b with standard normal W and b is trained by Adam (`choices` has its rates). Of sparse rows, n is the number of values.
    net: widths of inputs, hidden layers and outputs; a first or last width None stands for that of the data. None: the chosen widths.
    """
    widths = _widths(data, choices, net)
    drop = Dropout(choices.dropout)
    entries, node = _inputs(data.preparation)
    widths[0], is_sparse = node.width, data.preparation.sparse is not None
    start = Init("normal", std=1.0)
    for width, units in itertools.pairwise(widths[:-1]):
        lr = 1 / math.sqrt(data.preparation.stored if is_sparse else width)
        init = Init("normal", std=lr) if is_sparse else Init("lecun_normal")
        is_sparse = False
        node = Dense(units, activation, init, bias_init=start, lr=lr, bias_lr=BIAS_LR)(node)
        node = drop(node) if drop.rate else node
    last = Dense(widths[-1], init="zeros", lr=1 / math.sqrt(widths[-2]), bias_lr=BIAS_LR)
    try:
        return Network(entries, last(node), "float32", seed, n_threads=n_threads)
    except MemoryError as error:
        raise TableError(f"{error}; use smaller widths with ", Argument("net")) from None


def _inputs(preparation: Preparation) -> tuple[list[Node], Node]:
    """The inputs of a network, and what its first dense layer reads."""
    entries: list[Node] = [Input(columns) if levels is None else Ids(columns, levels) for columns, levels in preparation.inputs]
    if preparation.sparse:
        return entries, entries[0]
    tables = [Embedding(one.ids, one.embedded, lr=EMBEDDING_LR) for one in preparation.embedded]
    layers = [*([Scale(gain=True, bias=False, lr=FACTOR_LR)] if len(entries) > len(tables) else []), *tables]
    nodes = [layer(entry) for layer, entry in zip(layers, entries, strict=True)]
    return entries, concat(nodes) if len(nodes) > 1 else nodes[0]


def _widths(data: Data, choices: Choices, net: Sequence[int | None] | None) -> list[int]:
    features, outputs = data.preparation.width, data.preparation.outputs
    if net is None:
        return [features, *choices.hidden, outputs]
    fitting = [features, *(width for width in net[1:-1] if width), outputs]
    is_first_wrong, is_last_wrong = net[0] not in (None, features), net[-1] not in (None, outputs)
    if is_first_wrong or is_last_wrong:
        wrong = "-".join(str(width or "xy"[i > 0]) for i, width in enumerate(net))
        what = f"{counted(features, 'feature')} and {f'{outputs} classes' if data.preparation.target.classes else '1 output'}"
        use, right = "use ", "-".join(map(str, fitting))
        if len(net) == 2 or (is_first_wrong and is_last_wrong):  # probably the hidden layers alone
            hidden = list(map(str, filter(None, net)))
            use, right = f"for hidden layers of {' and '.join(hidden)} units, use ", "-".join(["x", *hidden, "y"])
        raise ArgumentError("net", f"{wrong} does not fit {data.where}, which has {what}; {use}", Argument("net", right))
    return fitting


def optimizer(choices: Choices, given: OptimizerSpec, lr: float | None, decay: float | None) -> OptimizerSpec:
    """The optimizer: "adam" has the rates of the recipe. lr, decay: replace those of the optimizer."""
    is_default = given == OptimizerSpec("adam")
    parameters = {"lr": choices.lr, "beta2": BETA2} if is_default else dict(given.parameters)
    parameters |= {} if lr is None else {"lr": lr}
    parameters |= {} if decay is None else {"weight_decay": decay}
    return OptimizerSpec(given.name, **parameters)


def can_embed(given: OptimizerSpec, decay: float | None) -> bool:
    """Whether the optimizer can update an embedding by the rows that a batch names. decay: replaces its weight decay."""
    ids = Ids(1, 1)
    parameters = dict(given.parameters) | ({} if decay is None else {"weight_decay": decay})
    trainer = Trainer(Network(ids, Embedding(1, 1)(ids)), "mse", OptimizerSpec(given.name, **parameters))
    try:
        trainer.step(np.zeros((1, 1), np.int64), np.zeros((1, 1)))
    except ValueError:
        return False
    return True


def schedule(given: str | Schedule | None, lr: float, updates: int) -> Schedule | None:
    """The schedule of a learning rate for this number of updates. None: waves that end at 0 (CosLog). "cosine": falls to 0. "constant":
    none."""
    if given is None or given == "cosine":
        return CosLog(lr, updates) if given is None else Cosine(lr, updates)
    return None if isinstance(given, str) else begin(given, 0, updates)


def find_rate(trainer: Trainer, data: Data, batch: int) -> RangeTest:
    """Does a range test on the training rows, or on the first piece of a stream. The trainer does not change."""
    x, y, weight = next(data.pieces("train"))
    return lr_find(trainer, inputs(trainer.net, x), y, sample_weight=weight, batch_size=batch)


def epochs_done(trainer: Trainer) -> int:
    """The number of epochs trained, including those after the best one, whose state was restored."""
    return len(trainer.history.get("loss", ()))


def fit(
    trainer: Trainer,
    data: Data,
    train: Part | None,
    validation: Part | None,
    *,
    epochs: int,
    batch: int,
    patience: int | None = None,
    schedule: Schedule | Callable[[int], float] | None = None,
    checkpoint: str | os.PathLike[str] | Checkpoint | None = None,
    progress: bool | None = None,
    callback: Callback | None = None,
) -> None:
    """Trains until `epochs` epochs are done in total, then restores the best one for the validation rows, if there are any: that with the
    lowest loss, or, for classes with many validation rows, the highest accuracy. Of equal ones it is the last. The first 20 updates do
    not count: of few validation rows, a network that has learnt nothing may be the best by chance.

    train: None for a stream: its training rows in pieces, and without validation rows those of the validation part too.
    patience: stop after this many epochs that are not better; None: do not stop early. Other arguments: as in Trainer.fit.
    """
    parts = ("train",) if validation else ("train", "validation")
    pieces = (lambda: (_given(trainer, piece) for piece in data.pieces(*parts)), None, None)
    x, y, weight = _given(trainer, train) if train else pieces
    updates = -(-(len(train.x) if train else data.training) // batch)
    stop = None if validation is None else _best(data, validation, patience or epochs, min(-(-_LEAST_UPDATES // updates), epochs))
    trainer.fit(
        x,
        y,
        sample_weight=weight,
        epochs=epochs - epochs_done(trainer),
        batch_size=batch,
        validation=None if validation is None else tuple(_given(trainer, validation)),
        stop=stop,
        schedule=schedule,
        metrics={} if validation is None else _metrics(data),
        progress=progress,
        checkpoint=checkpoint,
        callback=callback,
    )


def _given(trainer: Trainer, part: Part) -> Part:
    """The rows as the network gets them."""
    return part._replace(x=inputs(trainer.net, part.x))


def _best(data: Data, validation: Part, patience: int, first: int) -> EarlyStopping:
    """Which epoch is the best. first: no epoch before this one."""
    has_many = bool(data.preparation.target.classes) and len(validation.x) >= _ENOUGH
    return EarlyStopping(patience, "accuracy" if has_many else "val_loss", ties="last", start_from_epoch=first)


def _metrics(data: Data) -> dict[str, Callable[..., float]]:
    target = data.preparation.target

    def one_class(y: Array, outputs: Array, sample_weight: Array | None = None) -> float:
        return accuracy(y, outputs, sample_weight, loss="cross_entropy")  # with each loss, a row of a table has one class

    def error(y: Array, outputs: Array, sample_weight: Array | None = None) -> float:
        return rmse(target.true(y), target.numbers(outputs), sample_weight)

    return {"accuracy": one_class} if target.classes else {"rmse": error}
