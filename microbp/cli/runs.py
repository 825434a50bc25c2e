"""A run of `microbp train`, ready to be trained: begun anew, or read from the checkpoint of one that was stopped."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path

from ..core.specs import Loss
from ..settings.schedules import Schedule
from ..tables import model, sources
from ..tables.defaults import Choices, choose
from ..tables.errors import ArgumentError
from ..tables.preparation import Preparation
from ..tables.split import Data, Split, gather, prepared
from ..training.trainer import Trainer
from . import parser
from .options import NetOptions, TrainOptions

_NOTE = "microbp.run"  # under which a checkpoint's notes keep what the trainer does not know of its run
_KEPT = ("test", "test_file", "validation", "stream", "seed", "patience", "activation")  # options that a checkpoint keeps
_OPTIONAL = ("test_file", "patience")  # those of them that may be None
_FREE = ("data", "resume", "checkpoint", "out", "plot", "force", "json", "threads")  # options that may go with --resume


@dataclass(frozen=True)
class TableRun:
    """What is trained on what, and for how long."""

    options: TrainOptions  # of a run that goes on, those that it began with
    data: Data
    trainer: Trainer
    batch: int
    epochs: int  # in all
    schedule: Schedule | None


# ---- anew ----


def begin(options: TrainOptions) -> TableRun:
    """A new run."""
    data = gathered(options)
    choices = chosen(options, data, options.epochs)
    lr = options.lr
    if isinstance(lr, str):  # auto
        lr = model.find_rate(build(options, data, choices, None), data, choices.batch).suggestion
    trainer = build(options, data, choices, lr)
    updates = choices.epochs * -(-data.training // choices.batch)
    return TableRun(options, data, trainer, choices.batch, choices.epochs, model.schedule(options.schedule, trainer, updates))


def gathered(options: NetOptions) -> Data:
    """The data, read, split and prepared."""
    return gather(_split(options), target=options.target, drop=options.drop, loss=options.loss)


def _split(options: NetOptions) -> Split:
    source = sources.find(options.data, options.test_file, options.stream)
    return Split(source, test=options.test, validation=options.validation, seed=options.seed)


def chosen(options: NetOptions, data: Data, epochs: int | None = None) -> Choices:
    """What training needs and the options leave open."""
    return choose(data.training, bool(data.preparation.target.classes), options.batch, epochs)


def build(options: NetOptions, data: Data, choices: Choices, lr: float | None) -> Trainer:
    """The network and its trainer."""
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
    """Writes into the network's notes what --resume needs; epochs: how many the run has in all."""
    kept = {name: getattr(run.options, name) for name in _KEPT}
    kept |= {"activation": run.options.activation.text, "batch": run.batch, "epochs": epochs, "rows": run.data.training}
    run.trainer.net.notes = {**run.trainer.net.notes, _NOTE: kept}


def resume(options: TrainOptions, checkpoint: Path) -> TableRun:
    """The run that a checkpoint keeps, on the data that the options name."""
    _refuse_changes(options)
    trainer = Trainer.load(checkpoint, n_threads=options.threads)
    loss = trainer.losses[0]
    try:
        said = trainer.net.notes[_NOTE]
        given = {name: said[name] for name in (*_KEPT, "batch", "epochs") if said[name] is not None or name not in _OPTIONAL}
        known = parser.read(TrainOptions, given, checkpoint)
        batch, epochs, rows = known["batch"], known["epochs"], said["rows"]
        preparation = Preparation.of(trainer.net, checkpoint)
        if preparation is None or not isinstance(loss, Loss):
            raise TypeError
    except (AttributeError, KeyError, TypeError, ValueError):
        raise ValueError(f"{checkpoint}: this is not a checkpoint of microbp train; in Python, bp.Trainer.load opens it") from None
    options = replace(options, **known, checkpoint=options.checkpoint or checkpoint)
    split = _split(options)
    for _ in split.look():  # which counts
        pass
    if split.training != rows:
        raise ValueError(
            f"{options.data}: it has {split.training} rows to train on, and the run of {checkpoint} had {rows}: give it the data that it "
            "began with"
        )
    return TableRun(options, prepared(split, preparation, loss), trainer, batch, epochs, trainer.schedule)


def _refuse_changes(options: TrainOptions) -> None:
    """Refuses options that a run has chosen when it began."""
    _, plain = parser.parse(["train", "--", options.data])
    for option in reversed(fields(options)):  # --config before what it says
        if option.name not in _FREE and getattr(options, option.name) != getattr(plain, option.name):
            raise ArgumentError(option.name, "the run of --resume began with its own: leave it out")
