"""Networks: from graphs to parameters to predictions, for both backends."""

import copy
import pickle

import numpy as np
import pytest

import microbp as bp


@pytest.fixture
def rows():
    return np.random.default_rng(0).normal(size=(7, 4))


def relu(z):
    return np.maximum(z, 0)


def diamond(backend, dtype="float64", seed=3):
    """h = relu(dense_0(x)); out = last(concat(h + dense_1(h), x))."""
    x = bp.Input(4)
    h = bp.Dense(5, activation="relu")(x)
    h = h + bp.Dense(5, activation="tanh")(h)
    return bp.Network(x, bp.Dense(2, name="last")(bp.concat([h, x])), dtype=dtype, seed=seed, backend=backend)


def test_outputs_are_the_formula_of_the_graph(backend, rows):
    net = diamond(backend)
    p = net.tensors
    h = relu(rows @ p["dense_0.weight"].T + p["dense_0.bias"])
    h = h + np.tanh(h @ p["dense_1.weight"].T + p["dense_1.bias"])
    expected = np.concatenate([h, rows], axis=1) @ p["last.weight"].T + p["last.bias"]
    np.testing.assert_allclose(net.predict(rows), expected, rtol=1e-12, atol=1e-14)


def test_notes(backend, tmp_path):
    net, notes = diamond(backend), {"classes": ["élève", 'a "quoted" one\n'], "scale": [1e-300, 0.1], "none": None}
    assert net.notes == {}
    net.notes = notes
    net.save(tmp_path / "net")
    for other in (net, net.copy(), pickle.loads(pickle.dumps(net)), bp.load(tmp_path / "net", backend=backend)):
        assert other.notes == notes
    for wrong, error in ((["list"], TypeError), (None, TypeError), ({"a": {1, 2}}, TypeError), ({"a": float("nan")}, ValueError)):
        with pytest.raises(error, match="notes must be"):
            net.notes = wrong
    for wrong in ({"a": "\ud800"}, {"a": "x" * 2**24}):
        with pytest.raises(ValueError, match="surrogate|notes have"):
            net.notes = wrong
    assert net.notes == notes
    net.notes = {}
    assert net.notes == diamond(backend).notes == {}
    net._core.notes = "[1]"
    with pytest.raises(ValueError, match="not a JSON object"):
        _ = net.notes


def test_a_layer_called_twice_shares_its_weights(backend):
    x, z = bp.Input(3), bp.Input(3)
    layer = bp.Dense(2)
    net = bp.Network([x, z], [layer(x), layer(z)], seed=0, backend=backend)
    assert list(net.tensors) == ["dense_0.weight", "dense_0.bias"]
    a, b = net.predict([np.ones((2, 3)), np.ones((2, 3))])
    np.testing.assert_array_equal(a, b)
    with pytest.raises(ValueError, match="node"):
        net.predict([np.ones((2, 3))] * 2, at="dense_0")
    np.testing.assert_array_equal(net.predict([np.ones((2, 3))] * 2, at=net.layers[0].nodes[0]), a)


def test_a_node_may_be_an_operand_twice(backend):
    x = bp.Input(2)
    net = bp.Network(x, [x + x, x * x, bp.concat([x, x])], backend=backend)
    total, square, joined = net.predict([[2.0, 3.0]])
    assert (total.tolist(), square.tolist(), joined.tolist()) == ([[4, 6]], [[4, 9]], [[2, 3, 2, 3]])


def test_concat_takes_a_list_or_nodes(backend):
    x, z = bp.Input(1), bp.Input(2)
    net = bp.Network([x, z], [bp.concat([x, z]), bp.concat(x, z), bp.concat((x,))], backend=backend)
    assert [out.tolist() for out in net.predict([[[1.0]], [[2.0, 3.0]]])] == [[[1, 2, 3]], [[1, 2, 3]], [[1]]]
    for wrong in ([], 3, None):
        with pytest.raises(TypeError, match=r"concat needs a list of nodes, such as \[a, b\], not"):
            bp.concat(wrong)
    for wrong in ([x, 3], ["x"]):
        with pytest.raises(TypeError, match="concat needs a node such as bp.Input.64., not"):
            bp.concat(wrong)


def test_inputs_have_the_order_in_which_they_are_listed(backend):
    x, z = bp.Input(1), bp.Input(2)
    net = bp.Network([z, x], bp.concat([x, z]), backend=backend)
    assert net.predict([np.array([[1.0, 2.0]]), np.array([[3.0]])]).tolist() == [[3, 1, 2]]
    assert [entry.width for entry in net.inputs] == [2, 1]


