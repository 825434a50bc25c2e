"""Reads and writes the graph text. One statement per line; nodes are numbered in the order of their lines:

    input WIDTH  |  ids COLUMNS levels=N hash=0|1
    dense A layer=NAME units=N activation=SPEC init=SPEC bias=0|1 bias_init=SPEC frozen=0|1 lr=1 l1=0 l2=0 max_norm=0 bias_lr=...
                                                                  (or: dense A layer=NAME, to use a layer again)
    embedding A layer=NAME units=N combine=concat|sum init=SPEC frozen=0|1 lr=1 max_norm=0
    activation A SPEC
    add A B ...  |  subtract A B  |  multiply A B
    concat A B ...  |  slice A from=F to=T
    dropout A rate=0.5  |  noise A std=0.1
    batch_norm A layer=NAME momentum=0.1 eps=1e-05 frozen=0|1
    layer_norm A layer=NAME eps=1e-05 frozen=0|1
    scale A layer=NAME gain=0|1 bias=0|1 frozen=0|1 lr=1
    standardize A layer=NAME frozen=0|1
    output A activation=NAME                                      (or: output A, if no activation is chosen yet)
    output A activation=identity mean=(...) std=(...)             (one number per column: the unit of the targets)

Operands (A, B) are nodes of earlier lines, so there are no cycles and the order of the lines is a topological order.
"""

from __future__ import annotations

import re
from array import array
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from .autodiff import Matrix
from .spec import (
    BLANKS,
    INTEGER,
    LARGEST_WIDTH,
    Spec,
    check_parameter,
    exactly,
    flag,
    number_text,
    parameters,
    parse_number,
    read_initializers,
    read_scale,
    read_settings,
    read_width,
    unknown,
)

NODES_MAX = 2**14
_TERM = re.compile(r"(?:\([^)]*(?:\)|$)|[^ \t\r(])+")  # a word; blanks between "(" and ")" are part of it
_NAME = re.compile(r"[A-Za-z0-9_-]{1,63}")
# The settings of layers, ids, dropout, noise and slices, as texts. A dense layer: lr is a factor of the learning rate, l1 and l2 are
# penalties of the weights, max_norm is the largest norm of a unit's weights (0: no limit), bias_lr is lr for the bias. A default out of its
# interval means that the setting is not given (bias_lr: the same as lr). It is not written then.
SETTINGS = {
    "ids": "levels=-1[1,2147483647] hash=0[0,1]",
    "embedding": "lr=1[0,inf) max_norm=0[0,inf)",
    "dense": "lr=1[0,inf) l1=0[0,inf) l2=0[0,inf) max_norm=0[0,inf) bias_lr=-1[0,inf)",
    "dropout": "rate=0.5[0,1)",
    "noise": "std=0.1[0,inf)",
    "batch_norm": "lr=1[0,inf) eps=1e-05(0,inf) momentum=0.1[0,1]",
    "layer_norm": "lr=1[0,inf) eps=1e-05(0,inf)",
    "scale": "lr=1[0,inf)",
    "standardize": "",
    "slice": "from=-1[0,inf) to=-1[0,inf)",
}


_STATISTICS = {"batch_norm": ("running_mean", "running_var"), "standardize": ("mean", "std")}


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
            **_numbers(self.kind, self.settings),
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
        return {**words, **_numbers(self.kind, self.settings)}

    def rate(self, tensor: str) -> float:
        return self.settings["lr"]


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
    def statistics(self) -> tuple[str, ...]:
        """The names of its buffers."""
        return _STATISTICS.get(self.kind, ())

    def attributes(self) -> dict[str, str]:
        return {"frozen": str(int(self.frozen)), **_numbers(self.kind, self.settings)}

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


