"""A chain of dense layers in one call."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

from ..core.backend import BackendName
from ..core.checks import whole_number
from ..core.specs import ActivationName, Init, InitName
from ..core.text import brief
from .layers import Activation, Dense, Dropout
from .network import DType, Network
from .nodes import WIDTH_BITS, Input, Node


def mlp(
    widths: Sequence[int],
    activation: ActivationName | Activation = "relu",
    *,
    dtype: DType = "float32",
    seed: int | None = None,
    backend: BackendName | None = None,
    init: Literal["auto"] | InitName | Init = "auto",
    bias: bool = True,
    bias_init: Literal["auto"] | InitName | Init = "auto",
    n_threads: int | None = None,
    dropout: float = 0.0,
) -> Network:
    """A chain of dense layers: mlp([64, 128, 10]) has 64 inputs, 128 hidden units and 10 outputs. The last layer is linear.

    widths: the number of input features, then the units of each layer.
    activation: of the hidden layers, as in bp.Dense. init, bias, bias_init: of all layers, as in bp.Dense.
    dropout: the rate of a bp.Dropout after each hidden layer; 0: no dropout.
    dtype, seed, backend, n_threads: as in bp.Network.

    >>> net = bp.mlp([2, 8, 1], activation="tanh", seed=0)
    >>> net.predict(np.zeros((5, 2))).shape
    (5, 1)
    """
    if isinstance(widths, str) or not isinstance(widths, Iterable):
        raise TypeError(f"mlp: widths must be a list such as [64, 128, 10], not {brief(widths)}")
    widths = [whole_number(width, f"mlp: widths[{i}]", bits=WIDTH_BITS) for i, width in enumerate(widths)]
    if len(widths) < 2:
        needs = "widths needs at least two numbers, the number of inputs and the units of one layer, such as [64, 10]"
        raise ValueError(f"mlp: {needs}, not {brief(widths)}")
    activation, drop = Activation.parse(activation), Dropout(dropout)
    x = Input(widths[0])
    node: Node = x
    for width in widths[1:-1]:
        node = Dense(width, activation, init, bias, bias_init=bias_init)(node)
        node = drop(node) if drop.rate else node
    return Network(x, Dense(widths[-1], init=init, bias=bias, bias_init=bias_init)(node), dtype, seed, backend, n_threads)
