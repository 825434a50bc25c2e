"""bp.doctor: sick networks, each with its cause first; healthy ones without warnings; nothing changes; the line that mends it does."""

# ruff: noqa: N803, N806  # X, as in the programs that the doctor examines

import json
import pickle
import random
import types
import warnings
from datetime import timedelta
from pathlib import Path

import doctor_patients as patients
import numpy as np
import pytest
from doctor_patients import HEALTHY, SICK

import microbp as bp
from microbp.diagnosis.doctor import OF_ROWS, OF_TRAINING

CHECKS = {check.name: check for check in (*OF_ROWS, *OF_TRAINING)}
LOOKS = ("one class", "own gradient of another loss")  # whose fix prints what to look at


def prepared(sick, seed):
    """The trainer after its bad training, with its rows and its validation rows."""
    trainer, X, y = sick.make(seed)
    if sick.fit:
        trainer.fit(X, y, **sick.fit)
    return trainer, X, y, sick.held(seed) if sick.held else None


# ---- the two tables ----


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("sick", SICK, ids=lambda sick: sick.name)
def test_the_cause_is_first(sick, seed):
    trainer, X, y, held = prepared(sick, seed)
    diagnosis = bp.doctor(trainer, X, y, validation=held)
    first = diagnosis[0]
    assert first.name == sick.cause, str(diagnosis)
    assert first.number > first.threshold == CHECKS[first.name].threshold and first.source and first.where and first.text
    compile(first.fix, "fix", "exec")


@pytest.mark.parametrize("healthy", HEALTHY, ids=lambda healthy: healthy.name)
def test_healthy_networks_get_no_warning(healthy):
    trainer, X, y = healthy.make(0)
    fresh = bp.doctor(trainer, X, y)
    trainer.fit(X, y, validation=0.2, **healthy.fit)
    for diagnosis in (fresh, bp.doctor(trainer, X, y)):
        assert [str(finding) for finding in diagnosis if finding.severity != "note"] == []
        assert {"the time was over; pass a larger max_time", "the loss or a gradient is not finite"}.isdisjoint(
            diagnosis.unchecked.values()
        )
    assert "memorising" in fresh.unchecked and "memorising" in bp.doctor(trainer, X, y).checked


def test_every_check_has_a_sick_network():
    assert {sick.cause for sick in SICK} >= set(CHECKS) - {"updates", "exclusive_classes"}  # tested below
    assert len(SICK) >= 12 and len(HEALTHY) >= 20


def test_the_page_has_the_table_of_checks():
    page = Path(__file__).parents[2] / "docs" / "doctor.md"
    if not page.is_file():
        pytest.skip("the tests are not in a checkout")
    rows = [line.split(" | ") for line in page.read_text("utf-8").splitlines() if line.startswith("| `")]
    assert [(row[0].strip("|` "), row[1], float(row[3])) for row in rows] == [
        (one.name, one.severity, one.threshold) for one in CHECKS.values()
    ]


# ---- the fixes ----


def mended(sick, finding, trainer, X, y, held):
    """What the program of the user has after the fix."""
    names = {"bp": bp, "np": np, "trainer": trainer, "X": X, "y": y, "y_validation": held and held[1]}
    if finding.name == "gradient_check":

        def loss(outputs, targets, weight):
            value, gradient = trainer.losses[0](outputs, targets, weight)
            inside = {"gradient": gradient, "outputs": outputs}
            exec(finding.fix, inside)
            return value, inside["gradient"]

        return bp.Trainer(trainer.net, loss), X, y, held
    exec(finding.fix, names)
    trainer, X = names["trainer"], names["X"]
    loss = trainer.losses[0]
    if "output" in names:
        x = bp.Input(X.shape[1])
        trainer = bp.Trainer(bp.Network(x, names["output"](trainer.net.part(outputs="dense_0")(x)), seed=0), loss)
    elif "net" in names or X.shape[1] != trainer.net.inputs[0].width:
        trainer = bp.Trainer(names.get("net") or bp.mlp([X.shape[1], 16, 3], seed=0), loss)
    return trainer, X, names["y"], held and (held[0], names["y_validation"])


@pytest.mark.parametrize("sick", [sick for sick in SICK if sick.name not in LOOKS], ids=lambda sick: sick.name)
def test_after_the_fix_the_finding_is_gone(sick):
    trainer, X, y, held = prepared(sick, 0)
    finding = bp.doctor(trainer, X, y, validation=held)[0]
    trainer, X, y, held = mended(sick, finding, trainer, X, y, held)
    assert finding.name not in [other.name for other in bp.doctor(trainer, X, y, validation=held)]


