"""bp.LevenbergMarquardt and bp.BayesianRegularization: both backends, never a worse point, files, fit, refusals, and the evidence."""

from __future__ import annotations

import copy
import math
import pickle

import numpy as np
import pytest

import microbp as bp
from microbp.training.engine import penalties

ROWS = 20
CASES = {  # loss, sizes, l2; the last has fewer residuals than parameters
    "tanh": ("mse", [3, 5, 1], 0.0),
    "l2": ("half_sse", [3, 4, 2], 0.01),
    "classes": ("cross_entropy", [4, 5, 3], 0.0),
    "bits": ("bce", [3, 4, 2], 0.0),
    "few rows": ("mse", [3, 8, 6, 1], 0.0),
}
SOLVERS = {
    "fletcher": bp.LevenbergMarquardt(),
    "nielsen": bp.LevenbergMarquardt(mu=0.01, damping="nielsen"),
    "matlab": bp.LevenbergMarquardt(mu=0.001, damping="matlab"),
    "geodesic": bp.LevenbergMarquardt(geodesic=True),
    "bayesian": bp.BayesianRegularization(),
}
BACKENDS = ["compiled", "reference"]
BOTH = [bp.LevenbergMarquardt, bp.BayesianRegularization]


def trainer(case, solver, backend="compiled", dtype="float64"):
    loss, sizes, l2 = CASES[case]
    l2 = 0.0 if isinstance(solver, bp.BayesianRegularization) else l2
    x = h = bp.Input(sizes[0])
    for units in sizes[1:-1]:
        h = bp.Dense(units, "tanh", l2=l2)(h)
    net = bp.Network(x, bp.Dense(sizes[-1], l2=l2)(h), dtype=dtype, seed=0, backend=backend)
    random = np.random.default_rng(1)
    x = random.normal(size=(ROWS, sizes[0]))
    y = np.sin(2 * x @ random.normal(size=(sizes[0], sizes[-1]))) + random.normal(scale=0.1, size=(ROWS, sizes[-1]))
    targets = {"cross_entropy": y.argmax(axis=1), "bce": (y > 0).astype(float)}
    return bp.Trainer(net, loss, solver), x, targets.get(loss, y)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("case", CASES)
def test_both_backends_are_the_same(case, solver, dtype):
    (a, x, y), (b, *_) = (trainer(case, SOLVERS[solver], backend, dtype) for backend in BACKENDS)
    near, steps = (1e-8, 4) if dtype == "float64" else (1e-2, 2)  # rounding changes which damping is found
    for _ in range(steps):
        assert a.step(x, y) == pytest.approx(b.step(x, y), rel=near)
    np.testing.assert_allclose(a.net.params, b.net.params, rtol=0, atol=near)
    assert a.steps == b.steps == steps
    np.testing.assert_allclose(a.grads, b.grads, rtol=0, atol=near)


@pytest.mark.parametrize("solver", ["fletcher", "nielsen", "matlab", "geodesic"])
@pytest.mark.parametrize("case", CASES)
def test_a_step_is_never_worse_and_ends_where_rounding_does(case, solver):
    t, x, y = trainer(case, SOLVERS[solver])
    before = math.inf
    for _ in range(500):
        steps, loss = t.steps, t.step(x, y) + penalties.of_net(t.net)
        assert loss <= before
        assert t.backward(x, y) + penalties.of_net(t.net) == loss
        before = loss
        if t.steps == steps:
            break
    if case in ("tanh", "l2", "few rows"):
        assert t.steps == steps
        assert np.abs(t.grads).max() < 1e-5
        params = t.net.params.copy()
        t.step(x, y)
        assert np.array_equal(params, t.net.params)


