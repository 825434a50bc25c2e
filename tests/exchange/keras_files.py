"""Models of Keras for tests: files as Keras 2 and 3 write them, and what their layers compute, in float64."""

from __future__ import annotations

import io
import json
import zipfile

import h5py
import numpy as np

# ---- what layers compute, in float64 ----


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def softmax(z):
    return np.exp(z) / np.exp(z).sum(-1, keepdims=True)


def conv(x, kernel, bias, strides, same):
    """Keras's Conv2D of (rows, height, width, channels)."""
    pads = [max((-(-n // s) - 1) * s + k - n, 0) * same for n, s, k in zip(x.shape[1:3], strides, kernel.shape[:2], strict=True)]
    x = np.pad(x, [(0, 0), *((pad // 2, pad - pad // 2) for pad in pads), (0, 0)])
    high, wide = ((n - k) // s + 1 for n, s, k in zip(x.shape[1:3], strides, kernel.shape[:2], strict=True))
    y = np.empty((len(x), high, wide, kernel.shape[-1]))
    for i, j in np.ndindex(high, wide):
        a, b = i * strides[0], j * strides[1]
        y[:, i, j] = np.tensordot(x[:, a : a + kernel.shape[0], b : b + kernel.shape[1]], kernel, 3) + bias
    return y


def recur(step, x, units, state=1):
    h, found = [np.zeros((len(x), units))] * state, []
    for t in range(x.shape[1]):
        h = step(x[:, t], *h)
        found.append(h[0])
    return np.stack(found, 1)


def simple(x, w, u, b):
    return recur(lambda x, h: [np.tanh(x @ w + h @ u + b)], x, len(u))


def gru(x, w, u, b):
    def step(x, h):
        (xz, xr, xn), (hz, hr, hn) = (np.split(a @ m + c, 3, 1) for a, m, c in ((x, w, b[0]), (h, u, b[1])))
        z, r = sigmoid(xz + hz), sigmoid(xr + hr)
        return [z * h + (1 - z) * np.tanh(xn + r * hn)]

    return recur(step, x, len(u))


def lstm(x, w, u, b):
    def step(x, h, c):
        i, f, g, o = np.split(x @ w + h @ u + b, 4, 1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        return [sigmoid(o) * np.tanh(c), c]

    return recur(step, x, len(u), 2)


def norm(x, gamma, beta, mean, variance, eps=1e-3):
    return gamma * (x - mean) / np.sqrt(variance + eps) + beta


def layer_norm(x, gamma, beta):
    return norm(x, gamma, beta, x.mean(-1, keepdims=True), x.var(-1, keepdims=True))


# ---- models: the shape of a row; layers: class, settings, shapes of weights, what they compute ----

NORM = {"gamma": (6,), "beta": (6,), "moving_mean": (6,), "moving_variance": (6,)}


def plain(kind, f, **settings):
    return kind, settings, {}, f


def dense(inputs, units, activation="linear", f=lambda z: z):
    weights = {"kernel": (inputs, units), "bias": (units,)}
    return "Dense", {"units": units, "activation": activation}, weights, lambda x, w, b: f(x @ w + b)


def cell(kind, inputs, units, parts, f, sequences, bias=None):
    weights = {"kernel": (inputs, parts * units), "recurrent_kernel": (units, parts * units), "bias": bias or (parts * units,)}
    return kind, {"units": units, "return_sequences": sequences, "reset_after": True}, weights, f


def pooled(f, size):
    return lambda x: f(x.reshape(len(x), x.shape[1] // size, size, x.shape[2] // size, size, -1), axis=(2, 4))


MODELS = {
    "norms": (
        (4,),
        [
            ("Normalization", {"axis": [-1]}, {"mean": (4,), "variance": (4,)}, lambda x, m, v: (x - m) / np.sqrt(v)),
            dense(4, 6),
            ("BatchNormalization", {"axis": [1], "epsilon": 0.01}, NORM, lambda x, *w: norm(x, *w, 0.01)),
            plain("Activation", lambda z: np.maximum(z, 0), activation="relu"),
            plain("Dropout", lambda x: x, rate=0.3),
            plain("GaussianNoise", lambda x: x, stddev=0.3),
            ("LayerNormalization", {"axis": [1]}, {"gamma": (6,), "beta": (6,)}, layer_norm),
            plain("ActivityRegularization", lambda x: x),
            dense(6, 3, "softmax", softmax),
        ],
    ),
    "functions": (
        (5,),
        [
            dense(5, 5, "tanh", np.tanh),
            plain("ReLU", lambda z: np.where(z > 0, z, 0.1 * z), negative_slope=0.1),
            dense(5, 6),
            plain("ReLU", lambda z: np.maximum(z, 0)),
            plain("LeakyReLU", lambda z: np.where(z > 0, z, 0.3 * z)),
            plain("Rescaling", lambda z: 2 * z - 1, scale=2.0, offset=-1.0),
            plain("ELU", lambda z: np.where(z > 0, z, 0.5 * np.expm1(z)), alpha=0.5),
            plain("Softmax", softmax, axis=-1),
        ],
    ),
    "image": (
        (6, 8, 2),
        [
            (
                "Conv2D",
                {"filters": 4, "kernel_size": [3, 3], "strides": [2, 2], "padding": "same", "activation": "relu"},
                {"kernel": (3, 3, 2, 4), "bias": (4,)},
                lambda x, w, b: np.maximum(conv(x, w, b, (2, 2), True), 0),
            ),
            (
                "Conv2D",
                {"filters": 6, "kernel_size": [1, 2], "padding": "valid"},
                {"kernel": (1, 2, 4, 6), "bias": (6,)},
                lambda x, w, b: conv(x, w, b, (1, 1), False),
            ),
            ("BatchNormalization", {"axis": [3], "epsilon": 0.001}, NORM, norm),
            plain("Flatten", lambda x: x.reshape(len(x), -1)),
            plain("Reshape", lambda x: x.reshape(len(x), 3, 18), target_shape=[3, -1]),
            plain("GlobalMaxPooling1D", lambda x: x.max(1)),
            plain("RepeatVector", lambda x: np.repeat(x[:, None], 2, 1), n=2),
            plain("GlobalAveragePooling1D", lambda x: x.mean(1)),
        ],
    ),
    "pools": (
        (4, 8, 3),
        [
            plain("MaxPooling2D", pooled(np.max, 2), pool_size=[2, 2], strides=[2, 2], padding="valid"),
            plain("AveragePooling2D", pooled(np.mean, 2), pool_size=[2, 2], strides=[2, 2], padding="same"),
            plain("GlobalAveragePooling2D", lambda x: x.mean((1, 2))),
        ],
    ),
    "most": ((2, 3, 4), [plain("GlobalMaxPooling2D", lambda x: x.max((1, 2)))]),
    "sequence": (
        (9, 3),
        [
            (
                "Conv1D",
                {"filters": 4, "kernel_size": [4], "strides": [1], "padding": "same"},
                {"kernel": (4, 3, 4), "bias": (4,)},
                lambda x, w, b: conv(x[:, None], w[None], b, (1, 1), True)[:, 0],
            ),
            plain("MaxPooling1D", lambda x: x.reshape(-1, 3, 3, 4).max(2), pool_size=[3], strides=[3], padding="valid"),
            plain("AveragePooling1D", lambda x: (x[:, 1:] + x[:, :-1]) / 2, pool_size=[2], strides=[1], padding="valid"),
        ],
    ),
    "recurrent": (
        (5, 3),
        [
            cell("SimpleRNN", 3, 4, 1, simple, True),
            cell("LSTM", 4, 3, 4, lstm, True),
            cell("GRU", 3, 4, 3, lambda *x: gru(*x)[:, -1], False, (2, 12)),
        ],
    ),
}


def table(x, weight):
    return weight[x]


MODELS["ids"] = ((4,), [("Embedding", {"input_dim": 9, "output_dim": 3}, {"embeddings": (9, 3)}, table)])
TO_BE_SAVED = ["h5", "keras", "older keras"]


def described(name, given_name="model"):
    """The model as a Sequential of Keras, and its weights by layer."""
    shape, rows = MODELS[name]
    random = np.random.default_rng(7)
    layers, weights = [entry("InputLayer", "input", batch_input_shape=[None, *shape], batch_shape=[None, *shape])], {}
    for i, (kind, settings, shapes, _) in enumerate(rows):
        layers.append(entry(kind, f"layer_{i}", **settings))
        weights[f"layer_{i}"] = {key: values_of(random, key, size) for key, size in shapes.items()}
    return {"class_name": "Sequential", "config": {"name": given_name, "layers": layers}}, weights


def entry(kind, name, **settings):
    return {"class_name": kind, "name": name, "config": {"name": name, "trainable": True, **settings}}


def values_of(random, key, shape):
    values = random.normal(0, 0.5, shape)
    return (np.abs(values) + 0.1 if "variance" in key else values).astype("f")


def save(path, model, weights, form):
    """Writes the file as Keras does. weights: for each layer, arrays by name; names with / are those of layers within."""
    if form == "h5":
        with h5py.File(path, "w") as file:
            file.attrs["model_config"], file.attrs["keras_version"] = json.dumps(model), "3.1.0"
            top = file.create_group("model_weights")
            for layer, arrays in weights.items():
                group = top.create_group(layer)
                group.attrs["weight_names"] = [f"{layer}/{name}:0".encode() for name in arrays]
                for name, values in arrays.items():
                    group[f"{layer}/{name}:0"] = values
        return
    data = io.BytesIO()
    with h5py.File(data, "w") as file:
        write_groups(file, model["config"]["layers"], weights, form == "keras")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("metadata.json", json.dumps({"keras_version": "3.1.0"}))
        archive.writestr("config.json", json.dumps(model))
        archive.writestr("model.weights.h5", data.getvalue())


def write_groups(file, layers, weights, are_named):
    numbers = {}
    for layer in layers:
        kind, name = layer["class_name"], layer["config"]["name"]
        snake = {"BatchNormalization": "batch_normalization", "LayerNormalization": "layer_normalization", "SimpleRNN": "simple_rnn"}
        number = numbers[kind] = numbers.get(kind, -1) + 1
        at = file.require_group("layers").create_group(snake.get(kind, kind.lower()) + f"_{number}" * (number > 0))
        if kind == "Sequential":
            inside = {key: {} for key in ("in", "a", "b")}
            for key, values in weights[name].items():
                inside[key.split("/")[0]][key.split("/")[1]] = values
            write_groups(at, layer["config"]["layers"], inside, are_named)
        arrays = {} if kind == "Sequential" else weights.get(name, {})
        own = at.create_group("vars")
        if are_named:
            own.attrs["name"] = name
        for part, group in (("forward", "forward_layer"), ("backward", "backward_layer")):
            found = [values for key, values in arrays.items() if key.startswith(part)]
            for i, values in enumerate(found):
                at.require_group(f"{group}/cell/vars")[str(i)] = values
        if kind in ("SimpleRNN", "GRU", "LSTM"):
            own = at.create_group("cell/vars")
        for i, values in enumerate({} if kind == "Bidirectional" else arrays.values()):
            own[str(i)] = values


def rows_for(shape, name=""):
    random = np.random.default_rng(3)
    return random.integers(0, 9, (5, *shape)) if name == "ids" else random.normal(size=(5, *shape)).astype("f")


def graph(form):
    """Two inputs, a shared layer, a model in it, layers that read several, two outputs."""

    def reads(*operands):
        if form == "h5":
            return [[[*operand, 0, {}] for operand in operands]]
        tensors = [{"class_name": "__keras_tensor__", "config": {"keras_history": [*operand, 0]}} for operand in operands]
        return [{"args": [tensors] if len(tensors) > 1 else tensors, "kwargs": {"training": False}}]

    inner = [
        entry("InputLayer", "in", batch_shape=[None, 4]),
        entry("Dense", "a", units=3, activation="tanh"),
        entry("Dense", "b", units=4),
    ]
    layers = [
        entry("InputLayer", "x", batch_shape=[None, 4]) | {"inbound_nodes": []},
        entry("InputLayer", "z", batch_shape=[None, 4]) | {"inbound_nodes": []},
        entry("Dense", "same", units=4) | {"inbound_nodes": [*reads(("z", 0)), *reads(("x", 0)), *reads(("add", 0))]},
        entry("Add", "add") | {"inbound_nodes": reads(("same", 0), ("same", 1), ("x", 0))},
        entry("Sequential", "model", layers=inner) | {"inbound_nodes": reads(("same", 2))},
        entry("Subtract", "less") | {"inbound_nodes": reads(("model", 0), ("z", 0))},
        entry("Activation", "relu", activation="relu") | {"inbound_nodes": reads(("same", 2))},
        entry("Multiply", "times") | {"inbound_nodes": reads(("less", 0), ("relu", 0))},
        entry("Average", "mean") | {"inbound_nodes": reads(("less", 0), ("times", 0), ("x", 0))},
        entry("Concatenate", "both", axis=-1) | {"inbound_nodes": reads(("mean", 0), ("x", 0))},
        entry("Dense", "end", units=2, activation="sigmoid") | {"inbound_nodes": reads(("both", 0))},
    ]
    ends = {"input_layers": [["z", 0, 0], ["x", 0, 0]], "output_layers": [["mean", 0, 0], ["end", 0, 0]]}
    random = np.random.default_rng(5)
    shapes = {
        "same": {"kernel": (4, 4), "bias": (4,)},
        "model": {"a/kernel": (4, 3), "a/bias": (3,), "b/kernel": (3, 4), "b/bias": (4,)},
        "end": {"kernel": (8, 2), "bias": (2,)},
    }
    weights = {name: {key: values_of(random, key, shape) for key, shape in of.items()} for name, of in shapes.items()}
    return {"class_name": "Functional", "config": {"name": "graph", "layers": layers, **ends}}, weights
