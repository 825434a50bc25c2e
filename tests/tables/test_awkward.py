"""Awkward text files: each is read rightly, whole and in pieces, or refused in one helpful line."""

from __future__ import annotations

import codecs
from typing import NamedTuple

import numpy as np
import pytest

from microbp.tables.columns import decide, reading
from microbp.tables.readers import csv_file, sources
from microbp.tables.split import Split, gather

NAN = float("nan")


class Good(NamedTuple):
    """A file, what its columns contain, and parts of the assumptions. The target is the last column, if `target` is None."""

    name: str
    content: str | bytes
    columns: dict[str, list]
    said: tuple[str, ...] = ()
    file: str = "t.csv"
    left_out: tuple[str, ...] = ()
    target: str | None = None


def times(*texts):
    return [np.datetime64(text, "us") for text in texts]


IRIS = "5.1,3.5,setosa\n4.9,3.0,setosa\n6.2,3.4,virginica\n"
IRIS_COLUMNS = {"column_1": [5.1, 4.9, 6.2], "column_2": [3.5, 3.0, 3.4], "column_3": ["setosa", "setosa", "virginica"]}
CAFES = "nom,prix\ncafé,1\nthé,2\n"
CAFE_COLUMNS = {"nom": ["café", "thé"], "prix": [1, 2]}

WORDS = [
    "NaN", "nan", "-nan", "NA", "N/A", "n/a", "#N/A", "<NA>", "NAN", "NULL", ".", "none", "None", "null", "NaT", "1.#IND", "#DIV/0!", "?",
    "-",
]  # fmt: skip

