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
    grid A height=H width=W                                       (the numbers of a row as H x W positions; 1 x 1: as one)
    window A size=HxW stride=HxW pad=HxW dilation=HxW             (the positions around each one, side by side; 0 outside)
    pool A size=HxW stride=HxW kind=max|mean
    repeat A times=T  |  last A                                   (one position T times; the last of several)
    recurrent A layer=NAME units=N cell=tanh|gru|lstm init=SPEC recurrent_init=SPEC bias=0|1 bias_init=SPEC frozen=0|1 lr=1 l1=0 l2=0
              max_norm=0 bias_lr=... reverse=0|1 state=B          (or: recurrent A layer=NAME reverse=0|1 state=B)
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
from .layers import GATES, SETTINGS, Embedding, Layer, Norm, Recurrent, Scale, Standardize, numbers_of, values_of
from .positions.window import LARGEST, Pair, Window, check_size, common_grid, placed, read_pool, read_window
from .spec import (
    BLANKS,
    INTEGER,
    Spec,
    check_no_bias,
    exactly,
    number_text,
    read_flag,
    read_initializers,
    read_scale,
    read_settings,
    read_width,
    unknown,
)

NODES_MAX = 2**14
_TERM = re.compile(r"(?:\([^)]*(?:\)|$)|[^ \t\r(])+")  # a word; blanks between "(" and ")" are part of it
_NAME = re.compile(r"[A-Za-z0-9_-]{1,63}")
_SHAPING = (
    "input",
    "ids",
    "grid",
    "window",
    "pool",
    "repeat",
    "last",
    "recurrent",
)  # statements whose nodes do not have the positions of their operands


