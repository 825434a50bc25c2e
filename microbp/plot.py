"""Plots of training and of predictions: curves, comparisons, layers, paths, searches. They need matplotlib.

Each function draws on the given axes, or on a new figure. It opens no window and does not set a matplotlib backend. It returns the axes,
which can be changed further; `axes.figure.savefig("plot.png")` saves the plot.
"""

from .plots.classes import calibration, confusion_matrix, roc_curve
from .plots.comparisons import compare
from .plots.curves import learning_curves
from .plots.layers import histograms, layers
from .plots.numbers import importance, predicted_against_true
from .plots.paths import path_of, paths
from .plots.report import FORMATS, save_report
from .plots.searches import lr_find, sweep

__all__ = [
    "FORMATS", "calibration", "compare", "confusion_matrix", "histograms", "importance", "layers", "learning_curves", "lr_find", "path_of",
    "paths", "predicted_against_true", "roc_curve", "save_report", "sweep",
]  # fmt: skip
