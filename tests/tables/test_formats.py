"""Tables from every container: files of each format, archives, standard input, data frames, dicts, arrays."""

from __future__ import annotations

import bz2
import csv
import datetime
import gzip
import io
import json
import lzma
import subprocess
import sys
import zipfile

import numpy as np
import pytest

from microbp.tables.readers import frame_files, sources
from microbp.tables.readers.table import Unusable

DAY = datetime.date(2024, 2, 28)
COUNT = 20
TABLE = {
    "whole": [3 * i - 7 for i in range(COUNT)],
    "fraction": [i / 8 for i in range(COUNT)],
    "gaps": [None if i % 3 == 1 else i / 4 for i in range(COUNT)],
    "text": [("north", "south, east", 'the "old" one', "façade")[i % 4] for i in range(COUNT)],
    "text gaps": [None if i % 4 == 2 else f"t{i % 3}" for i in range(COUNT)],
    "flag": [i % 3 == 0 for i in range(COUNT)],
    "flag gaps": [None if i % 5 == 0 else i % 2 == 0 for i in range(COUNT)],
    "day": [DAY + datetime.timedelta(days=i) for i in range(COUNT)],
    "time": [datetime.datetime(2024, 2, 28, 10, 30, i) for i in range(COUNT)],
    "big": [2**60 + i if i % 4 else None for i in range(COUNT)],
}
NUMBERS = ("whole", "fraction", "gaps", "flag", "flag gaps", "big")
TEXTS = ("text", "text gaps", "day", "time", "big")


def as_text(value):
    return value.isoformat() if isinstance(value, datetime.date) else value


def records():
    return [{name: as_text(values[i]) for name, values in TABLE.items()} for i in range(COUNT)]


def as_csv():
    file = io.StringIO()
    rows = csv.writer(file)
    rows.writerow(TABLE)
    rows.writerows([as_text(value) for value in row] for row in zip(*TABLE.values()))
    return file.getvalue().encode()


def as_lines():
    """Objects without the keys of gaps, except in the last row, so that the first piece of a stream has columns of the last."""
    kept = [{name: value for name, value in row.items() if value is not None} for row in records()]
    return "\n\n".join(map(json.dumps, kept)).encode()


def written(write):
    """The bytes that a library writes."""
    file = io.BytesIO()
    write(file)
    return file.getvalue()


def polars_frame():
    return pytest.importorskip("polars").DataFrame(TABLE)


def pandas_frame(**changes):
    pandas = pytest.importorskip("pandas")
    return pandas.DataFrame(
        TABLE
        | {
            "text": pandas.Categorical(TABLE["text"]),
            "flag gaps": pandas.array(TABLE["flag gaps"], "boolean"),
            "big": pandas.array(TABLE["big"], "Int64"),
            "day": pandas.to_datetime(TABLE["day"]),
        }
        | changes
    )


def arrow_table():
    pyarrow = pytest.importorskip("pyarrow")
    table = pyarrow.table(TABLE)
    return table.set_column(3, "text", table["text"].dictionary_encode())


def arrow_stream():
    pyarrow = pytest.importorskip("pyarrow")
    with io.BytesIO() as file:
        with pyarrow.ipc.new_stream(file, arrow_table().schema) as writer:
            writer.write_table(arrow_table(), 6)
        return file.getvalue()


def workbook():
    book = pytest.importorskip("openpyxl").Workbook()
    cells = [*TABLE.values()]
    cells[-1] = [None if value is None else str(value) for value in cells[-1]]  # a sheet holds 15 digits of a number
    for row in ([*TABLE], *zip(*cells)):
        book.active.append(row)
    return written(book.save)


def zipped(**members):
    with io.BytesIO() as file:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in members.items():
                archive.writestr(name.replace("__", "."), content)
        return file.getvalue()


