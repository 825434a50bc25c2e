"""What cross-validation and searches need besides fit: which rows a fraction holds out; losses, metrics and predictions of some rows."""

from __future__ import annotations

from typing import Any

from ..data import lengths as row_lengths
from ..data.arrays import Array
from ..settings import metrics as metric_functions
from ..settings.metrics import Metrics
from .loop.arrays import check_order, hold_out
from .loop.history import Record
from .loop.watch import Watch, entries_of
from .trainer import Trainer


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
    rows = engine.read(X, y, sample_weight, lengths=lengths)
    rows = rows if index is None else rows.take(index)
    with engine.training():
        engine.check_targets(rows)
        record = Record()
        Watch(engine, None, rows.present(), metric_functions.resolve(metrics, engine.shape.names)).complete(record)
    return {name.removeprefix("val_"): value for name, value in record.items()}


def predictions(trainer: Trainer, X: Any, lengths: Any, index: Array) -> list[Array]:  # noqa: N803
    """The predictions for the rows with these indices, one array per output."""
    shape = trainer._run.engine.shape
    xs, read = (shape.read_inputs(X), None) if lengths is None else shape.sized(X, lengths)
    inputs, given = [x[index] for x in xs], shape.sequences.given(row_lengths.take(read, index))
    found = trainer.net.predict(inputs[0] if len(inputs) == 1 else inputs, lengths=given)
    return found if isinstance(found, list) else [found]