def test_the_numbers_are_right():
    X, y = patients.classes(0)
    X[:, 2] = 1000 + 10 * X[:, 2]
    of = {finding.name: finding for finding in bp.doctor(bp.Trainer(bp.mlp([6, 8, 3], seed=0), "cross_entropy"), X, y)}
    scale = of["inputs_scale"]
    assert scale.where == "X[:, 2]" and scale.number == pytest.approx(np.sqrt(np.mean(X[:, 2] ** 2)))
    X, y = patients.numbers(0)
    scale = bp.doctor(bp.Trainer(bp.mlp([5, 8, 1], seed=0), "mse"), X, 100 + y)[0]
    assert (scale.name, scale.where) == ("targets_scale", "y") and scale.number == pytest.approx(np.sqrt(np.mean((100 + y) ** 2)))
    net = patients.last_layer(bp.mlp([5, 8, 1], seed=0), 1000)
    start = bp.doctor(bp.Trainer(net, "mse"), X, y)[0]
    assert start.name == "start_loss" and start.number == pytest.approx(np.mean((net.predict(X)[:, 0] - y) ** 2) / np.mean(y**2), rel=1e-4)


def test_notes():
    X, y = patients.classes(0)
    trainer = bp.Trainer(bp.mlp([6, 16, 3], seed=0), "bce")
    found = bp.doctor(trainer, X, np.eye(3)[y])
    assert [(finding.name, finding.severity) for finding in found] == [("exclusive_classes", "note")]
    names = {"bp": bp, "trainer": trainer}
    exec(found[0].fix, names)
    assert len(bp.doctor(names["trainer"], X, np.eye(3)[y])) == 0


def test_updates_that_are_too_large():
    X, y = patients.numbers(0)
    trainer = bp.Trainer(bp.mlp([5, 16, 1], seed=0), "mse", bp.Lion(lr=1.0))
    found = {finding.name: finding for finding in bp.doctor(trainer, X, y)}
    assert found["updates"].number > 100
    exec(found["updates"].fix, {"trainer": trainer})
    assert "updates" not in {finding.name for finding in bp.doctor(trainer, X, y)}


def test_units_that_large_updates_made_dead_get_a_lower_rate():
    X, y = patients.of_sklearn("digits", raw=True)
    trainer = bp.Trainer(bp.mlp([64, 32, 10], seed=0), "cross_entropy", bp.SGD(lr=0.5))
    trainer.fit(X, y, epochs=20)
    finding = bp.doctor(trainer, X, y)[0]
    assert finding.name == "dead" and "with the initial weights it was" in finding.text
    exec(finding.fix, {"trainer": trainer})
    trainer.fit(X, y, epochs=20)
    assert "dead" not in [other.name for other in bp.doctor(trainer, X, y)] and bp.accuracy(y, trainer.predict(X)) > 0.9


def test_rows_that_are_sorted_but_were_shuffled_are_fine_after_early_stopping():
    X, y = patients._noisy(0)
    order = np.argsort(y, kind="stable")
    trainer = bp.Trainer(bp.mlp([20, 64, 2], seed=0), "cross_entropy", bp.Adam(lr=0.01), seed=0)
    losses = trainer.fit(X[order], y[order], epochs=150, validation=patients._noisy(9), patience=140)["loss"]
    assert losses[trainer.epoch - 1] > 10 * losses[-1]  # the weights are those of an earlier epoch
    diagnosis = bp.doctor(trainer, X[order], y[order])
    assert "sorted_rows" in diagnosis.checked and "sorted_rows" not in [finding.name for finding in diagnosis]


@pytest.mark.parametrize("columns", [1, 3])
@pytest.mark.parametrize(("of_loss", "of_gradient", "by"), [("mean", "sum", "/"), ("sum", "mean", "*"), ("sum", "half", "2")])
def test_the_factor_of_a_gradient_is_right_for_other_numbers_of_rows(columns, of_loss, of_gradient, by):
    def loss(outputs, targets, weight):
        error = outputs - targets
        gradient = {"sum": 2 * error, "mean": 2 * error / error.size, "half": error}[of_gradient]
        inside = {"gradient": gradient, "outputs": outputs}
        exec(fix, inside)
        return float(getattr(error**2, of_loss)()), inside["gradient"]

    X, y = patients.numbers(0)
    fix = ""
    y = np.column_stack([y] * columns)
    trainer = bp.Trainer(bp.mlp([5, 16, columns], seed=0), loss)
    fix = bp.doctor(trainer, X, y)[0].fix
    assert by in fix
    assert trainer.check_gradients(X[:11], y[:11]).error < 1e-6


