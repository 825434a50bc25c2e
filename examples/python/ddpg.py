"""Deep deterministic policy gradient (Lillicrap et al. 2016) swings a pendulum up: one graph from state to action to value. The critic is
the part from state and action on; the actor learns through the critic, whose layers are frozen in its part. Prints the mean return of 10
episodes; without learning it is about -1200, and -150 is good."""

import numpy as np
from worlds import Pendulum

import microbp as bp


def build(seed):
    """Returns (the network state -> action, value; its actor; its critic). All three share their weights."""
    state = bp.Input(3)
    action = 2 * bp.Dense(1, "tanh", name="action")(bp.Dense(64, "relu")(bp.Dense(64, "relu")(state)))
    hidden = bp.Dense(64, "relu", name="critic_0")(bp.concat([state, action]))
    value = bp.Dense(1, name="value")(bp.Dense(64, "relu", name="critic_1")(hidden))
    net = bp.Network(state, [action, value], seed=seed)
    actor, critic = net.part(outputs=value), net.part(inputs=[state, action], outputs=value)
    for name in ("critic_0", "critic_1", "value"):
        actor.freeze(name)
    return net, actor, critic


def train(seed=0, episodes=40, rows=64):
    """Returns (the network, the return of each episode)."""
    rng = np.random.default_rng(seed)
    net, actor, critic = build(seed)
    improve = bp.Trainer(actor, loss=lambda q, y, weight: (-q.mean(), np.full_like(q, -1 / len(q))), optimizer=bp.Adam(lr=1e-3))
    judge = bp.Trainer(critic, loss="mse", optimizer=bp.Adam(lr=2e-3))
    slow, world, returns, size = net.copy(), Pendulum(rng), [], 200 * episodes
    states, after, actions, rewards = np.empty((size, 3)), np.empty((size, 3)), np.empty((size, 1)), np.empty(size)
    for i in range(size):
        if i % 200 == 0:
            state, noise = world.reset(), 0.0
            returns.append(0.0)
        noise = 0.85 * noise + 0.3 * rng.normal()
        states[i], actions[i] = state, np.clip(net.predict(state)[0] + noise, -2, 2)
        state, rewards[i], _, _ = world.step(actions[i, 0])
        after[i], returns[-1] = state, returns[-1] + rewards[i]
        if i >= 500:
            batch = rng.integers(0, i, rows)
            judge.step([states[batch], actions[batch]], rewards[batch] / 10 + 0.98 * slow.predict(after[batch])[1][:, 0])
            improve.step(states[batch], None)
            slow.params[:] += 0.005 * (net.params - slow.params)
    return net, returns


if __name__ == "__main__":
    print(np.mean(train()[1][-10:]))
