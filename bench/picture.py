"""Draws the results of bench/compare.py: a row per net, a mark per contender, times on a logarithmic axis."""

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
TITLES = {"step": "One training step, called from Python", "epoch": "A step inside a whole epoch"}


def draw(found: report.Report, path: Path) -> None:
    """Saves the picture; the file's extension chooses the format."""
    kinds = [kind for kind in TITLES if any(row.kind == kind for row in found.rows)]
    nets = list(dict.fromkeys(row.net for row in found.rows))
    figure = Figure(figsize=(1.4 + 4.4 * len(kinds), 1.5 + 0.5 * len(nets)), layout="constrained")
    panels = figure.subplots(1, len(kinds), sharey=True, squeeze=False)[0]
    for axes, kind in zip(panels, kinds, strict=True):
        _panel(axes, {row.net: row for row in found.rows if row.kind == kind}, nets)
        axes.set_title(TITLES[kind], loc="left", fontsize=11)
        axes.set_title(report.RATIO.replace("/ ", "/\n"), loc="right", fontsize=8)
    panels[0].set_yticks(range(len(nets)), [f"{NETS[net]}\nbatch {NETS[net].batch}" for net in nets], fontsize=8)
    panels[0].set_ylim(len(nets) - 0.5, -0.6)  # the first net on top
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
            x, y = zip(*points, strict=True)
            size, mark = (110, "D") if name == OURS else (34, "o")
            axes.scatter(x, y, s=size, color=COLOURS[name], marker=mark, label=name, zorder=3, edgecolors="white", linewidths=0.6)
    for at, net in enumerate(nets):
        if net in rows:
            _label(axes, rows[net], at)
    axes.set_xscale("log")
    axes.margins(x=0.08)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _time(value, "g")))
    axes.grid(axis="x", color="#e4e4e4", linewidth=0.8)
    axes.tick_params(axis="x", labelsize=8)
    axes.tick_params(axis="y", length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)


def _label(axes: Axes, row: report.Row, y: int) -> None:
    """Draws a line from the fastest to the slowest, microbp's time above its mark, and the ratio on the right."""
    seconds = [row.median(name) for name in row.times if name != OURS_IN_C]
    axes.plot([report.MICRO * min(seconds), report.MICRO * max(seconds)], [y, y], color="#cccccc", linewidth=1, zorder=1)
    ours = report.MICRO * row.median(OURS)
    axes.annotate(_time(ours), (ours, y), (0, 7), "data", "offset points", ha="center", va="bottom", fontsize=8, color=COLOURS[OURS])
    if row.fastest():
        axes.text(1, y, _times(row.ratio()[1]), transform=axes.get_yaxis_transform(), ha="left", va="center", fontsize=9)


def _times(ratio: float) -> str:
    return f"{ratio:.{0 if ratio >= 9.95 else 1 if ratio >= 0.995 else 2}f}\N{MULTIPLICATION SIGN}"


def _time(microseconds: float, form: str = "#.3g") -> str:
    """A time with a suitable unit."""
    for unit, size in (("s", 1e6), ("ms", 1e3)):
        if microseconds >= size:
            return f"{microseconds / size:{form}} {unit}".replace(". ", " ")
    return f"{microseconds:{form}} µs".replace(". ", " ")
