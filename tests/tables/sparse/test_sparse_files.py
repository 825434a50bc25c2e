"""libsvm text and sparse .npz: at once, in chunks, as tables; models of sparse rows."""

from __future__ import annotations

import gzip
import tracemalloc
import zipfile
from datetime import timedelta

import numpy as np
import pytest

import microbp as bp
from microbp.core.checks import file_path
from microbp.tables.readers import array_files


def text_of(x, y, first=1, gaps=""):
    """Rows as libsvm text, whose indices begin at `first`."""
    lines = []
    for row, label in zip(x, y, strict=True):
        pairs = " ".join(f"{i + first}:{float(row[i])!r}" for i in np.flatnonzero(row))
        lines.append(f"{float(label)!r} {pairs}{gaps}\n")
    return "".join(lines)


def rows(seed=0, count=300, width=50, density=0.1):
    random = np.random.default_rng(seed)
    x = np.where(random.random((count, width)) < density, random.normal(size=(count, width)).astype(np.float32), 0).astype(np.float32)
    x[0, 0] = x[0, -1] = 1
    return x, np.where(x @ np.linspace(-1, 1, width) > 0, 1.0, -1.0)


X, Y = rows()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


# ---- reading ----


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("block", [1, 100, 1 << 20])
@pytest.mark.parametrize("gaps", ["", " # a comment\n\n"])
@pytest.mark.parametrize("name", ["t.svm", "t.svm.gz", "t"])
def test_text_is_read_as_it_was_written(folder, monkeypatch, first, block, gaps, name):
    monkeypatch.setattr(array_files, "_BLOCK", block)
    text = text_of(X, Y, first, gaps).encode()
    (folder / name).write_bytes(gzip.compress(text) if name.endswith("gz") else text)
    x, y = bp.read_sparse(name)
    assert np.array_equal(x.toarray(), X) and np.array_equal(y, Y) and x.dtype == np.float32 and x.indices.dtype == np.int32
    assert np.array_equal(bp.read_sparse(name, columns=70, zero_based=first == 0)[0].toarray(), np.pad(X, ((0, 0), (0, 20))))
    for count in (1, 7, 300, 1000):
        chunks = bp.SparseChunks(file_path(name), count)
        for _ in range(2):  # each loop starts again
            found = list(chunks)
            assert [len(one) for _, one in found] == [min(count, 300 - at) for at in range(0, 300, count)]
            assert np.array_equal(np.concatenate([one.toarray() for one, _ in found]), X)
            assert np.array_equal(np.concatenate([one for _, one in found]), Y) and chunks.columns == 50


def test_odd_lines(folder):
    (folder / "t.svm").write_text("# head\n+1 qid:3 5:1 2:2 # sorted\n2:7\nqid:4 1:1\n-0.5\t3:-1e-3 \r\n0\n1 2:nan")
    x, y = bp.read_sparse("t.svm")
    dense = [[0, 2, 0, 0, 1], [0, 7, 0, 0, 0], [1, 0, 0, 0, 0], [0, 0, np.float32(-1e-3), 0, 0], [0] * 5, [0, np.nan, 0, 0, 0]]
    assert np.array_equal(x.toarray(), dense, equal_nan=True)
    assert np.array_equal(y, [1, np.nan, np.nan, -0.5, 0, 1], equal_nan=True)
    (folder / "t.svm").write_text("1:2\n2:7\n")
    assert bp.read_sparse("t.svm")[1] is None
    (folder / "t.svm").write_text("1 4294967296:2\n")
    assert bp.read_sparse("t.svm")[0].shape == (1, 2**32) and bp.read_sparse("t.svm")[0].indices.dtype == np.int64


