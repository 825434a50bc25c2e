"""Epochs and fit: order, schedules, validation, patience, records, for both backends."""

import csv
import json
import math
import time
from functools import partial

import numpy as np
import pytest
from cases import own_mse

import microbp as bp

RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 3))
Y = X @ RNG.normal(size=(3, 2)) + 0.1 * RNG.normal(size=(40, 2))


def make(backend, loss="mse", lr=0.01, dtype="float64"):
    return bp.Trainer(bp.mlp([3, 4, 2], dtype=dtype, seed=1, backend=backend), loss, bp.Adam(lr=lr))


def test_fit_lowers_the_loss(backend):
    history = make(backend, lr=0.05).fit(X, Y, epochs=12, batch_size=8)
    assert history["loss"][-1] < history["loss"][0] / 2
    assert {len(values) for values in history.values()} == {12}


def test_fit_agrees_with_epochs(backend):
    a, b = make(backend), make(backend)
    history = a.fit(X, Y, epochs=3, batch_size=16)
    for record in b.epochs(X, Y, batch_size=16):
        if record["epoch"] == 3:
            break
    assert b.history["loss"] == history["loss"]
    assert (record.loss, record.steps, b.epoch) == (history["loss"][-1], 9, 3)
    np.testing.assert_array_equal(a.net.params, b.net.params)


def test_a_second_fit_continues_the_first(backend):
    once, twice = make(backend), make(backend)
    once.fit(X, Y, epochs=4)
    twice.fit(X, Y, epochs=1)
    assert twice.fit(X, Y, epochs=3)["loss"] == once.history["loss"]


def test_an_epoch_does_a_step_for_each_batch_in_the_order(backend):
    order = np.arange(39, -1, -1)
    t, by_hand = make(backend), make(backend)
    next(t.epochs(X, Y, batch_size=16, order=order))
    losses = [by_hand.step(X[rows], Y[rows]) for rows in (order[:16], order[16:32], order[32:])]
    np.testing.assert_array_equal(t.net.params, by_hand.net.params)
    assert t.history["loss"][0] == pytest.approx(np.average(losses, weights=[16, 16, 8]), rel=1e-12)


def test_shuffling_uses_every_row_and_differs_between_epochs(backend):
    shuffled, plain = make(backend), make(backend)
    shuffled.fit(X, Y, epochs=1, batch_size=40)
    plain.fit(X, Y, epochs=1, batch_size=40, shuffle=False)
    np.testing.assert_allclose(shuffled.net.params, plain.net.params, rtol=1e-9)
    seen = []

    def loss(outputs, targets, weight):
        seen.append(targets[:, 0].copy())
        return own_mse(outputs, targets, weight)

    make(backend, loss).fit(X, Y, epochs=2, batch_size=40)
    assert (seen[0] != seen[1]).any()
    assert sorted(seen[0]) == sorted(seen[1]) == sorted(Y[:, 0])


def test_rows_of_weight_zero_are_skipped(backend):
    weight = np.where(np.arange(40) % 3 == 0, 0.0, 1.5)
    a, b = make(backend), make(backend)
    kept = weight > 0
    weighted = a.fit(X, Y, epochs=2, batch_size=4, sample_weight=weight)["loss"]
    assert weighted == pytest.approx(b.fit(X[kept], Y[kept], epochs=2, batch_size=4)["loss"], rel=1e-9)


def test_a_schedule_sets_the_rate_of_each_step(backend):
    rates = [0.1, 0.05, 0.02, 0.01, 0.004, 0.001]
    t, by_hand = make(backend), make(backend)
    history = t.fit(X, Y, epochs=2, batch_size=16, shuffle=False, schedule=lambda step: rates[step])
    for step, rate in enumerate(rates):
        by_hand.lr = rate
        rows = [slice(0, 16), slice(16, 32), slice(32, 40)][step % 3]
        by_hand.step(X[rows], Y[rows])
    np.testing.assert_array_equal(t.net.params, by_hand.net.params)
    assert history["lr"] == [0.02, 0.001]
    assert t.lr == 0.001
    with pytest.raises(ValueError, match="step 6"):
        t.fit(X, Y, epochs=1, schedule=lambda step: -1)


