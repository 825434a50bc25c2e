"""Outputs that are scaled to the unit of their targets: net.set_output(mean=, std=), Trainer(standardize_targets=True)."""

import copy
import pickle

import numpy as np
import pytest

import microbp as bp

RNG = np.random.default_rng(7)
X = RNG.normal(size=(40, 3))
Y = np.stack([2e5 + 5e4 * X[:, 0] + 3e4 * X[:, 1] ** 2, 0.01 * X[:, 2]], 1)  # prices, and small numbers
MEAN, STD = (2e5, -0.5), (3e4, 0.25)
LOSSES = ["mse", "half_sse", "mae", "huber", "smooth_l1", "log_cosh", "quantile(q=0.3)"]


def network(backend, outputs=2, **options):
    return bp.mlp([3, 6, outputs], **{"seed": 0, "dtype": "float64", "backend": backend, **options})


def trainer(net, loss="mse", **options):
    return bp.Trainer(net, loss, **{"optimizer": bp.Adam(lr=0.01), **options})


def scale(net, i=0):
    return np.array([net.outputs[i].mean, net.outputs[i].std])


# ---- the network ----


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_predictions_are_in_the_unit(backend, dtype):
    net = network(backend, dtype=dtype)
    raw = net.predict(X, raw=True)
    net.set_output(0, "identity", mean=MEAN, std=STD)
    expected = (raw.astype(np.float64) * STD + MEAN).astype(dtype)
    if backend == "reference":  # which does not round raw outputs first
        np.testing.assert_allclose(net.predict(X), expected, rtol=1e-6)
        expected = net.predict(X)
    assert net.predict(X).tobytes() == expected.tobytes()
    assert net.predict(X[3]).tobytes() == expected[3].tobytes()
    assert net.predict(X, at="output").tobytes() == expected.tobytes()
    assert net.predict(X, raw=True).tobytes() == net.predict(X, at=net.outputs[0].node).tobytes() == raw.tobytes()
    assert (net.outputs[0].mean, net.outputs[0].std, net.outputs[0].activation) == (MEAN, STD, "identity")
    net.set_output(0, "identity")
    assert net.predict(X).tobytes() == raw.tobytes()
    assert net.outputs[0].mean is net.outputs[0].std is None


def test_large_predictions_have_the_same_bits_for_any_number_of_threads(backend):
    rows = np.tile(X, (100 if backend == "compiled" else 1, 1))
    net = network(backend)
    net.set_output(0, "identity", mean=MEAN, std=STD)
    one = [net.predict(row) for row in X[:5]]
    net.n_threads = 2
    assert net.predict(rows)[:5].tobytes() == np.array(one).tobytes()


def test_a_number_is_for_all_columns(backend):
    net = network(backend)
    net.set_output(0, "identity", mean=3, std=0.5)
    assert scale(net).tolist() == [[3, 3], [0.5, 0.5]]


def test_copies_files_pickles_and_parts_keep_them(backend, tmp_path):
    net = network(backend)
    net.set_output(0, "identity", mean=np.array(MEAN) / 3, std=STD)
    net.save(tmp_path / "net.safetensors")
    trainer(net).save(tmp_path / "run.safetensors")
    others = [net.copy(), copy.deepcopy(net), pickle.loads(pickle.dumps(net)), net.part(inputs=[0])]
    others += [bp.load(tmp_path / "net.safetensors", backend=backend), bp.Trainer.load(tmp_path / "run.safetensors", backend=backend).net]
    for other in others:
        assert scale(other).tobytes() == scale(net).tobytes()
        assert other.predict(X).tobytes() == net.predict(X).tobytes()
    others[0].set_output(0, "identity")
    assert net.outputs[0].mean is not None
    assert net.part(outputs="dense_0").outputs[0].mean is None


