"""A network solves u'' + u = 0, u(0) = 0, u'(0) = 1 (so u = sin x) on [0, 6] from the equation alone. Prints the largest error."""

import numpy as np

import microbp as bp

H = 1e-2  # central differences: each point is three rows, x - H, x and x + H


def solve(seed=0, updates=6_000):
    """Returns u as a function of x. u = x + x^2 n(x) satisfies the conditions at 0 whatever the network n gives."""
    x = np.linspace(0, 6, 61)
    rows = np.concatenate([x - H, x, x + H])

    def residual(n, targets, weight):
        before, u, after = np.split(rows + rows**2 * n[:, 0], 3)
        error = (after - 2 * u + before) / H**2 + u
        slopes = np.concatenate([error / H**2, error * (1 - 2 / H**2), error / H**2]) * 2 / len(x)
        return (error**2).mean(), (slopes * rows**2)[:, None]

    net = bp.mlp([1, 32, 32, 1], activation="tanh", dtype="float64", seed=seed)
    t = bp.Trainer(net, loss=residual, optimizer=bp.Adam(lr=3e-3))
    schedule = bp.Cosine(3e-3, steps=updates)
    for i in range(updates):
        t.lr = schedule(i)
        t.step(rows[:, None] / 3 - 1, None)
    return lambda points: points + points**2 * net.predict(points[:, None] / 3 - 1)[:, 0]


if __name__ == "__main__":
    points = np.linspace(0, 6, 1000)
    print(np.abs(solve()(points) - np.sin(points)).max())