def test_deep_sigmoids_learn_after_the_fix():
    X, y = patients.classes(0)
    trainer = bp.Trainer(bp.mlp([6, *[16] * 10, 3], "sigmoid", seed=0), "cross_entropy", bp.SGD(lr=0.1))
    names = {"bp": bp, "trainer": trainer}
    exec(bp.doctor(trainer, X, y)[0].fix, names)
    names["trainer"].fit(X, y, epochs=40)
    assert bp.accuracy(y, names["trainer"].predict(X)) > 0.8 > bp.accuracy(y, trainer.predict(X))


@pytest.mark.parametrize(("change", "fix"), [(3.0, "output, loss = bp.Dense(3)"), (0.7, "trainer.net.set_output(0, None); ")])
def test_bce_for_more_than_two_values(change, fix):
    X, y = patients.classes(0)
    finding = bp.doctor(bp.Trainer(bp.mlp([6, 16, 1], seed=0), "bce"), X, change * y)[0]
    assert finding.name == "labels" and finding.fix.startswith(fix)
    names = {"bp": bp, "np": np, "trainer": bp.Trainer(bp.mlp([6, 16, 1], seed=0), "bce"), "y": change * y}
    exec(finding.fix, names)
    assert "loss" not in names or names["y"].tolist() == y.tolist()


@pytest.mark.parametrize(
    ("std", "sizes", "activation", "optimizer", "fix"),
    [
        (0.1, [32] * 8, "sigmoid", bp.SGD(lr=0.1), "trainer = bp.Trainer(bp.mlp("),  # a rate of 2e4 would be needed
        (1e-6, [32], "relu", bp.Adam(lr=0.001), "layer = bp.Dense("),  # 5e-6, because the weights are small
        (None, [32], "relu", bp.SGD(lr=1e-6), "trainer.lr = 0.00"),
    ],
    ids=["vanishing", "small weights", "small rate"],
)
def test_updates_blames_the_rate_only_if_a_range_test_does(std, sizes, activation, optimizer, fix):
    X, y = patients.of_sklearn("wine")
    init = "auto" if std is None else bp.Init("normal", std=std)
    net = bp.mlp([X.shape[1], *sizes, 3], activation=activation, init=init, seed=1)
    found = {finding.name: finding for finding in bp.doctor(bp.Trainer(net, "cross_entropy", optimizer), X, y)}
    assert found["updates"].fix.startswith(fix)


def test_weights_of_zeros_are_not_drawn_as_zeros_again():
    X, y = patients.of_sklearn("wine")
    net = bp.mlp([X.shape[1], 32, 3], init="zeros", seed=1)
    found = {finding.name: finding for finding in bp.doctor(bp.Trainer(net, "cross_entropy"), X, y)}
    assert 'init="auto")  # not zeros' in found["vanishing"].fix


@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_initial_weights_that_would_be_wrong_again_are_named(activation):
    def net(init):
        h = x = bp.Input(6)
        for _ in range(20):
            h = bp.Dense(12, activation=activation, init=init)(h)
        return bp.Network(x, bp.Dense(3)(h), seed=0)

    X, y = patients.classes(0)
    finding = bp.doctor(bp.Trainer(net(bp.Init("normal", std=1)), "cross_entropy"), X, y)[0]
    assert (finding.name, finding.fix) == (
        "exploding",
        f'layer = bp.Dense(12, activation="{activation}", init="auto")  # not normal(std=1)',
    )
    assert "exploding" not in [other.name for other in bp.doctor(bp.Trainer(net("auto"), "cross_entropy"), X, y)]


# ---- nothing changes ----


def state_of(trainer):
    return pickle.dumps(trainer), trainer.net.params.tobytes(), str(trainer.history), random.getstate(), str(np.random.get_state())


class Draws:
    """A loss that counts its calls and draws random numbers."""

    def __init__(self, fails=False):
        self.calls, self.fails = 0, fails

    def __call__(self, outputs, targets, weight):
        self.calls += 1
        np.random.random()
        random.random()
        if self.fails and self.calls > 2:
            raise RuntimeError("no")
        return patients.own_mse(outputs, targets, weight)


