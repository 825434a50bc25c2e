"""Properties of all encodings, for a table of columns."""

from __future__ import annotations

import itertools
import json
import math
from dataclasses import replace

import numpy as np
import pytest

from microbp.tables.encodings import sample
from microbp.tables.encodings.category import RARE, Category
from microbp.tables.encodings.date import Date
from microbp.tables.encodings.encoding import Encoding
from microbp.tables.encodings.number import Number
from microbp.tables.encodings.tally import Tally
from microbp.tables.preparation import Preparation, find_target, prepare
from microbp.tables.readers.cells import Reading
from microbp.tables.readers.table import Table

COUNT = 120
RANDOM = np.random.default_rng(8)
NORMAL = RANDOM.normal(size=COUNT)


def texts(values):
    return np.array(list(values), dtype=object)


def days(numbers):
    return texts(str(np.datetime64("2015-01-01") + int(number)) for number in numbers)


NUMBERS = {
    "normal": NORMAL,
    "far from 0": 1e9 + NORMAL,
    "heavy tails": RANDOM.standard_cauchy(COUNT),
    "mostly equal": np.where(np.arange(COUNT) % 10 == 0, NORMAL, 4.0),
    "whole": RANDOM.integers(0, 6, COUNT).astype(float),
    "gaps": np.where(np.arange(COUNT) % 7 == 0, np.nan, NORMAL),
    "mostly gaps": np.where(np.arange(COUNT) % 20 == 0, NORMAL, np.nan),
    "constant and gaps": np.where(np.arange(COUNT) % 3 == 0, np.nan, 9.0),
    "0 and 1": (np.arange(COUNT) % 5 == 0).astype(float),
    "two values": np.where(np.arange(COUNT) % 5 == 0, -7.5, 20.0),
    "huge": RANDOM.choice([-3e38, 1.0, 2e38, 3e38], COUNT),
    "tiny": RANDOM.choice([0.0, 1e-150, 2e-150], COUNT),
    "one outlier": np.append(NORMAL[1:], 1e30),
}
TEXTS = {
    "few": texts(RANDOM.choice(["red", "blue", "k\u00f6ln"], COUNT)),
    "two": texts(RANDOM.choice(["yes", "no"], COUNT)),
    "two and gaps": texts(RANDOM.choice(np.array(["yes", "no", None], dtype=object), COUNT)),
    "many": texts(f"n{int(abs(number) * 9)}" for number in NORMAL),
    "numbers": texts(RANDOM.choice(["1", "2.0", "x"], COUNT)),
}
DATES = {"days": days(RANDOM.integers(0, 3000, COUNT)), "two days": days(np.arange(COUNT) % 2), "one month": days(np.arange(COUNT) % 28)}
COLUMNS = NUMBERS | TEXTS | DATES
NEW = {
    "number": np.array([0.0, np.nan, -3.4e38, 3.4e38, 1e-300, 4.0]),
    "text": texts(["red", None, "", "never seen", "1.0", "\U0001f600"]),
    "date": texts(["1900-01-01", None, "2015-06-30", "9999-12-31", "2016-02-29", "2020-01-01"]),
}
ENCODINGS = {
    "as in 0.1.0": Encoding(),
    "clipped": Encoding(clip=True),
    "bins": Encoding(bins=5),
    "all": Encoding(bins=16, levels=2, hashed=3, clip=True, log=True),
    "embedded": Encoding(bins=5, levels=3, hashed=3, embedded=4, clip=True),
}
EACH = pytest.mark.parametrize("name", COLUMNS)
ENCODED = pytest.mark.parametrize("encoding", ENCODINGS.values(), ids=ENCODINGS)


def kind(name):
    return "number" if name in NUMBERS else "text" if name in TEXTS else "date"


def table_of(name, cells=None):
    cells = COLUMNS[name] if cells is None else cells
    readings = {"c": Reading("date", order="ymd")} if name in DATES else {}
    return Table("t", {"c": cells, "y": np.arange(len(cells)) / 2}, len(cells), readings=readings)


def prepared(tables, encoding, **options):
    known = prepare(tables, find_target(tables, "y"), encoding=encoding, **options)
    return replace(known, readings=tables[0].readings)


