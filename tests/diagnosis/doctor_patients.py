"""Networks for the doctor: healthy ones, and ones made sick on purpose, each with the name of its cause."""

# ruff: noqa: N803, N806  # X, as in the programs that the doctor examines

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest

import microbp as bp


class Data(NamedTuple):
    X: Any
    y: Any


def scaled(X):
    return (X - X.mean(axis=0)) / np.maximum(X.std(axis=0), 1e-6)


def of_sklearn(name: str, raw: bool = False) -> Data:
    datasets = pytest.importorskip("sklearn.datasets")
    X, y = getattr(datasets, f"load_{name}")(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(X))
    X, y = X[order], y[order]
    return Data(X if raw else X / 16 if name == "digits" else scaled(X), y)


def numbers(seed: int, rows: int = 400, columns: int = 5) -> Data:
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(rows, columns))
    y = np.sin(2 * X[:, 0]) + 0.5 * X[:, 1] * X[:, 2] + 0.1 * rng.normal(size=rows)
    return Data(X, y)


def classes(seed: int, rows: int = 400, columns: int = 6, count: int = 3) -> Data:
    rng = np.random.default_rng(seed)
    centres = 1.5 * rng.normal(size=(count, columns))
    y = rng.integers(count, size=rows)
    return Data(centres[y] + rng.normal(size=(rows, columns)), y)


def spirals(seed: int, rows: int = 600) -> Data:
    rng = np.random.default_rng(seed)
    y = rng.integers(2, size=rows)
    turn = 1 + 6 * rng.random(rows)
    X = np.stack([turn * np.cos(turn + np.pi * y), turn * np.sin(turn + np.pi * y)], axis=1) / 4
    return Data(X + 0.05 * rng.normal(size=X.shape), y)


# ---- healthy ----


class Healthy(NamedTuple):
    name: str
    make: Callable[[int], tuple[bp.Trainer, Any, Any]]
    fit: dict[str, Any]


def _chain(widths, activation="relu"):
    return lambda seed: bp.mlp(widths, activation=activation, seed=seed)


def _conv(seed):
    image = bp.Grid(8, 8, 1)
    h = bp.Pool(2)(bp.Conv(8, 3, activation="relu")(image))
    return bp.Network(image, bp.Dense(10)(bp.Flatten()(h)), seed=seed)


def _recurrent(seed):
    x = bp.Sequence(12, 1)
    return bp.Network(x, bp.Dense(1)(bp.Last()(bp.Recurrent(16, cell="gru")(x))), seed=seed)


def _skip(seed):
    x = bp.Input(13)
    h = bp.Dense(16, activation="gelu")(x)
    for _ in range(3):
        h = h + bp.Dense(16)(bp.Dense(16, activation="gelu")(h))
    return bp.Network(x, bp.Dense(3)(h), seed=seed)


def _batch_norm(widths, activation):
    def make(seed):
        h = x = bp.Input(widths[0])
        for width in widths[1:-1]:
            h = bp.Activation(activation)(bp.BatchNorm()(bp.Dense(width)(h)))
        return bp.Network(x, bp.Dense(widths[-1])(h), seed=seed)

    return make


def _dropout(seed):
    x = bp.Input(64)
    h = bp.Dropout(0.3)(bp.Dense(64, activation="relu")(x))
    return bp.Network(x, bp.Dense(10)(bp.Dropout(0.3)(bp.Dense(64, activation="relu")(h))), seed=seed)


def _embedding(seed):
    x = bp.Ids(2, 20)
    return bp.Network(x, bp.Dense(1)(bp.Dense(16, activation="relu")(bp.Embedding(20, 6)(x))), seed=seed)


def _ids(seed):
    rng = np.random.default_rng(seed)
    X = rng.integers(20, size=(500, 2))
    return Data(X, rng.normal(size=20)[X[:, 0]] * rng.normal(size=20)[X[:, 1]])


def _sums(seed):
    X = np.random.default_rng(seed).normal(size=(400, 12, 1))
    return Data(X, np.tanh(X.sum(axis=(1, 2)) / 3))


def _standardize(seed):
    x = bp.Input(13)
    return bp.Network(x, bp.Dense(3)(bp.Dense(24, activation="relu")(bp.Standardize()(x))), seed=seed)


