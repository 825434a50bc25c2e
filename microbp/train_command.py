"""`microbp train` and `microbp lr-find`: data, split, training; the report is another module's."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from . import metrics, report
from .arrays import Array
from .choices import Choices, choose
from .dataset import Data, Split, gather, prepared_rows
from .graph import Activation
from .network import Network, mlp
from .preparation import Preparation
from .range_test import RangeTest, lr_find
from .schedules import Cosine
from .specs import Loss, OptimizerSpec
from .trainer import Trainer
from .whole_file import replacing

NOTE = "microbp.table"  # under which a network's notes keep the preparation
_EVERY = timedelta(minutes=1)  # between checkpoints
_RUN_NOTE = "microbp.run"  # under which a checkpoint's notes keep these arguments of the run
_RUN = ("test", "test_file", "validation", "stream", "seed", "batch", "epochs", "patience")
_FREE = ("data", "resume", "checkpoint", "out", "plot", "force", "json", "threads")  # arguments that --resume leaves open


def run(arguments: argparse.Namespace) -> None:
    """Trains as the parsed arguments say; saves, draws and prints the report."""
    plot = _plotter(arguments.plot)
    out = _out(arguments)
    checkpoint = arguments.checkpoint if arguments.checkpoint != arguments.resume else None
    read = [arguments.data, arguments.test_file, arguments.config, arguments.resume]
    check_writable(arguments.force, read, {"--out": out, "--plot": arguments.plot, "--checkpoint": checkpoint})
    with _terminated_is_interrupted():
        trainer, data = resume(arguments) if arguments.resume else begin(arguments)
        _finish(arguments, trainer, data, out, plot, _fit(arguments, trainer, data))


def _finish(
    arguments: argparse.Namespace, trainer: Trainer, data: Data, out: Path | None, plot: Any, stopped: BaseException | None
) -> None:
    """Saves first, and then, whatever becomes of that, draws and prints; at last raises what stopped it."""
    if trainer.epoch == 0 and stopped:
        if not isinstance(stopped, KeyboardInterrupt):
            raise stopped
        if trainer.steps == 0:
            raise KeyboardInterrupt("interrupted before the first update: there is nothing to save")
    trainer.net.notes = {NOTE: data.preparation.as_dict()}
    written: list[str] = []

    def write(path: Path, how: Callable[[Path], object]) -> None:
        nonlocal stopped
        try:
            how(path)
            written.append(str(path))
        except OSError as error:
            stopped = stopped or error

    try:
        if out:
            write(out, trainer.net.save)
        if trainer.epoch > 0:
            told = report.measure(arguments, trainer, data)
            if plot:
                write(arguments.plot, lambda path: plot(told, trainer.history, path))
            print(json.dumps(told.scores) if arguments.json else report.text(arguments, told, trainer, data, written))
    except KeyboardInterrupt as interruption:
        stopped = interruption
    if isinstance(stopped, KeyboardInterrupt):
        raise KeyboardInterrupt(_interrupted(arguments, trainer, written))
    if stopped:
        raise stopped


def _interrupted(arguments: argparse.Namespace, trainer: Trainer, written: list[str]) -> str:
    said = f"interrupted after {trainer.epoch} epochs" if trainer.epoch else f"interrupted after {trainer.steps} updates of the first epoch"
    if written:
        said += f": wrote {' and '.join(written)}"
    if arguments.checkpoint and arguments.checkpoint.exists():
        said += f"; go on by: microbp train {arguments.data} --resume {arguments.checkpoint}"
    return said


@contextlib.contextmanager
def _terminated_is_interrupted() -> Iterator[None]:
    """What asks the process to end is treated as Ctrl-C, unless it is ignored, as nohup has it."""
    signals = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {number: signal.getsignal(number) for number in signals}
    usual = [number for number in signals if before[number] == signal.SIG_DFL]
    for number in usual:
        signal.signal(number, signal.default_int_handler)
    try:
        yield
    finally:
        for number in usual:
            signal.signal(number, before[number])


def find_rate(arguments: argparse.Namespace) -> None:
    """Looks for a learning rate."""
    check_writable(arguments.force, [arguments.data, arguments.test_file, arguments.config], {"--plot": arguments.plot})
    figure = _formats(arguments.plot)
    data = gather(arguments)
    result = _range_test(build(arguments, data), arguments, data)
    rates = {name: getattr(result, name) for name in ("suggestion", "valley", "steep", "minimum")}
    if figure:
        with replacing(arguments.plot) as beside:
            result.plot().figure.savefig(beside)  # type: ignore[union-attr]  # its figure is a whole one
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


def _plotter(path: Path | None) -> Callable[[Any, Any, Path], None] | None:
    plot = _formats(path)
    if plot is None:
        return None

    def draw(told: report.Told, history: dict[str, list[float]], path: Path) -> None:
        with replacing(path) as beside:
            plot.save_report(told, history, beside)

    return draw


def _out(arguments: argparse.Namespace) -> Path | None:
    """Where the network goes: without --out, to a new file beside us that is named after the data."""
    said: Path | None = arguments.out
    if said or arguments.data == "digits":
        return said
    stem = Path(arguments.data).name.partition(".")[0] or "net"
    names = (Path(f"{stem}{'' if i == 1 else f'-{i}'}.safetensors") for i in range(1, 10**6))
    return next(path for path in names if not path.exists())


def check_writable(force: bool, read: Sequence[str | Path | None], written: Mapping[str, Path | None]) -> None:
    """Refuses files that could not be written, or are needed otherwise, and those that exist unless `force`."""
    taken = {os.path.realpath(path): "read" for path in read if path}
    for option, path in written.items():
        if path is None:
            continue
        if not path.parent.is_dir():
            raise argparse.ArgumentTypeError(f"argument {option}: the directory of {str(path)!r} does not exist: make it first")
        use = taken.setdefault(os.path.realpath(path), f"written by {option}")
        if use != f"written by {option}":
            raise argparse.ArgumentTypeError(f"argument {option}: {str(path)!r} is {use} already: choose another name")
        if path.is_dir() or (path.exists() and not force):
            advice = "choose another name" if path.is_dir() else "--force overwrites it"
            raise argparse.ArgumentTypeError(f"argument {option}: {str(path)!r} exists: {advice}")
        try:
            tempfile.TemporaryFile(dir=path.parent).close()
        except OSError as error:
            raise OSError(f"{option}: the directory of {str(path)!r} cannot be written to ({error.strerror}): choose another") from None


# ---- training ----


def begin(arguments: argparse.Namespace) -> tuple[Trainer, Data]:
    """A new trainer, with its schedule, and its data."""
    data = gather(arguments)
    if arguments.lr == "auto":
        arguments.lr = _range_test(build(arguments, data), arguments, data).suggestion
    trainer = build(arguments, data)
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


def _fit(arguments: argparse.Namespace, trainer: Trainer, data: Data) -> BaseException | None:
    """Trains for the epochs that are left; what stopped it before their end, which is not to lose the epochs before."""
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
            every=_EVERY if arguments.checkpoint else 1,
        )
        if arguments.checkpoint:
            arguments.epochs = trainer.epoch  # all that there are to be
            _note_run(arguments, trainer, data)
            trainer.save(arguments.checkpoint)
    except (KeyboardInterrupt, OSError, FloatingPointError) as stopped:
        return stopped
    return None


# ---- runs that go on ----


def _note_run(arguments: argparse.Namespace, trainer: Trainer, data: Data) -> None:
    """Into the notes of the network, what a file of the trainer does not have of the run."""
    run = {name: getattr(arguments, name) for name in _RUN}
    trainer.net.notes |= {_RUN_NOTE: run | {"activation": arguments.activation.text, "rows": data.training}}


def resume(arguments: argparse.Namespace) -> tuple[Trainer, Data]:
    """The trainer of --resume and its data; what the run began with goes into `arguments`."""
    _refuse_changes(arguments)
    trainer = Trainer.load(arguments.resume, n_threads=arguments.threads)
    loss, notes = trainer.losses[0], trainer.net.notes
    try:
        said = notes[_RUN_NOTE]
        preparation, activation = Preparation.from_dict(notes[NOTE]), Activation.parse(said["activation"])
        vars(arguments).update({name: said[name] for name in _RUN}, activation=activation)
        if not isinstance(loss, Loss):
            raise TypeError("an own loss")
    except (AttributeError, KeyError, TypeError, ValueError):
        raise ValueError(f"{arguments.resume}: this is no checkpoint of microbp train; bp.Trainer.load of Python goes on with it") from None
    arguments.checkpoint = arguments.checkpoint or arguments.resume
    split = Split(arguments)
    for _ in split.look():
        pass
    if split.training != said["rows"]:
        raise ValueError(
            f"{arguments.data}: it has {split.training} rows to train on, and the run of {arguments.resume} had {said['rows']}: give it "
            "the data that it began with"
        )
    return trainer, prepared_rows(arguments, split, preparation, loss)


def _refuse_changes(arguments: argparse.Namespace) -> None:
    """Refuses options that a run has chosen when it began."""
    plain = vars(arguments.parser.parse_args([arguments.data]))
    for action in arguments.parser._actions:
        if action.dest in plain and action.dest not in _FREE and getattr(arguments, action.dest) != plain[action.dest]:
            raise argparse.ArgumentTypeError(f"argument {action.option_strings[0]}: the run of --resume began with its own: leave it out")
