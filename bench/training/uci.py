"""Trains on the UCI regression sets with the published splits, and prints test errors with those of the published plain networks.

    python bench/training/uci.py [--data DIR] [set ...]

Hernandez-Lobato & Adams 2015 (Probabilistic backpropagation, ICML): 20 splits, inputs and target normalized on the training part, RMSE in
the target's unit, relu, 50 hidden units per layer. Their plain networks (BP, 1 to 4 layers) are trained with SGD, momentum and weight decay
for 40 epochs, one update per row, with hyper-parameters tuned for each split. Here: two hidden layers, he_normal initial weights
(glorot_uniform in the last), biases of 0, Adam with a cosine schedule and a little weight decay, the same settings for all sets and splits.
They were chosen by the error on a tenth of the training rows of the first ten splits, among rates 0.003 and 0.01, 200 and 800 epochs,
batches of 8 and 32, decay 0 and 0.0001, two and three layers. The test rows were not used for any choice.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import data
import numpy as np
import numpy.typing as npt

import microbp as bp

HIDDEN, LR, DECAY, BATCH, PASSES = (50, 50), 0.01, 1e-4, 8, 800

# Mean test RMSE and its standard error, by hidden layers.
PUBLISHED = {
    "concrete": ["5.977 +- 0.221", "5.396 +- 0.127", "5.568 +- 0.131", "5.530 +- 0.139"],
    "energy": ["1.098 +- 0.074", "0.676 +- 0.037", "0.628 +- 0.028", "0.667 +- 0.032"],
    "yacht": ["1.182 +- 0.165", "1.542 +- 0.192", "1.107 +- 0.086", "1.265 +- 0.129"],
}


def test_error(table: data.Table, train: npt.NDArray[np.int64], test: npt.NDArray[np.int64], seed: int) -> float:
    """The RMSE on the test rows, in the target's unit."""
    mean, scale = table.x[train].mean(axis=0), table.x[train].std(axis=0)
    x = (table.x - mean) / np.where(scale > 0, scale, 1)
    centre, spread = table.y[train].mean(), table.y[train].std()
    inputs = bp.Input(x.shape[1])
    node: bp.Node = inputs
    for units in HIDDEN:
        node = bp.Dense(units, "relu", init="he_normal")(node)
    net = bp.Network(inputs, bp.Dense(1, init="glorot_uniform")(node), seed=seed)
    trainer = bp.Trainer(net, "mse", bp.Adam(weight_decay=DECAY))
    trainer.fit(x[train], (table.y[train] - centre) / spread, epochs=PASSES, batch_size=BATCH, schedule=bp.Cosine(LR), progress=False)
    return bp.rmse(table.y[test], trainer.predict(x[test]) * spread + centre)


def report(name: str, root: Path) -> None:
    """Prints the row of a data set."""
    table = data.uci(root, name)
    errors = [test_error(table, train, test, seed) for seed, (train, test) in enumerate(table.splits)]
    ours = f"{np.mean(errors):.3f} +- {np.std(errors, ddof=1) / len(errors) ** 0.5:.3f}"
    best = min(float(published.split()[0]) for published in PUBLISHED[name])
    verdict = "yes" if np.mean(errors) <= best else "no"
    print(f"| {name} | {ours} | {' | '.join(PUBLISHED[name])} | {verdict} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="*", help=f"{', '.join(PUBLISHED)} (default: all)")
    parser.add_argument(
        "--data", type=Path, default=data.DEFAULT_FOLDER, help="folder that contains uci-regression/ (default: %(default)s)"
    )
    arguments = parser.parse_args()
    for name in arguments.sets:
        if name not in PUBLISHED:
            parser.error(f"unknown set {name!r}; valid: {', '.join(PUBLISHED)}")
    print(f"microbp {bp.__version__}\n")
    print("| set | microbp | BP 1 layer | BP 2 | BP 3 | BP 4 | no worse than the best |\n|---|---|---|---|---|---|---|")
    for name in arguments.sets or PUBLISHED:
        report(name, arguments.data)


if __name__ == "__main__":
    main()
