"""What files hold that nobody expects: texts that look like numbers, gaps, columns that no network can take, other separators, pipes."""

from __future__ import annotations

import importlib
import json
import os
import threading

import numpy as np
import pytest

from microbp.cli.main import main
from microbp.tables import frames, sources
from microbp.tables.preparation import Category, Number, find_target, prepare

RANDOM = np.random.default_rng(3)
COUNT = 60
STREAM = pytest.mark.parametrize("stream", [[], ["--stream"]], ids=["whole", "stream"])


@pytest.fixture(params=["polars", "pandas"])
def engine(request, monkeypatch):
    """Each reader of Parquet in turn."""
    module = pytest.importorskip(request.param)
    monkeypatch.setattr(frames, "engine", lambda: module)
    return module


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A folder of its own to be in; a stream's pieces are small."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sources, "CHUNK", 13)
    return tmp_path


def write(name, columns, separator=","):
    """A text file of columns."""
    rows = [columns, *zip(*columns.values())]
    with open(name, "w", encoding="utf-8") as file:
        file.writelines(separator.join("" if cell is None else str(cell) for cell in row) + "\n" for row in rows)


def parquet(name, **columns):
    """A Parquet file; the values of a column, or a polars Series."""
    polars = pytest.importorskip("polars")
    pytest.importorskip("pyarrow")
    polars.DataFrame(columns, strict=False).write_parquet(name)


def done(capsys, *arguments):
    """What a command writes."""
    assert main([*map(str, arguments)]) == 0, capsys.readouterr().err
    return capsys.readouterr().out


def failed(capsys, *arguments, code=1):
    """The one line that a command fails with."""
    try:
        returned = main([*map(str, arguments)])
    except SystemExit as error:
        returned = error.code
    out, err = capsys.readouterr()
    assert (returned, out, err.count("\n")) == (code, "", 1), (out, err)
    return err


def both(name):
    """The preparations of a file, read whole and piece by piece, of its default target."""
    found = []
    for tables in ([sources.read(name).train], list(sources.pieces(name)())):
        found.append(prepare(tables, find_target(tables, sources.default_target(tables[0]))))
    return found


# ---- texts that look like numbers ----


