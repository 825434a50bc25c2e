"""The checks that train copies, and those of a network that has been trained."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from ..data.arrays import Array
from ..data.rows import Rows
from ..data.sparse import SparseRows
from ..settings.optimizers import Adam
from ..training.loop.epoch import DEFAULT_BATCH
from .data import classes_of, new_start
from .patient import Patient, Sign, Unchecked, arguments, engine_of, finite, with_optimizer

_UPDATES = 60  # with the rate of the trainer, and with that of the range test
_LEARNS = 0.9  # if the range test has found a good rate, the loss after these updates with it is less than this part of the others
_PROGRESS = 0.1  # and the rate of the trainer makes less than this part of that progress, if it is wrong
_FEW, _TRIES = 4, 500  # rows to overfit, and updates with them
_OVERFITTED = 0.02  # the part of the loss that is left when the trial ends early
_SORTED = 0.2  # sorted are rows in which targets fall less often than this part of shuffled ones


def rate(p: Patient) -> Iterator[Sign]:
    """How many times the rate is higher or lower than that of a range test; 1 if it lowers the loss as well."""
    if p.engine.is_solver:
        raise Unchecked("a solver has no learning rate")
    try:
        best = p.range.suggestion
    except ValueError:
        raise Unchecked("the loss diverges at all rates of a range test") from None
    mine, with_best = _loss_after(p, p.rate), _loss_after(p, best)
    is_wrong = with_best < _LEARNS * max(p.start, mine) and p.start - mine < _PROGRESS * (p.start - with_best)
    how = "high" if p.rate > best else "low"
    losses = f"{_UPDATES} updates bring the loss from {p.start:.3g} to {mine:.3g}, but with {best:.2g} to {with_best:.3g}"
    again = f"{new_start(p)}; " if p.trainer.steps else ""
    ratio = max(p.rate / best, best / p.rate) if is_wrong else 1.0
    yield Sign(ratio, "trainer.lr", f"{p.rate:.2g} is too {how}: {losses}", f"{again}trainer.lr = {best:.2g}")


def _loss_after(p: Patient, lr: float) -> float:
    engine, random = engine_of(p.fresh()), np.random.default_rng(0)
    engine.lr = lr
    try:
        for _ in range(_UPDATES):
            p.watch_time()
            engine.step(p.sample.take(random.permutation(p.sample.count)[:DEFAULT_BATCH]))
    except FloatingPointError:
        return math.inf
    return finite(engine.evaluate(p.sample))


def overfit(p: Patient) -> Iterator[Sign]:
    """The part of the loss that is left after training on a few rows."""
    if p.engine.has_custom_losses:
        raise Unchecked("how low a loss of your own can be is not known")
    if unknown := [loss.name for _, loss in p.named_losses() if loss.name in ("gaussian_nll", "poisson", "kl")]:
        raise Unchecked(f"the lowest {unknown[0]} is not 0")
    rows = _different(p)
    left = _left(p, rows)
    has_penalties = any(layer.l1 or layer.l2 or layer.max_norm for layer in p.net.layers)
    fix = "trainer.net.set_layer(l1=0, l2=0, max_norm=0)" if has_penalties else "layer = bp.Dense(64)  # more units"
    text = f"{_TRIES} updates with the same {rows.count} rows leave {left:.0%} of the loss; a network that can learn fits them"
    yield Sign(left, "net", text, fix)


def _left(p: Patient, rows: Rows) -> float:
    best = 1.0
    for lr in (0.01, 0.001):
        engine = engine_of(with_optimizer(p.fresh(), Adam(lr=lr)))
        first = engine.evaluate(rows)
        if not 0 < first < math.inf:
            raise Unchecked("the loss of a few rows is not above 0, or not finite")
        try:
            for k in range(_TRIES):
                p.watch_time()
                engine.step(rows)
                if k % 25 == 24 and engine.evaluate(rows) < _OVERFITTED * first:
                    return _OVERFITTED
        except FloatingPointError:
            continue
        best = min(best, finite(engine.evaluate(rows)) / first)
    return best


def _different(p: Patient) -> Rows:
    """A few rows with different inputs, and with different targets as far as possible."""
    rows = p.sample
    inputs: dict[Any, int] = {}
    for k in range(min(rows.count, 200)):
        inputs.setdefault(tuple(_row(x, k) for x in rows.xs), k)
    targets: dict[Any, int] = {}
    for k in inputs.values():
        targets.setdefault(tuple(_row(y, k) for y in rows.ys), k)
    found = dict.fromkeys([*targets.values(), *inputs.values()])
    return rows.take(np.array(sorted(list(found)[:_FEW])))


def _row(array: Any, k: int) -> bytes:
    row = array[k : k + 1]
    return bytes((row.toarray() if isinstance(row, SparseRows) else np.asarray(row)).tobytes())


# ---- after training ----


def _in_history(p: Patient, entry: str) -> float:
    """The value in the epoch whose weights the network has: fit may have gone back to the best. NaN: unknown."""
    values, epoch = p.trainer.history.get(entry, []), p.trainer.epoch
    return values[epoch - 1] if 0 < epoch <= len(values) else math.nan


def memorising(p: Patient) -> Iterator[Sign]:
    """How much larger the loss of validation rows is than that of training rows, in units of the loss of the best constant outputs."""
    if p.trainer.steps == 0:
        raise Unchecked("the network has not been trained yet")
    train = p.engine.evaluate(p.sample)
    held = p.engine.evaluate(p.held) if p.held is not None else _in_history(p, "val_loss")
    if math.isnan(held):
        raise Unchecked("it needs validation rows; pass validation=(X, y)")
    text = f"the loss is {train:.3g} for training rows and {held:.3g} for validation rows; with constant outputs it is {p.constant:.3g}"
    fix = f"{new_start(p)}; trainer.fit(X, y, epochs=100, validation=0.2, patience=10)"
    yield Sign((held - train) / abs(p.constant), "validation", text, fix)


def permuted_labels(p: Patient) -> Iterator[Sign]:
    """How much larger a share of the validation rows is predicted if their labels have other numbers."""
    if p.held is None or p.trainer.steps == 0:
        raise Unchecked("needs a trained network and validation=(X, y)")
    x, lengths = arguments(p.held)
    raw = p.net.predict(x, raw=True, lengths=lengths)
    for i, _ in p.named_losses():
        labels = classes_of(p, i, p.held.ys[i])
        guesses = (raw[i] if isinstance(raw, list) else raw).argmax(axis=-1).reshape(-1)
        if labels is None or len(labels) != len(guesses):
            continue
        width = p.net.outputs[i].width
        table = np.bincount(labels * width + guesses, minlength=width * width).reshape(width, width)
        meant = table.argmax(axis=1)
        if len(set(meant.tolist())) == width:
            right, could = table.trace() / len(labels), table[np.arange(width), meant].sum() / len(labels)
            text = f"{right:.0%} of the labels are predicted, but {could:.0%} if 0, 1, ... mean {meant.tolist()}; encode both parts alike"
            yield Sign(float(could - right), "validation", text, f"y_validation = np.array({meant.tolist()})[y_validation]")


def sorted_rows(p: Patient) -> Iterator[Sign]:
    """How many times larger the loss of all rows is than that of the last epoch, if the rows are sorted by y."""
    last = _in_history(p, "loss")
    if not last > 0:
        raise Unchecked("fit has not been called, or its last loss was not above 0")
    for i, _ in p.named_losses():
        y = np.asarray(p.sample.ys[i]).reshape(p.sample.count, -1)
        if y.shape[1] == 1 and len(y) > 1 and _falls(y) < _SORTED * _falls(np.random.default_rng(0).permutation(y)):
            ratio = p.engine.evaluate(p.sample) / last
            text = f"the rows are sorted by {p.target(i)}, and the loss of all rows is {ratio:.3g} times that of the last epoch"
            yield Sign(ratio, p.target(i), text, f"{new_start(p)}; trainer.fit(X, y, epochs=10, shuffle=True)")


def _falls(y: Array) -> float:
    return float(np.mean(np.diff(y, axis=0) < 0))
