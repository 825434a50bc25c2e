"""The reference's formulas, one by one: values and derivatives computed by hand."""

import itertools
import math
import re
from pathlib import Path

import numpy as np
import pytest

from microbp import reference
from microbp.reference.formulas import ACTIVATIONS, LOSSES, OPTIMIZERS, TABLES
from microbp.reference.spec import Spec, number_text, parse_number

INF = math.inf


def trainer_of(graph: str, loss: str | None = None, optimizer: str = "sgd"):
    return reference.Trainer(reference.Net(graph, "float64"), [loss], [1.0], optimizer)


SCALE, ALPHA = 1.0507009873554805, 1.6732632423543772  # selu
SIGMOID_1 = 1 / (1 + math.exp(-1))
PHI_1, DENSITY_1 = 0.8413447460685429, 0.24197072451914337  # of the normal distribution at 1
ACTIVATION_POINTS = {  # z, y, dy/dz
    "identity": [(-2, -2, 1), (INF, INF, 1)],
    "relu": [(2, 2, 1), (-2, 0, 0), (0, 0, 0), (INF, INF, 1)],
    "leaky_relu(slope=0.2)": [(2, 2, 1), (-2, -0.4, 0.2), (0, 0, 0.2)],
    "elu(alpha=2)": [(3, 3, 1), (-1, 2 * (math.exp(-1) - 1), 2 * math.exp(-1)), (0, 0, 2), (1000, 1000, 1), (-1000, -2, 0)],
    "selu": [(2, 2 * SCALE, SCALE), (0, 0, SCALE * ALPHA), (-1000, -SCALE * ALPHA, 0)],
    "gelu": [(0, 0, 0.5), (1, PHI_1, PHI_1 + DENSITY_1), (-1, PHI_1 - 1, 1 - PHI_1 - DENSITY_1), (100, 100, 1)],
    "silu": [(0, 0, 0.5), (1, SIGMOID_1, SIGMOID_1 * (2 - SIGMOID_1)), (1000, 1000, 1), (-1000, 0, 0)],
    "softplus": [(0, math.log(2), 0.5), (1000, 1000, 1), (-1000, 0, 0), (-40, math.exp(-40), math.exp(-40))],
    "softsign": [(1, 0.5, 0.25), (-3, -0.75, 1 / 16), (0, 0, 1)],
    "sigmoid": [
        (0, 0.5, 0.25),
        (1, SIGMOID_1, SIGMOID_1 * (1 - SIGMOID_1)),
        (-40, math.exp(-40), math.exp(-40)),
        (1000, 1, 0),
        (-1000, 0, 0),
    ],
    "hard_sigmoid": [(0, 0.5, 1 / 6), (3, 1, 0), (-3, 0, 0), (9, 1, 0), (2.7, 0.95, 1 / 6)],
    "tanh": [(0, 0, 1), (1, math.tanh(1), 1 / math.cosh(1) ** 2), (1000, 1, 0)],
    "scaled_tanh": [(1.5, 1.7159 * math.tanh(1), 1.7159 * 2 / 3 / math.cosh(1) ** 2)],
}
LOSS_POINTS = {  # raw outputs, targets, the row's loss, its gradient
    "mse": [([1, 4], [3, 1], 6.5, [-2, 3])],
    "half_sse": [([1, 4], [3, 1], 6.5, [-2, 3])],
    "mae": [([1, 4], [3, 1], 2.5, [-0.5, 0.5]), ([1, 4], [1, 4], 0, [0, 0])],
    "huber(delta=2)": [([1, 5], [0, 0], (0.5 + 8) / 2, [0.5, 1]), ([-2], [0], 2, [-2]), ([0], [0], 0, [0])],
    "quantile(q=0.9)": [([1, 4], [3, 1], (1.8 + 0.3) / 2, [-0.45, 0.05]), ([1], [1], 0, [0])],
    "poisson": [([0, 1], [2, 3], (1 + math.e - 3) / 2, [-0.5, (math.e - 3) / 2])],
    "bce": [
        ([0, 0], [1, 0.25], math.log(2), [-0.25, 0.125]),
        ([1000], [1], 0, [0]),
        ([-1000], [1], 1000, [-1]),
        ([40], [1], math.exp(-40), [-math.exp(-40)]),
    ],
    "hinge": [([0.5, 3], [1, -1], (0.5 + 4) / 2, [-0.5, 0.5]), ([1, -2], [1, -1], 0, [0, 0])],
    "cross_entropy": [
        ([0, math.log(3)], [1, 0], math.log(4), [-0.75, 0.75]),
        ([0, 0, 0], [0.5, 0.5, 0], math.log(3), [-1 / 6, -1 / 6, 1 / 3]),
        ([1000, 0], [0, 1], 1000, [1, -1]),
        ([2, -INF], [1, 0], 0, [0, 0]),
    ],
}


def test_every_formula_has_points():
    assert [spec.partition("(")[0] for spec in ACTIVATION_POINTS] == list(ACTIVATIONS)
    assert [spec.partition("(")[0] for spec in LOSS_POINTS] == list(LOSSES)


