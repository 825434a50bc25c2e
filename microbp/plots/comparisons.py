"""Several ways of training beside each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from ..core.checks import flag
from ..core.specs import unknown
from ..core.text import brief
from ..drawing.axes import axes_of, epochs, line_look, style
from ..drawing.texts import short
from ..many.search import Sweep
from .curves import a_loss, scaled

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from ..data.arrays import Array

_History: TypeAlias = "Mapping[str, Sequence[float]]"
_FAR = 30  # a loss above 30 times the median is of a training that diverged; drawn, it would leave no room for the others


def highest(losses: Array) -> float:
    """The highest loss to draw."""
    known = losses[~np.isnan(losses)]
    return _FAR * float(np.median(known)) if len(known) and np.median(known) > 0 else np.inf


# ---- curves ----


def compare(
    runs: Mapping[str, Sweep | _History | Sequence[Sweep | _History]],
    name: str | None = None,
    ax: Axes | None = None,
    *,
    seconds: bool = False,
) -> Axes:
    """Plots an entry of the histories of several trainings in one picture, such as of optimizers, each with its best learning rate.

    runs: by the names for the legend: a history such as `t.history`, or a result of `bp.sweep`, of which the best value is drawn; or a list
    of them, one for each seed: then all are thin lines, with a thick one through their medians. Of sweeps in a list, the value with the
    best median score is drawn. name: the entry; None: "val_loss" if all histories have it, else "loss". ax: the axes to draw on; if None,
    those of a new figure. seconds: against the time of training instead of the epochs. Returns the axes.

    The legend has the value of a sweep, or the highest learning rate of a history. Losses that are more than 30 times the median, of
    trainings that diverge, are left out. ValueError: runs is empty, or a history has no entry `name`.

    >>> runs = {"sgd": {"loss": [1.0, 0.5, 0.4], "lr": [0.1] * 3}, "adam": {"loss": [1.0, 0.3, 0.2], "lr": [0.01] * 3}}
    >>> axes = bp.plot.compare(runs)
    >>> [text.get_text() for text in axes.get_legend().get_texts()]
    ['sgd: lr = 0.1', 'adam: lr = 0.01']
    """
    chosen = {label: _chosen(label, several) for label, several in lists("compare", runs).items()}
    histories = [history for _, several in chosen.values() for history in several]
    if name is None:
        name = "val_loss" if all(_has(history, "val_loss") for history in histories) else "loss"
    for history in histories:
        for entry in (name, *["seconds"] * flag("compare: seconds", seconds)):
            if not _has(history, entry):
                empty = ValueError(f"compare: {entry!r} of a history is empty; call fit first")
                raise empty if entry in history else unknown("entry of the history", entry, history)
    axes = axes_of(ax)
    values = np.concatenate([np.asarray(history[name], np.float64) for history in histories])
    most = highest(values) if a_loss(name) else np.inf
    for i, (label, (value, several)) in enumerate(chosen.items()):
        ys = [np.where(np.asarray(history[name]) > most, np.nan, history[name]) for history in several]
        xs = [np.cumsum(history["seconds"]) if seconds else np.arange(1, len(y) + 1) for history, y in zip(several, ys, strict=True)]
        draw(axes, xs, ys, line_look(i, max(map(len, ys))), short(f"{label}: {value}" if value else label, 40))
    edge = scaled(axes, name, values)
    if seconds:
        axes.set_xlabel("seconds of training", fontsize=12)
    else:
        epochs(axes)
    style(axes, name, edge)
    return axes


def lists(what: str, runs: Any) -> dict[str, list[Any]]:
    """A list for each name, which is not empty."""
    if not isinstance(runs, Mapping):
        raise TypeError(f"{what}: pass a dict by the names for the legend, such as {{'adam': history}}, not {brief(runs)}")
    lists = {str(label): list(run) if isinstance(run, list | tuple) else [run] for label, run in runs.items()}
    if not all(lists.values()) or not lists:
        raise ValueError(f"{what}: {'a list of runs' if lists else 'the dict of runs'} is empty")
    return lists


def _has(history: _History, entry: str) -> bool:
    return len(history.get(entry, ())) > 0


def _chosen(label: str, runs: list[Any]) -> tuple[str, list[_History]]:
    """The value that the legend names, and the histories to draw."""
    if all(isinstance(run, Sweep) for run in runs):
        first, best = runs[0], best_of(label, runs)
        return f"{first.name} = {written(first.values[best])}", [run.histories[best] for run in runs]
    if not all(isinstance(run, Mapping) for run in runs):
        raise TypeError(f"compare: the runs of {label!r} must be histories such as t.history, or results of bp.sweep")
    rates = {float(np.max(run["lr"])) for run in runs if _has(run, "lr")}
    return f"lr = {rates.pop():g}" if len(rates) == 1 else "", runs


def draw(axes: Axes, xs: list[Array], ys: list[Array], line: dict[str, Any], label: str) -> None:
    """A curve; of several, thin ones and a thick one through their medians, as far as all of them go."""
    if len(ys) > 1:
        for x, y in zip(xs, ys, strict=True):
            axes.plot(x, y, color=line["color"], linewidth=0.7, alpha=0.3)
    length = min(map(len, ys))
    x, y = (np.median([one[:length] for one in several], axis=0) for several in (xs, ys))
    axes.plot(x, y, **line, label=label)


# ---- scores of sweeps ----


def best_of(label: str, sweeps: Sequence[Sweep]) -> int:
    """The number of the value with the best median score, of those that no training failed with."""
    scores = np.median(scores_of(label, sweeps), axis=0)
    if np.isnan(scores).all():
        raise ValueError(f"a training of {label!r} failed with each value; add values, such as lower learning rates")
    return int(np.nanargmax(scores) if sweeps[0].rises else np.nanargmin(scores))


def scores_of(label: str, sweeps: Sequence[Sweep]) -> Array:
    """Shape (sweeps, values)."""
    first = sweeps[0]
    if any((one.name, one.monitor, one.values) != (first.name, first.monitor, first.values) for one in sweeps):
        raise ValueError(f"the sweeps of {label!r} must have the same setting, monitor and values")
    return np.array([one.scores for one in sweeps], np.float64)


def written(value: Any) -> str:
    """A value of a setting for the legend."""
    return f"{value:g}" if isinstance(value, float) else short(str(value), 30)