@pytest.mark.parametrize("kind", BOTH)
def test_the_number_of_threads_changes_no_bit(kind):
    x, y = np.random.default_rng(0).normal(size=(700, 10)), np.random.default_rng(1).normal(size=(700, 1))
    found = []
    for threads in (1, 2, 3):
        net = bp.mlp([10, 12, 8, 1], activation="tanh", seed=0)
        net.n_threads = threads
        t = bp.Trainer(net, "mse", kind())
        found.append([t.step(x, y) for _ in range(4)] + t.net.params.tolist())
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("solver", SOLVERS)
def test_losses_that_blow_up_leave_finite_parameters(solver, backend):
    """exp of large inputs: most steps are not finite."""
    t = bp.Trainer(bp.mlp([1, 3, 1], activation="exp", seed=1, backend=backend), "mse", SOLVERS[solver])
    x = np.linspace(-30, 30, 15).reshape(-1, 1)
    losses = [t.step(x, np.abs(np.sin(x))) for _ in range(10)]
    assert np.isfinite(losses).all()
    assert np.isfinite(t.net.params).all()
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize("factor", [2.0**-20, 2.0**20])
def test_a_factor_of_the_loss_changes_no_bit(kind, factor):
    found = []
    for weight in (1.0, factor):
        net = bp.mlp([3, 5, 1], activation="tanh", dtype="float64", seed=0)
        t = bp.Trainer(net, "mse", kind(), loss_weights=[weight])
        x = np.random.default_rng(1).normal(size=(30, 3))
        for _ in range(6):
            t.step(x, np.sin(x[:, :1]))
        found.append(net.params.copy())
    assert np.array_equal(*found)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("kind", BOTH)
def test_frozen_layers_stay(kind, backend):
    t, x, y = trainer("tanh", kind(), backend)
    t.net.freeze("dense_0")
    before = t.net.tensors["dense_0.weight"].copy()
    losses = [t.step(x, y) for _ in range(4)]
    assert losses[-1] < losses[0]
    assert np.array_equal(before, t.net.tensors["dense_0.weight"])


# ---- Bayesian regularization ----


@pytest.mark.parametrize("case", ["tanh", "few rows"])
def test_the_evidence_is_that_of_the_jacobian(case):
    """alpha, beta and gamma after a step, by the eigenvalues of J^T J (MacKay 1992), and with those before the step."""
    t, x, y = trainer(case, bp.BayesianRegularization())
    for step in range(12):
        before = t._engine.recorded
        t.step(x, y)
        errors, squares = ((t.predict(x) - y) ** 2).sum(), t.net.params @ t.net.params
        now, j = t._engine.recorded, t.net.jacobian(x)[:, 0]
        if step:
            eigenvalues = np.linalg.svd(j, compute_uv=False) ** 2 * 2 * before["beta"]
            gamma = (eigenvalues / (eigenvalues + 2 * before["alpha"])).sum()
            assert now["effective_parameters"] == pytest.approx(gamma, rel=1e-9)
            alpha = min(now["effective_parameters"] / 2 / squares, 2 * before["alpha"] / before["beta"] * now["beta"])
            assert now["alpha"] == pytest.approx(alpha, rel=1e-12)
        assert now["beta"] == pytest.approx((ROWS - now["effective_parameters"]) / 2 / errors, rel=1e-12)


@pytest.mark.parametrize("backend", BACKENDS)
def test_records_have_the_evidence(backend):
    t, x, y = trainer("tanh", bp.BayesianRegularization(), backend)
    history = t.fit(x, y, epochs=5)
    assert list(history) == ["loss", "alpha", "beta", "effective_parameters", "seconds"]
    assert 0 < history["effective_parameters"][-1] < t.net.params.size
    t.reset()
    assert all(math.isnan(one) for one in t._engine.recorded.values())


def test_it_learns_no_noise():
    """A large net on noisy values of a sine: nearer to the sine than the noise is, with about as few parameters as a small net has."""
    x = np.linspace(-1, 1, 60).reshape(-1, 1)
    noisy = np.sin(4 * x) + np.random.default_rng(0).normal(scale=0.2, size=x.shape)
    errors = []
    for kind in BOTH:
        t = bp.Trainer(bp.mlp([1, 30, 1], activation="tanh", dtype="float64", seed=0), "mse", kind())
        history = t.fit(x, noisy, epochs=200)
        errors.append(np.sqrt(np.mean((t.predict(x) - np.sin(4 * x)) ** 2)))
    assert errors[1] < 0.1 < errors[0]
    assert 4 < history["effective_parameters"][-1] < 15
    assert math.sqrt(1 / 2 / history["beta"][-1]) == pytest.approx(0.2, abs=0.05)  # beta is 1 / (2 variance of the noise)


