"""The optimizers in Python: their settings, their state from step to step, and the functions that they minimize."""

from __future__ import annotations

import copy
import inspect
import pickle
import re
from collections.abc import Callable
from dataclasses import fields

import cases
import numpy as np
import pytest

import microbp as bp
from microbp.core import specs

RANDOM = np.random.default_rng(0)
X, Y = RANDOM.normal(size=(8, 3)), RANDOM.normal(size=(8, 2))


def trainer(backend: str = "compiled", optimizer="adam", loss="mse") -> bp.Trainer:
    return bp.Trainer(bp.mlp([3, 4, 2], activation="tanh", dtype="float64", seed=3, backend=backend), loss, optimizer)


def state_of(t: bp.Trainer) -> list[bytes]:
    return [vector.tobytes() for vector in (t.net.params, *t.state.values())]


# ---- settings ----

CLASSES = [
    bp.SGD,
    bp.Momentum,
    bp.ASGD,
    bp.Adagrad,
    bp.Adadelta,
    bp.RMSprop,
    bp.Adam,
    bp.AdamW,
    bp.Adamax,
    bp.NAdam,
    bp.RAdam,
    bp.AdaBelief,
]
CLASSES += [bp.Lion, bp.Lamb, bp.Ftrl, bp.Rprop]
CHOICES = [
    (bp.SGD(momentum=0.9), "sgd_momentum"),
    (bp.SGD(momentum=0.9, nesterov=True), "sgd_nesterov"),
    (bp.Momentum(nesterov=True), "momentum_nesterov"),
    (bp.RMSprop(momentum=0.9), "rmsprop_momentum"),
    (bp.RMSprop(centered=True), "rmsprop_centered"),
    (bp.RMSprop(momentum=0.9, centered=True), "rmsprop_centered_momentum"),
    (bp.Adam(amsgrad=True), "adam_amsgrad"),
    (bp.AdamW(amsgrad=True), "adamw_amsgrad"),
    (bp.Rprop(variant="Rprop-"), "rprop_minus"),
    (bp.Rprop(variant="iRprop+"), "irprop_plus"),
    *((one(), "irprop_minus" if one is bp.Rprop else one.__name__.lower()) for one in CLASSES),
]


ROWS = {one: [row for settings, row in CHOICES if type(settings) is one] for one in CLASSES}


@pytest.mark.parametrize(("settings", "row"), CHOICES, ids=lambda value: value if isinstance(value, str) else "")
def test_settings_choose_a_row_with_its_defaults(settings, row):
    a, b = trainer(optimizer=settings), trainer(optimizer=row)
    for t in (a, b):
        t.fit(X, Y, epochs=3, batch_size=4, shuffle=False)
    assert settings.spec.name == row
    assert state_of(a) == state_of(b)


def test_with_eps_hat_eps_is_added_before_the_bias_correction(backend):
    """Kingma & Ba 2015, end of section 2, in NumPy; eps so large that the two forms differ."""
    t, hat = trainer(backend, bp.Adam(0.1, eps=0.1)), trainer(backend, bp.Adam(0.1, eps=0.1, eps_hat=True))
    p, m, v = hat.net.params.copy(), np.zeros(26), np.zeros(26)
    for step in range(1, 6):
        hat.step(X, Y), t.step(X, Y)
        m, v = 0.9 * m + 0.1 * hat.grads, 0.999 * v + 0.001 * hat.grads**2
        p -= 0.1 * np.sqrt(1 - 0.999**step) / (1 - 0.9**step) * m / (np.sqrt(v) + 0.1)
        np.testing.assert_allclose(hat.net.params, p, rtol=1e-12, atol=1e-14)
    assert abs(hat.net.params - t.net.params).max() > 0.01


def test_every_row_has_settings_and_every_class_its_name():
    assert {row for _, row in CHOICES} == set(cases.OPTIMIZERS)
    for one in CLASSES:
        trainer(optimizer=one.__name__.lower()).step(X, Y)
        assert re.search(rf"^{one.__name__}\(", inspect.getdoc(bp.Optimizer), re.MULTILINE)
        assert not getattr(one(), "decay_bias", False)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: bp.Rprop(variant="Rprop+"), "iRprop-"),
        (lambda: bp.Rprop(etas=(0.5, 0.9)), "eta_plus"),
        (lambda: bp.Rprop(step_sizes=1.0), "two numbers"),
        (lambda: bp.RMSprop(momentum=-0.1), "momentum"),
        (lambda: bp.SGD(lr=-1, momentum=0.9), r"^SGD: lr must be in \[0,inf\), not -1.0"),
        (lambda: bp.AdamW(betas=(0.9, 1)), r"^AdamW: beta2 must be in \[0,1\), not 1.0"),
        (lambda: bp.Ftrl(lr=0), "lr"),
        (lambda: bp.AdamW(weight_decay=-1), "weight_decay"),
        (lambda: bp.NAdam(momentum_decay=-1), "momentum_decay"),
    ],
)
def test_wrong_settings_are_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()