@EACH
@ENCODED
def test_all_features_are_finite_and_bounded(name, encoding):
    preparation = prepared([table_of(name)], encoding)
    for table in (table_of(name), table_of(name, NEW[kind(name)])):
        x = preparation.matrix(table, Tally())
        assert x.dtype == np.float32 and x.shape == (table.count, preparation.width) and np.isfinite(x).all()
        if preparation.embedded:
            assert set(x[:, -1]) <= set(range(preparation.embedded[0].ids))
        elif encoding.clip:
            assert np.abs(x).max() <= 3 and np.abs(np.delete(x, 0, axis=1)).max(initial=0) <= (3 if name in DATES else 1)


@EACH
@ENCODED
def test_a_row_alone_has_the_same_bits(name, encoding):
    table = table_of(name)
    preparation = prepared([table], encoding)
    x = preparation.matrix(table)
    for row in range(0, COUNT, 17):
        assert preparation.matrix(table.take(np.array([row]))).tobytes() == x[row : row + 1].tobytes()


@EACH
@pytest.mark.parametrize("most", [7, sample.ROWS])
@pytest.mark.parametrize("cuts", [[1], [60], [3, 4, 100], range(1, COUNT)])
def test_pieces_of_a_stream_are_encoded_like_the_whole(name, most, cuts, monkeypatch):
    """Also if the sample is smaller than the table."""
    monkeypatch.setattr(sample, "ROWS", most)
    table = table_of(name)
    pieces = [table.take(rows) for rows in np.split(np.arange(COUNT), cuts)]
    for encoding in (ENCODINGS["clipped"], ENCODINGS["all"], ENCODINGS["embedded"]):
        assert prepared(pieces, encoding).features == prepared([table], encoding).features


@EACH
@ENCODED
def test_a_saved_preparation_gives_the_same_bits(name, encoding):
    preparation = prepared([table_of(name)], encoding)
    again = Preparation.from_dict(json.loads(json.dumps(preparation.as_dict())))
    assert again == preparation
    for cells in (None, NEW[kind(name)]):
        table = table_of(name, cells)
        assert again.matrix(table, Tally()).tobytes() == preparation.matrix(table, Tally()).tobytes()


@EACH
@ENCODED
def test_a_missing_value_is_0_and_its_mark(name, encoding):
    cells = COLUMNS[name].copy()
    cells[:5] = np.nan if name in NUMBERS else None
    preparation = prepared([table_of(name, cells)], encoding)
    x = preparation.matrix(table_of(name, cells))
    missing = np.array([cell is None or cell != cell for cell in cells.tolist()])
    if preparation.embedded:
        (feature,) = preparation.embedded
        assert set(x[missing, 0]) == {feature.levels.index("") if "" in feature.levels else len(feature.levels)} != set(x[~missing, 0])
        return
    mark = 0 if name in TEXTS and "" in preparation.features[0].levels else preparation.width - 1
    if name in TEXTS and "" not in preparation.features[0].levels:  # a rare gap shares features with other rare values
        assert encoding.hashed and (x[missing] == x[0]).all()
        return
    np.testing.assert_array_equal(x[:, mark], missing)
    assert not np.delete(x, mark, axis=1)[missing].any()


@pytest.mark.parametrize("name", ["normal", "days"])
@ENCODED
def test_a_missing_value_that_training_did_not_have_is_the_centre(name, encoding):
    """A number, in all its features; a date, in those of its linear parts. Files written before have no "central": all are 0."""
    preparation = prepared([table_of(name)], encoding)
    (feature,) = preparation.features
    gap = table_of(name, np.array([np.nan]) if name == "normal" else np.array([None], object))
    (found,) = preparation.matrix(gap)
    if name == "normal":
        np.testing.assert_array_equal(found, preparation.matrix(table_of(name, np.array([feature.centre])))[0])
    else:
        start = 0
        for part, (centre, scale) in feature.linear.items():
            edges = feature.edges.get(part, ())
            number = Number("c", centre, scale, False, clip=feature.clip, edges=edges)
            expected = np.empty((1, number.width), np.float32)
            number.fill(Table("t", {"c": np.array([centre])}, 1), expected)
            np.testing.assert_array_equal(found[start : start + number.width], expected[0])
            start += number.width
        assert not found[start:].any()
    saved = json.loads(json.dumps(preparation.as_dict()))
    assert saved["features"][0].pop("central") is True
    assert not Preparation.from_dict(saved).matrix(gap).any()


