"""Sequences of different length: each row as the same net for sequences of its length, and what is refused."""

import numpy as np
import pytest

import microbp as bp

LENGTH, COLUMNS, LEVELS = 9, 3, 7


@pytest.fixture(params=["compiled", "reference"])
def backend(request):
    return request.param


def layers(seed, norm=None):
    """A function of a sequence to a node with several positions, by random layers."""
    random = np.random.default_rng(seed)
    chosen = [random.choice(["conv", "dense", "pool", "norm", "split", "multiply", "recurrent"]) for _ in range(4)]
    sizes = random.integers(1, 4, (4, 3))
    kinds = random.integers(0, 2, 4)

    def build(h):
        for i, (kind, (size, stride, dilation)) in enumerate(zip(chosen, sizes.tolist(), strict=True)):
            if kind == "conv":
                pad = "same" if kinds[i] and size % 2 else int(kinds[i])
                h = bp.Conv(4, size, min(stride, 2), pad, min(dilation, 2), activation="tanh", bias_init="normal", name=f"l{i}")(h)
            elif kind == "dense":
                h = bp.Dense(5, activation="sigmoid", bias_init="normal", name=f"l{i}")(h)
            elif kind == "pool":
                h = bp.Pool(min(size, 2), stride=min(stride, 2), kind=("max", "mean")[kinds[i]])(h)
            elif kind == "recurrent":
                h = bp.Recurrent(4, cell=("tanh", "gru", "lstm")[size - 1], reverse=bool(kinds[i]), name=f"l{i}")(h)
            elif kind == "norm":
                h = (norm or bp.LayerNorm)(name=f"l{i}")(h)
            elif kind == "split":
                h = bp.concat([h[:, :2], bp.Dense(2, activation="cos", name=f"l{i}")(h)])
            else:
                h = h * bp.Dense(h.width, activation="sin", name=f"l{i}")(h) - 0.5 * h
        return h

    return build


ENDS = {
    "positions": lambda h: bp.Dense(3, bias_init="normal", name="end")(h),
    "last": lambda h: bp.Dense(3, bias_init="normal", name="end")(bp.Last()(h)),
    "max": lambda h: bp.Dense(3, name="end")(bp.Pool(h.grid[0], kind="max")(h)),
    "mean": lambda h: bp.Dense(3, name="end")(bp.Pool(h.grid[0], kind="mean")(h)),
}


def network(seed, end, length=LENGTH, dtype="float64", backend="compiled", norm=None, **options):
    x = bp.Sequence(length, COLUMNS)
    return bp.Network(x, ENDS[end](layers(seed, norm)(x)), dtype=dtype, seed=seed, backend=backend, **options)


def built(*args, **options):
    """The network; None if its windows do not fit."""
    try:
        return network(*args, **options)
    except (ValueError, IndexError):
        return None


def of_lengths(seed, end, **options):
    """The networks for sequences of each length for which it can be made."""
    nets = {length: built(seed, end, length, **options) for length in range(1, LENGTH + 1)}
    return {length: net for length, net in nets.items() if net is not None}


def data(seed, lengths=range(LENGTH + 1), rows=12, gap=np.nan):
    random = np.random.default_rng(seed)
    x, lengths = random.normal(size=(rows, LENGTH, COLUMNS)), random.choice(list(lengths), rows)
    for row, length in zip(x, lengths, strict=True):
        row[length:] = gap
    return x, lengths


def places(net):
    return net.outputs[0].grid[0] if net.outputs[0].grid else 1


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_row_is_that_of_a_network_of_its_length(seed, end, dtype):
    nets = of_lengths(seed, end, dtype=dtype)
    if LENGTH not in nets:
        pytest.skip("these windows do not fit")
    whole = nets[LENGTH]
    x, lengths = data(seed, nets)
    found = whole.predict(x, lengths=lengths).reshape(len(x), -1, 3)
    targets = np.random.default_rng(seed).normal(size=found.shape)
    t = bp.Trainer(whole, "mse")
    loss = t.backward(x, targets.reshape(len(x), -1), lengths=lengths)
    losses, gradients, total = 0.0, np.zeros(len(whole.params)), 0
    for r, length in enumerate(lengths):
        alone, row = nets[length], x[r : r + 1, :length].reshape(1, -1)
        n = places(alone)
        alone.params[...] = whole.params
        assert np.array_equal(alone.predict(row).reshape(n, 3), found[r, :n]) and not found[r, n:].any()
        one = bp.Trainer(alone, "mse")
        losses += n * one.backward(row, targets[r : r + 1, :n].reshape(1, -1))
        gradients += n * one.grads
        total += n
    bound = 1e-11 if dtype == "float64" else 3e-5
    assert loss == pytest.approx(losses / total, rel=bound)
    np.testing.assert_allclose(t.grads, gradients / total, rtol=bound, atol=bound)


