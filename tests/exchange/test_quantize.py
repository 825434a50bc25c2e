"""Networks in int8: the library has the bits of the reference on every instruction set, errors are small, ranges are safe, and what cannot
be quantized is refused by name."""

from __future__ import annotations

import contextlib
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import microbp as bp
from microbp.core import _core

RNG = np.random.default_rng(0)


def image(*layers, shape=(6, 5, 3)):
    x = bp.Grid(*shape)
    h = x
    for layer in layers:
        h = layer(h)
    return bp.Network(x, bp.Dense(4)(bp.Flatten()(h)), seed=1)


def chain(*layers, columns=7):
    x = bp.Input(columns)
    h = x
    for layer in layers:
        h = layer(h)
    return bp.Network(x, h, seed=2)


def told(net):
    """The same net, with other numbers than those of the start in all tensors."""
    rng = np.random.default_rng(3)
    for name, tensor in net.tensors.items():
        positive = name.endswith(("_var", ".std"))
        tensor[...] += rng.uniform(0.5 if positive else -0.3, 0.9 if positive else 0.3, tensor.shape)
    return net


# Nets with exact activations: the reference has the same bits.
EXACT = {
    "plain": chain(bp.Dense(16, activation="relu"), bp.Dense(3)),
    "one layer": chain(bp.Dense(1), columns=1),
    "odd widths": chain(bp.Dense(65, activation="relu"), bp.Dense(81, activation="leaky_relu"), bp.Dense(33), bp.Dense(2)),
    "panels": chain(bp.Dense(144, activation="abs"), bp.Dense(17, activation="relu"), bp.Dense(64), columns=130),
    "standardize": chain(bp.Standardize(), bp.Dense(16, activation="relu"), bp.Dense(3)),
    "scale": chain(bp.Scale(), bp.Standardize(), bp.Dense(16, activation="relu"), bp.Scale(), bp.Dense(3)),
    "norm": chain(bp.Dense(16), bp.BatchNorm(), bp.Activation("relu"), bp.BatchNorm(), bp.Dense(3)),
    "dropout": chain(bp.Dropout(0.5), bp.Dense(16, activation="relu"), bp.GaussianNoise(1), bp.Dense(3)),
    "conv": image(bp.Conv(5, 3, pad=1, activation="relu"), bp.Pool(2), bp.Conv(4, 2)),
    "stride": image(bp.Conv(8, (2, 3), stride=2, pad=(0, 1), activation="relu"), bp.Conv(3, 2, dilation=(2, 1), pad=1)),
    "mean": image(bp.Conv(17, 1, activation="relu"), bp.Pool((2, 3), stride=1, kind="mean"), bp.BatchNorm(), bp.Conv(3, 2)),
    "channels": image(bp.Standardize(), bp.Conv(4, 3, activation="relu"), bp.Pool(2)),
    "positions": image(bp.Dense(6, activation="relu"), bp.Dense(3)),
}  # fmt: skip
NAMES = list(EXACT)


def quantized(net, rows=60, **options):
    x = np.random.default_rng(4).normal(size=(rows, *net.inputs[0].row_shape)).astype(np.float32)
    return bp.quantize(net, x, **options), x


def by_reference(q):
    return bp.QuantizedNetwork(q.steps, q.output, q.input_shape, q.layers, "reference", 1)


@pytest.mark.parametrize("name", NAMES)
def test_the_library_has_the_bits_of_the_reference(name):
    net = told(EXACT[name])
    q, x = quantized(net)
    some = np.concatenate([x[:7], 3 * x[:2], np.full_like(x[:1], np.nan), np.full_like(x[:1], -np.inf), np.full_like(x[:1], 1e38)])
    assert np.array_equal(q.predict(some), by_reference(q).predict(some), equal_nan=True)
    exact = net.predict(x)
    assert q.predict(x).shape == exact.shape
    assert np.square(q.predict(x) - exact).mean() < 0.05**2 * np.square(exact).mean()


