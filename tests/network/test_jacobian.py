"""Jacobians: equal to the reference, to gradients of single rows, to differences, and to PyTorch's."""

import numpy as np
import pytest
from graphs import SHAPES, network, rows_of

import microbp as bp

each_shape = pytest.mark.parametrize("shape", SHAPES)
each_way = pytest.mark.parametrize("by", ["params", "inputs"])
BOUNDS = {"float32": 1e-5, "float64": 1e-12}


def flat(found):
    """The arrays of a Jacobian of several outputs and inputs."""
    return [array for part in found for array in flat(part)] if isinstance(found, list) else [found]


def moved(shape, **options):
    """A network whose running statistics are not those of a new one."""
    net = network(shape, **options)
    net.buffers[:] = np.random.default_rng(3).uniform(0.5, 1.5, len(net.buffers))
    return net


def take(x, rows):
    return [one[rows] for one in x] if isinstance(x, list) else x[rows]


@each_shape
@each_way
@pytest.mark.parametrize("activation", ["tanh", "gelu"])
def test_equals_the_reference(dtype, shape, by, activation):
    net, other = (moved(shape, activation=activation, dtype=dtype, backend=name) for name in ("compiled", "reference"))
    x = rows_of(net, 5)
    found, expected = flat(net.jacobian(x, by)), flat(other.jacobian(x, by))
    for a, b in zip(found, expected, strict=True):
        assert a.dtype == net.dtype and a.shape == b.shape
        np.testing.assert_allclose(a, b, BOUNDS[dtype], BOUNDS[dtype])


@pytest.mark.parametrize("shape", [name for name in SHAPES if name != "random_ways"])
def test_has_the_bits_of_the_gradients_of_one_row(backend, dtype, shape):
    net = moved(shape, dtype=dtype, backend=backend)
    for layer in net.layers:
        if layer.kind == "batch_norm":
            net.freeze(layer.name)
    x = rows_of(net, 3)
    start = [np.zeros((1, output.width)) for output in net.outputs]
    t = bp.Trainer(net, [lambda outputs, targets, weight: (0.0, targets.astype(outputs.dtype))] * len(start))
    t.dropout = 0
    by_params, by_inputs = net.jacobian(x), net.jacobian(x, "inputs")
    for o, width in enumerate(output.width for output in net.outputs):
        params, inputs = (found if len(start) == 1 else found[o] for found in (by_params, by_inputs))
        for r in range(3):
            for column in range(width):
                start[o][0, column] = 1
                t.backward(take(x, slice(r, r + 1)), start if len(start) > 1 else start[0], input_grads=True)
                start[o][0, column] = 0
                assert np.array_equal(params[r, column], t.grads)
                assert all(np.array_equal(a[r, column], b[0]) for a, b in zip(flat(inputs), flat(t.input_grads), strict=True))


@each_shape
@each_way
def test_rows_do_not_depend_on_other_rows_and_threads(shape, by):
    net = moved(shape)
    x = rows_of(net, 150)
    whole = flat(net.jacobian(x, by))
    net.n_threads = 4
    assert all(map(np.array_equal, flat(net.jacobian(x, by)), whole))
    assert all(np.array_equal(a, b[33:70]) for a, b in zip(flat(net.jacobian(take(x, slice(33, 70)), by)), whole, strict=True))
    assert all(np.array_equal(a, b[7]) for a, b in zip(flat(net.jacobian(take(x, 7), by)), whole, strict=True))
    assert all(a.shape == (0, *b.shape[1:]) for a, b in zip(flat(net.jacobian(take(x, slice(0, 0)), by)), whole, strict=True))


@pytest.mark.parametrize("shape", ["skip", "heads", "normal_often"])
def test_equals_differences(backend, shape):
    net = moved(shape, dtype="float64", backend=backend)
    x, step = rows_of(net, 2), 1e-6
    found = net.jacobian(x)
    for o, jacobian in enumerate(flat(found)):
        for i in np.random.default_rng(0).choice(len(net.params), 5, replace=False):
            before, values = net.params[i], []
            for moved_by in (step, -step):
                net.params[i] = before + moved_by
                values.append(flat(net.predict(x, raw=True))[o])
            net.params[i] = before
            np.testing.assert_allclose((values[0] - values[1]) / (2 * step), jacobian[:, :, i], 1e-6, 1e-8)