LOSSES = {
    "mse": "mse",
    "gaps": bp.Loss("huber", missing=True),
    "classes": "cross_entropy",
    "labels": bp.Loss("cross_entropy", missing=True),
}


def targets_of(net, name, rows, seed):
    random = np.random.default_rng(seed)
    shape = (rows, *net.outputs[0].grid)
    if name in ("mse", "gaps"):
        values = random.normal(size=(*shape, 3))
        return np.where(random.random(values.shape) < 0.2, np.nan, values) if name == "gaps" else values
    return random.integers(-1 if name == "labels" else 0, 3, shape)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("seed", range(8))
def test_the_reference_trains_the_same(seed, end, loss):
    nets = [built(seed, end, backend=backend, norm=bp.BatchNorm) for backend in ("compiled", "reference")]
    if nets[0] is None:
        pytest.skip("these windows do not fit")
    ts = [bp.Trainer(net, LOSSES[loss], bp.SGD(lr=0.05), seed=1) for net in nets]
    for step in range(3):
        x, lengths = data(seed + step)
        y = targets_of(nets[0], loss, len(x), seed + step)
        weight = np.random.default_rng(step).random((len(x), places(nets[0])) if step == 2 and nets[0].outputs[0].grid else len(x))
        found, expected = (t.step(x, y, weight, lengths=lengths) for t in ts)
        assert found == pytest.approx(expected, rel=1e-10)
        np.testing.assert_allclose(ts[0].grads, ts[1].grads, rtol=1e-8, atol=1e-10)
        np.testing.assert_allclose(nets[0].buffers, nets[1].buffers, rtol=1e-10, atol=1e-10)
        assert ts[0].evaluate(x, y, weight, lengths) == pytest.approx(ts[1].evaluate(x, y, weight, lengths), rel=1e-8)
    ours, theirs = (net.predict(x, lengths=lengths) for net in nets)
    np.testing.assert_allclose(ours, theirs, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("seed", range(4))
def test_gradients_are_those_of_differences(backend, seed):
    net = built(seed, "positions", backend=backend, norm=bp.BatchNorm)
    x, lengths = data(seed, rows=4)
    lengths[0] = LENGTH
    x = np.nan_to_num(x)
    y = targets_of(net, "mse", len(x), seed)
    assert bp.Trainer(net, "mse").check_gradients(x, y, lengths=lengths).error < 1e-5


def noisy(dtype="float32", threads=None):
    """Every kind of node that has random numbers, statistics or positions."""
    x = bp.Sequence(40, 6)
    h = bp.Dropout(0.2)(bp.BatchNorm()(bp.Conv(16, 5, pad="same", activation="relu")(x)))
    h = bp.GaussianNoise(0.1)(bp.Conv(24, 3, stride=2, activation="tanh")(h))
    h = bp.concat([bp.Recurrent(8, cell="gru")(h), bp.Recurrent(8, cell="lstm", reverse=True)(h)])
    ends = [bp.Dense(5)(h), bp.Dense(2)(bp.Last()(h)), bp.Dense(2)(bp.Pool(h.grid[0], kind="mean")(h))]
    return bp.Network(x, ends, dtype=dtype, seed=2, n_threads=threads)


def noisy_data(rows=150):
    random = np.random.default_rng(5)
    x, lengths = random.normal(size=(rows, 40, 6)).astype(np.float32), random.integers(0, 41, rows)
    return x, [random.integers(0, 5, (rows, 19)), random.normal(size=(rows, 2)), random.normal(size=(rows, 2))], lengths


def noisy_trainer(**options):
    return bp.Trainer(noisy(**options), ["cross_entropy", "mse", "mse"], seed=3)


def test_results_have_the_same_bits_for_any_number_of_threads_and_any_padding():
    x, y, lengths = noisy_data()
    found = []
    for threads, gap in ((1, 0.0), (2, np.nan), (3, np.inf), (8, 7.0)):
        t = noisy_trainer(threads=threads)
        for row, length in zip(x, lengths, strict=True):
            row[length:] = gap
        t.fit(x, y, epochs=2, batch_size=64, lengths=lengths, progress=False)
        found.append([t.net.params.copy(), t.net.buffers.copy(), *t.net.predict(x, lengths=lengths)])
    for other in found[1:]:
        for a, b in zip(found[0], other, strict=True):
            assert np.array_equal(a, b)


def test_full_lengths_are_no_lengths():
    x, y, _lengths = noisy_data(50)
    ts = [noisy_trainer(), noisy_trainer()]
    losses = [t.step(x, y, lengths=one) for t, one in zip(ts, (None, np.full(50, 40)), strict=True)]
    assert losses[0] == losses[1] and np.array_equal(ts[0].net.params, ts[1].net.params)


def test_parts_of_a_batch_add_up(backend):
    net = network(3, "positions", backend=backend)
    x, lengths = data(3)
    y = targets_of(net, "mse", len(x), 0)
    t = bp.Trainer(net, "mse")
    loss = t.backward(x, y, lengths=lengths)
    whole = t.grads.copy()
    valid = net._sequences.of_outputs(net._sequences.read(lengths, len(x)))[0]
    total = valid.sum() / places(net)
    rest = t.backward(x[:5], y[:5], total=total, lengths=lengths[:5])
    rest += t.backward(x[5:], y[5:], accumulate=True, total=total, lengths=lengths[5:])
    assert rest == pytest.approx(loss, rel=1e-12)
    np.testing.assert_allclose(t.grads, whole, rtol=1e-11, atol=1e-13)


def fitted(net, x, y, lengths, **options):
    t = bp.Trainer(net, "cross_entropy", bp.Adam(lr=0.01), seed=4)
    t.fit(x, y, epochs=2, batch_size=8, lengths=lengths, progress=False, **options)
    return t


@pytest.mark.parametrize("options", [{}, {"accumulate": 2}, {"validation": 0.25, "metrics": "accuracy"}])
def test_fit_takes_the_lengths_of_its_rows(options):
    x, lengths = data(1, rows=60)
    make = lambda: network(5, "positions", norm=bp.BatchNorm)  # noqa: E731
    y = targets_of(make(), "classes", 60, 1)
    rows = np.random.default_rng(0).permutation(60)[:40]
    chosen, copied = fitted(make(), x, y, lengths, rows=rows, **options), fitted(make(), x[rows], y[rows], lengths[rows], **options)
    assert np.array_equal(chosen.net.params, copied.net.params)
    for name in set(chosen.history) - {"seconds"}:
        assert chosen.history[name] == copied.history[name]


def test_validation_and_streams_take_lengths():
    x, lengths = data(2, rows=48)
    make = lambda: network(5, "positions")  # noqa: E731
    y = targets_of(make(), "classes", 48, 2)
    held = (x[32:], y[32:], None, lengths[32:])
    t = fitted(make(), x[:32], y[:32], lengths[:32], validation=held, metrics="accuracy", shuffle=False)
    chunks = [(x[i : i + 12], y[i : i + 12], None, lengths[i : i + 12]) for i in (0, 12)] + [(x[24:32], y[24:32], None, lengths[24:32])]
    streamed = bp.Trainer(make(), "cross_entropy", bp.Adam(lr=0.01), seed=4)
    streamed.fit(chunks, epochs=2, batch_size=8, validation=held, shuffle=False, progress=False)
    np.testing.assert_allclose(streamed.net.params, t.net.params, rtol=1e-12)
    valid = t.net._sequences.of_outputs(t.net._sequences.read(lengths[32:], 16))[0]
    there = np.arange(places(t.net)) < valid[:, None]
    right = t.net.predict(x[32:], lengths=lengths[32:]).argmax(axis=2) == y[32:]
    assert t.history["accuracy"][-1] == pytest.approx(right[there].mean(), rel=1e-12)
    assert t.history["val_loss"][-1] == pytest.approx(t.evaluate(*held), rel=1e-12)


def words(backend, combine="concat"):
    ids = bp.Ids(LENGTH, LEVELS)
    h = bp.Unflatten(LENGTH)(bp.Embedding(LEVELS, 4, name="word")(ids))
    return bp.Network(ids, bp.Dense(3)(bp.Conv(5, 3, pad="same", activation="tanh")(h)), dtype="float64", seed=5, backend=backend)


def test_ids_beyond_a_length_name_no_row():
    ts = [bp.Trainer(words(backend), "cross_entropy", "adam") for backend in ("compiled", "reference")]
    random = np.random.default_rng(0)
    for _ in range(3):
        x, lengths = random.integers(0, LEVELS - 2, (6, LENGTH)), random.integers(0, LENGTH + 1, 6)
        for row, length in zip(x, lengths, strict=True):
            row[length:] = -1
        y = random.integers(0, 3, (6, LENGTH))
        found, expected = (t.step(x, y, lengths=lengths) for t in ts)
        assert found == pytest.approx(expected, rel=1e-12)
        (rows, values), (others, theirs) = (t.sparse_grads["word"] for t in ts)
        named = np.unique(x[x >= 0])
        assert np.array_equal(rows, named) and np.array_equal(others, named)
        np.testing.assert_allclose(values, theirs, rtol=1e-11, atol=1e-14)
    ours, theirs = (t.net.predict(x, lengths=lengths, at=["word", "output"]) for t in ts)
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-13)
    assert not ours[0].reshape(6, LENGTH, 4)[np.arange(LENGTH) >= lengths[:, None]].any()