@pytest.mark.parametrize("loss", ["mse", Draws()], ids=["mse", "own"])
@pytest.mark.parametrize("epochs", [0, 3])
def test_nothing_changes(backend, loss, epochs):
    X, y = patients.numbers(0, rows=64)
    trainer = bp.Trainer(bp.mlp([5, 4, 1], seed=0, backend=backend), loss, average=bp.EMA(0.9))
    if epochs:
        trainer.fit(X, y.reshape(-1, 1), epochs=epochs, validation=0.2)
    before = state_of(trainer)
    diagnosis = bp.doctor(trainer, X, y.reshape(-1, 1))
    assert state_of(trainer) == before
    assert set(diagnosis.checked) | set(diagnosis.unchecked) == set(CHECKS)


def test_nothing_changes_after_an_error():
    X, y = patients.numbers(0, rows=64)
    trainer = bp.Trainer(bp.mlp([5, 4, 1], seed=0), Draws(fails=True))
    before = state_of(trainer)
    with pytest.raises(RuntimeError, match="no"):
        bp.doctor(trainer, X, y.reshape(-1, 1))
    assert state_of(trainer) == before


@pytest.mark.parametrize("backend", ["reference"])
@pytest.mark.parametrize("name", ["labels 1 to 3, 4 outputs", "all frozen", "negative biases", "large weights, tanh", "tiny inputs"])
def test_the_reference_finds_the_same(backend, name):
    sick = next(sick for sick in SICK if sick.name == name)
    trainer, X, y = sick.make(0)
    net = trainer.net
    twin = bp.Network.__call__(net, x := bp.Input(X.shape[1]))
    trainer = bp.Trainer(bp.Network(x, twin, seed=0, backend=backend), trainer.losses[0])
    assert bp.doctor(trainer, X, y, max_time=5)[0].name == sick.cause


# ---- other inputs ----


def test_sequences_with_lengths_and_sparse_rows():
    random = np.random.default_rng(0)
    x = bp.Sequence(6, 2)
    net = bp.Network(x, bp.Dense(1)(bp.Last()(bp.Recurrent(6, cell="gru")(x))), seed=0)
    X, lengths = random.normal(size=(80, 6, 2)), random.integers(1, 7, size=80)
    X[np.arange(6) >= lengths[:, None]] = np.nan  # positions that are not there
    assert len(bp.doctor(bp.Trainer(net, "mse"), X, X[:, 0].sum(axis=1), lengths=lengths)) == 0
    dense = (random.random((120, 50)) < 0.1) * random.normal(size=(120, 50))
    rows, columns = np.nonzero(dense)
    parts = {"data": dense[rows, columns], "indices": columns, "indptr": np.searchsorted(rows, np.arange(121)), "shape": dense.shape}
    trainer = bp.Trainer(bp.mlp([50, 16, 1], seed=0), "mse")
    y = dense[:, :5].sum(axis=1) + random.normal(size=120)
    assert len(bp.doctor(trainer, types.SimpleNamespace(**parts), y)) == 0
    parts["data"] = 1e6 * parts["data"]
    assert bp.doctor(trainer, types.SimpleNamespace(**parts), y)[0].name == "inputs_scale"


def test_a_single_row_is_enough():
    trainer = bp.Trainer(bp.mlp([2, 1], seed=0), loss="mse")
    trainer.fit([[1.0, 2.0]], [3.0], epochs=2)
    with warnings.catch_warnings(action="error"):
        assert "sorted_rows" in bp.doctor(trainer, [[1.0, 2.0]], [3.0]).checked


def test_several_inputs_and_outputs_are_named():
    a, b = bp.Input(3), bp.Input(2)
    h = bp.Dense(16, activation="relu")(bp.concat([a, b]))
    trainer = bp.Trainer(bp.Network([a, b], [bp.Dense(2)(h), bp.Dense(1)(h)], seed=0), ["cross_entropy", "mse"])
    random = np.random.default_rng(0)
    X, y = [random.normal(size=(100, 3)), 1000 * random.normal(size=(100, 2))], [np.ones(100, int), 500 * random.normal(size=100)]
    found = {finding.name: finding for finding in bp.doctor(trainer, X, y)}
    assert (found["labels"].where, found["targets_scale"].where) == ("y[0]", "y[1]") and found["inputs_scale"].where.startswith("X[1]")
    X[1][3, 0] = np.inf
    assert bp.doctor(trainer, X, y)[0].fix.startswith("keep = np.isfinite(X[1]")