def test_blocks_are_the_features_of_each_column():
    table = Table("t", {**NUMBERS, "y": np.arange(COUNT) / 2}, COUNT)
    preparation = prepared([table], ENCODINGS["all"])
    assert [name for name, _ in preparation.blocks] == list(NUMBERS)
    places = [place for _, columns in preparation.blocks for place in range(columns.start, columns.stop)]
    assert places == list(range(preparation.width))
    for feature, (name, columns) in zip(preparation.features, preparation.blocks):
        alone = prepared([Table("t", {name: NUMBERS[name], "y": table.columns["y"]}, COUNT)], ENCODINGS["all"])
        np.testing.assert_array_equal(preparation.matrix(table)[:, columns], alone.matrix(table))
        assert feature.width == columns.stop - columns.start


# ---- numbers ----


@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_are_scaled_by_quantiles_and_clipped(name):
    """The formulas of the paper, for all values that a cell may have."""
    values = NUMBERS[name]
    present = values[~np.isnan(values)]
    low, median, high = np.percentile(present, [25, 50, 75])
    (feature,) = prepared([table_of(name)], ENCODINGS["clipped"]).features
    x = np.concatenate([present, [present.min() - 10, present.max() + 10]])
    if len(np.unique(present)) == 2:
        expected = np.interp(x, [present.min(), present.max()], [-1, 1])
        x = x[:-2]
    elif present.std() > 0 and high > low:
        expected = (x - median) / (high - low)
    elif present.std() > 0:
        expected = 2 * (x - median) / (present.max() - present.min())
    else:
        expected = (x - 9) / 9
    out = np.empty((len(x), feature.width), np.float32)
    feature.fill(table_of(name, x), out)
    expected = expected[: len(x)] / np.sqrt(1 + (expected[: len(x)] / 3) ** 2)
    np.testing.assert_allclose(out[:, 0], expected, rtol=2e-6, atol=1e-7)
    near = np.abs(expected) < 2.9
    np.testing.assert_allclose(feature.undo(out[near, 0]), x[near], rtol=0, atol=1e-4 * feature.scale)


