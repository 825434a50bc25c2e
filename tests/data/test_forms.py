"""Forms of arguments. Lists, strided arrays and other dtypes give the same bits; all calls refuse a wrong argument with the same text."""

import subprocess
import sys

import cases
import numpy as np
import pytest

import microbp as bp

ROWS = 5


def net_of(kind, backend):
    a, b = bp.Input(3), bp.Input(2)
    h = bp.Dense(4, activation="tanh")(bp.concat([a, b]) if kind == "two inputs" else a)
    outputs = [bp.Dense(2)(h), bp.Dense(1)(h)] if kind == "two outputs" else bp.Dense(2)(h)
    return bp.Network([a, b] if kind == "two inputs" else a, outputs, seed=0, backend=backend)


def own(outputs, targets, weight):
    """The same loss for every dtype of the targets and weights."""
    return cases.own_mse(outputs, np.asarray(targets, "float64"), None if weight is None else np.asarray(weight, "float64"))


def trainer_of(kind, backend):
    loss = {"labels": "cross_entropy", "own loss": own, "two outputs": ["mse", "mse"]}.get(kind, "mse")
    return bp.Trainer(net_of(kind, backend), loss, "sgd")


def rows_of(kind, random):
    """Inputs, targets and weights, small whole numbers of halves that float16 holds."""

    def halves(width):
        return random.integers(-4, 5, (ROWS, width)).astype("float32") / 2

    x = [halves(3), halves(2)] if kind == "two inputs" else [halves(3)]
    y = [random.integers(0, 2, ROWS)] if kind == "labels" else [halves(2), halves(1)] if kind == "two outputs" else [halves(2)]
    return x, y, np.arange(1, ROWS + 1) / 2


def whole(array):
    return array.dtype.kind in "iu"


FORMS = {
    "float64": lambda a: a if whole(a) else a.astype("float64"),
    "float16": lambda a: a if whole(a) else a.astype("float16"),
    "big-endian": lambda a: a.astype(a.dtype.newbyteorder(">")),
    "long double": lambda a: a if whole(a) else a.astype("longdouble"),
    "int8": lambda a: a.astype("int8") if whole(a) else a,
    "Fortran": np.asfortranarray,
    "backwards": lambda a: a[::-1].copy()[::-1],
    "read-only": lambda a: np.frombuffer(a.tobytes(), a.dtype).reshape(a.shape),
    "lists": lambda a: a.tolist(),
    "tuples": lambda a: tuple(map(tuple, a)) if a.ndim == 2 else tuple(a),
    "a subclass": lambda a: np.ma.array(a),
    "objects": lambda a: a.astype(object) if not whole(a) else a,
    "one column as a vector": lambda a: a[:, 0] if a.shape == (ROWS, 1) else a,
}
KINDS = ("plain", "labels", "two inputs", "two outputs", "own loss")


def several(arrays, as_tuple):
    return arrays[0] if len(arrays) == 1 else tuple(arrays) if as_tuple else arrays


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_bits_of_the_contiguous_array(backend, kind, form):
    random = np.random.default_rng(cases.SEED)
    xs, ys, weight = rows_of(kind, random)
    results = []
    for change in (lambda a: a, FORMS[form]):
        t = trainer_of(kind, backend)
        x, y = (several([change(a) for a in arrays], form == "tuples") for arrays in (xs, ys))
        w = change(weight)
        found = [
            t.evaluate(x, y),
            t.evaluate(x, y, w),
            t.backward(x, y),
            t.backward(x, y, w, accumulate=True),
            t.step(x, y),
            t.step(x, y, w),
        ]
        values = [] if form == "one column as a vector" else t.net.predict(x)
        values = [value.tolist() for value in (values if isinstance(values, list) else [values])]
        results.append([found, t.grads.tolist(), t.net.params.tolist(), values])
    assert results[0] == results[1]


@pytest.mark.parametrize("kind", ["plain", "two inputs", "two outputs"])
def test_leading_axes_are_kept(backend, kind):
    net, random = net_of(kind, backend), np.random.default_rng(cases.SEED)
    xs = [random.normal(size=(2, 3, width)) for width in ([3, 2] if kind == "two inputs" else [3])]
    expected = net.predict(several([x.reshape(6, -1) for x in xs], False))
    for lead in ((), (1,), (6,), (2, 3), (1, 2, 3)):
        count = int(np.prod(lead))
        for change in (lambda a: a, lambda a: a.astype("float32"), lambda a: a.tolist()):
            parts = [change(x.reshape(6, -1)[:count].reshape(*lead, x.shape[-1])) for x in xs]
            found = net.predict(several(parts, False))
            for one, whole_one in zip(*([a] if isinstance(a, np.ndarray) else a for a in (found, expected)), strict=True):
                assert one.shape == (*lead, whole_one.shape[1])
                if change(xs[0]) is xs[0]:
                    np.testing.assert_array_equal(one.reshape(count, -1), whole_one[:count])


