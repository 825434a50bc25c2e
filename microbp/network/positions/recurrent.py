"""Recurrent layers: their settings, and how the settings are written in graph text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from ...core.checks import flag, one_of, whole_number
from ...core.specs import Init, InitName
from ...core.text import number
from ...data.arrays import Array, as_array
from ..layers import TrainedLayer, layer_settings
from ..nodes import WIDTH_BITS, Node, check_node

GATES = {"tanh": 1, "gru": 3, "lstm": 4}  # of a cell: as many parts of `units` columns has the weight
Weights = Literal["auto"] | InitName | Init | Array | Sequence[Sequence[float]]


class Recurrent(TrainedLayer):
    """A layer that goes through a sequence position by position, with a state h of `units` numbers, which is its result at each position.
    The cells are those of PyTorch; s is the sigmoid, * is by element, and W, U, b have a part for each gate:

    - "tanh", torch.nn.RNN (Elman 1990): h' = tanh(x W + h U + b);
    - "gru", torch.nn.GRU (Cho et al. 2014): r = s(x W + h U + b), z likewise, n = tanh(x W + b + r * (h U + b')), h' = (1 - z) * n + z * h;
    - "lstm", torch.nn.LSTM (Hochreiter & Schmidhuber 1997; Gers et al. 2000): i, f, o = s(x W + h U + b), g = tanh(x W + h U + b),
      c' = f * c + i * g, h' = o * tanh(c').

    units: the columns of h.
    reverse: whether it goes from the last position to the first. For both directions, join two layers: bp.concat([first(x), second(x)]).
    init, recurrent_init: the initial weights of x and of h: "auto" (glorot_uniform and orthogonal, for each gate by itself), a name, a
    bp.Init, or arrays of shape (gates x units, columns of x) and (gates x units, units), which are given both or not at all. Gates are in
    the order r, z, n and i, f, g, o: the arrays are PyTorch's weight_ih_l0 and weight_hh_l0.
    bias: whether to add b. bias_init: its initial values: "auto" (zeros), a name, a bp.Init, or an array. The biases of an lstm's forget
    gate f are 1 larger, unless they are an array (Jozefowicz et al. 2015). There are gates x units biases, and those of gru end with the
    `units` numbers b' (PyTorch has two vectors for all gates: theirs are added, but for n).
    name, lr, l1, l2, max_norm, bias_lr: as in bp.Dense. The tensor "name.weight" has shape (gates x units, columns of x + units).
    ValueError or TypeError: a setting is wrong; the node is ids; the state does not fit.

    >>> x = bp.Sequence(20, 3)
    >>> h = bp.Recurrent(8, cell="gru")(x)
    >>> h.grid, h.width
    ((20,), 8)
    >>> net = bp.Network(x, bp.Dense(2)(bp.Last()(h)), seed=0)
    >>> net.tensors["recurrent_0.weight"].shape
    (24, 11)
    """

    operation = "recurrent"

    def __init__(
        self,
        units: int,
        cell: Literal["tanh", "gru", "lstm"] = "gru",
        reverse: bool = False,
        init: Weights = "auto",
        recurrent_init: Weights = "auto",
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
        super().__init__(name, lr)
        self.units = whole_number(units, "Recurrent: units", bits=WIDTH_BITS)
        self.cell = one_of(*GATES)("Recurrent: cell", cell)
        self.reverse = flag("Recurrent: reverse", reverse)
        self.bias = flag("Recurrent: bias", bias)
        self._parse_weights(init, recurrent_init)
        self.bias_init = self._parse_bias(bias_init)
        settings: dict[str, float | None] = {"l1": l1, "l2": l2, "max_norm": max_norm, "bias_lr": bias_lr}
        self._settings = layer_settings("Recurrent", lr=lr, **settings)
        self.l1, self.l2, self.max_norm, self.bias_lr = self._settings["l1"], self._settings["l2"], max_norm, bias_lr
        for key, value, none in (("bias_init", self.bias_init, "auto"), ("bias_lr", bias_lr, None)):
            if not self.bias and value != none:
                raise ValueError(f"Recurrent: bias is False, so {key} has no effect: leave {key} out, or set bias=True")

    @property
    def state_width(self) -> int:
        """The numbers of its state: h, of an lstm h and c."""
        return self.units * (2 if self.cell == "lstm" else 1)

    def _parse_weights(self, init: Any, recurrent_init: Any) -> None:
        given = {"init": init, "recurrent_init": recurrent_init}
        specs = {key: _spec(value) for key, value in given.items()}
        if None in specs.values():
            if set(specs.values()) != {None}:
                key, other = sorted(specs, key=lambda key: specs[key] is not None)
                raise ValueError(f"Recurrent: {key} is an array, but {other} is not: give both as arrays, or none")
            arrays = [np.array(as_array(value, f"Recurrent: {key}"), dtype=np.float64) for key, value in given.items()]
            rows = GATES[self.cell] * self.units
            for key, array, columns in zip(given, arrays, ("columns of x", self.units), strict=True):
                if array.ndim != 2 or len(array) != rows or (key == "recurrent_init" and array.shape[1] != columns):
                    raise ValueError(f"Recurrent: {key} must have shape ({rows}, {columns}), not {array.shape}")
            self.arrays["weight"] = np.hstack(arrays)
        self.init, self.recurrent_init = (spec or "array" for spec in specs.values())

    def _parse_bias(self, init: Any) -> str:
        if spec := _spec(init):
            return spec
        array = np.array(as_array(init, "Recurrent: bias_init"), dtype=np.float64)
        if array.shape != (count := (4 if self.cell == "gru" else GATES[self.cell]) * self.units,):
            raise ValueError(f"Recurrent: bias_init must have shape ({count},), not {array.shape}")
        self.arrays["bias"] = array
        return "array"

    def _check_width(self, name: str, width: int) -> None:
        """ValueError if init is an array for another width."""
        rows, columns = self.arrays["weight"].shape if "weight" in self.arrays else (0, width + self.units)
        if columns != width + self.units:
            raise ValueError(f"layer {name!r}: init must have shape ({rows}, {width}), not {(rows, columns - self.units)}")

    def __call__(self, node: Node, state: Node | None = None) -> Node:
        """A new node: the layer applied to `node`. state: a node of one position with the state before the first position, `units` columns
        (lstm: 2 x units, h and then c); None: zeros."""
        check_node(node, "Recurrent")
        if state is not None and (check_node(state, "Recurrent: state").positions > 1 or state.width != self.state_width):
            raise ValueError(f"Recurrent: state must be a node of one position with {self.state_width} columns, not {state!r}")
        made = Node(self.operation, (node,) if state is None else (node, state), self.units, self, node.grid)
        made.reverse = self.reverse
        return made

    @property
    def text(self) -> str:
        """The settings of this layer as graph text."""
        bias = int(self.bias) if self.bias_init == "auto" else f"1 bias_init={self.bias_init}"
        settings = " ".join(f"{key}={number(value)}" for key, value in self._settings.items())
        return f"units={self.units} cell={self.cell} init={self.init} recurrent_init={self.recurrent_init} bias={bias} {settings}"


def _spec(init: Any) -> str | None:
    """Initial values as graph text; None: they are an array."""
    if isinstance(init, str | Init):
        return "auto" if isinstance(init, str) and init.strip() == "auto" else Init.parse(init).text
    return None
