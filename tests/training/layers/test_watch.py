"""fit(watch="layers"): the entries of the history, and that the training keeps its bits."""

import math
import time
import types

import cases
import graphs
import numpy as np
import pytest
from optimizer_cases import OPTIMIZERS
from ranks_threads import RanksError, run_ranks

import microbp as bp
from microbp.training.layers.measure import LayerNorms
from microbp.training.loop import watch_layers

RNG = np.random.default_rng(0)
X = RNG.normal(size=(50, 4))
Y = np.stack([X[:, 0] * X[:, 1], np.sin(X[:, 2])], axis=1)
LABELS = (X[:, 0] > 0).astype(int)
WEIGHT = RNG.uniform(0, 2, 50) * (np.arange(50) % 5 > 0)


def chain(backend, activation="tanh", dtype="float32"):
    return bp.mlp([4, 6, 5, 2], activation=activation, dtype=dtype, seed=0, backend=backend)


def snapshot(t):
    """Everything that training changes, as bytes."""

    def flat(value):
        if isinstance(value, dict):
            return {key: flat(one) for key, one in value.items()}
        return value.tobytes() if isinstance(value, np.ndarray) else repr(value)

    return flat(t._engine.snapshot())


def same_training(make, *data, epochs=3, **fit):
    """Fits without and with a watch, whose trainers must be the same to the bit. Returns the second one."""
    plain, watched = make(), make()
    plain.fit(*data, epochs=epochs, **fit)
    watched.fit(*data, epochs=epochs, watch="layers", **fit)
    assert snapshot(plain) == snapshot(watched)
    entries = [f"{layer.name}.{name}" for layer in watched.net.layers for name in LayerNorms._fields]
    kept = {name: values for name, values in watched.history.items() if name not in entries}
    for name, values in plain.history.items():
        assert name == "seconds" or str(values) == str(kept[name]), name
    assert set(kept) == set(plain.history) and {len(values) for values in watched.history.values()} == {len(watched.history["loss"])}
    return watched


@pytest.fixture(autouse=True)
def all_epochs(monkeypatch):
    """The clock allows all measurements; tests of the clock set _SHARE themselves."""
    monkeypatch.setattr(watch_layers, "_SHARE", math.inf)


# ---- bits ----


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_keeps_its_bits(name, backend):
    t = same_training(lambda: bp.Trainer(chain(backend), "mse", OPTIMIZERS[name].spec), X, Y, batch_size=8)
    assert all(np.isfinite(t.history[f"dense_{i}.{field}"]).all() for i in range(3) for field in LayerNorms._fields)


FITS = {
    "solver": (dict(optimizer=bp.LBFGS()), {}),
    "levenberg_marquardt": (dict(optimizer=bp.LevenbergMarquardt()), {}),
    "own loss": (dict(loss=cases.own_mse), {}),
    "average, clip": (dict(average=bp.EMA(0.9), clip_norm=0.5), {}),
    "accumulate": ({}, dict(accumulate=3)),
    "batch_callback": ({}, dict(batch_callback=lambda record: None)),
    "schedule": ({}, dict(schedule=bp.Cosine(lr=0.1), schedules={"dropout": bp.Cosine(0.5)})),
    "weights, rows": ({}, dict(sample_weight=WEIGHT, rows=np.arange(0, 50, 2))),
    "validation, metrics": ({}, dict(validation=0.2, metrics="r2", patience=2)),
    "scaled targets": (dict(standardize_targets=True), {}),
    "one batch": ({}, dict(batch_size=500, shuffle=False)),
}


@pytest.mark.parametrize("name", FITS)
def test_every_kind_of_fit_keeps_its_bits(name, backend):
    trainer, fit = FITS[name]
    is_solver = "optimizer" in trainer
    make = lambda: bp.Trainer(chain(backend), **{"loss": "mse", "optimizer": bp.Adam(lr=0.01), "seed": 3} | trainer)  # noqa: E731
    t = same_training(make, X, Y, **({} if is_solver else {"batch_size": 8}) | fit)
    assert np.isfinite(t.history["dense_1.update"]).all() and min(t.history["dense_1.update"]) > 0


