"""How the initial weights and biases of dense layers are chosen, drawn, written and read."""

import pickle
import re

import cases
import numpy as np
import pytest

import microbp as bp
from microbp.core import backend as backends


def dense(backend="compiled", inputs=40, seed=3, dtype="float64", **settings):
    """A network of one dense layer with 30 units."""
    x = bp.Input(inputs)
    return bp.Network(x, bp.Dense(30, name="a", **settings)(x), dtype=dtype, seed=seed, backend=backend)


def rules(net):
    return [(layer.init, layer.bias_init) for layer in net.layers]


@pytest.mark.parametrize("activation", cases.ACTIVATIONS)
def test_auto_chooses_by_the_activation(backend, activation):
    init, bias_init = cases.AUTO_INITIALIZERS[activation]
    auto = dense(backend, activation=activation)
    assert rules(auto) == [(init, bias_init)]
    named = dense(backend, activation=activation, init=init, bias_init=bias_init)
    assert auto.params.tobytes() == named.params.tobytes()
    assert auto.tensors["a.bias"].any() == (bias_init != "zeros")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"init": "he_normal"}, ("he_normal", "zeros")),  # whoever chooses the weights gets zeros as biases
        ({"init": "he_normal", "bias_init": "auto"}, ("he_normal", "zeros")),
        ({"init": np.ones((30, 40))}, ("array", "zeros")),
        ({"init": "he_normal", "bias_init": "he_normal"}, ("he_normal", "he_normal")),
        ({"activation": "relu", "bias_init": "zeros"}, (cases.AUTO_INITIALIZERS["relu"][0], "zeros")),
        ({"init": "zeros", "bias_init": bp.Init("normal", std=0.25)}, ("zeros", "normal(std=0.25)")),
        ({"init": "zeros", "bias_init": np.ones(30)}, ("zeros", "array")),
        ({"activation": "relu", "bias": False}, (cases.AUTO_INITIALIZERS["relu"][0], "")),
    ],
)
def test_rules_survive_text_and_file(backend, given, expected):
    net = dense(backend, **given)
    assert rules(net) == [expected]
    assert (" bias_init=" in net.text()) == (expected[1] not in ("zeros", ""))  # texts without it mean what they did before it was there
    for again in (backends.load(backend).Net(net.text(), "float64", net.seed), backends.load(backend).Net.read(net._core.write())):
        assert again.text() == net.text()
        again.init(5)
        net.init(seed=5)
        if "array" not in expected:
            assert bytes(again.params) == net.params.tobytes()


@pytest.mark.parametrize("name", [name for name in cases.INITIALIZERS if name != "array"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_weights_do_not_depend_on_bias_init(name, dtype):
    spec, _ = cases.INITIALIZERS[name]
    nets = [dense(backend, dtype=dtype, init="normal", bias_init=spec) for backend in ("compiled", "reference")]
    assert nets[0].params.tobytes() == nets[1].params.tobytes()
    weight, bias = nets[0].tensors["a.weight"], nets[0].tensors["a.bias"]
    np.testing.assert_array_equal(weight, dense(dtype=dtype, init="normal").tensors["a.weight"])
    assert not np.signbit(bias).any() if name == "zeros" else len(set(bias.tolist())) == len(bias)


def test_biases_have_random_numbers_of_their_own():
    """Weights and biases of one distribution have no number in common, nor have the biases of two layers."""
    x = bp.Input(1)
    net = bp.Network(x, bp.Dense(500, init="normal", bias_init="normal")(bp.Dense(500, init="normal", bias_init="normal")(x)), "float64", 1)
    drawn = [net.tensors[name].ravel().tolist() for name in ("dense_0.weight", "dense_0.bias", "dense_1.bias")]
    assert len({number for numbers in drawn for number in numbers}) == 1500
    before = net.params.copy()
    net.init(seed=2)
    assert (net.params != before).all()


def test_arrays_are_the_initial_values_and_init_restores_them(backend):
    weight, bias = np.arange(120.0).reshape(30, 4), np.arange(30.0)
    for given in ({"init": weight, "bias_init": bias}, {"bias_init": bias.tolist()}, {"init": weight}):
        net = dense(backend, inputs=4, **given)
        assert len(np.unique(net.params)) >= 30
        net.params[:] = 99
        for one in (net, net.copy(), pickle.loads(pickle.dumps(net))):
            one.init(seed=1)
            np.testing.assert_array_equal(one.tensors["a.bias"], bias if "bias_init" in given else 0)
            assert (one.tensors["a.weight"] == weight).all() == ("init" in given)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: bp.Dense(2, bias=False, bias_init="zeros"), "^Dense: bias is False, so bias_init has no effect: leave bias_init out"),
        (lambda: bp.Dense(2, bias=False, bias_init=[0, 0]), "^Dense: bias is False, so bias_init has no effect"),
        (
            lambda: bp.Dense(2, bias=False, bias_lr=1),
            "^Dense: bias is False, so bias_lr has no effect: leave bias_lr out, or set bias=True$",
        ),
        (lambda: bp.mlp([3, 2], bias=False, bias_init="zeros"), "bias is False"),
        (lambda: bp.Dense(2, bias_init="zero"), "did you mean 'zeros'"),
        (lambda: bp.Dense(2, bias_init=[1, 2, 3]), r"^Dense: bias_init must have shape \(2,\), not \(3,\)$"),
        (lambda: bp.Dense(2, bias_init=[[1, 2]]), r"^Dense: bias_init must have shape \(2,\), not \(1, 2\)$"),
        (lambda: bp.Dense(2, init=[1, 2]), r"^Dense: init must have shape \(2, inputs\), not \(2,\)$"),
    ],
)
def test_wrong_values_are_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("bias=0 bias_init=zeros", "graph line 2: layer dense_0 has no bias: remove bias_init=, or set bias=1"),
        ("bias_lr=1 bias=0", "graph line 2: layer dense_0 has no bias: remove bias_lr=, or set bias=1"),
        ("bias_init=zero", 'graph line 2: unknown initializer "zero"; did you mean "zeros"?'),
        ("bias_init=normal(std=-1)", "graph line 2: std must be in [0,inf), not -1"),
    ],
)
def test_wrong_graph_texts_are_refused(backend, line, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        backends.load(backend).Net(f"input 2\ndense 0 units=2 {line}\noutput 1\n")
    backends.load(backend).Net("input 2\ndense 0 units=2 bias=0 bias_init=auto\noutput 1\n")


def test_a_layer_without_bias_has_no_bias_lr(backend):
    x = bp.Input(2)
    net = bp.Network(x, bp.Dense(2, name="with")(bp.Dense(2, bias=False, name="none")(x)), backend=backend)
    with pytest.raises(ValueError, match="^layer none has no bias, so bias_lr cannot be set$"):
        net.set_layer("none", bias_lr=2)
    net.set_layer(bias_lr=2)
    assert [layer.bias_lr for layer in net.layers] == [None, 2]
    with pytest.raises(ValueError, match="^no dense layer has a bias, so bias_lr cannot be set$"):
        dense(backend, bias=False).set_layer(bias_lr=2)
