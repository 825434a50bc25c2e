"""Sparse rows give the bits of dense rows: predictions, losses, gradients. What cannot read them refuses them by name."""

from __future__ import annotations

import re
import types

import cases
import graphs
import numpy as np
import pytest

import microbp as bp
from microbp.training.engine import sparse

INDEX_TYPES = [np.int32, np.int64]
WIDTHS = [1, 7, 300, 3000]  # of sparse inputs


def rows_with(random, rows, width, density=0.1, dtype=np.float64, index=np.int32):
    """Random CSR rows, some of them empty, some with stored zeros, and the same rows as a dense array."""
    stored = random.random((rows, width)) < density * random.integers(0, 3, (rows, 1))
    dense = np.where(stored, random.normal(size=(rows, width)), 0).astype(dtype)
    dense[random.random((rows, width)) < 0.01] = 0
    counts = stored.sum(axis=1)
    indptr = np.concatenate([[0], np.cumsum(counts)]).astype(index)
    csr = types.SimpleNamespace(data=dense[stored], indices=np.nonzero(stored)[1].astype(index), indptr=indptr, shape=dense.shape)
    return csr, dense


def network(random, rows, **options):
    """A random graph on top of dense layers, which alone read the inputs; sometimes inputs share a layer."""
    inputs, outputs = graphs.draw(random, rows, "tanh", 2)
    trunk = bp.Network(inputs, outputs, seed=1)
    width, shares = int(random.choice(WIDTHS)), random.random() < 0.5
    wide = [bp.Input(width if shares else int(random.choice(WIDTHS))) for _ in inputs]
    layers = {}
    hidden = []
    for i, (x, node) in enumerate(zip(wide, inputs, strict=True)):
        layer = layers.setdefault((node.width, 0 if shares else i), bp.Dense(node.width, "relu", bias=bool(random.random() < 0.8)))
        hidden.append(layer(x) + bp.Dense(node.width)(x) if random.random() < 0.3 else layer(x))
    tops = trunk(hidden if len(hidden) > 1 else hidden[0])
    return bp.Network(wide, tops, seed=2, **options)


def as_one(arrays):
    return arrays[0] if len(arrays) == 1 else arrays


def all_grads(trainer):
    """The flat gradient, with that of sparse layers."""
    engine = trainer._engine
    return sparse.in_full(engine.grads, sparse.grads_of(engine._core, trainer.net), trainer.net)


@pytest.mark.parametrize("index", INDEX_TYPES)
@pytest.mark.parametrize("seed", range(40 if cases.LONG else 8))
def test_sparse_rows_have_the_bits_of_dense_rows(seed, dtype, index, isa):
    random = np.random.default_rng([cases.SEED, seed])
    rows = int(random.choice([1, 2, 30, 130]))
    net = network(random, rows, dtype=dtype)
    given = [rows_with(random, rows, entry.width, dtype=random.choice(["f4", "f8", "i2"]), index=index) for entry in net.inputs]
    some_dense = random.random() < 0.3 and len(given) > 1
    csr, dense = as_one([x if i or not some_dense else d for i, (x, d) in enumerate(given)]), as_one([d for _, d in given])
    ys = [random.normal(size=(rows, entry.width)) for entry in net.outputs]
    weight = random.uniform(0, 1, rows) * (random.random(rows) < 0.9)
    weight[0] = 1
    if any(layer.kind == "batch_norm" for layer in net.layers):
        weight[:2] = 1
    found = set()
    for n_threads in (1, 2, 3):
        for x in (csr, dense):
            net.n_threads = n_threads
            t = bp.Trainer(net, "mse" if len(ys) == 1 else ["mse"] * len(ys), "sgd", seed=5)
            predicted = net.predict(x, raw=True)
            loss = t.backward(x, as_one(ys), weight)
            bits = [one.tobytes() for one in (predicted if isinstance(predicted, list) else [predicted])]
            found.add((*bits, loss, t.evaluate(x, as_one(ys), weight), all_grads(t).tobytes()))
    assert len(found) == 1


