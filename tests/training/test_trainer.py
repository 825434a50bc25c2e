"""Trainers: steps, gradients, losses and state, for both backends."""

import copy
import pickle

import cases
import numpy as np
import pytest
from cases import own_mse

import microbp as bp
from microbp.core import backend as backends

X = np.random.default_rng(1).normal(size=(10, 3))
Y = np.random.default_rng(2).normal(size=(10, 2))
LABELS = np.arange(10) % 2
WEIGHT = np.linspace(0.5, 2, 10)


def make(backend, loss="mse", optimizer="adam", dtype="float64", activation="tanh"):
    net = bp.mlp([3, 4, 2], activation=activation, dtype=dtype, seed=5, backend=backend)
    return bp.Trainer(net, loss, optimizer)


@pytest.mark.parametrize("loss", cases.LOSS_CASES)
def test_gradients_agree_with_differences(backend, loss):
    check = make(backend, cases.LOSS_CASES[loss].spec).check_gradients(X, cases.LOSS_CASES[loss].targets(np.random.default_rng(3), 10, 2))
    assert check.error < 1e-6, check
    assert str(check).startswith("no gradient error found in 26 parameters" if check.error == 0 else "gradient error ")
    assert check.checked == 3 * 4 + 4 + 4 * 2 + 2


def test_a_wrong_gradient_is_found(backend):
    def wrong(outputs, targets, weight):
        loss, gradient = own_mse(outputs, targets, weight)
        return loss, 1.01 * gradient

    check = make(backend, wrong).check_gradients(X, Y)
    assert check.error > 1e-3
    assert check.tensor in str(check)


def test_a_step_is_backward_then_apply(backend):
    a, b = make(backend), make(backend)
    assert a.step(X, Y, WEIGHT) == b.backward(X, Y, WEIGHT)
    b.apply()
    np.testing.assert_array_equal(a.net.params, b.net.params)
    np.testing.assert_array_equal(a.grads, b.grads)
    assert (a.steps, b.steps) == (1, 1)


def test_apply_uses_the_gradient_that_is_there(backend):
    """0 in a new trainer; then that of the last backward, as often as it is applied; or one that the user wrote."""
    t = make(backend, optimizer="sgd(lr=0.5)")
    states = [t.net.params.copy()]
    for prepare in (lambda: None, lambda: t.backward(X, Y), lambda: None, lambda: t.grads.fill(2.0)):
        prepare()
        t.apply()
        states.append(t.net.params.copy())
    moved = np.diff(states, axis=0)
    assert not moved[0].any() and moved[1].any() and t.steps == 4
    np.testing.assert_allclose(moved[2], moved[1], rtol=1e-12)
    np.testing.assert_allclose(moved[3], -1.0)


def test_a_step_returns_the_loss_before_the_update(backend):
    t = make(backend)
    expected = t.evaluate(X, Y)
    assert t.step(X, Y) == pytest.approx(expected, rel=1e-13)
    assert expected == pytest.approx(make(backend, own_mse).evaluate(X, Y), rel=1e-13)


def test_a_small_sgd_step_lowers_the_loss_by_lr_times_the_squared_gradient(backend):
    t = make(backend, optimizer=bp.SGD(lr=1e-6))
    before = t.step(X, Y)
    assert before - t.evaluate(X, Y) == pytest.approx(1e-6 * (t.grads**2).sum(), rel=1e-3)


def test_input_grads_agree_with_differences(backend):
    t = make(backend)
    with pytest.raises(ValueError, match="input_grads=True"):
        _ = t.input_grads
    t.backward(X, Y, input_grads=True)
    moved = X.copy()
    moved[3, 1] += 1e-6
    assert t.input_grads.shape == X.shape
    assert t.input_grads[3, 1] == pytest.approx((t.evaluate(moved, Y) - t.evaluate(X, Y)) / 1e-6, rel=1e-4)


def test_a_custom_loss_trains_like_the_named_loss(backend):
    own, named = make(backend, own_mse), make(backend, "mse")
    for _ in range(3):
        assert own.step(X, Y, WEIGHT) == pytest.approx(named.step(X, Y, WEIGHT), rel=1e-12)
    np.testing.assert_allclose(own.net.params, named.net.params, rtol=1e-9)


