"""Windows and pools: rectangles of positions that move over a grid. A grid is (height, width); its positions are numbered row by row."""

from __future__ import annotations

import re
from dataclasses import dataclass

LARGEST = 2**31 - 1
Pair = tuple[int, int]  # for the height, for the width
_PAIR = re.compile(r"([0-9]{1,18})x([0-9]{1,18})")


@dataclass(frozen=True)
class Window:
    """A rectangle of `size` positions, `dilation` apart, at places that are `stride` apart. The grid has `pad` more on each side. kind: max
    or mean, if it is a pool."""

    size: Pair
    stride: Pair
    pad: Pair = (0, 0)
    dilation: Pair = (1, 1)
    kind: str = ""

    @property
    def count(self) -> int:
        """How many positions are under it."""
        return self.size[0] * self.size[1]

    def attributes(self) -> dict[str, str]:
        """Its settings in graph text."""
        start = {"size": _text(self.size), "stride": _text(self.stride)}
        return start | ({"kind": self.kind} if self.kind else {"pad": _text(self.pad), "dilation": _text(self.dilation)})

    def places(self, grid: Pair) -> Pair:
        """The grid of places; (0, 0) if it does not fit."""
        sides = zip(grid, self.size, self.stride, self.pad, self.dilation)
        high, wide = (max(0, (length + 2 * pad - 1 - dilation * (size - 1)) // stride + 1) for length, size, stride, pad, dilation in sides)
        return (high, wide) if high and wide else (0, 0)

    def under(self, grid: Pair) -> list[list[int | None]]:
        """For each place the positions under the window, row by row; None: outside of the grid."""
        high, wide = self.places(grid)
        found = []
        for place in range(high * wide):
            rows, columns = (
                [at * self.stride[axis] - self.pad[axis] + k * self.dilation[axis] for k in range(self.size[axis])]
                for axis, at in enumerate(divmod(place, wide))
            )
            found.append([i * grid[1] + j if 0 <= i < grid[0] and 0 <= j < grid[1] else None for i in rows for j in columns])
        return found


def read_window(given: dict[str, str]) -> Window:
    """The window of the statement `window`. ValueError: a setting is wrong."""
    if "size" not in given:
        raise ValueError("window needs size=HEIGHTxWIDTH")
    size = _pair(given, "size", 1)
    window = Window(size, _pair(given, "stride", 1, (1, 1)), _pair(given, "pad", 0, (0, 0)), _pair(given, "dilation", 1, (1, 1)))
    check_size("window", window.count)
    return window


def read_pool(given: dict[str, str]) -> Window:
    """The window of the statement `pool`."""
    if "size" not in given:
        raise ValueError("pool needs size=HEIGHTxWIDTH")
    size = _pair(given, "size", 1)
    stride, kind = _pair(given, "stride", 1, size), given.get("kind", "max")
    if kind not in ("max", "mean"):
        raise ValueError(f'kind must be max or mean, not "{kind}"')
    return Window(size, stride, kind=kind)


def placed(window: Window, grid: Pair, node: int) -> Pair:
    """The grid of places on this grid, that of a node. ValueError: there are none."""
    places = window.places(grid)
    if places == (0, 0):
        word, advice = ("pool", "make size smaller") if window.kind else ("window", "make pad larger, or size or dilation smaller")
        raise ValueError(f"a {word} of {_text(window.size)} does not fit node {node}, which has {_text(grid)} positions: {advice}")
    return places


def common_grid(word: str, grids: dict[int, Pair]) -> Pair:
    """The grid of all operands of a statement, by their nodes. ValueError: they have different ones."""
    (first, grid), *more = grids.items()
    for node, other in more:
        if other != grid:
            found = f"node {first} has {_text(grid)} and node {node} has {_text(other)}"
            raise ValueError(f"{word} needs operands with the same positions, but {found}")
    return grid


def check_size(word: str, numbers: float) -> None:
    """ValueError if the node of a statement would have too many numbers in a row."""
    if numbers > LARGEST:
        raise ValueError(f"{word} makes rows of more than {LARGEST} numbers")


def _text(pair: Pair) -> str:
    return f"{pair[0]}x{pair[1]}"


def _pair(given: dict[str, str], key: str, least: int, default: Pair | None = None) -> Pair:
    if key not in given and default is not None:
        return default
    match = _PAIR.fullmatch(given[key])
    if not match or not all(least <= int(part) <= LARGEST for part in match.groups()):
        raise ValueError(f'{key} must be two whole numbers of at least {least}, such as 3x3, not "{given[key]}"')
    return int(match[1]), int(match[2])
