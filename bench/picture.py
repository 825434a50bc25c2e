"""The picture of what bench/compare.py found: a row per net, a dot per contender, the time on a logarithmic axis."""

from __future__ import annotations

from pathlib import Path

import report
from contenders import ENTRIES, OURS, OURS_IN_C
from contenders.work import NETS
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

COLOURS = {
    OURS: "#c8102e",
    "numpy": "#4d77cf",
    "torch": "#ee8a2e",
    "torch.compile": "#b8651b",
    "jax": "#2a9d8f",
    "scikit-learn": "#8c6bb1",
    "keras": "#7f7f7f",
}
TITLES = {"step": "One training step, called from Python", "epoch": "A step inside a whole epoch", "predict_1": "One row predicted"}


def draw(found: report.Report, path: Path) -> None:
    """Writes the picture; its format is the file's suffix."""
    kinds = [kind for kind in TITLES if any(row.kind == kind for row in found.rows)]
    nets = list(dict.fromkeys(row.net for row in found.rows))
    figure = Figure(figsize=(1.6 + 4.2 * len(kinds), 1.5 + 0.46 * len(nets)), layout="constrained")
    panels = figure.subplots(1, len(kinds), sharey=True, squeeze=False)[0]
    for axes, kind in zip(panels, kinds, strict=True):
        _panel(axes, {row.net: row for row in found.rows if row.kind == kind}, nets)
        axes.set_title(TITLES[kind], fontsize=11)
    panels[0].set_yticks(range(len(nets)), [f"{NETS[net]}\n{NETS[net].batch} rows" for net in nets], fontsize=8)
    panels[0].invert_yaxis()
    handles, labels = _legend(panels)
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False, fontsize=9)
    figure.savefig(path, dpi=150)


def _legend(panels: list[Axes]) -> tuple[list[Artist], list[str]]:
    found = {label: handle for axes in panels for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    names = [name for name in ENTRIES if name in found]
    return [found[name] for name in names], names


def _panel(axes: Axes, rows: dict[str, report.Row], nets: list[str]) -> None:
    for name in COLOURS:
        points = [(report.MICRO * rows[net].median(name), at) for at, net in enumerate(nets) if net in rows and name in rows[net].times]
        if points:
            ours = name == OURS
            x, y = zip(*points, strict=True)
            size, mark, order = (95, "D", 4) if ours else (38, "o", 3)
            axes.scatter(x, y, s=size, color=COLOURS[name], marker=mark, label=name, zorder=order, linewidths=0)
    for at, net in enumerate(nets):
        if net in rows:
            _label(axes, rows[net], at)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _time(value)))
    axes.grid(axis="x", color="#e4e4e4", linewidth=0.8)
    axes.tick_params(axis="x", labelsize=8)
    axes.tick_params(axis="y", length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)


def _label(axes: Axes, row: report.Row, y: int) -> None:
    """A line from microbp to the slowest, and microbp's time; the ratio to the fastest peer above the line's begin."""
    seconds = [row.median(name) for name in row.times if name != OURS_IN_C]
    axes.plot([report.MICRO * min(seconds), report.MICRO * max(seconds)], [y, y], color="#cccccc", linewidth=1, zorder=1)
    ours = report.MICRO * row.median(OURS)
    axes.annotate(f"{_time(ours)} ", (ours, y), (-7, 0), "data", "offset points", ha="right", va="center", fontsize=8, color=COLOURS[OURS])


def _time(microseconds: float) -> str:
    """With the unit that suits it."""
    if microseconds >= 1e6:
        return f"{report.figures(microseconds / 1e6)} s"
    if microseconds >= 1e3:
        return f"{report.figures(microseconds / 1e3)} ms"
    return f"{report.figures(microseconds)} µs"
