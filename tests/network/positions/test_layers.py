"""Grids, sequences, convolutions and pools against NumPy, and what they refuse."""

import copy
import pickle

import numpy as np
import pytest

import microbp as bp


@pytest.fixture(params=["compiled", "reference"])
def backend(request):
    return request.param


def windows(x, size, stride, pad, dilation):
    """(rows, places, height, width, columns) of x (rows, height, width, columns)."""
    padded = np.pad(x, ((0, 0), (pad[0],) * 2, (pad[1],) * 2, (0, 0)))
    high, wide = ((length - d * (k - 1) - 1) // s + 1 for length, k, s, d in zip(padded.shape[1:3], size, stride, dilation, strict=True))
    index = [
        np.ix_(
            range(i * stride[0], i * stride[0] + dilation[0] * size[0], dilation[0]),
            range(j * stride[1], j * stride[1] + dilation[1] * size[1], dilation[1]),
        )
        for i in range(high)
        for j in range(wide)
    ]
    return np.stack([padded[:, rows, columns] for rows, columns in index], axis=1), (high, wide)


WINDOWS = [
    ((3, 3), (1, 1), (0, 0), (1, 1)),
    ((3, 2), (2, 1), (1, 3), (1, 1)),
    ((2, 3), (1, 2), (2, 1), (2, 3)),
    ((1, 1), (3, 2), (0, 0), (1, 1)),
    ((5, 7), (1, 1), (0, 0), (1, 1)),
    ((2, 2), (5, 4), (4, 5), (1, 2)),
]


@pytest.mark.parametrize("columns", [1, 3])
@pytest.mark.parametrize("window", WINDOWS)
def test_a_convolution_equals_numpy(backend, window, columns):
    size, stride, pad, dilation = window
    x = bp.Grid(5, 7, columns)
    h = bp.Conv(4, size, stride, pad, dilation, activation="tanh", bias_init="normal")(x)
    net = bp.Network(x, h, seed=1, dtype="float64", backend=backend)
    rows = np.random.default_rng(0).normal(size=(6, 5, 7, columns))
    seen, grid = windows(rows, *window)
    expected = np.tanh(seen.reshape(6, seen.shape[1], -1) @ net.tensors["dense_0.weight"].T + net.tensors["dense_0.bias"])
    assert h.grid == grid and net.outputs[0].row_shape == (*(grid if grid != (1, 1) else ()), 4)
    found = net.predict(rows)
    assert found.shape == (6, *net.outputs[0].row_shape)
    np.testing.assert_allclose(found.reshape(6, -1, 4), expected, rtol=1e-12, atol=1e-13)
    assert np.array_equal(net.predict(rows.reshape(6, -1)), found) and np.array_equal(net.predict(rows[2]), found[2])


@pytest.mark.parametrize("window", [window for window in WINDOWS if window[2:] == ((0, 0), (1, 1))])
def test_pools_equal_numpy(backend, window):
    x = bp.Grid(5, 7, 3)
    outputs = [bp.Pool(window[0], window[1], kind)(x) for kind in ("max", "mean")]
    rows = np.random.default_rng(0).integers(0, 3, size=(6, 5, 7, 3)).astype(float)
    rows[0, 2, 3, 1] = np.nan
    seen, grid = windows(rows, *window)
    largest, mean = bp.Network(x, outputs, dtype="float64", backend=backend).predict(rows)
    assert np.array_equal(largest.reshape(6, -1, 3), seen.max(axis=(2, 3)), equal_nan=True)
    np.testing.assert_allclose(mean.reshape(6, -1, 3), seen.mean(axis=(2, 3)), rtol=1e-14)
    assert largest.shape == (6, *(grid if grid != (1, 1) else ()), 3)


def test_of_equal_numbers_the_first_gets_the_gradient(backend):
    x = bp.Grid(2, 4)
    t = bp.Trainer(bp.Network(x, bp.Pool(2)(x), dtype="float64", backend=backend), loss=None)
    t.forward(np.array([[1, 3, -0.0, 0.0, 3, 3, 0.0, -0.0], [np.nan, 5, 1, 2, np.nan, 5, 3, 3]]))
    t.backward_from(np.array([[1.0, 2.0], [3.0, 4.0]]), input_grads=True)
    assert t.input_grads.tolist() == [[0, 1, 2, 0, 0, 0, 0, 0], [3, 0, 0, 0, 0, 0, 4, 0]]


def test_repeat_last_flatten_and_slices(backend):
    z, s = bp.Input(2), bp.Sequence(3, 2)
    outputs = [bp.Repeat(3)(z) + s, bp.Last()(s), bp.Flatten()(s), s[:, 1], bp.concat([s, bp.Repeat(3)(z)])]
    net = bp.Network([z, s], outputs, dtype="float64", backend=backend)
    a, b = np.array([[1.0, 2.0], [3.0, 4.0]]), np.arange(12.0).reshape(2, 3, 2)
    added, last, flat, column, joined = net.predict([a, b])
    assert np.array_equal(added, a[:, None] + b) and np.array_equal(last, b[:, -1]) and np.array_equal(flat, b.reshape(2, 6))
    assert np.array_equal(column, b[:, :, 1:]) and np.array_equal(joined, np.concatenate([b, np.repeat(a[:, None], 3, 1)], axis=2))


def conv_net(dtype="float32", backend="compiled", seed=3):
    x = bp.Grid(9, 8, 2)
    h = bp.Dropout(0.2)(bp.BatchNorm()(bp.Conv(6, 3, pad="same", activation="relu")(x)))
    h = bp.Conv(5, 2, activation="gelu")(bp.Pool(2)(h))
    return bp.Network(x, [bp.Dense(4)(h), bp.Dense(3)(bp.Flatten()(h))], dtype=dtype, backend=backend, seed=seed)


def data(rows, seed=0):
    random = np.random.default_rng(seed)
    return random.normal(size=(rows, 9, 8, 2)).astype(np.float32), [random.integers(-1, 4, (rows, 3, 3)), random.normal(size=(rows, 3))]


def trained(threads, rows=90, seed=0):
    net = conv_net()
    net.n_threads = threads
    t = bp.Trainer(net, [bp.Loss("cross_entropy", missing=True), "mse"], "adam", seed=1)
    x, y = data(rows)
    t.fit(x, y, epochs=2, batch_size=40)
    t.backward(x, y, input_grads=True)
    return t, x


def test_results_have_the_same_bits_for_any_number_of_threads():
    expected, x = trained(1)
    outputs = expected.net.predict(x)
    for threads in (2, 3, 8):
        found, _ = trained(threads)
        assert np.array_equal(found.net.params, expected.net.params) and np.array_equal(found.grads, expected.grads)
        assert np.array_equal(
            found.input_grads[0] if isinstance(found.input_grads, list) else found.input_grads,
            expected.input_grads[0] if isinstance(expected.input_grads, list) else expected.input_grads,
        )
        assert all(map(np.array_equal, found.net.predict(x), outputs))


def test_a_row_does_not_depend_on_others():
    t, x = trained(1)
    whole = t.net.predict(x)
    for rows in (slice(0, 1), slice(3, 70), slice(89, 90)):
        assert all(np.array_equal(part, one[rows]) for part, one in zip(t.net.predict(x[rows]), whole, strict=True))


def test_gradients_of_parts_add_up():
    net = conv_net("float64")
    net.freeze("batch_norm_0")
    t = bp.Trainer(net, ["mse", "mse"])
    x, y = data(20)
    y[0] = np.random.default_rng(1).normal(size=(20, *net.outputs[0].grid, 4))
    loss = t.backward(x, y)
    expected = t.grads.copy()
    parts = t.backward(x[:7], [one[:7] for one in y], total=20) + t.backward(
        x[7:], [one[7:] for one in y], accumulate=True, total=20, first_row=7
    )
    np.testing.assert_allclose(parts, loss, rtol=1e-12)
    np.testing.assert_allclose(t.grads, expected, rtol=1e-9, atol=1e-12)


def test_gradients_are_those_of_differences(backend):
    t = bp.Trainer(conv_net("float64", backend), [bp.Loss("cross_entropy", missing=True), "mse"])
    x, y = data(4, seed=2)
    y[0] = np.random.default_rng(3).integers(-1, 4, (4, *t.net.outputs[0].grid))
    assert t.check_gradients(x, y).error < 1e-5


def test_files_copies_and_pickles(tmp_path):
    t, x = trained(1)
    t.save(tmp_path / "t.safetensors")
    loaded = bp.Trainer.load(tmp_path / "t.safetensors")
    for net in (bp.load(tmp_path / "t.safetensors"), loaded.net, copy.deepcopy(t.net), pickle.loads(pickle.dumps(t.net))):
        assert net.text() == t.net.text() and net.inputs[0].row_shape == (9, 8, 2)
        assert all(map(np.array_equal, net.predict(x), t.net.predict(x)))
    _, y = data(90)
    assert loaded.step(x, y) == t.step(x, y)


def test_a_net_in_a_new_graph():
    net = conv_net()
    x = bp.Grid(9, 8, 2)
    twin = bp.Network(x, net(x), seed=0)
    rows, _ = data(3)
    assert all(map(np.array_equal, twin.predict(rows), net.predict(rows)))
    part = net.part(outputs="dense_0")
    assert np.array_equal(part.predict(rows), net.predict(rows, at="dense_0")) and part.outputs[0].grid == (9, 8)


def test_printing():
    lines = str(conv_net()).splitlines()
    x = bp.Sequence(10, 2)
    sizes = str(bp.Network(x, bp.Pool(2)(bp.Conv(4, 3, pad="same")(x)))).splitlines()
    assert "10 x 6  size 3 pad 1" in sizes[4] and "5 x 4   max size 2 " in sizes[6]
    assert "9 x 8 x 2" in lines[3] and "9 x 8 x 18" in lines[4] and "9 x 8 x 6" in lines[5]


REFUSED = [
    (lambda: bp.Conv(3, 3)(bp.Input(4)), "needs a node with positions"),
    (lambda: bp.Conv(3, (3, 3))(bp.Sequence(9, 1)), "size has 2 numbers, but the node has 1 axis"),
    (lambda: bp.Conv(3, 5)(bp.Grid(4, 9)), "size 5x5 does not fit"),
    (lambda: bp.Conv(3, 4, pad="same")(bp.Grid(4, 9)), 'pad="same" needs odd sizes'),
    (lambda: bp.Conv(3, 0), "Conv: size must be"),
    (lambda: bp.Pool(2, kind="sum"), 'kind must be "max" or "mean"'),
    (lambda: bp.Pool(5)(bp.Sequence(4, 2)), "size 5 does not fit"),
    (lambda: bp.Repeat(3)(bp.Sequence(4, 2)), "needs a node of one position"),
    (lambda: bp.Sequence(4, 2) + bp.Sequence(3, 2), "same positions"),
    (lambda: bp.concat([bp.Sequence(4, 2), bp.Input(2)]), r"same positions, .*; to use a .* write bp\.Repeat\(4\)\(node\)"),
    (lambda: bp.Input(1) * bp.Grid(4, 2), r"write bp\.Unflatten\(4, 2\)\(bp\.Repeat\(8\)\(node\)\)"),
    (lambda: bp.Conv(0, 3), "Conv: units must be"),
    (lambda: bp.Conv(3, 3, bias=False, bias_lr=2), "Conv: bias is False"),
    (lambda: bp.Conv(3, 3, init=np.zeros((2, 9))), "Conv: init must have shape"),
    (lambda: bp.Conv(3, 3, stride=(1, 2))(bp.Sequence(9, 1)), "Conv: stride has 2 numbers, but the node has 1 axis"),
    (lambda: bp.Conv(3, 3, dilation=(2,))(bp.Grid(9, 9)), "Conv: dilation has 1 number, but the node has 2 axes"),
    (lambda: bp.Conv(3, 3, pad="full"), 'Conv: pad must be "valid", "same" or whole numbers, not \'full\''),
    (lambda: bp.Grid(2**20, 2**20), "a row has"),
]


@pytest.mark.parametrize(("make", "text"), REFUSED)
def test_layers_refuse(make, text):
    with pytest.raises(ValueError, match=text):
        make()


def test_shapes_of_rows_that_do_not_fit(backend):
    net = conv_net(backend=backend)
    for shape in ((3, 9, 8, 1), (3, 143), (2, 3, 9, 8, 2), (3, 8, 9, 2)):
        with pytest.raises(ValueError, match="shape"):
            net.predict(np.zeros(shape))
        with pytest.raises(ValueError, match="shape"):
            bp.Trainer(net, ["mse", "mse"]).step(np.zeros(shape), [np.zeros((3, 3, 3, 4)), np.zeros((3, 3))])
    for call in (
        lambda: net.part(inputs="dense_0"),
        lambda: net.set_output(0, "identity", 1.0, 2.0),
    ):
        with pytest.raises(ValueError, match="position"):
            call()


def test_jacobians_of_positions(backend):
    net = conv_net("float64", backend)
    rows, _ = data(2)
    wide, flat = net.jacobian(rows, output=0), net.jacobian(rows.reshape(2, -1), by="inputs", output=0)
    assert wide.shape == (2, 36, len(net.params)) and flat.shape == (2, 36, 144)
    h = 1e-6
    above, below = (net.predict(rows.astype(float) + step * np.eye(144)[7].reshape(9, 8, 2), raw=True)[0] for step in (h, -h))
    np.testing.assert_allclose(flat[:, :, 7], ((above - below) / (2 * h)).reshape(2, 36), rtol=1e-5, atol=1e-7)


def test_class_weights_and_metrics_of_positions_are_refused_with_advice(backend):
    x = bp.Sequence(5, 2)
    net = bp.Network(x, bp.Dense(3)(x), seed=0, backend=backend)
    rows, labels = np.zeros((4, 5, 2)), np.zeros((4, 5), int)
    for lengths in (None, [1, 2, 3, 4]):
        with pytest.raises(
            ValueError, match=r"class_weight needs one label per row, .*; for a label at each position, pass a sample_weight"
        ):
            bp.Trainer(net, "cross_entropy").fit(rows, labels, epochs=1, class_weight="balanced", lengths=lengths)
    outputs = net.predict(rows)
    for metric, y in ((bp.accuracy, labels), (bp.r2, outputs)):
        with pytest.raises(ValueError, match=r"for a row for each position, pass outputs\.reshape\(-1, 3\), and y likewise"):
            metric(y, outputs)
    assert bp.r2(outputs.reshape(-1, 3) + np.eye(20, 3), outputs.reshape(-1, 3)) < 1


def test_several_inputs_of_other_rows(backend):
    grid, x = bp.Grid(2, 2), bp.Sequence(3, 2)
    net = bp.Network([grid, x], [bp.Dense(1)(grid), bp.Dense(1)(x)], seed=0, backend=backend)
    with pytest.raises(ValueError, match="all inputs must have the same number of rows, not 3, one row"):
        net.predict([np.zeros((3, 2, 2, 1)), np.zeros((3, 2))])
