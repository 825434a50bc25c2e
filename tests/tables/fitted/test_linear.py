"""The linear model that joins the networks of a small table: its weights, and its share of the vote."""

from __future__ import annotations

import json

import numpy as np
import pytest

import microbp as bp
from microbp.cli.main import main
from microbp.tables import recipe
from microbp.tables.fitted import linear
from microbp.tables.readers import sources
from microbp.tables.split import Split, gather

RNG = np.random.default_rng(8)
COUNT = 300
A, B, NOISE = RNG.normal(size=(3, COUNT))
COLOUR = RNG.choice(["red", "green", "blue"], COUNT)
DAY = np.datetime64("2020-01-01") + RNG.integers(0, 1000, COUNT)
COLUMNS = {"a": A, "b": np.where(np.arange(COUNT) % 7, 50 + 9 * B, np.nan), "colour": COLOUR, "day": DAY.astype(str), "c": A > B}
STRAIGHT = 3 * A - 2 * B + 2 * (COLOUR == "red")
FAST = {"budget": "fast", "net": "x-16-y", "progress": False}


def fitted(y, columns=COLUMNS, **options):
    return bp.fit_table({**columns, "y": y}, target="y", **{**FAST, **options})


def data(y, **options):
    return gather(Split(sources.find({**COLUMNS, "y": y})), target="y", **options)


def share(model):
    """The share of the linear model in the vote."""
    return 0.0 if model.net.weights is None else model.net.weights[-1]


# ---- the weights ----


def test_features_become_numbers_instead_of_bins():
    one = data(STRAIGHT)
    preparation, part = one.preparation, one.part("train")
    assert preparation.unbinned.shape == (preparation.width, preparation.width - preparation.bins) and preparation.bins > 40
    found = part.x.astype(np.float64) @ preparation.unbinned
    np.testing.assert_allclose(linear._unbinned(part.x, preparation.unbinned), found, rtol=1e-12, atol=1e-12)
    number = preparation.features[0]
    z = number.undo(part.x[:, 0]) / number.scale
    assert (number.name, number.clip) == ("a", True) and np.ptp(found[:, 0] - z) < 1e-4
    day = next(feature for feature in preparation.features if feature.name == "day")
    assert day.bins > 0 and day.unbinned.shape == (day.width, day.width - day.bins)
    np.testing.assert_array_equal(np.flatnonzero((preparation.unbinned != 0).sum(axis=1) > 1), [])  # each feature goes into one column


def test_it_is_linear_in_numbers_days_and_categories():
    """Features of bins and clipped numbers are not; a row halfway between two others is predicted as their mean."""
    one = data(STRAIGHT + NOISE)
    net = linear._fit(one, one.part("train"), one.preparation.unbinned, 0, 1)

    def predicted(**row):
        table = {
            "a": [0.0],
            "b": [50.0],
            "colour": ["red"],
            "day": ["2020-06-01"],
            "c": [True],
            **{key: [value] for key, value in row.items()},
        }
        return net.predict(one.preparation.matrix(next(iter(sources.find(table).tables()))))[0, 0]

    for name, (low, middle, high) in {"a": (-1.9, 0.05, 2.0), "b": (40.0, 47.0, 54.0)}.items():
        ends = predicted(**{name: low}), predicted(**{name: high})
        assert abs(ends[0] - ends[1]) > 0.1
        assert predicted(**{name: middle}) == pytest.approx(sum(ends) / 2, abs=1e-4)
    steps = [predicted(a=a, colour="red") - predicted(a=a, colour="blue") for a in (-1.0, 0.0, 1.5)]
    assert steps[0] > 0.3 and steps == pytest.approx([steps[0]] * 3, abs=1e-4)


def test_numbers_are_fitted_by_least_squares():
    """With so little noise, ridge is no different."""
    one = data(STRAIGHT, drop=["b", "day", "c"])
    part = one.part("train")
    net = linear._fit(one, part, one.preparation.unbinned, 0, 1)
    assert (
        linear._fit(one, part._replace(weight=np.full(len(part.x), 7.0)), one.preparation.unbinned, 0, 1).params.tobytes()
        == net.params.tobytes()
    )
    x = np.column_stack([part.x.astype(np.float64) @ one.preparation.unbinned, np.ones(len(part.x))])
    expected = x @ np.linalg.lstsq(x, part.y.reshape(-1), rcond=None)[0]
    np.testing.assert_allclose(net.predict(part.x)[:, 0], expected, atol=0.02)


