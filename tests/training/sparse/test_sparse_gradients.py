"""Gradients of sparse layers between calls: copies and files keep them, a call that fails does not touch them, apply checks them again."""

from __future__ import annotations

import copy
import pickle
import types

import numpy as np
import pytest

import microbp as bp
from microbp.core.specs import OptimizerSpec
from microbp.training import trainer_file

COLUMNS, ROWS = 30, 6
OPTIMIZERS = ["sgd(weight_decay=0.1)", "sgd_momentum(momentum=0.8,weight_decay=0.04)", "adagrad", "rmsprop", "ftrl(l1=0.01)",
              "rmsprop_momentum(momentum=0.8)", "adam(beta1=0.8)", "adamw(weight_decay=0.2)"]  # fmt: skip


def batch(step, width=COLUMNS):
    """Sparse rows with one value each, of a few columns; the same dense; targets."""
    random = np.random.default_rng(step)
    columns, values = random.choice(width // 2, ROWS) * 2, random.normal(size=ROWS)
    dense = np.zeros((ROWS, width))
    dense[np.arange(ROWS), columns] = values
    csr = types.SimpleNamespace(data=values, indices=columns, indptr=np.arange(ROWS + 1), shape=dense.shape)
    return csr, dense, random.normal(size=ROWS)


def trainer(optimizer="adam", backend="compiled", loss="mse", **options):
    x = bp.Input(COLUMNS)
    net = bp.Network(x, bp.Dense(1)(bp.Dense(3, "tanh")(x)), dtype="float64", seed=0, backend=backend)
    return bp.Trainer(net, loss, OptimizerSpec.parse(optimizer) if isinstance(optimizer, str) else optimizer, **options)


def state(t):
    """All bits that an update reads or changes."""
    engine = t._engine.state()
    return pickle.dumps([t.net.params, dict(t.state), engine["grads"], repr(engine.get("sparse")), engine["losses"], t.steps])


def trained(optimizer, backend):
    """A trainer between backward and apply, some rows of which are late."""
    t = trainer(optimizer, backend, clip_norm=0.5)
    for step in range(3):
        csr, _, y = batch(step)
        t.step(csr, y)
    t.backward(*batch(3)[::2])
    t.backward(*batch(4)[::2], accumulate=True)
    return t


def saved(t, path, backend):
    t.save(path)
    return bp.Trainer.load(path, backend=backend)


WAYS = {
    "copy": lambda t, _, __: copy.copy(t),
    "deepcopy": lambda t, _, __: copy.deepcopy(t),
    "pickle": lambda t, _, __: pickle.loads(pickle.dumps(t)),
    "file": saved,
    "file of the other backend": lambda t, path, backend: saved(
        saved(t, path, "reference" if backend == "compiled" else "compiled"), path, backend
    ),
    "snapshot": lambda t, _, __: (t._engine.restore(t._engine.snapshot()), t)[1],
    "snapshot, trained on dense rows": lambda t, _, __: other_training(t, 1),
    "snapshot, trained on sparse rows": lambda t, _, __: other_training(t, 0),
    "lr_find": lambda t, _, __: (bp.lr_find(t, batch(9)[0], batch(9)[2], batch_size=2, num_it=10), t)[1],
}  # fmt: skip


def other_training(t, kind):
    before = t._engine.snapshot()
    for step in range(5, 8):
        t.step(batch(step)[kind], batch(step)[2])
    t._engine.restore(before)
    return t


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("way", WAYS)
def test_copies_have_the_whole_gradient(way, optimizer, backend, tmp_path):
    straight, t = trained(optimizer, backend), trained(optimizer, backend)
    straight.net.flush()
    t = WAYS[way](t, tmp_path / "t.safetensors", backend)
    assert state(t) == state(straight)
    for one in (straight, t):
        one.apply()
        csr, _, y = batch(20)
        one.step(csr, y)
    assert state(t) == state(straight)


def test_early_stopping_and_its_file_keep_the_gradient(backend, tmp_path):
    t = trainer("adam", backend)
    csr, _, y = batch(0)
    t.fit(csr, y, epochs=4, batch_size=3, validation=(csr, y), patience=2)
    t._run.best = None
    t.fit(csr, y, epochs=2, batch_size=3, validation=(csr, y), patience=20)
    before = state(t)
    assert state(saved(t, tmp_path / "t.safetensors", backend)) == before


WRONG_LINES = [
    ("dense_0 1", [0, 99]), ("dense_0 1", [0, -1]), ("dense_0 1", [1, 0]), ("dense_0 2", [0, 5, 0, 5]), ("dense_9 1", [0, 5]),
    ("dense_0", [0, 5]), ("dense_0 x", [0, 5]), ("dense_0 2", [0, 5]), ("dense_0 1", [0, 5, 0, 6]), ("dense_0 1 dense_0 1", [0, 5, 0, 6]),
    ("dense_0 1", [0]), ("", [0, 5]), ("dense_0 1", None),
]  # fmt: skip


@pytest.mark.parametrize(("line", "rows"), WRONG_LINES)
def test_wrong_rows_in_files_are_refused(line, rows, backend, tmp_path):
    t = trained("adam", backend)
    text, vectors = trainer_file.encode(t.net, t.__getstate__())
    lines = [f"sparse={line}" if one.startswith("sparse=") else one for one in text.splitlines()]
    assert lines != text.splitlines() and vectors.pop("trainer.state.sparse")
    if rows is not None:
        vectors["trainer.state.sparse"] = np.array(rows, t.net.dtype).tobytes()
    t.net._core.save_with(tmp_path / "t.safetensors", "\n".join(lines) + "\n", vectors)
    with pytest.raises(ValueError, match="the trainer's state is invalid"):
        bp.Trainer.load(tmp_path / "t.safetensors", backend=backend)


# ---- apply ----

CHANGES = {
    "weight_decay": lambda t: setattr(t, "weight_decay", 0.1),
    "max_norm": lambda t: t.net.set_layer("dense_0", max_norm=0.05),
    "l1": lambda t: t.net.set_layer("dense_0", l1=0.1),
    "l2": lambda t: t.net.set_layer("dense_0", l2=0.1),
}


@pytest.mark.parametrize("optimizer", ["adam", "adagrad", "ftrl"])
@pytest.mark.parametrize("change", CHANGES)
def test_apply_refuses_what_changes_all_rows(change, optimizer, backend):
    t = trained(optimizer, backend)
    before = state(t)
    CHANGES[change](t)
    for call in (t.apply, lambda: t.step(*batch(1)[::2]), lambda: t.backward(*batch(1)[::2], accumulate=True)):
        with pytest.raises(ValueError, match=rf"layer dense_0 has sparse rows, but .*{change}.* changes all rows in each step"):
            call()
    assert state(t) == before
    t.net.freeze("dense_0")  # so that no row changes
    t.apply()


def test_backward_from_and_own_losses_refuse_it_too(backend):
    t = trainer("adam", backend)
    outputs = t.forward(batch(0)[0])
    t.weight_decay = 0.1
    before = state(t)
    with pytest.raises(ValueError, match="adam with weight_decay changes all rows"):
        t.backward_from(outputs)
    assert state(t) == before and t.grads.size

    def loss(outputs, targets, weight):
        own.weight_decay = 0.1
        return 0.0, outputs

    own = trainer("adam", backend, loss)
    before = state(own)
    with pytest.raises(ValueError, match="adam with weight_decay changes all rows"):
        own.step(*batch(0)[::2])
    assert state(own) == before and own.grads.size


# ---- calls that fail ----


def with_nan(csr):
    return types.SimpleNamespace(**vars(csr) | {"data": np.where(np.arange(ROWS) == 4, np.nan, csr.data)})


FAULTS = {
    "NaN in y": lambda t, csr, y: t.step(csr, np.full(ROWS, np.nan)),
    "NaN in y, backward": lambda t, csr, y: t.backward(csr, np.full(ROWS, np.nan), accumulate=True),
    "NaN in X": lambda t, csr, y: t.step(with_nan(csr), y),
    "NaN in X, fit": lambda t, csr, y: t.fit(with_nan(csr), y, epochs=1),
    "too few targets": lambda t, csr, y: t.step(csr, y[:3]),
    "input_grads": lambda t, csr, y: t.backward(csr, y, input_grads=True),
    "lr_find": lambda t, csr, y: bp.lr_find(t, with_nan(csr), y),
    "a batch after backward_from fails": lambda t, csr, y: (t.forward(csr), t.backward_from(np.ones((ROWS, 2)))),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_first_sparse_batch_that_is_refused_changes_nothing(fault, backend):
    t = trainer("adam", backend)
    csr, dense, y = batch(0)
    t.backward(dense, y)
    before, grads = state(t), t.grads.copy()
    with pytest.raises((ValueError, FloatingPointError)):
        FAULTS[fault](t, csr, y)
    assert state(t) == before
    assert dict(t.sparse_grads) == {} and t.grads.tobytes() == grads.tobytes()
    t.step(csr, y)
    assert list(t.sparse_grads) == ["dense_0"]


def test_a_first_sparse_step_with_an_infinite_gradient_makes_no_layer_sparse(backend):
    found = []
    for kind in (0, 1):
        t = trainer("adam", backend)
        csr, dense, y = batch(0)
        t.backward(dense, y)
        huge = types.SimpleNamespace(**vars(csr) | {"data": csr.data * 1e200})
        t.net.tensors["dense_1.weight"][...] = 1e150
        t.net.tensors["dense_0.weight"][...] *= 1e-200
        params = t.net.params.copy()
        with pytest.raises(FloatingPointError, match=r"the gradient of layer dense_0 \(weight\) is not finite"):
            t.step(dense * 1e200 if kind else huge, y)
        assert dict(t.sparse_grads) == {} and t.steps == 0 and t.net.params.tobytes() == params.tobytes()
        found.append(t.grads.tobytes())
        t.net.tensors["dense_1.weight"][...] = 0.1
        t.step(csr, y)
        t.step(dense, y)
        found.append(state(t))
        assert list(t.sparse_grads) == ["dense_0"]
    assert found[:2] == found[2:]


def test_an_own_loss_that_raises_changes_nothing(backend):
    def loss(outputs, targets, weight):
        raise KeyError("mine")

    t = trainer("adam", backend, loss)
    t.grads[...] = np.arange(len(t.grads))
    before = state(t)
    with pytest.raises(KeyError, match="mine"):
        t.step(*batch(0)[::2])
    assert state(t) == before and dict(t.sparse_grads) == {}


# ---- which rows a gradient names ----


@pytest.mark.parametrize("earlier", ["nothing", "reset", "dense", "sparse", "zeros"])
def test_accumulate_names_the_rows_of_the_gradient_so_far(earlier, backend):
    t, (csr, dense, y) = trainer("sgd", backend), batch(0)
    twice = earlier in ("dense", "sparse")
    if earlier == "reset":
        t.backward(dense, y)
        t.reset()
    elif earlier != "nothing":
        t.backward({"dense": dense, "sparse": csr, "zeros": csr}[earlier], y if twice else t.predict(csr))
    t.backward(csr, y, accumulate=True)
    rows, values = t.sparse_grads["dense_0"]
    assert rows.tolist() == (list(range(COLUMNS)) if earlier == "dense" else np.unique(csr.indices).tolist())
    expected = trainer("sgd", backend)
    expected.backward(dense, y)
    whole = np.zeros((COLUMNS, 3))
    whole[rows] = values
    np.testing.assert_allclose(whole, (1 + twice) * expected.grads[: COLUMNS * 3].reshape(COLUMNS, 3), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize(
    ("layer", "rows", "words"),
    [
        ("x", [], "layer x is not a dense layer or embedding of this network, or is sparse already"),
        ("dense_0", [], "layer dense_0 is not a dense layer or embedding of this network, or is sparse already"),
        ("dense_1", [0, 3], r"rows\[1\] is 3, but the rows of layer dense_1 must ascend, without repeats, from 0 to 2"),
        ("dense_1", [1, 1], r"rows\[1\] is 1, but the rows of layer dense_1 must ascend"),
        ("dense_1", [-1], r"rows\[0\] is -1, but the rows of layer dense_1 must ascend"),
    ],
)
def test_wrong_rows_are_named(layer, rows, words, backend):
    t = trained("adam", backend)
    before = state(t)
    with pytest.raises(ValueError, match=words):
        t._engine._core.set_sparse(layer, np.array(rows, np.int32).tobytes())
    assert state(t) == before
