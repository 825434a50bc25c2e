"""Trainer files: a loaded trainer continues like the saved one, in another process too. More in files/."""

import os
import subprocess
import sys
from datetime import timedelta

import cases
import graphs
import numpy as np
import pytest
from file_cases import everything

import microbp as bp
from microbp.training.loop import checkpoint as checkpoints
from microbp.training.loop.records.history import Record
from microbp.training.loop.run import Best

ROWS, BATCH = 23, 5

# Run by a new process: loads trainers and continues their training.
CONTINUE = """
import sys, numpy as np, microbp as bp
data = np.load(sys.argv[1])
for path in sys.argv[2:]:
    t = bp.Trainer.load(path)
    t.fit(data["x"], data["y"], epochs=2, batch_size=5, schedule=lambda step: 0.01 / (1 + step))
    t.save(path)
"""


def arrays_for(net, seed=0):
    rng = np.random.default_rng(seed)
    xs = [rng.normal(size=(ROWS, entry.width)) for entry in net.inputs]
    ys = [rng.normal(size=(ROWS, entry.width)) for entry in net.outputs]
    return (xs[0] if len(xs) == 1 else xs), (ys[0] if len(ys) == 1 else ys)


def trainer(net, optimizer="adam"):
    return bp.Trainer(net, ["mse"] * len(net.outputs), optimizer, loss_weights=[0.3 + i for i in range(len(net.outputs))], seed=7)


def test_training_continues_in_a_new_process(dtype, tmp_path):
    """Every optimizer, with a schedule and shuffling: 4 epochs equal 2 epochs, save, load in a new process, 2 more epochs, bit for bit."""
    straight = {}
    for optimizer, case in cases.OPTIMIZERS.items():
        twins = [trainer(graphs.network("skip", dtype=dtype), case.spec) for _ in range(2)]
        x, y = arrays_for(twins[0].net)
        for t, epochs in zip(twins, (4, 2), strict=True):
            t.fit(x, y, epochs=epochs, batch_size=BATCH, schedule=lambda step: 0.01 / (1 + step))
        straight[tmp_path / optimizer] = twins[0]
        twins[1].save(tmp_path / optimizer)
    np.savez(tmp_path / "data", x=x, y=y)
    command = [sys.executable, "-P", "-c", CONTINUE, tmp_path / "data.npz", *straight]
    subprocess.run(list(map(str, command)), check=True, timeout=120)
    for path, t in straight.items():
        assert everything(bp.Trainer.load(path)) == everything(t), path


def test_random_networks_resume(tmp_path):
    """Random graphs, every optimizer: one epoch, save, load, one epoch."""
    names, resumed = list(cases.OPTIMIZERS), 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        inputs, outputs = graphs.draw(rng, ROWS, "tanh", None)
        net = bp.Network(inputs, outputs, dtype=cases.DTYPES[seed % 2], seed=seed)
        x, y = arrays_for(net, seed)
        straight, stopped = (trainer(net.copy(), cases.OPTIMIZERS[names[seed % len(names)]].spec) for _ in range(2))
        try:
            straight.fit(x, y, epochs=2, batch_size=BATCH)
        except FloatingPointError:
            continue
        stopped.fit(x, y, epochs=1, batch_size=BATCH)
        stopped.save(tmp_path / "run")
        loaded = bp.Trainer.load(tmp_path / "run")
        assert everything(loaded) == everything(stopped)
        loaded.fit(x, y, epochs=1, batch_size=BATCH)
        assert everything(loaded) == everything(straight)
        resumed += 1
    assert resumed >= 50


def trained(backend, optimizer="adam"):
    t = bp.Trainer(
        graphs.network("heads", backend=backend), ["huber(delta=0.3)", "mse", "cross_entropy"], optimizer, [1, 0.1, 3.0], seed=2**63
    )
    x, y = arrays_for(t.net)
    y[2] = np.arange(ROWS) % 3
    t.fit(x, y, epochs=2, batch_size=BATCH, validation=(x, y))
    t.net.notes = {"classes": ["a", "b", "c"]}
    t._run.best = Best("val_loss", False, 0.5, 1, t._engine.snapshot())
    return t


