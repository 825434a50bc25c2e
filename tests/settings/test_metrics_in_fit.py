"""Metrics of fit: names follow the rule of the loss and the weights; functions get what bp.Metric says."""

import re

import numpy as np
import pytest

import microbp as bp
from microbp.settings import metrics

X = np.random.default_rng(2).normal(size=(24, 3))
FITTING = {
    "cross_entropy": ["accuracy", "subset_accuracy", "balanced_accuracy", "f1", "auc", "log_loss", "brier", "top_2"],
    "bce": ["accuracy", "subset_accuracy", "balanced_accuracy", "f1", "auc", "log_loss", "brier", "rmse", "mae", "r2", "pinball"],
    "hinge": ["accuracy", "subset_accuracy", "balanced_accuracy", "f1", "auc"],
    **{loss: ["rmse", "mae", "r2", "pinball"] for loss in ("mse", "half_sse", "mae", "huber", "quantile(q=0.9)", "poisson")},
}
EVERY = [*metrics.NAMED, "top_2"]


@pytest.fixture
def sk():
    return pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed")


def trainer(backend, loss, outputs, dtype="float64"):
    return bp.Trainer(bp.mlp([3, 4, outputs], seed=0, dtype=dtype, backend=backend), loss)


def fit(backend, loss, outputs, y, chosen, **options):
    t = trainer(backend, loss, outputs)
    return t, X, t.fit(X[: len(y)], y, epochs=1, metrics=chosen, **options)


def targets(loss, columns):
    rng = np.random.default_rng(7)
    if loss == "cross_entropy":
        return rng.permutation(24) % columns
    zero_one = rng.permuted(np.tile(np.arange(24)[:, None] % 2, columns), axis=0).astype(float)
    return {"bce": zero_one, "hinge": 2 * zero_one - 1}.get(loss, zero_one + rng.integers(0, 3, (24, columns)))


# ---- names ----


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("columns", [1, 3])
@pytest.mark.parametrize("loss", FITTING)
def test_a_name_means_the_function_with_the_loss_and_the_weights(backend, loss, columns, weighted):
    if (loss, columns) == ("cross_entropy", 1):
        columns = 2
    y = targets(loss, columns)
    weight = np.arange(24.0) % 5 if weighted else None
    t, x, history = fit(backend, loss, columns, y, FITTING[loss], sample_weight=weight)
    outputs = t.predict(x)
    for name in FITTING[loss]:
        function = bp.top_k(2) if name == "top_2" else getattr(bp, name)
        assert history[name] == [pytest.approx(function(y, outputs, weight, loss), rel=1e-9)], name
    if loss in ("cross_entropy", "bce"):
        assert history["log_loss"] == [pytest.approx(t.evaluate(x, y, weight), rel=1e-9)]
    if loss == "quantile(q=0.9)":
        assert history["pinball"] == [pytest.approx(t.evaluate(x, y, weight), rel=1e-9)]


@pytest.mark.parametrize("loss", FITTING)
@pytest.mark.parametrize("name", EVERY)
def test_a_name_that_makes_no_sense_for_the_loss_is_refused_before_training(backend, loss, name):
    columns = 3 if loss == "cross_entropy" else 1
    t, y = trainer(backend, loss, columns), targets(loss, columns)
    if name in FITTING[loss]:
        t.fit(X, y, epochs=1, metrics=name)
        return
    before = t.net.params.copy()
    for chosen in (name, [name], {"mine": name}):
        entry, fitting = "mine" if isinstance(chosen, dict) else name, ", ".join(FITTING[loss]).replace("top_2", "top_3")
        text = f"metrics: {entry!r} makes no sense for the loss {loss}; choose among {fitting}, or pass a function"
        with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
            t.fit(X, y, epochs=1, metrics=chosen)
    assert (t.steps, t.history) == (0, {})
    np.testing.assert_array_equal(t.net.params, before)


@pytest.mark.parametrize("name", EVERY)
def test_several_quantiles_need_a_function(backend, name):
    t = trainer(backend, "quantile(q=[0.1 0.5 0.9])", 3)
    y = np.linspace(0, 1, len(X))
    reason = "makes no sense for the loss quantile(q=[0.1 0.5 0.9]), which predicts several numbers for each target"
    text = f"metrics: {name!r} {reason}; pass a function f(y, outputs)"
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        t.fit(X, y, epochs=1, metrics=name)
    assert (t.steps, t.history) == (0, {})
    history = t.fit(X, y, epochs=1, metrics={"median": lambda y, outputs: bp.rmse(y[:, 0], outputs[:, 1])})
    assert history["median"] == [pytest.approx(bp.rmse(y, t.predict(X)[:, 1]))]


