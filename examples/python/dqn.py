"""A deep Q-network (Mnih et al. 2015) learns to balance a pole from 20,000 steps. Prints the mean return of 10 episodes, at most 500."""

import numpy as np
from worlds import CartPole

import microbp as bp


def train(seed=0, steps=20_000):
    """Returns the trained Q network: state -> the discounted return to expect from each action."""
    rng = np.random.default_rng(seed)
    world, size = CartPole(rng), 20_000
    q = bp.Trainer(bp.mlp([4, 64, 64, 2], seed=seed), loss="huber", optimizer=bp.Adam(lr=5e-4), clip_norm=10)
    slow = q.net.copy()  # an older copy makes the targets
    states, after = np.empty((2, size, 4), dtype=np.float32)
    actions, falls = np.empty(size, dtype=int), np.empty(size)
    state, rows = world.reset(), np.arange(64)
    for i in range(steps):
        greedy = rng.random() > max(0.05, 1 - i / 5_000)
        at, action = i % size, int(q.predict(state).argmax()) if greedy else int(rng.integers(2))
        states[at], actions[at] = state, action
        state, _, falls[at], over = world.step(action)
        after[at] = state
        state = world.reset() if over else state
        if i >= 500:
            batch = rng.integers(0, min(i, size), 64)
            targets = q.predict(states[batch])  # the other action keeps its value, so its error is 0
            best = q.predict(after[batch]).argmax(axis=1)  # double DQN (van Hasselt et al. 2016)
            targets[rows, actions[batch]] = 1 + 0.99 * (1 - falls[batch]) * slow.predict(after[batch])[rows, best]
            q.step(states[batch], targets)
            slow.params[:] += 0.01 * (q.net.params - slow.params)
    return q.net


def mean_return(net, seed=1, episodes=10):
    """The mean return of the actions with the largest value."""
    world, total = CartPole(np.random.default_rng(seed)), 0.0
    for _ in range(episodes):
        state, over = world.reset(), False
        while not over:
            state, reward, _, over = world.step(int(net.predict(state).argmax()))
            total += reward
    return total / episodes


if __name__ == "__main__":
    print(mean_return(train()))