@pytest.mark.parametrize(
    ("text", "settings", "expected"),
    [
        ("1 1:2\n\n1 2:3 7:1 2:4\n", {}, "t.svm, line 3: index 2 has two values; remove one"),
        ("1 1:2\n1 2:3x\n", {}, "t.svm, line 2: '3x' is not a number"),
        ("1 1:2\nred 2:3\n", {}, "t.svm, line 2: 'red' is not a number"),
        ("1,2 1:2\n", {}, "t.svm, line 1: '1,2' is not a number"),
        ("1 1:2:3\n", {}, "t.svm, line 1: '1 1:2:3' is not in the format `label index:value ...`"),
        ("1 1:2\n1 3:\n", {}, "t.svm, line 2: '1 3:' is not in the format"),
        ("1 -1:2\n", {}, "t.svm, line 1: an index is negative"),
        ("1 99999999999999999999:2\n", {}, r"t.svm, line 1: an index is too large; it must be below 2\*\*53"),
        ("1 1:2\n0 9:1\n", {"columns": 8}, "t.svm, row 1: the index 9 is not in 1 to 8, for columns=8 and zero_based=False"),
        ("1 0:2\n0 9:1\n", {"zero_based": False}, "t.svm, row 0: the index 0 is not in 1 to 9, for columns=9 and zero_based=False"),
        ("1 1:2\n", {"columns": 0}, "columns must be at least 1, not 0"),
        ("# nothing\n", {}, "t.svm: the file has no"),
        ("1\n0\n", {}, "t.svm: the file has no values, so columns is unknown: pass columns"),
    ],
)
def test_wrong_text_is_refused(folder, text, settings, expected):
    (folder / "t.svm").write_text(text)
    for read in (lambda: bp.read_sparse("t.svm", **settings), lambda: list(bp.SparseChunks("t.svm", **settings))):
        with pytest.raises(ValueError, match=f"^{expected}"):
            read()


def test_matrices_of_scipy(folder):
    sparse = pytest.importorskip("scipy.sparse", reason="SciPy is not installed")
    for kind in (sparse.csr_matrix, sparse.csc_array):
        sparse.save_npz("t.npz", kind(X))
        x, y = bp.read_sparse("t.npz")
        assert y is None and np.array_equal(x.toarray(), X)
        assert bp.read_sparse("t.npz", columns=60)[0].shape == (300, 60)
    sparse.save_npz("t.npz", sparse.coo_matrix(X))
    with pytest.raises(ValueError, match=r"^t.npz: is a sparse matrix in the format 'coo'; save it as CSR"):
        bp.read_sparse("t.npz")
    arrays = {
        "format": np.array(b"csr"),
        "shape": np.array([2, 3]),
        "data": np.ones(2),
        "indices": np.array([0, 3]),
        "indptr": np.array([0, 1, 2]),
    }
    for wrong, text in (
        ({}, "the column 3 is not in 0 to 2"),
        ({"shape": np.array([2.0, 3])}, "shape is missing"),
        ({"data": None}, "data is"),
    ):
        np.savez("t.npz", **{name: value for name, value in (arrays | wrong).items() if value is not None})
        with pytest.raises(ValueError, match=rf"^t.npz: is .*{text}"):
            bp.read_sparse("t.npz")
    with zipfile.ZipFile("t.npz", "w") as archive, archive.open("data.npy", "w") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f8", "fortran_order": False, "shape": (2**58,)})
    with pytest.raises(MemoryError, match=r"^t.npz: its arrays do not fit in memory, or it is damaged: "):
        bp.read_sparse("t.npz")
    np.savez("t.npz", x=X)
    with pytest.raises(ValueError, match=r"^t.npz: contains x, not a sparse matrix"):
        bp.read_sparse("t.npz")


