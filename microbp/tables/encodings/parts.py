"""The parts of dates and times as numbers."""

from __future__ import annotations

import numpy as np

from ...data.arrays import Array

PERIODS = {"month": 12, "day": 31, "weekday": 7, "hour": 24}  # weekday: 0 on Monday; hour: with minutes and seconds as a fraction


def parts_of(times: Array) -> dict[str, Array]:
    """The parts of datetime64[us] values as numbers, NaN for NaT; elapsed: days since 1970."""
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
