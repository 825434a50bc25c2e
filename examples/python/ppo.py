"""Proximal policy optimization (Schulman et al. 2017) balances a pole: one network with two outputs, the logits of the actions and
the value of the state, and one loss over both. Prints the mean return of the last 10 of its episodes; 500 is the most."""

import numpy as np
from worlds import CartPole, advantages

import microbp as bp

CLIP, ROWS = 0.2, 1024


def ppo_loss(outputs, targets, weight):
    """The clipped loss of the policy, and half the squared error of the value. targets: (action, its log p, advantage), return."""
    (logits, value), (chosen, returns), n = outputs, targets, len(outputs[0])
    log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    p, taken, (action, before, advantage) = np.exp(log_p), np.zeros_like(logits), chosen.T
    taken[np.arange(n), action.astype(int)] = 1
    ratio = np.exp((log_p * taken).sum(axis=1) - before)
    clipped = np.clip(ratio, 1 - CLIP, 1 + CLIP)
    free = ratio * advantage <= clipped * advantage  # elsewhere the slope is 0
    loss = (-np.where(free, ratio, clipped) * advantage + (value - returns)[:, 0] ** 2 / 2).mean()
    return loss, [(free * ratio * advantage)[:, None] * (p - taken) / n, (value - returns) / n]


def train(seed=0, rollouts=24):
    """Returns (the network, the returns of all episodes)."""
    state = bp.Input(4)
    ends = [bp.Dense(width)(bp.Dense(64, "tanh")(bp.Dense(64, "tanh")(state))) for width in (2, 1)]
    t = bp.Trainer(bp.Network(state, ends, seed=seed), loss=ppo_loss, optimizer=bp.Adam(lr=1e-3), clip_norm=0.5)
    rng = np.random.default_rng(seed)
    world, episodes, total = CartPole(rng), [], 0.0
    here = world.reset()
    for _ in range(rollouts):
        states, chosen, (rewards, over), values = np.empty((ROWS, 4)), np.empty((ROWS, 3)), np.empty((2, ROWS)), np.empty(ROWS + 1)
        for i in range(ROWS):
            z, values[i : i + 1] = t.predict(here)
            p = 1 / (1 + np.exp(z[0] - z[1]))
            action = int(rng.random() < p)
            states[i], chosen[i, :2] = here, (action, np.log(p if action else 1 - p))
            here, rewards[i], _, over[i] = world.step(action)
            total += rewards[i]
            if over[i]:
                here, total = world.reset(), episodes.append(total) or 0.0
        values[ROWS] = t.predict(here)[1][0]
        gains = advantages(rewards, over, values)
        chosen[:, 2], returns = (gains - gains.mean()) / gains.std(), (gains + values[:-1])[:, None]
        for rows in np.concatenate([rng.permutation(ROWS).reshape(-1, 64) for _ in range(8)]):
            t.step(states[rows], [chosen[rows], returns[rows]])
    return t.net, episodes


if __name__ == "__main__":
    print(np.mean(train()[1][-10:]))
