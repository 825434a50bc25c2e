"""bp.minimize: every solver on the problems of More, Garbow & Hillstrom 1981, the iterates of L-BFGS, functions that fail."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from cases import SOLVERS
from optimizer_cases import FLAT

import microbp as bp
from microbp.reference.solvers.table import SOLVERS as ROWS

BACKENDS = ["compiled", "reference"]

MINIMIZERS = [name for name in SOLVERS if name != "bayesian_regularization"]  # which adds a penalty of its own

every_solver = pytest.mark.parametrize("solver", MINIMIZERS)
every_problem = pytest.mark.parametrize("problem", FLAT)


@pytest.fixture(params=BACKENDS, autouse=True)
def chosen(request, monkeypatch):
    """Every test runs with each backend."""
    monkeypatch.setenv("MICROBP_BACKEND", request.param)
    return request.param


def gradient_of(problem):
    def f(x):
        value, gradient = FLAT[problem](x.tolist())
        return value, np.array(gradient)

    return f


def residuals_of(problem):
    return lambda x: tuple(map(np.array, FLAT[problem].residuals(x.tolist())))


@pytest.mark.parametrize("given", [gradient_of, residuals_of])
@every_problem
@every_solver
def test_every_solver_reaches_the_minimum(solver, problem, given):
    one = FLAT[problem]
    if given is gradient_of and ROWS[solver].make.NEEDS_RESIDUALS:
        pytest.skip("it solves least squares only")
    found = bp.minimize(given(problem), one.start, SOLVERS[solver], gradient_tolerance=1e-11)
    near = one.near * np.maximum(1, np.abs(one.minimum))
    assert found.reason in ("gradient", "no step")
    np.testing.assert_array_less(np.abs(found.x - one.minimum), near)
    value, gradient = one(found.x.tolist())
    assert found.value == pytest.approx(value, rel=1e-14, abs=1e-300)
    np.testing.assert_allclose(found.gradient, gradient, rtol=1e-10, atol=1e-12 * max(1, np.abs(found.x).max()))
    assert found.iterations <= found.evaluations


@every_problem
@every_solver
def test_both_backends_take_the_same_way(solver, problem, monkeypatch):
    one, found = FLAT[problem], []
    for backend in BACKENDS:
        monkeypatch.setenv("MICROBP_BACKEND", backend)
        found.append(bp.minimize(residuals_of(problem), one.start, SOLVERS[solver], iterations=8))
    assert found[0].iterations == found[1].iterations
    assert found[0].evaluations == found[1].evaluations
    close = 1e-12 if solver == "lbfgs" else 1e-11  # the others have quotients of differences, which make rounding errors larger
    np.testing.assert_allclose(found[0].x, found[1].x, rtol=close, atol=close)


@every_problem
def test_the_iterates_of_lbfgs_are_those_of_scipy(problem):
    """30 iterations, and as many evaluations until then."""
    optimize = pytest.importorskip("scipy.optimize", reason="SciPy is not installed")
    one, iterates, calls, counts = FLAT[problem], [], [], []

    def f(x):
        calls.append(x)
        return gradient_of(problem)(x)

    def keep(x):
        iterates.append(x.copy())
        counts.append(len(calls))

    options = {"maxcor": 10, "maxiter": 30, "ftol": 0, "gtol": 1e-8}
    optimize.minimize(f, np.array(one.start, float), jac=True, method="L-BFGS-B", options=options, callback=keep)
    assert len(iterates) > 8
    for i, (x, count) in enumerate(zip(iterates, counts), 1):
        found = bp.minimize(gradient_of(problem), one.start, bp.LBFGS(), iterations=i)
        np.testing.assert_allclose(found.x, x, rtol=1e-8, atol=1e-8)
        assert found.evaluations == count


# ---- functions that fail, and arguments ----


def barrier(x):
    """The minimum is at 0.99; it is not finite from 1 on."""
    inside = x[0] < 1
    return -100 * x[0] - math.log(1 - x[0]) if inside else math.nan, np.array([1 / (1 - x[0]) - 100 if inside else math.inf])


def cliff(x):
    """Finite near 0 only, where it has no minimum."""
    return x[0] if x[0] > -1e-9 else math.inf, np.ones(1)


def tower(x):
    """exp of exp of x: it overflows where a first step goes."""
    with np.errstate(over="ignore", invalid="ignore"):
        inner = np.exp(5 * x)
        return np.exp(inner).sum() + x @ x, 5 * inner * np.exp(inner) + 2 * x


@pytest.mark.parametrize(("function", "start"), [(barrier, [0.0]), (cliff, [0.0]), (tower, [0.6, -2.0])])
@every_solver
def test_functions_that_blow_up(solver, function, start):
    if ROWS[solver].make.NEEDS_RESIDUALS:
        pytest.skip("it solves least squares only")
    found = bp.minimize(function, start, SOLVERS[solver], iterations=300)
    assert np.isfinite([*found.x, found.value, *found.gradient]).all()
    assert found.value < function(np.array(start))[0]
    if function is barrier:
        assert found.x == pytest.approx(0.99, abs=1e-8)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@every_solver
def test_a_function_that_is_not_finite_at_the_start(solver, bad):
    for value, slope in ((bad, 1.0), (1.0, bad)):
        with pytest.raises(FloatingPointError, match="the function that is minimized is not finite"):
            bp.minimize(lambda x, v=value, s=slope: (np.full(1, v), np.full((1, 1), s)), [0.0], SOLVERS[solver])
    with pytest.raises(FloatingPointError, match="the sum of squares is not finite"):
        bp.minimize(lambda x: (np.full(2, 1.2e154), np.ones((2, 1))), [0.0], SOLVERS[solver])


@pytest.mark.parametrize("error", [KeyError, FloatingPointError, KeyboardInterrupt])
@pytest.mark.parametrize("call", [1, 2, 5, 9])
@every_solver
def test_errors_pass_through_and_leave_the_best_point(solver, call, error):
    calls = []

    def f(x):
        calls.append(x)
        if len(calls) == call:
            raise error("mine")
        return residuals_of("wood")(x)

    out = np.full(4, -1.0)
    with pytest.raises(error, match="mine"):
        bp.minimize(f, FLAT["wood"].start, SOLVERS[solver], out=out)
    assert len(calls) == call
    assert FLAT["wood"](out.tolist())[0] <= FLAT["wood"](FLAT["wood"].start)[0]


@every_solver
def test_reasons_to_stop(solver):
    f, start = residuals_of("wood"), FLAT["wood"].start
    few = bp.minimize(f, start, SOLVERS[solver], iterations=3)
    assert (few.reason, few.iterations) == ("iterations", 3)
    goal = bp.minimize(f, start, SOLVERS[solver], goal=few.value)
    assert (goal.reason, goal.iterations) == ("goal", 3)
    np.testing.assert_array_equal(goal.x, few.x)
    flat = bp.minimize(f, start, SOLVERS[solver], gradient_tolerance=1e-3)
    assert flat.reason == "gradient"
    assert np.abs(flat.gradient).max() <= 1e-3
    out = np.zeros(4)
    end = bp.minimize(f, start, SOLVERS[solver], out=out)
    assert end.reason in ("no step", "gradient")
    np.testing.assert_array_equal(out, end.x)
    with pytest.raises(dataclasses.FrozenInstanceError):
        end.x = out
    assert bp.minimize(f, end.x, SOLVERS[solver]).value <= end.value


@pytest.mark.parametrize(
    ("function", "error", "words"),
    [
        (lambda x: 3.0, TypeError, r"function must return \(value, gradient\) or \(residuals, Jacobian\), not 3.0"),
        (lambda x: (3.0, np.zeros(3)), ValueError, r"function must return a gradient of shape \(2,\), not \(3,\)"),
        (lambda x: (np.zeros(4), np.zeros(2)), ValueError, r"function must return a Jacobian of shape \(4, 2\), not \(2,\)"),
        (
            lambda x: (np.zeros((1, 1)), np.zeros(2)),
            ValueError,
            r"must return a number, or residuals of shape \(m,\), not of shape \(1, 1\)",
        ),
    ],
)
def test_results_of_the_function_that_are_refused(function, error, words):
    with pytest.raises(error, match=words):
        bp.minimize(function, [1.0, 2.0])


def test_squares_of_the_numbers_may_overflow():
    def f(x):  # the numbers of better points are so large that their squares are not finite
        values = np.exp(-1e-158 * x)
        return values, np.diag(-1e-158 * values)

    found = bp.minimize(f, [1.0, 1.0, 1.0], "levenberg_marquardt", iterations=20)
    assert found.iterations == 20
    assert found.value < 0.2  # from 1.5
    assert np.isfinite(found.x).all()


def test_a_function_may_not_change_its_shape():
    calls = []

    def f(x):
        calls.append(x)
        return np.ones(len(calls)), np.ones((len(calls), 2))

    with pytest.raises(ValueError, match=r"function returned values of shape \(1,\) before, but \(2,\) now"):
        bp.minimize(f, [1.0, 2.0])


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ({"x": [[1.0]]}, ValueError, r"x must be finite numbers of shape \(n,\)"),
        ({"x": []}, ValueError, r"x must be finite numbers of shape \(n,\)"),
        ({"x": [math.nan]}, ValueError, r"x must be finite numbers of shape \(n,\)"),
        ({"optimizer": bp.Adam()}, ValueError, "optimizer must be one that uses the same rows several times, such as bp.LBFGS"),
        ({"optimizer": "lbfgs(history=2.5)"}, ValueError, "history must be a whole number, not 2.5"),
        ({"optimizer": 3}, TypeError, "optimizer must be a name"),
        ({"iterations": 2**31}, ValueError, r"minimize: iterations must be below 2\*\*31, not 2147483648"),
        ({"iterations": 0}, ValueError, "iterations must be at least 1, not 0"),
        ({"gradient_tolerance": -1.0}, ValueError, "gradient_tolerance must be in"),
        ({"goal": math.nan}, ValueError, "goal must be in"),
        ({"out": np.zeros(2)}, ValueError, r"out must be a float64 array of shape \(1,\)"),
        ({"out": np.frombuffer(bytes(8))}, ValueError, "out is read-only; pass a writable array"),
    ],
)
def test_arguments_that_are_refused(given, error, words):
    with pytest.raises(error, match=words):
        bp.minimize(**{"function": lambda x: (x @ x, 2 * x), "x": [1.0]} | given)
