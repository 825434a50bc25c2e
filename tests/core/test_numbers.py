"""Extreme logits, NaN, NumPy's floating-point errors, and equal bits regardless of how rows are grouped into calls."""

import decimal
import itertools
import subprocess
import sys

import cases
import graphs
import numpy as np
import pytest
from cases import EPS, TINY

import microbp as bp

FLT_MAX = float(np.finfo(np.float32).max)
LOGITS = [sign * size for size in (0.0, 1e-30, 88.0, 90.0, 1e4, 1e30, FLT_MAX) for sign in (1, -1)]


def outputs_are_inputs(width, dtype, loss):
    """A trainer with a network that returns its inputs: the loss gets them as raw outputs."""
    x = bp.Input(width)
    return bp.Trainer(bp.Network(x, bp.Activation("identity")(x), dtype=dtype), loss, "sgd")


def exactly(function):
    """Runs the function on decimals with 120 digits and the largest range of exponents."""

    def wrapped(*arguments):
        with decimal.localcontext(prec=120, Emax=decimal.MAX_EMAX, Emin=decimal.MIN_EMIN):
            return float(function(*(decimal.Decimal(a) for a in arguments)))

    return wrapped


@exactly
def bce(o, t):
    """-t log(sigmoid(o)) - (1 - t) log(sigmoid(-o))"""
    return max(o, 0) - o * t + (1 + (-abs(o)).exp()).ln()


@exactly
def cross_entropy(label, other):
    """log(e^label + e^other) - label"""
    return max(other - label, 0) + (1 + (-abs(other - label)).exp()).ln()


@exactly
def sigmoid(o):
    return 1 / (1 + (-o).exp()) if o >= 0 else o.exp() / (1 + o.exp())


def assert_near(value, exact, dtype, bound, scale=None):
    assert abs(value - exact) <= bound * EPS[dtype] * abs(exact if scale is None else scale) + TINY[dtype], (value, exact)


# ---- losses and output activations of extreme logits ----


@pytest.mark.parametrize("target", [0.0, 0.25, 0.5, 1.0, 1 - 2.0**-24])
def test_bce_of_any_logit(isa, dtype, target):
    t = outputs_are_inputs(1, dtype, "bce")
    for logit in np.array(LOGITS, dtype).tolist():
        loss = t.backward([[logit]], [[target]], input_grads=True)
        assert_near(loss, bce(logit, target), dtype, cases.LOSS_ERROR)
        assert_near(t.input_grads[0, 0], sigmoid(logit) - target, dtype, 4, scale=1)


@pytest.mark.parametrize("columns", [(0, 1), (1, 0), (16, 2)])
def test_cross_entropy_of_any_logits(isa, dtype, columns):
    t, row = outputs_are_inputs(17, dtype, "cross_entropy"), np.full((1, 17), -np.inf)
    for pair in itertools.product(np.array(LOGITS, dtype).tolist(), repeat=2):
        row[0, list(columns)] = pair
        loss, p = t.backward(row, [columns[0]], input_grads=True), sigmoid(pair[0] - pair[1])
        assert_near(loss, cross_entropy(*pair), dtype, cases.LOSS_ERROR)
        assert_near(t.input_grads[0, columns[0]], p - 1, dtype, 4, scale=1)
        assert_near(t.input_grads[0, columns[1]], 1 - p, dtype, 4, scale=1)
        assert loss == t.evaluate(row, np.eye(17)[[columns[0]]])


@pytest.mark.parametrize("width", [2, 3, 16, 17, 33, 65])
def test_softmax_rows_sum_to_one(isa, dtype, width):
    random = np.random.default_rng(cases.SEED)
    rows = np.vstack([random.choice(LOGITS, (200, width)), 5 * random.normal(size=(200, width))])
    probabilities = outputs_are_inputs(width, dtype, "cross_entropy").predict(rows).astype(np.float64)
    assert ((probabilities >= 0) & (probabilities <= 1)).all()
    assert abs(probabilities.sum(axis=1) - 1).max() <= cases.ROW_SUM_ERROR * EPS[dtype]