@pytest.mark.parametrize(
    ("result", "error", "words"),
    [
        (lambda o: 1.0, TypeError, "must return"),
        (lambda o: (None, o), TypeError, "the returned loss must be a number"),
        (lambda o: (1.0, o[:1]), ValueError, "must have the shape of the outputs"),
        (lambda o: (np.nan, o), FloatingPointError, "returned the loss nan"),
        (lambda o: (1.0, o * np.inf), FloatingPointError, "returned a gradient that is not finite"),
    ],
)
def test_a_custom_loss_with_an_invalid_result_changes_nothing(backend, result, error, words):
    t = make(backend, lambda outputs, targets, weight: result(outputs))
    before = t.net.params.copy()
    with pytest.raises(error, match=words):
        t.step(X, Y)
    np.testing.assert_array_equal(t.net.params, before)
    assert t.steps == 0
    assert not any(slot.any() for slot in t.state.values())


def test_several_outputs_add_their_weighted_losses(backend):
    x = bp.Input(3)
    h = bp.Dense(4, activation="tanh")(x)
    net = bp.Network(x, [bp.Dense(2)(h), bp.Dense(2)(h)], dtype="float64", seed=0, backend=backend)
    t = bp.Trainer(net, ["mse", "cross_entropy"], loss_weights=[0.5, 2])
    alone = [bp.Trainer(net.copy(), ["mse", "cross_entropy"], loss_weights=w).evaluate(X, [Y, LABELS]) for w in ([1, 0], [0, 1])]
    assert t.evaluate(X, [Y, LABELS]) == pytest.approx(0.5 * alone[0] + 2 * alone[1], rel=1e-12)
    assert t.check_gradients(X, [Y, LABELS]).error < 1e-6
    _, probabilities = t.predict(X)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-12)
    assert [output.activation for output in net.outputs] == ["identity", "softmax"]


def test_several_inputs_train(backend):
    x, z = bp.Input(3), bp.Input(2)
    net = bp.Network([x, z], bp.Dense(2)(bp.concat([x, z])), dtype="float64", seed=0, backend=backend)
    t = bp.Trainer(net, "mse")
    assert t.check_gradients([X, Y], Y).error < 1e-6
    assert t.step([X, Y], Y) > t.evaluate([X, Y], Y)
    with pytest.raises(TypeError, match="list of 2"):
        t.step(X, Y)
    t.backward([X, Y], Y, input_grads=True)
    assert [gradient.shape for gradient in t.input_grads] == [(10, 3), (10, 2)]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_all_kinds_of_arrays_train_like_a_contiguous_copy(backend, dtype):
    plain = make(backend, dtype=dtype)
    loss = plain.step(X, Y)
    for x, y in [
        (X.tolist(), Y.tolist()),
        (np.asfortranarray(X), memoryview(Y)),
        (X.astype(">f8"), np.repeat(Y, 2, axis=0)[::2]),
        (X.astype(object), Y),
    ]:
        t = make(backend, dtype=dtype)
        assert t.step(x, y) == loss
        np.testing.assert_array_equal(t.net.params, plain.net.params)


def test_targets_of_one_output_may_be_one_dimensional(backend):
    net = bp.mlp([3, 1], seed=0, dtype="float64", backend=backend)
    flat, column, own = (bp.Trainer(net.copy(), loss).step(X, y) for loss, y in [("mse", Y[:, 0]), ("mse", Y[:, :1]), (own_mse, Y[:, 0])])
    assert flat == column == pytest.approx(own, rel=1e-12)


@pytest.mark.parametrize(
    ("loss", "x", "y", "words"),
    [
        ("mse", X, Y[:, :1], r"\(10, 1\).*\(10, 2\)"),
        ("mse", X, Y[:, 0], r"\(10,\).*\(10, 2\)"),
        ("mse", X, Y[:9], r"\(10, 3\).*\(9, 2\)"),
        ("mse", X[:, :2], Y, r"\(10, 2\).*3\)"),
        ("mse", X[0], Y[:1], "reshape"),
        ("mse", X[:0], Y[:0], "no rows"),
        ("cross_entropy", X, LABELS.astype(float), "labels"),
        ("cross_entropy", X, LABELS + 1, r"y\[1\] is 2"),
        ("bce", X, Y + 9, r"y\[0, 0\] is 9\.18905, but bce needs values in \[0,1\]"),
    ],
)
def test_rows_that_do_not_fit_are_refused_and_change_nothing(backend, loss, x, y, words):
    t = make(backend, loss)
    before = t.net.params.copy()
    for call in (t.step, t.backward, t.evaluate, t.check_gradients, lambda x, y: t.fit(x, y, epochs=1)):
        with pytest.raises(ValueError, match=words):
            call(x, y)
    np.testing.assert_array_equal(t.net.params, before)
    assert t.steps == 0