@dataclass
class Node:
    """kind: the first word of the statement. operands: the numbers of earlier nodes. layer: of dense, embedding, norms and
    scale. activation: of an activation node. settings: of ids, dropout, noise and slices."""

    kind: str
    width: int
    operands: list[int]
    layer: Layer | Norm | None = None
    activation: Spec | None = None
    settings: dict[str, float] = field(default_factory=dict)
    is_output: bool = False
    of_ids: bool = False  # of an embedding: whether ids name its rows

    @property
    def is_input(self) -> bool:
        return self.kind in ("input", "ids")

    @property
    def levels(self) -> int:
        """The levels of ids, and the columns of other nodes: what an embedding needs."""
        return int(self.settings["levels"]) if self.kind == "ids" else self.width

    @property
    def columns(self) -> tuple[int, int]:
        """The columns `first` to `end` - 1 of the operand, if it is a slice; others: (0, 0)."""
        return int(self.settings.get("from", 0)), int(self.settings.get("to", 0))


@dataclass
class Output:
    """scale: the means and the standard deviations of the columns' targets; None: predictions are the raw outputs of the activation."""

    node: int
    activation: str | None  # None: not chosen
    scale: tuple[list[float], list[float]] | None = None

    def text(self) -> str:
        activation = "" if self.activation is None else f" activation={self.activation}"
        lists = zip(("mean", "std"), self.scale or ())
        return f"output {self.node}{activation}" + "".join(f" {key}=({' '.join(map(number_text, values))})" for key, values in lists)

    def check(self, i: int, loss: Spec) -> None:
        """Raises ValueError if output i cannot have this loss: it implies another activation, or does not take scaled targets."""
        implied, targets = loss.entry.detail, loss.entry.targets
        if self.activation not in (None, implied):
            raise ValueError(
                f"output {i} has the activation {self.activation}, but the loss {loss.name} needs {implied}; to change it, call "
                f'net.set_output({i}, "{implied}")'
            )
        if self.scale and targets != "(-inf,inf)":
            raise ValueError(
                f"output {i} scales its targets, but the loss {loss.name} needs values in {'{-1, 1}' if targets == 'SIGNS' else targets}; "
                f'to remove its mean and std, call net.set_output({i}, "identity")'
            )

    def scaled(self, targets: Matrix, format: str) -> Matrix:
        """The targets that a loss reads: (target - mean) / std."""
        if not self.scale:
            return targets
        rows = [[(t - mean) / std for t, mean, std in zip(row, *self.scale)] for row in targets.row_list()]
        return Matrix(targets.rows, targets.cols, array(format, [value for row in rows for value in row]).tolist())

    def unscaled(self, values: Matrix) -> Matrix:
        """The values in the unit of the targets."""
        if not self.scale:
            return values
        rows = [[value * std + mean for value, mean, std in zip(row, *self.scale)] for row in values.row_list()]
        return Matrix(values.rows, values.cols, [value for row in rows for value in row])


