"""Any array that holds numbers gives the bits of its contiguous copy in the net's dtype, or a clean error; none is ever changed."""

import sys
import warnings

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import microbp as bp

WIDTH, OUT = 3, 2
bounded = settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])


# ---- what users bring ----


class Exporter:
    """Hands its array over by one protocol only."""

    def __init__(self, array):
        self.array = array


class OfArray(Exporter):
    def __array__(self, dtype=None, copy=None):
        return self.array


class OfDLPack(Exporter):
    def __dlpack__(self, **options):
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()


def strided(a):
    return np.repeat(np.repeat(a, 2, axis=0), 3, axis=1)[::2, ::3]


def misaligned(a):
    block = np.empty(a.nbytes + 1, np.uint8)
    view = block[1:].view(a.dtype).reshape(a.shape)
    view[...] = a
    return view


def read_only(a):
    a = a.copy()
    a.flags.writeable = False
    return a


LAYOUTS = {
    "contiguous": lambda a: a,
    "strided": strided,
    "reversed": lambda a: a[::-1, ::-1].copy()[::-1, ::-1],
    "fortran": np.asfortranarray,
    "one row for all": lambda a: np.broadcast_to(a[:1], a.shape),
    "one column for all": lambda a: np.broadcast_to(a[:, :1], a.shape),
    "misaligned": misaligned,
    "swapped": lambda a: a.astype(a.dtype.newbyteorder()),
    "read-only": read_only,
}
WRAPPERS = {
    "ndarray": lambda a: a,
    "list": lambda a: a.tolist(),
    "tuple": lambda a: tuple(map(tuple, a.tolist())),
    "list of rows": list,
    "memoryview": memoryview,
    "objects": lambda a: a.astype(object),
    "subclass": lambda a: a.view(np.matrix),
    "__array__": OfArray,
    "dlpack": OfDLPack,
}
TYPES = ["f2", "f4", "f8", "g", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "?"]


def values(random, dtype, rows, cols):
    kind = np.dtype(dtype).kind
    if kind == "f":
        return random.normal(size=(rows, cols)).astype(dtype)
    return random.integers(0 if kind in "ub" else -9, 2 if kind == "b" else 10, (rows, cols)).astype(dtype)


def contiguous(given_array, dtype):
    return np.ascontiguousarray(given_array, dtype=dtype)


def trainer(dtype, backend="compiled"):
    return bp.Trainer(bp.mlp([WIDTH, 4, OUT], activation="tanh", dtype=dtype, seed=1, backend=backend), "mse", bp.SGD(lr=0.01))


def step(t, x, y):
    return t.step(x, y), t.net.params.copy()


def backward(t, x, y):
    return t.backward(x, y, input_grads=True), t.grads.copy(), t.input_grads


def predict(t, x, y):
    return t.net.predict(x), t.predict(x, raw=True)


def fit(t, x, y):
    return t.fit(x, y, epochs=2, batch_size=4)["loss"], t.net.params.copy()


def evaluate(t, x, y):
    return (t.evaluate(x, y),)


CALLS = {call.__name__: call for call in (step, backward, predict, fit, evaluate)}


def assert_same(results, expected):
    for a, b in zip(results, expected, strict=True):
        np.testing.assert_array_equal(a, b)


# ---- the same bits ----


@pytest.mark.parametrize("call", CALLS)
@bounded
@given(
    backend=st.sampled_from(["compiled", "compiled", "reference"]),
    dtype=st.sampled_from(["float32", "float64"]),
    kinds=st.tuples(st.sampled_from(TYPES), st.sampled_from(TYPES)),
    layouts=st.tuples(st.sampled_from(list(LAYOUTS)), st.sampled_from(list(LAYOUTS))),
    wrappers=st.tuples(st.sampled_from(list(WRAPPERS)), st.sampled_from(list(WRAPPERS))),
    rows=st.sampled_from([1, 2, 7, 33]),
    seed=st.integers(0, 999),
)
def test_any_array_is_its_contiguous_copy(call, backend, dtype, kinds, layouts, wrappers, rows, seed):
    random = np.random.default_rng(seed)
    arrays = [LAYOUTS[layout](values(random, kind, rows, cols)) for kind, layout, cols in zip(kinds, layouts, (WIDTH, OUT), strict=True)]
    before = [a.tobytes() for a in arrays]
    plain = [contiguous(a, dtype) for a in arrays]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PendingDeprecationWarning)  # of np.matrix
        try:
            brought = [WRAPPERS[wrapper](a) for wrapper, a in zip(wrappers, arrays, strict=True)]
            results = CALLS[call](trainer(dtype, backend), *brought)
        except (TypeError, ValueError):
            if not {"dlpack", "memoryview"} & set(wrappers):  # which cannot hold every dtype
                raise
            results = None
    assert [a.tobytes() for a in arrays] == before
    if results is not None:
        assert_same(results, CALLS[call](trainer(dtype, backend), *plain))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", TYPES)