@pytest.mark.parametrize("shape", [*graphs.SHAPES, "embedded"])
def test_every_graph_keeps_its_bits(shape, backend):
    """With dropout, noise, norms, several outputs, positions, recurrent layers, ids."""
    rows = graphs.rows_of(graphs.network(shape), 12)
    widths = [math.prod(output.row_shape) for output in graphs.network(shape).outputs]
    y = [np.ones((12, width)) for width in widths]
    losses, y = (["mse"] * len(y), y) if len(y) > 1 else ("mse", y[0])
    t = same_training(lambda: bp.Trainer(graphs.network(shape, backend=backend), losses, "adam"), rows, y, epochs=2, batch_size=5)
    assert [name for name in t.history if name.endswith(".activation")] == [f"{layer.name}.activation" for layer in t.net.layers]


def test_streams_keep_their_bits(backend):
    chunks = [(X[:13], Y[:13]), (X[13:20], Y[13:20]), (X[20:], Y[20:])]
    t = same_training(lambda: bp.Trainer(chain(backend), "mse"), chunks, batch_size=8)
    whole = same_training(lambda: bp.Trainer(chain(backend), "mse"), X, Y, batch_size=8)
    assert np.isfinite(t.history["dense_0.update"]).all()
    assert set(t.history) == set(whole.history)


@pytest.mark.parametrize(
    "optimizer", ["sgd(weight_decay=0.05)", "sgd_momentum(momentum=0.8)", "adam", "ftrl(l1=0.01)", "adadelta(rho=0.8)"]
)
@pytest.mark.parametrize("fit", [{}, {"accumulate": 2}, {"batch_callback": lambda record: None}], ids=["plain", "accumulate", "looped"])
def test_sparse_rows_keep_their_bits(optimizer, fit, backend):
    """Rows that batches do not name catch up later, at the same time as without a watch."""
    columns = np.stack([RNG.integers(0, 30, 120), RNG.integers(30, 60, 120)], axis=1)
    parts = {"data": np.ones(240), "indices": columns.ravel().astype(np.int32), "indptr": np.arange(121, dtype=np.int32) * 2}
    rows = types.SimpleNamespace(**parts, shape=(120, 60))

    def make():
        x = bp.Input(60)
        return bp.Trainer(bp.Network(x, bp.Dense(1)(bp.Dense(3, "tanh")(x)), seed=0, backend=backend), "mse", optimizer)

    t = same_training(make, rows, columns[:, 0] / 30, batch_size=4, **fit)
    assert np.isnan(t.history["dense_0.update"]).all() and np.isfinite(t.history["dense_0.gradient"]).all()
    assert np.isfinite(t.history["dense_1.update"]).all()


def test_carried_states_and_lengths_keep_their_bits(backend):
    def make():
        x = bp.Sequence(5, 2)
        return bp.Trainer(bp.Network(x, bp.Dense(1)(bp.Recurrent(3, "lstm")(x)), seed=0, backend=backend), "mse")

    rows, lengths = RNG.normal(size=(12, 5, 2)), np.arange(12) % 5 + 1
    same_training(make, rows, rows[..., :1], batch_size=4, carry_state=True)
    t = same_training(make, rows, rows[..., :1], batch_size=4, lengths=lengths)
    assert np.isfinite(t.history["recurrent_0.activation"]).all()


# ---- entries ----


def test_an_epoch_is_measured_by_its_last_update(backend):
    """A loop over steps finds the same numbers."""
    t, by_hand = (bp.Trainer(chain(backend, dtype="float64"), "mse", "adam") for _ in range(2))
    history = t.fit(X, Y, epochs=2, batch_size=16, shuffle=False, watch="layers")
    for epoch in range(2):
        for first in range(0, 50, 16):
            before = {name: view.copy() for name, view in by_hand.net.tensors.items()}
            by_hand.step(X[first : first + 16], Y[first : first + 16])
        values = by_hand.net.predict(X[48:], at="dense_1")
        assert history["dense_1.activation"][epoch] == pytest.approx(np.sqrt(np.mean(values**2)), rel=1e-12)
        names = ("dense_1.weight", "dense_1.bias")
        tensors, change = ({name: view - (before[name] if minus else 0) for name, view in by_hand.net.tensors.items()} for minus in (0, 1))
        for entry, found in (("weight", tensors), ("update", change)):
            expected = math.hypot(*(np.linalg.norm(found[name]) for name in names))
            assert history[f"dense_1.{entry}"][epoch] == pytest.approx(expected, rel=1e-9)


