"""SCG: M. F. Moller, "A scaled conjugate gradient algorithm for fast supervised learning", Neural Networks 6 (1993), section 4."""

from __future__ import annotations

import math
from collections.abc import Mapping

from .solver import Descent, Point, Problem, Vector, dot, is_better, less, plus

_LEAST_LAMBDA, _WORST_RATIO = 1e-15, -1e3
_TRIALS, _HALVINGS = 20, 60


class SCG(Descent):
    """values: sigma and lambda. lambda makes the curvature along the direction larger, until a parabola predicts the function well. An
    iteration goes on until a step is taken: the paper counts each refused step as one."""

    def __init__(self, x: Vector, values: Mapping[str, float]) -> None:
        super().__init__(x, values)
        self.lambda_, self.age = 0.0, 0  # 0: it has not begun; the number of steps since the direction was the steepest descent
        self.direction: Vector = []

    @property
    def state(self) -> Vector:
        return [self.lambda_, float(self.age), *self.direction] if self.lambda_ else []

    def restore(self, state: Vector) -> bool:
        n = len(self.x)
        if state and not (len(state) == n + 2 and state[0] > 0 and 0 <= state[1] < n):
            return False
        self.lambda_, self.age, self.direction = (state[0], int(state[1]), state[2:]) if state else (0.0, 0, [])
        return True

    def _step(self, problem: Problem) -> bool:
        direction = problem.hold(self.direction if self.age else [-g for g in self.gradient])
        square, slope = dot(direction, direction), -dot(direction, self.gradient)
        measured = self._curvature(problem, direction, square) if slope > 0 and 0 < square < math.inf else None
        if measured is None:
            return False
        lambda_ = self.lambda_ or self.values["lambda"]
        curvature = measured + lambda_ * square
        if curvature <= 0:
            lambda_, curvature = 2 * (lambda_ - curvature / square), -curvature + lambda_ * square
        trials = halvings = 0
        while curvature and 0 < (step := slope / curvature) < math.inf and trials < _TRIALS and halvings < _HALVINGS:
            tried, ratio = self._try(problem, direction, step), 0.0
            if tried:
                trials, ratio = trials + 1, 2 * (self.value - tried[1]) / slope / step
            else:
                halvings += 1
            found = tried if tried and is_better(tried[1], tried[2], self) else None
            if found and ratio >= 0.75:
                lambda_ = max(lambda_ / 4, _LEAST_LAMBDA)
            if ratio < 0.25:
                more = curvature * (1 - max(ratio, _WORST_RATIO))
                lambda_, curvature = lambda_ + more / square, curvature + more
            if found:
                self.lambda_ = lambda_
                self._turn(found, direction, slope)
                return True
        return False

    def _curvature(self, problem: Problem, direction: Vector, square: float) -> float | None:
        """d^T H d, with H the second derivatives; None: the function is not finite near x. Where the problem has rounded x, it is divided
        by the way that was really made."""
        step = self.values["sigma"] / math.sqrt(square)
        for _ in range(_HALVINGS + 1):
            tried = self._try(problem, direction, step)
            if tried:
                way = less(tried[0], self.x)
                length = dot(way, way)
                return dot(way, less(tried[2], self.gradient)) / length * square if length else 0.0
            step /= 2
        return None

    def _turn(self, to: Point, direction: Vector, slope: float) -> None:
        """Moves, and chooses the next direction: conjugate to the last one; each n steps, the steepest descent."""
        beta = (dot(to[2], to[2]) - dot(to[2], self.gradient)) / slope
        self.x, self.value, self.gradient = to
        self.direction = plus([beta * d for d in direction], -1.0, self.gradient)
        self.age = self.age + 1 if self.age + 1 < len(self.x) else 0