GOOD = [
    # names
    Good("no header", IRIS, IRIS_COLUMNS, ("no header row: the columns are column_1 ... column_3",)),
    Good("no header, numbers only", "1.5,2,3\n4,5,6\n", {"column_1": [1.5, 4], "column_2": [2, 5], "column_3": [3, 6]}),
    Good("no header, values twice", "4,4,7.5\n6,5,8\n", {"column_1": [4, 6], "column_2": [4, 5], "column_3": [7.5, 8]}),
    Good("no header, one row", "1,2.5\n", {"column_1": [1], "column_2": [2.5]}),
    Good("no header, texts twice", "y,y,n\ny,n,y\nn,y,y\n",
         {"column_1": ["y", "y", "n"], "column_2": ["y", "n", "y"], "column_3": ["n", "y", "y"]}),
    Good("the header of pandas", "0,1,2\n7,8.5,a\n9,7,b\n", {"0": [7, 9], "1": [8.5, 7], "2": ["a", "b"]}),
    Good("years as names", "name,2010,2011,2012\na,1,2,3\nb,4,5,7\n",
         {"name": ["a", "b"], "2010": [1, 4], "2011": [2, 5], "2012": [3, 7]}),
    Good("names of texts", "colour,kind\nred,a\nblue,b\n", {"colour": ["red", "blue"], "kind": ["a", "b"]}),
    Good("a name with a unit", "100m,y\n11.5,1\n12,2\n", {"100m": [11.5, 12], "y": [1, 2]}),
    Good("a name twice", "a,a,y\n1,2,3\n4,5,7\n", {"a": [1, 4], "a_2": [2, 5], "y": [3, 7]}, ("the second is 'a_2'",)),
    Good("row names of R", "a,y\nr1,1,2\nr2,3,4\n",
         {"column_1": ["r1", "r2"], "a": [1, 3], "y": [2, 4]}, ("one cell more than the header: the first column, column_1",)),
    Good("write.table of R", '"a" "y"\n"1" 5 "u"\n"2" 7 "v"\n"3" 5 "u"\n',
         {"column_1": [1, 2, 3], "a": [5, 7, 5], "y": ["u", "v", "u"]}, ("column_1 left out: row numbers",), left_out=("column_1",)),
    *(Good(f"a separator at the end of {where}", f"{names}1,2,\n3,5,\n", {name: [1, 3], other: [2, 5]},
           ("each row ends with a separator", *said))
      for where, names, name, other, said in [("rows", "a,y\n", "a", "y", ()), ("all lines", "a,y,\n", "a", "y", ()),
                                              ("rows without a header", "", "column_1", "column_2", ("column_1 ... column_2",))]),
    Good("units without a header", "3 kg,red,5\n4 kg,blue,7\n3 kg,red,6\n",
         {"column_1": [3, 4, 3], "column_2": ["red", "blue", "red"], "column_3": [5, 7, 6]}, ("no header row", "unit kg")),
    Good("a quote inside a name", 'height",weight,c\n1,2,3\n4,5,7\n', {'height"': [1, 4], "weight": [2, 5], "c": [3, 7]}),
    # separators
    Good("commas in names", "weight, kg;price, EUR\n1,5;3,2\n2,5;4\n",
         {"weight, kg": [1.5, 2.5], "price, EUR": [3.2, 4]}, ("weight, kg: decimal comma",)),
    Good("tabs and commas", "a, b\tc, d\tkind\n1,5\t2\tx\n2,5\t3\ty\n",
         {"a, b": [1.5, 2.5], "c, d": [2, 3], "kind": ["x", "y"]}, file="t.tsv"),
    Good("semicolons in texts", "a,kind\n1,x;y\n2,z;w\n", {"a": [1, 2], "kind": ["x;y", "z;w"]}),
    Good("spaces", "  a   b y\n 1  2.5 3\n10 4 5\n", {"a": [1, 10], "b": [2.5, 4], "y": [3, 5]}),
    Good("the first line of Excel", "sep=;\na;y\n1,5;2\n2;3\n", {"a": [1.5, 2], "y": [2, 3]}, ("separator: ;, named by the first line",)),
    Good("comments", "# from a lab\n#\na,y\n1,2\n# a break\n3,4\n", {"a": [1, 3], "y": [2, 4]}, ("skipped 2 comment lines",)),
    Good("a line above rows without a header",
         "|1x3 Cross validator\n25, Private, 40, <=50K.\n38, State, 50, >50K.\n28, Private, 45, >50K.\n",
         {"column_1": [25, 38, 28], "column_2": ["Private", "State", "Private"], "column_3": [40, 50, 45],
          "column_4": ["<=50K.", ">50K.", ">50K."]}, ("skipped a line above the table", "no header row")),
    Good("a title", "Sales of 2020\n\na;b;y\n1;2,5;3\n2;3;5\n", {"a": [1, 2], "b": [2.5, 3], "y": [3, 5]}, ("skipped a line above",)),
    Good("names with another separator inside", "a|b,c,y\n1,2,3\n4,5,7\n", {"a|b": [1, 4], "c": [2, 5], "y": [3, 7]}),
    Good("the header of NumPy", "# a,y\n1,2.5\n3,4\n", {"a": [1, 3], "y": [2.5, 4]}),
    Good("a header that starts with #", "#a,kind\nu,x\nv,y\nu,y\n",
         {"a": ["u", "v", "u"], "kind": ["x", "y", "y"]}, ("the names of the columns are in a line that starts with #",)),
    Good("a comment with a comma above texts", "# made by me, today\na,kind\nu,x\nv,y\n",
         {"a": ["u", "v"], "kind": ["x", "y"]}, ("skipped 1 comment line",)),
    Good("colours are no comments", "colour,y\n#ff0000,1\n#00ff00,2\n", {"colour": ["#ff0000", "#00ff00"], "y": [1, 2]}),
    Good("blank lines", "\n\na,y\n\n1,2\n\n  \n3,4\n\n", {"a": [1, 3], "y": [2, 4]}),
    # encodings
    Good("cp1252", CAFES.encode("cp1252"), CAFE_COLUMNS, ("encoding: cp1252",)),
    *(Good(f"cp1252, the first umlaut in row {1 + row}", ("a,y\n" + "klein,1\n" * row + "groß,2\n" * 200).encode("cp1252"),
           {"a": ["klein"] * row + ["groß"] * 200, "y": [1] * row + [2] * 200}, ("encoding: cp1252",)) for row in (0, 150)),
    Good("cp1252 that looks like UTF-8 at first", ("a,y\n" + "ÃŸ,1\n" * 120 + "groß,2\n").encode("cp1252"),
         {"a": ["ÃŸ"] * 120 + ["groß"], "y": [1] * 120 + [2]}, ("encoding: cp1252",)),
    Good("UTF-8, the first umlaut late", "a,y\n" + "klein,1\n" * 150 + "groß,2\n" * 150,
         {"a": ["klein"] * 150 + ["groß"] * 150, "y": [1] * 150 + [2] * 150}),
    Good("UTF-16", CAFES.encode("utf-16"), CAFE_COLUMNS, ("encoding: UTF-16",)),
    Good("a byte order mark", CAFES.encode("utf-8-sig"), CAFE_COLUMNS),
    # missing values
    *(Good(f"missing: {word}", f"a,kind\n1,x\n{word},y\n2.5,\n", {"a": [1, NAN], "kind": ["x", "y"]}, ("a: 1 missing value", "kind: 1 row"))
      for word in WORDS),
    Good("a target + or -", "a,y\n1,+\n3,-\n4,+\n", {"a": [1, 3, 4], "y": ["+", "-", "+"]}, ("y: - is a value, not missing",)),
    Good("None is a material", "m,y\nNone,1\nBrick,2\nNone,4\n",
         {"m": ["None", "Brick", "None"], "y": [1, 2, 4]}, ("m: None is a value",)),
    Good("a rare None", "m,y\nNone,1\n" + "Brick,2\n" * 30,
         {"m": [None] + ["Brick"] * 30, "y": [1] + [2] * 30}, ("m: 1 missing value (None)",)),
    # numbers
    Good("percent", "p,y\n18.0%,1\n2.5 %,3\n", {"p": [18, 2.5], "y": [1, 3]}, ("p: percent",)),
    Good("currencies", "a,b,c\n\"$3,504\",€ 12,1 USD\n$20,€ 7.5,2 USD\n",
         {"a": [3504, 20], "b": [12, 7.5], "c": [1, 2]}, ("a: commas between thousands, unit $", "b: unit €")),
    Good("a currency in some cells", "a,y\n\"$1,200\",1\n300,3\n-$5,4\n", {"a": [1200, 300, -5], "y": [1, 3, 4]}),
    Good("thousands with commas", 'a,y\n"1,571",1\n"12,000,100",3\n',
         {"a": [1571, 12000100], "y": [1, 3]}, ("a: commas between thousands",)),
    Good("an open comma in a file with commas", 'a,y\n"1,571",1\n"2,250",3\n',
         {"a": [1571, 2250], "y": [1, 3]}, ("could also be decimal comma",)),
    Good("an open comma in a file with semicolons", "a;y\n1,571;1\n2,250;3\n",
         {"a": [1.571, 2.25], "y": [1, 3]}, ("could also be commas between",)),
    Good("another column decides about commas", 'a,b\n"1,571","1,5"\n"2,250","2,25"\n', {"a": [1.571, 2.25], "b": [1.5, 2.25]}),
    Good("German numbers", "a;b;y\n1.234,5;1.234;1\n12,25;2.500;3\n",
         {"a": [1234.5, 12.25], "b": [1234, 2500], "y": [1, 3]}, ("a: decimal comma, points between",)),
    Good("quoted decimal commas", 'a,y\n"1,5",1\n"0,25",3\n', {"a": [1.5, 0.25], "y": [1, 3]}),
    Good("French numbers", "a;y\n1 234,5;1\n12 000 000;3\n",
         {"a": [1234.5, 12e6], "y": [1, 3]}, ("a: decimal comma, spaces between thousands",)),
    Good("Swiss numbers", "a,y\n1'234.5,1\n12'000,3\n", {"a": [1234.5, 12000], "y": [1, 3]}),
    Good("a true minus", "a,y\n\u22121.5,1\n2,3\n", {"a": [-1.5, 2], "y": [1, 3]}),
    Good("units", "w,e,y\n12 kg,1.6L,1\n7.5 kg,2L,3\n", {"w": [12, 7.5], "e": [1.6, 2], "y": [1, 3]}, ("w: unit kg", "e: unit L")),
    Good("accounting", 'a,b,c\n"($1,200)",(17.5%),(5)\n"$3,000",2%,7.5\n$ (5),(1)%,-2\n',
         {"a": [-1200, 3000, -5], "b": [-17.5, 2, -1], "c": [-5, 7.5, -2]},
         ("a: numbers in parentheses are negative", "c: numbers in parentheses", "a: commas between thousands, unit $", "b: percent")),
    Good("German accounting", "a;y\n(1.234,5);1\n(2);3\n", {"a": [-1234.5, -2], "y": [1, 3]}),
    Good("texts with parentheses", "a,b,c,y\n(5),(-5),f(2),1\nx,3,(2,3\n",
         {"a": ["(5)", "x"], "b": ["(-5)", "3"], "c": ["f(2)", "(2"], "y": [1, 3]}),
    Good("mixed units", "w,y\n12 kg,1\n7.5 lb,3\n", {"w": ["12 kg", "7.5 lb"], "y": [1, 3]}),
    Good("huge whole numbers", "y,a\n9007199254740993,1\n9007199254740992,3\n",
         {"y": ["9007199254740993", "9007199254740992"], "a": [1, 3]}, ("y: whole numbers beyond 2^53",)),
    # dates
    Good("ISO", "d,y\n2012-01-14,1\n2013-12-31,3\n",
         {"d": times("2012-01-14", "2013-12-31"), "y": [1, 3]}, ("d: dates, year/month/day",)),
    Good("ISO with times", "d,y\n2012-01-14T10:30:15.25Z,1\n2013-12-31 01:02,3\n",
         {"d": times("2012-01-14T10:30:15.25", "2013-12-31T01:02"), "y": [1, 3]}),
    Good("offsets from UTC", "d,e,y\n2024-01-01T10:00:00+02:00,2024-01-01 00:30:00.5-0530,1\n2023-12-31T23:30Z,2024-01-01 10:00:00+01,3\n",
         {"d": times("2024-01-01T08:00", "2023-12-31T23:30"), "e": times("2024-01-01T06:00:00.5", "2024-01-01T09:00"), "y": [1, 3]},
         ("d: times with an offset, such as +02:00, are converted to UTC", "e: times with an offset")),
    Good("American", "d,y\n1/14/2012,1\n02/03/12 5:07 PM,3\n",
         {"d": times("2012-01-14", "2012-02-03T17:07"), "y": [1, 3]}, ("month/day/year",)),
    Good("European", "d,y\n14.01.2012,1\n3.2.1999,3\n", {"d": times("2012-01-14", "1999-02-03"), "y": [1, 3]}, ("day/month/year",)),
    Good("an open order", "d,y\n01/02/2012,1\n02/03/2012,3\n",
         {"d": times("2012-01-02", "2012-02-03"), "y": [1, 3]}, ("could also be dates, day/month/year",)),
    Good("another column decides about the order", "d,e,y\n01/02/2012,13/01/2012,1\n,14/01/2012,3\n",
         {"d": times("2012-02-01", "NaT"), "e": times("2012-01-13", "2012-01-14"), "y": [1, 3]}),
    Good("eight digits", "d,y\n20120114,1\n20131231,3\n",
         {"d": times("2012-01-14", "2013-12-31"), "y": [1, 3]}, ("written as 20120131",)),
    Good("names of months", 'd,e,y\n14 Jan 2012,"Feb 3, 1999",1\n1-dec-13,"March 14, 2000",3\n',
         {"d": times("2012-01-14", "2013-12-01"), "e": times("1999-02-03", "2000-03-14"), "y": [1, 3]}),
    Good("months", "d,y\n2012-01,1\n2013-12,3\n", {"d": times("2012-01-01", "2013-12-01"), "y": [1, 3]}),
    Good("times", "d,y\n10:30,1\n9:05:30,3\n", {"d": times("1970-01-01T10:30", "1970-01-01T09:05:30"), "y": [1, 3]}),
    Good("missing dates", "d,y\n14.01.2012,1\n-,3\nNA,5\n",
         {"d": times("2012-01-14", "NaT", "NaT"), "y": [1, 3, 5]}, ("d: 2 missing values (-, NA)",)),
    Good("an invoice is no date", "i,y\n750-67-8428,1\n226-31-3081,3\n", {"i": ["750-67-8428", "226-31-3081"], "y": [1, 3]}),
    Good("a unit with a digit", "m,y\n69 m2,1\n45 m2,3\n", {"m": [69, 45], "y": [1, 3]}, ("unit m2",)),
    Good("codes of a quarter", "q,y\n2019Q2,1\n2018Q1,3\n", {"q": ["2019Q2", "2018Q1"], "y": [1, 3]}),
    Good("a decimal comma and an exponent", "a\ty\n6,666e-06\t1\n7,5\t3\n", {"a": [6.666e-06, 7.5], "y": [1, 3]}, ("a: decimal comma",)),
    Good("numbers of pandas between semicolons", "n;b;e;k;y\n4.0;true;5.6e+06;1200;a\n5.0;false;1e+05;7;b\n",
         {"n": [4, 5], "b": [1, 0], "e": [5.6e6, 1e5], "k": [1200, 7], "y": ["a", "b"]}),
    # codes
    Good("zeros before digits", "zip,y\n01234,1\n90210,2\n10001,4\n",
         {"zip": ["01234", "90210", "10001"], "y": [1, 2, 4]}, ("zip: digits with zeros before them, such as 01234, used as texts",)),
    Good("zeros before digits, late", "zip,y\n90210,2\n10001,4\n,5\n00501,1\n",
         {"zip": ["90210", "10001", None, "00501"], "y": [2, 4, 5, 1]}, ("zip: digits with zeros",)),
    Good("a code among letters", "dep,y\n01,1\n2A,2\n10,4\n", {"dep": ["01", "2A", "10"], "y": [1, 2, 4]}),
    Good("zeros before digits in a mostly clean column", "zip,y\n" + "".join(f"{i:05},{i % 7}\n" for i in range(50)) + "none,3\nhere,2\n",
         {"zip": [*(f"{i:05}" for i in range(50)), None, "here"], "y": [*(i % 7 for i in range(50)), 3, 2]},
         ("zip: digits with zeros before them",)),
    Good("zeros before digits that are numbers", "a,b,c,d,y\n007,-01,00.5,00:30,1\n0,02,10,10:00,2\n1234,10,2,11:15,4\n",
         {"a": [7, 0, 1234], "b": [-1, 2, 10], "c": [0.5, 10, 2],
          "d": times("1970-01-01T00:30", "1970-01-01T10", "1970-01-01T11:15"), "y": [1, 2, 4]}),
    Good("a target with zeros before digits", "a,y\n5,001\n7,002\n5,003\n", {"a": [5, 7, 5], "y": [1, 2, 3]}),
    # ids
    Good("an index of pandas", ",a,y\n0,5,1\n1,7,2\n2,5,4\n",
         {"column_1": [0, 1, 2], "a": [5, 7, 5], "y": [1, 2, 4]}, ("column_1 left out: row numbers",), left_out=("column_1",)),
    Good("row numbers", "n,a,y\n1,5,1\n2,7,2\n3,5,4\n",
         {"n": [1, 2, 3], "a": [5, 7, 5], "y": [1, 2, 4]}, ("n left out: row numbers",), left_out=("n",)),
    Good("ids", "PassengerId,a,y\n17,5,1\n12,7,2\n93,5,4\n",
         {"PassengerId": [17, 12, 93], "a": [5, 7, 5], "y": [1, 2, 4]}, ("an id",), left_out=("PassengerId",)),
    Good("different numbers without a header are no ids", "17,5,1\n12,7,2\n93,5,4\n",
         {"column_1": [17, 12, 93], "column_2": [5, 7, 5], "column_3": [1, 2, 4]}),
    Good("row numbers as the target", "a,n\n5,1\n7,2\n5,3\n", {"a": [5, 7, 5], "n": [1, 2, 3]}),
    Good("row numbers alone", "n,y\n1,5\n2,7\n3,5\n", {"n": [1, 2, 3], "y": [5, 7, 5]}),
    # rows
    Good("rows without a target", "a,y\n1,x\n2,\n3,NaN\n4,z\n",
         {"a": [1, 4], "y": ["x", "z"]}, ("y: 2 rows without a value left out (NaN)",)),
]  # fmt: skip


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(csv_file, "_BLOCK", 2)
    monkeypatch.setattr(sources, "CHUNK", 1)
    return tmp_path


