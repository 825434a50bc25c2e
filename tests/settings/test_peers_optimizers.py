"""The optimizers compared with PyTorch, Optax and Keras: 200 steps in float64 from the same parameters. The peer gets microbp's gradients
of each step; the parameters of both agree within 1e-9."""

from __future__ import annotations

import importlib
import os
import warnings
from collections.abc import Callable

import numpy as np
import pytest

import microbp as bp

STEPS, ROWS = 200, 16
Peer = Callable[[np.ndarray], Callable[[np.ndarray], np.ndarray]]  # takes parameters, returns a function: gradients -> new parameters


def torch(name: str, **settings) -> Peer:
    def start(params):
        peer = pytest.importorskip("torch", reason="torch is not installed")
        tensor = peer.tensor(params, dtype=peer.float64, requires_grad=True)
        optimizer = getattr(peer.optim, name)([tensor], **settings)

        def step(grads):
            tensor.grad = peer.from_numpy(grads.copy())
            usual = peer.get_default_dtype()
            peer.set_default_dtype(peer.float64)  # for ASGD's rates
            try:
                optimizer.step()
            finally:
                peer.set_default_dtype(usual)
            return tensor.detach().numpy()

        return step

    return start


def optax(name: str, **settings) -> Peer:
    def start(params):
        jax, peer = (pytest.importorskip(module, reason=f"{module} is not installed") for module in ("jax", "optax"))
        jax.config.update("jax_enable_x64", True)
        optimizer = getattr(peer, name)(**settings)
        state = {"params": jax.numpy.asarray(params), "optimizer": optimizer.init(jax.numpy.asarray(params))}
        update = jax.jit(optimizer.update)

        def step(grads):
            changes, state["optimizer"] = update(jax.numpy.asarray(grads), state["optimizer"], state["params"])
            state["params"] = peer.apply_updates(state["params"], changes)
            return np.asarray(state["params"])

        return step

    return start


def keras(name: str, **settings) -> Peer:
    def start(params):
        os.environ.setdefault("KERAS_BACKEND", "jax")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                peer = importlib.import_module("keras")
        except ImportError as error:
            pytest.skip(f"keras does not start: {error}")
        if peer.backend.backend() == "jax":
            importlib.import_module("jax").config.update("jax_enable_x64", True)
        peer.backend.set_floatx("float64")
        try:
            variable = peer.Variable(params, dtype="float64")
            optimizer = getattr(peer.optimizers, name)(**settings)
            optimizer.build([variable])
        finally:
            peer.backend.set_floatx("float32")

        def step(grads):
            optimizer.apply([peer.ops.convert_to_tensor(grads, dtype="float64")], [variable])
            return np.asarray(variable)

        return step

    return start


def sklearn(name: str, **settings) -> Peer:
    def start(params):
        peer = pytest.importorskip("sklearn.neural_network._stochastic_optimizers", reason="scikit-learn is not installed")
        params = params.copy()
        optimizer = getattr(peer, name)(params=[params], **settings)

        def step(grads):
            optimizer.update_params([params], [grads.copy()])
            return params

        return step

    return start


def tensorwise(peer: Peer) -> Peer:
    """A peer that gets each tensor of the net separately."""

    def start(params):
        places = [slice(0, 15), slice(15, 35), slice(35, 40), slice(40, 44)]
        steps = [peer(params[place]) for place in places]
        return lambda grads: np.concatenate([step(grads[place]) for step, place in zip(steps, places, strict=True)])

    return start


