"""The numbers of an explanation: those of the compiled core, and products along ways that add up to the gradients."""

from __future__ import annotations

import cases
import graphs
import numpy as np
import pytest

import microbp as bp
from microbp.explaining import ways

CLOSE = {"rtol": 1e-9, "atol": 1e-11}  # float64 on both sides; sums in another order


def split(net, row):
    """A row of each input, without the axis of rows."""
    return [x[0] for x in row] if isinstance(row, list) else row[0]


def check_values(net, row, e):
    """Every node has the value that predict gives there."""
    inputs = iter(["x"] if len(net.inputs) == 1 else [f"x{i}" for i in range(len(net.inputs))])
    for node in net.nodes:
        is_input = node.operation in ("input", "ids")
        name = next(inputs) if is_input else node.layer or f"{node.operation}_{node.node}"
        name = f"{name}:{node.node}" if f"{name}:{node.node}" in e.values else name
        expected = net.predict(row, at=node.node, raw=True)[0]
        np.testing.assert_allclose(e.values[name].reshape(-1), expected.reshape(-1), **CLOSE)


def check_ways(e, monkeypatch):
    """The products of all ways add up to the gradient, for every number and every weight."""
    monkeypatch.setattr(ways, "_MOST", 5000)
    names = [name for name in e.values if name in e.grads]
    checked = 0
    for name in names:
        array = e.grads[name]
        for place in np.ndindex(array.shape):
            found = e.ways(f"{name}[{', '.join(map(str, place))}]" if name != "loss" else "loss")
            assert len(found.products) == min(found.count, 5000)
            if found.count <= 5000:
                np.testing.assert_allclose(sum(found.products), array[place], **CLOSE)
                checked += 1
    assert checked


def gradients_of(net, row):
    """The derivatives of the sum of all outputs by the parameters, from the compiled Jacobian."""
    found = net.jacobian(row)
    return sum(one.reshape(-1, len(net.params)).sum(axis=0) for one in (found if isinstance(found, list) else [found]))


def check_grads(net, e, flat):
    views = net.copy()
    views.params[:] = flat
    for name, expected in views.tensors.items():
        if name in e.grads:
            np.testing.assert_allclose(e.grads[name], expected, **CLOSE, err_msg=name)


@pytest.mark.parametrize("shape", graphs.SHAPES)
def test_values_and_gradients_of_every_kind_of_node(shape, monkeypatch):
    net = graphs.network(shape, dtype="float64")
    row = graphs.rows_of(net, 1)
    e = bp.explain(net, split(net, row))
    check_values(net, row, e)
    check_grads(net, e, gradients_of(net, row))
    by_inputs = net.jacobian(row, by="inputs")
    flat = by_inputs if isinstance(by_inputs, list) else [by_inputs]
    flat = flat if isinstance(flat[0], list) else [flat] if len(net.outputs) == 1 else [[one] for one in flat]
    for i in range(len(net.inputs)):
        expected = sum(of_output[i].reshape(-1, net.inputs[i].width).sum(axis=0) for of_output in flat)
        np.testing.assert_allclose(e.grads["x" if len(net.inputs) == 1 else f"x{i}"], expected, **CLOSE)


SMALL = {
    "neuron": lambda a: chain(2, [1], a),
    "two layers": lambda a: chain(2, [3, 2], a),
    "skip": lambda a: skip(a),
    "twice": lambda a: twice(a),
    "norms": lambda a: norms(a),
    "ids": lambda a: ids(a),
    "recurrent": lambda a: recurrent(a),
    "image": lambda a: image(a),
}


def chain(inputs, widths, a):
    node = x = bp.Input(inputs)
    for width in widths:
        node = bp.Dense(width, a)(node)
    return [x], [node]


def skip(a):
    x = bp.Input(3)
    h = bp.Dense(3, a)(x)
    return [x], [bp.Dense(2)(bp.Dense(3, a)(h) * h + x - 2 * h)]


def twice(a):
    """A layer that is used twice, numbers that are used twice, dropout and slices."""
    x, z = bp.Input(3), bp.Input(3)
    layer = bp.Dense(3, a)
    h, g = layer(x), layer(bp.Dropout()(z))
    return [x, z], [bp.concat([h * h, g])[:, 1:5], layer(g)]


def norms(a):
    x = bp.Input(3)
    h = bp.LayerNorm()(bp.BatchNorm()(bp.Dense(3, a)(bp.Standardize()(x))))
    return [x], [bp.Scale()(bp.GaussianNoise()(h))]


