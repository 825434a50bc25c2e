"""Losses of the user: without targets, one function for all outputs, and beside named ones."""

import copy
import pickle
import re

import cases
import numpy as np
import pytest
from cases import own_mse
from graphs import SHAPES, network, rows_of

import microbp as bp
from microbp.training import trainer_file

ROWS = 9
RNG = np.random.default_rng(11)
WEIGHT = np.array([1, 0, 2, 0.5, 1, 3, 0, 1, 1])
X = RNG.normal(size=(ROWS, 3))


def near_zero(outputs, targets, weight):
    """A loss that needs no targets: the mean square of the outputs. It is mse with targets of 0."""
    assert targets is None
    return own_mse(outputs, np.zeros_like(outputs), weight)


def jointly(outputs, targets, weight):
    """One function for all outputs: the sum of mse."""
    assert type(outputs) is type(targets) is list
    found = [own_mse(output, target, weight) for output, target in zip(outputs, targets, strict=True)]
    return sum(loss for loss, _ in found), [gradient for _, gradient in found]


def nothing(outputs, targets, weight):
    return 0.0, np.zeros_like(outputs)


def two_heads(backend="compiled", dtype="float64", widths=(2, 3)):
    x = bp.Input(3)
    h = bp.Dropout(0.2)(bp.Dense(6, activation="tanh")(x))
    return bp.Network(x, [bp.Dense(width)(h) for width in widths], dtype=dtype, seed=5, backend=backend)


def targets_of(net, seed=6):
    return [np.random.default_rng(seed).normal(size=(ROWS, output.width)) for output in net.outputs]


# ---- every entry point, as rows of a table: what it returns, from a trainer and rows ----

CALLS = {
    "step": lambda t, x, y, w: t.step(x, y, w),
    "backward": lambda t, x, y, w: (t.backward(x, y, w), t.grads.tobytes()),
    "input_grads": lambda t, x, y, w: (t.backward(x, y, w, input_grads=True), np.asarray(t.input_grads).tobytes()),
    "evaluate": lambda t, x, y, w: t.evaluate(x, y, w),
    "fit": lambda t, x, y, w: t.fit(x, y, epochs=2, batch_size=4, sample_weight=w)["loss"],
    "fit with validation": lambda t, x, y, w: t.fit(x, y, epochs=2, batch_size=4, sample_weight=w, validation=(x, y, w))["val_loss"],
    "fit with a fraction": lambda t, x, y, w: t.fit(x, y, epochs=2, batch_size=4, sample_weight=w, validation=0.4)["val_loss"],
    "fit of a stream": lambda t, x, y, w: t.fit([(x, y, w)] * 2, epochs=2, batch_size=5)["loss"],
    "epochs": lambda t, x, y, w: next(t.epochs(x, y, w, batch_size=3)).loss,
    "lr_find": lambda t, x, y, w: bp.lr_find(t, x, y, num_it=12, batch_size=4, sample_weight=w).losses.tolist(),
}
each_call = pytest.mark.parametrize("call", CALLS)
each_weight = pytest.mark.parametrize("weight", [None, WEIGHT], ids=["", "weighted"])


def result(t, call, x, y, weight):
    return CALLS[call](t, x, y, weight), t.net.params.tobytes(), t.steps


# ---- without targets ----


@each_call
@each_weight
@pytest.mark.parametrize("dtype", cases.DTYPES)
def test_a_loss_may_have_no_targets(backend, call, weight, dtype):
    """The function gets None; all else is as with targets that it does not use."""
    given, absent = (bp.mlp([3, 4, 2], activation="tanh", seed=0, dtype=dtype, backend=backend) for _ in range(2))
    expected = result(bp.Trainer(given, lambda o, t, w: near_zero(o, None, w)), call, X, X[:, :2], weight)
    assert result(bp.Trainer(absent, near_zero), call, X, None, weight) == expected


@pytest.mark.parametrize("shape", SHAPES)
def test_gradients_without_targets_agree_with_differences(backend, shape):
    net = network(shape, backend=backend)
    losses = near_zero if len(net.outputs) == 1 else [near_zero] * len(net.outputs)
    assert bp.Trainer(net, losses).check_gradients(rows_of(net, ROWS)).error < 1e-5


