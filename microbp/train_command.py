"""`microbp train` and `microbp lr-find`: data, split, training; the report is another module's."""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from . import backend, metrics, report, sources
from .arrays import Array
from .choices import Choices, choose
from .graph import Activation
from .network import Network, mlp
from .preparation import Preparation, Target, find_target, prepare
from .range_test import RangeTest, lr_find
from .schedules import Cosine
from .specs import Loss, OptimizerSpec
from .table import Table
from .trainer import Trainer

NOTE = "microbp.table"  # under which a network's notes keep the preparation
_SPLIT = 5  # the purpose of a permutation that splits rows, as in microbp.h
_PARTS = ("train", "validation", "test")
_KEPT = 10_000  # rows of a stream's validation that are kept in memory
_EVERY = timedelta(minutes=1)  # between checkpoints
_RUN_NOTE = "microbp.run"  # under which a checkpoint's notes keep these arguments of the run
_RUN = ("test", "test_file", "validation", "stream", "seed", "batch", "epochs", "patience")
_FREE = ("data", "resume", "checkpoint", "out", "plot", "force", "json", "threads")  # arguments that --resume leaves open
_NUMBERS = ("mse", "half_sse", "mae", "huber", "quantile", "poisson")  # losses that a target of numbers may have


class Part(NamedTuple):
    """Rows of one part of the split, with targets as the loss wants them."""

    x: Array
    y: Array


@dataclass(frozen=True)
class Data:
    """What there is to learn: the parts train, validation and test, of which a stream's are read anew by each call."""

    preparation: Preparation
    loss: Loss
    parts: dict[str, Callable[[], Iterable[Part]]]
    training: int  # rows to train on

    def part(self, name: str) -> Part:
        """All rows of a part."""
        pieces = list(self.parts[name]())
        return pieces[0] if len(pieces) == 1 else Part(*map(np.concatenate, zip(*pieces)))


def run(arguments: argparse.Namespace) -> None:
    """Trains as the parsed arguments say; saves, draws and prints the report."""
    plot = _plotter(arguments.plot)
    out = _out(arguments)
    checkpoint = arguments.checkpoint if arguments.checkpoint != arguments.resume else None
    check_writable(arguments.force, **{"--out": out, "--plot": arguments.plot, "--checkpoint": checkpoint})
    trainer, data = resume(arguments) if arguments.resume else begin(arguments)
    interrupted = not _fit(arguments, trainer, data)
    if interrupted and trainer.epoch == 0:
        raise KeyboardInterrupt("interrupted in the first epoch: there is nothing to save")
    trainer.net.notes = {NOTE: data.preparation.as_dict()}
    if out:
        trainer.net.save(out)
    told = report.measure(arguments, trainer, data)
    if plot:
        plot(told, trainer.history, arguments.plot)
    written = [str(path) for path in (out, arguments.plot) if path]
    print(json.dumps(told.scores) if arguments.json else report.text(arguments, told, trainer, data, written))
    if interrupted:
        wrote = f": wrote {' and '.join(written)}" if written else ""
        go_on = f"; go on by: microbp train {arguments.data} --resume {arguments.checkpoint}" if arguments.checkpoint else ""
        raise KeyboardInterrupt(f"interrupted after {trainer.epoch} epochs{wrote}{go_on}")


def find_rate(arguments: argparse.Namespace) -> None:
    """Looks for a learning rate."""
    check_writable(arguments.force, **{"--plot": arguments.plot})
    figure = _formats(arguments.plot)
    data = gather(arguments)
    result = _range_test(build(arguments, data), arguments, data)
    rates = {name: getattr(result, name) for name in ("suggestion", "valley", "steep", "minimum")}
    if figure:
        result.plot().figure.savefig(arguments.plot)  # type: ignore[union-attr]  # its figure is a whole one
    if arguments.json:
        print(json.dumps(rates))
    else:
        print("\n".join([*(f"{name:10} {rate:.3g}" for name, rate in rates.items()), f"train by it: --lr {rates['suggestion']:.3g}"]))


