"""The choices of how columns become features. The recipe of a training makes them; the saved preparation contains what came of them."""

from __future__ import annotations

from dataclasses import dataclass

from .saved import MOST_BINS, MOST_SHARED


@dataclass(frozen=True)
class Encoding:
    """How columns become features.

    bins: the most bins of a number in the piecewise-linear encoding, beside the number itself; 0: none. levels: the most values of a
    category that get a feature of their own. hashed: the most features that the other values of a category share; 0: one. embedded: the
    units of an embedding, which a category with more frequent values than `levels` gets instead; 0: none does. clip: numbers are scaled by
    quantiles and clipped smoothly to -3 to 3, instead of mean and standard deviation without a limit, and a category of two values is one
    feature, -1 or 1. log: whether the network may learn the logarithm of a skewed target.

    ValueError: bins is 1, a number is below 0, or too large.
    """

    bins: int = 0
    levels: int = 100
    hashed: int = 0
    embedded: int = 0
    clip: bool = False
    log: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.bins <= MOST_BINS or self.bins == 1:
            raise ValueError(f"bins must be 0 or 2 to {MOST_BINS}, not {self.bins}; one bin is the number itself")
        if self.levels < 0:
            raise ValueError(f"levels must be at least 0, not {self.levels}")
        if not 0 <= self.hashed <= MOST_SHARED:
            raise ValueError(f"hashed must be 0 to {MOST_SHARED}, not {self.hashed}")

    @property
    def needs_values(self) -> bool:
        """Whether the statistics of summaries are not enough: quantiles need a sample of values."""
        return self.clip or self.log or self.bins > 0
