"""Axes and their legends."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ..data.arrays import Array
from .texts import as_written

DPI = 200
_ROOM = 14  # the distance between a legend and the lines in points


def axes_of(ax: Axes | None) -> Axes:
    """The given axes, or those of a new figure, which opens no window."""
    return Figure(figsize=(7, 4.4), dpi=DPI, layout="constrained").subplots() if ax is None else ax


def style(axes: Axes, what: str, edge: str) -> None:
    axes.set_ylabel(what, fontsize=12, **as_written(what))
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    if axes.get_legend_handles_labels()[1]:
        _legend(axes, edge)


def _legend(axes: Any, edge: str) -> None:
    """Adds a legend in a corner where it covers no line. If there is no such corner, extends the y axis at `edge` to make room. A
    legend higher than half of the axes is placed to the right of the axes.
    """
    look: Any = {"fontsize": 10, "labelspacing": 0.3, "edgecolor": "none", "framealpha": 1}
    axes.apply_aspect()
    size = np.array(axes.legend(**look).get_window_extent().size) + _ROOM * axes.figure.dpi / 72
    width, height = size / axes.bbox.size  # as fractions of the axes
    if height > 0.5:
        axes.legend(loc="upper left", bbox_to_anchor=(1, 1), **look)
        return
    drawn = np.concatenate([_drawn(line, axes) for line in axes.lines])
    x, y = {"right": 1 - drawn[:, 0], "left": drawn[:, 0]}, {"upper": 1 - drawn[:, 1], "lower": drawn[:, 1]}
    corners = [(at, side) for at in sorted(y, key=edge.__ne__) for side in x]
    room = {(at, side): y[at][x[side] < width].min(initial=height) for at, side in corners}
    at, side = next((corner for corner in corners if room[corner] >= height), max(corners[:2], key=lambda corner: room[corner]))
    scale = axes.yaxis.get_transform()
    low, high = scale.transform(np.array(axes.get_ylim()))
    grown = (high - low) * (height - room[at, side]) / (1 - height)
    ends = scale.inverted().transform(np.array([low - grown * (at == "lower"), high + grown * (at == "upper")]))
    axes.set_ylim(*ends)
    axes.legend(loc=f"{at} {side}", **look)


def _drawn(line: Line2D, axes: Axes) -> Array:
    """Points along a line, shape (points, 2), as fractions of the axes."""
    path = (line.get_transform() - axes.transAxes).transform_path(line.get_path())
    return np.asarray((path if line.get_linestyle() == "None" else path.interpolated(16)).vertices)