def test_what_scales_itself_is_not_off_scale():
    X, y = patients.classes(0)
    for norm in (bp.Standardize(), bp.BatchNorm()):
        x = bp.Input(6)
        net = bp.Network(x, bp.Dense(3)(bp.Dense(16, activation="relu")(norm(x))), seed=0)
        assert len(bp.doctor(bp.Trainer(net, "cross_entropy"), 1000 * X, y)) == 0
    trainer = bp.Trainer(bp.mlp([5, 16, 1], seed=0), "mse", standardize_targets=True)
    X, y = patients.numbers(0)
    assert len(bp.doctor(trainer, X, 1000 * y)) == 0 and trainer.net.outputs[0].mean is None


def test_frozen_layers_keep_their_values_in_copies():
    X, y = patients.classes(0)
    trainer = bp.Trainer(bp.mlp([6, 16, 3], seed=0), "cross_entropy")
    trainer.fit(X, y, epochs=2)
    trainer.net.tensors["dense_0.weight"][...] *= 1e4
    trainer.net.freeze("dense_0")
    assert "start_loss" in [finding.name for finding in bp.doctor(trainer, X, y)]  # measured with the frozen weights


def test_parameters_that_are_not_finite():
    X, y = patients.classes(0)
    trainer = bp.Trainer(bp.mlp([6, 16, 3], seed=0), "cross_entropy")
    trainer.net.params[3] = np.nan
    diagnosis = bp.doctor(trainer, X, y)
    assert (diagnosis[0].name, diagnosis[0].where) == ("not_finite", "dense_0.weight")
    exec(diagnosis[0].fix, {"trainer": trainer})
    assert len(bp.doctor(trainer, X, y)) == 0


def test_a_gap_is_not_a_fault():
    X, y = patients.numbers(0)
    y[::5] = np.nan
    trainer = bp.Trainer(bp.mlp([5, 16, 1], seed=0), bp.Loss("mse", missing=True))
    assert len(bp.doctor(trainer, X, y)) == 0
    X[3] = np.inf
    weight = np.ones(len(X))
    weight[3] = 0
    assert len(bp.doctor(trainer, X, y, sample_weight=weight)) == 0


# ---- what is printed ----


@pytest.mark.parametrize("sick", SICK, ids=lambda sick: sick.name)
def test_the_text_has_at_most_100_columns_and_json_is_valid(sick):
    trainer, X, y, held = prepared(sick, 0)
    diagnosis = bp.doctor(trainer, X, y, validation=held)
    assert max(map(len, str(diagnosis).splitlines())) <= 100
    found = json.loads(diagnosis.json(), parse_constant=lambda text: pytest.fail(text))
    assert [one["name"] for one in found["findings"]] == [finding.name for finding in diagnosis]
    assert set(found) == {"findings", "checked", "unchecked", "seconds"}


def test_nothing_found_says_what_was_checked():
    trainer, X, y = HEALTHY[6].make(0)
    text = str(bp.doctor(trainer, X, y))
    assert text.startswith("nothing found\nchecked: not_finite, labels, ") and "not checked: memorising: the network has not" in text


def test_a_short_time_leaves_checks_unchecked():
    trainer, X, y = HEALTHY[0].make(0)
    diagnosis = bp.doctor(trainer, X, y, max_time=timedelta(microseconds=1))
    assert len(diagnosis) == len(diagnosis.checked) == 0
    assert set(diagnosis.unchecked.values()) == {"the time was over; pass a larger max_time"} and set(diagnosis.unchecked) == set(CHECKS)


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        ({"trainer": bp.mlp([5, 1])}, TypeError, "the first argument must be a bp.Trainer, not Network"),
        ({"X": np.ones((4, 3))}, ValueError, r"X has shape \(4, 3\)"),
        ({"y": np.ones(3)}, ValueError, "same number of rows"),
        ({"y": None}, TypeError, "y is None"),
        ({"max_time": 0}, ValueError, "max_time"),
        ({"max_time": "1"}, TypeError, "max_time"),
        ({"validation": 0.2}, TypeError, r"validation must be \(X, y\)"),
        ({"validation": (np.ones((4, 3)), np.ones(4))}, ValueError, "X has shape"),
        ({"sample_weight": np.ones(3)}, ValueError, "sample_weight"),
        ({"trainer": bp.Trainer(bp.mlp([5, 1]), None)}, ValueError, "has no loss"),
    ],
)
def test_bad_input_is_refused(change, error, text):
    X, y = patients.numbers(0)
    given = {"trainer": bp.Trainer(bp.mlp([5, 1], seed=0), "mse"), "X": X, "y": y} | change
    with pytest.raises(error, match=text):
        bp.doctor(given.pop("trainer"), given.pop("X"), given.pop("y"), **given)
