"""Whether a contender does the work: its answers beside a computation in float64."""

from __future__ import annotations

from typing import Any

import numpy as np

from contenders.by_numpy import ByNumpy
from contenders.contender import Answers
from contenders.work import NETS, Work

FORWARD = 1e-3  # tolerance of outputs before training, relative to the largest
# Of losses, and of the way that the outputs moved. Adam's first steps depend on little more than the signs of the gradients, so rounding
# shows in those near zero, as does where a peer adds epsilon.
TRAINED = 0.05


def expected(net: str) -> Answers:
    """The right answers."""
    work = Work(NETS[net], "float64")
    return ByNumpy(work, 1).answers(work)


def difference(given: Answers, right: Answers) -> str | None:
    """What a contender computes otherwise; None when it does the work."""
    before, after = (_softmax(part) if given.probabilities else np.array(part) for part in (right.before, right.after))
    moved = np.abs(after - before).max()
    pairs: dict[str, tuple[Any, Any, float]] = {
        "outputs": (given.before, before, FORWARD * np.abs(before).max()),
        "losses of the first steps": (given.losses, right.losses, TRAINED * max(right.losses)),
        "outputs after some steps": (given.after, after, TRAINED * moved),
        "loss of the first epoch": (given.epoch_loss, right.epoch_loss, TRAINED * right.epoch_loss),
    }
    for what, (theirs, ours, tolerance) in pairs.items():
        a, b = np.array(theirs), np.array(ours)
        if a.shape != b.shape or not np.abs(a - b).max() <= tolerance:
            return f"does other work: its {what} are {_some(a)}, and not {_some(b)}"
    return None


def _softmax(rows: list[list[float]]) -> np.ndarray:
    outputs = np.array(rows)
    powers = np.exp(outputs - outputs.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def _some(values: np.ndarray) -> str:
    return ", ".join(f"{value:.6g}" for value in values.ravel()[:4])
