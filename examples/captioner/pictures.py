"""Pictures of one to four handwritten digits on a field of 56 x 56 pixels, and captions that say what is where.

A caption follows from the picture. The digits are read from the top left to the bottom right: in the order of 2 y + x of the centres of
their boxes. A digit is beside or below the one before it if the other coordinate differs by less than 8 pixels, otherwise diagonally so.
Pictures in which a pixel or two more would change the caption are not drawn: no coordinate is within 2 of a bound.
"""

from __future__ import annotations

import gzip
import itertools
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from captions import caption

FIELD, LARGEST, ALIGNED, MARGIN = 56, 20, 8, 2
HELD_OUT = {
    "threes": [*map(tuple, np.random.default_rng(0).permutation([*itertools.combinations(range(10), 3)])[:12].tolist())],
    "pairs": [(0, 1), (2, 3), (4, 5), (6, 7), (8, 9)],
}
Wanted = Callable[[np.ndarray], np.ndarray]  # labels (rows, digits): which rows


def place(sizes: np.ndarray, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Random places of boxes (rows, digits, height and width): corners, order of reading, steps; drawn again until all is clear."""
    corners, left = np.zeros_like(sizes), np.arange(len(sizes))
    order, steps = np.zeros(sizes.shape[:2], int), np.zeros((len(sizes), max(1, sizes.shape[1] - 1), 2), int)
    while len(left):
        size = sizes[left]
        corner = random.integers(0, FIELD + 1 - size)
        centre = corner + size / 2
        reading = 2 * centre[..., 0] + centre[..., 1]
        turn = reading.argsort(axis=1)
        clear = (np.diff(np.sort(reading, axis=1), axis=1) > 2 * MARGIN).all(axis=1)
        for i, j in itertools.combinations(range(size.shape[1]), 2):
            clear &= ((corner[:, i] > corner[:, j] + size[:, j]) | (corner[:, j] > corner[:, i] + size[:, i])).any(axis=1)
        one = size.shape[1] == 1
        move = centre - FIELD / 2 if one else np.diff(np.take_along_axis(centre, turn[..., None], axis=1), axis=1)
        bound = FIELD / 6 if one else ALIGNED
        clear &= (abs(abs(move) - bound) > MARGIN).all(axis=(1, 2))
        clear &= one | (abs(move) > bound).any(axis=2).all(axis=1)
        done = left[clear]
        corners[done], order[done], steps[done] = corner[clear], turn[clear], (np.sign(move) * (abs(move) > bound))[clear]
        left = left[~clear]
    return corners, order, steps


class Pictures:
    """Draws pictures from digits (28 x 28, from 0 to 1) and their labels."""

    def __init__(self, x: np.ndarray, labels: np.ndarray) -> None:
        self.ink, self.labels = [], labels
        for picture in x.reshape(-1, 28, 28):
            down, right = picture.any(axis=1).nonzero()[0], picture.any(axis=0).nonzero()[0]
            self.ink.append(picture[down[0] : down[-1] + 1, right[0] : right[-1] + 1][:LARGEST, :LARGEST])
        self.sizes = np.array([ink.shape for ink in self.ink])

    def draw(
        self, rows: int, digits: int, random: np.random.Generator, wanted: Wanted = lambda labels: labels[:, 0] >= 0
    ) -> tuple[np.ndarray, list[str]]:
        """Pictures (rows, 56, 56, 1) of this number of digits, and their captions."""
        chosen = np.empty((0, digits), int)
        while len(chosen) < rows:
            more = random.integers(0, len(self.ink), (rows, digits))
            chosen = np.concatenate([chosen, more[wanted(self.labels[more])]])[:rows]
        corners, order, steps = place(self.sizes[chosen], random)
        pictures = np.zeros((rows, FIELD, FIELD), np.float32)
        for picture, of, where in zip(pictures, chosen, corners.tolist()):
            for i, (down, right) in zip(of, where):
                picture[down : down + self.sizes[i, 0], right : right + self.sizes[i, 1]] = self.ink[i]
        read = np.take_along_axis(self.labels[chosen], order, axis=1).tolist()
        return pictures[..., None], [caption(tuple(one), tuple(map(tuple, way))) for one, way in zip(read, steps.tolist())]


def mnist(folder: Path, part: str) -> Pictures:
    images, labels = (gzip.decompress((folder / f"{part}-{name}-ubyte.gz").read_bytes()) for name in ("images-idx3", "labels-idx1"))
    pixels = np.frombuffer(images, np.uint8, offset=16).reshape(-1, 28, 28)
    return Pictures(pixels.astype(np.float32) / 255, np.frombuffer(labels, np.uint8, offset=8).astype(int))


def together(sets: Sequence[tuple[int, ...]]) -> Wanted:
    """Rows of digits that have all digits of a set."""
    return lambda labels: (labels[:, :, None] == np.arange(10)).any(axis=1)[:, np.array(sets)].all(axis=2).any(axis=1)


def apart(sets: Sequence[tuple[int, ...]]) -> Wanted:
    """Rows of digits that lack a digit of each set."""
    return lambda labels: ~together(sets)(labels)


def count_captions(tries: int = 1000) -> int:
    """How many different captions there are at least: of three and four digits, those whose steps occurred in these tries with the
    largest boxes, in which any digits fit."""
    counts = {1: 90, 2: 90 * 5 + 10 * 4}  # a pair of equal digits has one caption for both rising diagonals
    for digits in (3, 4):
        steps = place(np.full((tries, digits, 2), LARGEST), np.random.default_rng(0))[2]
        counts[digits] = 10**digits * len(np.unique(steps.reshape(tries, -1), axis=0))
    return sum(counts.values())


def draw_page(shown: list[tuple[np.ndarray, str, str]], path: Path) -> None:
    """A page of pictures with their captions, wrong ones in red."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(16, 4 * len(shown) / 4 * 0.75), layout="constrained")
    for axes, (picture, told, right) in zip(figure.subplots(len(shown) // 4, 4).flat, shown):
        axes.imshow(picture[..., 0], cmap="gray")
        axes.set_axis_off()
        axes.set_title("\n".join(textwrap.wrap(told, 40)), fontsize=9, color="black" if told == right else "red")
    figure.savefig(path)
