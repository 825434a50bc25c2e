"""Networks in new graphs: the layers of a network, with copies of its values."""

import copy
import pickle
import threading

import graphs
import numpy as np
import pytest

import microbp as bp

OTHER = {"compiled": "reference", "reference": "compiled"}


@pytest.fixture(params=graphs.SHAPES)
def net(request, backend):
    net = graphs.network(request.param, dtype="float64", backend=backend)
    net.buffers[:] = np.random.default_rng(0).uniform(0.5, 2, len(net.buffers))
    for layer in net.layers[:1]:
        net.freeze(layer.name)
    return net


def around(net, prefix="", **options):
    """A network with new inputs whose nodes are those of the net."""
    inputs = [bp.Input(entry.width) for entry in net.inputs]
    found = net(inputs if len(inputs) > 1 else inputs[0], prefix)
    return bp.Network(inputs, found, **{"dtype": net.dtype, "backend": net.backend, "seed": 1} | options)


def test_a_network_of_a_networks_nodes_is_the_same_network(net):
    x = graphs.rows_of(net, 5)
    for other in (around(net), around(around(net)), around(pickle.loads(pickle.dumps(net)))):
        assert other.text() == net.text() and list(other.tensors) == list(net.tensors)
        np.testing.assert_array_equal(other.params, net.params)
        np.testing.assert_array_equal(other.buffers, net.buffers)
        for a, b in zip(*(one if isinstance(one, list) else [one] for one in (other.predict(x), net.predict(x))), strict=True):
            np.testing.assert_array_equal(a, b)
        assert not net.params.size or not np.shares_memory(other.params, net.params)


def test_prefix_dtype_and_backend(net):
    other = around(net, "trunk-", dtype="float32", backend=OTHER[net.backend])
    assert [layer.name for layer in other.layers] == [f"trunk-{layer.name}" for layer in net.layers]
    assert [layer._replace(name="") for layer in other.layers] == [layer._replace(name="") for layer in net.layers]
    np.testing.assert_array_equal(other.params, net.params.astype("float32"))
    np.testing.assert_array_equal(other.buffers, net.buffers.astype("float32"))


def test_files_and_parts_are_trunks_too(net, tmp_path):
    net.save(tmp_path / "net")
    assert around(bp.load(tmp_path / "net", backend=net.backend)).text() == net.text()
    for node in net.nodes:
        part = net.part(outputs=node.node)
        other = around(part)
        assert other.text() == part.text()
        for name, values in part.tensors.items():
            np.testing.assert_array_equal(other.tensors[name], values)


def trunk(backend=None, **options):
    return bp.mlp([4, 6, 3], activation="tanh", seed=0, backend=backend, **{"dtype": "float64"} | options)


def test_a_new_head_on_a_loaded_trunk(backend, tmp_path):
    trunk(backend).save(tmp_path / "trunk")
    loaded = bp.load(tmp_path / "trunk", backend=backend)
    loaded.freeze()
    x = bp.Input(4)
    net = bp.Network(x, bp.Dense(2)(loaded(x)), dtype="float64", seed=3, backend=backend)
    assert [(layer.name, layer.frozen) for layer in net.layers] == [("dense_0", True), ("dense_1", True), ("dense_2", False)]
    t, before = bp.Trainer(net, "mse"), {name: view.copy() for name, view in net.tensors.items()}
    rows = np.random.default_rng(0).normal(size=(8, 4))
    t.step(rows, rows[:, :2])
    assert [name for name, view in net.tensors.items() if not np.array_equal(view, before[name])] == ["dense_2.weight", "dense_2.bias"]
    net.unfreeze()
    t.step(rows, rows[:, :2])
    assert not any(np.array_equal(view, before[name]) for name, view in net.tensors.items())
    for name in loaded.tensors:
        np.testing.assert_array_equal(loaded.tensors[name], before[name])  # the trunk keeps its own


def test_called_twice_it_shares_its_layers(backend):
    net, a, b = trunk(backend), bp.Input(4), bp.Input(4)
    towers = bp.Network([a, b], net(a) * net(b), dtype="float64", backend=backend)
    assert [layer.nodes for layer in towers.layers] == [(2, 4), (3, 5)] and len(towers.params) == len(net.params)
    rows = np.random.default_rng(0).normal(size=(2, 5, 4))
    np.testing.assert_array_equal(towers.predict(list(rows)), net.predict(rows[0]) * net.predict(rows[1]))
    apart = bp.Network([a, b], net(a) * net(b, prefix="b_"), backend=backend)
    assert len(apart.params) == 2 * len(net.params)