def pair(backend, lengths=(6, 6)):
    a, b, z = bp.Sequence(lengths[0], 2), bp.Sequence(lengths[1], 2), bp.Input(2)
    joined = a + bp.Repeat(lengths[0])(z)
    joined = bp.Dense(2)(joined) + b if lengths[0] == lengths[1] else joined
    return bp.Network([a, b, z], [joined, bp.Last()(b)], dtype="float64", seed=1, backend=backend)


def test_a_position_of_a_sum_is_there_if_it_is_there_in_all(backend):
    net = pair(backend)
    random = np.random.default_rng(0)
    xs = [random.normal(size=(3, 6, 2)), random.normal(size=(3, 6, 2)), random.normal(size=(3, 2))]
    lengths = [[6, 2, 0], [3, 5, 4]]
    whole, _ = net.predict(xs)
    found, last = net.predict(xs, lengths=lengths)
    for r, n in enumerate((3, 2, 0)):
        assert np.array_equal(found[r, :n], whole[r, :n]) and not found[r, n:].any()
    assert np.array_equal(last, xs[1][range(3), [2, 4, 3]])
    assert np.array_equal(net.predict(xs, lengths=[None, [3, 5, 4]])[1], last)
    for a, b in zip(net.predict(xs, lengths=[4, 1, 6]), net.predict(xs, lengths=[[4, 1, 6]] * 2), strict=True):
        assert np.array_equal(a, b)