@each_call
def test_some_outputs_may_have_no_targets(backend, call):
    """An output with an own loss, or of weight 0; the rest of the trainer is as if they had any."""
    results = []
    for y in ([X[:, :2], None], [X[:, :2], X]):
        t = bp.Trainer(two_heads(backend), ["mse", lambda o, t, w: near_zero(o, None, w)])
        results.append(result(t, call, X, y, WEIGHT))
    for y in ([X[:, :2], None], [X[:, :2], X * np.nan]):
        t = bp.Trainer(two_heads(backend), ["mse", "cross_entropy"], loss_weights=[1, 0])
        results.append(result(t, call, X, y, WEIGHT))
    assert results[0] == results[1] and results[2] == results[3]


@pytest.mark.parametrize("width", [1, 3])
def test_a_function_gets_the_targets_as_they_are(backend, width):
    """Any shape and dtype; but the targets of one column get the shape of the outputs, so that a difference is what it should be."""
    seen = []

    def loss(outputs, targets, weight):
        seen.append(targets)
        return 0.0, np.zeros_like(outputs)

    t, x = bp.Trainer(bp.mlp([2, width], seed=0, backend=backend), loss), np.ones((4, 2))
    for y in (np.arange(4), np.ones((4, 3)), np.ones((4, 1)), np.ones((4, 2, 5), np.float32)):
        t.step(x, y)
        t.evaluate(x, y)
        expected = y.reshape(4, 1) if y.ndim == 1 and width == 1 else y
        for got in seen:
            assert got.dtype == y.dtype and np.array_equal(got, expected)
        seen.clear()


NO_LOSSES = {
    "a layer": (lambda: bp.Dense(1), r"not Dense\(1\); a layer belongs to the network: bp.Network\(x, layer\(node\)\)"),
    "an activation": (lambda: bp.Activation("tanh"), "not Activation.*; a layer belongs to the network"),
    "a network": (lambda: bp.mlp([2, 1]), "not a network; to train through another network, put both into one graph"),
    "a class": (lambda: bp.Dense, "not the class Dense"),
    "a number": (lambda: 3, "not 3"),
}


@pytest.mark.parametrize("case", NO_LOSSES)
@pytest.mark.parametrize("outputs", [1, 2])
def test_what_is_called_but_is_no_loss_is_refused(case, outputs):
    make, words = NO_LOSSES[case]
    x = bp.Input(2)
    net = bp.Network(x, [bp.Dense(1)(x) for _ in range(outputs)])
    for loss in (make(), [make()] * outputs):
        with pytest.raises(TypeError, match=f"Trainer: a loss must be a name, a bp.Loss or a function, {words}"):
            bp.Trainer(net, loss)


def test_named_losses_of_weight_0_need_no_targets(backend):
    t = bp.Trainer(two_heads(backend), ["mse", "cross_entropy"], bp.SGD(), loss_weights=[0, 0])
    before = t.net.params.copy()
    assert t.step(X) == t.backward(X) == t.evaluate(X) == t.fit(X, epochs=1)["loss"][0] == 0
    np.testing.assert_array_equal(t.net.params, before)


@each_call
def test_named_losses_need_targets(backend, call):
    alone, mixed = bp.Trainer(bp.mlp([3, 2], backend=backend), "mse"), bp.Trainer(two_heads(backend), [near_zero, "mse"])
    before = [t.net.params.copy() for t in (alone, mixed)]
    with pytest.raises(
        (TypeError, ValueError), match=r"y is None; it must be an array|without y, X must be an iterable|a stream cannot be split"
    ):
        CALLS[call](alone, X, None, None)
    with pytest.raises((TypeError, ValueError), match=r"y\[1\] is None; it must be an array"):
        CALLS[call](mixed, X, [None, None], None)
    for t, params in zip((alone, mixed), before, strict=True):
        np.testing.assert_array_equal(t.net.params, params)


