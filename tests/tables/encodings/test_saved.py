"""Preparations in files: those of earlier versions, and those that someone has changed."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import numpy as np
import pytest

from microbp.tables.encodings.category import Category
from microbp.tables.encodings.date import Date
from microbp.tables.encodings.number import Number
from microbp.tables.encodings.tally import Tally
from microbp.tables.encodings.target import Target
from microbp.tables.preparation import Preparation
from microbp.tables.readers import sources

GOLDENS = sorted((Path(__file__).parents[2] / "goldens/tables").glob("*.json"))


@pytest.mark.parametrize("path", GOLDENS, ids=lambda path: path.stem)
def test_preparations_of_earlier_versions_give_the_same_bits(path, tmp_path):
    saved = json.loads(path.read_text("utf-8"))
    (tmp_path / "t.csv").write_text(saved["table"], "utf-8")
    (table,) = sources.find(str(tmp_path / "t.csv")).tables()
    preparation = Preparation.from_dict(saved["preparation"])
    x = preparation.matrix(table, Tally())
    assert x.astype(float).tolist() == [list(map(float.fromhex, row)) for row in saved["features"]]
    assert preparation.target.values(table).tolist() == list(map(float.fromhex, saved["targets"]))
    outputs = np.array([[-5.0], [0.25], [1e3]])
    np.testing.assert_array_equal(preparation.target.numbers(outputs), outputs * preparation.target.scale + preparation.target.centre)
    assert Preparation.from_dict(json.loads(json.dumps(preparation.as_dict()))) == preparation


ROWS = {
    Number: {
        "name": "a", "centre": 1.5, "scale": 2.0, "missing": True, "low": 0.0, "high": 9.0, "clip": True, "edges": [0.0, 1.0, 9.0],
        "central": False,
    },
    Category: {"name": "a", "levels": ["no", "yes"], "shared": 0, "signed": True, "embedded": 0},
    Date: {
        "name": "a", "linear": {"year": [2000.0, 2.0]}, "periodic": ["month"], "missing": False, "clip": True,
        "edges": {"year": [1.0, 2.0, 3.0]}, "central": True,
    },
    Target: {"name": "a", "classes": [], "centre": 1.5, "scale": 2.0, "log": True, "low": 0.5, "high": 9.0},
}  # fmt: skip
BAD_NUMBERS = [float("nan"), float("inf"), 1e300, "1", None, True, [1.0]]
BAD_EDGES = [
    [1.0, 2.0],
    [1.0, 3.0, 2.0],
    [1.0, 1.0, 2.0],
    [1.0, float("nan"), 2.0],
    list(map(float, range(5000))),
    "abc",
    [1.0, "2", 3.0],
    None,
]
BAD = [
    *((Number, key, value) for key in ("centre", "scale") for value in BAD_NUMBERS),
    *((Number, key, value) for key in ("low", "high") for value in BAD_NUMBERS if value is not None),
    *((Number, "scale", value) for value in (0, -1.0, 0.0)),
    *((Number, "edges", value) for value in BAD_EDGES),
    *((kind, key, value) for kind, key in ((Number, "missing"), (Number, "clip"), (Category, "signed"), (Date, "clip"), (Target, "log"))
      for value in (1, None, "yes")),
    *((kind, "name", value) for kind in ROWS for value in (None, 5, ["a"])),
    *((kind, "another", 5) for kind in ROWS),
    *((Category, "levels", value) for value in ("no", [1, 2], None, {"no": 1}, ["no"], ["a", "b", "c"])),
    *((Category, "shared", value) for value in (-1, 1, 1.5, 10**9, "2", None)),
    *((Category, "embedded", value) for value in (-1, 4, 1.5, 10**9, "2", None, True)),
    *((Date, "edges", value) for value in ({"month": [1.0, 2.0, 3.0]}, {"elapsed": [1.0, 2.0, 3.0]}, [], {"year": [2.0, 1.0, 3.0]})),
    *((Date, "linear", value) for value in ({"era": [0, 1]}, {"year": [0, 0]}, {"year": [0]}, {"year": 5}, {"month": [0, 1]}, [])),
    *((Date, "periodic", value) for value in (["year"], "month", [1])),
    *((Target, "classes", value) for value in ("no", [1])),
    *((Target, "low", value) for value in (None, 0.0, -1.0, 10.0, float("nan"))),
]  # fmt: skip


@pytest.mark.parametrize("kind", ROWS, ids=lambda kind: kind.__name__)
def test_the_rows_are_valid(kind):
    assert kind.from_dict(json.loads(json.dumps(ROWS[kind]))).name == "a"


@pytest.mark.parametrize(("kind", "key", "value"), BAD, ids=repr)
def test_an_invalid_row_is_refused(kind, key, value):
    row = copy.deepcopy(ROWS[kind]) | {key: value}
    with pytest.raises((KeyError, TypeError, ValueError)):
        kind.from_dict(row)


@pytest.mark.parametrize("kind", ROWS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("row", [{}, {"name": "a"}, [], None, "name"])
def test_a_row_that_is_no_row_is_refused(kind, row):
    if kind is Target and row == {"name": "a"}:
        return  # a target needs no more
    with pytest.raises((KeyError, TypeError, ValueError, AttributeError)):
        kind.from_dict(row)
