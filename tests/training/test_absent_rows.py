"""A row of weight 0 is not there: every call gives the bits that it gives without such rows, whatever their values are. Also the checks of
weights, which are the same in every call."""

from __future__ import annotations

import itertools
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from cases import own_mse

import microbp as bp

RNG = np.random.default_rng(7)
ROWS, CUTS = 45, (13, 20, 33)
WEIGHT = np.where(RNG.random(ROWS) < 0.4, 0.0, RNG.uniform(0.5, 2, ROWS))
WEIGHT[CUTS[0] : CUTS[1]] = 0  # a whole part is not there
WEIGHT[[0, 1, ROWS - 1]] = 0
WEIGHT[[2, 3]] = 1.5
ABSENT = WEIGHT == 0
assert (~ABSENT).sum() % 4 > 1  # batch_norm needs two rows in the last batch
X = RNG.normal(size=(ROWS, 3))
Y = RNG.normal(size=(ROWS, 2))
LABELS = RNG.integers(0, 2, ROWS)


def poisoned(array: np.ndarray, values: list[float]) -> np.ndarray:
    array = array.copy()
    for row, value in zip(np.flatnonzero(ABSENT), itertools.cycle(values)):
        array[row] = value
    return array


BAD = [np.nan, np.inf, -1e300]
NO_LABELS = [-100, 99, np.iinfo(np.int64).min]

LOSSES: dict[str, tuple[Any, list[Any]]] = {  # name: (loss, a list of the targets of each output)
    "mse": ("mse", [poisoned(Y, BAD)]),
    "labels": ("cross_entropy", [poisoned(LABELS, NO_LABELS)]),
    "bce": ("bce", [poisoned((Y > 0).astype(float), BAD)]),
    "own": (own_mse, [poisoned(Y, BAD)]),
    "two": (["mse", "cross_entropy"], [poisoned(Y, BAD), np.full(ROWS, -100)]),  # the second has the loss weight 0
    "two own": ([own_mse, own_mse], [poisoned(Y, BAD), np.full((ROWS, 2), np.nan)]),
}


def layers(kind: str, node: Any) -> Any:
    return {"plain": lambda: node, "dropout": lambda: bp.Dropout(0.3)(node), "batch_norm": lambda: bp.BatchNorm()(node)}[kind]()


def trainer(loss: str, kind: str = "plain", backend: str = "compiled", **options: Any) -> bp.Trainer:
    x = bp.Input(3)
    h = layers(kind, bp.Dense(4, activation="tanh")(x))
    two = loss.startswith("two")
    outputs = [bp.Dense(2)(h), bp.Dense(2)(bp.Dense(3, activation="tanh", l2=0.1)(h))] if two else bp.Dense(2)(h)
    net = bp.Network(x, outputs, seed=3, backend=backend)
    return bp.Trainer(net, LOSSES[loss][0], bp.Adam(lr=0.02), loss_weights=[1, 0] if two else None, **options)


@dataclass
class Data:
    """Rows, and where they are cut into parts: all rows, or only those that are there."""

    x: np.ndarray
    ys: list[np.ndarray]
    weight: np.ndarray
    order: np.ndarray
    cuts: tuple[int, ...]

    @property
    def y(self) -> Any:
        return self.ys[0] if len(self.ys) == 1 else self.ys

    @property
    def all(self) -> tuple[Any, Any, np.ndarray]:
        return self.x, self.y, self.weight

    def parts(self) -> list[tuple[Any, Any, np.ndarray]]:
        ends = (0, *self.cuts, len(self.x))
        parts = [Data(self.x[a:b], [y[a:b] for y in self.ys], self.weight[a:b], self.order, ()) for a, b in itertools.pairwise(ends)]
        return [part.all for part in parts]


def data_of(loss: str) -> Data:
    return Data(poisoned(X, BAD), LOSSES[loss][1], WEIGHT, np.random.default_rng(1).permutation(ROWS), CUTS)


