"""Models of Keras: the same predictions as arithmetic of the file in float64. The files are written here, as Keras 2 and 3 write them; and
by Keras itself, where it is installed."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

import microbp as bp
from microbp.exchange import keras as reader

pytest.importorskip("h5py", reason="h5py is not installed")

import h5py
from exchange.keras_files import MODELS, TO_BE_SAVED, described, entry, graph, lstm, norm, rows_for, save, sigmoid, values_of

DETECTOR = Path(os.environ.get("MICROBP_DATA", "no folder"), "mlperf-tiny", "ad01.h5")


@pytest.mark.parametrize("form", TO_BE_SAVED)
@pytest.mark.parametrize("name", MODELS)
def test_predictions_are_those_of_arithmetic(name, form, tmp_path):
    model, weights = described(name)
    save(tmp_path / "model", model, weights, form)
    net = bp.from_keras(tmp_path / "model")
    x = expected = rows_for(MODELS[name][0], name)
    for i, (*_, f) in enumerate(MODELS[name][1]):
        expected = f(expected, *(values.astype(float) for values in weights[f"layer_{i}"].values()))
    assert net.dtype == "float32"
    np.testing.assert_allclose(net.predict(x), expected, rtol=2e-5, atol=3e-6)


def test_every_row_of_the_table_is_in_a_model():
    used = {kind for _, rows in MODELS.values() for kind, *_ in rows}
    assert set(reader._ROWS) - used == {"Add", "Subtract", "Multiply", "Average", "Concatenate", "Bidirectional"}  # below


def test_activations_are_applied_in_the_layers_and_at_the_end(tmp_path):
    for name, activations in {"norms": ["identity", "identity"], "functions": ["tanh", "relu"]}.items():
        model, weights = described(name)
        save(tmp_path / "model", model, weights, "h5")
        net = bp.from_keras(tmp_path / "model")
        assert [layer.activation for layer in net.layers if layer.kind == "dense"] == activations
        assert net.outputs[0].activation == "softmax"


# ---- graphs ----


@pytest.mark.parametrize("form", TO_BE_SAVED)
def test_a_graph_with_shared_layers_and_a_model_in_it(form, tmp_path):
    model, weights = graph(form)
    save(tmp_path / "model", model, weights, form)
    net = bp.from_keras(tmp_path / "model")
    z, x = rows_for((4,)), rows_for((4,))[::-1].copy()
    (w, b), (w1, b1, w2, b2), (w3, b3) = ([values.astype(float) for values in arrays.values()] for arrays in weights.values())
    h = ((z @ w + b) + (x @ w + b) + x) @ w + b
    less = np.tanh(h @ w1 + b1) @ w2 + b2 - z
    mean = (less + less * np.maximum(h, 0) + x) / 3
    first, second = net.predict([z, x])
    np.testing.assert_allclose(first, mean, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(second, sigmoid(np.hstack([mean, x]) @ w3 + b3), rtol=1e-5, atol=1e-6)
    assert [layer.name for layer in net.layers] == ["same", "model_a", "model_b", "end"]
    assert [output.activation for output in net.outputs] == [None, "sigmoid"]


@pytest.mark.parametrize("version", ["2.15.0", "3.9.0"])
def test_a_functional_model_counts_its_own_graph_as_a_call(version):
    """Keras 3 only where its value is an output, Keras 2 everywhere."""
    first = version < "3"

    def reads(name, call=0):
        return [[[name, call, 0, {}]]]

    inner = [entry("InputLayer", "in", batch_shape=[None, 2]) | {"inbound_nodes": []}]
    inner += [entry("Rescaling", "r", scale=2.0, offset=1.0) | {"inbound_nodes": reads("in")}]
    ends = {"input_layers": [["in", 0, 0]], "output_layers": [["r", 0, 0]]}
    layers = [
        entry("InputLayer", "x", batch_shape=[None, 2]) | {"inbound_nodes": []},
        entry("Functional", "model", layers=inner, **ends) | {"inbound_nodes": [*reads("x"), *reads("model", 0 + first)]},
        entry("Rescaling", "last", scale=3.0) | {"inbound_nodes": reads("model", 1 + first)},
    ]
    config = {"layers": layers, "input_layers": [["x", 0, 0]], "output_layers": [["model", 1, 0], ["last", 0, 0], ["model", 2, 0]]}
    net = reader._Reading({"class_name": "Functional", "config": config}, None, version).network()
    once, last, twice = (float(one[0, 0]) for one in net.predict(np.ones((1, 2))))
    assert (once, last, twice) == (3, 21, 7)


@pytest.mark.parametrize("form", TO_BE_SAVED)
def test_both_directions(form, tmp_path):
    inner = entry("LSTM", "lstm", units=2, return_sequences=True)
    layers = [entry("InputLayer", "x", batch_shape=[None, 5, 3]), entry("Bidirectional", "both", layer=inner, merge_mode="concat")]
    random = np.random.default_rng(1)
    shapes = {"kernel": (3, 8), "recurrent_kernel": (2, 8), "bias": (8,)}
    arrays = {
        f"{way}_lstm/lstm_cell/{key}": values_of(random, key, shape) for way in ("forward", "backward") for key, shape in shapes.items()
    }
    save(tmp_path / "model", {"class_name": "Sequential", "config": {"layers": layers}}, {"both": arrays}, form)
    x = rows_for((5, 3))
    forward, backward = (list(arrays.values())[i : i + 3] for i in (0, 3))
    expected = np.concatenate([lstm(x, *forward), lstm(x[:, ::-1], *backward)[:, ::-1]], -1)
    np.testing.assert_allclose(bp.from_keras(tmp_path / "model").predict(x), expected, rtol=1e-5, atol=1e-6)


# ---- a file of others ----


@pytest.mark.skipif(not DETECTOR.exists(), reason="MICROBP_DATA names no folder with mlperf-tiny/ad01.h5")
def test_the_anomaly_detector_of_mlperf_tiny():
    net = bp.from_keras(DETECTOR)
    x = expected = np.random.default_rng(0).normal(0, 3, (64, 640)).astype("f")
    with h5py.File(DETECTOR) as file:
        groups = file["model_weights"]
        for layer in json.loads(file.attrs["model_config"])["config"]["layers"]:
            name, kind = layer["config"]["name"], layer["class_name"]
            w = {key.removesuffix(":0"): values[()].astype(float) for key, values in groups[name].get(name, {}).items()}
            if kind == "Dense":
                expected = expected @ w["kernel"] + w["bias"]
            elif kind == "BatchNormalization":
                statistics = w["moving_mean"], w["moving_variance"]
                expected = norm(expected, w["gamma"], w["beta"], *statistics, layer["config"]["epsilon"])
            elif kind == "Activation":
                expected = np.maximum(expected, 0)
    scale = np.abs(expected).max(axis=1, keepdims=True)
    assert (np.abs(net.predict(x) - expected) / scale).max() < 1e-5
    assert [layer.kind for layer in net.layers] == ["dense", "batch_norm"] * 9 + ["dense"]


# ---- Keras itself ----


@pytest.mark.peers
@pytest.mark.parametrize("form", ["h5", "keras"])
@pytest.mark.filterwarnings("ignore")
def test_files_of_keras_itself(form, tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", os.environ.get("KERAS_BACKEND", "jax"))
    keras = pytest.importorskip("keras", reason="Keras is not installed")
    if not keras.__version__.startswith("3"):
        pytest.skip("Keras 2 needs TensorFlow")
    L = keras.layers  # noqa: N806
    x = keras.Input((9, 8, 2))
    h = L.Conv2D(5, 3, strides=2, padding="same", activation="relu")(L.BatchNormalization()(L.Conv2D(4, 2, padding="same")(x)))
    h = L.Reshape((20, -1))(L.AveragePooling2D(1)(h))
    h = L.Bidirectional(L.LSTM(3, return_sequences=True))(L.GRU(4, return_sequences=True)(h))
    h = L.Dense(5, name="often")(L.SimpleRNN(6)(h))
    part = keras.Sequential([keras.Input((5,)), L.Dense(5, "swish"), L.LayerNormalization(), L.Dense(5)])
    h = L.Add()([part(h), part(part(h)), L.Dropout(0.2)(h)])
    h = L.Concatenate()([L.Dense(2, activation=name)(h) for name in reader._ACTIVATIONS])
    model = keras.Model(x, L.Dense(3, "softmax")(h))
    random = np.random.default_rng(0)
    for weight in model.weights:
        if "seed" not in weight.path:
            values = random.normal(0, 0.4, weight.shape)
            weight.assign(np.abs(values) + 0.1 if "variance" in weight.path else values)
    model.save(tmp_path / f"model.{form}")
    net = bp.from_keras(tmp_path / f"model.{form}")
    rows = random.normal(size=(6, 9, 8, 2)).astype("f")
    np.testing.assert_allclose(net.predict(rows), model.predict(rows, verbose=0), rtol=1e-5, atol=1e-6)