def test_tables_say_what_formulas_def_says():
    rows = (Path(__file__).parent.parent / "src/formulas.def").read_text()
    for kind, macros in {
        "activation": "ACTIVATION",
        "loss": "(?:ROW_)?LOSS",
        "link": "(?:ROW_)?LINK",
        "initialiser": "INITIALISER",
    }.items():
        assert [name for name, _, _ in reference.formulas(kind)] == re.findall(rf"^{macros}\((\w+),", rows, re.MULTILINE)
    found = re.findall(r'^OPTIMIZER\((\w+), *"([^"]*)", *"([^"]*)"', rows, re.MULTILINE)
    assert reference.formulas("optimizer") == [(name, parameters, slots) for name, slots, parameters in found]
    for name, parameters, link in reference.formulas("loss"):
        assert re.search(rf'LOSS\({name}, +{link},.*"{re.escape(parameters)}"', rows)
    for name, parameters, _ in reference.formulas("activation"):
        assert re.search(rf'ACTIVATION\({name}, +\w, {ACTIVATIONS[name].init}, +"{re.escape(parameters)}"', rows)


@pytest.mark.parametrize("spec", ACTIVATION_POINTS)
def test_activation_at_points(spec):
    trainer = trainer_of(f"input 1\nactivation 0 {spec}\noutput 1")
    z, y, slope = zip(*ACTIVATION_POINTS[spec], strict=True)
    (out,) = trainer.forward([[value] for value in z])
    trainer.backward_from([[[1]] * len(z)], input_grads=True)
    np.testing.assert_allclose(np.ravel(out), y, rtol=2e-15, atol=1e-16)
    np.testing.assert_allclose(np.ravel(trainer.input_grads()[0]), slope, rtol=4e-15, atol=1e-16)
    assert math.isnan(trainer.forward([[math.nan]])[0][0, 0])


@pytest.mark.parametrize("spec", LOSS_POINTS)
def test_loss_at_points(spec):
    for o, t, loss, gradient in LOSS_POINTS[spec]:
        trainer = trainer_of(f"input {len(o)}\noutput 0", spec)
        assert trainer.backward([o], [t], input_grads=True) == pytest.approx(loss, rel=4e-15, abs=1e-16)
        np.testing.assert_allclose(trainer.input_grads()[0], [gradient], rtol=4e-15, atol=1e-16)


def test_links():
    net = reference.Net("input 2\noutput 0", "float64")
    for link, expected in {"identity": [1, 1001], "sigmoid": [SIGMOID_1, 1], "exp": [math.e, INF], "softmax": [0, 1]}.items():
        net.set_link(0, link)
        out = np.empty((1, 2))
        net.predict([[[1, 1001]]], [out], True, -1)
        np.testing.assert_allclose(out, [expected], rtol=1e-15)


def test_worked_example():
    trainer = trainer_of("input 2\ndense 0 units=1 activation=sigmoid\noutput 1")
    trainer.net.params[:] = type(trainer.net.params)("d", [2, -3, -3])
    trainer.forward([[-1, -2]])
    trainer.backward_from([[[1]]])
    np.testing.assert_allclose(trainer.grads, [-0.20, -0.39, 0.20], atol=0.005)


# ---- optimizers: two steps by hand, with p = 1, decay 0.1 and the gradients 0.5 and -2 ----


def by_hand(name: str) -> list[float]:
    p, first, second, places = 1.0, 0.0, 0.0, []
    for t, gradient in enumerate([0.5, -2.0], 1):
        g = gradient + 0.1 * p
        if name == "sgd":
            p -= 0.1 * g
        elif name in ("sgd_momentum", "sgd_nesterov"):
            first = 0.9 * first + g
            p -= 0.1 * (first if name == "sgd_momentum" else g + 0.9 * first)
        elif name == "rmsprop":
            first = 0.99 * first + 0.01 * g**2
            p -= 0.1 * g / (math.sqrt(first) + 1e-8)
        else:
            first, second = 0.9 * first + 0.1 * g, 0.999 * second + 0.001 * g**2
            p -= 0.1 / (1 - 0.9**t) * first / (math.sqrt(second) / math.sqrt(1 - 0.999**t) + 1e-8)
        places.append(p)
    return places


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizer_by_hand(name):
    trainer = trainer_of("input 1\ndense 0 units=1\noutput 1", None, f"{name}(lr=0.1,weight_decay=0.1)")
    trainer.net.params[0] = 1.0
    for steps, (gradient, place) in enumerate(zip([0.5, -2.0], by_hand(name), strict=True), 1):
        trainer.forward([[1]])
        trainer.backward_from([[[gradient]]])
        trainer.apply()
        assert trainer.net.params[0] == pytest.approx(place, rel=1e-14)
        assert trainer.steps == steps
    trainer.reset()
    assert trainer.steps == 0 and not any(itertools.chain(trainer.grads, *trainer.slots.values()))


def test_weight_decay_spares_biases_unless_told():
    for decay_bias in (0, 1):
        trainer = trainer_of("input 1\ndense 0 units=1\noutput 1", None, f"sgd(lr=1,weight_decay=0.5,decay_bias={decay_bias})")
        trainer.net.params[:] = type(trainer.net.params)("d", [2, 2])
        trainer.apply()
        assert trainer.net.params.tolist() == [1, 1 if decay_bias else 2]


# ---- specs ----


@pytest.mark.parametrize("kind", TABLES)
def test_specs_print_what_they_parse(kind):
    for name in TABLES[kind]:
        spec = Spec.parse(kind, name)
        assert Spec.parse(kind, str(spec)) == spec


@pytest.mark.parametrize("value", [0.0, 1.0, 0.1, -2.5, 1e-8, 123456789012345.0, 0.1 + 0.2, 1e300, 5e-324])
def test_numbers_survive_their_text(value):
    assert parse_number(number_text(value)) == value
