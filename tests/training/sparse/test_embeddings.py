"""Ids name rows of tables: predictions, gradients and steps are those of dense layers without bias on rows of 0 and 1."""

from __future__ import annotations

import copy
import pickle
import re
import types

import graphs
import numpy as np
import pytest

import microbp as bp
from microbp.core import backend as backends
from microbp.core.specs import OptimizerSpec

OPTIMIZERS = ["sgd(weight_decay=0.05)", "adagrad", "rmsprop", "adam", "adamw(weight_decay=0.2)", "sgd_momentum(momentum=0.8)", "ftrl"]
DTYPES = [np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64]
ROWS = 9


def rows_of(net, seed=0, rows=ROWS):
    """Inputs and targets for graphs.embedded: the last input is sparse, and the hashed ids are any numbers."""
    words, x, user, _ = graphs.rows_of(net, rows, seed)
    random = np.random.default_rng(seed)
    bag = types.SimpleNamespace(
        data=random.normal(size=rows), indices=random.integers(0, 11, rows), indptr=np.arange(rows + 1), shape=(rows, 11)
    )
    return [words, x, user * 10**17 - 3, bag], [random.normal(size=(rows, output.width)) for output in net.outputs]


def trainer(optimizer="adam", backend="compiled", dtype="float64", **options):
    net = graphs.network("embedded", dtype=dtype, backend=backend, **options)
    return bp.Trainer(net, ["mse"] * 3, OptimizerSpec.parse(optimizer))


def single(levels=20, columns=1, units=3, dtype="float64", **options):
    """A table of ids, and a dense layer on top."""
    ids = bp.Ids(columns, levels)
    return bp.Network(ids, bp.Dense(2)(bp.Embedding(levels, units, name="e", **options)(ids)), dtype=dtype, seed=3)


def test_the_reference_predicts_the_same(dtype):
    nets = [trainer("sgd", backend, dtype).net for backend in ("compiled", "reference")]
    assert nets[0].text() == nets[1].text() and (nets[0].params == nets[1].params).all()
    x, _ = rows_of(nets[0])
    for ours, theirs in zip(*(net.predict(x) for net in nets), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12 if dtype == "float64" else 1e-4, atol=1e-6 if dtype == "float32" else 1e-14)
    assert nets[0].nodes == nets[1].nodes
    assert nets[0].layers == nets[1].layers
    assert str(nets[0]).replace("compiled", "reference") == str(nets[1])


@pytest.mark.parametrize("spec", OPTIMIZERS)
def test_the_reference_trains_the_same(spec):
    ts = [trainer(spec, backend) for backend in ("compiled", "reference")]
    for step in range(6):
        x, y = rows_of(ts[0].net, step, 1 + 4 * (step % 2))
        losses = [t.step(x, y) for t in ts]
        assert losses[0] == pytest.approx(losses[1], rel=1e-12)
        for name in ("both", "total", "embedding_1"):
            (rows, values), (others, expected) = (t.sparse_grads[name] for t in ts)
            assert (rows == others).all() and (np.diff(rows) > 0).all()
            np.testing.assert_allclose(values, expected, rtol=1e-11, atol=1e-13)
    np.testing.assert_allclose(ts[0].net.params, ts[1].net.params, rtol=1e-12, atol=1e-12)
    assert ts[0].check_gradients(x, y).error < 1e-6


def test_one_column_has_the_bits_of_a_dense_layer(dtype):
    x, ids = bp.Input(20), bp.Ids(1, 20)
    table = np.random.default_rng(0).normal(size=(20, 5))
    table_net = bp.Network(ids, bp.Dense(2, name="out")(bp.Embedding(20, 5, init=table, name="e")(ids)), dtype=dtype, seed=1)
    dense = bp.Network(x, bp.Dense(2, name="out")(bp.Dense(5, bias=False, init=table.T, name="e")(x)), dtype=dtype, seed=1)
    for name, values in table_net.tensors.items():
        dense.tensors[name][...] = values.T if name == "e.weight" else values
    x = np.random.default_rng(1).integers(0, 20, 40)
    one_hot = np.eye(20)[x]
    assert (table_net.predict(x) == dense.predict(one_hot)).all()
    y = np.random.default_rng(2).normal(size=(40, 2))
    ours, theirs = (bp.Trainer(net, "mse", bp.SGD(lr=0.1)) for net in (table_net, dense))
    assert ours.backward(x, y) == theirs.backward(one_hot, y)
    rows, values = ours.sparse_grads["e"]
    full = np.zeros_like(theirs.net.tensors["e.weight"].T)
    full[rows] = values
    assert (full == theirs.grads[: full.size].reshape(20, 5)).all()


