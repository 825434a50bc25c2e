"""Prepares a run of `microbp train`: a new one, or one from a checkpoint."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path

from ..core.specs import Loss
from ..core.text import counted
from ..settings.schedules import Schedule
from ..tables import model
from ..tables.defaults import Choices, choose
from ..tables.preparation import Preparation
from ..tables.readers import sources
from ..tables.readers.errors import ArgumentError
from ..tables.split import Data, Split, gather, prepared
from ..training.trainer import Trainer
from . import files, parser
from .options import NetOptions, TrainOptions

_NOTE = "microbp.run"  # the key in a checkpoint's notes for the options that the trainer does not store
_KEPT = ("test", "test_file", "validation", "stream", "seed", "patience", "activation")  # options that a checkpoint stores
_OPTIONAL = ("test_file", "patience")  # those of _KEPT that may be None
CONTINUED = ("resume", "out", "plot", "force", "json", "threads")  # options in the suggested command that continues a run
_FREE = ("data", "checkpoint", *CONTINUED)  # options that are allowed with --resume


@dataclass(frozen=True)
class TableRun:
    """A trainer, its data, and how long to train."""

    options: TrainOptions  # for a resumed run, its original options
    data: Data
    trainer: Trainer
    batch: int
    epochs: int  # total
    schedule: Schedule | None


# ---- a new run ----


def begin(options: TrainOptions) -> TableRun:
    """Prepares a new run: reads the data, and builds the network and its trainer."""
    data = gathered(options)
    choices = chosen(options, data, options.epochs)
    lr = options.lr
    if isinstance(lr, str):  # auto
        lr = model.find_rate(build(options, data, choices, None), data, choices.batch).suggestion
    trainer = build(options, data, choices, lr)
    updates = choices.epochs * -(-data.training // choices.batch)
    return TableRun(options, data, trainer, choices.batch, choices.epochs, model.schedule(options.schedule, trainer, updates))


def gathered(options: NetOptions) -> Data:
    """Reads, splits and prepares the data."""
    return gather(_split(options), target=options.target, drop=options.drop, loss=options.loss)


def _split(options: NetOptions) -> Split:
    source = sources.find(options.data, options.test_file, options.stream)
    return Split(source, test=options.test, validation=options.validation, seed=options.seed)


def chosen(options: NetOptions, data: Data, epochs: int | None = None) -> Choices:
    """Defaults for the options that are not set."""
    return choose(data.training, bool(data.preparation.target.classes), options.batch, epochs)


def build(options: NetOptions, data: Data, choices: Choices, lr: float | None) -> Trainer:
    """Builds the network and its trainer; returns the trainer."""
    return model.build(
        data,
        choices,
        net=options.net,
        activation=options.activation,
        dropout=options.dropout,
        optimizer=options.optimizer,
        lr=lr,
        decay=options.decay,
        seed=options.seed,
        n_threads=options.threads,
    )


# ---- from a checkpoint ----


def note(run: TableRun, epochs: int) -> None:
    """Writes the options that --resume needs into the network's notes. epochs: the total number of epochs."""
    kept = {name: getattr(run.options, name) for name in _KEPT}
    kept |= {"activation": run.options.activation.text, "batch": run.batch, "epochs": epochs, "rows": run.data.training}
    run.trainer.net.notes = {**run.trainer.net.notes, _NOTE: kept}


def resume(options: TrainOptions, checkpoint: Path) -> TableRun:
    """Prepares to continue the run of a checkpoint, with the data named in the options."""
    _refuse_changes(options)
    trainer = _loaded(checkpoint, options.threads)
    loss = trainer.losses[0]
    try:
        kept = trainer.net.notes[_NOTE]
        values = {name: kept[name] for name in (*_KEPT, "batch", "epochs") if kept[name] is not None or name not in _OPTIONAL}
        original = parser.read(TrainOptions, values, checkpoint)
        batch, epochs, rows = original["batch"], original["epochs"], kept["rows"]
        preparation = Preparation.of(trainer.net, checkpoint)
        if preparation is None or not isinstance(loss, Loss) or epochs < trainer.epoch:
            raise TypeError
    except (AttributeError, KeyError, TypeError, ValueError):
        raise ValueError(f"{checkpoint}: not a microbp train checkpoint; use bp.Trainer.load in Python") from None
    options = replace(options, **original, checkpoint=options.checkpoint or checkpoint)
    split = _split(options)
    for _ in split.look():  # counts the rows
        pass
    if split.training != rows:
        raise ValueError(
            f"{options.data}: has {counted(split.training, 'training row')}, but the run of {checkpoint} had {rows}; use the same data"
        )
    return TableRun(options, prepared(split, preparation, loss), trainer, batch, epochs, trainer.schedule)


def _loaded(checkpoint: Path, threads: int | None) -> Trainer:
    advice = "--resume needs a file written by --checkpoint"
    try:
        with files.advising(advice):
            return Trainer.load(checkpoint, n_threads=threads)
    except ValueError as error:
        if "contains a network but no trainer" not in str(error):
            raise
        raise ValueError(f"{checkpoint}: is a network, not a checkpoint; {advice}") from None


def _refuse_changes(options: TrainOptions) -> None:
    """Raises an error for options that cannot be changed when resuming."""
    _, plain = parser.parse(["train", "--", options.data])
    for option in reversed(fields(options)):  # reversed: if --config set the option, the error names --config
        if option.name not in _FREE and getattr(options, option.name) != getattr(plain, option.name):
            raise ArgumentError(option.name, "cannot be changed when resuming; omit it")
