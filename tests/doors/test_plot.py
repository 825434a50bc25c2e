"""Plots: they draw on the given axes, return them, open no window, and show their arguments."""

from __future__ import annotations

import doctest
import inspect
import subprocess
import sys
import warnings

import numpy as np
import pytest

pytest.importorskip("matplotlib")

from matplotlib import font_manager, rcParams
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.text import Text

import microbp as bp
from microbp import plot
from microbp.tables.scores import Scores

RNG = np.random.default_rng(0)

HISTORY = {"loss": [1.0, 0.5, 0.2], "val_loss": [1.1, 0.4, 0.6], "accuracy": [0.5, 0.9, 0.8]}
DRAWINGS = {
    "curves": lambda ax: plot.learning_curves(HISTORY, ax=ax),
    "accuracy": lambda ax: plot.learning_curves(HISTORY, "accuracy", ax),
    "no validation": lambda ax: plot.learning_curves({"loss": [-1.0]}, ax=ax),
    "confusion": lambda ax: plot.confusion_matrix([[5, 1], [0, 7]], ["a", "b"], ax),
    "large confusion": lambda ax: plot.confusion_matrix(np.eye(40), [f"class {i}" for i in range(40)], ax),
    "numbers": lambda ax: plot.predicted_against_true([1.0, 2.0], [[1.5], [2.5]], ax),
    "roc": lambda ax: plot.roc_curve([0, 1, 1], [0.2, 0.4, 0.3], ax=ax),
    "calibration": lambda ax: plot.calibration([0, 1, 1], [0.2, 0.4, 0.3], ax=ax),
    "sweep": lambda ax: plot.sweep(swept([1e-3, 1e-2, 1e-1]), ax),
    "curves of a sweep": lambda ax: plot.sweep(swept([1e-3, 1e-2, 1e-1]), ax, curves=True),
}


def swept(values, scores=(0.5, 0.1, 0.3), rises=False):
    """The result of a sweep, with these scores."""
    trainers = [bp.Trainer(bp.mlp([1, 1], seed=0), "mse") for _ in values]
    for trainer, score in zip(trainers, scores):
        trainer.history.update({"val_loss": [] if np.isnan(score) else [1.0, score]})
    return bp.Sweep("lr", tuple(values), tuple(trainers), np.array(scores), "val_loss", rises)


# ---- layout, for all kinds of histories, classes and numbers ----

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
    saved, texts, draw = [], [], Text.draw
    monkeypatch.setattr(plot.Figure, "savefig", lambda figure, path: saved.append(figure))
    parts = {"test": {"accuracy": 1.0, "rmse": 1.0}}
    scores = Scores(parts, {"test": 1}, None if counts is None else np.asarray(counts), *map(np.asarray, numbers))
    plot.save_report("x.png", title, scores, classes or [], history)
    monkeypatch.setattr(Text, "draw", lambda text, renderer: (draw(text, renderer), texts.append(text)))
    with warnings.catch_warnings(action="ignore"):
        saved[0].draw_without_rendering()
        check_texts(saved[0], [text for text in texts if text.get_text() and text.get_visible()])
    return saved[0]


def confusion(count, rows=50):
    """A confusion matrix with some mistakes."""
    counts = np.diag(RNG.integers(1, rows, count))
    np.add.at(counts, tuple(RNG.integers(0, count, (2, 2 * count))), 1)
    return counts


def check_texts(figure, texts):
    """All texts are inside the figure, and do not overlap."""
    boxes = [text.get_window_extent() for text in texts]
    for text, box in zip(texts, boxes):
        assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= figure.bbox.x1 and box.y1 <= figure.bbox.y1, text
    x0, y0, x1, y1 = np.transpose([box.extents for box in boxes])
    meet = (x0[:, None] <= x1) & (x0 <= x1[:, None]) & (y0[:, None] <= y1) & (y0 <= y1[:, None])
    for i, j in np.argwhere(np.triu(meet, 1)):
        a, b = texts[i], texts[j]
        if a.get_rotation() == b.get_rotation() == 45:  # upright bounding boxes do not apply to slanted texts
            apart = abs(a.get_transform().transform(a.get_position()) - b.get_transform().transform(b.get_position())).max()
            assert apart * np.sin(np.pi / 4) > 0.9 * a.get_fontsize() * figure.dpi / 72, (a, b)
        else:
            raise AssertionError((a, b))


