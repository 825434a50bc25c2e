"""Rows that a backend refuses: the error names the first wrong value by the caller's row number, and what to do."""

import numpy as np
import pytest

import microbp as bp

X = np.random.default_rng(0).normal(size=(40, 4))
Y = X[:, :2].copy()
LABELS = np.arange(40) % 2


def trainer(backend, loss, outputs):
    return bp.Trainer(bp.mlp([4, 3, outputs], seed=0, backend=backend), loss)


WAYS = {
    "step": lambda t, x, y: t.step(x, y),
    "lists": lambda t, x, y: t.step(x.tolist(), y.tolist()),
    "backward": lambda t, x, y: t.backward(x, y),
    "fit": lambda t, x, y: t.fit(x, y, epochs=1, batch_size=7),
    "loop": lambda t, x, y: t.fit(x, y, epochs=1, batch_size=7, accumulate=2),
    "chunk": lambda t, x, y: t.fit([(x, y)], epochs=1, batch_size=40),
    "epochs": lambda t, x, y: next(t.epochs(x, y)),
}


def changed(array, place, value):
    array = array.astype(type(value))
    array[place] = value
    return array


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("x", "y", "words"),
    [
        (changed(X, (3, 2), np.nan), Y, "X contains NaN, first at row 3, column 2"),
        (X, changed(Y, (7, 1), -np.inf), "y contains -inf, first at row 7, column 1"),
        (changed(X, (5, 0), 1e39), Y, r"X contains 1e\+39, too large for float32, first at row 5, column 0"),
    ],
)
def test_a_step_that_fails_because_of_its_rows_says_where(backend, way, x, y, words):
    t = trainer(backend, "mse", 2)
    with pytest.raises(FloatingPointError, match=rf"\(epoch 1, step \d\); {words}"):
        WAYS[way](t, x, y)


def test_a_step_that_fails_on_finite_rows_gets_advice(backend):
    with pytest.raises(FloatingPointError, match=r"\(epoch 1, step 1\); use a lower lr \(now 0\.001\), and scale inputs and targets"):
        trainer(backend, "mse", 2).step(1e30 * X, 1e30 * Y)


@pytest.mark.parametrize(
    "loss", [bp.Loss("mse"), bp.Loss("huber", delta=0.1), bp.Loss("bce", pos_weight=[1, 20]), bp.Loss("quantile", q=[0.1, 0.9])]
)
def test_the_advice_about_gaps_is_the_same_loss(backend, loss):
    targets = np.full((len(X), loss.target_columns(2)), 0.5)
    targets[7, 0] = np.nan
    with pytest.raises(FloatingPointError) as raised:
        trainer(backend, loss, 2).step(X, targets)
    advised = eval(str(raised.value).partition("; if NaN means that there is no target, use ")[2].rpartition(")")[0] + ")", {"bp": bp})
    assert advised == bp.Loss(loss.name, **loss.parameters, missing=True)
    trainer(backend, advised, 2).step(X, targets)


def test_one_column_of_targets_and_several_inputs_are_named(backend):
    with pytest.raises(FloatingPointError, match="y contains NaN, first at row 9; if NaN means"):
        trainer(backend, "mse", 1).step(X, changed(Y[:, 0], 9, np.nan))
    a, b = bp.Input(4), bp.Input(2)
    t = bp.Trainer(bp.Network([a, b], [bp.Dense(1)(a), bp.Dense(2)(b)], backend=backend), ["mse", "cross_entropy"])
    with pytest.raises(FloatingPointError, match=r"X\[1\] contains NaN, first at row 4, column 1"):
        t.step([X, changed(Y, (4, 1), np.nan)], [Y[:, 0], LABELS])
    with pytest.raises(ValueError, match=r"y\[1\]\[6\] is 5, but with 2 outputs labels must be 0 or 1"):
        t.step([X, Y], [Y[:, 0], changed(LABELS, 6, 5)])


GAP = r"; if -1 means that the row has no label, use bp\.Loss\(\"cross_entropy\", missing=True\)"
UNIQUE = r"; for other labels, use classes, y = np\.unique\(y, return_inverse=True\)"


@pytest.mark.parametrize("way", [*WAYS, "evaluate"])
@pytest.mark.parametrize(
    ("loss", "outputs", "y", "words"),
    [
        ("cross_entropy", 2, LABELS + 1, rf"y\[1\] is 2, but with 2 outputs labels must be 0 or 1{UNIQUE}"),
        ("cross_entropy", 3, 2 * LABELS - 1, rf"y\[0\] is -1, but with 3 outputs labels must be 0 to 2{GAP}{UNIQUE}"),
        (
            "kl",
            2,
            changed(LABELS, 31, -1),
            r"y\[31\] is -1, .*; if -1 means that the row has no label, use bp\.Loss\(\"kl\", missing=True\)",
        ),
        ("cross_entropy", 2, np.arange(40) % 5, r"y\[2\] is 2, but .* 0 or 1; y has 5 classes, so it needs 5 outputs"),
        (
            "cross_entropy",
            2,
            changed(LABELS, 31, -100),
            r"y\[31\] is -100, but .* 0 or 1; for a row without a label, use a sample_weight of 0",
        ),
        ("cross_entropy", 2, changed(np.full((40, 2), 0.5), (9, 1), 2.5), r"y\[9, 1\] is 2\.5, but cross_entropy needs values in \[0,1\]"),
        ("bce", 1, 3 * LABELS, r"y\[1\] is 3, but bce needs values in \[0,1\]"),
        ("bce", 2, changed(np.full((40, 2), 0.5), (9, 1), 2.5), r"y\[9, 1\] is 2\.5, but bce needs values in \[0,1\]"),
        ("poisson", 1, LABELS - 1.0, r"y\[0\] is -1, but poisson needs values in \[0,inf\)"),
        ("hinge", 1, LABELS, r"y\[0\] is 0, but hinge needs -1 or 1: use 2\*y - 1"),
        ("hinge", 1, 2.0 * LABELS - 2, r"y\[0\] is -2, but hinge needs -1 or 1$"),
        ("cross_entropy", 2, LABELS.astype(str), r"y must contain real numbers, not strings; for labels, use classes, y = np\.unique\(y, "),
        ("cross_entropy", 2, LABELS.astype(str).astype(object), r"not str \(first at index 0\); for labels, use classes, y = np\.unique"),
        ("mse", 2, LABELS, r"y has shape \(40,\) and dtype int64; with 2 outputs it must have shape \(40, 2\)"),
    ],
)
def test_a_refused_target_is_named_by_its_row(backend, way, loss, outputs, y, words):
    if way == "lists" and y.dtype == object:
        pytest.skip("a list of strings makes an array of strings")
    t = trainer(backend, loss, outputs)
    with pytest.raises((TypeError, ValueError), match=words):
        t.evaluate(X, y) if way == "evaluate" else WAYS[way](t, X, y)
    assert t.steps == 0