@pytest.mark.parametrize("weight", [np.ones(9), np.ones((10, 1)), -np.ones(10), np.zeros(10), np.full(10, np.nan)])
def test_weights_that_do_not_fit_are_refused(backend, weight):
    with pytest.raises(ValueError, match="weight"):
        make(backend).evaluate(X, Y, weight)


def test_an_output_activation_is_not_applied_twice(backend):
    x = bp.Input(3)
    for output in (bp.Dense(1, activation="sigmoid")(x), bp.Activation("sigmoid")(bp.Dense(1)(x))):
        with pytest.raises(ValueError, match=r"bp.Dense\(1\)"):
            bp.Trainer(bp.Network(x, output, backend=backend), "bce")


def test_non_finite_rows_name_the_step_and_change_nothing(backend):
    t = make(backend)
    t.step(X, Y)
    before, slots = t.net.params.copy(), t.state["m"].copy()
    with pytest.raises(FloatingPointError, match=r"epoch 1, step 2\); X contains NaN, first at row 0, column 0"):
        t.step(X * np.nan, Y)
    np.testing.assert_array_equal(t.net.params, before)
    np.testing.assert_array_equal(t.state["m"], slots)
    assert t.steps == 1


def test_frozen_layers_do_not_move(backend):
    t = make(backend, optimizer=bp.Adam(weight_decay=0.1))
    t.net.freeze("dense_0")
    before = {name: tensor.copy() for name, tensor in t.net.tensors.items()}
    t.step(X, Y)
    moved = {name: bool((tensor != before[name]).any()) for name, tensor in t.net.tensors.items()}
    assert moved == {"dense_0.weight": False, "dense_0.bias": False, "dense_1.weight": True, "dense_1.bias": True}
    assert t.check_gradients(X, Y).tensor.startswith("dense_1")


def test_lr_and_state_belong_to_the_trainer(backend):
    t = make(backend, optimizer=bp.SGD(lr=0.5, momentum=0.9))
    assert (t.lr, list(t.state)) == (0.5, ["velocity"])
    t.lr = 0
    before = t.net.params.copy()
    t.step(X, Y)
    np.testing.assert_array_equal(t.net.params, before)
    np.testing.assert_allclose(t.state["velocity"], t.grads)
    with pytest.raises(ValueError, match="lr"):
        t.lr = -1
    t.reset()
    assert t.steps == 0
    assert not t.state["velocity"].any()


def test_a_pickled_trainer_continues_bit_for_bit(backend):
    t = make(backend)
    t.fit(X, Y, epochs=2, batch_size=4)
    t.lr = 0.02
    twin = pickle.loads(pickle.dumps(t))
    assert twin.history == t.history
    a, b = t.fit(X, Y, epochs=1, batch_size=4), twin.fit(X, Y, epochs=1, batch_size=4)
    assert (a["loss"], a["lr"], t.steps) == (b["loss"], b["lr"], twin.steps)
    np.testing.assert_array_equal(t.net.params, twin.net.params)


@pytest.mark.parametrize(
    ("optimizer", "words"),
    [
        (lambda: bp.Adam(lr=-1), "lr"),
        (lambda: bp.Adam(betas=(0.9, 1.0)), "beta2"),
        (lambda: bp.Adam(betas=0.9), "betas"),
        (lambda: bp.SGD(nesterov=True), "momentum"),
        (lambda: bp.Loss("huber", delta=0), "delta"),
    ],
)
def test_wrong_settings_are_refused_by_their_constructor(optimizer, words):
    with pytest.raises(ValueError, match=words):
        optimizer()


@pytest.mark.parametrize(
    ("loss", "optimizer", "words"),
    [
        ("msee", "adam", "mse"),
        ("mse", "adm", "adam"),
        (["mse"] * 2, "adam", "1 output, but loss contains 2 losses; pass one loss per output"),
    ],
)
def test_wrong_names_are_refused_with_the_valid_names(backend, loss, optimizer, words):
    with pytest.raises(ValueError, match=words):
        make(backend, loss, optimizer)


