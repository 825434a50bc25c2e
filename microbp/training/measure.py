"""What cross-validation, searches and the doctor need besides fit: which rows a fraction holds out; losses, metrics and predictions of some
rows; a copy to try things on."""

from __future__ import annotations

import copy
from typing import Any

from ..data import lengths as row_lengths
from ..data.arrays import Array
from ..data.rows import Rows
from ..settings import metrics as metric_functions
from ..settings.metrics import Metrics, Outputs
from . import shown
from .engine.engine import Engine
from .loop.arrays import check_order, hold_out
from .loop.records.history import Record
from .loop.run import Run
from .loop.watch import Watch, entries_of
from .trainer import Trainer


def twin(trainer: Trainer) -> Trainer:
    """An independent copy of the trainer and its network, of this process alone, without the attributes of a subclass."""
    with trainer._engine.hold():
        state = copy.deepcopy(trainer.__getstate__() | {"attributes": {}})
    copied = Trainer.__new__(Trainer)
    copied.__setstate__(state)
    return copied


def run_of(trainer: Trainer) -> Run:
    """The engine of a trainer and its progress, for functions that do steps of their own with a twin."""
    return trainer._run


def count_rows(trainer: Trainer, X: Any, y: Any, sample_weight: Any, lengths: Any) -> int:  # noqa: N803
    """The number of rows; the error of fit if they do not match the trainer."""
    return trainer._run.engine.read(X, y, sample_weight, lengths=lengths).count


def held_out(
    trainer: Trainer,
    X: Any,  # noqa: N803
    y: Any,
    sample_weight: Any,
    lengths: Any,
    chosen: Any,
    fraction: Any,
) -> Array:
    """The indices of the rows that fit(validation=fraction) of this trainer holds out. chosen: its argument `rows`."""
    engine = trainer._run.engine
    rows = engine.read(X, y, sample_weight, lengths=lengths)
    used = rows.active() if chosen is None else check_order(chosen, rows, "fit: rows")
    return used[hold_out(engine, rows, fraction, used)]


def check_monitor(trainer: Trainer, what: str, monitor: str, metrics: Metrics) -> None:
    """ValueError if fit(metrics=metrics) does not measure this entry on validation rows. what: the function that compares it."""
    engine = trainer._run.engine
    entries = entries_of(engine, metric_functions.resolve(metrics, engine.shape.names), True)
    entries.check("the comparison", monitor, what)
    if monitor in ("loss", *entries.losses):
        raise ValueError(f"{what}: {monitor!r} is of the training rows, but validation rows are compared; pass monitor='val_{monitor}'")


def measure(
    trainer: Trainer,
    X: Any,  # noqa: N803
    y: Any,
    sample_weight: Any = None,
    lengths: Any = None,
    *,
    index: Array | None = None,
    metrics: Metrics = (),
) -> dict[str, float]:
    """The "loss" of the rows, with several outputs that of each, and the metrics by name. index: of the rows; None: all."""
    engine = trainer._run.engine
    with engine.training():
        watch, _ = _watch(engine, X, y, sample_weight, lengths, index, metrics)
        record = Record()
        watch.complete(record)
    return {name.removeprefix("val_"): value for name, value in record.items()}


def outputs_of(trainer: Trainer, X: Any, y: Any, sample_weight: Any = None, lengths: Any = None, index: Array | None = None) -> Outputs:  # noqa: N803
    """Targets, weights and outputs of the rows, as metrics get them. Arguments: as in `measure`."""
    engine = trainer._run.engine
    with engine.training():
        watch, rows = _watch(engine, X, y, sample_weight, lengths, index, ())
        found = watch.outputs(rows, rows)
        found.predictions, found.raw  # noqa: B018  # computed now, and kept
    return found


def _watch(
    engine: Engine,
    X: Any,  # noqa: N803
    y: Any,
    sample_weight: Any,
    lengths: Any,
    index: Array | None,
    metrics: Metrics,
) -> tuple[Watch, Rows]:
    """What measures the rows, and those with a weight above 0."""
    rows = engine.read(X, y, sample_weight, lengths=lengths)
    rows = rows if index is None else rows.take(index)
    engine.check_targets(rows)
    return Watch(engine, None, rows.present(), metric_functions.resolve(metrics, engine.shape.names)), rows.present()


def facts(trainer: Trainer) -> dict[str, str]:
    """What the trainer trains, and how, as `print` shows it."""
    return shown.facts(trainer._run)


def predictions(trainer: Trainer, X: Any, lengths: Any, index: Array) -> list[Array]:  # noqa: N803
    """The predictions for the rows with these indices, one array per output."""
    shape = trainer._run.engine.shape
    xs, read = (shape.read_inputs(X), None) if lengths is None else shape.sized(X, lengths)
    inputs, given = [x[index] for x in xs], shape.sequences.given(row_lengths.take(read, index))
    found = trainer.net.predict(inputs[0] if len(inputs) == 1 else inputs, lengths=given)
    return found if isinstance(found, list) else [found]
