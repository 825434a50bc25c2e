"""Models of tables on hard tables: what the report says, what is predicted, and that nothing is lost."""

from __future__ import annotations

import numpy as np
import pytest

import microbp as bp
from microbp.cli.main import main
from microbp.tables import intervals, quality, scores
from microbp.tables.encodings.target import Target
from microbp.tables.parts import Data, Part
from microbp.tables.predictor import Predictor
from microbp.tables.preparation import Preparation

RNG = np.random.default_rng(3)
X = RNG.normal(size=900)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def fitted(y, **options):
    return bp.fit_table({"x": X, "y": y}, target="y", budget="fast", progress=False, **options)


@pytest.mark.parametrize("y", [RNG.normal(size=900), RNG.choice(["a", "b"], 900, p=[0.7, 0.3])], ids=["numbers", "classes"])
def test_the_report_says_if_the_model_is_no_better_than_guessing(y):
    """If the rows tell nothing, a test may still look a little better by chance."""
    told = [": the model is no better;" in fitted(y, seed=seed, epochs=8).report for seed in range(4)]
    assert any(told)
    assert ": the model is no better;" not in fitted(X > 0 if y.dtype.kind == "U" else 3 * X).report


@pytest.mark.parametrize(
    ("rows", "accuracy", "usual", "is_said"),
    [
        *((1, 0.0, 1.0, False), (2, 1.0, 1.0, False), (4, 1.0, 1.0, False), (4, 0.75, 1.0, False), (4, 0.75, 0.75, False)),
        *((20, 0.7, 0.7, False), (200, 0.7, 0.7, True), (200, 0.6, 0.7, True), (200, 0.71, 0.7, False), (30, 0.4, 0.7, True)),
        (200, 0.995, 0.995, False),
    ],
)
def test_few_test_rows_do_not_say_that_classes_are_no_better(rows, accuracy, usual, is_said):
    found = scores.Scores(
        {"test": {"accuracy": accuracy}},
        {"test": rows},
        intervals={"accuracy": intervals.wilson(accuracy, rows)},
        baseline={"value": "p", "accuracy": usual},
    )
    assert quality.baseline(found)[0].endswith(quality._NO_BETTER) == is_said


@pytest.mark.parametrize(
    ("rmse", "interval", "is_said"),
    [
        (1.1, (0.5, 2.4), False),
        (1.1, (0.9, 1.3), True),
        (0.99, (0.9, 1.1), False),
        (1.1, None, False),
        (None, None, False),
        (9, (3, 27), True),
    ],
)
def test_few_test_rows_do_not_say_that_numbers_are_no_better(rmse, interval, is_said):
    found = scores.Scores(
        {"test": {"rmse": rmse}}, {"test": 50}, intervals={"rmse": interval}, baseline={"value": 0.0, "rmse": 1.0, "mae": 0.8}
    )
    assert quality.baseline(found)[0].endswith(quality._NO_BETTER) == is_said


@pytest.mark.parametrize(("options", "is_mean"), [({}, True), ({"loss": "half_sse"}, True), ({"loss": "mae"}, False)])
def test_predictions_of_a_skewed_target_have_the_sum_of_the_targets(options, is_mean):
    """The mean of logarithms would predict about the median, 0.45 times the mean here."""
    y = np.exp(5 + 1.2 * np.random.default_rng(4).normal(size=900))
    model = fitted(y, epochs=20, **options)
    target = model.preparation.target
    assert target.log and (target.factor > 1.3) == is_mean
    model.save("model.safetensors")
    for one in (model, bp.load_table("model.safetensors")):
        ratio = one.predict({"x": X}).sum() / y.sum()
        assert 0.8 < ratio < 1.2 if is_mean else ratio < 0.7


@pytest.mark.parametrize("loss", ["cross_entropy", "cross_entropy(label_smoothing=0.1)", "bce", "hinge", "mse"])
def test_the_loss_of_several_networks_is_that_of_their_mean(loss):
    model = fitted(X if loss == "mse" else np.where(X > 0, "p", "q"), loss=loss, ensemble=3, epochs=3)
    x, nets = model.features({"x": X}), list(model.net)
    mean = np.mean([net.predict(x).astype(np.float64) for net in nets], axis=0)
    found = Predictor(model.net, bp.Loss.parse(loss))
    y = X if loss == "mse" else (X <= 0).astype(int)
    if loss == "bce":
        y = np.eye(2)[y]
        expected = -(y * np.log(mean) + (1 - y) * np.log(np.maximum(1 - mean, 2**-23))).mean()  # float32 has no more digits
    elif loss == "hinge":
        y = 2 * np.eye(2)[y] - 1
        expected = np.maximum(0, 1 - y * mean).mean()
    elif loss == "mse":
        expected = ((mean[:, 0] - y) ** 2).mean()
    else:
        share = 0.1 if "smoothing" in loss else 0.0
        expected = -((np.eye(2)[y] * (1 - share) + share / 2) * np.log(mean)).sum(axis=1).mean()
    assert found.evaluate(x, y) == pytest.approx(expected, rel=1e-5)


