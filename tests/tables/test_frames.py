"""Data in memory as a table: kinds of columns, names, the index, mistakes; and libsvm text, formats that are not supported, the help."""

from __future__ import annotations

import datetime
import gzip
import lzma
import re
import subprocess
import sys
import zipfile
from decimal import Decimal

import numpy as np
import pytest

from microbp.cli.files import unused_name
from microbp.cli.options import COMMANDS
from microbp.tables.readers import sources
from microbp.tables.readers.table import Unusable
from microbp.tables.split import Split, gather


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def table_of(data):
    return next(iter(sources.find(data).tables()))


COLUMNS = [  # values, the numbers they are, or the texts
    ([1, 2.5, None, Decimal("0.25")], [1, 2.5, np.nan, 0.25], None),
    ([np.float32(1), np.int8(2), float("nan")], [1, 2, np.nan], None),
    ([True, None, np.False_], [1, np.nan, 0], ["true", None, "false"]),
    ([2**63 + 1, None, 2**63], [2.0**63, np.nan, 2.0**63], [str(2**63 + 1), None, str(2**63)]),
    ([10**400, 1], None, ["1" + "0" * 400, "1"]),
    ([1, "n/a", "3.50", " "], [1, np.nan, 3.5, np.nan], ["1", None, "3.50", None]),
    ([1, 2.0, "x"], None, ["1", "2", "x"]),
    ([None, None], [np.nan, np.nan], [None, None]),
    ([datetime.date(2020, 1, 2), None], None, ["2020-01-02", None]),
    ([datetime.datetime(2020, 1, 2), np.datetime64("2020-01-03", "s")], None, ["2020-01-02", "2020-01-03"]),
    ([datetime.datetime(2020, 1, 2), datetime.datetime(2020, 1, 2, 3)], None, ["2020-01-02T00:00:00", "2020-01-02T03:00:00"]),
    ([datetime.datetime(2020, 1, 2, tzinfo=datetime.UTC)], None, ["2020-01-02T00:00:00+00:00"]),
    ([datetime.time(10, 30), "later"], None, ["10:30:00", "later"]),
]


def test_single_values_are_no_columns():
    for value in (np.array(3.0), np.float64(3), 3.0):
        with pytest.raises(TypeError, match="column 'a' must be a list or an array, not "):
            table_of({"a": value, "b": [1, 2]})


@pytest.mark.parametrize("values", [[1, -2, 3], [1, None, 3], [2**100, 1, None]])
def test_whole_numbers_of_128_bits(values):
    polars = pytest.importorskip("polars")
    found = table_of(polars.DataFrame({"a": polars.Series(values, dtype=polars.Int128)}))
    np.testing.assert_array_equal(found.numbers("a"), [np.nan if value is None else float(value) for value in values])
    assert found.texts("a").tolist() == [None if value is None else str(value) for value in values]


@pytest.mark.parametrize(("values", "numbers", "texts"), COLUMNS, ids=range(len(COLUMNS)))
def test_a_column_of_python_values_is_numbers_or_texts(values, numbers, texts):
    array = np.empty(len(values), dtype=object)
    array[:] = values
    for column in (values, tuple(values), array):
        table = table_of({"a": column})
        if numbers:
            np.testing.assert_array_equal(table.numbers("a"), numbers)
        if texts:
            assert table.texts("a").tolist() == texts


@pytest.mark.parametrize(
    "column",
    [
        [[1], [2]],
        [{"a": 1}, None],
        [1j, 2j],
        [b"a", b"b"],
        np.ones((2, 3)),
        [datetime.timedelta(1), None],
        np.array([1, 2], "m8[s]"),
        [object(), 1],
    ],
)
def test_a_column_of_other_objects_is_refused_only_if_it_is_used(column):
    column = column * 15 if isinstance(column, list) else np.concatenate([column] * 15)
    data = {"a": column, "b": [*range(30)], "y": [i / 7 for i in range(30)]}
    table = table_of(data)
    assert isinstance(table.columns["a"], Unusable)
    with pytest.raises(ValueError, match=r"^table: column 'a' contains .*, which a network cannot use; .*, or use drop='a'$"):
        table.numbers("a")
    assert [feature.name for feature in gather(Split(sources.find(data)), target="y", drop=["a"]).preparation.features] == ["b"]