def test_an_epoch_raises_the_error_of_its_step(backend):
    t, by_hand = make(backend), make(backend)
    y = Y.copy()
    y[20] = np.nan
    by_hand.step(X[:16], y[:16])
    with pytest.raises(FloatingPointError) as of_step:
        by_hand.step(X[16:32], y[16:32])
    with pytest.raises(FloatingPointError) as of_epoch:
        t.fit(X, y, epochs=1, batch_size=16, shuffle=False)
    what, _, cause = str(of_step.value).partition("; ")
    assert str(of_epoch.value) == f"{what}; {cause.replace('row 4', 'row 20')}"  # rows are numbered as the caller does
    np.testing.assert_array_equal(t.net.params, by_hand.net.params)


def test_a_custom_loss_fits_like_the_named_loss(backend):
    weight = np.linspace(0.1, 1, 40)
    options = {"epochs": 2, "batch_size": 7, "sample_weight": weight, "validation": 0.2, "schedule": lambda step: 0.01 / (1 + step)}
    a, b = make(backend, own_mse).fit(X, Y, **options), make(backend, "mse").fit(X, Y, **options)
    for name in ("loss", "val_loss", "lr"):
        assert a[name] == pytest.approx(b[name], rel=1e-9)


def test_validation_rows_are_not_trained_on(backend):
    seen = []

    def loss(outputs, targets, weight):
        seen.append(set(targets[:, 0]))
        return own_mse(outputs, targets, weight)

    history = make(backend, loss).fit(X, Y, epochs=1, batch_size=30, validation=0.25)
    trained, validated = seen
    assert (len(trained), len(validated), trained & validated) == (30, 10, set())
    assert len(history["val_loss"]) == 1


def test_validation_arrays_are_evaluated(backend):
    t = make(backend)
    history = t.fit(X[:30], Y[:30], epochs=2, validation=(X[30:], Y[30:], np.arange(10)), metrics=["rmse", "r2"])
    assert history["val_loss"][-1] == t.evaluate(X[30:], Y[30:], np.arange(10))
    assert history["rmse"][-1] == bp.rmse(Y[30:], t.predict(X[30:]), np.arange(10))


def test_patience_stops_and_restores_the_best(backend):
    t = make(backend, lr=0.3)
    states = []
    t.fit(
        X[:30], Y[:30], epochs=60, validation=(X[30:], Y[30:]), patience=3,
        callback=lambda record: states.append((t.net.params.copy(), t.state["v"].copy(), t.steps)),
    )  # fmt: skip
    losses = t.history["val_loss"]
    best = int(np.argmin(losses))
    assert len(losses) == best + 4 < 60
    params, v, steps = states[best]
    np.testing.assert_array_equal(t.net.params, params)
    np.testing.assert_array_equal(t.state["v"], v)
    assert t.steps == steps
    assert t.evaluate(X[30:], Y[30:]) == losses[best]


def test_only_a_callback_that_returns_true_stops_fit(backend):
    t = make(backend)
    t.fit(X, Y, epochs=5, callback=lambda record: record["epoch"] == 2)
    assert len(t.history["loss"]) == 2
    t.fit(X, Y, epochs=3, callback=lambda record: "continue")
    assert len(t.history["loss"]) == 5


def test_an_interrupt_leaves_net_and_history_valid(backend):
    t = make(backend)

    def interrupt(record):
        if record["epoch"] == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        t.fit(X, Y, epochs=5, callback=interrupt)
    assert len(t.history["loss"]) == t.epoch == 2
    assert np.isfinite(t.net.params).all()
    t.fit(X, Y, epochs=1, validation=0.2)
    assert {len(values) for values in t.history.values()} == {3}
    assert np.isnan(t.history["val_loss"][:2]).all()


def test_a_non_finite_loss_names_epoch_and_step(backend):
    t = make(backend)
    t.fit(X, Y, epochs=1, batch_size=8)
    broken = X.copy()
    broken[20] = np.nan
    with pytest.raises(FloatingPointError, match=r"epoch 2, step 8\); X contains NaN, first at row 20, column 0"):
        t.fit(broken, Y, epochs=1, batch_size=8, shuffle=False)
    assert t.steps == 7
    assert np.isfinite(t.net.params).all()