def covered(axes):
    """How many points of the lines the legend covers."""
    box = axes.get_legend().get_window_extent()
    lines = [line.get_transform().transform_path(line.get_path()).interpolated(50).vertices for line in axes.lines]
    return sum(int(np.sum((x > box.x0) & (x < box.x1) & (y > box.y0) & (y < box.y1))) for x, y in (line.T for line in lines))


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


@pytest.mark.parametrize("top", [0.3, 0.62, 0.97, 1.0])
def test_the_accuracy_axis_ends_where_the_data_ends(top):
    values = np.linspace(top - 0.1, top, 20)
    axes = plot.learning_curves({"loss": np.geomspace(1, 0.1, 20), "accuracy": values}, "accuracy")
    assert top <= axes.get_ylim()[1] <= min(top + 0.02, 1.01)


def test_marks_of_a_range_test_are_at_their_rates():
    X = RNG.normal(size=(200, 3))  # noqa: N806
    result = bp.lr_find(bp.Trainer(bp.mlp([3, 8, 1], seed=0), loss="mse"), X, X[:, :1] ** 2)
    marks = {line.get_label().partition(":")[0]: line.get_xdata()[0] for line in plot.lr_find(result).lines[2:]}
    assert marks == {"valley, the suggestion": result.valley, "steep": result.steep, "minimum / 10": result.minimum}


@pytest.mark.parametrize("weight", [None, RNG.choice([0.0, 1.0, 2.5], 200)], ids=["plain", "weighted"])
def test_the_curves_of_two_classes_are_those_of_scikit_learn(weight):
    metrics = pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed")
    chances = RNG.uniform(size=200).round(2)
    y = RNG.uniform(size=200) < chances
    false, found, _ = metrics.roc_curve(y, chances, sample_weight=weight, drop_intermediate=False)
    np.testing.assert_allclose(plot.roc_curve(y, chances, weight).lines[0].get_xydata(), np.transpose([false, found]), atol=1e-12)
    points = plot.calibration(y, chances, weight).lines[0].get_xydata()
    if weight is None:
        calibration = pytest.importorskip("sklearn.calibration")
        expected = np.transpose(calibration.calibration_curve(y, chances, n_bins=10, strategy="quantile")[::-1])
        assert abs(points - expected).max() < 0.06  # equal probabilities at the border of two bins may be in either
    assert len(points) == 10


def test_the_report_of_two_classes_has_their_curves(monkeypatch):
    saved = []
    monkeypatch.setattr(plot.Figure, "savefig", lambda figure, path: saved.append(figure))
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


def test_letters_that_the_default_font_does_not_have_come_from_another_font():
    usual, other = (font_manager.get_font(font_manager.findfont(name)).get_charmap().keys() for name in ("DejaVu Sans", "STIXGeneral"))
    name = chr(max(other - usual))
    with warnings.catch_warnings(action="error"):
        axes = plot.confusion_matrix([[1, 0], [0, 1]], [name, "b"])
        axes.figure.draw_without_rendering()
    assert axes.get_xticklabels()[0].get_text() == name
    assert len(axes.get_xticklabels()[0].get_fontfamily()) > len(font_manager.FontProperties().get_family())


def test_epochs_without_validation_leave_gaps():
    nan = float("nan")
    axes = plot.learning_curves({"loss": [3.0, 2.0, 1.0], "val_loss": [nan, 1.5, 2.5], "lr": [1.0, 0.5, 0.2]})
    assert axes.lines[-1].get_xydata().tolist() == [[2, 1.5]]
    assert axes.get_yscale() == "log"
    axes = plot.learning_curves({"loss": [3.0], "val_loss": [nan]})
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["training", "validation"]


@pytest.mark.parametrize("draw", DRAWINGS.values(), ids=list(DRAWINGS))
def test_axes_are_given_or_new(draw):
    given = Figure().subplots()
    assert draw(given) is given
    assert draw(None) is not given
    assert given.get_xlabel() and given.get_ylabel()
    given.figure.canvas.draw()