def test_a_masked_value_is_missing():
    table = table_of({"a": np.ma.masked_array([1, 2, 3], [0, 1, 0]), "b": np.ma.masked_array(["x", "y", "z"], [1, 0, 0])})
    np.testing.assert_array_equal(table.numbers("a"), [1, np.nan, 3])
    assert table.texts("b").tolist() == [None, "y", "z"]


def test_whole_numbers_with_gaps_keep_all_digits():
    polars, pandas, pyarrow = map(pytest.importorskip, ("polars", "pandas", "pyarrow"))
    values = [2**60 + 1, None, -(2**60) - 3, 5]
    for column in (
        values, polars.Series(values), pandas.array(values, "Int64"), pandas.Series(values, dtype="int64[pyarrow]"), pyarrow.array(values),
    ):  # fmt: skip
        table = table_of({"a": column})
        assert table.texts("a").tolist() == [None if value is None else str(value) for value in values]


def test_names_are_made_unique_and_the_index_is_not_used(folder):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame([[1, 2, 3, 4]], columns=["a", "a ", 7, ""], index=pandas.Index([5], name="id"))
    table = table_of(frame)
    assert list(table.columns) == ["a", "a_2", "7", "column_4"]
    assert table.assumptions == ("the index 'id' of the frame is not used", "column 'a' appears twice: the second is 'a_2'")
    assert table_of(frame.reset_index(drop=True)[["a"]].iloc[::-1]).assumptions == ()
    nested = pandas.DataFrame([[1, 2]], columns=pandas.MultiIndex.from_tuples([("a", "b"), ("a", "c")]))
    assert list(table_of(nested).columns) == ["a.b", "a.c"]
    pytest.importorskip("pyarrow")
    pandas.DataFrame({"a": [1, 2]}, index=[5, 3]).to_parquet("t.parquet")
    table = sources.read("t.parquet").train
    assert list(table.columns) == ["a"] and table.assumptions == ("the index '__index_level_0__' of the frame is not used",)


@pytest.mark.parametrize(
    ("data", "error", "expected"),
    [
        ([1, 2], TypeError, "table: must be a file name, a data frame of pandas or polars, an Arrow table, a dict of columns, or"),
        (np.ones((3, 2)), TypeError, "or a structured array, not ndarray"),
        (None, TypeError, "not NoneType"),
        ({"a": 1}, TypeError, "table: column 'a' must be a list or an array, not int"),
        ({"a": "xyz"}, TypeError, "table: column 'a' must be a list or an array, not str"),
        ({"a": [1, 2], "b": [1]}, ValueError, "table: column 'b' has 1 value, but column 'a' has 2"),
        ({}, ValueError, "table: has no rows"),
        ({"a": []}, ValueError, "table: has no rows"),
    ],
)
def test_other_data_is_refused(data, error, expected):
    with pytest.raises(error) as caught:
        sources.find(data)
    assert expected in str(caught.value)
    with pytest.raises(ValueError, match="^stream: reads files in pieces, and the data is in memory; omit it$"):
        sources.find(data, stream=True)


def test_a_frame_is_split_and_prepared_like_its_file(folder):
    columns = {"a": [i % 7 + 0.5 for i in range(60)], "b": ["xyz"[i % 3] for i in range(60)], "y": ["no", "yes"] * 30}
    (folder / "t.csv").write_text("a,b,y\n" + "".join(f"{a},{b},{y}\n" for a, b, y in zip(*columns.values())))
    read = [gather(Split(sources.find(data))) for data in ("t.csv", folder / "t.csv", columns)]
    assert read[0].preparation == read[1].preparation == read[2].preparation
    for part in read[0].parts:
        for a, b, c in zip(*(data.part(part) for data in read)):
            np.testing.assert_array_equal(a, b)
            np.testing.assert_array_equal(a, c)


# ---- libsvm ----


