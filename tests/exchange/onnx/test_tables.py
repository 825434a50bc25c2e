"""Models of tables as ONNX: raw columns in, the features of the preparation inside, classes or numbers out."""

from __future__ import annotations

import datetime
import json
import warnings
from dataclasses import replace

import numpy as np
import pytest

import microbp as bp
from microbp.exchange.onnx.write import onnx_bytes
from microbp.exchange.shared.together import together
from microbp.tables.encodings.encoding import Encoding
from microbp.tables.encodings.sparse_columns import SparseColumns
from microbp.tables.encodings.target import Target
from microbp.tables.preparation import find_target, prepare
from microbp.tables.readers.table import Table

onnx = pytest.importorskip("onnx", reason="onnx is not installed")
ort = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")

ROWS = 240
RANDOM = np.random.default_rng(3)


def texts(values):
    return np.array([value or None for value in values], dtype=object)


COLUMNS = {
    "large": 1.6e9 + RANDOM.integers(0, 1000, ROWS),
    "gaps": np.where(RANDOM.random(ROWS) < 0.2, np.nan, RANDOM.normal(size=ROWS)),
    "two": RANDOM.integers(0, 2, ROWS).astype(float),
    "colour": texts(RANDOM.choice(["red", "blue", "", "green"], ROWS)),
    "yes/no": texts(RANDOM.choice(["y", "n"], ROWS)),
    "code": texts(RANDOM.choice(["1", "1.5", "x", "2e3"], ROWS)),
    "label": texts(RANDOM.choice([f"v{i}" for i in range(12)], ROWS)),
}
NUMBERS = ("large", "gaps", "two")
NEW = {  # what training did not have
    "large": [1.6e9, 0, np.nan, -1e30],
    "gaps": [np.nan, 1e9, -7, 0],
    "two": [0.5, np.nan, 1, 0],
    "colour": ["pink", "", "NA", "red"],
    "yes/no": ["y", "", "maybe", "n"],
    "code": ["1.0", "2000", "NaN", "1.5"],
    "label": ["v3", "", "w", "v11"],
}
ENCODINGS = {
    "plain": Encoding(),
    "bins": Encoding(bins=6, clip=True),
    "few levels": Encoding(levels=2),
    "embedded": Encoding(bins=3, levels=4, embedded=3, clip=True),
}


def prepared(encoding, y, columns=None):
    table = Table("t", {**(columns or COLUMNS), "y": y}, ROWS)
    return prepare([table], find_target([table], "y"), encoding=encoding)


def feeds(columns):
    return {
        name: np.array(values, np.float64)[:, None]
        if name in NUMBERS
        else np.array([value or "" for value in values], dtype=object)[:, None]
        for name, values in columns.items()
    }


def session(net, preparation, *, raw=False, votes=None):
    data = onnx_bytes(net, preparation, votes, raw=raw, fold=False, name="table")
    model = onnx.load_from_string(data)
    onnx.checker.check_model(model, full_check=True)
    return ort.InferenceSession(data, providers=["CPUExecutionProvider"]), {one.key: one.value for one in model.metadata_props}


def network(preparation, outputs):
    """A network that reads all inputs of the preparation."""
    nodes = [bp.Input(columns) if levels is None else bp.Ids(columns, levels) for columns, levels in preparation.inputs]
    read = [bp.Embedding(node.levels, 3)(node) if isinstance(node, bp.Ids) else node for node in nodes]
    return bp.Network(nodes, [bp.Dense(outputs)(bp.concat(read))], seed=0)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_the_features_of_raw_columns_are_those_of_the_table(encoding):
    preparation = prepared(ENCODINGS[encoding], RANDOM.normal(size=ROWS))
    assert any(one.embedded for one in preparation.features if hasattr(one, "embedded")) == (encoding == "embedded")
    nodes = [bp.Input(columns) if levels is None else bp.Ids(columns, levels) for columns, levels in preparation.inputs]
    ids = [bp.Embedding(node.levels, 1, init=np.arange(node.levels)[:, None])(node) for node in nodes[1:]]
    net = bp.Network(nodes, bp.concat([nodes[0], *ids]), seed=0)
    runs, metadata = session(net, preparation, raw=True)
    assert json.loads(metadata["microbp.inputs"])[0] == "features"
    for columns in (COLUMNS, NEW):
        table = Table("u", {name: np.array(v, float) if name in NUMBERS else texts(v) for name, v in columns.items()}, len(columns["two"]))
        used = {one.name for one in runs.get_inputs()}
        (found,) = runs.run(None, {name: values for name, values in feeds(columns).items() if name in used})
        np.testing.assert_array_equal(found, preparation.matrix(table))


