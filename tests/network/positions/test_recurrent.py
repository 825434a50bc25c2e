"""Recurrent layers: against the reference, for any number of threads, position by position, and what they refuse."""

import copy
import itertools
import pickle

import numpy as np
import pytest

import microbp as bp
from microbp.network.positions.recurrent import GATES

CELLS = list(GATES)


@pytest.fixture(params=["compiled", "reference"])
def backend(request):
    return request.param


def network(cell, reverse=False, with_state=True, units=3, length=4, width=2, **options):
    """h at each position, and what depends on it; the weights of another layer depend on the state."""
    x, z = bp.Sequence(length, width), bp.Input(3)
    layer = bp.Recurrent(units, cell, reverse, bias_init="normal", name="layer")
    h = layer(x, bp.Dense(layer.state_width, "tanh", name="first")(z)) if with_state else layer(x)
    outputs = [bp.Flatten()(h), bp.Dense(2)(bp.concat([bp.Last()(h), z]))]
    return bp.Network([x, z], outputs, **{"seed": 3, **options})


def batch(net, rows, seed=0):
    random = np.random.default_rng(seed)
    arrays = [random.normal(size=(rows, *entry.row_shape)).astype(net.dtype) for entry in net.inputs]
    return arrays, [random.normal(size=(rows, *entry.row_shape)).astype(net.dtype) for entry in net.outputs]


def results(net, xs, ys):
    t = bp.Trainer(net, ["mse", "half_sse"], bp.Adam(0.1))
    loss = t.backward(xs, ys, input_grads=True)
    found = [np.array(loss), t.grads.copy(), *t.input_grads, *net.predict(xs)]
    t.step(xs, ys)
    return [*found, net.params.copy()]


@pytest.mark.parametrize("with_state", [False, True])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize(("dtype", "bound"), [("float32", 1e-5), ("float64", 1e-13)])
@pytest.mark.parametrize(("rows", "length"), [(1, 5), (5, 1), (70, 3)])
def test_a_step_equals_the_reference(dtype, bound, cell, reverse, with_state, rows, length):
    nets = [network(cell, reverse, with_state, length=length, dtype=dtype, backend=one) for one in ("compiled", "reference")]
    found, expected = (results(net, *batch(net, rows)) for net in nets)
    for mine, theirs in zip(found[:-1], expected[:-1], strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=bound, atol=bound)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_any_number_of_threads_and_any_split_gives_the_same_bits(cell, reverse, dtype):
    """So large that threads share the rows, and weights are copied side by side."""
    nets = [network(cell, reverse, units=96, length=9, width=40, dtype=dtype, n_threads=n) for n in (1, 2, 3, 8)]
    found = [results(net, *batch(net, 150)) for net in nets]
    for other in found[1:]:
        assert all(np.array_equal(a, b) for a, b in zip(found[0], other, strict=True))
    xs, _ = batch(nets[0], 150)
    whole = nets[0].predict(xs)
    parts = [nets[0].predict([x[i:j] for x in xs]) for i, j in itertools.pairwise([0, 1, 3, 20, 64, 150])]
    assert all(np.array_equal(one, np.concatenate(pieces)) for one, pieces in zip(whole, zip(*parts, strict=True), strict=True))


