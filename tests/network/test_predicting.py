"""Predictions of several nodes at once, with and without memory of the caller; predictions with dropout and noise."""

import numpy as np
import pytest
from graphs import SHAPES, network, rows_of

import microbp as bp

each_shape = pytest.mark.parametrize("shape", SHAPES)


def equal(found, expected):
    return len(found) == len(expected) and all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))


def as_list(y):
    return y if isinstance(y, list) else [y]


def output_names(net):
    return ["output"] if len(net.outputs) == 1 else [f"output_{i}" for i in range(len(net.outputs))]


# ---- several places ----


@each_shape
@pytest.mark.parametrize("raw", [False, True])
def test_all_places_at_once_have_the_values_of_each_alone(backend, dtype, shape, raw):
    net = network(shape, dtype=dtype, backend=backend)
    net.set_output(0, "softmax")
    x = rows_of(net, 7)
    at = [*range(len(net.nodes)), *output_names(net), 0, *output_names(net)]
    outputs = as_list(net.predict(x, raw=raw))
    nodes = [net.predict(x, at=i) for i in range(len(net.nodes))]
    expected = [*nodes, *outputs, nodes[0], *outputs]
    assert equal(net.predict(x, raw=raw, at=at), expected)
    outs = [np.full_like(one, np.nan) for one in expected]
    assert equal(net.predict(x, raw=raw, at=tuple(at), out=outs), expected) and equal(outs, expected)


def test_names_of_places(backend):
    x = bp.Input(2)
    h = bp.Dense(3, activation="tanh", name="code")(x)
    net = bp.Network(x, bp.Dense(2, name="head")(h), seed=0, backend=backend)
    net.set_output(0, "softmax")
    rows = np.ones((4, 2))
    code, y = net.predict(rows, at=["code", "output"])
    assert np.array_equal(code, net.predict(rows, at=1)) and np.array_equal(y, net.predict(rows))
    assert np.array_equal(net.predict(rows, at="output"), y) and np.array_equal(net.predict(rows, at=["output"])[0], y)
    named = bp.Network(x, bp.Dense(2, name="output")(h), seed=0, backend=backend)
    named.set_output(0, "softmax")
    assert np.array_equal(named.predict(rows, at="output"), named.predict(rows, raw=True))  # the layer, not the output


def test_nodes_are_places(backend, tmp_path):
    x = bp.Input(2)
    h = bp.Dense(3, activation="tanh")(x)
    y = bp.Dense(2)(h * h)
    net, rows = bp.Network(x, y, seed=0, backend=backend), np.ones((4, 2))
    for node, number in ((x, 0), (h, 1), (y, 3)):
        assert np.array_equal(net.predict(rows, at=node), net.predict(rows, at=number))
        assert np.array_equal(net.copy().predict(rows, at=node), net.predict(rows, at=number))
    assert equal(net.predict(rows, at=[h, "output", y, 0]), net.predict(rows, at=[1, "output", 3, 0]))
    assert np.array_equal(net.part(outputs=h).predict(rows, at=h), net.predict(rows, at=h))
    assert np.array_equal(bp.Trainer(net, "mse").predict(rows, at=h), net.predict(rows, at=h))
    net.save(tmp_path / "net")
    loaded = bp.load(tmp_path / "net", backend=backend)
    for other, node in ((net, h + h), (net, bp.Input(2)), (net.part(outputs=h), y), (loaded, h)):
        with pytest.raises(ValueError, match=r"at \(<node \d+: .*\) is not a node that this network was made of: use the name of a layer"):
            other.predict(rows, at=node)
        with pytest.raises(ValueError, match="is not a node that this network was made of"):
            other.predict(rows, at=[0, node])


def test_records_are_no_places(backend):
    net, x = network("chain", backend=backend), np.zeros((2, 5))
    for record in (net.nodes[1], net.layers[0], net.inputs[0], net.outputs[0]):
        for call in (lambda at: net.predict(x, at=at), lambda at: net.predict(x, at=[0, at]), lambda at: net.part(outputs=at)):
            with pytest.raises(
                TypeError, match="unless it is a node or the name of a layer, must be a whole number, not (Node|Layer|In|Out)"
            ):
                call(record)


def test_vectors_and_leading_axes(backend):
    net = network("chain", backend=backend)
    x = np.random.default_rng(0).normal(size=(2, 3, 5))
    for found, flat in zip(net.predict(x, at=[1, "output"]), net.predict(x.reshape(6, 5), at=[1, "output"]), strict=True):
        assert np.array_equal(found.reshape(6, -1), flat)
    assert equal(net.predict(x[0, 0], at=[1, "output"]), [one[0, 0] for one in net.predict(x, at=[1, "output"])])


