"""Dropout and noise: their random numbers, which depend only on seed, step, node, row and column, and when they are used."""

import copy

import cases
import numpy as np
import pytest
from graphs import rows_of

import microbp as bp
from microbp.core import _core
from microbp.reference.random import Place, matrix_draws

ROWS, WIDTH, RATE, STD = 64, 500, 0.3, 0.7
N = ROWS * WIDTH
LAYERS = {"dropout": bp.Dropout(RATE), "noise": bp.GaussianNoise(STD)}
each_layer = pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS)
# layer -> (mean, variance) of its outputs for inputs of 1
MOMENTS = {
    "dropout": (1.0, RATE / (1 - RATE)),
    "noise": (1.0, STD**2),
}


def layered(layer, width=WIDTH, twice=False, **options):
    """A network of the layer alone; twice: the layer is called two times, and the results are concatenated."""
    x = bp.Input(width)
    return bp.Network(x, bp.concat([layer(x), layer(x)]) if twice else layer(x), **{"seed": 3, **options})


def in_training(net, x, seed=5, steps=0):
    """The outputs of a training pass."""
    seen = []

    def loss(outputs, targets, weight):
        seen.append(outputs.copy())
        return 0.0, np.zeros_like(outputs)

    t = bp.Trainer(net, loss, seed=seed)
    t.steps = steps
    t.backward(x, np.zeros((len(x), net.outputs[0].width)))
    return seen[0]


# ---- random numbers ----


@pytest.mark.parametrize("kind", LAYERS)
def test_mean_and_variance(backend, dtype, kind):
    y = in_training(layered(LAYERS[kind], dtype=dtype, backend=backend), np.ones((ROWS, WIDTH)))
    mean, variance = MOMENTS[kind]
    squares = (y.astype(float) - mean) ** 2
    assert abs(y.mean() - mean) < 5 * np.sqrt(variance / N)
    assert abs(squares.mean() - variance) < 5 * squares.std() / np.sqrt(N)
    if kind == "dropout":
        assert set(np.unique(y)) == {0, np.dtype(dtype).type(1 / (1 - RATE))}


@each_layer
def test_nodes_steps_seeds_rows_and_columns_are_independent(layer):
    net, x = layered(layer, twice=True), np.ones((ROWS, WIDTH))
    both = in_training(net, x) - 1.0
    first, second = both[:, :WIDTH], both[:, WIDTH:]
    others = {
        "node": second,
        "step": in_training(net, x, steps=1)[:, :WIDTH] - 1,
        "far step": in_training(net, x, steps=2**32)[:, :WIDTH] - 1,
        "seed": in_training(net, x, seed=6)[:, :WIDTH] - 1,
        "high seed": in_training(net, x, seed=5 + 2**32)[:, :WIDTH] - 1,
        "row": np.roll(first, 1, axis=0),
        "column": np.roll(first, 1, axis=1),
        "two columns": np.roll(first, 2, axis=1),
        "four columns": np.roll(first, 4, axis=1),
    }
    for what, other in others.items():
        assert abs((first * other).mean()) < 5 * first.var() / np.sqrt(N), what


@pytest.mark.parametrize("width", [1, 2, 3, 4, 5, 23, 24, 25, 47, 48, 49, 95, 96, 97, 200])
@each_layer
def test_random_numbers_equal_the_reference(isa, dtype, layer, width):
    x, place = np.zeros((3, width)), Place(5, 2**33 + 7, 0)
    net = layered(layer, width, dtype=dtype)
    if layer is LAYERS["noise"]:
        drawn = np.reshape(matrix_draws(place, 4, 1, 3, width, True, dtype), (3, width))
        expected = (STD * drawn).astype(dtype)
    else:
        x += 1
        drawn = np.reshape(matrix_draws(place, 3, 1, 3, width, False, dtype), (3, width))
        expected = ((drawn >= RATE) / (1 - RATE)).astype(dtype)
    np.testing.assert_array_equal(in_training(net, x, steps=place.step), expected)


