"""t.forward and t.backward_from: the gradients of a loss that the caller computes, for trainers with and without losses."""

import copy
import pickle
import re

import cases
import numpy as np
import pytest
from graphs import SHAPES, network, rows_of

import microbp as bp

ROWS = 7


def listed(arrays):
    return arrays if isinstance(arrays, list) else [arrays]


def unlisted(arrays):
    return arrays[0] if len(arrays) == 1 else arrays


def factors(net, seed=1):
    """A factor for each element of the outputs: the gradient of the loss that is their sum with these factors."""
    random = np.random.default_rng(seed)
    return [random.normal(size=(ROWS, output.width)) for output in net.outputs]


def linear(net, weights):
    """This loss, as a function."""

    def loss(outputs, targets, weight):
        assert targets is None and weight is None
        gradients = unlisted(weights)
        return sum(float((o * w).sum()) for o, w in zip(listed(outputs), weights, strict=True)), gradients

    return loss


def pair(shape, backend, dtype="float32", **options):
    """A trainer without a loss, and one of an equal network with the loss `linear`."""
    net = network(shape, dtype=dtype, backend=backend)
    weights = factors(net)
    own = linear(net, weights)
    return weights, bp.Trainer(net, None, **options), bp.Trainer(net.copy(), own, **options)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", cases.DTYPES)
def test_the_three_parts_are_a_step_with_this_loss(backend, shape, dtype):
    """The same bits, also with dropout, noise, batch statistics and penalties; and this loss's gradient is right: its differences agree."""
    weights, parts, whole = pair(shape, backend, dtype, clip_norm=0.5)
    for t in (parts, whole):
        t.net.set_layer(l2=0.1)
    x = rows_of(parts.net, ROWS)
    for _ in range(3):
        outputs = listed(parts.forward(x))
        assert [(o.shape, o.dtype) for o in outputs] == [(w.shape, parts.net.dtype) for w in weights]
        parts.backward_from(unlisted(weights))
        parts.apply()
        assert whole.step(x) == pytest.approx(sum((o * w).sum() for o, w in zip(outputs, weights, strict=True)), rel=1e-4, abs=1e-4)
        np.testing.assert_array_equal(parts.grads, whole.grads)
        np.testing.assert_array_equal(parts.net.params, whole.net.params)
        np.testing.assert_array_equal(parts.net.buffers, whole.net.buffers)
    assert parts.steps == 3
    assert whole.check_gradients(x).error < 1e-5


@pytest.mark.parametrize("shape", ["chain", "heads", "random_ways", "normal_often"])
def test_input_gradients_and_sums(backend, shape):
    """backward_from is linear; accumulate adds, without adding the penalties again; input_grads are those of the last gradients."""
    weights, t, whole = pair(shape, backend, "float64")
    x = rows_of(t.net, ROWS)
    whole.backward(x, input_grads=True)
    t.forward(x)
    t.backward_from(unlisted(weights), input_grads=True)
    for a, b in zip(listed(t.input_grads), listed(whole.input_grads), strict=True):
        np.testing.assert_array_equal(a, b)
    assert [array.shape for array in listed(t.input_grads)] == [array.shape for array in listed(x)]
    once = t.grads.copy()
    t.backward_from(unlisted([3 * w for w in weights]), accumulate=True)
    np.testing.assert_allclose(t.grads, 4 * once, rtol=1e-12, atol=1e-15)
    with pytest.raises(ValueError, match="input_grads"):
        t.input_grads  # noqa: B018
    t.backward_from(unlisted(weights))
    np.testing.assert_array_equal(t.grads, once)


CALLS_OF_A_FORWARD = {"once": [False], "twice": [False, False], "parts": [False, True, True]}  # whether each backward_from accumulates


