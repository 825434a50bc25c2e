"""A small network learns from the outputs of a large one (Hinton, Vinyals & Dean 2015), with 100 labelled pictures and 1,250 without
labels. Prints the accuracies of the large network, of a small one trained on the labels, and of one trained on the large one's outputs."""

import numpy as np
from sklearn.datasets import load_digits

import microbp as bp


def main(seed=0):
    """Returns the three accuracies."""
    X, y = load_digits(return_X_y=True)
    X, kept = X / 16, np.arange(len(y)) % 4 == 0
    X, y, X_test, y_test = X[~kept], y[~kept], X[kept], y[kept]

    def trained(widths, rows, targets, loss, epochs):
        t = bp.Trainer(bp.mlp(widths, seed=seed), loss=loss, optimizer=bp.Adam(lr=2e-3))
        t.fit(X[rows], targets, epochs=epochs, schedule=bp.Cosine(2e-3))
        return t

    def accuracy(t):
        return bp.accuracy(y_test, t.predict(X_test))

    every, few = np.arange(len(X)), np.arange(100)
    teacher = trained([64, 256, 256, 10], every, y, "cross_entropy", 40)
    alone = trained([64, 8, 10], few, y[few], "cross_entropy", 300)
    logits = teacher.net.predict(X, raw=True) / 3  # the temperature shows how similar the teacher finds the wrong digits
    soft = np.exp(logits - logits.max(axis=1, keepdims=True))
    soft /= soft.sum(axis=1, keepdims=True)
    student = trained([64, 8, 10], every, soft, bp.Loss("cross_entropy", temperature=3), 100)
    return accuracy(teacher), accuracy(alone), accuracy(student)


if __name__ == "__main__":
    print(main())