@pytest.mark.parametrize("cell", ["tanh", "gru"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("rows", "units"), [(1, 5), (100, 70)])
def test_one_position_at_a_time_gives_the_same_bits(cell, dtype, rows, units):
    """A network of one position, whose state comes from outside, with the same weights."""
    x, one, state = bp.Sequence(7, 4), bp.Input(4), bp.Input(units)
    layer = bp.Recurrent(units, cell, bias_init="normal", name="layer")
    net, step = bp.Network(x, layer(x), dtype, 0), bp.Network([one, state], layer(one, state), dtype, 0)
    rows_of_x, h = batch(net, rows)[0][0], np.zeros((rows, units), dtype)
    expected = net.predict(rows_of_x)
    for t in range(7):
        h = step.predict([np.ascontiguousarray(rows_of_x[:, t]), h])
        assert np.array_equal(h, expected[:, t])


def test_both_directions_are_mirrored(backend):
    nets = [network("gru", reverse, with_state=False, dtype="float64", backend=backend) for reverse in (False, True)]
    (x, z), _ = batch(nets[0], 5)
    there, back = nets[0].predict([x, z])[0], nets[1].predict([x[:, ::-1], z])[0]
    assert np.array_equal(there.reshape(5, 4, 3), back.reshape(5, 4, 3)[:, ::-1])


@pytest.mark.parametrize("cell", CELLS)
def test_copies_files_and_new_graphs_keep_it(cell, backend, tmp_path):
    net = network(cell, True, backend=backend)
    xs, _ = batch(net, 3)
    expected = net.predict(xs)
    net.save(tmp_path / "net.safetensors")
    shapes = {name: view.shape for name, view in net.tensors.items() if name.startswith("layer")}
    gates = GATES[cell]
    assert shapes == {"layer.weight": (3 * gates, 5), "layer.bias": (3 * (gates + (cell == "gru")),)}
    loaded = bp.load(tmp_path / "net.safetensors", backend=backend)
    inputs = [bp.Input(entry.width) for entry in net.inputs]
    in_new_graph = bp.Network(inputs, net(inputs), net.dtype, net.seed, backend=backend)
    for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net)), loaded, in_new_graph):
        assert other.text() == net.text()
        assert all(np.array_equal(a, b) for a, b in zip(other.predict(xs), expected, strict=True))
    info = next(layer for layer in net.layers if layer.name == "layer")
    assert (info.cell, info.inputs, info.units, info.kind, info.recurrent_init) == (cell, 2, 3, "recurrent", "orthogonal(gain=1)")
    assert info.parameters == sum(int(np.prod(shape)) for shape in shapes.values())
    node = next(node for node in net.nodes if node.operation == "recurrent")
    assert node.reverse is True and f"{cell}, reverse" in str(net)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize(("units", "width"), [(8, 3), (3, 8), (1, 1)])
def test_initial_weights_are_those_of_each_gate(cell, units, width):
    nets = [
        bp.Network(x, bp.Recurrent(units, cell, init=init, recurrent_init=bp.Init("orthogonal", gain=2))(x), "float64", 5, backend=backend)
        for backend, init in itertools.product(("compiled", "reference"), ("orthogonal", "auto"))
        for x in [bp.Sequence(2, width)]
    ]
    assert nets[0].params.tobytes() == nets[2].params.tobytes() and nets[1].params.tobytes() == nets[3].params.tobytes()
    for gate in np.split(nets[0].tensors["recurrent_0.weight"], GATES[cell]):
        for part, gain in ((gate[:, :width], 1), (gate[:, width:], 2)):
            table = part if part.shape[0] <= part.shape[1] else part.T
            np.testing.assert_allclose(table @ table.T, gain**2 * np.eye(len(table)), atol=1e-14)
    limit = np.sqrt(6 / (units + width))
    drawn = nets[1].tensors["recurrent_0.weight"][:, :width]
    assert abs(drawn).max() <= limit and (drawn.size < 20 or abs(drawn).max() > 0.8 * limit)
    bias = nets[0].tensors["recurrent_0.bias"]
    assert np.array_equal(bias, np.repeat([0, 1, 0, 0], units) if cell == "lstm" else np.zeros(len(bias)))


def test_arrays_are_pytorchs(backend):
    random = np.random.default_rng(0)
    w, u, b = random.normal(size=(12, 2)), random.normal(size=(12, 4)), random.normal(size=16)
    x = bp.Sequence(3, 2)
    layer = bp.Recurrent(4, "gru", init=w, recurrent_init=u, bias_init=b)
    net = bp.Network(x, layer(x), "float64", backend=backend)
    assert np.array_equal(net.tensors["recurrent_0.weight"], np.hstack([w, u])) and np.array_equal(net.tensors["recurrent_0.bias"], b)
    net.init(seed=3)
    assert np.array_equal(net.tensors["recurrent_0.weight"], np.hstack([w, u]))
    with pytest.raises(ValueError, match=r"layer 'recurrent_0': init must have shape \(12, 3\), not \(12, 2\)"):
        bp.Network(y := bp.Sequence(3, 3), layer(y))


