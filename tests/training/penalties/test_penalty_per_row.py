"""Penalties that are divided by the weight of the batch and are part of the training loss (penalty_per_row); both backends."""

import copy
import pickle

import cases
import numpy as np
import pytest
from cases import own_mse

import microbp as bp

RANDOM = np.random.default_rng(cases.SEED)
X, Y = RANDOM.normal(size=(13, 4)), RANDOM.normal(size=(13, 2))
WEIGHT = np.linspace(0, 2, 13)
L1, L2 = 0.3, 0.7


def network(backend, dtype="float64"):
    """A layer that is used twice, and one on top of it; the penalties of both differ."""
    x = bp.Input(4)
    layer = bp.Dense(4, "tanh", name="below", l1=L1)
    return bp.Network(x, bp.Dense(2, name="top", l2=L2)(layer(layer(x))), dtype=dtype, seed=3, backend=backend)


def trainer(backend, dtype="float64", loss="mse", per_row=True, **options):
    return bp.Trainer(network(backend, dtype), loss, options.pop("optimizer", "sgd(lr=0.05)"), penalty_per_row=per_row, **options)


def penalty(net):
    below, top = (net.tensors[f"{name}.weight"].astype("d") for name in ("below", "top"))
    return L1 * abs(below).sum() + L2 / 2 * (top**2).sum()


def penalty_gradient(t):
    """The gradient of the penalties, as a flat vector."""
    twin = t.net.copy()
    twin.params[:] = 0
    twin.tensors["below.weight"][...] = L1 * np.sign(t.net.tensors["below.weight"])
    twin.tensors["top.weight"][...] = L2 * t.net.tensors["top.weight"]
    return twin.params


def plain_gradient(t, *data):
    plain = bp.Trainer(t.net.copy(), t.losses[0], penalty_per_row=True)
    plain.net.set_layer("below", l1=0)
    plain.net.set_layer("top", l2=0)
    plain.backward(*data)
    return plain.grads


# ---- one batch ----


@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["plain", "weighted"])
def test_loss_and_gradient_contain_the_penalties_divided_by_the_weight_of_the_batch(backend, dtype, weight):
    t, total = trainer(backend, dtype), 13 if weight is None else weight.sum()
    loss, expected = t.backward(X, Y, weight), t.evaluate(X, Y, weight) + penalty(t.net) / total
    assert loss == pytest.approx(expected, rel=8 * cases.EPS[dtype])
    np.testing.assert_allclose(
        t.grads, plain_gradient(t, X, Y, weight) + penalty_gradient(t) / total, rtol=1e-12 if dtype == "float64" else 1e-5, atol=1e-7
    )
    assert t.step(X, Y, weight) == loss


def test_the_losses_of_the_outputs_do_not_contain_them(backend):
    t = trainer(backend)
    assert t.step(X, Y) - penalty(network(backend)) / 13 == pytest.approx(t.output_losses[0], rel=1e-13)


@pytest.mark.parametrize("loss", ["mse", own_mse])
def test_check_gradients_knows_them(backend, loss):
    t = trainer(backend, loss=loss)
    assert t.check_gradients(X, Y, WEIGHT).error < 1e-6
    t.penalty_per_row = False
    assert t.check_gradients(X, Y, WEIGHT).error < 1e-6


def test_with_a_loss_of_your_own_they_are_divided_by_the_rows(backend):
    own, named = trainer(backend, loss=own_mse), trainer(backend)
    assert own.backward(X, Y) == pytest.approx(own.evaluate(X, Y), rel=1e-14)
    named.backward(X, Y)
    np.testing.assert_allclose(own.grads, named.grads, rtol=1e-12)


def test_parts_add_up_to_the_batch(backend, dtype):
    t = trainer(backend, dtype)
    whole = t.backward(X, Y, WEIGHT), t.grads.copy()
    found = 0.0
    for first, last in ((0, 1), (1, 6), (6, 6), (6, 13)):  # the first has no row of a weight above 0, the third no row
        part = slice(first, last)
        found += t.backward(X[part], Y[part], WEIGHT[part], accumulate=first > 0, total=WEIGHT.sum(), first_row=max(first - 1, 0))
    assert found == pytest.approx(whole[0], rel=8 * cases.EPS[dtype])
    assert abs(t.grads - whole[1]).max() <= 10 * cases.EPS[dtype] * abs(whole[1]).max()
    assert t._engine._core.get("loss") == pytest.approx(found, rel=1e-6)


def test_frozen_layers_have_none(backend):
    t = trainer(backend)
    t.net.freeze("below")
    expected = L2 / 2 * (t.net.tensors["top.weight"] ** 2).sum() / 13
    assert t.backward(X, Y) - t.evaluate(X, Y) == pytest.approx(expected, rel=1e-12)


def test_a_penalty_that_overflows_is_refused(backend):
    net = bp.mlp([2, 1], dtype="float32", seed=0, backend=backend)
    net.set_layer(l2=1e30)
    net.params[:] = 1e10
    t, before = bp.Trainer(net, "mae", penalty_per_row=True), net.params.copy()
    with pytest.raises(FloatingPointError, match="dense_0"):
        t.step(np.zeros((3, 2)), np.zeros((3, 1)))
    np.testing.assert_array_equal(net.params, before)


# ---- several outputs, each with weights or gaps of its own ----


def two_heads(backend):
    x = bp.Input(4)
    h = bp.Dense(5, "tanh", name="below", l1=L1)(x)
    net = bp.Network(x, [bp.Dense(2, name="top", l2=L2)(h), bp.Dense(1, name="side")(h)], dtype="float64", seed=3, backend=backend)
    return bp.Trainer(net, [bp.Loss("mse", missing=True)] * 2, "sgd(lr=0.05)", loss_weights=[0.5, 2], penalty_per_row=True)


