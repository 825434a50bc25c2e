"""bp.Histograms: counts equal those of np.histogram, whatever the values do from epoch to epoch; memory has a bound."""

from itertools import pairwise

import graphs
import numpy as np
import pytest

import microbp as bp
from microbp.training.layers import histograms
from microbp.training.layers.histograms import Histogram

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 2))
Y = X.prod(axis=1)

VALUES = {
    "growing": [RNG.normal(size=50) * 2.0**k for k in range(12)],
    "shrinking": [RNG.normal(size=50) / 10.0**k for k in range(6)],
    "moving left": [RNG.normal(size=50) - 7 * k for k in range(6)],
    "moving right": [RNG.normal(size=50) + 7 * k for k in range(6)],
    "all the same": [np.zeros(5), np.full(5, 2.0), np.full(5, -1e9)],
    "one large value": [np.arange(5.0), np.array([1e20]), np.arange(5.0)],
    "not finite": [np.array([np.nan, 1, 2, 3.5]), np.array([np.inf, -np.inf]), np.array([1.0])],
    "never finite": [np.full(3, np.nan), np.zeros(0)],
    "float32": [RNG.normal(size=9).astype(np.float32), np.array([3e38, -3e38], np.float32)],
    "largest": [np.array([1.0]), np.array([1.7e308, -1.7e308])],
}


@pytest.mark.parametrize("bins", [2, 10, 50])
@pytest.mark.parametrize("name", VALUES)
def test_counts_are_those_of_numpy(name, bins):
    """No count is lost or moved when bins are joined."""
    histogram = Histogram(bins)
    for values in VALUES[name]:
        histogram.add(values)
    edges = histogram.edges
    assert histogram.counts.shape == (len(VALUES[name]), bins) and edges.shape == (bins + 1,)
    for values, counts in zip(VALUES[name], histogram.counts, strict=True):
        finite = values[np.abs(values.astype(float)) < 1e300].astype(float)
        assert counts.sum() == len(finite)
        near = 1e-9 * (edges[1] - edges[0])  # a value on an edge, up to rounding, may be in either bin
        inside = [((finite >= low - near) & (finite <= high + near)).sum() for low, high in pairwise(edges)]
        assert (counts <= inside).all()
        if len(finite) and not (np.abs(finite[:, None] - edges) <= near).any():
            np.testing.assert_array_equal(counts, np.histogram(finite, edges)[0])


@pytest.mark.parametrize("shape", [*graphs.SHAPES, "embedded"])
def test_every_layer_of_every_graph_is_counted(shape, backend):
    net = graphs.network(shape, backend=backend)
    h = bp.Histograms(net, graphs.rows_of(net, 3), bins=8)
    h.count(0)
    assert list(h.activations) == [layer.name for layer in net.layers] and h.epochs == [0]
    for layer in net.layers:
        values = sum(net.predict(graphs.rows_of(net, 3), at=node).size for node in layer.nodes)
        assert h.activations[layer.name].counts.sum() == values
    tensors = {name.rpartition(".")[0]: view.size for name, view in net.tensors.items() if name.endswith(".weight")}
    assert {name: one.counts.sum() for name, one in h.weights.items()} == tensors


def test_fit_calls_it_after_each_epoch_and_keeps_its_bits(backend):
    plain, counted = (bp.Trainer(bp.mlp([2, 8, 1], seed=0, backend=backend), "mse", seed=1) for _ in range(2))
    h = bp.Histograms(counted.net, X, bins=20, every=2)
    plain.fit(X, Y, epochs=5)
    counted.fit(X, Y, epochs=5, callback=h)
    assert h.epochs == [1, 3, 5] and h.activations["dense_0"].counts.shape == (3, 20)
    np.testing.assert_array_equal(plain.net.params, counted.net.params)
    values = counted.net.predict(X, at="dense_0")
    np.testing.assert_array_equal(h.activations["dense_0"].counts[-1].sum(), values.size)
    edges = h.activations["dense_0"].edges
    assert edges[0] <= values.min() and values.max() <= edges[-1]


def test_memory_has_a_bound(monkeypatch):
    monkeypatch.setattr(histograms, "_MOST", 6)
    t = bp.Trainer(bp.mlp([2, 3, 1], seed=0), "mse")
    h = bp.Histograms(t.net, X, bins=4)
    t.fit(X, Y, epochs=50, callback=h)
    assert h.epochs == [1, 17, 33, 49] and h.every == 16
    assert {one.counts.shape for one in (*h.activations.values(), *h.weights.values())} == {(4, 4)}


def test_a_fit_from_an_earlier_epoch_replaces_the_later_ones():
    t = bp.Trainer(bp.mlp([2, 3, 1], seed=0), "mse")
    h = bp.Histograms(t.net, X)
    h.count(0)
    t.fit(X, Y, epochs=4, callback=h)
    t.reset()
    t.fit(X, Y, epochs=2, callback=h)
    assert h.epochs == [0, 1, 2] and len(h.weights["dense_1"].counts) == 3


def test_positions_beyond_a_length_are_not_counted():
    x = bp.Sequence(4, 2)
    net = bp.Network(x, bp.Dense(1)(bp.Last()(bp.Conv(3, 1, name="conv")(x))), seed=0)
    h = bp.Histograms(net, np.ones((2, 4, 2)), lengths=[1, 3])
    h.count(1)
    assert h.activations["conv"].counts.sum() == (1 + 3) * 3


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"bins": 5}, ValueError, "bins must be an even number"),
        ({"bins": 0}, ValueError, "Histograms: bins"),
        ({"bins": "many"}, TypeError, "Histograms: bins"),
        ({"every": 0}, ValueError, "Histograms: every"),
        ({"X": np.zeros((3, 5))}, ValueError, "2"),
        ({"net": X}, TypeError, "net must be the bp.Network"),
    ],
)
def test_mistakes_are_refused(arguments, error, text):
    with pytest.raises(error, match=text):
        bp.Histograms(**{"net": bp.mlp([2, 3, 1], seed=0), "X": X} | arguments)
