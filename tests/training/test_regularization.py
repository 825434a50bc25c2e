"""Regularization: layer settings, penalties, max_norm, clipping, averages of the weights, label smoothing; both backends."""

import copy
import math
import pickle

import cases
import numpy as np
import pytest
from cases import own_mse

import microbp as bp
from microbp.training.engine.engine import Engine

RANDOM = np.random.default_rng(cases.SEED)
X, Y = RANDOM.normal(size=(12, 4)), RANDOM.normal(size=(12, 2))
WEIGHT = np.linspace(0, 2, 12)
SETTINGS = {"lr": 0.5, "bias_lr": 0.25, "l1": 0.03, "l2": 0.2, "max_norm": 0.9}
LIMITS = {"clip_norm": 0.4, "clip_layer_norm": 0.3, "clip_value": 0.1}


def network(backend, dtype="float64", first=None, seed=3):
    """A layer that is used twice, and a layer on top of it. first: the settings of the layer used twice."""
    x = bp.Input(4)
    layer = bp.Dense(4, "tanh", name="below", **(first or {}))
    return bp.Network(x, bp.Dense(2, name="top")(layer(layer(x))), dtype=dtype, seed=seed, backend=backend)


def trainer(backend, first=None, optimizer="sgd(lr=1)", loss="mse", **options):
    return bp.Trainer(network(backend, first=first), loss, optimizer, **options)


def weights(net):
    """The weight of each layer, (units, inputs)."""
    return {layer.name: net.tensors[f"{layer.name}.weight"] for layer in net.layers}


def parts(net, vector):
    """The part of a flat vector for each layer: weight and bias together."""
    found = {}
    for layer, _, offset, inputs, outputs in net._core.tensors():
        found[layer] = np.append(found.get(layer, []), vector[offset : offset + inputs * outputs])
    return found


def moved(t):
    """The negative change of the parameters in a step."""
    before = t.net.params.copy()
    t.step(X, Y, WEIGHT)
    return before - t.net.params


# ---- everything together ----


