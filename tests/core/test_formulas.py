"""The formulas of both backends: their names, and values and derivatives computed by hand."""

import math
import re
from pathlib import Path

import cases
import numpy as np
import pytest

from microbp import reference
from microbp.core import _core
from microbp.reference.formulas import TABLES
from microbp.reference.spec import Spec, number_text, parse_number

BACKENDS = {"compiled": _core, "reference": reference}
ROWS = re.sub(r'"\s+"', "", (Path(__file__).parents[2] / "src/formulas/formulas.def").read_text())  # adjacent string literals joined
TEXT = '"([^"]*)"'
MACROS = {
    "activation": "ACTIVATION",
    "loss": "(?:ROW_)?LOSS",
    "optimizer": "(?:TRUST_)?OPTIMIZER",
    "initializer": "INITIALIZER",
    "output_activation": "(?:ROW_)?OUTPUT_ACTIVATION",
    "solver": "SOLVER",
}


def trainer_of(backend: str, graph: str, loss: str | None = None, optimizer: str = "sgd"):
    module = BACKENDS[backend]
    return module.Trainer(module.Net(graph, "float64"), [loss], [1.0], optimizer)


def column(values) -> np.ndarray:
    return np.array(values, dtype=np.float64).reshape(-1, 1)


# ---- one formula, one row in each of three places ----


@pytest.mark.parametrize("kind", cases.TABLES)
def test_names_parameters_and_meanings_are_the_same_everywhere(kind):
    assert _core.formulas(kind) == reference.formulas(kind)
    names = [name for name, *_ in _core.formulas(kind)]
    assert names == list(cases.TABLES[kind]) == re.findall(rf"^ROW\({MACROS[kind]}, (\w+),", ROWS, re.MULTILINE)


def test_the_reference_and_formulas_def_are_the_same():
    found = re.findall(rf"^ROW\((?:TRUST_)?OPTIMIZER, (\w+),\s*{TEXT},\s*{TEXT},\s*{TEXT}", ROWS, re.MULTILINE)
    assert reference.formulas("optimizer") == [(name, parameters, slots, meaning) for name, slots, parameters, meaning in found]
    slots_of = {name: [word.partition("=")[0] for word in slots.split()] for name, slots, *_ in found}
    assert {name: list(case.slots) for name, case in cases.OPTIMIZERS.items()} == slots_of
    found = re.findall(rf"^ROW\(SOLVER, (\w+),\s*{TEXT},\s*{TEXT},\s*{TEXT}", ROWS, re.MULTILINE)
    assert reference.formulas("solver") == found
    found = re.findall(rf'^ROW\((?:ROW_)?LOSS, (\w+),\s*(\w+),\s*"[^"]*", (\w+),\s*(?:\w+,\s*)?{TEXT},\s*{TEXT}', ROWS, re.MULTILINE)
    assert reference.formulas("loss") == [(name, parameters, activation, meaning) for name, activation, _, parameters, meaning in found]
    assert [str(entry.columns or "PER_NUMBER") for entry in TABLES["loss"].values()] == [columns for _, _, columns, *_ in found]
    assert {name: case.columns for name, case in cases.LOSSES.items()} == {name: e.columns or 1 for name, e in TABLES["loss"].items()}
    found = re.findall(rf"^ROW\(ACTIVATION, (\w+),\s*\w,\s*(\w+),\s*(\w+),\s*{TEXT},\s*{TEXT}", ROWS, re.MULTILINE)
    rows = [
        (name, *cases.AUTO_INITIALIZERS[name], parameters, meaning) for name, parameters, _, meaning in reference.formulas("activation")
    ]
    assert rows == found


@pytest.mark.parametrize("kind", ["activation", "loss", "initializer"])
def test_a_meaning_mentions_every_parameter(kind):
    for name, parameters, _, meaning in _core.formulas(kind):
        assert set(re.findall(r"(\w+)=", parameters)) <= set(re.findall(r"\w+", meaning)), name


@pytest.mark.parametrize("kind", cases.TABLES)
def test_meanings_are_plain_ascii_and_different(kind):
    meanings = [meaning for *_, meaning in _core.formulas(kind)]
    assert len(set(meanings)) == len(meanings)
    assert all(meaning.isascii() and meaning == " ".join(meaning.split()) and meaning for meaning in meanings)


@pytest.mark.parametrize("kind", ["activation", "loss", "optimizer"])
def test_specs_in_the_tables_have_the_names_of_their_rows(kind):
    for name, case in cases.TABLES[kind].items():
        assert Spec.parse(kind, case.spec).name == name


# ---- at points ----


@pytest.mark.parametrize("name", cases.ACTIVATIONS)
def test_activation_at_points(backend, name):
    case = cases.ACTIVATIONS[name]
    trainer = trainer_of(backend, f"input 1\nactivation 0 {case.spec}\noutput 1")
    z, y, slope = zip(*case.points, strict=True)
    x = column(z)  # a variable keeps the array alive: backward_from reads it again
    (out,) = trainer.forward(x)
    np.testing.assert_allclose(np.ravel(out), y, rtol=2e-15, atol=1e-16)
    trainer.backward_from([np.ones((len(z), 1))], input_grads=True)
    np.testing.assert_allclose(np.ravel(trainer.input_grads()[0]), slope, rtol=4e-15, atol=1e-16)


