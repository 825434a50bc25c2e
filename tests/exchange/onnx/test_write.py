"""ONNX files: valid, and another program predicts from them what the network does; which node or column is refused."""

from __future__ import annotations

import json
import re
from pathlib import Path

import cases
import graphs
import numpy as np
import pytest

import microbp as bp
from microbp.core.specs import table
from microbp.exchange.onnx import write
from microbp.exchange.onnx.graph import IR, OPSET, Graph
from microbp.exchange.shared.steps import steps
from microbp.exchange.shared.together import together

onnx = pytest.importorskip("onnx", reason="onnx is not installed")
ort = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
from onnx.reference import ReferenceEvaluator  # noqa: E402

SOURCES = Path(__file__).parents[3] / "src"
SWEEP = 500 if cases.LONG else 40
BOUND = 2e-6  # relative to the largest output, float32


def written(net, *, raw=False, fold=False, name="model", votes=None):
    """A file, checked by onnx."""
    data = write.onnx_bytes(net, None, votes, raw=raw, fold=fold, name=name)
    onnx.checker.check_model(onnx.load_from_string(data), full_check=True)
    return data


def run(data, xs):
    """The outputs that onnxruntime computes."""
    session = ort.InferenceSession(data, providers=["CPUExecutionProvider"])
    kinds = {"tensor(float)": np.float32, "tensor(double)": np.float64, "tensor(int64)": np.int64}
    ends = session.get_inputs()
    return session.run(None, {end.name: x.reshape(len(x), *end.shape[1:]).astype(kinds[end.type]) for end, x in zip(ends, xs, strict=True)})


def listed(values):
    return values if isinstance(values, list) else [values]


def difference(found, expected):
    """The largest difference relative to the largest output; shapes and dtypes are equal."""
    worst = 0.0
    for one, other in zip(found, listed(expected), strict=True):
        assert one.shape == other.shape and one.dtype == other.dtype
        worst = max(worst, float(np.abs(one - other).max() / max(np.abs(other).max(), 1e-30)))
    return worst


# ---- the tables ----


def test_every_kind_of_node_and_every_formula_has_a_row():
    kinds = set(re.findall(r'^    \[MBP_NODE_\w+\] = \{"(\w+)"', (SOURCES / "net/statements.c").read_text("utf-8"), re.MULTILINE))
    assert len(kinds) >= 22
    assert kinds - {"input", "ids"} == write.NODES.keys()
    assert table("activation").keys() == write.ACTIVATIONS.keys()
    assert table("output_activation").keys() == write.OUTPUT_ACTIVATIONS.keys()


# ---- predictions ----


@pytest.mark.parametrize("shape", [*graphs.SHAPES, "embedded"])
def test_onnxruntime_predicts_the_same(shape):
    if shape == "embedded":
        words, bag, x = bp.Ids(3, 11), bp.Input(11), bp.Input(4)
        both, total = bp.Embedding(11, 5, name="both"), bp.Embedding(11, 4, combine="sum")
        e = both(words)
        net = bp.Network([words, bag, x], [bp.Dense(2)(bp.concat([e, x, total(words), both(bag)])), e[:, 3:9], total(words)], seed=1)
    else:
        net = graphs.network(shape)
    xs = graphs.rows_of(net, 7)
    for fold in (False, True) if "batch_norm" in str(net) else (False,):
        assert difference(run(written(net, fold=fold), listed(xs)), net.predict(xs)) <= BOUND


def activations(dtype):
    """A network with an output for each activation, as a layer's setting and as a node."""
    x = bp.Input(6)
    specs = [row.spec for row in cases.ACTIVATIONS.values()]
    h = bp.Dense(6)(x)
    return bp.Network(x, [bp.Activation.parse(spec)(h) for spec in specs] + [bp.Dense(4, spec)(h) for spec in specs], dtype, seed=2)


