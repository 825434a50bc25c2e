"""fit: the loop over epochs, and what happens before, between and after them.

What t.fit(X, y, epochs=...) does, with the file of each step:

1. Check the arguments, and turn alternative arguments into one form: training/trainer.py (Trainer.fit), options.py.
2. Read rows in memory, hold out validation rows, apply class weights: arrays.py. Chunks are read during training: stream.py.
3. Determine the entries of a record; raise errors for arguments that cannot work in any epoch: watch.py, epoch.py (check).
4. Set the statistics of bp.Standardize layers that have none yet: engine/engine.py (standardized). Start the schedules: rates.py. If the
   trainer was loaded from a file with a best epoch, continue with it: stopping.py.
5. For each epoch: the numbers with schedules (rates.py, Numbers), an order of the rows (arrays.py, shuffled), a learning rate for each
   update (epoch.py), and the updates. The backend does them in one call (engine/engine.py, Engine.epoch; src/train/epoch.c). With batch
   callbacks, micro-batches or custom losses, Python loops over the updates (epoch.py, _loop).
6. Add validation loss, metrics and norms of layers to the record of the epoch (watch.py, watch_layers.py), pass it to the schedule
   (rates.py), and append it to the run (run.py). From then on the epoch counts.
7. Pass the record on, in this order, to early stopping (stopping.py), checkpoints (checkpoint.py), the progress line (progress.py),
   callbacks (callbacks.py).
8. After an error that is not about numbers, save a checkpoint of the last complete epoch. At the end, also after an error, restore the best
   epoch's state (stopping.py). Then, unless there was an error, save a last checkpoint.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from ...core.text import brief
from ...data.class_weight import ClassWeight
from ...data.rows import Rows
from ..engine import sparse
from ..engine.engine import Engine
from .arrays import Arrays, arrays_of, check_order, read_rows, read_validation, split, weigh
from .checkpoint import Checkpoints, Save
from .epoch import count
from .options import Options
from .rates import Numbers, Rates
from .records.history import Record
from .records.progress import ProgressLine
from .run import Run
from .stopping import Stopping
from .stream import Stream
from .watch import Watch

_REASONS = ("", "callback", "max_time", "goal", "no step", "gradient")  # to stop after an epoch


def fit(
    run: Run,
    X: Any,  # noqa: N803
    y: Any,
    options: Options,
    save: Save,
    *,
    sample_weight: Any,
    class_weight: ClassWeight | None,
    validation: Any,
    chosen: Any,
    lengths: Any = None,
) -> None:
    """Trains for `options.epochs` epochs; the run keeps their records. y=None: X is a stream, or rows whose targets no loss needs.
    chosen: the indices of the rows to use; None: all."""
    is_stream = y is None and not run.engine.shape.are_rows(X)
    options = options.in_team(run.engine, stream=is_stream, validation=_form(validation), class_weight=_form(class_weight))
    if is_stream:
        arrays = {"sample_weight": sample_weight, "class_weight": class_weight, "rows": chosen, "lengths": lengths}
        data, watch = _in_chunks(run.engine, X, validation, options, **arrays)
    else:
        rows = read_rows(run.engine, X, y, sample_weight, lengths, options.batching.team)
        data, watch = _in_memory(run.engine, rows, class_weight, validation, options, chosen)
    data.check(run.engine)
    updates = functools.cache(lambda: options.epochs * data.updates())
    rates = Rates(run, options.schedule, updates, watch)
    numbers = Numbers(run, options.schedules, updates)
    checkpoints = Checkpoints(run, options.checkpoint if options.batching.team.is_first else None, save)
    stopping = Stopping(run, options.stop, options.checkpoint is not None)
    with data.standardized(run.engine):
        _loop(run, data, watch, rates, numbers, options, stopping, checkpoints)


def _in_memory(
    engine: Engine, rows: Rows, class_weight: ClassWeight | None, validation: Any, options: Options, chosen: Any
) -> tuple[Arrays | Stream, Watch]:
    carries, team = options.batching.carries, options.batching.team
    if carries:
        _check_carrying(validation, chosen)
    used = np.arange(rows.count) if carries else rows.active() if chosen is None else check_order(chosen, rows, "fit: rows", team.has_parts)
    held_out, trained = split(engine, rows, validation, used, not carries, team)
    if team.has_parts and not team.any(len(trained) > 0):
        raise ValueError("fit: no rank has a row to train on; rows or validation leaves none")
    measures_chosen = chosen is not None and options.metrics and held_out is None
    watch = Watch(engine, rows.take(used) if measures_chosen else rows, held_out, options.metrics, options.batching)
    rows, present = weigh(engine, rows, trained, class_weight, team)
    is_shuffled = options.shuffle and not carries and not engine.is_solver
    return arrays_of(rows, trained if carries else present, is_shuffled, options.batching), watch


def _form(given: Any) -> str:
    """How an argument is given, which must be the same in all processes."""
    return brief(given) if given is None or isinstance(given, str | float) else type(given).__name__


def _check_carrying(validation: Any, chosen: Any) -> None:
    if chosen is not None:
        raise ValueError(
            "fit: carry_state needs all rows, because each goes on from one of the batch before; pass X[rows] instead of rows="
        )
    is_index = isinstance(validation, list) and validation and not isinstance(validation[0], np.ndarray)
    if not isinstance(validation, tuple | list | None) or is_index:
        raise ValueError("fit: carry_state needs validation=(X, y), whose rows go on from batch to batch too, not a part of the rows")


def _in_chunks(engine: Engine, chunks: Any, validation: Any, options: Options, **arrays: Any) -> tuple[Arrays | Stream, Watch]:
    """Data and watch for a stream. arrays: arguments of fit that a stream does not support; ValueError if one is set."""
    if engine.is_solver:
        raise ValueError(f"fit: {engine.optimizer} needs all rows at once, as arrays, not as a stream")
    if options.batching.carries:
        raise ValueError("fit: carry_state needs arrays, not a stream; train chunk by chunk: t.step(X, y, state=state)")
    stream = Stream(engine, chunks, options.shuffle, options.batching, options.epochs)
    for name, value in arrays.items():
        if value is not None:
            into = "lengths into the chunks: (X, y, weight, lengths)" if name == "lengths" else "weights into the chunks: (X, y, weight)"
            advice = "leave the other rows out of the chunks" if name == "rows" else f"put {into}"
            raise ValueError(f"fit: {name} does not work with a stream; {advice}")
    if isinstance(validation, float | np.ndarray):
        raise ValueError(f"fit: a stream cannot be split; pass validation=(X, y), not {brief(validation)}")
    if options.metrics and validation is None:
        raise ValueError("fit: metrics with a stream need validation=(X, y)")
    given = read_validation(engine, validation, may_be_none=options.batching.team.has_parts)
    return stream, Watch(engine, None, given, options.metrics, options.batching)


def _loop(
    run: Run,
    data: Arrays | Stream,
    watch: Watch,
    rates: Rates,
    numbers: Numbers,
    options: Options,
    stopping: Stopping,
    checkpoints: Checkpoints,
) -> None:
    """Trains epoch after epoch, until there is a reason to stop."""
    team, layers = options.batching.team, options.batching.layers
    line = ProgressLine(options.progress if team.is_first else False, options.epochs, layers.entries if layers else ())
    run.reason, reached = None, ""
    try:
        for done in range(1, options.epochs + 1):
            if stopping.is_over or stopping.is_done(options.epochs - done + 1):
                reached = "patience"
                break
            numbers.start_epoch()
            if layers is not None:
                layers.start_epoch(done == options.epochs)
            steps = run.engine.steps
            record = data.train(run, rates.function)
            watch.complete(record)
            if layers is not None:
                layers.complete(record)
            count(run, record, team, rates.after_epoch)
            stopping.after_epoch(record)
            checkpoints.after_epoch()
            line.show(record, done)
            with run.engine.guest():
                stops = options.callbacks(record)
            reached = "callback" if stops else options.batching.stop_check.reason() or _reached(run, record, options, steps)
            if team.ranks is not None:
                reached = team.first(reached, _REASONS)
            if reached:
                break
        run.reason = reached or ("patience" if stopping.is_over else "epochs")
    except BaseException as error:
        if not isinstance(error, FloatingPointError):  # after one, a good checkpoint is not overwritten
            checkpoints.interrupted()
        stopping.undo()
        raise
    finally:
        line.close()
        stopping.restore()
    checkpoints.finish()


def _reached(run: Run, record: Record, options: Options, steps: int) -> str:
    """What the epoch has reached, "" if nothing. steps: the number before it."""
    engine = run.engine
    if options.goal is not None and record["loss"] <= options.goal:
        return "goal"
    if engine.is_solver and engine.steps == steps:
        return "no step"
    if options.gradient_tolerance is not None:
        grads = sparse.in_full(engine.grads, sparse.grads_of(engine._core, engine.net), engine.net)
        if np.abs(grads).max(initial=0) <= options.gradient_tolerance:
            return "gradient"
    return ""
