"""bp.Scale: a trainable factor and addend of each column; values and gradients by hand, sharing, freezing, updates, bits, files, errors."""

import cases
import numpy as np
import pytest

import microbp as bp

PARTS = {"both": (True, True), "gain": (True, False), "bias": (False, True)}
each_part = pytest.mark.parametrize("part", PARTS)


def net_of(layer, width=3, **options):
    x = bp.Input(width)
    return bp.Network(x, layer(x), **{"dtype": "float64", "seed": 0, **options})


def scaled(part, backend="compiled", **options):
    """A network of one scale, with parameters that differ from the initial ones."""
    net = net_of(bp.Scale(*PARTS[part], name="s", **options), backend=backend)
    net.params[:] += np.arange(len(net.params)) / 8 + 0.5
    return net


def of(net, name, default):
    return net.tensors[f"s.{name}"] if f"s.{name}" in net.tensors else np.full(3, default)


@each_part
def test_values_and_gradients_by_hand(backend, part):
    net, random = scaled(part, backend), np.random.default_rng(cases.SEED)
    x, y, weight = random.normal(size=(9, 3)), random.normal(size=(9, 3)), random.uniform(0.5, 2, 9)
    gain, bias = of(net, "weight", 1.0), of(net, "bias", 0.0)
    np.testing.assert_array_equal(net.predict(x), x * gain + bias)
    t = bp.Trainer(net, "half_sse")
    t.backward(x, y, weight, input_grads=True)
    dy = (x * gain + bias - y) * weight[:, None] / weight.sum()
    expected = {"s.weight": (dy * x).sum(0), "s.bias": dy.sum(0)}
    assert list(net.tensors) == [name for name, there in zip(expected, PARTS[part], strict=True) if there]
    np.testing.assert_allclose(t.grads, np.concatenate([expected[name] for name in net.tensors]), rtol=1e-13, atol=1e-15)
    np.testing.assert_allclose(t.input_grads, dy * gain, rtol=1e-14)
    assert t.check_gradients(x, y, weight).error < 1e-6


def test_it_starts_as_the_identity(backend, dtype):
    net = net_of(bp.Scale(), backend=backend, dtype=dtype)
    x = np.array([[1.5, -0.0, 1e30], [-7, 0.1, 1e-30]], dtype)
    np.testing.assert_array_equal(net.predict(x), x)
    net.params[:] = 3
    net.init(seed=1)
    np.testing.assert_array_equal(net.params, [1, 1, 1, 0, 0, 0])


def test_a_layer_called_twice_shares_its_tensors(backend):
    x, z = bp.Input(2), bp.Input(2)
    layer = bp.Scale(name="s")
    net = bp.Network([x, z], layer(layer(x)) + layer(z), dtype="float64", backend=backend)
    net.tensors["s.weight"][:], net.tensors["s.bias"][:] = [2, 3], [1, -1]
    np.testing.assert_array_equal(net.predict([[[1, 1]], [[10, 10]]]), [[2 * 3 + 1 + 21, 3 * 2 - 1 + 29]])
    assert [(layer.name, layer.kind, layer.parameters, layer.nodes) for layer in net.layers] == [("s", "scale", 4, (2, 3, 4))]
    assert net.text().count("gain=1 bias=1 frozen=0 lr=1") == 1 and "shared" in str(net)


def test_a_frozen_scale_passes_gradients_on_and_does_not_change(backend):
    x = bp.Input(3)
    net = bp.Network(x, bp.Scale(name="s")(bp.Dense(3, name="d")(x)), dtype="float64", seed=0, backend=backend)
    net.tensors["s.weight"][:] = [0, 2, -1]
    net.freeze("s")
    t, before = bp.Trainer(net, "mse", bp.SGD(0.1)), net.params.copy()
    t.step(np.ones((4, 3)), np.zeros((4, 3)))
    twin = net.copy()
    twin.params[:] = before
    moved = {name: (view != twin.tensors[name]).any() for name, view in net.tensors.items()}
    assert moved == {"d.weight": True, "d.bias": True, "s.weight": False, "s.bias": False}
    np.testing.assert_array_equal(net.tensors["d.weight"][0], twin.tensors["d.weight"][0])  # the gain of this unit is 0


@each_part
def test_updates_have_a_rate_of_their_own_and_decay_like_biases(backend, part):
    for decay_bias in (False, True):
        net = scaled(part, backend, lr=6)
        t, before = bp.Trainer(net, "mse", bp.SGD(0.5, weight_decay=0.1, decay_bias=decay_bias)), net.params.copy()
        t.grads[:] = np.linspace(-1, 1, len(t.grads))
        t.apply()
        decay = 0.1 * before if decay_bias else 0
        np.testing.assert_allclose(net.params, before - 0.5 * 6 * (np.linspace(-1, 1, len(before)) + decay), rtol=1e-14, atol=1e-15)
        assert [layer.lr for layer in net.layers] == [6]
    net.set_layer("s", lr=0)
    with pytest.raises(ValueError, match="layer s has no setting"):
        net.set_layer("s", l2=0.1)
    before = net.params.copy()
    t.apply()
    np.testing.assert_array_equal(net.params, before)