def test_dropped_elements_are_zero_even_if_they_were_not_finite(backend):
    x = np.full((ROWS, WIDTH), np.inf)
    x[:, ::2] = np.nan
    y = in_training(layered(bp.Dropout(0.5), backend=backend), x)
    assert 0.4 < (y == 0).mean() < 0.6 and 0.4 < (~np.isfinite(y)).mean() < 0.6


@pytest.mark.parametrize("rate", [0.0, 1 - 2.0**-24, 1 - 2.0**-30])
def test_dropout_rates_of_0_and_almost_1(backend, dtype, rate):
    y = in_training(layered(bp.Dropout(rate), dtype=dtype, backend=backend), np.ones((ROWS, WIDTH)))
    assert (y == (1 if rate == 0 else 0)).all()


# ---- when they are used ----


def net_of(kind, **options):
    x = bp.Input(5)
    h = LAYERS[kind](bp.Dense(33, "tanh")(LAYERS[kind](x)))
    return bp.Network(x, bp.Dense(2)(LAYERS[kind](h)), **{"seed": 1, **options})


@pytest.mark.parametrize("kind", LAYERS)
def test_predict_and_evaluate_ignore_dropout_and_noise(backend, dtype, kind):
    net = net_of(kind, dtype=dtype, backend=backend)
    x = bp.Input(5)
    plain = bp.Network(x, bp.Dense(2)(bp.Dense(33, "tanh")(x)), seed=1, dtype=dtype, backend=backend)
    rows, y = rows_of(net, 20), np.ones((20, 2))
    plain.params[:] = net.params
    np.testing.assert_array_equal(net.predict(rows), plain.predict(rows))
    np.testing.assert_array_equal(net.predict(rows, at=1), rows)
    np.testing.assert_array_equal(net.predict(rows, at=3), plain.predict(rows, at="dense_0"))
    evaluated = [bp.Trainer(n, "mse") for n in (net, plain)]
    assert evaluated[0].evaluate(rows, y) == evaluated[1].evaluate(rows, y)
    out = np.full((20, 7), np.nan, dtype)
    net.predict(rows, out=out[:, 2:4])
    np.testing.assert_array_equal(out[:, 2:4], plain.predict(rows))
    assert np.isnan(np.delete(out, [2, 3], axis=1)).all()


@each_layer
def test_dropout_and_noise_may_be_the_first_and_the_last_layer(backend, layer):
    net, x = layered(layer, 4, twice=True, backend=backend), np.arange(12.0).reshape(3, 4)
    np.testing.assert_array_equal(net.predict(x), np.hstack([x, x]))
    np.testing.assert_array_equal(layered(layer, 4, backend=backend).predict(x), x)


@pytest.mark.parametrize("kind", LAYERS)
def test_the_same_bits_in_parts_threads_variants_and_epochs(dtype, kind, monkeypatch):
    x, y = np.random.default_rng(0).normal(size=(150, 5)), np.ones((150, 2))

    def trainer(**options):
        return bp.Trainer(net_of(kind, dtype=dtype, **options), "mse", bp.SGD(lr=0.1), seed=9)

    results = []
    for isa in cases.FMA_ISAS:
        monkeypatch.setenv("MICROBP_ISA", isa)
        for threads in (1, 3):
            t = trainer(n_threads=threads)
            results.append([t.step(x, y), t.step(x, y), t.net.params.tobytes()])
    assert all(result == results[0] for result in results)
    epoch = trainer()
    next(epoch.epochs(x, y, batch_size=150, order=np.arange(150)))
    next(epoch.epochs(x, y, batch_size=150, order=np.arange(150)))
    assert epoch.net.params.tobytes() == results[0][2]
    parts, whole = trainer(), trainer()
    whole.backward(x, y)
    for first in range(0, 150, 32):
        parts.backward(x[first : first + 32], y[first : first + 32], accumulate=first > 0, total=150, first_row=first)
    # Tolerance: sums of 150 terms in another order.
    assert abs(parts.grads - whole.grads).max() <= 150 * cases.EPS[dtype] * abs(whole.grads).max()


