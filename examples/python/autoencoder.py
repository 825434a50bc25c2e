"""An autoencoder of 8 x 8 digits, and its decoder as a network of its own, which draws the way from one digit to another. Prints the
reconstruction error of the network and that of 8 principal components."""

import numpy as np
from sklearn.datasets import load_digits

import microbp as bp


def build(seed=0):
    """64 pixels -> 8 numbers -> 64 pixels."""
    pixels = bp.Input(64)
    code = bp.Dense(8, name="code")(bp.Dense(64, "relu")(pixels))
    drawn = bp.Dense(64, name="drawn")(bp.Dense(64, "relu")(code))
    return bp.Network(pixels, drawn, seed=seed)


def main(seed=0):
    """Returns (error, error of the principal components, pictures on the way between two digits)."""
    X = load_digits().data / 16
    kept = np.arange(len(X)) % 4 == 0
    net = build(seed)
    bp.Trainer(net, loss="mse", optimizer=bp.Adam(lr=2e-3)).fit(X[~kept], X[~kept], epochs=60, schedule=bp.Cosine(2e-3))
    encoder, decoder = net.part(outputs="code"), net.part(inputs="code")  # both share the weights of `net`
    start, end = encoder.predict(X[kept][:2])
    way = decoder.predict(np.linspace(start, end, 7))
    mean = X[~kept].mean(axis=0)
    axes = np.linalg.svd(X[~kept] - mean)[2][:8]
    flat = mean + (X[kept] - mean) @ axes.T @ axes
    return np.square(net.predict(X[kept]) - X[kept]).mean(), np.square(flat - X[kept]).mean(), way


if __name__ == "__main__":
    error, linear, way = main()
    print(error, linear)
    for row in way.reshape(7, 8, 8).transpose(1, 0, 2):
        print("  ".join("".join(" .:*#"[int(np.clip(5 * pixel, 0, 4))] for pixel in line) for line in row))
