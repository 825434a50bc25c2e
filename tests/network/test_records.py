"""The records of a network (nodes, layers, inputs, outputs), which contain its whole graph; and its text and HTML tables."""

import re
from html.parser import HTMLParser

import graphs
import numpy as np
import pytest

import microbp as bp
from microbp.core import backend as backends
from microbp.network import summary


def all_kinds(backend="compiled", name="a"):
    """Every kind of node, a layer of each kind used twice, settings of all kinds."""
    x, z = bp.Input(4), bp.Input(3)
    h = bp.Dense(3, bp.Activation("leaky_relu", slope=1 / 3), bp.Init("normal", std=0.2), name=name)(x)
    shared = bp.Dense(3, bias=False, lr=0.5, l1=0.25, l2=1e-5, max_norm=3)
    h = bp.multiply(shared(shared(h)) + z, h)
    norm = bp.LayerNorm(eps=1e-3, lr=0)
    h = norm(norm(bp.BatchNorm(momentum=0.3)(bp.concat([h, x]))))
    gain = bp.Scale(bias=False, lr=6)
    h = bp.Scale(gain=False)(gain(gain(bp.Scale()(h))))
    h = bp.GaussianNoise(1 / 3)(bp.Dropout(0.3)(h))
    last = bp.Dense(2, bias_lr=0.125, bias_init=bp.Init("normal", std=0.3))
    h = bp.add(h, h - 0.3, h)[:, 1:6]
    return bp.Network([x, z], [bp.Activation("elu", alpha=0.7)(h), last(h)], seed=0, backend=backend)


def changed(net):
    net.freeze()
    net.unfreeze(net.layers[0].name)
    net.set_layer(lr=1 / 7)
    net.set_layer(net.layers[0].name, l2=1e-10, max_norm=2, bias_lr=1 / 3)
    net.set_output(0, "softmax")
    return net


NETS = {shape: lambda backend, shape=shape: graphs.network(shape, backend=backend) for shape in graphs.SHAPES} | {
    "all_kinds": all_kinds,
    "changed": lambda backend: changed(all_kinds(backend)),
}


def statement(node, layers):
    """The node's line of graph text."""
    words = [node.operation, *map(str, node.operands)]
    own = []
    if node.operation == "recurrent":
        words, own = words[:2], [f"reverse={node.reverse:d}", *(f"state={state}" for state in node.operands[1:])]
    if node.layer is None:
        amount = [f"{'rate' if node.operation == 'dropout' else 'std'}={(node.amount or 0.0).hex()}"] if node.amount is not None else []
        amount += [f"height={node.grid[0] if len(node.grid) > 1 else 1} width={(1, *node.grid)[-1]}"] if node.operation == "grid" else []
        amount += [f"times={node.grid[0]}"] if node.operation == "repeat" else []
        keys = ["size", "stride", *([] if node.operation == "pool" else ["pad", "dilation"])] if node.window else []
        amount += [f"{key}={getattr(node.window, key)[0]}x{getattr(node.window, key)[1]}" for key in keys]
        amount += [f"kind={node.window.kind}"] if node.operation == "pool" else []
        amount += [f"from={node.columns[0]} to={node.columns[1]}"] if node.columns else []
        return " ".join([*words, *([str(node.width)] if node.operation == "input" else []), *([node.activation or ""]), *amount])
    layer = layers[node.layer]
    words.append(f"layer={layer.name}")
    if layer.nodes[0] != node.node:
        return " ".join([*words, *own])
    settings = {"lr": layer.lr if layer.kind != "standardize" else None, "eps": layer.eps, "momentum": layer.momentum}
    words.append(f"frozen={layer.frozen:d}")
    if layer.kind == "scale":
        words.append(f"gain={layer.gain:d} bias={layer.bias:d}")
    if layer.kind == "recurrent":
        words.append(f"units={layer.units} cell={layer.cell} init={layer.init} recurrent_init={layer.recurrent_init} bias={layer.bias:d}")
    if layer.kind == "dense":
        words.append(f"units={layer.units} activation={layer.activation} init={layer.init} bias={layer.bias:d}")
    if layer.kind in ("dense", "recurrent"):
        words += [f"bias_init={layer.bias_init}"] if layer.bias else []
        settings |= {"l1": layer.l1, "l2": layer.l2, "max_norm": layer.max_norm or 0.0, "bias_lr": layer.bias_lr}
    return " ".join([*words, *own, *(f"{key}={value.hex()}" for key, value in settings.items() if value is not None)])