@dataclass
class Graph:
    """Nodes in order, layers by name in the order of their first use, outputs. counts: the number of layers of each kind."""

    nodes: list[Node] = field(default_factory=list)
    layers: dict[str, Layer | Norm] = field(default_factory=dict)
    outputs: list[Output] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    @classmethod
    def parse(cls, text: str) -> Graph:
        graph = cls()
        for number, line in enumerate(text.split("\n"), 1):
            words = [word.rstrip(BLANKS) for word in _TERM.findall(line)]
            if words and not words[0].startswith("#"):
                try:
                    graph._statement(*words)
                except ValueError as error:
                    raise ValueError(f"graph line {number}: {error}") from None
        if not graph.outputs:
            raise ValueError('the graph has no output: add a line "output N", where N is the number of a node')
        return graph

    @property
    def inputs(self) -> list[Node]:
        return [node for node in self.nodes if node.is_input]

    def text(self) -> str:
        """The canonical text: every attribute written out, outputs last."""
        return "".join(f"{line}\n" for line in self._lines())

    def _lines(self) -> Iterator[str]:
        known: set[str] = set()
        for node in self.nodes:
            words = [node.kind, *map(str, node.operands)]
            if node.is_input:
                words.append(str(node.width))
            elif node.layer:
                words.append(f"layer={node.layer.name}")
                if node.layer.name not in known:
                    words.extend(f"{key}={value}" for key, value in node.layer.attributes().items())
                known.add(node.layer.name)
            elif node.activation:
                words.append(str(node.activation))
            words.extend(f"{key}={value}" for key, value in _numbers(node.kind, node.settings).items())
            yield " ".join(words)
        for output in self.outputs:
            yield output.text()

    # ---- one method for each statement ----

    def _statement(self, word: str, *arguments: str) -> None:
        statements: dict[str, Callable[..., None]] = {
            "input": self._input,
            "ids": self._ids,
            "dense": self._dense,
            "embedding": self._embedding,
            "activation": self._activation,
            "add": self._elementwise,
            "subtract": self._elementwise,
            "multiply": self._elementwise,
            "concat": self._concat,
            "slice": self._slice,
            "dropout": self._setting,
            "noise": self._setting,
            "batch_norm": self._norm,
            "layer_norm": self._norm,
            "scale": self._norm,
            "standardize": self._norm,
            "output": self._output,
        }
        if word not in statements:
            raise unknown("unknown statement", word, list(statements))
        if word != "output" and len(self.nodes) == NODES_MAX:
            raise ValueError(f"a graph has at most {NODES_MAX} nodes")
        statements[word](word, *arguments)

    def _input(self, word: str, *arguments: str) -> None:
        (width,) = exactly(arguments, 1)
        self.nodes.append(Node(word, read_width("the width of an input", width), []))

    def _ids(self, word: str, *arguments: str) -> None:
        first, *rest = arguments or [""]
        width = read_width("the number of columns of ids", first)
        if "levels" not in (given := read_settings(rest, tuple(SETTINGS[word].split()))):
            raise ValueError("ids needs levels=N, for the ids 0 to N - 1")
        values = _values(word, given)
        for key in (key for key, value in values.items() if value % 1):
            raise ValueError(f"{key} must be a whole number")
        self.nodes.append(Node(word, width, [], settings=values))

    def _embedding(self, word: str, *arguments: str) -> None:
        a, given = self._settings(word, arguments, "layer", "units", "combine", "init", "frozen")
        operand, exists = self.nodes[a], given.get("layer") in self.layers
        layer = self._same_layer(given, a, word, operand.levels) if exists else self._new_embedding(given, operand.levels)
        if (width := layer.units * (operand.width if operand.kind == "ids" and not layer.sums else 1)) > LARGEST_WIDTH:
            raise ValueError(f"embedding has more than {LARGEST_WIDTH} columns")
        self.nodes.append(Node(word, width, [a], layer=layer, of_ids=operand.kind == "ids"))

    def _new_embedding(self, given: dict[str, str], levels: int) -> Embedding:
        name = self._new_name(given, "embedding")
        if "units" not in given:
            raise ValueError(f"the new layer {name} needs units=N")
        units, combine, init = read_width("units", given["units"]), given.get("combine", "concat"), given.get("init", "auto")
        if combine not in ("concat", "sum"):
            raise ValueError(f'combine must be concat or sum, not "{combine}"')
        identity = Spec.parse("activation", "identity")
        drawn, zeros = (Spec.parse("initializer", one) for one in ("normal" if init == "auto" else init, "zeros"))
        frozen = flag("frozen", given.get("frozen", "0"))
        layer = Embedding(name, levels, units, identity, drawn, zeros, False, frozen, _values("embedding", given), combine == "sum")
        self._add_layer(layer)
        return layer

    def _dense(self, word: str, *arguments: str) -> None:
        a, given = self._settings(word, arguments, "layer", "units", "activation", "init", "bias", "bias_init", "frozen")
        exists = given.get("layer") in self.layers
        layer = self._same_layer(given, a, word, self.nodes[a].width) if exists else self._new_layer(given, self.nodes[a].width)
        self.nodes.append(Node(word, layer.units, [a], layer=layer))

    def _new_layer(self, given: dict[str, str], inputs: int) -> Layer:
        name = self._new_name(given, "dense")
        if "units" not in given:
            raise ValueError(f"the new layer {name} needs units=N")
        units = read_width("units", given["units"])
        activation = Spec.parse("activation", given.get("activation", "identity"))
        inits, bias = read_initializers(given, activation), flag("bias", given.get("bias", "1"))
        if not bias:
            _check_no_bias(name, given)
        layer = Layer(name, inputs, units, activation, *inits, bias, flag("frozen", given.get("frozen", "0")), _values("dense", given))
        self._add_layer(layer)
        return layer

    def _add_layer(self, layer: Layer | Norm) -> None:
        self.layers[layer.name] = layer
        self.counts[layer.kind] += 1

    def _new_name(self, given: dict[str, str], kind: str) -> str:
        """The given name; without one, the kind and the number of layers of this kind so far."""
        name = given.get("layer", f"{kind}_{self.counts[kind]}")
        if not _NAME.fullmatch(name):
            raise ValueError(f'"{name}" is not a valid layer name: use 1 to 63 letters, digits, _ and -')
        if name in self.layers:
            raise ValueError(f"the name {name} is already used by another layer: choose another name (layer=NAME)")
        return name

    def _same_layer(self, given: dict[str, str], a: int, kind: str, inputs: int) -> Layer | Norm:
        """The existing layer with the given name, to use it on node a too. inputs: the columns of node a, or the levels of its ids."""
        layer = self.layers[given["layer"]]
        if layer.kind != kind:
            raise ValueError(f"layer {layer.name} is a {layer.kind} layer: choose another name (layer=NAME)")
        for key in given:
            if key != "layer":
                hint = f"remove {key}= to use it again, or choose another name (layer=NAME)"
                raise ValueError(f"layer {layer.name} already exists: {hint}")
        if layer.inputs != inputs:
            verb, noun = ("has", "level") if kind == "embedding" else ("takes", "column")
            raise ValueError(f"layer {layer.name} {verb} {layer.inputs} {noun}{'s' * (layer.inputs != 1)}, but node {a} has {inputs}")
        return layer

    def _activation(self, word: str, *arguments: str) -> None:
        a, spec = exactly(arguments, 2)
        node = self._node(a)
        self.nodes.append(Node(word, self.nodes[node].width, [node], activation=Spec.parse("activation", spec)))

    def _elementwise(self, word: str, *arguments: str) -> None:
        given = arguments + ("",) * (2 - len(arguments)) if word == "add" else exactly(arguments, 2)
        operands = [self._node(argument) for argument in given]
        widths = [self.nodes[node].width for node in operands]
        for operand, width in zip(operands, widths):
            if width != widths[0]:
                found = f"node {operands[0]} has {widths[0]} columns and node {operand} has {width}"
                raise ValueError(f"{word} needs operands of the same width, but {found}")
        self.nodes.append(Node(word, widths[0], operands))

    def _concat(self, word: str, *arguments: str) -> None:
        operands = [self._node(argument) for argument in arguments or [""]]
        width = sum(self.nodes[i].width for i in operands)
        if width > LARGEST_WIDTH:
            raise ValueError(f"concat has more than {LARGEST_WIDTH} columns")
        self.nodes.append(Node(word, width, operands))

    def _slice(self, word: str, *arguments: str) -> None:
        a, given = self._settings(word, arguments)
        width, ends = self.nodes[a].width, _values(word, given)
        if len(given) < 2:
            raise ValueError("slice needs from=F and to=T, for the columns F to T - 1")
        if not ends["from"] < ends["to"] <= width or any(end % 1 for end in ends.values()):
            found = " ".join(f"{key}={text}" for key, text in _numbers(word, ends).items())
            hint = f"they must be whole numbers with 0 <= from < to <= {width}"
            raise ValueError(f"{found} is not a range of columns of node {a}: {hint}")
        self.nodes.append(Node(word, int(ends["to"] - ends["from"]), [a], settings=ends))

    def _setting(self, word: str, *arguments: str) -> None:
        a, given = self._settings(word, arguments)
        self.nodes.append(Node(word, self.nodes[a].width, [a], settings=_values(word, given)))

    def _norm(self, word: str, *arguments: str) -> None:
        a, given = self._settings(word, arguments, "layer", *(["gain", "bias"] if word == "scale" else []), "frozen")
        width = self.nodes[a].width
        exists = given.get("layer") in self.layers
        layer = self._same_layer(given, a, word, width) if exists else self._new_norm(word, given, width)
        self.nodes.append(Node(word, width, [a], layer=layer))

    def _new_norm(self, word: str, given: dict[str, str], width: int) -> Norm:
        name = self._new_name(given, word)
        flags = {key: flag(key, given.get(key, "1")) for key in ("gain", "bias") if word == "scale"}
        frozen = flag("frozen", given.get("frozen", "0"))
        if flags and not any(flags.values()):
            raise ValueError(f"layer {name} has neither a gain nor a bias: set gain=1 or bias=1")
        kinds = {"scale": Scale, "standardize": Standardize}
        layer = kinds.get(word, Norm)(word, name, width, _values(word, given), frozen, **flags)
        self._add_layer(layer)
        return layer

    def _settings(self, word: str, arguments: tuple[str, ...], *more: str) -> tuple[int, dict[str, str]]:
        """The operand, and the settings after it. more: keys with a text value."""
        first, *rest = arguments or [""]
        return self._node(first, word), read_settings(rest, (*more, *SETTINGS[word].split()))

    def _output(self, word: str, *arguments: str) -> None:
        first, *rest = arguments or [""]
        node = self._node(first)
        if self.nodes[node].is_output:
            raise ValueError(f"node {node} is already an output")
        self.nodes[node].is_output = True
        given = read_settings(rest, ("activation", "mean", "std"))
        activation = None if "activation" not in given else Spec.parse("output_activation", given["activation"]).name
        self.outputs.append(Output(node, activation, read_scale(given, activation, self.nodes[node].width)))

    def _node(self, text: str, word: str = "") -> int:
        if not text:
            raise ValueError("the number of an earlier node is missing")
        if not INTEGER.fullmatch(text):
            raise ValueError(f'expected the number of an earlier node, not "{text}"')
        if int(text) >= len(self.nodes):
            hint = f"the last is node {len(self.nodes) - 1}" if self.nodes else "start with an input"
            raise ValueError(f"there is no node {int(text)} before this line: {hint}")
        if self.nodes[int(text)].kind == "ids" and word != "embedding":
            raise ValueError(f'node {int(text)} has ids, which only embeddings read: write "embedding {int(text)} units=N"')
        return int(text)


def _check_no_bias(name: str, given: dict[str, str]) -> None:
    """A layer without a bias must not have settings of it."""
    for key in ("bias_lr", "bias_init"):
        if given.get(key, "auto") != "auto":
            raise ValueError(f"layer {name} has no bias: remove {key}=, or set bias=1")


def _values(word: str, given: dict[str, str]) -> dict[str, float]:
    """All numeric settings of the statement, with the defaults of those that are not given."""
    text = SETTINGS[word]
    return {
        key: check_parameter(text, key, parse_number(given[key], key)) if key in given else default
        for key, (default, _) in parameters(text).items()
    }


def _numbers(word: str, values: dict[str, float]) -> dict[str, str]:
    """The numeric settings as text, without those that are not given."""
    known = parameters(SETTINGS[word]) if values else {}
    return {key: number_text(value) for key, value in values.items() if value in known[key][1]}
