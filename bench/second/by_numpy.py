"""Levenberg-Marquardt in NumPy, as one would write it for a chain of tanh layers: MATLAB's damping, all rows at once."""

from __future__ import annotations

import itertools

import numpy as np

from .problems import Array, Problem


class Chain:
    """Residuals and their Jacobian as functions of a flat vector in the order of microbp's parameters: all weights, each (inputs, units),
    then all biases."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.shapes = list(itertools.pairwise(problem.widths))
        self.ends = np.cumsum([inputs * units for inputs, units in self.shapes] + [units for _, units in self.shapes])
        self.known: tuple[Array, list[Array]] | None = None

    def _layers(self, params: Array) -> list[tuple[Array, Array]]:
        parts = np.split(params, self.ends[:-1])
        return [(weight.reshape(shape), bias) for weight, bias, shape in zip(parts, parts[len(self.shapes) :], self.shapes)]

    def residuals(self, params: Array) -> Array:
        """(rows x outputs,)."""
        values = [self.problem.x]
        for number, (weight, bias) in enumerate(self._layers(params), 1):
            z = values[-1] @ weight + bias
            values.append(z if number == len(self.shapes) and self.problem.output == "identity" else np.tanh(z))
        self.known = params.copy(), values
        return (values[-1] - self.problem.y).ravel()

    def jacobian(self, params: Array) -> Array:
        """(rows x outputs, parameters), from the values of the last forward pass if it was at the same point."""
        if self.known is None or not np.array_equal(self.known[0], params):
            self.residuals(params)
        assert self.known
        values, layers, outputs = self.known[1], self._layers(params), self.problem.widths[-1]
        rows = len(values[0])
        delta: Array = np.broadcast_to(np.eye(outputs), (rows, outputs, outputs))  # row, residual, unit
        if self.problem.output == "tanh":
            delta = delta * (1 - values[-1] ** 2)[:, None]
        weights, biases = [], []
        for number in reversed(range(len(layers))):
            below = values[number]
            biases.append(delta.reshape(rows * outputs, -1))
            weights.append((below[:, None, :, None] * delta[:, :, None]).reshape(rows * outputs, -1))
            if number:
                delta = (delta @ layers[number][0].T) * (1 - below**2)[:, None]
        return np.concatenate(weights[::-1] + biases[::-1], axis=1)


def levenberg_marquardt(chain: Chain, params: Array, goal: float, most: int) -> tuple[Array, int]:
    """The parameters and the number of iterations at the goal, or after the most iterations."""
    mu, eye = 1e-3, np.eye(len(params))
    residuals = chain.residuals(params)
    value = residuals @ residuals
    for iteration in range(most + 1):
        if value <= goal * len(residuals) or iteration == most or mu > 1e10:
            break
        jacobian = chain.jacobian(params)
        matrix, gradient = jacobian.T @ jacobian, jacobian.T @ residuals
        while mu <= 1e10:
            trial = params - np.linalg.solve(matrix + mu * eye, gradient)
            there = chain.residuals(trial)
            now = there @ there
            if now < value:
                params, residuals, value, mu = trial, there, now, mu / 10
                break
            mu *= 10
    return params, iteration
