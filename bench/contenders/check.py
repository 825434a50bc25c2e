"""Checks the results of a contender against a float64 computation."""

from __future__ import annotations

from typing import Any

import numpy as np

from contenders.by_numpy import ByNumpy
from contenders.contender import Results
from contenders.work import NETS, Work

FORWARD = 1e-3  # tolerance of outputs before training, relative to the largest
TRAINED = 0.05  # tolerance of losses, and of the change of the outputs in training
# TRAINED is large because Adam's first steps depend mainly on the signs of the gradients: rounding flips those near zero, and peers add
# epsilon in different places.


def expected(net: str) -> Results:
    """The correct results."""
    work = Work(NETS[net], "float64")
    return ByNumpy(work, 1).results(work)


def difference(given: Results, correct: Results) -> str | None:
    """How a contender's results differ; None if they are correct."""
    before, after = (_softmax(part) if given.probabilities else np.array(part) for part in (correct.before, correct.after))
    moved = np.abs(after - before).max()
    pairs: dict[str, tuple[Any, Any, float]] = {
        "outputs": (given.before, before, FORWARD * np.abs(before).max()),
        "losses of the first steps": (given.losses, correct.losses, TRAINED * max(correct.losses)),
        "outputs after some steps": (given.after, after, TRAINED * moved),
        "losses of the first epoch": (given.epoch_loss, correct.epoch_loss, TRAINED * correct.epoch_loss),
    }
    for what, (theirs, ours, tolerance) in pairs.items():
        a, b = np.array(theirs), np.array(ours)
        if a.shape != b.shape or not np.abs(a - b).max() <= tolerance:
            return f"wrong results: its {what} are {_some(a)}, not {_some(b)}"
    return None


def _softmax(rows: list[list[float]]) -> np.ndarray:
    outputs = np.array(rows)
    powers = np.exp(outputs - outputs.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def _some(values: np.ndarray) -> str:
    return ", ".join(f"{value:.6g}" for value in values.ravel()[:4])
