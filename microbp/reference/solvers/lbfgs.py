"""L-BFGS: Nocedal & Wright, "Numerical Optimization" (2006), algorithms 7.4 and 7.5, with the constants of SciPy's L-BFGS-B."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping

from .line_search import GO_ON, LineSearch, Wolfe
from .solver import Descent, Point, Problem, Vector, dot, is_better, less, plus

RULE = Wolfe(decrease=1e-3, curvature=0.9, tolerance=0.1)
_LONGEST, _TRIALS, _HALVINGS = 1e10, 20, 60


class LBFGS(Descent):
    """values: history, the number of pairs that it keeps."""

    WHOLE = "history"

    def __init__(self, x: Vector, values: Mapping[str, float]) -> None:
        super().__init__(x, values)
        self.pairs: list[tuple[Vector, Vector]] = []  # (change of x, change of the gradient), the oldest first

    @property
    def state(self) -> Vector:
        return [one for pair in self.pairs for part in pair for one in part]

    def restore(self, state: Vector) -> bool:
        n = len(self.x)
        if state and (n == 0 or len(state) % (2 * n) or len(state) > 2 * n * self.values["history"]):
            return False
        starts = range(0, len(state), 2 * n) if n else ()
        self.pairs = [(state[i : i + n], state[i + n : i + 2 * n]) for i in starts]
        return True

    def _step(self, problem: Problem) -> bool:
        direction = problem.hold(self._direction())
        slope = dot(self.gradient, direction)
        if not -math.inf < slope < 0:
            return False
        first = 1.0 if self.pairs else min(1 / math.sqrt(dot(direction, direction)), _LONGEST)
        found = self._search(problem, direction, slope, first)
        if not found:
            return False
        x, value, gradient = found
        s, y = less(x, self.x), less(gradient, self.gradient)
        if sys.float_info.epsilon * -dot(s, self.gradient) < dot(s, y) < math.inf:  # else the new H would not be positive definite
            self.pairs = [*self.pairs, (s, y)][-int(self.values["history"]) :]
        self.x, self.value, self.gradient = x, value, gradient
        return True

    def _direction(self) -> Vector:
        """-H gradient: algorithm 7.4, with H0 = s y / y y of the newest pair."""
        direction, parts = [-g for g in self.gradient], []
        for s, y in reversed(self.pairs):
            parts.append(dot(s, direction) / dot(s, y))
            direction = plus(direction, -parts[-1], y)
        if self.pairs:
            s, y = self.pairs[-1]
            scale = dot(s, y) / dot(y, y)
            direction = [scale * d for d in direction]
        for s, y in self.pairs:
            direction = plus(direction, parts.pop() - dot(y, direction) / dot(s, y), s)
        return direction

    def _search(self, problem: Problem, direction: Vector, slope: float, step: float) -> Point | None:
        """A point that satisfies the rule, else the best one that was tried; None: none is better than x. The last call was there."""
        search, verdict, trials, halvings = LineSearch(RULE, self.value, slope, step, _LONGEST), GO_ON, 0, 0
        tried = None
        while verdict == GO_ON and trials < _TRIALS and halvings < _HALVINGS:
            tried = self._try(problem, direction, step)
            if tried is None:
                halvings, step = halvings + 1, search.back(step)
                continue
            trials += 1
            verdict, step = search.next(step, tried[1], dot(tried[2], direction))
        if verdict != GO_ON and tried and is_better(tried[1], tried[2], self):
            return tried
        if search.best.value < self.value:
            tried = self._try(problem, direction, search.best.step)
            return tried if tried and is_better(tried[1], tried[2], self) else None
        return None