@pytest.mark.parametrize(
    ("levels", "wider"),
    [(["007", "010"], ["A12", "B3"]), (["True", "False"], ["Unsure"]), (["1.0", "2.50"], ["2.5x"]), (["1e3", "1000"], ["1_000"])],
)
def test_a_category_keeps_its_texts(capsys, levels, wider):
    code = [*levels * 10, *(wider * COUNT)[: COUNT - 20]]  # the first pieces of a stream hold numbers only
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
        (["True", "False", "True"], ("False", "True")),
        (["2", "1", "10"], ("1", "2", "10")),
        (["1.0", "2.0", "1"], ("1", "2")),
    ],
)
@STREAM
def test_classes_are_called_as_they_are_written(capsys, cells, classes, stream):
    write("t.csv", {"a": RANDOM.normal(size=COUNT).round(2), "y": sorted(cells * (COUNT // 3))})
    for preparation in both("t.csv"):
        assert preparation.target.classes == classes
    done(capsys, "train", "t.csv", "--epochs", 2, *stream)
    rows = done(capsys, "predict", "t.safetensors", "t.csv", *stream).splitlines()
    assert rows[0] == ",".join(["y", *(f"p({name})" for name in classes)])
    assert {row.split(",")[0] for row in rows[1:]} <= set(classes)


def test_numbers_of_the_training_are_numbers_ever_after(capsys):
    write("t.csv", {"a": [f"{i:02}" for i in range(COUNT)], "b": ["true", "FALSE"] * (COUNT // 2), "y": [i / 7 for i in range(COUNT)]})
    whole, pieces = both("t.csv")
    assert [type(feature) for feature in whole.features] == [Number, Number]
    assert whole.features[1] == pieces.features[1] == Number("b", 0.0, 1.0, False)
    write("new.csv", {"a": ["7", "1e1"], "b": ["1", "True"]})
    a = whole.features[0]
    np.testing.assert_allclose(whole.matrix(sources.read("new.csv").train), [[(7 - a.centre) / a.scale, 1], [(10 - a.centre) / a.scale, 1]])


def test_a_text_in_a_row_of_the_test_does_not_hide_a_column_of_numbers(capsys):
    for row in range(COUNT):
        cells = [f"{i}.5" for i in range(COUNT)]
        cells[row] = "huge"
        write("t.csv", {"size": cells, "y": [i / 7 for i in range(COUNT)]})
        assert f"t.csv, row {row + 1}, column 'size': 'huge' is not a number" in failed(capsys, "train", "t.csv")


def test_decimal_commas_are_read_where_semicolons_separate(capsys):
    x = RANDOM.normal(size=(COUNT, 2)).round(4)
    write("comma.csv", {"a": [str(v).replace(".", ",") for v in x[:, 0]], "y": [str(v).replace(".", ",") for v in x[:, 1]]}, ";")
    write("point.csv", {"a": x[:, 0], "y": x[:, 1]})
    assert [*both("comma.csv")] == [*both("point.csv")]
    write("tab.csv", {"a": [str(v).replace(".", ",") for v in x[:, 0]], "y": x[:, 1]}, "\t")
    assert all(text in failed(capsys, "train", "tab.csv") for text in ("row", "'a'", "has a comma"))


# ---- lines, names and cells ----


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@STREAM
def test_blank_lines_are_no_rows(capsys, folder, end, stream):
    rows = [f"{i},{'xyz'[i % 3]},{i % 5}.5" for i in range(COUNT)]
    (folder / "t.csv").write_bytes(end.join(["a,b,y", *rows[:20], "", "  ", *rows[20:], "", ""]).encode())
    done(capsys, "train", "t.csv", "--epochs", 2, *stream)
    assert len(done(capsys, "predict", "t.safetensors", "t.csv", *stream).splitlines()) == COUNT + 1


def test_in_a_file_of_one_column_an_empty_line_between_others_is_a_missing_value(folder):
    for text in ("a\n1\n\n2\n\n\n", 'a\n1\n""\n2\n', "a\n1\n?\n2"):  # as polars, pandas and people write it
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


@pytest.mark.parametrize("name", ["wine.txt", "wine", "wine.data"])
def test_a_file_of_any_name_may_be_csv(name):
    write(name, {"a": [1, 2], "b": [3, 4], "y": [5, 6]})
    assert list(sources.read(name).train.columns) == ["a", "b", "y"]


GOOD = "a,b,y\n" + "1,2,3.5\n" * 30


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (GOOD.encode() + b"1,caf\xe9,2\n", ["row 31, column 'b'", "save the file as UTF-8"]),
        (GOOD + "1,2,3,4\n", ["row 31", "it has 4 cells, and the first line names 3"]),
        (GOOD + '1,"yes,4\n' + "1,2,3\n" * 9, ["row 31", "a quoted cell must be closed"]),
        (GOOD + "1,\0,3\n", ["row 31, column 'b'", "zero byte"]),
        (GOOD + "1,1e300,3\n", ["row 31, column 'b'", "1e+300 is beyond 3.4e+38"]),
        (GOOD + "1,2,-1e200\n", ["row 31, column 'y'", "beyond 3.4e+38"]),
        (GOOD.encode("utf-16"), ["save it as UTF-8"]),
        ("a,a ,y\n1,2,3\n", ["two columns are named 'a'"]),
        ("a b y\n" + "1 2 3\n4 5 6\n" * 30, ["one column only", "separated by"]),
    ],
)
@STREAM
def test_what_cannot_be_read_is_told_with_its_row(capsys, folder, content, says, stream):
    (folder / "t.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    line = failed(capsys, "train", "t.csv", *stream)
    assert line.startswith("microbp: error: t.csv") and all(text in line for text in says), line


def test_a_number_far_from_those_of_the_training_is_refused(capsys):
    write("t.csv", {"a": [i * 1e-9 for i in range(COUNT)], "y": [i / 7 for i in range(COUNT)]})
    write("new.csv", {"a": [1, 1e35]})
    done(capsys, "train", "t.csv", "--epochs", 1)
    assert "new.csv, row 2, column 'a': the number is too far from" in failed(capsys, "predict", "t.safetensors", "new.csv")


def test_whole_numbers_may_be_long(capsys):
    write("t.csv", {"a": [10**25 + i * 10**24 for i in range(COUNT)], "y": [i / 7 for i in range(COUNT)]})
    np.testing.assert_allclose(sources.read("t.csv").train.numbers("a"), [1e25 + i * 1e24 for i in range(COUNT)])


# ---- targets ----


@pytest.mark.parametrize(
    ("count", "y", "arguments", "says"),
    [
        (10, str, [], "has almost as many values as rows, so they are not classes: --loss mse predicts them as numbers; or name another"),
        (
            60,
            "{}.25".format,
            ["--loss", "bce"],
            "holds numbers that are not whole, or too many, so they are not classes: --loss mse",
        ),
        (60, "n{}".format, [], "has almost as many values as rows, so they are not classes: name another by --target"),
        (60, lambda i: "", [], "is empty: name another by --target"),
    ],
)
def test_the_advice_fits_the_cause(capsys, count, y, arguments, says):
    write("t.csv", {"a": [i % 7 for i in range(count)], "y": [y(i) for i in range(count)]})
    assert f"t.csv: the target 'y' {says}" in failed(capsys, "train", "t.csv", *arguments)


def test_too_few_rows_are_called_so(capsys):
    write("t.csv", {"a": [1, 2, 3], "y": [1.5, 2.5, 3.5]})
    assert "1 row to train on" in failed(capsys, "train", "t.csv") and "no column" not in failed(capsys, "train", "t.csv")


# ---- Parquet ----


@STREAM
@pytest.mark.parametrize("kind", ["Date", "Datetime", "Duration", "Time", "List", "Binary"])
def test_columns_that_no_network_can_take_may_be_there_unused(capsys, engine, kind, stream):
    polars = pytest.importorskip("polars")
    cells = {"List": [[1], [2, 3]], "Binary": [b"a", b"b"], "Time": [10**9, 10**10]}.get(kind, [1, 2])
    when = polars.Series("when", cells * (COUNT // 2))
    when = when if kind in ("List", "Binary") else when.cast(getattr(polars, kind))
    rows = {"a": RANDOM.normal(size=COUNT), "y": RANDOM.normal(size=COUNT)}
    parquet("t.parquet", when=when, **rows)
    assert "t.parquet: column 'when' holds" in failed(capsys, "train", "t.parquet", *stream)
    done(capsys, "train", "t.parquet", "--drop", "when", "--epochs", 1, *stream)
    assert len(done(capsys, "predict", "t.safetensors", "t.parquet", *stream).splitlines()) == COUNT + 1


def test_gaps_are_missing_in_columns_of_every_type(engine):
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
def test_a_truth_may_be_missing(capsys, engine, stream):
    truths = [i % 3 == 0 for i in range(COUNT)]
    parquet("t.parquet", a=truths, y=[float(truth) + i / 999 for i, truth in enumerate(truths)])
    done(capsys, "train", "t.parquet", "--epochs", 2, *stream)
    parquet("new.parquet", a=[True, None, False] * 10)
    write("new.csv", {"a": ["True", "?", "false"] * 10})
    predicted = done(capsys, "predict", "t.safetensors", "new.parquet", *stream)
    assert predicted == done(capsys, "predict", "t.safetensors", "new.csv", *stream)
    assert predicted.splitlines()[1::3] != predicted.splitlines()[2::3] == predicted.splitlines()[3::3]
    parquet("gap.parquet", a=[None, *truths[1:]], y=[i / 7 for i in range(COUNT)])  # in one piece of a stream only
    whole, pieces = both("gap.parquet")
    assert whole.features == pieces.features == (Number("a", 0.0, 1.0, True),)


def test_names_that_differ_by_blanks_are_refused(capsys, engine):
    parquet("t.parquet", **{"alcohol": [1, 2], "alcohol ": [3, 4], "y": [5, 6]})
    assert "two columns are named 'alcohol'" in failed(capsys, "train", "t.parquet")


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
        assert name in line and "save one of numbers or texts" in line and "pickle" not in line


@pytest.mark.parametrize("kind", ["U", "S"])
def test_classes_of_arrays_may_be_texts(capsys, kind):
    np.savez("t.npz", x=RANDOM.normal(size=(COUNT, 2)), y=np.array(["cat", "dog", "eel"] * (COUNT // 3), dtype=kind))
    report = json.loads(done(capsys, "train", "t.npz", "--epochs", 1, "--json", "--out", "t.safetensors"))
    assert report["net"].endswith("-3")
    assert done(capsys, "predict", "t.safetensors", "t.npz").startswith("y,p(cat),p(dog),p(eel)")


def test_a_target_is_no_feature_of_another_files(capsys):
    x, y = RANDOM.normal(size=(COUNT, 3)), RANDOM.normal(size=(COUNT, 1))
    np.save("t.npy", np.hstack([x, y]))
    np.savez("t.npz", X=x, y=y)
    np.savez("x.npz", X=x)
    done(capsys, "train", "t.npy", "--epochs", 1)
    predicted = {done(capsys, "predict", "t.safetensors", name) for name in ("t.npy", "t.npz", "x.npz")}
    assert len(predicted) == 1
    assert "it holds X without y, so there is no target" in failed(capsys, "train", "x.npz")


def test_all_of_x_is_predicted_where_there_is_an_x(capsys):
    x, y = RANDOM.normal(size=(COUNT, 3)), RANDOM.normal(size=COUNT)
    np.savez("parts.npz", x_train=x[:50], y_train=y[:50], x_test=x[50:], y_test=y[50:])
    np.savez("all.npz", X=x, y=y, x_train=x[:50], y_train=y[:50], x_test=x[50:], y_test=y[50:])
    done(capsys, "train", "parts.npz", "--epochs", 1)
    assert [len(done(capsys, "predict", "parts.safetensors", f"{name}.npz").splitlines()) - 1 for name in ("parts", "all")] == [10, 60]


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
    through_pipe = done(capsys, "train", folder / "pipe", "--epochs", 2, "--json", *stream)
    writer.join()
    from_file = done(capsys, "train", f"t.{kind}", "--epochs", 2, "--json", *stream)
    assert json.loads(through_pipe)["test"] == json.loads(from_file)["test"]


@STREAM
def test_there_is_nothing_in_an_empty_pipe(capsys, stream):
    assert "/dev/null: there is nothing in it" in failed(capsys, "train", "/dev/null", *stream)