def _heads(seed):
    x = bp.Input(6)
    h = bp.Dense(24, activation="relu")(x)
    return bp.Network(x, [bp.Dense(3, name="kind")(h), bp.Dense(1, name="size")(h)], seed=seed)


def _two_targets(seed):
    X, y = classes(seed)
    return Data(X, [y, X[:, 0] - X[:, 1]])


def own_mse(outputs, targets, weight):
    return float(np.mean((outputs - targets) ** 2)), 2 * (outputs - targets) / outputs.size


def healthy_net(name, data, net, loss, optimizer="adam", epochs=20, **settings):
    def make(seed):
        found = data(seed)
        return bp.Trainer(net(seed), loss, optimizer, **settings), *found

    return Healthy(name, make, {"epochs": epochs})


def _kept(name, raw=False):
    return lambda seed: of_sklearn(name, raw)


def _images(seed):
    X, y = of_sklearn("digits")
    return Data(X.reshape(-1, 8, 8, 1), y)


def _cancer(seed):
    X, y = of_sklearn("breast_cancer")
    return Data(X, y.astype(float))


def _own(seed):
    return numbers(seed)._replace(y=numbers(seed).y.reshape(-1, 1))


def _self(seed):
    X = of_sklearn("digits").X
    return Data(X, X)


def _counts(seed):
    X = np.random.default_rng(seed).normal(size=(500, 4))
    return Data(X, np.random.default_rng(seed).poisson(np.exp(0.5 * X[:, 0])).astype(float))


def _diabetes(seed):
    X, y = of_sklearn("diabetes")
    return Data(X, (y - y.mean()) / y.std())


HEALTHY = [
    healthy_net("digits", _kept("digits"), _chain([64, 32, 10]), "cross_entropy"),
    healthy_net("digits, deep tanh", _kept("digits"), _chain([64, 48, 48, 48, 48, 10], "tanh"), "cross_entropy"),
    healthy_net("digits, raw, sgd", _kept("digits", True), _chain([64, 32, 10]), "cross_entropy", bp.SGD(lr=0.01)),
    healthy_net("digits, conv", _images, _conv, "cross_entropy", epochs=5),
    healthy_net("digits, dropout", _kept("digits"), _dropout, "cross_entropy"),
    healthy_net("digits, autoencoder", _self, _chain([64, 16, 64], "gelu"), "mse"),
    healthy_net("iris, linear, sgd", _kept("iris"), _chain([4, 3]), "cross_entropy", bp.SGD(lr=0.1)),
    healthy_net("iris, raw", _kept("iris", True), _chain([4, 10, 3], "tanh"), "cross_entropy", bp.Adam(lr=0.01)),
    healthy_net("wine, gelu", _kept("wine"), _chain([13, 24, 3], "gelu"), "cross_entropy"),
    healthy_net("wine, skip", _kept("wine"), _skip, "cross_entropy"),
    healthy_net("wine, raw, standardize", _kept("wine", True), _standardize, "cross_entropy", bp.Adam(lr=0.003)),
    healthy_net("cancer, sigmoid", _cancer, _chain([30, 16, 1], "sigmoid"), "bce"),
    healthy_net("cancer, momentum", _cancer, _chain([30, 32, 16, 1]), "bce", bp.Momentum(lr=0.01)),
    healthy_net("cancer, batch norm", _kept("breast_cancer"), _batch_norm([30, 32, 32, 32, 2], "relu"), "cross_entropy"),
    healthy_net("diabetes, mse", _diabetes, _chain([10, 16, 1]), "mse", bp.AdamW(lr=1e-3)),
    healthy_net("diabetes, huber", _kept("diabetes"), _chain([10, 32, 32, 1], "silu"), "huber", standardize_targets=True),
    healthy_net("numbers, lbfgs", numbers, _chain([5, 16, 1], "tanh"), "mse", bp.LBFGS()),
    healthy_net("numbers, quantile", numbers, _chain([5, 32, 1]), bp.Loss("quantile", q=0.8)),
    healthy_net("numbers, own loss", _own, _chain([5, 32, 1]), own_mse),
    healthy_net("numbers, linear", numbers, _chain([5, 1]), "mse", bp.Adam(lr=0.01)),
    healthy_net("spirals, deep", spirals, _chain([2, 32, 32, 32, 2]), "cross_entropy", bp.Adam(lr=0.003), epochs=60),
    healthy_net("sequences, gru", _sums, _recurrent, "mse", bp.Adam(lr=0.003)),
    healthy_net("ids", _ids, _embedding, "mse", bp.Adam(lr=0.003)),
    healthy_net("two outputs", _two_targets, _heads, ["cross_entropy", "mse"]),
    healthy_net("counts", _counts, _chain([4, 16, 1]), "poisson"),
]


