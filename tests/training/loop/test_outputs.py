"""Several outputs: the loss of each in calls, records and histories; metrics of one; early stopping by one."""

import copy
import math
import pickle

import cases
import numpy as np
import pytest

import microbp as bp

RNG = np.random.default_rng(7)
X, NEW = RNG.normal(size=(2, 40, 3))
LABELS, NUMBERS = (X[:, 0] > 0).astype(int) + (X[:, 1] > 0), np.sin(X[:, :2])
WEIGHT = RNG.uniform(0.5, 2, 40)
WEIGHT[::9] = 0
Y = [LABELS, NUMBERS]
HELD_OUT = (NEW, [(NEW[:, 0] > 0).astype(int) + (NEW[:, 1] > 0), np.sin(NEW[:, :2])], WEIGHT)
FACTORS = [1.0, 0.3]
NAMED = ["cross_entropy", "mse"]


def own_cross_entropy(outputs, targets, weight):
    share = np.ones(len(outputs)) if weight is None else weight
    share = share / share.sum()
    chances = np.exp(outputs - outputs.max(axis=1, keepdims=True))
    chances /= chances.sum(axis=1, keepdims=True)
    right = np.arange(3) == np.reshape(targets, (-1, 1))
    return float(-(share * np.log(chances[right])).sum()), share[:, None] * (chances - right)


LOSSES = {"named": NAMED, "own": [own_cross_entropy, cases.own_mse]}


def make(backend="compiled", losses="named", names=("policy", None), factors=FACTORS, **more):
    x = bp.Input(3)
    h = bp.Dense(6, activation="tanh")(x)
    heads = [bp.Dense(width, name=name)(h) for width, name in zip((3, 2), names, strict=True)]
    net = bp.Network(x, heads, dtype="float64", seed=1, backend=backend)
    return bp.Trainer(net, LOSSES[losses], bp.Adam(lr=0.03), loss_weights=factors, **more)


def alone(t, i, X, y, weight=None):  # noqa: N803
    """The loss of one output, computed by a trainer of the same network whose other loss weights are 0."""
    factors = [float(k == i) for k in range(len(t.losses))]
    return bp.Trainer(t.net, t.losses, "sgd", loss_weights=factors).evaluate(X, y, weight)


def values(history):
    return {name: numbers for name, numbers in history.items() if name != "seconds"}


# ---- the losses of a call ----


@pytest.mark.parametrize("losses", LOSSES)
def test_the_losses_of_the_outputs_are_those_of_the_call(backend, losses):
    t = make(backend, losses)
    assert all(map(math.isnan, t.output_losses))
    calls = {
        "step": lambda: t.step(X, Y, WEIGHT),
        "backward": lambda: t.backward(X, Y, WEIGHT),
        "evaluate": lambda: t.evaluate(X, Y, WEIGHT),
        "accumulated": lambda: t.backward(X[:9], [LABELS[:9], NUMBERS[:9]], accumulate=True),
    }
    for name, call in calls.items():
        expected = [alone(t, i, X, Y, WEIGHT) for i in range(2)]
        loss = call()
        assert np.dot(FACTORS, t.output_losses) == pytest.approx(loss, rel=1e-14), name
        if name in ("step", "backward", "evaluate"):  # the loss is that before the update
            assert t.output_losses == pytest.approx(expected, rel=1e-14), name
    before = t.output_losses
    with pytest.raises(ValueError, match="same number of rows"):
        t.step(X, [LABELS[1:], NUMBERS])
    with pytest.raises(FloatingPointError), np.errstate(all="ignore"):
        t.step(X * np.inf, Y)
    assert t.output_losses == before, "a call that fails changes nothing"
    t.reset()
    assert all(map(math.isnan, t.output_losses))


