"""bp.Ensemble: mean, spread and quantiles of the predictions of its members."""

import copy
import pickle
import threading

import graphs
import numpy as np
import pytest

import microbp as bp

SHAPES = ("chain", "narrow", "heads", "shared", "random_ways", "normal")


def members(shape="chain", **options):
    """Three networks of a shape that differ in activation and parameters; the first output gives probabilities."""
    nets = [graphs.network(shape, activation, seed=i, **options) for i, activation in enumerate(("tanh", "relu", "sigmoid"))]
    for net in nets:
        net.set_output(0, "softmax")
    return nets


def as_lists(predictions):
    return predictions if isinstance(predictions, list) else [predictions]


def mean(arrays):
    total = arrays[0].astype(np.float64)
    for array in arrays[1:]:
        total = total + array
    return (total / len(arrays)).astype(arrays[0].dtype)


def same(found, expected):
    """The same bits, dtypes and shapes, and a list only where a list is expected."""
    assert isinstance(found, list) == isinstance(expected, list)
    for a, b in zip(as_lists(found), as_lists(expected), strict=True):
        assert (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())


@pytest.mark.parametrize("rows", [(7,), (), (2, 3), (0,)], ids=str)
@pytest.mark.parametrize("shape", SHAPES)
def test_predictions_are_those_of_the_members(shape, rows, backend, dtype):
    nets = members(shape, backend=backend, dtype=dtype)
    ensemble = bp.Ensemble(nets)
    random = np.random.default_rng(0)
    xs = [random.normal(size=(*rows, entry.width)) for entry in ensemble.inputs]
    x = xs[0] if len(xs) == 1 else xs
    each = [as_lists(net.predict(x)) for net in nets]
    stacks = [np.stack(arrays) for arrays in zip(*each, strict=True)]
    levels = [0.0, 0.25, 0.9]

    def expected(function):
        found = [np.asarray(function(stack), dtype) for stack in stacks]
        return found if len(found) > 1 else found[0]

    same(ensemble.predict(x), expected(mean))
    same(ensemble.predict_each(x), expected(lambda stack: stack))
    same(ensemble.std(x), expected(lambda stack: np.std(stack.astype(np.float64), axis=0)))
    same(ensemble.quantile(x, levels), expected(lambda stack: np.quantile(stack.astype(np.float64), levels, axis=0)))
    same(ensemble.quantile(x, 0.5), expected(lambda stack: np.quantile(stack.astype(np.float64), 0.5, axis=0)))
    raw = [mean(arrays) for arrays in zip(*(as_lists(net.predict(x, raw=True)) for net in nets), strict=True)]
    same(ensemble.predict(x, raw=True), raw if len(raw) > 1 else raw[0])


@pytest.mark.parametrize("shape", SHAPES)
def test_an_ensemble_of_one_predicts_exactly_as_its_network(shape, backend, dtype):
    net = graphs.network(shape, backend=backend, dtype=dtype)
    ensemble = bp.Ensemble([net])
    x = graphs.rows_of(net, 9)
    same(ensemble.predict(x), net.predict(x))
    same(ensemble.quantile(x, 0.3), net.predict(x))
    assert not any(array.any() for array in as_lists(ensemble.std(x)))


def test_the_mean_keeps_the_sign_of_zero(dtype):
    x = bp.Input(1)
    net = bp.Network(x, x + x, dtype=dtype)
    same(bp.Ensemble([net, net]).predict([[-0.0], [0.0]]), net.predict([[-0.0], [0.0]]))


def test_the_mean_is_that_of_float64_in_the_order_of_the_members():
    nets = [bp.mlp([1, 1], seed=0) for _ in range(3)]
    for net, value in zip(nets, (1e8, 1.0, -1e8), strict=True):
        net.params[:] = [0, value]
    assert bp.Ensemble(nets).predict([0.0]) == np.float32(1 / 3)  # float32 would lose the 1


# ---- votes ----