def test_some_of_several_outputs(backend):
    x = bp.Input(3)
    net = bp.Network(x, [bp.Dense(1)(x), bp.Dense(3)(x), bp.Dense(2)(x)], seed=0, dtype="float64", backend=backend)
    raw = net.predict(X, raw=True)
    for i, mean, std in ((2, (1, 2), (3, 4)), (0, 5, 6), (2, (7, 8), (9, 10))):
        net.set_output(i, "identity", mean=mean, std=std)
    copied = net.copy()
    net.set_output(0, None)
    for other, first in ((copied, raw[0] * 6 + 5), (net, raw[0]), (pickle.loads(pickle.dumps(net)), raw[0])):
        expected = [first, raw[1], raw[2] * [9, 10] + [7, 8]]
        assert [found.tobytes() for found in other.predict(X)] == [one.tobytes() for one in expected]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mean": [1, 2], "std": [1, 0]}, "std of column 1 is 0, but must be finite and above 0"),
        ({"mean": [1, 2], "std": [-1, 1]}, "std of column 0 is -1, but must be finite and above 0"),
        ({"mean": [1, np.inf], "std": [1, 1]}, "mean of column 1 is inf, but must be finite"),
        ({"mean": [1, 2, 3], "std": [1, 1]}, r"mean has shape \(3,\); it must be a number, or have shape \(2,\)"),
        ({"mean": [1, 2]}, "mean and std belong together"),
    ],
)
def test_wrong_numbers_are_refused(backend, arguments, message):
    net = network(backend)
    net.set_output(0, "identity", mean=MEAN, std=STD)
    with pytest.raises(ValueError, match=message):
        net.set_output(0, "identity", **arguments)
    with pytest.raises(ValueError, match="belong together, and to the activation"):
        net.set_output(0, "sigmoid", mean=MEAN, std=STD)
    assert scale(net).tolist() == [list(MEAN), list(STD)]


def test_losses_of_other_targets_are_refused(backend):
    net = network(backend)
    net.set_output(0, "identity", mean=MEAN, std=STD)
    with pytest.raises(ValueError, match="output 0 scales its targets, but the loss hinge needs values in {-1, 1}"):
        trainer(net, "hinge")
    with pytest.raises(ValueError, match="output 0 has the activation identity"):
        trainer(net, "bce")


# ---- training ----


@pytest.mark.parametrize("loss", ["mse", "gaussian_nll", "quantile(q=[0.2 0.8])"])
def test_targets_of_float32_networks_are_rounded_after_they_are_scaled(backend, loss):
    """So a large mean costs no digits."""
    mean, y = 2.0**40, np.arange(40)[:, None] / 64
    scaled, plain = (network(backend, dtype="float32") for _ in range(2))
    scaled.set_output(0, "identity", mean=mean, std=0.25)
    t, twin = trainer(scaled, loss), trainer(plain, loss)
    columns = t.losses[0].target_columns(2)
    y = np.tile(y, (1, columns))
    for given in (mean + y, (mean + y).tolist()):
        assert t.step(X, given) == twin.step(X, y / 0.25)
        assert t.fit(X, given, epochs=1, batch_size=7)["loss"] == twin.fit(X, y / 0.25, epochs=1, batch_size=7)["loss"]
    assert scaled.params.tobytes() == plain.params.tobytes()


@pytest.mark.parametrize("loss", LOSSES)
def test_training_is_that_on_scaled_targets(backend, loss):
    net, twin = network(backend), network(backend)
    t = trainer(net, loss, standardize_targets=True)
    history = t.fit(X, Y, epochs=2, batch_size=8, validation=(X, Y + 1))
    mean, std = scale(net)
    np.testing.assert_allclose([mean, std], [Y.mean(0), Y.std(0)], rtol=1e-12)
    by_hand = trainer(twin, loss).fit(X, (Y - mean) / std, epochs=2, batch_size=8, validation=(X, (Y + 1 - mean) / std))
    for name in ("loss", "val_loss"):
        assert history[name] == by_hand[name]
    assert net.params.tobytes() == twin.params.tobytes()
    assert net.predict(X).tobytes() == (twin.predict(X) * std + mean).tobytes()
    assert t.evaluate(X, Y) == trainer(twin, loss).evaluate(X, (Y - mean) / std)
    assert t.step(X, Y) == trainer(twin, loss).step(X, (Y - mean) / std)


@pytest.mark.parametrize("dtype", ["int32", "float32", "float64"])
def test_the_callers_targets_do_not_change(backend, dtype):
    net, y = network(backend), Y.astype(dtype)
    net.set_output(0, "identity", mean=MEAN, std=STD)
    expected = trainer(network(backend)).evaluate(X, (y - np.array(MEAN)) / STD)
    before = y.copy()
    assert trainer(net).step(X, y) == expected
    assert (y == before).all()


def test_metrics_are_in_the_unit(backend):
    net = network(backend)
    history = trainer(net, standardize_targets=True).fit(X, Y, epochs=2, metrics=["rmse", "r2"])
    assert history["rmse"][-1] == pytest.approx(np.sqrt(np.mean((net.predict(X) - Y) ** 2)))
    assert history["rmse"][-1] > 1000 > 10 > history["loss"][-1]


def test_only_targets_that_are_there_count(backend):
    y, weight = Y.copy(), np.ones(40)
    y[::3, 0] = np.nan
    y[5], weight[5] = 1e9, 0
    net = network(backend)
    trainer(net, bp.Loss("mse", missing=1), standardize_targets=True).fit(X, y, epochs=1, sample_weight=weight)
    there = np.isfinite(y) & (weight > 0)[:, None]
    np.testing.assert_allclose(scale(net), [[f(y[there[:, j], j]) for j in range(2)] for f in (np.mean, np.std)], rtol=1e-12)