def test_other_files_are_refused(folder):
    (folder / "t.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match="is no libsvm text; its lines must be `label index:value ...`; for tables, use bp.fit_table"):
        bp.read_sparse("t.csv")
    with pytest.raises(OSError, match=r"none.svm"):
        bp.read_sparse("none.svm")


def test_memory_is_proportional_to_the_values(folder):
    """0.4 MB of text whose dense rows would take 33 GB."""
    random = np.random.default_rng(0)
    lines = [f"{i % 2} " + " ".join(f"{c}:1" for c in np.sort(random.choice(2_000_000, 10, False))) for i in range(4000)]
    (folder / "t.svm").write_text("\n".join(lines))
    tracemalloc.start()
    x, _ = bp.read_sparse("t.svm")
    size = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(x.data) == 40_000 and size < 40e6


# ---- training ----


def test_chunks_train_as_the_whole_file(folder):
    (folder / "t.svm").write_text(text_of(X, Y))
    x, y = bp.read_sparse("t.svm")
    a, b, c = (bp.Trainer(bp.mlp([50, 8, 1], seed=0), "mse", bp.SGD(lr=0.05)) for _ in range(3))
    a.fit(x, y, epochs=3, batch_size=32, shuffle=False)
    b.fit(bp.SparseChunks("t.svm", 70), epochs=3, batch_size=32, shuffle=False)
    c.fit(lambda: iter(bp.SparseChunks("t.svm", 70)), epochs=3, batch_size=32, shuffle=False)
    assert a.net.params.tobytes() == b.net.params.tobytes() == c.net.params.tobytes()
    with pytest.raises(ValueError, match="iterator can be read only once"):
        a.fit(iter(bp.SparseChunks("t.svm", 70)), epochs=2)


@pytest.mark.parametrize("kind", ["sparse", "dense"])
@pytest.mark.parametrize("stream", [False, True])
def test_max_time_stops_between_batches(kind, stream):
    x, y = rows(1, 4000, 200)
    if kind == "sparse":
        sparse = pytest.importorskip("scipy.sparse", reason="SciPy is not installed")
        x = sparse.csr_array(x)
    for budget in (0.2, timedelta(seconds=0.2)):
        t = bp.Trainer(bp.mlp([200, 300, 300, 1], seed=0), "mse", "adam")
        history = t.fit(*(([(x, y)],) if stream else (x, y)), epochs=10**6, batch_size=4, max_time=budget)
        assert 0.2 <= sum(history["seconds"]) < 2 and t.steps > 0


# ---- tables ----

SCALED = X * np.linspace(0.01, 30, 50, dtype=np.float32)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("x", "text"), [((X != 0).astype(np.float32), "as they are"), (SCALED, "divided by powers of two")])
def test_a_model_of_sparse_rows(folder, x, text, stream):
    y = np.where(x @ np.linspace(-1, 1, 50) > 0, 1.0, -1.0)
    (folder / "t.svm").write_text(text_of(x, y))
    (folder / "new.svm").write_text(text_of(np.pad(x, ((0, 0), (0, 9))), y) + "1 60:5\n")
    model = bp.fit_table("t.svm", net="x-16-y", epochs=20, stream=stream, budget="fast")
    assert "from 50 sparse columns, " in model.report and text in model.report and model.target == "label" and model.classes == (-1, 1)
    model.save("m.safetensors")
    again = bp.load_table("m.safetensors")
    known = model.predict("t.svm")
    assert (known == y).mean() > 0.8 and again.preparation == model.preparation
    with pytest.warns(UserWarning, match=r"values that training did not have: columns \(1\)"):
        assert np.array_equal(again.predict("new.svm")[:300], known)
    assert model.evaluate("t.svm")["accuracy"] == (known == y).mean()
    assert model.features("t.svm").shape == (300, 51)
    (folder / "few.svm").write_text("1:0.001\n2:0.001\n")
    assert again.predict("few.svm").shape == (2,)
    with pytest.raises(ValueError, match="has named columns, but the model was trained on sparse rows"):
        model.predict({"a": [1, 2], "b": [3, 4]})
    with pytest.raises(ValueError, match="no named columns to shuffle"):
        model.importance("t.svm")