def test_one_output_of_several(backend):
    net = network("heads", backend=backend)
    x = rows_of(net, 4)
    whole, inputs = net.jacobian(x), net.jacobian(x, "inputs")
    for i in range(len(net.outputs)):
        assert np.array_equal(net.jacobian(x, output=i), whole[i])
        assert np.array_equal(net.jacobian(x, output=net.outputs[i].name), whole[i])
        assert all(map(np.array_equal, net.jacobian(x, "inputs", output=i), inputs[i]))


def test_frozen_layers_have_derivatives_of_0(backend):
    net = network("chain", backend=backend)
    x, before = rows_of(net, 4), network("chain", backend=backend).jacobian(rows_of(net, 4))
    net.freeze("dense_0")
    frozen = np.zeros(len(net.params), bool)
    frozen[: net.tensors["dense_0.weight"].size] = True
    place = net.tensors["dense_0.bias"].__array_interface__["data"][0] - net.params.__array_interface__["data"][0]
    frozen[place // net.params.itemsize :][: net.tensors["dense_0.bias"].size] = True
    found = net.jacobian(x)
    assert not found[..., frozen].any() and np.array_equal(found[..., ~frozen], before[..., ~frozen])
    assert np.array_equal(net.jacobian(x, "inputs"), network("chain", backend=backend).jacobian(x, "inputs"))


def test_an_output_that_is_an_input(backend):
    x, z = bp.Input(2), bp.Input(3)
    net = bp.Network([x, z], [x, bp.Dense(2)(x), z], seed=0, backend=backend)
    rows = [np.ones((4, 2)), np.ones((4, 3))]
    (by_x, by_z), (head_by_x, _), _ = net.jacobian(rows, "inputs")
    assert np.array_equal(by_x, np.broadcast_to(np.eye(2), (4, 2, 2))) and not by_z.any() and by_z.shape == (4, 2, 3)
    assert np.array_equal(head_by_x, np.broadcast_to(net.tensors["dense_0.weight"], (4, 2, 2)))
    assert not net.jacobian(rows, output=0).any()


def test_penalties_do_not_count(backend):
    nets = [bp.Network(x := bp.Input(2), bp.Dense(3, l1=factor, l2=factor)(x), seed=0, backend=backend) for factor in (0, 0.5)]
    assert np.array_equal(*(net.jacobian(np.ones((4, 2))) for net in nets))


REFUSED = {
    "by": ({"by": "weights"}, "jacobian: by"),
    "name": ({"output": "a"}, "unknown output in jacobian: 'a'; valid: 0"),
    "output": ({"output": 1}, "jacobian: there is no output 1: the net has 1 output, numbered from 0"),
    "shape": ({"X": np.zeros((3, 4))}, r"X has shape \(3, 4\); its last axis must have length 5"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_arguments(backend, case):
    arguments, text = REFUSED[case]
    with pytest.raises(ValueError, match=text):
        network("chain", backend=backend).jacobian(**{"X": np.zeros((3, 5)), **arguments})


def test_a_result_that_does_not_fit_in_memory():
    net = bp.mlp([1, 4, 3], seed=0)
    rows = np.broadcast_to(np.float32(0), (2**55, 1))
    with pytest.raises(MemoryError, match=r"jacobian: the result has [\d,]+ bytes, which do not fit in memory: pass fewer rows"):
        net.jacobian(rows)


def test_equals_torch():
    torch = pytest.importorskip("torch", reason="needs PyTorch")
    net = bp.mlp([4, 9, 7, 3], activation="tanh", dtype="float64", seed=0)
    x = rows_of(net, 6)
    tensors = {name: torch.tensor(np.array(view)) for name, view in net.tensors.items()}

    def predict(tensors, row):
        for i in range(3):
            row = tensors[f"dense_{i}.weight"] @ row + tensors[f"dense_{i}.bias"]
            row = torch.tanh(row) if i < 2 else row
        return row

    found = net.jacobian(x)
    for r, row in enumerate(torch.tensor(x)):
        by_tensor, by_row = torch.func.jacrev(predict, argnums=(0, 1))(tensors, row)
        for name, view in net.tensors.items():
            first = (view.__array_interface__["data"][0] - net.params.__array_interface__["data"][0]) // 8
            expected = np.moveaxis(by_tensor[name].numpy(), 1, -1).reshape(3, -1)  # weights are stored (in, out)
            np.testing.assert_allclose(found[r, :, first : first + view.size], expected, 1e-12, 1e-12)
        np.testing.assert_allclose(net.jacobian(x[r], "inputs"), by_row.numpy(), 1e-12, 1e-12)
