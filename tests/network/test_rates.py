"""The learning rate of a layer's weight and bias, as a factor of the optimizer's."""

import numpy as np
import pytest

import microbp as bp


def network(backend, **settings):
    x = bp.Input(4)
    layer = bp.Dense(4, "tanh", name="below", **settings)
    return bp.Network(x, bp.Dense(2, name="top")(layer(layer(x))), dtype="float64", seed=3, backend=backend)


@pytest.mark.parametrize(
    ("given", "weight", "bias"),
    [
        ({}, 1, 1),
        ({"lr": 3}, 3, 3),  # without bias_lr, the bias has the rate of the weight
        ({"bias_lr": 0.25}, 1, 0.25),
        ({"lr": 3, "bias_lr": 0.25}, 3, 0.25),  # lr is no factor of it
        ({"lr": 0, "bias_lr": 2}, 0, 2),
        ({"lr": 2, "bias_lr": 0}, 2, 0),
        ({"lr": 2, "bias_lr": 2}, 2, 2),
    ],
)
def test_the_bias_may_have_a_rate_of_its_own(backend, given, weight, bias):
    later = network(backend)
    later.set_layer("below", **given)
    for net in (network(backend, **given), later):
        t, before = bp.Trainer(net, "mse", bp.SGD(0.1, weight_decay=0.5, decay_bias=True)), net.copy()
        t.grads[:] = 1
        t.apply()
        for name, factor in {"below.weight": weight, "below.bias": bias, "top.weight": 1, "top.bias": 1}.items():
            expected = before.tensors[name] - 0.1 * factor * (1 + 0.5 * before.tensors[name])
            np.testing.assert_allclose(net.tensors[name], expected, rtol=1e-14, err_msg=name)