# ---- before the training: all that could be wrong ----


def _formats(path: Path | None) -> Any:
    """The module that draws, if there is something to draw."""
    if path is None:
        return None
    from . import plot

    if path.suffix.lower() not in plot.FORMATS:
        raise argparse.ArgumentTypeError(f"argument --plot: {str(path)!r} must end in one of {', '.join(plot.FORMATS)}")
    return plot


def _plotter(path: Path | None) -> Any:
    plot = _formats(path)
    return plot and plot.save_report


def _out(arguments: argparse.Namespace) -> Path | None:
    """Where the network goes: without --out, to a new file beside us that is named after the data."""
    said: Path | None = arguments.out
    if said or arguments.data == "digits":
        return said
    stem = Path(arguments.data).name.partition(".")[0] or "net"
    names = (Path(f"{stem}{'' if i == 1 else f'-{i}'}.safetensors") for i in range(1, 10**6))
    return next(path for path in names if not path.exists())


def check_writable(force: bool, **paths: Path | None) -> None:
    """Refuses files that could not be written, and those that exist unless `force`."""
    for option, path in paths.items():
        if path is None:
            continue
        if not path.parent.is_dir():
            raise argparse.ArgumentTypeError(f"argument {option}: the directory of {str(path)!r} does not exist: make it first")
        if path.is_dir() or (path.exists() and not force):
            advice = "choose another name" if path.is_dir() else "--force overwrites it"
            raise argparse.ArgumentTypeError(f"argument {option}: {str(path)!r} exists: {advice}")
        try:
            tempfile.TemporaryFile(dir=path.parent).close()
        except OSError as error:
            raise OSError(f"{option}: the directory of {str(path)!r} cannot be written to ({error.strerror}): choose another") from None


def gather(arguments: argparse.Namespace) -> Data:
    """The rows, prepared and split; ValueError says what is wrong with them."""
    split = _Split(arguments)
    loss: Loss | None = arguments.loss
    first = next(iter(split.tables()), None)
    name = arguments.target or (sources.default_target(first) if first else "")
    target = find_target(split.look(), name, None if loss is None else loss.name not in _NUMBERS)
    loss = loss or Loss("cross_entropy" if target.classes else "mse")
    if loss.detail != "identity":
        target = replace(target, centre=0.0, scale=1.0)  # a rate is predicted as it is
    return _prepared(arguments, split, prepare(split.pieces("train"), target, arguments.drop), loss)


def _prepared(arguments: argparse.Namespace, split: _Split, preparation: Preparation, loss: Loss) -> Data:
    """The rows of a split that has been looked at."""

    def prepared(part: str) -> Callable[[], Iterable[Part]]:
        def parts() -> Iterator[Part]:
            return (Part(preparation.matrix(table), _targets(preparation.target, table, loss)) for table in split.pieces(part))

        if arguments.stream and part != "validation":
            return parts
        kept = list(parts())
        return lambda: kept

    return Data(preparation, loss, {part: prepared(part) for part in _PARTS}, split.training)