def ids(a):
    x, z = bp.Ids(2, 4), bp.Input(2)
    return [x, z], [bp.Dense(2, a)(bp.concat([bp.Embedding(4, 2)(x), z]))]


def recurrent(a):
    x = bp.Sequence(3, 2)
    return [x], [bp.Dense(1, a)(bp.Last()(bp.Recurrent(2, "gru")(x)))]


def image(a):
    x = bp.Grid(3, 3)
    return [x], [bp.Dense(2)(bp.Flatten()(bp.Pool(2, stride=1)(bp.Conv(2, 2, activation=a)(x))))]


@pytest.mark.parametrize("name", SMALL)
def test_the_products_along_all_ways_add_up_to_the_gradient(name, monkeypatch):
    net = graphs.spread(bp.Network(*SMALL[name]("tanh"), dtype="float64", seed=3))
    e = bp.explain(net, split(net, graphs.rows_of(net, 1)))
    check_ways(e, monkeypatch)


@pytest.mark.parametrize("activation", cases.ACTIVATIONS)
def test_every_activation(activation, monkeypatch):
    net = bp.Network(*chain(3, [4, 2], cases.ACTIVATIONS[activation].spec), dtype="float64", seed=1)
    row = graphs.rows_of(net, 1)
    e = bp.explain(net, row)
    check_values(net, row, e)
    check_grads(net, e, gradients_of(net, row))
    check_ways(e, monkeypatch)


@pytest.mark.parametrize("loss", cases.LOSS_CASES)
def test_every_loss(loss, monkeypatch):
    net = bp.mlp([3, 4, 4], activation="tanh", dtype="float64", seed=1)
    row, case = graphs.rows_of(net, 1), cases.LOSS_CASES[loss]
    y = case.targets(np.random.default_rng(cases.SEED), 1, 4)
    e = bp.explain(net, row[0], y[0], case.spec)
    t = bp.Trainer(net, case.spec, "sgd")
    np.testing.assert_allclose(e.loss, t.backward(row, y), **CLOSE)
    check_grads(net, e, t.grads)
    check_ways(e, monkeypatch)
    assert str(e) == str(bp.explain(t, row, y))


def test_several_losses_with_weights_scales_and_labels():
    x = bp.Input(3)
    h = bp.Dense(4, "tanh")(x)
    net = bp.Network(x, [bp.Dense(2, name="size")(h), bp.Dense(3, name="kind")(h)], dtype="float64", seed=0)
    net.set_output("size", "identity", mean=[1, 2], std=[3, 4])
    t = bp.Trainer(net, ["huber", "cross_entropy"], "sgd", loss_weights=[0.5, 2])
    row, ys = graphs.rows_of(net, 1), [np.array([[7.0, -3.0]]), np.array([2])]
    loss = t.backward(row, ys)
    for y in (ys, [[7, -3], 2], {"size": [7, -3], "kind": 2}):
        e = bp.explain(t, row, y)
        np.testing.assert_allclose(e.loss, loss, **CLOSE)
        check_grads(net, e, t.grads)


def test_targets_that_are_missing_and_losses_that_do_not_count():
    x = bp.Input(3)
    h = bp.Dense(4, "tanh")(x)
    net = bp.Network(x, [bp.Dense(2)(h), bp.Dense(3)(h), bp.Dense(1)(h)], dtype="float64", seed=0)
    t = bp.Trainer(net, [bp.Loss("mse", missing=True), "cross_entropy", "mae"], "sgd", loss_weights=[1, 2, 0])
    row, ys = graphs.rows_of(net, 1), [np.array([[np.nan, 2.0]]), np.array([1]), None]
    loss = t.backward(row, ys)
    e = bp.explain(t, row, [[np.nan, 2], 1, None])
    np.testing.assert_allclose(e.loss, loss, **CLOSE)
    check_grads(net, e, t.grads)


@pytest.mark.parametrize(("loss", "y"), [("mse", [[1, 2, 3], [4, 5, 6]]), ("cross_entropy", [2, 0]), ("bce", [[1, 0, 1], [0, 1, 0.5]])])
def test_targets_of_positions(loss, y):
    x = bp.Sequence(2, 2)
    net = bp.Network(x, bp.Dense(3)(bp.Recurrent(2, "lstm")(x)), dtype="float64", seed=0)
    t = bp.Trainer(net, loss, "sgd")
    row = graphs.rows_of(net, 1)
    expected = t.backward(row, np.array([y]))
    for given in (y, [y]):
        e = bp.explain(t, row, given)
        np.testing.assert_allclose(e.loss, expected, **CLOSE)
        check_grads(net, e, t.grads)