@pytest.mark.parametrize("activation", sorted({name for name, *_ in _core.formulas("activation")}))
def test_every_activation(activation):
    net = told(chain(bp.Dense(20, activation=activation), bp.Dense(3)))
    q, x = quantized(net)
    size = np.sqrt(np.square(net.predict(x)).mean())
    assert np.sqrt(np.square(q.predict(x) - net.predict(x)).mean()) < 0.05 * size
    # A number that the activation rounds differently may be the next whole number.
    assert np.abs(q.predict(x[:5]) - by_reference(q).predict(x[:5])).max() < 0.05 * size


@pytest.mark.parametrize("isa", [isa for isa, runs in _core.isas().items() if runs])
@pytest.mark.parametrize("name", ["odd widths", "panels", "conv", "mean", "norm"])
def test_every_instruction_set_has_the_same_bits(name, isa, monkeypatch):
    """Also any split of rows: whole tiles, what is left of them, one row."""
    q, x = quantized(told(EXACT[name]), rows=101)
    expected = np.concatenate([q.predict(x[i : i + 1]) for i in range(101)])
    monkeypatch.setenv("MICROBP_ISA", isa)
    other = pickle.loads(pickle.dumps(q))
    for rows in (1, 5, 7, 101):
        assert np.array_equal(other.predict(x[:rows]), expected[:rows])


def test_threads_have_the_same_bits():
    q, x = quantized(chain(bp.Dense(256, activation="relu"), bp.Dense(256, activation="tanh"), bp.Dense(10), columns=200), rows=1000)
    expected = q.predict(x).tobytes()
    for n_threads in (1, 2, 5):
        other = bp.QuantizedNetwork(q.steps, q.output, q.input_shape, q.layers, "compiled", n_threads)
        assert other.predict(x).tobytes() == expected
    # Calls of several Python threads, of one network, side by side.
    with ThreadPoolExecutor(4) as pool:
        assert {made.tobytes() for made in pool.map(q.predict, [x] * 12)} == {expected}


def test_predictions_are_those_of_a_network():
    net = chain(bp.Dense(8, activation="tanh"), bp.Dense(3))
    net.set_output(0, "softmax")
    q, x = quantized(net)
    assert np.allclose(q.predict(x).sum(axis=1), 1, atol=1e-6)
    assert np.allclose(q.predict(x), net.predict(x), atol=0.02)
    assert np.allclose(q.predict(x, raw=True), net.predict(x, raw=True), atol=0.05)
    assert q.predict(x[0]).shape == (3,)
    assert q.predict(np.zeros((2, 5, 7))).shape == (2, 5, 3)
    assert q.predict(np.zeros((0, 7))).shape == (0, 3)
    out = np.empty((60, 3), np.float32)
    assert q.predict(x.astype(np.float64), out=out) is out
    assert np.array_equal(out, q.predict(x))
    assert np.array_equal(q.predict(np.asfortranarray(x)[::2]), q.predict(x)[::2])
    with pytest.raises(ValueError, match="X has shape"):
        q.predict(x[:, :3])
    wide = np.zeros((5, 7), np.float32)
    with pytest.raises(ValueError, match="shares memory"):
        q.predict(wide, out=wide[:, :3])


def test_mean_and_std_of_targets():
    net = chain(bp.Dense(8, activation="tanh"), bp.Dense(2))
    net.set_output(0, "identity", mean=[100, 3], std=[10, 0.1])
    q, x = quantized(net)
    raw = q.predict(x, raw=True).astype(np.float64)
    assert np.array_equal(q.predict(x), (raw * [10, 0.1] + [100, 3]).astype(np.float32))
    assert np.array_equal(q.predict(x[:3]), by_reference(q).predict(x[:3]))


def test_round_trips_and_report():
    q, x = quantized(told(EXACT["norm"]))
    other = pickle.loads(pickle.dumps(q))
    assert np.array_equal(other.predict(x), q.predict(x))
    assert other.report == q.report
    assert repr(q) == f"QuantizedNetwork(2 layers, {q.nbytes} bytes)"
    lines = q.report.splitlines()
    assert len(lines) == 3
    assert lines[1].split()[:4] == ["dense_0", "7", "16", "relu"]
    assert all(0 < layer.error < 0.05 for layer in q.layers)
    # The error of the last layer is that of the predictions.
    net = EXACT["norm"]
    error = np.sqrt(np.square(q.predict(x) - net.predict(x)).mean() / np.square(net.predict(x)).mean())
    assert q.layers[-1].error == pytest.approx(error, rel=1e-3)