class _Split:
    """The tables that the arguments name, and which of their rows train, choose the best epoch, and test."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self._arguments = arguments
        self.training = 0  # rows to train on
        if arguments.stream:
            self.tables: Callable[[], Iterable[Table]] = sources.stream(arguments.data)
            own_test = None
        else:
            train, own_test = sources.read(arguments.data)
            self.tables = lambda: [train]
        self._tests: Callable[[], Iterable[Table]] | None = (lambda: [own_test]) if own_test else None
        if arguments.test_file:
            tests = None if arguments.stream else [sources.read(arguments.test_file).train]
            self._tests = sources.stream(arguments.test_file) if tests is None else lambda: tests

    def pieces(self, part: str) -> Iterator[Table]:
        """The tables of a part."""
        if part == "test" and self._tests:
            yield from self._tests()
            return
        kept = 0
        for i, table in enumerate(self.tables()):
            rows = self._rows(i, table.count)[part]
            if part == "validation" and self._arguments.stream:
                rows = rows[: _KEPT - kept]  # as many as fit into memory
            kept += len(rows)
            if len(rows):
                yield table.take(rows)

    def look(self) -> Iterator[Table]:
        """All rows, which are counted on the way."""
        for i, table in enumerate(self.tables()):
            self.training += len(self._rows(i, table.count)["train"])
            yield table

    def _rows(self, piece: int, count: int) -> dict[str, Array]:
        """The numbers of a piece's rows by part."""
        order = np.asarray(backend.load().permutation(self._arguments.seed, _SPLIT, piece, count))
        least = 1 if piece == 0 else 0
        tested = 0 if self._tests else max(least, round(self._arguments.test * count))
        validated = tested + max(least, round(self._arguments.validation * (count - tested)))
        if validated >= count and piece == 0:
            raise argparse.ArgumentTypeError(
                f"argument --test: {self._arguments.test} leaves none of the {count} rows to train on: choose less"
            )
        rows = {"train": order[validated:], "validation": order[tested:validated], "test": order[:tested]}
        return {part: np.sort(chosen) for part, chosen in rows.items()}


def _targets(target: Target, table: Table, loss: Loss) -> Array:
    """Labels for a loss over classes, a number for one over numbers, else a column per class: 1 for the row's own, 0 or -1 for others."""
    values = target.values(table)
    if loss.detail == "softmax" or not target.classes:
        return values
    return np.where(values[:, None] == np.arange(len(target.classes)), 1.0, -1.0 if loss.name == "hinge" else 0.0)


# ---- training ----


