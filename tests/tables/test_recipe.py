"""The recipe: what it chooses for any number of rows, features and outputs. The numbers themselves are measured by `bench/tables.py`."""

from __future__ import annotations

import itertools
import math

import pytest

from microbp.tables import recipe

ROWS = (1, 3, 10, 400, 900, 2000, 5999, 6000, 16_500, 50_000, 10**6, 10**9)
SHAPES = ((1, 1), (12, 2), (300, 10), (10_000, 1), (400_000, 500))  # features, outputs
BUDGETS = list(recipe.BUDGETS)


@pytest.mark.parametrize("budget", BUDGETS)
@pytest.mark.parametrize(("inputs", "outputs"), SHAPES)
@pytest.mark.parametrize("classifies", [True, False])
def test_more_rows_never_mean_more_epochs_or_smaller_batches(budget, inputs, outputs, classifies):
    chosen = [recipe.choose(rows, inputs, outputs, classifies, budget=budget) for rows in ROWS]
    for fewer, more in itertools.pairwise(chosen):
        assert more.epochs <= fewer.epochs and more.batch >= fewer.batch
    assert len({(one.hidden, one.lr, one.dropout) for one in chosen}) == 1


@pytest.mark.parametrize("budget", BUDGETS)
@pytest.mark.parametrize(("inputs", "outputs"), SHAPES)
@pytest.mark.parametrize("rows", ROWS)
def test_the_work_is_within_the_budget_but_for_half_an_epoch(budget, inputs, outputs, rows):
    """6 operations for each row, weight, epoch and network. Never fewer than a pair of networks and 2 epochs."""
    buys, chosen = recipe.BUDGETS[budget], recipe.choose(rows, inputs, outputs, True, budget=budget)
    widths = (inputs, *chosen.hidden, outputs)
    epoch = 6 * rows * chosen.ensemble * sum(a * b for a, b in itertools.pairwise(widths))
    limit = recipe._SPEED * max(buys.least, buys.seconds * rows / recipe._TRAINED)
    assert 2 <= chosen.epochs <= recipe.MOST_EPOCHS and 2 <= chosen.ensemble <= buys.ensemble
    assert chosen.epochs == 2 or (chosen.epochs - 0.5) * epoch <= limit
    unlimited = recipe._epochs(rows, buys.longer)
    assert chosen.ensemble == 2 or chosen.epochs >= round(recipe._SHORTEST * unlimited)  # there are fewer networks before fewer epochs


@pytest.mark.parametrize("rows", ROWS)
def test_a_larger_budget_never_trains_less(rows):
    chosen = [recipe.choose(rows, 30, 2, True, budget=budget) for budget in BUDGETS]
    for less, more in itertools.pairwise(chosen):
        assert more.ensemble * more.epochs * math.prod(more.hidden) >= less.ensemble * less.epochs * math.prod(less.hidden)


@pytest.mark.parametrize("budget", BUDGETS)
@pytest.mark.parametrize("columns", [1, 2, 10, 300, 10_000])
def test_bins_have_enough_rows_and_do_not_fill_the_memory(budget, columns):
    bins = [recipe.encoding(rows, columns, False, budget).bins for rows in ROWS]
    assert bins == sorted(bins) and bins[-1] <= recipe.BUDGETS[budget].bins
    assert all(count == 0 or (2 <= count <= rows // 10 and count * columns <= recipe._FEATURES) for count, rows in zip(bins, ROWS))
    assert columns > 10 or bins[-1] == recipe.BUDGETS[budget].bins


def test_only_columns_without_bins_have_dropout_and_rates_depend_on_the_target():
    assert recipe.choose(100, 64, 10, True, has_bins=False).dropout > recipe.choose(100, 64, 10, True).dropout == 0
    assert [recipe.choose(100, 64, 1, classifies).lr for classifies in (True, False)] == list(recipe.RATES)