def test_curves_show_the_history_and_its_best_epoch():
    training, validation, best = plot.learning_curves(HISTORY).lines
    assert training.get_ydata().tolist() == HISTORY["loss"]
    assert validation.get_ydata().tolist() == HISTORY["val_loss"]
    assert best.get_xydata().tolist() == [[2, 0.4]]


def test_curves_of_the_loss_of_an_output():
    history = HISTORY | {"loss_a": [3.0, 2.0, 1.0], "val_loss_a": [4.0, 3.0, 5.0], "accuracy_a": [0.5, 0.6, 0.7]}
    training, validation, best = plot.learning_curves(history, "loss_a").lines
    assert [list(line.get_ydata()) for line in (training, validation)] == [history["loss_a"], history["val_loss_a"]]
    assert best.get_xydata().tolist() == [[2, 3.0]], "the epoch with the lowest validation loss"
    alone = plot.learning_curves(history, "val_loss_a")
    assert alone.lines[0].get_label() == "validation" and alone.get_yscale() == "log"
    assert plot.learning_curves(history, "accuracy_a").get_yscale() == "linear"


def test_a_confusion_matrix_shows_counts_and_colours_fractions():
    axes = plot.confusion_matrix([[3, 1], [0, 0]], ["a", "b"])
    assert [(text.get_position(), text.get_text()) for text in axes.texts] == [((0, 0), "3"), ((1, 0), "1")]
    np.testing.assert_array_equal(axes.images[0].get_array(), [[0.75, 0.25], [0, 0]])


def test_counts_are_legible_on_every_blue():
    for share in range(0, 51, 5):
        axes = plot.confusion_matrix([[share, 100 - share], [0, 100]], ["a", "b"])
        for text in axes.texts:
            j, i = text.get_position()
            image = axes.images[0]
            cell, letters = (luminance(to_rgb(colour)) for colour in (image.to_rgba(image.get_array())[i, j, :3], text.get_color()))
            assert (max(cell, letters) + 0.05) / (min(cell, letters) + 0.05) > 3.5  # WCAG asks for 3 or more for large text


def luminance(colour):
    """The relative luminance of a colour (WCAG)."""
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in colour]
    return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))


def test_points_and_the_line_of_perfect_predictions():
    points, line = plot.predicted_against_true([1.0, 3.0], [2.0, 5.0]).lines
    assert points.get_xydata().tolist() == [[1, 2], [3, 5]]
    assert line.get_xydata().tolist() == [[1, 1], [5, 5]]


def test_a_history_may_contain_arrays_and_the_curve_of_lr_has_no_legend():
    with warnings.catch_warnings(action="error"):
        axes = plot.learning_curves({"loss": np.ones(3), "lr": np.array([0.1, 0.2, 0.3])}, "lr")
    assert axes.lines[0].get_ydata().tolist() == [0.1, 0.2, 0.3]
    assert axes.get_legend() is None


def test_matplotlib_settings_do_not_change():
    before = dict(rcParams)
    for draw in DRAWINGS.values():
        draw(None).figure.draw_without_rendering()
    assert dict(rcParams) == before


def test_invalid_arguments_are_refused():
    with pytest.raises(ValueError, match="the history is empty; call fit first"):
        plot.learning_curves({})
    with pytest.raises(ValueError, match="unknown entry of the history 'acuracy'; did you mean 'accuracy'"):
        plot.learning_curves(HISTORY, "acuracy")
    with pytest.raises(ValueError, match="classes is empty"):
        plot.confusion_matrix(np.ones((0, 0)), [])
    with pytest.raises(ValueError, match=r"\(2, 3\); with 2 classes"):
        plot.confusion_matrix(np.ones((2, 3)), ["a", "b"])
    with pytest.raises(ValueError, match=r"confusion_matrix\(sklearn\.metrics\.confusion_matrix\(y, p\.argmax\(axis=1\)\), names\)"):
        plot.confusion_matrix([0, 1, 1], np.ones((3, 2)))
    with pytest.raises(ValueError, match="true has length 2 and predicted 3"):
        plot.predicted_against_true([1, 2], [1, 2, 3])
    with pytest.raises(ValueError, match="roc_curve: y must contain both 0 and 1"):
        plot.roc_curve([1, 1], [0.1, 0.2])
    with pytest.raises(ValueError, match="calibration: y must be 0 or 1; for class k"):
        plot.calibration([1, 2], [0.1, 0.2])
    with pytest.raises(ValueError, match="y has length 2, probabilities 3 and sample_weight 2"):
        plot.roc_curve([0, 1], [0.1, 0.2, 0.3])
    with pytest.raises(ValueError, match="importance: names has length 1 and values 2"):
        plot.importance(["a"], [1.0, 2.0])


