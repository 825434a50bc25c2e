"""Unusual files: strings that look like numbers, missing values, unusable columns, other separators, pipes."""

from __future__ import annotations

import importlib
import json
import os
import threading

import numpy as np
import pytest

from microbp.cli.main import main
from microbp.tables.columns import decide, reading
from microbp.tables.encodings.category import Category
from microbp.tables.encodings.number import Number
from microbp.tables.preparation import find_target, prepare
from microbp.tables.readers import csv_file, frame_files, sources

RANDOM = np.random.default_rng(3)
COUNT = 60
STREAM = pytest.mark.parametrize("stream", [[], ["--stream"]], ids=["whole", "stream"])


@pytest.fixture(params=["polars", "pyarrow"])
def engine(request, monkeypatch):
    """Each library that reads Parquet."""
    module = pytest.importorskip(request.param)
    monkeypatch.setattr(frame_files, "engine", lambda: module)
    return module


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """An empty current directory; the blocks of CSV files and the pieces of streams are small."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(csv_file, "_BLOCK", 5)
    monkeypatch.setattr(sources, "CHUNK", 13)
    return tmp_path


def write(name, columns, separator=","):
    """Writes columns to a text file."""
    rows = [columns, *zip(*columns.values())]
    with open(name, "w", encoding="utf-8") as file:
        file.writelines(separator.join("" if cell is None else str(cell) for cell in row) + "\n" for row in rows)


def parquet(name, **columns):
    """Writes a Parquet file; a column is a list of values or a polars Series."""
    polars = pytest.importorskip("polars")
    pytest.importorskip("pyarrow")
    polars.DataFrame(columns, strict=False).write_parquet(name)


def output(capsys, *arguments):
    """The standard output of a successful command."""
    assert main([*map(str, arguments)]) == 0, capsys.readouterr().err
    return capsys.readouterr().out


def failed(capsys, *arguments, code=1):
    """The error of a failing command, which must be one line."""
    try:
        returned = main([*map(str, arguments)])
    except SystemExit as error:
        returned = error.code
    out, err = capsys.readouterr()
    assert (returned, out, err.count("\n")) == (code, "", 1), (out, err)
    return err


def both(name):
    """The preparations from a file read whole and read piece by piece, for the default target."""
    found = []
    for stream in (False, True):
        source = sources.find(name, stream=stream)
        target = sources.default_target(next(iter(source.tables())))
        columns = decide(source, target)
        tables = list(reading(source, columns.readings, target).tables())
        found.append(prepare(tables, find_target(tables, target), columns=columns))
    return found


# ---- strings that look like numbers ----


@pytest.mark.parametrize(
    ("levels", "wider"),
    [(["007", "010"], ["A12", "B3"]), (["True", "False"], ["Unsure"]), (["1.0", "2.50"], ["2.5x"]), (["1e3", "1000"], ["1_000"])],
)
def test_levels_of_a_category_are_as_written(capsys, levels, wider):
    code = [*levels * 10, *(wider * COUNT)[: COUNT - 30], *levels * 5]  # the first and last pieces of a stream contain only numbers
    y = RANDOM.normal(size=COUNT).round(3)
    write("train.csv", {"code": code, "y": y})
    write("new.csv", {"code": levels * 5})
    whole, pieces = both("train.csv")
    assert whole.features == pieces.features == (Category("code", tuple(sorted({*levels, *wider})), False),)
    x = np.concatenate([whole.matrix(table) for table in sources.pieces("new.csv")()])
    assert x.tolist() == [[level == known for known in whole.features[0].levels] for level in levels * 5]
    np.testing.assert_array_equal(whole.matrix(sources.read("new.csv").train), x)


@pytest.mark.parametrize(
    ("cells", "classes"),
    [
        (["001", "002", "010"], ("001", "002", "010")),
        (["001", "A2", "B3"], ("A2", "B3", "001")),
        (["True", "False", "True"], ("false", "true")),
        (["2", "1", "10"], ("1", "2", "10")),
        (["1.0", "2.0", "1"], ("1", "2")),
    ],
)
@STREAM
def test_class_names_are_as_written(capsys, cells, classes, stream):
    write("t.csv", {"a": RANDOM.normal(size=COUNT).round(2), "y": sorted(cells * (COUNT // 3))})
    for preparation in both("t.csv"):
        assert preparation.target.classes == classes
    output(capsys, "train", "t.csv", "--epochs", 2, *stream)
    rows = output(capsys, "predict", "t.safetensors", "t.csv", *stream).splitlines()
    assert rows[0] == ",".join(["y", *(f"p({name})" for name in classes)])
    assert {row.split(",")[0] for row in rows[1:]} <= set(classes)


def test_a_column_of_numbers_in_training_has_numbers_in_prediction(capsys):
    write(
        "t.csv", {"a": [i * 7 % COUNT + 2 for i in range(COUNT)], "b": ["true", "FALSE"] * (COUNT // 2), "y": [i / 7 for i in range(COUNT)]}
    )
    whole, pieces = both("t.csv")
    assert [type(feature) for feature in whole.features] == [Number, Number]
    assert whole.features[1] == pieces.features[1] == Number("b", 0.0, 1.0, False, central=True)
    write("new.csv", {"a": ["7", "1e1"], "b": ["1", "True"]})
    a = whole.features[0]
    np.testing.assert_allclose(whole.matrix(sources.read("new.csv").train), [[(7 - a.centre) / a.scale, 1], [(10 - a.centre) / a.scale, 1]])


def test_a_string_in_a_test_row_does_not_turn_numbers_into_a_category(capsys):
    for row in range(COUNT):
        cells = [f"{i}.5" for i in range(COUNT)]
        cells[row] = "huge"
        write("t.csv", {"size": cells, "y": [i / 7 for i in range(COUNT)]})
        assert f"t.csv, row {row + 1} (line {row + 2}), column 'size': 'huge' is not a number" in failed(capsys, "train", "t.csv")


def test_numbers_may_have_decimal_commas(capsys):
    x = RANDOM.normal(size=(COUNT, 2)).round(4)
    write("comma.csv", {"a": [str(v).replace(".", ",") for v in x[:, 0]], "y": [str(v).replace(".", ",") for v in x[:, 1]]}, ";")
    write("point.csv", {"a": x[:, 0], "y": x[:, 1]})
    write("tab.csv", {"a": [str(v).replace(".", ",") for v in x[:, 0]], "y": x[:, 1]}, "\t")
    for name in ("comma.csv", "tab.csv"):
        assert [(found.features, found.target) for found in both(name)] == [(found.features, found.target) for found in both("point.csv")]
        output(capsys, "train", name, "--epochs", 1, "--out", f"{name}.net")
    output(capsys, "train", "point.csv", "--epochs", 1)
    expected = output(capsys, "predict", "point.safetensors", "point.csv")
    assert output(capsys, "predict", "comma.csv.net", "comma.csv") == output(capsys, "predict", "tab.csv.net", "tab.csv") == expected


# ---- lines, names and cells ----


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@STREAM
def test_blank_lines_are_not_rows(capsys, folder, end, stream):
    rows = [f"{i},{'xyz'[i % 3]},{i % 5}.5" for i in range(COUNT)]
    (folder / "t.csv").write_bytes(end.join(["a,b,y", *rows[:20], "", "  ", *rows[20:], "", ""]).encode())
    output(capsys, "train", "t.csv", "--epochs", 2, *stream)
    assert len(output(capsys, "predict", "t.safetensors", "t.csv", *stream).splitlines()) == COUNT + 1


def test_in_a_file_of_one_column_an_empty_line_between_others_is_a_missing_value(folder):
    for text in ("a\n1\n\n2\n\n\n", 'a\n1\n""\n2\n', "a\n1\n?\n2"):  # as written by polars, by pandas and by hand
        (folder / "one.csv").write_text(text)
        np.testing.assert_array_equal(sources.read("one.csv").train.numbers("a"), [1, np.nan, 2])


@pytest.mark.parametrize(
    ("header", "names"),
    [
        ('"size, cm","weight, cm",y', ["size, cm", "weight, cm", "y"]),
        ('"a, b, c, d";"b";"y"', ["a, b, c, d", "b", "y"]),
        ('a|b,c|"y"', ["a", "b,c", "y"]),
        (' a ; "the ""b"""; y', ["a", 'the "b"', "y"]),
        ('"a\nb",c,y', ["a\nb", "c", "y"]),
        (",b,y", ["column_1", "b", "y"]),
        ("\ufeffa\tb\ty", ["a", "b", "y"]),
    ],
)
def test_the_first_line_names_the_columns(folder, header, names):
    separator = next(mark for mark in ";|\t," if mark in header)
    (folder / "t.csv").write_text(f"{header}\n{separator.join('123')}\n")
    for table in (sources.read("t.csv").train, *sources.pieces("t.csv")()):
        assert list(table.columns) == names
        assert [table.numbers(name).tolist() for name in names] == [[1], [2], [3]]