FILES = {
    "t.csv": as_csv,
    "t.tsv": lambda: as_csv().replace(b'"south, east"', b'"south| east"').replace(b",", b"\t").replace(b"|", b","),
    "t.json": lambda: json.dumps(records()).encode(),
    "lists.json": lambda: json.dumps({name: [*map(as_text, values)] for name, values in TABLE.items()}).encode(),
    "columns.json": lambda: json.dumps({n: {str(i): as_text(v) for i, v in enumerate(vs)} for n, vs in TABLE.items()}).encode(),
    "index.json": lambda: json.dumps(dict(enumerate(records()))).encode(),
    "split.json": lambda: json.dumps({"columns": [*TABLE], "index": [], "data": [[*row.values()] for row in records()]}).encode(),
    "lines.json": as_lines,
    "t.jsonl": as_lines,
    "t.ndjson": lambda: b"\xef\xbb\xbf" + as_lines(),
    "t.xlsx": workbook,
    "t.parquet": lambda: written(polars_frame().write_parquet),
    "pandas.parquet": lambda: written(pandas_frame().to_parquet),
    "t.feather": lambda: written(polars_frame().write_ipc),
    "t.arrow": arrow_stream,
}
PACKED = {
    "t.csv.gz": lambda: gzip.compress(as_csv()),
    "t.csv.bz2": lambda: bz2.compress(as_csv()),
    "t.csv.xz": lambda: lzma.compress(as_csv()),
    "unnamed": lambda: bz2.compress(as_csv()),
    "t.jsonl.gz": lambda: gzip.compress(as_lines()),
    "t.parquet.xz": lambda: lzma.compress(FILES["t.parquet"]()),
    "t.xlsx.gz": lambda: gzip.compress(workbook()),
    "t.zip": lambda: zipped(t__csv=as_csv()),
    "mac.zip": lambda: zipped(**{"in/t__jsonl": as_lines(), "__MACOSX/._t__jsonl": b"\0", "in/": b""}),
    "gz.zip": lambda: zipped(t__csv__gz=gzip.compress(as_csv())),
    "parquet.zip": lambda: zipped(t__parquet=FILES["t.parquet"]()),
}
FRAMES = {
    "polars": polars_frame,
    "pandas": pandas_frame,
    "pandas of objects": lambda: pandas_frame(**{n: pytest.importorskip("pandas").Series(v, dtype=object) for n, v in TABLE.items()}),
    "pandas of Arrow": lambda: arrow_table().to_pandas(types_mapper=pytest.importorskip("pandas").ArrowDtype),
    "arrow": arrow_table,
    "arrow batch": lambda: arrow_table().combine_chunks().to_batches()[0],
    "dict": lambda: TABLE,
    "dict of tuples": lambda: {name: tuple(values) for name, values in TABLE.items()},
    "dict of arrays": lambda: {name: np.array(values, None if None not in values else object) for name, values in TABLE.items()},
    "dict of series": lambda: {name: polars_frame()[name] for name in TABLE},
    "structured array": lambda: np.array(
        [*zip(*TABLE.values())], [*zip(TABLE, ("i4", "f4", "f8", "U20", "O", "?", "O", "M8[D]", "M8[ns]", "O"))]
    ),
}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """An empty current directory; the pieces of streams are small."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sources, "CHUNK", 7)
    return tmp_path


@pytest.fixture(params=["polars", "pyarrow"])
def engine(request, monkeypatch):
    """Each library that reads Parquet and Arrow files."""
    module = pytest.importorskip(request.param)
    monkeypatch.setattr(frame_files, "engine", lambda: module)


def require_the_table(tables):
    """The tables, one after another, have the values of TABLE."""
    assert sum(table.count for table in tables) == COUNT
    for table in tables:
        assert list(table.columns) == [*TABLE]
    for name in NUMBERS:
        values = [np.nan if value is None else float(value) for value in TABLE[name]]
        np.testing.assert_array_equal(np.concatenate([table.numbers(name) for table in tables]), values)
    for name in TEXTS:
        read = [text for table in tables for text in table.texts(name)]
        assert read == [None if value is None else str(as_text(value)) for value in TABLE[name]]


@pytest.mark.parametrize("name", [*FILES, *PACKED])
def test_every_format_has_the_same_columns(folder, name, engine):
    (folder / name).write_bytes((FILES | PACKED)[name]())
    require_the_table([sources.read(name).train])


@pytest.mark.parametrize("name", [name for name in {**FILES, **PACKED} if not name.endswith((".json", ".xlsx", ".xlsx.gz"))])
def test_the_pieces_of_a_stream_are_the_whole(folder, name, engine):
    (folder / name).write_bytes((FILES | PACKED)[name]())
    pieces = sources.pieces(name)
    for _ in range(2):  # a stream is read in each epoch
        tables = [*pieces()]
        assert all(table.count <= 7 for table in tables) and [table.first for table in tables] == [
            *np.cumsum([0, *(t.count for t in tables)])[:-1]
        ]
        require_the_table(tables)


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_recognized_by_its_first_bytes(folder, name):
    (folder / "unnamed").write_bytes(FILES[name]())
    require_the_table([sources.read("unnamed").train])


@pytest.mark.parametrize("name", FRAMES)
def test_data_in_memory_has_the_same_columns(name):
    data = FRAMES[name]()
    source = sources.find(data, test_file=data)
    require_the_table([*source.tables()])
    require_the_table([*source.tests()])
    assert source.where == "table" and next(iter(source.tests())).where == "test_file"


# ---- archives, compressed files, standard input ----


def failed(name, stream=False):
    """The one line of the error for a file, which names it."""
    with pytest.raises((ValueError, OSError)) as caught:
        for _ in [*sources.pieces(name)()] if stream else [sources.read(name)]:
            pass
    line = str(caught.value)
    assert name.partition("/")[0] in line and "\n" not in line and not line.endswith("."), line
    return line


def test_an_archive_with_several_files_is_refused_with_their_names(folder):
    (folder / "t.zip").write_bytes(zipped(a__csv=b"a,y\n1,2\n", **{"in/b.csv": b"b,y\n3,4\n"}))
    assert failed("t.zip") == "t.zip: contains 2 files, a.csv, in/b.csv; name one of them, such as t.zip/a.csv"
    for name, column in (("t.zip/a.csv", "a"), ("t.zip/in/b.csv", "b")):
        (source := sources.find(name)), (streamed := sources.find(name, stream=True))
        for table in (*source.tables(), *streamed.tables()):
            assert list(table.columns) == [column, "y"] and table.where == name
    assert "does not contain c.csv; it contains a.csv, in/b.csv" in failed("t.zip/c.csv")
    assert failed("t.zip/a.csv/b") == "t.zip: does not contain a.csv/b; it contains a.csv, in/b.csv"
    (folder / "empty.zip").write_bytes(zipped())
    assert "the archive contains no files" in failed("empty.zip")
    (folder / "a.csv").write_text("a,y\n1,2\n")
    assert "a.csv: is not an archive" in failed("a.csv/b.csv")


def test_an_archive_reads_no_file_outside_of_it(folder):
    (folder / "secret.csv").write_text("a,y\n1,2\n")
    for name in (str(folder / "secret.csv"), "../secret.csv"):
        (folder / "t.zip").write_bytes(zipped(**{name: b"b,y\n3,4\n"}))
        assert list(sources.read("t.zip").train.columns) == ["b", "y"]


@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz", "t.zip", "t.xlsx", "t.jsonl", "t.parquet", "t.npy", "t.npz"])
@pytest.mark.parametrize("kind", ["file", "pipe"])
def test_a_minus_is_standard_input(folder, name, kind):
    if name.endswith(("npy", "npz")):
        content = written(lambda file: np.save(file, [[1.0, 2.0]]) if name == "t.npy" else np.savez(file, X=[[1.0]], y=[2.0]))
    else:
        content = {**FILES, **PACKED}[name]()
    (folder / name).write_bytes(content)
    script = "from microbp.tables.readers import sources; t = sources.find('-').tables()[0]; print(t.count, *t.columns, sep=',')"
    command, settings = [sys.executable, "-P", "-c", script], {"capture_output": True, "check": True, "timeout": 60}
    if kind == "pipe":
        printed = subprocess.run(command, input=content, **settings).stdout
    else:
        with open(name, "rb") as file:
            printed = subprocess.run(command, stdin=file, **settings).stdout
    table = sources.read(name).train
    assert printed.decode() == f"{table.count},{','.join(table.columns)}\n"


@pytest.mark.parametrize("name", [*FILES, *PACKED])
@pytest.mark.parametrize("damage", ["cut", "changed"])
def test_a_damaged_file_is_refused_in_one_line(folder, name, damage, engine):
    """Or it is read: text can be cut at the end of a row, and bytes can be changed inside a text."""
    content = {**FILES, **PACKED}[name]()
    refused = []
    for place in range(1, len(content), max(len(content) // 10, 1)):
        (folder / name).write_bytes(content[:place] if damage == "cut" else content[:place] + b"\xf1\0}" + content[place + 3 :])
        try:
            sources.read(name)
        except (ValueError, OSError) as error:
            refused.append(str(error))
    assert refused and not [line for line in refused if not line.startswith(name) or "\n" in line]


def test_an_encrypted_archive_and_an_unknown_compression_are_refused(folder):
    content = bytearray(zipped(t__csv=b"a,y\n1,2\n"))
    content[6] |= 1
    content[content.index(b"PK\1\2") + 8] |= 1
    (folder / "t.zip").write_bytes(content)
    assert "encrypted, password required" in failed("t.zip")
    (folder / "t.csv.zst").write_bytes(b"\x28\xb5\x2f\xfd....")
    if sys.version_info < (3, 14):
        assert failed("t.csv.zst") == "t.csv.zst: is compressed by Zstandard, which this Python cannot read; decompress it first"


# ---- JSON ----


def columns_of(folder, text):
    """The columns of a JSON file: lists, or the reason why they cannot be used."""
    (folder / "t.json").write_text(text)
    table = sources.read("t.json").train
    return {name: column.why if isinstance(column, Unusable) else table.column(name).tolist() for name, column in table.columns.items()}


def test_objects_inside_objects_are_columns(folder):
    found = columns_of(folder, '[{"id": 1, "at": {"lat": 1.5, "lon": {"deg": 2}}, "tags": ["a"]}, {"id": 2, "at": {"lat": 2}}]')
    assert list(found) == ["id", "at.lat", "at.lon.deg", "tags"]
    assert found["at.lat"] == [1.5, 2] and found["at.lon.deg"][0] == 2
    assert "which a network cannot use" in found["tags"]
    for depth in (10, 11):
        (found,) = columns_of(folder, "[" + '{"a":' * depth + '{"a": 1}' + "}" * depth + "]").items()
        assert found == (".".join("a" * 11), [1]) if depth == 10 else "which a network cannot use" in found[1]
    assert columns_of(folder, '{"a": 1, "b": "x"}') == {"a": [1], "b": ["x"]}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "t.json: the file is empty"),
        ("[]", "t.json: the file has no rows"),
        ("[1, 2]", 't.json, row 1: must be an object such as {"a": 1, "b": 2}'),
        ("[[1, 2]]", 't.json, row 1: must be an object such as {"a": 1, "b": 2}'),
        ("7", "contains no table; it must be a list of objects, an object of lists, or JSON lines"),
        ('{"n": 2, "rows": [{"a": 1}]}', "or JSON lines; save the list in 'rows' alone"),
        ('{"a": [1, 2], "b": [1]}', "t.json: column 'b' has 1 value, but column 'a' has 2"),
        ('{"columns": ["a", "b"], "data": [[1, 2], [3]]}', "t.json, row 2: must be a list of 2 values, as many as there are columns"),
        ('{"a": 1}\n\n{"a": }', "t.json, line 3: is not JSON: Expecting value (column 7)"),
        ('[{"a": 1, "a": 2}]', "t.json: cannot be read: an object has two values for 'a'; remove one"),
        ('[{"a.b": 1, "a": {"b": 2}}]', "an object has two values for 'a.b'; remove one"),
        ("[" * 100_000, "t.json: cannot be read: "),
        ('[{"a": ' + "9" * 5000 + "}]", "t.json: cannot be read: "),
    ],
)
def test_json_without_a_table_is_refused(folder, text, expected):
    (folder / "t.json").write_text(text)
    assert expected in failed("t.json")


# ---- Excel ----


def sheets(**rows):
    """Writes a workbook; each argument is the rows of a sheet."""
    book = pytest.importorskip("openpyxl").Workbook()
    book.remove(book.active)
    for name, cells in rows.items():
        sheet = book.create_sheet(name)
        for row in cells:
            sheet.append(row)
    book.save("t.xlsx")


def test_a_sheet_is_chosen_by_name():
    sheets(**{"Year 2020": [["a", "y"], [1, 2]], "b.csv": [["b", "y"], [3, 4]]})
    first = sources.read("t.xlsx").train
    assert list(first.columns) == ["a", "y"]
    assert first.assumptions == ("sheet 'Year 2020', the first of 2; for another: t.xlsx/b.csv",)
    other = next(iter(sources.find("t.xlsx/b.csv").tables()))
    assert (list(other.columns), other.where, other.assumptions) == (["b", "y"], "t.xlsx/b.csv", ())
    with pytest.raises(ValueError, match=r"^t.xlsx: has no sheet 'c'; the sheets are Year 2020, b.csv$"):
        sources.read("t.xlsx/c")


def test_titles_and_empty_cells_around_a_table_are_left_out():
    sheets(
        S=[[], [None, "Sales of the year"], [], [None, "a", None, "y", "a"], [None, 1, " ", "x", 5], [], [None, None, 7, "n/a", 6], [None]]
    )
    table = sources.read("t.xlsx").train
    assert table.count == 2 and list(table.columns) == ["a", "column_2", "y", "a_2"]
    np.testing.assert_array_equal([table.numbers(name) for name in ("a", "column_2", "a_2")], [[1, np.nan], [np.nan, 7], [5, 6]])
    assert table.texts("y").tolist() == ["x", None]
    assert table.assumptions == ("skipped 1 row above the table", "column 'a' appears twice: the second is 'a_2'")


@pytest.mark.parametrize(
    ("rows", "header", "names"),
    [
        ([[5.1, "setosa"], [4.9, "setosa"], [6.1, "virginica"]], None, None),
        ([["a", "b"], [4.9, "setosa"], [6.1, "virginica"]], None, ["a", "b"]),
        ([["a", "b"], [4.9, "setosa"], [6.1, "virginica"]], False, None),
        ([[2020, 2021], [1, 2], [3, 4]], True, ["2020", "2021"]),
        ([[DAY, "x"], [DAY, "y"], [DAY, "y"]], None, None),
    ],
)
def test_a_sheet_may_have_no_header(rows, header, names):
    sheets(S=rows)
    table = next(iter(sources.find("t.xlsx", header=header).tables()))
    assert (table.count, list(table.columns)) == (3 - bool(names), names or ["column_1", "column_2"])
    assert table.assumptions == (() if names else ("no header row: the columns are column_1 ... column_2",))


@pytest.mark.parametrize("rows", [[], [["a", "b"]]])
def test_a_sheet_without_rows_is_refused(rows):
    sheets(S=rows)
    assert failed("t.xlsx") == "t.xlsx: the sheet has no rows"


def test_an_error_names_the_row_of_a_sheet():
    sheets(S=[["a", "y"], [1, 2], [1e300, 3]])
    with pytest.raises(ValueError, match=r"^t.xlsx, row 2 \(line 3\), column 'a': 1e\+300 exceeds"):
        sources.read("t.xlsx").train.numbers("a")


def test_excel_files_that_openpyxl_does_not_read_are_refused(folder, monkeypatch):
    (folder / "t.xlsx").write_bytes(b"\xd0\xcf\x11\xe0" + bytes(600))
    assert failed("t.xlsx") == "t.xlsx: is an old Excel file, or has a password; save it as .xlsx without a password"
    for name in ("t.xls", "t.ods"):
        (folder / name).write_bytes(b"")
        assert "files are not supported; save the sheet as .xlsx or CSV" in failed(name)
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    with pytest.raises(ImportError, match="Excel files need openpyxl, which is not installed: python -m pip install openpyxl"):
        sources.read("t.xlsx")


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        ('{"0":{"0":1,"1":2,"2":3},"1":{"0":4,"1":5,"2":6}}', {"0": [1, 2, 3], "1": [4, 5, 6]}),
        ('{"a":{"0":1,"1":2,"2":3},"b":{"0":4,"1":5,"2":6}}', {"a": [1, 2, 3], "b": [4, 5, 6]}),
        ('{"0":{"a":1,"b":4},"1":{"a":2,"b":5}}', {"a": [1, 2], "b": [4, 5]}),
        ('{"r1":{"a":1,"b":4},"r2":{"a":2,"b":5},"r3":{"a":3,"b":6}}', {"a": [1, 2, 3], "b": [4, 5, 6]}),
    ],
)
def test_objects_of_objects_are_what_pandas_writes(tmp_path, text, columns):
    (tmp_path / "t.json").write_text(text)
    table = sources.read(str(tmp_path / "t.json")).train
    assert {name: table.numbers(name).tolist() for name in table.columns} == columns