@pytest.mark.parametrize("one", CLASSES)
def test_help_has_the_meaning_default_and_range_of_each_setting(one):
    paragraphs = dict(re.findall(r"^(\w+): ((?:.+\n)+?)(?=\w+: |\n)", one.__doc__, re.MULTILINE))
    parts = {"betas": ["beta1"], "etas": ["eta_minus", "eta_plus"], "step_sizes": ["step_min", "step_max"]}
    parameters = {key: row.text for name in ROWS[one] for key, row in specs.table("optimizer")[name].parameters.items()}
    for field in fields(one):
        text = paragraphs.pop(field.name)
        assert str(field.default).replace("iRprop-", '"iRprop-", the default') in text
        for name in parts.get(field.name, [field.name]):
            assert field.type == "bool" or parameters.get(name, "").replace(",", ", ") in text
    assert set(paragraphs) == {"PyTorch"} or "PyTorch has no equivalent" in one.__doc__


# ---- state ----


@pytest.mark.parametrize("row", cases.OPTIMIZERS)
def test_steps_and_slots_restore_a_state_bit_for_bit(backend, row):
    a = trainer(backend, cases.OPTIMIZERS[row].spec)
    b, c = copy.deepcopy(a), copy.deepcopy(a)
    for _ in range(7):
        a.step(X, Y)
    b.net.params[:] = a.net.params
    for name, slot in a.state.items():
        b.state[name][:] = slot
    b.steps = 7
    b._engine._core.set("last_loss", a._engine._core.get("last_loss"))
    twin = pickle.loads(pickle.dumps(a))
    for t in (a, b, twin):
        t.step(X, Y)
    assert state_of(a) == state_of(b) == state_of(twin)
    a.reset()
    a.net.params[:] = c.net.params
    for t in (a, c):
        t.step(X, Y)
    assert state_of(a) == state_of(c)


@pytest.mark.parametrize("row", cases.OPTIMIZERS)
def test_parameters_without_a_gradient_are_safe(dtype, row):
    """No 0 / 0 in a slot or a constant, even for the smallest eps."""
    parameters = {name: 1e-45 for name in specs.table("optimizer")[row].parameters if name.startswith("eps")}
    if "initial_accumulator_value" in specs.table("optimizer")[row].parameters:
        parameters["initial_accumulator_value"] = 0.0
    t = bp.Trainer(bp.mlp([3, 4, 2], dtype=dtype, seed=0), "mse", specs.OptimizerSpec(row, **parameters))
    for size in (0.0, 0.0, 1e-30, 1.0):
        t.grads[:] = size
        t.apply()
        assert all(np.isfinite(vector).all() for vector in (t.net.params, *t.state.values()))


@pytest.mark.parametrize("lr", [0.3, 0.003])
def test_momentum_equals_sgd_with_momentum_at_a_constant_rate(lr):
    a, b = trainer(optimizer=bp.Momentum(lr)), trainer(optimizer=bp.SGD(lr, 0.9))
    for _ in range(20):
        a.step(X, Y)
        b.step(X, Y)
    np.testing.assert_allclose(a.net.params, b.net.params, rtol=1e-12)


def test_lamb_computes_norms_per_tensor():
    """The norm of a step is lr times the norm of the tensor, for any gradient and any other tensors. A tensor of zeros moves by lr times
    the direction."""
    t = trainer(optimizer=bp.Lamb(lr=0.01))
    before = {name: view.copy() for name, view in t.net.tensors.items()}
    t.grads[:] = 10.0 ** RANDOM.uniform(-2, 4) * RANDOM.normal(size=t.grads.size)
    t.apply()
    for name, view in t.net.tensors.items():
        expected = np.linalg.norm(before[name]) or np.sqrt(view.size)
        np.testing.assert_allclose(np.linalg.norm(view - before[name]), 0.01 * expected, rtol=1e-5)


# ---- iRprop+: undoing a step when the loss rose ----


def by_losses(backend: str, losses: list[float], gradients: list[float]) -> list[float]:
    """The values of one weight under iRprop+ with lr 0.1, starting at 0."""
    t = bp.Trainer(bp.mlp([1, 1], dtype="float64", bias=False, seed=0, backend=backend), "mse", bp.Rprop(0.1, variant="iRprop+"))
    t.net.params[:], places = 0, []
    for loss, gradient in zip(losses, gradients, strict=True):
        t.grads[:] = gradient
        t._engine._core.set("loss", loss)
        t.apply()
        places.append(float(t.net.params[0]))
    return places


