"""Wrong arguments of bp.explain: what the errors say."""

from __future__ import annotations

import numpy as np
import pytest

import microbp as bp

NAN = float("nan")


def two_outputs(backend):
    x, z = bp.Input(2), bp.Input(3)
    return bp.Network([x, z], [bp.Dense(1, name="a")(x), bp.Dense(2, name="b")(z)], seed=0, backend=backend)


@pytest.mark.parametrize(
    ("arguments", "options", "error", "words"),
    [
        (([[1, 2], [3, 4]],), {}, ValueError, r"x has 2 rows, but one row is explained at a time: pass x\[0\]"),
        (([1, 2, 3],), {}, ValueError, "x has 3 numbers, but a row of this net has 2"),
        ((np.zeros((0, 2)),), {}, ValueError, "x has 0 numbers, but a row of this net has 2"),
        (([1, NAN],), {}, ValueError, "x has nan at place 1"),
        (([-np.inf, 0],), {}, ValueError, "x has -inf at place 0"),
        (([0, 1e39],), {}, ValueError, r"x has 1e\+39 at place 1: put a number there that float32 can hold"),
        (([[1], [2, 3]],), {}, ValueError, "x cannot be read as a row: its parts differ in shape"),
        (([[1], [2]],), {}, ValueError, r"x has the shape \(2, 1\), but a row of this net has \(2,\)"),
        ((["a", "b"],), {}, TypeError, r"x must have numbers, not \['a', 'b'\]"),
        ((None,), {}, TypeError, "x must have numbers, not None"),
        (([1, 2], 1), {}, ValueError, "y without a loss: pass loss='mse' or another; or leave both out"),
        (([1, 2], None, "mse"), {}, ValueError, "loss without a target: pass y; or leave both out"),
        (([1, 2], NAN, "mse"), {}, ValueError, "NaN"),
        (([1, 2], [1, 2], "mse"), {}, ValueError, "y"),
        (([1, 2], "a", "mse"), {}, TypeError, "y must contain real numbers, not strings"),
        (([1, 2], 2, "bce"), {}, ValueError, "y"),
        (([1, 2], 1, "msee"), {}, ValueError, "unknown loss 'msee'; did you mean 'mse'"),
        (([1, 2], 1, 3), {}, TypeError, "explain: a loss must be a name"),
        (([1, 2], 1, ["mse", "mse"]), {}, ValueError, "explain: the network has 1 output, but loss contains 2 losses"),
        (([1, 2], 1, lambda o, t: o), {}, ValueError, "a loss of your own has no formula"),
        (([1, 2],), {"output": 1}, ValueError, "output is 1, but the net has 1 output column, numbered from 0"),
        (([1, 2],), {"output": "a"}, TypeError, "output must be a whole number, not 'a'"),
        (([1, 2], 1, "mse"), {"output": 0}, ValueError, "the loss is differentiated: leave output out"),
    ],
)
def test_wrong_arguments(arguments, options, error, words, backend):
    net = bp.mlp([2, 3, 1], seed=0, backend=backend)
    with pytest.raises(error, match=words):
        bp.explain(net, *arguments, **options)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        (([1, 2],), ValueError, r"x\[0\] has 1 number, but a row of this net has 2"),
        (([1, 2, 3],), ValueError, r"x must be a list of 2 rows, one per input, not \[1, 2, 3\]"),
        ((np.zeros((2, 3)),), ValueError, "x must be a list of 2 rows, one per input, not an array"),
        (([[1, 2], [3, 4, 5]], [1], ["mse", "mse"]), ValueError, "y must be a list of 2 targets, one per output"),
        (([[1, 2], [3, 4, 5]], {"a": 1}, ["mse", "mse"]), ValueError, "explain: y"),
    ],
)
def test_wrong_arguments_for_several_inputs_and_outputs(arguments, error, words, backend):
    with pytest.raises(error, match=words):
        bp.explain(two_outputs(backend), *arguments)


def test_a_sequence_with_its_axes_exchanged_is_refused(backend):
    x = bp.Sequence(4, 2)
    net = bp.Network(x, bp.Conv(1, 2)(x), seed=0, backend=backend)
    with pytest.raises(ValueError, match=r"x has the shape \(2, 4\), but a row of this net has \(4, 2\)"):
        bp.explain(net, np.ones((2, 4)))


@pytest.mark.parametrize("bad", [NAN, np.inf])
def test_weights_that_are_not_finite_are_named(bad, backend):
    net = bp.mlp([2, 3, 1], seed=0, backend=backend)
    net.tensors["dense_1.weight"][0, 1] = bad
    for options in ({}, {"y": 1, "loss": "mse"}):
        with pytest.raises(ValueError, match=r"explain: net.tensors\['dense_1.weight'\] contains NaN or infinity"):
            bp.explain(net, [1, 2], **options)


def test_wrong_ids(backend):
    x = bp.Ids(2, 5)
    net = bp.Network(x, bp.Embedding(5, 2)(x), seed=0, backend=backend)
    with pytest.raises(TypeError, match="x must have ids, which are whole numbers"):
        bp.explain(net, [1.0, 2.0])
    with pytest.raises(ValueError, match="the id is 5|5"):
        bp.explain(net, [1, 5])


def test_wrong_nets_and_trainers(backend):
    net = bp.mlp([2, 3, 1], seed=0, backend=backend)
    t = bp.Trainer(net, "mse")
    with pytest.raises(TypeError, match="the first argument must be a bp.Network or a bp.Trainer, not 3"):
        bp.explain(3, [1, 2])
    with pytest.raises(ValueError, match="the trainer has its loss: leave loss out"):
        bp.explain(t, [1, 2], 1, "mse")
    with pytest.raises(ValueError, match="y without a loss"):
        bp.explain(bp.Trainer(net, loss=None), [1, 2], 1)
    with pytest.raises(ValueError, match="a loss of your own"):
        bp.explain(bp.Trainer(bp.mlp([2, 1], backend=backend), loss=lambda o, t, w: (0.0, o)), [1, 2], 1)
    with pytest.raises(ValueError, match="output 0 has the activation identity, but the loss"):
        bp.explain(net, [1, 2], 1, "bce")


def test_wrong_names_of_ways():
    e = bp.explain(bp.mlp([2, 3, 1], seed=0), [1, 2])
    with pytest.raises(ValueError, match=r"unknown weight or number 'dense_0.weigth\[0, 1\]'; did you mean 'dense_0.weight\[0, 1\]'"):
        e.ways("dense_0.weigth[0, 1]")
    with pytest.raises(TypeError, match="ways: name must be a string, not 3"):
        e.ways(3)
    with pytest.raises(ValueError, match=r"more than 100 numbers, too many to follow: explain a part of it, net.part\(...\)"):
        bp.explain(bp.mlp([2, 99, 1], seed=0), [1, 2]).ways("x[0]")
