"""Steps on sparse rows change the rows of a weight that a batch names; the others catch up on what they miss."""

from __future__ import annotations

import copy
import pickle
import threading
import types

import numpy as np
import pytest

import microbp as bp
from microbp.core.specs import OptimizerSpec

COLUMNS, ROWS, RATE = 60, 4, 0.05

# Each optimizer whose result equals that of dense rows, with every parameter that its catching up depends on.
EQUAL = [
    "sgd", "sgd(weight_decay=0.05)", "adagrad(lr_decay=0.1)", "adadelta(rho=0.8,eps=0.001)",
    "rmsprop(alpha=0.9,eps=0.01)", "rmsprop_centered(alpha=0.9,eps=0.01)", "rmsprop_momentum(alpha=0.9,eps=0.5,momentum=0.8)",
    "rmsprop_centered_momentum(alpha=0.9,eps=0.5,momentum=0.8)", "ftrl(l1=0.01,l2=0.1,beta=0.5)",
    *(f"{name}(momentum=0.8,weight_decay={decay})"
      for name in ("sgd_momentum", "sgd_nesterov", "momentum", "momentum_nesterov") for decay in (0, 0.04)),
]  # fmt: skip
LAZY = ["adam(beta1=0.8)", "adam(eps_hat=1)", "adamw(weight_decay=0.2)"]
REFUSED = ["asgd", "adam_amsgrad", "adamw_amsgrad", "adamax", "nadam", "radam", "adabelief", "lion", "rprop_minus", "irprop_minus",
           "irprop_plus", "lamb"]  # fmt: skip


def batch(step, rows=ROWS, columns=COLUMNS, ones=2):
    """Sparse rows, the same dense, and targets. Most columns are named rarely, some never, and the first often."""
    random = np.random.default_rng(step)
    chosen = np.array([np.sort(random.choice(columns - 1, ones, replace=False)) for _ in range(rows)])
    chosen[:, 0] = np.where(random.random(rows) < 0.3, 0, chosen[:, 0])
    values = random.normal(size=(rows, ones))
    dense = np.zeros((rows, columns))
    np.put_along_axis(dense, chosen, values, axis=1)
    csr = types.SimpleNamespace(
        data=values.ravel(), indices=chosen.ravel().astype(np.int32), indptr=np.arange(rows + 1, dtype=np.int32) * ones, shape=dense.shape
    )
    return csr, dense, random.normal(size=rows)


def trainer(optimizer, backend="compiled", dtype="float64", **options):
    x = bp.Input(COLUMNS)
    net = bp.Network(x, bp.Dense(1)(bp.Dense(3, "tanh")(x)), dtype=dtype, seed=0, backend=backend)
    return bp.Trainer(net, "mse", optimizer, **options)


def state(t):
    return np.concatenate([t.net.params, *t.state.values()])


def run(t, first, last, kind=0):
    """Steps with changing rates; every tenth batch of kind 0 is dense."""
    for step in range(first, last):
        csr, dense, y = batch(step)
        t.lr = RATE * (1 + step % 3 / 4)
        t.step(dense if kind == 1 or step % 10 == 7 else csr, y)


