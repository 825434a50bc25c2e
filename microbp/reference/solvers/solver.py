"""What every solver shares: the problem, the state, and what an iteration promises."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Vector = list[float]
Point = tuple[Vector, float, Vector]  # x, value, gradient

MOVED, AT_MINIMUM, NO_STEP = "moved", "at a minimum", "no step"


def _absent(*_: Any) -> Any:
    raise TypeError("the problem has no residuals")


@dataclass(frozen=True)
class Problem:
    """A function of a vector. Its functions may round the vector in place to the numbers that it can represent.

    evaluate: returns value and gradient. FloatingPointError: one of them is not finite. held: numbers of x that must not move, where the
    gradient is 0, too. The others only of least squares, where the value is made of `residuals` residuals with the Jacobian J.
    measure: the value alone.
    linearize(x, by_rows): value, gradient, the rows of J or of J^T J, and the second derivatives of the penalties, which J is without.
    cross(x, trial): J(x)^T r(trial). targets: how many residuals have a target and a weight above 0.
    """

    evaluate: Callable[[Vector], tuple[float, Vector]]
    residuals: int = 0
    targets: int = 0
    measure: Callable[[Vector], float] = _absent
    linearize: Callable[[Vector, bool], tuple[float, Vector, list[Vector], Vector]] = _absent
    cross: Callable[[Vector, Vector], Vector] = _absent
    held: frozenset[int] = frozenset()

    def hold(self, direction: Vector) -> Vector:
        """The direction without what must not move: the last steps, of which it is made, may have moved it."""
        return [0.0 if i in self.held else one for i, one in enumerate(direction)]


class Solver(ABC):
    """Minimizes a function of the vector x, iteration by iteration. An iteration never ends at a worse point; its last evaluation was at x.

    values: the parameters of its spec.
    """

    WHOLE = ""  # the name of a parameter that must be a whole number
    NEEDS_RESIDUALS = False
    SETS_L2 = False  # whether it has penalties of its own, so that layers must not have l2

    def __init__(self, x: Vector, values: Mapping[str, float]) -> None:
        self.x, self.values = x, values
        self.value = math.nan  # at x; NaN: not known yet
        self.gradient: Vector = []

    @abstractmethod
    def iterate(self, problem: Problem) -> str:
        """One iteration: MOVED to a better point, AT_MINIMUM or NO_STEP. FloatingPointError: the function is not finite at x."""

    @property
    def numbers(self) -> Vector:
        """Those that its row in the table names; NaN: not known yet."""
        return []

    @property
    @abstractmethod
    def state(self) -> Vector:
        """What the next iteration depends on besides x."""

    @abstractmethod
    def restore(self, state: Vector) -> bool:
        """Takes what `state` was; [] starts anew. Returns False if the count of numbers is wrong."""


def check_whole(make: type[Solver], values: Mapping[str, float]) -> None:
    """Refuses a number that must be whole."""
    if make.WHOLE and values[make.WHOLE] % 1:
        raise ValueError(f"{make.WHOLE} must be a whole number, not {values[make.WHOLE]:g}")


class Descent(Solver):
    """A solver that starts anew if it finds no better point."""

    def iterate(self, problem: Problem) -> str:
        if math.isnan(self.value):
            self.value, self.gradient = problem.evaluate(self.x)
        if not any(self.gradient):
            return AT_MINIMUM
        if self._step(problem):
            return MOVED
        if self.state:
            self.restore([])
            if self._step(problem):
                return MOVED
        problem.evaluate(self.x)  # so that the last call was at x
        return NO_STEP

    @abstractmethod
    def _step(self, problem: Problem) -> bool:
        """Moves to a better point, at which the last call was. False: it found none."""

    def _try(self, problem: Problem, direction: Vector, step: float) -> Point | None:
        """The function at a step; None: it is not finite. The problem may round x."""
        x = plus(self.x, step, direction)
        try:
            return x, *problem.evaluate(x)
        except FloatingPointError:
            return None


def dot(a: Vector, b: Vector) -> float:
    products = [one * other for one, other in zip(a, b)]
    try:
        return math.fsum(products)
    except (OverflowError, ValueError):  # infinity or NaN
        return sum(products)


def plus(a: Vector, factor: float, b: Vector) -> Vector:
    """a + factor b"""
    return [one + factor * other for one, other in zip(a, b)]


def less(a: Vector, b: Vector) -> Vector:
    """a - b"""
    return [one - other for one, other in zip(a, b)]


def is_better(value: float, gradient: Vector, than: Solver) -> bool:
    """Whether a point is better than x: lower, or as low and less steep, where the value is too coarse to tell."""
    return value < than.value or (value == than.value and max(map(abs, gradient)) < max(map(abs, than.gradient)))