def test_metrics_see_predictions_after_the_output_activation(backend):
    labels = (X[:, 0] > 0).astype(int)
    t = make(backend, "cross_entropy")

    def mean_sum(y, outputs):
        return outputs.sum(axis=1).mean()

    history = t.fit(X, labels, epochs=2, metrics=["accuracy", mean_sum])
    assert history["accuracy"][-1] == bp.accuracy(labels, t.predict(X))
    assert history["mean_sum"] == pytest.approx([1, 1])


def test_progress_is_one_line_on_a_terminal_and_a_few_lines_in_a_log(backend, capsys, monkeypatch):
    make(backend).fit(X, Y, epochs=2)
    assert capsys.readouterr() == ("", "")
    make(backend).fit(X, Y, epochs=3, progress=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert [line[:9] for line in err.splitlines()] == ["epoch 1/3", "epoch 3/3"]
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "30")
    make(backend).fit(X, Y, epochs=2)
    _, err = capsys.readouterr()
    assert err.endswith("\n") and err.count("\n") == 1
    assert "\repoch 2/2" in err and max(map(len, err.split("\r"))) <= 30


@pytest.mark.parametrize("error", [OSError, ValueError])
def test_an_error_of_the_progress_line_does_not_stop_training(backend, monkeypatch, error):
    def write(text):
        raise error

    monkeypatch.setattr("sys.stderr.write", write)
    assert len(make(backend).fit(X, Y, epochs=3, progress=True)["loss"]) == 3
    monkeypatch.setattr("sys.stderr", None)
    assert len(make(backend).fit(X, Y, epochs=3, progress=True)["loss"]) == 3


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"epochs": -1}, ValueError),
        ({"epochs": 1.5}, TypeError),
        ({"batch_size": 0}, ValueError),
        ({"patience": 3}, ValueError),
        ({"patience": 3, "monitor": "rmse"}, ValueError),
        ({"patience": 3, "monitor": "beauty", "mode": "max"}, ValueError),
        ({"patience": 3, "monitor": "own", "metrics": own_mse}, ValueError),
        ({"patience": 3, "monitor": "loss", "mode": "up"}, ValueError),
        ({"patience": 3, "monitor": "loss", "min_delta": -1}, ValueError),
        ({"monitor": "loss"}, ValueError),
        ({"min_delta": 0.1}, ValueError),
        ({"callback": [print, 3]}, TypeError),
        ({"batch_callback": "log"}, TypeError),
        ({"accumulate": 0}, ValueError),
        ({"accumulate": 1.5}, TypeError),
        ({"schedule": "cosine"}, ValueError),
        ({"class_weight": "balanced"}, ValueError),
        ({"validation": 1.5}, ValueError),
        ({"validation": (X, Y[:3])}, ValueError),
        ({"validation": (X,)}, ValueError),
        ({"metrics": ["acuracy"]}, ValueError),
        ({"callback": 3}, TypeError),
        ({"schedule": 0.1}, TypeError),
        ({"sample_weight": np.zeros(40)}, ValueError),
    ],
)
def test_wrong_arguments_are_refused_before_anything_changes(backend, options, error):
    t = make(backend)
    before = t.net.params.copy()
    with pytest.raises(error):
        t.fit(X, Y, **{"epochs": 1, **options})
    np.testing.assert_array_equal(t.net.params, before)
    assert (t.steps, t.epoch, t.history) == (0, 0, {})


@pytest.mark.parametrize("order", [[0.5], [], [[1]], [40], [-1]])
def test_an_order_with_invalid_row_numbers_is_refused(backend, order):
    with pytest.raises(ValueError, match="order"):
        make(backend).epochs(X, Y, order=order)


def test_a_wrong_target_in_a_later_batch_changes_nothing(backend):
    t, targets = make(backend, "bce"), np.full((40, 2), 0.5)
    targets[-1] = 7
    before = t.net.params.copy()
    with pytest.raises(ValueError, match=r"y\[39, 0\] is 7, but bce needs values in \[0,1\]"):
        t.fit(X, targets, epochs=1, batch_size=8, shuffle=False)
    np.testing.assert_array_equal(t.net.params, before)
    assert t.steps == 0