def test_validation_rows_do_not_count_and_constant_columns_have_std_1(backend):
    y = np.stack([np.full(40, 0.1), Y[:, 0]], 1)
    net = network(backend)
    trainer(net, standardize_targets=True).fit(X, y, epochs=1, validation=(X, y + 1e6))
    np.testing.assert_allclose(scale(net), [y.mean(0), [1, y[:, 1].std()]], rtol=1e-12)


def test_gaussian_nll_predicts_means_and_log_variances_in_the_unit(backend):
    net, twin = network(backend, 4), network(backend, 4)
    trainer(net, "gaussian_nll", standardize_targets=True).fit(X, Y, epochs=2)
    mean, std = Y.mean(0), Y.std(0)
    np.testing.assert_allclose(scale(net), [[*mean, *(2 * np.log(std))], [*std, 1, 1]], rtol=1e-12)
    trainer(twin, "gaussian_nll").fit(X, (Y - scale(net)[0, :2]) / scale(net)[1, :2], epochs=2)
    assert net.params.tobytes() == twin.params.tobytes()
    np.testing.assert_allclose(np.exp(net.predict(X)[:, 2:]), np.exp(twin.predict(X)[:, 2:]) * std**2, rtol=1e-9)


def test_several_quantiles_have_the_unit_of_their_target(backend):
    net = network(backend, 6)
    trainer(net, "quantile(q=[0.1 0.5 0.9])", standardize_targets=True).fit(X, Y, epochs=1)
    np.testing.assert_allclose(scale(net), [np.tile(Y.mean(0), 3), np.tile(Y.std(0), 3)], rtol=1e-12)


def test_steps_and_later_fits_leave_the_unit_alone(backend):
    net = network(backend)
    t = trainer(net, standardize_targets=True)
    t.step(X, Y)
    assert net.outputs[0].mean is None
    t.fit(X, Y, epochs=1)
    before = scale(net).tobytes()
    t.fit(X, Y * 2, epochs=1)
    trainer(net).fit(X, Y * 3, epochs=1)
    trainer(net, standardize_targets=True).fit(X, Y * 4, epochs=1)
    assert scale(net).tobytes() == before


def test_the_endless_loop_sets_the_unit_too(backend):
    net = network(backend)
    next(iter(trainer(net, standardize_targets=True).epochs(X, Y)))
    np.testing.assert_allclose(scale(net)[0], Y.mean(0), rtol=1e-12)


def test_a_fit_that_fails_before_its_first_update_changes_nothing(backend):
    for wrong in (np.nan, np.inf):
        net, y = network(backend), Y.copy()
        y[0, 1] = wrong
        with pytest.raises(ValueError, match="column 1 of the targets of output 0 contains values that are not finite"):
            trainer(net, standardize_targets=True).fit(X, y, epochs=1)
        assert net.outputs[0].mean is None
    x = X.copy()
    x[0] = np.nan
    with pytest.raises(FloatingPointError):
        trainer(net, standardize_targets=True).fit(x, Y, epochs=1, batch_size=40)
    assert net.outputs[0].mean is None


@pytest.mark.parametrize("factor", [1e-290, 1e-200, 1, 1e200, 1e302])
def test_large_and_small_targets_of_many_rows(backend, factor):
    y = np.tile(Y, (4, 1))[:150] * factor
    net = network(backend)
    trainer(net, standardize_targets=True).fit(np.tile(X, (4, 1))[:150], y, epochs=1)
    largest = np.abs(y).max()
    np.testing.assert_allclose(scale(net), np.array([(y / largest).mean(0), (y / largest).std(0)]) * largest, rtol=1e-14)


def test_numbers_that_float32_cannot_hold_are_refused(backend):
    net = network(backend, dtype="float32")
    for name, value in [("mean", 1e300), ("mean", -1e39), ("std", 1e300), ("std", 1e-50)]:
        sign = " and above 0" if name == "std" else ""
        for width in (1, 2):
            numbers = {"mean": 0.0, "std": 1.0} | {name: [1.0, value][-width:] if width == 2 else value}
            with pytest.raises(ValueError, match=rf"{name} of column {width - 1} is .*, but must be finite{sign} in float32"):
                net.set_output(0, "identity", **numbers)
    with pytest.raises(ValueError, match="standardize_targets: output 0: mean of column 0 is .*, but must be finite in float32"):
        trainer(net, standardize_targets=True).fit(X, Y * 1e39, epochs=1)
    assert net.outputs[0].mean is None
    kind = type(net._core)
    for text in ("mean=(1e39) std=(1)", "mean=(0) std=(1e-60)"):
        graph = f"input 1\ndense 0 units=1\noutput 1 activation=identity {text}\n"
        kind(graph, "float64", 0)
        with pytest.raises(ValueError, match="output 0: .* of column 0 is .* in float32"):
            kind(graph, "float32", 0)