@pytest.mark.parametrize("forwards", [1, 2])
@pytest.mark.parametrize("calls", CALLS_OF_A_FORWARD)
def test_running_statistics_count_a_forward_once(backend, calls, forwards):
    """However many gradients come from it."""
    weights, t, whole = pair("normal_often", backend, "float64")
    x = rows_of(t.net, ROWS)
    for i in range(forwards):
        whole.backward(x, accumulate=i > 0)
        t.forward(x)
        for accumulate in CALLS_OF_A_FORWARD[calls]:
            t.backward_from(weights, accumulate or i > 0)
    for trainer in (t, whole):
        trainer.apply()
    np.testing.assert_array_equal(t.net.buffers, whole.net.buffers)
    assert (t.net.buffers != network("normal_often", backend=backend).buffers).all()


def test_named_losses_have_the_parts_too(backend):
    """Their gradient, computed by hand, gives what backward gives; forward is predict in training."""
    net = network("skip", dtype="float64", backend=backend)
    t, x = bp.Trainer(net, "mse"), rows_of(net, ROWS)
    y = np.random.default_rng(2).normal(size=(ROWS, 3))
    outputs = t.forward(x)
    np.testing.assert_array_equal(outputs, net.predict(x, raw=True))
    t.backward(x, y)
    expected = t.grads.copy()
    outputs = t.forward(x)
    t.backward_from(2 * (outputs - y) / y.size)
    np.testing.assert_allclose(t.grads, expected, rtol=1e-12)


@pytest.mark.parametrize("dtype", cases.DTYPES)
def test_all_arrays_are_independent(backend, dtype):
    """What forward returns and what it got belong to the caller, who may write to them."""
    weights, t, other = pair("heads", backend, dtype)
    x = rows_of(t.net, ROWS)
    first = t.forward(x)
    kept = copy.deepcopy(first)
    t.forward([-array for array in x])
    np.testing.assert_array_equal(np.hstack(first), np.hstack(kept))
    other.backward(x)
    outputs = t.forward(x)
    for array in [*x, *outputs]:
        array[...] = np.nan
    t.backward_from(weights)
    np.testing.assert_array_equal(t.grads, other.grads)


def test_the_last_forward_counts(backend):
    weights, t, other = pair("random_ways", backend)
    x = rows_of(t.net, ROWS)
    t.forward(rows_of(t.net, 3, seed=5))
    t.forward(x)
    t.backward_from(unlisted(weights))
    other.backward(x)
    np.testing.assert_array_equal(t.grads, other.grads)


@pytest.mark.parametrize("convert", [np.float32, np.asfortranarray, np.ndarray.tolist, lambda x: np.repeat(x, 2, axis=1)[:, ::2]])
def test_any_array_does(backend, convert):
    """Lists, other dtypes and strides, of the inputs and of the gradients."""
    net = network("chain", dtype="float64", backend=backend)
    t = bp.Trainer(net, None)
    x, gradient = (np.random.default_rng(3).integers(-4, 5, (ROWS, width)) / 4.0 for width in (5, 3))
    t.forward(x)
    t.backward_from(gradient)
    expected = t.grads.copy()
    t.forward(convert(x))
    t.backward_from(convert(gradient))
    np.testing.assert_array_equal(t.grads, expected)


# ---- what is refused ----

G = np.ones((ROWS, 5)), np.ones((ROWS, 2)), np.ones((ROWS, 3))
WRONG = [
    (list(G[:2]), ValueError, "backward_from: gradients must be a list of 3 arrays, one per output, but its length is 2"),
    (G[0], TypeError, "backward_from: gradients must be a list of 3 arrays, one per output, not ndarray"),
    (None, TypeError, "backward_from: gradients must be a list of 3 arrays, one per output, not NoneType"),
    ([G[0], G[1][:3], G[2]], ValueError, r"a gradient for output 1 of shape (3, 2); it must have the shape of the outputs, (7, 2)"),
    ([G[0], G[1][:, 0], G[2]], ValueError, r"a gradient for output 1 of shape (7,); it must have the shape of the outputs, (7, 2)"),
    ([G[0], G[1], np.nan * G[2]], FloatingPointError, "for output 2 that is not finite: nan, first at row 0, column 0"),
    ([G[0], G[1] * np.array([1, np.inf]), G[2]], FloatingPointError, "for output 1 that is not finite: inf, first at row 0, column 1"),
    ([1e39 * G[0], G[1], G[2]], FloatingPointError, "for output 0 of up to 1e+39 which float32 cannot hold"),
    ([G[0], None, G[2]], TypeError, "backward_from: gradients[1] is None; it must be an array of numbers"),
    ([G[0], G[1] + 1j, G[2]], TypeError, "backward_from: gradients[1] must contain real numbers"),
]