def constant(loss, value, rows, columns=1, dtype="float64"):
    """A trainer of a net that gives `value` for each row, and that does not learn."""
    t = bp.Trainer(bp.mlp([1, columns], seed=0, dtype=dtype), loss, bp.SGD(lr=0.0))
    t.net.params[...] = 0
    t.net.tensors["dense_0.bias"][...] = value
    return t, np.zeros((rows, 1))


def test_the_rule_of_the_loss_decides_and_not_the_targets_at_hand():
    t, x = constant("hinge", 0.3, 3)
    assert t.fit(x, np.ones(3), epochs=1, metrics="accuracy")["accuracy"] == [1]
    t, x = constant("bce", 0.3, 3)
    assert t.fit(x, np.ones(3), epochs=1, metrics=["accuracy", bp.balanced_accuracy])["balanced_accuracy"] == [1]
    t, x = constant("bce", 1e-12, 4, dtype="float32")  # its probability rounds to 0.5
    assert t.predict(x)[0, 0] == np.float32(0.5)
    assert t.fit(x, np.ones(4), epochs=1, metrics="accuracy")["accuracy"] == [1]
    t, x = constant("bce", [0.3, 0.2, -0.4], 4, columns=3)  # argmax would say class 0
    history = t.fit(x, np.tile([1, 1, 0], (4, 1)), epochs=1, metrics=["accuracy", "subset_accuracy"])
    assert history["accuracy"] == history["subset_accuracy"] == [1]
    t, x = constant("bce", [0.3, 0.2, -0.4], 4, columns=3)  # although each row of the targets sums to 1
    assert t.fit(x, np.tile([1, 0, 0], (4, 1)), epochs=1, metrics="accuracy")["accuracy"] == [pytest.approx(2 / 3)]


def test_an_order_that_probabilities_lose_counts():
    t = bp.Trainer(bp.mlp([1, 1], seed=0, dtype="float32"), "bce", bp.SGD(lr=0.0))
    t.net.params[...] = [1, 0]
    x = np.array([[20.0], [30], [40], [50]])
    assert len(np.unique(t.predict(x))) < 4
    assert t.fit(x, [0, 0, 1, 1], epochs=1, metrics="auc")["auc"] == [1]


def test_the_output_activation_of_the_net_does_not_change_the_rule(backend):
    y = targets("bce", 1)
    t = trainer(backend, "bce", 1)
    before = t.fit(X, y, epochs=1, metrics=["accuracy", "log_loss", "brier"])
    t = trainer(backend, "bce", 1)
    t.net.set_output(0, None)
    assert t.fit(X, y, epochs=1, metrics=["accuracy", "log_loss", "brier"])["brier"] == before["brier"]


# ---- weights ----


def test_rows_of_weight_0_are_not_counted():
    """49 of 100 validation rows weigh 0 and are wrong."""
    t, x = constant("bce", 2.0, 100)
    y, weight = np.r_[np.zeros(49), np.ones(51)], np.r_[np.zeros(49), np.ones(51)]
    seen = []

    def own(y, outputs, sample_weight=None):
        seen.append((len(y), len(outputs), sample_weight.tolist()))
        return 0

    def unweighted(y, outputs):
        return len(y)

    for options in ({"validation": (x, y, weight)}, {"sample_weight": weight}):
        history = t.fit(x, y, epochs=1, metrics=["accuracy", "auc", own, unweighted], **options)
        assert (history["accuracy"][-1], history["unweighted"][-1]) == (1, 51)
        assert np.isnan(history["auc"][-1])
        assert seen[-1] == (51, 51, [1] * 51)


def test_fractions_of_validation_keep_their_weights(backend):
    y, weight = targets("bce", 1), np.random.default_rng(3).uniform(size=24)
    kept = []
    _, _, history = fit(
        backend, "bce", 1, y, ["accuracy", lambda y, outputs, sample_weight: kept.append((y, outputs, sample_weight)) or 0],
        validation=0.5, sample_weight=weight,
    )  # fmt: skip
    ((y, outputs, part),) = kept
    assert len(part) == 12 and set(part) <= set(weight)
    assert history["accuracy"] == [bp.accuracy(y, outputs, part, "bce")]


