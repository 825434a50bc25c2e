"""Training that goes on from a state: steps, and fit with carry_state."""

import numpy as np
import pytest

import microbp as bp

LENGTH, WIDTH, OUT = 5, 3, 2
CELLS = ["tanh", "gru", "lstm"]


def network(cell="gru", backend="compiled", dtype="float64", initial=False):
    """initial: the states of the recurrent layer are an input."""
    x, start = bp.Sequence(LENGTH, WIDTH), bp.Input(6 if cell == "lstm" else 3)
    h = bp.Recurrent(3, cell=cell, name="memory")(x, state=start if initial else None)
    return bp.Network([x, start] if initial else x, bp.Dense(OUT)(h), dtype=dtype, seed=4, backend=backend)


def trainer(net, loss="mse", optimizer="adam", **options):
    return bp.Trainer(net, loss=loss, optimizer=optimizer, **options)


def data(rows, seed=0):
    random = np.random.default_rng(seed)
    return random.normal(size=(rows, LENGTH, WIDTH)), random.normal(size=(rows, LENGTH, OUT))


def same(t, other):
    np.testing.assert_array_equal(t.net.params, other.net.params)
    for name, values in t.state.items():
        np.testing.assert_array_equal(values, other.state[name])
    assert t.history.keys() == other.history.keys()
    for name, values in t.history.items():
        assert name == "seconds" or values == other.history[name], name


@pytest.mark.parametrize("cell", CELLS)
def test_a_step_starts_from_the_state_as_from_a_node(cell, dtype, backend):
    """No gradient flows into it: the same as with an input that has the state's numbers."""
    t, of_node = trainer(network(cell, backend, dtype)), trainer(network(cell, backend, dtype, initial=True))
    state = t.net.state(4)
    for k in range(3):
        xs, y = data(4, k)
        start = state.values["memory"].copy()
        losses = [t.step(xs, y, state=state), of_node.step([xs, start], y)]
        assert losses[0] == losses[1]
        np.testing.assert_array_equal(t.grads, of_node.grads)
    assert start.any()
    loss = t.backward(xs, y, state=(before := state.copy()))
    assert loss == of_node.backward([xs, state.values["memory"]], y)
    assert (before.values["memory"] != state.values["memory"]).any()
    start = state.values["memory"].copy()
    assert t.evaluate(xs, y, state=state) == of_node.evaluate([xs, start], y)
    assert (before.values["memory"] == state.values["memory"]).all()