@pytest.mark.parametrize(
    ("losses", "places"),
    [
        ([3, 2, 2.5, 1], [-0.1, -0.22, -0.1, -0.04]),  # step 4 is half of 0.12: after an undone step, the sign counts as unchanged
        ([3, 2, 1.5, 1], [-0.1, -0.22, -0.22, -0.16]),
        ([3, np.nan, 9, 1], [-0.1, -0.22, -0.22, -0.16]),
        ([3, 2, np.nan, 1], [-0.1, -0.22, -0.22, -0.16]),
    ],
)
def test_irprop_plus_undoes_a_step_when_the_loss_rose(backend, losses, places):
    np.testing.assert_allclose(by_losses(backend, losses, [1, 1, -1, -1]), places, rtol=1e-12)


def test_every_way_to_step_uses_the_loss_of_the_step(backend):
    """step, backward and apply, accumulated parts, an epoch and a custom loss give the same steps. So does a pickle made after backward."""
    whole, halves, parts, epoch = (trainer(backend, bp.Rprop(0.5, variant="iRprop+")) for _ in range(4))
    own = trainer(backend, bp.Rprop(0.5, variant="iRprop+"), cases.own_mse)
    backtracked = 0
    for _ in range(25):
        before = whole._engine._core.get("last_loss")
        loss = whole.step(X, Y)
        backtracked += loss > before
        halves.backward(X, Y)
        halves = pickle.loads(pickle.dumps(halves))
        halves.apply()
        parts.backward(X[:5], Y[:5], total=8)
        parts.backward(X[5:], Y[5:], total=8, first_row=5, accumulate=True)
        assert parts._engine._core.get("loss") == pytest.approx(loss)
        parts.apply()
        epoch.fit(X, Y, epochs=1, batch_size=8, shuffle=False)
        own.step(X, Y)
        for t in (halves, parts, epoch, own):
            assert t._engine._core.get("last_loss") == pytest.approx(whole._engine._core.get("last_loss"))
            np.testing.assert_allclose(t.net.params, whole.net.params, rtol=1e-9, atol=1e-12)
    assert backtracked, "the loss never rose, so the test shows nothing"
    whole.reset()
    assert np.isnan(whole._engine._core.get("last_loss"))


@pytest.mark.parametrize("loss_of", ["mse", cases.own_mse], ids=["named", "own"])
def test_a_loss_is_used_for_one_update(backend, loss_of):
    t = trainer(backend, loss=loss_of)
    assert np.isnan(t._engine._core.get("loss"))
    loss = t.backward(X, Y) + t.backward(X[:3], Y[:3], accumulate=True)
    assert t._engine._core.get("loss") == loss
    t.apply()
    assert (t._engine._core.get("last_loss"), np.isnan(t._engine._core.get("loss"))) == (loss, True)
    t.steps = 1
    assert np.isnan(t._engine._core.get("last_loss"))


# ---- extremes ----


@pytest.mark.parametrize("extreme", ["a parameter of -inf", "gradients of 1e200"])
@pytest.mark.parametrize("row", cases.OPTIMIZERS)
def test_extremes_have_the_same_effect_in_both_backends(row, extreme):
    found = {}
    for backend in ("compiled", "reference"):
        net = bp.mlp([2, 3, 1], dtype="float64", seed=1, backend=backend)
        t = bp.Trainer(net, "mse", cases.OPTIMIZERS[row].spec)
        if extreme == "a parameter of -inf":
            net.tensors["dense_0.bias"][1] = -np.inf  # relu makes 0 of it, so loss and gradients are finite
        t.backward(np.eye(2), np.zeros((2, 1)))
        if extreme == "gradients of 1e200":
            t.grads[::2] = 1e200
        t.apply()
        t.apply()
        found[backend] = net.params
    np.testing.assert_allclose(found["compiled"], found["reference"], rtol=1e-9)


# ---- minimizing functions of two parameters, with the gradient written into t.grads ----


def rosenbrock(a: float, b: float) -> tuple[float, float, float]:
    """(1 - a)^2 + 100 (b - a^2)^2, 0 at (1, 1), and its gradient."""
    return (1 - a) ** 2 + 100 * (b - a * a) ** 2, -2 * (1 - a) - 400 * a * (b - a * a), 200 * (b - a * a)


def beale(a: float, b: float) -> tuple[float, float, float]:
    """Beale's function, 0 at (3, 0.5), and its gradient."""
    parts = [(1.5 - a + a * b, b - 1, a), (2.25 - a + a * b**2, b**2 - 1, 2 * a * b), (2.625 - a + a * b**3, b**3 - 1, 3 * a * b**2)]
    return sum(f * f for f, _, _ in parts), sum(2 * f * u for f, u, _ in parts), sum(2 * f * v for f, _, v in parts)