@dataclass
class Node:
    """kind: the first word of the statement. width: the columns of a position. operands: the numbers of earlier nodes. layer: of dense,
    embedding, norms and scale. activation: of an activation node. settings: of ids, dropout, noise and slices. grid: the height and the
    width of its positions. window: of a window or a pool."""

    kind: str
    width: int
    operands: list[int]
    layer: Layer | Norm | None = None
    activation: Spec | None = None
    settings: dict[str, float] = field(default_factory=dict)
    is_output: bool = False
    of_ids: bool = False  # of an embedding: whether ids name its rows
    grid: Pair = (1, 1)
    window: Window | None = None
    reverse: bool = False  # of a recurrent node

    @property
    def is_input(self) -> bool:
        return self.kind in ("input", "ids")

    @property
    def levels(self) -> int:
        """The levels of ids, and the columns of other nodes: what an embedding needs."""
        return int(self.settings["levels"]) if self.kind == "ids" else self.width

    @property
    def positions(self) -> int:
        """How many positions a row has."""
        return self.grid[0] * self.grid[1]

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
                words = words[:2] if node.kind == "recurrent" else words
                words.append(f"layer={node.layer.name}")
                if node.layer.name not in known:
                    words.extend(f"{key}={value}" for key, value in node.layer.attributes().items())
                known.add(node.layer.name)
            elif node.activation:
                words.append(str(node.activation))
            words.extend(f"{key}={value}" for key, value in numbers_of(node.kind, node.settings).items())
            if node.kind == "recurrent":
                words.extend([f"reverse={int(node.reverse)}", *(f"state={state}" for state in node.operands[1:])])
            words.extend(f"{key}={value}" for key, value in (node.window.attributes() if node.window else {}).items())
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
            "grid": self._grid,
            "window": self._window,
            "pool": self._window,
            "repeat": self._repeat,
            "last": self._last,
            "recurrent": self._recurrent,
            "output": self._output,
        }
        if word not in statements:
            raise unknown("unknown statement", word, list(statements))
        if word != "output" and len(self.nodes) == NODES_MAX:
            raise ValueError(f"a graph has at most {NODES_MAX} nodes")
        statements[word](word, *arguments)
        if word != "output" and word not in _SHAPING:
            self._share_positions(self.nodes[-1])

    def _share_positions(self, node: Node) -> None:
        """Gives a node the positions of its operands."""
        node.grid = common_grid(node.kind, {operand: self.nodes[operand].grid for operand in node.operands})
        check_size(node.kind, node.positions * node.width)

    def _input(self, word: str, *arguments: str) -> None:
        (width,) = exactly(arguments, 1)
        self.nodes.append(Node(word, read_width("the width of an input", width), []))

    def _ids(self, word: str, *arguments: str) -> None:
        first, *rest = arguments or [""]
        width = read_width("the number of columns of ids", first)
        if "levels" not in (given := read_settings(rest, tuple(SETTINGS[word].split()))):
            raise ValueError("ids needs levels=N, for the ids 0 to N - 1")
        values = values_of(word, given)
        for key in (key for key, value in values.items() if value % 1):
            raise ValueError(f"{key} must be a whole number")
        self.nodes.append(Node(word, width, [], settings=values))

    def _embedding(self, word: str, *arguments: str) -> None:
        a, given = self._settings(word, arguments, "layer", "units", "combine", "init", "frozen")
        operand, exists = self.nodes[a], given.get("layer") in self.layers
        layer = self._same_layer(given, a, word, operand.levels) if exists else self._new_embedding(given, operand.levels)
        if (width := layer.units * (operand.width if operand.kind == "ids" and not layer.sums else 1)) > LARGEST:
            raise ValueError(f"embedding has more than {LARGEST} columns")
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
        frozen = read_flag("frozen", given.get("frozen", "0"))
        layer = Embedding(name, levels, units, identity, drawn, zeros, False, frozen, values_of("embedding", given), combine == "sum")
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
        inits, bias = read_initializers(given, activation), read_flag("bias", given.get("bias", "1"))
        if not bias:
            check_no_bias(name, given)
        layer = Layer(
            name, inputs, units, activation, *inits, bias, read_flag("frozen", given.get("frozen", "0")), values_of("dense", given)
        )
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
        if width > LARGEST:
            raise ValueError(f"concat has more than {LARGEST} columns")
        self.nodes.append(Node(word, width, operands))

    def _slice(self, word: str, *arguments: str) -> None:
        a, given = self._settings(word, arguments)
        width, ends = self.nodes[a].width, values_of(word, given)
        if len(given) < 2:
            raise ValueError("slice needs from=F and to=T, for the columns F to T - 1")
        if not ends["from"] < ends["to"] <= width or any(end % 1 for end in ends.values()):
            found = " ".join(f"{key}={text}" for key, text in numbers_of(word, ends).items())
            hint = f"they must be whole numbers with 0 <= from < to <= {width}"
            raise ValueError(f"{found} is not a range of columns of node {a}: {hint}")
        self.nodes.append(Node(word, int(ends["to"] - ends["from"]), [a], settings=ends))

    def _grid(self, word: str, *arguments: str) -> None:
        a, given = self._settings(word, arguments)
        row, sizes = self.nodes[a].positions * self.nodes[a].width, values_of(word, given)
        if len(given) < 2:
            raise ValueError("grid needs height=H and width=W, for H x W positions")
        if any(size % 1 or size > LARGEST for size in sizes.values()) or row % int(sizes["height"] * sizes["width"]):
            found = " ".join(f"{key}={text}" for key, text in numbers_of(word, sizes).items())
            hint = f"they must be whole numbers whose product divides {row}, the numbers of a row"
            raise ValueError(f"{found} is not a grid of node {a}: {hint}")
        grid = int(sizes["height"]), int(sizes["width"])
        self.nodes.append(Node(word, row // (grid[0] * grid[1]), [a], settings=sizes, grid=grid))

    def _window(self, word: str, *arguments: str) -> None:
        a, given = self._settings(word, arguments, "size", "stride", *(["kind"] if word == "pool" else ["pad", "dilation"]))
        window, of = (read_pool if word == "pool" else read_window)(given), self.nodes[a]
        node = Node(word, of.width * (1 if window.kind else window.count), [a], grid=placed(window, of.grid, a), window=window)
        check_size(word, node.positions * node.width)
        self.nodes.append(node)

    def _repeat(self, word: str, *arguments: str) -> None:
        a, given = self._settings(word, arguments)
        times, of = values_of(word, given)["times"], self.nodes[a]
        if not given:
            raise ValueError("repeat needs times=T, for T positions")
        if times % 1 or times > LARGEST:
            raise ValueError(f"times is {number_text(times)}, but must be a whole number from 1 to {LARGEST}")
        if of.positions != 1:
            raise ValueError(f"repeat needs a node of 1 position, but node {a} has {of.positions}")
        check_size(word, times * of.width)
        self.nodes.append(Node(word, of.width, [a], settings={"times": times}, grid=(1, int(times))))

    def _last(self, word: str, *arguments: str) -> None:
        (a,) = exactly(arguments, 1)
        node = self._node(a)
        self.nodes.append(Node(word, self.nodes[node].width, [node]))

    def _recurrent(self, word: str, *arguments: str) -> None:
        texts = ("layer", "units", "cell", "init", "bias", "bias_init", "frozen", "recurrent_init", "reverse", "state")
        a, given = self._settings(word, arguments, *texts)
        own = {key: given.pop(key) for key in ("reverse", "state") if key in given}
        exists = given.get("layer") in self.layers
        layer = self._same_layer(given, a, word, self.nodes[a].width) if exists else self._new_recurrent(given, self.nodes[a].width)
        reverse, states = read_flag("reverse", own.get("reverse", "0")), [self._node(own["state"])] if "state" in own else []
        for state in states:
            if (found := self.nodes[state]).positions != 1 or found.width != layer.state:
                columns = f"{layer.state} column{'s' * (layer.state != 1)}{' (h, then c)' * (layer.cell == 'lstm')}"
                raise ValueError(
                    f"the state of layer {layer.name} has 1 position of {columns}, but node {state} has {found.positions} of {found.width}"
                )
        node = Node(word, layer.units, [a, *states], layer=layer, grid=self.nodes[a].grid, reverse=reverse)
        check_size(word, node.positions * node.width)
        self.nodes.append(node)

    def _new_recurrent(self, given: dict[str, str], inputs: int) -> Recurrent:
        name = self._new_name(given, "recurrent")
        if "units" not in given:
            raise ValueError(f"the new layer {name} needs units=N")
        units, cell = read_width("units", given["units"]), given.get("cell", "gru")
        if cell not in GATES:
            raise ValueError(f'cell must be tanh, gru or lstm, not "{cell}"')
        usual = {"init": "glorot_uniform", "recurrent_init": "orthogonal", "bias_init": "zeros"}
        specs = {key: Spec.parse("initializer", name if given.get(key, "auto") == "auto" else given[key]) for key, name in usual.items()}
        bias = read_flag("bias", given.get("bias", "1"))
        if not bias:
            check_no_bias(name, given)
        frozen, identity = read_flag("frozen", given.get("frozen", "0")), Spec.parse("activation", "identity")
        if 4 * units + inputs > LARGEST:
            raise ValueError(f"recurrent has more than {LARGEST} columns of weights")
        first, inits = (name, inputs, units, identity), (specs["init"], specs["bias_init"])
        layer = Recurrent(*first, *inits, bias, frozen, values_of("recurrent", given), cell, specs["recurrent_init"])
        self._add_layer(layer)
        return layer

    def _setting(self, word: str, *arguments: str) -> None:
        a, given = self._settings(word, arguments)
        self.nodes.append(Node(word, self.nodes[a].width, [a], settings=values_of(word, given)))

    def _norm(self, word: str, *arguments: str) -> None:
        a, given = self._settings(word, arguments, "layer", *(["gain", "bias"] if word == "scale" else []), "frozen")
        width = self.nodes[a].width
        exists = given.get("layer") in self.layers
        layer = self._same_layer(given, a, word, width) if exists else self._new_norm(word, given, width)
        self.nodes.append(Node(word, width, [a], layer=layer))

    def _new_norm(self, word: str, given: dict[str, str], width: int) -> Norm:
        name = self._new_name(given, word)
        flags = {key: read_flag(key, given.get(key, "1")) for key in ("gain", "bias") if word == "scale"}
        frozen = read_flag("frozen", given.get("frozen", "0"))
        if flags and not any(flags.values()):
            raise ValueError(f"layer {name} has neither a gain nor a bias: set gain=1 or bias=1")
        kinds = {"scale": Scale, "standardize": Standardize}
        layer = kinds.get(word, Norm)(word, name, width, values_of(word, given), frozen, **flags)
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
        if self.nodes[node].positions > 1 and {"mean", "std"} & set(given):
            raise ValueError(f"output {len(self.outputs)} has several positions, so it cannot have mean and std")
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
