"""Counts of cells that a prediction cannot use as they are."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass
class Tally:
    """Counts of cells by column: values that training did not have, bad cells, gaps where training had none, numbers far outside the range
    of training. A category with features for other values has no new values or gaps: training had cells like them.
    """

    unseen: Counter[str] = field(default_factory=Counter)
    bad: Counter[str] = field(default_factory=Counter)
    gaps: Counter[str] = field(default_factory=Counter)
    far: Counter[str] = field(default_factory=Counter)

    def add(self, counts: Tally) -> None:
        """Adds the counts above 0."""
        for kind in ("unseen", "bad", "gaps", "far"):
            getattr(self, kind).update(+getattr(counts, kind))
