"""The text and vectors of trainer files: what they contain, and invalid ones; also those of earlier versions."""

import json

import graphs
import numpy as np
import pytest

import microbp as bp
from microbp.core.specs import OptimizerSpec
from microbp.core.text import number
from microbp.settings import averages, curves, optimizers, schedules
from microbp.training import trainer_file, trainer_json, trainer_values
from microbp.training.loop.run import Best

ROWS, BATCH = 23, 5


def trained(backend="compiled", optimizer="adam"):
    """A trainer in the middle of a fit, with the best epoch so far."""
    net = graphs.network("heads", backend=backend)
    t = bp.Trainer(
        net, ["huber(delta=0.3)", "mse", "cross_entropy"], optimizer, [1, 0.1, 3.0], seed=2**63, average=bp.EMA(0.9), clip_norm=1.5
    )
    rng = np.random.default_rng(0)
    x = [rng.normal(size=(ROWS, entry.width)) for entry in net.inputs]
    y = [rng.normal(size=(ROWS, entry.width)) for entry in net.outputs[:2]] + [np.arange(ROWS) % 3]
    t.fit(x[0] if len(x) == 1 else x, y, epochs=2, batch_size=BATCH, validation=(x[0] if len(x) == 1 else x, y))
    t._run.best = Best("val_loss", False, 0.5, 1, t._engine.snapshot())
    return t


def encoded(t):
    return trainer_file.encode(t.net, t.__getstate__())


# ---- what a file contains ----


def test_the_lines_of_a_file():
    t = bp.Trainer(bp.mlp([2, 1], seed=0), bp.Loss("quantile", q=0.9), bp.SGD(lr=0.5), average=bp.SWA(3), seed=1, clip_norm=10)
    t.step(np.ones((4, 2)), np.ones(4))
    t.lr, t.schedule = 0.1, "constant(lr=0.5)"
    text, vectors = encoded(t)
    last_loss = number(t._engine.state()["losses"]["last_loss"])
    assert text.splitlines() == [
        "version=3",
        "losses=quantile(q=0.9)",
        "loss_weights=1.0",
        "optimizer=sgd(lr=0.1,weight_decay=0.0,decay_bias=0.0)",
        "clip_norm=10.0",
        "seed=1",
        "steps=1",
        "epoch=0",
        "loss=nan",
        f"last_loss={last_loss}",
        "average_decay=1.0",
        "average_start=3",
        "average_every=1",
        "average_count=0",
        'python.losses=[{"$Loss":"quantile(q=0.9)"}]',
        'python.optimizer={"$SGD":{"lr":0.5,"momentum":0.0,"nesterov":false,"weight_decay":0.0,"decay_bias":false}}',
        'python.schedule={"$Constant":{"lr":0.5}}',
    ]
    assert list(vectors) == ["trainer.state.grads", "trainer.state.average"]


def settings_in(module):
    """The settings classes of a module, except base classes."""
    named = (kind for name, kind in vars(module).items() if getattr(bp, name, None) is kind and isinstance(kind, type))
    homes = (module.__name__, curves.__name__) if module is schedules else (module.__name__,)
    return {kind for kind in named if kind.__module__ in homes and kind not in (bp.Optimizer, bp.Schedule)}


def test_every_settings_class_of_a_trainer_has_a_name_in_files():
    kinds = set.union(*map(settings_in, (optimizers, averages, schedules))) | {schedules.Delay, bp.EarlyStopping, bp.Loss, OptimizerSpec}
    assert len(kinds) > 25
    for kind in kinds:
        name = kind.__name__
        assert kind in (trainer_values.SPECS.get(name), trainer_values.SETTINGS.get(name)), name


# ---- invalid lines ----

LINES = [
    ("version=3", "version=4"),
    ("version=3\n", ""),
    ("version=3", ""),
    ("seed=", "sead="),
    ("seed=", "seed=0\nseed="),
    ("seed=", "seed=-"),
    ("seed=", "seed=x"),
    ("seed=", "seed=99999999999"),
    ("seed=", "\nseed="),
    ("steps=10", "steps=9223372036854775807"),
    ("steps=10", "steps=1e1"),
    ("steps=10\n", ""),
    ("epoch=2", "epoch=-1"),
    ("epoch=2", "epoch=9223372036854775808"),
    ("loss=nan", "loss=x"),
    ("clip_norm=1.5", "clip_norm=-1"),
    ("clip_norm=1.5", "clip_norm=nan"),
    ("clip_norm=1.5", "clip_norms=1"),
    ("losses=huber(delta=0.3) mse", "losses=mse"),
    ("losses=huber(delta=0.3)", "losses=huber(delta=0.4)"),
    ("losses=huber(delta=0.3)", "losses=none"),
    ("losses=huber(delta=0.3)", "losses=hubert"),
    ("losses=", "losses=("),
    ("loss_weights=1.0", "loss_weights=nan"),
    ("loss_weights=1.0 ", "loss_weights="),
    ("optimizer=adam", "optimizer=madam"),
    ("optimizer=adam", "optimizer=sgd(lr=1)\npython.x="),
    ("beta1=0.9", "beta1=1"),
    ("seed=", "dropout=2\nseed="),
    ("seed=", "dropout=\nseed="),
    ("average_decay=0.9", "average_decay=2"),
    ("average_decay=0.9\n", ""),
    ("average_every=1", "average_every=0"),
    ("average_count=10", "average_count=9223372036854775807"),
    ("python.optimizer=", "python.optimizer=x"),
    ("python.optimizer=", "python.optimizer=[]\npython.optimizer="),
    ("python.history=", "python.histories="),
    ('python.history=["loss",', "python.history=["),
    ('"monitor":"val_loss"', '"monitor":1'),
    ('"trainer.python.best.snapshot.params"', '"trainer.python.best.snapshot.buffers"'),
]