def test_a_stream_is_not_taken_for_rows(backend):
    """X without y is a stream unless it is an array and no loss needs targets."""
    chunks = [(X[:5], None), (X[5:], None, WEIGHT[5:])]
    weights = np.concatenate([np.ones(5), WEIGHT[5:]])
    a, b = (bp.Trainer(bp.mlp([3, 4, 2], seed=0, backend=backend), near_zero) for _ in range(2))
    options = {"epochs": 2, "batch_size": 4, "shuffle": False}
    assert a.fit(chunks, **options)["loss"] == b.fit(X, sample_weight=weights, **options)["loss"]
    np.testing.assert_array_equal(a.net.params, b.net.params)
    with pytest.raises(ValueError, match="a batch spans two chunks, of which only one has targets for output 0"):
        a.fit([(X[:5], None), (X[5:], X[5:])], **options)
    with pytest.raises(TypeError, match="without y, X must be an iterable of"):
        bp.Trainer(bp.mlp([3, 2], backend=backend), "mse").fit(X, epochs=1, sample_weight=WEIGHT)
    with pytest.raises(TypeError, match="chunk 0 must be"):
        a.fit([X.tolist(), X.tolist()], **options)
    net = network("shared", backend=backend)
    t = bp.Trainer(net, near_zero)
    assert len(t.fit(rows_of(net, ROWS), epochs=2)["loss"]) == 2
    with pytest.raises(ValueError, match="metrics compare predictions with targets, but y is None"):
        t.fit(rows_of(net, ROWS), epochs=2, metrics="rmse")


# ---- one function for all outputs ----


@each_call
@each_weight
def test_one_function_for_all_outputs_equals_one_each(backend, call, weight):
    joint, each = (bp.Trainer(two_heads(backend), loss) for loss in (jointly, [own_mse, own_mse]))
    y = targets_of(joint.net)
    assert result(joint, call, X, y, weight) == result(each, call, X, y, weight)
    assert joint.losses == (jointly, jointly) and "jointly, of all outputs" in repr(joint)


def test_one_function_gets_what_was_given(backend):
    seen = []

    def keep(outputs, targets, weight):
        seen.append(targets)
        return 0.0, [np.zeros_like(output) for output in outputs]

    t = bp.Trainer(two_heads(backend), keep)
    labels = np.arange(ROWS)
    t.step(X)
    t.step(X, [None, None])
    t.step(X, [labels, None])
    assert seen[:2] == [None, None] and seen[2][1] is None
    np.testing.assert_array_equal(seen[2][0], labels)


@pytest.mark.parametrize("shape", ["heads", "normal_often", "scaled"])
def test_gradients_of_one_function_agree_with_differences(backend, shape):
    net = network(shape, dtype="float64", backend=backend)

    def product(outputs, targets, weight):
        """A loss in which each output depends on the others."""
        sums = [output.sum() for output in outputs]
        return float(np.prod(sums)), [np.full_like(o, np.prod(sums[:i] + sums[i + 1 :])) for i, o in enumerate(outputs)]

    assert bp.Trainer(net, product).check_gradients(rows_of(net, ROWS)).error < 1e-5


G = [np.ones((ROWS, 2)), np.ones((ROWS, 3))]
WRONG_RESULTS = [
    (1.0, TypeError, "f must return (loss, gradient with respect to outputs), not float"),
    ((1.0, G[0]), TypeError, "f: the returned gradient must be a list of 2 arrays, one per output, not ndarray"),
    ((1.0, G[:1]), ValueError, "f: the returned gradient must be a list of 2 arrays, one per output, but its length is 1"),
    ((1.0, [G[0], G[0]]), ValueError, "f returned a gradient for output 1 of shape (9, 2); it must have the shape of the outputs, (9, 3)"),
    ((1.0, [G[0], G[1] * np.nan]), FloatingPointError, "f returned a gradient for output 1 that is not finite: nan, first at row 0"),
    ((np.inf, G), FloatingPointError, "f returned the loss inf"),
    (("a", G), TypeError, "f: the returned loss"),
]


@pytest.mark.parametrize(("returned", "error", "message"), WRONG_RESULTS)
def test_wrong_results_change_nothing(backend, returned, error, message):
    def f(outputs, targets, weight):
        return returned

    t = bp.Trainer(two_heads(backend), f)
    before = t.net.params.copy()
    for call in (t.step, t.backward):
        with pytest.raises(error, match=re.escape(message)):
            call(X)
    np.testing.assert_array_equal(t.net.params, before)
    assert t.steps == 0 and not t.grads.any()
    with pytest.raises(ValueError, match="loss_weights needs one loss per output, but one function for all outputs weighs them itself"):
        bp.Trainer(two_heads(backend), f, loss_weights=[1, 2])


# ---- named losses and functions together ----


