"""A run: the data, the networks that are trained one after another, and what came of each.

The steps are those at the top of `../../cli/commands/train.py`.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from ...core.specs import Loss, OptimizerSpec
from ...data.arrays import Array
from ...network.layers import Activation
from ...network.network import Network
from ...ranks.ranks import Ranks
from ...settings.checkpoint import Checkpoint
from ...settings.schedules import Schedule
from ...training.loop.records.callbacks import Callback
from ...training.loop.records.progress import titled
from ...training.lr_find import RangeTest
from ...training.trainer import Trainer
from .. import model, recipe
from ..parts import Data, Part, joined
from ..predictor import Predictor
from ..preparation import NOTE
from ..ranks import reading
from ..readers import sources
from ..readers.errors import Argument, ArgumentError, TableError
from ..readers.table import Table, Unusable, Written
from ..recipe import BudgetName, Choices
from ..scores import Scores, measure
from ..split import Split, gather
from . import arguments, linear
from .linear import Linear

LOSS_NOTE = "microbp.loss"  # the key of the loss in a network's notes


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The arguments of a training, which `fit_table` explains. None: chosen from the data."""

    target: str | None = None
    drop: tuple[str, ...] = ()
    keep: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    no_header: bool = False
    test: float = 0.2
    test_file: Any = None
    validation: float = 0.1
    split: str = "random"
    weight: str | None = None
    stream: bool = False
    strict: bool = False
    budget: BudgetName = "normal"
    ensemble: int | None = None
    net: tuple[int | None, ...] | None = None
    activation: Activation = Activation("gelu")  # noqa: RUF009  # it does not change
    dropout: float | None = None
    loss: Loss | None = None
    class_weight: str | None = None
    optimizer: OptimizerSpec = OptimizerSpec("adam")  # noqa: RUF009
    lr: float | str | None = None
    decay: float | None = None
    schedule: Schedule | str | None = None
    epochs: int | None = None
    batch: int | None = None
    patience: int | None = None
    seed: int = 0
    threads: int | None = None


KINDS: Mapping[str, arguments.Kind] = {
    "target": arguments.column, "drop": arguments.names, "keep": arguments.names, "missing": arguments.words, "no_header": arguments.switch,
    "test": arguments.share, "validation": arguments.fraction,
    "split": arguments.how, "weight": arguments.column, "class_weight": arguments.class_weight,
    "stream": arguments.switch, "strict": arguments.switch, "budget": arguments.budget, "ensemble": arguments.count,
    "net": arguments.widths, "activation": arguments.activation,
    "dropout": arguments.dropout, "loss": arguments.loss, "optimizer": arguments.optimizer, "lr": arguments.rate,
    "decay": arguments.decay, "schedule": arguments.schedule, "epochs": arguments.count, "batch": arguments.count,
    "patience": arguments.count, "seed": arguments.seed, "threads": arguments.count,
}  # fmt: skip


def converted(name: str, value: Any) -> Any:
    """The value of an argument, converted from a Python object or text; ArgumentError or TypeError if it is invalid. None stays None."""
    is_unset = value is None and getattr(Settings, name) is None
    return value if is_unset or name not in KINDS else arguments.checked(name, KINDS[name], value)


@dataclass(frozen=True)
class Stage:
    """A network that has been trained, and how. best: the epoch whose state it has, from 1. rows: in an epoch. history: `t.history`."""

    net: Network
    best: int
    rows: int
    history: dict[str, list[float]]

    @property
    def epochs(self) -> int:
        """The number of epochs trained, including those after the best one."""
        return len(self.history["loss"])

    @property
    def seconds(self) -> float:
        """The time of training."""
        return sum(self.history["seconds"])


