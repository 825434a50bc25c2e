"""Arithmetic of nodes: sums, differences and products of nodes and numbers, and columns of nodes, compared with NumPy and PyTorch."""

import operator
import pickle
from fractions import Fraction

import cases
import graphs
import numpy as np
import pytest

import microbp as bp
from microbp.core import backend as backends

WIDTH = 7


def net_of(make, *widths, **options):
    """A network whose outputs are make(*inputs): a node or a list."""
    inputs = [bp.Input(width) for width in widths]
    return bp.Network(inputs, make(*inputs), **{"dtype": "float64", "seed": 0, **options})


def rows(*widths, count=5):
    random = np.random.default_rng(cases.SEED)
    return [random.normal(size=(count, width)) for width in widths]


# ---- values ----

EXPRESSIONS = {
    "a + b": lambda a, b: a + b,
    "a - b": lambda a, b: a - b,
    "a - a": lambda a, b: a - a,
    "a * b": lambda a, b: a * b,
    "-a": lambda a, b: -a,
    "numbers on the right": lambda a, b: ((a + 0.1) * 3 - 0.7) / 4,
    "numbers on the left": lambda a, b: 1 - 0.1 * (2.5 + b),
    "NumPy's numbers": lambda a, b: np.float64(0.1) * a - b * np.float32(0.1) + np.int8(3),
    "a fraction": lambda a, b: a * Fraction(1, 3),
    "a ** 2": lambda a, b: (a - b) ** 2,
    "sum": lambda a, b: sum([a, b, -b, a]),
    "of columns": lambda a, b: a[:, 2:5] * b[:, -3:] - a[:, 3:6][:, ::1] / 8,
    "one column": lambda a, b: a[:, [3]] + b[:, [-1]] if isinstance(a, np.ndarray) else a[:, 3] + b[:, -1],
}


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_values_have_the_bits_of_numpy(backend, expression):
    make, (a, b) = EXPRESSIONS[expression], rows(WIDTH, WIDTH)
    net = net_of(lambda x, z: [make(x, z), x, z], WIDTH, WIDTH, backend=backend)
    np.testing.assert_array_equal(net.predict([a, b])[0], make(a, b))


def test_products_of_many_operands_are_multiplied_in_their_order(backend):
    values = rows(3, 3, 3, 3)
    net = net_of(lambda a, b, c, d: [bp.multiply(a, b, c, d, a), a * b * c * d * a], 3, 3, 3, 3, backend=backend)
    a, b, c, d = values
    for found in net.predict(values):
        np.testing.assert_array_equal(found, a * b * c * d * a)
    with pytest.raises(ValueError, match="multiply: all operands must have the same width, not 3 and 2"):
        bp.multiply(bp.Input(3), bp.Input(3), bp.Input(2))
    with pytest.raises(TypeError, match="multiply needs a node such as"):
        bp.multiply(bp.Input(3), bp.Input(3), 2)


def test_sums_of_many_operands_are_added_in_their_order(backend):
    xs = [np.array([[value]]) for value in (1e16, 1.0, -1e16, 3.0)]
    for order in ([0, 1, 2, 3], [0, 2, 1, 3], [3, 1, 0, 2, 0]):
        net = net_of(lambda *x, order=order: [bp.add(*(x[i] for i in order)), *x], 1, 1, 1, 1, backend=backend)
        expected = xs[order[0]]
        for i in order[1:]:
            expected = expected + xs[i]
        assert net.predict(xs)[0] == expected


def test_adding_0_and_multiplying_by_1_give_the_node_itself():
    a = bp.Input(3)
    assert a is 0 + a is a + 0 is a - 0.0 is 1 * a is a / 1 is sum([a])


RANGE = [None, *range(-WIDTH - 2, WIDTH + 3)]


@pytest.mark.parametrize("first", RANGE)
def test_columns_are_those_of_numpy(backend, first):
    """Of every range; those that NumPy would make shorter, and empty ones, are refused."""
    (x,) = rows(WIDTH)
    node = bp.Input(WIDTH)
    for end in RANGE:
        expected = x[:, first:end]
        inside = all(value is None or -WIDTH <= value <= WIDTH for value in (first, end))
        if inside and expected.size:
            assert node[:, first:end].width == node[..., first:end].width == expected.shape[1]
            net = bp.Network(node, node[:, first:end], dtype="float64", backend=backend)
            np.testing.assert_array_equal(net.predict(x), expected)
        else:
            with pytest.raises(IndexError, match="no column"):
                node[:, first:end]
    if first is not None and -WIDTH <= first < WIDTH:
        net = bp.Network(node, node[:, np.int64(first)], dtype="float64", backend=backend)
        np.testing.assert_array_equal(net.predict(x)[:, 0], x[:, first])
    elif first is not None:
        with pytest.raises(IndexError, match=f"there is no column {first}: the node has the columns 0 to 6"):
            node[:, first]


