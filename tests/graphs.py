"""Graphs for tests: the important shapes, by name, and random ones."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
from cases import ACTIVATIONS, LONG, WIDTHS

import microbp as bp

Ends = tuple[list[bp.Node], list[bp.Node]]


# ---- shapes; widths below and above the size of a vector register ----


def chain(a: str) -> Ends:
    x = bp.Input(5)
    return [x], [bp.Dense(3)(bp.Dense(17, a)(bp.Dense(9, a)(x)))]


def narrow(a: str) -> Ends:
    x = bp.Input(33)
    return [x], [bp.Dense(2, bias=False)(bp.Dense(1, a)(x))]


def skip(a: str) -> Ends:
    x = bp.Input(4)
    h = bp.Dense(7, a)(x)
    return [x], [bp.Dense(3)(h + bp.Dense(7, a)(h) + bp.Dense(7)(x))]


def gate(a: str) -> Ends:
    x = bp.Input(6)
    return [x], [bp.Dense(8, a)(x) * bp.Dense(8, "sigmoid")(x)]


def beside(a: str) -> Ends:
    x = bp.Input(3)
    h, g = bp.Dense(5, a)(x), bp.Dense(4, a, bias=False)(x)
    return [x], [bp.Dense(2)(bp.concat([h, x, g, h]))]


def shared(a: str) -> Ends:
    x, z = bp.Input(6), bp.Input(6)
    layer, square = bp.Dense(4, a), bp.Dense(4)
    return [x, z], [bp.Dense(3)(square(square(layer(x)) * layer(z)))]


def twice(a: str) -> Ends:
    x = bp.Input(3)
    h = bp.Dense(4, a)(x)
    return [x], [bp.Dense(2)(bp.concat([h + h, h * h]))]


def elementwise(a: str) -> Ends:
    x = bp.Input(9)
    h = bp.Dense(9)(x)
    return [x], [bp.Activation.parse(a)(h) + h]


def heads(a: str) -> Ends:
    x, z = bp.Input(3), bp.Input(2)
    h = bp.Dense(5, a)(bp.concat([x, z]))
    return [x, z], [h, bp.Dense(2)(h), bp.Dense(3)(bp.concat([z, h]))]


def random_ways(a: str) -> Ends:
    x = bp.Input(6)
    h = bp.Dropout(0.3)(bp.Dense(9, a)(bp.GaussianNoise(0.1)(bp.Dropout(0.2)(x))))
    g = bp.Dropout()(h) + bp.GaussianNoise(0.3)(h)
    return [x], [bp.Dropout(0.1)(bp.Dense(3)(bp.concat([g, h, bp.Dropout(0.4)(x)])))]


def normal(a: str) -> Ends:
    x = bp.Input(5)
    h = bp.LayerNorm()(bp.Dense(17, a)(bp.BatchNorm()(x)))
    return [x], [bp.Dense(3)(bp.Activation.parse(a)(bp.BatchNorm(eps=1e-3)(bp.Dense(9)(h))))]


def normal_often(a: str) -> Ends:
    x = bp.Input(6)
    columns, rows = bp.BatchNorm(0.3), bp.LayerNorm(0.01)
    h = bp.Dense(6, a)(x)
    g = columns(h) * rows(h) + columns(x)
    return [x], [bp.Dense(3)(bp.concat([rows(g), h, columns(g)])), rows(columns(h))]


def scaled(a: str) -> Ends:
    x = bp.Input(5)
    both, gain, bias = bp.Scale(), bp.Scale(bias=False, lr=3), bp.Scale(gain=False)
    h = gain(both(bp.Dense(5, a)(both(x))))
    return [x], [bp.Dense(3)(bp.concat([bias(h), bias(x), h])), gain(bp.Dropout(0.2)(x))]


def standardized(a: str) -> Ends:
    x = bp.Input(5)
    first, often = bp.Standardize(name="data"), bp.Standardize()
    h = often(bp.Dense(5, a)(first(x)))
    return [x], [bp.Dense(3)(bp.concat([often(h), first(x), bp.BatchNorm()(h)])), often(bp.Dropout(0.2)(h))]


def cell(a: str) -> Ends:
    """Gates like those of an LSTM: the columns of one layer, used as deltas in place, with one column between them that nothing uses."""
    x, c = bp.Input(5), bp.Input(4)
    z = bp.Dense(17, a)(bp.concat([x, c]))
    kept, new, seen = z[:, 9:13] * c, z[:, :4] * z[:, 4:8], z[:, 13:]
    state = kept + new
    return [x, c], [seen * bp.Activation("tanh")(state), state]


def towers(a: str) -> Ends:
    """The squared distance of two towers with shared layers, and differences with numbers."""
    x, z = bp.Input(6), bp.Input(6)
    first, second = bp.Dense(9, a), bp.Dense(3)
    u, v = second(first(x)), second(first(z))
    return [x, z], [bp.Dense(1)((u - v) ** 2), 1 - (u - u * v) / 4, bp.add(u, v, u, v - 3)]


def cuts(a: str) -> Ends:
    """Slices of inputs, slices, concats, dropout and norms; overlapping, equal, as outputs; and operands of all kinds of nodes."""
    x, z = bp.Input(8), bp.Input(3)
    h = bp.Dense(9, a)(x[:, 1:6])
    g = bp.concat([h, z, x[:, -3:]])
    d = bp.Dropout(0.3)(g[:, 2:11])
    n = bp.LayerNorm()(d[:, :5]) + bp.Scale()(bp.BatchNorm()(h[:, 4:]))
    m = bp.Activation.parse(a)(g[:, 10:][:, 1:4]) - d[:, 6:]
    both = bp.concat([n, n[:, 1:3], m, n[:, 1:3], z[:, 0]])
    return [x, z], [bp.Dense(2)(both), h[:, 3:7], both[:, -4:]]


def embedded(a: str) -> Ends:
    """Ids of one and of several columns, hashed and not; tables side by side, added, shared and used by sparse rows; beside numbers, as an
    output, and in slices. Not one of SHAPES: ids have no derivatives."""
    words, x, user, bag = bp.Ids(3, 11), bp.Input(4), bp.Ids(1, 7, hash=True), bp.Input(11)
    both, total, of_user = (
        bp.Embedding(11, 5, name="both"),
        bp.Embedding(11, 4, combine="sum", lr=0.5, name="total"),
        bp.Embedding(7, 3, init="lecun_normal"),
    )
    e = both(words)
    h = bp.Dense(6, a)(bp.concat([e, x, of_user(user), total(words), both(bag)]))
    return [words, x, user, bag], [bp.Dense(2)(h), e[:, 3:9], total(words)]


def image(a: str) -> Ends:
    """Windows and pools of all kinds over a grid, with nodes of all kinds at each position, and an input beside it."""
    x, z = bp.Grid(5, 6, channels=2), bp.Input(3)
    h = bp.Conv(4, 3, pad="same", activation=a)(bp.Dropout(0.2)(x))
    h = bp.LayerNorm()(bp.concat([bp.BatchNorm()(h), h * bp.Scale()(h), x]))
    h = bp.Activation.parse(a)(bp.Pool((3, 3), stride=(1, 3))(h[:, 3:5]) - bp.Pool((3, 3), stride=(1, 3), kind="mean")(h)[:, 1:3])
    g = bp.Conv(3, (2, 2), stride=2, pad=(1, 0), dilation=(2, 1), bias=False)(h)
    both = bp.concat([bp.Flatten()(g), z, bp.Last()(h), bp.Flatten()(x)[:, 7:9]])
    return [x, z], [bp.Dense(2)(both), bp.Flatten()(h), bp.Last()(g)]


def sequence(a: str) -> Ends:
    """A sequence from a row of columns, and one from outside, with shared layers."""
    x, z = bp.Sequence(7, 3), bp.Input(2)
    often = bp.Dense(3, a)
    h = bp.Conv(5, 3, pad=1, activation=a)(often(x) + often(bp.Repeat(7)(bp.Dense(3)(z))))
    return [x, z], [bp.Dense(3)(bp.concat([bp.Last()(bp.Pool(3, stride=1)(h)), z])), bp.Flatten()(bp.Conv(2, 2, stride=2)(h))]


def recurrent(a: str) -> Ends:
    """Recurrent layers of all cells, in both directions, with and without a bias and a state, one of them used twice; one position too."""
    x, z = bp.Sequence(4, 3), bp.Input(2)
    first, twice = bp.Recurrent(3, "lstm"), bp.Recurrent(3, "gru", lr=0.5, bias_lr=2, max_norm=1.5)
    h = twice(bp.Dropout(0.2)(first(x, bp.Dense(6, a)(z))))
    back = bp.Recurrent(4, "tanh", reverse=True, bias=False)(bp.concat([h, x]), bp.Dense(4)(z))
    again = twice(bp.Dense(3, a)(back), bp.Last()(h))
    one = bp.Recurrent(2, "gru", reverse=True, bias=False)(bp.concat([bp.Last()(again), z]))
    both = bp.concat([one, bp.Recurrent(2, "lstm", reverse=True)(z), bp.Last()(back)])
    return [x, z], [bp.Dense(2)(both), bp.Flatten()(again + h), bp.Flatten()(back)]


SHAPES: dict[str, Callable[[str], Ends]] = {
    shape.__name__: shape
    for shape in (
        chain,
        narrow,
        skip,
        gate,
        beside,
        shared,
        twice,
        elementwise,
        heads,
        random_ways,
        normal,
        normal_often,
        scaled,
        standardized,
        cell,
        towers,
        cuts,
        image,
        sequence,
        recurrent,
    )
}


def spread(net: bp.Network) -> bp.Network:
    """Gives the columns of standardize layers different statistics."""
    for name, view in net.tensors.items():
        if name.endswith((".mean", ".std")):
            view[:] = np.linspace(0.6, 1.7, len(view)) * (1 if name.endswith(".std") else -0.3)
    return net


def network(shape: str, activation: str = "tanh", columns: int = 1, **options) -> bp.Network:
    """A network of a named shape, whose last output has its columns `columns` times; the options are those of bp.Network."""
    inputs, outputs = SHAPES.get(shape, embedded)(activation)
    if columns > 1:
        outputs[-1] = bp.concat([outputs[-1]] * columns)
    return spread(bp.Network(inputs, outputs, **{"seed": 7, **options}))


def rows_of(net: bp.Network, rows: int, seed: int = 0):
    """Random inputs for a network: an array, or a list of arrays for several inputs."""
    random = np.random.default_rng(seed)
    xs = [
        random.integers(0, entry.levels, (rows, entry.width)) if entry.levels else random.normal(size=(rows, entry.width)).astype(net.dtype)
        for entry in net.inputs
    ]
    return xs[0] if len(xs) == 1 else xs


# ---- random graphs ----

BUDGET = 20_000 if LONG else 10_000  # multiply-adds of a forward pass: the reference needs a few milliseconds for them


class Drawing:
    """Builds a random graph of few different widths, so that nodes and layers often fit together."""

    def __init__(self, random: np.random.Generator, rows: int) -> None:
        self.random = random
        self.left = BUDGET // rows
        self.widths = random.choice(WIDTHS, size=3, replace=False)
        self.nodes: list[bp.Node] = [bp.Input(int(random.choice(self.widths))) for _ in range(random.integers(1, 4))]
        self.layers: list[tuple[bp.Dense, int]] = []
        self.columnwise: list[
            tuple[bp.BatchNorm | bp.LayerNorm | bp.Scale | bp.Standardize, int]
        ] = []  # layers, with the widths of their nodes
        self.rows = rows

    def pick(self, options: list):
        """A random option; with probability 1/2 the newest, which makes graphs deep."""
        return options[-1] if self.random.random() < 0.5 else options[self.random.integers(len(options))]

    def dense(self, node: bp.Node, activation: str, width: int | None = None) -> bp.Node:
        """A dense node on top of a node; sometimes of an existing layer, which is then shared."""
        fitting = [layer for layer, wide in self.layers if wide == node.width and layer.units * wide <= self.left]
        if fitting and width is None and self.random.random() < 0.4:
            layer = self.pick(fitting)
        else:
            room = [w for w in self.widths if w * node.width <= self.left // 2] or [1]
            bias, settings = bool(self.random.random() < 0.8), self.settings()
            if not bias:
                settings.pop("bias_lr", None)
            layer = bp.Dense(width or int(self.random.choice(room)), activation, bias=bias, **settings)
            self.layers.append((layer, node.width))
        self.left -= layer.units * node.width
        return layer(node)

    def settings(self) -> dict[str, float]:
        """Random settings of a layer; most stay at their defaults."""
        settings = {"lr": 0.5, "bias_lr": 3, "l1": 0.01, "l2": 0.1, "max_norm": 0.8}
        return {name: value for name, value in settings.items() if self.random.random() < 0.15}

    def of_columns(self, node: bp.Node) -> bp.Node:
        """A norm, a scale or a standardize layer on top of a node; sometimes an existing layer. Batches of one row get no batch_norm: it
        needs two."""
        fitting = [layer for layer, wide in self.columnwise if wide == node.width]
        if fitting and self.random.random() < 0.3:
            return self.pick(fitting)(node)
        eps, kind = float(self.random.choice([0.1, 0.01])), self.random.choice(["batch", "layer", "both", "gain", "bias", "standardize"])
        if kind == "standardize":
            layer = bp.Standardize()
        elif kind in ("both", "gain", "bias"):
            layer = bp.Scale(kind != "bias", kind != "gain", lr=2)
        else:
            layer = bp.BatchNorm(0.2, eps) if self.rows > 1 and kind == "batch" else bp.LayerNorm(eps)
        self.columnwise.append((layer, node.width))
        return layer(node)

    def grow(self) -> None:
        """Adds a node."""
        activation = ACTIVATIONS[str(self.random.choice(list(ACTIVATIONS)))].spec
        node = self.pick(self.nodes)
        equal = [other for other in self.nodes if other.width == node.width]
        kinds = ["dense", "activation", "add", "subtract", "multiply", "concat", "slice", "dropout", "noise", "of columns"]
        kind = self.random.choice(kinds, p=[0.3, 0.08, 0.09, 0.07, 0.08, 0.12, 0.1, 0.04, 0.04, 0.08])
        if kind == "dense":
            self.nodes.append(self.dense(node, activation))
        elif kind == "activation":
            self.nodes.append(bp.Activation.parse(activation)(node))
        elif kind == "of columns":
            self.nodes.append(self.of_columns(node))
        elif kind == "dropout":
            self.nodes.append(bp.Dropout(round(self.random.uniform(0, 0.8), 2))(node))
        elif kind == "noise":
            self.nodes.append(bp.GaussianNoise(0.2)(node))
        elif kind == "concat":
            others = [self.pick(self.nodes) for _ in range(self.random.integers(0, 3))]
            self.nodes.append(bp.concat([node, *others]))
        elif kind == "slice":
            self.cut(node)
        elif kind == "add":
            self.nodes.append(bp.add(node, *(self.pick(equal) for _ in range(self.random.integers(1, 4)))))
        else:
            other = self.pick(equal)
            self.nodes.append(node - other if kind == "subtract" else node * other)

    def cut(self, node: bp.Node) -> None:
        """Adds some columns of a node, and sometimes others, in any order: disjoint ones, with or without columns between, or any."""
        ends = np.unique(self.random.integers(0, node.width + 1, 4)) if node.width > 1 else np.arange(2)
        parts = [node[:, first:end] for first, end in pairwise(map(int, ends))] or [node[:, -1]]
        count = int(self.random.integers(1, min(2, len(parts)) + 1))
        self.nodes += [parts[i] for i in self.random.permutation(len(parts))[:count]]

    def finish(self, activation: str, width: int | None) -> list[bp.Node]:
        """The outputs. The first depends on a layer with the activation, and has the given width, if any."""
        hidden = self.dense(self.pick(self.nodes), activation, 1 if self.left < 200 else int(self.random.choice(WIDTHS[:9])))
        first = self.dense(hidden, "identity", width or int(self.random.choice(WIDTHS[:6])))
        more = [node for node in self.nodes if node.operands and self.random.random() < 0.3]
        return [first, *more[-2:]]


def draw(random: np.random.Generator, rows: int, activation: str, width: int | None) -> Ends:
    """A graph of up to 12 nodes whose first output depends on the activation; only inputs that reach an output are listed."""
    drawing = Drawing(random, rows)
    for _ in range(random.integers(0, 11 - len(drawing.nodes))):
        drawing.grow()
    outputs = drawing.finish(activation, width)
    waiting, reached = list(outputs), set()
    while waiting:
        node = waiting.pop()
        reached.add(node)
        waiting.extend(node.operands)
    return [node for node in drawing.nodes if node.operands == () and node in reached], outputs
