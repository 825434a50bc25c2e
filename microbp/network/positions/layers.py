"""Layers that see several positions, or change how many there are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

from ...core.checks import whole_number
from ...core.specs import ActivationName, Init, InitName
from ...core.text import brief, counted
from ...data.arrays import Array
from ..layers import Activation, Dense
from ..nodes import Layer, Node, check_node
from .inputs import Positions

Sizes = int | Sequence[int]  # the same for all axes, or one for each axis


class _Window(Layer):
    """A window that moves over the positions. kind: of a pool; None: the positions under it side by side."""

    def __init__(self, what: str, size: Sizes, stride: Sizes, pad: Any, dilation: Sizes, kind: str | None) -> None:
        self.operation = "pool" if kind else "window"
        self._what, self._size, self._stride, self._pad, self._dilation, self._kind = what, size, stride, pad, dilation, kind
        for name, sizes in (("size", size), ("stride", stride), ("dilation", dilation)):
            _sizes(what, name, sizes, None, 1)
        if pad is None or (isinstance(pad, str) and pad not in ("same", "valid")):
            raise (TypeError if pad is None else ValueError)(f'{what}: pad must be "valid", "same" or whole numbers, not {brief(pad)}')
        if not isinstance(pad, str):
            _sizes(what, "pad", pad, None, 0)

    def __call__(self, node: Node) -> Node:
        check_node(node, self._what)
        axes = len(node.grid)
        if axes == 0:
            raise ValueError(f"{self._what} needs a node with positions, such as bp.Grid(28, 28), not {node!r}")
        given = {"size": self._size, "stride": self._stride, "dilation": self._dilation}
        size, stride, dilation = (_sizes(self._what, name, sizes, axes, 1) for name, sizes in given.items())
        pad = self._padding(size, dilation)
        sides = zip(node.grid, size, stride, pad, dilation, strict=True)
        grid = tuple((length + 2 * p - 1 - d * (k - 1)) // s + 1 for length, k, s, p, d in sides)
        if min(grid) < 1:
            advice = "make size smaller" if self._kind else "make pad larger, or size or dilation smaller"
            raise ValueError(f"{self._what}: size {_text(size)} does not fit {node!r}: {advice}")
        settings = {"size": size, "stride": stride} | ({} if self._kind else {"pad": pad, "dilation": dilation})
        text = " ".join(f"{key}={_text((*[0 if key == 'pad' else 1] * (2 - axes), *pair))}" for key, pair in settings.items())
        width = node.width * (1 if self._kind else math.prod(size))
        return Node(self.operation, (node,), width, _Written(self.operation, text + (f" kind={self._kind}" if self._kind else "")), grid)

    def _padding(self, size: tuple[int, ...], dilation: tuple[int, ...]) -> tuple[int, ...]:
        if self._pad == "valid":
            return (0,) * len(size)
        if self._pad != "same":
            return _sizes(self._what, "pad", self._pad, len(size), 0)
        if any(d * (k - 1) % 2 for k, d in zip(size, dilation, strict=True)):
            raise ValueError(f'{self._what}: pad="same" needs odd sizes, not {_text(size)}; pass pad as numbers')
        return tuple(d * (k - 1) // 2 for k, d in zip(size, dilation, strict=True))


class _Written(Layer):
    """A layer of which the graph text is known."""

    def __init__(self, operation: str, text: str) -> None:
        self.operation, self._text = operation, text

    @property
    def text(self) -> str:
        """The settings of this layer as graph text."""
        return self._text


class Conv(Dense):
    """A convolution (LeCun et al. 1989): a dense layer of `units` outputs over the positions around each one, with the same weights
    everywhere.

    units: the columns of each position of the result.
    size: of the window, for the height and the width of a grid: 5 is (5, 5); for a sequence one number.
    stride: the window moves by this number of positions. pad: the positions of zeros around; "valid": 0; "same": as many that with stride 1
    the result has the positions of the node, for odd sizes. dilation: the distance of the positions under the window.
    Along each axis there are (length + 2 pad - dilation (size - 1) - 1) // stride + 1 positions, rounded down.
    activation, init, bias, name, lr, l1, l2, max_norm, bias_lr, bias_init: as in bp.Dense, whose inputs are the columns under the window:
    row by row, position by position. A weight has shape (units, height x width x columns). PyTorch's Conv2d has the shape (units, columns,
    height, width): weight.transpose(0, 2, 3, 1).reshape(units, -1).
    Called several times, the calls share W and b. Groups: bp.concat([first(x[:, :4]), second(x[:, 4:])]).
    ValueError or TypeError: the window does not fit, or a setting is wrong.

    >>> x = bp.Grid(8, 8, channels=3)
    >>> layer = bp.Conv(16, size=3, pad="same", activation="relu")
    >>> layer(x).grid, layer(x).width
    ((8, 8), 16)
    >>> bp.Network(x, layer(x), seed=0).tensors["dense_0.weight"].shape
    (16, 27)
    """

    def __init__(
        self,
        units: int,
        size: Sizes,
        stride: Sizes = 1,
        pad: Sizes | Literal["same", "valid"] = "valid",
        dilation: Sizes = 1,
        activation: ActivationName | Activation = "identity",
        init: Literal["auto"] | InitName | Init | Array | Sequence[Sequence[float]] = "auto",
        bias: bool = True,
        name: str | None = None,
        *,
        lr: float = 1.0,
        l1: float = 0.0,
        l2: float = 0.0,
        max_norm: float | None = None,
        bias_lr: float | None = None,
        bias_init: Literal["auto"] | InitName | Init | Array | Sequence[float] = "auto",
    ) -> None:
        self.size, self.stride, self.pad, self.dilation = size, stride, pad, dilation
        self._window = _Window("Conv", size, stride, pad, dilation, None)
        settings: dict[str, Any] = {"lr": lr, "l1": l1, "l2": l2, "max_norm": max_norm, "bias_lr": bias_lr, "bias_init": bias_init}
        super().__init__(units, activation, init, bias, name, **settings)

    def __call__(self, node: Node) -> Node:
        """A new node: the layer applied to `node`."""
        return super().__call__(self._window(node))


class Pool(Layer):
    """The largest number, or the mean, of the positions under a window, for each column.

    size: of the window, as in bp.Conv. stride: None: the size, so that windows do not overlap. kind: "max" or "mean". Positions at the end
    that do not fill a window are left out. Of equal numbers, the gradient goes to the first; NaN counts as the largest.
    ValueError or TypeError: the window does not fit, or a setting is wrong.

    >>> x = bp.Grid(4, 4)
    >>> bp.Pool(2)(x).grid, bp.Pool(3, stride=1, kind="mean")(x).grid
    ((2, 2), (2, 2))
    """

    operation = "pool"

    def __init__(self, size: Sizes, stride: Sizes | None = None, kind: Literal["max", "mean"] = "max") -> None:
        if kind not in ("max", "mean"):
            raise ValueError(f'Pool: kind must be "max" or "mean", not {brief(kind)}')
        self.size, self.stride, self.kind = size, stride, kind
        self._window = _Window("Pool", size, size if stride is None else stride, "valid", 1, kind)

    def __call__(self, node: Node) -> Node:
        """A new node: the layer applied to `node`."""
        return self._window(node)


class Flatten(Layer):
    """The columns of all positions side by side, as one row: for dense layers that see all positions at once. No copy is made.

    >>> bp.Flatten()(bp.Grid(4, 4, channels=3)).width
    48
    """

    operation = "grid"

    @property
    def text(self) -> str:
        """The settings of this layer as graph text."""
        return Positions(1, 1).text

    def _width_for(self, node: Node) -> int:
        return node.width * node.positions

    def _grid_for(self, node: Node) -> tuple[int, ...]:
        return ()


class Unflatten(Positions):
    """The columns of a node as positions: the opposite of bp.Flatten. No copy is made.

    sizes: height and width, or a length. Of a node with several positions, all numbers of a row are taken.
    ValueError or TypeError: the numbers of a row cannot be divided among these positions, or a size is not a whole number.

    >>> h = bp.Unflatten(4, 4)(bp.Dense(48)(bp.Input(10)))
    >>> h.grid, h.width
    ((4, 4), 3)
    """

    def __init__(self, *sizes: int) -> None:
        if len(sizes) not in (1, 2):
            raise ValueError(f"Unflatten needs a height and a width, or a length, not {len(sizes)} numbers")
        self.sizes = tuple(whole_number(size, "Unflatten: a size") for size in sizes)
        super().__init__(*((1, *self.sizes)[-2:]))

    def _width_for(self, node: Node) -> int:
        numbers, positions = node.positions * node.width, math.prod(self.sizes)
        if numbers % positions:
            raise ValueError(f"Unflatten: {numbers} numbers cannot be divided among {positions} positions ({node!r})")
        return numbers // positions

    def _grid_for(self, node: Node) -> tuple[int, ...]:
        return self.sizes


class Repeat(Layer):
    """A node of one position at `times` positions: for a sequence that depends on one row of columns.

    ValueError or TypeError: the node has several positions, or times is not a whole number of at least 1.

    >>> h = bp.Repeat(20)(bp.Dense(8)(bp.Input(4)))
    >>> h.grid, h.width
    ((20,), 8)
    """

    operation = "repeat"

    def __init__(self, times: int) -> None:
        self.times = whole_number(times, "Repeat: times")

    @property
    def text(self) -> str:
        """The settings of this layer as graph text."""
        return f"times={self.times}"

    def _grid_for(self, node: Node) -> tuple[int, ...]:
        if node.positions > 1:
            raise ValueError(f"Repeat needs a node of one position, not {node!r}")
        return (self.times,)


class Last(Layer):
    """The last position of a sequence, as a node of one position. No copy is made.

    >>> h = bp.Last()(bp.Sequence(20, 3))
    >>> h.grid, h.width
    ((), 3)
    """

    operation = "last"

    @property
    def text(self) -> str:
        """The settings of this layer as graph text."""
        return ""

    def _grid_for(self, node: Node) -> tuple[int, ...]:
        return ()


def _sizes(what: str, name: str, value: Any, axes: int | None, least: int) -> tuple[int, ...]:
    """One number for each axis. axes: how many there are; None: it is not known yet."""
    given = tuple(value) if isinstance(value, list | tuple) else (value,) * (axes or 1)
    if axes is not None and len(given) != axes:
        raise ValueError(f"{what}: {name} has {counted(len(given), 'number')}, but the node has {axes} {'axis' if axes == 1 else 'axes'}")
    return tuple(whole_number(one, f"{what}: {name}", least=least) for one in given)


def _text(sizes: Sequence[int]) -> str:
    return "x".join(map(str, sizes))