@pytest.mark.parametrize("combine", ["concat", "sum"])
def test_columns_are_joined_or_added_in_order(combine, dtype):
    net = single(columns=3, combine=combine, dtype=dtype)
    x = np.random.default_rng(0).integers(0, 20, (50, 3))
    rows = net.tensors["e.weight"][x]
    expected = rows.reshape(50, 9) if combine == "concat" else rows[:, 0] + rows[:, 1] + rows[:, 2]
    assert (net.predict(x, at="e") == expected).all()


def test_threads_and_splits_keep_the_bits():
    results = []
    for threads in (1, 3):
        net = graphs.network("embedded", n_threads=threads)
        x, y = rows_of(net, rows=700)
        t = bp.Trainer(net, ["mse"] * 3, "adam")
        t.step(x, y)
        results.append([net.params, *net.predict(x)])
    for one, other in zip(*results, strict=True):
        assert (one == other).all()
    part = net.predict([x[0][300:], x[1][300:], x[2][300:], from_row(x[3], 300)])
    for whole, end in zip(results[1][1:], part, strict=True):
        assert (whole[300:] == end).all()


def from_row(csr, first):
    return types.SimpleNamespace(
        data=csr.data[first:], indices=csr.indices[first:], indptr=csr.indptr[first:] - first, shape=(csr.shape[0] - first, 11)
    )


@pytest.mark.parametrize("dtype", DTYPES)
def test_any_integer_dtype_and_layout(dtype):
    net = single(columns=2)
    x = np.random.default_rng(0).integers(0, 20, (8, 2))
    expected = net.predict(x)
    for given in (x.astype(dtype), x.astype(dtype, order="F"), np.repeat(x, 2, axis=1).astype(dtype)[:, ::2], x.tolist()):
        assert (net.predict(given) == expected).all()
    t = bp.Trainer(net, "mse", "sgd")
    for given in (x.astype(dtype).astype(object), x.astype(dtype).astype(object).tolist()):
        assert (net.predict(given) == expected).all() and t.step(given, expected) == t.evaluate(given, expected) == 0
    net = single()
    assert net.predict(x[:, 0].astype(dtype)).shape == net.predict(x[:, :1]).shape == (8, 2) and net.predict([4]).shape == (1, 2)


def test_frames_of_nullable_integers():
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    net, x = single(columns=2), np.random.default_rng(0).integers(0, 20, (8, 2))
    frame = pandas.DataFrame(x).astype("Int64")
    assert (net.predict(frame) == net.predict(x)).all()
    t = bp.Trainer(net, "mse", "sgd")
    assert t.step(frame, net.predict(x)) == t.step([*map(list, frame.itertuples(index=False))], net.predict(x)) == 0
    frame.loc[3, 1] = None
    with pytest.raises(TypeError, match="X has a missing value, <NA>.*row 3, column 1.*fill it"):
        net.predict(frame)


def test_hashed_ids_are_those_of_hash_features(backend):
    hashed, plain = bp.Ids(2, 1000, hash=True), bp.Ids(2, 1000)
    table = bp.Embedding(1000, 2)
    one, other = (bp.Network(ids, table(ids), seed=0, backend=backend) for ids in (hashed, plain))
    x = np.array([[-(2**63), 2**63 - 1], [0, -1], [10**15, 31]])
    big = np.array([[2**64 - 1, 2**63], [7, 2**40]], np.uint64)
    for given in (x, big, big.astype(object), x.astype(object), big.tolist()):
        assert (one.predict(given) == other.predict(bp.hash_features(given, 1000))).all()


@pytest.mark.parametrize("backend", ["compiled", "reference"])
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda x: x - 1, r"X, row 2, column 1: the id is -1, but must be from 0 to 19; use bp.Ids\(..., hash=True\)"),
        (lambda x: x + 17, r"X, row 4, column 0: the id is 20, but must be"),
        (lambda x: x.astype(np.uint64) + np.uint64(2**63), r"X, row 0, column 0: the id is 9223372036854775809, but"),
        (lambda x: x / 1, r"X has ids, which must be of an integer dtype, not float64: fill NaN first, then use X.astype\(int\)"),
        (lambda x: (x / 2).astype(object), r"X has ids, which must be of an integer dtype, not object: fill NaN first"),
        (lambda x: x[:, :1], "shape"),
    ],
)
def test_wrong_ids_are_refused_everywhere(change, words, backend):
    ids = bp.Ids(2, 20)
    net = bp.Network(ids, bp.Dense(2)(bp.Embedding(20, 3)(ids)), seed=0, backend=backend)
    t = bp.Trainer(net, "mse", "adam")
    x = np.array([[1, 1], [2, 1], [1, 0], [1, 2], [3, 2]])
    y, before = np.zeros((5, 2)), net.params.copy()
    for call in (net.predict, lambda x: t.step(x, y), lambda x: t.fit(x, y, epochs=1, batch_size=2), lambda x: t.evaluate(x, y)):
        with pytest.raises((ValueError, TypeError), match=words):
            call(change(x))
    assert (net.params == before).all() and t.steps == 0
    with pytest.raises(ValueError, match="input 0, row 2, column 1: the id is -1, but must be from 0 to 19; or set hash=1"):
        net._core.predict([x - 1] if backend == "reference" else x - 1, [np.zeros((5, 2), np.float32)], False)