def test_the_reference_trains_the_same():
    ts = [trainer(network("lstm", backend), bp.Loss("mse", missing=True)) for backend in ("compiled", "reference")]
    states = [t.net.state(4) for t in ts]
    for k in range(4):
        xs, y = data(4, k)
        y[1, :, :] = y[2, 1:3, 0] = np.nan
        weight = None if k < 2 else np.array([0, 1, 2, 0.5])
        losses = [t.step(xs, y, weight, state=state) for t, state in zip(ts, states, strict=True)]
        assert losses[0] == pytest.approx(losses[1], rel=1e-12)
        np.testing.assert_allclose(ts[0].grads, ts[1].grads, rtol=1e-10, atol=1e-13)
        np.testing.assert_allclose(states[0].values["memory"], states[1].values["memory"], rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("missing", [False, True])
def test_all_rows_go_on(backend, missing):
    """Also those of weight 0, whose targets are not read, and those without targets: as in a prediction."""
    t = trainer(network(backend=backend), bp.Loss("mse", missing=missing), optimizer="sgd")
    (xs, y), state, predicted = data(4), t.net.state(4), t.net.state(4)
    y[2] = np.nan
    y[1] = np.nan if missing else 0
    weight = [1, 1, 0, 1] if missing else [1, 2, 0, 1]
    t.net.predict(xs, state=predicted)
    loss = t.step(xs, y, weight, state=state)
    np.testing.assert_array_equal(state.values["memory"], predicted.values["memory"])
    plain = trainer(network(backend=backend), bp.Loss("mse", missing=missing), optimizer="sgd")
    assert loss == pytest.approx(plain.step(xs, y, weight), rel=1e-12)
    np.testing.assert_allclose(t.net.params, plain.net.params, rtol=1e-12, atol=1e-14)


def test_rows_without_labels_go_on(backend):
    x = bp.Sequence(LENGTH, WIDTH)
    net = bp.Network(x, bp.Dense(2)(bp.Last()(bp.Recurrent(3, name="memory")(x))), seed=0, backend=backend)
    t, state = trainer(net, bp.Loss("cross_entropy", missing=True)), net.state(3)
    t.step(data(3)[0], np.array([1, -1, 0]), state=state)
    assert state.values["memory"].any(axis=1).all()


def test_a_call_that_fails_changes_no_state(backend):
    t = trainer(network(backend=backend))
    (xs, y), state = data(4), t.net.state(4)
    t.step(xs, y, state=state)
    before = state.copy().values["memory"]
    wrong = xs.copy()
    wrong[3, 2, 1] = np.nan
    for call in (t.step, t.backward):
        with pytest.raises(FloatingPointError):
            call(wrong, y, state=state)
    with pytest.raises(ValueError, match="step: state has 4 rows, but X has 3"):
        t.step(xs[:3], y[:3], state=state)
    with pytest.raises(TypeError, match="evaluate: state must be a state"):
        t.evaluate(xs, y, state=before)
    with pytest.raises(ValueError, match="state has 3 numbers for node 2, but the node has 6"):
        trainer(network("lstm", backend)).step(xs, y, state=state)
    own = trainer(network(backend=backend), lambda o, y, w: (float(((o - y) ** 2).sum()), 2 * (o - y)))
    with pytest.raises(ValueError, match="backward: state works with named losses only"):
        own.backward(xs, y.reshape(4, -1), state=state)
    np.testing.assert_array_equal(state.values["memory"], before)


# ---- fit ----


def by_hand(t, xs, y, epochs, batch_size, accumulate=1):
    """What fit with carry_state does, in steps."""
    for _ in range(epochs):
        state = t.net.state(min(batch_size, len(xs)))
        losses, weights = [], []
        for start in range(0, len(xs), batch_size):
            rows = slice(start, start + batch_size)
            n = len(xs[rows])
            if n < state.rows:  # the last batch: the first rows go on
                smaller = t.net.state(n)
                smaller.values["memory"][:] = state.values["memory"][:n]
                state = smaller
            if accumulate == 1:
                losses.append(t.step(xs[rows], y[rows], state=state))
            else:
                first = start // batch_size % accumulate
                end = min(len(xs), start - first * batch_size + accumulate * batch_size)
                total = end - (start - first * batch_size)
                losses.append(t.backward(xs[rows], y[rows], accumulate=first > 0, total=total, first_row=first * batch_size, state=state))
                if start + n == end:
                    t.apply()
            weights.append(n)
    return np.average(losses, weights=weights) if accumulate == 1 else None


@pytest.mark.parametrize("cell", CELLS)
def test_fit_goes_on_from_batch_to_batch(cell, backend):
    xs, y = data(11)
    t, other = (trainer(network(cell, backend)) for _ in range(2))
    history = t.fit(xs, y, epochs=2, batch_size=4, carry_state=True)
    assert history["loss"][-1] == pytest.approx(by_hand(other, xs, y, 2, 4), rel=1e-12)
    np.testing.assert_array_equal(t.net.params, other.net.params)
    plain = trainer(network(cell, backend))
    plain.fit(xs, y, epochs=2, batch_size=4, shuffle=False)
    assert (plain.net.params != t.net.params).any()


def test_fit_with_micro_batches():
    xs, y = data(18)
    t, other = (trainer(network()) for _ in range(2))
    t.fit(xs, y, epochs=2, batch_size=4, accumulate=2, carry_state=True)
    by_hand(other, xs, y, 2, 4, accumulate=2)
    np.testing.assert_array_equal(t.net.params, other.net.params)
    assert t.steps == 2 * 3


def test_validation_and_metrics_go_on_too(backend):
    xs, y = data(12)
    held, w = data(7, 1)
    w[3] = np.nan
    t = trainer(network(backend=backend), bp.Loss("mse", missing=True))
    history = t.fit(xs, y, epochs=1, batch_size=4, carry_state=True, validation=(held, w), metrics=["rmse", "mae"])
    state, predictions = t.net.state(4), []
    losses = [t.evaluate(held[:4], w[:4], state=state.copy())]
    predictions.append(t.predict(held[:4], state=state))
    smaller = t.net.state(3)
    smaller.values["memory"][:] = state.values["memory"][:3]
    losses.append(t.evaluate(held[4:], w[4:], state=smaller.copy()))
    predictions.append(t.predict(held[4:], state=smaller))
    assert history["val_loss"] == [pytest.approx(np.mean(losses), rel=1e-12)]  # of 3 rows each: one has no targets
    kept = np.delete(np.concatenate(predictions), 3, axis=0), np.delete(w, 3, axis=0)
    assert history["rmse"] == [pytest.approx(np.sqrt(np.mean((kept[0] - kept[1]) ** 2)), rel=1e-6)]
    assert history["mae"] == [pytest.approx(np.mean(abs(kept[0] - kept[1])), rel=1e-6)]


def test_a_resumed_fit_has_the_bits_of_one(tmp_path, backend):
    xs, y = data(11)
    options = {"batch_size": 4, "carry_state": True, "validation": data(6, 1)}
    whole, t = (trainer(network(backend=backend)) for _ in range(2))
    whole.fit(xs, y, epochs=4, **options)
    t.fit(xs, y, epochs=2, checkpoint=tmp_path / "t.safetensors", **options)
    again = bp.Trainer.load(tmp_path / "t.safetensors", backend=backend)
    again.fit(xs, y, epochs=2, **options)
    same(again, whole)


def test_rows_of_weight_0_go_on_in_fit():
    xs, y = data(12)
    t, other = (trainer(network(), optimizer="sgd") for _ in range(2))
    weight = np.ones(12)
    weight[4:8] = 0  # a whole batch
    weight[9] = 0
    y[4:8] = y[9] = np.nan
    history = t.fit(xs, y, epochs=1, batch_size=4, carry_state=True, sample_weight=weight)
    state = other.net.state(4)
    losses = [other.step(xs[:4], y[:4], state=state)]
    other.predict(xs[4:8], state=state)
    losses.append(other.step(xs[8:], y[8:], weight[8:], state=state))
    np.testing.assert_array_equal(t.net.params, other.net.params)
    assert history["loss"] == [pytest.approx((losses[0] * 4 + losses[1] * 3) / 7, rel=1e-12)]


def test_callbacks_and_stopping():
    xs, y = data(12)
    t, other, records = (*(trainer(network(), optimizer=bp.Adam(lr=0.3)) for _ in range(2)), [])
    options = {"batch_size": 4, "carry_state": True, "validation": data(8, 1), "patience": 2}
    t.fit(xs, y, epochs=30, batch_callback=records.append, **options)
    assert len(t.history["loss"]) == len(records) // 3 < 30
    other.fit(xs, y, epochs=30, **options)
    same(t, other)
    other = trainer(network())
    other.fit(xs, y, epochs=1, batch_size=4, carry_state=True, batch_callback=lambda record: record.steps == 2)
    assert other.steps == 2


def test_what_fit_refuses():
    xs, y = data(8)
    t = trainer(network())
    for arguments, text in [
        ({"validation": 0.25}, r"fit: carry_state needs validation=\(X, y\)"),
        ({"validation": np.arange(2)}, r"fit: carry_state needs validation=\(X, y\)"),
        ({"validation": [1, 2]}, r"fit: carry_state needs validation=\(X, y\)"),
        ({"validation": []}, r"validation must be \(X, y\), .* not a list of length 0"),
        ({"rows": np.arange(4)}, r"fit: carry_state needs all rows, .*; pass X\[rows\] instead of rows="),
    ]:
        with pytest.raises(ValueError, match=text):
            t.fit(xs, y, epochs=1, carry_state=True, **arguments)
    with pytest.raises(ValueError, match="fit: carry_state needs arrays, not a stream"):
        t.fit([(xs, y)], epochs=1, carry_state=True)
    with pytest.raises(TypeError, match="fit: carry_state must be True or False, not 1"):
        t.fit(xs, y, epochs=1, carry_state=1)
    own = trainer(network(), lambda o, y, w: (0.0, o))
    with pytest.raises(ValueError, match="fit: carry_state works with named losses only"):
        own.fit(xs, y, epochs=1, carry_state=True)
    x = bp.Sequence(LENGTH, WIDTH)
    with pytest.raises(ValueError, match="no recurrent node that starts from zeros"):
        trainer(bp.Network(x, bp.Dense(2)(x), seed=0)).fit(xs, y, epochs=1, carry_state=True)
    assert t.steps == t.epoch == 0