# ---- what is refused ----


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("kind", BOTH)
def test_what_is_refused(kind, backend):
    name = kind().spec.name
    t, x, y = trainer("tanh", kind(), backend)
    before = t.net.params.copy()
    with pytest.raises(ValueError, match=f"apply does not work with {name}"):
        t.apply()
    with pytest.raises(FloatingPointError, match="X contains NaN, first at row 0"):
        t.step(np.full_like(x, np.nan), y)
    assert np.array_equal(before, t.net.params)
    with pytest.raises(ValueError, match=f'a trainer with {name} has no parameter "lr"; valid: mu='):
        t.lr = 0.1
    for bad in ({"mu": 0}, {"decrease": 1}, {"increase": 1}, {"most": 0}, {"mu": math.inf}):
        with pytest.raises(ValueError, match=f"{next(iter(bad))} must be in "):
            kind(**bad)
    with pytest.raises(ValueError, match="damping is 'gain'; it must be one of 'fletcher'"):
        kind(damping="gain")


@pytest.mark.parametrize("backend", BACKENDS)
def test_bayesian_regularization_refuses_l2(backend):
    x = bp.Input(3)
    net = bp.Network(x, bp.Dense(1, l2=0.1)(x), seed=0, backend=backend)
    t = bp.Trainer(net, "mse", bp.BayesianRegularization())
    with pytest.raises(ValueError, match="layer dense_0 has l2, which does not work with bayesian_regularization: remove it, "):
        t.step(np.ones((4, 3)), np.ones((4, 1)))
    net.freeze("dense_0")
    assert t.step(np.ones((4, 3)), np.ones((4, 1))) >= 0


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("kind", BOTH)
def test_without_any_target_nothing_moves(kind, backend):
    net = bp.mlp([2, 3, 1], seed=0, backend=backend)
    t, before = bp.Trainer(net, ["mse"], kind(), loss_weights=[0.0]), net.params.copy()
    assert t.step(np.ones((4, 2)), np.ones((4, 1))) == 0
    assert t.steps == 0
    assert np.array_equal(net.params, before)


# ---- copies and files ----


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("solver", SOLVERS)
def test_copies_and_files_go_on_bit_for_bit(solver, dtype, backend, tmp_path):
    t, x, y = trainer("tanh", SOLVERS[solver], backend, dtype)
    for _ in range(3):
        t.step(x, y)
    t.save(tmp_path / "a")
    others = [bp.Trainer.load(tmp_path / "a", backend=backend), pickle.loads(pickle.dumps(t)), copy.deepcopy(t)]
    assert all(other.optimizer == SOLVERS[solver] for other in others)
    losses = [t.step(x, y) for _ in range(3)]
    for other in others:
        assert [other.step(x, y) for _ in range(3)] == losses
        assert np.array_equal(t.net.params, other.net.params)
        assert t._engine._core.solver_state == other._engine._core.solver_state


@pytest.mark.parametrize("solver", SOLVERS)
def test_fit_is_an_iteration_of_all_rows_in_each_epoch(solver, tmp_path):
    (a, x, y), (b, *_), (c, *_) = (trainer("tanh", SOLVERS[solver]) for _ in range(3))
    history = a.fit(x, y, epochs=12)
    assert history["loss"] == [b.step(x, y) for _ in range(12)]
    c.fit(x, y, epochs=7, checkpoint=tmp_path / "c")
    c = bp.Trainer.load(tmp_path / "c")
    c.fit(x, y, epochs=5)
    assert np.array_equal(a.net.params, c.net.params)
    for name in set(history) - {"seconds"}:
        assert history[name] == c.history[name]


def test_reasons_to_stop():
    t, x, y = trainer("tanh", bp.LevenbergMarquardt())
    goal = t.fit(x, y, epochs=3)["loss"][-1] * 0.9
    t.fit(x, y, epochs=100, goal=goal)
    assert t.stop_reason == "goal"
    t.fit(x, y, epochs=1000)
    assert t.stop_reason == "no step"
