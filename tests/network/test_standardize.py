"""bp.Standardize: the statistics are those of the rows, from `net.standardize` or from the first epoch; nothing else changes them."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

import microbp as bp

X = np.random.default_rng(0).normal([50, -3, 0], [7, 0.01, 1], (40, 3))
Y = X @ [[1], [100], [-2]]


def network(backend, dtype="float64", **options):
    x = bp.Input(3)
    h = bp.Dense(4, "tanh")(bp.Standardize(name="data")(x))
    return bp.Network(x, bp.Dense(1)(bp.Standardize(name="middle")(h)), dtype=dtype, backend=backend, **{"seed": 0, **options})


def statistics(net, name):
    return np.stack([net.tensors[f"{name}.mean"], net.tensors[f"{name}.std"]])


def expected(values):
    return np.stack([values.mean(axis=0), values.std(axis=0)])


def is_set_from(net, rows):
    eps = 30 * np.finfo(net.dtype).eps
    read = rows.astype(net.dtype)
    np.testing.assert_allclose(statistics(net, "data"), expected(read.astype(float)), rtol=eps)
    hidden = net.predict(read, at="dense_0").astype(float)
    np.testing.assert_allclose(statistics(net, "middle"), expected(hidden), rtol=eps, atol=eps)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_statistics_of_the_rows_that_each_layer_gets(backend, dtype):
    net = network(backend, dtype)
    net.standardize(X)
    is_set_from(net, X)
    y = net.predict(X, at=1).astype(float)
    assert abs(y.mean(axis=0)).max() < 1e-4 and abs(y.std(axis=0) - 1).max() < 1e-4
    net.standardize(X[:7])  # again
    is_set_from(net, X[:7])


def test_a_column_without_differences_gets_std_1(backend):
    net = network(backend)
    net.standardize(np.stack([np.full(1000, 0.1), np.full(1000, 1e9 / 3), np.zeros(1000)], axis=1))
    assert statistics(net, "data")[1].tolist() == [1, 1, 1]
    net.standardize(X[:1])
    assert statistics(net, "data").tolist() == [X[0].tolist(), [1, 1, 1]]


def test_many_rows_and_any_number_of_threads_give_the_same_bits():
    rows = np.random.default_rng(1).normal(5, 2, (3000, 3))
    nets = [network("compiled", n_threads=threads) for threads in (1, 2)]
    for net in nets:
        net.standardize(rows)
    is_set_from(nets[0], rows)
    assert nets[0].buffers.tobytes() == nets[1].buffers.tobytes()


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused_and_nothing_changes(backend, wrong):
    net, rows = network(backend), X.copy()
    net.standardize(X[:9])
    before = net.buffers.copy()
    rows[33, 2] = wrong
    with pytest.raises(ValueError, match="row 33, column 2 of node 0 is not finite, so layer data has no mean"):
        net.standardize(rows)
    net.tensors["dense_0.weight"][:] = np.nan  # the first layer gets statistics, the second cannot
    with pytest.raises(ValueError, match="column 0 of node 2 is not finite, so layer middle has no mean"):
        net.standardize(X)
    assert net.buffers.tobytes() == before.tobytes()


def test_wrong_calls_are_refused(backend):
    with pytest.raises(ValueError, match="the net has no standardize layer that is not frozen"):
        bp.mlp([3, 1], backend=backend).standardize(X)
    net = network(backend)
    with pytest.raises(ValueError, match="its last axis must have length 3"):
        net.standardize(X[:, :2])
    with pytest.raises(ValueError, match="x has 0 rows, but statistics need at least 1"):
        net.standardize(X[:0])
    net.freeze()
    with pytest.raises(ValueError, match="not frozen"):
        net.standardize(X)


# ---- training ----


def trainer(net, **options):
    return bp.Trainer(net, **{"loss": "mse", "optimizer": bp.Adam(lr=0.01), **options})


def test_fit_sets_them_from_the_rows_that_it_trains_on(backend):
    weight = np.ones(40)
    weight[[3, 30]] = 0
    rows = X.copy()
    rows[3] = np.nan
    net = network(backend)
    trainer(net).fit(rows, Y, epochs=1, batch_size=40, sample_weight=weight, validation=(X + 100, Y))
    np.testing.assert_allclose(statistics(net, "data"), expected(X[weight > 0]), rtol=1e-13)


def test_a_fraction_of_validation_rows_is_left_out(backend):
    powers = 2.0 ** np.arange(40)[:, None] * [[1, 1, 1]]  # the sum of different powers of 2 says which they are
    net = network(backend)
    trainer(net).fit(powers, Y, epochs=1, validation=0.25)
    total = round(statistics(net, "data")[0, 0] * 30)
    assert total.bit_count() == 30


def test_steps_and_later_fits_leave_them_alone(backend):
    net = network(backend)
    t = trainer(net)
    t.step(X, Y)
    assert statistics(net, "data").tolist() == [[0, 0, 0], [1, 1, 1]]
    t.backward(X, Y)
    net.standardize(X)  # between backward and apply
    before = net.buffers.tobytes()
    t.apply()
    t.step(X, Y)
    t.fit(X * 2, Y, epochs=2)
    assert net.buffers.tobytes() == before


def test_a_frozen_layer_is_not_set(backend):
    net = network(backend)
    net.freeze("data")
    trainer(net).fit(X, Y, epochs=1)
    assert statistics(net, "data").tolist() == [[0, 0, 0], [1, 1, 1]]
    assert statistics(net, "middle")[0].any()


def test_the_endless_loop_sets_them_too(backend):
    net = network(backend)
    next(iter(trainer(net).epochs(X, Y, batch_size=40)))
    np.testing.assert_allclose(statistics(net, "data"), expected(X), rtol=1e-13)


def test_a_stream_needs_them_before(backend):
    net = network(backend)
    with pytest.raises(ValueError, match=r"call net.standardize\(X\) on typical rows first"):
        trainer(net).fit([(X, Y)], epochs=1)
    net.standardize(X)
    trainer(net).fit([(X, Y)], epochs=1)


def test_a_fit_that_fails_before_its_first_update_changes_nothing(backend):
    net, wrong = network(backend), Y.copy()
    wrong[0] = np.nan
    with pytest.raises(FloatingPointError):
        trainer(net).fit(X, wrong, epochs=1, batch_size=40)
    assert statistics(net, "data").tolist() == [[0, 0, 0], [1, 1, 1]]


def test_copies_files_and_pickles_keep_them(backend, tmp_path):
    net = network(backend)
    net.standardize(X)
    net.save(tmp_path / "net.safetensors")
    t = trainer(net)
    t.save(tmp_path / "run.safetensors")
    others = [net.copy(), copy.deepcopy(net), pickle.loads(pickle.dumps(net)), bp.load(tmp_path / "net.safetensors", backend=backend)]
    for other in [*others, bp.Trainer.load(tmp_path / "run.safetensors", backend=backend).net]:
        assert other.predict(X).tobytes() == net.predict(X).tobytes()


def test_a_network_learns_data_on_odd_scales():
    y = Y[:, 0] - Y.mean()
    plain, scaled = [], []
    for seed in range(3):
        for losses, wrap in ((plain, lambda node: node), (scaled, bp.Standardize())):
            x = bp.Input(3)
            net = bp.Network(x, bp.Dense(1)(bp.Dense(16, "relu")(wrap(x))), seed=seed)
            losses.append(trainer(net).fit(X, y, epochs=200, batch_size=8)["loss"][-1])
    assert max(scaled) < min(plain) / 2


def test_gradients_agree_with_differences(backend):
    net = network(backend)
    net.standardize(X)
    assert trainer(net).check_gradients(X[:8], Y[:8]).error < 1e-6