def edges_of(values, bins):
    """The first value, in order, that is at least as large as the share t / bins of the values, for each t."""
    values = np.sort(values)
    found = sorted({values[t * (len(values) - 1) // bins] for t in range(bins + 1)})
    return found if len(found) > 2 and values.std() > 0 else []


@pytest.mark.parametrize("bins", [2, 3, 16, 48])
@pytest.mark.parametrize("name", NUMBERS)
def test_bins_rise_from_edge_to_edge(name, bins):
    """Column t is linear between its edges, and constant outside."""
    present = NUMBERS[name][~np.isnan(NUMBERS[name])]
    (feature,) = prepared([table_of(name)], Encoding(bins=bins, clip=True)).features
    edges = np.array(feature.edges)
    assert feature.bins <= bins and feature.width == 1 + feature.bins + feature.missing
    assert edges.tolist() == edges_of(present, bins)
    if len(edges) == 0:
        return
    x = np.sort(np.concatenate([edges, present, [-3.4e38, 3.4e38, np.median(present)]]))
    out = np.empty((len(x), feature.width), np.float32)
    feature.fill(table_of(name, x), out)
    encoded = out[:, 1 : 1 + feature.bins]
    for t, (left, right) in enumerate(itertools.pairwise(edges)):
        np.testing.assert_allclose(encoded[:, t], np.clip((x - left) / (right - left), 0, 1), rtol=1e-6)
    assert (np.diff(encoded, axis=0) >= 0).all()
    for t, edge in enumerate(edges):
        assert encoded[x == edge][0].tolist() == [1.0] * t + [0.0] * (feature.bins - t)


def test_bins_have_equal_shares_of_the_rows():
    values = np.exp(RANDOM.normal(size=1000))
    (feature,) = prepared([table_of("normal", values)], Encoding(bins=8)).features
    counts, _ = np.histogram(values, feature.edges)
    assert len(counts) == 8 and np.abs(counts - 125).max() <= 1


def test_quantiles_of_a_long_table_come_from_a_sample(monkeypatch):
    monkeypatch.setattr(sample, "ROWS", 500)
    values = np.sort(np.random.default_rng(1).uniform(size=20_000))
    (feature,) = prepared([table_of("normal", values)], Encoding(bins=4, clip=True)).features
    np.testing.assert_allclose(feature.edges, [0, 0.25, 0.5, 0.75, 1], atol=0.08)
    assert (feature.centre, feature.scale) == pytest.approx((0.5, 0.5), abs=0.08)


def test_pixels_share_one_unit():
    x = RANDOM.integers(0, 256, (COUNT, 6)).astype(float)
    x[0], x[1] = 0, 255
    table = Table("t", {**{str(i): x[:, i] for i in range(6)}, "y": np.arange(COUNT) / 2}, COUNT, is_positional=True)
    preparation = prepared([table], ENCODINGS["all"])
    np.testing.assert_array_equal(preparation.matrix(table), (x / 255).astype(np.float32))


# ---- categories ----


def test_rarer_values_share_features_by_a_hash():
    cells = texts(["a"] * 30 + ["b"] * 20 + [f"r{i % 9}" for i in range(40)] + ["z"] * RARE)
    (feature,) = prepared([table_of("few", cells)], Encoding(levels=2, hashed=4)).features
    assert feature == Category("c", ("a", "b"), 4)
    out = np.empty((6, 6), np.float32)
    tally = Tally()
    feature.fill(table_of("few", texts(["a", "r1", "never", "z\u00fcrich", "7", "7.0"])), out, tally)
    assert out.sum(axis=1).tolist() == [1] * 6
    assert out.argmax(axis=1).tolist() == [0, 2 + 0x0D0E09B1 % 4, *out[2:].argmax(axis=1).tolist()]
    assert (out[4] == out[5]).all() and not +tally.unseen


@pytest.mark.parametrize(("hashed", "shared"), [(0, 1), (1, 1), (5, 5), (50, 9)])
def test_there_are_no_more_shared_features_than_rarer_values(hashed, shared):
    cells = texts(["a"] * 30 + ["b"] * 20 + [f"r{i % 9}" for i in range(40)])
    (feature,) = prepared([table_of("few", cells)], Encoding(levels=2, hashed=hashed)).features
    assert feature.shared == shared
    (feature,) = prepared([table_of("few", cells[:50])], Encoding(levels=2, hashed=hashed)).features
    assert feature.shared == 0


@pytest.mark.parametrize("rare", [0, 5])
def test_frequent_values_are_ids_of_an_embedding_if_there_are_more_than_get_features(rare):
    """All other values, new and missing ones have the last id; it counts as unseen if training did not have it."""
    cells = texts([*["c", "a", "b"] * 20, *(f"r{i}" for i in range(rare))])
    (feature,) = prepared([table_of("few", cells)], Encoding(levels=3, embedded=4)).features
    assert not feature.embedded
    preparation = prepared([table_of("few", cells)], Encoding(levels=2, embedded=4))
    (feature,) = preparation.embedded
    assert (feature.levels, feature.ids, feature.embedded, feature.shared) == (("a", "b", "c"), 4, 4, int(rare > 0))
    assert (preparation.width, preparation.stored, preparation.inputs) == (1, 4, [(1, 4)])
    tally = Tally()
    assert preparation.matrix(table_of("few", texts(["b", "new", None, "c", "r0"])), tally)[:, 0].tolist() == [1, 3, 3, 2, 3]
    assert (tally.unseen, tally.gaps) == (({}, {}) if rare else ({"c": 2}, {"c": 1}))


def test_ids_are_the_last_features():
    columns = {"first": texts(["c", "a", "b"] * 20), "x": NORMAL[:60], "last": texts(["d", "e", "f"] * 20), "y": np.arange(60) / 2}
    preparation = prepared([Table("t", columns, 60)], Encoding(levels=2, embedded=4))
    assert [one.name for one in preparation.features] == ["x", "first", "last"] and preparation.inputs == [(1, None), (1, 4), (1, 4)]
    saved = preparation.as_dict()
    with pytest.raises(ValueError, match="ids are not the last features"):
        Preparation.from_dict(json.loads(json.dumps({**saved, "features": saved["features"][::-1]})))


def test_two_values_are_one_feature_if_numbers_are_clipped():
    table = table_of("few", texts(["yes", "no"] * 20))
    preparation = prepared([table], ENCODINGS["clipped"])
    tally, new = Tally(), table_of("few", texts(["yes", "no", "maybe", None]))
    assert preparation.matrix(new, tally).tolist() == [[1], [-1], [0], [0]]
    assert (tally.unseen, tally.gaps) == ({"c": 1}, {"c": 1})
    assert prepared([table], Encoding()).width == 2


SINGLE = [f"s{i}" for i in range(60)]


@pytest.mark.parametrize(
    ("cells", "is_used"),
    [
        (SINGLE, False),  # different in each row
        ([*SINGLE, *["a"] * 20], True),  # a quarter of the cells repeat
        ([*SINGLE, *["a"] * 19], False),
        ([*SINGLE, *SINGLE], False),  # pairs
        ([*SINGLE, *SINGLE, *SINGLE], True),
        (SINGLE[:15] * 2, True),  # few values
    ],
)
def test_texts_are_used_if_enough_of_them_repeat(cells, is_used):
    columns = {"c": texts(cells), "other": np.arange(len(cells)) / 3, "y": np.arange(len(cells)) / 2}
    table = Table("t", columns, len(cells))
    used = prepared([table], Encoding(hashed=8))
    assert ("c" in used.left_out) != is_used
    kept = prepared([table], Encoding(hashed=8), keep=["c"]).features[0]
    assert kept.name == "c" and kept.width >= 8


# ---- dates ----


def test_dates_are_scaled_by_quantiles_and_have_bins():
    table = table_of("days")
    preparation = prepared([table], ENCODINGS["all"])
    (date,) = preparation.features
    assert isinstance(date, Date) and set(date.linear) == {"elapsed", "year"} == set(date.edges)
    elapsed = COLUMNS["days"].astype("M8[D]").astype(float)
    low, median, high = np.percentile(elapsed, [25, 50, 75])
    assert date.linear["elapsed"] == (median, high - low)
    number = Number("d", median, high - low, False, clip=True, edges=date.edges["elapsed"])
    out = np.empty((COUNT, number.width), np.float32)
    number.fill(Table("t", {"d": elapsed}, COUNT), out)
    np.testing.assert_array_equal(preparation.matrix(table)[:, : number.width], out)


# ---- choices ----


@pytest.mark.parametrize("wrong", [{"bins": 1}, {"bins": -1}, {"bins": 10**6}, {"levels": -1}, {"hashed": -1}, {"hashed": 10**9}])
def test_impossible_choices_are_refused(wrong):
    ((name, value),) = wrong.items()
    with pytest.raises(ValueError, match=f"{name} must be .*, not {value}"):
        Encoding(**wrong)


def test_the_clip_is_smooth_and_monotone():
    x = np.concatenate([-np.logspace(-3, 37, 400)[::-1], np.logspace(-3, 37, 400)])
    feature, out = Number("c", 0.0, 1.0, False, clip=True), np.empty((800, 1), np.float32)
    feature.fill(table_of("normal", x), out)
    assert (np.diff(out[:, 0]) >= 0).all() and math.isclose(out[-1, 0], 3) and math.isclose(out[400, 0], 1e-3, rel_tol=1e-6)
    near = np.abs(x) < 99
    np.testing.assert_allclose(feature.undo(out[near, 0]), x[near], rtol=1e-3)
    assert [feature.is_known(value) for value in (5.0, -99.0, 100.0)] == [True, True, False]
