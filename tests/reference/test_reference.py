"""The reference by itself: nets against NumPy, training, and errors."""

import math

import numpy as np
import pytest

from microbp import reference

INF = math.inf


def trainer_of(graph: str, loss: str | None = "mse", optimizer: str = "sgd(lr=0.1)", seed: int = 3, dtype: str = "float64"):
    return reference.Trainer(reference.Net(graph, dtype, seed), [loss], [1.0], optimizer)


def bits(trainer) -> tuple:
    """The state that a failed call must not change."""
    state = (trainer.net.params, trainer.grads, *trainer.slots.values())
    return trainer.steps, trainer.net.text(), tuple(vector.tobytes() for vector in state)


def predict(net, x, node: int = -1) -> np.ndarray:
    width = net.graph.nodes[net.graph.outputs[0].node if node < 0 else node].width
    out = np.full((len(x), width), np.nan, net.dtype)
    net.predict([x], [out], False, node)
    return out


# ---- whole nets ----

DAG = """input 2
input 3
dense 0 layer=shared units=2 activation={activation}
dense 2 layer=shared
concat 3 1
activation 4 {activation}
dense 5 units=2 bias=0
multiply 6 3
add 7 7
dense 8 layer=top units=3
output 9
"""


def test_values_equal_numpy():
    net = reference.Net("input 5\ndense 0 units=7 activation=tanh\ndense 1 units=3 activation=relu\nconcat 2 0\noutput 3", "float64", 8)
    x = np.random.default_rng(0).normal(size=(4, 5))
    tensors = [np.array(net.params[at : at + i * o]).reshape(i, o) for _, _, at, i, o in net.tensors()]
    hidden = np.tanh(x @ tensors[0] + tensors[1])
    np.testing.assert_allclose(predict(net, x), np.hstack([np.maximum(hidden @ tensors[2] + tensors[3], 0), x]), rtol=1e-12)
    np.testing.assert_allclose(predict(net, x, node=1), hidden, rtol=1e-12)
    assert predict(net, np.zeros((0, 5))).shape == (0, 8)


def test_text_is_canonical():
    canonical = reference.Net("# a comment\n\ninput 2\ndense 0 units=3 activation=elu\ndense 1 units=3 init=normal bias=0\noutput 2").text()
    assert canonical == (
        "input 2\n"
        "dense 0 layer=dense_0 units=3 activation=elu(alpha=1) init=glorot_uniform bias=1 bias_init=glorot_uniform "
        "frozen=0 lr=1 l1=0 l2=0 max_norm=0\n"
        "dense 1 layer=dense_1 units=3 activation=identity init=normal(std=0.05) bias=0 frozen=0 lr=1 l1=0 l2=0 max_norm=0\n"
        "output 2\n"
    )
    for text in (canonical, DAG.format(activation="leaky_relu")):
        net = reference.Net(text)
        assert reference.Net(net.text()).text() == net.text()


# ---- training ----

SMALL = "input 2\ndense 0 layer=a units=3 activation=tanh\ndense 1 layer=b units=2\noutput 2"
X, Y = [[0.1, 0.2], [0.3, -0.4], [-0.5, 0.6]], [[1, 0], [0, 1], [1, 1]]


def test_step_in_parts_and_micro_batches_agree():
    whole, parts = trainer_of(SMALL), trainer_of(SMALL)
    loss = whole.backward(X, Y, [1, 2, 3])
    micro = parts.backward(X[:1], Y[:1], [1], total=6) + parts.backward(X[1:], Y[1:], [2, 3], accumulate=True, total=6, first_row=1)
    assert micro == pytest.approx(loss, rel=1e-15)
    np.testing.assert_allclose(parts.grads, whole.grads, rtol=1e-13)
    out = np.array(parts.forward(X)[0])
    parts.backward_from([2 * (out - Y) / 2 * np.array([[1], [2], [3]]) / 6])
    np.testing.assert_allclose(parts.grads, whole.grads, rtol=1e-13)
    whole.apply()
    assert parts.step(X, Y, [1, 2, 3]) == loss and parts.net.params == whole.net.params


def test_an_epoch_is_the_same_as_its_steps():
    epoch, steps = trainer_of(SMALL, optimizer="adam"), trainer_of(SMALL, optimizer="adam")
    mean = epoch.epoch(X, Y, [1, 2, 3], np.array([2, 0, 1]), 2, np.array([0.1, 0.2]))
    losses = []
    for rate, rows in ((0.1, [2, 0]), (0.2, [1])):
        steps.set("lr", rate)
        losses.append(steps.step([X[r] for r in rows], [Y[r] for r in rows], [1 + r for r in rows]))
    assert epoch.net.params == steps.net.params and epoch.slots == steps.slots and epoch.get("lr") == 0.001
    assert mean == pytest.approx((4 * losses[0] + 2 * losses[1]) / 6)


