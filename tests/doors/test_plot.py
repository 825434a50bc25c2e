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
from plot_cases import DRAWINGS, HISTORY, RNG, check_drawn, covered

import microbp as bp
from microbp import plot


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


def test_letters_that_the_default_font_does_not_have_come_from_another_font():
    usual, other = (font_manager.get_font(font_manager.findfont(name)).get_charmap().keys() for name in ("DejaVu Sans", "STIXGeneral"))
    name = chr(max(other - usual))
    with warnings.catch_warnings(action="error"):
        axes = plot.confusion_matrix([[1, 0], [0, 1]], [name, "b"])
        axes.figure.draw_without_rendering()
    assert axes.get_xticklabels()[0].get_text() == name
    assert len(axes.get_xticklabels()[0].get_fontfamily()) > len(font_manager.FontProperties().get_family())


@pytest.mark.parametrize("draw", DRAWINGS.values(), ids=list(DRAWINGS))
def test_axes_are_given_or_new(draw):
    given = Figure().subplots()
    assert draw(given) is given
    assert draw(None) is not given
    assert given.get_xlabel() and (given.get_ylabel() or given.get_yticklabels())
    given.figure.canvas.draw()


@pytest.mark.parametrize("draw", DRAWINGS.values(), ids=list(DRAWINGS))
def test_a_figure_shows_all_texts_and_its_legend_covers_no_line(draw):
    before = dict(rcParams)
    with warnings.catch_warnings(action="error"):
        axes = draw(None)
    check_drawn(axes.figure)
    assert axes.get_legend() is None or covered(axes) == 0
    assert dict(rcParams) == before, "the settings of matplotlib have changed"


@pytest.mark.parametrize("draw", DRAWINGS.values(), ids=list(DRAWINGS))
def test_a_function_draws_beside_others(draw):
    """On the figure of another program: its other axes do not change."""
    figure = Figure(figsize=(12, 5), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot([0, 1], [2, 3])
    before = left.get_xlim(), left.get_ylim()
    draw(right)
    figure.draw_without_rendering()
    assert (left.get_xlim(), left.get_ylim()) == before and len(left.lines) == 1


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


def test_invalid_arguments_are_refused():
    with pytest.raises(TypeError, match=r"learning_curves: history must be a dict such as t\.history, not Trainer"):
        bp.plot.learning_curves(bp.Trainer(bp.mlp([1, 1]), "mse"))
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


def test_a_range_test_plots_itself():
    X = np.linspace(-1, 1, 64).reshape(-1, 1)  # noqa: N806
    result = bp.lr_find(bp.Trainer(bp.mlp([1, 8, 1], seed=0), loss="mse"), X, X**2)
    given = Figure().subplots()
    assert result.plot(given) is given
    assert [line.get_label() for line in result.plot().lines] == [line.get_label() for line in plot.lr_find(result).lines]


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