def test_an_impossible_class_is_allowed_unless_all_are(isa, dtype):
    t = outputs_are_inputs(3, dtype, "cross_entropy")
    assert t.predict([[1.0, -np.inf, 1.0]]).tolist() == [[0.5, 0.0, 0.5]]
    assert np.isnan(t.predict([[-np.inf] * 3])).all()
    assert t.evaluate([[1.0, -np.inf, 1.0]], [0]) == pytest.approx(np.log(2), rel=8 * EPS[dtype])
    with pytest.raises(FloatingPointError, match="loss"):
        t.step([[1.0, -np.inf, 1.0]], [1])


# ---- NaN ----


def nan_places(width=33):
    """A square matrix with NaN on the diagonal."""
    x = np.linspace(-4, 4, width) * np.ones((width, 1))
    x[np.arange(width), np.arange(width)] = np.nan
    return x


@pytest.mark.parametrize("activation", cases.ACTIVATIONS)
def test_nan_stays_in_its_elements_and_rows(isa, dtype, activation):
    x, spec = bp.Input(33), cases.ACTIVATIONS[activation].spec
    y = bp.Activation.parse(spec)(x)
    net = bp.Network(x, [y, bp.Dense(5, bp.Activation.parse(spec))(y)], dtype=dtype, seed=1)
    rows = nan_places()
    clean = np.where(np.isnan(rows), 0, rows)
    got, expected = net.predict(rows), net.predict(clean)
    np.testing.assert_array_equal(np.isnan(got[0]), np.isnan(rows))
    np.testing.assert_array_equal(got[0][~np.isnan(rows)], expected[0][~np.isnan(rows)])
    assert np.isnan(got[1]).all()
    rows[1:] = clean[1:]
    for a, b in zip(net.predict(rows), expected, strict=True):
        assert np.isnan(a[0]).any()
        np.testing.assert_array_equal(a[1:], b[1:])


@pytest.mark.parametrize("activation", cases.OUTPUT_ACTIVATION_POINTS)
def test_nan_passes_through_output_activations(isa, dtype, activation):
    x = bp.Input(33)
    net = bp.Network(x, bp.Activation("identity")(x), dtype=dtype)
    net.set_output(0, activation=activation)
    got, rows = np.isnan(net.predict(nan_places())), np.isnan(nan_places())
    np.testing.assert_array_equal(got, np.full_like(rows, True) if activation == "softmax" else rows)


def state_of(t):
    return [t.steps, t.lr, t.net.params.tobytes(), *(slot.tobytes() for slot in t.state.values())]


@pytest.mark.parametrize("optimizer", cases.OPTIMIZERS)
@pytest.mark.parametrize("loss", cases.LOSS_CASES)
def test_a_step_with_nan_changes_nothing(isa, dtype, loss, optimizer):
    random, case = np.random.default_rng(cases.SEED), cases.LOSS_CASES[loss]
    width = 17 * case.columns
    net = bp.mlp([3, 5, width], activation="tanh", dtype=dtype, seed=0)
    t = bp.Trainer(net, case.spec, cases.OPTIMIZERS[optimizer].spec)
    x, y = random.normal(size=(4, 3)), case.targets(random, 4, width)
    t.step(x, y)
    before = state_of(t)
    x[2, 1] = np.nan
    with pytest.raises(FloatingPointError, match="loss"):
        t.step(x, y)
    assert state_of(t) == before


def test_a_gradient_that_overflows_names_its_layer(backend, dtype):
    t = bp.Trainer(bp.mlp([1, 1], dtype=dtype, seed=0, backend=backend), "mae", "adam", loss_weights=[4])
    t.net.params[:] = 0
    before = state_of(t)
    with pytest.raises(FloatingPointError, match="dense_0"):  # the gradient is 4 times the largest float, which overflows
        t.step([[float(np.finfo(dtype).max)]], [[1.0]])
    assert state_of(t) == before


# ---- NumPy's warnings ----

QUIET = """
import numpy as np
x = np.array([[1e-30, 1e30], [3e38, -1e-40]], np.float32)
np.seterr(all="raise")
import microbp as bp
t = bp.Trainer(bp.mlp([2, 3, 2], seed=0), "cross_entropy")
for _ in range(3):
    t.net.predict(x), t.predict(x), t.step(np.eye(2), [0, 1]), np.float32(1) + x[0]
"""


def test_numpy_sees_no_floating_point_error_on_import():
    subprocess.run([sys.executable, "-P", "-W", "error", "-c", QUIET], check=True, timeout=60)