@pytest.mark.parametrize("units", [1, 2, 5, 16, 33, 300])
def test_every_width_of_a_layer_has_the_bits_of_dense_rows(units, dtype, isa):
    random = np.random.default_rng(units)
    csr, dense = rows_with(random, 70, 90, dtype=dtype)
    x = bp.Input(90)
    net = bp.Network(x, bp.Dense(units, "gelu", bias_init="normal")(x), dtype=dtype, seed=0)
    assert net.predict(csr).tobytes() == net.predict(dense).tobytes()
    for part in (slice(0, 1), slice(0, 64), slice(3, 70)):
        y = random.normal(size=(70, units))[part]
        a, b = (bp.Trainer(net, "mse", "sgd") for _ in range(2))
        assert a.backward(sparse_part(csr, part), y) == b.backward(dense[part], y)
        assert all_grads(a).tobytes() == b.grads.tobytes()


def sparse_part(csr, part):
    first, last = csr.indptr[part.start], csr.indptr[part.stop]
    parts = {"data": csr.data[first:last], "indices": csr.indices[first:last], "indptr": csr.indptr[part.start : part.stop + 1] - first}
    return types.SimpleNamespace(**parts, shape=(part.stop - part.start, csr.shape[1]))


def wide(backend="compiled", **options):
    """Two inputs, of which the first is wide."""
    x, z = bp.Input(200), bp.Input(3)
    h = bp.concat([bp.Dense(6, "tanh")(x), bp.Dense(4, "tanh")(z)])
    return bp.Network([x, z], bp.Dense(1)(h) + bp.Dense(1)(x), **{"seed": 0, "backend": backend, **options})


RANDOM = np.random.default_rng(3)
CSR, DENSE = rows_with(RANDOM, 150, 200)
Z, Y = RANDOM.normal(size=(150, 3)), RANDOM.normal(size=150)


def test_a_fit_has_the_bits_of_a_fit_on_dense_rows(backend):
    """sgd without weight decay changes no row that a batch does not name. Shuffled, with weights, gaps between rows, validation."""
    runs = []
    weight = np.where(np.arange(150) % 7 == 2, 0.0, 1.5)
    for x in (CSR, DENSE):
        t = bp.Trainer(wide(backend), "mse", bp.SGD(lr=0.05), clip_value=0.2)
        history = t.fit([x, Z], Y, epochs=2, batch_size=40, sample_weight=weight, validation=0.2, patience=5, metrics="r2", accumulate=1)
        t.fit([x, Z], Y, epochs=1, batch_size=15, accumulate=3, rows=np.arange(3, 120))
        history = {name: values for name, values in history.items() if name != "seconds"}
        runs.append((t.net.params.tobytes(), history, t.evaluate([x, Z], Y), t.predict([x, Z]).tobytes()))
    assert runs[0] == runs[1]


def test_streams_epochs_and_many_trainers_take_sparse_rows():
    part = [(slice(0, 70), slice(70, 150)), (slice(0, 70), slice(70, 150))]
    trained = []
    for x, cut in ((CSR, sparse_part), (DENSE, lambda dense, part: dense[part])):
        streamed, looped, *many = (bp.Trainer(wide(seed=i), "mse", bp.SGD(lr=0.05)) for i in range(4))
        streamed.fit([([cut(x, one), Z[one]], Y[one]) for one in part[0]], epochs=2, batch_size=32)
        for record in looped.epochs([x, Z], Y, order=np.arange(149, -1, -1)):
            if record.epoch == 2:
                break
        bp.train_many(many, [x, Z], Y, epochs=2)
        trained.append([t.net.params.tobytes() for t in (streamed, looped, *many)])
    assert trained[0] == trained[1]


def test_own_losses_get_the_outputs_of_sparse_rows(backend):
    def loss(outputs, targets, weight):
        return float(((outputs - targets) ** 2).mean()), 2 * (outputs - targets) / outputs.size

    found = []
    for x in (CSR, DENSE):
        t = bp.Trainer(wide(backend), loss, bp.SGD(lr=0.05))
        t.step([x, Z], Y)
        outputs = t.forward([x, Z])
        t.backward_from(outputs)
        t.backward_from(outputs / 2, accumulate=True)
        t.apply()
        found.append((outputs.tobytes(), t.net.params.tobytes()))
    assert found[0] == found[1]