def voting(probabilities, activation, weights=None):
    """An ensemble whose members predict these probabilities for each row, whatever its only feature is."""
    nets = []
    for one in np.asarray(probabilities, np.float64):
        net = bp.mlp([len(one), one.shape[1]], dtype="float64", seed=0)
        net.set_output(0, activation=activation)
        with np.errstate(divide="ignore"):
            raw = np.log(one) if activation == "softmax" else np.log(one / (1 - one))
        net.tensors["dense_0.weight"][...], net.tensors["dense_0.bias"][...] = raw.T, 0
        nets.append(net)
    return bp.Ensemble(nets, weights), np.eye(len(one))


def test_the_majority_of_classes():
    p = np.random.default_rng(0).dirichlet(np.ones(3), (5, 50))
    weights = [1.0, 2.0, 0.5, 0.0, 3.0]
    for own in (None, weights):
        ensemble, rows = voting(p, "softmax", own)
        for row, label in enumerate(ensemble.majority(rows)):
            votes = [sum(w for w, one in zip(own or [1] * 5, p[:, row]) if one.argmax() == k) for k in range(3)]
            means = [sum(w * one[k] for w, one in zip(own or [1] * 5, p[:, row])) for k in range(3)]
            assert label == max(range(3), key=lambda k: (votes[k], means[k]))


def test_the_majority_of_yes_and_no():
    p = np.random.default_rng(0).uniform(0.05, 0.95, (4, 30, 2))
    ensemble, rows = voting(p, "sigmoid")
    yes = (p > 0.5).sum(axis=0)
    expected = np.where(yes == 2, p.mean(axis=0) > 0.5, yes > 2)
    assert np.array_equal(ensemble.majority(rows), expected) and ensemble.majority(rows).dtype == np.int64
    one, rows = voting(p[:, :, :1], "sigmoid")
    assert np.array_equal(one.majority(rows), expected[:, 0])


def test_nan_does_not_vote():
    ensemble, rows = voting([[[0.9, 0.1]], [[0.4, 0.6]], [[0.3, 0.7]]], "softmax")
    ensemble[1].params[:] = np.nan
    assert ensemble.majority(rows).tolist() == [0]  # a tie, and the first one is surer
    for net in ensemble:
        net.params[:] = np.nan
    assert ensemble.majority(rows).tolist() == [-1]


def test_a_majority_needs_probabilities():
    with pytest.raises(ValueError, match="majority: output 0 has no probabilities: its activation is None, not softmax or sigmoid"):
        bp.Ensemble([bp.mlp([2, 3])]).majority(np.zeros((1, 2)))


# ---- weights ----


@pytest.mark.parametrize("shape", ["chain", "heads"])
@pytest.mark.parametrize("number", range(3))
def test_a_network_that_has_all_the_weight_predicts_alone(shape, number, backend, dtype):
    nets = members(shape, backend=backend, dtype=dtype)
    ensemble = bp.Ensemble(nets, weights=[float(i == number) for i in range(3)])
    x, alone = graphs.rows_of(nets[0], 6), bp.Ensemble([nets[number]])
    same(ensemble.predict(x), alone.predict(x))
    same(ensemble.predict(x, raw=True), alone.predict(x, raw=True))
    same(ensemble.std(x), alone.std(x))
    same(ensemble.quantile(x, [0.0, 0.4, 1.0]), alone.quantile(x, [0.0, 0.4, 1.0]))