def begin(arguments: argparse.Namespace) -> tuple[Trainer, Data]:
    """A new trainer, with its schedule, and its data."""
    data = gather(arguments)
    trainer = build(arguments, data)
    if arguments.lr == "auto":
        trainer.lr = _range_test(trainer, arguments, data).suggestion
    steps = arguments.epochs * -(-data.training // arguments.batch)
    schedules = {None: Cosine(trainer.lr, steps), "cosine": Cosine(trainer.lr, steps), "constant": None}
    trainer.schedule = schedules.get(arguments.schedule, arguments.schedule)
    if arguments.checkpoint:
        _note_run(arguments, trainer, data)
    return trainer, data


def build(arguments: argparse.Namespace, data: Data) -> Trainer:
    """The network and its trainer; what was not said is chosen, batch and epochs in `arguments`."""
    target, rows = data.preparation.target, data.training
    choices = choose(rows, bool(target.classes), arguments.batch)
    arguments.batch, arguments.epochs = choices.batch, getattr(arguments, "epochs", None) or choices.epochs
    net = _network(arguments, _widths(arguments, data, choices))
    net.notes = {NOTE: data.preparation.as_dict()}
    return Trainer(net, data.loss, _optimizer(arguments, choices))


def _network(arguments: argparse.Namespace, widths: list[int]) -> Network:
    return mlp(widths, arguments.activation, seed=arguments.seed, n_threads=arguments.threads, dropout=arguments.dropout)


def _widths(arguments: argparse.Namespace, data: Data, choices: Choices) -> list[int]:
    ends = data.preparation.width, len(data.preparation.target.classes) or 1
    if arguments.net is None:
        return [ends[0], *choices.hidden, ends[1]]
    said = arguments.net
    right = [ends[0], *said[1:-1], ends[1]]
    if any(width not in (None, end) for width, end in zip((said[0], said[-1]), ends)):
        wrong = "-".join(str(width or "xy"[i > 0]) for i, width in enumerate(said))
        outputs = f"{ends[1]} classes" if data.preparation.target.classes else "1 output"
        raise argparse.ArgumentTypeError(
            f"argument --net: {wrong} does not fit {arguments.data}, which has {ends[0]} features and {outputs}: "
            f"write --net {'-'.join(map(str, right))}"
        )
    return right


def _optimizer(arguments: argparse.Namespace, choices: Choices) -> OptimizerSpec:
    """What --optimizer says, completed by --lr and --decay, and for the default by the choices."""
    said: OptimizerSpec = arguments.optimizer
    chosen = dict(said.parameters)
    if said == OptimizerSpec("adam"):
        chosen = {"lr": choices.lr, "weight_decay": choices.decay}
    chosen |= {"lr": arguments.lr} if isinstance(arguments.lr, float) else {}
    chosen |= {"weight_decay": arguments.decay} if arguments.decay is not None else {}
    return OptimizerSpec(said.name, **chosen)


def _range_test(trainer: Trainer, arguments: argparse.Namespace, data: Data) -> RangeTest:
    """On the rows to train on; of a stream on its first piece."""
    return lr_find(trainer, *next(iter(data.parts["train"]())), batch_size=arguments.batch)


def _fit(arguments: argparse.Namespace, trainer: Trainer, data: Data) -> bool:
    """Trains for the epochs that are left; False if the user interrupted it."""
    target = data.preparation.target

    def rmse(y: Array, outputs: Array) -> float:
        return metrics.rmse(y, outputs) * target.scale  # in the target's unit

    rows = (data.parts["train"],) if arguments.stream else data.part("train")
    try:
        trainer.fit(
            *rows,
            epochs=arguments.epochs - trainer.epoch,
            batch_size=arguments.batch,
            validation=tuple(data.part("validation")),
            patience=arguments.patience or arguments.epochs,  # without --patience: all epochs, and the best of them
            schedule=trainer.schedule,
            metrics="accuracy" if target.classes else rmse,
            progress=True,
            checkpoint=arguments.checkpoint,
            every=_EVERY,
        )
    except KeyboardInterrupt:
        return False
    if arguments.checkpoint:
        arguments.epochs = trainer.epoch  # all that there are to be
        _note_run(arguments, trainer, data)
        trainer.save(arguments.checkpoint)
    return True


# ---- runs that go on ----


def _note_run(arguments: argparse.Namespace, trainer: Trainer, data: Data) -> None:
    """Into the notes of the network, what a file of the trainer does not have of the run."""
    run = {name: getattr(arguments, name) for name in _RUN}
    trainer.net.notes |= {_RUN_NOTE: run | {"activation": arguments.activation.text, "rows": data.training}}


def resume(arguments: argparse.Namespace) -> tuple[Trainer, Data]:
    """The trainer of --resume and its data; what the run began with goes into `arguments`."""
    _refuse_changes(arguments)
    trainer = Trainer.load(arguments.resume, n_threads=arguments.threads)
    notes, loss = trainer.net.notes, trainer.losses[0]
    if not {_RUN_NOTE, NOTE} <= notes.keys() or not isinstance(loss, Loss):
        raise ValueError(f"{arguments.resume}: this is no checkpoint of microbp train; bp.Trainer.load of Python goes on with it")
    said = notes[_RUN_NOTE]
    vars(arguments).update({name: said[name] for name in _RUN}, activation=Activation.parse(said["activation"]))
    arguments.checkpoint = arguments.checkpoint or arguments.resume
    split = _Split(arguments)
    for _ in split.look():
        pass
    if split.training != said["rows"]:
        raise ValueError(
            f"{arguments.data}: it has {split.training} rows to train on, and the run of {arguments.resume} had {said['rows']}: give it "
            "the data that it began with"
        )
    return trainer, _prepared(arguments, split, Preparation.from_dict(notes[NOTE]), loss)


def _refuse_changes(arguments: argparse.Namespace) -> None:
    """Refuses options that a run has chosen when it began."""
    plain = vars(arguments.parser.parse_args([arguments.data]))
    for action in arguments.parser._actions:
        if action.dest in plain and action.dest not in _FREE and getattr(arguments, action.dest) != plain[action.dest]:
            raise argparse.ArgumentTypeError(f"argument {action.option_strings[0]}: the run of --resume began with its own: leave it out")