@pytest.mark.parametrize("classes", [2, 3])
def test_classes_are_fitted_by_the_highest_likelihood(classes):
    """No step from the weights that are found, in any direction, lowers the loss with its penalty by more than a little."""
    y = np.array(list("pqr"))[np.digitize(STRAIGHT + 3 * NOISE, [0.0, 2.0][: classes - 1])]
    one = data(y)
    part = one.part("train")
    x = part.x.astype(np.float64) @ one.preparation.unbinned
    x = (x - x.mean(axis=0)) / x.std(axis=0)
    weight, true = RNG.uniform(0.5, 1.5, len(x)), np.eye(classes)[part.y]
    factors, bias = linear._logistic(x, true, weight)

    def loss(factors, bias):
        logits = x @ factors + bias
        highest = logits.max(axis=1)
        logs = np.log(np.exp(logits - highest[:, None]).sum(axis=1)) + highest
        return weight @ (logs - (true * logits).sum(axis=1)) + (factors**2).sum() / 2

    found = loss(factors, bias)
    for _ in range(50):
        step, turn = RNG.normal(size=factors.shape) / 30, RNG.normal(size=classes) / 30
        assert loss(factors + step, bias + turn) > found - 1e-3 < loss(0 * factors, bias)
    assert loss(0 * factors, bias) > 1.1 * found


# ---- the share ----


def losses(network, own, noise=1.0, rows=80):
    """The losses of numbers 0, where a network and a linear model err by so much, independently, beside a noise."""
    errors = np.random.default_rng(1).normal(size=(3, rows, 1)) * np.array([network, own, noise])[:, None, None]
    part = linear.Part(np.zeros((rows, 1)), errors[2])
    return linear._losses(errors[0], errors[1], part, bp.Loss("mse"))


def test_the_share_follows_the_errors():
    chosen = [
        linear._share(losses(*errors), np.ones(80), bp.Loss("mse"))
        for errors in [(0.1, 1, 0.1), (1, 2, 0.1), (1, 1), (2, 1, 0.1), (1, 0.1, 0.1)]
    ]
    assert chosen == sorted(chosen) and chosen[0] < 0.05 and 0.3 < chosen[2] < 0.7 and chosen[4] > 0.95


@pytest.mark.parametrize("loss", ["mse", "cross_entropy"])
def test_rows_that_do_not_tell_leave_the_share_at_a_half(loss):
    same = np.full((40, 2), 0.5)
    part = linear.Part(np.zeros((40, 1)), np.zeros(40, np.int64) if loss == "cross_entropy" else np.ones((40, 2)))
    assert linear._share(linear._losses(same, same, part, bp.Loss(loss)), np.ones(40), bp.Loss(loss)) == 0.5


@pytest.mark.parametrize("loss", ["mse", "cross_entropy"])
@pytest.mark.parametrize("rows", [1, 2, 3, 6, 12])
def test_a_few_rows_do_not_decide_whatever_they_are(rows, loss):
    """In them one of both is right in all rows, and the other wrong in all."""
    shares = []
    for right in (0, 1):
        if loss == "mse":
            y, (network, own) = np.ones((rows, 1)), [np.full((rows, 1), float(i == right)) for i in (0, 1)]
        else:
            y, (network, own) = np.zeros(rows, np.int64), [np.tile([1.0, 0.0] if i == right else [0.0, 1.0], (rows, 1)) for i in (0, 1)]
        each = linear._losses(network, own, linear.Part(np.zeros((rows, 1)), y), bp.Loss(loss))
        shares.append(linear._share(each, np.ones(rows), bp.Loss(loss)))
    allowed = 0.1 if rows <= 2 else 0.4
    assert 0.5 - allowed <= shares[0] <= 0.5 <= shares[1] <= 0.5 + allowed


def test_rows_of_little_weight_count_little():
    """One row decides, although 79 others are there."""
    each = losses(0.1, 1, 0.1)
    weight = np.where(np.arange(80) == 0, 1.0, 1e-12)
    assert linear._share(each, np.ones(80), bp.Loss("mse")) < 0.1 < 0.4 < linear._share(each, weight, bp.Loss("mse"))


@pytest.mark.parametrize("seed", range(3))
def test_one_validation_row_leaves_about_a_half(seed):
    model = fitted(A + 2 * COLUMNS["c"] + NOISE, {"a": A, "c": COLUMNS["c"]}, validation=0.001, seed=seed)
    assert 0.4 < share(model) < 0.6


def test_a_loss_that_is_not_finite_gives_no_share():
    assert linear._share(np.full((5, 101), np.nan), np.ones(5), bp.Loss("mse")) == 0


@pytest.mark.parametrize("classifies", [False, True])
def test_it_has_most_of_the_vote_on_straight_data_and_none_on_twisted_data(classifies):
    a, b, noise = np.random.default_rng(3).normal(size=(3, 900))
    straight, twisted = (
        share(fitted(np.where(y + noise > 0, "p", "q") if classifies else y + noise, {"a": a, "b": b}, epochs=30, validation=0.4))
        for y in (2 * a - b, 3 * np.sign(a) * np.sign(b))
    )
    assert straight > 0.5 > 0.1 > twisted


# ---- models ----