@pytest.mark.parametrize("method", ["minmax", "percentile", "mse"])
def test_strange_numbers(method):
    net = chain(bp.Dense(9, activation="relu"), bp.Dense(8), bp.Dense(3))
    x = RNG.normal(size=(50, 7)).astype(np.float32)
    for change in (
        lambda: net.tensors["dense_0.weight"].__setitem__(2, 0),  # a dead unit
        lambda: net.tensors["dense_0.bias"].__setitem__(2, 5),
        lambda: net.tensors["dense_1.weight"].__setitem__(..., 0),  # a dead layer
        lambda: net.tensors["dense_1.bias"].__setitem__(..., 1e9),
        lambda: net.tensors["dense_0.weight"].__setitem__(..., 1e-30),
        lambda: net.tensors["dense_2.weight"].__setitem__(..., 1e25),
    ):
        change()
        q = bp.quantize(net, x, method)
        exact = net.predict(x)
        assert np.abs(q.predict(x) - exact).max() <= 0.05 * np.abs(exact).max()
        assert np.array_equal(q.predict(x[:4]), by_reference(q).predict(x[:4]))
    for rows in (np.zeros((1, 7)), np.full((3, 7), 2.5), np.full((3, 7), -1e38), np.full((3, 7), 1e-40), 1e20 * x):
        fresh = chain(bp.Dense(9, activation="relu"), bp.Dense(3))
        q = bp.quantize(fresh, rows, method)
        exact = fresh.predict(rows)
        assert np.abs(q.predict(rows) - exact).max() <= 0.05 * np.abs(exact).max() + 1e-9


def test_outliers():
    """One of 28,000 numbers is far out: the default, which cuts it off, is more exact for the others."""
    net = chain(bp.Dense(32, activation="relu"), bp.Dense(3))
    x = RNG.normal(size=(4000, 7)).astype(np.float32)
    far = x.copy()
    far[0, 0] = 400
    error = {method: np.abs(bp.quantize(net, far, method).predict(x) - net.predict(x)).mean() for method in ("minmax", "percentile", "mse")}
    assert error["percentile"] < 0.3 * error["mse"]
    assert error["mse"] <= error["minmax"]
    assert np.array_equal(bp.quantize(net, far).predict(x), bp.quantize(net, far, "percentile").predict(x))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda x: bp.Dense(2)(bp.Dense(4)(x) * bp.Dense(4)(x)), "node 3, multiply"),
        (lambda x: bp.Dense(2)(x + bp.Dense(7)(x)), "node 2, add"),
        (lambda x: bp.Dense(2)(bp.LayerNorm()(x)), r"layer layer_norm_0 \(node 1, layer_norm\)"),
        (lambda x: bp.Activation("relu")(bp.Scale()(bp.Dense(2)(x))), "node 3, activation"),
        (lambda x: bp.Dense(2)(x)[:, :1], "node 2, slice"),
        (lambda x: bp.Scale()(bp.Dense(2)(x)), "the last node must be a dense layer"),
        (lambda x: x, "the last node must be a dense layer"),
    ],
)
def test_what_has_no_form_is_refused_by_name(make, words):
    x = bp.Input(7)
    with pytest.raises(ValueError, match=words):
        bp.quantize(bp.Network(x, make(x), seed=0), np.zeros((3, 7)))


