"""`microbp train`: the steps from the command line to the report.

 1. parse    ../main.py, parser.py, options.py the command line becomes TrainOptions
 2. check    ../files.py                       output files are writable, before hours of work
 3. read     tables/readers/sources.py         the reader of the file format (csv_file.py, frames.py, array_files.py) returns tables
 4. look     tables/preparation.py             decide from all rows if the target is a class or a number (statistics: encodings/summary.py)
 5. split    tables/split.py                   rows for training, validation and test
 6. prepare  tables/preparation.py             decide from the training rows how columns become features; convert rows to matrices
 7. choose   tables/recipe.py                  defaults for unset options: widths, batch size, epochs, learning rate, number of networks
 8. build    tables/model.py                   a network, its trainer and the schedule of the learning rate
 9. fit      tables/fitted/runs.py             Trainer.fit for each network, with a checkpoint every minute
10. save     this file                         the networks, with the preparation in the notes
11. report   tables/scores.py, quality.py      metrics of each part as text (tables/fitted/report.py), a plot (plot.py), a page
             reports/table_report.py

tables/, reports/ and plot.py are in ../.. of this file. Steps 3 to 8 make a TableRun (tables/fitted/runs.py), as in `bp.fit_table`. With
--resume the target, the preparation, the choices and the trainer come from a checkpoint (resume.py).
If training stops early, by an error or Ctrl-C, steps 10 and 11 follow for the epochs so far. Then the error is raised.
"""

from __future__ import annotations

import contextlib
import json
import signal
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from datetime import timedelta
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from ...core.text import counted
from ...ranks.failing import failed_rank
from ...ranks.ranks import Ranks, joined
from ...reports import table_report
from ...reports.report import Report
from ...settings.checkpoint import Checkpoint
from ...tables import model
from ...tables.fitted import report, runs
from ...tables.fitted.runs import TableRun
from ...tables.ranks.launcher import started
from .. import files, parser
from ..options import TrainOptions
from .resume import CONTINUED, members, note, resume, save_members, settings

if TYPE_CHECKING:
    from ...reports.live import Live

_EVERY = timedelta(minutes=1)  # between checkpoints


def run(options: TrainOptions) -> None:
    """Trains, saves the network, saves the plot and prints the report."""
    ranks = started()
    with _signals_interrupt(), contextlib.ExitStack() as at_end:
        with joined(ranks):
            is_first = not ranks or ranks.rank == 0
            out, plot = _outputs(options) if is_first else (None, None)
            live = files.live_page(options) if is_first else None
            if live:
                at_end.callback(live.close)
            ready = resume(options, options.resume, ranks) if options.resume else _begun(options, ranks)
        options = replace(options, checkpoint=options.checkpoint or options.resume)
        _finish(options, ready, _fit(options, ready, live), out, plot)


def _outputs(options: TrainOptions) -> tuple[Path | None, ModuleType | None]:
    """The file of the network, and the module that plots; checks that all files can be written."""
    plot = files.plot_module(options.plot)
    files.check_report(options.report)
    out = options.out or (None if options.data == "digits" else files.unused_name(options.data))
    checkpoint = options.checkpoint if options.checkpoint != options.resume else None
    pages = {"out": out, "plot": options.plot, "report": options.report}
    read = [options.data, options.test_file, options.config, options.resume]
    files.check_writable(options.force, read, {**pages, "checkpoint": checkpoint})
    if options.checkpoint:
        may_replace = options.force or options.checkpoint == options.resume
        files.check_writable(may_replace, read, {**pages, "checkpoint": members(options.checkpoint)})
    return out, plot


def _begun(options: TrainOptions, ranks: Ranks | None) -> TableRun:
    return runs.begin(options.data, settings(options), identify=options.checkpoint is not None, ranks=ranks)


@contextlib.contextmanager
def _signals_interrupt() -> Iterator[None]:
    """Treats SIGTERM and SIGHUP like Ctrl-C, unless they are ignored, as under nohup."""
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