@pytest.mark.parametrize("classifies", [False, True])
def test_a_model_with_it_is_one_file_and_says_so(classifies, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    y = np.where(STRAIGHT + NOISE > 0, "p", "q") if classifies else STRAIGHT + NOISE
    model = fitted(y, epochs=4)
    nets, of_all = list(model.net), model.net.weights
    assert of_all[:-1] == (of_all[0],) * 2 and sum(of_all) == pytest.approx(1) and [layer.kind for layer in nets[-1].layers] == ["dense"]
    x = model.features(COLUMNS)
    mean = sum(weight * net.predict(x).astype(np.float64) for net, weight in zip(nets, of_all, strict=True))
    np.testing.assert_allclose(model.net.predict(x), mean, rtol=1e-5, atol=1e-6)
    said = f"{100 * of_all[-1]:.0f} % of the vote"
    assert f"a linear model has {said}" in model.report.splitlines()
    assert f"the mean of 2 networks, each like the first, and a linear model with {said}:" in str(model)
    model.save("m")
    again = bp.load_table("m")
    assert again.net.weights == of_all and np.array_equal(again.predict(COLUMNS), model.predict(COLUMNS))
    table = {**COLUMNS, "y": y}
    assert model.evaluate(table)["loss"] == again.evaluate(table)["loss"]
    assert str(model.importance(table, repeats=1)) == str(again.importance(table, repeats=1))
    assert main(["info", "m"]) == 0
    assert f"a linear model with {said}:" in capsys.readouterr().out


@pytest.mark.parametrize(
    "options",
    [{"ensemble": 2}, {"ensemble": 1}, {"loss": "mae"}, {"loss": "huber"}],
    ids=lambda options: "-".join(map(str, options.values())),
)
def test_chosen_numbers_of_networks_and_other_losses_have_none(options):
    model = fitted(STRAIGHT, epochs=3, **options)
    assert isinstance(model.net, bp.Network) or (len(model.net) == 2 and model.net.weights is None)
    assert "linear model" not in model.report + str(model)


def test_large_tables_and_streams_have_none(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    rows = [f"{a},{a + noise / 9}" for a, noise in zip(A, NOISE, strict=True)]
    (tmp_path / "t.csv").write_text("\n".join(["a,y", *rows]) + "\n")
    shares = []
    for more in ([], ["--stream"]):
        assert main(["train", "t.csv", "--epochs", "3", "--net", "x-8-y", "--json", "--out", "net", "--force", *more]) == 0
        shares.append(json.loads(capsys.readouterr().out)["linear_share"])
    monkeypatch.setattr("microbp.tables.recipe._LINEAR_ROWS", 200)
    assert shares[0] > 0.1 and shares[1] == 0 == share(fitted(STRAIGHT, epochs=3))


@pytest.mark.parametrize("budget", ["fast", "normal", "best"])
def test_it_joins_if_its_time_is_a_small_part_of_the_budget(budget):
    """More columns or classes never make it join; a larger budget may."""
    joins = {
        (rows, columns, outputs): recipe.may_join(rows, columns, outputs, budget)
        for rows in (100, 1000, 7000)
        for columns in (10, 100, 700)
        for outputs in (1, 2, 10, 100)
    }
    for one, may in joins.items():
        assert not may or all(joins[other] for other in joins if other[0] == one[0] and other[1] <= one[1] and other[2] <= one[2])
        assert not may or recipe.may_join(*one, "best")
    if budget == "normal":  # the table in docs/table-recipe.md
        most = {(200, 1): 693, (200, 10): 442, (1000, 2): 238, (5000, 1): 277, (5000, 2): 49, (10_000, 2): 49, (10_000, 10): 8}
        for (rows, outputs), columns in most.items():
            assert recipe.may_join(rows, columns, outputs) > recipe.may_join(rows, columns + 1, outputs)
    assert joins[100, 10, 10] and joins[7000, 100, 1] and not joins[7000, 100, 100]
    assert not recipe.may_join(10_001, 2, 2, budget)
    assert recipe.may_join(7000, 30, 10, budget) == (budget == "best")


# ---- missing values that training did not have ----


def test_a_missing_value_that_training_did_not_have_is_predicted_as_the_median():
    columns = {"a": A, "day": COLUMNS["day"]}
    elapsed = DAY.astype(float)
    model = fitted(9 * A + elapsed / 100 + NOISE / 9, columns)
    assert share(model) > 0.1
    number, date = model.preparation.features
    days, _ = date.linear["elapsed"]
    median = {"a": [number.centre], "day": [str(np.datetime64(round(days), "D"))]}
    for name in columns:
        with pytest.warns(UserWarning, match="none in training, which count as a middle number or date: "):
            gap = model.predict({**median, name: [None]})
        if name == "a":
            np.testing.assert_array_equal(model.features({**median, name: [None]}), model.features(median))
        np.testing.assert_allclose(gap, model.predict(median), atol=0.15 * np.std(9 * A))