@pytest.mark.parametrize("backend", ["compiled", "reference"])
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("ids 2\n", "line 1: ids needs levels=N, for the ids 0 to N - 1"),
        ("ids 2 levels=1.5\n", "line 1: levels must be a whole number"),
        ("ids 0 levels=5\n", "line 1: the number of columns of ids must be a whole number from 1"),
        ("ids 2 levels=0\n", "levels"),
        ("ids 2 levels=5\ndense 0 units=1\n", 'line 2: node 0 has ids, which only embeddings read: write "embedding 0 units=N"'),
        ("ids 2 levels=5\noutput 0\n", "line 2: node 0 has ids, which only embeddings read"),
        ("ids 2 levels=5\nembedding 0\n", "line 2: the new layer embedding_0 needs units=N"),
        ("ids 2 levels=5\nembedding 0 units=2 combine=mean\n", 'line 2: combine must be concat or sum, not "mean"'),
        (
            "ids 2 levels=5\nids 2 levels=6\nembedding 0 layer=e units=2\nembedding 1 layer=e\n",
            "line 4: layer e has 5 levels, but node 1 has 6",
        ),
        ("ids 2147483647 levels=5\nembedding 0 units=2\n", "line 2: embedding has more than 2147483647 columns"),
    ],
)
def test_wrong_graphs_are_refused(text, words, backend):
    with pytest.raises(ValueError, match=re.escape(words)):
        backends.load(backend).Net(text + "output 0\n")


def test_calls_that_need_derivatives_or_dense_layers_are_refused(backend):
    t = trainer("adam", backend)
    x, y = rows_of(t.net)
    for call in (t.net.jacobian, lambda x: t.backward(x, y, input_grads=True)):
        with pytest.raises(ValueError, match="input 0 has ids, but .* needs numbers, which have derivatives"):
            call(x)
    with pytest.raises(ValueError, match="node 0 has ids, which are not predicted"):
        t.net.predict(x, at=0)
    with pytest.raises(ValueError, match="layer both is an embedding, but lion changes all rows in each step: use another"):
        bp.Trainer(t.net, ["mse"] * 3, "lion").step(x, y)
    t.step(x, y)
    with pytest.raises(ValueError, match="layer 'both' has sparse rows"):
        _ = t.grads


def test_mistakes_in_python_are_refused():
    ids = bp.Ids(2, 5)
    for call in (bp.Dense(2), bp.Dropout(), lambda node: node + 1, lambda node: node[:, 0], lambda node: bp.concat([node, node])):
        with pytest.raises(TypeError, match=r"cannot read ids; use bp.Embedding\(5, units\)\(ids\)"):
            call(ids)
    with pytest.raises(ValueError, match="Embedding has 6 levels, but its node has 5 levels: they must be equal"):
        bp.Embedding(6, 2)(ids)
    with pytest.raises(ValueError, match=r"init must have shape \(5, 2\), not \(2, 5\)"):
        bp.Embedding(5, 2, init=np.zeros((2, 5)))
    with pytest.raises(ValueError, match="combine"):
        bp.Embedding(5, 2, combine="mean")


@pytest.mark.parametrize("spec", ["sgd(lr=0.5)", "adagrad(lr=0.5)", "adamw(lr=0.3)"])
def test_max_norm_limits_the_rows_that_a_step_names(spec, backend):
    ids = bp.Ids(2, 12)
    net = bp.Network(ids, bp.Dense(1)(bp.Embedding(12, 4, max_norm=0.6, init=bp.Init("normal", std=1), name="e")(ids)), dtype="float64",
                     seed=0, backend=backend)  # fmt: skip
    t = bp.Trainer(net, "mse", OptimizerSpec.parse(spec))
    before, x = np.linalg.norm(net.tensors["e.weight"], axis=1), np.array([[1, 2], [2, 5], [1, 9]])
    for _ in range(3):
        t.step(x, [3.0, -3.0, 5.0])
    after, named = np.linalg.norm(net.tensors["e.weight"], axis=1), [1, 2, 5, 9]
    assert (after[named] <= 0.6 + 1e-12).all() and (before[named] > 0.6).any()
    rest = np.setdiff1d(np.arange(12), named)
    assert (after[rest] <= before[rest]).all() and (after[rest] > 0.6).any()