def test_class_weight_does_not_weigh_metrics():
    """They are weighted as `evaluate` is."""
    y = np.arange(24) % 4 == 0
    histories = [fit("compiled", "bce", 1, y, "accuracy", class_weight=weight)[2]["accuracy"] for weight in (None, {1: 1 + 1e-9})]
    assert histories[0] == histories[1]
    t, x, history = fit("compiled", "bce", 1, y, ["accuracy", "log_loss"], class_weight="balanced")
    assert history["log_loss"] == [pytest.approx(t.evaluate(x, y), rel=1e-9)]


def test_early_stopping_follows_the_weighted_metric():
    """Of two validation rows, only the one of weight 1 counts: its accuracy is 1 from the first epoch on."""
    t, x = constant("bce", 1.0, 2)
    t.fit(x, [1, 1], epochs=9, validation=(x, [1, 0], [1, 0]), metrics="accuracy", monitor="accuracy", patience=2)
    assert t.history["accuracy"] == [1, 1, 1]


# ---- functions ----


def test_functions_of_scikit_learn_are_weighted(backend, sk):
    labels, weight = np.arange(24) % 4, np.arange(24.0) % 7
    chosen = ["accuracy", "top_2", bp.top_k(3), "log_loss", sk.top_k_accuracy_score, bp.Metric(sk.accuracy_score, on="labels")]
    t, x, history = fit(backend, "cross_entropy", 4, labels, chosen, sample_weight=weight)
    assert history["top_2"] == history["top_k_accuracy_score"] == [bp.top_k(2)(labels, t.predict(x), weight)]
    assert history["accuracy"] == pytest.approx(history["accuracy_score"], rel=1e-12)
    theirs = fit(backend, "cross_entropy", 4, labels, sk.log_loss, sample_weight=weight)[2]["log_loss"]
    assert theirs == pytest.approx(history["log_loss"], rel=1e-12)


def test_metrics_of_a_column_may_be_names_and_functions_of_scikit_learn(backend, sk):
    chosen = ["accuracy", "log_loss", "r2", sk.roc_auc_score, sk.r2_score, sk.mean_absolute_error, "mae", "auc", "f1"]
    chosen += [bp.Metric(sk.f1_score, on="labels"), bp.Metric(sk.matthews_corrcoef, on="labels", name="mcc")]
    t, x, history = fit(backend, "bce", 1, np.arange(24) % 2, chosen)
    assert history["log_loss"][0] == pytest.approx(t.evaluate(x, np.arange(24) % 2), rel=1e-12)
    pairs = (("r2", "r2_score"), ("mae", "mean_absolute_error"), ("auc", "roc_auc_score"), ("f1", "f1_score"))
    for mine, theirs in pairs:
        assert history[mine] == pytest.approx(history[theirs], rel=1e-12)
    assert -1 <= history["mcc"][0] <= 1


@pytest.mark.parametrize("columns", [1, 3])
@pytest.mark.parametrize("loss", ["cross_entropy", "probabilities", "bce", "hinge"])
def test_on_chooses_what_a_function_gets(backend, loss, columns):
    name = "cross_entropy" if loss == "probabilities" else loss
    columns = max(columns, 2) if name == "cross_entropy" else columns
    y = targets(name, columns)
    given = np.eye(columns)[y] if loss == "probabilities" else y
    got = {}

    def keep(on):
        return bp.Metric(lambda *pair: got.update({on: pair}) or 0, on=on, name=on)

    t, x, _ = fit(backend, name, columns, given, [keep(on) for on in ("labels", "predictions", "raw")])
    raw = t.predict(x, raw=True)
    np.testing.assert_array_equal(got["predictions"][1], t.predict(x))
    np.testing.assert_array_equal(got["raw"][1], raw)
    for on in ("predictions", "raw"):
        np.testing.assert_array_equal(got[on][0].reshape(given.shape), given)
    if name == "cross_entropy":
        right = y, raw.argmax(axis=1)
    else:
        low = -1 if name == "hinge" else 0
        right = y, np.where(raw > 0, 1, low)
        right = tuple(part[:, 0] if columns == 1 else part for part in right)
    for labels, expected in zip(got["labels"], right, strict=True):
        assert labels.shape == expected.shape and labels.dtype.kind == "i"
        np.testing.assert_array_equal(labels, expected)


def test_a_label_of_nan_is_none_of_the_labels():
    net = bp.mlp([1, 2], seed=0, dtype="float64")
    got = []
    for loss, y, wrong in (("bce", [[0, 1]], -1), ("hinge", [[-1, 1]], 0), ("cross_entropy", [1], -1)):
        t = bp.Trainer(net.copy(), loss, bp.SGD(lr=0.0))
        metric = bp.Metric(lambda y, labels: got.append(labels) or 0, on="labels", name="m")
        t.fit(np.ones((2, 1)), np.repeat(y, 2, axis=0), epochs=1, validation=([[np.nan]], y), metrics=[metric, "accuracy"])
        assert np.all(got[-1] == wrong)
        assert t.history["accuracy"] == [0]
        net.set_output(0, None)