@pytest.mark.parametrize("optimizer", ["adam", bp.Adam(0.01, betas=(0.8, 0.9)), bp.SGD(0.1, momentum=0.5, decay_bias=True)], ids=repr)
def test_a_file_contains_everything(backend, optimizer, tmp_path):
    t, path = trained(backend, optimizer), tmp_path / "run"
    t.lr = 0.125
    t.grads[...] = np.arange(len(t.grads)) - 1e-40
    t.save(path)
    for other in ("compiled", "reference"):
        back = bp.Trainer.load(path, backend=other)
        assert everything(back) == everything(t)
        assert back.optimizer == optimizer and back.losses == t.losses and back.history == t.history and back.lr == 0.125
        assert back.net.backend == other and back.net.notes == t.net.notes
        back.save(tmp_path / "again")
        assert (tmp_path / "again").read_bytes() == path.read_bytes()
        net = bp.load(path, backend=other)
        assert net.text() == t.net.text() and net.params.tobytes() == t.net.params.tobytes()
    assert bp.Trainer.load(path, backend=backend, n_threads=2).net.n_threads == 2


def test_a_diverged_history_is_kept(tmp_path):
    t = trainer(graphs.network("chain"))
    t._run.add(Record(epoch=1, loss=float("nan"), val_loss=float("-inf"), metric=np.float64(0.1)))
    t.save(tmp_path / "run")
    assert str(bp.Trainer.load(tmp_path / "run").history) == "{'loss': [nan], 'val_loss': [-inf], 'metric': [0.1]}"


def test_a_network_without_parameters(tmp_path, dtype):
    x = bp.Input(2)
    t = trainer(bp.Network(x, bp.Activation("tanh")(x), dtype=dtype))
    t.save(tmp_path / "run")
    back = bp.Trainer.load(tmp_path / "run")
    assert everything(back) == everything(t) and back.net.dtype == dtype


@pytest.mark.parametrize("reader", ["compiled", "reference"])
def test_a_network_with_running_statistics(backend, reader, tmp_path):
    x = bp.Input(3)
    t = bp.Trainer(bp.Network(x, bp.Dense(2)(bp.BatchNorm()(x)), seed=0, backend=backend), "mse")
    t.step(np.ones((4, 3)), np.ones((4, 2)))
    t.save(tmp_path / "run")
    again = bp.Trainer.load(tmp_path / "run", backend=reader)
    np.testing.assert_array_equal(again.net.buffers, t.net.buffers)
    np.testing.assert_array_equal(again.state["m"], t.state["m"])


@pytest.mark.parametrize("shape", ["chain", "heads"])
def test_a_custom_loss_is_passed_to_load(backend, shape, tmp_path):
    """Everything else is saved: training continues bit for bit."""
    net, path = graphs.network(shape, backend=backend), tmp_path / "run"
    own = [cases.own_mse] * len(net.outputs)
    t = bp.Trainer(net, own, "adam", seed=7)
    x, y = arrays_for(net)
    t.fit(x, y, epochs=2, batch_size=BATCH, checkpoint=path)
    given = own if shape == "heads" else cases.own_mse
    again = bp.Trainer.load(path, backend=backend, loss=given)
    assert again.losses == t.losses and everything(again) == everything(t)
    for one in (t, again):
        one.fit(x, y, epochs=1, batch_size=BATCH)
    assert everything(again) == everything(t)
    line = r"write Trainer\.load\(.*run', loss=" + ("own_mse" if shape == "chain" else r"\[own_mse, own_mse, own_mse\]")
    with pytest.raises(ValueError, match=rf"run: the trainer's loss is the function.* own_mse, which files do not contain; {line}"):
        bp.Trainer.load(path)
    with pytest.raises(ValueError, match=rf"loss has 2 items, but the trainer has . outputs?; {line}"):
        bp.Trainer.load(path, loss=[cases.own_mse] * 2)
    with pytest.raises(TypeError, match="loss must be a function where the trainer had own_mse, not 'mse'"):
        bp.Trainer.load(path, loss=["mse"] * len(own))
    bp.load(path)