@pytest.mark.parametrize("name", cases.ACTIVATIONS)
def test_derivatives_of_an_activation_stay_within_their_bounds(name):
    case, z = cases.ACTIVATIONS[name], np.linspace(-9, 9, 3601)
    trainer = trainer_of("compiled", f"input 1\nactivation 0 {case.spec}\noutput 1")
    x = column(z)
    trainer.forward(x)
    trainer.backward_from([np.ones((len(z), 1))], input_grads=True)
    slope = np.ravel(trainer.input_grads()[0])
    steepest, bend = (np.broadcast_to(bound, z.shape) for bound in case.bounds(z))
    assert (abs(slope) <= steepest * (1 + 1e-12)).all()
    smooth = np.all([(z[1:] < kink) | (z[:-1] > kink) for kink in case.kinks], axis=0) if case.kinks else np.full(len(z) - 1, True)
    assert (abs(np.diff(slope)) / np.diff(z) <= np.maximum(bend[1:], bend[:-1]) + 1e-9)[smooth].all()


@pytest.mark.parametrize(("spec", "points"), [*((case.spec, case.points) for case in cases.LOSSES.values()), *cases.HARD_POINTS.items()])
def test_loss_at_points(backend, spec, points):
    for o, t, loss, gradient in points:
        trainer = trainer_of(backend, f"input {len(o)}\noutput 0", spec)
        value = trainer.backward(np.array([o], np.float64), np.array([t], np.float64), input_grads=True)
        assert value == pytest.approx(loss, rel=4e-15, abs=1e-16)
        np.testing.assert_allclose(trainer.input_grads()[0], [gradient], rtol=4e-15, atol=1e-16)


@pytest.mark.parametrize("activation", cases.OUTPUT_ACTIVATION_POINTS)
def test_output_activations(backend, activation):
    net, out = BACKENDS[backend].Net("input 2\noutput 0", "float64"), np.empty((1, 2))
    net.set_output(0, activation)
    net.predict([np.array([[1.0, 1001.0]])], [out], False, -1)
    np.testing.assert_allclose(out, [cases.OUTPUT_ACTIVATION_POINTS[activation]], rtol=1e-15)


@pytest.mark.parametrize("name", cases.INITIALIZERS)
def test_initial_weights_and_biases_have_the_standard_deviation_of_the_row(backend, name):
    spec, spread = cases.INITIALIZERS[name]
    net = BACKENDS[backend].Net(f"input 2\ndense 0 units=4000 init={spec} bias_init={spec}\noutput 1", "float64", 3)
    weight, bias = np.split(np.asarray(memoryview(net.params)), [8000])
    # Of n draws, the mean has a standard error of 1/sqrt(n) deviations, and the standard deviation of 1/sqrt(2n): allow 4 of these.
    for drawn in (weight, bias):
        assert abs(drawn.mean()) <= 4 * spread(2, 4000) / math.sqrt(len(drawn))
        assert abs(drawn.std() / (spread(2, 4000) or 1) - bool(spread(2, 4000))) <= 4 / math.sqrt(2 * len(drawn))


# ---- optimizers: two steps computed by hand, with p = 1, decay 0.1 and the gradients 0.5 and -2 ----


def by_hand(name: str) -> list[float]:
    case, p, places = cases.OPTIMIZERS[name], 1.0, []
    slots = [*case.slots.values(), 0.0]
    for t, gradient in enumerate([0.5, -2.0], 1):
        if not case.decoupled:
            p = case.hand(p, gradient + 0.1 * p, slots, t)
        else:
            p = case.hand(p if name == "lamb" else p - 0.1 * 0.1 * p, gradient, slots, t)
        places.append(p)
    return places


@pytest.mark.parametrize("name", cases.OPTIMIZERS)
def test_optimizer_by_hand(backend, name):
    trainer = trainer_of(backend, "input 1\ndense 0 units=1\noutput 1", None, f"{name}(lr=0.1,weight_decay=0.1)")
    params, start = np.asarray(memoryview(trainer.net.params)), list(cases.OPTIMIZERS[name].slots.items())
    params[0], x = 1.0, np.ones((1, 1))
    assert [(slot, *set(memoryview(vector).tolist())) for slot, vector in trainer.slots.items()] == start
    for steps, (gradient, place) in enumerate(zip([0.5, -2.0], by_hand(name), strict=True), 1):
        trainer.forward(x)
        trainer.backward_from([np.array([[gradient]])])
        trainer.apply()
        assert params[0] == pytest.approx(place, rel=1e-14)
        assert trainer.steps == steps
    trainer.reset()
    assert trainer.steps == 0
    assert [(slot, *set(memoryview(vector).tolist())) for slot, vector in trainer.slots.items()] == start
    assert not np.asarray(memoryview(trainer.grads)).any()


@pytest.mark.parametrize("decay_bias", [0, 1])
def test_weight_decay_applies_to_biases_only_with_decay_bias(backend, decay_bias):
    spec = f"sgd(lr=1,weight_decay=0.5,decay_bias={decay_bias})"
    trainer = trainer_of(backend, "input 1\ndense 0 units=1\noutput 1", None, spec)
    params = np.asarray(memoryview(trainer.net.params))
    params[:] = 2
    trainer.apply()
    assert params.tolist() == [1, 1 if decay_bias else 2]


# ---- specs ----


@pytest.mark.parametrize("kind", cases.TABLES)
def test_a_spec_parses_its_own_text(kind):
    for name in cases.TABLES[kind]:
        spec = Spec.parse(kind, name)
        assert Spec.parse(kind, str(spec)) == spec


@pytest.mark.parametrize("value", [0.0, 1.0, 0.1, -2.5, 1e-8, 123456789012345.0, 0.1 + 0.2, 1e300, 5e-324])
def test_numbers_round_trip_through_text(value):
    assert parse_number(number_text(value), "x") == value