@pytest.mark.parametrize("optimizer", ["lamb(lr=0.1)", "sgd(lr=0.1)"])
@each_part
def test_clipping_by_layer_takes_gain_and_bias_together(part, optimizer):
    """Both backends, for layers without a weight too."""
    nets = []
    for backend in ("compiled", "reference"):
        x = bp.Input(4)
        net = bp.Network(x, bp.Scale(*PARTS[part])(bp.Dense(3, "tanh")(bp.Scale(*PARTS[part])(x))), "float64", 0, backend=backend)
        t, random = bp.Trainer(net, "mse", optimizer, clip_layer_norm=0.05, clip_norm=0.08), np.random.default_rng(1)
        for _ in range(3):
            t.step(random.normal(size=(8, 4)), random.normal(size=(8, 3)))
        nets.append(net.params)
    np.testing.assert_allclose(*nets, rtol=1e-12, atol=1e-14)


@each_part
def test_the_same_bits_in_threads_and_variants(dtype, part, monkeypatch):
    results = []
    for isa in cases.FMA_ISAS:
        monkeypatch.setenv("MICROBP_ISA", isa)
        for threads in (1, 3):
            net = net_of(lambda x: bp.Scale(*PARTS[part])(bp.Dense(300, "tanh")(bp.Scale()(x))), 70, dtype=dtype, n_threads=threads)
            t, x = bp.Trainer(net, "mse", bp.SGD(lr=1.0)), np.random.default_rng(0).normal(size=(333, 70))
            results.append([t.step(x, np.ones((333, 300))), t.step(x, np.ones((333, 300))), net.params.tobytes()])
            np.testing.assert_array_equal(net.predict(x)[7], net.predict(x[7]))
    assert all(result == results[0] for result in results)


@each_part
def test_files_copies_and_tables(backend, part, tmp_path):
    net = scaled(part, backend, lr=6)
    net.freeze()
    net.save(tmp_path / "net.safetensors")
    for other in ("compiled", "reference"):
        back = bp.load(tmp_path / "net.safetensors", backend=other)
        assert back.text() == net.text() == net.copy().text() and back._core.write() == net._core.write()
        np.testing.assert_array_equal(back.params, net.params)
        assert (back.layers[0].gain, back.layers[0].bias, back.layers[0].parameters) == (*PARTS[part], 3 * sum(PARTS[part]))
    assert "scale 0 layer=s gain={:d} bias={:d} frozen=1 lr=6\n".format(*PARTS[part]) in net.text()
    assert "frozen, lr 6" in str(net)


def test_a_gradient_that_is_not_finite_is_refused(backend):
    """Only the sum over the rows overflows."""
    for part, name in (("gain", "weight"), ("bias", "bias")):
        net = net_of(bp.Scale(*PARTS[part], name="s"), dtype="float32", backend=backend)
        t, before = bp.Trainer(net, "mae", bp.SGD(lr=0.1), [2e39]), net.params.copy()
        with pytest.raises(FloatingPointError, match=rf"the gradient of layer s \({name}\) is not finite"):
            t.step(np.array([[1.0, 2, 3]] * 100), np.full((100, 3), -10.0))
        np.testing.assert_array_equal(net.params, before)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("scale", "missing"),
        ("scale 0 gain=0 bias=0", "layer scale_1 has neither a gain nor a bias: set gain=1 or bias=1"),
        ("scale 0 gain=no", 'gain must be 0 or 1, not "no"'),
        ("scale 0 bias=2", 'bias must be 0 or 1, not "2"'),
        ("scale 0 frozen=2", 'frozen must be 0 or 1, not "2"'),
        ("scale 0 lr=-1", r"lr must be in \[0,inf\), not -1"),
        ("scale 0 eps=1", 'unknown setting "eps"'),
        ("scale 0 layer=d", "layer d is a dense layer"),
        ("layer_norm 0 layer=s", "layer s is a scale layer"),
        ("scale 0 layer=s bias=1", "layer s already exists: remove bias="),
        ("scale 1 layer=s", "layer s takes 3 columns, but node 1 has 2"),
    ],
)
def test_bad_statements_are_refused(backend, text, words):
    make = type(net_of(bp.Scale(), backend=backend)._core)
    with pytest.raises(ValueError, match=f"line 4: .*{words}"):
        make(f"input 3\ndense 0 layer=d units=2\nscale 0 layer=s\n{text}\noutput 0\n")


def test_bad_arguments_are_refused():
    assert repr(bp.Scale(bias=False, lr=6)) == "Scale(bias=False, lr=6.0)"
    for make, error, message in (
        (lambda: bp.Scale(False, False), ValueError, "Scale: gain and bias are both False, but one of them must be True"),
        (lambda: bp.Scale(gain=1), TypeError, "Scale: gain"),
        (lambda: bp.Scale(bias="no"), TypeError, "Scale: bias"),
        (lambda: bp.Scale(lr=-1), ValueError, r"Scale: lr must be in \[0,inf\), not -1"),
        (lambda: bp.Scale(name="a b"), ValueError, "Scale: name"),
    ):
        with pytest.raises(error, match=message):
            make()
