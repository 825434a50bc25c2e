"""Compares learning steps of whole programs with PyTorch's eager mode: one process, one thread, alternately; medians of the rounds.

    python bench/programs.py [--rounds 21]

DDPG: a step of the critic (5-64-64-1) and one of the actor (4-64-64-1) through it, 64 rows. PPO: an update of a network with two outputs
(4-64-64-2 and a value) by the clipped loss of examples/python/ppo.py, 64 rows. Heads: a step of 64-128-10 and 64-128-1 on one trunk, and
one of the same trunk with a single output, both of microbp. Small: the same of 8-16-8 and 8-16-4 + 4, one row. Row: a prediction of (4,)
and of (1, 4). Gradients are compared with PyTorch's before anything is timed.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MICROBP_NUM_THREADS", "1")

import numpy as np

import microbp as bp

sys.path.insert(0, str(Path(__file__).parents[1] / "examples/python"))
import ppo  # the loss of the example

ROWS, TURN = 64, 0.05  # rows of a batch; seconds of a turn
Step = Callable[[], Any]
rng = np.random.default_rng(0)
states, actions, rewards = (rng.normal(size=(ROWS, width)).astype(np.float32) for width in (4, 1, 1))
chosen = np.stack([rng.integers(0, 2, ROWS), np.full(ROWS, -0.7), rng.normal(size=ROWS)], axis=1).astype(np.float32)


def ddpg(torch: Any) -> tuple[Step, Step]:
    """A learning step of microbp, and of PyTorch, from the same weights."""
    state = bp.Input(4)
    action = bp.Dense(1, "tanh")(bp.Dense(64, "relu")(bp.Dense(64, "relu")(state)))
    value = bp.Dense(1, name="value")(bp.Dense(64, "relu", name="c1")(bp.Dense(64, "relu", name="c0")(bp.concat([state, action]))))
    net = bp.Network(state, [action, value], seed=0)
    through, critic = net.part(outputs=value), net.part(inputs=[state, action], outputs=value)
    for name in ("c0", "c1", "value"):
        through.freeze(name)
    slope = np.full((ROWS, 1), -1 / ROWS, dtype=np.float32)
    improve, judge = bp.Trainer(through, loss=None), bp.Trainer(critic, loss="mse")

    def ours() -> None:
        judge.step([states, actions], rewards)
        improve.forward(states)
        improve.backward_from(slope)
        improve.apply()

    F = torch.nn.functional  # noqa: N806
    weights = {name: torch.tensor(np.array(view), requires_grad=True) for name, view in net.tensors.items()}
    first = ["dense_0", "dense_1", "dense_2"]
    optimizers = [torch.optim.Adam([weights[n] for n in weights if (n.split(".")[0] in first) == actor]) for actor in (True, False)]
    s, a, r = map(torch.from_numpy, (states, actions, rewards))

    def layer(x: Any, name: str) -> Any:
        return F.linear(x, weights[f"{name}.weight"], weights[f"{name}.bias"])

    def policy(x: Any) -> Any:
        return torch.tanh(layer(F.relu(layer(F.relu(layer(x, first[0])), first[1])), first[2]))

    def quality(x: Any, u: Any) -> Any:
        return layer(F.relu(layer(F.relu(layer(torch.cat([x, u], 1), "c0")), "c1")), "value")

    def theirs() -> None:
        optimizers[1].zero_grad()
        F.mse_loss(quality(s, a), r).backward()
        optimizers[1].step()
        optimizers[0].zero_grad()
        (-quality(s, policy(s)).mean()).backward()
        optimizers[0].step()

    ours()
    theirs()
    for name, weight in weights.items():
        np.testing.assert_allclose(net.tensors[name], weight.detach().numpy(), atol=2e-4, err_msg=name)
    return ours, theirs


def ppo_update(torch: Any) -> tuple[Step, Step]:
    """An update of the policy and the value."""
    state = bp.Input(4)
    h = bp.Dense(64, "tanh")(bp.Dense(64, "tanh")(state))
    net = bp.Network(state, [bp.Dense(2)(h), bp.Dense(1)(h)], seed=0)
    t = bp.Trainer(net, loss=ppo.ppo_loss)
    nn = torch.nn
    trunk = nn.Sequential(nn.Linear(4, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh())
    heads = [nn.Linear(64, 2), nn.Linear(64, 1)]
    parameters = [p for module in (trunk, *heads) for p in module.parameters()]
    for parameter, view in zip(parameters, net.tensors.values(), strict=True):
        parameter.data = torch.tensor(np.array(view))
    optimizer = torch.optim.Adam(parameters)
    s, c, r = map(torch.from_numpy, (states, chosen, rewards))
    index = c[:, :1].long()

    def theirs() -> None:
        optimizer.zero_grad()
        hidden = trunk(s)
        log_p = torch.log_softmax(heads[0](hidden), 1).gather(1, index)[:, 0]
        ratio = torch.exp(log_p - c[:, 1])
        gain = torch.minimum(ratio * c[:, 2], ratio.clamp(1 - ppo.CLIP, 1 + ppo.CLIP) * c[:, 2])
        (-gain.mean() + 0.5 * ((heads[1](hidden) - r) ** 2).mean()).backward()
        optimizer.step()

    def ours() -> None:
        t.step(states, [chosen, rewards])

    ours()
    theirs()
    for view, parameter in zip(net.tensors.values(), parameters, strict=True):
        np.testing.assert_allclose(view, parameter.detach().numpy(), atol=2e-4)
    return ours, theirs


def heads(torch: Any) -> tuple[Step, Step]:
    """A step of two outputs on one trunk, and of one output."""
    x, labels, numbers = rng.normal(size=(ROWS, 64)).astype(np.float32), rng.integers(0, 10, ROWS), rewards
    node = bp.Input(64)
    h = bp.Dense(128, "relu")(node)
    one = bp.Trainer(bp.Network(node, bp.Dense(10)(h), seed=0), "cross_entropy")
    two = bp.Trainer(bp.Network(node, [bp.Dense(10)(h), bp.Dense(1)(h)], seed=0), ["cross_entropy", "mse"])
    return lambda: one.step(x, labels), lambda: two.step(x, [labels, numbers])


def small(torch: Any) -> tuple[Step, Step]:
    """A step of one row: of two outputs with 4 columns, and of one with 8."""
    x, y = states[:1].repeat(2, axis=1), rng.normal(size=(1, 8)).astype(np.float32)
    node = bp.Input(8)
    h = bp.Dense(16, "relu")(node)
    one = bp.Trainer(bp.Network(node, bp.Dense(8)(h), seed=0), "mse")
    two = bp.Trainer(bp.Network(node, [bp.Dense(4)(h), bp.Dense(4)(h)], seed=0), ["mse", "mse"])
    ys = [y[:, :4].copy(), y[:, 4:].copy()]
    return lambda: one.step(x, y), lambda: two.step(x, ys)


def row(torch: Any) -> tuple[Step, Step]:
    """A prediction of (1, 4), and of (4,)."""
    net, two = bp.mlp([4, 64, 64, 1], seed=0), states[:1]
    one = states[0]
    return lambda: net.predict(two), lambda: net.predict(one)


def seconds(step: Step) -> float:
    """The time of one call, from a turn."""
    start, calls = time.perf_counter(), 0
    while (now := time.perf_counter()) - start < TURN:
        step()
        calls += 1
    return (now - start) / calls


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=21, help="turns of each (default: 21)")
    rounds = parser.parse_args().rounds
    try:
        import torch
    except ImportError:
        sys.exit("programs.py needs PyTorch: python -m pip install torch")
    torch.set_num_threads(1)
    print(f"{'program':<8}{'first':>10}{'second':>10}   second / first (95 %)")
    for name, make in (("DDPG", ddpg), ("PPO", ppo_update), ("heads", heads), ("small", small), ("row", row)):
        pair = make(torch)
        times = [[seconds(step) for step in pair] for _ in range(rounds)]
        first, second = (statistics.median(turn) * 1e6 for turn in zip(*times, strict=True))
        ratios = sorted(b / a for a, b in times)
        low, high = ratios[len(ratios) // 40], ratios[-1 - len(ratios) // 40]
        print(f"{name:<8}{first:>7.1f} us{second:>7.1f} us   {statistics.median(ratios):.2f} ({low:.2f} to {high:.2f})")


if __name__ == "__main__":
    main()
