"""A network learns distances between noisy pictures of digits from triplets (Schroff et al. 2015): of the same digit near, of others far.
Prints how often the nearest of the other pictures shows the same digit: in pixels, and as learnt."""

import numpy as np
from sklearn.datasets import load_digits

import microbp as bp

MARGIN = 1.0


def triplet_loss(codes, targets, weight):
    """Hinge loss of squared distances. The rows of `codes` are anchors, then pictures of the same digits, then of other digits."""
    anchor, same, other = np.split(codes, 3)
    to_same, to_other = anchor - same, anchor - other
    gap = MARGIN + (to_same**2).sum(axis=1) - (to_other**2).sum(axis=1)
    scale = 2 * (gap > 0)[:, None] / len(anchor)
    return np.maximum(gap, 0).mean(), np.concatenate([scale * (to_same - to_other), -scale * to_same, scale * to_other])


def noisy(X, rng):
    """Pictures with noise, in which pixels say little about the distance of two digits."""
    return X + rng.normal(0, 0.5, X.shape)


def train(X, y, seed=0, updates=1_500, rows=128):
    """Returns the network: picture -> code of 16 numbers."""
    rng = np.random.default_rng(seed)
    t = bp.Trainer(bp.mlp([64, 64, 16], seed=seed), loss=triplet_loss, optimizer=bp.Adam(lr=1e-3))
    order, counts = np.argsort(y, kind="stable"), np.bincount(y)
    for _ in range(updates):
        digit = rng.integers(0, len(counts), rows)
        other = (digit + rng.integers(1, len(counts), rows)) % len(counts)
        digits = np.concatenate([digit, digit, other])
        t.step(noisy(X[order[np.cumsum(counts)[digits] - 1 - rng.integers(0, counts[digits])]], rng), None)
    return t.net


def found(codes, y):
    """How often the nearest of the other pictures shows the same digit."""
    distances = ((codes[:, None] - codes) ** 2).sum(axis=2)
    np.fill_diagonal(distances, np.inf)
    return float((y[distances.argmin(axis=1)] == y).mean())


def main(seed=0):
    """Returns how often the nearest picture shows the same digit: in pixels, in codes. The network has seen other pictures."""
    X, y = load_digits(return_X_y=True)
    kept = np.arange(len(y)) % 4 == 0
    net, seen = train(X[~kept] / 16, y[~kept], seed), noisy(X[kept] / 16, np.random.default_rng(1))
    return found(seen, y[kept]), found(net.predict(seen), y[kept])


if __name__ == "__main__":
    print(main())