def test_callbacks_and_files_get_the_entries(tmp_path):
    seen, path = [], tmp_path / "run.safetensors"
    t = bp.Trainer(chain("compiled"), "mse")
    t.fit(X, Y, epochs=1)
    t.fit(X, Y, epochs=2, watch="layers", callback=seen.append, checkpoint=path)
    assert [record["dense_0.gradient"] for record in seen] == t.history["dense_0.gradient"][1:]
    assert math.isnan(t.history["dense_0.gradient"][0])
    again = bp.Trainer.load(path)
    assert str(again.history) == str(t.history)
    again.fit(X, Y, epochs=1)
    assert {len(values) for values in again.history.values()} == {4} and math.isnan(again.history["dense_2.update"][-1])
    bp.save_history(again.history, tmp_path / "history.csv")
    assert "dense_2.update" in (tmp_path / "history.csv").read_text().splitlines()[0]


def test_a_fit_goes_on_from_a_checkpoint_with_the_same_bits(tmp_path):
    path = tmp_path / "run.safetensors"
    whole, first = (bp.Trainer(chain("compiled"), "mse", seed=4) for _ in range(2))
    whole.fit(X, Y, epochs=5)
    first.fit(X, Y, epochs=2, watch="layers", checkpoint=path)
    second = bp.Trainer.load(path)
    second.fit(X, Y, epochs=3, watch="layers")
    assert snapshot(second) == snapshot(whole)


def test_epochs_are_passed_over_to_save_time(monkeypatch):
    """The first and the last one are measured; those between, if there is time."""
    monkeypatch.setattr(watch_layers, "_SHARE", 0.0)
    gradients = bp.Trainer(chain("compiled"), "mse").fit(X, Y, epochs=6, watch="layers")["dense_0.gradient"]
    assert np.isnan(gradients).tolist() == [False, True, True, True, True, False]
    monkeypatch.undo()
    history = bp.Trainer(chain("compiled"), "mse").fit(X, Y, epochs=40, watch="layers", batch_callback=lambda record: time.sleep(5e-3))
    assert np.isfinite(history["dense_0.gradient"]).sum() > 10  # 10 ms an epoch, of which 0.1 ms are allowed


def test_an_epoch_that_ends_early_is_not_measured():
    t = bp.Trainer(chain("compiled"), "mse")
    history = t.fit(X, Y, epochs=3, batch_size=8, watch="layers", batch_callback=lambda record: record.steps == 9)
    assert np.isnan(history["dense_0.update"]).tolist() == [False, True]


def test_the_progress_line_stays_short(capfd):
    bp.Trainer(chain("compiled"), "mse").fit(X, Y, epochs=2, watch="layers", progress=True)
    assert "loss" in (shown := capfd.readouterr().err) and "dense_0" not in shown


# ---- mistakes ----


@pytest.mark.parametrize(
    ("given", "error", "text"),
    [
        ({"watch": "layer"}, ValueError, "'layer'; did you mean 'layers'?"),
        ({"watch": True}, TypeError, "watch"),
        ({"watch": "layers", "metrics": {"dense_0.weight": "r2"}}, ValueError, "adds the entry 'dense_0.weight'"),
    ],
)
def test_mistakes_are_refused(given, error, text, backend):
    t = bp.Trainer(chain(backend), "mse")
    before = snapshot(t)
    with pytest.raises(error, match="watch") as caught:
        t.fit(X, Y, epochs=1, **given)
    assert text in str(caught.value)
    assert snapshot(t) == before and t.history == {}


def test_several_processes_are_refused():
    def work(comm):
        bp.Trainer(chain("compiled"), "mse", comm=comm).fit(X, Y, epochs=1, watch="layers")

    with pytest.raises(RanksError, match="works in one process only"):
        run_ranks(2, work)