# ---- sick ----


class Sick(NamedTuple):
    name: str
    cause: str
    make: Callable[[int], tuple[bp.Trainer, Any, Any]]
    fit: dict[str, Any] | None = None  # of the bad training before
    held: Callable[[int], tuple[Any, Any]] | None = None


def _zero(net):
    net.params[:] = 0
    return net


def _nan(seed):
    X, y = classes(seed)
    X[7, 2] = X[50, 0] = np.nan
    return bp.Trainer(bp.mlp([6, 16, 3], seed=seed), "cross_entropy"), X, y


def hidden(net, what, change):
    layers = [layer.name for layer in net.layers][:-1]
    for name in layers:
        net.tensors[f"{name}.{what}"][...] = change(net.tensors[f"{name}.{what}"])
    return net


def _output(seed, activation, loss, X, y):
    x = bp.Input(X.shape[1])
    width = 3 if loss == "cross_entropy" else 1
    return bp.Trainer(bp.Network(x, bp.Dense(width, activation=activation)(bp.Dense(16, activation="relu")(x)), seed=seed), loss), X, y


def own_sum(outputs, targets, weight):
    return float(np.mean((outputs - targets) ** 2)), 2 * (outputs - targets)


def own_wrong(outputs, targets, weight):
    return float(np.mean((outputs - targets) ** 4)), 2 * (outputs - targets) / outputs.size


def _frozen(seed):
    net = bp.mlp([5, 16, 1], seed=seed)
    net.freeze()
    return bp.Trainer(net, "mse"), *numbers(seed)


def _noisy(seed, rows=200):
    random = np.random.default_rng(seed)
    X = random.normal(size=(rows, 20))
    return Data(X, (X[:, 0] + X[:, 1] + 2 * random.normal(size=rows) > 0).astype(int))


def _double(seed):
    X, y = classes(seed)
    return bp.Trainer(bp.mlp([7, 16, 3], seed=seed), "cross_entropy"), np.column_stack([X, X[:, 1]]), y


def _constant(seed):
    X, y = classes(seed)
    return bp.Trainer(bp.mlp([7, 16, 3], seed=seed), "cross_entropy"), np.column_stack([X, np.ones(len(X))]), y


def last_layer(net, factor):
    net.tensors[f"{net.layers[-1].name}.weight"][...] *= factor
    return net


def _sorted(seed):
    X, y = of_sklearn("digits")
    order = np.argsort(y, kind="stable")
    return bp.Trainer(bp.mlp([64, 32, 10], seed=seed), "cross_entropy", bp.SGD(lr=0.1)), X[order], y[order]


def sick_net(widths, loss, data, optimizer="adam", activation="relu", change=None, **layer):
    def make(seed):
        net = bp.mlp(widths, activation=activation, seed=seed)
        if layer:
            net.set_layer(**layer)
        return bp.Trainer(change(net) if change else net, loss, optimizer), *data(seed)

    return make


def _by(data, x=lambda X: X, y=lambda y: y):
    return lambda seed: Data(x(data(seed).X), y(data(seed).y))


