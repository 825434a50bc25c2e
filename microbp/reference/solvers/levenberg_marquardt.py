"""Levenberg-Marquardt with the damping mu I (Marquardt 1963; Nielsen 1999), its geodesic correction (Transtrum & Sethna 2012), and Bayesian
regularization on top of it (MacKay 1992; Foresee & Hagan 1997)."""

from __future__ import annotations

import math
import sys
from dataclasses import astuple, dataclass, replace

from .solver import AT_MINIMUM, MOVED, NO_STEP, Problem, Solver, Vector, dot, plus

_LEAST = sys.float_info.epsilon  # mu: a smaller one changes no digit of the largest diagonal element
_PROBE, _MOST_TURN = 0.1, 0.75  # part of the step where the second derivative is measured; its longest correction, as part of the step

_FIRST_RATIO, _MOST_GROWTH = 1e-3, 2.0  # of alpha / beta: the first one, as a part of the scale; its growth in an iteration

FLETCHER, NIELSEN, MATLAB = range(3)  # damping: how mu changes


@dataclass(frozen=True)
class _Damping:
    """What the next iteration depends on. scale, the largest diagonal element of the first J^T J, is 0 before the first one; mu is a part
    of it, and grows next by the factor `growth`. alpha, beta: factors of the sums of squares of parameters and errors. effective: number of
    parameters."""

    mu: float = 0.0
    growth: float = 0.0
    scale: float = 0.0
    alpha: float = 1.0
    beta: float = 1.0
    effective: float = 0.0


class LevenbergMarquardt(Solver):
    """values: mu, decrease, increase, most, damping, geodesic."""

    WHOLE = "damping"
    NEEDS_RESIDUALS = True
    _STATE = 3

    damping = _Damping()
    matrix: list[Vector]  # J^T J at x
    diagonal: Vector  # the second derivatives of the penalties; -1: the parameter does not move

    @property
    def state(self) -> Vector:
        return list(astuple(self.damping)[: self._STATE]) if self.damping.scale else []

    def restore(self, state: Vector) -> bool:
        if len(state) not in (0, self._STATE):
            return False
        self.damping = _Damping(*state)
        return True

    def iterate(self, problem: Problem) -> str:
        if math.isnan(self.value):
            self._linearize(problem)
            if not self.damping.scale:
                self._start(problem)
        self._ratio = self._set_ratio(problem)
        self._slope = [g + (self._ratio * x if d >= 0 else 0) for g, x, d in zip(self.gradient, self.x, self.diagonal)]
        if not any(self._slope):
            return AT_MINIMUM
        kept = self.damping
        try:
            if self._step(problem):
                self._estimate(problem)
                return MOVED
        except BaseException:
            self.damping = kept
            raise
        self.damping = kept
        self._linearize(problem)  # so that the last call was at x
        return NO_STEP

    def _linearize(self, problem: Problem) -> None:
        self.value, self.gradient, self.matrix, self.diagonal = problem.linearize(self.x, False)

    def _start(self, problem: Problem) -> None:
        scale = max((row[i] for i, row in enumerate(self.matrix)), default=0.0)
        self.damping = _Damping(self.values["mu"], 2.0, scale if 0 < scale < math.inf else 1.0)

    def _set_ratio(self, problem: Problem) -> float:
        return 0.0

    def _estimate(self, problem: Problem) -> None:
        pass

    def _objective(self, x: Vector, value: float) -> float:
        return value + (self._ratio / 2 * self._squares(x) if self._ratio else 0.0)

    def _squares(self, x: Vector) -> float:
        moving = [one for one, d in zip(x, self.diagonal) if d >= 0]
        return dot(moving, moving)

    def _added(self, mu: float) -> Vector:
        """What is added to the diagonal of J^T J."""
        return [mu + (self._ratio or max(d, 0.0)) for d in self.diagonal]

    def _step(self, problem: Problem) -> bool:
        """Searches the damping whose step leads to a better point, and goes there."""
        start = self._objective(self.x, self.value)
        while self.damping.mu <= self.values["most"]:
            mu = self.damping.mu
            trial, decrease = self._trial(problem, mu * self.damping.scale)
            end = self._try(problem, trial)
            if end < start and self._go(problem, trial):
                gain = min(max((start - end) / decrease, 0.0), 1.0) if decrease else 1.0
                self.damping = replace(self.damping, mu=max(self._factor(gain) * mu, _LEAST), growth=2.0)
                return True
            if trial == self.x:
                return False
            grown = mu * (self.values["increase"] if self.values["damping"] == MATLAB else self.damping.growth)
            self.damping = replace(self.damping, mu=grown, growth=2 * self.damping.growth)
        return False

    def _factor(self, gain: float) -> float:
        """By which factor mu changes after a better point, whose decrease is this part of what the model promised."""
        if self.values["damping"] == NIELSEN:
            return max(1 / 3, 1 - (2 * gain - 1) ** 3)
        return self.values["decrease"] if self.values["damping"] == MATLAB or gain > 0.5 else 1.0 if gain > 0.25 else 2.0

    def _trial(self, problem: Problem, mu: float) -> tuple[Vector | None, float]:
        """The point of a step with a damping, and what the model promises. None: the system is not positive definite."""
        added = self._added(mu)
        factor = cholesky(self.matrix, added)
        if not factor:
            return None, 0.0
        step = solve(factor, [-s for s in self._slope])
        decrease = (mu * dot(step, step) - dot(self._slope, step)) / 2
        if self.values["geodesic"]:
            step = self._bent(problem, factor, step, added)
        return plus(self.x, 1.0, step), decrease

    def _bent(self, problem: Problem, factor: list[Vector], step: Vector, added: Vector) -> Vector:
        """The step with half of the second derivative of the residuals r along it, unless that is too long:
        J^T r'' = 2 / h ((J^T r(x + h p) - J^T r) / h - J^T J p), with J^T J p = -slope - the added diagonal times p."""
        try:
            there = problem.cross(self.x, plus(self.x, _PROBE, step))
        except FloatingPointError:
            return step
        here = [g - max(d, 0.0) * x for g, d, x in zip(self.gradient, self.diagonal, self.x)]
        both = zip(there, here, self._slope, added, step)
        bend = solve(factor, [2 / _PROBE * ((a - b) / _PROBE + slope + more * p) for a, b, slope, more, p in both])
        return plus(step, -0.5, bend) if dot(bend, bend) <= _MOST_TURN**2 * dot(step, step) else step

    def _try(self, problem: Problem, trial: Vector | None) -> float:
        """What is minimized at a point; infinity: it is not finite. The problem may round the point."""
        try:
            return self._objective(trial, problem.measure(trial)) if trial else math.inf
        except FloatingPointError:
            return math.inf

    def _go(self, problem: Problem, trial: Vector) -> bool:
        """The point becomes x. False: it cannot be linearized, and x is as before."""
        before, self.x = self.x, trial
        try:
            self._linearize(problem)
        except FloatingPointError:
            self.x = before
            self._linearize(problem)
            return False
        except BaseException:
            self.x = before
            raise
        return True


