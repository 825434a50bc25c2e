"""`bp.minimize`: the solvers of a Trainer on any function of a vector."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, cast

import numpy as np

from ...core import backend
from ...core.checks import or_none, real, whole_number
from ...core.specs import SolverSpec
from ...core.text import brief
from ...data.arrays import Array
from ...settings.optimizers import Optimizer, parse

Reason = Literal["goal", "gradient", "no step", "iterations"]


@dataclass(frozen=True, eq=False)
class Minimum:
    """The result of `minimize`.

    x, value, gradient: the best point (n,), the function there, and its gradient (n,). iterations: how many have moved x.
    evaluations: how often the function was called. reason: why it stopped:
        "goal": the value is at most `goal`
        "gradient": no element of the gradient is larger than `gradient_tolerance`
        "no step": no better point can be found, so x is as good as rounding allows
        "iterations": these were all

    >>> bp.minimize(lambda x: (x @ x, 2 * x), [3.0, 4.0]).reason
    'gradient'
    """

    x: Array
    value: float
    gradient: Array
    iterations: int
    evaluations: int
    reason: Reason


class _Function:
    """What a backend calls: bytes of doubles to two times bytes of doubles. It remembers the last result."""

    def __init__(self, function: Callable[[Array], tuple[Any, Any]]) -> None:
        self.function, self.calls = function, 0
        self._last: tuple[bytes, Array, Array] | None = None

    def at(self, x: bytes) -> tuple[Array, Array]:
        """Value () and gradient (n,), or residuals (m,) and Jacobian (m, n)."""
        if self._last is None or self._last[0] != x:
            self._last = (x, *self._computed(np.frombuffer(bytearray(x))))
        return self._last[1:]

    def __call__(self, x: bytes) -> tuple[bytes, bytes]:
        values, derivatives = self.at(x)
        return values.tobytes(), derivatives.tobytes()

    def _computed(self, x: Array) -> tuple[Array, Array]:
        n = len(x)
        self.calls += 1
        found = self.function(x)
        if not (isinstance(found, tuple) and len(found) == 2):
            raise TypeError(f"minimize: function must return (value, gradient) or (residuals, Jacobian), not {brief(found)}")
        values, derivatives = (np.asarray(one, np.float64) for one in found)
        if values.ndim > 1 or values.size == 0:
            raise ValueError(f"minimize: function must return a number, or residuals of shape (m,), not of shape {values.shape}")
        if derivatives.shape != (*values.shape, n):
            what = "Jacobian" if values.ndim else "gradient"
            raise ValueError(f"minimize: function must return a {what} of shape {(*values.shape, n)}, not {derivatives.shape}")
        if self._last and values.shape != self._last[1].shape:
            raise ValueError(f"minimize: function returned values of shape {self._last[1].shape} before, but {values.shape} now")
        return values, derivatives


def minimize(
    function: Callable[[Array], tuple[Any, Any]],
    x: Any,
    optimizer: Optimizer | SolverSpec | str = "lbfgs",
    *,
    iterations: int = 1000,
    goal: float | None = None,
    gradient_tolerance: float = 0.0,
    out: Array | None = None,
) -> Minimum:
    """Minimizes a function of a vector, by its gradient, with an optimizer that uses the same function several times in a step.

    function: gets x, a float64 array (n,), and returns the value and the gradient (n,), as for scipy.optimize.minimize(jac=True). For
    least squares it returns residuals (m,) and their Jacobian (m, n), as bp.LevenbergMarquardt needs; the value is half the sum of their
    squares, as in scipy.optimize.least_squares. Where it returns NaN or infinity, the step becomes shorter.
    x: where to start, (n,). It does not change.
    optimizer: bp.LBFGS() by default, or bp.SCG(); for residuals also bp.LevenbergMarquardt(); or a text such as "scg(sigma=1e-4)".
    iterations: how many at most. goal: stop at a value that is at most this. gradient_tolerance: stop where no element of the gradient is
    larger than this; by default only where all are 0, or where no better point can be found.
    out: a float64 array (n,) that becomes the best point. After an error of `function`, or Ctrl-C, it has the best one until then.

    The result is a bp.Minimum: its x is the best point. An iteration never ends at a worse point. The arithmetic is float64 and in one
    thread. Errors of `function` pass through.
    FloatingPointError: it is not finite at the first x. TypeError, ValueError: it returns something else, or an argument is not valid.

    The line search of L-BFGS can be used alone: microbp.reference.solvers.line_search.LineSearch is told the value and the slope at a step
    and returns the next one; in C, mbp_line_search_start and mbp_line_search_next in src/train/solvers/solver.h are the same.

    >>> def rosenbrock(x):
    ...     a, b = 1 - x[0], x[1] - x[0] ** 2
    ...     return a**2 + 100 * b**2, np.array([-2 * a - 400 * x[0] * b, 200 * b])
    >>> found = bp.minimize(rosenbrock, [-1.2, 1.0])
    >>> found.x.round(6).tolist(), found.iterations < 50
    ([1.0, 1.0], True)
    """
    spec = parse(optimizer)
    if not isinstance(spec, SolverSpec):
        raise ValueError(
            f"minimize: optimizer must be one that uses the same rows several times, such as bp.LBFGS(), not {brief(optimizer)}"
        )
    start = np.array(x, np.float64)
    if start.ndim != 1 or start.size == 0 or not np.isfinite(start).all():
        raise ValueError(f"minimize: x must be finite numbers of shape (n,), not {brief(x)}")
    if out is not None and (not isinstance(out, np.ndarray) or out.dtype != np.float64 or out.shape != start.shape):
        raise ValueError(f"minimize: out must be a float64 array of shape {start.shape}, not {brief(out)}")
    if out is not None and not out.flags.writeable:
        raise ValueError("minimize: out is read-only; pass a writable array")
    whole_number(iterations, "minimize: iterations", bits=31)
    least = or_none(real("[-inf,inf]"))("minimize: goal", goal)
    tolerance = real("[0,inf]")("minimize: gradient_tolerance", gradient_tolerance)
    called, best = _Function(function), bytearray(start.tobytes())
    try:
        values, _ = called.at(bytes(best))
        value, gradient, count, reason = backend.load().minimize(
            spec.text, len(values) if values.ndim else 0, called, iterations, -math.inf if least is None else least, tolerance, best
        )
    finally:
        if out is not None:
            out[...] = np.frombuffer(best)
    return Minimum(np.frombuffer(best), value, np.frombuffer(bytearray(gradient)), count, called.calls, cast(Reason, reason))