def test_an_output_with_the_loss_weight_0_has_no_loss(backend):
    t = make(backend, factors=[0, 2])
    loss = t.step(X, [np.full(40, -5), NUMBERS])
    assert math.isnan(t.output_losses[0]) and t.output_losses[1] == pytest.approx(loss / 2, rel=1e-14)
    history = t.fit(X, [np.full(40, -5), NUMBERS], epochs=2, validation=0.2)
    assert [name for name in history if "loss_" in name] == ["loss_1", "val_loss_1"]


# ---- records and histories ----


def chunks():
    for start in (0, 15, 22):
        rows = slice(start, {0: 15, 15: 22, 22: 40}[start])
        yield X[rows], [LABELS[rows], NUMBERS[rows]], WEIGHT[rows]


WAYS = {
    "in one call": ("named", lambda t, **more: t.fit(X, Y, sample_weight=WEIGHT, shuffle=False, batch_size=8, **more)),
    "update by update": (
        "named",
        lambda t, **more: t.fit(X, Y, sample_weight=WEIGHT, shuffle=False, batch_size=8, batch_callback=lambda record: None, **more),
    ),
    "micro-batches": ("named", lambda t, **more: t.fit(X, Y, sample_weight=WEIGHT, shuffle=False, batch_size=4, accumulate=2, **more)),
    "a stream": ("named", lambda t, **more: t.fit(chunks, shuffle=False, batch_size=8, **more)),
    "own losses": ("own", lambda t, **more: t.fit(X, Y, sample_weight=WEIGHT, shuffle=False, batch_size=8, **more)),
}


@pytest.mark.parametrize("way", WAYS)
def test_every_way_to_fit_has_the_same_losses(backend, way):
    losses, fit = WAYS[way]
    t = make(backend, losses)
    history = fit(t, epochs=3, validation=HELD_OUT)
    names = ["loss", "loss_policy", "loss_1", "lr", "seconds", "val_loss", "val_loss_policy", "val_loss_1"]
    assert list(history) == names
    for part in ("", "val_"):
        joined = FACTORS[0] * np.array(history[f"{part}loss_policy"]) + FACTORS[1] * np.array(history[f"{part}loss_1"])
        np.testing.assert_allclose(joined, history[f"{part}loss"], rtol=1e-13)
    for i, name in enumerate(("policy", "1")):
        assert history[f"val_loss_{name}"][-1] == pytest.approx(alone(t, i, *HELD_OUT), rel=1e-13)
    expected = make("compiled")
    WAYS["in one call"][1](expected, epochs=3, validation=HELD_OUT)
    for name in set(names) - {"seconds"}:
        np.testing.assert_allclose(history[name], expected.history[name], rtol=1e-9, err_msg=name)


def test_records_of_epochs_and_updates_have_the_losses(backend):
    t, of_updates, of_epochs = make(backend), [], []
    t.fit(X, Y, epochs=2, batch_size=16, batch_callback=of_updates.append, callback=of_epochs.append)
    record = next(t.epochs(X, Y))
    assert list(of_updates[0]) == ["epoch", "loss", "loss_policy", "loss_1", "lr", "steps"]
    assert len(of_updates) == 6 and len(of_epochs) == 2
    for one in (*of_updates, *of_epochs, record):
        assert np.dot(FACTORS, [one.loss_policy, one["loss_1"]]) == pytest.approx(one.loss, rel=1e-13)
    assert [len(numbers) for numbers in t.history.values()] == [3] * 5


@pytest.mark.parametrize("losses", LOSSES)
def test_a_trainer_from_a_file_continues_the_history(backend, losses, tmp_path):
    """The names of the outputs are in the file, so the entries are the same."""
    once, path = make(backend, losses), tmp_path / "t.safetensors"
    more = {"validation": HELD_OUT, "metrics": {"policy": "accuracy"}, "patience": 9, "monitor": "val_loss_policy"}
    once.fit(X, Y, epochs=4, **more)
    t = make(backend, losses)
    t.fit(X, Y, epochs=2, checkpoint=path, **more)
    t = bp.Trainer.load(path, backend=backend, loss=None if losses == "named" else LOSSES["own"])
    assert [output.name for output in t.net.outputs] == ["policy", "1"]
    t.fit(X, Y, epochs=2, **more)
    assert values(t.history) == values(once.history)
    for twin in (copy.deepcopy(t), pickle.loads(pickle.dumps(t))):
        assert values(twin.history) == values(t.history) and [o.name for o in twin.net.outputs] == ["policy", "1"]