def test_features_are_what_the_networks_get():
    model = fitted(3 * X, epochs=3)
    target = model.preparation.target
    found = target.numbers(model.net.predict(model.features({"x": X}))[:, 0])
    np.testing.assert_array_equal(model.predict({"x": X}), found)


def test_mostly_zeros_and_a_few_large_numbers_have_a_report():
    y = np.where(np.arange(60) % 5 == 0, 10.0 ** (np.arange(60) / 12), 0.0)
    model = bp.fit_table({"x": np.arange(60), "y": y}, target="y", budget="fast")
    assert "rmse" in model.report


@pytest.mark.parametrize("unit", [1.0, 1e-300, 1e30])
def test_only_relative_weights_count(unit):
    """Their squares may be 0."""
    assert intervals.effective(np.full(50, unit)) == pytest.approx(50)
    assert intervals.effective(np.array([2.0, 1.0, 0.0]) * unit) == pytest.approx(1.8)


def test_an_interval_that_overflows_is_unknown():
    assert intervals.of_error(1.0, 1e300, 30) is None
    assert intervals.of_error(1.0, 0.1, 30)[1] > 1


def test_the_balanced_accuracy_of_many_classes_is_the_mean_recall():
    """Of 500 classes; computed from the cells of the confusion matrix that are not 0."""
    labels, decided = np.arange(1500) % 500, np.arange(1500) // 3
    outputs = np.eye(500, dtype=np.float32)[decided]

    class Fixed:
        def predict(self, x):
            return outputs

        def evaluate(self, x, y, weight):
            return 0.0

    preparation = Preparation((), Target("y", tuple(map(str, range(500)))))
    part = Part(np.zeros((1500, 1)), labels)
    data = Data("t", preparation, bp.Loss("hinge"), {"train": lambda: [part], "test": lambda: [part]}, 1500, False)
    expected = np.mean([(decided[labels == label] == label).mean() for label in range(500)])
    assert scores.measure(Fixed(), data).parts["test"]["balanced_accuracy"] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("value", "text"), [(-3.329e-08, "  -3.3e-08"), (0.98765, "    0.9877"), (-0.1338, "   -0.1338"), (1.5e300, "  1.5e+300")]
)
def test_a_metric_has_ten_characters_and_a_space_before_it(value, text):
    assert quality.cell("r2", value) == text


def test_networks_of_an_earlier_run_are_not_overwritten(capsys):
    with open("t.csv", "w", encoding="utf-8") as file:
        file.write("x,y\n" + "".join(f"{i},{3 * i}\n" for i in range(60)))
    with open("p.ckpt.networks", "w", encoding="utf-8") as file:
        file.write("precious")
    arguments = ["train", "t.csv", "--target", "y", "--epochs", "2", "--budget", "fast", "--checkpoint", "p.ckpt"]
    with pytest.raises(SystemExit):
        main(arguments)
    assert "'p.ckpt.networks' exists; use --resume to continue its run, or --force to overwrite it" in capsys.readouterr().err
    with open("p.ckpt.networks", encoding="utf-8") as file:
        assert file.read() == "precious"
    assert main([*arguments, "--force"]) == 0


def test_advice_is_quoted_for_the_shell(capsys):
    with open("t.csv", "w", encoding="utf-8") as file:
        file.write("a copy,b,y\n" + "".join(f"{i},{i * 7 % 13},{i}\n" for i in np.random.default_rng(0).permutation(300)))
    assert main(["train", "t.csv", "--target", "y", "--epochs", "2", "--budget", "fast"]) == 0
    assert "use --drop 'a copy'" in capsys.readouterr().out


def test_negative_numbers_among_positive_ones_may_stand_for_gaps():
    income = np.where(np.arange(900) % 12, 100 + 50 * np.abs(X), -999.0)
    report = bp.fit_table({"income": income, "x": X, "y": 3 * X}, target="y", budget="fast", epochs=2).report
    assert "column 'income' has 75 cells of -999" in report and "missing='-999'" in report
