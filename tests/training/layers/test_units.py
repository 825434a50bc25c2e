"""Dead and saturated units: of hand-made layers, and of every activation function."""

import math
import types

import cases
import graphs
import numpy as np
import pytest

import microbp as bp
from microbp.training.layers import units

X = np.linspace(-3, 3, 41)[:, None]


def one_layer(activation, weights, biases=0.0, apart=False, **options):
    """A layer of one input whose units have these weights; apart: its activation function is a node of its own, after dropout."""
    x = bp.Input(1)
    layer = bp.Dense(len(weights), "identity" if apart else activation, name="layer")
    h = layer(x)
    if apart:
        h = bp.Activation.parse(activation)(bp.Dropout(0.5)(h))
    net = bp.Network(x, bp.Dense(1, name="out")(h), dtype="float64", seed=0, **options)
    net.tensors["layer.weight"][:, 0] = weights
    net.tensors["layer.bias"][:] = biases
    return net


@pytest.mark.parametrize("apart", [False, True])
def test_dead_units_of_relu_are_those_that_are_0(apart, backend):
    net = one_layer("relu", [1, -2, 0.5, 1], [0, 0, -9, -3.1], apart, backend=backend)
    found = units.units_of(net, X)
    values = net.predict(X, at=3 if apart else "layer")
    assert (values == 0).all(axis=0).tolist() == [False, False, True, True]
    assert found["layer"].dead == 0.5 and math.isnan(found["layer"].saturated) and found["layer"].finite
    assert math.isnan(found["out"].dead)


@pytest.mark.parametrize("activation", ["tanh", "sigmoid"])
@pytest.mark.parametrize("apart", [False, True])
def test_saturated_values_have_a_small_derivative(activation, apart, backend):
    net = one_layer(activation, [0.1, 1, 20, 50], 0, apart, backend=backend)
    z = X * [0.1, 1, 20, 50]
    slope = 1 - np.tanh(z if activation == "tanh" else z / 2) ** 2  # of sigmoid: times 1/4, which is its largest
    found = units.units_of(net, X)["layer"]
    assert found.saturated == pytest.approx((slope < units.SATURATED).mean())
    assert 0 < found.saturated < 1 and found.dead == 0


@pytest.mark.parametrize("name", cases.ACTIVATIONS)
def test_every_activation_function_is_measured(name):
    """Units far on either side: those whose derivative vanishes there are dead."""
    if name == "identity":
        return
    spec = cases.ACTIVATIONS[name].spec
    found = units.units_of(one_layer(spec, [1, 1, 1], [0, 60, -60]), X)["layer"]
    flat = {
        "sides": ("sigmoid", "hard_sigmoid", "tanh", "scaled_tanh"),
        "left": ("relu", "elu", "selu", "gelu", "silu", "mish", "softplus", "exp"),
    }
    assert found.dead == pytest.approx((2 if name in flat["sides"] else 1 if name in flat["left"] else 0) / 3)
    assert math.isnan(found.saturated) == (name not in (*flat["sides"], "softsign"))
    assert found.saturated >= 2 / 3 or name not in flat["sides"]


@pytest.mark.parametrize("shape", [*graphs.SHAPES, "embedded"])
def test_all_graphs_are_counted(shape, backend):
    net = graphs.network(shape, "relu", backend=backend)
    found = units.units_of(net, graphs.rows_of(net, 4))
    assert list(found) == [layer.name for layer in net.layers]
    assert all(one.finite and (math.isnan(one.dead) or 0 <= one.dead <= 1) for one in found.values())
    dense = [layer.name for layer in net.layers if layer.kind == "dense" and layer.activation == "relu"]
    assert all(not math.isnan(found[name].dead) for name in dense)


def test_values_that_are_not_finite_are_found():
    net = one_layer("relu", [1, 1])
    net.tensors["layer.weight"][0] = np.nan
    found = units.units_of(net, X)
    assert [one.finite for one in found.values()] == [False, False]


def test_sparse_rows_are_counted_as_dense_ones(backend):
    x, z = bp.Input(9), bp.Input(2)
    h = bp.concat([bp.Dense(40, "relu", name="wide")(x), bp.Dense(5, "tanh", name="narrow")(z)])
    net = bp.Network([x, z], bp.Dense(1, name="out")(h), seed=0, backend=backend)
    columns = np.random.default_rng(0).integers(0, 3, 6)
    parts = {"data": np.full(6, -9.5), "indices": columns.astype(np.int32), "indptr": np.arange(7, dtype=np.int32)}
    sparse = types.SimpleNamespace(**parts, shape=(6, 9))
    dense = np.zeros((6, 9))
    dense[np.arange(6), columns] = -9.5
    other = np.ones((6, 2))
    found = units.units_of(net, [sparse, other])
    assert repr(found) == repr(units.units_of(net, [dense, other])) and 0 < found["wide"].dead < 1