def test_weights_and_labels_too(layout, kind):
    weight = LAYOUTS[layout](np.arange(1, 9).astype(kind).reshape(8, 1))[:, 0]
    labels = LAYOUTS[layout](values(np.random.default_rng(0), "i8" if kind in ("f2", "f4", "f8", "g") else kind, 8, 1) % 2)[:, 0]
    x = np.random.default_rng(1).normal(size=(8, WIDTH))
    results = [
        step_weighted(x, labels, weight),
        step_weighted(x, np.ascontiguousarray(labels, np.int64), np.ascontiguousarray(weight, np.float64)),
    ]
    assert_same(*results)


def step_weighted(x, labels, weight):
    t = bp.Trainer(bp.mlp([WIDTH, 4, OUT], seed=1), "cross_entropy", bp.SGD(lr=0.01))
    return t.step(x, labels, weight), t.net.params.copy()


# ---- clean errors ----

WRONG = {
    "complex": (np.ones((4, WIDTH), complex), TypeError),
    "text": (np.full((4, WIDTH), "1"), TypeError),
    "dates": (np.zeros((4, WIDTH), "M8[s]"), TypeError),
    "records": (np.zeros((4, WIDTH), [("a", "f4")]), TypeError),
    "objects": (np.full((4, WIDTH), None), TypeError),
    "complex objects": (np.full((4, WIDTH), 1j, object), TypeError),
    "masked": (np.ma.masked_less(np.arange(3.0), 1), ValueError),
    "text among objects": (np.array([[1, 2, "3"]], object), TypeError),
    "ragged": ([[1, 2, 3], [1]], ValueError),
    "too wide": (np.ones((4, WIDTH + 1)), ValueError),
    "no columns": (np.ones((4, 0)), ValueError),
    "none": (None, TypeError),
    "a number": (3.0, ValueError),
    "a generator": ((row for row in np.ones((4, WIDTH))), TypeError),
    "a dict": ({"a": 1}, TypeError),
    "a set": ({1.0, 2.0, 3.0}, TypeError),
}
ONLY_FOR_TRAINING = {
    "three axes": (np.ones((2, 2, WIDTH)), ValueError),
    "one axis": (np.ones(WIDTH), ValueError),
    "no rows": (np.ones((0, WIDTH)), ValueError),
}


@pytest.mark.parametrize("case", [*WRONG, *ONLY_FOR_TRAINING])
@pytest.mark.parametrize("call", CALLS)
def test_what_holds_no_rows_is_refused_and_changes_nothing(backend, call, case):
    if call == "predict" and case in ONLY_FOR_TRAINING:
        pytest.skip("predict carries leading axes over")
    net = bp.mlp([WIDTH, 4, OUT], seed=1, backend=backend)
    t = bp.Trainer(net, "mse", "adam")
    before = net.params.copy()
    x, error = (WRONG | ONLY_FOR_TRAINING)[case]
    with pytest.raises(error, match="X"):
        CALLS[call](t, x, np.zeros((4, OUT)))
    if call != "predict" and case not in ("ragged", "no rows", "a generator"):
        y = x if case != "too wide" else np.ones((4, OUT + 1))
        with pytest.raises((TypeError, ValueError), match="y"):
            CALLS[call](t, np.zeros((4, WIDTH)), y)
    np.testing.assert_array_equal(net.params, before)
    assert t.steps == 0


def test_no_reference_stays():
    t, x, y = trainer("float32"), np.ones((4, WIDTH), np.float32), np.ones((4, OUT), np.float32)
    before = sys.getrefcount(x), sys.getrefcount(y)
    for call in CALLS.values():
        call(t, x, y)
        with pytest.raises(ValueError, match="X"):
            call(t, x[:, :1], y)
    assert (sys.getrefcount(x), sys.getrefcount(y)) == before
