"""A run: the data, the network, its trainer, and how long to train. The steps are those at the top of `../cli/train.py`."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ...core.specs import Loss, OptimizerSpec
from ...data.arrays import Array
from ...network.layers import Activation
from ...settings.checkpoint import Checkpoint
from ...settings.schedules import Schedule
from ...training.lr_find import RangeTest
from ...training.trainer import Trainer
from .. import model
from ..defaults import Choices, choose
from ..preparation import NOTE
from ..readers import sources
from ..readers.errors import Argument, ArgumentError, TableError
from ..readers.table import Table, Unusable, Written
from ..split import Data, Split, gather
from . import arguments

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
    net: tuple[int | None, ...] | None = None
    activation: Activation = Activation("relu")  # noqa: RUF009  # it does not change
    dropout: float = 0.0
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
    "test": arguments.fraction, "validation": arguments.fraction,
    "split": arguments.how, "weight": arguments.column, "class_weight": arguments.class_weight,
    "stream": arguments.switch, "strict": arguments.switch, "net": arguments.widths, "activation": arguments.activation,
    "dropout": arguments.dropout, "loss": arguments.loss, "optimizer": arguments.optimizer, "lr": arguments.rate,
    "decay": arguments.decay, "schedule": arguments.schedule, "epochs": arguments.count, "batch": arguments.count,
    "patience": arguments.count, "seed": arguments.seed, "threads": arguments.count,
}  # fmt: skip


def converted(name: str, value: Any) -> Any:
    """The value of an argument, converted from a Python object or text; ArgumentError or TypeError if it is invalid. None stays None."""
    is_unset = value is None and getattr(Settings, name) is None
    return value if is_unset or name not in KINDS else arguments.checked(name, KINDS[name], value)


@dataclass(frozen=True)
class TableRun:
    """A trainer, its data, and how long to train."""

    settings: Settings
    data: Data
    trainer: Trainer
    batch: int
    epochs: int  # total
    schedule: Schedule | None
    assumptions: tuple[str, ...] = ()  # about the table
    fingerprint: str | None = None  # of the data, if it was asked for


# ---- the steps ----


def begin(table: Any, settings: Settings, *, identify: bool = False) -> TableRun:
    """Prepares a run: reads the data, and builds the network and its trainer. table: as in `sources.find`. identify: whether to compute the
    fingerprint.
    """
    split = split_of(table, settings)
    data, assumptions = gathered(split, settings)
    choices = choose(data.training, bool(data.preparation.target.classes), settings.batch, settings.epochs)
    if settings.lr == "auto":
        settings = replace(settings, lr=find_rate(data, choices, settings).suggestion)
    trainer = build(data, choices, settings)
    updates = choices.epochs * -(-data.training // choices.batch)
    schedule = model.schedule(settings.schedule, trainer, updates)
    known = fingerprint(split.source.tables()) if identify else None
    return TableRun(settings, data, trainer, choices.batch, choices.epochs, schedule, assumptions, known)


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


def split_of(table: Any, settings: Settings) -> Split:
    """The split of a table into parts."""
    source = sources.find(table, settings.test_file, settings.stream, False if settings.no_header else None)
    return Split(source, test=settings.test, validation=settings.validation, seed=settings.seed, how=settings.split, weight=settings.weight)


def build(data: Data, choices: Choices, settings: Settings) -> Trainer:
    """Builds the network and its trainer; returns the trainer."""
    return model.build(
        data,
        choices,
        net=settings.net,
        activation=settings.activation,
        dropout=settings.dropout,
        optimizer=settings.optimizer,
        lr=None if isinstance(settings.lr, str) else settings.lr,
        decay=settings.decay,
        seed=settings.seed,
        n_threads=settings.threads,
    )


def find_rate(data: Data, choices: Choices, settings: Settings) -> RangeTest:
    """Does a range test with a network of its own."""
    return model.find_rate(build(data, choices, replace(settings, lr=None)), data, choices.batch)


def fit(run: TableRun, *, checkpoint: Checkpoint | None = None, progress: bool | None = None) -> None:
    """Trains for the remaining epochs. checkpoint, progress: as in Trainer.fit."""
    model.fit(
        run.trainer,
        run.data,
        epochs=run.epochs,
        batch=run.batch,
        patience=run.settings.patience,
        schedule=run.schedule,
        checkpoint=checkpoint,
        progress=progress,
    )


def sign(run: TableRun) -> None:
    """Writes what `load_table` needs into the network's notes, and nothing else."""
    run.trainer.net.notes = {NOTE: run.data.preparation.as_dict(), LOSS_NOTE: run.data.loss.text}


def fingerprint(tables: Iterable[Table]) -> str:
    """A hash of the columns, their names and cells; the same for the same data."""
    found = hashlib.sha256()
    for table in tables:
        for name, column in sorted(table.columns.items()):
            found.update(f"{name}\0".encode("utf-8", "surrogatepass"))
            if not isinstance(column, Unusable):
                found.update(_bytes(column.numbers if isinstance(column, Written) else column))
    return found.hexdigest()


def _bytes(cells: Array) -> bytes:
    if cells.dtype != object:
        return cells.tobytes()
    return "\0".join(cell or "" for cell in cells.tolist()).encode("utf-8", "surrogatepass")
