"""How well a trained network does on each part of the rows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..core.specs import Loss
from ..data.arrays import Array
from ..training.trainer import Trainer
from .preparation import Target
from .split import Data, Part

_KEPT = 10_000  # rows of a target of numbers whose predictions are kept


@dataclass(frozen=True)
class Scores:
    """The measures of each part, and of the test what they come from: which classes were confused, or true and predicted numbers."""

    parts: dict[str, dict[str, Any]]  # numbers by part and measure: loss; accuracy; rmse, in the target's unit; r2, None for one row
    rows: dict[str, int]  # by part
    confusion: Array | None  # (classes, classes): rows of the first axis' class that were predicted as the second axis'
    true: Array  # (rows,), at most 10,000 or so, in the target's unit
    predicted: Array


def measure(trainer: Trainer, data: Data) -> Scores:
    """Measures the trainer's network on all parts."""
    target = data.preparation.target
    tallies = {part: _Tally(trainer, pieces(), data.preparation.outputs) for part, pieces in data.parts.items()}
    test = tallies["test"]
    kept = np.concatenate(test.kept) * target.scale + target.centre
    return Scores(
        parts={part: tally.scores(data.loss, target) for part, tally in tallies.items()},
        rows={part: tally.count for part, tally in tallies.items()},
        confusion=test.confusion if target.classes else None,
        true=kept[:, 0],
        predicted=kept[:, 1],
    )


class _Tally:
    """Sums over the rows of a part, from which its measures come."""

    def __init__(self, trainer: Trainer, pieces: Iterable[Part], outputs: int) -> None:
        self.count = 0
        self.confusion = np.zeros((outputs, outputs), np.int64)
        self.kept: list[Array] = [np.empty((0, 2))]
        self._loss = 0.0
        self._residual = np.zeros(outputs)
        self._sum = np.zeros(outputs)
        self._squares = np.zeros(outputs)
        for piece in pieces:
            self._add(trainer, piece)

    def _add(self, trainer: Trainer, part: Part) -> None:
        outputs = trainer.predict(part.x)
        self._loss += trainer.evaluate(*part) * len(part.x)
        self.count += len(part.x)
        if len(self._sum) > 1:
            labels = part.y if part.y.ndim == 1 else part.y.argmax(axis=1)
            np.add.at(self.confusion, (labels, outputs.argmax(axis=1)), 1)
        if part.y.ndim == 1 and len(self._sum) > 1:
            return
        targets = part.y.reshape(len(part.y), -1)
        self._residual += ((targets - outputs) ** 2).sum(axis=0)
        self._sum += targets.sum(axis=0)
        self._squares += (targets**2).sum(axis=0)
        if len(self._sum) == 1 and sum(map(len, self.kept)) < _KEPT:
            self.kept.append(np.column_stack([targets, outputs]))

    def scores(self, loss: Loss, target: Target) -> dict[str, Any]:
        """Loss and accuracy; under a loss of numbers the root mean squared error, in the target's unit, and r2."""
        if self.count == 0:
            return {}
        scores: dict[str, Any] = {"loss": self._loss / self.count}
        if target.classes:
            scores["accuracy"] = float(np.trace(self.confusion) / self.count)
        if loss.name not in ("cross_entropy", "bce", "hinge"):
            total = self._squares - self._sum**2 / self.count
            explained = np.where(total > 0, 1 - self._residual / np.where(total > 0, total, 1), self._residual == 0)
            scores["rmse"] = float(np.sqrt(self._residual.mean() / self.count) * target.scale)
            scores["r2"] = float(explained.mean()) if self.count > 1 else None  # one row has no variance to explain
        return scores