def write(folder, content, name="t.csv"):
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())


def cells(tables, name):
    """The cells of a column in all tables, as it is read."""
    read = {"text": lambda table: table.texts(name), "number": lambda table: table.numbers(name), "date": lambda table: table.dates(name)}
    return [cell for table in tables for cell in read[table.kind(name)](table).tolist()]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("case", GOOD, ids=[case.name for case in GOOD])
def test_an_awkward_file_is_read_rightly(folder, case, stream):
    write(folder, case.content, case.file)
    source = sources.find(case.file, stream=stream)
    first = next(iter(source.tables()))
    target = case.target or list(first.columns)[-1]
    columns = decide(source, target)
    tables = list(reading(source, columns.readings, target).tables())
    assert list(first.columns) == list(case.columns)
    assert tuple(columns.left_out) == case.left_out
    for name, expected in case.columns.items():
        found = cells(tables, name)
        values = [cell.astype(object) if isinstance(cell, np.datetime64) else cell for cell in expected]
        assert len(found) == len(values) or "" in map(str, values)
        for one, other in zip(found, values, strict=True):
            assert one == other or (one != one and other != other), (name, found, expected)
    said = [line for table in source.tables() for line in table.assumptions] + [*columns.assumptions, *columns.gaps]
    said += [f"{name} left out: {why}" for name, why in columns.left_out.items()]
    for words in case.said:
        assert any(words in line for line in said), said


