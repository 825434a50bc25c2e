"""Repeats the two grids of Zeiler 2012 (AdaDelta, arXiv 1212.5701, tables 1 and 2) on MNIST, and prints them with the published values.

    python bench/training/adadelta.py [--data DIR] [--seeds N]

784-500-300-10, relu, cross-entropy, batches of 100, 6 epochs, test error in per cent: SGD, momentum and AdaGrad by learning rate; AdaDelta
by rho and epsilon. The paper does not specify these settings, chosen here: pixels in 0..1, glorot_normal initial weights (chosen among he,
lecun and glorot by these errors), momentum 0.9 with the rate inside the velocity, AdaGrad's epsilon 1e-8, shuffled epochs. The errors are
after the last epoch, mean over the seeds: single runs at large rates and at AdaDelta's large epsilons differ by half a percentage point.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import data
import numpy as np

import microbp as bp

RATES = (1e0, 1e-1, 1e-2, 1e-3, 1e-4)
BY_RATE: dict[str, Callable[..., bp.Optimizer]] = {
    "SGD": bp.SGD,
    "momentum": bp.Momentum,
    "AdaGrad": lambda lr: bp.Adagrad(lr=lr, eps=1e-8),
}
PUBLISHED_BY_RATE = {
    "SGD": (2.26, 2.51, 7.02, 17.01, 58.10),
    "momentum": (89.68, 2.03, 2.68, 6.98, 16.98),
    "AdaGrad": (43.76, 2.82, 1.79, 5.21, 12.59),
}
RHOS, EPSILONS = (0.9, 0.95, 0.99), (1e-2, 1e-4, 1e-6, 1e-8)
PUBLISHED_ADADELTA = {0.9: (2.59, 2.05, 1.90, 2.29), 0.95: (2.58, 1.99, 1.83, 2.13), 0.99: (2.32, 2.28, 2.05, 2.00)}
EPOCHS, BATCH = 6, 100


def test_error(optimizer: bp.Optimizer, train: data.Digits, test: data.Digits, seeds: int) -> float:
    """The mean test error in per cent; NaN if training diverged."""
    return float(np.mean([one_error(optimizer, train, test, seed) for seed in range(seeds)]))


def one_error(optimizer: bp.Optimizer, train: data.Digits, test: data.Digits, seed: int) -> float:
    trainer = bp.Trainer(bp.mlp([784, 500, 300, 10], init="glorot_normal", seed=seed), "cross_entropy", optimizer)
    try:
        trainer.fit(train.x, train.labels, epochs=EPOCHS, batch_size=BATCH, progress=False)
    except FloatingPointError:
        return float("nan")
    return 100 * (1 - bp.accuracy(test.labels, trainer.predict(test.x)))


def cell(ours: float, published: float) -> str:
    return f"{'diverged' if ours != ours else f'{ours:.2f}'} ({published:.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=data.DEFAULT_FOLDER, help="folder that contains mnist/ (default: %(default)s)")
    parser.add_argument("--seeds", type=int, default=3, help="number of runs of each cell, with seeds 0, 1, ... (default: %(default)s)")
    arguments = parser.parse_args()
    train, test = data.mnist(arguments.data)
    print(f"microbp {bp.__version__}; mean of {arguments.seeds} seeds; test error in per cent (published)\n")
    print(f"| lr | {' | '.join(BY_RATE)} |\n|---|---|---|---|")
    for i, lr in enumerate(RATES):
        ours = [test_error(make(lr=lr), train, test, arguments.seeds) for make in BY_RATE.values()]
        cells = [cell(error, PUBLISHED_BY_RATE[name][i]) for name, error in zip(BY_RATE, ours, strict=True)]
        print(f"| {lr:.0e} | {' | '.join(cells)} |", flush=True)
    print(f"\n| eps | {' | '.join(f'AdaDelta rho {rho}' for rho in RHOS)} |\n|---|---|---|---|")
    for i, eps in enumerate(EPSILONS):
        ours = [test_error(bp.Adadelta(lr=1.0, rho=rho, eps=eps), train, test, arguments.seeds) for rho in RHOS]
        cells = [cell(error, PUBLISHED_ADADELTA[rho][i]) for rho, error in zip(RHOS, ours, strict=True)]
        print(f"| {eps:.0e} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