@pytest.mark.parametrize("cell", CELLS)
def test_penalties_limits_and_frozen_layers(cell, backend):
    def trained(**settings):
        x = bp.Sequence(3, 2)
        net = bp.Network(x, bp.Recurrent(4, cell, bias_init="normal", **settings)(x), "float64", 1, backend=backend)
        t = bp.Trainer(net, "mse", bp.SGD(0.5))
        rows, targets = (np.random.default_rng(0).normal(size=(6, 3, n)) for n in (2, 4))
        t.backward(rows, targets)
        gradient = t.grads.copy()
        t.step(rows, targets)
        return net, gradient, net.tensors["recurrent_0.weight"], net.tensors["recurrent_0.bias"]

    plain, gradient, _, bias = trained()
    start = bp.Network(x := bp.Sequence(3, 2), bp.Recurrent(4, cell, bias_init="normal")(x), "float64", 1, backend=backend)
    first = start.tensors["recurrent_0.weight"].T.ravel()
    net, penalized, _, _ = trained(l1=0.1, l2=0.3)
    np.testing.assert_allclose(penalized[: len(first)] - gradient[: len(first)], 0.1 * np.sign(first) + 0.3 * first, atol=1e-14)
    assert net.layers[0].l1 == 0.1
    _, _, limited, _ = trained(max_norm=0.3)
    assert np.linalg.norm(limited, axis=1).max() <= 0.3 * (1 + 1e-12)
    _, _, same, moved = trained(lr=0, bias_lr=1)
    assert np.array_equal(same, start.tensors["recurrent_0.weight"]) and np.array_equal(moved, bias)
    plain.freeze("recurrent_0")
    before = plain.params.copy()
    bp.Trainer(plain, "mse", bp.SGD(0.5)).step(np.ones((2, 3, 2)), np.ones((2, 3, 4)))
    assert np.array_equal(before, plain.params)


def test_a_step_that_is_not_finite_changes_nothing(backend):
    net = network("gru", backend=backend)
    xs, ys = batch(net, 3)
    xs[0][1, 2, 0] = np.nan
    t, before = bp.Trainer(net, ["mse", "mse"], bp.SGD(0.5)), net.params.copy()
    with pytest.raises(FloatingPointError):
        t.step(xs, ys)
    assert np.array_equal(before, net.params)


def test_what_it_refuses():
    x, ids = bp.Sequence(4, 2), bp.Ids(1, 5)
    refusals = [
        (lambda: bp.Recurrent(0), "Recurrent: units"),
        (lambda: bp.Recurrent(3, "rnn"), "Recurrent: cell"),
        (lambda: bp.Recurrent(3, reverse=2), "Recurrent: reverse"),
        (lambda: bp.Recurrent(3, bias=False, bias_init="zeros"), "bias is False, so bias_init has no effect"),
        (lambda: bp.Recurrent(3, bias=False, bias_lr=2), "bias is False, so bias_lr has no effect"),
        (lambda: bp.Recurrent(3, init=np.zeros((9, 2))), "init is an array, but recurrent_init is not"),
        (lambda: bp.Recurrent(3, init=np.zeros((8, 2)), recurrent_init=np.zeros((9, 3))), r"init must have shape \(9, columns of x\)"),
        (lambda: bp.Recurrent(3, init=np.zeros((9, 2)), recurrent_init=np.zeros((9, 2))), r"recurrent_init must have shape \(9, 3\)"),
        (lambda: bp.Recurrent(3, bias_init=np.zeros(9)), r"bias_init must have shape \(12,\), not \(9,\)"),
        (lambda: bp.Recurrent(3, lr=-1), "Recurrent: lr"),
        (lambda: bp.Recurrent(3)(ids), "Recurrent cannot read ids"),
        (lambda: bp.Recurrent(3)(x, x), "state must be a node of one position with 3 columns"),
        (lambda: bp.Recurrent(3, "lstm")(x, bp.Input(3)), "state must be a node of one position with 6 columns"),
    ]
    for make, message in refusals:
        with pytest.raises((ValueError, TypeError), match=message):
            make()


def test_sparse_rows_are_refused():
    scipy = pytest.importorskip("scipy.sparse", reason="SciPy is not installed")
    x = bp.Input(2)
    net = bp.Network(x, bp.Recurrent(3)(x), seed=0)
    with pytest.raises(ValueError, match=r"input 0 is sparse, but node 1 \(recurrent\) reads it"):
        net.predict(scipy.csr_array(np.eye(2, dtype=np.float32)))