def test_metrics_have_their_textbook_values():
    assert bp.accuracy([0, 2, 1], [[9, 1, 2], [0, 1, 2], [5, 4, 0]]) == pytest.approx(2 / 3)
    assert bp.accuracy([[0, 1], [1, 0]], [[0.2, 0.8], [0.3, 0.7]]) == 0.5
    assert bp.accuracy([0, 1, 1], [[0.4], [0.6], [0.3]]) == pytest.approx(2 / 3)
    assert bp.accuracy([-1, 1], [-0.1, 0.1]) == 1
    assert bp.rmse([0, 0], [[3], [4]]) == pytest.approx(np.sqrt(12.5))
    assert bp.mae([[1, 2]], [[2, 4]]) == 1.5
    assert bp.r2([1, 2, 3], [1, 2, 3]) == 1
    assert bp.r2([1, 2, 3], [2, 2, 2]) == 0
    with pytest.raises(ValueError, match="shape"):
        bp.rmse([[1, 2]], [1, 2])


# ---- early stopping on any entry ----


@pytest.mark.parametrize(("monitor", "best_of"), [("val_loss", np.argmin), ("loss", np.argmin), ("rmse", np.argmin), ("r2", np.argmax)])
def test_patience_can_monitor_any_entry(backend, monitor, best_of):
    t = make(backend, lr=0.3)
    states = []
    history = t.fit(
        X, Y, epochs=40, validation=0.25, metrics=["rmse", "r2"], patience=3, monitor=monitor, schedule=bp.Warmup(bp.Constant(0.3), 10),
        callback=lambda record: states.append((t.net.params.copy(), t.steps, t.lr)),
    )  # fmt: skip
    best = int(best_of(history[monitor]))
    assert len(history["loss"]) == best + 4 < 40
    params, steps, lr = states[best]
    np.testing.assert_array_equal(t.net.params, params)
    assert (t.steps, t.lr) == (steps, lr)


@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize("min_delta", [0.0, 1.0, 1.5])
def test_only_an_improvement_by_more_than_min_delta_counts(backend, mode, min_delta):
    values = [5, 6, 5, 4, 7, 3, 3, 1, 8, 1]
    left = iter(values)

    def mine(y, outputs):
        return next(left)

    history = make(backend).fit(X, Y, epochs=10, metrics=mine, patience=3, monitor="mine", mode=mode, min_delta=min_delta)
    best, waited, stop = values[0], 0, 0
    sign = 1 if mode == "max" else -1
    for stop, value in enumerate(values, start=1):
        better = stop == 1 or sign * (value - best) > min_delta
        best, waited = (value, 0) if better else (best, waited + 1)
        if waited == 3:
            break
    assert history["mine"] == values[:stop]


@pytest.mark.parametrize(("values", "first", "last"), [([1, 3, 3, 2, 3, 2], 2, 5), ([3, 1, 2], 1, 1), ([2, 2, 2], 1, 3)])
def test_ties_decide_which_of_equal_epochs_is_the_best(backend, values, first, last):
    for ties, best in (("first", first), ("last", last)):
        t, given, states = make(backend), iter(values), []
        rule = bp.EarlyStopping(len(values), "mine", "max", ties=ties)
        metrics = {"mine": lambda y, outputs, given=given: float(next(given))}
        keep = partial(lambda record, t, states: states.append(t.net.params.copy()), t=t, states=states)
        t.fit(X, Y, epochs=len(values), validation=0.2, metrics=metrics, stop=rule, callback=keep)
        assert t.epoch == best
        np.testing.assert_array_equal(t.net.params, states[best - 1])


@pytest.mark.parametrize(("option", "best"), [({}, 2), ({"ties": "last"}, 4), ({"start_from_epoch": 4}, 4), ({"start_from_epoch": 6}, 6)])
def test_patience_counts_from_the_best_epoch(backend, option, best):
    t, given = make(backend), iter([1.0, 3.0, 2.0, 3.0, 2.0, 2.0, 2.0, 2.0])
    metrics, rule = {"mine": lambda y, outputs: next(given)}, bp.EarlyStopping(2, "mine", "max", **option)
    assert (len(t.fit(X, Y, epochs=8, validation=0.2, metrics=metrics, stop=rule)["mine"]), t.epoch) == (best + 2, best)