@pytest.mark.parametrize("optimizer", ["sgd_momentum(lr=0.2,weight_decay=0.1)", "adam(lr=0.1)"])
@pytest.mark.parametrize("average", [bp.EMA(0.8), bp.SWA(2, 2)])
def test_steps_with_everything_agree_with_the_reference(optimizer, average):
    """8 steps; float64 rounding errors grow at most tenfold in each step."""
    a, b = (trainer(backend, SETTINGS, optimizer, average=average, **LIMITS) for backend in ("compiled", "reference"))
    for _ in range(8):
        assert a.step(X, Y, WEIGHT) == pytest.approx(b.step(X, Y, WEIGHT), rel=1e-8)
    np.testing.assert_allclose(a.net.params, b.net.params, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(a.average_params, b.average_params, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(a.averaged().params, b.averaged().params, rtol=1e-8, atol=1e-10)


def test_bits_do_not_depend_on_threads(dtype):
    random = np.random.default_rng(cases.SEED)
    x, y = random.normal(size=(60, 900)).astype(dtype), random.integers(10, size=60)

    def train(n_threads):
        net = bp.mlp([900, 1500, 1501, 10], dtype=dtype, seed=1, n_threads=n_threads)
        net.set_layer(l1=1e-4, l2=0.01, max_norm=1.2)
        limits = {"clip_norm": 0.5, "clip_layer_norm": 0.4, "clip_value": 0.01}
        t = bp.Trainer(net, bp.Loss("cross_entropy", label_smoothing=0.1), bp.SGD(0.1), average=bp.EMA(0.5), **limits)
        for _ in range(3):
            t.step(x, y)
        return net.params, t.grads, t.average_params

    for one, two in zip(train(1), train(2), strict=True):
        assert one.tobytes() == two.tobytes()


def test_an_epoch_agrees_with_its_steps(backend):
    epoch, steps = (trainer(backend, SETTINGS, average=bp.SWA(1, 2), **LIMITS) for _ in range(2))
    next(epoch.epochs(X, Y, batch_size=5, order=np.arange(12)))
    for first in (0, 5, 10):
        steps.step(X[first : first + 5], Y[first : first + 5])
    np.testing.assert_array_equal(epoch.net.params, steps.net.params)
    np.testing.assert_array_equal(epoch.average_params, steps.average_params)


def test_pickles_and_copies_contain_everything(backend):
    t = trainer(backend, SETTINGS, "adam(lr=0.05)", average=bp.EMA(0.7), **LIMITS)
    t.step(X, Y)
    for other in (pickle.loads(pickle.dumps(t)), copy.deepcopy(t)):
        assert (other.clip_norm, other.clip_layer_norm, other.clip_value) == (0.4, 0.3, 0.1)
        assert other.net.text() == t.net.text() and other.averaging == bp.EMA(0.7)
        np.testing.assert_array_equal(other.average_params, t.average_params)
        again = copy.deepcopy(t)
        for one in (other, again):
            one.step(X, Y)
        np.testing.assert_array_equal(other.average_params, again.average_params)
        np.testing.assert_array_equal(other.net.params, again.net.params)


# ---- layer settings ----


def test_settings_are_shown_saved_and_set_by_name(backend, tmp_path):
    net = network(backend, first=SETTINGS)
    net.save(tmp_path / "net.safetensors")
    for one in (net, net.copy(), bp.load(tmp_path / "net.safetensors", backend=backend)):
        shown = [(layer.lr, layer.bias_lr, layer.l1, layer.l2, layer.max_norm) for layer in one.layers]
        assert shown == [(0.5, 0.25, 0.03, 0.2, 0.9), (1, None, 0, 0, None)]
        assert "lr 0.5, bias lr 0.25, l1 0.03, l2 0.2, max norm 0.9" in str(one)
    net.set_layer("top", l2=1 / 3, lr=2)
    net.set_layer(max_norm=0, bias_lr=0)
    assert [layer.bias_lr for layer in net.layers] == [0, 0]
    assert [(layer.lr, layer.l2, layer.max_norm) for layer in net.layers] == [(0.5, 0.2, None), (2, 1 / 3, None)]
    assert bp.Network._from(type(net._core).read(net._core.write()), backend, {}, None).text() == net.text()


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("value", [-1, math.nan, math.inf, "much"])
def test_a_refused_setting_changes_nothing(backend, name, value):
    net = network(backend, first=SETTINGS)
    before = net.text()
    for call in (lambda: net.set_layer(**{"l1": 0.5, name: value}), lambda: bp.Dense(3, **{name: value})):
        with pytest.raises((ValueError, TypeError), match=name):
            call()
    if not isinstance(value, str):
        with pytest.raises(ValueError, match=name):
            net._core.set_layer("top", name, value)
    with pytest.raises(ValueError, match="did you mean 'below'"):
        net.set_layer("belo", lr=0.1)
    assert net.text() == before


def test_both_backends_read_the_same_settings(backend):
    module = type(network(backend)._core)
    line = "input 2\ndense 0 units=3 {}\noutput 1\n"
    assert " frozen=0 lr=0.5 l1=0.001 l2=0 max_norm=2\n" in module(line.format("max_norm=2 lr=0x1p-1 l1=1e-3")).text()
    assert " frozen=0 lr=1 l1=0 l2=0 max_norm=0\n" in module(line.format("")).text()
    assert " frozen=0 lr=2 l1=0 l2=0 max_norm=0 bias_lr=0\n" in module(line.format("bias_lr=0 lr=2")).text()
    for bad in (
        "bias_lr=-1",
        "bias_lr=inf",
        "bias_lr=",
        "bias_lr=1 bias_lr=2",
        "lr=-1",
        "l2=inf",
        "l1=x",
        "max_norm=nan",
        "lr=1 lr=1",
        "decay=1",
    ):
        with pytest.raises(ValueError, match="line 2"):
            module(line.format(bad))
    with pytest.raises(ValueError, match="already exists"):
        module("input 2\ndense 0 units=2\ndense 1 layer=dense_0 lr=0.5\noutput 2\n")


@pytest.mark.parametrize("optimizer", ["sgd(lr=0.1)", "sgd_momentum(lr=0.1)", "adam(lr=0.1)", "ftrl(lr=0.1)", "lamb(lr=0.1)", "rprop"])
def test_the_lr_of_a_layer_multiplies_that_of_the_optimizer(backend, optimizer):
    usual, still, double = (trainer(backend, {"lr": lr}, optimizer) for lr in (1, 0, 2))
    before = usual.net.copy()
    twice = trainer(backend, None, optimizer)
    twice.lr = 0.2
    for t in (usual, still, double, twice):
        t.step(X, Y)
    for name in ("below.weight", "below.bias"):
        np.testing.assert_array_equal(still.net.tensors[name], before.tensors[name])
        np.testing.assert_array_equal(double.net.tensors[name], twice.net.tensors[name])
    for t in (still, double):
        np.testing.assert_array_equal(t.net.tensors["top.weight"], usual.net.tensors["top.weight"])


# ---- penalties ----


def test_penalties_are_in_the_gradient_and_not_in_the_loss(backend):
    plain, penalized = trainer(backend), trainer(backend, {"l1": 0.03, "l2": 0.2})
    for t in (plain, penalized):
        t.net.tensors["below.weight"][0, :2] = 0, -0.0
    assert penalized.backward(X, Y, WEIGHT) == plain.backward(X, Y, WEIGHT) == penalized.evaluate(X, Y, WEIGHT)
    added = {name: a - b for (name, a), b in zip(tensors(penalized).items(), tensors(plain).values(), strict=True)}
    w = penalized.net.tensors["below.weight"]
    np.testing.assert_allclose(added.pop("below.weight"), 0.03 * np.sign(w) + 0.2 * w, atol=1e-15)
    assert not any(part.any() for part in added.values())


def tensors(t):
    """The gradients by tensor, shaped as the net's."""
    copied = t.net.copy()
    copied.params[:] = t.grads
    return copied.tensors


def test_a_frozen_layer_has_no_penalty(backend):
    t = trainer(backend, {"l1": 0.03, "l2": 0.2, "max_norm": 0.1})
    t.net.freeze("below")
    before = t.net.tensors["below.weight"].copy()
    t.step(X, Y)
    assert not tensors(t)["below.weight"].any()
    np.testing.assert_array_equal(t.net.tensors["below.weight"], before)


@pytest.mark.parametrize("loss", ["mse", own_mse])
def test_check_gradients_includes_penalties(backend, loss, monkeypatch):
    t = trainer(backend, {"l1": 0.03, "l2": 0.2}, loss=loss)
    assert t.check_gradients(X, Y, WEIGHT).error < 1e-6

    right = Engine.backward

    def wrong(self, *arguments, **options):
        loss = right(self, *arguments, **options)
        self.grads[:16] -= 2 * 0.2 * self.net.params[:16]
        return loss

    monkeypatch.setattr(Engine, "backward", wrong)
    assert t.check_gradients(X, Y, WEIGHT).error > 1e-3


def test_parts_of_a_batch_count_the_penalty_once(backend, dtype):
    t = bp.Trainer(network(backend, dtype, {"l1": 0.3, "l2": 2}), "mse")
    t.backward(X, Y, WEIGHT)
    whole = t.grads.copy()
    for first, last in ((0, 5), (5, 9), (9, 12)):
        t.backward(X[first:last], Y[first:last], WEIGHT[first:last], accumulate=first > 0, total=WEIGHT.sum(), first_row=first)
    assert abs(t.grads - whole).max() <= 10 * cases.EPS[dtype] * abs(whole).max()


def test_a_custom_loss_counts_the_penalty_once(backend):
    own, named = (trainer(backend, {"l1": 0.3, "l2": 2}, loss=loss) for loss in (own_mse, "mse"))
    named.backward(X, Y)
    own.backward(X, Y)
    np.testing.assert_allclose(own.grads, named.grads, rtol=1e-12)
    plain = trainer(backend, loss=own_mse)
    plain.backward(X, Y)
    own.backward(X, Y, accumulate=True)
    np.testing.assert_allclose(own.grads, named.grads + plain.grads, rtol=1e-12, atol=1e-15)


def test_a_penalty_that_overflows_is_refused(backend):
    net = bp.mlp([2, 1], dtype="float32", seed=0, backend=backend)
    net.set_layer(l2=1e30)
    net.params[:] = 1e10
    t, before = bp.Trainer(net, "mae"), net.params.copy()
    with pytest.raises(FloatingPointError, match="dense_0"):
        t.step(np.zeros((3, 2)), np.zeros((3, 1)))
    np.testing.assert_array_equal(net.params, before)
    assert t.steps == 0


def test_l2_is_weight_decay_of_one_layer_under_sgd(backend):
    penalty, decay = trainer(backend, optimizer="sgd(lr=0.1)"), trainer(backend, optimizer="sgd(lr=0.1,weight_decay=0.2)")
    penalty.net.set_layer(l2=0.2)
    for _ in range(3):
        assert penalty.step(X, Y) == pytest.approx(decay.step(X, Y), rel=1e-13)
    np.testing.assert_allclose(penalty.net.params, decay.net.params, rtol=1e-12)


# ---- max_norm ----


@pytest.mark.parametrize(("inputs", "units"), [(1, 1), (3, 64), (130, 65), (7, 200)])
def test_max_norm_scales_only_units_above_the_limit(backend, dtype, inputs, units):
    free, limited = (bp.mlp([inputs, units], dtype=dtype, seed=1, backend=backend) for _ in range(2))
    norms = np.linspace(0.5, 1.5, units)
    w = free.tensors["dense_0.weight"]
    w *= (norms / np.linalg.norm(w, axis=1))[:, None]
    limited.params[:] = free.params
    limited.set_layer(max_norm=1)
    for net in (free, limited):
        bp.Trainer(net, "mse", "sgd(lr=0.1)").apply()  # gradients are 0, so only max_norm changes weights
    above = np.linalg.norm(w, axis=1) > 1 + 1e-6
    below = np.linalg.norm(w, axis=1) < 1 - 1e-6
    found = limited.tensors["dense_0.weight"]
    assert above.any() or units == 1
    np.testing.assert_array_equal(found[below], w[below])
    np.testing.assert_allclose(found[above], w[above] / np.linalg.norm(w[above].astype("d"), axis=1)[:, None], rtol=4 * cases.EPS[dtype])


def test_max_norm_does_not_change_biases(backend):
    t = trainer(backend, {"max_norm": 0.1})
    t.net.params[:] = 5
    t.apply()
    np.testing.assert_allclose(np.linalg.norm(t.net.tensors["below.weight"], axis=1), 0.1, rtol=1e-14)
    assert (t.net.tensors["below.bias"] == 5).all() and (t.net.tensors["top.weight"] == 5).all()


# ---- clipping: with sgd and a rate of 1, a step subtracts the gradients that the optimizer gets ----


def clipped_by_hand(net, g, clip_norm=math.inf, clip_layer_norm=math.inf, clip_value=math.inf):
    seen = np.zeros_like(g)
    for layer, _, offset, inputs, outputs in net._core.tensors():
        place = slice(offset, offset + inputs * outputs)
        seen[place] = g[place] * min(1, clip_layer_norm / np.linalg.norm(parts(net, g)[layer]))
    return np.clip(seen * min(1, clip_norm / np.linalg.norm(seen)), -clip_value, clip_value)


@pytest.mark.parametrize(
    "limits", [*({name: limit} for name, limit in LIMITS.items()), LIMITS, {"clip_norm": 0.2, "clip_layer_norm": 0.3}, {"clip_norm": 1e3}]
)
def test_the_optimizer_gets_clipped_gradients(backend, limits):
    free, clipped = trainer(backend), trainer(backend, **limits)
    free.backward(X, Y, WEIGHT)
    seen = moved(clipped)
    np.testing.assert_array_equal(clipped.grads, free.grads)  # not clipped
    np.testing.assert_allclose(seen, clipped_by_hand(free.net, free.grads, **limits), rtol=1e-12, atol=1e-15)
    for name, limit in limits.items():
        assert getattr(clipped, name) == limit


def test_clipped_gradients_have_the_given_norms(backend):
    g = trainer(backend)
    g.backward(X, Y, WEIGHT)
    norm = np.linalg.norm(g.grads)
    assert np.linalg.norm(moved(trainer(backend, clip_norm=norm / 3))) == pytest.approx(norm / 3, rel=1e-12)
    for name, part in parts(g.net, moved(trainer(backend, clip_layer_norm=norm / 9))).items():
        assert np.linalg.norm(part) == pytest.approx(norm / 9, rel=1e-12), name
    assert abs(moved(trainer(backend, clip_value=1e-3))).max() == pytest.approx(1e-3, rel=1e-9)


def test_a_limit_that_is_not_reached_changes_no_bit(backend):
    free, limited = trainer(backend), trainer(backend, clip_norm=1e6, clip_layer_norm=1e6, clip_value=1e6)
    for t in (free, limited):
        t.step(X, Y)
    assert free.net.params.tobytes() == limited.net.params.tobytes()


def test_clipping_includes_penalties_and_ignores_frozen_layers(backend):
    t = trainer(backend, {"l2": 3}, clip_norm=0.01)
    assert np.linalg.norm(moved(t)) == pytest.approx(0.01, rel=1e-10)
    t.net.freeze("below")
    assert np.linalg.norm(moved(t)) == pytest.approx(0.01, rel=1e-10)
    t.clip_norm = None
    assert np.linalg.norm(moved(t)) == pytest.approx(np.linalg.norm(t.grads), rel=1e-10)


def test_limits_can_be_set_at_any_time_and_invalid_ones_are_refused(backend):
    t = trainer(backend, clip_norm=0.5)
    t.step(X, Y)
    assert (t.clip_norm, t.clip_layer_norm, t.clip_value) == (0.5, None, None)
    t.clip_layer_norm = 0.2
    assert t._engine._core.get("clip_layer_norm") == 0.2
    seen = moved(t)
    np.testing.assert_allclose(seen, clipped_by_hand(t.net, t.grads, clip_norm=0.5, clip_layer_norm=0.2), rtol=1e-12, atol=1e-15)
    for name in LIMITS:
        for bad in (0, -1, math.nan):
            with pytest.raises(ValueError, match=rf"{name} must be above 0"):
                setattr(t, name, bad)
            with pytest.raises(ValueError, match=rf"{name} must be in \(0,inf\]"):
                t._engine._core.set(name, bad)
            with pytest.raises(ValueError, match=name):
                trainer(backend, **{name: bad})
    assert (t.clip_norm, t.clip_layer_norm, t.clip_value) == (0.5, 0.2, None)


# ---- averages of the weights ----


def averages(t, steps):
    """The states after each step: parameters, then buffers."""
    states = []
    for _ in range(steps):
        t.step(X, Y)
        states.append(np.append(t.net.params, t.net.buffers))
    return states


def average_of(t):
    """The average of parameters and buffers."""
    np.testing.assert_array_equal(t.averaged().params, t.average_params)
    return np.concatenate([t.average_params, t.averaged().buffers])


CHOSEN = [(0, 1, range(1, 10)), (0, 4, (4, 8)), (3, 1, range(3, 10)), (2, 3, (2, 5, 8))]  # start, every, the updates that count of 9


@pytest.mark.parametrize(("start", "every", "taken"), CHOSEN)
def test_ema_agrees_with_the_formula(backend, start, every, taken, tmp_path):
    """The formula of torch.optim.swa_utils.get_ema_avg_fn; the average starts as a copy."""
    t = trainer(backend, optimizer="sgd(lr=0.3)", average=bp.EMA(0.75, start, every))
    states = averages(t, 9)
    first, *rest = (states[i - 1] for i in taken)
    expected = first
    for state in rest:
        expected = 0.75 * expected + 0.25 * state
    np.testing.assert_allclose(average_of(t), expected, rtol=1e-13)
    t.save(tmp_path / "run")
    assert bp.Trainer.load(tmp_path / "run", backend=backend).averaging == bp.EMA(0.75, start, every)


@pytest.mark.parametrize(("start", "every", "taken"), CHOSEN)
def test_swa_is_the_mean_of_the_chosen_states(backend, start, every, taken):
    t = trainer(backend, optimizer="sgd(lr=0.3)", average=bp.SWA(start, every))
    states = averages(t, 9)
    np.testing.assert_allclose(average_of(t), np.mean([states[i - 1] for i in taken], axis=0), rtol=1e-13, atol=1e-15)
    assert t._engine._core.average_count == len(taken)


def test_an_average_starts_as_a_copy(backend, dtype):
    t = bp.Trainer(network(backend, dtype), "mse", average=bp.SWA(2))
    t.step(X, Y)
    with pytest.raises(ValueError, match=r"SWA\(start=2"):
        t.averaged()
    t.step(X, Y)
    np.testing.assert_array_equal(t.averaged().params, t.net.params)
    assert t.average_params.dtype == t.net.dtype and t.average_params.shape == t.net.params.shape
    kept = t.averaged()
    t.step(X, Y)
    assert not np.shares_memory(kept.params, t.average_params) and (kept.params != t.averaged().params).any()
    assert kept.text() == t.net.text()
    t.reset()
    assert not t.average_params.any() and t._engine._core.average_count == 0


def test_the_average_does_not_affect_training(backend):
    with_one, without = trainer(backend, average=bp.EMA(0.5)), trainer(backend)
    for t in (with_one, without):
        t.step(X, Y)
    assert with_one.net.params.tobytes() == without.net.params.tobytes()
    assert without.average_params is None
    with pytest.raises(ValueError, match="average=bp.EMA"):
        without.averaged()


def test_patience_restores_the_average_of_the_best_epoch(backend):
    t = trainer(backend, optimizer="sgd(lr=0.01)", average=bp.EMA(0.5))
    kept = {}
    t.fit(
        X, Y, epochs=4, validation=(X, Y + 3), patience=2, callback=lambda r: kept.update({r.val_loss: (t.average_params.copy(), t.steps)})
    )
    best, steps = kept[min(kept)]
    np.testing.assert_array_equal(t.average_params, best)
    assert t.steps == steps


def test_invalid_averages_are_refused(backend):
    for make in (lambda: bp.EMA(1.0), lambda: bp.EMA(-0.1), lambda: bp.SWA(-1), lambda: bp.SWA(0, 0), lambda: bp.SWA(every=2**63)):
        with pytest.raises(ValueError, match="EMA|SWA"):
            make()
    with pytest.raises(TypeError, match="whole"):
        bp.SWA(1.5)
    with pytest.raises(TypeError, match=r"bp.EMA\(\)"):
        trainer(backend, average="ema")
    core = trainer(backend, average=bp.EMA(0.5))
    averages(core, 2)
    before = core.average_params.copy()
    for bad in ((1.5, 0, 1), (math.nan, 0, 1), (0.5, -1, 1), (0.5, 0, 0)):
        with pytest.raises(ValueError, match=r"decay must be in|start is -1|every is 0"):
            core._engine._core.set_average(*bad)
    np.testing.assert_array_equal(core.average_params, before)


# ---- label smoothing ----


@pytest.mark.parametrize("share", [0.0, 0.1, 0.75])
@pytest.mark.parametrize("classes", [2, 3, 16, 17, 40])
def test_smoothed_labels_agree_with_smoothed_targets(backend, dtype, share, classes):
    """PyTorch's formula: targets (1 - s) t + s / K."""
    random = np.random.default_rng(cases.SEED)
    x = (3 * random.normal(size=(20, classes))).astype(dtype)
    labels = random.integers(classes, size=20)
    hard = np.eye(classes)[labels]
    net = bp.mlp([classes, classes], dtype=dtype, seed=0, backend=backend)
    explicit = bp.Trainer(net.copy(), "cross_entropy")
    expected = explicit.backward(x, (1 - share) * hard + share / classes)
    for targets in (labels, hard):
        t = bp.Trainer(net.copy(), bp.Loss("cross_entropy", label_smoothing=share))
        assert t.backward(x, targets) == pytest.approx(expected, rel=20 * cases.EPS[dtype])
        np.testing.assert_allclose(t.grads, explicit.grads, rtol=0, atol=20 * cases.EPS[dtype] * abs(x).max())


@pytest.mark.parametrize("share", [0.0, 0.1, 0.75])
def test_smoothed_probabilities_agree_with_smoothed_targets(backend, dtype, share):
    t = np.linspace(0, 1, 24).reshape(12, 2)
    net = network(backend, dtype)
    smoothed, explicit = bp.Trainer(net.copy(), bp.Loss("bce", label_smoothing=share)), bp.Trainer(net.copy(), "bce")
    assert smoothed.backward(X, t) == pytest.approx(explicit.backward(X, (1 - share) * t + share / 2), rel=20 * cases.EPS[dtype])
    np.testing.assert_allclose(smoothed.grads, explicit.grads, rtol=0, atol=20 * cases.EPS[dtype] * abs(X).max())


def test_label_smoothing_outside_its_range_is_refused():
    for share in (-0.1, 1):
        with pytest.raises(ValueError, match="label_smoothing"):
            bp.Loss("bce", label_smoothing=share)
