"""Sequences of ids: the columns of an embedding as positions, and tables at every position."""

import copy
import pickle

import numpy as np
import pytest

import microbp as bp
from microbp.core.specs import OptimizerSpec

LENGTH, LEVELS, UNITS = 7, 11, 4


def sentences(dtype="float64", backend="compiled", combine="concat", **options):
    """Ids as a sequence of vectors, and the same table at each position of plain numbers."""
    words, bags = bp.Ids(LENGTH, LEVELS), bp.Sequence(LENGTH, LEVELS)
    table = bp.Embedding(LEVELS, UNITS, combine=combine, name="word")
    of_words = bp.Unflatten(LENGTH)(table(words)) if combine == "concat" else bp.Repeat(LENGTH)(table(words))
    h = bp.Conv(5, 3, pad="same", activation="tanh")(of_words + bp.Scale()(table(bags)))
    outputs = [bp.Dense(2)(bp.Flatten()(bp.Pool(3, stride=2)(h))), table(words), bp.Dense(3)(of_words)]
    return bp.Network([words, bags], outputs, dtype=dtype, seed=5, backend=backend, **options)


def data(rows, seed=0):
    random = np.random.default_rng(seed)
    shapes = (rows, 2), (rows, LENGTH * UNITS), (rows, LENGTH, 3)
    x = [random.integers(0, LEVELS - 2, (rows, LENGTH)), random.normal(size=(rows, LENGTH, LEVELS))]
    return x, [random.normal(size=shape) for shape in shapes]


@pytest.mark.parametrize("backend", ["compiled", "reference"])
def test_the_columns_of_an_embedding_are_positions(backend):
    ids = bp.Ids(LENGTH, LEVELS)
    h = bp.Unflatten(LENGTH)(bp.Embedding(LEVELS, UNITS, name="word")(ids))
    assert (h.grid, h.width) == ((LENGTH,), UNITS)
    net = bp.Network(ids, [h, bp.Conv(5, 3, name="conv")(h)], dtype="float64", seed=1, backend=backend)
    words = data(6)[0][0]
    vectors, convolved = net.predict(words)
    np.testing.assert_array_equal(vectors, net.tensors["word.weight"][words])
    around = np.stack([vectors[:, i : i + 3].reshape(6, -1) for i in range(LENGTH - 2)], axis=1)
    expected = around @ net.tensors["conv.weight"].T + net.tensors["conv.bias"]
    np.testing.assert_allclose(convolved, expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("combine", ["concat", "sum"])
@pytest.mark.parametrize("spec", ["sgd(weight_decay=0.05)", "adagrad", "adamw(weight_decay=0.2)"])
def test_the_reference_trains_the_same(spec, combine):
    ts = [bp.Trainer(sentences(backend=b, combine=combine), ["mse"] * 3, OptimizerSpec.parse(spec)) for b in ("compiled", "reference")]
    assert ts[0].net.text() == ts[1].net.text()
    for step in range(4):
        x, y = data(1 + 3 * (step % 2), step)
        y[1] = y[1][:, : ts[0].net.outputs[1].width]
        losses = [t.step(x, y) for t in ts]
        assert losses[0] == pytest.approx(losses[1], rel=1e-12)
        (rows, values), (others, expected) = (t.sparse_grads["word"] for t in ts)
        assert (rows == others).all()
        np.testing.assert_allclose(values, expected, rtol=1e-11, atol=1e-13)
    np.testing.assert_allclose(ts[0].net.params, ts[1].net.params, rtol=1e-12, atol=1e-12)
    for ours, theirs in zip(*(t.net.predict(x) for t in ts), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-13)
    assert ts[0].net.nodes == ts[1].net.nodes
    assert ts[0].check_gradients(x, y).error < 1e-6


def test_bits_do_not_depend_on_threads_or_on_the_split(isa, dtype, tmp_path):
    found, x = set(), data(300, 9)[0]
    for n_threads in (1, 2, 3):
        net = sentences(dtype, n_threads=n_threads)
        t = bp.Trainer(net, ["mse"] * 3, "adam")
        for step in range(3):
            t.step(*data(200, step))
        whole = net.predict(x)
        parts = [np.concatenate(part) for part in zip(net.predict([a[:70] for a in x]), net.predict([a[70:] for a in x]), strict=True)]
        for ours, theirs in zip(whole, parts, strict=True):
            np.testing.assert_array_equal(ours, theirs)
        found.add(net.params.tobytes() + b"".join(output.tobytes() for output in whole))
    assert len(found) == 1
    net.save(tmp_path / "net")
    part = net.part(outputs=[entry.node for entry in net.outputs])
    for other in (bp.load(tmp_path / "net"), pickle.loads(pickle.dumps(net)), copy.deepcopy(net), part):
        for ours, theirs in zip(other.predict(x), whole, strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_ids_themselves_have_no_positions(module):
    with pytest.raises(TypeError, match="ids"):
        bp.Unflatten(LENGTH)(bp.Ids(LENGTH, LEVELS))
    text = "input 2\nids 6 levels=4\ngrid 1 height=2 width=3\noutput 0\n"
    with pytest.raises(ValueError, match="graph line 3: node 1 has ids, which only embeddings read"):
        module.Net(text)
    text = "ids 6 levels=4\nembedding 0 units=3\ngrid 1 height=4 width=1\noutput 2\n"
    with pytest.raises(ValueError, match="product divides 18"):
        module.Net(text)
