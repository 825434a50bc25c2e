"""Where the values of nodes are: memory that several use one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Need(NamedTuple):
    """Memory for a step: `size` floats for its value, until the step `last` has run; `scratch` floats while it runs itself. over: the node
    whose memory it can take, since it only reads it element by element."""

    node: int
    size: int
    last: int
    scratch: int
    over: int | None


def plan(needs: Sequence[Need], reuse: bool) -> tuple[dict[int, int], dict[int, int], int]:
    """The offset of the value and of the scratch of each node, and the number of floats in total. Each takes the first gap where it fits;
    without `reuse`, memory is used once."""
    values: dict[int, int] = {}
    scratch: dict[int, int] = {}
    used: list[tuple[int, int, int]] = []  # first float, end, last step
    ends = {need.node: (need.last, need.size) for need in needs}
    total = 0

    def take(size: int, last: int) -> int:
        nonlocal total
        at = 0
        for first, end, _ in sorted(used):
            if first - at >= size:
                break
            at = max(at, end)
        used.append((at, at + size, last))
        total = max(total, at + size)
        return at

    for i, need in enumerate(needs):
        if reuse:
            used = [one for one in used if one[2] >= i]
        if reuse and need.over in values and need.over is not None and ends[need.over] == (i, need.size) and need.size:
            at = values[need.node] = values[need.over]
            used = [(first, end, need.last if first == at else last) for first, end, last in used]
        elif need.size:
            values[need.node] = take(need.size, need.last)
        if need.scratch:
            scratch[need.node] = take(need.scratch, i)
    return values, scratch, total
