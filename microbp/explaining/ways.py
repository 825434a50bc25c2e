"""The ways from a number to the end: products of local derivatives, which add up to its gradient."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from heapq import nlargest

from .text import cut, short
from .units import Terms, Unit

_MOST = 12  # ways that are shown
_Way = tuple[float, tuple[tuple[str, float], ...]]


@dataclass(frozen=True)
class Ways:
    """What `Explanation.ways` returns. count: of all ways. products: of the 12 largest, the largest first. steps: for each of these
    (name of the next number, local derivative) up to the end."""

    name: str
    gradient: float
    count: int
    products: tuple[float, ...]
    steps: tuple[tuple[tuple[str, float], ...], ...]

    def __str__(self) -> str:
        lines = [f"{self.name}: {self.count:,} way{'s' * (self.count != 1)}"]
        for product, steps in zip(self.products, self.steps, strict=True):
            lines.append(f"{short(product):>9} = {cut(' * '.join(short(local) for _, local in steps) or '1', 88)}")
            lines.append(f"{'':12}{cut(' -> '.join([self.name, *(name for name, _ in steps)]), 88)}")
        if others := self.count - len(self.products):
            lines.append(f"{short(self.gradient - sum(self.products)):>9}   from {others:,} smaller ones")
        return "\n".join([*lines, f"{short(self.gradient):>9}   the gradient: their sum"])


def find(units: Sequence[Unit], name: str, gradient: float, uses: Terms, start: float) -> Ways:
    """uses, start: of the number, as of a unit."""
    found: list[tuple[int, list[_Way]]] = [(0, [])] * len(units)  # of each unit the count, and the ways with the largest products

    def ways(uses: Terms, start: float) -> tuple[int, list[_Way]]:
        each: list[_Way] = [(start, ())] * (start != 0)
        each += [(local * product, ((units[u].name, local), *steps)) for u, local in uses for product, steps in found[u][1]]
        return (start != 0) + sum(found[u][0] for u, _ in uses), nlargest(_MOST, each, key=lambda way: abs(way[0]))

    for number in reversed(range(len(units))):
        found[number] = ways(units[number].uses, units[number].start)
    count, largest = ways(uses, start)
    return Ways(name, gradient, count, tuple(product for product, _ in largest), tuple(steps for _, steps in largest))