def test_frozen_layers_and_penalties():
    """The derivatives of frozen layers are there, and penalties do not count."""
    net = bp.mlp([3, 4, 2], activation="tanh", dtype="float64", seed=0)
    row, y = graphs.rows_of(net, 1), np.ones((1, 2))
    plain = bp.explain(net, row, y, "mse")
    net.freeze("dense_0")
    net.set_layer(l2=0.5)
    e = bp.explain(net, row, y, "mse")
    assert all((e.grads[name] == grads).all() for name, grads in plain.grads.items())
    assert "Penalties (l1, l2) are not part of it." in str(e).splitlines()


def test_names_that_are_taken():
    """Each node has a name of its own, also where layers are called like inputs, operations or the loss."""
    x, z = bp.Input(2), bp.Input(2)
    h = bp.Dense(2, "tanh", name="x0")(x) + bp.Dense(2, name="add_6")(z)
    shared = bp.Dense(2, "relu", name="loss")
    net = bp.Network([x, z], bp.Dense(2, name="x1")(shared(shared(h)) * h), seed=0, dtype="float64")
    e = bp.explain(net, [[1, 2], [3, 4]], [1, 2], "mse")
    assert len(e.values) == len(net.nodes) + len(net.tensors) + 4  # three sums before an activation, and the loss
    assert e.values["loss:end"] == e.loss
    np.testing.assert_allclose(e.ways("loss:end").gradient, 1)
    assert e.svg().count("<g>") == sum(array.size for name, array in e.values.items() if "." not in name or name.endswith(".z"))


def test_rows_in_any_form():
    sparse = pytest.importorskip("scipy.sparse", reason="scipy is not installed")
    net = bp.mlp([3, 2, 1], seed=0)
    row = [0, 2, -1]
    texts = {str(bp.explain(net, x)) for x in (row, [row], np.array(row), np.array([row], "float32"), sparse.csr_matrix([row]))}
    assert len(texts) == 1
    x = bp.Ids(2, 5, hash=True)
    ids = bp.Network(x, bp.Embedding(5, 2)(x), seed=0)
    np.testing.assert_allclose(bp.explain(ids, [10**9, -3]).values["embedding_0"], ids.predict([[10**9, -3]])[0])


@pytest.mark.parametrize("i", range(30 if cases.LONG else 10))
def test_random_graphs(i):
    random = np.random.default_rng([cases.SEED, i])
    inputs, outputs = graphs.draw(random, 1, "tanh", None)
    net = graphs.spread(bp.Network(inputs, outputs, dtype="float64", seed=i))
    row = graphs.rows_of(net, 1, seed=i)
    e = bp.explain(net, row)
    check_values(net, row, e)
    check_grads(net, e, gradients_of(net, row))
    assert max(map(len, str(e).splitlines())) <= 100


def test_embeddings_of_all_kinds():
    net = graphs.network("embedded", dtype="float64")
    row = graphs.rows_of(net, 1)
    ys = [np.ones((1, output.width)) for output in net.outputs]
    t = bp.Trainer(net, ["mse"] * len(ys), "sgd")
    check_grads(net, bp.explain(t, row, ys), t.loss_and_gradient(net.params, row, ys)[1])


def test_a_neuron_of_lecture_notes():
    x = bp.Input(2)
    net = bp.Network(x, bp.Dense(1, "sigmoid", init=[[2, -3]], bias_init=[-3])(x))
    e = bp.explain(net, [-1, -2])
    assert [round(float(by), 2) for by in (*e.grads["dense_0.weight"][0], *e.grads["dense_0.bias"])] == [-0.2, -0.39, 0.2]


def test_the_net_and_the_trainer_stay_as_they_are(backend):
    net = bp.mlp([2, 3, 1], seed=0, backend=backend)
    t = bp.Trainer(net, "mse")
    t.step([[1, 2]], [1])
    before = t.net.params.tobytes(), t.grads.tobytes(), t.steps, net.text()
    bp.explain(net, [1, 2], 1, "huber")
    bp.explain(t, [1, 2], 1)
    assert (t.net.params.tobytes(), t.grads.tobytes(), t.steps, net.text()) == before
    assert str(bp.explain(t, [1, 2], 1)) == str(bp.explain(net, [1, 2], 1, "mse"))