@pytest.mark.parametrize("loss", ["mse", "poisson", "quantile"])
def test_labels_need_a_loss_that_has_them(backend, loss):
    t = trainer(backend, loss, 1)
    with pytest.raises(ValueError, match=f'\'m\' is on="labels", which the loss {loss} does not have; use on="predictions"'):
        t.fit(X, np.ones(24), epochs=1, metrics=bp.Metric(lambda y, labels: 0, on="labels", name="m"))
    assert t.steps == 0


def test_functions_of_several_outputs_get_lists(backend):
    a = bp.Input(3)
    net = bp.Network(a, [bp.Dense(1)(a), bp.Dense(3)(a)], seed=0, dtype="float64", backend=backend)
    t = bp.Trainer(net, ["bce", "cross_entropy"])
    y, weight = [np.arange(24) % 2, np.arange(24) % 3], np.arange(24.0)

    def both(targets, outputs, sample_weight):
        assert len(targets) == len(outputs) == 2 and len(sample_weight) == 23
        return np.average(targets[0].reshape(-1) == outputs[0].reshape(-1), weights=sample_weight)

    history = t.fit(X, y, epochs=1, sample_weight=weight, metrics=[bp.Metric(both, on="labels"), bp.Metric(both, name="exact")])
    assert history["both"] == [pytest.approx(bp.accuracy(y[0], t.predict(X)[0], weight, "bce"))]
    for name in ("accuracy", bp.accuracy):
        with pytest.raises(ValueError, match="metric 'accuracy' works with one output only; choose an output, as in {'0': 'accuracy'}"):
            t.fit(X, y, epochs=1, metrics=name)


@pytest.mark.parametrize("name", metrics.NAMED)
def test_for_a_loss_of_your_own_names_are_the_functions(backend, name):
    def loss(outputs, targets, weight):
        return 0.0, np.zeros_like(outputs)

    t = trainer(backend, loss, 1)
    t.net.set_output(0, "sigmoid")
    y = np.arange(24) % 2
    history = t.fit(X, y, epochs=1, metrics=[name, bp.Metric(lambda y, labels: labels.mean(), on="labels", name="ones")])
    assert history[name] == [getattr(bp, name)(y, t.predict(X))]
    assert history["ones"] == [(t.predict(X) > 0.5).mean()]


def test_our_functions_are_the_metrics_of_their_names():
    """Where these make sense; else they are functions like any other."""
    t, x = constant("hinge", 0.3, 3)
    assert t.fit(x, np.ones(3), epochs=1, metrics=[bp.accuracy, bp.rmse])["accuracy"] == [1]
    assert t.history["rmse"] == [pytest.approx(0.7)]


def test_a_function_without_a_signature_works():
    class Sum:
        __signature__ = "unknown"

        def __call__(self, y, outputs):
            return y.sum()

    t, x = constant("mse", 0.5, 2)
    assert t.fit(x, [1.0, 2.0], epochs=1, sample_weight=[2.0, 0.0], metrics=Sum())["Sum"] == [1]


def test_a_dict_names_the_entries(backend):
    def own(y, outputs):
        return 3

    y = np.arange(24) % 2
    history = fit(backend, "bce", 1, y, {"acc": "accuracy", "mine": own, "ones": bp.Metric(own, name="unused")})[2]
    assert (history["mine"], history["ones"]) == ([3], [3]) and "accuracy" not in history
    assert history["acc"] == fit(backend, "bce", 1, y, "accuracy")[2]["accuracy"]


def test_outputs_are_computed_at_most_once_per_epoch(monkeypatch):
    calls = []
    predict = bp.Network.predict
    monkeypatch.setattr(bp.Network, "predict", lambda net, x, lengths, **raw: calls.append(raw) or predict(net, x, lengths=lengths, **raw))
    names, own = ["accuracy", "top_2", "log_loss"], lambda y, outputs: 0
    for chosen, expected in ((names, [{"raw": True}]), (own, [{}]), ([*names, own], [{"raw": True}, {}])):
        fit("compiled", "cross_entropy", 3, np.arange(24) % 3, chosen)
        assert calls == expected
        calls.clear()
    fit("compiled", "mse", 1, X[:, 0], ["rmse", own, bp.Metric(own, on="raw", name="raw")])
    assert calls == [{}]


