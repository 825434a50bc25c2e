"""Paths of optimizers over the contours of a function of two numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..core.checks import whole_number
from ..core.text import brief, counted
from ..drawing.axes import axes_of, line_look, style
from ..network.layers import Dense
from ..network.network import Network
from ..network.nodes import Input
from ..training.trainer import Trainer

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from ..data.arrays import Array

_GRID, _LEVELS = 120, 16


def path_of(function: Callable[[Array], tuple[Any, Any]], start: Any, optimizer: Any, steps: int = 100) -> Array:
    """The points that an optimizer visits on a function, shape (steps + 1, n), for `bp.plot.paths`.

    function: gets x, a float64 array (n,), and returns the value and the gradient (n,), as for `bp.minimize`. start: (n,). optimizer:
    as of `bp.Trainer`, but not bp.LevenbergMarquardt. steps: of the optimizer; the path ends earlier where the numbers are not finite.
    The x are the weights of a `bp.Trainer` with the function as its loss. ValueError, TypeError: the function returns something else, or
    an argument is invalid; errors of `function` pass through.

    >>> bp.plot.path_of(lambda x: (x @ x, 2 * x), [1.0, -1.0], bp.SGD(lr=0.25), steps=2).tolist()
    [[1.0, -1.0], [0.5, -0.5], [0.25, -0.25]]
    """
    first = np.array(start, np.float64)
    if first.ndim != 1 or not first.size or not np.isfinite(first).all():
        raise ValueError(f"path_of: start must be finite numbers of shape (n,), not {brief(start)}")
    whole_number(steps, "path_of: steps", bits=31)
    nodes = Input(len(first))
    net, rows = Network(nodes, Dense(1, bias=False)(nodes), dtype="float64", seed=0), np.eye(len(first))

    def loss(outputs: Array, targets: Any, weight: Any) -> tuple[float, Array]:
        found = function(outputs[:, 0].copy())  # of the rows of the identity, the outputs are the weights
        if not (isinstance(found, tuple) and len(found) == 2 and np.ndim(found[0]) == 0 and np.shape(found[1]) == first.shape):
            raise ValueError(f"path_of: function must return its value and its gradient of shape {first.shape}, not {brief(found)}")
        return float(found[0]), np.asarray(found[1], np.float64).reshape(outputs.shape)

    trainer, points = Trainer(net, loss=loss, optimizer=optimizer), [first]
    net.params[...] = first
    for _ in range(steps):
        try:
            trainer.step(rows)
        except FloatingPointError:
            break
        points.append(net.params.copy())
    return np.array(points)


def paths(
    function: Callable[[Array], Any],
    points: Mapping[str, Any],
    ax: Axes | None = None,
    *,
    limits: Sequence[Sequence[float]] | None = None,
) -> Axes:
    """Plots the paths of optimizers over the contours of a function of two numbers.

    function: gets x, a float64 array (2,), and returns the value, or a tuple with the value first, as for `bp.minimize`. points: a path
    for each name, shape (points, 2), such as from `bp.plot.path_of`. ax: the axes to draw on; if None, those of a new figure. limits:
    ((low, high), (low, high)) of the two numbers; by default all finite points are inside. Returns the axes.

    The contours are darker where the function is lower. A square marks a start, a ring an end; the legend has the number of steps and the
    value at the end. ValueError: points is empty, or a path has another shape.

    >>> def bowl(x):
    ...     return x[0] ** 2 + 10 * x[1] ** 2, np.array([2 * x[0], 20 * x[1]])
    >>> walked = {name: bp.plot.path_of(bowl, [-4, 1], name, steps=30) for name in ("sgd(lr=0.09)", "adam(lr=0.3)")}
    >>> axes = bp.plot.paths(bowl, walked)
    >>> axes.lines[0].get_xydata()[0].tolist()
    [-4.0, 1.0]
    """
    found = {str(name): np.asarray(path, np.float64) for name, path in points.items()}
    for name, path in found.items():
        if path.ndim != 2 or path.shape[1] != 2 or not np.isfinite(path[:1]).all() or not len(path):
            raise ValueError(f"paths: the path of {name!r} must have the shape (points, 2) and a finite start; its shape is {path.shape}")
    if not found:
        raise ValueError("paths: points is empty")
    if limits is not None and np.shape(limits) != (2, 2):
        raise ValueError(f"paths: limits must be ((low, high), (low, high)), not {brief(limits)}")
    axes = axes_of(ax)
    for i, (name, path) in enumerate(found.items()):
        path = path[np.isfinite(path).all(axis=1)]
        label = f"{name}: {counted(len(path) - 1, 'step')} to {_value(function, path[-1]):.2g}"
        axes.plot(*path.T, **line_look(i, len(path)) | {"zorder": 3}, label=label)
        axes.plot(*path[-1], "o", markersize=11, markerfacecolor="none", markeredgecolor=line_look(i)["color"], markeredgewidth=2, zorder=4)
    for path in found.values():
        axes.plot(*path[0], "s", color=axes.xaxis.label.get_color(), markersize=7, zorder=5)
    if limits is not None:
        axes.set_xlim(*limits[0])
        axes.set_ylim(*limits[1])
    axes.set_xlabel("first number", fontsize=12)
    style(axes, "second number", "upper")
    _contours(function, axes)
    return axes


def _value(function: Callable[[Array], Any], x: Array) -> float:
    found = function(x.copy())
    return float(found[0] if isinstance(found, tuple) else found)


def _contours(function: Callable[[Array], Any], axes: Axes) -> None:
    """Draws contours in the limits of the axes, dark and dense where the function is low."""
    xs, ys = (np.linspace(*limits, _GRID) for limits in (axes.get_xlim(), axes.get_ylim()))
    values = np.array([[_value(function, np.array([x, y])) for x in xs] for y in ys])
    known = values[np.isfinite(values)]
    if not known.size:  # where a path diverges, the function may overflow everywhere
        return
    levels = np.unique(np.quantile(known, np.linspace(0, 1, _LEVELS) ** 2))
    greys = [str(grey) for grey in np.linspace(0.45, 0.85, len(levels))]
    axes.contour(xs, ys, values, levels, colors=greys, linewidths=0.8, zorder=1)
    axes.grid(False)