def test_wrong_arguments():
    net = chain(bp.Dense(2))
    with pytest.raises(TypeError, match=r"quantize: net must be a bp\.Network, not int"):
        bp.quantize(1, np.zeros((3, 7)))
    with pytest.raises(ValueError, match="quantize: method is 'max'; it must be one of 'minmax', 'percentile', 'mse'"):
        bp.quantize(net, np.zeros((3, 7)), "max")
    with pytest.raises(ValueError, match="quantize: X has no rows"):
        bp.quantize(net, np.zeros((0, 7)))
    for wrong in (np.nan, np.inf, 1e300):
        with pytest.raises(ValueError, match="quantize: X contains NaN, or numbers that are not finite in float32"):
            bp.quantize(net, np.full((3, 7), wrong))
    net.tensors["dense_0.weight"][...] = 1e30
    with pytest.raises(ValueError, match=r"the values of layer dense_0 \(node 1, dense\) are NaN or infinite for some rows of X"):
        bp.quantize(net, np.full((3, 7), 1e20))
    net.tensors["dense_0.bias"][1] = np.nan
    with pytest.raises(ValueError, match=r"quantize: bias of layer dense_0 \(node 1, dense\) contains NaN or infinity"):
        bp.quantize(net, np.zeros((3, 7)))
    two, ids = [bp.Input(2), bp.Input(2)], bp.Ids(2, levels=5)
    with pytest.raises(ValueError, match="2 inputs and 1 outputs"):
        bp.quantize(bp.Network(two, bp.Dense(1)(bp.concat(*two))), np.zeros((3, 2)))
    with pytest.raises(ValueError, match="the input is ids"):
        bp.quantize(bp.Network(ids, bp.Dense(1)(bp.Embedding(5, 3)(ids))), np.zeros((3, 2)))


def test_the_net_does_not_change_and_other_dtypes_work():
    net = bp.mlp([7, 8, 2], dtype="float64", seed=0)
    before = net.params.copy()
    q, x = quantized(net)
    assert np.array_equal(before, net.params)
    assert q.predict(x).dtype == np.float32
    reference = bp.mlp([7, 8, 2], seed=0, backend="reference")
    q, x = quantized(reference, rows=8)
    assert q.backend == "reference"
    assert np.allclose(q.predict(x), reference.predict(x), atol=0.05)


def test_advice_names_the_argument_as_it_is_typed():
    with pytest.raises(ValueError, match=r"quantize: X has masked elements: fill them, as in X\.filled\(0\),"):
        bp.quantize(bp.mlp([2, 1], seed=0), np.ma.masked_equal([[1.0, 2.0]], 2.0))


def test_a_file_has_the_same_network(tmp_path):
    x = bp.Grid(6, 6, 2)
    h = bp.Pool(2)(bp.Conv(4, 3, pad=1, activation="leaky_relu(slope=0.2)")(bp.Standardize()(x)))
    net = bp.Network(x, bp.Dense(3)(bp.Flatten()(h)), seed=2)
    net.set_output(0, "identity", mean=[1, 2, 3], std=[4, 5, 6])
    rows = np.random.default_rng(1).normal(size=(20, 6, 6, 2))
    net.standardize(rows)
    q = bp.quantize(net, rows)
    q.save(tmp_path / "q.safetensors")
    loaded = bp.QuantizedNetwork.load(tmp_path / "q.safetensors", n_threads=1)
    assert (loaded.predict(rows) == q.predict(rows)).all()
    assert (loaded.report, loaded.output, loaded.input_shape, loaded.layers) == (q.report, q.output, q.input_shape, q.layers)
    loaded.save(tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == (tmp_path / "q.safetensors").read_bytes()


def test_a_damaged_file_is_refused(tmp_path):
    path = tmp_path / "q.safetensors"
    bp.quantize(bp.mlp([3, 4, 2], seed=0), np.ones((1, 3))).save(path)
    whole, rng = path.read_bytes(), np.random.default_rng(0)
    head = int.from_bytes(whole[:8], "little") + 8
    for _ in range(300):
        changed = bytearray(whole)
        for at in rng.integers(0, head, rng.integers(1, 4)):
            changed[at] = rng.choice(list(b'0123456789[]{}",:-naxz'))
        path.write_bytes(changed[: rng.integers(1, len(whole))] if rng.random() < 0.2 else changed)
        with contextlib.suppress(ValueError):
            bp.QuantizedNetwork.load(path).predict(np.ones((2, 3)))
    bp.mlp([3, 2]).save(path)
    with pytest.raises(ValueError, match=r"has no network in int8, which QuantizedNetwork.save writes; bp\.load reads others"):
        bp.QuantizedNetwork.load(path)
    with pytest.raises(FileNotFoundError):
        bp.QuantizedNetwork.load(tmp_path / "none")