@pytest.mark.parametrize(("old", "new"), LINES, ids=range(len(LINES)))
def test_invalid_lines_are_refused(backend, old, new, tmp_path):
    t = trained(backend)
    text, vectors = encoded(t)
    assert old in text
    t.net._core.save_with(str(tmp_path / "run"), text.replace(old, new, 1), vectors)
    with pytest.raises(ValueError, match=r"run: the trainer's state is invalid .*bp\.load loads the network alone"):
        bp.Trainer.load(tmp_path / "run", backend=backend)
    bp.load(tmp_path / "run", backend=backend)


@pytest.mark.parametrize("key", ["losses", "loss_weights", "optimizer", "seed", "steps", "epoch", "loss", "last_loss", "average_start"])
def test_an_error_names_the_missing_line(key, tmp_path):
    t = trained()
    text, vectors = encoded(t)
    kept = "".join(line for line in text.splitlines(keepends=True) if not line.startswith(f"{key}="))
    t.net._core.save_with(str(tmp_path / "run"), kept, vectors)
    with pytest.raises(
        ValueError, match=rf"run: the trainer's state is invalid \(ValueError: the line {key}= is missing\); bp\.load loads"
    ):
        bp.Trainer.load(tmp_path / "run")


@pytest.mark.parametrize(("key", "power"), [("seed", 64), ("steps", 63), ("epoch", 63), ("average_count", 63)])
def test_an_error_names_the_number_that_is_too_large(key, power, backend, tmp_path):
    t = trained(backend)
    text, vectors = encoded(t)
    large = "".join(f"{key}={2**power}\n" if line.startswith(f"{key}=") else line for line in text.splitlines(keepends=True))
    t.net._core.save_with(str(tmp_path / "run"), large, vectors)
    what = rf"the trainer's state is invalid \(ValueError: {key} must be a whole number below 2\*\*{power}, not '{2**power}'\)"
    with pytest.raises(ValueError, match=what):
        bp.Trainer.load(tmp_path / "run", backend=backend)


# ---- files of earlier versions ----


def version_2(t):
    """The contents that version 2 had: one JSON object with everything, and vectors."""
    vectors, state = {}, t.__getstate__()
    saved = {key: state[key] for key in trainer_json.SAVED} | {"history": list(state["history"])}
    coded = trainer_values.to_json(saved, ("trainer", "state"), t.net.dtype, vectors)
    vectors[trainer_json.HISTORY] = np.array(list(state["history"].values()), np.float64).tobytes()
    return json.dumps({"version": 2, "state": coded}), vectors


def test_a_file_of_version_2_is_read(backend, tmp_path):
    t = trained(backend, bp.Adam(0.01, betas=(0.8, 0.9)))
    t.net._core.save_with(str(tmp_path / "run"), *version_2(t))
    assert encoded(bp.Trainer.load(tmp_path / "run", backend=backend)) == encoded(t)


