"""Any array of numbers gives the same bits as its contiguous copy in the net's dtype, or a clear error. No array is ever changed."""

import sys
import warnings

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import microbp as bp
from microbp.data.arrays import as_array

WIDTH, OUT = 3, 2
bounded = settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])


# ---- arrays of users ----


class Exporter:
    """An array that supports only one protocol."""

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
def test_any_array_gives_the_bits_of_its_contiguous_copy(call, backend, dtype, kinds, layouts, wrappers, rows, seed):
    random = np.random.default_rng(seed)
    arrays = [LAYOUTS[layout](values(random, kind, rows, cols)) for kind, layout, cols in zip(kinds, layouts, (WIDTH, OUT), strict=True)]
    before = [a.tobytes() for a in arrays]
    plain = [contiguous(a, dtype) for a in arrays]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PendingDeprecationWarning)  # np.matrix raises it
        try:
            wrapped = [WRAPPERS[wrapper](a) for wrapper, a in zip(wrappers, arrays, strict=True)]
            results = CALLS[call](trainer(dtype, backend), *wrapped)
        except (TypeError, ValueError):
            if not {"dlpack", "memoryview"} & set(wrappers):  # these two do not support every dtype
                raise
            results = None
    assert [a.tobytes() for a in arrays] == before
    if results is not None:
        assert_same(results, CALLS[call](trainer(dtype, backend), *plain))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", TYPES)
def test_weights_and_labels_give_the_bits_of_their_contiguous_copies(layout, kind):
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


# ---- clear errors ----

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
ONLY_FOR_TRAINING = {  # predict keeps leading axes
    "three axes": (np.ones((2, 2, WIDTH)), ValueError),
    "one axis": (np.ones(WIDTH), ValueError),
    "no rows": (np.ones((0, WIDTH)), ValueError),
}


@pytest.mark.parametrize(
    ("call", "case"), [(call, case) for call in CALLS for case in (WRONG if call == "predict" else WRONG | ONLY_FOR_TRAINING)]
)
def test_invalid_rows_are_refused_and_change_nothing(backend, call, case):
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


@pytest.mark.parametrize(
    ("x", "y", "words"),
    [
        (np.full((4, WIDTH), "1"), np.zeros((4, OUT)), "X must contain real numbers, not strings"),
        (np.ones((4, WIDTH), complex), np.zeros((4, OUT)), "X must contain real numbers, not complex128 values; pass the real and"),
        (np.array([[1, 2, "3"]], object), np.zeros((1, OUT)), r"X must contain real numbers, not str \(first at index 0, 2\)"),
        (np.ones((4, WIDTH)), np.zeros((3, OUT)), r"X and y must have the same number of rows, but have shapes \(4, 3\) and \(3, 2\)"),
        (np.ones((0, WIDTH)), np.zeros((0, OUT)), r"X has no rows: its shape is \(0, 3\)"),
        (np.ones(WIDTH), np.zeros((1, OUT)), r"the network needs shape \(rows, 3\); use X.reshape\(1, -1\)"),
    ],
)
def test_errors_name_the_argument_and_what_to_do(backend, x, y, words):
    with pytest.raises((TypeError, ValueError), match=words):
        trainer("float32", backend).step(x, y)


@pytest.mark.parametrize(
    ("y", "words"),
    [
        (np.array([0.0, 1.0]), r"integer labels of shape \(2,\); for labels, use y.astype\(int\)$"),
        (np.array([[0.0], [1.0]]), r"for labels, use y.astype\(int\)$"),
        (np.array([0.5, 1.0]), r"integer labels of shape \(2,\)$"),
        (np.zeros((2, 2)), r"integer labels of shape \(2,\)$"),
    ],
)
def test_labels_that_are_floats_get_advice(backend, y, words):
    t = bp.Trainer(bp.mlp([WIDTH, 3], backend=backend), "cross_entropy")
    for call in (t.step, t.backward, t.evaluate, lambda x, y: t.fit(x, y, epochs=1)):
        with pytest.raises(ValueError, match=words):
            call(np.ones((2, WIDTH)), y)


def test_no_reference_is_kept():
    t, x, y = trainer("float32"), np.ones((4, WIDTH), np.float32), np.ones((4, OUT), np.float32)
    before = sys.getrefcount(x), sys.getrefcount(y)
    for call in CALLS.values():
        call(t, x, y)
        with pytest.raises(ValueError, match="X"):
            call(t, x[:, :1], y)
    assert (sys.getrefcount(x), sys.getrefcount(y)) == before


class Frame:
    """Like a data frame of pandas or polars: its array has objects, and its columns have names."""

    columns = ("age", "city")

    def __init__(self, *rows):
        self.rows = rows

    def __array__(self, *_, **__):
        return np.array(self.rows, dtype=object)


@pytest.mark.parametrize(
    ("value", "error", "words"),
    [
        (
            Frame([1, 2.0], [3, "Bonn"]),
            TypeError,
            r"^X must contain real numbers, not str \(first at row 1, column 'city'\); make numbers of",
        ),
        (
            Frame([1, 2.0], [None, 4]),
            TypeError,
            r"^X has a missing value, None \(first at row 1, column 'age'\): fill it, or remove its row",
        ),
        (Frame([1, 10**400]), ValueError, r"^X has a number that is too large for a float64, 1000.* \(first at row 0, column 'city'\)"),
        (np.array([[1, None]], object), TypeError, r"^X has a missing value, None \(first at index 0, 1\)"),
        ([10**400, 1.0], ValueError, "^X has a number that is too large for a float64"),
    ],
)
def test_a_wrong_element_is_named_by_row_and_column(value, error, words):
    with pytest.raises(error, match=words):
        as_array(value, "X")
