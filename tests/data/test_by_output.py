"""Arguments as dicts by output give what lists give, in every call, to the bit; wrong keys are refused."""

import numpy as np
import pytest

import microbp as bp

RNG = np.random.default_rng(3)
X, NEW = RNG.normal(size=(2, 12, 3))
A, B = RNG.integers(0, 3, 12), RNG.normal(size=(12, 2))
LIST, DICT = [A, B], {1: B, "policy": A}
WEIGHT = RNG.uniform(0.5, 1, 12)


def make(backend="compiled", **more):
    x = bp.Input(3)
    h = bp.Dense(4, activation="tanh")(x)
    net = bp.Network(x, [bp.Dense(3, name="policy")(h), bp.Dense(2)(h)], dtype="float64", seed=2, backend=backend)
    return bp.Trainer(net, **({"loss": ["cross_entropy", "mse"], "loss_weights": [1, 0.5]} | more))


CALLS = {
    "step": lambda t, y: [t.step(X, y), t.step(X, y, WEIGHT)],
    "backward": lambda t, y: [t.backward(X, y, WEIGHT), *t.grads],
    "evaluate": lambda t, y: t.evaluate(X, y),
    "check_gradients": lambda t, y: t.check_gradients(X, y).error,
    "fit": lambda t, y: t.fit(X, y, epochs=2, validation=(NEW, y))["val_loss"],
    "fit with a stream": lambda t, y: t.fit([(X, y), (NEW, y, WEIGHT)], epochs=2, validation=(NEW, y, WEIGHT))["val_loss"],
    "epochs": lambda t, y: next(t.epochs(X, y)).loss,
    "lr_find": lambda t, y: list(bp.lr_find(t, X, y, num_it=10).losses),
    "train_many": lambda t, y: bp.train_many([t], X, y, epochs=2)[0]["loss"],
}


@pytest.mark.parametrize("call", CALLS)
def test_targets_by_output_are_those_of_a_list(backend, call):
    one, other = make(backend), make(backend)
    assert CALLS[call](one, DICT) == CALLS[call](other, LIST)
    np.testing.assert_array_equal(one.net.params, other.net.params)


def test_losses_and_their_weights_by_output(backend):
    expected = make(backend).step(X, LIST)
    for keys in (("policy", "1"), (0, 1), ("0", 1)):
        loss = dict(zip(keys, ("cross_entropy", bp.Loss("mse")), strict=True))
        t = make(backend, loss=loss, loss_weights={keys[1]: 0.5})
        assert t.loss_weights == (1.0, 0.5) and t.step(X, LIST) == expected
    assert make(backend, loss_weights={}).loss_weights == (1.0, 1.0)


def test_one_output_may_have_a_dict(backend):
    x = bp.Input(3)
    net = bp.Network(x, bp.Dense(2, name="value")(x), seed=0, backend=backend)
    t, other = bp.Trainer(net, {"value": "mse"}), bp.Trainer(net.copy(), "mse")
    assert t.step(X, {"value": B}, {"value": WEIGHT}) == other.step(X, B, WEIGHT)
    assert t.step(X, {0: B}) == other.step(X, B)


def test_a_target_of_nan_is_named_with_row_and_column(backend):
    t, wrong = make(backend), B.copy()
    wrong[5, 1] = np.nan
    for call in (lambda y: t.step(X, y), lambda y: t.fit(X, y, epochs=1)):
        with pytest.raises(FloatingPointError, match=r"y\[1\] contains NaN, first at row 5, column 1"):
            call({"policy": A, 1: wrong})
    assert t.steps == 0 and not t.history


WRONG = {
    "unknown": ({"polcy": A, 1: B}, "unknown output in {}: 'polcy'; did you mean 'policy'. valid: policy, 1"),
    "a number too large": ({"policy": A, 2: B}, "{}: a key must be the name or number of an output ('policy', '1'), not 2"),
    "no name": ({"policy": A, True: B}, "{}: a key must be the name or number of an output ('policy', '1'), not True"),
    "twice": ({"policy": A, 0: A, 1: B}, "{}: 'policy' and 0 are the same output"),
}
MISSING = ({"policy": A}, "{} has nothing for output '1'; its keys must be 'policy', '1'")


@pytest.mark.parametrize("case", [*WRONG, "missing"])
def test_wrong_keys_are_refused(case):
    t, (wrong, message) = make(), WRONG.get(case, MISSING)
    calls = {
        "y": lambda: t.step(X, wrong),
        "Trainer: loss": lambda: make(loss=dict.fromkeys(wrong, "mse")),
        "Trainer: loss_weights": lambda: make(loss_weights=dict.fromkeys(wrong, 1)),
        "sample_weight": lambda: t.evaluate(X, LIST, dict.fromkeys(wrong, WEIGHT)),
        "class_weight": lambda: t.fit(X, LIST, epochs=1, class_weight=dict.fromkeys(wrong, "balanced")),
    }
    for what in ("y", "Trainer: loss") if case == "missing" else calls:
        with pytest.raises(ValueError) as error:  # noqa: PT011  # the text is checked below
            calls[what]()
        assert message.format(what).replace(". valid", "? valid") in str(error.value)
    with pytest.raises(ValueError, match="validation: "):
        t.fit(X, LIST, epochs=1, validation=(NEW, wrong))
    assert t.steps == 0