def test_leading_axes_are_kept(backend, rows):
    net = diamond(backend)
    flat = net.predict(np.tile(rows, (6, 1)))
    np.testing.assert_array_equal(net.predict(np.tile(rows, (2, 3, 1, 1))), flat.reshape(2, 3, 7, 2))
    np.testing.assert_array_equal(net.predict(rows[0]), flat[0])
    assert net.predict(np.empty((0, 4))).shape == (0, 2)


def test_out_receives_the_outputs_or_is_refused(backend, rows):
    net = diamond(backend)
    wide = np.zeros((7, 5))
    result = net.predict(rows, out=wide[:, 1:3])
    assert result.base is wide
    np.testing.assert_array_equal(wide[:, 1:3], net.predict(rows))
    locked = np.empty((7, 2))
    locked.flags.writeable = False
    for wrong in (np.empty((7, 2), np.float32), np.empty((7, 3)), np.empty((7, 4))[:, ::2], locked, np.asfortranarray(np.empty((7, 2)))):
        with pytest.raises(ValueError, match="out"):
            net.predict(rows, out=wrong)
    square = bp.mlp([4, 4], dtype="float64", backend=backend)
    with pytest.raises(ValueError, match="shares memory"):
        square.predict(rows, out=rows)


def test_several_inputs_and_outputs_need_lists(backend):
    x, z = bp.Input(2), bp.Input(2)
    net = bp.Network([x, z], [x + z, x * z], dtype="float64", backend=backend)
    rows, out = np.ones((3, 2)), [np.empty((3, 2)), np.empty((3, 2))]
    net.predict([rows, rows], out=out)
    np.testing.assert_array_equal(out, [2 * rows, rows])
    for xs, outs, error, words in (
        (rows, None, TypeError, "X must be a list of 2 arrays, one per input, not ndarray"),
        ([rows], None, ValueError, "X must be a list of 2 arrays, one per input, but its length is 1"),
        ([rows, rows[:2]], None, ValueError, r"X\[0\] and X\[1\] must have equal shapes except for the last axis, not \(3, 2\) and"),
        ([rows, rows], 3, TypeError, "out must be a list of 2 arrays, one per output, not int"),
        ([rows, rows], out[:1], ValueError, "out must be a list of 2 arrays, one per output, but its length is 1"),
        ([rows, rows], [out[0], 3], TypeError, r"out\[1\] must be an ndarray, not int"),
    ):
        with pytest.raises(error, match=words):
            net.predict(xs, out=outs)


def test_at_returns_the_values_of_a_layer(backend, rows):
    net = diamond(backend)
    p = net.tensors
    np.testing.assert_allclose(net.predict(rows, at="dense_0"), relu(rows @ p["dense_0.weight"].T + p["dense_0.bias"]), rtol=1e-12)
    with pytest.raises(ValueError, match="dense_0"):
        net.predict(rows, at="dense_9")


def test_params_and_tensors_are_views(backend):
    net = diamond(backend)
    assert len(net.params) == sum(tensor.size for tensor in net.tensors.values()) == sum(layer.parameters for layer in net.layers)
    assert all(np.shares_memory(tensor, net.params) for tensor in net.tensors.values())
    assert net.tensors["last.weight"].shape == (2, 9)
    net.params[:] = 0
    net.tensors["last.bias"][:] = 5
    assert (net.predict(np.ones(4)) == 5).all()
    assert net.params is net.params


def test_equal_seeds_give_equal_parameters(backend):
    net = diamond(backend, seed=1)
    again = diamond(backend, seed=1)
    np.testing.assert_array_equal(net.params, again.params)
    again.init(seed=2)
    assert again.seed == 2
    assert (net.params != again.params).any()
    drawn = bp.mlp([4, 2], backend=backend)
    np.testing.assert_array_equal(drawn.params, bp.mlp([4, 2], seed=drawn.seed, backend=backend).params)


def test_copies_are_equal_and_independent(backend, rows, tmp_path):
    net = diamond(backend)
    net.freeze("dense_1")
    net.save(tmp_path / "net.safetensors")
    loaded = bp.load(tmp_path / "net.safetensors", backend=backend)
    for other in (net.copy(), copy.copy(net), copy.deepcopy(net), pickle.loads(pickle.dumps(net)), loaded):
        assert (other.text(), other.seed, other.dtype, other.backend) == (net.text(), net.seed, net.dtype, backend)
        np.testing.assert_array_equal(other.predict(rows), net.predict(rows))
        assert not np.shares_memory(other.params, net.params)


