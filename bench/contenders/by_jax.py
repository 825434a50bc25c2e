"""JAX: one jitted function per kind of work, hand-written Adam, donated state."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from contenders.contender import InPython
from contenders.work import LR, Work

BETA1, BETA2, EPS = 0.9, 0.999, 1e-8


def outputs(params: Any, x: Any) -> Any:
    """The net's raw outputs."""
    for weight, bias in params[:-1]:
        x = jax.nn.relu(x @ weight + bias)
    weight, bias = params[-1]
    return x @ weight + bias


def squared(params: Any, x: Any, y: Any) -> Any:
    return jnp.mean((outputs(params, x) - y) ** 2)


def cross_entropy(params: Any, x: Any, y: Any) -> Any:
    logits = jax.nn.log_softmax(outputs(params, x))
    return -jnp.mean(jnp.take_along_axis(logits, y[:, None], axis=1))


def adam(state: Any, grads: Any) -> Any:
    """The state after an update."""
    params, m, v, count = state
    count = count + 1
    m = jax.tree.map(lambda m, g: BETA1 * m + (1 - BETA1) * g, m, grads)
    v = jax.tree.map(lambda v, g: BETA2 * v + (1 - BETA2) * g * g, v, grads)
    rate, scale = LR / (1 - BETA1**count), (1 - BETA2**count) ** -0.5
    params = jax.tree.map(lambda p, m, v: p - rate * m / (jnp.sqrt(v) * scale + EPS), params, m, v)
    return params, m, v, count


class ByJax(InPython):
    """The step takes NumPy arrays. The data of an epoch are on the device, and `lax.scan` loops over its minibatches."""

    def __init__(self, work: Work, threads: int) -> None:
        self.work = work
        value_and_grad = jax.value_and_grad(squared if work.net.loss == "mse" else cross_entropy)
        shape = (work.net.steps, work.net.batch)

        def step(state: Any, x: Any, y: Any) -> Any:
            loss, grads = value_and_grad(state[0], x, y)
            return adam(state, grads), loss

        def epoch(state: Any, x: Any, y: Any, order: Any) -> Any:
            state, losses = jax.lax.scan(lambda state, rows: step(state, x[rows], y[rows]), state, order.reshape(shape))
            return state, jnp.mean(losses)

        self._step, self._epoch, self._outputs = jax.jit(step, donate_argnums=0), jax.jit(epoch, donate_argnums=0), jax.jit(outputs)
        self.x, self.y = jnp.asarray(work.x), jnp.asarray(work.y)
        self.reset()

    def reset(self) -> None:
        params = [(jnp.array(weight), jnp.array(bias)) for weight, bias in self.work.layers]
        m, v = jax.tree.map(jnp.zeros_like, params), jax.tree.map(jnp.zeros_like, params)
        self.state = jax.block_until_ready((params, m, v, jnp.float32(0)))

    def step(self, x: np.ndarray, y: np.ndarray) -> float:
        self.state, loss = self._step(self.state, x, y)
        return float(loss)

    def epoch(self, order: np.ndarray) -> float:
        self.state, loss = self._epoch(self.state, self.x, self.y, order)
        return float(loss)

    def predict(self, x: np.ndarray) -> np.ndarray:
        return np.asarray(self._outputs(self.state[0], x))
