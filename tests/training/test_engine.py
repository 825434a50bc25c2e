"""The engine: losses and gradients at given parameters, snapshots, epochs that stop early."""

import subprocess
import sys

import numpy as np
import pytest
from cases import own_mse

import microbp as bp
from microbp.training.engine import losses
from microbp.training.engine.engine import Engine

RNG = np.random.default_rng(3)
X, Y, W = RNG.normal(size=(9, 3)), RNG.normal(size=(9, 2)), RNG.uniform(0.5, 2, 9)


def make(backend, loss="mse", dropout=0.0, averaging=None):
    net = bp.mlp([3, 5, 2], activation="tanh", dtype="float64", seed=2, backend=backend, dropout=dropout)
    net.set_layer("dense_0", l1=0.03, l2=0.2)
    return Engine(net, losses.parse(loss, net), "adam", (1.0,), 7, averaging)


@pytest.mark.parametrize("loss", ["mse", own_mse])
@pytest.mark.parametrize("dropout", [0.0, 0.4])
def test_the_gradient_matches_the_loss_at_given_parameters(backend, loss, dropout):
    """Including penalties and dropout. The error of the central difference along a direction is about 1e-10."""
    engine = make(backend, loss, dropout)
    rows = engine.shape.read(X, Y, W)
    before = engine.net.params.copy()
    at, direction = RNG.normal(size=(2, len(before)))
    loss_there, gradient = engine.loss_and_gradient(at, rows)
    slope = gradient @ direction
    above, below = (engine.loss_and_gradient(at + h * direction, rows)[0] for h in (1e-5, -1e-5))
    assert (above - below) / 2e-5 == pytest.approx(slope, rel=1e-7)
    assert engine.loss_and_gradient(at, rows)[0] == loss_there
    np.testing.assert_array_equal(engine.net.params, before)
    assert engine.steps == 0


def test_an_error_at_given_parameters_does_not_change_the_net(backend):
    engine = make(backend, lambda outputs, targets, weight: 1 / 0)
    before = engine.net.params.copy()
    with pytest.raises(ZeroDivisionError):
        engine.loss_and_gradient(before + 1, engine.shape.read(X, Y, None))
    np.testing.assert_array_equal(engine.net.params, before)


def state(engine):
    vectors = [engine.net.params, engine.net.buffers, engine.grads, engine.average, *engine.slots.values()]
    return [vector.tobytes() for vector in vectors], engine.lr, engine.steps, engine.average_count


@pytest.mark.parametrize("loss", ["mse", own_mse])
def test_a_snapshot_restores_everything(backend, loss):
    engine = make(backend, loss, averaging=bp.EMA(0.9))
    rows = engine.shape.read(X, Y, W)
    engine.step(rows)
    before, kept = engine.snapshot(), state(engine)
    engine.lr = 0.5
    after = [engine.step(rows) for _ in range(3)]
    engine.restore(before)
    assert state(engine) == kept
    engine.lr = 0.5
    assert [engine.step(rows) for _ in range(3)] == after


def test_an_epoch_that_stops_early_returns_the_loss_of_its_rows(backend):
    rows = 300_000 if backend == "compiled" else 60
    engine, by_hand = make(backend), make(backend)
    data = engine.shape.read(np.resize(X, (rows, 3)), np.resize(Y, (rows, 2)), np.resize(W, rows))
    order = np.arange(rows)[::-1].copy()
    lrs = np.linspace(1e-3, 1e-5, rows)
    loss, trained = engine.epoch(data, order, 1, lrs, lambda: True)
    assert 0 < trained == engine.steps < rows
    assert engine.lr == lrs[trained - 1]
    assert by_hand.epoch(data, order[:trained], 1, lrs[:trained]) == (loss, trained)
    np.testing.assert_array_equal(engine.net.params, by_hand.net.params)


def test_the_loss_of_own_functions_is_a_float(backend):
    """Also if they return a number of NumPy."""

    def squares(outputs, targets, weight):
        return np.float64(2.5), outputs - targets

    t = bp.Trainer(bp.mlp([3, 1], seed=0, backend=backend), squares, "sgd")
    x, y = np.ones((2, 3)), np.ones((2, 1))
    losses = [t.step(x, y), t.evaluate(x, y), t.backward(x, y), t.fit(x, y, epochs=1)["loss"][0]]
    assert [type(loss) for loss in losses] == [float] * 4


def test_an_error_in_the_stop_function_ends_the_epoch(backend):
    rows = 300_000 if backend == "compiled" else 60
    engine = make(backend)
    data = engine.shape.read(np.resize(X, (rows, 3)), np.resize(Y, (rows, 2)), None)
    with pytest.raises(ZeroDivisionError):
        engine.epoch(data, np.arange(rows), 1, None, lambda: 1 / 0)
    assert 0 < engine.steps < rows


def test_a_forward_of_no_rows_is_refused(backend):
    with pytest.raises(ValueError, match="the batch has 0 rows, but needs at least 1"):
        make(backend)._core.forward(np.zeros((0, 3)))


_COLLECT = """
import gc
import microbp as bp
for _ in range(20):
    kept = [bp.Trainer(bp.mlp([300, 64, 300]), "mse")._engine._core.step]
    kept.append(kept)
    del kept
    gc.collect()
"""


def test_a_trainer_in_a_cycle_is_freed_before_its_network():
    """It frees its memory with the network's allocator. In a process of its own, because a fault is a crash."""
    subprocess.run([sys.executable, "-P", "-c", _COLLECT], check=True, timeout=60)