@pytest.mark.parametrize(("classes", "kind"), [(["a", "b", "c"], object), ([7, 10, 2], np.int64), ([False, True], bool)])
@pytest.mark.parametrize("activation", ["softmax", "identity"])
def test_classes_are_labels_and_probabilities(classes, kind, activation):
    values = RANDOM.choice(len(classes), ROWS)
    y = texts([str(classes[value]) for value in values]) if kind is not np.int64 else np.array(classes, float)[values]
    preparation = prepared(Encoding(), y)
    net = network(preparation, len(classes))
    net.set_output(0, activation)
    runs, _ = session(net, preparation)
    assert [end.name for end in runs.get_outputs()] == ["label_", "probabilities" if activation == "softmax" else "scores"]
    label, outputs = runs.run(None, feeds(COLUMNS))
    expected = net.predict(preparation.matrix(Table("u", dict(COLUMNS), ROWS)))
    np.testing.assert_allclose(outputs, expected, atol=2e-6)
    assert label.dtype == kind and label.shape == (ROWS,)
    assert label.tolist() == [preparation.target.labels[i] for i in outputs.argmax(axis=1)]


@pytest.mark.parametrize("target", [Target("y", (), 5, 2), Target("y", (), 1, 0.5, True, 2, 9, 1.1), Target("y", (), 3, 2, low=1, high=4)])
def test_numbers_are_in_the_unit_of_the_target(target):
    preparation = replace(prepared(Encoding(), RANDOM.normal(size=ROWS)), target=target)
    net = network(preparation, 1)
    runs, _ = session(net, preparation)
    (found,) = runs.run(["number"], feeds(COLUMNS))
    expected = target.numbers(net.predict(preparation.matrix(Table("u", dict(COLUMNS), ROWS))))
    assert found.shape == (ROWS, 1) and found.dtype == np.float64
    np.testing.assert_allclose(found, expected, rtol=2e-6, atol=2e-6)


def test_a_trained_model_predicts_the_same():
    table = {name: values.tolist() for name, values in COLUMNS.items()}
    y = ["up" if a + (b == "red") > 1 else "down" for a, b in zip(table["two"], table["colour"], strict=True)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = bp.fit_table(table | {"y": y}, target="y", epochs=2, ensemble=2)
        expected, shares = model.predict(table), model.predict_proba(table)
    net, votes = together(model.net)
    runs, metadata = session(net, model.preparation, votes=votes)
    assert json.loads(metadata["microbp.votes"]) == votes
    label, probabilities = runs.run(None, {name: values for name, values in feeds(table).items() if name in model.columns})
    np.testing.assert_allclose(probabilities, shares, atol=2e-6)
    assert label.tolist() == expected.tolist()


def test_infinities_and_words_for_missing_numbers_are_gaps():
    x = np.where(RANDOM.random(ROWS) < 0.2, -999, RANDOM.normal(size=ROWS))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = bp.fit_table({"x": x, "y": np.where(x > 0, "a", "b")}, target="y", missing="-999", epochs=1, ensemble=1)
        new = np.array([-999, np.inf, -np.inf, 1e40, np.nan, 3e38, -998])
        expected = model.predict_proba({"x": new})
    runs, _ = session(model.net, model.preparation)
    np.testing.assert_allclose(runs.run(["probabilities"], {"x": new[:, None]})[0], expected, atol=2e-6)
    assert np.ptp(expected[:5]) < np.ptp(expected) and (expected[:5] == expected[0]).all()


def test_columns_without_a_form_in_onnx_are_refused_by_name():
    y, write = RANDOM.normal(size=ROWS), r".*write the network without .*: bp.export\(model.net, path\)"
    many = texts(RANDOM.choice([f"w{i}" for i in range(90)], ROWS))
    hashed = prepared(Encoding(levels=3, hashed=4), y, {"words": many, "a": COLUMNS["large"]})
    days = [datetime.date(2024, 1, 1) + datetime.timedelta(int(i)) for i in RANDOM.integers(0, 90, ROWS)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dates = bp.fit_table({"when": days, "y": y.tolist()}, target="y", epochs=1, ensemble=1).preparation
    sparse = replace(hashed, features=(), sparse=SparseColumns(5, 0, 3.0))
    for preparation, what in (
        (hashed, "column words has hashed texts"),
        (dates, "column when has dates"),
        (sparse, "sparse rows have no form"),
    ):
        with pytest.raises(ValueError, match=f"to ONNX: .*{what}{write}"):
            onnx_bytes(network(preparation, 1), preparation, None, raw=False, fold=False, name="table")


@pytest.mark.parametrize(("name", "raw"), [("output", True), ("number", False)])
def test_an_output_has_another_name_than_the_columns(name, raw):
    preparation = prepared(Encoding(), RANDOM.normal(size=ROWS), {name: COLUMNS["large"]})
    runs, _ = session(network(preparation, 1), preparation, raw=raw)
    assert ([end.name for end in runs.get_inputs()], [end.name for end in runs.get_outputs()]) == ([name], [f"{name}_"])


@pytest.mark.parametrize("name", ["dense_0.weight", "columns/Where", "constant/0"])
def test_a_column_with_the_name_of_a_tensor_is_refused(name):
    preparation = prepared(Encoding(), RANDOM.normal(size=ROWS), {name: COLUMNS["large"], "a": COLUMNS["two"]})
    with pytest.raises(ValueError, match=f"to ONNX: column {name} has the name of a tensor in the file; rename it"):
        session(network(preparation, 1), preparation)
