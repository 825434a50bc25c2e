"""From columns to features: dates, categories, bad cells in prediction, rows without a target, columns by number."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime

import numpy as np
import pytest

from microbp.cli.main import main
from microbp.tables.columns import decide
from microbp.tables.encodings.category import Category
from microbp.tables.encodings.date import Date
from microbp.tables.encodings.encoding import Encoding
from microbp.tables.encodings.number import Number
from microbp.tables.encodings.parts import PERIODS, parts_of
from microbp.tables.encodings.tally import Tally
from microbp.tables.preparation import Preparation, find_target, prepare
from microbp.tables.readers import sources
from microbp.tables.readers.errors import ArgumentError, TableError
from microbp.tables.readers.table import Table
from microbp.tables.split import Split, gather

COUNT = 60
Y = [i % 7 + 0.5 for i in range(COUNT)]
STREAM = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sources, "CHUNK", 13)
    return tmp_path


def write(name="t.csv", header=True, **columns):
    rows = [columns] if header else []
    with open(name, "w", encoding="utf-8") as file:
        file.writelines(",".join(map(str, row)) + "\n" for row in (*rows, *zip(*columns.values(), strict=True)))


def gathered(name="t.csv", stream=False, header=None, **options):
    return gather(Split(sources.find(name, stream=stream, header=header)), encoding=lambda rows, columns, classifies: Encoding(), **options)


def feature(name, **options):
    found = {one.name: one for one in gathered(**options).preparation.features}
    return found.get(name)


# ---- dates ----


def test_the_parts_of_a_time_are_those_of_python():
    moments = np.array(["1969-12-31T23:59:59.5", "2000-02-29T06:30", "2024-03-31", "NaT"], dtype="M8[us]")
    found = parts_of(moments)
    for i, moment in enumerate(moments[:3].astype(object)):
        hour = moment.hour + moment.minute / 60 + moment.second / 3600 + moment.microsecond / 3600e6
        expected = {"year": moment.year, "month": moment.month - 1, "day": moment.day - 1, "weekday": moment.weekday(), "hour": hour}
        assert {part: found[part][i] for part in expected} == pytest.approx(expected)
        assert found["elapsed"][i] == pytest.approx(float(moments[i].astype(np.int64)) / 86_400e6)
    assert all(np.isnan(values[3]) for values in found.values())


DAYS = [f"2012-01-{i % 28 + 1:02}" for i in range(COUNT)]
DATES = {
    "days of a month": (DAYS, {"elapsed"}, {"day", "weekday"}),
    "years": ([f"{1990 + i % 9}-01-01" for i in range(COUNT)], {"elapsed", "year"}, {"weekday"}),
    "times": ([f"{i % 24}:30" for i in range(COUNT)], set(), {"hour"}),
    "moments": ([f"2012-01-01 {i % 24}:30" for i in range(COUNT)], {"elapsed"}, {"hour"}),
    "eight digits": ([day.replace("-", "") for day in DAYS], {"elapsed"}, {"day", "weekday"}),
}


@STREAM
@pytest.mark.parametrize("name", DATES)
def test_only_the_parts_of_a_date_that_vary_are_features(name, stream):
    cells, linear, periodic = DATES[name]
    write(when=cells, y=Y)
    found = feature("when", stream=stream)
    assert isinstance(found, Date)
    assert (set(found.linear), set(found.periodic), found.missing) == (linear, periodic, False)
    assert found.width == len(linear) + 2 * len(periodic)


def test_dates_are_scaled_by_the_training_rows_and_periodic_parts_are_on_the_circle():
    write(when=[day if i % 5 else "" for i, day in enumerate(DAYS)], y=Y)
    data = gathered()
    x, (when,) = data.part("train").x, data.preparation.features
    there = x[:, -1] == 0
    assert when.missing and 0 < there.sum() < len(x) and not x[~there, :-1].any()
    assert (x[there, 0].mean(), x[there, 0].std()) == pytest.approx((0, 1), abs=1e-5)
    for i in range(len(when.periodic)):
        np.testing.assert_allclose(np.hypot(x[there, 1 + 2 * i], x[there, 2 + 2 * i]), 1, rtol=1e-6)
    saved = json.loads(json.dumps(data.preparation.as_dict()))
    assert Preparation.from_dict(saved) == data.preparation


@pytest.mark.parametrize(
    ("key", "value"),
    [("linear", {"era": [0, 1]}), ("linear", {"year": [0, 0]}), ("periodic", ["year"]), ("linear", []), ("periodic", "day")],
)
def test_invalid_dates_in_a_file_are_refused(key, value):
    write(when=DAYS, y=Y)
    saved = gathered().preparation.as_dict()
    saved["features"][0][key] = value
    with pytest.raises((TypeError, ValueError)):
        Preparation.from_dict(json.loads(json.dumps(saved)))


def test_all_periods_are_longer_than_the_values():
    moments = np.arange("2011-12-01", "2013-02-01", dtype="M8[h]").astype("M8[us]")
    for part, period in PERIODS.items():
        assert parts_of(moments)[part].min() >= 0 and parts_of(moments)[part].max() < period


# ---- prediction reads as training ----


@pytest.mark.parametrize(
    ("cells", "same"),
    [
        ([f"{i % 9},5" for i in range(COUNT)], lambda i: f"{i % 9}.5"),
        ([f"{i % 9}%" for i in range(COUNT)], lambda i: str(i % 9)),
        ([f"${i % 9},000" if i % 9 else "$0" for i in range(COUNT)], lambda i: str(i % 9 * 1000)),
    ],
)
@STREAM
def test_marks_and_units_change_nothing_but_the_reading(cells, same, stream):
    write("marked.csv", a=[f'"{cell}"' for cell in cells], y=Y)
    write("plain.csv", a=[same(i) for i in range(COUNT)], y=Y)
    marked, plain = gathered("marked.csv", stream), gathered("plain.csv", stream)
    assert marked.preparation.features == plain.preparation.features
    np.testing.assert_array_equal(marked.part("train").x, plain.part("train").x)
    again = Preparation.from_dict(json.loads(json.dumps(marked.preparation.as_dict())))
    (table,) = sources.find("marked.csv").tables()
    np.testing.assert_array_equal(again.matrix(table.take(np.array([30]))), marked.preparation.matrix(table)[30:31])


def test_a_preparation_of_0_1_0_is_loaded():
    saved = {
        "features": [
            {"name": "a", "centre": 1.0, "scale": 2.0, "missing": True},
            {"name": "c", "levels": ["", "None", "x"], "other": False},
        ],
        "target": {"name": "y", "classes": [], "centre": 0.0, "scale": 1.0},
        "positions": None,
        "left_out": {"n": "constant"},
    }
    write(a=["5", "NA", "1"], c=["x", "-", "None"])
    (table,) = sources.find("t.csv").tables()
    found = Preparation.from_dict(saved)
    assert found.matrix(table).tolist() == [[2, 0, 0, 0, 1], [0, 1, 1, 0, 0], [0, 0, 1, 0, 0]]
    with open("semi.csv", "w", encoding="utf-8") as file:
        file.write("a;c\n1,5;x\n2.5;x\n")
    (table,) = sources.find("semi.csv").tables()
    assert found.matrix(table)[:, 0].tolist() == [0.25, 0.75]


@pytest.mark.parametrize(
    ("change", "is_valid"),
    [
        (lambda saved: None, True),
        (lambda saved: saved["readings"].pop("d"), False),
        (lambda saved: saved["readings"]["d"].update(kind="text", order=""), False),
        (lambda saved: saved["features"][0]["linear"].update(elapsed=[1e308, 1]), False),
        (lambda saved: saved["features"][0]["linear"].update(elapsed=[0, 1e-300]), False),
        (lambda saved: saved["features"][0]["linear"].update(elapsed=[float("nan"), 1]), False),
    ],
)
def test_a_date_in_a_file_has_an_order_and_possible_numbers(change, is_valid):
    write(d=DAYS, y=Y)
    saved = json.loads(json.dumps(gathered().preparation.as_dict()))
    change(saved)
    if is_valid:
        Preparation.from_dict(saved)
    else:
        with pytest.raises((ValueError, KeyError)):
            Preparation.from_dict(saved)


def test_a_number_meets_the_category_with_its_value():
    write(c=["1", "2", "x"] * 20, y=Y)
    found = feature("c")
    assert found == Category("c", ("1", "2", "x"), False)
    write("new.csv", c=["1.0", "2", "2.00"])
    out = np.empty((3, 3), np.float32)
    found.fill(next(iter(sources.find("new.csv").tables())), out)
    assert out.tolist() == [[1, 0, 0], [0, 1, 0], [0, 1, 0]]


@STREAM
@pytest.mark.parametrize("gap", ["", "n"])
def test_rare_values_that_share_a_feature_are_said_and_are_not_new(stream, gap):
    write(c=["x"] * 30 + [f"r{i // 2}" for i in range(COUNT - 31)] + [gap], d=[f"s{i // 12}" for i in range(COUNT - 1)] + ["rare"], y=Y)
    source = sources.find("t.csv", stream=stream)
    preparation = prepare(source.tables(), find_target(source.tables(), "y"), columns=decide(source, "y"))
    said = [line for line in preparation.assumptions if "another value" in line]
    assert said == [f'c: {15 + (gap != "")} of {16 + (gap != "")} different values are rare and count as "another value"']
    tally = Tally()
    for table in source.tables():
        preparation.matrix(table, tally)
    assert not (+tally.unseen or +tally.gaps or +tally.bad)


def test_bad_cells_are_counted_and_become_gaps():
    write(a=[f"{i % 9}" for i in range(COUNT)], c=["x", "z", "u"] * 20, d=DAYS, y=Y)
    preparation = gathered().preparation
    write("new.csv", a=["1", "oops", "", "1e300", "99"], c=["x", "new", "", "z", "new"], d=[*DAYS[:3], "13/13/2012", ""])
    (table,) = sources.find("new.csv").tables()
    with pytest.raises(TableError, match=r"new\.csv, row 2 \(line 3\), column 'a': 'oops' is not a number"):
        preparation.matrix(table)
    tally = Tally()
    x = preparation.matrix(table, tally)
    assert (tally.bad, tally.gaps) == ({"a": 2, "d": 1}, {"a": 1, "c": 1, "d": 1})
    assert (tally.unseen, tally.far) == ({"c": 2}, {"a": 1})
    assert x[1, 0] == x[2, 0] == x[3, 0] == 0 and np.isfinite(x).all()
    preparation.matrix(table, tally)
    assert tally.bad == {"a": 4, "d": 2}


# ---- rows and columns ----


@STREAM
@pytest.mark.parametrize("kind", ["classes", "numbers"])
def test_rows_without_a_target_are_left_out_and_said(stream, kind):
    y = [("xz"[i % 2] if kind == "classes" else i + 0.5) if i % 6 else ("" if i % 4 else "NaN") for i in range(COUNT)]
    write(a=[i % 9 for i in range(COUNT)], y=y)
    data = gathered(stream=stream)
    assert sum(len(part.x) for name in ("train", "validation", "test") for part in data.parts[name]()) == 50
    assert "y: 10 rows without a value left out (NaN)" in data.preparation.assumptions
    write("none.csv", a=[1, 2, 3, 4], y=["", "-", "NA", ""])
    with pytest.raises(TableError, match=r"none\.csv: the target 'y' is empty; choose another target with target"):
        gathered("none.csv", stream)


def test_a_run_without_some_targets_can_be_resumed(capsys):
    write(a=[i % 9 for i in range(COUNT)], y=[f"{i % 8},5%".replace(",", ".") if i % 6 else "" for i in range(COUNT)])
    arguments = ["train", "t.csv", "--epochs", "2", "--checkpoint", "run.safetensors", "--json"]
    assert main([*arguments, "--out", "a"]) == 0
    assert main(["train", "t.csv", "--resume", "run.safetensors", "--json", "--out", "b"]) == 0
    first, second = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert first["test"] == second["test"]


@STREAM
def test_a_column_can_be_chosen_by_its_number(stream):
    columns = {"a": [i % 9 for i in range(COUNT)], "b": [i % 5 for i in range(COUNT)], "y": Y}
    write(header=False, **columns)
    data = gathered(stream=stream, target="2")
    assert data.preparation.target.name == "column_2" and [one.name for one in data.preparation.features] == ["column_1", "column_3"]
    write("named.csv", **columns)
    assert gathered("named.csv", stream, target="2").preparation.target.name == "b"
    for wrong in ("0", "4", "no"):
        with pytest.raises(ArgumentError, match="target"):
            gathered("named.csv", stream, target=wrong)


def test_the_caller_decides_about_the_header(folder):
    (folder / "t.csv").write_text("a,b\nx,y\nz,y\n")
    names = {header: list(sources.read("t.csv", header).train.columns) for header in (None, True, False)}
    assert names == {None: ["a", "b"], True: ["a", "b"], False: ["column_1", "column_2"]}
    np.save(folder / "x.npy", np.ones((3, 2)))
    with pytest.raises(ArgumentError, match="no_header: applies to CSV, TSV and Excel files"):
        sources.find("x.npy", header=False)


def test_ids_can_be_kept():
    write(id=[*range(COUNT)], a=[i % 9 for i in range(COUNT)], y=Y)
    assert [one.name for one in gathered().preparation.features] == ["a"]
    assert gathered().preparation.left_out == {"id": "row numbers"}
    assert isinstance(feature("id", keep=["id"]), Number)
    with pytest.raises(ArgumentError, match="keep: t.csv: unknown column 'idd'; did you mean 'id'"):
        gathered(keep=["idd"])
    write(id=[f"t{i}" for i in range(COUNT)], a=[f"{i % 9}" for i in range(COUNT)], y=Y)
    with pytest.raises(ArgumentError, match="keep: 'id' cannot be used: text"):
        gathered(keep=["id"])


def test_words_of_the_caller_are_missing():
    d = ["None" if i % 3 else "x" for i in range(COUNT)]
    c = ["none of these" if i % 4 == 0 else "xz"[i % 2] for i in range(COUNT)]
    write(a=[-999 if i % 6 == 0 else i % 9 for i in range(COUNT)], c=c, d=d, y=Y)
    columns = decide(sources.find("t.csv"), "y", missing=["-999", "none of these"])
    assert columns.assumptions == ("d: None is a value, not missing",)
    assert {"a: 10 missing values (-999)", "c: 15 missing values (none of these)"} == set(columns.gaps)
    assert f"d: {2 * COUNT // 3} missing values (None)" in decide(sources.find("t.csv"), "y", missing=["None"]).gaps
    a, c, _ = gathered(missing=["-999", "none of these"]).preparation.features
    assert (a.missing, a.low, c.levels) == (True, 0.0, ("", "x", "z"))


@pytest.mark.parametrize("row", range(0, COUNT, 7))
@STREAM
def test_classes_that_float64_would_merge_stay_apart(row, stream):
    write(a=[i % 9 for i in range(COUNT)], y=[9007199254740992 + (i % 3) for i in range(COUNT)])
    data = gathered(stream=stream)
    assert data.preparation.target.classes == ("9007199254740992", "9007199254740993", "9007199254740994")
    (table,) = sources.find("t.csv").tables()
    assert data.preparation.target.values(table.take(np.array([row]))).tolist() == [row % 3]


@pytest.mark.parametrize("people", [[50 + i % 900 for i in range(60)], [1500 + i for i in range(60)]])
def test_whole_numbers_of_a_file_with_decimal_commas_may_later_have_points(folder, people):
    """1.200 in a new file is 1200, as other columns show, although no number for training had a point."""
    (folder / "t.csv").write_text("n;p;y\n" + "".join(f"{n};{n % 7},5;{n % 5},25\n" for n in people))
    (folder / "new.csv").write_text("n;p\n1.200;1,5\n1200;1,5\n")
    (new,), readings = sources.find("new.csv").tables(), gathered().preparation.readings
    assert replace(new, readings=readings).numbers("n").tolist() == [1200, 1200]


@STREAM
@pytest.mark.parametrize("training", ["{d:02}.{m:02}.2012", "{m}/{d}/2012", "2012-{m:02}-{d:02}", "{d} Mar 2012"])
def test_iso_dates_are_understood_in_a_column_of_any_order(stream, training):
    """Data frames give dates as ISO texts."""
    write(d=[training.format(d=1 + i % 28, m=1 + i % 12) for i in range(COUNT)], y=Y)
    readings = gathered(stream=stream).preparation.readings
    table = Table("new", {"d": np.array(["2013-05-31", "2013-05-31T12:00", None], dtype=object)}, 3, readings=readings)
    assert table.dates("d").tolist() == [datetime(2013, 5, 31), datetime(2013, 5, 31, 12), None]


def test_numbers_for_predictions_may_lack_the_unit():
    write(a=[f"{i % 9} kg" for i in range(COUNT)], y=Y)
    readings = gathered().preparation.readings
    assert Table("new", {"a": np.array(["7", "7 kg"], dtype=object)}, 2, readings=readings).numbers("a").tolist() == [7, 7]
    with pytest.raises(TableError, match="'7 lb' is not a number"):
        Table("new", {"a": np.array(["7 lb"], dtype=object)}, 1, readings=readings).numbers("a")
