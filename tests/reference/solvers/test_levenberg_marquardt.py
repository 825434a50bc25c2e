"""Levenberg-Marquardt by itself, on the problems of More, Garbow & Hillstrom 1981, beside SciPy's MINPACK."""

from __future__ import annotations

import math

import numpy as np
import pytest

from microbp.reference.solvers.levenberg_marquardt import BayesianRegularization, LevenbergMarquardt, cholesky, solve
from microbp.reference.solvers.solver import AT_MINIMUM, MOVED, Problem
from microbp.reference.solvers.table import SOLVERS
from microbp.reference.spec import parameters

DEFAULTS = {name: default for name, (default, _) in parameters(SOLVERS["levenberg_marquardt"].parameters).items()}
SETTINGS = {
    "fletcher": DEFAULTS,
    "nielsen": DEFAULTS | {"mu": 0.01, "damping": 1.0},
    "matlab": DEFAULTS | {"mu": 1e-3, "damping": 2.0},
    "geodesic": DEFAULTS | {"geodesic": 1.0},
}


def rosenbrock(x):
    return np.array([10 * (x[1] - x[0] ** 2), 1 - x[0]])


def beale(x):
    return np.array([at - x[0] * (1 - x[1] ** i) for i, at in enumerate((1.5, 2.25, 2.625), 1)])


def powell(x):
    return np.array([x[0] + 10 * x[1], 5**0.5 * (x[2] - x[3]), (x[1] - 2 * x[2]) ** 2, 10**0.5 * (x[0] - x[3]) ** 2])


def wood(x):
    p, q = x[1] - x[0] ** 2, x[3] - x[2] ** 2
    return np.array([10 * p, 1 - x[0], 90**0.5 * q, 1 - x[2], 10**0.5 * (x[1] + x[3] - 2), (x[1] - x[3]) / 10**0.5])


def brown(x):
    return np.array([x[0] - 1e6, x[1] - 2e-6, x[0] * x[1] - 2])


def helical(x):
    angle = np.arctan(x[1] / x[0]) / (2 * np.pi) + (x[0] < 0) / 2
    return np.array([10 * (x[2] - 10 * angle), 10 * (np.sqrt(x[0] ** 2 + x[1] ** 2) - 1), x[2]])


def box(x):
    t = np.arange(1, 11) / 10
    return np.exp(-t * x[0]) - np.exp(-t * x[1]) - x[2] * (np.exp(-t) - np.exp(-10 * t))


PROBLEMS = {  # residuals, start; how many times as many evaluations as MINPACK, which scales the parameters, needs
    "rosenbrock": (rosenbrock, [-1.2, 1.0], 3),
    "beale": (beale, [1.0, 1.0], 3),
    "powell": (powell, [3.0, -1.0, 0.0, 1.0], 3),
    "wood": (wood, [-3.0, -1.0, -3.0, -1.0], 3),
    "brown": (brown, [1.0, 1.0], 10),
    "helical": (helical, [-1.0, 0.0, 0.0], 5),
    "box": (box, [0.0, 10.0, 20.0], 10),
}


def jacobian(f, x):
    """By central differences in long double."""
    x, columns = np.asarray(x, np.longdouble), []
    for i in range(len(x)):
        h = np.longdouble(1e-9) * max(1, abs(x[i]))
        columns.append((f(x + h * (np.arange(len(x)) == i)) - f(x - h * (np.arange(len(x)) == i))) / (2 * h))
    return np.array(columns).T.astype(float)


class Counted:
    """A problem that counts its evaluations, and remembers the last point."""

    def __init__(self, f, m):
        self.f, self.calls, self.at = f, 0, None
        self.problem = Problem(lambda x: self.linearize(x, False)[:2], m, m, self.measure, self.linearize, self.cross)

    def residuals(self, x):
        self.calls, self.at = self.calls + 1, list(x)
        r = self.f(np.array(x))
        if not np.isfinite(r).all():
            raise FloatingPointError
        return r

    def measure(self, x):
        r = self.residuals(x)
        return float(r @ r) / 2

    def linearize(self, x, by_rows):
        r, j = self.residuals(x), jacobian(self.f, x)
        return float(r @ r) / 2, (j.T @ r).tolist(), (j.T @ j).tolist(), [0.0] * len(x)

    def cross(self, x, trial):
        return (jacobian(self.f, x).T @ self.residuals(trial)).tolist()


def minimized(name, settings, most=200):
    f, start, _ = PROBLEMS[name]
    counted = Counted(f, len(f(np.array(start))))
    solver, values, calls = LevenbergMarquardt(list(start), SETTINGS[settings]), [math.inf], 0
    for _ in range(most):
        progress = solver.iterate(counted.problem)
        assert solver.value <= values[-1]
        assert counted.at == solver.x
        if progress != MOVED:
            break
        values.append(solver.value)
        calls = counted.calls
        if solver.value < 1e-24:
            break
    return solver, calls


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("name", PROBLEMS)
def test_problems(name, settings):
    solver, _ = minimized(name, settings)
    assert solver.value < 1e-18


@pytest.mark.parametrize("name", PROBLEMS)
def test_the_cost_is_that_of_scipy(name):
    """As low, in at most some times as many evaluations."""
    optimize = pytest.importorskip("scipy.optimize", reason="SciPy is not installed")
    f, start, times = PROBLEMS[name]
    other = optimize.least_squares(f, start, jac=lambda x: jacobian(f, x), method="lm", ftol=1e-15, xtol=1e-15, gtol=1e-15)
    solver, calls = minimized(name, "nielsen")
    assert solver.value <= max(other.cost, 1e-18)
    assert calls <= 2 * times * other.nfev  # each step evaluates twice: the value alone, and with the Jacobian


@pytest.mark.parametrize("n", [1, 2, 5, 30])
def test_cholesky_is_that_of_numpy(n):
    b = np.random.default_rng(n).normal(size=(n, n + 2))
    a, added, v = b @ b.T, np.arange(n) / 10, np.arange(1.0, n + 1)
    factor = cholesky(a.tolist(), added.tolist())
    for row, other in zip(factor, np.linalg.cholesky(a + np.diag(added)), strict=True):
        np.testing.assert_allclose(row, other[: len(row)], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(solve(factor, v.tolist()), np.linalg.solve(a + np.diag(added), v), rtol=1e-8)
    for bad in (-2 * a[-1, -1], math.nan, math.inf):
        assert cholesky(a.tolist(), [*added[:-1], bad]) is None


def test_residuals_that_are_not_finite_are_worse():
    """Finite below 1 only; the minimum is at 0.9."""
    with np.errstate(invalid="ignore", divide="ignore"):
        counted = Counted(lambda x: 10 * (x - 0.9) / np.sqrt(1 - x), 1)
        for values in SETTINGS.values():
            solver = LevenbergMarquardt([-30.0], values)
            while solver.iterate(counted.problem) == MOVED:
                pass
            assert solver.x[0] == pytest.approx(0.9, abs=1e-9)
        with pytest.raises(FloatingPointError):
            LevenbergMarquardt([2.0], DEFAULTS).iterate(counted.problem)


def test_no_gradient_and_states():
    flat = Counted(lambda x: np.array([2.0 + 0 * x[0]]), 1)
    solver = LevenbergMarquardt([1.0], DEFAULTS)
    assert solver.state == []
    assert solver.iterate(flat.problem) == AT_MINIMUM
    assert len(solver.state) == 3
    assert not BayesianRegularization([1.0], DEFAULTS).restore(solver.state)
    assert solver.restore(solver.state)
    assert solver.restore([])