def test_a_matrix_of_scipy_has_the_columns_of_the_text(folder):
    sparse = pytest.importorskip("scipy.sparse", reason="SciPy is not installed")
    for first in (0, 1):
        (folder / "t.svm").write_text(text_of(X, Y, first))
        sparse.save_npz("t.npz", sparse.csr_array(X))
        model = bp.fit_table("t.svm", net="x-8-y", epochs=5, budget="fast")
        assert model.predict_proba("t.npz").tobytes() == model.predict_proba("t.svm").tobytes()
    with pytest.raises(ValueError, match="contains X but not y, so there is no target"):
        bp.fit_table("t.npz")


def test_numbers_are_predicted_and_rows_without_labels_are_left_out(folder):
    y = X @ np.linspace(-1, 1, 50)
    (folder / "t.svm").write_text(text_of(X, y) + "3:1\n")
    model = bp.fit_table("t.svm", net="x-16-y", epochs=40, budget="fast")
    assert model.scores["train"]["r2"] > 0.8
    assert model.evaluate("t.svm")["without_target"] == 1


@pytest.mark.parametrize("argument", ["drop", "keep", "weight", "split"])
def test_arguments_with_names_of_columns_are_refused(folder, argument):
    (folder / "t.svm").write_text(text_of(X, Y))
    with pytest.raises(ValueError, match=f"{argument}.*names columns, which sparse rows do not have; omit it"):
        bp.fit_table("t.svm", **{argument: "group:3" if argument == "split" else "3"})


@pytest.mark.parametrize(
    "change", [{"width": 0}, {"width": True}, {"first": 2}, {"stored": 0.0}, {"exponents": (1,)}, {"exponents": [999] * 51}, {"more": 1}]
)
def test_damaged_notes_are_refused(folder, change):
    (folder / "t.svm").write_text(text_of(SCALED, Y))
    model = bp.fit_table("t.svm", net="x-4-y", epochs=1, budget="fast", ensemble=1)
    notes = model.net.notes["microbp.table"]
    model.net.notes = model.net.notes | {"microbp.table": notes | {"sparse": notes["sparse"] | change}}
    model.net.save("m.safetensors")
    with pytest.raises(ValueError, match="cannot be read"):
        bp.load_table("m.safetensors")


def test_a_number_chooses_one_row(folder):
    (folder / "t.svm").write_text(text_of(X, Y))
    x, _ = bp.read_sparse("t.svm")
    for i in (3, -1, np.int64(7)):
        assert x[i].shape == (1, 50) and np.array_equal(x[i].toarray()[0], X[i])
    with pytest.raises(IndexError, match="300"):
        x[300]
    assert repr(x) == f"<SparseRows 300 x 50, {np.count_nonzero(X)} values>"


def test_the_base_is_told(folder):
    (folder / "train.svm").write_text(text_of(X, Y, 0))
    (folder / "test.svm").write_text("\ufeff1 3:1\n0 5:1\n", encoding="utf-8")  # begins with a byte order mark, and has no index 0
    for train in (bp.read_sparse("train.svm")[0], bp.SparseChunks("train.svm")):
        assert train.zero_based is True
    assert bp.read_sparse("train.svm")[0][10:].copy().zero_based is True
    found = bp.read_sparse("test.svm", columns=50, zero_based=train.zero_based)[0]
    assert found.indices.tolist() == [3, 5] and found.zero_based is True
    assert bp.read_sparse("test.svm", columns=50)[0].zero_based is bp.SparseChunks("test.svm").zero_based is False
    (folder / "none.svm").write_text("1\n0\n")
    assert bp.read_sparse("none.svm", columns=4)[0].shape == (2, 4)
    assert [x.shape for x, _ in bp.SparseChunks("none.svm", columns=4)] == [(2, 4)]


@pytest.mark.parametrize("index", [2**28, 2**31 - 1, 2**40])
@pytest.mark.parametrize("stream", [False, True])
def test_an_index_beyond_memory_is_named(folder, index, stream):
    (folder / "t.svm").write_text(text_of(X, Y) + f"1 {index}:1\n")
    with pytest.raises(ValueError, match=rf"^t.svm, row 301, column '{index}': the index must be below 268435456: count"):
        bp.fit_table("t.svm", target="label", stream=stream, epochs=1, seed=0)
