"""What happens in the layers during training: norms over the epochs, and histograms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib import colormaps

from ..core.checks import flag
from ..core.specs import unknown
from ..drawing.axes import GREY, axes_of, epochs, logarithmic, style
from ..drawing.texts import as_written, distinct, short

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from ..data.arrays import Array
    from ..training.layers.histograms import Histogram, Histograms

_NORMS = {
    "update/weight": "update / weights",
    "gradient": "norm of the gradient",
    "activation": "RMS of the outputs",
    "weight": "norm of the weights",
    "update": "norm of the update",
}
_USUAL = 1e-3  # update / weight: Karpathy, CS231n, Neural Networks 3
_NAMED, _FEW = 12, 30  # layers in the legend; epochs with marks
_RIDGES, _HIGH = 12, 0.95  # histograms of a layer; their height, of the distance between two


def layers(history: Mapping[str, Sequence[float]], what: str = "update/weight", ax: Axes | None = None) -> Axes:
    """Plots a number of each layer over the epochs, from the first layer (dark) to the last (light), of `t.fit(watch="layers")`.

    history: with entries such as "dense_0.gradient"; NaN where an epoch was not measured. what: "update/weight", the norm of the change by
    one update over that of the weights, about 0.001 where training works; or "gradient", "activation", "weight", "update". ax: the axes
    to draw on; if None, those of a new figure. Returns the axes.

    The legend has the ratio of the first layer to the last in the last epoch: for "gradient", far from 1 if it vanishes or explodes.
    Triangles at the lower edge mark zeros. ValueError: the history has no entries of layers, or `what` is unknown. Source: Glorot & Bengio
    2010, section 4.2; for update/weight Karpathy, CS231n, Neural Networks 3.

    >>> history = {"a.gradient": [1e-4, 2e-4], "b.gradient": [0.1, 0.2]}
    >>> axes = bp.plot.layers(history, "gradient")
    >>> [text.get_text() for text in axes.get_legend().get_texts()]
    ['a', 'b', 'first / last layer: 0.001']
    """
    if what not in _NORMS:
        raise unknown("number of a layer", what, _NORMS)
    curves = _curves(history, what)
    if not curves:
        raise ValueError(f"layers: the history has no {what.partition('/')[0]!r} of layers; call fit with watch='layers'")
    axes, step = axes_of(ax), -(-len(curves) // _NAMED)
    colours = colormaps["viridis"](np.linspace(0, 0.9, len(curves)))
    for i, ((layer, values), colour) in enumerate(zip(curves.items(), colours, strict=True)):
        at = np.flatnonzero(np.isfinite(values) & (values > 0))
        label = short(layer, 30) if i % step == 0 or i == len(curves) - 1 else ""
        axes.plot(at + 1, values[at], color=colour, linewidth=1.5, marker="o" * (len(at) < _FEW), markersize=4, label=label)
    if what == "update/weight":
        axes.axhline(_USUAL, color=GREY, linestyle="dotted", linewidth=1.2, label=f"usual: {_USUAL:g}")
    elif len(curves) > 1:
        _ratio(axes, curves)
    if any(np.size(line.get_ydata()) for line in axes.lines):
        logarithmic(axes)
    _zeros(axes, {layer: np.flatnonzero(values == 0) + 1 for layer, values in curves.items()}, colours)
    epochs(axes)
    style(axes, _NORMS[what], "upper")
    return axes


def _zeros(axes: Axes, zeros: Mapping[str, Array], colours: Array) -> None:
    """Marks the epochs in which a layer has 0, with a name in the legend for all."""
    label = f"0 in {short(', '.join(layer for layer, at in zeros.items() if len(at)), 30)}"
    for at, colour in zip(zeros.values(), colours, strict=True):
        if len(at):
            axes.plot(at, np.full(len(at), 0.02), "v", color=colour, transform=axes.get_xaxis_transform(), label=label)
            label = ""


def _ratio(axes: Axes, curves: Mapping[str, Array]) -> None:
    """Adds the ratio of the first layer to the last, in the last epoch that was measured, to the legend."""
    first, *_, last = curves.values()
    known = np.flatnonzero(np.isfinite(first) & (last > 0))
    if len(known):
        axes.plot([], [], " ", label=f"first / last layer: {first[known[-1]] / last[known[-1]]:.2g}")


def _curves(history: Mapping[str, Sequence[float]], what: str) -> dict[str, Array]:
    """The values of each layer, (epochs,)."""
    over, _, under = what.partition("/")
    found = {}
    for entry in history:
        layer, _, number = entry.rpartition(".")
        if layer and number == over:
            found[layer] = np.asarray(history[entry], np.float64)
            if under:
                with np.errstate(divide="ignore", invalid="ignore"):
                    found[layer] = found[layer] / np.asarray(history[f"{layer}.{under}"])
    return found


def histograms(result: Histograms, layer: str | None = None, ax: Axes | None = None, *, weights: bool = False) -> Axes:
    """Plots how the outputs of the layers were distributed after each epoch, from the first epoch (top, dark) to the last (bottom, light).

    result: a bp.Histograms that has watched `t.fit`. layer: the name of one; None: all, side by side, each in its own range. ax: the axes
    to draw on; if None, those of a new figure. weights: the weights of the layers instead of their outputs. Returns the axes. At most
    twelve epochs are drawn, evenly chosen; all histograms are equally high. ValueError: nothing was counted, or the layer is unknown.
    Source: Glorot & Bengio 2010, figures 2 to 4.

    >>> X = np.random.default_rng(0).normal(size=(200, 2))
    >>> t = bp.Trainer(bp.mlp([2, 8, 1], activation="tanh", seed=0), loss="mse")
    >>> h = bp.Histograms(t.net, X)
    >>> history = t.fit(X, X.prod(axis=1), epochs=5, callback=h)
    >>> axes = bp.plot.histograms(h, "dense_0")
    >>> axes.get_xlabel(), [label.get_text() for label in axes.get_yticklabels()]
    ('output of dense_0', ['1', '2', '3', '4', '5'])
    """
    found = result.weights if flag("histograms: weights", weights) else result.activations
    if layer is not None and layer not in found:
        raise unknown("layer", layer, found)
    if not result.epochs:
        raise ValueError("histograms: nothing was counted; call fit with callback= this bp.Histograms")
    axes, names = axes_of(ax), list(found) if layer is None else [layer]
    rows = np.unique(np.linspace(0, len(result.epochs) - 1, _RIDGES).round().astype(int))
    colours = colormaps["viridis"](np.linspace(0, 0.9, len(rows)))
    drawn = [_filled(found[name]) for name in names]
    for column, (edges, counts) in enumerate(drawn):
        places = edges if len(names) == 1 else column + 0.9 * (edges - edges[0]) / (edges[-1] - edges[0])
        for i, (row, colour) in enumerate(zip(rows, colours, strict=True)):
            height = _HIGH * counts[row] / max(counts[row].max(), 1)
            axes.stairs(height - i, places, baseline=-i, fill=True, facecolor=colour, edgecolor="white", linewidth=0.3, zorder=2)
    axes.set_yticks(-np.arange(len(rows)), [str(result.epochs[row]) for row in rows])
    what = "weights" if weights else "output"
    if len(names) > 1:
        texts = [f"{text}\n{edges[0]:.2g} to {edges[-1]:.2g}" for text, (edges, _) in zip(distinct(names), drawn, strict=True)]
        axes.set_xticks(np.arange(len(names)) + 0.45, texts, fontsize=min(10, 60 / len(names)), **as_written(*names))
    axes.set_xlabel(f"{what} of {short(names[0], 30)}" if len(names) == 1 else f"{what} of each layer", fontsize=12, **as_written(*names))
    style(axes, "epoch", "upper")
    return axes


def _filled(histogram: Histogram) -> tuple[Array, Array]:
    """The edges and counts of a histogram without the bins at its ends that were always empty."""
    filled = np.flatnonzero(histogram.counts.any(axis=0))
    first, last = (filled[0], filled[-1]) if len(filled) else (0, histogram.counts.shape[1] - 1)
    return histogram.edges[first : last + 2], histogram.counts[:, first : last + 1]