@pytest.mark.parametrize("weights", [[1, 1, 1], [0.2, 0.2, 0.2]])
def test_equal_weights_are_those_without_any(weights, dtype):
    nets = members(dtype=dtype)
    plain, weighted, x = bp.Ensemble(nets), bp.Ensemble(nets, weights), graphs.rows_of(nets[0], 6)
    levels = [0.0, 0.1, 0.5, 0.83, 1.0]
    for call in (bp.Ensemble.predict, bp.Ensemble.std, lambda ensemble, x: ensemble.quantile(x, levels)):
        np.testing.assert_allclose(call(weighted, x), call(plain, x), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_network_of_weight_0_does_not_count_even_if_it_predicts_nonsense(value, backend, dtype):
    nets = members(backend=backend, dtype=dtype)
    nets[1].params[:] = value
    ensemble, alone, x = bp.Ensemble(nets, [1, 0, 3]), bp.Ensemble([nets[0], nets[2]], [1, 3]), graphs.rows_of(nets[0], 6)
    same(ensemble.predict(x), alone.predict(x))
    same(ensemble.predict(x, raw=True), alone.predict(x, raw=True))
    same(ensemble.std(x), alone.std(x))
    same(ensemble.quantile(x, [0.0, 0.4, 1.0]), alone.quantile(x, [0.0, 0.4, 1.0]))
    assert len(ensemble.predict_each(x)) == 3 and np.isfinite(ensemble.predict(x)).all()


@pytest.mark.parametrize("unit", [2.0**-1070, 2.0**-900, 2.0**900])
def test_only_the_ratios_of_weights_matter(unit, dtype):
    nets = members(dtype=dtype)
    usual, other, x = bp.Ensemble(nets, [1, 3, 2]), bp.Ensemble(nets, [unit, 3 * unit, 2 * unit]), graphs.rows_of(nets[0], 6)
    for call in (bp.Ensemble.predict, bp.Ensemble.std, lambda ensemble, x: ensemble.quantile(x, [0.1, 0.7])):
        same(call(other, x), call(usual, x))


def test_whole_weights_are_those_of_repeated_networks(dtype):
    """Mean and spread are those of the repeated networks; quantiles lie between the same extremes, and rise."""
    nets, x = members(dtype=dtype), graphs.rows_of(members()[0], 6)
    weighted, repeated = bp.Ensemble(nets, [3, 1, 2]), bp.Ensemble([nets[i] for i in (0, 0, 0, 1, 2, 2)])
    np.testing.assert_allclose(weighted.predict(x), repeated.predict(x), rtol=1e-6)
    np.testing.assert_allclose(weighted.std(x), repeated.std(x), rtol=1e-4)
    same(weighted.quantile(x, 0.0), repeated.quantile(x, 0.0))
    found = weighted.quantile(x, np.linspace(0, 1, 21))
    assert (np.diff(found, axis=0) >= -1e-7).all()
    np.testing.assert_allclose(found[-1], repeated.quantile(x, 1.0), rtol=1e-6)


def test_the_place_of_a_prediction_is_the_weight_below_it_and_half_its_own():
    nets = [bp.mlp([1, 1], seed=0) for _ in range(3)]
    for net, value in zip(nets, (5.0, 1.0, 2.0), strict=True):
        net.params[:] = [0, value]
    ensemble = bp.Ensemble(nets, [1, 2, 4])  # in order: 1, 2, 5 at the places 1, 4, 6.5
    np.testing.assert_allclose(ensemble.quantile([0.0], [0, 3 / 5.5, 1]), [[1], [2], [5]], rtol=1e-6)
    np.testing.assert_allclose(ensemble.quantile([0.0], 1.5 / 5.5), [1.5], rtol=1e-6)
    np.testing.assert_allclose(ensemble.predict([0.0]), [(5 + 2 + 8) / 7], rtol=1e-6)
    np.testing.assert_allclose(
        ensemble.std([0.0]), [np.sqrt(np.average((np.array([5, 1, 2]) - 15 / 7) ** 2, weights=[1, 2, 4]))], rtol=1e-6
    )


def test_weights_are_shown_and_copied():
    ensemble = bp.Ensemble(members(), weights=[0.25, 0.25, 0.5])
    assert repr(ensemble).splitlines()[3].endswith(f"{ensemble[2].backend} backend, weight 0.5")
    for twin in (copy.copy(ensemble), copy.deepcopy(ensemble), pickle.loads(pickle.dumps(ensemble))):
        assert twin.weights == (0.25, 0.25, 0.5)
    with pytest.raises(AttributeError, match="weights is read-only"):
        ensemble.weights = [1, 2, 3]


@pytest.mark.parametrize(
    ("weights", "error", "text"),
    [
        ([1], ValueError, "weights has 1 number for 2 networks; give one for each"),
        ([1, -1], ValueError, "weights must be finite numbers of at least 0, with a finite sum above 0"),
        ([0, 0], ValueError, "with a finite sum above 0"),
        ([1e308, 1e308], ValueError, "with a finite sum above 0"),
        ([1, np.nan], ValueError, "weights must be finite numbers of at least 0"),
        ([1, np.inf], ValueError, "weights must be finite numbers of at least 0"),
        ({0: 1, 1: 2}, TypeError, "weights must be a list of numbers, not {0: 1, 1: 2}"),
        ({1, 2}, TypeError, "weights must be a list of numbers, not {1, 2}"),
        ([1, "a"], TypeError, r"weights\[1\] must be a number, not 'a'"),
        (2, TypeError, "weights must be a list of numbers, not 2"),
        ("ab", TypeError, "weights must be a list of numbers, not 'ab'"),
    ],
)
def test_wrong_weights_are_refused(weights, error, text):
    with pytest.raises(error, match=text):
        bp.Ensemble([NET, NET], weights)


def test_anything_that_a_network_reads_is_read(backend):
    ensemble = bp.Ensemble(members("narrow", backend=backend))
    x = np.random.default_rng(0).integers(0, 5, (4, 33))
    for given in (x.tolist(), x.astype("int8"), x.astype(">f8"), np.asfortranarray(x)):
        same(ensemble.predict(given), ensemble.predict(x))


def test_parts():
    nets = members("heads")
    ensemble = bp.Ensemble(nets)
    assert ensemble.members == tuple(nets) == tuple(ensemble) == ensemble[:]
    assert len(ensemble) == 3 and ensemble[-1] is nets[2]
    assert (ensemble.inputs, ensemble.outputs, ensemble.dtype) == (nets[0].inputs, nets[0].outputs, nets[0].dtype)
    assert bp.Ensemble(net for net in nets).members == ensemble.members
    with pytest.raises(IndexError):
        ensemble[3]
    with pytest.raises(AttributeError, match="Ensemble has no attribute 'note'; did you mean 'notes'"):
        ensemble.note = {}


def test_print_shows_each_member_but_not_hundreds():
    nets = members()
    lines = repr(bp.Ensemble(nets)).splitlines()
    assert lines[0] == "microbp.Ensemble: 3 networks, float32, 5 -> 3"
    assert lines[1:] == [f"[{i}] 3 layers, {len(net.params)} parameters, seed {i}, {net.backend} backend" for i, net in enumerate(nets)]
    assert repr(bp.Ensemble(members("heads"))).splitlines()[0] == "microbp.Ensemble: 3 networks, float32, 3, 2 -> 5, 2, 3"
    long = repr(bp.Ensemble(nets * 100)).splitlines()
    assert len(long) == 22 and long[-1] == "... and 280 more"


@pytest.mark.parametrize("way", [copy.deepcopy, lambda ensemble: pickle.loads(pickle.dumps(ensemble))], ids=["deepcopy", "pickle"])
def test_a_deep_copy_is_independent(way, backend):
    ensemble = bp.Ensemble(members(backend=backend))
    ensemble.notes = {"a": [1, {"b": None}]}
    x = graphs.rows_of(ensemble[0], 5)
    before, twin = ensemble.predict(x), way(ensemble)
    assert twin.notes == ensemble.notes and twin[0].backend == backend
    twin.notes = {}
    for net in ensemble:
        net.params[:] = 0
    same(twin.predict(x), before)
    assert ensemble.notes == {"a": [1, {"b": None}]}


def test_a_shallow_copy_has_the_same_members():
    ensemble = bp.Ensemble(members())
    twin = copy.copy(ensemble)
    twin.notes = {"a": 1}
    assert twin.members == ensemble.members and ensemble.notes == {}


def test_notes_are_those_of_a_network():
    ensemble = bp.Ensemble(members())
    ensemble.notes |= {"a": 1}
    with pytest.raises(TypeError, match="cannot be changed in place"):
        ensemble.notes["b"] = 2
    with pytest.raises(TypeError, match=r"notes\['c'\] must be a dict, list"):
        ensemble.notes = {"c": np.zeros(1)}
    assert ensemble.notes == {"a": 1}


NET = bp.mlp([2, 3], seed=0)
UNLIKE = {
    "dtype": (bp.mlp([2, 3], dtype="float64"), r"nets\[1\] has dtype float64, but nets\[0\] has float32"),
    "inputs": (bp.mlp([4, 3]), r"nets\[1\] has input widths 4, but nets\[0\] has 2"),
    "outputs": (bp.mlp([2, 5]), r"nets\[1\] has output widths 5, but nets\[0\] has 3"),
    "two outputs": (graphs.network("heads"), r"nets\[1\] has input widths \[3, 2\], but nets\[0\] has 2"),
    "activation": (bp.Trainer(bp.mlp([2, 3]), "cross_entropy").net, r"nets\[1\] has output activations softmax, but nets\[0\] has None"),
    "trainer": (bp.Trainer(bp.mlp([2, 3]), "mse"), r"nets\[1\] must be a bp.Network, not Trainer; pass its net"),
    "number": (1, r"nets\[1\] must be a bp.Network, not int"),
}


@pytest.mark.parametrize("name", UNLIKE)
def test_members_that_differ_are_refused(name):
    other, text = UNLIKE[name]
    with pytest.raises((TypeError, ValueError), match=text):
        bp.Ensemble([NET, other])


@pytest.mark.parametrize(
    ("nets", "error", "text"),
    [
        ([], ValueError, "nets is empty"),
        (NET, TypeError, r"not a single one; write bp.Ensemble\(\[net\]\)"),
        (5, TypeError, "nets must be a list of networks, not 5"),
        (None, TypeError, "nets must be a list of networks, not None"),
    ],
)
def test_what_is_no_list_of_networks_is_refused(nets, error, text):
    with pytest.raises(error, match=text):
        bp.Ensemble(nets)


def test_an_activation_that_is_set_later_is_noticed():
    ensemble = bp.Ensemble([bp.mlp([2, 3], seed=0), bp.mlp([2, 3], seed=1)])
    ensemble[1].set_output(0, "softmax")
    for call in (ensemble.predict, ensemble.std, ensemble.predict_each):
        with pytest.raises(ValueError, match=r"nets\[1\] has output activations softmax"):
            call([1.0, 2.0])
    same(ensemble.predict([1.0, 2.0], raw=True), mean([net.predict([1.0, 2.0], raw=True) for net in ensemble]))


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda e: e.predict(np.zeros((2, 3))), ValueError, r"X has shape \(2, 3\); its last axis must have length 2"),
        (lambda e: e.predict(None), TypeError, "X is None"),
        (lambda e: e.predict([0, 0], raw=1), TypeError, "raw must be True or False"),
        (lambda e: e.quantile([0, 0], 1.5), ValueError, r"q must be a number in \[0,1\] or a list of them, not 1.5"),
        (lambda e: e.quantile([0, 0], [0.5, np.nan]), ValueError, r"q must be a number in \[0,1\]"),
        (lambda e: e.quantile([0, 0], []), ValueError, r"q must be a number in \[0,1\] or a list of them, not \[\]"),
        (lambda e: e.quantile([0, 0], [[0.5]]), ValueError, r"q must be a number in \[0,1\]"),
        (lambda e: e.quantile([0, 0], "0.5"), TypeError, "q must contain real numbers"),
    ],
)
def test_wrong_arguments_are_refused(call, error, text):
    with pytest.raises(error, match=text):
        call(bp.Ensemble([NET, NET]))


def test_predictions_beside_a_training_are_those_between_two_steps(backend):
    """Every prediction is the mean of the fixed member and of a state of the other one after a whole step."""
    x = np.random.default_rng(0).normal(size=(16, 3)).astype("float32")
    trainer, fixed = (bp.Trainer(bp.mlp([3, 8, 2], seed=seed, backend=backend), "mse", bp.SGD(lr=0.1)) for seed in (0, 1))
    twin, ensemble = copy.deepcopy(trainer), bp.Ensemble([trainer.net, fixed.net])
    steps, found = 40, []

    def train():
        for _ in range(steps):
            trainer.step(x, x[:, :2])

    thread = threading.Thread(target=train)
    thread.start()
    while thread.is_alive():
        found.append(ensemble.predict(x).tobytes())
    thread.join()
    valid = {bp.Ensemble([twin.net, fixed.net]).predict(x).tobytes()}
    for _ in range(steps):
        twin.step(x, x[:, :2])
        valid.add(bp.Ensemble([twin.net, fixed.net]).predict(x).tobytes())
    assert set(found) <= valid
