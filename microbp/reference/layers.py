"""Layers: what a statement of graph text sets, and shares with all nodes that use the layer. Their settings with numbers."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from .spec import Spec, check_parameter, number_text, parameters, parse_number

# The settings of layers, ids, dropout, noise and slices, as texts. A dense layer: lr is a factor of the learning rate, l1 and l2 are
# penalties of the weights, max_norm is the largest norm of a unit's weights (0: no limit), bias_lr is lr for the bias. A default out of its
# interval means that the setting is not given (bias_lr: the same as lr). It is not written then.
SETTINGS = {
    "ids": "levels=-1[1,2147483647] hash=0[0,1]",
    "embedding": "lr=1[0,inf) max_norm=0[0,inf)",
    "dense": "lr=1[0,inf) l1=0[0,inf) l2=0[0,inf) max_norm=0[0,inf) bias_lr=-1[0,inf)",
    "recurrent": "lr=1[0,inf) l1=0[0,inf) l2=0[0,inf) max_norm=0[0,inf) bias_lr=-1[0,inf)",
    "dropout": "rate=0.5[0,1)",
    "noise": "std=0.1[0,inf)",
    "batch_norm": "lr=1[0,inf) eps=1e-05(0,inf) momentum=0.1[0,1]",
    "layer_norm": "lr=1[0,inf) eps=1e-05(0,inf)",
    "scale": "lr=1[0,inf)",
    "standardize": "",
    "slice": "from=-1[0,inf) to=-1[0,inf)",
    "grid": "height=-1[1,inf) width=-1[1,inf)",
    "repeat": "times=-1[1,inf)",
    "window": "",
    "pool": "",
}
_STATISTICS = {"batch_norm": ("running_mean", "running_var"), "standardize": ("mean", "std")}


def values_of(word: str, given: dict[str, str]) -> dict[str, float]:
    """All numeric settings of the statement, with the defaults of those that are not given."""
    text = SETTINGS[word]
    return {
        key: check_parameter(text, key, parse_number(given[key], key)) if key in given else default
        for key, (default, _) in parameters(text).items()
    }


def numbers_of(word: str, values: dict[str, float]) -> dict[str, str]:
    """The numeric settings as text, without those that are not given."""
    known = parameters(SETTINGS[word]) if values else {}
    return {key: number_text(value) for key, value in values.items() if value in known[key][1]}


@dataclass
class Layer:
    """A dense layer: a weight (inputs, units), a bias unless bias is False, an activation and settings."""

    kind = "dense"
    gain = True  # it has a weight
    statistics = ()  # the names of its buffers

    name: str
    inputs: int
    units: int
    activation: Spec
    init: Spec
    bias_init: Spec
    bias: bool = True
    frozen: bool = False
    settings: dict[str, float] = field(default_factory=dict)

    @property
    def shape(self) -> tuple[int, int]:
        """That of its weight."""
        return self.inputs, self.units

    @property
    def biases(self) -> int:
        """The numbers of its bias."""
        return self.shape[1]

    def attributes(self) -> dict[str, str]:
        return {
            "units": str(self.units),
            "activation": str(self.activation),
            "init": str(self.init),
            "bias": str(int(self.bias)),
            **(
                {"bias_init": str(self.bias_init)} if self.bias and self.bias_init.name != "zeros" else {}
            ),  # zeros: the default beside init=
            "frozen": str(int(self.frozen)),
            **numbers_of(self.kind, self.settings),
        }

    def rate(self, tensor: str) -> float:
        """The factor of the learning rate for "weight" or "bias"."""
        own = tensor == "bias" and self.settings["bias_lr"] >= 0
        return self.settings["bias_lr" if own else "lr"]


@dataclass
class Embedding(Layer):
    """A table (levels, units): ids name its rows, which are put side by side, or added."""

    kind = "embedding"
    sums: bool = False

    def attributes(self) -> dict[str, str]:
        combine = "sum" if self.sums else "concat"
        words = {"units": str(self.units), "combine": combine, "init": str(self.init), "frozen": str(int(self.frozen))}
        return {**words, **numbers_of(self.kind, self.settings)}

    def rate(self, tensor: str) -> float:
        return self.settings["lr"]


GATES = {"tanh": 1, "gru": 3, "lstm": 4}  # of a cell: as many parts of `units` columns has the weight


@dataclass
class Recurrent(Layer):
    """A recurrent layer: the first rows of the weight are those of x, the others those of the state h."""

    kind = "recurrent"
    cell: str = "gru"
    recurrent_init: Spec = field(default_factory=lambda: Spec.parse("initializer", "orthogonal"))

    @property
    def shape(self) -> tuple[int, int]:
        return self.inputs + self.units, GATES[self.cell] * self.units

    @property
    def biases(self) -> int:
        """Those of a gru have a fourth part: the bias of h in n."""
        return (4 if self.cell == "gru" else GATES[self.cell]) * self.units

    @property
    def state(self) -> int:
        """The numbers of its state."""
        return self.units * (2 if self.cell == "lstm" else 1)

    def attributes(self) -> dict[str, str]:
        words = {"units": str(self.units), "cell": self.cell, "init": str(self.init), "recurrent_init": str(self.recurrent_init)}
        words |= {"bias": str(int(self.bias)), **({"bias_init": str(self.bias_init)} if self.bias else {})}
        return {**words, "frozen": str(int(self.frozen)), **numbers_of(self.kind, self.settings)}


@dataclass
class Norm:
    """A batch_norm or layer_norm: a scale and a shift for each of `units` columns. batch_norm also has running statistics."""

    gain = bias = True
    kind: str
    name: str
    units: int
    settings: dict[str, float]
    frozen: bool = False

    @property
    def inputs(self) -> int:
        return self.units

    @property
    def biases(self) -> int:
        return self.units

    @property
    def statistics(self) -> tuple[str, ...]:
        """The names of its buffers."""
        return _STATISTICS.get(self.kind, ())

    def attributes(self) -> dict[str, str]:
        return {"frozen": str(int(self.frozen)), **numbers_of(self.kind, self.settings)}

    def rate(self, tensor: str) -> float:
        return self.settings["lr"]


@dataclass
class Scale(Norm):
    """A factor and an addend for each of `units` columns, or one of the two."""

    gain: bool = True
    bias: bool = True

    def attributes(self) -> dict[str, str]:
        return {"gain": str(int(self.gain)), "bias": str(int(self.bias)), **super().attributes()}


class Standardize(Norm):
    """The mean and the standard deviation of each of `units` columns."""

    gain = bias = False


def record_of(layer: Layer | Norm) -> tuple[Any, ...]:
    """A layer as Net.layers describes it."""
    formulas = ("", "", "")
    if isinstance(layer, Layer):
        formulas = ("" if layer.kind == "recurrent" else str(layer.activation), str(layer.init), str(layer.bias_init) if layer.bias else "")
    flags, sums = (layer.gain, layer.bias, layer.frozen), isinstance(layer, Embedding) and layer.sums
    cell = (layer.cell, str(layer.recurrent_init)) if isinstance(layer, Recurrent) else ("", "")
    return (layer.name, layer.kind, layer.inputs, layer.units, *formulas, *flags, dict(layer.settings), sums, *cell)


@dataclass(frozen=True)
class Tensor:
    """The place of a weight, bias or running statistic in its flat vector. A dense layer's weight is (inputs, units); all other tensors
    have 1 row."""

    layer: str
    name: str
    offset: int
    rows: int
    cols: int
    is_matrix: bool = False  # the weight of a dense layer or an embedding, on which weight decay acts
    is_table: bool = False  # that of an embedding

    @property
    def place(self) -> slice:
        return slice(self.offset, self.offset + self.rows * self.cols)

    @property
    def saved(self) -> list[slice]:
        """The places in the order of a file: unit by unit; an embedding as it is."""
        return [self.place] if self.is_table else [slice(self.offset + unit, self.place.stop, self.cols) for unit in range(self.cols)]


def layout(layers: Collection[Any]) -> list[Tensor]:
    """The tensors, layer by layer. The flat vector has the weights of dense layers first, then all biases and scales."""
    found: dict[str, list[Tensor]] = {layer.name: [] for layer in layers}
    end = 0

    def place(layer: str, name: str, rows: int, cols: int, **kind: bool) -> None:
        nonlocal end
        found[layer].append(Tensor(layer, name, end, rows, cols, **kind))
        end += rows * cols

    for layer in layers:
        if isinstance(layer, Layer):
            place(layer.name, "weight", *layer.shape, is_matrix=True, is_table=layer.kind == "embedding")
    for layer in layers:
        if not isinstance(layer, Layer) and layer.gain:
            place(layer.name, "weight", 1, layer.units)
        if layer.bias:
            place(layer.name, "bias", 1, layer.biases)
    return [tensor for tensors in found.values() for tensor in tensors]


def buffer_layout(layers: Collection[Any]) -> list[Tensor]:
    """The running statistics, layer by layer."""
    tensors: list[Tensor] = []
    for layer in layers:
        for name in layer.statistics:
            tensors.append(Tensor(layer.name, name, tensors[-1].place.stop if tensors else 0, 1, layer.units))
    return tensors
