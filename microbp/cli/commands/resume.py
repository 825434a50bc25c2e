"""`microbp train --resume`: what a checkpoint stores about its run, and the run that continues it."""

from __future__ import annotations

import zlib
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from ...core.checks import whole_number
from ...core.specs import Loss
from ...core.text import counted
from ...many.ensemble import Ensemble
from ...network.network import Network
from ...ranks.ranks import Ranks
from ...tables import model
from ...tables.columns import reading
from ...tables.fitted.runs import Settings, Stage, TableRun, choose, fingerprint, split_of, with_comm
from ...tables.preparation import Preparation
from ...tables.readers.errors import ArgumentError
from ...tables.split import prepared
from ...training.trainer import Trainer
from .. import files, parser
from ..options import NetOptions, TrainOptions

_NOTE = "microbp.run"  # the key in a checkpoint's notes for what the trainer does not store
_KEPT = (  # options that a checkpoint stores
    "no_header", "test", "test_file", "validation", "split", "weight", "class_weight", "stream", "seed", "budget", "ensemble", "net",
    "activation", "dropout", "optimizer", "lr", "decay", "schedule", "epochs", "batch", "patience",
)  # fmt: skip
CONTINUED = (
    "resume",
    "out",
    "plot",
    "report",
    "live",
    "live_port",
    "force",
    "json",
    "threads",
)  # options in the suggested command that continues a run
_FREE = ("data", "checkpoint", *CONTINUED)  # options that are allowed with --resume


def settings(options: NetOptions) -> Settings:
    """The settings of a training among the options of a command."""
    return Settings(**{field.name: getattr(options, field.name) for field in fields(Settings) if hasattr(options, field.name)})


def note(run: TableRun) -> None:
    """Writes what --resume needs into the notes of the network in training."""
    given = {name: value for name in _KEPT if (value := getattr(run.settings, name)) != getattr(Settings, name)}
    kept = {name: value if isinstance(value, bool) else parser.typed(value) for name, value in given.items()}
    done = [{"best": one.best, "rows": one.rows, "history": one.history, "checksum": _checksum(one.net)} for one in run.stages]
    known = {"options": kept, "rows": run.data.training, "fingerprint": run.fingerprint, "done": done}
    run.trainer.net.notes = {**run.trainer.net.notes, _NOTE: known}


def members(checkpoint: Path) -> Path:
    """The file beside a checkpoint with the networks that are done."""
    return checkpoint.with_name(f"{checkpoint.name}.networks")


def save_members(run: TableRun, checkpoint: Path) -> None:
    """Saves the networks that are done, if there are any."""
    if run.stages:
        Ensemble([stage.net for stage in run.stages]).save(members(checkpoint))


def resume(options: TrainOptions, checkpoint: Path, ranks: Ranks | None = None) -> TableRun:
    """Prepares to continue the run of a checkpoint, with the data named in the options. ranks: the processes that do this together."""
    _refuse_changes(options)
    trainer = _loaded(checkpoint, options.threads, ranks)
    loss = trainer.losses[0]
    try:
        kept = trainer.net.notes[_NOTE]
        original = settings(replace(options, **parser.read(TrainOptions, kept["options"], checkpoint)))
        done = [_done(one) for one in kept["done"]]
        checksums = [one["checksum"] for one in kept["done"]]
        preparation = Preparation.of(trainer.net, checkpoint)
        if preparation is None or not isinstance(loss, Loss):
            raise TypeError
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError):
        raise ValueError(f"{checkpoint}: not a microbp train checkpoint; use bp.Trainer.load in Python") from None
    split = split_of(options.data, original, ranks)
    split.source = reading(split.source, preparation.readings, preparation.target.name)
    for _ in split.look():  # counts the rows
        pass
    split.draw(preparation.target)
    if split.training != kept["rows"]:
        what = f"has {counted(split.training, 'training row')}, but the run of {checkpoint} had {kept['rows']}"
        raise ValueError(f"{options.data}: {what}; use the same data")
    data = prepared(split, preparation, loss, original.class_weight)
    known = fingerprint(split.source.tables())
    if kept["fingerprint"] != known:
        raise ValueError(f"{options.data}: its columns or cells are not those of the run of {checkpoint}; use the same data")
    stages = [Stage(net, *what) for net, what in zip(_finished(checkpoint, checksums, options.threads), done)]
    assumptions = (*next(iter(split.source.tables())).assumptions, *preparation.assumptions)
    run = TableRun(original, data, choose(data, original), trainer, assumptions, known, stages)
    if len(stages) == run.count - 1 and model.epochs_done(trainer) >= run.epochs:
        run.finish()
    return run


def _done(row: dict[str, Any]) -> tuple[int, int, dict[str, list[float]]]:
    """The best epoch, the rows and the history of a network that is done; KeyError, TypeError or ValueError if they are invalid."""
    best, rows = (whole_number(row[name], name, least=1, bits=31) for name in ("best", "rows"))
    history = {str(name): [float(value) for value in values] for name, values in row["history"].items()}
    if {len(values) for values in history.values()} != {len(history["seconds"])} or best > len(history["loss"]):
        raise ValueError("the history has another number of epochs")
    return best, rows, history


def _finished(checkpoint: Path, checksums: list[int], threads: int | None) -> list[Network]:
    """The networks with these checksums, in the file beside a checkpoint. It may have one more, if the run was stopped before the next
    checkpoint.
    """
    where, count = members(checkpoint), len(checksums)
    if not count:
        return []
    if not where.exists():
        raise ValueError(f"{where} does not exist; it has the first {counted(count, 'network')} of the run of {checkpoint}")
    found = list(Ensemble.load(where, n_threads=threads))[:count]
    if list(map(_checksum, found)) != checksums:
        raise ValueError(f"{where}: does not have the first {counted(count, 'network')} of the run of {checkpoint}; restore it from a copy")
    return found


def _checksum(net: Network) -> int:
    return zlib.crc32(net.params.tobytes())


def _loaded(checkpoint: Path, threads: int | None, ranks: Ranks | None) -> Trainer:
    advice = "--resume needs a file written by --checkpoint"
    try:
        with files.advising(advice):
            return Trainer.load(checkpoint, n_threads=threads, **with_comm(ranks))
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
