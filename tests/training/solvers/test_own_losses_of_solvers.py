"""Losses of the caller with a solver: the iterates of a named loss, functions that fail, and what they may do."""

import math

import numpy as np
import pytest
from cases import own_mse

import microbp as bp

RANDOM = np.random.default_rng(6)
X = RANDOM.normal(size=(30, 3))
Y = np.sin(X.sum(axis=1, keepdims=True))


def trainer(loss, backend="compiled", dtype="float64", **options):
    net = bp.mlp([3, 5, 1], activation="tanh", dtype=dtype, seed=1, backend=backend)
    net.set_layer("dense_0", l2=0.01)
    return bp.Trainer(net, loss, bp.LBFGS(), **options)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("per_row", [False, True])
def test_the_iterates_are_those_of_the_named_loss(backend, dtype, per_row):
    """penalty_per_row: by their number, so without weights. The loss of an own function is without penalties."""
    a, b = (trainer(loss, backend, dtype, penalty_per_row=per_row) for loss in ("mse", own_mse))
    for _ in range(6):
        losses = a.step(X, Y), b.step(X, Y)
        penalty = 0.005 * (a.net.tensors["dense_0.weight"] ** 2).sum() / len(X) if per_row else 0
        assert losses[0] - penalty == pytest.approx(losses[1], rel=1e-10 if dtype == "float64" else 1e-3)
    np.testing.assert_allclose(a.net.params, b.net.params, rtol=0, atol=1e-9 if dtype == "float64" else 1e-2)
    assert a.steps == b.steps == 6
    assert b._engine._core.get("loss") == b.output_losses[0] == losses[1]
    assert b.backward(X, Y) == losses[1]


def test_fit_computes_no_loss_twice():
    a, b = trainer(own_mse), trainer(own_mse)
    history = a.fit(X, Y, epochs=20)["loss"]
    assert history == [b.step(X, Y) for _ in range(20)]
    assert np.array_equal(a.net.params, b.net.params)
    assert a.evaluations == b.evaluations - 19  # b's steps do not know that their rows are the same
    a.fit(X, Y, epochs=5000, goal=0.5 * history[-1])
    assert a.stop_reason in ("goal", "no step")
    a.reset()
    assert a.evaluations == 0


def test_files_copies_and_checkpoints_go_on_bit_for_bit(tmp_path):
    whole, t = trainer(own_mse), trainer(own_mse)
    whole.fit(X, Y, epochs=20)
    t.fit(X, Y, epochs=12, checkpoint=tmp_path / "t")
    other = bp.Trainer.load(tmp_path / "t", loss=own_mse)
    other.fit(X, Y, epochs=8)
    assert np.array_equal(other.net.params, whole.net.params)


def test_a_loss_of_all_outputs_together(backend):
    x = bp.Input(3)
    h = bp.Dense(4, activation="tanh")(x)
    net = bp.Network(x, [bp.Dense(1)(h), bp.Dense(2)(h)], dtype="float64", seed=0, backend=backend)

    def joint(outputs, targets, weight):
        a, b = outputs
        error = a + b.sum(axis=1, keepdims=True) - Y
        gradient = 2 * error / len(Y)
        return float((error**2).mean()), [gradient, np.repeat(gradient, 2, axis=1)]

    t = bp.Trainer(net, joint, bp.LBFGS())
    losses = [t.step(X) for _ in range(10)]
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_a_loss_that_is_not_finite_shortens_the_step(backend, what):
    """A barrier: beyond an output of 1.2, loss or gradient do not exist."""
    tried = []

    def barrier(outputs, targets, weight):
        value, gradient = own_mse(outputs, 3 + 0 * targets, weight)
        tried.append(float(outputs.max()))
        if tried[-1] > 1.2:
            return (math.inf, gradient) if what == "loss" else (value, math.nan * gradient)
        return value, gradient

    t = trainer(barrier, backend)
    t.net.params[:] *= 0.1
    losses = [t.step(X, Y) for _ in range(8)]
    assert max(tried) > 1.2
    assert np.isfinite(losses).all()
    assert losses == sorted(losses, reverse=True)
    assert t.predict(X).max() <= 1.2
    t.net.tensors["dense_1.bias"][:] = 5
    before = t.net.params.copy()
    with pytest.raises(FloatingPointError):
        t.step(X, Y)
    assert np.array_equal(t.net.params, before)


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt])
def test_an_error_of_the_loss_passes_through_and_changes_nothing(backend, error):
    calls = []

    def failing(outputs, targets, weight):
        calls.append(0)
        if len(calls) > 4:
            raise error("of the loss")
        return own_mse(outputs, targets, weight)

    t = trainer(failing, backend)
    while len(calls) < 3:
        t.step(X, Y)
    before, steps, calls[:] = t.net.params.copy(), t.steps, [0] * 3
    with pytest.raises(error, match="of the loss"):
        t.step(X, Y)
    assert np.array_equal(t.net.params, before)
    assert t.steps == steps
    calls.clear()
    t.step(X, Y)


def test_the_loss_may_predict_but_not_train(backend):
    def curious(outputs, targets, weight):
        assert np.allclose(t.net.predict(X), outputs)
        with pytest.raises(RuntimeError, match="training is not possible inside"):
            t.step(X, Y)
        return own_mse(outputs, targets, weight)

    t = trainer(curious, backend)
    assert t.step(X, Y) > t.step(X, Y)


def test_layers_are_refused_as_with_named_losses(backend):
    x = bp.Input(3)
    t = bp.Trainer(bp.Network(x, bp.Dense(1)(bp.Dropout(0.5)(x)), seed=0, backend=backend), own_mse, bp.LBFGS())
    with pytest.raises(ValueError, match="node 1 is dropout, which does not work with lbfgs: remove it, or use adam"):
        t.step(X, Y)
    with pytest.raises(ValueError, match='a trainer with adam has no parameter evaluations|no parameter "evaluations"'):
        bp.Trainer(t.net, "mse")._engine._core.get("evaluations")
    assert bp.Trainer(t.net, "mse").evaluations is None
