"""Costs that grow with the size of a graph: linear in it, for every call and every shape; and calls that do not read the graph again."""

import gc
import pickle
import time

import cases
import numpy as np
import pytest

import microbp as bp

SIZES = {"compiled": (500, 4000), "reference": (50, 400)} if cases.LONG else {"compiled": (300, 2400), "reference": (40, 320)}


def repeated(layer, n):
    h = x = bp.Input(1)
    for _ in range(n):
        h = layer()(h)
    return x, h


def side_by_side(n):
    x = bp.Input(1)
    return x, [bp.Dense(1)(x) for _ in range(n)]


def joined(n):
    x, nodes = side_by_side(n)
    return x, bp.concat(nodes)


def one_node_joined(n):
    x = bp.Input(1)
    return x, bp.concat([bp.Dense(1)(x)] * (10 * n))


def sums(n):
    x = [bp.Input(1) for _ in range(n)]
    total = x[0]
    for node in x[1:]:
        total = bp.add(total, node)
    return x, total


def shared(n):
    layer = bp.Dense(1)
    return repeated(lambda: layer, n)


SHAPES = {
    "layers": lambda n: repeated(lambda: bp.Dense(1), n),
    "norms": lambda n: repeated(bp.BatchNorm, n),
    "shared": shared,
    "outputs": side_by_side,
    "joined": joined,
    "one node joined": one_node_joined,
    "inputs": sums,
}


def seconds(call):
    """The processor time of a call, without garbage collection, whose cost depends on everything else in memory."""
    gc.disable()
    try:
        start = time.process_time()
        call()
        return time.process_time() - start
    finally:
        gc.enable()


def calls(shape, n, backend, folder):
    """Every call whose cost depends on the graph, by name."""
    inputs, outputs = SHAPES[shape](n)
    net = bp.Network(inputs, outputs, seed=0, backend=backend)
    folder.mkdir(exist_ok=True)
    net.save(folder / "net")
    xs = [np.zeros((3, entry.width), np.float32) for entry in net.inputs]
    ys = [np.zeros((3, entry.width), np.float32) for entry in net.outputs]
    x, y = (several if len(several) > 1 else several[0] for several in (xs, ys))
    last = net.layers[-1].name if net.layers else None
    trainer = bp.Trainer(net, ["mse"] * len(ys), seed=0)

    def changed():
        net.freeze(last)
        net.unfreeze(last)
        net.set_layer(last, lr=1.0)
        return net.layers

    one_row = [one[:1] for one in xs]
    return {
        "Network": lambda: bp.Network(inputs, outputs, seed=0, backend=backend),
        "print": lambda: (str(net), net._repr_html_()),
        "records": lambda: (net.nodes, net.layers, net.inputs, net.outputs, dict(net.tensors)),
        "text": net.text,
        "change": changed if last else lambda: None,
        "init": lambda: net.init(0),
        "copy": net.copy,
        "pickle": lambda: pickle.loads(pickle.dumps(net)),
        "save": lambda: net.save(folder / "net"),
        "load": lambda: bp.load(folder / "net", backend=backend),
        "load_tensors": (lambda: net.load_tensors(folder / "net")) if last else lambda: None,
        "predict": lambda: net.predict(x),
        "predict to out": (lambda: net.predict(x, out=y)) if backend == "compiled" else lambda: None,
        "predict at": lambda: net.predict(one_row if len(xs) > 1 else one_row[0], at=0),
        "Trainer": lambda: bp.Trainer(net, ["mse"] * len(ys), seed=0),
        "step": lambda: trainer.step(x, y),
        "backward": lambda: trainer.backward(x, y, input_grads=True),
        "evaluate": lambda: trainer.evaluate(x, y),
    }