# ---- methods that call functions of plot.py ----


def test_a_range_test_plots_itself():
    X = np.linspace(-1, 1, 64).reshape(-1, 1)  # noqa: N806
    result = bp.lr_find(bp.Trainer(bp.mlp([1, 8, 1], seed=0), loss="mse"), X, X**2)
    given = Figure().subplots()
    assert result.plot(given) is given
    assert [line.get_label() for line in result.plot().lines] == [line.get_label() for line in plot.lr_find(result).lines]


def test_a_sweep_plots_its_scores_or_its_curves():
    result = swept([1e-1, 1e-3, 1e-2], (np.nan, 0.5, 0.1))
    scores, best, failed = result.plot().lines
    np.testing.assert_array_equal(scores.get_xydata(), [[1e-3, 0.5], [1e-2, 0.1], [1e-1, np.nan]])
    assert best.get_xydata().tolist() == [[1e-2, 0.1]] and best.get_label() == "the best: 0.01"
    assert failed.get_xydata().tolist() == [[1e-1, 0.3]]
    curves = result.plot(curves=True).lines
    assert [line.get_label() for line in curves] == ["lr = 0.1", "lr = 0.001", "lr = 0.01"]
    assert [line.get_ydata().tolist() for line in curves] == [[], [1.0, 0.5], [1.0, 0.1]]


@pytest.mark.parametrize("curves", [False, True])
def test_a_sweep_leaves_no_room_for_what_diverged(curves):
    axes = swept([1e-3, 1e-2, 1e-1, 1.0], (0.5, 0.2, 0.3, 1e30)).plot(curves=curves)
    low, high = axes.get_ylim()
    assert low < 0.2 and high < 100


@pytest.mark.parametrize(
    ("values", "scale", "labels"),
    [
        ([1, 2, 3], "linear", None),
        ([0, 1e-4, 1], "linear", None),
        ([1e-4, 1e-2, 1], "log", None),
        (["relu", "$x$ tanh", "sin"], "linear", ["relu", "$x$ tanh", "sin"]),
        ([True, False, None], "linear", ["True", "False", "None"]),
        ([(8,), (8, 8), (64, 64)], "linear", ["(8,)", "(8, 8)", "(64, 64)"]),
    ],
)
def test_the_axis_of_a_sweep_suits_its_values(values, scale, labels):
    axes = plot.sweep(swept(values, rises=True))
    assert axes.get_xscale() == scale and axes.lines[1].get_label() == f"the best: {values[0]}"
    axes.figure.draw_without_rendering()
    assert labels is None or [label.get_text() for label in axes.get_xticklabels()] == labels
    assert not any(label.get_parse_math() for label in axes.get_xticklabels()) or labels is None


def test_methods_import_plot_on_call():
    assert str(inspect.signature(bp.RangeTest.plot)) == "(self, ax: 'Axes | None' = None) -> 'Axes'"
    assert "matplotlib" in inspect.getdoc(bp.RangeTest.plot)
    script = "import sys, microbp; microbp.RangeTest.plot; print('microbp.plot' in sys.modules, 'matplotlib' in sys.modules)"
    out = subprocess.run([sys.executable, "-P", "-c", script], capture_output=True, text=True, check=True, timeout=60).stdout
    assert out == "False False\n"


@pytest.mark.parametrize(
    "function",
    [*(getattr(plot, name) for name in plot.__all__ if name not in ("FORMATS", "save_report")), bp.RangeTest.plot, bp.Sweep.plot],
)
def test_examples_run(function):
    (test,) = doctest.DocTestFinder(recurse=False).find(function, function.__name__, globs={"bp": bp, "np": np})
    assert test.examples
    assert doctest.DocTestRunner().run(test).failed == 0
