"""`microbp train`: the walk from the command line to the report.

 1. parse    main.py, parser.py, options.py     the words of the command line become TrainOptions
 2. check    files.py                           what is to be written can be, before hours of work
 3. read     ../tables/sources.py               the reader of the file's kind (csv_file.py, frames.py, array_files.py) makes tables
 4. look     ../tables/preparation.py           all rows say what is predicted, classes or a number (summary.py sums them up)
 5. split    ../tables/split.py                 rows to train on, to choose the best epoch by, and of the test
 6. prepare  ../tables/preparation.py           the rows to train on say how columns become features; rows become matrices
 7. choose   ../tables/defaults.py              what the options leave open: widths, batch, epochs, rate, decay
 8. build    ../tables/model.py                 the network, its trainer and the schedule of the rate
 9. fit      ../tables/model.py                 Trainer.fit, with a checkpoint now and then
10. save     this file                          the network, with its preparation in its notes
11. report   ../tables/scores.py, report.py     each part is measured; the measures are written, and drawn by ../plot.py

Steps 3 to 8 make a TableRun (runs.py). With --resume the target, the preparation, the choices and the trainer come from a checkpoint.
What stops the training does not lose the epochs before it: first come steps 10 and 11, then it is raised.
"""

from __future__ import annotations

import contextlib
import json
import signal
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from types import ModuleType

from ..settings.checkpoint import Checkpoint
from ..tables import model, scores
from ..tables.preparation import NOTE
from . import files, report
from .options import TrainOptions
from .runs import TableRun, begin, note, resume

_EVERY = timedelta(minutes=1)  # between checkpoints


def run(options: TrainOptions) -> None:
    """Trains as the options say; saves, draws and prints the report."""
    plot = files.plot_module(options.plot)
    out = options.out or (None if options.data == "digits" else files.unused_name(options.data))
    checkpoint = options.checkpoint if options.checkpoint != options.resume else None
    read = [options.data, options.test_file, options.config, options.resume]
    files.check_writable(options.force, read, {"out": out, "plot": options.plot, "checkpoint": checkpoint})
    with _terminated_is_interrupted():
        ready = resume(options, options.resume) if options.resume else begin(options)
        _finish(ready, _fit(ready), out, plot)


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


def _fit(run: TableRun) -> BaseException | None:
    """Trains for the epochs that are left; returns what stopped it before their end."""
    checkpoint = run.options.checkpoint
    if checkpoint:
        note(run, run.epochs)
    try:
        model.fit(
            run.trainer,
            run.data,
            epochs=run.epochs,
            batch=run.batch,
            patience=run.options.patience,
            schedule=run.schedule,
            checkpoint=Checkpoint(checkpoint, every=_EVERY) if checkpoint else None,
            progress=True,
        )
        if checkpoint:
            note(run, run.trainer.epoch)  # there are no more to train
            run.trainer.save(checkpoint)
    except (KeyboardInterrupt, OSError, FloatingPointError) as stopped:
        return stopped
    return None


def _finish(run: TableRun, stopped: BaseException | None, out: Path | None, plot: ModuleType | None) -> None:
    """Saves first, and then, whatever becomes of that, draws and prints; at last raises what stopped it."""
    options, trainer = run.options, run.trainer
    if trainer.epoch == 0 and stopped:
        if not isinstance(stopped, KeyboardInterrupt):
            raise stopped
        if trainer.steps == 0:
            raise KeyboardInterrupt("interrupted before the first update: there is nothing to save")
    trainer.net.notes = {NOTE: run.data.preparation.as_dict()}
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
            measured = scores.measure(trainer, run.data)
            if plot and options.plot:
                what = report.title(run), measured, run.data.preparation.target.classes, trainer.history
                write(options.plot, lambda path: files.write_whole(path, lambda beside: plot.save_report(beside, *what)))
            print(json.dumps(report.facts(run, measured)) if options.json else report.text(run, measured, written))
    except KeyboardInterrupt as interruption:
        stopped = interruption
    if isinstance(stopped, KeyboardInterrupt):
        raise KeyboardInterrupt(_interrupted(run, written))
    if stopped:
        raise stopped


def _interrupted(run: TableRun, written: list[str]) -> str:
    trainer, checkpoint = run.trainer, run.options.checkpoint
    said = f"interrupted after {trainer.epoch} epochs" if trainer.epoch else f"interrupted after {trainer.steps} updates of the first epoch"
    if written:
        said += f": wrote {' and '.join(written)}"
    if checkpoint and checkpoint.exists():
        said += f"; go on by: microbp train {run.options.data} --resume {checkpoint}"
    return said