def test_a_function_is_refused_for_a_file_with_named_losses(tmp_path):
    trainer(graphs.network("chain")).save(tmp_path / "run")
    with pytest.raises(ValueError, match="run: the trainer has no custom loss, but mse; omit loss="):
        bp.Trainer.load(tmp_path / "run", loss=cases.own_mse)


def test_a_file_without_a_trainer(tmp_path):
    graphs.network("chain").save(tmp_path / "net")
    with pytest.raises(ValueError, match=r"net: contains a network but no trainer; load it with bp\.load"):
        bp.Trainer.load(tmp_path / "net")


class Mine(bp.Constant):
    """A custom schedule."""


class MyRule(bp.EarlyStopping):
    """A custom rule."""


def test_values_that_cannot_be_saved_are_refused(tmp_path):
    t = trainer(graphs.network("chain"))
    for wrong in (object(), {1: 2}, {"$array": 1}, np.zeros(3, "int8"), 1j, Mine(0.1)):
        t._run.schedule = wrong
        with pytest.raises(TypeError, match=r"save: schedule is .* which cannot be saved to a file"):
            t.save(tmp_path / "run")
    assert os.listdir(tmp_path) == []


# ---- checkpoints ----


def test_checkpoint_by_epochs(tmp_path):
    t, path = trainer(graphs.network("chain")), tmp_path / "run"
    x, y = arrays_for(t.net)
    checkpoint, kept = checkpoints.Checkpoints(t._run, bp.Checkpoint(path, every=3), t.save), []
    for _ in range(7):
        t.fit(x, y, epochs=1)
        checkpoint.after_epoch()
        kept.append(bp.Trainer.load(path).epoch if path.exists() else None)
    checkpoint.finish()
    assert kept == [None, None, 3, 3, 3, 6, 6] and bp.Trainer.load(path).epoch == 7


def test_training_continues_from_a_checkpoint_bit_for_bit(tmp_path):
    once, broken, path = trainer(graphs.network("chain")), trainer(graphs.network("chain")), tmp_path / "run"
    x, y = arrays_for(once.net)
    once.fit(x, y, epochs=5)

    def interrupt(record):
        if record.epoch == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        broken.fit(x, y, epochs=5, checkpoint=path, checkpoint_every=2, callback=interrupt)
    resumed = bp.Trainer.load(path)
    assert resumed.epoch == 3
    resumed.fit(x, y, epochs=2, checkpoint=path)
    np.testing.assert_array_equal(bp.Trainer.load(path).net.params, once.net.params)
    with pytest.raises(ValueError, match="every must be"):
        once.fit(x, y, epochs=1, checkpoint=path, checkpoint_every=0)


def stop_early(t, epochs, **arguments):
    """A fit that early stopping ends after 11 epochs; the 8th is the best."""
    rng = np.random.default_rng(0)
    x, held_out = rng.normal(size=(2, ROWS, 4))
    y, right = (np.sin(rows[:, :2] * rows[:, 2:]) for rows in (x, held_out))
    noise = 0.3 * rng.normal(size=y.shape)
    t.fit(x, y + noise, epochs=epochs, batch_size=BATCH, validation=(held_out, right), patience=3, **arguments)


def interrupt_after(epoch):
    def callback(record):
        if record["epoch"] == epoch:
            raise KeyboardInterrupt

    return callback


@pytest.mark.parametrize("pause", [1, 5, 8, 9, 10])
def test_early_stopping_continues_from_a_checkpoint(backend, pause, tmp_path):
    """With the best epoch so far, a schedule as long as the fit, and dropout."""
    x = bp.Input(4)
    net = bp.Network(x, bp.Dense(2)(bp.Dropout(0.1)(bp.Dense(5, activation="tanh", init="glorot_uniform")(x))), backend=backend, seed=3)
    once, broken, path = trainer(net.copy()), trainer(net.copy()), tmp_path / "run"
    stop_early(once, 30, schedule="cosine(lr=0.01)")
    with pytest.raises(KeyboardInterrupt):
        stop_early(broken, 30, schedule="cosine(lr=0.01)", checkpoint=path, checkpoint_every=100, callback=interrupt_after(pause))
    resumed = bp.Trainer.load(path, backend=backend)
    assert resumed.epoch == pause
    assert (resumed.net.params.tobytes() == broken.net.params.tobytes()) == (pause <= 8), "the trainer in memory has the best epoch"
    stop_early(resumed, 30 - pause, schedule=resumed.schedule, checkpoint=path)
    assert once.epoch == 8 and once.steps == 40 and len(once.history["loss"]) == 11
    assert everything(resumed) == everything(once)
    assert everything(bp.Trainer.load(path, backend=backend)) == everything(once), "the state at the end of fit, not of its last epoch"


