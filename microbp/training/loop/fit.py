"""fit: epochs one after another, with all that belongs around them.

The walk of t.fit(X, y, epochs=...), step by step, with the file of each:

1. The arguments are checked, and two ways to write a thing become one: training/trainer.py (Trainer.fit), options.py.
2. Rows in memory are read, validation rows set aside, classes weighed: arrays.py. Chunks are read as they come: stream.py.
3. Watch learns what a record shall have beside the loss; what no epoch could do is refused before the first: watch.py, epoch.py (check).
4. The schedule begins: rates.py. A best epoch that was saved before is taken up again: stopping.py.
5. For each epoch: an order of the rows (arrays.py, shuffled), a learning rate for each update (epoch.py), and the updates. The backend
   does them in one call (engine/engine.py, Engine.epoch; src/train/epoch.c), unless there are batch callbacks, micro-batches or losses of
   the caller's own: then Python goes from update to update (epoch.py, _loop).
6. Its record is completed by the validation loss and metrics (watch.py) and kept in the run (run.py).
7. The record is shown to all that go by it: schedule (rates.py), early stopping (stopping.py), checkpoints (checkpoint.py), the progress
   line (progress.py), callbacks (callbacks.py).
8. At the end, however it came, the best epoch's state comes back (stopping.py); then the last checkpoint is written.
"""

from __future__ import annotations

from typing import Any

from ...data.class_weight import ClassWeight
from ...data.rows import Rows
from ..engine.engine import Engine
from .arrays import Arrays, read_validation, split, weigh
from .checkpoint import Checkpoints, Save
from .options import Options
from .progress import ProgressLine
from .rates import Course
from .run import Run
from .stopping import Stopping
from .stream import Stream
from .watch import Watch


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
) -> None:
    """Trains for the epochs of `options`; records go to the run as they are complete. y=None: X is a stream."""
    if y is None:
        data, watch = _in_chunks(run.engine, X, validation, options, sample_weight=sample_weight, class_weight=class_weight)
    else:
        data, watch = _in_memory(run.engine, run.engine.shape.read(X, y, sample_weight), class_weight, validation, options)
    if options.stop is not None:
        watch.check("patience: monitor", options.stop.monitor)
    data.check(run.engine)
    course = Course(run, options.schedule, lambda: options.epochs * data.updates(), watch)
    _go(run, data, watch, course, options, Checkpoints(run, options.checkpoint, save))


def _in_memory(
    engine: Engine, rows: Rows, class_weight: ClassWeight | None, validation: Any, options: Options
) -> tuple[Arrays | Stream, Watch]:
    held_out, trained = split(engine, rows, validation)
    watch = Watch(engine, rows, held_out, options.metrics)
    rows, trained = weigh(engine, rows, trained, class_weight)
    return Arrays(rows, trained, options.shuffle, options.pace), watch


def _in_chunks(engine: Engine, chunks: Any, validation: Any, options: Options, **arrays: Any) -> tuple[Arrays | Stream, Watch]:
    """arrays: arguments of fit that a stream cannot have."""
    for name, value in arrays.items():
        if value is not None:
            raise ValueError(f"fit: {name} is for arrays; a stream's chunks are (X, y, weight)")
    if isinstance(validation, float):
        raise ValueError(f"fit: a stream cannot be split by validation={validation!r}: give validation=(X, y)")
    if options.metrics and validation is None:
        raise ValueError("fit: metrics of a stream need validation=(X, y)")
    watch = Watch(engine, None, read_validation(engine, validation), options.metrics)
    return Stream(engine, chunks, options.shuffle, options.pace, options.epochs), watch


def _go(run: Run, data: Arrays | Stream, watch: Watch, course: Course, options: Options, checkpoints: Checkpoints) -> None:
    """Epochs, until one of the reasons to stop."""
    line, stopping = ProgressLine(options.progress, options.epochs), Stopping(run, options.stop)
    try:
        for done in range(1, options.epochs + 1):
            if stopping.is_over:
                break
            record = data.train(run, course.rates)
            watch.complete(record)
            run.records.append(record)
            course.go_on(record)
            stopping.see(record)
            checkpoints.after_epoch()
            line.show(record, done)
            if options.callbacks(record) or options.pace.brake.is_on():
                break
    except FloatingPointError:  # which must not take the place of a good checkpoint
        raise
    except BaseException:
        checkpoints.interrupted()
        raise
    finally:
        line.close()
        stopping.restore()
    checkpoints.finish()