def test_every_activation_is_the_same():
    net, x = activations("float32"), np.random.default_rng(1).normal(size=(64, 6)).astype(np.float32)
    for found, expected in zip(run(written(net), [x]), net.predict(x), strict=True):
        assert difference([found], expected) <= BOUND


def test_float64_is_the_same_but_for_parameters_which_onnx_stores_as_float32():
    net, x = activations("float64"), np.random.default_rng(1).normal(size=(9, 6))
    found = ReferenceEvaluator(onnx.load_from_string(written(net))).run(None, {"input": x})
    assert difference(found, net.predict(x)) <= 5e-8
    for shape in ("image", "sequence", "recurrent", "scaled", "towers"):
        net = graphs.network(shape, dtype="float64")
        xs = graphs.rows_of(net, 4)
        feeds = {f"input_{i}": x.reshape(4, *one.row_shape) for i, (x, one) in enumerate(zip(listed(xs), net.inputs, strict=True))}
        found = ReferenceEvaluator(onnx.load_from_string(written(net))).run(None, feeds if len(feeds) > 1 else {"input": xs})
        assert difference(found, net.predict(xs)) <= 1e-11, shape


@pytest.mark.parametrize("activation", [None, *table("output_activation")])
def test_output_activations_are_part_of_the_file_unless_raw(activation):
    x = bp.Input(3)
    net = bp.Network(x, [bp.Dense(4, name="policy")(x), bp.Dense(2)(x)], seed=0)
    net.set_output(0, activation)
    net.set_output(1, "identity", [10, -3], [2, 0.5])
    x = np.random.default_rng(2).normal(size=(5, 3)).astype(np.float32)
    for raw in (False, True):
        data = written(net, raw=raw)
        assert difference(run(data, [x]), net.predict(x, raw=raw)) <= BOUND
        assert [end.name for end in onnx.load_from_string(data).graph.output] == ["policy", "output_1"]


class Positions:
    """Draws networks with positions: images, sequences and recurrent layers with random settings."""

    def __init__(self, random):
        self.random = random

    def whole(self, least, most):
        return int(self.random.integers(least, most + 1))

    def activation(self):
        return cases.ACTIVATIONS[str(self.random.choice(["relu", "tanh", "gelu", "elu", "sigmoid", "silu"]))].spec

    def pair(self, axes, least, most):
        return [self.whole(least, most) for _ in range(axes)]

    def moved(self, node):
        """A convolution or a pool that fits."""
        axes = len(node.grid)
        try:
            if self.random.random() < 0.6:
                settings = {"stride": self.pair(axes, 1, 2), "pad": self.pair(axes, 0, 2), "dilation": self.pair(axes, 1, 2)}
                bias = bool(self.random.random() < 0.8)
                return bp.Conv(self.whole(1, 6), self.pair(axes, 1, 3), activation=self.activation(), bias=bias, **settings)(node)
            kind = str(self.random.choice(["max", "mean"]))
            return bp.Pool(self.pair(axes, 1, 3), self.pair(axes, 1, 2), kind)(node)
        except ValueError:
            return bp.Dense(self.whole(1, 5), self.activation())(node)

    def grown(self, node, x):
        """A node on top of another one, at the same positions or others."""
        kind = self.whole(0, 7)
        if kind <= 2:
            return self.moved(node)
        if kind == 3:
            cell, reverse = str(self.random.choice(["tanh", "gru", "lstm"])), bool(self.random.random() < 0.5)
            layer = bp.Recurrent(self.whole(1, 5), cell, reverse, bias=bool(self.random.random() < 0.7))
            return layer(node, bp.Dense(layer.state_width)(x) if self.random.random() < 0.5 else None)
        if kind == 4:
            norms = [bp.LayerNorm(0.1), bp.BatchNorm(eps=0.01), bp.Scale(), bp.Standardize(), bp.Dropout(), bp.GaussianNoise()]
            return norms[self.whole(0, 5)](node)
        if kind == 5:
            return node + bp.Dense(node.width, self.activation())(node) * node - node
        if kind == 6:
            return bp.concat([node, node[:, : self.whole(1, node.width)]])
        return bp.Unflatten(*node.grid)(bp.Flatten()(node)) if node.grid else node

    def network(self):
        x = bp.Input(self.whole(1, 4))
        if self.random.random() < 0.5:
            z = bp.Grid(self.whole(1, 6), self.whole(1, 6), self.whole(1, 3))
        else:
            z = bp.Sequence(self.whole(1, 6), self.whole(1, 3))
        node = z
        if self.random.random() < 0.2 and len(z.grid) == 1:
            node = bp.concat([z, bp.Repeat(z.grid[0])(x)])
        for _ in range(self.whole(1, 5)):
            node = self.grown(node, x)
        ids = bp.Ids(self.whole(1, 3), self.whole(1, 9))
        rows = bp.Embedding(ids.levels, self.whole(1, 4), combine=str(self.random.choice(["concat", "sum"])))(ids)
        ends = [bp.Dense(2)(bp.concat([bp.Last()(node), x, rows])), bp.Flatten()(node), node]
        return bp.Network([x, z, ids], ends, seed=self.whole(0, 99))


