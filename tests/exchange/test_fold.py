"""bp.fold: fewer nodes, the same predictions. Ensembles as one network."""

from __future__ import annotations

import graphs
import numpy as np
import pytest

import microbp as bp
from microbp.exchange.shared.together import together

SHAPES = {**graphs.SHAPES, "embedded": graphs.embedded}


def rows_for(net, count=4):
    rng = np.random.default_rng(5)
    return [
        rng.integers(0, one.levels, (count, one.width)) if one.levels else rng.normal(size=(count, *one.row_shape)) for one in net.inputs
    ]


def network(shape, dtype="float64"):
    net = bp.Network(*SHAPES[shape]("tanh"), dtype=dtype, seed=3)
    rng = np.random.default_rng(4)
    net.buffers[...] = rng.uniform(0.5, 2, net.buffers.shape)
    net.params[...] += rng.normal(scale=0.1, size=net.params.shape)
    return net


def listed(values):
    return values if isinstance(values, list) else [values]


@pytest.mark.parametrize("shape", SHAPES)
def test_a_folded_network_predicts_the_same(shape):
    net = network(shape)
    folded = bp.fold(net)
    assert not {"batch_norm", "dropout", "noise"} & {node.operation for node in folded.nodes}
    assert len(folded.nodes) <= len(net.nodes)
    rows = rows_for(net)
    for new, old in zip(listed(folded.predict(rows)), listed(net.predict(rows)), strict=True):
        np.testing.assert_allclose(new, old, rtol=1e-12, atol=1e-13)


def test_a_batch_norm_and_an_activation_become_part_of_the_layer():
    x = bp.Input(3)
    h = bp.Activation("relu")(bp.Dropout(0.5)(bp.BatchNorm(eps=0.01)(bp.Dense(2, bias=False, name="first")(x))))
    net = bp.Network(x, bp.Dense(1)(h), dtype="float64", seed=0)
    net.tensors["batch_norm_0.running_var"][...] = 3.99, 0.99
    net.tensors["batch_norm_0.running_mean"][...] = 1, 2
    folded = bp.fold(net)
    assert [(node.operation, node.activation) for node in folded.nodes] == [("input", None), ("dense", "relu"), ("dense", "identity")]
    np.testing.assert_allclose(folded.tensors["first.weight"], net.tensors["first.weight"] / [[2], [1]], rtol=1e-15)
    np.testing.assert_allclose(folded.tensors["first.bias"], [-0.5, -2], rtol=1e-15)


def test_what_is_used_elsewhere_stays():
    x = bp.Input(3)
    layer, norm = bp.Dense(3), bp.BatchNorm()
    h = layer(x)
    net = bp.Network(x, [bp.Activation("relu")(norm(h)), h, norm(layer(h))], seed=0)
    assert [node.operation for node in bp.fold(net).nodes].count("scale") == 2


def test_outputs_and_notes_are_kept():
    net = bp.mlp([2, 3, 1], seed=1)
    net.set_output(0, "identity", mean=5, std=2)
    net.notes = {"classes": ["a"]}
    folded = bp.fold(net)
    assert folded.notes == net.notes and folded.outputs == net.outputs and folded.seed == net.seed
    assert (folded.params == net.params).all()


def test_a_folded_network_has_nothing_to_fold():
    x = bp.Input(3)
    h = bp.Activation("relu")(bp.Activation("identity")(bp.Dense(4)(x)))
    net = bp.fold(bp.Network(x, bp.Dense(1)(h), seed=0))
    assert [node.operation for node in net.nodes] == [node.operation for node in bp.fold(net).nodes] == ["input", "dense", "dense"]


def test_only_networks_are_folded():
    with pytest.raises(TypeError, match="fold: net must be a bp.Network, not Ensemble"):
        bp.fold(bp.Ensemble([bp.mlp([2, 1])]))


@pytest.mark.parametrize("weights", [None, [1.0, 0.0, 3.0]])
def test_an_ensemble_is_one_network_with_weights(weights):
    nets = [bp.mlp([2, 3, 2], seed=i) for i in range(3)]
    for net in nets:
        net.set_output(0, "softmax")
    ensemble = bp.Ensemble(nets, weights)
    net, votes = together(ensemble)
    rows = rows_for(net)[0]
    assert len(votes) == len(net.outputs) == (3 if weights is None else 2)
    np.testing.assert_allclose(np.average(net.predict(rows), axis=0, weights=votes), ensemble.predict(rows), rtol=1e-6)


# ---- bp.export ----


@pytest.mark.parametrize(
    ("path", "options", "error", "text"),
    [
        ("m.txt", {}, ValueError, "must end in .onnx, .c or .h, not"),
        ("m.c", {"fold": True}, ValueError, "fold is for .onnx"),
        ("m.onnx", {"train": "sgd"}, ValueError, "train is for .c and .h"),
        ("m.c", {"train": "rprop"}, ValueError, "'rprop' is not there; choose one of sgd, "),
        ("m.c", {"train": "adm(lr=0.1)"}, ValueError, "'adm' is not there; choose one of sgd, "),
        ("m.c", {"train": None}, TypeError, "export: train must be a string, not None"),
        ("m.c", {"name": "a-b"}, ValueError, "name must be a letter"),
        ("m.onnx", {"raw": 1}, TypeError, "raw"),
        ("no/folder/m.c", {}, OSError, "no/folder"),
    ],
)
def test_a_wrong_argument_writes_nothing(path, options, error, text, tmp_path):
    with pytest.raises(error, match=text):
        bp.export(bp.mlp([2, 1], seed=0), tmp_path / path, **options)
    assert list(tmp_path.iterdir()) == []


def test_other_objects_are_refused(tmp_path):
    trainer = bp.Trainer(bp.mlp([2, 1], seed=0), "mse")
    with pytest.raises(TypeError, match="not Trainer; pass its net"):
        bp.export(trainer, tmp_path / "m.onnx")
    net = bp.mlp([2, 1], seed=0)
    with pytest.raises(ValueError, match="a quantized network is written as .c or .h"):
        bp.export(bp.quantize(net, np.zeros((3, 2))), tmp_path / "m.onnx")


def test_a_file_stays_if_the_format_lacks_a_node(tmp_path):
    ids = bp.Ids(1, 5, hash=True)
    path = tmp_path / "m.onnx"
    path.write_text("mine")
    with pytest.raises(ValueError, match="hash"):
        bp.export(bp.Network(ids, bp.Embedding(5, 2)(ids), seed=0), path)
    assert path.read_text() == "mine" and [one.name for one in tmp_path.iterdir()] == ["m.onnx"]