@pytest.mark.parametrize("shape", ["chain", "heads"])
def test_vectors_with_memory_of_the_caller(backend, shape):
    net = network(shape, backend=backend)
    rows = [one[0] for one in as_list(rows_of(net, 1))]
    x = rows if len(rows) > 1 else rows[0]
    expected = as_list(net.predict(x))
    outs = [np.full_like(one, np.nan) for one in expected]
    net.predict(x, out=outs if len(outs) > 1 else outs[0])
    assert equal(outs, expected)
    wide = [np.empty((1, len(one)), one.dtype) for one in expected]
    with pytest.raises(ValueError, match="must have dtype float32 and shape"):
        net.predict(x, out=wide if len(wide) > 1 else wide[0])


REFUSED = {
    "empty": ([], "at is an empty list; name at least one layer or node"),
    "a layer": (["dense_0", "dense_9"], "dense_9"),
    "a node": ([0, 99], "at must be a node number from 0 to 3, not 99"),
    "an output": (["output_0"], "output_0"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_places(backend, case):
    at, text = REFUSED[case]
    with pytest.raises(ValueError, match=text):
        network("chain", backend=backend).predict(np.zeros((2, 5)), at=at)


def test_refused_memory(backend):
    net, x = network("chain", backend=backend), np.zeros((2, 5))
    one = np.empty((2, 3), "float32")
    with pytest.raises(ValueError, match="out must be a list of 2 arrays, one per output, but its length is 1"):
        net.predict(x, at=[1, "output"], out=[one])
    with pytest.raises(ValueError, match=r"out\[1\] must have dtype float32 and shape \(2, 3\)"):
        net.predict(x, at=["output", "output"], out=[one, one.astype(float)])
    with pytest.raises(ValueError, match="output 1 shares memory with output 0"):
        net.predict(x, at=["output", "output"], out=[one, one])


# ---- with dropout and noise ----


@pytest.mark.parametrize("shape", ["random_ways", "scaled"])
def test_training_draws_what_a_first_step_draws(backend, dtype, shape):
    net = network(shape, dtype=dtype, backend=backend)
    x, seen = rows_of(net, 300 if backend == "compiled" else 5), []

    def loss(outputs, targets, weight):
        seen.append(outputs.copy())
        return 0.0, np.zeros_like(outputs)

    t = bp.Trainer(net, [loss] * len(net.outputs), seed=11)
    targets = [np.zeros((len(x), output.width)) for output in net.outputs]
    t.backward(x, targets if len(targets) > 1 else targets[0])
    assert equal(as_list(net.predict(x, training=True, seed=11)), seen)
    assert equal(as_list(t.predict(x, training=True, seed=11)), seen)


@each_shape
def test_training_agrees_with_the_reference_and_leaves_other_layers_as_they_are(dtype, shape):
    net = network(shape, dtype=dtype, backend="compiled")
    other = network(shape, dtype=dtype, backend="reference")
    x = rows_of(net, 6)
    found, plain = as_list(net.predict(x, training=True, seed=2**64 - 1)), as_list(net.predict(x))
    bound = 1e-5 if dtype == "float32" else 1e-12
    for a, b in zip(found, as_list(other.predict(x, training=True, seed=2**64 - 1)), strict=True):
        np.testing.assert_allclose(a, b, bound, bound)
    is_random = any(node.operation in ("dropout", "noise") for node in net.nodes)
    assert equal(found, plain) != is_random  # batch_norm has its running statistics


def test_training_does_not_depend_on_slices_and_threads():
    net = network("random_ways")
    x = rows_of(net, 5000)
    expected = net.predict(x, training=True, seed=1)
    assert np.array_equal(net.predict(x[:301], training=True, seed=1), expected[:301])
    net.n_threads = 4
    assert np.array_equal(net.predict(x, training=True, seed=1), expected)
    assert np.array_equal(net.predict(x, training=True, seed=1, at=["output", 1])[0], expected)
    assert not np.array_equal(net.predict(x, training=True, seed=2), expected)
    assert np.array_equal(net.predict(x, training=True), net.predict(x, training=True, seed=net.seed))


def test_the_mean_of_many_draws_is_the_prediction_of_a_linear_net():
    x = bp.Input(4)
    net = bp.Network(x, bp.Dense(1)(bp.Dropout(0.5)(x)), seed=0)
    rows = np.ones((10, 4))
    drawn = np.array([net.predict(rows, training=True, seed=k) for k in range(400)])
    assert abs(drawn.mean(axis=0) - net.predict(rows)).max() < 5 * drawn.std() / np.sqrt(400)


def test_refused_seeds(backend):
    net, x = network("random_ways", backend=backend), np.zeros((2, 6))
    with pytest.raises(ValueError, match="seed is for the numbers that training=True draws"):
        net.predict(x, seed=1)
    with pytest.raises(ValueError, match="predict: seed must be"):
        net.predict(x, training=True, seed=-1)
    with pytest.raises(TypeError, match="predict: training must be True or False"):
        net.predict(x, training=1)
