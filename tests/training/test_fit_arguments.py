"""The arguments of fit: alternatives, errors, and the time limit."""

import time
from datetime import timedelta
from types import SimpleNamespace

import numpy as np
import pytest
from cases import own_mse

import microbp as bp
from microbp.training.loop.records import callbacks

RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 3))
Y = X @ RNG.normal(size=(3, 2)) + 0.1 * RNG.normal(size=(40, 2))


def make(backend="compiled", loss="mse"):
    return bp.Trainer(bp.mlp([3, 4, 2], dtype="float64", seed=1, backend=backend), loss, bp.Adam(lr=0.3))


# ---- early stopping and checkpoints: a rule or separate arguments ----


@pytest.mark.parametrize(
    "rule",
    [{"patience": 3}, {"patience": 2, "monitor": "r2", "mode": "max"}, {"patience": 1, "monitor": "loss", "min_delta": 0.1}],
    ids=repr,
)
def test_a_rule_stops_like_separate_arguments(backend, rule):
    separate, in_one = make(backend), make(backend)
    options = {"epochs": 40, "validation": 0.25, "metrics": "r2"}
    separate.fit(X, Y, **options, **rule)
    in_one.fit(X, Y, **options, stop=bp.EarlyStopping(**rule))
    assert separate.epoch == in_one.epoch < 40
    np.testing.assert_array_equal(separate.net.params, in_one.net.params)


def test_a_checkpoint_saves_like_separate_arguments(backend, tmp_path):
    seen = []
    for i, checkpoint in enumerate(
        ({"checkpoint": tmp_path / "0", "checkpoint_every": 2}, {"checkpoint": bp.Checkpoint(tmp_path / "1", every=2)})
    ):
        path = tmp_path / str(i)
        make(backend).fit(X, Y, epochs=3, **checkpoint, callback=lambda record, path=path: seen.append(path.exists()))
        assert bp.Trainer.load(path, backend=backend).epoch == 3
    assert seen == [False, True, True] * 2


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"stop": bp.EarlyStopping(3), "patience": 3}, ValueError, "pass either stop= or patience, monitor, mode and min_delta"),
        ({"stop": bp.EarlyStopping(3), "monitor": "loss"}, ValueError, "pass either stop="),
        ({"stop": bp.EarlyStopping(3), "mode": "min"}, ValueError, "pass either stop="),
        ({"stop": bp.EarlyStopping(3), "min_delta": 0.1}, ValueError, "pass either stop="),
        ({"stop": 3}, TypeError, r"bp\.EarlyStopping\(patience=10\)"),
        ({"stop": bp.EarlyStopping(3)}, ValueError, 'early stopping monitors "val_loss", which needs validation='),
        ({"patience": 3, "monitor": "acc", "metrics": "accuracy"}, ValueError, "unknown monitor .*'accuracy'. valid: loss, accuracy"),
        (
            {"patience": 3, "monitor": "accuracy"},
            ValueError,
            "monitors 'accuracy', .*; add metrics='accuracy'",
        ),
        ({"stop": bp.EarlyStopping(3, "mine", "min")}, ValueError, "unknown monitor of early stopping 'mine'; valid: loss"),
        ({"schedule": bp.ReduceOnPlateau(0.1)}, ValueError, 'the schedule monitors "val_loss", which needs validation='),
        ({"schedule": "consta(lr=1)"}, ValueError, "valid: constant, .*, warmup, reduce_on_plateau$"),
        ({"schedule": lambda step: None}, TypeError, "schedule: the learning rate of step 0 must be a number, not None"),
        ({"schedule": lambda step: "0.1"}, TypeError, "schedule: the learning rate of step 0 must be a number, not '0.1'"),
        ({"schedule": lambda step: -1}, ValueError, "schedule: the learning rate of step 0 must be finite and at least 0, not -1"),
        ({"every": 5}, TypeError, "every"),
        ({"shuffle": "no"}, TypeError, "shuffle must be True or False"),
        ({"progress": "no"}, TypeError, "progress must be True or False"),
        ({"schedule": bp.Cosine}, TypeError, r"schedule must be a schedule such as bp\.Cosine\(lr=0\.1\)"),
        ({"metrics": ["accuracy", 3]}, TypeError, "a metric is a name or a function"),
        ({"metrics": 3}, TypeError, "metrics must be a name, a function .* or a list of these, not 3"),
        ({"validation": (X,)}, ValueError, "not a tuple of length 1"),
        ({"validation": X}, ValueError, r"a fraction between 0 and 1, not an array of shape \(40, 3\)"),
        ({"schedule": bp.Cosine}, TypeError, r"not the class Cosine \(add parentheses: bp\.Cosine\(\.\.\.\)\)"),
        ({"stop": bp.EarlyStopping}, TypeError, r"add parentheses: bp\.EarlyStopping"),
        ({"max_time": 0}, ValueError, "max_time"),
        ({"max_time": "1"}, TypeError, "max_time must be a number"),
        ({"checkpoint": ""}, TypeError, "path must be"),
        ({"max_time": -1.5}, ValueError, "max_time"),
        ({"max_time": float("nan")}, ValueError, "max_time"),
        ({"max_time": timedelta()}, ValueError, "max_time"),
        ({"monitor": X}, ValueError, "monitor, mode and min_delta need patience="),
        ({"mode": X}, ValueError, "monitor, mode and min_delta need patience="),
        ({"min_delta": X}, ValueError, "monitor, mode and min_delta need patience="),
        ({"checkpoint_every": X}, ValueError, "checkpoint_every=.* needs checkpoint="),
        ({"metrics": {"": "rmse"}}, ValueError, "metrics: a key must not be empty"),
        ({"metrics": bp.top_k}, TypeError, r"pass bp\.top_k\(3\), or its name 'top_3'"),
        ({"max_time": "1 h"}, TypeError, "max_time must be a number"),
    ],
)
def test_wrong_and_contradictory_arguments_are_refused(options, error, words):
    t = make()
    with pytest.raises(error, match=words):
        t.fit(X, Y, epochs=1, **options)
    assert (t.steps, t.history) == (0, {})