@pytest.mark.parametrize("validation", [0.5, 0.8, (X, changed(LABELS, 31, 2))])
def test_wrong_validation_targets_are_refused_before_the_first_step(backend, validation):
    """If validation is a fraction of the rows, the error has the row number in y."""
    t = trainer(backend, "cross_entropy", 2)
    prefix = "validation: " if isinstance(validation, tuple) else ""
    with pytest.raises(ValueError, match=rf"^{prefix}y\[31\] is 2, but with 2 outputs labels must be 0 or 1"):
        t.fit(X, LABELS if prefix else changed(LABELS, 31, 2), epochs=1, validation=validation)
    assert t.steps == 0


@pytest.mark.parametrize(
    ("loss", "y", "words"),
    [
        ("bce", LABELS + 1, r"y\[1\] is 2, but bce needs values in \[0,1\]: use \(y == 2\)$"),
        ("bce", 2.0 * LABELS - 1, r"y\[0\] is -1, but bce needs values in \[0,1\]: use \(y == 1\)$"),
    ],
)
def test_two_other_classes_get_the_line_that_converts_them(backend, loss, y, words):
    t = trainer(backend, loss, 1)
    with pytest.raises(ValueError, match=words):
        t.fit(X, y, epochs=1)
    t.step(X, eval(words.partition(": use ")[2].replace("\\", "").rstrip("$"), {"y": y}).astype(float))


def test_a_label_beyond_int64_is_told_as_it_is(backend):
    y = LABELS.astype(np.uint64)
    y[5] = 2**63
    t = trainer(backend, "cross_entropy", 2)
    for call in (t.step, t._engine.array_step):  # the second is the backend's own
        with pytest.raises(ValueError, match="9223372036854775808"):
            call(X, y)


def test_gradient_check_and_lr_find_name_the_row(backend):
    t, x = trainer(backend, "mse", 2), changed(X, (3, 2), np.nan)
    before = t.net.params.tobytes()
    for call in (t.check_gradients, lambda x, y: bp.lr_find(t, x, y)):
        with pytest.raises(FloatingPointError, match="X contains NaN, first at row 3, column 2"):
            call(x, Y)
    assert bp.lr_find(t, x, Y, sample_weight=(np.arange(40) != 3).astype(float)).losses.size
    assert t.net.params.tobytes() == before


def test_parameters_that_are_nan_are_named(backend):
    t = trainer(backend, "mse", 2)
    t.net.tensors["dense_1.weight"][0, 0] = np.nan
    with pytest.raises(FloatingPointError, match=r"net\.tensors\['dense_1\.weight'\] contains NaN or infinity already"):
        t.step(X, Y)


class Sparse:
    """Like a sparse matrix of SciPy."""

    shape, dtype = (100_000, 3_000), np.dtype(np.float32)

    def toarray(self):
        return X


class Tensor:
    """Like a tensor of PyTorch that requires grad."""

    requires_grad = True

    def __array__(self, *_, **__):
        raise RuntimeError("Can't call numpy() on Tensor that requires grad.")


@pytest.mark.parametrize("way", ["step", "fit", "predict"])
@pytest.mark.parametrize(
    ("x", "words"),
    [
        (Sparse(), r"X is a sparse matrix \(Sparse\), which is not supported: pass X\.toarray\(\), an array of 1,200\.0 MB$"),
        (Tensor(), r"X is a tensor that requires grad: pass X\.detach\(\)$"),
        (None, "X is None; it must be an array of numbers"),
    ],
)
def test_sparse_matrices_and_none_are_named(backend, way, x, words):
    t = trainer(backend, "mse", 2)
    with pytest.raises(TypeError, match=words):
        t.predict(x) if way == "predict" else WAYS[way](t, x, Y)


@pytest.mark.parametrize("given", [(X, Y), lambda: (X, Y)], ids=["tuple", "function"])
def test_arrays_passed_as_a_stream_get_advice(given):
    words = r"chunk 0 must be .*, not an array of shape \(40, 4\); for arrays, write fit\(X, y, \.\.\.\), or a list of chunks: \[\(X, y\)\]"
    with pytest.raises(TypeError, match=words):
        trainer("compiled", "mse", 2).fit(given, epochs=1)