@pytest.mark.parametrize(("gradients", "error", "message"), WRONG)
def test_wrong_gradients_are_refused_and_change_nothing(backend, gradients, error, message):
    weights, t, other = pair("heads", backend)
    x = rows_of(t.net, ROWS)
    t.forward(x)
    t.grads[:] = 3
    with pytest.raises(error, match=re.escape(message)):
        t.backward_from(gradients)
    assert (t.grads == 3).all()
    t.backward_from(weights)  # the forward is still there
    other.backward(x)
    np.testing.assert_array_equal(t.grads, other.grads)


CALLS_BETWEEN = [
    (lambda t, x, y: t.step(x, y), "the outputs have no values: call forward first"),
    (lambda t, x, y: t.apply(), "the parameters were changed after forward: call forward again"),
    (lambda t, x, y: t.fit(x, y, epochs=1), "the outputs have no values: call forward first"),
    (lambda t, x, y: t.backward(x, y), "the outputs have no values: call forward first"),
    (lambda t, x, y: t.evaluate(x, y), "the outputs have no values: call forward first"),
    (lambda t, x, y: t.reset(), "the outputs have no values: call forward first"),
    (lambda t, x, y: t.net.freeze("dense_0"), "layers were frozen, unfrozen or changed after forward: call forward again"),
    (
        lambda t, x, y: (t.net.freeze("dense_0"), t.net.unfreeze("dense_0")),
        "layers were frozen, unfrozen or changed after forward: call forward again",
    ),
    (lambda t, x, y: t.net.set_layer("dense_0", lr=1), "layers were frozen, unfrozen or changed after forward: call forward again"),
    (lambda t, x, y: t.net.set_layer("dense_0", l2=0.5), "layers were frozen, unfrozen or changed after forward: call forward again"),
]


@pytest.mark.parametrize(("call", "message"), CALLS_BETWEEN)
def test_a_forward_that_is_no_longer_valid_is_refused(backend, call, message):
    t = bp.Trainer(network("chain", backend=backend), "mse")
    x, y = rows_of(t.net, ROWS), np.ones((ROWS, 3))
    t.forward(x)
    call(t, x, y)
    before = t.grads.copy()
    with pytest.raises(ValueError, match=message):
        t.backward_from(y)
    np.testing.assert_array_equal(t.grads, before)
    t.forward(x)
    t.backward_from(y)


def places_of(net, layer):
    """Which numbers of net.params belong to a layer."""
    values = net.params.copy()
    net.params[:] = 0
    for name, tensor in net.tensors.items():
        tensor[...] = name.startswith(f"{layer}.")
    found, net.params[:] = net.params == 1, values
    return found


def test_a_layer_that_is_frozen_before_apply_does_not_move(backend):
    t = bp.Trainer(network("chain", backend=backend), "mse", bp.Adam(lr=0.1, weight_decay=0.5))
    layer = t.net.layers[0].name
    frozen = places_of(t.net, layer)
    t.backward(rows_of(t.net, ROWS), np.ones((ROWS, 3)))
    before, grads = t.net.params.copy(), t.grads.copy()
    assert grads[frozen].any()
    t.net.freeze(layer)
    t.apply()
    np.testing.assert_array_equal(t.net.params[frozen], before[frozen])
    assert (t.net.params[~frozen] != before[~frozen]).mean() > 0.5
    assert not t.grads[frozen].any() and not any(slot[frozen].any() for slot in t.state.values())
    np.testing.assert_array_equal(t.grads[~frozen], grads[~frozen])