DECAY = {"weight_decay": 0.1}
BOTH = {"weight_decay": 0.1, "decay_bias": True}
CASES = {
    "SGD": (bp.SGD(0.1, **BOTH), torch("SGD", lr=0.1, **DECAY)),
    "SGD momentum": (bp.SGD(0.1, 0.8, **BOTH), torch("SGD", lr=0.1, momentum=0.8, **DECAY)),
    "SGD Nesterov": (bp.SGD(0.1, 0.8, nesterov=True, **BOTH), torch("SGD", lr=0.1, momentum=0.8, nesterov=True, **DECAY)),
    "Momentum": (bp.Momentum(0.1, 0.8), keras("SGD", learning_rate=0.1, momentum=0.8)),
    "Momentum Nesterov": (bp.Momentum(0.1, 0.8, nesterov=True), keras("SGD", learning_rate=0.1, momentum=0.8, nesterov=True)),
    "ASGD": (bp.ASGD(**BOTH), torch("ASGD", **DECAY)),
    "ASGD settings": (bp.ASGD(0.2, 0.1, 0.6, 50), torch("ASGD", lr=0.2, lambd=0.1, alpha=0.6, t0=50)),
    "Adagrad": (bp.Adagrad(), torch("Adagrad")),
    "Adagrad settings": (
        bp.Adagrad(0.1, 0.02, initial_accumulator_value=0.3, eps=1e-3, **BOTH),
        torch("Adagrad", lr=0.1, lr_decay=0.02, initial_accumulator_value=0.3, eps=1e-3, **DECAY),
    ),
    "Adadelta": (bp.Adadelta(**BOTH), torch("Adadelta", **DECAY)),
    "Adadelta settings": (bp.Adadelta(0.5, 0.8, 1e-4), torch("Adadelta", lr=0.5, rho=0.8, eps=1e-4)),
    "RMSprop": (bp.RMSprop(**BOTH), torch("RMSprop", **DECAY)),
    "RMSprop momentum": (bp.RMSprop(1e-3, 0.9, 1e-4, momentum=0.8), torch("RMSprop", lr=1e-3, alpha=0.9, eps=1e-4, momentum=0.8)),
    "RMSprop centered": (bp.RMSprop(centered=True, **BOTH), torch("RMSprop", centered=True, **DECAY)),
    "RMSprop centered momentum": (bp.RMSprop(1e-3, momentum=0.8, centered=True), torch("RMSprop", lr=1e-3, momentum=0.8, centered=True)),
    "Adam": (bp.Adam(), torch("Adam")),
    "Adam settings": (bp.Adam(0.01, (0.8, 0.95), 1e-4, **BOTH), torch("Adam", lr=0.01, betas=(0.8, 0.95), eps=1e-4, **DECAY)),
    "Adam amsgrad": (bp.Adam(0.01, amsgrad=True, **BOTH), torch("Adam", lr=0.01, amsgrad=True, **DECAY)),
    "Adam eps_hat": (bp.Adam(0.01, eps=1e-3, eps_hat=True), sklearn("AdamOptimizer", learning_rate_init=0.01, epsilon=1e-3)),
    "Adam amsgrad eps_hat": (bp.Adam(0.01, amsgrad=True, eps_hat=True), keras("Adam", learning_rate=0.01, epsilon=1e-8, amsgrad=True)),
    "Momentum sklearn": (
        bp.Momentum(0.1, 0.8, nesterov=True),
        sklearn("SGDOptimizer", learning_rate_init=0.1, momentum=0.8, nesterov=True),
    ),
    "SGD sklearn": (
        bp.SGD(0.1, 0.8, nesterov=True),
        sklearn("SGDOptimizer", learning_rate_init=0.1, momentum=0.8, nesterov=True),
    ),
    "AdamW": (bp.AdamW(decay_bias=True), torch("AdamW")),
    "AdamW amsgrad": (bp.AdamW(0.01, amsgrad=True, **BOTH), torch("AdamW", lr=0.01, amsgrad=True, **DECAY)),
    "Adamax": (bp.Adamax(**BOTH), torch("Adamax", **DECAY)),
    "NAdam": (bp.NAdam(**BOTH), torch("NAdam", **DECAY)),
    "NAdam settings": (bp.NAdam(0.01, (0.8, 0.95), momentum_decay=0.1), torch("NAdam", lr=0.01, betas=(0.8, 0.95), momentum_decay=0.1)),
    "RAdam": (bp.RAdam(**BOTH), torch("RAdam", **DECAY)),
    "RAdam settings": (bp.RAdam(0.01, (0.8, 0.9), 1e-4), torch("RAdam", lr=0.01, betas=(0.8, 0.9), eps=1e-4)),
    "AdaBelief": (bp.AdaBelief(), optax("adabelief", learning_rate=1e-3)),
    "AdaBelief settings": (
        bp.AdaBelief(0.01, (0.8, 0.95), 1e-6, 1e-5),
        optax("adabelief", learning_rate=0.01, b1=0.8, b2=0.95, eps=1e-6, eps_root=1e-5),
    ),
    "Lion": (bp.Lion(decay_bias=True), optax("lion", learning_rate=1e-4, weight_decay=0.0)),
    "Lion settings": (bp.Lion(1e-3, (0.8, 0.95), **BOTH), optax("lion", learning_rate=1e-3, b1=0.8, b2=0.95, **DECAY)),
    "Lamb": (bp.Lamb(0.01), tensorwise(optax("lamb", learning_rate=0.01))),
    "Lamb settings": (
        bp.Lamb(0.01, (0.8, 0.95), 1e-3, **BOTH),
        tensorwise(optax("lamb", learning_rate=0.01, b1=0.8, b2=0.95, eps=1e-3, **DECAY)),
    ),
    "Ftrl": (bp.Ftrl(0.1), keras("Ftrl", learning_rate=0.1)),
    "Ftrl settings": (
        bp.Ftrl(0.1, 0.2, l1=0.01, l2=0.04, beta=0.5),
        keras(
            "Ftrl",
            learning_rate=0.1,
            initial_accumulator_value=0.2,
            l1_regularization_strength=0.01,
            l2_regularization_strength=0.02,
            beta=0.5,
        ),
    ),
    "Rprop": (bp.Rprop(), torch("Rprop")),
    "Rprop settings": (bp.Rprop(0.02, (0.4, 1.5), (1e-3, 0.03)), torch("Rprop", lr=0.02, etas=(0.4, 1.5), step_sizes=(1e-3, 0.03))),
}


@pytest.mark.peers
@pytest.mark.parametrize("name", CASES)
def test_200_steps_equal_the_peer(name):
    settings, peer = CASES[name]
    net = bp.mlp([3, 5, 4], activation="tanh", dtype="float64", seed=1)
    t, random = bp.Trainer(net, "mse", settings), np.random.default_rng(2)
    assert [view.size for view in net.tensors.values()] == [15, 5, 20, 4]
    net.params[35:] = random.normal(size=9)  # biases that are not 0, so that decay changes them
    x, y = random.normal(size=(8, ROWS, 3)), random.normal(size=(8, ROWS, 4))
    step, start = peer(net.params.copy()), net.params.copy()
    for i in range(STEPS):
        t.step(x[i % 8], y[i % 8])
        params = step(t.grads)
        np.testing.assert_allclose(net.params, params, rtol=1e-9, atol=1e-9)
    assert abs(params - start).max() > 1e-3
    if name.startswith("ASGD"):
        assert (abs(t.state["average"] - net.params).max() > 0) == (settings.t0 < STEPS)


def test_every_class_has_a_peer():
    """Solvers have theirs in tests/training/solvers."""
    classes = {type(settings) for settings, _ in CASES.values()}
    public = {one for name in bp.__all__ if isinstance(one := getattr(bp, name), type) and issubclass(one, bp.Optimizer)} - {bp.Optimizer}
    assert classes == {one for one in public if one().spec.kind == "optimizer"}
