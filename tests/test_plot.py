"""Pictures: drawn on the axes given, returned, never shown, and holding what they were given."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("matplotlib")

from matplotlib.figure import Figure

from microbp import plot

HISTORY = {"loss": [1.0, 0.5, 0.2], "val_loss": [1.1, 0.4, 0.6], "accuracy": [0.5, 0.9, 0.8]}
DRAWINGS = {
    "curves": lambda ax: plot.learning_curves(HISTORY, ax=ax),
    "accuracy": lambda ax: plot.learning_curves(HISTORY, "accuracy", ax),
    "no validation": lambda ax: plot.learning_curves({"loss": [-1.0]}, ax=ax),
    "confusion": lambda ax: plot.confusion_matrix([[5, 1], [0, 7]], ["a", "b"], ax),
    "large confusion": lambda ax: plot.confusion_matrix(np.eye(40), [f"class {i}" for i in range(40)], ax),
    "numbers": lambda ax: plot.predicted_against_true([1.0, 2.0], [[1.5], [2.5]], ax),
}


@pytest.mark.parametrize("draw", DRAWINGS.values(), ids=list(DRAWINGS))
def test_axes_are_those_given_or_new_ones(draw):
    given = Figure().subplots()
    assert draw(given) is given
    assert draw(None) is not given
    assert given.get_xlabel() and given.get_ylabel()
    given.figure.canvas.draw()


def test_curves_hold_the_history_and_its_best_epoch():
    training, validation, best = plot.learning_curves(HISTORY).lines
    assert training.get_ydata().tolist() == HISTORY["loss"]
    assert validation.get_ydata().tolist() == HISTORY["val_loss"]
    assert best.get_xydata().tolist() == [[2, 0.4]]


def test_a_confusion_matrix_counts_and_colours_by_shares():
    axes = plot.confusion_matrix([[3, 1], [0, 0]], ["a", "b"])
    assert [(text.get_position(), text.get_text()) for text in axes.texts] == [((0, 0), "3"), ((1, 0), "1")]
    np.testing.assert_array_equal(axes.images[0].get_array(), [[0.75, 0.25], [0, 0]])


def test_points_and_the_line_of_right_predictions():
    points, line = plot.predicted_against_true([1.0, 3.0], [2.0, 5.0]).lines
    assert points.get_xydata().tolist() == [[1, 2], [3, 5]]
    assert line.get_xydata().tolist() == [[1, 1], [5, 5]]


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"\(2, 3\); 2 classes"):
        plot.confusion_matrix(np.ones((2, 3)), ["a", "b"])
    with pytest.raises(ValueError, match="2 true and 3 predicted"):
        plot.predicted_against_true([1, 2], [1, 2, 3])