class BayesianRegularization(LevenbergMarquardt):
    """Minimizes beta E_D + alpha E_W: E_D is `targets` times the value, E_W the sum of squares of the parameters that move. Divided by
    beta `targets`, that is value + ratio / 2 E_W."""

    SETS_L2 = True
    _STATE = 6

    @property
    def numbers(self) -> Vector:
        d = self.damping
        return [d.alpha, d.beta, d.effective] if d.scale else [math.nan] * 3

    def _start(self, problem: Problem) -> None:
        super()._start(problem)
        first = _FIRST_RATIO * self.damping.scale * problem.targets / 2
        self.damping = replace(self.damping, alpha=first, effective=float(sum(d >= 0 for d in self.diagonal)))

    def _set_ratio(self, problem: Problem) -> float:
        return 2 * self.damping.alpha / (self.damping.beta * problem.targets) if problem.targets else 0.0

    def _estimate(self, problem: Problem) -> None:
        """gamma = n - ratio trace((J^T J + ratio I)^-1), the effective number of parameters; alpha and beta by it. One that has no finite
        value above 0 stays."""
        n, effective = len(self.x), self.damping.effective
        factor = cholesky(self.matrix, [self._ratio] * n)
        if factor:
            trace = math.fsum(solve(factor, [float(i == j) for j in range(n)])[i] for i in range(n))
            effective = min(max(n - self._ratio * trace, 0.0), n, problem.targets)
        weights, errors = 2 * self._squares(self.x), 2 * problem.targets * self.value
        alpha = effective / weights if weights else math.inf
        beta = (problem.targets - effective) / errors if errors else math.inf
        before = self.damping.alpha / self.damping.beta
        alpha, beta = (one if 0 < one < math.inf else old for one, old in ((alpha, self.damping.alpha), (beta, self.damping.beta)))
        self.damping = replace(self.damping, alpha=min(alpha, _MOST_GROWTH * before * beta), beta=beta, effective=effective)


def cholesky(matrix: list[Vector], added: Vector) -> list[Vector] | None:
    """The rows of L with L L^T = the matrix + the diagonal matrix `added`. None: that is not positive definite, or not finite."""
    rows: list[Vector] = []
    for i, row in enumerate(matrix):
        mine: Vector = []
        for j in range(i):
            mine.append((row[j] - dot(mine, rows[j][:j])) / rows[j][j])
        square = row[i] + added[i] - dot(mine, mine)
        if not 0 < square < math.inf:
            return None
        rows.append([*mine, math.sqrt(square)])
    return rows


def solve(factor: list[Vector], b: Vector) -> Vector:
    """The solution x of L L^T x = b."""
    x: Vector = []
    for row, one in zip(factor, b):
        x.append((one - dot(x, row)) / row[-1])
    for i in reversed(range(len(x))):
        x[i] = (x[i] - dot(x[i + 1 :], [row[i] for row in factor[i + 1 :]])) / factor[i][i]
    return x