EDITS = [
    ("version", 3),
    ("version", 1),
    ("state.epoch", -1),
    ("state.epoch", 1.5),
    ("state.epoch", True),
    ("state.epoch", "1"),
    ("state.seed", -1),
    ("state.seed", 2**64),
    ("state.seed", "x"),
    ("state.losses", []),
    ("state.losses", None),
    ("state.losses", [{"$Loss": "nonsense"}] * 3),
    ("state.losses", [{"$Loss": 3}] * 3),
    ("state.losses", [{"$Spec": "mse"}] * 3),
    ("state.losses", [{"$OptimizerSpec": "adam"}] * 3),
    ("state.losses", [{"$os.system": "true"}] * 3),
    ("state.losses", [{"$Adam": {}}] * 3),
    ("state.losses", [{"$Optimizer": {}}] * 3),
    ("state.losses", [{"$__builtins__": {}}] * 3),
    ("state.losses", [{"$": {}}] * 3),
    ("state.loss_weights", [1, 2]),
    ("state.loss_weights", [1, 2, {"$float": "nan"}]),
    ("state.loss_weights", [1, 2, {"$float": "x"}]),
    ("state.loss_weights", {}),
    ("state.optimizer", "nonsense"),
    ("state.optimizer", "sgd"),
    ("state.optimizer", {"$Adam": {"lr": -1}}),
    ("state.optimizer", {"$Adam": {"nonsense": 1}}),
    ("state.optimizer", {"$Adam": []}),
    ("state.optimizer", {"$array": "trainer.state.engine.grads"}),
    ("state.averaging", {"$Adam": {}}),
    ("state.averaging", {"$EMA": {"decay": 2}}),
    ("state.optimizer", {"$Adam": {}, "more": 1}),
    ("state.schedule", {"$Cosine": {}}),
    ("state.limits", {"clip_norm": -1}),
    ("state.fit", 1),
    ("state._core", 1),
    ("state.net", 1),
    ("state.attributes", {"more": 1}),
    ("state.history", 1),
    ("state.history", [1]),
    ("state.history", []),
    ("state.history", ["loss"] * 4),
    ("state.history", ["loss", "lr", "more"]),
    ("state.stopped", 1),
    ("state.stopped", {}),
    ("state.stopped", {"rule": "x", "value": 1.5, "epoch": 1, "tried": 2, "is_over": True}),
    ("state.stopped", {"rule": {"$EarlyStopping": {"patience": 0}}, "value": 1.5, "epoch": 1, "tried": 2, "is_over": True}),
    ("state.engine.average_count", -1),
    ("state.engine.average_count", 1.5),
    ("state.engine.average_count", 2**60),
    ("state.engine.steps", 2**63 - 1),
    ("state.epoch", 2**63),
    ("state.best", 1),
    ("state.best", {}),
    ("state.best.monitor", 1),
    ("state.best.epoch", "1"),
    ("state.best.more", 1),
    ("state.best.snapshot", 1),
    ("state.best.snapshot", {}),
    ("state.best.snapshot.more", 1),
    ("state.best.snapshot.lr", "x"),
    ("state.best.snapshot.numbers", 1),
    ("state.best.snapshot.numbers", {"more": 1.5}),
    ("state.best.snapshot.numbers.dropout", "x"),
    ("state.best.snapshot.params", {"$array": "trainer.state.best.snapshot.buffers"}),
    ("state.best.snapshot.slots.m", {"$array": "trainer.state.best.snapshot.buffers"}),
    ("state.best.snapshot.slots.more", {"$array": "trainer.state.best.snapshot.slots.m"}),
    ("state.engine", {}),
    ("state.engine.lr", -1),
    ("state.engine.lr", "x"),
    ("state.engine.numbers", 1),
    ("state.engine.numbers.more", 1.5),
    ("state.engine.numbers.dropout", 1.5),
    ("state.engine.numbers.dropout", "x"),
    ("state.engine.steps", -1),
    ("state.engine.steps", "x"),
    ("state.engine.grads", {"$array": "trainer.state.engine.slots.n"}),
    ("state.engine.grads", {"$array": "trainer.state.engine.slots.m"}),
    ("state.engine.grads", {"$array": []}),
    ("state.engine.grads", 1),
    ("state.engine.slots", {}),
    ("state.engine.slots", []),
    ("state", []),
    ("state", {}),
    ("", []),
    ("", {}),
    ("", 1),
]


def edited(value, path, new):
    """A copy of a JSON value with a new value at the path; "" replaces the whole."""
    if not path:
        return new
    first, _, rest = path.partition(".")
    return {**value, first: edited(value.get(first), rest, new)}


@pytest.mark.parametrize(("path", "new"), EDITS, ids=range(len(EDITS)))
def test_invalid_states_are_refused(backend, path, new, tmp_path):
    t = trained(backend)
    text, vectors = version_2(t)
    t.net._core.save_with(str(tmp_path / "run"), json.dumps(edited(json.loads(text), path, new)), vectors)
    with pytest.raises(ValueError, match=r"run: the trainer's state is invalid .*bp\.load loads the network alone"):
        bp.Trainer.load(tmp_path / "run", backend=backend)
    bp.load(tmp_path / "run", backend=backend)


@pytest.mark.parametrize("change", ["drop", "short", "one", "more", "text"])
def test_invalid_vectors_are_refused(change, tmp_path):
    t = trained()
    text, vectors = encoded(t)
    name = "trainer.slots.m"
    data = vectors.pop(name)
    if change in ("short", "one"):
        vectors[name] = data[: 4 if change == "one" else -4]
    elif change != "drop":
        vectors |= {name: data, "trainer.python.more": b""}
    t.net._core.save_with(str(tmp_path / "run"), text if change != "text" else "{" * 100_000, vectors)
    with pytest.raises(ValueError, match="the trainer's state is invalid"):
        bp.Trainer.load(tmp_path / "run")
