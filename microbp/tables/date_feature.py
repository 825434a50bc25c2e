"""Dates and times as features: elapsed time and year as numbers; month, day, weekday and hour as sine and cosine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..data.arrays import Array
from .readers.table import Table

PERIODS = {"month": 12, "day": 31, "weekday": 7, "hour": 24}  # weekday: 0 on Monday; hour: with minutes and seconds as a fraction
PARTS = ("elapsed", "year", *PERIODS)  # elapsed: days since 1970


def parts_of(times: Array) -> dict[str, Array]:
    """The parts of datetime64[us] values as numbers, NaN for NaT."""
    empty = np.isnat(times)
    filled = np.where(empty, np.datetime64(0, "us"), times)
    days, months = filled.astype("M8[D]"), filled.astype("M8[M]")
    found = {
        "elapsed": filled.astype(np.int64) / 86_400e6,
        "year": filled.astype("M8[Y]").astype(np.int64) + 1970,
        "month": months.astype(np.int64) % 12,
        "day": (days - months.astype("M8[D]")).astype(np.int64),
        "weekday": (days.astype(np.int64) + 3) % 7,
        "hour": (filled - days).astype(np.int64) / 3_600e6,
    }
    return {part: np.where(empty, np.nan, values) for part, values in found.items()}


@dataclass(frozen=True)
class Date:
    """Features of a time: for each of `linear`, (part - centre) / scale; for each of `periodic`, sine and cosine. All are 0 for a missing
    value. `missing`: whether another feature marks missing values with 1.
    """

    name: str
    linear: Mapping[str, tuple[float, float]]  # part: centre and scale
    periodic: tuple[str, ...]
    missing: bool

    @property
    def width(self) -> int:
        return len(self.linear) + 2 * len(self.periodic) + self.missing

    def fill(self, table: Table, out: Array, tally: Any = None) -> None:
        """Writes the features of all rows. tally: a `Tally` for bad cells and gaps."""
        times = table.dates(self.name, None if tally is None else tally.bad)
        parts, empty = parts_of(times), np.isnat(times)
        columns = [(parts[part] - centre) / scale for part, (centre, scale) in self.linear.items()]
        for part in self.periodic:
            angle = 2 * np.pi / PERIODS[part] * parts[part]
            columns += [np.sin(angle), np.cos(angle)]
        for i, column in enumerate(columns):
            out[:, i] = np.where(empty, 0.0, column)
        if self.missing:
            out[:, -1] = empty
        elif tally is not None:
            tally.gaps[self.name] += int(empty.sum()) - tally.bad[self.name]