def gappy():
    y, z = Y.copy(), RANDOM.normal(size=(13, 1))
    y[2:5, 0] = y[4, 1] = z[3:9] = np.nan
    return y, z


def test_outputs_with_totals_of_their_own_share_the_penalty(backend):
    t, (y, z) = two_heads(backend), gappy()
    total = WEIGHT @ np.isfinite(y).mean(1), WEIGHT @ np.isfinite(z).mean(1)
    loss = t.step(X, [y, z], WEIGHT)
    first, second = t.output_losses
    expected = penalty(two_heads(backend).net) * (1 / total[0] + 1 / total[1]) / 2
    assert loss - (0.5 * first + 2 * second) == pytest.approx(expected, rel=1e-12)


def test_an_epoch_with_gaps_is_the_same_in_c_in_the_reference_and_batch_by_batch():
    y = list(gappy())
    found = []
    for backend, options in (("compiled", {}), ("reference", {}), ("compiled", {"batch_callback": lambda record: None})):
        t = two_heads(backend)
        history = t.fit(X, y, epochs=2, batch_size=5, shuffle=False, sample_weight=WEIGHT, **options)
        found.append([history["loss"], history["loss_top"], history["loss_side"], t.net.params])
    for other in found[1:]:
        for one, two in zip(found[0], other, strict=True):
            np.testing.assert_allclose(one, two, rtol=1e-12, atol=1e-14)
    assert found[0][0][0] > 0.5 * found[0][1][0] + 2 * found[0][2][0]


# ---- epochs ----


@pytest.mark.parametrize("options", [{}, {"accumulate": 2, "batch_size": 4}, {"batch_callback": lambda record: None}])
def test_a_smaller_last_batch_feels_a_larger_penalty(backend, options):
    """Against NumPy: the gradient of the loss from a trainer without penalties, and theirs by hand."""
    t, by_hand = trainer(backend), trainer(backend)
    expected = []
    for _ in range(2):
        loss = 0.0
        for part in (slice(0, 8), slice(8, 13)):
            rows = len(X[part])
            loss += rows * by_hand.evaluate(X[part], Y[part]) + penalty(by_hand.net)
            gradient = plain_gradient(by_hand, X[part], Y[part]) + penalty_gradient(by_hand) / rows
            by_hand.net.params[:] -= 0.05 * gradient
        expected.append(loss / 13)
    history = t.fit(X, Y, epochs=2, shuffle=False, validation=(X, Y), **{"batch_size": 8} | options)
    np.testing.assert_allclose(history["loss"], expected, rtol=1e-12)
    np.testing.assert_allclose(t.net.params, by_hand.net.params, rtol=1e-11, atol=1e-14)
    assert history["val_loss"][-1] == pytest.approx(t.evaluate(X, Y), rel=1e-13)
    assert t.evaluate(X, Y) == pytest.approx(bp.Trainer(t.net, "mse").evaluate(X, Y), rel=1e-13)


def test_without_penalties_nothing_changes(backend):
    ts = [bp.Trainer(bp.mlp([4, 3, 2], seed=1, backend=backend), "mse", penalty_per_row=per_row) for per_row in (False, True)]
    histories = [t.fit(X, Y, epochs=2, batch_size=4)["loss"] for t in ts]
    assert histories[0] == histories[1]
    assert ts[0].net.params.tobytes() == ts[1].net.params.tobytes()


@pytest.mark.parametrize("l1", [0, 1e-4])
def test_bits_do_not_depend_on_threads(dtype, l1):
    x, y = RANDOM.normal(size=(60, 900)).astype(dtype), RANDOM.integers(10, size=60)

    def train(n_threads):
        net = bp.mlp([900, 1500, 1501, 10], dtype=dtype, seed=1, n_threads=n_threads)
        net.set_layer(l1=l1, l2=0.01)
        t = bp.Trainer(net, "cross_entropy", bp.SGD(0.1), penalty_per_row=True)
        return [t.step(x, y) for _ in range(3)], net.params.tobytes()

    assert train(1) == train(2)


# ---- the setting ----


def test_copies_pickles_and_files_contain_it(backend, tmp_path):
    t = trainer(backend, optimizer=bp.Adam(eps_hat=True))
    t.fit(X, Y, epochs=1, batch_size=4)
    t.save(tmp_path / "t.safetensors")
    twins = [copy.deepcopy(t), pickle.loads(pickle.dumps(t)), bp.Trainer.load(tmp_path / "t.safetensors", backend=backend)]
    losses = t.fit(X, Y, epochs=2, batch_size=4)["loss"]
    for twin in twins:
        assert twin.penalty_per_row is True and twin.optimizer == t.optimizer
        assert twin.fit(X, Y, epochs=2, batch_size=4)["loss"] == losses
    assert "penalty_per_row" in repr(t) and "penalty_per_row" not in repr(trainer(backend, per_row=False))


def test_wrong_values_are_refused(backend):
    t = trainer(backend)
    for value in (2, "yes", None):
        with pytest.raises((TypeError, ValueError), match="penalty_per_row"):
            trainer(backend, per_row=value)
        with pytest.raises((TypeError, ValueError), match="penalty_per_row"):
            t.penalty_per_row = value
    with pytest.raises(ValueError, match=r"penalty_per_row must be in \[0,1\], not 2"):
        t._engine._core.set("penalty_per_row", 2.0)
    assert t.penalty_per_row is True