def test_layers_show_what_is_frozen(backend):
    net = diamond(backend)
    net.freeze("last")
    assert [layer.frozen for layer in net.layers] == [False, False, True]
    net.freeze()
    net.unfreeze("last")
    assert [layer.frozen for layer in net.layers] == [True, True, False]
    net.unfreeze()
    assert not any(layer.frozen for layer in net.layers)
    with pytest.raises(ValueError, match="did you mean 'last'"):
        net.freeze("lost")


def test_print_shows_layers_widths_and_parameters(backend):
    net = diamond(backend)
    net.freeze("dense_0")
    text = str(net)
    for word in (f"{len(net.params)} parameters", "dense_1", "concat", "tanh", "frozen"):
        assert word in text
    assert text.endswith("  output")
    net.set_output(0, activation="softmax")
    assert str(net).endswith("  output (softmax)")


def test_an_output_activation_can_be_set_changed_and_removed(backend, rows, tmp_path):
    net = diamond(backend)
    raw = net.predict(rows)
    softmax = np.exp(raw) / np.exp(raw).sum(axis=1, keepdims=True)
    expected = {"softmax": softmax, "exp": np.exp(raw), "sigmoid": 1 / (1 + np.exp(-raw)), "identity": raw, None: raw}
    for activation, predictions in expected.items():
        net.set_output(0, activation=activation)
        net.save(tmp_path / "net")
        for one in (net, net.copy(), pickle.loads(pickle.dumps(net)), bp.load(tmp_path / "net", backend=backend)):
            assert [output.activation for output in one.outputs] == [activation]
            np.testing.assert_allclose(one.predict(rows), predictions, rtol=1e-13)
            np.testing.assert_array_equal(one.predict(rows, raw=True), raw)


def test_an_output_activation_is_set_by_name(backend):
    x = bp.Input(4)
    net = bp.Network(x, [bp.Dense(3, name="kind")(x), bp.Dense(1, name="price")(x)], backend=backend)
    net.set_output("kind", "softmax")
    net.set_output("price", "identity", mean=5, std=2)
    assert [(output.activation, output.mean) for output in net.outputs] == [("softmax", None), ("identity", (5.0,))]
    with pytest.raises(ValueError, match="unknown output in set_output: 'prize'; did you mean 'price'"):
        net.set_output("prize", "exp")
    with pytest.raises(ValueError, match="same node is listed twice in outputs; .* for two losses of it, list also bp.Activation"):
        bp.Network(x, [x, x])


def test_a_refused_output_activation_changes_nothing(backend):
    net = diamond(backend)
    net.set_output(0, activation="exp")
    for i, activation, words in ((0, "softmx", "did you mean 'softmax'"), (0, "relu", "output activation"), (1, "exp", "output 1")):
        with pytest.raises(ValueError, match=words):
            net.set_output(i, activation=activation)
    for i, activation in ((-1, None), (1, "softmax"), (0, "relu")):
        with pytest.raises(ValueError, match="output"):
            net._core.set_output(i, activation)
    with pytest.raises(TypeError):
        net.set_output(0.0, activation="softmax")
    assert [output.activation for output in net.outputs] == ["exp"]


def test_raw_outputs_are_taken_before_activations(backend, rows):
    """One output is an operand of another, and both have an activation."""
    x = bp.Input(4)
    below = bp.Dense(3, "tanh")(x)
    net = bp.Network(x, [below, bp.Dense(2)(below), bp.Activation("identity")(below)], dtype="float64", seed=1, backend=backend)
    raw = net.predict(rows)
    for i in range(3):
        net.set_output(i, activation="exp")
    for got, o in zip(net.predict(rows), raw, strict=True):
        np.testing.assert_allclose(got, np.exp(o), rtol=1e-13)
    for got, o in zip(net.predict(rows, raw=True), raw, strict=True):
        np.testing.assert_array_equal(got, o)
    for at_raw in (False, True):
        np.testing.assert_array_equal(net.predict(rows, raw=at_raw, at=net.outputs[0].node), raw[0])


def test_parameters_of_an_activation_are_exact(backend):
    x = bp.Input(1)
    for slope in (0.2, 1 / 3, 1e-300, 2):
        net = bp.Network(x, bp.Activation("leaky_relu", slope=slope)(x), dtype="float64", backend=backend)
        assert net.predict([-1.0]) == -slope


def unused():
    x, z = bp.Input(2), bp.Input(2)
    return [x, z], bp.Dense(1)(x)


def unlisted():
    x, z = bp.Input(2), bp.Input(2)
    return x, x + z


def same_name():
    x = bp.Input(2)
    return x, bp.Dense(2, name="a")(bp.Dense(2, name="a")(x))