def test_libsvm_text_without_labels_is_read_for_prediction(folder):
    (folder / "train.svm").write_text("".join(f"{(-1) ** i} 1:{i} {i % 3 + 2}:0.5\n" for i in range(60)))
    (folder / "new.svm").write_text("1:5 2:0.5\n3:0.5 # a comment\n")
    data = gather(Split(sources.find("train.svm")))
    table = sources.read("new.svm").train
    assert list(table.columns) == ["1", "2", "3"] and data.preparation.target.name == "label"
    assert data.preparation.matrix(table).shape == (2, data.preparation.width)
    with pytest.raises(ValueError, match=r"^new.svm: contains X but not label, so there is no target; add it"):
        sources.default_target(table)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1 1:2\n\n1 2:3 7:1 2:4\n", "t.svm, line 3: index 2 has two values; remove one"),
        ("1 1:2\n1 -2:3\n", "t.svm, line 2: an index is negative; it must be at least 0"),
        ("1 1:2\n1 3:x\n", "t.svm, line 2: 'x' is not a number"),
        ("1 1:2 3\n", "t.svm, line 1: '1 1:2 3' is not in the format `label index:value ...`"),
        ("", "t.svm: the file has no rows"),
    ],
)
def test_wrong_libsvm_text_is_refused(folder, text, expected):
    (folder / "t.svm").write_text(text)
    with pytest.raises(ValueError, match=f"^{re.escape(expected)}$"):
        sources.read("t.svm")


@pytest.mark.parametrize(("line", "is_libsvm"), [("1 1:2", True), ("-1.5 3:-2e-3 4:nan # a", True), ("2:1", True), ("10:30,5", False),
                                                ("10:30:00 5", False), ("5", False), ("a 1:2", False)])  # fmt: skip
def test_libsvm_text_is_recognized_by_its_first_line(folder, line, is_libsvm):
    assert (sources._recognized(folder, f"\n# a\n{line}\n1 2:3\n".encode()) is sources.READERS["libsvm"]) == is_libsvm


# ---- formats ----


@pytest.mark.parametrize("packed", ["gz", "xz", "zip"])
@pytest.mark.parametrize("kind", ["npy", "npz"])
def test_arrays_may_be_compressed(folder, packed, kind):
    x = np.arange(12.0).reshape(4, 3)
    np.save("t.npy", x) if kind == "npy" else np.savez("t.npz", X=x[:, :2], y=x[:, 2])
    content, name = (folder / f"t.{kind}").read_bytes(), "t.zip" if packed == "zip" else f"t.{kind}.{packed}"
    if packed == "zip":
        with zipfile.ZipFile(name, "w") as archive:
            archive.writestr(f"t.{kind}", content)
    else:
        (folder / name).write_bytes({"gz": gzip, "xz": lzma}[packed].compress(content))
    table = sources.read(name).train
    np.testing.assert_array_equal(np.column_stack([*table.columns.values()]), x)


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("t.xml", b"<a/>", ".xml files are not supported; save the table as CSV or Parquet, or pass a data frame in Python"),
        ("t.pkl.gz", b"\x80\4", ".pkl files are not supported"),
        (
            "t.bin",
            b"\0\1",
            "t.bin: unknown format; use CSV, TSV, JSON, JSON lines, Excel (.xlsx), Parquet, Arrow, .npz, .npy or libsvm text",
        ),
        ("t.zip", b"\0\1", "t.zip: unknown format"),
        ("t", b"PK\3\4" + bytes(26) + b"mimetype", "t: unknown format"),
    ],
)
def test_other_formats_are_refused_with_advice(folder, name, content, expected):
    (folder / name).write_bytes(content)
    with pytest.raises(ValueError, match=re.escape(expected)):
        sources.read(name)


def test_the_help_names_every_format():
    words = COMMANDS["train"].options.__dataclass_fields__["data"].metadata["argparse"]["help"]
    names = {"json": "JSON,", "jsonl": "JSON lines", "csv": "CSV", "npz": ".npz", "npy": ".npy", "excel": "Excel (.xlsx)"}
    assert [name for name in sources.READERS if names.get(name, name).lower() not in words.lower()] == []


def test_a_network_from_standard_input_is_named_after_it(folder):
    assert str(unused_name("-")) == "stdin.safetensors"


def test_closed_standard_input_is_refused():
    command = f'exec "{sys.executable}" -P -m microbp train - <&-'
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2 and "argument DATA: standard input is closed" in done.stderr
