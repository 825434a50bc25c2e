"""The lines of a race, their file, and the report of means, ratios and goals."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import scipy.stats

from .contenders import LINEAR, PEERS, REFERENCE
from .sets import GOALS, Goal

MEASURES = {"error": "Error", "log_loss": "Log loss", "seconds": "CPU seconds"}
SLACK = 1.02  # an error that is higher by more than this factor is worse


class Line(NamedTuple):
    """The result of a training. rows: of the whole table. log_loss: NaN if the target is a number. seconds: CPU seconds."""

    set: str
    contender: str
    split: int
    rows: int
    error: float
    log_loss: float
    seconds: float
    machine: str


def load(path: Path) -> list[Line]:
    """The lines of a CSV file; none if it does not exist."""
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return [
            Line(
                row["set"],
                row["contender"],
                int(row["split"]),
                int(row["rows"]),
                float(row["error"]),
                float(row["log_loss"]),
                float(row["seconds"]),
                row["machine"],
            )
            for row in csv.DictReader(file)
        ]


def save(line: Line, path: Path) -> None:
    """Appends a line to a CSV file."""
    is_new = not path.exists()
    with path.open("a", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([Line._fields, line] if is_new else [line])


def half(values: npt.NDArray[np.float64]) -> float:
    """Half the width of the 95 % interval of a mean."""
    count = len(values)
    return float(scipy.stats.t.ppf(0.975, count - 1) * values.std(ddof=1) / count**0.5) if count > 1 else math.nan


class Ratio(NamedTuple):
    """Of two means, with half its interval, the splits on which the first is lower (a tie counts half), and the number of splits."""

    value: float
    half: float
    wins: float
    splits: int

    def __str__(self) -> str:
        interval = "" if math.isnan(self.half) else f" +- {self.half:.3f}"
        return "" if math.isnan(self.value) else f"{self.value:.3f}{interval}"


def ratio(ours: dict[int, float], theirs: dict[int, float]) -> Ratio:
    """The ratio on the splits that both have; NaN if there are none, or if all of theirs are 0."""
    common = sorted(ours.keys() & theirs.keys())
    a, b = np.array([ours[split] for split in common]), np.array([theirs[split] for split in common])
    wins = float(np.sum(a < b) + np.sum(a == b) / 2)
    if not b.any():
        return Ratio(math.nan, math.nan, wins, len(common))
    value = a.mean() / b.mean()
    return Ratio(float(value), half((a - value * b) / b.mean()), wins, len(common))


class Report:
    """lines: in the order of the sets."""

    def __init__(self, lines: list[Line]) -> None:
        self.lines = lines
        self.rows = {line.set: line.rows for line in lines}
        names = dict.fromkeys(line.contender for line in lines)
        self.ours = [name for name in names if name not in PEERS]
        self.contenders = [*self.ours, *(name for name in PEERS if name in names)]

    def text(self) -> str:
        machines: dict[str, list[str]] = {}
        for line in self.lines:
            machines.setdefault(line.machine, []).append(line.contender)
        parts = [f"{', '.join(dict.fromkeys(names))}: {machine}." for machine, names in machines.items()]
        parts += [f"{title}:\n\n{self._table(measure)}" for measure, title in MEASURES.items()]
        return "\n\n".join([*parts, *map(self._summary, self.ours)])

    def _values(self, name: str, contender: str, measure: str) -> dict[int, float]:
        """By split."""
        found = {line.split: getattr(line, measure) for line in self.lines if (line.set, line.contender) == (name, contender)}
        return {split: value for split, value in found.items() if not math.isnan(value)}

    def _table(self, measure: str) -> str:
        """A Markdown table: a row for each set, a column for each contender; for each of ours the ratio, the wins and the goal."""
        has_goal = measure == "error"
        compared = [head for name in self.ours for head in (f"{name} / {REFERENCE}", "wins", *(["goal"] if has_goal else []))]
        rows = [["set", "rows", *self.contenders, *compared]]
        rows.append(["---"] * len(rows[0]))
        for name, count in self.rows.items():
            values = {contender: self._values(name, contender, measure) for contender in self.contenders}
            if any(values.values()):
                row = [name, str(count), *(_cell(found, measure) for found in values.values())]
                for ours in self.ours:
                    found = ratio(values[ours], values.get(REFERENCE, {}))
                    row += [str(found), f"{found.wins:g} of {found.splits}" if found.splits else ""]
                    row += [_goal(name, values[ours], found)] if has_goal else []
                rows.append(row)
        return "\n".join(f"| {' | '.join(row)} |" for row in rows)

    def _summary(self, ours: str) -> str:
        """Where microbp is better than HistGradientBoosting, and where it is worse than linear models."""
        ratios = {
            peer: {name: ratio(self._values(name, ours, "error"), self._values(name, peer, "error")).value for name in self.rows}
            for peer in (REFERENCE, LINEAR)
        }
        known = [value for value in ratios[REFERENCE].values() if not math.isnan(value)]
        worse = ", ".join(name for name, value in ratios[LINEAR].items() if value > SLACK) or "none"
        better = f"{sum(value < 1 for value in known)} of {len(known)}"
        return f"{ours}: lower error than {REFERENCE} on {better} sets; error more than {SLACK - 1:.0%} above {LINEAR}'s: {worse}."


def _cell(found: dict[int, float], measure: str) -> str:
    values = np.array(list(found.values()))
    if not len(values):
        return ""
    interval = "" if measure == "seconds" or len(values) < 2 else f" +- {_digits(half(values), 2)}"
    return f"{_digits(values.mean(), 4)}{interval}"


def _digits(value: float, count: int) -> str:
    """A number with this many significant digits, without an exponent."""
    return np.format_float_positional(value, precision=count, fractional=False, trim="-")


def _goal(name: str, ours: dict[int, float], compared: Ratio) -> str:
    """The goal, and whether it is reached."""
    goal = GOALS.get(name, Goal())
    kind, limit, value = (
        ("", goal.error, np.mean(list(ours.values()) or [math.nan])) if goal.error else ("ratio ", goal.ratio, compared.value)
    )
    return "" if limit is None or math.isnan(value) else f"{kind}{limit:g}, {'reached' if value <= limit else 'missed'}"