def written(net):
    layers = {layer.name: layer for layer in net.layers}
    lines = [statement(node, layers) for node in net.nodes]
    lines += [f"output {output.node}" + (f" activation={output.activation}" if output.activation else "") for output in net.outputs]
    return "\n".join(lines)


@pytest.mark.parametrize("make", NETS.values(), ids=NETS)
def test_the_graph_can_be_written_again(backend, make):
    net = make(backend)
    assert backends.load(backend).Net(written(net)).text() == net.text()
    assert [node.node for node in net.nodes] == list(range(len(net.nodes)))
    for entry in [*net.inputs, *net.outputs]:
        assert entry.width == net.nodes[entry.node].width
    for layer in net.layers:
        assert all(net.nodes[node].layer == layer.name for node in layer.nodes)
        assert layer.parameters == sum(
            view.size for name, view in net.tensors.items() if name in (f"{layer.name}.weight", f"{layer.name}.bias")
        )


@pytest.mark.parametrize("make", NETS.values(), ids=NETS)
def test_both_backends_have_the_same_records(make):
    a, b = make("compiled"), make("reference")
    assert (a.nodes, a.layers, a.inputs, a.outputs) == (b.nodes, b.layers, b.inputs, b.outputs)
    assert [str(net).split("\n", 1)[1] for net in (a, b)] == [str(a).split("\n", 1)[1]] * 2


def test_records_show_every_change(backend):
    net = bp.mlp([2, 3, 1], backend=backend)
    before = net.layers
    net.freeze("dense_0")
    net.set_layer("dense_1", l2=0.5, max_norm=2)
    assert [(layer.frozen, layer.l2, layer.max_norm) for layer in net.layers] == [(True, 0, None), (False, 0.5, 2)]
    assert not before[0].frozen
    net.set_layer(max_norm=0)
    bp.Trainer(net, "poisson")
    assert [layer.max_norm for layer in net.layers] == [None, None] and net.outputs[0].activation == "exp"
    with pytest.raises(AttributeError):
        net.layers[0].lr = 3


def test_predict_returns_the_values_of_every_node(backend):
    net = changed(all_kinds(backend))
    x = graphs.rows_of(net, 5)
    for node in net.nodes:
        assert net.predict(x, at=node.node).shape == (5, node.width)
    for at, words in ((99, "at must be a node number from 0 to"), (-1, "not -1"), ("b", "unknown layer 'b'"), ("dense_1", "used at nodes")):
        with pytest.raises(ValueError, match=words):
            net.predict(x, at=at)
    with pytest.raises(TypeError):
        net.predict(x, at=1.0)


# ---- tables ----


class Cells(HTMLParser):
    """The cells of an HTML table, row by row. It checks that tags are closed in order."""

    def __init__(self, text):
        super().__init__()
        self.rows, self.open = [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] in ("td", "th"):
            self.rows[-1][-1] += data


def test_text_and_html_show_the_same(backend):
    for net in (all_kinds(backend), changed(all_kinds(backend))):
        rows = Cells(net._repr_html_()).rows
        lines = str(net).splitlines()
        assert f"<caption>{lines[0]}</caption>" in net._repr_html_()
        assert [re.split(" {2,}", line) for line in lines[1:]] == [[cell for cell in row if cell] for row in rows]
        assert len(rows) == len(net.nodes) + 1
    assert "max norm 2" in rows[3][-1] and "frozen" in rows[4][-1] and rows[-2][-1] == "output (softmax)"


