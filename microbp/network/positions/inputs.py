"""Inputs with several positions."""

from __future__ import annotations

from ...core.checks import whole_number
from ..nodes import WIDTH_BITS, Input, Layer, Node


class Positions(Layer):
    """The numbers of a row, seen as positions."""

    operation = "grid"

    def __init__(self, height: int, width: int) -> None:
        self.height, self.width = height, width

    @property
    def text(self) -> str:
        """The settings of this layer as graph text."""
        return f"height={self.height} width={self.width}"


class Grid(Node):
    """An input of `height` x `width` positions, such as pixels, each with `channels` numbers.

    X has shape (rows, height, width, channels), or (rows, height x width x channels): position by position, each with its channels. (In
    PyTorch, channels come first: X.transpose(0, 2, 3, 1).) Layers such as bp.Dense work on every position with the same weights, bp.Conv
    and bp.Pool see the positions around each one, and bp.Flatten makes one row of columns of all of them.
    ValueError or TypeError: a size is below 1, or is not a whole number.

    >>> x = bp.Grid(16, 16, channels=1)
    >>> h = bp.Conv(12, size=5, stride=2, pad=2, activation="relu")(x)
    >>> h.grid, h.width
    ((8, 8), 12)
    >>> net = bp.Network(x, bp.Dense(10)(bp.Flatten()(h)), seed=0)
    >>> net.predict(np.zeros((3, 16, 16, 1))).shape
    (3, 10)
    """

    def __init__(self, height: int, width: int, channels: int = 1) -> None:
        sizes = whole_number(height, "Grid: height"), whole_number(width, "Grid: width"), whole_number(channels, "Grid: channels")
        super().__init__("grid", (_input(*sizes, "Grid"),), sizes[2], Positions(*sizes[:2]), sizes[:2])


class Sequence(Node):
    """An input of `length` positions in a row, such as the steps of a time series, each with `width` numbers.

    X has shape (rows, length, width), or (rows, length x width). Layers such as bp.Dense work on every position with the same weights;
    bp.Conv(units, size=3) sees three positions at a time.
    ValueError or TypeError: a size is below 1, or is not a whole number.

    >>> x = bp.Sequence(20, 3)
    >>> net = bp.Network(x, bp.Dense(2)(bp.Last()(bp.Conv(8, size=3, pad="same")(x))), seed=0)
    >>> net.predict(np.zeros((5, 20, 3))).shape
    (5, 2)
    """

    def __init__(self, length: int, width: int = 1) -> None:
        sizes = 1, whole_number(length, "Sequence: length"), whole_number(width, "Sequence: width")
        super().__init__("grid", (_input(*sizes, "Sequence"),), sizes[2], Positions(*sizes[:2]), sizes[1:2])


def _input(height: int, width: int, channels: int, what: str) -> Input:
    numbers = height * width * channels
    if numbers >= 2**WIDTH_BITS:
        raise ValueError(f"{what}: a row has {numbers} numbers, but must have fewer than 2**{WIDTH_BITS}")
    return Input(numbers)