def test_one_row_is_written_to_the_array_given(backend):
    net, x = net_of("plain", backend), np.array([1.0, -2.0, 0.5])
    expected, out, wide = net.predict(x[None])[0], np.empty(2, "float32"), np.zeros(4, "float32")
    assert net.predict(x, out=out) is out
    np.testing.assert_array_equal(out, expected)
    for wrong in (np.empty((1, 2), "float32"), np.empty(3, "float32"), np.empty(2), wide[::2], np.frombuffer(bytes(8), "float32")):
        with pytest.raises(ValueError, match="out"):
            net.predict(x, out=wrong)
    assert not wide.any()
    for wrong_x in (x[:2], x[0], [], [1, 2, 3, 4]):
        with pytest.raises(ValueError, match=r"its last axis must have length 3, the number of features"):
            net.predict(wrong_x)


WRONG = {
    "no rows": lambda x, y, w: ([a[:0] for a in x], [a[:0] for a in y], w[:0]),
    "fewer targets": lambda x, y, w: (x, [y[0][:-1], *y[1:]], w),
    "fewer targets of the last": lambda x, y, w: (x, [*y[:-1], y[-1][:-1]], w),
    "a column more": lambda x, y, w: ([*x[:-1], np.ones((ROWS, 9))], y, w),
    "a vector": lambda x, y, w: ([x[0][0], *x[1:]], y, w),
    "no axis": lambda x, y, w: ([np.float32(1), *x[1:]], y, w),
    "three axes": lambda x, y, w: ([x[0][None], *x[1:]], y, w),
    "text": lambda x, y, w: ([x[0].astype(str), *x[1:]], y, w),
    "complex": lambda x, y, w: ([x[0] + 1j, *x[1:]], y, w),
    "None": lambda x, y, w: ([None, *x[1:]], y, w),
    "masked": lambda x, y, w: ([np.ma.masked_equal(x[0], x[0][0, 0]), *x[1:]], y, w),
    "a masked row in a list": lambda x, y, w: ([[np.ma.masked_all(3)] * ROWS, *x[1:]], y, w),
    "rows of two lengths": lambda x, y, w: ([[[1, 2, 3], [1, 2]], *x[1:]], y, w),
    "targets of another shape": lambda x, y, w: (x, [np.ones((ROWS, 7)), *y[1:]], w),
    "targets of another shape, last": lambda x, y, w: (x, [*y[:-1], np.ones((ROWS, 7))], w),
    "a wrong label": lambda x, y, w: (x, [np.full(ROWS, 1 << 40)] if whole(y[0]) else [np.ones((ROWS, 7)), *y[1:]], w),
    "one array too many": lambda x, y, w: ([*x, x[0]], y, w),
    "one target too many": lambda x, y, w: (x, [*y, y[0]], w),
    "a negative weight": lambda x, y, w: (x, y, w - 1),
    "a NaN weight": lambda x, y, w: (x, y, w / np.array([1, 1, 1, 1, np.nan])),
    "an infinite weight": lambda x, y, w: (x, y, w + np.array([0, 0, np.inf, 0, 0])),
    "weights that are all 0": lambda x, y, w: (x, y, 0 * w),
    "a column of weights": lambda x, y, w: (x, y, w[:, None]),
    "fewer weights": lambda x, y, w: (x, y, w[1:]),
    "weights as text": lambda x, y, w: (x, y, w.astype(str)),
    "weights as bytes": lambda x, y, w: (x, y, bytes(ROWS)),
    "masked weights": lambda x, y, w: (x, y, np.ma.masked_less(w, 1)),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("wrong", WRONG)
def test_every_call_refuses_with_the_same_words(backend, kind, wrong):
    t = trainer_of(kind, backend)
    xs, ys, weight = WRONG[wrong](*rows_of(kind, np.random.default_rng(cases.SEED)))
    x, y, before, told = several(xs, False), several(ys, False), (t.net.params.copy(), t.grads.copy()), set()
    for call in (t.step, t.evaluate, t.backward):
        with pytest.raises((TypeError, ValueError)) as refused:
            call(x, y, weight)
        told.add((refused.type, str(refused.value)))
    assert len(told) == 1
    assert t.steps == 0
    np.testing.assert_array_equal([*before[0], *before[1]], [*t.net.params, *t.grads])


def test_what_is_no_array_is_named(backend):
    with pytest.raises(TypeError, match="X must contain real numbers, not dict$"):
        net_of("", backend).predict({"a": 1})


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc/self/statm")
def test_a_thousand_small_nets_take_less_than_20_mb():
    """With their trainers and all their objects in Python, after a step and a prediction: address space and resident memory."""
    script = """
import resource, numpy as np, microbp as bp
def used():
    return [int(pages) * resource.getpagesize() for pages in open("/proc/self/statm").read().split()[:2]]
def trainer():
    t = bp.Trainer(bp.mlp([4, 8, 2], "tanh", seed=0), "mse")
    t.step(x, y), t.net.predict(x)
    return t
x, y = np.ones((1, 4), "float32"), np.ones((1, 2), "float32")
kept = [trainer()]
before = used()
kept += [trainer() for _ in range(1000)]
print(*(after - at_first for after, at_first in zip(used(), before)))
"""
    done = subprocess.run([sys.executable, "-P", "-c", script], check=True, capture_output=True, text=True)
    for size in map(int, done.stdout.split()):
        assert size < 20_000_000
