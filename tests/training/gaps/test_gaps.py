"""Weights of outputs and elements, and targets that are missing: the loss of an output is sum(w l) / sum(w) over its elements."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest

import microbp as bp

RNG = np.random.default_rng(11)
ROWS, A, B = 150, 4, 3  # two chunks of 64 rows and a rest; the columns of the two outputs
X = RNG.normal(size=(ROWS, 3))
NUMBERS = RNG.normal(size=(ROWS, A))
LABELS = RNG.integers(0, B, ROWS)
SIGNS = np.where(RNG.random((ROWS, B)) < 0.5, -1.0, 1.0)
ELEMENTS = RNG.uniform(0.1, 2, (ROWS, A)) * (RNG.random((ROWS, A)) < 0.7)
ELEMENTS[20:30] = 0  # rows that are absent in the first output
ELEMENTS[60] = 1.5
OF_ROWS = RNG.uniform(0.1, 2, ROWS) * (RNG.random(ROWS) < 0.7)
OF_ROWS[25:35] = 0  # of these, 25 to 29 are absent in both
CHANCES = RNG.dirichlet(np.ones(B), ROWS)

ELEMENTWISE = ["mse", "half_sse", "mae", "huber(delta=0.5)", "quantile(q=0.8)", "poisson", "bce(label_smoothing=0.1)", "hinge"]


def targets_of(loss: str) -> np.ndarray:
    """Targets of the first output that suit the loss."""
    name = loss.partition("(")[0]
    return {"poisson": np.abs(NUMBERS), "bce": (NUMBERS > 0) * 1.0, "hinge": np.sign(NUMBERS)}.get(name, NUMBERS)


def missing(loss: Any) -> bp.Loss:
    parsed = bp.Loss.parse(loss)
    return bp.Loss(parsed.name, missing=True, **parsed.parameters)


def heads(losses: Any, backend: str = "compiled", dtype: str = "float64", weights: Any = None, kind: str = "plain") -> bp.Trainer:
    x = bp.Input(3)
    h = bp.Dense(6, activation="tanh", l2=0.01)(x)
    h = {"plain": lambda: h, "batch_norm": lambda: bp.BatchNorm()(h), "dropout": lambda: bp.Dropout(0.3)(h)}[kind]()
    outputs = [bp.Dense(A, name="a")(h), bp.Dense(B, name="b")(h)][: len(losses)]
    net = bp.Network(x, outputs, dtype=dtype, seed=5, backend=backend)
    return bp.Trainer(net, losses, bp.Adam(lr=0.02), loss_weights=weights)


def one(loss: Any, backend: str = "compiled", **options: Any) -> bp.Trainer:
    return heads([loss], backend, **options)


def with_gaps(y: np.ndarray, where: np.ndarray, gap: float = np.nan) -> np.ndarray:
    y = y.copy()
    y[where] = gap
    return y


GAPS = RNG.random((ROWS, A)) < 0.4
GAPS[40:50] = True
NO_LABEL = RNG.random(ROWS) < 0.4
NO_LABEL[45:55] = True


def results(t: bp.Trainer, *data: Any) -> list[Any]:
    """What every kind of call gives."""
    found = [t.backward(*data, input_grads=True), t.grads.copy(), t.step(*data), t.evaluate(*data), *t.output_losses]
    t.fit(data[0], data[1], sample_weight=data[2] if len(data) > 2 else None, epochs=2, batch_size=16, progress=False)
    return [*found, t.history["loss"], t.net.params.copy(), t.net.buffers.copy(), *t.state.values()]


def same(a: list[Any], b: list[Any]) -> bool:
    return all(np.array_equal(x, y, equal_nan=True) for x, y in zip(a, b, strict=True))


def close(a: list[Any], b: list[Any], bound: float = 1e-12) -> bool:
    return all(np.allclose(x, y, rtol=bound, atol=bound, equal_nan=True) for x, y in zip(a, b, strict=True))


# ---- the definition ----


@pytest.mark.parametrize("loss", ELEMENTWISE)
def test_the_loss_is_the_weighted_mean_of_the_elements(backend, loss):
    """Each element alone, as a net with one column, gives its loss and its gradient by the outputs."""
    y = targets_of(loss)
    t = one(loss, backend)
    outputs = t.net.predict(X, raw=True)
    alone = bp.Trainer(bp.Network(z := bp.Input(1), bp.Activation("identity")(z), dtype="float64", backend=backend), loss, "sgd")
    each = np.array([alone.evaluate(o[None, None], v[None, None]) for o, v in zip(outputs.flat, y.flat, strict=True)]).reshape(y.shape)
    columns = A if loss == "half_sse" else 1  # a sum over the columns is columns times their mean
    expected = columns * (ELEMENTS * each).sum() / ELEMENTS.sum()
    assert t.evaluate(X, y, ELEMENTS) == pytest.approx(expected, rel=1e-13)
    assert t.backward(X, y, ELEMENTS) == pytest.approx(expected, rel=1e-13)
    assert t.check_gradients(X[:40], y[:40], ELEMENTS[:40]).error < 1e-6


@pytest.mark.peers
@pytest.mark.parametrize("form", ["mse", "mae", "bce", "cross_entropy"])
def test_masked_means_are_those_of_pytorch(form):
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional
    t = one(missing(form))
    y = {"cross_entropy": with_gaps(RNG.integers(0, A, ROWS), NO_LABEL, -1)}.get(form, with_gaps(targets_of(form), GAPS))
    outputs = torch.tensor(t.net.predict(X, raw=True), requires_grad=True)
    mask = torch.tensor(~NO_LABEL if form == "cross_entropy" else ~GAPS)
    function = {
        "mse": functional.mse_loss,
        "mae": functional.l1_loss,
        "bce": functional.binary_cross_entropy_with_logits,
        "cross_entropy": functional.cross_entropy,
    }[form]
    loss = function(outputs[mask], torch.tensor(y)[mask])
    loss.backward()
    assert t.backward(X, y) == pytest.approx(loss.item(), rel=1e-12)
    ours, core = t.grads.copy(), t._engine._core
    core.forward(X)
    core.backward_from([outputs.grad.numpy()])
    np.testing.assert_allclose(ours, t.grads, rtol=1e-12, atol=1e-15)


# ---- what changes nothing ----


@pytest.mark.parametrize("kind", ["plain", "batch_norm", "dropout"])
@pytest.mark.parametrize("loss", [*ELEMENTWISE, "cross_entropy"])
def test_weights_of_1_and_targets_that_are_all_there_change_no_bit(backend, loss, kind, dtype):
    y = RNG.integers(0, A, ROWS) if loss == "cross_entropy" else targets_of(loss)
    expected = results(one(loss, backend, dtype=dtype, kind=kind), X, y)
    assert same(results(one(missing(loss), backend, dtype=dtype, kind=kind), X, y), expected)
    if loss != "cross_entropy":
        assert same(results(one(loss, backend, dtype=dtype, kind=kind), X, y, np.ones((ROWS, A))), expected)
        rows = np.repeat(OF_ROWS[:, None], A, axis=1)
        expected = results(one(loss, backend, dtype=dtype, kind=kind), X, y, OF_ROWS)
        assert same(results(one(loss, backend, dtype=dtype, kind=kind), X, y, rows), expected)


@pytest.mark.parametrize("kind", ["plain", "batch_norm", "dropout"])
@pytest.mark.parametrize("loss", [*ELEMENTWISE, "cross_entropy", "probabilities"])
def test_rows_without_targets_are_left_out(backend, loss, kind, dtype):
    name = "cross_entropy" if loss == "probabilities" else loss
    y = {"cross_entropy": RNG.integers(0, A, ROWS), "probabilities": RNG.dirichlet(np.ones(A), ROWS)}.get(loss, targets_of(name))
    gap = with_gaps(y, NO_LABEL, -1 if loss == "cross_entropy" else np.nan)
    x = with_gaps(X, NO_LABEL)  # is not read either
    expected = results(one(name, backend, dtype=dtype, kind=kind), X[~NO_LABEL], y[~NO_LABEL])
    assert same(results(one(missing(name), backend, dtype=dtype, kind=kind), x, gap), expected)
    if loss == "probabilities":
        gap = with_gaps(y, np.ix_(NO_LABEL, [1]))
        assert same(results(one(missing(name), backend, dtype=dtype, kind=kind), x, gap), expected)


def test_a_row_without_a_loss_in_any_output_is_left_out(backend):
    """Its targets may be anything."""
    gone = (ELEMENTS == 0).all(axis=1) & (OF_ROWS == 0)
    assert gone.any()
    weights = [with_gaps(ELEMENTS, gone, 0), OF_ROWS]
    x, y = with_gaps(X, gone), [with_gaps(NUMBERS, weights[0] == 0, np.inf), with_gaps(LABELS, OF_ROWS == 0, 99)]
    found = results(heads(["mse", "cross_entropy"], backend), x, y, weights)
    kept = [[one[~gone] for one in some] for some in (y, weights)]
    assert same(found, results(heads(["mse", "cross_entropy"], backend), x[~gone], *kept))


def test_an_output_of_loss_weight_0_does_not_keep_a_row(backend):
    y = [with_gaps(NUMBERS, NO_LABEL), SIGNS]
    t, u = (heads([missing("mse"), "hinge"], backend, weights=[1, 0]) for _ in range(2))
    assert same(results(t, with_gaps(X, NO_LABEL), y), results(u, X[~NO_LABEL], [one[~NO_LABEL] for one in y]))


# ---- several outputs ----

TWO = {
    "weights": (["mse", "hinge"], NUMBERS, SIGNS, [ELEMENTS, OF_ROWS]),
    "one of two": (["mae", "cross_entropy"], NUMBERS, LABELS, [None, OF_ROWS]),
    "gaps": ([missing("mse"), missing("cross_entropy")], with_gaps(NUMBERS, GAPS), with_gaps(LABELS, NO_LABEL, -1), None),
    "gaps in one": ([missing("half_sse"), "cross_entropy"], with_gaps(NUMBERS, GAPS), CHANCES, None),
    "both": ([missing("huber"), missing("cross_entropy")], with_gaps(NUMBERS, GAPS), with_gaps(LABELS, NO_LABEL, -1), [ELEMENTS, OF_ROWS]),
    "row weights": ([missing("mse"), missing("cross_entropy")], with_gaps(NUMBERS, GAPS), with_gaps(LABELS, NO_LABEL, -1), OF_ROWS),
    "nothing in one": ([missing("mse"), "cross_entropy"], np.full((ROWS, A), np.nan), LABELS, None),
}


@pytest.mark.parametrize("kind", ["plain", "batch_norm"])
@pytest.mark.parametrize("case", TWO)
def test_both_backends_agree(case, kind):
    losses, a, b, weight = TWO[case]
    data = (X, [a, b]) if weight is None else (X, [a, b], weight)
    found = [results(heads(losses, name, weights=[1, 0.5], kind=kind), *data) for name in ("compiled", "reference")]
    assert close(*found, bound=1e-9)
    assert np.isfinite(found[0][0])


@pytest.mark.parametrize("case", TWO)
def test_each_output_has_its_own_total(backend, case):
    """The losses of two outputs are those of two nets with one output each, where all rows are given."""
    losses, a, b, weight = TWO[case]
    t = heads(losses, backend, weights=[1, 0.5])
    t.evaluate(X, [a, b], weight)
    for i, y in enumerate((a, b)):
        alone = bp.Trainer(bp.Network(z := bp.Input([A, B][i]), bp.Activation("identity")(z), dtype="float64"), losses[i], "sgd")
        own = weight[i] if isinstance(weight, list) else weight
        outputs = t.net.predict(X, raw=True)[i]
        expected = 0 if case == "nothing in one" and i == 0 else alone.evaluate(outputs, y, own)
        assert t.output_losses[i] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("case", TWO)
def test_parts_of_a_batch_add_up(backend, case):
    losses, a, b, weight = TWO[case]
    t = heads(losses, backend, weights=[1, 0.5])
    loss = t.backward(X, [a, b], weight)
    whole = t.grads.copy()
    rows = t._engine.shape.read(X, [a, b], weight)
    total, there, first, sums = rows.totals(np.arange(ROWS)), rows.is_there, 0, 0.0
    for start, end in ((0, 70), (70, 71), (71, ROWS)):
        own = [one if one is None else one[start:end] for one in weight] if isinstance(weight, list) else weight
        own = own[start:end] if isinstance(weight, np.ndarray) else own
        sums += t.backward(X[start:end], [a[start:end], b[start:end]], own, accumulate=start > 0, total=total, first_row=first)
        first += int(there[start:end].sum())
    assert sums == pytest.approx(loss, rel=1e-12)
    np.testing.assert_allclose(t.grads, whole, rtol=1e-11, atol=1e-14)


@pytest.mark.parametrize("case", TWO)
def test_every_way_to_train_an_epoch_gives_the_same_losses(backend, case):
    losses, a, b, weight = TWO[case]
    found = []
    for options in ({"batch_size": 16}, {"batch_size": 16, "batch_callback": lambda record: False}, {"batch_size": 8, "accumulate": 2}):
        t = heads(losses, backend)
        t.fit(X, [a, b], sample_weight=weight, epochs=2, validation=(X, [a, b], weight), progress=False, **options)
        found.append([values for name, values in t.history.items() if name != "seconds"] + [t.net.params.copy()])
    chunks = [(X[i:j], [a[i:j], b[i:j]], _cut(weight, i, j)) for i, j in ((0, 50), (50, 57), (57, ROWS))]
    t, u = heads(losses, backend), heads(losses, backend)
    t.fit(chunks, epochs=1, batch_size=16, shuffle=False, progress=False)
    u.fit(X, [a, b], sample_weight=weight, epochs=1, batch_size=16, shuffle=False, progress=False)
    assert close(found[0], found[1], 1e-9)
    assert close(found[0], found[2], 1e-9)
    assert close([t.net.params, t.history["loss"], t.history["loss_a"]], [u.net.params, u.history["loss"], u.history["loss_a"]], 1e-9)


def _cut(weight: Any, start: int, end: int) -> Any:
    if isinstance(weight, list):
        return [one if one is None else one[start:end] for one in weight]
    return None if weight is None else weight[start:end]


@pytest.mark.parametrize("case", TWO)
def test_threads_change_no_bit(case):
    losses, a, b, weight = TWO[case]
    found = []
    for threads in (1, 3):
        t = heads(losses, dtype="float32")
        t.net.n_threads = threads
        found.append(results(t, X, [a, b], *([] if weight is None else [weight])))
    assert same(*found)


def test_a_pickle_and_a_file_keep_that_targets_may_be_missing(tmp_path):
    t = heads([missing("huber(delta=0.5)"), missing("cross_entropy")])
    data = X, [with_gaps(NUMBERS, GAPS), with_gaps(LABELS, NO_LABEL, -1)]
    t.save(tmp_path / "t.safetensors")
    for twin in (
        pickle.loads(pickle.dumps(t)),
        bp.Trainer.load(tmp_path / "t.safetensors"),
        bp.Trainer.load(tmp_path / "t.safetensors", "reference"),
    ):
        assert twin.losses == t.losses
        assert twin.evaluate(*data) == pytest.approx(t.evaluate(*data), rel=1e-12)


# ---- class weights, metrics, own losses ----


def test_class_weights_of_an_output(backend):
    factors = np.array([1.0, 0.0, 3.0])
    t, u = heads(["mse", "cross_entropy"], backend), heads(["mse", "cross_entropy"], backend)
    t.fit(X, [NUMBERS, LABELS], epochs=2, class_weight=[None, factors], progress=False)
    u.fit(X, [NUMBERS, LABELS], epochs=2, sample_weight=[None, factors[LABELS]], progress=False)
    assert same([t.net.params, t.history["loss"]], [u.net.params, u.history["loss"]])
    gaps = with_gaps(LABELS, NO_LABEL, -1)
    balanced = heads(["mse", missing("cross_entropy")], backend)
    balanced.fit(X, [NUMBERS, gaps], epochs=1, class_weight={"b": "balanced"}, progress=False)
    counts = np.bincount(LABELS[~NO_LABEL])
    expected = heads(["mse", missing("cross_entropy")], backend)
    expected.fit(X, [NUMBERS, gaps], epochs=1, sample_weight=[None, (counts.sum() / (B * counts))[LABELS]], progress=False)
    assert close([balanced.net.params], [expected.net.params])
    for wrong, words in (
        (
            ["balanced"],
            r"class_weight must be a dict by output, such as {'a': 'balanced'}, or a list of 2, one per output \(None: no class",
        ),
        ("balanced", "class_weight must be a dict by output, such as {'a': 'balanced'}"),
        (np.ones(2), "such as {'a': 'balanced'}, or a list of 2, one per output .* not an array of shape"),
        (["balanced", None], "output 'a': class_weight needs a classification loss"),
        ({0: 1.0, 2: 3.0}, "class_weight must have weights of labels for an output, such as {'a': {0: 1.0, 1: 5.0}}, not {0: 1.0, 2: 3.0}"),
        ({"b": {0: -1.0}}, "output 'b': class_weight must have one finite weight .* not {0: -1.0}"),
        ({"c": "balanced"}, "unknown output in class_weight: 'c'; valid: a, b"),
    ):
        with pytest.raises(ValueError, match=words):
            heads(["mse", "cross_entropy"], backend).fit(X, [NUMBERS, LABELS], epochs=1, class_weight=wrong)


@pytest.mark.parametrize("call", ["step", "backward", "evaluate", "fit", "stream"])
@pytest.mark.parametrize("absent", [0, 1])
def test_an_output_may_be_left_out_if_its_targets_may_be_missing(backend, call, absent):
    """As if all its targets were missing: rows of several data sets, of which each has targets for one output."""
    full: list[Any] = [NUMBERS, LABELS]
    nothing = [np.full_like(NUMBERS, np.nan), np.full_like(LABELS, -1)]
    there = 1 - absent
    results = []
    for y in (
        [nothing[i] if i == absent else full[i] for i in range(2)],
        [None if i == absent else full[i] for i in range(2)],
        {"ab"[there]: full[there]},
        {"ab"[there]: full[there], absent: None},
    ):
        t = heads([missing("mse"), missing("cross_entropy")], backend)
        if call == "fit":
            loss = t.fit(X, y, epochs=2, progress=False)["loss"][-1]
        elif call == "stream":
            loss = t.fit([(X, y)], epochs=2, progress=False)["loss"][-1]
        else:
            loss = getattr(t, call)(X, y)
        results.append([np.array([loss]), t.net.params.copy(), t.grads.copy()])
    assert all(same(one, results[0]) for one in results[1:])
    t = heads([missing("mse"), "cross_entropy"], backend)
    with pytest.raises(TypeError, match=r"y\[1\] is None; .* only a loss of your own, of weight 0, or with missing=True works without"):
        t.step(X, [NUMBERS, None])
    with pytest.raises(TypeError, match="y must be a list of 2 arrays, one per output, or a dict by output; None for an output without"):
        t.step(X, NUMBERS)
    with pytest.raises(ValueError, match="y has no targets in rows of a weight above 0"):
        heads([missing("mse"), missing("cross_entropy")], backend).step(X, None)


METRICS = {"mse": ["rmse", "mae", "r2", "pinball"], "bce": ["accuracy", "subset_accuracy", "balanced_accuracy", "f1", "brier"]}


@pytest.mark.parametrize("loss", METRICS)
def test_metrics_skip_missing_targets(backend, loss):
    """The targets of missing elements do not matter, and without gaps in a row, a metric is that of the rows left out."""
    y = targets_of(loss)
    t = one(missing(loss), backend)
    names = METRICS[loss]
    t.fit(X, with_gaps(y, GAPS), epochs=1, metrics=names, progress=False)
    predictions = t.predict(X) if loss == "mse" else t.net.predict(X)
    for name in names:
        function = getattr(bp, name)
        value = t.history[name][0]
        weight = (~GAPS).astype(float)
        for junk in (0, 1):
            assert function(with_gaps(y, GAPS, junk), predictions, sample_weight=weight, loss=loss) == pytest.approx(value, rel=1e-12)
        rows = with_gaps(y, NO_LABEL)
        u = one(missing(loss), backend)
        u.fit(X, y, epochs=1, validation=(X, rows), metrics=name, progress=False)
        v = one(missing(loss), backend)
        v.fit(X, y, epochs=1, validation=(X[~NO_LABEL], y[~NO_LABEL]), metrics=name, progress=False)
        assert u.history[name] == pytest.approx(v.history[name], rel=1e-12)
        assert u.history["val_loss"] == v.history["val_loss"]


def test_metrics_of_elements_by_hand():
    y, outputs, weight = np.array([[1.0, 0], [2, 5]]), np.array([[2.0, 7], [2, 3]]), np.array([[1.0, 0], [2, 1]])
    assert bp.mae(y, outputs, weight) == pytest.approx((1 * 1 + 2 * 0 + 1 * 2) / 4)
    assert bp.rmse(y, outputs, weight) == pytest.approx(np.sqrt((1 + 4) / 4))
    y, outputs = np.array([[1.0, 0], [0, 1]]), np.array([[0.8, 0.9], [0.7, 0.6]])
    assert bp.accuracy(y, outputs, weight, loss="bce") == pytest.approx(2 / 4)
    assert bp.subset_accuracy(y, outputs, weight, loss="bce") == pytest.approx(0.5 / 2)


def test_own_losses_get_the_weights_of_their_output(backend):
    seen = []

    def loss(outputs, targets, weight):
        seen.append(weight)
        return float((outputs**2).sum()), 2 * outputs

    t = heads([loss, loss], backend)
    t.step(X, [NUMBERS, LABELS], [OF_ROWS, None])
    assert np.array_equal(seen[0], OF_ROWS)
    assert seen[1] is None


# ---- refusals ----

WRONG = {
    "columns": ([np.ones((ROWS, B)), None], r"sample_weight\[0\] has shape \(150, 3\); it must be \(150,\), .*or \(150, 4\)"),
    "rows": ([np.ones(7), None], r"sample_weight\[0\] has shape \(7,\); it must be \(150,\)"),
    "of labels": ([None, np.ones((ROWS, B))], r"sample_weight\[1\] has shape \(150, 3\); it must be \(150,\), one weight per row of X$"),
    "too few": ([np.ones(ROWS)], r"sample_weight must be an array of shape \(150,\), or a list of 2, one per output, but its length is 1"),
    "a matrix": (np.ones((ROWS, A)), r"sample_weight has shape \(150, 4\); it must be \(150,\)"),
    "nan": ([with_gaps(ELEMENTS, (7, 2)), None], r"sample_weight\[0\]\[7, 2\] is nan, but a weight must be finite and at least 0"),
    "negative": ([with_gaps(ELEMENTS, (7, 2), -1), None], r"sample_weight\[0\]\[7, 2\] is -1.0, but"),
    "inf": ([None, with_gaps(OF_ROWS, 3, np.inf)], r"sample_weight\[1\]\[3\] is inf, but"),
    "all 0": ([np.zeros(ROWS), np.zeros(ROWS)], "sample_weight is 0 for every row"),
}
ENTRIES = {
    "step": lambda t, x, y, w: t.step(x, y, w),
    "backward": lambda t, x, y, w: t.backward(x, y, w),
    "evaluate": lambda t, x, y, w: t.evaluate(x, y, w),
    "fit": lambda t, x, y, w: t.fit(x, y, sample_weight=w, epochs=1),
    "epochs": lambda t, x, y, w: next(t.epochs(x, y, w)),
    "validation": lambda t, x, y, w: t.fit(X, [NUMBERS, LABELS], epochs=1, validation=(x, y, w)),
}


@pytest.mark.parametrize("entry", ENTRIES)
@pytest.mark.parametrize("case", WRONG)
def test_wrong_weights_are_refused(backend, case, entry):
    weight, words = WRONG[case]
    t = heads(["mse", "cross_entropy"], backend)
    before = t.net.params.copy()
    with pytest.raises(ValueError, match=words):
        ENTRIES[entry](t, X, [NUMBERS, LABELS], weight)
    assert np.array_equal(t.net.params, before)
    assert t.steps == 0


@pytest.mark.parametrize("entry", ENTRIES)
def test_a_batch_without_any_target_is_refused(backend, entry):
    t = heads([missing("mse"), missing("cross_entropy")], backend)
    with pytest.raises(ValueError, match="y has no targets in rows of a weight above 0: all of them are missing"):
        ENTRIES[entry](t, X, [np.full((ROWS, A), np.nan), np.full(ROWS, -1)], None)
    assert t.steps == 0


def test_gaps_without_missing_say_what_to_write(backend):
    t = heads(["mse", "cross_entropy"], backend)
    with pytest.raises(FloatingPointError, match=r'y\[0\] contains NaN.*use bp.Loss\("mse", missing=True\)'):
        t.step(X, [with_gaps(NUMBERS, GAPS), LABELS])
    with pytest.raises(ValueError, match=r'is -1, but .*use bp.Loss\("cross_entropy", missing=True\)'):
        t.step(X, [NUMBERS, with_gaps(LABELS, NO_LABEL, -1)])
    t = heads(["mse", missing("cross_entropy")], backend)
    with pytest.raises(ValueError, match="is -2, but"):
        t.step(X, [NUMBERS, with_gaps(LABELS, 3, -2)])


@pytest.mark.parametrize("value", [-1, 0.5, 2, "yes"])
def test_missing_is_true_or_false(value):
    with pytest.raises((TypeError, ValueError), match="missing"):
        bp.Trainer(bp.mlp([2, 1]), bp.Loss("mse", missing=value))


def test_missing_false_is_the_default():
    assert bp.Loss("mse", missing=False) == bp.Loss("mse")
    loss = bp.Loss("mse", missing=True)
    assert bp.Loss("mse(missing=1)") == loss != bp.Loss("mse")
    assert repr(loss) == "Loss('mse', missing=True)" and loss.text == "mse(missing=1)"


@pytest.mark.parametrize("total", [[1.0], [1.0, -1.0], [1.0, np.nan], [1.0, "a"], [10.0, 0.0]])
def test_wrong_totals_are_refused(backend, total):
    t = heads(["mse", "cross_entropy"], backend)
    with pytest.raises((TypeError, ValueError), match="total"):
        t.backward(X, [NUMBERS, LABELS], total=total)
    assert not t.grads.any()


def test_a_total_of_0_is_for_an_output_without_targets(backend):
    t = heads([missing("mse"), "cross_entropy"], backend)
    data = X, [np.full((ROWS, A), np.nan), LABELS]
    assert t.backward(*data, total=[0, ROWS]) == t.backward(*data)
    assert t.output_losses[0] == 0
