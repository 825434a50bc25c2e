"""Team: the processes that train together, and what they tell each other in a fit. A process alone is a team of one."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...data.arrays import Array
from ...ranks.ranks import Ranks


@dataclass(frozen=True)
class Team:
    """The processes of a fit. Each method is an exchange, which all of them do in the same order; alone, it is nothing.

    shards: all have the same rows, and each trains on its part of every batch. every: above 1, each trains alone, and after so many updates
    the parameters become their means. loops: whether one of them loops over updates. is_timed: whether one may end a fit at any time.
    """

    ranks: Ranks | None = None
    shards: bool = False
    every: int = 1
    loops: bool = False
    is_timed: bool = False

    @property
    def is_first(self) -> bool:
        """Whether this process writes files and shows the progress."""
        return self.ranks is None or self.ranks.rank == 0

    @property
    def has_parts(self) -> bool:
        """Whether the processes have rows of their own."""
        return self.ranks is not None and not self.shards

    def sum(self, values: Any) -> Array:
        """The sums over all processes, added in their order."""
        return np.asarray(values) if self.ranks is None else self.ranks.sum(values)

    def sum_of_parts(self, values: Any) -> Array:
        """The same, if the processes have rows of their own; otherwise the values."""
        return self.sum(values) if self.has_parts else np.asarray(values)

    def added(self, totals: float | list[float]) -> float | list[float]:
        """The same for a number, or a list of numbers."""
        if self.ranks is None:
            return totals
        found: list[float] = self.sum(np.atleast_1d(totals)).tolist()
        return found if isinstance(totals, list) else found[0]

    def gather(self, array: Array) -> list[Array]:
        """The array of each process; they may differ in length along axis 0."""
        return [array] if self.ranks is None else self.ranks.gather_arrays(array)

    def first(self, choice: str, choices: Sequence[str]) -> str:
        """The choice of the first process that has not chosen choices[0]; choices[0] if there is none."""
        if self.ranks is None:
            return choice
        return choices[int(next((one for one, _ in self.ranks.exchange(choices.index(choice)) if one), 0))]

    def any(self, value: bool) -> bool:
        """Whether it is true in one of the processes."""
        return value if self.ranks is None else self.ranks.any(value)

    def check_same(self, call: str, values: Mapping[str, Any]) -> None:
        """ValueError, in all processes, if one of these values, as text, differs between them. call: for the error."""
        if self.ranks is not None:
            self.ranks.check_same(call, values)

    def agree(self, record: dict[str, float], epoch: int, *state: Array) -> None:
        """Overwrites the values of a record by those of rank 0. RuntimeError, in all processes, if the state, vectors that should be the
        same in all of them, differs."""
        if self.ranks is None:
            return
        sum_of_bits = 0
        for vector in state:
            sum_of_bits = zlib.crc32(np.ascontiguousarray(vector).view(np.uint8), sum_of_bits)
        first, *others = self.ranks.gather_arrays(np.array([[sum_of_bits, *record.values()]], np.float64))
        for rank, other in enumerate(others, 1):
            if other[0, 0] != first[0, 0]:
                raise RuntimeError(f"the ranks have parted: after epoch {epoch} the parameters of rank {rank} differ from those of rank 0")
        record.update({name: type(value)(one) for (name, value), one in zip(record.items(), first[0, 1:].tolist(), strict=True)})


ALONE = Team()