BAD = [
    ("a totals row", "a,y\n1,2\n3,4\nTotal,6\n", ["row 3 (line 4)", "'Total'", "delete this row"]),
    ("rows of unequal length", "a,y\n1,2\n3,4,5\n", ["row 2 (line 3)", "has 3 cells", "names 2 columns"]),
    ("a value after separators at the end", "a,y\n" + "1,2,\n" * 120 + "1,2,3\n", ["row 121", "has 3 cells", "names 2 columns"]),
    ("an open quote", 'a,y\n1,2\n"3,4\n', ["row 2", "a quoted cell must end with a quote"]),
    ("an open quote in the header", '"a,y\n' + "1,2\n" * 50_000, ["the first line cannot be read", "a quoted cell must end"]),
    ("neither UTF-8 nor cp1252", b"a,y\n\x81,2\n3,4\n", ["row 1 (line 2), column 'a'", "save the file as UTF-8"]),
    ("a byte order mark of UTF-8 before cp1252", codecs.BOM_UTF8 + "a,y\nß,2\n".encode("cp1252"), ["row 1 (line 2), column 'a'", "UTF-8"]),
    ("zero bytes", "a,y\n1,\0\n", ["zero byte"]),
    ("nothing", "", ["the file is empty"]),
    ("only a header", "a,y\n", ["has only one line", "if it is a row, use no_header"]),
]  # fmt: skip


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(("content", "expected"), [case[1:] for case in BAD], ids=[case[0] for case in BAD])
def test_an_unusable_file_is_refused_in_one_helpful_line(folder, content, expected, stream):
    write(folder, content)
    with pytest.raises(ValueError, match=r"^t\.csv") as error:
        list(sources.find("t.csv", stream=stream).tables())
    assert "\n" not in str(error.value) and all(words in str(error.value) for words in expected), error.value


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        ([f"{i}.5" for i in range(40)], "'oops' is not a number"),
        ([f"{i},5" for i in range(40)], "'oops' is not a number"),
        ([f"{i}%" for i in range(40)], "'oops' is not a number"),
        ([f"2012-01-{i % 28 + 1:02}" for i in range(40)], "'oops' is not a date"),
    ],
)
def test_a_text_in_a_column_of_numbers_or_dates_is_a_mistake(folder, cells, expected):
    rows = [f"{cell};{i % 7 / 8}" for i, cell in enumerate(cells)]
    rows[30] = "oops;0.5"
    write(folder, "\n".join(["a;y", *rows]))
    with pytest.raises(ValueError, match=expected) as error:
        gather(Split(sources.find("t.csv")))
    assert "row 31 (line 32), column 'a'" in str(error.value)
    words = gather(Split(sources.find("t.csv")), missing=["oops"])
    assert words.preparation.features[0].name == "a" and words.training > 20