def test_an_invalid_loss_and_an_invalid_total_are_refused(backend):
    for loss, words in ((5, "5"), (bp.Loss, r"the class Loss \(add parentheses: bp\.Loss\(")):
        with pytest.raises(TypeError, match=rf"a loss must be a name, a bp\.Loss or a function, not {words}"):
            make(backend, loss)
    with pytest.raises(TypeError, match="backward: total must be a number, not 'a'"):
        make(backend).backward(X, Y, total="a")


# ---- the output activation that a loss implies ----


def activations(net):
    return [output.activation for output in net.outputs]


@pytest.mark.parametrize("loss", cases.LOSSES)
def test_a_named_loss_sets_the_activation_of_its_output(backend, loss):
    net = bp.mlp([3, 2], seed=0, backend=backend)
    assert activations(net) == [None]
    bp.Trainer(net, loss)
    assert activations(net) == [bp.Loss(loss).detail]
    bp.Trainer(net, loss)  # the same again


def test_a_custom_loss_sets_no_activation(backend):
    net = bp.mlp([3, 2], dtype="float64", seed=0, backend=backend)
    t = bp.Trainer(net, own_mse)
    assert activations(net) == [None]
    np.testing.assert_array_equal(t.predict(X), net.predict(X))
    net.set_output(0, activation="softmax")
    np.testing.assert_allclose(bp.Trainer(net, own_mse).predict(X).sum(axis=1), 1)
    assert activations(net) == ["softmax"]


def test_a_loss_that_contradicts_the_output_activation_is_refused(backend):
    x = bp.Input(3)
    net = bp.Network(x, [bp.Dense(2)(x), bp.Dense(2)(x)], seed=0, backend=backend)
    net.set_output(1, activation="softmax")
    with pytest.raises(ValueError, match=r'output 1 has the activation softmax.*"mse" needs identity; .* call net.set_output\(1, "ident'):
        bp.Trainer(net, ["bce", "mse"])
    module = backends.load(backend)
    with pytest.raises(
        ValueError, match="output 1 has the activation softmax, but the loss mse needs identity; to change it, call .*set_output"
    ):
        module.Trainer(net._core, ["bce", "mse"], [1.0, 1.0], "sgd")
    assert activations(net) == [None, "softmax"]
    net.set_output(1, activation=None)
    bp.Trainer(net, ["bce", "mse"])
    assert activations(net) == ["sigmoid", "identity"]


@pytest.mark.parametrize("other", ["mse", "bce", "poisson"])
def test_a_second_trainer_does_not_change_what_predictions_mean(backend, other, tmp_path):
    t = make(backend, "cross_entropy")
    before = t.predict(X)
    with pytest.raises(ValueError, match=r"call net.set_output\(0, "):
        bp.Trainer(t.net, other)
    bp.Trainer(t.net, own_mse)
    t.net.save(tmp_path / "net")
    for predictions in (t.predict(X), t.net.predict(X), bp.load(tmp_path / "net", backend=backend).predict(X)):
        np.testing.assert_array_equal(predictions, before)


def test_a_refused_trainer_sets_no_activation(backend):
    module = backends.load(backend)
    net = module.Net("input 2\noutput 0")
    for losses, factors, optimizer in (
        (["msee"], [1.0], "sgd"),
        (["bce"], [1.0, 2.0], "sgd"),
        (["bce"], [float("nan")], "sgd"),
        (["bce"], [1.0], "sdg"),
    ):
        with pytest.raises(ValueError, match=r"msee|weight|sdg"):
            module.Trainer(net, losses, factors, optimizer)
        assert net.text() == "input 2\noutput 0\n"


@pytest.mark.parametrize("activation", ["identity", None])
def test_a_trainer_can_be_loaded_if_the_activation_was_changed_later(backend, activation, tmp_path):
    t = make(backend, "cross_entropy")
    t.net.set_output(0, activation=activation)
    t.save(tmp_path / "run")
    for back in (pickle.loads(pickle.dumps(t)), copy.deepcopy(t), bp.Trainer.load(tmp_path / "run", backend=backend)):
        assert activations(back.net) == [activation]
        assert back.step(X, LABELS) == make(backend, "cross_entropy").step(X, LABELS)
    assert t.check_gradients(X, LABELS).error < 1e-6
    assert activations(t.net) == [activation]