def test_a_small_batch_is_a_part_of_a_larger_one(backend):
    whole, parts = (bp.Trainer(wide(backend, dtype="float64"), "mse", "sgd") for _ in range(2))
    whole.backward([CSR, Z], Y)
    for first in range(0, 150, 50):
        part = slice(first, first + 50)
        parts.backward([sparse_part(CSR, part), Z[part]], Y[part], accumulate=first > 0, total=150, first_row=first)
    parts.backward([sparse_part(CSR, slice(0, 0)), Z[:0]], Y[:0], accumulate=True, total=150)
    assert parts.sparse_grads["dense_0"][0].tolist() == np.unique(CSR.indices).tolist()
    np.testing.assert_allclose(all_grads(parts), all_grads(whole), rtol=1e-12, atol=1e-14)
    parts.backward([sparse_part(CSR, slice(0, 0)), Z[:0]], Y[:0], total=150)
    assert all(len(rows) == 0 for rows, _ in parts.sparse_grads.values())


def test_the_gradient_check_passes(backend):
    t = bp.Trainer(wide(backend), "mse")
    part = slice(0, 5)
    assert t.check_gradients([sparse_part(CSR, part), Z[part]], Y[part]).error < 1e-6


# ---- forms ----


def test_matrices_of_scipy_are_read_in_every_format(backend):
    scipy = pytest.importorskip("scipy.sparse", reason="SciPy is not installed")
    net = bp.mlp([200, 4, 1], seed=0, backend=backend)
    expected = net.predict(DENSE).tobytes()
    for kind in ("csr", "csc", "coo", "lil", "dok"):
        for make in (scipy.csr_matrix, scipy.csr_array):
            x = make((CSR.data, CSR.indices, CSR.indptr), CSR.shape).asformat(kind)
            assert net.predict(x).tobytes() == expected, kind
            t = bp.Trainer(net.copy(), "mse", "sgd")
            t.step(x, Y)
            t.fit(x, Y, epochs=1)


def test_repeated_and_unsorted_columns_are_added_and_sorted(backend):
    repeated = types.SimpleNamespace(
        data=np.array([1.0, 2, 3, 4, 5]), indices=np.array([7, 2, 7, 1, 0]), indptr=np.array([0, 3, 3, 5]), shape=(3, 9)
    )
    dense = np.zeros((3, 9))
    dense[0, 7], dense[0, 2], dense[2, 1], dense[2, 0] = 4, 2, 4, 5
    net = bp.mlp([9, 4, 1], seed=0, backend=backend)
    assert net.predict(repeated).tobytes() == net.predict(dense).tobytes()
    a, b = (bp.Trainer(net.copy(), "mse", "sgd") for _ in range(2))
    assert a.step(repeated, [1, 2, 3]) == b.step(dense, [1, 2, 3])
    assert a.net.params.tobytes() == b.net.params.tobytes()
    assert repeated.data.tolist() == [1, 2, 3, 4, 5]


def test_lists_and_other_integers_are_read(backend):
    t = bp.Trainer(bp.mlp([5, 3, 1], seed=0, backend=backend), "mse")
    dense = np.array([[1.0, 0, 0, 0, 1], [0, 1, 0, 0, 0]])
    expected, nothing = t.predict(dense).tobytes(), t.predict(np.zeros((2, 5))).tobytes()
    for kind in (np.uint8, np.int16, np.uint64):
        assert t.predict(with_parts(indices=np.array([0, 4, 1], kind), indptr=np.array([0, 2, 3], kind))).tobytes() == expected
    assert t.predict(with_parts(data=[1, 1, 1], indices=[0, 4, 1], indptr=[0, 2, 3], shape=[2, 5])).tobytes() == expected
    assert t.predict(with_parts(data=[], indices=[], indptr=[0, 0, 0])).tobytes() == nothing
    assert t.predict(with_parts(data=np.ma.masked_equal([1.0, 1, 1], 7))).tobytes() == expected
    t.step(with_parts(data=[], indices=[], indptr=[0, 0, 0]), [1, 2])


def test_predictions_are_written_to_memory_apart_from_the_rows(backend):
    net, csr = bp.mlp([5, 1], seed=0, backend=backend, dtype="float64"), with_parts(data=np.ones(6))
    out = np.zeros((2, 1))
    assert net.predict(csr, out=out) is out
    assert out.tobytes() == net.predict(csr).tobytes()
    with pytest.raises(ValueError, match="output 0 shares memory with input 0: use separate memory"):
        net.predict(csr, out=csr.data[1:3].reshape(2, 1))


def with_parts(**parts):
    good = {"data": np.ones(3), "indices": np.array([0, 4, 1]), "indptr": np.array([0, 2, 3]), "shape": (2, 5)}
    return types.SimpleNamespace(**(good | parts))