def two_widths():
    x = bp.Input(2)
    layer = bp.Dense(3)
    return x, layer(layer(x))


def wrong_array():
    x = bp.Input(2)
    return x, bp.Dense(3, init=np.zeros((3, 5)))(x)


@pytest.mark.parametrize(
    ("graph", "words"),
    [
        (unused, "not connected"),
        (unlisted, "not listed"),
        (same_name, "two different layers"),
        (two_widths, "'dense_0' is first used on a node of width 2, then on one of width 3"),
        (wrong_array, r"layer 'dense_0': init must have shape \(3, 2\), not \(3, 5\)"),
    ],
)
def test_an_invalid_graph_is_refused(backend, graph, words):
    inputs, outputs = graph()
    with pytest.raises(ValueError, match=words):
        bp.Network(inputs, outputs, backend=backend)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: bp.Dense(3, activation="rleu"), "did you mean 'relu'"),
        (lambda: bp.Dense(3, activation="softmax"), "cross_entropy"),
        (lambda: bp.Dense(3, init="he"), "he_normal"),
        (lambda: bp.Dense(3, init="array"), "init=weights"),
        (lambda: bp.Dense(0), "at least 1"),
        (lambda: bp.Dense(1, name="a.b"), "letters"),
        (lambda: bp.Activation("elu", alpha=-1), r"\[0,inf\)"),
        (lambda: bp.Activation("elu", slope=1), "alpha"),
        (lambda: bp.Input(2) + bp.Input(3), "2 and 3"),
        (lambda: bp.mlp([3]), "widths"),
        (lambda: bp.mlp([3, 1], dtype="float16"), "float32"),
        (lambda: bp.mlp([3, 1], seed=-1), "seed"),
        (lambda: bp.mlp([3, 1], backend="gpu"), "reference"),
    ],
)
def test_wrong_values_are_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: bp.mlp(3), r"mlp: widths must be a list such as \[64, 128, 10\], not 3"),
        (lambda: bp.mlp("4-8-2"), r"mlp: widths must be a list such as \[64, 128, 10\], not '4-8-2'"),
        (lambda: bp.mlp([4, 8.5, 2]), r"mlp: widths\[1\] must be a whole number, not 8\.5"),
        (lambda: bp.mlp([4, 2], bp.Activation), r"not the class Activation \(add parentheses: bp\.Activation"),
        (lambda: bp.Dense(3, activation=3), "^activation must be a name or a bp.Activation, not 3"),
        (lambda: bp.Activation(3), "^activation must be a name or a bp.Activation, not 3"),
        (lambda: bp.Init(3), "^initializer must be a name or a bp.Init, not 3"),
        (lambda: bp.Dense(3)(np.ones(3)), r"^Dense needs a node such as bp.Input\(64\), not ndarray"),
        (lambda: bp.add(bp.Input(1), 3), r"^add needs a node such as bp.Input\(64\), not int"),
        (lambda: bp.Network(bp.Input(2), "y"), "^Network: outputs must be a node or a list of nodes, not 'y'"),
        (lambda: bp.Network(bp.Input(2), ["y"]), r"^Network: outputs\[0\] is 'y', not a node"),
        (lambda: bp.Network("x", bp.Input(2)), "^Network: inputs must be a node or a list of nodes, not 'x'"),
        (lambda: bp.Network(["x"], bp.Input(2)), r"^Network: inputs\[0\] is 'x', not a bp.Input"),
        (lambda: bp.mlp([2, 1]).save(3), r"^path must be a str or os\.PathLike, not int"),
        (lambda: bp.mlp([2, 1]).load_tensors(3), r"^path must be a str or os\.PathLike, not int"),
        (lambda: bp.load(None), r"^path must be a str or os\.PathLike, not NoneType"),
    ],
)
def test_values_of_wrong_types_are_refused(make, words):
    with pytest.raises(TypeError, match=words):
        make()


def test_mlp_checks_an_activation_that_no_layer_uses():
    with pytest.raises(ValueError, match="softmax is not a layer activation"):
        bp.mlp([4, 3], activation="softmax")


@pytest.mark.parametrize("stride", [0, 4, -4])
def test_rows_of_out_do_not_share_memory(backend, stride):
    net = bp.mlp([3, 2], backend=backend, seed=0)
    out = np.lib.stride_tricks.as_strided(np.zeros(20, np.float32)[8:], (6, 2), (stride, 4))
    with pytest.raises(ValueError, match=r"out has rows that share memory .*; pass an array such as np\.empty\(\(6, 2\), 'float32'\)"):
        net.predict(np.ones((6, 3)), out=out)
    assert not out.any()
