"""One network learns six numbers from rows that have one in four of them (the others are NaN), and is compared with six networks, each
trained on the rows that have its number. Prints the root mean squared errors of both."""

import numpy as np

import microbp as bp


def arm(angles):
    """The places of elbow, wrist and fingertip of an arm in a plane, as x and y: (rows, 6)."""
    directions = np.cumsum(angles, axis=1)
    steps = np.stack([np.cos(directions), np.sin(directions)], axis=2) * np.array([1.0, 0.8, 0.5])[:, None]
    return np.cumsum(steps, axis=1).reshape(len(angles), 6)


def trained(widths, X, y, loss, seed):
    """A network after 200 epochs."""
    t = bp.Trainer(bp.mlp(widths, activation="tanh", seed=seed), loss=loss, optimizer=bp.Adam(lr=5e-3))
    t.fit(X, y, epochs=200, schedule=bp.Cosine(5e-3))
    return t.net


def main(seed=0, rows=400):
    """Returns (error of the network of all numbers, error of the six networks)."""
    rng = np.random.default_rng(seed)
    X, X_test = rng.uniform(-1.5, 1.5, (rows, 3)), rng.uniform(-1.5, 1.5, (5_000, 3))
    y, y_test = arm(X) + rng.normal(0, 0.02, (rows, 6)), arm(X_test)
    y[rng.random(y.shape) > 0.25] = np.nan
    together = trained([3, 64, 64, 6], X, y, bp.Loss("mse", missing=True), seed).predict(X_test)
    there = [np.isfinite(column) for column in y.T]
    apart = [trained([3, 64, 64, 1], X[there[j]], y[there[j], j], "mse", seed).predict(X_test)[:, 0] for j in range(6)]
    return bp.rmse(y_test, together), bp.rmse(y_test, np.stack(apart, axis=1))


if __name__ == "__main__":
    print(main())
