"""fit's arguments: two ways to write one thing, and the time it may take."""

import time
from datetime import timedelta

import numpy as np
import pytest
from cases import own_mse

import microbp as bp

RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 3))
Y = X @ RNG.normal(size=(3, 2)) + 0.1 * RNG.normal(size=(40, 2))


def make(backend="compiled", loss="mse"):
    return bp.Trainer(bp.mlp([3, 4, 2], dtype="float64", seed=1, backend=backend), loss, bp.Adam(lr=0.3))


# ---- early stopping and checkpoints, in two ways ----


@pytest.mark.parametrize(
    "rule",
    [{"patience": 3}, {"patience": 2, "monitor": "r2", "mode": "max"}, {"patience": 1, "monitor": "loss", "min_delta": 0.1}],
    ids=repr,
)
def test_a_rule_stops_as_its_arguments_do(backend, rule):
    spelt_out, in_one = make(backend), make(backend)
    options = {"epochs": 40, "validation": 0.25, "metrics": "r2"}
    spelt_out.fit(X, Y, **options, **rule)
    in_one.fit(X, Y, **options, stop=bp.EarlyStopping(**rule))
    assert spelt_out.epoch == in_one.epoch < 40
    np.testing.assert_array_equal(spelt_out.net.params, in_one.net.params)


def test_a_checkpoint_saves_as_its_arguments_say(backend, tmp_path):
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
        ({"stop": bp.EarlyStopping(3), "patience": 3}, ValueError, "leave patience, monitor, mode and min_delta out"),
        ({"stop": bp.EarlyStopping(3), "monitor": "loss"}, ValueError, "leave patience"),
        ({"stop": bp.EarlyStopping(3), "mode": "min"}, ValueError, "leave patience"),
        ({"stop": bp.EarlyStopping(3), "min_delta": 0.1}, ValueError, "leave patience"),
        ({"stop": 3}, TypeError, r"bp\.EarlyStopping\(patience=10\)"),
        ({"stop": bp.EarlyStopping(3)}, ValueError, "validation="),
        ({"shuffle": "no"}, TypeError, "shuffle must be True or False"),
        ({"progress": "no"}, TypeError, "progress must be True or False"),
        ({"schedule": bp.Cosine}, TypeError, r"schedule must be one such as bp\.Cosine\(lr=0\.1\)"),
        ({"metrics": ["accuracy", 3]}, TypeError, "a metric is a name or a function"),
        ({"max_time": 0}, ValueError, "max_time"),
        ({"max_time": "1"}, TypeError, "max_time must be a number"),
        ({"checkpoint": ""}, TypeError, "path must be"),
        ({"max_time": -1.5}, ValueError, "max_time"),
        ({"max_time": float("nan")}, ValueError, "max_time"),
        ({"max_time": timedelta()}, ValueError, "max_time"),
        ({"max_time": "1 h"}, TypeError, "max_time must be a number"),
    ],
)
def test_what_contradicts_itself_is_refused(options, error, words):
    t = make()
    with pytest.raises(error, match=words):
        t.fit(X, Y, epochs=1, **options)
    assert (t.steps, t.history) == (0, {})


# ---- the time that fit may take ----

WAYS = {
    "one call": {},
    "own loss": {"loss": own_mse},
    "micro-batches": {"accumulate": 2},
    "callback": {"batch_callback": lambda record: None},
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("max_time", [0.15, timedelta(seconds=0.15)], ids=["seconds", "timedelta"])
def test_fit_ends_when_its_time_is_up(backend, way, max_time):
    """Within an epoch that would take seconds. What it did is what the first updates of that epoch do."""
    rows = 1_000_000 if backend == "compiled" else 4_000
    x, y = np.resize(X, (rows, 3)), np.resize(Y, (rows, 2))
    options = dict(WAYS[way])
    loss = options.pop("loss", "mse")
    t, by_hand = make(backend, loss), make(backend, loss)
    start = time.monotonic()
    history = t.fit(x, y, epochs=3, batch_size=1, max_time=max_time, shuffle=False, **options)
    assert 0.15 <= time.monotonic() - start < 2
    updates = t.steps
    assert (t.epoch, len(history["loss"])) == (1, 1) and 0 < updates < rows
    trained = updates * options.get("accumulate", 1)
    by_hand.fit(x[:trained], y[:trained], epochs=1, batch_size=1, shuffle=False, **options)
    np.testing.assert_array_equal(t.net.params, by_hand.net.params)
    assert (history["loss"], history["lr"]) == (by_hand.history["loss"], by_hand.history["lr"])


def test_time_that_is_enough_changes_no_bit(backend):
    plain, timed = make(backend), make(backend)
    a, b = plain.fit(X, Y, epochs=5, validation=0.2), timed.fit(X, Y, epochs=5, validation=0.2, max_time=timedelta(hours=1))
    del a["seconds"], b["seconds"]
    assert a == b
    assert plain.net.params.tobytes() == timed.net.params.tobytes()


def test_time_counts_between_epochs_too(backend):
    t = make(backend)
    t.fit(X, Y, epochs=50, max_time=0.05, callback=lambda record: time.sleep(0.03))
    assert t.epoch == 2


def test_a_stream_ends_when_its_time_is_up():
    def chunks():
        while True:
            yield X, Y

    t = make()
    history = t.fit(chunks, epochs=2, batch_size=4, max_time=0.1)
    assert (t.epoch, len(history["loss"])) == (1, 1) and t.steps > 10


def test_targets_are_checked_before_the_clock_stops_anything(backend):
    t, targets = make(backend, "bce"), np.full((40, 2), 0.5)
    targets[-1] = 7
    with pytest.raises(ValueError, match="row 39"):
        t.fit(X, targets, epochs=1, batch_size=4, shuffle=False, max_time=1)
    assert t.steps == 0


def test_a_batch_callback_in_a_chunk_leaves_the_mean_of_what_was_trained(backend):
    t = make(backend)
    losses = []
    history = t.fit(
        [(X, Y)], epochs=1, batch_size=8, shuffle=False, batch_callback=lambda record: losses.append(record.loss) or len(losses) == 3
    )  # fmt: skip
    assert history["loss"] == pytest.approx([np.mean(losses)], rel=1e-12)