def test_html_is_escaped():
    assert "<caption>a &lt;b&gt; &amp; &quot;c&quot;</caption>" in summary.html(all_kinds()._records, 'a <b> & "c"')


def test_a_table_by_hand():
    x = bp.Input(3)
    h = bp.Dropout(0.1)(bp.Dense(4, "relu", l2=0.5)(x))
    net = bp.Network(x, bp.Dense(2, name="last")(bp.concat([h, x])), seed=7)
    net.freeze("last")
    net.set_output(0, "exp")
    expected = """\
microbp.Network: 32 parameters, float32, seed 7, compiled backend
node  operation  from  width  activation  parameters
0     input            3
1     dense_0    0     4      relu        16          l2 0.5
2     dropout    1     4      rate=0.1
3     concat     2, 0  7
4     last       3     2                  16          frozen, output (exp)"""
    assert str(net) == repr(net) == expected
    assert str(bp.mlp([1, 1], bias=False)).startswith("microbp.Network: 1 parameter, float32, ")


def test_a_table_shows_at_most_eight_operands_of_a_node():
    x = bp.Input(1)
    nodes = [bp.Dense(1)(x) for _ in range(1000)]
    assert "9     concat     1, 2, 3, 4, 5, 6, 7, 8  8" in str(bp.Network(x, bp.concat(nodes[:8])))
    whole = str(bp.Network(x, bp.concat(nodes)))
    assert "1001  concat     1, 2, 3, 4, 5, 6, ..., 1000 (1,000 operands)  1000" in whole


# ---- layers and nodes ----


@pytest.mark.parametrize(
    ("layer", "shown"),
    [
        (lambda: bp.Dense(8, activation="relu"), "Dense(8, activation='relu')"),
        (lambda: bp.Dense(8), "Dense(8)"),
        (
            lambda: bp.Dense(8, bp.Activation("elu", alpha=2), bp.Init("normal", std=0.1), False, "a", lr=2, l1=0.5, l2=0.25, max_norm=3),
            "Dense(8, activation='elu(alpha=2.0)', init='normal(std=0.1)', bias=False, name='a', lr=2.0, l1=0.5, l2=0.25, max_norm=3.0)",
        ),
        (lambda: bp.Dense(1, init=np.zeros((1, 2)), bias_init=[0]), "Dense(1, init='array', bias_init='array')"),
        (bp.Dropout, "Dropout()"),
        (lambda: bp.Dropout(0.25), "Dropout(rate=0.25)"),
        (lambda: bp.GaussianNoise(0.25), "GaussianNoise(std=0.25)"),
        (lambda: bp.BatchNorm(0.5, name="n"), "BatchNorm(momentum=0.5, name='n')"),
        (bp.LayerNorm, "LayerNorm()"),
        (lambda: bp.LayerNorm(lr=0.5), "LayerNorm(lr=0.5)"),
        (lambda: bp.Activation("elu", alpha=2), "Activation('elu', alpha=2.0)"),
        (lambda: bp.Activation("relu"), "Activation('relu')"),
    ],
)
def test_a_layer_shows_what_differs_from_the_defaults(layer, shown):
    assert repr(layer()) == shown
    if "array" not in shown:
        again = eval(shown, vars(bp))
        assert (repr(again), again.text) == (shown, layer().text)


def test_a_node_shows_its_operands():
    x = bp.Input(3)
    y = x + bp.Dense(3)(x)
    assert re.fullmatch(rf"<node {y.number}: add of {x.number}, \d+, width 3>", repr(y))
    assert repr(x) == f"<node {x.number}: input, width 3>"


def test_a_layer_of_a_user_has_a_repr():
    class Wide(bp.Dense):
        def __init__(self, factor):
            super().__init__(10 * factor)

    assert repr(Wide(2)) == "Wide()"
    assert Wide(2)(bp.Input(3)).width == 20