def test_a_layer_has_the_same_bits_in_several_threads():
    """The layer itself is large enough for several threads."""
    results = [
        in_training(layered(layer, 3000, n_threads=threads), np.ones((300, 3000))) for layer in LAYERS.values() for threads in (1, 4)
    ]
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[2], results[3])


def test_backward_from_uses_the_mask_of_the_forward_pass(backend):
    """It uses this mask also if the number of steps changes between forward and backward_from; an update there is refused."""
    net = layered(bp.Dropout(0.5), 50, backend=backend)
    core = bp.Trainer(net, lambda o, t, w: (0.0, o), seed=2)._engine._core
    x = np.ones((4, 50), "float32")
    output = np.array(core.forward(x)[0])
    core.steps = 7
    core.backward_from([np.ones((4, 50), "float32")], False, True)
    np.testing.assert_array_equal(np.asarray(core.input_grads()[0]), output)
    core.forward(x)
    core.apply()
    with pytest.raises(ValueError, match="the parameters were changed after forward: call forward again"):
        core.backward_from([np.ones((4, 50), "float32")], False, True)


def test_masks_depend_on_seed_and_steps(backend):
    def losses(seed, steps=0):
        t = bp.Trainer(net_of("dropout", backend=backend), "mse", seed=seed)
        t.steps = steps
        return t.backward(np.ones((4, 5)), np.ones((4, 2)))

    assert losses(1) == losses(None) == losses(1)  # the net's seed is 1
    assert len({losses(1), losses(2), losses(1, 1), losses(1, 2)}) == 4
    t = bp.Trainer(net_of("dropout", backend=backend), "mse", seed=4)
    t.step(np.ones((4, 5)), np.ones((4, 2)))
    twin = copy.deepcopy(t)
    assert twin.step(np.ones((4, 5)), np.ones((4, 2))) == t.step(np.ones((4, 5)), np.ones((4, 2)))


def test_custom_losses_train_with_masks(backend):
    named = bp.Trainer(net_of("dropout", dtype="float64", backend=backend), "mse", bp.SGD(0.1))
    own = bp.Trainer(net_of("dropout", dtype="float64", backend=backend), cases.own_mse, bp.SGD(0.1))
    x, y = np.ones((6, 5)), np.zeros((6, 2))
    for _ in range(3):
        assert own.step(x, y) == pytest.approx(named.step(x, y), rel=1e-12)
    np.testing.assert_allclose(own.net.params, named.net.params, rtol=1e-12)


# ---- text, files, pickles ----


def test_text_file_and_pickle_keep_dropout_and_noise(backend, tmp_path):
    net = net_of("dropout", backend=backend)
    x = bp.Input(3)
    both = bp.Network(x, bp.GaussianNoise(1e-3)(bp.Dropout(1 / 3)(x)), backend=backend, seed=0)
    assert "dropout 0 rate=0x15555555555555p-54\nnoise 1 std=0.001\n" in both.text()
    assert both.text() == type(both._core)(both.text()).text()
    net.save(tmp_path / "net.safetensors")
    assert bp.load(tmp_path / "net.safetensors", backend).text() == net.copy().text() == net.text()
    assert "rate=0.3" in repr(net)


def test_mlp_has_dropout_after_each_hidden_activation():
    lines = bp.mlp([3, 4, 5, 2], dropout=0.2).text().splitlines()
    assert [line.split()[0] for line in lines] == ["input", "dense", "dropout", "dense", "dropout", "dense", "output"]


