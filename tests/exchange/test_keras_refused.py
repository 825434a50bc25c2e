"""What from_keras refuses: layers that microbp does not have, and files that are damaged or made to harm."""

from __future__ import annotations

import itertools
import json
import re
import sys
import zipfile

import pytest

import microbp as bp

pytest.importorskip("h5py", reason="h5py is not installed")

import h5py
from exchange.keras_files import described, entry, graph, save

WRONG = {
    "class": ([entry("PReLU", "p")], '"p" (PReLU): microbp does not have this layer'),
    "activation": ([entry("Activation", "a", activation="relu6")], "microbp does not have the activation 'relu6' here"),
    "softmax inside": ([entry("Activation", "a", activation="softmax"), entry("Dropout", "d", rate=0.1)], "'softmax' here"),
    "axis": ([entry("Softmax", "s", axis=0)], "axis must be the last one, not 0"),
    "relu": ([entry("ReLU", "r", max_value=6.0)], "max_value is not there"),
    "reset": ([entry("Reshape", "s", target_shape=[3, 1]), entry("GRU", "g", units=2)], "reset_after must be True"),
    "state": ([entry("Reshape", "s", target_shape=[3, 1]), entry("LSTM", "g", units=2, return_state=True)], "return_state must be False"),
    "cell": (
        [entry("Reshape", "s", target_shape=[3, 1]), entry("SimpleRNN", "g", units=2, activation="relu")],
        "activation must be 'tanh'",
    ),
    "merge": (
        [
            entry("Reshape", "s", target_shape=[3, 1]),
            entry("Bidirectional", "b", merge_mode=None, layer=entry("LSTM", "g", units=2, return_sequences=True)),
        ],
        "merge_mode must be 'concat', not None",
    ),
    "reshape": ([entry("Reshape", "s", target_shape=[2, 2])], "rows of 3 numbers cannot have the shape (2, 2)"),
    "embedding": ([entry("Dropout", "d", rate=0.5), entry("Embedding", "e", input_dim=3, output_dim=2)], "it must read an input"),
    "several": ([entry("Add", "a")], "it reads 1 tensor, but microbp's reads several"),
    "no weights": ([entry("Dense", "d", units=2)], "it has 0 weights, but needs 2"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_microbp_does_not_have_is_named(name, tmp_path):
    layers, text = WRONG[name]
    model = {"class_name": "Sequential", "config": {"layers": [entry("InputLayer", "x", batch_shape=[None, 3]), *layers]}}
    save(tmp_path / "model", model, {layer["name"]: {} for layer in layers}, "h5")
    with pytest.raises(ValueError, match=f"^from_keras: {re.escape(str(tmp_path / 'model'))}: layer .*{re.escape(text)}"):
        bp.from_keras(tmp_path / "model")


def test_weights_of_another_shape_are_named(tmp_path):
    model, weights = described("norms")
    weights["layer_1"]["kernel"] = weights["layer_1"]["kernel"].T
    save(tmp_path / "model", model, weights, "h5")
    with pytest.raises(ValueError, match=r'layer "layer_1" \(Dense\): its weight layer_1/kernel:0 has shape \(6, 4\), but needs \(4, 6\)'):
        bp.from_keras(tmp_path / "model")


def test_a_file_cannot_take_memory_that_it_does_not_have(tmp_path):
    model, weights = described("norms")
    save(tmp_path / "model", model, weights, "h5")
    with h5py.File(tmp_path / "model", "r+") as file:
        del file["model_weights/layer_1/layer_1/kernel:0"]
        huge = 2**31 - 1
        group = file["model_weights/layer_1/layer_1"]
        group.create_dataset("kernel:0", (4, huge), "f4", chunks=(1, 1024))
        del group["bias:0"]
        group.create_dataset("bias:0", (huge,), "f4", chunks=(1024,))
        model["config"]["layers"][2]["config"]["units"] = huge
        file.attrs["model_config"] = json.dumps(model)
    with pytest.raises(ValueError, match="kernel:0 is not complete"):
        bp.from_keras(tmp_path / "model")


def test_compressed_weights_cannot_take_much_more_memory_than_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr("microbp.exchange.keras_file._INFLATED", 2)
    with zipfile.ZipFile(tmp_path / "model.keras", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("metadata.json", "{}")
        archive.writestr("config.json", "{}")
        archive.writestr("model.weights.h5", bytes(2**26 + 2**20))
    with pytest.raises(ValueError, match=r"model.weights.h5 has 68157440 bytes, but must have at most 67\d+$"):
        bp.from_keras(tmp_path / "model.keras")


def test_a_file_cannot_read_other_files(tmp_path):
    model, weights = described("norms")
    for name in ("model", "other"):
        save(tmp_path / name, model, weights, "h5")
    with h5py.File(tmp_path / "model", "r+") as file:
        group = file["model_weights/layer_1/layer_1"]
        del group["kernel:0"]
        group["kernel:0"] = h5py.ExternalLink(str(tmp_path / "other"), "model_weights/layer_1/layer_1/kernel:0")
    with pytest.raises(ValueError, match="is not an array of numbers in this file"):
        bp.from_keras(tmp_path / "model")


@pytest.mark.parametrize("form", ["h5", "keras"])
def test_damaged_files_are_refused(form, tmp_path):
    model, weights = described("functions")
    save(tmp_path / "model", model, weights, form)
    whole = (tmp_path / "model").read_bytes()
    for length in [0, 3, 8, 100, len(whole) // 2, len(whole) - 1]:
        (tmp_path / "model").write_bytes(whole[:length])
        with pytest.raises(ValueError, match="^from_keras: "):
            bp.from_keras(tmp_path / "model")


def outcome(path):
    try:
        bp.from_keras(path)
    except ValueError as error:
        return str(error)
    return ""


def test_any_change_of_the_description_is_understood_or_refused(tmp_path):
    others = [None, -1, 10**9, "x", [], {}, [[["x", 0, 0]]], 1.5]

    def places(value, path=()):
        for key, inside in value.items() if isinstance(value, dict) else enumerate(value):
            yield (*path, key)
            if isinstance(inside, dict | list):
                yield from places(inside, (*path, key))

    model, weights = graph("h5")
    save(tmp_path / "model", model, weights, "h5")
    every = list(places(model))
    texts = []
    for path, other in itertools.islice(zip(every, itertools.cycle(others), strict=False), 0, None, 5):
        changed = at = json.loads(json.dumps(model))
        for key in path[:-1]:
            at = at[key]
        at[path[-1]] = other
        with h5py.File(tmp_path / "model", "r+") as file:
            file.attrs["model_config"] = json.dumps(changed)
        texts.append(outcome(tmp_path / "model"))
    assert {text[:12] for text in texts} == {"", "from_keras: "} and texts.count("") < len(texts) / 2 and len(texts) > 40


def test_a_missing_library_is_explained(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ImportError, match=r'need h5py, which is not installed: python -m pip install "microbp\[keras\]"'):
        bp.from_keras(tmp_path / "model")


def test_files_that_are_not_there_or_hold_weights_alone(tmp_path):
    with pytest.raises(TypeError, match=r'path must be a file, not a model of Keras; save it first: Model\.save\("model\.keras"\)'):
        bp.from_keras(type("Model", (), {"get_config": None})())
    with pytest.raises(FileNotFoundError):
        bp.from_keras(tmp_path / "none.h5")
    h5py.File(tmp_path / "w.h5", "w").close()
    with pytest.raises(ValueError, match=r"it has weights, but no model: save it by model\.save"):
        bp.from_keras(tmp_path / "w.h5")