# ---- polars ----

FLOATS = [
    "1", "-2.5", "+3", "1e3", "1E-3", "1.", ".5", "-.5", "0x10", "1_0", "1,5", "inf", "-Infinity", "nan", "NaN", "NA", "", " 4 ", "\u0661",
    "1e400", "1e", "--1", "1d5", "1f", "true", "FALSE", "9007199254740993", "0.1000000000000000055511151231257827", "4.9e-324", "\u22121",
]  # fmt: skip


def both_ways(monkeypatch, name):
    """The table read by polars, and by the csv module; None if the csv module is used in any case."""
    monkeypatch.setattr(csv_file, "_LARGE", 0)
    by_polars = csv_file._by_polars(csv_file.Path(name), None)
    return by_polars, next(csv_file.pieces(csv_file.Path(name), 10**6))


def require_equal(one, other):
    assert (one.count, one.first, one.before, one.assumptions, one.decimal) == (
        other.count, other.first, other.before, other.assumptions, other.decimal
    )  # fmt: skip
    assert list(one.columns) == list(other.columns)
    for name in one.columns:
        assert type(one.columns[name]) is type(other.columns[name]), name
        assert one.strings(name).tolist() == other.strings(name).tolist()
        if not isinstance(one.columns[name], np.ndarray):
            np.testing.assert_array_equal(one.columns[name].numbers, other.columns[name].numbers)