def test_a_row_without_positions(backend):
    for end in ("last", "max", "mean"):
        net = network(0, end, backend=backend)
        assert np.array_equal(net.predict(np.full((1, LENGTH, COLUMNS), np.nan), lengths=[0])[0], net.tensors["end.bias"])
    t = bp.Trainer(network(0, "positions", backend=backend), "mse")
    y = np.zeros((2, *t.net.outputs[0].row_shape))
    with pytest.raises(ValueError, match=r"missing \(NaN, or the label -1\), or beyond the lengths"):
        t.step(np.zeros((2, LENGTH, COLUMNS)), y, lengths=[0, 0])


REFUSED = {
    "negative": ([3, -1], r"lengths\[1\] is -1, but must be from 0 to 9"),
    "long": ([10, 1], r"lengths\[0\] is 10, but must be from 0 to 9"),
    "floats": ([1.0, 2.0], "lengths must have whole numbers, not float64"),
    "rows": ([1, 2, 3], r"lengths has shape \(3,\); it must be \(2,\)"),
    "mask": (np.ones((2, 9), bool), r"lengths must have whole numbers, not bool: of a mask, pass mask\.sum\(axis=1\)"),
    "list": ([np.array([1, 2])], r"lengths must be one array of shape \(2,\), not a list of 1, because the network has one sequence"),
    "list with None": ([None, [1, 2]], r"lengths must be one array of shape \(2,\), not a list of 2"),
}