def left_out(data: Data) -> Data:
    kept = data.weight > 0
    place = np.cumsum(kept) - 1
    cuts = tuple(int(kept[:cut].sum()) for cut in data.cuts)
    order = place[data.order[kept[data.order]]]
    return Data(data.x[kept], [y[kept] for y in data.ys], data.weight[kept], order, cuts)


# ---- the calls: each returns numbers to compare ----


def step(t, d):
    return [t.step(*d.all), t.step(d.x.tolist(), d.y, d.weight.astype(np.float32).astype(float)), t.step(*d.all)]


def backward(t, d):
    first = t.backward(*d.all, input_grads=True)
    grads = t.input_grads
    assert grads.shape == d.x.shape
    assert not grads[d.weight == 0].any()
    second = t.backward(*d.all, accumulate=True)
    t.apply()
    return [first, second, grads[d.weight > 0]]


def parts_of_a_batch(t, d):
    found, total, first = [], d.weight.sum(), 0
    for accumulate, part in zip((False, True, True, True), d.parts()):
        found.append(t.backward(*part, accumulate=accumulate, total=total, first_row=first, input_grads=True))
        assert t.input_grads.shape == part[0].shape
        first += int((part[2] > 0).sum())
        found.append(t.grads.copy())
    t.apply()
    return found


def a_part_without_rows(t, d):
    part = d.parts()[1]
    t.step(*d.all)
    found = [t.backward(*part, total=3.0), t.grads.copy()]
    assert found[0] == 0
    assert not found[1].any()
    t.apply()
    return found


def evaluate(t, d):
    return [t.evaluate(*d.all)]


def epochs(t, d):
    return [dict(record, seconds=0) for record in itertools.islice(t.epochs(*d.all, batch_size=8), 2)]


def epochs_in_order(t, d):
    return [dict(record, seconds=0) for record in itertools.islice(t.epochs(*d.all, batch_size=8, order=d.order), 2)]


def fit(t, d):
    return t.fit(d.x, d.y, sample_weight=d.weight, epochs=2, batch_size=8, schedule=bp.Cosine(lr=0.05))


def fit_unshuffled(t, d):
    return t.fit(d.x, d.y, sample_weight=d.weight, epochs=2, batch_size=8, shuffle=False)


def fit_with_validation(t, d):
    return t.fit(X, valid(d), epochs=2, validation=d.all, patience=1)


def valid(d):
    """Targets for X that are valid in every row."""
    good = [LABELS if y.ndim == 1 else (Y > 0).astype(float) for y in d.ys]
    return good[0] if len(good) == 1 else good


def fit_with_a_fraction(t, d):
    return t.fit(d.x, d.y, sample_weight=d.weight, epochs=2, batch_size=8, validation=0.3)


def fit_with_batch_callback(t, d):
    seen = []
    t.fit(d.x, d.y, sample_weight=d.weight, epochs=3, batch_size=8, batch_callback=lambda r: seen.append(r.loss) or r["steps"] == 4)
    return seen


def fit_with_accumulate(t, d):
    return t.fit(d.x, d.y, sample_weight=d.weight, epochs=2, batch_size=4, accumulate=2)


def fit_a_stream(t, d):
    return t.fit(d.parts(), epochs=2, batch_size=8)


def fit_a_stream_with_schedule(t, d):
    return t.fit(lambda: iter(d.parts()), epochs=2, batch_size=4, validation=d.all, schedule=bp.Cosine(lr=0.05), shuffle=False)


def check_gradients(t, d):
    check = t.check_gradients(*d.all)
    assert check.error < 1e-6
    return [check.error, check.numeric, check.analytic]


def lr_find(t, d):
    return [bp.lr_find(t, d.x, d.y, sample_weight=d.weight, batch_size=8, num_it=12).losses]