@dataclass
class TableRun:
    """Networks trained one after another, in pairs: the first of a pair chooses the best epoch by validation rows, which are others for
    each pair if the split is random. The second is trained on all rows but those of the test, from other initial weights, for as many
    epochs.

    The prediction is the mean of the last `choices.ensemble` networks. So a single one is trained on all rows, and its pair is not used.
    trainer: of the network in training, or of the last one. linear: the linear model that joined them at the end.
    """

    settings: Settings
    data: Data
    choices: Choices
    trainer: Trainer
    assumptions: tuple[str, ...] = ()  # about the table
    fingerprint: str | None = None  # of the data, if it was asked for
    stages: list[Stage] = field(default_factory=list)  # those that are done
    linear: Linear | None = None

    @property
    def count(self) -> int:
        """The number of networks to train."""
        return max(self.choices.ensemble, 2)

    @property
    def is_done(self) -> bool:
        """Whether all networks have been trained."""
        return len(self.stages) == self.count

    @property
    def place(self) -> str:
        """The network in training, or the last one, such as "network 2 of 4"."""
        return f"network {min(len(self.stages) + 1, self.count)} of {self.count}"

    @property
    def chooses(self) -> bool:
        """Whether the network in training chooses the best epoch. The others are trained for a known number of epochs."""
        return len(self.stages) % 2 == 0

    @property
    def nets(self) -> list[Network]:
        """The networks that predict. Before the run is done: those that are complete, and one that has found a best epoch so far."""
        found = [stage.net for stage in self.stages]
        if not self.is_done and self.chooses and self.trainer.epoch > 0:
            found.append(self.trainer.net)
        return found[-self.choices.ensemble :]

    @property
    def trained(self) -> list[Stage]:
        """What came of each network: also of the one in training, if it has had an epoch."""
        return [*self.stages, *([] if self.is_done or not model.epochs_done(self.trainer) else [self._stage()])]

    def rows(self) -> tuple[Part | None, Part | None]:
        """The training rows of the network in training (None: read in pieces), and its validation rows if it has any."""
        if self.data.is_stream:
            return None, joined(self.data.pieces("validation")) if self.chooses else None
        if self.chooses:
            return self.data.fold(len(self.stages) // 2)
        return joined(self.data.pieces("train", "validation")), None

    @property
    def epochs(self) -> int:
        """How many epochs the network in training has to do."""
        return self.choices.epochs if self.chooses else self.stages[-1].best

    def schedule(self) -> Schedule | Callable[[int], float] | None:
        """The schedule of the learning rate for the network in training, over all its epochs, so that the second of a pair ends with
        the rate 0 too. Where a schedule watches the validation rows, a network without them has the rates of its pair.
        """
        if self.trainer.schedule is not None:  # of a run that continues
            return self.trainer.schedule
        updates = -(-self._rows // self.choices.batch)
        found = model.schedule(self.settings.schedule, self.trainer.lr, self.epochs * updates)
        if found is None or found.watched is None or self.chooses:
            return found
        rates = self.stages[-1].history["lr"]
        return lambda step: rates[step // updates]

    @property
    def _rows(self) -> int:
        """The number of rows in an epoch of the network in training."""
        return self.data.training + (0 if self.chooses else len(self.data.part("validation").x))

    def finish(self) -> None:
        """Notes that the network in training is done, and begins the next one, if there is one."""
        stage, number = self._stage(), len(self.stages) + 1
        following = build(self.data, self.choices, self.settings, number) if number < self.count else self.trainer
        self.stages.append(stage)
        self.trainer = following

    def _stage(self) -> Stage:
        return Stage(self.trainer.net, self.trainer.epoch, self._rows, self.trainer.history)


# ---- the steps ----


def begin(table: Any, settings: Settings, *, identify: bool = False, ranks: Ranks | None = None) -> TableRun:
    """Prepares a run: reads the data, and builds the first network and its trainer. table: as in `sources.find`. identify: whether to
    compute the fingerprint. ranks: the processes that do this together.
    """
    if ranks:
        name = os.path.basename(table) if isinstance(table, str | os.PathLike) else "rows of its own"
        ranks.check_same("fit_table", {"table": name} | vars(settings) | {"test_file": None})
    split = split_of(table, settings, ranks)
    data, assumptions = gathered(split, settings)
    choices = choose(data, settings)
    if settings.lr == "auto":
        settings = replace(settings, lr=find_rate(data, choices, settings).suggestion)
    known = fingerprint(split.source.tables()) if identify else None
    return TableRun(settings, data, choices, build(data, choices, settings), assumptions, known)


def choose(data: Data, settings: Settings) -> Choices:
    """The choices of the recipe, with what the settings say instead."""
    preparation = data.preparation
    classifies = bool(preparation.target.classes)
    chosen = recipe.choose(
        data.training, math.ceil(preparation.stored), preparation.outputs, classifies, preparation.has_bins, settings.budget
    )
    if data.is_stream:  # reading takes time too
        chosen = replace(chosen, ensemble=min(chosen.ensemble, 2))
    given = {name: getattr(settings, name) for name in ("batch", "epochs", "dropout", "ensemble")}
    return replace(chosen, **{name: value for name, value in given.items() if value is not None})


def gathered(split: Split, settings: Settings) -> tuple[Data, tuple[str, ...]]:
    """Splits and prepares the data. Returns it, and what was assumed. TableError for the first assumption if `strict`."""
    first = next(iter(split.source.tables()), None)
    if first is not None and settings.target is not None:
        _require_one_target(first, settings.target)
    data = gather(
        split,
        target=settings.target,
        drop=settings.drop,
        keep=settings.keep,
        missing=settings.missing,
        loss=settings.loss,
        class_weight=settings.class_weight,
        encoding=partial(recipe.encoding, budget=settings.budget, embeds=model.can_embed(settings.optimizer, settings.decay)),
    )
    assumptions = (*(first.assumptions if first else ()), *data.preparation.assumptions)
    if first is not None and settings.target is None:
        assumptions = (*_guess(first, data.preparation.target.name), *assumptions)
    if settings.strict:
        used = (settings.weight, settings.split.partition(":")[2])
        left_out = (f"{name} left out: {why}" for name, why in data.preparation.left_out.items() if name not in used)
        refuse_assumptions(data.where, (*assumptions, *left_out))
    return data, assumptions


def _require_one_target(first: Table, target: str) -> None:
    """Raises an error for several columns joined by commas."""
    names = [name.strip() for name in target.split(",")]
    if target not in first.columns and len(names) > 1 and all(name in first.columns for name in names):
        raise ArgumentError("target", f"{target!r} names {len(names)} columns; a model has one target, so train a model for each")


def _guess(first: Table, target: str) -> tuple[str, ...]:
    """What to say if no column has a usual name for targets."""
    if first.target is not None or target.lower() in sources.USUAL_TARGETS:
        return ()
    usual = f"{', '.join(sources.USUAL_TARGETS[:-1])} or {sources.USUAL_TARGETS[-1]}"
    return (f"the target is the last column, {target!r}, because no column is named {usual}",)


def refuse_assumptions(where: str, assumptions: Iterable[str]) -> None:
    """Raises an error for the first assumption, if there is one."""
    for assumption in assumptions:
        raise TableError(f"{where}: assumed, but not allowed by ", Argument("strict"), f": {assumption}")


def split_of(table: Any, settings: Settings, ranks: Ranks | None = None) -> Split:
    """The split of a table into parts."""
    header = False if settings.no_header else None
    for argument, data in (("table", table), ("test_file", settings.test_file)) if ranks else ():
        if isinstance(data, str) and data == "-":
            raise ArgumentError(argument, "is standard input, which only one process can read; name a file")
    if ranks and not settings.stream:
        source = reading.find(ranks, table, settings.test_file, header)
    else:
        source = replace(sources.find(table, settings.test_file, settings.stream, header), ranks=ranks)
    return Split(source, test=settings.test, validation=settings.validation, seed=settings.seed, how=settings.split, weight=settings.weight)


def build(data: Data, choices: Choices, settings: Settings, number: int = 0) -> Trainer:
    """Builds a network and its trainer; returns the trainer. number: of the network; each has a seed of its own."""
    seed = (settings.seed + number * _SEED_STEP) % 2**64
    net = model.network(data, choices, net=settings.net, activation=settings.activation, seed=seed, n_threads=settings.threads)
    net.notes = {NOTE: data.preparation.as_dict()}
    return Trainer(net, data.loss, _optimizer(settings, choices), **with_comm(data.ranks))


def with_comm(ranks: Ranks | None) -> dict[str, Any]:
    """The arguments of a trainer that divides the rows of each update among the ranks."""
    return {"comm": ranks, "shard": True} if ranks else {}


_SEED_STEP = 0x9E3779B97F4A7C15  # 2^64 / golden ratio (Knuth 1997, section 6.4): seeds that follow each other give other networks


def _optimizer(settings: Settings, choices: Choices) -> OptimizerSpec:
    return model.optimizer(choices, settings.optimizer, None if isinstance(settings.lr, str) else settings.lr, settings.decay)


def find_rate(data: Data, choices: Choices, settings: Settings) -> RangeTest:
    """Does a range test with a network of its own."""
    return model.find_rate(build(replace(data, ranks=None), choices, replace(settings, lr=None)), data, choices.batch)


def fit(
    run: TableRun,
    *,
    checkpoint: Checkpoint | None = None,
    progress: bool | None = None,
    callback: Callback | None = None,
    begun: Callable[[TableRun], object] = lambda run: None,
) -> None:
    """Trains the networks that are not done. checkpoint, progress, callback: as in Trainer.fit. begun: called before a network is
    trained."""
    while not run.is_done:
        begun(run)
        with titled(f"{run.place}  "):
            model.fit(
                run.trainer,
                run.data,
                *run.rows(),
                epochs=run.epochs,
                batch=run.choices.batch,
                patience=run.settings.patience,
                schedule=run.schedule(),
                checkpoint=checkpoint,
                progress=progress,
                callback=callback,
            )
        run.finish()


def predictor(run: TableRun) -> Predictor:
    """The networks of a run as one, with the notes that `load_table` needs, and no others. The one in training if none has had an epoch. If
    nobody has chosen how many there are, a linear model may join them.
    """
    nets = run.nets or [run.trainer.net]
    if run.is_done and run.settings.ensemble is None and not run.data.is_stream:
        run.linear = linear.joining(
            run.data, [stage.net for stage in run.stages[::2]], run.settings.budget, run.settings.seed, run.settings.threads
        )
    found = Predictor(linear.together(nets, run.linear), run.data.loss)
    if run.data.preparation.target.log and run.data.loss.name in ("mse", "half_sse"):
        run.data = _smeared(run.data, found)
    for net in nets:
        net.notes = {}
    found.net.notes = {NOTE: run.data.preparation.as_dict(), LOSS_NOTE: run.data.loss.text}
    return found


def _smeared(data: Data, found: Predictor) -> Data:
    """The same data, with the factor of a target whose logarithm is learnt."""
    plain, true, predicted = replace(data.preparation.target, factor=1.0), 0.0, 0.0
    for x, y, weight in data.pieces("train", "validation"):
        for_each = np.ones(len(x)) if weight is None else weight
        true += float(for_each @ plain.true(y.reshape(-1)))
        predicted += float(for_each @ plain.numbers(found.predict(x)[:, 0]))
    factor = true / predicted if 0 < true < math.inf and 0 < predicted < math.inf else 1.0
    return replace(data, preparation=replace(data.preparation, target=replace(plain, factor=factor)))


def scores(run: TableRun, found: Predictor) -> Scores:
    """The scores of a run. Those of validation rows are of the first network, because others were trained on them."""
    first = run.trained[0].net
    return measure(found, run.data, Predictor(first, run.data.loss))


def fingerprint(tables: Iterable[Table]) -> str:
    """A hash of the columns, their names and cells; the same for the same data."""
    found = hashlib.sha256()
    for table in tables:
        for name in sorted(table.columns):
            column = table.columns[name]
            found.update(f"{name}\0".encode("utf-8", "surrogatepass"))
            if not isinstance(column, Unusable):
                found.update(_bytes(column.numbers if isinstance(column, Written) else column))
        if table.sparse is not None:
            for cells in (table.sparse.data, table.sparse.indices, table.sparse.indptr):
                found.update(cells.tobytes())
    return found.hexdigest()


def _bytes(cells: Array) -> bytes:
    if cells.dtype != object:
        return cells.tobytes()
    return "\0".join(cell or "" for cell in cells.tolist()).encode("utf-8", "surrogatepass")