def test_max_norm_is_refused_with_momentum(backend):
    ids = bp.Ids(1, 12)
    net = bp.Network(ids, bp.Embedding(12, 4, max_norm=0.6, name="e")(ids), seed=0, backend=backend)
    for spec in ("sgd_momentum(momentum=0.9)", "momentum(momentum=0.9)", "ftrl"):
        with pytest.raises(ValueError, match="layer e has a max_norm, but .* moves rows without a gradient: use another optimizer"):
            bp.Trainer(net, "mse", OptimizerSpec.parse(spec)).step([1, 2], np.zeros((2, 4)))


def test_files_copies_and_parts(tmp_path, backend):
    t = trainer("adam", backend, "float32")
    x, y = rows_of(t.net)
    t.step(x, y)
    expected = t.net.predict(x)
    t.net.save(tmp_path / "net.safetensors")
    t.save(tmp_path / "t.safetensors")
    nets = [bp.load(tmp_path / "net.safetensors", backend=other) for other in ("compiled", "reference")]
    assert (nets[0].params == nets[1].params).all() and nets[0].text() == nets[1].text() == t.net.text()
    assert list(nets[0].tensors["both.weight"].shape) == [11, 5]
    for net in (nets[backend == "reference"], copy.deepcopy(t.net), pickle.loads(pickle.dumps(t.net))):
        for one, other in zip(net.predict(x), expected, strict=True):
            assert (one == other).all()
    resumed = bp.Trainer.load(tmp_path / "t.safetensors", backend=backend)
    assert resumed.step(x, y) == t.step(x, y)
    assert (resumed.net.params == t.net.params).all()
    part = t.net.part(outputs=t.net.outputs[2].node)
    assert part.inputs[0].levels == 11 and (part.predict(x[0]) == t.net.predict(x)[2]).all()
    words = bp.Ids(3, 11)
    again = bp.Network(words, part(words), backend=backend)
    assert (again.predict(x[0]) == part.predict(x[0])).all()
    with pytest.raises(ValueError, match=r"input 0 of the network needs bp.Ids\(3, 11, hash=False\), but gets"):
        part(bp.Input(3))


def test_both_backends_write_the_same_file(tmp_path):
    paths = [tmp_path / backend for backend in ("compiled", "reference")]
    for path in paths:
        graphs.network("embedded", backend=path.name).save(path)
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_fit_learns_from_a_vector_of_ids():
    random = np.random.default_rng(0)
    means, x = random.normal(size=50), random.integers(0, 50, 2000)
    ids = bp.Ids(1, 50)
    t = bp.Trainer(bp.Network(ids, bp.Dense(1)(bp.Embedding(50, 8)(ids)), seed=0), "mse", bp.Adam(lr=0.01))
    t.fit(x, means[x], epochs=30, validation=0.2, sample_weight=random.integers(0, 2, 2000))
    assert t.evaluate(x, means[x]) < 1e-3
    assert np.allclose(t.predict(np.arange(50))[:, 0], means, atol=0.1)


@pytest.mark.parametrize("name", ["sparse_adam", "adagrad"])
def test_steps_are_those_of_torch(name):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    net = single(columns=2, combine="concat")
    optimizer = bp.Adam(lr=0.01, eps=1e-20) if name == "sparse_adam" else bp.Adagrad(lr=0.05)
    t = bp.Trainer(net, "half_sse", optimizer)
    table = torch.nn.Embedding(20, 3, sparse=name == "sparse_adam", dtype=torch.float64)
    dense = torch.nn.Linear(6, 2, dtype=torch.float64)
    with torch.no_grad():
        for to, tensor in ((table.weight, "e.weight"), (dense.weight, "dense_0.weight"), (dense.bias, "dense_0.bias")):
            to.copy_(torch.tensor(net.tensors[tensor].copy()))
    if name == "sparse_adam":  # eps is at another place in SparseAdam
        theirs = [torch.optim.SparseAdam(table.parameters(), lr=0.01, eps=1e-20), torch.optim.Adam(dense.parameters(), lr=0.01, eps=1e-20)]
    else:
        theirs = [torch.optim.Adagrad([*table.parameters(), *dense.parameters()], lr=0.05)]
    random = np.random.default_rng(0)
    for _ in range(20):
        x, y = random.integers(0, 20, (5, 2)), random.normal(size=(5, 2))
        loss = ((dense(table(torch.tensor(x)).reshape(5, 6)) - torch.tensor(y)) ** 2).sum() / 2 / 5
        for one in theirs:
            one.zero_grad()
        loss.backward()
        for one in theirs:
            one.step()
        assert t.step(x, y) == pytest.approx(loss.item(), rel=1e-12)
    np.testing.assert_allclose(net.tensors["e.weight"], table.weight.detach().numpy(), rtol=1e-12, atol=1e-12)