CALLS = [
    step, backward, parts_of_a_batch, a_part_without_rows, evaluate, epochs, epochs_in_order, fit, fit_unshuffled, fit_with_validation,
    fit_with_a_fraction, fit_with_batch_callback, fit_with_accumulate, fit_a_stream, fit_a_stream_with_schedule, check_gradients, lr_find,
]  # fmt: skip
NOT_FOR_OWN_LOSSES = (parts_of_a_batch, a_part_without_rows, fit_with_accumulate)


def state(t):
    history = {name: values for name, values in t.history.items() if name != "seconds"}
    return [t.net.params, t.net.buffers, t.grads, *t.state.values(), t.steps, t.epoch, t.lr, history]


def same(a, b):
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a if key != "seconds")
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    return np.array_equal(a, b, equal_nan=True)


@pytest.mark.parametrize("kind", ["plain", "dropout", "batch_norm"])
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.__name__)
def test_a_row_of_weight_0_is_not_there(backend, call, loss, kind):
    if "own" in loss and call in NOT_FOR_OWN_LOSSES:
        pytest.skip("own losses cannot be added up")
    a, b, data = trainer(loss, kind, backend), trainer(loss, kind, backend), data_of(loss)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found, expected = call(a, data), call(b, left_out(data))
    assert same(found, expected)
    assert same(state(a), state(b))
    assert np.isfinite(a.net.params).all()


def test_weights_1_and_no_weights_are_the_same(backend):
    for call in (step, epochs, fit, evaluate):
        data, results = left_out(data_of("mse")), []
        for weight in (np.ones(len(data.x)), None):
            t = trainer("mse", "dropout", backend)
            x, y = (data.x, data.y)
            results.append(
                (
                    {
                        step: lambda t, x, y, w: t.step(x, y, w),
                        epochs: lambda t, x, y, w: next(t.epochs(x, y, w, 8)).loss,
                        fit: lambda t, x, y, w: t.fit(x, y, sample_weight=w, epochs=1, validation=0.2)["val_loss"],
                        evaluate: lambda t, x, y, w: t.evaluate(x, y, w),
                    }[call](t, x, y, weight),
                    t.net.params.tobytes(),
                )
            )
        assert results[0] == results[1]


# ---- no row is there ----

ENTRIES = {  # name: what is called with X, y and a weight
    "step": lambda t, x, y, w: t.step(x, y, w),
    "step with lists": lambda t, x, y, w: t.step(np.asarray(x).tolist(), y, w),
    "backward": lambda t, x, y, w: t.backward(x, y, w),
    "evaluate": lambda t, x, y, w: t.evaluate(x, y, w),
    "epochs": lambda t, x, y, w: next(t.epochs(x, y, w)),
    "epochs in order": lambda t, x, y, w: next(t.epochs(x, y, w, order=[3, 1, 2])),
    "fit": lambda t, x, y, w: t.fit(x, y, sample_weight=w, epochs=1),
    "fit with a fraction": lambda t, x, y, w: t.fit(x, y, sample_weight=w, epochs=1, validation=0.1),
    "fit with a callback": lambda t, x, y, w: t.fit(x, y, sample_weight=w, epochs=1, batch_callback=print),
    "validation": lambda t, x, y, w: t.fit(X, Y, epochs=1, validation=(x, y, w)),
    "stream": lambda t, x, y, w: t.fit([(x, y, w)], epochs=1),
    "check_gradients": lambda t, x, y, w: t.check_gradients(x, y, w),
    "lr_find": lambda t, x, y, w: bp.lr_find(t, x, y, sample_weight=w),
}
own_or_named = pytest.mark.parametrize("loss", ["mse", "own"])


def refused(t, entry, error, text, *arrays):
    before = [np.array(value) for value in state(t)[:-1]]
    with pytest.raises(error, match=text):
        ENTRIES[entry](t, *arrays)
    assert same(before, [np.array(value) for value in state(t)[:-1]])
    assert t.history == {}