WRONG = [
    ("top_0", ValueError, "k must be"),
    ("top_x", ValueError, "did you mean 'top_3'"),
    ("logloss", ValueError, "'log_loss'"),
    ("acc", ValueError, "unknown metric 'acc'; did you mean 'accuracy'"),
    ({"loss": "accuracy"}, ValueError, "the name 'loss' is already in use"),
    ({3: "accuracy"}, TypeError, "the keys must be names, not 3"),
    ({"a": 3}, TypeError, "a metric is a name or a function"),
    (["accuracy", bp.accuracy], ValueError, "the name 'accuracy' is already in use; choose another with metrics={'other': metric}"),
    ([bp.Metric(np.sum, name="steps")], ValueError, "the name 'steps' is already in use"),
]


@pytest.mark.parametrize(("chosen", "error", "words"), WRONG)
def test_wrong_metrics_are_refused(backend, chosen, error, words):
    with pytest.raises(error, match=words):
        fit(backend, "cross_entropy", 3, np.arange(24) % 3, chosen)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        (("accuracy",), TypeError, r"Metric: function must be a function f\(targets, outputs\), not 'accuracy'"),
        ((bp.Metric,), TypeError, "Metric: function must be a function .*, not the class Metric"),
        ((np.sum, "label"), ValueError, "Metric: on is 'label'; it must be one of 'predictions', 'labels', 'raw'"),
        ((np.sum, "raw", 3), TypeError, "Metric: name must be a string, not 3"),
    ],
)
def test_wrong_settings_of_a_metric_are_refused(arguments, error, words):
    with pytest.raises(error, match=words):
        bp.Metric(*arguments)


# ---- monitors ----


@pytest.mark.parametrize("monitor", ["accuracy", "val_accuracy"])
def test_val_accuracy_is_the_accuracy_on_the_validation_rows(backend, monitor):
    y, stops = targets("bce", 1), []
    ways = ({"patience": 3, "monitor": monitor}, {"stop": bp.EarlyStopping(3, monitor)})
    ways += ({"schedule": bp.ReduceOnPlateau(0.1, patience=1, monitor=monitor)},)
    for options in ways:
        t = trainer(backend, "bce", 1)
        record = []
        history = t.fit(X, y, epochs=12, validation=0.5, metrics="accuracy", callback=record.append, **options)
        stops.append((len(history["loss"]), history["lr"]))
        assert {"accuracy", "val_loss"} < set(history) and "val_accuracy" not in history
        assert record[-1]["val_accuracy"] == record[-1].val_accuracy == record[-1]["accuracy"]
    right = {"patience": 3, "monitor": "accuracy"}
    t = trainer(backend, "bce", 1)
    assert len(t.fit(X, y, epochs=12, validation=0.5, metrics="accuracy", **right)["loss"]) == stops[0][0] == stops[1][0]
    t = trainer(backend, "bce", 1)
    schedule = bp.ReduceOnPlateau(0.1, patience=1, monitor="accuracy")
    assert t.fit(X, y, epochs=12, validation=0.5, metrics="accuracy", schedule=schedule)["lr"] == stops[2][1]


def test_a_record_has_no_val_entries_of_its_other_entries():
    t, x, _ = fit("compiled", "bce", 1, targets("bce", 1), "accuracy", validation=0.5)
    record = []
    t.fit(x, targets("bce", 1), epochs=1, validation=0.5, callback=record.append)
    for name in ("val_lr", "val_epoch", "val_accuracy", "val_val_loss"):
        with pytest.raises(KeyError):
            record[0][name]
    t.fit(x, targets("bce", 1), epochs=1, metrics="accuracy", callback=record.append)
    with pytest.raises(AttributeError, match="the record has no entry 'val_accuracy'"):
        record[1].val_accuracy  # noqa: B018


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"monitor": "val_accuracy"}, 'early stopping monitors "val_accuracy", which needs validation='),
        ({"monitor": "val_accuracy", "metrics": "accuracy"}, 'early stopping monitors "val_accuracy", which needs validation='),
        ({"monitor": "val_accuracy", "validation": 0.5}, "'val_accuracy', which is not a metric of this fit; add metrics='accuracy'"),
        ({"monitor": "top_3", "validation": 0.5}, "'top_3', which is not a metric of this fit; add metrics='top_3'"),
        ({"monitor": "val_acuracy", "mode": "max", "validation": 0.5, "metrics": "accuracy"}, "unknown monitor of early stopping"),
    ],
)
def test_wrong_monitors_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        trainer("compiled", "bce", 1).fit(X, targets("bce", 1), epochs=1, patience=2, **options)