def test_predictions_may_come_between(backend):
    weights, t, other = pair("heads", backend)
    x = rows_of(t.net, ROWS)
    t.forward(x)
    t.predict(rows_of(t.net, 20))
    t.backward_from(weights)
    other.backward(x)
    np.testing.assert_array_equal(t.grads, other.grads)


def test_without_a_forward(backend):
    t = bp.Trainer(network("chain", backend=backend), None)
    for trainer in (t, copy.copy(t), pickle.loads(pickle.dumps(t))):
        with pytest.raises(ValueError, match="the outputs have no values: call forward first"):
            trainer.backward_from(np.ones((ROWS, 3)))
    t.forward(rows_of(t.net, ROWS))
    with pytest.raises(ValueError, match="the outputs have no values: call forward first"):
        copy.copy(t).backward_from(np.ones((ROWS, 3)))
    for x, message in [
        (np.ones((ROWS, 4)), r"X has shape \(7, 4\); the network needs shape \(rows, 5\)"),
        (np.ones(5), r"X has shape \(5,\)"),
        (np.ones((0, 5)), "the batch has 0 rows, but needs at least 1"),
    ]:
        with pytest.raises(ValueError, match=message):
            t.forward(x)
    with pytest.raises(ValueError, match=r"X\[0\] and X\[1\] must have the same number of rows"):
        bp.Trainer(network("heads", backend=backend), None).forward([np.ones((3, 3)), np.ones((2, 2))])


def test_not_inside_a_function_that_a_training_calls(backend):
    net = network("chain", backend=backend)
    t = bp.Trainer(net, None)
    t.forward(rows_of(net, ROWS))
    for call in (lambda: t.forward(rows_of(net, ROWS)), lambda: t.backward_from(np.ones((ROWS, 3)))):

        def loss(outputs, targets, weight, call=call):
            call()

        with pytest.raises(RuntimeError, match="training is not possible inside a function"):
            bp.Trainer(net, loss).step(rows_of(net, ROWS))


# ---- loss=None ----

NEEDS_A_LOSS = {
    "step": lambda t, x, y: t.step(x, y),
    "step of lists": lambda t, x, y: t.step(x.tolist(), y.tolist()),
    "backward": lambda t, x, y: t.backward(x, y),
    "evaluate": lambda t, x, y: t.evaluate(x, y),
    "check_gradients": lambda t, x, y: t.check_gradients(x, y),
    "epochs": lambda t, x, y: next(t.epochs(x, y)),
    "fit": lambda t, x, y: t.fit(x, y, epochs=1),
    "fit of a stream": lambda t, x, y: t.fit([(x, y)], epochs=1),
    "lr_find": lambda t, x, y: bp.lr_find(t, x, y),
    "train_many": lambda t, x, y: bp.train_many([t], x, y, epochs=1),
}


@pytest.mark.parametrize("call", NEEDS_A_LOSS)
def test_without_a_loss_other_calls_say_what_to_do(backend, call):
    t = bp.Trainer(network("chain", backend=backend), None)
    with pytest.raises(ValueError, match=r"this trainer has no loss \(loss=None\): call t\.forward\(X\), t\.backward_from"):
        NEEDS_A_LOSS[call](t, rows_of(t.net, ROWS), np.ones((ROWS, 3)))
    assert t.steps == 0 and t.losses == (None,) and "loss       none" in repr(t)


