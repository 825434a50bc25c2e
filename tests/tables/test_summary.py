"""Summaries of columns, and the mistakes that they show."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from microbp.tables import summary
from microbp.tables.readers.errors import TableError
from microbp.tables.readers.table import Table
from microbp.tables.summary import CLASSES, Summary, refuse_mistakes, summarize

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
    texts = {text: count for text, count in counts.items() if text in ("red", "blue")}
    numbers = {text: count for text, count in counts.items() if text not in texts}
    assert found.numbers == (numbers if len(numbers) <= most and name != "fractions" else None)
    assert found.texts == texts
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
    for key in ("is_text", "rows", "missing", "low", "high", "numbers", "texts"):
        if not (whole.texts and key in ("low", "high")):  # a column with strings has no minimum
            assert getattr(first, key) == getattr(whole, key), key
    if not whole.texts:
        assert (first.mean, first.std) == pytest.approx((whole.mean, whole.std), rel=1e-12)


def test_a_string_in_one_piece_makes_the_column_text():
    """The first piece has strings, the later ones are numbers."""
    pieces = [summarize(table_of(column), "c") for column in (np.array(["x", "1"], dtype=object), np.array([1.0, 2.0]))]
    assert (pieces[0] + pieces[1]).is_text and (pieces[1] + pieces[0]).is_text


@pytest.mark.parametrize("numbers", [0, 1, CLASSES, CLASSES + 1, None])
@pytest.mark.parametrize("strings", [0, 1, 9, 10, 99, 100])
def test_a_few_strings_among_many_different_numbers_are_a_mistake(numbers, strings):
    """Of 100 rows, `strings` are strings, and the others have `numbers` different numbers (None: too many to count)."""
    counts = None if numbers is None else {str(number): 1 for number in range(numbers)}
    first = ("t, row 1", "oops") if strings else None
    known = Summary(True, 100, 0, numbers=counts, texts={"oops": strings} if strings else {}, first=first)
    if 0 < strings < 10 and (numbers is None or numbers > CLASSES):
        with pytest.raises(TableError, match="'oops' is not a number"):
            refuse_mistakes("c", known)
    else:
        refuse_mistakes("c", known)


def test_numbers_too_close_for_a_variance_are_constant():
    found = summarize(table_of(np.array([0.0, 1e-200])), "c")
    assert found.low < found.high and not found.varies
