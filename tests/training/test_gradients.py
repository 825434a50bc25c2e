"""Gradients compared with central differences of the training loss, in float64, along random directions in the space of parameters and
inputs.

The bound is 1e-8 |g| + 1e-10 (1 + |L|): with h = 1e-5, the error of a difference is h^2 / 6 = 2e-11 times the third derivative, plus the
rounding of two losses, eps |L| / h = 2e-11 |L|.
"""

import itertools

import cases
import graphs
import numpy as np
import pytest
from rounding_bounds import Passes

import microbp as bp
from microbp.training.engine.engine import Engine

H = 1e-5
ROWS = 7
# All pairs of activation and loss; the shapes rotate, so that each activation and each loss meets each shape.
ROUND = [
    (list(graphs.SHAPES)[(i + j) % len(graphs.SHAPES)], activation, loss)
    for (i, activation), (j, loss) in itertools.product(enumerate(cases.ACTIVATIONS), enumerate(cases.LOSSES))
]


def make(shape, activation, loss, backend):
    """A trainer and a batch with all values far from kinks."""
    spec, columns = cases.LOSSES[loss].spec, cases.LOSSES[loss].columns
    for seed in range(100):
        random = np.random.default_rng((cases.SEED, seed))
        net = graphs.network(shape, cases.ACTIVATIONS[activation].spec, columns, dtype="float64", seed=seed, backend=backend)
        net.params[:] += 0.1 * random.normal(size=len(net.params))
        x = graphs.rows_of(net, ROWS, seed)
        specs = [*["half_sse"] * (len(net.outputs) - 1), spec]
        ys = [cases.LOSSES[one.partition("(")[0]].targets(random, ROWS, o.width) for one, o in zip(specs, net.outputs, strict=True)]
        t = bp.Trainer(net, specs, "sgd", np.linspace(0.5, 1, len(specs)))
        passes = Passes(net, x if isinstance(x, list) else [x], t)
        if passes.nearest_kink(specs, ys) > 100 * H:
            break
    else:
        raise AssertionError("no batch away from kinks in 100 attempts")
    return t, x, ys[0] if len(ys) == 1 else ys


WEIGHT = np.linspace(0, 2, ROWS)


def move(variables, direction, h):
    for variable, part in zip(variables, direction, strict=True):
        variable += h * part


def worst_difference(t, x, y, weight):
    """The largest |numeric - analytic| of three directions, as a fraction of its bound."""
    loss = t.backward(x, y, weight, input_grads=True)
    variables = [t.net.params, *(x if isinstance(x, list) else [x])]
    gradient = [t.grads.copy(), *(t.input_grads if isinstance(x, list) else [t.input_grads])]
    bound = 1e-8 * np.sqrt(sum((g**2).sum() for g in gradient)) + 1e-10 * (1 + abs(loss))
    random, worst = np.random.default_rng(cases.SEED), 0.0
    for _ in range(3):
        direction = [random.normal(size=v.shape) for v in variables]
        length = np.sqrt(sum((d**2).sum() for d in direction))
        direction = [d / length for d in direction]
        move(variables, direction, H)
        above = t.backward(x, y, weight)
        move(variables, direction, -2 * H)
        below = t.backward(x, y, weight)
        move(variables, direction, H)
        analytic = sum((g * d).sum() for g, d in zip(gradient, direction, strict=True))
        worst = max(worst, abs((above - below) / (2 * H) - analytic) / bound)
    return worst


@pytest.mark.parametrize(("shape", "activation", "loss"), ROUND)
def test_gradients_agree_with_differences(backend, shape, activation, loss):
    t, x, y = make(shape, activation, loss, backend)
    for weight in (None, WEIGHT):
        ratio = worst_difference(t, x, y, weight)
        print(f"{ratio:.3g} of the bound")
        assert ratio <= 1


@pytest.mark.parametrize(("shape", "activation", "loss"), ROUND)
def test_check_gradients_agrees(shape, activation, loss):
    t, x, y = make(shape, activation, loss, "compiled")
    check = t.check_gradients(x, y, WEIGHT)
    assert check.error < 1e-6, check


@pytest.mark.parametrize(("shape", "activation", "loss"), ROUND[:: 10 if cases.LONG else 26])
def test_check_gradients_agrees_with_the_reference(shape, activation, loss):
    t, x, y = make(shape, activation, loss, "reference")
    check = t.check_gradients(x, y)
    assert check.error < 1e-6, check


@pytest.mark.parametrize("shape", graphs.SHAPES)
def test_gradients_of_parts_add_up_to_the_batch(backend, dtype, shape):
    net = graphs.network(shape, dtype=dtype, backend=backend)
    for layer in net.layers:
        if layer.kind == "batch_norm":  # batch_norm would use the statistics of the part, not of the whole batch
            net.freeze(layer.name)
    t = bp.Trainer(net, ["mse"] * len(net.outputs))
    weight, x = np.linspace(0.5, 2, 10), graphs.rows_of(net, 10)
    xs = x if isinstance(x, list) else [x]
    ys = [np.ones((10, output.width), dtype) for output in net.outputs]
    cut = lambda arrays, part: [a[part] for a in arrays] if len(arrays) > 1 else arrays[0][part]  # noqa: E731
    loss = t.backward(x, cut(ys, slice(None)), weight)
    whole, parts = t.grads.copy(), [slice(0, 4), slice(4, 8), slice(8, 10)]
    losses = [
        t.backward(cut(xs, part), cut(ys, part), weight[part], accumulate=part.start > 0, total=weight.sum(), first_row=part.start)
        for part in parts
    ]
    # The 10 terms are added in another order: each partial sum is rounded once more.
    assert sum(losses) == pytest.approx(loss, rel=10 * cases.EPS[dtype])
    assert abs(t.grads - whole).max() <= 10 * cases.EPS[dtype] * abs(whole).max()


def test_an_error_of_one_percent_in_one_element_is_found(monkeypatch):
    right, places = Engine.backward, []

    def wrong(self, *arguments, **options):
        loss = right(self, *arguments, **options)
        self.grads[places[-1]] *= 1.01
        return loss

    monkeypatch.setattr(Engine, "backward", wrong)
    random = np.random.default_rng(cases.SEED)
    net = bp.mlp([20, 30, 12], activation="tanh", dtype="float64", seed=1)
    x, y = random.normal(size=(ROWS, 20)), random.normal(size=(ROWS, 12))
    t = bp.Trainer(net, "mse", "sgd")
    assert len(net.params) > 1000
    for place in (*random.choice(len(net.params), 30 if cases.LONG else 10, replace=False), len(net.params) - 1):  # the last is a bias
        places.append(place)
        check = t.check_gradients(x, y)
        net.params[place] += 1.0
        assert check.checked == len(net.params) and net.tensors[check.tensor][check.index] == net.params[place]
        net.params[place] -= 1.0
        assert check.error > 1e-6
        assert check.analytic == pytest.approx(1.01 * check.numeric, rel=1e-3)
