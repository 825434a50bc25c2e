"""Summaries of columns."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from microbp.tables.encodings import summary
from microbp.tables.encodings.summary import summarize
from microbp.tables.readers.table import Table

RANDOM = np.random.default_rng(3)
WHOLE = RANDOM.choice([-4.0, 0.0, 3.0, 9.0], 60)
COLUMNS = {
    "whole": WHOLE,
    "far": WHOLE * 1e6,
    "fractions": WHOLE + 0.5,
    "missing": np.where(np.arange(60) % 3 == 0, np.nan, WHOLE),
    "text": RANDOM.choice(np.array(["1", "2.0", "red", "blue", None], dtype=object), 60),
    "late text": np.array([*["5"] * 50, *["red"] * 10], dtype=object),
}


def table_of(column):
    return Table("t", {"c": column}, len(column))


@pytest.mark.parametrize("most", [1, 2, 3, 100])
@pytest.mark.parametrize("name", COLUMNS)
def test_counts_are_those_of_the_values_unless_there_are_too_many(monkeypatch, name, most):
    monkeypatch.setattr(summary, "COUNTED_NUMBERS", most)
    monkeypatch.setattr(summary, "COUNTED", max(most, 20))
    table = table_of(COLUMNS[name])
    counts, found = Counter(text for text in table.texts("c").tolist() if text is not None), summarize(table, "c")
    limit = max(most, 20) if "text" in name else most
    assert found.levels == (counts if len(counts) <= limit and name != "fractions" else None)
    assert (found.rows, found.missing, found.is_text) == (60, 60 - counts.total(), "text" in name)


@pytest.mark.parametrize("cuts", [[1], [30], [1, 2, 59], range(1, 60)])
@pytest.mark.parametrize("most", [1, 2, 3, 100])
@pytest.mark.parametrize("name", COLUMNS)
def test_the_sum_of_the_summaries_of_pieces_is_the_summary_of_the_whole(monkeypatch, name, most, cuts):
    monkeypatch.setattr(summary, "COUNTED_NUMBERS", most)
    monkeypatch.setattr(summary, "COUNTED", max(most, 20))
    whole, first, *others = (summarize(table_of(part), "c") for part in (COLUMNS[name], *np.split(COLUMNS[name], cuts)))
    for other in others:
        first += other
    for key in ("is_text", "rows", "missing", "low", "high", "levels"):
        assert getattr(first, key) == getattr(whole, key), key
    assert (first.mean, first.std) == pytest.approx((whole.mean, whole.std), rel=1e-12)


def test_a_string_in_one_piece_makes_the_column_text():
    """The first piece has strings, the later ones are numbers."""
    pieces = [summarize(table_of(column), "c") for column in (np.array(["x", "1"], dtype=object), np.array([1.0, 2.0]))]
    assert (pieces[0] + pieces[1]).is_text and (pieces[1] + pieces[0]).is_text


def test_numbers_too_close_for_a_variance_are_constant():
    found = summarize(table_of(np.array([0.0, 1e-200])), "c")
    assert found.low < found.high and not found.varies
