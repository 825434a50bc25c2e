"""The results of bench/compare.py: medians, ratios and shares of the limit, as text and as JSON."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import numpy as np
from contenders import OURS, OURS_IN_C
from contenders.work import KINDS, NETS
from kernels.peaks import Peaks

MICRO = 1e6  # microseconds in a second
RATIO = "fastest peer's time / microbp's time"


class Failure(NamedTuple):
    """A contender that failed on a net, and why."""

    net: str
    name: str
    reason: str


class Row(NamedTuple):
    """A net and a kind of work: the seconds per unit of each contender in each round, and the least time that the machine allows."""

    net: str
    kind: str
    times: dict[str, list[float]]
    limit: float
    peaks: Peaks

    def median(self, name: str) -> float:
        """The median seconds of a contender."""
        return float(np.median(self.times[name]))

    def fastest(self) -> str | None:
        """The peer with the lowest median; None without peers."""
        peers = [name for name in self.times if name not in (OURS, OURS_IN_C)]
        return min(peers, key=self.median, default=None)

    def ratio(self) -> tuple[float, float, float]:
        """The fastest peer's time / microbp's time, round by round: the 2.5th percentile, the median, the 97.5th percentile."""
        fastest = self.fastest()
        assert fastest is not None
        rounds = [theirs / ours for theirs, ours in zip(self.times[fastest], self.times[OURS])]
        low, middle, high = np.percentile(rounds, [2.5, 50, 97.5])
        return float(low), float(middle), float(high)

    def share(self) -> float:
        """The limit as a fraction of microbp's time."""
        return self.limit / self.median(OURS)


class Report(NamedTuple):
    """A whole run."""

    machine: str
    command: str
    threads: int
    rounds: int
    rows: list[Row]
    failures: list[Failure]
    missing: dict[str, list[str]]  # peer -> packages to install


def text(found: Report, order: list[str]) -> str:
    """The tables, one per kind of work, and the contenders that are missing or failed."""
    names = [name for name in order if any(name in row.times for row in found.rows)]
    threads = "1 thread" if found.threads == 1 else f"{found.threads} threads"
    parts = [f"{found.machine}\n{found.command}\n{threads}, {found.rounds} rounds; medians in microseconds; ratio: {RATIO}"]
    parts += [_table(kind, [row for row in found.rows if row.kind == kind], names) for kind in KINDS]
    parts.append(_limits(found.rows))
    parts.append("\n".join(f"{name} on {net}: {reason}" for net, name, reason in found.failures))
    parts.append("\n".join(f"{name} is missing: python -m pip install {' '.join(packages)}" for name, packages in found.missing.items()))
    return "\n\n".join(part for part in parts if part)


def _table(kind: str, rows: list[Row], names: list[str]) -> str:
    if not rows:
        return ""
    head = f"{kind}: {KINDS[kind]}"
    lines = [
        f"{'net':8}{'':>28}{'batch':>6}"
        + "".join(f"{name:>14}" for name in names)
        + f"{'ratio':>8} {'(95 %)':17}{'fastest':>14}{'limit':>7}"
    ]
    for row in rows:
        net = NETS[row.net]
        times = "".join(f"{figures(MICRO * row.median(name)) if name in row.times else '-':>14}" for name in names)
        low, middle, high = row.ratio() if row.fastest() else (np.nan,) * 3
        ratio = (
            f"{figures(middle):>8} {f'({figures(low)} to {figures(high)})':17}{row.fastest() or '-':>14}" if row.fastest() else f"{'':40}"
        )
        lines.append(f"{row.net:8}{net!s:>28}{net.rows(kind):>6}{times}{ratio}{row.share():>7.0%}")
    return "\n".join([head, *lines])


def _limits(rows: list[Row]) -> str:
    peaks = {row.net: row.peaks for row in rows}
    lines = [f"{net:8}{limit.flops / 1e9:>10.0f}{limit.bytes / 1e9:>10.0f}" for net, limit in peaks.items()]
    return "\n".join([f"{'limits':8}{'GFLOP/s':>10}{'GB/s':>10}", *lines])


def figures(value: float) -> str:
    """Three significant digits without an exponent."""
    if not np.isfinite(value):
        return "-"
    digits = max(0, 2 - int(np.floor(np.log10(value)))) if value > 0 else 2
    return f"{value:.{digits}f}" if digits else f"{value:,.0f}"


def as_json(found: Report) -> str:
    """Everything, including each round; times in seconds."""
    rows = [_row_as_json(row) for row in found.rows]
    return json.dumps(found._asdict() | {"rows": rows, "failures": [failure._asdict() for failure in found.failures]}, indent=1) + "\n"


def from_json(text: str) -> Report:
    """The run that `as_json` wrote."""
    found = json.loads(text)
    rows = [
        Row(
            row["net"],
            row["work"],
            {name: contender["rounds"] for name, contender in row["contenders"].items()},
            row["limit"]["seconds"],
            Peaks(row["limit"]["flops_per_second"], row["limit"]["bytes_per_second"]),
        )
        for row in found["rows"]
    ]
    return Report(**found | {"rows": rows, "failures": [Failure(**failure) for failure in found["failures"]]})


TITLES = {"step": "a step from Python", "epoch": "a step in an epoch", "predict_1": "one row predicted"}  # of the Markdown table


def markdown(found: Report) -> str:
    """The table for RESULTS.md: for each net and kind of work microbp's time, the ratio, and the share of the limit."""
    kinds = [kind for kind in TITLES if any(row.kind == kind for row in found.rows)]
    heads = [f"{TITLES[kind]} | {RATIO} | limit" for kind in kinds]
    lines = [f"| net, rows per step | {' | '.join(heads)} |", "|---" * (1 + 3 * len(kinds)) + "|"]
    for net in dict.fromkeys(row.net for row in found.rows):
        cells = {row.kind: _cells(row) for row in found.rows if row.net == net}
        lines.append(" | ".join([f"| {NETS[net]}, {NETS[net].batch}", *(cells.get(kind, "- | - | -") for kind in kinds)]) + " |")
    return "\n".join([found.machine, f"`{found.command}`", "", *lines, ""])


def _cells(row: Row) -> str:
    ratio = "-"
    if fastest := row.fastest():
        low, middle, high = map(figures, row.ratio())
        ratio = f"{fastest}: {middle} ({low} to {high})"
    return f"{duration(row.median(OURS))} | {ratio} | {row.share():.0%}"


def duration(seconds: float) -> str:
    """Three significant digits with a suitable unit."""
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{figures(seconds / size)} {unit}"
    return f"{figures(MICRO * seconds)} µs"


def _row_as_json(row: Row) -> dict[str, Any]:
    contenders = {name: {"median": row.median(name), "rounds": times} for name, times in row.times.items()}
    versus = {"fastest": row.fastest(), "ratio": row.ratio()} if row.fastest() else {}
    limit = {"seconds": row.limit, "share": row.share(), "flops_per_second": row.peaks.flops, "bytes_per_second": row.peaks.bytes}
    return {"net": row.net, "work": row.kind, "contenders": contenders, **versus, "limit": limit}