@pytest.mark.parametrize("shape", SHAPES)
def test_costs_are_linear_in_the_size_of_the_graph(backend, shape, tmp_path):
    """Eight times the size may take 16 times the time (64 times, if the cost were quadratic) and 20 ms."""
    for call in calls(shape, 3, backend, tmp_path).values():
        call()  # a first call may import modules
    few, many = (calls(shape, n, backend, tmp_path / str(n)) for n in SIZES[backend])
    for name in few:
        short, long = seconds(few[name]), seconds(many[name])
        for _ in range(3):  # another program may have disturbed one of the two
            if long > 16 * short + 0.02:
                short, long = max(short, seconds(few[name])), min(long, seconds(many[name]))
        assert long <= 16 * short + 0.02, f"{name}: {short:.4f} s, then {long:.4f} s"


def test_a_net_of_16000_layers_takes_seconds():
    x, y = repeated(lambda: bp.Dense(1), 16_000)
    assert seconds(lambda: bp.Network(x, y, seed=0)) < 5  # 0.2 s on a free processor; 55 s, when names were looked up in a list


class Counted:
    """Passes calls on to a core, and counts how often it describes the whole graph."""

    def __init__(self, core):
        self.core, self.count = core, 0

    def __getattr__(self, name):
        if name in ("nodes", "layers", "text"):
            self.count += 1
        return getattr(self.core, name)


@pytest.mark.parametrize("at", [0, 2, "dense_1"])
def test_predict_at_a_node_does_not_read_the_graph_again(backend, at):
    net = bp.mlp([2, 3, 1], seed=0, backend=backend)
    rows = np.ones((4, 2), np.float32)
    expected = net.predict(rows, at=at)
    net._core = net._records._core = counted = Counted(net._core)
    for x in (rows, rows[0], rows.tolist(), rows.astype(np.float64)):
        np.testing.assert_array_equal(np.atleast_2d(net.predict(x, at=at))[0], expected[0])
    out = np.empty_like(expected)
    assert net.predict(rows, out=out, at=at) is out
    np.testing.assert_array_equal(out, expected)
    assert counted.count == 0


def test_layers_are_read_again_after_each_change(backend):
    net = bp.mlp([2, 3, 1], seed=0, backend=backend)
    net.layers.clear()
    net.nodes.clear()
    net.inputs.clear()
    assert (len(net.layers), len(net.nodes), len(net.inputs)) == (2, 3, 1)
    for change, field, value in (
        (lambda: net.freeze("dense_0"), "frozen", True),
        (lambda: net.unfreeze(), "frozen", False),
        (lambda: net.set_layer(lr=0.5), "lr", 0.5),
        (lambda: net.set_layer("dense_0", l1=0.25), "l1", 0.25),
    ):
        assert getattr(net.layers[0], field) != value
        change()
        assert getattr(net.layers[0], field) == value
    assert net.outputs[0].activation is None
    bp.Trainer(net, "bce")
    before = net.outputs[0].activation
    net.set_output(0, "sigmoid")
    assert (before, net.outputs[0].activation) in (("sigmoid", "sigmoid"), (None, "sigmoid"))


def test_a_refused_setting_of_a_norm_leaves_its_other_settings(backend):
    x = bp.Input(2)
    net = bp.Network(x, bp.BatchNorm()(x), backend=backend)
    for given in ({"lr": 0.5, "l2": 1.0}, {"lr": 0.5, "max_norm": 1.0}):
        for layer in ("batch_norm_0", None):
            with pytest.raises(ValueError, match="setting"):
                net.set_layer(layer, **given)
            assert net.layers[0].lr == 1


def test_outputs_that_share_memory_are_refused(backend):
    """One error for both backends, for few and for many outputs."""
    for n in (2, 40):
        x, nodes = side_by_side(n)
        net = bp.Network(x, nodes, seed=0, backend=backend)
        rows, wide = np.ones((3, 1), np.float32), np.zeros((3, n), np.float32)
        columns = [wide[:, i : i + 1] for i in range(n)]
        net.predict(rows, out=columns)
        np.testing.assert_array_equal(wide, np.concatenate(net.predict(rows), axis=1))
        for i, other, name in ((n - 1, columns[0], "output 0"), (1, rows, "input 0"), (0, net.params[:3, None], "the net's parameters")):
            outs = [*columns[:i], other, *columns[i + 1 :]]
            with pytest.raises(ValueError, match=rf"output {i} shares memory with {name}: use separate memory"):
                net.predict(rows, out=outs)
