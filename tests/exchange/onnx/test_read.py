"""from_onnx: files of other exporters and of bp.export give networks with the same predictions; what microbp does not have is named."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import graphs
import numpy as np
import pytest

import microbp as bp
from microbp.exchange.onnx import write
from microbp.exchange.onnx.reading import elementwise, layers, views, wire
from microbp.exchange.shared.together import together

onnx = pytest.importorskip("onnx", reason="onnx is not installed")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402
from onnx.reference import ReferenceEvaluator  # noqa: E402

HERE = Path(__file__).parent
FILES = sorted((HERE / "files").glob("*.onnx"))
BOUND = 1e-6  # of the largest output: two libraries in float32


def listed(values):
    return values if isinstance(values, list) else [values]


def channels_last(name: str, x: np.ndarray) -> np.ndarray:
    """X as microbp has it: of images and series with the columns first in the file."""
    return np.moveaxis(x, 1, -1) if name.endswith(("image", "mean", "series")) else x


def compare(path: Path) -> bp.Network:
    """Reads a file of exported.py; predictions are those of the library that it is from."""
    net, metadata = bp.from_onnx(path), wire.model(path.read_bytes()).metadata
    x, y = (np.array(found["data"]).reshape(found["shape"]) for found in (json.loads(metadata[name]) for name in ("x", "y")))
    y = y.reshape(len(y), -1) if y.ndim == 1 else y
    found = net.predict(channels_last(path.stem, x.astype(int) if path.stem.endswith("table") else x))
    assert found.shape == y.shape
    assert np.abs(found - y).max() <= BOUND * max(1, np.abs(y).max())
    return net


# ---- other exporters ----


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_file_of_another_library_predicts_the_same(path):
    net = compare(path)
    assert net.dtype == np.float32
    kind = path.stem.removeprefix("torch_").removeprefix("old_")
    if kind in ("gelu", "silu", "mish", "softplus", "softsign", "hard_sigmoid", "relu", "selu"):  # activations of the dense layer, whole
        assert [layer.activation for layer in net.layers] == [kind, "identity"]
        assert len(net.nodes) == 3


def test_names_classes_and_output_activations_are_kept():
    nets = {path.stem: bp.from_onnx(path) for path in FILES}
    assert [layer.name for layer in nets["torch_skip"].layers] == ["a", "b", "c"]
    assert [layer.name for layer in nets["torch_old_gru"].layers] == ["recurrent_0", "l"]
    assert [nets[name].outputs[0].activation for name in ("torch_old_softmax", "torch_norms", "sklearn_two")] == [
        "softmax",
        "sigmoid",
        "sigmoid",
    ]
    assert [nets[f"sklearn_{name}"].notes for name in ("classes", "texts")] == [{"classes": [0, 1, 2]}, {"classes": ["a", "b", "c"]}]
    assert nets["torch_old_both"].nodes[2].operation == "recurrent" and len(nets["torch_old_both"].layers) == 3
    assert nets["torch_image"].inputs[0].row_shape == (12, 8, 1) and nets["torch_old_series"].inputs[0].row_shape == (8, 2)
    assert nets["torch_table"].inputs[0].levels == 7


@pytest.mark.peers
@pytest.mark.parametrize("exporter", ["new", "old", "sklearn"])
def test_exporters_of_today_write_what_can_be_read(exporter, tmp_path):
    for module in ("torch", "onnxscript") if exporter != "sklearn" else ("skl2onnx",):
        pytest.importorskip(module, reason=f"{module} is not installed")
    sys.path.insert(0, str(HERE))
    import exported

    files = exported.sklearn_files(tmp_path) if exporter == "sklearn" else exported.torch_files(exporter == "new", tmp_path)
    for _, path in files:
        compare(path)


# ---- files of bp.export ----


def written(net, votes=None, *, changed=False, **options) -> bytes:
    """changed: as if another program had changed the operators, so that they are read one by one."""
    data = write.onnx_bytes(net, None, votes, **{"raw": False, "fold": False, "name": "model"} | options)
    assert b"microbp.nodes" in data
    return data.replace(b"microbp.nodes", b"microbp.nodez") if changed else data


@pytest.mark.parametrize("shape", graphs.SHAPES)
def test_own_files_come_back_to_the_bit(shape, dtype):
    random = np.random.default_rng(0)
    net = graphs.network(shape, dtype=dtype)
    for view in net.tensors.values():
        view += 0.1 * random.random(view.shape)
    net.notes = {"columns": ["a", "b"]}
    net.freeze(net.layers[0].name)
    net.set_output(0, "sigmoid")
    again = bp.from_onnx(written(net))
    assert again.text() == net.text() and again.seed == net.seed and again.notes == net.notes and again.dtype == net.dtype
    assert all((again.tensors[name] == view).all() for name, view in net.tensors.items())
    x = graphs.rows_of(net, 5)
    expected = listed(net.predict(x))
    assert all(map(np.array_equal, listed(again.predict(x)), expected))
    foreign = bp.from_onnx(written(net, changed=True))
    assert all(map(np.array_equal, listed(foreign.predict(x)), expected))
    if shape != "standardized":  # where a layer is used again after one that is not: its name is in one of them
        assert {*foreign.tensors} == {*net.tensors}


def test_raw_files_and_scaled_targets():
    net = bp.mlp([3, 4, 2], seed=0)
    net.set_output(0, "identity", mean=[1.0, 2.0], std=[3.0, 4.0])
    x = np.ones((2, 3))
    again, raw = bp.from_onnx(written(net)), bp.from_onnx(written(net, raw=True))
    assert (again.predict(x) == net.predict(x)).all() and again.outputs == net.outputs
    assert (raw.predict(x) == net.predict(x, raw=True)).all() and raw.outputs[0].activation is None
    assert np.allclose(bp.from_onnx(written(net, changed=True)).predict(x), net.predict(x), rtol=1e-6)


def test_an_ensemble_comes_back():
    ensemble = bp.Ensemble([bp.mlp([3, 4, 2], seed=seed) for seed in range(3)], weights=[1, 0, 3])
    ensemble.notes = {"by": "me"}
    net, votes = together(ensemble)
    again = bp.from_onnx(written(net, votes))
    assert isinstance(again, bp.Ensemble) and again.notes == ensemble.notes and len(again) == 2
    assert [one.text() for one in again] == [ensemble[0].text(), ensemble[2].text()]
    assert (again.predict(np.ones((2, 3))) == ensemble.predict(np.ones((2, 3)))).all()


@pytest.mark.parametrize("command", ["predict", "info"])
def test_the_command_line_takes_a_file_of_a_table(command, tmp_path, capsys):
    from microbp.cli.main import main

    table = {"size": np.arange(40.0), "kind": ["a", "b"] * 20, "price": np.arange(40.0) * 2}
    model = bp.fit_table(table, "price", epochs=2, seed=0)
    net, votes = together(model.net)
    (tmp_path / "m.onnx").write_bytes(write.onnx_bytes(net, model.preparation, votes, raw=False, fold=False, name="model"))
    model.save(tmp_path / "m.safetensors")
    (tmp_path / "d.csv").write_text("size,kind\n3,a\n5,b\n", "utf-8")
    texts = []
    for name in ("m.onnx", "m.safetensors"):
        assert main([command, str(tmp_path / name), *([str(tmp_path / "d.csv")] if command == "predict" else [])]) == 0
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[1] if command == "predict" else "predicts price" in texts[0]


# ---- operators one by one, as onnx computes them ----


def model_of(nodes, shape, *, opset=20, output=None, constants=None, kind=TensorProto.FLOAT, out_shape=(None, None)):
    """A model with the input "x" and the output "y"."""
    initializers = [numpy_helper.from_array(np.asarray(values), name) for name, values in (constants or {}).items()]
    ends = [helper.make_tensor_value_info("x", kind, ["rows", *shape])], [helper.make_tensor_value_info("y", kind, out_shape)]
    graph = helper.make_graph(nodes, "g", *ends, initializers)
    domains = [helper.make_opsetid("", opset), helper.make_opsetid("ai.onnx.ml", 3)]
    return helper.make_model(graph, opset_imports=domains, ir_version=9)


def node(kind, inputs, output="y", **attributes):
    return helper.make_node(kind, inputs.split(), output.split(), name=f"n_{kind}", **attributes)


RNG = np.random.default_rng(0)
W = RNG.normal(size=(4, 3)).astype(np.float32)
ROW = np.arange(1, 4, dtype=np.float32)
I64 = np.int64
# nodes, the shape of a row, constants
CASES = {
    "Gemm alpha beta": ([node("Gemm", "x w b", alpha=0.5, beta=2.0, transB=1)], (3,), {"w": W, "b": W[:, 0].copy()}),
    "Gemm scalar bias": ([node("Gemm", "x w b")], (3,), {"w": W.T.copy(), "b": np.float32([2])}),
    "MatMul at positions": ([node("MatMul", "x w")], (5, 3), {"w": W.T.copy()}),
    "Add vector": ([node("Add", "c x")], (3,), {"c": ROW}),
    "Sub vector": ([node("Sub", "c x")], (3,), {"c": ROW}),
    "Mul Add": ([node("Mul", "x c", "z"), node("Add", "z c")], (3,), {"c": ROW}),
    "Sub Div": ([node("Sub", "x c", "z"), node("Div", "z c")], (3,), {"c": ROW}),
    "Div vector": ([node("Div", "x c")], (3,), {"c": ROW}),
    "affine": ([node("Sub", "c x", "z"), node("Div", "z c")], (3,), {"c": np.float32(4)}),
    "positional": ([node("Add", "x c")], (2, 3), {"c": RNG.normal(size=(2, 3)).astype(np.float32)}),
    "erf half inside": (
        [node("Mul", "x h", "z"), node("Mul", "x r", "s"), node("Erf", "s", "e"), node("Add", "o e", "a"), node("Mul", "z a")],
        (3,),
        {"h": np.float32(0.5), "r": np.float32(math.sqrt(0.5)), "o": np.float32(1)},
    ),
    "erf half outside": (
        [node("Div", "x r", "s"), node("Erf", "s", "e"), node("Add", "e o", "a"), node("Mul", "x a", "m"), node("Mul", "m h")],
        (3,),
        {"h": np.float32(0.5), "r": np.float32(math.sqrt(2)), "o": np.float32(1)},
    ),
    "hard sigmoid by Clip": (
        [node("Add", "x t", "a"), node("Clip", "a l u", "c"), node("Div", "c u")],
        (3,),
        {"t": np.float32(3), "l": np.float32(0), "u": np.float32(6)},
    ),
    "HardSigmoid": ([node("HardSigmoid", "x")], (3,), {}),
    "Clip relu": ([node("Clip", "x l")], (3,), {"l": np.float32(0)}),
    "Pow": ([node("Pow", "x t")], (3,), {"t": np.float32(2)}),
    "Neg Abs Sin Cos": ([node("Neg", "x", "a"), node("Abs", "a", "b"), node("Sin", "b", "c"), node("Cos", "c")], (3,), {}),
    "one weight both ways": (
        [node("Gemm", "x w", "a", transB=1), node("Gemm", "a w", "b"), node("Gemm", "b w", alpha=2.0)], (3,), {"w": W[:3].copy()},
    ),
    "Sum with a vector": ([node("Sum", "x c")], (3,), {"c": ROW}),
    "Sum": ([node("Sum", "x x x")], (3,), {}),
    "Flatten channels first": ([node("Conv", "x w", "c"), node("Flatten", "c", "f"), node("MatMul", "f m")], (2, 4, 4),
                               {"w": RNG.normal(size=(3, 2, 2, 2)).astype(np.float32), "m": RNG.normal(size=(27, 2)).astype(np.float32)}),
    "same pads": ([node("Conv", "x w", auto_pad="SAME_UPPER")], (2, 5), {"w": RNG.normal(size=(3, 2, 3)).astype(np.float32)}),
    "bias by Add": ([node("Conv", "x w", "c"), node("Add", "c b")], (2, 5),
                    {"w": RNG.normal(size=(3, 2, 3)).astype(np.float32), "b": W[:3, :1].copy()}),
    "ReduceMax": ([node("Conv", "x w", "c"), node("ReduceMax", "c a", keepdims=0)], (2, 5),
                  {"w": RNG.normal(size=(3, 2, 3)).astype(np.float32), "a": I64([2])}),
    "BatchNormalization at positions": ([node("BatchNormalization", "x a b m v")], (3, 4), {"a": ROW, "b": ROW, "m": ROW, "v": ROW}),
    "LayerNormalization of all": (
        [node("LayerNormalization", "x a", axis=1)], (2, 3), {"a": RNG.normal(size=(2, 3)).astype(np.float32)},
    ),
    "Slice": ([node("Slice", "x a b c")], (5, 3), {"a": I64([1, -2]), "b": I64([9, 3]), "c": I64([1, 2])}),
    "Split Concat": ([node("Split", "x s", "a b", axis=1), node("Concat", "b a", axis=-1)], (5,), {"s": I64([2, 3])}),
    "Concat of both probabilities": (
        [node("Sigmoid", "x", "s"), node("Sub", "o s", "n"), node("Concat", "n s", axis=1)], (1,), {"o": np.float32(1)},
    ),
    "Concat of positions": ([node("Slice", "x s e o", "a"), node("Concat", "a x", axis=1)], (4, 2),
                            {"s": I64([1]), "e": I64([3]), "o": I64([1])}),
    "Gather a position": ([node("Gather", "x i", axis=1)], (5, 3), {"i": I64(2)}),
    "Gather from columns": ([node("Gather", "x i", axis=2)], (5, 3), {"i": I64([1])}),
    "Reshape and back": ([node("Reshape", "x a", "z"), node("MatMul", "z w", "m"), node("Reshape", "m b")], (2, 6),
                         {"a": I64([0, -1, 3]), "b": I64([-1, 16]), "w": W.T.copy()}),
    "Transpose and back": (
        [node("Transpose", "x", "z", perm=[0, 2, 1]), node("Relu", "z", "r"), node("Transpose", "r", perm=[0, 2, 1])], (2, 6), {},
    ),
    "Expand with -1": (  # as the older exporter of PyTorch writes x.unsqueeze(1).expand(-1, 4, -1)
        [node("Unsqueeze", "x a", "z"), node("Equal", "s m", "c"), node("Where", "c o s", "t"), node("Expand", "z t", "e"),
         node("Relu", "e")],
        (3,), {"a": I64([1]), "s": I64([-1, 4, -1]), "m": I64([-1, -1, -1]), "o": I64([1, 1, 1])},
    ),
    "Unsqueeze Expand": ([node("Unsqueeze", "x a", "z"), node("Expand", "z s", "e"), node("MatMul", "e w")], (3,),
                         {"a": I64([1]), "s": I64([1, 4, 1]), "w": W.T.copy()}),
    "ReduceMean": ([node("ReduceMean", "x a", keepdims=0)], (5, 3), {"a": I64([1])}),
    "Squeeze": ([node("Squeeze", "x a")], (1, 3), {"a": I64([1])}),
    "PRelu": ([node("PRelu", "x s")], (3,), {"s": np.float32([0.5])}),
    "Cast Identity Dropout": ([node("Cast", "x", "a", to=1), node("Identity", "a", "b"), node("Dropout", "b")], (3,), {}),
    "Scaler": ([helper.make_node("Scaler", ["x"], ["y"], domain="ai.onnx.ml", offset=[1.0, 2, 3], scale=[2.0, 4, 0.5])], (3,), {}),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_an_operator_computes_what_onnx_does(name):
    nodes, shape, constants = CASES[name]
    proto = model_of(nodes, shape, constants=constants)
    x = RNG.normal(size=(3, *shape)).astype(np.float32)
    expected = ReferenceEvaluator(proto).run(None, {"x": x})[0]
    first = any(one.op_type in ("Conv", "BatchNormalization") for one in nodes)
    found = bp.from_onnx(proto.SerializeToString()).predict(np.moveaxis(x, 1, -1) if first else x)
    if first and expected.ndim > 2:
        expected = np.moveaxis(expected, 1, -1)
    expected = expected.reshape(found.shape)
    assert np.abs(found - expected).max() <= BOUND * max(1, np.abs(expected).max())


def test_old_versions_have_attributes_where_new_ones_have_operands():
    nodes = [
        node("Slice", "x", "a", starts=[0], ends=[2], axes=[1]),
        node("Unsqueeze", "a", "b", axes=[1]),
        node("Squeeze", "b", "c", axes=[1]),
        node("Clip", "c", "d", min=0.0),
        node("Constant", "", "k", value=numpy_helper.from_array(np.float32([2, 3]))),
        node("Mul", "d k"),
    ]
    net = bp.from_onnx(model_of(nodes, (3,), opset=9).SerializeToString())
    assert net.predict([[1.0, -1.0, 5.0], [2.0, 3.0, 4.0]]).tolist() == [[2, 0], [4, 9]]


@pytest.mark.parametrize("kind", [TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16])
def test_dtypes(kind):
    values = [0.5, -2.0, 3.0]
    weight = helper.make_tensor("w", kind, (3, 1), values)
    graph = helper.make_graph(
        [node("MatMul", "x w")],
        "g",
        *([helper.make_tensor_value_info(name, kind, [None, size])] for name, size in (("x", 3), ("y", 1))),
        [weight],
    )
    net = bp.from_onnx(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)]).SerializeToString())
    assert net.dtype == (np.float64 if kind == TensorProto.DOUBLE else np.float32)
    assert net.tensors["dense_0.weight"].tolist() == [values]


def test_an_output_may_be_listed_twice():
    proto = model_of([node("Relu", "x")], (3,))
    proto.graph.output.append(proto.graph.output[0])
    first, second = bp.from_onnx(proto.SerializeToString()).predict([[1.0, -1.0, 5.0]])
    assert first.tolist() == second.tolist() == [[1, 0, 5]]


# ---- what is refused ----

REFUSED = {
    "relu6": ([node("Clip", "x l u")], {"l": np.float32(0), "u": np.float32(6)}, "limit numbers to the range 0.0 to 6.0"),
    "unknown": ([node("Frobnicate", "x", "z"), node("Relu", "z")], {}, "node 0 ('n_Frobnicate', operator Frobnicate) is not supported"),
    "unknown, second output": ([node("Frobnicate", "x", "a b"), node("Relu", "b")], {}, "node 0 ('n_Frobnicate', operator Frobnicate) is"),
    "unknown, then moved": (
        [node("Frobnicate", "x", "z"), node("Squeeze", "z a")],
        {"a": I64([1])},
        "node 0 ('n_Frobnicate', operator Frobnicate) is not supported",
    ),
    "erf alone": ([node("Erf", "x")], {}, "operator Erf) is not supported: microbp has it only as a part of gelu"),
    "tanh gelu": ([node("Gelu", "x", approximate="tanh")], {}, "only the exact gelu"),
    "softmax inside": ([node("Softmax", "x", "z"), node("Gemm", "z w")], {"w": np.eye(3, dtype=np.float32)}, "softmax only at the end"),
    "values multiplied": ([node("MatMul", "x x")], {}, "cannot multiply values as matrices"),
    "wrong widths": ([node("MatMul", "x w")], {"w": np.eye(4, dtype=np.float32)}, "its weight has 4 inputs"),
    "rows joined": ([node("Concat", "x x", axis=0)], {}, "axis 0 has rows"),
    "rows in columns": ([node("Reshape", "x s")], {"s": I64([-1, 1])}, "mixes rows with columns"),
    "missing operand": ([node("Add", "x w")], {}, "its operand 'w' is not a value before it"),
    "name twice": ([node("Relu", "x", "y"), node("Tanh", "x", "y")], {}, "two values have the name 'y'"),
    "mean of rows": ([node("ReduceMean", "x")], {}, "means only of all positions"),
    "label alone": ([node("ArgMax", "x", axis=1)], {}, "it makes labels of probabilities"),
    "constant output": ([node("Identity", "w")], {"w": W}, "output 'y' does not depend on the inputs"),
    "state of another width": (
        [node("Unsqueeze", "x a", "t"), helper.make_node("LSTM", ["t", "w", "r", "", "", "h"], ["y"], "n_LSTM", hidden_size=2)],
        {"w": np.zeros((1, 8, 3), np.float32), "r": np.zeros((1, 8, 2), np.float32), "h": np.ones((1, 1, 4), np.float32), "a": I64([0])},
        "its states before the first position must have 2 columns",
    ),
    "division by 0": ([node("Div", "x w")], {"w": np.float32([1, 0, 2])}, "it divides by 0"),
    "other domain": ([helper.make_node("Attention", ["x"], ["y"], domain="com.microsoft")], {}, "operator com.microsoft.Attention)"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_microbp_does_not_have_is_named(name):
    nodes, constants, text = REFUSED[name]
    with pytest.raises(ValueError, match="^from_onnx: ") as caught:
        bp.from_onnx(model_of(nodes, (3,), constants=constants).SerializeToString())
    assert text in str(caught.value)


def test_subgraphs_external_data_and_free_sizes_are_refused(tmp_path):
    inner = helper.make_graph([node("Relu", "x")], "g", [], [helper.make_tensor_value_info("y", 1, [None])])
    proto = model_of([node("If", "x", then_branch=inner, else_branch=inner)], (3,))
    with pytest.raises(ValueError, match="node 0: the attribute '(then|else)_branch' is a graph; If, Loop and Scan are not supported"):
        bp.from_onnx(proto.SerializeToString())
    proto = model_of([node("MatMul", "x w")], (3,), constants={"w": W.T.copy()})
    onnx.external_data_helper.set_external_data(proto.graph.initializer[0], "w.bin")
    with pytest.raises(ValueError, match=r"initializer 0 \('w'\): its numbers are in another file"):
        bp.from_onnx(proto.SerializeToString())
    with pytest.raises(ValueError, match="input 'x' has the shape"):
        bp.from_onnx(model_of([node("Relu", "x")], ("length", 3)).SerializeToString())
    path = tmp_path / "other.onnx"
    path.write_bytes(b"no")
    with pytest.raises(ValueError, match=r"^from_onnx: .*other.onnx: model: "):
        bp.from_onnx(path)
    with pytest.raises(FileNotFoundError):
        bp.from_onnx(tmp_path / "none.onnx")
    with pytest.raises(TypeError):
        bp.from_onnx(3)


def test_no_operator_has_two_readers():
    tables = [elementwise.READERS, layers.READERS, views.READERS, views.VIEWS, views.LABELS]
    assert len({name for table in tables for name in table}) == sum(map(len, tables))