BESIDE = [("compiled", dtype, call) for dtype in cases.DTYPES for call in CALLS]
BESIDE += [("reference", "float64", call) for call in ("step", "input_grads", "evaluate")]  # the others are the same code, and slow


@each_weight
@pytest.mark.parametrize("loss", cases.LOSS_CASES)
@pytest.mark.parametrize(("backend", "dtype", "call"), BESIDE)
def test_a_named_loss_beside_a_function_is_the_named_loss(backend, loss, call, weight, dtype):
    """The same bits as with two named losses of which the second has the weight 0."""
    case = cases.LOSS_CASES[loss]
    y = [case.targets(np.random.default_rng(3), ROWS, 2).astype(dtype), None]
    named = bp.Trainer(two_heads(backend, dtype), [case.spec, "mse"], loss_weights=[0.75, 0])
    mixed = bp.Trainer(two_heads(backend, dtype), [case.spec, nothing], loss_weights=[0.75, 1])
    (a, params, steps), (b, other, same_steps) = (result(t, call, X.astype(dtype), y, weight) for t in (named, mixed))
    assert params == other and steps == same_steps
    losses = [np.ravel(np.array(found[0] if isinstance(found, tuple) else found, float)) for found in (a, b)]
    np.testing.assert_allclose(*losses, rtol=1e-12)
    assert mixed.net.outputs[0].activation == named.net.outputs[0].activation


@each_weight
def test_the_loss_is_the_sum(backend, weight):
    """Of the losses times their weights, whichever of them are functions; gradients agree with differences."""
    kinds = [["mse", "mse"], [own_mse, "mse"], ["mse", own_mse], [own_mse, own_mse]]
    trainers = [bp.Trainer(two_heads(backend), losses, bp.SGD(lr=0.1), loss_weights=[0.5, 3]) for losses in kinds]
    y = targets_of(trainers[0].net)
    steps = np.array([[t.step(X, y, weight) for _ in range(3)] for t in trainers])
    np.testing.assert_allclose(steps, steps[:1].repeat(4, 0), rtol=1e-12)
    for t in trainers:
        np.testing.assert_allclose(t.net.params, trainers[0].net.params, rtol=1e-10, atol=1e-13)
        assert t.evaluate(X, y, weight) == pytest.approx(trainers[0].evaluate(X, y, weight), rel=1e-12)
        assert t.check_gradients(X, y, weight).error < 1e-6


@each_weight
def test_the_losses_of_outputs_of_both_kinds(backend, weight):
    """They are those of named losses, before the loss weights, in t.output_losses and in histories."""
    kinds = [["mse", "mse"], [own_mse, "mse"], ["mse", own_mse], [own_mse, own_mse]]
    trainers = [bp.Trainer(two_heads(backend), losses, bp.SGD(), loss_weights=[0.5, 3]) for losses in kinds]
    y = targets_of(trainers[0].net)
    for call in ("step", "backward", "evaluate"):
        for t in trainers:
            CALLS[call](t, X, y, weight)
            np.testing.assert_allclose(t.output_losses, trainers[0].output_losses, rtol=1e-12)
    histories = [t.fit(X, y, epochs=2, batch_size=4, validation=(X, y), sample_weight=weight) for t in trainers]
    for history in histories:
        assert list(history) == list(histories[0])
        for name in ("loss_0", "loss_1", "val_loss_0", "val_loss_1"):
            np.testing.assert_allclose(history[name], histories[0][name], rtol=1e-10)
    joint = bp.Trainer(two_heads(backend), jointly)
    history = joint.fit(X, y, epochs=2, validation=(X, y))
    assert sorted(history) == ["loss", "lr", "seconds", "val_loss"] and np.isnan(joint.output_losses).all()


