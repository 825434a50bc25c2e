"""`microbp train --resume`: what a checkpoint stores about its run, and the run that continues it."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

from ..core.specs import Loss
from ..core.text import counted
from ..tables.columns import reading
from ..tables.fitted.runs import Settings, TableRun, fingerprint, split_of
from ..tables.preparation import Preparation
from ..tables.readers.errors import ArgumentError
from ..tables.split import prepared
from ..training.trainer import Trainer
from . import files, parser
from .options import NetOptions, TrainOptions

_NOTE = "microbp.run"  # the key in a checkpoint's notes for the options that the trainer does not store
_KEPT = (  # options that a checkpoint stores
    "no_header", "test", "test_file", "validation", "split", "weight", "class_weight", "stream", "seed", "patience", "activation",
)  # fmt: skip
_OPTIONAL = ("test_file", "weight", "class_weight", "patience")  # those of _KEPT that may be None
CONTINUED = ("resume", "out", "plot", "force", "json", "threads")  # options in the suggested command that continues a run
_FREE = ("data", "checkpoint", *CONTINUED)  # options that are allowed with --resume


def settings(options: NetOptions) -> Settings:
    """The settings of a training among the options of a command."""
    return Settings(**{field.name: getattr(options, field.name) for field in fields(Settings) if hasattr(options, field.name)})


def note(run: TableRun, epochs: int) -> None:
    """Writes what --resume needs into the network's notes. epochs: the total number of epochs."""
    kept = {name: getattr(run.settings, name) for name in _KEPT}
    kept |= {"activation": run.settings.activation.text, "batch": run.batch, "epochs": epochs}
    kept |= {"rows": run.data.training, "fingerprint": run.fingerprint}
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
    original_settings = settings(replace(options, **original))
    split = split_of(options.data, original_settings)
    split.source = reading(split.source, preparation.readings, preparation.target.name)
    for _ in split.look():  # counts the rows
        pass
    split.draw(preparation.target)
    if split.training != rows:
        raise ValueError(
            f"{options.data}: has {counted(split.training, 'training row')}, but the run of {checkpoint} had {rows}; use the same data"
        )
    data = prepared(split, preparation, loss, original_settings.class_weight)
    known = fingerprint(split.source.tables())
    if kept.get("fingerprint", known) != known:  # files of version 0.1 have none
        raise ValueError(f"{options.data}: its columns or cells are not those of the run of {checkpoint}; use the same data")
    return TableRun(original_settings, data, trainer, batch, epochs, trainer.schedule, fingerprint=known)


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
