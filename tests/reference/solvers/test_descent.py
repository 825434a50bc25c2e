"""The reference's solvers and its line search on the problems of More, Garbow & Hillstrom 1981, and those of More & Thuente 1994."""

from __future__ import annotations

import math

import pytest
from cases import SOLVERS
from optimizer_cases import FLAT

from microbp.reference.solvers.line_search import FOUND, GO_ON, LineSearch, Wolfe
from microbp.reference.solvers.solver import MOVED, Problem
from microbp.reference.solvers.table import SOLVERS as ROWS
from microbp.reference.spec import Spec

DESCENTS = [name for name in SOLVERS if not ROWS[name].make.NEEDS_RESIDUALS]

every_solver = pytest.mark.parametrize("solver", DESCENTS)
every_problem = pytest.mark.parametrize("problem", FLAT)


class Watched:
    """A problem that remembers its last call."""

    def __init__(self, function):
        self.function, self.calls, self.last = function, 0, None

    def __call__(self, x):
        self.calls, self.last = self.calls + 1, list(x)
        value, gradient = self.function(x)
        if not all(map(math.isfinite, (value, *gradient))):
            raise FloatingPointError("not finite")
        return value, gradient


def made(solver, x):
    spec = Spec.parse("solver", SOLVERS[solver])
    return spec.entry.make([float(one) for one in x], spec.values)


@every_problem
@every_solver
def test_an_iteration_is_never_worse_and_the_last_call_was_at_x(solver, problem):
    watched, one = Watched(FLAT[problem]), made(solver, FLAT[problem].start)
    before, progress, iterations = math.inf, MOVED, 0
    while progress == MOVED and iterations < 400:
        progress, iterations = one.iterate(Problem(watched)), iterations + 1
        assert one.value <= before
        assert watched.last == one.x
        assert (one.value, one.gradient) == FLAT[problem](one.x)
        before = one.value
    for x, minimum in zip(one.x, FLAT[problem].minimum):
        assert abs(x - minimum) <= FLAT[problem].near * max(1, abs(minimum))


@every_problem
@every_solver
def test_a_state_is_all_that_the_next_iteration_depends_on(solver, problem):
    one = made(solver, FLAT[problem].start)
    assert one.state == []
    for _ in range(12):
        if one.iterate(Problem(FLAT[problem])) != MOVED:
            break
        other = made(solver, one.x)
        assert not other.restore([*one.state, 0.0])
        assert other.restore(one.state)
        assert other.iterate(Problem(FLAT[problem])) == one.iterate(Problem(FLAT[problem]))
        assert (other.x, other.state) == (one.x, one.state)


@every_solver
def test_not_finite_at_the_start(solver):
    one = made(solver, [2.0])
    with pytest.raises(FloatingPointError):
        one.iterate(Problem(Watched(lambda x: (math.nan, [0.0]))))
    assert one.x == [2.0]


@every_solver
def test_a_flat_function_and_one_without_a_minimum(solver):
    one = made(solver, [1.0, 2.0])
    assert one.iterate(Problem(lambda x: (3.0, [0.0, 0.0]))) == "at a minimum"
    line = made(solver, [0.0])
    for _ in range(20):
        line.iterate(Problem(Watched(lambda x: (x[0], [1.0]))))
    assert -math.inf < line.value < -1e6


# ---- the line search alone ----


def _quartic(a):
    """The second function of More & Thuente, section 5."""
    b = a + 0.004
    return b**5 - 2 * b**4, 5 * b**4 - 8 * b**3


def _rational(a):
    """The first one."""
    return -a / (a * a + 2), (a * a - 2) / (a * a + 2) ** 2


def _steep(start):
    """A problem of `FLAT` along its steepest descent, from the start on."""
    _, gradient = FLAT[start](FLAT[start].start)
    size = math.sqrt(sum(g * g for g in gradient))

    def f(step):
        value, slope = FLAT[start]([x - step * g / size for x, g in zip(FLAT[start].start, gradient)])
        return value, -sum(s * g for s, g in zip(slope, gradient)) / size

    return f


LINES = {"rational": _rational, "quartic": _quartic} | {name: _steep(name) for name in FLAT}


@pytest.mark.parametrize("first", [1e-3, 0.1, 1.0, 10.0, 1e3])
@pytest.mark.parametrize("line", LINES)
def test_every_first_step_leads_to_one_that_satisfies_the_rule(line, first):
    f, rule = LINES[line], Wolfe(decrease=1e-3, curvature=0.1, tolerance=1e-10)
    value, slope = f(0.0)
    search, step, verdict, trials = LineSearch(rule, value, slope, first, 1e10), first, GO_ON, 0
    while verdict == GO_ON and trials < 40:
        verdict, step, trials = *search.next(step, *f(step)), trials + 1
    assert verdict == FOUND
    now, now_slope = f(step)
    assert now <= value + rule.decrease * step * slope
    assert abs(now_slope) <= rule.curvature * -slope