def test_labels_are_the_same_as_rows_of_probabilities():
    labels, rows = trainer_of(SMALL, "cross_entropy"), trainer_of(SMALL, "cross_entropy")
    assert labels.step(X, np.array([0, 1, 0])) == rows.step(X, [[1, 0], [0, 1], [1, 0]])
    assert labels.net.params == rows.net.params and labels.net.text().endswith("output 2 activation=softmax\n")


def test_frozen_layers_do_not_change():
    trainer = trainer_of(SMALL, optimizer="sgd(lr=0.1,weight_decay=0.1,decay_bias=1)")
    trainer.net.freeze("a", True)
    before = trainer.net.params.tolist()
    trainer.step(X, Y)
    of_a = {i for layer, _, at, rows, cols in trainer.net.tensors() if layer == "a" for i in range(at, at + rows * cols)}
    for i, (old, new) in enumerate(zip(before, trainer.net.params, strict=True)):
        assert (trainer.grads[i] == 0 and old == new) if i in of_a else old != new
    trainer.net.freeze(None, True)
    trainer.step(X, Y)
    assert not any(trainer.grads)


def test_float32_rounds_stored_values():
    trainer = trainer_of(SMALL, dtype="float32")
    rounded = trainer_of(SMALL, dtype="float32")
    trainer.step(np.array(X), Y)
    rounded.step(np.array(X, np.float32), Y)
    assert trainer.net.params.typecode == "f" and trainer.net.params == rounded.net.params


# ---- errors ----

BAD_GRAPHS = {
    "input 2": "no output",
    "output 0": "graph line 1: there is no node 0 before this line: start with an input",
    "input 0\noutput 0": 'graph line 1: the width of an input must be a whole number from 1 to 2147483647, not "0"',
    "input 2 3\noutput 0": 'unexpected "3" at the end of the line',
    "input 2\ndens 0 units=2\noutput 1": 'unknown statement "dens"; did you mean "dense"\\? valid: input, ids, dense',
    "input 2\ndense 1 units=2\noutput 1": "graph line 2: there is no node 1 before this line: the last is node 0",
    "input 2\ndense units=2\noutput 1": 'expected the number of an earlier node, not "units=2"',
    "input 2\ndense\noutput 1": "the number of an earlier node is missing",
    "input 2\ndense 0\noutput 1": "the new layer dense_0 needs units=N",
    "input 2\ndense 0 units\noutput 1": "units needs a value: units=VALUE",
    "input 2\ndense 0 units=2 actvation=relu\noutput 1": 'unknown setting "actvation"; did you mean "activation"\\? valid: layer, ',
    "input 2\ndense 0 units=2 activation=rely\noutput 1": 'unknown activation "rely"; did you mean "relu"\\? valid: identity, relu',
    "input 2\ndense 0 units=2 activation=softmax\noutput 1": "softmax is an output activation,.* the loss cross_entropy, which includes it",
    "input 2\ndense 0 units=2 activation=elu(alpha=-1)\noutput 1": r"alpha must be in \[0,inf\), not -1",
    "input 2\ndense 0 units=2 activation=elu(alpha= 1\noutput 1": r'"elu\(alpha= 1" does not end with "\)": add "\)"$',
    "input 2\ndense 0 units=2 activation=elu(alpha=x)\noutput 1": 'alpha must be a number, not "x"',
    "input 2\ndense 0 units=2 activation=elu(alfa=1)\noutput 1": 'unknown parameter "alfa"; valid: alpha',
    "input 2\ndense 0 layer=a.b units=2\noutput 1": '"a.b" is not a valid layer name',
    "input 2\ndense 0 layer=a units=3\ndense 1 layer=a\noutput 2": "layer a takes 2 columns, but node 1 has 3",
    "input 2\ndense 0 layer=a units=2\ndense 1 layer=a bias=0\noutput 2": "layer a already exists: remove bias= to use it again",
    "input 2\ninput 3\nadd 0 1\noutput 2": "add needs operands of the same width, but node 0 has 2 columns and node 1 has 3",
    "input 2\noutput 0\noutput 0": "node 0 is already an output",
    "input 2\noutput 0 activation=identity mean=(0 0)": "an output with mean needs std too",
    "input 2\noutput 0 activation=identity std=(1 1)": "an output with std needs mean too",
    "input 2\noutput 0 activation=identity mean=(0 0) std=(1 0)": "std of column 1 is 0, but must be finite and above 0",
    "input 2\noutput 0 activation=identity mean=(0 inf) std=(1 1)": "mean of column 1 is inf, but must be finite",
    "input 2\noutput 0 activation=identity mean=(0) std=(1 1)": "mean has fewer numbers than the output has columns: 2",
    "input 2\noutput 0 activation=identity mean=(0.25) std=(1 1)": "mean has 1 number, but the output has 2 columns",
    "input 2\noutput 0 activation=identity mean=(0 0 0) std=(1 1)": "mean has more than 2 numbers, but the output has 2 columns",
    "input 2\noutput 0 activation=identity mean=(0 x) std=(1 1)": 'mean must be numbers, not "x"',
    "input 2\noutput 0 activation=identity mean=0,0,0 std=(1 1)": "mean=0,0,0 must be a list of numbers in \\( \\)",
    "input 2\noutput 0 activation=identity mean=(0 0 std=(1 1": "does not end with",
    "input 2\noutput 0 activation=exp mean=(0 0) std=(1 1)": "needs activation=identity",
}
BAD_CALLS = [  # method, arguments, error, its text
    ("step", ([[1, 2, 3]], [[1, 0]]), ValueError, r"input 0 has shape \(1, 3\), but \(n, 2\) is expected"),
    ("step", (X, [1, 0, 1]), ValueError, r"target 0 has shape \(3,\), but \(3, 2\) is expected"),
    ("step", (X, Y[:2]), ValueError, r"target 0 has shape \(2, 2\), but \(3, 2\) is expected"),
    ("step", ([[1, 2], [3]], Y), ValueError, "rows of different shapes"),
    ("step", ([["1", "2"]], [[1, 0]]), TypeError, "input 0 must contain only numbers"),
    ("step", ([], []), ValueError, "the batch has 0 rows, but needs at least 1"),
    ("step", (X, Y, [1, 0, -1]), ValueError, "the weight of row 2 is -1, but must be finite and at least 0"),
    ("step", (X, Y, [0, 0, 0]), ValueError, "all row weights are 0, so no row is there: give at least one row a weight above 0"),
    ("step", (X, Y, [1e308, 0, 1e308]), ValueError, "the row weights of a batch sum to inf, but the sum must be finite and above 0"),
    ("step", (X, Y, [1, math.nan, 1]), ValueError, "the weight of row 1 is nan, but must be finite"),
    ("step", (X, [[1, 0], [0, INF], [1, 1]]), FloatingPointError, r"loss of output 0 \(mse\) is inf"),
    ("step", ([[INF, 0]], [[1, 0]]), FloatingPointError, "the gradient of layer a"),
    ("step", ([[math.nan, 0]], [[1, 0]]), FloatingPointError, r"loss of output 0 \(mse\) is nan"),
    ("epoch", (X, Y, None, [0, 3], 2, None), ValueError, r"index\[1\] is 3, but must be a row number from 0 to 2"),
    ("epoch", (X, Y, None, None, 0, None), ValueError, "batch_rows is 0, but must be at least 1"),
    ("epoch", (X, Y, None, None, 2, [0.1]), ValueError, r"lr has shape \(1, 1\), but \(2, 1\) is expected"),
    ("forward", ([],), ValueError, "the batch has 0 rows, but needs at least 1"),
    ("backward_from", ([[[1, 1]]],), ValueError, "the outputs have no values: call forward first"),
    ("set", ("lr", -1), ValueError, r"lr must be in \[0,inf\), not -1"),
    ("get", ("rate",), ValueError, 'a trainer with adam has no parameter "rate"; valid: lr='),
    ("set", ("decay_bias", 1), ValueError, "decay_bias cannot be changed"),
    ("set_average", (2, 0, 1), ValueError, r"decay must be in \[0,1\], not 2"),
    ("set_average", (1, 0, 0), ValueError, "every is 0, but must be at least 1"),
]