def varied(net, random):
    """Gives norms, scales and standardize layers statistics and factors that are not 0 and 1."""
    for layer in net.layers:
        for name in ("weight", "bias", "running_mean", "running_var", "mean", "std") if layer.kind not in ("dense", "recurrent") else ():
            if (view := net.tensors.get(f"{layer.name}.{name}")) is not None:
                view[:] = random.uniform(0.7, 1.3, view.shape) - 1 * (name in ("bias", "running_mean", "mean"))


def test_random_networks_predict_the_same(rng):
    """Relative to the largest value of a node: an output may be a small difference of large numbers, and then has fewer correct digits. Of
    99 in 100 networks also relative to each output."""
    random, far = np.random.default_rng(rng.getrandbits(32)), 0
    for i in range(SWEEP):
        if i % 2:
            net = Positions(random).network()
        else:
            inputs, outputs = graphs.draw(random, 5, "tanh", None)
            net = bp.Network(inputs, outputs, seed=i)
        varied(net, random)
        xs = graphs.rows_of(net, 5, i)
        expected, nodes = listed(net.predict(xs)), net.predict(xs, at=[node.node for node in net.nodes if node.operation != "ids"])
        largest = max(float(np.abs(one).max()) for one in nodes)
        if np.isfinite(largest):
            found = run(written(net, fold=i % 3 == 0), listed(xs))
            assert max(float(np.abs(one - other).max()) for one, other in zip(found, expected, strict=True)) <= BOUND * largest, net.text()
            far += difference(found, expected) > BOUND
    assert far <= max(1, SWEEP // 100)


def test_one_position_windows_without_a_layer_and_inputs_as_outputs():
    x, z, g = bp.Input(4), bp.Sequence(1, 3), bp.Grid(1, 1, 2)
    ends = [
        bp.Conv(2, 3, pad=1)(z),
        bp.Conv(2, 3, pad=1)(g),
        bp.Pool(1)(g),
        bp.Repeat(1)(x),
        x,
        bp.Last()(g),
        bp.Recurrent(2)(bp.Repeat(3)(x)),
    ]
    image = bp.Grid(5, 4, 2)
    windows = bp.Network(image, bp.Conv(3, 3, pad=1)(image), seed=0)
    for net in (bp.Network([x, z, g], ends, seed=0), windows.part(outputs=2), windows.part(outputs=[2, 3])):
        xs = graphs.rows_of(net, 3)
        assert difference(run(written(net), listed(xs)), net.predict(xs)) <= BOUND


@pytest.mark.parametrize("name", ["input", "output_1", "2"])
def test_names_that_the_file_uses_itself_are_not_taken_from_layers(name):
    x = bp.Input(2)
    net = bp.Network(x, [bp.Dense(1)(x), bp.Dense(2, name=name)(x)], seed=0)
    assert [end.name for end in onnx.load_from_string(written(net)).graph.output] == ["output_0", "output_1"]


def test_an_ensemble_is_its_weighted_mean():
    ensemble = bp.Ensemble([bp.mlp([4, width, 3], seed=width) for width in (3, 8, 5)], weights=[1, 2, 0.5])
    for net in ensemble:
        net.set_output(0, "softmax")
    net, votes = together(ensemble)
    x = np.random.default_rng(3).normal(size=(6, 4)).astype(np.float32)
    assert difference(run(written(net, votes=votes), [x]), ensemble.predict(x)) <= BOUND
    assert difference(run(written(net, votes=votes, raw=True), [x]), ensemble.predict(x, raw=True)) <= BOUND


def test_any_number_of_rows():
    net = graphs.network("image")
    data = written(net)
    for rows in (1, 3, 65):
        xs = graphs.rows_of(net, rows)
        assert difference(run(data, xs), net.predict(xs)) <= BOUND


# ---- the file ----


def test_the_file_says_what_it_is_and_has_the_tensors_as_they_are():
    net = graphs.network("chain", dtype="float64")
    net.notes = {"classes": ["é", "b"]}
    model = onnx.load_from_string(written(net, name="digits"))
    assert (model.ir_version, model.opset_import[0].version, model.producer_name, model.graph.name) == (IR, OPSET, "microbp", "digits")
    assert [end.type.tensor_type.shape.dim[0].dim_param for end in (*model.graph.input, *model.graph.output)] == ["rows", "rows"]
    found = {one.name: onnx.numpy_helper.to_array(one) for one in model.graph.initializer}
    for name, values in net.tensors.items():
        assert found[name].dtype == values.dtype and found[name].tobytes() == values.tobytes()
    metadata = {one.key: one.value for one in model.metadata_props}
    assert metadata["microbp.graph"] == net.text() and json.loads(metadata["microbp.notes"]) == net.notes
    assert json.loads(metadata["microbp.inputs"]) == ["input"]


def test_dropout_and_noise_vanish_and_layers_keep_their_names():
    model = onnx.load_from_string(written(graphs.network("random_ways")))
    names = [one.name for one in model.graph.node]
    assert len(names) == len(set(names))
    assert {one.op_type for one in model.graph.node} == {"Gemm", "Tanh", "Concat", "Add", "Identity"}
    assert {name.split("/")[0] for name in names} == {"dense_0", "dense_1", "add", "concat", "output"}


def test_fold_leaves_no_batch_norm():
    net = graphs.network("normal_often")
    kinds = [{one.op_type for one in onnx.load_from_string(written(net, fold=fold)).graph.node} for fold in (False, True)]
    assert ["BatchNormalization" in found for found in kinds] == [True, False]


def test_hashed_ids_are_refused_by_name():
    ids = bp.Ids(1, 7, hash=True)
    net = bp.Network(ids, bp.Dense(1)(bp.Embedding(7, 3)(ids)), seed=0)
    with pytest.raises(ValueError, match=r"to ONNX: node 0, ids cannot be written: its ids are hashed"):
        written(net)


def test_a_file_larger_than_protocol_buffers_allow_is_refused(monkeypatch):
    monkeypatch.setattr("microbp.exchange.onnx.graph._LARGEST", 1000)
    with pytest.raises(ValueError, match=r"to ONNX: the file would have \d+ bytes, but a file of ONNX has at most 1000"):
        written(bp.mlp([20, 20], seed=0))


def test_steps_know_each_node_that_is_written():
    net = graphs.network("cuts")
    g = Graph()
    values = write._Writer(g, net).predictions(["input_0", "input_1"], True)
    assert len(values) == len(net.outputs) and {step.node.operation for step in steps(net)} <= {"input", *write.NODES}
