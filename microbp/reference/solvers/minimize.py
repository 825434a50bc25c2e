"""Solvers on functions of the caller."""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable
from typing import Any

from .solver import MOVED, Problem, Solver, Vector, check_whole, dot

Function = Callable[[bytes], tuple[bytes, bytes]]  # x (n) to values, derivatives, all as bytes of doubles


class _FunctionError(Exception):
    """An error of the function, which the solvers must not see: it may be a FloatingPointError."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(error)
        self.error = error


class _Flat:
    """The function as a problem. residuals: how many it returns; 0: it returns one value to minimize instead."""

    def __init__(self, function: Function, residuals: int) -> None:
        self.function, self.residuals = function, residuals
        self.at: Vector = []  # where the last value and gradient of least squares were computed, and the Jacobian there
        self.rows: list[Vector] = []

    def problem(self) -> Problem:
        if self.residuals == 0:
            return Problem(self.evaluate)
        m = self.residuals
        return Problem(self.evaluate, m, targets=m, measure=self.measure, linearize=self.linearize, cross=self.cross)

    def evaluate(self, x: Vector) -> tuple[float, Vector]:
        values, rows = self._computed(x)
        if self.residuals == 0:
            return values[0], rows[0]
        self.at, self.rows = x[:], rows
        value, gradient = dot(values, values) / 2, _across(rows, values)
        if not all(map(math.isfinite, (value, *gradient))):
            raise FloatingPointError("the sum of squares is not finite")
        return value, gradient

    def measure(self, x: Vector) -> float:
        value = dot(values := self._computed(x)[0], values) / 2
        if not math.isfinite(value):
            raise FloatingPointError("the sum of squares is not finite")
        return value

    def linearize(self, x: Vector, by_rows: bool) -> tuple[float, Vector, list[Vector], Vector]:
        value, gradient = self.evaluate(x)
        columns = list(map(list, zip(*self.rows)))
        return value, gradient, self.rows if by_rows else [[dot(a, b) for b in columns] for a in columns], [0.0] * len(x)

    def cross(self, x: Vector, trial: Vector) -> Vector:
        if x != self.at:
            self.evaluate(x)
        return _across(self.rows, self._computed(trial)[0])

    def _computed(self, x: Vector) -> tuple[Vector, list[Vector]]:
        try:
            found = [array("d", one).tolist() for one in self.function(array("d", x).tobytes())]
        except BaseException as error:
            raise _FunctionError(error) from error
        if not all(math.isfinite(one) for numbers in found for one in numbers):
            raise FloatingPointError("the function that is minimized is not finite")
        return found[0], [found[1][i : i + len(x)] for i in range(0, len(found[1]), len(x))]


def _across(rows: list[Vector], residuals: Vector) -> Vector:
    """J^T r"""
    return [dot(list(column), residuals) for column in zip(*rows)]


def _reason(solver: Solver, progress: str, left: int, goal: float, gradient_tolerance: float) -> str:
    """Why to stop at x; "": go on."""
    if solver.value <= goal:
        return "goal"
    if max(map(abs, solver.gradient)) <= gradient_tolerance:
        return "gradient"
    return "no step" if progress != MOVED else "" if left else "iterations"


def minimize(
    spec: Any, residuals: int, function: Function, iterations: int, goal: float, gradient_tolerance: float, x: bytearray
) -> tuple[float, bytes, int, str]:
    """Minimizes from x on, doubles, which become the best point, also after an error. Returns the value, the gradient, how many iterations
    have moved x, and the reason to stop."""
    check_whole(spec.entry.make, spec.values)
    if spec.entry.make.NEEDS_RESIDUALS and residuals == 0:
        raise ValueError(f"{spec.name} needs a function with residuals; for other functions, use lbfgs")
    solver: Solver = spec.entry.make(array("d", x).tolist(), spec.values)
    problem, moved, reason = _Flat(function, residuals).problem(), 0, ""
    try:
        while not reason:
            progress = solver.iterate(problem)
            moved += progress == MOVED
            reason = _reason(solver, progress, iterations - moved, goal, gradient_tolerance)
    except _FunctionError as error:
        raise error.error from None
    finally:
        x[:] = array("d", solver.x).tobytes()
    return solver.value, array("d", solver.gradient).tobytes(), moved, reason