@pytest.mark.parametrize("loss", cases.LOSS_CASES)
def test_numpy_sees_no_floating_point_error(isa, dtype, loss):
    random, case = np.random.default_rng(cases.SEED), cases.LOSS_CASES[loss]
    t = bp.Trainer(bp.mlp([3, 4, 5 * case.columns], dtype=dtype, seed=0), case.spec)
    x, y = random.normal(size=(40, 3)), case.targets(random, 40, 5 * case.columns)
    large, small = 1e30 * x, 1e-310 * x
    with np.errstate(all="raise"):
        t.step(x, y)
        t.fit(x, y, epochs=2)
        t.predict(large)
        t.net.predict(small)


# ---- equal bits ----


@pytest.mark.parametrize("shape", graphs.SHAPES)
def test_a_row_has_the_same_prediction_in_any_batch(isa, dtype, shape):
    net = graphs.network(shape, dtype=dtype)
    x = graphs.rows_of(net, 67)
    together = net.predict(x)
    for first, last in [*((i, i + 1) for i in range(67)), (1, 8), (30, 67)]:
        part = net.predict([one[first:last] for one in x] if isinstance(x, list) else x[first:last])
        for a, b in zip(*([v] if isinstance(v, np.ndarray) else v for v in (together, part)), strict=True):
            np.testing.assert_array_equal(a[first:last], b)


def test_slices_of_a_long_prediction_change_no_bit(isa, dtype):
    net = bp.mlp([20, 300, 3], dtype=dtype, seed=0)
    x = graphs.rows_of(net, 1500)
    together = net.predict(x)
    for i in range(0, 1500, 97):
        np.testing.assert_array_equal(together[i], net.predict(x[i : i + 1])[0])


@pytest.mark.parametrize("shape", graphs.SHAPES)
def test_earlier_batches_of_other_sizes_change_no_bit(isa, dtype, shape):
    def trainer():
        net = graphs.network(shape, dtype=dtype)
        return bp.Trainer(net, ["mse"] * len(net.outputs), "sgd")

    used = trainer()
    for rows in (32, 100, 7):
        x, ys = graphs.rows_of(used.net, rows), [np.ones((rows, output.width), dtype) for output in used.net.outputs]
        y, fresh = ys if len(ys) > 1 else ys[0], trainer()
        assert used.backward(x, y, input_grads=True) == fresh.backward(x, y, input_grads=True)
        np.testing.assert_array_equal(used.grads, fresh.grads)
        for a, b in zip(used._engine.input_grads, fresh._engine.input_grads, strict=True):
            np.testing.assert_array_equal(a, b)


def trained(isa, shape, dtype, monkeypatch):
    monkeypatch.setenv("MICROBP_ISA", isa)
    net = graphs.network(shape, "gelu", dtype=dtype)
    t = bp.Trainer(net, ["mse"] * len(net.outputs), "adam")
    x, ys = graphs.rows_of(net, 33), [np.ones((33, output.width), dtype) for output in net.outputs]
    for _ in range(20):
        t.step(x, ys if len(ys) > 1 else ys[0])
    assert net._core.isa == isa
    return net.params.copy()


@pytest.mark.parametrize("shape", graphs.SHAPES)
def test_every_variant_with_fma_trains_to_the_same_bits(dtype, shape, monkeypatch):
    results = [trained(isa, shape, dtype, monkeypatch) for isa in cases.FMA_ISAS]
    for other in results[1:]:
        np.testing.assert_array_equal(results[0], other)


@pytest.mark.parametrize("loss", cases.LOSS_CASES)
def test_an_epoch_equals_its_steps(isa, dtype, loss):
    random, case = np.random.default_rng(cases.SEED), cases.LOSS_CASES[loss]
    x, y, weight = random.normal(size=(50, 3)).astype(dtype), case.targets(random, 50, 5 * case.columns), random.random(50)
    order = random.permutation(50)
    epoch, steps = (bp.Trainer(bp.mlp([3, 4, 5 * case.columns], dtype=dtype, seed=0), case.spec) for _ in range(2))
    next(epoch.epochs(x, y, weight, batch_size=16, order=order))
    for first in range(0, 50, 16):
        part = order[first : first + 16]
        steps.step(x[part], y[part], weight[part])
    assert state_of(epoch) == state_of(steps)
