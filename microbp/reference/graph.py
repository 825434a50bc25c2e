"""The graph text, read and written. One statement per line; nodes are numbered in the order of their lines:

    input WIDTH
    dense A layer=NAME units=N activation=SPEC init=SPEC bias=0|1 frozen=0|1 lr=1 l1=0 l2=0 max_norm=0
                                                                  (or: dense A layer=NAME, to use a layer again)
    activation A SPEC
    add A B  |  multiply A B
    concat A B ...
    dropout A rate=0.5  |  noise A std=0.1
    batch_norm A layer=NAME momentum=0.1 eps=1e-05 frozen=0|1
    layer_norm A layer=NAME eps=1e-05 frozen=0|1
    output A activation=NAME                                      (or: output A, while the activation is not chosen)

A statement names only nodes of earlier lines, so there are no cycles and the order of the lines is a topological order.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from .spec import Spec, check_parameter, number_text, parameters, parse_number

NODES_MAX = 2**14
_NAME = re.compile(r"[A-Za-z0-9_-]{1,63}")
_LARGEST_WIDTH = 2**31 - 1
# Of layers, and of other statements of one operand, as parameter texts. Of a dense layer: a factor of the learning rate, penalties of its
# weights, and the largest norm of a unit's (0: none).
SETTINGS = {
    "dense": "lr=1[0,inf) l1=0[0,inf) l2=0[0,inf) max_norm=0[0,inf)",
    "dropout": "rate=0.5[0,1)",
    "noise": "std=0.1[0,inf)",
    "batch_norm": "lr=1[0,inf) eps=1e-05(0,inf) momentum=0.1[0,1]",
    "layer_norm": "lr=1[0,inf) eps=1e-05(0,inf)",
}


@dataclass
class Layer:
    """A dense layer: a weight (inputs, units), perhaps a bias, and what its nodes do with them."""

    kind = "dense"

    name: str
    inputs: int
    units: int
    activation: Spec
    init: Spec
    bias: bool = True
    frozen: bool = False
    settings: dict[str, float] = field(default_factory=dict)

    def attributes(self) -> dict[str, str]:
        return {
            "units": str(self.units),
            "activation": str(self.activation),
            "init": str(self.init),
            "bias": str(int(self.bias)),
            "frozen": str(int(self.frozen)),
            **{key: number_text(value) for key, value in self.settings.items()},
        }


@dataclass
class Norm:
    """A batch_norm or layer_norm: scale and shift of `units` columns; batch_norm has running statistics too."""

    kind: str
    name: str
    units: int
    settings: dict[str, float]
    frozen: bool = False

    @property
    def inputs(self) -> int:
        return self.units

    def attributes(self) -> dict[str, str]:
        return {"frozen": str(int(self.frozen)), **{key: number_text(value) for key, value in self.settings.items()}}


@dataclass
class Node:
    """kind: the statement's first word; operands: ids of earlier nodes; layer of a dense, activation of an activation node; settings of
    dropout and noise."""

    kind: str
    width: int
    operands: list[int]
    layer: Layer | Norm | None = None
    activation: Spec | None = None
    settings: dict[str, float] = field(default_factory=dict)


@dataclass
class Output:
    node: int
    activation: str | None  # None: not chosen


@dataclass
class Graph:
    """Nodes in order, layers by name in the order of their first use, outputs."""

    nodes: list[Node] = field(default_factory=list)
    layers: dict[str, Layer | Norm] = field(default_factory=dict)
    outputs: list[Output] = field(default_factory=list)

    @classmethod
    def parse(cls, text: str) -> Graph:
        graph = cls()
        for number, line in enumerate(text.split("\n"), 1):
            words = line.split()
            if words and not words[0].startswith("#"):
                try:
                    graph._statement(*words)
                except ValueError as error:
                    raise ValueError(f"graph line {number}: {error}") from None
        if not graph.outputs:
            raise ValueError('the graph has no output: end it with a line "output N", N a node\'s number')
        return graph

    @property
    def inputs(self) -> list[Node]:
        return [node for node in self.nodes if node.kind == "input"]

    def text(self) -> str:
        """The canonical text: every attribute written out, outputs last."""
        return "".join(f"{line}\n" for line in self._lines())

    def _lines(self) -> Iterator[str]:
        known: set[str] = set()
        for node in self.nodes:
            words = [node.kind, *map(str, node.operands)]
            if node.kind == "input":
                words.append(str(node.width))
            elif node.layer:
                words.append(f"layer={node.layer.name}")
                if node.layer.name not in known:
                    words.extend(f"{key}={value}" for key, value in node.layer.attributes().items())
                known.add(node.layer.name)
            elif node.activation:
                words.append(str(node.activation))
            words.extend(f"{key}={number_text(value)}" for key, value in node.settings.items())
            yield " ".join(words)
        for output in self.outputs:
            yield f"output {output.node}" if output.activation is None else f"output {output.node} activation={output.activation}"

    # ---- one method per statement ----

    def _statement(self, word: str, *arguments: str) -> None:
        statements: dict[str, Callable[..., None]] = {
            "input": self._input,
            "dense": self._dense,
            "activation": self._activation,
            "add": self._elementwise,
            "multiply": self._elementwise,
            "concat": self._concat,
            "dropout": self._setting,
            "noise": self._setting,
            "batch_norm": self._norm,
            "layer_norm": self._norm,
            "output": self._output,
        }
        if word not in statements:
            raise ValueError(f'unknown statement "{word}"; there are: {", ".join(statements)}')
        if word != "output" and len(self.nodes) == NODES_MAX:
            raise ValueError(f"a graph has at most {NODES_MAX} nodes")
        statements[word](word, *arguments)

    def _input(self, word: str, *arguments: str) -> None:
        (width,) = _exactly(arguments, "input WIDTH")
        self.nodes.append(Node(word, _width("WIDTH", width), []))

    def _dense(self, word: str, *arguments: str) -> None:
        if not arguments:
            raise ValueError("dense takes a node: dense NODE units=N")
        a = self._node(arguments[0])
        given = _attributes(arguments[1:], ("layer", "units", "activation", "init", "bias", "frozen", *parameters(SETTINGS[word])))
        if given.get("layer") in self.layers:
            layer = self._same_layer(given, self.nodes[a].width)
        else:
            layer = self._new_layer(given, self.nodes[a].width)
        self.nodes.append(Node(word, layer.units, [a], layer=layer))

    def _new_layer(self, given: dict[str, str], inputs: int) -> Layer:
        name = self._new_name(given, "dense")
        if "units" not in given:
            raise ValueError(f"layer {name} is new and needs units=N")
        activation = Spec.parse("activation", given.get("activation", "identity"))
        init = given.get("init", "auto")
        layer = Layer(
            name,
            inputs,
            _width("units", given["units"]),
            activation,
            Spec.parse("initializer", activation.entry.init if init == "auto" else init),
            _flag("bias", given.get("bias", "1")),
            _flag("frozen", given.get("frozen", "0")),
            _values("dense", given),
        )
        self.layers[name] = layer
        return layer

    def _new_name(self, given: dict[str, str], kind: str) -> str:
        """The given name, else that of the kind, counted."""
        name = given.get("layer", f"{kind}_{sum(layer.kind == kind for layer in self.layers.values())}")
        if not _NAME.fullmatch(name):
            raise ValueError(f'"{name}" is no layer name: use 1 to 63 letters, digits, _ and -')
        if name in self.layers:
            raise ValueError(f"the name {name} is taken: give this layer another one (layer=NAME)")
        return name

    def _same_layer(self, given: dict[str, str], inputs: int, kind: str = "dense") -> Layer | Norm:
        layer = self.layers[given["layer"]]
        if layer.kind != kind:
            raise ValueError(f"layer {layer.name} is a {layer.kind}: give this one another name (layer=NAME)")
        if layer.inputs != inputs:
            raise ValueError(f"layer {layer.name} takes {layer.inputs} features, but the node has {inputs}")
        if len(given) > 1:
            raise ValueError(f"layer {layer.name} exists already: give only its name to use it again")
        return layer

    def _activation(self, word: str, *arguments: str) -> None:
        a, spec = _exactly(arguments, "activation NODE SPEC")
        node = self._node(a)
        self.nodes.append(Node(word, self.nodes[node].width, [node], activation=Spec.parse("activation", spec)))

    def _elementwise(self, word: str, *arguments: str) -> None:
        a, b = map(self._node, _exactly(arguments, f"{word} NODE NODE"))
        if self.nodes[a].width != self.nodes[b].width:
            raise ValueError(f"{word} needs equal widths, but node {a} has {self.nodes[a].width} and node {b} has {self.nodes[b].width}")
        self.nodes.append(Node(word, self.nodes[a].width, [a, b]))

    def _concat(self, word: str, *arguments: str) -> None:
        operands = [self._node(argument) for argument in arguments]
        if not operands:
            raise ValueError("concat takes nodes: concat NODE NODE ...")
        self.nodes.append(Node(word, _width("the sum of the widths", str(sum(self.nodes[i].width for i in operands))), operands))

    def _setting(self, word: str, *arguments: str) -> None:
        a, given = self._settings(word, arguments)
        self.nodes.append(Node(word, self.nodes[a].width, [a], settings=_values(word, given)))

    def _norm(self, word: str, *arguments: str) -> None:
        a, given = self._settings(word, arguments, "layer", "frozen")
        width = self.nodes[a].width
        if given.get("layer") in self.layers:
            layer = self._same_layer(given, width, word)
        else:
            layer = Norm(word, self._new_name(given, word), width, _values(word, given), _flag("frozen", given.get("frozen", "0")))
            self.layers[layer.name] = layer
        self.nodes.append(Node(word, width, [a], layer=layer))

    def _settings(self, word: str, arguments: tuple[str, ...], *more: str) -> tuple[int, dict[str, str]]:
        """The operand, and what is given after it."""
        if not arguments:
            raise ValueError(f"{word} takes a node: {word} NODE")
        return self._node(arguments[0]), _attributes(arguments[1:], (*more, *parameters(SETTINGS[word])))

    def _output(self, word: str, *arguments: str) -> None:
        if not arguments:
            raise ValueError("output takes a node: output NODE")
        node = self._node(arguments[0])
        activation = _attributes(arguments[1:], ("activation",)).get("activation")
        if any(output.node == node for output in self.outputs):
            raise ValueError(f"node {node} is an output already")
        self.outputs.append(Output(node, None if activation is None else Spec.parse("output_activation", activation).name))

    def _node(self, text: str) -> int:
        node = _integer("a node", text)
        if node >= len(self.nodes):
            there = f"use one from 0 to {len(self.nodes) - 1}" if self.nodes else "start with an input"
            raise ValueError(f"there is no node {node} before this line: {there}")
        return node


def _values(word: str, given: dict[str, str]) -> dict[str, float]:
    """All settings of the statement, defaults filled in."""
    text = SETTINGS[word]
    return {
        key: check_parameter(text, key, parse_number(given[key])) if key in given else default
        for key, (default, _) in parameters(text).items()
    }


def _exactly(arguments: tuple[str, ...], form: str) -> tuple[str, ...]:
    if len(arguments) != len(form.split()) - 1:
        raise ValueError(f'"{form}" is the form, but there are {len(arguments)} arguments')
    return arguments


def _attributes(words: tuple[str, ...], known: tuple[str, ...]) -> dict[str, str]:
    found: dict[str, str] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if key not in known or not equals:
            raise ValueError(f'unknown attribute "{word}"; there are: {", ".join(f"{name}=" for name in known)}')
        if key in found:
            raise ValueError(f"{key}= is given twice")
        found[key] = value
    return found


def _integer(what: str, text: str) -> int:
    if not re.fullmatch("[0-9]{1,18}", text):
        raise ValueError(f'{what} is a whole number, not "{text}"')
    return int(text)


def _width(what: str, text: str) -> int:
    width = _integer(what, text)
    if not 1 <= width <= _LARGEST_WIDTH:
        raise ValueError(f"{what} must be from 1 to {_LARGEST_WIDTH}, not {width}")
    return width


def _flag(what: str, text: str) -> bool:
    if text not in ("0", "1"):
        raise ValueError(f'{what} is 0 or 1, not "{text}"')
    return text == "1"