def test_one_output_has_the_usual_entries(backend):
    x = bp.Input(3)
    t = bp.Trainer(bp.Network(x, bp.Dense(3, name="policy")(x), seed=0, backend=backend), "cross_entropy")
    loss = t.step(X, LABELS)
    assert t.output_losses == [pytest.approx(loss)]
    history = t.fit(X, LABELS, epochs=2, validation=0.2, metrics={"policy": "accuracy"})
    assert list(history) == ["loss", "lr", "seconds", "val_loss", "policy"]
    with pytest.raises(ValueError, match="unknown monitor of early stopping 'val_loss_policy'"):
        t.fit(X, LABELS, epochs=1, validation=0.2, patience=1, monitor="val_loss_policy")


def test_early_stopping_and_schedules_watch_an_output(backend):
    t = make(backend)
    history = t.fit(X, Y, epochs=60, validation=HELD_OUT, patience=3, monitor="val_loss_1", schedule=bp.Constant(0.1))
    best = int(np.argmin(history["val_loss_1"]))
    assert t.finished and t.epoch == best + 1 and len(history["loss"]) == best + 4
    assert alone(t, 1, *HELD_OUT) == history["val_loss_1"][best]
    t = make(backend)
    plateau = bp.ReduceOnPlateau(0.5, patience=0, monitor="accuracy_policy", threshold=0.5)
    history = t.fit(X, Y, epochs=8, metrics={"policy": "accuracy"}, schedule=plateau)
    assert history["lr"][-1] < 0.5 and t.schedule.best <= max(history["accuracy_policy"])
    t.fit(X, Y, epochs=2, validation=0.3, metrics={0: "accuracy"}, patience=2, monitor="val_accuracy_policy")


# ---- metrics of an output ----


def test_metrics_of_an_output_are_those_of_its_rows(backend):
    def bias(y, outputs):
        return float((outputs - y).mean())

    def shapes(ys, outputs):
        return sum(y.size + o.size for y, o in zip(ys, outputs, strict=True))

    t = make(backend)
    metrics = {"policy": ["accuracy", bp.f1], 1: {"error": "rmse", "r2": "r2", "bias": bias}, "shapes": shapes}
    record = {}
    t.fit(X, Y, epochs=2, sample_weight=WEIGHT, metrics=metrics, callback=record.update)
    there = WEIGHT > 0
    chances, numbers = t.predict(X[there])
    weight = WEIGHT[there]
    assert record["accuracy_policy"] == pytest.approx(bp.accuracy(LABELS[there], chances, weight, loss="cross_entropy"))
    assert record["f1_policy"] == pytest.approx(bp.f1(LABELS[there], chances, weight, loss="cross_entropy"))
    assert record["error_1"] == pytest.approx(bp.rmse(NUMBERS[there], numbers, weight))
    assert record["r2_1"] == pytest.approx(bp.r2(NUMBERS[there], numbers, weight))
    assert record["bias_1"] == pytest.approx(bias(NUMBERS[there], numbers))
    assert record["shapes"] == there.sum() * (1 + 3 + 2 + 2)