def test_nan_is_never_the_best(backend):
    values = iter([np.nan, 3.0, np.nan, np.nan, 2.0])

    def error(y, outputs):
        return next(values)

    t = make(backend)
    kept = []
    t.fit(
        X, Y, epochs=5, metrics=error, patience=2, monitor="error", mode="min", callback=lambda record: kept.append(t.net.params.copy())
    )  # fmt: skip
    assert len(kept) == 4
    np.testing.assert_array_equal(t.net.params, kept[1])


# ---- callbacks ----


def test_all_callbacks_are_called_and_each_can_stop(backend):
    seen = []
    callbacks = [lambda record: record.epoch == 2, lambda record: seen.append(record.epoch), lambda record: record.clear()]
    assert len(make(backend).fit(X, Y, epochs=5, callback=callbacks)["loss"]) == 2
    assert seen == [1, 2]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("loss", ["mse", own_mse])
def test_a_batch_callback_changes_no_bit(backend, loss, dtype):
    weight = np.random.default_rng(1).integers(0, 9, 40) / 4  # multiples of 1/4, so that sums are exact in any order
    options = {"epochs": 3, "batch_size": 7, "sample_weight": weight, "validation": 0.2, "schedule": bp.OneCycle(0.1)}
    plain, watched, records = make(backend, loss, dtype=dtype), make(backend, loss, dtype=dtype), []
    a, b = plain.fit(X, Y, **options), watched.fit(X, Y, batch_callback=records.append, **options)
    del a["seconds"], b["seconds"]
    assert a == b
    np.testing.assert_array_equal(plain.net.params, watched.net.params)
    np.testing.assert_array_equal(plain.state["v"], watched.state["v"])
    per_epoch = len(records) // 3
    assert [set(record) for record in records] == [{"epoch", "loss", "lr", "steps"}] * len(records)
    assert [record.steps for record in records] == list(range(1, watched.steps + 1))
    assert [record.epoch for record in records] == list(np.repeat([1, 2, 3], per_epoch))
    assert [record.lr for record in records[per_epoch - 1 :: per_epoch]] == b["lr"]
    by_hand = make(backend, loss, dtype=dtype)
    by_hand.fit(X, Y, batch_callback=lambda record: record.steps == per_epoch, **options)
    assert by_hand.history["loss"] == b["loss"][:1]


def test_a_batch_callback_stops_within_an_epoch(backend):
    t, by_hand = make(backend), make(backend)
    history = t.fit(X, Y, epochs=5, batch_size=16, shuffle=False, batch_callback=[lambda record: record.steps == 5, lambda record: None])
    losses = [by_hand.step(X[rows], Y[rows]) for rows in (slice(0, 16), slice(16, 32), slice(32, 40), slice(0, 16), slice(16, 32))]
    np.testing.assert_array_equal(t.net.params, by_hand.net.params)
    assert (t.epoch, t.steps, len(history["loss"])) == (2, 5, 2)
    assert history["loss"][1] == pytest.approx(np.mean(losses[3:]), rel=1e-12)


def test_a_batch_callback_can_set_the_rate(backend):
    t, by_hand = make(backend), make(backend)

    def halve(record):
        t.lr = record.lr / 2

    t.fit(X, Y, epochs=1, batch_size=16, batch_callback=halve)
    by_hand.fit(X, Y, epochs=1, batch_size=16, schedule=lambda step: 0.01 * 0.5**step)
    np.testing.assert_array_equal(t.net.params, by_hand.net.params)


@pytest.mark.parametrize("rows", [31, 32, 33])
def test_a_batch_has_32_rows_by_default(backend, rows):
    t, x, y = make(backend), np.resize(X, (rows, 3)), np.resize(Y, (rows, 2))
    t.fit(x, y, epochs=1)
    next(t.epochs(x, y))
    assert t.steps == 2 * math.ceil(rows / 32)


def test_the_seconds_of_the_epochs_are_a_part_of_the_time_of_fit(backend):
    start = time.perf_counter()
    seconds = make(backend).fit([(X, Y)], epochs=3)["seconds"] + make(backend).fit(X, Y, epochs=3)["seconds"]
    assert min(seconds) >= 0 and sum(seconds) <= time.perf_counter() - start


# ---- micro-batches ----


