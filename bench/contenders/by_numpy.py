"""Hand-written NumPy: all arrays preallocated; parameters, gradients and Adam's moments are flat vectors with views for the layers."""

from __future__ import annotations

import numpy as np

from contenders.contender import InPython
from contenders.work import LR, Work

BETA1, BETA2, EPS = 0.9, 0.999, 1e-8


class ByNumpy(InPython):
    """Backpropagation as a careful NumPy user would write it. In float64 it is the reference for the others."""

    def __init__(self, work: Work, threads: int) -> None:
        self.work = work
        self.initial = np.concatenate([part.ravel() for layer in work.layers for part in layer])
        self.params, self.grads = np.empty_like(self.initial), np.empty_like(self.initial)
        self.m, self.v, self.scratch, self.update = (np.empty_like(self.initial) for _ in range(4))
        self.layers, self.layer_grads = self._views(self.params), self._views(self.grads)
        shape = work.net.batch
        self.values = [np.empty((shape, width), work.dtype) for width in work.net.widths[1:]]
        self.deltas = [np.empty_like(values) for values in self.values]
        self.masks = [np.empty(values.shape, bool) for values in self.values[:-1]]
        self.rows = np.arange(shape)
        self.loss = self._squared if work.net.loss == "mse" else self._cross_entropy
        self.steps = 0

    def _views(self, flat: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
        views, at = [], 0
        for i, o in self.work.net.shapes:
            views.append((flat[at : at + i * o].reshape(i, o), flat[at + i * o : at + i * o + o]))
            at += i * o + o
        return views

    def reset(self) -> None:
        self.params[:] = self.initial
        self.m[:] = 0
        self.v[:] = 0
        self.steps = 0

    def step(self, x: np.ndarray, y: np.ndarray) -> float:
        last, a = len(self.layers) - 1, x
        for k, ((weight, bias), z) in enumerate(zip(self.layers, self.values, strict=True)):
            np.matmul(a, weight, out=z)
            z += bias
            a = z if k == last else np.maximum(z, 0, out=z)
        loss = self.loss(self.values[-1], y, self.deltas[-1])
        for k in range(last, -1, -1):
            delta, (weight_grad, bias_grad) = self.deltas[k], self.layer_grads[k]
            np.matmul((self.values[k - 1] if k else x).T, delta, out=weight_grad)
            np.add.reduce(delta, axis=0, out=bias_grad)
            if k:
                np.matmul(delta, self.layers[k][0].T, out=self.deltas[k - 1])
                np.greater(self.values[k - 1], 0, out=self.masks[k - 1])
                np.multiply(self.deltas[k - 1], self.masks[k - 1], out=self.deltas[k - 1])
        self._adam()
        return loss

    def _squared(self, outputs: np.ndarray, y: np.ndarray, delta: np.ndarray) -> float:
        np.subtract(outputs, y, out=delta)
        flat = delta.ravel()
        loss = float(flat @ flat) / flat.size
        delta *= 2 / flat.size
        return loss

    def _cross_entropy(self, outputs: np.ndarray, y: np.ndarray, delta: np.ndarray) -> float:
        np.subtract(outputs, outputs.max(axis=1, keepdims=True), out=outputs)
        np.exp(outputs, out=delta)
        sums = delta.sum(axis=1, keepdims=True)
        loss = float(np.log(sums).sum() - outputs[self.rows, y].sum()) / len(y)
        sums *= len(y)
        delta /= sums
        delta[self.rows, y] -= 1 / len(y)
        return loss

    def _adam(self) -> None:
        self.steps += 1
        m, v, scratch, update = self.m, self.v, self.scratch, self.update
        np.multiply(self.grads, 1 - BETA1, out=scratch)
        m *= BETA1
        m += scratch
        np.multiply(self.grads, self.grads, out=scratch)
        scratch *= 1 - BETA2
        v *= BETA2
        v += scratch
        np.sqrt(v, out=scratch)
        scratch *= (1 - BETA2**self.steps) ** -0.5
        scratch += EPS
        np.divide(m, scratch, out=update)
        update *= LR / (1 - BETA1**self.steps)
        self.params -= update

    def epoch(self, order: np.ndarray) -> float:
        batch, total = self.work.net.batch, 0.0
        x, y = self.work.x[order], self.work.y[order]
        for start in range(0, len(order), batch):
            total += self.step(x[start : start + batch], y[start : start + batch])
        return total / self.work.net.steps

    def predict(self, x: np.ndarray) -> np.ndarray:
        for k, (weight, bias) in enumerate(self.layers):
            if k:
                np.maximum(x, 0, out=x)
            x = np.matmul(x, weight)
            x += bias
        return x