def test_an_activation_that_was_chosen_later_is_refused(backend):
    net = network(backend)
    t = trainer(net, standardize_targets=True)
    net.set_output(0, "sigmoid")
    with pytest.raises(ValueError, match='output 0 has the activation sigmoid, but the loss "mse" needs identity'):
        t.fit(X, Y, epochs=1)
    assert net.outputs[0].activation == "sigmoid"
    assert net.outputs[0].mean is None


def test_a_stream_needs_the_unit_before(backend):
    net = network(backend)
    t = trainer(net, standardize_targets=True)
    with pytest.raises(ValueError, match=r'call net.set_output\(0, "identity", mean=..., std=...\) first'):
        t.fit([(X, Y)], epochs=1)
    net.set_output(0, "identity", mean=Y.mean(0), std=Y.std(0))
    twin = network(backend)
    trainer(twin, standardize_targets=True).fit(X, Y, epochs=1, shuffle=False, batch_size=8)
    t.fit([(X, Y)], epochs=1, shuffle=False, batch_size=8)
    np.testing.assert_allclose(net.params, twin.params, rtol=1e-9)


def test_resumed_trainings_have_the_same_bits(backend, tmp_path):
    def saved_between(fits):
        t = trainer(network(backend), standardize_targets=True)
        for _ in range(fits):
            t.fit(X, Y, epochs=1)
        t.save(tmp_path / "run.safetensors")
        again = [bp.Trainer.load(tmp_path / "run.safetensors", backend=backend), pickle.loads(pickle.dumps(t)), copy.deepcopy(t)]
        for one in [t, *again]:
            one.fit(X, Y, epochs=2)
            yield one.net.params.tobytes() + scale(one.net).tobytes()

    assert len(set(saved_between(0))) == len(set(saved_between(1))) == 1


@pytest.mark.parametrize(
    ("loss", "reason"),
    [
        ("bce", r"the targets of bce \(output 0\) have no unit"),
        ("cross_entropy", "the targets of cross_entropy"),
        ("hinge", "the targets of hinge"),
        ("poisson", "the targets of poisson"),
        (None, "output 0 has no loss"),
        (lambda o, t, w: (0.0, o), "output 0 has a loss of your own"),
    ],
)
def test_losses_without_a_unit_are_refused(backend, loss, reason):
    with pytest.raises(ValueError, match=f"standardize_targets works with mse, .*{reason}"):
        trainer(network(backend), loss, standardize_targets=True)


def test_named_losses_beside_own_ones_see_scaled_targets(backend):
    def own(outputs, targets, weight):
        return float(np.mean(outputs**2)), 2 * outputs / outputs.size

    x = bp.Input(3)
    nets = [bp.Network(x, [bp.Dense(2)(x), bp.Dense(1)(x)], seed=0, dtype="float64", backend=backend) for _ in range(2)]
    t, by_hand = (trainer(net, ["mse", own]) for net in nets)
    t.step(X, [Y, None])  # before the unit is set
    by_hand.step(X, [Y, None])
    nets[0].set_output(0, "identity", mean=MEAN, std=STD)
    assert t.step(X, [Y, None]) == by_hand.step(X, [(Y - MEAN) / STD, None])
    assert nets[0].params.tobytes() == nets[1].params.tobytes()


def test_gradients_agree_with_differences(backend):
    net = network(backend)
    net.set_output(0, "identity", mean=Y.mean(0), std=Y.std(0))
    assert trainer(net).check_gradients(X[:8], Y[:8]).error < 1e-6


def test_an_ensemble_predicts_in_the_unit():
    nets = []
    for seed in range(2):
        nets.append(network("compiled", seed=seed))
        trainer(nets[-1], standardize_targets=True).fit(X, Y, epochs=1)
    np.testing.assert_allclose(bp.Ensemble(nets).predict(X), np.mean([net.predict(X) for net in nets], 0))


def test_prices_are_learnt(backend):
    if backend == "reference":
        pytest.skip("too slow")
    net = network(backend, dtype="float32")
    history = trainer(net, standardize_targets=True).fit(X, Y, epochs=300, batch_size=8, metrics="r2")
    assert history["r2"][-1] > 0.9
    assert trainer(network(backend, dtype="float32")).fit(X, Y, epochs=300, batch_size=8, metrics="r2")["r2"][-1] < 0