@pytest.mark.parametrize(("lengths", "message"), REFUSED.values(), ids=REFUSED)
def test_wrong_lengths_are_refused(backend, lengths, message):
    net = network(0, "last", backend=backend)
    x, y = np.zeros((2, LENGTH, COLUMNS)), np.zeros((2, 3))
    for call in (lambda: net.predict(x, lengths=lengths), lambda: bp.Trainer(net, "mse").step(x, y, lengths=lengths)):
        with pytest.raises((ValueError, TypeError), match=message):
            call()


def test_no_rows_have_no_lengths(backend):
    net = network(0, "positions", backend=backend)
    assert net.predict(np.zeros((0, LENGTH, COLUMNS)), lengths=[]).shape == (0, *net.outputs[0].row_shape)


def test_what_is_wrong_with_rows_is_told_in_the_shapes_of_the_caller(backend):
    net = network(0, "positions", backend=backend)
    x, y = np.zeros((4, LENGTH, COLUMNS)), np.zeros((4, *net.outputs[0].row_shape))
    t = bp.Trainer(net, "mse")
    with pytest.raises(ValueError, match=rf"same number of rows, but have shapes \(4, {LENGTH}, {COLUMNS}\) and \(3, "):
        t.step(x, y[:3])
    with pytest.raises(ValueError, match=rf"X has no rows: its shape is \(0, {LENGTH}, {COLUMNS}\)"):
        t.step(x[:0], y[:0])
    with pytest.raises(ValueError, match=rf"needs shape \(rows, {LENGTH}, {COLUMNS}\), or \(rows, {LENGTH * COLUMNS}\)"):
        t.step(x[:, 1:], y)
    with pytest.raises(
        ValueError, match="X cannot be read as an array, because its parts differ in shape; for sequences of different length"
    ):
        net.predict([x[0], x[1, 1:]])


def test_validation_rows_have_lengths_too(backend):
    net = network(0, "positions", backend=backend)
    x, y = np.zeros((4, LENGTH, COLUMNS)), np.zeros((4, *net.outputs[0].row_shape))
    before, lengths = net.params.tobytes(), [1, 2, 3, 4]
    with pytest.raises(ValueError, match=r"validation: .* pass \(X, y, None, lengths\)"):
        bp.Trainer(net, "mse").fit(x, y, lengths=lengths, epochs=1, validation=(x, y))
    assert net.params.tobytes() == before
    bp.Trainer(net, "mse").fit(x, y, lengths=lengths, epochs=1, validation=(x, y, None, lengths))


def test_lengths_are_of_sequences(backend):
    grid, flat = bp.Grid(3, 3), bp.Input(4)
    s = bp.Sequence(4, 1)
    for x, node, shape, message in (
        (flat, bp.Dense(1)(flat), (2, 4), "no bp.Sequence"),
        (grid, bp.Conv(1, 2)(grid), (2, 9), "no bp.Sequence"),
        (s, bp.Unflatten(2, 2)(s), (2, 4), r"node \d+ \(grid\) makes other positions of several"),
    ):
        net = bp.Network(x, node, backend=backend)
        with pytest.raises(ValueError, match=message):
            net.predict(np.zeros(shape), lengths=[1, 1])
    net = pair(backend, (4, 6))
    xs = [np.zeros((2, 4, 2)), np.zeros((2, 6, 2)), np.zeros((2, 2))]
    with pytest.raises(ValueError, match="lengths must be a list of 2 arrays, one per sequence"):
        net.predict(xs, lengths=[1, 1])
    with pytest.raises(ValueError, match="lengths must be an array, or a list of 2"):
        net.predict(xs, lengths=[[1, 1]] * 3)


def test_an_error_names_a_value_that_is_there(backend):
    x, lengths = np.zeros((3, LENGTH, COLUMNS)), [2, 4, 9]
    x[0, 5], x[1, 3, 1] = np.nan, np.inf
    t = bp.Trainer(network(0, "last", backend=backend), "mse")
    with pytest.raises(FloatingPointError, match="X contains inf, first at row 1, column 10"):
        t.step(x, np.zeros((3, 3)), lengths=lengths)


