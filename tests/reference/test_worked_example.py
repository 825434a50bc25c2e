"""The textbook's first network, y = sigmoid(w0 x0 + w1 x1 + w2), by hand: x = (-1, -2), w = (2, -3, -3), and dL/dy = 1."""

import numpy as np
import pytest

import microbp as bp

X, Y = np.array([[-1.0, -2.0]]), np.zeros((1, 1))
GRADIENT = [-0.20, -0.39, 0.20]  # z = 1, y = 0.73, dL/dz = y (1 - y) = 0.20, times x0, x1 and 1


def output_itself(outputs, targets, weight):
    return outputs.sum(), np.ones_like(outputs)


@pytest.fixture
def trainer(backend):
    x = bp.Input(2)
    net = bp.Network(x, bp.Dense(1, activation="sigmoid")(x), dtype="float64", seed=0, backend=backend)
    net.tensors["dense_0.weight"][:] = [[2, -3]]
    net.tensors["dense_0.bias"][:] = -3
    return bp.Trainer(net, output_itself, bp.SGD(lr=1))


def test_the_gradient(trainer):
    assert trainer.backward(X, Y) == pytest.approx(0.73, abs=0.005)
    np.testing.assert_allclose(trainer.grads, GRADIENT, atol=0.005)
    trainer.apply()
    np.testing.assert_allclose(trainer.net.params, np.array([2, -3, -3]) - GRADIENT, atol=0.005)


def test_the_gradient_is_the_difference_of_losses(trainer):
    check = trainer.check_gradients(X, Y)
    assert check.error < 1e-6
    expected = {("dense_0.weight", (0, 0)): -0.20, ("dense_0.weight", (0, 1)): -0.39, ("dense_0.bias", (0,)): 0.20}
    assert check.analytic == pytest.approx(expected[check.tensor, check.index], abs=0.005)