FIT = {"epochs": 20}
SICK = [
    Sick("NaN in X", "not_finite", _nan),
    Sick("labels 1 to 3, 3 outputs", "labels", sick_net([6, 16, 3], "cross_entropy", _by(classes, y=lambda y: y + 1))),
    Sick("labels 1 to 3, 4 outputs", "labels", sick_net([6, 16, 4], "cross_entropy", _by(classes, y=lambda y: y + 1))),
    Sick("one class", "labels", sick_net([6, 16, 3], "cross_entropy", _by(classes, y=lambda y: y * 0))),
    Sick("relu before softmax", "output_range", lambda seed: _output(seed, "relu", "cross_entropy", *classes(seed))),
    Sick("sigmoid for any number", "output_range", lambda seed: _output(seed, "sigmoid", "mse", *_by(numbers, y=lambda y: 10 * y)(seed))),
    Sick("all frozen", "frozen", _frozen),
    Sick("own gradient not divided", "gradient_check", lambda seed: (bp.Trainer(bp.mlp([5, 16, 1], seed=seed), own_sum), *_own(seed))),
    Sick(
        "own gradient of another loss", "gradient_check", lambda seed: (bp.Trainer(bp.mlp([5, 16, 1], seed=seed), own_wrong), *_own(seed))
    ),
    Sick("raw wine", "inputs_scale", sick_net([13, 16, 3], "cross_entropy", _kept("wine", True))),
    Sick(
        "raw cancer, trained",
        "inputs_scale",
        sick_net([30, 16, 2], "cross_entropy", _kept("breast_cancer", True), bp.SGD(lr=0.01), "tanh"),
        FIT,
    ),
    Sick("tiny inputs", "inputs_scale", sick_net([6, 16, 3], "cross_entropy", _by(classes, x=lambda X: X / 1e4))),
    Sick("raw targets", "targets_scale", sick_net([10, 16, 1], "mse", _kept("diabetes"))),
    Sick("tiny targets", "targets_scale", sick_net([5, 16, 1], "mse", _by(numbers, y=lambda y: y / 1e4), bp.SGD(lr=0.01)), FIT),
    Sick("rate too high", "rate", sick_net([6, 32, 3], "cross_entropy", classes, bp.SGD(lr=100))),
    Sick("rate too high, trained", "rate", sick_net([64, 32, 10], "cross_entropy", _kept("digits"), bp.Adam(lr=3)), {"epochs": 3}),
    Sick("rate too low, trained", "rate", sick_net([6, 32, 3], "cross_entropy", classes, bp.Adam(lr=1e-7)), FIT),
    Sick(
        "negative biases",
        "dead",
        sick_net([6, 32, 32, 3], "cross_entropy", classes, change=lambda net: hidden(net, "bias", lambda b: b - 20)),
    ),
    Sick(
        "large weights, tanh",
        "saturated",
        sick_net([6, 32, 32, 3], "cross_entropy", classes, activation="tanh", change=lambda net: hidden(net, "weight", lambda w: 30 * w)),
    ),
    Sick("deep sigmoid", "vanishing", sick_net([6, *[16] * 10, 3], "cross_entropy", classes, activation="sigmoid")),
    Sick(
        "zero weights",
        "vanishing",
        sick_net([6, 16, 16, 3], "cross_entropy", classes, activation="tanh", change=_zero),
    ),
    Sick(
        "deep, large weights",
        "exploding",
        sick_net([6, *[24] * 8, 3], "cross_entropy", classes, change=lambda net: hidden(net, "weight", lambda w: 4 * w)),
    ),
    Sick("large last layer", "start_loss", sick_net([6, 24, 3], "cross_entropy", classes, change=lambda net: last_layer(net, 50))),
    Sick("penalty too large", "overfit", sick_net([6, 24, 3], "cross_entropy", classes, l2=1.0)),
    Sick(
        "few rows, much noise",
        "memorising",
        sick_net([20, 64, 2], "cross_entropy", _noisy, bp.Adam(lr=0.01)),
        {"epochs": 150},
        lambda seed: _noisy(seed + 9),
    ),
    Sick(
        "other numbers for labels",
        "permuted_labels",
        sick_net([6, 24, 3], "cross_entropy", classes, bp.Adam(lr=0.01)),
        FIT,
        lambda seed: (classes(seed).X[:100], (classes(seed).y[:100] + 1) % 3),
    ),
    Sick("sorted, not shuffled", "sorted_rows", _sorted, {"epochs": 5, "shuffle": False}),
    Sick("a column twice", "duplicate_columns", _double),
    Sick("a constant column", "constant_columns", _constant),
]