def valley(a: float, b: float) -> tuple[float, float, float]:
    """A quadratic with condition number 1000, not aligned with the axes; 0 at (0, 0)."""
    along, across = (a + 2 * b) / 5**0.5, (2 * a - b) / 5**0.5
    return (along**2 + 1000 * across**2) / 2, (along + 2000 * across) / 5**0.5, (2 * along - 1000 * across) / 5**0.5


def minimize(f: Callable[[float, float], tuple[float, float, float]], start: tuple[float, float], optimizer, steps: int) -> float:
    """The smallest value in `steps` steps."""
    t = bp.Trainer(bp.mlp([1, 1], dtype="float64", seed=0), "mse", optimizer)
    t.net.params[:], lowest = start, np.inf
    for _ in range(steps):
        value, *gradient = f(*t.net.params.tolist())
        t.grads[:] = gradient
        t._engine._core.set("loss", value)
        t.apply()
        lowest = min(lowest, value)
    return lowest


FUNCTIONS = {rosenbrock: (-1.2, 1.0), beale: (1.0, 1.0), valley: (0.9, 0.7)}
# optimizer -> for Rosenbrock, Beale and valley: (lr, value reached, steps if not 5000).
# At a constant rate, some optimizers keep moving around the minimum.
REACHED = {
    "sgd": ((0.001, 1e-01), (0.03, 1e-12), (0.001, 1e-03)),
    "sgd_momentum": ((0.003, 1e-12), (0.01, 1e-12), (0.003, 1e-12)),
    "sgd_nesterov": ((0.001, 1e-12), (0.01, 1e-12), (0.001, 1e-12)),
    "momentum": ((0.003, 1e-12), (0.01, 1e-12), (0.003, 1e-12)),
    "momentum_nesterov": ((0.001, 1e-12), (0.01, 1e-12), (0.001, 1e-12)),
    "asgd": ((0.001, 1e-01), (0.03, 1e-05), (0.001, 1e-03)),
    "adagrad": ((1, 1e-03), (0.3, 1e-12), (1, 1e-06)),
    "adadelta": ((0.1, 1e-01), (0.1, 1e-03), (0.1, 1e-01)),
    "rmsprop": ((0.3, 1e-03), (1, 1e-07), (0.001, 1e-02)),
    "rmsprop_momentum": ((0.0001, 1e-11), (0.001, 1e-12), (0.0003, 1e-12)),
    "rmsprop_centered": ((0.0003, 1e-02), (0.001, 1e-08), (0.0001, 1e-03)),
    "rmsprop_centered_momentum": ((0.0001, 1e-11), (0.0003, 1e-12), (0.001, 1e-12)),
    "adam": ((0.03, 1e-12), (0.1, 1e-12), (0.1, 1e-12)),
    "adam_amsgrad": ((0.3, 1e-12), (1, 1e-12), (1, 1e-12)),
    "adamw": ((0.03, 1e-12), (0.1, 1e-12), (0.1, 1e-12)),
    "adamw_amsgrad": ((0.3, 1e-12), (1, 1e-12), (1, 1e-12)),
    "adamax": ((0.1, 1e-12), (0.03, 1e-12), (0.1, 1e-12)),
    "nadam": ((0.01, 1e-05), (0.1, 1e-12), (0.03, 1e-12)),
    "radam": ((0.0003, 1e-12, 20000), (0.03, 1e-12), (0.003, 1e-12, 20000)),
    "adabelief": ((0.03, 1e-12), (0.03, 1e-12), (0.1, 1e-12)),
    "lion": ((0.01, 1e-12), (0.001, 1e-04), (0.1, 1e-12)),
    "ftrl": ((1, 1e-03), (1, 1e-12), (1, 1e-06)),
    "rprop_minus": ((0.001, 1e-02), (0.001, 1e-09), (0.3, 1e-06)),
    "irprop_minus": ((0.001, 1e-05), (0.003, 1e-11), (0.03, 1e-07)),
    "irprop_plus": ((0.0001, 1e-06), (0.003, 1e-11), (0.01, 1e-07)),
    "lamb": ((0.03, 1e-01, 20000), (0.0003, 1e-06), (0.1, 1e-12)),
}


@pytest.mark.parametrize("row", cases.OPTIMIZERS)
def test_optimizers_minimize_functions(row):
    for (f, start), (lr, reached, *steps) in zip(FUNCTIONS.items(), REACHED[row], strict=True):
        lowest = minimize(f, start, specs.OptimizerSpec(row, lr=lr, weight_decay=0.0), *(steps or [5000]))
        assert lowest <= reached, f.__name__