WRONG = [
    ({"indices": np.array([0, 5, 1])}, "X, row 0: the column 5 is not in 0 to 4"),
    ({"indices": np.array([0, 4, -1])}, "X, row 1: the column -1 is not in 0 to 4"),
    ({"indptr": np.array([0, 3, 2])}, r"X\.indptr must have 3 numbers that do not descend, from 0 to the number of values, not \[0 3 2\]"),
    ({"indptr": np.array([0, 2, 4])}, r"X\.indptr must have 3 numbers"),
    ({"indptr": np.array([0, 2])}, r"X\.indptr must have 3 numbers"),
    ({"indptr": np.array([-1, 2, 3])}, r"X\.indptr must have 3 numbers"),
    ({"indices": np.array([0.0, 4, 1])}, r"X\.indices must be a vector of integers, not float64 of shape \(3,\)"),
    ({"data": np.ones((3, 1))}, r"X\.data must be a vector of numbers, not float64 of shape \(3, 1\)"),
    ({"shape": (2, 6)}, r"X has shape \(2, 6\)"),
    ({"shape": (2,)}, r"X is a sparse array of shape \(2,\); it must have 2 axes"),
    ({"format": "bsr"}, "X is a sparse matrix in the format 'bsr', which has no method tocsr: pass CSR"),
    ({"data": np.array(["a", "b", "c"])}, r"X\.data must contain real numbers, not strings"),
    ({"data": np.ma.masked_equal([1.0, 2, 3], 2)}, r"X\.data has masked elements: fill them, as in X\.data\.filled\(0\)"),
    ({"indices": np.ma.masked_equal([0, 4, 1], 4)}, r"X\.indices has masked elements"),
    ({"indptr": np.ma.masked_equal([0, 2, 3], 2)}, r"X\.indptr has masked elements"),
    ({"indptr": np.array([0, 3, 2], np.uint64)}, r"X\.indptr must have 3 numbers that do not descend"),
    ({"indptr": np.array([0, 4, 3], np.uint8)}, r"X\.indptr must have 3 numbers that do not descend"),
    ({"indices": np.array([0, 2**63, 1], np.uint64)}, "X, row 0: the column 9223372036854775808 is not in 0 to 4"),
    ({"shape": None}, r"X\.shape must be two whole numbers, of rows and features, not None"),
    ({"shape": (2.0, 5.0)}, r"X\.shape must be two whole numbers, of rows and features, not \(2\.0, 5\.0\)"),
    ({"shape": (-1, 5), "indptr": np.zeros(0, int)}, r"X\.shape is \(-1, 5\), but no length may be negative"),
]


@pytest.mark.parametrize(("parts", "words"), WRONG, ids=[words for _, words in WRONG])
@pytest.mark.parametrize("way", ["step", "fit", "predict"])
def test_wrong_parts_are_named(backend, parts, words, way):
    t = bp.Trainer(bp.mlp([5, 3, 1], seed=0, backend=backend), "mse")
    before, x = t.net.params.copy(), with_parts(**parts)
    with pytest.raises((ValueError, TypeError), match=words):
        t.step(x, [1, 2]) if way == "step" else t.fit(x, [1, 2], epochs=1) if way == "fit" else t.predict(x)
    np.testing.assert_array_equal(t.net.params, before)


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({"indices": [0, 5, 1]}, "input 0, row 0: indices[1] is 5, but must be a column from 0 to 4"),
        ({"indices": [0, 4, -2]}, "input 0, row 1: indices[2] is -2, but must be a column from 0 to 4"),
        ({"indices": [4, 4, 1]}, "input 0, row 0: indices[1] is 4 after 4, but the columns of a row must ascend, without repeats"),
        ({"indptr": [0, 3, 2], "indices": [0, 1, 4]}, "input 0, row 1: indptr goes from 3 to 2, but must not descend"),
        ({"indptr": [-1, 2, 3]}, "input 0: indptr[0] is -1, but must be at least 0"),
    ],
)
@pytest.mark.parametrize("index", INDEX_TYPES)
def test_backends_name_the_row_and_the_place(module, parts, words, index):
    net = module.Net("input 5\ndense 0 units=2\noutput 1\n")
    x = with_parts(**{name: np.array(values, index) for name, values in ({"indices": [0, 4, 1], "indptr": [0, 2, 3]} | parts).items()})
    with pytest.raises(ValueError, match=re.escape(words)):
        net.predict([x], [np.zeros((2, 2), np.float32)], True)


# ---- what reads no sparse rows ----