@pytest.mark.parametrize("result", [None, "0.5", [1, 2], X])
def test_a_metric_must_return_a_number(result):
    def mine(y, predictions):
        return result

    with pytest.raises(TypeError, match=r"the metric mine must be a number, not (None|'0.5'|\[1, 2\]|an array of shape \(40, 3\))$"):
        make().fit(X, Y, epochs=1, metrics=mine)


# ---- the time limit of fit ----

WAYS = {
    "one call": {},
    "custom loss": {"loss": own_mse},
    "micro-batches": {"accumulate": 2},
    "callback": {"batch_callback": lambda record: None},
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("max_time", [0.1, timedelta(seconds=0.1)], ids=["seconds", "timedelta"])
def test_fit_ends_when_its_time_is_up(backend, way, max_time):
    """Fit stops within an epoch that would take seconds. The result equals a fit on the rows of the updates that it did."""
    rows = 1_000_000 if backend == "compiled" else 4_000
    x, y = np.resize(X, (rows, 3)), np.resize(Y, (rows, 2))
    options = dict(WAYS[way])
    loss = options.pop("loss", "mse")
    t, by_hand = make(backend, loss), make(backend, loss)
    start, begin = time.monotonic(), time.process_time()
    history = t.fit(x, y, epochs=3, batch_size=1, max_time=max_time, shuffle=False, **options)
    assert time.monotonic() - start >= 0.1 and time.process_time() - begin < 2
    updates = t.steps
    assert (t.epoch, len(history["loss"])) == (1, 1) and 0 < updates < rows
    trained = updates * options.get("accumulate", 1)
    by_hand.fit(x[:trained], y[:trained], epochs=1, batch_size=1, shuffle=False, **options)
    np.testing.assert_array_equal(t.net.params, by_hand.net.params)
    assert (history["loss"], history["lr"]) == (by_hand.history["loss"], by_hand.history["lr"])


def test_a_time_limit_that_is_not_reached_changes_no_bit(backend):
    plain, timed = make(backend), make(backend)
    a, b = plain.fit(X, Y, epochs=5, validation=0.2), timed.fit(X, Y, epochs=5, validation=0.2, max_time=timedelta(hours=1))
    del a["seconds"], b["seconds"]
    assert a == b
    assert plain.net.params.tobytes() == timed.net.params.tobytes()


@pytest.fixture
def clock(monkeypatch):
    """A clock for max_time. Tests set `time`; each read adds `step`."""
    clock = SimpleNamespace(time=0.0, step=0.0)

    def read():
        clock.time += clock.step
        return clock.time

    monkeypatch.setattr(callbacks, "time", SimpleNamespace(monotonic=read))
    return clock


def test_time_between_epochs_counts_too(backend, clock):
    t = make(backend)
    t.fit(X, Y, epochs=50, max_time=0.05, callback=lambda record: setattr(clock, "time", clock.time + 0.03))
    assert t.epoch == 2


def test_a_stream_ends_when_its_time_is_up(clock):
    def chunks():
        while True:
            yield X, Y

    t, clock.step = make(), 0.001
    history = t.fit(chunks, epochs=2, batch_size=4, max_time=0.1)
    assert (t.epoch, len(history["loss"])) == (1, 1) and t.steps > 10


def test_targets_are_checked_before_the_first_update_with_a_time_limit(backend):
    t, targets = make(backend, "bce"), np.full((40, 2), 0.5)
    targets[-1] = 7
    with pytest.raises(ValueError, match=r"y\[39, 0\] is 7"):
        t.fit(X, targets, epochs=1, batch_size=4, shuffle=False, max_time=1)
    assert t.steps == 0


def test_the_loss_of_a_chunk_that_a_batch_callback_ends_is_the_mean_of_its_updates(backend):
    t = make(backend)
    losses = []
    history = t.fit(
        [(X, Y)], epochs=1, batch_size=8, shuffle=False, batch_callback=lambda record: losses.append(record.loss) or len(losses) == 3
    )  # fmt: skip
    assert history["loss"] == pytest.approx([np.mean(losses)], rel=1e-12)