WRONG_METRICS = {
    "no output chosen": ("accuracy", "metric 'accuracy' works with one output only; choose an output, as in {'policy': 'accuracy'}"),
    "another output": ({"polcy": "accuracy"}, "unknown output in metrics: 'polcy'; did you mean 'policy'\\? valid: policy, 1"),
    "metrics of another output": ({"polcy": ["accuracy"]}, "unknown output in metrics: 'polcy'; did you mean 'policy'"),
    "a function of another output": ({"Policy": bp.accuracy}, "unknown output in metrics: 'Policy'; did you mean 'policy'"),
    "a number that is no output": ({2: "accuracy"}, "unknown output in metrics: 2; valid: policy, 1"),
    "name and output exchanged": ({"accuracy": "policy"}, "unknown output in metrics: 'accuracy'; valid: policy, 1"),
    "no sense": ({1: "accuracy"}, "'accuracy_1' makes no sense for the loss mse"),
    "twice": ({"policy": "accuracy", 0: "accuracy"}, "the name 'accuracy' is already in use"),
    "a loss": ({"policy": {"loss": "accuracy"}}, "the name 'loss' is already in use"),
    "a loss of an output": ({"val_loss_1": lambda y, outputs: 0.0}, "the name 'val_loss_1' is already in use"),
}


@pytest.mark.parametrize("case", WRONG_METRICS)
def test_wrong_metrics_are_refused(case):
    metrics, message = WRONG_METRICS[case]
    t = make()
    with pytest.raises(ValueError, match=message):
        t.fit(X, Y, epochs=1, metrics=metrics)
    assert t.steps == 0 and not t.history


MONITORS = {
    "val_loss_policy": False, "loss_score": False, "val_loss_accuracy": False, "loss_0": False, "log_loss_a": False, "rmse_value": False,
    "accuracy_policy": True, "val_balanced_accuracy_1": True, "top_3_policy": True, "r2_value": True, "auc_my-head": True,
    "mae_score": None, "accuracy_error": None, "f_policy": None, "r2_score": True, "f1_loss": False, "log_loss": False,
}  # fmt: skip


@pytest.mark.parametrize("monitor", MONITORS)
def test_the_name_of_an_entry_shows_whether_higher_is_better(monitor):
    """The first word decides what the loss of an output is, whatever its name; a name with two meanings needs a mode."""
    expected = MONITORS[monitor]
    if expected is None:
        with pytest.raises(ValueError, match="does not show whether lower or higher is better; pass mode"):
            bp.EarlyStopping(3, monitor=monitor)
        return
    schedule = bp.ReduceOnPlateau(0.1, monitor=monitor, best=1.0)
    assert bp.schedules.parse(schedule.text) == schedule
    assert schedule.after({monitor: 2.0}).best == (2.0 if expected else 1.0)


# ---- names ----


def heads(*names):
    x = bp.Input(3)
    return x, [bp.Dense(2, name=name)(x) for name in names]


def activated():
    x, (a, b) = heads("policy", "value")
    return x, [bp.Activation("tanh")(a), bp.Dropout(0.1)(b)]


def shared():
    x = bp.Input(3)
    head = bp.Dense(3, name="head")
    return x, [head(x), head(head(x)), bp.Dense(1, name="other")(x)]


def nodes():
    x, (a, b) = heads("policy", "value")
    return x, [a + b, a, bp.BatchNorm()(b), bp.Scale(name="gain")(b)]


NAMES = {
    "given": (lambda: heads("policy", "value"), ["policy", "value"]),
    "one": (lambda: heads(None, "value"), ["0", "value"]),
    "none": (lambda: heads(None, None), ["0", "1"]),
    "defaults": (lambda: heads("dense_7", "dense_x"), ["0", "dense_x"]),
    "numbers": (lambda: heads("1", "0"), ["0", "1"]),
    "through activations": (activated, ["policy", "value"]),
    "a shared layer": (shared, ["0", "1", "other"]),
    "other nodes": (nodes, ["0", "policy", "2", "gain"]),
}


@pytest.mark.parametrize("case", NAMES)
def test_names_of_outputs(backend, case, tmp_path):
    graph, expected = NAMES[case]
    net = bp.Network(*graph(), seed=0, backend=backend)
    net.save(tmp_path / "net")
    for one in (net, net.copy(), bp.load(tmp_path / "net", backend=backend), pickle.loads(pickle.dumps(net))):
        assert [output.name for output in one.outputs] == expected
