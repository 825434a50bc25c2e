"""The figure of a report, for all kinds of histories, classes and numbers."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

pytest.importorskip("matplotlib")

from matplotlib.figure import Figure
from plot_cases import HISTORY, RNG, check_drawn, covered

from microbp import plot
from microbp.tables.scores import Scores

NOISE = 10 ** RNG.normal(0, 0.15, size=(2, 400))
HISTORIES = {
    "one epoch": {"loss": [1.6], "val_loss": [1.3], "accuracy": [0.76]},
    "two epochs": {"loss": [1.4, 0.7], "val_loss": [0.9, 0.7], "accuracy": [0.5, 1.0]},
    "noisy": {"loss": NOISE[0] / np.arange(1, 401), "val_loss": NOISE[1] / np.arange(1, 401) ** 0.8, "accuracy": NOISE[1] / 4},
    "overfitting": {"loss": np.geomspace(2, 1e-3, 100), "val_loss": np.geomspace(0.5, 3, 100), "accuracy": np.full(100, 0.97)},
    "everywhere": {"loss": NOISE[0], "val_loss": NOISE[1], "accuracy": RNG.uniform(0, 1, 400)},
    "all right": {"loss": np.geomspace(2, 1e-9, 30), "val_loss": np.geomspace(1, 1e-7, 30), "accuracy": np.ones(30)},
}
HISTORIES = {name: {entry: list(map(float, values)) for entry, values in history.items()} for name, history in HISTORIES.items()}
CLASSES = {
    "two": ["no", "yes"],
    "mathematics": [r"$\frac{$", "$x$ and $y$", "100 %", "a_b^c", "line\nbreak"],
    "common start": [f"a rather long class name number {i}" for i in range(16)],
    "common end": [f"{name} of the northern hemisphere" for name in ("oak", "ash", "elm", "fir", "yew", "maple")],
    "common ends": [f"{a}measurement {b} of the station in the north" for a in ("", "x") for b in "ABC"],
    "letters": list("ABCDEFGHIJKLMNOPQRSTUVWXYZ"),
    "200": [f"species number {i}" for i in range(200)],
    "numbers": list(range(40)),
    "missing letters": ["苹果", "りんご", "사과"],
}
TITLES = ["digits, 64-128-10 relu", 'we ird $x$ "name.csv, 6-64-2 relu', "a_very_long_name" * 9 + f".csv, 6{8 * '-32'}-3 relu", "W" * 300]


def report(monkeypatch, history, classes=None, counts=None, numbers=(None, None), title="x.csv, 2-3 relu"):
    """The figure that save_report saves. Checks the texts in it."""
    saved = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, path: saved.append(figure))
    parts = {"test": {"accuracy": 1.0, "rmse": 1.0}}
    scores = Scores(parts, {"test": 1}, None if counts is None else np.asarray(counts), *map(np.asarray, numbers))
    plot.save_report("x.png", title, scores, classes or [], history)
    check_drawn(saved[0])
    return saved[0]


def confusion(count, rows=50):
    """A confusion matrix with some mistakes."""
    counts = np.diag(RNG.integers(1, rows, count))
    np.add.at(counts, tuple(RNG.integers(0, count, (2, 2 * count))), 1)
    return counts


@pytest.mark.parametrize("title", TITLES)
def test_long_titles_are_shortened_in_the_middle_and_keep_the_metric(monkeypatch, title):
    drawn = report(monkeypatch, HISTORIES["noisy"], ["a", "b"], confusion(2), title=title).get_suptitle()
    head, _, tail = drawn.removesuffix(": test accuracy 100.00 %").partition("…")
    assert title.startswith(head) and title.endswith(tail) and len(head) > 20


@pytest.mark.parametrize("history", HISTORIES.values(), ids=list(HISTORIES))
def test_legends_cover_no_curve(monkeypatch, history):
    for axes in report(monkeypatch, history, ["a", "b", "c"], confusion(3)).axes[:2]:
        assert covered(axes) == 0
        assert (axes.get_xticks() % 1 == 0).all()
        assert axes.get_ylim()[1] <= 1.01 or axes.get_ylabel() == "loss"


@pytest.mark.parametrize("history", HISTORIES.values(), ids=list(HISTORIES))
@pytest.mark.parametrize("rows", [1, 2, 3])
def test_a_legend_on_small_axes_covers_no_curve(history, rows):
    figure = Figure(layout="tight")
    for axes in figure.subplots(rows, squeeze=False).flat:
        plot.learning_curves(history, ax=axes)
    figure.draw_without_rendering()
    assert not any(map(covered, figure.axes))


@pytest.mark.parametrize("name", CLASSES)
def test_class_names_are_drawn_literally_and_all_differ(monkeypatch, name):
    classes = CLASSES[name]
    with warnings.catch_warnings(action="error"):
        *curves, axes = report(monkeypatch, HISTORIES["everywhere"], classes, confusion(len(classes))).axes
    assert sum(map(covered, curves)) == 0  # although long names leave less space for the curves
    for axis in (axes.xaxis, axes.yaxis):
        labels = [label.get_text() for label in axis.get_ticklabels()]
        assert len(set(labels)) == len(labels) >= min(10, len(classes))
        assert not any(label.get_parse_math() for label in axis.get_ticklabels())
        if max(len(str(name)) for name in classes) <= 14:
            assert labels == [" ".join(str(classes[int(place)]).split()) for place in axis.get_ticklocs()]


def test_mistakes_among_many_classes_are_marked():
    counts = confusion(200)
    (marks,) = [drawn for drawn in plot.confusion_matrix(counts, range(200)).collections if len(drawn.get_offsets())]
    wrong = counts * ~np.eye(200, dtype=bool)
    assert sorted(map(tuple, marks.get_offsets()[:, ::-1])) == [tuple(place) for place in np.argwhere(wrong)]
    order = np.argsort((wrong / counts.sum(axis=1, keepdims=True).clip(1))[wrong > 0])
    assert (np.diff(marks.get_sizes()[order]) >= 0).all()


NUMBERS = RNG.normal(size=(2, 300))


@pytest.mark.parametrize(
    "numbers",
    [NUMBERS, (NUMBERS[0], NUMBERS[0]), ([1.0], [2.0]), ([0, 10], [10, 0]), ([0, 0, 10, 10], [0, 10, 0, 10])],
    ids=["cloud", "right", "one", "wrong", "corners"],
)
def test_the_legend_of_a_regression_covers_nothing(monkeypatch, numbers):
    axes = report(monkeypatch, HISTORIES["noisy"], numbers=numbers).axes[1]
    assert covered(axes) == 0
    assert axes.get_xlim() == axes.get_ylim()


PRICES = RNG.lognormal(8, 0.8, 500)


FAR = {
    "none": (PRICES, 1.1 * PRICES, 0),
    "one predicted": (PRICES, np.append(PRICES[:-1], 2e6), 1),
    "one true": (np.append(PRICES[:-1], -1e9), PRICES, 1),
    "several": (np.append(PRICES, [1e7, 1e7, 5000, -1e8]), np.append(PRICES, [1e7, 3000, -1e7, 9e8]), 4),
    "not finite": (PRICES, np.append(PRICES[:-2], [np.nan, np.inf]), 0),
}


@pytest.mark.parametrize("name", FAR)
def test_outliers_are_marked_at_the_edge_and_do_not_shrink_the_others(monkeypatch, name):
    true, predicted, count = FAR[name]
    axes = report(monkeypatch, HISTORIES["noisy"], numbers=(true, predicted)).axes[1]  # checks that texts do not overlap
    low, high = axes.get_xlim()
    assert high - low < 3 * np.ptp(PRICES) and (low, high) == axes.get_ylim()
    rows, _, *marks = axes.lines
    assert len(rows.get_xdata()) + sum(len(mark.get_xdata()) for mark in marks) == np.isfinite(predicted).sum()
    drawn = np.concatenate([line.get_xydata() for line in axes.lines])
    assert (low <= drawn).all() and (drawn <= high).all()
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels[2:] == [f"outside of the limits: {count}"] * (count > 0)


@pytest.mark.parametrize("size", [1e-6, 1, 999, 12_345, 2e6, 7e9, 1e15])
def test_labels_of_large_numbers_do_not_overlap(monkeypatch, size):
    axes = report(monkeypatch, HISTORIES["noisy"], numbers=(size * RNG.normal(3, 1, 50), size * RNG.normal(3, 1, 50))).axes[1]
    labels = [label.get_text() for label in axes.get_xticklabels()]
    assert len(set(labels)) == len(labels) >= 3


def test_the_report_of_two_classes_has_their_curves(monkeypatch):
    saved = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, path: saved.append(figure))
    chances = RNG.uniform(size=(80, 1))
    y = (RNG.uniform(size=80) < chances[:, 0]).astype(int)
    test = {"accuracy": 0.7, "log_loss": 0.5}
    scores = Scores({"test": test}, {"test": 80}, confusion(2), y, np.hstack([1 - chances, chances]), None, {"accuracy": (0.6, 0.8)})
    plot.save_report("x.png", "t.csv", scores, ["no", "$yes$"], HISTORY)
    figure = saved[0]
    figure.draw_without_rendering()
    assert figure.get_suptitle() == "t.csv: test accuracy 70.00 % (60.0 to 80.0 %)"
    assert [axes.get_title() for axes in figure.axes] == ["", "", "", "class $yes$", "class $yes$"]
    assert [axes.get_ylabel() for axes in figure.axes[3:]] == ["true positive rate", "share of the class"]
