"""t.loss_and_gradient: the function that SciPy's solvers minimize."""

import math

import numpy as np
import pytest
from cases import own_mse

import microbp as bp

RANDOM = np.random.default_rng(4)
X, Y, W = RANDOM.normal(size=(25, 3)), RANDOM.normal(size=(25, 2)), RANDOM.uniform(0.5, 2, 25)


def make(backend, loss="mse", dtype="float64", optimizer="adam", **options):
    net = bp.mlp([3, 4, 2], activation="tanh", dtype=dtype, seed=2, backend=backend)
    net.set_layer("dense_0", l2=0.02)
    return bp.Trainer(net, loss, optimizer, **options)


@pytest.mark.parametrize("per_row", [False, True])
@pytest.mark.parametrize("loss", ["mse", own_mse])
def test_the_gradient_is_that_of_the_loss_with_penalties(backend, loss, per_row):
    t = make(backend, loss, penalty_per_row=per_row)
    before, steps = t.net.params.copy(), t.steps
    at, direction = RANDOM.normal(size=(2, before.size))
    value, gradient = t.loss_and_gradient(at, X, Y, W)
    above, below = (t.loss_and_gradient(at + h * direction, X, Y, W)[0] for h in (1e-5, -1e-5))
    assert (above - below) / 2e-5 == pytest.approx(gradient @ direction, rel=1e-7)
    assert np.array_equal(t.net.params, before)
    assert t.steps == steps
    t.net.params[:] = at
    share = W.sum() if per_row and loss == "mse" else len(X) if per_row else 1
    penalty = 0.01 * (t.net.tensors["dense_0.weight"] ** 2).sum() / share
    assert value == pytest.approx(t.evaluate(X, Y, W) + penalty, rel=1e-12)


@pytest.mark.parametrize("optimizer", ["adam", bp.LBFGS()])
def test_calls_between_steps_change_no_step(backend, optimizer):
    a, b = make(backend, optimizer=optimizer), make(backend, optimizer=optimizer)
    for _ in range(4):
        b.loss_and_gradient(b.net.params + 1, X, Y)
        assert a.step(X, Y) == b.step(X, Y)
    assert np.array_equal(a.net.params, b.net.params)


def test_frozen_layers_have_the_gradient_0(backend):
    t = make(backend)
    t.net.freeze("dense_0")
    _, gradient = t.loss_and_gradient(t.net.params, X, Y)
    t.net.params[:] = gradient
    for name, part in t.net.tensors.items():
        assert part.any() == (not name.startswith("dense_0")), name


def test_float32_networks_have_a_gradient_in_float64(backend):
    t = make(backend, dtype="float32")
    value, gradient = t.loss_and_gradient(t.net.params.astype(np.float64), X, Y)
    assert gradient.dtype == np.float64
    assert isinstance(value, float)
    assert np.array_equal(gradient, t.grads)
    gradient[:] = 0
    assert t.grads.any()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_where_the_loss_is_not_finite_it_is_infinite(backend, dtype):
    t = make(backend, dtype=dtype)
    for at in (np.full(t.net.params.size, 1e300), np.full(t.net.params.size, math.nan)):
        value, gradient = t.loss_and_gradient(at, X, Y)
        assert value == math.inf
        assert not gradient.any()
    assert np.isfinite(t.net.params).all()


def test_errors(backend):
    t = make(backend)
    with pytest.raises(ValueError, match=r"loss_and_gradient: params must be 26 numbers, not float64 of shape \(25,\)"):
        t.loss_and_gradient(t.net.params[1:], X, Y)
    bad = X.copy()
    bad[7, 1] = math.nan
    with pytest.raises(FloatingPointError, match="X contains NaN, first at row 7, column 1"):
        t.loss_and_gradient(t.net.params, bad, Y)
    with pytest.raises(ValueError, match="this trainer has no loss"):
        make(backend, None).loss_and_gradient(t.net.params, X, Y)


@pytest.mark.parametrize("method", ["L-BFGS-B", "BFGS", "CG", "trust-constr"])
def test_solvers_of_scipy_reach_the_loss_of_ours(method):
    optimize = pytest.importorskip("scipy.optimize", reason="SciPy is not installed")
    x = RANDOM.normal(size=(60, 3))
    y = np.tanh(x[:, :2]) + 0.1 * RANDOM.normal(size=(60, 2))
    ours, t = make("compiled", optimizer=bp.LBFGS()), make("compiled")
    for one in (ours, t):
        one.net.set_layer("dense_1", l2=0.02)
    ours.fit(x, y, epochs=1000)
    assert ours.stop_reason == "no step"
    found = optimize.minimize(t.loss_and_gradient, t.net.params, args=(x, y), jac=True, method=method, options={"maxiter": 3000})
    assert found.fun == pytest.approx(ours.loss_and_gradient(ours.net.params, x, y)[0], abs=1e-6)