LAYOUTS = {
    "contiguous": np.ascontiguousarray,
    "by columns": np.asfortranarray,
    "every second row": lambda x: np.repeat(x, 2, axis=0)[::2],
    "backwards": lambda x: np.ascontiguousarray(x[::-1, ::-1])[::-1, ::-1],
    "float32": lambda x: x.astype(np.float32),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_columns_of_an_input_in_any_layout(backend, dtype, layout):
    (x,) = rows(WIDTH, count=600)
    x = LAYOUTS[layout](np.round(x * 8) / 8)  # numbers that float32 has too
    net = net_of(lambda a: [a[:, 3:], bp.Dropout()(a[:, 1:4])[:, :2], a], WIDTH, dtype=dtype, backend=backend)
    for found, expected in zip(net.predict(x), [x[:, 3:], x[:, 1:3], x], strict=True):
        np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(net.predict(x, at=1), x[:, 3:])


# ---- gradients ----


def both_ways(cuts, dtype, backend):
    """Two trainers of the same network: in one of them, the columns of its hidden layer are taken apart and joined again."""
    for parts in (lambda h: h, lambda h: bp.concat([h[:, first:end] for first, end in cuts])):
        x = bp.Input(4)
        net = bp.Network(x, bp.Dense(3)(parts(bp.Dense(WIDTH, "tanh")(x))), dtype=dtype, seed=3, backend=backend)
        yield bp.Trainer(net, "mse", "adam")


@pytest.mark.parametrize("cuts", [[(0, 7)], [(0, 3), (3, 7)], [(0, 1), (1, 2), (2, 6), (6, 7)]])
def test_columns_taken_apart_and_joined_change_no_bit(backend, dtype, cuts):
    whole, apart = both_ways(cuts, dtype, backend)
    for count in (5, 70, 3):
        x, y = rows(4, 3, count=count)
        assert [whole.step(x, y) for _ in range(3)] == [apart.step(x, y) for _ in range(3)]
        whole.backward(x, y, input_grads=True), apart.backward(x, y, input_grads=True)
        np.testing.assert_array_equal(whole.grads, apart.grads)
        np.testing.assert_array_equal(whole.input_grads, apart.input_grads)
    np.testing.assert_array_equal(whole.net.params, apart.net.params)


USES = {
    "gaps": lambda x: [x[:, 4:6] * x[:, 1:3]],
    "overlapping": lambda x: [x[:, 1:3] + x[:, 2:4]],
    "twice": lambda x: [x[:, 1:3], x[:, 1:3]],
    "a slice of a slice": lambda x: [x[:, 1:6][:, 2:4][:, 1]],
}


@pytest.mark.parametrize("uses", USES)
def test_columns_that_nothing_uses_have_gradient_0(backend, uses):
    """Also in memory that an earlier pass, with another number of rows, has left."""
    net = net_of(lambda x: bp.Dense(2)(bp.concat([part for one in USES[uses](x) for part in [one, one]])), WIDTH, backend=backend)
    t = bp.Trainer(net, "mse")
    used = sorted({"gaps": {1, 2, 4, 5}, "overlapping": {1, 2, 3}, "twice": {1, 2}, "a slice of a slice": {4}}[uses])
    for count in (9, 4, 20):
        x, y = rows(WIDTH, 2, count=count)
        t.backward(x, y, input_grads=True)
        assert (np.delete(t.input_grads, used, axis=1) == 0).all() and (t.input_grads[:, used] != 0).all()


def test_frozen_layers_below_slices(backend):
    x, y = rows(4, 2)
    net = net_of(lambda a: bp.Dense(2, name="top")((h := bp.Dense(6, "tanh", name="low")(a))[:, :3] - h[:, 3:]), 4, backend=backend)
    t = bp.Trainer(net, "mse")
    t.backward(x, y, input_grads=True)
    whole, inputs = t.grads.copy(), t.input_grads.copy()
    net.freeze("low")
    t.backward(x, y, input_grads=True)
    np.testing.assert_array_equal(t.input_grads, inputs)
    frozen = t.grads.copy()
    t.backward(x, y)
    np.testing.assert_array_equal(t.grads, frozen)
    count = net.tensors["low.weight"].size
    np.testing.assert_array_equal(frozen[count : count + 6], whole[count : count + 6])
    assert not frozen[:count].any()


# ---- whole programs, next to PyTorch ----


def lstm(c, z, sigmoid, tanh):
    """A cell of an LSTM (Hochreiter & Schmidhuber 1997; Gers et al. 2000), after its dense layer."""
    state = sigmoid(z[:, :4]) * c + sigmoid(z[:, 4:8]) * tanh(z[:, 8:12])
    return sigmoid(z[:, 12:]) * tanh(state), state


def difference(c, z, sigmoid, tanh):
    """A residual difference: what a part of the columns adds to the others."""
    return (z[:, :4] - tanh(z[:, 4:8]) / 3) * 2 - c, 1 - z[:, 6:10] - (0.5 + c)


def distance(c, z, sigmoid, tanh):
    """Squared distances between towers."""
    u, v = sigmoid(z[:, :8]), tanh(z[:, 8:])
    return (u[:, :4] - v[:, 4:]) ** 2, -((u[:, 1:5] - c) ** 2) + v[:, 2:6]


@pytest.mark.peers
@pytest.mark.parametrize("program", [lstm, difference, distance])
def test_programs_agree_with_torch(backend, program):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    x, c, *ys = rows(3, 4, 4, 4)
    net = net_of(
        lambda a, b: [*program(b, bp.Dense(16)(bp.concat([a, b])), bp.Activation("sigmoid"), bp.Activation("tanh"))], 3, 4, backend=backend
    )
    t = bp.Trainer(net, ["mse", "mse"])
    loss = t.backward([x, c], ys, input_grads=True)
    inputs = [torch.tensor(array, requires_grad=True) for array in (x, c)]
    tensors = [torch.tensor(np.ascontiguousarray(view), requires_grad=True) for view in net.tensors.values()]
    outputs = program(inputs[1], torch.nn.functional.linear(torch.cat(inputs, 1), *tensors), torch.sigmoid, torch.tanh)
    right = sum(torch.nn.functional.mse_loss(out, torch.tensor(y)) for out, y in zip(outputs, ys, strict=True))
    right.backward()
    near = {"rtol": 1e-12, "atol": 1e-14}
    np.testing.assert_allclose(loss, right.item(), **near)
    for found, expected in zip(net.predict([x, c], raw=True), outputs, strict=True):
        np.testing.assert_allclose(found, expected.detach().numpy(), **near)
    for found, expected in zip(t.input_grads, inputs, strict=True):
        np.testing.assert_allclose(found, expected.grad.numpy(), **near)
    weight, bias = (tensor.grad.numpy() for tensor in tensors)
    np.testing.assert_allclose(t.grads, np.concatenate([weight.T.ravel(), bias]), **near)


# ---- text, files, errors ----


@pytest.mark.parametrize("shape", ["cell", "towers", "cuts"])
def test_files_and_copies_keep_the_graph(backend, shape, tmp_path):
    net = graphs.network(shape, backend=backend)
    x = graphs.rows_of(net, 4)
    net.save(tmp_path / "net")
    for again in (bp.load(tmp_path / "net", backend=backend), pickle.loads(pickle.dumps(net)), net.copy()):
        assert again.text() == net.text() and again.nodes == net.nodes
        for found, expected in zip(again.predict(x), net.predict(x), strict=True):
            np.testing.assert_array_equal(found, expected)


def test_what_users_see(backend):
    net = net_of(lambda a: [bp.add(a, 2 * a, 1 - a)[:, 1:3], a - 0.5], 4, backend=backend)
    assert net.text().splitlines() == [
        "input 4",
        "activation 0 affine(factor=2,addend=0)",
        "activation 0 affine(factor=-1,addend=1)",
        "add 0 1 2",
        "slice 3 from=1 to=3",
        "activation 0 affine(factor=1,addend=-0.5)",
        "output 4",
        "output 5",
    ]
    assert [node.columns for node in net.nodes] == [None] * 4 + [(1, 3), None]
    assert "slice       3        2      columns 1:3" in str(net)


TEXTS = [
    "slice 0", "slice 0 from=1", "slice 0 to=9 from=3", "slice 0 from=0 to=0", "slice 0 from=-1 to=2", "slice 0 from=0.5 to=1",
    "slice 0 from=1 to=x", "slice 0 from=0 to=1 to=1", "slice 0 from=0 to=1 step=1", "slice 0 0 from=0 to=1",
    "slice 7 from=0 to=1", "slice 0 from=0 to=1e300", "slice", "add 0", "add 0 0 9", "add 0 1 0", "add 0 0 1", "add 0 0 x",
    "subtract 0 0 0", "subtract 0", "subtract 1 0", "substract 0 0", "slice 1 from=2147483646 to=0x1.fffffffcp+30",
    "slice 1 from=0x0p0 to=1", "add 1 1 1 1", "subtract 1 1",
]  # fmt: skip


@pytest.mark.parametrize("line", TEXTS)
def test_both_backends_read_statements_alike(line):
    """The same text, or the same error."""
    results = []
    for backend in ("compiled", "reference"):
        try:
            results.append(backends.load(backend).Net(f"input 8\ninput 2147483647\n{line}\noutput 2\n").text())
        except ValueError as error:
            results.append(str(error))
    assert results[0] == results[1]
    assert results[0].startswith("graph line 3: ") == (line not in TEXTS[-4:])


def test_a_printed_network_has_decimal_numbers():
    x = bp.Input(2)
    net = bp.Network(x, bp.Dense(1, activation=bp.Activation("elu", alpha=0.1 + 0.2))(x / 3))
    assert "affine(factor=0.3333333333333333,addend=0" in str(net) and "elu(alpha=0.30000000000000004)" in str(net)
    assert "0x" not in str(net) + net._repr_html_()
    assert net.text().count("=0x") == 2  # exact, so that it reads back


ADVICE = {
    "a / b": (TypeError, r"divided by a node; divide it by a number, or multiply nodes: a \* b", lambda a, b: a / b),
    "1 / a": (TypeError, r"divided by a node; divide the node by a number, or multiply", lambda a, b: 1 / a),
    "a / 0": (ZeroDivisionError, "divided by 0", lambda a, b: a / 0),
    "a / 1e-320": (ValueError, "finite numbers only", lambda a, b: a / 1e-320),
    "a / inf": (ValueError, "finite numbers only, not inf", lambda a, b: a / np.inf),
    "a * nan": (ValueError, "finite numbers only, not nan", lambda a, b: a * np.nan),
    "a ** 3": (TypeError, r"only the power a \*\* 2, not 3; for others, multiply", lambda a, b: a**3),
    "a ** b": (TypeError, r"only the power a \*\* 2, not <node", lambda a, b: a**b),
    "a + nan": (ValueError, "finite numbers only, not nan", lambda a, b: a + float("nan")),
    "inf - a": (ValueError, "finite numbers only, not inf", lambda a, b: np.inf - a),
    "a * 10**400": (ValueError, "finite numbers only, not 1000", lambda a, b: a * 10**400),
    "a + True": (TypeError, "with a node or a real number, not ", lambda a, b: a + True),
    "a - 1j": (TypeError, "with a node or a real number, not ", lambda a, b: a - 1j),
    "a * [1]": (TypeError, "with a node or a real number, not ", lambda a, b: a * [1]),
    "array + a": (TypeError, "with a node or a real number, not an array", lambda a, b: np.ones(3) + a),
    "a * array": (TypeError, "with a node or a real number, not an array", lambda a, b: a * np.ones(3)),
    "a - wider": (ValueError, "subtract: all operands must have the same width, not 7 and 3", lambda a, b: a - b[:, :3]),
    "add one": (TypeError, "missing 1 required", lambda a, b: bp.add(a)),
    "add a number": (TypeError, "add needs a node", lambda a, b: bp.add(a, b, 1)),
    "a[3]": (TypeError, r"node\[3\]: write node\[:, 3:7\] for the columns 3 to 6, or node\[:, 3\] for one", lambda a, b: a[3]),
    "a[2:3]": (TypeError, r"node\[2:3\]: write", lambda a, b: a[2:3]),
    "a[0, 1]": (TypeError, r"node\[0, 1\]: write", lambda a, b: a[0, 1]),
    "a[:, 1, 2]": (TypeError, r"node\[:, 1, 2\]: write", lambda a, b: a[:, 1, 2]),
    "a[:, ::2]": (IndexError, r"node\[:, ::2\]: the step must be 1; join other columns by bp.concat", lambda a, b: a[:, ::2]),
    "a[:, ::-1]": (IndexError, "the step must be 1", lambda a, b: a[:, ::-1]),
    "a[:, 4:2]": (IndexError, r"node\[:, 4:2\] has no columns; the node has the columns 0 to 6", lambda a, b: a[:, 4:2]),
    "a[:, [0, 2]]": (TypeError, r"whole number, not \[0, 2\]; join columns by bp.concat", lambda a, b: a[:, [0, 2]]),
    "a[:, 1.0]": (TypeError, "whole number, not 1.0", lambda a, b: a[:, 1.0]),
    "a[:, True]": (TypeError, "whole number, not True", lambda a, b: a[:, True]),
    "list(a)": (TypeError, "not iterable", lambda a, b: list(a)),
    "3 in a": (TypeError, "not a container|not iterable", lambda a, b: operator.contains(a, 3)),
}


@pytest.mark.parametrize("expression", ADVICE)
def test_refusals_say_what_to_write(expression):
    error, text, make = ADVICE[expression]
    with pytest.raises(error, match=text):
        make(bp.Input(WIDTH), bp.Input(WIDTH))