def test_a_fit_with_another_monitor_ignores_the_best_epoch_before():
    t = trained("compiled")
    x, y = arrays_for(t.net)
    y[2] = np.arange(ROWS) % 3
    t.fit(x, y, epochs=1, patience=1, monitor="loss")  # the best epoch so far was chosen by val_loss
    assert t._run.best is None and t.epoch == 3 and t.steps == 11


def test_a_diverged_run_does_not_replace_its_checkpoint(tmp_path):
    t, path = trainer(graphs.network("chain"), bp.SGD(0.01)), tmp_path / "run"
    x, y = arrays_for(t.net)

    def diverge(record):
        if record.epoch == 4:
            t.lr = 1e30

    with pytest.raises(FloatingPointError):
        t.fit(x, y, epochs=9, checkpoint=bp.Checkpoint(path, every=3), callback=diverge)
    assert bp.Trainer.load(path).epoch == 3 and t.epoch in (4, 5)


def test_checkpoint_by_time(tmp_path, monkeypatch):
    now, path = [0.0], tmp_path / "run"
    monkeypatch.setattr(checkpoints.time, "monotonic", lambda: now[0])
    t = trainer(graphs.network("chain"))
    checkpoint, kept = checkpoints.Checkpoints(t._run, bp.Checkpoint(path, timedelta(minutes=1)), t.save), []
    for now[0] in (30, 60, 61, 119, 120):
        t.fit(*arrays_for(t.net), epochs=1)
        checkpoint.after_epoch()
        kept.append(bp.Trainer.load(path).epoch if path.exists() else None)
    assert kept == [None, 2, 2, 2, 5]
    checkpoint.finish()
    assert bp.Trainer.load(path).epoch == 5


def test_invalid_checkpoints_are_refused(tmp_path):
    t = trainer(graphs.network("chain"))

    def refused(error, words, **options):
        with pytest.raises(error, match=words):
            t.fit(*arrays_for(t.net), epochs=1, **options)
        assert (t.steps, t.history) == (0, {})

    for every, error in ((0, ValueError), (True, TypeError), (1.5, TypeError), ("1", TypeError), (timedelta(), ValueError)):
        refused(error, "every must be", checkpoint=tmp_path / "run", checkpoint_every=every)
    refused(TypeError, "path must be", checkpoint=3)
    refused(ValueError, "needs checkpoint=", checkpoint_every=5)
    refused(ValueError, "omit checkpoint_every", checkpoint=bp.Checkpoint(tmp_path / "run", every=2), checkpoint_every=5)
    refused(OSError, "nowhere does not exist; create it first", checkpoint=tmp_path / "nowhere" / "run")
    refused(OSError, "is a directory; pass the path of a file", checkpoint=tmp_path)
    refused(TypeError, "schedule is Mine", checkpoint=tmp_path / "run", schedule=Mine(0.1))
    refused(TypeError, "stop is MyRule", checkpoint=tmp_path / "run", stop=MyRule(3, "loss"))
    (tmp_path / "locked").write_bytes(b"")
    (tmp_path / "locked").chmod(0o444)
    refused(OSError, "is read-only; make it writable", checkpoint=tmp_path / "locked")
    os.mkfifo(tmp_path / "fifo")
    refused(OSError, "is not a regular file", checkpoint=tmp_path / "fifo")
    for name in ("locked", "fifo"):
        (tmp_path / name).unlink()
    assert os.listdir(tmp_path) == []