@pytest.mark.parametrize("case", GOOD, ids=[case.name for case in GOOD])
def test_polars_reads_an_awkward_file_like_the_csv_module_or_leaves_it(folder, monkeypatch, case):
    pytest.importorskip("polars")
    write(folder, case.content, case.file)
    by_polars, by_csv = both_ways(monkeypatch, case.file)
    if by_polars is not None:
        require_equal(by_polars, by_csv)


@pytest.mark.parametrize("content", [case[1] for case in BAD], ids=[case[0] for case in BAD])
def test_polars_leaves_an_unusable_file_to_the_csv_module(folder, monkeypatch, content):
    pytest.importorskip("polars")
    write(folder, content)
    monkeypatch.setattr(csv_file, "_LARGE", 0)
    with pytest.raises(ValueError, match=r"t\.csv"):
        csv_file.read(csv_file.Path("t.csv"))


@pytest.mark.parametrize("text", FLOATS)
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_polars_reads_a_cell_like_python(folder, monkeypatch, text, end):
    pytest.importorskip("polars")
    write(folder, end.join(["a;b;y", f"1;x;{text}", f"2;{text};3", ""]))
    by_polars, by_csv = both_ways(monkeypatch, "t.csv")
    assert by_polars is not None
    require_equal(by_polars, by_csv)


@pytest.mark.parametrize("content", ["a,y\n1,2\n\n3,4\n", "a,y\n1,2\n3\n", "a,y\r1,2\r3,4\r", "a,y\n1,2\n3,4\n\n", 'a,y\n"1",2\n'])
def test_polars_is_not_used_where_it_could_differ(folder, monkeypatch, content):
    pytest.importorskip("polars")
    write(folder, content)
    monkeypatch.setattr(csv_file, "_LARGE", 0)
    assert csv_file._by_polars(csv_file.Path("t.csv"), None) is None
