"""UCI regression with second order, beside the training of training/uci.py."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
from training import data
from wide.timing import seconds

import microbp as bp

sys.path.append(str(Path(data.__file__).parent))
uci = importlib.import_module("uci")  # a script, which imports `data`

UNITS, EPOCHS = 15, 50  # chosen by the error on a tenth of the training rows of the first ten splits, and by the time
ADAM = {"energy": "0.490 +- 0.017", "yacht": "0.485 +- 0.033"}  # what ../RESULTS.md has for training/uci.py
OPTIMIZERS: dict[str, Callable[[], bp.Optimizer]] = {"Bayesian regularization": bp.BayesianRegularization}


def test_error(table: data.Table, train: npt.NDArray[np.int64], test: npt.NDArray[np.int64], seed: int, label: str) -> float:
    """The RMSE on the test rows in the target's unit, of one hidden layer of tanh units."""
    mean, scale = table.x[train].mean(axis=0), table.x[train].std(axis=0)
    x = (table.x - mean) / np.where(scale > 0, scale, 1)
    net = bp.mlp([x.shape[1], UNITS, 1], "tanh", dtype="float64", seed=seed)
    trainer = bp.Trainer(net, "mse", OPTIMIZERS[label](), standardize_targets=True)
    trainer.fit(x[train], table.y[train], epochs=EPOCHS, progress=False)
    return bp.rmse(table.y[test], trainer.predict(x[test]))


def compare(root: Path, name: str, label: str, splits: int) -> list[str]:
    """RMSE with its standard error and CPU seconds a split, then those of Adam, of which one split is timed."""
    table = data.uci(root, name)
    errors: list[float] = []

    def all_splits() -> None:
        errors.extend(test_error(table, *rows, seed, label) for seed, rows in enumerate(table.splits[:splits]))

    ours = seconds(all_splits) / splits
    theirs = seconds(uci.test_error, table, *table.splits[0], 0)
    spread = np.std(errors, ddof=1) / splits**0.5 if splits > 1 else 0.0
    return [f"{np.mean(errors):.3f} +- {spread:.3f}", f"{ours:.2f}", ADAM[name], f"{theirs:.2f}", f"{theirs / ours:.1f}"]