@pytest.mark.parametrize("steps", [1, 40, 1100])  # rows must be brought up to date after 256, 512 or 1024 steps
@pytest.mark.parametrize("spec", EQUAL)
def test_a_lazy_layer_equals_a_dense_one(spec, steps):
    lazy, dense = (trainer(OptimizerSpec.parse(spec), clip_norm=0.8, clip_value=0.5) for _ in range(2))
    run(lazy, 0, steps)
    run(dense, 0, steps, 1)
    np.testing.assert_allclose(lazy.net.params, dense.net.params, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(state(lazy), state(dense), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("spec", EQUAL + LAZY)
def test_the_reference_does_the_same(spec, dtype):
    lazy, slow = (trainer(OptimizerSpec.parse(spec), backend, dtype, clip_layer_norm=0.3) for backend in ("compiled", "reference"))
    for t in (lazy, slow):
        run(t, 0, 25)
        csr, _, y = batch(99, rows=30)
        t.fit(csr, y, epochs=2, batch_size=7)
    tolerance = 1e-12 if dtype == "float64" else 2e-4
    np.testing.assert_allclose(state(lazy), state(slow), rtol=tolerance, atol=tolerance)
    for (rows, values), (own, expected) in zip(lazy.sparse_grads.values(), slow.sparse_grads.values(), strict=True):
        assert rows.tolist() == own.tolist() and rows.dtype == own.dtype == np.int32
        np.testing.assert_allclose(values, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("spec", LAZY)
def test_moments_of_adam_change_only_in_rows_that_a_batch_names(spec, backend):
    t = trainer(OptimizerSpec.parse(spec), backend)
    run(t, 0, 5)
    before, m = t.net.params.copy(), t.state["m"].copy()
    csr, _, y = batch(123)
    t.step(csr, y)
    layer = slice(0, COLUMNS * 3)
    moved = (t.state["m"] != m)[layer].reshape(COLUMNS, 3).any(axis=1)
    assert np.flatnonzero(moved).tolist() == np.unique(csr.indices).tolist() == t.sparse_grads["dense_0"][0].tolist()
    decay = 1 - t.lr * t.weight_decay
    others = np.repeat(~moved, 3)
    np.testing.assert_allclose(t.net.params[layer][others], decay * before[layer][others], rtol=1e-14)


@pytest.mark.peers
def test_adam_equals_that_of_pytorch():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    x = bp.Input(COLUMNS)
    net = bp.Network(x, bp.Dense(3, "tanh", bias=False)(x), dtype="float64", seed=0)
    t = bp.Trainer(net, "mse", bp.Adam(lr=0.03, eps=1e-3, eps_hat=True))
    weight = torch.tensor(net.tensors["dense_0.weight"].T.copy())
    bag = torch.nn.EmbeddingBag(COLUMNS, 3, mode="sum", sparse=True, _weight=weight)
    optimizer = torch.optim.SparseAdam(bag.parameters(), lr=0.03, eps=1e-3)
    for step in range(100):
        csr, _, y = batch(step)
        targets = np.repeat(y[:, None], 3, axis=1)
        t.step(csr, targets)
        ids, values = torch.tensor(csr.indices.reshape(ROWS, -1)), torch.tensor(csr.data.reshape(ROWS, -1))
        loss = ((torch.tanh(bag(ids, per_sample_weights=values)) - torch.tensor(targets)) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    np.testing.assert_allclose(net.tensors["dense_0.weight"].T, bag.weight.detach().numpy(), rtol=1e-12, atol=1e-12)


# ---- bits ----


@pytest.mark.parametrize("spec", EQUAL + LAZY)
def test_saving_copying_and_looking_do_not_change_what_follows(spec, tmp_path, dtype):
    def saved(t):
        t.save(tmp_path / "t.st")
        return bp.Trainer.load(tmp_path / "t.st")

    ways = {
        "flush": lambda t: (t.net.flush(), t)[1], "params": lambda t: (t.net.params, t)[1], "state": lambda t: (t.state, t)[1],
        "save": saved, "save and keep": lambda t: (saved(t), t)[1], "pickle": lambda t: pickle.loads(pickle.dumps(t)),
        "copy": copy.copy, "deepcopy": copy.deepcopy, "evaluate": lambda t: (t.evaluate(*batch(5)[::2]), t)[1],
        "predict": lambda t: (t.predict(batch(5)[0]), t)[1], "copy of the net": lambda t: (t.net.copy(), t)[1],
    }  # fmt: skip
    found = {}
    for name, way in ways.items():
        t = trainer(OptimizerSpec.parse(spec), dtype=dtype, clip_norm=1.0)
        run(t, 0, 20)
        t = way(t)
        run(t, 20, 35)
        found[name] = state(t).tobytes()
    assert {name for name, bits in found.items() if bits != found["flush"]} == set()


@pytest.mark.parametrize("units", [3, 37, 130])
def test_a_row_that_only_decays_has_nothing_added_to_it(units, isa, dtype):
    x = bp.Input(COLUMNS)
    net = bp.Network(x, bp.Dense(units)(x), dtype=dtype, seed=0)
    t = bp.Trainer(net, "mse", bp.AdamW(weight_decay=0.1))
    net.tensors["dense_0.weight"][:] = -0.0
    csr, dense, _ = batch(0)
    t.step(csr, np.ones((ROWS, units)))
    missed = net.tensors["dense_0.weight"][:, ~dense.any(axis=0)]
    assert missed.size and np.signbit(missed).all() and not missed.any()


@pytest.mark.parametrize("spec", ["adamw", "sgd_momentum(weight_decay=0.1)", "ftrl(lr=0.1)"])
def test_bits_do_not_depend_on_threads_or_kernels(spec, isa, dtype):
    found = set()
    for n_threads in (1, 2, 3):
        x = bp.Input(5000)
        net = bp.Network(x, bp.Dense(1)(bp.Dense(130, "relu")(x)), dtype=dtype, seed=0, n_threads=n_threads)
        t = bp.Trainer(net, "mse", OptimizerSpec.parse(spec))
        for step in range(6):
            csr, _, y = batch(step, rows=200, columns=5000, ones=30)
            t.step(csr, y)
        found.add(state(t).tobytes())
    assert len(found) == 1


def test_a_view_that_was_kept_is_stale_until_flush():
    t, by_hand = (trainer(bp.AdamW(lr=0.1, weight_decay=0.5)) for _ in range(2))
    view = t.net.params
    run(t, 0, 3)
    run(by_hand, 0, 3)
    expected = by_hand.net.params.copy()
    assert not np.array_equal(view, expected)
    t.net.flush()
    np.testing.assert_array_equal(view, expected)


@pytest.mark.parametrize("look", ["fit", "epochs"])
def test_records_see_parameters_that_are_up_to_date(look):
    t = trainer(bp.AdamW(lr=0.1, weight_decay=0.5))
    view, seen = t.net.params, []
    csr, _, y = batch(0, rows=30)

    def compare(record):
        before = view.copy()
        seen.append(np.array_equal(before, t.net.params))

    if look == "fit":
        t.fit(csr, y, epochs=2, batch_size=4, callback=compare)
    else:
        for record in t.epochs(csr, y, batch_size=4):
            compare(record)
            if record.epoch == 2:
                break
    assert seen == [True, True]


def test_two_trainers_of_a_net_take_turns():
    lazy, dense = [], []
    for found, kind in ((lazy, 0), (dense, 1)):
        t = trainer(bp.SGD(lr=0.1, weight_decay=0.1))
        other = bp.Trainer(t.net, "mse", bp.SGD(lr=0.05, weight_decay=0.3))
        for step in range(0, 40, 4):
            run(t, step, step + 3, kind)
            csr, full, y = batch(step + 3)
            other.step(full if kind else csr, y)
            if step == 20:  # its rows are brought up to date before it goes
                del other
                other = bp.Trainer(t.net, "mse", bp.SGD(lr=0.05, weight_decay=0.3))
        found.append(t.net.params.copy())
    np.testing.assert_allclose(lazy[0], dense[0], rtol=1e-12)


def test_settings_that_change_between_steps_act_from_then_on():
    found = []
    for kind in (0, 1):
        t = trainer("sgd_momentum")
        for start, change in enumerate([
            lambda t: setattr(t, "weight_decay", 0.1), lambda t: t.net.set_layer("dense_0", lr=0.3), lambda t: t.net.freeze("dense_0"),
            lambda t: t.net.unfreeze(), lambda t: t.net.set_layer("dense_0", lr=0), lambda t: t.net.set_layer("dense_0", lr=1),
            lambda t: setattr(t, "weight_decay", 0), lambda t: t.net.params.__imul__(0.5), lambda t: setattr(t, "steps", 3),
        ]):  # fmt: skip
            run(t, 7 * start, 7 * start + 7, kind)
            change(t)
        run(t, 100, 107, kind)
        found.append(state(t))
    np.testing.assert_allclose(found[0], found[1], rtol=1e-12, atol=1e-13)


# ---- what is refused ----


def refused(t, words):
    csr, _, y = batch(0)
    before = state(t)
    with pytest.raises(ValueError, match=f"layer dense_0 has sparse rows, {words}"):
        t.step(csr, y)
    with pytest.raises(ValueError, match=f"layer dense_0 has sparse rows, {words}"):
        t.fit(csr, y, epochs=1)
    np.testing.assert_array_equal(state(t), before)
    assert t.steps == 0


@pytest.mark.parametrize("name", REFUSED)
def test_other_optimizers_are_refused_by_name(name, backend):
    t = trainer(OptimizerSpec.parse(name), backend)
    refused(t, f"but {name} changes all rows in each step: use another optimizer, such as adam or sgd_momentum, or pass dense arrays")
    assert t.grads.size  # no layer has become sparse
    t.step(batch(0)[1], batch(0)[2])


def test_the_lists_have_every_optimizer():
    names = {spec.partition("(")[0] for spec in EQUAL + LAZY} | set(REFUSED)
    assert names == {row[0] for row in bp.core._core.formulas("optimizer")}


@pytest.mark.parametrize("name", ["adam", "adagrad", "adadelta", "rmsprop", "rmsprop_momentum", "rmsprop_centered", "ftrl"])
def test_weight_decay_in_the_gradient_is_refused(name, backend):
    t = trainer(OptimizerSpec.parse(f"{name}(weight_decay=0.1)"), backend)
    instead = "use adamw, " if name == "adam" else ""
    refused(t, f"but {name} with weight_decay changes all rows in each step: set weight_decay to 0, {instead}or pass dense arrays")
    t.weight_decay = 0
    t.step(*batch(0)[::2])
    t.weight_decay = 0.1
    with pytest.raises(ValueError, match="with weight_decay"):
        t.step(batch(0)[1], batch(0)[2])


@pytest.mark.parametrize("name", ["l1", "l2", "max_norm"])
def test_settings_of_layers_that_change_all_rows_are_refused(name, backend):
    t = trainer("adam", backend)
    t.net.set_layer("dense_0", **{name: 0.1})
    refused(t, f"but its {name} changes all rows in each step: set {name} to 0, or pass dense arrays")
    t.net.set_layer("dense_0", **{name: 0})
    t.net.set_layer("dense_1", **{name: 0.1})  # reads no sparse rows
    t.step(*batch(0)[::2])


def test_averages_are_refused(backend):
    refused(trainer("adam", backend, average=bp.EMA()), "of which no average is kept: use a trainer without an average, or pass dense")


def test_gradients_of_sparse_layers_are_found_by_layer(backend):
    t = trainer("adam", backend)
    with pytest.raises(KeyError, match="no layer of this trainer is sparse"):
        t.sparse_grads["dense_0"]
    assert dict(t.sparse_grads) == {}
    t.step(*batch(0)[::2])
    with pytest.raises(ValueError, match=r"grads: layer 'dense_0' has sparse rows, .* t\.sparse_grads\['dense_0'\]"):
        t.grads  # noqa: B018
    with pytest.raises(KeyError, match="unknown sparse layer 'dense_1'; did you mean 'dense_0'"):
        t.sparse_grads["dense_1"]
    t.step(batch(1)[1], batch(1)[2])
    assert t.sparse_grads["dense_0"][0].tolist() == list(range(COLUMNS))  # a dense batch names all rows
    t.reset()
    assert dict(t.sparse_grads) == {} and not t.grads.any()


def test_a_frozen_layer_takes_sparse_rows_and_has_no_gradient(backend):
    t = trainer("nadam", backend)
    t.net.freeze("dense_0")
    before = t.net.tensors["dense_0.weight"].copy()
    t.step(*batch(0)[::2])
    assert dict(t.sparse_grads) == {}
    np.testing.assert_array_equal(t.net.tensors["dense_0.weight"], before)


def test_predictions_of_other_threads_are_refused_while_rows_are_late():
    t, found = trainer(bp.AdamW()), []

    def predict():
        try:
            found.append(t.net.predict(batch(0)[0]).shape)
        except RuntimeError as error:
            found.append(str(error))

    for late in (True, False):
        if late:
            t.step(*batch(0)[::2])
        else:
            t.net.flush()
        with t._engine.hold():
            thread = threading.Thread(target=predict)
            thread.start()
            thread.join()
    assert "in use by another thread" in found[0] and found[1] == (ROWS, 1)