def test_each_output_has_its_own_weights(backend):
    """Of rows for functions, also of elements for named losses; one function for all outputs gets the list. Gaps are left out."""
    elements = np.random.default_rng(8).uniform(0.5, 2, (ROWS, 3))
    named, mixed = (bp.Trainer(two_heads(backend), losses, bp.SGD()) for losses in (["mse", "mse"], [own_mse, "mse"]))
    y = targets_of(named.net)
    for weight in ([WEIGHT + 1, None], [WEIGHT, elements], [None, elements]):
        assert mixed.step(X, y, weight) == pytest.approx(named.step(X, y, weight), rel=1e-12)
        np.testing.assert_allclose(mixed.net.params, named.net.params, rtol=1e-10, atol=1e-13)
    gaps = bp.Loss("mse", missing=True)
    named, mixed = (bp.Trainer(two_heads(backend), losses, bp.SGD()) for losses in (["mse", gaps], [own_mse, gaps]))
    y[1][2:5, 1] = np.nan
    assert mixed.step(X, y) == pytest.approx(named.step(X, y), rel=1e-12)
    np.testing.assert_allclose(mixed.net.params, named.net.params, rtol=1e-10, atol=1e-13)
    seen = []

    def keep(outputs, targets, weight):
        seen.append(weight)
        return 0.0, [np.zeros_like(output) for output in outputs]

    bp.Trainer(two_heads(backend), keep).step(X, None, [WEIGHT + 1, None])
    np.testing.assert_array_equal(seen[0][0], WEIGHT + 1)
    assert seen[0][1] is None


@each_call
def test_one_function_may_have_weights_of_each_output(backend, call):
    """Equal ones are like those of the rows, also in the means over batches and chunks."""

    def first(outputs, targets, weight):
        return jointly(outputs, targets, weight[0] if isinstance(weight, list) else weight)

    shared, each = (bp.Trainer(two_heads(backend), first, bp.SGD()) for _ in range(2))
    y = targets_of(shared.net)
    expected, found = (CALLS[call](t, X, y, weight) for t, weight in ((shared, WEIGHT), (each, [WEIGHT, WEIGHT])))
    losses = [np.ravel(np.array(one[0] if isinstance(one, tuple) else one, float)) for one in (expected, found)]
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-12)
    np.testing.assert_array_equal(each.net.params, shared.net.params)


def test_an_output_without_weights_in_a_batch_adds_nothing(backend):
    """As with a named loss, whose function would divide by 0."""
    weight = [np.where(np.arange(ROWS) < 4, 0, WEIGHT + 1), None]
    named, mixed = (bp.Trainer(two_heads(backend), losses, bp.SGD()) for losses in (["mse", "mse"], [own_mse, "mse"]))
    y = targets_of(named.net)
    options = {"epochs": 2, "batch_size": 2, "shuffle": False, "sample_weight": weight}
    histories = [t.fit(X, y, **options) for t in (named, mixed)]
    for name in ("loss", "loss_0", "loss_1"):
        np.testing.assert_allclose(histories[1][name], histories[0][name], rtol=1e-10)
    np.testing.assert_allclose(mixed.net.params, named.net.params, rtol=1e-10, atol=1e-13)
    assert mixed.step(X[:4], [y[0][:4], y[1][:4]], [weight[0][:4], None]) == mixed.output_losses[1] > mixed.output_losses[0] == 0


def test_metrics_need_the_targets_of_their_outputs_only(backend):
    losses = [lambda o, t, w: near_zero(o, None, w), "mse"]
    both, one = (bp.Trainer(two_heads(backend), losses, bp.SGD()) for _ in range(2))
    y = targets_of(both.net)
    for options in ({}, {"validation": 0.4}):
        histories = [t.fit(X, targets, epochs=2, metrics={1: "mae"}, **options) for t, targets in ((both, y), (one, [None, y[1]]))]
        assert histories[0]["mae_1"] == histories[1]["mae_1"]
    for metrics in ({1: "mae", 0: "mae"}, lambda targets, outputs: 0.0):
        with pytest.raises(ValueError, match=r"fit: metrics compare predictions with targets, but y\[0\] is None; pass y\[0\], or measure"):
            one.fit(X, [None, y[1]], epochs=1, metrics=metrics)
    unread = bp.Trainer(two_heads(backend), ["mse", "mse"], loss_weights=[0, 1])
    assert np.isnan(unread.fit(X, [None, y[1]], epochs=1, metrics={0: "mae"})["mae_0"]).all()