@own_or_named
@pytest.mark.parametrize("entry", ENTRIES)
def test_all_weights_0_are_refused_before_anything_changes(backend, entry, loss):
    words = "the stream has no rows" if entry == "stream" else "sample_weight is 0 for every row.*; give at least one row a weight above 0"
    refused(trainer(loss, "batch_norm", backend), entry, ValueError, words, X, Y, np.zeros(ROWS))


@own_or_named
def test_an_order_of_absent_rows_is_refused(backend, loss):
    with pytest.raises(ValueError, match="order contains only rows of weight 0"):
        next(trainer(loss, backend=backend).epochs(X, Y, WEIGHT, order=[0, 1]))


@own_or_named
def test_one_row_cannot_be_split(backend, loss):
    weight = np.zeros(ROWS)
    weight[5] = 1
    t = trainer(loss, backend=backend)
    with pytest.raises(ValueError, match="needs at least 2 rows with a weight above 0; X has 1"):
        t.fit(X, Y, sample_weight=weight, validation=0.1, epochs=1)
    assert t.epoch == t.steps == 0


def test_batch_norm_counts_the_rows_that_are_there(backend):
    weight = np.zeros(ROWS)
    weight[5] = 1
    t = trainer("mse", "batch_norm", backend)
    for call in (t.step, t.backward):
        with pytest.raises(ValueError, match="needs at least 2 rows in training"):
            call(X, Y, weight)
    assert np.isfinite(t.evaluate(X, Y, weight))


# ---- weights, and masks, are checked alike everywhere ----

WRONG_WEIGHTS = {
    "negative": (
        np.where(np.arange(ROWS) == 4, -1.0, 3),
        ValueError,
        r"sample_weight\[4\] is -1\.0, but a weight must be finite and at least 0",
    ),
    "integers": (np.where(np.arange(ROWS) == 4, -1, 3), ValueError, r"sample_weight\[4\] is -1, but"),
    "nan": (np.where(np.arange(ROWS) == 4, np.nan, 3), ValueError, r"sample_weight\[4\] is nan, but"),
    "inf": (np.where(np.arange(ROWS) == 4, np.inf, 3), ValueError, r"sample_weight\[4\] is inf, but"),
    "one column": (
        np.ones((ROWS, 1)),
        ValueError,
        r"sample_weight has shape \(45, 1\); it must be \(45,\), .*; use sample_weight\.ravel\(\)",
    ),
    "short": (np.ones(ROWS - 1), ValueError, r"sample_weight has shape \(44,\); it must be \(45,\)"),
    "masked": (
        np.ma.masked_less(np.arange(ROWS), 3),
        ValueError,
        "sample_weight has masked elements: fill them, as in sample_weight.filled",
    ),
    "bytes": (bytes(range(ROWS)), TypeError, "sample_weight must contain real numbers, not strings"),
    "texts": (["1"] * ROWS, TypeError, "sample_weight must contain real numbers, not strings"),
    "complex": (np.ones(ROWS, complex), TypeError, "sample_weight must contain real numbers, not complex128"),
    "a number": (1.0, ValueError, r"sample_weight has shape \(\)"),
}


@own_or_named
@pytest.mark.parametrize("entry", ENTRIES)
@pytest.mark.parametrize("case", WRONG_WEIGHTS)
def test_wrong_weights_are_refused_with_the_same_answer(backend, case, entry, loss):
    weight, error, text = WRONG_WEIGHTS[case]
    refused(trainer(loss, backend=backend), entry, error, text, X, Y, weight)


@pytest.mark.parametrize("entry", [name for name in ENTRIES if name != "step with lists"])
@pytest.mark.parametrize("which", ["X", "y"])
@pytest.mark.parametrize("form", [lambda a: a, list], ids=["array", "list of rows"])
def test_masked_rows_are_refused(backend, form, which, entry):
    masked = form(np.ma.masked_where(np.arange(2 * ROWS).reshape(ROWS, 2) == 7, Y))
    x = form(np.ma.masked_where(np.arange(3 * ROWS).reshape(ROWS, 3) == 7, X)) if which == "X" else X
    y = masked if which == "y" else Y
    refused(trainer("mse", backend=backend), entry, ValueError, f"{which} has masked elements: fill them", x, y, np.ones(ROWS))


