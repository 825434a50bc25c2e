"""SciPy's MINPACK with the Jacobian of by_numpy.py, and PyTorch's L-BFGS, each until the goal."""

from __future__ import annotations

import contextlib
import itertools
from typing import Any

import numpy as np

from .by_numpy import Chain
from .problems import Array, Problem


class ReachedError(Exception):
    """The parameters are good enough."""


def least_squares(chain: Chain, params: Array, goal: float, most: int) -> tuple[float, int]:
    """The mean squared error of scipy.optimize.least_squares(method="lm"), and how often it was computed, at most this often."""
    from scipy.optimize import least_squares as minimize

    best, count = np.inf, 0

    def residuals(params: Array) -> Array:
        nonlocal best, count
        found = chain.residuals(params)
        best, count = min(best, float(found @ found) / len(found)), count + 1
        if best <= goal:
            raise ReachedError
        return found

    with contextlib.suppress(ReachedError):  # the tolerances do not end it before
        minimize(residuals, params, chain.jacobian, method="lm", max_nfev=most, ftol=1e-15, xtol=1e-15, gtol=1e-15)
    return best, count


class TorchLBFGS:
    """torch.optim.LBFGS with its strong-Wolfe line search, history 10, in float64; `run` goes on until the goal."""

    def __init__(self, problem: Problem) -> None:
        import torch

        self.torch, self.problem = torch, problem
        layers: list[Any] = []
        for number, (inputs, units) in enumerate(itertools.pairwise(problem.widths), 2):
            layers.append(torch.nn.Linear(inputs, units, dtype=torch.float64))
            layers += [torch.nn.Tanh()] if number < len(problem.widths) or problem.output == "tanh" else []
        self.net = torch.nn.Sequential(*layers)
        self.x, self.y = torch.from_numpy(problem.x), torch.from_numpy(problem.y)

    def run(self, layers: list[tuple[Array, Array]], goal: float, most: int) -> tuple[float, int]:
        """The mean squared error, and how often it was computed."""
        with self.torch.no_grad():
            for own, given in zip(self.net.parameters(), (array for layer in layers for array in layer)):
                own.copy_(self.torch.from_numpy(given))
        exact = {"tolerance_change": 0.0, "tolerance_grad": 0.0, "line_search_fn": "strong_wolfe"}
        optimizer = self.torch.optim.LBFGS(self.net.parameters(), max_iter=most, max_eval=2 * most, history_size=10, **exact)
        best, count = np.inf, 0

        def closure() -> Any:
            nonlocal best, count
            optimizer.zero_grad()
            found = self.torch.nn.functional.mse_loss(self.net(self.x), self.y)
            best, count = min(best, found.item()), count + 1
            if best <= goal:
                raise ReachedError
            found.backward()
            return found

        with contextlib.suppress(ReachedError):
            optimizer.step(closure)
        return best, count
