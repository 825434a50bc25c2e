"""Whether a contender does the work: its answers beside a computation in float64."""

from __future__ import annotations

import numpy as np

from contenders.by_numpy import ByNumpy
from contenders.contender import Answers
from contenders.work import NETS, Work

TOLERANCE = 2e-3  # relative to the largest


def expected(net: str) -> Answers:
    """The right answers."""
    work = Work(NETS[net], "float64")
    return ByNumpy(work, 1).answers(work)


def difference(given: Answers, right: Answers) -> str | None:
    """What a contender computes otherwise; None when it does the work."""
    outputs = np.array(right.outputs)
    pairs = {
        "losses of the first steps": (given.losses, right.losses),
        "outputs": (given.outputs, _softmax(outputs) if given.probabilities else outputs),
        "loss of the first epoch": (given.epoch_loss, right.epoch_loss),
    }
    for what, (theirs, ours) in pairs.items():
        a, b = np.array(theirs), np.array(ours)
        if a.shape != b.shape or not np.abs(a - b).max() <= TOLERANCE * np.abs(b).max():
            return f"does other work: its {what} are {_some(a)}, and not {_some(b)}"
    return None


def _softmax(outputs: np.ndarray) -> np.ndarray:
    powers = np.exp(outputs - outputs.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def _some(values: np.ndarray) -> str:
    return ", ".join(f"{value:.6g}" for value in values.ravel()[:4])
