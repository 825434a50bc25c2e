"""Windows that only dense layers read are in no memory, and give the bits of windows in memory."""

import math

import numpy as np
import pytest

import microbp as bp

# grid and columns; units; size, stride, pad, dilation; two dense layers read it
SHAPES = [
    ((9, 8), 2, 5, (3, 3), (1, 1), (0, 0), (1, 1), False),
    ((16, 16), 1, 12, (5, 5), (2, 2), (2, 2), (1, 1), False),
    ((8, 8), 8, 4, (5, 5), (2, 2), (2, 2), (1, 1), True),
    ((11, 7), 3, 17, (3, 2), (1, 2), (2, 1), (2, 1), True),
    ((6, 12), 3, 33, (2, 3), (2, 1), (0, 3), (1, 3), True),
    ((28, 28), 1, 8, (5, 5), (1, 1), (0, 0), (1, 1), False),
    ((40,), 5, 16, (4,), (1,), (0,), (1,), True),
    ((30,), 9, 3, (3,), (2,), (1,), (4,), False),
    ((3, 50), 1, 2, (2, 9), (1, 1), (0, 1), (1, 1), False),
    ((7, 7), 40, 6, (3, 3), (1, 1), (1, 1), (1, 1), False),
]


def pair(shape, dtype="float32", columns=slice(None)):
    """The same layers twice; in the second net the windows are outputs, too."""
    grid, channels, units, size, stride, pad, dilation, twice = shape
    x = bp.Grid(*grid, channels) if len(grid) == 2 else bp.Sequence(*grid, channels)
    node = bp.Activation("tanh")(x)[:, columns]
    h = bp.Conv(units, size, stride, pad, dilation, activation="relu")(node)
    window = h.operands[0]
    if twice:
        h = h + bp.Dense(units, activation="gelu", bias=False)(window)
    y = bp.Dense(2)(h)
    return [bp.Network(x, outputs, seed=7, dtype=dtype) for outputs in ([y], [y, window])], window


def results(net, rows, gradient):
    """Of a forward and a backward pass, of a second one that adds to it, and of predictions."""
    t = bp.Trainer(net, loss=None)
    t.forward(rows)
    gradients = [gradient, *(np.zeros((len(rows), math.prod(output.row_shape)), net.dtype) for output in net.outputs[1:])]
    t.backward_from(gradients if gradients[1:] else gradient, input_grads=True)
    found = [t.grads.copy(), np.array(t.input_grads)]
    t.backward_from(gradients if gradients[1:] else gradient, accumulate=True)
    predicted = net.predict(rows)
    return [*found, t.grads.copy(), predicted[0] if gradients[1:] else predicted]


def inputs(net, rows):
    random = np.random.default_rng(3)
    widths = (math.prod(end.row_shape) for end in (net.inputs[0], net.outputs[0]))
    return [random.normal(size=(rows, width)).astype(net.dtype) for width in widths]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_bits_are_those_of_windows_in_memory(shape, dtype):
    for columns in (slice(None), slice(0, 1)):
        (through, kept), window = pair(shape, dtype, columns)
        assert np.array_equal(through.params, kept.params)
        for rows in (1, 3, 70):
            x, gradient = inputs(through, rows)
            assert all(map(np.array_equal, results(through, x, gradient), results(kept, x, gradient)))
            assert np.array_equal(through.predict(x, at=window), kept.predict(x)[1])


@pytest.mark.parametrize("shape", SHAPES[4:])
def test_any_number_of_threads_gives_the_same_bits(shape):
    expected = None
    for threads in (1, 2, 3, 8):
        (through, _), _ = pair(shape)
        through.n_threads = threads
        found = results(through, *inputs(through, 700))
        expected = expected or found
        assert all(map(np.array_equal, found, expected))


def test_a_window_is_written_where_the_caller_wants_it():
    (through, kept), window = pair(SHAPES[0])
    x, _ = inputs(through, 5)
    expected = kept.predict(x)[1]
    wide = np.full((5, *window.grid, window.width), np.nan, np.float32)
    assert through.predict(x, at=window, out=wide) is wide and np.array_equal(wide, expected)
    both = through.predict(x, at=["output", window])
    assert np.array_equal(both[0], through.predict(x)) and np.array_equal(both[1], expected)


def test_a_mean_pool_passes_its_gradient_on():
    """Also to a dense layer that reads each of its positions."""
    for kind in ("max", "mean"):
        x = bp.Grid(6, 6, 2)
        net = bp.Network(x, bp.Dense(3)(bp.Pool(2, kind=kind)(bp.Conv(4, 3, pad="same", activation="tanh")(x))), dtype="float64", seed=0)
        random = np.random.default_rng(0)
        assert bp.Trainer(net, "mse").check_gradients(random.normal(size=(3, 6, 6, 2)), random.normal(size=(3, 3, 3, 3))).error < 1e-6