@pytest.mark.parametrize("name", ["wine.txt", "wine", "wine.data", "wine.json.csv"])
def test_a_csv_file_may_have_any_name(name):
    write(name, {"a": [1, 2], "b": [3, 4], "y": [5, 6]})
    assert list(sources.read(name).train.columns) == ["a", "b", "y"]


GOOD = "a,b,y\n" + "1,2,3.5\n" * 30


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (GOOD.encode() + b"1,,2\n1,caf\x81,2\n", ["row 32 (line 33), column 'b'", "save the file as UTF-8"]),
        (GOOD + "1,2,3,4\n", ["row 31 (line 32)", "has 4 cells, but the first line names 3 columns"]),
        (GOOD + '1,"yes,4\n' + "1,2,3\n" * 9, ["row 31", "a quoted cell must end with a quote"]),
        (GOOD * 5 + "1,\0,3\n", ["row 155 (line 156), column 'b'", "zero byte"]),
        (GOOD + "1,1e300,3\n", ["row 31 (line 32), column 'b'", "1e+300 exceeds 3.4e+38"]),
        (GOOD + "1,2,-1e200\n", ["row 31 (line 32), column 'y'", "exceeds 3.4e+38"]),
        (GOOD.encode("utf-16-le"), ["save the file as UTF-8"]),
        ("a b y\n" + "1 x y\nz 4 5 6\n" * 30, ["only one column", "separated by"]),
    ],
)
@STREAM
def test_an_error_names_the_row(capsys, folder, content, expected, stream):
    (folder / "t.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    line = failed(capsys, "train", "t.csv", *stream)
    assert line.startswith("microbp: error: t.csv") and all(text in line for text in expected), line


def test_a_number_far_from_the_training_data_is_predicted_within_the_range_of_training(capsys):
    write("t.csv", {"a": [i * 1e-9 for i in range(COUNT)], "y": [i / 7 for i in range(COUNT)]})
    write("new.csv", {"a": [1, 1e35]})
    output(capsys, "train", "t.csv", "--epochs", 20, "--net", "x-8-y")
    assert main(["predict", "t.safetensors", "new.csv"]) == 0
    out, err = capsys.readouterr()
    assert all(0 <= float(line) <= (COUNT - 1) / 7 for line in out.split()[1:])
    assert "new.csv: numbers far outside the range of training: a (2)" in err


def test_whole_numbers_may_have_many_digits(capsys):
    write("t.csv", {"a": [10**25 + i * 10**24 for i in range(COUNT)], "y": [i / 7 for i in range(COUNT)]})
    np.testing.assert_allclose(sources.read("t.csv").train.numbers("a"), [1e25 + i * 1e24 for i in range(COUNT)])


# ---- targets ----


@pytest.mark.parametrize(
    ("count", "y", "arguments", "expected"),
    [
        (
            10,
            str,
            [],
            "has more different values than half the number of rows, so it cannot be used as classes; predict numbers with --loss mse, or",
        ),
        (
            60,
            "{}.25".format,
            ["--loss", "bce"],
            "contains fractions or too many different numbers, so it cannot be used as classes; predict numbers with --loss mse",
        ),
        (
            60,
            "n{}".format,
            [],
            "has more different values than half the number of rows, so it cannot be used as classes; choose another target with",
        ),
        (60, lambda i: "", [], "is empty; choose another target with --target"),
    ],
)
def test_the_advice_matches_the_mistake(capsys, count, y, arguments, expected):
    write("t.csv", {"a": [i % 7 for i in range(count)], "y": [y(i) for i in range(count)]})
    assert f"t.csv: the target 'y' {expected}" in failed(capsys, "train", "t.csv", *arguments)


def test_an_error_says_that_there_are_too_few_rows(capsys):
    write("t.csv", {"a": [1, 2, 3], "y": [1.5, 2.5, 3.5]})
    assert "only 1 row left for training after the split into train, validation and test; at least 3 are needed" in failed(
        capsys, "train", "t.csv"
    ) and "no usable column" not in failed(capsys, "train", "t.csv")


# ---- Parquet ----


@STREAM
@pytest.mark.parametrize("kind", ["Duration", "List", "Binary"])
def test_unusable_columns_can_be_dropped(capsys, engine, kind, stream):
    polars = pytest.importorskip("polars")
    cells = {"List": [[1], [2, 3]], "Binary": [b"a", b"b"]}.get(kind, [1, 2])
    when = polars.Series("when", cells * (COUNT // 2))
    when = when if kind in ("List", "Binary") else when.cast(getattr(polars, kind))
    rows = {"a": RANDOM.normal(size=COUNT), "y": RANDOM.normal(size=COUNT)}
    parquet("t.parquet", when=when, **rows)
    assert "t.parquet: column 'when' contains" in failed(capsys, "train", "t.parquet", *stream)
    output(capsys, "train", "t.parquet", "--drop", "when", "--epochs", 1, *stream)
    assert len(output(capsys, "predict", "t.safetensors", "t.parquet", *stream).splitlines()) == COUNT + 1


def test_columns_of_every_type_may_have_missing_values(engine):
    polars = pytest.importorskip("polars")
    types = {name: getattr(polars, name) for name in ("Int8", "UInt64", "Float32", "Boolean", "Null", "String", "Categorical")}
    cells = {name: ["a", None, "b"] if name in ("String", "Categorical") else [1, None, 0] for name in types} | {"Null": [None] * 3}
    parquet("t.parquet", **{name: polars.Series(cells[name], dtype=kind, strict=False) for name, kind in types.items()})
    for table in (sources.read("t.parquet").train, *sources.pieces("t.parquet")()):
        for name in types:
            if name in ("String", "Categorical"):
                assert table.texts(name).tolist() == cells[name]
            else:
                np.testing.assert_array_equal(table.numbers(name), [np.nan if cell is None else cell for cell in cells[name]])


@STREAM
def test_a_boolean_may_be_missing(capsys, engine, stream):
    booleans = [i % 3 == 0 for i in range(COUNT)]
    parquet("t.parquet", a=booleans, y=[float(boolean) + i / 999 for i, boolean in enumerate(booleans)])
    output(capsys, "train", "t.parquet", "--epochs", 2, *stream)
    parquet("new.parquet", a=[True, None, False] * 10)
    write("new.csv", {"a": ["True", "?", "false"] * 10})
    predicted = output(capsys, "predict", "t.safetensors", "new.parquet", *stream)
    assert predicted == output(capsys, "predict", "t.safetensors", "new.csv", *stream)
    assert predicted.splitlines()[1::3] != predicted.splitlines()[3::3]
    parquet("gap.parquet", a=[None, *booleans[1:]], y=[i / 7 for i in range(COUNT)])  # only one piece of the stream has the missing value
    whole, pieces = both("gap.parquet")
    assert whole.features == pieces.features == (Number("a", 0.0, 1.0, True),)


def test_names_that_differ_only_by_spaces_are_made_unique(engine):
    parquet("t.parquet", **{"alcohol": [1, 2], "alcohol ": [3, 4], "y": [5, 6]})
    table = sources.read("t.parquet").train
    assert list(table.columns) == ["alcohol", "alcohol_2", "y"]
    assert table.assumptions == ("column 'alcohol' appears twice: the second is 'alcohol_2'",)


def test_a_column_without_a_name_is_numbered(engine):
    parquet("t.parquet", **{"": [1, 2], "y": [5, 6]})
    assert list(sources.read("t.parquet").train.columns) == ["column_1", "y"]


# ---- arrays ----


def test_arrays_of_objects_are_refused_without_unsafe_advice(capsys, folder):
    (folder / "text.npy").write_text("a,b\n1,2\n")
    np.save("object.npy", np.array([[1, None]]), allow_pickle=True)
    np.savez("object.npz", x=np.array([[1, None]]), y=np.array([1]))
    for name in ("text.npy", "object.npy", "object.npz"):
        line = failed(capsys, "train", name)
        assert name in line and "save an array of numbers or strings" in line and "pickle" not in line


@pytest.mark.parametrize("kind", ["U", "S"])
def test_classes_in_arrays_may_be_strings(capsys, kind):
    np.savez("t.npz", x=RANDOM.normal(size=(COUNT, 2)), y=np.array(["cat", "dog", "eel"] * (COUNT // 3), dtype=kind))
    report = json.loads(output(capsys, "train", "t.npz", "--epochs", 1, "--json", "--out", "t.safetensors"))
    assert report["net"].endswith("-3")
    assert output(capsys, "predict", "t.safetensors", "t.npz").startswith("y,p(cat),p(dog),p(eel)")


def test_the_target_column_is_not_a_feature_in_prediction(capsys):
    x, y = RANDOM.normal(size=(COUNT, 3)), RANDOM.normal(size=(COUNT, 1))
    np.save("t.npy", np.hstack([x, y]))
    np.savez("t.npz", X=x, y=y)
    np.savez("x.npz", X=x)
    output(capsys, "train", "t.npy", "--epochs", 1)
    predicted = {output(capsys, "predict", "t.safetensors", name) for name in ("t.npy", "t.npz", "x.npz")}
    assert len(predicted) == 1
    assert "contains X but not y, so there is no target" in failed(capsys, "train", "x.npz")


def test_predict_uses_x_of_an_npz_or_else_x_test(capsys):
    x, y = RANDOM.normal(size=(COUNT, 3)), RANDOM.normal(size=COUNT)
    np.savez("parts.npz", x_train=x[:50], y_train=y[:50], x_test=x[50:], y_test=y[50:])
    np.savez("all.npz", X=x, y=y, x_train=x[:50], y_train=y[:50], x_test=x[50:], y_test=y[50:])
    output(capsys, "train", "parts.npz", "--epochs", 1)
    assert [len(output(capsys, "predict", "parts.safetensors", f"{name}.npz").splitlines()) - 1 for name in ("parts", "all")] == [10, 60]


# ---- pipes ----


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes")
@pytest.mark.parametrize("kind", ["csv", "csv.gz", "npz", "npy", "parquet", "libsvm"])
@STREAM
def test_a_pipe_is_read_like_a_file(capsys, folder, kind, stream):
    x = RANDOM.normal(size=(400, 3)).round(4)
    if kind == "parquet":
        parquet("t.parquet", a=x[:, 0], y=x[:, 1])
    elif kind == "libsvm":
        (folder / "t.libsvm").write_text("".join(f"{a} 1:{b} 2:{c}\n" for a, b, c in x))
    elif kind == "npz":
        np.savez("t.npz", x=x, y=x[:, 0])
    elif kind == "npy":
        np.save("t.npy", x)
    else:
        write("t.csv", {"a": x[:, 0], "b": x[:, 1], "y": x[:, 2]})
        (folder / "t.csv.gz").write_bytes(importlib.import_module("gzip").compress((folder / "t.csv").read_bytes()))
    if stream and kind in ("npz", "libsvm"):
        return
    os.mkfifo("pipe")
    writer = threading.Thread(target=lambda: (folder / "pipe").write_bytes((folder / f"t.{kind}").read_bytes()))
    writer.start()
    through_pipe = output(capsys, "train", folder / "pipe", "--epochs", 2, "--json", *stream)
    writer.join()
    from_file = output(capsys, "train", f"t.{kind}", "--epochs", 2, "--json", *stream)
    assert json.loads(through_pipe)["test"] == json.loads(from_file)["test"]


@STREAM
def test_an_empty_pipe_is_refused(capsys, stream):
    assert "/dev/null: the file is empty" in failed(capsys, "train", "/dev/null", *stream)