def test_a_loss_of_none_sets_no_activation(backend):
    net = network("heads", backend=backend)
    bp.Trainer(net, None)
    assert [output.activation for output in net.outputs] == [None] * 3
    bp.Trainer(net, ["mse", "cross_entropy", "bce"])
    bp.Trainer(net, None)
    assert [output.activation for output in net.outputs] == ["identity", "softmax", "sigmoid"]
    with pytest.raises(
        TypeError, match="a loss must be a name, a bp.Loss or a function, not None; for gradients of your own, pass loss=None"
    ):
        bp.Trainer(net, ["mse", None, "mse"])
    with pytest.raises(ValueError, match="loss_weights needs one loss per output, but loss=None has no losses"):
        bp.Trainer(net, None, loss_weights=[1, 2, 1])


@pytest.mark.parametrize("shape", ["chain", "heads"])
@pytest.mark.parametrize("way", ["pickle", "copy", "deepcopy", "file"])
def test_a_trainer_without_a_loss_goes_on_as_a_copy(backend, shape, way, tmp_path):
    weights, t, _ = pair(shape, backend, optimizer=bp.Adam(lr=0.1), average=bp.EMA(0.5))
    x = rows_of(t.net, ROWS)

    def step(trainer):
        trainer.forward(x)
        trainer.backward_from(unlisted(weights))
        trainer.apply()

    step(t)
    if way == "file":
        t.save(tmp_path / "run")
        other = bp.Trainer.load(tmp_path / "run", backend=backend)
    else:
        other = {"pickle": lambda t: pickle.loads(pickle.dumps(t)), "copy": copy.copy, "deepcopy": copy.deepcopy}[way](t)
    assert other.losses == t.losses == (None,) * len(weights)
    if way == "copy":  # of the same network
        before = t.net.params.copy()
        step(other)
        after = other.net.params.copy()
        t.net.params[:] = before
        step(t)
        np.testing.assert_array_equal(t.net.params, after)
        return
    for trainer in (t, other):
        step(trainer)
    np.testing.assert_array_equal(t.net.params, other.net.params)
    np.testing.assert_array_equal(t.average_params, other.average_params)
    assert t.steps == other.steps == 2


def test_a_saved_trainer_without_a_loss_can_get_one(backend, tmp_path):
    bp.Trainer(network("heads", backend=backend), None).save(tmp_path / "run")
    net = network("heads", backend=backend)
    one = linear(net, factors(net))
    x = rows_of(net, ROWS)
    t = bp.Trainer.load(tmp_path / "run", backend=backend, loss=one)
    assert t.losses == (one,) * 3
    assert t.step(x) == bp.Trainer(net, one).step(x)


def test_gradients_may_be_a_dict_by_output(backend):
    net = network("heads", backend=backend)
    t, x, gradients = bp.Trainer(net, None), rows_of(net, ROWS), factors(net)
    t.forward(x)
    t.backward_from(gradients)
    expected = t.grads.copy()
    t.backward_from({str(i): gradient for i, gradient in reversed([*enumerate(gradients)])})
    np.testing.assert_array_equal(t.grads, expected)
    for wrong, message in [({0: gradients[0]}, "has nothing for output"), ({"a": gradients[0]}, "unknown output in")]:
        with pytest.raises(ValueError, match=message) as error:
            t.backward_from(wrong)
        assert "backward_from: gradients" in str(error.value)


@pytest.mark.parametrize("threads", [2, 5])
def test_the_bits_do_not_depend_on_threads(threads):
    net = bp.mlp([40, 300, 300, 7], seed=0, activation="gelu")
    x, gradient = np.random.default_rng(4).normal(size=(900, 40)), np.random.default_rng(5).normal(size=(900, 7))
    found = []
    for n in (1, threads):
        t = bp.Trainer(net.copy(), None)
        t.net.n_threads = n
        outputs = t.forward(x)
        t.backward_from(gradient, input_grads=True)
        found.append([outputs.tobytes(), t.grads.tobytes(), t.input_grads.tobytes()])
    assert found[0] == found[1]