READERS = {
    "standardize": lambda x: bp.Dense(1)(bp.Standardize()(x)),
    "slice": lambda x: bp.Dense(1)(x[:, :3]) + bp.Dense(1)(x),
    "concat": lambda x: bp.Dense(1)(bp.concat([x, x])),
    "dropout": lambda x: bp.Dense(1)(bp.Dropout(0.5)(x)),
    "noise": lambda x: bp.Dense(1)(bp.GaussianNoise(0.5)(x)),
    "layer_norm": lambda x: bp.Dense(1)(bp.LayerNorm()(x)),
    "batch_norm": lambda x: bp.Dense(1)(bp.BatchNorm()(x)),
    "scale": lambda x: bp.Dense(1)(bp.Scale()(x)),
    "add": lambda x: bp.Dense(1)(x + bp.Dense(5)(x)),
    "subtract": lambda x: bp.Dense(1)(x - bp.Dense(5)(x)),
    "multiply": lambda x: bp.Dense(1)(x * x),
    "activation": lambda x: bp.Dense(1)(bp.Activation("relu")(x)),
}


@pytest.mark.parametrize("kind", READERS)
def test_other_nodes_that_read_the_input_are_named(backend, kind):
    x = bp.Input(5)
    net = bp.Network(x, READERS[kind](x), backend=backend)
    words = (
        rf"input 0 is sparse, but node \d+ \({kind}\) reads it, and only dense layers and embeddings read sparse rows: pass a dense array"
    )
    calls = [
        net.predict,
        net.standardize,
        lambda x: bp.Trainer(net, "mse").step(x, [1, 2]),
        lambda x: bp.Trainer(net, "mse").fit(x, [1, 2], epochs=1),
    ]
    for call in calls:
        with pytest.raises(ValueError, match=words):
            call(with_parts())


def test_another_input_is_standardized_beside_sparse_rows(backend):
    x, z = bp.Input(5), bp.Input(2)
    hidden = bp.concat([bp.Dense(3)(x), bp.Standardize()(z)])
    numbers, dense = np.array([[1.0, 2], [3, 2]]), np.array([[1.0, 0, 0, 0, 1], [0, 1, 0, 0, 0]])
    found = []
    for rows in (with_parts(), dense):
        net = bp.Network([x, z], bp.Dense(1)(hidden), seed=0, backend=backend)
        net.standardize([rows, numbers])
        fitted = bp.Trainer(bp.Network([x, z], bp.Dense(1)(hidden), seed=0, backend=backend), "mse", "sgd")
        fitted.fit([rows, numbers], [1, 2], epochs=1)
        found.append((net.buffers.tolist(), fitted.net.buffers.tolist(), fitted.net.params.tobytes()))
    assert found[0][0] == found[0][1] == [2, 2, 1, 1]
    assert found[0] == found[1]
    net = bp.Network(x, bp.Dense(1)(bp.Standardize()(bp.Dense(3)(x))), seed=0, backend=backend)
    means = []
    for rows in (with_parts(), dense):
        net.standardize(rows)
        means.append(net.buffers.tobytes())
    assert means[0] == means[1]


def test_what_needs_dense_rows_is_refused(backend):
    x = bp.Input(5)
    net = bp.Network(x, bp.Dense(1)(x), backend=backend)
    t, csr = bp.Trainer(net, "mse"), with_parts()
    with pytest.raises(ValueError, match="input 0 is sparse, but a Jacobian needs dense rows: pass a dense array"):
        net.jacobian(csr)
    with pytest.raises(ValueError, match="input 0 is sparse, but input_grads needs dense rows: pass a dense array"):
        t.backward(csr, [1, 2], input_grads=True)
    with pytest.raises(ValueError, match="node 0 is a sparse input: pass a dense array to get its values"):
        net.predict(csr, at=0)
    with pytest.raises(ValueError, match="input 0 is sparse, but is output 1 too: pass a dense array"):
        bp.Network(x, [bp.Dense(1)(x), x], backend=backend).predict(csr)
    with pytest.raises(TypeError, match="y "):
        t.step(np.ones((2, 5)), csr)


def test_a_value_that_is_not_finite_is_named(backend):
    t = bp.Trainer(bp.mlp([5, 3, 1], seed=0, backend=backend), "mse")
    with pytest.raises(FloatingPointError, match="X contains NaN, first at row 1, column 1"):
        t.step(with_parts(data=np.array([1, 2, np.nan])), [1, 2])
