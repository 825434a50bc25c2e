"""Epochs and fit: order, schedules, validation, patience, records, for both backends."""

import numpy as np
import pytest
from cases import own_mse

import microbp as bp

RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 3))
Y = X @ RNG.normal(size=(3, 2)) + 0.1 * RNG.normal(size=(40, 2))


def make(backend, loss="mse", lr=0.01, dtype="float64"):
    return bp.Trainer(bp.mlp([3, 4, 2], dtype=dtype, seed=1, backend=backend), loss, bp.Adam(lr=lr))


def test_fit_learns(backend):
    history = make(backend, lr=0.05).fit(X, Y, epochs=12, batch_size=8)
    assert history["loss"][-1] < history["loss"][0] / 2
    assert {len(values) for values in history.values()} == {12}


def test_fit_is_the_loop_of_epochs(backend):
    a, b = make(backend), make(backend)
    history = a.fit(X, Y, epochs=3, batch_size=16)
    for record in b.epochs(X, Y, batch_size=16):
        if record["epoch"] == 3:
            break
    assert b.history["loss"] == history["loss"]
    assert (record.loss, record.steps, b.epoch) == (history["loss"][-1], 9, 3)
    np.testing.assert_array_equal(a.net.params, b.net.params)


def test_fit_continues_where_it_stopped(backend):
    once, twice = make(backend), make(backend)
    once.fit(X, Y, epochs=4)
    twice.fit(X, Y, epochs=1)
    assert twice.fit(X, Y, epochs=3)["loss"] == once.history["loss"]


def test_an_epoch_is_a_step_for_each_batch_of_the_order(backend):
    order = np.arange(39, -1, -1)
    t, by_hand = make(backend), make(backend)
    next(t.epochs(X, Y, batch_size=16, order=order))
    losses = [by_hand.step(X[rows], Y[rows]) for rows in (order[:16], order[16:32], order[32:])]
    np.testing.assert_array_equal(t.net.params, by_hand.net.params)
    assert t.history["loss"][0] == pytest.approx(np.average(losses, weights=[16, 16, 8]), rel=1e-12)


def test_shuffling_visits_every_row_and_changes_each_epoch(backend):
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


def test_a_row_of_weight_zero_is_as_if_removed(backend):
    weight = np.where(np.arange(40) % 3 == 0, 0.0, 1.5)
    a, b = make(backend), make(backend)
    kept = weight > 0
    weighted = a.fit(X, Y, epochs=2, batch_size=4, sample_weight=weight)["loss"]
    assert weighted == pytest.approx(b.fit(X[kept], Y[kept], epochs=2, batch_size=4)["loss"], rel=1e-9)


def test_a_schedule_gives_each_step_its_rate(backend):
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


def test_a_loss_of_ones_own_fits_as_the_named_one(backend):
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


def test_given_validation_is_evaluated(backend):
    t = make(backend)
    history = t.fit(X[:30], Y[:30], epochs=2, validation=(X[30:], Y[30:], np.arange(10)), metrics=["rmse", "r2"])
    assert history["val_loss"][-1] == t.evaluate(X[30:], Y[30:], np.arange(10))
    assert history["rmse"][-1] == bp.rmse(Y[30:], t.predict(X[30:]))


def test_patience_stops_and_brings_the_best_back(backend):
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


def test_a_callback_stops_by_true_alone(backend):
    t = make(backend)
    t.fit(X, Y, epochs=5, callback=lambda record: record["epoch"] == 2)
    assert len(t.history["loss"]) == 2
    t.fit(X, Y, epochs=3, callback=lambda record: "go on")
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
    with pytest.raises(FloatingPointError, match=r"epoch 2, step 8.*lower lr"):
        t.fit(broken, Y, epochs=1, batch_size=8, shuffle=False)
    assert t.steps == 7
    assert np.isfinite(t.net.params).all()


def test_metrics_see_predictions_through_the_link(backend):
    labels = (X[:, 0] > 0).astype(int)
    t = make(backend, "cross_entropy")

    def mean_sum(y, outputs):
        return outputs.sum(axis=1).mean()

    history = t.fit(X, labels, epochs=2, metrics=["accuracy", mean_sum])
    assert history["accuracy"][-1] == bp.accuracy(labels, t.predict(X))
    assert history["mean_sum"] == pytest.approx([1, 1])


def test_progress_is_one_line_on_stderr(backend, capsys):
    make(backend).fit(X, Y, epochs=2)
    assert capsys.readouterr() == ("", "")
    make(backend).fit(X, Y, epochs=2, progress=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert "epoch 2/2" in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"epochs": -1}, ValueError),
        ({"epochs": 1.5}, TypeError),
        ({"batch_size": 0}, ValueError),
        ({"patience": 3}, ValueError),
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
def test_an_order_that_names_no_rows_is_refused(backend, order):
    with pytest.raises(ValueError, match="order"):
        make(backend).epochs(X, Y, order=order)


def test_a_wrong_target_in_a_later_batch_changes_nothing(backend):
    t, targets = make(backend, "bce"), np.full((40, 2), 0.5)
    targets[-1] = 7
    before = t.net.params.copy()
    with pytest.raises(ValueError, match="row 39"):
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
