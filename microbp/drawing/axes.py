"""Axes and their legends."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator, StrMethodFormatter

from ..data.arrays import Array
from .texts import as_written

DPI = 200
BLUE, ORANGE, GREY = "#1f5fa8", "#d9730d", "#555555"  # distinct for colour-blind readers and in greyscale
DARK = "#222222"  # text on blue up to 0.65 of the colour map; on darker blue, white is easier to read
_COLOURS = (BLUE, ORANGE, GREY, "#2e8b57", "#8e44ad", "#c2185b", "#8c6d1f", "#1398a8")
_MARKERS = "os^DvPX*"
_LONG = 5  # entries of a legend
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


def line_look(i: int, points: int = 0) -> dict[str, Any]:
    """The line of the i-th of several curves: its colour, and a marker at about eight of its points, for readers without colours."""
    dash, kind = divmod(i, len(_COLOURS))
    every = max(1, points // 8)
    marks = {"marker": _MARKERS[kind], "markersize": 6, "markevery": (min(i, points) % every, every)}
    return {"color": _COLOURS[kind], "linestyle": ("-", "--", ":", "-.")[dash % 4], "linewidth": 1.5, **marks}


def logarithmic(axes: Axes) -> None:
    """Makes the y axis logarithmic, with labels such as 0.01 instead of powers of 10."""
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    few = LogLocator(subs=(1, 1.5, 2, 3, 5, 7) if high < 10 * low else (1, 2, 5) if high < 300 * low else (1,))
    axes.yaxis.set_major_locator(few if high > 3 * low else MaxNLocator(6, steps=[1, 2, 5, 10]))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))


def epochs(axes: Axes) -> None:
    """Makes the x axis one of epochs: whole numbers."""
    axes.set_xlabel("epoch", fontsize=12)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))


def _legend(axes: Any, edge: str) -> None:
    """Adds a legend in a corner where it covers no line. If there is no such corner, extends the y axis at `edge` to make room. A
    legend that is higher than half of the axes, or long and without such a corner, is placed to the right of the axes.
    """
    look: Any = {"fontsize": 10, "labelspacing": 0.3, "edgecolor": "none", "framealpha": 1}
    axes.apply_aspect()
    size = np.array(_named(axes, **look).get_window_extent().size) + _ROOM * axes.figure.dpi / 72
    width, height = size / axes.bbox.size  # as fractions of the axes
    here = [one for one in axes.figure.axes if one.get_position(True).bounds == axes.get_position(True).bounds]  # with a second y axis
    limits = [one.get_ylim() for one in here]  # this computes the limits of new lines
    drawn = np.concatenate([_drawn(line, axes) for one in here for line in one.lines])
    x, y = {"right": 1 - drawn[:, 0], "left": drawn[:, 0]}, {"upper": 1 - drawn[:, 1], "lower": drawn[:, 1]}
    corners = [(at, side) for at in sorted(y, key=edge.__ne__) for side in x]
    room = {(at, side): y[at][x[side] < width].min(initial=height) for at, side in corners}
    if height > 0.5 or (max(room.values()) < height and len(axes.get_legend().get_texts()) > _LONG):
        _named(axes, loc="upper left", bbox_to_anchor=(1, 1), **look)
        return
    at, side = next((corner for corner in corners if room[corner] >= height), max(corners[:2], key=lambda corner: room[corner]))
    for one, ends in zip(here, limits, strict=True):
        scale = one.yaxis.get_transform()
        low, high = scale.transform(np.array(ends))
        grown = (high - low) * (height - room[at, side]) / (1 - height)
        one.set_ylim(*scale.inverted().transform(np.array([low - grown * (at == "lower"), high + grown * (at == "upper")])))
    _named(axes, loc=f"{at} {side}", **look)


def _named(axes: Axes, **look: Any) -> Any:
    """A legend, with the names of users as they are written."""
    legend = axes.legend(**look)
    for text in legend.get_texts():
        text.update(as_written(text.get_text()))
    return legend


def _drawn(line: Line2D, axes: Axes) -> Array:
    """Points along a line, shape (points, 2), as fractions of the axes."""
    path = (line.get_transform() - axes.transAxes).transform_path(line.get_path())
    return np.asarray((path if line.get_linestyle() == "None" else path.interpolated(16)).vertices)
