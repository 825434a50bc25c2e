"""`bp.doctor`: runs the table of checks on copies of a trainer."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, Literal, NamedTuple

import numpy as np

from ..core.checks import real
from ..core.text import brief
from ..training.measure import twin
from ..training.trainer import Trainer
from . import data, gradient, layers, trials
from .finding import SEVERITIES, Diagnosis, Finding, Severity
from .patient import Patient, Sign, Unchecked, engine_of

_MEASURED = "chosen by bench/learning/doctor.py"


class Check(NamedTuple):
    """A check: what it measures is a finding above the threshold. needs: only "rows", or a "net" that can be trained on them, or also
    "time" to train copies; those that need time are done last."""

    name: str
    severity: Severity
    threshold: float
    source: str
    signs: Callable[[Patient], Iterable[Sign]]
    needs: Literal["rows", "net", "time"] = "net"


# A cause is before what it causes: the order of findings is that of the severities, then of these rows.
OF_ROWS = (
    Check("not_finite", "error", 0, "IEEE 754", data.not_finite, "rows"),
    Check("labels", "error", 0, "help(bp.Loss)", data.labels, "rows"),
)
OF_TRAINING: tuple[Check, ...] = (
    Check("output_range", "error", 0.01, "help(bp.Activation)", data.output_range, "rows"),
    Check("frozen", "error", 0, "by definition", layers.frozen, "rows"),
    Check("gradient_check", "error", 1e-3, "Press et al. 2007, Numerical Recipes, section 5.7", gradient.gradient_check),
    Check("permuted_labels", "error", 0.3, _MEASURED, trials.permuted_labels),
    Check("inputs_scale", "warning", 20, f"LeCun et al. 1998, Efficient BackProp, 4.3; {_MEASURED}", data.inputs_scale, "rows"),
    Check("targets_scale", "warning", 20, f"LeCun et al. 1998, Efficient BackProp, 4.5; {_MEASURED}", data.targets_scale, "rows"),
    Check("sorted_rows", "warning", 2, f"LeCun et al. 1998, Efficient BackProp, 4.2; {_MEASURED}", trials.sorted_rows),
    Check("rate", "warning", 50, f"Smith 2017, section 3.3; {_MEASURED}", trials.rate, "time"),
    Check("saturated", "warning", 0.75, f"Glorot & Bengio 2010, section 3; {_MEASURED}", layers.saturated),
    Check("dead", "warning", 0.75, f"Lu et al. 2019, Dying ReLU; {_MEASURED}", layers.dead),
    Check("exploding", "warning", 100, f"Bengio et al. 1994; {_MEASURED}", layers.exploding),
    Check("vanishing", "warning", 1000, f"Bengio et al. 1994; {_MEASURED}", layers.vanishing),
    Check("start_loss", "warning", 10, f"Karpathy 2019, A Recipe for Training Neural Networks; {_MEASURED}", layers.start_loss),
    Check("updates", "warning", 100, f"Karpathy, CS231n, about 1e-3; {_MEASURED}", layers.updates, "time"),
    Check("overfit", "warning", 0.15, f"Karpathy 2019, A Recipe for Training Neural Networks; {_MEASURED}", trials.overfit, "time"),
    Check("memorising", "warning", 0.75, _MEASURED, trials.memorising),
    Check("exclusive_classes", "note", 0, "Bishop 2006, section 4.3.4", data.exclusive_classes, "rows"),
    Check("constant_columns", "note", 0, "counted", data.constant_columns, "rows"),
    Check("duplicate_columns", "note", 0, "counted", data.duplicate_columns, "rows"),
)


def doctor(
    trainer: Trainer,
    X: Any,  # noqa: N803
    y: Any = None,
    *,
    validation: tuple[Any, ...] | None = None,
    sample_weight: Any = None,
    lengths: Any = None,
    max_time: float | timedelta = 10.0,
) -> Diagnosis:
    """Looks for what is wrong with a training, and says what to write. Returns a bp.Diagnosis, the weightiest findings first.

    trainer: before its first fit, or after one that went badly. It does not change, nor its network, its history or random numbers: all
    is tried on copies.
    X, y, sample_weight, lengths: as in `Trainer.fit`, but no stream: the training rows. Large tables are looked at in up to 1000 rows,
    evenly spaced. Targets that the loss refuses, NaN and infinity are findings, not errors.
    validation: (X, y), (X, y, weight) or (X, y, weight, lengths): rows that the trainer has not seen. Without them, the latest val_loss of
    the history is used.
    max_time: seconds, or a datetime.timedelta. When it is over, the remaining checks are listed as unchecked; usual networks need less
    than a second. One check is not interrupted in the middle of a pass over its rows.

    The checks, their limits and where these are from: docs/doctor.md. TypeError, ValueError: an argument does not fit the trainer.

    >>> X = np.random.default_rng(0).random((200, 3)) * [1, 1000, 1]
    >>> t = bp.Trainer(bp.mlp([3, 16, 2], seed=0), loss="cross_entropy")
    >>> finding = bp.doctor(t, X, (X[:, 1] > 500).astype(int))[0]
    >>> finding.name, finding.where, finding.fix
    ('inputs_scale', 'X[:, 1]', 'X = (X - X.mean(axis=0)) / np.maximum(X.std(axis=0), 1e-9)')
    """
    began = time.monotonic()
    if not isinstance(trainer, Trainer):
        raise TypeError(f"doctor: the first argument must be a bp.Trainer, not {type(trainer).__name__}")
    seconds = real("(0,inf]")("doctor: max_time", max_time.total_seconds() if isinstance(max_time, timedelta) else max_time)
    if validation is not None and not (isinstance(validation, tuple) and 2 <= len(validation) <= 4):
        raise TypeError(f"doctor: validation must be (X, y), (X, y, weight) or (X, y, weight, lengths), not {brief(validation)}")
    copied = twin(trainer)
    engine = engine_of(copied)
    rows = engine.read(X, y, sample_weight, lengths=lengths)
    held = None
    if validation is not None:
        held_x, held_y, weight, held_lengths = (*validation, None, None)[:4]
        held = engine.read(held_x, held_y, weight, lengths=held_lengths).present()
        engine.check_targets(held)
    found: list[Finding] = []
    unchecked: dict[str, str] = {}
    p = Patient(copied, engine.shape.cleared(rows), held, began + seconds)
    with _same_random_numbers():
        _examine(p, OF_ROWS, found, unchecked)
        p.prepare()
        _examine(p, sorted(OF_TRAINING, key=lambda check: check.needs == "time"), found, unchecked)
    names = [check.name for check in (*OF_ROWS, *OF_TRAINING)]
    found.sort(key=lambda finding: (SEVERITIES.index(finding.severity), names.index(finding.name)))
    checked = tuple(name for name in names if name not in unchecked)
    return Diagnosis(tuple(found), checked, {name: unchecked[name] for name in names if name in unchecked}, time.monotonic() - began)


def _examine(p: Patient, checks: Iterable[Check], found: list[Finding], unchecked: dict[str, str]) -> None:
    for check in checks:
        try:
            p.watch_time()
            if check.needs != "rows" and p.prevents is not None:
                raise Unchecked(p.prevents)
            worst = max(check.signs(p), key=lambda sign: sign.number, default=None)
        except Unchecked as why:
            unchecked[check.name] = str(why)
        except FloatingPointError:
            unchecked[check.name] = "the loss or a gradient is not finite"
        else:
            if worst is not None and worst.number > check.threshold:
                found.append(Finding(check.name, check.severity, float(worst.number), check.threshold, check.source, *worst[1:]))


@contextmanager
def _same_random_numbers() -> Iterator[None]:
    """Restores the random numbers of Python and NumPy, which losses of the user may draw."""
    of_python, of_numpy = random.getstate(), np.random.get_state()
    try:
        yield
    finally:
        random.setstate(of_python)
        np.random.set_state(of_numpy)