@pytest.mark.parametrize("text", ["dropout 0", "dropout 0 rate=0.5", "noise 0", "noise 0 std=0.1"])
def test_defaults(backend, text):
    net = layered(bp.Dropout(), 2, backend=backend)
    made = type(net._core)(f"input 2\n{text}\noutput 1\n").text()
    assert made.splitlines()[1] == ("dropout 0 rate=0.5" if "drop" in text else "noise 0 std=0.1")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("dropout", ""),
        ("dropout 1", "earlier node|no node 1"),
        ("dropout 0 rate=1", r"rate must be in \[0,1\), not 1"),
        ("dropout 0 rate=-0.1", r"rate must be in \[0,1\), not -0.1"),
        ("dropout 0 rate=nan", "rate must be a number"),
        ("dropout 0 rate", ""),
        ("dropout 0 0.5", ""),
        ("dropout 0 rate=0.1 rate=0.1", "twice"),
        ("dropout 0 std=0.1", "std"),
        ("dropout 0 0", ""),
        ("noise 0 std=inf", r"std must be in \[0,inf\), not inf|std must be a number"),
        ("noise 0 std=-1", r"std must be in \[0,inf\), not -1"),
    ],
)
def test_bad_statements_are_refused(backend, text, words):
    net = layered(bp.Dropout(), 2, backend=backend)
    with pytest.raises(ValueError, match=f"line 2: .*({words})"):
        type(net._core)(f"input 2\n{text}\noutput 0\n")


def test_bad_settings_are_refused():
    for bad in (1, -0.1, float("nan"), 1.5):
        with pytest.raises(ValueError, match=r"Dropout: rate must be in \[0,1\)"):
            bp.Dropout(bad)
    for bad in (-1, float("inf"), float("nan")):
        with pytest.raises(ValueError, match=r"GaussianNoise: std must be in \[0,inf\)"):
            bp.GaussianNoise(bad)
    with pytest.raises(TypeError, match="Dropout: rate must be a number"):
        bp.Dropout("half")
    with pytest.raises(TypeError, match="Dropout needs a node"):
        bp.Dropout(0.5)(3)
    t = bp.Trainer(net_of("dropout"), "mse")
    for first_row in (-1, -(2**40)):
        with pytest.raises(ValueError, match="first_row"):
            t.backward(np.ones((4, 5)), np.ones((4, 2)), first_row=first_row)
    with pytest.raises(OverflowError):
        _core.Trainer(t.net._core, ["mse"], [1.0], "sgd", -1)


ALIASES = {
    "dropout": bp.Dropout(0.5),
    "noise": bp.GaussianNoise(0.5),
    "both": lambda node: bp.GaussianNoise(0.5)(bp.Dropout(0.5)(node)),
    "dropout of an identity": lambda node: bp.Dropout(0.5)(bp.Activation("identity")(node)),
}


@pytest.mark.parametrize("order", [(0, 1), (1, 0), (0, 1, 2), (2, 1, 0)])
@pytest.mark.parametrize("alias", ALIASES)
def test_an_output_that_is_the_operand_of_another_is_activated_once(alias, order, backend):
    """In inference, dropout and noise have the values of their operands. Each output has its own activation."""
    x = bp.Input(4)
    h = bp.Dense(3)(x)
    nodes = [h, ALIASES[alias](h), ALIASES[alias](ALIASES[alias](h))]
    net = bp.Network(x, [nodes[i] for i in order], seed=1, dtype="float64", backend=backend)
    rows = np.random.default_rng(0).normal(size=(5, 4))
    t = bp.Trainer(net, ["cross_entropy"] * len(order))
    raw, labels = net.predict(rows, raw=True), np.arange(5) % 3
    softmax = np.exp(raw[0]) / np.exp(raw[0]).sum(axis=1, keepdims=True)
    for outputs in (net.predict(rows), t.predict(rows)):
        for output in outputs:
            np.testing.assert_allclose(output, softmax, rtol=1e-13)
    for output in raw:
        np.testing.assert_array_equal(output, raw[0])
    loss = -np.log(softmax[np.arange(5), labels]).mean()
    assert t.evaluate(rows, [labels] * len(order)) == pytest.approx(len(order) * loss, rel=1e-12)
    net.set_output(0, "exp")
    np.testing.assert_allclose(net.predict(rows)[0], np.exp(raw[0]), rtol=1e-13)
    np.testing.assert_allclose(net.predict(rows)[1], softmax, rtol=1e-13)