def _fit(options: TrainOptions, run: TableRun, live: Live | None) -> BaseException | None:
    """Trains for the remaining epochs; returns the exception that stopped the training, if any. live: the page that follows it."""
    checkpoint, ranks = options.checkpoint, run.data.ranks
    writes = checkpoint is not None and (ranks is None or ranks.rank == 0)

    def begun(run: TableRun) -> None:
        if live:
            live.begin(run.place)
        if checkpoint:
            if writes:
                save_members(run, checkpoint)
            note(run)

    try:
        with joined(ranks):
            every = Checkpoint(checkpoint, every=_EVERY) if checkpoint else None
            runs.fit(run, checkpoint=every, progress=True, callback=live.add if live else None, begun=begun)
            if checkpoint and writes:
                run.trainer.save(checkpoint)
    except (KeyboardInterrupt, OSError, FloatingPointError) as stopped:
        return stopped
    except RuntimeError as stopped:
        if failed_rank(stopped) is None:
            raise
        return KeyboardInterrupt() if "failed: KeyboardInterrupt" in str(stopped) else stopped
    return None


def _finish(options: TrainOptions, run: TableRun, stopped: BaseException | None, out: Path | None, plot: ModuleType | None) -> None:
    """Saves the network, then the plot, then prints the report, even if saving failed. At the end raises `stopped` or the first error."""
    if not run.nets and stopped:
        if not isinstance(stopped, KeyboardInterrupt):
            raise stopped
        if run.trainer.steps == 0:
            raise KeyboardInterrupt("interrupted before the first update; there is nothing to save")
    written: list[str] = []
    ranks = run.data.ranks

    def write(path: Path, how: Callable[[Path], object]) -> None:
        nonlocal stopped
        try:
            how(path)
            written.append(str(path))
        except OSError as error:
            stopped = stopped or error

    try:
        found = runs.predictor(run)
        if out:
            write(out, found.net.save)
        if run.nets:
            measured = runs.scores(run, found)
            if plot and options.plot:
                what = report.title(run), measured, run.data.preparation.target.classes, run.trained[0].history
                write(options.plot, lambda path: files.write_whole(path, lambda temporary: plot.save_report(temporary, *what)))
            if options.report and (ranks is None or ranks.rank == 0):
                page = table_report.page(run, measured, found, _command(options, ranks), out, parser.spell)
                write(options.report, Report(page).save)
            usual = files.usual_name(options.data)
            taken = str(usual) if options.out is None and out not in (None, usual) else None
            facts = json.dumps(report.facts(run, measured, parser.spell), allow_nan=False) if options.json else ""
            print(facts or report.text(run, measured, written, taken, parser.spell))
    except KeyboardInterrupt as interruption:
        stopped = interruption
    if isinstance(stopped, KeyboardInterrupt):
        raise KeyboardInterrupt(_interrupted(options, run, out, written))
    if stopped:
        raise stopped


def _command(options: TrainOptions, ranks: Ranks | None) -> str:
    """The command line that starts this training again."""
    line = parser.command_line("train", options, [option.name for option in fields(options) if option.metadata["is_option"]])
    return f"mpiexec -n {ranks.size} {line}" if ranks else line


def _interrupted(options: TrainOptions, run: TableRun, out: Path | None, written: list[str]) -> str:
    trainer, checkpoint = run.trainer, options.checkpoint
    progress = counted(model.epochs_done(trainer), "epoch") if trainer.epoch else f"{counted(trainer.steps, 'update')} of the first epoch"
    text = f"interrupted after {progress} of {run.place}"
    if written:
        text += f"; wrote {' and '.join(written)}"
    if checkpoint and checkpoint.exists():
        again = replace(options, resume=checkpoint, out=out, force=options.force or bool(written))
        text += f"; to continue: {parser.command_line('train', again, CONTINUED)}"
    return text