def test_targets_of_the_named_loss_are_checked(backend):
    t = bp.Trainer(two_heads(backend), [own_mse, "cross_entropy"])
    y, before = [X[:, :2], np.arange(ROWS) % 3], t.net.params.copy()
    wrong = [y[0], y[1].copy()]
    wrong[1][4] = 3
    for weight in (None, np.where(np.arange(ROWS) < 2, 0, 1.0)):
        for call in ("step", "backward", "evaluate", "fit", "epochs"):
            with pytest.raises(ValueError, match=r"y\[1\]\[4\] is 3, but with 3 outputs labels must be 0 to 2"):
                CALLS[call](t, X, wrong, weight)
    spoilt = [y[0], np.full((ROWS, 3), np.nan)]
    with pytest.raises(FloatingPointError, match=r"y\[1\] contains NaN, first at row 0"):
        t.step(X, spoilt)
    for name, options in {"accumulate": {"accumulate": 2}, "class_weight": {"class_weight": "balanced"}}.items():
        with pytest.raises(ValueError, match=name):
            t.fit(X, y, epochs=1, **options)
    with pytest.raises(ValueError, match="total= works with named losses only"):
        t.backward(X, y, total=20)
    np.testing.assert_array_equal(t.net.params, before)
    assert t.steps == 0


# ---- copies and files ----

KINDS = {
    "joint": (jointly, "loss=jointly", "the function jointly"),
    "mixed": (["mse", own_mse], 'loss=["mse", own_mse]', "the function own_mse"),
    "mixed with a parameter": ([own_mse, bp.Loss("huber", delta=2)], "loss=[own_mse, bp.Loss('huber', delta=2.0)]", "the function own_mse"),
    "each": ([own_mse, own_mse], "loss=[own_mse, own_mse]", "the functions own_mse, own_mse"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_copies_and_files_go_on(backend, kind, tmp_path):
    losses, line, what = KINDS[kind]
    t = bp.Trainer(two_heads(backend), losses)
    y = targets_of(t.net)
    t.step(X, y)
    t.save(tmp_path / "run")
    with pytest.raises(ValueError, match=re.escape(f"the trainer's loss is {what}, which files do not contain") + ".*" + re.escape(line)):
        bp.Trainer.load(tmp_path / "run", backend=backend)
    others = [pickle.loads(pickle.dumps(t)), copy.deepcopy(t), bp.Trainer.load(tmp_path / "run", backend=backend, loss=losses)]
    expected = t.step(X, y)
    for other in others:
        assert other.losses == t.losses and other.step(X, y) == expected
        np.testing.assert_array_equal(other.net.params, t.net.params)


@pytest.mark.parametrize("losses", [["mse", own_mse], None])
def test_files_of_c_say_none_for_a_loss_of_the_caller(backend, losses, tmp_path):
    """They have no line python.losses. If all are none, the trainer has no loss, unless one is given."""
    t, path = bp.Trainer(two_heads(backend), losses), tmp_path / "run"
    text, vectors = trainer_file.encode(t.net, t.__getstate__())
    lines = [line for line in text.split("\n") if not line.startswith("python.losses")]
    assert len(lines) == len(text.split("\n")) - 1
    assert any(re.fullmatch(r"losses=none none" if losses is None else r"losses=mse\S* none", line) for line in lines)
    t.net._core.save_with(str(path), "\n".join(lines), vectors)
    assert bp.Trainer.load(path, backend=backend, loss=losses).losses == t.losses
    if losses is None:
        assert bp.Trainer.load(path, backend=backend, loss=jointly).losses == (jointly, jointly)
        assert bp.Trainer.load(path, backend=backend, loss=[own_mse, own_mse]).losses == (own_mse, own_mse)
    else:
        with pytest.raises(ValueError, match=re.escape("the trainer's loss is the function f, which files do not contain")):
            bp.Trainer.load(path, backend=backend)


def test_files_refuse_other_losses(backend, tmp_path):
    path = tmp_path / "run"
    bp.Trainer(two_heads(backend), ["mse", own_mse]).save(path)
    for wrong, error, message in [
        (own_mse, ValueError, "loss has 1 item, but the trainer has 2 outputs"),
        (["mae", own_mse], ValueError, "loss has 'mae' where the trainer had \"mse\""),
        ([own_mse, own_mse], ValueError, 'where the trainer had "mse"'),
        (["mse", "mse"], TypeError, "loss must be a function where the trainer had own_mse, not 'mse'"),
    ]:
        with pytest.raises(error, match=re.escape(message)):
            bp.Trainer.load(path, backend=backend, loss=wrong)
    bp.Trainer(two_heads(backend), jointly).save(path)
    with pytest.raises(TypeError, match="loss must be a function where the trainer had jointly"):
        bp.Trainer.load(path, backend=backend, loss=[own_mse, own_mse])
