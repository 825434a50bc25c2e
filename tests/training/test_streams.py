"""fit on a stream of chunks: the same numbers as on the concatenated rows, in the memory of one chunk."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

import microbp as bp

RNG = np.random.default_rng(5)
X, Y, W = RNG.normal(size=(103, 4)), RNG.normal(size=103), RNG.uniform(0.5, 2, 103)
W[[3, 50, 51, 102]] = 0  # rows that are skipped


def chunks(*ends, weight=False):
    """The rows, split at `ends`."""
    parts = [np.split(array, ends) for array in ((X, Y, W) if weight else (X, Y))]
    return list(zip(*parts))


def trainer(backend="compiled", loss="mse"):
    return bp.Trainer(bp.mlp([4, 8, 1], seed=1, backend=backend), loss, bp.Adam(lr=0.01))


@pytest.mark.parametrize("weight", [False, True])
@pytest.mark.parametrize("ends", [[], [50], [1, 2, 3, 40], [16, 32, 64], [7, 90, 91, 100]])
def test_results_do_not_depend_on_chunk_boundaries(backend, ends, weight):
    whole, pieces = trainer(backend), trainer(backend)
    settings = {"epochs": 3, "batch_size": 16, "shuffle": False, "schedule": bp.Cosine(lr=0.02)}
    whole.fit(X, Y, sample_weight=W if weight else None, **settings)
    history = pieces.fit(chunks(*ends, weight=weight), **settings)
    assert pieces.net.params.tobytes() == whole.net.params.tobytes()
    assert pieces.steps == whole.steps
    np.testing.assert_allclose(history["loss"], whole.history["loss"], rtol=1e-6)


def test_a_single_chunk_is_shuffled_like_arrays():
    whole, pieces = trainer(), trainer()
    whole.fit(X, Y, epochs=2)
    pieces.fit([(X, Y)], epochs=2)
    assert pieces.net.params.tobytes() != trainer().net.params.tobytes()
    np.testing.assert_allclose(pieces.net.params, whole.net.params, rtol=1e-6)


def test_validation_patience_metrics_and_callbacks_work_on_streams():
    seen, steps = [], []
    t = trainer()
    history = t.fit(
        lambda: iter(chunks(30, 60)), epochs=50, batch_size=10, validation=(X, Y), patience=2, metrics="rmse", schedule="constant(lr=1)",
        callback=seen.append, batch_callback=steps.append, accumulate=2,
    )  # fmt: skip
    assert len(history["val_loss"]) == len(history["rmse"]) == len(seen) == t.epoch + 2 < 50
    assert len(steps) == 6 * len(seen)  # 103 rows, 20 per update
    assert t.evaluate(X, Y) == pytest.approx(min(history["val_loss"]), rel=1e-6)


def test_a_batch_callback_ends_the_epoch():
    t = trainer()
    t.fit(chunks(50), epochs=9, batch_size=10, batch_callback=lambda record: record["steps"] == 3)
    assert (t.epoch, t.steps) == (1, 3)


@pytest.mark.parametrize("weight", [None, W])
@pytest.mark.parametrize("cut", [1, 13, 50])
@pytest.mark.parametrize(("epoch", "step"), [(1, 3), (1, 9), (2, 2)])
def test_a_stopped_epoch_reports_the_mean_of_the_rows_trained(backend, cut, weight, epoch, step):
    """With a learning rate of 0, it is the loss of these rows."""
    arrays = (X, Y) if weight is None else (X, Y, weight)
    stream = list(zip(*(np.split(array, [cut, 60]) for array in arrays)))
    t = bp.Trainer(bp.mlp([4, 8, 1], seed=1, backend=backend), "mse", bp.SGD(lr=0.0))
    history = t.fit(
        stream, epochs=9, batch_size=10, shuffle=False, batch_callback=lambda r: (r["epoch"], (r["steps"] - 1) % 10 + 1) >= (epoch, step)
    )
    trained = np.arange(103) if weight is None else np.flatnonzero(weight)
    trained = trained[: 10 * ((t.steps - 1) % -(-len(trained) // 10) + 1)]
    assert history["loss"][-1] == pytest.approx(t.evaluate(*(array[trained] for array in arrays)), rel=1e-6)


def test_chunks_without_rows_are_passed_over(backend):
    """Empty ones, and ones whose weights are all 0 and whose values are not numbers."""
    none = (X[:0], Y[:0], W[:0])
    absent = (np.full((9, 4), np.nan), np.full(9, np.nan), np.zeros(9))
    whole, pieces = trainer(backend), trainer(backend)
    some = chunks(40, weight=True)
    settings = {"epochs": 2, "batch_size": 16, "schedule": bp.Cosine(lr=0.02)}
    whole.fit(some, **settings)
    pieces.fit([none, absent, some[0], absent, none[:2], some[1], none, absent], **settings)
    assert pieces.net.params.tobytes() == whole.net.params.tobytes()
    assert pieces.history["loss"] == whole.history["loss"]


@pytest.mark.parametrize("stream", [[(X[:0], Y[:0])], [(X, Y, np.zeros(103)), (X[:0], Y[:0], W[:0])]])
def test_a_stream_without_rows_is_refused(backend, stream):
    t = trainer(backend)
    before = t.net.params.copy()
    with pytest.raises(ValueError, match="the stream has no rows to train on; it needs at least one row with a weight above 0"):
        t.fit(stream, epochs=2)
    np.testing.assert_array_equal(t.net.params, before)
    assert (t.epoch, t.steps, t.history) == (0, 0, {})


@pytest.mark.parametrize(
    ("stream", "options", "error", "expected"),
    [
        (5, {}, TypeError, "iterable of (X, y) chunks"),
        (X, {}, TypeError, "fit: without y, X must be an iterable of (X, y) chunks, or a function that returns one, not an array of shape"),
        ([X], {}, TypeError, "chunk 0 must be (X, y)"),
        ([(X, Y), (X[:, :3], Y)], {}, ValueError, "chunk 1: X has shape (103, 3)"),
        ([], {}, ValueError, "no rows"),
        (iter([(X, Y)]), {}, ValueError, "only once"),
        (chunks(9), {"validation": 0.1}, ValueError, "a stream cannot be split"),
        (chunks(9), {"validation": 1}, ValueError, "validation must be (X, y)"),
        (chunks(9), {"metrics": "rmse"}, ValueError, "metrics with a stream need validation"),
        (chunks(9), {"patience": 2}, ValueError, "validation=(X, y)"),
        (chunks(9), {"sample_weight": W}, ValueError, "sample_weight does not work with a stream"),
        (chunks(9), {"class_weight": "balanced"}, ValueError, "class_weight does not work with a stream"),
    ],
)
def test_arguments_that_streams_do_not_support_are_refused(stream, options, error, expected):
    with pytest.raises(error) as raised:
        trainer().fit(stream, epochs=2, progress=False, **options)
    assert expected in str(raised.value)


def test_an_iterator_is_enough_for_one_epoch():
    t = trainer()
    t.fit(iter(chunks(20)), epochs=1)
    assert t.epoch == 1


_PEAK = """
import resource, sys
import numpy as np
import microbp as bp

