"""A generator and a critic (Goodfellow et al. 2014) learn eight clusters on a circle. Prints how many clusters have points, and the
fraction of points that are near one."""

import numpy as np

import microbp as bp

ANGLES = np.arange(8) * np.pi / 4
CENTRES = np.stack([np.cos(ANGLES), np.sin(ANGLES)], axis=1)


def train(seed=0, updates=6_000, rows=128):
    """Returns the generator: 8 standard normal numbers -> a point."""
    rng = np.random.default_rng(seed)
    critic = bp.Trainer(bp.mlp([2, 64, 64, 1], "leaky_relu", seed=seed), "bce", bp.Adam(lr=1e-3, betas=(0.5, 0.99)))
    generator = bp.Trainer(bp.mlp([8, 64, 64, 2], "tanh", seed=seed + 1), None, bp.Adam(lr=1e-3, betas=(0.5, 0.99)))
    truth = np.repeat([1, 0], rows)
    for _ in range(updates):
        real = CENTRES[rng.integers(0, 8, rows)] + rng.normal(0, 0.05, (rows, 2))
        fake = generator.forward(rng.normal(size=(rows, 8)))
        critic.step(np.concatenate([real, fake]), truth)
        critic.backward(fake, np.ones(rows), input_grads=True)  # as if they were real; changes no weight
        generator.backward_from(critic.input_grads)
        generator.apply()
    return generator.net


def quality(net, seed=2):
    """(The number of clusters with at least 2 % of 1000 points, the fraction of points at most 0.2 from a centre)."""
    points = net.predict(np.random.default_rng(seed).normal(size=(1000, 8)))
    distances = np.linalg.norm(points[:, None] - CENTRES, axis=2)
    near = distances.min(axis=1) < 0.2
    return int((np.bincount(distances.argmin(axis=1)[near], minlength=8) >= 20).sum()), float(near.mean())


if __name__ == "__main__":
    print(quality(train()))