@pytest.mark.parametrize("graph", BAD_GRAPHS)
def test_a_bad_graph_is_refused(graph):
    with pytest.raises(ValueError, match=BAD_GRAPHS[graph]):
        reference.Net(graph)


@pytest.mark.parametrize(("method", "arguments", "error", "text"), BAD_CALLS)
def test_a_bad_call_is_refused_and_changes_nothing(method, arguments, error, text):
    trainer = trainer_of(SMALL, optimizer="adam")
    trainer.step(X, Y)
    before = bits(trainer)
    with pytest.raises(error, match=text):
        getattr(trainer, method)(*arguments)
    assert bits(trainer) == before


def test_apply_refuses_a_gradient_that_is_not_finite():
    trainer = trainer_of(SMALL)
    trainer.grads[-1] = INF
    before = bits(trainer)
    with pytest.raises(FloatingPointError, match=r"layer b \(bias\)"):
        trainer.apply()
    assert bits(trainer) == before


@pytest.mark.parametrize(
    ("loss", "y", "text"),
    [
        ("hinge", [[0, 1]], "column 0 is 0, but hinge needs values in {-1, 1}"),
        ("bce", [[1, 1.5]], r"column 1 is 1.5, but bce needs values in \[0,1\]"),
        ("poisson", [[-1, 0]], r"column 0 is -1, but poisson needs values in \[0,inf\)"),
        ("cross_entropy", np.array([2]), "label 2 is not in 0 to 1, the classes of the output"),
    ],
)
def test_targets_out_of_range_are_refused_with_their_row(loss, y, text):
    with pytest.raises(ValueError, match=f"target 0, row 0.*{text}"):
        trainer_of(SMALL, loss).step([[1, 2]], y)


def test_labels_must_be_integers():
    with pytest.raises(ValueError, match="target 0 has labels that are not integers, but cross_entropy needs integer labels, or 2 "):
        trainer_of(SMALL, "cross_entropy").step(X, [0.0, 1.0, 0.0])