def chunks():
    for i in range(int(sys.argv[1])):
        x = np.random.default_rng(i).normal(size=(20_000, 50)).astype(np.float32)
        yield x, x[:, 0]

bp.Trainer(bp.mlp([50, 8, 1], seed=0), "mse").fit(chunks, epochs=1, batch_size=1000, schedule=bp.Cosine(lr=0.01), progress=False)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def test_only_one_chunk_is_in_memory():
    """Forty chunks of 4 MB, 160 MB in total, need as much memory as two."""
    peaks = [
        int(subprocess.run([sys.executable, "-P", "-c", _PEAK, count], capture_output=True, text=True, check=True, timeout=120).stdout)
        for count in ("2", "40")
    ]
    assert peaks[1] - peaks[0] < 16 * 1024  # KiB


@pytest.mark.parametrize("size", [7, 40, 200])
@pytest.mark.parametrize("ends", [[], [30, 30, 60], [1, 2, 71, 73]])
def test_the_row_at_fault_is_counted_over_all_chunks(backend, size, ends):
    x, y = X.copy(), (Y > 0).astype(float)
    x[72, 1] = np.nan
    with pytest.raises(FloatingPointError, match="rows counted over all chunks: .*X contains NaN, first at row 72, column 1"):
        trainer(backend).fit(list(zip(np.split(x, ends), np.split(Y, ends))), epochs=1, batch_size=size)
    y[72] = 5
    with pytest.raises(ValueError, match=r"rows counted over all chunks: y\[72\] is 5, but bce needs"):
        trainer(backend, "bce").fit(list(zip(np.split(X, ends), np.split(y, ends))), epochs=1, batch_size=size)