def test_settings_and_values_are_those_when_the_network_is_made(backend):
    net, x = trunk(backend), bp.Input(4)
    node = net(x)
    net.params[:] = 0.5
    net.set_layer("dense_0", l2=0.25)
    net.freeze("dense_1")
    other = bp.Network(x, node, dtype="float64", backend=backend)
    net.params[:] = 2
    assert (other.params == 0.5).all() and [(layer.l2, layer.frozen) for layer in other.layers] == [(0.25, False), (0, True)]
    other.init(seed=0)
    np.testing.assert_array_equal(other.params, trunk(backend).params)


def test_initial_values_given_as_arrays_belong_to_the_new_network_too(backend):
    x = bp.Input(2)
    net = bp.Network(x, bp.Dense(2, init=[[1, 2], [3, 4]], bias_init=[5, 6])(x), backend=backend)
    net.params[:] = 0
    other = bp.Network(x, net(x, prefix="p_"), backend=backend)
    assert (other.params == 0).all()
    other.init()
    np.testing.assert_array_equal(other.tensors["p_dense_0.weight"], [[1, 2], [3, 4]])
    np.testing.assert_array_equal(copy.copy(other).tensors["p_dense_0.bias"], [5, 6])


def test_new_layers_get_names_that_no_trunk_has(backend):
    net, x = trunk(backend), bp.Input(4)
    first = bp.Dense(4)(x)  # before the trunk
    other = bp.Network(x, bp.Dense(1)(net(first)), backend=backend)
    assert [layer.name for layer in other.layers] == ["dense_2", "dense_0", "dense_1", "dense_3"]


def test_two_networks_with_equal_names_need_a_prefix(backend):
    x = bp.Input(4)
    actor, critic = trunk(backend), bp.mlp([3, 1], seed=1, dtype="float64", backend=backend)
    with pytest.raises(
        ValueError, match="two different layers have the name 'dense_0'; call the network with a prefix, as in net.x, prefix="
    ):
        bp.Network(x, critic(actor(x)))
    for first in (True, False):  # a layer of the new graph, before and after those of the network
        own, y = bp.Dense(4, name="dense_0"), (lambda node: node) if first else bp.Dense(4, name="dense_0")
        with pytest.raises(ValueError, match="two different layers have the name 'dense_0'; call the network with a prefix"):
            bp.Network(x, y(actor(own(x))) if first else bp.concat([actor(x), y(x)]))
    joint = bp.Network(x, critic(actor(x), prefix="critic_"), dtype="float64", backend=backend)
    assert [layer.name for layer in joint.layers] == ["dense_0", "dense_1", "critic_dense_0"]
    rows = np.ones((2, 4))
    np.testing.assert_array_equal(joint.predict(rows), critic.predict(actor.predict(rows)))


def test_raw_outputs_and_nodes_are_known(backend):
    net, x = trunk(backend), bp.Input(4)
    net.set_output(0, "softmax")
    node = net(x)
    other = bp.Network(x, bp.Dense(1)(node), dtype="float64", backend=backend)
    assert all(output.activation is None for output in other.outputs)
    np.testing.assert_array_equal(other.part(outputs=node).predict(np.ones((1, 4))), net.predict(np.ones((1, 4)), raw=True))
    assert repr(node.layer) == "<layer 'dense_1' of a network>"


def test_a_network_that_another_thread_trains_is_refused(backend):
    net, x = trunk(backend), bp.Input(4)
    node, errors = net(x), []

    def build(*_):
        try:
            bp.Network(x, node)
        except RuntimeError as error:
            errors.append(str(error))

    def other_thread(record):
        thread = threading.Thread(target=build)
        thread.start()
        thread.join()
        build()  # this thread holds the network itself

    bp.Trainer(net, "mse").fit(np.ones((4, 4)), np.ones((4, 3)), epochs=1, callback=other_thread, progress=False)
    assert len(errors) == 1 and "in use by another thread" in errors[0]


@pytest.mark.parametrize(
    ("nodes", "error", "words"),
    [
        (np.ones((2, 4)), TypeError, "a network in a new graph needs a node or a list of nodes, not .*; for predictions, call net.predict"),
        ([3.0], TypeError, "a network in a new graph needs a node such as bp.Input.64., not float"),
        ([bp.Input(4), bp.Input(4)], ValueError, "the network has 1 input, but is called with 2 nodes"),
        (bp.Input(5), ValueError, "input 0 of the network has width 4, but <node .*: input, width 5> has 5"),
    ],
)
def test_wrong_nodes_are_refused(backend, nodes, error, words):
    with pytest.raises(error, match=words):
        trunk(backend)(nodes)


@pytest.mark.parametrize("prefix", [3, None, "a.", "x" * 60])
def test_wrong_prefixes_are_refused(backend, prefix):
    words = f"letters, digits, _ or -, .* at most 63 characters long, not '{prefix}' .before 'dense_0'"
    words = words if isinstance(prefix, str) else f"a string, not {prefix}"
    with pytest.raises((TypeError, ValueError), match=f"prefix must be {words}"):
        trunk(backend)(bp.Input(4), prefix=prefix)
