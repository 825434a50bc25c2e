"""The report of a training: warnings, remarks, JSON, the list of residuals; and the rules behind them."""

from __future__ import annotations

import itertools
import json
import re

import numpy as np
import pytest

import microbp as bp
from microbp.cli.main import main
from microbp.tables import cautions, quality
from microbp.tables.encodings.encoding import Encoding
from microbp.tables.readers import sources
from microbp.tables.split import Split, gather

RNG = np.random.default_rng(8)
ROWS = 400
A, B = RNG.normal(size=(2, ROWS)).round(4)
SIDE = np.where(A + B > 0, "in", "out")
NUMBERS = {"a": A, "b": B, "y": (A + 2 * B + RNG.normal(size=ROWS)).round(3)}
CLASSES = {"a": A, "b": B, "side": SIDE}
PLAIN = Encoding()
PARITY = RNG.integers(0, 2, ROWS)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def write(columns, name="t.csv"):
    lines = [",".join(columns), *(",".join(map(str, row)) for row in zip(*columns.values(), strict=True))]
    with open(name, "w", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")


def warned(columns, target, encoding=PLAIN, **settings):
    write(columns)
    data = gather(Split(sources.find("t.csv"), **settings), target=target, encoding=lambda rows, columns, classifies: encoding)
    return [str(warning) for warning in cautions.cautions(data)]


ENCODED = pytest.mark.parametrize("encoding", [PLAIN, Encoding(bins=8, hashed=4, clip=True, log=True)], ids=["plain", "all"])


# ---- columns that give the target away ----

LEAKS = {
    "a copy": ("y", lambda y: y),
    "another unit": ("y", lambda y: (1.8 * y + 32).round(6)),
    "any growing function": ("y", lambda y: np.exp(y).round(6)),
    "the class by another name": ("side", lambda side: np.where(side == "in", "yes", "no")),
    "a score of the class": ("side", lambda side: np.where(side == "in", 1.0, 0.0) + RNG.uniform(0, 0.9, ROWS).round(3)),
    "missing for a class": ("side", lambda side: np.where(side == "in", RNG.integers(1, 400, ROWS).astype(str), "")),
    "a finer class": ("side", lambda side: np.char.add(side, RNG.integers(0, 9, ROWS).astype(str))),
}


@ENCODED
@pytest.mark.parametrize("name", LEAKS)
def test_a_column_that_gives_the_target_away_is_named(name, encoding):
    target, leak = LEAKS[name]
    columns = NUMBERS if target == "y" else CLASSES
    (warning,) = warned({"odd": leak(columns[target]), **columns}, target, encoding)
    assert re.fullmatch(
        rf"column 'odd' alone predicts '{target}' \(.* training rows\): if it is not known before the target, use drop='odd'", warning
    )
    assert warned(columns, target, encoding) == []


HONEST = {
    "many different numbers": ("side", RNG.permutation(ROWS)),
    "many levels": ("side", RNG.integers(0, 90, ROWS).astype(str)),
    "nearly": ("y", NUMBERS["y"] + 0.2 * RNG.normal(size=ROWS)),
    "a parity": ("parity", RNG.permutation(ROWS)),
}


@pytest.mark.parametrize("name", HONEST)
def test_other_columns_are_not(name):
    target, column = HONEST[name]
    columns = {**NUMBERS, "side": SIDE, "parity": np.where(PARITY, "odd", "even")}
    assert warned({"odd": column, "a": A, "b": B, target: columns[target]}, target) == []


def test_a_majority_is_no_leak():
    rare = np.where(np.arange(ROWS) % 150 == 0, "yes", "no")  # 3 of 400: each column is right in 99.25 %
    assert warned({"a": A, "b": B, "rare": rare}, "rare") == []


def test_thresholds_are_the_best_ones():
    """Against all choices of thresholds."""
    for seed in range(20):
        rng = np.random.default_rng(seed)
        values, labels = rng.integers(0, 8, 30), rng.integers(0, 3, 30)
        classes = sorted(np.unique(labels), key=lambda label: np.median(values[labels == label]))
        best = 0
        for cuts in itertools.combinations_with_replacement(range(9), len(classes) - 1):
            guess = np.array(classes)[np.searchsorted(cuts, values, side="right")]
            best = max(best, int((guess == labels).sum()))
        assert cautions._intervals_right(values, labels) == best


# ---- numbers that stand for gaps, ids ----


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(
    ("values", "count", "expected"),
    [
        (RNG.integers(0, 90, ROWS), {-999: 12}, "column 'a' has 12 cells of -999, and all others from 0 to "),
        (RNG.integers(0, 90, ROWS), {9999: 3}, "column 'a' has 3 cells of 9999, and all others from 0 to "),
        (RNG.random(ROWS), {-9: 4, 99999: 1}, "column 'a' has 4 cells of -9, and all others from "),
        (RNG.integers(0, 90, ROWS), {-999: 2}, None),  # too few
        (RNG.integers(-300, 90, ROWS), {-999: 5}, None),  # not far away
        (RNG.integers(0, 90, ROWS), {99: 5, 500: 5, -1000: 5}, None),
        (RNG.integers(0, 9999, ROWS), {999: 9}, None),  # in the range
        (np.zeros(ROWS, int), {-999: 9}, None),
    ],
)
def test_a_repeated_number_far_from_the_others_is_a_warning(monkeypatch, values, count, expected, stream):
    monkeypatch.setattr(sources, "CHUNK", 50)
    column, start = values.tolist(), 0
    for value, times in count.items():
        column[start : start + times] = [value] * times
        start += times
    write({**NUMBERS, "a": column})
    found = [str(line) for line in cautions.cautions(gather(Split(sources.find("t.csv", stream=stream), how="last"), target="y"))]
    odd = [line for line in found if "stands for a missing value" in line]
    assert len(odd) == (expected is not None)
    if expected:
        value = expected.split("cells of ")[1].split(",")[0]
        assert odd[0].startswith(expected) and odd[0].endswith(f": if it stands for a missing value, use missing='{value}'")
        data = gather(Split(sources.find("t.csv"), how="last"), target="y", missing=[value])
        assert not [line for line in map(str, cautions.cautions(data)) if "stands" in line]


@pytest.mark.parametrize(
    ("values", "is_id"),
    [
        (RNG.permutation(90_000)[:ROWS] + 10_000, True),
        (RNG.permutation(ROWS) + 1001, True),
        (np.exp(RNG.normal(12, 1, ROWS)).round().astype(int), False),  # populations
        (RNG.integers(1, ROWS, ROWS) + 1000, False),  # values twice
        (RNG.permutation(ROWS), False),  # small
        (RNG.random(ROWS) * 1e6, False),
    ],
)
def test_different_whole_numbers_that_are_spread_evenly_may_be_ids(values, is_id):
    expected = f"column 'n' has a different whole number in each row, spread evenly from {values.min():.0f} to {values.max():.0f}"
    found = [line for line in warned({"n": values, **NUMBERS}, "y") if "whole number" in line]
    assert found == ([f"{expected}: if it is an id, use drop='n'"] if is_id else [])
    assert not [line for line in warned({**NUMBERS, "n": values}, "n") if "whole number" in line]


# ---- times, ranges ----


@pytest.mark.parametrize("name", ["date", "Date", "sale_date", "saleDate", "year", "YearBuilt", "timestamp", "created_at", "Time"])
def test_a_time_in_a_random_split_is_a_warning(name):
    times = RNG.permutation(ROWS)
    if name != "YearBuilt":
        (warning,) = warned({name: times, **NUMBERS}, "y")
        assert warning.startswith(f"column '{name}' looks like a time, but the test rows were drawn at random")
        assert warning.endswith(f"use split='time:{name}'")
    assert warned({name: times, **NUMBERS}, "y", how=f"time:{name}") == []
    assert warned({"sometimes": times, **NUMBERS}, "y") == []


@ENCODED
@pytest.mark.parametrize(("value", "shown"), [(1e6, r"1e\+06"), (-50.5, r"-50\.[45].*")])
def test_test_values_far_outside_the_training_range_are_a_warning(value, shown, encoding):
    """A clipped number has no digits for a value that is very far away."""
    high = A.copy()
    high[-1] = value
    (warning,) = warned({**NUMBERS, "a": high}, "y", encoding, how="last")
    example = "" if encoding.clip and value == 1e6 else f", such as {shown}"
    assert re.fullmatch(rf"column 'a': far outside the training range, -\d.* to \d.*, in 1 test row{example}", warning)


def test_the_command_line_prints_warnings_with_its_options(capsys):
    write({"odd": NUMBERS["y"], **NUMBERS})
    assert main(["train", "t.csv", "--epochs", "2", "--out", "net"]) == 0
    out = capsys.readouterr().out
    assert "\nwarning: column 'odd' alone predicts 'y' (r2 1.0000 on the training rows): " in out
    assert ": if it is not known before the target, use --drop odd\n" in out


# ---- remarks ----


@pytest.mark.parametrize(("losses", "expected"), [
    (np.geomspace(1, 0.1, 20), True),
    ([1.0], False),
    (np.full(20, 0.5), False),
    ([*np.geomspace(1, 0.1, 15), *np.full(5, 0.0999)], False),  # by less than 2 %
    ([*np.geomspace(1, 0.1, 15), *np.linspace(0.2, 0.5, 5)], False),
    ([3.0, 2.0], True),
    ([*[-1.0] * 9, -2.0], True),
])  # fmt: skip
def test_a_falling_validation_loss(losses, expected):
    assert quality.is_falling(list(losses)) == expected


def test_remarks_name_the_option_and_the_class(capsys):
    table = {**CLASSES, "side": np.where(np.arange(ROWS) == 7, "rare", SIDE)}
    write(table)
    assert main(["train", "t.csv", "--target", "side", "--epochs", "2", "--lr", "0.003", "--out", "net"]) == 0
    out = capsys.readouterr().out
    assert "\nthe validation loss was still falling at the last epoch: for a better model, try --epochs 4\n" in out
    assert "\nthe test says nothing about 1 class without a test row: rare\n" in out
    assert "\nalways predicting " in out
    report = bp.fit_table(table, "side", epochs=2, lr=0.003).report
    assert "the validation loss was still falling at the last epoch: for a better model, try epochs=4" in report.splitlines()


# ---- numbers of the report ----


def test_json_is_strict_and_has_the_numbers_of_the_report(capsys):
    write(CLASSES)
    assert main(["train", "t.csv", "--target", "side", "--epochs", "5", "--out", "a", "--json"]) == 0
    found = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert set(found["intervals"]) == {"accuracy", "balanced_accuracy", "auc", "log_loss"}
    assert list(found["classes"]) == ["in", "out"] and set(found["classes"]["in"]) == {"rows", "recall", "f1", "intervals"}
    assert main(["train", "t.csv", "--target", "side", "--epochs", "5", "--out", "b"]) == 0
    out = capsys.readouterr().out
    low, high = found["intervals"]["accuracy"]
    test, first, last = out[out.index("\ntest ") :].splitlines()[1:4]
    assert f"{100 * found['test']['accuracy']:.2f} %" in test and f"{100 * low:.2f} %" in first and f"{100 * high:.2f} %" in last
    for name, one in found["classes"].items():
        assert re.search(rf"^{name} +{one['rows']} +{100 * one['recall']:.2f} % .* {one['f1']:.4f} ", out, re.MULTILINE)


def test_numbers_that_overflow_are_null(capsys):
    """A diverged network, and targets near the largest float32."""
    write({"a": A, "y": [f"{value:.6g}e38" for value in A / 2]})
    assert main(["train", "t.csv", "--epochs", "1", "--out", "a", "--json", "--loss", "mse"]) == 0
    json.loads(capsys.readouterr().out, parse_constant=pytest.fail)


@pytest.mark.parametrize("count", [1, 2, 3, 20, 400])
@pytest.mark.parametrize("outlier", [0.0, 1e6, -1e6])
def test_an_outlier_does_not_spoil_the_list_of_residuals(count, outlier):
    residuals = np.append(RNG.normal(size=count - 1), outlier)
    head, *lines = quality._residuals(residuals)
    assert head.startswith("true minus predicted: median ")
    counts = [int(line.split()[-1]) for line in lines]
    assert sum(counts) == (count if lines else 0)
    if count == 400:
        assert len(lines) == 9 and lines[0].split()[0] == "below" and lines[-1].split()[0] == "above"
        assert counts[0] == pytest.approx(20, abs=1) and counts[-1] == pytest.approx(20, abs=1)
        assert min(counts) > 5
    assert all(len(line) < 80 for line in lines)


def test_residuals_without_spread_have_no_list():
    assert len(quality._residuals(np.zeros(9))) == 1
    assert quality._residuals(np.empty(0)) == []