@pytest.mark.parametrize("entry", ENTRIES)
def test_masks_that_hide_nothing_are_accepted(backend, entry):
    ENTRIES[entry](trainer("mse", backend=backend), np.ma.array(X), np.ma.array(Y), np.ma.array(WEIGHT + 1))


# ---- errors have the caller's row numbers, and skip rows that are not there ----


def changed(array, place, value):
    array = array.astype(type(value))
    array[place] = value
    return array


@pytest.mark.parametrize("entry", [name for name in ENTRIES if name != "epochs in order"])
def test_a_wrong_target_is_named_by_the_callers_row(backend, entry):
    there = int(np.flatnonzero(WEIGHT)[9])
    labels = changed(poisoned(LABELS, [-100, 99]), there, 7)
    t = bp.Trainer(bp.mlp([3, 2], seed=0, backend=backend), "cross_entropy")
    call = ENTRIES[entry] if entry != "validation" else lambda t, x, y, w: t.fit(X, LABELS, epochs=1, validation=(x, y, w))
    with pytest.raises(ValueError, match=rf"y\[{there}\] is 7, but with 2 outputs labels must be 0 or 1; y has 3 classes"):
        call(t, poisoned(X, BAD), labels, WEIGHT)
    assert t.steps == t.epoch == 0


@pytest.mark.parametrize("entry", ["step", "step with lists", "backward", "epochs", "fit", "fit with a callback", "stream"])
@pytest.mark.parametrize("which", ["X", "y"])
def test_a_nan_is_named_by_the_callers_row(backend, entry, which):
    there = int(np.flatnonzero(WEIGHT)[4])
    x, y = poisoned(X, BAD), poisoned(Y, BAD)
    (x if which == "X" else y)[there, 1] = np.nan
    with pytest.raises(FloatingPointError, match=f"{which} contains NaN, first at row {there}, column 1"):
        ENTRIES[entry](trainer("mse", backend=backend), x, y, WEIGHT)


def test_a_nan_in_an_output_of_loss_weight_0_is_not_the_cause(backend):
    t = trainer("two", backend=backend)
    x = changed(X, (3, 1), np.nan)
    with pytest.raises(FloatingPointError, match="X contains NaN, first at row 3, column 1"):
        t.step(x, [Y, np.full(ROWS, -1)])
    x = bp.Input(3)
    t = bp.Trainer(bp.Network(x, [bp.Dense(2)(x), bp.Dense(2)(x)], backend=backend), ["mse", "mse"], loss_weights=[1, 0])
    with pytest.raises(FloatingPointError, match="use a lower lr"):
        t.step(1e30 * X, [1e30 * Y, np.full((ROWS, 2), np.nan)])


@own_or_named
@pytest.mark.parametrize("which", ["x", "y"])
def test_evaluate_of_a_nan_that_is_there_is_nan(backend, which, loss):
    if loss == "own":
        pytest.skip("an own loss that returns NaN is refused")
    x, y = (changed(X, (3, 1), np.nan), Y) if which == "x" else (X, changed(Y, (3, 1), np.nan))
    assert np.isnan(trainer(loss, backend=backend).evaluate(x, y))


# ---- an order that changes ----


def test_an_order_is_read_when_the_call_is_made(backend):
    order = np.arange(ROWS)
    a, b = trainer("mse", backend=backend), trainer("mse", backend=backend)
    first, second = a.epochs(X, Y, order=order, batch_size=8), b.epochs(X, Y, order=order.copy(), batch_size=8)
    next(first), next(second)
    order[:] = 2**40
    assert next(first).loss == next(second).loss
    assert a.net.params.tobytes() == b.net.params.tobytes()