def test_what_does_not_take_lengths(backend):
    x, lengths = data(0, rows=4, gap=0)
    net = network(0, "last", backend=backend)
    t = bp.Trainer(net, lambda o, y, w: (0.0, np.zeros_like(o)))
    with pytest.raises(ValueError, match="lengths work with named losses only"):
        t.step(x, np.zeros((4, 3)), lengths=lengths)
    t = bp.Trainer(network(0, "last", backend=backend), "mse")
    with pytest.raises(ValueError, match="lengths into the chunks"):
        t.fit([(x, np.zeros((4, 3)))], epochs=1, lengths=lengths)
    s = bp.Sequence(LENGTH, COLUMNS)
    t = bp.Trainer(bp.Network(s, bp.Last()(bp.Standardize()(s)), backend=backend), "mse")
    with pytest.raises(ValueError, match="bp.Standardize"):
        t.fit(x, np.zeros((4, COLUMNS)), epochs=1, lengths=lengths)
    t.net.standardize(x)
    t.fit(x, np.zeros((4, COLUMNS)), epochs=1, lengths=lengths)


def test_a_refused_call_leaves_the_values_of_forward(backend):
    x, lengths = data(0, rows=6, gap=0)
    net = network(0, "positions", backend=backend)
    t, twin = bp.Trainer(net, "mse"), bp.Trainer(network(0, "positions", backend=backend), "mse")
    outputs = t.forward(x)
    t.evaluate(x, np.zeros((6, outputs[0].size)), lengths=np.full(6, LENGTH))  # so that the next call has room
    outputs = t.forward(x)
    with pytest.raises(ValueError, match="beyond the lengths"):
        t.step(x, np.zeros((6, outputs[0].size)), lengths=np.zeros(6, int))
    with pytest.raises(FloatingPointError):
        t.backward(x, np.full((6, outputs[0].size), np.inf), lengths=lengths)
    outputs = t.forward(x)
    with pytest.raises(ValueError, match="finite and at least 0"):
        t._engine._core.step({"x": x.reshape(6, -1), "lengths": [lengths.reshape(-1, 1)]}, np.zeros((6, outputs[0].size)), np.full(6, -1.0))
    t.backward_from(np.ones((6, outputs[0].size)))
    twin.forward(x)
    twin.backward_from(np.ones((6, outputs[0].size)))
    assert np.array_equal(t.grads, twin.grads)


def test_batch_norm_counts_positions(backend):
    net = network(0, "positions", backend=backend, norm=bp.BatchNorm)
    s = bp.Sequence(LENGTH, COLUMNS)
    net = bp.Network(s, bp.BatchNorm(momentum=1.0, name="norm")(s), dtype="float64", backend=backend)
    x, lengths = data(0)
    t = bp.Trainer(net, "mse")
    t.step(x, np.zeros(x.shape), lengths=lengths)
    there = x[np.arange(LENGTH) < lengths[:, None]]
    np.testing.assert_allclose(net.tensors["norm.running_mean"], there.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(net.tensors["norm.running_var"], there.var(axis=0, ddof=1), rtol=1e-12)
    with pytest.raises(ValueError, match="batch_norm"):
        t.step(x[:2], np.zeros((2, LENGTH, COLUMNS)), lengths=[1, 0])


def test_the_gradient_of_a_mean_pool_below_a_dense_layer():
    s = bp.Sequence(4, 2)
    net = bp.Network(s, bp.Dense(2)(bp.Pool(4, kind="mean")(bp.Dense(3, activation="tanh")(s))), dtype="float64", seed=0)
    random = np.random.default_rng(0)
    assert bp.Trainer(net, "mse").check_gradients(random.normal(size=(8, 4, 2)), random.normal(size=(8, 2))).error < 1e-6


def test_a_row_of_columns_is_0_beyond_a_length(backend):
    """An input that is a sequence for one node, and a row of columns for another."""
    x = bp.Input(12)
    h = bp.Last()(bp.Recurrent(3)(bp.Unflatten(4)(x)))
    net = bp.Network(x, bp.Dense(2)(bp.concat([h, bp.Dense(3, "tanh")(x), x[:, 5:7]])), dtype="float64", seed=0, backend=backend)
    rows = np.random.default_rng(0).normal(size=(5, 12))
    lengths = np.array([4, 0, 1, 3, 2])
    zeros, gaps = (np.where(np.arange(12) < 3 * lengths[:, None], rows, gap) for gap in (0.0, np.nan))
    np.testing.assert_array_equal(net.predict(gaps, lengths=lengths), net.predict(zeros, lengths=lengths))
    t, y = bp.Trainer(net, "mse"), rows[:, :2]
    assert t.backward(gaps, y, lengths=lengths) == t.evaluate(zeros, y, lengths=lengths)