@pytest.mark.parametrize("loss", ["mse", "cross_entropy"])
@pytest.mark.parametrize("weighted", [False, True])
def test_micro_batches_give_the_update_of_one_large_batch(backend, loss, weighted):
    y = (Y[:, 0] > 0).astype(int) if loss == "cross_entropy" else Y
    options = {"epochs": 3, "sample_weight": np.linspace(0, 2, 40) if weighted else None, "schedule": bp.Cosine(0.05), "validation": 0.1}
    joined, parts = make(backend, loss), make(backend, loss)
    a, b = joined.fit(X, y, batch_size=12, **options), parts.fit(X, y, batch_size=4, accumulate=3, **options)
    assert joined.steps == parts.steps
    for name in ("loss", "val_loss", "lr"):
        assert a[name] == pytest.approx(b[name], rel=1e-11)
    np.testing.assert_allclose(joined.net.params, parts.net.params, rtol=1e-9)
    joined, parts = make(backend, loss), make(backend, loss)
    for _, _, record in zip(range(2), joined.epochs(X, y, batch_size=12), parts.epochs(X, y, batch_size=4, accumulate=3)):
        assert record.steps == joined.steps
    assert joined.history["loss"] == pytest.approx(parts.history["loss"], rel=1e-11)


def test_micro_batches_of_a_custom_loss_are_refused(backend):
    t = make(backend, own_mse)
    for call in (lambda: t.fit(X, Y, epochs=1, accumulate=2), lambda: next(t.epochs(X, Y, accumulate=2))):
        with pytest.raises(ValueError, match="accumulate needs named losses"):
            call()
    assert t.steps == 0


@pytest.mark.parametrize("options", [{"batch_callback": lambda record: None}, {"accumulate": 2}])
def test_a_loop_in_python_refuses_a_wrong_target_before_the_first_step(backend, options):
    t, targets = make(backend, "bce"), np.full((40, 2), 0.5)
    targets[-1] = 7
    before = t.net.params.copy()
    with pytest.raises(ValueError, match=r"y\[39, 0\] is 7, but bce needs values in \[0,1\]"):
        t.fit(X, targets, epochs=1, batch_size=4, shuffle=False, schedule=bp.Cosine(0.1), **options)
    np.testing.assert_array_equal(t.net.params, before)
    assert (t.steps, t.schedule) == (0, None)
    weight = np.where(np.arange(40) < 39, 1.0, 0.0)
    t.fit(X, targets, epochs=1, batch_size=4, sample_weight=weight, **options)  # rows of weight 0 are skipped
    targets[-1] = np.nan
    with pytest.raises(FloatingPointError, match="epoch 2, step"):
        t.fit(X, targets, epochs=1, batch_size=4, shuffle=False, **options)


# ---- files ----


def test_a_history_is_read_back_from_its_files(backend, tmp_path):
    t = make(backend)
    t.fit(X, Y, epochs=2)
    history = t.fit(X, Y, epochs=2, validation=0.2, metrics=["r2", lambda y, outputs: np.inf])
    bp.save_history(history, tmp_path / "h.json")
    bp.save_history(history, str(tmp_path / "h.csv"))
    read = json.loads((tmp_path / "h.json").read_text(), parse_constant=pytest.fail)
    expected = {name: [value if np.isfinite(value) else None for value in values] for name, values in history.items()}
    assert read == expected
    lines = list(csv.DictReader((tmp_path / "h.csv").read_text().splitlines()))
    assert list(lines[0]) == list(history)
    for name, values in history.items():
        np.testing.assert_array_equal([float(line[name] or "nan") for line in lines], values)
    with pytest.raises(ValueError, match=r"must end in \.csv or \.json, not "):
        bp.save_history(history, tmp_path / "h.txt")
    with pytest.raises(TypeError, match=r"history must be a dict of lists such as t\.history, not Trainer"):
        bp.save_history(make("compiled"), tmp_path / "h.csv")
    with pytest.raises(TypeError, match=r"path must be a str or os\.PathLike, not int"):
        bp.save_history(history, 3)
    for save in (bp.Trainer.save, lambda t, path: t.net.save(path), lambda t, path: bp.save_history(history, f"{path}.csv")):
        with pytest.raises(FileNotFoundError, match="the directory .*nowhere does not exist; create it first"):
            save(make("compiled"), tmp_path / "nowhere" / "x")
